//! The time for which this node leads a partition's log in one term, and how it is noticed that the
//! time is over.

use std::time::Duration;

use raft::Leadership;
use storage::{LeaderEpoch, LogId, Offset, PartitionId};
use tokio::sync::watch;

use crate::Broker;
use crate::broker::DataShard;
use crate::partition::manifest::Stand;

/// How often it is looked whether the partition is led here when nothing is seen to change.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// A log that this node leads, in one term.
#[derive(Clone)]
pub(super) struct Reign {
    pub(super) log: LogId,
    pub(super) shard: DataShard,
    leadership: Leadership,
    epoch: LeaderEpoch,
}

impl Reign {
    /// Follows who leads.
    pub(super) fn watch(&self) -> watch::Receiver<Leadership> {
        self.shard.leadership.clone()
    }
}

impl Broker {
    /// Waits until this node leads the partition and serves: then its log holds whatever any leader
    /// before has committed. Answers with the end of the log at that time.
    pub(super) async fn next_reign(&self, id: PartitionId) -> (Reign, Offset) {
        let mut changes = self.inner.changes.subscribe();
        loop {
            changes.borrow_and_update();
            if let Some(found) = self.reign(id) {
                return found;
            }
            // The sender lives in the broker.
            let _ = tokio::time::timeout(LOOK_AGAIN, changes.changed()).await;
        }
    }

    fn reign(&self, id: PartitionId) -> Option<(Reign, Offset)> {
        let (partition, shard, leadership) = self.led(id).ok()?;
        if partition.stand != Stand::Serving {
            return None;
        }
        let reign = Reign {
            log: partition.log_id(),
            shard,
            epoch: partition.epoch_in(leadership.term),
            leadership,
        };
        // Looked at after the leadership.
        Some((reign, partition.high_watermark()))
    }

    /// Whether the reign lasts, and nobody else has appended: the log ends here at most. To be
    /// certain of it this must be asked after a read barrier; before it, it is a good guess.
    pub(super) fn still_reigns(&self, reign: &Reign, end: Offset) -> bool {
        let Ok((partition, shard, leadership)) = self.led(reign.log.partition) else {
            return false;
        };
        // A log that is sealed may have gone on in another shard.
        partition.log_id() == reign.log
            && partition.stand == Stand::Serving
            && shard.shard.id() == reign.shard.shard.id()
            && leadership == reign.leadership
            && partition.high_watermark() <= end
            && partition.log.latest_epoch() <= Some(reign.epoch)
    }
}
