//! Classic groups: members join, the leader among them assigns.

mod live;

pub(crate) use live::Live;

use crate::record::ClassicValue;

/// The hard state of a classic group: what the log says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassicGroup {
    pub(crate) value: ClassicValue,
}

/// The timers of a classic group.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClassicTimer {
    /// A member was silent for its session timeout.
    Session {
        /// The member.
        member_id: String,
    },
    /// A member that got an id did not come back with it.
    Pending {
        /// The id.
        member_id: String,
    },
    /// The rebalance is over for those that did not join.
    Join,
    /// The rebalance is over for those that did not sync.
    Sync,
}
