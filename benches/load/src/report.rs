//! What a run says in the end: figures when all is well, else what was wrong.

use crate::check::Faults;
use crate::latency::Figures;
use crate::usage::Usage;

/// Fewer measured records than this say nothing of a tail.
const SAMPLES_MIN: u64 = 1_000;

/// The outcome of a run.
#[derive(Debug, Clone)]
pub struct Report {
    /// Partitions that the topic has.
    pub partitions: usize,
    /// Records (`raw`: of acknowledged requests) that were measured.
    pub records: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// How long that took, in seconds.
    pub seconds: f64,
    /// Latencies; `None` where there is nothing to wait for.
    pub latency: Option<Figures>,
    /// What this process used meanwhile.
    pub client: Option<ProcessCost>,
    /// What the broker used meanwhile.
    pub broker: Option<ProcessCost>,
    /// Records that were read and checked, of the whole run, warm-up included; `None`: not asked.
    pub checked: Option<u64>,
    /// What the checks found.
    pub faults: Faults,
    /// Why the figures are worth nothing; empty when all is well.
    pub problems: Vec<String>,
}

/// What a process used while it was measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProcessCost {
    /// Processor time of all its threads, in seconds.
    pub cpu_seconds: f64,
    /// Resident memory at the end, in bytes.
    pub resident_bytes: u64,
    /// How often those of its threads that live at the end went to sleep by themselves,
    pub voluntary_switches: u64,
    /// and how often the processor was taken from them.
    pub involuntary_switches: u64,
}

/// Processor time for so many bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    /// Seconds for 10^9 bytes.
    pub cpu_seconds_per_gb: f64,
}

impl Report {
    pub(crate) fn new() -> Report {
        Report {
            partitions: 0,
            records: 0,
            bytes: 0,
            seconds: 0.0,
            latency: None,
            client: None,
            broker: None,
            checked: None,
            faults: Faults::default(),
            problems: Vec::new(),
        }
    }

    /// Whether its figures may be believed.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.problems.is_empty()
    }

    /// Measured records a second.
    #[must_use]
    pub fn records_per_second(&self) -> f64 {
        ratio(float(self.records), self.seconds)
    }

    /// Measured bytes a second, in 10^6.
    #[must_use]
    pub fn mb_per_second(&self) -> f64 {
        ratio(float(self.bytes) / 1e6, self.seconds)
    }

    /// What a process's time comes to for each gigabyte (10^9 bytes).
    #[must_use]
    pub fn cost(&self, process: &ProcessCost) -> Cost {
        Cost {
            cpu_seconds_per_gb: ratio(process.cpu_seconds, float(self.bytes) / 1e9),
        }
    }

    pub(crate) fn problem(&mut self, problem: impl Into<String>) {
        let problem = problem.into();
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    /// Looks over what is there, once it is all there. `samples`: what the figures rest on.
    pub(crate) fn finish(mut self, samples: u64) -> Report {
        let Faults {
            lost,
            duplicates,
            disordered,
            damaged,
        } = self.faults;
        let kinds = [
            (lost, "lost"),
            (duplicates, "twice"),
            (disordered, "out of order"),
            (damaged, "damaged or not of this run"),
        ];
        for (count, kind) in kinds.into_iter().filter(|(count, _)| *count > 0) {
            self.problem(format!("{count} records {kind}"));
        }
        if samples < SAMPLES_MIN {
            self.problem(format!(
                "too few samples: {samples}, at least {SAMPLES_MIN} are needed"
            ));
        }
        self
    }
}

/// Looks at processes at the beginning and the end of what is measured.
#[derive(Debug)]
pub(crate) struct Costs {
    broker_pid: Option<u32>,
    own: Option<Usage>,
    broker: Option<Usage>,
}

impl Costs {
    pub(crate) fn begin(broker_pid: Option<u32>) -> Costs {
        Costs {
            broker_pid,
            own: Usage::own(),
            broker: broker_pid.and_then(Usage::of),
        }
    }

    pub(crate) fn end(self, report: &mut Report) {
        let used = |before: Option<Usage>, now: Option<Usage>| now?.since(&before?);
        report.client = used(self.own, Usage::own()).map(|usage| cost_of(&usage));
        if let Some(pid) = self.broker_pid {
            match used(self.broker, Usage::of(pid)) {
                Some(usage) => report.broker = Some(cost_of(&usage)),
                None => report.problem(format!("the broker's process {pid} is gone")),
            }
        }
    }
}

fn cost_of(usage: &Usage) -> ProcessCost {
    ProcessCost {
        cpu_seconds: usage.cpu_seconds(),
        resident_bytes: usage.resident_bytes,
        voluntary_switches: usage.voluntary,
        involuntary_switches: usage.involuntary,
    }
}

/// Counts are far below 2^52.
#[expect(clippy::cast_precision_loss, reason = "only for display")]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}

fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_few_samples_and_every_fault_make_figures_worthless() {
        assert!(Report::new().finish(SAMPLES_MIN).is_ok());
        let few = Report::new().finish(SAMPLES_MIN - 1);
        assert!(few.problems[0].contains("too few samples: 999"));
        let mut report = Report::new();
        report.faults = Faults {
            lost: 1,
            duplicates: 2,
            disordered: 3,
            damaged: 4,
        };
        let report = report.finish(SAMPLES_MIN);
        assert!(!report.is_ok() && report.problems.len() == 4);
        assert_eq!(report.problems[0], "1 records lost");
    }

    #[test]
    fn rates_and_costs_are_of_the_time_measured() {
        let mut report = Report::new();
        (report.records, report.bytes, report.seconds) = (1_000, 500_000_000, 2.0);
        assert!((report.records_per_second() - 500.0).abs() < 1e-9);
        assert!((report.mb_per_second() - 250.0).abs() < 1e-9);
        let cost = ProcessCost {
            cpu_seconds: 0.4,
            resident_bytes: 0,
            voluntary_switches: 0,
            involuntary_switches: 0,
        };
        assert!((report.cost(&cost).cpu_seconds_per_gb - 0.8).abs() < 1e-9);
        report.seconds = 0.0;
        assert!(report.records_per_second() == 0.0);
    }
}
