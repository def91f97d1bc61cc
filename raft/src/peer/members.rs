//! The book: who this node is, who the others are, and who may come in. Pure.

use std::collections::{BTreeMap, BTreeSet};

use storage::NodeId;

use super::hello::{Hello, Purpose, Welcome};
use super::{PeerIdentity, PeerMember, Refusal, RefusedReason};

#[derive(Debug, Default)]
pub(super) struct Book {
    /// Drawn when this process started.
    pub(super) instance: [u8; 16],
    pub(super) identity: Option<PeerIdentity>,
    /// `None` until somebody said.
    pub(super) members: Option<BTreeMap<NodeId, PeerMember>>,
    /// `None` until somebody said; then what is not in here may be newer than `members`.
    pub(super) removed: Option<BTreeSet<NodeId>>,
}

fn refusal(reason: RefusedReason, sentence: String) -> Refusal {
    Refusal { reason, sentence }
}

impl Book {
    /// The listed members but this node, once this node knows who it is.
    pub(super) fn others(&self) -> BTreeMap<NodeId, PeerMember> {
        let (Some(identity), Some(members)) = (&self.identity, &self.members) else {
            return BTreeMap::new();
        };
        let mut others = members.clone();
        others.remove(&identity.node);
        others
    }

    /// The hello with which this node introduces itself to a member.
    pub(super) fn hello(&self, purpose: Purpose, to: NodeId, member: &PeerMember) -> Option<Hello> {
        let identity = self.identity.as_ref()?;
        Some(Hello {
            purpose,
            from: identity.node,
            incarnation: identity.incarnation,
            to,
            to_incarnation: member.incarnation,
            instance: self.instance,
            cluster_id: identity.cluster_id.clone(),
        })
    }

    /// The answer to a hello.
    pub(super) fn welcome(&self, hello: &Hello) -> Welcome {
        let refusal = match hello.purpose {
            Purpose::Stranger => None,
            Purpose::Link(_) => self.judge(hello).err(),
        };
        self.signed(refusal)
    }

    /// A welcome in this node's name.
    pub(super) fn signed(&self, refusal: Option<Refusal>) -> Welcome {
        let (node, incarnation) = self
            .identity
            .as_ref()
            .map_or((NodeId(0), [0; 16]), |identity| {
                (identity.node, identity.incarnation)
            });
        Welcome {
            node,
            incarnation,
            refusal,
        }
    }

    fn judge(&self, hello: &Hello) -> Result<(), Refusal> {
        use RefusedReason::{NotReady, NotThatNode, WrongCluster, WrongIncarnation};
        let Some(identity) = &self.identity else {
            let sentence = "this node belongs to no cluster yet".to_owned();
            return Err(refusal(NotReady, sentence));
        };
        if hello.cluster_id != identity.cluster_id {
            let sentence = format!(
                "node {} belongs to cluster {}, the caller to {}",
                identity.node,
                identity.cluster_id,
                hello.cluster_id.escape_debug()
            );
            return Err(refusal(WrongCluster, sentence));
        }
        if hello.to != identity.node {
            let sentence = format!("this is node {}, not {}", identity.node, hello.to);
            return Err(refusal(NotThatNode, sentence));
        }
        if hello.to_incarnation != identity.incarnation {
            let sentence = format!(
                "node {} runs on another data directory than the caller's catalogue lists",
                identity.node
            );
            return Err(refusal(WrongIncarnation, sentence));
        }
        if hello.from == identity.node {
            let sentence = format!(
                "the caller says that it is node {}, which is this one",
                identity.node
            );
            return Err(refusal(WrongIncarnation, sentence));
        }
        self.admits(hello.from, hello.incarnation)
    }

    /// Whether that node may be linked with this one.
    pub(super) fn admits(&self, node: NodeId, incarnation: [u8; 16]) -> Result<(), Refusal> {
        let unknown = |sentence| Err(refusal(RefusedReason::UnknownNode, sentence));
        if self
            .removed
            .as_ref()
            .is_some_and(|removed| removed.contains(&node))
        {
            return unknown(format!(
                "node {node} was removed from the cluster; start it with an empty data directory to join as a new node"
            ));
        }
        let Some(members) = &self.members else {
            return Ok(());
        };
        match members.get(&node) {
            Some(member) if member.incarnation == incarnation => Ok(()),
            Some(_) => Err(refusal(
                RefusedReason::WrongIncarnation,
                format!(
                    "node {node} is listed with another data directory; a node that lost its own joins as a new node"
                ),
            )),
            None if self.removed.is_some() => Ok(()),
            None => unknown(format!("node {node} is not a member of the cluster")),
        }
    }

    /// What is wrong with a peer that let this node in, if anything.
    pub(super) fn check_welcome(
        to: NodeId,
        member: &PeerMember,
        welcome: &Welcome,
    ) -> Result<(), Refusal> {
        if let Some(refusal) = &welcome.refusal {
            return Err(refusal.clone());
        }
        if welcome.node != to {
            let sentence = format!("node {} answers there, not {to}", welcome.node);
            return Err(refusal(RefusedReason::NotThatNode, sentence));
        }
        if welcome.incarnation != member.incarnation {
            let sentence = format!("node {to} runs on another data directory than is listed");
            return Err(refusal(RefusedReason::WrongIncarnation, sentence));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::Lane;

    fn member(incarnation: u8) -> PeerMember {
        PeerMember {
            host: "h".to_owned(),
            port: 1,
            incarnation: [incarnation; 16],
        }
    }

    fn book() -> Book {
        Book {
            instance: [11; 16],
            identity: Some(PeerIdentity {
                cluster_id: "c".to_owned(),
                node: NodeId(1),
                incarnation: [1; 16],
            }),
            members: Some(BTreeMap::from([
                (NodeId(1), member(1)),
                (NodeId(2), member(2)),
            ])),
            removed: None,
        }
    }

    fn hello(from: u32, change: impl FnOnce(&mut Hello)) -> Hello {
        let mut hello = Hello {
            purpose: Purpose::Link(Lane::Control),
            from: NodeId(from),
            incarnation: [u8::try_from(from).unwrap(); 16],
            to: NodeId(1),
            to_incarnation: [1; 16],
            instance: [12; 16],
            cluster_id: "c".to_owned(),
        };
        change(&mut hello);
        hello
    }

    #[track_caller]
    fn check(book: &Book, hello: &Hello, expected: Option<RefusedReason>) {
        let refusal = book.welcome(hello).refusal;
        assert_eq!(refusal.map(|refusal| refusal.reason), expected);
    }

    #[test]
    fn each_wrong_word_has_its_refusal() {
        use RefusedReason::*;
        let book = book();
        check(&book, &hello(2, |_| ()), None);
        check(
            &book,
            &hello(2, |h| h.cluster_id.push('x')),
            Some(WrongCluster),
        );
        check(&book, &hello(2, |h| h.to = NodeId(3)), Some(NotThatNode));
        check(
            &book,
            &hello(2, |h| h.to_incarnation = [9; 16]),
            Some(WrongIncarnation),
        );
        check(
            &book,
            &hello(2, |h| h.incarnation = [9; 16]),
            Some(WrongIncarnation),
        );
        check(&book, &hello(1, |_| ()), Some(WrongIncarnation));
        check(&book, &hello(3, |_| ()), Some(UnknownNode));
        check(&book, &hello(3, |h| h.purpose = Purpose::Stranger), None);
        check(&Book::default(), &hello(2, |_| ()), Some(NotReady));
    }

    #[test]
    fn who_is_neither_listed_nor_removed_may_be_newer_than_the_list() {
        let mut book = book();
        book.removed = Some(BTreeSet::from([NodeId(3)]));
        check(&book, &hello(3, |_| ()), Some(RefusedReason::UnknownNode));
        check(&book, &hello(4, |_| ()), None);
        book.members = None;
        book.removed = None;
        check(&book, &hello(3, |_| ()), None);
    }
}
