//! The log of each partition: what is acknowledged, what is read, in which order.
//!
//! After the published definitions of Jepsen's Kafka workload. Offsets may have holes, where
//! transactions leave their marks: a hole is legitimate, so "next" always means the next offset at
//! which somebody knows a record. Every poll counts, also one whose operation failed; a send counts
//! once it is acknowledged or one of its values was read.

mod lag;
mod partition;
mod polls;
mod presence;
mod sends;

pub(crate) use lag::lags;
pub use lag::{LagPoint, lag_points};
pub(crate) use partition::{Partition, partitions};

use super::findings::Findings;
use super::limits::Limits;
use super::run::Run;

/// Judges all partitions.
pub(crate) fn check(
    run: &Run<'_>,
    partitions: &[Partition],
    limits: &Limits,
    findings: &mut Findings,
) {
    partition::check_offsets(run, partitions, findings);
    let walked = polls::check(run, partitions, limits, findings);
    presence::check(run, partitions, &walked, limits, findings);
    sends::check(run, partitions, findings);
}
