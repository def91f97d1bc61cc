//! The bytes of one simulated file: what a reader sees now, what the platter holds, and which
//! sectors differ.
//!
//! A sector is 512 bytes and is written whole or not at all. Absent sectors read as zeros.
#![expect(
    clippy::cast_possible_truncation,
    reason = "what is counted here lies in memory, so it fits a usize"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::random::Random;

pub(super) const SECTOR_BYTES: u64 = 512;

type Sector = Arc<[u8; SECTOR_BYTES as usize]>;

#[derive(Debug, Default)]
pub(super) struct Content {
    len: u64,
    sectors: BTreeMap<u64, Sector>,
    durable_len: u64,
    durable: BTreeMap<u64, Sector>,
    /// Sectors written since the last good sync.
    dirty: BTreeSet<u64>,
    /// Sectors a failed sync left marked clean: no later sync writes them.
    doubtful: BTreeSet<u64>,
    /// Bytes this file takes of the disk's capacity.
    pub(super) allocated: u64,
    /// Open handles; while there are any, the bytes stay though the name may be gone.
    pub(super) handles: usize,
    /// Whether a name leads here now.
    pub(super) is_linked: bool,
}

impl Content {
    /// An empty file that has just been named.
    pub(super) fn linked() -> Content {
        Content {
            is_linked: true,
            ..Content::default()
        }
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn read(&self, buffer: &mut [u8], position: u64) -> usize {
        let available = self.len.saturating_sub(position);
        let count = usize::try_from(available).map_or(buffer.len(), |left| left.min(buffer.len()));
        let mut filled = 0;
        while filled < count {
            let (sector, start) = locate(position + filled as u64);
            let take = (SECTOR_BYTES as usize - start).min(count - filled);
            let out = &mut buffer[filled..filled + take];
            match self.sectors.get(&sector) {
                Some(bytes) => out.copy_from_slice(&bytes[start..start + take]),
                None => out.fill(0),
            }
            filled += take;
        }
        count
    }

    pub(super) fn write(&mut self, bytes: &[u8], position: u64) {
        let mut taken = 0;
        while taken < bytes.len() {
            let (sector, start) = locate(position + taken as u64);
            let take = (SECTOR_BYTES as usize - start).min(bytes.len() - taken);
            let piece = &bytes[taken..taken + take];
            taken += take;
            if !self.sectors.contains_key(&sector) && piece.iter().all(|byte| *byte == 0) {
                continue;
            }
            let target = self
                .sectors
                .entry(sector)
                .or_insert_with(|| Arc::new([0; SECTOR_BYTES as usize]));
            Arc::make_mut(target)[start..start + take].copy_from_slice(piece);
            self.dirty.insert(sector);
        }
        self.len = self.len.max(position + bytes.len() as u64);
    }

    pub(super) fn set_len(&mut self, len: u64) {
        if len < self.len {
            cut(&mut self.sectors, len, &mut self.dirty);
        }
        self.len = len;
    }

    pub(super) fn sync(&mut self) {
        for sector in std::mem::take(&mut self.dirty) {
            self.doubtful.remove(&sector);
            self.write_back(sector);
        }
        self.durable_len = self.len;
        cut(&mut self.durable, self.len, &mut BTreeSet::new());
    }

    /// A sync that failed: what was dirty is now taken for clean, and is in doubt.
    pub(super) fn fail_sync(&mut self) {
        self.doubtful.append(&mut self.dirty);
    }

    /// The kernel writing some dirty pages in its own time.
    pub(super) fn write_back_some(&mut self, random: &mut Random) {
        let some: Vec<u64> = self
            .dirty
            .iter()
            .copied()
            .filter(|_| random.chance(1, 3))
            .collect();
        for sector in some {
            self.write_back(sector);
        }
    }

    fn write_back(&mut self, sector: u64) {
        match self.sectors.get(&sector) {
            Some(bytes) => self.durable.insert(sector, bytes.clone()),
            None => self.durable.remove(&sector),
        };
    }

    /// Power is lost: each sector in flight got there or did not, and so did the length.
    pub(super) fn crash(&mut self, random: &mut Random) {
        let (kept, of) = [(0, 1), (1, 1), (1, 2), (1, 4), (3, 4)][random.below(5) as usize];
        let in_flight: Vec<u64> = self.dirty.union(&self.doubtful).copied().collect();
        for sector in in_flight {
            if random.chance(kept, of) {
                self.write_back(sector);
            }
        }
        let (short, long) = (
            self.durable_len.min(self.len),
            self.durable_len.max(self.len),
        );
        self.len = match random.below(3) {
            0 => short,
            1 => long,
            _ => short + random.below(long - short + 1),
        };
        cut(&mut self.durable, self.len, &mut BTreeSet::new());
        self.durable_len = self.len;
        self.sectors = self.durable.clone();
        self.dirty.clear();
        self.doubtful.clear();
        self.handles = 0;
    }

    pub(super) fn flip_bit(&mut self, bit: u64) {
        let (sector, start) = locate(bit / 8);
        for side in [&mut self.sectors, &mut self.durable] {
            let bytes = side
                .entry(sector)
                .or_insert_with(|| Arc::new([0; SECTOR_BYTES as usize]));
            Arc::make_mut(bytes)[start] ^= 1 << (bit % 8);
        }
    }
}

/// The sector that holds a position, and where in it.
fn locate(position: u64) -> (u64, usize) {
    (position / SECTOR_BYTES, (position % SECTOR_BYTES) as usize)
}

/// Drops what lies at or beyond `len` and notes the sectors that changed.
fn cut(sectors: &mut BTreeMap<u64, Sector>, len: u64, changed: &mut BTreeSet<u64>) {
    let (last, keep) = locate(len);
    let mut gone = sectors.split_off(&last);
    changed.extend(gone.keys().copied());
    if keep > 0
        && let Some(mut bytes) = gone.remove(&last)
    {
        Arc::make_mut(&mut bytes)[keep..].fill(0);
        sectors.insert(last, bytes);
    }
}
