//! AlterConfigs, key 33, versions 0–2; KIP-133. Older than IncrementalAlterConfigs, and used by older
//! clients: it gives a topic the configs it names and takes away all others.

use std::collections::HashSet;

use kafka_protocol::messages::alter_configs_request::AlterConfigsResource;
use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{AlterConfigsRequest, AlterConfigsResponse};

use super::configs::{BROKER, TOPIC, check_topic_change, is_all_brokers, named_once};
use super::{Context, Refusal};
use crate::mapping;

pub(super) async fn handle(
    context: &Context,
    request: AlterConfigsRequest,
) -> AlterConfigsResponse {
    let named =
        |resource: &AlterConfigsResource| (resource.resource_type, resource.resource_name.clone());
    let mut responses = Vec::with_capacity(request.resources.len());
    for (named, resource) in named_once(request.resources, named) {
        let result = match resource {
            Ok(resource) => replace(context, resource, request.validate_only).await,
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
    AlterConfigsResponse::default().with_responses(responses)
}

async fn replace(
    context: &Context,
    resource: AlterConfigsResource,
    validate_only: bool,
) -> Result<(), Refusal> {
    let name = resource.resource_name.as_str();
    let mut configs: Vec<(String, Option<String>)> = Vec::with_capacity(resource.configs.len());
    let mut known = HashSet::with_capacity(resource.configs.len());
    for config in resource.configs {
        let key = config.name.to_string();
        let Some(value) = config.value else {
            return Err(Refusal::request(&format!("{key}: a value is missing")));
        };
        if !known.insert(config.name) {
            return Err(Refusal::request(&format!("{key} is named more than once")));
        }
        configs.push((key, Some(value.to_string())));
    }
    match resource.resource_type {
        TOPIC => {
            check_topic_change(name)?;
            let altered = context
                .broker
                .replace_topic_configs(name, configs, validate_only)
                .await;
            altered.map_err(|error| Refusal::controller(&error))
        }
        BROKER => {
            let keys = configs.iter().map(|(key, _)| key.as_str());
            if !is_all_brokers(&context.broker, name, keys)? {
                return Ok(());
            }
            let replaced = context.broker.replace_all_brokers(configs, validate_only);
            let replaced = replaced.await;
            replaced.map_err(|error| Refusal::controller(&error))
        }
        other => Err(Refusal::request(&format!(
            "resources of type {other} have no configs here"
        ))),
    }
}
