//! The controller as a running thing: on the catalogue's leader, and only there, it looks, plans
//! and carries out, round after round.

use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;

use super::memory::Memory;
use super::plan::{Action, ShardView, View, plan, wanted_list};
use super::settings::Settings;
use super::stalls::{GivenUp, Stalls};
use crate::catalogue::command::Command;
use crate::catalogue::{Catalogue, Shard};
use crate::{Broker, BrokerError};

/// Time between two rounds.
const INTERVAL: Duration = Duration::from_millis(500);
/// Least time between two rounds, when much changes.
const PAUSE: Duration = Duration::from_millis(100);

impl Broker {
    /// Runs until it is dropped.
    pub(crate) async fn control_forever(self) {
        let mut leadership = self.inner.catalogue_shard.leadership();
        let mut images = self.inner.images.clone();
        let settings = Settings::default();
        loop {
            if leadership.wait_for(|now| now.serving).await.is_err() {
                return;
            }
            let mut memory = Memory::default();
            while leadership.borrow().serving {
                images.borrow_and_update();
                self.control(&mut memory, &settings).await;
                tokio::time::sleep(PAUSE).await;
                tokio::select! {
                    changed = images.changed() => if changed.is_err() { return },
                    changed = leadership.changed() => if changed.is_err() { return },
                    () = tokio::time::sleep(INTERVAL) => {}
                }
            }
        }
    }

    async fn control(&self, memory: &mut Memory, settings: &Settings) {
        let catalogue = self.catalogue();
        let view = self.controller_view(&catalogue, |_| true);
        let now_ms = self.inner.clock.monotonic_ms();
        memory.observe(&catalogue, &view, now_ms);
        let stalls = self.stalls().clone();
        let known = (&*memory, &stalls);
        let actions = plan(&catalogue, &view, known, settings, now_ms);
        memory.note(&actions, now_ms);
        let actions = actions.into_iter();
        join_all(actions.map(|action| self.act(&catalogue, action))).await;
    }

    /// Changes of members that get nowhere, as every node sees them.
    pub(crate) fn stalls(&self) -> MutexGuard<'_, Stalls> {
        let stalls = self.inner.stalls.lock();
        stalls.unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in, from what is reported, which changes of members get on.
    pub(crate) fn look_for_stalls(&self) {
        let catalogue = self.catalogue();
        let mut shards = catalogue.shards.values();
        if self.stalls().is_empty() && shards.all(|shard| shard.target.is_none()) {
            return;
        }
        let view = self.controller_view(&catalogue, |shard| shard.target.is_some());
        let (settings, now_ms) = (Settings::default(), self.inner.clock.monotonic_ms());
        let given_up = self.stalls().observe(&catalogue, &view, &settings, now_ms);
        for GivenUp {
            shard,
            node,
            idle_ms,
        } in given_up
        {
            // All nodes see it, and one says it.
            if self.inner.catalogue_shard.leadership().borrow().serving {
                tracing::warn!(%shard, %node, idle_ms,
                    "a new replica does not catch up: it is given up for another node's, if one \
                     can take its place");
            }
        }
    }

    fn controller_view(&self, catalogue: &Catalogue, is_of_interest: fn(&Shard) -> bool) -> View {
        let shards = catalogue
            .shards
            .values()
            .filter(|shard| is_of_interest(shard));
        let shard = |shard: &Shard| {
            let seen = self.shard_seen(shard.id);
            let voters_in_sync = seen.in_sync.intersection(&seen.voters).copied().collect();
            let view = ShardView {
                leader: seen.leader,
                in_sync: voters_in_sync,
                voters: seen.voters,
                learners: seen.learners,
                is_joint: seen.is_joint,
                catching_up: seen.catching_up,
            };
            (shard.id, view)
        };
        View {
            alive: self.alive_nodes(),
            shards: shards.map(shard).collect(),
        }
    }

    /// Carries out one thing that this catalogue asks for. What fails is planned again, if it is
    /// still wanted then.
    async fn act(&self, catalogue: &Catalogue, action: Action) {
        tracing::info!(?action, "the controller acts");
        let command = match action {
            Action::CreateShards { next, shards } => Command::CreateShards { next, shards },
            Action::SetTarget { shard, target } => Command::SetTarget {
                shard,
                before: catalogue
                    .shards
                    .get(&shard)
                    .map(|shard| wanted_list(shard).to_vec()),
                target: Some(target),
                factor: None,
            },
            Action::TransferLeader {
                shard, from, to, ..
            } => {
                if let Err(error) = self.ask_transfer(from, shard, to).await {
                    tracing::warn!(%shard, %from, %to, %error, "a leader could not be moved");
                }
                return;
            }
        };
        match self.change_catalogue(&command).await {
            Ok(_) | Err(BrokerError::ShuttingDown) => {}
            Err(error) => tracing::warn!(%error, "a change of the cluster has to wait"),
        }
    }
}
