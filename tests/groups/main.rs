//! Consumer groups on whole nodes: members come, go and die, nodes are killed and come back, and
//! what was answered stays.

mod classic;
mod consumer;
mod crowd;
mod member;
mod offsets;

use std::time::Duration;

use kafka_client::api::CoordinatorKind;
use kafka_client::{ConnectOptions, Connection, ErrorCode};
use test_support::{Cluster, eventually_async, run};

const BINARY: &str = env!("CARGO_BIN_EXE_braidlog");

/// Whether an answer says to look for the coordinator again, or to come again.
fn is_passing(error: ErrorCode) -> bool {
    [
        ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
        ErrorCode::COORDINATOR_NOT_AVAILABLE,
        ErrorCode::NOT_COORDINATOR,
    ]
    .contains(&error)
}

/// Connects to a node that may be gone.
async fn connect(address: &str) -> Option<Connection> {
    let options = ConnectOptions {
        connect_timeout: Duration::from_secs(1),
        request_timeout: Duration::from_secs(20),
        ..ConnectOptions::default()
    };
    Connection::connect(address, options).await.ok()
}

/// The node that coordinates a group, by what a node says; none while that is not known.
async fn find(address: &str, group: &str) -> Option<(i32, String)> {
    let node = connect(address).await?;
    let keys = [group];
    let found = node
        .find_coordinator(CoordinatorKind::Group, &keys)
        .await
        .ok()?;
    let found = found.into_iter().next()?;
    if found.error != ErrorCode::NONE {
        assert!(is_passing(found.error), "{found:?}");
        return None;
    }
    Some((found.node_id, found.address()))
}

/// A connection to the node that coordinates a group and has read its log.
async fn coordinator(bootstrap: &[String], group: &str) -> Connection {
    eventually_async("a coordinator", async || {
        for address in bootstrap {
            let Some((_, address)) = find(address, group).await else {
                continue;
            };
            let Some(connection) = connect(&address).await else {
                continue;
            };
            let Ok(described) = connection.describe_groups(&[group]).await else {
                continue;
            };
            if !is_passing(described[0].error) {
                return Some(connection);
            }
        }
        None
    })
    .await
}

/// The index of the running node that coordinates a group.
async fn coordinating(cluster: &Cluster, group: &str) -> usize {
    eventually_async("a coordinator", async || {
        for node in cluster.running() {
            if let Some((id, _)) = find(&cluster.kafka(node), group).await {
                let running = cluster.running().into_iter();
                let mut ids = running.map(|node| (cluster.known_id(node), node));
                let id = u32::try_from(id).ok();
                if let Some((_, node)) = ids.find(|(known, _)| *known == id) {
                    return Some(node);
                }
            }
        }
        None
    })
    .await
}

/// Creates a topic through the command line.
#[track_caller]
fn create(address: &str, topic: &str, partitions: i32, replicas: i16) {
    let (partitions, replicas) = (partitions.to_string(), replicas.to_string());
    let arguments = [
        "topic",
        "create",
        topic,
        "-p",
        &partitions,
        "-r",
        &replicas,
        "--server",
        address,
    ];
    run(BINARY, &arguments, b"").ok();
}
