//! The page around the pictures: verdict in words, how to do it again, tables.

use std::fmt::Write;

use super::About;
use super::axis::{count, duration};
use super::svg::{escape, shorten};
use crate::check::stats::{OperationStats, Stats};
use crate::check::verdict::{Anomaly, Outcome, Verdict};

const STYLE: &str = include_str!("style.css");
/// Rows of the table of anomalies at most; the counts are of all.
const ANOMALIES_SHOWN_MAX: usize = 200;
/// Reasons shown of each operation.
const ERRORS_SHOWN_MAX: usize = 6;
const KEYS_SHOWN_MAX: usize = 60;
const ERROR_CHARS_MAX: usize = 160;

/// A partition's pictures, and the texts beside them.
pub(super) struct Section {
    pub(super) title: String,
    /// For links.
    pub(super) id: String,
    pub(super) scatter: String,
    pub(super) grid: String,
    pub(super) story: String,
}

/// The page.
pub(super) fn write(
    verdict: &Verdict,
    about: &About,
    timeline: &str,
    sections: &[Section],
    notes: &[String],
) -> String {
    let mut page = String::with_capacity(timeline.len() + 65_536);
    let title = format!("{}: {}", word(verdict.outcome), about.title);
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{}</title>\n<style>\n{STYLE}</style></head>\n<body><main>\n",
        escape(&title)
    );
    head(&mut page, verdict, about);
    anomalies(&mut page, verdict, sections);
    let _ = writeln!(
        page,
        "<section><h2>What happened</h2>\n{LEGEND}<div class=\"wide\">{timeline}</div></section>"
    );
    for section in sections {
        let _ = writeln!(
            page,
            "<section id=\"{}\"><h2>{}</h2>\n<p class=\"dim\">Over time: <i class=\"key dot-key send\"></i>acknowledged \
             <i class=\"key dot-key poll\"></i>first polled <i class=\"key dot-key loud\"></i>named by an anomaly. \
             Drawn out: what each witness says of an offset; ✓ acknowledged, ✗ refused, ? unknown.</p>\n\
             <div class=\"wide\">{}</div>\n<div class=\"beside\"><div class=\"grid\">{}</div><div class=\"story\">{}</div></div></section>",
            section.id,
            escape(&section.title),
            section.scatter,
            section.grid,
            section.story
        );
    }
    for note in notes {
        let _ = writeln!(page, "<section>{note}</section>");
    }
    statistics(&mut page, &verdict.stats);
    page.push_str("</main></body></html>\n");
    page
}

const LEGEND: &str = "<p class=\"legend\">\
<span><i class=\"key send\"></i>send acknowledged</span>\
<span><i class=\"key poll\"></i>poll, replica read</span>\
<span><i class=\"key admin turned\"></i>topics, settings, members, new client</span>\
<span><i class=\"key info\"></i>outcome unknown</span>\
<span><i class=\"key fail\"></i>surely failed</span>\
<span><i class=\"key loud\"></i>named by an anomaly</span>\
<span><i class=\"key band-key\"></i>fault; dashed where its effect was not seen</span>\
<span class=\"dim\">Upper half of a lane: sends; lower: polls. Point at something to read what it was.</span></p>\n";

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Valid => "valid",
        Outcome::Anomaly => "anomaly",
        Outcome::Unknown => "unknown",
    }
}

fn in_words(verdict: &Verdict) -> String {
    let stats = &verdict.stats;
    let ok = |name: &str| {
        stats
            .operations
            .get(name)
            .map_or(0, |operation| operation.ok)
    };
    let faults: u64 = stats.faults.values().map(|fault| fault.took_effect).sum();
    let seen = format!(
        "{} acknowledged sends, {} polls, {faults} faults that took effect in {}",
        count(ok("send")),
        count(ok("poll")),
        duration(stats.duration_us)
    );
    match verdict.outcome {
        Outcome::Valid => format!("No promise was broken: {seen}."),
        Outcome::Unknown => format!(
            "Too little happened to tell: {}. There were {seen}.",
            verdict.unknown_because.join("; ")
        ),
        Outcome::Anomaly => {
            let broken: Vec<_> = verdict
                .anomaly_counts
                .iter()
                .map(|(name, many)| format!("{many} × {name}"))
                .collect();
            format!(
                "A promise was broken: {}. There were {seen}.",
                broken.join(", ")
            )
        }
    }
}

fn head(page: &mut String, verdict: &Verdict, about: &About) {
    let _ = writeln!(
        page,
        "<header><div class=\"badge {class}\">{class}</div><div><h1>{}</h1><p class=\"verdict\">{}</p></div></header>",
        escape(&about.title),
        escape(&in_words(verdict)),
        class = word(verdict.outcome),
    );
    page.push_str("<section class=\"facts\"><dl>");
    if let Some(seed) = about.seed {
        let _ = write!(page, "<dt>seed</dt><dd>{seed}</dd>");
    }
    for (name, value) in &about.settings {
        let _ = write!(page, "<dt>{}</dt><dd>{}</dd>", escape(name), escape(value));
    }
    page.push_str("</dl>");
    if !about.replay.is_empty() {
        let _ = write!(
            page,
            "<p>Do it again: <code>{}</code></p>",
            escape(&about.replay)
        );
    }
    if verdict.outcome != Outcome::Unknown && !verdict.unknown_because.is_empty() {
        let _ = write!(
            page,
            "<p class=\"dim\">Not judged: {}</p>",
            escape(&verdict.unknown_because.join("; "))
        );
    }
    page.push_str("</section>\n");
}

fn anomalies(page: &mut String, verdict: &Verdict, sections: &[Section]) {
    if verdict.anomalies.is_empty() {
        return;
    }
    page.push_str(
        "<section><h2>Broken promises</h2><table class=\"anomalies\">\
         <tr><th>which</th><th>seen</th><th>where</th><th>what was seen</th></tr>\n",
    );
    let mut before = None;
    for (number, anomaly) in verdict
        .anomalies
        .iter()
        .enumerate()
        .take(ANOMALIES_SHOWN_MAX)
    {
        let which = if before == Some(anomaly.name) {
            "<td></td><td></td>".to_owned()
        } else {
            let many = verdict
                .anomaly_counts
                .get(&anomaly.name)
                .copied()
                .unwrap_or(1);
            format!(
                "<td><b class=\"loud-text\">{}</b><br><span class=\"dim\">{}</span></td><td class=\"number\">{}×</td>",
                anomaly.name,
                escape(anomaly.name.about()),
                count(many)
            )
        };
        before = Some(anomaly.name);
        let _ = writeln!(
            page,
            "<tr id=\"anomaly-{number}\">{which}<td>{}</td><td>{}</td></tr>",
            place(anomaly, sections),
            escape(&anomaly.explanation)
        );
    }
    page.push_str("</table>\n");
    let told = u64::try_from(verdict.anomalies.len().min(ANOMALIES_SHOWN_MAX)).unwrap_or(u64::MAX);
    let all: u64 = verdict.anomaly_counts.values().sum();
    if all > told {
        let _ = writeln!(
            page,
            "<p class=\"dim\">{} more are counted and not told.</p>",
            count(all - told)
        );
    }
    page.push_str("</section>\n");
}

/// Where an anomaly is, as a link to its picture where there is one.
fn place(anomaly: &Anomaly, sections: &[Section]) -> String {
    let node = anomaly
        .node
        .map_or_else(String::new, |node| format!(" node {node}"));
    let Some(key) = &anomaly.key else {
        return escape(&format!(
            "{}{node}",
            anomaly.topic.as_deref().unwrap_or_default()
        ));
    };
    let name = key.to_string();
    match sections.iter().find(|section| section.title == name) {
        Some(section) => format!("<a href=\"#{}\">{}</a>{node}", section.id, escape(&name)),
        None => escape(&format!("{name}{node}")),
    }
}

fn statistics(page: &mut String, stats: &Stats) {
    page.push_str(
        "<section><h2>In figures</h2><table><tr><th>operation</th><th>begun</th><th>ok</th><th>failed</th><th>unknown</th>\
         <th>ok/s</th><th>median</th><th>95 %</th><th>99 %</th><th>slowest</th><th>reasons</th></tr>\n",
    );
    for (name, operation) in &stats.operations {
        operation_row(page, name, operation);
    }
    page.push_str("</table>\n<div class=\"tables\">");
    if !stats.faults.is_empty() {
        page.push_str(
            "<table><tr><th>fault</th><th>begun</th><th>seen</th><th>lasted</th><th>sends ok</th><th>failed</th>\
             <th>unknown</th><th>slowest ok</th></tr>\n",
        );
        for (name, fault) in &stats.faults {
            let _ = writeln!(
                page,
                "<tr><td>{}</td>{}<td class=\"number\">{}</td>{}<td class=\"number\">{}</td></tr>",
                escape(name),
                numbers(&[fault.begun, fault.took_effect]),
                duration(fault.lasted_us),
                numbers(&[fault.sends_ok, fault.sends_fail, fault.sends_info]),
                duration(fault.send_latency_us_max)
            );
        }
        page.push_str("</table>\n");
    }
    if !stats.keys.is_empty() {
        page.push_str(
            "<table><tr><th>partition</th><th>acknowledged</th><th>unknown</th><th>of these seen</th><th>offsets read</th>\
             <th>last offset</th></tr>\n",
        );
        for (name, key) in stats.keys.iter().take(KEYS_SHOWN_MAX) {
            let last = key
                .last_offset
                .map_or_else(|| "–".to_owned(), |offset| offset.to_string());
            let _ = writeln!(
                page,
                "<tr><td>{}</td>{}<td class=\"number\">{last}</td></tr>",
                escape(name),
                numbers(&[key.acknowledged, key.unknown, key.unknown_seen, key.read])
            );
        }
        page.push_str("</table>\n");
    }
    if !stats.nodes.is_empty() {
        page.push_str("<table><tr><th>node</th><th>samples</th><th>memory, at most</th><th>descriptors</th></tr>\n");
        for (node, used) in &stats.nodes {
            let _ = writeln!(
                page,
                "<tr><td>node {node}</td>{}<td class=\"number\">{} MiB</td>{}</tr>",
                numbers(&[used.samples]),
                count(used.rss_kib_max / 1024),
                numbers(&[used.descriptors_max])
            );
        }
        page.push_str("</table>\n");
    }
    page.push_str("</div></section>\n");
}

fn numbers(amounts: &[u64]) -> String {
    amounts
        .iter()
        .map(|amount| format!("<td class=\"number\">{}</td>", count(*amount)))
        .collect()
}

fn operation_row(page: &mut String, name: &str, operation: &OperationStats) {
    let mut errors: Vec<_> = operation.errors.iter().collect();
    errors.sort_by_key(|(reason, many)| (std::cmp::Reverse(**many), (*reason).clone()));
    let reasons: Vec<_> = errors
        .iter()
        .take(ERRORS_SHOWN_MAX)
        .map(|(reason, many)| {
            format!(
                "{}× {}",
                count(**many),
                escape(&shorten(reason, ERROR_CHARS_MAX))
            )
        })
        .collect();
    let took = |us: u64| {
        if operation.latency_us.count == 0 {
            "–".to_owned()
        } else {
            duration(us)
        }
    };
    let quantiles = operation.latency_us;
    let _ = writeln!(
        page,
        "<tr><td>{name}</td>{}<td class=\"number\">{:.1}</td><td class=\"number\">{}</td><td class=\"number\">{}</td>\
         <td class=\"number\">{}</td><td class=\"number\">{}</td><td class=\"dim\">{}</td></tr>",
        numbers(&[
            operation.invoked,
            operation.ok,
            operation.fail,
            operation.info
        ]),
        operation.ok_per_second,
        took(quantiles.p50),
        took(quantiles.p95),
        took(quantiles.p99),
        took(quantiles.max),
        reasons.join("<br>")
    );
}
