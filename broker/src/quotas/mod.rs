//! Client quotas: changing them, telling them, and what clients have used of them on this node.
//!
//! What they are stands in the catalogue. Each node counts for itself, in memory: who has used
//! more than the quota is told how long to wait, and whoever serves it must hold it to that.

mod bucket;
mod scope;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError};

use self::bucket::Bucket;
use self::scope::Scope;
use crate::catalogue::command::Command;
use crate::catalogue::quotas::{NAME_BYTES_MAX, check};
use crate::catalogue::{ClientQuotas, QuotaChanges, QuotaEntity, QuotaKey};
use crate::{Broker, BrokerError};

/// Most clients whose use is remembered; beyond it, that of those is forgotten who are at rest, and
/// if there are none, of the half that was seen longest ago.
const BUCKETS_MAX: usize = 10_000;

/// How a client stands to a quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotaStanding {
    /// How long it is to wait, in milliseconds, until it has made up for what it used too much of;
    /// 0 when it has not.
    pub wait_ms: u64,
    /// Most that may be used at once after a time of rest.
    pub at_once_max: u64,
}

/// What clients have used.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    buckets: HashMap<(QuotaKey, Scope), (Bucket, u64)>, // with the rate that was last in force
}

impl Usage {
    fn bucket(&mut self, key: QuotaKey, scope: Scope, rate: u64, now_ms: i64) -> &mut Bucket {
        let place = (key, scope);
        if self.buckets.len() >= BUCKETS_MAX && !self.buckets.contains_key(&place) {
            self.make_room(now_ms);
        }
        let (bucket, last_rate) = self
            .buckets
            .entry(place)
            .or_insert_with(|| (Bucket::new(rate, now_ms), rate));
        *last_rate = rate;
        bucket
    }

    fn make_room(&mut self, now_ms: i64) {
        self.buckets
            .retain(|_, (bucket, rate)| !bucket.is_full(*rate, now_ms));
        if self.buckets.len() < BUCKETS_MAX {
            return;
        }
        let mut seen_ms: Vec<i64> = self.buckets.values().map(|(b, _)| b.at_ms()).collect();
        let half = seen_ms.len() / 2;
        let (_, middle_ms, _) = seen_ms.select_nth_unstable(half);
        let middle_ms = *middle_ms;
        self.buckets
            .retain(|_, (bucket, _)| bucket.at_ms() > middle_ms);
    }
}

impl Broker {
    /// Every quota there is.
    #[must_use]
    pub fn client_quotas(&self) -> Arc<ClientQuotas> {
        self.catalogue().quotas.clone()
    }

    /// Sets quotas of an entity or takes them away, all or none; with `validate_only` only says
    /// whether they could be.
    pub async fn alter_client_quotas(
        &self,
        entity: QuotaEntity,
        changes: QuotaChanges,
        validate_only: bool,
    ) -> Result<(), BrokerError> {
        check(&entity, &changes)?;
        if validate_only || changes.is_empty() {
            return Ok(());
        }
        let command = Command::AlterQuotas { entity, changes };
        self.change_catalogue(&command).await.map(|_| ())
    }

    /// Counts what a client has used. Answers for how long, in milliseconds, nothing more is to be
    /// taken from it; 0 when it is within its quota or has none, an hour at most.
    #[must_use]
    pub fn use_quota(&self, key: QuotaKey, user: &str, client_id: &str, amount: u64) -> u64 {
        let quotas = self.client_quotas();
        if quotas.is_empty() {
            return 0;
        }
        // No longer name has a quota of its own.
        let client_id = &client_id[..client_id.floor_char_boundary(NAME_BYTES_MAX)];
        let Some((scope, rate)) = scope::of_client(&quotas, key, user, client_id) else {
            return 0;
        };
        let now_ms = self.inner.clock.monotonic_ms();
        let mut usage = (self.inner.quota_usage.lock()).unwrap_or_else(PoisonError::into_inner);
        usage
            .bucket(key, scope, rate, now_ms)
            .spend(amount, rate, now_ms)
    }

    /// How a client stands to a quota, without using any of it; `None` when it has none.
    #[must_use]
    pub fn quota_standing(
        &self,
        key: QuotaKey,
        user: &str,
        client_id: &str,
    ) -> Option<QuotaStanding> {
        let quotas = self.client_quotas();
        if quotas.is_empty() {
            return None;
        }
        let client_id = &client_id[..client_id.floor_char_boundary(NAME_BYTES_MAX)];
        let (scope, rate) = scope::of_client(&quotas, key, user, client_id)?;
        let now_ms = self.inner.clock.monotonic_ms();
        let mut usage = (self.inner.quota_usage.lock()).unwrap_or_else(PoisonError::into_inner);
        Some(QuotaStanding {
            wait_ms: (usage.bucket(key, scope, rate, now_ms)).spend(0, rate, now_ms),
            at_once_max: rate.saturating_mul(bucket::BURST_SECONDS),
        })
    }

    /// Counts a new connection from an address; refuses it with the time, in milliseconds, until
    /// there may be another, an hour at most.
    pub fn use_connection_quota(&self, address: IpAddr) -> Result<(), u64> {
        let quotas = self.client_quotas();
        if quotas.is_empty() {
            return Ok(());
        }
        let key = QuotaKey::ConnectionCreationRate;
        let Some((scope, rate)) = scope::of_address(&quotas, key, address.to_canonical()) else {
            return Ok(());
        };
        let now_ms = self.inner.clock.monotonic_ms();
        let mut usage = (self.inner.quota_usage.lock()).unwrap_or_else(PoisonError::into_inner);
        usage.bucket(key, scope, rate, now_ms).take(1, rate, now_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: QuotaKey = QuotaKey::ProducerByteRate;

    fn scope(n: usize) -> Scope {
        Scope::ClientId(n.to_string())
    }

    #[test]
    fn use_of_those_at_rest_is_forgotten_first() {
        let mut usage = Usage::default();
        for n in 0..BUCKETS_MAX {
            let spent = if n < 3 { 100 } else { 1 };
            usage.bucket(KEY, scope(n), 10, 0).spend(spent, 10, 0);
        }
        usage.bucket(KEY, scope(BUCKETS_MAX), 10, 200);
        assert_eq!(usage.buckets.len(), 4);
        let wait_ms = usage.bucket(KEY, scope(0), 10, 200).spend(3, 10, 200);
        assert_eq!(wait_ms, 100, "what the first had used is remembered");
    }

    #[test]
    fn so_many_are_remembered_and_no_more() {
        let mut usage = Usage::default();
        for (n, now_ms) in (0..BUCKETS_MAX * 2).zip(0..) {
            usage
                .bucket(KEY, scope(n), 1, now_ms)
                .spend(1_000_000, 1, now_ms);
            assert!(usage.buckets.len() <= BUCKETS_MAX);
        }
        let last = (KEY, scope(BUCKETS_MAX * 2 - 1));
        assert!(usage.buckets.contains_key(&last));
    }
}
