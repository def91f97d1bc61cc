//! A thin Kafka client: one connection, one method an API, every answer told as it is.
//!
//! It serves the command line, the tests and fault injection, so it hides nothing: no retries, no
//! metadata cache, no batching. ([`ClusterClient`] stands on it and does retry, where that is asked
//! for.) A call ends well, with a definite error (it certainly did not
//! happen), or with an unknown outcome (see [`ClientError::is_definite`]). Record batches go in
//! and out as raw bytes. Each API is spoken at one modern, flexible version; [`FrameStream`] sends
//! any bytes at all. Answers are bounded in length, and counts are checked against the bytes that
//! are there before anything is reserved for them.

pub mod api;
mod cluster;
mod connection;
pub mod consumer_protocol;
mod error;
mod error_code;
mod frame;
mod routes;
pub mod wire;

pub use cluster::{ClusterClient, ClusterOptions, Resend};
pub use connection::{ConnectOptions, Connection, PendingResponse};
pub use error::ClientError;
pub use error_code::ErrorCode;
pub use frame::FrameStream;
