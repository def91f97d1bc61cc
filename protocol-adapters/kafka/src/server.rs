//! The listener: its limits, and what all of its connections share.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use broker::Broker;
use listener::{Connection, Listener, ListenerConfig, ListenerHandle};
use storage::clock::Clock;
use tracing::debug;

use crate::budget::Budget;
use crate::connection;
use crate::fetch_sessions::{CacheLimits, FetchSessions};
use crate::handlers::Context;

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
    /// A request must have come completely within this time of its first byte; 0: any time.
    pub frame_ms_max: i64,
    /// While answers are not sent, 1 MiB of them, or all, must leave within this time; 0: any time.
    pub send_ms_max: i64,
    /// Bytes of requests in hand and of records read for answers, over all connections; at least 4
    /// times `frame_bytes_max`. Each connection has 64 KiB beside it.
    pub inflight_bytes_max: usize,
    /// Bytes of requests in hand and of answers not yet sent, for one connection; above it, nothing
    /// more is read from it. One request is always taken, whatever its size.
    pub inflight_bytes_per_connection_max: usize,
    /// Requests in hand for one connection; above it, nothing more is read from it.
    pub inflight_requests_per_connection_max: usize,
    /// Largest amount of records in one answer to a fetch (Kafka's `fetch.max.bytes`).
    pub fetch_bytes_max: usize,
    /// Fetch sessions at the same time (Kafka's `max.incremental.fetch.session.cache.slots`,
    /// KIP-227); with 0 every fetch names all of its partitions.
    pub fetch_sessions_max: usize,
    /// Bytes that fetch sessions may take, some 800 a partition.
    pub fetch_session_bytes_max: usize,
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
            frame_ms_max: 60_000,
            send_ms_max: 60_000,
            inflight_bytes_max: 1 << 30,
            inflight_bytes_per_connection_max: 32 << 20,
            inflight_requests_per_connection_max: 256,
            fetch_bytes_max: 55 << 20,
            fetch_sessions_max: 1_000,
            fetch_session_bytes_max: 128 << 20,
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
    budget: Budget,
    fetch_sessions: FetchSessions,
    clock: Clock,
}

/// A serving Kafka listener. Dropping it closes every connection without waiting.
#[derive(Debug)]
pub struct KafkaServerHandle {
    listener: ListenerHandle,
    shutdown_ms_max: u64,
    budget: Budget,
    fetch_sessions: FetchSessions,
}

impl KafkaServer {
    /// Binds, so that the port is known before the node says where it can be reached.
    /// Must be called within a tokio runtime. Refuses an `inflight_bytes_max` that is too small.
    pub fn bind(
        addr: SocketAddr,
        config: KafkaServerConfig,
        clock: Clock,
    ) -> io::Result<KafkaServer> {
        let budget = Budget::new(config.inflight_bytes_max, config.frame_bytes_max);
        let budget = budget.ok_or_else(|| {
            let reason = "inflight_bytes_max must be at least 4 times frame_bytes_max";
            io::Error::new(io::ErrorKind::InvalidInput, reason)
        })?;
        let limits = ListenerConfig {
            name: config.listener_name.clone(),
            connections_max: config.connections_max,
            connections_per_address_max: config.connections_per_address_max,
            handshake_ms_max: config.handshake_ms_max,
            idle_ms_max: config.idle_ms_max,
        };
        let fetch_sessions = FetchSessions::new(CacheLimits {
            sessions_max: config.fetch_sessions_max,
            bytes_max: config.fetch_session_bytes_max,
        });
        Ok(KafkaServer {
            listener: Listener::bind(addr, limits, clock.clone())?,
            config,
            budget,
            fetch_sessions,
            clock,
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
        let (budget, clock) = (self.budget.clone(), self.clock);
        let fetch_sessions = self.fetch_sessions.clone();
        let listens_on = self.listener.local_addr();
        let listener = self.listener.serve(move |mut connection| {
            let context = Context {
                broker: broker.clone(),
                listener_name: config.listener_name.clone(),
                client_host: format!("/{}", connection.peer.ip().to_canonical()),
                fetch_bytes_max: config.fetch_bytes_max,
                fetch_sessions: fetch_sessions.clone(),
                reads: budget.reads().clone(),
                config: Arc::clone(&config),
                listens_on,
                throttle: Arc::default(),
                stop: connection.stop.clone(),
            };
            let (config, budget, clock) = (Arc::clone(&config), budget.clone(), clock.clone());
            let broker = broker.clone();
            Box::pin(async move {
                if let Err(wait_ms) = broker.use_connection_quota(connection.peer.ip()) {
                    return refuse(&mut connection, wait_ms).await;
                }
                connection::serve(connection, &context, &config, &budget, &clock).await;
            })
        });
        KafkaServerHandle {
            listener,
            shutdown_ms_max,
            budget: self.budget,
            fetch_sessions: self.fetch_sessions,
        }
    }
}

/// Holds a connection that came too soon after others from its address until there may be another,
/// and lets it be closed: a client that tries again at once gains nothing by it (KIP-612). The
/// handshake's deadline holds as well.
async fn refuse(connection: &mut Connection, wait_ms: u64) {
    let peer = connection.peer;
    debug!(%peer, wait_ms, "connection refused by its address's quota");
    tokio::select! {
        () = connection.stop.requested() => {}
        () = tokio::time::sleep(Duration::from_millis(wait_ms)) => {}
    }
}

impl KafkaServerHandle {
    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.listener.local_addr()
    }

    /// Bytes that connections hold of `inflight_bytes_max` now.
    #[must_use]
    pub fn inflight_bytes(&self) -> usize {
        self.budget.used_bytes()
    }

    /// Fetch sessions that there are now, and about what they take of memory in bytes.
    #[must_use]
    pub fn fetch_sessions(&self) -> (usize, usize) {
        (self.fetch_sessions.count(), self.fetch_sessions.bytes())
    }

    /// Takes no more requests, finishes those in hand within a deadline, closes every connection.
    pub async fn shutdown(self) {
        self.listener.shutdown(self.shutdown_ms_max).await;
    }
}
