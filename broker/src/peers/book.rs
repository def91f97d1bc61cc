//! Tells the transport who the members are, as the catalogue says.

use std::collections::BTreeMap;

use raft::{PeerMember, Peers};
use storage::NodeId;

use super::message::Address;
use super::service::addresses;
use crate::Broker;
use crate::catalogue::Catalogue;

fn members(addresses: Vec<Address>) -> BTreeMap<NodeId, PeerMember> {
    let member = |address: Address| {
        let member = PeerMember {
            host: address.host,
            port: address.port,
            incarnation: address.incarnation,
        };
        (address.node, member)
    };
    addresses.into_iter().map(member).collect()
}

/// Addresses heard from seeds, for as long as the catalogue says no more than it did then: one
/// that a node has read back from its disk may be older than they are.
#[derive(Debug)]
pub(crate) struct Book {
    heard: BTreeMap<NodeId, PeerMember>,
    before: BTreeMap<NodeId, PeerMember>,
}

impl Book {
    pub(crate) fn new(heard: Vec<Address>, catalogue: &Catalogue) -> Book {
        Book {
            heard: members(heard),
            before: members(addresses(catalogue)),
        }
    }

    /// The members, as far as they are known now.
    fn members(&self, catalogue: &Catalogue) -> BTreeMap<NodeId, PeerMember> {
        let mut all = members(addresses(catalogue));
        for (node, heard) in &self.heard {
            let is_news = all.get(node) != self.before.get(node);
            if !is_news && !catalogue.removed_nodes.contains(node) {
                all.insert(*node, heard.clone());
            }
        }
        all
    }

    pub(crate) fn tell(&self, peers: &Peers, catalogue: &Catalogue) {
        // First, and also while nothing is known: whoever is neither listed nor removed is let in,
        // or the leader could not bring the catalogue to a node that has just joined.
        peers.set_removed(catalogue.removed_nodes.clone());
        peers.set_members(self.members(catalogue));
    }
}

impl Broker {
    /// Runs until it is dropped.
    pub(crate) async fn keep_book_forever(self, book: Book) {
        let mut images = self.inner.images.clone();
        loop {
            let catalogue = images.borrow_and_update().clone();
            book.tell(&self.inner.peers, &catalogue);
            if images.changed().await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::{Node, NodeState};

    fn catalogue(port: u16) -> Catalogue {
        let node = Node {
            id: NodeId(1),
            incarnation: [1; 16],
            rack: None,
            listeners: BTreeMap::from([("peers".to_owned(), ("h".to_owned(), port))]),
            state: NodeState::Active,
        };
        Catalogue {
            nodes: BTreeMap::from([(NodeId(1), node)]),
            ..Catalogue::default()
        }
    }

    fn heard(node: u32, port: u16) -> Address {
        Address {
            node: NodeId(node),
            incarnation: [1; 16],
            host: "h".to_owned(),
            port,
        }
    }

    #[test]
    fn what_seeds_say_counts_until_the_catalogue_says_more() {
        let book = Book::new(vec![heard(1, 20), heard(2, 30)], &catalogue(10));
        let port = |catalogue: &Catalogue, node| {
            let members = book.members(catalogue);
            members.get(&NodeId(node)).map(|member| member.port)
        };
        assert_eq!(port(&catalogue(10), 1), Some(20));
        assert_eq!(port(&catalogue(25), 1), Some(25));
        assert_eq!(port(&catalogue(25), 2), Some(30));
        let removed = Catalogue {
            removed_nodes: [NodeId(2)].into(),
            ..catalogue(25)
        };
        assert_eq!(port(&removed, 2), None);
    }
}
