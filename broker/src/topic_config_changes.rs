//! Changes of the configs of topics.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use crate::catalogue::command::Command;
use crate::coordinators::is_internal;
use crate::{Broker, BrokerError, ConfigDefinition, ConfigEntry, TopicConfig};

/// How often a change of configs is planned anew because they were changed meanwhile.
pub(crate) const CONFIG_ATTEMPTS: usize = 5;
/// Pause before it is planned anew.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What to do with one config (KIP-339).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigOperation {
    /// Set it.
    Set,
    /// Back to the default.
    Delete,
    /// Add to a list.
    Append,
    /// Take from a list.
    Subtract,
}

/// One change of one config.
#[derive(Debug, Clone)]
pub struct ConfigChange {
    /// The key.
    pub key: String,
    /// What to do.
    pub operation: ConfigOperation,
    /// The value; `None` only with [`ConfigOperation::Delete`].
    pub value: Option<String>,
}

impl Broker {
    /// The configs of a topic, every known key.
    pub fn topic_configs(&self, topic: &str) -> Result<Vec<ConfigEntry>, BrokerError> {
        let catalogue = self.catalogue();
        let topic = catalogue
            .topics
            .get(topic)
            .ok_or(BrokerError::UnknownTopicOrPartition)?;
        Ok(topic.config.entries(&catalogue.broker_configs))
    }

    /// Changes configs of a topic, all or none.
    pub async fn alter_topic_configs(
        &self,
        topic: &str,
        changes: Vec<ConfigChange>,
        validate_only: bool,
    ) -> Result<(), BrokerError> {
        let changed = |before: &BTreeMap<_, _>| changed_configs(before, &changes, topic_config);
        self.change_topic_config(topic, validate_only, changed)
            .await
    }

    /// Gives a topic these configs and no others, as Kafka's older AlterConfigs does.
    pub async fn replace_topic_configs(
        &self,
        topic: &str,
        configs: Vec<(String, Option<String>)>,
        validate_only: bool,
    ) -> Result<(), BrokerError> {
        let overrides = overrides_of(configs)?;
        let changed = |_: &BTreeMap<_, _>| Ok(overrides.clone());
        self.change_topic_config(topic, validate_only, changed)
            .await
    }

    async fn change_topic_config(
        &self,
        topic: &str,
        validate_only: bool,
        changed: impl Fn(&BTreeMap<String, String>) -> Result<BTreeMap<String, String>, BrokerError>,
    ) -> Result<(), BrokerError> {
        let _administration = self.inner.administration.lock().await;
        for _ in 0..CONFIG_ATTEMPTS {
            let catalogue = self.catalogue();
            let topic = catalogue
                .topics
                .get(topic)
                .ok_or(BrokerError::UnknownTopicOrPartition)?;
            let before = topic.config.overrides.clone();
            let overrides = changed(&before)?;
            let config = TopicConfig::parse(overrides.clone(), &catalogue.broker_configs)?;
            check_internal(&topic.name, &config)?;
            if validate_only {
                return Ok(());
            }
            let command = Command::SetTopicConfig {
                topic: topic.id,
                before: Some(before),
                overrides,
            };
            match self.change_catalogue(&command).await {
                // Changed through another node, which this one will see in a moment.
                Err(BrokerError::Conflict { .. }) => tokio::time::sleep(LOOK_AGAIN).await,
                changed => return changed.map(|_| ()),
            }
        }
        Err(BrokerError::LeaderNotAvailable)
    }
}

/// Refuses what would make coordinators forget: what an internal topic holds is all that they have.
fn check_internal(topic: &str, config: &TopicConfig) -> Result<(), BrokerError> {
    let cleanup = config.cleanup;
    match is_internal(topic) && (cleanup.deletes || !cleanup.compacts) {
        true => Err(BrokerError::InvalidConfig {
            reason: format!("cleanup.policy of {topic}, an internal topic, must be compact"),
        }),
        false => Ok(()),
    }
}

/// The configs that a new topic is given.
pub(crate) fn overrides_of(
    configs: Vec<(String, Option<String>)>,
) -> Result<BTreeMap<String, String>, BrokerError> {
    let mut overrides = BTreeMap::new();
    for (key, value) in configs {
        let value = value.ok_or_else(|| BrokerError::InvalidConfig {
            reason: format!("{key}: a value is missing"),
        })?;
        if overrides.insert(key.clone(), value).is_some() {
            return Err(BrokerError::InvalidConfig {
                reason: format!("{key} is given twice"),
            });
        }
    }
    Ok(overrides)
}

/// The configs after all changes of those that `known` finds.
pub(crate) fn changed_configs(
    before: &BTreeMap<String, String>,
    changes: &[ConfigChange],
    known: impl Fn(&str) -> Result<&'static ConfigDefinition, BrokerError>,
) -> Result<BTreeMap<String, String>, BrokerError> {
    let mut overrides = before.clone();
    let mut seen = HashSet::new();
    for change in changes {
        if !seen.insert(&change.key) {
            return Err(BrokerError::InvalidRequest {
                reason: format!("{} is changed twice", change.key),
            });
        }
        apply_change(&mut overrides, change.clone(), known(&change.key)?)?;
    }
    Ok(overrides)
}

fn topic_config(key: &str) -> Result<&'static ConfigDefinition, BrokerError> {
    let known = crate::topic_config_definitions().iter();
    let mut known = known.filter(|known| known.key == key);
    known.next().ok_or_else(|| BrokerError::InvalidConfig {
        reason: format!("{key}: not a config that this broker enforces"),
    })
}

fn apply_change(
    overrides: &mut BTreeMap<String, String>,
    change: ConfigChange,
    definition: &ConfigDefinition,
) -> Result<(), BrokerError> {
    let ConfigChange {
        key,
        operation,
        value,
    } = change;
    match (operation, value) {
        (ConfigOperation::Delete, _) => {
            overrides.remove(&key);
        }
        (_, None) => {
            return Err(BrokerError::InvalidConfig {
                reason: format!("{key}: a value is missing"),
            });
        }
        (ConfigOperation::Set, Some(value)) => {
            overrides.insert(key, value);
        }
        (ConfigOperation::Append | ConfigOperation::Subtract, Some(value)) => {
            if definition.kind != crate::ConfigKind::List {
                return Err(BrokerError::InvalidConfig {
                    reason: format!("{key}: not a list, cannot append or subtract"),
                });
            }
            let default = definition.default.unwrap_or_default();
            let present = overrides.get(&key).map_or(default, String::as_str);
            let changed = change_list(present, &value, operation == ConfigOperation::Append);
            overrides.insert(key, changed);
        }
    }
    Ok(())
}

/// A list with items added that are not in it, or without some.
fn change_list(present: &str, value: &str, append: bool) -> String {
    let items = |list: &'_ str| -> Vec<String> {
        let items = list.split(',').map(str::trim);
        let items = items.filter(|item| !item.is_empty());
        items.map(str::to_owned).collect()
    };
    let (mut changed, named) = (items(present), items(value));
    for item in named {
        match append {
            true if changed.contains(&item) => {}
            true => changed.push(item),
            false => changed.retain(|kept| *kept != item),
        }
    }
    changed.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_stands_in_a_list_once_and_is_taken_out_however_it_is_written() {
        for (present, value, append, expected) in [
            ("delete", "compact,compact", true, "delete,compact"),
            ("compact, delete", "delete", true, "compact,delete"),
            ("compact, delete", " delete", false, "compact"),
            ("delete,delete", "delete", false, ""),
            ("delete", ",, ,", true, "delete"),
        ] {
            assert_eq!(
                change_list(present, value, append),
                expected,
                "{present} {value}"
            );
        }
    }
}
