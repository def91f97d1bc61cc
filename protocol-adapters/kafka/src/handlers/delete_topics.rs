//! DeleteTopics, key 20, versions 1–6; KIP-4, KIP-516 (by id, 6), KIP-599 (quota and error messages, 5).
//!
//! A topic that the request names twice, by name or id, is refused, as is one named by both or by
//! neither. A topic named by id that does not exist is answered without a name.

use std::collections::HashMap;

use broker::TopicRef;
use broker::catalogue::Catalogue;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse, TopicName};
use storage::TopicId;

use super::quotas::{MutationMeter, QuotaClient};
use super::{Context, Refusal};
use crate::mapping;

/// First version whose answer holds messages.
const MESSAGE_VERSION_MIN: i16 = 5;
/// First version whose client knows that a quota may refuse it.
const STRICT_VERSION_MIN: i16 = 5;

/// A topic of the request; whichever it was not named by is empty.
type Named = (Option<TopicName>, TopicId);

pub(super) async fn handle(
    context: &Context,
    client: &QuotaClient,
    version: i16,
    request: DeleteTopicsRequest,
) -> DeleteTopicsResponse {
    let named: Vec<Named> = match version >= 6 {
        true => request.topics.into_iter().map(by_state).collect(),
        false => request
            .topic_names
            .into_iter()
            .map(|name| (Some(name), TopicId::NONE))
            .collect(),
    };
    let mut checked = check(named);
    let mut meter = MutationMeter::new(context, client, version >= STRICT_VERSION_MIN);
    if meter.is_limited() {
        admit(&context.broker.catalogue(), &mut meter, &mut checked);
    }
    let throttle_ms = meter.finish();
    let wanted: Vec<TopicRef> = checked
        .iter()
        .filter_map(|(_, checked)| checked.as_ref().ok().cloned())
        .collect();
    let timeout_ms = i64::from(request.timeout_ms.max(0));
    let deleted = match wanted.is_empty() {
        true => Vec::new(),
        false => context.broker.delete_topics(wanted, timeout_ms).await,
    };
    let mut deleted = deleted.into_iter();
    let responses = checked.into_iter().map(|((name, id), checked)| {
        let result = checked.and_then(|_| {
            let deleted = deleted.next().expect("one result a topic");
            deleted.map_err(|error| Refusal::controller(&error))
        });
        match result {
            Ok((name, id)) => respond(version, Some(mapping::topic_name(&name)), id),
            Err(refusal) => {
                let response = respond(version, name, id).with_error_code(refusal.code.code());
                match version >= MESSAGE_VERSION_MIN {
                    true => response.with_error_message(Some(mapping::text(refusal.message))),
                    false => response,
                }
            }
        }
    });
    DeleteTopicsResponse::default()
        .with_throttle_time_ms(throttle_ms)
        .with_responses(responses.collect())
}

/// Refuses those that may not be deleted under their client's quota. One that does not exist uses
/// nothing, and comes to its own refusal.
fn admit(
    catalogue: &Catalogue,
    meter: &mut MutationMeter<'_>,
    checked: &mut [(Named, Result<TopicRef, Refusal>)],
) {
    for (_, checked) in checked {
        let topic = match checked {
            Ok(TopicRef::Name(name)) => catalogue.topics.get(name.as_str()),
            Ok(TopicRef::Id(id)) => catalogue.topic_by_id(*id),
            Err(_) => None,
        };
        let refused = topic.and_then(|topic| meter.admit(topic.partitions.len()).err());
        if let Some(refusal) = refused {
            *checked = Err(refusal);
        }
    }
}

fn by_state(state: DeleteTopicState) -> Named {
    (state.name, TopicId(*state.topic_id.as_bytes()))
}

/// What to delete, or why not, one a distinct topic in the order of the request.
fn check(named: Vec<Named>) -> Vec<(Named, Result<TopicRef, Refusal>)> {
    let mut times: HashMap<Named, usize> = HashMap::new();
    for topic in &named {
        *times.entry(topic.clone()).or_default() += 1;
    }
    let mut checked = Vec::new();
    for topic in named {
        let Some(count) = times.remove(&topic) else {
            continue;
        };
        let result = match &topic {
            _ if count > 1 => Err(Refusal::request(
                "the request names this topic more than once",
            )),
            (Some(name), TopicId::NONE) => Ok(TopicRef::Name(name.to_string())),
            (None, TopicId::NONE) => Err(Refusal::request("neither a name nor an id is given")),
            (None, id) => Ok(TopicRef::Id(*id)),
            (Some(_), _) => Err(Refusal::request("both a name and an id are given")),
        };
        checked.push((topic, result));
    }
    checked
}

fn respond(version: i16, name: Option<TopicName>, id: TopicId) -> DeletableTopicResult {
    let response = DeletableTopicResult::default().with_name(name);
    match version >= 6 {
        true => response.with_topic_id(mapping::wire_topic_id(id)),
        false => response,
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::ResponseError;
    use kafka_protocol::protocol::StrBytes;

    use super::*;

    fn name(name: &'static str) -> Option<TopicName> {
        Some(TopicName(StrBytes::from_static_str(name)))
    }

    #[test]
    fn a_topic_is_named_once_and_by_one_of_name_and_id() {
        let id = TopicId([3; 16]);
        let checked = check(vec![
            (name("a"), TopicId::NONE),
            (name("b"), TopicId::NONE),
            (name("b"), TopicId::NONE),
            (None, id),
            (name("c"), id),
            (None, TopicId::NONE),
        ]);
        let refused = ResponseError::InvalidRequest;
        let results: Vec<_> = checked
            .into_iter()
            .map(|(_, result)| result.map_err(|refusal| refusal.code))
            .collect();
        assert_eq!(
            results,
            [
                Ok(TopicRef::Name("a".to_owned())),
                Err(refused),
                Ok(TopicRef::Id(id)),
                Err(refused),
                Err(refused),
            ]
        );
    }
}
