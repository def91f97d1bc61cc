//! [`RdkafkaClient`]: librdkafka's producer and consumer, as most users have them.
//!
//! It hides retries, so little is certain: a record that could not even be queued was not sent;
//! every other failure has an unknown outcome. One record a send, for librdkafka makes the batches.
//! It knows the nodes by the addresses that they tell, and works in real time only.

use std::collections::BTreeMap;
use std::time::Duration;

use jepsen_check::history::{Key, Read, Value};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout};
use tracing::debug;

use super::{Client, ClientOptions, Polled, Sent, padded};
use crate::batch;
use crate::fault::NodeId;
use crate::random::Random;

/// A poll goes on for so long after the first record at most, and no longer than that without any.
const POLL_WAIT: Duration = Duration::from_millis(150);
const POLL_RECORDS_MAX: usize = 2_000;
/// Beyond librdkafka's own deadline, before its silence counts as an unknown outcome.
const GRACE: Duration = Duration::from_secs(2);

/// A client.
pub struct RdkafkaClient {
    producer: Option<FutureProducer>,
    consumer: Option<StreamConsumer>,
    options: ClientOptions,
    positions: BTreeMap<Key, i64>,
    failure: Option<String>,
    random: Random,
}

impl std::fmt::Debug for RdkafkaClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RdkafkaClient")
            .field("positions", &self.positions)
            .finish_non_exhaustive()
    }
}

impl RdkafkaClient {
    /// A client that begins at these addresses. When librdkafka refuses to be configured, every
    /// operation of it fails.
    #[must_use]
    pub fn make(
        addresses: Vec<(NodeId, String)>,
        options: ClientOptions,
        random: Random,
    ) -> Client {
        let addresses: Vec<String> = addresses.into_iter().map(|(_, address)| address).collect();
        let bootstrap = addresses.join(",");
        let producer: Result<FutureProducer, KafkaError> =
            producer_config(&bootstrap, &options).create();
        let consumer: Result<StreamConsumer, KafkaError> = consumer_config(&bootstrap).create();
        let mut failure = None;
        if let Err(error) = &producer {
            failure = Some(error.to_string());
        }
        if let Err(error) = &consumer {
            failure = Some(error.to_string());
        }
        Client::Rdkafka(Box::new(RdkafkaClient {
            producer: producer.ok(),
            consumer: consumer.ok(),
            options,
            positions: BTreeMap::new(),
            failure,
            random,
        }))
    }

    /// Appends one record.
    pub async fn send(&mut self, key: &Key, values: &[Value]) -> Sent {
        let Some(producer) = &self.producer else {
            return Sent::Fail(format!("no producer: {:?}", self.failure));
        };
        let [value] = values else {
            return Sent::Fail("more than one value, and librdkafka might part them".to_owned());
        };
        let padded = padded(&mut self.random, values, self.options.padding_bytes_max);
        let bytes = batch::value_bytes(*value, padded.first().map_or(0, |(_, padding)| *padding));
        let record: FutureRecord<'_, [u8], [u8]> = FutureRecord::to(&key.topic)
            .partition(key.partition)
            .timestamp(self.options.timestamp_ms)
            .payload(&bytes[..]);
        let delivery = match producer.send_result(record) {
            Ok(delivery) => delivery,
            Err((error, _)) => return Sent::Fail(format!("not queued: {error}")),
        };
        match timeout(self.options.op_timeout + GRACE, delivery).await {
            Ok(Ok(Ok(delivered))) => Sent::Ok(delivered.offset),
            Ok(Ok(Err((error, _)))) => Sent::Info(error.to_string()),
            Ok(Err(_)) => Sent::Info("the producer ended".to_owned()),
            Err(_) => Sent::Info("no delivery report".to_owned()),
        }
    }

    /// Reads these partitions from here on, and no others.
    pub fn assign(&mut self, positions: &[(Key, i64)]) {
        self.positions = positions.iter().cloned().collect();
        let mut list = TopicPartitionList::new();
        for (key, offset) in positions {
            let added =
                list.add_partition_offset(&key.topic, key.partition, Offset::Offset(*offset));
            self.note(added.err());
        }
        let assigned = self
            .consumer
            .as_ref()
            .map(|consumer| consumer.assign(&list));
        self.note(assigned.and_then(Result::err));
    }

    /// Where it reads on.
    #[must_use]
    pub fn positions(&self) -> &BTreeMap<Key, i64> {
        &self.positions
    }

    /// What comes within a short time.
    pub async fn poll(&mut self) -> Polled {
        let Some(consumer) = self.consumer.as_ref().filter(|_| self.failure.is_none()) else {
            return Polled::Fail(format!("no consumer: {:?}", self.failure));
        };
        let mut reads: BTreeMap<Key, Vec<(i64, Value)>> = BTreeMap::new();
        let mut failure = None;
        let until = Instant::now() + POLL_WAIT;
        for _ in 0..POLL_RECORDS_MAX {
            let left = until.saturating_duration_since(Instant::now());
            let Ok(came) = timeout(left, consumer.recv()).await else {
                break;
            };
            let message = match came {
                Ok(message) => message,
                Err(error) => {
                    debug!(%error, "a poll failed");
                    failure = Some(error.to_string());
                    break;
                }
            };
            let key = Key {
                topic: message.topic().to_owned(),
                partition: message.partition(),
            };
            let offset = message.offset();
            let Some(position) = self.positions.get_mut(&key) else {
                continue; // of an assignment before
            };
            let Some(value) = message.payload().and_then(batch::read_value) else {
                return Polled::Damaged(format!("{key:?} at {offset}: a value that was not sent"));
            };
            *position = offset + 1;
            reads.entry(key).or_default().push((offset, value));
        }
        match failure {
            Some(why) if reads.is_empty() => Polled::Fail(why),
            _ => {
                let read = |(key, records)| Read {
                    key,
                    records,
                    high_watermark: -1,
                };
                Polled::Ok(reads.into_iter().map(read).collect())
            }
        }
    }

    fn note(&mut self, error: Option<KafkaError>) {
        if let Some(error) = error {
            self.failure = Some(error.to_string());
        }
    }
}

impl Drop for RdkafkaClient {
    fn drop(&mut self) {
        // Taking either down waits for threads of its own.
        let (producer, consumer) = (self.producer.take(), self.consumer.take());
        if tokio::runtime::Handle::try_current().is_ok() {
            drop(spawn_blocking(move || drop((producer, consumer))));
        }
    }
}

fn common(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set("client.id", "jepsen-rdkafka")
        .set("topic.metadata.refresh.interval.ms", "2000")
        .set("reconnect.backoff.ms", "50")
        .set("reconnect.backoff.max.ms", "500")
        .set("socket.timeout.ms", "4000")
        .set("socket.nagle.disable", "true")
        .set("log_level", "2");
    config
}

fn producer_config(bootstrap: &str, options: &ClientOptions) -> ClientConfig {
    let mut config = common(bootstrap);
    config
        .set(
            "enable.idempotence",
            if options.idempotent { "true" } else { "false" },
        )
        .set("acks", "all")
        .set("linger.ms", "0")
        .set(
            "request.timeout.ms",
            options.request_timeout.as_millis().to_string(),
        )
        .set(
            "message.timeout.ms",
            options.op_timeout.as_millis().to_string(),
        );
    config
}

pub(super) fn consumer_config(bootstrap: &str) -> ClientConfig {
    let mut config = common(bootstrap);
    config
        .set("group.id", "jepsen")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        .set("check.crcs", "true")
        .set("fetch.wait.max.ms", "100")
        .set("fetch.error.backoff.ms", "50");
    config
}
