//! Two hundred members of one group over a hundred partitions, in both protocols, while members
//! come, leave and are killed, nodes are restarted and the coordinator is killed.
//!
//! All of it with the Java client, forty members a process, and records sent all the time. What
//! every member read and committed, and when, is checked at the end; how long each rebalance took
//! is shown for the protocols side by side.

mod check;
mod history;
mod process;
mod rebalance;
mod stage;
mod table;

use std::time::{Duration, Instant};

use super::client::Protocol;
use super::cluster::Cluster;
use super::driver::{Driver, Program};
use super::install::{self, Workshop};
use super::options::Options;
use super::replicas;
use super::report::{Outcome, Report};
use rebalance::Rebalance;
use stage::Stage;

/// Partitions of a group's topic.
const PARTITIONS: usize = 100;
/// Processes with members.
const PROCESSES: usize = 5;
/// Members of each.
const MEMBERS_EACH: usize = 40;
/// All members.
const MEMBERS: usize = PROCESSES * MEMBERS_EACH;
/// How long a killed member is waited for, in both protocols.
const SESSION: Duration = Duration::from_secs(8);
/// How often a member gives a sign of life.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// What a Java machine needs for forty members: little memory and few threads of its own.
const JVM: [&str; 6] = [
    "-Xmx320m",
    "-Xss256k",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:CICompilerCount=1",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
];

/// How its members run, beside nodes that have the machine first.
const NICE: [&str; 3] = ["nice", "-n", "10"];

/// How members join, and who assigns how.
#[derive(Clone, Copy)]
struct Kind {
    /// As lines and the table have it.
    name: &'static str,
    protocol: Protocol,
    /// A setting of the client and its value.
    assignor: (&'static str, &'static str),
}

/// The classic protocol with partitions kept through a rebalance, and with all of them given up as
/// Java's clients do by default; then the new one.
const KINDS: [Kind; 3] = [
    Kind {
        name: "classic",
        protocol: Protocol::Classic,
        assignor: (
            "partition.assignment.strategy",
            "org.apache.kafka.clients.consumer.CooperativeStickyAssignor",
        ),
    },
    Kind {
        name: "classic-range",
        protocol: Protocol::Classic,
        assignor: (
            "partition.assignment.strategy",
            "org.apache.kafka.clients.consumer.RangeAssignor",
        ),
    },
    Kind {
        name: "consumer",
        protocol: Protocol::Consumer,
        assignor: ("group.remote.assignor", "uniform"),
    },
];

type Step = fn(&mut Stage) -> Result<(), String>;

const STEPS: [(&str, Step); 10] = [
    ("200 members share 100 partitions", Stage::all_join),
    (
        "members leave and return, 40 at a time",
        Stage::batches_leave_and_return,
    ),
    (
        "40 members are killed and others come",
        Stage::process_is_killed,
    ),
    (
        "the nodes are restarted, one after the other",
        Stage::nodes_restart,
    ),
    (
        "the coordinator is killed and returns",
        Stage::coordinator_is_killed,
    ),
    (
        "the coordinator is killed while members join",
        Stage::coordinator_is_killed_in_a_rebalance,
    ),
    (
        "everything that was sent is read and committed",
        Stage::all_is_committed,
    ),
    ("all members leave", Stage::all_leave),
    (
        "no record is skipped, none is read after its commit, no former owner goes on",
        Stage::history_is_in_order,
    ),
    (
        "no partition is handed over before it is given up",
        Stage::handovers_are_in_order,
    ),
];

/// Runs a crowd of each kind that is asked for; rows of the report are the client's.
pub(super) fn run(options: &Options, workshop: &Workshop, report: &mut Report) {
    let mut program = match install::java(workshop) {
        Ok(program) => program,
        Err(why) => return report.add("java", "crowd", Outcome::NotRun(why)),
    };
    program.log = workshop.log("crowd-clients");
    if let Err(problem) = std::fs::write(&program.log, "") {
        let why = format!("cannot write {}: {problem}", program.log.display());
        return report.add("java", "crowd", Outcome::NotRun(why));
    }
    // After the program and the memory that it has otherwise: the last one counts.
    program.command.splice(2..2, JVM.map(str::to_owned));
    // Two hundred clients starting at once must not starve the nodes on a small machine.
    program.command.splice(0..0, NICE.map(str::to_owned));
    let settings = [
        format!("groups.consumer_session_timeout={}s", SESSION.as_secs()),
        format!(
            "groups.consumer_heartbeat_interval={}s",
            HEARTBEAT.as_secs()
        ),
    ];
    let binary = options.binary.as_deref();
    let mut cluster = match Cluster::start_set(workshop, binary, options.nodes, &settings) {
        Ok(cluster) => cluster,
        Err(why) => return report.add("node", "start", Outcome::Failed(why)),
    };
    println!("broker: {}", cluster.bootstrap());
    let mut tables = Vec::new();
    for kind in KINDS {
        if options.protocol.is_none_or(|only| only == kind.protocol) {
            let found;
            (cluster, found) = run_in(kind, cluster, &program, workshop, report);
            tables.push((kind.name, found));
        }
    }
    print!("{}", table::shown(&tables));
    finish(cluster, report);
}

/// One kind of crowd; the cluster again and the rebalances that there were.
fn run_in(
    kind: Kind,
    cluster: Cluster,
    program: &Program,
    workshop: &Workshop,
    report: &mut Report,
) -> (Cluster, Vec<Rebalance>) {
    let log = workshop.log(&format!("crowd-{}", kind.name));
    let mut driver = Driver::new(program.clone(), &cluster.bootstrap());
    let mut stage = match Stage::set(kind, cluster, &mut driver, program, &log) {
        Ok(stage) => stage,
        Err((cluster, why)) => {
            report.add("java", "crowd", Outcome::Failed(why));
            return (cluster, Vec::new());
        }
    };
    let mut has_failed = false;
    for (name, step) in STEPS {
        let started = Instant::now();
        let outcome = match has_failed {
            true => Outcome::NotRun("an earlier step failed".to_owned()),
            false => step(&mut stage).into(),
        };
        has_failed |= matches!(outcome, Outcome::Failed(_));
        let behaviour = format!("crowd, {}: {name}", kind.name);
        report.add_timed("java", &behaviour, outcome, Some(started.elapsed()));
    }
    if has_failed {
        println!("what the members said is in {}", log.display());
    }
    stage.strike()
}

/// Ends the nodes and compares what they leave on their disks.
fn finish(mut cluster: Cluster, report: &mut Report) {
    let ended = cluster.wait_healthy().and_then(|()| cluster.stop());
    let is_ended = ended.is_ok();
    report.add("node", "SIGTERM ends it with exit code 0", ended);
    if is_ended {
        let found = replicas::compare(&cluster).map(|_| ());
        report.add("node", "replicas are intact and equal byte for byte", found);
    }
}
