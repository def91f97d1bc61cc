//! The Kafka protocol: the edge that Kafka clients talk to.
//!
//! Bytes become frames (`codec`), frames are checked (`shape`) and decoded, requests are dispatched
//! in order and answered in order (`session`, run by `connection`), and each API has one handler
//! (`handlers`). What consumers need not say again with each fetch is kept in `fetch_sessions`. What
//! the protocol calls things and what the broker calls them meets in `mapping`. Which APIs there are
//! is said once, in `api_versions`. Nothing is decided here that the broker decides.

mod api_versions;
mod budget;
mod codec;
mod connection;
mod fetch_sessions;
mod handlers;
mod mapping;
mod server;
mod session;
mod shape;
mod stall;
mod throttle;

pub use server::{KafkaServer, KafkaServerConfig, KafkaServerHandle};
