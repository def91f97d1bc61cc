//! [`Recorder`]: where everybody writes down what they ask and what they are told.
//!
//! One lock, so that the order of lines is the order of calls. What is wrong with the use of it
//! (two open operations of a process, a completion of nothing) or with the writer is kept and told
//! by [`Recorder::finish`]: a client under test has no use for an error of its notebook.

use std::fmt;
use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Event, HistoryError, Kind, Op, Process, Sequence};

/// Events that a history holds at most; about 4 GB in memory.
pub const EVENTS_MAX: u64 = 20_000_000;

/// Writes a history down. Clones write into the same one.
#[derive(Clone, Default)]
pub struct Recorder {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    events: Vec<Event>,
    sequence: Sequence,
    time_us: u64,
    writer: Option<Box<dyn Write + Send>>,
    error: Option<HistoryError>,
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder")
            .field("events", &self.len())
            .finish_non_exhaustive()
    }
}

impl Recorder {
    /// Keeps the history in memory.
    #[must_use]
    pub fn new() -> Recorder {
        Recorder::default()
    }

    /// Also writes each event to `writer` as it comes, as a line of JSON; give it a buffered one.
    #[must_use]
    pub fn streaming(writer: impl Write + Send + 'static) -> Recorder {
        let shared = Shared {
            writer: Some(Box::new(writer)),
            ..Shared::default()
        };
        Recorder {
            shared: Arc::new(Mutex::new(shared)),
        }
    }

    /// An operation begins. Gives the line's index.
    pub fn invoke(&self, time_us: u64, process: Process, op: Op) -> u64 {
        self.record(time_us, process, Kind::Invoke, op, None)
    }

    /// The process's operation happened; `op` as invoked, with what came of it.
    pub fn ok(&self, time_us: u64, process: Process, op: Op) -> u64 {
        self.record(time_us, process, Kind::Ok, op, None)
    }

    /// The process's operation certainly did not happen and never will.
    pub fn fail(&self, time_us: u64, process: Process, op: Op, error: impl Into<String>) -> u64 {
        self.record(time_us, process, Kind::Fail, op, Some(error.into()))
    }

    /// The process's operation may have happened, or may still; a client's process ends with it.
    pub fn info(&self, time_us: u64, process: Process, op: Op, error: impl Into<String>) -> u64 {
        self.record(time_us, process, Kind::Info, op, Some(error.into()))
    }

    /// A phase or a sample ([`Op::is_note`]): one line, whatever else is going on.
    pub fn note(&self, time_us: u64, op: Op) -> u64 {
        self.record(time_us, Process::Nemesis, Kind::Ok, op, None)
    }

    /// How many events there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().events.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What was recorded so far.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.lock().events.clone()
    }

    /// Flushes, and takes the history out; the recorder is empty and without a writer afterwards.
    ///
    /// # Errors
    ///
    /// The first thing that was wrong with the use of the recorder or with its writer.
    pub fn finish(&self) -> Result<Vec<Event>, HistoryError> {
        let mut taken = std::mem::take(&mut *self.lock());
        if let Some(error) = taken.error {
            return Err(error);
        }
        if let Some(mut writer) = taken.writer.take() {
            writer.flush()?;
        }
        Ok(taken.events)
    }

    fn record(
        &self,
        time_us: u64,
        process: Process,
        kind: Kind,
        op: Op,
        error: Option<String>,
    ) -> u64 {
        let mut shared = self.lock();
        let index = shared.events.len() as u64;
        // Two threads may take the time in one order and the lock in the other.
        shared.time_us = shared.time_us.max(time_us);
        let event = Event {
            index,
            time_us: shared.time_us,
            process,
            kind,
            op,
            error,
        };
        if let Err(error) = shared.append(event) {
            shared.error.get_or_insert(error);
        }
        index
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn append(&mut self, event: Event) -> Result<(), HistoryError> {
        if event.index >= EVENTS_MAX {
            return Err(HistoryError::TooLong {
                events_max: EVENTS_MAX,
            });
        }
        let admitted = self.sequence.admit(&event);
        if let Some(writer) = &mut self.writer {
            super::io::write_event(writer, &event)?;
        }
        self.events.push(event);
        admitted
    }
}
