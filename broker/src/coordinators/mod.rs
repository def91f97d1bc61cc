//! Coordinators on real nodes: state machines that partitions of internal topics stand for.

mod groups;
mod replies;

pub use replies::{CoordinatorError, PendingReply};
