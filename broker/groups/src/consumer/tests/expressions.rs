//! Subscriptions by regular expression.

use super::*;

fn member(regex: &str) -> Consumer {
    Consumer {
        regex: Some(regex.to_owned()),
        ..Consumer::new(&[])
    }
}

#[test]
fn an_expression_brings_the_topics_that_it_matches() {
    let mut world = World::new();
    let mut one = member("t[01]");
    world.poll(&mut one).unwrap();
    assert_eq!(one.count(), 16);
    // By name and by expression together.
    one.names = vec!["t3".to_owned()];
    one.full = true;
    world.settle(&mut [&mut one]);
    assert_eq!(one.count(), 24);
    one.regex = Some(String::new());
    one.full = true;
    world.settle(&mut [&mut one]);
    assert_eq!(one.owned.keys().copied().collect::<Vec<_>>(), [Uuid(1_003)]);
    assert!(world.group().expressions().is_empty());
}

#[test]
fn an_expression_that_is_none_is_refused() {
    let mut world = World::new();
    for bad in ["(", "a)(b", "[z-a]", &"x".repeat(2_000)] {
        let request = member(bad).request();
        assert_eq!(
            world.refused(request),
            Some(GroupError::InvalidRegularExpression),
            "{bad}"
        );
    }
    world.advance(100);
    assert!(world.driver.log().is_empty());
}

#[test]
fn new_topics_that_match_come_with_a_later_heartbeat() {
    let mut world = World::new();
    let mut one = member("t.*");
    world.poll(&mut one).unwrap();
    assert_eq!(one.count(), 32);
    world.put_topic("t9", 9, 1);
    world.poll(&mut one).unwrap();
    // Not more often than every ten seconds.
    assert_eq!(one.count(), 32);
    world.advance(10_000);
    world.settle(&mut [&mut one]);
    assert_eq!(one.count(), 33);
    world.driver.context.remove("t9");
    assert_eq!(world.driver.ask(Command::TopicsChanged), Response::Done);
    world.advance(10_000);
    world.settle(&mut [&mut one]);
    assert_eq!(one.count(), 32);
    // A topic that does not match changes nothing.
    let epoch = one.epoch;
    world.put_topic("other", 10, 1);
    world.advance(10_000);
    world.settle(&mut [&mut one]);
    assert_eq!(one.epoch, epoch);
}

#[test]
fn an_expression_is_forgotten_with_the_last_member_that_uses_it() {
    let mut world = World::new();
    let mut one = member("t0");
    let mut two = member("t0");
    world.poll(&mut one).unwrap();
    world.poll(&mut two).unwrap();
    world.settle(&mut [&mut one, &mut two]);
    assert_eq!((one.count(), two.count()), (4, 4));
    world.leave(&one, -1);
    assert_eq!(world.group().expressions().len(), 1);
    world.leave(&two, -1);
    assert!(world.group().expressions().is_empty());
    world.driver.settle();
}

#[test]
fn what_an_expression_stands_for_survives_a_change_of_leader() {
    let mut world = World::new();
    let mut one = member("t[12]");
    world.poll(&mut one).unwrap();
    let epoch = one.epoch;
    world.driver.fail_over();
    world.settle(&mut [&mut one]);
    assert_eq!((one.epoch, one.count()), (epoch, 16));
    assert_eq!(
        world.describe().members[0].subscribed_topic_regex,
        Some("t[12]".to_owned())
    );
}

#[test]
fn a_group_has_a_bounded_number_of_expressions() {
    let config = GroupsConfig {
        regexes_per_group_max: 2,
        ..GroupsConfig::default()
    };
    let mut world = World::with(config, 1);
    for regex in ["t0", "t1", "t1"] {
        world.poll(&mut member(regex)).unwrap();
    }
    let refused = world.refused(member("t2").request());
    assert_eq!(refused, Some(GroupError::InvalidRegularExpression));
    assert_eq!(world.group().members().len(), 3);
}

#[test]
fn expressions_that_match_very_much_are_looked_at_a_few_at_a_time() {
    let config = GroupsConfig {
        regex_refresh_bytes: 1_500,
        ..GroupsConfig::default()
    };
    let mut world = World::with(config, 1);
    let mut members: Vec<Consumer> = ["t.*", "(t.*)", "t+.*", ".*"].map(member).to_vec();
    for member in &mut members {
        world.poll(member).unwrap();
    }
    for n in 0..100 {
        world.driver.context.insert(Topic {
            id: Uuid(50_000 + n),
            name: format!("t{n:0>9}"),
            partitions: 1,
            racks: Vec::new(),
        });
    }
    assert_eq!(world.driver.ask(Command::TopicsChanged), Response::Done);
    world.advance(10_000);
    let resolved = |world: &World| {
        let values = world.group().expressions().values();
        values.filter(|value| value.topics.len() > 100).count()
    };
    for expected in [2, 4] {
        world.poll(&mut members[0]).unwrap();
        assert_eq!(resolved(&world), expected);
    }
}
