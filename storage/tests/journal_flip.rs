//! Flips every bit of every file of a small journal, one at a time, and opens it.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "test code, whose helpers the lint does not see as such"
)]

mod journal_support;

use std::path::{Path, PathBuf};

use storage::disk::{Disk, OpenMode, SimDisk};
use storage::journal::{self, Journal, JournalConfig, JournalError, JournalReport};
use storage::{LogIndex, LogPosition, ShardId};

use journal_support::{Answers, Model, Op};

/// The files of a journal directory, and what they hold.
struct Image {
    files: Vec<(String, Vec<u8>)>,
    model: Model,
    /// What it held before the last round.
    before_last: Model,
}

fn small_config() -> JournalConfig {
    JournalConfig {
        file_bytes: 8 << 10,
        round_bytes_max: 2 << 10,
        ..journal_support::config("/journal")
    }
}

/// A journal of three files with all kinds of frames, closed cleanly or cut off by a power cut.
fn image(is_closed: bool) -> Image {
    let (sim, disk, _) = journal_support::sim_disk(11);
    let config = small_config();
    let journal = Journal::open(&disk, config.clone()).unwrap();
    let (answers, mut model) = (Answers::new(), Model::default());
    let mut before_last = Model::default();
    let ops = [
        Op::Vote { shard: 0, vote: 1 },
        Op::Append {
            shard: 0,
            term: 1,
            sizes: vec![30, 600, 5],
        },
        Op::Append {
            shard: 7,
            term: 1,
            sizes: vec![1500, 1],
        },
        Op::Committed { shard: 0 },
        Op::Append {
            shard: 0,
            term: 2,
            sizes: vec![900],
        },
        Op::Truncate { shard: 7, count: 1 },
        Op::Append {
            shard: 7,
            term: 3,
            sizes: vec![700, 20],
        },
        Op::Purge {
            shard: 0,
            count: 0,
            wrong_term: false,
        },
        Op::Vote { shard: 0, vote: 3 },
        Op::Append {
            shard: 7,
            term: 3,
            sizes: vec![800, 900],
        },
        Op::Append {
            shard: 0,
            term: 3,
            sizes: vec![40, 7],
        },
    ];
    for op in &ops {
        before_last = model.clone();
        model.run(&journal, op, answers.synced(0)).unwrap();
        if !matches!(op, Op::Committed { .. }) {
            answers.next().1.unwrap();
        }
    }
    if !is_closed {
        sim.cut_power();
    }
    journal.close();
    if !is_closed {
        sim.crash(5);
    }
    let files = disk
        .read_dir(&config.dir)
        .unwrap()
        .into_iter()
        .map(|entry| {
            let bytes = disk.read_file(&config.dir.join(&entry.name)).unwrap();
            (entry.name, bytes)
        })
        .collect();
    Image {
        files,
        model,
        before_last,
    }
}

impl Image {
    fn disk(&self) -> (SimDisk, Disk) {
        let (sim, disk, config) = journal_support::sim_disk(1);
        for (name, bytes) in &self.files {
            let file = disk
                .open(&config.dir.join(name), OpenMode::CreateNew)
                .unwrap();
            file.write_all_at(bytes, 0).unwrap();
        }
        (sim, disk)
    }

    fn path(name: &str) -> PathBuf {
        Path::new("/journal").join(name)
    }
}

/// What a report says, in the words of the model, as far as it can.
fn says_all(report: &JournalReport, model: &Model) -> bool {
    let logs = model
        .shards
        .iter()
        .map(|(id, shard)| (*id, shard.log()))
        .collect::<Vec<_>>();
    report.shards == logs
}

/// Opens with a flipped bit; returns whether everything was there.
fn check_open(image: &Image, name: &str, bit: u64, may_lose_last_round: bool) -> bool {
    let (sim, disk) = image.disk();
    sim.flip_bit(&Image::path(name), bit).unwrap();
    match Journal::open(&disk, small_config()) {
        Err(JournalError::Corrupt { file, .. }) => {
            assert!(file.starts_with("/journal"));
            true
        }
        Err(JournalError::Unsupported { .. }) => true,
        Err(error) => panic!("{name} bit {bit}: {error}"),
        Ok(journal) => {
            let held = Model::of(&journal).unwrap().without_committed();
            let is_whole = held == image.model.without_committed();
            let is_allowed = may_lose_last_round && held == image.before_last.without_committed();
            assert!(is_whole || is_allowed, "{name} bit {bit}: {held:?}");
            sim.cut_power();
            journal.close();
            is_whole
        }
    }
}

/// Returns how many flips were found out, harmless, and cost the last round.
fn flip_all(image: &Image, may_lose_last_round: bool) -> (u32, u32, u32) {
    let (sim, disk) = image.disk();
    let (mut detected, mut harmless, mut lost) = (0, 0, 0);
    for (name, bytes) in &image.files {
        let path = Image::path(name);
        // The bytes of spare files mean nothing: a few of them will do.
        let step = if name.ends_with(".journal") { 1 } else { 101 };
        for bit in (0..bytes.len() as u64 * 8).step_by(step) {
            sim.flip_bit(&path, bit).unwrap();
            let report = journal::verify(&disk, &small_config().dir);
            sim.flip_bit(&path, bit).unwrap();
            let is_detected = match &report.error {
                None => false,
                Some(JournalError::Corrupt { .. }) => true,
                Some(error) => panic!("{name} bit {bit}: {error}"),
            };
            // What `verify` reads is what opening reads; opening each one would take minutes.
            if !is_detected && says_all(&report, &image.model) {
                harmless += 1;
                if bit % 61 == 0 {
                    assert!(check_open(image, name, bit, false));
                }
            } else if is_detected {
                detected += 1;
                if bit % 487 == 0 {
                    assert!(check_open(image, name, bit, false));
                }
            } else {
                assert!(may_lose_last_round, "{name} bit {bit}: {report:?}");
                assert!(
                    says_all(&report, &image.before_last),
                    "{name} bit {bit}: {report:?}"
                );
                lost += 1;
                if bit % 7 == 0 {
                    check_open(image, name, bit, true);
                }
            }
        }
    }
    (detected, harmless, lost)
}

#[test]
fn no_flipped_bit_of_a_closed_journal_is_believed_or_loses_anything() {
    let image = image(true);
    let (_, disk) = image.disk();
    let report = journal::verify(&disk, &small_config().dir);
    assert!(
        report.error.is_none() && report.is_sealed && report.files.len() >= 2,
        "{report:?}"
    );
    let (detected, harmless, lost) = flip_all(&image, false);
    println!("closed: {detected} flips detected, {harmless} harmless, {lost} cost the last round");
    assert!(detected > 50_000 && lost == 0);
}

#[test]
fn a_flipped_bit_of_a_journal_not_closed_costs_the_last_round_at_most() {
    let image = image(false);
    let (detected, harmless, lost) = flip_all(&image, true);
    println!("crashed: {detected} flips detected, {harmless} harmless, {lost} cost the last round");
    assert!(detected > 50_000 && lost > 0);
}

#[test]
fn damage_while_the_journal_is_open_is_found_on_reading() {
    let (sim, disk, config) = journal_support::sim_disk(2);
    let journal = Journal::open(&disk, config.clone()).unwrap();
    let (answers, mut model) = (Answers::new(), Model::default());
    let append = Op::Append {
        shard: 0,
        term: 1,
        sizes: vec![10, 300, 2000],
    };
    model.run(&journal, &append, answers.synced(0)).unwrap();
    answers.next().1.unwrap();
    let path = disk
        .read_dir(&config.dir)
        .unwrap()
        .into_iter()
        .find(|entry| entry.name.ends_with(".journal"))
        .map(|entry| config.dir.join(entry.name))
        .unwrap();
    let used = journal.held_bytes() * 8;
    let whole = Model::of(&journal).unwrap();
    let mut detected = 0;
    for bit in 0..used {
        sim.flip_bit(&path, bit).unwrap();
        match journal.read(ShardId(0), LogIndex(0), LogIndex(9), usize::MAX) {
            Err(JournalError::Corrupt { file, .. }) => {
                assert_eq!(file, path);
                detected += 1;
            }
            Err(error) => panic!("{error}"),
            Ok(entries) => {
                let entries: Vec<(LogPosition, Vec<u8>)> = entries
                    .into_iter()
                    .map(|it| (it.position, it.payload.to_vec()))
                    .collect();
                assert_eq!(entries, whole.shards[&ShardId(0)].entries);
            }
        }
        sim.flip_bit(&path, bit).unwrap();
    }
    assert!(detected >= 2310 * 8);
}

#[test]
fn a_missing_file_is_damage() {
    let image = image(true);
    let in_use = image
        .files
        .iter()
        .filter(|(name, _)| name.ends_with(".journal"));
    let in_use: Vec<&String> = in_use.map(|(name, _)| name).collect();
    assert!(in_use.len() >= 2);
    for name in &in_use[..in_use.len() - 1] {
        let (_, disk) = image.disk();
        disk.remove_file(&Image::path(name)).unwrap();
        let error = Journal::open(&disk, small_config()).unwrap_err();
        assert!(matches!(error, JournalError::Corrupt { .. }), "{error}");
    }
}

#[test]
fn a_newer_format_is_refused_and_not_taken_for_damage() {
    let image = image(true);
    let (_, disk) = image.disk();
    let (name, bytes) = image
        .files
        .iter()
        .find(|(name, _)| name.ends_with(".journal"))
        .unwrap();
    let mut header = bytes[..4096].to_vec();
    header[8] = 2;
    let crc = crc32fast::hash(&header[..4092]);
    header[4092..].copy_from_slice(&crc.to_le_bytes());
    let file = disk.open(&Image::path(name), OpenMode::ReadWrite).unwrap();
    file.write_all_at(&header, 0).unwrap();
    let error = Journal::open(&disk, small_config()).unwrap_err();
    assert!(
        matches!(error, JournalError::Unsupported { number: 2, .. }),
        "{error}"
    );
}
