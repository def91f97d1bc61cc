//! Replays what is committed, on every replica.
//!
//! It reads the log of the partition that this node has, from its start, and goes on as it grows.
//! When another log takes its place (the partition has moved, or the node was given a checkpoint) it
//! begins anew: of a compacted log records may be gone that it has not seen yet, and that are no
//! more than the last words on their keys. What cannot be read is tried again, never passed over.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coordinator::Coordinator;
use storage::{LogId, Offset, PartitionId};
use tokio::sync::watch;

use super::batch::records_of;
use crate::fetch::read_log;
use crate::partition::Partition;
use crate::partition::waiters::{Waiter, Waiters};
use crate::{Broker, BrokerError};

/// How much is read at once; a larger batch comes whole.
const READ_BYTES_MAX: usize = 1 << 20;
/// How often it is looked which log is the partition.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Pauses after a read that failed.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// How far a log was replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// The log; `None` before there is one.
    pub(super) log: Option<LogId>,
    /// The offset to go on from.
    pub(super) next: Offset,
}

/// The instance that has replayed what is committed.
pub(super) struct Committed<C> {
    // With how far it has come.
    instance: Mutex<(C, Place)>,
    place: watch::Sender<Place>,
}

impl<C: Coordinator> Committed<C> {
    pub(super) fn new(fresh: C) -> Committed<C> {
        let place = Place {
            log: None,
            next: Offset(0),
        };
        Committed {
            instance: Mutex::new((fresh, place)),
            place: watch::Sender::new(place),
        }
    }

    fn instance(&self) -> MutexGuard<'_, (C, Place)> {
        self.instance.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows how far it has come.
    pub(super) fn watch(&self) -> watch::Receiver<Place> {
        self.place.subscribe()
    }

    /// A copy, and how far it has come.
    pub(super) fn copy(&self) -> (C, Place) {
        self.instance().clone()
    }

    fn begin(&self, fresh: C, place: Place) {
        *self.instance() = (fresh, place);
        self.place.send_replace(place);
    }

    fn replay(&self, records: &[C::Record], place: Place) {
        {
            let mut held = self.instance();
            for record in records {
                held.0.replay(record);
            }
            held.1 = place;
        }
        self.place.send_replace(place);
    }
}

/// A reader that is woken when the partition grows.
struct Woken {
    waiter: Arc<Waiter>,
    entered: Option<(Arc<Waiters>, u64)>,
}

impl Woken {
    fn new() -> Woken {
        Woken {
            waiter: Waiter::new(1),
            entered: None,
        }
    }

    /// Asks to be woken by what comes from now on.
    fn arm(&mut self, waiters: &Arc<Waiters>) {
        self.waiter.rearm(1);
        let entered = self.entered.as_ref();
        if entered.is_none_or(|(held, _)| !Arc::ptr_eq(held, waiters)) {
            self.leave();
            let number = waiters.register(&self.waiter);
            self.entered = Some((Arc::clone(waiters), number));
        }
    }

    fn leave(&mut self) {
        if let Some((waiters, number)) = self.entered.take() {
            waiters.remove(number);
        }
    }
}

impl Drop for Woken {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Replays a partition until it is dropped.
pub(super) async fn follow_forever<C: Coordinator>(
    broker: Broker,
    id: PartitionId,
    fresh: C,
    committed: Arc<Committed<C>>,
) {
    let mut woken = Woken::new();
    let mut reading: Option<Arc<Partition>> = None;
    let mut place = committed.watch();
    let mut pause = PAUSE_MIN;
    loop {
        let Some(partition) = broker.inner.directory.get(id) else {
            tokio::time::sleep(PAUSE_MIN).await;
            continue;
        };
        woken.arm(&partition.waiters);
        let is_same = reading
            .as_ref()
            .is_some_and(|before| before.log_id() == partition.log_id() && !before.is_superseded());
        if !is_same {
            committed.begin(fresh.clone(), start_of(&partition));
        }
        reading = Some(Arc::clone(&partition));
        let at = *place.borrow_and_update();
        if at.next >= partition.high_watermark() {
            // Whatever else happens to the partition wakes it, too.
            let _ = tokio::time::timeout(LOOK_AGAIN, woken.waiter.woken()).await;
            continue;
        }
        match read_on(&partition, at, &committed).await {
            Ok(()) => {
                pause = PAUSE_MIN;
                tokio::task::yield_now().await;
            }
            Err(Unread::BelowStart) => reading = None,
            Err(Unread::Failed(reason)) => {
                tracing::error!(partition = %id, offset = %at.next, reason,
                    "cannot replay a coordinator's log, trying again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
    }
}

fn start_of(partition: &Partition) -> Place {
    Place {
        log: Some(partition.log_id()),
        next: partition.log.start_offset(),
    }
}

/// Why nothing was replayed.
enum Unread {
    /// The log begins above: what is below was not only compacted, it is gone.
    BelowStart,
    Failed(String),
}

/// Replays some of what follows.
async fn read_on<C: Coordinator>(
    partition: &Arc<Partition>,
    at: Place,
    committed: &Committed<C>,
) -> Result<(), Unread> {
    let end = partition.high_watermark();
    let read = match read_log(partition, at.next, end, READ_BYTES_MAX).await {
        Ok(read) => read,
        Err(BrokerError::OffsetOutOfRange { .. }) => return Err(Unread::BelowStart),
        Err(error) => return Err(Unread::Failed(error.to_string())),
    };
    let found = records_of::<C::Record>(&read.batches, at.next);
    let found = found.map_err(|error| Unread::Failed(error.to_string()))?;
    if found.next <= at.next {
        return Err(Unread::Failed("the log has a gap".to_owned()));
    }
    let place = Place {
        next: found.next,
        ..at
    };
    committed.replay(&found.records, place);
    Ok(())
}
