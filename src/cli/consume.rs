//! `braidlog consume`: reads a topic from a place on, until told to stop.

use std::collections::BTreeMap;

use broker::record::{Record, RecordError, read_batch, split_batches};
use bytes::Bytes;
use kafka_client::ErrorCode;
use kafka_client::api::{
    FetchOptions, FetchPartition, FetchedPartition, MetadataTopic, OffsetQuery,
};
use serde_json::{Value, json};
use storage::batch::BatchHeader;

use super::Context;
use super::failure::{Failure, Kind};
use super::output::{Format, Output, base64, printable};
use super::position::Position;
use super::session::{ServerArguments, Session};
use super::time::format_utc;
use super::topic::{counted, needs_partition, offsets, only_partition};

/// A batch may take this much when decompressed.
const DECOMPRESSED_BYTES_MAX: usize = 256 << 20;
/// How long the node may wait for a record.
const WAIT_MS_MAX: i32 = 500;

#[derive(Debug, clap::Args)]
pub(super) struct ConsumeArguments {
    /// The topic
    topic: String,
    /// Where to begin: start, end, an offset, or @TIME
    #[arg(long, value_name = "POSITION", default_value = "end")]
    from: Position,
    /// Stop after this many records
    #[arg(short = 'n', long, value_name = "COUNT")]
    count: Option<u64>,
    /// Read this partition only
    #[arg(short, long, value_name = "N")]
    partition: Option<i32>,
    /// Stop at the end as it is now, instead of waiting for more
    #[arg(short, long)]
    exit_at_end: bool,
    #[command(flatten)]
    server: ServerArguments,
}

pub(super) async fn run(arguments: ConsumeArguments, context: &mut Context) -> Result<(), Failure> {
    let mut printer = Printer {
        topic: arguments.topic.clone(),
        printed: 0,
        left: arguments.count,
    };
    // Dropping the reading half-way is safe: what is lost is only a question on its way.
    let result = tokio::select! {
        result = read(&arguments, &mut printer, context) => result,
        signal = tokio::signal::ctrl_c() => signal.map_err(Failure::from),
    };
    context.output.flush()?;
    result?;
    if context.output.format() == Format::Table {
        eprint_line(&counted(printer.printed, "record"));
    }
    Ok(())
}

/// Writes to standard error; results stay alone on standard output.
fn eprint_line(line: &str) {
    use std::io::Write;
    // Nothing depends on it being read.
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

async fn read(
    arguments: &ConsumeArguments,
    printer: &mut Printer,
    context: &mut Context,
) -> Result<(), Failure> {
    if printer.is_done() {
        return Ok(());
    }
    let mut session = Session::open(&arguments.server, &context.clock).await?;
    let topic = session.led_topic(&arguments.topic).await?;
    let topic = only_partition(&session, topic, arguments.partition)?;
    let mut reader = Reader::begin(arguments, &mut session, topic).await?;
    printer.heading(&mut context.output)?;
    context.output.flush()?;
    while !printer.is_done() && !reader.is_at_end() {
        for fetched in reader.fetch(&mut session).await? {
            reader.take(&session, &fetched, printer, &mut context.output)?;
        }
        context.output.flush()?;
    }
    Ok(())
}

/// Where the reading is in each partition.
struct Reader {
    topic: MetadataTopic,
    // Next offset to read, by partition.
    next: BTreeMap<i32, i64>,
    // Where to stop, by partition; empty when it is never.
    ends: BTreeMap<i32, i64>,
    // Of the leaders, whose turn it is to be asked.
    turn: usize,
    explicit: bool,
}

impl Reader {
    async fn begin(
        arguments: &ConsumeArguments,
        session: &mut Session,
        topic: MetadataTopic,
    ) -> Result<Reader, Failure> {
        let ends = by_partition(session, &topic, OffsetQuery::LATEST).await?;
        let next = match arguments.from.query() {
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
        Ok(Reader {
            topic,
            next,
            ends: if arguments.exit_at_end {
                ends
            } else {
                BTreeMap::new()
            },
            turn: 0,
            explicit: matches!(arguments.from, Position::Offset(_)),
        })
    }

    fn is_at_end(&self) -> bool {
        !self.ends.is_empty()
            && self
                .ends
                .iter()
                .all(|(partition, end)| self.next.get(partition) >= Some(end))
    }

    /// Asks the next leader for its partitions. The one asked first changes, so that none starves.
    async fn fetch(&mut self, session: &mut Session) -> Result<Vec<FetchedPartition>, Failure> {
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
    fn take(
        &mut self,
        session: &Session,
        fetched: &FetchedPartition,
        printer: &mut Printer,
        output: &mut Output,
    ) -> Result<(), Failure> {
        let name = &self.topic.name;
        let partition = fetched.partition;
        let subject = format!("topic {name} partition {partition}");
        if fetched.error == ErrorCode::OFFSET_OUT_OF_RANGE && !self.explicit {
            let start = fetched.log_start.max(0);
            eprint_line(&format!(
                "note: {subject}: older records were deleted, going on at {start}"
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
    for listed in offsets(session, topic, query).await? {
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

/// Writes records, up to a number.
struct Printer {
    topic: String,
    printed: i64,
    left: Option<u64>,
}

impl Printer {
    fn is_done(&self) -> bool {
        self.left == Some(0)
    }

    fn heading(&self, output: &mut Output) -> Result<(), Failure> {
        if output.format() == Format::Table {
            output.line(&row("PARTITION", "OFFSET", "TIMESTAMP", "KEY", "VALUE"))?;
        }
        Ok(())
    }

    fn print(
        &mut self,
        partition: i32,
        record: &Record,
        output: &mut Output,
    ) -> Result<(), Failure> {
        match output.format() {
            Format::Json => output.json(&self.as_json(partition, record))?,
            Format::Table => {
                let text =
                    |bytes: &Option<Bytes>| bytes.as_deref().map_or("-".to_owned(), printable);
                output.line(&row(
                    &partition.to_string(),
                    &record.offset.to_string(),
                    &format_utc(record.timestamp_ms),
                    &text(&record.key),
                    &text(&record.value),
                ))?;
            }
        }
        self.printed += 1;
        self.left = self.left.map(|left| left.saturating_sub(1));
        Ok(())
    }

    fn as_json(&self, partition: i32, record: &Record) -> Value {
        let headers: Vec<Value> = record
            .headers
            .iter()
            .map(|(key, value)| json!({ "key": key, "value": bytes_json(value.as_ref()) }))
            .collect();
        json!({
            "topic": self.topic,
            "partition": partition,
            "offset": record.offset,
            "timestamp_ms": record.timestamp_ms,
            "key": bytes_json(record.key.as_ref()),
            "value": bytes_json(record.value.as_ref()),
            "headers": headers,
        })
    }
}

/// Text as a string; bytes that are no UTF-8 as `{"base64": "..."}`.
fn bytes_json(bytes: Option<&Bytes>) -> Value {
    match bytes.map(|bytes| (std::str::from_utf8(bytes), bytes)) {
        None => Value::Null,
        Some((Ok(text), _)) => text.into(),
        Some((Err(_), bytes)) => json!({ "base64": base64(bytes) }),
    }
}

fn row(partition: &str, offset: &str, timestamp: &str, key: &str, value: &str) -> String {
    format!("{partition:>9}  {offset:>8}  {timestamp:<24}  {key:<12}  {value}")
}
