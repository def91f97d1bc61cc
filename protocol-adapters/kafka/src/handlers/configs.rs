//! What the handlers of configs share: Kafka's numbers for resources, sources and types.

use std::collections::HashMap;

use broker::{Broker, ConfigKind, ConfigSource, broker_config_refusal};
use kafka_protocol::protocol::StrBytes;

use super::Refusal;

/// The type and the name of a resource.
pub(super) type Named = (i8, StrBytes);

/// Resource type of a topic.
pub(super) const TOPIC: i8 = 2;
/// Resource type of a broker.
pub(super) const BROKER: i8 = 4;
/// Resource type of a broker's loggers.
pub(super) const BROKER_LOGGER: i8 = 8;
/// Resource type of the metrics that clients are asked for.
pub(super) const CLIENT_METRICS: i8 = 16;
/// Resource type of a group.
pub(super) const GROUP: i8 = 32;

/// The resources of a request that alters, each name once and in order; refused where the request
/// has it more than once.
pub(super) fn named_once<R>(
    resources: Vec<R>,
    named: impl Fn(&R) -> Named,
) -> Vec<(Named, Result<R, Refusal>)> {
    let mut times: HashMap<Named, usize> = HashMap::new();
    for resource in &resources {
        *times.entry(named(resource)).or_default() += 1;
    }
    let mut once = Vec::with_capacity(times.len());
    for resource in resources {
        let name = named(&resource);
        let Some(count) = times.remove(&name) else {
            continue;
        };
        let resource = match count {
            1 => Ok(resource),
            _ => Err(Refusal::request(
                "the request names this resource more than once",
            )),
        };
        once.push((name, resource));
    }
    once
}

/// Topics have no defaults of their own: only a topic with a name has configs to change.
pub(super) fn check_topic_change(name: &str) -> Result<(), Refusal> {
    match name.is_empty() {
        true => Err(Refusal::request("a topic without a name has no configs")),
        false => Ok(()),
    }
}

/// Whether all brokers are meant (no name), or one: none of its configs can be set, so it is refused
/// unless there is nothing to change.
pub(super) fn is_all_brokers<'a>(
    broker: &Broker,
    name: &str,
    mut keys: impl Iterator<Item = &'a str>,
) -> Result<bool, Refusal> {
    let is_node = |name: &str| {
        let catalogue = broker.catalogue();
        catalogue.nodes.keys().any(|node| node.to_string() == name)
    };
    if name.is_empty() {
        return Ok(true);
    }
    if !is_node(name) {
        return Err(Refusal::request(&format!("there is no broker {name:?}")));
    }
    match keys.next() {
        None => Ok(false),
        Some(key) => Err(Refusal::controller(&broker_config_refusal(key))),
    }
}

/// Kafka's `DescribeConfigsResponse.ConfigSource`.
pub(super) fn source_code(source: ConfigSource) -> i8 {
    match source {
        ConfigSource::Topic => 1,
        ConfigSource::AllBrokers => 3,
        ConfigSource::StaticBroker => 4,
        ConfigSource::Default => 5,
    }
}

/// Kafka's `DescribeConfigsResponse.ConfigType`.
pub(super) fn kind_code(kind: ConfigKind) -> i8 {
    match kind {
        ConfigKind::Boolean => 1,
        ConfigKind::String => 2,
        ConfigKind::Int => 3,
        ConfigKind::Short => 4,
        ConfigKind::Long => 5,
        ConfigKind::Double => 6,
        ConfigKind::List => 7,
        ConfigKind::Class => 8,
        ConfigKind::Password => 9,
    }
}
