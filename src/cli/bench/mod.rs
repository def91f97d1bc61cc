//! `braidlog bench`: puts a load on a cluster, measures it, and checks that what was acknowledged
//! is there. The work is done in the crate `load`; here are its arguments and what it prints.

mod print;
mod settings;

use std::io::{IsTerminal, Write};

use clap::Subcommand;
use load::{LoadError, Phase, Report};
use serde_json::Value;

use super::Context;
use super::failure::{Failure, Kind};
use super::session;
use settings::{ClusterArguments, ConsumeArguments, E2eArguments, ProduceArguments, RawArguments};

#[derive(Debug, Subcommand)]
pub(super) enum BenchCommand {
    /// Write records at a rate and measure how long each takes from when it was due
    Produce(ProduceArguments),
    /// Read a topic of `bench produce --keep` from its start to its end, as fast as it goes
    Consume(ConsumeArguments),
    /// Write records at a rate, read them at the same time, and measure how long each takes from
    /// when it was due to when it is read
    E2e(E2eArguments),
    /// Send requests that are encoded beforehand: what the broker can take at most
    Raw(RawArguments),
}

pub(super) fn run(command: &BenchCommand, context: &mut Context) -> Result<(), Failure> {
    let clock = context.clock.clone();
    match command {
        BenchCommand::Produce(it) => {
            let (cluster, target, load) = (&it.cluster, it.topic.target(), it.load.load()?);
            let check = it.check == settings::Check::On;
            let report = load::produce(&cluster.connect(), &target, &load, check, &clock, &told);
            finish("produce", cluster, &it.settings(), report, context)
        }
        BenchCommand::E2e(it) => {
            let (cluster, target, load) = (&it.cluster, it.topic.target(), it.load.load()?);
            let connect = cluster.connect();
            let report = load::e2e(&connect, &target, &load, it.fetchers, &clock, &told);
            finish("e2e", cluster, &it.settings(), report, context)
        }
        BenchCommand::Consume(it) => {
            let cluster = &it.cluster;
            settings::check_pid(it.broker_pid)?;
            let (target, check) = (it.target(), it.check == settings::Check::On);
            let (connect, pid) = (cluster.connect(), it.broker_pid);
            let report = load::consume(&connect, &target, it.clients, check, pid, &clock, &told);
            finish("consume", cluster, &it.settings(), report, context)
        }
        BenchCommand::Raw(it) => {
            let (cluster, target, load) = (&it.cluster, it.topic.target(), it.load()?);
            let report = load::raw(&cluster.connect(), &target, &load, &clock, &told);
            finish("raw", cluster, &it.settings(), report, context)
        }
    }
}

/// Prints the outcome. A run that was not sound fails, after it was printed as such.
fn finish(
    mode: &str,
    cluster: &ClusterArguments,
    settings: &Value,
    report: Result<Report, LoadError>,
    context: &mut Context,
) -> Result<(), Failure> {
    tell("");
    let report = report.map_err(|error| failure(cluster, error))?;
    print::print(mode, settings, &report, context)?;
    if report.is_ok() {
        return Ok(());
    }
    let problems = report.problems.join("; ");
    Err(Failure::new(
        Kind::Failed,
        format!("this run measured nothing: {problems}"),
    ))
}

fn failure(cluster: &ClusterArguments, error: LoadError) -> Failure {
    let message = error.to_string();
    match error {
        LoadError::NoTopic(_) => Failure::new(Kind::NotFound, message)
            .help("fill it with `braidlog bench produce --keep`"),
        LoadError::OtherPartitions { .. } => Failure::new(Kind::Conflict, message)
            .help("leave --partitions out, or name another topic with --topic"),
        LoadError::NoLeader { .. } => Failure::new(Kind::TimedOut, message),
        LoadError::Client(error) => {
            let server = cluster.first();
            let address = server.address();
            session::failure(&server, &address, error)
        }
        LoadError::Thread(_) => Failure::new(Kind::Failed, message),
    }
}

/// How far a run is, on standard error, when a person is looking.
fn told(phase: Phase) {
    tell(match phase {
        Phase::WarmUp => "warming up",
        Phase::Measure => "measuring",
        Phase::Check => "reading back what was written",
    });
}

fn tell(text: &str) {
    if std::io::stderr().is_terminal() {
        // Progress that cannot be shown is not missed.
        let _ = write!(std::io::stderr(), "\r\x1b[K{text}");
    }
}
