//! One partition drawn out: a row for each offset that matters and its neighbours, a column for
//! each witness (the sender, the polls, every replica), so that what is missing, there twice or
//! different stands out.

use std::collections::{BTreeMap, BTreeSet};

use super::axis::moment;
use super::offsets::{Held, Offsets};
use super::operations::Outcome;
use super::svg::{Anchor, Picture, shorten};
use crate::history::Value;

const LEFT: f64 = 54.0;
const OFFSET_WIDTH: f64 = 66.0;
const SENT_WIDTH: f64 = 200.0;
const POLLED_WIDTH: f64 = 200.0;
const NODE_WIDTH: f64 = 104.0;
const HEADER_HEIGHT: f64 = 26.0;
const ROW_HEIGHT: f64 = 21.0;
const BREAK_HEIGHT: f64 = 16.0;
/// Width of a letter of the cells, about.
const LETTER: f64 = 6.3;
/// Colours for several values at one offset.
const RIVALS: usize = 3;

/// The picture; `None` when no offset matters.
pub(super) fn draw(offsets: &Offsets, name: &str) -> Option<String> {
    let (window, left_out) = offsets.window();
    let homeless = offsets.homeless();
    if window.is_empty() && homeless.is_empty() {
        return None;
    }
    let nodes: Vec<u32> = offsets.held.keys().copied().collect();
    let columns = Columns::new(&nodes);
    let mut grid = Grid {
        picture: Picture::new(columns.right),
        columns,
        offsets,
        nodes,
        rows: BTreeMap::new(),
    };
    grid.header();
    let mut y = HEADER_HEIGHT;
    let mut before: Option<i64> = None;
    for offset in window {
        if let Some(between) = before
            .map(|before| offset - before - 1)
            .filter(|between| *between > 0)
        {
            grid.picture.text(
                "label",
                LEFT + 4.0,
                y + 11.5,
                Anchor::Start,
                &format!("⋮ {between} between"),
            );
            y += BREAK_HEIGHT;
        }
        grid.row(offset, y);
        y += ROW_HEIGHT;
        before = Some(offset);
    }
    for value in homeless {
        grid.nowhere(value, y);
        y += ROW_HEIGHT;
    }
    if left_out > 0 {
        grid.picture.text(
            "label",
            LEFT + 4.0,
            y + 13.0,
            Anchor::Start,
            &format!("⋮ and {left_out} offsets more that anomalies name"),
        );
        y += BREAK_HEIGHT;
    }
    grid.arcs();
    Some(grid.picture.close(y + 6.0, name))
}

/// Where the columns stand.
struct Columns {
    sent: f64,
    polled: f64,
    nodes: f64,
    right: f64,
}

impl Columns {
    fn new(nodes: &[u32]) -> Columns {
        let sent = LEFT + OFFSET_WIDTH;
        let polled = sent + SENT_WIDTH;
        let nodes_left = polled + POLLED_WIDTH;
        Columns {
            sent,
            polled,
            nodes: nodes_left,
            right: nodes_left + nodes.len() as f64 * NODE_WIDTH + 2.0,
        }
    }
}

/// What a cell shows.
enum Cell {
    /// Nothing, rightly.
    Empty(&'static str),
    /// Nothing, though another witness has something.
    Missing(String),
    /// A value, in a class, with what is to be said of it.
    Value { class: &'static str, text: String },
}

struct Grid<'a> {
    picture: Picture,
    columns: Columns,
    offsets: &'a Offsets,
    nodes: Vec<u32>,
    /// The middle of each offset's row.
    rows: BTreeMap<i64, f64>,
}

impl Grid<'_> {
    fn header(&mut self) {
        let y = HEADER_HEIGHT - 9.0;
        self.picture
            .text("head", self.columns.sent - 12.0, y, Anchor::End, "offset");
        self.picture
            .text("head", self.columns.sent + 4.0, y, Anchor::Start, "sent");
        self.picture.text(
            "head",
            self.columns.polled + 4.0,
            y,
            Anchor::Start,
            "polled",
        );
        for (place, node) in self.nodes.iter().enumerate() {
            let x = self.columns.nodes + place as f64 * NODE_WIDTH + 4.0;
            self.picture
                .text("head", x, y, Anchor::Start, &format!("node {node} has"));
        }
    }

    fn row(&mut self, offset: i64, y: f64) {
        let there = self.offsets.values_at(offset);
        let is_bad = self.offsets.bad_offsets.contains(&offset);
        if is_bad {
            self.picture.rect(
                "row-bad",
                [LEFT, y, self.columns.right - LEFT, ROW_HEIGHT],
                "",
            );
        }
        let class = if is_bad { "offset-bad" } else { "offset" };
        self.picture.text(
            class,
            self.columns.sent - 12.0,
            y + 14.5,
            Anchor::End,
            &offset.to_string(),
        );
        self.rows.insert(offset, y + ROW_HEIGHT / 2.0);

        let sent = self.sent_cells(offset, &there);
        self.cells(self.columns.sent, y, SENT_WIDTH, &sent);
        let polled = self.polled_cells(offset, &there);
        self.cells(self.columns.polled, y, POLLED_WIDTH, &polled);
        for (place, node) in self.nodes.clone().into_iter().enumerate() {
            let held = self
                .offsets
                .held
                .get(&node)
                .map(|held| self.held_cell(held, offset, &there));
            let x = self.columns.nodes + place as f64 * NODE_WIDTH;
            self.cells(x, y, NODE_WIDTH, held.as_slice());
        }
    }

    /// A value that an anomaly names and nobody has.
    fn nowhere(&mut self, value: Value, y: f64) {
        self.picture.rect(
            "row-bad",
            [LEFT, y, self.columns.right - LEFT, ROW_HEIGHT],
            "",
        );
        self.picture.text(
            "offset-bad",
            self.columns.sent - 12.0,
            y + 14.5,
            Anchor::End,
            "nowhere",
        );
        let sent = Cell::Value {
            class: "cell-bad",
            text: self.sender(value),
        };
        self.cells(self.columns.sent, y, SENT_WIDTH, &[sent]);
        self.cells(
            self.columns.polled,
            y,
            POLLED_WIDTH,
            &[Cell::Missing("by nobody".to_owned())],
        );
        for place in 0..self.nodes.len() {
            let x = self.columns.nodes + place as f64 * NODE_WIDTH;
            self.cells(x, y, NODE_WIDTH, &[Cell::Missing("missing".to_owned())]);
        }
    }

    fn sent_cells(&self, offset: i64, there: &BTreeSet<Value>) -> Vec<Cell> {
        let acknowledged = self.offsets.acknowledged.get(&offset);
        // What was acknowledged here; otherwise whoever sent what stands here.
        let shown: Vec<Value> = match acknowledged {
            Some(values) => values.clone(),
            None => there.iter().copied().collect(),
        };
        let cell = |value: &Value| Cell::Value {
            class: self.class(*value, there),
            text: self.sender(*value),
        };
        let mut cells: Vec<Cell> = shown.iter().map(cell).collect();
        if cells.is_empty() {
            cells.push(Cell::Empty("–"));
        }
        cells
    }

    fn sender(&self, value: Value) -> String {
        match self.offsets.sent.get(&value) {
            None => format!("{value} by nobody"),
            Some(sent) => {
                let mark = match sent.outcome {
                    Outcome::Ok => "✓",
                    Outcome::Fail => "✗",
                    Outcome::Info => "?",
                };
                format!("{value} p{} {mark} {}", sent.process, moment(sent.done_us))
            }
        }
    }

    fn polled_cells(&self, offset: i64, there: &BTreeSet<Value>) -> Vec<Cell> {
        match self.offsets.polled.get(&offset) {
            Some(values) => values
                .iter()
                .map(|(value, seen)| Cell::Value {
                    class: self.class(*value, there),
                    text: format!(
                        "{value} ×{} p{} {}",
                        seen.times,
                        seen.first_process,
                        moment(seen.first_us)
                    ),
                })
                .collect(),
            None if there.is_empty() => vec![Cell::Empty("–")],
            None => vec![Cell::Missing("by nobody".to_owned())],
        }
    }

    fn held_cell(&self, held: &Held, offset: i64, there: &BTreeSet<Value>) -> Cell {
        match held.records.get(&offset) {
            Some(value) => Cell::Value {
                class: self.class(*value, there),
                text: value.to_string(),
            },
            None if there.is_empty() => Cell::Empty("–"),
            None if offset < held.log_start => Cell::Empty("trimmed"),
            None if offset >= held.end => Cell::Missing(format!("ends at {}", held.end)),
            None => Cell::Missing("missing".to_owned()),
        }
    }

    /// How a value looks at an offset where `there` are seen.
    fn class(&self, value: Value, there: &BTreeSet<Value>) -> &'static str {
        if there.len() > 1 {
            let place = there
                .iter()
                .position(|one| *one == value)
                .unwrap_or_default();
            return ["cell-rival-0", "cell-rival-1", "cell-rival-2"][place % RIVALS];
        }
        if self.offsets.homes_count(value) > 1 {
            return "cell-twice";
        }
        if self.offsets.bad_values.contains(&value) {
            return "cell-bad";
        }
        match self.offsets.sent.get(&value).map(|sent| sent.outcome) {
            Some(Outcome::Ok) => "cell",
            Some(Outcome::Info) => "cell-info",
            Some(Outcome::Fail) | None => "cell-bad",
        }
    }

    /// Cells that share a column's width.
    fn cells(&mut self, x: f64, y: f64, width: f64, cells: &[Cell]) {
        let each = width / cells.len().max(1) as f64;
        for (place, cell) in cells.iter().enumerate() {
            let left = x + place as f64 * each;
            let at = [left + 1.5, y + 2.0, each - 3.0, ROW_HEIGHT - 4.0];
            let (class, text_class, text) = match cell {
                Cell::Empty(text) => ("", "cell-dim", (*text).to_owned()),
                Cell::Missing(text) => ("cell-missing", "cell-missing-text", text.clone()),
                Cell::Value { class, text } => (*class, "cell-text", text.clone()),
            };
            if !class.is_empty() {
                self.picture.round_rect(class, at, &text);
            }
            let letters_max = super::charts::whole((each - 10.0) / LETTER)
                .try_into()
                .unwrap_or(1);
            self.picture.text(
                text_class,
                left + 6.0,
                y + 14.5,
                Anchor::Start,
                &shorten(&text, letters_max),
            );
        }
    }

    /// A bow between the rows of a value that stands in several.
    fn arcs(&mut self) {
        let mut place = 0;
        for (value, homes) in self
            .offsets
            .homes
            .iter()
            .filter(|(value, homes)| homes.len() > 1 && self.offsets.bad_values.contains(value))
        {
            let rows: Vec<f64> = homes
                .iter()
                .filter_map(|offset| self.rows.get(offset).copied())
                .collect();
            for pair in rows.windows(2) {
                let depth = 14.0 + f64::from(place % 4) * 9.0;
                let (from, to) = (pair[0], pair[1]);
                self.picture.path(
                    "arc",
                    &format!(
                        "M{LEFT} {from:.1}C{x:.1} {from:.1} {x:.1} {to:.1} {LEFT} {to:.1}",
                        x = LEFT - depth * 1.33
                    ),
                );
                place += 1;
            }
            if let (Some(first), Some(last)) = (rows.first(), rows.last()) {
                let middle = (first + last) / 2.0;
                let _ = value;
                self.picture
                    .text("twice-label", 2.0, middle + 3.5, Anchor::Start, "twice");
            }
        }
    }
}
