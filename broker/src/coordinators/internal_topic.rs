//! The topics that coordinators write to: made on first use, not by clients, nor written to or
//! deleted by them. Reading is allowed.

use std::time::Duration;

use storage::{PartitionId, TopicId};

use super::{CoordinatorError, Coordinators, Kind};
use crate::{Broker, BrokerError, NewTopic};

/// Kafka's internal topics, those of kinds that are not here yet among them.
const INTERNAL: [&str; 3] = [
    "__consumer_offsets",
    "__share_group_state",
    "__transaction_state",
];
/// Only the last record of a key counts; segments as small as Kafka's, so that what is read when a
/// node starts stays short.
const CONFIGS: [(&str, &str); 2] = [
    ("cleanup.policy", "compact"),
    ("segment.bytes", "104857600"),
];
/// How long making one may take until whoever needs it is told to try again.
const MAKING_MS_MAX: i64 = 5_000;
/// How long is waited for somebody else who makes it.
const MAKING_MAX: Duration = Duration::from_secs(5);

/// Whether a topic is the brokers' own.
pub(crate) fn is_internal(topic: &str) -> bool {
    INTERNAL.contains(&topic)
}

/// Refuses what clients may not do to an internal topic.
pub(crate) fn refuse_internal(topic: &str) -> Result<(), BrokerError> {
    match is_internal(topic) {
        true => Err(BrokerError::InvalidTopic {
            reason: format!("{topic} is an internal topic"),
        }),
        false => Ok(()),
    }
}

/// An internal topic that exists.
#[derive(Debug, Clone, Copy)]
pub(super) struct InternalTopic {
    pub(super) id: TopicId,
    pub(super) partitions: u32,
}

impl InternalTopic {
    pub(super) fn partition(self, index: u32) -> PartitionId {
        PartitionId {
            topic: self.id,
            index,
        }
    }
}

impl Broker {
    /// The topic of these coordinators, if it exists.
    pub(super) fn internal_topic(&self, name: &str) -> Option<InternalTopic> {
        let catalogue = self.catalogue();
        let topic = catalogue.topics.get(name)?;
        Some(InternalTopic {
            id: topic.id,
            partitions: u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX),
        })
    }

    /// The topic of these coordinators, made if it is missing.
    pub(super) async fn needed_topic<K: Kind>(
        &self,
        all: &Coordinators<K>,
        partitions: i32,
    ) -> Result<InternalTopic, CoordinatorError> {
        if let Some(topic) = self.internal_topic(K::TOPIC) {
            return Ok(topic);
        }
        // Whoever makes it may have to wait for the catalogue; not everybody in a row.
        let making = tokio::time::timeout(MAKING_MAX, all.making.lock()).await;
        let _making = making.map_err(|_| CoordinatorError::NotAvailable)?;
        if self.internal_topic(K::TOPIC).is_none() {
            if self.is_stopping() {
                return Err(CoordinatorError::ShuttingDown);
            }
            match self.make_internal(K::TOPIC, partitions).await {
                Ok(()) => tracing::info!(topic = K::TOPIC, partitions, "made an internal topic"),
                Err(error) => {
                    tracing::warn!(topic = K::TOPIC, %error, "cannot make an internal topic");
                }
            }
        }
        let made = self.internal_topic(K::TOPIC);
        made.ok_or(CoordinatorError::NotAvailable)
    }

    /// Makes an internal topic, compacted; `Ok` also when it exists.
    async fn make_internal(&self, name: &str, partitions: i32) -> Result<(), BrokerError> {
        let config = |key: &str, value: &str| (key.to_owned(), Some(value.to_owned()));
        let topic = NewTopic {
            name: name.to_owned(),
            partitions: Some(partitions),
            configs: CONFIGS.map(|(key, value)| config(key, value)).into(),
            ..NewTopic::default()
        };
        let made = self.create_internal_topic(topic, MAKING_MS_MAX).await;
        match made {
            Ok(_) | Err(BrokerError::TopicExists) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
