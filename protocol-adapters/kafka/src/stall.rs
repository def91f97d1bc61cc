//! How long something has not moved that should. Pure: time is an argument.

/// Counts the time for which a peer is waited for. Time in which it is not the peer's turn does not
/// count.
#[derive(Debug)]
pub(crate) struct Stall {
    limit_ms: i64, // 0 or less: no limit
    spent_ms: i64, // before `since_ms`
    since_ms: Option<i64>,
}

impl Stall {
    /// Nothing is waited for yet. A limit of 0 or less is no limit.
    pub(crate) fn new(limit_ms: i64) -> Stall {
        Stall {
            limit_ms,
            spent_ms: 0,
            since_ms: None,
        }
    }

    /// From now on the peer is waited for, or is not.
    pub(crate) fn set_waiting(&mut self, is_waiting: bool, now_ms: i64) {
        match (self.since_ms, is_waiting) {
            (None, true) => self.since_ms = Some(now_ms),
            (Some(since_ms), false) => {
                self.spent_ms += now_ms - since_ms;
                self.since_ms = None;
            }
            _ => {}
        }
    }

    /// What was waited for has come; the next thing has its own time.
    pub(crate) fn moved(&mut self) {
        self.spent_ms = 0;
        self.since_ms = None;
    }

    /// Time left for the peer, 0 or less when it is over; `None` while it is not waited for.
    pub(crate) fn left_ms(&self, now_ms: i64) -> Option<i64> {
        let waited_ms = now_ms - self.since_ms?;
        (self.limit_ms > 0).then(|| self.limit_ms - self.spent_ms - waited_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_waiting_counts() {
        let mut stall = Stall::new(100);
        assert_eq!(stall.left_ms(5), None);
        stall.set_waiting(true, 10);
        stall.set_waiting(true, 20);
        assert_eq!(stall.left_ms(40), Some(70));
        stall.set_waiting(false, 40);
        assert_eq!(stall.left_ms(1_000), None);
        stall.set_waiting(true, 1_000);
        assert_eq!(stall.left_ms(1_070), Some(0));
    }

    #[test]
    fn what_moves_starts_anew() {
        let mut stall = Stall::new(100);
        stall.set_waiting(true, 0);
        stall.moved();
        assert_eq!(stall.left_ms(99), None);
        stall.set_waiting(true, 99);
        assert_eq!(stall.left_ms(99), Some(100));
    }

    #[test]
    fn without_a_limit_nothing_stalls() {
        let mut stall = Stall::new(0);
        stall.set_waiting(true, 0);
        assert_eq!(stall.left_ms(i64::MAX), None);
    }
}
