//! [`drive`]: one run from the first topic to the last read, in whatever world.
//!
//! Everything is one future on one thread: clients, the one that breaks things and the one that
//! samples resources take turns as tokio's clock and their sockets say. Every wait has an end.

use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, join, join_all, select};
use jepsen_check::Recorder;
use jepsen_check::history::Key;
use tokio::time::{Instant, sleep};
use tracing::info;

use crate::book::Book;
use crate::client::nodes::Nodes;
use crate::client::thin::ThinClient;
use crate::client::{Client, ClientOptions};
use crate::finish;
use crate::generator::Generator;
use crate::nemesis::{self, Nemesis, Walked};
use crate::random::Random;
use crate::ready;
use crate::settings::{ClientKind, RunSettings};
use crate::workload::WorkloadKind;
use crate::workload::group::{self, AnyGroupClient};
use crate::workload::log::LogClient;
use crate::workload::meta::{MetaClient, MetaGenerator};
use crate::workload::style::Style;
use crate::world::World;

/// A client crashes about this often.
const CRASH_EVERY_S: u64 = 30;
const SAMPLE_EVERY: Duration = Duration::from_secs(1);

/// What kept the harness from doing its work; it says nothing about the cluster.
#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    /// The settings contradict themselves.
    #[error("these settings cannot be: {0}")]
    Settings(String),
    /// The cluster never was ready.
    #[error("the cluster was not ready within {waited_ms} ms: {why}")]
    NotReady {
        /// How long it was waited for.
        waited_ms: u64,
        /// What was missing at last.
        why: String,
    },
    /// No fault of the plan took effect, though there are some.
    #[error("none of {tried} faults took effect; the last: {why}")]
    NoFault {
        /// How many there were.
        tried: usize,
        /// Why the last did not.
        why: String,
    },
    /// The world could not undo what it broke.
    #[error("not everything could be healed: {0}")]
    Heal(String),
}

/// Runs all phases and writes everything down. The history is complete also when it errs.
///
/// # Errors
///
/// When the harness could not do its work. What the cluster does wrong is in the history.
pub async fn drive<W: World>(
    world: &W,
    settings: &RunSettings,
    history: &Recorder,
) -> Result<(), DriveError> {
    settings.validate().map_err(DriveError::Settings)?;
    let book = Book::new(world, history);
    let factory = Factory { world, settings };
    let run = Box::pin(phases(&book, &factory));
    let sampler = pin!(sample(&book));
    let result = match select(run, sampler).await {
        Either::Left((result, _)) => result,
        Either::Right((never, _)) => match never {},
    };
    book.sample();
    result
}

async fn sample<W: World>(book: &Book<'_, W>) -> std::convert::Infallible {
    loop {
        book.sample();
        sleep(SAMPLE_EVERY).await;
    }
}

async fn phases<W: World>(book: &Book<'_, W>, factory: &Factory<'_, W>) -> Result<(), DriveError> {
    let settings = factory.settings;
    let mut random = Random::new(settings.seed);
    let keys = settings.keys();
    ready::make_ready(book, factory, random.fork(10)).await?;

    let has_group = settings.workloads.contains(&WorkloadKind::Group);
    // A generator of its own, so that the other workloads draw what they draw without it.
    let mut of_group = Random::new(settings.seed).fork(18);
    let style = Style::draw(&mut of_group);
    if has_group {
        info!(?style, "the group");
        group::make_ready(book, factory, of_group.fork(1)).await?;
    }
    let rate_per_client = u64::from(settings.rate_per_s / settings.clients.max(1)).max(1);
    let crash_one_in = CRASH_EVERY_S * rate_per_client;
    let generator = RefCell::new(Generator::new(random.fork(11), keys.clone(), crash_one_in));
    let meta = RefCell::new(MetaGenerator::new(random.fork(12), keys.clone()));
    book.phase("faults");
    info!(seed = settings.seed, "faults begin");
    let started = Instant::now();
    let until = started + settings.duration;
    let never = Cell::new(false);
    let mut clients = Vec::new();
    for number in 0..settings.clients {
        let random = random.fork(100 + u64::from(number));
        clients.push(match settings.workload_of(number) {
            WorkloadKind::Log => {
                let (pause, generator) = (settings.pause(), &generator);
                let client = LogClient {
                    book,
                    factory,
                    generator,
                    number,
                    random,
                    pause,
                };
                Either::Left(Either::Left(Box::pin(client.work(until))))
            }
            WorkloadKind::Group => {
                let member = AnyGroupClient {
                    book,
                    factory,
                    generator: &generator,
                    number,
                    random,
                    style,
                    pause: settings.pause(),
                    is_calm: false,
                };
                Either::Left(Either::Right(Box::pin(member.work(until, &never))))
            }
            WorkloadKind::Meta => {
                let (pause, generator) = (settings.pause(), &meta);
                let client = MetaClient {
                    book,
                    factory,
                    generator,
                    number,
                    random,
                    pause,
                };
                Either::Right(Box::pin(client.work(until)))
            }
        });
    }
    let nemesis = Nemesis {
        book,
        nodes: factory.nodes(settings.clients, random.fork(13)),
        hot: keys.first().cloned(),
        clients: (0..settings.clients).collect(),
        fault_timeout: settings.fault_timeout,
    };
    let walk = Box::pin(nemesis.walk(&settings.plan, started, until));
    let (walked, _) = join(walk, join_all(clients)).await;

    book.phase("heal");
    info!("healing");
    let healed = nemesis::heal(book, settings.heal_timeout).await;
    book.phase("healed");
    Box::pin(finish::prove_live(
        book,
        factory,
        &generator,
        random.fork(14),
    ))
    .await;
    if has_group {
        info!("the group reads what is left");
        let random = Random::new(settings.seed).fork(19);
        Box::pin(group::read_the_rest(
            book, factory, &generator, style, random,
        ))
        .await;
    }
    book.phase("final");
    info!("reading all");
    Box::pin(finish::read_all(book, factory, &generator, random.fork(15))).await;
    if settings.workloads.contains(&WorkloadKind::Meta) {
        let topics = meta.borrow().topics();
        Box::pin(finish::describe_all(book, factory, topics, random.fork(16))).await;
    }
    Box::pin(finish::read_replicas(book, factory, random.fork(17))).await;
    if has_group {
        let (topic, random) = (group::OFFSETS_TOPIC, of_group.fork(2));
        Box::pin(finish::read_compacted_replicas(
            book, factory, topic, random,
        ))
        .await;
    }
    book.phase("end");
    healed.map_err(DriveError::Heal)?;
    match walked {
        Walked {
            tried,
            effective: 0,
            failure: Some(why),
        } => Err(DriveError::NoFault { tried, why }),
        _ => Ok(()),
    }
}

/// Makes the clients of a run.
#[derive(Debug)]
pub(crate) struct Factory<'a, W> {
    world: &'a W,
    settings: &'a RunSettings,
}

impl<'a, W: World> Factory<'a, W> {
    /// What the run was told.
    pub(crate) fn settings(&self) -> &'a RunSettings {
        self.settings
    }

    /// A client of its own, of the kind that this one is to be.
    pub(crate) fn make(&self, number: u32, options: ClientOptions, random: Random) -> Client {
        let addresses = self.world.kafka_addresses(number);
        match self.settings.client {
            #[cfg(feature = "rdkafka")]
            kind if kind == ClientKind::Rdkafka
                || (kind == ClientKind::Mixed && number % 2 == 1) =>
            {
                crate::client::rdkafka::RdkafkaClient::make(addresses, options, random)
            }
            ClientKind::Thin | ClientKind::Rdkafka | ClientKind::Mixed => {
                Client::Thin(Box::new(ThinClient::new(addresses, options, random)))
            }
        }
    }

    /// Whether the members of this client are librdkafka's. Those of a group have odd numbers while
    /// things break, so that both kinds are in it.
    #[cfg(feature = "rdkafka")]
    pub(crate) fn has_rdkafka_members(&self, number: u32) -> bool {
        match self.settings.client {
            ClientKind::Thin => false,
            ClientKind::Rdkafka => true,
            ClientKind::Mixed => number % 4 >= 2,
        }
    }

    /// Our own client, whatever kind the others are.
    pub(crate) fn make_thin(&self, number: u32, options: ClientOptions, random: Random) -> Client {
        let addresses = self.world.kafka_addresses(number);
        Client::Thin(Box::new(ThinClient::new(addresses, options, random)))
    }

    /// What a client knows of the nodes that it speaks to by itself.
    pub(crate) fn nodes(&self, number: u32, random: Random) -> Nodes {
        let addresses = self.world.kafka_addresses(number);
        Nodes::new(addresses, self.settings.request_timeout, random)
    }
}

impl RunSettings {
    /// The partitions of the workload `log`.
    #[must_use]
    pub fn keys(&self) -> Vec<Key> {
        let partitions = i32::try_from(self.partitions).unwrap_or(i32::MAX);
        let of_topic = |topic: u32| {
            let key = move |partition| Key {
                topic: topic_name(topic),
                partition,
            };
            (0..partitions).map(key)
        };
        // The first partitions of all topics come first, so that each topic has hot keys.
        let mut keys: Vec<Key> = (0..self.topics).flat_map(of_topic).collect();
        keys.sort_by_key(|key| key.partition);
        keys
    }

    /// What a client does, by its number.
    fn workload_of(&self, number: u32) -> WorkloadKind {
        let has = |kind| self.workloads.contains(&kind);
        let (log, meta, group) = (WorkloadKind::Log, WorkloadKind::Meta, WorkloadKind::Group);
        let writes = has(log) || has(group);
        match number {
            _ if !writes => meta,
            _ if has(meta) && number % 3 == 2 => meta,
            // A group reads what somebody writes.
            _ if has(group) && number % 2 == 1 => group,
            _ => log,
        }
    }

    /// The mean of a client's pauses.
    fn pause(&self) -> Duration {
        Duration::from_secs(1) * self.clients / self.rate_per_s
    }

    /// Whether a run can be like this.
    ///
    /// # Errors
    ///
    /// What is wrong, for people.
    pub fn validate(&self) -> Result<(), String> {
        let limits = [
            ("clients", self.clients, 1, 1_000),
            ("topics", self.topics, 1, 100),
            ("partitions", self.partitions, 1, 100),
            ("rate_per_s", self.rate_per_s, 1, 100_000),
            ("padding_bytes_max", self.padding_bytes_max, 0, 200_000),
        ];
        for (name, value, least, most) in limits {
            if !(least..=most).contains(&value) {
                return Err(format!(
                    "{name} is {value} and has to be from {least} to {most}"
                ));
            }
        }
        if self.workloads.is_empty() {
            return Err("there is no workload".to_owned());
        }
        if self.client != ClientKind::Thin && cfg!(not(feature = "rdkafka")) {
            return Err("librdkafka was not built in: build with `--features rdkafka`".to_owned());
        }
        let is_mixed =
            self.workloads.contains(&WorkloadKind::Meta) && self.workloads != [WorkloadKind::Meta];
        if is_mixed && self.clients < 3 {
            return Err("meta beside others needs three clients or more".to_owned());
        }
        if self.workloads.contains(&WorkloadKind::Group) && self.clients < 2 {
            return Err("a group needs two clients or more".to_owned());
        }
        Ok(())
    }
}

/// A topic of the workload `log`.
pub(crate) fn topic_name(topic: u32) -> String {
    format!("log-{topic}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_be_are_refused() {
        assert_eq!(RunSettings::default().validate(), Ok(()));
        let wrong = [
            RunSettings {
                clients: 0,
                ..RunSettings::default()
            },
            RunSettings {
                rate_per_s: 0,
                ..RunSettings::default()
            },
            RunSettings {
                workloads: vec![],
                ..RunSettings::default()
            },
            RunSettings {
                topics: 101,
                ..RunSettings::default()
            },
            RunSettings {
                clients: 2,
                workloads: WorkloadKind::ALL.to_vec(),
                ..RunSettings::default()
            },
        ];
        for settings in wrong {
            assert!(settings.validate().is_err(), "{settings:?}");
        }
    }

    #[test]
    fn every_workload_asked_for_has_clients() {
        let all = RunSettings {
            workloads: WorkloadKind::ALL.to_vec(),
            ..RunSettings::default()
        };
        for kind in WorkloadKind::ALL {
            let clients = (0..6).filter(|number| all.workload_of(*number) == kind);
            assert_eq!(clients.count(), 2, "{kind}");
        }
        let group = RunSettings {
            workloads: vec![WorkloadKind::Group],
            ..RunSettings::default()
        };
        let of = [0, 1].map(|number| group.workload_of(number));
        assert_eq!(of, [WorkloadKind::Log, WorkloadKind::Group]);
        let meta = RunSettings {
            workloads: vec![WorkloadKind::Meta],
            ..RunSettings::default()
        };
        assert!((0..6).all(|number| meta.workload_of(number) == WorkloadKind::Meta));
    }

    #[test]
    fn settings_are_read_back_as_they_were_written() {
        let settings = RunSettings {
            seed: 7,
            ..RunSettings::default()
        };
        let text = serde_json::to_string(&settings).expect("settings are JSON");
        assert_eq!(
            serde_json::from_str::<RunSettings>(&text).expect("the same"),
            settings
        );
    }
}
