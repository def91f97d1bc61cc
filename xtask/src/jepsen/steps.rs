//! The runs of each set: their arguments, and how long each may take.

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

/// One run of the `jepsen` binary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    /// What it is called, here and in the name of its directory.
    pub(super) name: String,
    /// Arguments of `jepsen`.
    pub(super) arguments: Vec<String>,
    /// It is ended when it takes longer.
    pub(super) limit: Duration,
}

/// Seeds that every change has to pass.
const CI_SEEDS: u64 = 200;
/// How long things are broken in a simulated cluster, in virtual time: many seeds find more than
/// long ones.
pub(super) const SEED_S: u64 = 6;
const CI_SIMULATION_LIMIT: Duration = Duration::from_secs(15 * 60);
/// Real processes: how long things are broken, and what starting, healing and the last reads may add.
const CI_RUN_S: u64 = 20;
const RUN_REST: Duration = Duration::from_secs(240);
const CI_NEMESES: [&str; 3] = ["kill", "partition", "power"];

/// More than there is time for.
const NIGHTLY_SEEDS: u64 = 1_000_000;
const NIGHTLY_SIMULATION_S: u64 = 12 * 60;
/// Seeds that show what takes long, such as a second fault in what the first has left.
const NIGHTLY_LONG_SEED_S: u64 = 30;
const NIGHTLY_LONG_SIMULATION_S: u64 = 6 * 60;
const NIGHTLY_RUN_S: u64 = 60;
const NIGHTLY_WORKLOADS: [&str; 3] = ["log", "log,meta", "group"];
/// Each kind comes in one of the first four, beside others of another sort: what stops processes,
/// what they say to each other, who is there, and what they find on their disks. A minute has about
/// twenty faults, and each kind has its turn before any has a second one.
const NIGHTLY_NEMESES: [&str; 5] = [
    "kill,partition,bitflip",
    "pause,packet,clock",
    "membership,transfer,files",
    "disk,power",
    "kill,pause,partition,packet,clock,membership,transfer,disk,power",
];

/// What every change has to pass.
pub(super) fn ci(binary: &Path, out: &Path, seed: u64) -> Vec<Step> {
    let simulation = Simulation {
        name: "simulation",
        seeds: seed..seed.saturating_add(CI_SEEDS),
        seed_s: SEED_S,
        for_s: None,
    };
    let mut steps = vec![simulation.step(out, CI_SIMULATION_LIMIT)];
    let runs = (seed..).zip(CI_NEMESES);
    steps.extend(runs.map(|(seed, nemesis)| run(binary, out, (3, CI_RUN_S, seed), "log", nemesis)));
    steps
}

/// About three quarters of an hour.
pub(super) fn nightly(binary: &Path, out: &Path, seed: u64) -> Vec<Step> {
    let seeds = seed..seed.saturating_add(NIGHTLY_SEEDS);
    let simulations = [
        ("simulation", SEED_S, NIGHTLY_SIMULATION_S),
        (
            "simulation-long",
            NIGHTLY_LONG_SEED_S,
            NIGHTLY_LONG_SIMULATION_S,
        ),
    ];
    let mut steps: Vec<Step> = simulations
        .map(|(name, seed_s, for_s)| {
            let simulation = Simulation {
                name,
                seeds: seeds.clone(),
                seed_s,
                for_s: Some(for_s),
            };
            simulation.step(out, Duration::from_secs(for_s + 600))
        })
        .into();
    let matrix = NIGHTLY_WORKLOADS
        .into_iter()
        .flat_map(|workload| NIGHTLY_NEMESES.map(|nemesis| (workload, nemesis)));
    let runs = (seed..).zip(matrix);
    steps.extend(runs.map(|(seed, (workload, nemesis))| {
        let mut step = run(binary, out, (5, NIGHTLY_RUN_S, seed), workload, nemesis);
        let clients = ["--clients", "both"].map(str::to_owned);
        step.arguments.extend(clients);
        step
    }));
    steps
}

/// Simulated clusters, one for each seed.
struct Simulation {
    name: &'static str,
    seeds: Range<u64>,
    /// How long things are broken, in virtual seconds.
    seed_s: u64,
    /// Begin no seed after so many seconds.
    for_s: Option<u64>,
}

impl Simulation {
    fn step(self, out: &Path, limit: Duration) -> Step {
        let words = [
            (
                "--seeds",
                format!("{}..{}", self.seeds.start, self.seeds.end),
            ),
            ("--time", self.seed_s.to_string()),
            ("--out", out.join(self.name).display().to_string()),
        ];
        let until = self.for_s.map(|seconds| ("--for", seconds.to_string()));
        let words = words.into_iter().chain(until);
        let words = words.flat_map(|(flag, value)| [flag.to_owned(), value]);
        Step {
            name: self.name.to_owned(),
            arguments: std::iter::once("sim".to_owned()).chain(words).collect(),
            limit,
        }
    }
}

fn run(
    binary: &Path,
    out: &Path,
    (nodes, seconds, seed): (u32, u64, u64),
    workload: &str,
    nemesis: &str,
) -> Step {
    let short = if nemesis.matches(',').count() > 2 {
        "all"
    } else {
        nemesis
    };
    let name = format!("{workload}-{short}").replace(',', "+");
    let words = [
        ("--bin", binary.display().to_string()),
        ("--nodes", nodes.to_string()),
        ("--workload", workload.to_owned()),
        ("--nemesis", nemesis.to_owned()),
        ("--time", seconds.to_string()),
        ("--seed", seed.to_string()),
        ("--out", out.join(&name).display().to_string()),
    ];
    let words = words
        .into_iter()
        .flat_map(|(flag, value)| [flag.to_owned(), value]);
    Step {
        arguments: std::iter::once("run".to_owned()).chain(words).collect(),
        limit: Duration::from_secs(seconds) + RUN_REST,
        name,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_step_has_a_directory_of_its_own() {
        let steps = nightly(Path::new("braidlog"), Path::new("out"), 5);
        let names: BTreeSet<_> = steps.iter().map(|step| &step.name).collect();
        assert_eq!(names.len(), steps.len());
        assert_eq!(steps.len(), 2 + 15);
    }

    #[test]
    fn in_a_night_every_workload_is_under_every_nemesis() {
        const KINDS: [&str; 11] = [
            "kill",
            "pause",
            "partition",
            "packet",
            "clock",
            "membership",
            "transfer",
            "disk",
            "power",
            "bitflip",
            "files",
        ];
        let steps = nightly(Path::new("braidlog"), Path::new("out"), 5);
        let list = |step: &Step, flag: &str| -> Vec<String> {
            let at = step.arguments.iter().position(|word| word == flag);
            let told = at.map_or("", |at| &step.arguments[at + 1]);
            told.split(',').map(str::to_owned).collect()
        };
        for workload in ["log", "meta", "group"] {
            for kind in KINDS {
                // The run in which nearly everything breaks does not count.
                let is_it = |step: &Step| {
                    let nemeses = list(step, "--nemesis");
                    list(step, "--workload").iter().any(|word| word == workload)
                        && nemeses.iter().any(|word| word == kind)
                        && nemeses.len() <= 3
                };
                assert!(steps.iter().any(is_it), "{workload} {kind}");
            }
        }
    }

    #[test]
    fn a_night_takes_three_quarters_of_an_hour() {
        // Starting, healing and the last reads of a run take about so long; its limit is far beyond.
        const REST_S: u64 = 45;
        let steps = nightly(Path::new("braidlog"), Path::new("out"), 5);
        let runs = steps.iter().filter(|step| step.arguments[0] == "run");
        let runs_s = runs.count() as u64 * (NIGHTLY_RUN_S + REST_S);
        let all_s = NIGHTLY_SIMULATION_S + NIGHTLY_LONG_SIMULATION_S + runs_s;
        assert!((40 * 60..=46 * 60).contains(&all_s), "{all_s}");
    }

    #[test]
    fn ci_runs_two_hundred_seeds_and_three_clusters() {
        let steps = ci(Path::new("b"), Path::new("out"), 0);
        assert_eq!(steps[0].arguments[..3], ["sim", "--seeds", "0..200"]);
        let nemeses = ["log-kill", "log-partition", "log-power"];
        assert!(steps[1..].iter().map(|step| step.name.as_str()).eq(nemeses));
    }
}
