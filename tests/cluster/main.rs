//! Clusters of real processes: nodes killed, paused, added, drained and removed under load, and
//! what must be refused. After each of them every acknowledged record is read at its offset from
//! every replica, and replicas are equal byte for byte.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod admin;
mod cuts;
mod dev;
mod failover;
mod membership;
mod moves;
mod readme;
mod strangers;
mod tls;

use test_support::{Cluster, Finished};

const BINARY: &str = env!("CARGO_BIN_EXE_braidlog");

/// Runs a command that needs no cluster, or names it itself.
fn run(arguments: &[&str]) -> Finished {
    test_support::run(BINARY, arguments, b"")
}

/// An operator's command, asked of a node.
fn operate(cluster: &Cluster, node: usize, arguments: &[&str]) -> Finished {
    let http = cluster.http(node);
    let mut all = vec!["cluster"];
    all.extend(arguments);
    all.extend(["--http", &http]);
    run(&all)
}

/// A client's command, asked of a node.
fn client(cluster: &Cluster, node: usize, arguments: &[&str]) -> Finished {
    let kafka = cluster.kafka(node);
    let mut all = arguments.to_vec();
    all.extend(["--server", &kafka]);
    run(&all)
}

/// Creates a topic.
#[track_caller]
fn create(cluster: &Cluster, topic: &str, partitions: i32, replicas: i16) {
    let (partitions, replicas) = (partitions.to_string(), replicas.to_string());
    let create = ["topic", "create", topic, "-p", &partitions, "-r", &replicas];
    client(cluster, 0, &create).ok();
}
