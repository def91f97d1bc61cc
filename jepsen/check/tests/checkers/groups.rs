//! Consumer groups.

use jepsen_check::{Limits, Outcome, check};

use crate::story::{events, is_valid, lenient, shows};

/// Values 1 to 4 at offsets 0 to 3 of a/0, which everybody reads in the end.
fn with_log(story: &str) -> String {
    format!("p9 send a/0 1 2 3 4 -> 0\n{story}\np8 assign a/0@0\np8 poll a/0 0=1 1=2 2=3 3=4 hw=4")
}

/// What one member of generation 1 reads and commits, up to offset 2.
const TWO_READ: &str = "p1 join g m1 1 a/0
p1 committed g a/0@-1
p1 assign a/0@0
p1 poll a/0 0=1 1=2 hw=4
p1 commit g m1 1 a/0@2
";

#[test]
fn a_group_that_hands_over_is_valid() {
    is_valid(&with_log(&format!(
        "{TWO_READ}p1 leave g m1
p2 join g m2 2 a/0
p2 committed g a/0@2
p2 assign a/0@2
p2 poll a/0 2=3 3=4 hw=4
p2 commit g m2 2 a/0@4
p1 committed g a/0@4"
    )));
}

#[test]
fn what_was_committed_is_seen_later() {
    let seen = |offset: i64| with_log(&format!("{TWO_READ}p2 committed g a/0@{offset}"));
    is_valid(&seen(2));
    shows(&["committed-offset-lost"], &seen(-1));
    // Of another group that says nothing.
    is_valid(&with_log(&format!("{TWO_READ}p2 committed h a/0@-1")));
    // Nor of a look that began before the commit was acknowledged.
    let early = |mark: &str| {
        with_log(&format!(
            "p1 join g m1 1 a/0
p1 assign a/0@0
p1 poll a/0 0=1 1=2 hw=4
{mark}p1 > commit g m1 1 a/0@2
p2 > committed g a/0@-1
p1 < commit g m1 1 a/0@2
p2 < committed g a/0@-1"
        ))
    };
    is_valid(&early(""));
    shows(
        &["committed-offset-lost"],
        &early("p1 commit g m1 1 a/0@1\n"),
    );
}

#[test]
fn a_commit_of_unknown_outcome_counts_or_not_and_once_it_was_seen_it_stays() {
    let story = |after: &str| {
        with_log(&format!(
            "{TWO_READ}p1 poll a/0 2=3 hw=4\np1 commit g m1 1 a/0@3 -> info\n{after}"
        ))
    };
    is_valid(&story("p2 committed g a/0@2"));
    is_valid(&story("p2 committed g a/0@2\np2 committed g a/0@3"));
    shows(
        &["committed-offset-lost"],
        &story("p2 committed g a/0@3\np2 committed g a/0@2"),
    );
}

#[test]
fn what_nobody_committed_is_not_seen() {
    let story = |outcome: &str, seen: i64| {
        with_log(&format!(
            "{TWO_READ}p1 poll a/0 2=3 hw=4
p1 commit g m1 1 a/0@3 -> {outcome}
p2 committed g a/0@{seen}"
        ))
    };
    is_valid(&story("ok", 3));
    is_valid(&story("info", 3));
    is_valid(&story("fail", 2));
    shows(&["committed-offset-phantom"], &story("fail", 3));
    shows(&["committed-offset-phantom"], &story("ok", 4));
    let begun = |mark: &str| {
        with_log(&format!(
            "{TWO_READ}p1 poll a/0 2=3 hw=4\n{mark}p1 commit g m1 1 a/0@3"
        ))
    };
    is_valid(&begun("p2 committed g a/0@2\n"));
    shows(
        &["committed-offset-phantom"],
        &begun("p2 committed g a/0@3\n"),
    );
}

#[test]
fn a_partition_has_one_owner_in_a_generation() {
    let story = |generation: u32, member: &str| {
        format!("p1 join g m1 3 a/0 b/0\np2 join g {member} {generation} b/0")
    };
    is_valid(&story(4, "m2"));
    is_valid(&story(3, "m1"));
    shows(&["two-owners"], &story(3, "m2"));
    is_valid("p1 join g m1 3 a/0\np2 join g m2 3 b/0\np3 join h m3 3 a/0");
}

#[test]
fn generations_begin_anew_where_a_group_without_members_changes_its_protocol() {
    // The empty group of one protocol made way for one of the other.
    let story =
        |second: &str| format!("p1 join g m1 3 a/0\np1 leave g m1\np2 join g {second} 3 a/0");
    is_valid(&story("k2"));
    shows(&["two-owners"], &story("m2"));
    // Of the new group it holds as of any.
    shows(
        &["two-owners"],
        "p1 join g m1 3 a/0
p1 leave g m1
p3 > join g k3 2
p2 join g k2 2 a/0
p3 < join g k3 2 a/0",
    );
}

#[test]
fn nobody_is_told_of_what_another_still_owns() {
    // The last sign of life of the first one began before the second was told, or after it.
    is_valid(
        "p1 join g m1 3 a/0\np1 beat g m1 3 a/0\np2 join g m2 4 a/0\np1 beat g m1 3 a/0 -> fail",
    );
    shows(
        &["two-owners"],
        "p1 join g m1 3 a/0\np2 join g m2 4 a/0\np1 beat g m1 3 a/0",
    );
    // It was answered later, but began before.
    is_valid(
        "p1 join g m1 3 a/0
p1 > beat g m1 3 a/0
p2 join g m2 4 a/0
p1 < beat g m1 3 a/0",
    );
    // The second one does not get it but when the first has given it back.
    is_valid(
        "p1 join g m1 3 a/0 b/0
p1 beat g m1 3 a/0 b/0 | b/0
p1 beat g m1 4 b/0
p2 join g m2 4 a/0
p1 beat g m1 4 b/0",
    );
    shows(
        &["two-owners"],
        "p1 join g m1 3 a/0 b/0
p1 beat g m1 3 a/0 b/0 | b/0
p2 join g m2 4 a/0
p1 beat g m1 3 a/0 b/0 | b/0",
    );
}

#[test]
fn who_left_died_or_joined_anew_owns_nothing() {
    for over in ["leave g m1", "crash", "join g m1 4"] {
        is_valid(&format!(
            "p1 join g m1 3 a/0\np1 {over}\np2 join g m2 4 a/0\np1 beat g m1 5"
        ));
    }
}

#[test]
fn a_member_that_lost_a_partition_commits_nothing() {
    let story = |outcome: &str, second: &str| {
        with_log(&format!(
            "{TWO_READ}p1 poll a/0 2=3 hw=4\n{second}p1 commit g m1 1 a/0@3 -> {outcome}"
        ))
    };
    let second = "p2 join g m2 2 a/0\n";
    is_valid(&story("fail", second));
    is_valid(&story("info", second));
    is_valid(&story("ok", ""));
    shows(&["zombie-commit"], &story("ok", second));
}

#[test]
fn who_joins_anew_and_holds_on_owns_what_it_holds() {
    // In a cooperative group: what was not given back is given to nobody.
    let story = |second: &str, held: &str| {
        format!(
            "p1 join g m1 3 a/0 b/0
p2 join g m2 {second}
p1 join g m1 4 {held}"
        )
    };
    is_valid(&story("4", "a/0 b/0 | a/0"));
    is_valid(&story("4 b/0", "a/0 | a/0"));
    shows(&["two-owners"], &story("4 b/0", "a/0 b/0 | a/0"));
    // Whose join was refused may have been forgotten long ago.
    is_valid(&story("4 b/0", "a/0 b/0 -> fail"));
}

#[test]
fn an_instance_that_comes_back_in_its_generation_owns_what_it_owned() {
    let story = |second: &str| format!("p1 join g m1:i 3 a/0 b/0\np1 crash\np2 join g {second}");
    is_valid(&story("m2:i 3 a/0 b/0"));
    is_valid(&story("m2:i 4 b/0"));
    is_valid(&story("m2:j 4 b/0"));
    shows(&["static-reassigned"], &story("m2:i 3 a/0"));
    shows(&["static-reassigned"], &story("m2:i 3 a/0 b/0 c/0"));
    // Another instance is not the same one.
    shows(&["two-owners"], &story("m2:j 3 a/0"));
    // The same member that asks again is told what is its own by then.
    is_valid("p1 join g m1:i 3 a/0 b/0\np1 join g m1:i 3 a/0");
    // A group of KIP-848 tells more in the same epoch, as others give it back.
    is_valid(&story("m2:i 3 a/0\np3 join g k3 3 b/0"));
}

#[test]
fn an_instance_that_was_taken_over_is_fenced() {
    let story = |after: &str| {
        with_log(&format!(
            "p1 join g m1:i 1 a/0
p1 assign a/0@0
p1 poll a/0 0=1 1=2 hw=4
p2 join g m2:i 1 a/0
p1 {after}"
        ))
    };
    is_valid(&story("commit g m1 1 a/0@2 -> fail"));
    is_valid(&story("beat g m1:i 1 a/0 -> fail"));
    shows(&["zombie-commit"], &story("commit g m1 1 a/0@2"));
    shows(&["two-owners"], &story("beat g m1:i 1 a/0"));
}

#[test]
fn a_client_that_tells_no_generation_owns_what_its_commits_prove() {
    let story = |between: &str| {
        with_log(&format!(
            "p1 join g r1 -1 a/0
p1 assign a/0@0
p1 poll a/0 0=1 1=2 hw=4
{between}p1 commit g r1 -1 a/0@2"
        ))
    };
    is_valid(&story(""));
    is_valid(&story("p2 join g r2 -1 b/0\n"));
    shows(&["zombie-commit"], &story("p2 join g r2 -1 a/0\n"));
    // That it believes to hold on to something proves nothing.
    is_valid("p1 join g r1 -1 a/0 b/0\np2 join g r2 -1 b/0\np1 join g r1 -1 a/0 b/0 | a/0");
}

#[test]
fn a_group_that_never_came_to_rest_proves_nothing() {
    let limits = Limits {
        group_rests_min: 1,
        ..lenient()
    };
    let of = |story: &str| {
        let story = format!("p9 commit g - -1 a/0@0 b/0@0\n{story}");
        let verdict = check(&events(&story), &limits);
        (verdict.outcome, verdict.stats.groups["g"].clone())
    };
    // Half of it has no owner, or the owners are not of one generation.
    let half = of("p1 join g m1 3 a/0");
    assert_eq!((half.0, half.1.rests), (Outcome::Unknown, 0));
    let split = of("p1 join g m1 3 a/0\np2 join g m2 4 b/0");
    assert_eq!((split.0, split.1.rests), (Outcome::Unknown, 0));
    let late = of("phase heal\np1 join g m1 3 a/0 b/0");
    assert_eq!((late.0, late.1.rests), (Outcome::Unknown, 0));
    let both = of(
        "p1 join g m1 3 a/0\np2 join g m2 4 b/0\np1 join g m1 4 a/0\np1 crash\np2 join g m2 5 a/0 b/0",
    );
    assert_eq!((both.0, both.1.rests), (Outcome::Valid, 2));
    assert_eq!(both.1.generations, 3);
    let silent = of("p1 join g r1 -1 a/0\np2 join g r2 -1 b/0");
    assert_eq!((silent.0, silent.1.rests), (Outcome::Valid, 1));
    let back = of("p1 join g m1:i 3 a/0 b/0\np1 crash\np2 join g m2:i 3 a/0 b/0");
    assert_eq!((back.1.rests, back.1.returns), (2, 1));
}

#[test]
fn everything_below_a_commit_was_read() {
    let story = |reads: &str, offset: i64| {
        with_log(&format!(
            "p1 join g m1 1 a/0\np1 assign a/0@0\np1 poll {reads} hw=4\np1 commit g m1 1 a/0@{offset}"
        ))
    };
    is_valid(&story("a/0 0=1 1=2", 2));
    is_valid(&story("a/0 0=1 1=2", 1));
    shows(&["group-skip"], &story("a/0 0=1 1=2", 3));
    shows(&["group-skip"], &story("b/0", 1));
    // Somebody else in the group read it, or only somebody outside.
    let other = |join: &str| {
        with_log(&format!(
            "{join}p2 assign a/0@0\np2 poll a/0 0=1 hw=4\np1 join g m1 2 a/0\np1 commit g m1 2 a/0@1"
        ))
    };
    is_valid(&other("p2 join g m2 1 a/0\n"));
    shows(&["group-skip"], &other("p2 join h m2 1 a/0\n"));
    shows(&["group-skip"], &other(""));
}

#[test]
fn a_new_owner_begins_where_the_group_stood() {
    let story = |from: i64, reads: &str| {
        with_log(&format!(
            "{TWO_READ}p2 join g m2 2 a/0\np2 assign a/0@{from}\np2 poll a/0 {reads} hw=4"
        ))
    };
    is_valid(&story(2, "2=3"));
    shows(&["group-reread"], &story(1, "1=2 2=3"));
    // What was not committed when it was told may come again.
    is_valid(&with_log(
        "p1 join g m1 1 a/0
p1 assign a/0@0
p1 poll a/0 0=1 1=2 hw=4
p2 > join g m2 2 a/0
p1 commit g m1 1 a/0@2
p2 < join g m2 2 a/0
p2 assign a/0@0
p2 poll a/0 0=1 hw=4",
    ));
}

#[test]
fn a_group_reaches_the_end_in_time() {
    let healed = |after: &str| {
        with_log(&format!(
            "{TWO_READ}at 10000\nphase healed\np9 send a/0 5 -> 4\n{after}"
        ))
        .replace("3=4 hw=4", "3=4 4=5 hw=5")
    };
    let all = "p1 poll a/0 2=3 3=4 4=5 hw=5\np1 commit g m1 1 a/0@5";
    is_valid(&healed(&format!("at 99000\n{all}")));
    shows(&["group-not-live"], &healed(&format!("at 101000\n{all}")));
    shows(
        &["group-not-live"],
        &healed("p1 poll a/0 2=3 3=4 hw=5\np1 commit g m1 1 a/0@4\nat 101000"),
    );
    // Where it had not its time nothing is known.
    let whole = Limits {
        whole_run: true,
        ..lenient()
    };
    let verdict = check(&events(&healed("")), &whole);
    assert_eq!(verdict.outcome, Outcome::Unknown);
    let because = verdict.unknown_because.join("; ");
    assert!(because.contains("group g had its time"), "{because}");
}

#[test]
fn too_few_commits_of_members_prove_nothing() {
    let limits = Limits {
        commits_ok_min: 1,
        ..lenient()
    };
    let none = with_log("p1 commit g m1 1 a/0@0 -> fail");
    assert_eq!(check(&events(&none), &limits).outcome, Outcome::Unknown);
    assert_eq!(
        check(&events(&with_log(TWO_READ)), &limits).outcome,
        Outcome::Valid
    );
}
