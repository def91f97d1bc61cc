//! What a node that came back has on its disk: kept where nobody else has it, dropped where the
//! shard has gone on without it, left alone while that is open.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use raft::Floor;
use storage::data_dir::{DataDir, Returning};
use storage::{NodeId, ShardId};

use crate::Broker;
use crate::catalogue::{Catalogue, Void};

/// How far the return has come; nothing for a node that is not returning.
#[derive(Debug, Default)]
pub(crate) struct Return {
    state: Mutex<Option<Returning>>,
}

/// What is to be done about one shard before it is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is opened as it is.
    Open,
    /// What is here is as good as it is: nobody else has anything of it.
    Keep,
    /// What is here is dropped, and the shard begins empty with this to remember.
    Renew(Floor),
    /// It remembers this, if it has not been opened since.
    Remember(Floor),
    /// It is no more; what is here is dropped.
    Drop,
    /// It must not be opened yet.
    Wait,
}

/// `is_stale`: what is here is from before the return.
fn fate(catalogue: &Catalogue, shard: ShardId, node: NodeId, is_stale: bool) -> Fate {
    match (catalogue.void(shard, node), is_stale) {
        (Some(Void::Waiting), _) => Fate::Wait,
        (Some(Void::Cleared(floor)), true) => Fate::Renew(floor),
        (Some(Void::Cleared(floor)), false) => Fate::Remember(floor),
        (None | Some(Void::Accepted), true) if !catalogue.shards.contains_key(&shard) => Fate::Drop,
        (None | Some(Void::Accepted), true) => Fate::Keep,
        (None | Some(Void::Accepted), false) => Fate::Open,
    }
}

impl Return {
    pub(crate) fn new(returning: Option<Returning>) -> Return {
        Return {
            state: Mutex::new(returning),
        }
    }

    fn is_stale(&self, shard: ShardId) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = state.as_ref();
        state.is_some_and(|returning| returning.stale.contains(&shard))
    }

    /// Notes that what is here of a shard is not stale any more. When nothing is, the node has
    /// returned.
    fn settle(&self, data_dir: &DataDir, shard: Option<ShardId>) -> Result<(), String> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(mut returning) = state.clone() else {
            return Ok(());
        };
        if let Some(shard) = shard {
            returning.stale.remove(&shard);
        }
        let stored = if returning.stale.is_empty() {
            data_dir.clear_returning()
        } else {
            data_dir.set_returning(&returning)
        };
        stored.map_err(|error| error.to_string())?;
        *state = (!returning.stale.is_empty()).then_some(returning);
        if state.is_none() {
            tracing::info!("this node has returned to every shard that waited for it");
        }
        Ok(())
    }
}

impl Broker {
    /// Which of these shards may be opened by this catalogue, after what must be done to them.
    pub(crate) async fn without_voids(
        &self,
        catalogue: &Catalogue,
        shards: BTreeSet<ShardId>,
    ) -> BTreeSet<ShardId> {
        let mut open = BTreeSet::new();
        for shard in shards {
            match self.prepare(catalogue, shard).await {
                Ok(true) => {
                    open.insert(shard);
                }
                Ok(false) => {}
                Err(reason) => {
                    tracing::warn!(%shard, reason, "a shard cannot be begun anew yet");
                }
            }
        }
        open
    }

    /// Whether a shard may be opened.
    async fn prepare(&self, catalogue: &Catalogue, shard: ShardId) -> Result<bool, String> {
        let returning = &self.inner.returning;
        let host = &self.inner.host;
        let fate = fate(catalogue, shard, self.node_id(), returning.is_stale(shard));
        if matches!(fate, Fate::Renew(_) | Fate::Drop) {
            // Nothing of it was opened since the memory was lost.
            let destroyed = host.destroy_shard(shard).await;
            destroyed.map_err(|error| error.to_string())?;
        }
        if let Fate::Renew(floor) | Fate::Remember(floor) = fate {
            let raised = host.raise_floor(shard, floor).await;
            raised.map_err(|error| error.to_string())?;
        }
        match fate {
            Fate::Keep => tracing::warn!(%shard,
                "nobody else has this shard: what was answered in the last moments before power \
                 went may be gone"),
            Fate::Renew(_) => tracing::info!(%shard,
                "dropped what this node had of a shard; others fill it anew"),
            Fate::Drop => {
                tracing::info!(%shard, "dropped what this node had of a shard of the past")
            }
            Fate::Open | Fate::Remember(_) | Fate::Wait => {}
        }
        if matches!(fate, Fate::Keep | Fate::Renew(_) | Fate::Drop) {
            returning.settle(&self.inner.data_dir, Some(shard))?;
        }
        Ok(!matches!(fate, Fate::Wait | Fate::Drop))
    }

    /// Looks after what is stale here and of no shard that is assigned to this node. A return that
    /// left nothing stale is over.
    pub(crate) async fn settle_stale(&self, catalogue: &Catalogue) {
        let stale: BTreeSet<ShardId> = {
            let state = self.inner.returning.state.lock();
            let state = state.unwrap_or_else(PoisonError::into_inner);
            state
                .as_ref()
                .map_or_else(BTreeSet::new, |returning| returning.stale.clone())
        };
        let unassigned = stale
            .into_iter()
            .filter(|shard| self.data_shard(*shard).is_none())
            .collect();
        self.without_voids(catalogue, unassigned).await;
        if let Err(reason) = self.inner.returning.settle(&self.inner.data_dir, None) {
            tracing::warn!(reason, "cannot note how far the return has come");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::{Factor, Shard, Voids};

    #[test]
    fn what_is_here_is_kept_dropped_or_left_alone_as_the_catalogue_says() {
        let (shard, node) = (ShardId(1), NodeId(3));
        let at = |void: Option<Void>, is_stale| {
            let mut catalogue = Catalogue::default();
            let entry = Shard::new(shard, vec![node], Factor::Auto);
            catalogue.shards.insert(shard, entry);
            catalogue.voids = Voids::from_iter(void.map(|void| (shard, [(node, void)].into())));
            fate(&catalogue, shard, node, is_stale)
        };
        let floor = Floor::default();
        let cleared = Some(Void::Cleared(floor));
        assert_eq!(at(None, false), Fate::Open);
        assert_eq!(at(None, true), Fate::Keep);
        assert_eq!(at(Some(Void::Accepted), true), Fate::Keep);
        assert_eq!(at(Some(Void::Accepted), false), Fate::Open);
        assert_eq!(at(Some(Void::Waiting), true), Fate::Wait);
        assert_eq!(at(Some(Void::Waiting), false), Fate::Wait);
        assert_eq!(at(cleared, true), Fate::Renew(floor));
        assert_eq!(at(cleared, false), Fate::Remember(floor));
        let gone = fate(&Catalogue::default(), shard, node, true);
        assert_eq!(gone, Fate::Drop);
    }
}
