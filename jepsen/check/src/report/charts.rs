//! The curves under the lanes: rate, latency, lag, and what the nodes' processes use.

use std::collections::{BTreeMap, BTreeSet};

use super::axis::{AmountAxis, TimeAxis, count, duration};
use super::operations::{Operation, Outcome, Run};
use super::svg::{Anchor, Picture, Shapes};
use crate::history::{Key, Op};

const RATE_BINS: usize = 240;
const QUANTILE_BINS: usize = 60;
const LAG_BINS: usize = 240;
const RATE_HEIGHT: f64 = 84.0;
const LATENCY_HEIGHT: f64 = 130.0;
const LAG_HEIGHT: f64 = 60.0;
const RESOURCES_HEIGHT: f64 = 60.0;
const GAP: f64 = 26.0;
/// Points nearer than this to another of their kind are left out.
const POINT_CELL: f64 = 2.0;

/// Draws all of them from `top` down; gives where they end.
pub(super) fn draw(picture: &mut Picture, axis: &TimeAxis, run: &Run<'_>, top: f64) -> f64 {
    let mut top = rate(picture, axis, run, top + GAP);
    top = latency(picture, axis, run, top + GAP);
    let lag_points = lag_points(run);
    if !lag_points.is_empty() {
        top = lag(picture, axis, &lag_points, top + GAP);
    }
    if !run.resources.is_empty() {
        let memory = |(at, rss_kib, _): &(u64, u64, u64)| (*at, *rss_kib as f64 / 1024.0);
        top = resources(picture, axis, run, top + GAP, ("memory, MiB", &memory));
        let descriptors = |(at, _, descriptors): &(u64, u64, u64)| (*at, *descriptors as f64);
        top = resources(picture, axis, run, top + GAP, ("descriptors", &descriptors));
    }
    top
}

/// Frame, labels and name of a chart.
fn frame(
    picture: &mut Picture,
    axis: &TimeAxis,
    amounts: &AmountAxis,
    name: &str,
    label: impl Fn(f64) -> String,
) {
    for amount in amounts.ticks() {
        let y = amounts.y(amount);
        picture.line("grid", (axis.left, y), (axis.right(), y));
        picture.text(
            "label",
            axis.left - 8.0,
            y + 3.5,
            Anchor::End,
            &label(amount),
        );
    }
    picture.text(
        "chart-name",
        axis.left,
        amounts.top - 8.0,
        Anchor::Start,
        name,
    );
}

fn rounded(amount: f64) -> String {
    if amount < 10.0 && amount.fract() > 0.0 {
        format!("{amount:.1}")
    } else {
        count(whole(amount))
    }
}

/// Microseconds beside an axis.
fn tick(us: f64) -> String {
    if us == 0.0 {
        return "0".to_owned();
    }
    duration(whole(us)).replace(".00 ", " ").replace(".0 ", " ")
}

fn rate(picture: &mut Picture, axis: &TimeAxis, run: &Run<'_>, top: f64) -> f64 {
    const CLASSES: [&str; 4] = ["send", "poll", "info", "fail"];
    let mut bins = vec![[0_u64; CLASSES.len()]; RATE_BINS];
    for operation in &run.operations {
        let class = match (operation.outcome, operation.op) {
            (Outcome::Ok, Op::Send { .. }) => 0,
            (Outcome::Ok, Op::Poll { .. }) => 1,
            (Outcome::Ok, _) => continue,
            (Outcome::Info, _) => 2,
            (Outcome::Fail, _) => 3,
        };
        bins[axis.bin(operation.end_us, RATE_BINS)][class] += 1;
    }
    let seconds = axis.end_us as f64 / 1e6 / RATE_BINS as f64;
    let per_second = |many: u64| many as f64 / seconds;
    let max = bins
        .iter()
        .map(|bin| bin.iter().sum::<u64>())
        .max()
        .unwrap_or_default();
    let amounts = AmountAxis::linear(top, RATE_HEIGHT, per_second(max));
    frame(
        picture,
        axis,
        &amounts,
        "operations per second, by outcome",
        rounded,
    );
    let mut shapes: [Shapes; CLASSES.len()] = Default::default();
    let width = axis.width / RATE_BINS as f64;
    for (at, bin) in bins.iter().enumerate() {
        let mut below = 0;
        for (class, many) in bin.iter().enumerate().filter(|(_, many)| **many > 0) {
            let (low, high) = (
                amounts.y(per_second(below)),
                amounts.y(per_second(below + many)),
            );
            shapes[class].bar(axis.left + at as f64 * width, high, width - 0.5, low - high);
            below += many;
        }
    }
    for (class, shapes) in CLASSES.into_iter().zip(&shapes) {
        picture.path(class, shapes.as_str());
    }
    amounts.bottom()
}

fn latency(picture: &mut Picture, axis: &TimeAxis, run: &Run<'_>, top: f64) -> f64 {
    let took = |operation: &Operation<'_>| (operation.end_us - operation.start_us) as f64;
    let measured = |operation: &&Operation<'_>| {
        operation.completed.is_some() && matches!(operation.op, Op::Send { .. } | Op::Poll { .. })
    };
    let all = || run.operations.iter().filter(measured);
    let min = all().map(took).fold(f64::INFINITY, f64::min);
    let max = all().map(took).fold(1.0, f64::max);
    let amounts = AmountAxis::log(
        top,
        LATENCY_HEIGHT,
        if min.is_finite() { min } else { 1.0 },
        max,
    );
    frame(
        picture,
        axis,
        &amounts,
        "latency of sends and polls; lines: median and 99 of 100 acknowledged sends",
        tick,
    );
    let mut shapes: BTreeMap<&str, Shapes> = BTreeMap::new();
    let mut taken = BTreeSet::new();
    let mut bins: Vec<Vec<f64>> = vec![Vec::new(); QUANTILE_BINS];
    for operation in all() {
        let class = match (operation.outcome, operation.op) {
            (Outcome::Info, _) => "dot-info",
            (Outcome::Fail, _) => "dot-fail",
            (Outcome::Ok, Op::Send { .. }) => "dot-send",
            (Outcome::Ok, _) => "dot-poll",
        };
        if class == "dot-send" {
            bins[axis.bin(operation.end_us, QUANTILE_BINS)].push(took(operation));
        }
        let (x, y) = (axis.x(operation.end_us), amounts.y(took(operation)));
        if taken.insert((class, whole(x / POINT_CELL), whole(y / POINT_CELL))) {
            shapes.entry(class).or_default().dot(x, y);
        }
    }
    for (class, shapes) in shapes {
        picture.path(class, shapes.as_str());
    }
    for (class, of_hundred) in [("median", 50), ("high-quantile", 99)] {
        let mut line = Shapes::default();
        for (at, bin) in bins
            .iter_mut()
            .enumerate()
            .filter(|(_, bin)| !bin.is_empty())
        {
            bin.sort_by(f64::total_cmp);
            let value = bin[(bin.len() * of_hundred / 100).min(bin.len() - 1)];
            let x = axis.left + axis.width * (at as f64 + 0.5) / QUANTILE_BINS as f64;
            line.point(x, amounts.y(value));
        }
        picture.path(class, line.as_str());
    }
    amounts.bottom()
}

/// How long, at least, the newest record that a poll returned had been out of date when it was
/// asked for: since when a later one was known to exist.
fn lag_points(run: &Run<'_>) -> Vec<(u64, u64)> {
    let mut known: BTreeMap<&Key, BTreeMap<i64, u64>> = BTreeMap::new();
    let mut learn = |key, offset: i64, at: u64| {
        let first = known.entry(key).or_default().entry(offset).or_insert(at);
        *first = (*first).min(at);
    };
    for operation in run
        .operations
        .iter()
        .filter(|operation| operation.outcome == Outcome::Ok)
    {
        match operation.op {
            Op::Send {
                key,
                values,
                offset: Some(offset),
                ..
            } => {
                learn(
                    key,
                    offset + i64::try_from(values.len()).unwrap_or_default() - 1,
                    operation.end_us,
                );
            }
            Op::Poll { reads } => {
                for read in reads {
                    if let Some((offset, _)) = read.records.last() {
                        learn(&read.key, *offset, operation.end_us);
                    }
                }
            }
            _ => {}
        }
    }
    for offsets in known.values_mut() {
        // Whoever knows a later record knows that the ones before it were out of date.
        let mut earliest = u64::MAX;
        for (_, at) in offsets.iter_mut().rev() {
            earliest = earliest.min(*at);
            *at = earliest;
        }
    }
    let mut points = Vec::new();
    for operation in run
        .operations
        .iter()
        .filter(|operation| operation.outcome == Outcome::Ok)
    {
        let Op::Poll { reads } = operation.op else {
            continue;
        };
        for read in reads {
            let Some((last, _)) = read.records.last() else {
                continue;
            };
            let later = known
                .get(&read.key)
                .and_then(|offsets| offsets.range(last + 1..).next());
            let since = later.map_or(u64::MAX, |(_, since)| *since);
            points.push((operation.start_us, operation.start_us.saturating_sub(since)));
        }
    }
    points
}

fn lag(picture: &mut Picture, axis: &TimeAxis, points: &[(u64, u64)], top: f64) -> f64 {
    let mut bins = vec![0_u64; LAG_BINS];
    for (at, lag_us) in points {
        let bin = &mut bins[axis.bin(*at, LAG_BINS)];
        *bin = (*bin).max(*lag_us);
    }
    let max = bins.iter().copied().max().unwrap_or_default();
    let amounts = AmountAxis::linear(top, LAG_HEIGHT, max as f64);
    frame(picture, axis, &amounts, "consumers' lag: the largest", tick);
    let width = axis.width / LAG_BINS as f64;
    let mut shapes = Shapes::default();
    for (at, lag_us) in bins.iter().enumerate().filter(|(_, lag_us)| **lag_us > 0) {
        let y = amounts.y(*lag_us as f64);
        shapes.bar(
            axis.left + at as f64 * width,
            y,
            width,
            amounts.bottom() - y,
        );
    }
    picture.path("lag", shapes.as_str());
    amounts.bottom()
}

/// When, resident KiB, descriptors.
type Sample = (u64, u64, u64);
/// What is drawn of a sample, and when it was.
type Amount<'a> = &'a dyn Fn(&Sample) -> (u64, f64);

fn resources(
    picture: &mut Picture,
    axis: &TimeAxis,
    run: &Run<'_>,
    top: f64,
    (name, of): (&str, Amount<'_>),
) -> f64 {
    let max = run
        .resources
        .values()
        .flatten()
        .map(|sample| of(sample).1)
        .fold(0.0, f64::max);
    let amounts = AmountAxis::linear(top, RESOURCES_HEIGHT, max);
    frame(picture, axis, &amounts, name, |amount| count(whole(amount)));
    for (place, (node, samples)) in run.resources.iter().enumerate() {
        let mut line = Shapes::default();
        let mut drawn_at = -1.0;
        for (at, amount) in samples.iter().map(of) {
            let x = axis.x(at);
            if x - drawn_at >= 1.0 {
                line.point(x, amounts.y(amount));
                drawn_at = x;
            }
        }
        picture.path(&format!("curve hue-{}", place % super::HUES), line.as_str());
        if let Some((at, amount)) = samples.last().map(of) {
            let x = (axis.x(at) + 4.0).min(axis.right() - 40.0);
            // Names of nodes that use the same would cover each other.
            let y = amounts.y(amount) - 3.0;
            picture.text(
                &format!("small hue-text-{}", place % super::HUES),
                x + place as f64 * 14.0,
                y,
                Anchor::Start,
                &format!("n{node}"),
            );
        }
    }
    amounts.bottom()
}

/// A coordinate or amount without what stands after the point; 0 for what is negative.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "saturates, as wanted"
)]
pub(super) fn whole(amount: f64) -> u64 {
    amount.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Process, Read, Recorder};

    fn key() -> Key {
        Key {
            topic: "t".to_owned(),
            partition: 0,
        }
    }

    fn poll(last: i64) -> Op {
        Op::Poll {
            reads: vec![Read {
                key: key(),
                records: vec![(last, 1)],
                high_watermark: 99,
            }],
        }
    }

    #[test]
    fn a_poll_lags_since_a_later_record_was_known() {
        let history = Recorder::new();
        let sender = Process::Client(0);
        for (at, offset) in [(10, 0), (20, 1), (30, 2)] {
            let send = |offset| Op::Send {
                key: key(),
                values: vec![offset as u64],
                idempotent: true,
                offset: Some(offset),
            };
            history.invoke(at, sender, send(offset));
            history.ok(at + 5, sender, send(offset));
        }
        for (at, last) in [(100, 0), (200, 2)] {
            history.invoke(at, Process::Client(1), Op::Poll { reads: Vec::new() });
            history.ok(at + 5, Process::Client(1), poll(last));
        }
        let events = history.finish().unwrap();
        // Offset 1 was known from 25 on; nothing is known after offset 2.
        assert_eq!(lag_points(&Run::of(&events)), [(100, 75), (200, 0)]);
    }
}
