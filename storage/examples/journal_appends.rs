//! Prints how many 1 KiB appends a second the journal makes durable, by number of writers that
//! each wait for their answer: `cargo run --release -p storage --example journal_appends [DIR]`.
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a measurement for people, which reads the clock"
)]

use std::error::Error;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use storage::disk::Disk;
use storage::journal::{Journal, JournalConfig, JournalEntry};
use storage::{LogIndex, LogPosition, ShardId, Term};

const RUN: Duration = Duration::from_secs(3);
const PAYLOAD_BYTES: usize = 1024;
/// The journal is purged after this many appends, so that its files are recycled.
const PURGE_EVERY: u64 = 20_000;

fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::args_os()
        .nth(1)
        .map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = dir.join(format!("journal-appends-{}", std::process::id()));
    for writers in [1, 16, 256] {
        let before = Instant::now();
        let journal = Journal::open(&Disk::Real, JournalConfig::new(dir.clone()))?;
        let opened = before.elapsed();
        // The first turn writes each file for the first time and is not counted.
        for is_counted in [false, true] {
            let (appends, mut latencies) = run(&journal, writers)?;
            latencies.sort_unstable();
            if is_counted {
                println!(
                    "{writers:>4} writers: {:>7.0} appends/s, p50 {:?}, p99 {:?} (opened in {opened:?})",
                    appends as f64 / RUN.as_secs_f64(),
                    latencies[latencies.len() / 2],
                    latencies[latencies.len() * 99 / 100],
                );
            }
        }
        journal.close();
        Disk::Real.remove_dir_all(&dir)?;
    }
    Ok(())
}

/// Writers that are callbacks: each appends again as soon as it is answered.
fn run(journal: &Journal, writers: usize) -> Result<(u64, Vec<Duration>), Box<dyn Error>> {
    let payload = Bytes::from(vec![7; PAYLOAD_BYTES]);
    let (sender, receiver) = mpsc::channel();
    let mut next = journal
        .shard_log(ShardId(0))
        .last
        .map_or(0, |last| last.index.0 + 1);
    let mut append = |_: usize| {
        let position = LogPosition {
            term: Term(1),
            index: LogIndex(next),
        };
        next += 1;
        let (sender, sent) = (sender.clone(), Instant::now());
        let entry = JournalEntry {
            position,
            pieces: vec![payload.clone()],
        };
        let synced = Box::new(move |result| drop(sender.send((result, position, sent.elapsed()))));
        journal.append(ShardId(0), vec![entry], synced)
    };
    (0..writers).try_for_each(&mut append)?;
    let (start, mut latencies) = (Instant::now(), Vec::new());
    let mut waiting = writers;
    while waiting > 0 {
        let (result, position, latency) = receiver.recv()?;
        result?;
        waiting -= 1;
        latencies.push(latency);
        if position.index.0 % PURGE_EVERY == 0 {
            journal.purge(ShardId(0), position, Box::new(|_| {}))?;
        }
        if start.elapsed() < RUN {
            append(0)?;
            waiting += 1;
        }
    }
    Ok((latencies.len() as u64, latencies))
}
