//! The README's cluster session, as it stands there, with other ports.

use storage::disk::Disk;
use test_support::{Cluster, Load, check_replicas};

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
    let mut steps = 0;
    for command in &commands {
        steps += 1;
        match command.as_slice() {
            ["dev", "-n", "3"] => {}
            ["dev", "kill", "2"] => cluster.kill(1),
            ["dev", "restart", "2"] => cluster.restart(1),
            ["cluster", arguments @ ..] => {
                operate(&cluster, 0, arguments).ok();
            }
            [..] => {
                client(&cluster, 0, command).ok();
            }
        }
    }
    assert!(steps >= 6, "the session has {steps} steps: {commands:?}");
    cluster.wait_healthy(3);
    let load = Load::start(&cluster.bootstrap(), "payments", 1, 100);
    drop(load.stop().await);
    // What the session wrote is on every replica.
    check_replicas(&cluster, "payments", &[]).await;
}
