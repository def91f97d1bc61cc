//! Joining, staying, leaving and being fenced, in the consumer protocol.

use super::*;
use crate::command::OffsetFetch;

#[test]
fn the_first_member_gets_everything_at_once() {
    let mut world = World::new();
    let response = world.heartbeat(Consumer::new(&["t0"]).request());
    assert_eq!(response.error, None);
    assert_eq!(response.member_epoch, 1);
    assert_eq!(response.heartbeat_interval_ms, 5_000);
    let partitions = (0..8).collect();
    let everything = vec![OwnedTopic {
        topic_id: Uuid(1_000),
        partitions,
    }];
    assert_eq!(response.assignment, Some(everything));
    assert_eq!(world.group().state().name(), "Stable");
    world.driver.settle();
}

#[test]
fn a_heartbeat_without_news_writes_nothing_and_tells_nothing() {
    let mut world = World::new();
    let mut member = world.joined(&["t0"]);
    world.advance(100);
    let records = world.driver.log().len();
    let response = world.heartbeat(member.request());
    assert_eq!(response.error, None);
    assert_eq!(response.assignment, None);
    // Who says everything is told everything.
    member.full = true;
    assert!(world.heartbeat(member.request()).assignment.is_some());
    world.advance(100);
    assert_eq!(world.driver.log().len(), records);
}

#[test]
fn a_partition_changes_hands_only_after_it_was_given_back() {
    let mut world = World::new();
    let mut first = world.joined(&["t0"]);
    let mut second = world.joined(&["t0"]);
    assert_eq!((second.epoch, second.count()), (2, 0));
    assert_eq!(world.group().state().name(), "Reconciling");
    // The first is asked for half of it, and stays in its epoch.
    let asked = world.heartbeat(first.request());
    assert_eq!(asked.member_epoch, 1);
    assert_eq!(asked.assignment.as_ref().unwrap()[0].partitions.len(), 4);
    // As long as it does not say that it gave it back, the second gets nothing.
    let mut silent = first.request();
    silent.topic_partitions = None;
    assert_eq!(world.heartbeat(silent).member_epoch, 1);
    assert_eq!(world.heartbeat(first.request()).member_epoch, 1);
    world.poll(&mut second).unwrap();
    assert_eq!(second.count(), 0);
    first.take(&asked);
    world.poll(&mut first).unwrap();
    assert_eq!((first.epoch, first.count()), (2, 4));
    world.poll(&mut second).unwrap();
    assert_eq!((second.epoch, second.count()), (2, 4));
    assert_eq!(world.group().state().name(), "Stable");
}

#[test]
fn a_member_that_does_not_give_back_in_time_is_fenced() {
    let mut world = World::new();
    let mut first = world.joined(&["t0"]);
    let mut second = world.joined(&["t0"]);
    let stubborn = first.clone();
    world.poll(&mut first).unwrap();
    for _ in 0..13 {
        world.advance(5_000);
        world.poll(&mut second).unwrap();
        let _ = world.heartbeat(stubborn.request());
    }
    assert_eq!(
        world.refused(stubborn.request()),
        Some(GroupError::UnknownMemberId)
    );
    world.settle(&mut [&mut second]);
    assert_eq!(second.count(), 8);
}

#[test]
fn a_member_that_is_silent_for_its_session_is_fenced_and_may_join_again() {
    let mut world = World::new();
    let mut first = world.joined(&["t0"]);
    let mut second = world.joined(&["t0"]);
    world.settle(&mut [&mut first, &mut second]);
    world.advance(SESSION_MS / 2);
    world.poll(&mut second).unwrap();
    world.advance(SESSION_MS / 2 + 1);
    world.settle(&mut [&mut second]);
    assert_eq!(second.count(), 8);
    assert_eq!(world.poll(&mut first), Err(GroupError::UnknownMemberId));
    world.poll(&mut first).unwrap();
    world.settle(&mut [&mut first, &mut second]);
    assert_eq!((first.count(), second.count()), (4, 4));
}

#[test]
fn members_have_their_whole_session_on_a_new_leader() {
    let mut world = World::new();
    let mut member = world.joined(&["t0"]);
    world.advance(SESSION_MS - 1_000);
    world.driver.fail_over();
    world.advance(SESSION_MS - 1_000);
    world.poll(&mut member).unwrap();
    world.driver.fail_over();
    world.advance(SESSION_MS + 1_000);
    assert_eq!(world.poll(&mut member), Err(GroupError::UnknownMemberId));
    world.driver.settle();
}

#[test]
fn what_a_member_must_give_back_is_remembered_by_a_new_leader() {
    let mut world = World::new();
    let mut first = world.joined(&["t0"]);
    let mut second = world.joined(&["t0"]);
    let stubborn = first.clone();
    world.poll(&mut first).unwrap();
    world.driver.fail_over();
    world.poll(&mut second).unwrap();
    assert_eq!(second.count(), 0);
    for _ in 0..13 {
        world.advance(5_000);
        world.poll(&mut second).unwrap();
        let _ = world.heartbeat(stubborn.request());
    }
    assert_eq!(
        world.refused(stubborn.request()),
        Some(GroupError::UnknownMemberId)
    );
}

#[test]
fn an_epoch_that_is_not_the_members_is_fenced() {
    let mut world = World::new();
    let mut first = world.joined(&["t0"]);
    let mut second = world.joined(&["t0"]);
    world.settle(&mut [&mut first, &mut second]);
    assert_eq!(first.epoch, 2);
    let mut ahead = first.request();
    ahead.member_epoch = 3;
    assert_eq!(world.refused(ahead), Some(GroupError::FencedMemberEpoch));
    // The epoch before is that of a lost answer, if the member owns no more than it may.
    let mut lost = first.request();
    lost.member_epoch = 1;
    let response = world.heartbeat(lost.clone());
    assert_eq!((response.error, response.member_epoch), (None, 2));
    lost.topic_partitions.as_mut().unwrap()[0].partitions = (0..8).collect();
    assert_eq!(
        world.refused(lost.clone()),
        Some(GroupError::FencedMemberEpoch)
    );
    lost.topic_partitions = None;
    assert_eq!(world.refused(lost), Some(GroupError::FencedMemberEpoch));
    // Joining again with the id is always allowed, and brings the epoch back.
    first.epoch = 0;
    first.owned.clear();
    world.poll(&mut first).unwrap();
    assert_eq!((first.epoch, first.count()), (2, 4));
}

#[test]
fn who_leaves_frees_its_partitions_at_once() {
    let mut world = World::new();
    let mut first = world.joined(&["t0"]);
    let mut second = world.joined(&["t0"]);
    world.settle(&mut [&mut first, &mut second]);
    let response = world.leave(&first, -1);
    assert_eq!((response.error, response.member_epoch), (None, -1));
    assert_eq!(response.member_id, Some(first.id.clone()));
    assert_eq!(
        world.leave(&first, -1).error,
        Some(GroupError::UnknownMemberId)
    );
    world.poll(&mut second).unwrap();
    assert_eq!((second.epoch, second.count()), (3, 8));
    world.leave(&second, -1);
    assert_eq!(world.describe().state, "Empty");
    world.driver.settle();
}

#[test]
fn unknown_groups_and_members_are_named() {
    let mut world = World::new();
    let mut stranger = Consumer::new(&["t0"]);
    (stranger.id, stranger.epoch) = ("x".to_owned(), 3);
    assert_eq!(
        world.refused(stranger.request()),
        Some(GroupError::GroupIdNotFound)
    );
    assert_eq!(
        world.leave(&stranger, -1).error,
        Some(GroupError::GroupIdNotFound)
    );
    world.joined(&["t0"]);
    assert_eq!(
        world.refused(stranger.request()),
        Some(GroupError::UnknownMemberId)
    );
    assert_eq!(
        world.leave(&stranger, -1).error,
        Some(GroupError::UnknownMemberId)
    );
    let nothing = world
        .driver
        .ask(Command::ConsumerGroupDescribe(vec!["none".to_owned()]));
    let Response::ConsumerGroupDescribe(described) = nothing else {
        panic!("{nothing:?}")
    };
    assert_eq!(described[0].error, Some(GroupError::GroupIdNotFound));
    assert_eq!(described[0].group_id, "none");
}

#[test]
fn requests_that_contradict_themselves_are_invalid() {
    type Spoil = fn(&mut ConsumerGroupHeartbeat);
    let spoils: [(&str, Spoil); 13] = [
        ("no group", |r| r.group_id = " ".to_owned()),
        ("a long group", |r| r.group_id = "g".repeat(2_000)),
        ("a long member", |r| r.member_id = "m".repeat(2_000)),
        ("an empty instance", |r| r.instance_id = Some(String::new())),
        ("an empty rack", |r| r.rack_id = Some(" ".to_owned())),
        ("no rebalance timeout", |r| r.rebalance_timeout_ms = -1),
        ("nothing owned said", |r| r.topic_partitions = None),
        ("something owned", |r| {
            r.topic_partitions = Some(vec![OwnedTopic {
                topic_id: Uuid(1),
                partitions: vec![0],
            }]);
        }),
        ("no subscription", |r| r.subscribed_topic_names = None),
        ("a huge subscription", |r| {
            r.subscribed_topic_names = Some(vec!["n".repeat(40); 50_000]);
        }),
        ("an epoch below -2", |r| r.member_epoch = -3),
        ("away without an instance", |r| {
            (r.member_epoch, r.member_id) = (-2, "m".to_owned())
        }),
        ("an epoch without a member", |r| r.member_epoch = 4),
    ];
    let mut world = World::new();
    for (what, spoil) in spoils {
        let mut request = Consumer::new(&["t0"]).request();
        spoil(&mut request);
        assert_eq!(
            world.refused(request),
            Some(GroupError::InvalidRequest),
            "{what}"
        );
    }
    let mut request = Consumer::new(&["t0"]).request();
    request.server_assignor = Some("best".to_owned());
    assert_eq!(
        world.refused(request),
        Some(GroupError::UnsupportedAssignor)
    );
    world.advance(100);
    assert!(world.driver.log().is_empty());
}

#[test]
fn a_full_group_takes_nobody_else() {
    let config = GroupsConfig {
        consumer_max_size: 2,
        ..GroupsConfig::default()
    };
    let mut world = World::with(config, 1);
    let mut first = world.joined(&["t0"]);
    let mut second = world.joined(&["t0"]);
    let third = Consumer::new(&["t0"]);
    assert_eq!(
        world.refused(third.request()),
        Some(GroupError::GroupMaxSizeReached)
    );
    world.settle(&mut [&mut first, &mut second]);
}

#[test]
fn there_are_no_more_groups_than_there_may_be() {
    let config = GroupsConfig {
        groups_max: 1,
        ..GroupsConfig::default()
    };
    let mut world = World::with(config, 1);
    world.joined(&["t0"]);
    let mut request = Consumer::new(&["t0"]).request();
    request.group_id = "another".to_owned();
    assert_eq!(
        world.refused(request),
        Some(GroupError::GroupMaxSizeReached)
    );
}

#[test]
fn another_subscription_takes_what_is_not_in_it_and_gives_what_is() {
    let mut world = World::new();
    let mut member = world.joined(&["t0"]);
    member.names = vec!["t1".to_owned()];
    member.full = true;
    world.poll(&mut member).unwrap();
    assert_eq!((member.epoch, member.count()), (1, 0));
    world.poll(&mut member).unwrap();
    assert_eq!(member.epoch, 2);
    assert_eq!(
        member.owned.keys().copied().collect::<Vec<_>>(),
        [Uuid(1_001)]
    );
    member.names.clear();
    member.full = true;
    world.settle(&mut [&mut member]);
    assert_eq!(member.count(), 0);
}

#[test]
fn topics_that_come_grow_and_go_are_noticed_with_the_next_heartbeat() {
    let mut world = World::new();
    let mut member = world.joined(&["t0", "new"]);
    assert_eq!(member.count(), 8);
    world.put_topic("new", 77, 2);
    world.settle(&mut [&mut member]);
    assert_eq!(member.count(), 10);
    world.put_topic("new", 77, 5);
    world.settle(&mut [&mut member]);
    assert_eq!(member.count(), 13);
    // Deleted and made anew: other partitions under the old name.
    world.put_topic("new", 78, 1);
    world.settle(&mut [&mut member]);
    assert_eq!(member.owned[&Uuid(78)], BTreeSet::from([0]));
    assert!(!member.owned.contains_key(&Uuid(77)));
    world.driver.context.remove("new");
    assert_eq!(world.driver.ask(Command::TopicsChanged), Response::Done);
    world.settle(&mut [&mut member]);
    assert_eq!(member.count(), 8);
    // Other topics are none of its business.
    let epoch = member.epoch;
    world.put_topic("other", 99, 3);
    world.settle(&mut [&mut member]);
    assert_eq!(member.epoch, epoch);
    // Nor is a new leader a reason for a new epoch.
    world.driver.fail_over();
    world.settle(&mut [&mut member]);
    assert_eq!(member.epoch, epoch);
}

#[test]
fn the_assignor_that_most_wish_for_assigns() {
    let mut world = World::new();
    let mut members: Vec<Consumer> = (0..3).map(|_| Consumer::new(&["t0", "t1"])).collect();
    for member in &mut members {
        world.poll(member).unwrap();
    }
    assert_eq!(world.describe().assignor_name, "uniform");
    for member in &mut members[..2] {
        member.assignor = Some("range".to_owned());
        world.poll(member).unwrap();
    }
    assert_eq!(world.describe().assignor_name, "range");
    members[2].assignor = Some("uniform".to_owned());
    let last = &members[1];
    world.leave(last, -1);
    members.remove(1);
    // One wish each: the one that the configuration names first.
    let [first, second] = &mut members[..] else {
        panic!("two are left")
    };
    world.settle(&mut [first, second]);
    assert_eq!(world.describe().assignor_name, "uniform");
}

#[test]
fn a_description_shows_who_has_what_and_shall_have_what() {
    let mut world = World::new();
    let first = world.joined(&["t0"]);
    let second = world.joined(&["t0"]);
    let described = world.describe();
    assert_eq!(described.error, None);
    assert_eq!(described.state, "Reconciling");
    assert_eq!((described.group_epoch, described.assignment_epoch), (2, 2));
    let member = |id: &str| {
        described
            .members
            .iter()
            .find(|m| m.member_id == id)
            .unwrap()
    };
    let (one, two) = (member(&first.id), member(&second.id));
    assert_eq!((one.member_epoch, two.member_epoch), (1, 2));
    assert_eq!(one.client_id, "client");
    assert_eq!(one.client_host, "/10.0.0.1");
    assert_eq!(one.subscribed_topic_names, ["t0"]);
    assert_eq!(one.member_type, 1);
    assert_eq!(one.assignment.topics[0].name, "t0");
    assert_eq!(one.assignment.topics[0].partitions.len(), 8);
    assert_eq!(one.target_assignment.topics[0].partitions.len(), 4);
    assert!(two.assignment.topics.is_empty());
    assert_eq!(two.target_assignment.topics[0].partitions.len(), 4);
}

#[test]
fn offsets_are_committed_and_fetched_with_the_members_epoch() {
    let mut world = World::new();
    let mut first = world.joined(&["t0"]);
    let mut second = world.joined(&["t0"]);
    world.settle(&mut [&mut first, &mut second]);
    assert_eq!(world.commit(commit_by(&first.id, 2)), None);
    assert_eq!(
        world.commit(commit_by(&first.id, 1)),
        Some(GroupError::StaleMemberEpoch)
    );
    assert_eq!(
        world.commit(commit_by(&first.id, 3)),
        Some(GroupError::StaleMemberEpoch)
    );
    assert_eq!(
        world.commit(commit_by("x", 2)),
        Some(GroupError::UnknownMemberId)
    );
    assert_eq!(
        world.commit(commit_by("", -1)),
        Some(GroupError::UnknownMemberId)
    );
    let old = OffsetCommit {
        understands_member_epochs: false,
        ..commit_by(&first.id, 2)
    };
    assert_eq!(world.commit(old), Some(GroupError::UnsupportedVersion));
    let mut fetch = |member_id: Option<&str>, member_epoch| {
        let command = OffsetFetch {
            group_id: GROUP.to_owned(),
            member_id: member_id.map(str::to_owned),
            member_epoch,
            ..OffsetFetch::default()
        };
        match world.driver.ask(Command::OffsetFetch(command)) {
            Response::OffsetFetch(answer) => answer.error.map_or(Ok(answer.topics.len()), Err),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(fetch(None, -1), Ok(1));
    assert_eq!(fetch(Some(&first.id), 2), Ok(1));
    assert_eq!(fetch(Some(&first.id), 1), Err(GroupError::StaleMemberEpoch));
    assert_eq!(fetch(Some("x"), 2), Err(GroupError::UnknownMemberId));
    world.leave(&first, -1);
    world.leave(&second, -1);
    // Nobody is in it: an admin may commit.
    assert_eq!(world.commit(commit_by("", -1)), None);
    world.driver.settle();
}

#[test]
fn an_append_that_fails_leaves_nothing_behind() {
    let mut world = World::new();
    let mut first = world.joined(&["t0"]);
    let second = Consumer::new(&["t0"]);
    let mut request = second.request();
    request.fresh_id = world.fresh_id();
    let reply = world.driver.send(Command::ConsumerGroupHeartbeat(request));
    world.driver.fail_append();
    assert_eq!(
        world.driver.take(reply),
        Some(coordinator::Outcome::Resigned)
    );
    world.poll(&mut first).unwrap();
    world.driver.settle();
}

#[test]
fn four_hundred_members_that_join_at_once_share_a_hundred_partitions() {
    let mut world = World::new();
    world.put_topic("big", 5, 100);
    let mut members: Vec<Consumer> = (0..400).map(|_| Consumer::new(&["big"])).collect();
    let mut replies = Vec::new();
    for member in &members {
        let mut request = member.request();
        request.fresh_id = world.fresh_id();
        replies.push(world.driver.send(Command::ConsumerGroupHeartbeat(request)));
    }
    world.advance(1_000);
    for (member, reply) in members.iter_mut().zip(replies) {
        match world.driver.take(reply) {
            Some(coordinator::Outcome::Answered(Response::ConsumerGroupHeartbeat(response))) => {
                member.take(&response);
            }
            other => panic!("{other:?}"),
        }
    }
    for _ in 0..4 {
        for member in &mut members {
            world.poll(member).unwrap();
        }
    }
    assert_eq!(world.group().state().name(), "Stable");
    assert!(
        members
            .iter()
            .all(|member| member.count() <= 1 && member.epoch == 400)
    );
    assert_eq!(members.iter().map(Consumer::count).sum::<usize>(), 100);
}
