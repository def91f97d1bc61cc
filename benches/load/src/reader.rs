//! One fetcher: reads its partitions in order, checks every record, and notes when it came.

use std::collections::HashMap;
use std::sync::OnceLock;

use broker::record::{read_batch, split_batches};
use bytes::Bytes;
use futures_util::future::join_all;
use kafka_client::api::{FetchOptions, FetchPartition};
use kafka_client::{ClientError, Connection};
use storage::batch::BatchHeader;
use storage::clock::Clock;

use crate::check::PartitionCheck;
use crate::latency::Latencies;
use crate::settings::Connect;
use crate::target::Topic;

/// A fetch that finds nothing comes back after this: then it is seen whether all is read.
const WAIT_MS: i32 = 100;
/// Most bytes of one answer, and of one partition in it.
const ANSWER_BYTES: i32 = 32 << 20;
const PARTITION_BYTES: i32 = 8 << 20;
/// Most bytes that a batch may have unpacked.
const BATCH_BYTES_MAX: usize = 512 << 20;

/// What one fetcher has read.
#[derive(Debug, Default)]
pub(crate) struct Read {
    pub(crate) records: u64,
    /// Bytes of keys and values.
    pub(crate) bytes: u64,
    /// Measured ones among them, by when they were due.
    pub(crate) measured: u64,
    pub(crate) measured_bytes: u64,
    pub(crate) latencies: Latencies,
    /// When the last record came, in microseconds.
    pub(crate) last_us: i64,
    pub(crate) checks: Vec<PartitionCheck>,
    pub(crate) error: Option<String>,
}

/// What is to be read, for all fetchers of a run.
#[derive(Debug)]
pub(crate) struct Plan {
    /// First offsets, by position of the partition.
    pub(crate) from: Vec<i64>,
    /// Behind the last ones, once that is known.
    pub(crate) until: OnceLock<Vec<i64>>,
    /// When measuring begins, once that is known.
    pub(crate) measure_from_us: OnceLock<i64>,
    /// Whether records are checked.
    pub(crate) check: bool,
}

impl Plan {
    /// From here until there; `None`: the end is told later. Records are checked.
    pub(crate) fn of(from: Vec<i64>, until: Option<Vec<i64>>) -> Plan {
        Plan {
            from,
            until: until.map_or_else(OnceLock::new, OnceLock::from),
            measure_from_us: OnceLock::new(),
            check: true,
        }
    }

    /// Tells the end, unless it was told before.
    pub(crate) fn end_at(&self, until: Vec<i64>) {
        self.until.get_or_init(|| until);
    }

    /// Tells when measuring begins.
    pub(crate) fn measure_from(&self, us: i64) {
        self.measure_from_us.get_or_init(|| us);
    }
}

impl Read {
    fn merge(&mut self, other: Read) {
        self.records += other.records;
        self.bytes += other.bytes;
        self.measured += other.measured;
        self.measured_bytes += other.measured_bytes;
        self.latencies.merge(&other.latencies);
        self.last_us = self.last_us.max(other.last_us);
        self.checks.extend(other.checks);
        self.error = self.error.take().or(other.error);
    }
}

/// All of several fetchers together.
pub(crate) fn together(reads: impl IntoIterator<Item = Read>) -> Read {
    let mut all = Read::default();
    for read in reads {
        all.merge(read);
    }
    all
}

/// The part of fetcher `client` of `clients`: every so-many-th partition.
pub(crate) async fn connect(
    connect: &Connect,
    topic: &Topic,
    (client, clients): (usize, usize),
) -> Result<Vec<(Connection, Vec<usize>)>, ClientError> {
    let mut parts = Vec::new();
    for leader in &topic.leaders {
        let mine = leader.partitions.iter().copied();
        let mine: Vec<usize> = mine.filter(|at| at % clients == client).collect();
        if !mine.is_empty() {
            parts.push((connect.open(&leader.address).await?, mine));
        }
    }
    Ok(parts)
}

/// Reads until the end of the plan is reached, or nothing comes any more.
pub(crate) async fn read(
    connect: &Connect,
    topic: &Topic,
    parts: Vec<(Connection, Vec<usize>)>,
    plan: &Plan,
    clock: &Clock,
) -> Read {
    let readers = parts.into_iter().map(|(connection, partitions)| {
        let reader = Reader::new(topic, plan, clock, partitions);
        reader.run(connection, connect.timeout_us())
    });
    together(join_all(readers).await)
}

struct Reader<'a> {
    topic: &'a Topic,
    plan: &'a Plan,
    clock: &'a Clock,
    // Positions in the topic, and the next offset of each.
    partitions: Vec<usize>,
    next: HashMap<usize, i64>,
    checks: HashMap<usize, PartitionCheck>,
    read: Read,
}

impl<'a> Reader<'a> {
    fn new(
        topic: &'a Topic,
        plan: &'a Plan,
        clock: &'a Clock,
        partitions: Vec<usize>,
    ) -> Reader<'a> {
        Reader {
            topic,
            plan,
            clock,
            next: partitions.iter().map(|at| (*at, plan.from[*at])).collect(),
            checks: partitions
                .iter()
                .map(|at| (*at, PartitionCheck::new(topic.partitions[*at])))
                .collect(),
            partitions,
            read: Read::default(),
        }
    }

    async fn run(mut self, connection: Connection, timeout_us: i64) -> Read {
        if let Err(error) = self.fetch_all(&connection, timeout_us).await {
            self.read.error = Some(error);
        }
        self.read.checks = self.checks.into_values().collect();
        self.read
    }

    /// Where a partition is to be read up to, as far as it is known.
    fn until(&self, at: usize) -> i64 {
        self.plan.until.get().map_or(i64::MAX, |until| until[at])
    }

    async fn fetch_all(&mut self, connection: &Connection, timeout_us: i64) -> Result<(), String> {
        let mut progress_us = self.clock.monotonic_us();
        let mut end_known = false;
        // Whose bytes come first in the next answer: an answer's limit must not starve the last.
        let mut turn = 0;
        loop {
            let left = self.partitions.iter().copied();
            let mut left: Vec<usize> = left.filter(|at| self.next[at] < self.until(*at)).collect();
            if left.is_empty() {
                return Ok(());
            }
            let len = left.len();
            left.rotate_left(turn % len);
            turn += 1;
            let before = self.read.records;
            self.fetch(connection, &left).await?;
            let now_us = self.clock.monotonic_us();
            // Before the end is known, silence is no fault.
            let just_known = !end_known && self.plan.until.get().is_some();
            end_known |= just_known;
            if self.read.records > before || just_known {
                progress_us = now_us;
            }
            if end_known && now_us - progress_us > timeout_us {
                let at = left[0];
                return Err(format!(
                    "partition {}: nothing more can be read at offset {}, the end is {}",
                    self.topic.partitions[at],
                    self.next[&at],
                    self.until(at)
                ));
            }
        }
    }

    async fn fetch(&mut self, connection: &Connection, left: &[usize]) -> Result<(), String> {
        let wanted: Vec<FetchPartition> = left
            .iter()
            .map(|at| FetchPartition {
                bytes_max: PARTITION_BYTES,
                ..FetchPartition::new(&self.topic.name, self.topic.partitions[*at], self.next[at])
            })
            .collect();
        let options = FetchOptions {
            wait_ms_max: WAIT_MS,
            bytes_max: ANSWER_BYTES,
            ..FetchOptions::default()
        };
        let failed = |error: ClientError| format!("cannot read: {error}");
        let answer = connection.fetch(&wanted, options).await.map_err(failed)?;
        answer.error.check().map_err(failed)?;
        let now_us = self.clock.monotonic_us();
        for fetched in answer.partitions {
            fetched.error.check().map_err(failed)?;
            let numbers = &self.topic.partitions;
            let at = left.iter().find(|at| numbers[**at] == fetched.partition);
            if let Some(at) = at {
                self.take(*at, &fetched.records, now_us)?;
            }
        }
        Ok(())
    }

    /// Takes the batches of one partition.
    fn take(&mut self, at: usize, bytes: &Bytes, now_us: i64) -> Result<(), String> {
        let number = self.topic.partitions[at];
        let damaged = |what: &dyn std::fmt::Display| format!("partition {number}: {what}");
        for batch in split_batches(bytes).map_err(|error| damaged(&error))? {
            let header = BatchHeader::parse(&batch).map_err(|error| damaged(&error))?;
            let next = self.next[&at];
            if !header.is_control() {
                let records = read_batch(&batch, BATCH_BYTES_MAX);
                for record in records.map_err(|error| damaged(&error))? {
                    let record = record.map_err(|error| damaged(&error))?;
                    if record.offset < next || record.offset >= self.until(at) {
                        continue;
                    }
                    let key_bytes = record.key.as_ref().map_or(0, Bytes::len);
                    let value = record.value.unwrap_or_default();
                    self.count(at, key_bytes, &value, now_us);
                }
            }
            let end = header.last_offset().0.saturating_add(1);
            self.next.insert(at, next.max(end));
        }
        Ok(())
    }

    fn count(&mut self, at: usize, key_bytes: usize, value: &[u8], now_us: i64) {
        let bytes = (key_bytes + value.len()) as u64;
        self.read.records += 1;
        self.read.bytes += bytes;
        self.read.last_us = now_us;
        if !self.plan.check {
            return;
        }
        let check = self.checks.get_mut(&at).expect("each has its check");
        let stamp = check.record(value);
        let from_us = self.plan.measure_from_us.get();
        if let (Some(stamp), Some(from_us)) = (stamp, from_us)
            && stamp.due_us >= *from_us
        {
            self.read.measured += 1;
            self.read.measured_bytes += bytes;
            self.read.latencies.record(now_us - stamp.due_us);
        }
    }
}
