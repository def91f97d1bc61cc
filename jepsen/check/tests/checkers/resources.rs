//! What nodes use.

use crate::story::{is_valid, shows};

fn samples(rss: impl Fn(u64) -> u64, open: impl Fn(u64) -> u64) -> String {
    (0..40)
        .map(|at| format!("node 2 rss={} open={}\n", rss(at), open(at)))
        .collect()
}

#[test]
fn memory_stays_below_its_limit() {
    let story = |peak: u64| samples(move |at| if at == 7 { peak } else { 1000 }, |_| 10);
    shows(&["memory-unbounded"], &story((4 << 20) + 1));
    is_valid(&story(4 << 20));
}

#[test]
fn memory_does_not_grow_with_time() {
    shows(&["memory-unbounded"], &samples(|at| at * 20_000, |_| 10));
    // Warming up, then level.
    is_valid(&samples(|at| at.min(10) * 40_000, |_| 10));
    // A restart in between.
    is_valid(&samples(|at| (at % 20) * 20_000, |_| 10));
}

#[test]
fn descriptors_stay_bounded() {
    shows(
        &["descriptors-unbounded"],
        &samples(|_| 1000, |at| if at == 39 { 10_001 } else { 10 }),
    );
    shows(
        &["descriptors-unbounded"],
        &samples(|_| 1000, |at| 100 + at * 40),
    );
    is_valid(&samples(|_| 1000, |at| 100 + at * 5));
}
