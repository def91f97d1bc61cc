//! The journal alone: entries made durable a second, by writers that each wait for theirs.

use std::sync::mpsc;
use std::thread;

use bytes::Bytes;
use storage::clock::Clock;
use storage::disk::Disk;
use storage::journal::{Journal, JournalConfig, JournalEntry};
use storage::{LogIndex, LogPosition, ShardId, Term};

use crate::{Line, TempDir, as_f64};

const ENTRY_BYTES: usize = 1024;

pub(crate) fn run(seconds: i64) -> Vec<Line> {
    [1, 16, 256]
        .into_iter()
        .map(|writers| one(writers, seconds))
        .collect()
}

/// Each writer has a shard of its own, so that none waits for another's index.
fn one(writers: u32, seconds: i64) -> Line {
    let dir = TempDir::new("journal");
    let journal = Journal::open(&Disk::Real, JournalConfig::new(dir.0.clone()));
    let journal = journal.expect("a fresh journal opens");
    let clock = Clock::system();
    let payload = Bytes::from(vec![7; ENTRY_BYTES]);
    let entries: usize = thread::scope(|scope| {
        let handles: Vec<_> = (0..writers)
            .map(|shard| {
                let (journal, clock, payload) = (journal.clone(), clock.clone(), payload.clone());
                scope.spawn(move || write(&journal, ShardId(shard), &payload, &clock, seconds))
            })
            .collect();
        handles
            .into_iter()
            .map(|handle| handle.join().expect("a writer"))
            .sum()
    });
    let elapsed_ms = usize::try_from(clock.monotonic_ms()).unwrap_or(1);
    journal.close();
    Line {
        what: format!("journal, 1 KiB entries, {writers} writers, synced"),
        per_second: as_f64(entries) * 1_000.0 / as_f64(elapsed_ms),
        bytes_each: ENTRY_BYTES,
    }
}

fn write(journal: &Journal, shard: ShardId, payload: &Bytes, clock: &Clock, seconds: i64) -> usize {
    let (done, wait) = mpsc::channel();
    let mut index = 0;
    while clock.monotonic_ms() < seconds * 1_000 {
        let position = LogPosition {
            term: Term(1),
            index: LogIndex(index),
        };
        let entry = JournalEntry {
            position,
            pieces: vec![payload.clone()],
        };
        let done = done.clone();
        let synced = Box::new(move |result| {
            // The writer is there until it has its answer.
            let _ = done.send(result);
        });
        journal
            .append(shard, vec![entry], synced)
            .expect("the journal takes it");
        wait.recv().expect("it answers").expect("it syncs");
        index += 1;
        if index % 1_000 == 0 {
            let upto = LogPosition {
                term: Term(1),
                index: LogIndex(index - 1),
            };
            journal
                .purge(shard, upto, Box::new(|_| {}))
                .expect("the journal purges");
        }
    }
    usize::try_from(index).unwrap_or(0)
}
