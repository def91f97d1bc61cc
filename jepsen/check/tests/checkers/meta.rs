//! Topics and settings.

use jepsen_check::{Limits, Outcome, check};

use crate::story::{events, is_valid, lenient, shows};

#[test]
fn a_created_topic_is_there() {
    shows(&["topic-lost"], "p1 create t 1\np2 describe t gone");
    shows(&["topic-lost"], "p1 create t 1\np2 list u");
    is_valid("p1 create t 1\np2 describe t 1\np2 list t u");
    // Not before it was acknowledged, nor once its deletion was asked for.
    is_valid("p1 > create t 1\np2 describe t gone\np1 < create t 1");
    is_valid("p1 create t 1\np1 > delete t\np2 describe t gone\np1 < delete t -> info");
    shows(
        &["topic-lost"],
        "p1 create t 1\np1 delete t -> fail\np2 describe t gone",
    );
}

#[test]
fn a_topic_that_was_seen_is_there_as_well() {
    shows(
        &["topic-lost"],
        "p1 create t 1 -> info\np2 describe t 1\np2 describe t gone",
    );
    shows(
        &["topic-lost"],
        "p1 create t 1 -> info\np2 describe t 1\np2 list",
    );
    is_valid("p1 create t 1 -> info\np2 describe t gone\np2 describe t 1");
}

#[test]
fn a_deleted_topic_stays_away() {
    shows(
        &["topic-resurrected"],
        "p1 create t 1\np1 delete t\np2 describe t 1",
    );
    shows(
        &["topic-resurrected"],
        "p1 create t 1\np1 delete t\np2 list t",
    );
    is_valid("p1 create t 1\np1 delete t\np2 describe t gone\np2 list");
    is_valid("p1 create t 1\np1 > delete t\np2 describe t 1\np1 < delete t\np2 list");
}

#[test]
fn a_deletion_that_was_seen_is_not_undone() {
    let story =
        |look: &str| format!("p1 create t 1\np1 delete t -> info\np2 describe t gone\n{look}");
    shows(&["topic-resurrected"], &story("p2 describe t 1"));
    shows(&["topic-resurrected"], &story("p2 list t"));
    is_valid(&story("p2 describe t gone"));
    // It may as well never happen, or late.
    is_valid("p1 create t 1\np1 delete t -> info\np2 describe t 1\np2 list\np2 list");
}

#[test]
fn a_topic_is_not_there_before_it_is_created_nor_if_that_failed() {
    shows(&["topic-phantom"], "p1 create t 1 -> fail\np2 describe t 1");
    shows(&["topic-phantom"], "p1 create t 1 -> fail\np2 list t");
    shows(&["topic-phantom"], "p2 list t\np1 create t 1 -> fail");
    shows(&["topic-phantom"], "p2 list t\np1 create t 1");
    is_valid("p2 list\np1 create t 1 -> fail\np2 list __consumer_offsets");
    is_valid("p1 create t 1 -> info\np2 describe t 1");
}

#[test]
fn a_topic_has_as_many_partitions_as_were_made() {
    shows(&["topic-partitions"], "p1 create t 3\np2 describe t 2");
    is_valid("p1 create t 3\np2 describe t 3");
}

#[test]
fn a_setting_is_read_back() {
    shows(
        &["config-nonlinearizable"],
        "p2 describe t r=0\np1 set t r=1\np2 describe t r=0",
    );
    shows(
        &["config-nonlinearizable"],
        "p2 describe t r=0\np1 set t r=1\np2 describe t s=0",
    );
    is_valid("p2 describe t r=0\np1 set t r=1\np2 describe t r=1");
    // While it is being set, both will do.
    is_valid("p2 describe t r=0\np1 > set t r=1\np2 describe t r=0\np2 describe t r=1");
}

#[test]
fn a_setting_does_not_go_back() {
    shows(
        &["config-nonlinearizable"],
        "p1 set t r=1\np1 > set t r=2\np2 describe t r=2\np2 describe t r=1",
    );
    shows(
        &["config-nonlinearizable"],
        "p1 set t r=1\np1 set t r=2\np2 describe t r=1",
    );
    // Two looks at the same time may see it in any order.
    is_valid(
        "p1 set t r=1\np1 > set t r=2\np2 > describe t\np3 describe t r=2\np2 < describe t r=1",
    );
}

#[test]
fn a_setting_of_unknown_outcome_comes_late_or_never_but_once() {
    let story = |looks: &str| format!("p1 set t r=1\np3 set t r=2 -> info\n{looks}");
    is_valid(&story("p2 describe t r=1\np2 describe t r=1"));
    is_valid(&story("p2 describe t r=1\np2 describe t r=2"));
    shows(
        &["config-nonlinearizable"],
        &story("p2 describe t r=2\np2 describe t r=1"),
    );
    // Another one is set in between, and then it comes late after all.
    is_valid(&story("p2 set t r=3\np2 describe t r=3\np2 describe t r=2"));
    shows(
        &["config-nonlinearizable"],
        &story("p2 describe t r=2\np2 set t r=3\np2 describe t r=3\np2 describe t r=2"),
    );
}

#[test]
fn a_setting_that_failed_is_not_read() {
    shows(
        &["config-nonlinearizable"],
        "p2 describe t r=0\np1 set t r=1 -> fail\np2 describe t r=1",
    );
    shows(
        &["config-nonlinearizable"],
        "p1 set t r=5\np2 describe t r=7\np2 describe t r=8",
    );
    is_valid("p2 describe t r=0\np1 set t r=1 -> fail\np2 describe t r=0");
}

#[test]
fn a_value_that_was_set_twice_needs_one_that_was_not_overwritten() {
    is_valid("p1 set t r=1\np1 set t r=2\np1 set t r=1\np2 describe t r=1");
    shows(
        &["config-nonlinearizable"],
        "p1 set t r=1\np1 set t r=1\np1 set t r=2\np2 describe t r=1",
    );
    // Set to what it was at first.
    is_valid("p2 describe t r=1\np1 set t r=2\np1 set t r=1\np2 describe t r=1");
    shows(
        &["config-nonlinearizable"],
        "p2 describe t r=1\np1 set t r=1\np1 set t r=2\np2 describe t r=1",
    );
}

#[test]
fn an_answer_may_be_as_old_as_is_allowed() {
    let story = "p1 create t 1\np1 set t r=1\np1 set t r=2\np2 describe t gone\np2 describe t r=1";
    shows(&["topic-lost", "config-nonlinearizable"], story);
    let allowed = |age_ms: u64| {
        let limits = Limits {
            metadata_age_us_max: age_ms * 1000,
            ..lenient()
        };
        check(&events(story), &limits).outcome
    };
    assert_eq!(allowed(10), Outcome::Valid);
    assert_eq!(allowed(1), Outcome::Anomaly);
    // In the end everybody knows everything.
    let late = story.replace("p2 describe t gone", "phase final\np2 describe t gone");
    let limits = Limits {
        metadata_age_us_max: 10_000,
        ..lenient()
    };
    assert_eq!(check(&events(&late), &limits).outcome, Outcome::Anomaly);
}
