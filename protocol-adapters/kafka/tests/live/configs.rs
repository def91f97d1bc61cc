//! AlterConfigs, ListConfigResources, UpdateFeatures, and what DescribeConfigs tells of a broker.

use std::collections::BTreeMap;

use kafka_protocol::messages::alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::update_features_request::FeatureUpdateKey;
use kafka_protocol::messages::*;

use crate::harness::*;

fn alter(kind: i8, name: &str, configs: &[(&str, Option<&str>)]) -> AlterConfigsRequest {
    let configs = configs.iter().map(|(key, value)| {
        AlterableConfig::default()
            .with_name(text(key))
            .with_value(value.map(text))
    });
    AlterConfigsRequest::default().with_resources(vec![
        AlterConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(text(name))
            .with_configs(configs.collect()),
    ])
}

async fn overrides(client: &mut Client) -> BTreeMap<String, String> {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(text("t"))
        .with_configuration_keys(None);
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
    let response = client.call(4, &request).await;
    let configs = response.results[0].configs.iter();
    let set = configs.filter(|config| config.config_source == 1);
    set.map(|config| {
        (
            config.name.to_string(),
            config.value.as_ref().unwrap().to_string(),
        )
    })
    .collect()
}

#[tokio::test]
async fn the_older_way_to_alter_takes_away_what_it_does_not_name() {
    let server = Server::start().await;
    let mut client = server.client_and_topic("t", 1).await;
    let retention = [("retention.ms", Some("77"))];
    let segment = [("segment.bytes", Some("4096"))];
    for version in 0..=2 {
        for configs in [&retention, &segment] {
            let response = client.call(version, &alter(2, "t", configs)).await;
            assert_eq!(response.responses[0].error_code, 0);
        }
        let expected = BTreeMap::from([("segment.bytes".to_owned(), "4096".to_owned())]);
        assert_eq!(overrides(&mut client).await, expected);
        let validated = alter(2, "t", &retention).with_validate_only(true);
        assert_eq!(
            client.call(version, &validated).await.responses[0].error_code,
            0
        );
        assert_eq!(overrides(&mut client).await, expected);
        client.call(version, &alter(2, "t", &[])).await;
        assert_eq!(overrides(&mut client).await, BTreeMap::new());
    }
    for (request, code) in [
        (alter(2, "u", &retention), 3),
        (alter(2, "t", &[("retention.ms", None)]), 42),
        (alter(2, "t", &[("retention.ms", Some("soon"))]), 40),
        (alter(2, "t", &[("cleanup.policy", Some("nothing"))]), 40),
        (alter(2, "t", &[("no.such.key", Some("1"))]), 40),
        (alter(2, "t", &[retention[0], retention[0]]), 42),
        (alter(4, "1", &[("num.partitions", Some("3"))]), 40),
        (alter(4, "", &[("num.io.threads", Some("3"))]), 40),
        (alter(4, "1", &[("log.retention.ms", Some("3"))]), 40),
        (alter(4, "", &[("log.retention.ms", Some("soon"))]), 40),
        (alter(4, "", &[("log.retention.hours", Some("3"))]), 40),
        (alter(4, "", &[("retention.ms", Some("3"))]), 40),
        (alter(4, "77", &[]), 42),
        (alter(4, "1", &[]), 0),
        (alter(8, "1", &[]), 42),
    ] {
        let response = client.call(2, &request).await;
        let told = &response.responses[0];
        assert_eq!(told.error_code, code, "{request:?}");
        assert_eq!(told.error_message.is_some(), code != 0);
    }
    let mut twice = alter(2, "t", &retention);
    twice.resources.extend(alter(2, "t", &segment).resources);
    let response = client.call(2, &twice).await;
    assert_eq!(
        (response.responses.len(), response.responses[0].error_code),
        (1, 42)
    );
    assert_eq!(overrides(&mut client).await, BTreeMap::new());
    server.stop().await;
}

#[tokio::test]
async fn a_broker_tells_its_configs_with_types_defaults_and_meanings() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let resource = DescribeConfigsResource::default()
        .with_resource_type(4)
        .with_resource_name(text("1"))
        .with_configuration_keys(None);
    let request = DescribeConfigsRequest::default()
        .with_resources(vec![resource])
        .with_include_synonyms(true)
        .with_include_documentation(true);
    let response = client.call(4, &request).await;
    let configs = &response.results[0].configs;
    assert!(configs.len() > 300, "{}", configs.len());
    assert!(configs.is_sorted_by_key(|config| config.name.to_string()));
    for config in configs {
        assert!(config.config_type > 0, "{config:?}");
        let is_of_topics = broker::topic_config_definitions()
            .iter()
            .any(|known| known.settable && known.broker_key == Some(config.name.as_str()));
        assert_eq!(config.read_only, !is_of_topics, "{config:?}");
        assert!(
            config
                .documentation
                .as_ref()
                .is_some_and(|text| text.ends_with('.'))
        );
        assert_eq!(config.is_sensitive, config.config_type == 9, "{config:?}");
        assert!(!config.is_sensitive || config.value.is_none(), "{config:?}");
    }
    let value = |key: &str| {
        let config = configs.iter().find(|config| config.name.as_str() == key);
        config
            .unwrap()
            .value
            .as_ref()
            .map(|value| value.to_string())
    };
    let port = server.handle.local_addr().port();
    let address = Some(format!("PLAINTEXT://127.0.0.1:{port}"));
    assert_eq!(value("listeners"), address);
    assert_eq!(value("advertised.listeners"), address);
    assert_eq!(value("broker.rack").as_deref(), Some("rack"));
    assert_eq!(
        value("socket.request.max.bytes").as_deref(),
        Some("104857600")
    );
    assert_eq!(
        value("log.dirs"),
        Some(server.dir().to_string_lossy().into_owned())
    );
    assert_eq!(value("num.io.threads"), None);
    for (key, told) in [
        ("log.cleaner.enable", "true"),
        ("log.cleaner.dedupe.buffer.size", "67108864"),
        ("offsets.topic.num.partitions", "50"),
        ("offsets.retention.minutes", "10080"),
        ("group.max.session.timeout.ms", "1800000"),
        ("group.consumer.assignors", "uniform,range"),
        ("group.consumer.migration.policy", "bidirectional"),
    ] {
        assert_eq!(value(key).as_deref(), Some(told), "{key}");
    }
    server.stop().await;
}

#[tokio::test]
async fn resources_with_configs_are_listed_by_type() {
    let server = Server::start().await;
    let mut client = server.client_and_topic("t", 1).await;
    let listed = async |client: &mut Client, version, types: &[i8]| {
        let request = ListConfigResourcesRequest::default().with_resource_types(types.to_vec());
        let response = client.call(version, &request).await;
        let resources = response.config_resources.iter();
        let resources = resources.map(|told| (told.resource_type, told.resource_name.to_string()));
        (response.error_code, resources.collect::<Vec<_>>())
    };
    let (topic, node) = ((2, "t".to_owned()), (4, "1".to_owned()));
    assert_eq!(listed(&mut client, 0, &[]).await, (0, vec![]));
    assert_eq!(
        listed(&mut client, 1, &[]).await,
        (0, vec![topic.clone(), node.clone()])
    );
    assert_eq!(listed(&mut client, 1, &[2]).await, (0, vec![topic]));
    assert_eq!(listed(&mut client, 1, &[4, 16]).await, (0, vec![node]));
    assert_eq!(listed(&mut client, 1, &[8, 16, 32]).await, (0, vec![]));
    assert_eq!(listed(&mut client, 1, &[2, 3]).await, (35, vec![]));
    server.stop().await;
}

/// What is told of one config: value, source, and each synonym's name, value and source.
pub(crate) async fn told(client: &mut Client, kind: i8, name: &str, key: &str) -> Option<String> {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configuration_keys(Some(vec![text(key)]));
    let request = DescribeConfigsRequest::default()
        .with_resources(vec![resource])
        .with_include_synonyms(true);
    let response = client.call(4, &request).await;
    assert_eq!(response.results[0].error_code, 0, "{response:?}");
    let config = response.results[0].configs.first()?;
    let mut told = format!(
        "{} from {}:",
        config.value.as_ref().unwrap().as_str(),
        config.config_source
    );
    for synonym in &config.synonyms {
        let value = synonym.value.as_ref().unwrap().as_str();
        told += &format!(" {}={value} {}", synonym.name.as_str(), synonym.source);
    }
    Some(told)
}

#[tokio::test]
async fn what_is_set_for_all_brokers_is_told_of_brokers_and_topics() {
    let server = Server::start().await;
    let mut client = server.client_and_topic("t", 1).await;
    let key = "log.retention.ms";
    assert_eq!(told(&mut client, 4, "", key).await, None);
    let plain = "604800000 from 5: log.retention.ms=604800000 5";
    for version in 0..=2 {
        let set = alter(4, "", &[(key, Some("77"))]);
        let validated = set.clone().with_validate_only(true);
        let response = client.call(version, &validated).await;
        assert_eq!(response.responses[0].error_code, 0);
        assert_eq!(told(&mut client, 4, "", key).await, None);
        let response = client.call(version, &set).await;
        assert_eq!(response.responses[0].error_code, 0, "{response:?}");
        let dynamic = "77 from 3: log.retention.ms=77 3 log.retention.ms=604800000 5";
        for name in ["", "1"] {
            let of_broker = told(&mut client, 4, name, key).await;
            assert_eq!(of_broker.as_deref(), Some(dynamic));
        }
        let of_topic = told(&mut client, 2, "t", "retention.ms").await;
        assert_eq!(of_topic.as_deref(), Some(dynamic));
        let own = alter(2, "t", &[("retention.ms", Some("5"))]);
        client.call(version, &own).await;
        let of_topic = told(&mut client, 2, "t", "retention.ms").await.unwrap();
        assert_eq!(
            of_topic,
            "5 from 1: retention.ms=5 1 log.retention.ms=77 3 log.retention.ms=604800000 5"
        );
        client.call(version, &alter(2, "t", &[])).await;
        // The older request takes away what it does not name.
        let response = client.call(version, &alter(4, "", &[])).await;
        assert_eq!(response.responses[0].error_code, 0);
        assert_eq!(told(&mut client, 4, "", key).await, None);
        let of_topic = told(&mut client, 2, "t", "retention.ms").await;
        assert_eq!(of_topic.as_deref(), Some(plain));
    }
    server.stop().await;
}

#[tokio::test]
async fn all_four_operations_change_what_is_set_for_all_brokers() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let key = "log.cleanup.policy";
    for (operation, value, code, left) in [
        (2, Some("compact"), 0, Some("delete,compact")),
        (2, Some("compact"), 0, Some("delete,compact")),
        (3, Some("delete"), 0, Some("compact")),
        (3, Some("compact"), 40, Some("compact")),
        (0, Some("nothing"), 40, Some("compact")),
        (0, None, 42, Some("compact")),
        (7, Some("delete"), 42, Some("compact")),
        (0, Some("delete"), 0, Some("delete")),
        (1, None, 0, None),
        (1, None, 0, None),
    ] {
        let config = incremental_alter_configs_request::AlterableConfig::default()
            .with_name(text(key))
            .with_config_operation(operation)
            .with_value(value.map(text));
        let resource = incremental_alter_configs_request::AlterConfigsResource::default()
            .with_resource_type(4)
            .with_resource_name(text(""))
            .with_configs(vec![config]);
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
        let response = client.call(1, &request).await;
        let refused = &response.responses[0];
        assert_eq!(refused.error_code, code, "{operation} {value:?}");
        let now = told(&mut client, 4, "", key).await;
        let now = now.map(|now| now.split(' ').next().unwrap().to_owned());
        assert_eq!(now.as_deref(), left, "{operation} {value:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn what_a_request_repeats_is_answered_once() {
    let server = Server::start().await;
    let mut client = server.client_and_topic("t", 1).await;
    // Names of one letter each, which together would take more memory than there is.
    let resource = |kind, name: &str| {
        DescribeConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(text(name))
            .with_configuration_keys(None)
    };
    let mut resources = vec![resource(4, "1"); 100_000];
    resources.extend(vec![resource(2, "t"); 100_000]);
    let request = DescribeConfigsRequest::default()
        .with_resources(resources)
        .with_include_documentation(true);
    let response = client.call(4, &request).await;
    assert_eq!(response.results.len(), 2);
    let mut keys = vec![text("no.such.key"); 200_000];
    keys.push(text("node.id"));
    let asked = resource(4, "1").with_configuration_keys(Some(keys));
    let request = DescribeConfigsRequest::default().with_resources(vec![asked]);
    let response = client.call(4, &request).await;
    assert_eq!(response.results[0].configs.len(), 1);
    let types = ListConfigResourcesRequest::default().with_resource_types(vec![4; 200_000]);
    assert_eq!(client.call(1, &types).await.config_resources.len(), 1);
    server.stop().await;
}

#[tokio::test]
async fn a_long_value_is_refused_in_few_words() {
    let server = Server::start().await;
    let mut client = server.client_and_topic("t", 1).await;
    let long = "0".repeat(32_000) + "5";
    for (version, key, value) in [
        (1, "retention.ms", &*long),
        (1, &*long, "5"),
        (2, "retention.ms", &*long),
        (1, "segment.bytes", &*"9".repeat(1_000)),
    ] {
        let response = client
            .call(version, &alter(2, "t", &[(key, Some(value))]))
            .await;
        let told = &response.responses[0];
        assert_eq!(told.error_code, 40);
        assert!(told.error_message.as_ref().unwrap().len() <= 1_024);
    }
    // No topic is meant, and none has no name.
    let response = client.call(2, &alter(2, "", &[])).await;
    assert_eq!(response.responses[0].error_code, 42);
    assert_eq!(overrides(&mut client).await, BTreeMap::new());
    server.stop().await;
}

#[tokio::test]
async fn no_feature_can_be_updated() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let update = FeatureUpdateKey::default()
        .with_feature(text("metadata.version"))
        .with_max_version_level(7)
        .with_upgrade_type(1);
    for version in 0..=2 {
        let request = UpdateFeaturesRequest::default()
            .with_timeout_ms(1_000)
            .with_feature_updates(vec![update.clone()]);
        let response = client.call(version, &request).await;
        assert_eq!(response.error_code, 95);
        assert_eq!(response.results.len(), usize::from(version < 2));
    }
    server.stop().await;
}
