//! DescribeConfigs, key 32, versions 1–4; KIP-133, KIP-226 (synonyms), KIP-569 (types and
//! documentation, 3).
//!
//! Every known config of a topic or of this node is told, with its default, whether or not it was
//! set; null or empty keys ask for all. A broker without a name stands for all of them, and has what
//! was set for all.

use std::collections::{BTreeMap, HashSet};

use broker::{ConfigEntry, ConfigKind, ConfigSource};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};

use super::configs::{BROKER, TOPIC, kind_code, source_code};
use super::{Context, Refusal};
use crate::mapping;
use crate::server::KafkaServerConfig;

/// First version that tells types and documentation.
const TYPES_VERSION_MIN: i16 = 3;

pub(super) fn handle(
    context: &Context,
    version: i16,
    request: DescribeConfigsRequest,
) -> DescribeConfigsResponse {
    // Once each, however often it is named: answers are much longer than what asks for them.
    let mut named = HashSet::new();
    let resources = request.resources.into_iter();
    let resources = resources
        .filter(|resource| named.insert((resource.resource_type, resource.resource_name.clone())));
    let results = resources.map(|resource| {
        let result = DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        match entries(context, &resource) {
            Ok(entries) => {
                let keys = resource.configuration_keys.unwrap_or_default();
                let keys: HashSet<&str> = keys.iter().map(|key| key.as_str()).collect();
                let wanted =
                    |entry: &ConfigEntry| keys.is_empty() || keys.contains(entry.definition.key);
                let entries = entries.into_iter().filter(wanted);
                let told = entries.map(|entry| {
                    told(
                        version,
                        entry,
                        request.include_synonyms,
                        request.include_documentation,
                    )
                });
                result.with_error_message(None).with_configs(told.collect())
            }
            Err(refusal) => result
                .with_error_code(refusal.code.code())
                .with_error_message(Some(mapping::text(refusal.message))),
        }
    });
    DescribeConfigsResponse::default().with_results(results.collect())
}

fn entries(
    context: &Context,
    resource: &DescribeConfigsResource,
) -> Result<Vec<ConfigEntry>, Refusal> {
    let name = resource.resource_name.as_str();
    match resource.resource_type {
        TOPIC if name.is_empty() => Err(Refusal::new(
            ResponseError::InvalidTopicException,
            "a topic has a name",
        )),
        TOPIC => context
            .broker
            .topic_configs(name)
            .map_err(|error| Refusal::controller(&error)),
        BROKER if name.is_empty() => {
            let entries = context.broker.broker_configs(&told_by(context)).into_iter();
            Ok(entries
                .filter(|entry| entry.all_brokers.is_some())
                .collect())
        }
        BROKER if name == context.broker.node_id().0.to_string() => {
            Ok(context.broker.broker_configs(&told_by(context)))
        }
        BROKER => Err(Refusal::request(&format!(
            "this is broker {}, ask broker {name} itself",
            context.broker.node_id()
        ))),
        other => Err(Refusal::request(&format!(
            "resources of type {other} have no configs here"
        ))),
    }
}

/// What the listener was started with, by Kafka's names.
fn told_by(context: &Context) -> BTreeMap<&'static str, String> {
    let (config, broker) = (&context.config, &context.broker);
    let catalogue = broker.catalogue();
    let own = catalogue.nodes.get(&broker.node_id());
    let advertised = own.and_then(|node| mapping::endpoint(node, &context.listener_name));
    let advertised = advertised.map(|at| format!("PLAINTEXT://{}:{}", at.host.as_str(), at.port));
    let mut told = listener_configs(config);
    told.insert("listeners", format!("PLAINTEXT://{}", context.listens_on));
    told.extend(advertised.map(|advertised| ("advertised.listeners", advertised)));
    told
}

fn listener_configs(config: &KafkaServerConfig) -> BTreeMap<&'static str, String> {
    let slots = config.fetch_sessions_max;
    BTreeMap::from([
        ("connections.max.idle.ms", config.idle_ms_max.to_string()),
        ("fetch.max.bytes", config.fetch_bytes_max.to_string()),
        ("max.connections", config.connections_max.to_string()),
        (
            "max.connections.per.ip",
            config.connections_per_address_max.to_string(),
        ),
        (
            "max.incremental.fetch.session.cache.slots",
            slots.to_string(),
        ),
        (
            "queued.max.request.bytes",
            config.inflight_bytes_max.to_string(),
        ),
        (
            "socket.request.max.bytes",
            config.frame_bytes_max.to_string(),
        ),
    ])
}

fn told(
    version: i16,
    entry: ConfigEntry,
    include_synonyms: bool,
    include_documentation: bool,
) -> DescribeConfigsResourceResult {
    let definition = entry.definition;
    let result = DescribeConfigsResourceResult::default()
        .with_name(mapping::text(definition.key))
        .with_read_only(!definition.settable)
        .with_config_source(source_code(entry.source))
        .with_is_sensitive(definition.kind == ConfigKind::Password)
        .with_documentation(None);
    let result = match include_synonyms {
        true => result.with_synonyms(synonyms(&entry)),
        false => result,
    };
    let result = result.with_value(entry.value.map(mapping::text));
    if version < TYPES_VERSION_MIN {
        return result;
    }
    let documentation = include_documentation.then(|| mapping::text(definition.documentation));
    result
        .with_config_type(kind_code(definition.kind))
        .with_documentation(documentation)
}

/// Where the value comes from and what would hold without it, the effective one first. As in Kafka,
/// the default of a topic's config bears the name that brokers have for it, and what is null is not
/// among them.
fn synonyms(entry: &ConfigEntry) -> Vec<DescribeConfigsSynonym> {
    let definition = &entry.definition;
    let synonym = |name: &str, value: &str, source| {
        DescribeConfigsSynonym::default()
            .with_name(mapping::text(name))
            .with_value(Some(mapping::text(value)))
            .with_source(source_code(source))
    };
    let own = [ConfigSource::Topic, ConfigSource::StaticBroker].contains(&entry.source);
    let set = (entry.value.as_deref()).filter(|_| own);
    let set = set.map(|value| synonym(definition.key, value, entry.source));
    let default_name = definition.broker_key.unwrap_or(definition.key);
    let all_brokers = (entry.all_brokers.as_deref())
        .map(|value| synonym(default_name, value, ConfigSource::AllBrokers));
    let default =
        (definition.default).map(|value| synonym(default_name, value, ConfigSource::Default));
    set.into_iter().chain(all_brokers).chain(default).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use broker::topic_config_definitions;

    use super::*;

    fn entry(source: ConfigSource) -> ConfigEntry {
        ConfigEntry {
            definition: topic_config_definitions()[0],
            value: Some("value".to_owned()),
            source,
            all_brokers: None,
        }
    }

    #[test]
    fn what_is_set_for_all_brokers_stands_between_the_topic_and_the_default() {
        let mut entry = entry(ConfigSource::Topic);
        entry.all_brokers = Some("compact".to_owned());
        let sources = |entry: ConfigEntry| {
            let synonyms = told(4, entry, true, true).synonyms.into_iter();
            let synonyms = synonyms.map(|synonym| (synonym.name.to_string(), synonym.source));
            synonyms.collect::<Vec<_>>()
        };
        let below = [
            ("log.cleanup.policy".to_owned(), 3),
            ("log.cleanup.policy".to_owned(), 5),
        ];
        let set = ("cleanup.policy".to_owned(), 1);
        assert_eq!(sources(entry.clone())[0], set);
        assert_eq!(sources(entry.clone())[1..], below);
        entry.source = ConfigSource::AllBrokers;
        assert_eq!(sources(entry), below);
    }

    #[test]
    fn a_value_that_was_set_has_its_default_as_synonym() {
        let told = told(4, entry(ConfigSource::Topic), true, true);
        let sources: Vec<_> = told.synonyms.iter().map(|synonym| synonym.source).collect();
        assert_eq!(sources, [1, 5]);
        assert_eq!(told.config_source, 1);
        assert!(told.documentation.is_some());
    }

    #[test]
    fn the_default_of_a_topic_bears_the_name_that_brokers_have_for_it() {
        let told = told(4, entry(ConfigSource::Topic), true, true);
        let names: Vec<_> = told.synonyms.iter().map(|synonym| &*synonym.name).collect();
        assert_eq!(names, ["cleanup.policy", "log.cleanup.policy"]);
    }

    #[test]
    fn what_the_listener_is_to_tell_it_tells() {
        let mut told = listener_configs(&KafkaServerConfig::default());
        for by_address in ["listeners", "advertised.listeners"] {
            assert_eq!(told.insert(by_address, String::new()), None);
        }
        let expected: BTreeSet<_> = broker::told_broker_configs().collect();
        assert_eq!(told.into_keys().collect::<BTreeSet<_>>(), expected);
    }

    #[test]
    fn types_and_documentation_are_told_from_version_3_on() {
        let told_then = told(2, entry(ConfigSource::Default), true, true);
        assert_eq!((told_then.config_type, told_then.documentation), (0, None));
        assert_ne!(
            told(3, entry(ConfigSource::Default), false, false).config_type,
            0
        );
    }
}
