//! Creating, deleting, growing and configuring topics.

use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::DescribeConfigsResourceResult;
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::*;

use crate::harness::*;

fn topic(name: &str) -> CreatableTopic {
    CreatableTopic::default()
        .with_name(topic_name(name))
        .with_num_partitions(2)
        .with_replication_factor(1)
}

fn create(topics: Vec<CreatableTopic>) -> CreateTopicsRequest {
    CreateTopicsRequest::default()
        .with_topics(topics)
        .with_timeout_ms(20_000)
}

fn config(key: &str, value: &str) -> CreatableTopicConfig {
    CreatableTopicConfig::default()
        .with_name(text(key))
        .with_value(Some(text(value)))
}

#[tokio::test]
async fn every_version_creates_and_tells_what_it_can() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    for version in 2..=7 {
        let name = format!("t{version}");
        let wanted = topic(&name).with_configs(vec![config("retention.ms", "1000")]);
        let response = client.call(version, &create(vec![wanted])).await;
        let told = &response.topics[0];
        assert_eq!(
            (told.error_code, told.error_message.clone()),
            (0, None),
            "version {version}"
        );
        assert_eq!(told.topic_id.is_nil(), version < 7);
        if version >= 5 {
            assert_eq!((told.num_partitions, told.replication_factor), (2, 1));
            let configs = told.configs.as_ref().unwrap();
            let retention = configs
                .iter()
                .find(|c| c.name.as_str() == "retention.ms")
                .unwrap();
            assert_eq!(retention.value.as_ref().unwrap().as_str(), "1000");
            assert_eq!(retention.config_source, 1);
            assert!(configs.iter().any(|c| c.config_source == 5));
        }
        let by_default = topic(&format!("d{version}"))
            .with_num_partitions(-1)
            .with_replication_factor(-1);
        let response = client.call(version, &create(vec![by_default])).await;
        assert_eq!(
            response.topics[0].error_code, 0,
            "kafkajs asks so in version {version}"
        );
        let again = client.call(version, &create(vec![topic(&name)])).await;
        assert_eq!(again.topics[0].error_code, 36);
        assert!(again.topics[0].error_message.is_some());
    }
    server.stop().await;
}

#[tokio::test]
async fn a_validated_topic_is_described_and_not_created() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let wanted = topic("t").with_configs(vec![config("segment.bytes", "4096")]);
    let response = client
        .call(7, &create(vec![wanted]).with_validate_only(true))
        .await;
    let told = &response.topics[0];
    assert_eq!((told.error_code, told.num_partitions), (0, 2));
    let configs = told.configs.as_ref().unwrap();
    let segment = configs
        .iter()
        .find(|c| c.name.as_str() == "segment.bytes")
        .unwrap();
    assert_eq!(segment.value.as_ref().unwrap().as_str(), "4096");
    assert!(server.broker.catalogue().topics.is_empty());
    server.stop().await;
}

#[tokio::test]
async fn what_cannot_be_created_is_refused_one_by_one() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let assigned = |brokers: &[(i32, i32)]| {
        let given = brokers.iter().map(|(partition, broker)| {
            CreatableReplicaAssignment::default()
                .with_partition_index(*partition)
                .with_broker_ids(vec![BrokerId(*broker)])
        });
        given.collect::<Vec<_>>()
    };
    let by_hand = topic("hand")
        .with_num_partitions(-1)
        .with_replication_factor(-1);
    let wanted = vec![
        topic("good"),
        topic("twice"),
        topic("not valid"),
        topic("none").with_num_partitions(0),
        topic("many").with_replication_factor(3),
        topic("config").with_configs(vec![config("no.such.key", "1")]),
        topic("value").with_configs(vec![config("retention.ms", "soon")]),
        by_hand
            .clone()
            .with_name(topic_name("here"))
            .with_assignments(assigned(&[(1, 1), (0, 1)])),
        by_hand
            .clone()
            .with_name(topic_name("there"))
            .with_assignments(assigned(&[(0, 9)])),
        by_hand
            .with_name(topic_name("hole"))
            .with_assignments(assigned(&[(1, 1)])),
        topic("both").with_assignments(assigned(&[(0, 1)])),
        topic("twice"),
    ];
    let response = client.call(7, &create(wanted)).await;
    let told: Vec<(String, i16)> = response
        .topics
        .iter()
        .map(|t| (t.name.to_string(), t.error_code))
        .collect();
    let expected = [
        ("good", 0),
        ("twice", 42),
        ("not valid", 17),
        ("none", 37),
        ("many", 38),
        ("config", 40),
        ("value", 40),
        ("here", 0),
        ("there", 39),
        ("hole", 39),
        ("both", 42),
    ];
    assert_eq!(told, expected.map(|(name, code)| (name.to_owned(), code)));
    assert_eq!(server.broker.catalogue().topics["here"].partitions.len(), 2);
    server.stop().await;
}

#[tokio::test]
async fn topics_are_deleted_by_name_and_by_id() {
    let server = Server::start().await;
    let mut client = server.client_and_topic("a", 1).await;
    for version in 1..=5 {
        server.client_and_topic("b", 1).await;
        let names = vec![topic_name("b"), topic_name("unknown")];
        let request = DeleteTopicsRequest::default()
            .with_topic_names(names)
            .with_timeout_ms(20_000);
        let response = client.call(version, &request).await;
        let codes: Vec<i16> = response.responses.iter().map(|r| r.error_code).collect();
        assert_eq!(codes, [0, 3], "version {version}");
    }
    server.client_and_topic("b", 1).await;
    let id = server.broker.catalogue().topics["a"].id.0;
    let by_id =
        |id: [u8; 16]| DeleteTopicState::default().with_topic_id(id.to_vec().try_into().unwrap());
    let by_name = DeleteTopicState::default().with_name(Some(topic_name("b")));
    let request = DeleteTopicsRequest::default()
        .with_timeout_ms(20_000)
        .with_topics(vec![
            by_id(id),
            by_name,
            by_id([5; 16]),
            DeleteTopicState::default(),
        ]);
    let response = client.call(6, &request).await;
    let told: Vec<_> = response
        .responses
        .iter()
        .map(|r| (r.name.as_ref().map(|name| name.to_string()), r.error_code))
        .collect();
    let named = |name: &str| Some(name.to_owned());
    assert_eq!(
        told,
        [(named("a"), 0), (named("b"), 0), (None, 100), (None, 42)]
    );
    assert!(server.broker.catalogue().topics.is_empty());
    server.stop().await;
}

#[tokio::test]
async fn partitions_are_added() {
    let server = Server::start().await;
    let mut client = server.client_and_topic("t", 1).await;
    let grow = |name: &str, count| {
        CreatePartitionsTopic::default()
            .with_name(topic_name(name))
            .with_count(count)
            .with_assignments(None)
    };
    let request = |topics| {
        CreatePartitionsRequest::default()
            .with_topics(topics)
            .with_timeout_ms(20_000)
    };
    let validated = client
        .call(0, &request(vec![grow("t", 9)]).with_validate_only(true))
        .await;
    assert_eq!(validated.results[0].error_code, 0);
    for (version, count) in (0..=3).zip(2..) {
        let response = client.call(version, &request(vec![grow("t", count)])).await;
        assert_eq!(response.results[0].error_code, 0, "version {version}");
        let partitions = server.broker.catalogue().topics["t"].partitions.len();
        assert_eq!(i32::try_from(partitions).unwrap(), count);
    }
    let refused = vec![grow("t", 2), grow("u", 2), grow("v", 1), grow("v", 1)];
    let response = client.call(3, &request(refused)).await;
    let codes: Vec<i16> = response.results.iter().map(|r| r.error_code).collect();
    assert_eq!(codes, [37, 3, 42]);
    server.stop().await;
}

fn resource(kind: i8, name: &str) -> DescribeConfigsResource {
    DescribeConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configuration_keys(None)
}

async fn described(
    client: &mut Client,
    version: i16,
    resource: DescribeConfigsResource,
) -> (i16, Vec<DescribeConfigsResourceResult>) {
    let request = DescribeConfigsRequest::default()
        .with_resources(vec![resource])
        .with_include_synonyms(true);
    let mut response = client.call(version, &request).await;
    let result = response.results.remove(0);
    (result.error_code, result.configs)
}

#[tokio::test]
async fn every_config_of_a_topic_and_of_the_broker_is_told() {
    let server = Server::start().await;
    let mut client = server.client_and_topic("t", 1).await;
    for version in 1..=4 {
        let (code, configs) = described(&mut client, version, resource(2, "t")).await;
        assert_eq!(code, 0);
        for key in [
            "cleanup.policy",
            "retention.ms",
            "max.message.bytes",
            "min.insync.replicas",
        ] {
            let config = configs
                .iter()
                .find(|config| config.name.as_str() == key)
                .unwrap();
            assert_eq!(config.config_source, 5, "{key}");
            assert_eq!(config.synonyms.len(), 1);
            assert_eq!(config.config_type != 0, version >= 3);
        }
        let (code, configs) = described(&mut client, version, resource(4, "1")).await;
        assert_eq!(code, 0);
        assert!(
            configs
                .iter()
                .any(|c| c.name.as_str() == "auto.create.topics.enable")
        );
        let settable = configs.iter().filter(|c| !c.read_only).map(|c| &*c.name);
        assert_eq!(
            settable.filter(|key| key.starts_with("log.roll")).count(),
            1
        );
        let one = resource(2, "t").with_configuration_keys(Some(vec![text("retention.ms")]));
        assert_eq!(described(&mut client, version, one).await.1.len(), 1);
    }
    assert_eq!(described(&mut client, 4, resource(2, "u")).await.0, 3);
    assert_eq!(described(&mut client, 4, resource(4, "2")).await.0, 42);
    assert_eq!(described(&mut client, 4, resource(99, "x")).await.0, 42);
    assert_eq!(described(&mut client, 4, resource(4, "")).await.0, 0);
    server.stop().await;
}

#[tokio::test]
async fn configs_of_a_topic_are_altered_all_or_none() {
    let server = Server::start().await;
    let mut client = server.client_and_topic("t", 1).await;
    let set = |key: &str, value: &str| {
        AlterableConfig::default()
            .with_name(text(key))
            .with_config_operation(0)
            .with_value(Some(text(value)))
    };
    let alter = |kind, name: &str, configs| {
        IncrementalAlterConfigsRequest::default().with_resources(vec![
            AlterConfigsResource::default()
                .with_resource_type(kind)
                .with_resource_name(text(name))
                .with_configs(configs),
        ])
    };
    let retention = async |client: &mut Client| {
        let one = resource(2, "t").with_configuration_keys(Some(vec![text("retention.ms")]));
        let (_, configs) = described(client, 4, one).await;
        (
            configs[0].value.as_ref().unwrap().to_string(),
            configs[0].config_source,
        )
    };
    let code = async |client: &mut Client, version, request: IncrementalAlterConfigsRequest| {
        client.call(version, &request).await.responses[0].error_code
    };
    let default = retention(&mut client).await;
    let both = vec![set("retention.ms", "5"), set("no.such.key", "1")];
    assert_eq!(code(&mut client, 0, alter(2, "t", both)).await, 40);
    assert_eq!(retention(&mut client).await, default);
    let one = alter(2, "t", vec![set("retention.ms", "5")]);
    assert_eq!(
        code(&mut client, 1, one.clone().with_validate_only(true)).await,
        0
    );
    assert_eq!(retention(&mut client).await, default);
    assert_eq!(code(&mut client, 1, one).await, 0);
    assert_eq!(retention(&mut client).await, ("5".to_owned(), 1));
    let delete = AlterableConfig::default()
        .with_name(text("retention.ms"))
        .with_config_operation(1)
        .with_value(None);
    assert_eq!(code(&mut client, 1, alter(2, "t", vec![delete])).await, 0);
    assert_eq!(retention(&mut client).await, default);
    assert_eq!(
        code(
            &mut client,
            1,
            alter(2, "u", vec![set("retention.ms", "5")])
        )
        .await,
        3
    );
    assert_eq!(
        code(
            &mut client,
            1,
            alter(4, "1", vec![set("num.partitions", "5")])
        )
        .await,
        40
    );
    server.stop().await;
}
