//! `jepsen run`: real processes, from their first start to the report.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jepsen_check::report::About;
use jepsen_check::{Anomaly, AnomalyName, Limits, Outcome, Recorder};
use jepsen_cluster::{Aftermath, ClusterError, ClusterSettings, Isolate, Problem, ProblemKind};
use jepsen_workload::plan::{Kind, Pace, Plan};
use jepsen_workload::{DriveError, RunSettings, WorkloadKind, drive};

use crate::cli::{Durability, RunArguments, names};
use crate::exit::{Exit, Failure};
use crate::kept::{KeptRun, Settings, World, judge};
use crate::print;

/// Seeds drawn from the clock are short enough to be typed.
const SEEDS: u128 = 1_000_000_000;
/// How nodes are told to treat groups, unless they are told otherwise.
const GROUP_SETTINGS: [&str; 3] = [
    "groups.initial_rebalance_delay=500ms",
    "groups.consumer_session_timeout=6s",
    "groups.consumer_heartbeat_interval=1s",
];
/// Letters of a node's last words.
const WORDS_CHARS_MAX: usize = 400;

/// Runs it.
pub(crate) fn run(arguments: &RunArguments) -> Result<Exit, Failure> {
    if !arguments.bin.is_file() {
        return Err(Failure::new(
            format!("{} is no program", arguments.bin.display()),
            "build one with `cargo build --release` and name it: --bin target/release/braidlog",
        ));
    }
    if arguments.durability != Durability::Fsync && arguments.nemesis.0.contains(&Kind::Power) {
        return Err(Failure::new(
            "without fsync a record is promised only while a majority keeps power, and `power` takes it from all",
            "leave `power` out of --nemesis, or --durability away",
        ));
    }
    let seed = arguments.seed.unwrap_or_else(seed_of_now);
    let run = run_settings(arguments, seed);
    run.validate()
        .map_err(|why| Failure::new(why, "see `jepsen run --help`"))?;
    let out = arguments.out.clone();
    let out = out.unwrap_or_else(|| PathBuf::from(format!("jepsen-out/run-{seed}")));
    let kept = KeptRun::create(&out)?;
    let wanted = arguments.isolate.unwrap_or(Isolate::Netns);
    let attempt = |isolate| {
        // Before anything happens, so that a run that is broken off can be judged as far as it went.
        let told = kept.write_settings(&settings(arguments, &run, isolate));
        told.map_err(|error| ClusterError::Runtime(std::io::Error::other(error.to_string())))?;
        attempt(arguments, &kept, &run, isolate)
    };
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
    let kinds = &arguments.nemesis.0;
    let plan = match arguments.workload.contains(&WorkloadKind::Group) {
        true => Plan::lulled(seed, duration, kinds, arguments.nodes, Pace::Brisk),
        false => Plan::paced(seed, duration, kinds, arguments.nodes, Pace::Brisk),
    };
    let plan = match arguments.durability {
        Durability::Fsync => plan,
        Durability::Interval | Durability::Os => plan.for_relaxed(),
    };
    RunSettings {
        seed,
        duration,
        rate_per_s: arguments.rate,
        workloads: arguments.workload.clone(),
        client: arguments.clients.kind(),
        plan,
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
    let mut set = Vec::new();
    if arguments.workload.contains(&WorkloadKind::Group) {
        // Members die more often than they do elsewhere.
        set.extend(GROUP_SETTINGS.map(str::to_owned));
    }
    set.extend(arguments.set.iter().cloned());
    if arguments.durability != Durability::default() {
        set.push(format!("durability={}", arguments.durability.name()));
    }
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
    let (driven, recorder, aftermath) = driven.map_err(|error| {
        let next = match &error {
            ClusterError::Interrupted => {
                let dir = kept.path("");
                format!("`jepsen check {}` judges what there is", dir.display())
            }
            _ => format!("what the nodes said is in {logs}"),
        };
        Failure::new(error, next)
    })?;
    let events = recorder.finish().map_err(|error| {
        Failure::new(
            error,
            "the harness recorded something impossible: do the run again",
        )
    })?;
    let mut settings = settings(arguments, run, isolate);
    settings.seen_elsewhere = seen_elsewhere(&aftermath.problems);
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
        if exit == Exit::Valid {
            kept.drop_data()?;
        }
        print::lines(&lines)?;
        return Ok(exit);
    };
    lines.push(format!(
        "harness fault: {fault}; what the nodes said is in {logs}"
    ));
    print::lines(&lines)?;
    Ok(exit.max(Exit::Fault))
}

/// What nodes did that nobody meant. A node that ends with the same words at each start did one thing.
fn seen_elsewhere(problems: &[Problem]) -> Vec<Anomaly> {
    let mut seen: Vec<(Anomaly, String, u64)> = Vec::new();
    for problem in problems {
        let name = match problem.kind {
            ProblemKind::Exited | ProblemKind::Panicked => AnomalyName::Panicked,
            ProblemKind::NotReady => AnomalyName::NotLive,
            ProblemKind::ErrorLine => continue,
        };
        let words = last_words(&problem.text);
        let same = seen.iter_mut().find(|(anomaly, said, _)| {
            anomaly.name == name && anomaly.node == Some(problem.node) && *said == words
        });
        if let Some((_, _, times)) = same {
            *times += 1;
            continue;
        }
        let at_s = problem.time_us as f64 / 1e6;
        let first = problem.text.lines().next().unwrap_or_default();
        let explanation = format!("node {} at {at_s:.3} s: {first}", problem.node);
        let mut anomaly = Anomaly::new(name, explanation);
        anomaly.node = Some(problem.node);
        seen.push((anomaly, words, 1));
    }
    let told = seen.into_iter().map(|(mut anomaly, words, times)| {
        let explanation = &mut anomaly.explanation;
        if !explanation.ends_with(&words) {
            explanation.push(' ');
            explanation.push_str(&words);
        }
        if times > 1 {
            explanation.push_str(&format!(" (so {times} times)"));
        }
        anomaly
    });
    told.collect()
}

/// The last line of what a node said, cut to a length.
fn last_words(text: &str) -> String {
    let last = text.lines().rev().find(|line| !line.trim().is_empty());
    last.unwrap_or_default()
        .trim()
        .chars()
        .take(WORDS_CHARS_MAX)
        .collect()
}

fn note_error_lines(about: &mut About, problems: &[Problem]) {
    let is_line = |problem: &&Problem| problem.kind == ProblemKind::ErrorLine;
    let mut lines = problems.iter().filter(is_line);
    let Some(first) = lines.next() else { return };
    let value = format!(
        "{}, the first of node {}: {}",
        1 + lines.count(),
        first.node,
        last_words(&first.text)
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
        limits: limits(run, arguments.nodes),
        seen_elsewhere: Vec::new(),
    }
}

fn place(isolate: Isolate) -> &'static str {
    match isolate {
        Isolate::Netns => "each in a network namespace of its own",
        Isolate::Loopback => "on 127.0.0.1 with proxies between them",
    }
}

fn limits(run: &RunSettings, nodes: u32) -> Limits {
    let has = |kind| run.workloads.contains(&kind);
    let has_log = has(WorkloadKind::Log) || has(WorkloadKind::Group);
    let least = |count, is_asked| if is_asked { count } else { 0 };
    Limits {
        sends_ok_min: least(100, has_log),
        polls_ok_min: least(50, has_log),
        admin_ok_min: least(10, has(WorkloadKind::Meta)),
        commits_ok_min: least(5, has(WorkloadKind::Group)),
        group_rests_min: least(1, has(WorkloadKind::Group)),
        replicas_min: nodes.min(Limits::default().replicas_min),
        ..Limits::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(node: u32, kind: ProblemKind, text: &str) -> Problem {
        Problem {
            node,
            time_us: 1_500_000,
            kind,
            text: text.to_owned(),
        }
    }

    #[test]
    fn of_one_node_no_second_replica_is_asked_for() {
        let of = |nodes| limits(&RunSettings::default(), nodes).replicas_min;
        assert_eq!((of(1), of(3)), (1, Limits::default().replicas_min));
        assert!(of(3) > 1);
    }

    #[test]
    fn a_node_that_cannot_start_is_one_anomaly() {
        let text =
            |start| format!("it ended by itself with code 1:\n--- start {start}\nno identity\n");
        let mut problems: Vec<_> = (1..9)
            .map(|start| problem(1, ProblemKind::Exited, &text(start)))
            .collect();
        problems.push(problem(2, ProblemKind::Exited, &text(1)));
        problems.push(problem(2, ProblemKind::ErrorLine, "for people"));
        problems.push(problem(3, ProblemKind::NotReady, "it is not ready"));
        let seen = seen_elsewhere(&problems);
        let told: Vec<_> = seen
            .iter()
            .map(|anomaly| anomaly.explanation.as_str())
            .collect();
        assert_eq!(
            told,
            [
                "node 1 at 1.500 s: it ended by itself with code 1: no identity (so 8 times)",
                "node 2 at 1.500 s: it ended by itself with code 1: no identity",
                "node 3 at 1.500 s: it is not ready",
            ]
        );
        assert_eq!(seen[2].name, AnomalyName::NotLive);
    }
}
