//! Runs one seed in this process and prints what came of it.
//!
//! `SEED [--trace FILE] [--log DIRECTIVES] [--nemesis KINDS] [--nodes N] [--time-ms MS]`. `entropy SEED` instead prints
//! what is drawn at random in such a process.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "that is what it is for"
)]

use std::collections::HashSet;
use std::process::ExitCode;
use std::time::Duration;

use jepsen_sim::{SimSettings, run_seed};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match settings(&arguments) {
        None => {
            eprintln!(
                "usage: jepsen-sim-seed [entropy] SEED [--trace FILE] [--log DIRECTIVES] [--nemesis A,B] [--nodes N] [--time-ms MS]"
            );
            ExitCode::from(3)
        }
        Some(settings) if arguments.first().is_some_and(|first| first == "entropy") => {
            // A thread of its own: what this one has drawn for itself already was not simulated.
            jepsen_sim::begin(settings.seed);
            let drawing = std::thread::spawn(entropy);
            drawing
                .join()
                .map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
        }
        Some(settings) => run(&settings),
    }
}

fn settings(arguments: &[String]) -> Option<SimSettings> {
    let mut settings = None;
    let mut rest = arguments.iter().skip_while(|one| *one == "entropy");
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--trace" => settings
                .as_mut()
                .map(|to: &mut SimSettings| to.trace = rest.next().map(Into::into))?,
            "--log" => settings.as_mut().map(|to| to.log = rest.next().cloned())?,
            "--nodes" => settings.as_mut()?.nodes = rest.next()?.parse().ok(),
            "--time-ms" => {
                let ms = rest.next()?.parse().ok()?;
                settings.as_mut()?.duration = Duration::from_millis(ms);
            }
            "--nemesis" => {
                let kinds = rest
                    .next()?
                    .split(',')
                    .map(str::parse)
                    .collect::<Result<_, _>>();
                settings.as_mut()?.nemeses = Some(kinds.ok()?);
            }
            seed => settings = Some(SimSettings::new(seed.parse().ok()?)),
        }
    }
    settings
}

fn run(settings: &SimSettings) -> ExitCode {
    let outcome = match run_seed(settings) {
        Ok(outcome) => outcome,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(3);
        }
    };
    let verdict = &outcome.verdict;
    println!("seed {}: {}", outcome.seed, outcome.decided);
    println!(
        "{:?}; {} events, {} lines of trace {}, {} ms virtual in {} ms",
        verdict.outcome,
        outcome.events.len(),
        outcome.trace_lines,
        outcome.trace_digest,
        outcome.virtual_ms,
        outcome.real_ms
    );
    if let Some(error) = &outcome.harness_error {
        println!("harness: {error}");
        let tail = outcome.trace_tail.len().saturating_sub(30);
        outcome.trace_tail[tail..]
            .iter()
            .for_each(|line| println!("{line}"));
    }
    for anomaly in &verdict.anomalies {
        println!("{anomaly:?}");
    }
    for reason in &verdict.unknown_because {
        println!("unknown: {reason}");
    }
    match (&outcome.harness_error, verdict.outcome) {
        (_, jepsen_check::Outcome::Anomaly) => ExitCode::from(1),
        (Some(_), _) => ExitCode::from(3),
        (None, jepsen_check::Outcome::Unknown) => ExitCode::from(2),
        (None, jepsen_check::Outcome::Valid) => ExitCode::SUCCESS,
    }
}

/// Draws at random in every way that the nodes do.
fn entropy() {
    let set: HashSet<u32> = (0..32).collect();
    println!("{set:?}");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    let chosen = runtime.expect("a runtime").block_on(async {
        let mut chosen = Vec::new();
        for _ in 0..40 {
            tokio::select! {
                () = std::future::ready(()) => chosen.push(1),
                () = std::future::ready(()) => chosen.push(2),
                () = std::future::ready(()) => chosen.push(3),
            }
        }
        chosen
    });
    println!("{chosen:?}");
    println!(
        "{:?} {:?}",
        rand::random::<u64>(),
        storage::clock::Clock::system()
    );
}
