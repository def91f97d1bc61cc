//! The large picture: phases, faults, lanes and curves, one above the other on one axis of time.

use std::collections::BTreeMap;

use super::axis::{TimeAxis, duration, moment};
use super::charts;
use super::lanes::{Lanes, MARKS_HEIGHT};
use super::operations::{Band, Marks, Run};
use super::svg::{Anchor, Picture};
use super::{HUES, words};

pub(super) const WIDTH: f64 = 1340.0;
pub(super) const LEFT: f64 = 104.0;
pub(super) const RIGHT: f64 = 14.0;
const PHASES_HEIGHT: f64 = 22.0;
const FAULT_ROW_HEIGHT: f64 = 17.0;
/// Rows of faults at most; names beyond share the last.
const FAULT_ROWS_MAX: usize = 24;
/// Faults drawn at most.
const BANDS_MAX: usize = 2_000;
const AXIS_HEIGHT: f64 = 20.0;
/// A letter's width, about.
const LETTER: f64 = 5.4;

/// The axis of time that all pictures share.
pub(super) fn axis(run: &Run<'_>) -> TimeAxis {
    TimeAxis {
        left: LEFT,
        width: WIDTH - LEFT - RIGHT,
        end_us: run.end_us,
    }
}

/// The picture.
pub(super) fn draw(run: &Run<'_>, marks: &Marks) -> String {
    let axis = axis(run);
    let hues = Hues::of(run);
    let lanes = Lanes::of(run);
    let faults_height = hues.rows() as f64 * FAULT_ROW_HEIGHT;
    let lanes_top = PHASES_HEIGHT + faults_height + MARKS_HEIGHT;
    let lanes_bottom = lanes_top + lanes.height();

    // What lies behind everything needs the height, which is known at the end.
    let mut curves = Picture::new(WIDTH);
    let bottom = charts::draw(&mut curves, &axis, run, lanes_bottom + AXIS_HEIGHT);

    let mut picture = Picture::new(WIDTH);
    bands_behind(&mut picture, &axis, run, &hues, (lanes_top, bottom));
    fault_rows(&mut picture, &axis, run, &hues, PHASES_HEIGHT);
    lanes.draw(&mut picture, &axis, run, marks, lanes_top);
    times(&mut picture, &axis, lanes_bottom, bottom);
    picture.raw(&curves.into_body());
    phases(&mut picture, &axis, run, bottom);
    picture.close(
        bottom + AXIS_HEIGHT,
        "timeline of operations and faults, with rate and latency",
    )
}

/// Which colour and row a fault's name has.
pub(super) struct Hues<'a>(BTreeMap<&'a str, usize>);

impl<'a> Hues<'a> {
    pub(super) fn of(run: &Run<'a>) -> Hues<'a> {
        let mut names = BTreeMap::new();
        for band in &run.bands {
            let next = names.len();
            names.entry(band.name).or_insert(next);
        }
        Hues(names)
    }

    fn rows(&self) -> usize {
        self.0.len().min(FAULT_ROWS_MAX)
    }

    fn row(&self, name: &str) -> usize {
        self.0
            .get(name)
            .copied()
            .unwrap_or_default()
            .min(FAULT_ROWS_MAX - 1)
    }

    fn hue(&self, name: &str) -> usize {
        self.row(name) % HUES
    }
}

/// Each fault as a tinted column behind everything.
pub(super) fn bands_behind(
    picture: &mut Picture,
    axis: &TimeAxis,
    run: &Run<'_>,
    hues: &Hues<'_>,
    (top, bottom): (f64, f64),
) {
    for band in run.bands.iter().take(BANDS_MAX) {
        let (left, width) = extent(axis, band);
        picture.rect(
            &format!("band hue-fill-{}", hues.hue(band.name)),
            [left, top, width, bottom - top],
            "",
        );
    }
}

fn fault_rows(picture: &mut Picture, axis: &TimeAxis, run: &Run<'_>, hues: &Hues<'_>, top: f64) {
    for (name, _) in hues.0.iter().filter(|(_, row)| **row < FAULT_ROWS_MAX) {
        let y = top + hues.row(name) as f64 * FAULT_ROW_HEIGHT;
        picture.text("label", axis.left - 8.0, y + 11.5, Anchor::End, name);
        picture.line("grid", (axis.left, y + 7.5), (axis.right(), y + 7.5));
    }
    for band in run.bands.iter().take(BANDS_MAX) {
        let y = top + hues.row(band.name) as f64 * FAULT_ROW_HEIGHT;
        let (left, width) = extent(axis, band);
        let hue = hues.hue(band.name);
        let effect = if band.took_effect {
            ""
        } else {
            " (effect not seen)"
        };
        let title = format!(
            "{} of {}{effect}, {} for {}\n{}",
            band.name,
            words::nodes_named(band.nodes),
            moment(band.start_us),
            duration(band.end_us - band.start_us),
            band.detail
        );
        let class = if band.took_effect {
            format!("fault hue-fill-{hue}")
        } else {
            format!("fault-unseen hue-line-{hue}")
        };
        picture.round_rect(&class, [left, y, width, FAULT_ROW_HEIGHT - 3.0], &title);
        let nodes = band
            .nodes
            .iter()
            .map(|node| format!("n{node}"))
            .collect::<Vec<_>>()
            .join(" ");
        if nodes.chars().count() as f64 * LETTER < width - 4.0 {
            picture.text("fault-name", left + 4.0, y + 10.5, Anchor::Start, &nodes);
        }
    }
}

fn extent(axis: &TimeAxis, band: &Band<'_>) -> (f64, f64) {
    let left = axis.x(band.start_us);
    (left, (axis.x(band.end_us) - left).max(1.5))
}

/// Lines and labels of the axis of time, under the lanes and at the bottom.
fn times(picture: &mut Picture, axis: &TimeAxis, lanes_bottom: f64, bottom: f64) {
    for (at, label) in axis.ticks() {
        let x = axis.x(at);
        picture.line("grid", (x, lanes_bottom), (x, bottom + 4.0));
        if x + 20.0 < axis.right() {
            picture.text("label", x, lanes_bottom + 14.0, Anchor::Middle, &label);
            picture.text("label", x, bottom + 16.0, Anchor::Middle, &label);
        }
    }
}

fn phases(picture: &mut Picture, axis: &TimeAxis, run: &Run<'_>, bottom: f64) {
    let mut free_from = 0.0;
    for (name, at) in &run.phases {
        let x = axis.x(*at);
        picture.line("phase", (x, 4.0), (x, bottom));
        let width = name.chars().count() as f64 * 6.4 + 8.0;
        // Short phases at the end would write over each other.
        if x + 4.0 >= free_from && x + width < axis.right() + RIGHT {
            picture.text("phase-name", x + 4.0, 13.0, Anchor::Start, name);
            free_from = x + width;
        }
    }
}
