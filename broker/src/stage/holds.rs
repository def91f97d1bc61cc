//! [`Holds`]: while a checkpoint of another node is taken over, files that the local state names
//! must stay.
//!
//! The manifest that is installed in the end names local segments as they were when it was begun.
//! Compaction may have replaced them since: the old files are not deleted before that is over, and
//! a checkpoint made meanwhile does not count.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Who holds a shard's files. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Holds {
    counts: Arc<Mutex<Counts>>,
}

#[derive(Debug, Default)]
struct Counts {
    held: usize,
    /// How many there ever were.
    begun: u64,
}

/// Holds the files until it is dropped.
#[derive(Debug)]
pub(crate) struct Hold {
    holds: Holds,
}

impl Holds {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to hold them.
    pub(crate) fn hold(&self) -> Hold {
        let mut counts = self.counts();
        counts.held += 1;
        counts.begun += 1;
        Hold {
            holds: self.clone(),
        }
    }

    /// `None` while somebody holds them; else a number that is another one when somebody has held
    /// them since.
    pub(crate) fn none_since(&self) -> Option<u64> {
        let counts = self.counts();
        (counts.held == 0).then_some(counts.begun)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.holds.counts().held -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_held_meanwhile_shows() {
        let holds = Holds::default();
        let before = holds.none_since();
        assert!(before.is_some());
        let (first, second) = (holds.hold(), holds.clone().hold());
        assert_eq!(holds.none_since(), None);
        drop(first);
        assert_eq!(holds.none_since(), None);
        drop(second);
        assert!(holds.none_since().is_some());
        assert_ne!(holds.none_since(), before);
    }
}
