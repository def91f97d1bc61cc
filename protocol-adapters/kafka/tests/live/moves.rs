//! One partition of a topic whose partitions share shards gets other replicas while an idempotent
//! client writes to it: AlterPartitionReassignments and what clients see of it.

use broker::record::{BatchProducer, decode_batch, split_batches};
use kafka_client::api::{
    Acks, FetchOptions, FetchPartition as Wanted, ProducePartition, Reassignment,
};
use kafka_client::{ClusterClient, ClusterOptions, ErrorCode, Resend};
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::*;

use crate::harness::*;

const PARTITIONS: i32 = 12;

async fn create(server: &Server, name: &'static str) {
    let topic = CreatableTopic::default()
        .with_name(topic_name(name))
        .with_num_partitions(PARTITIONS)
        .with_replication_factor(3);
    let request = CreateTopicsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(20_000);
    let made = tokio::time::timeout(DEADLINE, async {
        // Until all three nodes take replicas.
        while server.connect().await.call(7, &request).await.topics[0].error_code != 0 {
            tokio::task::yield_now().await;
        }
    });
    made.await.expect("the topic is made");
}

fn shared_list(replicas: &[i32]) -> Reassignment {
    Reassignment {
        topic: "t".to_owned(),
        partition: 0,
        replicas: Some(replicas.to_vec()),
    }
}

#[tokio::test]
async fn one_partition_moves_while_an_idempotent_client_writes_to_it() {
    let servers = Server::start_three().await;
    create(&servers[0], "t").await;
    let addresses: Vec<String> = servers
        .iter()
        .map(|server| server.handle.local_addr().to_string())
        .collect();
    let cluster = ClusterClient::new(addresses.clone(), ClusterOptions::default());
    let identity = cluster.init_producer_id().await.unwrap();
    let write = async |sequence: i32| {
        let producer = BatchProducer {
            producer_id: identity.producer_id,
            producer_epoch: identity.producer_epoch,
            base_sequence: sequence,
        };
        let batch = ProducePartition {
            topic: "t".to_owned(),
            partition: 0,
            records: Some(batch(&["v"], producer)),
        };
        let written = tokio::time::timeout(DEADLINE, async {
            loop {
                let written = cluster.produce(&batch, Acks::All, Resend::Harmless).await;
                if let Ok(written) = written {
                    return written.base_offset;
                }
            }
        });
        written.await.expect("it is taken in time")
    };
    let told = async || {
        let metadata = cluster.metadata(Some(&["t"])).await.ok()?;
        let partitions = metadata.topics.into_iter().next()?.partitions;
        partitions.into_iter().find(|told| told.index == 0)
    };
    let mut next = 0;
    // The first one leaves the others in its shard, then it takes its new shard along.
    for list in [[3, 1, 2], [2, 3, 1]] {
        for _ in 0..20 {
            assert_eq!(write(next).await, i64::from(next));
            next += 1;
        }
        let altered = tokio::time::timeout(DEADLINE, async {
            loop {
                let wanted = [shared_list(&list)];
                let altered = async {
                    let connection = cluster.connect(&addresses[1]).await?;
                    connection
                        .alter_partition_reassignments(&wanted, false, 20_000)
                        .await
                };
                match altered.await {
                    Ok(altered) if altered[0].error == ErrorCode::NONE => return,
                    _ => tokio::task::yield_now().await,
                }
            }
        });
        altered.await.expect("it is decided");
        let moving = async {
            loop {
                // Each batch at its offset, before, while and after it moves.
                assert_eq!(write(next).await, i64::from(next));
                next += 1;
                if let Some(told) = told().await
                    && told.replicas == list
                    && told.leader >= 0
                {
                    return;
                }
            }
        };
        tokio::time::timeout(DEADLINE, moving)
            .await
            .expect("it moves");
    }
    for _ in 0..20 {
        assert_eq!(write(next).await, i64::from(next));
        next += 1;
    }
    let mut offsets = Vec::new();
    while offsets.len() < usize::try_from(next).unwrap() {
        let from = offsets.last().map_or(0, |last| last + 1);
        let wanted = Wanted::new("t", 0, from);
        let fetched = cluster
            .fetch(&wanted, FetchOptions::default())
            .await
            .unwrap();
        for batch in split_batches(&fetched.records).unwrap() {
            for record in decode_batch(&batch, 1 << 20).unwrap() {
                offsets.push(record.offset);
            }
        }
    }
    assert_eq!(
        offsets,
        (0..i64::from(next)).collect::<Vec<_>>(),
        "once each"
    );
    let stops = servers.into_iter().map(Server::stop);
    futures_util::future::join_all(stops).await;
}
