//! The timers of a leading instance, by key and by time.

use std::collections::{BTreeMap, BTreeSet};

use coordinator::TimerChange;

/// Timers; at most one of a key.
#[derive(Debug)]
pub(super) struct Timers<T> {
    by_key: BTreeMap<T, i64>,
    // The same, by time.
    by_time: BTreeSet<(i64, T)>,
}

impl<T: Ord + Clone> Timers<T> {
    pub(super) fn new() -> Timers<T> {
        Timers {
            by_key: BTreeMap::new(),
            by_time: BTreeSet::new(),
        }
    }

    /// Makes changes in their order.
    pub(super) fn change(&mut self, changes: Vec<TimerChange<T>>) {
        for change in changes {
            match change {
                TimerChange::Set(timer, at_ms) => {
                    self.cancel(&timer);
                    self.by_key.insert(timer.clone(), at_ms);
                    self.by_time.insert((at_ms, timer));
                }
                TimerChange::Cancel(timer) => self.cancel(&timer),
            }
        }
    }

    fn cancel(&mut self, timer: &T) {
        if let Some((timer, at_ms)) = self.by_key.remove_entry(timer) {
            self.by_time.remove(&(at_ms, timer));
        }
    }

    /// Puts all of them off by so much.
    pub(super) fn delay(&mut self, ms: i64) {
        let later = |at_ms: i64| at_ms.saturating_add(ms);
        self.by_key
            .values_mut()
            .for_each(|at_ms| *at_ms = later(*at_ms));
        let by_time = std::mem::take(&mut self.by_time).into_iter();
        self.by_time = by_time
            .map(|(at_ms, timer)| (later(at_ms), timer))
            .collect();
    }

    /// When the first one is due.
    pub(super) fn next_at_ms(&self) -> Option<i64> {
        self.by_time.first().map(|(at_ms, _)| *at_ms)
    }

    /// Takes the first one, if it is due.
    pub(super) fn take_due(&mut self, now_ms: i64) -> Option<T> {
        if self.next_at_ms()? > now_ms {
            return None;
        }
        let (_, timer) = self.by_time.pop_first()?;
        self.by_key.remove(&timer);
        Some(timer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_fire_once_in_the_order_of_their_times() {
        let mut timers = Timers::new();
        timers.change(vec![
            TimerChange::Set("late", 30),
            TimerChange::Set("early", 10),
            TimerChange::Set("gone", 5),
            TimerChange::Set("moved", 1),
            TimerChange::Set("moved", 20),
            TimerChange::Cancel("gone"),
            TimerChange::Cancel("never there"),
        ]);
        timers.delay(4);
        assert_eq!(timers.next_at_ms(), Some(14));
        timers.delay(-4);
        assert_eq!(timers.next_at_ms(), Some(10));
        assert_eq!(timers.take_due(9), None);
        let fired: Vec<_> = std::iter::from_fn(|| timers.take_due(30)).collect();
        assert_eq!(fired, ["early", "moved", "late"]);
        assert_eq!(timers.next_at_ms(), None);
    }
}
