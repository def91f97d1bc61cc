//! One simulated seed in this process: run, judged, kept, and told to whoever started the process.

use std::path::Path;

use jepsen_check::report::About;
use jepsen_check::{Anomaly, AnomalyName, Limits};
use jepsen_sim::Outcome;
use jepsen_workload::{RunSettings, WorkloadKind};
use serde::{Deserialize, Serialize};

use crate::cli::{SeedArguments, Simulated};
use crate::exit::{Exit, Failure};
use crate::kept::{KeptRun, Settings, World};
use crate::print;

/// What a seed's process tells the one that started it, as the last line of its output.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Told {
    /// What the seed decided.
    pub(crate) decided: String,
    /// Why it did not end as valid; empty when it did.
    pub(crate) why: String,
    pub(crate) sends_ok: u64,
    pub(crate) faults: u64,
    /// How often its group came to rest while things were broken.
    #[serde(default)]
    pub(crate) group_rests: u64,
    pub(crate) virtual_ms: u64,
}

/// Runs it; the directory is written unless everything is well and nobody asked for it.
pub(crate) fn run(arguments: &SeedArguments) -> Result<Exit, Failure> {
    if arguments.end_with_stdin {
        end_with_stdin();
    }
    let settings = arguments.simulated.settings(arguments.seed);
    let again = replay_command(arguments.seed, &arguments.simulated);
    let outcome = jepsen_sim::run_seed(&settings)
        .map_err(|error| Failure::new(error, format!("see how far it comes: {again}")))?;
    let exit = exit_of(&outcome);
    if arguments.keep || exit != Exit::Valid {
        keep(&arguments.out, &outcome, &arguments.simulated)?;
    }
    let told =
        serde_json::to_string(&told(&outcome, exit)).map_err(|error| Failure::new(error, again))?;
    print::lines(&[told])?;
    Ok(exit)
}

/// Ends the process with the one that started it, which holds the other end of standard input. The
/// thread stands in a read all the time, so the simulation does not notice it.
fn end_with_stdin() {
    std::thread::spawn(|| {
        // An error says the same as the end: nobody is there.
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(i32::from(Exit::Fault.code()));
    });
}

/// What a seed came to; a broken promise counts also where the run could not go on.
pub(crate) fn exit_of(outcome: &Outcome) -> Exit {
    let exit = Exit::from(outcome.verdict.outcome);
    match outcome.harness_error {
        Some(_) => exit.max(Exit::Fault),
        None => exit,
    }
}

/// The command that does a seed again.
pub(crate) fn replay_command(seed: u64, simulated: &Simulated) -> String {
    let mut words = vec!["jepsen".to_owned(), "replay".to_owned(), seed.to_string()];
    words.extend(simulated.arguments());
    words.join(" ")
}

fn told(outcome: &Outcome, exit: Exit) -> Told {
    let verdict = &outcome.verdict;
    let why = match exit {
        Exit::Valid => String::new(),
        Exit::Anomaly => {
            let first = verdict.anomalies.first();
            let first = first.map_or("", |anomaly| anomaly.explanation.as_str());
            format!("{}; {first}", print::counts(verdict))
        }
        Exit::Unknown => verdict.unknown_because.join("; "),
        Exit::Fault => outcome.harness_error.clone().unwrap_or_default(),
    };
    Told {
        decided: outcome.decided.clone(),
        why,
        sends_ok: verdict
            .stats
            .operations
            .get("send")
            .map_or(0, |send| send.ok),
        faults: verdict
            .stats
            .faults
            .values()
            .map(|fault| fault.took_effect)
            .sum(),
        group_rests: verdict.stats.groups.values().map(|group| group.rests).sum(),
        virtual_ms: outcome.virtual_ms,
    }
}

/// What the simulation judges its runs by.
fn limits(run: &RunSettings) -> Limits {
    let has_group = run.workloads.contains(&WorkloadKind::Group);
    let has_log = has_group || run.workloads.contains(&WorkloadKind::Log);
    Limits {
        sends_ok_min: if has_log { 20 } else { 0 },
        polls_ok_min: if has_log { 10 } else { 0 },
        commits_ok_min: if has_group { 3 } else { 0 },
        group_rests_min: u64::from(has_group),
        ..Limits::default()
    }
}

/// Writes the directory of a simulated run.
pub(crate) fn keep(dir: &Path, outcome: &Outcome, simulated: &Simulated) -> Result<(), Failure> {
    let kept = KeptRun::create(dir)?;
    let seed = outcome.seed;
    let mut about = About {
        title: format!("Simulation, seed {seed}"),
        seed: Some(seed),
        settings: vec![("decided".to_owned(), outcome.decided.clone())],
        replay: replay_command(seed, simulated),
    };
    let mut fact = |name: &str, value: String| about.settings.push((name.to_owned(), value));
    fact(
        "virtual time",
        format!("{:.1} s", outcome.virtual_ms as f64 / 1e3),
    );
    fact("took", format!("{:.1} s", outcome.real_ms as f64 / 1e3));
    fact("trace", outcome.trace_digest.clone());
    if let Some(error) = &outcome.harness_error {
        fact("harness fault", error.clone());
    }
    let is_elsewhere =
        |anomaly: &&Anomaly| matches!(anomaly.name, AnomalyName::Invariant | AnomalyName::Panicked);
    let seen_elsewhere = outcome.verdict.anomalies.iter().filter(is_elsewhere);
    let decided = simulated.settings(seed).decide();
    let settings = Settings {
        world: World::Sim,
        seed,
        arguments: simulated.arguments(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        limits: limits(&decided.run),
        seen_elsewhere: seen_elsewhere.cloned().collect(),
        about,
    };
    kept.write_settings(&settings)?;
    kept.write_history(&outcome.events)?;
    kept.write("trace-tail.txt", &(outcome.trace_tail.join("\n") + "\n"))?;
    kept.write_verdict(&outcome.events, &outcome.verdict, &settings.about)
}
