//! Transactions.

use super::row::{Row, unused};
use crate::ConfigKind::{Boolean, Int, Short};

pub(super) static TRANSACTIONS: [Row; 13] = [
    unused(
        "add.partitions.to.txn.retry.backoff.max.ms",
        Int,
        "Longest pause before a partition is added to a transaction again. No transactions are served yet.",
    ),
    unused(
        "add.partitions.to.txn.retry.backoff.ms",
        Int,
        "First pause before a partition is added to a transaction again. No transactions are served yet.",
    ),
    unused(
        "transaction.abort.timed.out.transaction.cleanup.interval.ms",
        Int,
        "Time between two looks at transactions that took too long. No transactions are served yet.",
    ),
    unused(
        "transaction.max.timeout.ms",
        Int,
        "Longest time that a transaction may be given. No transactions are served yet.",
    ),
    unused(
        "transaction.partition.verification.enable",
        Boolean,
        "Whether a write is checked to belong to an open transaction. No transactions are served yet.",
    ),
    unused(
        "transaction.remove.expired.transaction.cleanup.interval.ms",
        Int,
        "Time between two looks at transactional ids that have expired. No transactions are served yet.",
    ),
    unused(
        "transaction.state.log.load.buffer.size",
        Int,
        "Memory through which a coordinator of transactions reads its state. No transactions are served yet.",
    ),
    unused(
        "transaction.state.log.min.isr",
        Int,
        "Replicas that must have a change of a transaction's state. No transactions are served yet.",
    ),
    unused(
        "transaction.state.log.num.partitions",
        Int,
        "Partitions of the topic of transactions' state. No transactions are served yet.",
    ),
    unused(
        "transaction.state.log.replication.factor",
        Short,
        "Replicas of the topic of transactions' state. No transactions are served yet.",
    ),
    unused(
        "transaction.state.log.segment.bytes",
        Int,
        "Size of a segment of the topic of transactions' state. No transactions are served yet.",
    ),
    unused(
        "transaction.two.phase.commit.enable",
        Boolean,
        "Whether transactions may be left prepared by an outside coordinator. No transactions are served yet.",
    ),
    unused(
        "transactional.id.expiration.ms",
        Int,
        "A transactional id that was not used for this long is forgotten. No transactions are served yet.",
    ),
];
