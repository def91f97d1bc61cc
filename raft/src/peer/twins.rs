//! Two processes that run as one node, most often from a copied data directory. The one that is
//! connected and heard of keeps its place; the other is refused and the operator told. A process
//! that was restarted looks the same until its forerunner's connection closes or falls silent. Pure.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use storage::NodeId;
use tokio::time::Instant;

use super::{Refusal, RefusedReason};

/// While it lasts, it is told again after so long.
const TOLD_EVERY: Duration = Duration::from_secs(60);
/// Nodes kept in mind.
const NODES_MAX: usize = 256;

/// The process that holds a node's place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Holder {
    pub(super) address: SocketAddr,
    /// When something came from it last.
    pub(super) heard_at: Instant,
}

/// The processes that were refused because another holds their node's place.
#[derive(Debug, Default)]
pub(super) struct Twins {
    refused: BTreeMap<NodeId, Twin>,
}

#[derive(Debug)]
struct Twin {
    instance: [u8; 16],
    since: Instant,
    told_at: Option<Instant>,
}

impl Twins {
    /// Judges `instance`, which calls from `address` while another process holds the place of
    /// `node`: `None` when that one was not heard of for `silence_max`.
    pub(super) fn judge(
        &mut self,
        node: NodeId,
        (instance, address): ([u8; 16], SocketAddr),
        holder: Holder,
        silence_max: Duration,
        now: Instant,
    ) -> Option<Refusal> {
        if now.saturating_duration_since(holder.heard_at) >= silence_max {
            self.forget(node);
            return None;
        }
        if self.refused.len() >= NODES_MAX && !self.refused.contains_key(&node) {
            self.refused.clear();
        }
        let fresh = || Twin {
            instance,
            since: now,
            told_at: None,
        };
        let twin = self.refused.entry(node).or_insert_with(fresh);
        if twin.instance != instance {
            *twin = fresh();
        }
        // What a dead process sent last may be read after its successor's first words, not later.
        let holder_lives = holder.heard_at >= twin.since + silence_max / 3;
        let older = holder.address;
        if !holder_lives {
            return Some(Refusal {
                reason: RefusedReason::NotReady,
                sentence: format!(
                    "a process of node {node} is still connected from {older}; its successor is let in when that connection closes or falls silent"
                ),
            });
        }
        let is_news = twin
            .told_at
            .is_none_or(|told_at| now >= told_at + TOLD_EVERY);
        if is_news {
            twin.told_at = Some(now);
            tracing::error!(
                %node, %older, newer = %address,
                "node {node} runs twice: one process is connected from {older}, another calls from {address} and is refused; stop one of them (a copied data directory?)"
            );
        }
        Some(Refusal {
            reason: RefusedReason::RunsTwice,
            sentence: format!(
                "another process runs as node {node}, connected from {older}; stop one of them"
            ),
        })
    }

    /// The node's place was taken, or is free.
    pub(super) fn forget(&mut self, node: NodeId) {
        self.refused.remove(&node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId(2);
    const SILENCE: Duration = Duration::from_secs(3);

    #[test]
    fn a_second_process_is_refused_for_as_long_as_the_first_is_heard() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let mut twins = Twins::default();
        let mut judge = |instance: u8, heard_ms, now_ms| {
            let heard_at = at(heard_ms);
            let holder = Holder { address, heard_at };
            let caller = ([instance; 16], address);
            twins
                .judge(NODE, caller, holder, SILENCE, at(now_ms))
                .map(|refusal| refusal.reason)
        };
        use RefusedReason::{NotReady, RunsTwice};
        // Perhaps the first is dead and this its successor.
        assert_eq!(judge(1, 0, 100), Some(NotReady));
        assert_eq!(judge(1, 150, 200), Some(NotReady));
        assert_eq!(judge(1, 1_100, 1_200), Some(RunsTwice));
        assert_eq!(judge(1, 1_100, 4_000), Some(RunsTwice));
        // A third process may be the second's successor.
        assert_eq!(judge(3, 4_000, 4_050), Some(NotReady));
        // Silent for so long: it is let in.
        assert_eq!(judge(3, 4_000, 7_000), None);
        assert_eq!(judge(1, 7_000, 7_100), Some(NotReady));
    }
}
