//! The figures of a run: [`Stats`] computed.

use std::collections::BTreeMap;

use super::groups;
use super::log::{Partition, lags};
use super::run::{Run, Sent};
use super::stats::{FaultStats, KeyStats, NodeStats, OperationStats, Quantiles, Stats};
use crate::history::{Kind, Op};

/// Different errors kept for each operation, the most frequent ones.
const ERRORS_MAX: usize = 12;
/// Characters kept of an error.
const ERROR_CHARS_MAX: usize = 120;
/// Different errors counted at all, for each operation.
const ERRORS_COUNTED_MAX: usize = 10_000;

pub(crate) fn stats(run: &Run<'_>, partitions: &[Partition]) -> Stats {
    let mut lag_us = Vec::new();
    lags(run, |_, _, _, lag| lag_us.push(lag));
    let first = run.events.first().map_or(0, |event| event.time_us);
    let duration_us = run.events.last().map_or(0, |event| event.time_us) - first;
    Stats {
        events: run.events.len() as u64,
        duration_us,
        operations: operations(run, duration_us),
        faults: faults(run),
        keys: keys(run, partitions),
        groups: groups::stats(run),
        lag_us: quantiles(lag_us),
        nodes: nodes(run),
        phases_us: run
            .phases
            .iter()
            .map(|(name, at)| ((*name).to_owned(), run.time_us(*at)))
            .collect(),
    }
}

fn quantiles(mut samples: Vec<u64>) -> Quantiles {
    samples.sort_unstable();
    let at = |hundredths: usize| {
        let place = (samples.len() * hundredths).div_ceil(100).max(1) - 1;
        samples.get(place).copied().unwrap_or(0)
    };
    Quantiles {
        count: samples.len() as u64,
        p50: at(50),
        p95: at(95),
        p99: at(99),
        max: at(100),
    }
}

fn operations(run: &Run<'_>, duration_us: u64) -> BTreeMap<String, OperationStats> {
    let mut operations: BTreeMap<&str, (OperationStats, Vec<u64>)> = BTreeMap::new();
    for (at, event) in run
        .events
        .iter()
        .enumerate()
        .filter(|(_, event)| !event.op.is_note())
    {
        let (stats, latencies) = operations.entry(event.op.name()).or_default();
        match event.kind {
            Kind::Invoke => {
                stats.invoked += 1;
                stats.info += u64::from(run.partner[at].is_none());
            }
            Kind::Ok => {
                stats.ok += 1;
                let invoked = run.partner[at].map_or(at, |invoked| invoked);
                latencies.push(event.time_us - run.time_us(invoked));
            }
            Kind::Fail => stats.fail += 1,
            Kind::Info => stats.info += 1,
        }
        if let Some(error) = &event.error {
            let error: String = error.chars().take(ERROR_CHARS_MAX).collect();
            if stats.errors.len() < ERRORS_COUNTED_MAX || stats.errors.contains_key(&error) {
                *stats.errors.entry(error).or_default() += 1;
            }
        }
    }
    let finish = |(name, (mut stats, latencies)): (&str, (OperationStats, Vec<u64>))| {
        stats.latency_us = quantiles(latencies);
        #[expect(clippy::cast_precision_loss, reason = "a rate to look at")]
        if duration_us > 0 {
            let per_second = stats.ok as f64 * 1e6 / duration_us as f64;
            stats.ok_per_second = (per_second * 1e3).round() / 1e3;
        }
        let mut errors: Vec<(String, u64)> =
            std::mem::take(&mut stats.errors).into_iter().collect();
        errors.sort_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
        errors.truncate(ERRORS_MAX);
        stats.errors = errors.into_iter().collect();
        (name.to_owned(), stats)
    };
    operations.into_iter().map(finish).collect()
}

/// Faults of one name may overlap; then they last from the first beginning to the last end.
fn faults(run: &Run<'_>) -> BTreeMap<String, FaultStats> {
    let mut faults: BTreeMap<&str, FaultStats> = BTreeMap::new();
    // How many of a name are active, and since when.
    let mut active: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    let end = run.phase("heal").unwrap_or(run.events.len());
    for (at, event) in run.events.iter().enumerate().take(end) {
        match (&event.op, event.kind) {
            (
                Op::Fault {
                    name, begins: true, ..
                },
                kind,
            ) => {
                let stats = faults.entry(name).or_default();
                match kind {
                    Kind::Invoke => {
                        stats.begun += 1;
                        active.entry(name).or_insert((0, event.time_us)).0 += 1;
                    }
                    Kind::Ok => stats.took_effect += 1,
                    Kind::Fail => finish(name, event.time_us, &mut active, stats),
                    Kind::Info => {}
                }
            }
            (
                Op::Fault {
                    name,
                    begins: false,
                    ..
                },
                Kind::Ok,
            ) => {
                finish(
                    name,
                    event.time_us,
                    &mut active,
                    faults.entry(name).or_default(),
                );
            }
            (Op::Send { .. }, Kind::Ok | Kind::Fail | Kind::Info) => {
                for name in active.keys() {
                    let Some(stats) = faults.get_mut(name) else {
                        continue;
                    };
                    match event.kind {
                        Kind::Ok => {
                            stats.sends_ok += 1;
                            let invoked = run.partner[at].map_or(at, |invoked| invoked);
                            let latency_us = event.time_us - run.time_us(invoked);
                            stats.send_latency_us_max = stats.send_latency_us_max.max(latency_us);
                        }
                        Kind::Fail => stats.sends_fail += 1,
                        Kind::Info | Kind::Invoke => stats.sends_info += 1,
                    }
                }
            }
            _ => {}
        }
    }
    let until = run.phase("heal").map(|at| run.time_us(at));
    let until = until
        .or(run.events.last().map(|event| event.time_us))
        .unwrap_or(0);
    for (name, (_, since)) in active {
        if let Some(stats) = faults.get_mut(name) {
            stats.lasted_us += until.saturating_sub(since);
        }
    }
    faults
        .into_iter()
        .map(|(name, stats)| (name.to_owned(), stats))
        .collect()
}

fn finish<'a>(
    name: &'a str,
    time_us: u64,
    active: &mut BTreeMap<&'a str, (u64, u64)>,
    stats: &mut FaultStats,
) {
    let Some((count, since)) = active.get_mut(name) else {
        return;
    };
    *count -= 1;
    if *count == 0 {
        stats.lasted_us += time_us.saturating_sub(*since);
        active.remove(name);
    }
}

fn keys(run: &Run<'_>, partitions: &[Partition]) -> BTreeMap<String, KeyStats> {
    let mut keys: Vec<KeyStats> = vec![KeyStats::default(); run.keys.len()];
    for send in &run.sends {
        let (stats, partition) = (&mut keys[send.key], &partitions[send.key]);
        match send.outcome {
            Sent::Ok(_) => stats.acknowledged += send.values.len() as u64,
            Sent::Info => {
                stats.unknown += send.values.len() as u64;
                let seen = send
                    .values
                    .iter()
                    .filter(|value| !partition.polled_at(**value).is_empty());
                stats.unknown_seen += seen.count() as u64;
            }
            Sent::Fail => {}
        }
    }
    for (stats, partition) in keys.iter_mut().zip(partitions) {
        stats.read = partition.polled_count();
        stats.last_offset = partition.last().map(|(last, _)| last);
    }
    run.keys
        .iter()
        .map(|key| key.to_string())
        .zip(keys)
        .collect()
}

fn nodes(run: &Run<'_>) -> BTreeMap<u32, NodeStats> {
    let mut nodes: BTreeMap<u32, NodeStats> = BTreeMap::new();
    for event in run.events {
        if let Op::Resources {
            node,
            rss_kib,
            descriptors,
        } = event.op
        {
            let stats = nodes.entry(node).or_default();
            stats.samples += 1;
            stats.rss_kib_max = stats.rss_kib_max.max(rss_kib);
            stats.descriptors_max = stats.descriptors_max.max(descriptors);
        }
    }
    nodes
}
