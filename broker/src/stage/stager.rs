//! [`Stager`]: brings a data shard's partitions to where an offered checkpoint has them.
//!
//! Nothing that serves is touched: copies lie beside the live logs until the localised manifest is
//! installed. What was copied for an offer that failed is kept in memory and goes on with the next.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{StreamExt, TryStreamExt, stream};
use raft::{Stage, StageError, StageProgress};
use storage::bugs::{self, Bug};
use storage::partition_log::{LogState, PartitionLog, SegmentState, StorageError, TombstoneView};
use storage::store::LogStore;
use storage::{LogId, NodeId, Offset, PartitionId, ShardId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Ranges;
use super::holds::Holds;
use super::manifest_plan::{Outdated, Wanted};
use super::range::{RangeAnswer, ReadRange};
use super::serve::RANGE_BYTES_MAX;
use super::slot::{Slot, SlotError};
use crate::partition::Directory;
use crate::partition::manifest::{self, Manifest, ManifestError, PartitionState};

/// Partitions that are copied at the same time; their bytes are bounded by the throttle.
const PARTITIONS_IN_FLIGHT: usize = 16;
/// Copies that are synced at the same time.
const FINISHES_IN_FLIGHT: usize = 4;
/// Least room that an answer is given.
const RANGE_BYTES_MIN: u64 = 64 << 10;
/// A copy of this size stays open until all are there, so that a failed offer can go on with it.
const KEPT_OPEN_BYTES_MIN: u64 = 1 << 20;
/// Times that local logs are captured because they changed meanwhile.
const CAPTURES_MAX: usize = 4;
/// Log starts that rise under one copy before it is left to the next offer.
const RAISES_MAX: usize = 8;
/// Times that one copy begins at the log start because pieces did not fit, before the same.
const WHOLE_MAX: usize = 3;

/// Stages one data shard's checkpoints. Cloning shares it.
#[derive(Clone)]
pub(crate) struct Stager {
    inner: Arc<Inner>,
}

struct Inner {
    shard: ShardId,
    directory: Directory,
    logs: LogStore,
    ranges: Ranges,
    holds: Holds,
    /// Held by the one staging that runs, and by what it left to blocking threads.
    run: Arc<Semaphore>,
    slots: Mutex<HashMap<LogId, SharedSlot>>,
    bytes_done: AtomicU64,
    bytes_total: AtomicU64,
}

type SharedSlot = Arc<Mutex<Slot>>;
/// Lets the next staging begin once all its holders are gone.
type Run = Arc<OwnedSemaphorePermit>;

/// Batches that were asked for.
struct Piece {
    span: (Offset, Offset),
    batches: Bytes,
    gone: Option<TombstoneView>,
    // The room that they take, until they are written.
    _room: OwnedSemaphorePermit,
}

/// What became of one partition that lacked data.
struct Copied {
    wanted: Wanted,
    /// `None`: it was deleted on the source, or all of it.
    slot: Option<SharedSlot>,
}

impl Stager {
    pub(super) fn new(
        shard: ShardId,
        directory: Directory,
        logs: LogStore,
        ranges: Ranges,
        holds: Holds,
    ) -> Stager {
        let inner = Inner {
            shard,
            directory,
            logs,
            ranges,
            holds,
            run: Arc::new(Semaphore::new(1)),
            slots: Mutex::default(),
            bytes_done: AtomicU64::new(0),
            bytes_total: AtomicU64::new(0),
        };
        Stager {
            inner: Arc::new(inner),
        }
    }
}

impl Stage for Stager {
    fn stage(
        &self,
        from: NodeId,
        manifest: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, StageError>> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move { inner.stage(from, manifest).await })
    }

    fn hold(&self) -> Box<dyn Send> {
        Box::new(self.inner.holds.hold())
    }

    fn progress(&self) -> StageProgress {
        let done = self.inner.bytes_done.load(Ordering::Relaxed);
        let total = self.inner.bytes_total.load(Ordering::Relaxed);
        StageProgress {
            bytes_done: done,
            bytes_left: Some(total.saturating_sub(done)),
        }
    }
}

impl Inner {
    async fn stage(self: Arc<Self>, from: NodeId, manifest: Bytes) -> Result<Bytes, StageError> {
        let run = Arc::clone(&self.run).acquire_owned().await;
        let run: Run = Arc::new(run.expect("the semaphore is never closed"));
        let this = Arc::clone(&self);
        let (wanted, departed) = blocking(&run, move || this.compare(from, manifest)).await?;
        let (missing, present): (Vec<_>, Vec<_>) = wanted.into_iter().partition(Wanted::lacks_data);
        let bytes: u64 = missing.iter().map(Wanted::missing_bytes).sum();
        self.bytes_done.store(0, Ordering::Relaxed);
        self.bytes_total.store(bytes, Ordering::Relaxed);
        if !missing.is_empty() {
            tracing::info!(shard = %self.shard, from = %from, partitions = missing.len(), bytes,
                "copying what this replica lacks");
        }
        let copying = missing
            .into_iter()
            .map(|wanted| Arc::clone(&self).copy(from, wanted, Arc::clone(&run)));
        let copied: Vec<Copied> = stream::iter(copying)
            .buffer_unordered(PARTITIONS_IN_FLIGHT)
            .try_collect()
            .await?;
        let finishing = copied.into_iter().map(|copied| {
            let run = Arc::clone(&run);
            async move { blocking(&run, move || copied.finish()).await }
        });
        let finished: Vec<PartitionState> = stream::iter(finishing)
            .buffer_unordered(FINISHES_IN_FLIGHT)
            .try_collect()
            .await?;
        if bytes > 0 {
            let bytes = self.bytes_done.load(Ordering::Relaxed);
            tracing::info!(shard = %self.shard, from = %from, bytes, "copied what was lacking");
        }
        blocking(&run, move || encode(present, finished, departed)).await
    }

    /// Lays the manifest beside what is here, which is synced as it is. Touches no file of a
    /// partition that has nothing to sync.
    fn compare(
        &self,
        from: NodeId,
        manifest: Bytes,
    ) -> Result<(Vec<Wanted>, Vec<PartitionId>), StageError> {
        let Manifest {
            partitions: targets,
            departed,
        } = manifest::decode(manifest).map_err(|error| match error {
            ManifestError::Malformed(what) => StageError::Malformed { what },
            ManifestError::UnknownVersion(_) => StageError::Malformed {
                what: "a version that this program knows",
            },
        })?;
        let mut wanted = Vec::with_capacity(targets.len());
        for (target, local) in targets.iter().zip(self.capture(&targets)?) {
            let mut target = target.clone();
            if bugs::is_on(Bug::PulledRangeOffByOne) {
                shorten(&mut target.log, local.as_ref());
            }
            let compared = Wanted::new(target, local);
            wanted.push(
                compared.map_err(|Outdated::Ahead(partition)| StageError::Fetch {
                    from,
                    what: format!("the offer is older than what is here of {partition}"),
                })?,
            );
        }
        // What was kept for partitions that lack nothing any more has served its time.
        let ids: HashSet<LogId> = wanted
            .iter()
            .filter(|wanted| wanted.lacks_data())
            .map(Wanted::log_id)
            .collect();
        self.slots().retain(|id, _| ids.contains(id));
        Ok((wanted, departed))
    }

    /// What is here of each partition, on disk as it is told.
    fn capture(&self, targets: &[PartitionState]) -> Result<Vec<Option<LogState>>, StageError> {
        let here = |target: &PartitionState| {
            // Another stay of the partition in this shard has files of its own.
            let partition = self.directory.get_in(self.shard, target.id)?;
            (partition.log_id() == target.log_id()).then(|| partition.log.clone())
        };
        let logs: Vec<Option<PartitionLog>> = targets.iter().map(here).collect();
        let capture = || -> Vec<Option<LogState>> {
            let state = |log: &Option<PartitionLog>| log.as_ref().map(PartitionLog::state_for_copy);
            logs.iter().map(state).collect()
        };
        let mut states = capture();
        for _ in 0..CAPTURES_MAX {
            let both = logs.iter().flatten().zip(states.iter().flatten());
            let ends: Vec<_> = both.map(|(log, state)| (log.clone(), state.end)).collect();
            match self.logs.sync(&ends) {
                Ok(()) => return Ok(states),
                // Everything is synced; only a state from before the files were looked at is void.
                Err(StorageError::StateOutdated { .. }) => {
                    let again = capture();
                    if again == states {
                        return Ok(states);
                    }
                    states = again;
                }
                Err(error) => return Err(storage_failed(error)),
            }
        }
        Err(StageError::Storage(io::Error::other(
            "the states of logs do not come to rest",
        )))
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<LogId, SharedSlot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slot(&self, id: LogId) -> SharedSlot {
        let mut slots = self.slots();
        let slot = slots
            .entry(id)
            .or_insert_with(|| Arc::new(Mutex::new(Slot::new(id))));
        Arc::clone(slot)
    }

    /// Copies what one partition lacks: the next range is asked for while one is written.
    async fn copy(
        self: Arc<Self>,
        from: NodeId,
        wanted: Wanted,
        run: Run,
    ) -> Result<Copied, StageError> {
        let slot = self.slot(wanted.log_id());
        let target_end = wanted.target.log.end;
        let (after, log) = (wanted.local_end(), wanted.target.log.clone());
        let resume = move |slot: &mut Slot| Ok((slot.resume(after, &log), slot.size_bytes()));
        let (mut at, bytes) = with_slot(&run, &slot, resume).await?;
        self.bytes_done.fetch_add(bytes, Ordering::Relaxed);
        let (mut raises, mut wholes) = (0, 0);
        let mut answer = None;
        while at < target_end {
            let (found, room) = match answer.take() {
                Some(answer) => answer,
                None => self.ask(from, &wanted, at).await?,
            };
            match found {
                RangeAnswer::Batches {
                    next,
                    gone,
                    batches,
                } if next > at => {
                    let bytes = batches.len() as u64;
                    let piece = Piece {
                        span: (at, next),
                        batches,
                        gone,
                        _room: room,
                    };
                    let write = self.write(&run, &slot, &wanted, piece);
                    let ahead = async {
                        match next < target_end {
                            true => Some(self.ask(from, &wanted, next).await),
                            false => None,
                        }
                    };
                    let (written, asked) = futures_util::future::join(write, ahead).await;
                    if !written? {
                        wholes += 1;
                        if wholes > WHOLE_MAX {
                            let what = "it keeps dropping tombstones of what is copied";
                            return Err(fetch_failed(from, &wanted, what.to_owned()));
                        }
                        tracing::info!(partition = %wanted.id(), from = %from,
                            "copying all of a compacted log: pieces of it do not fit together");
                        let log = wanted.target.log.clone();
                        let whole = move |slot: &mut Slot| Ok(slot.begin_whole(&log));
                        at = with_slot(&run, &slot, whole).await?;
                        let bytes = wanted.target.log.segments.iter().map(|one| one.bytes);
                        self.bytes_total.fetch_add(bytes.sum(), Ordering::Relaxed);
                        continue;
                    }
                    self.bytes_done.fetch_add(bytes, Ordering::Relaxed);
                    answer = asked.transpose()?;
                    at = next;
                }
                RangeAnswer::Batches { next, .. } => {
                    return Err(fetch_failed(
                        from,
                        &wanted,
                        format!("its log ends at {next}"),
                    ));
                }
                RangeAnswer::Behind { end } => {
                    return Err(fetch_failed(
                        from,
                        &wanted,
                        format!("its log ends at {end}"),
                    ));
                }
                RangeAnswer::Deleted { start } if start >= target_end => {
                    return self.give_up(&run, wanted, &slot).await;
                }
                RangeAnswer::Deleted { start } if raises < RAISES_MAX => {
                    raises += 1;
                    let anew = move |slot: &mut Slot| {
                        slot.begin_anew(None, Some(start));
                        Ok(())
                    };
                    with_slot(&run, &slot, anew).await?;
                    at = start;
                }
                RangeAnswer::Deleted { start } => {
                    let what = format!("its log start keeps rising, to {start} now");
                    return Err(fetch_failed(from, &wanted, what));
                }
                RangeAnswer::NoSuchPartition { leads: true } => {
                    return self.give_up(&run, wanted, &slot).await;
                }
                RangeAnswer::NoSuchPartition { leads: false } => {
                    let what = "it does not lead the shard any more".to_owned();
                    return Err(fetch_failed(from, &wanted, what));
                }
                RangeAnswer::Failed { reason } => {
                    return Err(fetch_failed(from, &wanted, reason));
                }
            }
        }
        let finish_now = |slot: &mut Slot| {
            if slot.size_bytes() < KEPT_OPEN_BYTES_MIN {
                slot.finish().map_err(storage_failed)?;
            }
            Ok(())
        };
        with_slot(&run, &slot, finish_now).await?;
        Ok(Copied {
            wanted,
            slot: Some(slot),
        })
    }

    /// The source has nothing of it any more.
    async fn give_up(
        &self,
        run: &Run,
        wanted: Wanted,
        slot: &SharedSlot,
    ) -> Result<Copied, StageError> {
        let drop_all = |slot: &mut Slot| {
            slot.begin_anew(None, None);
            Ok(())
        };
        with_slot(run, slot, drop_all).await?;
        Ok(Copied { wanted, slot: None })
    }

    async fn ask(
        &self,
        from: NodeId,
        wanted: &Wanted,
        at: Offset,
    ) -> Result<super::RoomyAnswer, StageError> {
        let missing = wanted.missing_bytes().max(RANGE_BYTES_MIN);
        let bytes_max = u32::try_from(missing.min(RANGE_BYTES_MAX as u64)).unwrap_or(u32::MAX);
        let range = ReadRange {
            shard: self.shard,
            partition: wanted.id(),
            from: at,
            limit: wanted.target.log.end,
            bytes_max,
        };
        let fetched = self.ranges.fetch(from, range).await;
        fetched.map_err(|what| fetch_failed(from, wanted, what))
    }

    /// Adds a piece; false when it does not fit those before.
    async fn write(
        &self,
        run: &Run,
        slot: &SharedSlot,
        wanted: &Wanted,
        piece: Piece,
    ) -> Result<bool, StageError> {
        let logs = self.logs.clone();
        let config = self.directory.log_config(wanted.id());
        let append = move |slot: &mut Slot| {
            let appended = slot.append(&logs, config, piece.span, (&piece.batches, piece.gone));
            drop(piece);
            appended
        };
        with_slot(run, slot, move |slot| match append(slot) {
            Ok(()) => Ok(true),
            Err(SlotError::Mixed(_)) => Ok(false),
            Err(SlotError::Storage(error)) => Err(storage_failed(error)),
            Err(SlotError::Unfit(what)) => Err(StageError::Storage(io::Error::other(what))),
        })
        .await
    }
}

impl Copied {
    /// Syncs the copy. Blocking. Returns the partition as it is here once installed.
    fn finish(self) -> Result<PartitionState, StageError> {
        let Copied { wanted, slot } = self;
        let Some(slot) = slot else {
            let log = LogState::empty(wanted.target.log.end);
            return Ok(PartitionState {
                log,
                ..wanted.target
            });
        };
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        let segments = slot.finish().map_err(storage_failed)?;
        let start = slot.start(&wanted.target.log).max(wanted.start);
        let local = wanted.local.as_ref().filter(|_| slot.keeps_local());
        let gone_below = slot.tombstones_gone_below();
        localised(&wanted.target, local, segments, (start, gone_below))
    }
}

fn localised(
    target: &PartitionState,
    local: Option<&LogState>,
    copied: Vec<SegmentState>,
    (start, gone_below): (Offset, Offset),
) -> Result<PartitionState, StageError> {
    let log = LogState::with_copied(local, copied, &target.log, (start, gone_below));
    let log = log.map_err(|error| {
        tracing::error!(partition = %target.id, %error, "a copied log does not fit together");
        StageError::Malformed {
            what: "the state of a log",
        }
    })?;
    Ok(PartitionState {
        log,
        ..target.clone()
    })
}

/// The manifest to install here.
fn encode(
    present: Vec<Wanted>,
    copied: Vec<PartitionState>,
    departed: Vec<PartitionId>,
) -> Result<Bytes, StageError> {
    let mut states = copied;
    states.reserve(present.len());
    for Wanted {
        target,
        local,
        start,
    } in present
    {
        states.push(match &local {
            Some(local) => localised(&target, Some(local), Vec::new(), (start, Offset(0)))?,
            None => target,
        });
    }
    Ok(manifest::encode(&Manifest {
        partitions: states,
        departed,
    }))
}

/// Runs on a thread that may block; goes on when the caller is dropped, and holds up the next
/// staging until it is done.
async fn blocking<T: Send + 'static>(
    run: &Run,
    work: impl FnOnce() -> Result<T, StageError> + Send + 'static,
) -> Result<T, StageError> {
    let run = Arc::clone(run);
    let working = net::blocking(move || {
        let done = work();
        drop(run);
        done
    });
    match working.await {
        Ok(done) => done,
        Err(error) => Err(StageError::Storage(io::Error::other(error))),
    }
}

async fn with_slot<T: Send + 'static>(
    run: &Run,
    slot: &SharedSlot,
    work: impl FnOnce(&mut Slot) -> Result<T, StageError> + Send + 'static,
) -> Result<T, StageError> {
    let slot = Arc::clone(slot);
    blocking(run, move || {
        work(&mut slot.lock().unwrap_or_else(PoisonError::into_inner))
    })
    .await
}

/// One record less, where the last one has to be copied.
fn shorten(target: &mut LogState, local: Option<&LogState>) {
    let end = target.end.plus(-1);
    let here = local.map_or(target.start, |local| local.end);
    if let Some(newest) = target.segments.last_mut()
        && newest.base < end
        && here < end
    {
        (newest.end, target.end) = (end, end);
    }
}

fn storage_failed(error: StorageError) -> StageError {
    StageError::Storage(io::Error::other(error))
}

fn fetch_failed(from: NodeId, wanted: &Wanted, what: String) -> StageError {
    StageError::Fetch {
        from,
        what: format!("{}: {what}", wanted.id()),
    }
}
