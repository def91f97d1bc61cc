//! [`Book`]: the history as a run writes it, with process and value numbers that are given once.

use std::cell::Cell;

use jepsen_check::Recorder;
use jepsen_check::history::{Op, Process, Value};
use tracing::debug;

use crate::world::World;

/// Where everybody in a run writes down what they do.
#[derive(Debug)]
pub(crate) struct Book<'a, W> {
    world: &'a W,
    history: &'a Recorder,
    next_process: Cell<u32>,
    next_value: Cell<Value>,
}

impl<'a, W: World> Book<'a, W> {
    /// Of an empty history.
    pub(crate) fn new(world: &'a W, history: &'a Recorder) -> Book<'a, W> {
        Book {
            world,
            history,
            next_process: Cell::new(0),
            next_value: Cell::new(1),
        }
    }

    /// The world the run is in.
    pub(crate) fn world(&self) -> &'a W {
        self.world
    }

    /// A process that did nothing yet.
    pub(crate) fn process(&self) -> Process {
        let process = self.next_process.get();
        self.next_process.set(process + 1);
        Process::Client(process)
    }

    /// So many values that were never used.
    pub(crate) fn values(&self, count: usize) -> Vec<Value> {
        let first = self.next_value.get();
        let values: Vec<Value> = (first..).take(count).collect();
        self.next_value
            .set(values.last().map_or(first, |last| last + 1));
        values
    }

    /// An operation begins.
    pub(crate) fn invoke(&self, process: Process, op: Op) {
        debug!(?process, ?op, "invoke");
        self.history.invoke(self.world.now_us(), process, op);
    }

    /// It happened.
    pub(crate) fn ok(&self, process: Process, op: Op) {
        debug!(?process, ?op, "ok");
        self.history.ok(self.world.now_us(), process, op);
    }

    /// It certainly did not happen.
    pub(crate) fn fail(&self, process: Process, op: Op, why: String) {
        debug!(?process, ?op, why, "fail");
        self.history.fail(self.world.now_us(), process, op, why);
    }

    /// It may have happened; a client's process is over.
    pub(crate) fn info(&self, process: Process, op: Op, why: String) {
        debug!(?process, ?op, why, "info");
        self.history.info(self.world.now_us(), process, op, why);
    }

    /// A phase begins.
    pub(crate) fn phase(&self, name: &str) {
        debug!(name, "phase");
        self.history.note(
            self.world.now_us(),
            Op::Phase {
                name: name.to_owned(),
            },
        );
    }

    /// What nodes use now.
    pub(crate) fn sample(&self) {
        for (node, rss_kib, descriptors) in self.world.resources() {
            let op = Op::Resources {
                node,
                rss_kib,
                descriptors,
            };
            self.history.note(self.world.now_us(), op);
        }
    }
}
