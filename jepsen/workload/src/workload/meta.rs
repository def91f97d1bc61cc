//! The workload `meta`: topics are created, altered, described and deleted, replicas and leaders move.
//!
//! Topic names are never used twice and the values of a setting never repeat, so that what is read
//! says which change it comes from.

use std::cell::RefCell;
use std::time::Duration;

use jepsen_check::history::{Admin, Key, Op, Process};
use tokio::time::{Instant, sleep};
use tracing::debug;

use super::log::pause;
use crate::book::Book;
use crate::client::admin::{self, Answer, Steering, TopicOptions};
use crate::client::nodes::Nodes;
use crate::fault::NodeId;
use crate::random::Random;
use crate::run::Factory;
use crate::world::World;

/// More topics than this are not there at a time.
const TOPICS_MAX: usize = 12;
/// The settings that are changed, each with its lowest value here.
const SETTINGS: [(&str, u64); 4] = [
    ("retention.ms", 100_000_000_000),
    ("segment.bytes", 1_000_000),
    ("max.message.bytes", 2_000_000),
    ("segment.ms", 200_000_000_000),
];

/// What a client does next.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// An operation of the history.
    Admin(Admin),
    /// Something that moves replicas or leaders.
    Steer(Steering),
}

/// The state behind the choices.
#[derive(Debug)]
pub struct MetaGenerator {
    random: Random,
    /// Topics that were asked for, and whether somebody asked to delete them.
    topics: Vec<(String, bool)>,
    /// Partitions whose replicas and leaders may be moved.
    keys: Vec<Key>,
    next_value: u64,
}

impl MetaGenerator {
    /// These keys' replicas and leaders are moved beside the workload's own topics.
    #[must_use]
    pub fn new(random: Random, keys: Vec<Key>) -> MetaGenerator {
        MetaGenerator {
            random,
            topics: Vec::new(),
            keys,
            next_value: 0,
        }
    }

    /// What a client does next in a cluster of these nodes.
    pub fn next(&mut self, nodes: &[NodeId]) -> Action {
        let standing = self.topics.iter().filter(|(_, deleted)| !deleted).count();
        let roll = self.random.below(100);
        let admin = match roll {
            _ if standing == 0 => self.create(),
            0..=14 if standing < TOPICS_MAX => self.create(),
            15..=24 => self.delete(),
            25..=44 => self.set(),
            45..=79 => self.describe(),
            80..=91 => Admin::ListTopics { topics: Vec::new() },
            92..=95 => return Action::Steer(self.reassign(nodes)),
            96..=99 => return Action::Steer(Steering::Elect(self.key())),
            _ => self.describe(),
        };
        Action::Admin(admin)
    }

    /// Every topic that was ever asked for.
    #[must_use]
    pub fn topics(&self) -> Vec<String> {
        self.topics.iter().map(|(name, _)| name.clone()).collect()
    }

    fn create(&mut self) -> Admin {
        let topic = format!("meta-{}", self.topics.len());
        self.topics.push((topic.clone(), false));
        let partitions = 1 + i32::try_from(self.random.below(3)).expect("a few");
        Admin::CreateTopic { topic, partitions }
    }

    fn delete(&mut self) -> Admin {
        let at = self.standing();
        self.topics[at].1 = true;
        Admin::DeleteTopic {
            topic: self.topics[at].0.clone(),
        }
    }

    fn set(&mut self) -> Admin {
        let topic = self.standing_name();
        let (key, base) = *self.random.pick(&SETTINGS).expect("there are some");
        self.next_value += 1;
        Admin::SetConfig {
            topic,
            key: key.to_owned(),
            value: (base + self.next_value).to_string(),
        }
    }

    fn describe(&mut self) -> Admin {
        // Deleted ones too: they must not come back.
        let any = self.topics.len();
        let at = match self.random.chance(2, 3) {
            true => self.standing(),
            false => self.below(any),
        };
        let topic = self.topics[at].0.clone();
        Admin::Describe {
            topic,
            exists: None,
            partitions: None,
            configs: Default::default(),
        }
    }

    fn reassign(&mut self, nodes: &[NodeId]) -> Steering {
        let mut left: Vec<NodeId> = nodes.to_vec();
        let mut replicas = Vec::new();
        while replicas.len() < 3 && !left.is_empty() {
            let at = self.below(left.len());
            replicas.push(left.swap_remove(at));
        }
        Steering::Reassign(self.key(), replicas)
    }

    /// A partition of a topic of the workload `log`, or the first of one of its own.
    fn key(&mut self) -> Key {
        match self
            .random
            .chance(1, 2)
            .then(|| self.random.pick(&self.keys).cloned())
        {
            Some(Some(key)) => key,
            _ => Key {
                topic: self.standing_name(),
                partition: 0,
            },
        }
    }

    /// One that nobody asked to delete, if there is one.
    fn standing(&mut self) -> usize {
        let standing = self
            .topics
            .iter()
            .enumerate()
            .filter(|(_, (_, deleted))| !deleted);
        let standing: Vec<usize> = standing.map(|(at, _)| at).collect();
        let any = self.topics.len();
        self.random
            .pick(&standing)
            .copied()
            .unwrap_or_else(|| any.saturating_sub(1))
    }

    fn standing_name(&mut self) -> String {
        let at = self.standing();
        self.topics[at].0.clone()
    }

    fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit.max(1)).expect("a count in memory");
        usize::try_from(self.random.below(limit)).expect("below a count")
    }
}

/// One client of the workload.
pub(crate) struct MetaClient<'a, W> {
    /// Where it writes down what it does.
    pub book: &'a Book<'a, W>,
    /// Makes what it speaks to the cluster with.
    pub factory: &'a Factory<'a, W>,
    /// Says what it does.
    pub generator: &'a RefCell<MetaGenerator>,
    /// Which one it is.
    pub number: u32,
    /// Draws its pauses.
    pub random: Random,
    /// The mean of its pauses.
    pub pause: Duration,
}

impl<W: World> MetaClient<'_, W> {
    /// Works until then; an operation that is under way is finished.
    pub(crate) async fn work(mut self, until: Instant) {
        let mut process = self.book.process();
        let mut nodes = self.factory.nodes(self.number, self.random.fork(3));
        let topics = TopicOptions {
            replication_factor: self.factory.settings().replication_factor,
            configs: Vec::new(),
        };
        let timeout = self.factory.settings().op_timeout;
        loop {
            sleep(pause(&mut self.random, self.pause)).await;
            if Instant::now() >= until {
                return;
            }
            nodes.set_addresses(self.book.world().kafka_addresses(self.number));
            let action = self.generator.borrow_mut().next(&self.book.world().nodes());
            match action {
                Action::Admin(admin) => {
                    let done =
                        carry_out(self.book, process, &mut nodes, &admin, &topics, timeout).await;
                    if done == Done::Unknown {
                        process = self.book.process();
                        nodes = self.factory.nodes(self.number, self.random.fork(3));
                    }
                }
                // Which replicas and leaders there are is judged by what becomes of the records.
                Action::Steer(steering) => {
                    let done = admin::steer(&mut nodes, &steering, timeout).await;
                    debug!(?steering, ?done, "steered");
                }
            }
        }
    }
}

/// What came of a recorded operation; after `Unknown` its process is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Done {
    Ok,
    Failed,
    Unknown,
}

/// Carries an operation out, and writes it down.
pub(crate) async fn carry_out<W: World>(
    book: &Book<'_, W>,
    process: Process,
    nodes: &mut Nodes,
    admin: &Admin,
    topics: &TopicOptions,
    timeout: Duration,
) -> Done {
    book.invoke(process, Op::Admin(admin.clone()));
    match admin::carry_out(nodes, admin, topics, timeout).await {
        Answer::Ok(seen) => {
            book.ok(process, Op::Admin(seen));
            Done::Ok
        }
        Answer::Fail(why) => {
            book.fail(process, Op::Admin(admin.clone()), why);
            Done::Failed
        }
        Answer::Info(why) => {
            book.info(process, Op::Admin(admin.clone()), why);
            Done::Unknown
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn run(seed: u64, actions: usize) -> Vec<Action> {
        let keys = vec![Key {
            topic: "log-0".to_owned(),
            partition: 1,
        }];
        let mut generator = MetaGenerator::new(Random::new(seed), keys);
        (0..actions)
            .map(|_| generator.next(&[1, 2, 3, 4]))
            .collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_operations() {
        assert_eq!(run(1, 300), run(1, 300));
        assert_ne!(run(1, 300), run(2, 300));
    }

    #[test]
    fn names_and_values_are_never_used_twice() {
        let mut names = BTreeSet::new();
        let mut values = BTreeSet::new();
        let mut kinds = BTreeSet::new();
        for action in run(9, 2_000) {
            match action {
                Action::Admin(Admin::CreateTopic { topic, .. }) => assert!(names.insert(topic)),
                Action::Admin(Admin::SetConfig { value, .. }) => assert!(values.insert(value)),
                Action::Admin(Admin::DeleteTopic { .. }) => drop(kinds.insert("delete")),
                Action::Admin(Admin::Describe { .. }) => drop(kinds.insert("describe")),
                Action::Admin(Admin::ListTopics { .. }) => drop(kinds.insert("list")),
                Action::Steer(Steering::Reassign(_, replicas)) => {
                    assert_eq!(replicas.iter().collect::<BTreeSet<_>>().len(), 3);
                    kinds.insert("reassign");
                }
                Action::Steer(Steering::Elect(_)) => drop(kinds.insert("elect")),
            }
        }
        assert!(
            names.len() > 50 && values.len() > 100,
            "{} {}",
            names.len(),
            values.len()
        );
        assert_eq!(kinds.len(), 5);
    }
}
