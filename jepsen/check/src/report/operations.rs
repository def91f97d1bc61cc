//! Invocations with their completions, faults with their ends, and what an anomaly names of them.

use std::collections::{BTreeMap, BTreeSet};

use crate::check::verdict::Verdict;
use crate::history::{Event, Kind, Op, Process};

/// An operation of a client, from its invocation to its completion.
#[derive(Debug)]
pub(super) struct Operation<'a> {
    pub(super) process: u32,
    /// As completed; as invoked where nothing completed it.
    pub(super) op: &'a Op,
    /// Index of the invocation.
    pub(super) invoked: u64,
    /// Index of the completion.
    pub(super) completed: Option<u64>,
    pub(super) start_us: u64,
    /// The history's end where nothing completed it.
    pub(super) end_us: u64,
    pub(super) outcome: Outcome,
    pub(super) error: Option<&'a str>,
}

/// What became of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Outcome {
    Ok,
    Fail,
    Info,
}

impl Outcome {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::Fail => "failed",
            Outcome::Info => "unknown",
        }
    }
}

/// A fault, from its beginning to its end.
#[derive(Debug)]
pub(super) struct Band<'a> {
    pub(super) name: &'a str,
    pub(super) nodes: &'a [u32],
    pub(super) detail: &'a str,
    pub(super) start_us: u64,
    pub(super) end_us: u64,
    /// Whether its effect was seen.
    pub(super) took_effect: bool,
}

/// The history, ready to be drawn.
#[derive(Debug, Default)]
pub(super) struct Run<'a> {
    /// In the order of their invocations.
    pub(super) operations: Vec<Operation<'a>>,
    /// In the order of their beginnings.
    pub(super) bands: Vec<Band<'a>>,
    /// When each phase began.
    pub(super) phases: Vec<(&'a str, u64)>,
    /// By node: when, resident KiB, descriptors.
    pub(super) resources: BTreeMap<u32, Vec<(u64, u64, u64)>>,
    /// When the last event was; at least 1.
    pub(super) end_us: u64,
}

impl<'a> Run<'a> {
    pub(super) fn of(events: &'a [Event]) -> Run<'a> {
        let end_us = events.last().map_or(1, |event| event.time_us.max(1));
        let mut run = Run {
            end_us,
            ..Run::default()
        };
        let mut open: BTreeMap<u32, usize> = BTreeMap::new();
        let mut broken: Vec<usize> = Vec::new();
        for event in events {
            match (&event.op, event.process) {
                (Op::Phase { name }, _) => {
                    run.phases.push((name, event.time_us));
                    if name == "heal" {
                        // Whatever was not undone by name is undone now.
                        for band in broken.drain(..) {
                            run.bands[band].end_us = event.time_us;
                        }
                    }
                }
                (
                    Op::Resources {
                        node,
                        rss_kib,
                        descriptors,
                    },
                    _,
                ) => run.resources.entry(*node).or_default().push((
                    event.time_us,
                    *rss_kib,
                    *descriptors,
                )),
                (
                    Op::Fault {
                        name,
                        begins,
                        nodes,
                        detail,
                    },
                    _,
                ) => {
                    run.fault(event, &mut broken, (name, *begins, nodes, detail));
                }
                (_, Process::Client(process)) => run.client(event, process, &mut open),
                (_, Process::Nemesis) => {}
            }
        }
        run
    }

    fn client(&mut self, event: &'a Event, process: u32, open: &mut BTreeMap<u32, usize>) {
        let outcome = match event.kind {
            Kind::Invoke => {
                open.insert(process, self.operations.len());
                self.operations.push(Operation {
                    process,
                    op: &event.op,
                    invoked: event.index,
                    completed: None,
                    start_us: event.time_us,
                    end_us: self.end_us,
                    outcome: Outcome::Info,
                    error: None,
                });
                return;
            }
            Kind::Ok => Outcome::Ok,
            Kind::Fail => Outcome::Fail,
            Kind::Info => Outcome::Info,
        };
        let Some(operation) = open
            .remove(&process)
            .and_then(|at| self.operations.get_mut(at))
        else {
            return;
        };
        operation.op = &event.op;
        operation.completed = Some(event.index);
        operation.end_us = event.time_us;
        operation.outcome = outcome;
        operation.error = event.error.as_deref();
    }

    fn fault(
        &mut self,
        event: &'a Event,
        broken: &mut Vec<usize>,
        (name, begins, nodes, detail): (&'a str, bool, &'a [u32], &'a str),
    ) {
        if begins && event.kind == Kind::Invoke {
            broken.push(self.bands.len());
            self.bands.push(Band {
                name,
                nodes,
                detail,
                start_us: event.time_us,
                end_us: self.end_us,
                took_effect: false,
            });
            return;
        }
        // The one that began last is meant where several have the same name and nodes.
        let same_nodes = broken
            .iter()
            .rposition(|at| self.bands[*at].name == name && self.bands[*at].nodes == nodes);
        let same_name = || broken.iter().rposition(|at| self.bands[*at].name == name);
        let Some(place) = same_nodes.or_else(same_name) else {
            return;
        };
        let band = &mut self.bands[broken[place]];
        if begins {
            band.took_effect = event.kind == Kind::Ok;
            if !detail.is_empty() {
                band.detail = detail;
            }
            if !nodes.is_empty() {
                band.nodes = nodes;
            }
            if event.kind == Kind::Fail {
                band.end_us = event.time_us;
                broken.remove(place);
            }
        } else if event.kind != Kind::Invoke {
            band.end_us = event.time_us;
            broken.remove(place);
        }
    }
}

/// Which events which anomalies name.
#[derive(Debug, Default)]
pub(super) struct Marks(BTreeMap<u64, BTreeSet<usize>>);

impl Marks {
    pub(super) fn of(verdict: &Verdict) -> Marks {
        let mut marks = Marks::default();
        for (number, anomaly) in verdict.anomalies.iter().enumerate() {
            for event in &anomaly.events {
                marks.0.entry(*event).or_default().insert(number);
            }
        }
        marks
    }

    /// The anomalies, by their places in the verdict, that name an operation.
    pub(super) fn on(&self, operation: &Operation<'_>) -> BTreeSet<usize> {
        let of = |event: u64| self.0.get(&event).into_iter().flatten().copied();
        of(operation.invoked)
            .chain(operation.completed.into_iter().flat_map(of))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Recorder;

    fn fault(name: &str, begins: bool) -> Op {
        Op::Fault {
            name: name.to_owned(),
            begins,
            nodes: vec![1],
            detail: String::new(),
        }
    }

    #[test]
    fn a_fault_lasts_from_its_invocation_until_it_is_undone_or_all_is() {
        let history = Recorder::new();
        for (at, op) in [
            (10, fault("kill", true)),
            (30, fault("pause", true)),
            (50, fault("kill", false)),
        ] {
            history.invoke(at, Process::Nemesis, op.clone());
            history.ok(at + 5, Process::Nemesis, op);
        }
        history.note(
            100,
            Op::Phase {
                name: "heal".to_owned(),
            },
        );
        history.note(
            200,
            Op::Phase {
                name: "end".to_owned(),
            },
        );
        let events = history.finish().unwrap();
        let run = Run::of(&events);
        let bands: Vec<_> = run
            .bands
            .iter()
            .map(|band| (band.name, band.start_us, band.end_us, band.took_effect))
            .collect();
        assert_eq!(bands, [("kill", 10, 55, true), ("pause", 30, 100, true)]);
        assert_eq!(run.end_us, 200);
    }

    #[test]
    fn an_operation_nobody_completed_is_unknown_until_the_end() {
        let history = Recorder::new();
        history.invoke(1, Process::Client(0), Op::Crash);
        history.invoke(2, Process::Client(1), Op::Poll { reads: Vec::new() });
        history.fail(
            9,
            Process::Client(1),
            Op::Poll { reads: Vec::new() },
            "no leader",
        );
        let events = history.finish().unwrap();
        let run = Run::of(&events);
        assert_eq!(run.operations[0].outcome, Outcome::Info);
        assert_eq!(
            (run.operations[0].completed, run.operations[0].end_us),
            (None, 9)
        );
        assert_eq!(run.operations[1].outcome, Outcome::Fail);
        assert_eq!(run.operations[1].error, Some("no leader"));
    }
}
