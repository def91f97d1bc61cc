//! A node: a broker on one data directory and the listeners that lead to it.
//!
//! A plain value: nothing here is static, so that several run in one process. When the storage
//! fails the node starts over from disk by itself, in the same process and on the same ports; the
//! data directory stays locked meanwhile, and the HTTP listener says that the node is not ready.
//! Only where the failure itself cannot be noted does the node end: see [`Node::broker`].

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use broker::{Broker, BrokerError, Env, StartError};
use http_admin::{HttpServer, HttpServerHandle};
use kafka::{KafkaServer, KafkaServerHandle};
use raft::{PeerTls, Peers, PeersConfig, PeersError};
use storage::data_dir::{DataDir, DataDirError};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use crate::config::Config;
use crate::hand_over::hand_over;

/// Name of the Kafka listener in the catalogue.
pub const KAFKA_LISTENER: &str = "kafka";
/// Name of the listener for operators in the catalogue.
pub const HTTP_LISTENER: &str = "http";
/// Name of the listener for other nodes in the catalogue.
pub const PEERS_LISTENER: &str = "peers";
/// A node that is stopped gives away what it leads for at most this long before it closes.
const HAND_OVER_MAX: Duration = Duration::from_secs(2);
/// First pause before starting over from disk; doubles each time, up to the last.
const RESTART_DELAY_FIRST: Duration = Duration::from_millis(100);
const RESTART_DELAY_MAX: Duration = Duration::from_secs(10);
/// A node that served this long before it failed starts over with the first pause again.
const RESTART_DELAY_FORGOTTEN_MS: i64 = 60_000;

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The data directory cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The address to listen on does not exist.
    #[error("cannot resolve {host}: {source}")]
    Resolve {
        /// The host, as configured.
        host: String,
        /// Why.
        source: io::Error,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Other nodes cannot be listened for.
    #[error("cannot listen for other nodes on {address}: {source}")]
    Peers {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: PeersError,
    },
    /// A file for TLS cannot be read.
    #[error("{key}: cannot read {}: {source}", path.display())]
    Pem {
        /// The configuration's key.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The broker did not start.
    #[error(transparent)]
    Broker(#[from] StartError),
    /// The node could not be entered into the catalogue.
    #[error("cannot enter the node into the catalogue: {0}")]
    Register(BrokerError),
}

/// A running node. Dropping it stops it without waiting; see [`Node::shutdown`].
#[derive(Debug)]
pub struct Node {
    addresses: Addresses,
    broker: watch::Receiver<Option<Broker>>,
    stop: oneshot::Sender<()>,
    supervisor: JoinHandle<()>,
}

impl Node {
    /// Locks the data directory, binds the listeners, recovers, waits for the other nodes where
    /// there must be others, and serves. On return every partition that can be served is served.
    /// Must run within a tokio runtime. Dropping the future gives up without waiting.
    pub async fn start(config: Config, env: Env) -> Result<Node, NodeError> {
        let parts = Parts::lock(config, env).await?;
        let (publish, broker) = watch::channel(None);
        let http = parts.serve_http(broker.clone()).await?;
        let wanted = parts.wanted(http.local_addr()).await?;
        let running = parts.run(wanted).await?;
        let addresses = running.addresses;
        publish.send_replace(Some(running.broker.clone()));
        let (stop, stopped) = oneshot::channel();
        let supervisor = tokio::spawn(supervise(parts, running, http, publish, stopped));
        Ok(Node {
            addresses,
            broker,
            stop,
            supervisor,
        })
    }

    /// Where the Kafka listener listens; stays the same when the node starts over.
    #[must_use]
    pub fn kafka_addr(&self) -> SocketAddr {
        self.addresses.kafka
    }

    /// Where operators are listened for; stays the same when the node starts over.
    #[must_use]
    pub fn http_addr(&self) -> SocketAddr {
        self.addresses.http
    }

    /// Where other nodes are listened for; stays the same when the node starts over.
    #[must_use]
    pub fn peers_addr(&self) -> SocketAddr {
        self.addresses.peers
    }

    /// The broker that serves now; `None` while the node starts over from disk. Its sender goes
    /// when the node has ended for good.
    #[must_use]
    pub fn broker(&self) -> watch::Receiver<Option<Broker>> {
        self.broker.clone()
    }

    /// Gives away what this node leads, finishes the requests in hand, makes everything durable and
    /// stops.
    pub async fn shutdown(self) {
        // The supervisor is gone only when it panicked; awaiting it says so.
        let _ = self.stop.send(());
        if let Err(failure) = self.supervisor.await {
            error!(%failure, "the node's supervisor ended abnormally");
        }
    }
}

/// What stays the same over all restarts of a node.
struct Parts {
    config: Config,
    env: Env,
    data_dir: DataDir,
    is_first_run: AtomicBool,
}

/// Where a node's listeners are bound, or shall be.
#[derive(Debug, Clone, Copy)]
struct Addresses {
    kafka: SocketAddr,
    http: SocketAddr,
    peers: SocketAddr,
}

/// What is replaced at a restart.
struct Running {
    broker: Broker,
    kafka: KafkaServerHandle,
    peers: Peers,
    addresses: Addresses,
    since_ms: i64,
}

impl Parts {
    async fn lock(config: Config, env: Env) -> Result<Parts, NodeError> {
        let disk = env.disk.clone();
        let path = config.data_dir.clone();
        let data_dir = net::blocking(move || DataDir::open(&disk, &path))
            .await
            .expect("opening a data directory does not panic")?;
        Ok(Parts {
            config,
            env,
            data_dir,
            is_first_run: AtomicBool::new(true),
        })
    }

    /// Answers operators from now on, if only that the node is not ready.
    async fn serve_http(
        &self,
        broker: watch::Receiver<Option<Broker>>,
    ) -> Result<HttpServerHandle, NodeError> {
        let config = &self.config;
        let address = resolve(&config.http.host, config.http_port()).await?;
        let clock = self.env.clock.clone();
        let server = HttpServer::bind(address, config.http_server(), clock)
            .map_err(|source| NodeError::Listen { address, source })?;
        Ok(server.serve(broker))
    }

    /// Where to listen at the first start.
    async fn wanted(&self, http: SocketAddr) -> Result<Addresses, NodeError> {
        let config = &self.config;
        Ok(Addresses {
            kafka: resolve(&config.kafka.host, config.kafka_port()).await?,
            peers: resolve(&config.peers.host, config.peers_port()).await?,
            http,
        })
    }

    /// Binds, recovers and serves. A restart is given the addresses that were bound before.
    async fn run(&self, wanted: Addresses) -> Result<Running, NodeError> {
        let (config, clock) = (&self.config, &self.env.clock);
        let address = wanted.kafka;
        let server = KafkaServer::bind(address, config.kafka_server(), clock.clone())
            .map_err(|source| NodeError::Listen { address, source })?;
        let address = wanted.peers;
        let peers_config = PeersConfig {
            tls: self.peer_tls().await?,
            ..PeersConfig::new(address)
        };
        let peers = Peers::bind(peers_config, clock.clone())
            .await
            .map_err(|source| NodeError::Peers { address, source })?;
        let addresses = Addresses {
            kafka: server.local_addr(),
            peers: peers.local_addr(),
            http: wanted.http,
        };
        match self.run_broker(addresses, peers.clone()).await {
            Ok(broker) => Ok(Running {
                kafka: server.serve(broker.clone()),
                broker,
                peers,
                addresses,
                since_ms: clock.monotonic_ms(),
            }),
            Err(error) => {
                peers.shutdown().await;
                Err(error)
            }
        }
    }

    async fn run_broker(&self, bound: Addresses, peers: Peers) -> Result<Broker, NodeError> {
        let listeners = self.config.advertised(bound.kafka, bound.http, bound.peers);
        let mut config = self.config.broker();
        // Said of the power that went before this process; what the disk loses now is news.
        config.accept_power_loss &= self.is_first_run.swap(false, Ordering::SeqCst);
        config.advertised.clone_from(&listeners);
        let env = self.env.clone();
        let broker = Broker::start(config, env, self.data_dir.clone(), peers).await?;
        match broker.register_listeners(listeners).await {
            Ok(()) => Ok(broker),
            // Without a leader of the catalogue it takes longer; the broker goes on trying.
            Err(BrokerError::TimedOut { reason }) => {
                warn!(reason, "this node serves before it has caught up");
                Ok(broker)
            }
            Err(error) => {
                broker.shutdown().await;
                Err(NodeError::Register(error))
            }
        }
    }

    async fn peer_tls(&self) -> Result<Option<PeerTls>, NodeError> {
        let peers = &self.config.peers;
        let (Some(certificate), Some(key), Some(ca)) =
            (&peers.tls_certificate, &peers.tls_key, &peers.tls_ca)
        else {
            return Ok(None);
        };
        Ok(Some(PeerTls {
            certificate_chain_pem: self.pem("peers.tls_certificate", certificate).await?,
            key_pem: self.pem("peers.tls_key", key).await?,
            ca_pem: self.pem("peers.tls_ca", ca).await?,
        }))
    }

    async fn pem(&self, key: &'static str, path: &Path) -> Result<Vec<u8>, NodeError> {
        let (disk, file) = (self.env.disk.clone(), path.to_owned());
        net::blocking(move || disk.read_file(&file))
            .await
            .expect("reading a file does not panic")
            .map_err(|source| NodeError::Pem {
                key,
                path: path.to_owned(),
                source,
            })
    }
}

impl Running {
    /// In good order: others lead before this node closes.
    async fn retire(self) {
        if tokio::time::timeout(HAND_OVER_MAX, hand_over(&self.broker))
            .await
            .is_err()
        {
            warn!("leaderships were not given away in time");
        }
        self.stop().await;
    }

    async fn stop(self) {
        self.kafka.shutdown().await;
        self.broker.shutdown().await;
        self.peers.shutdown().await;
    }
}

async fn resolve(host: &str, port: u16) -> Result<SocketAddr, NodeError> {
    let failed = |source| NodeError::Resolve {
        host: host.to_owned(),
        source,
    };
    net::lookup_host(host, port)
        .await
        .map_err(failed)?
        .into_iter()
        .next()
        .ok_or_else(|| failed(io::ErrorKind::NotFound.into()))
}

/// Runs the node until it is stopped, and starts it over when its storage fails.
async fn supervise(
    parts: Parts,
    mut running: Running,
    http: HttpServerHandle,
    publish: watch::Sender<Option<Broker>>,
    mut stopped: oneshot::Receiver<()>,
) {
    let mut delay = RESTART_DELAY_FIRST;
    loop {
        let mut failure = running.broker.failure();
        // Both arms are cancel-safe.
        let reason = tokio::select! {
            _ = &mut stopped => {
                running.retire().await;
                publish.send_replace(None);
                return http.shutdown().await;
            }
            reason = failed(&mut failure) => reason,
        };
        error!(reason, "storage failed, starting over from disk");
        publish.send_replace(None);
        let addresses = running.addresses;
        if parts.env.clock.monotonic_ms() - running.since_ms > RESTART_DELAY_FORGOTTEN_MS {
            delay = RESTART_DELAY_FIRST;
        }
        let broker = running.broker.clone();
        running.stop().await;
        if broker.must_not_start_over() {
            error!(
                "the disk has failed after records were answered that were not synced, and not even \
                 that can be written: this node ends; do not start it on this disk again before \
                 the machine has booted"
            );
            return http.shutdown().await;
        }
        drop(broker);
        running = loop {
            tokio::select! {
                _ = &mut stopped => return http.shutdown().await,
                () = tokio::time::sleep(delay) => {}
            }
            delay = (delay * 2).min(RESTART_DELAY_MAX);
            match parts.run(addresses).await {
                Ok(running) => break running,
                Err(error) => warn!(
                    %error,
                    next_attempt_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX),
                    "cannot start over yet"
                ),
            }
        };
        info!("started over from disk");
        publish.send_replace(Some(running.broker.clone()));
    }
}

/// Resolves with the reason once there is one; never when the broker goes without.
async fn failed(failure: &mut watch::Receiver<Option<String>>) -> String {
    let reason = failure
        .wait_for(Option::is_some)
        .await
        .ok()
        .and_then(|reason| reason.clone());
    match reason {
        Some(reason) => reason,
        None => std::future::pending().await,
    }
}
