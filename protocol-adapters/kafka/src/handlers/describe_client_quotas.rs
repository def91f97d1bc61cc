//! DescribeClientQuotas, key 48, versions 0–1; KIP-546.
//!
//! A filter names types of entities, each with a name, for the default, or for whichever there is.
//! A strict one finds entities of just these types, any other those that have them among theirs.

use std::collections::BTreeMap;
use std::net::IpAddr;

use broker::catalogue::QuotaEntity;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_client_quotas_request::ComponentData;
use kafka_protocol::messages::describe_client_quotas_response::{EntityData, EntryData, ValueData};
use kafka_protocol::messages::{DescribeClientQuotasRequest, DescribeClientQuotasResponse};

use super::quotas::{is_address_type, is_entity_type, parts};
use super::{Context, Refusal};
use crate::mapping;

/// What a name must be.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Wanted {
    Name(String),
    Default,
    Any,
}

pub(super) fn handle(
    context: &Context,
    request: DescribeClientQuotasRequest,
) -> DescribeClientQuotasResponse {
    let response = DescribeClientQuotasResponse::default();
    let filter = match filter(request.components) {
        Ok(filter) => filter,
        Err(refusal) => {
            return response
                .with_error_code(refusal.code.code())
                .with_error_message(Some(mapping::text(refusal.message)))
                .with_entries(None);
        }
    };
    let quotas = context.broker.client_quotas();
    let found = (quotas.iter()).filter(|(entity, _)| is_wanted(&filter, request.strict, entity));
    let entries = found.map(|(entity, quotas)| {
        let entity = parts(entity).into_iter().map(|(kind, name)| {
            EntityData::default()
                .with_entity_type(mapping::text(kind))
                .with_entity_name(name.map(mapping::text))
        });
        let values = quotas.iter().map(|(key, value)| {
            ValueData::default()
                .with_key(mapping::text(key.name()))
                .with_value(key.told(*value))
        });
        EntryData::default()
            .with_entity(entity.collect())
            .with_values(values.collect())
    });
    response
        .with_error_message(None)
        .with_entries(Some(entries.collect()))
}

fn filter(components: Vec<ComponentData>) -> Result<BTreeMap<String, Wanted>, Refusal> {
    let mut filter = BTreeMap::new();
    for component in components {
        let kind = component.entity_type.to_string();
        if kind.is_empty() {
            return Err(Refusal::request("a type of entity is empty"));
        }
        if !is_entity_type(&kind) {
            let message = format!("no type of entity is {kind:?}");
            return Err(Refusal::new(ResponseError::UnsupportedVersion, &message));
        }
        let wanted = match (component.match_type, component._match) {
            (0, Some(name)) => Wanted::Name(match name.parse::<IpAddr>() {
                Ok(address) if is_address_type(&kind) => address.to_canonical().to_string(),
                _ => name.to_string(),
            }),
            (1, None) => Wanted::Default,
            (2, None) => Wanted::Any,
            (0, None) => return Err(Refusal::request(&format!("the name of {kind} is missing"))),
            (1 | 2, Some(_)) => {
                let message = format!("{kind} is matched without a name, and has one");
                return Err(Refusal::request(&message));
            }
            (other, _) => return Err(Refusal::request(&format!("no type of match is {other}"))),
        };
        if filter.insert(kind.clone(), wanted).is_some() {
            return Err(Refusal::request(&format!("{kind} is named more than once")));
        }
    }
    if filter.len() > 1 && filter.keys().any(|kind| is_address_type(kind)) {
        return Err(Refusal::request("ip goes with no other type of entity"));
    }
    Ok(filter)
}

fn is_wanted(filter: &BTreeMap<String, Wanted>, strict: bool, entity: &QuotaEntity) -> bool {
    let parts: BTreeMap<_, _> = parts(entity).into_iter().collect();
    if strict && parts.len() != filter.len() {
        return false;
    }
    filter
        .iter()
        .all(|(kind, wanted)| match (parts.get(kind.as_str()), wanted) {
            (None, _) => false,
            (Some(_), Wanted::Any) => true,
            (Some(name), Wanted::Default) => name.is_none(),
            (Some(name), Wanted::Name(wanted)) => name.as_ref() == Some(wanted),
        })
}

#[cfg(test)]
mod tests {
    use broker::catalogue::QuotaName;
    use kafka_protocol::protocol::StrBytes;

    use super::*;

    fn component(kind: &'static str, match_type: i8, name: Option<&'static str>) -> ComponentData {
        ComponentData::default()
            .with_entity_type(StrBytes::from_static_str(kind))
            .with_match_type(match_type)
            .with_match(name.map(StrBytes::from_static_str))
    }

    fn client(user: Option<&str>, client_id: Option<&str>) -> QuotaEntity {
        let name = |name: &str| match name {
            "" => QuotaName::Default,
            name => QuotaName::Named(name.to_owned()),
        };
        QuotaEntity::Client {
            user: user.map(name),
            client_id: client_id.map(name),
        }
    }

    #[test]
    fn filters_find_what_they_name() {
        let all = [
            client(Some("u"), None),
            client(Some(""), None),
            client(Some("u"), Some("c")),
            client(None, Some("c")),
            QuotaEntity::Address(None),
            QuotaEntity::Address(Some(std::net::Ipv6Addr::LOCALHOST.into())),
        ];
        for (components, strict, found) in [
            (vec![], false, vec![0, 1, 2, 3, 4, 5]),
            (vec![], true, vec![]),
            (vec![component("user", 0, Some("u"))], false, vec![0, 2]),
            (vec![component("user", 0, Some("u"))], true, vec![0]),
            (vec![component("user", 1, None)], true, vec![1]),
            (vec![component("user", 2, None)], true, vec![0, 1]),
            (vec![component("client-id", 2, None)], false, vec![2, 3]),
            (
                vec![component("client-id", 2, None), component("user", 2, None)],
                true,
                vec![2],
            ),
            (vec![component("ip", 2, None)], false, vec![4, 5]),
            (vec![component("ip", 0, Some("10.0.0.1"))], false, vec![]),
            (vec![component("ip", 0, Some("0:0::0001"))], true, vec![5]),
        ] {
            let filter = filter(components).unwrap();
            let places = (0..all.len()).filter(|place| is_wanted(&filter, strict, &all[*place]));
            assert_eq!(places.collect::<Vec<_>>(), found, "{filter:?} {strict}");
        }
    }

    #[test]
    fn filters_that_contradict_themselves_are_refused() {
        for (components, code) in [
            (vec![component("", 2, None)], 42),
            (vec![component("group", 2, None)], 35),
            (vec![component("user", 0, None)], 42),
            (vec![component("user", 1, Some("u"))], 42),
            (vec![component("user", 2, Some("u"))], 42),
            (vec![component("user", 3, None)], 42),
            (
                vec![component("user", 1, None), component("user", 2, None)],
                42,
            ),
            (
                vec![component("user", 2, None), component("ip", 2, None)],
                42,
            ),
        ] {
            assert_eq!(filter(components).unwrap_err().code.code(), code);
        }
    }
}
