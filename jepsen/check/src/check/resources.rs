//! What nodes use stays bounded: below a limit, and not growing as the run goes on.
//!
//! Growth is the median of the last quarter of a node's samples against that of the second: the
//! first quarter is warming up, and a restart in between can only lower a median.

use std::collections::BTreeMap;

use super::findings::Findings;
use super::limits::Limits;
use super::run::Run;
use super::verdict::{Anomaly, AnomalyName};
use crate::history::Op;

/// Fewer samples than this have no quarters.
const SAMPLES_MIN: usize = 16;

/// Position and amount.
type Samples = Vec<(usize, u64)>;

pub(crate) fn check(run: &Run<'_>, limits: &Limits, findings: &mut Findings) {
    let mut nodes: BTreeMap<u32, (Samples, Samples)> = BTreeMap::new();
    for (at, event) in run.events.iter().enumerate() {
        if let Op::Resources {
            node,
            rss_kib,
            descriptors,
        } = event.op
        {
            let (memory, open) = nodes.entry(node).or_default();
            memory.push((at, rss_kib));
            open.push((at, descriptors));
        }
    }
    let memory = Bound {
        name: AnomalyName::MemoryUnbounded,
        what: "KiB of memory",
        max: limits.rss_kib_max,
        factor: limits.growth_factor_max,
        slack: limits.growth_slack_kib,
    };
    let descriptors = Bound {
        name: AnomalyName::DescriptorsUnbounded,
        what: "descriptors",
        max: limits.descriptors_max,
        factor: limits.growth_factor_max,
        slack: limits.growth_slack_descriptors,
    };
    for (node, (used, open)) in nodes {
        memory.judge(node, &used, findings);
        descriptors.judge(node, &open, findings);
    }
}

struct Bound {
    name: AnomalyName,
    what: &'static str,
    max: u64,
    factor: f64,
    slack: u64,
}

impl Bound {
    fn judge(&self, node: u32, samples: &[(usize, u64)], findings: &mut Findings) {
        let highest = samples
            .iter()
            .copied()
            .max_by_key(|(at, amount)| (*amount, usize::MAX - at));
        if let Some((at, amount)) = highest.filter(|(_, amount)| *amount > self.max) {
            let Bound { what, max, .. } = self;
            let what = format!("node {node} uses {amount} {what}, more than {max}");
            self.tell(node, what, at, findings);
        }
        if samples.len() < SAMPLES_MIN {
            return;
        }
        let quarter = samples.len() / 4;
        let early = median(&samples[quarter..2 * quarter]);
        let late = median(&samples[samples.len() - quarter..]);
        // Amounts are far below 2^53.
        #[expect(clippy::cast_precision_loss, reason = "amounts are far below 2^53")]
        let grown = late as f64 > early as f64 * self.factor + self.slack as f64;
        if grown {
            let what = format!("node {node} grows from {early} to {late} {}", self.what);
            self.tell(node, what, samples[samples.len() - 1].0, findings);
        }
    }

    fn tell(&self, node: u32, what: String, at: usize, findings: &mut Findings) {
        findings.add(self.name, || {
            Anomaly::new(self.name, what)
                .of_node(node)
                .shown_by([at as u64])
        });
    }
}

fn median(samples: &[(usize, u64)]) -> u64 {
    let mut amounts: Vec<u64> = samples.iter().map(|(_, amount)| *amount).collect();
    amounts.sort_unstable();
    amounts.get(amounts.len() / 2).copied().unwrap_or(0)
}
