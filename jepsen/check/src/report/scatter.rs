//! One partition over time: each offset where it was acknowledged and first polled, with what an
//! anomaly names marked large.

use std::collections::BTreeSet;

use super::axis::AmountAxis;
use super::charts::whole;
use super::offsets::{Offsets, is_about_reading};
use super::operations::{Operation, Outcome, Run};
use super::svg::{Anchor, Picture, Shapes};
use super::timeline::{self, Hues};
use crate::check::verdict::Anomaly;
use crate::history::{Key, Op, Value};

const TOP: f64 = 12.0;
const HEIGHT: f64 = 210.0;
const BOTTOM: f64 = 22.0;
const POINT_CELL: f64 = 2.0;
const LABELS_MAX: usize = 40;
/// Values written of an offset that has several.
const RIVALS_NAMED_MAX: usize = 4;
/// Values marked at most.
const MARKED_MAX: usize = 400;
/// Processes whose way through the offsets is drawn.
const READERS_MAX: usize = 6;
/// Polls of such a process drawn before and after those that an anomaly names.
const POLLS_AROUND: usize = 20;

/// Where one value was seen: when, and at which offset.
type Point = (u64, i64);

/// The picture.
pub(super) fn draw(
    run: &Run<'_>,
    key: &Key,
    offsets: &Offsets,
    anomalies: &[(usize, &Anomaly)],
) -> String {
    let axis = timeline::axis(run);
    let last = offsets
        .last()
        .unwrap_or(0)
        .max(offsets.bad_offsets.last().copied().unwrap_or(0));
    let amounts = AmountAxis::between(TOP, HEIGHT, 0.0, last as f64 + 1.0);
    let mut picture = Picture::new(timeline::WIDTH);
    timeline::bands_behind(
        &mut picture,
        &axis,
        run,
        &Hues::of(run),
        (TOP, amounts.bottom()),
    );
    for amount in amounts.ticks() {
        let y = amounts.y(amount);
        picture.line("grid", (axis.left, y), (axis.right(), y));
        picture.text(
            "label",
            axis.left - 8.0,
            y + 3.5,
            Anchor::End,
            &format!("{amount:.0}"),
        );
    }
    for (at, label) in axis.ticks() {
        let x = axis.x(at);
        picture.line("grid", (x, TOP), (x, amounts.bottom() + 4.0));
        if x + 20.0 < axis.right() {
            picture.text("label", x, amounts.bottom() + 16.0, Anchor::Middle, &label);
        }
    }
    let place = |(at, offset): Point| (axis.x(at), amounts.y(offset as f64));
    let acknowledged = offsets
        .sent
        .values()
        .filter_map(|sent| Some((sent.done_us, sent.offset?)));
    picture.path("dot-send", thinned(acknowledged.map(place)).as_str());
    let polled = offsets
        .polled
        .iter()
        .flat_map(|(offset, values)| values.values().map(|seen| (seen.first_us, *offset)));
    picture.path("dot-poll", thinned(polled.map(place)).as_str());
    readers(&mut picture, run, key, anomalies, &place);
    marked(&mut picture, offsets, run.end_us, &place);
    picture.close(
        amounts.bottom() + BOTTOM,
        &format!("offsets of {key} over time"),
    )
}

fn thinned(points: impl Iterator<Item = (f64, f64)>) -> Shapes {
    let mut taken = BTreeSet::new();
    let mut shapes = Shapes::default();
    for (x, y) in points {
        if taken.insert((whole(x / POINT_CELL), whole(y / POINT_CELL))) {
            shapes.dot(x, y);
        }
    }
    shapes
}

/// The way of processes that read in a wrong order.
fn readers(
    picture: &mut Picture,
    run: &Run<'_>,
    key: &Key,
    anomalies: &[(usize, &Anomaly)],
    place: &dyn Fn(Point) -> (f64, f64),
) {
    let named: BTreeSet<u64> = anomalies
        .iter()
        .filter(|(_, anomaly)| is_about_reading(anomaly.name))
        .flat_map(|(_, anomaly)| anomaly.events.iter().copied())
        .collect();
    let is_named = |operation: &&Operation<'_>| {
        named.contains(&operation.invoked)
            || operation
                .completed
                .is_some_and(|event| named.contains(&event))
    };
    let processes: BTreeSet<u32> = run
        .operations
        .iter()
        .filter(is_named)
        .map(|operation| operation.process)
        .collect();
    for process in processes.into_iter().take(READERS_MAX) {
        let polls: Vec<_> = run
            .operations
            .iter()
            .filter(|operation| operation.process == process && operation.outcome == Outcome::Ok)
            .collect();
        let first = polls.iter().position(is_named).unwrap_or_default();
        let last = polls.iter().rposition(is_named).unwrap_or_default();
        let mut way = Shapes::default();
        for operation in polls
            .iter()
            .take(last + POLLS_AROUND + 1)
            .skip(first.saturating_sub(POLLS_AROUND))
        {
            let Op::Poll { reads } = operation.op else {
                continue;
            };
            for (offset, _) in reads
                .iter()
                .filter(|read| read.key == *key)
                .flat_map(|read| &read.records)
            {
                let (x, y) = place((operation.end_us, *offset));
                way.point(x, y);
            }
        }
        picture.path("reader", way.as_str());
    }
    for operation in run.operations.iter().filter(is_named) {
        let Op::Poll { reads } = operation.op else {
            continue;
        };
        for read in reads.iter().filter(|read| read.key == *key) {
            for (offset, value) in read.records.first().into_iter().chain(read.records.last()) {
                let at = place((operation.end_us, *offset));
                picture.circle(
                    "loud-ring",
                    at,
                    4.0,
                    &format!("p{} polled {value} at {offset}", operation.process),
                );
            }
        }
    }
}

/// What anomalies name: where each value was seen, joined when at several offsets; where several
/// values share an offset, joined along it; what never came, as a line that ends in a cross.
fn marked(
    picture: &mut Picture,
    offsets: &Offsets,
    end_us: u64,
    place: &dyn Fn(Point) -> (f64, f64),
) {
    let mut labels = Labels::default();
    rivals(picture, offsets, place, &mut labels);
    for value in offsets.bad_values.iter().take(MARKED_MAX) {
        let points = points_of(offsets, *value);
        for pair in points.windows(2).filter(|pair| pair[0].1 != pair[1].1) {
            picture.line("loud-join", place(pair[0]), place(pair[1]));
        }
        let sent = offsets.sent.get(value);
        let acknowledged = sent
            .filter(|sent| sent.outcome == Outcome::Ok)
            .and_then(|sent| Some((sent.done_us, sent.offset?)));
        if let Some(from) = acknowledged.filter(|_| !offsets.is_polled(*value)) {
            let (x, y) = place((end_us, from.1));
            picture.line("loud-join", place(from), (x, y));
            let cross = format!("M{x:.1} {y:.1}m-5 -5l10 10m0 -10l-10 10");
            picture.path("loud-cross", &cross);
        }
        for point in points {
            let at = place(point);
            let title = format!("{value} at offset {}", point.1);
            picture.circle("loud-dot", at, 4.5, &title);
            labels.write(picture, at, &value.to_string());
        }
    }
}

/// Offsets of several values, joined along the offset.
fn rivals(
    picture: &mut Picture,
    offsets: &Offsets,
    place: &dyn Fn(Point) -> (f64, f64),
    labels: &mut Labels,
) {
    for offset in offsets.bad_offsets.iter().take(MARKED_MAX) {
        let values = offsets.values_at(*offset);
        if values.len() < 2 {
            continue;
        }
        let mut points: Vec<(Point, Value)> = Vec::new();
        for value in &values {
            let here = points_of(offsets, *value);
            points.extend(
                here.into_iter()
                    .filter(|point| point.1 == *offset)
                    .map(|point| (point, *value)),
            );
        }
        points.sort_unstable();
        let (Some((first, _)), Some((last, _))) = (points.first(), points.last()) else {
            continue;
        };
        picture.line("loud-join", place(*first), place(*last));
        for (point, value) in &points {
            let title = format!("{value} at offset {offset}");
            picture.circle("loud-dot", place(*point), 4.5, &title);
        }
        let names: Vec<_> = values
            .iter()
            .take(RIVALS_NAMED_MAX)
            .map(Value::to_string)
            .collect();
        labels.write(picture, place(*last), &names.join(" ≠ "));
    }
}

/// Where a value was acknowledged and first polled, in the order of time.
fn points_of(offsets: &Offsets, value: Value) -> Vec<Point> {
    let sent = offsets
        .sent
        .get(&value)
        .and_then(|sent| Some((sent.done_us, sent.offset?)));
    let mut points: Vec<Point> = sent.into_iter().collect();
    for offset in offsets.homes.get(&value).into_iter().flatten() {
        if let Some(seen) = offsets
            .polled
            .get(offset)
            .and_then(|values| values.get(&value))
        {
            points.push((seen.first_us, *offset));
        }
        for held in offsets
            .held
            .values()
            .filter(|held| held.records.get(offset) == Some(&value))
        {
            points.push((held.at_us, *offset));
        }
    }
    points.sort_unstable();
    points.dedup();
    points
}

/// Labels that do not cover each other.
#[derive(Default)]
struct Labels(Vec<(f64, f64)>);

impl Labels {
    fn write(&mut self, picture: &mut Picture, (x, y): (f64, f64), text: &str) {
        let is_free = self
            .0
            .iter()
            .all(|(left, top)| (left - x).abs() > 60.0 || (top - y).abs() > 11.0);
        if is_free && self.0.len() < LABELS_MAX {
            self.0.push((x, y));
            let near_end = x > timeline::WIDTH - 90.0;
            let (x, anchor) = if near_end {
                (x - 8.0, Anchor::End)
            } else {
                (x + 8.0, Anchor::Start)
            };
            picture.text("loud-label", x, y - 5.0, anchor, text);
        }
    }
}
