//! The loop that every connection runs: between its socket, its session and its requests.
//!
//! Owns what one connection holds: bytes read and not taken, answers not sent, futures of requests
//! in hand, its part of the budget, the deadlines of its peer. Invariant: nothing is read from the
//! socket that has no room, in the session and in the budget, or while the client has used up its
//! quota.

use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use broker::ByteShare;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use listener::Connection;
use net::{OwnedReadHalf, OwnedWriteHalf};
use storage::clock::Clock;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, Sleep};
use tracing::{debug, warn};

use crate::budget::{Budget, Grant, Holding};
use crate::codec;
use crate::handlers::{self, Begun, Context, FetchWork, RequestError};
use crate::server::KafkaServerConfig;
use crate::session::{Outcome, Session, SessionLimits, Ticket};
use crate::stall::Stall;

/// What is asked of a socket at once while no larger frame is on its way.
const READ_BYTES: usize = 16 << 10;
/// Most memory that is made ready for a frame before its bytes have come; beyond it, as much again
/// as has come.
const READ_AHEAD_BYTES_MAX: usize = 1 << 20;
/// Requests of one connection that are begun before other connections get a turn.
const REQUESTS_PER_TURN: u32 = 8;
/// Most pieces of answers in one write.
const WRITE_PIECES_MAX: usize = 64;
/// So much of the answers must leave for their deadline to start anew: a peer that reads a byte now
/// and then holds memory as one does that reads nothing.
const SEND_PROGRESS_BYTES: usize = 1 << 20;

/// A request that goes on by itself, with the place of its answer.
type Waiting = Pin<Box<dyn Future<Output = (Ticket, Outcome, ByteShare)> + Send>>;

/// Serves one connection until it ends. Ending it drops what still waits.
pub(crate) async fn serve(
    connection: Connection,
    context: &Context,
    config: &KafkaServerConfig,
    budget: &Budget,
    clock: &Clock,
) {
    let Connection {
        stream,
        peer,
        activity,
        mut stop,
    } = connection;
    let (reader, mut writer) = stream.into_split();
    let mut session = Session::new(SessionLimits {
        requests_max: config.inflight_requests_per_connection_max,
        bytes_max: config.inflight_bytes_per_connection_max,
    });
    let mut unread = BytesMut::new();
    let mut unsent: VecDeque<Bytes> = VecDeque::new();
    let mut waiting: FuturesUnordered<Waiting> = FuturesUnordered::new();
    // One fetch after another, so that a connection holds what one of them read, and no more.
    let mut fetches: VecDeque<(Ticket, FetchWork)> = VecDeque::new();
    let mut fetching: Option<Ticket> = None;
    let mut fetched = ByteShare::default();
    // The one request whose place in the order is not fixed yet.
    let mut beginning = None;
    let mut holding = Holding::default();
    let mut taking: Option<Pin<Box<dyn Future<Output = Grant> + Send>>> = None;
    let mut deadlines = Deadlines::new(config);
    let timer = tokio::time::sleep(Duration::ZERO);
    tokio::pin!(timer);
    let mut begun_in_turn = 0;
    loop {
        if begun_in_turn == REQUESTS_PER_TURN {
            // Requests that are here already are answered without waiting for anything: others
            // must get their turn all the same.
            begun_in_turn = 0;
            tokio::task::yield_now().await;
        }
        let is_muted = context.throttle.left_ms(clock.monotonic_ms()).is_some();
        if beginning.is_none() && session.may_take() && !is_muted && !stop.is_requested() {
            match codec::take_frame(&mut unread, config.frame_bytes_max) {
                Ok(Some(frame)) => {
                    activity.established();
                    deadlines.frame.moved();
                    let ticket = session.take(frame.len());
                    begun_in_turn += 1;
                    beginning = Some(Box::pin(begin(context, ticket, frame, peer)));
                }
                Ok(None) => {}
                Err(reason) => {
                    warn!(%peer, %reason, "connection closed");
                    let ticket = session.take(0);
                    session.complete(ticket, Outcome::Close);
                }
            }
        }
        while let Some(answer) = session.next_answer() {
            unsent.extend(answer);
        }
        if unsent.is_empty() && fetching.is_none_or(|ticket| session.is_answered(ticket)) {
            fetched = ByteShare::default();
            fetching = fetches.pop_front().map(|(ticket, work)| {
                waiting.push(Box::pin(async move {
                    let (outcome, share) = work.await;
                    (ticket, outcome, share)
                }));
                ticket
            });
        }
        let now_ms = clock.monotonic_ms();
        let muted_ms = context.throttle.left_ms(now_ms);
        let may_read =
            beginning.is_none() && session.may_take() && muted_ms.is_none() && !stop.is_requested();
        let is_done = session.has_ended() || (stop.is_requested() && session.is_idle());
        if is_done && unsent.is_empty() {
            return;
        }

        let missing = codec::missing_bytes(&unread, config.frame_bytes_max);
        let uncovered = session.bytes().saturating_sub(fetched.bytes());
        let in_hand = uncovered + unread.len();
        holding.settle(in_hand, missing);
        let room = holding.room(in_hand, missing);
        let may_take = may_read && room == 0 && holding.may_take(in_hand);
        if !may_take {
            taking = None;
        }

        deadlines
            .frame
            .set_waiting(may_read && !unread.is_empty(), now_ms);
        deadlines.send.set_waiting(!unsent.is_empty(), now_ms);
        match holding.has_turn() {
            true => deadlines.turn.set_waiting(true, now_ms),
            false => deadlines.turn.moved(),
        }
        if let Err(reason) = deadlines.check(now_ms) {
            let waits_for_room = taking.is_some();
            warn!(%peer, reason, waits_for_room, "connection closed");
            return;
        }
        deadlines.arm(timer.as_mut(), muted_ms, now_ms);

        // What is ready is gathered before it is written, and written before more is read. Every
        // arm is cancel-safe: futures are kept, reads and writes do one step.
        tokio::select! {
            biased;
            Some((ticket, outcome, share)) = waiting.next(), if !waiting.is_empty() => {
                session.complete(ticket, outcome);
                if fetching == Some(ticket) {
                    fetched = share;
                }
            }
            (ticket, begun) = poll_kept(&mut beginning), if beginning.is_some() => {
                beginning = None;
                match begun {
                    Begun::Done(outcome) => session.complete(ticket, outcome),
                    Begun::Pending(work) => waiting.push(Box::pin(async move {
                        (ticket, work.await, ByteShare::default())
                    })),
                    Begun::PendingFetch(work) => fetches.push_back((ticket, work)),
                }
            }
            written = write_some(&mut writer, &unsent), if !unsent.is_empty() => match written {
                Ok(bytes @ 1..) => {
                    activity.touch();
                    session.sent(bytes);
                    drop_front(&mut unsent, bytes);
                    deadlines.sent(bytes, unsent.is_empty());
                }
                Ok(0) | Err(_) => return, // the peer is gone
            },
            read = read_some(&reader, &mut unread, room, missing), if may_read && room > 0 => {
                match read {
                    Ok(1..) => activity.touch(),
                    Ok(0) => return,
                    Err(reason) => {
                        debug!(%peer, %reason, "connection lost");
                        return;
                    }
                }
            }
            // Only a peer that has sent something takes from the budget: room is never held for
            // bytes that do not come.
            ready = reader.readable(), if may_take && taking.is_none() => {
                if let Err(reason) = ready {
                    debug!(%peer, %reason, "connection lost");
                    return;
                }
                taking = Some(match budget.try_take(missing) {
                    Some(grant) => Box::pin(std::future::ready(grant)),
                    None => Box::pin(budget.clone().take(missing)),
                });
            }
            grant = poll_kept(&mut taking), if taking.is_some() => {
                taking = None;
                holding.add(grant);
                let room = holding.room(in_hand, missing);
                match try_read_some(&reader, &mut unread, room, missing) {
                    Ok(1..) => activity.touch(),
                    Ok(0) => return,
                    Err(reason) if reason.kind() == io::ErrorKind::WouldBlock => {}
                    Err(reason) => {
                        debug!(%peer, %reason, "connection lost");
                        return;
                    }
                }
            }
            () = &mut timer, if deadlines.armed_ms.is_some() => deadlines.armed_ms = None,
            () = stop.requested(), if !stop.is_requested() => {}
        }
    }
}

/// By when the peer must have done what it is waited for.
struct Deadlines {
    frame: Stall,
    send: Stall,
    turn: Stall,
    unreported_bytes: usize,
    armed_ms: Option<i64>, // when the timer goes off; may be too early, never too late
}

impl Deadlines {
    fn new(config: &KafkaServerConfig) -> Deadlines {
        Deadlines {
            frame: Stall::new(config.frame_ms_max),
            send: Stall::new(config.send_ms_max),
            turn: Stall::new(config.frame_ms_max),
            unreported_bytes: 0,
            armed_ms: None,
        }
    }

    /// Bytes of answers have left, all of them or not.
    fn sent(&mut self, bytes: usize, all: bool) {
        self.unreported_bytes += bytes;
        if all || self.unreported_bytes >= SEND_PROGRESS_BYTES {
            self.unreported_bytes = 0;
            self.send.moved();
        }
    }

    /// Says which deadline has passed.
    fn check(&self, now_ms: i64) -> Result<(), &'static str> {
        let is_over = |stall: &Stall| stall.left_ms(now_ms).is_some_and(|left_ms| left_ms <= 0);
        if is_over(&self.frame) {
            Err("a request did not come completely in time")
        } else if is_over(&self.send) {
            Err("answers were not read in time")
        } else if is_over(&self.turn) {
            Err("a request held the last of the memory for requests too long")
        } else {
            Ok(())
        }
    }

    /// Sets the timer for the next deadline, or the time when the connection is read from again,
    /// unless it goes off before that anyway.
    fn arm(&mut self, timer: Pin<&mut Sleep>, muted_ms: Option<i64>, now_ms: i64) {
        let stalls = [&self.frame, &self.send, &self.turn];
        let next = stalls
            .iter()
            .filter_map(|stall| stall.left_ms(now_ms))
            .chain(muted_ms)
            .min();
        let Some(left_ms) = next else {
            return;
        };
        let due_ms = now_ms.saturating_add(left_ms);
        if self.armed_ms.is_none_or(|armed_ms| due_ms < armed_ms) {
            let left_ms = u64::try_from(left_ms).unwrap_or(0);
            // A clock that counts in whole milliseconds may be one behind the timer's.
            timer.reset(Instant::now() + Duration::from_millis(left_ms.saturating_add(1)));
            self.armed_ms = Some(due_ms);
        }
    }
}

/// Begins a request; whatever is wrong with it is logged here and ends the connection.
async fn begin(
    context: &Context,
    ticket: Ticket,
    frame: Bytes,
    peer: SocketAddr,
) -> (Ticket, Begun) {
    match handlers::begin(context, frame).await {
        Ok(begun) => (ticket, begun),
        Err(reason) => {
            let reason: RequestError = reason;
            warn!(%peer, %reason, "connection closed");
            (ticket, Begun::Done(Outcome::Close))
        }
    }
}

/// Polls a future that stays where it is when this is dropped.
async fn poll_kept<F: Future + Unpin>(kept: &mut Option<F>) -> F::Output {
    match kept {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

/// Makes room for what comes next: the rest of a frame of which `missing` bytes have not come, as
/// far as it is prudent to believe it, or a little.
fn reserve(unread: &mut BytesMut, missing: usize) {
    if unread.is_empty() {
        *unread = BytesMut::new(); // lets go of what the last frame needed
    }
    let ahead = READ_AHEAD_BYTES_MAX.max(unread.len());
    unread.reserve(missing.min(ahead).max(READ_BYTES));
}

/// Reads what has come, `room` bytes at most; waits for the first. Cancel-safe.
async fn read_some(
    reader: &OwnedReadHalf,
    unread: &mut BytesMut,
    room: usize,
    missing: usize,
) -> io::Result<usize> {
    loop {
        reader.readable().await?;
        match try_read_some(reader, unread, room, missing) {
            Err(reason) if reason.kind() == io::ErrorKind::WouldBlock => {}
            read => return read,
        }
    }
}

/// Reads what has come, `room` bytes at most, which must be above 0.
fn try_read_some(
    reader: &OwnedReadHalf,
    unread: &mut BytesMut,
    room: usize,
    missing: usize,
) -> io::Result<usize> {
    assert!(room > 0, "reading nothing looks like the end");
    reserve(unread, missing);
    reader.try_read_buf(&mut unread.limit(room))
}

/// Writes as much of the pieces as the socket takes at once. Cancel-safe.
async fn write_some(writer: &mut OwnedWriteHalf, unsent: &VecDeque<Bytes>) -> io::Result<usize> {
    let mut pieces = [IoSlice::new(&[]); WRITE_PIECES_MAX];
    let mut count = 0;
    for (slot, piece) in pieces.iter_mut().zip(unsent) {
        *slot = IoSlice::new(piece);
        count += 1;
    }
    writer.write_vectored(&pieces[..count]).await
}

fn drop_front(unsent: &mut VecDeque<Bytes>, mut bytes: usize) {
    while let Some(front) = unsent.front_mut() {
        if bytes < front.len() {
            front.advance(bytes);
            return;
        }
        bytes -= front.len();
        unsent.pop_front();
    }
}
