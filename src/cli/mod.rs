//! The command line: one file a noun, each command one async function that ends well or with a
//! `Failure`.
//!
//! Results go to standard output, as tables for people or JSON for programs; progress, logs and
//! errors go to standard error. A closed standard output (`| head`) is no error.

mod admin;
mod bench;
mod cluster;
mod commits;
mod config;
mod consume;
mod coordinator;
mod dev;
mod failure;
mod group;
mod lines;
mod offsets;
mod output;
mod partitioner;
mod port_holder;
mod position;
mod processes;
mod produce;
mod progress;
mod segment;
mod session;
mod start;
mod time;
mod topic;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use storage::clock::Clock;

use failure::Failure;
use output::{Format, Output};

/// The arguments of `braidlog`.
#[derive(Debug, Parser)]
#[command(
    name = "braidlog",
    version,
    about = "A Kafka-compatible replicated log in one binary",
    after_help = "Exit codes: 0 ok, 1 failed, 2 usage, 3 unreachable, 4 not authorised, \
                  5 not found, 6 timed out, 7 conflict.",
    disable_help_subcommand = true
)]
struct Arguments {
    /// How results are written
    #[arg(
        short,
        long,
        global = true,
        value_name = "FORMAT",
        default_value = "table"
    )]
    output: Format,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a node
    Start(start::StartArguments),
    /// Look at the cluster and change who is in it
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// Run a cluster of several nodes on this machine, to try things out
    Dev(dev::DevArguments),
    /// Create, list, change and delete topics
    #[command(subcommand)]
    Topic(topic::TopicCommand),
    /// Write records to a topic: one from the command line, or one per line of standard input
    Produce(produce::ProduceArguments),
    /// Read records from a topic
    Consume(consume::ConsumeArguments),
    /// Look at consumer groups, move them to another place, delete them
    #[command(subcommand)]
    Group(group::GroupCommand),
    /// Look at the configs of topics and nodes, and change them
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Measure this cluster, or any other that speaks Kafka's protocol
    #[command(subcommand)]
    Bench(bench::BenchCommand),
    /// Look at files
    #[command(subcommand)]
    Debug(DebugCommand),
}

#[derive(Debug, Subcommand)]
enum DebugCommand {
    /// Look at segment files; nothing is changed, and no node need run
    #[command(subcommand)]
    Segment(segment::SegmentCommand),
}

/// What every command is given.
struct Context {
    clock: Clock,
    output: Output,
}

/// The whole command line, as clap has it.
#[must_use]
pub fn command() -> clap::Command {
    <Arguments as clap::CommandFactory>::command()
}

/// Runs the command that this process was started with. `clock` should have been made first thing:
/// it is what start-up is timed by.
#[must_use]
pub fn run(clock: &Clock) -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        // Help and version are "errors" with exit code 0. A closed pipe is no matter here either.
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let format = arguments.output;
    let mut context = Context {
        clock: clock.clone(),
        output: Output::new(format),
    };
    let result = dispatch(arguments.command, &mut context)
        .and_then(|()| context.output.flush().map_err(Failure::from));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // What came before the failure still counts; that it cannot be written no longer does.
            let _ = context.output.flush();
            failure.report(format);
            failure.exit_code()
        }
    }
}

fn dispatch(command: Command, context: &mut Context) -> Result<(), Failure> {
    match command {
        Command::Start(arguments) => {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .build()?;
            let result = runtime.block_on(start::start(arguments, context));
            // A start that was broken off may still be busy on the disk; nothing waits for it.
            runtime.shutdown_background();
            result
        }
        Command::Bench(command) => bench::run(&command, context),
        Command::Debug(DebugCommand::Segment(command)) => segment::run(&command, context),
        Command::Cluster(command) => client(cluster::run(command, context)),
        Command::Dev(arguments) => client(dev::run(arguments, context)),
        Command::Config(command) => client(config::run(command, context)),
        Command::Group(command) => client(group::run(command, context)),
        Command::Topic(command) => client(topic::run(command, context)),
        Command::Produce(arguments) => client(produce::run(arguments, context)),
        Command::Consume(arguments) => client(consume::run(arguments, context)),
    }
}

/// Runs a command that talks to a node.
fn client(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(command)
}
