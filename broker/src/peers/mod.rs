//! What nodes ask each other beside consensus: who are you, let me join, change the catalogue for
//! me, this is what I lead, give me a range of a log.
//!
//! `message.rs` holds what travels and its encoding, `service.rs` answers, `client.rs` asks.

pub(crate) mod book;
pub(crate) mod client;
pub(crate) mod message;
mod outcome;
pub(crate) mod service;
