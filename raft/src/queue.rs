//! Operations of one shard that wait to be proposed, and the rule that says when some of them make
//! an entry.
//!
//! Bounded in bytes: `submit` waits for room, first come, first served. Nothing waits for company:
//! an operation that finds no entry in flight goes at once. While one is in flight, a second starts
//! only when enough has gathered, for small entries sync better one after the other.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, Semaphore, oneshot};

use crate::config::ENTRY_BYTES_LIMIT;
use crate::status::End;
use crate::{Op, ProposeError};

/// Bytes that must wait before a further entry starts beside one in flight. 100 writers of 1 KiB
/// did 78k batches/s one entry at a time and 61k two at a time; 64 writers of 16 KiB did 117 and
/// 215 MB/s.
const FURTHER_ENTRY_BYTES_MIN: usize = 256 << 10;
/// What an operation costs beside its bytes; bounds the operations in an entry.
const OP_OVERHEAD_BYTES: usize = 16;

/// Where the outcome of a proposal goes.
#[derive(Debug)]
pub(crate) enum Reply<O> {
    One(oneshot::Sender<Result<O, ProposeError>>),
    Many(usize, oneshot::Sender<Result<Vec<O>, ProposeError>>),
}

impl<O> Reply<O> {
    /// Sends the next outcomes of `outcomes`. The waiter may be gone; that takes nothing back.
    pub(crate) fn send(self, outcomes: &mut std::vec::IntoIter<O>) {
        match self {
            Reply::One(waiter) => {
                if let Some(outcome) = outcomes.next() {
                    let _ = waiter.send(Ok(outcome));
                }
            }
            Reply::Many(count, waiter) => {
                let _ = waiter.send(Ok(outcomes.take(count).collect()));
            }
        }
    }

    pub(crate) fn fail(self, error: ProposeError) {
        match self {
            Reply::One(waiter) => {
                let _ = waiter.send(Err(error));
            }
            Reply::Many(_, waiter) => {
                let _ = waiter.send(Err(error));
            }
        }
    }
}

/// Operations that stand in one entry, and who waits for them.
#[derive(Debug)]
pub(crate) struct Proposal<O> {
    pub(crate) ops: Vec<Op>,
    pub(crate) reply: Reply<O>,
    /// What it counts against the limits.
    cost: usize,
}

impl<O> Proposal<O> {
    pub(crate) fn new(
        ops: Vec<Op>,
        reply: impl FnOnce(usize) -> Reply<O>,
    ) -> Result<Proposal<O>, ProposeError> {
        let bytes: usize = ops.iter().map(Op::bytes).sum();
        if bytes > ENTRY_BYTES_LIMIT {
            return Err(ProposeError::TooLarge {
                bytes,
                max: ENTRY_BYTES_LIMIT,
            });
        }
        let cost = bytes + ops.len().max(1) * OP_OVERHEAD_BYTES;
        let reply = reply(ops.len());
        Ok(Proposal { ops, reply, cost })
    }

    pub(crate) fn has_data(&self) -> bool {
        self.ops.iter().any(|op| !op.is_control())
    }
}

#[derive(Debug)]
pub(crate) struct Queue<O> {
    state: Mutex<State<O>>,
    /// One permit per byte that may still wait.
    room: Semaphore,
    room_bytes: usize,
    entry_bytes_max: usize,
    in_flight_max: usize,
    /// Wakes the one taker when it may find an entry's worth.
    ready: Notify,
}

#[derive(Debug)]
struct State<O> {
    waiting: VecDeque<Proposal<O>>,
    /// Sum of the costs in `waiting`.
    bytes: usize,
    in_flight: usize,
    /// Who waits for each of the entries in flight.
    flights: BTreeMap<u64, Vec<Reply<O>>>,
    next_flight: u64,
    closed: Option<End>,
}

impl<O> Queue<O> {
    pub(crate) fn new(room_bytes: usize, entry_bytes_max: usize, in_flight_max: usize) -> Queue<O> {
        Queue {
            state: Mutex::new(State {
                waiting: VecDeque::new(),
                bytes: 0,
                in_flight: 0,
                flights: BTreeMap::new(),
                next_flight: 0,
                closed: None,
            }),
            room: Semaphore::new(room_bytes),
            room_bytes,
            entry_bytes_max,
            in_flight_max,
            ready: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State<O>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Permits that a proposal takes while it waits; one larger than all the room takes all of it.
    fn permits(&self, cost: usize) -> u32 {
        u32::try_from(cost.min(self.room_bytes)).expect("the room is at most u32::MAX")
    }

    /// Waits for room, then queues. Cancel-safe: nothing is queued unless it returns.
    pub(crate) async fn push(&self, proposal: Proposal<O>) -> Result<(), ProposeError> {
        match self.room.acquire_many(self.permits(proposal.cost)).await {
            Ok(permit) => permit.forget(),
            Err(_closed) => return Err(self.refusal()),
        }
        self.insert(proposal)
    }

    /// Queues when there is room now.
    pub(crate) fn try_push(&self, proposal: Proposal<O>) -> Result<(), ProposeError> {
        match self.room.try_acquire_many(self.permits(proposal.cost)) {
            Ok(permit) => permit.forget(),
            Err(tokio::sync::TryAcquireError::NoPermits) => return Err(ProposeError::Busy),
            Err(tokio::sync::TryAcquireError::Closed) => return Err(self.refusal()),
        }
        self.insert(proposal)
    }

    fn refusal(&self) -> ProposeError {
        self.state()
            .closed
            .map_or(ProposeError::ShuttingDown, End::refused)
    }

    fn insert(&self, proposal: Proposal<O>) -> Result<(), ProposeError> {
        let mut state = self.state();
        if let Some(end) = state.closed {
            return Err(end.refused());
        }
        let before = state.bytes;
        state.bytes += proposal.cost;
        state.waiting.push_back(proposal);
        // The taker was told of what waited before; it needs telling only of what changes its mind.
        let wakes = match state.in_flight {
            0 => state.waiting.len() == 1,
            flying => {
                flying < self.in_flight_max
                    && before < FURTHER_ENTRY_BYTES_MIN
                    && state.bytes >= FURTHER_ENTRY_BYTES_MIN
            }
        };
        drop(state);
        if wakes {
            self.ready.notify_one();
        }
        Ok(())
    }

    /// The proposals of the next entry, in order; counts as in flight until [`Queue::landed`].
    /// `None` once the queue is closed. One caller at a time; cancel-safe.
    pub(crate) async fn take(&self) -> Option<Vec<Proposal<O>>> {
        loop {
            {
                let mut state = self.state();
                if state.closed.is_some() {
                    return None;
                }
                if let Some(taken) = self.next_entry(&mut state) {
                    return Some(taken);
                }
            }
            self.ready.notified().await;
        }
    }

    fn next_entry(&self, state: &mut State<O>) -> Option<Vec<Proposal<O>>> {
        let starts = state.in_flight == 0
            || (state.in_flight < self.in_flight_max && state.bytes >= FURTHER_ENTRY_BYTES_MIN);
        if !starts || state.waiting.is_empty() {
            return None;
        }
        let mut taken = Vec::new();
        let (mut cost, mut permits) = (0, 0);
        while let Some(proposal) = state.waiting.front() {
            if !taken.is_empty() && cost + proposal.cost > self.entry_bytes_max {
                break;
            }
            cost += proposal.cost;
            permits += self.permits(proposal.cost) as usize;
            taken.extend(state.waiting.pop_front());
        }
        state.bytes -= cost;
        state.in_flight += 1;
        self.room.add_permits(permits);
        Some(taken)
    }

    /// An entry taken earlier is done with.
    pub(crate) fn landed(&self) {
        let wakes = {
            let mut state = self.state();
            state.in_flight -= 1;
            !state.waiting.is_empty() || state.closed.is_some()
        };
        if wakes {
            self.ready.notify_one();
        }
    }

    /// Keeps who waits for an entry that is about to be proposed; the entry's number.
    pub(crate) fn depart(&self, replies: Vec<Reply<O>>) -> u64 {
        let mut state = self.state();
        let flight = state.next_flight;
        state.next_flight += 1;
        state.flights.insert(flight, replies);
        flight
    }

    /// Who still waits for that entry; nobody the second time.
    pub(crate) fn arrive(&self, flight: u64) -> Vec<Reply<O>> {
        self.state().flights.remove(&flight).unwrap_or_default()
    }

    /// Answers all who wait for entries in flight. The entries land later.
    pub(crate) fn abandon_flights(&self, error: &ProposeError) {
        let flights = std::mem::take(&mut self.state().flights);
        for reply in flights.into_values().flatten() {
            reply.fail(error.clone());
        }
    }

    /// Refuses what waits and goes on; what is in flight lands later.
    pub(crate) fn refuse_waiting(&self, error: &ProposeError) {
        let (refused, permits) = {
            let mut state = self.state();
            let costs = state.waiting.iter().map(|proposal| proposal.cost);
            let permits = costs.map(|cost| self.permits(cost) as usize).sum();
            state.bytes = 0;
            (std::mem::take(&mut state.waiting), permits)
        };
        self.room.add_permits(permits);
        for proposal in refused {
            proposal.reply.fail(error.clone());
        }
    }

    /// Takes nothing more; what waits is refused. What is in flight lands later.
    pub(crate) fn close(&self, end: End) {
        self.room.close();
        let refused = {
            let mut state = self.state();
            state.closed.get_or_insert(end);
            state.bytes = 0;
            std::mem::take(&mut state.waiting)
        };
        for proposal in refused {
            proposal.reply.fail(end.refused());
        }
        self.ready.notify_one();
    }

    /// After [`Queue::close`]: waits until nothing is in flight.
    pub(crate) async fn drained(&self) {
        while self.state().in_flight > 0 {
            self.ready.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::FutureExt;

    use super::*;

    type Answer = oneshot::Receiver<Result<u32, ProposeError>>;

    fn proposal(bytes: usize) -> (Proposal<u32>, Answer) {
        let (waiter, answer) = oneshot::channel();
        let op = Op::data(Bytes::new(), vec![0; bytes].into());
        (
            Proposal::new(vec![op], |_| Reply::One(waiter)).unwrap(),
            answer,
        )
    }

    fn push(queue: &Queue<u32>, bytes: usize) -> Answer {
        let (proposal, answer) = proposal(bytes);
        queue.try_push(proposal).unwrap();
        answer
    }

    /// Sizes of the operations in the entry that may start now.
    fn take(queue: &Queue<u32>) -> Option<Vec<usize>> {
        let taken = queue.take().now_or_never()??;
        Some(
            taken
                .iter()
                .flat_map(|proposal| &proposal.ops)
                .map(Op::bytes)
                .collect(),
        )
    }

    #[test]
    fn what_waits_travels_together_up_to_the_limit() {
        let queue = Queue::new(1 << 20, 1_000, 2);
        assert_eq!(take(&queue), None);
        let _answers = [400, 400, 400, 5_000, 10, 20].map(|bytes| push(&queue, bytes));
        for entry in [vec![400, 400], vec![400], vec![5_000], vec![10, 20]] {
            assert_eq!(take(&queue), Some(entry));
            assert_eq!(take(&queue), None, "little waits: one entry at a time");
            queue.landed();
        }
        assert_eq!(take(&queue), None);
    }

    #[test]
    fn a_second_entry_starts_only_when_much_waits_and_a_third_never() {
        let queue = Queue::new(64 << 20, 100_000, 2);
        let _first = push(&queue, 10);
        assert_eq!(take(&queue), Some(vec![10]));
        let mut answers: Vec<Answer> = (0..3).map(|_| push(&queue, 80_000)).collect();
        assert_eq!(take(&queue), None);
        answers.extend((0..20).map(|_| push(&queue, 80_000)));
        assert_eq!(take(&queue), Some(vec![80_000]));
        assert_eq!(take(&queue), None);
    }

    #[test]
    fn who_waits_for_an_entry_is_answered_once_and_the_entry_still_lands() {
        let queue = Queue::new(1_000, 1_000, 1);
        let mut answer = push(&queue, 10);
        let taken = queue.take().now_or_never().flatten().unwrap();
        let flight = queue.depart(taken.into_iter().map(|taken| taken.reply).collect());
        let _later = push(&queue, 20);
        queue.abandon_flights(&ProposeError::Busy);
        assert_eq!(answer.try_recv(), Ok(Err(ProposeError::Busy)));
        assert!(queue.arrive(flight).is_empty());
        assert_eq!(take(&queue), None, "the entry is still in flight");
        queue.landed();
        assert_eq!(take(&queue), Some(vec![20]));
    }

    #[tokio::test]
    async fn room_is_given_in_the_order_it_was_asked_for() {
        let queue = Queue::new(1_000, 1_000, 1);
        let _held = push(&queue, 900);
        let (large, _large) = proposal(800);
        let (small, _small) = proposal(10);
        let (mut first, mut second) = (Box::pin(queue.push(large)), Box::pin(queue.push(small)));
        assert!(first.as_mut().now_or_never().is_none());
        assert!(
            second.as_mut().now_or_never().is_none(),
            "it overtook an earlier one"
        );
        assert_eq!(take(&queue), Some(vec![900]));
        first.await.unwrap();
        second.await.unwrap();
        queue.landed();
        assert_eq!(take(&queue), Some(vec![800, 10]));
    }

    #[tokio::test]
    async fn a_submitter_that_gives_up_leaves_nothing_behind() {
        let queue = Queue::new(1_000, 1_000, 1);
        let _held = push(&queue, 900);
        let (given_up, _answer) = proposal(500);
        assert!(queue.push(given_up).now_or_never().is_none());
        assert_eq!(take(&queue), Some(vec![900]));
        queue.landed();
        assert_eq!(take(&queue), None);
        assert_eq!(queue.room.available_permits(), 1_000);
    }

    #[tokio::test]
    async fn what_waits_can_be_refused_without_closing() {
        let queue = Queue::new(1_000, 300, 1);
        let (_flying, refused) = (push(&queue, 300), push(&queue, 300));
        assert_eq!(take(&queue), Some(vec![300]));
        let error = ProposeError::NotLeader { leader: None };
        queue.refuse_waiting(&error);
        assert_eq!(refused.await.unwrap(), Err(error));
        let _next = push(&queue, 900);
        queue.landed();
        assert_eq!(take(&queue), Some(vec![900]));
        assert_eq!(queue.room.available_permits(), 1_000);
    }

    #[tokio::test]
    async fn closing_refuses_what_waits_and_waits_for_what_flies() {
        let queue = Queue::new(1_000, 300, 1);
        let (_flying, refused) = (push(&queue, 300), push(&queue, 300));
        assert_eq!(take(&queue), Some(vec![300]));
        queue.close(End::Closed);
        assert_eq!(refused.await.unwrap(), Err(ProposeError::ShuttingDown));
        let (late, _answer) = proposal(1);
        assert_eq!(queue.push(late).await, Err(ProposeError::ShuttingDown));
        assert!(queue.drained().now_or_never().is_none());
        queue.landed();
        queue.drained().await;
        assert_eq!(take(&queue), None);
    }
}
