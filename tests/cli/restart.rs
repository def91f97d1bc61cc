//! The node as a value: several in one process, and starting over when the disk fails.

use std::io;
use std::path::{Path, PathBuf};

use braidlog::node::Node;
use broker::record::{BatchProducer, Compression, Record, encode_batch};
use kafka_client::api::{
    Acks, CreateTopic, FetchOptions, FetchPartition, ProducePartition, ProduceRequest,
    ProducedPartition,
};
use kafka_client::{ClientError, ConnectOptions, Connection};
use storage::disk::{Disk, OpKind, SimDisk};
use test_support::{env, eventually_async, start_node, within};

const SMALL: &[&str] = &["storage.journal_file_bytes=1MiB", "storage.shards=1"];

async fn connect(node: &Node) -> Connection {
    let address = node.kafka_addr().to_string();
    Connection::connect(&address, ConnectOptions::default())
        .await
        .unwrap()
}

async fn produce(
    connection: &Connection,
    topic: &str,
    value: &str,
) -> Result<ProducedPartition, ClientError> {
    let record = Record {
        value: Some(value.to_owned().into()),
        ..Record::default()
    };
    let batch = encode_batch(&[record], Compression::None, BatchProducer::default());
    let request = ProduceRequest {
        transactional_id: None,
        acks: Acks::All,
        timeout_ms: 10_000,
        partitions: vec![ProducePartition {
            topic: topic.to_owned(),
            partition: 0,
            records: Some(batch),
        }],
    };
    let result = connection.produce(&request).await?.pop().unwrap();
    result.error.check_with(result.message.clone())?;
    Ok(result)
}

async fn values(connection: &Connection, topic: &str) -> Vec<String> {
    let wanted = [FetchPartition::new(topic, 0, 0)];
    let options = FetchOptions {
        wait_ms_max: 0,
        ..FetchOptions::default()
    };
    let fetched = connection
        .fetch(&wanted, options)
        .await
        .unwrap()
        .partitions
        .pop()
        .unwrap();
    fetched.error.check().unwrap();
    broker::record::split_batches(&fetched.records)
        .unwrap()
        .iter()
        .flat_map(|batch| broker::record::decode_batch(batch, 1 << 20).unwrap())
        .map(|record| String::from_utf8(record.value.unwrap().to_vec()).unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn five_nodes_live_in_one_process() {
    let mut nodes = Vec::new();
    for seed in 0..5 {
        let disk = Disk::Sim(SimDisk::new(seed));
        nodes.push(start_node(Path::new("/data"), env(disk, seed), SMALL).await);
    }
    for (number, node) in nodes.iter().enumerate() {
        let connection = connect(node).await;
        connection
            .create_topics(&[CreateTopic::new("orders")], 10_000, false)
            .await
            .unwrap();
        produce(&connection, "orders", &format!("on node {number}"))
            .await
            .unwrap();
    }
    for (number, node) in nodes.iter().enumerate() {
        let connection = connect(node).await;
        assert_eq!(
            values(&connection, "orders").await,
            [format!("on node {number}")]
        );
    }
    for node in nodes {
        within("a node to stop", node.shutdown()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_sync_makes_the_node_start_over_from_disk_on_the_same_port() {
    let sim = SimDisk::new(1);
    let data = PathBuf::from("/data");
    let node = start_node(&data, env(Disk::Sim(sim.clone()), 1), SMALL).await;
    let address = node.kafka_addr();
    let connection = connect(&node).await;
    connection
        .create_topics(&[CreateTopic::new("orders")], 10_000, false)
        .await
        .unwrap();
    produce(&connection, "orders", "before").await.unwrap();

    let mut broker = node.broker();
    sim.inject(OpKind::Sync, 1, io::ErrorKind::Other);
    let error = produce(&connection, "orders", "in doubt")
        .await
        .unwrap_err();
    assert!(
        !error.is_definite(),
        "a failed sync settles nothing: {error}"
    );
    within("the node to stop serving", broker.wait_for(Option::is_none))
        .await
        .unwrap();
    within("the node to serve again", broker.wait_for(Option::is_some))
        .await
        .unwrap();

    assert_eq!(node.kafka_addr(), address);
    let connection = connect(&node).await;
    let last = eventually_async("the partition to be led again", async || {
        produce(&connection, "orders", "after").await.ok()
    })
    .await;
    let found = values(&connection, "orders").await;
    assert_eq!(found.first().map(String::as_str), Some("before"));
    assert_eq!(found.last().map(String::as_str), Some("after"));
    assert_eq!(i64::try_from(found.len()).unwrap(), last.base_offset + 1);
    within("the node to stop", node.shutdown()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_stopped_can_be_started_again_on_its_disk() {
    let disk = Disk::Sim(SimDisk::new(2));
    let data = PathBuf::from("/data");
    let node = start_node(&data, env(disk.clone(), 1), SMALL).await;
    let connection = connect(&node).await;
    connection
        .create_topics(&[CreateTopic::new("orders")], 10_000, false)
        .await
        .unwrap();
    produce(&connection, "orders", "kept").await.unwrap();
    within("the node to stop", node.shutdown()).await;

    let node = start_node(&data, env(disk, 2), SMALL).await;
    assert_eq!(values(&connect(&node).await, "orders").await, ["kept"]);
    within("the node to stop", node.shutdown()).await;
}
