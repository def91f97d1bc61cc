//! Listing groups: each node is asked for those that it coordinates.

use kafka_client::ClientError;
use kafka_client::api::ListedGroup;
use serde_json::{Value, json};

use crate::cli::Context;
use crate::cli::coordinator::{LOOK_AGAIN, is_about_coordinator};
use crate::cli::failure::Failure;
use crate::cli::output::{Format, Table, printable};
use crate::cli::session::Session;

/// Lists what the nodes answer; when one does not, says so after the groups of the others.
pub(super) async fn list(session: &mut Session, context: &mut Context) -> Result<(), Failure> {
    let brokers = session.metadata(Some(&[])).await?.brokers;
    let mut found: Vec<(ListedGroup, i32)> = Vec::new();
    let mut failed = None;
    for broker in brokers {
        match coordinated_by(session, broker.node_id).await {
            Ok(groups) => found.extend(groups.into_iter().map(|group| (group, broker.node_id))),
            Err(failure) => {
                let subject = format!("the groups of node {} are missing", broker.node_id);
                failed.get_or_insert(failure.context(&subject));
            }
        }
    }
    // A group that moves meanwhile may be told of by both.
    found.sort_by(|left, right| left.0.group_id.cmp(&right.0.group_id));
    found.dedup_by(|left, right| left.0.group_id == right.0.group_id);
    match context.output.format() {
        Format::Json => {
            let groups = found.iter().map(|(group, coordinator)| {
                json!({
                    "group": group.group_id,
                    "type": group.group_type,
                    "state": group.state,
                    "protocol": group.protocol_type,
                    "coordinator": coordinator,
                })
            });
            context.output.json(&Value::from_iter(groups))?;
        }
        Format::Table => {
            let mut table = Table::new(&["GROUP", "TYPE", "STATE", "PROTOCOL", "COORDINATOR"]);
            for (group, coordinator) in found {
                let protocol = match group.protocol_type.as_str() {
                    "" => "-".to_owned(),
                    protocol => printable(protocol.as_bytes()),
                };
                table.row(vec![
                    printable(group.group_id.as_bytes()),
                    group.group_type,
                    group.state,
                    protocol,
                    coordinator.to_string(),
                ]);
            }
            context.output.table(&table)?;
        }
    }
    failed.map_or(Ok(()), Err)
}

/// The groups of one node, once it has read them all.
async fn coordinated_by(session: &mut Session, node_id: i32) -> Result<Vec<ListedGroup>, Failure> {
    let deadline = session.deadline_ms();
    let node = session.broker(node_id).await?;
    loop {
        let error = match node.list_groups(&[], &[]).await {
            Ok(list) => match list.error.check() {
                Ok(()) => return Ok(list.groups),
                Err(error) => error,
            },
            Err(error) => error,
        };
        // It may still be reading its groups.
        let loading =
            matches!(error, ClientError::Refused { code, .. } if is_about_coordinator(code));
        if !loading || session.now_ms() >= deadline {
            return Err(session.failure(&format!("node {node_id}"), error));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
