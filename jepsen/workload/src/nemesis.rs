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
