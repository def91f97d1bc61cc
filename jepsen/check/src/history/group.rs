//! What members of a consumer group do, and those who look at it.

use serde::{Deserialize, Serialize};

use super::Key;

/// An operation of a group. Offsets that a history commits for one partition only ever rise: nobody
/// resets them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "group_op", rename_all = "snake_case")]
pub enum Group {
    /// The process becomes a member, or joins anew. It holds nothing meanwhile but what stands in
    /// the invocation. `Ok` when it was told what it owns; `Fail` when it was told nothing, whatever
    /// became of the request.
    Join(Membership),
    /// A sign of life. `Ok` when the member was told that it still is one; `Fail` as above.
    Heartbeat(Membership),
    /// The process holds nothing any more, and says so.
    Leave {
        /// The group.
        group: String,
        /// The member's id.
        member: String,
    },
    /// Offsets are committed, all of them or none.
    Commit {
        /// The group.
        group: String,
        /// The member's id; empty from outside of the group.
        member: String,
        /// The member's generation or epoch; -1 from outside of the group.
        generation: i32,
        /// Of each partition the first offset that was not consumed.
        offsets: Vec<(Key, i64)>,
    },
    /// Committed offsets are looked at.
    Committed {
        /// The group.
        group: String,
        /// What is committed, -1 for nothing; in the invocation what is asked for.
        offsets: Vec<(Key, i64)>,
    },
}

/// How a member takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// It joins, syncs and heartbeats.
    Classic,
    /// It heartbeats only (KIP-848).
    Consumer,
}

/// A member of a group and what it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// The group.
    pub group: String,
    /// The member's id; empty while it has none.
    pub member: String,
    /// The id of a static member (KIP-345), which whoever comes after it takes over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// How it takes part.
    pub protocol: Protocol,
    /// The generation (classic protocol) or the member's epoch (KIP-848); -1 while it has none, and
    /// where its client does not tell.
    pub generation: i32,
    /// What it holds when it asks: what it held before and is not here it has given back.
    #[serde(default)]
    pub held: Vec<Key>,
    /// What it is told to own from now on.
    #[serde(default)]
    pub owned: Vec<Key>,
}

impl Group {
    /// What it is called in statistics and pictures.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Group::Join(_) => "join-group",
            Group::Heartbeat(_) => "heartbeat",
            Group::Leave { .. } => "leave-group",
            Group::Commit { .. } => "commit",
            Group::Committed { .. } => "committed",
        }
    }

    /// Which group it is about.
    #[must_use]
    pub fn group(&self) -> &str {
        match self {
            Group::Join(member) | Group::Heartbeat(member) => &member.group,
            Group::Leave { group, .. }
            | Group::Commit { group, .. }
            | Group::Committed { group, .. } => group,
        }
    }

    /// The partitions it names.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        let (held, owned, offsets): (&[Key], &[Key], &[(Key, i64)]) = match self {
            Group::Join(member) | Group::Heartbeat(member) => (&member.held, &member.owned, &[]),
            Group::Leave { .. } => (&[], &[], &[]),
            Group::Commit { offsets, .. } | Group::Committed { offsets, .. } => (&[], &[], offsets),
        };
        let keys = held.iter().chain(owned);
        keys.chain(offsets.iter().map(|(key, _)| key))
    }

    /// Whether a completion is of what was asked.
    pub(super) fn answers(&self, asked: &Group) -> bool {
        match (self, asked) {
            (Group::Join(done), Group::Join(asked))
            | (Group::Heartbeat(done), Group::Heartbeat(asked)) => {
                done.group == asked.group && done.held == asked.held
            }
            (Group::Leave { .. }, Group::Leave { .. })
            | (Group::Commit { .. }, Group::Commit { .. }) => self == asked,
            (
                Group::Committed { group, offsets },
                Group::Committed {
                    group: group_asked,
                    offsets: asked,
                },
            ) => {
                let keys = offsets.iter().map(|(key, _)| key);
                group == group_asked && keys.eq(asked.iter().map(|(key, _)| key))
            }
            _ => false,
        }
    }
}
