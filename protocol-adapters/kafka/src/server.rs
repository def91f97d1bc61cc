//! Sockets: the listener, and the loop that every connection runs.

use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use broker::Broker;
use bytes::{Buf, Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use listener::{Connection, Listener, ListenerConfig, ListenerHandle};
use storage::clock::Clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::OwnedWriteHalf;
use tracing::{debug, warn};

use crate::codec;
use crate::handlers::{self, Begun, Context, RequestError, Work};
use crate::session::{Outcome, Session, SessionLimits, Ticket};

/// What is asked of a socket at once while no larger frame is on its way.
const READ_BYTES: usize = 16 << 10;
/// Most memory that is made ready for a frame before its bytes have come; beyond it, as much again
/// as has come.
const READ_AHEAD_BYTES_MAX: usize = 1 << 20;
/// Most pieces of answers in one write.
const WRITE_PIECES_MAX: usize = 64;

/// Limits of the Kafka listener.
#[derive(Debug, Clone)]
pub struct KafkaServerConfig {
    /// Largest request, in bytes (Kafka's `socket.request.max.bytes`); a larger one closes the
    /// connection.
    pub frame_bytes_max: usize,
    /// Open connections in total.
    pub connections_max: usize,
    /// Open connections from one address.
    pub connections_per_address_max: usize,
    /// A connection's first request must have come within this time.
    pub handshake_ms_max: i64,
    /// A connection on which nothing moves for this long is closed.
    pub idle_ms_max: i64,
    /// Bytes of requests in hand and of answers not yet sent, for one connection; above it, nothing
    /// more is read from it. One request is always taken, whatever its size.
    pub inflight_bytes_per_connection_max: usize,
    /// Requests in hand for one connection; above it, nothing more is read from it.
    pub inflight_requests_per_connection_max: usize,
    /// Largest amount of records in one answer to a fetch (Kafka's `fetch.max.bytes`).
    pub fetch_bytes_max: usize,
    /// How long a shutdown waits for requests in hand.
    pub shutdown_ms_max: u64,
    /// Which of the nodes' addresses clients are given, by the name of the listener.
    pub listener_name: String,
}

impl Default for KafkaServerConfig {
    fn default() -> KafkaServerConfig {
        KafkaServerConfig {
            frame_bytes_max: 100 << 20,
            connections_max: 10_000,
            connections_per_address_max: 10_000,
            handshake_ms_max: 10_000,
            idle_ms_max: 600_000,
            inflight_bytes_per_connection_max: 32 << 20,
            inflight_requests_per_connection_max: 256,
            fetch_bytes_max: 55 << 20,
            shutdown_ms_max: 5_000,
            listener_name: "kafka".to_owned(),
        }
    }
}

/// A bound Kafka listener that does not serve yet.
#[derive(Debug)]
pub struct KafkaServer {
    listener: Listener,
    config: KafkaServerConfig,
}

/// A serving Kafka listener. Dropping it closes every connection without waiting.
#[derive(Debug)]
pub struct KafkaServerHandle {
    listener: ListenerHandle,
    shutdown_ms_max: u64,
}

impl KafkaServer {
    /// Binds, so that the port is known before the node says where it can be reached.
    /// Must be called within a tokio runtime.
    pub fn bind(
        addr: SocketAddr,
        config: KafkaServerConfig,
        clock: Clock,
    ) -> io::Result<KafkaServer> {
        let limits = ListenerConfig {
            name: config.listener_name.clone(),
            connections_max: config.connections_max,
            connections_per_address_max: config.connections_per_address_max,
            handshake_ms_max: config.handshake_ms_max,
            idle_ms_max: config.idle_ms_max,
        };
        Ok(KafkaServer {
            listener: Listener::bind(addr, limits, clock)?,
            config,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.listener.local_addr()
    }

    /// Starts to serve.
    pub fn serve(self, broker: Broker) -> KafkaServerHandle {
        let shutdown_ms_max = self.config.shutdown_ms_max;
        let config = Arc::new(self.config);
        let listener = self.listener.serve(move |connection| {
            let context = Context {
                broker: broker.clone(),
                listener_name: config.listener_name.clone(),
                fetch_bytes_max: config.fetch_bytes_max,
                stop: connection.stop.clone(),
            };
            let config = Arc::clone(&config);
            Box::pin(async move { serve_connection(connection, &context, &config).await })
        });
        KafkaServerHandle {
            listener,
            shutdown_ms_max,
        }
    }
}

impl KafkaServerHandle {
    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.listener.local_addr()
    }

    /// Takes no more requests, finishes those in hand within a deadline, closes every connection.
    pub async fn shutdown(self) {
        self.listener.shutdown(self.shutdown_ms_max).await;
    }
}

/// A request that goes on by itself, with the place of its answer.
type Waiting = Pin<Box<dyn Future<Output = (Ticket, Outcome)> + Send>>;

/// Serves one connection until it ends. Ending it drops what still waits.
async fn serve_connection(connection: Connection, context: &Context, config: &KafkaServerConfig) {
    let Connection {
        stream,
        peer,
        activity,
        mut stop,
    } = connection;
    let (mut reader, mut writer) = stream.into_split();
    let mut session = Session::new(SessionLimits {
        requests_max: config.inflight_requests_per_connection_max,
        bytes_max: config.inflight_bytes_per_connection_max,
    });
    let mut unread = BytesMut::new();
    let mut unsent: VecDeque<Bytes> = VecDeque::new();
    let mut waiting: FuturesUnordered<Waiting> = FuturesUnordered::new();
    // One fetch after another, so that a connection holds what one of them read, and no more.
    let mut fetches: VecDeque<(Ticket, Work)> = VecDeque::new();
    let mut fetching: Option<Ticket> = None;
    // The one request whose place in the order is not fixed yet.
    let mut beginning = None;
    loop {
        if beginning.is_none() && session.may_take() && !stop.is_requested() {
            match codec::take_frame(&mut unread, config.frame_bytes_max) {
                Ok(Some(frame)) => {
                    activity.established();
                    let ticket = session.take(frame.len());
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
        if unsent.is_empty()
            && fetching.is_none_or(|ticket| session.is_answered(ticket))
            && let Some((ticket, work)) = fetches.pop_front()
        {
            fetching = Some(ticket);
            waiting.push(Box::pin(async move { (ticket, work.await) }));
        }
        let may_read = beginning.is_none() && session.may_take() && !stop.is_requested();
        let is_done = session.has_ended() || (stop.is_requested() && session.is_idle());
        if is_done && unsent.is_empty() {
            return;
        }
        if may_read {
            reserve(&mut unread, config.frame_bytes_max);
        }

        // What is ready is gathered before it is written, and written before more is read. Every
        // arm is cancel-safe: futures are kept, reads and writes do one step.
        tokio::select! {
            biased;
            Some((ticket, outcome)) = waiting.next(), if !waiting.is_empty() => {
                session.complete(ticket, outcome);
            }
            (ticket, begun) = poll_kept(&mut beginning), if beginning.is_some() => {
                beginning = None;
                match begun {
                    Begun::Done(outcome) => session.complete(ticket, outcome),
                    Begun::Pending(work) => {
                        waiting.push(Box::pin(async move { (ticket, work.await) }));
                    }
                    Begun::PendingFetch(work) => fetches.push_back((ticket, work)),
                }
            }
            written = write_some(&mut writer, &unsent), if !unsent.is_empty() => match written {
                Ok(bytes @ 1..) => {
                    activity.touch();
                    session.sent(bytes);
                    drop_front(&mut unsent, bytes);
                }
                Ok(0) | Err(_) => return, // the peer is gone
            },
            read = reader.read_buf(&mut unread), if may_read => match read {
                Ok(1..) => activity.touch(),
                Ok(0) => return,
                Err(reason) => {
                    debug!(%peer, %reason, "connection lost");
                    return;
                }
            },
            () = stop.requested(), if !stop.is_requested() => {}
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

/// Makes room for what comes next: the rest of a frame whose length is known, as far as it is
/// prudent to believe it, or a little.
fn reserve(unread: &mut BytesMut, frame_bytes_max: usize) {
    if unread.is_empty() {
        *unread = BytesMut::new(); // lets go of what the last frame needed
    }
    let missing = codec::missing_bytes(unread, frame_bytes_max);
    let ahead = READ_AHEAD_BYTES_MAX.max(unread.len());
    unread.reserve(missing.min(ahead).max(READ_BYTES));
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
