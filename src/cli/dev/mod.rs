//! `braidlog dev`: a cluster of real processes on this machine, to try out what a cluster does.
//!
//! One terminal runs it, and with it its nodes end; from another, `dev kill 2` and the like act on
//! a node. Between them stands a directory: `dev.json` says which process is which node, a file in
//! `requests/` asks the first for what only the parent of a node can do.

mod child;
mod control;
mod state;
mod supervise;

use std::path::PathBuf;

use clap::Subcommand;

use super::Context;
use super::failure::Failure;

/// Ports of neighbouring nodes stand this far apart.
const OFFSET_STEP: u16 = 100;

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct DevArguments {
    #[command(flatten)]
    run: RunArguments,
    #[command(subcommand)]
    command: Option<DevCommand>,
}

#[derive(Debug, clap::Args)]
struct RunArguments {
    /// How many nodes
    #[arg(short = 'n', long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=50))]
    nodes: u16,
    #[command(flatten)]
    directory: DirectoryArguments,
    /// Added to every port of every node
    #[arg(long, value_name = "N", default_value_t = 0)]
    port_offset: u16,
    /// Sets one key of every node's configuration, such as peers.election_timeout_min=1s
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

#[derive(Debug, Clone, clap::Args)]
struct DirectoryArguments {
    /// Where data and logs of the nodes live
    #[arg(long = "dir", value_name = "DIR", default_value = "./dev")]
    path: PathBuf,
}

#[derive(Debug, Subcommand)]
enum DevCommand {
    /// Say which nodes run, and where
    Status {
        #[command(flatten)]
        directory: DirectoryArguments,
    },
    /// End a node at once, as a power cut would (SIGKILL)
    Kill {
        /// The node
        node: u32,
        #[command(flatten)]
        directory: DirectoryArguments,
    },
    /// Stop a node in its tracks; it keeps its connections and answers nothing (SIGSTOP)
    Pause {
        /// The node
        node: u32,
        #[command(flatten)]
        directory: DirectoryArguments,
    },
    /// Let a paused node go on (SIGCONT)
    Resume {
        /// The node
        node: u32,
        #[command(flatten)]
        directory: DirectoryArguments,
    },
    /// Start a node again; one that runs is stopped in good order first
    Restart {
        /// The node
        node: u32,
        #[command(flatten)]
        directory: DirectoryArguments,
    },
    /// Stop every node
    Stop {
        #[command(flatten)]
        directory: DirectoryArguments,
    },
}

pub(super) async fn run(arguments: DevArguments, context: &mut Context) -> Result<(), Failure> {
    match arguments.command {
        None => supervise::run(&arguments.run, context).await,
        Some(DevCommand::Status { directory }) => control::status(&directory.path, context),
        Some(DevCommand::Kill { node, directory }) => {
            control::kill(&directory.path, node, context).await
        }
        Some(DevCommand::Pause { node, directory }) => {
            control::pause(&directory.path, node, context).await
        }
        Some(DevCommand::Resume { node, directory }) => {
            control::resume(&directory.path, node, context).await
        }
        Some(DevCommand::Restart { node, directory }) => {
            control::restart(&directory.path, node, context).await
        }
        Some(DevCommand::Stop { directory }) => control::stop(&directory.path, context).await,
    }
}
