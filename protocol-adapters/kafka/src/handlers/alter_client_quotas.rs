//! AlterClientQuotas, key 49, versions 0–1; KIP-546, KIP-612 (addresses).
//!
//! Quotas that are not enforced are refused by name, and so is whatever Kafka refuses: values that
//! are not whole and above zero, entities that cannot be. Each entry is done whole or not at all.

use std::collections::{HashMap, HashSet};

use broker::catalogue::{QuotaChanges, QuotaEntity, QuotaKey};
use kafka_protocol::messages::alter_client_quotas_request::{EntryData, OpData};
use kafka_protocol::messages::alter_client_quotas_response::{
    EntityData, EntryData as EntryResponse,
};
use kafka_protocol::messages::{AlterClientQuotasRequest, AlterClientQuotasResponse};

use super::quotas::entity;
use super::{Context, Refusal};
use crate::mapping;

pub(super) async fn handle(
    context: &Context,
    request: AlterClientQuotasRequest,
) -> AlterClientQuotasResponse {
    let entities: Vec<Result<QuotaEntity, Refusal>> = (request.entries.iter())
        .map(|entry| {
            let parts = entry.entity.iter();
            entity(parts.map(|part| (&part.entity_type, part.entity_name.as_ref())))
        })
        .collect();
    let mut times: HashMap<QuotaEntity, usize> = HashMap::new();
    for entity in entities.iter().flatten() {
        *times.entry(entity.clone()).or_default() += 1;
    }
    let mut responses = Vec::with_capacity(entities.len());
    for (entry, entity) in request.entries.into_iter().zip(entities) {
        let told = entry.entity.iter().map(|part| {
            EntityData::default()
                .with_entity_type(part.entity_type.clone())
                .with_entity_name(part.entity_name.clone())
        });
        let response = EntryResponse::default().with_entity(told.collect());
        let altered = match entity {
            Ok(entity) if times[&entity] == 1 => {
                alter(context, entity, entry, request.validate_only).await
            }
            Ok(_) => Err(Refusal::request(
                "the request names this entity more than once",
            )),
            Err(refusal) => Err(refusal),
        };
        responses.push(match altered {
            Ok(()) => response.with_error_message(None),
            Err(refusal) => response
                .with_error_code(refusal.code.code())
                .with_error_message(Some(mapping::text(refusal.message))),
        });
    }
    AlterClientQuotasResponse::default().with_entries(responses)
}

async fn alter(
    context: &Context,
    entity: QuotaEntity,
    entry: EntryData,
    validate_only: bool,
) -> Result<(), Refusal> {
    let changes = changes(entry.ops)?;
    let altered = context
        .broker
        .alter_client_quotas(entity, changes, validate_only)
        .await;
    altered.map_err(|error| Refusal::controller(&error))
}

fn changes(ops: Vec<OpData>) -> Result<QuotaChanges, Refusal> {
    let mut changes = QuotaChanges::new();
    let mut named = HashSet::with_capacity(ops.len());
    for op in &ops {
        let name = op.key.as_str();
        if !named.insert(name) {
            return Err(Refusal::request(&format!("{name} is named more than once")));
        }
        let key = match QuotaKey::of_name(name) {
            Ok(key) => key,
            // Tools take away whatever they do not set: nobody has it.
            Err(_) if op.remove => continue,
            Err(error) => return Err(Refusal::controller(&error)),
        };
        let value = match op.remove {
            true => None,
            false => Some(
                key.checked(op.value)
                    .map_err(|error| Refusal::controller(&error))?,
            ),
        };
        changes.insert(key, value);
    }
    Ok(changes)
}

#[cfg(test)]
mod tests {
    use kafka_protocol::protocol::StrBytes;

    use super::*;

    fn op(key: &'static str, value: f64) -> OpData {
        OpData::default()
            .with_key(StrBytes::from_static_str(key))
            .with_value(value)
    }

    #[test]
    fn quotas_are_set_and_taken_away() {
        let ops = vec![
            op("producer_byte_rate", 1024.0),
            op("consumer_byte_rate", 0.0).with_remove(true),
        ];
        let none = op("request_percentage", 0.0).with_remove(true);
        assert_eq!(changes(vec![none]).unwrap(), QuotaChanges::new());
        let expected = QuotaChanges::from([
            (QuotaKey::ProducerByteRate, Some(1024)),
            (QuotaKey::ConsumerByteRate, None),
        ]);
        assert_eq!(changes(ops).unwrap(), expected);
    }

    #[test]
    fn what_is_not_enforced_or_makes_no_sense_is_refused() {
        for ops in [
            vec![op("producer_byte_rate", 0.0)],
            vec![op("producer_byte_rate", -1.0)],
            vec![op("producer_byte_rate", 1e300)],
            vec![op("producer_byte_rate", f64::NAN)],
            vec![op("consumer_byte_rate", 1.5)],
            vec![op("request_percentage", 10.0)],
            vec![op("controller_mutation_rate", 0.0)],
            vec![op("no_such_quota", 1.0)],
            vec![op("producer_byte_rate", 1.0), op("producer_byte_rate", 2.0)],
        ] {
            let refusal = changes(ops).unwrap_err();
            assert_eq!(refusal.code.code(), 42, "{refusal:?}");
        }
    }
}
