//! A producer that remembers what it was told: one idempotent producer of one partition that goes
//! on over lost connections and restarted nodes, and the check that nothing acknowledged is missing,
//! moved, repeated or out of order.
//!
//! Each record holds its own number. A batch whose answer was lost is sent again with its sequence.

use std::collections::VecDeque;

use broker::record::{
    BatchProducer, Compression, Record, decode_batch, encode_batch, split_batches,
};
use bytes::Bytes;
use kafka_client::api::{
    Acks, CreateTopic, FetchOptions, FetchPartition, PendingProduce, ProducePartition,
    ProduceRequest,
};
use kafka_client::{ClientError, ConnectOptions, Connection, ErrorCode};
use storage::clock::Clock;

/// Batches that may be on their way at the same time.
const IN_FLIGHT_MAX: usize = 5;
const TIMEOUT_MS: i32 = 30_000;

/// A batch that was sent at least once.
#[derive(Debug, Clone)]
struct Batch {
    first: i32,
    bytes: Bytes,
    count: i32,
}

/// An idempotent producer and what it knows.
#[derive(Debug)]
pub struct Witness {
    topic: String,
    partition: i32,
    producer: Option<BatchProducer>,
    next: i32,
    value_bytes: usize,
    // Oldest first: made and not acknowledged.
    unanswered: VecDeque<Batch>,
    /// First record and offset of every acknowledged batch, and its number of records.
    acknowledged: Vec<(i32, i64, i32)>,
}

/// Connects to a node.
pub async fn connect(address: &str) -> Result<Connection, ClientError> {
    Connection::connect(address, ConnectOptions::default()).await
}

/// Creates a topic of one replica.
///
/// # Panics
///
/// When it is not created.
pub async fn create_topic(connection: &Connection, name: &str, partitions: i32) {
    create_topic_with(connection, name, partitions, &[]).await;
}

/// Creates a topic with configs.
///
/// # Panics
///
/// When it is not created.
pub async fn create_topic_with(
    connection: &Connection,
    name: &str,
    partitions: i32,
    configs: &[(&str, &str)],
) {
    let mut topic = CreateTopic::new(name);
    topic.partitions = partitions;
    topic.configs = configs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), Some((*value).to_owned())))
        .collect();
    let created = connection.create_topics(&[topic], TIMEOUT_MS, false).await;
    let created = created.expect("create topics is answered").remove(0);
    assert_eq!(created.error, ErrorCode::NONE, "{:?}", created.message);
}

impl Witness {
    /// A producer to partition 0 of this topic, with values of about this size.
    #[must_use]
    pub fn new(topic: &str, value_bytes: usize) -> Witness {
        Witness::of_partition(topic, 0, value_bytes)
    }

    /// A producer to this partition, with values of about this size.
    #[must_use]
    pub fn of_partition(topic: &str, partition: i32, value_bytes: usize) -> Witness {
        Witness {
            topic: topic.to_owned(),
            partition,
            producer: None,
            next: 0,
            value_bytes,
            unanswered: VecDeque::new(),
            acknowledged: Vec::new(),
        }
    }

    /// The partition it produces to.
    #[must_use]
    pub fn partition(&self) -> i32 {
        self.partition
    }

    /// Records acknowledged so far.
    #[must_use]
    pub fn acknowledged(&self) -> i64 {
        self.acknowledged
            .iter()
            .map(|(_, _, count)| i64::from(*count))
            .sum()
    }

    /// Sends what was not answered and then new batches, until `batches` were acknowledged in this
    /// call or the connection or the node fails: then that error.
    ///
    /// # Panics
    ///
    /// When an answer contradicts an earlier one.
    pub async fn produce(
        &mut self,
        connection: &Connection,
        batches: usize,
    ) -> Result<(), ProduceFailure> {
        if self.producer.is_none() {
            let identity = connection.init_producer_id(None, TIMEOUT_MS).await?;
            self.producer = Some(BatchProducer {
                producer_id: identity.producer_id,
                producer_epoch: identity.producer_epoch,
                base_sequence: 0,
            });
        }
        let mut on_the_way: VecDeque<PendingProduce> = VecDeque::new();
        let mut done = 0;
        while done < batches || !on_the_way.is_empty() {
            while on_the_way.len() < IN_FLIGHT_MAX && done + on_the_way.len() < batches {
                if self.unanswered.len() == on_the_way.len() {
                    let batch = self.make_batch();
                    self.unanswered.push_back(batch);
                }
                let request = self.request(&self.unanswered[on_the_way.len()]);
                on_the_way.push_back(connection.produce_pipelined(&request).await?);
            }
            let answered = on_the_way.pop_front().expect("something is on its way");
            let produced = answered.answer().await?.remove(0);
            if produced.error != ErrorCode::NONE {
                return Err(ProduceFailure::Refused(produced.error));
            }
            let batch = self.unanswered.pop_front().expect("it was unanswered");
            self.acknowledged
                .push((batch.first, produced.base_offset, batch.count));
            done += 1;
        }
        Ok(())
    }

    fn request(&self, batch: &Batch) -> ProduceRequest {
        ProduceRequest {
            transactional_id: None,
            acks: Acks::All,
            timeout_ms: TIMEOUT_MS,
            partitions: vec![ProducePartition {
                topic: self.topic.clone(),
                partition: self.partition,
                records: Some(batch.bytes.clone()),
            }],
        }
    }

    fn make_batch(&mut self) -> Batch {
        let (first, count) = (self.next, 1 + self.next % 7);
        self.next += count;
        let now = Clock::system().wall_ms();
        let record = |n: i32| Record {
            timestamp_ms: now,
            value: Some(value(n, self.value_bytes)),
            ..Record::default()
        };
        let records: Vec<Record> = (first..first + count).map(record).collect();
        let producer = BatchProducer {
            base_sequence: first,
            ..self.producer.expect("the producer has its id")
        };
        Batch {
            first,
            bytes: encode_batch(&records, Compression::None, producer),
            count,
        }
    }

    /// Reads the whole partition and compares: every acknowledged record is there once, at its
    /// offset, in order; what was never acknowledged is there once or not at all. Answers how many
    /// records there are.
    ///
    /// # Panics
    ///
    /// When that is not so.
    pub async fn check(&self, connection: &Connection) -> i64 {
        let mut numbers = Vec::new();
        let mut end = 1;
        while i64::try_from(numbers.len()).expect("few records") < end {
            let offset = i64::try_from(numbers.len()).expect("few records");
            let partition = FetchPartition::new(&self.topic, self.partition, offset);
            let answer = connection
                .fetch(&[partition], FetchOptions::default())
                .await;
            let fetched = answer.expect("the fetch is answered").partitions.remove(0);
            assert_eq!(fetched.error, ErrorCode::NONE);
            end = fetched.high_watermark;
            for batch in split_batches(&fetched.records).expect("whole batches") {
                for record in decode_batch(&batch, 1 << 30).expect("records") {
                    if record.offset >= offset {
                        let position = i64::try_from(numbers.len()).expect("few records");
                        assert_eq!(record.offset, position, "offsets have no gaps");
                        numbers.push(number(&record.value.expect("a value"), self.value_bytes));
                    }
                }
            }
        }
        self.check_numbers(&numbers, end);
        end
    }

    /// The same for a partition's batches that were read already, whole and from offset 0 on.
    /// Answers how many records there are.
    ///
    /// # Panics
    ///
    /// When it is not so.
    pub fn check_batches(&self, batches: &Bytes) -> i64 {
        let mut numbers = Vec::new();
        for batch in split_batches(batches).expect("whole batches") {
            for record in decode_batch(&batch, 1 << 30).expect("records") {
                let position = i64::try_from(numbers.len()).expect("few records");
                assert_eq!(record.offset, position, "offsets have no gaps");
                numbers.push(number(&record.value.expect("a value"), self.value_bytes));
            }
        }
        let end = i64::try_from(numbers.len()).expect("few records");
        self.check_numbers(&numbers, end);
        end
    }

    fn check_numbers(&self, numbers: &[i32], end: i64) {
        let partition = self.partition;
        for (position, number) in (0..).zip(numbers) {
            assert_eq!(
                *number, position,
                "every value once, in order, in partition {partition}"
            );
        }
        for (first, offset, count) in &self.acknowledged {
            assert_eq!(
                i64::from(*first),
                *offset,
                "an acknowledged batch has its offset in partition {partition}"
            );
            assert!(
                offset + i64::from(*count) <= end,
                "acknowledged at {offset} but not there in partition {partition}, which ends at {end}"
            );
        }
    }
}

/// The value of the `n`-th record: its number and bytes that follow from it.
fn value(n: i32, len: usize) -> Bytes {
    let mut bytes = n.to_be_bytes().to_vec();
    let filler = n.to_le_bytes();
    bytes.extend(filler.iter().cycle().take(len.saturating_sub(4)));
    bytes.into()
}

fn number(value_found: &Bytes, len: usize) -> i32 {
    let number = value_found
        .first_chunk()
        .map(|bytes| i32::from_be_bytes(*bytes));
    let number = number.expect("a value begins with its number");
    assert_eq!(
        *value_found,
        value(number, len),
        "every byte of a value is as it was produced"
    );
    number
}

/// Why producing stopped.
#[derive(Debug)]
pub enum ProduceFailure {
    /// The connection failed.
    Client(ClientError),
    /// The node refused.
    Refused(ErrorCode),
}

impl From<ClientError> for ProduceFailure {
    fn from(error: ClientError) -> ProduceFailure {
        ProduceFailure::Client(error)
    }
}
