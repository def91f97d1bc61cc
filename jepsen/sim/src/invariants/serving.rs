//! Who answers clients: only a leader that has applied an entry of its own term, and one at a time.

use std::collections::BTreeMap;

use storage::{ShardId, Term};

use super::{Broken, Seen};

/// For so long two nodes may serve a shard: a leader that is not heard stops within a time-out, and
/// looks at that now and then.
const BOTH_US_MAX: u64 = 150_000;

/// Since when more than one node serves a shard.
#[derive(Debug, Default)]
pub(crate) struct Serving {
    both_since_us: BTreeMap<ShardId, u64>,
}

impl Serving {
    /// Compares what all nodes say that run.
    pub(crate) fn look(&mut self, time_us: u64, all: &[Seen]) -> Result<(), Broken> {
        let mut by_shard: BTreeMap<ShardId, Vec<(Term, u32)>> = BTreeMap::new();
        for seen in all {
            for shard in &seen.node.shards {
                let Some(term) = shard.serving else { continue };
                by_shard
                    .entry(shard.shard)
                    .or_default()
                    .push((term, seen.id));
                if shard.applied_now.is_none_or(|applied| applied.term < term) {
                    let detail = format!("{term:?} is served before it has an entry: {shard:?}");
                    return Err(Broken::new("serves-in-own-term", seen.id, detail));
                }
            }
        }
        by_shard.retain(|_, serving| serving.len() > 1);
        self.both_since_us
            .retain(|shard, _| by_shard.contains_key(shard));
        for (shard, serving) in by_shard {
            let since_us = *self.both_since_us.entry(shard).or_insert(time_us);
            if let Some((_, node)) = serving.iter().min()
                && time_us.saturating_sub(since_us) > BOTH_US_MAX
            {
                let detail = format!("shard {shard} is served since {since_us} us by {serving:?}");
                return Err(Broken::new("one-serves", *node, detail));
            }
        }
        Ok(())
    }
}
