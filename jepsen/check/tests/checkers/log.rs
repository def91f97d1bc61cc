//! What clients see of logs.

use jepsen_check::check::lag_points;

use crate::story::{events, is_valid, shows};

/// A final phase in which process 9 reads everything there is.
fn in_the_end(before: &str, reads: &str) -> String {
    format!("{before}\nphase heal\nphase final\np9 assign a/0@0\np9 poll a/0 {reads}\nphase end")
}

#[test]
fn one_offset_with_two_values_is_inconsistent() {
    shows(
        &["inconsistent-offsets"],
        "p1 send a/0 1 -> 0
         p1 > send a/0 2
         p2 > send a/0 3
         p3 poll a/0 0=1 1=2
         p4 poll a/0 0=1 1=3     # says another",
    );
    // The same two values, one after the other, of another partition.
    is_valid(
        "p1 send a/0 1 -> 0
         p1 > send a/0 2
         p2 > send a/1 3
         p3 poll a/0 0=1 1=2
         p4 poll a/1 1=3",
    );
}

#[test]
fn an_acknowledgement_shows_a_value_as_well_as_a_poll() {
    shows(
        &["inconsistent-offsets"],
        "p1 > send a/0 1\np2 send a/0 2 -> 0\np1 < send a/0 1 -> 0",
    );
    is_valid("p1 > send a/0 1\np2 send a/0 2 -> 0\np1 < send a/0 1 -> 1");
}

#[test]
fn polls_count_whatever_came_of_them() {
    shows(
        &["inconsistent-offsets"],
        "p1 > send a/0 1\np2 > send a/0 2\np3 poll a/0 0=1 -> fail\np4 poll a/0 0=2 -> info",
    );
}

#[test]
fn a_value_sent_once_stands_once() {
    let story =
        |send: &str| format!("p1 {send} a/0 1 -> 0\np1 {send} a/0 2 -> 1\np3 poll a/0 0=1 1=2 2=1");
    shows(&["duplicate"], &story("send"));
    // Who sends without a producer id and again has asked for it.
    is_valid(&story("resend"));
}

#[test]
fn a_resent_value_that_is_not_where_it_was_acknowledged_is_lost() {
    let story = |reads: &str| in_the_end("p1 resend a/0 1 -> 1", reads);
    is_valid(&story("0=1 1=1 hw=2"));
    shows(&["lost-write", "int-poll-skip"], &story("0=1 2=1 hw=3"));
    // The copy that was acknowledged is still to come, and then it is not there.
    shows(&["unseen", "high-watermark-regressed"], &story("0=1 hw=1"));
}

#[test]
fn an_acknowledged_value_below_what_was_read_is_lost() {
    shows(
        &["lost-write", "poll-skip"],
        "p1 send a/0 1 -> 0
         p1 send a/0 2 -> 1
         p1 send a/0 3 -> 2
         p2 assign a/0@0
         p2 poll a/0 0=1
         p2 poll a/0 2=3",
    );
    // Nobody went past it: who begins at 2 has not.
    is_valid(
        "p1 send a/0 1 -> 0
         p1 send a/0 2 -> 1
         p1 send a/0 3 -> 2
         p2 assign a/0@2
         p2 poll a/0 2=3",
    );
    // What is not acknowledged need not be there.
    is_valid(
        "p1 send a/0 1 -> 0
         p1 send a/0 2 -> info
         p3 send a/0 3 -> 2
         p2 assign a/0@0
         p2 poll a/0 0=1
         p2 poll a/0 2=3",
    );
}

#[test]
fn a_batch_of_unknown_outcome_is_there_whole_once_a_part_of_it_was_read() {
    let story = |reads: &str| format!("p1 send a/0 1 2 -> info\np3 send a/0 3 -> 2\n{reads}");
    shows(
        &["lost-write"],
        &story("p2 assign a/0@0\np2 poll a/0 0=1 2=3"),
    );
    is_valid(&story("p2 assign a/0@0\np2 poll a/0 0=1 1=2 2=3"));
    is_valid(&story("p2 assign a/0@0\np2 poll a/0 2=3"));
}

#[test]
fn what_was_not_read_in_the_end_is_unseen() {
    let sends = "p1 send a/0 1 -> 0\np1 send a/0 2 -> 1";
    shows(
        &["unseen", "high-watermark-regressed"],
        &in_the_end(sends, "0=1 hw=1"),
    );
    is_valid(&in_the_end(sends, "0=1 1=2 hw=2"));
    // Acknowledged or not makes the difference.
    is_valid(&in_the_end(
        "p1 send a/0 1 -> 0\np1 send a/0 2 -> info",
        "0=1 hw=1",
    ));
}

#[test]
fn what_was_deleted_with_its_topic_need_not_be_seen() {
    let story = |outcome: &str| {
        in_the_end(
            &format!("p1 send a/0 1 -> 0\np1 delete a -> {outcome}"),
            "hw=0",
        )
    };
    is_valid(&story("ok"));
    is_valid(&story("info"));
    shows(&["unseen", "high-watermark-regressed"], &story("fail"));
}

#[test]
fn a_value_whose_send_failed_is_not_read() {
    shows(&["g1a"], "p1 send a/0 1 -> fail\np2 poll a/0 0=1");
    is_valid("p1 send a/0 1 -> info\np2 poll a/0 0=1");
    // Neither before it failed.
    shows(
        &["g1a"],
        "p1 > send a/0 1\np2 poll a/0 0=1\np1 < send a/0 1 -> fail",
    );
}

#[test]
fn a_value_is_read_where_it_was_sent_and_not_before() {
    shows(
        &["unknown-value"],
        "p1 send a/0 1 -> 0\np2 poll a/0 0=1 1=7",
    );
    shows(&["unknown-value"], "p1 send a/1 1 -> info\np2 poll a/0 0=1");
    // Then it also stands before what was known when it was sent.
    shows(
        &["unknown-value", "realtime-order"],
        "p2 > poll\np2 < poll a/0 0=1\np1 > send a/0 1",
    );
    is_valid("p2 > poll\np1 > send a/0 1\np2 < poll a/0 0=1");
}

#[test]
fn one_poll_leaves_nothing_out() {
    let sends = "p1 send a/0 1 2 3 -> 0\np3 poll a/0 0=1 1=2 2=3\n";
    shows(&["int-poll-skip"], &format!("{sends}p2 poll a/0 0=1 2=3"));
    is_valid(&format!("{sends}p2 poll a/0 0=1 1=2 2=3"));
    // Parts of one poll follow each other.
    shows(
        &["int-poll-skip"],
        &format!("{sends}p2 poll a/0 0=1 a/0 2=3"),
    );
    is_valid(&format!("{sends}p2 poll a/0 0=1 a/0 1=2 2=3"));
}

#[test]
fn a_hole_at_which_nobody_knows_a_record_is_legitimate() {
    is_valid(
        "p1 send a/0 1 -> 0
         p1 send a/0 2 -> 2
         p2 assign a/0@0
         p2 poll a/0 0=1 2=2
         p1 > send a/0 3
         p2 poll a/0 5=3
         p3 > send a/0 4
         p2 poll a/0 9=4 -> fail",
    );
}

#[test]
fn one_poll_does_not_go_back() {
    let sends = "p1 send a/0 1 2 -> 0\n";
    shows(
        &["int-nonmonotonic-poll"],
        &format!("{sends}p2 poll a/0 1=2 0=1"),
    );
    shows(
        &["int-nonmonotonic-poll"],
        &format!("{sends}p2 poll a/0 0=1 0=1"),
    );
    is_valid(&format!("{sends}p2 poll a/0 0=1 1=2"));
}

#[test]
fn polls_of_a_process_leave_nothing_out() {
    let story = |next: &str| {
        format!(
            "p1 send a/0 1 2 3 -> 0
             p3 poll a/0 0=1 1=2 2=3
             p2 assign a/0@0
             p2 poll a/0 0=1
             {next}"
        )
    };
    shows(&["poll-skip"], &story("p2 poll a/0 2=3"));
    is_valid(&story("p2 poll a/0\np2 poll a/0 1=2 2=3"));
    // Another place was asked for, or forgotten.
    is_valid(&story("p2 assign a/0@2\np2 poll a/0 2=3"));
    is_valid(&story("p2 crash\np2 poll a/0 2=3"));
    // An assignment that did not happen changes nothing.
    shows(
        &["poll-skip"],
        &story("p2 assign a/0@2 -> fail\np2 poll a/0 2=3"),
    );
    // The assigned place is where it begins.
    shows(&["poll-skip"], &story("p2 assign a/0@0\np2 poll a/0 1=2"));
}

#[test]
fn polls_of_a_process_do_not_go_back() {
    let story =
        |next: &str| format!("p1 send a/0 1 2 -> 0\np2 assign a/0@0\np2 poll a/0 0=1 1=2\n{next}");
    shows(&["nonmonotonic-poll"], &story("p2 poll a/0 1=2"));
    shows(
        &["nonmonotonic-poll"],
        &story("p2 assign a/0@1\np2 poll a/0 0=1 1=2"),
    );
    is_valid(&story("p2 assign a/0@1\np2 poll a/0 1=2"));
    // Another process has another place; a poll that failed moves none.
    is_valid(&story("p3 poll a/0 1=2"));
    is_valid("p1 send a/0 1 -> 0\np2 assign a/0@0\np2 poll a/0 0=1 -> fail\np2 poll a/0 0=1");
}

#[test]
fn the_values_of_a_send_stand_one_after_the_other() {
    let story = |reads: &str| format!("p1 > send a/0 1 2\np3 > send a/0 3\n{reads}");
    shows(&["int-nonmonotonic-send"], &story("p2 poll a/0 0=2 1=1"));
    shows(
        &["int-nonmonotonic-send"],
        &story("p2 poll a/0 0=1 1=3 2=2"),
    );
    is_valid(&story("p2 poll a/0 0=1 1=2 2=3"));
    is_valid(&story("p2 poll a/0 0=3 1=1 2=2"));
}

#[test]
fn sends_of_a_process_do_not_go_back() {
    shows(
        &["nonmonotonic-send"],
        "p1 send a/0 1 -> 5\np1 send a/0 2 -> 3",
    );
    is_valid("p1 send a/0 1 -> 5\np1 send a/1 2 -> 3");
    is_valid("p1 send a/0 1 -> 3\np1 send a/0 2 -> 5");
    // The second one overlaps the first one's last offset.
    shows(
        &["nonmonotonic-send", "inconsistent-offsets"],
        "p1 send a/0 1 2 -> 5\np1 send a/0 3 -> 6",
    );
}

#[test]
fn a_send_stands_behind_what_was_known_when_it_began() {
    shows(
        &["realtime-order"],
        "p1 send a/0 1 -> 5\np2 send a/0 2 -> 3",
    );
    // At the same time any order will do.
    is_valid("p2 > send a/0 2\np1 send a/0 1 -> 5\np2 < send a/0 2 -> 3");
    // Of an unknown outcome, and read before it can be there.
    shows(
        &["realtime-order"],
        "p1 > send a/0 1\np3 poll a/0 5=1\np2 send a/0 2 -> info\np3 poll -> ok\np4 poll a/0 3=2",
    );
}

#[test]
fn a_value_is_read_where_it_was_acknowledged() {
    shows(&["offset-mismatch"], "p1 send a/0 1 -> 3\np2 poll a/0 2=1");
    is_valid("p1 send a/0 1 -> 3\np2 poll a/0 3=1");
    shows(&["offset-mismatch"], "p1 send a/0 1 -> -1\np2 poll a/0");
}

#[test]
fn nothing_is_shown_above_the_high_watermark() {
    let sends = "p1 send a/0 1 2 -> 0\n";
    shows(
        &["above-high-watermark"],
        &format!("{sends}p2 poll a/0 0=1 1=2 hw=1"),
    );
    is_valid(&format!("{sends}p2 poll a/0 0=1 1=2 hw=2"));
}

#[test]
fn a_high_watermark_goes_back_between_polls_but_not_in_the_end() {
    let sends = "p1 send a/0 1 -> 0\np1 > send a/0 2\np2 poll a/0 0=1 hw=2\np2 poll a/0 hw=1";
    is_valid(&in_the_end(sends, "0=1 1=2 hw=2"));
    // Somebody was told that there is a second record, which nobody ever saw.
    shows(
        &["high-watermark-regressed"],
        &in_the_end(sends, "0=1 hw=1"),
    );
}

#[test]
fn a_record_that_was_read_is_there_in_the_end() {
    let story =
        |reads: &str| in_the_end("p1 send a/0 1 2 -> info\np3 poll a/0 0=1 1=2 hw=2", reads);
    is_valid(&story("0=1 1=2 hw=2"));
    shows(&["high-watermark-regressed"], &story("hw=0"));
}

#[test]
fn what_a_client_is_given_is_not_damaged() {
    shows(
        &["damaged-data"],
        "p2 poll -> info damaged: crc of a/0 at 7",
    );
    shows(
        &["damaged-data"],
        "n1 has a/0 end=0 -> info damaged: padding",
    );
    is_valid("p2 poll -> info timed out: damaged: no");
}

#[test]
fn right_sequence_numbers_are_not_refused() {
    shows(
        &["sequence-refused"],
        "p1 send a/0 1 -> fail OUT_OF_ORDER_SEQUENCE_NUMBER: 3",
    );
    shows(
        &["sequence-refused"],
        "p1 send a/0 1 -> fail UNKNOWN_PRODUCER_ID",
    );
    is_valid("p1 send a/0 1 -> fail NOT_LEADER_OR_FOLLOWER");
    // Without a producer id there are none.
    is_valid("p1 resend a/0 1 -> fail UNKNOWN_PRODUCER_ID");
}

#[test]
fn lag_is_how_long_a_process_was_behind_at_least() {
    let events = events(
        "at 1
         p2 assign a/0@0
         at 10
         p1 send a/0 1 -> 0   # known at 11 ms
         at 20
         p1 send a/0 2 -> 1   # known at 21 ms
         at 30
         p2 poll a/0 0=1      # has 0, so it is behind since 21 ms
         at 50
         p2 poll a/0 1=2",
    );
    let lags: Vec<(u64, u64)> = lag_points(&events)
        .iter()
        .map(|point| (point.time_us, point.lag_us))
        .collect();
    assert_eq!(lags, [(30_000, 9_000), (50_000, 0)]);
}
