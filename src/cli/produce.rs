//! `braidlog produce`: one record from the command line, or one per line of standard input.
//!
//! Lines are gathered into batches, several of which are on their way at the same time. With
//! `--acks all` the producer is idempotent: the cluster takes each batch once, in order. Nothing is
//! sent again by itself; what was acknowledged, refused or left unknown is said at the end.

use std::collections::{BTreeMap, VecDeque};

use broker::record::{BatchProducer, Compression, Record, encode_batch};
use bytes::Bytes;
use clap::ValueEnum;
use kafka_client::api::{
    Acks, ConfigResource, PendingProduce, ProducePartition, ProduceRequest, ProducedPartition,
    ProducerIdentity,
};
use kafka_client::{ClientError, Connection};
use serde_json::{Value, json};
use storage::batch::BATCH_HEADER_BYTES;
use storage::clock::Clock;
use tokio::sync::mpsc;

use super::Context;
use super::failure::{Failure, Kind};
use super::lines::read_lines;
use super::output::{Format, Table};
use super::partitioner::partition_of;
use super::progress::Progress;
use super::session::{ServerArguments, Session};
use super::topic::{counted, only_partition};

/// Batches on their way at the same time; an idempotent producer may have no more.
const IN_FLIGHT_MAX: usize = 5;
/// A batch is closed at this many bytes of records, below the default `max.message.bytes` of 1 MiB.
const BATCH_BYTES: usize = 512 << 10;
/// Most bytes that a record takes besides its key and value: lengths, deltas, no headers.
const RECORD_OVERHEAD_BYTES: usize = 24;

#[derive(Debug, clap::Args)]
pub(super) struct ProduceArguments {
    /// The topic
    topic: String,
    /// The value; without it, every line of standard input is one (its line end left off)
    value: Option<String>,
    /// The key, of every record; records of one key are in one partition
    #[arg(short, long)]
    key: Option<String>,
    /// Write to this partition only
    #[arg(short, long, value_name = "N")]
    partition: Option<i32>,
    /// How safe a record must be to count: in every in-sync replica, in the leader, or unasked
    #[arg(long, value_name = "ACKS", default_value = "all")]
    acks: AcksArgument,
    /// Compress batches
    #[arg(short = 'z', long, value_name = "CODEC", default_value = "none")]
    compression: CompressionArgument,
    #[command(flatten)]
    server: ServerArguments,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum AcksArgument {
    All,
    #[value(name = "1")]
    Leader,
    #[value(name = "0")]
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum CompressionArgument {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl AcksArgument {
    pub(super) fn acks(self) -> Acks {
        match self {
            AcksArgument::All => Acks::All,
            AcksArgument::Leader => Acks::Leader,
            AcksArgument::None => Acks::None,
        }
    }
}

impl CompressionArgument {
    pub(super) fn compression(self) -> Compression {
        match self {
            CompressionArgument::None => Compression::None,
            CompressionArgument::Gzip => Compression::Gzip,
            CompressionArgument::Snappy => Compression::Snappy,
            CompressionArgument::Lz4 => Compression::Lz4,
            CompressionArgument::Zstd => Compression::Zstd,
        }
    }
}

pub(super) async fn run(arguments: ProduceArguments, context: &mut Context) -> Result<(), Failure> {
    let mut session = Session::open(&arguments.server, &context.clock).await?;
    let topic = session.led_topic(&arguments.topic).await?;
    let count = topic.partitions.len();
    let chosen = only_partition(&session, topic, arguments.partition)?;
    let mut producer = Producer::open(&arguments, &session, &context.clock).await?;
    for partition in &chosen.partitions {
        let leader = session.broker(partition.leader).await?;
        producer.partitions.push(Partition {
            index: partition.index,
            leader,
            next_sequence: 0,
        });
    }
    if producer.partitions.is_empty() {
        return Err(Failure::new(Kind::Failed, "the topic has no partitions"));
    }
    // Records with a key go where the key belongs, others from any partition onwards.
    producer.next = match &producer.key {
        Some(key) if arguments.partition.is_none() => partition_of(key, count),
        _ => usize::try_from(context.clock.wall_ms()).unwrap_or(0) % producer.partitions.len(),
    };

    let single = arguments.value.is_some();
    let result = match arguments.value {
        Some(value) => producer.send(vec![Bytes::from(value.into_bytes())]).await,
        None => {
            producer
                .send_lines(batch_bytes(&session, &arguments.topic).await)
                .await
        }
    };
    // What is on its way counts, whatever went wrong.
    let result = result.and(producer.drain().await);
    producer.report(single, context)?;
    drop(session);
    result.map_err(|stopped| producer.failure(&arguments.server, stopped))?;
    producer.close().await;
    Ok(())
}

/// At how many bytes of records a batch is closed: as large as is useful, within the topic's limit.
async fn batch_bytes(session: &Session, topic: &str) -> usize {
    let resource = ConfigResource::Topic(topic.to_owned());
    let configs = session
        .node()
        .describe_configs(&resource, Some(&["max.message.bytes"]), false);
    // One who may not see the limit still learns of it when it is passed.
    configs
        .await
        .ok()
        .and_then(|configs| configs.first()?.value.as_ref()?.parse::<usize>().ok())
        .map_or(BATCH_BYTES, |limit| {
            limit.saturating_sub(BATCH_HEADER_BYTES).min(BATCH_BYTES)
        })
}

/// Why no more is sent.
enum Stopped {
    /// A batch was not acknowledged.
    Unacknowledged(ClientError),
    /// Standard input ends in an error.
    Input(Failure),
}

struct Producer {
    topic: String,
    key: Option<Bytes>,
    keyed: bool,
    acks: Acks,
    compression: Compression,
    timeout_ms: i32,
    identity: Option<ProducerIdentity>,
    partitions: Vec<Partition>,
    // Position in `partitions` of the one that the next batch goes to.
    next: usize,
    in_flight: VecDeque<InFlight>,
    written: BTreeMap<i32, Written>,
    unacknowledged: Unacknowledged,
    progress: Progress,
    clock: Clock,
}

struct Partition {
    index: i32,
    leader: std::sync::Arc<Connection>,
    next_sequence: i32,
}

struct InFlight {
    partition: i32,
    records: i64,
    pending: PendingProduce,
}

/// What one partition has taken.
struct Written {
    records: i64,
    first_offset: i64,
    last_offset: i64,
    timestamp_ms: i64,
}

#[derive(Default)]
struct Unacknowledged {
    refused: i64,
    unknown: i64,
}

impl Producer {
    async fn open(
        arguments: &ProduceArguments,
        session: &Session,
        clock: &Clock,
    ) -> Result<Producer, Failure> {
        let acks = arguments.acks.acks();
        // A single batch that is never sent again needs no protection against repetition.
        let identity = if acks == Acks::All && arguments.value.is_none() {
            let identity = session.node().init_producer_id(None, 0).await;
            Some(identity.map_err(|error| session.failure("producer id", error))?)
        } else {
            None
        };
        Ok(Producer {
            topic: arguments.topic.clone(),
            key: arguments
                .key
                .as_ref()
                .map(|key| Bytes::from(key.clone().into_bytes())),
            keyed: arguments.key.is_some(),
            acks,
            compression: arguments.compression.compression(),
            timeout_ms: session.timeout().wire_ms(),
            identity,
            partitions: Vec::new(),
            next: 0,
            in_flight: VecDeque::new(),
            written: BTreeMap::new(),
            unacknowledged: Unacknowledged::default(),
            progress: Progress::new(clock),
            clock: clock.clone(),
        })
    }

    async fn send_lines(&mut self, batch_bytes: usize) -> Result<(), Stopped> {
        let key_bytes = self.key.as_ref().map_or(0, Bytes::len);
        let mut lines = read_lines(batch_bytes, key_bytes + RECORD_OVERHEAD_BYTES);
        loop {
            // An idle input leaves time to hear of what is on its way.
            let values = if self.in_flight.is_empty() {
                lines.recv().await
            } else {
                match lines.try_recv() {
                    Ok(values) => Some(values),
                    Err(mpsc::error::TryRecvError::Disconnected) => None,
                    Err(mpsc::error::TryRecvError::Empty) => {
                        self.receive_one().await?;
                        continue;
                    }
                }
            };
            match values {
                Some(values) => self.send(values.map_err(Stopped::Input)?).await?,
                None => return Ok(()),
            }
        }
    }

    /// Sends one batch, once fewer than the limit are on their way.
    async fn send(&mut self, values: Vec<Bytes>) -> Result<(), Stopped> {
        while self.in_flight.len() >= IN_FLIGHT_MAX {
            self.receive_one().await?;
        }
        let timestamp_ms = self.clock.wall_ms();
        let records: Vec<Record> = values
            .into_iter()
            .map(|value| Record {
                timestamp_ms,
                key: self.key.clone(),
                value: Some(value),
                ..Record::default()
            })
            .collect();
        let count = i32::try_from(records.len()).expect("a batch has few records");
        let position = self.next;
        if !self.keyed {
            self.next = (self.next + 1) % self.partitions.len();
        }
        let partition = &mut self.partitions[position];
        let stamp = match self.identity {
            Some(ProducerIdentity {
                producer_id,
                producer_epoch,
            }) => {
                let base_sequence = partition.next_sequence;
                // After 2^31 - 1 comes 0.
                partition.next_sequence = base_sequence.wrapping_add(count) & i32::MAX;
                BatchProducer {
                    producer_id,
                    producer_epoch,
                    base_sequence,
                }
            }
            None => BatchProducer::default(),
        };
        let request = ProduceRequest {
            transactional_id: None,
            acks: self.acks,
            timeout_ms: self.timeout_ms,
            partitions: vec![ProducePartition {
                topic: self.topic.clone(),
                partition: partition.index,
                records: Some(encode_batch(&records, self.compression, stamp)),
            }],
        };
        match partition.leader.produce_pipelined(&request).await {
            Ok(pending) => {
                let partition = partition.index;
                self.in_flight.push_back(InFlight {
                    partition,
                    records: count.into(),
                    pending,
                });
                Ok(())
            }
            Err(error) => Err(self.not_acknowledged(count.into(), error)),
        }
    }

    /// Waits for the oldest batch on its way.
    async fn receive_one(&mut self) -> Result<(), Stopped> {
        let Some(InFlight {
            partition,
            records,
            pending,
        }) = self.in_flight.pop_front()
        else {
            return Ok(());
        };
        let answer = pending
            .answer()
            .await
            .and_then(|mut results| match results.pop() {
                None if self.acks == Acks::None => Ok(None),
                None => Err(ClientError::Malformed("no result")),
                Some(result) => result
                    .error
                    .check_with(record_message(&result))
                    .map(|()| Some(result)),
            });
        match answer {
            Ok(result) => {
                self.count(partition, records, result.as_ref());
                Ok(())
            }
            Err(error) => Err(self.not_acknowledged(records, error)),
        }
    }

    async fn drain(&mut self) -> Result<(), Stopped> {
        let mut first = Ok(());
        while !self.in_flight.is_empty() {
            let result = self.receive_one().await;
            if first.is_ok() {
                first = result;
            }
        }
        self.progress.clear();
        first
    }

    fn count(&mut self, partition: i32, records: i64, result: Option<&ProducedPartition>) {
        let first_offset = result.map_or(-1, |result| result.base_offset);
        let written = self.written.entry(partition).or_insert(Written {
            records: 0,
            first_offset,
            last_offset: -1,
            timestamp_ms: result.map_or(-1, |result| result.log_append_time_ms),
        });
        written.records += records;
        if first_offset >= 0 {
            written.last_offset = first_offset.saturating_add(records - 1);
        }
        self.progress.add(records);
    }

    fn not_acknowledged(&mut self, records: i64, error: ClientError) -> Stopped {
        if error.is_definite() {
            self.unacknowledged.refused += records;
        } else {
            self.unacknowledged.unknown += records;
        }
        Stopped::Unacknowledged(error)
    }

    fn records(&self) -> i64 {
        self.written.values().map(|written| written.records).sum()
    }

    /// What was written, as a result. Without acknowledgements the offsets are not known.
    fn report(&self, single: bool, context: &mut Context) -> Result<(), Failure> {
        let offset = |offset: i64| (offset >= 0).then_some(offset);
        if single {
            let Some((partition, written)) = self.written.first_key_value() else {
                return Ok(());
            };
            let place = offset(written.first_offset).map_or("?".to_owned(), |at| at.to_string());
            context.output.result(
                &format!("{}/{partition} @ {place}", self.topic),
                &json!({
                    "topic": self.topic,
                    "partition": partition,
                    "offset": offset(written.first_offset),
                    "log_append_time_ms": offset(written.timestamp_ms),
                }),
            )?;
            return Ok(());
        }
        if context.output.format() == Format::Json {
            let partitions: Vec<Value> = self
                .written
                .iter()
                .map(|(partition, written)| {
                    json!({
                        "partition": partition,
                        "records": written.records,
                        "first_offset": offset(written.first_offset),
                        "last_offset": offset(written.last_offset),
                    })
                })
                .collect();
            context.output.json(&json!({
                "topic": self.topic,
                "records": self.records(),
                "partitions": partitions,
            }))?;
            return Ok(());
        }
        let mut table = Table::new(&["PARTITION", "RECORDS", "FIRST", "LAST"]);
        let cell = |at: i64| offset(at).map_or("-".to_owned(), |at| at.to_string());
        for (partition, written) in &self.written {
            table.row(vec![
                partition.to_string(),
                written.records.to_string(),
                cell(written.first_offset),
                cell(written.last_offset),
            ]);
        }
        context.output.table(&table)?;
        Ok(())
    }

    fn failure(&self, server: &ServerArguments, stopped: Stopped) -> Failure {
        let acknowledged = counted(self.records(), "record");
        match stopped {
            Stopped::Input(failure) => {
                failure.context(&format!("{acknowledged} acknowledged, then"))
            }
            Stopped::Unacknowledged(error) => {
                let Unacknowledged { refused, unknown } = self.unacknowledged;
                super::session::failure(server, "the node", error)
                    .context(&format!(
                        "{acknowledged} acknowledged, {refused} refused, {unknown} of unknown \
                         outcome"
                    ))
                    .context(&format!("topic {}", self.topic))
            }
        }
    }

    /// Ends the connections in good order, so that what is not acknowledged has arrived too.
    async fn close(self) {
        let mut leaders: Vec<_> = self
            .partitions
            .into_iter()
            .map(|partition| partition.leader)
            .collect();
        while let Some(leader) = leaders.pop() {
            if let Some(connection) = std::sync::Arc::into_inner(leader) {
                connection.close().await;
            }
        }
    }
}

/// The server's words on an error, those on single records (KIP-467) included.
fn record_message(result: &ProducedPartition) -> Option<String> {
    let records: Vec<String> = result
        .record_errors
        .iter()
        .map(|error| {
            let message = error.message.as_deref().unwrap_or("refused");
            format!("record {}: {message}", error.batch_index)
        })
        .collect();
    let parts: Vec<String> = result.message.clone().into_iter().chain(records).collect();
    (!parts.is_empty()).then(|| format!("{}: {}", result.error.name(), parts.join("; ")))
}
