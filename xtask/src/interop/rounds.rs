//! The clients of a run, what they have done so far, and their own behaviours and groups.
//!
//! What they send each other is in [`super::exchange`], what they send under faults in
//! [`super::under_faults`].

use std::sync::Mutex;
use std::time::Instant;

use super::client::{Client, Protocol, UNABLE};
use super::cluster::Cluster;
use super::exchange::{Filled, now_ms};
use super::groups::{self, Job, Line};
use super::install::Workshop;
use super::pool::{self, lock};
use super::report::{Outcome, Report};
use super::versions::Offered;
use super::{connect, replicas, spark};

/// Clients whose behaviours run at the same time.
const BEHAVIOURS_AT_ONCE: usize = 4;

/// The clients at hand and what they have done.
pub(crate) struct Rounds {
    pub(super) clients: Vec<Box<dyn Client>>,
    pub(super) report: Report,
    /// Part of every topic's name, so that a broker can be used again.
    pub(super) run: String,
    pub(super) words: Vec<Filled>,
    /// The brokers, when they were started here.
    pub(super) cluster: Option<Cluster>,
    /// Nothing more is tried: every request would wait for a broker that is gone.
    is_node_gone: bool,
    /// Some client has sent records.
    pub(super) has_sent: bool,
}

impl Rounds {
    /// Nothing done yet.
    pub(crate) fn new(
        clients: Vec<Box<dyn Client>>,
        report: Report,
        cluster: Option<Cluster>,
    ) -> Self {
        let run = format!("interop-{:x}", now_ms() & 0xff_ffff);
        Self {
            clients,
            report,
            run,
            words: Vec::new(),
            cluster,
            is_node_gone: false,
            has_sent: false,
        }
    }

    /// Whether anything can be tried.
    pub(crate) fn has_clients(&self) -> bool {
        !self.clients.is_empty()
    }

    /// Where lines go.
    pub(crate) fn report(&mut self) -> &mut Report {
        &mut self.report
    }

    /// Ends the clients, then the nodes, and compares what these leave on their disks.
    pub(crate) fn finish(mut self) -> Report {
        self.clients.clear();
        let is_gone = self.is_node_gone();
        if let Some(mut cluster) = self.cluster.take().filter(|_| !is_gone) {
            let is_cluster = cluster.len() > 1;
            let ended = match is_cluster {
                true => cluster.wait_healthy().and_then(|()| cluster.stop()),
                false => cluster.stop(),
            };
            let is_ended = ended.is_ok();
            self.report
                .add("node", "SIGTERM ends it with exit code 0", ended);
            if is_cluster && is_ended {
                let started = Instant::now();
                let found: Outcome = match self.has_sent {
                    true => replicas::compare(&cluster)
                        .map(|found| {
                            let mib = found.bytes >> 20;
                            println!("{} partitions, {mib} MiB, on every node", found.partitions);
                        })
                        .into(),
                    false => Outcome::NotRun("nothing was sent".to_owned()),
                };
                let behaviour = "replicas are intact and equal byte for byte";
                self.report
                    .add_timed("node", behaviour, found, Some(started.elapsed()));
            }
        }
        self.report
    }

    /// Whether the broker has ended by itself; the first time, that is a failure of its own.
    pub(super) fn is_node_gone(&mut self) -> bool {
        let death = self.cluster.as_mut().and_then(Cluster::death);
        if let Some(why) = death.filter(|_| !self.is_node_gone) {
            self.is_node_gone = true;
            self.report
                .add("node", "keeps running", Outcome::Failed(why));
        }
        self.is_node_gone
    }

    /// Each client's own behaviours and groups of every client, in both protocols. On a cluster the
    /// groups come after the behaviours, since nodes are killed under them; else at the same time.
    pub(crate) fn behaviours_and_groups(&mut self, bootstrap: &str, has_new: bool) {
        if self.survives_a_node() {
            self.behaviours(Vec::new(), bootstrap);
            return self.groups(bootstrap, has_new);
        }
        let jobs = self.jobs(bootstrap, has_new);
        self.behaviours(jobs, bootstrap);
    }

    /// Each client's own behaviours, and these groups meanwhile.
    fn behaviours(&mut self, jobs: Vec<Job>, bootstrap: &str) {
        let is_gone = self.is_node_gone();
        let run = &self.run;
        let cluster = Mutex::new(&mut self.cluster);
        let is_gone = || is_gone || lock(&cluster).as_mut().and_then(Cluster::death).is_some();
        let report = Mutex::new(&mut self.report);
        // The slowest client is the last.
        let clients: Vec<_> = self.clients.iter_mut().rev().collect();
        let names: Vec<_> = clients.iter().map(|client| client.name()).collect();
        let checked = std::thread::scope(|scope| {
            scope.spawn(|| groups::run(jobs, bootstrap, None, &mut |line| add(&report, line)));
            pool::each(clients, BEHAVIOURS_AT_ONCE, |client| {
                let mut own = Report::silent();
                match is_gone() {
                    true => own.add(client.name(), "all behaviours", node_is_gone()),
                    false => {
                        let prefix = format!("{run}-check-{}", client.name());
                        client.checks(&prefix, &mut own);
                    }
                }
                lock(&report).take_over(own);
            })
        });
        for (name, checked) in names.into_iter().zip(checked) {
            if checked.is_none() {
                let why = "they panicked".to_owned();
                self.report
                    .add(name, "all behaviours", Outcome::Failed(why));
            }
        }
    }

    /// Workers of Kafka Connect.
    pub(crate) fn connect(&mut self, workshop: &Workshop, bootstrap: &str) {
        let topic = format!("{}-connect", self.run);
        connect::run(workshop, bootstrap, &topic, &mut self.report);
        self.has_sent = true;
    }

    /// Spark's own behaviours.
    pub(crate) fn spark(&mut self, workshop: &Workshop, bootstrap: &str) {
        let prefix = format!("{}-spark", self.run);
        spark::run(workshop, bootstrap, &prefix, &mut self.report);
        self.has_sent = true;
    }

    /// Groups of every client, in both protocols.
    pub(crate) fn groups(&mut self, bootstrap: &str, has_new: bool) {
        let jobs = self.jobs(bootstrap, has_new);
        let is_cluster = self.survives_a_node();
        let cluster = self.cluster.as_mut().filter(|_| is_cluster);
        let report = Mutex::new(&mut self.report);
        groups::run(jobs, bootstrap, cluster, &mut |line| add(&report, line));
    }

    /// The groups to be formed; a line for each that cannot be.
    fn jobs(&mut self, bootstrap: &str, has_new: bool) -> Vec<Job> {
        let offered = Offered::by(bootstrap);
        let mut jobs = Vec::new();
        // The sessions of the new protocol are the longest.
        for protocol in [Protocol::Consumer, Protocol::Classic] {
            let why_not = match (&offered, protocol) {
                (Err(why), _) => Some(why.clone()),
                (Ok(_), Protocol::Consumer) if !has_new => Some("not with --quick".to_owned()),
                (Ok(offered), _) => offered.groups(protocol).err(),
            };
            for client in (0..self.clients.len()).rev() {
                let job = match &why_not {
                    Some(why) => Err(format!("{UNABLE}{why}")),
                    None => self.group(client, protocol),
                };
                match job {
                    Ok(job) => jobs.push(job),
                    Err(why) => {
                        let name = self.clients[client].name();
                        for behaviour in groups::behaviours(protocol, self.survives_a_node()) {
                            self.report.add(name, &behaviour, Err(why.clone()));
                        }
                    }
                }
            }
        }
        jobs
    }

    fn group(&mut self, client: usize, protocol: Protocol) -> Result<Job, String> {
        let name = self.clients[client].name();
        if self.is_node_gone() {
            return Err(format!("{UNABLE}the node is gone"));
        }
        let group = format!("{}-group-{name}-{}", self.run, protocol.name());
        let members = (0..groups::MEMBERS)
            .map(|_| self.clients[client].member(&group, &group, protocol))
            .collect::<Result<Vec<_>, String>>()?;
        let creator = self.creator().ok_or_else(|| {
            format!("{UNABLE}no client at hand creates topics with several partitions")
        })?;
        creator.create(&group, groups::PARTITIONS, &[])?;
        self.has_sent = true;
        Ok(Job {
            client: name,
            protocol,
            topic: group,
            members,
        })
    }

    /// Whether there is a cluster here that goes on without any one of its nodes.
    pub(super) fn survives_a_node(&self) -> bool {
        self.cluster.as_ref().is_some_and(Cluster::survives_a_node)
    }

    /// Whoever creates topics.
    pub(super) fn creator(&mut self) -> Option<&mut Box<dyn Client>> {
        self.clients
            .iter_mut()
            .find(|client| client.can_create_topics())
    }

    /// Creates a topic through any client that can; else the first record sent to it does, without
    /// configs.
    pub(super) fn create(&mut self, topic: &str, configs: &[&str]) -> Result<(), String> {
        match self.creator() {
            Some(client) => client.create(topic, 1, configs),
            None => Ok(()),
        }
    }

    /// Deletes a topic through any client that can.
    pub(super) fn delete(&mut self, topic: &str) -> Result<(), String> {
        self.creator().map_or(Ok(()), |client| client.delete(topic))
    }
}

/// Why nothing is tried any more.
pub(super) fn node_is_gone() -> Outcome {
    Outcome::NotRun("the node is gone".to_owned())
}

/// Why a topic with configs is missing.
pub(super) fn no_creator() -> Outcome {
    Outcome::NotRun("no client at hand creates topics with configs".to_owned())
}

fn add(report: &Mutex<&mut Report>, line: Line) {
    lock(report).add_timed(line.client, &line.behaviour, line.outcome, Some(line.took));
}
