//! Running the nodes: starts them, says what becomes of them, starts one again when asked, and
//! stops all of them at the end.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use storage::disk::Disk;

use super::super::Context;
use super::super::failure::{Failure, Kind};
use super::super::processes::{Activity, Process};
use super::super::start::StopSignals;
use super::child::{NodeChild, Plan, last_lines};
use super::state::{NodeState, State, requests};
use super::{OFFSET_STEP, RunArguments};
use crate::config::{HTTP_PORT, KAFKA_PORT, PEERS_PORT};

const POLL: Duration = Duration::from_millis(50);
/// A node that has not stopped in good order within this is killed.
const STOP_MS_MAX: i64 = 15_000;

struct Node {
    plan: Plan,
    state: NodeState,
    child: Option<NodeChild>,
    /// To be started again as soon as it has ended.
    is_restarting: bool,
}

struct Nodes {
    directory: PathBuf,
    nodes: Vec<Node>,
    supervisor: Process,
}

pub(super) async fn run(arguments: &RunArguments, context: &mut Context) -> Result<(), Failure> {
    let directory = prepare(&arguments.directory.path)?;
    let mut stop = StopSignals::listen()?;
    let supervisor = Process::of(std::process::id()).ok_or_else(|| {
        Failure::new(
            Kind::Failed,
            "`braidlog dev` needs /proc, which is not there",
        )
    })?;
    let mut nodes = Nodes {
        nodes: plans(arguments, &directory)?,
        directory,
        supervisor,
    };
    for at in 0..nodes.nodes.len() {
        nodes.start(at)?;
    }
    nodes.write()?;
    let result = nodes.watch(&mut stop, context).await;
    let all_ended = nodes.stop(&mut stop, &context.clock).await;
    result.and(all_ended)
}

/// The directory, empty of requests, with nobody else running there. Absolute.
fn prepare(path: &Path) -> Result<PathBuf, Failure> {
    let cannot = |what: &str, error: std::io::Error| {
        let reason = format!("cannot {what} {}: {error}", path.display());
        Failure::new(Kind::Failed, reason)
    };
    let directory = std::path::absolute(path).map_err(|error| cannot("find", error))?;
    if let Some(state) = State::read(&directory)?
        && state.supervisor.is_alive()
    {
        let reason = format!(
            "pid {} runs nodes in {} already",
            state.supervisor.pid,
            path.display()
        );
        return Err(Failure::new(Kind::Conflict, reason)
            .help("stop them with `braidlog dev stop`, or choose another directory with --dir"));
    }
    let requests = requests(&directory);
    Disk::Real
        .create_dir_all(&requests)
        .map_err(|error| cannot("make", error))?;
    for entry in read_requests(&requests)? {
        let entry = requests.join(entry);
        Disk::Real
            .remove_file(&entry)
            .map_err(|error| cannot("clear", error))?;
    }
    Ok(directory)
}

fn read_requests(requests: &Path) -> Result<Vec<String>, Failure> {
    let entries = Disk::Real.read_dir(requests).map_err(|error| {
        let reason = format!("cannot read {}: {error}", requests.display());
        Failure::new(Kind::Failed, reason)
    })?;
    Ok(entries.into_iter().map(|entry| entry.name).collect())
}

/// Node `n` has `OFFSET_STEP * (n - 1)` added to its ports.
fn plans(arguments: &RunArguments, directory: &Path) -> Result<Vec<Node>, Failure> {
    let offset_of = |at: u16| {
        let offset = at.checked_mul(OFFSET_STEP)?;
        arguments.port_offset.checked_add(offset)
    };
    let offsets: Option<Vec<u16>> = (0..arguments.nodes).map(offset_of).collect();
    let offsets = offsets.filter(|offsets| {
        let last = offsets.last().copied().unwrap_or(0);
        PEERS_PORT.checked_add(last).is_some()
    });
    let offsets = offsets
        .ok_or_else(|| Failure::new(Kind::Usage, "--port-offset moves ports beyond 65535"))?;
    let seeds: Vec<String> = offsets
        .iter()
        .map(|offset| format!("127.0.0.1:{}", PEERS_PORT + offset))
        .collect();
    let seeds = seeds.join(",");
    let node = |(id, offset): (u32, &u16)| {
        let data_dir = directory.join(format!("node-{id}"));
        let mut all: Vec<String> = ["start", "--end-with-stdin", "-o", "json", "--seeds"]
            .map(str::to_owned)
            .to_vec();
        all.push(seeds.clone());
        all.extend(["--node-id".to_owned(), id.to_string()]);
        all.extend(["--port-offset".to_owned(), offset.to_string()]);
        all.extend(["--data-dir".to_owned(), data_dir.display().to_string()]);
        for setting in &arguments.set {
            all.extend(["--set".to_owned(), setting.clone()]);
        }
        let log = directory.join(format!("node-{id}.log"));
        Node {
            state: NodeState {
                id,
                process: None,
                is_ready: false,
                kafka: format!("127.0.0.1:{}", KAFKA_PORT + offset),
                http: format!("127.0.0.1:{}", HTTP_PORT + offset),
                log: log.clone(),
            },
            plan: Plan {
                id,
                arguments: all,
                log,
            },
            child: None,
            is_restarting: false,
        }
    };
    Ok((1..).zip(&offsets).map(node).collect())
}

impl Nodes {
    fn start(&mut self, at: usize) -> Result<(), Failure> {
        let node = &mut self.nodes[at];
        let child = NodeChild::spawn(&node.plan).map_err(|error| {
            let reason = format!("cannot start node {}: {error}", node.plan.id);
            Failure::new(Kind::Failed, reason)
        })?;
        node.state.process = child.process();
        node.state.is_ready = false;
        node.child = Some(child);
        node.is_restarting = false;
        Ok(())
    }

    fn write(&self) -> Result<(), Failure> {
        let state = State {
            supervisor: self.supervisor,
            nodes: self.nodes.iter().map(|node| node.state.clone()).collect(),
        };
        state.write(&self.directory)
    }

    /// Says what becomes of the nodes until a signal comes, or until one ends before all were
    /// ready once.
    async fn watch(
        &mut self,
        stop: &mut StopSignals,
        context: &mut Context,
    ) -> Result<(), Failure> {
        let mut were_all_ready = false;
        loop {
            let mut has_changed = false;
            for at in 0..self.nodes.len() {
                has_changed |= self.look_at(at, were_all_ready, context)?;
            }
            has_changed |= self.heed_requests()?;
            if has_changed {
                self.write()?;
            }
            if !were_all_ready && self.nodes.iter().all(|node| node.state.is_ready) {
                were_all_ready = true;
                self.welcome(context)?;
            }
            tokio::select! {
                _ = stop.next() => return Ok(()),
                () = tokio::time::sleep(POLL) => {}
            }
        }
    }

    /// Whether anything has changed with this node.
    fn look_at(
        &mut self,
        at: usize,
        were_all_ready: bool,
        context: &mut Context,
    ) -> Result<bool, Failure> {
        let node = &mut self.nodes[at];
        let id = node.plan.id;
        let Some(child) = &mut node.child else {
            if node.is_restarting {
                self.start(at)?;
                return Ok(true);
            }
            return Ok(false);
        };
        let ended = child.ended().map_err(|error| {
            let reason = format!("cannot look after node {id}: {error}");
            Failure::new(Kind::Failed, reason)
        })?;
        if let Some(status) = ended {
            node.child = None;
            node.state.is_ready = false;
            if node.is_restarting {
                return Ok(true);
            }
            let how = how(status);
            if !were_all_ready {
                let lines = last_lines(&node.plan.log).join("\n  ");
                let reason = format!("node {id} {how} before it was ready:\n  {lines}");
                return Err(Failure::new(Kind::Failed, reason)
                    .help(format!("its log is {}", node.plan.log.display())));
            }
            say(
                context,
                &format!("node {id} {how}; `braidlog dev restart {id}` starts it again"),
                &json!({ "node_id": id, "event": "ended", "status": how }),
            )?;
            return Ok(true);
        }
        if child.became_ready() {
            node.state.is_ready = true;
            let line = format!(
                "node {id} is ready  kafka {}  http {}  log {}",
                node.state.kafka,
                node.state.http,
                node.state.log.display()
            );
            let value = json!({
                "node_id": id,
                "event": "ready",
                "pid": node.state.process.map(|process| process.pid),
                "kafka": node.state.kafka,
                "http": node.state.http,
            });
            say(context, &line, &value)?;
            return Ok(true);
        }
        Ok(false)
    }

    /// Carries out what was asked for in `requests/`.
    fn heed_requests(&mut self) -> Result<bool, Failure> {
        let requests = requests(&self.directory);
        let mut has_changed = false;
        for name in read_requests(&requests)? {
            let Some(id) = name.strip_prefix("restart-") else {
                continue; // half-written, or somebody else's
            };
            let found = id.parse().ok().and_then(|id: u32| {
                let mut nodes = self.nodes.iter();
                nodes.position(|node| node.plan.id == id)
            });
            // A half-written file has a name that is no number.
            let Some(at) = found else { continue };
            let path = requests.join(&name);
            Disk::Real.remove_file(&path).map_err(|error| {
                let reason = format!("cannot remove {}: {error}", path.display());
                Failure::new(Kind::Failed, reason)
            })?;
            let node = &mut self.nodes[at];
            node.is_restarting = true;
            if node.child.is_some() {
                signal(node, Signal::TERM);
            }
            has_changed = true;
        }
        Ok(has_changed)
    }

    fn welcome(&self, context: &mut Context) -> Result<(), Failure> {
        let count = self.nodes.len();
        let http = &self.nodes[0].state.http;
        let kafka = &self.nodes[0].state.kafka;
        let line = format!(
            "\n{count} nodes run until Ctrl-C. From another terminal:\n\
             \x20 braidlog cluster status --watch{}\n\
             \x20 braidlog topic create greetings{}\n\
             \x20 braidlog dev kill {count}{}",
            unless(http, HTTP_PORT, "--http"),
            unless(kafka, KAFKA_PORT, "--server"),
            self.dir_flag(),
        );
        let value = json!({ "event": "all_ready", "nodes": count });
        say(context, &line, &value)
    }

    fn dir_flag(&self) -> String {
        let is_default = std::path::absolute("./dev").is_ok_and(|path| path == self.directory);
        match is_default {
            true => String::new(),
            false => format!(" --dir {}", self.directory.display()),
        }
    }

    /// Ends every node in good order; at the deadline or a second signal, at once.
    async fn stop(
        &mut self,
        stop: &mut StopSignals,
        clock: &storage::clock::Clock,
    ) -> Result<(), Failure> {
        for node in &self.nodes {
            let paused = node.state.process.map(Process::activity) == Some(Activity::Paused);
            signal(node, Signal::TERM);
            if paused {
                signal(node, Signal::CONT);
            }
        }
        let deadline_ms = clock.monotonic_ms().saturating_add(STOP_MS_MAX);
        let mut late = Vec::new();
        loop {
            for node in &mut self.nodes {
                let ended = node.child.as_mut().map(NodeChild::ended);
                if matches!(ended, Some(Ok(Some(_)) | Err(_))) {
                    node.child = None;
                }
            }
            let left = self.nodes.iter().filter(|node| node.child.is_some());
            let left: Vec<u32> = left.map(|node| node.plan.id).collect();
            if left.is_empty() {
                break;
            }
            if clock.monotonic_ms() >= deadline_ms {
                late = left;
                break;
            }
            tokio::select! {
                _ = stop.next() => { late = left; break; }
                () = tokio::time::sleep(POLL) => {}
            }
        }
        for node in &mut self.nodes {
            node.child = None; // which kills what is left
            node.state.is_ready = false;
        }
        self.write()?;
        if late.is_empty() {
            return Ok(());
        }
        let late: Vec<String> = late.iter().map(ToString::to_string).collect();
        let reason = format!(
            "killed, since they did not stop: node {}",
            late.join(", node ")
        );
        Err(Failure::new(Kind::Failed, reason))
    }
}

fn unless(address: &str, default_port: u16, flag: &str) -> String {
    match address.ends_with(&format!(":{default_port}")) {
        true => String::new(),
        false => format!(" {flag} {address}"),
    }
}

/// To a process that may be gone, which is then no matter.
fn signal(node: &Node, signal: Signal) {
    if let Some(process) = node.state.process
        && let Err(error) = process.signal(signal)
    {
        tracing::warn!(node = node.plan.id, %error, "cannot signal a node");
    }
}

fn how(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(9)) => "was killed".to_owned(),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

fn say(context: &mut Context, line: &str, value: &serde_json::Value) -> Result<(), Failure> {
    context.output.result(line, value)?;
    Ok(context.output.flush()?)
}
