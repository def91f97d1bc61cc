//! Load on a cluster: one idempotent `acks=all` producer a partition, which follows leaders and
//! remembers every acknowledgement.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use kafka_client::{ClientError, ClusterClient, ErrorCode};
use storage::clock::Clock;
use tokio::task::JoinSet;

use crate::cluster::client;
use crate::deadline::{PATIENCE, eventually_async};
use crate::witness::{ProduceFailure, Witness};

/// Batches sent before the connection's leader is looked up again.
const ROUND: usize = 10;
/// After a failure.
const PAUSE: Duration = Duration::from_millis(20);

/// Producers that run.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicI64>,
    tasks: JoinSet<Loaded>,
}

/// What one producer did.
#[derive(Debug)]
pub struct Loaded {
    /// What it knows.
    pub witness: Witness,
    /// The longest time between two acknowledgements.
    pub longest_gap_ms: i64,
}

impl Load {
    /// Starts a producer for each of a topic's partitions, with values of about this size.
    #[must_use]
    pub fn start(bootstrap: &[String], topic: &str, partitions: i32, value_bytes: usize) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(AtomicI64::new(0));
        let mut tasks = JoinSet::new();
        for partition in 0..partitions {
            let producer = Producer {
                client: client(bootstrap.to_vec()),
                topic: topic.to_owned(),
                witness: Witness::of_partition(topic, partition, value_bytes),
                stop: Arc::clone(&stop),
                acknowledged: Arc::clone(&acknowledged),
            };
            tasks.spawn(producer.run());
        }
        Load {
            stop,
            acknowledged,
            tasks,
        }
    }

    /// Records acknowledged so far, by all of them.
    #[must_use]
    pub fn acknowledged(&self) -> i64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Waits until so many more records were acknowledged.
    ///
    /// # Panics
    ///
    /// When they are not in time.
    pub async fn more(&self, records: i64) {
        let wanted = self.acknowledged() + records;
        eventually_async(
            &format!("{records} more acknowledged records"),
            async || (self.acknowledged() >= wanted).then_some(()),
        )
        .await;
    }

    /// Ends the load; what each producer did.
    ///
    /// # Panics
    ///
    /// When a producer has met what must not be.
    pub async fn stop(mut self) -> Vec<Loaded> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        while let Some(done) = self.tasks.join_next().await {
            all.push(done.expect("no producer met what must not be"));
        }
        all.sort_by_key(|loaded| loaded.witness.partition());
        all
    }
}

struct Producer {
    client: ClusterClient,
    topic: String,
    witness: Witness,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicI64>,
}

impl Producer {
    async fn run(mut self) -> Loaded {
        let clock = Clock::system();
        let mut longest_gap_ms = 0;
        let mut last_ms: Option<i64> = None;
        let mut last_failure = None;
        let begun_ms = clock.monotonic_ms();
        while !self.stop.load(Ordering::Relaxed) {
            let before = self.witness.acknowledged();
            if let Err(failure) = self.round().await {
                last_failure = Some(failure);
                tokio::time::sleep(PAUSE).await;
            }
            let now_ms = clock.monotonic_ms();
            let more = self.witness.acknowledged() - before;
            if more > 0 {
                self.acknowledged.fetch_add(more, Ordering::Relaxed);
                let gap_ms = last_ms.map_or(0, |last_ms| now_ms - last_ms);
                longest_gap_ms = longest_gap_ms.max(gap_ms);
                last_ms = Some(now_ms);
            }
            let silence_ms = now_ms - last_ms.unwrap_or(begun_ms);
            assert!(
                u128::try_from(silence_ms).unwrap_or(0) < PATIENCE.as_millis(),
                "partition {} has acknowledged nothing for {silence_ms} ms: {last_failure:?}",
                self.witness.partition()
            );
        }
        Loaded {
            witness: self.witness,
            longest_gap_ms,
        }
    }

    /// Some batches at the present leader.
    async fn round(&mut self) -> Result<(), ProduceFailure> {
        let partition = self.witness.partition();
        let connection = self.client.leader(&self.topic, partition).await?;
        let result = self.witness.produce(&connection, ROUND).await;
        match &result {
            Ok(()) => {}
            Err(ProduceFailure::Client(error)) => {
                assert!(
                    !matches!(error, ClientError::Malformed(_)),
                    "an answer that is none: {error}"
                );
                self.client.lost(&connection);
                self.client.moved(&self.topic, partition, None);
            }
            Err(ProduceFailure::Refused(code)) => {
                assert!(is_passing(*code), "refused for good: {code:?}");
                self.client.moved(&self.topic, partition, None);
                // Answers that were not waited for must not be taken for those of the next round.
                self.client.lost(&connection);
            }
        }
        result
    }
}

/// What a producer may be told while leaders change.
fn is_passing(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::NOT_LEADER_OR_FOLLOWER
            | ErrorCode::LEADER_NOT_AVAILABLE
            | ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
            | ErrorCode::REQUEST_TIMED_OUT
            | ErrorCode::NOT_ENOUGH_REPLICAS
            | ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND
            // A batch of a pipeline whose predecessor was refused.
            | ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER
    )
}
