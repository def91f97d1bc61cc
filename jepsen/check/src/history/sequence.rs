//! [`Sequence`]: what makes lines a history.

use std::collections::{BTreeMap, BTreeSet};

use super::{Admin, Event, Kind, Op, Process};

/// Why something is not a history, or could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The reader failed.
    #[error("cannot read the history: {0}")]
    Read(#[from] std::io::Error),
    /// The writer failed.
    #[error("cannot write the history: {0}")]
    Write(#[source] std::io::Error),
    /// A line is longer than anybody writes.
    #[error("line {line} of the history has more than {bytes_max} bytes")]
    LineTooLong {
        /// Which, from 1 on.
        line: u64,
        /// The limit.
        bytes_max: u64,
    },
    /// There are more events than anybody writes.
    #[error("the history has more than {events_max} events")]
    TooLong {
        /// The limit.
        events_max: u64,
    },
    /// A line is no event.
    #[error("line {line} of the history is no event: {source}")]
    Parse {
        /// Which, from 1 on.
        line: u64,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// An index was left out or came twice.
    #[error("event {found} stands where {expected} is due")]
    Index {
        /// What should stand there.
        expected: u64,
        /// What does.
        found: u64,
    },
    /// Time goes back.
    #[error("at event {index} time goes back from {before_us} to {time_us} us")]
    Time {
        /// Where.
        index: u64,
        /// The time before.
        before_us: u64,
        /// The time then.
        time_us: u64,
    },
    /// A process begins something while something else of its own is open.
    #[error("event {index}: {process:?} has operation {open} open and begins another")]
    StillOpen {
        /// Where.
        index: u64,
        /// Who.
        process: Process,
        /// Index of the invocation.
        open: u64,
    },
    /// A client goes on although the outcome of its last operation is unknown.
    #[error("event {index}: {process:?} goes on after an operation of unknown outcome")]
    Reused {
        /// Where.
        index: u64,
        /// Who.
        process: Process,
    },
    /// A completion of nothing.
    #[error("event {index} completes an operation of {process:?}, which has none open")]
    NothingOpen {
        /// Where.
        index: u64,
        /// Who.
        process: Process,
    },
    /// A completion says something else than its invocation.
    #[error("event {index} completes operation {open} but is another operation")]
    Mismatch {
        /// Where.
        index: u64,
        /// Index of the invocation.
        open: u64,
    },
    /// What happened contradicts itself.
    #[error("event {index}: {what}")]
    Malformed {
        /// Where.
        index: u64,
        /// What is wrong with it.
        what: &'static str,
    },
}

/// Sees, event by event, that a history is one.
#[derive(Debug, Default)]
pub struct Sequence {
    next: u64,
    time_us: u64,
    open: BTreeMap<Process, (u64, Op)>,
    ended: BTreeSet<Process>,
}

impl Sequence {
    /// Takes the next event.
    ///
    /// # Errors
    ///
    /// Why it cannot follow.
    pub fn admit(&mut self, event: &Event) -> Result<(), HistoryError> {
        let Event {
            index,
            time_us,
            process,
            kind,
            ref op,
            ..
        } = *event;
        if index != self.next {
            return Err(HistoryError::Index {
                expected: self.next,
                found: index,
            });
        }
        self.next += 1;
        if time_us < self.time_us {
            return Err(HistoryError::Time {
                index,
                before_us: self.time_us,
                time_us,
            });
        }
        self.time_us = time_us;
        if op.is_note() {
            return Ok(());
        }
        if self.ended.contains(&process) {
            return Err(HistoryError::Reused { index, process });
        }
        if kind == Kind::Invoke {
            if let Some((open, _)) = self.open.insert(process, (index, op.clone())) {
                return Err(HistoryError::StillOpen {
                    index,
                    process,
                    open,
                });
            }
            return well_formed(op).map_err(|what| HistoryError::Malformed { index, what });
        }
        let Some((open, asked)) = self.open.remove(&process) else {
            return Err(HistoryError::NothingOpen { index, process });
        };
        if kind == Kind::Info && process != Process::Nemesis {
            self.ended.insert(process);
        }
        if !answers(op, &asked) {
            return Err(HistoryError::Mismatch { index, open });
        }
        if kind == Kind::Ok && matches!(op, Op::Send { offset: None, .. }) {
            return Err(HistoryError::Malformed {
                index,
                what: "an ok send without an offset",
            });
        }
        Ok(())
    }
}

/// What no operation may ask.
fn well_formed(op: &Op) -> Result<(), &'static str> {
    match op {
        Op::Send { values, .. } if values.is_empty() => Err("a send of nothing"),
        _ => Ok(()),
    }
}

/// Whether a completion is of what was asked: what was asked is repeated in it.
fn answers(done: &Op, asked: &Op) -> bool {
    match (done, asked) {
        (
            Op::Send {
                key,
                values,
                idempotent,
                ..
            },
            Op::Send {
                key: key_asked,
                values: values_asked,
                idempotent: idempotent_asked,
                ..
            },
        ) => key == key_asked && values == values_asked && idempotent == idempotent_asked,
        (Op::Poll { .. }, Op::Poll { .. }) | (Op::Crash, Op::Crash) => true,
        (Op::Assign { positions }, Op::Assign { positions: asked }) => positions == asked,
        (Op::Admin(done), Op::Admin(asked)) => admin_answers(done, asked),
        (Op::Group(done), Op::Group(asked)) => done.answers(asked),
        (
            Op::ReplicaRead { node, key, .. },
            Op::ReplicaRead {
                node: node_asked,
                key: key_asked,
                ..
            },
        ) => node == node_asked && key == key_asked,
        (
            Op::CompactedRead { node, key, .. },
            Op::CompactedRead {
                node: node_asked,
                key: key_asked,
                ..
            },
        ) => node == node_asked && key == key_asked,
        (
            Op::Fault { name, begins, .. },
            Op::Fault {
                name: name_asked,
                begins: begins_asked,
                ..
            },
        ) => name == name_asked && begins == begins_asked,
        _ => false,
    }
}

fn admin_answers(done: &Admin, asked: &Admin) -> bool {
    match (done, asked) {
        (Admin::Describe { topic, .. }, Admin::Describe { topic: asked, .. }) => topic == asked,
        (Admin::ListTopics { .. }, Admin::ListTopics { .. }) => true,
        (Admin::CreateTopic { .. }, Admin::CreateTopic { .. })
        | (Admin::DeleteTopic { .. }, Admin::DeleteTopic { .. })
        | (Admin::SetConfig { .. }, Admin::SetConfig { .. }) => done == asked,
        _ => false,
    }
}
