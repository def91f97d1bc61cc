//! Before the run: the cluster is there, and the topics of the workload `log` are.

use std::time::Duration;

use jepsen_check::history::Admin;
use tokio::time::{Instant, sleep};

use crate::book::Book;
use crate::client::admin::TopicOptions;
use crate::client::nodes::Nodes;
use crate::random::Random;
use crate::run::{DriveError, Factory, topic_name};
use crate::workload::meta::carry_out;
use crate::world::World;

const PAUSE: Duration = Duration::from_millis(200);

/// Waits for every node and a controller, creates the topics, and waits until their partitions are
/// led.
pub(crate) async fn make_ready<W: World>(
    book: &Book<'_, W>,
    factory: &Factory<'_, W>,
    mut random: Random,
) -> Result<(), DriveError> {
    let settings = factory.settings();
    let deadline = Instant::now() + settings.ready_timeout;
    let not_ready = |why: String| DriveError::NotReady {
        waited_ms: u64::try_from(settings.ready_timeout.as_millis()).unwrap_or(u64::MAX),
        why,
    };
    let mut nodes = factory.nodes(settings.clients, random.fork(1));
    while let Err(why) = all_nodes(book, &mut nodes, settings.clients).await {
        pause(deadline).await.map_err(|()| not_ready(why))?;
    }
    for number in 0..settings.topics {
        let topic = topic_name(number);
        let options = TopicOptions {
            replication_factor: settings.replication_factor,
            configs: topic_configs(number, book.world().nodes().len(), &mut random),
        };
        let partitions = i32::try_from(settings.partitions).unwrap_or(i32::MAX);
        while let Err(why) = is_led(&mut nodes, &topic, partitions).await {
            if !matches!(nodes.metadata(Some(&[&topic])).await, Ok(told) if is_there(&told, &topic))
            {
                let create = Admin::CreateTopic {
                    topic: topic.clone(),
                    partitions,
                };
                let process = book.process();
                carry_out(
                    book,
                    process,
                    &mut nodes,
                    &create,
                    &options,
                    settings.op_timeout,
                )
                .await;
            }
            pause(deadline).await.map_err(|()| not_ready(why))?;
        }
    }
    Ok(())
}

/// Settings that make segments short, and let the broker tell the time in every other topic.
fn topic_configs(number: u32, nodes: usize, random: &mut Random) -> Vec<(String, String)> {
    let segment_bytes = random
        .pick(&["16384", "32768", "65536"])
        .copied()
        .unwrap_or("65536");
    let mut configs = vec![("retention.ms", "-1"), ("segment.bytes", segment_bytes)];
    if number % 2 == 1 {
        configs.push(("message.timestamp.type", "LogAppendTime"));
        if nodes >= 3 {
            configs.push(("min.insync.replicas", "2"));
        }
    }
    let owned = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
    configs.into_iter().map(owned).collect()
}

async fn all_nodes<W: World>(
    book: &Book<'_, W>,
    nodes: &mut Nodes,
    number: u32,
) -> Result<(), String> {
    nodes.set_addresses(book.world().kafka_addresses(number));
    let metadata = nodes
        .metadata(Some(&[]))
        .await
        .map_err(|error| error.to_string())?;
    let wanted = book.world().nodes().len();
    match metadata.brokers.len() {
        _ if metadata.controller_id < 0 => Err("there is no controller".to_owned()),
        found if found < wanted => Err(format!("there are {found} nodes of {wanted}")),
        _ => Ok(()),
    }
}

async fn is_led(nodes: &mut Nodes, topic: &str, partitions: i32) -> Result<(), String> {
    let told = nodes
        .metadata(Some(&[topic]))
        .await
        .map_err(|error| error.to_string())?;
    let told = told.topics.iter().find(|told| told.name == topic);
    let led = told.map_or(0, |told| {
        told.partitions.iter().filter(|one| one.leader >= 0).count()
    });
    match usize::try_from(partitions) {
        Ok(wanted) if led >= wanted => Ok(()),
        _ => Err(format!(
            "{led} of {partitions} partitions of {topic} are led"
        )),
    }
}

fn is_there(metadata: &kafka_client::api::Metadata, topic: &str) -> bool {
    let mut topics = metadata.topics.iter();
    topics.any(|told| told.name == topic && !told.partitions.is_empty())
}

async fn pause(deadline: Instant) -> Result<(), ()> {
    if Instant::now() + PAUSE >= deadline {
        return Err(());
    }
    sleep(PAUSE).await;
    Ok(())
}
