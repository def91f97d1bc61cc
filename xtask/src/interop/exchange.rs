//! Who sends what to whom: every client's records, read by other clients, several at a time.
//!
//! Topics have one partition, so the order of all records is checked with their bytes.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::client::{CODECS, Client, Digest, LinesDigest, about};
use super::pool::{self, lock};
use super::records::{RecordFile, expected_lines, sha256_of};
use super::report::Outcome;
use super::rounds::{Rounds, no_creator, node_is_gone};

/// Room for a record of 1 MiB and a codec that makes it larger.
pub(super) const LARGE_TOPIC_CONFIG: &str = "max.message.bytes=2000000";
/// Clients that send or read at the same time: as many as a small machine has use for.
const AT_ONCE: usize = 4;
/// So many bytes of topics with the large file may be there at once.
const LARGE_BYTES_MAX: u64 = 512 << 20;
/// The small records are this old: younger than any retention, older than the present.
const SMALL_RECORDS_AGE_MS: u128 = 3_600_000;

/// What a client is to send.
struct Wanted {
    writer: usize,
    /// Which readers' turn it is.
    turn: usize,
    codec: &'static str,
}

/// A topic that some client filled from a file.
pub(super) struct Filled {
    turn: usize,
    pub(super) topic: String,
    /// For the report: who sent it and how.
    origin: String,
    file: RecordFile,
}

impl Rounds {
    /// Keys, headers, nulls and timestamps of every client, as every client reads them.
    pub(crate) fn small_records(&mut self) -> Result<(), String> {
        let base_ms = u64::try_from(now_ms() - SMALL_RECORDS_AGE_MS).map_err(|e| e.to_string())?;
        let is_gone = self.is_node_gone();
        let mut made = BTreeMap::new();
        for writer in 0..self.clients.len() {
            let topic = format!("{}-lines-{}", self.run, self.clients[writer].name());
            if self.clients[writer].can_produce_lines() {
                let created = match is_gone {
                    true => Err(String::new()),
                    false => self.create(&topic, &[]),
                };
                made.insert(writer, (topic, created));
            }
        }
        let report = Mutex::new(&mut self.report);
        let clients = self.clients.iter_mut().enumerate();
        let sending = clients.filter_map(|(at, client)| Some((client, made.remove(&at)?)));
        let sent = pool::each(sending.collect(), AT_ONCE, |(client, (topic, created))| {
            let behaviour = "send keys, headers, nulls and timestamps";
            if is_gone {
                lock(&report).add(client.name(), behaviour, node_is_gone());
                return None;
            }
            let sent = created.and_then(|()| client.produce_lines(&topic, base_ms));
            let left_out = sent.as_ref().ok().copied();
            lock(&report).add(client.name(), behaviour, sent.map(|_| ()));
            Some((client.name(), topic, left_out?))
        });
        let mut topics = Vec::new();
        for (writer, topic, left_out) in sent.into_iter().flatten().flatten() {
            let expected = LinesDigest {
                plain: sha256_of(expected_lines(left_out, None))?,
                timed: sha256_of(expected_lines(left_out, Some(base_ms)))?,
            };
            topics.push((writer, topic, expected));
        }
        self.has_sent |= !topics.is_empty();
        let report = Mutex::new(&mut self.report);
        let readers: Vec<_> = self.clients.iter_mut().collect();
        pool::each(readers, AT_ONCE, |reader| {
            for (writer, topic, expected) in &topics {
                let behaviour = format!("read keys, headers, nulls and timestamps of {writer}");
                let found = reader.lines(topic);
                let outcome = found.and_then(|found| same_lines(&found, expected));
                lock(&report).add(reader.name(), &behaviour, outcome);
            }
        });
        Ok(())
    }

    /// The word list: every client with every codec, each read by so many clients.
    pub(crate) fn words(&mut self, file: &RecordFile, readers: usize) {
        let mut wanted = Vec::new();
        for writer in 0..self.clients.len() {
            for (at, codec) in CODECS.into_iter().enumerate() {
                let turn = writer + at;
                wanted.push(Wanted {
                    writer,
                    turn,
                    codec,
                });
            }
        }
        let filled = self.exchange(wanted, "words", file, &[], readers);
        self.words.extend(filled);
    }

    /// The large file: once by every client, the codecs taken in turn, so that each is used;
    /// each read by so many clients.
    pub(crate) fn large_file(&mut self, file: &RecordFile, readers: usize) {
        let turns = CODECS.len().max(self.clients.len());
        let size = format!("{} MiB", file.bytes >> 20);
        let few = usize::try_from(LARGE_BYTES_MAX / file.bytes.max(1)).unwrap_or(1);
        let turns: Vec<usize> = (0..turns).collect();
        for turns in turns.chunks(few.max(1)) {
            let wanted = turns.iter().map(|turn| Wanted {
                writer: turn % self.clients.len(),
                turn: *turn,
                codec: CODECS[turn % CODECS.len()],
            });
            let wanted = wanted.collect();
            for filled in self.exchange(wanted, &size, file, &[LARGE_TOPIC_CONFIG], readers) {
                if let Err(why) = self.delete(&filled.topic) {
                    self.report
                        .add("topic of", &filled.origin, Outcome::Failed(why));
                }
            }
        }
    }

    /// Has clients send a file, each its own codecs one after the other, and then others read it.
    fn exchange(
        &mut self,
        wanted: Vec<Wanted>,
        what: &str,
        file: &RecordFile,
        configs: &[&str],
        readers: usize,
    ) -> Vec<Filled> {
        let is_gone = self.is_node_gone();
        let has_creator = self.creator().is_some();
        let mut tasks: BTreeMap<usize, Vec<_>> = BTreeMap::new();
        for Wanted {
            writer,
            turn,
            codec,
        } in wanted
        {
            let name = self.clients[writer].name();
            let named = what.replace(' ', "");
            let topic = format!("{}-{named}-{name}-{codec}-{turn}", self.run);
            let created: Result<(), Outcome> = if is_gone {
                Err(node_is_gone())
            } else if configs.is_empty() || has_creator {
                let created = self.create(&topic, configs);
                created.map_err(|why| Err(why).into())
            } else {
                Err(no_creator())
            };
            let origin = format!("{what} of {name}, {codec}");
            let file = file.clone();
            let filled = Filled {
                turn,
                topic,
                origin,
                file,
            };
            tasks
                .entry(writer)
                .or_default()
                .push((codec, created, filled));
        }
        let made: Vec<String> = tasks
            .values()
            .flatten()
            .filter(|(_, created, _)| created.is_ok())
            .map(|(_, _, filled)| filled.topic.clone())
            .collect();
        // Some clients do not ask again who leads a new topic.
        let known = (self.cluster.as_ref()).map_or(Ok(()), |cluster| cluster.wait_known(&made));
        if let Err(why) = known.as_ref() {
            self.report.add("node", what, Outcome::Failed(why.clone()));
        }
        let report = Mutex::new(&mut self.report);
        let clients = self.clients.iter_mut().enumerate();
        let sending: Vec<_> = clients
            .filter_map(|(at, client)| Some((client, tasks.remove(&at)?)))
            // The slowest client is the last.
            .rev()
            .collect();
        let filled = pool::each(sending, AT_ONCE, |(client, tasks)| {
            let mut sent = Vec::new();
            for (codec, created, filled) in tasks {
                let started = Instant::now();
                let outcome: Outcome = match created {
                    Ok(()) => client.produce(&filled.topic, codec, file).into(),
                    Err(why_not) => why_not,
                };
                let is_sent = matches!(outcome, Outcome::Passed);
                let behaviour = format!("send {what}, {codec}");
                let took = Some(started.elapsed());
                lock(&report).add_timed(client.name(), &behaviour, outcome, took);
                sent.extend(is_sent.then_some(filled));
            }
            sent
        });
        let mut filled: Vec<Filled> = filled.into_iter().flatten().flatten().collect();
        filled.sort_by_key(|filled| filled.turn);
        self.has_sent |= !filled.is_empty();
        self.read(&filled, readers);
        filled
    }

    /// Has so many clients read each topic.
    fn read(&mut self, filled: &[Filled], readers: usize) {
        let mut tasks: BTreeMap<usize, Vec<&Filled>> = BTreeMap::new();
        for one in filled {
            for reader in self.readers(one.turn, readers) {
                tasks.entry(reader).or_default().push(one);
            }
        }
        let is_gone = self.is_node_gone();
        let report = Mutex::new(&mut self.report);
        let clients = self.clients.iter_mut().enumerate();
        let reading: Vec<_> = clients
            .filter_map(|(at, client)| Some((client, tasks.remove(&at)?)))
            .rev()
            .collect();
        pool::each(reading, AT_ONCE, |(client, tasks)| {
            for filled in tasks {
                let started = Instant::now();
                let outcome = match is_gone {
                    true => node_is_gone(),
                    false => read_same(client.as_mut(), filled).into(),
                };
                let behaviour = format!("read {}", filled.origin);
                let took = Some(started.elapsed());
                lock(&report).add_timed(client.name(), &behaviour, outcome, took);
            }
        });
    }

    /// Who reads what was sent: so many clients at most, another set for each turn.
    fn readers(&self, turn: usize, count: usize) -> Vec<usize> {
        let clients = self.clients.len();
        let count = count.min(clients);
        (0..count)
            .map(|at| (turn + at * clients / count) % clients)
            .collect()
    }

    /// Kills every node, starts them again, and has the clients read the word lists once more, each
    /// list by one of them.
    pub(crate) fn words_after_kill(&mut self) {
        let behaviour = "everything is read again after kill -9";
        let outcome = if self.is_node_gone() {
            node_is_gone()
        } else if self.words.is_empty() {
            Outcome::NotRun("no word list was sent".to_owned())
        } else {
            match self
                .cluster
                .as_mut()
                .map(super::cluster::Cluster::kill_and_restart)
            {
                None => Outcome::NotRun("the broker was not started here".to_owned()),
                Some(restarted) => restarted.and_then(|()| self.read_words_again()).into(),
            }
        };
        self.report.add("node", behaviour, outcome);
    }

    fn read_words_again(&mut self) -> Result<(), String> {
        let count = self.clients.len();
        let words = &self.words;
        let readers: Vec<_> = self.clients.iter_mut().enumerate().rev().collect();
        let read = pool::each(readers, AT_ONCE, |(at, reader)| {
            words.iter().skip(at).step_by(count).try_for_each(|filled| {
                let read = read_same(reader.as_mut(), filled);
                read.map_err(|why| about(&format!("{} by {}", filled.origin, reader.name()), why))
            })
        });
        let ended = |one: Option<_>| one.unwrap_or_else(|| Err("a reader panicked".to_owned()));
        read.into_iter().try_for_each(ended)
    }
}

fn read_same(reader: &mut dyn Client, filled: &Filled) -> Result<(), String> {
    let found = reader.digest(&filled.topic, &filled.file)?;
    same_records(found, &filled.file)
}

/// Whether a reader found just what is in a file.
pub(super) fn same_records(found: Digest, file: &RecordFile) -> Result<(), String> {
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

pub(super) fn now_ms() -> u128 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis())
}
