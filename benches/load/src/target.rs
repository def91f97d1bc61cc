//! The topic of a run: found or created, its leaders and ends, and removed again.

use std::time::Duration;

use kafka_client::api::{CreateTopic, MetadataTopic, OffsetQuery};
use kafka_client::{ClientError, ConnectOptions, Connection, ErrorCode};
use storage::clock::Clock;

use crate::error::LoadError;
use crate::settings::{Connect, Target};

/// Pause between two looks at something that is not there yet.
const POLL: Duration = Duration::from_millis(20);

/// A topic whose partitions all have leaders.
#[derive(Debug, Clone)]
pub(crate) struct Topic {
    pub(crate) name: String,
    /// Numbers of its partitions, in order.
    pub(crate) partitions: Vec<i32>,
    pub(crate) leaders: Vec<Leader>,
    /// Whether this run has made it.
    pub(crate) created: bool,
}

/// A node, and the positions in [`Topic::partitions`] of those that it leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leader {
    pub(crate) address: String,
    pub(crate) partitions: Vec<usize>,
}

impl Connect {
    pub(crate) fn options(&self) -> ConnectOptions {
        ConnectOptions {
            client_id: "braidlog-bench".to_owned(),
            connect_timeout: self.timeout.min(Duration::from_secs(5)),
            request_timeout: self.timeout,
            ..ConnectOptions::default()
        }
    }

    /// As requests carry it.
    pub(crate) fn timeout_ms(&self) -> i32 {
        i32::try_from(self.timeout.as_millis()).unwrap_or(i32::MAX)
    }

    pub(crate) fn timeout_us(&self) -> i64 {
        i64::try_from(self.timeout.as_micros()).unwrap_or(i64::MAX)
    }

    pub(crate) async fn open(&self, address: &str) -> Result<Connection, ClientError> {
        Connection::connect(address, self.options()).await
    }

    /// A connection to the first node that answers.
    pub(crate) async fn any(&self) -> Result<Connection, ClientError> {
        let mut failure = ClientError::NotSent("no address is given".to_owned());
        for address in &self.bootstrap {
            match self.open(address).await {
                Ok(connection) => return Ok(connection),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }
}

impl Topic {
    /// Finds the topic, or creates it where `create` is set, and waits for its leaders.
    pub(crate) async fn open(
        connect: &Connect,
        target: &Target,
        create: bool,
        clock: &Clock,
    ) -> Result<Topic, LoadError> {
        let node = connect.any().await?;
        let deadline_us = clock.monotonic_us().saturating_add(connect.timeout_us());
        let mut created = false;
        loop {
            let asked = [target.topic.as_str()];
            let metadata = node.metadata(Some(&asked), false).await?;
            let topic = metadata
                .topics
                .into_iter()
                .find(|topic| topic.name == target.topic);
            let topic = topic.ok_or(ClientError::Malformed("no topic"))?;
            // Nodes may learn of a topic a moment after it was created.
            let missing = topic.error == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
            if missing && !created {
                if !create {
                    return Err(LoadError::NoTopic(target.topic.clone()));
                }
                make(connect, target, &node).await?;
                created = true;
                continue;
            }
            let leaderless = topic.partitions.iter().find(|one| one.leader < 0);
            let wanting = missing || topic.partitions.is_empty() || leaderless.is_some();
            if !wanting {
                check_partitions(target, &topic)?;
                let alone = metadata.brokers.len() <= 1;
                let address_of = |leader: i32| {
                    let known = metadata.brokers.iter().find(|node| node.node_id == leader);
                    match alone {
                        // Whatever address it advertises.
                        true => Some(node.address().to_owned()),
                        false => known.map(|node| node.address()),
                    }
                };
                let found = leaders_of(&topic, address_of, created)?;
                // A leader may hear of it a moment after others tell of it.
                match found.offsets(connect, OffsetQuery::LATEST).await {
                    Ok(_) => return Ok(found),
                    Err(ClientError::Refused { code, .. })
                        if code.is_retriable() && clock.monotonic_us() < deadline_us => {}
                    Err(error) => return Err(error.into()),
                }
            }
            if clock.monotonic_us() >= deadline_us {
                topic.error.check()?;
                return Err(LoadError::NoLeader {
                    topic: target.topic.clone(),
                    partition: leaderless.map_or(0, |one| one.index),
                });
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Offsets of this kind ([`OffsetQuery`]), in the order of the partitions.
    pub(crate) async fn offsets(
        &self,
        connect: &Connect,
        timestamp: i64,
    ) -> Result<Vec<i64>, ClientError> {
        let mut offsets = vec![0; self.partitions.len()];
        for leader in &self.leaders {
            let connection = connect.open(&leader.address).await?;
            let queries: Vec<OffsetQuery> = leader
                .partitions
                .iter()
                .map(|at| OffsetQuery {
                    topic: self.name.clone(),
                    partition: self.partitions[*at],
                    current_leader_epoch: -1,
                    timestamp,
                })
                .collect();
            let listed = connection.list_offsets(&queries, false).await?;
            for at in &leader.partitions {
                let number = self.partitions[*at];
                let found = listed.iter().find(|one| one.partition == number);
                let found = found.ok_or(ClientError::Malformed("no result"))?;
                found.error.check()?;
                offsets[*at] = found.offset;
            }
        }
        Ok(offsets)
    }

    /// Removes what this run has made, unless it is to stay.
    pub(crate) async fn clean_up(
        &self,
        connect: &Connect,
        target: &Target,
    ) -> Result<(), ClientError> {
        if !self.created || target.keep {
            return Ok(());
        }
        let node = connect.any().await?;
        let deleted = node
            .delete_topics(&[&self.name], connect.timeout_ms())
            .await?;
        let deleted = deleted.first().ok_or(ClientError::Malformed("no result"))?;
        deleted.error.check_with(deleted.message.clone())
    }
}

async fn make(connect: &Connect, target: &Target, node: &Connection) -> Result<(), ClientError> {
    let topic = CreateTopic {
        partitions: target.partitions.unwrap_or(1),
        replication_factor: target.replicas,
        ..CreateTopic::new(&target.topic)
    };
    let created = node
        .create_topics(&[topic], connect.timeout_ms(), false)
        .await?;
    let created = created.first().ok_or(ClientError::Malformed("no result"))?;
    created.error.check_with(created.message.clone())
}

fn check_partitions(target: &Target, topic: &MetadataTopic) -> Result<(), LoadError> {
    let found = topic.partitions.len();
    match target.partitions {
        Some(asked) if usize::try_from(asked).ok() != Some(found) => {
            Err(LoadError::OtherPartitions {
                topic: target.topic.clone(),
                found,
                asked,
            })
        }
        _ => Ok(()),
    }
}

fn leaders_of(
    topic: &MetadataTopic,
    address_of: impl Fn(i32) -> Option<String>,
    created: bool,
) -> Result<Topic, LoadError> {
    let mut told: Vec<_> = topic.partitions.iter().collect();
    told.sort_by_key(|partition| partition.index);
    let mut leaders: Vec<Leader> = Vec::new();
    for (at, partition) in told.iter().enumerate() {
        let address = address_of(partition.leader).ok_or_else(|| LoadError::NoLeader {
            topic: topic.name.clone(),
            partition: partition.index,
        })?;
        match leaders.iter_mut().find(|one| one.address == address) {
            Some(leader) => leader.partitions.push(at),
            None => leaders.push(Leader {
                address,
                partitions: vec![at],
            }),
        }
    }
    Ok(Topic {
        name: topic.name.clone(),
        partitions: told.iter().map(|partition| partition.index).collect(),
        leaders,
        created,
    })
}
