//! Lanes: which processes share a line of the picture, and their operations drawn in it.
//!
//! A client whose operation ended as unknown goes on under a new process number; the new one takes
//! the old one's lane, so that a lane is about one client. Sends stand in the upper half of a lane,
//! polls in the lower, everything else is a diamond between them.

use std::collections::BTreeMap;

use super::axis::{TimeAxis, duration, moment};
use super::operations::{Marks, Operation, Outcome, Run};
use super::svg::{Anchor, Picture, Shapes, number, shorten};
use super::words::{self, Focus};
use crate::history::Op;

/// Lanes at most; whoever has none shares the last.
const LANES_MAX: usize = 40;
const LANE_HEIGHT: f64 = 18.0;
const SEND_TOP: f64 = 2.0;
const SEND_HEIGHT: f64 = 8.0;
const POLL_TOP: f64 = 11.5;
const POLL_HEIGHT: f64 = 4.5;
/// Above the lanes: where the marks of anomalies stand.
pub(super) const MARKS_HEIGHT: f64 = 12.0;
/// Narrower operations are drawn as wide as this.
const WIDTH_MIN: f64 = 1.2;
/// Narrower operations beside each other become one bar.
const SINGLE_WIDTH_MIN: f64 = 3.0;
/// Operations of each outcome that say what they are when pointed at, beside anomalous ones.
const TITLED_MAX: usize = 600;
const TITLE_CHARS_MAX: usize = 240;

/// The lanes of a run.
pub(super) struct Lanes {
    by_process: BTreeMap<u32, usize>,
    /// The processes of each lane, in order.
    names: Vec<Vec<u32>>,
}

impl Lanes {
    pub(super) fn of(run: &Run<'_>) -> Lanes {
        let mut spans: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
        for operation in &run.operations {
            let (start, end) = (operation.start_us, operation.end_us);
            let span = spans.entry(operation.process).or_insert((start, end));
            span.1 = span.1.max(end);
        }
        let mut in_order: Vec<_> = spans.into_iter().collect();
        in_order.sort_by_key(|(process, (start, _))| (*start, *process));
        let mut lanes = Lanes {
            by_process: BTreeMap::new(),
            names: Vec::new(),
        };
        let mut free_from: Vec<u64> = Vec::new();
        for (process, (start, end)) in in_order {
            // The one that became free last: most likely the same client under a new number.
            let free = (0..free_from.len()).filter(|lane| free_from[*lane] <= start);
            let lane = free.max_by_key(|lane| free_from[*lane]).unwrap_or_else(|| {
                if free_from.len() < LANES_MAX {
                    free_from.push(0);
                    lanes.names.push(Vec::new());
                }
                free_from.len() - 1
            });
            free_from[lane] = free_from[lane].max(end);
            lanes.names[lane].push(process);
            lanes.by_process.insert(process, lane);
        }
        lanes
    }

    pub(super) fn height(&self) -> f64 {
        self.names.len() as f64 * LANE_HEIGHT
    }

    /// Draws all of them from `top` down.
    pub(super) fn draw(
        &self,
        picture: &mut Picture,
        axis: &TimeAxis,
        run: &Run<'_>,
        marks: &Marks,
        top: f64,
    ) {
        for (lane, processes) in self.names.iter().enumerate() {
            let y = top + lane as f64 * LANE_HEIGHT;
            if lane % 2 == 0 {
                picture.rect("stripe", [axis.left, y, axis.width, LANE_HEIGHT], "");
            }
            picture.text(
                "label",
                axis.left - 8.0,
                y + 10.5,
                Anchor::End,
                &lane_name(processes),
            );
        }
        self.draw_ordinary(picture, axis, run, marks, top);
        self.draw_marked(picture, axis, run, marks, top);
    }

    fn lane_of(&self, operation: &Operation<'_>) -> usize {
        self.by_process
            .get(&operation.process)
            .copied()
            .unwrap_or_default()
    }

    fn draw_ordinary(
        &self,
        picture: &mut Picture,
        axis: &TimeAxis,
        run: &Run<'_>,
        marks: &Marks,
        top: f64,
    ) {
        let mut shapes: BTreeMap<Class, Shapes> = BTreeMap::new();
        let mut bars: BTreeMap<(Class, usize), Bar> = BTreeMap::new();
        let mut titled: BTreeMap<Outcome, usize> = BTreeMap::new();
        for operation in run
            .operations
            .iter()
            .filter(|operation| marks.on(operation).is_empty())
        {
            let class = Class::of(operation);
            let lane = self.lane_of(operation);
            let y = top_of(lane, top);
            let (left, width) = extent(axis, operation);
            let is_wide = width >= SINGLE_WIDTH_MIN;
            let is_notable =
                operation.outcome != Outcome::Ok || is_wide || class.part == Part::Other;
            let titles = titled.entry(operation.outcome).or_default();
            if is_notable && *titles < TITLED_MAX {
                *titles += 1;
                let mut shape = Shapes::default();
                class.draw(&mut shape, left, y, width - 0.4);
                picture.titled_path(class.name(), shape.as_str(), &title(operation));
                continue;
            }
            let shapes = shapes.entry(class).or_default();
            if is_wide {
                class.draw(shapes, left, y, width - 0.6);
                continue;
            }
            match bars.get_mut(&(class, lane)) {
                Some(bar) if left <= bar.to + 0.7 && class.part != Part::Other => {
                    bar.to = bar.to.max(left + width)
                }
                // A pile of diamonds looks like one of them.
                Some(bar) if left <= bar.from + 2.0 && class.part == Part::Other => {}
                _ => {
                    let bar = Bar {
                        from: left,
                        to: left + width,
                    };
                    if let Some(done) = bars.insert((class, lane), bar) {
                        class.draw(shapes, done.from, y, done.to - done.from);
                    }
                }
            }
        }
        for ((class, lane), bar) in bars {
            class.draw(
                shapes.entry(class).or_default(),
                bar.from,
                top_of(lane, top),
                bar.to - bar.from,
            );
        }
        for (class, shapes) in shapes {
            picture.path(class.name(), shapes.as_str());
        }
    }

    /// What anomalies name: on top, large, loud, with a line through all lanes.
    fn draw_marked(
        &self,
        picture: &mut Picture,
        axis: &TimeAxis,
        run: &Run<'_>,
        marks: &Marks,
        top: f64,
    ) {
        for operation in &run.operations {
            let on = marks.on(operation);
            let Some(first) = on.first() else { continue };
            let y = top_of(self.lane_of(operation), top);
            let (left, width) = extent(axis, operation);
            let width = width.max(7.0);
            let left = left.min(axis.right() - width);
            picture.raw(&format!("<a href=\"#anomaly-{first}\">"));
            picture.rect(
                "loud-line",
                [left + width / 2.0 - 0.5, top, 1.0, self.height()],
                "",
            );
            let (x, tip) = (number(left + width / 2.0), number(top - 1.0));
            picture.path("loud", &format!("M{x} {tip}l-5 -9h10z"));
            let at = match Class::of(operation).part {
                Part::Send => [left, y - 1.0, width, 14.0],
                Part::Poll => [left, y + 6.0, width, 14.0],
                Part::Other => [left, y - 1.0, width, LANE_HEIGHT + 2.0],
            };
            picture.round_rect("loud", at, &title(operation));
            picture.raw("</a>");
        }
    }
}

/// Operations side by side that became one bar.
struct Bar {
    from: f64,
    to: f64,
}

/// What an operation looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Class {
    part: Part,
    outcome: Outcome,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Send,
    Poll,
    Other,
}

impl Class {
    fn of(operation: &Operation<'_>) -> Class {
        let part = match operation.op {
            Op::Send { .. } => Part::Send,
            Op::Poll { .. }
            | Op::ReplicaRead { .. }
            | Op::CompactedRead { .. }
            | Op::Assign { .. }
            | Op::Group(_) => Part::Poll,
            _ => Part::Other,
        };
        Class {
            part,
            outcome: operation.outcome,
        }
    }

    fn name(self) -> &'static str {
        match (self.part, self.outcome) {
            (_, Outcome::Fail) => "fail",
            (_, Outcome::Info) => "info",
            (Part::Send, Outcome::Ok) => "send",
            (Part::Poll, Outcome::Ok) => "poll",
            (Part::Other, Outcome::Ok) => "admin",
        }
    }

    /// Draws one in the lane whose top is `y`.
    fn draw(self, shapes: &mut Shapes, left: f64, y: f64, width: f64) {
        match self.part {
            Part::Send => shapes.bar(left, y + SEND_TOP, width, SEND_HEIGHT),
            Part::Poll => shapes.bar(left, y + POLL_TOP, width, POLL_HEIGHT),
            Part::Other => shapes.diamond(left, y + LANE_HEIGHT / 2.0, 4.0),
        }
    }
}

fn top_of(lane: usize, top: f64) -> f64 {
    top + lane as f64 * LANE_HEIGHT
}

fn extent(axis: &TimeAxis, operation: &Operation<'_>) -> (f64, f64) {
    let left = axis.x(operation.start_us);
    (left, (axis.x(operation.end_us) - left).max(WIDTH_MIN))
}

fn title(operation: &Operation<'_>) -> String {
    let lasted = operation.end_us - operation.start_us;
    let mut text = format!(
        "p{} {} {} at {}, {}",
        operation.process,
        words::operation(operation.op, Focus::default()),
        operation.outcome.as_str(),
        moment(operation.start_us),
        duration(lasted),
    );
    if let Some(error) = operation.error {
        text.push_str(": ");
        text.push_str(error);
    }
    shorten(&text, TITLE_CHARS_MAX)
}

fn lane_name(processes: &[u32]) -> String {
    match processes {
        [one] => format!("p{one}"),
        [first, second] => format!("p{first} p{second}"),
        [first, .., last] => format!("p{first} … p{last}"),
        [] => String::new(),
    }
}
