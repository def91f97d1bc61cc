//! [`TombstoneView`]: which tombstones a log has dropped, for whoever copies from it.
//!
//! A tombstone may be dropped where the log has no older record of its key left. Another replica,
//! or this one a moment ago, may still have such a record: a copy that takes that record from there
//! and what follows from here would bring it back. So pieces that are read one after the other fit
//! together only if no tombstone was dropped from one of them that a piece below it was read
//! without ([`TombstoneView::number`]).

use std::hash::{BuildHasher, RandomState};

use super::PartitionLog;
use crate::Offset;

/// What a log has dropped, at one moment. Records that newer ones have replaced do not count: the
/// newer ones are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TombstoneView {
    /// No tombstone at this offset or above was dropped. Never falls, and outlives restarts.
    pub gone_below: Offset,
    /// Another one after each change that dropped some, and after a restart: what was read under
    /// the same number lacks the same tombstones.
    pub number: u64,
}

impl TombstoneView {
    /// Of a log of which only this is known.
    pub(crate) fn new(gone_below: Offset) -> TombstoneView {
        TombstoneView {
            gone_below,
            number: RandomState::new().hash_one(gone_below),
        }
    }

    /// Some more were dropped, all below this.
    pub(crate) fn drop_below(&mut self, below: Offset) {
        *self = TombstoneView::new(self.gone_below.max(below));
    }
}

impl PartitionLog {
    /// The tombstones that this log has dropped until now.
    #[must_use]
    pub fn tombstones(&self) -> TombstoneView {
        self.memory().tombstones
    }

    /// Says that in what was appended some tombstones below this may be missing.
    pub fn note_tombstones_gone(&self, below: Offset) {
        self.memory().tombstones.drop_below(below);
    }
}
