//! One shard running on the host's thread: opens it, keeps its tasks, closes it.
//!
//! The tasks beside openraft's own: the batcher; one that follows leadership, members and the
//! shard's end; one that confirms read points, many callers at a time; one that makes checkpoints,
//! one at a time. All of them belong to the [`Group`] and end with it.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use openraft::error::{Fatal, InitializeError, LinearizableReadError, RaftError};
use openraft::network::{NetSnapshot, RaftNetworkFactory};
use openraft::{Config, Raft, ReadPolicy, SnapshotPolicy};
use storage::bugs::{self, Bug};
use storage::disk::Disk;
use storage::journal::{Journal, JournalError, ShardLog};
use storage::{LogPosition, NodeId, ShardId};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::batcher::Batcher;
use crate::checkpointer::Checkpointer;
use crate::election::Election;
use crate::follow::Follow;
use crate::host::Shared;
use crate::machine::Machine;
use crate::peer::Attachment;
use crate::queue::Queue;
use crate::shard::{BarrierReply, CheckpointReply, Inner};
use crate::snapshot::{Checkpoints, Manifest};
use crate::status::{End, Status};
use crate::steering::{Stagings, Steer, Steering};
use crate::store::{CacheLimits, Log};
use crate::tombstone::{Floor, Recall, Tombstone};
use crate::types::{Types, journal_io, node_id};
use crate::{Apply, OpenError, ProposeError, Shard, entry};

/// Callers that may wait for a read point or a checkpoint before the next one waits to ask.
pub(crate) const REQUESTS_MAX: usize = 1_024;
/// Entries found at open that are kept to be applied, as many as a checkpoint leaves behind.
const OPEN_CACHE_BYTES: usize = 64 << 20;
/// How long a closing shard waits for its entries in flight.
const DRAIN_MAX: Duration = Duration::from_secs(5);
/// How long a closing leader waits for another to take its place.
const HAND_OVER_MAX: Duration = Duration::from_millis(500);
/// How often a replica that was forgotten looks whether its log has come past its old end.
const RECALL_PAUSE: Duration = Duration::from_millis(250);
/// How long a closed shard waits for its state machine to go. It is at most installing a checkpoint.
const MACHINE_MAX: Duration = Duration::from_secs(10);

pub(crate) type GroupRaft<A> = Raft<Types, Machine<A>>;

/// How a shard is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CloseMode {
    /// What is in flight lands, and a last checkpoint is made.
    Orderly,
    /// Its data is to be deleted: nothing is waited for or kept.
    Abrupt,
}

/// What a shard's transport may look at.
pub(crate) struct Parts {
    pub(crate) checkpoints: Arc<Checkpoints>,
    pub(crate) status: Arc<Status>,
    /// How far followers have come with the checkpoints sent to them.
    pub(crate) stagings: Arc<Stagings>,
    /// What this node forgot of the shard.
    pub(crate) recall: Recall,
}

/// A shard's way to its other replicas, and theirs to it.
pub(crate) trait Wire<A: Apply>: Send + 'static {
    type Network: RaftNetworkFactory<Types, Network: NetSnapshot<Types, SnapshotData = Manifest>>;

    /// The way out.
    fn network(&mut self, parts: &Parts) -> Self::Network;

    /// Opens the way in; it is closed when what is returned is dropped. Called before anything is
    /// sent to peers.
    fn attach(self, parts: &Parts, raft: GroupRaft<A>) -> Option<Attachment>;
}

/// An open shard and its tasks.
pub(crate) struct Group<A: Apply> {
    raft: GroupRaft<A>,
    queue: Arc<Queue<A::Outcome>>,
    status: Arc<Status>,
    log: Log,
    id: ShardId,
    shared: Arc<Shared>,
    checkpoint_requests: mpsc::Sender<CheckpointReply>,
    /// What handles steer the shard by; they hold it weakly.
    steering: Arc<Steering<A>>,
    recall: Recall,
    checkpoints: Arc<Checkpoints>,
    attachment: Option<Attachment>,
    tasks: JoinSet<()>,
}

/// Opens a shard: reads checkpoint and log, replays, starts the tasks. A shard of which the disk
/// knows nothing is begun with `founders` as its voters, when this node is one of them. Where this
/// node is the only voter it campaigns at once, and serves on return.
pub(crate) async fn open<A, W>(
    shared: &Arc<Shared>,
    id: ShardId,
    machine: A,
    mut wire: W,
    founders: Option<BTreeSet<NodeId>>,
) -> Result<(Group<A>, Shard<A::Outcome>), OpenError>
where
    A: Apply,
    W: Wire<A>,
{
    let me = u64::from(shared.config.node.0);
    let (checkpoints, recall) = read_disk(shared, id).await?;
    let log = recall.log.clone();
    let status = Arc::new(Status::new(shared.config.checkpoint_journal_bytes));
    shared.enlist(&status, &log);

    let machine = Machine::open(
        machine,
        log.clone(),
        Arc::clone(&checkpoints),
        Arc::clone(&status),
    )
    .map_err(|source| OpenError::Install { shard: id, source })?;
    let config = raft_config(shared, id).map_err(|source| OpenError::Log { shard: id, source })?;
    let fatal = |error: Fatal<Types>| OpenError::Log {
        shard: id,
        source: io::Error::other(error),
    };
    let parts = Parts {
        checkpoints: Arc::clone(&checkpoints),
        status: Arc::clone(&status),
        stagings: Arc::default(),
        recall: recall.clone(),
    };
    let network = wire.network(&parts);
    let raft = GroupRaft::new(me, config, network, log.clone(), machine)
        .await
        .map_err(fatal)?;

    let mut tasks = JoinSet::new();
    if !recall.is_overtaken() {
        raft.runtime_config().elect(false);
        tasks.spawn(elect_later(
            raft.clone(),
            recall.clone(),
            Arc::clone(&status),
        ));
    }
    let attachment = wire.attach(&parts, raft.clone());
    let queue = Arc::new(Queue::new(
        shared.config.pending_bytes_max,
        shared.config.entry_bytes_max,
        shared.config.entries_in_flight_max,
    ));
    let batcher = Batcher {
        queue: Arc::clone(&queue),
        raft: raft.clone(),
        status: Arc::clone(&status),
        journal: shared.journal.clone(),
        clock: shared.clock.clone(),
    };
    tasks.spawn(batcher.run());
    let follow = Follow {
        id,
        raft: raft.clone(),
        queue: Arc::clone(&queue),
        status: Arc::clone(&status),
        shared: Arc::clone(shared),
    };
    tasks.spawn(follow.run());
    let (barriers, barrier_requests) = mpsc::channel(REQUESTS_MAX);
    tasks.spawn(confirm_reads(
        raft.clone(),
        Arc::clone(&status),
        barrier_requests,
    ));
    let election = Election {
        id,
        raft: raft.clone(),
        status: Arc::clone(&status),
        log: log.clone(),
        recall: recall.clone(),
        me: shared.config.node,
        peers: shared.peers.clone(),
    };
    tasks.spawn(election.run());
    let checkpointer = Checkpointer {
        id,
        stagings: Arc::clone(&parts.stagings),
        raft: raft.clone(),
        checkpoints: Arc::clone(&checkpoints),
        status: Arc::clone(&status),
        log: log.clone(),
        shared: Arc::clone(shared),
    };
    let (checkpoint_requests, requests) = mpsc::channel(REQUESTS_MAX);
    tasks.spawn(checkpointer.run(requests));

    let steering = Arc::new(Steering {
        raft: raft.clone(),
        status: Arc::clone(&status),
        me: shared.config.node,
        stagings: Arc::clone(&parts.stagings),
    });
    let group = Group {
        raft,
        queue: Arc::clone(&queue),
        status: Arc::clone(&status),
        log: log.clone(),
        id,
        shared: Arc::clone(shared),
        checkpoint_requests: checkpoint_requests.clone(),
        steering,
        recall,
        checkpoints: Arc::clone(&checkpoints),
        attachment,
        tasks,
    };
    if let Err(error) = group.start(founders).await {
        group.close(CloseMode::Orderly).await;
        return Err(error);
    }
    let steer: Weak<dyn Steer> = Arc::<Steering<A>>::downgrade(&group.steering);
    let shard = Shard::new(Inner {
        id,
        node: shared.config.node,
        queue,
        status,
        log,
        checkpoints,
        journal: shared.journal.clone(),
        barriers,
        checkpoint_requests,
        stagings: parts.stagings,
        steer,
    });
    Ok((group, shard))
}

/// Deletes all that the disk holds of a closed shard but a tombstone: first what makes it a replica,
/// then its checkpoint, which [`read_disk`] takes for nothing without the former.
pub(crate) async fn destroy(shared: &Arc<Shared>, id: ShardId) -> io::Result<()> {
    let known = shared.journal.shard_log(id);
    let (synced, durable) = oneshot::channel();
    let tell = Box::new(move |result| {
        // The caller may have stopped waiting.
        let _ = synced.send(result);
    });
    if known != ShardLog::default() {
        let at = Arc::clone(shared);
        net::blocking(move || bury(&at, id, &known))
            .await
            .map_err(io::Error::other)??;
        shared.journal.remove_shard(id, tell).map_err(journal_io)?;
        durable
            .await
            .map_err(|_| io::Error::other("the journal closed"))?
            .map_err(journal_io)?;
    }
    let from = Arc::clone(shared);
    net::blocking(move || remove_checkpoint(&from, id))
        .await
        .map_err(io::Error::other)?
}

fn tombstone_path(shared: &Shared, id: ShardId) -> PathBuf {
    shared.config.checkpoint_dir.join(format!("{id}.tombstone"))
}

/// Writes the tombstone of a replica that is about to be forgotten. Blocks.
fn bury(shared: &Shared, id: ShardId, known: &ShardLog) -> io::Result<()> {
    let path = tombstone_path(shared, id);
    let before = Tombstone::read(&shared.disk, &path)?;
    Tombstone::new(known, before)?.write(&shared.disk, &path)
}

/// Makes a replica that knows nothing of a shard, but for a tombstone, remember at least this; one
/// that has been opened since it was told remembers more. Blocks.
pub(crate) fn raise_floor(shared: &Shared, id: ShardId, floor: Floor) -> io::Result<()> {
    if shared.journal.shard_log(id) != ShardLog::default() {
        return Ok(());
    }
    let path = tombstone_path(shared, id);
    let before = Tombstone::read(&shared.disk, &path)?;
    Tombstone::raised(before, floor).write(&shared.disk, &path)
}

/// What the tombstone says, when there is one that still matters; its vote is taken up again. Blocks.
fn remember(
    shared: &Shared,
    id: ShardId,
    checkpoint: Option<LogPosition>,
) -> io::Result<Option<LogPosition>> {
    let path = tombstone_path(shared, id);
    let Some(Tombstone { vote, last }) = Tombstone::read(&shared.disk, &path)? else {
        return Ok(None);
    };
    if checkpoint.is_some() && checkpoint >= last {
        // Whatever happens now, the log never ends before that again.
        shared.disk.remove_file(&path)?;
        shared.disk.sync_dir(&shared.config.checkpoint_dir)?;
        return Ok(None);
    }
    if let (Some(vote), None) = (vote, shared.journal.shard_log(id).vote) {
        // Before anything that this run writes; lost in a crash it is done again.
        let written = shared
            .journal
            .save_vote(id, entry::encode_vote(&vote), Box::new(|_| ()));
        written.map_err(journal_io)?;
    }
    Ok(last)
}

/// Lets a replica campaign once its log has come past what it forgot.
async fn elect_later<A: Apply>(raft: GroupRaft<A>, recall: Recall, status: Arc<Status>) {
    let mut applied = status.applied_index();
    while !recall.is_overtaken() {
        tokio::select! {
            // The sender lives in `status`, which is held here.
            _ = applied.changed() => {}
            // What was appended and cannot be committed without this node counts too.
            () = tokio::time::sleep(RECALL_PAUSE) => {}
        }
    }
    raft.runtime_config().elect(true);
}

fn checkpoint_path(shared: &Shared, id: ShardId) -> PathBuf {
    shared
        .config
        .checkpoint_dir
        .join(format!("{id}.checkpoint"))
}

/// Blocks.
fn remove_checkpoint(shared: &Shared, id: ShardId) -> io::Result<()> {
    let path = checkpoint_path(shared, id);
    if shared.disk.exists(&path)? {
        shared.disk.remove_file(&path)?;
        shared.disk.sync_dir(&shared.config.checkpoint_dir)?;
    }
    Ok(())
}

/// The shard's checkpoint and log, checked against each other, and what was forgotten of it.
async fn read_disk(
    shared: &Arc<Shared>,
    id: ShardId,
) -> Result<(Arc<Checkpoints>, Recall), OpenError> {
    let from = Arc::clone(shared);
    let read = net::blocking(move || {
        let unreadable = |source| OpenError::Checkpoint { shard: id, source };
        if from.journal.shard_log(id) == ShardLog::default() {
            // A replica always has a vote or entries: this one was being forgotten.
            remove_checkpoint(&from, id).map_err(unreadable)?;
        }
        let checkpoints =
            Checkpoints::open(from.disk.clone(), checkpoint_path(&from, id)).map_err(unreadable)?;
        if let Some(checkpoint) = checkpoints.position() {
            drop_conflicting(&from.journal, id, checkpoint).map_err(|error| OpenError::Log {
                shard: id,
                source: journal_io(error),
            })?;
        }
        let forgotten = remember(&from, id, checkpoints.position()).map_err(unreadable)?;
        let log = Log::open(
            from.journal.clone(),
            id,
            CacheLimits {
                open_bytes: OPEN_CACHE_BYTES,
                bytes_max: from.config.entry_cache_bytes_max,
            },
            Arc::clone(&from.node_bytes),
        )
        .map_err(|source| OpenError::Log { shard: id, source })?;
        check_reach(id, log.ends().0, checkpoints.position())?;
        let recall = Recall {
            last: forgotten,
            log,
        };
        Ok((Arc::new(checkpoints), recall))
    });
    read.await.unwrap_or_else(|error| {
        Err(OpenError::Log {
            shard: id,
            source: io::Error::other(error),
        })
    })
}

/// The journal must not begin above the checkpoint.
fn check_reach(
    shard: ShardId,
    floor: Option<LogPosition>,
    checkpoint: Option<LogPosition>,
) -> Result<(), OpenError> {
    match floor {
        Some(floor) if checkpoint.is_none_or(|held| held.index < floor.index) => {
            Err(OpenError::MissingEntries {
                shard,
                floor,
                checkpoint,
            })
        }
        _ => Ok(()),
    }
}

/// Reads the checkpoints of all shards that the journal knows, in `dir`, and says whether one is
/// damaged or missing. Changes nothing. Blocks.
///
/// # Errors
/// The first that cannot be used; see [`OpenError::is_damage`].
pub fn check_checkpoints(journal: &Journal, disk: &Disk, dir: &Path) -> Result<(), OpenError> {
    for shard in journal.shards() {
        let log = journal.shard_log(shard);
        if log == ShardLog::default() {
            continue;
        }
        let path = dir.join(format!("{shard}.checkpoint"));
        let held = Checkpoints::open(disk.clone(), path)
            .map_err(|source| OpenError::Checkpoint { shard, source })?;
        check_reach(shard, log.floor, held.position())?;
    }
    Ok(())
}

/// Drops a log that says otherwise than the checkpoint. A checkpoint that a leader sent is saved
/// beside the journal, so power may go when the truncation before it is not yet in there. What is
/// dropped was never committed, for a checkpoint holds nothing else.
fn drop_conflicting(
    journal: &Journal,
    id: ShardId,
    checkpoint: LogPosition,
) -> Result<(), JournalError> {
    let known = journal.shard_log(id);
    let reaches = known
        .last
        .is_some_and(|last| last.index >= checkpoint.index);
    let is_purged = known
        .floor
        .is_some_and(|floor| floor.index >= checkpoint.index);
    let held = journal.term_of(id, checkpoint.index);
    if !reaches || is_purged || held == Some(checkpoint.term) {
        return Ok(());
    }
    tracing::warn!(
        shard = id.0,
        at = %checkpoint,
        last = ?known.last,
        "dropping entries that conflict with the shard's checkpoint"
    );
    // Lost in a crash it is done again.
    journal.purge(id, checkpoint, Box::new(|_| ()))
}

/// Ticks begin with the second member: nobody needs the heartbeats of a shard of one, and idle it
/// costs nothing.
fn raft_config(shared: &Shared, id: ShardId) -> io::Result<Arc<Config>> {
    let config = Config {
        cluster_name: format!("shard-{id}"),
        heartbeat_interval: shared.config.heartbeat_ms,
        election_timeout_min: shared.config.election_ms_min,
        election_timeout_max: shared.config.election_ms_max,
        max_payload_entries: 1_024,
        snapshot_policy: SnapshotPolicy::Never,
        // A checkpoint alone lets the journal go up to its position.
        max_in_snapshot_log_to_keep: 0,
        enable_tick: false,
        enable_pre_vote: Some(true),
        // A leader that restarts in its old term may have lost its tail: two entries under one id.
        enable_leader_restore: Some(bugs::is_on(Bug::LeaderRestored)),
        // A follower whose disk lied about a sync has less than it once confirmed. That is no fault
        // of the leader's, which must not fail of it: it sends what is missing again.
        allow_log_reversion: Some(true),
        ..Config::default()
    };
    config.validate().map(Arc::new).map_err(io::Error::other)
}

impl<A: Apply> Group<A> {
    async fn start(&self, founders: Option<BTreeSet<NodeId>>) -> Result<(), OpenError> {
        let shard = self.id;
        let failed = |error: &dyn std::fmt::Display| OpenError::Log {
            shard,
            source: io::Error::other(error.to_string()),
        };
        // What was forgotten is never begun again.
        let founders = founders
            .filter(|founders| founders.contains(&self.shared.config.node))
            .filter(|_| self.recall.last.is_none());
        let known = self.raft.is_initialized().await;
        if let (Some(founders), false) = (founders, known.map_err(|error| failed(&error))?) {
            let voters: BTreeSet<u64> = founders.iter().map(|node| u64::from(node.0)).collect();
            let campaigns = voters.first() == Some(&u64::from(self.shared.config.node.0));
            match self.raft.initialize(voters).await {
                // Nobody has led it: no lease is worth waiting for. Lost, should the others not be
                // there yet; then the time-outs see to it.
                Ok(()) if campaigns => {
                    let campaign = self.raft.trigger().elect(false).await;
                    campaign.map_err(|error| failed(&error))?;
                }
                // A peer that was first has asked for a vote meanwhile: the members are the same.
                Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => {}
                Err(error) => return Err(failed(&error)),
            }
        }
        let me = u64::from(self.shared.config.node.0);
        let (is_only_voter, committed) = self
            .raft
            .with_raft_state(move |state| {
                let membership = state.membership_state.effective();
                let mut voters = membership.membership().voter_ids();
                let is_only_voter = voters.next() == Some(me) && voters.next().is_none();
                (is_only_voter, state.local_committed().map(|id| id.index))
            })
            .await
            .map_err(|error| failed(&error))?;
        let mut ended = self.status.watch_end();
        let ready = async {
            if is_only_voter && self.recall.is_overtaken() {
                let campaign = self.raft.trigger().elect(false).await;
                campaign.map_err(|error| failed(&error))?;
                let mut leadership = self.status.leadership.subscribe();
                let serving = leadership.wait_for(|leadership| leadership.serving).await;
                return serving.map(|_| ()).map_err(|_| OpenError::Failed { shard });
            }
            let mut applied = self.status.applied_index();
            let replayed = applied
                .wait_for(|applied| applied.map(|index| index.0) >= committed)
                .await;
            replayed
                .map(|_| ())
                .map_err(|_| OpenError::Failed { shard })
        };
        tokio::select! {
            ready = ready => ready,
            _ = ended.wait_for(Option::is_some) => Err(OpenError::Failed { shard }),
        }
    }

    /// In order: refuses what waits, lets what is in flight land, makes a last checkpoint. Either
    /// way stops openraft and the tasks, and returns when nothing of the shard touches its files.
    pub(crate) async fn close(mut self, mode: CloseMode) {
        self.status.end(End::Closed);
        self.queue.close(End::Closed);
        let is_well = self.status.ended() == Some(End::Closed) && !self.log.journal_failed();
        if is_well && mode == CloseMode::Orderly {
            // What has not landed by then is answered `Unknown` when openraft drops it.
            let _ = tokio::time::timeout(DRAIN_MAX, self.queue.drained()).await;
            // A leader that hands over leaves no gap; if it fails the others notice soon enough.
            let _ = tokio::time::timeout(HAND_OVER_MAX, self.steering.hand_over()).await;
            if self.status.last_applied().is_some() {
                // The checkpointer says what went wrong; the next start then replays more.
                let (reply, made) = oneshot::channel();
                if self.checkpoint_requests.send(reply).await.is_ok() {
                    let _ = made.await;
                }
            }
        }
        self.attachment = None;
        if let Err(error) = self.raft.shutdown().await {
            tracing::error!(shard = self.id.0, %error, "the shard's task ended badly");
        }
        self.tasks.shutdown().await;
        // A checkpoint that is still being made goes nowhere.
        let checkpoints = Arc::clone(&self.checkpoints);
        if let Err(error) = net::blocking(move || checkpoints.retire()).await {
            tracing::error!(shard = self.id.0, %error, "a checkpoint's writer panicked");
        }
        let mut gone = self.status.watch_machine_gone();
        let gone = gone.wait_for(|gone| *gone);
        if tokio::time::timeout(MACHINE_MAX, gone).await.is_err() {
            tracing::warn!(
                shard = self.id.0,
                "the closed shard's state machine is still busy"
            );
        }
    }
}

impl<A: Apply> Drop for Group<A> {
    /// A host that is dropped stops its shards where they are. After `close` this does nothing.
    fn drop(&mut self) {
        let raft = self.raft.clone();
        self.shared.peers.handle().spawn(async move {
            // It may have ended by itself.
            let _ = raft.shutdown().await;
        });
    }
}

/// Confirms read points: all that wait when one confirmation starts share it.
async fn confirm_reads<A: Apply>(
    raft: GroupRaft<A>,
    status: Arc<Status>,
    mut requests: mpsc::Receiver<BarrierReply>,
) {
    let mut waiting = Vec::new();
    let mut isolated = status.watch_isolated();
    while requests.recv_many(&mut waiting, REQUESTS_MAX).await > 0 {
        let confirmed = tokio::select! {
            confirmed = raft.ensure_linearizable(ReadPolicy::ReadIndex) => Some(confirmed),
            // The sender lives in `status`, which is held here.
            _ = isolated.wait_for(|isolated| *isolated) => None,
        };
        let Some(confirmed) = confirmed else {
            for reply in waiting.drain(..) {
                let _ = reply.send(Err(ProposeError::NotLeader { leader: None }));
            }
            continue;
        };
        let answer = match confirmed {
            Ok(_) => Ok(()),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward))) => {
                Err(ProposeError::NotLeader {
                    leader: forward.leader_id.map(node_id),
                })
            }
            Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => {
                Err(ProposeError::NotLeader { leader: None })
            }
            Err(RaftError::Fatal(_)) => Err(status.ended().unwrap_or(End::Failed).refused()),
        };
        for reply in waiting.drain(..) {
            // The caller may have stopped waiting.
            let _ = reply.send(answer.clone());
        }
    }
}
