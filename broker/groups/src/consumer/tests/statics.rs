//! Members with an instance id, in the consumer protocol.

use super::*;

#[test]
fn a_static_member_that_is_away_keeps_its_partitions_for_the_one_that_comes_back() {
    let mut world = World::new();
    let mut one = Consumer::with_instance(&["t0"], "one");
    let mut two = Consumer::with_instance(&["t0"], "two");
    world.poll(&mut one).unwrap();
    world.poll(&mut two).unwrap();
    world.settle(&mut [&mut one, &mut two]);
    let epoch = world.group().epoch();
    let response = world.leave(&one, -2);
    assert_eq!((response.error, response.member_epoch), (None, -2));
    world.poll(&mut two).unwrap();
    assert_eq!(two.count(), 4);

    let mut again = Consumer::with_instance(&["t0"], "one");
    world.poll(&mut again).unwrap();
    assert_ne!(again.id, one.id);
    assert_eq!((again.epoch, &again.owned), (epoch, &one.owned));
    assert_eq!(world.group().epoch(), epoch);
    world.settle(&mut [&mut again, &mut two]);
    // The one before is no member any more.
    assert_eq!(
        world.refused(one.request()),
        Some(GroupError::FencedInstanceId)
    );
    assert_eq!(
        world.leave(&one, -1).error,
        Some(GroupError::FencedInstanceId)
    );
    one.instance = None;
    assert_eq!(
        world.refused(one.request()),
        Some(GroupError::UnknownMemberId)
    );
}

#[test]
fn an_instance_id_in_use_is_not_released() {
    let mut world = World::new();
    let mut one = Consumer::with_instance(&["t0"], "one");
    world.poll(&mut one).unwrap();
    let other = Consumer::with_instance(&["t0"], "one");
    assert_eq!(
        world.refused(other.request()),
        Some(GroupError::UnreleasedInstanceId)
    );
    world.poll(&mut one).unwrap();
    world.leave(&one, -1);
    assert_eq!(world.refused(other.request()), None);
}

#[test]
fn a_static_member_that_does_not_come_back_loses_its_place() {
    let mut world = World::new();
    let mut one = Consumer::with_instance(&["t0"], "one");
    let mut two = Consumer::with_instance(&["t0"], "two");
    world.poll(&mut one).unwrap();
    world.poll(&mut two).unwrap();
    world.settle(&mut [&mut one, &mut two]);
    world.leave(&one, -2);
    for _ in 0..12 {
        world.advance(4_000);
        world.poll(&mut two).unwrap();
    }
    world.settle(&mut [&mut two]);
    assert_eq!(two.count(), 8);
}

#[test]
fn unknown_instance_ids_are_unknown_members() {
    let mut world = World::new();
    world.joined(&["t0"]);
    let mut stranger = Consumer::with_instance(&["t0"], "none");
    (stranger.id, stranger.epoch) = ("x".to_owned(), 1);
    assert_eq!(
        world.refused(stranger.request()),
        Some(GroupError::UnknownMemberId)
    );
    for epoch in [-1, -2] {
        assert_eq!(
            world.leave(&stranger, epoch).error,
            Some(GroupError::UnknownMemberId)
        );
    }
}

#[test]
fn a_static_member_that_comes_back_with_other_topics_causes_a_new_epoch() {
    let mut world = World::new();
    let mut one = Consumer::with_instance(&["t0"], "one");
    world.poll(&mut one).unwrap();
    world.leave(&one, -2);
    let mut again = Consumer::with_instance(&["t1"], "one");
    world.poll(&mut again).unwrap();
    world.settle(&mut [&mut again]);
    assert_eq!(
        again.owned.keys().copied().collect::<Vec<_>>(),
        [Uuid(1_001)]
    );
    assert_eq!(world.group().epoch(), 2);
    assert_eq!(world.group().members().len(), 1);
}

#[test]
fn a_static_member_that_goes_while_it_must_give_back_is_not_hurried() {
    let mut world = World::new();
    let mut one = Consumer::with_instance(&["t0"], "one");
    world.poll(&mut one).unwrap();
    world.joined(&["t0"]);
    let mut asked = one.request();
    asked.rebalance_timeout_ms = 10_000;
    let told = world.heartbeat(asked);
    assert_eq!(told.assignment.map(|all| all[0].partitions.len()), Some(4));
    assert_eq!(world.leave(&one, -2).error, None);
    world.advance(20_000);
    let mut again = Consumer::with_instance(&["t0"], "one");
    world.poll(&mut again).unwrap();
    assert_eq!(again.count(), 4, "its place was kept");
    assert_eq!(world.group().epoch(), again.epoch);
}

#[test]
fn a_group_that_says_too_much_turns_the_next_away() {
    for config in [
        GroupsConfig {
            members_bytes_per_group_max: 3_000,
            ..GroupsConfig::default()
        },
        GroupsConfig {
            coordinator_bytes_max: 3_000,
            ..GroupsConfig::default()
        },
    ] {
        let mut world = World::with(config, 1);
        let mut one = world.joined(&["t0"]);
        let names: Vec<String> = (0..60).map(|n| format!("topic{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let full = Some(GroupError::GroupMaxSizeReached);
        assert_eq!(world.refused(Consumer::new(&names).request()), full);
        let mut classic = Classic::new(&names);
        classic.names.push("t0".to_owned());
        assert_eq!(world.join_classic(classic.request()).error, full);
        world.poll(&mut one).unwrap();
        world.settle(&mut [&mut one]);
        world.joined(&["t0"]);
        assert_eq!(world.group().members().len(), 2);
    }
}
