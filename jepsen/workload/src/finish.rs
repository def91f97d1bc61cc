//! After the faults: a write to each partition, reads of everything by everybody, and of every replica.
//!
//! What does not come in time stands in the history, for the checkers to judge.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt};
use jepsen_check::history::{Admin, Key, Op, Process};
use tokio::time::{Instant, sleep};
use tracing::debug;

use crate::book::Book;
use crate::client::ClientOptions;
use crate::client::admin::{self, Answer, TopicOptions};
use crate::client::nodes::Nodes;
use crate::fault::NodeId;
use crate::generator::Generator;
use crate::random::Random;
use crate::replicas;
use crate::run::Factory;
use crate::workload::log::{self, Session};
use crate::workload::meta::{Done, carry_out};
use crate::world::World;

/// So many partitions are written to at a time.
const AT_A_TIME: usize = 100;
const PAUSE: Duration = Duration::from_millis(200);
/// A topic that is made when nothing is broken any more.
const MARK: &str = "meta-mark";
/// Why a node that was asked for its replica need not show it.
const NO_REPLICA: &str = "the partition was moved away from this node";

/// Sends to each partition until that succeeds, each by processes of its own.
pub(crate) async fn prove_live<W: World>(
    book: &Book<'_, W>,
    factory: &Factory<'_, W>,
    generator: &RefCell<Generator>,
    mut random: Random,
) {
    let settings = factory.settings();
    let deadline = Instant::now() + settings.live_timeout;
    let writes = settings.keys().into_iter().map(|key| {
        let mut random = random.fork(1);
        let options = ClientOptions::of(settings, true);
        async move {
            while Instant::now() < deadline {
                let client = factory.make(settings.clients, options.clone(), random.fork(1));
                let process = book.process();
                let mut session = Session {
                    process,
                    client,
                    idempotent: true,
                };
                let sent = log::send(book, &mut session, &key, 1).await;
                if let Some((values, offset)) = sent.acknowledged {
                    generator.borrow_mut().sent(&key, &values, offset);
                    return;
                }
                sleep(PAUSE).await;
            }
        }
    });
    let mut writes = stream::iter(writes.collect::<Vec<_>>()).buffer_unordered(AT_A_TIME);
    while writes.next().await.is_some() {}
}

/// Every client reads everything from the beginning until past the highest offset known.
pub(crate) async fn read_all<W: World>(
    book: &Book<'_, W>,
    factory: &Factory<'_, W>,
    generator: &RefCell<Generator>,
    mut random: Random,
) {
    let settings = factory.settings();
    let reads = (0..settings.clients).map(|number| {
        let mut random = random.fork(u64::from(number));
        let options = ClientOptions::of(settings, true);
        async move {
            let deadline = Instant::now() + settings.final_timeout;
            let client = factory.make(number, options, random.fork(1));
            let mut session = Session {
                process: book.process(),
                client,
                idempotent: true,
            };
            let from_zero = settings.keys().into_iter().map(|key| (key, 0)).collect();
            log::assign(book, &mut session, from_zero);
            let mut before: BTreeMap<Key, i64> = BTreeMap::new();
            while Instant::now() < deadline {
                let goes_on = log::poll(book, &mut session, generator).await;
                let ends = generator.borrow().ends();
                let positions = session.client.positions();
                let is_through = ends
                    .iter()
                    .all(|(key, end)| positions.get(key) >= Some(end));
                if !goes_on || (is_through && *positions == before) {
                    return;
                }
                if *positions == before {
                    sleep(PAUSE).await;
                }
                before.clone_from(session.client.positions());
            }
        }
    });
    join_all(reads.map(Box::pin)).await;
}

/// All topics are listed, and each that the workload `meta` ever asked for is described.
pub(crate) async fn describe_all<W: World>(
    book: &Book<'_, W>,
    factory: &Factory<'_, W>,
    topics: Vec<String>,
    mut random: Random,
) {
    let settings = factory.settings();
    let mut nodes = factory.nodes(settings.clients, random.fork(1));
    let none = TopicOptions {
        replication_factor: -1,
        configs: Vec::new(),
    };
    let until = Instant::now() + settings.live_timeout;
    all_catch_up(&mut nodes, &none, settings.op_timeout, until).await;
    let deadline = Instant::now() + settings.final_timeout;
    let describe = |topic| Admin::Describe {
        topic,
        exists: None,
        partitions: None,
        configs: BTreeMap::new(),
    };
    // Of any node each time: mostly all of them get their turn.
    let lists = vec![Admin::ListTopics { topics: Vec::new() }; 3 * book.world().nodes().len()];
    let process = book.process();
    for admin in lists.into_iter().chain(topics.into_iter().map(describe)) {
        while Instant::now() < deadline {
            let timeout = settings.op_timeout;
            if carry_out(book, process, &mut nodes, &admin, &none, timeout).await == Done::Ok {
                break;
            }
            sleep(PAUSE).await;
        }
    }
}

/// Waits until every node knows of a topic that is made now, and so of all that was done before: one
/// that was cut off until a moment ago tells what it knew then. Who never does is seen by what it
/// tells in the end.
async fn all_catch_up(nodes: &mut Nodes, none: &TopicOptions, timeout: Duration, until: Instant) {
    let mark = Admin::CreateTopic {
        topic: MARK.to_owned(),
        partitions: 1,
    };
    let answer = admin::carry_out(nodes, &mark, none, timeout).await;
    if answer != Answer::Ok(mark) {
        debug!(?answer, "no mark was made");
    }
    for node in nodes.all() {
        while Instant::now() < until {
            match nodes.metadata_of(node, None).await {
                Ok(told) if told.topics.iter().any(|topic| topic.name == MARK) => break,
                Ok(_) => {}
                Err(error) => nodes.failed(node, &error),
            }
            sleep(PAUSE).await;
        }
    }
}

/// Reads every partition from every node that carries it, until all show the same end.
pub(crate) async fn read_replicas<W: World>(
    book: &Book<'_, W>,
    factory: &Factory<'_, W>,
    mut random: Random,
) {
    let settings = factory.settings();
    let nodes = factory.nodes(settings.clients, random.fork(1));
    read_replicas_of(book, factory, nodes, settings.keys(), replicas::Reader::new).await;
}

/// The same of a compacted topic that nodes write to.
pub(crate) async fn read_compacted_replicas<W: World>(
    book: &Book<'_, W>,
    factory: &Factory<'_, W>,
    topic: &str,
    mut random: Random,
) {
    let settings = factory.settings();
    let mut nodes = factory.nodes(settings.clients, random.fork(1));
    let until = Instant::now() + settings.live_timeout;
    let keys: Vec<Key> = loop {
        let told = nodes.metadata(Some(&[topic])).await;
        let told = told.ok().and_then(|told| told.topics.into_iter().next());
        if let Some(told) = told.filter(|told| !told.partitions.is_empty()) {
            let key = |partition| Key {
                topic: topic.to_owned(),
                partition,
            };
            let indexes = told.partitions.iter().map(|told| told.index);
            break indexes.map(key).collect();
        }
        if Instant::now() >= until {
            // Then the group is not there either, which others see.
            debug!(topic, "nobody tells of it");
            return;
        }
        sleep(PAUSE).await;
    };
    read_replicas_of(book, factory, nodes, keys, replicas::Reader::compacted).await;
}

async fn read_replicas_of<W: World>(
    book: &Book<'_, W>,
    factory: &Factory<'_, W>,
    mut nodes: Nodes,
    keys: Vec<Key>,
    reader: fn(NodeId, &Key) -> replicas::Reader,
) {
    let deadline = Instant::now() + factory.settings().final_timeout;
    for key in keys {
        let deadline = replicas::patience(deadline);
        let mut carriers = replicas::find(&mut nodes, &key, deadline).await;
        let mut asked: Vec<(Process, replicas::Reader)> = Vec::new();
        let reads = loop {
            let (kept, gone): (Vec<_>, Vec<_>) = asked
                .into_iter()
                .partition(|(_, read)| carriers.contains(&read.node()));
            for (process, read) in gone {
                book.fail(process, read.asked(), NO_REPLICA.to_owned());
            }
            let is_new = |node: &NodeId| !kept.iter().any(|(_, read)| read.node() == *node);
            let new: Vec<_> = carriers.iter().copied().filter(is_new).collect();
            let new = new.into_iter().map(|node| {
                let read = reader(node, &key);
                let process = book.process();
                book.invoke(process, read.asked());
                (process, read)
            });
            let mut all: Vec<_> = kept.into_iter().chain(new).collect();
            all.sort_by_key(|(_, read)| read.node());
            let (processes, mut reads): (Vec<_>, Vec<_>) = all.into_iter().unzip();
            let others = replicas::read_to_the_end(&mut nodes, &key, &mut reads, deadline).await;
            let all = processes.into_iter().zip(reads);
            match others {
                None => break all,
                Some(others) => (carriers, asked) = (others, all.collect()),
            }
        };
        for (process, read) in reads {
            let asked = read.asked();
            match read.finish() {
                Ok(op) => book.ok(process, op),
                Err(why) => book.info(process, asked, why),
            }
        }
    }
}

/// An operation that reads one replica, as it is asked for.
pub(crate) fn replica_read(node: u32, key: &Key) -> Op {
    Op::ReplicaRead {
        node,
        key: key.clone(),
        log_start: 0,
        end: 0,
        records: Vec::new(),
        digest: 0,
    }
}
