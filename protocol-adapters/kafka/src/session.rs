//! What one connection has in hand. Pure: no sockets, no clock, no tasks.
//!
//! Requests are taken in the order they come, complete in any order, and are answered in the order
//! they came (Kafka's clients match answers by place). Invariants: an answer leaves only when every
//! earlier request is answered; after a request that ends the connection nothing is answered; what
//! is in hand is bounded by [`SessionLimits`], plus one request.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::codec::Frame;

/// How much one connection may have in hand.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SessionLimits {
    /// Requests that are not answered yet.
    pub(crate) requests_max: usize,
    /// Bytes of those requests, and of answers that are not sent yet.
    pub(crate) bytes_max: usize,
}

/// Stands for a request in hand; says where its answer belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticket(u64);

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// To be answered with this.
    Answer(Frame),
    /// Not answered (`acks=0`).
    Silent,
    /// The connection ends once everything before this request is answered.
    Close,
}

/// The requests of one connection, from being read to being answered.
#[derive(Debug)]
pub(crate) struct Session {
    limits: SessionLimits,
    first: u64, // ticket of the front of `requests`
    requests: VecDeque<Request>,
    bytes: usize, // of requests without outcome and of answers not yet sent
    ending: bool, // some request has ended in `Close`
    ended: bool,  // that request is the next to be answered
}

#[derive(Debug)]
struct Request {
    bytes: usize,
    outcome: Option<Outcome>,
}

impl Session {
    pub(crate) fn new(limits: SessionLimits) -> Session {
        Session {
            limits,
            first: 0,
            requests: VecDeque::new(),
            bytes: 0,
            ending: false,
            ended: false,
        }
    }

    /// Whether another request may be read. One always may when nothing is in hand.
    pub(crate) fn may_take(&self) -> bool {
        let nothing_in_hand = self.requests.is_empty() && self.bytes == 0;
        let within_limits =
            self.requests.len() < self.limits.requests_max && self.bytes < self.limits.bytes_max;
        !self.ending && (nothing_in_hand || within_limits)
    }

    /// A request of this size was read.
    pub(crate) fn take(&mut self, bytes: usize) -> Ticket {
        let ticket = Ticket(self.first + self.requests.len() as u64);
        self.requests.push_back(Request {
            bytes,
            outcome: None,
        });
        self.bytes += bytes;
        ticket
    }

    /// A request is done. Panics when it was done before (a bug).
    pub(crate) fn complete(&mut self, ticket: Ticket, outcome: Outcome) {
        let place = usize::try_from(ticket.0 - self.first).expect("requests in hand are few");
        let request = &mut self.requests[place];
        assert!(request.outcome.is_none(), "a request is completed once");
        self.bytes -= request.bytes;
        self.bytes += match &outcome {
            Outcome::Answer(frame) => frame_bytes(frame),
            Outcome::Silent | Outcome::Close => 0,
        };
        self.ending |= outcome == Outcome::Close;
        request.outcome = Some(outcome);
    }

    /// The next answer in order, when it is there.
    pub(crate) fn next_answer(&mut self) -> Option<Frame> {
        while !self.ended {
            self.requests.front()?.outcome.as_ref()?;
            let request = self.requests.pop_front()?;
            self.first += 1;
            match request.outcome {
                Some(Outcome::Answer(frame)) => return Some(frame),
                Some(Outcome::Close) => self.ended = true,
                Some(Outcome::Silent) | None => {}
            }
        }
        None
    }

    /// Whether the answer to this request was given out.
    pub(crate) fn is_answered(&self, ticket: Ticket) -> bool {
        ticket.0 < self.first
    }

    /// This many bytes of answers have left.
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.bytes -= bytes;
    }

    /// Whether everything that may be answered was given out and the connection is to end.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Bytes in hand: of requests without an outcome and of answers that are not sent.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether no request is in hand.
    pub(crate) fn is_idle(&self) -> bool {
        self.requests.is_empty()
    }
}

fn frame_bytes(frame: &Frame) -> usize {
    frame.iter().map(Bytes::len).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: SessionLimits = SessionLimits {
        requests_max: 3,
        bytes_max: 100,
    };

    fn answer(text: &'static str) -> Outcome {
        Outcome::Answer(vec![Bytes::from_static(text.as_bytes())])
    }

    fn answers(session: &mut Session) -> Vec<u8> {
        std::iter::from_fn(|| session.next_answer())
            .flatten()
            .flatten()
            .collect()
    }

    #[test]
    fn answers_leave_in_the_order_of_their_requests() {
        let mut session = Session::new(LIMITS);
        let (a, b, c) = (session.take(1), session.take(1), session.take(1));
        session.complete(c, answer("c"));
        session.complete(b, answer("b"));
        assert_eq!(answers(&mut session), b"");
        assert!(!session.is_answered(a) && !session.is_answered(c));
        session.complete(a, answer("a"));
        assert_eq!(answers(&mut session), b"abc");
        assert!(session.is_answered(a) && session.is_answered(c));
        assert!(session.is_idle());
    }

    #[test]
    fn a_silent_request_holds_its_place_but_is_not_answered() {
        let mut session = Session::new(LIMITS);
        let (a, b) = (session.take(1), session.take(1));
        session.complete(b, answer("b"));
        session.complete(a, Outcome::Silent);
        assert_eq!(answers(&mut session), b"b");
    }

    #[test]
    fn nothing_is_answered_after_a_request_that_closes() {
        let mut session = Session::new(LIMITS);
        let (a, b, c) = (session.take(1), session.take(1), session.take(1));
        session.complete(b, Outcome::Close);
        assert!(!session.may_take());
        session.complete(c, answer("c"));
        assert_eq!(answers(&mut session), b"");
        assert!(!session.has_ended());
        session.complete(a, answer("a"));
        assert_eq!(answers(&mut session), b"a");
        assert!(session.has_ended());
    }

    #[test]
    fn requests_in_hand_are_bounded() {
        let mut session = Session::new(LIMITS);
        let tickets: Vec<Ticket> = (0..3).map(|_| session.take(1)).collect();
        assert!(!session.may_take());
        session.complete(tickets[1], answer("b"));
        assert!(
            !session.may_take(),
            "its answer still waits for the first one"
        );
        session.complete(tickets[0], answer("a"));
        assert_eq!(answers(&mut session), b"ab");
        assert!(session.may_take());
    }

    #[test]
    fn one_request_is_taken_even_when_the_limits_are_zero() {
        let mut session = Session::new(SessionLimits {
            requests_max: 0,
            bytes_max: 0,
        });
        assert!(session.may_take());
        let ticket = session.take(9);
        assert!(!session.may_take());
        session.complete(ticket, Outcome::Silent);
        assert_eq!(session.next_answer(), None);
        assert!(session.may_take());
    }

    #[test]
    fn bytes_in_hand_are_bounded_until_answers_are_sent() {
        let mut session = Session::new(SessionLimits {
            requests_max: 10,
            bytes_max: 4,
        });
        let a = session.take(1_000);
        assert!(
            !session.may_take(),
            "one request is taken whatever its size"
        );
        session.complete(a, answer("answer"));
        assert_eq!(answers(&mut session), b"answer");
        assert!(!session.may_take(), "the answer is not sent");
        session.sent(2);
        assert!(!session.may_take());
        session.sent(4);
        assert!(session.may_take());
    }

    proptest! {
        #[test]
        fn any_order_of_completion_gives_the_order_of_requests(
            order in Just((0..20usize).collect::<Vec<_>>()).prop_shuffle(),
        ) {
            let mut session = Session::new(SessionLimits { requests_max: 20, bytes_max: 1_000 });
            let tickets: Vec<Ticket> = (0..20).map(|_| session.take(5)).collect();
            let mut read = Vec::new();
            for place in order {
                let byte = u8::try_from(place).unwrap();
                let outcome = Outcome::Answer(vec![Bytes::copy_from_slice(&[byte])]);
                session.complete(tickets[place], outcome);
                read.extend(answers(&mut session));
            }
            session.sent(20);
            prop_assert_eq!(read, (0..20u8).collect::<Vec<_>>());
            prop_assert_eq!(session.bytes, 0);
        }
    }
}
