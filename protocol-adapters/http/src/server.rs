//! The listener: its limits, its routes, and the connections.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use broker::Broker;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use listener::{Connection, Listener, ListenerConfig, ListenerHandle};
use storage::clock::Clock;
use tokio::sync::watch;
use tracing::debug;

use crate::handlers::{cluster, health, nodes, shards};
use crate::mapping;

/// Largest body of a request: what is sent here is small.
const BODY_BYTES_MAX: usize = 64 << 10;
/// Largest head of a request.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// Limits of the HTTP listener.
#[derive(Debug, Clone)]
pub struct HttpServerConfig {
    /// Open connections in total.
    pub connections_max: usize,
    /// A request's head must have come within this time; connections without requests are closed
    /// after it as well.
    pub head_ms_max: u64,
    /// A request is answered within this time, if only to say that it takes longer.
    pub request_ms_max: u64,
    /// How long a shutdown waits for requests in hand.
    pub shutdown_ms_max: u64,
}

impl Default for HttpServerConfig {
    fn default() -> HttpServerConfig {
        HttpServerConfig {
            connections_max: 256,
            head_ms_max: 30_000,
            request_ms_max: 60_000,
            shutdown_ms_max: 2_000,
        }
    }
}

/// A bound HTTP listener that does not serve yet.
#[derive(Debug)]
pub struct HttpServer {
    listener: Listener,
    config: HttpServerConfig,
}

/// A serving HTTP listener. Dropping it closes every connection without waiting.
#[derive(Debug)]
pub struct HttpServerHandle {
    listener: ListenerHandle,
    shutdown_ms_max: u64,
}

/// What every request is given.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    pub(crate) broker: watch::Receiver<Option<Broker>>,
    request_ms_max: u64,
}

impl HttpServer {
    /// Binds. Must be called within a tokio runtime.
    pub fn bind(
        addr: SocketAddr,
        config: HttpServerConfig,
        clock: Clock,
    ) -> io::Result<HttpServer> {
        let limits = ListenerConfig {
            name: "http".to_owned(),
            connections_max: config.connections_max,
            connections_per_address_max: config.connections_max,
            // hyper watches over both, since it knows when a request is in hand.
            handshake_ms_max: 0,
            idle_ms_max: 0,
        };
        Ok(HttpServer {
            listener: Listener::bind(addr, limits, clock)?,
            config,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.listener.local_addr()
    }

    /// Starts to serve; while there is no broker, to say so.
    pub fn serve(self, broker: watch::Receiver<Option<Broker>>) -> HttpServerHandle {
        let router = router(Shared {
            broker,
            request_ms_max: self.config.request_ms_max,
        });
        let head_max = Duration::from_millis(self.config.head_ms_max);
        let shutdown_ms_max = self.config.shutdown_ms_max;
        let listener = self
            .listener
            .serve(move |connection| Box::pin(converse(connection, router.clone(), head_max)));
        HttpServerHandle {
            listener,
            shutdown_ms_max,
        }
    }
}

impl HttpServerHandle {
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

/// Serves one connection until it ends, or until what is in hand is answered after a stop.
async fn converse(connection: Connection, router: Router, head_max: Duration) {
    let Connection {
        stream,
        peer,
        mut stop,
        ..
    } = connection;
    let serving = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_max)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut serving = std::pin::pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = stop.requested() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        debug!(%peer, %error, "connection closed");
    }
}

fn router(shared: Shared) -> Router {
    Router::new()
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/v1/cluster", get(cluster::show))
        .route("/v1/cluster/rebalance", post(cluster::rebalance))
        .route("/v1/nodes", get(nodes::list))
        .route("/v1/nodes/{id}", delete(nodes::remove))
        .route("/v1/nodes/{id}/drain", post(nodes::drain))
        .route("/v1/nodes/{id}/undrain", post(nodes::undrain))
        .route("/v1/shards", get(shards::list))
        .route("/v1/shards/{id}/leader", post(shards::lead))
        .fallback(async || mapping::no_such_path())
        .method_not_allowed_fallback(async || mapping::wrong_method())
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(shared.clone(), in_time))
        .with_state(shared)
}

/// Answers that it takes too long when it does.
async fn in_time(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let limit = Duration::from_millis(shared.request_ms_max);
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => mapping::too_slow(shared.request_ms_max).into_response(),
    }
}
