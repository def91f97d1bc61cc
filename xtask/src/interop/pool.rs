//! Doing several things at a time, a few at once: most of what clients do is waiting.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Does `work` with every item, so many at a time, and returns what came of each in the items'
/// order: none where it panicked.
pub(crate) fn each<T: Send, R: Send>(
    items: Vec<T>,
    at_once: usize,
    work: impl Fn(T) -> R + Sync,
) -> Vec<Option<R>> {
    let done: Mutex<Vec<Option<R>>> = Mutex::new(items.iter().map(|_| None).collect());
    let waiting: Mutex<VecDeque<(usize, T)>> = Mutex::new(items.into_iter().enumerate().collect());
    std::thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                loop {
                    let next = lock(&waiting).pop_front();
                    let Some((at, item)) = next else { break };
                    // The panic's own message is on the error output.
                    if let Ok(result) = catch_unwind(AssertUnwindSafe(|| work(item))) {
                        lock(&done)[at] = Some(result);
                    }
                }
            });
        }
    });
    done.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Locks, whoever panicked while holding it: what it guards is lines of a report and the like.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_order_and_a_panic_costs_its_own_only() {
        let items: Vec<usize> = (0..20).collect();
        let found = each(items, 3, |item| {
            assert!(item != 7, "on purpose");
            item * 2
        });
        let expected: Vec<_> = (0..20).map(|i| (i != 7).then_some(2 * i)).collect();
        assert_eq!(found, expected);
    }
}
