//! What a config is to those who ask: its key, type, default, meaning, and where a value comes from.
//!
//! A key that can be set is enforced; one that is listed as fixed describes how this broker
//! behaves and is refused when set; any other key is refused as unknown.

use std::collections::BTreeMap;

/// The type of a config's value, as Kafka's DescribeConfigs names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigKind {
    /// `true` or `false`.
    Boolean,
    /// Text.
    String,
    /// 32 bits.
    Int,
    /// 16 bits.
    Short,
    /// 64 bits.
    Long,
    /// A floating-point number.
    Double,
    /// Values separated by commas.
    List,
    /// The name of a Java class. Nothing here loads one.
    Class,
    /// A secret; its value is never told.
    Password,
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigSource {
    /// Set on the topic.
    Topic,
    /// Set for all brokers.
    AllBrokers,
    /// From this node's configuration.
    StaticBroker,
    /// Built in.
    Default,
}

/// A config that exists.
#[derive(Debug, Clone, Copy)]
pub struct ConfigDefinition {
    /// Its key.
    pub key: &'static str,
    /// Its type.
    pub kind: ConfigKind,
    /// Its default, as text; `None` stands for Kafka's null.
    pub default: Option<&'static str>,
    /// Whether it can be set (and is then enforced); else it only describes.
    pub settable: bool,
    /// The key under which Kafka's brokers have the default of a topic's config.
    pub broker_key: Option<&'static str>,
    /// What it means.
    pub documentation: &'static str,
}

/// A config with its present value.
#[derive(Debug, Clone)]
pub struct ConfigEntry {
    /// What it is.
    pub definition: ConfigDefinition,
    /// Its value; `None` stands for Kafka's null.
    pub value: Option<String>,
    /// Where the value comes from.
    pub source: ConfigSource,
    /// What is set for all brokers, whether or not it is the value; `None` when nothing is.
    pub all_brokers: Option<String>,
}

impl ConfigEntry {
    /// A topic's config that was set to `own`, or not, where these are set for all brokers.
    #[must_use]
    pub fn of_topic(
        definition: &ConfigDefinition,
        own: Option<String>,
        defaults: &BTreeMap<String, String>,
    ) -> ConfigEntry {
        let all_brokers = definition.broker_key.and_then(|key| defaults.get(key));
        let (value, source) = match (own, all_brokers) {
            (Some(own), _) => (Some(own), ConfigSource::Topic),
            (None, Some(value)) => (Some(value.clone()), ConfigSource::AllBrokers),
            (None, None) => (definition.default.map(str::to_owned), ConfigSource::Default),
        };
        ConfigEntry {
            definition: *definition,
            value,
            source,
            all_brokers: all_brokers.cloned(),
        }
    }
}
