//! [`Durability`]: when what was written is synced.

/// When a write counts: what a power cut of this machine alone may take back. A killed process
/// loses nothing in any mode.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Durability {
    /// Answered once synced. The default.
    #[default]
    Fsync,
    /// Answered once written; synced behind the answers, as soon as either limit is reached.
    Interval {
        /// Bytes written and not synced.
        bytes: u64,
        /// Age of the oldest of them, milliseconds.
        ms: u64,
    },
    /// Answered once written; the operating system decides when it reaches the disk.
    Os,
}

impl Durability {
    /// [`Durability::Interval`] with its usual limits: 256 KiB and 100 ms.
    #[must_use]
    pub fn interval() -> Durability {
        Durability::Interval {
            bytes: 256 << 10,
            ms: 100,
        }
    }

    /// Whether answers may come before the sync.
    #[must_use]
    pub fn is_relaxed(self) -> bool {
        self != Durability::Fsync
    }
}
