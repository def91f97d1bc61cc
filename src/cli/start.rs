//! `braidlog start`: runs a node until it is told to stop.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use broker::{Env, StartError};
use raft::PeersError;
use serde_json::json;
use storage::data_dir::DataDirError;
use storage::disk::Disk;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tracing::info;

use super::Context;
use super::config::read_config;
use super::failure::{Failure, Kind};
use super::port_holder::port_holder;
use crate::config::{Config, PEERS_PORT};
use crate::descriptors;
use crate::node::{Node, NodeError};
use crate::telemetry;

#[derive(Debug, Clone, clap::Args)]
pub(super) struct StartArguments {
    /// Where the data lives; made when absent [default: ./data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// A configuration file (TOML); `braidlog config show` prints one
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The id wanted for a new node [default: 1 without seeds, else the cluster gives one]
    #[arg(long, value_name = "N")]
    node_id: Option<u32>,
    /// Peer addresses of nodes to form or join a cluster with; the same list on every node
    #[arg(long, value_name = "HOST:PORT,...", value_delimiter = ',')]
    seeds: Vec<String>,
    /// The address on which clients and other nodes reach this one [default: 127.0.0.1]
    #[arg(long, value_name = "ADDR")]
    host: Option<String>,
    /// Added to every port [default: 0]
    #[arg(long, value_name = "N")]
    port_offset: Option<u16>,
    /// Sets one key of the configuration, such as kafka.port=0
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// After a loss of power with durability `interval` or `os`: trust what is on this disk, and do
    /// not wait for the other nodes. Records acknowledged in the last moments before may be gone
    #[arg(long)]
    accept_power_loss: bool,
    /// Stop when standard input ends: whoever started this node is gone
    #[arg(long, hide = true)]
    end_with_stdin: bool,
}

impl StartArguments {
    /// The effective configuration: file, then `--set`, then the other flags.
    pub(super) fn configuration(&self) -> Result<Config, Failure> {
        let mut config = read_config(self.config.as_deref(), &self.set)?;
        if let Some(data_dir) = &self.data_dir {
            config.data_dir.clone_from(data_dir);
        }
        if let Some(node_id) = self.node_id {
            config.node_id = Some(node_id);
        }
        if !self.seeds.is_empty() {
            config.seeds = self.seeds.iter().map(|seed| with_port(seed)).collect();
        }
        if let Some(host) = &self.host {
            config.kafka.host.clone_from(host);
            config.peers.host.clone_from(host);
        }
        if let Some(port_offset) = self.port_offset {
            config.port_offset = port_offset;
        }
        config.accept_power_loss = self.accept_power_loss;
        config.validate().map_err(|error| {
            Failure::new(Kind::Usage, error.to_string())
                .help("`braidlog config show` prints the configuration in use")
        })?;
        Ok(config)
    }
}

/// A seed without a port has the default one.
fn with_port(seed: &str) -> String {
    let seed = seed.trim();
    let colons = seed.matches(':').count();
    if colons == 1 || (colons > 1 && !seed.ends_with(']') && seed.starts_with('[')) {
        seed.to_owned()
    } else if colons > 1 && !seed.starts_with('[') {
        format!("[{seed}]:{PEERS_PORT}")
    } else {
        format!("{seed}:{PEERS_PORT}")
    }
}

pub(super) async fn start(arguments: StartArguments, context: &mut Context) -> Result<(), Failure> {
    let mut config = arguments.configuration()?;
    telemetry::start(&config.log).map_err(|error| Failure::new(Kind::Usage, error.to_string()))?;
    // None in an ordinary build, which does not look.
    storage::bugs::from_environment()
        .map_err(|error| Failure::new(Kind::Usage, error.to_string()))?;
    descriptors::share_out(&mut config);
    // From here on a signal waits until the node is up, and then stops it in good order.
    let mut stop = StopSignals::listen()?;
    if arguments.end_with_stdin {
        stop.leash()?;
    }
    let env = Env {
        clock: context.clock.clone(),
        disk: Disk::Real,
        seed: seed(context),
    };
    // A signal during a long recovery, or while other nodes are waited for, ends the process: what is on disk is meant for that.
    let node = tokio::select! {
        node = Node::start(config.clone(), env) => node.map_err(|error| explain(&config, error))?,
        name = stop.next() => {
            return Err(Failure::new(Kind::Failed, format!("stopped by {name} before it was ready")));
        }
    };
    announce(&config, &node, context)?;

    let mut serving = node.broker();
    let ended = async { while serving.changed().await.is_ok() {} };
    let name = tokio::select! {
        name = stop.next() => name,
        () = ended => {
            let reason = "the disk has failed and that could not be noted; see the log".to_owned();
            return Err(Failure::new(Kind::Failed, reason));
        }
    };
    info!(signal = name, "shutting down");
    tokio::select! {
        () = node.shutdown() => {}
        name = stop.next() => {
            info!(signal = name, "stopping at once");
            std::process::exit(i32::from(EXIT_AT_ONCE));
        }
    }
    info!("stopped");
    Ok(())
}

/// What a shell says of a process that a signal ended (128 + SIGINT).
const EXIT_AT_ONCE: u8 = 130;

/// Prints the one line that says the node is ready. Nobody reading it is no reason to stop.
fn announce(config: &Config, node: &Node, context: &mut Context) -> Result<(), Failure> {
    let version = env!("CARGO_PKG_VERSION");
    let ready_ms = context.clock.monotonic_ms();
    let (kafka, http, peers) = (node.kafka_addr(), node.http_addr(), node.peers_addr());
    let (node_id, cluster_id) = node
        .broker()
        .borrow()
        .as_ref()
        .map(|broker| (broker.node_id(), broker.catalogue().cluster_id.clone()))
        .unzip();
    // A node that fails as soon as it is ready has neither.
    let node_id = node_id.map(|id| id.0);
    let cluster_id = cluster_id.unwrap_or_default();
    let line = format!(
        "braidlog {version}  node {}  cluster {cluster_id}  kafka {kafka}  http {http}  peers {peers}  data {}  ready in {ready_ms} ms",
        node_id.map_or("?".to_owned(), |id| id.to_string()),
        config.data_dir.display(),
    );
    let value = json!({
        "version": version,
        "node_id": node_id,
        "cluster_id": cluster_id,
        "pid": std::process::id(),
        "kafka": kafka.to_string(),
        "http": http.to_string(),
        "peers": peers.to_string(),
        "data_dir": config.data_dir,
        "ready_ms": ready_ms,
    });
    match context
        .output
        .result(&line, &value)
        .and_then(|()| context.output.flush())
    {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Different in each process: ids made from it must not repeat.
fn seed(context: &Context) -> [u64; 4] {
    use std::hash::{BuildHasher, RandomState};
    // std's hasher keys are drawn from the operating system, once a process; what is hashed makes
    // the four words differ.
    let random = RandomState::new();
    let salt = (context.clock.wall_ms(), std::process::id());
    [0u8, 1, 2, 3].map(|word| random.hash_one((word, salt)))
}

fn explain(config: &Config, error: NodeError) -> Failure {
    match error {
        NodeError::DataDir(DataDirError::Locked { path, holder }) => {
            let holder = holder.map_or("another process".to_owned(), |pid| format!("pid {pid}"));
            Failure::new(
                Kind::Conflict,
                format!(
                    "the data directory {} is in use by {holder}",
                    path.display()
                ),
            )
            .help("stop that node, or choose another directory with --data-dir DIR")
        }
        NodeError::Listen { address, source }
        | NodeError::Peers {
            source: PeersError::Listen { address, source },
            ..
        } => cannot_listen(config, address, &source),
        NodeError::Resolve { .. } => Failure::new(Kind::Failed, error.to_string())
            .help("--host must be an address of this machine"),
        NodeError::Pem { key, .. } => Failure::new(Kind::Failed, error.to_string()).help(format!(
            "{key} must name a PEM file that this user may read"
        )),
        NodeError::Broker(StartError::WrongNode { found, .. }) => {
            Failure::new(Kind::Failed, error.to_string()).help(format!(
                "start it with --node-id {found}, or choose another directory with --data-dir DIR"
            ))
        }
        NodeError::Peers { ref source, .. } => {
            let cause = std::error::Error::source(source);
            let cause = cause.map_or(String::new(), |cause| format!(": {cause}"));
            Failure::new(Kind::Failed, format!("{error}{cause}"))
        }
        NodeError::DataDir(_) | NodeError::Broker(_) | NodeError::Register(_) => {
            Failure::new(Kind::Failed, error.to_string())
        }
    }
}

fn cannot_listen(config: &Config, address: SocketAddr, source: &io::Error) -> Failure {
    match source.kind() {
        io::ErrorKind::AddrInUse => {
            let holder = port_holder(address).map_or(String::new(), |pid| format!(" by {pid}"));
            let (port, ip) = (address.port(), address.ip());
            Failure::new(
                Kind::Conflict,
                format!("port {port} on {ip} is in use{holder}"),
            )
            .help(format!(
                "stop that process, or shift every port: `braidlog start --port-offset {}`",
                u32::from(config.port_offset) + 100
            ))
        }
        kind => {
            let failure = Failure::new(
                Kind::Failed,
                format!("cannot listen on {address}: {source}"),
            );
            match kind {
                io::ErrorKind::AddrNotAvailable => {
                    failure.help("--host must be an address of this machine")
                }
                _ => failure,
            }
        }
    }
}

/// SIGINT and SIGTERM, and perhaps the end of standard input.
pub(super) struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
    leash: Option<oneshot::Receiver<()>>,
}

impl StopSignals {
    pub(super) fn listen() -> Result<StopSignals, Failure> {
        Ok(StopSignals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            leash: None,
        })
    }

    /// From now on the end of standard input counts as a signal: its other end closes when the
    /// process that holds it ends, however that does.
    fn leash(&mut self) -> Result<(), Failure> {
        let (ended, leash) = oneshot::channel();
        std::thread::Builder::new()
            .name("leash".to_owned())
            .spawn(move || {
                // What comes in is of no interest; an error is an end as well.
                let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
                let _ = ended.send(());
            })?;
        self.leash = Some(leash);
        Ok(())
    }

    /// The next one. Cancel-safe.
    pub(super) async fn next(&mut self) -> &'static str {
        let leash = async {
            match self.leash.as_mut() {
                Some(leash) => {
                    // Told or dropped, it has ended.
                    let _ = leash.await;
                }
                None => std::future::pending().await,
            }
        };
        let came = tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
            () = leash => END_OF_INPUT,
        };
        if came == END_OF_INPUT {
            self.leash = None; // it ends once only
        }
        came
    }
}

/// What stopped a node whose standard input ended.
const END_OF_INPUT: &str = "end of standard input";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_without_a_port_has_that_of_peers() {
        for (seed, address) in [
            ("10.0.0.1", "10.0.0.1:9094"),
            (" log2 ", "log2:9094"),
            ("log2:1", "log2:1"),
            ("::1", "[::1]:9094"),
            ("[::1]", "[::1]:9094"),
            ("[::1]:1", "[::1]:1"),
            ("a:b", "a:b"),
        ] {
            assert_eq!(with_port(seed), address);
        }
    }
}
