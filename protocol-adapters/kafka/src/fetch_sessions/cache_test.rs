//! All sessions: ids, epochs, bounds, and which ones give way.

use kafka_protocol::ResponseError as Code;

use super::cache::{EVICTION_MS, Lease, SessionCache};
use super::*;
use crate::mapping::{self, TopicKey};

const NO_BOUND: usize = usize::MAX;

fn cache(sessions_max: usize, bytes_max: usize) -> SessionCache {
    let limits = CacheLimits {
        sessions_max,
        bytes_max,
    };
    SessionCache::new(limits, 7)
}

fn partitions(range: std::ops::Range<i32>) -> Vec<Wanted> {
    let wanted = |index| Wanted {
        key: PartitionKey {
            topic: TopicKey::Name(mapping::topic_name("t")),
            index,
        },
        ask: Ask {
            offset: 0,
            current_leader_epoch: -1,
            last_fetched_epoch: -1,
            bytes_max: 1,
        },
    };
    range.map(wanted).collect()
}

fn session(count: i32) -> FetchSession {
    let all = partitions(0..count);
    FetchSession::begin(&all, &vec![News::Error; all.len()]).unwrap()
}

/// Begins a session of so many partitions.
fn begin(cache: &mut SessionCache, count: i32, now_ms: i64) -> Option<i32> {
    let session = session(count);
    let lease = cache.reserve(&session, false, now_ms)?;
    cache.put_back(lease, session, now_ms);
    Some(lease.id)
}

/// One fetch of a session.
fn fetch(cache: &mut SessionCache, id: i32, epoch: i32, now_ms: i64) -> Result<Lease, Code> {
    let (lease, session) = cache.take(id, epoch, false, now_ms)?;
    cache.put_back(lease, session, now_ms);
    Ok(lease)
}

fn is_there(cache: &mut SessionCache, id: i32) -> bool {
    // A wrong epoch changes nothing.
    fetch(cache, id, -7, 0) != Err(Code::FetchSessionIdNotFound)
}

#[test]
fn epochs_count_from_1_and_wrap_to_1() {
    let mut cache = cache(10, NO_BOUND);
    let id = begin(&mut cache, 1, 0).unwrap();
    for epoch in 1..5 {
        for wrong in [0, -1, -2, epoch - 1, epoch + 1, i32::MAX, i32::MIN] {
            let refused = fetch(&mut cache, id, wrong, 0);
            assert_eq!(refused, Err(Code::InvalidFetchSessionEpoch), "{wrong}");
        }
        assert!(fetch(&mut cache, id, epoch, 0).is_ok());
    }
    assert_eq!(next_epoch(i32::MAX - 1), i32::MAX);
    assert_eq!(next_epoch(i32::MAX), 1);
}

#[test]
fn unknown_ids_and_the_wrong_kind_of_topic_are_refused_and_change_nothing() {
    let mut cache = cache(10, NO_BOUND);
    let id = begin(&mut cache, 1, 0).unwrap();
    for unknown in [0, -1, id.wrapping_add(1), i32::MIN, i32::MAX] {
        let refused = fetch(&mut cache, unknown, 1, 0);
        assert_eq!(refused, Err(Code::FetchSessionIdNotFound), "{unknown}");
    }
    let refused = cache.take(id, 1, true, 0).map(|_| ());
    assert_eq!(refused, Err(Code::FetchSessionTopicIdError));
    assert!(fetch(&mut cache, id, 1, 0).is_ok());
}

#[test]
fn a_session_that_a_fetch_has_is_given_to_no_other() {
    let mut cache = cache(10, NO_BOUND);
    let id = begin(&mut cache, 1, 0).unwrap();
    let (lease, session) = cache.take(id, 1, false, 0).unwrap();
    for epoch in [1, 2] {
        let refused = cache.take(id, epoch, false, 0).map(|_| ());
        assert_eq!(refused, Err(Code::InvalidFetchSessionEpoch));
    }
    cache.put_back(lease, session, 0);
    assert!(fetch(&mut cache, id, 2, 0).is_ok());
    // One whose answer is lost ends.
    let (lease, _) = cache.take(id, 3, false, 0).unwrap();
    cache.end(lease);
    assert!(!is_there(&mut cache, id));
    assert_eq!((cache.len(), cache.bytes()), (0, 0));
}

#[test]
fn a_session_that_was_ended_while_it_was_out_does_not_come_back() {
    let mut cache = cache(10, NO_BOUND);
    let id = begin(&mut cache, 1, 0).unwrap();
    let (lease, session) = cache.take(id, 1, false, 0).unwrap();
    cache.remove(id);
    cache.put_back(lease, session, 0);
    assert!(!is_there(&mut cache, id));
    assert!(!cache.resize(lease, &self::session(2), 0));
    assert_eq!((cache.len(), cache.bytes()), (0, 0));
}

#[test]
fn ids_are_above_0_and_differ() {
    let mut cache = cache(NO_BOUND, NO_BOUND);
    let mut ids: Vec<i32> = (0..2_000)
        .map(|_| begin(&mut cache, 1, 0).unwrap())
        .collect();
    assert!(ids.iter().all(|id| *id > 0));
    let ascending = ids.windows(2).filter(|pair| pair[0] < pair[1]).count();
    assert!((500..1_500).contains(&ascending), "not counted up");
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 2_000);
}

#[test]
fn without_slots_there_are_none() {
    assert_eq!(begin(&mut cache(0, NO_BOUND), 1, 0), None);
}

#[test]
fn young_sessions_that_are_used_give_way_to_nobody() {
    let mut cache = cache(2, NO_BOUND);
    let ids = [(); 2].map(|()| begin(&mut cache, 1, 0).unwrap());
    assert_eq!(begin(&mut cache, 100, EVICTION_MS), None);
    assert!(ids.into_iter().all(|id| is_there(&mut cache, id)));
}

#[test]
fn the_longest_unused_session_gives_way_to_any() {
    let mut cache = cache(3, NO_BOUND);
    let older = begin(&mut cache, 50, 1).unwrap();
    let oldest = begin(&mut cache, 50, 0).unwrap();
    let used = begin(&mut cache, 50, 0).unwrap();
    assert!(fetch(&mut cache, used, 1, EVICTION_MS).is_ok());
    let now_ms = EVICTION_MS + 2;
    assert!(begin(&mut cache, 1, now_ms).is_some());
    assert!(!is_there(&mut cache, oldest));
    assert!(is_there(&mut cache, older) && is_there(&mut cache, used));
    assert!(begin(&mut cache, 1, now_ms).is_some());
    assert!(!is_there(&mut cache, older) && is_there(&mut cache, used));
}

#[test]
fn an_old_session_gives_way_to_a_larger_one_the_smallest_first() {
    let mut cache = cache(3, NO_BOUND);
    let ids = [5, 3, 4].map(|count| begin(&mut cache, count, 0).unwrap());
    let now_ms = EVICTION_MS + 1;
    for id in ids {
        assert!(fetch(&mut cache, id, 1, now_ms).is_ok());
    }
    assert_eq!(begin(&mut cache, 3, now_ms), None, "not larger");
    assert!(begin(&mut cache, 4, now_ms).is_some());
    let left = ids.map(|id| is_there(&mut cache, id));
    assert_eq!(left, [true, false, true]);
    // The new one is young, and not larger than the others.
    assert_eq!(begin(&mut cache, 4, now_ms), None);
    assert!(begin(&mut cache, 5, now_ms).is_some());
    let left = ids.map(|id| is_there(&mut cache, id));
    assert_eq!(left, [true, false, false]);
}

#[test]
fn a_session_that_a_fetch_has_is_in_use_however_long_it_waits() {
    let mut cache = cache(1, NO_BOUND);
    let id = begin(&mut cache, 5, 0).unwrap();
    let (lease, session) = cache.take(id, 1, false, 0).unwrap();
    let now_ms = 10 * EVICTION_MS;
    assert_eq!(begin(&mut cache, 5, now_ms), None, "not larger");
    cache.put_back(lease, session, now_ms);
    assert_eq!(begin(&mut cache, 5, now_ms), None, "used just now");
    // A larger one takes the place also of one that is out.
    let (lease, session) = cache.take(id, 2, false, now_ms).unwrap();
    let larger = begin(&mut cache, 6, now_ms).unwrap();
    cache.put_back(lease, session, now_ms);
    assert!(!is_there(&mut cache, id) && is_there(&mut cache, larger));
    assert_eq!(cache.len(), 1);
}

#[test]
fn bytes_are_bounded_and_nobody_is_ended_in_vain() {
    let one = session(1).bytes();
    let mut cache = cache(100, 10 * one);
    let small: Vec<i32> = (0..10).map(|_| begin(&mut cache, 1, 0).unwrap()).collect();
    assert_eq!(cache.bytes(), 10 * one);
    assert_eq!(begin(&mut cache, 2, 1), None);
    let now_ms = EVICTION_MS + 1;
    for id in &small {
        assert!(fetch(&mut cache, *id, 1, now_ms).is_ok());
    }
    assert_eq!(begin(&mut cache, 11, now_ms), None, "never enough");
    assert_eq!(cache.len(), 10, "so nobody gave way");
    assert!(begin(&mut cache, 3, now_ms).is_some());
    assert_eq!((cache.len(), cache.bytes()), (8, 10 * one));
}

#[test]
fn a_session_that_grows_beyond_the_bound_ends() {
    let one = session(1).bytes();
    let mut cache = cache(100, 5 * one);
    let other = begin(&mut cache, 2, 0).unwrap();
    let id = begin(&mut cache, 1, 0).unwrap();
    let (lease, mut session) = cache.take(id, 1, false, 0).unwrap();
    session.update(&partitions(0..3), &[]);
    assert!(cache.resize(lease, &session, 0));
    assert_eq!(cache.bytes(), 5 * one);
    session.update(&partitions(0..4), &[]);
    assert!(!cache.resize(lease, &session, 0));
    assert_eq!((cache.len(), cache.bytes()), (1, 2 * one));
    assert!(is_there(&mut cache, other));
}

#[test]
fn a_session_that_grows_takes_the_room_of_smaller_old_ones() {
    let one = session(1).bytes();
    let mut cache = cache(100, 5 * one);
    let other = begin(&mut cache, 2, 0).unwrap();
    let id = begin(&mut cache, 1, 0).unwrap();
    let now_ms = EVICTION_MS + 1;
    assert!(fetch(&mut cache, other, 1, now_ms).is_ok());
    let (lease, mut session) = cache.take(id, 1, false, now_ms).unwrap();
    session.update(&partitions(0..4), &[]);
    assert!(cache.resize(lease, &session, now_ms));
    assert!(!is_there(&mut cache, other));
    assert_eq!((cache.len(), cache.bytes()), (1, 4 * one));
}
