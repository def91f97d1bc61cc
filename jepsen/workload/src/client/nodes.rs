//! [`Nodes`]: where nodes are, connections to them, and who leads what, as one client knows it.
//!
//! Addresses come from the world, not from the nodes: a client may reach them by other ones. One
//! that the world does not name is believed from metadata.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use jepsen_check::history::Key;
use kafka_client::api::{LeaderHint, Metadata};
use kafka_client::{ClientError, ConnectOptions, Connection, ErrorCode};
use tokio::time::timeout;

use crate::fault::NodeId;
use crate::random::Random;

/// The longest answer that is read.
const RESPONSE_BYTES_MAX: usize = 64 << 20;

/// What one client knows of the cluster.
#[derive(Debug)]
pub struct Nodes {
    addresses: BTreeMap<NodeId, String>,
    told: BTreeMap<NodeId, String>,
    connections: BTreeMap<NodeId, Rc<Connection>>,
    leaders: BTreeMap<Key, Leader>,
    controller: Option<NodeId>,
    request_timeout: Duration,
    random: Random,
}

/// Who leads a partition; nobody known while `node` is `None`, though its epoch stays known.
#[derive(Debug, Clone, Copy)]
struct Leader {
    node: Option<NodeId>,
    epoch: i32,
}

impl Nodes {
    /// Nothing is connected yet.
    #[must_use]
    pub fn new(
        addresses: Vec<(NodeId, String)>,
        request_timeout: Duration,
        random: Random,
    ) -> Nodes {
        Nodes {
            addresses: addresses.into_iter().collect(),
            told: BTreeMap::new(),
            connections: BTreeMap::new(),
            leaders: BTreeMap::new(),
            controller: None,
            request_timeout,
            random,
        }
    }

    /// Takes in where nodes are now.
    pub fn set_addresses(&mut self, addresses: Vec<(NodeId, String)>) {
        let addresses: BTreeMap<NodeId, String> = addresses.into_iter().collect();
        self.connections.retain(|node, _| {
            addresses
                .get(node)
                .is_none_or(|new| self.addresses.get(node) == Some(new))
        });
        self.addresses = addresses;
    }

    /// The nodes whose addresses are known, in another order each time.
    pub fn all(&mut self) -> Vec<NodeId> {
        let mut nodes: Vec<NodeId> = self.addresses.keys().copied().collect();
        for last in (1..nodes.len()).rev() {
            let limit = u64::try_from(last + 1).expect("a count of nodes");
            let other = usize::try_from(self.random.below(limit)).expect("an index");
            nodes.swap(last, other);
        }
        nodes
    }

    /// The nodes whose addresses are known.
    #[must_use]
    pub fn all_sorted(&self) -> Vec<NodeId> {
        self.addresses.keys().copied().collect()
    }

    /// Where a node is, as far as is known.
    #[must_use]
    pub fn address(&self, node: NodeId) -> Option<&str> {
        let address = self.addresses.get(&node).or_else(|| self.told.get(&node));
        address.map(String::as_str)
    }

    /// The connection to a node, made when there is none.
    ///
    /// # Errors
    ///
    /// When it cannot be made; nothing was sent then.
    pub async fn connection(&mut self, node: NodeId) -> Result<Rc<Connection>, ClientError> {
        if let Some(connection) = self.connections.get(&node) {
            return Ok(Rc::clone(connection));
        }
        let unknown = || ClientError::NotSent(format!("the address of node {node} is not known"));
        let address = self.address(node).ok_or_else(unknown)?;
        let options = ConnectOptions {
            client_id: "jepsen".to_owned(),
            connect_timeout: self.request_timeout / 2,
            request_timeout: self.request_timeout,
            response_bytes_max: RESPONSE_BYTES_MAX,
        };
        let connection = Rc::new(Connection::connect(address, options).await?);
        self.connections.insert(node, Rc::clone(&connection));
        Ok(connection)
    }

    /// Remembers of a failed call that its connection is of no use any more.
    pub fn failed(&mut self, node: NodeId, error: &ClientError) {
        if !matches!(error, ClientError::Refused { .. }) {
            self.connections.remove(&node);
        }
    }

    /// Asks one node after the other for these topics, or all with `None`, until one answers.
    ///
    /// # Errors
    ///
    /// Why the last one did not.
    pub async fn metadata(&mut self, topics: Option<&[&str]>) -> Result<Metadata, ClientError> {
        let mut failure = ClientError::NotSent("no address is known".to_owned());
        for node in self.all() {
            match self.metadata_of(node, topics).await {
                Ok(metadata) => return Ok(metadata),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// Asks this node.
    ///
    /// # Errors
    ///
    /// Why it did not answer.
    pub async fn metadata_of(
        &mut self,
        node: NodeId,
        topics: Option<&[&str]>,
    ) -> Result<Metadata, ClientError> {
        let connection = self.connection(node).await?;
        // A node that is stopped must not take all the time that an operation has.
        let patience = self.request_timeout / 2;
        let answer = timeout(patience, connection.metadata(topics, false)).await;
        let answer = answer.unwrap_or_else(|_| {
            let timeout_ms = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
            Err(ClientError::TimedOut { timeout_ms })
        });
        match answer {
            Ok(metadata) => {
                self.learn(&metadata);
                Ok(metadata)
            }
            Err(error) => {
                self.failed(node, &error);
                Err(error)
            }
        }
    }

    /// The controller, as far as is known.
    #[must_use]
    pub fn controller(&self) -> Option<NodeId> {
        self.controller
    }

    /// Who leads this partition, as far as is known.
    #[must_use]
    pub fn known_leader(&self, key: &Key) -> Option<NodeId> {
        self.leaders.get(key)?.node
    }

    /// Who leads this partition; nodes are asked when that is not known.
    ///
    /// # Errors
    ///
    /// When nobody says who does.
    pub async fn leader(&mut self, key: &Key) -> Result<NodeId, ClientError> {
        if let Some(node) = self.known_leader(key) {
            return Ok(node);
        }
        let metadata = self.metadata(Some(&[key.topic.as_str()])).await?;
        self.known_leader(key)
            .ok_or_else(|| why_no_leader(&metadata, key))
    }

    /// The node that was thought to lead a partition does not, or does not answer. A hint of a newer
    /// leader is followed; without one the next call asks.
    pub fn moved(&mut self, key: &Key, hint: Option<&LeaderHint>) {
        let known = self.leaders.get(key).map_or(-1, |leader| leader.epoch);
        let hint = hint.filter(|hint| hint.leader_epoch > known);
        let leader = Leader {
            node: hint.and_then(|hint| NodeId::try_from(hint.node_id).ok()),
            epoch: hint.map_or(known, |hint| hint.leader_epoch),
        };
        self.leaders.insert(key.clone(), leader);
    }

    fn learn(&mut self, metadata: &Metadata) {
        for node in &metadata.brokers {
            if let Ok(id) = NodeId::try_from(node.node_id) {
                self.told.insert(id, node.address());
            }
        }
        self.controller = NodeId::try_from(metadata.controller_id).ok();
        for topic in &metadata.topics {
            for partition in &topic.partitions {
                let key = Key {
                    topic: topic.name.clone(),
                    partition: partition.index,
                };
                let epoch = partition.leader_epoch;
                // A node that is cut off may go on telling an old picture.
                if self
                    .leaders
                    .get(&key)
                    .is_none_or(|known| known.epoch <= epoch)
                {
                    let node = NodeId::try_from(partition.leader).ok();
                    self.leaders.insert(key, Leader { node, epoch });
                }
            }
        }
    }
}

fn why_no_leader(metadata: &Metadata, key: &Key) -> ClientError {
    let topic = metadata.topics.iter().find(|topic| topic.name == key.topic);
    let Some(topic) = topic else {
        return ClientError::Malformed("the topic asked for is not in the answer");
    };
    let told = topic
        .partitions
        .iter()
        .find(|told| told.index == key.partition);
    let code = match topic.error {
        ErrorCode::NONE => told.map_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, |told| told.error),
        error => error,
    };
    match code {
        // Led by somebody of an epoch that is known to be over.
        ErrorCode::NONE => ErrorCode::LEADER_NOT_AVAILABLE.into(),
        code => code.into(),
    }
}

#[cfg(test)]
mod tests {
    use kafka_client::api::{MetadataBroker, MetadataPartition, MetadataTopic};

    use super::*;

    fn key() -> Key {
        Key {
            topic: "t".to_owned(),
            partition: 0,
        }
    }

    fn told(leader: i32, leader_epoch: i32) -> Metadata {
        let broker = |node_id| MetadataBroker {
            node_id,
            host: "told".to_owned(),
            port: 9_000 + node_id,
            rack: None,
        };
        let partition = MetadataPartition {
            error: ErrorCode::NONE,
            index: 0,
            leader,
            leader_epoch,
            replicas: vec![1, 2],
            in_sync: vec![1, 2],
            offline: vec![],
        };
        Metadata {
            brokers: vec![broker(1), broker(2)],
            cluster_id: None,
            controller_id: 2,
            topics: vec![MetadataTopic {
                error: ErrorCode::NONE,
                name: "t".to_owned(),
                topic_id: [1; 16],
                internal: false,
                partitions: vec![partition],
            }],
        }
    }

    fn nodes() -> Nodes {
        let addresses = vec![(1, "world:1".to_owned()), (2, "world:2".to_owned())];
        Nodes::new(addresses, Duration::from_secs(1), Random::new(1))
    }

    fn hint(node_id: i32, leader_epoch: i32) -> LeaderHint {
        LeaderHint {
            node_id,
            leader_epoch,
            address: None,
        }
    }

    #[test]
    fn an_old_picture_of_leaders_changes_nothing() {
        let mut nodes = nodes();
        nodes.learn(&told(2, 5));
        nodes.learn(&told(1, 4));
        assert_eq!(nodes.known_leader(&key()), Some(2));
        nodes.moved(&key(), None);
        assert_eq!(nodes.known_leader(&key()), None);
        nodes.learn(&told(2, 4));
        assert_eq!(nodes.known_leader(&key()), None, "older than what is known");
        nodes.learn(&told(-1, 6));
        assert_eq!(nodes.known_leader(&key()), None);
        nodes.learn(&told(1, 6));
        assert_eq!(nodes.known_leader(&key()), Some(1));
        assert_eq!(nodes.controller(), Some(2));
    }

    #[test]
    fn only_a_hint_of_a_newer_leader_is_followed() {
        let mut nodes = nodes();
        nodes.learn(&told(2, 5));
        nodes.moved(&key(), Some(&hint(1, 6)));
        assert_eq!(nodes.known_leader(&key()), Some(1));
        nodes.moved(&key(), Some(&hint(2, 6)));
        assert_eq!(nodes.known_leader(&key()), None, "no news: it is asked for");
    }

    #[test]
    fn the_world_says_where_nodes_are_and_metadata_only_where_others_are() {
        let mut nodes = nodes();
        nodes.learn(&told(1, 1));
        assert_eq!(nodes.address(1), Some("world:1"));
        nodes.set_addresses(vec![(2, "world:9".to_owned())]);
        assert_eq!(nodes.address(1), Some("told:9001"));
        assert_eq!(nodes.address(2), Some("world:9"));
        assert_eq!(nodes.address(7), None);
        assert_eq!(nodes.all(), [2]);
    }
}
