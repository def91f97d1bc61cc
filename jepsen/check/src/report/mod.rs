//! The report: one page of HTML that shows a run and what was wrong with it.
//!
//! Complete in itself: no network, no scripts, light and dark. The same history, verdict and
//! [`About`] give the same page, byte by byte. However long the run, the page stays small enough to
//! look at: what is ordinary is thinned out, what an anomaly names never is.

mod axis;
mod charts;
mod grid;
mod lanes;
mod offsets;
mod operations;
mod page;
#[cfg(test)]
mod sample;
mod scatter;
mod svg;
#[cfg(test)]
mod tests;
mod timeline;
mod words;

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::{Deserialize, Serialize};

use crate::check::verdict::{Anomaly, Verdict};
use crate::history::{Event, Key};
use offsets::Offsets;
use operations::{Marks, Run};
use page::Section;
use words::Focus;

/// Colours of faults and nodes.
const HUES: usize = 8;
/// Partitions drawn out; those with the most anomalies.
const KEYS_MAX: usize = 12;
/// Anomalies whose events are written out, of each partition.
const STORIES_MAX: usize = 10;
/// Events written out of each anomaly.
const STORY_EVENTS_MAX: usize = 14;

/// What a page says of a run beside its history and verdict.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct About {
    /// What ran: `3 nodes in network namespaces`.
    pub title: String,
    /// The run's seed.
    pub seed: Option<u64>,
    /// What it was run with, by name, in the order to show.
    pub settings: Vec<(String, String)>,
    /// The command that does it again.
    pub replay: String,
}

/// An anomaly with its place in the verdict.
type Numbered<'a> = (usize, &'a Anomaly);

/// The page.
#[must_use]
pub fn write(events: &[Event], verdict: &Verdict, about: &About) -> String {
    let run = Run::of(events);
    let marks = Marks::of(verdict);
    let timeline = timeline::draw(&run, &marks);

    let mut by_key: BTreeMap<&Key, Vec<Numbered<'_>>> = BTreeMap::new();
    let mut of_no_key: Vec<Numbered<'_>> = Vec::new();
    for (number, anomaly) in verdict.anomalies.iter().enumerate() {
        match &anomaly.key {
            Some(key) => by_key.entry(key).or_default().push((number, anomaly)),
            None => of_no_key.push((number, anomaly)),
        }
    }
    let mut worst: Vec<_> = by_key.into_iter().collect();
    worst.sort_by_key(|(key, anomalies)| (std::cmp::Reverse(anomalies.len()), *key));
    let sections: Vec<_> = worst
        .into_iter()
        .take(KEYS_MAX)
        .enumerate()
        .map(|(place, (key, anomalies))| section(&run, events, key, &anomalies, place))
        .collect();
    let mut notes = Vec::new();
    if !of_no_key.is_empty() {
        notes.push(format!(
            "<h2>Beside partitions</h2>\n<div class=\"story\">{}</div>",
            story(events, None, &of_no_key)
        ));
    }
    page::write(verdict, about, &timeline, &sections, &notes)
}

fn section(
    run: &Run<'_>,
    events: &[Event],
    key: &Key,
    anomalies: &[Numbered<'_>],
    place: usize,
) -> Section {
    let offsets = Offsets::of(run, key, anomalies);
    Section {
        title: key.to_string(),
        id: format!("key-{place}"),
        scatter: scatter::draw(run, key, &offsets, anomalies),
        grid: grid::draw(&offsets, &format!("who has what at which offset of {key}"))
            .unwrap_or_default(),
        story: story(events, Some(key), anomalies),
    }
}

/// Anomalies in words, each with the events that prove it.
fn story(events: &[Event], key: Option<&Key>, anomalies: &[Numbered<'_>]) -> String {
    let mut text = String::new();
    for (number, anomaly) in anomalies.iter().take(STORIES_MAX) {
        let _ = write!(
            text,
            "<h3><a class=\"loud-text\" href=\"#anomaly-{number}\">{}</a></h3><p>{}</p><pre>",
            anomaly.name,
            svg::escape(&anomaly.explanation)
        );
        let proof = anomaly
            .events
            .iter()
            .filter_map(|index| events.get(usize::try_from(*index).ok()?))
            .filter(|event| key.is_none_or(|key| words::is_about(event, key)));
        let focus = Focus {
            key,
            values: &anomaly.values,
            offsets: &anomaly.offsets,
        };
        for event in proof.clone().take(STORY_EVENTS_MAX) {
            let _ = writeln!(text, "{}", words::event_line(event, focus));
        }
        let more = proof.count().saturating_sub(STORY_EVENTS_MAX);
        if more > 0 {
            let _ = writeln!(text, "<span class=\"dim\">… and {more} events more</span>");
        }
        text.push_str("</pre>\n");
    }
    if anomalies.len() > STORIES_MAX {
        let _ = write!(
            text,
            "<p class=\"dim\">{} more stand in the table above.</p>",
            anomalies.len() - STORIES_MAX
        );
    }
    text
}
