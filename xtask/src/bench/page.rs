//! The section of a page that results are written to, between two marks; the rest stays as it is.

use std::fs;
use std::path::Path;

use super::Bench;
use super::json::Json;
use super::report::{Outcome, Report, table};
use super::rows::Row;
use super::stats::shown;

const BEGIN: &str = "<!-- bench results: begin -->";
const END: &str = "<!-- bench results: end -->";

/// Puts the results into the page.
pub(super) fn write(
    path: &Path,
    bench: &Bench,
    rows: &[Row],
    report: &Report,
) -> Result<(), String> {
    let told = |problem: std::io::Error| format!("{}: {problem}", path.display());
    let page = fs::read_to_string(path).map_err(told)?;
    let section = section(bench, rows, report)?;
    let page = replaced(&page, &section).map_err(|why| format!("{}: {why}", path.display()))?;
    fs::write(path, page).map_err(told)
}

/// Whether a page has a place for results: better asked before the measurements than after.
pub(super) fn check(path: &Path) -> Result<(), String> {
    let told = |problem: std::io::Error| format!("{}: {problem}", path.display());
    let page = fs::read_to_string(path).map_err(told)?;
    replaced(&page, "")
        .map(|_| ())
        .map_err(|why| format!("{}: {why}", path.display()))
}

/// The page with another section between the marks.
fn replaced(page: &str, section: &str) -> Result<String, String> {
    let once = |mark: &str| match page.matches(mark).count() {
        1 => page.find(mark).ok_or_else(String::new),
        count => Err(format!("the mark {mark} is there {count} times, not once")),
    };
    let (begin, end) = (once(BEGIN)? + BEGIN.len(), once(END)?);
    if end < begin {
        return Err("the marks are the wrong way round".to_owned());
    }
    let section = section.trim();
    Ok(format!("{}\n{section}\n{}", &page[..begin], &page[end..]))
}

fn section(bench: &Bench, rows: &[Row], report: &Report) -> Result<String, String> {
    let machine = &bench.machine;
    let loads = &report.load_averages;
    let most = loads.iter().copied().fold(0.0, f64::max);
    let mut parts = vec![format!(
        "Written by `{} --page docs/benchmarks.md` on {}.\n\
         {}, {} processors, {:.0} GB of memory, {}; load average at the beginning of a round at most {most:.1}.\n\
         {} rounds of {} s behind {} s of warm-up, in turns.\n\
         A cell has the median and, in parentheses, the least and the most of all rounds; the ratio is that of the rounds, one by one.",
        bench.options.shown(),
        super::machine::now()?,
        machine.processor,
        machine.processors,
        machine.memory_mb / 1e3,
        machine.kernel,
        bench.options.rounds,
        bench.options.measure_s(),
        bench.options.warm_up_s(),
    )];
    if bench.options.is_quick {
        parts
            .push("**This was a quick run: it shows that everything works, not how fast.**".into());
    }
    parts.push(report.table());
    parts.push(lost(&report.outcomes));
    parts.push(format!(
        "What the rows are:\n\n{}",
        table(
            ["row", "what", "contender", "load"],
            &loads_of(rows, report)
        )
    ));
    parts.push(format!("Versions: {}.", bench.versions(rows).join("; ")));
    parts.push(format!(
        "The machine by itself, in the same hour:\n\n{}",
        limits(&bench.limits_measured)
    ));
    Ok(parts.join("\n\n"))
}

/// Where the goal is missed, one by one, or that there is no such place.
fn lost(outcomes: &[Outcome]) -> String {
    let missed: Vec<String> = outcomes
        .iter()
        .filter(|outcome| outcome.is_met() == Some(false))
        .map(|outcome| {
            let cells = outcome.cells();
            let found = match outcome.theirs {
                Some(_) => format!("{} x against {}", cells[4], cells[3]),
                None => cells[2].clone(),
            };
            format!(
                "- {}, {}: {found}; the goal is {}",
                cells[0], cells[1], cells[5]
            )
        })
        .collect();
    match missed.is_empty() {
        true => "No goal that could be measured is missed.".to_owned(),
        false => format!("Missed:\n\n{}", missed.join("\n")),
    }
}

fn loads_of(rows: &[Row], report: &Report) -> Vec<[String; 4]> {
    let is_measured = |row: &&Row| (report.outcomes.iter()).any(|outcome| outcome.row == row.name);
    let rows = rows.iter().filter(is_measured);
    let lines = rows.flat_map(|row| {
        row.contenders.iter().enumerate().map(|(at, contender)| {
            let first = |text: &str| {
                if at == 0 {
                    text.to_owned()
                } else {
                    String::new()
                }
            };
            let load = contender.work.shown();
            [
                first(row.name),
                first(row.about),
                contender.label.clone(),
                format!("`{load}`"),
            ]
        })
    });
    lines.collect()
}

fn limits(measured: &Json) -> String {
    let Json::Object(limits) = measured else {
        return String::new();
    };
    let cell = |limit: &Json, field: &str| {
        let number = limit.at(field).and_then(Json::as_number);
        number.map_or_else(String::new, shown)
    };
    let rows: Vec<[String; 4]> = limits
        .iter()
        .map(|(name, limit)| {
            [
                name.clone(),
                cell(limit, "mb_per_second"),
                cell(limit, "p50_us"),
                cell(limit, "p99_us"),
            ]
        })
        .collect();
    table(["limit", "MB/s", "p50, us", "p99, us"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_changes() {
        let page = format!("# Title\n\n{BEGIN}\nold\n{END}\n\nthe rest\n");
        let once = replaced(&page, "\nnew\n\n").unwrap();
        assert_eq!(
            once,
            format!("# Title\n\n{BEGIN}\nnew\n{END}\n\nthe rest\n")
        );
        assert_eq!(replaced(&once, "new").unwrap(), once);
    }

    #[test]
    fn a_page_without_a_place_is_left_alone() {
        for page in [
            String::new(),
            BEGIN.to_owned(),
            format!("{END}{BEGIN}"),
            format!("{BEGIN}{END}{BEGIN}{END}"),
        ] {
            assert!(replaced(&page, "new").is_err(), "{page}");
        }
    }

    #[test]
    fn limits_become_a_table() {
        let measured = Json::parse(r#"{"loopback":{"mb_per_second":2570.2,"p50_us":null}}"#);
        let text = limits(&measured.unwrap());
        assert!(text.contains("| loopback | 2570 |"), "{text}");
    }
}
