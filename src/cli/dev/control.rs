//! What is done to a running `braidlog dev` from another terminal.

use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use storage::disk::Disk;

use super::super::Context;
use super::super::failure::{Failure, Kind};
use super::super::output::{Format, Table};
use super::super::processes::{Activity, Process};
use super::state::{NodeState, State, requests};

const POLL: Duration = Duration::from_millis(50);
/// A node, or all of them, must have stopped, or started, within this.
const PATIENCE_MS: i64 = 60_000;

pub(super) fn status(directory: &Path, context: &mut Context) -> Result<(), Failure> {
    let state = State::running(directory)?;
    if context.output.format() == Format::Json {
        let nodes: Vec<Value> = state
            .nodes
            .iter()
            .map(|node| {
                json!({
                    "node_id": node.id,
                    "state": word(node),
                    "pid": alive(node).map(|process| process.pid),
                    "kafka": node.kafka,
                    "http": node.http,
                    "log": node.log,
                })
            })
            .collect();
        return Ok(context.output.json(&Value::from(nodes))?);
    }
    let mut table = Table::new(&["NODE", "STATE", "PID", "KAFKA", "HTTP", "LOG"]);
    for node in &state.nodes {
        table.row(vec![
            node.id.to_string(),
            word(node).to_owned(),
            alive(node).map_or("-".to_owned(), |process| process.pid.to_string()),
            node.kafka.clone(),
            node.http.clone(),
            node.log.display().to_string(),
        ]);
    }
    Ok(context.output.table(&table)?)
}

fn alive(node: &NodeState) -> Option<Process> {
    node.process.filter(|process| process.is_alive())
}

fn word(node: &NodeState) -> &'static str {
    match node.process.map(Process::activity) {
        None | Some(Activity::Ended) => "ended",
        Some(Activity::Paused) => "paused",
        Some(Activity::Running) if node.is_ready => "running",
        Some(Activity::Running) => "starting",
    }
}

/// The node's process, which must be there.
fn process(directory: &Path, id: u32) -> Result<Process, Failure> {
    let state = State::running(directory)?;
    alive(state.node(id)?).ok_or_else(|| {
        Failure::new(Kind::NotFound, format!("node {id} does not run"))
            .help(format!("start it with `braidlog dev restart {id}`"))
    })
}

fn signal(process: Process, id: u32, signal: Signal) -> Result<(), Failure> {
    let cannot = |reason: String| Failure::new(Kind::Failed, format!("node {id}: {reason}"));
    match process.signal(signal) {
        Ok(true) => Ok(()),
        Ok(false) => Err(cannot("it has just ended".to_owned())),
        Err(error) => Err(cannot(format!(
            "cannot signal pid {}: {error}",
            process.pid
        ))),
    }
}

fn say(context: &mut Context, id: u32, done: &str) -> Result<(), Failure> {
    let value = json!({ "node_id": id, "done": done });
    Ok(context
        .output
        .result(&format!("{done} node {id}"), &value)?)
}

pub(super) async fn kill(directory: &Path, id: u32, context: &mut Context) -> Result<(), Failure> {
    let process = process(directory, id)?;
    signal(process, id, Signal::KILL)?;
    let gone = || Ok(!process.is_alive());
    until(&context.clock, &format!("node {id} to end"), gone).await?;
    say(context, id, "killed")
}

pub(super) async fn pause(directory: &Path, id: u32, context: &mut Context) -> Result<(), Failure> {
    let process = process(directory, id)?;
    signal(process, id, Signal::STOP)?;
    // It stands still when all of its threads do.
    let stands = || Ok(process.activity() != Activity::Running);
    until(&context.clock, &format!("node {id} to stand still"), stands).await?;
    say(context, id, "paused")
}

pub(super) async fn resume(
    directory: &Path,
    id: u32,
    context: &mut Context,
) -> Result<(), Failure> {
    let process = process(directory, id)?;
    signal(process, id, Signal::CONT)?;
    let goes_on = || Ok(process.activity() != Activity::Paused);
    until(&context.clock, &format!("node {id} to go on"), goes_on).await?;
    say(context, id, "resumed")
}

/// Asks the parent for it, and waits until another process is the node and is ready.
pub(super) async fn restart(
    directory: &Path,
    id: u32,
    context: &mut Context,
) -> Result<(), Failure> {
    let before = State::running(directory)?.node(id)?.process;
    if let Some(process) = before.filter(|process| process.activity() == Activity::Paused) {
        signal(process, id, Signal::CONT)?;
    }
    let request = requests(directory).join(format!("restart-{id}"));
    Disk::Real
        .write_file_atomic(&request, b"")
        .map_err(|error| {
            let reason = format!("cannot write {}: {error}", request.display());
            Failure::new(Kind::Failed, reason)
        })?;
    let restarted = || {
        let state = State::running(directory)?;
        let node = state.node(id)?;
        if node.process != before && alive(node).is_none() {
            let reason = format!("node {id} did not start; its log is {}", node.log.display());
            return Err(Failure::new(Kind::Failed, reason));
        }
        Ok(node.process != before && node.is_ready)
    };
    until(&context.clock, &format!("node {id} to be ready"), restarted).await?;
    say(context, id, "restarted")
}

pub(super) async fn stop(directory: &Path, context: &mut Context) -> Result<(), Failure> {
    let supervisor = State::running(directory)?.supervisor;
    supervisor.signal(Signal::TERM).map_err(|error| {
        let reason = format!("cannot signal pid {}: {error}", supervisor.pid);
        Failure::new(Kind::Failed, reason)
    })?;
    let gone = || Ok(!supervisor.is_alive());
    until(&context.clock, "the nodes to stop", gone).await?;
    Ok(context
        .output
        .result("stopped", &json!({ "done": "stopped" }))?)
}

async fn until(
    clock: &storage::clock::Clock,
    what: &str,
    mut is_so: impl FnMut() -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let deadline_ms = clock.monotonic_ms().saturating_add(PATIENCE_MS);
    while !is_so()? {
        if clock.monotonic_ms() >= deadline_ms {
            return Err(Failure::new(
                Kind::TimedOut,
                format!("waited in vain for {what}"),
            ));
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}
