//! How nodes find, hear and follow one another, and who leads.

use super::row::{Row, fixed, node, unused};
use crate::ConfigKind::{Boolean, Int, List, Long, String};

pub(super) static REPLICATION: [Row; 44] = [
    unused(
        "alter.log.dirs.replication.quota.window.num",
        Int,
        "Windows of a throttle between directories; a node has one directory.",
    ),
    unused(
        "alter.log.dirs.replication.quota.window.size.seconds",
        Int,
        "Length of such a window; a node has one directory.",
    ),
    fixed(
        "auto.leader.rebalance.enable",
        Boolean,
        "true",
        "Leaders go back to their preferred nodes by themselves.",
    ),
    node(
        "broker.heartbeat.interval.ms",
        Int,
        Some("100"),
        "Time between two signs of life of a node.",
        |broker| Some(broker.config().heartbeat_ms.to_string()),
    ),
    fixed(
        "broker.session.timeout.ms",
        Int,
        "3000",
        "A node that was silent for this long, without a connection, counts as down.",
    ),
    unused(
        "controller.listener.names",
        String,
        "Listeners of controllers; nodes have one listener for one another.",
    ),
    unused(
        "controller.quorum.append.linger.ms",
        Int,
        "How long changes of the catalogue are gathered; they are written as they come.",
    ),
    unused(
        "controller.quorum.bootstrap.servers",
        List,
        "Where controllers are found; a node is given seeds when it is started.",
    ),
    unused(
        "controller.quorum.election.backoff.max.ms",
        Int,
        "Pause after an election that nobody won; each replica draws its own.",
    ),
    node(
        "controller.quorum.election.timeout.ms",
        Int,
        Some("500"),
        "Shortest time without a leader after which a replica stands for election.",
        |broker| Some(broker.config().election_ms_min.to_string()),
    ),
    unused(
        "controller.quorum.fetch.timeout.ms",
        Int,
        "How long a follower waits for its leader; see the election time-out.",
    ),
    unused(
        "controller.quorum.request.timeout.ms",
        Int,
        "How long controllers wait for one another; nodes have their own protocol.",
    ),
    unused(
        "controller.quorum.retry.backoff.ms",
        Int,
        "Pause between two tries of a controller; nodes have their own protocol.",
    ),
    unused(
        "controller.quorum.voters",
        List,
        "Who votes for the catalogue; the cluster chooses by itself.",
    ),
    unused(
        "controller.socket.timeout.ms",
        Int,
        "How long a controller waits for a broker; nodes have their own protocol.",
    ),
    unused(
        "follower.replication.throttled.rate",
        Long,
        "Pace of catching up; a node is told its own when it is started.",
    ),
    unused(
        "initial.broker.registration.timeout.ms",
        Int,
        "How long a broker tries to register; a node tries until it is stopped.",
    ),
    unused(
        "inter.broker.listener.name",
        String,
        "Which listener brokers use; nodes have one of their own.",
    ),
    unused(
        "leader.imbalance.check.interval.seconds",
        Long,
        "How often preferred leaders are looked at; changes are seen as they come.",
    ),
    unused(
        "leader.replication.throttled.rate",
        Long,
        "Pace at which others catch up from this node; it finds its own, by what producers notice.",
    ),
    unused(
        "metadata.log.dir",
        String,
        "Where the catalogue is kept; it is in the data directory.",
    ),
    unused(
        "metadata.log.max.record.bytes.between.snapshots",
        Long,
        "Growth of the catalogue's log between checkpoints; all shards have one limit.",
    ),
    unused(
        "metadata.log.max.snapshot.interval.ms",
        Long,
        "Time between checkpoints of the catalogue; they follow its log's growth.",
    ),
    unused(
        "metadata.log.segment.bytes",
        Int,
        "Size of a segment of the catalogue's log, which is in the journal. Not used here.",
    ),
    unused(
        "metadata.log.segment.ms",
        Long,
        "Age of a segment of the catalogue's log, which is in the journal. Not used here.",
    ),
    unused(
        "metadata.max.idle.interval.ms",
        Int,
        "How often an idle catalogue writes something; it need not.",
    ),
    unused(
        "metadata.max.retention.bytes",
        Long,
        "How much of the catalogue's log is kept; what a checkpoint covers goes.",
    ),
    unused(
        "metadata.max.retention.ms",
        Long,
        "How long the catalogue's log is kept; what a checkpoint covers goes.",
    ),
    unused(
        "num.replica.alter.log.dirs.threads",
        Int,
        "Threads that move replicas between directories; a node has one directory.",
    ),
    unused(
        "num.replica.fetchers",
        Int,
        "Threads that replicate; replicas are sent to by their leader.",
    ),
    unused(
        "replica.alter.log.dirs.io.max.bytes.per.second",
        Long,
        "Pace of moving replicas between directories; a node has one directory.",
    ),
    unused(
        "replica.fetch.backoff.ms",
        Int,
        "Pause of a follower after a failed fetch; replicas are sent to by their leader.",
    ),
    unused(
        "replica.fetch.max.bytes",
        Int,
        "Most bytes a follower fetches of one partition; replicas are sent to by their leader.",
    ),
    unused(
        "replica.fetch.min.bytes",
        Int,
        "Fewest bytes a follower waits for; replicas are sent to by their leader.",
    ),
    unused(
        "replica.fetch.response.max.bytes",
        Int,
        "Most bytes in one answer to a follower; replicas are sent to by their leader.",
    ),
    unused(
        "replica.fetch.wait.max.ms",
        Int,
        "How long a follower's fetch waits; replicas are sent to by their leader.",
    ),
    unused(
        "replica.high.watermark.checkpoint.interval.ms",
        Long,
        "How often high watermarks are written; they follow from the journal.",
    ),
    fixed(
        "replica.lag.time.max.ms",
        Long,
        "3000",
        "A replica is in sync that had, within this time, everything its leader had.",
    ),
    unused(
        "replica.selector.class",
        String,
        "A Java class that names the replica to read from; one in the reader's rack is always named.",
    ),
    fixed(
        "replica.socket.receive.buffer.bytes",
        Int,
        "-1",
        "Receive buffer between nodes; the system sizes it.",
    ),
    unused(
        "replica.socket.timeout.ms",
        Int,
        "How long a follower waits for its leader; nodes have their own protocol.",
    ),
    unused(
        "replication.quota.window.num",
        Int,
        "Windows over which throttled replication is counted. Not used here.",
    ),
    unused(
        "replication.quota.window.size.seconds",
        Int,
        "Length of a window over which throttled replication is counted. Not used here.",
    ),
    fixed(
        "unclean.leader.election.enable",
        Boolean,
        "false",
        "A replica that lacks committed records never leads.",
    ),
];
