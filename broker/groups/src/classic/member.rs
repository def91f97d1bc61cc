//! A member of a classic group.

use std::collections::BTreeSet;

use bytes::Bytes;
use coordinator::ReplyId;

use crate::command::{Client, GroupProtocol};

/// A member of a classic group, as the leader of the coordinator knows it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Member {
    pub(crate) instance_id: Option<String>,
    pub(crate) client: Client,
    pub(crate) session_timeout_ms: i32,
    pub(crate) rebalance_timeout_ms: i32,
    /// The best first.
    pub(crate) protocols: Vec<GroupProtocol>,
    /// What the leader gave it; empty until then.
    pub(crate) assignment: Bytes,
    /// It has never been told that it is a member, so that it cannot heartbeat.
    pub(super) is_new: bool,
    /// Its JoinGroup that waits. Changed by `Live` only, which counts them.
    pub(super) join: Option<ReplyId>,
    /// Its SyncGroup that waits.
    pub(super) sync: Option<ReplyId>,
}

/// About what a member takes in memory besides its texts.
const FIELDS_BYTES: usize = 256;

impl Member {
    /// About what it takes in memory, without what it is assigned.
    pub(super) fn bytes(&self) -> usize {
        let protocols = self.protocols.iter();
        let protocols = protocols.map(|one| one.name.len() + one.metadata.len());
        let protocols = protocols.map(|bytes| bytes + size_of::<GroupProtocol>());
        self.texts_bytes() + protocols.sum::<usize>()
    }

    /// At most what it takes in the group's record, without what it is assigned.
    pub(super) fn record_bytes(&self) -> usize {
        let metadata = self.protocols.iter().map(|one| one.metadata.len());
        self.texts_bytes() + metadata.max().unwrap_or(0)
    }

    fn texts_bytes(&self) -> usize {
        let instance = self.instance_id.as_ref().map_or(0, String::len);
        // The member's id begins with one of the two.
        FIELDS_BYTES + 2 * (instance + self.client.id.len()) + self.client.host.len()
    }

    pub(crate) fn is_static(&self) -> bool {
        self.instance_id.is_some()
    }

    /// The names of its protocols, each once.
    pub(super) fn protocol_names(&self) -> BTreeSet<&str> {
        self.protocols
            .iter()
            .map(|protocol| protocol.name.as_str())
            .collect()
    }

    /// Its metadata for a protocol; empty when it does not support it.
    pub(crate) fn metadata(&self, protocol: &str) -> Bytes {
        let of_name = |one: &&GroupProtocol| one.name == protocol;
        self.protocols
            .iter()
            .find(of_name)
            .map(|one| one.metadata.clone())
            .unwrap_or_default()
    }

    /// It waits for an answer, so that silence means nothing. A new member's wait has an end.
    pub(super) fn is_excused(&self) -> bool {
        !self.is_new && (self.join.is_some() || self.sync.is_some())
    }
}
