//! What a call of [`crate::Groups`] hands down to the parts that decide.

use coordinator::{Effects, ReplyId};

use crate::config::GroupsConfig;
use crate::groups::{Groups, Timer};
use crate::record::Record;
use crate::response::Response;
use crate::topics::Topics;

/// One call: what it may look at, and where its effects go.
pub(crate) struct Turn<'a> {
    pub(crate) now_ms: i64,
    pub(crate) topics: &'a Topics,
    pub(crate) config: &'a GroupsConfig,
    pub(crate) effects: &'a mut Effects<Groups>,
}

impl<'a> Turn<'a> {
    pub(crate) fn new(
        (topics, config): (&'a Topics, &'a GroupsConfig),
        now_ms: i64,
        effects: &'a mut Effects<Groups>,
    ) -> Turn<'a> {
        Turn {
            now_ms,
            topics,
            config,
            effects,
        }
    }

    pub(crate) fn append(&mut self, record: Record) {
        self.effects.append(record);
    }

    pub(crate) fn answer(&mut self, reply: ReplyId, response: Response) {
        self.effects.answer(reply, response);
    }

    /// Sets a timer that fires `after_ms` from now.
    pub(crate) fn set_timer(&mut self, timer: Timer, after_ms: i64) {
        let at_ms = self.now_ms.saturating_add(after_ms.max(0));
        self.effects.set_timer(timer, at_ms);
    }

    pub(crate) fn cancel_timer(&mut self, timer: Timer) {
        self.effects.cancel_timer(timer);
    }
}
