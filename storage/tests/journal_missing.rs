//! Files of a journal that are gone or too short: said, never taken for a shorter journal.

use std::path::Path;
use std::sync::mpsc;

use bytes::Bytes;
use storage::disk::{Disk, OpenMode, SimDisk};
use storage::journal::{Journal, JournalConfig, JournalEntry, JournalError, verify};
use storage::{LogIndex, LogPosition, ShardId, Term};

const DIR: &str = "/journal";
const FILE_BYTES: u64 = 16 << 10;
const SHARD: ShardId = ShardId(1);

fn open(disk: &SimDisk) -> Result<Journal, JournalError> {
    let mut config = JournalConfig::new(DIR.into());
    config.file_bytes = FILE_BYTES;
    Journal::open(&Disk::Sim(disk.clone()), config)
}

/// Appends entries, each durable before the next.
fn append(journal: &Journal, indexes: std::ops::Range<u64>) {
    for index in indexes {
        let (done, wait) = mpsc::channel();
        let position = LogPosition {
            term: Term(1),
            index: LogIndex(index),
        };
        let entry = JournalEntry {
            position,
            pieces: vec![Bytes::from(vec![7; 300])],
        };
        let synced = Box::new(move |result| done.send(result).expect("somebody waits"));
        journal
            .append(SHARD, vec![entry], synced)
            .expect("appended");
        wait.recv().expect("answered").expect("synced");
    }
}

/// Name and bytes of every file that a killed process left, over two lives, oldest first.
fn left_behind() -> Vec<(String, Vec<u8>)> {
    let disk = SimDisk::new(3);
    let journal = open(&disk).expect("opens");
    append(&journal, 0..60);
    disk.kill_processes();
    drop(journal);
    let journal = open(&disk).expect("opens again");
    append(&journal, 60..130);
    disk.kill_processes();
    drop(journal);
    let disk = Disk::Sim(disk);
    let mut files: Vec<_> = disk
        .read_dir(Path::new(DIR))
        .expect("listed")
        .into_iter()
        .map(|entry| {
            let bytes = disk
                .read_file(&Path::new(DIR).join(&entry.name))
                .expect("read");
            (entry.name, bytes)
        })
        .collect();
    files.sort();
    files
}

/// A disk with these files.
fn disk_with(files: &[(String, Vec<u8>)]) -> SimDisk {
    let sim = SimDisk::new(4);
    let disk = Disk::Sim(sim.clone());
    disk.create_dir_all(Path::new(DIR)).expect("made");
    for (name, bytes) in files {
        let file = disk
            .open(&Path::new(DIR).join(name), OpenMode::CreateNew)
            .expect("made");
        file.write_all_at(bytes, 0).expect("written");
    }
    sim
}

fn in_use(files: &[(String, Vec<u8>)]) -> Vec<usize> {
    (0..files.len())
        .filter(|at| files[*at].0.ends_with(".journal"))
        .collect()
}

fn is_refused(files: &[(String, Vec<u8>)]) -> bool {
    matches!(open(&disk_with(files)), Err(JournalError::Corrupt { .. }))
}

#[test]
fn what_is_left_opens_whole() {
    let files = left_behind();
    assert!(in_use(&files).len() >= 3, "several files in use");
    let journal = open(&disk_with(&files)).expect("opens");
    assert_eq!(
        journal.shard_log(SHARD).last.map(|last| last.index),
        Some(LogIndex(129))
    );
}

#[test]
fn any_file_that_is_gone_is_missed() {
    let files = left_behind();
    for at in in_use(&files) {
        let mut fewer = files.clone();
        let (name, _) = fewer.remove(at);
        assert!(is_refused(&fewer), "{name} is gone");
    }
    let newest = *in_use(&files).last().expect("files");
    let mut fewer = files.clone();
    fewer.drain(newest - 1..=newest);
    assert!(is_refused(&fewer), "the newest two are gone");
}

#[test]
fn a_file_cut_within_what_it_holds_is_seen_as_such() {
    let files = left_behind();
    let report = verify(&Disk::Sim(disk_with(&files)), Path::new(DIR));
    for (at, report) in in_use(&files).into_iter().zip(report.files) {
        let used_bytes = usize::try_from(report.used_bytes).expect("small");
        for len in (0..used_bytes).step_by(64).chain([used_bytes - 1]) {
            let mut cut = files.clone();
            cut[at].1.truncate(len);
            assert!(is_refused(&cut), "{} cut to {len} bytes", files[at].0);
        }
    }
}
