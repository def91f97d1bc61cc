use std::path::PathBuf;

use storage::clock::Clock;
use storage::disk::{Disk, SimDisk};
use storage::store::LogStoreConfig;
use storage::{LogPosition, Term, TopicId};

use super::*;
use crate::record::{BatchProducer, Compression, Record, encode_batch};

const SHARD: ShardId = ShardId(1);
const ID: PartitionId = PartitionId {
    topic: TopicId([7; 16]),
    index: 3,
};

/// A shard with one partition, and the index of its last entry.
struct Applying {
    machine: PartitionsMachine,
    index: u64,
}

impl Applying {
    fn new() -> Applying {
        let disk = Disk::Sim(SimDisk::new(1));
        let config = LogStoreConfig::new(PathBuf::from("/partitions"));
        let logs = LogStore::open(&disk, &Clock::manual(0), config).expect("opens");
        let mut applying = Applying {
            machine: PartitionsMachine::new(SHARD, logs, Directory::default()),
            index: 0,
        };
        let partitions = vec![ID];
        let made = applying.apply(PartitionOp::Create { partitions });
        assert_eq!(made, Outcome::Done);
        applying
    }

    fn apply(&mut self, op: PartitionOp) -> Outcome {
        self.index += 1;
        let at = EntryAt {
            position: LogPosition {
                term: Term(1),
                index: LogIndex(self.index),
            },
            time_ms: 5,
        };
        self.machine.apply(at, &[op.encode()]).remove(0)
    }

    fn append_at(&mut self, log: LogId, at: i64, records: usize) -> Outcome {
        self.apply(PartitionOp::AppendAt {
            log,
            at: Offset(at),
            batch: batch(records),
        })
    }

    fn end(&self) -> i64 {
        self.machine.hosted[&ID].partition.log.end_offset().0
    }
}

fn batch(records: usize) -> Bytes {
    let records = vec![Record::default(); records];
    encode_batch(&records, Compression::None, BatchProducer::default())
}

fn base_offset(outcome: &Outcome) -> Option<i64> {
    match outcome {
        Outcome::Appended(appended, _) => Some(appended.base_offset.0),
        _ => None,
    }
}

#[test]
fn a_batch_for_an_offset_is_taken_there_and_nowhere_else() {
    let mut applying = Applying::new();
    let log = LogId::from(ID);
    assert_eq!(base_offset(&applying.append_at(log, 0, 3)), Some(0));
    // Ahead of its turn, and once more.
    for at in [4, 0, 2, -1, i64::MAX] {
        let refused = applying.append_at(log, at, 1);
        assert_eq!(refused, Outcome::EndsAt(Offset(3)));
    }
    assert_eq!(base_offset(&applying.append_at(log, 3, 1)), Some(3));
    // Somebody else was faster.
    let batch = batch(2);
    applying.apply(PartitionOp::Append { log, batch });
    assert_eq!(applying.append_at(log, 4, 1), Outcome::EndsAt(Offset(6)));
    assert_eq!(applying.end(), 6);
}

#[test]
fn a_batch_for_an_offset_is_refused_by_what_is_not_the_log_or_does_not_serve() {
    let mut applying = Applying::new();
    let log = LogId::from(ID);
    let later = LogId {
        generation: 1,
        ..log
    };
    assert_eq!(applying.append_at(later, 0, 1), Outcome::Moving);
    let sealed = applying.apply(PartitionOp::Seal { log, by: 1 });
    assert!(matches!(sealed, Outcome::Sealed(_)));
    assert_eq!(applying.append_at(log, 0, 1), Outcome::Moving);
    let partitions = vec![ID];
    applying.apply(PartitionOp::Delete { partitions });
    assert_eq!(applying.append_at(log, 0, 1), Outcome::NoSuchPartition);
}

#[test]
fn what_is_no_batch_is_refused_at_the_right_offset_too() {
    let mut applying = Applying::new();
    let refused = applying.apply(PartitionOp::AppendAt {
        log: LogId::from(ID),
        at: Offset(0),
        batch: Bytes::from_static(b"no batch"),
    });
    assert!(matches!(refused, Outcome::Refused(AppendError::Corrupt(_))));
    assert_eq!(applying.end(), 0);
}
