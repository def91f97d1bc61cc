//! The trait of all coordinators.

use crate::effects::{Effects, ReplyId};
use crate::record::Record;

/// A state machine that a runtime leads on one node and replays on all. See [`crate::driver`] for
/// what the runtime promises.
///
/// A clone of an instance that was never led has the same hard state and no soft state.
pub trait Coordinator: Clone {
    /// What is asked of it.
    type Command;
    /// What it answers.
    type Response;
    /// What it remembers.
    type Record: Record;
    /// What its timers are named by.
    type Timer: Ord + Clone + std::fmt::Debug;
    /// What it needs to know of the world at each call, such as which topics there are. Never part
    /// of what `replay` sees.
    type Context: ?Sized;
    /// Its hard state, to compare replicas.
    type Hard: PartialEq + std::fmt::Debug;

    /// Takes a command. Changes soft state only; the hard state follows when the runtime replays
    /// the records, right after the call. Each reply is answered once, by this or by a later call.
    fn handle(
        &mut self,
        context: &Self::Context,
        command: Self::Command,
        reply: ReplyId,
        now_ms: i64,
        effects: &mut Effects<Self>,
    );

    /// A timer that was set has come. Changes soft state only.
    fn timer_fired(
        &mut self,
        context: &Self::Context,
        timer: Self::Timer,
        now_ms: i64,
        effects: &mut Effects<Self>,
    );

    /// Changes the hard state as the record says. Never fails and never panics: a record that does
    /// not fit is made to fit the same way everywhere.
    fn replay(&mut self, record: &Self::Record);

    /// This instance leads from now on; its hard state is that of all committed records.
    fn became_leader(&mut self, context: &Self::Context, now_ms: i64, effects: &mut Effects<Self>);

    /// The hard state.
    fn hard(&self) -> &Self::Hard;
}
