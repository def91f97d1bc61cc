use super::sample;
use super::*;
use crate::check::verdict::{AnomalyName, Outcome};
use crate::check::{check, limits::Limits};
use crate::history::{Op, Process, Recorder};

fn about() -> About {
    About {
        title: "3 nodes <here>".to_owned(),
        seed: Some(42),
        settings: vec![("workload".to_owned(), "log".to_owned())],
        replay: "jepsen run --seed 42".to_owned(),
    }
}

/// The page of the sample with nothing wrong but its own anomalies.
fn sample_page(seconds: u64) -> (String, Verdict) {
    let (events, anomalies) = sample::history(seconds);
    let mut verdict = check(&[], &Limits::default());
    for anomaly in anomalies {
        verdict.add(anomaly);
    }
    (write(&events, &verdict, &about()), verdict)
}

#[test]
fn the_page_needs_nothing_from_elsewhere() {
    let (page, _) = sample_page(6);
    for elsewhere in [
        "http:", "https:", "<script", "<img", "<link", "@import", "url(",
    ] {
        assert!(!page.contains(elsewhere), "{elsewhere}");
    }
    assert!(page.contains("3 nodes &lt;here&gt;") && page.contains("jepsen run --seed 42"));
    assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    assert_eq!(page.matches("<a ").count(), page.matches("</a>").count());
}

#[test]
fn the_same_run_gives_the_same_page() {
    assert_eq!(sample_page(3).0, sample_page(3).0);
}

#[test]
fn every_anomaly_is_named_linked_and_drawn() {
    let (page, verdict) = sample_page(6);
    assert_eq!(verdict.outcome, Outcome::Anomaly);
    for (number, anomaly) in verdict.anomalies.iter().enumerate() {
        assert!(
            page.contains(&format!("id=\"anomaly-{number}\"")),
            "{}",
            anomaly.name
        );
        assert!(
            page.contains(&format!("<a href=\"#anomaly-{number}\">")),
            "{}",
            anomaly.name
        );
    }
    let missing = page.matches("class=\"cell-missing\"").count();
    assert!(
        missing >= 4,
        "the lost write is missing from the polls and three nodes: {missing}"
    );
    assert!(
        page.contains("class=\"arc\""),
        "the duplicate's offsets are joined"
    );
    assert!(
        page.contains("cell-rival-1"),
        "the contradicting value has a colour of its own"
    );
    assert!(
        page.contains("class=\"reader\""),
        "the way of the process that skipped is drawn"
    );
}

#[test]
fn a_long_run_is_thinned_out_but_for_what_anomalies_name() {
    let (short, _) = sample_page(8);
    let (long, verdict) = sample_page(32);
    assert!(
        long.len() < short.len() * 3,
        "{} against {}",
        long.len(),
        short.len()
    );
    let named: usize = verdict
        .anomalies
        .iter()
        .map(|anomaly| anomaly.events.len())
        .sum();
    assert_eq!(long.matches("class=\"loud-line\"").count(), named);
}

#[test]
fn a_run_in_which_nothing_happened_still_has_a_page() {
    let verdict = check(&[], &Limits::default());
    let page = write(&[], &verdict, &About::default());
    assert!(page.contains("Too little happened to tell") && page.contains("badge unknown"));
}

#[test]
fn what_is_about_no_partition_is_told_with_its_events() {
    let history = Recorder::new();
    history.invoke(5, Process::Client(3), Op::Crash);
    history.ok(9, Process::Client(3), Op::Crash);
    let events = history.finish().unwrap();
    let mut verdict = check(&events, &Limits::default());
    let mut anomaly = Anomaly::new(AnomalyName::Panicked, "node 2 ended by itself");
    anomaly.events = vec![1, 77];
    verdict.add(anomaly);
    let page = write(&events, &verdict, &About::default());
    assert!(page.contains("Beside partitions") && page.contains("crash: a new client"));
    assert_eq!(page.matches("node 2 ended by itself").count(), 2);
}

#[test]
fn more_processes_than_lanes_share_the_last_one() {
    let history = Recorder::new();
    for process in 0..500 {
        history.invoke(u64::from(process), Process::Client(process), Op::Crash);
    }
    let events = history.finish().unwrap();
    let page = write(
        &events,
        &check(&events, &Limits::default()),
        &About::default(),
    );
    assert!(page.matches("class=\"stripe\"").count() <= 20);
}
