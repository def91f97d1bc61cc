//! What came of the rows: a line of JSON for each round and each goal, and a table.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use super::Bench;
use super::json::Json;
use super::rounds::figures_json;
use super::rows::{Bound, Contender, Goal, Metric, On, Row};
use super::stats::{Stats, shown, spread};
use super::trouble::Trouble;
use super::work::Sample;

/// What came of a goal.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Outcome {
    pub(super) row: &'static str,
    pub(super) about: &'static str,
    pub(super) metric: Metric,
    pub(super) bound: Bound,
    /// Who is measured, and by whom it is divided.
    pub(super) ours: String,
    pub(super) theirs: Option<String>,
    pub(super) found: Result<Found, Trouble>,
}

/// The figures of all rounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Found {
    pub(super) ours: Stats,
    /// Theirs, and the ratios of the rounds.
    pub(super) theirs: Option<(Stats, Stats)>,
}

impl Outcome {
    /// Compares what the rounds gave.
    pub(super) fn of(row: &Row, goal: &Goal, results: &[Result<Vec<Sample>, Trouble>]) -> Outcome {
        let label = |at: usize| row.contenders[at].label.clone();
        Outcome {
            row: row.name,
            about: row.about,
            metric: goal.metric,
            bound: goal.bound,
            ours: label(goal.of),
            theirs: goal.over.map(label),
            found: found(goal, results),
        }
    }

    /// The figure that the goal is about: the ratio where there is one.
    fn deciding(&self) -> Option<f64> {
        let found = self.found.as_ref().ok()?;
        let ratios = found.theirs.map(|(_, ratios)| ratios.median);
        Some(ratios.unwrap_or(found.ours.median))
    }

    /// Whether the median is where it shall be; `None`: there is no goal, or no figure.
    pub(super) fn is_met(&self) -> Option<bool> {
        let figure = self.deciding()?;
        match self.bound {
            Bound::AtLeast(least) => Some(figure >= least),
            Bound::AtMost(most) => Some(figure <= most),
            Bound::None => None,
        }
    }

    fn goal_shown(&self) -> String {
        let times = if self.theirs.is_some() { " x" } else { "" };
        match self.bound {
            Bound::AtLeast(least) => format!("≥ {}{times}", shown(least)),
            Bound::AtMost(most) => format!("≤ {}{times}", shown(most)),
            Bound::None => String::new(),
        }
    }

    fn verdict(&self) -> String {
        match (&self.found, self.is_met()) {
            (Err(trouble), _) => trouble.to_string(),
            (Ok(_), Some(true)) => "met".to_owned(),
            (Ok(_), Some(false)) => "**missed**".to_owned(),
            (Ok(_), None) => String::new(),
        }
    }

    /// As a row of the table. Without figures there is not one number in it.
    pub(super) fn cells(&self) -> [String; 7] {
        let theirs = self.theirs.clone().unwrap_or_default();
        let [our_figures, their_figures, ratio] = match &self.found {
            Err(_) => [self.ours.clone(), theirs, String::new()],
            Ok(found) => {
                let ours = format!("{}: {}", self.ours, spread(found.ours));
                match found.theirs {
                    None => [ours, String::new(), String::new()],
                    Some((stats, ratios)) => {
                        let theirs = format!("{theirs}: {}", spread(stats));
                        [ours, theirs, spread(ratios)]
                    }
                }
            }
        };
        [
            self.row.to_owned(),
            self.metric.name.to_owned(),
            our_figures,
            their_figures,
            ratio,
            self.goal_shown(),
            self.verdict(),
        ]
    }

    fn json(&self) -> Json {
        let text = |text: &Option<String>| text.as_ref().map_or(Json::Null, Json::text);
        let mut fields = vec![
            ("row", Json::text(self.row)),
            ("about", Json::text(self.about)),
            ("metric", Json::text(self.metric.key)),
            ("ours", Json::text(&self.ours)),
            ("theirs", text(&self.theirs)),
            ("goal", Json::text(self.goal_shown())),
            ("met", self.is_met().map_or(Json::Null, Json::Bool)),
        ];
        match &self.found {
            Err(trouble) => fields.push(("trouble", Json::text(trouble.to_string()))),
            Ok(found) => {
                fields.push(("our_figures", stats_json(found.ours)));
                if let Some((theirs, ratios)) = found.theirs {
                    fields.push(("their_figures", stats_json(theirs)));
                    fields.push(("ratios", stats_json(ratios)));
                }
            }
        }
        let fields = fields.into_iter();
        Json::Object(
            fields
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
        )
    }
}

fn found(goal: &Goal, results: &[Result<Vec<Sample>, Trouble>]) -> Result<Found, Trouble> {
    let ours = figures(goal.metric, &results[goal.of])?;
    let none = || Trouble::Failed(format!("there is no {} of every round", goal.metric.name));
    let theirs = match goal.over {
        None => None,
        Some(over) => {
            let theirs = figures(goal.metric, &results[over])?;
            let ratios = Stats::of_ratios(&ours, &theirs).ok_or_else(none)?;
            Some((Stats::of(&theirs).ok_or_else(none)?, ratios))
        }
    };
    let ours = Stats::of(&ours).ok_or_else(none)?;
    Ok(Found { ours, theirs })
}

/// The figure of every round; without that of one there is none.
fn figures(metric: Metric, result: &Result<Vec<Sample>, Trouble>) -> Result<Vec<f64>, Trouble> {
    let samples = result.as_ref().map_err(Trouble::clone)?;
    let figure = |sample: &Sample| {
        let none = || Trouble::Failed(format!("a round has no {}", metric.name));
        sample.figure(metric).ok_or_else(none)
    };
    samples.iter().map(figure).collect()
}

fn stats_json(stats: Stats) -> Json {
    Json::object([
        ("median", Json::number(stats.median)),
        ("min", Json::number(stats.min)),
        ("max", Json::number(stats.max)),
    ])
}

const HEAD: [&str; 7] = ["row", "figure", "measured", "against", "ratio", "goal", ""];

/// A table that can be read as it stands, and as Markdown.
pub(super) fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = head.map(|cell| cell.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let padded = |cell: &str, width: usize| {
        // A bar would end the cell.
        let cell = cell.replace('|', "/");
        let missing = width.saturating_sub(cell.chars().count());
        cell + &" ".repeat(missing)
    };
    let row_line = |cells: &[&str]| {
        let cells = cells.iter().zip(widths);
        line(cells.map(|(cell, width)| padded(cell, width)).collect())
    };
    let mut text = row_line(&head);
    text += &line(
        widths
            .iter()
            .map(|width| "-".repeat((*width).max(3)))
            .collect(),
    );
    for row in rows {
        let cells: Vec<&str> = row.iter().map(String::as_str).collect();
        text += &row_line(&cells);
    }
    text
}

/// All outcomes, and the file of results.
pub(super) struct Report {
    file: File,
    path: PathBuf,
    pub(super) outcomes: Vec<Outcome>,
    pub(super) load_averages: Vec<f64>,
}

impl Report {
    /// With an empty file.
    pub(super) fn open(path: PathBuf) -> Result<Report, String> {
        let file = File::create(&path);
        let file = file.map_err(|problem| format!("cannot make {}: {problem}", path.display()))?;
        Ok(Report {
            file,
            path,
            outcomes: Vec::new(),
            load_averages: Vec::new(),
        })
    }

    fn write(&mut self, line: &Json) -> Result<(), String> {
        let written = writeln!(self.file, "{line}");
        written.map_err(|problem| format!("cannot write {}: {problem}", self.path.display()))
    }

    /// Writes down what came of a round.
    pub(super) fn note_round(
        &mut self,
        bench: &Bench,
        row: &Row,
        contender: &Contender,
        round: usize,
        load_average: &[f64],
        outcome: &Result<Sample, Trouble>,
    ) -> Result<(), String> {
        self.load_averages.extend(load_average.first());
        let (version, settings, nodes) = match contender.on {
            On::Machine => (Json::Null, Json::Null, 0),
            On::Peer(peer, nodes) => (
                peer.version(bench).map_or(Json::Null, Json::text),
                Json::text(peer.settings(nodes)),
                nodes,
            ),
        };
        let (figures, said, trouble) = match outcome {
            Ok(sample) => (figures_json(sample), sample.said.clone(), Json::Null),
            Err(trouble) => (Json::Null, Json::Null, Json::text(trouble.to_string())),
        };
        let averages = load_average.iter().map(|average| Json::number(*average));
        self.write(&Json::object([
            ("kind", Json::text("round")),
            ("at", Json::text(super::machine::now()?)),
            ("row", Json::text(row.name)),
            ("round", Json::Number(round.to_string())),
            ("contender", Json::text(&contender.label)),
            ("version", version),
            ("nodes", Json::Number(nodes.to_string())),
            ("settings", settings),
            ("load", Json::text(contender.work.shown())),
            ("load_average", Json::Array(averages.collect())),
            ("figures", figures),
            ("trouble", trouble),
            ("said", said),
            ("machine", bench.machine.json()),
            ("limits", bench.limits_measured.clone()),
        ]))
    }

    /// Writes down what came of a goal.
    pub(super) fn add(&mut self, bench: &Bench, outcome: Outcome) -> Result<(), String> {
        self.write(&Json::object([
            ("kind", Json::text("goal")),
            ("rounds", Json::Number(bench.options.rounds.to_string())),
            ("outcome", outcome.json()),
            ("machine", bench.machine.json()),
            ("limits", bench.limits_measured.clone()),
        ]))?;
        self.outcomes.push(outcome);
        Ok(())
    }

    /// The table of all goals.
    pub(super) fn table(&self) -> String {
        let rows: Vec<_> = self.outcomes.iter().map(Outcome::cells).collect();
        table(HEAD, &rows)
    }

    /// Whether there are figures for everything that was asked for, met or not.
    pub(super) fn is_whole(&self) -> bool {
        !self.outcomes.is_empty() && self.outcomes.iter().all(|outcome| outcome.found.is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::super::peers::Peer;
    use super::super::rows::{MB_PER_SECOND, P99, Work};
    use super::*;

    fn row(bound: Bound, over: Option<usize>) -> Row {
        let contender = |label: &str| Contender {
            label: label.to_owned(),
            on: On::Peer(Peer::Kafka, 1),
            work: Work::Idle,
        };
        Row {
            name: "r",
            about: "a row",
            contenders: vec![contender("us"), contender("them")],
            goals: vec![Goal {
                metric: MB_PER_SECOND,
                of: 0,
                over,
                bound,
            }],
        }
    }

    fn samples(figures: &[f64]) -> Result<Vec<Sample>, Trouble> {
        let sample = |figure: &f64| Sample {
            figures: vec![(MB_PER_SECOND, *figure)],
            said: Json::Null,
        };
        Ok(figures.iter().map(sample).collect())
    }

    #[test]
    fn a_goal_is_met_by_the_median_of_the_ratios() {
        let results = [
            samples(&[120.0, 90.0, 121.0]),
            samples(&[100.0, 100.0, 110.0]),
        ];
        let row_of = |least| row(Bound::AtLeast(least), Some(1));
        let outcome = |least: f64| {
            let row = row_of(least);
            Outcome::of(&row, &row.goals[0], &results)
        };
        assert_eq!(outcome(1.1).is_met(), Some(true));
        assert_eq!(outcome(1.11).is_met(), Some(false));
        let cells = outcome(1.1).cells();
        assert_eq!(cells[2], "us: 120 (90.0 to 121)");
        assert_eq!(cells[3], "them: 100 (100 to 110)");
        assert_eq!(cells[4], "1.10 (0.900 to 1.20)");
        assert_eq!((cells[5].as_str(), cells[6].as_str()), ("≥ 1.10 x", "met"));
        assert!(outcome(2.0).cells()[6].contains("missed"));
    }

    #[test]
    fn a_bound_alone_holds_for_the_figure() {
        let row = row(Bound::AtMost(50.0), None);
        let outcome = Outcome::of(&row, &row.goals[0], &[samples(&[40.0, 60.0, 50.0])]);
        assert_eq!(outcome.is_met(), Some(true));
        assert_eq!(outcome.cells()[5], "≤ 50.0");
    }

    #[test]
    fn where_one_has_failed_there_is_no_number() {
        let failed = || Err(Trouble::Failed("3 records lost".to_owned()));
        let row = row(Bound::AtLeast(1.0), Some(1));
        for results in [[samples(&[1.0]), failed()], [failed(), samples(&[1.0])]] {
            let outcome = Outcome::of(&row, &row.goals[0], &results);
            let cells = outcome.cells();
            assert_eq!(cells[6], "FAILED: 3 records lost");
            let digits = |cell: &String| cell.chars().any(|c| c.is_ascii_digit());
            assert!(!cells[..5].iter().any(digits), "{cells:?}");
            assert_eq!(outcome.is_met(), None);
            assert!(outcome.json().at("our_figures").is_none());
        }
    }

    #[test]
    fn a_figure_that_a_round_lacks_is_a_failure() {
        let mut row = row(Bound::None, None);
        row.goals[0].metric = P99;
        let outcome = Outcome::of(&row, &row.goals[0], &[samples(&[1.0])]);
        assert!(matches!(outcome.found, Err(Trouble::Failed(_))));
        let none = Outcome::of(&row, &row.goals[0], &[Ok(Vec::new())]);
        assert!(none.found.is_err());
    }

    #[test]
    fn a_table_is_aligned_and_bars_do_not_break_it() {
        let rows = [["a|b".to_owned(), "≥ 1".to_owned()]];
        let expected = "| x   | goal |\n| --- | ---- |\n| a/b | ≥ 1  |\n";
        assert_eq!(table(["x", "goal"], &rows), expected);
    }
}
