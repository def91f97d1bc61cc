//! A handle on one open shard.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use storage::{LogPosition, NodeId, ShardId, Term};
use tokio::sync::watch;

use crate::{CheckpointError, Op, ProposeError};

/// Who leads a shard, as this node knows it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The current term.
    pub term: Term,
    /// The leader of that term, when known.
    pub leader: Option<NodeId>,
    /// Whether this node leads and has applied an entry of its own term: only then does its state
    /// hold everything that was ever acknowledged.
    pub serving: bool,
}

/// How far a shard has come on this node. `None` means "nothing yet".
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Last entry in the log.
    pub last: Option<LogPosition>,
    /// Last entry applied.
    pub applied: Option<LogPosition>,
    /// Last entry held by the checkpoint.
    pub checkpoint: Option<LogPosition>,
    /// Last entry dropped from the journal.
    pub purged: Option<LogPosition>,
}

/// An open shard. Clones share it; operations of one caller keep their order.
#[derive(Debug)]
pub struct Shard<O> {
    inner: Arc<PhantomData<fn() -> O>>,
}

impl<O> Clone for Shard<O> {
    fn clone(&self) -> Shard<O> {
        Shard {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<O: Send + Sync + 'static> Shard<O> {
    /// The shard's number.
    #[must_use]
    pub fn id(&self) -> ShardId {
        todo!()
    }

    /// Waits for room, then queues the operation. The order in which calls return is the order in
    /// the log. Dropping the future before it returns leaves nothing behind; dropping the
    /// [`Pending`] does not take the operation back.
    ///
    /// # Errors
    /// Definite ones only: the operation is not in the log.
    pub async fn submit(&self, op: Op) -> Result<Pending<O>, ProposeError> {
        let _ = op;
        todo!()
    }

    /// As [`Shard::submit`], but answers [`ProposeError::Busy`] instead of waiting.
    ///
    /// # Errors
    /// Definite ones only: the operation is not in the log.
    pub fn try_submit(&self, op: Op) -> Result<Pending<O>, ProposeError> {
        let _ = op;
        todo!()
    }

    /// Queues several operations that stand in one entry and are applied together.
    ///
    /// # Errors
    /// Definite ones only: none of the operations is in the log.
    pub async fn submit_many(&self, ops: Vec<Op>) -> Result<Pending<Vec<O>>, ProposeError> {
        let _ = ops;
        todo!()
    }

    /// Follows who leads.
    #[must_use]
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        todo!()
    }

    /// How far the shard has come.
    #[must_use]
    pub fn progress(&self) -> Progress {
        todo!()
    }

    /// Returns once the state shows everything that was acknowledged before the call: confirms
    /// leadership with a majority and waits until the read point is applied.
    ///
    /// # Errors
    /// `NotLeader`, or the shard is closed.
    pub async fn read_barrier(&self) -> Result<(), ProposeError> {
        todo!()
    }

    /// Makes a checkpoint now and drops the journal below it. Returns the last entry it holds.
    ///
    /// # Errors
    /// The checkpoint before it stands.
    pub async fn checkpoint(&self) -> Result<LogPosition, CheckpointError> {
        todo!()
    }
}

/// The answer to come: the operation's outcome once it is applied.
#[derive(Debug)]
#[must_use = "an operation is acknowledged only once its `Pending` resolves"]
pub struct Pending<O> {
    answer: tokio::sync::oneshot::Receiver<Result<O, ProposeError>>,
}

impl<O> Future for Pending<O> {
    type Output = Result<O, ProposeError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let _ = (self, context);
        todo!()
    }
}
