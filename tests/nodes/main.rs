//! A node is a value: five of them live in one process, each with its own disk, and none knows of
//! the others.

use std::collections::BTreeSet;
use std::path::Path;

use storage::disk::{Disk, SimDisk};
use test_support::{Witness, connect, create_topic, env, start_node};

#[tokio::test(flavor = "multi_thread")]
async fn five_nodes_live_in_one_process() {
    let mut nodes = Vec::new();
    for seed in 0..5 {
        let env = env(Disk::Sim(SimDisk::new(seed)), seed);
        let settings = ["storage.journal_file_bytes=1MiB"];
        nodes.push(start_node(Path::new("/node"), env, &settings).await);
    }
    let mut clusters = BTreeSet::new();
    for (n, node) in nodes.iter().enumerate() {
        let connection = connect(&node.kafka_addr().to_string())
            .await
            .expect("connected");
        let topic = format!("of-{n}");
        create_topic(&connection, &topic, 1).await;
        let mut witness = Witness::new(&topic, 50);
        witness.produce(&connection, 10).await.expect("produced");
        witness.check(&connection).await;
        let metadata = connection.metadata(None, false).await.expect("answered");
        let names: Vec<_> = metadata
            .topics
            .iter()
            .map(|topic| topic.name.as_str())
            .collect();
        assert_eq!(names, [topic.as_str()], "a node has its own topics only");
        clusters.insert(metadata.cluster_id.expect("a cluster has an id"));
    }
    assert_eq!(clusters.len(), 5, "each is its own cluster");
    for node in nodes {
        node.shutdown().await;
    }
}
