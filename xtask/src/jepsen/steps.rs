//! The runs of each set: their arguments, and how long each may take.

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
const CI_SIMULATION_LIMIT: Duration = Duration::from_secs(270);
/// Real processes: how long things are broken, and what starting, healing and the last reads may add.
const CI_RUN_S: u64 = 20;
const RUN_REST: Duration = Duration::from_secs(240);
const CI_NEMESES: [&str; 3] = ["kill", "partition", "power"];

const NIGHTLY_SEEDS: u64 = 1_000_000;
const NIGHTLY_SIMULATION_S: u64 = 25 * 60;
const NIGHTLY_RUN_S: u64 = 45;
const NIGHTLY_WORKLOADS: [&str; 2] = ["log", "log,meta"];
const NIGHTLY_NEMESES: [&str; 12] = [
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
    "kill,pause,partition,packet,clock,membership,transfer,disk,power",
];

/// What every change has to pass.
pub(super) fn ci(binary: &Path, out: &Path, seed: u64) -> Vec<Step> {
    let mut steps = vec![simulation(
        out,
        seed..seed + CI_SEEDS,
        None,
        CI_SIMULATION_LIMIT,
    )];
    let runs = (seed..).zip(CI_NEMESES);
    steps.extend(runs.map(|(seed, nemesis)| run(binary, out, (3, CI_RUN_S, seed), "log", nemesis)));
    steps
}

/// About an hour.
pub(super) fn nightly(binary: &Path, out: &Path, seed: u64) -> Vec<Step> {
    let seeds = seed..seed.saturating_add(NIGHTLY_SEEDS);
    let limit = Duration::from_secs(NIGHTLY_SIMULATION_S + 600);
    let mut steps = vec![simulation(out, seeds, Some(NIGHTLY_SIMULATION_S), limit)];
    let matrix = NIGHTLY_WORKLOADS
        .into_iter()
        .flat_map(|workload| NIGHTLY_NEMESES.map(|nemesis| (workload, nemesis)));
    let runs = (seed..).zip(matrix);
    steps.extend(runs.map(|(seed, (workload, nemesis))| {
        run(binary, out, (5, NIGHTLY_RUN_S, seed), workload, nemesis)
    }));
    steps
}

fn simulation(
    out: &Path,
    seeds: std::ops::Range<u64>,
    for_s: Option<u64>,
    limit: Duration,
) -> Step {
    let mut arguments = vec![
        "sim".to_owned(),
        "--seeds".to_owned(),
        format!("{}..{}", seeds.start, seeds.end),
        "--out".to_owned(),
        out.join("sim").display().to_string(),
    ];
    if let Some(seconds) = for_s {
        arguments.extend(["--for".to_owned(), seconds.to_string()]);
    }
    Step {
        name: "simulation".to_owned(),
        arguments,
        limit,
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
        assert_eq!(steps.len(), 1 + 24);
    }

    #[test]
    fn ci_runs_two_hundred_seeds_and_three_clusters() {
        let steps = ci(Path::new("b"), Path::new("out"), 0);
        assert_eq!(steps[0].arguments[..3], ["sim", "--seeds", "0..200"]);
        let nemeses = ["log-kill", "log-partition", "log-power"];
        assert!(steps[1..].iter().map(|step| step.name.as_str()).eq(nemeses));
    }
}
