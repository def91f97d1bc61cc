//! Fetch sessions (KIP-227), as consumers see them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use broker::BrokerConfig;
use kafka::KafkaServerConfig;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::*;

use crate::fetch::offsets;
use crate::harness::*;

async fn put(client: &mut Client, topic: &str, partition: i32, values: &[&str]) {
    let records = batch(values, Default::default());
    let response = client
        .call(9, &produce(topic, partition, -1, records))
        .await;
    assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
}

/// A consumer with a session: what it names, and who it says it is.
#[derive(Clone, Copy)]
struct Consumer {
    version: i16,
    topic: &'static str,
    topic_id: [u8; 16],
    session: (i32, i32), // id and epoch of the next fetch
}

impl Consumer {
    fn new(server: &Server, version: i16, topic: &'static str) -> Consumer {
        Consumer {
            version,
            topic,
            topic_id: server.broker.catalogue().topics[topic].id.0,
            session: (0, 0),
        }
    }

    /// A fetch that names these partitions and their offsets, and does not wait.
    fn request(&self, partitions: &[(i32, i64)]) -> FetchRequest {
        let (id, epoch) = self.session;
        let wanted = partitions.iter().map(|(index, offset)| {
            FetchPartition::default()
                .with_partition(*index)
                .with_current_leader_epoch(-1)
                .with_fetch_offset(*offset)
                .with_partition_max_bytes(1 << 20)
        });
        let topic = FetchTopic::default().with_partitions(wanted.collect());
        let topic = match self.version {
            13.. => topic.with_topic_id(self.topic_id.to_vec().try_into().unwrap()),
            _ => topic.with_topic(topic_name(self.topic)),
        };
        let topics = match partitions {
            [] => vec![],
            _ => vec![topic],
        };
        FetchRequest::default()
            .with_min_bytes(1)
            .with_max_bytes(1 << 20)
            .with_session_id(id)
            .with_session_epoch(epoch)
            .with_topics(topics)
    }

    /// The same, which forgets these partitions.
    fn forgetting(&self, partitions: &[i32]) -> FetchRequest {
        let topic = ForgottenTopic::default().with_partitions(partitions.to_vec());
        let topic = match self.version {
            13.. => topic.with_topic_id(self.topic_id.to_vec().try_into().unwrap()),
            _ => topic.with_topic(topic_name(self.topic)),
        };
        self.request(&[]).with_forgotten_topics_data(vec![topic])
    }

    /// Fetches; what was told, by partition.
    async fn fetch(
        &mut self,
        client: &mut Client,
        request: &FetchRequest,
    ) -> BTreeMap<i32, PartitionData> {
        let response = client.call(self.version, request).await;
        self.take(response)
    }

    fn take(&mut self, response: FetchResponse) -> BTreeMap<i32, PartitionData> {
        assert_eq!(response.error_code, 0);
        let (id, epoch) = self.session;
        if epoch > 0 {
            assert_eq!(response.session_id, id);
        } else {
            assert!(response.session_id > 0, "a session begins");
        }
        self.session = (response.session_id, epoch + 1);
        let count = response.responses.len();
        assert!(count <= 1, "a topic is named once");
        let partitions = response.responses.into_iter().flat_map(|t| t.partitions);
        partitions
            .map(|told| (told.partition_index, told))
            .collect()
    }

    /// The error of a fetch that continues this session.
    async fn refused(&self, client: &mut Client, session: (i32, i32)) -> i16 {
        let other = Consumer { session, ..*self };
        let response = client.call(self.version, &other.request(&[(0, 0)])).await;
        if response.error_code != 0 {
            assert_eq!((response.session_id, response.responses.len()), (0, 0));
        }
        response.error_code
    }
}

/// Waits for a condition.
async fn until(is_so: impl Fn() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(DEADLINE, wait).await.expect("in time");
}

fn keys(told: &BTreeMap<i32, PartitionData>) -> Vec<i32> {
    told.keys().copied().collect()
}

#[tokio::test]
async fn every_version_tells_only_what_is_new() {
    let server = Server::start().await;
    let mut client = server.client_and_topic("t", 3).await;
    let mut end = 0;
    for version in 7..=17 {
        let mut consumer = Consumer::new(&server, version, "t");
        let all = consumer.request(&[(0, 0), (1, end), (2, 0)]);
        let told = consumer.fetch(&mut client, &all).await;
        assert_eq!(keys(&told), [0, 1, 2], "version {version}");
        let same = consumer.request(&[]);
        assert!(consumer.fetch(&mut client, &same).await.is_empty());
        put(&mut client, "t", 1, &["a", "b"]).await;
        let next = consumer.request(&[]);
        let told = consumer.fetch(&mut client, &next).await;
        assert_eq!(keys(&told), [1], "version {version}");
        assert_eq!(offsets(&told[&1]), [end, end + 1]);
        end += 2;
        assert_eq!((told[&1].high_watermark, told[&1].error_code), (end, 0));
        let next = consumer.request(&[(1, end)]);
        assert!(consumer.fetch(&mut client, &next).await.is_empty());
        // Whoever asks for an offset again gets the records again.
        let again = consumer.request(&[(1, end - 1)]);
        let told = consumer.fetch(&mut client, &again).await;
        assert_eq!(offsets(&told[&1]), [end - 2, end - 1]);
    }
    server.stop().await;
}

#[tokio::test]
async fn versions_before_7_and_epoch_minus_1_have_none() {
    let server = Server::start().await;
    let mut client = server.client_and_topic("t", 1).await;
    for version in 4..=6 {
        assert_eq!(client.call(version, &fetch("t", 0, 0)).await.session_id, 0);
    }
    let request = fetch("t", 0, 0).with_session_epoch(-1);
    let response = client.call(12, &request).await;
    assert_eq!((response.session_id, response.responses.len()), (0, 1));
    assert_eq!(server.handle.fetch_sessions(), (0, 0));
    server.stop().await;
}

#[tokio::test]
async fn records_end_the_wait_of_a_session() {
    let server = Server::start().await;
    let mut client = server.client_and_topic("t", 2).await;
    let mut consumer = Consumer::new(&server, 13, "t");
    let all = consumer.request(&[(0, 0), (1, 0)]);
    consumer.fetch(&mut client, &all).await;
    let wait = consumer.request(&[]).with_max_wait_ms(60_000);
    client.send(13, &wait).await;
    put(&mut server.connect().await, "t", 1, &["a"]).await;
    let told = consumer.take(client.receive::<FetchRequest>(13).await);
    assert_eq!(keys(&told), [1]);
    assert_eq!(offsets(&told[&1]), [0]);
    server.stop().await;
}

#[tokio::test]
async fn sessions_that_are_named_wrongly_are_refused_and_go_on() {
    let server = Server::start().await;
    let mut client = server.client_and_topic("t", 1).await;
    let mut consumer = Consumer::new(&server, 12, "t");
    let all = consumer.request(&[(0, 0)]);
    consumer.fetch(&mut client, &all).await;
    let (id, _) = consumer.session;
    let by_id = Consumer::new(&server, 13, "t");
    for unknown in [0, -id, id ^ 1] {
        assert_eq!(consumer.refused(&mut client, (unknown, 1)).await, 70);
    }
    for wrong in [2, -2, i32::MAX] {
        assert_eq!(consumer.refused(&mut client, (id, wrong)).await, 71);
    }
    assert_eq!(by_id.refused(&mut client, (id, 1)).await, 106);
    let next = consumer.request(&[]);
    assert!(consumer.fetch(&mut client, &next).await.is_empty());
    assert_eq!(
        consumer.refused(&mut client, (id, 1)).await,
        71,
        "no epoch twice"
    );
    // The other way round.
    let mut by_id = by_id;
    let all = by_id.request(&[(0, 0)]);
    by_id.fetch(&mut client, &all).await;
    let (id, _) = by_id.session;
    assert_eq!(consumer.refused(&mut client, (id, 1)).await, 106);
    // Nobody who says it is a replica has one.
    let from_replica = by_id.request(&[]).with_replica_id(BrokerId(2));
    let response = client.call(13, &from_replica).await;
    assert_eq!((response.error_code, response.session_id), (70, 0));
    server.stop().await;
}

#[tokio::test]
async fn any_connection_goes_on_with_a_session_and_full_fetches_end_it() {
    let server = Server::start().await;
    let mut client = server.client_and_topic("t", 1).await;
    for epoch in [0, -1] {
        let mut consumer = Consumer::new(&server, 17, "t");
        let all = consumer.request(&[(0, 0)]);
        consumer.fetch(&mut client, &all).await;
        let mut other = server.connect().await;
        let next = consumer.request(&[]);
        assert!(consumer.fetch(&mut other, &next).await.is_empty());
        let before = consumer.session;
        consumer.session = (before.0, epoch);
        let response = client.call(17, &consumer.request(&[(0, 0)])).await;
        assert_eq!(response.error_code, 0);
        assert_ne!(response.session_id, before.0);
        assert_eq!(response.session_id == 0, epoch == -1);
        assert_eq!(response.responses.len(), 1, "it tells all");
        assert_eq!(consumer.refused(&mut client, before).await, 70);
    }
    assert_eq!(server.handle.fetch_sessions().0, 1);
    server.stop().await;
}

#[tokio::test]
async fn forgotten_partitions_are_not_told_and_without_any_the_session_ends() {
    let server = Server::start().await;
    let mut client = server.client_and_topic("t", 2).await;
    for version in [7, 12, 13, 17] {
        let mut consumer = Consumer::new(&server, version, "t");
        let all = consumer.request(&[(0, 0), (1, 0)]);
        consumer.fetch(&mut client, &all).await;
        let forget = consumer.forgetting(&[1, 5]);
        consumer.fetch(&mut client, &forget).await;
        put(&mut client, "t", 0, &["a"]).await;
        put(&mut client, "t", 1, &["b"]).await;
        let next = consumer.request(&[]);
        let told = consumer.fetch(&mut client, &next).await;
        assert_eq!(keys(&told), [0], "version {version}");
        // Wanted again, it is told even without records.
        let again = consumer.request(&[(1, told[&0].high_watermark), (0, 0)]);
        let told = consumer.fetch(&mut client, &again).await;
        assert_eq!(keys(&told), [0, 1]);
        let end = consumer.session;
        let response = client.call(version, &consumer.forgetting(&[0, 1])).await;
        assert_eq!((response.error_code, response.session_id), (0, 0));
        assert!(response.responses.is_empty());
        let ended = consumer.refused(&mut client, (end.0, end.1 + 1)).await;
        assert_eq!(ended, 70, "version {version}");
    }
    assert_eq!(server.handle.fetch_sessions(), (0, 0));
    server.stop().await;
}

#[tokio::test]
async fn a_topic_that_is_deleted_and_made_anew_is_told_by_id_or_by_name() {
    let server = Server::start().await;
    let mut client = server.client_and_topic("t", 1).await;
    let delete = DeleteTopicsRequest::default()
        .with_topic_names(vec![topic_name("t")])
        .with_timeout_ms(20_000);
    for (version, error) in [(12, 3), (13, 100)] {
        let mut consumer = Consumer::new(&server, version, "t");
        put(&mut client, "t", 0, &["a"]).await;
        let all = consumer.request(&[(0, 0)]);
        consumer.fetch(&mut client, &all).await;
        assert_eq!(client.call(5, &delete).await.responses[0].error_code, 0);
        for _ in 0..2 {
            let next = consumer.request(&[]);
            let told = consumer.fetch(&mut client, &next).await;
            assert_eq!(told[&0].error_code, error, "version {version}");
        }
        client = server.client_and_topic("t", 1).await;
        let next = consumer.request(&[]);
        let told = consumer.fetch(&mut client, &next).await;
        // By name it is another topic, which is empty; the old id is never another topic's.
        let expected = if version >= 13 { error } else { 0 };
        assert_eq!(told[&0].error_code, expected);
        assert_eq!(told[&0].records.as_ref().unwrap().len(), 0);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_session_ends_with_the_connection_that_waits_for_its_answer() {
    let server = Server::start().await;
    let mut client = server.client_and_topic("t", 1).await;
    let mut consumer = Consumer::new(&server, 13, "t");
    let all = consumer.request(&[(0, 0)]);
    consumer.fetch(&mut client, &all).await;
    let mut waiting = server.connect().await;
    let wait = consumer.request(&[]).with_max_wait_ms(60_000);
    waiting.send(13, &wait).await;
    // What is sent after it is done while it waits: then the fetch has the session.
    let topic = CreatableTopic::default()
        .with_name(topic_name("after"))
        .with_num_partitions(1)
        .with_replication_factor(1);
    let create = CreateTopicsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(20_000);
    waiting.send(7, &create).await;
    until(|| server.broker.catalogue().topics.contains_key("after")).await;
    assert_eq!(server.handle.fetch_sessions().0, 1);
    drop(waiting);
    until(|| server.handle.fetch_sessions() == (0, 0)).await;
    server.stop().await;
}

#[tokio::test]
async fn fetches_that_are_sent_ahead_find_their_session() {
    let server = Server::start().await;
    let mut client = server.client_and_topic("t", 1).await;
    put(&mut client, "t", 0, &["a"]).await;
    let mut consumer = Consumer::new(&server, 13, "t");
    let all = consumer.request(&[(0, 0)]);
    consumer.fetch(&mut client, &all).await;
    let (id, _) = consumer.session;
    for epoch in 1..=5 {
        let ahead = Consumer {
            session: (id, epoch),
            ..consumer
        };
        client.send(13, &ahead.request(&[])).await;
    }
    for _ in 1..=5 {
        let told = consumer.take(client.receive::<FetchRequest>(13).await);
        assert_eq!(offsets(&told[&0]), [0]);
    }
    server.stop().await;
}

#[tokio::test]
async fn partitions_take_turns_when_an_answer_has_room_for_one() {
    let server = Server::start().await;
    let mut client = server.client_and_topic("t", 3).await;
    for partition in 0..3 {
        put(&mut client, "t", partition, &["a"]).await;
        put(&mut client, "t", partition, &["b"]).await;
    }
    let mut consumer = Consumer::new(&server, 13, "t");
    let mut asks = vec![(0, 0), (1, 0), (2, 0)];
    let mut served = Vec::new();
    for _ in 0..6 {
        let request = consumer.request(&asks).with_max_bytes(1);
        let told = consumer.fetch(&mut client, &request).await;
        let with_records: Vec<(i32, i64)> = told
            .values()
            .filter_map(|told| Some((told.partition_index, *offsets(told).first()?)))
            .collect();
        let [(partition, offset)] = with_records[..] else {
            panic!("one partition has room: {with_records:?}")
        };
        served.push((partition, offset));
        asks = vec![(partition, offset + 1)];
    }
    // The first answer is a full fetch's, after which the client's order stands.
    assert_eq!(served[..2], [(0, 0), (0, 1)]);
    let mut last: Vec<(i32, i64)> = served[2..].to_vec();
    assert_eq!(
        last.iter()
            .map(|(partition, _)| *partition)
            .collect::<Vec<_>>(),
        [1, 2, 1, 2]
    );
    last.sort_unstable();
    assert_eq!(last, [(1, 0), (1, 1), (2, 0), (2, 1)]);
    server.stop().await;
}

#[tokio::test]
async fn sessions_are_bounded_and_who_has_none_is_served() {
    let limits = [
        (0, 1 << 20, 0), // slots, bytes, and how many sessions there will be
        (2, 1 << 20, 2),
        (1_000, 2_000, 1), // two partitions of some 800 bytes
        (1_000, 100, 0),
    ];
    for (fetch_sessions_max, fetch_session_bytes_max, expected) in limits {
        let config = KafkaServerConfig {
            fetch_sessions_max,
            fetch_session_bytes_max,
            ..KafkaServerConfig::default()
        };
        let server = Server::start_with(BrokerConfig::default(), config).await;
        let mut client = server.client_and_topic("t", 3).await;
        let consumer = Consumer::new(&server, 13, "t");
        let mut ids = Vec::new();
        for _ in 0..4 {
            let response = client.call(13, &consumer.request(&[(0, 0), (1, 0)])).await;
            assert_eq!(response.error_code, 0);
            assert_eq!(response.responses[0].partitions.len(), 2, "all are told");
            ids.push(response.session_id);
        }
        let begun: Vec<i32> = ids.into_iter().filter(|id| *id > 0).collect();
        assert_eq!(begun.len(), expected);
        assert_eq!(server.handle.fetch_sessions().0, expected);
        assert!(server.handle.fetch_sessions().1 <= fetch_session_bytes_max);
        if let (Some(id), 2_000) = (begun.first(), fetch_session_bytes_max) {
            // A partition more than there is room for ends it.
            let grown = Consumer {
                session: (*id, 1),
                ..consumer
            };
            let response = client.call(13, &grown.request(&[(2, 0)])).await;
            assert_eq!((response.error_code, response.session_id), (70, 0));
            assert_eq!(server.handle.fetch_sessions(), (0, 0));
        }
        server.stop().await;
    }
}

/// What a client knows of a partition, without its records.
fn known(told: &PartitionData) -> (i16, i64, i64, i64) {
    (
        told.error_code,
        told.high_watermark,
        told.last_stable_offset,
        told.log_start_offset,
    )
}

/// Small random numbers from a seed (a linear congruence).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = self.0.wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

#[tokio::test]
async fn a_session_tells_what_full_fetches_tell() {
    const PARTITIONS: i32 = 4;
    let server = Server::start().await;
    let mut client = server.client_and_topic("t", PARTITIONS).await;
    let mut ends = [0; 4];
    for (version, seed) in [(12, 1), (13, 2), (17, 3)] {
        let mut random = Random(seed);
        let mut starts = BTreeSet::new();
        let mut left_out = 0;
        let mut consumer = Consumer::new(&server, version, "t");
        // Offsets that are wanted; partition 4 does not exist.
        let mut wants: BTreeMap<i32, i64> = (0..=PARTITIONS).map(|index| (index, 0)).collect();
        let mut said = BTreeMap::new();
        let mut knows = BTreeMap::new();
        for step in 0..60 {
            let name = format!("version {version}, step {step}");
            let place = usize::try_from(random.below(4)).unwrap();
            let index = i32::try_from(place).unwrap();
            match random.below(5) {
                0 | 1 => {
                    put(&mut client, "t", index, &["a", "b"]).await;
                    ends[place] += 2;
                }
                2 => {
                    let back = i64::try_from(random.below(5)).unwrap();
                    wants.insert(index, ends[place] - back);
                }
                3 => {
                    let to = wants[&index];
                    delete_records(&mut client, index, to).await;
                }
                _ => {}
            }
            let full = Consumer {
                session: (0, -1),
                ..consumer
            };
            let all: Vec<(i32, i64)> = wants.iter().map(|(index, at)| (*index, *at)).collect();
            let response = client.call(version, &full.request(&all)).await;
            let expected = response.responses.into_iter().flat_map(|t| t.partitions);
            let new: Vec<(i32, i64)> = all
                .iter()
                .filter(|(index, at)| said.get(index) != Some(at))
                .copied()
                .collect();
            let request = consumer.request(&new);
            let mut told = consumer.fetch(&mut client, &request).await;
            said.clone_from(&wants);
            for expected in expected {
                let index = expected.partition_index;
                let records = match told.remove(&index) {
                    Some(told) => {
                        knows.insert(index, known(&told));
                        told.records.unwrap()
                    }
                    None => {
                        left_out += 1;
                        Default::default()
                    }
                };
                assert_eq!(knows[&index], known(&expected), "{name}");
                assert_eq!(records, expected.records.clone().unwrap(), "{name}");
                if let Some(last) = offsets(&expected).last() {
                    wants.insert(index, last + 1);
                } else if expected.error_code == 1 {
                    wants.insert(index, ends[usize::try_from(index).unwrap()]);
                }
                starts.insert(expected.log_start_offset);
            }
            assert!(told.is_empty(), "{name}: {told:?}");
        }
        // Partitions were quiet, and logs were cut.
        assert!(left_out > 60, "{left_out}");
        assert!(starts.len() > 3, "{starts:?}");
    }
    server.stop().await;
}

async fn delete_records(client: &mut Client, index: i32, to: i64) {
    let partition = DeleteRecordsPartition::default()
        .with_partition_index(index)
        .with_offset(to);
    let topic = DeleteRecordsTopic::default()
        .with_name(topic_name("t"))
        .with_partitions(vec![partition]);
    let request = DeleteRecordsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(20_000);
    let response = client.call(2, &request).await;
    let code = response.topics[0].partitions[0].error_code;
    assert!([0, 1].contains(&code), "{code}: done, or beyond the end");
}
