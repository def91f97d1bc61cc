//! A broker alone, and a shard that never has a leader because its node does not exist: what is
//! sealed for a move there is opened again.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use storage::clock::Clock;
use storage::data_dir::DataDir;
use storage::disk::{Disk, SimDisk};
use storage::{LogId, NodeId, Offset, PartitionId};

use super::seal::SealRequest;
use crate::catalogue::command::{Command, Joiner};
use crate::partition::manifest::Stand;
use crate::record::{BatchProducer, Compression, Record, encode_batch};
use crate::{
    AppendError, Broker, BrokerConfig, BrokerError, Env, FetchPartition, FetchRequest,
    FetchedPartition, Isolation, NewTopic, OffsetQuery, RequiredAcks,
};

const DEADLINE: Duration = Duration::from_secs(60);

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

async fn start(disk: &SimDisk, run: u64) -> Broker {
    let disk = Disk::Sim(disk.clone());
    let data_dir = DataDir::open(&disk, Path::new("/data")).expect("nobody has it");
    let config = BrokerConfig {
        node_id: Some(NodeId(1)),
        journal_file_bytes: 1 << 20,
        ..BrokerConfig::default()
    };
    let env = Env {
        clock: Clock::system(),
        disk,
        seed: [run, 2, 3, 4],
    };
    let started = Broker::start_alone(config, env, data_dir).await;
    started.expect("starts")
}

async fn append(broker: &Broker, id: PartitionId) -> Result<i64, AppendError> {
    append_bytes(broker, id, 1).await
}

async fn append_bytes(broker: &Broker, id: PartitionId, bytes: usize) -> Result<i64, AppendError> {
    let record = Record {
        value: Some(vec![b'v'; bytes].into()),
        ..Record::default()
    };
    let batch = encode_batch(&[record], Compression::None, BatchProducer::default());
    let pending = broker.append(id, batch, RequiredAcks::All).await?;
    Ok(pending.await?.base_offset.0)
}

async fn fetch(
    broker: &Broker,
    id: PartitionId,
    offset: Offset,
) -> Result<FetchedPartition, BrokerError> {
    let request = FetchRequest {
        partitions: vec![FetchPartition {
            partition: id,
            offset,
            last_fetched_epoch: None,
            current_leader_epoch: None,
            bytes_max: 1_000,
        }],
        wait_ms_max: 0,
        bytes_min: 1,
        bytes_max: 1_000,
        isolation: Isolation::ReadUncommitted,
        client_rack: None,
    };
    broker.fetch(request).await.remove(0).1
}

async fn end(broker: &Broker, id: PartitionId) -> Result<Option<Offset>, BrokerError> {
    let query = OffsetQuery::Latest;
    let found = broker.list_offset(id, query, Isolation::ReadUncommitted, None);
    Ok(found.await?.offset)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sealed_for_a_move_that_cannot_go_on_is_opened_again() {
    let disk = SimDisk::new(5);
    let broker = start(&disk, 1).await;
    let new = NewTopic {
        name: "t".to_owned(),
        partitions: Some(12),
        ..NewTopic::default()
    };
    let created = broker.create_topics(vec![new], false, 30_000).await;
    let topic = created.into_iter().next().expect("one");
    let id = PartitionId {
        topic: topic.expect("is made").id,
        index: 0,
    };
    assert_eq!(append(&broker, id).await, Ok(0));
    let nobody = Command::Join(Joiner {
        incarnation: [9; 16],
        wanted: Some(NodeId(2)),
        rack: None,
        listeners: BTreeMap::new(),
    });
    broker.change_catalogue(&nobody).await.expect("joins");
    let list = Some(vec![NodeId(2)]);
    let changed = broker.alter_reassignments(vec![(id, list)]).await;
    assert_eq!(changed, [(id, Ok(()))]);
    assert_eq!(append(&broker, id).await, Ok(1), "it goes on meanwhile");

    let entry = broker.catalogue().entry(id).expect("is there");
    let request = SealRequest {
        shard: entry.shard,
        log: LogId {
            partition: id,
            generation: entry.generation,
        },
        by: entry.moving.expect("moves").generation,
        at: Offset(1),
    };
    let sealed = broker.seal_here(request).await.expect("seals");
    assert_eq!((sealed.log.start, sealed.log.end), (Offset(0), Offset(2)));
    assert!(!sealed.batches.is_empty(), "the rest comes along");
    let again = broker.seal_here(request).await.expect("the same again");
    assert_eq!(again, sealed);
    // Another log may have gone on from it, as far as this node knows.
    let read = fetch(&broker, id, Offset(3)).await;
    let unsure = BrokerError::OffsetNotAvailable {
        requested: Offset(3),
        end: Offset(2),
    };
    assert_eq!(read.map(|_| ()), Err(unsure));
    assert!(fetch(&broker, id, Offset(0)).await.is_ok(), "it has these");
    let latest = end(&broker, id).await;
    assert_eq!(latest, Err(BrokerError::LeaderNotAvailable));
    // First, for the append waits a while, and the seal does not last.
    let trimmed = broker.delete_records(id, None, 5_000).await;
    assert!(
        matches!(trimmed, Err(BrokerError::NotLeader { .. })),
        "{trimmed:?}"
    );
    let refused = append(&broker, id).await;
    let expected = BrokerError::NotLeader {
        leader: Some(NodeId(1)),
    };
    assert_eq!(
        refused,
        Err(AppendError::Broker(expected)),
        "definite, and to be tried again"
    );

    // It stays sealed over a start, and is opened by whoever leads then.
    broker.shutdown().await;
    drop(broker);
    let broker = start(&disk, 2).await;
    let offset = eventually("it takes records again", async || {
        append(&broker, id).await.ok()
    });
    assert_eq!(offset.await, 2);
    let entry = broker.catalogue().entry(id).expect("is there");
    assert_eq!((entry.moving, entry.last_generation), (None, 1));
    assert!(broker.list_reassignments().is_empty());
    let late = broker.seal_here(request).await;
    assert!(
        matches!(late, Err(BrokerError::Conflict { .. })),
        "{late:?}"
    );
    assert_eq!(append(&broker, id).await, Ok(3));
    assert_eq!(end(&broker, id).await, Ok(Some(Offset(4))));
    let read = fetch(&broker, id, Offset(5)).await;
    assert!(
        matches!(read, Err(BrokerError::OffsetOutOfRange { .. })),
        "{read:?}"
    );
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_sealed_for_a_log_that_a_full_disk_would_not_activate() {
    let disk = SimDisk::new(7);
    let broker = start(&disk, 1).await;
    let new = NewTopic {
        name: "t".to_owned(),
        partitions: Some(12),
        ..NewTopic::default()
    };
    let created = broker.create_topics(vec![new], false, 30_000).await;
    let topic = created.into_iter().next().expect("one");
    let topic = topic.expect("is made").id;
    let [id, other] = [0, 1].map(|index| PartitionId { topic, index });
    disk.set_capacity(disk.used_bytes());
    eventually("the disk is full", async || {
        // It may refuse: the partition's own files do not grow either.
        let _ = append_bytes(&broker, other, 100_000).await;
        (!broker.inner.journal.admits_data()).then_some(())
    })
    .await;
    let shard = broker.catalogue().entry(id).expect("is there").shard;
    let shards = broker
        .catalogue()
        .shards
        .keys()
        .copied()
        .collect::<Vec<_>>();
    let mut others = shards.into_iter().filter(|one| one.0 != 0 && *one != shard);
    let to = others.next().expect("another one");
    let command = Command::BeginMove {
        partition: id,
        from: 0,
        to,
        last: Some(0),
    };
    broker.change_catalogue(&command).await.expect("begins");
    eventually("the new log is there", async || {
        broker.inner.directory.get_in(to, id).map(|_| ())
    })
    .await;
    for _ in 0..50 {
        let old = broker.inner.directory.get_in(shard, id);
        assert_eq!(old.expect("is there").stand, Stand::Serving);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    disk.set_capacity(u64::MAX);
    eventually("it has moved", async || {
        let entry = broker.catalogue().entry(id)?;
        (entry.generation == 1).then_some(())
    })
    .await;
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_moves_within_a_node_and_comes_back_from_its_disk() {
    let disk = SimDisk::new(6);
    let broker = start(&disk, 1).await;
    let new = NewTopic {
        name: "t".to_owned(),
        partitions: Some(12),
        configs: vec![("segment.bytes".to_owned(), Some("16384".to_owned()))],
        ..NewTopic::default()
    };
    let created = broker.create_topics(vec![new], false, 30_000).await;
    let topic = created.into_iter().next().expect("one");
    let id = PartitionId {
        topic: topic.expect("is made").id,
        index: 0,
    };
    for offset in 0..400 {
        assert_eq!(append(&broker, id).await, Ok(offset));
    }
    // In the middle of nothing: each batch is one record, so the start is a batch's.
    broker
        .delete_records(id, Some(Offset(7)), 30_000)
        .await
        .expect("trims");
    let shard = broker.catalogue().entry(id).expect("is there").shard;
    let to = broker
        .catalogue()
        .shards
        .keys()
        .copied()
        .find(|one| one.0 != 0 && *one != shard);
    let to = to.expect("another one");
    let epoch = broker.partition_status(id).expect("is there").leader_epoch;
    let command = Command::BeginMove {
        partition: id,
        from: 0,
        to,
        last: Some(0),
    };
    // One that began to ask while the move was under way.
    let mut statuses = broker.statuses();
    broker.change_catalogue(&command).await.expect("begins");
    eventually("it has moved", async || {
        let entry = broker.catalogue().entry(id)?;
        (entry.shard == to && entry.moving.is_none()).then_some(())
    })
    .await;
    let offset = eventually("it takes records", async || append(&broker, id).await.ok()).await;
    assert_eq!(offset, 400);
    let now = broker.partition_status(id).expect("is there").leader_epoch;
    assert!(now > epoch, "{now} after {epoch}");
    let asked = statuses.of(id).expect("was there").leader_epoch;
    assert_eq!(asked, epoch, "by one picture, not by two");
    let ends = |broker: &Broker| {
        let here = broker.inner.directory.get(id).expect("is served");
        (here.shard, here.log.start_offset(), here.log.end_offset())
    };
    assert_eq!(ends(&broker), (to, Offset(7), Offset(401)));
    eventually("the old log is gone", async || {
        (broker.inner.directory.logs_of(id).len() == 1).then_some(())
    })
    .await;
    let dirs = |disk: &SimDisk| {
        let any = Disk::Sim(disk.clone());
        let names = any.read_dir(Path::new("/data/partitions")).expect("lists");
        let names = names.into_iter().map(|entry| entry.name);
        let mut names: Vec<String> = names
            .filter(|name| name.contains(&id.to_string()))
            .collect();
        names.retain(|name| name == &id.to_string() || name.starts_with(&format!("{id}.")));
        names
    };
    eventually("its files are too", async || {
        (dirs(&disk) == [format!("{id}.1")]).then_some(())
    })
    .await;

    broker.shutdown().await;
    drop(broker);
    let broker = start(&disk, 2).await;
    assert_eq!(append(&broker, id).await, Ok(401));
    assert_eq!(ends(&broker), (to, Offset(7), Offset(402)));
    assert_eq!(dirs(&disk), [format!("{id}.1")]);
    broker.shutdown().await;
}
