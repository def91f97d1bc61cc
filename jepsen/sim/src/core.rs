//! The simulated world itself: machines, network, time; it goes on tick by tick.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::sync::Arc;

use broker::Broker;
use jepsen_workload::fault::NodeId;
use jepsen_workload::random::Random;
use net::sim::{Host, Network};

use crate::invariants::{Invariants, Violation};
use crate::machine::{Common, Machine, PEERS_PORT, address, paused_runtime};
use crate::trace::Trace;

/// A tick, in microseconds.
const TICK_US: u64 = 1_000;

/// Something to be done between two ticks, outside of every runtime.
pub(crate) type Command = Box<dyn FnOnce(&mut Core)>;
/// What is to be done.
pub(crate) type Commands = Rc<RefCell<VecDeque<Command>>>;

/// Everything there is.
pub(crate) struct Core {
    pub(crate) network: Network,
    pub(crate) machines: BTreeMap<NodeId, Machine>,
    /// The nodes that belong to the cluster, as an operator sees it.
    pub(crate) members: Rc<RefCell<BTreeSet<NodeId>>>,
    /// Nodes that are being drained, to be removed.
    pub(crate) leaving: BTreeSet<NodeId>,
    /// Draws what faults leave open.
    pub(crate) random: Random,
    pub(crate) invariants: Invariants,
    pub(crate) violation: Option<Violation>,
    pub(crate) trace: Trace,
    pub(crate) clients: Host,
    common: Arc<Common>,
    order: Random,
    commands: Commands,
    next_id: NodeId,
}

/// Where all clients live.
fn clients_address() -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 200, 0, 1))
}

/// What the network knows a client by.
pub(crate) fn client_address(client: u32) -> IpAddr {
    let [_, _, high, low] = client.to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(10, 201, high, low))
}

/// What a client calls a node by.
pub(crate) fn alias(client: u32, node: NodeId) -> IpAddr {
    let ([_, _, high, low], [.., node]) = (client.to_be_bytes(), node.to_be_bytes());
    IpAddr::V4(Ipv4Addr::new(11, high, low, node))
}

impl Core {
    /// A world of nodes that are not started yet.
    pub(crate) fn new(common: Common, trace: &Trace) -> Core {
        let seed = common.seed;
        let network = Network::new(seed ^ 0x6e65_7477_6f72_6b21, paused_runtime);
        network.record_events(true);
        let founders = common.founders;
        let common = Arc::new(common);
        let seeds: Vec<String> = (1..=founders).map(seed_address).collect();
        let machines = (1..=founders).map(|id| {
            let machine = Machine::new(id, seeds.clone(), Arc::clone(&common), &network, trace);
            (id, machine)
        });
        let machines = machines.collect();
        Core {
            clients: network.host(clients_address()),
            network,
            machines,
            members: Rc::new(RefCell::new((1..=founders).collect())),
            leaving: BTreeSet::new(),
            random: Random::new(seed ^ 0x6661_756c_7473_2121),
            invariants: Invariants::default(),
            violation: None,
            trace: trace.clone(),
            common,
            order: Random::new(seed ^ 0x6f72_6465_7221_2121),
            commands: Commands::default(),
            next_id: founders + 1,
        }
    }

    /// Where to put what is to be done between ticks.
    pub(crate) fn commands(&self) -> Commands {
        Rc::clone(&self.commands)
    }

    /// Starts every node that does not run.
    pub(crate) fn start_all(&mut self) -> io::Result<()> {
        self.machines.values_mut().try_for_each(Machine::start)
    }

    /// A new machine with an empty disk, whose node shall join; its id.
    pub(crate) fn add_machine(&mut self) -> NodeId {
        let id = self.next_id;
        self.next_id += 1;
        let members: Vec<NodeId> = self.members.borrow().iter().copied().collect();
        let seeds = members.into_iter().map(seed_address).collect();
        let common = Arc::clone(&self.common);
        let machine = Machine::new(id, seeds, common, &self.network, &self.trace);
        self.machines.insert(id, machine);
        id
    }

    /// Takes a machine away for good.
    pub(crate) fn remove_machine(&mut self, id: NodeId) {
        if let Some(mut machine) = self.machines.remove(&id) {
            machine.kill();
        }
        self.members.borrow_mut().remove(&id);
        self.invariants.forget_node(id);
    }

    /// Some node's broker that serves, other than `except`.
    pub(crate) fn any_broker(&mut self, except: Option<NodeId>) -> Option<(NodeId, Broker)> {
        let serving = self.machines.values().filter(|machine| {
            Some(machine.id) != except && !machine.is_paused && machine.broker().is_some()
        });
        let ids: Vec<NodeId> = serving.map(|machine| machine.id).collect();
        let id = self.random.pick(&ids).copied()?;
        Some((id, self.machines.get(&id)?.broker()?))
    }

    /// One tick: what arrives, then every node, then `clients`, then what is to be done, then what
    /// must hold.
    pub(crate) fn tick(&mut self, clients: impl FnOnce()) {
        let now_us = crate::entropy::now_us();
        self.trace.set_now_us(now_us);
        self.network.advance_to(now_us);
        let mut ids: Vec<NodeId> = self.machines.keys().copied().collect();
        while !ids.is_empty() {
            let at = self.order.below(ids.len() as u64);
            let id = ids.swap_remove(usize::try_from(at).unwrap_or(0));
            if let Some(machine) = self.machines.get_mut(&id) {
                machine.tick(now_us + TICK_US);
            }
        }
        {
            let _host = self.clients.enter();
            clients();
        }
        for event in self.network.take_events() {
            self.trace.line("net", format_args!("{event:?}"));
        }
        let seen = self
            .invariants
            .look(now_us, &mut self.machines, &self.trace);
        if self.violation.is_none() {
            self.violation = seen;
        }
        loop {
            let command = self.commands.borrow_mut().pop_front();
            let Some(command) = command else {
                break;
            };
            command(self);
        }
        crate::entropy::set_now_us(now_us + TICK_US);
    }
}

fn seed_address(id: NodeId) -> String {
    format!("{}:{PEERS_PORT}", address(id))
}
