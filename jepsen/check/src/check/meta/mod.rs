//! Topics and their settings: what was acknowledged is there for every later look.
//!
//! Each topic and each setting is judged by itself, as a register of which every operation happens
//! at one moment between its invocation and its completion; one of unknown outcome at any moment
//! after its invocation, or never. A topic's name is used once, so that it goes from absent to
//! present to absent, and no further. While things are broken a look may show what was true some
//! time before: Kafka's metadata is as old as the node that answers was away.

mod register;
mod settings;
mod topics;

use super::findings::Findings;
use super::limits::Limits;
use super::run::Run;

/// Judges all topics and settings.
pub(crate) fn check(run: &Run<'_>, limits: &Limits, findings: &mut Findings) {
    let exact_from = run.phase("final").unwrap_or(usize::MAX);
    let looks = Looks {
        run,
        age_us_max: limits.metadata_age_us_max,
        exact_from,
    };
    topics::check(&looks, findings);
    settings::check(&looks, findings);
}

/// When operations may have happened, in positions.
struct Looks<'r, 'a> {
    run: &'r Run<'a>,
    age_us_max: u64,
    exact_from: usize,
}

impl Looks<'_, '_> {
    /// Where what a read shows may have been true at the earliest: its invocation, or, before phase
    /// `final`, as much before as an answer may be old.
    fn earliest(&self, invoked: usize) -> i64 {
        if self.age_us_max == 0 || invoked > self.exact_from {
            return moment(invoked);
        }
        let since_us = self.run.time_us(invoked).saturating_sub(self.age_us_max);
        let first = self
            .run
            .events
            .partition_point(|event| event.time_us < since_us);
        moment(first)
    }
}

/// A position as a moment; before the history there are negative ones.
fn moment(position: usize) -> i64 {
    i64::try_from(position).unwrap_or(i64::MAX)
}

/// A moment's event.
fn event_of(moment: i64) -> Option<u64> {
    u64::try_from(moment).ok().filter(|_| moment != i64::MAX)
}
