//! A compacted topic on one node that is killed again and again while a producer goes on: is the
//! last value of every key there, nothing there that was not written, and how large is it?
//!
//! `compaction BINARY [RECORDS] [KEYS] [KILLS] [VALUE_BYTES]`, by default a million records of
//! 100,000 keys and ten kills. The exit code says whether all is well.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use broker::record::{
    BatchProducer, Compression, Record, decode_batch, encode_batch, split_batches,
};
use bytes::Bytes;
use kafka_client::api::{Acks, CreateTopic, FetchOptions, FetchPartition, ProducePartition};
use kafka_client::{ClusterClient, ClusterOptions, ConnectOptions, ErrorCode, Resend};
use storage::clock::Clock;
use storage::disk::{Disk, OpenMode};

use crate::TempDir;

pub(crate) type Failure = String;

const PLAIN: &str = "plain";
const COMPACTED: &str = "compacted";
/// Records of one batch.
const BATCH_RECORDS: u64 = 200;
/// The log may be this much larger than what is live, in hundredths.
const RATIO_MAX: u64 = 130;
/// Produces before the first kill that say what is normal.
const NORMAL_PRODUCES: usize = 500;
const PATIENCE: Duration = Duration::from_secs(300);

pub(crate) struct Plan {
    pub(crate) records: u64,
    pub(crate) keys: u64,
    pub(crate) kills: u64,
    pub(crate) value_bytes: usize,
}

/// Runs it; the arguments stand behind the name of the scenario.
pub(crate) fn run(arguments: &[String]) -> ExitCode {
    let Some(binary) = arguments.first() else {
        println!("benches compaction BINARY [RECORDS] [KEYS] [KILLS] [VALUE_BYTES]");
        return ExitCode::from(2);
    };
    let number = |at: usize, default: u64| {
        let given = arguments.get(at).and_then(|given| given.parse().ok());
        given.unwrap_or(default)
    };
    let plan = Plan {
        records: number(1, 1_000_000),
        keys: number(2, 100_000).max(1),
        kills: number(3, 10),
        value_bytes: usize::try_from(number(4, 100)).unwrap_or(100),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let done = match runtime {
        Ok(runtime) => runtime.block_on(measure(binary, &plan)),
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

/// One node, killed when dropped.
pub(crate) struct Node {
    binary: String,
    dir: TempDir,
    ports: [u16; 3],
    child: Option<Child>,
}

impl Node {
    pub(crate) fn new(binary: &str) -> Result<Node, Failure> {
        let bind = |_| TcpListener::bind(("127.0.0.1", 0));
        let held: Result<Vec<TcpListener>, _> = (0..3).map(bind).collect();
        let held = held.map_err(|error| error.to_string())?;
        let mut ports = [0; 3];
        for (port, listener) in ports.iter_mut().zip(&held) {
            let address = listener.local_addr().map_err(|error| error.to_string())?;
            *port = address.port();
        }
        let dir = TempDir::new("compaction");
        let made = Disk::Real.create_dir_all(&dir.0);
        made.map_err(|error| error.to_string())?;
        Ok(Node {
            binary: binary.to_owned(),
            dir,
            ports,
            child: None,
        })
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.dir.0.join("data")
    }

    pub(crate) fn start(&mut self) -> Result<(), Failure> {
        let mut command = Command::new(&self.binary);
        command.args(["start", "--end-with-stdin", "--data-dir"]);
        command.arg(self.data_dir());
        for (listener, port) in ["kafka", "peers", "http"].iter().zip(self.ports) {
            command.args(["--set", &format!("{listener}.port={port}")]);
        }
        command.args(["--set", "storage.upkeep_interval=\"500ms\""]);
        let child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let child = child.map_err(|error| format!("cannot start {}: {error}", self.binary))?;
        self.child = Some(child);
        Ok(())
    }

    fn kill(&mut self) -> Result<(), Failure> {
        let mut child = self.child.take().ok_or("it does not run")?;
        child.kill().map_err(|error| error.to_string())?;
        child.wait().map(|_| ()).map_err(|error| error.to_string())
    }

    pub(crate) fn client(&self) -> ClusterClient {
        let options = ClusterOptions {
            connection: ConnectOptions {
                request_timeout: Duration::from_secs(10),
                connect_timeout: Duration::from_millis(500),
                ..ConnectOptions::default()
            },
            call_timeout: PATIENCE,
            pause: Duration::from_millis(5),
            pause_max: Duration::from_millis(50),
        };
        ClusterClient::new(vec![format!("127.0.0.1:{}", self.ports[0])], options)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Fails only when it is gone already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What was written: the number of the last record of each key.
pub(crate) struct Written {
    last: Vec<Option<u64>>,
    state: u64,
    pub(crate) next: u64,
    value_bytes: usize,
}

impl Written {
    pub(crate) fn new(plan: &Plan) -> Written {
        let keys = usize::try_from(plan.keys).unwrap_or(1);
        Written {
            last: vec![None; keys],
            state: 0x9e37_79b9_7f4a_7c15,
            next: 0,
            value_bytes: plan.value_bytes,
        }
    }

    fn random(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }

    /// The next batch, as if it had been written.
    pub(crate) fn batch(&mut self, now_ms: i64) -> Bytes {
        let mut records = Vec::new();
        for _ in 0..BATCH_RECORDS {
            let keys = self.last.len() as u64;
            let key = self.random() % keys;
            let number = self.next;
            self.next += 1;
            self.last[usize::try_from(key).unwrap_or(0)] = Some(number);
            records.push(record(key, number, self.value_bytes, now_ms));
        }
        encode_batch(&records, Compression::Lz4, BatchProducer::default())
    }

    /// Bytes of what is live, packed as it was written.
    fn live_bytes(&self) -> u64 {
        let mut live: Vec<(u64, u64)> = (0_u64..)
            .zip(&self.last)
            .filter_map(|(key, last)| Some(((*last)?, key)))
            .collect();
        live.sort_unstable();
        let chunks = live.chunks(usize::try_from(BATCH_RECORDS).unwrap_or(1));
        let bytes = chunks.map(|chunk| {
            let of = |(number, key): &(u64, u64)| record(*key, *number, self.value_bytes, 0);
            let records: Vec<Record> = chunk.iter().map(of).collect();
            encode_batch(&records, Compression::Lz4, BatchProducer::default()).len() as u64
        });
        bytes.sum()
    }
}

/// A record whose value says which it is, and can hardly be packed.
fn record(key: u64, number: u64, value_bytes: usize, timestamp_ms: i64) -> Record {
    let mut value = number.to_be_bytes().to_vec();
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    while value.len() < value_bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        value.extend_from_slice(&state.to_le_bytes());
    }
    value.truncate(value_bytes.max(8));
    Record {
        offset: 0,
        timestamp_ms,
        key: Some(Bytes::from(key.to_string())),
        value: Some(value.into()),
        headers: Vec::new(),
    }
}

async fn measure(binary: &str, plan: &Plan) -> Result<(), Failure> {
    let mut node = Node::new(binary)?;
    node.start()?;
    let client = node.client();
    let record_bytes = plan.value_bytes as u64 + 20;
    let live = plan.keys.min(plan.records).saturating_mul(record_bytes);
    let segment_bytes = (live / 32).clamp(64 << 10, 64 << 20);
    create(&client, PLAIN, &[]).await?;
    let configs = [
        ("cleanup.policy", "compact".to_owned()),
        ("min.cleanable.dirty.ratio", "0.05".to_owned()),
        ("segment.bytes", segment_bytes.to_string()),
    ];
    create(&client, COMPACTED, &configs).await?;

    let clock = Clock::system();
    let mut plain = Written::new(plan);
    let mut normal = Vec::new();
    for _ in 0..NORMAL_PRODUCES {
        normal.push(produce(&client, PLAIN, plain.batch(clock.wall_ms())).await?);
    }
    println!("produces to a plain topic: {}", times(&mut normal));

    let mut written = Written::new(plan);
    let mut took = Vec::new();
    let (mut kills, mut largest) = (0, 0);
    let mut next_kill = plan.records / (plan.kills + 1);
    while written.next < plan.records {
        let batch = written.batch(clock.wall_ms());
        if kills < plan.kills && written.next >= next_kill {
            // At any point of the produce that is on its way, and of what else the node does.
            let after = Duration::from_micros(written.random() % 20_000);
            let producing = produce(&client, COMPACTED, batch);
            let killing = async {
                tokio::time::sleep(after).await;
                node.kill()?;
                node.start()
            };
            let (produced, killed) = tokio::join!(producing, killing);
            produced?;
            killed?;
            kills += 1;
            let step = plan.records / (plan.kills + 1);
            next_kill += step / 2 + written.random() % step.max(1);
            continue;
        }
        took.push(produce(&client, COMPACTED, batch).await?);
        if took.len().is_multiple_of(200) {
            largest = largest.max(log_bytes(&node.data_dir(), COMPACTED_INDEX)?);
        }
    }
    println!("produces beside compaction: {}", times(&mut took));
    let seconds = clock.monotonic_ms() / 1_000;
    println!(
        "{} records of {} keys written in {seconds} s, {kills} kills",
        written.next, plan.keys
    );

    let live = written.live_bytes();
    let waiting = Clock::system();
    let bytes = loop {
        let bytes = log_bytes(&node.data_dir(), COMPACTED_INDEX)?;
        let is_over = waiting.monotonic_ms() > 60_000;
        if bytes * 100 <= live * RATIO_MAX || is_over {
            break bytes;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    println!(
        "{live} bytes are live, {bytes} on the disk: {}.{:02} times as much, {largest} at most \
         meanwhile, after {} ms",
        bytes / live.max(1),
        bytes * 100 / live.max(1) % 100,
        waiting.monotonic_ms()
    );
    check(&client, &written).await?;
    // And once more, as a node finds it that was killed.
    node.kill()?;
    node.start()?;
    check(&client, &written).await?;
    match bytes * 100 <= live * RATIO_MAX {
        true => Ok(()),
        false => Err("the log is too large".to_owned()),
    }
}

pub(crate) async fn create(
    client: &ClusterClient,
    name: &str,
    configs: &[(&str, String)],
) -> Result<(), Failure> {
    let configs = configs.iter();
    let topic = CreateTopic {
        partitions: 1,
        configs: configs
            .map(|(key, value)| ((*key).to_owned(), Some(value.clone())))
            .collect(),
        ..CreateTopic::new(name)
    };
    let clock = Clock::system();
    loop {
        let why = match client.controller().await {
            Ok(controller) => {
                let wanted = std::slice::from_ref(&topic);
                let created = controller.create_topics(wanted, 10_000, false);
                match created.await {
                    Ok(created) if created[0].error == ErrorCode::NONE => return Ok(()),
                    Ok(created) => format!("{:?} {:?}", created[0].error, created[0].message),
                    Err(error) => error.to_string(),
                }
            }
            Err(error) => error.to_string(),
        };
        if clock.monotonic_ms() > 60_000 {
            return Err(format!("topic {name} is not created: {why}"));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Writes a batch, as often as it takes; microseconds.
async fn produce(client: &ClusterClient, topic: &str, batch: Bytes) -> Result<i64, Failure> {
    let clock = Clock::system();
    let batch = ProducePartition {
        topic: topic.to_owned(),
        partition: 0,
        records: Some(batch),
    };
    // One at a time: a batch that is written twice has the same values in the same order.
    let produced = client.produce(&batch, Acks::All, Resend::Harmless).await;
    let produced = produced.map_err(|error| error.to_string())?;
    match produced.error {
        ErrorCode::NONE => Ok(clock.monotonic_us()),
        error => Err(format!("a produce is refused: {error:?}")),
    }
}

fn times(took_us: &mut [i64]) -> String {
    took_us.sort_unstable();
    let at = |percent: usize| {
        let at = took_us.len().saturating_sub(1) * percent / 100;
        took_us.get(at).copied().unwrap_or(0)
    };
    format!("p50 {} us, p99 {} us", at(50), at(99))
}

/// Which of the topics it is, in the order in which they were made.
const COMPACTED_INDEX: usize = 1;

/// Bytes of the segments of the topic that has fewer of them: directories have no names of topics,
/// but only the compacted one has segments with a version; before that, the newest one counts.
pub(crate) fn log_bytes(data_dir: &Path, index: usize) -> Result<u64, Failure> {
    let failed = |error: std::io::Error| error.to_string();
    let dir = data_dir.join("partitions");
    let mut of_dirs = Vec::new();
    for entry in Disk::Real.read_dir(&dir).map_err(failed)? {
        let path = dir.join(&entry.name);
        let Ok(names) = Disk::Real.read_dir(&path) else {
            continue;
        };
        let mut bytes = 0;
        let logs = names.iter().filter(|one| one.name.ends_with(".log"));
        let mut count = 0;
        for log in logs {
            count += 1;
            // It may be replaced meanwhile.
            if let Ok(file) = Disk::Real.open(&path.join(&log.name), OpenMode::Read) {
                bytes += file.len().map_err(failed)?;
            }
        }
        of_dirs.push((count, bytes));
    }
    // The plain topic has one segment.
    of_dirs.sort_unstable();
    Ok(of_dirs.get(index).map_or(0, |(_, bytes)| *bytes))
}

/// Reads all of it: the last record of each key is the last that was written of it, and every
/// record is one that was written.
async fn check(client: &ClusterClient, written: &Written) -> Result<(), Failure> {
    let clock = Clock::system();
    let mut found: Vec<Option<u64>> = vec![None; written.last.len()];
    let (mut at, mut records) = (0, 0_u64);
    loop {
        let wanted = FetchPartition::new(COMPACTED, 0, at);
        let fetched = client.fetch(&wanted, FetchOptions::default()).await;
        let fetched = fetched.map_err(|error| error.to_string())?;
        if fetched.error != ErrorCode::NONE {
            return Err(format!("a fetch at {at} is refused: {:?}", fetched.error));
        }
        let batches = split_batches(&fetched.records).map_err(|error| error.to_string())?;
        if batches.is_empty() {
            if at >= fetched.high_watermark {
                break;
            }
            return Err(format!("nothing at {at} below {}", fetched.high_watermark));
        }
        for batch in batches {
            let header =
                storage::batch::BatchHeader::parse(&batch).map_err(|error| error.to_string())?;
            for one in decode_batch(&batch, 64 << 20).map_err(|error| error.to_string())? {
                if one.offset < at {
                    continue;
                }
                records += 1;
                let (key, number) = parse(&one).ok_or("a record that nobody wrote")?;
                let expected = record(key, number, written.value_bytes, 0);
                if expected.value != one.value {
                    return Err(format!("the record at {} has another value", one.offset));
                }
                let slot = found.get_mut(usize::try_from(key).unwrap_or(usize::MAX));
                let slot = slot.ok_or("a key that nobody wrote")?;
                // A batch may be there twice.
                *slot = Some(number);
            }
            at = header.last_offset().0 + 1;
        }
    }
    let wrong = found
        .iter()
        .zip(&written.last)
        .filter(|(found, last)| found != last);
    match wrong.count() {
        0 => {
            let keys = found.iter().flatten().count();
            println!(
                "the last value of each of {keys} keys is there, in {records} records, read in {} ms",
                clock.monotonic_ms()
            );
            Ok(())
        }
        wrong => Err(format!("{wrong} keys do not have their last value")),
    }
}

fn parse(record: &Record) -> Option<(u64, u64)> {
    let key = std::str::from_utf8(record.key.as_deref()?).ok()?;
    let number = record.value.as_deref()?.first_chunk::<8>()?;
    Some((key.parse().ok()?, u64::from_be_bytes(*number)))
}
