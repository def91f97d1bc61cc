//! Changes of the configs of topics.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use crate::catalogue::command::Command;
use crate::coordinators::is_internal;
use crate::{Broker, BrokerError, ConfigEntry, TopicConfig};

/// How often a change of configs is planned anew because they were changed meanwhile.
const CONFIG_ATTEMPTS: usize = 5;
/// Pause before it is planned anew.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

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
        Ok(topic.config.entries())
    }

    /// Changes configs of a topic, all or none.
    pub async fn alter_topic_configs(
        &self,
        topic: &str,
        changes: Vec<ConfigChange>,
        validate_only: bool,
    ) -> Result<(), BrokerError> {
        let changed = |before: &BTreeMap<_, _>| changed_overrides(before, &changes);
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
        TopicConfig::parse(overrides.clone())?;
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
            check_internal(&topic.name, &overrides)?;
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
fn check_internal(topic: &str, overrides: &BTreeMap<String, String>) -> Result<(), BrokerError> {
    let cleanup = TopicConfig::parse(overrides.clone())?.cleanup;
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

/// The configs after all changes, checked.
fn changed_overrides(
    before: &BTreeMap<String, String>,
    changes: &[ConfigChange],
) -> Result<BTreeMap<String, String>, BrokerError> {
    let mut overrides = before.clone();
    let mut seen = HashSet::new();
    for change in changes {
        if !seen.insert(&change.key) {
            return Err(BrokerError::InvalidRequest {
                reason: format!("{} is changed twice", change.key),
            });
        }
        apply_change(&mut overrides, change.clone())?;
    }
    TopicConfig::parse(overrides.clone())?;
    Ok(overrides)
}

fn apply_change(
    overrides: &mut BTreeMap<String, String>,
    change: ConfigChange,
) -> Result<(), BrokerError> {
    let ConfigChange {
        key,
        operation,
        value,
    } = change;
    let definition = crate::topic_config_definitions()
        .iter()
        .find(|known| known.key == key);
    match (operation, value) {
        (ConfigOperation::Delete, _) => {
            if definition.is_none() {
                return Err(BrokerError::InvalidConfig {
                    reason: format!("{key}: not a config that this broker enforces"),
                });
            }
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
            let list = definition.filter(|known| known.kind == crate::ConfigKind::List);
            let Some(definition) = list else {
                return Err(BrokerError::InvalidConfig {
                    reason: format!("{key}: not a list, cannot append or subtract"),
                });
            };
            let default = definition.default.unwrap_or_default();
            let present = overrides.get(&key).map_or(default, String::as_str);
            let changed = change_list(present, &value, operation == ConfigOperation::Append);
            overrides.insert(key, changed);
        }
    }
    Ok(())
}

fn change_list(present: &str, value: &str, append: bool) -> String {
    let named: Vec<&str> = value
        .split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .collect();
    let mut items: Vec<&str> = present.split(',').filter(|item| !item.is_empty()).collect();
    if append {
        items.extend(
            named
                .iter()
                .filter(|item| !present.split(',').any(|old| old == **item)),
        );
    } else {
        items.retain(|item| !named.contains(item));
    }
    items.join(",")
}
