//! Two replicas of a shard on simulated disks, one of which missed what the other applied.

use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use raft::{Apply, EntryAt, Stage, StageError};
use storage::clock::Clock;
use storage::disk::{Disk, SimDisk};
use storage::store::{LogStore, LogStoreConfig};
use storage::{LogIndex, LogPosition, NodeId, Offset, PartitionId, ShardId, Term, TopicId};

use super::range::{RangeAnswer, ReadRange};
use super::serve::RangeServer;
use super::{CatchUp, RangeSource, Stager};
use crate::partition::machine::PartitionsMachine;
use crate::partition::manifest;
use crate::partition::op::PartitionOp;
use crate::partition::waiters::Waiter;
use crate::partition::{Directory, Partition};
use crate::record::{BatchProducer, Compression, Record, encode_batch};
use crate::repair::repair_from;

const SHARD: ShardId = ShardId(1);
const SOURCE: NodeId = NodeId(1);

fn partition(index: u32) -> PartitionId {
    PartitionId {
        topic: TopicId([7; 16]),
        index,
    }
}

/// One replica: its disk, its logs and its state machine.
struct Replica {
    disk: SimDisk,
    logs: LogStore,
    directory: Directory,
    machine: PartitionsMachine,
    applied: u64,
}

impl Replica {
    fn new(seed: u64) -> Replica {
        Replica::on(SimDisk::new(seed))
    }

    fn on(disk: SimDisk) -> Replica {
        let config = LogStoreConfig::new(PathBuf::from("/partitions"));
        let any = Disk::Sim(disk.clone());
        let logs = LogStore::open(&any, &Clock::manual(0), config).unwrap();
        logs.note_recovered();
        let directory = Directory::default();
        let machine = PartitionsMachine::new(SHARD, logs.clone(), directory.clone());
        Replica {
            disk,
            logs,
            directory,
            machine,
            applied: 0,
        }
    }

    /// The same disk after a stop, from a checkpoint.
    fn restarted(self, manifest: Bytes) -> Replica {
        self.logs.close();
        let mut again = Replica::on(self.disk.clone());
        again.machine.install(manifest).unwrap();
        again
    }

    fn apply(&mut self, op: PartitionOp) {
        self.applied += 1;
        let at = EntryAt {
            position: LogPosition {
                term: Term(3),
                index: LogIndex(self.applied),
            },
            time_ms: 1_000,
        };
        self.machine.apply(at, &[op.encode()]);
    }

    fn create(&mut self, count: u32) {
        let partitions = (0..count).map(partition).collect();
        self.apply(PartitionOp::Create { partitions });
    }

    /// Appends batches of so many bytes, whose contents are known by their numbers.
    fn append(&mut self, index: u32, numbers: std::ops::Range<u8>, bytes: usize) {
        for number in numbers {
            let record = Record {
                timestamp_ms: 1_000 + i64::from(number),
                value: Some(Bytes::from(vec![number; bytes])),
                ..Record::default()
            };
            let records = [record.clone(), record];
            let batch = encode_batch(&records, Compression::None, BatchProducer::default());
            let log = partition(index).into();
            self.apply(PartitionOp::Append { log, batch });
        }
    }

    fn raise_start(&mut self, index: u32, to: i64) {
        let (partition, to) = (partition(index), Offset(to));
        self.apply(PartitionOp::RaiseStart { partition, to });
    }

    fn manifest(&mut self) -> Bytes {
        self.machine.checkpoint()().unwrap()
    }

    fn hosted(&self, index: u32) -> Arc<Partition> {
        self.directory.get(partition(index)).unwrap()
    }

    /// Log start, end, and every byte between.
    fn contents(&self, index: u32) -> (i64, i64, Vec<u8>) {
        let log = &self.hosted(index).log;
        let (start, end) = (log.start_offset(), log.end_offset());
        let mut at = start;
        let mut bytes = Vec::new();
        while at < end {
            let read = log.read(at, end, 1 << 20).unwrap();
            assert!(read.next > at);
            at = read.next;
            bytes.extend(read.batches.concat());
        }
        (start.0, end.0, bytes)
    }
}

/// The source's server without a network; counts, and fails when told to.
struct Loopback {
    server: RangeServer,
    asked: AtomicU64,
    bytes: AtomicU64,
    /// Answers left before it fails; negative: all.
    answers_left: AtomicI64,
    /// What happens at the source before the answer of this number.
    before: Mutex<Option<(u64, Event)>>,
}

type Event = Box<dyn FnOnce() + Send>;

impl Loopback {
    fn of(source: &Replica) -> Arc<Loopback> {
        Arc::new(Loopback {
            server: RangeServer::new(
                source.directory.clone(),
                source.logs.clone(),
                Clock::manual(0),
            ),
            asked: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            answers_left: AtomicI64::new(-1),
            before: Mutex::new(None),
        })
    }

    fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }
}

struct To(Arc<Loopback>);

impl RangeSource for To {
    fn ask(&self, node: NodeId, request: Bytes) -> BoxFuture<'static, Result<Bytes, String>> {
        assert_eq!(node, SOURCE);
        let asked = self.0.asked.fetch_add(1, Ordering::SeqCst);
        let left = self.0.answers_left.fetch_sub(1, Ordering::SeqCst);
        if left == 0 {
            return Box::pin(async { Err("the connection broke".to_owned()) });
        }
        let mut before = self.0.before.lock().unwrap();
        if before.as_ref().is_some_and(|(number, _)| *number == asked) {
            (before.take().unwrap().1)();
        }
        let link = Arc::clone(&self.0);
        let answer = link.server.answer(request, &|_| true);
        Box::pin(async move {
            let answer = answer.await;
            link.bytes.fetch_add(answer.len() as u64, Ordering::SeqCst);
            Ok(answer)
        })
    }
}

fn catch_up(replica: &Replica, source: impl RangeSource) -> CatchUp {
    CatchUp::new(
        replica.directory.clone(),
        replica.logs.clone(),
        Arc::new(source),
        (0, Clock::system()),
    )
}

fn stager(follower: &Replica, link: &Arc<Loopback>) -> Stager {
    catch_up(follower, To(Arc::clone(link))).stager(SHARD)
}

async fn stage(stager: &Stager, manifest: Bytes) -> Result<Bytes, StageError> {
    stager.stage(SOURCE, manifest).await
}

/// Two replicas that have applied the same: two partitions with four batches each.
fn two() -> (Replica, Replica) {
    let mut replicas = [Replica::new(1), Replica::new(2)];
    for replica in &mut replicas {
        replica.create(3);
        replica.append(0, 0..4, 1_000);
        replica.append(1, 0..4, 1_000);
    }
    let [source, follower] = replicas;
    (source, follower)
}

fn assert_equal(source: &Replica, follower: &Replica, indexes: std::ops::Range<u32>) {
    for index in indexes {
        assert!(
            source.contents(index) == follower.contents(index),
            "partition {index} differs"
        );
    }
}

#[tokio::test]
async fn only_what_is_missing_travels_and_the_replicas_go_on_as_equals() {
    let (mut source, mut follower) = two();
    source.append(0, 4..9, 100_000);
    let link = Loopback::of(&source);
    let before = follower.hosted(1);
    let manifest = source.manifest();
    let localised = stage(&stager(&follower, &link), manifest).await.unwrap();
    let sent = link.bytes.load(Ordering::SeqCst);
    assert!((1_000_000..1_010_000).contains(&sent), "{sent} bytes");
    follower.machine.install(localised.clone()).unwrap();
    assert_equal(&source, &follower, 0..3);
    assert!(
        Arc::ptr_eq(&before, &follower.hosted(1)),
        "what lacked nothing stays as it is"
    );
    for replica in [&mut source, &mut follower] {
        replica.append(0, 20..24, 500);
        replica.append(2, 20..24, 500);
    }
    assert_equal(&source, &follower, 0..3);
    // What was installed is what a restart finds, without the entries after it.
    let end = follower.hosted(0).log.end_offset();
    let again = follower.restarted(localised);
    assert_eq!(again.hosted(0).log.end_offset(), Offset(end.0 - 8));
    let (_, _, bytes) = again.contents(0);
    assert_eq!(source.contents(0).2[..bytes.len()], bytes);
}

#[tokio::test]
async fn a_new_replica_gets_everything_from_the_log_start_on() {
    let (mut source, _) = two();
    source.append(0, 4..50, 200_000);
    source.raise_start(0, 5);
    source.raise_start(1, 8);
    let mut follower = Replica::new(3);
    let link = Loopback::of(&source);
    let stager = stager(&follower, &link);
    let localised = stage(&stager, source.manifest()).await.unwrap();
    assert!(link.asked() > 4, "large logs come in several ranges");
    let progress = stager.progress();
    assert_eq!(progress.bytes_left, Some(0));
    assert!(progress.bytes_done > 18_000_000);
    follower.machine.install(localised.clone()).unwrap();
    assert_equal(&source, &follower, 0..3);
    let follower = follower.restarted(localised);
    assert_equal(&source, &follower, 0..3);
}

#[tokio::test]
async fn a_broken_copy_goes_on_where_it_was_with_the_next_offer() {
    let (mut source, mut follower) = two();
    source.append(0, 4..80, 200_000);
    let link = Loopback::of(&source);
    let stager = stager(&follower, &link);
    link.answers_left.store(3, Ordering::SeqCst);
    let manifest = source.manifest();
    let failed = stage(&stager, manifest).await;
    assert!(
        matches!(failed, Err(StageError::Fetch { .. })),
        "{failed:?}"
    );
    let first = link.bytes.swap(0, Ordering::SeqCst);
    assert!(first > 8_000_000, "{first} bytes");
    // The leader has moved on meanwhile.
    source.append(0, 80..90, 200_000);
    let manifest = source.manifest();
    link.answers_left.store(-1, Ordering::SeqCst);
    let localised = stage(&stager, manifest).await.unwrap();
    let second = link.bytes.load(Ordering::SeqCst);
    let all = 86 * 400_000;
    assert!(first + second < all + 5_000_000, "{first} + {second}");
    follower.machine.install(localised).unwrap();
    assert_equal(&source, &follower, 0..3);
}

#[tokio::test]
async fn a_source_that_drops_tombstones_while_it_is_copied_is_copied_from_the_log_start_on() {
    let (mut source, mut follower) = two();
    source.append(0, 4..80, 200_000);
    let link = Loopback::of(&source);
    let log = source.hosted(0).log.clone();
    let dropping: Event = Box::new(move || log.note_tombstones_gone(Offset(40)));
    *link.before.lock().unwrap() = Some((1, dropping));
    let localised = stage(&stager(&follower, &link), source.manifest())
        .await
        .unwrap();
    let sent = link.bytes.load(Ordering::SeqCst);
    let missing = 76 * 400_000;
    assert!(
        sent > missing + 4_000_000,
        "{sent} bytes: what came at first is void"
    );
    follower.machine.install(localised.clone()).unwrap();
    assert_equal(&source, &follower, 0..3);
    let gone = |replica: &Replica| replica.hosted(0).log.tombstones().gone_below;
    assert_eq!(
        gone(&follower),
        Offset(40),
        "whoever copies from here is told as well"
    );
    let follower = follower.restarted(localised);
    assert_eq!(gone(&follower), Offset(40));
    assert_equal(&source, &follower, 0..3);
}

#[tokio::test]
async fn a_copy_of_a_source_that_dropped_tombstones_goes_on_while_it_drops_no_more() {
    let (mut source, mut follower) = two();
    source.append(0, 4..80, 200_000);
    source.hosted(0).log.note_tombstones_gone(Offset(150));
    let link = Loopback::of(&source);
    let stager = stager(&follower, &link);
    link.answers_left.store(3, Ordering::SeqCst);
    let failed = stage(&stager, source.manifest()).await;
    assert!(failed.is_err(), "{failed:?}");
    let first = link.bytes.swap(0, Ordering::SeqCst);
    link.answers_left.store(-1, Ordering::SeqCst);
    let localised = stage(&stager, source.manifest()).await.unwrap();
    let second = link.bytes.load(Ordering::SeqCst);
    let all = 76 * 400_000 + 8_000;
    assert!(first + second < all + 5_000_000, "{first} + {second}");
    follower.machine.install(localised).unwrap();
    assert_equal(&source, &follower, 0..3);
    // It drops more, as another source may have: nothing of what came before counts.
    let mut third = Replica::new(9);
    let third_stager = catch_up(&third, To(Arc::clone(&link))).stager(SHARD);
    link.answers_left.store(3, Ordering::SeqCst);
    assert!(stage(&third_stager, source.manifest()).await.is_err());
    source.hosted(0).log.note_tombstones_gone(Offset(152));
    link.bytes.store(0, Ordering::SeqCst);
    link.answers_left.store(-1, Ordering::SeqCst);
    let localised = stage(&third_stager, source.manifest()).await.unwrap();
    let again = link.bytes.load(Ordering::SeqCst);
    assert!(again > all, "{again}");
    third.machine.install(localised).unwrap();
    assert_equal(&source, &third, 0..3);
}

#[tokio::test]
async fn a_staging_that_was_dropped_is_taken_up_by_the_next() {
    let (mut source, mut follower) = two();
    source.append(0, 4..80, 200_000);
    let link = Loopback::of(&source);
    let stager = stager(&follower, &link);
    let manifest = source.manifest();
    {
        let dropped = stage(&stager, manifest.clone());
        tokio::pin!(dropped);
        let mut waits = 0;
        while link.bytes.load(Ordering::SeqCst) < 8_000_000 {
            let turn = tokio::time::timeout(std::time::Duration::from_millis(1), &mut dropped);
            assert!(turn.await.is_err(), "it is not done yet");
            waits += 1;
            assert!(waits < 20_000, "it does not come on");
        }
    }
    let localised = stage(&stager, manifest).await.unwrap();
    follower.machine.install(localised).unwrap();
    assert_equal(&source, &follower, 0..3);
}

#[tokio::test]
async fn a_log_start_that_is_higher_here_stays() {
    for more in [0..0, 4..80] {
        let (mut source, mut follower) = two();
        source.append(0, more, 200_000);
        let manifest = source.manifest();
        let link = Loopback::of(&source);
        let end = follower.hosted(0).log.end_offset().0;
        follower.raise_start(0, end - 2);
        let localised = stage(&stager(&follower, &link), manifest).await.unwrap();
        follower.machine.install(localised).unwrap();
        source.raise_start(0, end - 2);
        assert_equal(&source, &follower, 0..3);
    }
}

#[tokio::test]
async fn a_log_start_that_rises_on_the_source_rises_here() {
    for to in [10, 60, 160] {
        let (mut source, mut follower) = two();
        source.append(0, 4..80, 200_000);
        let manifest = source.manifest();
        let link = Loopback::of(&source);
        let log = source.hosted(0).log.clone();
        let raise = move || log.raise_start(Offset(to));
        *link.before.lock().unwrap() = Some((1, Box::new(raise)));
        let localised = stage(&stager(&follower, &link), manifest).await.unwrap();
        follower.machine.install(localised).unwrap();
        let (start, end, bytes) = follower.contents(0);
        assert_eq!(end, 160);
        assert!(start == 0 || start == to, "{start}");
        follower.raise_start(0, to);
        source.raise_start(0, to);
        assert_equal(&source, &follower, 0..3);
        assert!(start == 0 || bytes.len() < 32_000_000);
    }
}

#[tokio::test]
async fn a_partition_deleted_on_the_source_is_empty_here_until_its_deletion_comes() {
    let (mut source, mut follower) = two();
    source.append(0, 4..8, 1_000);
    source.append(1, 4..8, 1_000);
    let manifest = source.manifest();
    let partitions = vec![partition(1)];
    source.apply(PartitionOp::Delete {
        partitions: partitions.clone(),
    });
    let link = Loopback::of(&source);
    let localised = stage(&stager(&follower, &link), manifest).await.unwrap();
    follower.machine.install(localised).unwrap();
    assert_eq!(follower.contents(1), (16, 16, Vec::new()));
    follower.apply(PartitionOp::Delete { partitions });
    assert!(!follower.directory.contains(partition(1)));
    assert_equal(&source, &follower, 0..1);
}

#[tokio::test]
async fn what_a_replica_that_does_not_lead_lacks_is_not_taken_for_deleted() {
    let (mut source, follower) = two();
    source.append(0, 4..8, 1_000);
    let request = ReadRange {
        shard: SHARD,
        partition: partition(9),
        from: Offset(0),
        limit: Offset(1),
        bytes_max: 1,
    };
    let server = RangeServer::new(
        source.directory.clone(),
        source.logs.clone(),
        Clock::manual(0),
    );
    let answer = server.answer(request.encode(), &|_| false).await;
    let expected = RangeAnswer::NoSuchPartition { leads: false };
    assert_eq!(RangeAnswer::decode(answer), Ok(expected));
    let ahead = ReadRange {
        partition: partition(0),
        from: Offset(99),
        ..request
    };
    let answer = server.answer(ahead.encode(), &|_| false).await;
    let expected = RangeAnswer::Behind { end: Offset(16) };
    assert_eq!(RangeAnswer::decode(answer), Ok(expected));
    let garbage = server.answer(Bytes::from_static(b"?"), &|_| true).await;
    let answer = RangeAnswer::decode(garbage);
    assert!(
        matches!(answer, Ok(RangeAnswer::Failed { .. })),
        "{answer:?}"
    );
    drop(follower);
}

#[tokio::test]
async fn damage_on_the_way_is_refused_and_the_copy_goes_on() {
    struct Flip(To, AtomicU64);
    impl RangeSource for Flip {
        fn ask(&self, node: NodeId, request: Bytes) -> BoxFuture<'static, Result<Bytes, String>> {
            let is_second = self.1.fetch_add(1, Ordering::SeqCst) == 1;
            let answer = self.0.ask(node, request);
            Box::pin(async move {
                let mut answer = answer.await?.to_vec();
                if is_second {
                    let middle = answer.len() / 2;
                    answer[middle] ^= 1;
                }
                Ok(answer.into())
            })
        }
    }
    let (mut source, mut follower) = two();
    source.append(0, 4..40, 200_000);
    let link = Loopback::of(&source);
    let flip = Flip(To(Arc::clone(&link)), AtomicU64::new(0));
    let stager = catch_up(&follower, flip).stager(SHARD);
    let manifest = source.manifest();
    let refused = stage(&stager, manifest.clone()).await;
    assert!(refused.is_err());
    let localised = stage(&stager, manifest).await.unwrap();
    follower.machine.install(localised).unwrap();
    assert_equal(&source, &follower, 0..3);
}

#[tokio::test]
async fn ten_thousand_partitions_that_lack_nothing_cost_nothing() {
    const COUNT: u32 = 10_000;
    let mut source = Replica::new(1);
    let mut follower = Replica::new(2);
    for replica in [&mut source, &mut follower] {
        replica.create(COUNT);
        replica.append(17, 0..3, 100);
    }
    let follower_manifest = follower.manifest();
    source.append(18, 0..3, 100);
    let link = Loopback::of(&source);
    let manifest = source.manifest();
    assert_eq!(
        manifest::decode(follower_manifest)
            .unwrap()
            .partitions
            .len(),
        10_000
    );
    let ops = follower.disk.op_count();
    let stager = stager(&follower, &link);
    let localised = stage(&stager, manifest).await.unwrap();
    assert_eq!(link.asked(), 1);
    let ops = follower.disk.op_count() - ops;
    assert!(ops < 40, "{ops} operations of the disk");
    follower.machine.install(localised).unwrap();
    assert_equal(&source, &follower, 0..40);
}

#[tokio::test]
async fn an_install_wakes_readers_and_removes_what_vanished() {
    let (mut source, mut follower) = two();
    source.append(0, 4..5, 1_000);
    source.apply(PartitionOp::Delete {
        partitions: vec![partition(2)],
    });
    let old = follower.hosted(0);
    let (waiting, vanished) = (Waiter::new(1), Waiter::new(1));
    old.waiters.register(&waiting);
    follower.hosted(2).waiters.register(&vanished);
    let link = Loopback::of(&source);
    let manifest = source.manifest();
    let localised = stage(&stager(&follower, &link), manifest).await.unwrap();
    follower.machine.install(localised).unwrap();
    waiting.woken().await;
    vanished.woken().await;
    assert!(old.is_superseded());
    assert!(!follower.directory.contains(partition(2)));
    // Who waits still hears of what comes to the log that took the place of the old one.
    follower.append(0, 9..10, 1_000);
    waiting.woken().await;
}

#[tokio::test]
async fn a_power_cut_before_the_install_leaves_the_old_checkpoint_usable() {
    let (mut source, mut follower) = two();
    let checkpoint = follower.manifest();
    source.append(0, 4..80, 200_000);
    let link = Loopback::of(&source);
    let manifest = source.manifest();
    let localised = stage(&stager(&follower, &link), manifest.clone())
        .await
        .unwrap();
    follower.disk.cut_power();
    follower.logs.close();
    follower.disk.crash(9);
    let mut follower = Replica::on(follower.disk.clone());
    follower.machine.install(checkpoint).unwrap();
    assert_eq!(follower.hosted(0).log.end_offset(), Offset(8));
    assert!(source.contents(0).2.starts_with(&follower.contents(0).2));
    let again = stage(&stager(&follower, &link), manifest).await.unwrap();
    drop(localised);
    follower.machine.install(again.clone()).unwrap();
    assert_equal(&source, &follower, 0..3);
    follower.disk.cut_power();
    follower.logs.close();
    follower.disk.crash(10);
    let mut follower = Replica::on(follower.disk.clone());
    follower.machine.install(again).unwrap();
    assert_equal(&source, &follower, 0..3);
}

/// Flips a bit of the follower's first segment of partition 0 and finds it.
fn damage(follower: &Replica) {
    let file = PathBuf::from("/partitions")
        .join(partition(0).to_string())
        .join("00000000000000000000.log");
    follower.disk.flip_bit(&file, 8 * 100_000).unwrap();
    let log = &follower.hosted(0).log;
    assert!(log.verify().is_err());
    assert!(log.failed().is_some());
    assert_eq!(log.damaged_segments().len(), 1);
}

#[tokio::test]
async fn a_damaged_segment_is_mended_byte_for_byte_and_goes_on() {
    let (mut source, mut follower) = two();
    for replica in [&mut source, &mut follower] {
        replica.append(0, 4..40, 200_000);
        // Synced: it is in the files.
        replica.manifest();
    }
    let whole = follower.contents(0);
    damage(&follower);
    let link = Loopback::of(&source);
    let catch_up = catch_up(&follower, To(Arc::clone(&link)));
    let damaged = follower.hosted(0);
    link.answers_left.store(1, Ordering::SeqCst);
    let failed = repair_from(catch_up.ranges(), SOURCE, &damaged, Offset(0)).await;
    assert!(failed.is_err());
    assert!(damaged.log.failed().is_some(), "still refused");
    link.answers_left.store(-1, Ordering::SeqCst);
    repair_from(catch_up.ranges(), SOURCE, &damaged, Offset(0))
        .await
        .unwrap();
    assert!(damaged.log.failed().is_none());
    damaged.log.verify().unwrap();
    assert!(follower.contents(0) == whole);
    for replica in [&mut source, &mut follower] {
        replica.append(0, 40..44, 1_000);
    }
    assert_equal(&source, &follower, 0..3);
    let manifest = follower.manifest();
    let follower = follower.restarted(manifest);
    follower.hosted(0).log.verify().unwrap();
    assert_equal(&source, &follower, 0..3);
}

#[tokio::test]
async fn a_replica_that_has_not_the_whole_segment_cannot_mend_it() {
    let (source, mut follower) = two();
    follower.append(0, 4..40, 200_000);
    follower.manifest();
    damage(&follower);
    let link = Loopback::of(&source);
    let catch_up = catch_up(&follower, To(link));
    let damaged = follower.hosted(0);
    let failed = repair_from(catch_up.ranges(), SOURCE, &damaged, Offset(0)).await;
    assert!(failed.is_err());
    assert_eq!(damaged.log.damaged_segments().len(), 1);
}
