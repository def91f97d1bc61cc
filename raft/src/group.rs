//! One shard running on the host's thread: opens it, keeps its tasks, closes it.
//!
//! The tasks beside openraft's own: the batcher; one that follows leadership and the shard's end;
//! one that confirms read points, many callers at a time; one that makes checkpoints, one at a
//! time. All of them belong to the [`Group`] and end with it.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::error::{Fatal, InitializeError, LinearizableReadError, RaftError};
use openraft::network::{NetSnapshot, RaftNetworkFactory};
use openraft::{Config, Raft, ReadPolicy, ServerState, SnapshotPolicy};
use storage::{ShardId, Term};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::batcher::Batcher;
use crate::checkpointer::Checkpointer;
use crate::host::Shared;
use crate::machine::Machine;
use crate::queue::Queue;
use crate::shard::{BarrierReply, CheckpointReply, Inner};
use crate::snapshot::{Checkpoints, Manifest};
use crate::status::{End, Status};
use crate::store::{CacheLimits, Log};
use crate::types::{Types, node_id};
use crate::{Apply, HostFailure, Leadership, OpenError, ProposeError, Shard};

/// Callers that may wait for a read point or a checkpoint before the next one waits to ask.
pub(crate) const REQUESTS_MAX: usize = 1_024;
/// Entries found at open that are kept to be applied, as many as a checkpoint leaves behind.
const OPEN_CACHE_BYTES: usize = 64 << 20;
/// How long a closing shard waits for its entries in flight.
const DRAIN_MAX: Duration = Duration::from_secs(5);

pub(crate) type GroupRaft<A> = Raft<Types, Machine<A>>;

/// An open shard and its tasks.
pub(crate) struct Group<A: Apply> {
    raft: GroupRaft<A>,
    queue: Arc<Queue<A::Outcome>>,
    status: Arc<Status>,
    log: Log,
    id: ShardId,
    checkpoint_requests: mpsc::Sender<CheckpointReply>,
    tasks: JoinSet<()>,
}

/// Opens a shard: reads checkpoint and log, replays, starts the tasks. When the shard is new, its
/// members become `voters`. With this node as the only voter it campaigns at once, and serves on
/// return. `attach` gets the way in for what peers send, before anything is sent to them.
pub(crate) async fn open<A, N>(
    shared: &Arc<Shared>,
    id: ShardId,
    machine: A,
    network: N,
    voters: BTreeSet<u64>,
    attach: impl FnOnce(GroupRaft<A>),
) -> Result<(Group<A>, Shard<A::Outcome>), OpenError>
where
    A: Apply,
    N: RaftNetworkFactory<Types>,
    N::Network: NetSnapshot<Types, SnapshotData = Manifest>,
{
    let me = u64::from(shared.config.node.0);
    let solo = voters.len() == 1 && voters.contains(&me);
    let (checkpoints, log) = read_disk(shared, id).await?;
    let status = Arc::new(Status::new(shared.config.checkpoint_journal_bytes));
    shared.enlist(&status, &log);

    let machine = Machine::open(
        machine,
        log.clone(),
        Arc::clone(&checkpoints),
        Arc::clone(&status),
    )
    .map_err(|source| OpenError::Install { shard: id, source })?;
    let config =
        raft_config(shared, id, !solo).map_err(|source| OpenError::Log { shard: id, source })?;
    let fatal = |error: Fatal<Types>| OpenError::Log {
        shard: id,
        source: io::Error::other(error),
    };
    let raft = GroupRaft::new(me, config, network, log.clone(), machine)
        .await
        .map_err(fatal)?;

    attach(raft.clone());
    let mut tasks = JoinSet::new();
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
    tasks.spawn(follow(
        id,
        raft.clone(),
        Arc::clone(&queue),
        Arc::clone(&status),
        Arc::clone(shared),
    ));
    let (barriers, barrier_requests) = mpsc::channel(REQUESTS_MAX);
    tasks.spawn(confirm_reads(
        raft.clone(),
        Arc::clone(&status),
        barrier_requests,
    ));
    let checkpointer = Checkpointer {
        id,
        raft: raft.clone(),
        checkpoints: Arc::clone(&checkpoints),
        status: Arc::clone(&status),
        log: log.clone(),
        shared: Arc::clone(shared),
    };
    let (checkpoint_requests, requests) = mpsc::channel(REQUESTS_MAX);
    tasks.spawn(checkpointer.run(requests));

    let group = Group {
        raft,
        queue: Arc::clone(&queue),
        status: Arc::clone(&status),
        log: log.clone(),
        id,
        checkpoint_requests: checkpoint_requests.clone(),
        tasks,
    };
    if let Err(error) = group.start(id, voters, solo).await {
        group.close().await;
        return Err(error);
    }
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
    });
    Ok((group, shard))
}

/// The shard's checkpoint and log, checked against each other.
async fn read_disk(
    shared: &Arc<Shared>,
    id: ShardId,
) -> Result<(Arc<Checkpoints>, Log), OpenError> {
    let from = Arc::clone(shared);
    let read = tokio::task::spawn_blocking(move || {
        let path = from.config.checkpoint_dir.join(format!("{id}.checkpoint"));
        let checkpoints = Checkpoints::open(from.disk.clone(), path)
            .map_err(|source| OpenError::Checkpoint { shard: id, source })?;
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
        let checkpoint = checkpoints.position();
        match log.ends().0 {
            Some(floor) if checkpoint.is_none_or(|held| held.index < floor.index) => {
                Err(OpenError::MissingEntries {
                    shard: id,
                    floor,
                    checkpoint,
                })
            }
            _ => Ok((Arc::new(checkpoints), log)),
        }
    });
    read.await.unwrap_or_else(|error| {
        Err(OpenError::Log {
            shard: id,
            source: io::Error::other(error),
        })
    })
}

/// `ticks` is off for a shard of one: nobody needs its heartbeats, and idle it costs nothing.
fn raft_config(shared: &Shared, id: ShardId, ticks: bool) -> io::Result<Arc<Config>> {
    let config = Config {
        cluster_name: format!("shard-{id}"),
        heartbeat_interval: shared.config.heartbeat_ms,
        election_timeout_min: shared.config.election_ms_min,
        election_timeout_max: shared.config.election_ms_max,
        max_payload_entries: 1_024,
        snapshot_policy: SnapshotPolicy::Never,
        // A checkpoint alone lets the journal go up to its position.
        max_in_snapshot_log_to_keep: 0,
        enable_tick: ticks,
        enable_pre_vote: Some(true),
        // A leader that restarts in its old term may have lost its tail: two entries under one id.
        enable_leader_restore: Some(false),
        ..Config::default()
    };
    config.validate().map(Arc::new).map_err(io::Error::other)
}

impl<A: Apply> Group<A> {
    async fn start(&self, id: ShardId, voters: BTreeSet<u64>, solo: bool) -> Result<(), OpenError> {
        let failed = |error: &dyn std::fmt::Display| OpenError::Log {
            shard: id,
            source: io::Error::other(error.to_string()),
        };
        if !self
            .raft
            .is_initialized()
            .await
            .map_err(|error| failed(&error))?
        {
            match self.raft.initialize(voters).await {
                // A peer that was first has asked for a vote meanwhile: the members are the same.
                Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => {}
                Err(error) => return Err(failed(&error)),
            }
        }
        if !solo {
            return Ok(());
        }
        self.raft
            .trigger()
            .elect(false)
            .await
            .map_err(|error| failed(&error))?;
        let mut leadership = self.status.leadership.subscribe();
        let mut ended = self.status.watch_end();
        tokio::select! {
            serving = leadership.wait_for(|leadership| leadership.serving) => {
                serving.map(|_| ()).map_err(|_| OpenError::Failed { shard: id })
            }
            _ = ended.wait_for(Option::is_some) => Err(OpenError::Failed { shard: id }),
        }
    }

    /// Refuses what waits, lets what is in flight land, makes a last checkpoint, stops openraft.
    pub(crate) async fn close(mut self) {
        self.status.end(End::Closed);
        self.queue.close(End::Closed);
        if self.status.ended() == Some(End::Closed) && !self.log.journal_failed() {
            // What has not landed by then is answered `Unknown` when openraft drops it.
            let _ = tokio::time::timeout(DRAIN_MAX, self.queue.drained()).await;
            if self.status.last_applied().is_some() {
                // The checkpointer says what went wrong; the next start then replays more.
                let (reply, made) = oneshot::channel();
                if self.checkpoint_requests.send(reply).await.is_ok() {
                    let _ = made.await;
                }
            }
        }
        if let Err(error) = self.raft.shutdown().await {
            tracing::error!(shard = self.id.0, %error, "the shard's task ended badly");
        }
        self.tasks.shutdown().await;
    }
}

/// Keeps the shard's `Leadership` true, and when the shard ends by itself tells the host.
async fn follow<A: Apply>(
    id: ShardId,
    raft: GroupRaft<A>,
    queue: Arc<Queue<A::Outcome>>,
    status: Arc<Status>,
    shared: Arc<Shared>,
) {
    let me = u64::from(shared.config.node.0);
    let mut server = raft.server_metrics();
    let mut applied_term = status.applied_term();
    let mut ended = status.watch_end();
    loop {
        let end = *ended.borrow_and_update();
        let applied = *applied_term.borrow_and_update();
        let now = {
            let server = server.borrow_watched();
            let term = Term(server.vote.leader_id().term);
            let leads = server.state == ServerState::Leader;
            let leader = server
                .current_leader
                .filter(|leader| leads || *leader != me);
            Leadership {
                term,
                leader: leader.filter(|_| end.is_none()).map(node_id),
                serving: leads && end.is_none() && applied == Some(term),
            }
        };
        status
            .leadership
            .send_if_modified(|held| std::mem::replace(held, now) != now);
        match end {
            None => {}
            Some(End::Closed) => return,
            Some(end) => {
                queue.close(end);
                shared.fail(match end {
                    End::JournalFailed => HostFailure::Journal,
                    End::Failed | End::Closed => HostFailure::Shard { shard: id },
                });
                // It may not have noticed: a replica that cannot write must not go on leading.
                if let Err(error) = raft.shutdown().await {
                    tracing::error!(shard = id.0, %error, "the shard's task ended badly");
                }
                return;
            }
        }
        tokio::select! {
            changed = server.changed() => if changed.is_err() {
                let failed = shared.journal.failed().is_some();
                status.end(if failed { End::JournalFailed } else { End::Failed });
            },
            // The senders live in `status`, which is held here.
            _ = applied_term.changed() => {}
            _ = ended.changed() => {}
        }
    }
}

/// Confirms read points: all that wait when one confirmation starts share it.
async fn confirm_reads<A: Apply>(
    raft: GroupRaft<A>,
    status: Arc<Status>,
    mut requests: mpsc::Receiver<BarrierReply>,
) {
    let mut waiting = Vec::new();
    while requests.recv_many(&mut waiting, REQUESTS_MAX).await > 0 {
        let answer = match raft.ensure_linearizable(ReadPolicy::ReadIndex).await {
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
