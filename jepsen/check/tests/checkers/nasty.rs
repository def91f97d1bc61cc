//! Broken histories made to slip through.

use jepsen_check::{Limits, Outcome, check};

use crate::story::{events, is_valid, lenient, shows};

#[test]
fn a_record_that_one_reader_saw_and_that_then_vanished_from_the_tail() {
    // Somebody read it, so it is neither lost nor unseen after the published definitions; nobody
    // acknowledged it; nothing stands behind it.
    shows(
        &["high-watermark-regressed"],
        "p1 send a/0 1 -> 0
         p2 > send a/0 2
         p3 poll a/0 0=1 1=2
         phase heal
         phase final
         p4 assign a/0@0
         p4 poll a/0 0=1 hw=1
         phase end",
    );
}

#[test]
fn an_acknowledged_record_that_was_read_in_time_and_then_vanished() {
    // Seen once, so not unseen; and a hole could be legitimate.
    shows(
        &["int-poll-skip"],
        "p1 send a/0 1 -> 0
         p1 send a/0 2 -> 1
         p1 send a/0 3 -> 2
         p3 poll a/0 0=1 1=2
         phase heal
         phase final
         p4 assign a/0@0
         p4 poll a/0 0=1 2=3 hw=3
         phase end",
    );
}

#[test]
fn an_uncommitted_record_that_was_shown_and_then_overwritten_by_a_later_send() {
    // The two are never seen at the same offset by polls: the second is only acknowledged there.
    shows(
        &["inconsistent-offsets", "realtime-order", "lost-write"],
        "p1 > send a/0 1
         p3 poll a/0 0=1
         p2 send a/0 2 -> 0
         p1 < send a/0 1 -> info",
    );
}

#[test]
fn a_reader_that_begins_behind_what_is_lost() {
    // Nobody goes past offset 1 but the highest offset that was read lies above it; and each
    // reader begins with what it was assigned.
    shows(
        &["lost-write"],
        "p1 send a/0 1 2 3 -> 0
         phase heal
         phase final
         p2 assign a/0@0
         p2 poll a/0 0=1
         p4 assign a/0@2
         p4 poll a/0 2=3 hw=3
         phase end",
    );
}

#[test]
fn a_final_phase_that_stops_before_the_lost_tail() {
    // The last poll ends at what is there, and says that there is no more.
    shows(
        &["unseen", "high-watermark-regressed"],
        "p1 send a/0 1 -> 0
         p1 send a/0 2 -> 1
         phase heal
         phase final
         p2 assign a/0@0
         p2 poll a/0 0=1
         p2 poll a/0 hw=1
         phase end",
    );
}

#[test]
fn a_deleted_topic_does_not_hide_what_another_one_lost() {
    shows(
        &["unseen", "high-watermark-regressed"],
        "p1 send a/0 1 -> 0
         p1 send b/0 2 -> 0
         p1 delete b
         phase heal
         phase final
         p2 assign a/0@0
         p2 poll a/0 hw=0
         phase end",
    );
}

#[test]
fn replicas_that_are_all_equally_wrong() {
    shows(
        &["replica-lost-write"],
        "p1 send a/0 1 -> 0
         p1 send a/0 2 -> 1
         phase heal
         phase final
         p2 assign a/0@0
         p2 poll a/0 0=1 1=2 hw=2
         n1 has a/0 0=1 end=2
         n2 has a/0 0=1 end=2
         phase end",
    );
}

#[test]
fn replicas_of_which_two_share_no_range_with_the_third() {
    // Every pair is compared, not each with the first alone.
    let moving = Limits {
        log_start_moves: true,
        ..lenient()
    };
    let story = "p1 > send a/0 1
         p2 > send a/0 2
         phase final
         n1 has a/0 end=0
         n2 has a/0 0=1 end=1
         n3 has a/0 0=2 end=1
         phase end";
    let names = check(&events(story), &moving).anomaly_counts;
    assert!(
        names
            .keys()
            .any(|name| name.as_str() == "replica-divergence"),
        "{names:?}"
    );
}

#[test]
fn a_duplicate_that_only_replicas_show() {
    shows(
        &["duplicate"],
        "p1 send a/0 1 -> 0
         phase final
         p2 assign a/0@0
         p2 poll a/0 0=1
         n1 has a/0 0=1 1=1 end=2
         n2 has a/0 0=1 1=1 end=2",
    );
}

#[test]
fn an_offset_that_is_the_default_of_nothing_known() {
    // A spurious zero: acknowledged at 0 by default, and really at 7.
    shows(
        &[
            "inconsistent-offsets",
            "nonmonotonic-send",
            "offset-mismatch",
        ],
        "p1 send a/0 1 -> 0\np1 send a/0 2 -> 0\np2 poll a/0 0=1 7=2",
    );
}

#[test]
fn a_run_in_which_every_send_stays_unknown() {
    let story = "p1 send a/0 1 -> info
         p2 send a/0 2 -> info
         phase heal
         phase final
         p3 assign a/0@0
         p3 poll a/0 0=1 1=2 hw=2
         phase end";
    let verdict = check(&events(story), &Limits::default());
    assert_eq!(verdict.outcome, Outcome::Unknown);
}

#[test]
fn a_topic_whose_deletion_failed_and_that_is_gone_nevertheless() {
    shows(
        &["topic-lost", "unseen", "high-watermark-regressed"],
        "p1 create a 1
         p1 send a/0 1 -> 0
         p1 delete a -> fail
         p1 describe a gone
         phase heal
         phase final
         p2 assign a/0@0
         p2 poll a/0 hw=0
         phase end",
    );
}

#[test]
fn offsets_at_the_edge_of_numbers() {
    let most = i64::MAX;
    // Nothing overflows; the second value of the batch has no offset of its own left.
    let verdict = check(
        &events(&format!(
            "p1 send a/0 1 2 3 -> {most}\np2 assign a/0@{most}\np2 poll a/0 {most}=1 -5=2"
        )),
        &lenient(),
    );
    assert_eq!(verdict.outcome, Outcome::Anomaly);
    is_valid(&format!(
        "p1 > send a/0 1\np2 poll a/0 {}=1 hw={most}",
        most - 1
    ));
}
