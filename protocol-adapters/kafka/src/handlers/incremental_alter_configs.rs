//! IncrementalAlterConfigs, key 44, versions 0–1; KIP-339.
//!
//! Topics can be altered, and what is set for all brokers; a node's own configs are read at its start,
//! so each is refused with its reason. A resource, or a key within one, that is named twice is refused.

use std::collections::HashSet;

use broker::{ConfigChange, ConfigOperation};
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};

use super::configs::{BROKER, TOPIC, check_topic_change, is_all_brokers, named_once};
use super::{Context, Refusal};
use crate::mapping;

pub(super) async fn handle(
    context: &Context,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let named =
        |resource: &AlterConfigsResource| (resource.resource_type, resource.resource_name.clone());
    let mut responses = Vec::with_capacity(request.resources.len());
    for (named, resource) in named_once(request.resources, named) {
        let result = match resource {
            Ok(resource) => alter(context, resource, request.validate_only).await,
            Err(refusal) => Err(refusal),
        };
        let response = AlterConfigsResourceResponse::default()
            .with_resource_type(named.0)
            .with_resource_name(named.1);
        responses.push(match result {
            Ok(()) => response.with_error_message(None),
            Err(refusal) => response
                .with_error_code(refusal.code.code())
                .with_error_message(Some(mapping::text(refusal.message))),
        });
    }
    IncrementalAlterConfigsResponse::default().with_responses(responses)
}

async fn alter(
    context: &Context,
    resource: AlterConfigsResource,
    validate_only: bool,
) -> Result<(), Refusal> {
    match resource.resource_type {
        TOPIC => check_topic_change(&resource.resource_name)?,
        BROKER => {
            let keys = resource.configs.iter().map(|config| config.name.as_str());
            if !is_all_brokers(&context.broker, &resource.resource_name, keys)? {
                return Ok(());
            }
            let changes = changes(resource.configs)?;
            let altered = context.broker.alter_all_brokers(changes, validate_only);
            return (altered.await).map_err(|error| Refusal::controller(&error));
        }
        other => {
            return Err(Refusal::request(&format!(
                "resources of type {other} have no configs here"
            )));
        }
    }
    let changes = changes(resource.configs)?;
    let name = resource.resource_name.as_str();
    let altered = context
        .broker
        .alter_topic_configs(name, changes, validate_only)
        .await;
    altered.map_err(|error| Refusal::controller(&error))
}

fn changes(configs: Vec<AlterableConfig>) -> Result<Vec<ConfigChange>, Refusal> {
    let mut keys = HashSet::new();
    configs
        .into_iter()
        .map(|config| {
            let key = config.name.to_string();
            let operation = match config.config_operation {
                0 => ConfigOperation::Set,
                1 => ConfigOperation::Delete,
                2 => ConfigOperation::Append,
                3 => ConfigOperation::Subtract,
                other => {
                    return Err(Refusal::request(&format!(
                        "{key}: no operation {other} exists"
                    )));
                }
            };
            if !keys.insert(key.clone()) {
                return Err(Refusal::request(&format!("{key} is named more than once")));
            }
            let value = match (operation, config.value) {
                (ConfigOperation::Delete, _) => None,
                (_, Some(value)) => Some(value.to_string()),
                (_, None) => return Err(Refusal::request(&format!("{key}: a value is missing"))),
            };
            Ok(ConfigChange {
                key,
                operation,
                value,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use kafka_protocol::ResponseError;
    use kafka_protocol::protocol::StrBytes;

    use super::*;

    fn config(key: &'static str, operation: i8, value: Option<&'static str>) -> AlterableConfig {
        AlterableConfig::default()
            .with_name(StrBytes::from_static_str(key))
            .with_config_operation(operation)
            .with_value(value.map(StrBytes::from_static_str))
    }

    #[test]
    fn each_operation_is_read() {
        let all = changes(vec![
            config("a", 0, Some("1")),
            config("b", 1, None),
            config("c", 2, Some("2")),
            config("d", 3, Some("3")),
        ]);
        let operations: Vec<_> = all
            .unwrap()
            .into_iter()
            .map(|change| (change.operation, change.value))
            .collect();
        assert_eq!(
            operations,
            [
                (ConfigOperation::Set, Some("1".to_owned())),
                (ConfigOperation::Delete, None),
                (ConfigOperation::Append, Some("2".to_owned())),
                (ConfigOperation::Subtract, Some("3".to_owned())),
            ]
        );
    }

    #[test]
    fn unknown_operations_missing_values_and_repeated_keys_are_refused() {
        for configs in [
            vec![config("a", 4, Some("1"))],
            vec![config("a", 0, None)],
            vec![config("a", 0, Some("1")), config("a", 1, None)],
        ] {
            assert_eq!(
                changes(configs).unwrap_err().code,
                ResponseError::InvalidRequest
            );
        }
    }
}
