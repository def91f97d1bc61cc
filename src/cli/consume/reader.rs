//! Reading partitions of a topic from their leaders, each from its place on.

use std::collections::BTreeMap;
use std::slice;

use broker::record::{RecordError, read_batch, split_batches};
use kafka_client::ErrorCode;
use kafka_client::api::{
    FetchOptions, FetchPartition, FetchedPartition, MetadataTopic, OffsetQuery,
};
use storage::batch::BatchHeader;

use super::note;
use super::printer::Printer;
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
    /// Only for a reader that is not idle.
    pub(super) async fn fetch(
        &mut self,
        session: &mut Session,
    ) -> Result<Vec<FetchedPartition>, Failure> {
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
        let connection = session.broker(leader).await?;
        let options = FetchOptions {
            // Several leaders are asked in turn and must not hold each other up.
            wait_ms_max: if leaders.len() > 1 { 0 } else { WAIT_MS_MAX },
            ..FetchOptions::default()
        };
        let answer = connection
            .fetch(&wanted, options)
            .await
            .map_err(|error| session.topic_failure(&self.topic.name, error))?;
        answer
            .error
            .check()
            .map_err(|error| session.topic_failure(&self.topic.name, error))?;
        Ok(answer.partitions)
    }

    /// Prints what one partition sent and goes on behind it.
    pub(super) fn take(
        &mut self,
        session: &Session,
        fetched: &FetchedPartition,
        printer: &mut Printer,
        output: &mut Output,
    ) -> Result<(), Failure> {
        let name = &self.topic.name;
        let partition = fetched.partition;
        let subject = format!("topic {name} partition {partition}");
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
