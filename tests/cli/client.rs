//! The client's calls that no command makes, against a real node.

use kafka_client::api::{ConfigResource, OffsetQuery, PRODUCE};
use kafka_client::{ClientError, ConnectOptions, Connection, ErrorCode};

use crate::Cluster;

async fn connect(cluster: &Cluster) -> Connection {
    Connection::connect(cluster.node.kafka(), ConnectOptions::default())
        .await
        .unwrap()
}

#[tokio::test]
async fn the_node_says_what_it_speaks_and_who_it_is() {
    let cluster = Cluster::start_with(&["--node-id", "7"]);
    let connection = connect(&cluster).await;
    let versions = connection.api_versions().await.unwrap();
    let produce = versions
        .iter()
        .find(|range| range.api_key == PRODUCE)
        .unwrap();
    assert!(produce.version_min == 0 && produce.version_max >= 9);

    let described = connection.describe_cluster().await.unwrap();
    assert_eq!(
        described.cluster_id,
        cluster.node.ready()["cluster_id"].as_str().unwrap()
    );
    assert_eq!(described.controller_id, 7);
    let node = &described.nodes[0];
    assert_eq!(node.node_id, 7);
    assert_eq!(format!("{}:{}", node.host, node.port), cluster.node.kafka());

    let first = connection.init_producer_id(None, 0).await.unwrap();
    let second = connection.init_producer_id(None, 0).await.unwrap();
    assert_ne!(first.producer_id, second.producer_id);
    assert_eq!((first.producer_epoch, second.producer_epoch), (0, 0));
}

#[tokio::test]
async fn errors_are_told_as_the_node_says_them() {
    let cluster = Cluster::start();
    let connection = connect(&cluster).await;
    let resource = ConfigResource::Topic("nowhere".to_owned());
    let error = connection
        .describe_configs(&resource, None, false)
        .await
        .unwrap_err();
    assert!(matches!(
        error,
        ClientError::Refused {
            code: ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            ..
        }
    ));
    assert!(error.is_definite());
    let query = OffsetQuery {
        topic: "nowhere".to_owned(),
        partition: 0,
        current_leader_epoch: -1,
        timestamp: OffsetQuery::LATEST,
    };
    let listed = connection.list_offsets(&[query], false).await.unwrap();
    assert_eq!(listed[0].error, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    let metadata = connection
        .metadata(Some(&["nowhere"]), false)
        .await
        .unwrap();
    assert_eq!(
        metadata.topics[0].error,
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
    );
    let metadata = connection.metadata(Some(&["made"]), true).await.unwrap();
    assert!(matches!(
        metadata.topics[0].error,
        ErrorCode::NONE | ErrorCode::LEADER_NOT_AVAILABLE
    ));
}
