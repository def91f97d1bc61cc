//! Listening on TCP, for every protocol adapter alike.
//!
//! Owns the socket, the accept loop, the limits (connections in total and per address), the
//! deadlines (handshake, idleness) and the task of every connection. It knows no protocol: what a
//! connection says is the business of the handler it is given. Invariant: when
//! [`ListenerHandle::shutdown`] returns, the port is free and no connection task runs any more.

mod activity;
mod limits;
mod listener;

pub use activity::Activity;
pub use listener::{Connection, Listener, ListenerConfig, ListenerHandle, Stop};
