//! `braidlog topic`: creating, listing, changing and deleting topics.

use std::slice;

use clap::Subcommand;
use kafka_client::api::{
    AlterConfig, AlterOperation, Config, ConfigResource, CreateTopic, DeleteRecords, ListedOffset,
    MetadataPartition, MetadataTopic, NewPartitions, OffsetQuery,
};
use kafka_client::{ClientError, ErrorCode};
use serde_json::{Value, json};

use super::Context;
use super::config::{Assignment, Resource, alter, removal};
use super::failure::{Failure, Kind};
use super::offsets::offsets;
use super::output::{Format, Table};
use super::position::Position;
use super::session::{ServerArguments, Session};

#[derive(Debug, Subcommand)]
pub(super) enum TopicCommand {
    /// Create a topic
    Create {
        /// Its name
        name: String,
        /// Number of partitions; the cluster's default when left out
        #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
        partitions: Option<i32>,
        /// Number of replicas; the cluster's default when left out
        #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(i16).range(1..))]
        replication_factor: Option<i16>,
        /// A config, such as retention.ms=604800000
        #[arg(short, long, value_name = "KEY=VALUE")]
        config: Vec<Assignment>,
        /// Only check whether it could be created
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        server: ServerArguments,
    },
    /// List topics
    List {
        #[command(flatten)]
        server: ServerArguments,
    },
    /// Show a topic's partitions and configs
    Describe {
        /// Its name
        name: String,
        /// Show every config, not only those that were set
        #[arg(long)]
        configs: bool,
        /// Show each partition's leader, replicas, and those that are in sync or offline
        #[arg(long, conflicts_with = "configs")]
        replicas: bool,
        #[command(flatten)]
        server: ServerArguments,
    },
    /// Change a topic's configs
    Alter {
        /// Its name
        name: String,
        #[command(flatten)]
        changes: ConfigChanges,
        /// Only check whether it could be changed
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        server: ServerArguments,
    },
    /// Delete topics and every record in them
    Delete {
        /// Their names
        #[arg(required = true)]
        names: Vec<String>,
        #[command(flatten)]
        server: ServerArguments,
    },
    /// Delete the oldest records of a topic
    Trim {
        /// Its name
        name: String,
        /// The first record that stays: end, an offset, or @TIME
        #[arg(long, value_name = "POSITION")]
        before: Position,
        /// Only this partition
        #[arg(long, value_name = "N")]
        partition: Option<i32>,
        #[command(flatten)]
        server: ServerArguments,
    },
    /// Give a topic more partitions
    AddPartitions {
        /// Its name
        name: String,
        /// How many it has afterwards, in total
        #[arg(value_parser = clap::value_parser!(i32).range(1..))]
        total: i32,
        /// Only check whether it could be done
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        server: ServerArguments,
    },
}

/// Changes of configs; at least one.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = true)]
pub(super) struct ConfigChanges {
    /// Set a config
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<Assignment>,
    /// Take a config back to its default
    #[arg(long, value_name = "KEY")]
    unset: Vec<String>,
    /// Add to a config that is a list
    #[arg(long, value_name = "KEY=VALUE")]
    append: Vec<Assignment>,
    /// Take from a config that is a list
    #[arg(long, value_name = "KEY=VALUE")]
    subtract: Vec<Assignment>,
}

impl ConfigChanges {
    fn into_changes(self) -> Vec<AlterConfig> {
        [
            (AlterOperation::Set, self.set),
            (AlterOperation::Append, self.append),
            (AlterOperation::Subtract, self.subtract),
        ]
        .into_iter()
        .flat_map(|(operation, assignments)| {
            assignments
                .into_iter()
                .map(move |assignment| assignment.change(operation))
        })
        .chain(self.unset.into_iter().map(removal))
        .collect()
    }
}

pub(super) async fn run(command: TopicCommand, context: &mut Context) -> Result<(), Failure> {
    match command {
        TopicCommand::Create {
            name,
            partitions,
            replication_factor,
            config,
            dry_run,
            server,
        } => {
            let topic = CreateTopic {
                partitions: partitions.unwrap_or(-1),
                replication_factor: replication_factor.unwrap_or(-1),
                configs: config
                    .into_iter()
                    .map(|assignment| (assignment.key, Some(assignment.value)))
                    .collect(),
                ..CreateTopic::new(name)
            };
            create(
                &Session::open(&server, &context.clock).await?,
                topic,
                dry_run,
                context,
            )
            .await
        }
        TopicCommand::List { server } => {
            list(&mut Session::open(&server, &context.clock).await?, context).await
        }
        TopicCommand::Describe {
            name,
            replicas: true,
            server,
            ..
        } => {
            let mut session = Session::open(&server, &context.clock).await?;
            describe_replicas(&mut session, &name, context).await
        }
        TopicCommand::Describe {
            name,
            configs,
            replicas: false,
            server,
        } => {
            let mut session = Session::open(&server, &context.clock).await?;
            describe(&mut session, &name, configs, context).await
        }
        TopicCommand::Alter {
            name,
            changes,
            dry_run,
            server,
        } => {
            let mut session = Session::open(&server, &context.clock).await?;
            let changes = changes.into_changes();
            alter(
                &mut session,
                &Resource::Topic(name),
                changes,
                dry_run,
                context,
            )
            .await
        }
        TopicCommand::Delete { names, server } => {
            delete(
                &Session::open(&server, &context.clock).await?,
                &names,
                context,
            )
            .await
        }
        TopicCommand::Trim {
            name,
            before,
            partition,
            server,
        } => {
            let mut session = Session::open(&server, &context.clock).await?;
            trim(&mut session, &name, before, partition, context).await
        }
        TopicCommand::AddPartitions {
            name,
            total,
            dry_run,
            server,
        } => {
            let session = Session::open(&server, &context.clock).await?;
            add_partitions(&session, &name, total, dry_run, context).await
        }
    }
}

async fn create(
    session: &Session,
    topic: CreateTopic,
    dry_run: bool,
    context: &mut Context,
) -> Result<(), Failure> {
    let name = topic.name.clone();
    let created = session
        .node()
        .create_topics(&[topic], session.timeout().wire_ms(), dry_run)
        .await
        .and_then(|mut results| results.pop().ok_or(ClientError::Malformed("no result")))
        .and_then(|created| {
            created
                .error
                .check_with(created.message.clone())
                .map(|()| created)
        })
        .map_err(|error| session.topic_failure(&name, error))?;
    let verb = if dry_run { "would create" } else { "created" };
    context.output.result(
        &format!(
            "{verb} {name}  {}  replication {}",
            counted(i64::from(created.partitions), "partition"),
            created.replication_factor
        ),
        &json!({
            "name": name,
            "id": hex(created.topic_id),
            "partitions": created.partitions,
            "replication_factor": created.replication_factor,
            "dry_run": dry_run,
        }),
    )?;
    Ok(())
}

async fn list(session: &mut Session, context: &mut Context) -> Result<(), Failure> {
    let mut topics = session.metadata(None).await?.topics;
    topics.sort_by(|left, right| left.name.cmp(&right.name));
    if context.output.format() == Format::Json {
        let topics: Vec<Value> = topics
            .iter()
            .map(|topic| {
                json!({
                    "name": topic.name,
                    "id": hex(topic.topic_id),
                    "partitions": topic.partitions.len(),
                    "replication_factor": replication(topic),
                    "internal": topic.internal,
                })
            })
            .collect();
        context.output.json(&Value::from(topics))?;
        return Ok(());
    }
    let mut table = Table::new(&["NAME", "PARTITIONS", "REPLICATION"]);
    for topic in &topics {
        table.row(vec![
            topic.name.clone(),
            topic.partitions.len().to_string(),
            replication(topic).to_string(),
        ]);
    }
    context.output.table(&table)?;
    Ok(())
}

/// Who has the partitions, as the metadata say; asks no leader, so that it answers when one is
/// missing.
async fn describe_replicas(
    session: &mut Session,
    name: &str,
    context: &mut Context,
) -> Result<(), Failure> {
    let topic = session.topic(name).await?;
    if context.output.format() == Format::Json {
        let partitions: Vec<Value> = topic.partitions.iter().map(replicas_json).collect();
        return Ok(context.output.json(&json!({
            "name": name,
            "id": hex(topic.topic_id),
            "partitions": partitions,
        }))?);
    }
    let mut table = Table::new(&[
        "PARTITION",
        "LEADER",
        "EPOCH",
        "REPLICAS",
        "IN SYNC",
        "OFFLINE",
    ]);
    for partition in &topic.partitions {
        let leader = (partition.leader >= 0).then(|| partition.leader.to_string());
        let offline = match partition.offline.as_slice() {
            [] => "-".to_owned(),
            offline => joined(offline),
        };
        table.row(vec![
            partition.index.to_string(),
            leader.unwrap_or_else(|| "-".to_owned()),
            partition.leader_epoch.to_string(),
            joined(&partition.replicas),
            joined(&partition.in_sync),
            offline,
        ]);
    }
    Ok(context.output.table(&table)?)
}

fn replicas_json(partition: &MetadataPartition) -> Value {
    json!({
        "partition": partition.index,
        "leader": (partition.leader >= 0).then_some(partition.leader),
        "leader_epoch": partition.leader_epoch,
        "replicas": partition.replicas,
        "in_sync": partition.in_sync,
        "offline": partition.offline,
    })
}

async fn describe(
    session: &mut Session,
    name: &str,
    every_config: bool,
    context: &mut Context,
) -> Result<(), Failure> {
    let topic = session.topic(name).await?;
    let resource = ConfigResource::Topic(name.to_owned());
    let mut configs = session
        .node()
        .describe_configs(&resource, None, every_config)
        .await
        .map_err(|error| session.topic_failure(name, error))?;
    configs.retain(|config| every_config || config.source == Config::SOURCE_TOPIC);
    configs.sort_by(|left, right| left.name.cmp(&right.name));
    let starts = offsets(session, slice::from_ref(&topic), OffsetQuery::EARLIEST).await?;
    let ends = offsets(session, slice::from_ref(&topic), OffsetQuery::LATEST).await?;
    let bound = |bounds: &[ListedOffset], index: i32| {
        bounds
            .iter()
            .find(|bound| bound.partition == index && bound.error == ErrorCode::NONE)
            .map(|bound| bound.offset)
    };

    if context.output.format() == Format::Json {
        let partitions: Vec<Value> = topic
            .partitions
            .iter()
            .map(|partition| {
                let mut value = replicas_json(partition);
                value["start_offset"] = json!(bound(&starts, partition.index));
                value["end_offset"] = json!(bound(&ends, partition.index));
                value
            })
            .collect();
        let configs: serde_json::Map<String, Value> = configs
            .into_iter()
            .map(|config| (config.name, json!(config.value)))
            .collect();
        context.output.json(&json!({
            "name": name,
            "id": hex(topic.topic_id),
            "internal": topic.internal,
            "partitions": partitions,
            "configs": configs,
        }))?;
        return Ok(());
    }

    context
        .output
        .line(&format!("topic {name}  id {}", hex(topic.topic_id)))?;
    context.output.line("")?;
    let mut table = Table::new(&[
        "PARTITION",
        "LEADER",
        "EPOCH",
        "REPLICAS",
        "IN-SYNC",
        "START",
        "END",
    ]);
    let or_dash = |value: Option<i64>| value.map_or("-".to_owned(), |value| value.to_string());
    for partition in &topic.partitions {
        table.row(vec![
            partition.index.to_string(),
            or_dash((partition.leader >= 0).then_some(i64::from(partition.leader))),
            partition.leader_epoch.to_string(),
            joined(&partition.replicas),
            joined(&partition.in_sync),
            or_dash(bound(&starts, partition.index)),
            or_dash(bound(&ends, partition.index)),
        ]);
    }
    context.output.table(&table)?;
    if configs.is_empty() {
        return Ok(());
    }
    context.output.line("")?;
    let headings: &[&'static str] = match every_config {
        true => &["CONFIG", "VALUE", "SET", "MEANING"],
        false => &["CONFIG", "VALUE"],
    };
    let mut table = Table::new(headings);
    for config in configs {
        let mut row = vec![config.name, config.value.unwrap_or_else(|| "-".to_owned())];
        if every_config {
            let set = match (config.source, config.read_only) {
                (Config::SOURCE_TOPIC, _) => "yes",
                (_, true) => "fixed",
                _ => "",
            };
            row.extend([set.to_owned(), config.documentation.unwrap_or_default()]);
        }
        table.row(row);
    }
    context.output.table(&table)?;
    Ok(())
}

async fn delete(session: &Session, names: &[String], context: &mut Context) -> Result<(), Failure> {
    let asked: Vec<&str> = names.iter().map(String::as_str).collect();
    let results = session
        .node()
        .delete_topics(&asked, session.timeout().wire_ms())
        .await
        .map_err(|error| session.failure("deleting topics", error))?;
    let mut failed = None;
    for result in results {
        let name = result.name.unwrap_or_default();
        match result.error.check_with(result.message) {
            Ok(()) => context.output.result(
                &format!("deleted {name}"),
                &json!({ "name": name, "id": hex(result.topic_id) }),
            )?,
            Err(error) => {
                failed.get_or_insert(session.topic_failure(&name, error));
            }
        }
    }
    failed.map_or(Ok(()), Err)
}

async fn trim(
    session: &mut Session,
    name: &str,
    before: Position,
    partition: Option<i32>,
    context: &mut Context,
) -> Result<(), Failure> {
    let topic = session.led_topic(name).await?;
    let topic = only_partition(session, topic, partition)?;
    let before: Vec<(i32, i64)> = match before {
        Position::Start => {
            return Err(Failure::new(Kind::Usage, "nothing lies before the start")
                .help("give --before an offset, end, or @TIME"));
        }
        // Kafka's sentinel for the high watermark.
        Position::End => topic.partitions.iter().map(|p| (p.index, -1)).collect(),
        Position::Offset(_) if topic.partitions.len() > 1 => {
            return Err(needs_partition(name, topic.partitions.len()));
        }
        Position::Offset(offset) => topic.partitions.iter().map(|p| (p.index, offset)).collect(),
        // Nothing at or after the time: everything is before it.
        Position::Time(ms) => offsets(session, slice::from_ref(&topic), ms)
            .await?
            .into_iter()
            .map(|found| {
                found
                    .error
                    .check()
                    .map_err(|error| session.topic_failure(name, error))?;
                Ok((found.partition, found.offset))
            })
            .collect::<Result<_, Failure>>()?,
    };
    let mut trimmed = Vec::new();
    for partition in &topic.partitions {
        let before_offset = before
            .iter()
            .find_map(|(index, offset)| (*index == partition.index).then_some(*offset))
            .unwrap_or(-1);
        let request = DeleteRecords {
            topic: name.to_owned(),
            partition: partition.index,
            before_offset,
        };
        let subject = format!("topic {name} partition {}", partition.index);
        let leader = session.broker(partition.leader).await?;
        let deleted = leader
            .delete_records(&[request], session.timeout().wire_ms())
            .await
            .and_then(|mut results| results.pop().ok_or(ClientError::Malformed("no result")))
            .and_then(|deleted| deleted.error.check().map(|()| deleted))
            .map_err(|error| out_of_range(session.failure(&subject, error.clone()), &error))?;
        trimmed.push((partition.index, deleted.log_start));
    }
    if context.output.format() == Format::Json {
        let partitions: Vec<Value> = trimmed
            .iter()
            .map(|(partition, start)| json!({ "partition": partition, "start_offset": start }))
            .collect();
        context
            .output
            .json(&json!({ "name": name, "partitions": partitions }))?;
        return Ok(());
    }
    let mut table = Table::new(&["PARTITION", "START"]);
    for (partition, start) in trimmed {
        table.row(vec![partition.to_string(), start.to_string()]);
    }
    context.output.table(&table)?;
    Ok(())
}

fn out_of_range(failure: Failure, error: &ClientError) -> Failure {
    match error {
        ClientError::Refused {
            code: ErrorCode::OFFSET_OUT_OF_RANGE,
            ..
        } => failure.help("--before must lie between the partition's start and end"),
        _ => failure,
    }
}

async fn add_partitions(
    session: &Session,
    name: &str,
    total: i32,
    dry_run: bool,
    context: &mut Context,
) -> Result<(), Failure> {
    let request = NewPartitions {
        topic: name.to_owned(),
        total,
        assignments: None,
    };
    session
        .node()
        .create_partitions(&[request], session.timeout().wire_ms(), dry_run)
        .await
        .and_then(|mut results| results.pop().ok_or(ClientError::Malformed("no result")))
        .and_then(|(_, result)| result)
        .map_err(|error| session.topic_failure(name, error))?;
    let verb = if dry_run { "could have" } else { "has" };
    context.output.result(
        &format!("{name} {verb} {}", counted(i64::from(total), "partition")),
        &json!({ "name": name, "partitions": total, "dry_run": dry_run }),
    )?;
    Ok(())
}

/// The topic with only the partition asked for.
pub(super) fn only_partition(
    session: &Session,
    mut topic: MetadataTopic,
    partition: Option<i32>,
) -> Result<MetadataTopic, Failure> {
    if let Some(index) = partition {
        let count = topic.partitions.len();
        topic
            .partitions
            .retain(|partition| partition.index == index);
        if topic.partitions.is_empty() {
            return Err(Failure::new(
                Kind::NotFound,
                format!(
                    "topic {} has no partition {index}, it has {count}",
                    topic.name
                ),
            )
            .help(session.suggest(&format!("topic describe {}", topic.name))));
        }
    }
    Ok(topic)
}

/// An offset was given, and it could be one of several partitions.
pub(super) fn needs_partition(name: &str, count: usize) -> Failure {
    Failure::new(
        Kind::Usage,
        format!("an offset belongs to one partition, and topic {name} has {count}"),
    )
    .help("say which with --partition N")
}

fn replication(topic: &MetadataTopic) -> usize {
    topic
        .partitions
        .iter()
        .map(|partition| partition.replicas.len())
        .max()
        .unwrap_or(0)
}

fn joined(nodes: &[i32]) -> String {
    nodes
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(",")
}

pub(super) fn counted(count: i64, noun: &str) -> String {
    if count == 1 {
        format!("{count} {noun}")
    } else {
        format!("{count} {noun}s")
    }
}

fn hex(id: [u8; 16]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}
