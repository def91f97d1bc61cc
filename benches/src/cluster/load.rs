//! Writers that go on whatever happens, and what they saw.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use broker::record::{BatchProducer, Compression, Record, encode_batch};
use bytes::Bytes;
use futures_util::future::try_join_all;
use kafka_client::api::{Acks, ProducePartition};
use kafka_client::{ClusterClient, Resend};
use storage::clock::Clock;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::nodes::client;
use super::{Failure, described};

/// Records each writer has written before anything is measured.
const WARM_RECORDS: u64 = 20;
const RECORD_BYTES: usize = 1_024;
/// One batch of a bulk write.
const BULK_BYTES: usize = 512 << 10;
/// Bulk writes that are on their way at once.
const BULK_WRITERS: usize = 8;

/// Running writers, each with one record on its way.
pub(crate) struct Load {
    clock: Clock,
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    writers: JoinSet<Vec<Duration>>,
    count: u64,
}

/// What the writers saw.
pub(crate) struct Seen {
    /// Records acknowledged a second, all together.
    pub(crate) per_second: f64,
    /// How long each record took, retries included, shortest first.
    took: Vec<Duration>,
}

impl Seen {
    /// The time that so many of a hundred records stayed within, in milliseconds.
    pub(crate) fn percentile_ms(&self, percent: usize) -> f64 {
        let at = self.took.len().saturating_sub(1) * percent / 100;
        self.took
            .get(at)
            .map_or(0.0, |took| took.as_secs_f64() * 1_000.0)
    }
}

impl Load {
    /// One writer to one partition, as fast as it goes.
    pub(crate) fn of(addresses: Vec<String>, topic: &str, partition: i32) -> Load {
        Load::to(addresses, topic, &[partition], Duration::ZERO)
    }

    /// Starts the writers, spread over the partitions. Each begins a record when its last one is
    /// done, but not before `pace` after it began that.
    pub(crate) fn start(
        addresses: Vec<String>,
        topic: &str,
        partitions: i32,
        (writers, pace): (usize, Duration),
    ) -> Load {
        let number = i32::try_from(writers).unwrap_or(1);
        let spread: Vec<i32> = (0..number)
            .map(|writer| writer * partitions / number)
            .collect();
        Load::to(addresses, topic, &spread, pace)
    }

    /// One writer to each of these partitions.
    fn to(addresses: Vec<String>, topic: &str, partitions: &[i32], pace: Duration) -> Load {
        let client = Arc::new(client(&addresses));
        let (stop, written) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let clock = Clock::system();
        let mut tasks = JoinSet::new();
        for partition in partitions {
            tasks.spawn(write_on(
                Arc::clone(&client),
                pace,
                (topic.to_owned(), *partition),
                Arc::clone(&stop),
                Arc::clone(&written),
            ));
        }
        Load {
            clock,
            stop,
            written,
            writers: tasks,
            count: partitions.len() as u64,
        }
    }

    /// Waits until connections are made and leaders found.
    pub(crate) async fn warmed_up(&self) {
        while self.written.load(Ordering::Relaxed) < self.count * WARM_RECORDS {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Ends the writers when their record on the way is done.
    pub(crate) async fn stop(mut self) -> Seen {
        let took_ms = self.clock.monotonic_ms().max(1);
        self.stop.store(true, Ordering::Relaxed);
        let mut latencies = Vec::new();
        while let Some(seen) = self.writers.join_next().await {
            latencies.extend(seen.unwrap_or_default());
        }
        latencies.sort_unstable();
        let count = latencies.len();
        let seconds = crate::as_f64(usize::try_from(took_ms).unwrap_or(1)) / 1_000.0;
        Seen {
            per_second: crate::as_f64(count) / seconds,
            took: latencies,
        }
    }
}

/// Writes record after record; how long each took.
async fn write_on(
    client: Arc<ClusterClient>,
    pace: Duration,
    (topic, partition): (String, i32),
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
) -> Vec<Duration> {
    let batch = ProducePartition {
        topic,
        partition,
        records: Some(batch(RECORD_BYTES)),
    };
    let mut took = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        // Duplicates do no harm here: only times count.
        if client
            .produce(&batch, Acks::All, Resend::Harmless)
            .await
            .is_ok()
        {
            took.push(began.elapsed());
            written.fetch_add(1, Ordering::Relaxed);
        }
        tokio::time::sleep_until(began + pace).await;
    }
    took
}

/// Writes so many bytes in large batches.
pub(crate) async fn write(
    addresses: Vec<String>,
    topic: &str,
    partitions: i32,
    bytes: u64,
) -> Result<(), Failure> {
    let client = client(&addresses);
    let batch = batch(BULK_BYTES);
    let count = usize::try_from(bytes / BULK_BYTES as u64).unwrap_or(0);
    let writer = |writer: usize| {
        let (client, batch) = (&client, batch.clone());
        async move {
            for number in (writer..count).step_by(BULK_WRITERS) {
                let partition = i32::try_from(number).unwrap_or(0) % partitions;
                let records = Some(batch.clone());
                let topic = topic.to_owned();
                let batch = ProducePartition {
                    topic,
                    partition,
                    records,
                };
                client
                    .produce(&batch, Acks::All, Resend::Harmless)
                    .await
                    .map_err(|error| described(&error))?;
            }
            Ok::<(), Failure>(())
        }
    };
    try_join_all((0..BULK_WRITERS).map(writer))
        .await
        .map(|_| ())
}

/// A batch of one record with a value of this size.
pub(crate) fn batch(bytes: usize) -> Bytes {
    // Different bytes, so that nothing on the way is compressed for us.
    let value: Vec<u8> = (0..bytes)
        .map(|at| u8::try_from((at * 31 + at / 251) % 256).unwrap_or(0))
        .collect();
    let record = Record {
        offset: 0,
        timestamp_ms: Clock::system().wall_ms(),
        key: None,
        value: Some(value.into()),
        headers: Vec::new(),
    };
    encode_batch(&[record], Compression::None, BatchProducer::default())
}
