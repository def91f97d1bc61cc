//! Coordinators of groups on whole brokers: what was answered is kept through restarts and changes
//! of leader, and time passes for their members.

mod trio;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use broker::groups::{
    Client, Command, CommitPartition, CommitTopic, FetchTopic, GroupError, GroupProtocol,
    GroupsConfig, Heartbeat, JoinGroup, Joined, OffsetCommit, OffsetFetch, Response,
    SyncAssignment, SyncGroup,
};
use broker::record::{BatchProducer, Compression, Record, encode_batch};
use broker::{
    Broker, BrokerConfig, BrokerError, CoordinatorError, Env, FetchPartition, FetchRequest,
    Isolation, NewPartitions, NewTopic, RequiredAcks, TopicRef,
};
use futures_util::future::join_all;
use storage::clock::Clock;
use storage::data_dir::DataDir;
use storage::disk::Disk;
use storage::{NodeId, Offset, PartitionId};
use tokio::task::JoinSet;
use trio::{Trio, eventually};

const TOPIC: &str = "__consumer_offsets";
const DEADLINE_MS: i64 = 20_000;

/// A directory of this test alone, removed when dropped.
struct TempDir(PathBuf);

impl TempDir {
    fn new() -> TempDir {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::SeqCst);
        let name = format!("braidlog-groups-{}-{number}", std::process::id());
        TempDir(std::env::temp_dir().join(name))
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // Nothing to report to: a directory left in the temporary folder harms no other test.
        let _ = Disk::Real.remove_dir_all(&self.0);
    }
}

async fn start(dir: &Path) -> Broker {
    let config = BrokerConfig {
        journal_file_bytes: 1 << 20,
        offsets_topic_partitions: 5,
        groups: GroupsConfig {
            group_initial_rebalance_delay_ms: 100,
            group_min_session_timeout_ms: 100,
            ..GroupsConfig::default()
        },
        ..BrokerConfig::default()
    };
    let env = Env {
        clock: Clock::system(),
        disk: Disk::Real,
        seed: [1, 2, 3, 4],
    };
    let data_dir = DataDir::open(&Disk::Real, dir).expect("the directory is free");
    let started = Broker::start_alone(config, env, data_dir).await;
    started.expect("the broker starts")
}

async fn topic(broker: &Broker, name: &str) -> PartitionId {
    let new = NewTopic {
        name: name.to_owned(),
        partitions: Some(1),
        ..NewTopic::default()
    };
    let made = broker.create_topics(vec![new], false, DEADLINE_MS).await;
    PartitionId {
        topic: made[0].as_ref().expect("it is made").id,
        index: 0,
    }
}

async fn ask(broker: &Broker, group: &str, command: Command) -> Result<Response, CoordinatorError> {
    broker.submit_to_group(group, command).await?.await
}

/// Asks until the coordinator answers.
async fn answer(broker: &Broker, group: &str, command: Command) -> Response {
    eventually("the coordinator answers", async || {
        ask(broker, group, command.clone()).await.ok()
    })
    .await
}

fn commit(group: &str, topic: &str, offset: i64) -> Command {
    Command::OffsetCommit(OffsetCommit {
        group_id: group.to_owned(),
        generation_id_or_member_epoch: -1,
        topics: vec![CommitTopic {
            name: topic.to_owned(),
            partitions: vec![CommitPartition {
                offset,
                leader_epoch: -1,
                ..CommitPartition::default()
            }],
            ..CommitTopic::default()
        }],
        ..OffsetCommit::default()
    })
}

fn is_committed(response: &Response) -> bool {
    let Response::OffsetCommit(topics) = response else {
        panic!("{response:?} to a commit");
    };
    let partitions = topics.iter().flat_map(|topic| &topic.partitions);
    partitions.map(|one| one.error).eq([None])
}

fn fetch(group: &str, topic: &str) -> Command {
    Command::OffsetFetch(OffsetFetch {
        group_id: group.to_owned(),
        topics: Some(vec![FetchTopic {
            name: topic.to_owned(),
            partitions: vec![0],
            ..FetchTopic::default()
        }]),
        ..OffsetFetch::default()
    })
}

/// The offset that the group has of the topic's only partition; -1: none.
fn fetched(response: &Response) -> i64 {
    let Response::OffsetFetch(fetched) = response else {
        panic!("{response:?} to a fetch");
    };
    assert_eq!(fetched.error, None);
    fetched.topics[0].partitions[0].offset
}

fn join(broker: &Broker, group: &str, member: &str, session_timeout_ms: i32) -> Command {
    Command::JoinGroup(JoinGroup {
        group_id: group.to_owned(),
        member_id: member.to_owned(),
        client: Client {
            id: "client".to_owned(),
            host: "/127.0.0.1".to_owned(),
        },
        protocol_type: "consumer".to_owned(),
        protocols: vec![GroupProtocol {
            name: "range".to_owned(),
            metadata: vec![0; 8].into(),
        }],
        session_timeout_ms,
        rebalance_timeout_ms: 30_000,
        fresh_id: broker.fresh_group_id(),
        ..JoinGroup::default()
    })
}

fn joined(response: Response) -> Joined {
    match response {
        Response::JoinGroup(joined) => joined,
        response => panic!("{response:?} to a join"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_outlast_a_restart_and_deleted_topics_take_theirs_along() {
    let dir = TempDir::new();
    let broker = start(&dir.0).await;
    let kept = topic(&broker, "kept").await;
    topic(&broker, "gone").await;
    assert!(
        is_committed(&answer(&broker, "g", commit("g", "kept", 1)).await),
        "the first command makes the topic"
    );
    assert_eq!(
        broker.group_coordinator("g").await,
        Ok(broker.node_id()),
        "the only node coordinates"
    );
    for offset in 2..20 {
        assert!(is_committed(
            &answer(&broker, "g", commit("g", "kept", offset)).await
        ));
        let found = answer(&broker, "g", fetch("g", "kept")).await;
        assert_eq!(fetched(&found), offset, "what was answered is read");
    }
    assert!(is_committed(
        &answer(&broker, "g", commit("g", "gone", 7)).await
    ));
    let deleted = broker
        .delete_topics(vec![TopicRef::Name("gone".to_owned())], DEADLINE_MS)
        .await;
    assert!(deleted[0].is_ok());
    eventually("the offsets of the deleted topic go", async || {
        let found = answer(&broker, "g", fetch("g", "gone")).await;
        (fetched(&found) == -1).then_some(())
    })
    .await;
    broker.shutdown().await;
    let refused = ask(&broker, "g", fetch("g", "kept")).await;
    assert!(refused.is_err(), "{refused:?} by a broker that has stopped");
    drop(broker);

    let broker = start(&dir.0).await;
    let found = answer(&broker, "g", fetch("g", "kept")).await;
    assert_eq!(fetched(&found), 19);
    let found = answer(&broker, "g", fetch("g", "gone")).await;
    assert_eq!(fetched(&found), -1);
    assert_eq!(kept.index, 0);
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn internal_topics_are_read_by_clients_and_not_touched() {
    let dir = TempDir::new();
    let broker = start(&dir.0).await;
    topic(&broker, "t").await;
    let new = NewTopic {
        name: TOPIC.to_owned(),
        partitions: Some(1),
        ..NewTopic::default()
    };
    let made = broker.create_topics(vec![new], false, DEADLINE_MS).await;
    assert!(matches!(made[0], Err(BrokerError::InvalidTopic { .. })));
    assert!(is_committed(
        &answer(&broker, "g", commit("g", "t", 1)).await
    ));
    let catalogue = broker.catalogue();
    let internal = catalogue.topics.get(TOPIC).expect("it was made");
    assert!(internal.internal);
    assert_eq!(internal.partitions.len(), 5);
    let cleanup = internal.config.cleanup;
    assert!(cleanup.compacts && !cleanup.deletes, "{cleanup:?}");
    let index = u32::from(broker::groups::partition_of("g", 5));
    let id = PartitionId {
        topic: internal.id,
        index,
    };
    let record = Record {
        value: Some("x".into()),
        ..Record::default()
    };
    let batch = encode_batch(&[record], Compression::None, BatchProducer::default());
    let appended = broker.append(id, batch, RequiredAcks::All).await;
    assert!(appended.is_err(), "clients do not write to it");
    let trimmed = broker.delete_records(id, None, DEADLINE_MS).await;
    assert!(matches!(trimmed, Err(BrokerError::InvalidTopic { .. })));
    let deleted = broker
        .delete_topics(vec![TopicRef::Id(internal.id)], DEADLINE_MS)
        .await;
    assert!(matches!(deleted[0], Err(BrokerError::InvalidTopic { .. })));
    let grown = NewPartitions {
        topic: TOPIC.to_owned(),
        total: 9,
        assignments: None,
    };
    let grown = broker
        .create_partitions(vec![grown], false, DEADLINE_MS)
        .await;
    assert!(matches!(grown[0], Err(BrokerError::InvalidTopic { .. })));
    let read = FetchRequest {
        partitions: vec![FetchPartition {
            partition: id,
            offset: Offset(0),
            current_leader_epoch: None,
            last_fetched_epoch: None,
            bytes_max: 1 << 20,
        }],
        bytes_min: 1,
        bytes_max: 1 << 20,
        wait_ms_max: 0,
        isolation: Isolation::ReadUncommitted,
        client_rack: None,
    };
    let read = broker
        .fetch(read)
        .await
        .remove(0)
        .1
        .expect("it may be read");
    assert!(!read.batches.is_empty());
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_silent_is_taken_out_in_time() {
    let dir = TempDir::new();
    let broker = start(&dir.0).await;
    let first = joined(answer(&broker, "g", join(&broker, "g", "", 2_000)).await);
    assert_eq!((first.error, first.generation_id), (None, 1));
    let sync = Command::SyncGroup(SyncGroup {
        group_id: "g".to_owned(),
        generation_id: 1,
        member_id: first.member_id.clone(),
        assignments: vec![SyncAssignment {
            member_id: first.member_id.clone(),
            assignment: vec![1].into(),
        }],
        ..SyncGroup::default()
    });
    let Response::SyncGroup(synced) = answer(&broker, "g", sync).await else {
        panic!("something else to a sync");
    };
    assert_eq!(synced.error, None);
    let heartbeat = Command::Heartbeat(Heartbeat {
        group_id: "g".to_owned(),
        generation_id: 1,
        member_id: first.member_id,
        group_instance_id: None,
    });
    let alive = answer(&broker, "g", heartbeat.clone()).await;
    assert_eq!(alive, Response::Heartbeat(Ok(())));
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    let dead = answer(&broker, "g", heartbeat).await;
    assert_eq!(dead, Response::Heartbeat(Err(GroupError::UnknownMemberId)));
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_members_join_at_once() {
    let dir = TempDir::new();
    let broker = start(&dir.0).await;
    // Makes the topic.
    answer(&broker, "g", fetch("g", "none")).await;
    let mut pending = Vec::new();
    for _ in 0..1_000 {
        let command = join(&broker, "g", "", 60_000);
        let submitted = broker.submit_to_group("g", command).await;
        pending.push(submitted.expect("there is room for all"));
    }
    let all = tokio::time::timeout(trio::DEADLINE, join_all(pending)).await;
    let all = all.expect("they are answered in time").into_iter();
    let all: Vec<Joined> = all
        .map(|one| joined(one.expect("it is answered")))
        .collect();
    assert!(all.iter().all(|one| one.error.is_none()));
    let generation = all[0].generation_id;
    assert!(all.iter().all(|one| one.generation_id == generation));
    let leaders = all.iter().filter(|one| one.leader == one.member_id);
    let members: Vec<usize> = leaders.map(|one| one.members.len()).collect();
    assert_eq!(members, [1_000], "one leads and knows all");
    broker.shutdown().await;
}

/// Commits rising offsets to one group, wherever it is coordinated, and reads after each.
async fn keep_committing(
    brokers: Vec<Broker>,
    group: String,
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU32>,
) -> i64 {
    let mut at = 0;
    let mut told = -1;
    let mut tried = 0;
    let clock = Clock::system();
    let mut last_ms = clock.monotonic_ms();
    while !stop.load(Ordering::SeqCst) {
        tried += 1;
        let broker = &brokers[at];
        let command = commit(&group, "t", tried);
        let asked = ask(broker, &group, command);
        match tokio::time::timeout(Duration::from_secs(10), asked).await {
            Ok(Ok(response)) => {
                assert!(is_committed(&response), "{response:?}");
                told = tried;
                count.fetch_add(1, Ordering::SeqCst);
                last_ms = clock.monotonic_ms();
            }
            Ok(Err(_)) | Err(_) => {
                at = (at + 1) % brokers.len();
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        if let Ok(response) = ask(&brokers[at], &group, fetch(&group, "t")).await {
            let found = fetched(&response);
            assert!(
                (told..=tried).contains(&found),
                "{group}: {found} is read, {told} was told, {tried} was tried"
            );
        }
        let waited_ms = clock.monotonic_ms() - last_ms;
        assert!(
            waited_ms < 60_000,
            "{group} takes nothing for {waited_ms} ms"
        );
    }
    told
}

/// Groups to which offsets are committed all the time.
struct Load {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU32>,
    writers: JoinSet<(String, i64)>,
}

impl Load {
    fn start(trio: &Trio, groups: &[String]) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let count = Arc::new(AtomicU32::new(0));
        let mut writers = JoinSet::new();
        for group in groups {
            let shared = (Arc::clone(&stop), Arc::clone(&count));
            let (brokers, group) = (trio.brokers.clone(), group.clone());
            writers.spawn(async move {
                let told = keep_committing(brokers, group.clone(), shared.0, shared.1).await;
                (group, told)
            });
        }
        Load {
            stop,
            count,
            writers,
        }
    }

    /// Waits until so many more commits were answered.
    async fn more(&self, commits: u32) {
        let wanted = self.count.load(Ordering::SeqCst) + commits;
        eventually("more is committed", async || {
            (self.count.load(Ordering::SeqCst) >= wanted).then_some(())
        })
        .await;
    }

    /// Checks that what was answered is there.
    async fn end(self, trio: &Trio) {
        self.stop.store(true, Ordering::SeqCst);
        let told: BTreeMap<String, i64> = self.writers.join_all().await.into_iter().collect();
        for (group, told) in told {
            let found = eventually("the group is read", async || {
                for broker in &trio.brokers {
                    if let Ok(found) = ask(broker, &group, fetch(&group, "t")).await {
                        return Some(fetched(&found));
                    }
                }
                None
            })
            .await;
            assert!(found >= told, "{group}: {found}, but {told} was told");
        }
    }
}

fn clocks() -> [Clock; 3] {
    [Clock::system(), Clock::skewed(3_600_000), Clock::system()]
}

fn six_groups() -> Vec<String> {
    (0..6).map(|number| format!("group-{number}")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_is_kept_while_leaders_change() {
    let trio = Trio::start(77, clocks()).await;
    trio.topic("t", 1, &[]).await;
    let load = Load::start(&trio, &six_groups());
    load.more(50).await;
    for node in [1, 2, 0, 1] {
        trio.lead_all(node).await;
        load.more(50).await;
    }
    // The node that leads everything goes.
    trio.brokers[1].shutdown().await;
    load.more(100).await;
    load.end(&trio).await;
    trio.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_is_kept_while_coordinators_move_between_shards() {
    let trio = Trio::start(87, clocks()).await;
    trio.topic("t", 1, &[]).await;
    let groups = six_groups();
    let load = Load::start(&trio, &groups);
    load.more(50).await;
    let broker = &trio.brokers[0];
    let catalogue = broker.catalogue();
    let partitions = catalogue
        .topics
        .get(TOPIC)
        .expect("it was made")
        .partitions
        .len();
    let partitions = u16::try_from(partitions).expect("few");
    let coordinator = |group: &String| PartitionId {
        topic: catalogue.topics[TOPIC].id,
        index: u32::from(broker::groups::partition_of(group, partitions)),
    };
    for list in [[2, 3, 1], [3, 1, 2], [1, 3, 2]] {
        for group in &groups {
            let list = list.map(NodeId).to_vec();
            eventually("the change is taken", async || {
                let changes = vec![(coordinator(group), Some(list.clone()))];
                broker.alter_reassignments(changes).await.remove(0).1.ok()
            })
            .await;
        }
        load.more(60).await;
        eventually("they have moved", async || {
            broker.list_reassignments().is_empty().then_some(())
        })
        .await;
        load.more(60).await;
    }
    let generation = |group| {
        broker
            .catalogue()
            .entry(coordinator(group))
            .map(|it| it.generation)
    };
    assert!(groups.iter().all(|group| generation(group) > Some(0)));
    load.end(&trio).await;
    trio.stop().await;
}
