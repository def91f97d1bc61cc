//! [`World`]: what differs between real nodes and simulated ones.

use crate::fault::{Fault, NodeId};

/// The nodes under test and the ways to break them.
#[allow(async_fn_in_trait, reason = "used within the workspace, on one thread")]
pub trait World {
    /// What tells that a fault could not be made, or that its effect was not seen.
    type Error: std::fmt::Display;

    /// The nodes that are members now.
    fn nodes(&self) -> Vec<NodeId>;

    /// Where a client reaches each node's Kafka listener: `host:port`, from where that client stands.
    fn kafka_addresses(&self, client: u32) -> Vec<(NodeId, String)>;

    /// Since the run began, in microseconds.
    fn now_us(&self) -> u64;

    /// Begins a fault and waits until its effect is seen. Says how it was seen.
    async fn begin(&self, fault: &Fault) -> Result<String, Self::Error>;

    /// Undoes a fault and waits until its effect is gone.
    async fn end(&self, fault: &Fault) -> Result<String, Self::Error>;

    /// Undoes everything, whatever is broken, and starts every node that does not run.
    async fn heal(&self) -> Result<(), Self::Error>;

    /// What nodes use: node, resident KiB, descriptors. Empty where that means nothing.
    fn resources(&self) -> Vec<(NodeId, u64, u64)>;
}
