//! One config of a broker, and where its value comes from.

use crate::{Broker, ConfigKind};

/// A config that Kafka's brokers have.
#[derive(Clone, Copy)]
pub(super) struct Row {
    pub(super) key: &'static str,
    pub(super) kind: ConfigKind,
    /// `None` stands for Kafka's null.
    pub(super) default: Option<&'static str>,
    pub(super) value: Value,
    pub(super) documentation: &'static str,
}

/// Where the value of a row comes from.
#[derive(Clone, Copy)]
pub(super) enum Value {
    /// The node's configuration.
    Node(fn(&Broker) -> Option<String>),
    /// Whoever serves the clients says it.
    Told,
    /// What is set for all brokers, for the topics that have none of their own; else the default.
    Topics,
    /// It is always the default.
    Fixed,
    /// Nothing here goes by it: it has no value.
    Unused,
}

/// A key whose value the broker was started with.
pub(super) const fn node(
    key: &'static str,
    kind: ConfigKind,
    default: Option<&'static str>,
    documentation: &'static str,
    value: fn(&Broker) -> Option<String>,
) -> Row {
    Row {
        key,
        kind,
        default,
        value: Value::Node(value),
        documentation,
    }
}

/// A key whose value the listener was started with.
pub(super) const fn told(
    key: &'static str,
    kind: ConfigKind,
    default: Option<&'static str>,
    documentation: &'static str,
) -> Row {
    Row {
        key,
        kind,
        default,
        value: Value::Told,
        documentation,
    }
}

/// A key that can be set for all brokers, and holds for the topics that have none of their own.
pub(super) const fn topics(
    key: &'static str,
    kind: ConfigKind,
    value: &'static str,
    documentation: &'static str,
) -> Row {
    Row {
        key,
        kind,
        default: Some(value),
        value: Value::Topics,
        documentation,
    }
}

/// A key that says how every node behaves.
pub(super) const fn fixed(
    key: &'static str,
    kind: ConfigKind,
    value: &'static str,
    documentation: &'static str,
) -> Row {
    Row {
        key,
        kind,
        default: Some(value),
        value: Value::Fixed,
        documentation,
    }
}

/// A key for what does not exist here.
pub(super) const fn unused(
    key: &'static str,
    kind: ConfigKind,
    documentation: &'static str,
) -> Row {
    Row {
        key,
        kind,
        default: None,
        value: Value::Unused,
        documentation,
    }
}
