//! The command line against real nodes: every command, its results as table and JSON, its exit
//! codes, and the commands of the README.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bench;
mod client;
mod config;
mod consume;
mod group;
mod produce;
mod readme;
mod refusals;
mod restart;
mod segment;
mod start;
mod topic;

use test_support::{Finished, Process, TempDir};

const BINARY: &str = env!("CARGO_BIN_EXE_braidlog");

/// A running node, and commands that talk to it.
struct Cluster {
    node: Process,
    directory: TempDir,
}

impl Cluster {
    fn start() -> Cluster {
        Cluster::start_with(&[])
    }

    fn start_with(arguments: &[&str]) -> Cluster {
        let directory = TempDir::new();
        let node = Process::start(BINARY, &directory.join("data"), arguments);
        Cluster { node, directory }
    }

    /// Runs a command against the node.
    fn run(&self, arguments: &[&str]) -> Finished {
        self.feed(arguments, b"")
    }

    /// The same with standard input.
    fn feed(&self, arguments: &[&str], stdin: &[u8]) -> Finished {
        let mut all = arguments.to_vec();
        all.extend(["--server", self.node.kafka()]);
        test_support::run(BINARY, &all, stdin)
    }

    /// Runs a command that must succeed.
    #[track_caller]
    fn ok(&self, arguments: &[&str]) -> String {
        self.run(arguments).ok()
    }

    /// The values of every record of a topic, by partition and offset.
    #[track_caller]
    fn values(&self, topic: &str) -> Vec<String> {
        let mut records = self
            .run(&["consume", topic, "--from", "start", "-e", "-o", "json"])
            .json_lines();
        records.sort_by_key(|record| {
            (
                record["partition"].as_i64().unwrap(),
                record["offset"].as_i64().unwrap(),
            )
        });
        records
            .iter()
            .map(|record| record["value"].as_str().unwrap().to_owned())
            .collect()
    }
}

/// A command that talks to nobody.
fn run(arguments: &[&str]) -> Finished {
    test_support::run(BINARY, arguments, b"")
}
