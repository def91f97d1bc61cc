//! What must hold after every step, whatever is broken: looked at from outside the nodes.

use serde::Serialize;

/// An invariant that did not hold.
#[derive(Debug, Clone, Serialize)]
pub struct Violation {
    /// Which one.
    pub invariant: String,
    /// When, in microseconds since the run began.
    pub time_us: u64,
    /// The node at which it was seen.
    pub node: u32,
    /// The values.
    pub detail: String,
}
