//! Consumer groups over the wire.

mod bad_input;
mod classic;
mod consumer;
mod harness;
mod waiting;
