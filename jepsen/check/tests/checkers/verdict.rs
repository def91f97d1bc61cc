//! When a history proves nothing, and what a verdict looks like.

use jepsen_check::history::Event;
use jepsen_check::{Anomaly, AnomalyName, Limits, Outcome, Verdict, check};

use crate::story::{events, lenient};

/// A whole run in which everything was right and enough happened.
const WHOLE: &str = "
    phase faults
    p1 send a/0 1 -> 0
    nemesis kill
    p1 send a/0 2 -> 1
    nemesis kill undone
    phase heal
    p1 send a/0 3 -> 2
    phase final
    p2 assign a/0@0
    p2 poll a/0 0=1 1=2 2=3 hw=3
    n1 has a/0 0=1 1=2 2=3 end=3
    n2 has a/0 0=1 1=2 2=3 end=3
    phase end";

fn strict() -> Limits {
    Limits {
        sends_ok_min: 3,
        polls_ok_min: 1,
        faults_expected: vec!["kill".to_owned()],
        ..Limits::default()
    }
}

#[track_caller]
fn is_unknown(events: &[Event], limits: &Limits, because: &str) {
    let verdict = check(events, limits);
    assert_eq!(verdict.outcome, Outcome::Unknown, "{:?}", verdict.anomalies);
    assert!(
        verdict
            .unknown_because
            .iter()
            .any(|why| why.contains(because)),
        "{verdict:?}"
    );
}

#[test]
fn a_whole_run_is_valid() {
    let verdict = check(&events(WHOLE), &strict());
    assert_eq!(verdict.outcome, Outcome::Valid, "{verdict:?}");
}

#[test]
fn nothing_at_all_is_unknown() {
    is_unknown(&[], &Limits::default(), "sends were acknowledged");
    is_unknown(&[], &strict(), "did not come to phase `end`");
}

#[test]
fn too_little_is_unknown() {
    let story = events(WHOLE);
    is_unknown(
        &story,
        &Limits {
            sends_ok_min: 4,
            ..strict()
        },
        "only 3 sends",
    );
    is_unknown(
        &story,
        &Limits {
            polls_ok_min: 2,
            ..strict()
        },
        "only 1 polls",
    );
    is_unknown(
        &story,
        &Limits {
            admin_ok_min: 1,
            ..strict()
        },
        "only 0 changes of topics",
    );
    is_unknown(
        &story,
        &Limits {
            replicas_min: 3,
            ..strict()
        },
        "only 2 replicas of a/0",
    );
}

#[test]
fn polls_that_return_nothing_prove_nothing() {
    let story = events("p1 send a/0 1 -> 0\np2 poll a/0 hw=0");
    is_unknown(
        &story,
        &Limits {
            polls_ok_min: 1,
            ..lenient()
        },
        "only 0 polls returned records",
    );
}

#[test]
fn a_partition_without_an_acknowledged_send_is_unknown() {
    let limits = Limits {
        key_sends_ok_min: 1,
        ..lenient()
    };
    let story = "p1 send a/0 1 -> 0\np1 send b/0 2 -> ";
    is_unknown(
        &events(&format!("{story}fail")),
        &limits,
        "only 0 sends to b/0",
    );
    assert_eq!(
        check(&events(&format!("{story}0")), &limits).outcome,
        Outcome::Valid
    );
}

#[test]
fn a_fault_that_never_took_effect_is_unknown() {
    is_unknown(
        &events("nemesis kill -> fail\nnemesis kill -> info"),
        &lenient(),
        "`kill` never",
    );
    let one = events("nemesis kill -> fail\nnemesis kill -> ok");
    assert_eq!(check(&one, &lenient()).outcome, Outcome::Valid);
    let asked = Limits {
        faults_expected: vec!["pause".to_owned()],
        ..lenient()
    };
    is_unknown(&one, &asked, "`pause` never took effect");
    let other = events("nemesis kill -> ok\nnemesis pause -> info");
    assert_eq!(check(&other, &lenient()).outcome, Outcome::Valid);
    is_unknown(&other, &asked, "`pause` never took effect");
}

#[test]
fn a_run_that_was_cut_short_is_unknown() {
    let (cut, _) = WHOLE.split_once("phase end").unwrap();
    is_unknown(&events(cut), &strict(), "did not come to phase `end`");
    let (cut, _) = WHOLE.split_once("phase final").unwrap();
    is_unknown(&events(cut), &strict(), "did not come to phase `final`");
}

#[test]
fn a_final_phase_that_read_nothing_in_a_hurry_is_unknown() {
    let unread = WHOLE.replace("p2 poll a/0 0=1 1=2 2=3 hw=3", "p2 poll -> info");
    is_unknown(
        &events(&unread),
        &strict(),
        "3 values due in a/0 were not read",
    );
    // It had its time.
    let late = unread.replace("phase end", "at 40000\nphase end");
    assert_eq!(
        check(&events(&late), &strict()).anomaly_counts[&AnomalyName::Unseen],
        3
    );
}

#[test]
fn a_replica_that_was_not_shown_is_unknown() {
    let silent = WHOLE.replace("phase end", "n3 has a/0 end=0 -> info\nphase end");
    is_unknown(
        &events(&silent),
        &strict(),
        "node 3 did not show its replica of a/0",
    );
}

#[test]
fn a_replica_that_was_moved_away_need_not_be_shown() {
    let moved = WHOLE.replace("phase end", "n3 has a/0 end=0 -> fail\nphase end");
    let verdict = check(&events(&moved), &strict());
    assert_eq!(verdict.outcome, Outcome::Valid, "{verdict:?}");
}

#[test]
fn an_anomaly_is_one_however_little_happened() {
    let verdict = check(
        &events("p1 send a/0 1 -> fail\np2 poll a/0 0=1"),
        &Limits::default(),
    );
    assert_eq!(verdict.outcome, Outcome::Anomaly);
    assert!(!verdict.unknown_because.is_empty());
}

#[test]
fn what_is_no_history_is_unknown() {
    let mut gap = events(WHOLE);
    gap.remove(2);
    is_unknown(&gap, &strict(), "this is no history");
    let twice = events("p1 send a/0 1 -> 0\np2 send a/0 1 -> 1");
    is_unknown(&twice, &lenient(), "values are unique");
}

#[test]
fn the_same_history_gives_the_same_bytes() {
    let story = "p1 send a/0 1 -> 5\np1 send a/0 2 -> 3\np2 poll a/0 3=9 4=8 2=7\np2 poll b/0 0=1";
    let json = || check(&events(story), &lenient()).to_json().unwrap();
    assert_eq!(json(), json());
    let back: Verdict = serde_json::from_str(&json()).unwrap();
    assert_eq!(back, check(&events(story), &lenient()));
    assert_eq!(back.to_json().unwrap(), json());
}

#[test]
fn lists_are_bounded_and_counts_are_not() {
    let reads: String = (0..50).map(|at| format!(" {at}={at}")).collect();
    let verdict = check(&events(&format!("p1 poll a/0{reads}")), &lenient());
    assert_eq!(verdict.anomaly_counts[&AnomalyName::UnknownValue], 50);
    assert_eq!(verdict.anomalies.len(), 20);
}

#[test]
fn what_is_seen_outside_the_history_is_added() {
    let mut verdict = check(&events(WHOLE), &strict());
    for _ in 0..30 {
        verdict.add(Anomaly::new(
            AnomalyName::Panicked,
            "node 1 ended by itself",
        ));
    }
    assert_eq!(verdict.outcome, Outcome::Anomaly);
    assert_eq!(verdict.anomaly_counts[&AnomalyName::Panicked], 30);
    assert_eq!(verdict.anomalies.len(), 20);
}

#[test]
fn figures_tell_what_happened() {
    let story = "
        phase faults
        p1 send a/0 1 -> 0
        nemesis kill
        at 1000
        p2 send a/0 2 -> fail
        p2 send a/0 3 4 -> info
        p1 send a/0 5 -> 3
        at 3000
        nemesis kill undone
        p3 assign a/0@0
        p3 poll a/0 0=1 1=3
        at 5000
        p3 poll a/0 2=4
        node 1 rss=100 open=7
        phase heal";
    let stats = check(&events(story), &lenient()).stats;
    let sends = &stats.operations["send"];
    assert_eq!(
        (sends.invoked, sends.ok, sends.fail, sends.info),
        (4, 2, 1, 1)
    );
    assert_eq!((sends.latency_us.count, sends.latency_us.max), (2, 1000));
    assert_eq!(sends.errors["timed out"], 2);
    let kill = &stats.faults["kill"];
    assert_eq!((kill.begun, kill.took_effect), (1, 1));
    assert_eq!((kill.sends_ok, kill.sends_fail, kill.sends_info), (1, 1, 1));
    assert!(
        (1_900_000..2_100_000).contains(&(kill.lasted_us - 1_000_000)),
        "{}",
        kill.lasted_us
    );
    let key = &stats.keys["a/0"];
    assert_eq!(
        (key.acknowledged, key.unknown, key.unknown_seen, key.read),
        (2, 2, 2, 3)
    );
    assert_eq!(key.last_offset, Some(3));
    assert_eq!(stats.nodes[&1].descriptors_max, 7);
    // At 5 s the process had offset 2; offset 3 had been acknowledged at about 1 s.
    assert_eq!(stats.lag_us.count, 2);
    assert!(
        (3_900_000..4_000_000).contains(&stats.lag_us.max),
        "{:?}",
        stats.lag_us
    );
}

#[test]
fn every_anomaly_is_documented() {
    let text = include_str!("../../ANOMALIES.md");
    for name in AnomalyName::ALL {
        assert!(
            text.contains(&format!("| `{name}`")),
            "{name} is not in ANOMALIES.md"
        );
    }
}
