//! Which call a fault strikes.

use std::sync::atomic::{AtomicU64, Ordering};

use jepsen_control::control::Word;

use crate::state::Shared;
use crate::sys;

/// What a sync does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SyncFate {
    Works,
    Fails,
    Lies,
}

/// What a write does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WriteFate {
    Works,
    Fails,
    /// There is no space but what the file has already.
    Full,
    Short,
}

impl Shared {
    /// Decides over a sync; a slow disk makes it wait first.
    pub(crate) fn sync_fate(&self) -> SyncFate {
        let delay_ms = self.setting(Word::SyncDelayMs);
        if delay_ms > 0 {
            self.count(Word::SyncDelays);
            sys::sleep_ms(delay_ms);
        }
        let fate = match self.setting(Word::SyncFault) {
            1 => SyncFate::Fails,
            2 => SyncFate::Lies,
            _ => return SyncFate::Works,
        };
        if !strikes(&self.sync_ticks, self.setting(Word::SyncEvery)) {
            return SyncFate::Works;
        }
        self.count(match fate {
            SyncFate::Lies => Word::SyncLies,
            _ => Word::SyncErrors,
        });
        fate
    }

    /// Decides over a write of `want` bytes; who is struck counts it.
    pub(crate) fn write_fate(&self) -> WriteFate {
        let fate = match self.setting(Word::WriteFault) {
            1 => WriteFate::Fails,
            2 => return WriteFate::Full,
            3 => WriteFate::Short,
            _ => return WriteFate::Works,
        };
        if strikes(&self.write_ticks, self.setting(Word::WriteEvery)) {
            fate
        } else {
            WriteFate::Works
        }
    }

    /// Whether the disk is full.
    pub(crate) fn is_full(&self) -> bool {
        self.setting(Word::WriteFault) == 2
    }
}

fn strikes(ticks: &AtomicU64, every: u64) -> bool {
    let tick = ticks.fetch_add(1, Ordering::Relaxed) + 1;
    every <= 1 || tick.is_multiple_of(every)
}
