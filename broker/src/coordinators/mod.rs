//! Coordinators on real nodes: state machines that the partitions of internal topics stand for.
//!
//! On every replica of such a partition a follower ([`follower`]) replays what is committed, so that
//! a new leader is warm. Where the partition is led, a clone of the follower's instance leads
//! ([`leading`]): it takes commands, appends the records of each call as one batch, and answers when
//! that is committed. The rules that all this keeps stand in [`coordinator::driver`].
//!
//! A leading instance appends ahead of what is committed, each batch at the offset where the one
//! before it will end, on condition that the log ends there. Whatever goes wrong, the instance is
//! thrown away and another one begins from what is committed. What it had appended can then land in
//! its place or nowhere, never behind what others wrote.
//!
//! Nothing here knows what a coordinator is for; [`Kind`] says that, for groups in `groups.rs`.

mod batch;
mod context;
mod desks;
mod follower;
mod groups;
mod host;
mod internal_topic;
mod leading;
mod reads;
mod reign;
mod replies;
#[cfg(test)]
mod tests;
mod time;
mod timers;

use std::collections::BTreeSet;
use std::sync::Arc;

use coordinator::Coordinator;

pub(crate) use self::groups::{GroupCoordinators, GroupKind};
use crate::Broker;
pub(crate) use desks::Coordinators;
pub(crate) use internal_topic::{is_internal, refuse_internal};
pub use replies::{CoordinatorError, PendingReply};

/// What the runtime needs to know of one kind of coordinators.
pub(crate) trait Kind: Send + Sync + 'static {
    /// The state machine.
    type State: Coordinator<
            Command: Send,
            Response: Send,
            Record: Send + Sync,
            Timer: Send,
            Context: Send + Sync,
        > + Send;

    /// The internal topic whose partitions the coordinators are.
    const TOPIC: &'static str;

    /// An instance without any record.
    fn fresh(&self) -> Self::State;

    /// Whether a command may append something. While the disk has no room such commands are refused
    /// and the others answered.
    fn may_append(command: &Command<Self>) -> bool;

    /// What the instances see of the world, no older than what this node has told anybody. The same
    /// `Arc` as long as nothing has changed that matters to them.
    fn context(&self, broker: &Broker) -> Arc<Context<Self>>;

    /// What an instance is to be told that saw `before` and will see `now`, in order.
    fn news(&self, before: &Context<Self>, now: &Context<Self>) -> Vec<Command<Self>>;

    /// Things that the instance remembers something of and that are not in this context.
    fn missing(&self, state: &Self::State, context: &Context<Self>) -> BTreeSet<String>;

    /// What to tell an instance about those of `missing` that are not in a newer context either: they
    /// went while nobody led.
    fn forget(&self, missing: BTreeSet<String>, now: &Context<Self>) -> Option<Command<Self>>;
}

type Context<K> = <<K as Kind>::State as Coordinator>::Context;
type Command<K> = <<K as Kind>::State as Coordinator>::Command;
type Response<K> = <<K as Kind>::State as Coordinator>::Response;
