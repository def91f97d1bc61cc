//! Answers of calls that appended nothing: sent once all that was appended before them is committed
//! and it is certain that the node still led when they were called.
//!
//! ```text
//! called ──> unconfirmed ── a barrier begins ──> confirming ── it passes ──> confirmed
//!                                                                               │
//!                                        the batches before are committed ──────┴──> sent
//! ```
//! One barrier serves all that were called before it began.

use std::collections::VecDeque;

use super::replies::Reply;

/// An answer that waits.
struct Held<R> {
    /// How many batches were appended before.
    after: u64,
    reply: Reply<R>,
    response: R,
}

/// Answers that wait; each list in the order of the calls.
pub(super) struct Reads<R> {
    unconfirmed: Vec<Held<R>>,
    confirming: Vec<Held<R>>,
    confirmed: VecDeque<Held<R>>,
}

impl<R> Reads<R> {
    pub(super) fn new() -> Reads<R> {
        Reads {
            unconfirmed: Vec::new(),
            confirming: Vec::new(),
            confirmed: VecDeque::new(),
        }
    }

    /// An answer that follows from everything up to so many batches.
    pub(super) fn push(&mut self, after: u64, reply: Reply<R>, response: R) {
        self.unconfirmed.push(Held {
            after,
            reply,
            response,
        });
    }

    /// Whether a barrier is needed; from then on it is under way until [`Reads::passed`].
    pub(super) fn begin(&mut self) -> bool {
        if self.unconfirmed.is_empty() || !self.confirming.is_empty() {
            return false;
        }
        std::mem::swap(&mut self.unconfirmed, &mut self.confirming);
        true
    }

    /// The barrier has passed.
    pub(super) fn passed(&mut self) {
        self.confirmed.extend(self.confirming.drain(..));
    }

    /// Sends what is certain now that so many batches are committed.
    pub(super) fn send(&mut self, committed: u64) {
        while self
            .confirmed
            .front()
            .is_some_and(|held| held.after <= committed)
        {
            if let Some(held) = self.confirmed.pop_front() {
                // Whoever asked may not wait any more.
                let _ = held.reply.send(Ok(held.response));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[test]
    fn a_read_waits_for_a_barrier_that_began_after_it_and_for_the_batches_before_it() {
        let mut reads = Reads::new();
        let push = |reads: &mut Reads<u8>, after, response| {
            let (reply, answer) = oneshot::channel();
            reads.push(after, reply, response);
            answer
        };
        let mut first = push(&mut reads, 0, 1);
        assert!(reads.begin());
        // Too late for this barrier.
        let mut second = push(&mut reads, 2, 2);
        assert!(!reads.begin());
        reads.send(9);
        assert!(first.try_recv().is_err(), "the barrier has not passed");
        reads.passed();
        reads.send(1);
        assert_eq!(first.try_recv(), Ok(Ok(1)));
        assert!(reads.begin());
        reads.passed();
        reads.send(1);
        assert!(second.try_recv().is_err(), "its batches are not committed");
        reads.send(2);
        assert_eq!(second.try_recv(), Ok(Ok(2)));
        assert!(!reads.begin(), "nobody waits");
    }
}
