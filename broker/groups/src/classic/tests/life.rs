//! A group comes to be, rebalances, and goes.

use crate::command::LeavingMember;
use crate::error::GroupError;
use crate::testing::*;

#[test]
fn a_new_member_comes_back_with_the_id_it_gets() {
    let mut bench = Bench::new();
    let joined = bench.join_now(consumer("app"));
    assert_eq!(joined.error, None);
    assert!(joined.member_id.starts_with("app-00000000-0000-"));
    assert_eq!(joined.leader, joined.member_id);
    assert_eq!((joined.generation_id, joined.members.len()), (1, 1));
    assert_eq!(joined.protocol_name.as_deref(), Some("range"));
    assert_eq!(joined.protocol_type.as_deref(), Some("consumer"));
}

#[test]
fn an_old_client_joins_without_coming_back() {
    let mut bench = Bench::new();
    let mut old = consumer("app");
    old.requires_known_member_id = false;
    let reply = bench.join(old);
    assert_eq!(bench.state(), "PreparingRebalance");
    bench.advance(DELAY_MS);
    assert_eq!(bench.joined(reply).error, None);
}

#[test]
fn an_id_that_nobody_comes_back_with_is_forgotten_with_its_group() {
    let mut bench = Bench::new();
    let reply = bench
        .driver
        .send(crate::Command::JoinGroup(consumer("app")));
    let refused = bench.joined(reply);
    assert_eq!(refused.error, Some(GroupError::MemberIdRequired));
    assert_eq!(bench.state(), "Empty");
    bench.advance(SESSION_MS + 1);
    assert_eq!(bench.describe().error, Some(GroupError::GroupIdNotFound));
    assert!(bench.driver.log().is_empty());
    let mut late = consumer("app");
    late.member_id = refused.member_id;
    let late = bench.join(late);
    assert_eq!(bench.joined(late).error, Some(GroupError::UnknownMemberId));
}

#[test]
fn the_leader_learns_of_everybody_and_the_others_of_nobody() {
    let mut bench = Bench::new();
    let first = bench.join(consumer("a"));
    let second = bench.join(consumer("b"));
    bench.advance(2 * DELAY_MS);
    let (first, second) = (bench.joined(first), bench.joined(second));
    assert_eq!((first.generation_id, second.generation_id), (1, 1));
    assert_eq!(second.leader, first.member_id);
    assert_eq!((first.members.len(), second.members.len()), (2, 0));
    let metadata = &first.members[1].metadata;
    assert_eq!(*metadata, subscription(&["t0"]));
}

#[test]
fn followers_wait_for_the_assignment_of_the_leader() {
    let mut bench = Bench::new();
    let first = bench.join(consumer("a"));
    let second = bench.join(consumer("b"));
    bench.advance(2 * DELAY_MS);
    let (leader, follower) = (bench.joined(first), bench.joined(second));
    let waiting = bench.sync(&follower, &[]);
    bench.advance(100);
    assert_eq!(bench.driver.take(waiting), None);
    assert_eq!(bench.state(), "CompletingRebalance");
    let given = [(follower.member_id.as_str(), "all of it")];
    let reply = bench.sync(&leader, &given);
    assert_eq!(bench.synced(reply).assignment, "");
    let synced = bench.synced(waiting);
    assert_eq!(synced.assignment, "all of it");
    assert_eq!(synced.protocol_name.as_deref(), Some("range"));
    assert_eq!(bench.state(), "Stable");
    let again = bench.sync(&follower, &[]);
    assert_eq!(bench.synced(again).assignment, "all of it");
}

#[test]
fn a_second_member_makes_the_first_join_again() {
    let mut bench = Bench::new();
    let first = bench.stable(&[consumer("a")]).remove(0);
    assert_eq!(bench.heartbeat(&first), Ok(()));
    let second = bench.join(consumer("b"));
    assert_eq!(
        bench.heartbeat(&first),
        Err(GroupError::RebalanceInProgress)
    );
    let mut again = consumer("a");
    again.member_id = first.member_id.clone();
    let again = bench.join(again);
    let joined = [bench.joined(again), bench.joined(second)];
    assert_eq!(joined[0].generation_id, 2);
    assert_eq!(bench.heartbeat(&first), Err(GroupError::IllegalGeneration));
    // A member may heartbeat before it has synced.
    assert_eq!(bench.heartbeat(&joined[0]), Ok(()));
    bench.sync_all(&joined);
    bench.driver.settle();
}

#[test]
fn most_votes_choose_the_protocol_among_those_that_all_support() {
    let mut bench = Bench::new();
    let with = |names: &[&str]| {
        let mut member = consumer("app");
        member.protocols = protocols(names);
        member
    };
    let joined = bench.stable(&[
        with(&["sticky", "range", "roundrobin"]),
        with(&["roundrobin", "range"]),
        with(&["range", "roundrobin"]),
        with(&["cooperative", "roundrobin", "range"]),
    ]);
    // All support range and roundrobin; two prefer each: the first by name.
    assert_eq!(joined[0].protocol_name.as_deref(), Some("range"));
    let mut bench = Bench::new();
    let joined = bench.stable(&[
        with(&["range", "roundrobin"]),
        with(&["roundrobin", "range"]),
        with(&["roundrobin", "range"]),
    ]);
    assert_eq!(joined[0].protocol_name.as_deref(), Some("roundrobin"));
}

#[test]
fn a_follower_that_joins_again_unchanged_disturbs_nobody_and_a_leader_does() {
    let mut bench = Bench::new();
    let joined = bench.stable(&[consumer("a"), consumer("b")]);
    let again = |at: usize| {
        let mut member = consumer("again");
        member.member_id = joined[at].member_id.clone();
        member
    };
    let follower = bench.join(again(1));
    assert_eq!(bench.joined(follower).generation_id, 1);
    assert_eq!(bench.state(), "Stable");
    let leader = bench.join(again(0));
    assert_eq!(bench.state(), "PreparingRebalance");
    let mut changed = again(1);
    changed.protocols[0].metadata = subscription(&["t0", "t1"]);
    let follower = bench.join(changed);
    let (leader, follower) = (bench.joined(leader), bench.joined(follower));
    assert_eq!((leader.generation_id, follower.generation_id), (2, 2));
    let of_follower = leader
        .members
        .iter()
        .find(|one| one.member_id == follower.member_id);
    let metadata = of_follower.map(|one| one.metadata.clone());
    assert_eq!(metadata, Some(subscription(&["t0", "t1"])));
}

#[test]
fn a_silent_member_is_out_after_its_session_timeout() {
    let mut bench = Bench::new();
    let joined = bench.stable(&[consumer("a"), consumer("b")]);
    bench.advance_alive(SESSION_MS + 100, &[&joined[0]]);
    assert_eq!(
        bench.heartbeat(&joined[1]),
        Err(GroupError::UnknownMemberId)
    );
    assert_eq!(
        bench.heartbeat(&joined[0]),
        Err(GroupError::RebalanceInProgress)
    );
}

#[test]
fn the_last_member_leaves_an_empty_group_with_a_new_generation() {
    let mut bench = Bench::new();
    let joined = bench.stable(&[consumer("a"), consumer("b")]);
    assert_eq!(bench.leave_one(&joined[1]), None);
    assert_eq!(bench.state(), "PreparingRebalance");
    assert_eq!(bench.leave_one(&joined[0]), None);
    let described = bench.describe();
    assert_eq!((described.state, described.members.len()), ("Empty", 0));
    assert_eq!(described.protocol_type, "consumer");
    assert_eq!(
        bench.leave_one(&joined[0]),
        Some(GroupError::UnknownMemberId)
    );
    let next = bench.join_now(consumer("c"));
    assert_eq!(next.generation_id, 3);
    bench.driver.settle();
}

#[test]
fn a_group_that_empties_before_its_first_assignment_is_known_all_the_same() {
    let mut bench = Bench::new();
    let joined = bench.join_now(consumer("a"));
    assert_eq!(bench.leave_one(&joined), None);
    assert_eq!(bench.state(), "Empty");
    bench.driver.fail_over();
    assert_eq!(bench.state(), "Empty");
    assert_eq!(bench.join_now(consumer("b")).generation_id, 3);
}

#[test]
fn members_leave_in_one_request_each_with_its_own_outcome() {
    let mut bench = Bench::new();
    let joined = bench.stable(&[
        consumer("a"),
        static_consumer("one"),
        static_consumer("two"),
    ]);
    let member = |id: &str, instance: Option<&str>| LeavingMember {
        member_id: id.to_owned(),
        group_instance_id: instance.map(str::to_owned),
        reason: None,
    };
    let outcomes = bench.leave(&[
        member(&joined[0].member_id, None),
        member("", Some("one")),
        member("", Some("nobody")),
        member("nobody", None),
        member("wrong", Some("two")),
    ]);
    let expected = [
        None,
        None,
        Some(GroupError::UnknownMemberId),
        Some(GroupError::UnknownMemberId),
        Some(GroupError::FencedInstanceId),
    ];
    assert_eq!(outcomes, expected);
    assert_eq!(bench.describe().members.len(), 1);
}

#[test]
fn a_new_leader_of_the_coordinator_goes_on_with_a_stable_group() {
    let mut bench = Bench::new();
    let joined = bench.stable(&[consumer("a"), static_consumer("one")]);
    let before = bench.describe();
    bench.driver.fail_over();
    let after = bench.describe();
    assert_eq!(before, after);
    assert_eq!(bench.heartbeat(&joined[0]), Ok(()));
    let synced = bench.sync(&joined[1], &[]);
    assert_eq!(
        bench.synced(synced).assignment,
        joined[1].member_id.as_bytes()
    );
    // Members that do not find the new leader are gone after a whole session timeout.
    bench.driver.fail_over();
    bench.advance(SESSION_MS - 1_000);
    assert_eq!(bench.describe().members.len(), 2);
    bench.advance(2_000);
    assert_eq!(bench.describe().members.len(), 0);
}

#[test]
fn a_rebalance_is_not_known_to_a_new_leader_and_starts_again() {
    let mut bench = Bench::new();
    let first = bench.stable(&[consumer("a")]).remove(0);
    let second = bench.join(consumer("b"));
    let mut again = consumer("a");
    again.member_id = first.member_id.clone();
    let again = bench.join(again.clone());
    let (first_now, second) = (bench.joined(again), bench.joined(second));
    assert_eq!(first_now.generation_id, 2);
    bench.driver.fail_over();
    assert_eq!(
        bench.heartbeat(&first_now),
        Err(GroupError::IllegalGeneration)
    );
    assert_eq!(bench.heartbeat(&second), Err(GroupError::UnknownMemberId));
    // Who missed all that is where the log is.
    assert_eq!(bench.heartbeat(&first), Ok(()));
}

#[test]
fn a_group_of_another_protocol_type_is_opaque() {
    let mut bench = Bench::new();
    let mut worker = consumer("worker");
    worker.protocol_type = "connect".to_owned();
    worker.protocols = protocols(&["sessioned"]);
    worker.protocols[0].metadata = bytes::Bytes::from_static(b"\xff\xff\xff");
    let joined = bench.stable(&[worker]).remove(0);
    assert_eq!(joined.protocol_type.as_deref(), Some("connect"));
    let described = bench.describe();
    assert_eq!(described.protocol, "sessioned");
    assert_eq!(described.members[0].metadata, &b"\xff\xff\xff"[..]);
    assert_eq!(described.members[0].client_host, "/127.0.0.1");
}
