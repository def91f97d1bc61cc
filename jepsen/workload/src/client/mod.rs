//! The clients: our own thin one, and librdkafka's behind the cargo feature `rdkafka`.
//!
//! Both send one batch at a time and say exactly what they know of it, and both poll the partitions
//! they are assigned, from positions of their own. To crash one, drop it.

pub mod admin;
pub mod assignor;
pub mod certainty;
pub mod group;
pub mod nodes;
#[cfg(feature = "rdkafka")]
pub mod rdkafka;
#[cfg(feature = "rdkafka")]
pub(crate) mod rdkafka_group;
pub mod thin;

use std::collections::BTreeMap;
use std::time::Duration;

use jepsen_check::history::{Key, Read, Value};

use crate::fault::NodeId;
use crate::random::Random;
use crate::settings::RunSettings;
use thin::ThinClient;

/// What a client is told once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientOptions {
    /// How long one operation may take.
    pub op_timeout: Duration,
    /// How long one request may take.
    pub request_timeout: Duration,
    /// How long it waits for the answer to a batch; less than the rest makes outcomes unknown.
    pub patience: Duration,
    /// Whether it produces idempotently.
    pub idempotent: bool,
    /// A value's padding is below so many bytes.
    pub padding_bytes_max: u32,
    /// The records' timestamp, in milliseconds.
    pub timestamp_ms: i64,
}

impl ClientOptions {
    /// As the settings of a run say.
    #[must_use]
    pub fn of(settings: &RunSettings, idempotent: bool) -> ClientOptions {
        ClientOptions {
            op_timeout: settings.op_timeout,
            request_timeout: settings.request_timeout,
            patience: settings.request_timeout,
            idempotent,
            padding_bytes_max: settings.padding_bytes_max,
            // Long ago, so that it is in no node's future, however wrong its clock is.
            timestamp_ms: 1_500_000_000_000,
        }
    }
}

/// What became of a send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    /// It was acknowledged, at this offset.
    Ok(i64),
    /// It certainly was not written and never will be.
    Fail(String),
    /// It may have been written, or may still.
    Info(String),
}

/// What became of a poll.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Polled {
    /// What came, of the partitions that answered.
    Ok(Vec<Read>),
    /// Nobody answered.
    Fail(String),
    /// What came is not what can have been sent.
    Damaged(String),
}

/// A client of either kind.
#[derive(Debug)]
pub enum Client {
    /// Our own.
    Thin(Box<ThinClient>),
    /// librdkafka's.
    #[cfg(feature = "rdkafka")]
    Rdkafka(Box<rdkafka::RdkafkaClient>),
}

impl Client {
    /// Takes in where nodes are now.
    pub fn set_addresses(&mut self, addresses: Vec<(NodeId, String)>) {
        match self {
            Client::Thin(client) => client.nodes.set_addresses(addresses),
            #[cfg(feature = "rdkafka")]
            Client::Rdkafka(_) => drop(addresses), // it asks the nodes it knows
        }
    }

    /// So many values make a batch at most.
    #[must_use]
    pub fn values_max(&self) -> usize {
        match self {
            Client::Thin(_) => usize::MAX,
            #[cfg(feature = "rdkafka")]
            Client::Rdkafka(_) => 1,
        }
    }

    /// Appends one batch.
    pub async fn send(&mut self, key: &Key, values: &[Value]) -> Sent {
        match self {
            Client::Thin(client) => client.send(key, values).await,
            #[cfg(feature = "rdkafka")]
            Client::Rdkafka(client) => client.send(key, values).await,
        }
    }

    /// Reads these partitions from here on.
    pub fn assign(&mut self, positions: &[(Key, i64)]) {
        match self {
            Client::Thin(client) => client.assign(positions),
            #[cfg(feature = "rdkafka")]
            Client::Rdkafka(client) => client.assign(positions),
        }
    }

    /// What has come since the last poll.
    pub async fn poll(&mut self) -> Polled {
        match self {
            Client::Thin(client) => client.poll().await,
            #[cfg(feature = "rdkafka")]
            Client::Rdkafka(client) => client.poll().await,
        }
    }

    /// Where it reads on.
    #[must_use]
    pub fn positions(&self) -> &BTreeMap<Key, i64> {
        match self {
            Client::Thin(client) => client.positions(),
            #[cfg(feature = "rdkafka")]
            Client::Rdkafka(client) => client.positions(),
        }
    }
}

/// Values with the lengths of their paddings: mostly short, sometimes up to the limit, so that
/// batches end on either side of index entries and segments.
fn padded(random: &mut Random, values: &[Value], bytes_max: u32) -> Vec<(Value, u32)> {
    let mut padding = || {
        let limit = match random.below(4) {
            0 => u64::from(bytes_max),
            _ => u64::from(bytes_max.min(100)),
        };
        u32::try_from(random.below(limit.max(1))).expect("below a number of 32 bits")
    };
    values.iter().map(|value| (*value, padding())).collect()
}
