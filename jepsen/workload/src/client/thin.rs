//! [`ThinClient`]: our own client, one request after the other, that knows what it knows.
//!
//! A send is tried again where that is harmless: after a definite error, and after an unknown outcome
//! with the same producer id, epoch and sequence only; neither every time, so that both kinds of
//! history come about. Once a try had an unknown outcome, no later refusal makes the whole definite.
//! Acknowledged batches of idempotent producers are repeated now and then. A producer whose batch has
//! an unknown outcome is never used again: its next sequence is not known.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use jepsen_check::history::{Key, Read, Value};
use kafka_client::api::{
    Acks, FetchOptions, FetchPartition, FetchedPartition, ProducePartition, ProduceRequest,
};
use kafka_client::{ClientError, ErrorCode};
use tokio::time::{Instant, sleep, timeout};
use tracing::debug;

use super::certainty::{Certainty, is_passing, not_sent, of_send};
use super::nodes::Nodes;
use super::{ClientOptions, Polled, Sent, padded};
use crate::batch::{self, Sequenced};
use crate::fault::NodeId;
use crate::random::Random;

/// The first pause between two tries, and the longest.
const PAUSE: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_millis(320);
/// How long a fetch waits for something to come.
const FETCH_WAIT_MS: i32 = 100;
const FETCH_BYTES_MAX: i32 = 256 << 10;

/// A client.
#[derive(Debug)]
pub struct ThinClient {
    /// What it knows of the cluster.
    pub nodes: Nodes,
    options: ClientOptions,
    producer: Option<Producer>,
    positions: BTreeMap<Key, i64>,
    random: Random,
}

/// An identity, and the next sequence number of each partition.
#[derive(Debug)]
struct Producer {
    id: i64,
    epoch: i16,
    next: BTreeMap<Key, i32>,
    /// The last batch of each partition that was acknowledged, and who led it then.
    last: BTreeMap<Key, (ProduceRequest, Option<NodeId>)>,
}

impl ThinClient {
    /// Nothing is connected yet.
    #[must_use]
    pub fn new(
        addresses: Vec<(NodeId, String)>,
        options: ClientOptions,
        mut random: Random,
    ) -> ThinClient {
        let nodes = Nodes::new(addresses, options.request_timeout, random.fork(1));
        ThinClient {
            nodes,
            options,
            producer: None,
            positions: BTreeMap::new(),
            random,
        }
    }

    /// Appends one batch; the answer is exact.
    pub async fn send(&mut self, key: &Key, values: &[Value]) -> Sent {
        let mut tries = Tries::new(self.options.op_timeout);
        let sequenced = match self.options.idempotent {
            true => match self.sequenced(key, &mut tries).await {
                Ok(sequenced) => Some(sequenced),
                Err(error) => return Sent::Fail(format!("no producer id: {error}")),
            },
            false => None,
        };
        self.repeat_last(key).await;
        let values = padded(&mut self.random, values, self.options.padding_bytes_max);
        let records = batch::encode(&values, self.options.timestamp_ms, sequenced);
        let server_timeout = self.options.request_timeout * 3 / 4;
        let request = ProduceRequest {
            transactional_id: None,
            acks: Acks::All,
            timeout_ms: i32::try_from(server_timeout.as_millis()).unwrap_or(i32::MAX),
            partitions: vec![ProducePartition {
                topic: key.topic.clone(),
                partition: key.partition,
                records: Some(records),
            }],
        };
        let sent = self.send_again(key, &request, &mut tries).await;
        let producer = self.producer.as_mut().filter(|_| sequenced.is_some());
        match &sent {
            Sent::Ok(_) => {
                let count = i32::try_from(values.len()).expect("a handful of values");
                if let Some(next) = producer.and_then(|producer| producer.next.get_mut(key)) {
                    *next += count;
                }
                let leader = self.nodes.known_leader(key);
                if let Some(producer) = self.producer.as_mut().filter(|_| sequenced.is_some()) {
                    producer.last.insert(key.clone(), (request, leader));
                }
            }
            // Its sequence number is still to be used.
            Sent::Fail(_) => {}
            Sent::Info(_) => self.producer = None,
        }
        sent
    }

    async fn send_again(&mut self, key: &Key, request: &ProduceRequest, tries: &mut Tries) -> Sent {
        let mut unknown: Option<String> = None;
        loop {
            let error = match self.try_send(key, request).await {
                Ok(offset) => return Sent::Ok(self.confirm(key, request, offset).await),
                Err(error) => error,
            };
            let certainty = of_send(&error);
            debug!(?key, %error, ?certainty, "a try of a send failed");
            if certainty == Certainty::Unknown && unknown.is_none() {
                unknown = Some(error.to_string());
            }
            let goes_on = match certainty {
                Certainty::Not => is_passing(&error) && !self.gives_up(&error),
                Certainty::Unknown => self.options.idempotent && self.random.chance(3, 4),
                Certainty::Done => false,
            };
            if goes_on && tries.again().await {
                continue;
            }
            if certainty == Certainty::Not && !is_passing(&error) {
                // A producer that is refused for good is of no use any more.
                self.producer = None;
            }
            return match (certainty, unknown) {
                (Certainty::Not, None) => Sent::Fail(error.to_string()),
                (_, Some(earlier)) if earlier != error.to_string() => {
                    Sent::Info(format!("{earlier}, then: {error}"))
                }
                _ => Sent::Info(error.to_string()),
            };
        }
    }

    /// Whether to take a node at its word that it does not lead, and never will write the batch: what
    /// is sent again and written in the end shows nothing, if the node was wrong.
    fn gives_up(&mut self, error: &ClientError) -> bool {
        let is_told = matches!(error, ClientError::Refused { code, .. } if *code == ErrorCode::NOT_LEADER_OR_FOLLOWER);
        is_told && self.random.chance(1, 4)
    }

    async fn try_send(&mut self, key: &Key, request: &ProduceRequest) -> Result<i64, ClientError> {
        let node = self.nodes.leader(key).await.map_err(not_sent)?;
        let produced = match self.nodes.connection(node).await {
            Ok(connection) => {
                let patience = self.options.patience;
                let answer = timeout(patience, connection.produce(request)).await;
                answer.unwrap_or_else(|_| {
                    let timeout_ms = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
                    Err(ClientError::TimedOut { timeout_ms })
                })
            }
            Err(error) => Err(error),
        };
        let produced = match produced {
            Ok(produced) => produced,
            Err(error) => {
                self.nodes.failed(node, &error);
                self.nodes.moved(key, None);
                return Err(error);
            }
        };
        let mine = |told: &kafka_client::api::ProducedPartition| {
            told.topic == key.topic && told.partition == key.partition
        };
        let produced = produced.into_iter().find(mine);
        let produced = produced.ok_or(ClientError::Malformed("no result"))?;
        if produced.error.is_about_leader() {
            self.nodes.moved(key, produced.leader.as_ref());
        }
        produced.error.check_with(produced.message)?;
        Ok(produced.base_offset)
    }

    /// Sometimes an idempotent batch is sent once more although it was acknowledged: the answer must
    /// be the offset that it has. Another one is what counts then, so that the history shows it.
    async fn confirm(&mut self, key: &Key, request: &ProduceRequest, offset: i64) -> i64 {
        if !self.options.idempotent || !self.random.chance(1, 12) {
            return offset;
        }
        match self.try_send(key, request).await {
            Ok(again) => again,
            Err(error) => {
                debug!(?key, %error, "a repeated batch was not answered");
                offset
            }
        }
    }

    /// Sometimes, and mostly where another node leads by now, the producer's last batch of a partition
    /// is sent once more before the next: it must not be written twice, whoever leads.
    async fn repeat_last(&mut self, key: &Key) {
        let last = self
            .producer
            .as_ref()
            .and_then(|producer| producer.last.get(key));
        let Some((request, leader)) = last.cloned() else {
            return;
        };
        let known = self.nodes.known_leader(key);
        let one_in = if known == leader { 20 } else { 2 };
        if self.random.chance(1, one_in) {
            let repeated = self.try_send(key, &request).await;
            debug!(?key, ?repeated, "repeated an acknowledged batch");
        }
    }

    /// The identity to send to this partition with.
    async fn sequenced(&mut self, key: &Key, tries: &mut Tries) -> Result<Sequenced, ClientError> {
        if self.producer.is_none() {
            self.producer = Some(self.new_producer(tries).await?);
        }
        let producer = self.producer.as_mut().expect("made above");
        let sequence = *producer.next.entry(key.clone()).or_insert(0);
        Ok(Sequenced {
            producer_id: producer.id,
            producer_epoch: producer.epoch,
            sequence,
        })
    }

    async fn new_producer(&mut self, tries: &mut Tries) -> Result<Producer, ClientError> {
        loop {
            let mut failure = ClientError::NotSent("no address is known".to_owned());
            if let Some(node) = self.nodes.all().first().copied() {
                let made = match self.nodes.connection(node).await {
                    Ok(connection) => connection.init_producer_id(None, 0).await,
                    Err(error) => Err(error),
                };
                failure = match made {
                    Ok(made) => {
                        let (id, epoch) = (made.producer_id, made.producer_epoch);
                        let (next, last) = (BTreeMap::new(), BTreeMap::new());
                        return Ok(Producer {
                            id,
                            epoch,
                            next,
                            last,
                        });
                    }
                    Err(error) => error,
                };
                self.nodes.failed(node, &failure);
            }
            if !is_passing(&failure) || !tries.again().await {
                return Err(failure);
            }
        }
    }

    /// Reads these partitions from here on, and no others.
    pub fn assign(&mut self, positions: &[(Key, i64)]) {
        self.positions = positions.iter().cloned().collect();
    }

    /// Where it reads on.
    #[must_use]
    pub fn positions(&self) -> &BTreeMap<Key, i64> {
        &self.positions
    }

    /// One fetch from each node that leads some of the partitions; now and then from any one node
    /// instead, which answers for those that it follows as well.
    pub async fn poll(&mut self) -> Polled {
        let at_any = self.random.chance(1, 8);
        let bytes_max = *self
            .random
            .pick(&[1, 3_000, 60_000, FETCH_BYTES_MAX])
            .expect("four");
        let mut failure = "no leader is known".to_owned();
        let mut by_node: BTreeMap<NodeId, Vec<FetchPartition>> = BTreeMap::new();
        let any = self.nodes.all().first().copied().filter(|_| at_any);
        if any.is_none()
            && let Err(error) = self.ask_for_leaders().await
        {
            failure = error.to_string();
        }
        for (key, offset) in self.positions.clone() {
            let node = any.or_else(|| self.nodes.known_leader(&key));
            let Some(node) = node else {
                continue;
            };
            let mut wanted = FetchPartition::new(key.topic, key.partition, offset);
            wanted.bytes_max = bytes_max;
            by_node.entry(node).or_default().push(wanted);
        }
        let mut fetches = Vec::new();
        for (node, wanted) in by_node {
            match self.nodes.connection(node).await {
                Ok(connection) => fetches.push(async move {
                    let options = FetchOptions {
                        wait_ms_max: FETCH_WAIT_MS,
                        bytes_max: FETCH_BYTES_MAX,
                        ..FetchOptions::default()
                    };
                    let answer = connection.fetch(&wanted, options).await;
                    (node, wanted, answer)
                }),
                Err(error) => {
                    failure = error.to_string();
                    self.forget_leaders(&wanted);
                }
            }
        }
        let mut reads = Vec::new();
        let mut damage = None;
        for (node, wanted, answer) in join_all(fetches).await {
            let answer = answer.and_then(|answer| answer.error.check().map(|()| answer.partitions));
            match answer {
                Ok(partitions) => {
                    for fetched in partitions {
                        match self.take(fetched) {
                            Ok(read) => reads.push(read),
                            Err(Taken::Refused(why)) => failure = why,
                            Err(Taken::Damaged(why)) => {
                                damage = Some(format!("node {node}: {why}"))
                            }
                        }
                    }
                }
                Err(error) => {
                    failure = error.to_string();
                    self.nodes.failed(node, &error);
                    self.forget_leaders(&wanted);
                }
            }
        }
        match (damage, reads.is_empty()) {
            (Some(why), _) => Polled::Damaged(why),
            (None, true) => Polled::Fail(failure),
            (None, false) => Polled::Ok(reads),
        }
    }

    /// What one partition's answer holds from this client's position on, which moves behind it.
    fn take(&mut self, fetched: FetchedPartition) -> Result<Read, Taken> {
        let key = Key {
            topic: fetched.topic,
            partition: fetched.partition,
        };
        let Some(position) = self.positions.get_mut(&key) else {
            return Err(Taken::Refused(format!("{key:?} was not asked for")));
        };
        if fetched.error.is_about_leader() {
            self.nodes.moved(&key, fetched.leader.as_ref());
        }
        fetched
            .error
            .check()
            .map_err(|error| Taken::Refused(error.to_string()))?;
        let batches = batch::decode_all(&fetched.records)
            .map_err(|damage| Taken::Damaged(format!("{key:?} from {position}: {damage}")))?;
        let mut records = Vec::new();
        for batch in batches {
            let wanted = batch
                .records
                .into_iter()
                .filter(|(offset, _)| *offset >= *position);
            records.extend(wanted);
            *position = (*position).max(batch.last_offset + 1);
        }
        Ok(Read {
            key,
            records,
            high_watermark: fetched.high_watermark,
        })
    }

    /// Asks who leads those of the assigned partitions of which that is not known.
    async fn ask_for_leaders(&mut self) -> Result<(), ClientError> {
        let unknown = self
            .positions
            .keys()
            .filter(|key| self.nodes.known_leader(key).is_none());
        let mut topics: Vec<String> = unknown.map(|key| key.topic.clone()).collect();
        topics.dedup();
        if topics.is_empty() {
            return Ok(());
        }
        let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
        self.nodes.metadata(Some(&topics)).await.map(drop)
    }

    fn forget_leaders(&mut self, wanted: &[FetchPartition]) {
        for wanted in wanted {
            let key = Key {
                topic: wanted.topic.clone(),
                partition: wanted.partition,
            };
            self.nodes.moved(&key, None);
        }
    }
}

/// Why a partition gave nothing.
enum Taken {
    Refused(String),
    Damaged(String),
}

/// The tries of one operation.
struct Tries {
    deadline: Instant,
    pause: Duration,
}

impl Tries {
    fn new(timeout: Duration) -> Tries {
        Tries {
            deadline: Instant::now() + timeout,
            pause: PAUSE,
        }
    }

    /// Pauses before the next try; false when the time is up.
    async fn again(&mut self) -> bool {
        if Instant::now() + self.pause >= self.deadline {
            return false;
        }
        sleep(self.pause).await;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        true
    }
}
