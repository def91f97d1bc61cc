//! Tests inside the crate: openraft's suite over our store, and groups of several replicas over an
//! in-process network, the thirty checks of checkpoints older than what is applied among them.

mod checks;
mod cluster;
mod failover;
#[path = "../ledger/mod.rs"]
mod ledger;
mod network;
mod suite;
