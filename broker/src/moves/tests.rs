//! Two shards on three nodes, one of which carries both; partitions move between them while
//! producers write, moves are cancelled, nodes start again from checkpoints, and old operations
//! come late. What the partition holds is what it would hold had it stayed where it was.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use raft::{Apply, EntryAt, Op};
use storage::batch::BatchHeader;
use storage::clock::Clock;
use storage::disk::{Disk, SimDisk};
use storage::partition_log::TombstoneView;
use storage::store::{LogStore, LogStoreConfig};
use storage::{LogId, LogIndex, LogPosition, NodeId, Offset, PartitionId, ShardId, Term, TopicId};
use tokio::sync::watch;

use crate::catalogue::command::{Command, TopicEntry};
use crate::catalogue::machine::{CatalogueMachine, Outcome as Decided};
use crate::catalogue::{Catalogue, Factor, PartitionEntry, Shard as ShardEntry};
use crate::partition::machine::{Outcome, PartitionsMachine};
use crate::partition::manifest::Stand;
use crate::partition::op::PartitionOp;
use crate::partition::{Directory, Partition, SealedLog};
use crate::record::{BatchProducer, Compression, Record, decode_batch, encode_batch};

const ID: PartitionId = PartitionId {
    topic: TopicId([9; 16]),
    index: 0,
};
const PRODUCERS: usize = 3;
/// Shards of each node.
const NODES: [&[u32]; 3] = [&[1], &[2], &[1, 2]];

/// A node: its disk, its logs and its shards' machines.
struct Node {
    disk: SimDisk,
    logs: LogStore,
    directory: Directory,
    machines: BTreeMap<u32, PartitionsMachine>,
    /// Last checkpoint of each shard, and how many of its operations it holds.
    checkpoints: BTreeMap<u32, (usize, Bytes)>,
    images: watch::Receiver<Arc<Catalogue>>,
    followed: Arc<Catalogue>,
}

fn open_logs(disk: &SimDisk) -> LogStore {
    let config = LogStoreConfig::new(PathBuf::from("/partitions"));
    let disk = Disk::Sim(disk.clone());
    LogStore::open(&disk, &Clock::manual(0), config).expect("opens")
}

impl Node {
    fn new(seed: u64, shards: &[u32], images: &watch::Receiver<Arc<Catalogue>>) -> Node {
        let disk = SimDisk::new(seed);
        let logs = open_logs(&disk);
        let directory = Directory::new(images.clone());
        let machine = |shard: &u32| {
            let machine = PartitionsMachine::new(ShardId(*shard), logs.clone(), directory.clone());
            (*shard, machine)
        };
        Node {
            machines: shards.iter().map(machine).collect(),
            disk,
            logs,
            directory,
            checkpoints: BTreeMap::new(),
            images: images.clone(),
            followed: Arc::default(),
        }
    }

    fn follow(&mut self) {
        self.followed = self.directory.follow(&self.followed).0;
    }

    fn checkpoint(&mut self, history: &BTreeMap<u32, Vec<(EntryAt, Op)>>) {
        for (shard, machine) in &mut self.machines {
            let manifest = machine.checkpoint()().expect("a checkpoint");
            let applied = history.get(shard).map_or(0, Vec::len);
            self.checkpoints.insert(*shard, (applied, manifest));
        }
    }

    /// Loses what was not synced, and applies again what came after the checkpoints.
    fn restart(&mut self, seed: u64, history: &BTreeMap<u32, Vec<(EntryAt, Op)>>) {
        let shards: Vec<u32> = history.keys().copied().collect();
        let carried: Vec<u32> = shards
            .into_iter()
            .filter(|one| self.carries(*one))
            .collect();
        self.machines.clear();
        self.logs.close();
        self.disk.crash(seed);
        self.logs = open_logs(&self.disk);
        self.directory = Directory::new(self.images.clone());
        self.followed = Arc::default();
        for shard in carried {
            let (logs, directory) = (self.logs.clone(), self.directory.clone());
            let mut machine = PartitionsMachine::new(ShardId(shard), logs, directory);
            let mut applied = 0;
            if let Some((held, manifest)) = self.checkpoints.get(&shard) {
                machine.install(manifest.clone()).expect("installs");
                applied = *held;
            }
            for (at, op) in &history[&shard][applied..] {
                machine.apply(*at, std::slice::from_ref(op));
            }
            self.machines.insert(shard, machine);
        }
        self.follow();
    }

    fn carries(&self, shard: u32) -> bool {
        let mut known = self.checkpoints.keys().chain(self.machines.keys());
        known.any(|known| *known == shard)
    }
}

/// One producer: its next sequence, and its last batch with where it went.
#[derive(Default)]
struct Producer {
    written: i32,
    last: Option<(Bytes, Offset)>,
}

/// What the driver of a move knows.
#[derive(Default)]
struct Driver {
    sealed: Option<SealedLog>,
    epoch_base: Option<i64>,
}

struct World {
    catalogue: CatalogueMachine,
    images: watch::Receiver<Arc<Catalogue>>,
    nodes: Vec<Node>,
    /// Everything that each shard's log has.
    history: BTreeMap<u32, Vec<(EntryAt, Op)>>,
    terms: BTreeMap<u32, u64>,
    producers: Vec<Producer>,
    /// The value of each record, by offset.
    model: Vec<String>,
    start: i64,
    driver: Driver,
    /// Operations of the past, which may be said again.
    old: Vec<(u32, Op)>,
    last_epoch: i32,
    moved: usize,
}

fn batch(producer: usize, number: i32) -> Bytes {
    let record = Record {
        timestamp_ms: 1_000 + i64::from(number),
        value: Some(Bytes::from(format!("{producer}-{number}"))),
        ..Record::default()
    };
    let producer = BatchProducer {
        producer_id: i64::try_from(producer).expect("few"),
        producer_epoch: 0,
        base_sequence: number,
    };
    encode_batch(&[record], Compression::None, producer)
}

impl World {
    fn new() -> World {
        let (catalogue, images) = CatalogueMachine::new();
        let nodes = (1..).zip(NODES);
        let mut world = World {
            nodes: nodes
                .map(|(seed, shards)| Node::new(seed, shards, &images))
                .collect(),
            catalogue,
            images,
            history: [(1, Vec::new()), (2, Vec::new())].into(),
            terms: [(1, 5), (2, 1)].into(),
            producers: (0..PRODUCERS).map(|_| Producer::default()).collect(),
            model: Vec::new(),
            start: 0,
            driver: Driver::default(),
            old: Vec::new(),
            last_epoch: 0,
            moved: 0,
        };
        let shard = |id| ShardEntry::new(ShardId(id), vec![NodeId(1)], Factor::Auto);
        world.decide(Command::Found {
            cluster_id: "c".to_owned(),
            shards: (0..3).map(shard).collect(),
            nodes: Vec::new(),
        });
        let created = world.decide(Command::CreateTopic(TopicEntry {
            name: "t".to_owned(),
            id: ID.topic,
            partitions: vec![PartitionEntry::new(ShardId(1))],
            overrides: BTreeMap::new(),
            internal: false,
        }));
        assert_eq!(created, Decided::Done);
        let partitions = vec![ID];
        world.apply(1, PartitionOp::Create { partitions });
        for node in &mut world.nodes {
            node.checkpoint(&world.history);
            node.follow();
        }
        world
    }

    fn decide(&mut self, command: Command) -> Decided {
        let at = EntryAt {
            position: LogPosition::default(),
            time_ms: 0,
        };
        let mut decided = self.catalogue.apply(at, &[Op::control(command.encode())]);
        for node in &mut self.nodes {
            node.follow();
        }
        decided.remove(0)
    }

    fn entry(&self) -> PartitionEntry {
        self.images.borrow().entry(ID).expect("is there")
    }

    fn apply(&mut self, shard: u32, op: PartitionOp) -> Outcome {
        let op = op.encode();
        self.old.push((shard, op.clone()));
        self.apply_encoded(shard, op)
    }

    /// Every replica comes to the same.
    fn apply_encoded(&mut self, shard: u32, op: Op) -> Outcome {
        let history = self.history.get_mut(&shard).expect("a shard");
        let index = u64::try_from(history.len()).expect("few");
        let at = EntryAt {
            position: LogPosition {
                term: Term(self.terms[&shard]),
                index: LogIndex(index),
            },
            time_ms: 1_000,
        };
        history.push((at, op.clone()));
        let machines = self.nodes.iter_mut();
        let machines = machines.filter_map(|node| node.machines.get_mut(&shard));
        let outcomes: Vec<Outcome> = machines
            .map(|machine| machine.apply(at, std::slice::from_ref(&op)).remove(0))
            .collect();
        assert!(
            outcomes.windows(2).all(|two| two[0] == two[1]),
            "{outcomes:?}"
        );
        outcomes.into_iter().next().expect("some replica")
    }

    fn here(&self, node: usize, shard: u32) -> Option<Arc<Partition>> {
        self.nodes[node].directory.get_in(ShardId(shard), ID)
    }

    /// Appends a producer's batch where the catalogue has the partition; `true` when it was taken.
    fn produce(&mut self, producer: usize) -> bool {
        let number = self.producers[producer].written;
        let bytes = batch(producer, number);
        let end = Offset(i64::try_from(self.model.len()).expect("few"));
        match self.append(bytes.clone()) {
            Some(at) => {
                assert_eq!(at, end, "{producer}-{number}");
                self.model.push(format!("{producer}-{number}"));
                self.producers[producer].written += 1;
                self.producers[producer].last = Some((bytes, at));
                true
            }
            None => false,
        }
    }

    /// Says a batch again that was taken: it is known.
    fn repeat(&mut self, producer: usize) {
        if let Some((bytes, at)) = self.producers[producer].last.clone()
            && let Some(again) = self.append(bytes)
        {
            assert_eq!(again, at);
        }
    }

    fn append(&mut self, batch: Bytes) -> Option<Offset> {
        let shard = self.entry().shard.0;
        // What a leader that serves would do: only what its catalogue names takes appends.
        let node = usize::try_from(shard).expect("small") - 1;
        let served = self.nodes[node].directory.get(ID).expect("is served");
        assert_eq!(served.shard, ShardId(shard));
        let log = served.log_id();
        match self.apply(shard, PartitionOp::Append { log, batch }) {
            Outcome::Appended(appended, _) => {
                let epoch = served.epoch_in(Term(self.terms[&shard])).0;
                assert!(
                    epoch >= self.last_epoch,
                    "{epoch} after {}",
                    self.last_epoch
                );
                self.last_epoch = epoch;
                Some(appended.base_offset)
            }
            Outcome::Moving => None,
            other => panic!("appending came to {other:?}"),
        }
    }

    fn trim(&mut self, part: u8) {
        let end = i64::try_from(self.model.len()).expect("few");
        let to = self.start + (end - self.start) * i64::from(part) / 255;
        let op = PartitionOp::RaiseStart {
            partition: ID,
            to: Offset(to),
        };
        match self.apply(self.entry().shard.0, op) {
            Outcome::Start(start) => self.start = start.0,
            Outcome::Moving => {}
            other => panic!("trimming came to {other:?}"),
        }
    }

    fn logs(&self) -> Option<(u32, u32, LogId, LogId)> {
        let entry = self.entry();
        let moving = entry.moving?;
        let (log, old) = super::logs(ID, entry, moving);
        Some((entry.shard.0, moving.to.0, log, old))
    }

    fn begin_move(&mut self) {
        let entry = self.entry();
        if entry.moving.is_none() {
            let to = ShardId(3 - entry.shard.0);
            let from = entry.generation;
            let partition = ID;
            let begun = self.decide(Command::BeginMove {
                partition,
                from,
                to,
                last: Some(entry.last_generation),
            });
            assert_eq!(begun, Decided::Done);
            self.driver = Driver::default();
        }
    }

    /// One step of the driver; whatever it knew it may have forgotten.
    fn drive(&mut self, step: u8, chunk: usize) {
        let Some((from, to, log, old)) = self.logs() else {
            return;
        };
        let target = usize::try_from(to).expect("small") - 1;
        let source = usize::try_from(from).expect("small") - 1;
        let there = self.here(source, from).expect("the old log is there");
        let here = self.here(target, to).filter(|here| here.log_id() == log);
        match (step % 4, here) {
            (_, None) => {
                let from = there.log.start_offset();
                self.apply(to, PartitionOp::Begin { log, from });
            }
            (0 | 1, Some(here)) if here.stand == Stand::Filling => {
                let at = here.log.end_offset();
                let start = there.log.start_offset();
                if at < start {
                    self.apply(to, PartitionOp::Begin { log, from: start });
                    return;
                }
                let batches = read(&there, at, chunk);
                if !batches.is_empty() {
                    self.apply(
                        to,
                        PartitionOp::Fill {
                            log,
                            at,
                            gone: None,
                            batches,
                        },
                    );
                }
            }
            (2, Some(_)) => {
                let by = log.generation;
                match self.apply(from, PartitionOp::Seal { log: old, by }) {
                    Outcome::Sealed(sealed) => self.driver.sealed = Some(*sealed),
                    other => panic!("sealing came to {other:?}"),
                }
            }
            (3, Some(_)) => self.activate_and_finish(to, log),
            _ => {}
        }
    }

    fn activate_and_finish(&mut self, to: u32, log: LogId) {
        if let Some(sealed) = self.driver.sealed.clone() {
            let op = PartitionOp::Activate {
                log,
                start: sealed.start,
                end: sealed.end,
                epoch: sealed.epoch,
                producers: sealed.producers,
            };
            if let Outcome::Activated { epoch_base } = self.apply(to, op) {
                self.driver.epoch_base = Some(epoch_base);
            }
        }
        if let Some(epoch_base) = self.driver.epoch_base {
            let finished = self.decide(Command::FinishMove {
                partition: ID,
                generation: log.generation,
                epoch_base,
            });
            assert_eq!(finished, Decided::Done);
            self.driver = Driver::default();
            self.moved += 1;
            self.check();
        }
    }

    fn cancel(&mut self) {
        if let Some((_, _, log, _)) = self.logs() {
            let cancelled = self.decide(Command::CancelMove {
                partition: ID,
                generation: log.generation,
            });
            assert_eq!(cancelled, Decided::Done);
            // The driver does not know yet, and tries to finish it.
            let late = self.decide(Command::FinishMove {
                partition: ID,
                generation: log.generation,
                epoch_base: 0,
            });
            assert!(matches!(late, Decided::Refused(_)));
            self.driver = Driver::default();
        }
    }

    /// What reconciler and guard do on the leaders of both shards.
    fn settle(&mut self) {
        let entry = self.entry();
        for shard in [1, 2] {
            let node = usize::try_from(shard).expect("small") - 1;
            let Some(here) = self.here(node, shard) else {
                continue;
            };
            if entry.is_past(here.generation()) {
                let logs = vec![here.log_id()];
                self.apply(shard, PartitionOp::Drop { logs });
            } else if let Stand::Sealed(by) = here.stand
                && entry.is_past(by)
            {
                self.apply(shard, PartitionOp::Unseal { partition: ID, by });
            }
        }
    }

    /// Says an operation of a move again that was said long ago, by whoever was leader then. Only
    /// those of moves: a shard's log does not repeat appends.
    fn say_again(&mut self, which: usize) {
        let old: Vec<(u32, Op)> = self
            .old
            .iter()
            .filter(|(_, op)| {
                let op = PartitionOp::decode(op).expect("was encoded");
                !matches!(
                    op,
                    PartitionOp::Append { .. } | PartitionOp::RaiseStart { .. }
                )
            })
            .cloned()
            .collect();
        if old.is_empty() {
            return;
        }
        let (shard, op) = old[which % old.len()].clone();
        self.apply_encoded(shard, op);
    }

    /// All replicas have what the model has; those of one shard the same bytes.
    fn check(&self) {
        let entry = self.entry();
        let mut all = Vec::new();
        for (node, shards) in NODES.iter().enumerate() {
            if !shards.contains(&entry.shard.0) {
                continue;
            }
            let served = self.nodes[node].directory.get(ID).expect("is served");
            assert_eq!(served.generation(), entry.generation);
            assert_eq!(served.log.start_offset(), Offset(self.start));
            assert_eq!(
                served.high_watermark(),
                Offset(self.model.len().try_into().expect("few"))
            );
            all.push(read(&served, Offset(self.start), usize::MAX));
        }
        assert!(all.windows(2).all(|two| two[0] == two[1]));
        let mut rest = all.pop().expect("some replica");
        let mut at = usize::try_from(self.start).expect("not negative");
        while !rest.is_empty() {
            let header = BatchHeader::parse(&rest).expect("a batch");
            let batch = rest.split_to(header.total_bytes());
            let records = decode_batch(&batch, 1 << 20).expect("records");
            assert_eq!(header.base_offset, i64::try_from(at).expect("few"));
            let value = records[0].value.clone().expect("a value");
            assert_eq!(value, self.model[at].as_bytes());
            at += 1;
        }
        assert_eq!(at, self.model.len());
    }

    /// Finishes what is under way, or cancels it, and looks at everything.
    fn end(&mut self) {
        for _ in 0..40 {
            self.settle();
            for step in [1, 2, 1, 3] {
                self.drive(step, usize::MAX);
            }
        }
        assert_eq!(
            self.entry().moving,
            None,
            "a move that nothing holds up comes to its end"
        );
        self.settle();
        for producer in 0..PRODUCERS {
            assert!(self.produce(producer), "it takes appends again");
            self.repeat(producer);
        }
        self.check();
        for (node, shards) in NODES.iter().enumerate() {
            let all = self.nodes[node].directory.all();
            let carries = shards.contains(&self.entry().shard.0);
            assert_eq!(
                all.len(),
                usize::from(carries),
                "nothing is left over: {all:?}"
            );
        }
        for (seed, node) in (0..).zip(&mut self.nodes) {
            node.restart(seed, &self.history);
        }
        self.check();
    }
}

/// Batches of a log from an offset on, joined.
fn read(partition: &Partition, from: Offset, bytes_max: usize) -> Bytes {
    let end = partition.log.end_offset();
    let read = partition.log.read(from, end, bytes_max).expect("reads");
    let mut joined = BytesMut::new();
    read.batches
        .iter()
        .for_each(|batch| joined.extend_from_slice(batch));
    joined.freeze()
}

#[derive(Debug, Clone)]
enum Step {
    Produce(usize),
    Repeat(usize),
    Trim(u8),
    BeginMove,
    Drive(u8, usize),
    /// The driver's node dies: another one knows only what stands in logs.
    Forget,
    Cancel,
    Settle,
    Elect(u32),
    Checkpoint(usize),
    Restart(usize, u64),
    SayAgain(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..PRODUCERS).prop_map(Step::Produce),
        2 => (0..PRODUCERS).prop_map(Step::Repeat),
        1 => any::<u8>().prop_map(Step::Trim),
        3 => Just(Step::BeginMove),
        8 => (any::<u8>(), 1_usize..400).prop_map(|(step, chunk)| Step::Drive(step, chunk)),
        1 => Just(Step::Forget),
        1 => Just(Step::Cancel),
        2 => Just(Step::Settle),
        1 => (1_u32..3).prop_map(Step::Elect),
        1 => (0..NODES.len()).prop_map(Step::Checkpoint),
        1 => (0..NODES.len(), any::<u64>()).prop_map(|(node, seed)| Step::Restart(node, seed)),
        2 => any::<usize>().prop_map(Step::SayAgain),
    ]
}

fn run(steps: Vec<Step>) -> World {
    let mut world = World::new();
    for step in steps {
        match step {
            Step::Produce(producer) => {
                world.produce(producer);
            }
            Step::Repeat(producer) => world.repeat(producer),
            Step::Trim(part) => world.trim(part),
            Step::BeginMove => world.begin_move(),
            Step::Drive(step, chunk) => world.drive(step, chunk),
            Step::Forget => world.driver = Driver::default(),
            Step::Cancel => world.cancel(),
            Step::Settle => world.settle(),
            Step::Elect(shard) => *world.terms.entry(shard).or_default() += 1,
            Step::Checkpoint(node) => world.nodes[node].checkpoint(&world.history),
            Step::Restart(node, seed) => world.nodes[node].restart(seed, &world.history),
            Step::SayAgain(which) => world.say_again(which),
        }
    }
    world
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn a_partition_that_moves_is_what_it_would_be_had_it_stayed(
        steps in proptest::collection::vec(step(), 1..80)
    ) {
        run(steps).end();
    }
}

#[test]
fn a_partition_goes_there_and_back_and_there_again() {
    let mut world = World::new();
    for _ in 0..3 {
        for producer in 0..PRODUCERS {
            assert!(world.produce(producer));
        }
        world.begin_move();
        world.settle();
        for step in [0, 0, 2] {
            world.drive(step, usize::MAX);
        }
        assert!(!world.produce(0), "it is closed");
        world.drive(0, usize::MAX);
        world.drive(3, 0);
        for producer in 0..PRODUCERS {
            world.repeat(producer);
        }
    }
    assert_eq!((world.moved, world.entry().shard), (3, ShardId(2)));
    world.end();
}

#[test]
fn an_append_that_comes_late_enters_no_later_log() {
    let mut world = World::new();
    assert!(world.produce(0));
    let first = world.here(0, 1).expect("is there").log_id();
    world.begin_move();
    for step in [0, 0, 2, 3] {
        world.drive(step, usize::MAX);
    }
    world.settle();
    // It comes back, but for the last step.
    world.begin_move();
    for step in [0, 0, 2] {
        world.drive(step, usize::MAX);
    }
    let (_, to, log, _) = world.logs().expect("moves");
    let sealed = world.driver.sealed.clone().expect("is sealed");
    let activate = PartitionOp::Activate {
        log,
        start: sealed.start,
        end: sealed.end,
        epoch: sealed.epoch,
        producers: sealed.producers,
    };
    let activated = world.apply(to, activate);
    assert!(
        matches!(activated, Outcome::Activated { .. }),
        "{activated:?}"
    );
    // It was checked while the partition was here first.
    let late = PartitionOp::Append {
        log: first,
        batch: batch(1, 0),
    };
    assert_eq!(world.apply(to, late), Outcome::Moving);
    let here = world.here(0, to).expect("is there");
    assert_eq!(
        (here.stand, here.log.end_offset()),
        (Stand::Serving, sealed.end)
    );
    world.cancel();
    world.end();
}

#[test]
fn a_partition_that_moved_away_is_never_made_again_where_it_was() {
    let mut world = World::new();
    assert!(world.produce(0));
    world.begin_move();
    for step in [0, 0, 2, 3] {
        world.drive(step, usize::MAX);
    }
    assert_eq!(world.entry().shard, ShardId(2));
    world.settle();
    // A leader with a picture from before the move misses it.
    let partitions = vec![ID];
    world.apply(1, PartitionOp::Create { partitions });
    for node in 0..NODES.len() {
        assert!(world.here(node, 1).is_none());
    }
    world.nodes[0].checkpoint(&world.history);
    world.nodes[0].restart(1, &world.history);
    let partitions = vec![ID];
    world.apply(1, PartitionOp::Create { partitions });
    assert!(
        world.here(0, 1).is_none(),
        "nor after a start from a checkpoint"
    );
    assert_eq!(world.nodes[0].directory.departed(), [(ShardId(1), ID)]);
    let partitions = vec![ID];
    world.apply(1, PartitionOp::Delete { partitions });
    assert!(
        world.nodes[0].directory.departed().is_empty(),
        "nothing is remembered for ever"
    );
}

#[test]
fn batches_that_do_not_fit_are_refused_and_change_nothing() {
    let mut world = World::new();
    for number in 0..3 {
        assert!(world.produce(number));
    }
    world.begin_move();
    world.drive(0, 0);
    let (_, to, log, _) = world.logs().expect("moves");
    let there = world.here(0, 1).expect("is there");
    let all = read(&there, Offset(0), usize::MAX);
    let one = all.len() / 3;
    let fill = |at, batches: Bytes| PartitionOp::Fill {
        log,
        at: Offset(at),
        gone: None,
        batches,
    };
    for batches in [
        all.slice(one..),
        all.slice(..one + 5),
        all.slice(5..),
        Bytes::from_static(b"nonsense"),
    ] {
        let filled = world.apply(to, fill(0, batches));
        assert!(matches!(filled, Outcome::Refused(_)), "{filled:?}");
    }
    assert_eq!(
        world.apply(to, fill(1, all.slice(one..))),
        Outcome::Filled(Offset(0))
    );
    assert_eq!(
        world.apply(to, fill(0, all.slice(..one))),
        Outcome::Filled(Offset(1))
    );
    assert_eq!(
        world.apply(to, fill(0, all.slice(..one))),
        Outcome::Filled(Offset(1))
    );
    let here = world.here(1, to).expect("is there");
    assert_eq!(read(&here, Offset(0), usize::MAX), all.slice(..one));
    assert!(
        world.nodes[1].directory.get(ID).is_none(),
        "it serves nobody"
    );
    let activate = PartitionOp::Activate {
        log,
        start: Offset(0),
        end: Offset(1),
        epoch: storage::LeaderEpoch(5),
        producers: Bytes::from_static(b"nonsense"),
    };
    let activated = world.apply(to, activate);
    assert!(matches!(activated, Outcome::Refused(_)), "{activated:?}");
    world.end();
}

#[test]
fn batches_that_were_read_without_other_tombstones_are_refused_until_it_is_begun_again() {
    let mut world = World::new();
    for number in 0..3 {
        assert!(world.produce(number));
    }
    world.begin_move();
    world.drive(0, 0);
    let (_, to, log, _) = world.logs().expect("moves");
    let there = world.here(0, 1).expect("is there");
    let all = read(&there, Offset(0), usize::MAX);
    let one = all.len() / 3;
    let gone = |below, number| {
        Some(TombstoneView {
            gone_below: Offset(below),
            number,
        })
    };
    let fill = |at: i64, gone| {
        let from = one * usize::try_from(at).expect("small");
        PartitionOp::Fill {
            log,
            at: Offset(at),
            gone,
            batches: all.slice(from..from + one),
        }
    };
    let filled = |at| Outcome::Filled(Offset(at));
    assert_eq!(world.apply(to, fill(0, gone(3, 7))), filled(1));
    assert_eq!(world.apply(to, fill(1, gone(3, 8))), Outcome::Unfit);
    // Whoever leads next, and wherever it was restored from, comes to the same.
    let manifest = world.nodes[1].machines.get_mut(&to).expect("is there");
    let manifest = manifest.checkpoint()().expect("is made");
    let states = crate::partition::manifest::decode(manifest).expect("is read");
    let filling = states.partitions.iter().find(|one| one.id == ID);
    let mut fitting = filling.expect("is there").filled;
    assert!(fitting.take(gone(3, 8)).is_err() && fitting.take(gone(3, 7)).is_ok());
    assert_eq!(world.apply(to, fill(1, gone(3, 7))), filled(2));
    let here = world.here(1, to).expect("is there");
    assert_eq!(here.log.tombstones().gone_below, Offset(3));
    let from = Offset(0);
    let logs = vec![log];
    world.apply(to, PartitionOp::Drop { logs });
    assert_eq!(world.apply(to, PartitionOp::Begin { log, from }), filled(0));
    assert_eq!(world.apply(to, fill(0, gone(3, 8))), filled(1));
    assert_eq!(world.apply(to, fill(1, None)), filled(2));
    assert_eq!(world.apply(to, fill(2, gone(3, 8))), Outcome::Unfit);
    world.end();
}
