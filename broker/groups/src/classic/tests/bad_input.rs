//! What is refused, and with which error.

use bytes::Bytes;

use crate::command::{Command, JoinGroup, SyncGroup};
use crate::config::GroupsConfig;
use crate::error::GroupError;
use crate::response::{Response, SyncGroupResponse};
use crate::testing::*;

fn refused(bench: &mut Bench, command: JoinGroup) -> Option<GroupError> {
    let reply = bench.join(command);
    bench.joined(reply).error
}

fn ask_sync(bench: &mut Bench, command: SyncGroup) -> SyncGroupResponse {
    match bench.driver.ask(Command::SyncGroup(command)) {
        Response::SyncGroup(synced) => synced,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_a_join_says_of_itself_is_checked() {
    let mut bench = Bench::new();
    let with = |change: &dyn Fn(&mut JoinGroup)| {
        let mut command = consumer("a");
        change(&mut command);
        command
    };
    let long = "x".repeat(2_000);
    let cases: Vec<(GroupError, JoinGroup)> = vec![
        (
            GroupError::InvalidGroupId,
            with(&|one| one.group_id.clear()),
        ),
        (
            GroupError::InvalidGroupId,
            with(&|one| one.group_id = long.clone()),
        ),
        (
            GroupError::InvalidSessionTimeout,
            with(&|one| one.session_timeout_ms = 5_999),
        ),
        (
            GroupError::InvalidSessionTimeout,
            with(&|one| one.session_timeout_ms = 1_800_001),
        ),
        (
            GroupError::InconsistentGroupProtocol,
            with(&|one| one.protocols.clear()),
        ),
        (
            GroupError::InconsistentGroupProtocol,
            with(&|one| one.protocol_type.clear()),
        ),
        (
            GroupError::InvalidRequest,
            with(&|one| one.group_instance_id = Some(long.clone())),
        ),
        (
            GroupError::InvalidRequest,
            with(&|one| one.protocols[0].metadata = Bytes::from(vec![0; 2 << 20])),
        ),
        (
            GroupError::UnknownMemberId,
            with(&|one| one.member_id = "nobody".to_owned()),
        ),
    ];
    for (error, command) in cases {
        assert_eq!(refused(&mut bench, command), Some(error));
    }
    assert_eq!(bench.describe().error, Some(GroupError::GroupIdNotFound));
}

#[test]
fn a_member_that_does_not_fit_in_is_refused() {
    let mut bench = Bench::new();
    bench.stable(&[consumer("a")]);
    let mut other = consumer("b");
    other.protocols = protocols(&["sticky"]);
    assert_eq!(
        refused(&mut bench, other),
        Some(GroupError::InconsistentGroupProtocol)
    );
    let mut other = consumer("b");
    other.protocol_type = "connect".to_owned();
    assert_eq!(
        refused(&mut bench, other),
        Some(GroupError::InconsistentGroupProtocol)
    );
    assert_eq!(bench.state(), "Stable");
}

#[test]
fn a_full_group_takes_nobody_in() {
    let config = GroupsConfig {
        group_max_size: 2,
        ..GroupsConfig::default()
    };
    let mut bench = Bench::with(config, 1);
    let joined = bench.stable(&[consumer("a"), consumer("b")]);
    let third = refused(&mut bench, consumer("c"));
    assert_eq!(third, Some(GroupError::GroupMaxSizeReached));
    let mut again = consumer("a");
    again.member_id = joined[0].member_id.clone();
    let again = bench.join(again);
    let mut second = consumer("b");
    second.member_id = joined[1].member_id.clone();
    let second = bench.join(second);
    assert_eq!(bench.joined(again).generation_id, 2);
    assert_eq!(bench.joined(second).generation_id, 2);
}

#[test]
fn a_limit_on_ids_given_out_and_on_groups() {
    let config = GroupsConfig {
        pending_members_max: 3,
        groups_max: 2,
        ..GroupsConfig::default()
    };
    let mut bench = Bench::with(config, 1);
    for n in 0..4 {
        let reply = bench
            .driver
            .send(Command::JoinGroup(consumer(&format!("m{n}"))));
        let expected = if n < 3 {
            GroupError::MemberIdRequired
        } else {
            GroupError::GroupMaxSizeReached
        };
        assert_eq!(bench.joined(reply).error, Some(expected));
    }
    let of_group = |group_id: &str| {
        let mut command = consumer("x");
        command.group_id = group_id.to_owned();
        command
    };
    bench.join(of_group("second"));
    assert_eq!(
        refused(&mut bench, of_group("third")),
        Some(GroupError::GroupMaxSizeReached)
    );
}

#[test]
fn strangers_and_the_past_are_refused_at_sync_and_heartbeat() {
    let mut bench = Bench::new();
    let joined = bench.stable(&[consumer("a")]).remove(0);
    let good = SyncGroup {
        group_id: GROUP.to_owned(),
        generation_id: 1,
        member_id: joined.member_id.clone(),
        ..SyncGroup::default()
    };
    let with = |change: &dyn Fn(&mut SyncGroup)| {
        let mut command = good.clone();
        change(&mut command);
        command
    };
    let cases = [
        (
            GroupError::InvalidGroupId,
            with(&|one| one.group_id.clear()),
        ),
        (
            GroupError::UnknownMemberId,
            with(&|one| one.group_id = "other".to_owned()),
        ),
        (
            GroupError::UnknownMemberId,
            with(&|one| one.member_id = "nobody".to_owned()),
        ),
        (
            GroupError::UnknownMemberId,
            with(&|one| one.group_instance_id = Some("nobody".to_owned())),
        ),
        (
            GroupError::IllegalGeneration,
            with(&|one| one.generation_id = 0),
        ),
        (
            GroupError::InconsistentGroupProtocol,
            with(&|one| one.protocol_type = Some("connect".to_owned())),
        ),
        (
            GroupError::InconsistentGroupProtocol,
            with(&|one| one.protocol_name = Some("sticky".to_owned())),
        ),
    ];
    for (error, command) in cases {
        assert_eq!(ask_sync(&mut bench, command).error, Some(error));
    }
    assert_eq!(ask_sync(&mut bench, good.clone()).error, None);
    let mut past = joined.clone();
    past.generation_id = 0;
    assert_eq!(bench.heartbeat(&past), Err(GroupError::IllegalGeneration));
    past.member_id = "nobody".to_owned();
    assert_eq!(bench.heartbeat(&past), Err(GroupError::UnknownMemberId));
}

#[test]
fn an_assignor_that_returns_nonsense_gives_nothing_to_whom_it_forgot() {
    let mut bench = Bench::new();
    let first = bench.join(consumer("a"));
    let second = bench.join(consumer("b"));
    bench.advance(2 * DELAY_MS);
    let (leader, follower) = (bench.joined(first), bench.joined(second));
    let waiting = bench.sync(&follower, &[]);
    let nonsense = [
        ("nobody", "everything"),
        (leader.member_id.as_str(), "first"),
        (leader.member_id.as_str(), "last"),
    ];
    let synced = bench.sync(&leader, &nonsense);
    assert_eq!(bench.synced(synced).assignment, "last");
    let synced = bench.synced(waiting);
    assert_eq!((synced.error, synced.assignment), (None, Bytes::new()));
    bench.driver.settle();
}

#[test]
fn an_assignment_that_the_log_cannot_hold_is_refused() {
    let config = GroupsConfig {
        record_bytes_max: 10_000,
        ..GroupsConfig::default()
    };
    let mut bench = Bench::with(config, 1);
    let first = bench.join(consumer("a"));
    let second = bench.join(consumer("b"));
    bench.advance(2 * DELAY_MS);
    let (leader, follower) = (bench.joined(first), bench.joined(second));
    let waiting = bench.sync(&follower, &[]);
    let large = "x".repeat(10_000);
    let synced = bench.sync(&leader, &[(leader.member_id.as_str(), large.as_str())]);
    for reply in [synced, waiting] {
        let error = bench.synced(reply).error;
        assert_eq!(error, Some(GroupError::MessageTooLarge));
    }
    assert_eq!(bench.state(), "PreparingRebalance");
    assert!(bench.driver.log().is_empty());
}

#[test]
fn a_lowered_limit_turns_the_last_to_join_away() {
    let mut bench = Bench::new();
    let joined = bench.stable(&[consumer("a"), consumer("b"), consumer("c")]);
    bench.driver.settle();
    let mut fewer = crate::Groups::new(GroupsConfig {
        group_max_size: 2,
        ..GroupsConfig::default()
    });
    for record in bench.driver.log() {
        let record = coordinator::Record::decode(&record.key, record.value.as_deref());
        coordinator::Coordinator::replay(&mut fewer, &record.unwrap());
    }
    let settings = coordinator::driver::Settings::default();
    let topics = Box::new(topics(4));
    bench.driver = coordinator::driver::Driver::new(fewer, topics, settings);
    assert_eq!(bench.state(), "PreparingRebalance");
    let mut errors = Vec::new();
    let mut replies = Vec::new();
    for one in &joined {
        let mut again = consumer("x");
        again.member_id = one.member_id.clone();
        replies.push(bench.join(again));
    }
    bench.advance(REBALANCE_MS + 10);
    for reply in replies {
        errors.push(bench.joined(reply).error);
    }
    assert_eq!(errors, [None, None, Some(GroupError::GroupMaxSizeReached)]);
}

/// A member that says so many bytes of itself.
fn large(client_id: &str, bytes: usize) -> JoinGroup {
    let mut command = consumer(client_id);
    command.requires_known_member_id = false;
    command.protocols[0].metadata = Bytes::from(vec![7; bytes]);
    command
}

#[test]
fn a_group_that_says_too_much_turns_the_next_away_and_goes_on() {
    for config in [
        GroupsConfig {
            members_bytes_per_group_max: 20_000,
            ..GroupsConfig::default()
        },
        GroupsConfig {
            record_bytes_max: 20_000,
            ..GroupsConfig::default()
        },
        GroupsConfig {
            coordinator_bytes_max: 20_000,
            ..GroupsConfig::default()
        },
    ] {
        let mut bench = Bench::with(config.clone(), 1);
        let members = bench.stable(&[large("a", 6_000), large("b", 6_000)]);
        let full = Some(GroupError::GroupMaxSizeReached);
        assert_eq!(refused(&mut bench, large("c", 10_000)), full);
        let mut more = large("a", 15_000);
        more.member_id = members[0].member_id.clone();
        assert_eq!(refused(&mut bench, more), full);
        assert_eq!(bench.state(), "Stable");
        assert_eq!(bench.heartbeat(&members[0]), Ok(()));
        assert_eq!(bench.commit(commit_by(&members[0], "t0", 1)), None);
        bench.driver.fail_over();
        assert_eq!(refused(&mut bench, large("c", 10_000)), full, "{config:?}");
        // Who goes makes room.
        bench.leave_one(&members[1]);
        bench.advance(1_100);
        let mut again = large("a", 6_000);
        again.member_id = members[0].member_id.clone();
        let replies = [bench.join(again), bench.join(large("c", 10_000))];
        bench.advance(REBALANCE_MS + 10);
        for reply in replies {
            assert_eq!(bench.joined(reply).error, None, "{config:?}");
        }
    }
}

#[test]
fn a_member_with_very_many_protocols_is_refused() {
    let mut bench = Bench::new();
    let mut command = consumer("a");
    let names: Vec<String> = (0..101).map(|n| format!("p{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    command.protocols = protocols(&names);
    let error = refused(&mut bench, command.clone());
    assert_eq!(error, Some(GroupError::InvalidRequest));
    command.protocols.pop();
    assert_eq!(bench.join_now(command).error, None);
}
