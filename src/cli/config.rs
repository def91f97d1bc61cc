//! `braidlog config`: a node's configuration.

use std::path::Path;

use clap::Subcommand;
use storage::disk::Disk;

use super::Context;
use super::failure::{Failure, Kind};
use super::output::Format;
use super::start::StartArguments;
use crate::config::Config;

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Print the configuration that `braidlog start` would use with the same arguments
    Show(StartArguments),
}

pub(super) fn run(command: &ConfigCommand, context: &mut Context) -> Result<(), Failure> {
    let ConfigCommand::Show(arguments) = command;
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
