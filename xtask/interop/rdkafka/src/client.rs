//! What the driver does with rdkafka.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_executor::block_on;
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::{ClientContext, Offset, TopicPartitionList};

use crate::Trouble;

/// Of any single request.
const LIMIT: Duration = Duration::from_secs(30);
/// Until everything sent is answered.
const FLUSH_LIMIT: Duration = Duration::from_secs(300);

/// A record to be sent; a time in milliseconds.
pub struct Record {
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(&'static str, Option<Vec<u8>>)>,
    pub time_ms: Option<i64>,
}

/// The broker's addresses.
pub struct Client {
    bootstrap: String,
}

/// Kafka's names of the errors that checks look for.
pub fn name_of(number: i32) -> Option<&'static str> {
    Some(match number {
        1 => "OFFSET_OUT_OF_RANGE",
        3 => "UNKNOWN_TOPIC_OR_PARTITION",
        10 => "MESSAGE_TOO_LARGE",
        17 => "INVALID_TOPIC_EXCEPTION",
        36 => "TOPIC_ALREADY_EXISTS",
        37 => "INVALID_PARTITIONS",
        38 => "INVALID_REPLICATION_FACTOR",
        40 => "INVALID_CONFIG",
        _ => return None,
    })
}

/// Whether nodes that are away bring it about.
pub fn may_pass(number: Option<i32>) -> bool {
    // librdkafka's own are negative: connections, time-outs.
    number.is_some_and(|number| number < 0 || [5, 6, 7, 8, 13, 38, 41].contains(&number))
}

fn kafkas(problem: KafkaError) -> Trouble {
    let code = match problem {
        KafkaError::AdminOp(code) => Some(code),
        _ => problem.rdkafka_error_code(),
    };
    match code {
        Some(code) => of_code(code),
        None => Trouble::Error(None, problem.to_string()),
    }
}

fn of_code(code: RDKafkaErrorCode) -> Trouble {
    let number = match code {
        // What `auto.offset.reset=error` makes of it.
        RDKafkaErrorCode::AutoOffsetReset => 1,
        RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownPartition => 3,
        other => other as i32,
    };
    Trouble::Error(Some(number), code.to_string())
}

/// What became of what was sent.
#[derive(Default)]
struct Deliveries {
    offsets: Mutex<Vec<i64>>,
    failed: Mutex<Option<KafkaError>>,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(message) => self
                .offsets
                .lock()
                .expect("no panic")
                .push(message.offset()),
            Err((problem, _)) => *self.failed.lock().expect("no panic") = Some(problem.clone()),
        }
    }
}

impl Client {
    pub fn new(bootstrap: &str) -> Self {
        Self {
            bootstrap: bootstrap.to_owned(),
        }
    }

    fn config(&self, settings: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap);
        for (name, value) in settings {
            config.set(*name, *value);
        }
        config
    }

    fn consumer(&self, settings: &[(&str, &str)]) -> Result<BaseConsumer, Trouble> {
        let always = [
            ("group.id", "unused"),
            ("enable.auto.commit", "false"),
            ("auto.offset.reset", "error"),
            ("check.crcs", "true"),
            ("allow.auto.create.topics", "false"),
        ];
        self.config(&[&always, settings].concat())
            .create()
            .map_err(kafkas)
    }

    fn admin(&self) -> Result<AdminClient<DefaultClientContext>, Trouble> {
        self.config(&[]).create().map_err(kafkas)
    }

    pub fn version(&self) -> String {
        let (_, librdkafka) = rdkafka::util::get_rdkafka_version();
        format!("rdkafka 0.39.0, librdkafka {librdkafka}")
    }

    pub fn create(
        &self,
        topic: &str,
        partitions: i32,
        configs: &[(&str, &str)],
    ) -> Result<(), Trouble> {
        let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(-1));
        let new = configs
            .iter()
            .fold(new, |new, (name, value)| new.set(name, value));
        let answers = block_on(self.admin()?.create_topics([&new], &options())).map_err(kafkas)?;
        one(answers)
    }

    pub fn delete(&self, topic: &str) -> Result<(), Trouble> {
        one(block_on(self.admin()?.delete_topics(&[topic], &options())).map_err(kafkas)?)
    }

    pub fn topics(&self) -> Result<Vec<String>, Trouble> {
        let found = self
            .consumer(&[])?
            .fetch_metadata(None, LIMIT)
            .map_err(kafkas)?;
        Ok(found
            .topics()
            .iter()
            .map(|topic| topic.name().to_owned())
            .collect())
    }

    /// The cluster's id and the nodes' ports; it does not tell the controller.
    pub fn cluster(&self) -> Result<(String, Vec<i32>), Trouble> {
        let consumer = self.consumer(&[])?;
        let found = consumer.fetch_metadata(None, LIMIT).map_err(kafkas)?;
        let id = consumer
            .client()
            .fetch_cluster_id(LIMIT)
            .unwrap_or_default();
        Ok((
            id,
            found.brokers().iter().map(|broker| broker.port()).collect(),
        ))
    }

    pub fn topic_config(&self, topic: &str, name: &str) -> Result<String, Trouble> {
        let asked = [ResourceSpecifier::Topic(topic)];
        let found = block_on(self.admin()?.describe_configs(&asked, &options())).map_err(kafkas)?;
        for resource in found {
            let resource = resource.map_err(of_code)?;
            if let Some(value) = resource.get(name).and_then(|entry| entry.value.clone()) {
                return Ok(value);
            }
        }
        Err(Trouble::Error(None, format!("no config {name}")))
    }

    pub fn set_config(&self, topic: &str, name: &str, value: &str) -> Result<(), Trouble> {
        let change = AlterConfig::new(ResourceSpecifier::Topic(topic)).set(name, value);
        let answers = block_on(self.admin()?.alter_configs([&change], &options()));
        match answers {
            Err(KafkaError::AdminOp(RDKafkaErrorCode::UnsupportedFeature)) => {
                let why = "rdkafka has only AlterConfigs (key 33), which the node does not offer";
                Err(Trouble::Unable(why.to_owned()))
            }
            Err(problem) => Err(kafkas(problem)),
            Ok(answers) => {
                for answer in answers {
                    answer.map_err(|(_, code)| of_code(code))?;
                }
                // The crate says Ok for each topic of the answer, whatever the answer says of it.
                self.topic_config(topic, name).map(|_| ()).map_err(|_| {
                    let why = "rdkafka 0.39 does not tell that AlterConfigs refused a config";
                    Trouble::Unable(why.to_owned())
                })
            }
        }
    }

    pub fn grow(&self, topic: &str, partitions: usize) -> Result<(), Trouble> {
        let wanted = NewPartitions::new(topic, partitions);
        let answers = block_on(self.admin()?.create_partitions([&wanted], &options()));
        one(answers.map_err(kafkas)?)
    }

    pub fn trim(&self, topic: &str, offset: i64) -> Result<(), Trouble> {
        let before = at(topic, 0, offset)?;
        let found = block_on(self.admin()?.delete_records(&before, &options())).map_err(kafkas)?;
        for element in found.elements() {
            element.error().map_err(kafkas)?;
        }
        Ok(())
    }

    pub fn bounds(&self, topic: &str, partition: i32) -> Result<(i64, i64), Trouble> {
        let consumer = self.consumer(&[])?;
        consumer
            .fetch_watermarks(topic, partition, LIMIT)
            .map_err(kafkas)
    }

    pub fn at_time(&self, topic: &str, time_ms: i64) -> Result<i64, Trouble> {
        let asked = at(topic, 0, time_ms)?;
        let found = self
            .consumer(&[])?
            .offsets_for_times(asked, LIMIT)
            .map_err(kafkas)?;
        match found.elements().first().map(|element| element.offset()) {
            Some(Offset::Offset(offset)) => Ok(offset),
            _ => Ok(-1),
        }
    }

    /// Sends in order; the offsets, empty without acks.
    pub fn send(
        &self,
        topic: &str,
        partition: i32,
        settings: &[(&str, &str)],
        records: impl Iterator<Item = std::io::Result<Record>>,
    ) -> Result<Vec<i64>, Trouble> {
        let always = [
            ("linger.ms", "5"),
            ("message.max.bytes", "2000000"),
            ("queue.buffering.max.kbytes", "65536"),
        ];
        let config = self.config(&[&always, settings].concat());
        let producer: BaseProducer<Deliveries> = config
            .create_with_context(Deliveries::default())
            .map_err(kafkas)?;
        let failed = || match producer.context().failed.lock().expect("no panic").take() {
            Some(problem) => Err(kafkas(problem)),
            None => Ok(()),
        };
        for record in records {
            let record = record?;
            let mut headers = OwnedHeaders::new();
            for (key, value) in &record.headers {
                headers = headers.insert(Header {
                    key,
                    value: value.as_deref(),
                });
            }
            loop {
                let mut sent = BaseRecord::to(topic).partition(partition);
                sent.payload = record.value.as_deref();
                sent.key = record.key.as_deref();
                sent.timestamp = record.time_ms;
                if !record.headers.is_empty() {
                    sent.headers = Some(headers.clone());
                }
                match producer.send::<[u8], [u8]>(sent) {
                    Ok(()) => break,
                    Err((problem, _))
                        if problem.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) =>
                    {
                        producer.poll(Duration::from_millis(100));
                    }
                    Err((problem, _)) => return Err(kafkas(problem)),
                }
            }
            producer.poll(Duration::ZERO);
            failed()?;
        }
        producer.flush(FLUSH_LIMIT).map_err(kafkas)?;
        failed()?;
        let offsets = std::mem::take(&mut *producer.context().offsets.lock().expect("no panic"));
        Ok(offsets)
    }

    /// Hands over the messages of [start, end).
    pub fn read(
        &self,
        topic: &str,
        partition: i32,
        (start, end): (i64, i64),
        rack: Option<&str>,
        mut take: impl FnMut(&BorrowedMessage<'_>) -> Result<(), Trouble>,
    ) -> Result<(), Trouble> {
        let settings: Vec<(&str, &str)> =
            rack.map(|rack| ("client.rack", rack)).into_iter().collect();
        let consumer = self.consumer(&settings)?;
        consumer
            .assign(&at(topic, partition, start)?)
            .map_err(kafkas)?;
        let mut next = start;
        let mut quiet_since = Instant::now();
        while next < end {
            match consumer.poll(Duration::from_secs(1)) {
                None if quiet_since.elapsed() > LIMIT => {
                    return Err(Trouble::Error(
                        None,
                        format!("read up to offset {next} of {end}"),
                    ));
                }
                None => {}
                Some(message) => {
                    let message = message.map_err(kafkas)?;
                    quiet_since = Instant::now();
                    next = message.offset() + 1;
                    take(&message)?;
                }
            }
        }
        Ok(())
    }

    /// Is a member of a group until `stop`: it commits what it read, then shows it.
    pub fn member(
        &self,
        group: &str,
        topic: &str,
        protocol: &str,
        stop: &AtomicBool,
        mut show: impl FnMut(i32, i64, &[u8]),
    ) -> Result<(), Trouble> {
        let mut settings = vec![
            ("group.id", group),
            ("enable.auto.commit", "false"),
            ("auto.offset.reset", "earliest"),
            ("group.protocol", protocol),
        ];
        if protocol == "classic" {
            settings.extend([
                ("session.timeout.ms", "6000"),
                ("heartbeat.interval.ms", "1000"),
            ]);
        }
        let consumer: BaseConsumer = self.config(&settings).create().map_err(kafkas)?;
        consumer.subscribe(&[topic]).map_err(kafkas)?;
        while !stop.load(Ordering::Relaxed) {
            let Some(message) = consumer.poll(Duration::from_millis(200)) else {
                continue;
            };
            let message = match message {
                Ok(message) => message,
                Err(problem) if may_pass(problem.rdkafka_error_code().map(|code| code as i32)) => {
                    continue;
                }
                Err(problem) => return Err(kafkas(problem)),
            };
            // What is not committed is not shown: whoever has the partition next reads it.
            if is_committed(&consumer, &message) {
                show(
                    message.partition(),
                    message.offset(),
                    message.payload().unwrap_or_default(),
                );
            }
        }
        Ok(())
    }
}

/// Commits a message, again while its coordinator moves; false when the partition is not ours.
fn is_committed(consumer: &BaseConsumer, message: &BorrowedMessage<'_>) -> bool {
    let deadline = Instant::now() + LIMIT;
    loop {
        let Err(problem) = consumer.commit_message(message, CommitMode::Sync) else {
            return true;
        };
        let is_fenced = matches!(
            problem.rdkafka_error_code(),
            Some(
                RDKafkaErrorCode::IllegalGeneration
                    | RDKafkaErrorCode::UnknownMemberId
                    | RDKafkaErrorCode::RebalanceInProgress
                    | RDKafkaErrorCode::FencedInstanceId
                    | RDKafkaErrorCode::FencedMemberEpoch
            )
        );
        if is_fenced || Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(LIMIT))
}

fn one(answers: Vec<Result<String, (String, RDKafkaErrorCode)>>) -> Result<(), Trouble> {
    answers
        .into_iter()
        .try_for_each(|answer| answer.map(|_| ()).map_err(|(_, code)| of_code(code)))
}

fn at(topic: &str, partition: i32, offset: i64) -> Result<TopicPartitionList, Trouble> {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(offset))
        .map_err(kafkas)?;
    Ok(list)
}
