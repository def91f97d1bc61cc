//! The whole broker without a protocol: batches appended a second, by writers with one batch each
//! on its way, over one and over many partitions.

use broker::record::{BatchProducer, Compression, Record, encode_batch};
use broker::{Broker, BrokerConfig, Env, NewTopic, RequiredAcks};
use bytes::Bytes;
use storage::PartitionId;
use storage::clock::Clock;
use storage::data_dir::DataDir;
use storage::disk::Disk;

use crate::{Line, TempDir, as_f64};

pub(crate) fn run(seconds: i64) -> Vec<Line> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let runtime = runtime.expect("a runtime");
    let cases = [
        (1, 1, 1024),
        (64, 1, 1024),
        (256, 1_000, 1024),
        (16, 16, 256 << 10),
    ];
    cases
        .into_iter()
        .map(|(writers, partitions, bytes)| {
            runtime.block_on(one(writers, partitions, bytes, seconds))
        })
        .collect()
}

async fn one(writers: u32, partitions: i32, bytes: usize, seconds: i64) -> Line {
    let dir = TempDir::new("append");
    let clock = Clock::system();
    let env = Env {
        clock: clock.clone(),
        disk: Disk::Real,
        seed: [1, 2, 3, 4],
    };
    let data_dir = DataDir::open(&Disk::Real, &dir.0).expect("a fresh directory");
    let broker = Broker::start_alone(BrokerConfig::default(), env, data_dir)
        .await
        .expect("it starts");
    let topic = NewTopic {
        name: "bench".to_owned(),
        partitions: Some(partitions),
        ..NewTopic::default()
    };
    let created = broker
        .create_topics(vec![topic], false, 30_000)
        .await
        .remove(0);
    let topic = created.expect("created").id;
    let value = Some(Bytes::from(vec![b'v'; bytes]));
    let record = Record {
        timestamp_ms: clock.wall_ms(),
        value,
        ..Record::default()
    };
    let batch = encode_batch(&[record], Compression::None, BatchProducer::default());

    let started_ms = clock.monotonic_ms();
    let until_ms = started_ms + seconds * 1_000;
    let modulus = u32::try_from(partitions).expect("positive");
    let tasks: Vec<_> = (0..writers)
        .map(|writer| {
            let partition = PartitionId {
                topic,
                index: writer % modulus,
            };
            let stride = writers.max(1);
            tokio::spawn(write(
                broker.clone(),
                partition,
                batch.clone(),
                until_ms,
                stride,
                modulus,
            ))
        })
        .collect();
    let mut batches = 0;
    for task in tasks {
        batches += task.await.expect("a writer");
    }
    let elapsed_ms = usize::try_from(clock.monotonic_ms() - started_ms).unwrap_or(1);
    broker.shutdown().await;
    Line {
        what: format!("append, {bytes} B batches, {writers} writers, {partitions} partitions"),
        per_second: as_f64(batches) * 1_000.0 / as_f64(elapsed_ms),
        bytes_each: bytes,
    }
}

async fn write(
    broker: Broker,
    mut partition: PartitionId,
    batch: Bytes,
    until_ms: i64,
    stride: u32,
    modulus: u32,
) -> usize {
    let mut batches = 0;
    while broker.clock().monotonic_ms() < until_ms {
        let pending = broker
            .append(partition, batch.clone(), RequiredAcks::All)
            .await;
        pending.expect("queued").await.expect("appended");
        partition.index = (partition.index + stride) % modulus;
        batches += 1;
    }
    batches
}
