//! The arguments of `braidlog bench`, and the same as JSON for the result.

use clap::ValueEnum;
use load::{Connect, ProduceLoad, RawLoad, Target, Until, VALUE_BYTES_MAX, VALUE_BYTES_MIN};
use serde_json::{Value, json};

use crate::cli::failure::{Failure, Kind};
use crate::cli::produce::{AcksArgument, CompressionArgument};
use crate::cli::session::ServerArguments;
use crate::units::{ByteSize, Period};

/// Largest batch or request that can be asked for.
const REQUEST_BYTES_MAX: u64 = 64 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Check {
    On,
    Off,
}

/// Which cluster.
#[derive(Debug, clap::Args)]
pub(super) struct ClusterArguments {
    /// Any nodes of the cluster, separated by commas
    #[arg(
        long,
        visible_alias = "server",
        value_name = "HOST[:PORT]",
        value_delimiter = ',',
        default_value = "127.0.0.1:9092"
    )]
    bootstrap: Vec<String>,
    /// Give up after this long without an answer, or without progress when reading
    #[arg(long, value_name = "TIME", default_value = "30s")]
    timeout: Period,
}

impl ClusterArguments {
    fn server(&self, name: &str) -> ServerArguments {
        ServerArguments {
            server: name.to_owned(),
            timeout: self.timeout,
        }
    }

    /// The first node named, as other commands are told theirs.
    pub(super) fn first(&self) -> ServerArguments {
        self.server(self.bootstrap.first().map_or("", String::as_str))
    }

    pub(super) fn connect(&self) -> Connect {
        let addresses = self.bootstrap.iter();
        Connect {
            bootstrap: addresses.map(|name| self.server(name).address()).collect(),
            timeout: self.timeout.into(),
        }
    }
}

/// Which topic.
#[derive(Debug, clap::Args)]
pub(super) struct TopicArguments {
    /// The topic; created when it is missing, and then removed at the end
    #[arg(long, value_name = "NAME", default_value = "braidlog-bench")]
    topic: String,
    /// Partitions that it has; one when it is created and nothing is said
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=100_000))]
    partitions: Option<i32>,
    /// Replicas when it is created; what the cluster has as default when nothing is said
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i16).range(1..=100))]
    replicas: Option<i16>,
    /// Leave the topic there when it was created
    #[arg(long)]
    keep: bool,
}

impl TopicArguments {
    pub(super) fn target(&self) -> Target {
        Target {
            topic: self.topic.clone(),
            partitions: self.partitions,
            replicas: self.replicas.unwrap_or(-1),
            keep: self.keep,
        }
    }

    fn settings(&self) -> Value {
        json!({
            "topic": self.topic,
            "partitions": self.partitions,
            "replicas": self.replicas,
        })
    }
}

/// How long.
#[derive(Debug, clap::Args)]
struct LengthArguments {
    /// Measure this many records (raw: requests), instead of for --duration
    #[arg(long, value_name = "N", conflicts_with = "duration")]
    records: Option<u64>,
    /// Measure for this long
    #[arg(long, value_name = "TIME", default_value = "10s")]
    duration: Period,
    /// Run for this long before anything is measured
    #[arg(long, value_name = "TIME", default_value = "2s")]
    warm_up: Period,
}

impl LengthArguments {
    fn until(&self) -> Until {
        match self.records {
            Some(records) => Until::Records(records),
            None => Until::ElapsedUs(us(self.duration)),
        }
    }

    fn settings(&self) -> Value {
        let duration_ms = self.records.is_none().then_some(self.duration.ms);
        json!({
            "records": self.records,
            "duration_ms": duration_ms,
            "warm_up_ms": self.warm_up.ms,
        })
    }
}

/// What load.
#[derive(Debug, clap::Args)]
pub(super) struct LoadArguments {
    #[command(flatten)]
    length: LengthArguments,
    /// Records a second of all clients together; 0: as fast as answers come (closed-loop)
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    rate: u64,
    /// Bytes of a record's value
    #[arg(long, value_name = "SIZE", default_value = "1KiB")]
    size: ByteSize,
    /// Different keys, drawn at random; 0: no keys, and one partition after the other
    #[arg(long, value_name = "N", default_value_t = 0)]
    keys: u64,
    /// Send a batch when its first record is this old
    #[arg(long, value_name = "TIME", default_value = "5ms")]
    linger: Period,
    /// Send a batch when it has this many bytes; every batch has one record at least
    #[arg(long, value_name = "SIZE", default_value = "64KiB")]
    batch_bytes: ByteSize,
    /// Requests on their way at once to each leader, of each client
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    in_flight: u32,
    /// How safe a record must be to count: in every in-sync replica, in the leader, or unasked
    #[arg(long, value_name = "ACKS", default_value = "all")]
    acks: AcksArgument,
    /// Compress batches
    #[arg(long, value_name = "CODEC", default_value = "none")]
    codec: CompressionArgument,
    /// Clients, each a thread with connections of its own
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    clients: u32,
    /// Also tell what the broker's process on this machine uses (Linux)
    #[arg(long, value_name = "PID")]
    broker_pid: Option<u32>,
}

impl LoadArguments {
    pub(super) fn load(&self) -> Result<ProduceLoad, Failure> {
        check_pid(self.broker_pid)?;
        Ok(ProduceLoad {
            rate: rate(self.rate),
            until: self.length.until(),
            warm_up_us: us(self.length.warm_up),
            value_bytes: value_bytes(self.size)?,
            keys: self.keys,
            linger_us: us(self.linger),
            batch_bytes: bounded("--batch-bytes", self.batch_bytes)?,
            in_flight: count(self.in_flight),
            acks: self.acks.acks(),
            codec: self.codec.compression(),
            clients: self.clients,
            broker_pid: self.broker_pid,
        })
    }

    fn settings(&self) -> Value {
        json!({
            "loop": if self.rate == 0 { "closed" } else { "open" },
            "rate": (self.rate > 0).then_some(self.rate),
            "size_bytes": self.size.0,
            "keys": self.keys,
            "linger_ms": self.linger.ms,
            "batch_bytes": self.batch_bytes.0,
            "in_flight": self.in_flight,
            "acks": name(&self.acks),
            "codec": name(&self.codec),
            "clients": self.clients,
        })
    }
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct ProduceArguments {
    #[command(flatten)]
    pub(super) topic: TopicArguments,
    #[command(flatten)]
    pub(super) load: LoadArguments,
    /// Read everything back afterwards, and look for loss, duplicates, disorder and damage
    #[arg(long, value_name = "WHETHER", default_value = "on")]
    pub(super) check: Check,
    #[command(flatten)]
    pub(super) cluster: ClusterArguments,
}

impl ProduceArguments {
    pub(super) fn settings(&self) -> Value {
        let parts = [
            self.topic.settings(),
            self.load.settings(),
            self.load.length.settings(),
        ];
        merged(parts)
    }
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct E2eArguments {
    #[command(flatten)]
    pub(super) topic: TopicArguments,
    #[command(flatten)]
    pub(super) load: LoadArguments,
    /// Readers, each a thread; partitions are shared out among them
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(super) fetchers: u32,
    #[command(flatten)]
    pub(super) cluster: ClusterArguments,
}

impl E2eArguments {
    pub(super) fn settings(&self) -> Value {
        merged([
            self.topic.settings(),
            self.load.settings(),
            self.load.length.settings(),
            json!({ "fetchers": self.fetchers }),
        ])
    }
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct ConsumeArguments {
    /// The topic, as `bench produce --keep` has left it
    #[arg(long, value_name = "NAME", default_value = "braidlog-bench")]
    topic: String,
    /// Readers, each a thread; partitions are shared out among them
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(super) clients: u32,
    /// Look for loss, duplicates, disorder and damage
    #[arg(long, value_name = "WHETHER", default_value = "on")]
    pub(super) check: Check,
    /// Also tell what the broker's process on this machine uses (Linux)
    #[arg(long, value_name = "PID")]
    pub(super) broker_pid: Option<u32>,
    #[command(flatten)]
    pub(super) cluster: ClusterArguments,
}

impl ConsumeArguments {
    pub(super) fn target(&self) -> Target {
        Target {
            topic: self.topic.clone(),
            partitions: None,
            replicas: -1,
            keep: true,
        }
    }

    pub(super) fn settings(&self) -> Value {
        json!({
            "loop": "closed",
            "topic": self.topic,
            "clients": self.clients,
            "check": self.check == Check::On,
        })
    }
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct RawArguments {
    #[command(flatten)]
    pub(super) topic: TopicArguments,
    #[command(flatten)]
    length: LengthArguments,
    /// Bytes of the batch in each request, about
    #[arg(long, value_name = "SIZE", default_value = "1000000")]
    request_bytes: ByteSize,
    /// Bytes of a record's value
    #[arg(long, value_name = "SIZE", default_value = "1KiB")]
    size: ByteSize,
    /// Requests on their way at once on each connection
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    in_flight: u32,
    /// Connections, each a thread; the first writes to the first partition, and so on
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    connections: u32,
    /// How safe a request must be to count: in every in-sync replica, or in the leader
    #[arg(long, value_name = "ACKS", default_value = "all")]
    acks: RawAcks,
    /// Also tell what the broker's process on this machine uses (Linux)
    #[arg(long, value_name = "PID")]
    broker_pid: Option<u32>,
    #[command(flatten)]
    pub(super) cluster: ClusterArguments,
}

/// What is not acknowledged cannot be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum RawAcks {
    All,
    #[value(name = "1")]
    Leader,
}

impl RawArguments {
    pub(super) fn load(&self) -> Result<RawLoad, Failure> {
        check_pid(self.broker_pid)?;
        let acks = match self.acks {
            RawAcks::All => AcksArgument::All,
            RawAcks::Leader => AcksArgument::Leader,
        };
        Ok(RawLoad {
            request_bytes: bounded("--request-bytes", self.request_bytes)?,
            value_bytes: value_bytes(self.size)?,
            until: self.length.until(),
            warm_up_us: us(self.length.warm_up),
            in_flight: count(self.in_flight),
            acks: acks.acks(),
            connections: self.connections,
            broker_pid: self.broker_pid,
        })
    }

    pub(super) fn settings(&self) -> Value {
        merged([
            self.topic.settings(),
            self.length.settings(),
            json!({
                "loop": "closed",
                "request_bytes": self.request_bytes.0,
                "size_bytes": self.size.0,
                "in_flight": self.in_flight,
                "acks": name(&self.acks),
                "connections": self.connections,
            }),
        ])
    }
}

/// A process that is not there is found before the run, not behind it.
pub(super) fn check_pid(pid: Option<u32>) -> Result<(), Failure> {
    match pid {
        Some(pid) if !load::process_exists(pid) => {
            let message = format!("there is no process {pid} whose use can be looked at");
            Err(Failure::new(Kind::NotFound, message)
                .help("--broker-pid works on Linux, on the machine of the broker"))
        }
        _ => Ok(()),
    }
}

fn value_bytes(size: ByteSize) -> Result<usize, Failure> {
    let bytes = size.as_usize();
    if (VALUE_BYTES_MIN..=VALUE_BYTES_MAX).contains(&bytes) {
        return Ok(bytes);
    }
    let message = format!("--size must be {VALUE_BYTES_MIN} to {VALUE_BYTES_MAX}, it is {bytes}");
    Err(Failure::new(Kind::Usage, message)
        .help("every record carries its number, its time and a checksum, to be checked by"))
}

fn bounded(flag: &str, size: ByteSize) -> Result<usize, Failure> {
    if (1..=REQUEST_BYTES_MAX).contains(&size.0) {
        return Ok(size.as_usize());
    }
    let most = ByteSize(REQUEST_BYTES_MAX);
    Err(Failure::new(
        Kind::Usage,
        format!("{flag} must be 1B to {most}, it is {size}"),
    ))
}

fn us(period: Period) -> i64 {
    period.signed_ms().saturating_mul(1_000)
}

fn count(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// Rates are far below 2^52.
#[expect(clippy::cast_precision_loss, reason = "rates are far below 2^52")]
fn rate(per_second: u64) -> Option<f64> {
    (per_second > 0).then_some(per_second as f64)
}

/// As it is written on the command line.
fn name(value: &impl ValueEnum) -> String {
    let value = value.to_possible_value();
    value.map_or_else(String::new, |value| value.get_name().to_owned())
}

/// One object of several.
fn merged(parts: impl IntoIterator<Item = Value>) -> Value {
    let fields = parts.into_iter().filter_map(|part| match part {
        Value::Object(fields) => Some(fields),
        _ => None,
    });
    Value::Object(fields.flatten().collect())
}
