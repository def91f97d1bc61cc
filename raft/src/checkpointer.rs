//! Makes one shard's checkpoints: when asked, when enough journal was written, once more after a
//! failure, and at the end. One at a time; whoever asks while one is made shares the next. While a
//! follower takes the last one over the next is put off, within limits: making it drops journal
//! that the follower needs afterwards.
//!
//! openraft drives the making (a checkpoint is its snapshot) and purges the journal afterwards;
//! here is only when, and the answer.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use storage::{LogPosition, ShardId};
use tokio::sync::{mpsc, oneshot};

use crate::group::{GroupRaft, REQUESTS_MAX};
use crate::host::Shared;
use crate::shard::CheckpointReply;
use crate::snapshot::Checkpoints;
use crate::status::Status;
use crate::steering::Stagings;
use crate::store::Log;
use crate::{Apply, CheckpointError};

/// Pause before a checkpoint that failed is tried again.
const CHECKPOINT_RETRY: Duration = Duration::from_secs(1);
/// openraft ignores a trigger while it believes a snapshot is being built; then ask again.
const TRIGGER_RETRY: Duration = Duration::from_millis(20);

/// How often a checkpoint that was put off is looked at again.
const HELD_PAUSE: Duration = Duration::from_millis(500);
/// Journal that is kept for followers that take a checkpoint over, in thresholds of a checkpoint.
const HELD_THRESHOLDS_MAX: u64 = 16;

/// Makes the shard's checkpoints.
pub(crate) struct Checkpointer<A: Apply> {
    pub(crate) id: ShardId,
    pub(crate) raft: GroupRaft<A>,
    pub(crate) checkpoints: Arc<Checkpoints>,
    pub(crate) status: Arc<Status>,
    pub(crate) log: Log,
    pub(crate) shared: Arc<Shared>,
    pub(crate) stagings: Arc<Stagings>,
}

impl<A: Apply> Checkpointer<A> {
    /// One at a time, when asked or due; all who ask while one is made share the next.
    pub(crate) async fn run(self, mut requests: mpsc::Receiver<CheckpointReply>) {
        let mut waiting: Vec<CheckpointReply> = Vec::new();
        let (mut retry, mut held) = (false, false);
        loop {
            tokio::select! {
                count = requests.recv_many(&mut waiting, REQUESTS_MAX) => if count == 0 { return },
                () = self.status.checkpoint_due.notified() => {}
                () = tokio::time::sleep(CHECKPOINT_RETRY), if retry => {}
                () = tokio::time::sleep(HELD_PAUSE), if held => {}
            }
            held = waiting.is_empty() && self.is_held();
            if held {
                continue;
            }
            let made = self.make().await;
            retry = matches!(made, Err(CheckpointError::Storage(_)));
            if let Err(error) = &made {
                self.status.checkpoint_failed(self.log.appended_bytes());
                let shard = self.id.0;
                tracing::warn!(shard, %error, "checkpoint failed; the one before it stands");
            }
            for reply in waiting.drain(..) {
                // The caller may have stopped waiting.
                let _ = reply.send(same(&made));
            }
            self.shared.pace();
        }
    }

    /// Whether the journal is kept for a follower.
    fn is_held(&self) -> bool {
        self.stagings.is_active()
            && self.status.overdue(self.log.appended_bytes()) < HELD_THRESHOLDS_MAX
    }

    /// Asks openraft for a snapshot, and returns when it has taken note of it.
    async fn make(&self) -> Result<LogPosition, CheckpointError> {
        let (wanted, mut made) = oneshot::channel();
        self.checkpoints.want(wanted);
        let position = loop {
            if self.checkpoints.is_wanted() {
                self.raft
                    .trigger()
                    .snapshot()
                    .await
                    .map_err(|_| CheckpointError::Closed)?;
            }
            tokio::select! {
                answer = &mut made => break answer.map_err(|_| CheckpointError::Closed)??,
                () = tokio::time::sleep(TRIGGER_RETRY), if self.checkpoints.is_wanted() => {}
            }
        };
        let mut data = self.raft.data_metrics();
        while data.borrow_watched().snapshot.as_ref().map(|id| id.index) < Some(position.index.0) {
            data.changed().await.map_err(|_| CheckpointError::Closed)?;
        }
        Ok(position)
    }
}

/// A copy of a checkpoint's result; an I/O error keeps its kind and its words.
fn same(made: &Result<LogPosition, CheckpointError>) -> Result<LogPosition, CheckpointError> {
    match made {
        Ok(position) => Ok(*position),
        Err(CheckpointError::Empty) => Err(CheckpointError::Empty),
        Err(CheckpointError::Closed) => Err(CheckpointError::Closed),
        Err(CheckpointError::Storage(error)) => Err(CheckpointError::Storage(io::Error::new(
            error.kind(),
            error.to_string(),
        ))),
    }
}
