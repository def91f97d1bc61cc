//! Who sends what to whom: every client's records, read by every client.
//!
//! Topics have one partition, so the order of all records is checked with their bytes.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::client::{CODECS, Client, Digest, LinesDigest, Protocol, UNABLE, about};
use super::cluster::Cluster;
use super::connect;
use super::faults::{self, Fault, Load};
use super::groups::{self, Job};
use super::install::Workshop;
use super::node::rack;
use super::records::{RecordFile, expected_lines, sha256_of};
use super::replicas;
use super::report::{Outcome, Report};
use super::versions::Offered;

/// Room for a record of 1 MiB and a codec that makes it larger.
const LARGE_TOPIC_CONFIG: &str = "max.message.bytes=2000000";
/// Clients whose behaviours run at the same time.
const CLIENTS_AT_ONCE: usize = 3;
/// The small records are this old: younger than any retention, older than the present.
const SMALL_RECORDS_AGE_MS: u128 = 3_600_000;

/// A topic that some client filled from a file.
struct Filled {
    topic: String,
    /// For the report: who sent it and how.
    origin: String,
    file: RecordFile,
}

/// The clients at hand and what they have done.
pub(crate) struct Rounds {
    clients: Vec<Box<dyn Client>>,
    report: Report,
    /// Part of every topic's name, so that a broker can be used again.
    run: String,
    words: Vec<Filled>,
    /// The brokers, when they were started here.
    cluster: Option<Cluster>,
    /// Nothing more is tried: every request would wait for a broker that is gone.
    is_node_gone: bool,
    /// Some client has sent records.
    has_sent: bool,
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
    fn is_node_gone(&mut self) -> bool {
        let death = self.cluster.as_mut().and_then(Cluster::death);
        if let Some(why) = death.filter(|_| !self.is_node_gone) {
            self.is_node_gone = true;
            self.report
                .add("node", "keeps running", Outcome::Failed(why));
        }
        self.is_node_gone
    }

    /// Each client's own behaviours, a few clients at a time: most of it is waiting.
    pub(crate) fn behaviours(&mut self) {
        let run = self.run.clone();
        for few in 0..self.clients.len().div_ceil(CLIENTS_AT_ONCE) {
            let is_gone = self.is_node_gone();
            let clients = self.clients.iter_mut().skip(few * CLIENTS_AT_ONCE);
            let reports: Vec<Report> = std::thread::scope(|scope| {
                let check = |client: &mut Box<dyn Client>| {
                    let mut report = Report::silent();
                    match is_gone {
                        true => report.add(client.name(), "all behaviours", node_is_gone()),
                        false => {
                            let prefix = format!("{run}-check-{}", client.name());
                            client.checks(&prefix, &mut report);
                        }
                    }
                    report
                };
                let start = |client| scope.spawn(move || check(client));
                let threads: Vec<_> = clients.take(CLIENTS_AT_ONCE).map(start).collect();
                let join = |thread: std::thread::ScopedJoinHandle<'_, Report>| {
                    thread.join().unwrap_or_else(|_| {
                        let mut report = Report::silent();
                        let why = "they panicked".to_owned();
                        report.add("some client", "all behaviours", Outcome::Failed(why));
                        report
                    })
                };
                threads.into_iter().map(join).collect()
            });
            reports
                .into_iter()
                .for_each(|report| self.report.take_over(report));
        }
    }

    /// Keys, headers, nulls and timestamps of every client, as every client reads them.
    pub(crate) fn small_records(&mut self) -> Result<(), String> {
        let base_ms = u64::try_from(now_ms() - SMALL_RECORDS_AGE_MS).map_err(|e| e.to_string())?;
        for writer in 0..self.clients.len() {
            if !self.clients[writer].can_produce_lines() {
                continue;
            }
            let name = self.clients[writer].name();
            if self.is_node_gone() {
                self.report
                    .add(name, "keys, headers, nulls and timestamps", node_is_gone());
                continue;
            }
            let topic = format!("{}-lines-{name}", self.run);
            let sent = self
                .create(&topic, &[])
                .and_then(|()| self.clients[writer].produce_lines(&topic, base_ms));
            let headers = sent.as_ref().ok().copied();
            self.has_sent |= sent.is_ok();
            let sent = sent.map(|_| ());
            self.report
                .add(name, "send keys, headers, nulls and timestamps", sent);
            let expected = match headers {
                None => None,
                Some(headers) => Some(LinesDigest {
                    plain: sha256_of(expected_lines(headers, None))?,
                    timed: sha256_of(expected_lines(headers, Some(base_ms)))?,
                }),
            };
            for reader in &mut self.clients {
                let behaviour = format!("read keys, headers, nulls and timestamps of {name}");
                let outcome: Outcome = match &expected {
                    Some(expected) => reader
                        .lines(&topic)
                        .and_then(|found| same_lines(&found, expected))
                        .into(),
                    None => Outcome::NotRun("they were not sent".to_owned()),
                };
                self.report.add(reader.name(), &behaviour, outcome);
            }
        }
        Ok(())
    }

    /// A worker of Kafka Connect.
    pub(crate) fn connect(&mut self, workshop: &Workshop, bootstrap: &str) {
        let topic = format!("{}-connect", self.run);
        connect::run(workshop, bootstrap, &topic, &mut self.report);
        self.has_sent = true;
    }

    /// Groups of every client, in both protocols.
    pub(crate) fn groups(&mut self, bootstrap: &str, is_quick: bool) {
        let offered = Offered::by(bootstrap);
        let mut jobs = Vec::new();
        for protocol in [Protocol::Classic, Protocol::Consumer] {
            let why_not = match (&offered, protocol) {
                (Err(why), _) => Some(why.clone()),
                // Sessions of this protocol last 45 s.
                (Ok(_), Protocol::Consumer) if is_quick => Some("not with --quick".to_owned()),
                (Ok(offered), _) => offered.groups(protocol).err(),
            };
            for client in 0..self.clients.len() {
                let job = match &why_not {
                    Some(why) => Err(format!("{UNABLE}{why}")),
                    None => self.group(client, protocol),
                };
                match job {
                    Ok(job) => jobs.push(job),
                    Err(why) => {
                        let name = self.clients[client].name();
                        for behaviour in groups::behaviours(protocol) {
                            self.report.add(name, &behaviour, Err(why.clone()));
                        }
                    }
                }
            }
        }
        let report = &mut self.report;
        groups::run(jobs, bootstrap, &mut |line: groups::Line| {
            report.add_timed(line.client, &line.behaviour, line.outcome, Some(line.took));
        });
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

    /// Who reads what was sent: so many clients at most, another set for each turn.
    fn readers(&self, turn: usize, count: usize) -> Vec<usize> {
        let clients = self.clients.len();
        let count = count.min(clients);
        (0..count)
            .map(|at| (turn + at * clients / count) % clients)
            .collect()
    }

    /// The word list: every client with every codec, each read by so many clients.
    pub(crate) fn words(&mut self, file: &RecordFile, readers: usize) {
        for writer in 0..self.clients.len() {
            for (turn, codec) in CODECS.into_iter().enumerate() {
                if let Some(filled) = self.fill(writer, codec, "words", file, &[]) {
                    for reader in self.readers(writer + turn, readers) {
                        self.read(reader, &filled);
                    }
                    self.words.push(filled);
                }
            }
        }
    }

    /// The large file: once by every client, the codecs taken in turn, so that each is used;
    /// each read by so many clients.
    pub(crate) fn large_file(&mut self, file: &RecordFile, readers: usize) {
        let turns = CODECS.len().max(self.clients.len());
        let size = format!("{} MiB", file.bytes >> 20);
        for turn in 0..turns {
            let writer = turn % self.clients.len();
            let codec = CODECS[turn % CODECS.len()];
            if let Some(filled) = self.fill(writer, codec, &size, file, &[LARGE_TOPIC_CONFIG]) {
                for reader in self.readers(turn, readers) {
                    self.read(reader, &filled);
                }
                if let Err(why) = self.delete(&filled.topic) {
                    self.report
                        .add("topic of", &filled.origin, Outcome::Failed(why));
                }
            }
        }
    }

    /// Each client sends the file, again and again, while nodes are killed, paused and cut off; then
    /// every client reads all of it, and from every node. Only a cluster goes through this.
    pub(crate) fn under_faults(&mut self, file: &RecordFile, is_quick: bool) {
        if !self.cluster.as_ref().is_some_and(Cluster::survives_a_node) {
            return;
        }
        for writer in 0..self.clients.len() {
            let name = self.clients[writer].name();
            let behaviour = "send while nodes are killed, paused and cut off";
            if self.is_node_gone() {
                self.report.add(name, behaviour, node_is_gone());
                continue;
            }
            if self.creator().is_none() {
                self.report.add(name, behaviour, no_creator());
                continue;
            }
            let faults = match is_quick {
                true => faults::one_of_each(writer),
                false => faults::all(),
            };
            let started = Instant::now();
            let (topics, sent) = self.fill_under_faults(writer, file, &faults);
            self.has_sent |= !topics.is_empty();
            self.report
                .add_timed(name, behaviour, sent, Some(started.elapsed()));
            if !topics.is_empty() {
                self.read_every_replica(writer, &topics, file, is_quick);
            }
        }
    }

    /// The topics that were filled, and whether all of them were.
    fn fill_under_faults(
        &mut self,
        writer: usize,
        file: &RecordFile,
        faults: &[Fault],
    ) -> (Vec<String>, Result<(), String>) {
        let mut topics = Vec::new();
        let Some(mut cluster) = self.cluster.take() else {
            return (topics, Err("the brokers were not started here".to_owned()));
        };
        let load = Load::default();
        let (sent, done) = std::thread::scope(|scope| {
            let first = format!("{}-faults-{writer}-0", self.run);
            load.writes(&first);
            let faulty = scope.spawn(|| faults::inflict(&mut cluster, faults, &load));
            let mut sent = Ok(());
            while sent.is_ok() && !faulty.is_finished() {
                let topic = format!("{}-faults-{writer}-{}", self.run, topics.len());
                load.writes(&topic);
                sent = self
                    .create(&topic, &[LARGE_TOPIC_CONFIG])
                    .and_then(|()| self.clients[writer].produce(&topic, "none", file))
                    .map_err(|why| about(&topic, why));
                if sent.is_ok() {
                    topics.push(topic);
                }
            }
            load.end();
            (sent, faulty.join())
        });
        let done = done.unwrap_or_else(|_| Err("whoever makes the faults panicked".to_owned()));
        let known = done.and_then(|()| cluster.wait_known(&topics));
        self.cluster = Some(cluster);
        (topics, sent.and(known))
    }

    /// Each topic from every node: by every client, or by each in turn when that is to be quick.
    fn read_every_replica(
        &mut self,
        writer: usize,
        topics: &[String],
        file: &RecordFile,
        is_quick: bool,
    ) {
        let nodes = self.cluster.as_ref().map_or(0, Cluster::len);
        let clients = self.clients.len();
        let name = self.clients[writer].name();
        for node in 1..=nodes {
            let readers = match is_quick {
                true => vec![(writer + node) % clients],
                false => (0..clients).collect(),
            };
            for reader in readers {
                let is_gone = self.is_node_gone();
                let reader = &mut self.clients[reader];
                let started = Instant::now();
                let outcome = match is_gone {
                    true => node_is_gone(),
                    false => topics
                        .iter()
                        .try_for_each(|topic| {
                            let id = u32::try_from(node).map_err(|e| e.to_string())?;
                            reader
                                .digest_of(topic, id, &rack(id), file.bytes)
                                .and_then(|found| same_records(found, file))
                                .map_err(|why| about(topic, why))
                        })
                        .into(),
                };
                let behaviour = format!(
                    "read {} topics that {name} filled under faults, from node {node}",
                    topics.len()
                );
                self.report
                    .add_timed(reader.name(), &behaviour, outcome, Some(started.elapsed()));
            }
        }
    }

    /// Kills every node, starts them again, and has the first client read the word lists once more.
    pub(crate) fn words_after_kill(&mut self) {
        let behaviour = "everything is read again after kill -9";
        let outcome = if self.is_node_gone() {
            node_is_gone()
        } else if self.words.is_empty() {
            Outcome::NotRun("no word list was sent".to_owned())
        } else {
            match self.cluster.as_mut().map(Cluster::kill_and_restart) {
                None => Outcome::NotRun("the broker was not started here".to_owned()),
                Some(restarted) => restarted.and_then(|()| self.read_words_again()).into(),
            }
        };
        self.report.add("node", behaviour, outcome);
    }

    fn read_words_again(&mut self) -> Result<(), String> {
        let reader = &mut self.clients[0];
        for filled in &self.words {
            let read = read_same(reader.as_mut(), filled);
            read.map_err(|why| about(&format!("{} by {}", filled.origin, reader.name()), why))?;
        }
        Ok(())
    }

    fn fill(
        &mut self,
        writer: usize,
        codec: &str,
        what: &str,
        file: &RecordFile,
        configs: &[&str],
    ) -> Option<Filled> {
        let name = self.clients[writer].name();
        let topic = format!("{}-{}-{name}-{codec}", self.run, what.replace(' ', ""));
        let behaviour = format!("send {what}, {codec}");
        let origin = format!("{what} of {name}, {codec}");
        let started = Instant::now();
        let sent: Outcome = if self.is_node_gone() {
            node_is_gone()
        } else if configs.is_empty() || self.creator().is_some() {
            let created = self.create(&topic, configs);
            created
                .and_then(|()| self.clients[writer].produce(&topic, codec, file))
                .into()
        } else {
            no_creator()
        };
        let is_sent = matches!(sent, Outcome::Passed);
        self.has_sent |= is_sent;
        self.report
            .add_timed(name, &behaviour, sent, Some(started.elapsed()));
        is_sent.then(|| Filled {
            topic,
            origin,
            file: file.clone(),
        })
    }

    fn read(&mut self, reader: usize, filled: &Filled) {
        let is_gone = self.is_node_gone();
        let reader = &mut self.clients[reader];
        let started = Instant::now();
        let outcome = match is_gone {
            true => node_is_gone(),
            false => read_same(reader.as_mut(), filled).into(),
        };
        let behaviour = format!("read {}", filled.origin);
        self.report
            .add_timed(reader.name(), &behaviour, outcome, Some(started.elapsed()));
    }

    fn creator(&mut self) -> Option<&mut Box<dyn Client>> {
        self.clients
            .iter_mut()
            .find(|client| client.can_create_topics())
    }

    /// Creates a topic through any client that can; else the first record sent to it does, without
    /// configs.
    fn create(&mut self, topic: &str, configs: &[&str]) -> Result<(), String> {
        match self.creator() {
            Some(client) => client.create(topic, 1, configs),
            None => Ok(()),
        }
    }

    fn delete(&mut self, topic: &str) -> Result<(), String> {
        self.creator().map_or(Ok(()), |client| client.delete(topic))
    }
}

fn node_is_gone() -> Outcome {
    Outcome::NotRun("the node is gone".to_owned())
}

fn no_creator() -> Outcome {
    Outcome::NotRun("no client at hand creates topics with configs".to_owned())
}

fn read_same(reader: &mut dyn Client, filled: &Filled) -> Result<(), String> {
    let found = reader.digest(&filled.topic, &filled.file)?;
    same_records(found, &filled.file)
}

fn same_records(found: Digest, file: &RecordFile) -> Result<(), String> {
    let expected = file.count;
    if let Some(count) = found.count.filter(|count| *count != expected) {
        return Err(format!("{count} records were read, {expected} were sent"));
    }
    if found.sha256 == file.sha256 {
        Ok(())
    } else {
        Err(format!(
            "read SHA-256 {}, sent {}",
            found.sha256, file.sha256
        ))
    }
}

fn same_lines(found: &LinesDigest, expected: &LinesDigest) -> Result<(), String> {
    if found.plain != expected.plain {
        Err("keys, values, headers or offsets differ".to_owned())
    } else if found.timed != expected.timed {
        Err("timestamps differ".to_owned())
    } else {
        Ok(())
    }
}

fn now_ms() -> u128 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis())
}
