//! Changes of what is set for all brokers: the configs of topics that have none of their own.
//!
//! Stands in the catalogue, so that every node has it at the same place of the log; a topic gets it
//! when the change is applied, and a new topic when it is made.

use std::collections::BTreeMap;

use super::broker_config_refusal;
use crate::catalogue::command::Command;
use crate::catalogue::machine::with_defaults;
use crate::topic_config::default_definition;
use crate::topic_config_changes::{CONFIG_ATTEMPTS, LOOK_AGAIN, changed_configs, overrides_of};
use crate::{Broker, BrokerError, ConfigChange, ConfigDefinition};

impl Broker {
    /// Changes what is set for all brokers, all or none.
    pub async fn alter_all_brokers(
        &self,
        changes: Vec<ConfigChange>,
        validate_only: bool,
    ) -> Result<(), BrokerError> {
        let changed = |before: &BTreeMap<_, _>| changed_configs(before, &changes, settable);
        self.change_all_brokers(validate_only, changed).await
    }

    /// Sets these for all brokers and takes all others away, as Kafka's older AlterConfigs does.
    pub async fn replace_all_brokers(
        &self,
        configs: Vec<(String, Option<String>)>,
        validate_only: bool,
    ) -> Result<(), BrokerError> {
        let configs = overrides_of(configs)?;
        for key in configs.keys() {
            settable(key)?;
        }
        let changed = |_: &BTreeMap<_, _>| Ok(configs.clone());
        self.change_all_brokers(validate_only, changed).await
    }

    async fn change_all_brokers(
        &self,
        validate_only: bool,
        changed: impl Fn(&BTreeMap<String, String>) -> Result<BTreeMap<String, String>, BrokerError>,
    ) -> Result<(), BrokerError> {
        let _administration = self.inner.administration.lock().await;
        for _ in 0..CONFIG_ATTEMPTS {
            let catalogue = self.catalogue();
            let before = BTreeMap::clone(&catalogue.broker_configs);
            let configs = changed(&before)?;
            if validate_only {
                return with_defaults(&catalogue.topics, &configs).map(|_| ());
            }
            let command = Command::SetBrokerConfigs { before, configs };
            match self.change_catalogue(&command).await {
                // Changed through another node, which this one will see in a moment.
                Err(BrokerError::Conflict { .. }) => tokio::time::sleep(LOOK_AGAIN).await,
                changed => return changed.map(|_| ()),
            }
        }
        Err(BrokerError::LeaderNotAvailable)
    }
}

fn settable(key: &str) -> Result<&'static ConfigDefinition, BrokerError> {
    default_definition(key).ok_or_else(|| broker_config_refusal(key))
}
