//! Single partitions move from one shard to another.
//!
//! The leader of the new shard drives a move (`drive.rs`): it makes a log there, fills it from a
//! replica of the old shard, has the old log sealed (`seal.rs`), activates the new one and finishes
//! the move in the catalogue, which is the one commit point. All of it stands in the shards' logs
//! and the catalogue, so whoever leads next goes on where the last one stopped. The leader of the
//! old shard sees to it that nothing stays sealed for long (`guard.rs`).

mod drive;
mod guard;
pub(crate) mod seal;
#[cfg(test)]
mod stuck_test;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use storage::{LogId, PartitionId};
use tokio::task::{Id, JoinSet};

use crate::Broker;
use crate::catalogue::{Catalogue, Move, PartitionEntry};
use drive::Drive;
use guard::Guard;

/// Moves that one node drives at the same time; the others wait for their turn.
const DRIVES_MAX: usize = 4;
/// Time between two looks when nothing is seen to change.
const INTERVAL: Duration = Duration::from_millis(500);

impl Broker {
    /// Serves each partition from the log that the catalogue names. Runs until it is dropped.
    pub(crate) async fn follow_moves_forever(self) {
        let mut images = self.inner.images.clone();
        let mut before = Arc::new(Catalogue::default());
        loop {
            images.borrow_and_update();
            let (image, is_changed) = self.inner.directory.follow(&before);
            before = image;
            if is_changed {
                self.inner.changes.send_modify(|changes| *changes += 1);
            }
            if images.changed().await.is_err() {
                return;
            }
        }
    }

    /// Drives the moves to shards that this node leads, and guards what is sealed in them. Runs
    /// until it is dropped.
    pub(crate) async fn move_forever(self) {
        let mut images = self.inner.images.clone();
        let mut changes = self.inner.changes.subscribe();
        let mut driven: BTreeMap<Id, PartitionId> = BTreeMap::new();
        let mut drives = JoinSet::new();
        let mut last = None;
        let mut guard = Guard::default();
        loop {
            let image = images.borrow_and_update().clone();
            changes.borrow_and_update();
            let mut moves = self.led_moves(&image);
            // Those that cannot go on now do not keep the others from their turn.
            let at = moves.iter().position(|(id, ..)| Some(*id) == last);
            let turn = at.map_or(0, |at| (at + 1) % moves.len());
            moves.rotate_left(turn);
            for (id, entry, moving) in moves {
                if driven.len() < DRIVES_MAX && !driven.values().any(|other| *other == id) {
                    let drive = Drive::new(self.clone(), id, entry, moving);
                    driven.insert(drives.spawn(drive.run()).id(), id);
                    last = Some(id);
                }
            }
            let settling = guard.look(&self, &image).into_iter();
            join_all(settling.map(|(shard, settle)| self.settle_sealed(shard, settle))).await;
            tokio::select! {
                changed = images.changed() => if changed.is_err() { return },
                changed = changes.changed() => if changed.is_err() { return },
                Some(done) = drives.join_next_with_id() => {
                    let task = match done {
                        Ok((task, ())) => task,
                        Err(error) => {
                            tracing::error!(%error, "a move's task failed");
                            error.id()
                        }
                    };
                    driven.remove(&task);
                }
                () = tokio::time::sleep(INTERVAL) => {}
            }
        }
    }

    /// Whether the catalogue names another log of the partition: this one was the partition, and
    /// the directory has not followed yet.
    pub(crate) fn has_moved_on(&self, log: LogId) -> bool {
        let entry = self.inner.images.borrow().entry(log.partition);
        entry.is_some_and(|entry| entry.generation != log.generation)
    }

    /// Moves to shards that this node leads.
    fn led_moves(&self, image: &Catalogue) -> Vec<(PartitionId, PartitionEntry, Move)> {
        let leads = |moving: &Move| {
            let shard = self.data_shard(moving.to);
            shard.is_some_and(|shard| shard.leadership.borrow().serving)
        };
        let moves = image.moves();
        moves.filter(|(_, _, moving)| leads(moving)).collect()
    }
}

/// The log that a move makes, and the one that it takes from.
fn logs(id: PartitionId, entry: PartitionEntry, moving: Move) -> (LogId, LogId) {
    let log = |generation| LogId {
        partition: id,
        generation,
    };
    (log(moving.generation), log(entry.generation))
}
