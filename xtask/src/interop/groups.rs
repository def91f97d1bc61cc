//! Consumer groups: members of one group, each a process, that come, are killed and leave while
//! records are sent; who read what says whether partitions and commits went where they should.
//!
//! Every client goes through the same steps, several clients at a time: most of it is waiting.

use std::collections::{BTreeSet, VecDeque};
use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, Command};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, PoisonError, RwLock};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::client::{Leaves, MemberProgram, Protocol, UNABLE};
use super::cluster::Cluster;
use super::pool::lock;
use super::report::Outcome;
use super::versions::coordinator;
use crate::process::{Owned, finish_with, succeed};

/// Partitions of each group's topic.
pub(crate) const PARTITIONS: u32 = 4;
/// Members that a group has in all its steps.
pub(crate) const MEMBERS: usize = 3;
/// Records in each partition before the first member comes.
const FIRST_RECORDS: usize = 25;
/// For a member to read what it should: the longest session is 45 s, then members assign anew.
const STEP_LIMIT: Duration = Duration::from_secs(120);
const FEED_LIMIT: Duration = Duration::from_secs(60);
const LEAVE_LIMIT: Duration = Duration::from_secs(30);
const SIGNAL_LIMIT: Duration = Duration::from_secs(10);
/// How long a member that commits after it shows gets to do so, before it is killed.
const COMMIT_PAUSE: Duration = Duration::from_millis(1_500);
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Between rounds of records while two members divide the partitions.
const ROUND_INTERVAL: Duration = Duration::from_millis(300);
/// Groups at a time: they wait for sessions to end.
const AT_ONCE: usize = 5;

/// What one client does in one group.
pub(crate) struct Job {
    /// The client.
    pub(crate) client: &'static str,
    /// How its members join.
    pub(crate) protocol: Protocol,
    /// The topic, which is there, with [`PARTITIONS`] partitions.
    pub(crate) topic: String,
    /// [`MEMBERS`] members.
    pub(crate) members: Vec<MemberProgram>,
}

/// A line of the report.
pub(crate) struct Line {
    /// Whose.
    pub(crate) client: &'static str,
    /// What.
    pub(crate) behaviour: String,
    /// How it went.
    pub(crate) outcome: Outcome,
    /// How long it took.
    pub(crate) took: Duration,
}

/// Something that a group goes through.
#[derive(Clone, Copy)]
enum Step {
    /// While other groups go through theirs.
    Beside(fn(&mut Group) -> Result<(), String>),
    /// While the members of all other groups have nothing to read; only on a cluster.
    Alone(fn(&mut Group, &mut Cluster) -> Result<(), String>),
}

const STEPS: [(&str, Step); 6] = [
    (
        "a member reads everything there is",
        Step::Beside(Group::first_reads),
    ),
    (
        "two members share the partitions",
        Step::Beside(Group::second_shares),
    ),
    (
        "it goes on when its coordinator is killed",
        Step::Alone(Group::coordinator_is_killed),
    ),
    (
        "a killed member's partitions go to the other",
        Step::Beside(Group::first_is_killed),
    ),
    (
        "a new member goes on from the commit",
        Step::Beside(Group::third_goes_on),
    ),
    (
        "no record is skipped or read twice",
        Step::Beside(Group::nothing_twice),
    ),
];

/// What groups go through on a cluster, or on one node.
fn steps(is_cluster: bool) -> impl Iterator<Item = (&'static str, Step)> {
    let is_possible = move |step: &Step| is_cluster || matches!(step, Step::Beside(_));
    STEPS.into_iter().filter(move |(_, step)| is_possible(step))
}

/// The behaviours of groups of this protocol, as their lines have them.
pub(crate) fn behaviours(protocol: Protocol, is_cluster: bool) -> impl Iterator<Item = String> {
    steps(is_cluster).map(move |(name, _)| format!("group, {}: {name}", protocol.name()))
}

/// Does all jobs; the lines of each job are together. Of a cluster, nodes are killed.
pub(crate) fn run(
    jobs: Vec<Job>,
    bootstrap: &str,
    cluster: Option<&mut Cluster>,
    each: &mut (impl FnMut(Line) + Send),
) {
    let waiting = Mutex::new(VecDeque::from(jobs));
    let cluster = RwLock::new(cluster);
    let each = Mutex::new(each);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let next = lock(&waiting).pop_front();
                    let Some(job) = next else { break };
                    let lines = one(job, bootstrap, &cluster);
                    let mut each = lock(&each);
                    lines.into_iter().for_each(&mut **each);
                }
            });
        }
    });
}

/// How a step went, and how long it took once it was its turn.
fn take(
    step: Step,
    group: &mut Group,
    cluster: &RwLock<Option<&mut Cluster>>,
) -> (Outcome, Duration) {
    let started;
    let outcome = match step {
        Step::Beside(step) => {
            let _beside = cluster.read().unwrap_or_else(PoisonError::into_inner);
            started = Instant::now();
            step(group).into()
        }
        Step::Alone(step) => {
            let mut alone = cluster.write().unwrap_or_else(PoisonError::into_inner);
            started = Instant::now();
            match alone.as_mut() {
                Some(cluster) => step(group, cluster).into(),
                None => Outcome::NotRun("there is no cluster".to_owned()),
            }
        }
    };
    (outcome, started.elapsed())
}

fn one(job: Job, bootstrap: &str, cluster: &RwLock<Option<&mut Cluster>>) -> Vec<Line> {
    let (client, protocol) = (job.client, job.protocol);
    let mut group = Group {
        bootstrap: bootstrap.to_owned(),
        topic: job.topic,
        programs: job.members.into(),
        members: Vec::new(),
        sent: 0,
        expected: BTreeSet::new(),
    };
    let mut stopped: Option<String> = None;
    let is_cluster = cluster
        .read()
        .unwrap_or_else(PoisonError::into_inner)
        .is_some();
    let steps = behaviours(protocol, is_cluster).zip(steps(is_cluster));
    let line = |(behaviour, (_, step)): (String, (&str, Step))| {
        let (outcome, took) = match &stopped {
            Some(why) => (Outcome::NotRun(why.clone()), Duration::ZERO),
            None => take(step, &mut group, cluster),
        };
        if stopped.is_none() {
            stopped = match &outcome {
                Outcome::Passed => None,
                Outcome::Failed(_) => Some("an earlier step failed".to_owned()),
                Outcome::NotRun(why) => Some(why.clone()),
            };
        }
        Line {
            client,
            behaviour,
            outcome,
            took,
        }
    };
    steps.map(line).collect()
}

/// A group, its topic and its members so far.
struct Group {
    bootstrap: String,
    topic: String,
    programs: VecDeque<MemberProgram>,
    members: Vec<Member>,
    /// Records sent so far; the next one's value begins with it.
    sent: usize,
    /// The values of all records that were sent.
    expected: BTreeSet<String>,
}

impl Group {
    /// Sends so many records to each partition; their values.
    fn feed(&mut self, count: usize) -> Result<BTreeSet<String>, String> {
        let mut round = BTreeSet::new();
        for partition in 0..PARTITIONS {
            let mut values = Vec::new();
            for _ in 0..count {
                values.push(format!("{} to {partition}", self.sent));
                self.sent += 1;
            }
            let mut kcat = Command::new("kcat");
            kcat.env("KCAT_CONFIG", "/dev/null");
            let to = ["-P", "-b", &self.bootstrap, "-t", &self.topic, "-p"];
            // So that what is sent again, while nodes are away, is there once.
            kcat.args(["-X", "enable.idempotence=true"]);
            kcat.args(to).arg(partition.to_string());
            let input = values.join("\n") + "\n";
            let feed = move |mut stdin: ChildStdin| stdin.write_all(input.as_bytes());
            let fed = finish_with(&mut kcat, FEED_LIMIT, feed)?;
            if !fed.is_success {
                return Err(format!("cannot send records: {}", fed.complaint()));
            }
            round.extend(values);
        }
        self.expected.extend(round.iter().cloned());
        Ok(round)
    }

    fn join(&mut self) -> Result<usize, String> {
        let program = self
            .programs
            .pop_front()
            .ok_or("there is no further member")?;
        self.members.push(Member::start(program)?);
        Ok(self.members.len() - 1)
    }

    /// Waits until these members have read all these values between them.
    fn wait_read(&mut self, by: &[usize], values: &BTreeSet<String>) -> Result<(), String> {
        let deadline = Instant::now() + STEP_LIMIT;
        loop {
            for member in by {
                self.members[*member].catch_up()?;
            }
            let read =
                |value: &String| by.iter().any(|at| self.members[*at].values.contains(value));
            let missing = values.iter().filter(|value| !read(value)).count();
            if missing == 0 {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!(
                    "{missing} of {} records were not read",
                    values.len()
                ));
            }
            sleep(POLL_INTERVAL);
        }
    }

    fn first_reads(&mut self) -> Result<(), String> {
        let all = self.feed(FIRST_RECORDS)?;
        let first = self.join()?;
        self.wait_read(&[first], &all)
    }

    fn second_shares(&mut self) -> Result<(), String> {
        let second = self.join()?;
        let deadline = Instant::now() + STEP_LIMIT;
        loop {
            let round = self.feed(1)?;
            self.wait_read(&[0, second], &round)?;
            let shares = [0, second].map(|at| {
                let values = &self.members[at].values;
                round.iter().filter(|value| values.contains(value)).count()
            });
            if shares.iter().all(|share| *share > 0) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("of {PARTITIONS} partitions they have {shares:?}"));
            }
            sleep(ROUND_INTERVAL);
        }
    }

    fn coordinator_is_killed(&mut self, cluster: &mut Cluster) -> Result<(), String> {
        if self.members.iter().any(|member| member.shows_uncommitted) {
            sleep(COMMIT_PAUSE);
        }
        let node = coordinator(&self.bootstrap, &self.topic)?;
        cluster.kill(&[node])?;
        let round = self.feed(1);
        let read = round.and_then(|round| self.wait_read(&[0, 1], &round));
        let healed = cluster
            .restart(&[node])
            .and_then(|()| cluster.wait_healthy());
        read.map_err(|why| format!("without node {node}: {why}"))?;
        healed
    }

    fn first_is_killed(&mut self) -> Result<(), String> {
        let first = &mut self.members[0];
        if first.shows_uncommitted {
            sleep(COMMIT_PAUSE);
        }
        first.catch_up()?;
        first.kill()?;
        let round = self.feed(1)?;
        self.wait_read(&[1], &round)
    }

    fn third_goes_on(&mut self) -> Result<(), String> {
        self.members[1].leave()?;
        let round = self.feed(1)?;
        let third = self.join()?;
        self.wait_read(&[third], &round)?;
        self.members[third].leave()?;
        let others = self.members[third].values.len() - round.len();
        match others {
            0 => Ok(()),
            _ => Err(format!(
                "it read {others} records that were committed before"
            )),
        }
    }

    fn nothing_twice(&mut self) -> Result<(), String> {
        let mut seen = BTreeSet::new();
        let mut twice = None;
        for value in self.members.iter().flat_map(|member| &member.values) {
            if !seen.insert(value.clone()) {
                twice = Some(value);
            }
        }
        let skipped = self.expected.difference(&seen).count();
        let is_own_commit = self.members.iter().any(|member| member.shows_uncommitted);
        match twice {
            _ if skipped > 0 => Err(format!("{skipped} records were skipped")),
            Some(_) if is_own_commit => Err(format!(
                "{UNABLE}none was skipped, but it cannot tell what it has committed, so it may read some again"
            )),
            Some(value) => Err(format!("record {value} was read again after its commit")),
            None => Ok(()),
        }
    }
}

/// A member of a group.
struct Member {
    child: Owned,
    /// The end of its input asks some to leave.
    input: Option<ChildStdin>,
    output: Receiver<String>,
    leaves: Leaves,
    shows_uncommitted: bool,
    /// Of the records that it has shown, in its order.
    values: Vec<String>,
}

impl Member {
    fn start(mut program: MemberProgram) -> Result<Self, String> {
        let mut child = Owned::spawn(&mut program.command)?;
        let stdout = child.0.stdout.take().ok_or("it has no output")?;
        let (sender, output) = channel();
        // Ends with the child's output, at the latest when the child is dropped.
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self {
            input: child.0.stdin.take(),
            child,
            output,
            leaves: program.leaves,
            shows_uncommitted: program.shows_uncommitted,
            values: Vec::new(),
        })
    }

    /// Takes what it has shown since the last time.
    fn catch_up(&mut self) -> Result<(), String> {
        while let Ok(line) = self.output.try_recv() {
            let words: Vec<&str> = line.split('\t').collect();
            match words.as_slice() {
                // The console consumer's own form begins with the partition.
                ["record", _, _, value] | [_, _, value] => self.values.push((*value).to_owned()),
                ["unable", why] => return Err(format!("{UNABLE}{why}")),
                ["left"] => {}
                _ => return Err(format!("the member says {line}")),
            }
        }
        match self.child.0.try_wait() {
            Ok(None) => Ok(()),
            // Its last words may be on their way.
            Ok(Some(_)) => match self.output.recv_timeout(SIGNAL_LIMIT) {
                Ok(line) if line.starts_with("unable\t") => {
                    Err(line.replacen("unable\t", UNABLE, 1))
                }
                Ok(line) => Err(format!("the member ended: {line}")),
                Err(_) => Err("the member ended".to_owned()),
            },
            Err(problem) => Err(format!("cannot watch the member: {problem}")),
        }
    }

    /// Ends it without warning.
    fn kill(&mut self) -> Result<(), String> {
        let killed = self.child.0.kill().and_then(|()| self.child.0.wait());
        killed.map_err(|problem| format!("cannot kill the member: {problem}"))?;
        self.take_last()
    }

    /// Has it leave the group and end.
    fn leave(&mut self) -> Result<(), String> {
        match self.leaves {
            Leaves::AtEndOfInput => drop(self.input.take()),
            Leaves::OnSignal => {
                let signal = format!("kill -TERM {}", self.child.0.id());
                succeed(Command::new("sh").args(["-c", &signal]), SIGNAL_LIMIT)?;
            }
        }
        let ended = self.child.wait_until(Instant::now() + LEAVE_LIMIT);
        ended.map_err(|why| format!("the member does not leave: {why}"))?;
        self.take_last()
    }

    /// Takes what it has shown until its end.
    fn take_last(&mut self) -> Result<(), String> {
        while let Ok(line) = self.output.recv_timeout(SIGNAL_LIMIT) {
            match line.split('\t').collect::<Vec<_>>().as_slice() {
                ["record", _, _, value] | [_, _, value] => self.values.push((*value).to_owned()),
                ["left"] => {}
                _ => return Err(format!("the member says {line}")),
            }
        }
        Ok(())
    }
}
