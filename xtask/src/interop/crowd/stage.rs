//! What befalls the crowd of one protocol, step by step.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::check::{Anomalies, Findings, check};
use super::history::{Event, What};
use super::process::{Process, SharedLog};
use super::rebalance::{Cause, Mark, Rebalance, rebalances};
use super::{HEARTBEAT, Kind, MEMBERS, MEMBERS_EACH, PARTITIONS, PROCESSES, SESSION};
use crate::interop::client::{Client, Protocol};
use crate::interop::cluster::Cluster;
use crate::interop::driver::{Driver, Program};

/// For a group to settle: sessions end, an election or two, and a busy machine.
const SETTLE_LIMIT: Duration = Duration::from_secs(90);
/// So long everything stays as it is before it counts as settled: longer than a heartbeat.
const QUIET: Duration = Duration::from_millis(2_500);
/// For the last records to be read and committed.
const COMMIT_LIMIT: Duration = Duration::from_secs(60);
/// From the first joining members until their coordinator is killed: some are members by then.
const INTO_REBALANCE: Duration = Duration::from_millis(500);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A crowd with its cluster.
pub(super) struct Stage {
    cluster: Cluster,
    program: Program,
    /// Name of the topic and of the group.
    name: String,
    kind: Kind,
    log: SharedLog,
    watcher: Option<Process>,
    crowds: Vec<Crowd>,
    /// When and what the watcher's clock showed.
    clock: (Instant, u64),
    /// So far: the members of each have names of their own.
    batches: usize,
    marks: Vec<Mark>,
    /// When nothing befell the group any more.
    end_ns: Option<u64>,
    /// Once the history was checked.
    early: Option<Anomalies>,
}

/// A process with members.
struct Crowd {
    process: Process,
    /// What its members' names begin with; none while it has no members.
    tag: Option<String>,
}

impl Crowd {
    /// Makes the clients of a batch, so that their making is in no time that is measured.
    fn prepare(&mut self, batch: usize) -> Result<(), String> {
        let tag = format!("batch-{batch}");
        let count = MEMBERS_EACH.to_string();
        self.process.ask(&["prepare", &tag, &count])?;
        self.tag = Some(tag);
        Ok(())
    }

    fn join(&mut self) -> Result<(), String> {
        self.process.ask(&["join"]).map(|_| ())
    }
}

impl Stage {
    /// Makes the topic and begins to send and to watch.
    pub(super) fn set(
        kind: Kind,
        cluster: Cluster,
        driver: &mut Driver,
        program: &Program,
        log: &Path,
    ) -> Result<Self, (Cluster, String)> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let now_ms = since.map_or(0, |since| since.as_millis());
        let name = format!("crowd-{:x}-{}", now_ms & 0xff_ffff, kind.name);
        let partitions = u32::try_from(PARTITIONS).expect("100 is a u32");
        let ready = (|| {
            driver.create(&name, partitions, &[])?;
            cluster.wait_known(std::slice::from_ref(&name))?;
            SharedLog::create(log, PARTITIONS)
        })();
        let log = match ready {
            Ok(log) => log,
            Err(why) => return Err((cluster, why)),
        };
        let mut stage = Self {
            cluster,
            program: program.clone(),
            name,
            kind,
            log,
            watcher: None,
            crowds: Vec::new(),
            clock: (Instant::now(), 0),
            batches: 0,
            marks: Vec::new(),
            end_ns: None,
            early: None,
        };
        match stage.watch() {
            Ok(()) => Ok(stage),
            Err(why) => Err((stage.strike().0, why)),
        }
    }

    /// Ends what still runs; the cluster and what was measured remain.
    pub(super) fn strike(self) -> (Cluster, Vec<Rebalance>) {
        let end_ns = self.end_ns.unwrap_or_else(|| self.now_ns());
        let found = rebalances(&self.log.lock().events, &self.marks, PARTITIONS, end_ns);
        (self.cluster, found)
    }

    fn watch(&mut self) -> Result<(), String> {
        let mut command = self.program.command(&self.cluster.bootstrap())?;
        let partitions = PARTITIONS.to_string();
        command.args(["watcher", &self.name, &self.name, &partitions]);
        let mut watcher = Process::start(command, &self.log)?;
        // Once to be awake, once for the time.
        watcher.ask(&["now"])?;
        let shown_ns = watcher.ask(&["now"])?;
        self.clock = (Instant::now(), shown_ns);
        self.watcher = Some(watcher);
        Ok(())
    }

    fn now_ns(&self) -> u64 {
        let (at, shown_ns) = self.clock;
        shown_ns + u64::try_from(at.elapsed().as_nanos()).unwrap_or(u64::MAX - shown_ns)
    }

    fn crowd(&self) -> Result<Crowd, String> {
        let mut command: Command = self.program.command(&self.cluster.bootstrap())?;
        command.args(["crowd", &self.name]);
        let mut set = |name: &str, value: &str| {
            command.args([name, value]);
        };
        set("group.id", &self.name);
        set("group.protocol", self.kind.protocol.name());
        let (setting, assignor) = self.kind.assignor;
        set(setting, assignor);
        set("auto.offset.reset", "earliest");
        set("enable.auto.commit", "false");
        // Two hundred clients in a few processes: their figures are not shown to anybody.
        set("metric.reporters", "");
        // Members of the new protocol are told by the nodes, which have the same settings.
        if self.kind.protocol == Protocol::Classic {
            set("session.timeout.ms", &SESSION.as_millis().to_string());
            set("heartbeat.interval.ms", &HEARTBEAT.as_millis().to_string());
        }
        let process = Process::start(command, &self.log)?;
        Ok(Crowd { process, tag: None })
    }

    /// Something befalls the group now; in the end it has so many members.
    fn mark(&mut self, cause: Cause, members: usize) {
        let at_ns = self.now_ns();
        self.marks.push(Mark {
            cause,
            at_ns,
            members,
        });
        self.log.lock().tracker.forget_view();
    }

    fn next_batch(&mut self) -> usize {
        self.batches += 1;
        self.batches
    }

    /// Waits until the last mark's members are settled, and stay so for a while.
    fn settle(&mut self) -> Result<(), String> {
        let members = self.marks.last().map_or(0, |mark| mark.members);
        let deadline = Instant::now() + SETTLE_LIMIT;
        let mut settled = None;
        loop {
            let log = self.log.lock();
            if let Some(problem) = log.problems.first() {
                return Err(problem.clone());
            }
            settled = match log.tracker.is_settled(members) {
                true => settled.or(Some(Instant::now())),
                false => None,
            };
            if settled.is_some_and(|since| since.elapsed() > QUIET) {
                return Ok(());
            }
            if Instant::now() > deadline {
                let limit = SETTLE_LIMIT.as_secs();
                let shown = log.tracker.shown();
                return Err(format!("not settled after {limit} s: {shown}"));
            }
            drop(log);
            sleep(POLL_INTERVAL);
        }
    }

    pub(super) fn all_join(&mut self) -> Result<(), String> {
        for _ in 0..PROCESSES {
            let mut crowd = self.crowd()?;
            crowd.prepare(self.next_batch())?;
            self.crowds.push(crowd);
        }
        self.mark(Cause::AllJoin, MEMBERS);
        self.crowds.iter_mut().try_for_each(Crowd::join)?;
        self.settle()
    }

    /// All but the last process's members.
    pub(super) fn batches_leave_and_return(&mut self) -> Result<(), String> {
        for at in 0..PROCESSES - 1 {
            self.mark(Cause::BatchLeaves, MEMBERS - MEMBERS_EACH);
            self.crowds[at].process.ask(&["leave"])?;
            self.crowds[at].tag = None;
            self.settle()?;
            let batch = self.next_batch();
            self.crowds[at].prepare(batch)?;
            self.mark(Cause::BatchJoins, MEMBERS);
            self.crowds[at].join()?;
            self.settle()?;
        }
        Ok(())
    }

    pub(super) fn process_is_killed(&mut self) -> Result<(), String> {
        let killed = self.crowds.pop().ok_or("there is no process")?;
        self.mark(Cause::Killed, MEMBERS - MEMBERS_EACH);
        let last_ns = killed.process.kill()?;
        let at_ns = self.now_ns().max(last_ns);
        if let Some(tag) = killed.tag {
            for number in 0..MEMBERS_EACH {
                let what = What::Ended(format!("{tag}-{number}"));
                self.log.add(Event { at_ns, what });
            }
        }
        self.settle()?;
        let mut other = self.crowd()?;
        other.prepare(self.next_batch())?;
        self.mark(Cause::BatchJoins, MEMBERS);
        other.join()?;
        self.crowds.push(other);
        self.settle()
    }

    fn coordinator(&self) -> Result<u32, String> {
        let coordinator = self.log.lock().tracker.coordinator();
        coordinator.ok_or_else(|| "nobody coordinates the group".to_owned())
    }

    pub(super) fn nodes_restart(&mut self) -> Result<(), String> {
        for node in self.cluster.ids() {
            let cause = match self.coordinator()? == node {
                true => Cause::CoordinatorRestarts,
                false => Cause::NodeRestarts,
            };
            self.mark(cause, MEMBERS);
            self.cluster.stop_nodes(&[node])?;
            self.cluster.restart(&[node])?;
            self.cluster.wait_healthy()?;
            self.settle()?;
        }
        Ok(())
    }

    pub(super) fn coordinator_is_killed(&mut self) -> Result<(), String> {
        let node = self.coordinator()?;
        self.mark(Cause::CoordinatorKilled, MEMBERS);
        self.cluster.kill(&[node])?;
        self.settle()?;
        self.node_returns(node)
    }

    fn node_returns(&mut self, node: u32) -> Result<(), String> {
        self.mark(Cause::NodeReturns, MEMBERS);
        self.cluster.restart(&[node])?;
        self.cluster.wait_healthy()?;
        self.settle()
    }

    pub(super) fn coordinator_is_killed_in_a_rebalance(&mut self) -> Result<(), String> {
        self.mark(Cause::BatchLeaves, MEMBERS - MEMBERS_EACH);
        self.crowds[0].process.ask(&["leave"])?;
        self.settle()?;
        let batch = self.next_batch();
        self.crowds[0].prepare(batch)?;
        let node = self.coordinator()?;
        self.mark(Cause::CoordinatorKilledInRebalance, MEMBERS);
        self.crowds[0].join()?;
        sleep(INTO_REBALANCE);
        self.cluster.kill(&[node])?;
        self.settle()?;
        self.node_returns(node)
    }

    /// Ends the sending, and waits until the group has committed the end of every partition.
    pub(super) fn all_is_committed(&mut self) -> Result<(), String> {
        self.end_ns = Some(self.now_ns());
        let watcher = self.watcher.as_mut().ok_or("nobody watches")?;
        watcher.ask(&["stop"])?;
        let deadline = Instant::now() + COMMIT_LIMIT;
        loop {
            let log = self.log.lock();
            if let Some(problem) = log.problems.first() {
                return Err(problem.clone());
            }
            let behind = behind(&log.events);
            drop(log);
            match behind {
                None => return Ok(()),
                Some(behind) if Instant::now() > deadline => {
                    return Err(format!("not committed to the end: {behind:?}"));
                }
                Some(_) => sleep(POLL_INTERVAL * 10),
            }
        }
    }

    pub(super) fn all_leave(&mut self) -> Result<(), String> {
        for crowd in self.crowds.drain(..) {
            crowd.process.end()?;
        }
        let watcher = self.watcher.take().ok_or("nobody watches")?;
        watcher.end()?;
        match self.log.lock().problems.first() {
            Some(problem) => Err(problem.clone()),
            None => Ok(()),
        }
    }

    pub(super) fn history_is_in_order(&mut self) -> Result<(), String> {
        let Findings {
            sent,
            read,
            commits,
            refused,
            lost,
            anomalies,
            early,
        } = check(&self.log.lock().events);
        self.early = Some(early);
        println!(
            "{}: {sent} records were sent and {read} read, {commits} commits acknowledged and \
             {refused} not, {lost} partitions lost rather than revoked",
            self.kind.name
        );
        if sent == 0 || commits == 0 {
            return Err("nothing was read".to_owned());
        }
        anomalies.none()
    }

    pub(super) fn handovers_are_in_order(&mut self) -> Result<(), String> {
        let early = self.early.as_ref();
        early.ok_or("the history was not checked")?.none()
    }
}

/// Partitions whose commit, when last seen, was not their end, with both; None when there are none.
fn behind(events: &[Event]) -> Option<BTreeMap<u32, (u64, u64)>> {
    let mut ends: BTreeMap<u32, u64> = BTreeMap::new();
    for event in events {
        if let What::Sent { at, .. } = event.what {
            let end = ends.entry(at.partition).or_default();
            *end = (*end).max(at.offset + 1);
        }
    }
    let seen = events.iter().rev().find_map(|event| match &event.what {
        What::Seen { next, .. } => Some(next),
        _ => None,
    });
    let committed = |partition: &u32| seen.and_then(|next| next.get(partition)).copied();
    let behind: BTreeMap<u32, (u64, u64)> = ends
        .into_iter()
        .map(|(partition, end)| (partition, (committed(&partition).unwrap_or(0), end)))
        .filter(|(_, (committed, end))| committed != end)
        .collect();
    (!behind.is_empty()).then_some(behind)
}
