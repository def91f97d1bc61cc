//! Requests that were encoded beforehand, sent over and over: what the broker can take when the
//! client costs nearly nothing.

use std::collections::VecDeque;
use std::sync::mpsc::channel;

use broker::record::{BatchProducer, Compression, Record, encode_batch};
use bytes::{Bytes, BytesMut};
use kafka_client::api::{Acks, OffsetQuery, PRODUCE};
use kafka_client::wire::{Reader, Writer};
use kafka_client::{ClientError, Connection, ErrorCode, PendingResponse};
use storage::batch::BATCH_HEADER_BYTES;
use storage::clock::Clock;

use crate::error::LoadError;
use crate::latency::Latencies;
use crate::producer::Times;
use crate::report::{Costs, Report};
use crate::run::{all_ready, joined, on_topic, report_ready, runtime, seconds_since, sleep_until};
use crate::schedule::{Next, Schedule};
use crate::settings::{Connect, Phase, RawLoad, Target};
use crate::stamp::{Filler, STAMP_BYTES, Stamp};
use crate::target::Topic;

/// The version of Produce that is encoded here.
const PRODUCE_VERSION: i16 = 10;
/// Most bytes that a record takes besides its value.
const RECORD_OVERHEAD_BYTES: usize = 24;
const START_AFTER_US: i64 = 2_000;

/// What one connection has done.
#[derive(Debug, Default)]
struct Answered {
    partition: usize,
    /// Requests of the whole run that were acknowledged,
    requests: u64,
    /// and measured ones among them.
    measured: u64,
    latencies: Latencies,
    last_us: i64,
    error: Option<String>,
}

/// Sends requests that are encoded beforehand, closed-loop, and counts whether what was appended is
/// what was acknowledged. Latencies are of requests.
///
/// # Errors
///
/// When it cannot begin. What goes wrong later stands in the report.
pub fn raw(
    connect: &Connect,
    target: &Target,
    load: &RawLoad,
    clock: &Clock,
    told: &dyn Fn(Phase),
) -> Result<Report, LoadError> {
    on_topic(connect, target, clock, |runtime, topic| {
        let before = runtime.block_on(topic.offsets(connect, OffsetQuery::LATEST))?;
        let (batch, records) = batch(load, clock.wall_ms());
        let mut report = Report::new();
        let (answered, times) = send_all(connect, topic, load, &batch, clock, told, &mut report)?;
        report.seconds = seconds_since(times, answered.iter().map(|one| one.last_us));
        let mut latencies = Latencies::default();
        let mut acknowledged = vec![0; topic.partitions.len()];
        for one in &answered {
            report.records += one.measured * records;
            report.bytes += one.measured * batch.len() as u64;
            latencies.merge(&one.latencies);
            acknowledged[one.partition] += one.requests * records;
            one.error.iter().for_each(|error| report.problem(error));
        }
        report.latency = latencies.figures();
        told(Phase::Check);
        match runtime.block_on(topic.offsets(connect, OffsetQuery::LATEST)) {
            Ok(after) => {
                for (at, acknowledged) in acknowledged.iter().enumerate() {
                    let appended = u64::try_from(after[at] - before[at]).unwrap_or(0);
                    report.checked = Some(report.checked.unwrap_or(0) + appended);
                    if appended < *acknowledged {
                        report.faults.lost += acknowledged - appended;
                    } else {
                        report.faults.duplicates += appended - acknowledged;
                    }
                }
            }
            Err(error) => report.problem(format!("what was appended cannot be counted: {error}")),
        }
        let samples = answered.iter().map(|one| one.measured).sum();
        Ok(report.finish(samples))
    })
}

fn send_all(
    connect: &Connect,
    topic: &Topic,
    load: &RawLoad,
    batch: &Bytes,
    clock: &Clock,
    told: &dyn Fn(Phase),
    report: &mut Report,
) -> Result<(Vec<Answered>, Times), LoadError> {
    std::thread::scope(|scope| {
        let (ready, arrived) = channel();
        let (mut starts, mut threads) = (Vec::new(), Vec::new());
        for number in 0..load.connections {
            let (start, go) = channel::<Times>();
            let ready = ready.clone();
            let thread = std::thread::Builder::new().name(format!("connection {number}"));
            threads.push(thread.spawn_scoped(scope, move || {
                let at = usize::try_from(number).unwrap_or(0) % topic.partitions.len();
                let (runtime, connection) = report_ready(&ready, || {
                    let runtime = runtime()?;
                    let leader = topic
                        .leaders
                        .iter()
                        .find(|one| one.partitions.contains(&at));
                    let leader = leader.expect("each partition has its leader");
                    let connection = runtime.block_on(connect.open(&leader.address))?;
                    Ok((runtime, connection))
                })?;
                drop(ready);
                let body = body(connect, topic, at, load.acks, batch);
                let times = go.recv().ok()?;
                sleep_until(clock, times.start_us);
                let part = (number, load.connections);
                let (warm_up_us, until) = (load.warm_up_us, load.until);
                let schedule = Schedule::new(times.start_us, warm_up_us, None, until, part);
                let sending = send(connection, &body, schedule, load.in_flight, clock, times);
                let mut answered = runtime.block_on(sending);
                answered.partition = at;
                Some(answered)
            })?);
            starts.push(start);
        }
        drop(ready);
        all_ready(&arrived)?;
        told(Phase::WarmUp);
        let start_us = clock.monotonic_us() + START_AFTER_US;
        let times = Times {
            start_us,
            measure_from_us: start_us.saturating_add(load.warm_up_us),
            give_up_us: i64::MAX,
        };
        for start in starts {
            // A thread that is gone is found when it is joined.
            let _ = start.send(times);
        }
        sleep_until(clock, times.measure_from_us);
        told(Phase::Measure);
        let costs = Costs::begin(load.broker_pid);
        let answered = threads.into_iter().filter_map(joined).collect();
        costs.end(report);
        Ok((answered, times))
    })
}

async fn send(
    connection: Connection,
    body: &[u8],
    mut schedule: Schedule,
    in_flight: usize,
    clock: &Clock,
    times: Times,
) -> Answered {
    let mut answered = Answered {
        last_us: times.measure_from_us,
        ..Answered::default()
    };
    let mut waiting: VecDeque<(i64, PendingResponse)> = VecDeque::new();
    loop {
        while waiting.len() < in_flight && answered.error.is_none() {
            let Next::Due(due_us) = schedule.next(clock.monotonic_us()) else {
                break;
            };
            match connection.send(PRODUCE, PRODUCE_VERSION, body).await {
                Ok(pending) => waiting.push_back((due_us, pending)),
                Err(error) => answered.fail(&error),
            }
        }
        let Some((due_us, pending)) = waiting.pop_front() else {
            break;
        };
        match pending.answer().await.and_then(check_answer) {
            Ok(()) => answered.count(due_us, clock.monotonic_us(), times),
            Err(error) => answered.fail(&error),
        }
    }
    connection.close().await;
    answered
}

impl Answered {
    fn count(&mut self, due_us: i64, now_us: i64, times: Times) {
        self.requests += 1;
        if due_us >= times.measure_from_us {
            self.measured += 1;
            self.latencies.record(now_us - due_us);
            self.last_us = now_us;
        }
    }

    fn fail(&mut self, error: &ClientError) {
        let text = || format!("a request was not acknowledged: {error}");
        self.error.get_or_insert_with(text);
    }
}

/// The error of the one partition that the answer is about.
fn check_answer(mut answer: Reader) -> Result<(), ClientError> {
    let codes = answer.array(|topic| {
        let _name = topic.string()?;
        let _count = topic.varint()?;
        let _partition = topic.i32()?;
        ErrorCode(topic.i16()?).check()
    });
    // What follows the code is of no interest, and stands where another topic would.
    codes.map(|_| ())
}

/// The body of a request for one partition.
fn body(connect: &Connect, topic: &Topic, at: usize, acks: Acks, batch: &Bytes) -> Bytes {
    let mut body = Writer::new();
    body.nullable_string(None)
        .i16(if acks == Acks::All { -1 } else { 1 })
        .i32(connect.timeout_ms());
    body.by_topic(
        &[(topic.name.as_str(), topic.partitions[at])],
        |(name, _)| name,
        |item, (_, partition)| {
            item.i32(*partition).compact_bytes(Some(batch)).no_tags();
        },
    );
    body.no_tags();
    body.finish()
}

/// A batch of about the bytes asked for, and how many records it has.
fn batch(load: &RawLoad, wall_ms: i64) -> (Bytes, u64) {
    let filler = Filler::new(0);
    let room = load.request_bytes.saturating_sub(BATCH_HEADER_BYTES);
    let count = (room / (load.value_bytes + RECORD_OVERHEAD_BYTES)).max(1) as u64;
    let records: Vec<Record> = (0..count)
        .map(|number| {
            let mut value = BytesMut::zeroed(STAMP_BYTES);
            let filler_bytes = load.value_bytes.saturating_sub(STAMP_BYTES);
            filler.put(number, filler_bytes, &mut value);
            let stamp = Stamp {
                generator: 0,
                sequence: number,
                due_us: 0,
                partition: 0,
            };
            stamp.write(&mut value);
            Record {
                timestamp_ms: wall_ms,
                value: Some(value.freeze()),
                ..Record::default()
            }
        })
        .collect();
    let batch = encode_batch(&records, Compression::None, BatchProducer::default());
    (batch, count)
}
