//! One generator: takes records as they become due, sends them, and notes when each was
//! acknowledged.
//!
//! A batch is sent once. The first that is not acknowledged ends the run: figures of a load that
//! was broken off, or written twice, would be worth nothing.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use kafka_client::api::{Acks, PendingProduce, ProducePartition, ProduceRequest};
use kafka_client::{ClientError, Connection};
use storage::clock::Clock;

use crate::batcher::{Batch, Batcher};
use crate::check::Sent;
use crate::latency::Latencies;
use crate::metronome::Metronome;
use crate::schedule::{Next, Schedule};
use crate::settings::{Connect, ProduceLoad};
use crate::target::Topic;

/// Records that wait to be sent take no more than this, as in Kafka's own client. Those due beyond
/// wait for their turn outside; their latency counts all the same.
const BUFFERED_BYTES_MAX: usize = 32 << 20;
/// Batches of several partitions go in one request of about this, at most.
const REQUEST_BYTES: usize = 1 << 20;
/// Most records that are taken before answers are looked at again.
const TAKEN_AT_ONCE: usize = 4_096;

/// What one generator has done.
#[derive(Debug, Default)]
pub(crate) struct Produced {
    pub(crate) generator: u64,
    /// By position of the partition.
    pub(crate) sent: Vec<Sent>,
    pub(crate) latencies: Latencies,
    /// Measured records that were acknowledged, and their bytes.
    pub(crate) records: u64,
    pub(crate) bytes: u64,
    /// When the last of them was, in microseconds.
    pub(crate) last_us: i64,
    pub(crate) error: Option<String>,
}

/// The times of a run, in microseconds of its clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    pub(crate) start_us: i64,
    pub(crate) measure_from_us: i64,
    /// Then it must be over.
    pub(crate) give_up_us: i64,
}

/// Connections to every leader of a topic.
pub(crate) async fn connect(
    connect: &Connect,
    topic: &Topic,
) -> Result<Vec<Arc<Connection>>, ClientError> {
    let mut connections = Vec::new();
    for leader in &topic.leaders {
        connections.push(Arc::new(connect.open(&leader.address).await?));
    }
    Ok(connections)
}

type Answer = (usize, Vec<Batch>, Result<(), ClientError>);

pub(crate) struct Producer<'a> {
    topic: &'a Topic,
    load: &'a ProduceLoad,
    timeout_ms: i32,
    clock: &'a Clock,
    times: Times,
    batcher: Batcher,
    connections: Vec<Arc<Connection>>,
    // Requests on their way, by leader.
    in_flight: Vec<usize>,
    // Where the next request to each leader begins to look for batches.
    turn: Vec<usize>,
    leader_of: Vec<usize>,
    answers: FuturesUnordered<Pin<Box<dyn Future<Output = Answer>>>>,
    produced: Produced,
}

impl<'a> Producer<'a> {
    pub(crate) fn new(
        topic: &'a Topic,
        load: &'a ProduceLoad,
        connect: &Connect,
        (generator, client): (u64, usize),
        connections: Vec<Arc<Connection>>,
        clock: &'a Clock,
        times: Times,
    ) -> Producer<'a> {
        let mut leader_of = vec![0; topic.partitions.len()];
        for (number, leader) in topic.leaders.iter().enumerate() {
            for at in &leader.partitions {
                leader_of[*at] = number;
            }
        }
        Producer {
            topic,
            load,
            timeout_ms: connect.timeout_ms(),
            clock,
            times,
            batcher: Batcher::new(load, generator, client, &topic.partitions),
            in_flight: vec![0; connections.len()],
            turn: vec![0; connections.len()],
            connections,
            leader_of,
            answers: FuturesUnordered::new(),
            produced: Produced {
                generator,
                sent: vec![Sent::default(); topic.partitions.len()],
                last_us: times.measure_from_us,
                ..Produced::default()
            },
        }
    }

    /// Runs until the schedule is over and all is answered, or the first failure.
    pub(crate) async fn run(mut self, mut schedule: Schedule, metronome: &Metronome) -> Produced {
        loop {
            let next = self.take_due(&mut schedule);
            let over = next == Next::Over;
            self.send(over).await;
            let mut has_answers = false;
            while let Some(Some(answer)) = self.answers.next().now_or_never() {
                self.answered(answer);
                has_answers = true;
            }
            if self.produced.error.is_some() {
                break;
            }
            let now_us = self.clock.monotonic_us();
            if now_us >= self.times.give_up_us {
                self.fail("the rate cannot be kept up: the run takes far longer than its schedule");
                break;
            }
            let all_sent = self.batcher.buffered_bytes() == 0;
            if over && all_sent && self.answers.is_empty() {
                break;
            }
            match self.wakes_us(next) {
                // There is room that there was not when records were taken.
                _ if has_answers => tokio::task::yield_now().await,
                Some(wake_us) if wake_us <= now_us => tokio::task::yield_now().await,
                wake_us => self.wait(wake_us, metronome).await,
            }
        }
        // What is on its way counts, whatever went wrong.
        while let Some(answer) = self.answers.next().await {
            self.answered(answer);
        }
        for connection in std::mem::take(&mut self.connections) {
            if let Some(connection) = Arc::into_inner(connection) {
                connection.close().await;
            }
        }
        self.produced
    }

    /// Takes records that are due, as many as there is room for, and what comes then.
    fn take_due(&mut self, schedule: &mut Schedule) -> Next {
        let mut now_us = self.clock.monotonic_us();
        for _ in 0..TAKEN_AT_ONCE {
            if !self.has_room() {
                // Something must be answered first.
                return Next::At(i64::MAX);
            }
            match schedule.next(now_us) {
                Next::Due(due_us) => {
                    if self.batcher.push(due_us, now_us) {
                        if self.load.rate.is_none() {
                            return Next::Due(due_us);
                        }
                        now_us = self.clock.monotonic_us();
                    }
                }
                next => return next,
            }
        }
        Next::Due(now_us)
    }

    /// Closed-loop, a record is made only when it can go; open-loop, when it is due.
    fn has_room(&self) -> bool {
        let leader = self.leader_of[self.batcher.next_partition()];
        let can_go = self.load.rate.is_some() || self.in_flight[leader] < self.load.in_flight;
        can_go && self.batcher.buffered_bytes() < BUFFERED_BYTES_MAX
    }

    /// When there is something to do besides answers; `None`: nothing before an answer comes.
    fn wakes_us(&self, next: Next) -> Option<i64> {
        let due_us = match next {
            Next::Due(due_us) => Some(due_us),
            Next::At(i64::MAX) | Next::Over => None,
            Next::At(due_us) => Some(due_us),
        };
        let free = (0..self.in_flight.len())
            .filter(|leader| self.in_flight[*leader] < self.load.in_flight)
            .filter_map(|leader| {
                let partitions = &self.topic.leaders[leader].partitions;
                self.batcher.next_ready_us(partitions)
            });
        free.chain(due_us).min()
    }

    async fn wait(&mut self, wake_us: Option<i64>, metronome: &Metronome) {
        let wake_us = wake_us.unwrap_or(i64::MAX).min(self.times.give_up_us);
        let answer = if self.answers.is_empty() {
            metronome.at(wake_us).await;
            None
        } else {
            tokio::select! {
                answer = self.answers.next() => answer,
                () = metronome.at(wake_us) => None,
            }
        };
        if let Some(answer) = answer {
            self.answered(answer);
        }
    }

    /// Sends what may go to each leader that may get more.
    async fn send(&mut self, flush: bool) {
        for leader in 0..self.connections.len() {
            while self.in_flight[leader] < self.load.in_flight && self.produced.error.is_none() {
                let batches = self.next_request(leader, flush);
                if batches.is_empty() {
                    break;
                }
                self.transmit(leader, batches).await;
            }
        }
    }

    /// At most a batch of each partition, from the one whose turn it is.
    fn next_request(&mut self, leader: usize, flush: bool) -> Vec<Batch> {
        let (now_us, wall_ms) = (self.clock.monotonic_us(), self.clock.wall_ms());
        let partitions = &self.topic.leaders[leader].partitions;
        let (mut batches, mut bytes) = (Vec::new(), 0);
        for step in 0..partitions.len() {
            let at = (self.turn[leader] + step) % partitions.len();
            if bytes >= REQUEST_BYTES {
                self.turn[leader] = at;
                break;
            }
            let batch = self.batcher.take(partitions[at], now_us, wall_ms, flush);
            bytes += batch.as_ref().map_or(0, |batch| batch.bytes.len());
            batches.extend(batch);
        }
        batches
    }

    async fn transmit(&mut self, leader: usize, batches: Vec<Batch>) {
        for batch in &batches {
            let sent = &mut self.produced.sent[batch.partition];
            sent.count = batch.first_sequence + batch.due_us.len() as u64;
        }
        let request = ProduceRequest {
            transactional_id: None,
            acks: self.load.acks,
            timeout_ms: self.timeout_ms,
            partitions: batches
                .iter()
                .map(|batch| ProducePartition {
                    topic: self.topic.name.clone(),
                    partition: self.topic.partitions[batch.partition],
                    records: Some(batch.bytes.clone()),
                })
                .collect(),
        };
        match self.connections[leader].produce_pipelined(&request).await {
            Ok(pending) => {
                self.in_flight[leader] += 1;
                let acks = self.load.acks;
                let answer = async move { (leader, batches, result(pending, acks).await) };
                self.answers.push(Box::pin(answer));
            }
            Err(error) => self.refused(&batches, &error),
        }
    }

    fn answered(&mut self, (leader, batches, result): Answer) {
        self.in_flight[leader] -= 1;
        if let Err(error) = result {
            return self.refused(&batches, &error);
        }
        let now_us = self.clock.monotonic_us();
        let payload_bytes = self.batcher.payload_bytes() as u64;
        for due_us in batches.iter().flat_map(|batch| &batch.due_us) {
            if *due_us >= self.times.measure_from_us {
                if self.load.acks != Acks::None {
                    self.produced.latencies.record(now_us - due_us);
                }
                self.produced.records += 1;
                self.produced.bytes += payload_bytes;
                self.produced.last_us = now_us;
            }
        }
    }

    fn refused(&mut self, batches: &[Batch], error: &ClientError) {
        for batch in batches {
            let end = batch.first_sequence + batch.due_us.len() as u64;
            let sent = &mut self.produced.sent[batch.partition];
            sent.unacknowledged.push(batch.first_sequence..end);
        }
        self.fail(&format!("records were not acknowledged: {error}"));
    }

    fn fail(&mut self, error: &str) {
        self.produced.error.get_or_insert_with(|| error.to_owned());
    }
}

async fn result(pending: PendingProduce, acks: Acks) -> Result<(), ClientError> {
    let results = pending.answer().await?;
    if acks != Acks::None && results.is_empty() {
        return Err(ClientError::Malformed("no result"));
    }
    for result in results {
        result.error.check_with(result.message)?;
    }
    Ok(())
}
