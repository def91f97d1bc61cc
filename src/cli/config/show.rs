//! Looking at configs of a topic or broker.

use kafka_client::api::Config;
use serde_json::{Value, json};

use super::Resource;
use crate::cli::Context;
use crate::cli::failure::{Failure, Kind};
use crate::cli::output::{Format, Table, printable};
use crate::cli::session::Session;

/// Every config with its value and where that comes from.
pub(super) async fn list(
    session: &mut Session,
    resource: &Resource,
    changed: bool,
    context: &mut Context,
) -> Result<(), Failure> {
    let mut configs = configs(session, resource, false).await?;
    configs.retain(|config| !changed || config.source != SOURCE_DEFAULT);
    if context.output.format() == Format::Json {
        let configs = configs.iter().map(|config| {
            json!({
                "key": config.name,
                "value": config.value,
                "origin": origin(config.source),
            })
        });
        return Ok(context.output.json(&Value::from_iter(configs))?);
    }
    let mut table = Table::new(&["CONFIG", "VALUE", "ORIGIN"]);
    for config in configs {
        let value = shown(&config);
        table.row(vec![config.name, value, origin(config.source).to_owned()]);
    }
    Ok(context.output.table(&table)?)
}

/// These configs, or all, with everything there is to know of them.
pub(super) async fn describe(
    session: &mut Session,
    resource: &Resource,
    keys: &[String],
    context: &mut Context,
) -> Result<(), Failure> {
    let mut configs = configs(session, resource, true).await?;
    for key in keys {
        if configs.iter().all(|config| config.name != *key) {
            let list = session.suggest(&format!("config list {resource}"));
            return Err(
                Failure::new(Kind::NotFound, format!("{resource} has no config {key}"))
                    .help(format!("see which there are with {list}")),
            );
        }
    }
    configs.retain(|config| keys.is_empty() || keys.contains(&config.name));
    if context.output.format() == Format::Json {
        let configs = configs.iter().map(|config| {
            json!({
                "key": config.name,
                "value": config.value,
                "origin": origin(config.source),
                "type": kind(config.kind),
                "settable": !config.read_only,
                "sensitive": config.sensitive,
                "documentation": config.documentation,
            })
        });
        return Ok(context.output.json(&Value::from_iter(configs))?);
    }
    let mut table = Table::new(&["CONFIG", "VALUE", "ORIGIN", "TYPE", "SETTABLE", "MEANING"]);
    for config in configs {
        table.row(vec![
            config.name.clone(),
            shown(&config),
            origin(config.source).to_owned(),
            kind(config.kind).to_owned(),
            if config.read_only { "no" } else { "yes" }.to_owned(),
            config.documentation.unwrap_or_default(),
        ]);
    }
    Ok(context.output.table(&table)?)
}

/// All configs of it, in order of their keys.
async fn configs(
    session: &mut Session,
    resource: &Resource,
    documentation: bool,
) -> Result<Vec<Config>, Failure> {
    let node = resource.node(session).await?;
    let mut configs = node
        .describe_configs(&resource.wire(), None, documentation)
        .await
        .map_err(|error| resource.failure(session, error))?;
    configs.sort_by(|left, right| left.name.cmp(&right.name));
    Ok(configs)
}

fn shown(config: &Config) -> String {
    match &config.value {
        _ if config.sensitive => "(withheld)".to_owned(),
        Some(value) => printable(value.as_bytes()),
        None => "-".to_owned(),
    }
}

/// Kafka's number for a value that nobody set.
const SOURCE_DEFAULT: i8 = 5;

/// Where a value comes from: Kafka's `ConfigSource` in one word, which is also where to change it.
fn origin(source: i8) -> &'static str {
    match source {
        1 => "topic",
        2 => "broker",
        3 => "brokers",
        // What the node was started with: its file, its arguments.
        4 => "start",
        SOURCE_DEFAULT => "default",
        _ => "other",
    }
}

/// Kafka's `ConfigType` in one word.
fn kind(kind: i8) -> &'static str {
    match kind {
        1 => "boolean",
        2 => "string",
        3 => "int",
        4 => "short",
        5 => "long",
        6 => "double",
        7 => "list",
        8 => "class",
        9 => "password",
        _ => "other",
    }
}
