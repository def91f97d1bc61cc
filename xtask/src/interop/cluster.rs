//! The brokers that the clients talk to, as one: a node alone or a cluster.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::install::Workshop;
use super::node::{Node, build};
use super::proxy::{Cut, Proxies};
use crate::process::{finish, succeed};

/// How long a cluster may take until every replica is in sync.
const HEALTHY_LIMIT: &str = "120s";
/// For a command of ours, that limit included.
const COMMAND_LIMIT: Duration = Duration::from_secs(150);

/// How often something is looked at again.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Brokers that were started here.
pub(crate) struct Cluster {
    nodes: Vec<Node>,
    proxies: Option<Proxies>,
    /// None when the brokers are not ours.
    binary: Option<PathBuf>,
}

impl Cluster {
    /// Builds the binary when none is given, and starts so many nodes of ours.
    pub(crate) fn start(
        workshop: &Workshop,
        binary: Option<&Path>,
        count: usize,
    ) -> Result<Self, String> {
        Self::start_set(workshop, binary, count, &[])
    }

    /// The same with these settings, each `KEY=VALUE`.
    pub(crate) fn start_set(
        workshop: &Workshop,
        binary: Option<&Path>,
        count: usize,
        settings: &[String],
    ) -> Result<Self, String> {
        let binary = match binary {
            Some(binary) => binary.to_path_buf(),
            None => build()?,
        };
        let (nodes, proxies) = Node::start(workshop, &binary, count, settings)?;
        let cluster = Self {
            nodes,
            proxies,
            binary: Some(binary),
        };
        if count > 1 {
            cluster.wait_healthy()?;
        }
        Ok(cluster)
    }

    /// Installs and starts Apache Kafka.
    pub(crate) fn start_kafka(workshop: &Workshop) -> Result<Self, String> {
        Ok(Self {
            nodes: vec![Node::start_kafka(workshop)?],
            proxies: None,
            binary: None,
        })
    }

    /// Where clients find it: every node's address.
    pub(crate) fn bootstrap(&self) -> String {
        let addresses: Vec<String> = self.nodes.iter().map(Node::address).collect();
        addresses.join(",")
    }

    /// How many nodes it has.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Its nodes' numbers.
    pub(crate) fn ids(&self) -> Vec<u32> {
        self.nodes.iter().map(|node| node.id).collect()
    }

    /// Whether it goes on without any one of its nodes.
    pub(crate) fn survives_a_node(&self) -> bool {
        self.len() > 2
    }

    /// Why a node is not running, when one is not.
    pub(crate) fn death(&mut self) -> Option<String> {
        self.nodes.iter_mut().find_map(Node::death)
    }

    /// The nodes' data directories.
    pub(crate) fn data(&self) -> Vec<PathBuf> {
        self.nodes.iter().map(|node| node.data.clone()).collect()
    }

    /// Our program with these arguments.
    pub(crate) fn command(&self, arguments: &[&str]) -> Result<Command, String> {
        let binary = self.binary.as_ref().ok_or("the brokers are not ours")?;
        let mut command = Command::new(binary);
        command.args(arguments);
        Ok(command)
    }

    /// Waits until every node lives and every replica is in sync, as each of them sees it.
    pub(crate) fn wait_healthy(&self) -> Result<(), String> {
        let count = self.len().to_string();
        self.nodes.iter().try_for_each(|node| {
            let wait = ["cluster", "wait", "--healthy", "--nodes", &count];
            let how = ["--http", &node.http(), "--timeout", HEALTHY_LIMIT];
            let mut command = self.command(&[&wait[..], &how].concat())?;
            succeed(&mut command, COMMAND_LIMIT).map(|_| ())
        })
    }

    /// The node that leads a topic's only partition, as the first that answers sees it.
    pub(crate) fn leader(&self, topic: &str) -> Option<u32> {
        let mut nodes = self.nodes.iter();
        nodes.find_map(|node| self.leader_seen_by(node, topic))
    }

    /// Waits until every node knows who leads these topics: one that was away learns of them a
    /// moment after the others, and clients remember that it did not know a topic.
    pub(crate) fn wait_known(&self, topics: &[String]) -> Result<(), String> {
        if self.binary.is_none() {
            return Ok(()); // whose nodes cannot be asked
        }
        let deadline = Instant::now() + COMMAND_LIMIT;
        for (node, topic) in (self.nodes.iter()).flat_map(|n| topics.iter().map(move |t| (n, t))) {
            while self.leader_seen_by(node, topic).is_none() {
                if Instant::now() > deadline {
                    return Err(format!("node {} does not know who leads {topic}", node.id));
                }
                sleep(POLL_INTERVAL);
            }
        }
        Ok(())
    }

    fn leader_seen_by(&self, node: &Node, topic: &str) -> Option<u32> {
        let describe = ["topic", "describe", topic, "--replicas", "-o", "json"];
        let how = ["--server", &node.address(), "--timeout", "2s"];
        let mut command = self.command(&[&describe[..], &how].concat()).ok()?;
        let said = finish(&mut command, COMMAND_LIMIT).ok()?.text();
        let (_, leader) = said.split_once("\"leader\":")?;
        let digits = leader.trim_start().split(|c: char| !c.is_ascii_digit());
        let leader = digits.into_iter().next()?.parse().ok()?;
        let mut nodes = self.nodes.iter();
        nodes.any(|node| node.id == leader).then_some(leader)
    }

    /// Ends every node without warning, all at once, and starts them again.
    pub(crate) fn kill_and_restart(&mut self) -> Result<(), String> {
        self.nodes.iter_mut().try_for_each(Node::kill)?;
        self.nodes.iter_mut().try_for_each(Node::restart)
    }

    /// Ends these nodes without warning.
    pub(crate) fn kill(&mut self, ids: &[u32]) -> Result<(), String> {
        self.chosen(ids).try_for_each(Node::kill)
    }

    /// Starts these nodes again.
    pub(crate) fn restart(&mut self, ids: &[u32]) -> Result<(), String> {
        self.chosen(ids).try_for_each(Node::restart)
    }

    /// Sends these nodes a signal, by its name without `SIG`.
    pub(crate) fn signal(&mut self, name: &str, ids: &[u32]) -> Result<(), String> {
        self.chosen(ids).try_for_each(|node| node.signal(name))
    }

    fn chosen(&mut self, ids: &[u32]) -> impl Iterator<Item = &mut Node> {
        let nodes = self.nodes.iter_mut();
        nodes.filter(|node| ids.contains(&node.id))
    }

    /// Cuts a node off from the others, not from the clients.
    pub(crate) fn isolate(&self, node: u32, cut: Cut) -> Result<(), String> {
        self.proxies()?.isolate(node, cut);
        Ok(())
    }

    /// Ends every cut.
    pub(crate) fn heal(&self) -> Result<(), String> {
        self.proxies()?.heal();
        Ok(())
    }

    fn proxies(&self) -> Result<&Proxies, String> {
        let proxies = self.proxies.as_ref();
        proxies.ok_or_else(|| "nothing stands between the nodes".to_owned())
    }

    /// Asks these nodes to end (SIGTERM) and waits for exit code 0.
    pub(crate) fn stop_nodes(&mut self, ids: &[u32]) -> Result<(), String> {
        self.chosen(ids).try_for_each(Node::stop)
    }

    /// Asks every node to end (SIGTERM) and waits for exit code 0.
    pub(crate) fn stop(&mut self) -> Result<(), String> {
        self.nodes.iter_mut().try_for_each(Node::stop)
    }
}
