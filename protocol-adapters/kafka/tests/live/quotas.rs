//! Client quotas: set, told, taken away, and what they do to who exceeds them.

use std::time::Duration;

use broker::record::BatchProducer;
use futures_util::future::join_all;
use kafka_protocol::messages::alter_client_quotas_request::{EntityData, EntryData, OpData};
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::describe_client_quotas_request::ComponentData;
use kafka_protocol::messages::*;
use tokio::time::Instant;

use crate::harness::*;

fn entry(entity: &[(&str, Option<&str>)], key: &str, value: Option<f64>) -> EntryData {
    let entity = entity.iter().map(|(kind, name)| {
        EntityData::default()
            .with_entity_type(text(kind))
            .with_entity_name(name.map(text))
    });
    let op = OpData::default()
        .with_key(text(key))
        .with_value(value.unwrap_or_default())
        .with_remove(value.is_none());
    EntryData::default()
        .with_entity(entity.collect())
        .with_ops(vec![op])
}

async fn alter(client: &mut Client, version: i16, entries: Vec<EntryData>) -> Vec<i16> {
    let request = AlterClientQuotasRequest::default().with_entries(entries);
    let response = client.call(version, &request).await;
    let codes = response.entries.iter().map(|entry| entry.error_code);
    codes.collect()
}

/// Every quota: types and names of the entity, key, value.
async fn told(client: &mut Client, components: Vec<ComponentData>) -> Vec<String> {
    let request = DescribeClientQuotasRequest::default().with_components(components);
    let mut told = Vec::new();
    for version in 0..=1 {
        let response = client.call(version, &request).await;
        assert_eq!(response.error_code, 0, "{response:?}");
        told = Vec::new();
        for entry in response.entries.unwrap() {
            let entity: Vec<String> = (entry.entity.iter())
                .map(|part| {
                    let name = part.entity_name.as_ref().map_or("*", |name| name.as_str());
                    format!("{}={name}", part.entity_type.as_str())
                })
                .collect();
            for value in entry.values {
                told.push(format!(
                    "{} {} {}",
                    entity.join(" "),
                    value.key.as_str(),
                    value.value
                ));
            }
        }
    }
    told
}

#[tokio::test]
async fn quotas_are_set_told_and_taken_away() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let rate = "producer_byte_rate";
    let entries = vec![
        entry(&[("user", Some("u"))], rate, Some(1e6)),
        entry(&[("user", Some("u")), ("client-id", None)], rate, Some(2e6)),
        entry(&[("client-id", None)], "consumer_byte_rate", Some(3e6)),
    ];
    let validate = AlterClientQuotasRequest::default()
        .with_entries(entries.clone())
        .with_validate_only(true);
    let validated = client.call(1, &validate).await;
    assert!(validated.entries.iter().all(|entry| entry.error_code == 0));
    assert_eq!(told(&mut client, vec![]).await, [""; 0]);
    assert_eq!(alter(&mut client, 1, entries).await, [0, 0, 0]);
    let user = ComponentData::default()
        .with_entity_type(text("user"))
        .with_match_type(2)
        .with_match(None);
    let expected = [
        "user=u producer_byte_rate 1000000",
        "user=u client-id=* producer_byte_rate 2000000",
    ];
    let mut users = told(&mut client, vec![user]).await;
    users.sort_unstable_by_key(String::len);
    assert_eq!(users, expected);
    assert_eq!(told(&mut client, vec![]).await.len(), 3);
    let gone = vec![entry(&[("user", Some("u"))], rate, None)];
    assert_eq!(alter(&mut client, 0, gone).await, [0]);
    assert_eq!(told(&mut client, vec![]).await.len(), 2);
    server.stop().await;
}

#[tokio::test]
async fn quotas_that_cannot_be_are_refused_and_the_others_are_set() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let rate = "producer_byte_rate";
    let anyone = [("client-id", None)];
    let entries = vec![
        entry(&anyone, rate, Some(0.0)),
        entry(&[("client-id", Some("a"))], rate, Some(-5.0)),
        entry(&[("client-id", Some("b"))], "request_percentage", Some(5.0)),
        entry(&[("ip", None)], rate, Some(5.0)),
        entry(&[("user", None), ("ip", None)], rate, Some(5.0)),
        entry(&[("user", None)], rate, Some(f64::NAN)),
        entry(&[], rate, Some(5.0)),
        entry(&[("client-id", Some("c"))], rate, Some(5.0)),
    ];
    let codes = alter(&mut client, 1, entries).await;
    assert_eq!(codes, [42, 42, 42, 42, 42, 42, 42, 0]);
    let twice = vec![
        entry(&anyone, rate, Some(1.0)),
        entry(&anyone, rate, Some(2.0)),
    ];
    assert_eq!(alter(&mut client, 1, twice).await, [42, 42]);
    assert_eq!(
        told(&mut client, vec![]).await,
        ["client-id=c producer_byte_rate 5"]
    );
    server.stop().await;
}

#[tokio::test]
async fn effect_of_producer_byte_rate() {
    let server = Server::start().await;
    let mut client = server.client_and_topic("t", 1).await;
    // The client of these tests is called `test`.
    let quota = entry(
        &[("client-id", Some("test"))],
        "producer_byte_rate",
        Some(10_000.0),
    );
    assert_eq!(alter(&mut client, 1, vec![quota]).await, [0]);
    let value = "v".repeat(60_000);
    let batch = batch(&[&value], BatchProducer::default());
    let request = produce("t", 0, -1, batch);
    // Ten seconds' worth is free. What is over it is waited for.
    assert_eq!(client.call(9, &request).await.throttle_time_ms, 0);
    let begun = Instant::now();
    let response = client.call(9, &request).await;
    let told_ms = response.throttle_time_ms;
    assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
    assert!(told_ms <= 2_100, "{told_ms} ms for 20,000 bytes too many");
    // The answer came at once; the next request is not read before the time is over.
    let versions = ApiVersionsRequest::default();
    client.call(0, &versions).await;
    let waited = begun.elapsed();
    assert!(
        waited >= Duration::from_millis(u64::try_from(told_ms).unwrap()),
        "{waited:?}"
    );
    // Whatever time passed before, six more seconds' worth are waited for sooner or later.
    let mut total_ms = told_ms;
    while total_ms < 3_000 {
        let mut other = server.connect().await;
        total_ms += other.call(9, &request).await.throttle_time_ms;
        assert!(begun.elapsed() < DEADLINE, "{total_ms} ms in all");
    }
    // A client with another name has no quota.
    let told = server.broker.use_quota(
        broker::catalogue::QuotaKey::ProducerByteRate,
        "ANONYMOUS",
        "other",
        1 << 40,
    );
    assert_eq!(told, 0);
    server.stop().await;
}

#[tokio::test]
async fn effect_of_consumer_byte_rate() {
    let server = Server::start().await;
    let mut client = server.client_and_topic("t", 1).await;
    let value = "v".repeat(100_000);
    let batch = batch(&[&value], BatchProducer::default());
    client.call(9, &produce("t", 0, -1, batch)).await;
    let quota = entry(&[("user", None)], "consumer_byte_rate", Some(1_000.0));
    assert_eq!(alter(&mut client, 1, vec![quota]).await, [0]);
    // 100 seconds' worth, of which ten are for nothing. A first batch comes whole.
    let response = client.call(12, &fetch("t", 0, 0)).await;
    let told = &response.responses[0].partitions[0];
    assert!(told.records.as_ref().unwrap().len() > 100_000, "it comes");
    let first_ms = response.throttle_time_ms;
    assert!((80_000..91_000).contains(&first_ms), "{first_ms}");
    // On any other connection there is nothing until that is over, in every version, and however
    // often it is asked for, which uses nothing.
    for version in [4, 7, 11, 12] {
        let mut client = server.connect().await;
        let response = client.call(version, &fetch("t", 0, 0)).await;
        assert_eq!((response.error_code, response.responses.len()), (0, 0));
        let told_ms = response.throttle_time_ms;
        assert!(
            (30_000..=first_ms).contains(&told_ms),
            "{version}: {told_ms}"
        );
    }
    server.stop().await;
}

#[tokio::test]
async fn a_session_outlives_answers_withheld_over_a_quota() {
    let server = Server::start().await;
    let mut client = server.client_and_topic("t", 1).await;
    let begin = fetch("t", 0, 0).with_session_epoch(0);
    let session_id = client.call(11, &begin).await.session_id;
    assert!(session_id > 0);
    let batch = batch(&[&"v".repeat(100_000)], BatchProducer::default());
    client.call(9, &produce("t", 0, -1, batch)).await;
    let quota = |value| entry(&[("user", None)], "consumer_byte_rate", value);
    let limited = vec![quota(Some(1_000.0))];
    assert_eq!(alter(&mut client, 1, limited).await, [0]);
    let goes_on = |epoch| {
        FetchRequest::default()
            .with_max_bytes(1 << 20)
            .with_session_id(session_id)
            .with_session_epoch(epoch)
    };
    let mut other = server.connect().await;
    other.call(11, &fetch("t", 0, 0)).await;
    // A client over its quota begins no session, and keeps the one it has.
    let mut other = server.connect().await;
    let begun = other.call(11, &begin).await;
    assert_eq!((begun.session_id, begun.responses.len()), (0, 0));
    let withheld = client.call(11, &goes_on(1)).await;
    assert_eq!(withheld.session_id, session_id);
    assert_eq!((withheld.error_code, withheld.responses.len()), (0, 0));
    assert!(withheld.throttle_time_ms > 0);
    let mut other = server.connect().await;
    assert_eq!(alter(&mut other, 1, vec![quota(None)]).await, [0]);
    let told = other.call(11, &goes_on(2)).await;
    assert_eq!((told.error_code, told.session_id), (0, session_id));
    let told = &told.responses[0].partitions[0];
    assert!(
        told.records.as_ref().unwrap().len() > 100_000,
        "not told before"
    );
    server.stop().await;
}

#[tokio::test]
async fn a_fetch_reads_no_more_than_a_quota_gives_at_once() {
    let server = Server::start().await;
    let mut client = server.client_and_topic("t", 1).await;
    for _ in 0..10 {
        let batch = batch(&[&"v".repeat(10_000)], BatchProducer::default());
        client.call(9, &produce("t", 0, -1, batch)).await;
    }
    let quota = entry(&[("user", None)], "consumer_byte_rate", Some(3_000.0));
    assert_eq!(alter(&mut client, 1, vec![quota]).await, [0]);
    let response = client.call(12, &fetch("t", 0, 0)).await;
    let records = response.responses[0].partitions[0].records.as_ref();
    let bytes = records.unwrap().len();
    assert!((10_000..=30_000).contains(&bytes), "{bytes}");
    assert_eq!(response.throttle_time_ms, 0);
    server.stop().await;
}

#[tokio::test]
async fn what_is_taken_away_need_not_be_there() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let rate = entry(&[("user", Some("u"))], "producer_byte_rate", Some(5.0));
    assert_eq!(alter(&mut client, 1, vec![rate]).await, [0]);
    let none = |key| entry(&[("user", Some("u"))], key, None);
    for key in [
        "request_percentage",
        "connection_creation_rate",
        "consumer_byte_rate",
        "no_such_quota",
    ] {
        assert_eq!(alter(&mut client, 1, vec![none(key)]).await, [0], "{key}");
    }
    assert_eq!(
        told(&mut client, vec![]).await,
        ["user=u producer_byte_rate 5"]
    );
    server.stop().await;
}

#[tokio::test]
async fn effect_of_connection_creation_rate() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let quota = entry(
        &[("ip", Some("127.0.0.1"))],
        "connection_creation_rate",
        Some(1.0),
    );
    assert_eq!(alter(&mut client, 1, vec![quota]).await, [0]);
    let connect = async || {
        let mut client = server.connect().await;
        client.send(0, &ApiVersionsRequest::default()).await;
        client.receive_frame().await.is_some()
    };
    let begun = Instant::now();
    let served = join_all((0..60).map(|_| connect())).await;
    let served = served.into_iter().filter(|served| *served).count();
    let allowed = 10 + usize::try_from(begun.elapsed().as_secs()).unwrap() + 1;
    assert!(
        (10..=allowed).contains(&served),
        "{served} served, {allowed} allowed"
    );
    // Who was there before is served.
    client.call(0, &ApiVersionsRequest::default()).await;
    server.stop().await;
}

#[tokio::test]
async fn effect_of_controller_mutation_rate() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let rate = "controller_mutation_rate";
    let quota = entry(&[("client-id", Some("test"))], rate, Some(0.2));
    assert_eq!(alter(&mut client, 1, vec![quota]).await, [0]);
    let expected = ["client-id=test controller_mutation_rate 0.2"];
    assert_eq!(told(&mut client, vec![]).await, expected);
    let create = |topics: &[(&str, i32)]| {
        let topics = topics.iter().map(|(name, partitions)| {
            CreatableTopic::default()
                .with_name(topic_name(name))
                .with_num_partitions(*partitions)
                .with_replication_factor(1)
        });
        CreateTopicsRequest::default()
            .with_topics(topics.collect())
            .with_timeout_ms(20_000)
    };
    let codes = |response: &CreateTopicsResponse| -> Vec<i16> {
        response
            .topics
            .iter()
            .map(|topic| topic.error_code)
            .collect()
    };
    // Two partitions are free, and once one fits, so does what comes with it: 60 owe 290 seconds.
    let response = client
        .call(7, &create(&[("a", 1), ("b", 60), ("c", 1)]))
        .await;
    assert_eq!(codes(&response), [0, 0, 89]);
    let told_ms = response.throttle_time_ms;
    assert!((200_000..=300_000).contains(&told_ms), "{told_ms}");
    // The connection is muted; on others each of the three is refused, but for what cannot be.
    let mut other = server.connect().await;
    let response = other.call(6, &create(&[("c", 1), ("a", 1)])).await;
    assert_eq!(codes(&response), [89, 36]);
    assert!(response.throttle_time_ms > 100_000);
    let mut other = server.connect().await;
    let delete = DeleteTopicsRequest::default()
        .with_topic_names(vec![topic_name("a"), topic_name("none")])
        .with_timeout_ms(20_000);
    let response = other.call(5, &delete).await;
    let deleted: Vec<i16> = response
        .responses
        .iter()
        .map(|one| one.error_code)
        .collect();
    assert_eq!(deleted, [89, 3]);
    assert!(response.throttle_time_ms > 100_000);
    let mut other = server.connect().await;
    let more = CreatePartitionsTopic::default()
        .with_name(topic_name("a"))
        .with_count(2)
        .with_assignments(None);
    let more = CreatePartitionsRequest::default()
        .with_topics(vec![more])
        .with_timeout_ms(20_000);
    let response = other.call(3, &more).await;
    assert_eq!(response.results[0].error_code, 89);
    assert!(response.throttle_time_ms > 100_000);
    // Older clients know of no such refusal: theirs is done, and the wait is longer.
    let mut other = server.connect().await;
    let response = other.call(5, &create(&[("c", 1)])).await;
    assert_eq!(codes(&response), [0]);
    assert!(response.throttle_time_ms > 100_000);
    let mut other = server.connect().await;
    let response = other.call(2, &more).await;
    assert_eq!(response.results[0].error_code, 0);
    let mut other = server.connect().await;
    let response = other.call(4, &delete).await;
    let deleted: Vec<i16> = response
        .responses
        .iter()
        .map(|one| one.error_code)
        .collect();
    assert_eq!(deleted, [0, 3]);
    assert!(response.throttle_time_ms > 100_000);
    let topics = server.broker.catalogue();
    let names: Vec<&str> = topics.topics.keys().map(String::as_str).collect();
    assert_eq!(names, ["b", "c"]);
    server.stop().await;
}
