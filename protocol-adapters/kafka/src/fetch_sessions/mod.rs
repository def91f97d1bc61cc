//! Incremental fetches (KIP-227): what a consumer has said of its partitions, and been told of them,
//! so that its requests and the answers carry only what is new.
//!
//! [`FetchSession`] is one session, [`SessionCache`] are all of the node and their bounds, both
//! pure; [`FetchSessions`] shares them among connections. A session belongs to no connection: who
//! knows its id and its next epoch goes on with it. Nothing is kept that a client could not say
//! again: whoever finds its session gone begins with a full fetch.
//!
//! Invariant: what the session has as told is what the client was last told of a partition, so that
//! leaving a partition out of an answer means "as before". An answer that may not have arrived ends
//! the session: its epoch is not accepted a second time.

mod cache;
#[cfg(test)]
mod cache_test;
#[cfg(test)]
mod model_test;
mod session;
#[cfg(test)]
mod session_test;
mod shared;

pub(crate) use cache::CacheLimits;
pub(crate) use session::{Ask, Ends, News, PartitionKey, Wanted};
pub(crate) use shared::{Continuity, FetchSessions, SessionName};

use cache::SessionCache;
use session::FetchSession;

/// The session id that stands for none.
pub(crate) const NO_SESSION: i32 = 0;
/// The epoch of a full fetch that would begin a session.
pub(crate) const EPOCH_FIRST: i32 = 0;
/// The epoch of a full fetch that wants no session.
pub(crate) const EPOCH_LAST: i32 = -1;

/// The epoch after this one, which is above 0: after the largest comes 1, since 0 begins a session.
fn next_epoch(epoch: i32) -> i32 {
    epoch.checked_add(1).unwrap_or(1)
}
