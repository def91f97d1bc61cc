//! How far a long command is.

use std::io::{IsTerminal, Write};

use storage::clock::Clock;

use super::topic::counted;

/// Pause between two words on progress.
const PROGRESS_INTERVAL_MS: i64 = 1000;

/// How far it is, on standard error, when a person is looking.
pub(super) struct Progress {
    clock: Clock,
    visible: bool,
    records: i64,
    last_ms: i64,
    shown: bool,
}

impl Progress {
    pub(super) fn new(clock: &Clock) -> Progress {
        Progress {
            clock: clock.clone(),
            visible: std::io::stderr().is_terminal(),
            records: 0,
            last_ms: clock.monotonic_ms(),
            shown: false,
        }
    }

    pub(super) fn add(&mut self, records: i64) {
        self.records += records;
        let now_ms = self.clock.monotonic_ms();
        if self.visible && now_ms - self.last_ms >= PROGRESS_INTERVAL_MS {
            self.last_ms = now_ms;
            self.shown = true;
            self.write(&format!(
                "\r{} acknowledged",
                counted(self.records, "record")
            ));
        }
    }

    pub(super) fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            self.write("\r\x1b[K");
        }
    }

    fn write(&self, text: &str) {
        // Progress that cannot be shown is not missed.
        let _ = std::io::stderr().write_all(text.as_bytes());
    }
}
