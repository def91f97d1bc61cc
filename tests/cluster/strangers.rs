//! Who must not get in: garbage, other clusters, nodes without their data, seeds that disagree.

use std::io::{Read, Write};
use std::net::TcpStream;

use storage::disk::Disk;
use test_support::{Cluster, Load, Process, TempDir, check_replicas, eventually, free_port};

use crate::{BINARY, create};

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_the_peer_port_closes_that_connection_only() {
    let cluster = Cluster::start(BINARY, 3);
    create(&cluster, "calm", 2, 3);
    let load = Load::start(&cluster.bootstrap(), "calm", 2, 200);
    let http = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec();
    let zeros = vec![0; 100_000];
    let noise: Vec<u8> = (0..200_000_u32)
        .map(|n| u8::try_from(n.wrapping_mul(2_654_435_761) >> 24).unwrap())
        .collect();
    let huge = [b"BRDL".to_vec(), vec![0xff; 64]].concat();
    for garbage in [http, zeros, noise, huge] {
        let mut stream = TcpStream::connect(cluster.peers(0)).unwrap();
        // The node may close before all is written: that is the point.
        let _ = stream.write_all(&garbage);
        eventually("the node to close", || {
            let mut rest = [0; 1024];
            match stream.read(&mut rest) {
                Ok(0) | Err(_) => Some(()),
                Ok(_) => None,
            }
        });
        load.more(50).await;
    }
    let loaded = load.stop().await;
    cluster.wait_healthy(3);
    check_replicas(&cluster, "calm", &loaded).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_the_data_of_another_cluster_does_not_get_in() {
    let mut cluster = Cluster::start(BINARY, 3);
    create(&cluster, "ours", 2, 3);
    let load = Load::start(&cluster.bootstrap(), "ours", 2, 200);
    load.more(100).await;

    // With the id of the node in whose place it comes.
    let directory = TempDir::new();
    let theirs = directory.join("theirs");
    let other = Process::start(BINARY, &theirs, &["--node-id", "3"]);
    assert_eq!(other.terminate().code(), Some(0));
    cluster.kill(2);
    let mine = cluster.data_dir(2);
    let (aside, strange) = (mine.with_file_name("aside"), mine.with_file_name("strange"));
    Disk::Real.rename(&mine, &aside).unwrap();
    Disk::Real.rename(&theirs, &mine).unwrap();
    cluster.spawn(2);
    // Whichever side says it first: the two are not of one cluster.
    eventually("the two to refuse each other", || {
        let told = |node: &usize| cluster.process(*node).log().contains("belongs to cluster");
        [0, 1, 2].iter().any(told).then_some(())
    });
    load.more(100).await;
    cluster.kill(2);
    Disk::Real.rename(&mine, &strange).unwrap();
    Disk::Real.rename(&aside, &mine).unwrap();
    cluster.restart(2);
    let loaded = load.stop().await;
    cluster.wait_healthy(3);
    check_replicas(&cluster, "ours", &loaded).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_lost_its_data_is_refused_with_the_way_out() {
    let mut cluster = Cluster::start(BINARY, 3);
    create(&cluster, "kept", 2, 3);
    let load = Load::start(&cluster.bootstrap(), "kept", 2, 200);
    load.more(100).await;
    cluster.kill(2);
    Disk::Real.remove_dir_all(&cluster.data_dir(2)).unwrap();
    cluster.spawn(2);
    // It wants the id it had, which is not given out again.
    eventually("the empty node to be refused", || {
        let log = cluster.process(2).log();
        (log.contains("node 3") && log.contains("remove")).then_some(())
    });
    load.more(100).await;
    let loaded = load.stop().await;
    // The data stand on the two others.
    check_replicas(&cluster, "kept", &loaded).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_a_nodes_directory_that_is_started_beside_it_is_refused() {
    let mut cluster = Cluster::start(BINARY, 3);
    create(&cluster, "single", 2, 3);
    let load = Load::start(&cluster.bootstrap(), "single", 2, 200);
    load.more(100).await;
    let mine = cluster.data_dir(2);
    let copied = mine.with_file_name("copied");
    cluster.kill(2);
    let paths = [mine.as_os_str(), copied.as_os_str()];
    test_support::run(
        "cp",
        &[&[std::ffi::OsStr::new("-r")], &paths[..]].concat(),
        b"",
    )
    .ok();
    cluster.restart(2);
    cluster.wait_healthy(3);

    let seeds = format!("{},{}", cluster.peers(0), cluster.peers(1));
    let mut copy = Process::spawn(BINARY, &copied, &["--seeds", &seeds]);
    // Whichever side says it: one of the two is too many.
    eventually("the copy to be refused", || {
        let told = |log: &str| log.contains("another process runs as node 3");
        let said = [0, 1]
            .iter()
            .any(|node| told(&cluster.process(*node).log()));
        (said || told(&copy.log())).then_some(())
    });
    load.more(100).await;
    // It is no third replica of anything: the real one is.
    cluster.wait_healthy(3);
    assert!(copy.ended().is_none_or(|status| !status.success()));
    copy.kill();
    let loaded = load.stop().await;
    cluster.wait_healthy(3);
    check_replicas(&cluster, "single", &loaded).await;
}

#[test]
fn seeds_that_disagree_make_no_cluster() {
    let directory = TempDir::new();
    let (first, second, nobody) = (free_port(), free_port(), free_port());
    let start = |name: &str, own: u16, other: u16| {
        let seeds = format!("127.0.0.1:{own},127.0.0.1:{other}");
        let port = format!("peers.port={own}");
        let arguments = ["--set", &port, "--seeds", &seeds];
        Process::spawn(BINARY, &directory.join(name), &arguments)
    };
    // The first seeks the second, which seeks somebody else.
    let mut nodes = [
        start("first", first, second),
        start("second", second, nobody),
    ];
    for (node, missing) in nodes.iter_mut().zip([second, nobody]) {
        eventually("the node to say what it waits for", || {
            node.log().contains(&missing.to_string()).then_some(())
        });
        assert!(!node.is_ready(), "{}", node.log());
    }
}
