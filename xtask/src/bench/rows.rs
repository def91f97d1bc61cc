//! The rows of the table: who is measured under which load, and what is to be reached.
//!
//! Contenders of a row have the same settings wherever they take the same load. A goal compares
//! figures of one round with each other, or a figure with a bound.

use super::peers::Peer;

/// One row: a load, those that are put under it, and what is asked of them.
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) contenders: Vec<Contender>,
    pub(super) goals: Vec<Goal>,
}

/// One that is measured.
pub(super) struct Contender {
    /// As it stands in tables.
    pub(super) label: String,
    pub(super) on: On,
    pub(super) work: Work,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum On {
    /// So many nodes of a peer.
    Peer(Peer, usize),
    /// The machine alone.
    Machine,
}

/// How it is measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Work {
    /// `braidlog bench` with these arguments, to which the times, the topic and the addresses come.
    Load(Vec<String>),
    /// `braidlog bench e2e` at half of what the slowest contender of the row takes.
    Tail(Vec<String>),
    /// `benches one-by-one` for this kind of broker.
    OneByOne(&'static str),
    /// `benches limits` of this name.
    Limit(&'static str),
    /// Reading what the page cache does not hold.
    CatchUp,
    /// From starting the process to its first answer, with a topic of so many partitions.
    Start { partitions: u32 },
    /// Memory of a process that has done nothing yet.
    Idle,
    /// From `kill -9` under load to the first records acknowledged again.
    Crash,
}

/// A figure of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Metric {
    pub(super) key: &'static str,
    pub(super) name: &'static str,
}

const fn metric(key: &'static str, name: &'static str) -> Metric {
    Metric { key, name }
}

pub(super) const MB_PER_SECOND: Metric = metric("mb_per_second", "MB/s");
pub(super) const RECORDS_PER_SECOND: Metric = metric("records_per_second", "records/s");
pub(super) const CPU_PER_GB: Metric = metric("broker_cpu_s_per_gb", "broker CPU-s/GB");
pub(super) const P50: Metric = metric("p50_us", "p50, us");
pub(super) const P99: Metric = metric("p99_us", "p99, us");
pub(super) const RESIDENT: Metric = metric("resident_mb", "MB resident");
pub(super) const RESIDENT_PEAK: Metric = metric("resident_peak_mb", "MB resident at most");
pub(super) const READY: Metric = metric("ready_ms", "ms to ready");
pub(super) const AGAIN: Metric = metric("again_ms", "ms to produce again");

/// What is asked of a figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Goal {
    pub(super) metric: Metric,
    /// Whose, by position among the contenders.
    pub(super) of: usize,
    /// By whose it is divided; `None`: it stands for itself.
    pub(super) over: Option<usize>,
    pub(super) bound: Bound,
}

/// Where a goal is met.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Bound {
    AtLeast(f64),
    AtMost(f64),
    /// It is shown for what it is.
    None,
}

use Bound::{AtLeast, AtMost};

fn ratio(metric: Metric, of: usize, over: usize, bound: Bound) -> Goal {
    let over = Some(over);
    Goal {
        metric,
        of,
        over,
        bound,
    }
}

fn alone(metric: Metric, of: usize, bound: Bound) -> Goal {
    Goal {
        metric,
        of,
        over: None,
        bound,
    }
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

fn on(peer: Peer, nodes: usize, work: Work) -> Contender {
    let label = match nodes {
        1 => peer.name().to_owned(),
        _ => format!("{}, {nodes} nodes", peer.name()),
    };
    let on = On::Peer(peer, nodes);
    Contender { label, on, work }
}

fn load(peer: Peer, nodes: usize, line: &str) -> Contender {
    on(peer, nodes, Work::Load(words(line)))
}

fn limit(label: &str, name: &'static str) -> Contender {
    Contender {
        label: label.to_owned(),
        on: On::Machine,
        work: Work::Limit(name),
    }
}

/// Every row, in the order in which they are measured.
pub(super) fn all() -> Vec<Row> {
    let mut rows = throughput();
    rows.extend(latency());
    rows.extend([partitions("partitions-1000", 1_000)]);
    rows.extend(life());
    rows
}

const BATCHES: &str = "--batch-bytes 1000000 --linger 5ms --in-flight 5 --clients 1 --acks all";

fn throughput() -> Vec<Row> {
    let produce =
        |size: &str, rest: &str| format!("produce --rate 0 --size {size} {BATCHES} {rest}");
    let one = produce("1KiB", "--partitions 8");
    let small = produce("100", "--partitions 8");
    let three = produce("1KiB", "--partitions 6 --replicas 3");
    let syncs = "produce --rate 0 --size 16KiB --partitions 64 --clients 64 --in-flight 1 \
                 --batch-bytes 1 --linger 0ms --acks all";
    let raw = "raw --request-bytes 1000000 --partitions 2 --connections 2 --in-flight 5 --acks all";
    vec![
        Row {
            name: "produce-1k",
            about: "produce 1 KiB, one node",
            contenders: vec![load(Peer::BraidlogOs, 1, &one), load(Peer::Kafka, 1, &one)],
            goals: vec![
                ratio(MB_PER_SECOND, 0, 1, AtLeast(1.0)),
                ratio(CPU_PER_GB, 0, 1, AtMost(0.5)),
                alone(RESIDENT, 0, AtMost(300.0)),
                alone(RESIDENT_PEAK, 0, Bound::None),
            ],
        },
        Row {
            name: "three-nodes",
            about: "produce 1 KiB, three nodes on this machine, three replicas",
            contenders: vec![
                load(Peer::BraidlogOs, 3, &three),
                load(Peer::Kafka, 3, &three),
            ],
            goals: vec![ratio(MB_PER_SECOND, 0, 1, AtLeast(1.2))],
        },
        Row {
            name: "fsync-64",
            about: "64 producers, each with one batch of 16 KiB on its way, synced",
            contenders: vec![
                load(Peer::BraidlogFsync, 1, syncs),
                limit("bare group commit", "group_commit"),
                load(Peer::KafkaFlush, 1, syncs),
            ],
            goals: vec![
                ratio(MB_PER_SECOND, 0, 1, AtLeast(0.6)),
                ratio(MB_PER_SECOND, 0, 2, AtLeast(5.0)),
                ratio(P99, 0, 2, Bound::None),
            ],
        },
        Row {
            name: "produce-100",
            about: "produce 100 B, one client",
            contenders: vec![
                load(Peer::BraidlogOs, 1, &small),
                load(Peer::Kafka, 1, &small),
            ],
            goals: vec![
                alone(RECORDS_PER_SECOND, 0, AtLeast(2e6)),
                ratio(RECORDS_PER_SECOND, 0, 1, Bound::None),
            ],
        },
        Row {
            name: "raw-1mb",
            about: "requests of 1 MB that were encoded beforehand",
            contenders: vec![
                load(Peer::BraidlogOs, 1, raw),
                limit("loopback", "loopback"),
                load(Peer::Kafka, 1, raw),
            ],
            goals: vec![
                ratio(MB_PER_SECOND, 0, 1, AtLeast(0.35)),
                ratio(MB_PER_SECOND, 0, 2, Bound::None),
            ],
        },
    ]
}

fn latency() -> Vec<Row> {
    let one = "produce --rate 0 --size 100 --partitions 1 --clients 1 --in-flight 1 \
               --batch-bytes 1 --linger 0ms --acks all";
    // 50 MB/s.
    let paced = "produce --rate 48828 --size 1KiB --partitions 6 --replicas 3 --clients 1 \
                 --batch-bytes 64KiB --linger 5ms --in-flight 5 --acks all";
    let tail = "e2e --size 1KiB --partitions 8 --clients 1 --batch-bytes 1000000 --linger 0ms \
                --in-flight 5 --acks all --fetchers 1";
    let tail_of = |peer| on(peer, 1, Work::Tail(words(tail)));
    vec![
        Row {
            name: "three-nodes-paced",
            about: "the same three nodes at 50 MB/s (open loop)",
            contenders: vec![
                load(Peer::BraidlogOs, 3, paced),
                load(Peer::Kafka, 3, paced),
            ],
            goals: vec![ratio(P99, 0, 1, AtMost(0.5)), ratio(P50, 0, 1, Bound::None)],
        },
        Row {
            name: "one-in-flight",
            about: "100 B, one record on its way",
            contenders: vec![
                load(Peer::BraidlogOs, 1, one),
                on(Peer::RedisEverysec, 1, Work::OneByOne("redis")),
                load(Peer::BraidlogFsync, 1, one),
                on(Peer::RedisAlways, 1, Work::OneByOne("redis")),
                on(Peer::Nats, 1, Work::OneByOne("nats")),
            ],
            goals: vec![
                ratio(P50, 0, 1, AtMost(1.5)),
                ratio(P50, 2, 3, AtMost(1.3)),
                ratio(P50, 0, 4, Bound::None),
                ratio(P99, 0, 1, Bound::None),
                ratio(P99, 2, 3, Bound::None),
            ],
        },
        Row {
            name: "tail",
            about: "reading beside producing 1 KiB at half of the lower peak of the two \
                    (open loop), due to received",
            contenders: vec![tail_of(Peer::BraidlogOs), tail_of(Peer::Kafka)],
            goals: vec![ratio(P99, 0, 1, AtMost(0.5)), ratio(P50, 0, 1, Bound::None)],
        },
    ]
}

/// Keyed records over many partitions: few go together in a batch.
fn partitions(name: &'static str, count: u32) -> Row {
    let line = |count: u32| {
        format!(
            "produce --rate 0 --size 100 --keys 100000 --partitions {count} --clients 1 \
             --batch-bytes 16KiB --linger 5ms --in-flight 5 --acks all"
        )
    };
    let with = |peer, count: u32| {
        let mut contender = load(peer, 1, &line(count));
        if count == 1 {
            contender.label += ", one partition";
        }
        contender
    };
    Row {
        name,
        about: "100 B with keys over 1,000 partitions, small batches",
        contenders: vec![
            with(Peer::BraidlogFsync, count),
            with(Peer::KafkaFlush, count),
            with(Peer::BraidlogFsync, 1),
            with(Peer::BraidlogOs, count),
            with(Peer::Kafka, count),
            with(Peer::BraidlogOs, 1),
        ],
        goals: vec![
            ratio(MB_PER_SECOND, 0, 1, AtLeast(5.0)),
            ratio(MB_PER_SECOND, 0, 2, AtLeast(0.5)),
            ratio(MB_PER_SECOND, 3, 4, AtLeast(1.0)),
            ratio(MB_PER_SECOND, 3, 5, AtLeast(0.5)),
        ],
    }
}

fn life() -> Vec<Row> {
    let start = |partitions| {
        let work = Work::Start { partitions };
        vec![
            on(Peer::BraidlogOs, 1, work.clone()),
            on(Peer::Kafka, 1, work),
        ]
    };
    let both = |work: Work| {
        vec![
            on(Peer::BraidlogOs, 1, work.clone()),
            on(Peer::Kafka, 1, work),
        ]
    };
    let mut catch_up = both(Work::CatchUp);
    catch_up.push(limit("cold read of the disk", "cold_read"));
    vec![
        Row {
            name: "catch-up",
            about: "reading 1 KiB records from the start, none of them in the page cache",
            contenders: catch_up,
            goals: vec![
                ratio(MB_PER_SECOND, 0, 2, AtLeast(0.6)),
                alone(CPU_PER_GB, 0, AtMost(0.45)),
                ratio(MB_PER_SECOND, 0, 1, Bound::None),
                ratio(CPU_PER_GB, 0, 1, Bound::None),
            ],
        },
        Row {
            name: "start",
            about: "from starting the process to its first answer, no data",
            contenders: start(0),
            goals: vec![
                alone(READY, 0, AtMost(50.0)),
                ratio(READY, 0, 1, Bound::None),
            ],
        },
        Row {
            name: "start-10000",
            about: "the same with a topic of 10,000 partitions",
            contenders: vec![on(Peer::BraidlogOs, 1, Work::Start { partitions: 10_000 })],
            goals: vec![alone(READY, 0, AtMost(1_000.0))],
        },
        Row {
            name: "memory",
            about: "memory of a node that has done nothing yet",
            contenders: both(Work::Idle),
            goals: vec![
                alone(RESIDENT, 0, AtMost(40.0)),
                ratio(RESIDENT, 0, 1, Bound::None),
            ],
        },
        Row {
            name: "crash",
            about: "kill -9 under a load of 1 KiB records, started again at once, to the first \
                    1,000 records acknowledged",
            contenders: both(Work::Crash),
            goals: vec![
                alone(AGAIN, 0, AtMost(1_000.0)),
                ratio(AGAIN, 0, 1, Bound::None),
            ],
        },
    ]
}

impl Work {
    /// Whether one discarded round comes first.
    pub(super) fn is_warmed(&self) -> bool {
        matches!(self, Work::Load(_) | Work::Tail(_) | Work::CatchUp)
    }

    /// Whether its nodes run through all rounds of a row.
    pub(super) fn has_running_nodes(&self) -> bool {
        match self {
            Work::Load(_) | Work::Tail(_) | Work::OneByOne(_) => true,
            Work::CatchUp | Work::Crash => true,
            Work::Limit(_) | Work::Start { .. } | Work::Idle => false,
        }
    }

    /// Its settings as a reader can repeat them.
    pub(super) fn shown(&self) -> String {
        match self {
            Work::Load(words) | Work::Tail(words) => format!("braidlog bench {}", words.join(" ")),
            Work::OneByOne(kind) => format!("benches one-by-one {kind}"),
            Work::Limit(name) => format!("benches limits {name}"),
            Work::CatchUp => "braidlog bench consume --clients 2".to_owned(),
            Work::Start { partitions } => format!("{partitions} partitions"),
            Work::Idle => "idle".to_owned(),
            Work::Crash => "kill -9".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_different_and_goals_are_of_contenders() {
        let rows = all();
        for (at, row) in rows.iter().enumerate() {
            assert!(rows[..at].iter().all(|other| other.name != row.name));
            assert!(!row.goals.is_empty());
            for goal in &row.goals {
                let of = [Some(goal.of), goal.over];
                let mut of = of.iter().flatten();
                assert!(of.all(|at| *at < row.contenders.len()), "{}", row.name);
                assert_ne!(Some(goal.of), goal.over);
            }
            for contender in &row.contenders {
                let is_limit = matches!(contender.work, Work::Limit(_));
                assert_eq!(contender.on == On::Machine, is_limit, "{}", row.name);
            }
        }
    }

    #[test]
    fn ours_and_kafka_take_the_same_load_for_each_goal() {
        for row in all() {
            for goal in row.goals {
                let [of, over] =
                    [Some(goal.of), goal.over].map(|at| at.map(|at| &row.contenders[at]));
                let (Some(of), Some(over)) = (of, over) else {
                    continue;
                };
                let kafka = matches!(over.on, On::Peer(Peer::Kafka | Peer::KafkaFlush, _));
                assert!(!kafka || of.work == over.work, "{}", row.name);
            }
        }
    }
}
