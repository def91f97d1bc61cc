//! Whether it works again once it is healed.

use jepsen_check::{Limits, Outcome, check};

use crate::story::{events, is_valid, lenient, shows};

fn healed(after: &str) -> String {
    format!("p1 send a/0 1 -> 0\np1 send b/0 2 -> 0\nat 10000\nphase heal\n{after}")
}

#[test]
fn each_partition_takes_a_write_in_time() {
    is_valid(&healed("at 39000\np1 send a/0 3 -> 1\np1 send b/0 4 -> 1"));
    shows(
        &["not-live"],
        &healed("p1 send a/0 3 -> 1\nat 40001\np1 send b/0 4 -> 1"),
    );
    shows(
        &["not-live"],
        &healed("p1 send a/0 3 -> 1\np1 send b/0 4 -> fail\nat 50000\np1 crash"),
    );
}

#[test]
fn the_time_counts_from_where_all_is_healed() {
    let story = |note: &str| {
        healed(&format!(
            "at 35000\n{note}\nat 41000\np1 send a/0 3 -> 1\np1 send b/0 4 -> 1"
        ))
    };
    is_valid(&story("phase healed"));
    shows(&["not-live"], &story(""));
}

#[test]
fn a_write_that_began_before_healing_proves_nothing() {
    let before = "p1 send a/0 1 -> 0\np1 > send a/0 2\nphase heal\np1 < send a/0 2 -> 1";
    is_valid(&format!("{before}\np1 send a/0 3 -> 2\nat 40000\np1 crash"));
    shows(
        &["not-live"],
        &format!("{before}\np1 send a/0 3 -> fail\nat 40000\np1 crash"),
    );
}

#[test]
fn a_deleted_partition_need_not_live() {
    is_valid(&healed(
        "p1 delete b\np1 send a/0 3 -> 1\np1 send b/0 4 -> fail\nat 50000\np1 crash",
    ));
}

#[test]
fn where_nobody_tried_or_waited_nothing_is_known() {
    let whole = Limits {
        whole_run: true,
        ..lenient()
    };
    let because = |story: &str| {
        let verdict = check(&events(story), &whole);
        assert_eq!(verdict.outcome, Outcome::Unknown);
        verdict.unknown_because.join("; ")
    };
    assert!(because(&healed("p1 send a/0 3 -> 1")).contains("nobody wrote to b/0 after healing"));
    let early = because(&healed("p1 send a/0 3 -> 1\np1 send b/0 4 -> info"));
    assert!(early.contains("ended before b/0 had its time"), "{early}");
    assert!(because("p1 send a/0 1 -> 0").contains("nothing was healed"));
}
