//! [`Findings`]: the anomalies as checkers find them, counted without end and told up to a limit.

use std::collections::BTreeMap;

use super::verdict::{Anomaly, AnomalyName};

/// Anomalies, by name, in the order they were found.
#[derive(Debug)]
pub(crate) struct Findings {
    told_max: usize,
    counts: BTreeMap<AnomalyName, u64>,
    told: BTreeMap<AnomalyName, Vec<Anomaly>>,
    unknown_because: Vec<String>,
}

impl Findings {
    pub(crate) fn new(told_max: usize) -> Findings {
        Findings {
            told_max,
            counts: BTreeMap::new(),
            told: BTreeMap::new(),
            unknown_because: Vec::new(),
        }
    }

    /// Counts an anomaly; `tell` is asked for it only while there is room.
    pub(crate) fn add(&mut self, name: AnomalyName, tell: impl FnOnce() -> Anomaly) {
        *self.counts.entry(name).or_default() += 1;
        let told = self.told.entry(name).or_default();
        if told.len() < self.told_max {
            told.push(tell());
        }
    }

    /// Notes what is missing for a judgement.
    pub(crate) fn unknown(&mut self, because: impl Into<String>) {
        if self.unknown_because.len() < self.told_max {
            self.unknown_because.push(because.into());
        }
    }

    /// Those told, sorted; how many there were; what was missing.
    pub(crate) fn finish(self) -> (Vec<Anomaly>, BTreeMap<AnomalyName, u64>, Vec<String>) {
        let mut told: Vec<Anomaly> = self.told.into_values().flatten().collect();
        told.sort();
        (told, self.counts, self.unknown_because)
    }
}
