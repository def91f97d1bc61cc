//! Reading partitions of a topic from their leaders, each from its place on.

use std::collections::BTreeMap;
use std::slice;

use broker::record::{RecordError, read_batch, split_batches};
use kafka_client::api::{
    FetchOptions, FetchPartition, FetchedPartition, MetadataTopic, OffsetQuery,
};
use kafka_client::{ClientError, ErrorCode};
use storage::batch::BatchHeader;

use super::note;
use super::printer::Printer;
use crate::cli::coordinator::LOOK_AGAIN;
use crate::cli::failure::{Failure, Kind};
use crate::cli::offsets::offsets;
use crate::cli::output::Output;
use crate::cli::position::Position;
use crate::cli::session::Session;
use crate::cli::topic::needs_partition;

/// A batch may take this much when decompressed.
const DECOMPRESSED_BYTES_MAX: usize = 256 << 20;
/// How long the node may wait for a record.
const WAIT_MS_MAX: i32 = 500;

/// Where the reading is in each partition.
pub(super) struct Reader {
    topic: MetadataTopic,
    // Next offset to read, by partition.
    next: BTreeMap<i32, i64>,
    // Where to stop, by partition; none when it is never.
    ends: Option<BTreeMap<i32, i64>>,
    // Of the leaders, whose turn it is to be asked.
    turn: usize,
    // Partitions that nobody answered for as their leader, and until when that is put up with.
    leaderless: BTreeMap<i32, i64>,
    explicit: bool,
}

impl Reader {
    /// Begins where `known` says, and elsewhere at `from`. With `exit_at_end` it is at its end where
    /// the partitions end now.
    pub(super) async fn begin(
        session: &mut Session,
        topic: MetadataTopic,
        known: &BTreeMap<i32, i64>,
        from: Position,
        exit_at_end: bool,
    ) -> Result<Reader, Failure> {
        let ends = by_partition(session, &topic, OffsetQuery::LATEST).await?;
        let mut next = match from.query() {
            Err(_) if topic.partitions.len() > 1 => {
                return Err(needs_partition(&topic.name, topic.partitions.len()));
            }
            Err(offset) => topic.partitions.iter().map(|p| (p.index, offset)).collect(),
            Ok(OffsetQuery::LATEST) => ends.clone(),
            Ok(query) => {
                let mut found = by_partition(session, &topic, query).await?;
                for (partition, offset) in &mut found {
                    // Nothing is as new as the time asked for: what comes next will be.
                    if *offset < 0 {
                        *offset = ends.get(partition).copied().unwrap_or(0);
                    }
                }
                found
            }
        };
        for (partition, offset) in &mut next {
            *offset = known.get(partition).copied().unwrap_or(*offset);
        }
        Ok(Reader {
            topic,
            next,
            ends: exit_at_end.then_some(ends),
            turn: 0,
            leaderless: BTreeMap::new(),
            explicit: matches!(from, Position::Offset(_)),
        })
    }

    /// Whether there is nothing to read, now or later.
    pub(super) fn is_idle(&self) -> bool {
        self.topic.partitions.is_empty()
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.ends.as_ref().is_some_and(|ends| {
            ends.iter()
                .all(|(partition, end)| self.next.get(partition) >= Some(end))
        })
    }

    /// Behind the last record printed, by partition.
    pub(super) fn positions(&self) -> &BTreeMap<i32, i64> {
        &self.next
    }

    /// Asks the next leader for its partitions. The one asked first changes, so that none starves.
    /// Leaders that move, or die in a cluster, are found again within the timeout. Only for a
    /// reader that is not idle.
    pub(super) async fn fetch(
        &mut self,
        session: &mut Session,
    ) -> Result<Vec<FetchedPartition>, Failure> {
        if !self.leaderless.is_empty() {
            tokio::time::sleep(LOOK_AGAIN).await;
            self.find_leaders(session).await?;
        }
        let mut leaders: Vec<i32> = self.topic.partitions.iter().map(|p| p.leader).collect();
        leaders.sort_unstable();
        leaders.dedup();
        let leader = leaders[self.turn % leaders.len()];
        let mut wanted: Vec<FetchPartition> = self
            .topic
            .partitions
            .iter()
            .filter(|partition| partition.leader == leader)
            .map(|partition| {
                FetchPartition::new(
                    &self.topic.name,
                    partition.index,
                    self.next[&partition.index],
                )
            })
            .collect();
        let first = self.turn % wanted.len();
        wanted.rotate_left(first);
        self.turn = self.turn.wrapping_add(1);
        let connection = match session.broker(leader).await {
            Ok(connection) => connection,
            Err(failure) => return self.missed(session, leader, failure),
        };
        let options = FetchOptions {
            // Several leaders are asked in turn and must not hold each other up.
            wait_ms_max: if leaders.len() > 1 { 0 } else { WAIT_MS_MAX },
            ..FetchOptions::default()
        };
        let answer = match connection.fetch(&wanted, options).await {
            Ok(answer) => answer,
            Err(error @ (ClientError::NotSent(_) | ClientError::NoAnswer(_))) => {
                let failure = session.topic_failure(&self.topic.name, error);
                return self.missed(session, leader, failure);
            }
            Err(error) => return Err(session.topic_failure(&self.topic.name, error)),
        };
        answer
            .error
            .check()
            .map_err(|error| session.topic_failure(&self.topic.name, error))?;
        Ok(answer.partitions)
    }

    /// The node that led partitions is gone: another will lead them, unless it was the only one.
    fn missed(
        &mut self,
        session: &mut Session,
        leader: i32,
        failure: Failure,
    ) -> Result<Vec<FetchedPartition>, Failure> {
        session.forget(leader);
        let led = self.topic.partitions.iter().filter(|p| p.leader == leader);
        let led: Vec<i32> = led.map(|partition| partition.index).collect();
        if session.is_alone() || !led.into_iter().all(|index| self.may_wait(session, index)) {
            return Err(failure);
        }
        Ok(Vec::new())
    }

    /// Whether the timeout since a partition was first found without a leader is not over.
    fn may_wait(&mut self, session: &Session, index: i32) -> bool {
        let until = self.leaderless.entry(index);
        session.now_ms() < *until.or_insert_with(|| session.deadline_ms())
    }

    async fn find_leaders(&mut self, session: &mut Session) -> Result<(), Failure> {
        let topic = session.led_topic(&self.topic.name).await?;
        for partition in &mut self.topic.partitions {
            let mut now = topic.partitions.iter();
            if let Some(now) = now.find(|now| now.index == partition.index) {
                partition.leader = now.leader;
            }
        }
        Ok(())
    }

    /// Prints what one partition sent and goes on behind it.
    pub(super) fn take(
        &mut self,
        session: &Session,
        fetched: &FetchedPartition,
        printer: &mut Printer,
        output: &mut Output,
    ) -> Result<(), Failure> {
        let name = self.topic.name.clone();
        let partition = fetched.partition;
        let subject = format!("topic {name} partition {partition}");
        if fetched.error.is_about_leader() && self.may_wait(session, partition) {
            return Ok(());
        }
        let start = fetched.log_start;
        if fetched.error == ErrorCode::OFFSET_OUT_OF_RANGE
            && !self.explicit
            && self.next.get(&partition) < Some(&start)
        {
            note(&format!(
                "{subject}: older records were deleted, going on at {start}"
            ));
            self.next.insert(partition, start);
            return Ok(());
        }
        fetched.error.check().map_err(|error| {
            let failure = session.failure(&subject, error);
            match fetched.error {
                ErrorCode::OFFSET_OUT_OF_RANGE => failure.help(format!(
                    "see which offsets exist with {}",
                    session.suggest(&format!("topic describe {name}"))
                )),
                _ => failure,
            }
        })?;
        self.explicit = false;
        self.leaderless.remove(&partition);
        let damaged =
            |error: RecordError| Failure::new(Kind::Failed, format!("{subject}: {error}"));
        for batch in split_batches(&fetched.records).map_err(damaged)? {
            let header = BatchHeader::parse(&batch)
                .map_err(|_| damaged(RecordError::Malformed("bad batch header")))?;
            let next = self.next.entry(partition).or_insert(0);
            if !header.is_control() {
                for record in read_batch(&batch, DECOMPRESSED_BYTES_MAX).map_err(damaged)? {
                    let record = record.map_err(damaged)?;
                    if printer.is_done() {
                        return Ok(());
                    }
                    if record.offset >= *next {
                        printer.print(partition, &record, output)?;
                        *next = record.offset.saturating_add(1);
                    }
                }
            }
            let end = header
                .base_offset
                .saturating_add(i64::from(header.last_offset_delta) + 1);
            *next = end.max(*next);
        }
        Ok(())
    }
}

async fn by_partition(
    session: &mut Session,
    topic: &MetadataTopic,
    query: i64,
) -> Result<BTreeMap<i32, i64>, Failure> {
    let mut found = BTreeMap::new();
    for listed in offsets(session, slice::from_ref(topic), query).await? {
        listed
            .error
            .check()
            .map_err(|error| session.topic_failure(&topic.name, error))?;
        found.insert(listed.partition, listed.offset);
    }
    // Every partition has an entry, or the loop above it would wait for one that never comes.
    if topic
        .partitions
        .iter()
        .any(|partition| !found.contains_key(&partition.index))
    {
        return Err(Failure::new(
            Kind::Failed,
            format!(
                "topic {}: the node answered for other partitions",
                topic.name
            ),
        ));
    }
    Ok(found)
}
