//! What requests use of their client's quotas, and what quotas are called on the wire.
//!
//! KIP-13 (bytes of produces and fetches), KIP-219 (answer at once, then mute). A produce is carried
//! out whatever it uses; a fetch of who has used too much is answered with nothing, as in Kafka, or
//! a client would read on with a connection after another. Every client is the user `ANONYMOUS`, as in Kafka, until clients authenticate.

use std::sync::Arc;

use broker::catalogue::{MUTATION_PARTS, QuotaEntity, QuotaKey, QuotaName};
use broker::{Broker, QuotaStanding};
use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::protocol::StrBytes;

use super::{Call, Context, Refusal};
use crate::codec::{Frame, LENGTH_BYTES};
use crate::session::Outcome;
use crate::throttle::Throttle;

/// Who clients are that did not authenticate.
const ANONYMOUS: &str = "ANONYMOUS";

/// The quota of changes of partitions.
const MUTATIONS: QuotaKey = QuotaKey::ControllerMutationRate;

/// Types of entities.
const USER: &str = "user";
const CLIENT_ID: &str = "client-id";
const IP: &str = "ip";

/// A client as quotas see it.
#[derive(Debug, Clone)]
pub(super) struct QuotaClient {
    client_id: String,
}

impl QuotaClient {
    /// The client that calls itself this; a client id need not be UTF-8.
    pub(super) fn new(client_id: Option<&Bytes>) -> QuotaClient {
        let client_id = client_id.map(|id| String::from_utf8_lossy(id).into_owned());
        QuotaClient {
            client_id: client_id.unwrap_or_default(),
        }
    }

    /// Counts what the client has used and mutes its connection when that was too much. Answers
    /// what the client is told, in milliseconds.
    pub(super) fn charge(&self, context: &Context, key: QuotaKey, bytes: usize) -> i32 {
        let (broker, throttle) = (&context.broker, &context.throttle);
        let amount = u64::try_from(bytes).unwrap_or(u64::MAX);
        let wait_ms = broker.use_quota(key, ANONYMOUS, &self.client_id, amount);
        throttle.mute(wait_ms, broker.clock().monotonic_ms())
    }
}

/// What fetches of one connection use of their client's quota.
#[derive(Debug, Clone)]
pub(super) struct FetchMeter {
    broker: Broker,
    throttle: Arc<Throttle>,
    client: QuotaClient,
}

impl FetchMeter {
    /// Of this client.
    pub(super) fn new(context: &Context, client: QuotaClient) -> FetchMeter {
        FetchMeter {
            broker: context.broker.clone(),
            throttle: Arc::clone(&context.throttle),
            client,
        }
    }

    /// Most bytes of one answer; no more are read than may be used at once (Kafka's rule).
    pub(super) fn bytes_max(&self) -> usize {
        let standing = self.standing();
        standing.map_or(usize::MAX, |standing| {
            usize::try_from(standing.at_once_max).unwrap_or(usize::MAX)
        })
    }

    /// Whether the client has used too much already, on whatever connection: then it gets nothing,
    /// and its connection is muted. Gives what it is told, in milliseconds.
    pub(super) fn refuse(&self) -> Option<i32> {
        let wait_ms = self.standing()?.wait_ms;
        let now_ms = self.broker.clock().monotonic_ms();
        (wait_ms > 0).then(|| self.throttle.mute(wait_ms, now_ms))
    }

    /// Counts an answer, and says in it how long the client is to wait after it.
    pub(super) fn charge(&self, call: Call, outcome: Outcome) -> Outcome {
        match outcome {
            Outcome::Answer(frame) => {
                let bytes = frame.iter().map(Bytes::len).sum::<usize>();
                let amount = u64::try_from(bytes).unwrap_or(u64::MAX);
                let (key, client_id) = (QuotaKey::ConsumerByteRate, &self.client.client_id);
                let wait_ms = self.broker.use_quota(key, ANONYMOUS, client_id, amount);
                let now_ms = self.broker.clock().monotonic_ms();
                let told_ms = self.throttle.mute(wait_ms, now_ms);
                Outcome::Answer(with_throttle_time(call, frame, told_ms))
            }
            Outcome::Silent | Outcome::Close => outcome,
        }
    }

    fn standing(&self) -> Option<QuotaStanding> {
        let (key, client_id) = (QuotaKey::ConsumerByteRate, &self.client.client_id);
        self.broker.quota_standing(key, ANONYMOUS, client_id)
    }
}

/// What a request that creates or deletes partitions uses of its client's quota (KIP-599).
pub(super) struct MutationMeter<'a> {
    context: &'a Context,
    client: &'a QuotaClient,
    is_strict: bool,
    wait_ms: u64,
}

impl<'a> MutationMeter<'a> {
    /// A strict one refuses what comes while too much is used already; any other lets it pass, and
    /// mutes the connection of older clients, which know of no such refusal.
    pub(super) fn new(
        context: &'a Context,
        client: &'a QuotaClient,
        is_strict: bool,
    ) -> MutationMeter<'a> {
        MutationMeter {
            context,
            client,
            is_strict,
            wait_ms: 0,
        }
    }

    /// Whether there is anything to count.
    pub(super) fn is_limited(&self) -> bool {
        self.standing().is_some()
    }

    /// Counts so many partitions, or refuses them.
    pub(super) fn admit(&mut self, partitions: usize) -> Result<(), Refusal> {
        let Some(standing) = self.standing() else {
            return Ok(());
        };
        if self.is_strict && standing.wait_ms > 0 {
            self.wait_ms = self.wait_ms.max(standing.wait_ms);
            return Err(Refusal::new(
                ResponseError::ThrottlingQuotaExceeded,
                "the client has created and deleted more partitions than its quota allows",
            ));
        }
        let partitions = u64::try_from(partitions).unwrap_or(u64::MAX);
        let amount = partitions.saturating_mul(MUTATION_PARTS);
        let client_id = &self.client.client_id;
        let wait_ms = (self.context.broker).use_quota(MUTATIONS, ANONYMOUS, client_id, amount);
        if !self.is_strict {
            self.wait_ms = self.wait_ms.max(wait_ms);
        }
        Ok(())
    }

    /// Mutes the connection if that is due. Gives what the client is told, in milliseconds.
    pub(super) fn finish(self) -> i32 {
        let now_ms = self.context.broker.clock().monotonic_ms();
        self.context.throttle.mute(self.wait_ms, now_ms)
    }

    fn standing(&self) -> Option<QuotaStanding> {
        let client_id = &self.client.client_id;
        (self.context.broker).quota_standing(MUTATIONS, ANONYMOUS, client_id)
    }
}

/// The answer to a fetch with another throttle time, which is the first field of its body.
fn with_throttle_time(call: Call, mut frame: Frame, told_ms: i32) -> Frame {
    let tags = usize::from(call.spec.has_flexible_response_header(call.version));
    let at = LENGTH_BYTES + 4 + tags;
    let Some(head) = frame
        .first_mut()
        .filter(|head| told_ms > 0 && head.len() >= at + 4)
    else {
        return frame;
    };
    let mut changed = BytesMut::with_capacity(head.len());
    changed.put_slice(&head[..at]);
    changed.put_i32(told_ms);
    changed.put_slice(&head[at + 4..]);
    *head = changed.freeze();
    frame
}

/// An entity as a request names it: types, each with a name or without one for the default.
pub(super) fn entity<'a>(
    parts: impl Iterator<Item = (&'a StrBytes, Option<&'a StrBytes>)>,
) -> Result<QuotaEntity, Refusal> {
    let (mut user, mut client_id, mut address) = (None, None, None);
    for (kind, name) in parts {
        let place = match kind.as_str() {
            USER => &mut user,
            CLIENT_ID => &mut client_id,
            IP => &mut address,
            other => return Err(Refusal::request(&format!("no type of entity is {other:?}"))),
        };
        if name.is_some_and(|name| name.is_empty()) {
            return Err(Refusal::request(&format!("the name of {kind} is empty")));
        }
        let name = name.map_or(QuotaName::Default, |name| {
            QuotaName::Named(name.to_string())
        });
        if place.replace(name).is_some() {
            return Err(Refusal::request(&format!("{kind} is named more than once")));
        }
    }
    match (address, user.is_some() || client_id.is_some()) {
        (None, true) => Ok(QuotaEntity::Client { user, client_id }),
        (None, false) => Err(Refusal::request("no entity is named")),
        (Some(_), true) => Err(Refusal::request("ip goes with no other type of entity")),
        (Some(QuotaName::Default), false) => Ok(QuotaEntity::Address(None)),
        (Some(QuotaName::Named(text)), false) => match text.parse::<std::net::IpAddr>() {
            Ok(address) => Ok(QuotaEntity::Address(Some(address.to_canonical()))),
            Err(_) => Err(Refusal::request(&format!("{text:?} is no IP address"))),
        },
    }
}

/// An entity's types and names as they are told; no name stands for the default.
pub(super) fn parts(entity: &QuotaEntity) -> Vec<(&'static str, Option<String>)> {
    let told = |name: &QuotaName| match name {
        QuotaName::Default => None,
        QuotaName::Named(name) => Some(name.clone()),
    };
    match entity {
        QuotaEntity::Client { user, client_id } => {
            let user = user.iter().map(|name| (USER, told(name)));
            let client_id = client_id.iter().map(|name| (CLIENT_ID, told(name)));
            user.chain(client_id).collect()
        }
        QuotaEntity::Address(address) => vec![(IP, address.map(|address| address.to_string()))],
    }
}

/// Whether a type of entity exists.
pub(super) fn is_entity_type(kind: &str) -> bool {
    [USER, CLIENT_ID, IP].contains(&kind)
}

/// Whether a type of entity is that of addresses, which goes with no other.
pub(super) fn is_address_type(kind: &str) -> bool {
    kind == IP
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api_versions::ApiSpec;

    fn read(named: &[(&'static str, Option<&'static str>)]) -> Result<QuotaEntity, Refusal> {
        let named: Vec<(StrBytes, Option<StrBytes>)> = named
            .iter()
            .map(|(kind, name)| {
                let name = name.map(StrBytes::from_static_str);
                (StrBytes::from_static_str(kind), name)
            })
            .collect();
        entity(named.iter().map(|(kind, name)| (kind, name.as_ref())))
    }

    #[test]
    fn entities_are_told_as_they_are_named() {
        for named in [
            vec![("user", Some("u"))],
            vec![("user", None)],
            vec![("user", Some("u")), ("client-id", None)],
            vec![("client-id", Some("c"))],
            vec![("ip", None)],
            vec![("ip", Some("10.0.0.1"))],
            vec![("ip", Some("::1"))],
        ] {
            let told = parts(&read(&named).unwrap());
            let told: Vec<_> = told
                .iter()
                .map(|(kind, name)| (*kind, name.as_deref()))
                .collect();
            assert_eq!(told, named);
        }
        assert_eq!(
            read(&[("ip", Some("::ffff:10.0.0.1"))]).unwrap(),
            read(&[("ip", Some("10.0.0.1"))]).unwrap()
        );
    }

    #[test]
    fn entities_that_cannot_be_are_refused() {
        for named in [
            vec![],
            vec![("group", Some("g"))],
            vec![("user", Some(""))],
            vec![("user", None), ("user", Some("u"))],
            vec![("ip", None), ("user", None)],
            vec![("ip", Some("somewhere.example"))],
        ] {
            let refusal = read(&named).unwrap_err();
            assert_eq!(refusal.code.code(), 42, "{named:?}");
        }
    }

    #[test]
    fn the_throttle_time_is_put_where_the_answer_has_it() {
        for (version, at) in [(4, 8), (11, 8), (12, 9), (17, 9)] {
            let call = Call {
                spec: ApiSpec::of_key(1).unwrap(),
                version,
                correlation_id: 7,
            };
            let answer = kafka_protocol::messages::FetchResponse::default();
            let Outcome::Answer(plain) = call.answer(&answer) else {
                panic!("not answered")
            };
            let Outcome::Answer(expected) = call.answer(&answer.with_throttle_time_ms(0x0102_0304))
            else {
                panic!("not answered")
            };
            let patched = with_throttle_time(call, plain.clone(), 0x0102_0304);
            assert_eq!(patched.concat(), expected.concat(), "version {version}");
            assert_eq!(patched.concat()[at..at + 4], [1, 2, 3, 4]);
            assert_eq!(with_throttle_time(call, plain.clone(), 0), plain);
        }
    }
}
