//! What a coordinator is: a state machine that a partition of a compacted internal topic stands for.
//!
//! A [`Coordinator`] takes commands and gives [`Effects`]: records to append, answers, timers. It has
//! two kinds of state. *Hard* state is changed by [`Coordinator::replay`] only, so that every replica
//! and every restart arrives at the same one from the same records. *Soft* state (who waits for an
//! answer, which timers run) lives in the leader's memory, may be changed by any call, and is empty
//! on a new leader. Nothing here knows a clock, a disk, a network, or what the commands mean.
//!
//! The rules that whoever runs a coordinator must keep are written in [`driver`], which keeps them in
//! tests, with virtual time, failed appends and changes of leader.

mod coordinator;
pub mod driver;
mod effects;
mod record;

pub use coordinator::Coordinator;
pub use effects::{Effects, Outcome, ReplyId, TimerChange};
pub use record::{Encoded, Record};
