//! The brokers that the clients talk to, as one: a node alone or a cluster.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::Duration;

use super::install::Workshop;
use super::node::{Node, build};

/// How long every node lives between two kills: time for the killed one to catch up.
const REST: Duration = Duration::from_millis(1_000);
/// How long a killed node stays away.
const ABSENCE: Duration = Duration::from_millis(500);
/// How often a rest looks whether it is over.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Brokers that were started here.
pub(crate) struct Cluster {
    nodes: Vec<Node>,
}

impl Cluster {
    /// Builds the binary when none is given, and starts so many nodes of ours.
    pub(crate) fn start(
        workshop: &Workshop,
        binary: Option<&Path>,
        count: usize,
    ) -> Result<Self, String> {
        let binary = match binary {
            Some(binary) => binary.to_path_buf(),
            None => build()?,
        };
        let nodes = Node::start(workshop, &binary, count)?;
        Ok(Self { nodes })
    }

    /// Installs and starts Apache Kafka.
    pub(crate) fn start_kafka(workshop: &Workshop) -> Result<Self, String> {
        let nodes = vec![Node::start_kafka(workshop)?];
        Ok(Self { nodes })
    }

    /// Where clients find it: every node's address.
    pub(crate) fn bootstrap(&self) -> String {
        let addresses: Vec<String> = self.nodes.iter().map(Node::address).collect();
        addresses.join(",")
    }

    /// Whether it goes on without any one of its nodes.
    pub(crate) fn survives_a_node(&self) -> bool {
        self.nodes.len() > 2
    }

    /// Why a node is not running, when one is not.
    pub(crate) fn death(&mut self) -> Option<String> {
        self.nodes.iter_mut().find_map(Node::death)
    }

    /// Ends every node without warning, all at once, and starts them again.
    pub(crate) fn kill_and_restart(&mut self) -> Result<(), String> {
        self.nodes.iter_mut().try_for_each(Node::kill)?;
        self.nodes.iter_mut().try_for_each(Node::restart)
    }

    /// Kills one node after the other and starts it again, until told to stop; counts them. All of
    /// them run again in the end.
    pub(crate) fn kill_in_turn(
        &mut self,
        stop: &AtomicBool,
        kills: &AtomicUsize,
    ) -> Result<(), String> {
        for at in (0..self.nodes.len()).cycle() {
            if rest(REST, stop) {
                break;
            }
            let node = &mut self.nodes[at];
            node.kill()?;
            kills.fetch_add(1, Ordering::Relaxed);
            rest(ABSENCE, stop);
            node.restart()?;
        }
        Ok(())
    }

    /// Asks every node to end (SIGTERM) and waits for exit code 0.
    pub(crate) fn stop(self) -> Result<(), String> {
        self.nodes.into_iter().try_for_each(Node::stop)
    }
}

/// Whether the rest was cut short.
fn rest(time: Duration, stop: &AtomicBool) -> bool {
    let polls = time.as_millis() / POLL_INTERVAL.as_millis();
    for _ in 0..polls {
        if stop.load(Ordering::Relaxed) {
            return true;
        }
        sleep(POLL_INTERVAL);
    }
    stop.load(Ordering::Relaxed)
}
