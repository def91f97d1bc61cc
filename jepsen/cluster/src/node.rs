//! The nodes: their processes, directories and addresses, who holds which of them down, and what
//! became of them that nobody meant.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jepsen_workload::fault::NodeId;

use crate::disk::NodeDisk;
use crate::error::ClusterError;
use crate::isolate::{Addresses, Net};
use crate::log::{HEADLINE, LogReader};
use crate::process::{Process, Start};
use crate::settings::ClusterSettings;

/// How long a process may take to be gone, or stopped: it may be in the middle of a slow sync.
const OBEYS_WITHIN: Duration = Duration::from_secs(20);
/// A node that was started is waited for so long; others may have to be there before it is ready.
const READY_WITHIN: Duration = Duration::from_secs(5);
/// Until a node that ended by itself is started again.
const RESTART_AFTER: Duration = Duration::from_secs(2);
/// Of one node, without its having been ready in between.
const RESTARTS_MAX: u32 = 5;
/// Why a node may end by itself that will do so until it is replaced or mended.
pub(crate) const DAMAGED: &str = "damaged";
/// Why a node never starts again.
const RETIRED: &str = "retired";
const POLL: Duration = Duration::from_millis(5);

/// Something about a node that nobody meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The node.
    pub node: NodeId,
    /// When it was seen, since the run began.
    pub time_us: u64,
    /// What kind.
    pub kind: ProblemKind,
    /// What was seen.
    pub text: String,
}

/// A kind of [`Problem`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProblemKind {
    /// The process ended by itself, and nothing that was broken excuses it.
    Exited,
    /// It wrote that something panicked.
    Panicked,
    /// It was not ready long after everything was healed.
    NotReady,
    /// It wrote a line of level ERROR. For people: faults may be the cause.
    ErrorLine,
}

/// All nodes of a run.
#[derive(Debug)]
pub(crate) struct Nodes {
    settings: ClusterSettings,
    net: Arc<Net>,
    begun: Instant,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    nodes: BTreeMap<NodeId, Node>,
    problems: Vec<Problem>,
    last_id: NodeId,
}

/// One node.
#[derive(Debug)]
struct Node {
    addresses: Addresses,
    seeds: String,
    dir: PathBuf,
    data_dir: PathBuf,
    disk: Option<Arc<NodeDisk>>,
    process: Option<Process>,
    log: LogReader,
    /// Why it must not run.
    down: BTreeSet<&'static str>,
    /// Why it may end by itself.
    excuses: BTreeSet<&'static str>,
    is_member: bool,
    starts: u32,
    restarts: u32,
    ended_at: Option<Instant>,
}

impl Nodes {
    pub(crate) fn new(settings: &ClusterSettings, net: Net) -> Nodes {
        Nodes {
            settings: settings.clone(),
            net: Arc::new(net),
            begun: Instant::now(),
            state: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn net(&self) -> &Arc<Net> {
        &self.net
    }

    pub(crate) fn now_us(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn get<T>(&self, node: NodeId, ask: impl FnOnce(&mut Node) -> T) -> Option<T> {
        self.lock().nodes.get_mut(&node).map(ask)
    }

    fn known<T>(
        &self,
        node: NodeId,
        ask: impl FnOnce(&mut Node) -> Result<T, ClusterError>,
    ) -> Result<T, ClusterError> {
        let asked = self.get(node, ask);
        asked.unwrap_or_else(|| Err(ClusterError::Fault(format!("there is no node {node}"))))
    }

    /// Makes room for a node with an id that was never used; it does not run yet.
    pub(crate) fn place(&self) -> Result<NodeId, ClusterError> {
        let node = {
            let mut state = self.lock();
            state.last_id += 1;
            state.last_id
        };
        let dir = self.settings.out.join("nodes").join(node.to_string());
        let data_dir = dir.join("data");
        std::fs::create_dir_all(&data_dir).map_err(ClusterError::file(&data_dir))?;
        let side_dir = dir.join("side");
        let disk = match self.settings.needs_preload() {
            true => {
                let disk = NodeDisk::new(&data_dir, &side_dir);
                Some(Arc::new(disk.map_err(ClusterError::file(&dir))?))
            }
            false => None,
        };
        let addresses = self.net.add(node).map_err(ClusterError::Isolate)?;
        let log = LogReader::new(dir.join("log"));
        self.lock().nodes.insert(
            node,
            Node {
                addresses,
                seeds: String::new(),
                dir,
                data_dir,
                disk,
                process: None,
                log,
                down: BTreeSet::new(),
                excuses: BTreeSet::new(),
                is_member: false,
                starts: 0,
                restarts: 0,
                ended_at: None,
            },
        );
        Ok(node)
    }

    /// Tells a node with whom it forms or joins a cluster.
    pub(crate) fn seed(&self, node: NodeId, with: &[NodeId]) {
        let peers: Vec<String> = with.iter().filter_map(|node| self.peers(*node)).collect();
        self.get(node, |node| node.seeds = peers.join(","));
    }

    pub(crate) fn peers(&self, node: NodeId) -> Option<String> {
        self.get(node, |node| node.addresses.peers.clone())
    }

    pub(crate) fn http(&self, node: NodeId) -> Option<String> {
        self.get(node, |node| node.addresses.http.clone())
    }

    /// The HTTP listeners of members that run, but for one.
    pub(crate) fn others_http(&self, but: Option<NodeId>) -> Vec<String> {
        let members = self.members();
        let others = self.running().into_iter();
        let others = others.filter(|node| Some(*node) != but && members.contains(node));
        others.filter_map(|node| self.http(node)).collect()
    }

    pub(crate) fn binary(&self) -> &std::path::Path {
        &self.settings.binary
    }

    pub(crate) fn set_member(&self, node: NodeId, is_member: bool) {
        self.get(node, |node| node.is_member = is_member);
    }

    /// Those of which it is known that they are members.
    pub(crate) fn members(&self) -> Vec<NodeId> {
        let state = self.lock();
        let members = state.nodes.iter().filter(|(_, node)| node.is_member);
        members.map(|(node, _)| *node).collect()
    }

    /// Those whose processes are there and not stopped.
    pub(crate) fn running(&self) -> Vec<NodeId> {
        let state = self.lock();
        let runs = |node: &Node| node.process.as_ref().is_some_and(|p| !p.is_paused());
        let running = state.nodes.iter().filter(|(_, node)| runs(node));
        running.map(|(node, _)| *node).collect()
    }

    pub(crate) fn is_running(&self, node: NodeId) -> bool {
        self.pid(node).is_some()
    }

    pub(crate) fn pid(&self, node: NodeId) -> Option<u32> {
        self.get(node, |node| node.process.as_ref().map(Process::pid))
            .flatten()
    }

    pub(crate) fn is_ready(&self, node: NodeId) -> bool {
        let asked = self.get(node, |node| {
            node.process.as_mut().is_some_and(Process::is_ready)
        });
        asked.unwrap_or(false)
    }

    /// A node's disk, power and clock.
    pub(crate) fn disk(&self, node: NodeId) -> Result<Arc<NodeDisk>, ClusterError> {
        self.known(node, |found| {
            let no_disk = || ClusterError::Fault("no fault of disks was asked for".to_owned());
            found.disk.clone().ok_or_else(no_disk)
        })
    }

    /// Those whose disks, power and clocks can be broken.
    pub(crate) fn disks(&self) -> Vec<(NodeId, Arc<NodeDisk>)> {
        let state = self.lock();
        let disks = state.nodes.iter();
        disks
            .filter_map(|(node, found)| Some((*node, found.disk.clone()?)))
            .collect()
    }

    /// Whether a node may end by itself, for a reason, without being reported.
    pub(crate) fn excuse(&self, node: NodeId, why: &'static str, is_excused: bool) {
        self.get(node, |node| match is_excused {
            true => node.excuses.insert(why),
            false => node.excuses.remove(why),
        });
    }

    /// Whether it may end by itself since it was damaged.
    pub(crate) fn is_damaged(&self, node: NodeId) -> bool {
        let asked = self.get(node, |node| node.excuses.contains(DAMAGED));
        asked.unwrap_or(false)
    }

    /// Starts a node that does not run and may, and does not wait.
    pub(crate) fn spawn(&self, node: NodeId) -> Result<(), ClusterError> {
        let now_us = self.now_us();
        self.known(node, |found| {
            if found.process.is_some() || !found.down.is_empty() {
                return Ok(());
            }
            found.starts += 1;
            let headline = format!(
                "{HEADLINE}{} of node {node}, {}.{:06} s into the run",
                found.starts,
                now_us / 1_000_000,
                now_us % 1_000_000
            );
            let mut settings = found.addresses.settings.clone();
            let number = node.to_string();
            for setting in &self.settings.set {
                settings.push(setting.replace("{node}", &number));
            }
            let own = self.settings.env.iter();
            let mut environment: Vec<(String, OsString)> =
                own.map(|(k, v)| (k.clone(), v.into())).collect();
            if let Some(disk) = &found.disk {
                let of_disk = disk.environment().into_iter();
                environment.extend(of_disk.map(|(key, value)| (key.to_owned(), value)));
            }
            let process = Process::start(
                &Start {
                    binary: &self.settings.binary,
                    node,
                    dir: &found.dir,
                    data_dir: &found.data_dir,
                    settings: &settings,
                    seeds: &found.seeds,
                    environment: &environment,
                    headline: &headline,
                },
                &self.net,
            );
            found.process = Some(process.map_err(ClusterError::process(node))?);
            found.ended_at = None;
            Ok(())
        })
    }

    /// Ends a node at once, and waits until it is gone. It stays down while any reason does.
    pub(crate) async fn kill(
        &self,
        node: NodeId,
        why: &'static str,
    ) -> Result<String, ClusterError> {
        let pid = self.strike(node, why)?;
        self.see_gone(node, pid).await
    }

    /// Ends several nodes at the same moment, and waits until they are gone.
    pub(crate) async fn kill_all(
        &self,
        which: &[NodeId],
        why: &'static str,
    ) -> Result<Vec<String>, ClusterError> {
        let mut struck = Vec::new();
        for node in which {
            struck.push((*node, self.strike(*node, why)?));
        }
        let mut seen = Vec::new();
        for (node, pid) in struck {
            seen.push(self.see_gone(node, pid).await?);
        }
        Ok(seen)
    }

    /// Sends SIGKILL; the process it went to, if there was one.
    fn strike(&self, node: NodeId, why: &'static str) -> Result<Option<u32>, ClusterError> {
        self.known(node, |found| {
            found.down.insert(why);
            let Some(process) = &mut found.process else {
                return Ok(None);
            };
            let pid = process.pid();
            process.kill().map_err(ClusterError::process(node))?;
            Ok(Some(pid))
        })
    }

    async fn see_gone(&self, node: NodeId, pid: Option<u32>) -> Result<String, ClusterError> {
        let Some(pid) = pid else {
            return Ok(format!("node {node} was down already"));
        };
        self.wait(node, "be gone after SIGKILL", OBEYS_WITHIN, |found| {
            let Some(process) = &mut found.process else {
                return Ok(true);
            };
            let is_gone = process.ended()?.is_some();
            if is_gone {
                found.process = None;
            }
            Ok(is_gone)
        })
        .await?;
        match std::path::Path::new(&format!("/proc/{pid}")).exists() {
            true => Err(ClusterError::Fault(format!("process {pid} is still there"))),
            false => Ok(format!("node {node}: process {pid} is gone")),
        }
    }

    /// Takes a reason away why a node is down, and starts it when none is left; does not wait.
    pub(crate) fn release(&self, node: NodeId, why: &'static str) -> Result<(), ClusterError> {
        self.get(node, |node| node.down.remove(why));
        self.spawn(node)
    }

    /// Waits a little until a node is ready; says whether it is.
    pub(crate) async fn wait_ready(&self, node: NodeId) -> Result<String, ClusterError> {
        let begun = Instant::now();
        while begun.elapsed() < READY_WITHIN {
            if !self.is_running(node) {
                return Ok(format!("node {node} stays down"));
            }
            if self.is_ready(node) {
                let took_ms = begun.elapsed().as_millis();
                return Ok(format!("node {node} was ready after {took_ms} ms"));
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(format!("node {node} runs and is not ready yet"))
    }

    /// Stops a node in its tracks, and waits until it is.
    pub(crate) async fn pause(&self, node: NodeId) -> Result<String, ClusterError> {
        let pid = self.known(node, |found| {
            let Some(process) = &mut found.process else {
                return Ok(None);
            };
            process.pause().map_err(ClusterError::process(node))?;
            Ok(Some(process.pid()))
        })?;
        let Some(pid) = pid else {
            return Ok(format!("node {node} is down"));
        };
        self.wait(node, "be stopped", OBEYS_WITHIN, |found| {
            let process = found.process.as_ref();
            process.map_or(Ok(true), |process| Ok(process.state()? == 'T'))
        })
        .await?;
        Ok(format!("node {node}: process {pid} is in state T"))
    }

    /// Lets a node go on.
    pub(crate) async fn resume(&self, node: NodeId) -> Result<String, ClusterError> {
        let is_paused = self.known(node, |found| match &mut found.process {
            Some(process) if process.is_paused() => {
                process.resume().map_err(ClusterError::process(node))?;
                Ok(true)
            }
            _ => Ok(false),
        })?;
        if !is_paused {
            return Ok(format!("node {node} is not stopped any more"));
        }
        self.wait(node, "go on", OBEYS_WITHIN, |found| {
            let process = found.process.as_ref();
            process.map_or(Ok(true), |process| Ok(process.state()? != 'T'))
        })
        .await?;
        Ok(format!("node {node} goes on"))
    }

    /// Asks a node to stop in good order, for good, and ends it when it does not.
    pub(crate) async fn retire(&self, node: NodeId, within: Duration) -> Result<(), ClusterError> {
        self.known(node, |found| {
            found.down.insert(RETIRED);
            found.is_member = false;
            match &mut found.process {
                Some(process) => process.terminate().map_err(ClusterError::process(node)),
                None => Ok(()),
            }
        })?;
        let stopped = self.wait(node, "stop", within, |found| {
            let Some(process) = &mut found.process else {
                return Ok(true);
            };
            let is_gone = process.ended()?.is_some();
            if is_gone {
                found.process = None;
            }
            Ok(is_gone)
        });
        if stopped.await.is_err() {
            self.kill(node, RETIRED).await?;
        }
        Ok(())
    }

    async fn wait(
        &self,
        node: NodeId,
        what: &str,
        within: Duration,
        is_so: impl Fn(&mut Node) -> std::io::Result<bool>,
    ) -> Result<(), ClusterError> {
        let deadline = Instant::now() + within;
        loop {
            let is_so = self.known(node, |node_state| {
                is_so(node_state).map_err(ClusterError::process(node))
            })?;
            if is_so {
                return Ok(());
            }
            if Instant::now() > deadline {
                let within_s = within.as_secs();
                let message = format!("node {node} did not {what} within {within_s} s");
                return Err(ClusterError::Fault(message));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Takes every reason away why members are down, lets all go on, and starts all of them.
    pub(crate) async fn start_all(&self) -> Result<(), ClusterError> {
        let all: Vec<NodeId> = self.lock().nodes.keys().copied().collect();
        for node in all {
            let is_retired = self.get(node, |node| {
                let is_retired = node.down.contains(RETIRED);
                node.down.retain(|why| *why == RETIRED);
                node.excuses.retain(|why| *why == DAMAGED);
                node.restarts = 0;
                is_retired
            });
            if is_retired == Some(false) {
                self.resume(node).await?;
                self.spawn(node)?;
            }
        }
        Ok(())
    }

    /// Resident KiB and open descriptors of each process that is there.
    pub(crate) fn resources(&self) -> Vec<(NodeId, u64, u64)> {
        let state = self.lock();
        let each = state.nodes.iter().filter_map(|(node, found)| {
            // A process that has just ended uses nothing.
            let (rss_kib, descriptors) = found.process.as_ref()?.resources().ok()?;
            Some((*node, rss_kib, descriptors))
        });
        each.collect()
    }

    pub(crate) fn report(&self, node: NodeId, kind: ProblemKind, text: String) {
        let time_us = self.now_us();
        self.lock().problems.push(Problem {
            node,
            time_us,
            kind,
            text,
        });
    }

    /// Looks at every process and log once: notes who ended by itself and what was written that
    /// should not be, and starts again who ended a while ago, as a supervisor would.
    pub(crate) fn look(&self) {
        let time_us = self.now_us();
        let mut state = self.lock();
        let State {
            nodes, problems, ..
        } = &mut *state;
        let mut again = Vec::new();
        for (id, node) in nodes.iter_mut() {
            let note = |kind, text| Problem {
                node: *id,
                time_us,
                kind,
                text,
            };
            let ended = node
                .process
                .as_mut()
                .and_then(|process| process.ended().ok());
            // After that, so that its last words are read.
            for (kind, line) in node.log.read() {
                problems.push(note(kind, line));
            }
            if let Some(status) = ended.flatten() {
                node.process = None;
                node.ended_at = Some(Instant::now());
                if node.excuses.is_empty() && node.down.is_empty() {
                    let last = node.log.last_lines();
                    let how = describe(status);
                    problems.push(note(ProblemKind::Exited, format!("it {how}:\n{last}")));
                }
            }
            let is_new = !node.is_member && !node.down.contains(RETIRED);
            if node.process.as_mut().is_some_and(Process::is_ready) {
                node.is_member |= is_new;
                node.restarts = 0;
            }
            let is_due = node.ended_at.is_some_and(|at| at.elapsed() > RESTART_AFTER);
            if is_due && node.down.is_empty() && node.restarts < RESTARTS_MAX {
                node.restarts += 1;
                again.push(*id);
            }
        }
        drop(state);
        for node in again {
            if let Err(error) = self.spawn(node) {
                tracing::warn!(node, %error, "cannot start a node that ended");
            }
        }
    }

    /// What was noted so far.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        self.lock().problems.clone()
    }
}

fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended by itself with code {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}
