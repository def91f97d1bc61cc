//! `braidlog config`: the configuration that a node would start with, and the configs of topics and
//! brokers in a running cluster: looking at them, with where each value comes from, and changing
//! them.

mod change;
mod resource;
mod show;

use std::path::Path;

use clap::Subcommand;
use kafka_client::api::{AlterConfig, AlterOperation};
use storage::disk::Disk;

use super::Context;
use super::failure::{Failure, Kind};
use super::output::Format;
use super::session::{ServerArguments, Session};
use super::start::StartArguments;
use crate::config::Config;

pub(super) use change::{Assignment, alter, removal};
pub(super) use resource::Resource;

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Print the configuration that `braidlog start` would use with the same arguments
    Show(StartArguments),
    /// List the configs of a topic or broker, and where each value comes from
    List {
        /// topic/NAME, broker/ID, or brokers for what all of them have in common
        resource: Resource,
        /// Only those that were set, on the topic or on brokers
        #[arg(long)]
        changed: bool,
        #[command(flatten)]
        server: ServerArguments,
    },
    /// Explain configs of a topic or broker: value, where it comes from, type, meaning
    Describe {
        /// topic/NAME, broker/ID, or brokers for what all of them have in common
        resource: Resource,
        /// The configs; all when none is given
        keys: Vec<String>,
        #[command(flatten)]
        server: ServerArguments,
    },
    /// Set configs of a topic or broker
    Set {
        /// topic/NAME, broker/ID, or brokers for all of them
        resource: Resource,
        /// The configs, such as retention.ms=604800000
        #[arg(required = true, value_name = "KEY=VALUE")]
        assignments: Vec<Assignment>,
        /// Only check whether they could be set
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        server: ServerArguments,
    },
    /// Take configs of a topic or broker back to what holds without them
    Unset {
        /// topic/NAME, broker/ID, or brokers for all of them
        resource: Resource,
        /// The configs
        #[arg(required = true)]
        keys: Vec<String>,
        /// Only check whether they could be taken back
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        server: ServerArguments,
    },
}

pub(super) async fn run(command: ConfigCommand, context: &mut Context) -> Result<(), Failure> {
    match command {
        ConfigCommand::Show(arguments) => show_configuration(&arguments, context),
        ConfigCommand::List {
            resource,
            changed,
            server,
        } => {
            let mut session = Session::open(&server, &context.clock).await?;
            show::list(&mut session, &resource, changed, context).await
        }
        ConfigCommand::Describe {
            resource,
            keys,
            server,
        } => {
            let mut session = Session::open(&server, &context.clock).await?;
            show::describe(&mut session, &resource, &keys, context).await
        }
        ConfigCommand::Set {
            resource,
            assignments,
            dry_run,
            server,
        } => {
            let changes = assignments
                .into_iter()
                .map(|assignment| assignment.change(AlterOperation::Set));
            let mut session = Session::open(&server, &context.clock).await?;
            alter(&mut session, &resource, changes.collect(), dry_run, context).await
        }
        ConfigCommand::Unset {
            resource,
            keys,
            dry_run,
            server,
        } => {
            let changes: Vec<AlterConfig> = keys.into_iter().map(removal).collect();
            let mut session = Session::open(&server, &context.clock).await?;
            alter(&mut session, &resource, changes, dry_run, context).await
        }
    }
}

fn show_configuration(arguments: &StartArguments, context: &mut Context) -> Result<(), Failure> {
    let config = arguments.configuration()?;
    match context.output.format() {
        Format::Table => context.output.line(config.to_toml().trim_end())?,
        Format::Json => {
            let value = serde_json::to_value(&config).expect("a configuration is plain data");
            context.output.json(&value)?;
        }
    }
    Ok(())
}

/// Reads a configuration file and assignments.
pub(super) fn read_config(file: Option<&Path>, assignments: &[String]) -> Result<Config, Failure> {
    let toml = match file {
        None => String::new(),
        Some(path) => {
            let name = path.display();
            let bytes = Disk::Real.read_file(path).map_err(|error| {
                let kind = match error.kind() {
                    std::io::ErrorKind::NotFound => Kind::NotFound,
                    _ => Kind::Failed,
                };
                Failure::new(kind, format!("cannot read {name}: {error}"))
            })?;
            String::from_utf8(bytes)
                .map_err(|_| Failure::new(Kind::Usage, format!("{name} is no UTF-8 text")))?
        }
    };
    Config::read(&toml, assignments).map_err(|error| {
        Failure::new(Kind::Usage, format!("the configuration is wrong: {error}"))
            .help("`braidlog config show` prints every key and its default")
    })
}
