//! DescribeCluster and InitProducerId.

use kafka_protocol::messages::*;

use crate::harness::*;

#[tokio::test]
async fn the_cluster_is_told_in_every_version() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    for version in 0..=2 {
        let request = DescribeClusterRequest::default();
        let response = client.call(version, &request).await;
        assert_eq!(
            (response.error_code, response.controller_id),
            (0, BrokerId(1))
        );
        assert_eq!(response.cluster_id.len(), 22);
        assert_eq!(response.brokers.len(), 1);
        assert_eq!(response.brokers[0].rack.as_ref().unwrap().as_str(), "rack");
        assert_eq!(response.cluster_authorized_operations, i32::MIN);
    }
    let of_type = |kind| DescribeClusterRequest::default().with_endpoint_type(kind);
    assert_eq!(client.call(1, &of_type(2)).await.error_code, 114);
    assert_eq!(client.call(1, &of_type(7)).await.error_code, 115);
    server.stop().await;
}

#[tokio::test]
async fn producer_ids_are_new_each_time_and_transactions_are_refused() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let plain = InitProducerIdRequest::default().with_transactional_id(None);
    let mut ids = Vec::new();
    for version in 0..=5 {
        let response = client.call(version, &plain).await;
        assert_eq!(
            (response.error_code, response.producer_epoch),
            (0, 0),
            "version {version}"
        );
        ids.push(response.producer_id.0);
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 6);
    let transactional = plain.with_transactional_id(Some(TransactionalId(text("x"))));
    let refused = client.call(4, &transactional).await;
    assert_eq!((refused.error_code, refused.producer_id.0), (53, -1));
    server.stop().await;
}
