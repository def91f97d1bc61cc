//! A consumer in a classic group: it joins, assigns when it leads, heartbeats, and looks for the
//! coordinator again when that is gone.

use kafka_client::api::{Heartbeat, JoinGroup, JoinedGroup, SyncGroup};
use kafka_client::consumer_protocol::{Assignment, CONSUMER_PROTOCOL_TYPE, Subscription};
use kafka_client::{Connection, ErrorCode};
use test_support::eventually_async;

use crate::{coordinator, is_passing};

/// How long a member may be silent, on a machine that may be slow.
const SESSION_MS: i32 = 60_000;
/// How long others wait for a member to join again.
const REBALANCE_MS: i32 = 20_000;

/// A member of a group that reads one topic.
pub(crate) struct Member {
    bootstrap: Vec<String>,
    connection: Connection,
    pub(crate) group: String,
    topic: String,
    partitions: i32,
    pub(crate) instance: Option<String>,
    pub(crate) session_ms: i32,
    pub(crate) id: String,
    pub(crate) generation: i32,
    pub(crate) owned: Vec<i32>,
}

impl Member {
    /// A member that has not joined. Whoever leads knows how many partitions there are.
    pub(crate) async fn new(
        bootstrap: &[String],
        group: &str,
        topic: &str,
        partitions: i32,
    ) -> Member {
        Member {
            bootstrap: bootstrap.to_vec(),
            connection: coordinator(bootstrap, group).await,
            group: group.to_owned(),
            topic: topic.to_owned(),
            partitions,
            instance: None,
            session_ms: SESSION_MS,
            id: String::new(),
            generation: -1,
            owned: Vec::new(),
        }
    }

    /// Joins and gets its assignment, however often it takes.
    pub(crate) async fn join(&mut self) {
        let bootstrap = self.bootstrap.clone();
        eventually_async("a member to join", async || match self.try_join().await {
            Ok(()) => Some(()),
            Err(error) => {
                let again = [
                    ErrorCode::REBALANCE_IN_PROGRESS,
                    ErrorCode::MEMBER_ID_REQUIRED,
                    ErrorCode::ILLEGAL_GENERATION,
                ];
                if error == Some(ErrorCode::UNKNOWN_MEMBER_ID) {
                    self.id = String::new();
                } else if error.is_none_or(is_passing) {
                    self.connection = coordinator(&bootstrap, &self.group).await;
                } else {
                    assert!(error.is_some_and(|it| again.contains(&it)), "{error:?}");
                }
                None
            }
        })
        .await;
    }

    /// `None`: no answer.
    async fn try_join(&mut self) -> Result<(), Option<ErrorCode>> {
        let subscription = Subscription {
            topics: vec![self.topic.clone()],
            owned: Vec::new(),
        };
        let join = JoinGroup {
            group_id: self.group.clone(),
            session_timeout_ms: self.session_ms,
            rebalance_timeout_ms: REBALANCE_MS,
            member_id: self.id.clone(),
            instance_id: self.instance.clone(),
            protocol_type: CONSUMER_PROTOCOL_TYPE.to_owned(),
            protocols: vec![("range".to_owned(), subscription.encode())],
            reason: None,
        };
        let joined = self.connection.join_group(&join).await.map_err(|_| None)?;
        if joined.error == ErrorCode::MEMBER_ID_REQUIRED {
            self.id = joined.member_id;
            return Err(Some(joined.error));
        }
        check(joined.error)?;
        self.id = joined.member_id.clone();
        self.generation = joined.generation;
        let sync = SyncGroup {
            group_id: self.group.clone(),
            generation: joined.generation,
            member_id: joined.member_id.clone(),
            instance_id: self.instance.clone(),
            protocol_type: joined.protocol_type.clone(),
            protocol_name: joined.protocol_name.clone(),
            assignments: self.assign(&joined),
        };
        let synced = self.connection.sync_group(&sync).await.map_err(|_| None)?;
        check(synced.error)?;
        let assignment = Assignment::decode(&synced.assignment).expect("an assignment of ours");
        self.owned = assignment
            .0
            .into_iter()
            .map(|(_, partition)| partition)
            .collect();
        Ok(())
    }

    /// Partitions in turn to the members, by id; nothing for who does not lead.
    fn assign(&self, joined: &JoinedGroup) -> Vec<(String, bytes::Bytes)> {
        if joined.leader != joined.member_id || joined.skip_assignment {
            return Vec::new();
        }
        let members = &joined.members;
        let assignments = members.iter().zip(0..).map(|(member, place)| {
            let owned = (place..self.partitions).step_by(members.len());
            let owned = owned.map(|partition| (self.topic.clone(), partition));
            (
                member.member_id.clone(),
                Assignment(owned.collect()).encode(),
            )
        });
        assignments.collect()
    }

    /// Tells that it lives; says whether the group is as it was for it. Looks for the coordinator
    /// when that is gone.
    pub(crate) async fn beat(&mut self) -> Option<ErrorCode> {
        let heartbeat = Heartbeat {
            group_id: self.group.clone(),
            generation: self.generation,
            member_id: self.id.clone(),
            instance_id: self.instance.clone(),
        };
        let told = self.connection.heartbeat(&heartbeat).await;
        let told = told.ok().filter(|error| !is_passing(*error));
        if told.is_none() {
            self.connection = coordinator(&self.bootstrap, &self.group).await;
        }
        told
    }

    /// Beats, and joins again when it is told to, until `is_so`.
    pub(crate) async fn live_until(&mut self, what: &str, is_so: impl Fn(&Member) -> bool) {
        eventually_async(what, async || {
            match self.beat().await {
                Some(ErrorCode::NONE) | None => {}
                Some(_) => self.join().await,
            }
            is_so(self).then_some(())
        })
        .await;
    }
}

fn check(error: ErrorCode) -> Result<(), Option<ErrorCode>> {
    match error {
        ErrorCode::NONE => Ok(()),
        error => Err(Some(error)),
    }
}
