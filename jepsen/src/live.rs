//! `jepsen run`: real processes, from their first start to the report.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jepsen_check::report::About;
use jepsen_check::{Anomaly, AnomalyName, Limits, Outcome, Recorder};
use jepsen_cluster::{Aftermath, ClusterError, ClusterSettings, Isolate, Problem, ProblemKind};
use jepsen_workload::plan::Plan;
use jepsen_workload::{DriveError, RunSettings, WorkloadKind, drive};

use crate::cli::{RunArguments, names};
use crate::exit::{Exit, Failure};
use crate::kept::{KeptRun, Settings, World, judge};
use crate::print;

/// Seeds drawn from the clock are short enough to be typed.
const SEEDS: u128 = 1_000_000_000;

/// Runs it.
pub(crate) fn run(arguments: &RunArguments) -> Result<Exit, Failure> {
    if !arguments.bin.is_file() {
        return Err(Failure::new(
            format!("{} is no program", arguments.bin.display()),
            "build one with `cargo build --release` and name it: --bin target/release/braidlog",
        ));
    }
    let seed = arguments.seed.unwrap_or_else(seed_of_now);
    let out = arguments.out.clone();
    let out = out.unwrap_or_else(|| PathBuf::from(format!("jepsen-out/run-{seed}")));
    let kept = KeptRun::create(&out)?;
    let run = run_settings(arguments, seed);
    let wanted = arguments.isolate.unwrap_or(Isolate::Netns);
    let attempt = |isolate| attempt(arguments, &kept, &run, isolate);
    match (attempt(wanted), arguments.isolate) {
        (Err(ClusterError::Isolate(why)), None) => {
            eprintln!(
                "NO NETWORK NAMESPACES: {why}; all nodes are on 127.0.0.1 with proxies between them instead"
            );
            conclude(
                arguments,
                &kept,
                &run,
                Isolate::Loopback,
                attempt(Isolate::Loopback),
            )
        }
        (done, _) => conclude(arguments, &kept, &run, wanted, done),
    }
}

fn seed_of_now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let drawn = now.map_or(0, |since| since.as_nanos() / 1_000 % SEEDS);
    u64::try_from(drawn).unwrap_or_default()
}

fn run_settings(arguments: &RunArguments, seed: u64) -> RunSettings {
    let duration = Duration::from_secs(arguments.time);
    RunSettings {
        seed,
        duration,
        rate_per_s: arguments.rate,
        workloads: arguments.workload.clone(),
        client: arguments.clients.kind(),
        plan: Plan::make(seed, duration, &arguments.nemesis.0, arguments.nodes),
        ..RunSettings::default()
    }
}

/// What came of a run whose cluster could be started: what `drive` says, and the nodes.
type Driven = (Result<(), DriveError>, Recorder, Aftermath);

fn attempt(
    arguments: &RunArguments,
    kept: &KeptRun,
    run: &RunSettings,
    isolate: Isolate,
) -> Result<Driven, ClusterError> {
    let unwritable =
        |error: Failure| ClusterError::Runtime(std::io::Error::other(error.to_string()));
    let recorder = Recorder::streaming(kept.writer("history.jsonl").map_err(unwritable)?);
    let mut set = vec![format!("durability={}", arguments.durability.name())];
    set.extend(arguments.set.iter().cloned());
    let cluster = ClusterSettings {
        binary: arguments.bin.clone(),
        nodes: arguments.nodes,
        // One more for what belongs to no client: topics, members, the last reads.
        clients: run.clients + 1,
        out: kept.path(""),
        isolate,
        seed: run.seed,
        kinds: arguments.nemesis.0.clone(),
        set,
        env: Vec::new(),
    };
    let (driven, aftermath) =
        jepsen_cluster::run(&cluster, async |world| drive(world, run, &recorder).await)?;
    Ok((driven, recorder, aftermath))
}

/// Judges the history, however the run ended, and keeps all of it.
fn conclude(
    arguments: &RunArguments,
    kept: &KeptRun,
    run: &RunSettings,
    isolate: Isolate,
    driven: Result<Driven, ClusterError>,
) -> Result<Exit, Failure> {
    let logs = kept.path("nodes").display().to_string();
    let (driven, recorder, aftermath) =
        driven.map_err(|error| Failure::new(error, format!("what the nodes said is in {logs}")))?;
    let events = recorder.finish().map_err(|error| {
        Failure::new(
            error,
            "the harness recorded something impossible: do the run again",
        )
    })?;
    let mut settings = settings(arguments, run, isolate);
    settings.seen_elsewhere = aftermath.problems.iter().filter_map(anomaly_of).collect();
    note_error_lines(&mut settings.about, &aftermath.problems);
    let mut verdict = judge(&events, &settings.limits, &settings.seen_elsewhere);
    let effective: u64 = verdict
        .stats
        .faults
        .values()
        .map(|fault| fault.took_effect)
        .sum();
    if effective == 0 && !arguments.nemesis.0.is_empty() {
        verdict
            .unknown_because
            .push("no fault took effect".to_owned());
        if verdict.outcome == Outcome::Valid {
            verdict.outcome = Outcome::Unknown;
        }
    }
    kept.write_settings(&settings)?;
    kept.write_verdict(&events, &verdict, &settings.about)?;
    let mut lines = print::verdict(&verdict);
    lines.push(format!("report: {}", kept.path("report.html").display()));
    lines.push(format!("again: {}", settings.about.replay));
    let exit = Exit::from(verdict.outcome);
    let Err(fault) = driven else {
        print::lines(&lines)?;
        return Ok(exit);
    };
    lines.push(format!(
        "harness fault: {fault}; what the nodes said is in {logs}"
    ));
    print::lines(&lines)?;
    Ok(exit.max(Exit::Fault))
}

/// What a node did that nobody meant.
fn anomaly_of(problem: &Problem) -> Option<Anomaly> {
    let name = match problem.kind {
        ProblemKind::Exited | ProblemKind::Panicked => AnomalyName::Panicked,
        ProblemKind::NotReady => AnomalyName::NotLive,
        ProblemKind::ErrorLine => return None,
    };
    let at_s = problem.time_us as f64 / 1e6;
    let explanation = format!("node {} at {at_s:.3} s: {}", problem.node, problem.text);
    let mut anomaly = Anomaly::new(name, explanation);
    anomaly.node = Some(problem.node);
    Some(anomaly)
}

fn note_error_lines(about: &mut About, problems: &[Problem]) {
    let is_line = |problem: &&Problem| problem.kind == ProblemKind::ErrorLine;
    let mut lines = problems.iter().filter(is_line);
    let Some(first) = lines.next() else { return };
    let value = format!(
        "{}, the first of node {}: {}",
        1 + lines.count(),
        first.node,
        first.text
    );
    about
        .settings
        .push(("lines of level ERROR".to_owned(), value));
}

fn settings(arguments: &RunArguments, run: &RunSettings, isolate: Isolate) -> Settings {
    let workload = names(&arguments.workload, WorkloadKind::name);
    let told = [
        ("nodes", arguments.nodes.to_string()),
        ("workload", workload),
        ("nemesis", arguments.nemesis.to_string()),
        ("time", arguments.time.to_string()),
        ("rate", arguments.rate.to_string()),
        ("clients", arguments.clients.name().to_owned()),
        ("durability", arguments.durability.name().to_owned()),
        ("isolate", isolate.name().to_owned()),
    ];
    let mut words = vec![
        "run".to_owned(),
        "--bin".to_owned(),
        arguments.bin.display().to_string(),
        "--seed".to_owned(),
        run.seed.to_string(),
    ];
    words.extend(
        told.iter()
            .flat_map(|(name, value)| [format!("--{name}"), value.clone()]),
    );
    words.extend(
        arguments
            .set
            .iter()
            .flat_map(|set| ["--set".to_owned(), set.clone()]),
    );
    let shown = told
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone()));
    let about = About {
        title: format!("{} nodes, {}", arguments.nodes, place(isolate)),
        seed: Some(run.seed),
        settings: shown.collect(),
        replay: format!("jepsen {}", words.join(" ")),
    };
    Settings {
        world: World::Run,
        seed: run.seed,
        arguments: words,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        about,
        limits: limits(run),
        seen_elsewhere: Vec::new(),
    }
}

fn place(isolate: Isolate) -> &'static str {
    match isolate {
        Isolate::Netns => "each in a network namespace of its own",
        Isolate::Loopback => "on 127.0.0.1 with proxies between them",
    }
}

fn limits(run: &RunSettings) -> Limits {
    let has = |kind| run.workloads.contains(&kind);
    let unless_none = |least, kind| if has(kind) { least } else { 0 };
    Limits {
        sends_ok_min: unless_none(100, WorkloadKind::Log),
        polls_ok_min: unless_none(50, WorkloadKind::Log),
        admin_ok_min: unless_none(10, WorkloadKind::Meta),
        ..Limits::default()
    }
}
