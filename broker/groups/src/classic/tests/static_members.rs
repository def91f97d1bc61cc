//! Members with an instance id (KIP-345, KIP-814).

use crate::command::{Command, Heartbeat};
use crate::error::GroupError;
use crate::response::Response;
use crate::testing::*;

fn heartbeat(bench: &mut Bench, member_id: &str, instance_id: &str) -> Result<(), GroupError> {
    let command = Heartbeat {
        group_id: GROUP.to_owned(),
        generation_id: 1,
        member_id: member_id.to_owned(),
        group_instance_id: Some(instance_id.to_owned()),
    };
    match bench.driver.ask(Command::Heartbeat(command)) {
        Response::Heartbeat(outcome) => outcome,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_static_member_that_starts_again_keeps_its_place() {
    let mut bench = Bench::new();
    let joined = bench.stable(&[static_consumer("one"), static_consumer("two")]);
    assert!(joined[0].member_id.starts_with("one-"));
    let reply = bench.join(static_consumer("two"));
    bench.advance(50);
    let again = bench.joined(reply);
    assert_eq!((again.error, again.generation_id), (None, 1));
    assert_ne!(again.member_id, joined[1].member_id);
    assert_eq!(bench.state(), "Stable");
    let synced = bench.sync(&again, &[]);
    // What it had, not what the leader would give it now.
    assert_eq!(
        bench.synced(synced).assignment,
        joined[1].member_id.as_bytes()
    );
    let old = heartbeat(&mut bench, &joined[1].member_id, "two");
    assert_eq!(old, Err(GroupError::FencedInstanceId));
    let without = bench.heartbeat(&joined[1]);
    assert_eq!(without, Err(GroupError::UnknownMemberId));
    let new = heartbeat(&mut bench, &again.member_id, "two");
    assert_eq!(new, Ok(()));
    bench.driver.fail_over();
    let new = heartbeat(&mut bench, &again.member_id, "two");
    assert_eq!(new, Ok(()));
}

#[test]
fn a_static_leader_that_starts_again_need_not_assign() {
    let mut bench = Bench::new();
    let joined = bench.stable(&[static_consumer("one"), static_consumer("two")]);
    let reply = bench.join(static_consumer("one"));
    bench.advance(50);
    let again = bench.joined(reply);
    assert!(again.skip_assignment);
    assert_eq!((&again.leader, again.members.len()), (&again.member_id, 2));
    let mut old = static_consumer("one");
    old.supports_skip_assignment = false;
    let reply = bench.join(old);
    bench.advance(50);
    let older = bench.joined(reply);
    assert!(!older.skip_assignment);
    assert_eq!((&older.leader, older.members.len()), (&again.member_id, 0));
    let reply = bench.join(static_consumer("two"));
    bench.advance(50);
    let follower = bench.joined(reply);
    assert!(!follower.skip_assignment);
    assert_eq!(follower.leader, older.member_id);
    assert_ne!(follower.member_id, joined[1].member_id);
    bench.driver.settle();
}

#[test]
fn a_static_member_that_changes_the_chosen_protocol_makes_all_join_again() {
    let mut bench = Bench::new();
    let with = |instance: &str, names: &[&str]| {
        let mut member = static_consumer(instance);
        member.protocols = protocols(names);
        member
    };
    let both = ["range", "sticky"];
    bench.stable(&[with("one", &both), with("two", &both)]);
    let reply = bench.join(with("two", &["sticky"]));
    assert_eq!(bench.driver.take(reply), None);
    assert_eq!(bench.state(), "PreparingRebalance");
}

#[test]
fn who_waits_is_fenced_when_its_instance_starts_again() {
    let mut bench = Bench::new();
    let first = bench.join(static_consumer("one"));
    let again = bench.join(static_consumer("one"));
    let fenced = bench.joined(first);
    assert_eq!(fenced.error, Some(GroupError::FencedInstanceId));
    bench.advance(2 * DELAY_MS);
    let joined = bench.joined(again);
    assert_eq!(joined.members.len(), 1);
    let waiting = bench.join(static_consumer("two"));
    let mut leader = static_consumer("one");
    leader.member_id = joined.member_id;
    let leader = bench.join(leader);
    let (_, follower) = (bench.joined(leader), bench.joined(waiting));
    let waiting = bench.sync(&follower, &[]);
    bench.join(static_consumer("two"));
    let synced = bench.synced(waiting);
    assert_eq!(synced.error, Some(GroupError::FencedInstanceId));
    // The leader may have assigned to the old id already.
    assert_eq!(bench.state(), "PreparingRebalance");
}

#[test]
fn who_took_an_instance_over_may_wait_longer_than_its_session_timeout() {
    let mut bench = Bench::new();
    let first = bench.stable(&[consumer("a")]).remove(0);
    let given_up = bench.join(static_consumer("one"));
    let waiting = bench.join(static_consumer("one"));
    assert_eq!(
        bench.joined(given_up).error,
        Some(GroupError::FencedInstanceId)
    );
    bench.advance_alive(SESSION_MS + 5_000, &[&first]);
    assert_eq!(bench.driver.take(waiting), None);
    let mut again = consumer("a");
    again.member_id = first.member_id;
    let again = bench.join(again);
    assert_eq!(bench.joined(again).members.len(), 2);
    assert_eq!(bench.joined(waiting).generation_id, 2);
}

#[test]
fn a_static_member_may_start_again_before_it_has_synced() {
    let mut bench = Bench::new();
    let leader = bench.join(consumer("a"));
    let follower = bench.join(static_consumer("one"));
    bench.advance(2 * DELAY_MS);
    let (leader, follower) = (bench.joined(leader), bench.joined(follower));
    let given = [(follower.member_id.as_str(), "it")];
    let synced = bench.sync(&leader, &given);
    assert_eq!(bench.synced(synced).error, None);
    let again = bench.join(static_consumer("one"));
    bench.advance(50);
    let again = bench.joined(again);
    let synced = bench.sync(&again, &[]);
    assert_eq!(bench.synced(synced).assignment, "it");
    // Nobody waits for the id that is no more.
    bench.advance_alive(2 * REBALANCE_MS, &[&leader, &again]);
    assert_eq!(bench.state(), "Stable");
}

#[test]
fn a_static_member_that_is_away_keeps_its_place_in_one_rebalance() {
    let mut bench = Bench::new();
    let mut away = static_consumer("away");
    away.session_timeout_ms = 300_000;
    let joined = bench.stable(&[consumer("a"), away]);
    let third = bench.join(consumer("c"));
    let mut again = consumer("a");
    again.member_id = joined[0].member_id.clone();
    let again = bench.join(again);
    bench.advance(REBALANCE_MS + 10);
    let (leader, third) = (bench.joined(again), bench.joined(third));
    assert_eq!((leader.generation_id, leader.members.len()), (2, 3));
    let synced = bench.sync(&leader, &[]);
    assert_eq!(bench.synced(synced).error, None);
    let synced = bench.sync(&third, &[]);
    assert_eq!(bench.synced(synced).error, None);
    bench.advance_alive(REBALANCE_MS - 5_000, &[&leader, &third]);
    assert_eq!(bench.describe().members.len(), 3);
    // It has not synced either.
    bench.advance_alive(5_000, &[&leader, &third]);
    assert_eq!(bench.describe().members.len(), 2);
    assert_eq!(bench.state(), "PreparingRebalance");
}

#[test]
fn a_group_whose_static_leader_is_away_gets_another() {
    let mut bench = Bench::new();
    let mut away = static_consumer("away");
    away.session_timeout_ms = 300_000;
    let joined = bench.stable(&[away, consumer("b")]);
    assert_eq!(joined[1].leader, joined[0].member_id);
    let mut again = consumer("b");
    again.member_id = joined[1].member_id.clone();
    again.protocols[0].metadata = subscription(&["t1"]);
    let again = bench.join(again);
    bench.advance(REBALANCE_MS + 10);
    let leader = bench.joined(again);
    assert_eq!(leader.leader, leader.member_id);
    assert_eq!(leader.members.len(), 2);
}
