//! The node as a server: its name, sockets, requests in hand, quotas.

use super::row::{Row, fixed, node, told, unused};
use crate::ConfigKind::{Boolean, Class, Int, List, Long, String};

pub(super) static SERVER: [Row; 49] = [
    told(
        "advertised.listeners",
        String,
        None,
        "Where clients are told to reach this node.",
    ),
    unused(
        "alter.config.policy.class.name",
        Class,
        "A Java class that judges changes of configs. Not used here.",
    ),
    fixed(
        "authorizer.class.name",
        String,
        "",
        "Who may do what; nothing is forbidden to anybody yet.",
    ),
    unused(
        "background.threads",
        Int,
        "Threads for background work; the node sizes its own.",
    ),
    node(
        "broker.id",
        Int,
        None,
        "The id of this node, under its older name.",
        |broker| Some(broker.node_id().to_string()),
    ),
    node(
        "broker.rack",
        String,
        None,
        "Where this node stands, so that replicas and readers are spread.",
        |broker| broker.config().rack.clone(),
    ),
    unused(
        "client.quota.callback.class",
        Class,
        "A Java class that computes quotas. Not used here.",
    ),
    unused(
        "connection.failed.authentication.delay.ms",
        Int,
        "Pause before a connection that failed to authenticate is closed; clients do not authenticate yet.",
    ),
    told(
        "connections.max.idle.ms",
        Long,
        Some("600000"),
        "A connection on which nothing moves for this long is closed.",
    ),
    fixed(
        "connections.max.reauth.ms",
        Long,
        "0",
        "How long an authentication lasts; clients do not authenticate yet.",
    ),
    fixed(
        "controlled.shutdown.enable",
        Boolean,
        "true",
        "A node that stops gives away what it leads first.",
    ),
    unused(
        "controller.quota.window.num",
        Int,
        "Windows over which changes of topics are counted for quotas. Not used here.",
    ),
    unused(
        "controller.quota.window.size.seconds",
        Int,
        "Length of a window over which changes of topics are counted for quotas. Not used here.",
    ),
    unused(
        "create.topic.policy.class.name",
        Class,
        "A Java class that judges new topics. Not used here.",
    ),
    unused(
        "delete.records.purgatory.purge.interval.requests",
        Int,
        "Upkeep of deletions that wait; there is no list of them to tidy.",
    ),
    unused(
        "early.start.listeners",
        String,
        "Listeners that serve before others. Not used here.",
    ),
    told(
        "fetch.max.bytes",
        Int,
        Some("57671680"),
        "Most bytes of records in one answer to a fetch; a first batch is always whole.",
    ),
    unused(
        "fetch.purgatory.purge.interval.requests",
        Int,
        "Upkeep of fetches that wait; there is no list of them to tidy.",
    ),
    unused(
        "kafka.metrics.polling.interval.secs",
        Int,
        "How often Java reporters of metrics poll. Not used here.",
    ),
    unused(
        "kafka.metrics.reporters",
        List,
        "Java classes that report metrics. Not used here.",
    ),
    fixed(
        "listener.security.protocol.map",
        String,
        "PLAINTEXT:PLAINTEXT",
        "How each listener is secured; clients' connections are plain.",
    ),
    told(
        "listeners",
        String,
        None,
        "Where this node listens for clients.",
    ),
    unused(
        "max.connection.creation.rate",
        Int,
        "New connections a second on the whole node; limit them by address with a quota.",
    ),
    told(
        "max.connections",
        Int,
        Some("10000"),
        "Open connections in total.",
    ),
    told(
        "max.connections.per.ip",
        Int,
        Some("10000"),
        "Open connections from one address.",
    ),
    fixed(
        "max.connections.per.ip.overrides",
        String,
        "",
        "Other limits for single addresses.",
    ),
    told(
        "max.incremental.fetch.session.cache.slots",
        Int,
        Some("1000"),
        "Fetch sessions that a node keeps at the same time.",
    ),
    fixed(
        "max.request.partition.size.limit",
        Int,
        "2000",
        "Most partitions in one answer to DescribeTopicPartitions.",
    ),
    unused(
        "metric.reporters",
        List,
        "Java classes that report metrics. Not used here.",
    ),
    unused(
        "metrics.num.samples",
        Int,
        "Samples kept for Java reporters of metrics. Not used here.",
    ),
    unused(
        "metrics.recording.level",
        String,
        "How much Java reporters of metrics are told. Not used here.",
    ),
    unused(
        "metrics.sample.window.ms",
        Long,
        "Length of a sample for Java reporters of metrics. Not used here.",
    ),
    node("node.id", Int, None, "The id of this node.", |broker| {
        Some(broker.node_id().to_string())
    }),
    unused(
        "num.io.threads",
        Int,
        "Threads that work on requests; the node sizes its own.",
    ),
    unused(
        "num.network.threads",
        Int,
        "Threads that serve sockets; the node sizes its own.",
    ),
    fixed(
        "process.roles",
        List,
        "broker,controller",
        "Every node serves clients and may keep the catalogue.",
    ),
    unused(
        "producer.purgatory.purge.interval.requests",
        Int,
        "Upkeep of produces that wait; there is no list of them to tidy.",
    ),
    told(
        "queued.max.request.bytes",
        Long,
        Some("1073741824"),
        "Bytes of requests in hand and of records read for answers, over all connections.",
    ),
    unused(
        "queued.max.requests",
        Int,
        "Requests that wait for a thread; requests in hand are limited for each connection instead.",
    ),
    fixed(
        "quota.window.num",
        Int,
        "11",
        "Quotas are counted over ten whole windows and the present one.",
    ),
    fixed(
        "quota.window.size.seconds",
        Int,
        "1",
        "Length of a window over which quotas are counted.",
    ),
    unused(
        "request.timeout.ms",
        Int,
        "How long brokers wait for one another; nodes have their own protocol.",
    ),
    unused(
        "socket.connection.setup.timeout.max.ms",
        Long,
        "Longest pause of a broker that connects to another; nodes have their own protocol.",
    ),
    unused(
        "socket.connection.setup.timeout.ms",
        Long,
        "First pause of a broker that connects to another; nodes have their own protocol.",
    ),
    fixed(
        "socket.listen.backlog.size",
        Int,
        "4096",
        "Connections that may wait to be accepted, as far as the system allows it.",
    ),
    fixed(
        "socket.receive.buffer.bytes",
        Int,
        "-1",
        "Receive buffer of a socket; the system sizes it.",
    ),
    told(
        "socket.request.max.bytes",
        Int,
        Some("104857600"),
        "Largest request; a larger one closes its connection.",
    ),
    fixed(
        "socket.send.buffer.bytes",
        Int,
        "-1",
        "Send buffer of a socket; the system sizes it.",
    ),
    unused(
        "telemetry.max.bytes",
        Int,
        "Most bytes of metrics in one push of a client; clients' metrics are not taken.",
    ),
];
