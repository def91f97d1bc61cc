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

impl Member {
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
