//! Consumer groups over the wire.

mod bad_input;
mod barrier;
mod classic;
mod consumer;
mod harness;
mod internal_topic;
mod waiting;
