//! The runtime on one broker, with somebody else who writes to its log.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use coordinator::{Coordinator, Record};
use groups::record::{OffsetKey, OffsetValue, Record as GroupRecord};
use groups::{
    Command, CommitPartition, CommitTopic, FetchTopic, Groups, GroupsConfig, OffsetCommit,
    OffsetFetch, Response,
};
use storage::clock::Clock;
use storage::data_dir::DataDir;
use storage::disk::{Disk, SimDisk};
use storage::{NodeId, Offset, PartitionId};

use super::CoordinatorError;
use super::batch::batch_of;
use super::follower::{Committed, follow_forever};
use crate::partition::machine::Outcome;
use crate::partition::op::PartitionOp;
use crate::{Broker, BrokerConfig, Env, NewTopic};

const DEADLINE: Duration = Duration::from_secs(60);
const GROUP: &str = "g";

async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let trying = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let found = tokio::time::timeout(DEADLINE, trying).await;
    found.unwrap_or_else(|_| panic!("in vain: {what}"))
}

/// A broker with a topic `t` and one coordinator of groups.
async fn start(disk: &SimDisk) -> (Broker, PartitionId) {
    let disk = Disk::Sim(disk.clone());
    let data_dir = DataDir::open(&disk, Path::new("/data")).expect("nobody has it");
    let config = BrokerConfig {
        node_id: Some(NodeId(1)),
        journal_file_bytes: 1 << 20,
        offsets_topic_partitions: 1,
        ..BrokerConfig::default()
    };
    let env = Env {
        clock: Clock::system(),
        disk,
        seed: [1, 2, 3, 4],
    };
    let started = Broker::start_alone(config, env, data_dir).await;
    let broker = started.expect("starts");
    let new = NewTopic {
        name: "t".to_owned(),
        ..NewTopic::default()
    };
    broker.create_topics(vec![new], false, 30_000).await;
    ask(&broker, fetch()).await;
    let topic = broker.internal_topic("__consumer_offsets");
    (broker, topic.expect("it was made").partition(0))
}

async fn ask(broker: &Broker, command: Command) -> Response {
    eventually("the coordinator answers", async || {
        let pending = broker.submit_to_group(GROUP, command.clone()).await;
        pending.ok()?.await.ok()
    })
    .await
}

fn commit(offset: i64) -> Command {
    Command::OffsetCommit(OffsetCommit {
        group_id: GROUP.to_owned(),
        generation_id_or_member_epoch: -1,
        topics: vec![CommitTopic {
            name: "t".to_owned(),
            partitions: vec![CommitPartition {
                offset,
                ..CommitPartition::default()
            }],
            ..CommitTopic::default()
        }],
        ..OffsetCommit::default()
    })
}

fn fetch() -> Command {
    fetch_of("t")
}

fn fetch_of(topic: &str) -> Command {
    Command::OffsetFetch(OffsetFetch {
        group_id: GROUP.to_owned(),
        topics: Some(vec![FetchTopic {
            name: topic.to_owned(),
            partitions: vec![0],
            ..FetchTopic::default()
        }]),
        ..OffsetFetch::default()
    })
}

async fn offset(broker: &Broker) -> i64 {
    offset_of(broker, "t").await
}

async fn offset_of(broker: &Broker, topic: &str) -> i64 {
    match ask(broker, fetch_of(topic)).await {
        Response::OffsetFetch(fetched) => fetched.topics[0].partitions[0].offset,
        response => panic!("{response:?} to a fetch"),
    }
}

/// Writes an offset past the instance that leads, as another leader would have.
async fn write_past(broker: &Broker, id: PartitionId, offset: i64) -> Outcome {
    write_past_of(broker, id, "t", offset).await
}

async fn write_past_of(broker: &Broker, id: PartitionId, topic: &str, offset: i64) -> Outcome {
    let (partition, shard, _) = broker.led(id).expect("it is led");
    let key = OffsetKey {
        group_id: GROUP.to_owned(),
        topic: topic.to_owned(),
        partition: 0,
    };
    let value = OffsetValue {
        offset,
        leader_epoch: -1,
        metadata: String::new(),
        commit_timestamp_ms: 1,
        expire_timestamp_ms: None,
    };
    let op = PartitionOp::AppendAt {
        log: partition.log_id(),
        at: partition.high_watermark(),
        batch: batch_of(&[GroupRecord::Offset(key, Some(value))], 1),
    };
    let pending = shard.shard.submit(op.encode()).await.expect("it is taken");
    pending.await.expect("it is committed")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_wrote_is_never_written_over_and_never_unseen() {
    let (broker, id) = start(&SimDisk::new(3)).await;
    ask(&broker, commit(1)).await;
    assert_eq!(offset(&broker).await, 1);
    for round in 1..6 {
        let written = write_past(&broker, id, round * 100).await;
        assert!(matches!(written, Outcome::Appended(..)), "{written:?}");
        assert_eq!(offset(&broker).await, round * 100, "it is seen at once");
        ask(&broker, commit(round * 100 + 1)).await;
        assert_eq!(offset(&broker).await, round * 100 + 1);
    }
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_is_told_when_an_instance_ends_and_the_log_has_what_was_answered() {
    let (broker, id) = start(&SimDisk::new(4)).await;
    ask(&broker, commit(0)).await;
    let mut told = 0;
    for round in 0..8 {
        let mut pending = Vec::new();
        for number in 1..=20 {
            let command = commit(round * 20 + number);
            if let Ok(one) = broker.submit_to_group(GROUP, command).await {
                pending.push((round * 20 + number, one));
            }
        }
        // It comes among them, or after them.
        let written = write_past(&broker, id, told).await;
        for (number, one) in pending {
            match tokio::time::timeout(DEADLINE, one)
                .await
                .expect("it is told")
            {
                Ok(_) => told = told.max(number),
                Err(CoordinatorError::Resigned | CoordinatorError::NotCoordinator) => {}
                Err(error) => panic!("{error}"),
            }
        }
        let _ = written;
        // Whatever was written, the next instance goes on from there.
        ask(&broker, commit(round * 20 + 20)).await;
        told = round * 20 + 20;
        assert_eq!(offset(&broker).await, told);
    }
    // What a replica makes of the log is what the leader says.
    let committed = replayed(&broker, id).await;
    let (state, _) = committed.copy();
    let kept = committed_offset(&state);
    assert_eq!(kept, offset(&broker).await);
    broker.shutdown().await;
}

/// What a follower makes of the whole log.
async fn replayed(broker: &Broker, id: PartitionId) -> Arc<Committed<Groups>> {
    let fresh = Groups::new(GroupsConfig::default());
    let committed = Arc::new(Committed::new(fresh.clone()));
    let mut place = committed.watch();
    let end = broker
        .inner
        .directory
        .get(id)
        .expect("it is here")
        .high_watermark();
    let following = follow_forever(broker.clone(), id, fresh, Arc::clone(&committed));
    let caught_up = async {
        let done = place
            .wait_for(|place| place.log.is_some() && place.next >= end)
            .await;
        done.expect("it is followed");
    };
    let followed = async {
        tokio::select! {
            () = following => {}
            () = caught_up => {}
        }
    };
    tokio::time::timeout(DEADLINE, followed)
        .await
        .expect("it is replayed in time");
    committed
}

/// The offset that the instance has of the group's partition.
fn committed_offset(state: &Groups) -> i64 {
    let (mut copy, mut effects) = (state.clone(), coordinator::Effects::new());
    let reply = coordinator::ReplyId(1);
    copy.handle(&groups::Topics::new(), fetch(), reply, 0, &mut effects);
    match effects.answers() {
        [(_, Response::OffsetFetch(fetched))] => fetched.topics[0].partitions[0].offset,
        answers => panic!("{answers:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offsets_of_topics_that_went_while_nobody_led_go_too() {
    let (broker, id) = start(&SimDisk::new(6)).await;
    ask(&broker, commit(5)).await;
    let end = |broker: &Broker| {
        let partition = broker.inner.directory.get(id).expect("it is here");
        partition.high_watermark()
    };
    let before = end(&broker);
    // Left by a leader that did not see the topic go.
    let written = write_past_of(&broker, id, "gone", 7).await;
    assert!(matches!(written, Outcome::Appended(..)), "{written:?}");
    eventually("its offset goes", async || {
        (offset_of(&broker, "gone").await == -1).then_some(())
    })
    .await;
    assert!(end(&broker) >= before.plus(2), "the log says so");
    assert_eq!(offset(&broker).await, 5, "that of the other one stays");
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_with_very_many_records_is_one_batch_that_is_committed() {
    let (broker, id) = start(&SimDisk::new(5)).await;
    let (_, shard, _) = broker.led(id).expect("it is led");
    let record = |partition| {
        let key = OffsetKey {
            group_id: GROUP.to_owned(),
            topic: "a topic with a name of some length".to_owned(),
            partition,
        };
        GroupRecord::Offset(key, None)
    };
    let records: Vec<GroupRecord> = (0..100_000).map(record).collect();
    assert_eq!(records[7].encode().value, None);
    let op = PartitionOp::AppendAt {
        log: id.into(),
        at: Offset(0),
        batch: batch_of(&records, 1),
    };
    let pending = shard.shard.submit(op.encode()).await.expect("it is taken");
    let outcome = pending.await.expect("it is committed");
    assert!(matches!(outcome, Outcome::Appended(..)), "{outcome:?}");
    ask(&broker, commit(5)).await;
    assert_eq!(offset(&broker).await, 5);
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_full_disk_commits_are_refused_and_all_else_goes_on() {
    let disk = SimDisk::new(8);
    let (broker, _) = start(&disk).await;
    ask(&broker, commit(1)).await;
    disk.set_capacity(disk.used_bytes() + (64 << 10));
    let note = "x".repeat(4_000);
    let mut last = 1;
    let command = |offset| {
        let mut command = commit(offset);
        if let Command::OffsetCommit(commit) = &mut command {
            commit.topics[0].partitions[0].metadata = Some(note.clone());
        }
        command
    };
    let full = eventually("the disk fills", async || {
        let pending = broker
            .submit_to_group(GROUP, command(last + 1))
            .await
            .ok()?;
        match pending.await {
            Ok(_) => {
                last += 1;
                None
            }
            Err(CoordinatorError::NotAvailable) => Some(()),
            Err(_) => None,
        }
    });
    full.await;
    // Whoever asks again is told so by the same instance, which reads as ever.
    let known = offset(&broker).await;
    assert!(known >= last, "{known} is behind {last}");
    for _ in 0..50 {
        let pending = broker.submit_to_group(GROUP, command(9_999)).await;
        match pending.expect("it is taken").await {
            Err(CoordinatorError::NotAvailable) => {}
            // A checkpoint has made room.
            Ok(_) => break,
            Err(error) => panic!("{error}"),
        }
        let read = broker.submit_to_group(GROUP, fetch()).await;
        read.expect("it is taken").await.expect("it is answered");
    }
    assert!(offset(&broker).await >= known);
    disk.set_capacity(u64::MAX);
    ask(&broker, commit(10_000)).await;
    assert_eq!(offset(&broker).await, 10_000);
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_can_make_a_coordinator_forget_by_a_config() {
    let (broker, _) = start(&SimDisk::new(9)).await;
    let topic = "__consumer_offsets";
    let change = |operation, key: &str, value: Option<&str>| crate::ConfigChange {
        key: key.to_owned(),
        operation,
        value: value.map(str::to_owned),
    };
    use crate::ConfigOperation::{Append, Delete, Set};
    for refused in [
        change(Set, "cleanup.policy", Some("delete")),
        change(Append, "cleanup.policy", Some("delete")),
        change(Delete, "cleanup.policy", None),
    ] {
        let told = broker
            .alter_topic_configs(topic, vec![refused], false)
            .await;
        assert!(
            matches!(told, Err(crate::BrokerError::InvalidConfig { .. })),
            "{told:?}"
        );
    }
    // Kafka's older way resets what it does not name.
    let configs = vec![("segment.bytes".to_owned(), Some("1048576".to_owned()))];
    let told = broker.replace_topic_configs(topic, configs, false).await;
    assert!(
        matches!(told, Err(crate::BrokerError::InvalidConfig { .. })),
        "{told:?}"
    );
    let good = change(Set, "segment.bytes", Some("1048576"));
    let told = broker.alter_topic_configs(topic, vec![good], false).await;
    assert_eq!(told, Ok(()));
    broker.shutdown().await;
}
