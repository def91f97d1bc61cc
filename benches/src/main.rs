//! Measurements. `cargo run --release -p benches [-- SECONDS]` runs micro-benchmarks of the produce
//! path, each step beside the one it rests on; `-- cluster BINARY [PARTITIONS,...]` measures what a
//! cluster of three processes does when nodes go and come; `-- compaction BINARY [RECORDS] [KEYS]
//! [KILLS] [VALUE_BYTES]` checks a compacted topic on a node that is killed again and again;
//! `-- compaction-pace BINARY [BATCHES_PER_SECOND] [ALTERNATIONS] [SECONDS] [KEYS]` what producers
//! notice of compaction; `-- limits`, `-- one-by-one` and `-- evict` are what `cargo xtask bench`
//! needs beside `braidlog bench`: what the machine can do, clients of other kinds of brokers, and
//! files out of the page cache.
//!
//! What counts is the ratio of the lines of one run; the numbers themselves are this machine's, at
//! this moment.
#![expect(clippy::print_stdout, reason = "its output is what it is for")]

mod append;
mod cluster;
mod compaction;
mod compaction_pace;
mod journal;
mod limits;
mod one_by_one;
mod validate;

use std::path::{Path, PathBuf};

use storage::clock::Clock;
use storage::disk::Disk;

/// One line of the result.
struct Line {
    what: String,
    per_second: f64,
    bytes_each: usize,
}

impl Line {
    fn print(&self) {
        let mib = self.per_second * as_f64(self.bytes_each) / f64::from(1 << 20);
        println!(
            "{:<44} {:>12.0} /s {mib:>10.1} MiB/s",
            self.what, self.per_second
        );
    }
}

/// Counts are far below 2^52.
#[expect(clippy::cast_precision_loss, reason = "only for display")]
fn as_f64(number: usize) -> f64 {
    number as f64
}

/// How often `step` runs in a second, tried for `seconds`.
fn rate(seconds: i64, mut step: impl FnMut()) -> f64 {
    let clock = Clock::system();
    let mut steps = 0;
    while clock.monotonic_ms() < seconds * 1_000 {
        for _ in 0..16 {
            step();
        }
        steps += 16;
    }
    as_f64(steps) * 1_000.0 / as_f64(usize::try_from(clock.monotonic_ms()).unwrap_or(1))
}

/// A directory of this run, removed at its end.
struct TempDir(PathBuf);

impl TempDir {
    fn new(name: &str) -> TempDir {
        TempDir(Path::new("target").join(format!("bench-{name}-{}", std::process::id())))
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        if let Err(error) = Disk::Real.remove_dir_all(&self.0) {
            println!("{} is left behind: {error}", self.0.display());
        }
    }
}

fn main() -> std::process::ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "cluster") {
        return cluster::run(&arguments[1..]);
    }
    if arguments.first().is_some_and(|first| first == "compaction") {
        return compaction::run(&arguments[1..]);
    }
    if arguments
        .first()
        .is_some_and(|first| first == "compaction-pace")
    {
        return compaction_pace::run(&arguments[1..]);
    }
    match arguments.first().map(String::as_str) {
        Some("limits") => return said(limits::run(&arguments[1..])),
        Some("one-by-one") => return said(one_by_one::run(&arguments[1..])),
        Some("evict") => return said(limits::evict(&arguments[1..])),
        _ => {}
    }
    micro();
    std::process::ExitCode::SUCCESS
}

/// Prints an outcome as one line of JSON, or why there is none.
fn said(outcome: Result<serde_json::Value, String>) -> std::process::ExitCode {
    match outcome {
        Ok(value) => {
            println!("{value}");
            std::process::ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("error: {problem}");
            std::process::ExitCode::FAILURE
        }
    }
}

fn micro() {
    let seconds = std::env::args()
        .nth(1)
        .and_then(|arg| arg.parse().ok())
        .unwrap_or(2);
    for line in validate::run(seconds) {
        line.print();
    }
    for line in journal::run(seconds) {
        line.print();
    }
    for line in append::run(seconds) {
        line.print();
    }
}
