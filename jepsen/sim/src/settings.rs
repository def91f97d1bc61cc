//! [`SimSettings`]: what a run is asked for; everything else follows from the seed.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use braidlog::config::Durability;
use jepsen_workload::plan::{Kind, Pace, Plan};
use jepsen_workload::random::Random;
use jepsen_workload::{RunSettings, WorkloadKind};

/// What to run.
#[derive(Debug, Clone)]
pub struct SimSettings {
    /// Everything that is random follows from it.
    pub seed: u64,
    /// How long faults and clients go on, in virtual time.
    pub duration: Duration,
    /// Number of nodes; drawn from the seed when not given.
    pub nodes: Option<u32>,
    /// The workloads; drawn from the seed when not given.
    pub workloads: Option<Vec<WorkloadKind>>,
    /// The kinds of faults; drawn from the seed when not given.
    pub nemeses: Option<Vec<Kind>>,
    /// When a record counts on a node; drawn from the seed when not given.
    pub durability: Option<Durability>,
    /// Where the whole trace is written; without, only its digest is kept and its last lines.
    pub trace: Option<PathBuf>,
    /// What the nodes log into the trace, as `tracing` directives; as `braidlog start` when not given.
    pub log: Option<String>,
}

impl SimSettings {
    /// A run of 20 s in which the seed decides everything.
    #[must_use]
    pub fn new(seed: u64) -> SimSettings {
        SimSettings {
            seed,
            duration: Duration::from_secs(20),
            nodes: None,
            workloads: None,
            nemeses: None,
            durability: None,
            trace: None,
            log: None,
        }
    }

    /// All that is not given, drawn from the seed.
    #[must_use]
    pub fn decide(&self) -> Decided {
        let mut random = Random::new(self.seed ^ 0x6465_6369_6465_2121);
        // Always drawn, so that what is given does not change the rest.
        let (nodes, nemeses) = (random.below(5), draw_kinds(&mut random));
        let (durability, workloads) = (random.below(8), random.below(4));
        let durability = self.durability.unwrap_or(match durability {
            0 => Durability::Interval,
            1 => Durability::Os,
            _ => Durability::Fsync,
        });
        let mut nemeses = self.nemeses.clone().unwrap_or(nemeses);
        if durability != Durability::Fsync {
            // What is promised then holds as long as a majority keeps power.
            nemeses.retain(|kind| *kind != Kind::Power);
        }
        let nodes = self.nodes.unwrap_or(if nodes == 0 { 5 } else { 3 });
        let workloads = self.workloads.clone().unwrap_or(match workloads {
            0 => vec![WorkloadKind::Log, WorkloadKind::Meta],
            _ if draws_group(self.seed) => vec![WorkloadKind::Log, WorkloadKind::Group],
            _ => vec![WorkloadKind::Log],
        });
        // What is broken again before all has settled, and what has the time to show.
        let pace = match self.seed % 4 {
            0 => Pace::Steady,
            _ => Pace::Brisk,
        };
        let plan = match workloads.contains(&WorkloadKind::Group) {
            true => Plan::lulled(self.seed, self.duration, &nemeses, nodes, pace),
            false => Plan::paced(self.seed, self.duration, &nemeses, nodes, pace),
        };
        let plan = match durability {
            Durability::Fsync => plan,
            Durability::Interval | Durability::Os => plan.for_relaxed(),
        };
        let run = RunSettings {
            seed: self.seed,
            duration: self.duration,
            rate_per_s: 100 + u32::try_from(random.below(200)).unwrap_or(0),
            clients: 3 + u32::try_from(random.below(4)).unwrap_or(0),
            topics: 1 + u32::try_from(random.below(2)).unwrap_or(0),
            partitions: 1 + u32::try_from(random.below(4)).unwrap_or(0),
            padding_bytes_max: *random.pick(&[10, 500, 4_000]).unwrap_or(&500),
            workloads,
            plan,
            ..RunSettings::default()
        };
        Decided {
            nodes,
            durability,
            nemeses,
            run,
        }
    }
}

/// Whether a seed that has no topics changed has a group: one in four. Drawn apart from the rest,
/// which is what it was before there were groups.
fn draws_group(seed: u64) -> bool {
    Random::new(seed ^ 0x6772_6f75_7073_2121).chance(1, 4)
}

/// One to four kinds of faults.
fn draw_kinds(random: &mut Random) -> Vec<Kind> {
    let count = 1 + random.below(4);
    let mut kinds = Vec::new();
    for _ in 0..count {
        let kind = random.pick(&Kind::ALL).copied().unwrap_or(Kind::Kill);
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    kinds
}

/// What a run does.
#[derive(Debug, Clone)]
pub struct Decided {
    /// Number of nodes at the beginning.
    pub nodes: u32,
    /// When a record counts on a node.
    pub durability: Durability,
    /// The kinds of faults.
    pub nemeses: Vec<Kind>,
    /// What clients do, and the plan.
    pub run: RunSettings,
}

impl fmt::Display for Decided {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |kinds: &[Kind]| kinds.iter().map(|kind| kind.name()).collect::<Vec<_>>();
        let run = &self.run;
        let workloads = run.workloads.iter().map(|kind| kind.name());
        write!(
            f,
            "{} nodes, {:?}, {}, nemeses {}, {} clients, {} operations a second, {} topics of {} partitions",
            self.nodes,
            self.durability,
            workloads.collect::<Vec<_>>().join("+"),
            names(&self.nemeses).join(","),
            run.clients,
            run.rate_per_s,
            run.topics,
            run.partitions
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fair_part_of_the_seeds_has_a_group_and_each_workload_has_its_part() {
        let mut seeds = [0; 3];
        for seed in 0..200 {
            let workloads = SimSettings::new(seed).decide().run.workloads;
            let of = match workloads[..] {
                [WorkloadKind::Log] => 0,
                [WorkloadKind::Log, WorkloadKind::Meta] => 1,
                [WorkloadKind::Log, WorkloadKind::Group] => 2,
                _ => panic!("{workloads:?}"),
            };
            seeds[of] += 1;
        }
        assert!(seeds[0] > 80 && seeds[1] > 30 && seeds[2] > 25, "{seeds:?}");
    }

    #[test]
    fn what_a_seed_draws_beside_the_group_is_what_it_is_without() {
        for seed in 0..100 {
            let drawn = SimSettings::new(seed).decide();
            let mut given = SimSettings::new(seed);
            given.workloads = Some(vec![WorkloadKind::Log]);
            let given = given.decide();
            assert_eq!(drawn.nodes, given.nodes);
            assert_eq!(drawn.nemeses, given.nemeses);
            assert_eq!(drawn.run.clients, given.run.clients);
            if !drawn.run.workloads.contains(&WorkloadKind::Group) {
                assert_eq!(drawn.run.plan, given.run.plan);
            }
        }
    }
}
