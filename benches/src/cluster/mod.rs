//! What a cluster of three processes does when nodes go and come: how long partitions are closed,
//! what it costs idle, how fast it starts and how fast a node catches up.
//!
//! Every line carries the machine's load, since three nodes and the client share its cores.

mod load;
mod nodes;
mod outage;

use std::process::ExitCode;
use std::time::Duration;

use kafka_client::{ClientError, ClusterClient};
use storage::clock::Clock;

use load::Load;
use nodes::Nodes;

/// Sizes that are measured unless others are asked for.
const PARTITIONS: [i32; 3] = [12, 1_000, 10_000];
/// How often a leader is killed at each size.
const KILLS: usize = 3;
/// Partitions that are moved at each size.
const MOVES: i32 = 6;
/// Writers that go on while a leader is killed.
const WRITERS: usize = 16;
/// How often each of them writes while a node catches up: work, but not all that the machine can do.
const PACE: Duration = Duration::from_millis(10);
/// How long their normal times are taken.
const NORMAL: Duration = Duration::from_secs(8);
/// What a follower misses,
const MISSED_BYTES: u64 = 2 << 30;
/// and while producers go on.
const MISSED_BESIDE_BYTES: u64 = 512 << 20;
/// How long a cluster needs after a node came back until leaders are where they are preferred.
const SETTLING: Duration = Duration::from_secs(30);
/// How long an idle cluster is watched.
const IDLE: Duration = Duration::from_secs(20);
/// How long anything may take before the run is given up.
const PATIENCE: Duration = Duration::from_secs(120);

/// Why a measurement was not made.
type Failure = String;

/// Runs everything; arguments are the binary and the numbers of partitions.
pub(crate) fn run(arguments: &[String]) -> ExitCode {
    let Some(binary) = arguments.first() else {
        println!("benches cluster BINARY [PARTITIONS,...]");
        return ExitCode::from(2);
    };
    let sizes: Vec<i32> = match arguments.get(1) {
        None => PARTITIONS.to_vec(),
        Some(sizes) => sizes.split(',').filter_map(|n| n.parse().ok()).collect(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let measured = match runtime {
        Ok(runtime) => runtime.block_on(measure(binary, &sizes)),
        Err(error) => Err(error.to_string()),
    };
    match measured {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            println!("given up: {failure}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(binary: &str, sizes: &[i32]) -> Result<(), Failure> {
    for partitions in sizes {
        let clock = Clock::system();
        let mut nodes = Nodes::start(binary)?;
        let client = nodes.client();
        let topic = format!("bench-{partitions}");
        nodes.create_topic(&client, &topic, *partitions).await?;
        outage::all_writable(&clock, &client, &topic, *partitions).await?;
        for _ in 0..KILLS {
            killed_leader(&clock, &mut nodes, &client, &topic, *partitions).await?;
        }
        planned_stop(&clock, &mut nodes, &client, &topic, *partitions).await?;
        idle(&nodes, *partitions).await?;
        moved(&nodes, &client, &topic, *partitions).await?;
        whole_restart(&clock, &mut nodes, &topic, *partitions).await?;
        if Some(partitions) == sizes.first() {
            catch_up(&clock, &mut nodes, &client).await?;
        }
        nodes.stop()?;
    }
    Ok(())
}

/// Kills the node that leads most, under load: how long until each partition is written again.
async fn killed_leader(
    clock: &Clock,
    nodes: &mut Nodes,
    client: &ClusterClient,
    topic: &str,
    partitions: i32,
) -> Result<(), Failure> {
    nodes.all_in_sync(client, topic, PATIENCE).await?;
    let load = Load::start(
        nodes.addresses(),
        topic,
        partitions,
        (WRITERS, Duration::ZERO),
    );
    load.warmed_up().await;
    let victim = nodes.leads_most(client, topic).await?;
    let killed_ms = clock.monotonic_ms();
    nodes.kill(victim)?;
    let closed = outage::all_writable(clock, &nodes.client(), topic, partitions).await?;
    let load = load.stop().await;
    line(
        &format!("leader killed, {partitions} partitions"),
        &closed.since(killed_ms).summary(),
        &format!("load meanwhile {:.0} records/s", load.per_second),
    );
    nodes.restart(victim)?;
    nodes.all_in_sync(client, topic, PATIENCE).await
}

/// Moves single partitions to other shards while one writer each goes on: how long it had to wait.
async fn moved(
    nodes: &Nodes,
    client: &ClusterClient,
    topic: &str,
    partitions: i32,
) -> Result<(), Failure> {
    let mut closed = Vec::new();
    for partition in 0..MOVES.min(partitions) {
        let load = Load::of(nodes.addresses(), topic, partition);
        load.warmed_up().await;
        nodes.reverse_replicas(client, topic, partition).await?;
        closed.push(load.stop().await.percentile_ms(100));
    }
    closed.sort_unstable_by(f64::total_cmp);
    let closed: Vec<String> = closed.iter().map(|ms| format!("{ms:.0}")).collect();
    line(
        &format!("partition moved, {partitions} partitions"),
        &format!("longest pause of its writer {} ms", closed.join(", ")),
        "one after the other",
    );
    Ok(())
}

/// Stops a node as an operator does: how long each written partition was closed.
async fn planned_stop(
    clock: &Clock,
    nodes: &mut Nodes,
    client: &ClusterClient,
    topic: &str,
    partitions: i32,
) -> Result<(), Failure> {
    nodes.all_in_sync(client, topic, PATIENCE).await?;
    let victim = nodes.leads_most(client, topic).await?;
    let load = Load::start(
        nodes.addresses(),
        topic,
        partitions,
        (WRITERS, Duration::ZERO),
    );
    load.warmed_up().await;
    let began_ms = clock.monotonic_ms();
    nodes.terminate(victim)?;
    let took_ms = clock.monotonic_ms() - began_ms;
    let load = load.stop().await;
    line(
        &format!("planned stop, {partitions} partitions"),
        &format!(
            "longest pause of a writer {:.0} ms",
            load.percentile_ms(100)
        ),
        &format!(
            "p50 {:.1} ms, the stop took {took_ms} ms",
            load.percentile_ms(50)
        ),
    );
    nodes.restart(victim)?;
    nodes.all_in_sync(client, topic, PATIENCE).await
}

async fn idle(nodes: &Nodes, partitions: i32) -> Result<(), Failure> {
    tokio::time::sleep(SETTLING).await;
    let before = nodes.cpu_ms()?;
    tokio::time::sleep(IDLE).await;
    let used_ms = nodes.cpu_ms()? - before;
    let percent = 100.0 * crate::as_f64(used_ms) / IDLE.as_secs_f64() / 1_000.0;
    let resident: Vec<String> = nodes.resident_mib()?.iter().map(u64::to_string).collect();
    line(
        &format!("idle, {partitions} partitions"),
        &format!("{percent:.1} % of one core in all"),
        &format!("resident {} MiB", resident.join(", ")),
    );
    Ok(())
}

/// Stops all nodes and starts them: how long until each partition is written again.
async fn whole_restart(
    clock: &Clock,
    nodes: &mut Nodes,
    topic: &str,
    partitions: i32,
) -> Result<(), Failure> {
    nodes.terminate_all()?;
    let began_ms = clock.monotonic_ms();
    nodes.restart_all()?;
    let writable = outage::all_writable(clock, &nodes.client(), topic, partitions).await?;
    line(
        &format!("all three stopped and started, {partitions} partitions"),
        &writable.since(began_ms).summary(),
        "",
    );
    Ok(())
}

/// Kills a follower, writes what it misses, and starts it again.
async fn catch_up(clock: &Clock, nodes: &mut Nodes, client: &ClusterClient) -> Result<(), Failure> {
    let topic = "bench-catch-up";
    nodes.create_topic(client, topic, 4).await?;
    nodes.all_in_sync(client, topic, PATIENCE).await?;
    let away = nodes.leads_least(client, topic).await?;
    nodes.kill(away)?;
    let began_ms = clock.monotonic_ms();
    load::write(nodes.addresses(), topic, 4, MISSED_BYTES).await?;
    let wrote_ms = clock.monotonic_ms() - began_ms;
    let began_ms = clock.monotonic_ms();
    nodes.restart(away)?;
    nodes.all_in_sync(client, topic, 4 * PATIENCE).await?;
    let took_ms = clock.monotonic_ms() - began_ms;
    line(
        "a follower that missed 2 GiB is back in sync",
        &format!(
            "{took_ms} ms, {:.0} MB/s from its start",
            rate(MISSED_BYTES, took_ms)
        ),
        &format!(
            "written meanwhile at {:.0} MB/s",
            rate(MISSED_BYTES, wrote_ms)
        ),
    );
    beside_catch_up(clock, nodes, client, topic).await
}

/// The same while producers write to another topic: what they notice of it.
async fn beside_catch_up(
    clock: &Clock,
    nodes: &mut Nodes,
    client: &ClusterClient,
    topic: &str,
) -> Result<(), Failure> {
    let beside = "bench-beside-catch-up";
    nodes.create_topic(client, beside, 12).await?;
    nodes.all_in_sync(client, beside, PATIENCE).await?;
    let away = nodes.leads_least(client, topic).await?;
    nodes.kill(away)?;
    load::write(nodes.addresses(), topic, 4, MISSED_BESIDE_BYTES).await?;
    let producers = |nodes: &Nodes| Load::start(nodes.addresses(), beside, 12, (WRITERS, PACE));
    // Normal is: with the same two nodes.
    let load = producers(nodes);
    load.warmed_up().await;
    tokio::time::sleep(NORMAL).await;
    let normal = load.stop().await;
    let load = producers(nodes);
    load.warmed_up().await;
    let began_ms = clock.monotonic_ms();
    nodes.restart(away)?;
    nodes.all_in_sync(client, topic, 4 * PATIENCE).await?;
    let took_ms = clock.monotonic_ms() - began_ms;
    let meanwhile = load.stop().await;
    let (p99, p50) = (
        [meanwhile.percentile_ms(99), normal.percentile_ms(99)],
        [meanwhile.percentile_ms(50), normal.percentile_ms(50)],
    );
    line(
        "producers while a follower catches up, p99",
        &format!(
            "{:.1} ms, normally {:.1} ms: {:.2} times",
            p99[0],
            p99[1],
            p99[0] / p99[1]
        ),
        &format!(
            "p50 {:.1} and {:.1} ms; caught up at {:.0} MB/s",
            p50[0],
            p50[1],
            rate(MISSED_BESIDE_BYTES, took_ms)
        ),
    );
    Ok(())
}

/// Megabytes a second.
fn rate(bytes: u64, ms: i64) -> f64 {
    crate::as_f64(usize::try_from(bytes).unwrap_or(0))
        / crate::as_f64(usize::try_from(ms).unwrap_or(1))
        / 1_000.0
}

fn line(what: &str, result: &str, beside: &str) {
    let load = nodes::load_average();
    println!("{what:<52} {result:<58} {beside:<44} (load {load})");
}

fn described(error: &ClientError) -> Failure {
    error.to_string()
}
