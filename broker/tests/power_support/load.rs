//! Idempotent writers that want every record acknowledged, whatever happens to the brokers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use broker::record::{
    BatchProducer, Compression, Record, decode_batch, encode_batch, split_batches,
};
use broker::*;
use bytes::Bytes;
use storage::clock::Clock;
use storage::{Offset, PartitionId};
use tokio::task::JoinSet;

use super::{Running, eventually};

/// How long one try may take; afterwards the same record is sent again.
const TRY_MAX: Duration = Duration::from_secs(5);

/// Time before something is tried again.
const PAUSE: Duration = Duration::from_millis(10);

/// What one writer had acknowledged: values by offset.
struct Written {
    partition: PartitionId,
    acknowledged: BTreeMap<i64, String>,
}

/// Writers, one a partition.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    writers: JoinSet<Written>,
}

fn brokers(running: &Running) -> Vec<Broker> {
    let table = running.read().unwrap_or_else(PoisonError::into_inner);
    table.values().cloned().collect()
}

/// One record, sent to whoever leads. `None`: perhaps taken, perhaps not.
async fn send(running: &Running, partition: PartitionId, batch: &Bytes) -> Option<i64> {
    for broker in brokers(running) {
        let appending = async {
            broker
                .append(partition, batch.clone(), RequiredAcks::All)
                .await?
                .await
        };
        if let Ok(Ok(appended)) = tokio::time::timeout(TRY_MAX, appending).await {
            return Some(appended.base_offset.0);
        }
    }
    None
}

async fn producer_id(running: &Running, stop: &AtomicBool) -> Option<i64> {
    while !stop.load(Ordering::SeqCst) {
        let broker = brokers(running).first().cloned();
        if let Some(broker) = broker
            && let Ok(id) = broker.new_producer_id().await
        {
            return Some(id);
        }
        tokio::time::sleep(PAUSE).await;
    }
    None
}

async fn write(
    running: Running,
    partition: PartitionId,
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
) -> Written {
    let mut written = Written {
        partition,
        acknowledged: BTreeMap::new(),
    };
    let Some(producer_id) = producer_id(&running, &stop).await else {
        return written;
    };
    let mut number = 0;
    while !stop.load(Ordering::SeqCst) {
        // Not all alike: rounds of the journal, segments and indexes end at all sorts of places.
        let length = usize::try_from(number * 37 % 900).expect("small");
        let value = format!("{partition}-{number}-{}", "x".repeat(length));
        let record = Record {
            timestamp_ms: Clock::system().wall_ms(),
            value: Some(value.clone().into()),
            ..Record::default()
        };
        let producer = BatchProducer {
            producer_id,
            producer_epoch: 0,
            base_sequence: number,
        };
        let batch = encode_batch(&[record], Compression::None, producer);
        // The same record until it is acknowledged: it may have been taken and not answered.
        loop {
            if let Some(offset) = send(&running, partition, &batch).await {
                written.acknowledged.insert(offset, value);
                count.fetch_add(1, Ordering::SeqCst);
                number += 1;
                break;
            }
            if stop.load(Ordering::SeqCst) {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
    written
}

impl Load {
    pub(crate) fn start(running: &Running, partitions: &[PartitionId]) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(AtomicU64::new(0));
        let mut writers = JoinSet::new();
        for partition in partitions {
            let (running, stop) = (running.clone(), stop.clone());
            writers.spawn(write(running, *partition, stop, acknowledged.clone()));
        }
        Load {
            stop,
            acknowledged,
            writers,
        }
    }

    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::SeqCst)
    }

    /// Ends it without a look at what became of the records.
    pub(crate) async fn abandon(self) {
        self.stop.store(true, Ordering::SeqCst);
        self.writers.join_all().await;
    }

    /// Waits until so many more records are acknowledged.
    pub(crate) async fn goes_on(&self, records: u64) {
        let before = self.acknowledged();
        eventually("records are acknowledged", async || {
            (self.acknowledged() >= before + records).then_some(())
        })
        .await;
    }

    /// Ends it and checks: what was acknowledged is there at its offset, nothing is there twice.
    /// Answers how many records were acknowledged.
    pub(crate) async fn end(self, running: &Running) -> usize {
        self.stop.store(true, Ordering::SeqCst);
        let mut acknowledged = 0;
        for written in self.writers.join_all().await {
            let found = read(running, written.partition).await;
            for (offset, value) in &written.acknowledged {
                let there = found.get(offset);
                assert_eq!(there, Some(value), "{} at {offset}", written.partition);
            }
            let mut values: Vec<&String> = found.values().collect();
            values.sort();
            values.dedup();
            assert_eq!(values.len(), found.len(), "{} twice", written.partition);
            // The writer's last record may be there without its answer.
            let unanswered = found.len() - written.acknowledged.len();
            assert!(unanswered <= 1, "{unanswered} more than were sent");
            acknowledged += written.acknowledged.len();
        }
        acknowledged
    }
}

/// Every record of a partition by offset, from whoever leads it.
async fn read(running: &Running, partition: PartitionId) -> BTreeMap<i64, String> {
    let mut found = BTreeMap::new();
    loop {
        let offset = found.keys().last().map_or(0, |last| last + 1);
        let batches = eventually("the partition can be read", async || {
            for broker in brokers(running) {
                if let Some(batches) = fetch(&broker, partition, offset).await {
                    return Some(batches);
                }
            }
            None
        })
        .await;
        if batches.is_empty() {
            return found;
        }
        for batch in split_batches(&batches).expect("whole batches") {
            for record in decode_batch(&batch, 1 << 20).expect("records") {
                let value = record.value.expect("a value").to_vec();
                let text = String::from_utf8(value).expect("text");
                let before = found.insert(record.offset, text);
                assert_eq!(before, None, "{partition} at {} twice", record.offset);
            }
        }
    }
}

/// What the leader has from an offset on; `None` from anybody else.
async fn fetch(broker: &Broker, partition: PartitionId, offset: i64) -> Option<Bytes> {
    let status = broker.partition_status(partition)?;
    if status.leader != Some(broker.node_id()) {
        return None;
    }
    let request = FetchRequest {
        partitions: vec![FetchPartition {
            partition,
            offset: Offset(offset),
            current_leader_epoch: None,
            last_fetched_epoch: None,
            bytes_max: 1 << 20,
        }],
        bytes_min: 0,
        bytes_max: 1 << 20,
        wait_ms_max: 0,
        isolation: Isolation::ReadUncommitted,
        client_rack: None,
    };
    let fetched = broker.fetch(request).await.remove(0).1.ok()?;
    Some(fetched.batches.concat().into())
}
