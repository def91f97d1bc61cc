//! What nodes have in the end.

use jepsen_check::{Limits, Outcome, check};

use crate::story::{events, is_valid, lenient, shows};

fn replicas(one: &str, other: &str) -> String {
    format!(
        "p1 send a/0 1 2 -> 0\nphase final\np9 assign a/0@0\np9 poll a/0 0=1 1=2 hw=2
         n1 has a/0 {one}
         n2 has a/0 {other}
         phase end"
    )
}

#[test]
fn replicas_are_equal() {
    is_valid(&replicas("0=1 1=2 end=2 crc=5", "0=1 1=2 end=2 crc=5"));
}

#[test]
fn a_replica_with_another_value_diverges() {
    shows(
        &[
            "replica-divergence",
            "inconsistent-offsets",
            "unknown-value",
        ],
        &replicas("0=1 1=2 end=2", "0=1 1=7 end=2"),
    );
}

#[test]
fn a_replica_with_a_hole_where_another_has_a_record_diverges() {
    shows(
        &["replica-divergence", "replica-lost-write"],
        &replicas("0=1 1=2 end=2", "0=1 end=2"),
    );
    // A hole in all of them is legitimate.
    is_valid(&replicas("0=1 1=2 end=4", "0=1 1=2 end=4"));
}

#[test]
fn replicas_have_the_same_bytes() {
    shows(
        &["replica-digest"],
        &replicas("0=1 1=2 end=2 crc=5", "0=1 1=2 end=2 crc=6"),
    );
}

#[test]
fn replicas_end_alike() {
    shows(
        &["replica-end"],
        &replicas("0=1 1=2 end=2 crc=5", "0=1 1=2 end=3 crc=6"),
    );
    // A replica may lag until it does not: the last look counts.
    is_valid(&replicas(
        "0=1 end=1",
        "0=1 1=2 end=2 crc=5\nn1 has a/0 0=1 1=2 end=2 crc=5",
    ));
    // But not the other way round.
    shows(
        &["replica-end", "replica-lost-write"],
        &replicas("0=1 1=2 end=2", "0=1 1=2 end=2\nn1 has a/0 0=1 end=1"),
    );
}

#[test]
fn every_replica_has_what_was_acknowledged_or_read() {
    let lost = shows(&["replica-lost-write"], &replicas("0=1 end=2", "0=1 end=2"));
    assert_eq!(
        lost.anomaly_counts.values().sum::<u64>(),
        2,
        "one for each node"
    );
    shows(
        &["replica-lost-write"],
        "p1 send a/0 1 -> info\np2 poll a/0 0=1\nphase final\nn1 has a/0 end=1\nn2 has a/0 end=1",
    );
    is_valid("p1 send a/0 1 -> info\nphase final\nn1 has a/0 end=1\nn2 has a/0 end=1");
}

#[test]
fn a_log_that_begins_later_has_lost_records_unless_that_is_allowed() {
    let story = replicas("1=2 start=1 end=2", "1=2 start=1 end=2");
    shows(&["replica-lost-write"], &story);
    let moving = Limits {
        log_start_moves: true,
        ..lenient()
    };
    assert_eq!(check(&events(&story), &moving).outcome, Outcome::Valid);
}

#[test]
fn a_replica_alone_is_in_order() {
    shows(
        &["int-nonmonotonic-poll"],
        "p1 > send a/0 1 2\nphase final\nn1 has a/0 1=2 0=1 end=2",
    );
    shows(
        &["above-high-watermark"],
        "p1 > send a/0 1 2\nphase final\nn1 has a/0 0=1 1=2 end=1",
    );
    is_valid("p1 > send a/0 1 2\nphase final\nn1 has a/0 0=1 1=2 end=2");
}

#[test]
fn a_deleted_topic_has_no_replicas_to_compare() {
    let story = |delete: &str| {
        format!("p1 send a/0 1 -> 0\n{delete}\nphase final\nn1 has a/0 0=1 end=1\nn2 has a/0 end=0")
    };
    is_valid(&story("p1 delete a"));
    shows(
        &["replica-end", "replica-lost-write"],
        &story("p1 delete b"),
    );
}

#[test]
fn replicas_of_a_compacted_partition_agree_on_the_last_of_each_key() {
    let both =
        |second: &str| format!("n1 cleaned c/0 0=a1 1=b1 2=a2 end=3\nn2 cleaned c/0 {second}");
    is_valid(&both("0=a1 1=b1 2=a2 end=3"));
    is_valid(&both("1=b1 2=a2 end=3"));
    shows(&["replica-divergence"], &both("1=b1 end=3"));
    shows(&["replica-divergence"], &both("1=b2 2=a2 end=3"));
    shows(&["replica-end"], &both("0=a1 1=b1 end=2"));
    // A tombstone stays longer than a run takes, but where a clock is wrong.
    let gone = |clock: &str| format!("{clock}n1 cleaned c/0 0=a1 1=a- end=2\nn2 cleaned c/0 end=2");
    shows(&["replica-divergence"], &gone(""));
    is_valid(&gone("nemesis clock -> ok\n"));
}

#[test]
fn a_compacted_replica_that_was_not_shown_proves_nothing() {
    let of = |second: &str| {
        let story = format!("n1 cleaned c/0 0=a1 end=1\nn2 cleaned c/0 {second}");
        check(&events(&story), &lenient()).outcome
    };
    assert_eq!(of("-> info"), Outcome::Unknown);
    assert_eq!(of("0=a1 end=1"), Outcome::Valid);
    assert_eq!(of("-> fail"), Outcome::Valid);
}
