//! What producers notice of compaction: the same load on the same node, in phases in which a
//! compacted topic is cleaned and in which it is not, one after the other.
//!
//! `compaction-pace BINARY [BATCHES_PER_SECOND] [ALTERNATIONS] [SECONDS] [KEYS]`, by default 100
//! batches of 200 records, five alternations of two phases of 15 seconds, and 300,000 keys. Batches
//! are due by the clock, and their time counts from then (open loop): a node that stalls is not
//! asked less. `min.compaction.lag.ms` holds the cleaner, so what gathers in one phase is cleaned
//! in the next. The exit code says whether the median of p99 beside cleaning over p99 without is at
//! most 2, and whether anything was cleaned.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_client::api::{Acks, AlterConfig, AlterOperation, ConfigResource, ProducePartition};
use kafka_client::{ClusterClient, ErrorCode, Resend};
use storage::clock::Clock;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::compaction::{Failure, Node, Plan, Written, create, log_bytes};

const TOPIC: &str = "paced";
/// Batches that are on their way at once; a node that lets more gather is too slow for the load.
const IN_FLIGHT_MAX: usize = 2_000;
/// Of each phase this much does not count: the cleaner may be at its last round, or begin.
const SETTLING: Duration = Duration::from_secs(2);
/// Cleaned p99 over ordinary p99, in hundredths.
const RATIO_MAX: i64 = 200;
const VALUE_BYTES: usize = 200;

struct Load {
    per_second: u64,
    alternations: u64,
    phase: Duration,
}

/// Runs it; the arguments stand behind the name of the scenario.
pub(crate) fn run(arguments: &[String]) -> ExitCode {
    let Some(binary) = arguments.first() else {
        println!(
            "benches compaction-pace BINARY [BATCHES_PER_SECOND] [ALTERNATIONS] [SECONDS] [KEYS]"
        );
        return ExitCode::from(2);
    };
    let number = |at: usize, default: u64| {
        let given = arguments.get(at).and_then(|given| given.parse().ok());
        given.unwrap_or(default)
    };
    let load = Load {
        per_second: number(1, 100).max(1),
        alternations: number(2, 5).max(1),
        phase: Duration::from_secs(number(3, 15).max(4)),
    };
    let keys = Plan {
        records: 0,
        keys: number(4, 300_000).max(1),
        kills: 0,
        value_bytes: VALUE_BYTES,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let done = match runtime {
        Ok(runtime) => runtime.block_on(measure(binary, &load, &keys)),
        Err(error) => Err(error.to_string()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            println!("FAILED: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// One phase: microseconds.
struct Times {
    p50_us: i64,
    p99_us: i64,
    batches: usize,
    /// Bytes that were written, all of them.
    bytes: u64,
}

impl Times {
    fn of(mut took_us: Vec<i64>, bytes: u64) -> Times {
        took_us.sort_unstable();
        let at = |percent: usize| {
            let at = took_us.len().saturating_sub(1) * percent / 100;
            took_us.get(at).copied().unwrap_or(0)
        };
        Times {
            p50_us: at(50),
            p99_us: at(99),
            batches: took_us.len(),
            bytes,
        }
    }
}

async fn measure(binary: &str, load: &Load, keys: &Plan) -> Result<(), Failure> {
    let mut node = Node::new(binary)?;
    node.start()?;
    let client = node.client();
    let configs = [
        ("cleanup.policy", "compact".to_owned()),
        ("min.cleanable.dirty.ratio", "0.01".to_owned()),
        ("segment.bytes", (1 << 20).to_string()),
        ("min.compaction.lag.ms", "3600000".to_owned()),
    ];
    create(&client, TOPIC, &configs).await?;
    let client = Arc::new(client);
    let mut written = Written::new(keys);
    let clock = Clock::system();
    // Every key has a value, or there would be little to go through.
    while written.next < keys.keys * 2 {
        let batch = written.batch(clock.wall_ms());
        produce(&client, batch, &clock, clock.monotonic_us()).await?;
    }
    let bytes = |node: &Node| log_bytes(&node.data_dir(), 0);
    println!("{} bytes are there before it begins", bytes(&node)?);
    let mut ratios = Vec::new();
    let before_all = bytes(&node)?;
    let mut came = phase(&client, load, &mut written).await?.bytes;
    for turn in 1..=load.alternations {
        let without = phase(&client, load, &mut written).await?;
        let before = bytes(&node)?;
        hold_cleaner(&client, false).await?;
        let beside = phase(&client, load, &mut written).await?;
        hold_cleaner(&client, true).await?;
        let after = bytes(&node)?;
        came += without.bytes + beside.bytes;
        let ratio = beside.p99_us * 100 / without.p99_us.max(1);
        println!(
            "{turn}: without p50 {} us, p99 {} us ({} batches); cleaning p50 {} us, p99 {} us ({}); \
             p99 {}.{:02} times; {before} bytes became {after}",
            without.p50_us,
            without.p99_us,
            without.batches,
            beside.p50_us,
            beside.p99_us,
            beside.batches,
            ratio / 100,
            ratio % 100
        );
        ratios.push(ratio);
    }
    ratios.sort_unstable();
    let median = ratios.get(ratios.len() / 2).copied().unwrap_or(0);
    println!(
        "p99 beside cleaning over p99 without: median {}.{:02} of {} alternations",
        median / 100,
        median % 100,
        ratios.len()
    );
    // Of what was written, half at least has taken the place of older records.
    let is_cleaned = wait_for_cleaned(&node, before_all + came / 2).await?;
    match (is_cleaned, median <= RATIO_MAX) {
        (false, _) => Err("hardly anything was cleaned".to_owned()),
        (_, false) => Err("producers notice compaction too much".to_owned()),
        (true, true) => Ok(()),
    }
}

/// Whether the log becomes at most so large; what was replaced goes with the next checkpoint.
async fn wait_for_cleaned(node: &Node, bytes_max: u64) -> Result<bool, Failure> {
    let clock = Clock::system();
    while log_bytes(&node.data_dir(), 0)? > bytes_max {
        if clock.monotonic_ms() > 10_000 {
            return Ok(false);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(true)
}

/// Writes as much as is due in a phase; what takes how long after its settling.
async fn phase(
    client: &Arc<ClusterClient>,
    load: &Load,
    written: &mut Written,
) -> Result<Times, Failure> {
    let clock = Clock::system();
    let us = |duration: Duration| i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    let step_us = 1_000_000 / i64::try_from(load.per_second).unwrap_or(1).max(1);
    let room = Arc::new(Semaphore::new(IN_FLIGHT_MAX));
    let mut producing: JoinSet<Result<(i64, i64), Failure>> = JoinSet::new();
    let (mut due_us, mut bytes) = (0, 0);
    while due_us < us(load.phase) {
        let wait_us = due_us - clock.monotonic_us();
        if wait_us > 0 {
            let wait_us = u64::try_from(wait_us).unwrap_or(0);
            tokio::time::sleep(Duration::from_micros(wait_us)).await;
        }
        let permit = Arc::clone(&room).acquire_owned().await;
        let permit = permit.map_err(|error| error.to_string())?;
        let (client, clock) = (Arc::clone(client), clock.clone());
        let batch = written.batch(clock.wall_ms());
        bytes += batch.len() as u64;
        producing.spawn(async move {
            let took_us = produce(&client, batch, &clock, due_us).await?;
            drop(permit);
            Ok((due_us, took_us))
        });
        due_us += step_us;
    }
    let mut took_us = Vec::new();
    while let Some(done) = producing.join_next().await {
        let (due_us, one_us) = done.map_err(|error| error.to_string())??;
        if due_us >= us(SETTLING) {
            took_us.push(one_us);
        }
    }
    Ok(Times::of(took_us, bytes))
}

/// Microseconds from when it was due to when it was answered.
async fn produce(
    client: &ClusterClient,
    batch: Bytes,
    clock: &Clock,
    due_us: i64,
) -> Result<i64, Failure> {
    let batch = ProducePartition {
        topic: TOPIC.to_owned(),
        partition: 0,
        records: Some(batch),
    };
    let produced = client.produce(&batch, Acks::All, Resend::Harmless).await;
    let produced = produced.map_err(|error| error.to_string())?;
    match produced.error {
        ErrorCode::NONE => Ok(clock.monotonic_us() - due_us),
        error => Err(format!("a produce is refused: {error:?}")),
    }
}

/// Whether nothing may be cleaned from now on.
async fn hold_cleaner(client: &ClusterClient, holds: bool) -> Result<(), Failure> {
    let lag_ms = if holds { "3600000" } else { "0" };
    let change = AlterConfig {
        name: "min.compaction.lag.ms".to_owned(),
        operation: AlterOperation::Set,
        value: Some(lag_ms.to_owned()),
    };
    let controller = client.controller().await;
    let controller = controller.map_err(|error| error.to_string())?;
    let resource = ConfigResource::Topic(TOPIC.to_owned());
    let changes = [change];
    let altered = controller.incremental_alter_configs(&resource, &changes, false);
    altered.await.map_err(|error| error.to_string())
}
