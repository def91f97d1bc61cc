//! The README's cluster session, as it stands there, with other ports.

use storage::disk::Disk;
use test_support::{Cluster, read_replica};

use crate::{BINARY, client, operate};

#[tokio::test(flavor = "multi_thread")]
async fn the_cluster_session_of_the_readme_works() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let readme = String::from_utf8(Disk::Real.read_file(path.as_ref()).unwrap()).unwrap();
    let (_, session) = readme.split_once("## A cluster").unwrap();
    let commands: Vec<Vec<&str>> = session
        .split("\n## ")
        .next()
        .unwrap()
        .lines()
        .filter(|line| line.starts_with("braidlog "))
        .map(|line| line.split_whitespace().skip(1).collect())
        .collect();
    let mut cluster = Cluster::start(BINARY, 3);
    let mut read = String::new();
    for command in &commands {
        match command.as_slice() {
            ["dev", "-n", "3"] => {}
            ["dev", "kill", "2"] => cluster.kill(1),
            ["dev", "restart", "2"] => cluster.restart(1),
            ["cluster", arguments @ ..] => {
                operate(&cluster, 0, arguments).ok();
            }
            ["consume", ..] => read = client(&cluster, 0, command).ok(),
            _ => {
                client(&cluster, 0, command).ok();
            }
        }
    }
    assert!(commands.len() >= 8, "the session is {commands:?}");
    assert!(read.contains("first") && read.contains("second"), "{read}");
    // What the session wrote is on every replica.
    cluster.wait_healthy(3);
    let expected = read_replica(&cluster, 0, "payments", 0, 2).await;
    for node in 1..3 {
        let found = read_replica(&cluster, node, "payments", 0, 2).await;
        assert!(found == expected, "node {} has something else", node + 1);
    }
}
