//! Bytes in hand over all connections: what of them each connection must have taken, and from where.
//!
//! ```text
//! inflight_bytes_max = turn (the largest frame) + requests + reads (the rest, by halves)
//! ```
//!
//! - Every connection has [`FREE_BYTES`] of its own, so that small requests never wait.
//! - What it has in hand above that, requests as well as bytes of one that is still coming, is
//!   taken from `requests` before it is read from the socket, and given back as requests end.
//! - What a fetch reads is taken from `reads` before it is read, and given back once it is sent.
//! - Half-arrived requests could hold all of `requests` while each waits for more. One connection
//!   at a time therefore has the **turn**: room for the rest of its request, whatever it is.
//!
//! No deadlock: who holds `reads` waits for its peer only, who holds the turn for its peer and for
//! `reads`, who holds `requests` for its peer, for the turn and for `reads`; peers have deadlines.

use broker::{ByteBudget, ByteShare};

use crate::codec::LENGTH_BYTES;

/// What a connection may have in hand without taking it from the budget.
pub(crate) const FREE_BYTES: usize = 64 << 10;
/// The budget must hold this many times the largest frame.
const FRAMES_MIN: usize = 4;
/// Least and most bytes that are taken for one read from a socket.
const READ_BYTES: std::ops::RangeInclusive<usize> = (16 << 10)..=(1 << 20);

/// The bytes that all connections may have in hand together. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Budget {
    requests: ByteBudget,
    turn: ByteBudget,
    reads: ByteBudget,
}

/// What one connection has taken for its requests.
#[derive(Debug, Default)]
pub(crate) struct Holding {
    share: ByteShare,
    turn: Option<ByteShare>,
}

/// Room for more of a request.
#[derive(Debug)]
pub(crate) enum Grant {
    /// So many bytes.
    Bytes(ByteShare),
    /// The rest of the request.
    Turn(ByteShare),
}

impl Budget {
    /// `None` when it is too small for frames of this size.
    pub(crate) fn new(inflight_bytes_max: usize, frame_bytes_max: usize) -> Option<Budget> {
        if inflight_bytes_max / FRAMES_MIN < frame_bytes_max {
            return None;
        }
        let turn = frame_bytes_max + LENGTH_BYTES;
        let rest = inflight_bytes_max.checked_sub(turn)?;
        let reads = rest / 2;
        Some(Budget {
            requests: ByteBudget::new(rest - reads),
            turn: ByteBudget::new(turn),
            reads: ByteBudget::new(reads),
        })
    }

    /// What fetches take from.
    pub(crate) fn reads(&self) -> &ByteBudget {
        &self.reads
    }

    /// All that is taken.
    pub(crate) fn used_bytes(&self) -> usize {
        self.requests.used_bytes() + self.turn.used_bytes() + self.reads.used_bytes()
    }

    /// Room for one read from the socket of a request of which `missing` bytes have not come (0:
    /// its length is not known yet), when there is some at once.
    pub(crate) fn try_take(&self, missing: usize) -> Option<Grant> {
        let (least, most) = read_bytes(missing);
        self.requests.try_take(least, most).map(Grant::Bytes)
    }

    /// The same, waited for; what comes first of it and the turn. Cancel-safe, losing its place.
    pub(crate) async fn take(self, missing: usize) -> Grant {
        let (least, most) = read_bytes(missing);
        let turn = async {
            match missing {
                0 => std::future::pending().await,
                _ => self.turn.take(usize::MAX, usize::MAX).await,
            }
        };
        tokio::select! {
            biased;
            share = self.requests.take(least, most) => Grant::Bytes(share),
            turn = turn => Grant::Turn(turn),
        }
    }
}

fn read_bytes(missing: usize) -> (usize, usize) {
    match missing {
        0 => (*READ_BYTES.start(), *READ_BYTES.start()),
        missing => (
            missing.min(*READ_BYTES.start()),
            missing.min(*READ_BYTES.end()),
        ),
    }
}

impl Holding {
    /// How much more may be read from the socket by a connection with `in_hand` bytes, when
    /// `missing` bytes of the request at the front have not come.
    pub(crate) fn room(&self, in_hand: usize, missing: usize) -> usize {
        match self.turn {
            Some(_) => missing,
            None => self.covered().saturating_sub(in_hand),
        }
    }

    /// Whether more may be taken. With answers in hand that nothing covers, those are sent first;
    /// with the turn, what it was given for is done first.
    pub(crate) fn may_take(&self, in_hand: usize) -> bool {
        self.turn.is_none() && in_hand <= self.covered()
    }

    /// Whether it has the turn.
    pub(crate) fn has_turn(&self) -> bool {
        self.turn.is_some()
    }

    /// Adds room.
    pub(crate) fn add(&mut self, grant: Grant) {
        match grant {
            Grant::Bytes(share) => self.share.merge(share),
            Grant::Turn(turn) => self.turn = Some(turn),
        }
    }

    /// Gives back what is not needed (any more).
    pub(crate) fn settle(&mut self, in_hand: usize, missing: usize) {
        let needed = in_hand.saturating_sub(FREE_BYTES);
        self.share.shrink(needed);
        if missing == 0 && needed <= self.share.bytes() {
            self.turn = None;
        }
    }

    fn covered(&self) -> usize {
        FREE_BYTES + self.share.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: usize = 1 << 20;

    fn budget() -> Budget {
        // 1 MiB and 4 bytes for the turn, half of the rest each.
        Budget::new(5 * FRAME + LENGTH_BYTES, FRAME).unwrap()
    }

    #[test]
    fn a_budget_too_small_for_its_frames_is_none() {
        assert!(Budget::new(4 * FRAME - 1, FRAME).is_none());
        assert!(Budget::new(4 * FRAME, FRAME).is_some());
        assert!(Budget::new(usize::MAX, usize::MAX).is_none());
    }

    #[test]
    fn small_requests_take_nothing() {
        let mut holding = Holding::default();
        assert_eq!(holding.room(0, 0), FREE_BYTES);
        assert_eq!(holding.room(FREE_BYTES - 1, 10), 1);
        assert_eq!(holding.room(FREE_BYTES, 10), 0);
        assert!(holding.may_take(FREE_BYTES));
        assert!(!holding.may_take(FREE_BYTES + 1), "nothing covers it");
        holding.settle(FREE_BYTES, 0);
        assert_eq!(holding.share.bytes(), 0);
    }

    #[test]
    fn bytes_are_taken_as_they_come_and_held_until_they_are_answered() {
        let budget = budget();
        let mut holding = Holding::default();
        let declared = FRAME - FREE_BYTES;
        holding.add(budget.try_take(declared).unwrap());
        assert_eq!(holding.room(FREE_BYTES, declared), declared);
        // 1,000 bytes came: the rest is not held for them.
        holding.settle(FREE_BYTES + 1_000, declared - 1_000);
        assert_eq!(budget.used_bytes(), 1_000);
        holding.settle(FREE_BYTES + 1_000, 0);
        assert_eq!(budget.used_bytes(), 1_000, "in hand, not answered");
        holding.settle(10, 0);
        assert_eq!(budget.used_bytes(), 0);
    }

    #[tokio::test]
    async fn when_all_is_held_one_has_the_turn_until_its_request_is_answered() {
        let budget = budget();
        let _others = budget.requests.try_take(2 * FRAME, 2 * FRAME).unwrap();
        assert!(budget.try_take(FRAME).is_none());
        let mut holding = Holding::default();
        let missing = FRAME - FREE_BYTES;
        holding.add(budget.clone().take(missing).await);
        assert!(holding.has_turn());
        assert_eq!(holding.room(FREE_BYTES, missing), missing);
        let mut next = Box::pin(budget.clone().take(missing));
        let other = async {
            tokio::select! { biased; _ = &mut next => false, () = std::future::ready(()) => true }
        };
        assert!(other.await, "there is one turn");
        holding.settle(FREE_BYTES, missing);
        assert!(holding.has_turn(), "its request has not come");
        holding.settle(FRAME, 0);
        assert!(holding.has_turn(), "its request is not answered");
        assert_eq!(holding.room(FRAME, 0), 0);
        assert!(!holding.may_take(FRAME));
        assert!(budget.used_bytes() <= 5 * FRAME + LENGTH_BYTES);
        holding.settle(100, 0);
        assert!(!holding.has_turn());
        assert!(matches!(next.await, Grant::Turn(_)));
    }
}
