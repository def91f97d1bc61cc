//! Whole runs: threads that produce and read, what is measured of them, and the checks at the end.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::Duration;

use kafka_client::ClientError;
use kafka_client::api::OffsetQuery;
use storage::clock::Clock;
use tokio::runtime::Runtime;

use crate::check::{Faults, PartitionCheck, Sent};
use crate::error::LoadError;
use crate::latency::Latencies;
use crate::metronome::Metronome;
use crate::producer::{self, Produced, Producer, Times};
use crate::reader::{self, Plan, Read};
use crate::report::{Costs, Report, float};
use crate::schedule::Schedule;
use crate::settings::{Connect, Phase, ProduceLoad, Target, Until};
use crate::stamp::mixed;
use crate::target::Topic;

/// Connections are warm and schedules made within this.
const START_AFTER_US: i64 = 2_000;
/// A run that takes three times its schedule and this is given up.
const GRACE_US: i64 = 30_000_000;
/// What was written without being acknowledged may take this long to show, after the last that did.
const SETTLE_US: i64 = 5_000_000;
const SETTLE_POLL: Duration = Duration::from_millis(20);

/// Puts a load on a topic, which is created when it is missing; reads back what was written, when
/// `check` is set. `told` hears how far it is.
///
/// # Errors
///
/// When it cannot begin. What goes wrong later stands in the report.
pub fn produce(
    connect: &Connect,
    target: &Target,
    load: &ProduceLoad,
    check: bool,
    clock: &Clock,
    told: &dyn Fn(Phase),
) -> Result<Report, LoadError> {
    on_topic(connect, target, clock, |runtime, topic| {
        let from = runtime.block_on(topic.offsets(connect, OffsetQuery::LATEST))?;
        let mut report = Report::new();
        let run = std::thread::scope(|scope| {
            let started = start_producers(scope, connect, topic, load, clock)?;
            Ok::<_, LoadError>(started.run(load, clock, told, |_| {}))
        })?;
        run.costs.end(&mut report);
        let produced = run.produced;
        report.seconds = seconds_since(run.times, produced.iter().map(|one| one.last_us));
        report.records = produced.iter().map(|one| one.records).sum();
        report.bytes = produced.iter().map(|one| one.bytes).sum();
        let mut latencies = Latencies::default();
        for one in &produced {
            latencies.merge(&one.latencies);
            one.error.iter().for_each(|error| report.problem(error));
        }
        report.latency = latencies.figures();
        if check {
            told(Phase::Check);
            match runtime.block_on(settle(connect, topic, &from, &produced, clock)) {
                Ok(until) => {
                    let plan = Plan::of(from, Some(until));
                    let read = read_all(connect, topic, &plan, 1, clock)?;
                    judge(&mut report, read, |check| {
                        let sent = sent_to(topic, &produced, check.partition());
                        check.finish(&sent)
                    });
                }
                Err(error) => report.problem(format!("what was written cannot be read: {error}")),
            }
        }
        let samples = report.records;
        Ok(report.finish(samples))
    })
}

/// Puts a load on a topic and reads it at its end at the same time, through so many fetchers:
/// latencies are those from due to received.
///
/// # Errors
///
/// When it cannot begin. What goes wrong later stands in the report.
pub fn e2e(
    connect: &Connect,
    target: &Target,
    load: &ProduceLoad,
    fetchers: u32,
    clock: &Clock,
    told: &dyn Fn(Phase),
) -> Result<Report, LoadError> {
    on_topic(connect, target, clock, |runtime, topic| {
        let from = runtime.block_on(topic.offsets(connect, OffsetQuery::LATEST))?;
        let plan = Plan::of(from, None);
        let mut report = Report::new();
        let (run, read) = std::thread::scope(|scope| {
            let reading = start_readers(scope, connect, topic, &plan, fetchers, clock)?;
            let run = start_producers(scope, connect, topic, load, clock).map(|started| {
                started.run(load, clock, told, |times| {
                    plan.measure_from(times.measure_from_us)
                })
            });
            if let Ok(run) = &run {
                let until = settle(connect, topic, &plan.from, &run.produced, clock);
                match runtime.block_on(until) {
                    Ok(until) => plan.end_at(until),
                    Err(error) => {
                        report.problem(format!("the end of the topic is unknown: {error}"))
                    }
                }
            }
            // Without an end that is known there is nothing to wait for.
            plan.end_at(plan.from.clone());
            let read = reader::together(reading.into_iter().map(joined));
            run.map(|run| (run, read))
        })?;
        run.costs.end(&mut report);
        for one in &run.produced {
            one.error.iter().for_each(|error| report.problem(error));
        }
        report.seconds = seconds_since(run.times, [read.last_us]);
        (report.records, report.bytes) = (read.measured, read.measured_bytes);
        report.latency = read.latencies.figures();
        judge(&mut report, read, |check| {
            let sent = sent_to(topic, &run.produced, check.partition());
            check.finish(&sent)
        });
        let samples = report.records;
        Ok(report.finish(samples))
    })
}

/// Reads a topic that was filled before from its start to what is its end now, through so many
/// fetchers, as fast as they can.
///
/// # Errors
///
/// When it cannot begin. What goes wrong later stands in the report.
pub fn consume(
    connect: &Connect,
    target: &Target,
    fetchers: u32,
    check: bool,
    broker_pid: Option<u32>,
    clock: &Clock,
    told: &dyn Fn(Phase),
) -> Result<Report, LoadError> {
    let runtime = runtime()?;
    let topic = runtime.block_on(Topic::open(connect, target, false, clock))?;
    let from = runtime.block_on(topic.offsets(connect, OffsetQuery::EARLIEST))?;
    let until = runtime.block_on(topic.offsets(connect, OffsetQuery::LATEST))?;
    let mut plan = Plan::of(from, Some(until));
    plan.check = check;
    let mut report = Report::new();
    told(Phase::Measure);
    let costs = Costs::begin(broker_pid);
    let start_us = clock.monotonic_us();
    let read = read_all(connect, &topic, &plan, fetchers, clock)?;
    costs.end(&mut report);
    report.partitions = topic.partitions.len();
    let times = Times::from(start_us);
    report.seconds = seconds_since(times, [read.last_us]);
    (report.records, report.bytes) = (read.records, read.bytes);
    if check {
        judge(&mut report, read, |check| {
            let at = topic.partitions.binary_search(&check.partition());
            let trimmed = at.is_ok_and(|at| plan.from[at] > 0);
            check.finish_unknown(trimmed)
        });
    } else {
        read.error.iter().for_each(|error| report.problem(error));
    }
    let samples = report.records;
    Ok(report.finish(samples))
}

/// Runs something on the topic, which is removed afterwards when it was created for it.
pub(crate) fn on_topic(
    connect: &Connect,
    target: &Target,
    clock: &Clock,
    run: impl FnOnce(&Runtime, &Topic) -> Result<Report, LoadError>,
) -> Result<Report, LoadError> {
    let runtime = runtime()?;
    let topic = runtime.block_on(Topic::open(connect, target, true, clock))?;
    let report = run(&runtime, &topic);
    let cleaned = runtime.block_on(topic.clean_up(connect, target));
    let mut report = report?;
    report.partitions = topic.partitions.len();
    if let Err(error) = cleaned {
        report.problem(format!("topic {} is left behind: {error}", topic.name));
    }
    Ok(report)
}

/// A runtime of the thread that asks for it.
pub(crate) fn runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

impl Times {
    /// Measured from the start.
    fn from(start_us: i64) -> Times {
        Times {
            start_us,
            measure_from_us: start_us,
            give_up_us: i64::MAX,
        }
    }

    /// Of a load that begins in a moment.
    fn of(load: &ProduceLoad, now_us: i64) -> Times {
        let start_us = now_us + START_AFTER_US;
        let scheduled_us = match (load.until, load.rate) {
            (Until::ElapsedUs(elapsed_us), _) => Some(elapsed_us),
            (Until::Records(records), Some(rate)) => {
                let us = (float(records) / rate * 1e6).min(1e15);
                i64::try_from(Duration::from_secs_f64(us / 1e6).as_micros()).ok()
            }
            (Until::Records(_), None) => None,
        };
        let give_up_us = scheduled_us.map_or(i64::MAX, |scheduled_us| {
            let all_us = scheduled_us.saturating_add(load.warm_up_us);
            let limit_us = all_us.saturating_mul(3).saturating_add(GRACE_US);
            start_us.saturating_add(limit_us)
        });
        Times {
            start_us,
            measure_from_us: start_us.saturating_add(load.warm_up_us),
            give_up_us,
        }
    }
}

/// Seconds from the beginning of what is measured to the last of these.
pub(crate) fn seconds_since(times: Times, ends_us: impl IntoIterator<Item = i64>) -> f64 {
    let end_us = ends_us.into_iter().max().unwrap_or(0);
    let us = u64::try_from(end_us - times.measure_from_us).unwrap_or(0);
    float(us) / 1e6
}

/// Producers that are connected and wait for the start.
struct Started<'scope> {
    starts: Vec<Sender<Times>>,
    threads: Vec<ScopedJoinHandle<'scope, Option<Produced>>>,
    broker_pid: Option<u32>,
}

/// What producers have done.
struct Run {
    produced: Vec<Produced>,
    times: Times,
    costs: Costs,
}

impl Started<'_> {
    /// Lets them run to their end.
    fn run(
        self,
        load: &ProduceLoad,
        clock: &Clock,
        told: &dyn Fn(Phase),
        begins: impl FnOnce(Times),
    ) -> Run {
        told(Phase::WarmUp);
        let times = Times::of(load, clock.monotonic_us());
        begins(times);
        for start in &self.starts {
            // A thread that is gone is found when it is joined.
            let _ = start.send(times);
        }
        sleep_until(clock, times.measure_from_us);
        told(Phase::Measure);
        let costs = Costs::begin(self.broker_pid);
        let threads = self.threads.into_iter();
        Run {
            produced: threads.filter_map(joined).collect(),
            times,
            costs,
        }
    }
}

pub(crate) fn sleep_until(clock: &Clock, us: i64) {
    let left_us = us.saturating_sub(clock.monotonic_us());
    std::thread::sleep(Duration::from_micros(u64::try_from(left_us).unwrap_or(0)));
}

pub(crate) fn joined<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().expect("the threads of a run do not panic")
}

fn start_producers<'scope>(
    scope: &'scope Scope<'scope, '_>,
    connect: &'scope Connect,
    topic: &'scope Topic,
    load: &'scope ProduceLoad,
    clock: &'scope Clock,
) -> Result<Started<'scope>, LoadError> {
    // No two runs have the same generators.
    let run = mixed(clock.wall_ms().cast_unsigned() << 22 ^ u64::from(std::process::id()));
    let (ready, arrived) = channel();
    let mut started = Started {
        starts: Vec::new(),
        threads: Vec::new(),
        broker_pid: load.broker_pid,
    };
    for client in 0..load.clients {
        let (start, go) = channel();
        let ready = ready.clone();
        let generator = run.wrapping_add(client.into());
        let thread = std::thread::Builder::new().name(format!("producer {client}"));
        let thread = thread.spawn_scoped(scope, move || {
            let (runtime, connections, metronome) = report_ready(&ready, || {
                let runtime = runtime()?;
                let connections = runtime.block_on(producer::connect(connect, topic))?;
                Ok((runtime, connections, Metronome::start(clock)?))
            })?;
            drop(ready);
            // Nobody starts it when another could not connect.
            let times: Times = go.recv().ok()?;
            let (warm_up_us, rate, until) = (load.warm_up_us, load.rate, load.until);
            let part = (client, load.clients);
            let schedule = Schedule::new(times.start_us, warm_up_us, rate, until, part);
            let number = usize::try_from(client).unwrap_or(0);
            let identity = (generator, number);
            let producer = Producer::new(topic, load, connect, identity, connections, clock, times);
            Some(runtime.block_on(producer.run(schedule, &metronome)))
        })?;
        started.starts.push(start);
        started.threads.push(thread);
    }
    drop(ready);
    all_ready(&arrived)?;
    Ok(started)
}

/// Tells whether a thread could be made ready; what it needs, if so.
pub(crate) fn report_ready<T>(
    ready: &Sender<Result<(), LoadError>>,
    make: impl FnOnce() -> Result<T, LoadError>,
) -> Option<T> {
    let (told, made) = match make() {
        Ok(made) => (Ok(()), Some(made)),
        Err(error) => (Err(error), None),
    };
    // Whoever listens may have heard of a failure before.
    let _ = ready.send(told);
    made
}

/// Waits for every thread to be ready.
pub(crate) fn all_ready(arrived: &Receiver<Result<(), LoadError>>) -> Result<(), LoadError> {
    arrived.iter().collect()
}

fn start_readers<'scope>(
    scope: &'scope Scope<'scope, '_>,
    connect: &'scope Connect,
    topic: &'scope Topic,
    plan: &'scope Plan,
    fetchers: u32,
    clock: &'scope Clock,
) -> Result<Vec<ScopedJoinHandle<'scope, Read>>, LoadError> {
    let fetchers = usize::try_from(fetchers.max(1)).unwrap_or(1);
    let (ready, arrived) = channel();
    let mut threads = Vec::new();
    let spawn = |number: usize| {
        let ready = ready.clone();
        let thread = std::thread::Builder::new().name(format!("fetcher {number}"));
        thread.spawn_scoped(scope, move || {
            let made = report_ready(&ready, || {
                let runtime = runtime()?;
                let part = (number, fetchers);
                let parts = runtime.block_on(reader::connect(connect, topic, part))?;
                Ok((runtime, parts))
            });
            drop(ready);
            made.map_or_else(Read::default, |(runtime, parts)| {
                runtime.block_on(reader::read(connect, topic, parts, plan, clock))
            })
        })
    };
    let spawned: Result<(), std::io::Error> = (0..fetchers).try_for_each(|number| {
        threads.push(spawn(number)?);
        Ok(())
    });
    drop(ready);
    let all = spawned
        .map_err(LoadError::from)
        .and_then(|()| all_ready(&arrived));
    if let Err(error) = all {
        // Those that run end here.
        plan.end_at(plan.from.clone());
        return Err(error);
    }
    Ok(threads)
}

fn read_all(
    connect: &Connect,
    topic: &Topic,
    plan: &Plan,
    fetchers: u32,
    clock: &Clock,
) -> Result<Read, LoadError> {
    std::thread::scope(|scope| {
        let threads = start_readers(scope, connect, topic, plan, fetchers, clock)?;
        Ok(reader::together(threads.into_iter().map(joined)))
    })
}

/// The ends of the partitions once they have all that was acknowledged; without acknowledgements,
/// once they grow no more.
async fn settle(
    connect: &Connect,
    topic: &Topic,
    from: &[i64],
    produced: &[Produced],
    clock: &Clock,
) -> Result<Vec<i64>, ClientError> {
    let sent = produced.iter().flat_map(|one| &one.sent);
    let expected: u64 = sent.map(acknowledged).sum();
    let mut ends = topic.offsets(connect, OffsetQuery::LATEST).await?;
    let mut grown_us = clock.monotonic_us();
    loop {
        let grown = ends
            .iter()
            .zip(from)
            .map(|(end, from)| end - from)
            .sum::<i64>();
        let all_there = u64::try_from(grown).is_ok_and(|grown| grown >= expected);
        if all_there || clock.monotonic_us() - grown_us > SETTLE_US {
            return Ok(ends);
        }
        tokio::time::sleep(SETTLE_POLL).await;
        let now = topic.offsets(connect, OffsetQuery::LATEST).await?;
        if now != ends {
            (ends, grown_us) = (now, clock.monotonic_us());
        }
    }
}

fn acknowledged(sent: &Sent) -> u64 {
    let not = sent
        .unacknowledged
        .iter()
        .map(|range| range.end - range.start);
    sent.count - not.sum::<u64>()
}

/// What each generator has sent to a partition.
fn sent_to(topic: &Topic, produced: &[Produced], partition: i32) -> HashMap<u64, Sent> {
    let at = topic.partitions.binary_search(&partition);
    let of = |one: &Produced| Some((one.generator, one.sent.get(at.ok()?)?.clone()));
    produced.iter().filter_map(of).collect()
}

/// Puts what was read into the report.
fn judge(report: &mut Report, read: Read, finish: impl Fn(PartitionCheck) -> Faults) {
    report.checked = Some(read.records);
    match read.error {
        // What was not read is not known to be lost.
        Some(error) => report.problem(error),
        None => {
            for check in read.checks {
                report.faults.add(finish(check));
            }
        }
    }
}
