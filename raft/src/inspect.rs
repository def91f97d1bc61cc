//! What a shard holds at this moment, for the checks of the simulation: nothing in the product
//! reads it.
//!
//! Looking waits for nothing and changes nothing. Applied entries are only kept when the process
//! has asked for it ([`keep_applied`]), which costs a checksum an entry; else all that is left here
//! is one relaxed load an entry.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use openraft::ServerState;
use openraft::async_runtime::WatchReceiver;
use storage::checksum::Crc32;
use storage::{LogIndex, LogPosition, NodeId, ShardId, Term};

use crate::group::GroupRaft;
use crate::types::{EntryPayload, StoredMembership, node_id, position};
use crate::{Apply, Shard, entry};

/// Applied entries that are kept until somebody takes them; then the oldest go.
const APPLIED_MAX: usize = 65_536;

static KEEPS_APPLIED: AtomicBool = AtomicBool::new(false);

/// From now on shards of this process keep what they apply for [`Shard::take_applied`].
#[doc(hidden)]
pub fn keep_applied() {
    KEEPS_APPLIED.store(true, Ordering::Relaxed);
}

/// Whether shards of this process keep what they apply.
#[doc(hidden)]
#[must_use]
pub fn keeps_applied() -> bool {
    KEEPS_APPLIED.load(Ordering::Relaxed)
}

/// What a replica is at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// It receives the log and does not vote.
    Learner,
    /// It votes and does not lead.
    Follower,
    /// It asks for votes.
    Candidate,
    /// It leads.
    Leader,
    /// It stops.
    Shutdown,
}

/// One replica of a shard as it is. All but what is said to be of now is of one moment: openraft's
/// last report, which it makes after every step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardInspection {
    /// The shard.
    pub shard: ShardId,
    /// Term of the last vote that is durable.
    pub term: Term,
    /// For whom that vote is.
    pub voted_for: NodeId,
    /// Whether a majority is known to have given it: then that node leads the term.
    pub is_vote_committed: bool,
    /// What the replica is.
    pub role: Role,
    /// Who leads, as far as it knows.
    pub leader: Option<NodeId>,
    /// The term in which it answers reads and writes of clients, now; `None`: in none.
    pub serving: Option<Term>,
    /// Last entry applied, now; it may be ahead of `applied`.
    pub applied_now: Option<LogPosition>,
    /// Last entry of its log.
    pub last: Option<LogPosition>,
    /// Last entry that it knows to be committed and has.
    pub committed: Option<LogPosition>,
    /// Last entry that it has heard to be committed; it may not have it yet.
    pub cluster_committed: Option<LogPosition>,
    /// Last entry applied.
    pub applied: Option<LogPosition>,
    /// Last entry held by its checkpoint.
    pub snapshot: Option<LogPosition>,
    /// Last entry dropped from its log.
    pub purged: Option<LogPosition>,
    /// The voters, one set or, while they change, two.
    pub voters: Vec<Vec<NodeId>>,
    /// Those who only receive the log.
    pub learners: Vec<NodeId>,
    /// The entry that made them so, which may not be committed yet.
    pub members_at: Option<LogPosition>,
    /// The voters as of the last members that it knows to be committed.
    pub committed_voters: Vec<Vec<NodeId>>,
    /// The entry that made them so.
    pub committed_members_at: Option<LogPosition>,
    /// Last entry dropped from the journal, now.
    pub journal_floor: Option<LogPosition>,
    /// Last entry in the journal, now; it may not be durable yet.
    pub journal_last: Option<LogPosition>,
    /// Last entry of the journal that is durable, now (in the relaxed modes: written).
    pub journal_durable: Option<LogPosition>,
}

/// An entry that a replica has applied, or the checkpoint that it has taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppliedEntry {
    /// Its place in the shard's log.
    pub position: LogPosition,
    /// CRC-32 of its bytes; `None` for a checkpoint, which holds all entries up to `position`.
    pub entry_crc: Option<u32>,
    /// Digest of the state machine's whole state after it, the same on all replicas; `None` where
    /// the state machine makes none.
    pub state: Option<u64>,
}

/// What was applied and not taken yet.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    kept: Mutex<VecDeque<AppliedEntry>>,
}

impl Applied {
    /// Keeps one more.
    pub(crate) fn push(&self, applied: AppliedEntry) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == APPLIED_MAX {
            kept.pop_front();
        }
        kept.push_back(applied);
    }

    fn take(&self) -> Vec<AppliedEntry> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *kept).into()
    }
}

/// CRC-32 of an entry as it stands in the journal.
pub(crate) fn entry_crc(payload: &EntryPayload) -> u32 {
    let mut crc = Crc32::default();
    let pieces: Vec<Bytes> = entry::encode(payload);
    pieces.iter().for_each(|piece| crc.update(piece));
    crc.finish()
}

/// What openraft says of itself; the rest is filled in by the handle that was asked.
pub(crate) fn look<A: Apply>(raft: &GroupRaft<A>, shard: ShardId) -> ShardInspection {
    // One after the other, and never while openraft reports: both watches are set in one go, on the
    // thread that looks in a simulation.
    let (server, data) = (raft.server_metrics(), raft.data_metrics());
    let (server, data) = (server.borrow_watched(), data.borrow_watched());
    let role = match server.state {
        ServerState::Learner => Role::Learner,
        ServerState::Follower => Role::Follower,
        ServerState::Candidate => Role::Candidate,
        ServerState::Leader => Role::Leader,
        ServerState::Shutdown => Role::Shutdown,
    };
    let (members, committed_members) = (
        &server.membership_config,
        &server.committed_membership_config,
    );
    ShardInspection {
        shard,
        term: Term(server.vote.leader_id().term),
        voted_for: node_id(server.vote.leader_id().voted_for),
        is_vote_committed: server.vote.is_committed(),
        role,
        leader: server.current_leader.map(node_id),
        serving: None,
        applied_now: None,
        last: data.last_log.as_ref().map(position),
        committed: data.local_committed.as_ref().map(position),
        cluster_committed: data.cluster_committed.as_ref().map(position),
        applied: data.last_applied.as_ref().map(position),
        snapshot: data.snapshot.as_ref().map(position),
        purged: data.purged.as_ref().map(position),
        voters: voters(members),
        learners: members.membership().learner_ids().map(node_id).collect(),
        members_at: members.log_id().as_ref().map(position),
        committed_voters: voters(committed_members),
        committed_members_at: committed_members.log_id().as_ref().map(position),
        journal_floor: None,
        journal_last: None,
        journal_durable: None,
    }
}

fn voters(membership: &StoredMembership) -> Vec<Vec<NodeId>> {
    let configs = membership.membership().get_joint_config();
    let ids =
        |config: &std::collections::BTreeSet<u64>| config.iter().copied().map(node_id).collect();
    configs.iter().map(ids).collect()
}

impl<O: Send + Sync + 'static> Shard<O> {
    /// This replica as it is now; `None` once the shard is closed. For the checks of the simulation.
    #[doc(hidden)]
    #[must_use]
    pub fn inspect(&self) -> Option<ShardInspection> {
        let mut seen = self.inner.steer.upgrade()?.inspect(self.inner.id);
        (seen.journal_floor, seen.journal_last) = self.inner.log.ends();
        seen.journal_durable = self.inner.journal.written_end(self.inner.id);
        let leadership = *self.inner.status.leadership.borrow();
        seen.serving = leadership.serving.then_some(leadership.term);
        seen.applied_now = self.inner.status.last_applied();
        Some(seen)
    }

    /// Term of the entry at this index of the journal's log; `None` when there is none. For the
    /// checks of the simulation.
    #[doc(hidden)]
    #[must_use]
    pub fn journal_term(&self, index: LogIndex) -> Option<Term> {
        self.inner.journal.term_of(self.inner.id, index)
    }

    /// What was applied since the last call, the oldest first; nothing unless [`keep_applied`] was
    /// called before. For the checks of the simulation.
    #[doc(hidden)]
    #[must_use]
    pub fn take_applied(&self) -> Vec<AppliedEntry> {
        self.inner.status.applied_entries.take()
    }
}
