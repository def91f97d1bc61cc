//! A number of bytes that many share: what is taken is given back when its share is dropped.
//!
//! Whoever waits is served in the order of asking, so that nobody waits for ever. Invariant: the
//! shares together never exceed the total. Who waits for a share must not hold one that somebody
//! else waits for; this file cannot see to that.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

/// Most bytes in one share.
const SHARE_BYTES_MAX: usize = u32::MAX as usize;
/// Reads at the same time that may turn out larger than their share.
const UNSURE_READS_MAX: usize = 16;

/// The bytes that may be held. Clones share them.
#[derive(Debug, Clone)]
pub struct ByteBudget {
    free: Arc<Semaphore>,
    total: usize,
    unsure: Arc<Semaphore>,
}

/// Bytes taken from a budget, back in it once dropped.
#[derive(Debug, Default)]
pub struct ByteShare {
    permit: Option<OwnedSemaphorePermit>,
}

impl ByteBudget {
    /// A budget of this many bytes (what a machine could never hold is cut).
    #[must_use]
    pub fn new(total: usize) -> ByteBudget {
        let total = total.min(Semaphore::MAX_PERMITS);
        ByteBudget {
            free: Arc::new(Semaphore::new(total)),
            total,
            unsure: Arc::new(Semaphore::new(UNSURE_READS_MAX)),
        }
    }

    /// A budget that is never used up.
    #[must_use]
    pub fn unlimited() -> ByteBudget {
        ByteBudget::new(Semaphore::MAX_PERMITS)
    }

    /// Bytes of all shares.
    #[must_use]
    pub fn used_bytes(&self) -> usize {
        self.total - self.free.available_permits().min(self.total)
    }

    /// The largest share there can be.
    #[must_use]
    pub fn share_bytes_max(&self) -> usize {
        self.total.min(SHARE_BYTES_MAX)
    }

    /// Takes up to `wanted` bytes, `least` at least; `None` when there are too few or when others
    /// wait for them. Neither is more than [`ByteBudget::share_bytes_max`] here, whatever is asked.
    #[must_use]
    pub fn try_take(&self, least: usize, wanted: usize) -> Option<ByteShare> {
        let least = self.possible(least);
        let bytes = self.possible(wanted).min(self.available()).max(least);
        if let Ok(permit) = Arc::clone(&self.free).try_acquire_many_owned(bytes) {
            return Some(ByteShare::of(permit));
        }
        let permit = Arc::clone(&self.free).try_acquire_many_owned(least);
        permit.ok().map(ByteShare::of)
    }

    /// Takes up to `wanted` bytes; waits for `least` of them. Cancel-safe, losing its place.
    pub async fn take(&self, least: usize, wanted: usize) -> ByteShare {
        if let Some(share) = self.try_take(least, wanted) {
            return share;
        }
        let waited = Arc::clone(&self.free).acquire_many_owned(self.possible(least));
        ByteShare::of(waited.await.expect("a budget is never closed"))
    }

    /// Leave for a read whose size only reading tells: few at a time, for what is over the share
    /// is in memory until it is seen. Must not be held while waiting for bytes.
    pub(crate) async fn unsure_read(&self) -> SemaphorePermit<'_> {
        let leave = self.unsure.acquire().await;
        leave.expect("a budget is never closed")
    }

    fn possible(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.min(self.share_bytes_max())).unwrap_or(u32::MAX)
    }

    fn available(&self) -> u32 {
        self.possible(self.free.available_permits())
    }
}

impl ByteShare {
    fn of(permit: OwnedSemaphorePermit) -> ByteShare {
        ByteShare {
            permit: Some(permit),
        }
    }

    /// How many bytes it is.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.permit
            .as_ref()
            .map_or(0, OwnedSemaphorePermit::num_permits)
    }

    /// Gives back what is above `bytes`.
    pub fn shrink(&mut self, bytes: usize) {
        let excess = self.bytes().saturating_sub(bytes);
        if let (1.., Some(permit)) = (excess, &mut self.permit) {
            drop(permit.split(excess));
        }
    }

    /// Adds another share of the same budget; together they must fit into one.
    pub fn merge(&mut self, other: ByteShare) {
        match (&mut self.permit, other.permit) {
            (Some(permit), Some(other)) => permit.merge(other),
            (permit @ None, other) => *permit = other,
            (Some(_), None) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_share_is_given_back_in_parts_and_whole() {
        let budget = ByteBudget::new(100);
        let mut share = budget.try_take(1, 60).unwrap();
        assert_eq!((share.bytes(), budget.used_bytes()), (60, 60));
        share.shrink(80);
        share.shrink(20);
        assert_eq!((share.bytes(), budget.used_bytes()), (20, 20));
        share.merge(budget.try_take(1, 5).unwrap());
        share.merge(ByteShare::default());
        assert_eq!((share.bytes(), budget.used_bytes()), (25, 25));
        drop(share);
        assert_eq!(budget.used_bytes(), 0);
    }

    #[test]
    fn less_than_wanted_is_taken_but_not_less_than_the_least() {
        let budget = ByteBudget::new(100);
        let _held = budget.try_take(70, 70).unwrap();
        assert!(budget.try_take(31, 50).is_none());
        assert_eq!(budget.try_take(30, 50).unwrap().bytes(), 30);
        assert_eq!(budget.try_take(1, 10).unwrap().bytes(), 10);
    }

    #[test]
    fn no_share_is_larger_than_the_budget() {
        let budget = ByteBudget::new(100);
        assert_eq!(budget.try_take(1_000, 2_000).unwrap().bytes(), 100);
        let unlimited = ByteBudget::unlimited();
        let most = unlimited.try_take(usize::MAX, usize::MAX).unwrap();
        assert_eq!(most.bytes(), SHARE_BYTES_MAX);
        assert!(unlimited.try_take(SHARE_BYTES_MAX, usize::MAX).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_first_is_served_first() {
        let budget = ByteBudget::new(100);
        let held = budget.try_take(100, 100).unwrap();
        let large = tokio::spawn({
            let budget = budget.clone();
            async move { budget.take(80, 80).await }
        });
        let wait = Duration::from_secs(1);
        assert!(
            tokio::time::timeout(wait, budget.take(30, 30))
                .await
                .is_err()
        );
        let mut held = held;
        held.shrink(50);
        tokio::task::yield_now().await;
        assert!(
            budget.try_take(30, 30).is_none(),
            "the first one waits for these"
        );
        drop(held);
        assert_eq!(large.await.unwrap().bytes(), 80);
        assert_eq!(budget.used_bytes(), 0);
    }
}
