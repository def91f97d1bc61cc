//! Who leads what, as far as answers have told. Pure.
//!
//! A picture that is older than what is known (a lower leader epoch of the same topic) changes
//! nothing: a node that is cut off may go on telling it.

use std::collections::{BTreeMap, HashMap};

use crate::api::{LeaderHint, Metadata};

/// Where nodes are and which partitions they lead.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    nodes: BTreeMap<i32, String>,
    controller: Option<i32>,
    leaders: HashMap<(String, i32), Route>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Route {
    topic_id: [u8; 16],
    leader: Option<i32>,
    leader_epoch: i32,
}

impl Routes {
    /// Takes in what a node told.
    pub(crate) fn learn(&mut self, metadata: &Metadata) {
        for node in &metadata.brokers {
            self.nodes.insert(node.node_id, node.address());
        }
        self.controller = Some(metadata.controller_id).filter(|id| *id >= 0);
        for topic in &metadata.topics {
            for partition in &topic.partitions {
                let told = Route {
                    topic_id: topic.topic_id,
                    leader: Some(partition.leader).filter(|id| *id >= 0),
                    leader_epoch: partition.leader_epoch,
                };
                let key = (topic.name.clone(), partition.index);
                let is_old = self.leaders.get(&key).is_some_and(|known| {
                    known.topic_id == told.topic_id && known.leader_epoch > told.leader_epoch
                });
                if !is_old {
                    self.leaders.insert(key, told);
                }
            }
        }
    }

    /// Takes in what a node told that does not lead the partition (any more). Says whether that
    /// was news.
    pub(crate) fn follow(&mut self, topic: &str, partition: i32, hint: &LeaderHint) -> bool {
        if let Some(address) = &hint.address {
            self.nodes.insert(hint.node_id, address.clone());
        }
        let Some(known) = self.leaders.get_mut(&(topic.to_owned(), partition)) else {
            return false;
        };
        let is_news = hint.leader_epoch > known.leader_epoch
            || (hint.leader_epoch == known.leader_epoch && known.leader != Some(hint.node_id));
        if is_news {
            known.leader = Some(hint.node_id);
            known.leader_epoch = hint.leader_epoch;
        }
        is_news
    }

    /// The leader is not where it was thought to be; its epoch stays known.
    pub(crate) fn forget(&mut self, topic: &str, partition: i32) {
        if let Some(known) = self.leaders.get_mut(&(topic.to_owned(), partition)) {
            known.leader = None;
        }
    }

    /// The leader's node id, when it is known.
    pub(crate) fn leader(&self, topic: &str, partition: i32) -> Option<i32> {
        self.leaders.get(&(topic.to_owned(), partition))?.leader
    }

    /// The controller's node id, when it is known.
    pub(crate) fn controller(&self) -> Option<i32> {
        self.controller
    }

    /// Where a node is.
    pub(crate) fn address(&self, node_id: i32) -> Option<&str> {
        self.nodes.get(&node_id).map(String::as_str)
    }

    /// Where all nodes are.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = &str> {
        self.nodes.values().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorCode;
    use crate::api::{MetadataBroker, MetadataPartition, MetadataTopic};

    fn told(topic_id: u8, leader: i32, leader_epoch: i32) -> Metadata {
        Metadata {
            brokers: vec![MetadataBroker {
                node_id: 1,
                host: "::1".to_owned(),
                port: 9,
                rack: None,
            }],
            cluster_id: None,
            controller_id: 1,
            topics: vec![MetadataTopic {
                error: ErrorCode::NONE,
                name: "t".to_owned(),
                topic_id: [topic_id; 16],
                internal: false,
                partitions: vec![MetadataPartition {
                    error: ErrorCode::NONE,
                    index: 0,
                    leader,
                    leader_epoch,
                    replicas: vec![],
                    in_sync: vec![],
                    offline: vec![],
                }],
            }],
        }
    }

    fn hint(node_id: i32, leader_epoch: i32) -> LeaderHint {
        LeaderHint {
            node_id,
            leader_epoch,
            address: Some("there:7".to_owned()),
        }
    }

    #[test]
    fn an_old_picture_changes_nothing() {
        let mut routes = Routes::default();
        routes.learn(&told(1, 2, 5));
        routes.learn(&told(1, 1, 4));
        assert_eq!(routes.leader("t", 0), Some(2));
        routes.learn(&told(1, 3, 6));
        assert_eq!(routes.leader("t", 0), Some(3));
        assert_eq!(routes.address(1), Some("[::1]:9"));
        routes.learn(&told(9, 1, 0));
        assert_eq!(routes.leader("t", 0), Some(1), "another topic of that name");
    }

    #[test]
    fn a_hint_is_followed_when_it_is_news() {
        let mut routes = Routes::default();
        assert!(!routes.follow("t", 0, &hint(2, 1)), "nothing is known yet");
        routes.learn(&told(1, 2, 5));
        assert!(!routes.follow("t", 0, &hint(2, 5)));
        assert!(!routes.follow("t", 0, &hint(1, 4)));
        assert!(routes.follow("t", 0, &hint(3, 6)));
        assert_eq!(routes.leader("t", 0), Some(3));
        assert_eq!(routes.address(3), Some("there:7"));
        routes.forget("t", 0);
        assert_eq!(routes.leader("t", 0), None);
        routes.learn(&told(1, 2, 5));
        assert_eq!(routes.leader("t", 0), None, "older than what is known");
        routes.learn(&told(1, -1, 7));
        assert_eq!(routes.leader("t", 0), None);
    }
}
