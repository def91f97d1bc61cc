//! Walking a plan: faults begin and end when they are due, one after the other, and are written down.
//!
//! Which nodes are struck is settled when a fault begins. One that did not begin well is undone all
//! the same: a part of it may be there.

use std::collections::BTreeMap;
use std::time::Duration;

use jepsen_check::history::{Key, Op, Process};
use tokio::time::{Instant, sleep_until, timeout};

use crate::book::Book;
use crate::client::nodes::Nodes;
use crate::fault::{Fault, NodeId};
use crate::plan::{Plan, Standing};
use crate::world::World;

/// What became of a plan.
#[derive(Debug, Default)]
pub(crate) struct Walked {
    /// Faults that were tried.
    pub tried: usize,
    /// Those whose effect was seen.
    pub effective: usize,
    /// Why the last of the others was not.
    pub failure: Option<String>,
}

/// Who walks.
pub(crate) struct Nemesis<'a, W> {
    /// Where it writes down what it does.
    pub book: &'a Book<'a, W>,
    /// What it asks who leads.
    pub nodes: Nodes,
    /// The partition whose leader is struck where a leader is meant.
    pub hot: Option<Key>,
    /// The clients that may be cut off with a node.
    pub clients: Vec<u32>,
    /// How long one fault may take to begin or end.
    pub fault_timeout: Duration,
}

impl<W: World> Nemesis<'_, W> {
    /// Walks the plan; what is due only after `until` does not begin any more.
    pub(crate) async fn walk(mut self, plan: &Plan, started: Instant, until: Instant) -> Walked {
        let mut walked = Walked::default();
        let mut begun: BTreeMap<usize, Fault> = BTreeMap::new();
        for action in plan.actions() {
            sleep_until(started + action.at).await;
            if !action.begins {
                if let Some(fault) = begun.remove(&action.step) {
                    // What cannot be undone now is told again by the healing.
                    let _ = self.turn(&fault, false).await;
                }
                continue;
            }
            if Instant::now() >= until {
                continue;
            }
            let standing = self.standing().await;
            let Some(fault) = plan.steps[action.step].resolve(&standing) else {
                continue;
            };
            walked.tried += 1;
            match self.turn(&fault, true).await {
                Ok(()) => walked.effective += 1,
                Err(why) => walked.failure = Some(why),
            }
            begun.insert(action.step, fault);
        }
        walked
    }

    async fn standing(&mut self) -> Standing {
        let world = self.book.world();
        self.nodes
            .set_addresses(world.kafka_addresses(self.clients.len().try_into().unwrap_or(0)));
        let leader: Option<NodeId> = match &self.hot {
            Some(key) => {
                self.nodes.moved(key, None);
                self.nodes.leader(key).await.ok()
            }
            None => None,
        };
        let nodes = world.nodes();
        Standing {
            leader: leader.filter(|leader| nodes.contains(leader)),
            nodes,
            clients: self.clients.clone(),
        }
    }

    async fn turn(&self, fault: &Fault, begins: bool) -> Result<(), String> {
        let op = |detail| Op::Fault {
            name: fault.name().to_owned(),
            begins,
            nodes: fault.nodes(),
            detail,
        };
        self.book.invoke(Process::Nemesis, op(String::new()));
        let world = self.book.world();
        let turned = match begins {
            true => timeout(self.fault_timeout, world.begin(fault)).await,
            false => timeout(self.fault_timeout, world.end(fault)).await,
        };
        let why = match turned {
            Ok(Ok(detail)) => {
                self.book.ok(Process::Nemesis, op(detail));
                return Ok(());
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("not done within {} s", self.fault_timeout.as_secs()),
        };
        self.book
            .info(Process::Nemesis, op(String::new()), why.clone());
        Err(why)
    }
}

/// Undoes everything.
pub(crate) async fn heal<W: World>(book: &Book<'_, W>, patience: Duration) -> Result<(), String> {
    let op = Op::Fault {
        name: "heal".to_owned(),
        begins: false,
        nodes: vec![],
        detail: String::new(),
    };
    book.invoke(Process::Nemesis, op.clone());
    let why = match timeout(patience, book.world().heal()).await {
        Ok(Ok(())) => {
            book.ok(Process::Nemesis, op);
            return Ok(());
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("not done within {} s", patience.as_secs()),
    };
    book.info(Process::Nemesis, op, why.clone());
    Err(why)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use jepsen_check::Recorder;
    use jepsen_check::history::Kind;
    use tokio::time::sleep;

    use super::*;
    use crate::plan::{FaultSpec, Step, Target};
    use crate::random::Random;

    /// Does as it is told; kills are refused, pauses never come to an end.
    struct Stage {
        started: Instant,
        turns: RefCell<Vec<(&'static str, bool)>>,
    }

    impl World for Stage {
        type Error = String;

        fn nodes(&self) -> Vec<NodeId> {
            vec![1, 2, 3]
        }

        fn kafka_addresses(&self, _client: u32) -> Vec<(NodeId, String)> {
            Vec::new()
        }

        fn now_us(&self) -> u64 {
            u64::try_from(self.started.elapsed().as_micros()).expect("a short test")
        }

        async fn begin(&self, fault: &Fault) -> Result<String, String> {
            self.turns.borrow_mut().push((fault.name(), true));
            match fault {
                Fault::Kill(_) => Err("it runs on".to_owned()),
                Fault::Pause(_) => std::future::pending().await,
                _ => Ok("seen".to_owned()),
            }
        }

        async fn end(&self, fault: &Fault) -> Result<String, String> {
            self.turns.borrow_mut().push((fault.name(), false));
            Ok("gone".to_owned())
        }

        async fn heal(&self) -> Result<(), String> {
            sleep(Duration::from_secs(1_000)).await;
            Ok(())
        }

        fn resources(&self) -> Vec<(NodeId, u64, u64)> {
            Vec::new()
        }
    }

    fn step(at_ms: u64, fault: FaultSpec) -> Step {
        Step {
            at_ms,
            lasts_ms: 1_000,
            fault,
            draw: 1,
            unlucky: vec![],
            is_damage: false,
        }
    }

    async fn walk(
        steps: Vec<Step>,
    ) -> (Walked, Vec<(&'static str, bool)>, Vec<(String, bool, Kind)>) {
        let started = Instant::now();
        let stage = Stage {
            started,
            turns: RefCell::default(),
        };
        let history = Recorder::new();
        let book = Book::new(&stage, &history);
        let nemesis = Nemesis {
            book: &book,
            nodes: Nodes::new(vec![], Duration::from_secs(1), Random::new(1)),
            hot: None,
            clients: vec![0],
            fault_timeout: Duration::from_secs(5),
        };
        let until = started + Duration::from_secs(20);
        let walked = nemesis.walk(&Plan { steps }, started, until).await;
        let events = history.finish().expect("a history");
        let told = events
            .into_iter()
            .filter(|event| event.kind != Kind::Invoke);
        let told = told.filter_map(|event| match event.op {
            Op::Fault { name, begins, .. } => Some((name, begins, event.kind)),
            _ => None,
        });
        (walked, stage.turns.take(), told.collect())
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_begin_well_is_told_and_undone_all_the_same() {
        let (walked, turns, told) = walk(vec![
            step(
                1_000,
                FaultSpec::Kill {
                    target: Target::One,
                },
            ),
            step(4_000, FaultSpec::TransferLeader),
            step(
                8_000,
                FaultSpec::Pause {
                    target: Target::One,
                },
            ),
        ])
        .await;
        assert_eq!((walked.tried, walked.effective), (3, 1));
        assert_eq!(walked.failure.as_deref(), Some("not done within 5 s"));
        let names = |name, kind| [(name, true, kind), (name, false, Kind::Ok)];
        let expected: Vec<_> = [
            ("kill", Kind::Info),
            ("transfer", Kind::Ok),
            ("pause", Kind::Info),
        ]
        .into_iter()
        .flat_map(|(name, kind)| names(name, kind))
        .map(|(name, begins, kind)| (name.to_owned(), begins, kind))
        .collect();
        assert_eq!(told, expected);
        assert_eq!(turns.len(), 6, "{turns:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_due_after_the_end_does_not_begin() {
        let (walked, turns, _) = walk(vec![
            step(19_500, FaultSpec::TransferLeader),
            step(21_000, FaultSpec::TransferLeader),
        ])
        .await;
        assert_eq!(walked.tried, 1);
        assert_eq!(turns, [("transfer", true), ("transfer", false)]);
    }

    #[tokio::test(start_paused = true)]
    async fn healing_that_does_not_end_is_told() {
        let stage = Stage {
            started: Instant::now(),
            turns: RefCell::default(),
        };
        let history = Recorder::new();
        let healed = heal(&Book::new(&stage, &history), Duration::from_secs(120)).await;
        assert_eq!(healed, Err("not done within 120 s".to_owned()));
        let events = history.finish().expect("a history");
        assert_eq!(events.last().map(|event| event.kind), Some(Kind::Info));
    }
}
