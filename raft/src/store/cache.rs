//! Recent entries of one shard, typed, in memory.
//!
//! A contiguous run of the log that ends at its last entry, bounded in bytes: the oldest go first.
//! It is only a shortcut. Whatever is not here is in the journal, so nothing may depend on how much
//! it holds.

use std::collections::VecDeque;

use crate::types::Entry;

#[derive(Debug)]
pub(super) struct Cache {
    entries: VecDeque<(Entry, usize)>,
    /// Sum over `entries`.
    bytes: usize,
    bytes_max: usize,
}

impl Cache {
    pub(super) fn new(bytes_max: usize) -> Cache {
        Cache {
            entries: VecDeque::new(),
            bytes: 0,
            bytes_max,
        }
    }

    /// Sets the limit; what is held above it goes with the next entry that comes.
    pub(super) fn limit(&mut self, bytes_max: usize) {
        self.bytes_max = bytes_max;
    }

    /// Index of the first entry held.
    fn first(&self) -> Option<u64> {
        self.entries.front().map(|(entry, _)| entry.log_id.index)
    }

    /// Adds the log's new last entry.
    pub(super) fn push(&mut self, entry: Entry, bytes: usize) {
        let next = self.entries.back().map(|(last, _)| last.log_id.index + 1);
        if next.is_some_and(|next| next != entry.log_id.index) {
            self.clear();
        }
        self.bytes += bytes;
        self.entries.push_back((entry, bytes));
        while self.bytes > self.bytes_max && self.entries.len() > 1 {
            self.drop_first();
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes >= self.bytes_max
    }

    /// The entry at `index`, when it is held.
    pub(super) fn entry(&self, index: u64) -> Option<&(Entry, usize)> {
        let offset = index.checked_sub(self.first()?)?;
        self.entries.get(usize::try_from(offset).ok()?)
    }

    /// Forgets entries after `last_kept`, all when there is none.
    pub(super) fn truncate_after(&mut self, last_kept: Option<u64>) {
        while self
            .entries
            .back()
            .is_some_and(|(entry, _)| Some(entry.log_id.index) > last_kept)
        {
            if let Some((_, bytes)) = self.entries.pop_back() {
                self.bytes -= bytes;
            }
        }
    }

    /// Forgets entries up to and including `upto`.
    pub(super) fn drop_upto(&mut self, upto: u64) {
        while self.first().is_some_and(|first| first <= upto) {
            self.drop_first();
        }
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.bytes = 0;
    }

    fn drop_first(&mut self) {
        if let Some((_, bytes)) = self.entries.pop_front() {
            self.bytes -= bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{EntryPayload, LogId};

    fn entry(index: u64) -> Entry {
        Entry {
            log_id: LogId::new_term_index(1, index),
            payload: EntryPayload::Blank,
        }
    }

    fn held(cache: &Cache) -> Vec<u64> {
        (0..100)
            .filter(|index| cache.entry(*index).is_some())
            .collect()
    }

    #[test]
    fn the_oldest_go_first_and_the_last_always_stays() {
        let mut cache = Cache::new(25);
        (3..10).for_each(|index| cache.push(entry(index), 10));
        assert_eq!(held(&cache), [8, 9]);
        cache.push(entry(10), 1_000);
        assert_eq!(held(&cache), [10]);
    }

    #[test]
    fn a_jump_in_the_log_starts_anew() {
        let mut cache = Cache::new(1_000);
        (3..10).for_each(|index| cache.push(entry(index), 10));
        cache.push(entry(20), 10);
        assert_eq!(held(&cache), [20]);
    }

    #[test]
    fn both_ends_can_be_cut() {
        let mut cache = Cache::new(1_000);
        (3..10).for_each(|index| cache.push(entry(index), 10));
        cache.drop_upto(4);
        cache.truncate_after(Some(7));
        assert_eq!(held(&cache), [5, 6, 7]);
        cache.truncate_after(None);
        assert_eq!((held(&cache), cache.bytes), (vec![], 0));
    }
}
