//! `cluster drain`: empties a node and waits until it is empty.

use std::time::Duration;

use bytes::Bytes;
use http_admin::model::Node;
use serde_json::json;

use super::super::Context;
use super::super::admin::AdminArguments;
use super::super::failure::{Failure, Kind};
use super::super::topic::counted;
use super::cluster;

const POLL: Duration = Duration::from_millis(200);

pub(super) async fn drain(
    admin: &AdminArguments,
    node: u32,
    no_wait: bool,
    context: &mut Context,
) -> Result<(), Failure> {
    let deadline_ms = context
        .clock
        .monotonic_ms()
        .saturating_add(admin.timeout.signed_ms());
    let mut shown: Node = admin
        .post(&format!("/v1/nodes/{node}/drain"), Bytes::new())
        .await?;
    let again = format!("cluster drain {node}");
    while !no_wait && shown.replicas > 0 {
        if context.clock.monotonic_ms() >= deadline_ms {
            let left = replicas(&shown);
            let waits = waits(&shown);
            return Err(Failure::new(
                Kind::TimedOut,
                format!("node {node} has {left} still; the drain goes on{waits}"),
            )
            .help(format!(
                "wait on with {}, take it back with {}; another node must have room for each of \
                 its replicas",
                admin.suggest(&again),
                admin.suggest(&format!("cluster undrain {node}"))
            )));
        }
        tokio::time::sleep(POLL).await;
        shown = match cluster(admin).await {
            Ok(cluster) => cluster
                .nodes
                .into_iter()
                .find(|found| found.id == node)
                .ok_or_else(|| {
                    Failure::new(Kind::NotFound, format!("node {node} was removed meanwhile"))
                })?,
            // The node that answers may be the one that is restarted: the drain goes on without it.
            Err(failure) if failure.kind() == Kind::Unreachable => continue,
            Err(failure) => return Err(failure),
        };
    }
    let line = match shown.replicas {
        0 => format!("node {node} is empty; take it away with `braidlog cluster remove {node}`"),
        _ => format!(
            "node {node} is being drained of {}{}",
            replicas(&shown),
            waits(&shown)
        ),
    };
    Ok(context.output.result(&line, &json!(shown))?)
}

fn waits(node: &Node) -> String {
    let what = node.waits_for.as_ref();
    what.map_or(String::new(), |what| format!(" and waits for {what}"))
}

fn replicas(node: &Node) -> String {
    counted(i64::try_from(node.replicas).unwrap_or(i64::MAX), "replica")
}
