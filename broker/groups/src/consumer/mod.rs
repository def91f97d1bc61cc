//! Consumer groups (KIP-848): members heartbeat, the coordinator assigns.
//!
//! | file | |
//! |---|---|
//! | `group` | the hard state: what the records say |
//! | `draft` | the group as it will be when the records of a call are replayed |
//! | `heartbeat`, `fence`, `describe` | ConsumerGroupHeartbeat, members that go, ConsumerGroupDescribe |
//! | `change`, `reconcile` | what follows from a heartbeat: epochs, target, the member's next step |
//! | `classic_members` | JoinGroup and the others from members of a consumer group |
//! | `convert` | from a classic group and back, while members are in it |
//! | `expressions`, `topics_hash` | what subscriptions mean for the topics that there are |
//! | `timers`, `soft` | what only the leader has |
//!
//! What keeps a partition from having two owners: a member is only assigned what no other member
//! has, and has a partition until it says that it gave it back, leaves, or is fenced.

mod change;
pub(crate) mod classic_members;
mod convert;
mod describe;
mod draft;
mod expressions;
mod fence;
mod group;
mod heartbeat;
mod offsets;
mod reconcile;
mod soft;
mod timers;
mod topics_hash;

#[cfg(test)]
mod tests;

pub(crate) use convert::{HandedMember, HandedOver};
pub(crate) use describe::describe;
pub use group::ConsumerGroup;
pub(crate) use heartbeat::heartbeat;
pub(crate) use soft::{Soft, topics_changed};
pub use timers::ConsumerTimer;
pub(crate) use timers::{lead, timer_fired};
