//! How long a group waits, and for whom.

use crate::config::GroupsConfig;
use crate::error::GroupError;
use crate::testing::*;

#[test]
fn the_first_rebalance_waits_as_long_as_members_keep_coming() {
    let mut bench = Bench::new();
    let first = bench.join(consumer("a"));
    bench.advance(2_500);
    let second = bench.join(consumer("b"));
    bench.advance(1_000);
    assert_eq!(bench.driver.take(first), None);
    bench.advance(2_400);
    assert_eq!(bench.driver.take(first), None);
    bench.advance(200);
    assert_eq!(bench.joined(first).members.len(), 2);
    assert_eq!(bench.joined(second).generation_id, 1);
}

#[test]
fn the_first_rebalance_never_waits_longer_than_the_rebalance_timeout() {
    let mut bench = Bench::new();
    let hasty = |id: &str| {
        let mut member = consumer(id);
        member.rebalance_timeout_ms = 10_000;
        member
    };
    let first = bench.join(hasty("m"));
    let mut others = Vec::new();
    for _ in 0..9 {
        bench.advance(1_000);
        others.push(bench.join(hasty("m")));
    }
    bench.advance(999);
    assert_eq!(bench.driver.take(first), None);
    bench.advance(1);
    assert_eq!(bench.joined(first).members.len(), 10);
    for other in others {
        assert_eq!(bench.joined(other).generation_id, 1);
    }
}

#[test]
fn without_a_delay_the_first_member_does_not_wait() {
    let config = GroupsConfig {
        group_initial_rebalance_delay_ms: 0,
        ..GroupsConfig::default()
    };
    let mut bench = Bench::with(config, 1);
    let reply = bench.join(consumer("a"));
    bench.advance(0);
    assert_eq!(bench.joined(reply).generation_id, 1);
}

#[test]
fn a_member_that_dies_in_the_barrier_is_out_when_the_time_is_up() {
    let mut bench = Bench::new();
    let mut long = consumer("long");
    long.session_timeout_ms = 1_000_000;
    let joined = bench.stable(&[consumer("a"), long]);
    let third = bench.join(consumer("c"));
    let mut again = consumer("a");
    again.member_id = joined[0].member_id.clone();
    let again = bench.join(again);
    bench.advance(REBALANCE_MS - 10);
    assert_eq!(bench.driver.take(again), None);
    bench.advance(20);
    assert_eq!(bench.joined(again).members.len(), 2);
    assert_eq!(bench.joined(third).generation_id, 2);
    assert_eq!(
        bench.heartbeat(&joined[1]),
        Err(GroupError::UnknownMemberId)
    );
}

#[test]
fn the_longest_rebalance_timeout_of_a_member_counts() {
    let mut bench = Bench::new();
    let mut slow = consumer("slow");
    slow.rebalance_timeout_ms = 200_000;
    slow.session_timeout_ms = 1_000_000;
    let joined = bench.stable(&[consumer("a"), slow]);
    let mut again = consumer("a");
    again.member_id = joined[0].member_id.clone();
    let again = bench.join(again);
    bench.advance(199_000);
    assert_eq!(bench.driver.take(again), None);
    bench.advance(1_100);
    assert_eq!(bench.joined(again).generation_id, 2);
}

#[test]
fn the_oldest_clients_wait_as_long_as_their_session_timeout() {
    let mut bench = Bench::new();
    let mut oldest = consumer("v0");
    oldest.rebalance_timeout_ms = -1;
    oldest.requires_known_member_id = false;
    let joined = bench.stable(&[oldest.clone(), oldest.clone()]);
    oldest.member_id = joined[0].member_id.clone();
    let again = bench.join(oldest);
    bench.advance(SESSION_MS - 500);
    assert_eq!(bench.driver.take(again), None);
    bench.advance(500);
    assert_eq!(bench.joined(again).members.len(), 1);
}

#[test]
fn the_group_waits_for_a_member_that_was_sent_back_for_an_id() {
    let mut bench = Bench::new();
    let first = bench.stable(&[consumer("a")]).remove(0);
    let sent_back = bench.driver.send(crate::Command::JoinGroup(consumer("b")));
    let sent_back = bench.joined(sent_back);
    let mut again = consumer("a");
    again.member_id = first.member_id.clone();
    let again = bench.join(again);
    bench.advance(1_000);
    assert_eq!(bench.driver.take(again), None);
    let mut second = consumer("b");
    second.member_id = sent_back.member_id;
    let second = bench.join(second);
    assert_eq!(bench.joined(again).members.len(), 2);
    assert_eq!(bench.joined(second).generation_id, 2);
}

#[test]
fn a_member_that_does_not_sync_is_out_and_the_others_join_again() {
    let mut bench = Bench::new();
    let long = |id: &str| {
        let mut member = consumer(id);
        member.session_timeout_ms = 1_000_000;
        member
    };
    let first = bench.join(long("a"));
    let second = bench.join(long("b"));
    bench.advance(2 * DELAY_MS);
    let (leader, silent) = (bench.joined(first), bench.joined(second));
    let synced = bench.sync(&leader, &[]);
    assert_eq!(bench.synced(synced).error, None);
    bench.advance(REBALANCE_MS);
    assert_eq!(
        bench.heartbeat(&leader),
        Err(GroupError::RebalanceInProgress)
    );
    assert_eq!(bench.heartbeat(&silent), Err(GroupError::UnknownMemberId));
}

#[test]
fn a_leader_that_does_not_sync_is_out_and_who_waited_joins_again() {
    let mut bench = Bench::new();
    let first = bench.join(consumer("a"));
    let second = bench.join(consumer("b"));
    bench.advance(2 * DELAY_MS);
    let (_, follower) = (bench.joined(first), bench.joined(second));
    let waiting = bench.sync(&follower, &[]);
    bench.advance(SESSION_MS + 10);
    let synced = bench.synced(waiting);
    assert_eq!(synced.error, Some(GroupError::RebalanceInProgress));
    let mut again = consumer("b");
    again.member_id = follower.member_id;
    let again = bench.join(again);
    let joined = bench.joined(again);
    assert_eq!((joined.generation_id, joined.members.len()), (2, 1));
}

#[test]
fn a_second_request_of_a_member_answers_the_first() {
    let mut bench = Bench::new();
    let joined = bench.stable(&[consumer("a"), consumer("b")]);
    let mut again = consumer("a");
    again.member_id = joined[0].member_id.clone();
    let given_up = bench.join(again.clone());
    let again = bench.join(again);
    let given_up = bench.joined(given_up);
    assert_eq!(given_up.error, Some(GroupError::RebalanceInProgress));
    assert_eq!(given_up.member_id, joined[0].member_id);
    assert_eq!(bench.driver.take(again), None);
    assert_eq!(bench.leave_one(&joined[1]), None);
    let joined = bench.joined(again);
    assert_eq!(joined.generation_id, 2);
}

#[test]
fn a_thousand_members_at_once_are_one_generation() {
    let mut bench = Bench::new();
    let members: Vec<_> = (0..1_000).map(|n| consumer(&format!("m{n}"))).collect();
    let joined = bench.stable(&members);
    assert!(joined.iter().all(|one| one.generation_id == 1));
    assert_eq!(joined[0].members.len(), 1_000);
    assert_eq!(bench.driver.log().len(), 1);
    assert_eq!(bench.driver.waiting(), 0);
    bench.driver.settle();
}
