//! What is sealed for a move that does not go on is opened again.
//!
//! The leader of the old shard cancels a move when its log has been sealed for a while, and takes
//! appends again once its catalogue shows that the move is gone. Generations only rise, so a picture
//! that says so is right however old it is: the move is never finished after it.

use std::collections::BTreeMap;
use std::time::Duration;

use storage::{LogId, ShardId};

use crate::catalogue::Catalogue;
use crate::catalogue::command::Command;
use crate::partition::manifest::Stand;
use crate::partition::op::PartitionOp;
use crate::{Broker, BrokerError};

/// How long a partition may be closed because of a move.
const SEALED_MS_MAX: i64 = 5_000;
/// How long one step may take; it is tried again.
const STEP_MAX: Duration = Duration::from_secs(2);

/// What is to do about one sealed log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Settle {
    /// Give the move up.
    Cancel(Command),
    /// The move was given up.
    Unseal(PartitionOp),
}

/// Since when the leader has seen each log sealed, and by which move.
#[derive(Debug, Default)]
pub(super) struct Guard {
    since_ms: BTreeMap<LogId, (u32, i64)>,
}

impl Guard {
    /// What is to do about the logs that are sealed in shards that this node leads.
    pub(super) fn look(&mut self, broker: &Broker, image: &Catalogue) -> Vec<(ShardId, Settle)> {
        let leads = |shard: ShardId| {
            let shard = broker.data_shard(shard);
            shard.is_some_and(|shard| shard.leadership.borrow().serving)
        };
        let mut sealed = Vec::new();
        for partition in broker.inner.directory.moving() {
            if let (Stand::Sealed(by), true) = (partition.stand, leads(partition.shard)) {
                sealed.push((partition.shard, partition.log_id(), by));
            }
        }
        self.decide(&sealed, image, broker.clock().monotonic_ms())
    }

    fn decide(
        &mut self,
        sealed: &[(ShardId, LogId, u32)],
        image: &Catalogue,
        now_ms: i64,
    ) -> Vec<(ShardId, Settle)> {
        self.since_ms.retain(|log, (by, _)| {
            let mut sealed = sealed.iter();
            sealed.any(|(_, other, other_by)| (other, other_by) == (log, &*by))
        });
        let mut settle = Vec::new();
        for (shard, log, by) in sealed {
            let partition = log.partition;
            let Some(entry) = image.entry(partition) else {
                continue;
            };
            if entry.is_past(log.generation) {
                // It has moved; what is left here is dropped.
                continue;
            }
            if entry.is_past(*by) {
                let by = *by;
                settle.push((
                    *shard,
                    Settle::Unseal(PartitionOp::Unseal { partition, by }),
                ));
                continue;
            }
            let (_, since_ms) = self.since_ms.entry(*log).or_insert((*by, now_ms));
            if now_ms.saturating_sub(*since_ms) > SEALED_MS_MAX {
                let generation = *by;
                let command = Command::CancelMove {
                    partition,
                    generation,
                };
                settle.push((*shard, Settle::Cancel(command)));
            }
        }
        settle
    }
}

impl Broker {
    pub(super) async fn settle_sealed(&self, shard: ShardId, settle: Settle) {
        let settling = async {
            match settle {
                Settle::Cancel(command) => {
                    tracing::warn!(%shard, ?command,
                        "a move does not go on: the partition takes records again where it was");
                    self.change_catalogue(&command).await.map(|_| ())
                }
                Settle::Unseal(op) => {
                    let shard = self.data_shard(shard);
                    let shard = shard.ok_or(BrokerError::LeaderNotAvailable)?;
                    let done = async { shard.shard.submit(op.encode()).await?.await };
                    let done = done.await.map_err(|error| crate::broker::refused(&error));
                    done.map(|_| ())
                }
            }
        };
        match tokio::time::timeout(STEP_MAX, settling).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::info!(%shard, %error, "a sealed partition has to wait"),
            Err(_) => tracing::info!(%shard, "a sealed partition has to wait"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use storage::{PartitionId, TopicId};

    use super::*;
    use crate::TopicConfig;
    use crate::catalogue::{Move, PartitionEntry, Topic};

    const ID: PartitionId = PartitionId {
        topic: TopicId([3; 16]),
        index: 0,
    };

    fn image(entry: PartitionEntry) -> Catalogue {
        let topic = Topic {
            name: "t".to_owned(),
            id: ID.topic,
            partitions: vec![entry],
            config: Arc::new(TopicConfig::default()),
            internal: false,
        };
        Catalogue {
            names: [(topic.id, topic.name.clone())].into(),
            topics: [(topic.name.clone(), Arc::new(topic))].into(),
            ..Catalogue::default()
        }
    }

    fn entry(generation: u32, last_generation: u32, moving: Option<u32>) -> PartitionEntry {
        PartitionEntry {
            generation,
            last_generation,
            moving: moving.map(|generation| Move {
                to: ShardId(2),
                generation,
            }),
            ..PartitionEntry::new(ShardId(1))
        }
    }

    fn sealed(by: u32) -> (ShardId, LogId, u32) {
        (ShardId(1), ID.into(), by)
    }

    #[test]
    fn a_move_that_does_not_go_on_is_cancelled_and_then_unsealed() {
        let mut guard = Guard::default();
        let going = image(entry(0, 1, Some(1)));
        assert_eq!(guard.decide(&[sealed(1)], &going, 0), []);
        assert_eq!(guard.decide(&[sealed(1)], &going, SEALED_MS_MAX), []);
        let cancel = Settle::Cancel(Command::CancelMove {
            partition: ID,
            generation: 1,
        });
        let late = SEALED_MS_MAX + 1;
        assert_eq!(
            guard.decide(&[sealed(1)], &going, late),
            [(ShardId(1), cancel)]
        );
        let unseal = Settle::Unseal(PartitionOp::Unseal {
            partition: ID,
            by: 1,
        });
        let cancelled = image(entry(0, 1, None));
        let settle = guard.decide(&[sealed(1)], &cancelled, late);
        assert_eq!(settle, [(ShardId(1), unseal.clone())]);
        let next = image(entry(0, 2, Some(2)));
        assert_eq!(
            guard.decide(&[sealed(1)], &next, late),
            [(ShardId(1), unseal)]
        );
    }

    #[test]
    fn nothing_is_unsealed_by_a_picture_that_knows_less_than_the_seal() {
        let mut guard = Guard::default();
        let older = image(entry(0, 0, None));
        for now_ms in [0, SEALED_MS_MAX] {
            assert_eq!(guard.decide(&[sealed(1)], &older, now_ms), []);
        }
        assert_eq!(
            guard.decide(&[sealed(1)], &Catalogue::default(), i64::MAX),
            []
        );
        let moved = image(entry(1, 1, None));
        assert_eq!(guard.decide(&[sealed(1)], &moved, i64::MAX), []);
    }

    #[test]
    fn each_seal_has_its_own_time() {
        let mut guard = Guard::default();
        let going = |by| image(entry(0, by, Some(by)));
        assert_eq!(guard.decide(&[sealed(1)], &going(1), 0), []);
        assert_eq!(guard.decide(&[sealed(2)], &going(2), SEALED_MS_MAX + 1), []);
        assert_eq!(guard.decide(&[], &going(2), SEALED_MS_MAX + 2), []);
        assert_eq!(guard.decide(&[sealed(2)], &going(2), 3 * SEALED_MS_MAX), []);
    }
}
