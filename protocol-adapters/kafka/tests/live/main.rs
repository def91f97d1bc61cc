//! The Kafka adapter in front of a live broker, over loopback, spoken to in frames.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod administration;
mod cluster;
mod config_effects;
mod configs;
mod connection;
mod fetch;
mod fetch_sessions;
mod groups;
mod harness;
mod hostile;
mod metadata;
mod moves;
mod offsets;
mod produce;
mod quotas;
mod three;
mod topics;
