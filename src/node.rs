//! A node: a broker on one data directory and the listeners that lead to it.
//!
//! A plain value: nothing here is static, so that several run in one process. When the storage
//! fails the node starts over from disk by itself, in the same process and on the same port; the
//! data directory stays locked meanwhile.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use broker::catalogue::Node as CatalogueNode;
use broker::{Broker, BrokerError, Env, StartError};
use kafka::{KafkaServer, KafkaServerHandle};
use storage::NodeId;
use storage::data_dir::{DataDir, DataDirError};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use crate::config::Config;

/// Name of the Kafka listener in the catalogue.
pub const KAFKA_LISTENER: &str = "kafka";
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
    kafka_addr: SocketAddr,
    broker: watch::Receiver<Option<Broker>>,
    stop: oneshot::Sender<()>,
    supervisor: JoinHandle<()>,
}

impl Node {
    /// Locks the data directory, binds the listeners, recovers, and serves. On return every
    /// partition that can be served is served. Must run within a tokio runtime.
    pub async fn start(config: Config, env: Env) -> Result<Node, NodeError> {
        let parts = Parts::lock(config, env).await?;
        let running = parts.run(None).await?;
        let kafka_addr = running.kafka.local_addr();
        let (publish, broker) = watch::channel(Some(running.broker.clone()));
        let (stop, stopped) = oneshot::channel();
        let supervisor = tokio::spawn(supervise(parts, running, publish, stopped));
        Ok(Node {
            kafka_addr,
            broker,
            stop,
            supervisor,
        })
    }

    /// Where the Kafka listener listens; stays the same when the node starts over.
    #[must_use]
    pub fn kafka_addr(&self) -> SocketAddr {
        self.kafka_addr
    }

    /// The broker that serves now; `None` while the node starts over from disk.
    #[must_use]
    pub fn broker(&self) -> watch::Receiver<Option<Broker>> {
        self.broker.clone()
    }

    /// Finishes the requests in hand, makes everything durable and stops.
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
}

/// What is replaced at a restart.
struct Running {
    broker: Broker,
    kafka: KafkaServerHandle,
    since_ms: i64,
}

impl Parts {
    async fn lock(config: Config, env: Env) -> Result<Parts, NodeError> {
        let disk = env.disk.clone();
        let path = config.data_dir.clone();
        let data_dir = tokio::task::spawn_blocking(move || DataDir::open(&disk, &path))
            .await
            .expect("opening a data directory does not panic")?;
        Ok(Parts {
            config,
            env,
            data_dir,
        })
    }

    /// Binds (on `address` again at a restart), recovers and serves.
    async fn run(&self, address: Option<SocketAddr>) -> Result<Running, NodeError> {
        let address = match address {
            Some(address) => address,
            None => resolve(&self.config.kafka.host, self.config.kafka_port()).await?,
        };
        let server = KafkaServer::bind(address, self.config.kafka_server(), self.env.clock.clone())
            .map_err(|source| NodeError::Listen { address, source })?;
        let broker = Broker::start(
            self.config.broker(),
            self.env.clone(),
            self.data_dir.clone(),
        )
        .await?;
        if let Err(error) = broker
            .register_node(self.catalogue_node(server.local_addr()))
            .await
        {
            broker.shutdown().await;
            return Err(NodeError::Register(error));
        }
        let kafka = server.serve(broker.clone());
        Ok(Running {
            broker,
            kafka,
            since_ms: self.env.clock.monotonic_ms(),
        })
    }

    fn catalogue_node(&self, bound: SocketAddr) -> CatalogueNode {
        let kafka = &self.config.kafka;
        let host = kafka
            .advertised_host
            .clone()
            .unwrap_or_else(|| kafka.host.clone());
        let port = kafka.advertised_port.unwrap_or(bound.port());
        CatalogueNode {
            id: NodeId(self.config.node_id),
            rack: self.config.rack.clone(),
            listeners: BTreeMap::from([(KAFKA_LISTENER.to_owned(), (host, port))]),
        }
    }
}

impl Running {
    async fn stop(self) {
        self.kafka.shutdown().await;
        self.broker.shutdown().await;
    }
}

async fn resolve(host: &str, port: u16) -> Result<SocketAddr, NodeError> {
    let failed = |source| NodeError::Resolve {
        host: host.to_owned(),
        source,
    };
    tokio::net::lookup_host((host, port))
        .await
        .map_err(failed)?
        .next()
        .ok_or_else(|| failed(io::ErrorKind::NotFound.into()))
}

/// Runs the node until it is stopped, and starts it over when its storage fails.
async fn supervise(
    parts: Parts,
    mut running: Running,
    publish: watch::Sender<Option<Broker>>,
    mut stopped: oneshot::Receiver<()>,
) {
    let mut delay = RESTART_DELAY_FIRST;
    loop {
        let mut failure = running.broker.failure();
        // Both arms are cancel-safe.
        let reason = tokio::select! {
            _ = &mut stopped => {
                publish.send_replace(None);
                return running.stop().await;
            }
            reason = failed(&mut failure) => reason,
        };
        error!(reason, "storage failed, starting over from disk");
        publish.send_replace(None);
        let address = running.kafka.local_addr();
        if parts.env.clock.monotonic_ms() - running.since_ms > RESTART_DELAY_FORGOTTEN_MS {
            delay = RESTART_DELAY_FIRST;
        }
        running.stop().await;
        running = loop {
            tokio::select! {
                _ = &mut stopped => return,
                () = tokio::time::sleep(delay) => {}
            }
            delay = (delay * 2).min(RESTART_DELAY_MAX);
            match parts.run(Some(address)).await {
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
