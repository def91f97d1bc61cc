//! What clients send while nodes are killed, paused and cut off, and every client's reading of it
//! from every replica.

use std::sync::Mutex;
use std::time::Instant;

use super::client::about;
use super::cluster::Cluster;
use super::exchange::{LARGE_TOPIC_CONFIG, same_records};
use super::faults::{self, Fault, Load};
use super::node::rack;
use super::pool::{self, lock};
use super::records::RecordFile;
use super::rounds::{Rounds, no_creator, node_is_gone};

/// Clients that read at the same time.
const READERS_AT_ONCE: usize = 3;

impl Rounds {
    /// Each client sends the file, again and again, while nodes are killed, paused and cut off; then
    /// every client reads all of it, and from every node. Only a cluster goes through this.
    pub(crate) fn under_faults(&mut self, file: &RecordFile, is_quick: bool) {
        if !self.survives_a_node() {
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
                true => faults::part(writer, self.clients.len()),
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
        let nodes = 1..=u32::try_from(nodes).unwrap_or(u32::MAX);
        let count = self.clients.len();
        let name = self.clients[writer].name();
        let is_gone = self.is_node_gone();
        let report = Mutex::new(&mut self.report);
        let readers: Vec<_> = self.clients.iter_mut().enumerate().rev().collect();
        pool::each(readers, READERS_AT_ONCE, |(at, reader)| {
            let is_turn = |node: &u32| !is_quick || (writer + *node as usize) % count == at;
            for node in nodes.clone().filter(is_turn) {
                let started = Instant::now();
                let outcome = match is_gone {
                    true => node_is_gone(),
                    false => topics
                        .iter()
                        .try_for_each(|topic| {
                            reader
                                .digest_of(topic, node, &rack(node), file.bytes)
                                .and_then(|found| same_records(found, file))
                                .map_err(|why| about(topic, why))
                        })
                        .into(),
                };
                let behaviour = format!(
                    "read {} topics that {name} filled under faults, from node {node}",
                    topics.len()
                );
                let took = Some(started.elapsed());
                lock(&report).add_timed(reader.name(), &behaviour, outcome, took);
            }
        });
    }
}
