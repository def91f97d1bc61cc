//! Every config that Kafka's brokers have, as this node has it: one list, one row a key.
//!
//! Those that topics go by which have none of their own can be set, for all brokers at once
//! (`changes.rs`); nothing else can while a node runs. What a node was started with is told with its value; what
//! every node does, as fixed; and what nothing here goes by has no value, so that nobody takes
//! Kafka's for ours. Each says so in its documentation, which is also the reason when setting it
//! is refused.

mod changes;
mod groups;
mod remote;
mod replication;
mod row;
mod security;
mod server;
mod topics;
mod transactions;

use std::collections::BTreeMap;

use self::row::{Row, Value};
use crate::config_definition::{ConfigDefinition, ConfigEntry, ConfigSource};
use crate::{Broker, BrokerError};

fn rows() -> impl Iterator<Item = &'static Row> {
    let parts: [&[Row]; 7] = [
        &server::SERVER,
        &topics::TOPICS,
        &replication::REPLICATION,
        &groups::GROUPS,
        &transactions::TRANSACTIONS,
        &remote::REMOTE,
        &security::SECURITY,
    ];
    parts.into_iter().flatten()
}

/// The keys whose values whoever serves the clients must say, see [`Broker::broker_configs`].
pub fn told_broker_configs() -> impl Iterator<Item = &'static str> {
    let told = rows().filter(|row| matches!(row.value, Value::Told));
    told.map(|row| row.key)
}

/// Why a broker's config cannot be set: that it does not exist, or what stands against it.
#[must_use]
pub fn broker_config_refusal(key: &str) -> BrokerError {
    let reason = match rows().find(|row| row.key == key) {
        None => format!("{key}: no broker has such a config"),
        Some(row) => match row.value {
            Value::Node(_) | Value::Told => {
                format!("{key}: a node is told when it is started, not from here")
            }
            Value::Topics => {
                format!("{key}: can be set for all brokers, not for one of them")
            }
            Value::Fixed => format!(
                "{key}: always {:?} here ({})",
                row.default.unwrap_or_default(),
                row.documentation
            ),
            Value::Unused => format!("{key}: nothing here goes by it ({})", row.documentation),
        },
    };
    BrokerError::InvalidConfig { reason }
}

impl Broker {
    /// The configs of this node under Kafka's names, sorted by key. `told` has the
    /// values of [`told_broker_configs`]; one that is missing has none.
    #[must_use]
    pub fn broker_configs(&self, told: &BTreeMap<&'static str, String>) -> Vec<ConfigEntry> {
        let catalogue = self.catalogue();
        let mut entries: Vec<ConfigEntry> = rows()
            .map(|row| {
                let default = || row.default.map(str::to_owned);
                let all_brokers = catalogue.broker_configs.get(row.key).cloned();
                let value = match row.value {
                    Value::Node(value) => value(self),
                    Value::Told => told.get(row.key).cloned(),
                    Value::Topics => all_brokers.clone().or_else(default),
                    Value::Fixed | Value::Unused => default(),
                };
                ConfigEntry {
                    source: match value.as_deref() == row.default {
                        _ if all_brokers.is_some() => ConfigSource::AllBrokers,
                        true => ConfigSource::Default,
                        false => ConfigSource::StaticBroker,
                    },
                    value,
                    all_brokers,
                    definition: ConfigDefinition {
                        key: row.key,
                        kind: row.kind,
                        default: row.default,
                        settable: matches!(row.value, Value::Topics),
                        broker_key: None,
                        documentation: row.documentation,
                    },
                }
            })
            .collect();
        entries.sort_by_key(|entry| entry.definition.key);
        entries
    }

    /// The directory that holds this node's data.
    fn data_path(&self) -> String {
        self.inner.data_dir.path().to_string_lossy().into_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_key_stands_once_in_the_order_of_its_part() {
        let keys: Vec<&str> = rows().map(|row| row.key).collect();
        let distinct: BTreeSet<&str> = keys.iter().copied().collect();
        assert_eq!(keys.len(), distinct.len());
        for part in [
            &server::SERVER[..],
            &topics::TOPICS,
            &replication::REPLICATION,
        ] {
            assert!(part.is_sorted_by_key(|row| row.key));
        }
    }

    #[test]
    fn every_key_is_documented_in_sentences() {
        for row in rows() {
            let documentation = row.documentation;
            assert!(documentation.ends_with('.'), "{}: {documentation}", row.key);
            assert!(
                !documentation.contains("  "),
                "{}: {documentation}",
                row.key
            );
        }
    }

    #[test]
    fn what_topics_go_by_is_told_alike_of_brokers() {
        for topic in crate::topic_config_definitions() {
            let Some(broker_key) = topic.broker_key else {
                continue;
            };
            let row = rows().find(|row| row.key == broker_key).unwrap();
            assert_eq!(row.default, topic.default, "{broker_key}");
            let is_settable = matches!(row.value, Value::Topics);
            assert_eq!(is_settable, topic.settable, "{broker_key}");
            assert_eq!(row.kind, topic.kind, "{broker_key}");
        }
    }

    #[test]
    fn every_refusal_names_its_key_and_a_reason() {
        for key in rows().map(|row| row.key).chain(["no.such.key"]) {
            let BrokerError::InvalidConfig { reason } = broker_config_refusal(key) else {
                panic!("{key} is refused as a config");
            };
            assert!(
                reason.starts_with(key) && reason.len() > key.len() + 20,
                "{reason}"
            );
        }
    }
}
