//! What must hold after every tick, whatever is broken: looked at from outside the nodes.
//!
//! `Invariants` takes what nodes show of themselves (`Broker::inspect`), compares it with what
//! they and all others have ever shown, and says the first thing that cannot be.

mod cluster;
mod commits;
mod memory;
mod replica;
mod serving;
mod shard;
mod silence;

use std::collections::{BTreeMap, BTreeSet};

use broker::inspect::NodeInspection;
use jepsen_workload::fault::NodeId;
use raft::inspect::AppliedEntry;
use serde::Serialize;
use storage::ShardId;

use crate::machine::{Excuse, Machine};
use crate::trace::Trace;
use cluster::Topics;
use memory::Memory;
use replica::Replicas;
use serving::Serving;
use shard::Shards;
use silence::{Shows, Silence};

/// An invariant that did not hold.
#[derive(Debug, Clone, Serialize)]
pub struct Violation {
    /// Which one.
    pub invariant: String,
    /// When, in microseconds since the run began.
    pub time_us: u64,
    /// The node at which it was seen.
    pub node: u32,
    /// The values.
    pub detail: String,
}

/// What was broken, before it is known when.
#[derive(Debug)]
pub(crate) struct Broken {
    invariant: &'static str,
    node: NodeId,
    detail: String,
}

impl Broken {
    fn new(invariant: &'static str, node: NodeId, detail: String) -> Broken {
        Broken {
            invariant,
            node,
            detail,
        }
    }
}

/// What one node shows now.
pub(crate) struct Seen {
    pub(crate) id: NodeId,
    /// Which run of its.
    pub(crate) run: u64,
    /// What may be missing of what the run before had.
    pub(crate) excuse: Excuse,
    pub(crate) node: NodeInspection,
    pub(crate) applied: Vec<(ShardId, Vec<AppliedEntry>)>,
    pub(crate) broker: broker::Broker,
}

/// What all nodes have ever shown.
#[derive(Debug, Default)]
pub(crate) struct Invariants {
    shards: Shards,
    replicas: Replicas,
    serving: Serving,
    topics: Topics,
    memory: Memory,
    silence: Silence,
    looks: u64,
}

impl Invariants {
    /// Looks at all nodes; the first thing that cannot be.
    pub(crate) fn look(
        &mut self,
        time_us: u64,
        machines: &mut BTreeMap<NodeId, Machine>,
        trace: &Trace,
    ) -> Option<Violation> {
        self.looks += 1;
        let mut all = Vec::new();
        for machine in machines.values() {
            let broker = machine.broker();
            let now = match (&broker, machine.is_paused, machine.is_running()) {
                (Some(_), false, _) => Shows::Everything,
                (Some(_), true, _) => Shows::WhatItDid,
                (None, _, true) => Shows::Nothing,
                (None, _, false) => Shows::NoMore,
            };
            self.silence.note(machine.id, now);
            let Some(broker) = broker.filter(|_| now == Shows::Everything) else {
                continue;
            };
            let applied = broker.take_applied();
            for (shard, entries) in &applied {
                for entry in entries {
                    trace.line(
                        "applied",
                        format_args!("{} shard {shard} {entry:?}", machine.id),
                    );
                }
            }
            all.push(Seen {
                id: machine.id,
                run: machine.life(),
                excuse: machine.excuse(),
                node: broker.inspect(),
                applied,
                broker,
            });
        }
        let broken = self.check(time_us, &all, &self.silence.unseen());
        let broken = broken.and_then(|()| self.memory.look(machines, &all));
        let broken = broken.err()?;
        trace.line("violated", format_args!("{broken:?}"));
        Some(Violation {
            invariant: broken.invariant.to_owned(),
            time_us,
            node: broken.node,
            detail: broken.detail,
        })
    }

    fn check(
        &mut self,
        time_us: u64,
        all: &[Seen],
        unseen: &BTreeSet<NodeId>,
    ) -> Result<(), Broken> {
        for seen in all {
            self.shards.applied(seen)?;
            self.replicas.look(seen)?;
            self.topics.look(seen)?;
        }
        self.serving.look(time_us, all)?;
        self.shards.look(all, &self.replicas, unseen)
    }

    /// A node is gone for ever.
    pub(crate) fn forget_node(&mut self, id: NodeId) {
        self.replicas.forget_node(id);
        self.topics.forget_node(id);
        self.memory.forget_node(id);
        self.silence.forget_node(id);
    }
}
