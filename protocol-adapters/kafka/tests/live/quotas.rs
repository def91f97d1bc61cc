//! Client quotas: set, told, taken away, and what they do to who exceeds them.

use std::time::Duration;

use broker::record::BatchProducer;
use futures_util::future::join_all;
use kafka_protocol::messages::alter_client_quotas_request::{EntityData, EntryData, OpData};
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
    let mut last_ms = 0;
    for version in [4, 11, 12] {
        let mut client = server.connect().await;
        let response = client.call(version, &fetch("t", 0, 0)).await;
        let records = response.responses[0].partitions[0]
            .records
            .as_ref()
            .unwrap();
        assert!(
            records.len() > 100_000,
            "the records come whole, and the wait after them"
        );
        let told_ms = response.throttle_time_ms;
        // 100 seconds' worth each, of which the first has ten for nothing.
        assert!(
            told_ms > last_ms + 40_000,
            "version {version}: {last_ms}, then {told_ms}"
        );
        assert!(
            told_ms < last_ms + 101_000,
            "version {version}: {last_ms}, then {told_ms}"
        );
        last_ms = told_ms;
    }
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
