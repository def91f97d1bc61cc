//! Produce, as producers see it.

use broker::record::{BatchProducer, Compression};
use bytes::Bytes;
use kafka_protocol::messages::produce_request::TopicProduceData;
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::*;

use crate::harness::*;

async fn told(
    client: &mut Client,
    version: i16,
    request: &ProduceRequest,
) -> PartitionProduceResponse {
    let response = client.call(version, request).await;
    response.responses[0].partition_responses[0].clone()
}

async fn topic_id(client: &mut Client, topic: &str) -> [u8; 16] {
    let asked =
        metadata_request::MetadataRequestTopic::default().with_name(Some(topic_name(topic)));
    let request = MetadataRequest::default().with_topics(Some(vec![asked]));
    *client.call(12, &request).await.topics[0]
        .topic_id
        .as_bytes()
}

fn by_id(request: ProduceRequest, id: [u8; 16]) -> ProduceRequest {
    let topics = request.topic_data.iter().map(|topic| {
        TopicProduceData::default()
            .with_topic_id(id.to_vec().try_into().unwrap())
            .with_partition_data(topic.partition_data.clone())
    });
    request.clone().with_topic_data(topics.collect())
}

#[tokio::test]
async fn every_version_appends_and_tells_where() {
    let server = Server::start().await;
    let mut client = server.client_and_topic("t", 1).await;
    let id = topic_id(&mut client, "t").await;
    for (offset, version) in (0..).zip(3..=13) {
        let mut request = produce("t", 0, -1, batch(&["v"], Default::default()));
        if version >= 13 {
            request = by_id(request, id);
        }
        let told = told(&mut client, version, &request).await;
        assert_eq!(
            (told.error_code, told.base_offset),
            (0, offset),
            "version {version}"
        );
        assert_eq!(told.log_append_time_ms, -1);
        assert_eq!(told.log_start_offset, if version >= 5 { 0 } else { -1 });
    }
    server.stop().await;
}

#[tokio::test]
async fn acks_0_is_not_answered() {
    let server = Server::start().await;
    let mut client = server.client_and_topic("t", 1).await;
    client
        .send(9, &produce("t", 0, 0, batch(&["a"], Default::default())))
        .await;
    let told = told(
        &mut client,
        9,
        &produce("t", 0, 1, batch(&["b"], Default::default())),
    )
    .await;
    assert_eq!(
        told.base_offset, 1,
        "the first batch was appended, and only this one answered"
    );
    server.stop().await;
}

#[tokio::test]
async fn acks_0_with_an_error_closes_the_connection() {
    let server = Server::start().await;
    let mut client = server.client_and_topic("t", 1).await;
    client
        .send(
            9,
            &produce("unknown", 0, 0, batch(&["a"], Default::default())),
        )
        .await;
    assert!(client.is_closed().await);
    server.stop().await;
}

#[tokio::test]
async fn each_partition_has_its_own_error() {
    let server = Server::start().await;
    let mut client = server.client_and_topic("t", 2).await;
    let good = produce("t", 1, -1, batch(&["a"], Default::default())).topic_data;
    let unknown_partition = produce("t", 5, -1, batch(&["a"], Default::default())).topic_data;
    let unknown_topic = produce("u", 0, -1, batch(&["a"], Default::default())).topic_data;
    let mut damaged = batch(&["a"], Default::default()).to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    let corrupt = produce("t", 0, -1, Bytes::from(damaged)).topic_data;
    let topics = [
        unknown_topic,
        corrupt,
        good.clone(),
        unknown_partition,
        good,
    ]
    .concat();
    let request = produce("t", 0, -1, Bytes::new()).with_topic_data(topics);
    let response = client.call(9, &request).await;
    let told: Vec<_> = response
        .responses
        .iter()
        .map(|topic| &topic.partition_responses[0])
        .map(|told| (told.index, told.error_code, told.base_offset))
        .collect();
    // The partition that is named twice is appended to twice, in order.
    assert_eq!(
        told,
        [(0, 3, -1), (0, 2, -1), (1, 0, 0), (5, 3, -1), (1, 0, 1)]
    );
    server.stop().await;
}

#[tokio::test]
async fn an_unknown_topic_id_is_told_as_such() {
    let server = Server::start().await;
    let mut client = server.client_and_topic("t", 1).await;
    let request = by_id(
        produce("t", 0, -1, batch(&["a"], Default::default())),
        [9; 16],
    );
    assert_eq!(told(&mut client, 13, &request).await.error_code, 100);
    server.stop().await;
}

#[tokio::test]
async fn requests_that_may_not_be_are_refused() {
    let server = Server::start().await;
    let mut client = server.client_and_topic("t", 1).await;
    let plain = || batch(&["a"], Default::default());
    let acks_2 = produce("t", 0, 2, plain());
    assert_eq!(told(&mut client, 9, &acks_2).await.error_code, 21);
    let transactional =
        produce("t", 0, -1, plain()).with_transactional_id(Some(TransactionalId(text("x"))));
    assert_eq!(told(&mut client, 9, &transactional).await.error_code, 53);
    let zstd = produce(
        "t",
        0,
        -1,
        compressed(&["a"], Compression::Zstd, Default::default()),
    );
    assert_eq!(told(&mut client, 6, &zstd).await.error_code, 76);
    assert_eq!(told(&mut client, 7, &zstd).await.error_code, 0);
    let two = produce("t", 0, -1, Bytes::from([plain(), plain()].concat()));
    let code = told(&mut client, 9, &two).await.error_code;
    assert!(
        [2, 87].contains(&code),
        "two batches in one partition: {code}"
    );
    let large = "x".repeat(2 << 20);
    let large = produce("t", 0, -1, batch(&[&large], Default::default()));
    assert_eq!(told(&mut client, 9, &large).await.error_code, 10);
    server.stop().await;
}

#[tokio::test]
async fn versions_before_3_are_answered_with_unsupported_version() {
    use bytes::{Buf, BufMut, BytesMut};
    use tokio::io::AsyncWriteExt;

    let server = Server::start().await;
    let mut client = server.connect().await;
    let mut request = BytesMut::new();
    request.put_slice(&[0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 4, 0xff, 0xff]); // key 0, version 2
    request.put_slice(&[0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1]); // acks 1, topic t
    request.put_slice(&[0, 0, 0, 6, 0, 0, 0, 2, 9, 9]); // partition 6, two bytes
    let length = i32::try_from(request.len() - 4).unwrap();
    request[..4].copy_from_slice(&length.to_be_bytes());
    client.stream.write_all(&request).await.unwrap();
    let (id, mut frame) = client.receive_frame().await.unwrap();
    assert_eq!(id, 4);
    frame.advance(4 + 4 + 2 + 1 + 4);
    assert_eq!((frame.get_i32(), frame.get_i16()), (6, 35));
    assert_eq!(
        (frame.get_i64(), frame.get_i64(), frame.get_i32()),
        (-1, -1, 0)
    );
    assert!(frame.is_empty());
    server.stop().await;
}

#[tokio::test]
async fn a_repeated_batch_is_answered_with_its_first_offset() {
    let server = Server::start().await;
    let mut client = server.client_and_topic("t", 1).await;
    let request = InitProducerIdRequest::default().with_transactional_id(None);
    let id = client.call(4, &request).await.producer_id.0;
    assert!(id >= 0);
    let nth = |base_sequence| {
        let producer = BatchProducer {
            producer_id: id,
            producer_epoch: 0,
            base_sequence,
        };
        produce("t", 0, -1, batch(&["a"], producer))
    };
    assert_eq!(told(&mut client, 9, &nth(0)).await.base_offset, 0);
    assert_eq!(told(&mut client, 9, &nth(1)).await.base_offset, 1);
    let repeated = told(&mut client, 9, &nth(0)).await;
    assert_eq!((repeated.error_code, repeated.base_offset), (0, 0));
    assert_eq!(told(&mut client, 9, &nth(5)).await.error_code, 45);
    server.stop().await;
}

#[tokio::test]
async fn acks_1_is_answered_whatever_time_it_is_given() {
    let server = Server::start().await;
    let mut client = server.client_and_topic("t", 1).await;
    // Kafka does not wait for acks=1, so that its time-out means nothing.
    let request = produce("t", 0, 1, batch(&["a"], Default::default())).with_timeout_ms(0);
    assert_eq!(told(&mut client, 9, &request).await.error_code, 0);
    server.stop().await;
}
