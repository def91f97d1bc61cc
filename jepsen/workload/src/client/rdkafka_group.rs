//! [`RdkafkaMember`]: librdkafka's consumer as a member of a group, of either protocol.
//!
//! It joins, is told what it owns and gives that back by itself; what it knows of that it tells when
//! it is polled, and no generation with it. It lives on a thread of its own, since closing and
//! committing wait. Every failure of a commit has an unknown outcome: what is refused may be what was
//! sent a second time.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use jepsen_check::history::{Key, Protocol, Value};
use rdkafka::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};
use tracing::debug;

use super::group::{Part, SESSION_TIMEOUT};
use super::rdkafka::consumer_config;
use crate::batch;
use crate::fault::NodeId;

/// A turn goes on for so long at most, and for so many records.
const TURN: Duration = Duration::from_millis(150);
const TURN_RECORDS_MAX: usize = 2_000;
/// Who is not polled for so long leaves its group.
pub(crate) const POLL_INTERVAL_MAX: Duration = Duration::from_secs(7);
/// After that, and a while more, a member that hangs is taken down.
const HANGS: Duration = Duration::from_secs(10);

/// What it owns has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// It owns these as well.
    Assigned(Vec<Key>),
    /// It has given these back, or they were taken from it.
    Revoked(Vec<Key>),
}

/// What came of a poll.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    /// Records of what it owned before the changes.
    pub reads: BTreeMap<Key, Vec<(i64, Value)>>,
    /// In the order in which they came; the turn ends with them.
    pub changes: Vec<Change>,
    /// Why nothing came.
    pub failure: Option<String>,
    /// What came is not what can have been sent.
    pub damage: Option<String>,
    /// librdkafka says that nothing will come any more, as when another has its instance id.
    pub is_over: bool,
}

/// What its thread is asked.
enum Ask {
    Turn(oneshot::Sender<Turn>),
    Commit(Vec<(Key, i64)>, oneshot::Sender<Result<(), String>>),
    Committed(
        Vec<Key>,
        Duration,
        oneshot::Sender<Result<Vec<(Key, i64)>, String>>,
    ),
    /// It polls no more, and is taken down much later.
    Hang,
}

/// A member. Dropped, it closes: one that is not static leaves its group then.
#[derive(Debug)]
pub(crate) struct RdkafkaMember {
    asks: mpsc::Sender<Ask>,
    part: Part,
}

/// The thread of a member is gone, or does not answer.
#[derive(Debug, thiserror::Error)]
#[error("librdkafka does not answer")]
pub(crate) struct Silent;

impl RdkafkaMember {
    /// A member that begins to join these topics' group.
    ///
    /// # Errors
    ///
    /// When there is no thread for it. What librdkafka says against its configuration fails every
    /// turn.
    pub(crate) fn join(
        addresses: Vec<(NodeId, String)>,
        part: Part,
        keys: &[Key],
    ) -> io::Result<RdkafkaMember> {
        let topics: BTreeSet<String> = keys.iter().map(|key| key.topic.clone()).collect();
        let addresses: Vec<String> = addresses.into_iter().map(|(_, address)| address).collect();
        let config = config(&addresses.join(","), &part);
        let (asks, asked) = mpsc::channel();
        std::thread::Builder::new()
            .name("rdkafka-member".to_owned())
            .spawn(move || serve(&config, &topics, &asked))?;
        Ok(RdkafkaMember { asks, part })
    }

    /// How it takes part.
    pub(crate) fn part(&self) -> &Part {
        &self.part
    }

    /// Polls for a short time.
    pub(crate) async fn turn(&self, patience: Duration) -> Result<Turn, Silent> {
        self.ask(Ask::Turn, patience).await
    }

    /// Commits these, and waits for what came of it.
    pub(crate) async fn commit(
        &self,
        offsets: Vec<(Key, i64)>,
        patience: Duration,
    ) -> Result<Result<(), String>, Silent> {
        self.ask(|told| Ask::Commit(offsets, told), patience).await
    }

    /// What is committed for these, -1 for nothing.
    pub(crate) async fn committed(
        &self,
        keys: Vec<Key>,
        patience: Duration,
    ) -> Result<Result<Vec<(Key, i64)>, String>, Silent> {
        self.ask(|told| Ask::Committed(keys, patience / 2, told), patience)
            .await
    }

    /// It polls no more, as if its process stood still.
    pub(crate) fn hang(self) {
        // A thread that is gone hangs as well.
        let _ = self.asks.send(Ask::Hang);
    }

    async fn ask<T>(
        &self,
        ask: impl FnOnce(oneshot::Sender<T>) -> Ask,
        patience: Duration,
    ) -> Result<T, Silent> {
        let (told, answer) = oneshot::channel();
        self.asks.send(ask(told)).map_err(|_| Silent)?;
        match timeout(patience, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            _ => Err(Silent),
        }
    }
}

fn config(bootstrap: &str, part: &Part) -> ClientConfig {
    let mut config = consumer_config(bootstrap);
    let millis = |duration: Duration| duration.as_millis().to_string();
    config
        .set("group.id", &part.group)
        .set("auto.offset.reset", "earliest")
        .set("max.poll.interval.ms", millis(POLL_INTERVAL_MAX));
    match part.protocol {
        Protocol::Classic => config
            .set("group.protocol", "classic")
            .set("session.timeout.ms", millis(SESSION_TIMEOUT))
            .set("heartbeat.interval.ms", "500")
            .set("partition.assignment.strategy", part.assignor.name()),
        // The server says how long a session is.
        Protocol::Consumer => config.set("group.protocol", "consumer"),
    };
    if let Some(instance) = &part.instance {
        config.set("group.instance.id", instance);
    }
    config
}

/// Takes down what happens to what a member owns.
#[derive(Debug, Default)]
struct Notes(Mutex<Vec<Change>>);

impl Notes {
    fn lock(&self) -> MutexGuard<'_, Vec<Change>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Notes {}

impl ConsumerContext for Notes {
    fn pre_rebalance(&self, _: &BaseConsumer<Notes>, rebalance: &Rebalance<'_>) {
        let change = match rebalance {
            Rebalance::Assign(list) => Change::Assigned(keys(list)),
            Rebalance::Revoke(list) => Change::Revoked(keys(list)),
            Rebalance::Error(error) => {
                debug!(%error, "a rebalance failed");
                return;
            }
        };
        self.lock().push(change);
    }
}

fn keys(list: &TopicPartitionList) -> Vec<Key> {
    let elements = list.elements();
    let keys = elements.iter().map(|element| Key {
        topic: element.topic().to_owned(),
        partition: element.partition(),
    });
    keys.collect()
}

/// A member's thread, until nobody asks any more. Whoever asked and went away is told nothing.
fn serve(config: &ClientConfig, topics: &BTreeSet<String>, asked: &mpsc::Receiver<Ask>) {
    let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
    let consumer: Result<BaseConsumer<Notes>, _> = config.create_with_context(Notes::default());
    let consumer = consumer.and_then(|consumer| {
        consumer.subscribe(&topics)?;
        Ok(consumer)
    });
    let mut pending = None;
    for ask in asked {
        match (ask, &consumer) {
            (Ask::Turn(told), Ok(consumer)) => drop(told.send(turn(consumer, &mut pending))),
            (Ask::Turn(told), Err(error)) => {
                let failure = Some(error.to_string());
                drop(told.send(Turn {
                    failure,
                    ..Turn::default()
                }));
            }
            (Ask::Commit(offsets, told), Ok(consumer)) => {
                drop(told.send(commit(consumer, &offsets)));
            }
            (Ask::Commit(_, told), Err(error)) => drop(told.send(Err(error.to_string()))),
            (Ask::Committed(keys, patience, told), Ok(consumer)) => {
                drop(told.send(committed(consumer, &keys, patience)));
            }
            (Ask::Committed(_, _, told), Err(error)) => drop(told.send(Err(error.to_string()))),
            (Ask::Hang, _) => {
                std::thread::sleep(HANGS);
                break;
            }
        }
    }
}

/// A record that came behind a change.
type Pending = Option<(Key, i64, Option<Value>)>;

fn turn(consumer: &BaseConsumer<Notes>, pending: &mut Pending) -> Turn {
    let mut turn = Turn::default();
    if let Some(record) = pending.take() {
        take(&mut turn, record);
    }
    let until = Instant::now() + TURN;
    for _ in 0..TURN_RECORDS_MAX {
        let left = until.saturating_duration_since(Instant::now());
        let came = consumer.poll(left);
        turn.changes.append(&mut consumer.context().lock());
        match came {
            None => break,
            Some(Err(error)) => {
                turn.failure = Some(error.to_string());
                turn.is_over = consumer.client().fatal_error().is_some();
                break;
            }
            Some(Ok(message)) => {
                let key = Key {
                    topic: message.topic().to_owned(),
                    partition: message.partition(),
                };
                let value = message.payload().and_then(batch::read_value);
                let record = (key, message.offset(), value);
                if !turn.changes.is_empty() {
                    *pending = Some(record);
                    break;
                }
                take(&mut turn, record);
            }
        }
        if !turn.changes.is_empty() || turn.damage.is_some() {
            break;
        }
    }
    turn
}

fn take(turn: &mut Turn, (key, offset, value): (Key, i64, Option<Value>)) {
    match value {
        Some(value) => turn.reads.entry(key).or_default().push((offset, value)),
        None => turn.damage = Some(format!("{key} at {offset}: a value that was not sent")),
    }
}

fn commit(consumer: &BaseConsumer<Notes>, offsets: &[(Key, i64)]) -> Result<(), String> {
    let mut list = TopicPartitionList::new();
    for (key, offset) in offsets {
        list.add_partition_offset(&key.topic, key.partition, Offset::Offset(*offset))
            .map_err(|error| error.to_string())?;
    }
    consumer
        .commit(&list, CommitMode::Sync)
        .map_err(|error| error.to_string())
}

fn committed(
    consumer: &BaseConsumer<Notes>,
    keys: &[Key],
    patience: Duration,
) -> Result<Vec<(Key, i64)>, String> {
    let mut list = TopicPartitionList::new();
    for key in keys {
        list.add_partition(&key.topic, key.partition);
    }
    let told = consumer
        .committed_offsets(list, patience)
        .map_err(|error| error.to_string())?;
    let mut offsets = Vec::new();
    for key in keys {
        let element = told.find_partition(&key.topic, key.partition);
        let element = element.ok_or_else(|| format!("{key} is missing"))?;
        element.error().map_err(|error| error.to_string())?;
        offsets.push((
            key.clone(),
            match element.offset() {
                Offset::Offset(offset) => offset,
                _ => -1,
            },
        ));
    }
    Ok(offsets)
}
