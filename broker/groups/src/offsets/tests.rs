//! Offsets in a driver: committed, fetched, deleted, expired.

use crate::command::{
    CommitPartition, CommitTopic, FetchTopic, ListGroups, OffsetCommit, OffsetDelete, OffsetFetch,
};
use crate::config::GroupsConfig;
use crate::error::GroupError;
use crate::response::{CommittedOffset, CommittedTopic, OffsetFetchResponse};
use crate::testing::*;
use crate::uuid::Uuid;
use crate::{Command, Response};

const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

fn fetch(bench: &mut Bench, command: OffsetFetch) -> OffsetFetchResponse {
    match bench.driver.ask(Command::OffsetFetch(command)) {
        Response::OffsetFetch(fetched) => fetched,
        other => panic!("{other:?}"),
    }
}

fn fetch_all(bench: &mut Bench, group_id: &str) -> Vec<CommittedTopic> {
    let command = OffsetFetch {
        group_id: group_id.to_owned(),
        member_epoch: -1,
        ..OffsetFetch::default()
    };
    fetch(bench, command).topics
}

fn of_topic(topic: &str, partitions: &[i32]) -> FetchTopic {
    FetchTopic {
        name: topic.to_owned(),
        id: Uuid(7),
        partitions: partitions.to_vec(),
    }
}

fn delete_offsets(
    bench: &mut Bench,
    group_id: &str,
    topics: &[FetchTopic],
) -> Result<Vec<Option<GroupError>>, GroupError> {
    let command = OffsetDelete {
        group_id: group_id.to_owned(),
        topics: topics.to_vec(),
    };
    match bench.driver.ask(Command::OffsetDelete(command)) {
        Response::OffsetDelete(outcome) => outcome.map(|topics| {
            let partitions = topics.into_iter().flat_map(|topic| topic.partitions);
            partitions.map(|partition| partition.error).collect()
        }),
        other => panic!("{other:?}"),
    }
}

fn delete_groups(bench: &mut Bench, ids: &[&str]) -> Vec<Option<GroupError>> {
    let ids = ids.iter().map(|id| (*id).to_owned()).collect();
    match bench.driver.ask(Command::DeleteGroups(ids)) {
        Response::DeleteGroups(deleted) => deleted.into_iter().map(|one| one.error).collect(),
        other => panic!("{other:?}"),
    }
}

fn list(bench: &mut Bench, states: &[&str], types: &[&str]) -> Vec<(String, &'static str)> {
    let owned = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect();
    let command = ListGroups {
        states: owned(states),
        types: owned(types),
    };
    match bench.driver.ask(Command::ListGroups(command)) {
        Response::ListGroups(listed) => {
            let listed = listed.into_iter();
            listed.map(|one| (one.group_id, one.state)).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_commit_comes_back_with_all_that_was_in_it() {
    let mut bench = Bench::new();
    let mut command = commit_of("g", "t1", 3, 42);
    command.topics[0].partitions[0].leader_epoch = 5;
    command.topics[0].partitions[0].metadata = Some("from here".to_owned());
    assert_eq!(bench.commit(command), None);
    bench.driver.fail_over();
    let asked = OffsetFetch {
        group_id: "g".to_owned(),
        member_epoch: -1,
        topics: Some(vec![of_topic("t1", &[3, 4]), of_topic("t2", &[0])]),
        ..OffsetFetch::default()
    };
    let fetched = fetch(&mut bench, asked);
    let none = |partition| CommittedOffset {
        partition,
        offset: -1,
        leader_epoch: -1,
        ..CommittedOffset::default()
    };
    let expected = CommittedOffset {
        partition: 3,
        offset: 42,
        leader_epoch: 5,
        metadata: "from here".to_owned(),
        error: None,
    };
    assert_eq!((fetched.error, fetched.topics[0].id), (None, Uuid(7)));
    assert_eq!(fetched.topics[0].partitions, [expected.clone(), none(4)]);
    assert_eq!(fetched.topics[1].partitions, [none(0)]);
    let all = fetch_all(&mut bench, "g");
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].partitions, [expected]);
    assert!(fetch_all(&mut bench, "nobody").is_empty());
}

#[test]
fn who_is_no_member_may_commit_only_while_the_group_is_empty() {
    let mut bench = Bench::new();
    assert_eq!(bench.commit(commit_of(GROUP, "t0", 0, 1)), None);
    let joined = bench.stable(&[consumer("a")]).remove(0);
    let refused = bench.commit(commit_of(GROUP, "t0", 0, 2));
    assert_eq!(refused, Some(GroupError::UnknownMemberId));
    assert_eq!(bench.commit(commit_by(&joined, "t0", 3)), None);
    assert_eq!(bench.leave_one(&joined), None);
    assert_eq!(bench.commit(commit_of(GROUP, "t0", 0, 4)), None);
    assert_eq!(bench.offset(GROUP, "t0", 0), 4);
}

#[test]
fn strangers_the_past_and_the_fenced_may_not_commit() {
    let mut bench = Bench::new();
    let member = bench.stable(&[static_consumer("one")]).remove(0);
    let good = commit_by(&member, "t0", 9);
    let with = |change: &dyn Fn(&mut OffsetCommit)| {
        let mut command = good.clone();
        change(&mut command);
        command
    };
    let cases = [
        (
            GroupError::IllegalGeneration,
            with(&|one| one.generation_id_or_member_epoch = 0),
        ),
        (
            GroupError::UnknownMemberId,
            with(&|one| one.member_id = "nobody".to_owned()),
        ),
        (
            GroupError::FencedInstanceId,
            with(&|one| {
                one.member_id = "old".to_owned();
                one.group_instance_id = Some("one".to_owned());
            }),
        ),
        (
            GroupError::IllegalGeneration,
            with(&|one| one.group_id = "other".to_owned()),
        ),
        (
            GroupError::GroupIdNotFound,
            with(&|one| {
                one.group_id = "other".to_owned();
                one.understands_member_epochs = true;
            }),
        ),
        (
            GroupError::InvalidGroupId,
            with(&|one| one.group_id = "x".repeat(5_000)),
        ),
        (
            GroupError::UnknownTopicOrPartition,
            with(&|one| one.topics[0].name = "nowhere".to_owned()),
        ),
    ];
    for (error, command) in cases {
        assert_eq!(bench.commit(command), Some(error));
    }
    assert_eq!(bench.commit(good), None);
    let mut simple = commit_of("simple", "t0", 0, 1);
    assert_eq!(bench.commit(simple.clone()), None);
    simple.generation_id_or_member_epoch = 3;
    simple.member_id = "somebody".to_owned();
    let refused = bench.commit(simple);
    assert_eq!(refused, Some(GroupError::UnknownMemberId));
}

#[test]
fn a_member_commits_while_others_join_but_not_before_it_has_synced() {
    let mut bench = Bench::new();
    let first = bench.stable(&[consumer("a")]).remove(0);
    let second = bench.join(consumer("b"));
    assert_eq!(bench.state(), "PreparingRebalance");
    assert_eq!(bench.commit(commit_by(&first, "t0", 1)), None);
    let mut again = consumer("a");
    again.member_id = first.member_id.clone();
    let again = bench.join(again);
    let joined = bench.joined(again);
    bench.joined(second);
    let early = bench.commit(commit_by(&joined, "t0", 2));
    assert_eq!(early, Some(GroupError::RebalanceInProgress));
    let late = bench.commit(commit_by(&first, "t0", 2));
    assert_eq!(late, Some(GroupError::IllegalGeneration));
    assert_eq!(bench.offset(GROUP, "t0", 0), 1);
}

#[test]
fn a_commit_shows_that_the_member_lives() {
    let mut bench = Bench::new();
    let joined = bench.stable(&[consumer("a")]).remove(0);
    for offset in 0..5 {
        bench.advance(SESSION_MS - 1_000);
        assert_eq!(bench.commit(commit_by(&joined, "t0", offset)), None);
    }
}

#[test]
fn oversized_metadata_is_refused_for_its_partition_only() {
    let mut bench = Bench::new();
    let partition = |partition, metadata: String| CommitPartition {
        partition,
        offset: 1,
        leader_epoch: -1,
        metadata: Some(metadata),
    };
    let mut command = commit_of("g", "t0", 0, 1);
    command.topics[0].partitions = vec![
        partition(0, "x".repeat(4_096)),
        partition(1, "x".repeat(4_097)),
        // As Java counts: as many characters, twice as many bytes.
        partition(2, "ü".repeat(4_096)),
        partition(3, "ü".repeat(40_000)),
    ];
    let errors = match bench.driver.ask(Command::OffsetCommit(command)) {
        Response::OffsetCommit(topics) => topics[0].partitions.clone(),
        other => panic!("{other:?}"),
    };
    let errors: Vec<_> = errors.iter().map(|one| one.error).collect();
    let over = Some(GroupError::OffsetMetadataTooLarge);
    assert_eq!(errors, [None, over, None, over]);
    let partitions = &fetch_all(&mut bench, "g")[0].partitions;
    assert_eq!(partitions.len(), 2);
    assert_eq!(partitions[1].metadata, "ü".repeat(4_096));
}

#[test]
fn a_group_has_offsets_of_so_many_partitions_and_no_more() {
    let config = GroupsConfig {
        offsets_per_group_max: 3,
        groups_max: 2,
        ..GroupsConfig::default()
    };
    let mut bench = Bench::with(config, 1);
    for partition in 0..3 {
        assert_eq!(bench.commit(commit_of("g", "t0", partition, 1)), None);
    }
    let over = Some(GroupError::InvalidCommitOffsetSize);
    assert_eq!(bench.commit(commit_of("g", "t0", 3, 1)), over);
    assert_eq!(bench.commit(commit_of("g", "t0", 2, 5)), None);
    assert_eq!(bench.commit(commit_of("h", "t0", 0, 1)), None);
    assert_eq!(bench.commit(commit_of("i", "t0", 0, 1)), over);
}

#[test]
fn offsets_are_deleted_unless_a_member_reads_the_topic() {
    let mut bench = Bench::new();
    let joined = bench.stable(&[consumer("a")]).remove(0);
    bench.commit(commit_by(&joined, "t0", 1));
    bench.commit(commit_by(&joined, "t1", 1));
    let topics = [
        of_topic("t0", &[0]),
        of_topic("t1", &[0, 1]),
        of_topic("nowhere", &[0]),
    ];
    let deleted = delete_offsets(&mut bench, GROUP, &topics);
    let expected = [
        Some(GroupError::GroupSubscribedToTopic),
        None,
        None,
        Some(GroupError::UnknownTopicOrPartition),
    ];
    assert_eq!(deleted, Ok(expected.to_vec()));
    assert_eq!(bench.offset(GROUP, "t0", 0), 1);
    assert_eq!(bench.offset(GROUP, "t1", 0), -1);
    bench.leave_one(&joined);
    let deleted = delete_offsets(&mut bench, GROUP, &topics[..1]);
    assert_eq!(deleted, Ok(vec![None]));
    assert_eq!(bench.offset(GROUP, "t0", 0), -1);
    let nobody = delete_offsets(&mut bench, "nobody", &topics);
    assert_eq!(nobody, Err(GroupError::GroupIdNotFound));
    let unnamed = delete_offsets(&mut bench, "", &topics);
    assert_eq!(unnamed, Err(GroupError::InvalidGroupId));
    bench.driver.settle();
}

#[test]
fn offsets_of_a_group_that_is_no_consumer_are_not_deleted_while_it_has_members() {
    let mut bench = Bench::new();
    let mut worker = consumer("worker");
    worker.protocol_type = "connect".to_owned();
    let joined = bench.stable(&[worker]).remove(0);
    bench.commit(commit_by(&joined, "t0", 1));
    let refused = delete_offsets(&mut bench, GROUP, &[of_topic("t0", &[0])]);
    assert_eq!(refused, Err(GroupError::NonEmptyGroup));
}

#[test]
fn an_empty_group_is_deleted_with_its_offsets_and_a_full_one_is_not() {
    let mut bench = Bench::new();
    let joined = bench.stable(&[consumer("a")]).remove(0);
    bench.commit(commit_by(&joined, "t0", 1));
    bench.commit(commit_of("simple", "t0", 0, 1));
    let deleted = delete_groups(&mut bench, &[GROUP, "simple", "nobody"]);
    let expected = [
        Some(GroupError::NonEmptyGroup),
        None,
        Some(GroupError::GroupIdNotFound),
    ];
    assert_eq!(deleted, expected);
    bench.leave_one(&joined);
    assert_eq!(delete_groups(&mut bench, &[GROUP, GROUP]), [None, None]);
    assert_eq!(bench.describe().error, Some(GroupError::GroupIdNotFound));
    bench.driver.settle();
    assert_eq!(*bench.driver.committed(), crate::Hard::default());
    let next = bench.join_now(consumer("b"));
    assert_eq!(next.generation_id, 1);
}

#[test]
fn groups_are_listed_by_state_and_type() {
    let mut bench = Bench::new();
    bench.stable(&[consumer("a")]);
    bench.commit(commit_of("simple", "t0", 0, 1));
    let mut other = consumer("b");
    other.group_id = "other".to_owned();
    bench.driver.send(Command::JoinGroup(other));
    let all = [
        ("other", "Empty"),
        ("readers", "Stable"),
        ("simple", "Empty"),
    ];
    let all: Vec<_> = all.map(|(id, state)| (id.to_owned(), state)).to_vec();
    assert_eq!(list(&mut bench, &[], &[]), all);
    assert_eq!(list(&mut bench, &["stable"], &[]), all[1..2]);
    assert_eq!(list(&mut bench, &["EMPTY", "Dead"], &["Classic"]).len(), 2);
    assert!(list(&mut bench, &[], &["consumer"]).is_empty());
    assert!(list(&mut bench, &["Assigning"], &[]).is_empty());
}

#[test]
fn offsets_of_an_empty_group_expire_with_the_group() {
    let mut bench = Bench::new();
    let joined = bench.stable(&[consumer("a")]).remove(0);
    bench.commit(commit_by(&joined, "t0", 1));
    // As long as there are members nothing that they read expires.
    bench.advance_alive(SESSION_MS * 3, &[&joined]);
    bench.advance(DAY_MS / 2);
    assert_eq!(bench.state(), "Empty");
    bench.driver.fail_over();
    bench.advance(6 * DAY_MS);
    assert_eq!(bench.offset(GROUP, "t0", 0), 1);
    bench.advance(DAY_MS / 2 + DAY_MS / 10);
    assert_eq!(bench.offset(GROUP, "t0", 0), -1);
    assert_eq!(bench.describe().error, Some(GroupError::GroupIdNotFound));
    bench.driver.settle();
    assert_eq!(*bench.driver.committed(), crate::Hard::default());
}

#[test]
fn offsets_of_no_group_expire_one_by_one() {
    let mut bench = Bench::new();
    bench.commit(commit_of("simple", "t0", 0, 1));
    bench.advance(DAY_MS);
    bench.commit(commit_of("simple", "t0", 1, 1));
    bench.advance(6 * DAY_MS + DAY_MS / 10);
    assert_eq!(bench.offset("simple", "t0", 0), -1);
    assert_eq!(bench.offset("simple", "t0", 1), 1);
    bench.advance(DAY_MS);
    assert!(list(&mut bench, &[], &[]).is_empty());
}

#[test]
fn offsets_of_topics_that_nobody_reads_any_more_expire_in_a_living_group() {
    let config = GroupsConfig {
        offsets_retention_ms: 60_000,
        offsets_retention_check_interval_ms: 10_000,
        ..GroupsConfig::default()
    };
    let mut bench = Bench::with(config, 1);
    let joined = bench.stable(&[consumer("a")]).remove(0);
    bench.commit(commit_by(&joined, "t0", 1));
    bench.commit(commit_by(&joined, "t1", 1));
    bench.advance_alive(50_000, &[&joined]);
    assert_eq!(bench.offset(GROUP, "t1", 0), 1);
    bench.advance_alive(30_000, &[&joined]);
    assert_eq!(bench.offset(GROUP, "t1", 0), -1);
    assert_eq!(bench.offset(GROUP, "t0", 0), 1);
    assert_eq!(bench.state(), "Stable");
}

#[test]
fn nothing_expires_in_a_living_group_whose_topics_are_not_known() {
    let config = GroupsConfig {
        offsets_retention_ms: 60_000,
        offsets_retention_check_interval_ms: 10_000,
        ..GroupsConfig::default()
    };
    let mut bench = Bench::with(config, 1);
    let mut opaque = consumer("a");
    opaque.protocols[0].metadata = bytes::Bytes::from_static(b"?");
    let joined = bench.stable(&[opaque]).remove(0);
    bench.commit(commit_by(&joined, "t1", 1));
    bench.advance_alive(200_000, &[&joined]);
    assert_eq!(bench.offset(GROUP, "t1", 0), 1);
}

#[test]
fn an_offset_with_a_retention_of_its_own_expires_then() {
    let mut bench = Bench::new();
    let mut command = commit_of("simple", "t0", 0, 1);
    command.retention_time_ms = Some(2 * DAY_MS);
    bench.commit(command);
    bench.driver.fail_over();
    bench.advance(DAY_MS);
    assert_eq!(bench.offset("simple", "t0", 0), 1);
    bench.advance(DAY_MS + DAY_MS / 10);
    assert_eq!(bench.offset("simple", "t0", 0), -1);
}

fn many(bench: &mut Bench, groups: usize) {
    for group in 0..groups {
        let mut command = commit_of(&format!("g{group}"), "t0", 0, 1);
        command.topics.push(CommitTopic {
            name: "t1".to_owned(),
            ..command.topics[0].clone()
        });
        assert_eq!(bench.commit(command), None);
    }
}

#[test]
fn many_offsets_expire_in_small_batches() {
    let config = GroupsConfig {
        expiry_records_max: 7,
        ..GroupsConfig::default()
    };
    let mut bench = Bench::with(config, 1);
    many(&mut bench, 50);
    bench.advance(8 * DAY_MS);
    assert!(list(&mut bench, &[], &[]).is_empty());
    bench.driver.settle();
    assert_eq!(*bench.driver.committed(), crate::Hard::default());
    // Each is forgotten once.
    assert_eq!(bench.driver.log().len(), 200);
}

#[test]
fn offsets_of_a_deleted_topic_are_forgotten_by_all_groups() {
    let config = GroupsConfig {
        expiry_records_max: 7,
        ..GroupsConfig::default()
    };
    let mut bench = Bench::with(config, 1);
    many(&mut bench, 50);
    bench.driver.context.remove("t0");
    let deleted = Command::TopicsDeleted(vec!["t0".to_owned(), "other".to_owned()]);
    let first = bench.driver.send(deleted);
    let second = bench.driver.send(Command::TopicsDeleted(Vec::new()));
    assert_eq!(bench.driver.take(first), None);
    bench.advance(1_000);
    for reply in [first, second] {
        let outcome = bench.driver.take(reply);
        assert_eq!(
            outcome,
            Some(coordinator::Outcome::Answered(Response::Done))
        );
    }
    for group in 0..50 {
        let left = fetch_all(&mut bench, &format!("g{group}"));
        assert_eq!((left.len(), left[0].name.as_str()), (1, "t1"));
    }
    bench.driver.settle();
}

#[test]
fn partitions_that_are_not_there_are_refused_before_the_group_is_asked() {
    let mut bench = Bench::new();
    let unknown = Some(GroupError::UnknownTopicOrPartition);
    for partition in [8, -1, i32::MAX] {
        assert_eq!(bench.commit(commit_of("g", "t0", partition, 1)), unknown);
        let mut stale = commit_of("g", "t0", partition, 1);
        stale.generation_id_or_member_epoch = 7;
        assert_eq!(bench.commit(stale), unknown);
    }
    assert_eq!(bench.commit(commit_of("g", "t0", 7, 1)), None);
    assert_eq!(fetch_all(&mut bench, "g")[0].partitions.len(), 1);
}

#[test]
fn what_is_committed_for_a_topic_made_again_outlives_the_end_of_the_old_one() {
    let config = GroupsConfig {
        expiry_records_max: 2,
        ..GroupsConfig::default()
    };
    let mut bench = Bench::with(config, 1);
    many(&mut bench, 20);
    let again = bench.driver.context.remove("t0").unwrap();
    bench.driver.context.insert(crate::Topic {
        id: Uuid(77),
        ..again
    });
    let deleted = Command::TopicsDeleted(vec!["t0".to_owned()]);
    let reply = bench.driver.send(deleted);
    assert_eq!(bench.driver.take(reply), None, "it takes many rounds");
    assert_eq!(bench.commit(commit_of("g9", "t0", 0, 5)), None);
    assert_eq!(bench.commit(commit_of("new", "t0", 3, 6)), None);
    bench.advance(1_000);
    assert!(bench.driver.take(reply).is_some());
    assert_eq!(bench.offset("g9", "t0", 0), 5);
    assert_eq!(bench.offset("new", "t0", 3), 6);
    assert_eq!(bench.offset("g8", "t0", 0), -1);
    assert_eq!(bench.offset("g9", "t1", 0), 1);
    bench.driver.settle();
}

#[test]
fn a_commit_is_one_batch_of_bounded_size_or_nothing() {
    let config = GroupsConfig {
        commit_bytes_max: 1_000,
        offsets_bytes_per_group_max: 4_900,
        ..GroupsConfig::default()
    };
    let mut bench = Bench::with(config, 1);
    let large = |topic: &str, partitions: std::ops::Range<i32>, note: usize| {
        let mut command = commit_of("g", topic, 0, 1);
        let partitions = partitions.map(|partition| CommitPartition {
            partition,
            metadata: Some("x".repeat(note)),
            ..CommitPartition::default()
        });
        command.topics[0].partitions = partitions.collect();
        command
    };
    let full = Some(GroupError::InvalidCommitOffsetSize);
    assert_eq!(bench.commit(large("t0", 0..8, 100)), full);
    assert!(bench.driver.log().is_empty());
    // A request that names one partition ever again is no larger in the log.
    let mut again = large("t0", 0..1, 100);
    again.topics = vec![again.topics[0].clone(); 1_000];
    assert_eq!(bench.commit(again), full);
    assert!(bench.driver.log().is_empty());
    // Room for 24 offsets: what is there may change, and go.
    for topic in 0..3 {
        assert_eq!(bench.commit(large(&format!("t{topic}"), 0..4, 100)), None);
        assert_eq!(bench.commit(large(&format!("t{topic}"), 4..8, 100)), None);
    }
    assert_eq!(bench.commit(large("t3", 0..4, 100)), full);
    assert_eq!(bench.commit(large("t0", 0..4, 100)), None);
    assert_eq!(bench.commit(large("t0", 0..4, 0)), None);
    assert_eq!(bench.commit(large("t3", 0..2, 100)), None);
    assert_eq!(delete_groups(&mut bench, &["g"]), [None]);
    assert_eq!(bench.commit(large("t3", 0..4, 100)), None);
    bench.driver.settle();
}

#[test]
fn an_offset_committed_for_a_group_long_empty_stays_its_time() {
    let mut bench = Bench::new();
    let joined = bench.stable(&[consumer("a")]).remove(0);
    bench.commit(commit_by(&joined, "t0", 1));
    bench.leave_one(&joined);
    bench.advance(6 * DAY_MS);
    assert_eq!(bench.commit(commit_of(GROUP, "t1", 0, 9)), None);
    bench.advance(2 * DAY_MS);
    assert_eq!(bench.offset(GROUP, "t0", 0), -1);
    assert_eq!(bench.offset(GROUP, "t1", 0), 9);
    bench.advance(6 * DAY_MS);
    assert_eq!(bench.describe().error, Some(GroupError::GroupIdNotFound));
}

#[test]
fn a_partition_that_is_named_often_is_answered_and_deleted_once() {
    let mut bench = Bench::new();
    let mut command = commit_of("g", "t0", 1, 1);
    command.topics[0].partitions[0].metadata = Some("x".repeat(4_000));
    assert_eq!(bench.commit(command), None);
    let asked = OffsetFetch {
        group_id: "g".to_owned(),
        member_epoch: -1,
        topics: Some(vec![of_topic("t0", &[1; 10_000]), of_topic("t0", &[1, 2])]),
        ..OffsetFetch::default()
    };
    let fetched = fetch(&mut bench, asked);
    let counts: Vec<usize> = fetched
        .topics
        .iter()
        .map(|it| it.partitions.len())
        .collect();
    assert_eq!(counts, [1, 1]);
    let before = bench.driver.log().len();
    let deleted = delete_offsets(&mut bench, "g", &[of_topic("t0", &[1; 1_000])]);
    assert!(deleted.unwrap().iter().all(Option::is_none));
    bench.driver.settle();
    assert_eq!(bench.driver.log().len(), before + 1);
}

#[test]
fn a_filter_of_very_many_names_is_as_short_as_what_there_is() {
    let names: Vec<String> = (0..50_000).map(|n| format!("{n}")).collect();
    let command = ListGroups::new(names.iter().map(String::as_str), [" Classic ", "none"]);
    assert_eq!(command.states, [""]);
    assert_eq!(command.types, ["", "classic"]);
    assert_eq!(ListGroups::new([], []), ListGroups::default());
}
