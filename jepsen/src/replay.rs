//! `jepsen replay`: a simulated run again, in this process and with its whole trace.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use clap::Parser;

use crate::cli::{Cli, Command, ReplayArguments, Simulated};
use crate::exit::{Exit, Failure};
use crate::kept::{KeptRun, World};
use crate::print;
use crate::seed::exit_of;

/// Does it.
pub(crate) fn run(arguments: &ReplayArguments) -> Result<Exit, Failure> {
    let (seed, simulated) = what(arguments)?;
    let mut settings = simulated.settings(seed);
    settings.log.clone_from(&arguments.log);
    let out: Box<dyn Write + Send> = match &arguments.trace {
        Some(path) => {
            let file = File::create(path).map_err(|error| {
                let cause = format!("{}: {error}", path.display());
                Failure::new(cause, "name another file with --trace")
            })?;
            Box::new(BufWriter::new(file))
        }
        None => Box::new(BufWriter::new(io::stdout())),
    };
    let outcome = jepsen_sim::replay(&settings, out).map_err(|error| {
        Failure::new(
            error,
            "see its last words: name a file with --trace and look at its end",
        )
    })?;
    let exit = exit_of(&outcome);
    let mut lines = vec![
        format!("seed {seed}: {}", outcome.decided),
        format!(
            "{} lines of trace, digest {}; {:.1} virtual seconds in {:.1} s",
            outcome.trace_lines,
            outcome.trace_digest,
            outcome.virtual_ms as f64 / 1e3,
            outcome.real_ms as f64 / 1e3
        ),
    ];
    lines.extend(print::verdict(&outcome.verdict));
    if let Some(error) = &outcome.harness_error {
        lines.push(format!("harness fault: {error}"));
    }
    print::lines(&lines)?;
    Ok(exit)
}

/// Which seed, and what it was told.
fn what(arguments: &ReplayArguments) -> Result<(u64, Simulated), Failure> {
    if let Ok(seed) = arguments.what.parse() {
        return Ok((seed, arguments.simulated.clone()));
    }
    let kept = KeptRun::open(Path::new(&arguments.what))?.settings()?;
    if kept.world == World::Run {
        return Err(Failure::new(
            "real processes never do the same thing twice",
            format!(
                "this does the same faults at the same times: {}",
                kept.about.replay
            ),
        ));
    }
    let words = ["jepsen", "replay", &arguments.what].map(str::to_owned);
    let again = Cli::try_parse_from(words.into_iter().chain(kept.arguments));
    match again.map(|cli| cli.command) {
        Ok(Command::Replay(again)) => Ok((kept.seed, again.simulated)),
        _ => Err(Failure::new(
            format!("{} was written by version {}", arguments.what, kept.version),
            format!(
                "give its seed and settings by hand: jepsen replay {} --help",
                kept.seed
            ),
        )),
    }
}
