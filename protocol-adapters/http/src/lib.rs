//! The cluster over HTTP: how it fares and what an operator can have done to it, as JSON.
//!
//! `model.rs` is what travels, `verdict.rs` the one sentence about it, `mapping.rs` broker terms as
//! those, `handlers/` one file a noun, `server.rs` sockets and limits. The first three are pure.
//! Any node answers for the whole cluster: what only the catalogue's leader can do, the broker
//! passes on. There is no authentication yet, so that the port belongs on an address that only
//! operators reach.

mod handlers;
mod mapping;
pub mod model;
mod server;
pub mod verdict;

pub use server::{HttpServer, HttpServerConfig, HttpServerHandle};
