//! `jepsen`: breaks a Braidlog cluster in every way we know, real or simulated, and says from what
//! its clients saw whether a promise was broken.
//!
//! Only the command line is here; `README.md` has the commands. Every command ends with one of four
//! exit codes, see [`exit::Exit`].
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "this program works on real files, processes and time"
)]

mod bugs;
mod cli;
mod exit;
mod kept;
mod list;
mod live;
mod print;
mod replay;
mod seed;
mod sim;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use cli::{BugsArguments, Cli, Command};
use exit::{Exit, Failure};
use kept::{KeptRun, judge};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let is_asked_for = matches!(
                error.kind(),
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
            );
            // Where even this cannot be written nobody reads it.
            let _ = error.print();
            return if is_asked_for {
                Exit::Valid
            } else {
                Exit::Fault
            }
            .into();
        }
    };
    match run(cli.command) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            eprintln!("harness fault: {failure}");
            Exit::Fault.into()
        }
    }
}

fn run(command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Run(arguments) => {
            log_to_stderr();
            live::run(&arguments)
        }
        Command::Sim(arguments) => sim::run(&arguments),
        Command::SimSeed(arguments) => seed::run(&arguments),
        Command::Replay(arguments) => replay::run(&arguments),
        Command::Check(kept) => check(&KeptRun::open(&kept.dir)?),
        Command::Report(kept) => report(&KeptRun::open(&kept.dir)?),
        Command::Bugs(arguments) => hunt(arguments),
        Command::List => print::lines(&list::lines()).map(|()| Exit::Valid),
    }
}

/// What the harness does, for whoever waits for it.
fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("JEPSEN_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
}

fn check(kept: &KeptRun) -> Result<Exit, Failure> {
    let settings = kept.settings()?;
    let events = kept.history()?;
    let verdict = judge(&events, &settings.limits, &settings.seen_elsewhere);
    kept.write_verdict(&events, &verdict, &settings.about)?;
    let mut lines = print::verdict(&verdict);
    lines.push(format!("report: {}", kept.path("report.html").display()));
    print::lines(&lines)?;
    Ok(verdict.outcome.into())
}

fn report(kept: &KeptRun) -> Result<Exit, Failure> {
    let settings = kept.settings()?;
    let events = kept.history()?;
    let verdict = match kept.verdict()? {
        Some(verdict) => verdict,
        None => judge(&events, &settings.limits, &settings.seen_elsewhere),
    };
    kept.write_report(&events, &verdict, &settings.about)?;
    print::lines(&[format!("report: {}", kept.path("report.html").display())])?;
    Ok(Exit::Valid)
}

fn hunt(arguments: BugsArguments) -> Result<Exit, Failure> {
    if !storage::bugs::IS_BUILT_IN {
        return Err(Failure::new(
            storage::bugs::NotBuiltIn,
            "cargo xtask jepsen --bugs",
        ));
    }
    let hunt = bugs::Hunt {
        bugs: arguments.only,
        seed: arguments.seed,
        tries: arguments.tries,
        duration: std::time::Duration::from_secs(arguments.time),
        jobs: usize::try_from(arguments.jobs).unwrap_or(1),
        out: arguments.out,
    };
    let found = hunt.run(&mut std::io::stdout()).map_err(|error| {
        Failure::new(error, "see that processes can be started and files written")
    })?;
    // A bug that nothing finds is no broken promise of the product: it is a hole in the harness.
    Ok(if found { Exit::Valid } else { Exit::Fault })
}
