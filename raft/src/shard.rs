//! A handle on one open shard.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use storage::journal::Journal;
use storage::{LogPosition, NodeId, ShardId, Term};
use tokio::sync::{mpsc, oneshot, watch};

use crate::queue::{Proposal, Queue, Reply};
use crate::snapshot::Checkpoints;
use crate::status::{End, Status};
use crate::steering::{Stagings, Steer};
use crate::store::Log;
use crate::{
    CheckpointError, Members, MembersError, Op, ProposeError, ReplicaProgress, UnknownReason,
};

/// Who leads a shard, as this node knows it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The current term.
    pub term: Term,
    /// The leader of that term, when known.
    pub leader: Option<NodeId>,
    /// Whether this node leads, has applied an entry of its own term, and has heard from a majority
    /// within the longest election time-out: only then does its state hold everything that was ever
    /// acknowledged.
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

/// For so long after the last change [`Shard::settled`] waits for the next one.
const SETTLING_MAX: Duration = Duration::from_millis(150);

/// Who waits for a read barrier.
pub(crate) type BarrierReply = oneshot::Sender<Result<(), ProposeError>>;
/// Who waits for a checkpoint.
pub(crate) type CheckpointReply = oneshot::Sender<Result<LogPosition, CheckpointError>>;

/// An open shard. Clones share it; operations of one caller keep their order.
pub struct Shard<O> {
    pub(crate) inner: Arc<Inner<O>>,
}

pub(crate) struct Inner<O> {
    pub(crate) id: ShardId,
    pub(crate) node: NodeId,
    pub(crate) queue: Arc<Queue<O>>,
    pub(crate) status: Arc<Status>,
    pub(crate) log: Log,
    pub(crate) checkpoints: Arc<Checkpoints>,
    pub(crate) journal: Journal,
    pub(crate) barriers: mpsc::Sender<BarrierReply>,
    pub(crate) checkpoint_requests: mpsc::Sender<CheckpointReply>,
    pub(crate) stagings: Arc<Stagings>,
    pub(crate) steer: Weak<dyn Steer>,
}

impl<O> Clone for Shard<O> {
    fn clone(&self) -> Shard<O> {
        Shard {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<O> fmt::Debug for Shard<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shard")
            .field("id", &self.inner.id)
            .finish_non_exhaustive()
    }
}

impl<O: Send + Sync + 'static> Shard<O> {
    pub(crate) fn new(inner: Inner<O>) -> Shard<O> {
        Shard {
            inner: Arc::new(inner),
        }
    }

    /// The shard's number.
    #[must_use]
    pub fn id(&self) -> ShardId {
        self.inner.id
    }

    /// Waits for room, then queues the operation. The order in which calls return is the order in
    /// the log. Dropping the future before it returns leaves nothing behind; dropping the
    /// [`Pending`] does not take the operation back.
    ///
    /// # Errors
    /// Definite ones only: the operation is not in the log. After a failure of the shard or its
    /// journal the answer is `Unknown`, as for everything then.
    pub async fn submit(&self, op: Op) -> Result<Pending<O>, ProposeError> {
        let (proposal, pending) = self.propose_one(op)?;
        self.inner.queue.push(proposal).await?;
        Ok(pending)
    }

    /// As [`Shard::submit`], but answers [`ProposeError::Busy`] instead of waiting.
    ///
    /// # Errors
    /// As [`Shard::submit`].
    pub fn try_submit(&self, op: Op) -> Result<Pending<O>, ProposeError> {
        let (proposal, pending) = self.propose_one(op)?;
        self.inner.queue.try_push(proposal)?;
        Ok(pending)
    }

    /// Queues several operations that stand in one entry and are applied together.
    ///
    /// # Errors
    /// As [`Shard::submit`], for all of them.
    pub async fn submit_many(&self, ops: Vec<Op>) -> Result<Pending<Vec<O>>, ProposeError> {
        let (waiter, answer) = oneshot::channel();
        let proposal = Proposal::new(ops, |count| Reply::Many(count, waiter))?;
        self.admit(&proposal)?;
        self.inner.queue.push(proposal).await?;
        Ok(Pending { answer })
    }

    fn propose_one(&self, op: Op) -> Result<(Proposal<O>, Pending<O>), ProposeError> {
        let (waiter, answer) = oneshot::channel();
        let proposal = Proposal::new(vec![op], |_| Reply::One(waiter))?;
        self.admit(&proposal)?;
        Ok((proposal, Pending { answer }))
    }

    /// Refuses at once what the log would not take.
    fn admit(&self, proposal: &Proposal<O>) -> Result<(), ProposeError> {
        if let Some(end) = self.inner.status.ended() {
            return Err(end.refused());
        }
        let leader = self.inner.status.leadership.borrow().leader;
        if leader != Some(self.inner.node) {
            return Err(ProposeError::NotLeader { leader });
        }
        if self.inner.status.is_isolated() {
            return Err(ProposeError::NotLeader { leader: None });
        }
        if proposal.has_data() && !self.inner.journal.admits_data() {
            return Err(ProposeError::StorageFull);
        }
        Ok(())
    }

    /// Whether the journal of this node has room for operations that carry data. While it has not they
    /// are refused with [`ProposeError::StorageFull`].
    #[must_use]
    pub fn admits_data(&self) -> bool {
        self.inner.journal.admits_data()
    }

    /// Follows who leads.
    #[must_use]
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.inner.status.leadership.subscribe()
    }

    /// Waits while leadership is on its way from or to this node: until this node serves or another
    /// is known to lead, but for a moment only. Whoever was refused can so be told whom to ask.
    pub async fn settled(&self) {
        let mut leadership = self.inner.status.leadership.subscribe();
        let age = self.inner.status.leadership_age();
        let left = age.and_then(|age| SETTLING_MAX.checked_sub(age));
        let Some(left) = left else { return };
        let me = self.inner.node;
        let is_known = |held: &Leadership| held.serving || held.leader.is_some_and(|it| it != me);
        // When the time is up, or the shard has ended, nobody is known; the caller looks for itself.
        let _ = tokio::time::timeout(left, leadership.wait_for(is_known)).await;
    }

    /// Follows who the shard's replicas are.
    #[must_use]
    pub fn members(&self) -> watch::Receiver<Members> {
        self.inner.status.members.subscribe()
    }

    fn steer(&self) -> Result<Arc<dyn Steer>, MembersError> {
        self.inner.steer.upgrade().ok_or(MembersError::Closed)
    }

    /// What is known of each replica; `None` when this node does not lead.
    #[must_use]
    pub fn replicas(&self) -> Option<BTreeMap<NodeId, ReplicaProgress>> {
        self.steer().ok()?.replicas()
    }

    /// Makes a node receive the log without a vote. Returns when that is committed; the node may be
    /// far behind then, see [`Shard::replicas`]. A node that is a replica already stays what it is.
    ///
    /// # Errors
    /// See [`MembersError`].
    pub async fn add_learner(&self, node: NodeId) -> Result<(), MembersError> {
        self.steer()?.add_learner(node).await
    }

    /// Makes the shard's replicas exactly these; all of them must have been added before. Returns
    /// when that is committed. A leader that is no voter any more steps down soon after.
    ///
    /// # Errors
    /// See [`MembersError`].
    pub async fn change_members(
        &self,
        voters: BTreeSet<NodeId>,
        learners: BTreeSet<NodeId>,
    ) -> Result<(), MembersError> {
        self.steer()?.change_members(voters, learners).await
    }

    /// Hands leadership to another voter. Returns when this node no longer leads.
    ///
    /// # Errors
    /// `TimedOut` when it still leads after a few election time-outs; see [`MembersError`].
    pub async fn transfer_leader(&self, to: NodeId) -> Result<(), MembersError> {
        self.steer()?.transfer_leader(to).await
    }

    /// How far the shard has come.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let (purged, last) = self.inner.log.ends();
        Progress {
            last,
            applied: self.inner.status.last_applied(),
            checkpoint: self.inner.checkpoints.position(),
            purged,
        }
    }

    /// Returns once the state shows everything that was acknowledged before the call: confirms
    /// leadership with a majority and waits until the read point is applied.
    ///
    /// # Errors
    /// `NotLeader`, or the shard is closed.
    pub async fn read_barrier(&self) -> Result<(), ProposeError> {
        if let Some(end) = self.inner.status.ended() {
            return Err(end.refused());
        }
        let (reply, answer) = oneshot::channel();
        let ended = || self.inner.status.ended().unwrap_or(End::Closed).refused();
        self.inner.barriers.send(reply).await.map_err(|_| ended())?;
        answer.await.unwrap_or_else(|_| Err(ended()))
    }

    /// Whether a follower takes this node's checkpoint over, and needs the journal behind it: a
    /// checkpoint that can wait should.
    #[must_use]
    pub fn has_followers_staging(&self) -> bool {
        self.inner.stagings.is_active()
    }

    /// Makes a checkpoint now and drops the journal below it. Returns the last entry it holds.
    ///
    /// # Errors
    /// The checkpoint before it stands.
    pub async fn checkpoint(&self) -> Result<LogPosition, CheckpointError> {
        if self.inner.status.ended().is_some() {
            return Err(CheckpointError::Closed);
        }
        let (reply, answer) = oneshot::channel();
        let sent = self.inner.checkpoint_requests.send(reply).await;
        sent.map_err(|_| CheckpointError::Closed)?;
        answer.await.unwrap_or(Err(CheckpointError::Closed))
    }
}

/// The answer to come: the operation's outcome once it is applied.
#[derive(Debug)]
#[must_use = "an operation is acknowledged only once its `Pending` resolves"]
pub struct Pending<O> {
    answer: oneshot::Receiver<Result<O, ProposeError>>,
}

impl<O> Future for Pending<O> {
    type Output = Result<O, ProposeError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(Pin::new(&mut self.answer).poll(context));
        // Every proposal is answered before it is dropped, unless its task panicked.
        let lost = ProposeError::Unknown {
            reason: UnknownReason::ShardFailed,
        };
        Poll::Ready(answer.unwrap_or(Err(lost)))
    }
}
