//! The modes that answer before the sync: what a crash may take back, and that the rest is as
//! strict as ever.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "test code, whose helpers the lint does not see as such"
)]

mod journal_support;

use std::io;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use storage::disk::{Disk, OpKind, SimDisk};
use storage::journal::{self, Journal, JournalConfig, JournalEntry, JournalError};
use storage::{Durability, LogIndex, LogPosition, ShardId, Term};

use journal_support::{Answers, DEADLINE, Model, Op, sim_disk};

const INTERVAL: Durability = Durability::Interval {
    bytes: 6_000,
    ms: 5,
};

fn relaxed(seed: u64, durability: Durability) -> (SimDisk, Disk, JournalConfig) {
    let (sim, disk, mut config) = sim_disk(seed);
    config.durability = durability;
    (sim, disk, config)
}

/// Changes over two shards that fill several files and let some be recycled.
fn script(seed: u64) -> Vec<Op> {
    let mut script = Vec::new();
    for turn in 0..8_u64 {
        let sizes = vec![700 + turn as usize * 90, 20, 1500];
        if (turn + seed).is_multiple_of(3) {
            script.push(Op::Vote {
                shard: 0,
                vote: turn,
            });
        }
        for shard in 0..2 {
            script.push(Op::Append {
                shard,
                term: turn,
                sizes: sizes.clone(),
            });
        }
        script.push(Op::Committed { shard: 0 });
        if turn % 3 == 1 {
            script.push(Op::Truncate { shard: 1, count: 2 });
        }
        if turn % 2 == 1 {
            for shard in 0..2 {
                script.push(Op::Purge {
                    shard,
                    count: 4,
                    wrong_term: false,
                });
            }
        }
        if turn == 5 {
            script.push(Op::Remove { shard: 1 });
        }
    }
    script
}

/// What a run left behind: the model after each number of changes, how many were issued and
/// answered, and how many are durable whatever happens.
struct Outcome {
    states: Vec<Model>,
    issued: usize,
    answered: usize,
    durable: usize,
    has_failed: bool,
}

fn run(journal: &Journal, script: &[Op]) -> Outcome {
    let answers = Answers::new();
    let mut model = Model::default();
    let mut outcome = Outcome {
        states: vec![model.clone()],
        issued: 0,
        answered: 0,
        durable: 0,
        has_failed: false,
    };
    for (at, op) in script.iter().enumerate() {
        if model.run(journal, op, answers.synced(at + 1)).is_err() {
            outcome.has_failed = true;
            break;
        }
        outcome.issued = at + 1;
        outcome.states.push(model.clone());
        if matches!(op, Op::Committed { .. }) {
            continue;
        }
        match answers.next() {
            (number, Ok(())) => {
                outcome.answered = number;
                if matches!(op, Op::Vote { .. } | Op::Remove { .. }) {
                    outcome.durable = number;
                }
            }
            (_, Err(_)) => {
                outcome.has_failed = true;
                break;
            }
        }
    }
    outcome
}

/// Checks that a journal holds what some number of changes made, at least `from`.
fn check_prefix(journal: &Journal, outcome: &Outcome, from: usize, what: &str) -> Model {
    let held = Model::of(journal).unwrap();
    let found = (from..=outcome.issued)
        .rev()
        .find(|at| outcome.states[*at].without_committed() == held.without_committed());
    let logs: Vec<_> = journal
        .shards()
        .iter()
        .map(|id| journal.shard_log(*id))
        .collect();
    let found = found.unwrap_or_else(|| {
        panic!(
            "{what}: no prefix of {from}..={} changes: {logs:?}",
            outcome.issued
        )
    });
    let mut model = outcome.states[found].clone();
    model.take_committed_of(journal);
    model
}

/// The journal works on, closes, and opens again with everything.
fn check_goes_on(disk: &Disk, config: &JournalConfig, journal: Journal, mut model: Model) {
    let answers = Answers::new();
    for shard in 0..2 {
        let sizes = vec![100, 900, 5000];
        let append = Op::Append {
            shard,
            term: 90,
            sizes,
        };
        model.run(&journal, &append, answers.synced(0)).unwrap();
        answers.next().1.unwrap();
    }
    journal.close();
    let journal = Journal::open(disk, config.clone()).unwrap();
    model.check(&journal);
}

/// One run that is cut at its `n_ops`-th operation; whether it came to its end before.
fn check_cut(seed: u64, n_ops: u64, durability: Durability) -> bool {
    let what = format!("seed {seed}, operation {n_ops}, {durability:?}");
    let (sim, disk, mut config) = relaxed(seed, durability);
    config.round_bytes_max = [300, 4_000][seed as usize % 2];
    sim.fail_after(n_ops);
    let Ok(journal) = Journal::open(&disk, config.clone()) else {
        return false;
    };
    let outcome = run(&journal, &script(seed));
    sim.cut_power();
    journal.close();
    let is_killed = seed.is_multiple_of(4);
    let from = if is_killed {
        sim.kill_processes();
        // Whatever was answered was written.
        outcome.answered
    } else {
        sim.crash(seed * 1_000 + n_ops);
        outcome.durable
    };
    // The power goes again while the journal is being opened.
    sim.fail_after(1 + (n_ops + seed) % 14);
    let first = JournalConfig {
        keeps_written: is_killed,
        ..config.clone()
    };
    match Journal::open(&disk, first) {
        Ok(journal) => {
            sim.cut_power();
            journal.close();
        }
        Err(error) => assert!(
            !matches!(error, JournalError::Corrupt { .. }),
            "{what}: {error}"
        ),
    }
    if is_killed {
        sim.kill_processes();
        let report = journal::verify_kept(&disk, &config.dir);
        assert!(report.error.is_none(), "{what}: {:?}", report.error);
    }
    sim.crash(seed * 1_000 + n_ops + 500);
    let from = if is_killed { outcome.durable } else { from };
    let journal =
        Journal::open(&disk, config.clone()).unwrap_or_else(|error| panic!("{what}: {error}"));
    let model = check_prefix(&journal, &outcome, from, &what);
    // What was believed on opening stays.
    sim.cut_power();
    journal.close();
    sim.crash(seed * 1_000 + n_ops + 700);
    let journal =
        Journal::open(&disk, config.clone()).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(
        Model::of(&journal).unwrap().without_committed(),
        model.without_committed(),
        "{what}"
    );
    check_goes_on(&disk, &config, journal, model);
    !outcome.has_failed
}

#[test]
fn a_power_cut_takes_back_only_a_tail_that_was_not_synced_and_no_vote() {
    for seed in 0..8 {
        let durability = if seed % 2 == 0 {
            Durability::Os
        } else {
            INTERVAL
        };
        let mut n_ops = 1;
        while !check_cut(seed, n_ops, durability) {
            n_ops += 1;
            assert!(n_ops < 2_000, "it never ends");
        }
        assert!(n_ops > 40, "the script is too short to mean something");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_cut_leaves_a_journal_that_opens(seed in 0_u64..100_000, n_ops in 1_u64..150, bytes in 1_u64..40_000) {
        let durability = match bytes % 3 {
            0 => Durability::Os,
            _ => Durability::Interval { bytes, ms: 1 + bytes % 20 },
        };
        check_cut(seed, n_ops, durability);
    }
}

#[test]
fn a_killed_process_loses_nothing_in_any_mode() {
    for durability in [Durability::Os, INTERVAL] {
        for n_ops in [30, 45, 60, 90, 400] {
            let (sim, disk, config) = relaxed(n_ops, durability);
            let journal = Journal::open(&disk, config.clone()).unwrap();
            sim.fail_after(n_ops);
            let outcome = run(&journal, &script(1));
            sim.cut_power();
            journal.close();
            sim.kill_processes();
            let kept = JournalConfig {
                keeps_written: true,
                ..config.clone()
            };
            let journal = Journal::open(&disk, kept).unwrap();
            let model = check_prefix(&journal, &outcome, outcome.answered, "killed");
            check_goes_on(&disk, &config, journal, model);
        }
    }
}

/// One entry, answered: one round.
fn append(journal: &Journal, model: &mut Model, answers: &Answers, size: usize) {
    let append = Op::Append {
        shard: 0,
        term: 1,
        sizes: vec![size],
    };
    model.run(journal, &append, answers.synced(0)).unwrap();
    answers.next().1.unwrap();
}

#[test]
fn damage_below_what_is_known_to_be_synced_is_refused_and_above_it_is_a_torn_tail() {
    let (sim, disk, config) = relaxed(1, Durability::Os);
    let dir = config.dir.clone();
    let journal = Journal::open(&disk, config.clone()).unwrap();
    let (mut model, answers) = (Model::default(), Answers::new());
    (0..5).for_each(|_| append(&journal, &mut model, &answers, 300));
    let vote = Op::Vote { shard: 0, vote: 7 };
    model.run(&journal, &vote, answers.synced(0)).unwrap();
    answers.next().1.unwrap();
    let durable = model.clone();
    (0..5).for_each(|_| append(&journal, &mut model, &answers, 300));
    sim.cut_power();
    journal.close();
    sim.kill_processes();

    let names = disk.read_dir(&dir).unwrap();
    let file = names
        .iter()
        .map(|entry| dir.join(&entry.name))
        .find(|path| {
            path.extension()
                .is_some_and(|extension| extension == "journal")
        })
        .unwrap();
    // The state goes with the first round; the others take 512 bytes each.
    let bit = |round: u64| (4096 + (round - 1) * 512 + 20) * 8;
    let opened = |round: u64| {
        sim.flip_bit(&file, bit(round)).unwrap();
        let report = journal::verify(&disk, &dir);
        sim.flip_bit(&file, bit(round)).unwrap();
        report
    };
    for round in 1..=6 {
        let report = opened(round);
        let is_corrupt = matches!(report.error, Some(JournalError::Corrupt { .. }));
        assert!(is_corrupt, "round {round}: {:?}", report.error);
    }
    for round in 7..=11 {
        let report = opened(round);
        assert!(report.error.is_none(), "round {round}: {:?}", report.error);
        // Damage to the very last one looks like a round that was never written.
        assert!(report.has_torn_round || round == 11, "round {round}");
    }
    // Where no power was lost, what is behind it was written later.
    for round in 1..=11 {
        sim.flip_bit(&file, bit(round)).unwrap();
        let report = journal::verify_kept(&disk, &dir);
        let is_corrupt = matches!(report.error, Some(JournalError::Corrupt { .. }));
        assert_eq!(is_corrupt, round < 11, "round {round}: {:?}", report.error);
        let kept = JournalConfig {
            keeps_written: true,
            ..config.clone()
        };
        if round < 11 {
            let error = Journal::open(&disk, kept).map(|_| ()).unwrap_err();
            assert!(matches!(error, JournalError::Corrupt { .. }), "{error}");
        }
        sim.flip_bit(&file, bit(round)).unwrap();
    }
    sim.flip_bit(&file, bit(7)).unwrap();
    let journal = Journal::open(&disk, config.clone()).unwrap();
    assert_eq!(
        Model::of(&journal).unwrap().without_committed(),
        durable.without_committed()
    );
    check_goes_on(&disk, &config, journal, durable);
}

#[test]
fn a_clean_close_syncs_everything() {
    for seed in 0..20 {
        let (sim, disk, config) = relaxed(seed, Durability::Os);
        let journal = Journal::open(&disk, config.clone()).unwrap();
        let outcome = run(&journal, &script(seed));
        assert!(!outcome.has_failed);
        journal.close();
        sim.crash(seed);
        assert!(journal::verify(&disk, &config.dir).is_sealed);
        let journal = Journal::open(&disk, config).unwrap();
        outcome.states[outcome.issued].check(&journal);
    }
}

#[test]
fn what_must_not_be_forgotten_is_synced_before_it_is_answered_in_every_mode() {
    for (seed, is_of_shard) in (0..30).flat_map(|seed| [(seed, true), (seed, false)]) {
        let (sim, disk, mut config) = relaxed(seed, Durability::Os);
        config.always_synced = is_of_shard.then_some(ShardId(1));
        let journal = Journal::open(&disk, config.clone()).unwrap();
        let answers = Answers::new();
        let position = LogPosition {
            term: Term(1),
            index: LogIndex(4),
        };
        let pieces = vec![vec![7; 600].into()];
        let entries = vec![JournalEntry { position, pieces }];
        match is_of_shard {
            true => journal.append(ShardId(1), entries, answers.synced(0)),
            false => journal.append_always_synced(ShardId(1), entries, answers.synced(0)),
        }
        .unwrap();
        answers.next().1.unwrap();
        sim.crash(seed);
        drop(journal);
        let journal = Journal::open(&disk, config).unwrap();
        assert_eq!(journal.shard_log(ShardId(1)).last, Some(position));
    }
}

#[test]
fn a_sync_behind_comes_by_time_and_by_bytes_and_its_failure_fails_the_journal() {
    let by_time = Durability::Interval {
        bytes: u64::MAX,
        ms: 10,
    };
    let by_bytes = Durability::Interval {
        bytes: 5_000,
        ms: 3_600_000,
    };
    for (durability, count) in [(by_time, 1), (by_bytes, 10)] {
        let (sim, disk, config) = relaxed(3, durability);
        let journal = Journal::open(&disk, config).unwrap();
        let (sender, receiver) = std::sync::mpsc::channel();
        journal.on_failure(Box::new(move |error| sender.send(error).unwrap()));
        let (mut model, answers) = (Model::default(), Answers::new());
        // All syncs of the files made ahead are done once the spare is there.
        for nth in 1..4 {
            sim.inject(OpKind::Sync, nth, io::ErrorKind::Other);
        }
        for _ in 0..count {
            let append = Op::Append {
                shard: 0,
                term: 1,
                sizes: vec![600],
            };
            if model.run(&journal, &append, answers.synced(0)).is_err() {
                break;
            }
            drop(answers.next());
        }
        let error = receiver.recv_timeout(DEADLINE).unwrap();
        assert!(
            matches!(error, JournalError::Io { action: "sync", .. }),
            "{error}"
        );
        assert!(journal.failed().is_some());
        let vote = Op::Vote { shard: 0, vote: 1 };
        assert!(model.run(&journal, &vote, answers.synced(0)).is_err());
    }
}

#[test]
fn files_are_recycled_though_nothing_is_synced_before_it_is_answered() {
    for durability in [Durability::Os, INTERVAL] {
        let (_, disk, config) = relaxed(4, durability);
        let journal = Journal::open(&disk, config.clone()).unwrap();
        let (mut model, answers) = (Model::default(), Answers::new());
        let mut most = 0;
        for turn in 0..400 {
            append(&journal, &mut model, &answers, 900);
            if turn % 5 == 4 {
                let purge = Op::Purge {
                    shard: 0,
                    count: 4,
                    wrong_term: false,
                };
                model.run(&journal, &purge, answers.synced(0)).unwrap();
                answers.next().1.unwrap();
            }
            most = most.max(journal.held_bytes());
        }
        // A disk that syncs late keeps files for longer, but not for ever.
        assert!(
            most < 30 * journal_support::FILE_BYTES,
            "{durability:?}: {most}"
        );
        let held = || journal.held_bytes() < 8 * journal_support::FILE_BYTES;
        let (_sender, pause) = std::sync::mpsc::channel::<()>();
        for _ in 0..1_000 {
            if held() {
                break;
            }
            append(&journal, &mut model, &answers, 100);
            assert!(pause.recv_timeout(Duration::from_millis(1)).is_err());
        }
        assert!(held(), "{durability:?}: {}", journal.held_bytes());
        check_goes_on(&disk, &config, journal, model);
    }
}

#[test]
fn a_removed_shard_begins_again_blank() {
    for durability in [Durability::Fsync, Durability::Os] {
        let (sim, disk, config) = relaxed(5, durability);
        let journal = Journal::open(&disk, config.clone()).unwrap();
        let (mut model, answers) = (Model::default(), Answers::new());
        (0..60).for_each(|_| append(&journal, &mut model, &answers, 700));
        for op in [
            Op::Vote { shard: 0, vote: 3 },
            Op::Purge {
                shard: 0,
                count: 9,
                wrong_term: false,
            },
            Op::Remove { shard: 0 },
        ] {
            model.run(&journal, &op, answers.synced(0)).unwrap();
            answers.next().1.unwrap();
        }
        assert_eq!(journal.shard_log(ShardId(0)), journal::ShardLog::default());
        // Entries from 0 on again, queued with the removal still in the same round or not.
        append(&journal, &mut model, &answers, 50);
        model
            .run(&journal, &Op::Remove { shard: 0 }, answers.synced(0))
            .unwrap();
        let again = Op::Append {
            shard: 0,
            term: 2,
            sizes: vec![10, 20],
        };
        model.run(&journal, &again, answers.synced(0)).unwrap();
        model
            .run(&journal, &Op::Committed { shard: 0 }, answers.synced(0))
            .unwrap();
        (0..2).for_each(|_| answers.next().1.unwrap());
        model.check(&journal);
        journal.close();
        sim.crash(1);
        let journal = Journal::open(&disk, config.clone()).unwrap();
        model.check(&journal);
        assert_eq!(journal.shard_log(ShardId(0)).last.unwrap().index.0, 1);
        assert!(disk.exists(Path::new(&config.dir)).unwrap());
    }
}
