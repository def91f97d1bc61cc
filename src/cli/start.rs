//! `braidlog start`: runs a node until it is told to stop.

use std::path::PathBuf;

use broker::{Env, StartError};
use serde_json::json;
use storage::data_dir::DataDirError;
use storage::disk::Disk;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::info;

use super::Context;
use super::config::read_config;
use super::failure::{Failure, Kind};
use super::port_holder::port_holder;
use crate::config::Config;
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
    /// This node's id [default: 1]
    #[arg(long, value_name = "N")]
    node_id: Option<u32>,
    /// The address to listen on [default: 127.0.0.1]
    #[arg(long, value_name = "ADDR")]
    host: Option<String>,
    /// Added to every port [default: 0]
    #[arg(long, value_name = "N")]
    port_offset: Option<u16>,
    /// Sets one key of the configuration, such as kafka.port=0
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl StartArguments {
    /// The effective configuration: file, then `--set`, then the other flags.
    pub(super) fn configuration(&self) -> Result<Config, Failure> {
        let mut config = read_config(self.config.as_deref(), &self.set)?;
        if let Some(data_dir) = &self.data_dir {
            config.data_dir.clone_from(data_dir);
        }
        if let Some(node_id) = self.node_id {
            config.node_id = node_id;
        }
        if let Some(host) = &self.host {
            config.kafka.host.clone_from(host);
        }
        if let Some(port_offset) = self.port_offset {
            config.port_offset = port_offset;
        }
        config.validate().map_err(|error| {
            Failure::new(Kind::Usage, error.to_string())
                .help("`braidlog config show` prints the configuration in use")
        })?;
        Ok(config)
    }
}

pub(super) async fn start(arguments: StartArguments, context: &mut Context) -> Result<(), Failure> {
    let mut config = arguments.configuration()?;
    telemetry::start(&config.log).map_err(|error| Failure::new(Kind::Usage, error.to_string()))?;
    descriptors::share_out(&mut config);
    // From here on a signal waits until the node is up, and then stops it in good order.
    let mut stop = StopSignals::listen()?;
    let env = Env {
        clock: context.clock.clone(),
        disk: Disk::Real,
        seed: seed(context),
    };
    // A signal during a long recovery ends the process: what is on disk is meant for that.
    let node = tokio::select! {
        node = Node::start(config.clone(), env) => node.map_err(|error| explain(&config, error))?,
        name = stop.next() => {
            return Err(Failure::new(Kind::Failed, format!("stopped by {name} before it was ready")));
        }
    };
    announce(&config, &node, context)?;

    let name = stop.next().await;
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
    let kafka = node.kafka_addr();
    let cluster_id = node
        .broker()
        .borrow()
        .as_ref()
        .map(|broker| broker.catalogue().cluster_id.clone())
        .unwrap_or_default();
    let line = format!(
        "braidlog {version}  node {}  cluster {cluster_id}  kafka {kafka}  data {}  ready in {ready_ms} ms",
        config.node_id,
        config.data_dir.display(),
    );
    let value = json!({
        "version": version,
        "node_id": config.node_id,
        "cluster_id": cluster_id,
        "pid": std::process::id(),
        "kafka": kafka.to_string(),
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
        NodeError::Listen { address, source } if source.kind() == std::io::ErrorKind::AddrInUse => {
            let holder = port_holder(address).map_or(String::new(), |pid| format!(" by {pid}"));
            Failure::new(
                Kind::Conflict,
                format!(
                    "port {} on {} is in use{holder}",
                    address.port(),
                    address.ip()
                ),
            )
            .help(format!(
                "stop that process, or shift every port: `braidlog start --port-offset {}`",
                u32::from(config.port_offset) + 100
            ))
        }
        NodeError::Listen { ref source, .. }
            if source.kind() == std::io::ErrorKind::AddrNotAvailable =>
        {
            Failure::new(Kind::Failed, error.to_string())
                .help("--host must be an address of this machine")
        }
        NodeError::Resolve { .. } => Failure::new(Kind::Failed, error.to_string())
            .help("--host must be an address of this machine"),
        NodeError::Broker(StartError::WrongNode { found, .. }) => {
            Failure::new(Kind::Failed, error.to_string()).help(format!(
                "start it with --node-id {found}, or choose another directory with --data-dir DIR"
            ))
        }
        NodeError::DataDir(_)
        | NodeError::Listen { .. }
        | NodeError::Broker(_)
        | NodeError::Register(_) => Failure::new(Kind::Failed, error.to_string()),
    }
}

/// SIGINT and SIGTERM.
struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
}

impl StopSignals {
    fn listen() -> Result<StopSignals, Failure> {
        Ok(StopSignals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// The next one. Cancel-safe.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}
