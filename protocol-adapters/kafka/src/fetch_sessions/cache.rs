//! All fetch sessions of a node: their ids, epochs, bounds, and which one gives way. Pure: the time
//! and the seed come from outside.
//!
//! A session is taken out while a fetch works with it and put back with the answer, so that nobody
//! waits for anybody; meanwhile its slot says where it stands. When slots or bytes run out, sessions
//! that nobody has used for [`EVICTION_MS`] give way, the longest unused first, and then those older
//! than that with fewer partitions than the new one, the smallest first (Kafka's rule, KIP-227; no
//! session is privileged here, since nobody replicates by fetching).

use std::collections::BTreeMap;

use kafka_protocol::ResponseError;

use super::{FetchSession, next_epoch};

/// How long a session is safe after its last use, and after it was begun from larger ones (Kafka's
/// `MIN_INCREMENTAL_FETCH_SESSION_EVICTION_MS`).
pub(super) const EVICTION_MS: i64 = 120_000;

/// Bounds of all sessions together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CacheLimits {
    /// Sessions at the same time (Kafka's `max.incremental.fetch.session.cache.slots`); 0 for none.
    pub(crate) sessions_max: usize,
    /// Bytes that they may take, with what fetches of them take beside records.
    pub(crate) bytes_max: usize,
}

/// The sessions of a node.
#[derive(Debug)]
pub(crate) struct SessionCache {
    limits: CacheLimits,
    slots: BTreeMap<i32, Slot>,
    bytes: usize, // of all slots
    seed: u64,
    serial: u64, // of the slot made last
}

#[derive(Debug)]
struct Slot {
    serial: u64,
    epoch: i32, // of the next fetch
    by_id: bool,
    begun_ms: i64,
    used_ms: i64,
    partitions: usize,
    bytes: usize,
    session: Option<FetchSession>, // `None` while a fetch has it
}

/// The right to put a session back. The slot may be gone by then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lease {
    /// The session's id.
    pub(super) id: i32,
    serial: u64,
}

impl SessionCache {
    pub(super) fn new(limits: CacheLimits, seed: u64) -> SessionCache {
        SessionCache {
            limits,
            slots: BTreeMap::new(),
            bytes: 0,
            seed,
            serial: 0,
        }
    }

    /// Takes a session out for the fetch that continues it with this epoch, naming topics by id or
    /// by name. Errors are those of KIP-227 and KIP-516; they leave the session as it is.
    pub(super) fn take(
        &mut self,
        id: i32,
        epoch: i32,
        by_id: bool,
        now_ms: i64,
    ) -> Result<(Lease, FetchSession), ResponseError> {
        let slot = self.slots.get_mut(&id);
        let slot = slot.ok_or(ResponseError::FetchSessionIdNotFound)?;
        if slot.epoch != epoch {
            return Err(ResponseError::InvalidFetchSessionEpoch);
        }
        if slot.by_id != by_id {
            return Err(ResponseError::FetchSessionTopicIdError);
        }
        // Out already: the fetch before this one is not answered.
        let session = slot.session.take();
        let session = session.ok_or(ResponseError::InvalidFetchSessionEpoch)?;
        slot.epoch = next_epoch(epoch);
        slot.used_ms = now_ms;
        let serial = slot.serial;
        Ok((Lease { id, serial }, session))
    }

    /// Makes a slot for a new session, which is put into it later. `None` when there is no room.
    pub(super) fn reserve(
        &mut self,
        session: &FetchSession,
        by_id: bool,
        now_ms: i64,
    ) -> Option<Lease> {
        self.make_room(session, None, now_ms).then_some(())?;
        self.serial += 1;
        let id = self.new_id();
        let slot = Slot {
            serial: self.serial,
            epoch: 1,
            by_id,
            begun_ms: now_ms,
            used_ms: now_ms,
            partitions: session.len(),
            bytes: session.bytes(),
            session: None,
        };
        self.bytes += slot.bytes;
        self.slots.insert(id, slot);
        let serial = self.serial;
        Some(Lease { id, serial })
    }

    /// Counts what a session takes that is out and was changed. When there is no room for it, or
    /// its slot is gone, it has ended.
    pub(super) fn resize(&mut self, lease: Lease, session: &FetchSession, now_ms: i64) -> bool {
        if !self.has(lease) {
            return false;
        }
        if !self.make_room(session, Some(lease.id), now_ms) {
            self.remove(lease.id);
            return false;
        }
        let slot = self.slots.get_mut(&lease.id).expect("it is kept");
        self.bytes = self.bytes - slot.bytes + session.bytes();
        slot.bytes = session.bytes();
        slot.partitions = session.len();
        true
    }

    /// Puts a session back with the answer to its fetch; one whose slot is gone is dropped.
    pub(super) fn put_back(&mut self, lease: Lease, session: FetchSession, now_ms: i64) {
        if self.has(lease) {
            let slot = self.slots.get_mut(&lease.id).expect("it is there");
            assert!(slot.session.is_none(), "one fetch has a session at a time");
            slot.session = Some(session);
            slot.used_ms = now_ms;
        }
    }

    /// Ends the session that was taken out.
    pub(super) fn end(&mut self, lease: Lease) {
        if self.has(lease) {
            self.remove(lease.id);
        }
    }

    /// Ends a session, if there is one with this id; also one that a fetch has.
    pub(super) fn remove(&mut self, id: i32) {
        if let Some(slot) = self.slots.remove(&id) {
            self.bytes -= slot.bytes;
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// What they take, at most [`CacheLimits::bytes_max`].
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn has(&self, lease: Lease) -> bool {
        let slot = self.slots.get(&lease.id);
        slot.is_some_and(|slot| slot.serial == lease.serial)
    }

    /// Makes sure that there is room for this session, in its own slot (`kept`) or a new one; ends
    /// others for it only if that is enough.
    fn make_room(&mut self, session: &FetchSession, kept: Option<i32>, now_ms: i64) -> bool {
        let own = kept.and_then(|id| self.slots.get(&id));
        let mut sessions = self.slots.len() + usize::from(own.is_none());
        let mut bytes = self.bytes - own.map_or(0, |slot| slot.bytes) + session.bytes();
        let limits = self.limits;
        let has_room = |sessions: usize, bytes: usize| {
            sessions <= limits.sessions_max && bytes <= limits.bytes_max
        };
        if has_room(sessions, bytes) {
            return true;
        }
        let mut leaving = Vec::new();
        for (id, others) in self.evictable(session.len(), kept, now_ms) {
            sessions -= 1;
            bytes -= others;
            leaving.push(id);
            if has_room(sessions, bytes) {
                leaving.into_iter().for_each(|id| self.remove(id));
                return true;
            }
        }
        false
    }

    /// Who gives way to a session of so many partitions, in order, with their bytes.
    fn evictable(&self, partitions: usize, kept: Option<i32>, now_ms: i64) -> Vec<(i32, usize)> {
        let mut stale = Vec::new();
        let mut smaller = Vec::new();
        for (&id, slot) in &self.slots {
            if Some(id) == kept {
                continue;
            }
            let is_unused = slot.session.is_some();
            if is_unused && now_ms.saturating_sub(slot.used_ms) > EVICTION_MS {
                stale.push((slot.used_ms, id, slot.bytes));
            } else if slot.partitions < partitions
                && now_ms.saturating_sub(slot.begun_ms) > EVICTION_MS
            {
                smaller.push((slot.partitions, id, slot.bytes));
            }
        }
        stale.sort_unstable();
        smaller.sort_unstable();
        let stale = stale.into_iter().map(|(_, id, bytes)| (id, bytes));
        let smaller = smaller.into_iter().map(|(_, id, bytes)| (id, bytes));
        stale.chain(smaller).collect()
    }

    /// An id above 0 that no session has (SplitMix64).
    fn new_id(&mut self) -> i32 {
        loop {
            self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut word = self.seed;
            word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            let id = i32::try_from((word ^ (word >> 31)) >> 33).expect("31 bits");
            if id > 0 && !self.slots.contains_key(&id) {
                return id;
            }
        }
    }
}
