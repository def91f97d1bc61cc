//! [`SimWorld`]: the simulated cluster as clients and the plan of faults see it.
//!
//! Lives in the clients' runtime. What it does to the world it leaves to the main loop, which does it
//! between two ticks.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use broker::Broker;
use jepsen_workload::World;
use jepsen_workload::fault::{Fault, NodeId};
use net::sim::Network;
use tokio::sync::oneshot;

use crate::core::{Commands, Core, alias, client_address};
use crate::faults;
use crate::machine::{address, kafka_address};
use crate::trace::Trace;

/// Why something could not be done to the world.
#[derive(Debug, thiserror::Error)]
pub enum SimError {
    /// The simulation has ended.
    #[error("the simulation has ended")]
    Over,
    /// There is no such node, or none that could do it.
    #[error("no node can do it: {0}")]
    NoNode(String),
    /// A fault could not be made, or its effect was not seen.
    #[error("{0}")]
    NotSeen(String),
}

/// The simulated cluster. Clones stand for the same.
#[derive(Clone)]
pub struct SimWorld {
    commands: Commands,
    members: Rc<RefCell<BTreeSet<NodeId>>>,
    network: Network,
    trace: Trace,
}

impl SimWorld {
    pub(crate) fn new(core: &Core) -> SimWorld {
        SimWorld {
            commands: core.commands(),
            members: Rc::clone(&core.members),
            network: core.network.clone(),
            trace: core.trace.clone(),
        }
    }

    /// Has something done between two ticks, and waits for what comes of it.
    pub(crate) async fn with<R: 'static>(
        &self,
        what: impl FnOnce(&mut Core) -> R + 'static,
    ) -> Result<R, SimError> {
        let (answer, answered) = oneshot::channel();
        self.commands.borrow_mut().push_back(Box::new(move |core| {
            // Who asked may have given up.
            let _ = answer.send(what(core));
        }));
        answered.await.map_err(|_| SimError::Over)
    }

    /// Has some node that serves do something, as one of its tasks.
    pub(crate) async fn on_node<R, F>(
        &self,
        except: Option<NodeId>,
        what: impl FnOnce(Broker) -> F + 'static,
    ) -> Result<R, SimError>
    where
        R: Send + 'static,
        F: Future<Output = R> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let asked = self.with(move |core| {
            let (id, broker) = core.any_broker(except)?;
            let doing = what(broker);
            let machine = core.machines.get(&id)?;
            machine.spawn(async move {
                // Who asked may have given up.
                let _ = answer.send(doing.await);
            });
            Some(())
        });
        let none = || SimError::NoNode("none serves".to_owned());
        asked.await?.ok_or_else(none)?;
        answered.await.map_err(|_| none())
    }

    /// Looks every so often until there is something; nothing after so long.
    pub(crate) async fn eventually<R: 'static>(
        &self,
        within: Duration,
        look: impl Fn(&mut Core) -> Option<R> + Clone + 'static,
    ) -> Result<Option<R>, SimError> {
        let deadline = tokio::time::Instant::now() + within;
        loop {
            if let Some(found) = self.with(look.clone()).await? {
                return Ok(Some(found));
            }
            if tokio::time::Instant::now() >= deadline {
                return Ok(None);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl World for SimWorld {
    type Error = SimError;

    fn nodes(&self) -> Vec<NodeId> {
        self.members.borrow().iter().copied().collect()
    }

    fn kafka_addresses(&self, client: u32) -> Vec<(NodeId, String)> {
        let reached = |node: &NodeId| {
            let alias = alias(client, *node);
            self.network
                .add_alias(alias, client_address(client), address(*node));
            (*node, kafka_address(alias))
        };
        self.members.borrow().iter().map(reached).collect()
    }

    fn now_us(&self) -> u64 {
        crate::entropy::now_us()
    }

    async fn begin(&self, fault: &Fault) -> Result<String, SimError> {
        self.trace.line("fault", format_args!("begins {fault:?}"));
        let done = faults::begin(self, fault).await;
        self.trace.line("fault", format_args!("begun {done:?}"));
        done
    }

    async fn end(&self, fault: &Fault) -> Result<String, SimError> {
        self.trace.line("fault", format_args!("ends {fault:?}"));
        let done = faults::end(self, fault).await;
        self.trace.line("fault", format_args!("ended {done:?}"));
        done
    }

    async fn heal(&self) -> Result<(), SimError> {
        self.trace.line("fault", format_args!("heals"));
        let done = faults::heal(self).await;
        self.trace.line("fault", format_args!("healed {done:?}"));
        done
    }

    fn resources(&self) -> Vec<(NodeId, u64, u64)> {
        Vec::new()
    }
}
