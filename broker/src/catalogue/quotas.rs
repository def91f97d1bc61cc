//! Client quotas: what a client may use of each node, by who it is (KIP-13, KIP-546, KIP-612).
//!
//! A quota belongs to an entity: a user, a client id, both, or an address, each named or the
//! default for all that have none of their own. Only what is enforced can be set.
//!
//! ```text
//! entity  kind u8: 0 client: user name, client id name; 1 address: default u8 1, or 0 and text
//! name    u8: 0 not part of the entity, 1 the default, 2 and a text
//! quota   key u8, value u64
//! quotas  count u32, (entity, count u32, quota*)*
//! ```

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::Catalogue;
use super::machine::Outcome;
use crate::BrokerError;
use crate::wire::{Malformed, Reader, Writer};

/// Most entities that have quotas.
const ENTITIES_MAX: usize = 10_000;
/// Longest name of a user or client id that can have quotas of its own, in bytes.
pub(crate) const NAME_BYTES_MAX: usize = 1024;

/// What a quota limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QuotaKey {
    /// Bytes a second of produce requests, on each node.
    ProducerByteRate,
    /// Bytes a second of answers to fetches, on each node.
    ConsumerByteRate,
    /// New connections a second, on each node.
    ConnectionCreationRate,
    /// Partitions created and deleted a second, in [`MUTATION_PARTS`] parts of one, at each node
    /// that is asked for it.
    ControllerMutationRate,
}

/// Parts of one change of a partition, in which they are counted: such a quota need not be whole.
pub const MUTATION_PARTS: u64 = 1_000;

/// Everybody of a kind who has no quota of their own, or one of them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QuotaName {
    /// Everybody else.
    Default,
    /// This one.
    Named(String),
}

/// Whom a quota is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QuotaEntity {
    /// Clients by user, by client id, or by both.
    Client {
        /// The user; `None` when it does not matter.
        user: Option<QuotaName>,
        /// The client id; `None` when it does not matter.
        client_id: Option<QuotaName>,
    },
    /// An address; `None` for every address without a quota of its own.
    Address(Option<IpAddr>),
}

/// Quotas by entity; none has an empty map.
pub type ClientQuotas = BTreeMap<QuotaEntity, BTreeMap<QuotaKey, u64>>;

/// What to do with quotas of an entity: set them, or take them away (`None`).
pub type QuotaChanges = BTreeMap<QuotaKey, Option<u64>>;

/// Every quota that is enforced, by Kafka's name.
static KEYS: [(QuotaKey, &str); 4] = [
    (QuotaKey::ProducerByteRate, "producer_byte_rate"),
    (QuotaKey::ConsumerByteRate, "consumer_byte_rate"),
    (QuotaKey::ConnectionCreationRate, "connection_creation_rate"),
    (QuotaKey::ControllerMutationRate, "controller_mutation_rate"),
];

/// Kafka's quotas that are not enforced, and why.
static NOT_ENFORCED: [(&str, &str); 1] = [(
    "request_percentage",
    "requests have no threads whose time could be shared out",
)];

impl QuotaKey {
    /// Every quota that is enforced.
    pub fn all() -> impl Iterator<Item = QuotaKey> {
        KEYS.iter().map(|(key, _)| *key)
    }

    /// Kafka's name for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        let row = KEYS.iter().find(|(key, _)| *key == self);
        row.map(|(_, name)| *name).expect("every key has a name")
    }

    /// The quota of this name; refuses what is not enforced, with the reason.
    pub fn of_name(name: &str) -> Result<QuotaKey, BrokerError> {
        if let Some((key, _)) = KEYS.iter().find(|(_, known)| *known == name) {
            return Ok(*key);
        }
        Err(
            match NOT_ENFORCED.iter().find(|(known, _)| *known == name) {
                Some((_, why)) => invalid(format!("{name} is not enforced here: {why}")),
                None => invalid(format!("there is no quota {name}")),
            },
        )
    }

    /// The value as it is enforced, in the quota's unit; refuses what is not above 0, not whole where
    /// it must be, or too large.
    #[expect(
        clippy::cast_precision_loss,
        reason = "the protocol has no other numbers"
    )]
    pub fn checked(self, value: f64) -> Result<u64, BrokerError> {
        let name = self.name();
        let (max, below) = match self {
            QuotaKey::ProducerByteRate | QuotaKey::ConsumerByteRate => {
                (i64::MAX as u64, 2f64.powi(63))
            }
            QuotaKey::ConnectionCreationRate | QuotaKey::ControllerMutationRate => {
                (i32::MAX as u64, 2f64.powi(31))
            }
        };
        if value.is_nan() || value <= 0.0 {
            return Err(invalid(format!("{name} must be greater than 0")));
        }
        // The largest value is rounded up when it is written as a floating-point number.
        if value > below {
            return Err(invalid(format!("{name} must be at most {max}")));
        }
        let parts = self.parts();
        let (whole, max) = match parts {
            1 => (value, max),
            parts => ((value * parts as f64).round(), max * parts),
        };
        if whole.fract() > 1e-6 || whole < 1.0 {
            return Err(invalid(match parts {
                1 => format!("{name} must be a whole number"),
                parts => format!("{name} must be at least 1/{parts}"),
            }));
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it lies within 1..=2^63"
        )]
        let value = whole as u64;
        Ok(value.min(max))
    }

    /// A value as it is told.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        reason = "the protocol has no other numbers"
    )]
    pub fn told(self, value: u64) -> f64 {
        value as f64 / self.parts() as f64
    }

    fn parts(self) -> u64 {
        match self {
            QuotaKey::ControllerMutationRate => MUTATION_PARTS,
            _ => 1,
        }
    }

    /// Whether entities of this kind can have it.
    #[must_use]
    pub fn is_for(self, entity: &QuotaEntity) -> bool {
        let is_of_addresses = self == QuotaKey::ConnectionCreationRate;
        is_of_addresses == matches!(entity, QuotaEntity::Address(_))
    }
}

fn invalid(reason: String) -> BrokerError {
    BrokerError::InvalidRequest { reason }
}

/// Whether the entity and what is to be set go together.
pub(crate) fn check(entity: &QuotaEntity, changes: &QuotaChanges) -> Result<(), BrokerError> {
    if let QuotaEntity::Client { user, client_id } = entity {
        let names = [user, client_id];
        if names.iter().all(|name| name.is_none()) {
            return Err(invalid("a quota must be for somebody".to_owned()));
        }
        for name in names.into_iter().flatten() {
            match name {
                QuotaName::Named(name) if name.is_empty() => {
                    return Err(invalid("an empty name has no quota".to_owned()));
                }
                QuotaName::Named(name) if name.len() > NAME_BYTES_MAX => {
                    let reason = format!("a name with a quota has at most {NAME_BYTES_MAX} bytes");
                    return Err(invalid(reason));
                }
                QuotaName::Named(_) | QuotaName::Default => {}
            }
        }
    }
    let mut set = changes.iter().filter(|(_, value)| value.is_some());
    match set.find(|(key, _)| !key.is_for(entity)) {
        None => Ok(()),
        Some((key, _)) => Err(invalid(format!(
            "{} is not for this kind of entity",
            key.name()
        ))),
    }
}

pub(super) fn alter(
    state: &mut Catalogue,
    entity: QuotaEntity,
    changes: QuotaChanges,
) -> Result<Outcome, BrokerError> {
    check(&entity, &changes)?;
    let mut quotas = state.quotas.get(&entity).cloned().unwrap_or_default();
    for (key, value) in changes {
        match value {
            Some(value) => quotas.insert(key, value),
            None => quotas.remove(&key),
        };
    }
    let is_new = !state.quotas.contains_key(&entity);
    if is_new && !quotas.is_empty() && state.quotas.len() >= ENTITIES_MAX {
        return Err(BrokerError::PolicyViolation {
            reason: format!("at most {ENTITIES_MAX} users, client ids and addresses have quotas"),
        });
    }
    let all = Arc::make_mut(&mut state.quotas);
    match quotas.is_empty() {
        true => all.remove(&entity),
        false => all.insert(entity, quotas),
    };
    Ok(Outcome::Done)
}

fn key_code(key: QuotaKey) -> u8 {
    match key {
        QuotaKey::ProducerByteRate => 0,
        QuotaKey::ConsumerByteRate => 1,
        QuotaKey::ConnectionCreationRate => 2,
        QuotaKey::ControllerMutationRate => 3,
    }
}

fn take_key(reader: &mut Reader) -> Result<QuotaKey, Malformed> {
    let code = reader.u8()?;
    let key = QuotaKey::all().find(|key| key_code(*key) == code);
    key.ok_or_else(|| reader.malformed("a known quota"))
}

fn put_name(writer: &mut Writer, name: Option<&QuotaName>) {
    match name {
        None => writer.u8(0),
        Some(QuotaName::Default) => writer.u8(1),
        Some(QuotaName::Named(name)) => writer.u8(2).text(name),
    };
}

fn take_name(reader: &mut Reader) -> Result<Option<QuotaName>, Malformed> {
    Ok(match reader.u8()? {
        0 => None,
        1 => Some(QuotaName::Default),
        2 => Some(QuotaName::Named(reader.text()?)),
        _ => return Err(reader.malformed("a known kind of name")),
    })
}

pub(super) fn put_entity(writer: &mut Writer, entity: &QuotaEntity) {
    match entity {
        QuotaEntity::Client { user, client_id } => {
            put_name(writer.u8(0), user.as_ref());
            put_name(writer, client_id.as_ref());
        }
        QuotaEntity::Address(None) => {
            writer.u8(1).u8(1);
        }
        QuotaEntity::Address(Some(address)) => {
            writer.u8(1).u8(0).text(&address.to_string());
        }
    }
}

pub(super) fn take_entity(reader: &mut Reader) -> Result<QuotaEntity, Malformed> {
    match reader.u8()? {
        0 => Ok(QuotaEntity::Client {
            user: take_name(reader)?,
            client_id: take_name(reader)?,
        }),
        1 if reader.u8()? == 1 => Ok(QuotaEntity::Address(None)),
        1 => {
            let address = reader.text()?.parse();
            let address = address.map_err(|_| reader.malformed("an address"))?;
            Ok(QuotaEntity::Address(Some(address)))
        }
        _ => Err(reader.malformed("a known kind of entity")),
    }
}

pub(super) fn put_changes(writer: &mut Writer, changes: &QuotaChanges) {
    writer.count(changes.len());
    for (key, value) in changes {
        let writer = writer.u8(key_code(*key)).u8(u8::from(value.is_some()));
        writer.u64(value.unwrap_or_default());
    }
}

pub(super) fn take_changes(reader: &mut Reader) -> Result<QuotaChanges, Malformed> {
    let take = |reader: &mut Reader| {
        let (key, is_set) = (take_key(reader)?, reader.u8()? != 0);
        let value = reader.u64()?;
        Ok((key, is_set.then_some(value)))
    };
    (0..reader.count(10)?).map(|_| take(reader)).collect()
}

pub(super) fn put(writer: &mut Writer, state: &Catalogue) {
    writer.count(state.quotas.len());
    for (entity, quotas) in state.quotas.iter() {
        put_entity(writer, entity);
        writer.count(quotas.len());
        for (key, value) in quotas {
            writer.u8(key_code(*key)).u64(*value);
        }
    }
}

pub(super) fn take(reader: &mut Reader, state: &mut Catalogue) -> Result<(), Malformed> {
    let mut all = ClientQuotas::new();
    for _ in 0..reader.count(7)? {
        let entity = take_entity(reader)?;
        let quotas = (0..reader.count(9)?)
            .map(|_| Ok((take_key(reader)?, reader.u64()?)))
            .collect::<Result<_, Malformed>>()?;
        all.insert(entity, quotas);
    }
    state.quotas = Arc::new(all);
    Ok(())
}

#[cfg(test)]
#[path = "quotas_test.rs"]
mod tests;
