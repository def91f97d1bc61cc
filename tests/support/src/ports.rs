//! Ports for nodes that must find one another again after a restart, so that 0 will not do.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the system's range for outgoing connections: a port of that range may be taken by some
/// connection just when the node that had it starts again.
const LOWEST: u16 = 14_000;
const COUNT: u16 = 16_000;

/// A port of 127.0.0.1 on which nobody listens now. Two calls of one process never give the same
/// one before they have gone through all.
///
/// # Panics
///
/// When every port is taken.
#[must_use]
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Processes begin at different places.
    let begin = u16::try_from(std::process::id() * 37 % u32::from(COUNT)).expect("in range");
    for _ in 0..COUNT {
        let at = NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
        let port = LOWEST + (begin + at) % COUNT;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free");
}
