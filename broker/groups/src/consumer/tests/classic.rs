//! Members of the classic protocol in a consumer group, and the way from one kind of group to the
//! other and back with members in it.

use coordinator::Outcome;

use super::*;
use crate::command::SyncAssignment;
use crate::config::MigrationPolicy;
use crate::record::embedded::{NamedPartitions, encode_assignment};
use crate::testing::DELAY_MS;

impl World {
    /// A stable classic group of these members, to which its leader gave the partitions of `t0` in
    /// turn.
    fn classic_group(&mut self, members: &mut [&mut Classic]) {
        let count = i32::try_from(members.len()).unwrap();
        self.classic_group_with(members, |turn, partition| partition % count == turn);
    }

    /// The same; the leader gives each member, by its place, the partitions that this says.
    fn classic_group_with(
        &mut self,
        members: &mut [&mut Classic],
        gives: impl Fn(i32, i32) -> bool,
    ) {
        let mut replies = Vec::new();
        for member in members.iter() {
            let mut request = member.request();
            request.fresh_id = self.fresh_id();
            replies.push(self.driver.send(Command::JoinGroup(request)));
        }
        // Each that comes while the first rebalance is put off puts it off once more.
        self.advance(DELAY_MS * 2);
        let mut leader = String::new();
        for (member, reply) in members.iter_mut().zip(replies) {
            let Some(Outcome::Answered(Response::JoinGroup(joined))) = self.driver.take(reply)
            else {
                panic!("did not join");
            };
            assert_eq!(joined.error, None);
            member.id = joined.member_id;
            member.generation = joined.generation_id;
            leader = joined.leader;
        }
        for (turn, member) in (0..).zip(members.iter_mut()) {
            let given = (0..8).filter(|&partition| gives(turn, partition));
            member.owned = given
                .map(|partition| ("t0".to_owned(), partition))
                .collect();
        }
        let assignments: Vec<SyncAssignment> = members
            .iter()
            .map(|member| SyncAssignment {
                member_id: member.id.clone(),
                assignment: encode_assignment(1, &by_topic(&member.owned)),
            })
            .collect();
        let mut replies = Vec::new();
        for member in members.iter() {
            replies.push(self.driver.send(Command::SyncGroup(SyncGroup {
                group_id: GROUP.to_owned(),
                generation_id: member.generation,
                member_id: member.id.clone(),
                assignments: if member.id == leader {
                    assignments.clone()
                } else {
                    Vec::new()
                },
                ..SyncGroup::default()
            })));
        }
        self.advance(100);
        for reply in replies {
            let Some(Outcome::Answered(Response::SyncGroup(synced))) = self.driver.take(reply)
            else {
                panic!("did not sync");
            };
            assert_eq!(synced.error, None);
        }
    }

    /// Lets everybody go on until nobody has anything to do.
    fn settle_mixed(&mut self, consumers: &mut [&mut Consumer], classics: &mut [&mut Classic]) {
        for _ in 0..30 {
            let mut busy = false;
            for member in consumers.iter_mut() {
                let before = (*member).clone();
                self.poll(member).unwrap();
                busy |= before != **member;
            }
            for member in classics.iter_mut() {
                busy |= self.poll_classic(member);
            }
            if !busy && self.group().state().name() == "Stable" {
                self.driver.settle();
                return;
            }
        }
        panic!("does not settle: {:#?}", self.group());
    }

    fn is_classic(&self) -> bool {
        self.driver.leader().consumer(GROUP).is_none()
    }

    fn state_of_classic(&mut self) -> &'static str {
        match self
            .driver
            .ask(Command::DescribeGroups(vec![GROUP.to_owned()]))
        {
            Response::DescribeGroups(described) => described[0].state,
            other => panic!("{other:?}"),
        }
    }
}

fn by_topic(owned: &BTreeSet<(String, i32)>) -> NamedPartitions {
    let mut all = NamedPartitions::new();
    for (name, partition) in owned {
        all.entry(name.clone()).or_default().insert(*partition);
    }
    all
}

/// That the eight partitions of `t0` are divided among them.
fn assert_divided(consumers: &[&Consumer], classics: &[&Classic]) {
    let topic = Uuid(1_000);
    let consumers = consumers
        .iter()
        .flat_map(|m| m.owned.get(&topic).into_iter().flatten());
    let classics = classics
        .iter()
        .flat_map(|m| m.owned.iter().map(|(_, partition)| partition));
    let mut all: Vec<i32> = consumers.chain(classics).copied().collect();
    all.sort_unstable();
    assert_eq!(all, (0..8).collect::<Vec<_>>());
}

#[test]
fn a_group_goes_from_classic_to_consumer_with_its_members_in_it() {
    let mut world = World::new();
    let (mut a, mut b) = (Classic::new(&["t0"]), Classic::new(&["t0"]));
    world.classic_group(&mut [&mut a, &mut b]);
    let mut c = Consumer::new(&["t0"]);
    world.poll(&mut c).unwrap();
    assert_eq!(c.epoch, a.generation + 1);
    assert_eq!(c.count(), 0);
    assert_eq!(world.group().members().len(), 3);
    // The classic members keep what they have until they have joined again.
    assert_eq!(
        world.heartbeat_classic(&a),
        Err(GroupError::RebalanceInProgress)
    );
    world.settle_mixed(&mut [&mut c], &mut [&mut a, &mut b]);
    assert_divided(&[&c], &[&a, &b]);
    assert!(c.count() >= 2 && a.owned.len() >= 2 && b.owned.len() >= 2);
    let described = world.describe();
    let classic: Vec<i8> = described.members.iter().map(|m| m.member_type).collect();
    assert_eq!(classic.iter().filter(|&&kind| kind == 0).count(), 2);
    // One by one they change over; nothing is lost.
    assert_eq!(world.leave_classic(&a.id), None);
    let mut d = Consumer::new(&["t0"]);
    world.poll(&mut d).unwrap();
    world.settle_mixed(&mut [&mut c, &mut d], &mut [&mut b]);
    assert_divided(&[&c, &d], &[&b]);
    assert_eq!(world.leave_classic(&b.id), None);
    world.settle(&mut [&mut c, &mut d]);
    assert_divided(&[&c, &d], &[]);
}

#[test]
fn who_waits_in_the_classic_group_is_told_to_join_again() {
    let mut world = World::new();
    let mut a = Classic::new(&["t0"]);
    world.classic_group(&mut [&mut a]);
    let mut late = Classic::new(&["t0"]).request();
    late.fresh_id = world.fresh_id();
    let waiting = world.driver.send(Command::JoinGroup(late));
    let mut c = Consumer::new(&["t0"]);
    world.poll(&mut c).unwrap();
    let Some(Outcome::Answered(Response::JoinGroup(joined))) = world.driver.take(waiting) else {
        panic!("still waits");
    };
    assert_eq!(joined.error, Some(GroupError::RebalanceInProgress));
}

#[test]
fn a_group_goes_back_to_classic_when_its_last_consumer_leaves() {
    let mut world = World::new();
    let (mut a, mut b) = (Classic::new(&["t0"]), Classic::new(&["t0"]));
    world.classic_group(&mut [&mut a, &mut b]);
    let mut c = Consumer::new(&["t0"]);
    world.poll(&mut c).unwrap();
    world.settle_mixed(&mut [&mut c], &mut [&mut a, &mut b]);
    let epoch = world.group().epoch();
    assert_eq!(world.leave(&c, -1).error, None);
    assert!(world.is_classic());
    assert_eq!(world.state_of_classic(), "PreparingRebalance");
    assert_eq!(
        world.heartbeat_classic(&a),
        Err(GroupError::RebalanceInProgress)
    );
    world.driver.settle();
    // They join as in any classic group.
    let mut replies = Vec::new();
    for member in [&a, &b] {
        replies.push(world.driver.send(Command::JoinGroup(member.request())));
    }
    world.advance(200);
    for reply in replies {
        let Some(Outcome::Answered(Response::JoinGroup(joined))) = world.driver.take(reply) else {
            panic!("did not join");
        };
        assert_eq!((joined.error, joined.generation_id), (None, epoch + 1));
    }
    world.driver.settle();
}

#[test]
fn a_group_goes_back_to_classic_when_its_last_consumer_dies() {
    let mut world = World::new();
    let mut a = Classic::new(&["t0"]);
    world.classic_group(&mut [&mut a]);
    let mut c = Consumer::new(&["t0"]);
    world.poll(&mut c).unwrap();
    world.settle_mixed(&mut [&mut c], &mut [&mut a]);
    for _ in 0..16 {
        world.advance(3_000);
        if world.is_classic() {
            break;
        }
        world.poll_classic(&mut a);
    }
    assert!(world.is_classic());
    world.driver.settle();
}

#[test]
fn a_static_consumer_that_comes_back_classic_takes_the_group_with_it() {
    let mut world = World::new();
    let mut c = Consumer::with_instance(&["t0"], "one");
    world.poll(&mut c).unwrap();
    let mut again = Classic::new(&["t0"]);
    again.instance = Some("one".to_owned());
    let joined = world.join_classic(again.request());
    assert_eq!(joined.error, None);
    assert!(world.is_classic());
    // Nothing changed for the group: it is stable, and the member gets what it had.
    assert_eq!(world.state_of_classic(), "Stable");
    assert_eq!(joined.generation_id, c.epoch);
    again.id = joined.member_id;
    again.generation = joined.generation_id;
    let synced = world.sync_classic(&again);
    assert_eq!(synced.error, None);
    let assigned = embedded::decode_assignment(&synced.assignment)
        .unwrap()
        .partitions;
    assert_eq!(assigned["t0"].len(), 8);
    assert_eq!(world.heartbeat_classic(&again), Ok(()));
    world.driver.settle();
}

#[test]
fn the_policy_forbids_either_way() {
    let with = |policy| GroupsConfig {
        consumer_migration_policy: policy,
        ..GroupsConfig::default()
    };
    for policy in [MigrationPolicy::Disabled, MigrationPolicy::Downgrade] {
        let mut world = World::with(with(policy), 1);
        let mut a = Classic::new(&["t0"]);
        world.classic_group(&mut [&mut a]);
        let c = Consumer::new(&["t0"]);
        assert_eq!(
            world.refused(c.request()),
            Some(GroupError::GroupIdNotFound),
            "{policy:?}"
        );
        assert_eq!(world.heartbeat_classic(&a), Ok(()));
    }
    let mut world = World::with(with(MigrationPolicy::Upgrade), 1);
    let mut a = Classic::new(&["t0"]);
    world.classic_group(&mut [&mut a]);
    let mut c = Consumer::new(&["t0"]);
    world.poll(&mut c).unwrap();
    world.settle_mixed(&mut [&mut c], &mut [&mut a]);
    world.leave(&c, -1);
    assert!(!world.is_classic());
    world.settle_mixed(&mut [], &mut [&mut a]);
    assert_divided(&[], &[&a]);
}

#[test]
fn a_classic_group_of_others_than_consumers_stays_as_it_is() {
    let mut world = World::new();
    let mut request = Classic::new(&["t0"]).request();
    request.protocol_type = "connect".to_owned();
    request.fresh_id = world.fresh_id();
    world.driver.send(Command::JoinGroup(request));
    world.advance(DELAY_MS);
    let c = Consumer::new(&["t0"]);
    assert_eq!(
        world.refused(c.request()),
        Some(GroupError::GroupIdNotFound)
    );
    assert!(world.is_classic());
}

#[test]
fn a_classic_group_whose_subscriptions_cannot_be_read_stays_as_it_is() {
    let mut world = World::new();
    let mut request = Classic::new(&["t0"]).request();
    request.protocols[0].metadata = Bytes::from_static(&[0, 0, 0, 9]);
    request.fresh_id = world.fresh_id();
    world.driver.send(Command::JoinGroup(request));
    world.advance(DELAY_MS);
    let c = Consumer::new(&["t0"]);
    assert_eq!(
        world.refused(c.request()),
        Some(GroupError::GroupIdNotFound)
    );
    assert!(world.is_classic());
}

#[test]
fn an_empty_group_takes_members_of_either_protocol() {
    let mut world = World::new();
    let mut a = Classic::new(&["t0"]);
    world.classic_group(&mut [&mut a]);
    world.leave_classic(&a.id);
    let c = world.joined(&["t0"]);
    assert_eq!(c.count(), 8);
    world.leave(&c, -1);
    let mut a = Classic::new(&["t0"]);
    world.classic_group(&mut [&mut a]);
    assert!(world.is_classic());
    world.driver.settle();
}

#[test]
fn a_classic_member_joins_a_consumer_group() {
    let mut world = World::new();
    let mut c = world.joined(&["t0"]);
    let mut a = Classic::new(&["t0"]);
    let mut request = a.request();
    request.requires_known_member_id = true;
    let asked = world.join_classic(request.clone());
    assert_eq!(asked.error, Some(GroupError::MemberIdRequired));
    request.member_id = asked.member_id.clone();
    let joined = world.join_classic(request);
    assert_eq!((joined.error, joined.generation_id), (None, 2));
    assert_eq!(joined.member_id, asked.member_id);
    assert_eq!(joined.protocol_type.as_deref(), Some("consumer"));
    assert_eq!(joined.protocol_name.as_deref(), Some("range"));
    assert_eq!((joined.leader.as_str(), joined.members.len()), ("", 0));
    a.id = joined.member_id;
    a.generation = joined.generation_id;
    assert_eq!(world.sync_classic(&a).error, None);
    // It is told to join again when what it waits for is free, and not before.
    assert_eq!(world.heartbeat_classic(&a), Ok(()));
    world.settle_mixed(&mut [&mut c], &mut [&mut a]);
    assert_divided(&[&c], &[&a]);
    assert_eq!((c.count(), a.owned.len()), (4, 4));
}

#[test]
fn classic_members_are_refused_with_the_errors_of_the_classic_protocol() {
    let mut world = World::new();
    let mut c = world.joined(&["t0"]);
    let mut a = Classic::new(&["t0"]);
    world.rejoin_classic(&mut a);
    world.settle_mixed(&mut [&mut c], &mut [&mut a]);

    let stale = Classic {
        generation: a.generation - 1,
        ..a.clone()
    };
    let unknown = Classic {
        id: "x".to_owned(),
        ..a.clone()
    };
    let consumer = Classic {
        id: c.id.clone(),
        generation: c.epoch,
        ..a.clone()
    };
    for (member, error) in [
        (&stale, GroupError::IllegalGeneration),
        (&unknown, GroupError::UnknownMemberId),
        (&consumer, GroupError::UnknownMemberId),
    ] {
        assert_eq!(world.heartbeat_classic(member), Err(error));
        assert_eq!(world.sync_classic(member).error, Some(error));
    }
    assert_eq!(world.leave_classic("x"), Some(GroupError::UnknownMemberId));
    assert_eq!(world.commit(commit_by(&a.id, a.generation)), None);
    let stale = commit_by(&a.id, a.generation - 1);
    assert_eq!(world.commit(stale), Some(GroupError::IllegalGeneration));

    let mut other = Classic::new(&["t0"]).request();
    other.protocols[0].name = "roundrobin".to_owned();
    let refused = world.join_classic(other).error;
    assert_eq!(refused, Some(GroupError::InconsistentGroupProtocol));
    let mut other = Classic::new(&["t0"]).request();
    other.protocol_type = "connect".to_owned();
    let refused = world.join_classic(other).error;
    assert_eq!(refused, Some(GroupError::InconsistentGroupProtocol));
    let mut other = Classic::new(&["t0"]).request();
    other.protocols[0].metadata = Bytes::from_static(b"?");
    let refused = world.join_classic(other).error;
    assert_eq!(refused, Some(GroupError::InconsistentGroupProtocol));
    let mut ghost = Classic::new(&["t0"]);
    (ghost.id, ghost.instance) = ("x".to_owned(), Some("none".to_owned()));
    let refused = world.join_classic(ghost.request()).error;
    assert_eq!(refused, Some(GroupError::UnknownMemberId));
}

#[test]
fn a_static_classic_member_is_fenced_by_the_one_that_took_its_place() {
    let mut world = World::new();
    let mut c = world.joined(&["t0"]);
    let mut a = Classic {
        instance: Some("one".to_owned()),
        ..Classic::new(&["t0"])
    };
    world.rejoin_classic(&mut a);
    world.settle_mixed(&mut [&mut c], &mut [&mut a]);
    let mut b = Classic {
        instance: Some("one".to_owned()),
        ..Classic::new(&["t0"])
    };
    world.rejoin_classic(&mut b);
    assert_ne!(a.id, b.id);
    assert_eq!(a.owned, b.owned);
    assert_eq!(
        world.heartbeat_classic(&a),
        Err(GroupError::FencedInstanceId)
    );
    assert_eq!(
        world.sync_classic(&a).error,
        Some(GroupError::FencedInstanceId)
    );
    assert_eq!(
        world.join_classic(a.request()).error,
        Some(GroupError::FencedInstanceId)
    );
    world.settle_mixed(&mut [&mut c], &mut [&mut b]);
    assert_divided(&[&c], &[&b]);
}

#[test]
fn a_classic_member_that_does_not_join_again_or_sync_in_time_is_fenced() {
    let mut world = World::new();
    let mut c = world.joined(&["t0"]);
    let mut a = Classic::new(&["t0"]);
    world.rejoin_classic(&mut a);
    world.settle_mixed(&mut [&mut c], &mut [&mut a]);
    // A third one comes: the classic member hears of it and does nothing but heartbeat.
    let mut d = world.joined(&["t0"]);
    for _ in 0..11 {
        let _ = world.heartbeat_classic(&a);
        world.poll(&mut c).unwrap();
        world.poll(&mut d).unwrap();
        world.advance(3_000);
    }
    assert_eq!(
        world.heartbeat_classic(&a),
        Err(GroupError::UnknownMemberId)
    );
    // Another joins and does not sync.
    let joined = world.join_classic(Classic::new(&["t0"]).request());
    let b = Classic {
        id: joined.member_id,
        generation: joined.generation_id,
        ..Classic::new(&["t0"])
    };
    for _ in 0..11 {
        let _ = world.heartbeat_classic(&b);
        world.poll(&mut c).unwrap();
        world.poll(&mut d).unwrap();
        world.advance(3_000);
    }
    assert_eq!(
        world.heartbeat_classic(&b),
        Err(GroupError::UnknownMemberId)
    );
    world.settle(&mut [&mut c, &mut d]);
    assert_divided(&[&c, &d], &[]);
}

#[test]
fn a_member_may_change_its_protocol_under_its_id() {
    let mut world = World::new();
    let mut c = world.joined(&["t0"]);
    let mut d = world.joined(&["t0"]);
    world.settle(&mut [&mut c, &mut d]);
    // From consumer to classic, and back.
    let mut a = Classic {
        id: d.id.clone(),
        ..Classic::new(&["t0"])
    };
    world.rejoin_classic(&mut a);
    world.settle_mixed(&mut [&mut c], &mut [&mut a]);
    assert_divided(&[&c], &[&a]);
    (d.epoch, d.full) = (0, true);
    d.owned.clear();
    world.poll(&mut d).unwrap();
    assert_eq!(
        world.heartbeat_classic(&a),
        Err(GroupError::UnknownMemberId)
    );
    world.settle(&mut [&mut c, &mut d]);
    assert_divided(&[&c, &d], &[]);
}

#[test]
fn a_partition_that_the_classic_leader_gave_to_two_members_stays_with_one() {
    let mut world = World::new();
    let (mut a, mut b) = (Classic::new(&["t0"]), Classic::new(&["t0"]));
    world.classic_group_with(&mut [&mut a, &mut b], |_, _| true);
    let mut c = Consumer::new(&["t0"]);
    world.poll(&mut c).unwrap();
    super::random::check_owners(world.driver.leader());
    world.settle_mixed(&mut [&mut c], &mut [&mut a, &mut b]);
    assert_divided(&[&c], &[&a, &b]);
}

#[test]
fn an_assignment_of_the_classic_leader_that_makes_no_sense_is_left_out() {
    let mut world = World::new();
    let mut a = Classic::new(&["t0"]);
    world.classic_group_with(&mut [&mut a], |_, partition| partition > 5);
    // Partitions and topics that there are not.
    world.put_topic("t0", 1_000, 7);
    let mut c = Consumer::new(&["t0"]);
    world.poll(&mut c).unwrap();
    let has = &world.group().member(&a.id).unwrap().current.assigned;
    assert_eq!(has, &Partitions::from([(Uuid(1_000), BTreeSet::from([6]))]));
}

#[test]
fn an_assignment_with_something_for_a_custom_assignor_is_not_thrown_away() {
    let mut world = World::new();
    let mut request = Classic::new(&["t0"]).request();
    request.fresh_id = world.fresh_id();
    let reply = world.driver.send(Command::JoinGroup(request));
    world.advance(DELAY_MS);
    let Some(Outcome::Answered(Response::JoinGroup(joined))) = world.driver.take(reply) else {
        panic!("did not join");
    };
    let mut assignment = encode_assignment(1, &NamedPartitions::new()).to_vec();
    assignment.truncate(assignment.len() - 4);
    assignment.extend([0, 0, 0, 1, 7]);
    world.driver.send(Command::SyncGroup(SyncGroup {
        group_id: GROUP.to_owned(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        assignments: vec![SyncAssignment {
            member_id: joined.member_id,
            assignment: Bytes::from(assignment),
        }],
        ..SyncGroup::default()
    }));
    world.advance(100);
    let c = Consumer::new(&["t0"]);
    assert_eq!(
        world.refused(c.request()),
        Some(GroupError::GroupIdNotFound)
    );
    assert!(world.is_classic());
}

#[test]
fn an_admin_takes_out_members_of_either_protocol() {
    let mut world = World::new();
    let mut c = Consumer::with_instance(&["t0"], "one");
    let mut d = Consumer::new(&["t0"]);
    world.poll(&mut c).unwrap();
    world.poll(&mut d).unwrap();
    let mut leave = |member_id: &str, instance_id: Option<&str>| {
        let member = LeavingMember {
            member_id: member_id.to_owned(),
            group_instance_id: instance_id.map(str::to_owned),
            reason: None,
        };
        // Twice the same is as once.
        let request = LeaveGroup {
            group_id: GROUP.to_owned(),
            members: vec![member.clone(), member],
        };
        match world.driver.ask(Command::LeaveGroup(request)) {
            Response::LeaveGroup(response) => {
                response.members.iter().map(|m| m.error).collect::<Vec<_>>()
            }
            other => panic!("{other:?}"),
        }
    };
    let both = |error: Option<GroupError>| -> Vec<Option<GroupError>> { vec![error; 2] };
    let unknown = both(Some(GroupError::UnknownMemberId));
    assert_eq!(leave("", None), unknown);
    assert_eq!(leave("", Some("none")), unknown);
    let fenced = both(Some(GroupError::FencedInstanceId));
    assert_eq!(leave("x", Some("one")), fenced);
    assert_eq!(leave("", Some("one")), both(None));
    assert_eq!(leave(&d.id, None), both(None));
    assert_eq!(world.describe().state, "Empty");
}

#[test]
fn a_group_too_large_for_one_record_does_not_go_back_to_classic() {
    let config = GroupsConfig {
        record_bytes_max: 500,
        ..GroupsConfig::default()
    };
    let mut world = World::with(config, 1);
    let c = world.joined(&["t0"]);
    let (mut a, mut b) = (Classic::new(&["t0"]), Classic::new(&["t0"]));
    world.rejoin_classic(&mut a);
    world.rejoin_classic(&mut b);
    world.leave(&c, -1);
    assert!(!world.is_classic());
    world.settle_mixed(&mut [], &mut [&mut a, &mut b]);
    assert_divided(&[], &[&a, &b]);
    // One alone fits.
    world.leave_classic(&b.id);
    assert!(world.is_classic());
}

#[test]
fn a_static_classic_member_that_comes_back_with_the_new_protocol_takes_the_group_with_it() {
    let mut world = World::new();
    let mut a = Classic {
        instance: Some("one".to_owned()),
        ..Classic::new(&["t0"])
    };
    let mut b = Classic::new(&["t0"]);
    world.classic_group(&mut [&mut a, &mut b]);
    let mut c = Consumer::with_instance(&["t0"], "one");
    world.poll(&mut c).unwrap();
    assert_ne!(c.id, a.id);
    assert_eq!(world.group().members().len(), 2);
    // It has at once what it had before.
    let had: BTreeSet<i32> = a.owned.iter().map(|(_, partition)| *partition).collect();
    assert_eq!(c.owned[&Uuid(1_000)], had);
    assert_eq!(
        world.heartbeat_classic(&a),
        Err(GroupError::FencedInstanceId)
    );
    world.settle_mixed(&mut [&mut c], &mut [&mut b]);
    assert_divided(&[&c], &[&b]);
}
