//! Describing a group: its members, and its progress in each partition.

use std::collections::BTreeSet;

use kafka_client::api::OffsetQuery;
use serde_json::{Value, json};

use super::members::Group;
use super::progress::{offsets_of, or_dash};
use crate::cli::Context;
use crate::cli::commits::{TopicPartition, committed};
use crate::cli::coordinator::{self, Coordinator};
use crate::cli::failure::Failure;
use crate::cli::output::{Format, Table, printable};
use crate::cli::session::Session;

/// One partition that a group has a committed offset of, or a member is assigned.
struct Row<'a> {
    partition: &'a TopicPartition,
    committed: Option<i64>,
    end: Option<i64>,
    // Known only with both; no commit is not the same as nothing left to read.
    lag: Option<i64>,
    member: Option<&'a str>,
}

impl Row<'_> {
    fn json(&self) -> Value {
        json!({
            "topic": self.partition.0,
            "partition": self.partition.1,
            "committed_offset": self.committed,
            "end_offset": self.end,
            "lag": self.lag,
            "member": self.member,
        })
    }
}

pub(super) async fn describe(
    session: &mut Session,
    name: &str,
    context: &mut Context,
) -> Result<(), Failure> {
    let mut at = Coordinator::find(session, name).await?;
    let group = Group::ask(session, &mut at, name).await?;
    let group = group.ok_or_else(|| coordinator::does_not_exist(session, name))?;
    let committed = committed(session, &mut at, name).await?;
    let assigned = group.members.iter().flat_map(|m| &m.assigned).flatten();
    let partitions: BTreeSet<TopicPartition> = committed.keys().chain(assigned).cloned().collect();
    // After the commits, so that no lag is smaller than it was.
    let ends = offsets_of(session, &partitions, OffsetQuery::LATEST).await?;
    let rows: Vec<Row<'_>> = partitions
        .iter()
        .map(|partition| {
            let committed = committed.get(partition).copied();
            let end = ends.get(partition).copied();
            Row {
                partition,
                committed,
                end,
                lag: committed.zip(end).map(|(committed, end)| end - committed),
                member: group.owner(partition).map(|member| member.id.as_str()),
            }
        })
        .collect();
    if context.output.format() == Format::Json {
        return Ok(context.output.json(&json!({
            "group": name,
            "type": group.kind,
            "state": group.state,
            "assignor": group.assignor,
            "coordinator": at.node_id(),
            "members": Value::from_iter(group.members.iter().map(|member| member.json())),
            "partitions": Value::from_iter(rows.iter().map(Row::json)),
        }))?);
    }
    print(name, &group, at.node_id(), &rows, context)
}

fn print(
    name: &str,
    group: &Group,
    coordinator: i32,
    rows: &[Row<'_>],
    context: &mut Context,
) -> Result<(), Failure> {
    let assignor = match group.assignor.as_str() {
        "" => String::new(),
        assignor => format!("  assignor {}", printable(assignor.as_bytes())),
    };
    context.output.line(&format!(
        "group {}  {}  {}{assignor}  coordinator {coordinator}",
        printable(name.as_bytes()),
        group.kind,
        group.state,
    ))?;
    if !group.members.is_empty() {
        context.output.line("")?;
        let mut table = Table::new(&["MEMBER", "INSTANCE", "CLIENT", "HOST", "ASSIGNED"]);
        for member in &group.members {
            let instance = member.instance_id.as_ref();
            table.row(vec![
                printable(member.id.as_bytes()),
                instance.map_or("-".to_owned(), |id| printable(id.as_bytes())),
                printable(member.client_id.as_bytes()),
                printable(member.host.as_bytes()),
                printable(member.assigned_text().as_bytes()),
            ]);
        }
        context.output.table(&table)?;
    }
    if !rows.is_empty() {
        context.output.line("")?;
        let mut table = Table::new(&["TOPIC", "PARTITION", "COMMITTED", "END", "LAG", "MEMBER"]);
        for row in rows {
            let member = row.member.map(|id| printable(id.as_bytes()));
            table.row(vec![
                printable(row.partition.0.as_bytes()),
                row.partition.1.to_string(),
                or_dash(row.committed),
                or_dash(row.end),
                or_dash(row.lag),
                member.unwrap_or_else(|| "-".to_owned()),
            ]);
        }
        context.output.table(&table)?;
    }
    Ok(())
}
