//! Power cuts, failing disks and full disks, at every operation of a scripted workload.
//!
//! The journal is one ordered queue, so after any of these it must hold what some prefix of the
//! changes made, a prefix that reaches at least to the last change answered with success.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "test code, whose helpers the lint does not see as such"
)]

mod journal_support;

use std::io;

use proptest::prelude::*;
use storage::disk::{Disk, OpKind};
use storage::journal::{Journal, JournalConfig};
use storage::{LogIndex, ShardId};

use journal_support::{Answers, DEADLINE, Model, Op, sim_disk};

/// About forty changes over two shards that fill several files and let some be recycled.
fn script() -> Vec<Op> {
    let mut script = Vec::new();
    for turn in 0..8_u64 {
        let sizes = vec![700 + turn as usize * 90, 20, 1500];
        script.push(Op::Vote {
            shard: 0,
            vote: turn,
        });
        script.push(Op::Append {
            shard: 0,
            term: turn / 2,
            sizes: sizes.clone(),
        });
        script.push(Op::Append {
            shard: 1,
            term: turn,
            sizes,
        });
        script.push(Op::Committed { shard: 0 });
        if turn % 3 == 1 {
            script.push(Op::Truncate { shard: 1, count: 2 });
            script.push(Op::Append {
                shard: 1,
                term: turn + 1,
                sizes: vec![300, 2500],
            });
        }
        if turn % 2 == 1 {
            script.push(Op::Purge {
                shard: 0,
                count: 4,
                wrong_term: false,
            });
            script.push(Op::Purge {
                shard: 1,
                count: 3,
                wrong_term: turn == 5,
            });
        }
    }
    script
}

/// What a run left behind: the model after each number of changes, and how many were answered.
struct Outcome {
    states: Vec<Model>,
    durable: usize,
    issued: usize,
    has_failed: bool,
}

/// Runs the script until the journal fails, waiting for an answer after every `stride` changes.
fn run(journal: &Journal, mut model: Model, script: &[Op], stride: usize) -> Outcome {
    let answers = Answers::new();
    let mut states = vec![model.clone()];
    let (mut durable, mut issued, mut has_failed) = (0, 0, false);
    let mut waiting = 0;
    for (at, op) in script.iter().enumerate() {
        if model.run(journal, op, answers.synced(at + 1)).is_err() {
            has_failed = true;
            break;
        }
        issued = at + 1;
        waiting += usize::from(!matches!(op, Op::Committed { .. }));
        states.push(model.clone());
        if at % stride == stride - 1 || at + 1 == script.len() {
            for _ in 0..std::mem::take(&mut waiting) {
                match answers.next() {
                    (number, Ok(())) => {
                        assert!(number > durable, "answers come in order");
                        assert!(!has_failed, "nothing succeeds after a failure");
                        durable = number;
                    }
                    (_, Err(_)) => has_failed = true,
                }
            }
        }
        if has_failed {
            break;
        }
    }
    Outcome {
        states,
        durable,
        issued,
        has_failed,
    }
}

/// Checks that a reopened journal holds a lawful prefix; returns it.
fn check_prefix(held: Model, journal: &Journal, outcome: &Outcome) -> Model {
    let found = (outcome.durable..=outcome.issued)
        .rev()
        .find(|at| outcome.states[*at].without_committed() == held.without_committed());
    let Some(found) = found else {
        panic!(
            "the journal holds no prefix of {}..={} changes: {:?}",
            outcome.durable,
            outcome.issued,
            journal
                .shards()
                .iter()
                .map(|id| journal.shard_log(*id))
                .collect::<Vec<_>>()
        );
    };
    for (id, shard) in &held.shards {
        let Some(committed) = &shard.committed else {
            continue;
        };
        let saved = outcome.states[..=outcome.issued].iter().any(|state| {
            state
                .shards
                .get(id)
                .is_some_and(|it| it.committed.as_ref() == Some(committed))
        });
        assert!(saved, "a committed position is one that was saved");
    }
    let mut model = outcome.states[found].clone();
    model.take_committed_of(journal);
    model
}

/// What was committed lies in the log, as long as the script never truncates it.
fn check_committed(journal: &Journal) {
    let log = journal.shard_log(ShardId(0));
    if let Some(committed) = log.committed {
        let index = u64::from_le_bytes(committed[..].try_into().unwrap());
        assert!(log.last.is_some_and(|last| index <= last.index.0));
    }
}

/// The journal works on, closes, and opens again with everything.
fn check_goes_on(disk: &Disk, config: &JournalConfig, journal: &Journal, mut model: Model) {
    let answers = Answers::new();
    for (shard, vote) in [(0, 77), (1, 78)] {
        model
            .run(journal, &Op::Vote { shard, vote }, answers.synced(0))
            .unwrap();
        let sizes = vec![100, 900, 5000];
        model
            .run(
                journal,
                &Op::Append {
                    shard,
                    term: 90,
                    sizes,
                },
                answers.synced(0),
            )
            .unwrap();
        answers.next().1.unwrap();
        answers.next().1.unwrap();
    }
    journal.close();
    let journal = Journal::open(disk, config.clone()).unwrap();
    model.check(&journal);
}

#[test]
fn a_power_cut_at_any_operation_loses_nothing_answered_and_invents_nothing() {
    for seed in 0..8 {
        let mut n_ops = 1;
        loop {
            let (sim, disk, mut config) = sim_disk(seed);
            config.spare_files = 1 + seed as usize % 3;
            sim.fail_after(n_ops);
            let stride = [1, 3, 7, 40][seed as usize % 4];
            let outcome = match Journal::open(&disk, config.clone()) {
                Ok(journal) => {
                    let outcome = run(&journal, Model::default(), &script(), stride);
                    sim.cut_power();
                    journal.close();
                    outcome
                }
                Err(_) => Outcome {
                    states: vec![Model::default()],
                    durable: 0,
                    issued: 0,
                    has_failed: true,
                },
            };
            sim.crash(seed * 1000 + n_ops);

            // The power goes again while the journal is being opened.
            sim.fail_after(1 + (n_ops + seed) % 12);
            if let Ok(journal) = Journal::open(&disk, config.clone()) {
                match Model::of(&journal) {
                    Ok(held) => drop(check_prefix(held, &journal, &outcome)),
                    Err(error) => assert!(!sim.is_powered(), "{error}"),
                }
                sim.cut_power();
                journal.close();
            }
            sim.crash(seed * 1000 + n_ops + 500);

            let journal = Journal::open(&disk, config.clone())
                .unwrap_or_else(|error| panic!("seed {seed}, operation {n_ops}: {error}"));
            let model = check_prefix(Model::of(&journal).unwrap(), &journal, &outcome);
            check_committed(&journal);
            check_goes_on(&disk, &config, &journal, model);
            if !outcome.has_failed {
                let least = if stride == 1 { 100 } else { 40 };
                assert!(n_ops > least, "the script is too short to mean something");
                break;
            }
            n_ops += 1;
        }
    }
}

/// Runs the script with one fault injected, then reopens after a crash or a restart.
fn check_fault(kind: OpKind, nth: u64, error: io::ErrorKind, seed: u64) -> bool {
    let (sim, disk, config) = sim_disk(seed);
    let journal = Journal::open(&disk, config.clone()).unwrap();
    sim.inject(kind, nth, error);
    let outcome = run(
        &journal,
        Model::default(),
        &script(),
        1 + (seed as usize + nth as usize) % 9,
    );
    if outcome.has_failed {
        let failure = journal.failed().expect("a failed journal says so");
        let answers = Answers::new();
        let vote = Op::Vote { shard: 0, vote: 1 };
        let refused = Model::default()
            .run(&journal, &vote, answers.synced(0))
            .unwrap_err();
        assert_eq!(refused.to_string(), failure.to_string());
        assert!(
            journal
                .read(ShardId(0), LogIndex(0), LogIndex(9), 9)
                .is_err()
        );
        let (sender, receiver) = std::sync::mpsc::channel();
        journal.on_failure(Box::new(move |error| sender.send(error).unwrap()));
        receiver.recv_timeout(DEADLINE).unwrap();
    }
    sim.cut_power();
    journal.close();
    // A restarted process still sees in memory what a failed sync has left there.
    if nth.is_multiple_of(2) {
        sim.crash(seed + nth)
    } else {
        sim.kill_processes()
    }
    let journal = Journal::open(&disk, config.clone()).unwrap();
    let model = check_prefix(Model::of(&journal).unwrap(), &journal, &outcome);
    // What was believed on opening stays, whatever the page cache had in it.
    sim.cut_power();
    journal.close();
    sim.crash(seed + nth + 1);
    let journal = Journal::open(&disk, config.clone()).unwrap();
    assert_eq!(
        Model::of(&journal).unwrap().without_committed(),
        model.without_committed()
    );
    check_goes_on(&disk, &config, &journal, model);
    outcome.has_failed
}

#[test]
fn a_failed_sync_or_write_is_never_answered_with_success() {
    for kind in [OpKind::Sync, OpKind::Write] {
        let mut failed = 0;
        for nth in 1..90 {
            for seed in 0..2 {
                failed += u32::from(check_fault(kind, nth, io::ErrorKind::Other, seed));
            }
        }
        assert!(failed > 40, "{kind:?}: only {failed}");
    }
}

#[test]
fn faults_of_names_and_space_lose_nothing_either() {
    for kind in [
        OpKind::Rename,
        OpKind::SyncDir,
        OpKind::Remove,
        OpKind::Allocate,
        OpKind::Create,
    ] {
        for nth in 1..12 {
            check_fault(kind, nth, io::ErrorKind::Other, nth);
            check_fault(kind, nth, io::ErrorKind::StorageFull, nth);
        }
    }
}

/// Waits until `condition` holds.
fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let (sender, receiver) = std::sync::mpsc::channel::<()>();
    let mut tries = 0;
    while !condition() {
        tries += 1;
        assert!(tries < 10_000, "{what}");
        // Nothing is ever sent: this is a pause with a bound.
        assert!(
            receiver
                .recv_timeout(std::time::Duration::from_millis(2))
                .is_err()
        );
    }
    drop(sender);
}

/// The file in use, a spare one, and the reserve.
const TWO_FILES: u64 = 2 * journal_support::FILE_BYTES + (8 << 10);

#[test]
fn a_full_disk_stops_admission_and_loses_nothing_and_room_lets_it_go_on() {
    let (sim, disk, config) = sim_disk(3);
    let journal = Journal::open(&disk, config.clone()).unwrap();
    let (answers, mut model) = (Answers::new(), Model::default());
    // Space for the file in use and its spare, and for no other.
    wait_until("the reserve is made", || sim.used_bytes() >= TWO_FILES);
    sim.set_capacity(TWO_FILES);
    let append = Op::Append {
        shard: 0,
        term: 1,
        sizes: vec![1000; 3],
    };
    let mut admitted = 0;
    while journal.admits_data() {
        model
            .run(&journal, &append, answers.synced(admitted))
            .unwrap();
        answers.next().1.unwrap();
        admitted += 1;
        if admitted == 5 {
            wait_until("a missing spare stops admission", || !journal.admits_data());
        }
    }
    // What was admitted before finds room in the file in use, and so do votes.
    model.run(&journal, &append, answers.synced(0)).unwrap();
    model
        .run(&journal, &Op::Vote { shard: 0, vote: 5 }, answers.synced(0))
        .unwrap();
    for _ in 0..2 {
        answers.next().1.unwrap();
    }
    // Beyond that the journal waits, and says nothing wrong meanwhile.
    for number in 0..5 {
        model
            .run(&journal, &append, answers.synced(number))
            .unwrap();
    }
    model.check(&journal);
    assert!(journal.failed().is_none());
    assert!(!journal.admits_data());
    sim.set_capacity(u64::MAX);
    for _ in 0..5 {
        answers.next().1.unwrap();
    }
    wait_until("room lets data in again", || journal.admits_data());
    model.check(&journal);
    check_goes_on(&disk, &config, &journal, model);
}

#[test]
fn purging_frees_room_on_a_full_disk() {
    let (sim, disk, config) = sim_disk(4);
    let journal = Journal::open(&disk, config.clone()).unwrap();
    let (answers, mut model) = (Answers::new(), Model::default());
    wait_until("the reserve is made", || sim.used_bytes() >= TWO_FILES);
    sim.set_capacity(TWO_FILES);
    for _ in 0..6 {
        let append = Op::Append {
            shard: 0,
            term: 1,
            sizes: vec![1000; 3],
        };
        model.run(&journal, &append, answers.synced(0)).unwrap();
        answers.next().1.unwrap();
    }
    wait_until("a missing spare stops admission", || !journal.admits_data());
    let held = journal.held_bytes();
    let purge = Op::Purge {
        shard: 0,
        count: 17,
        wrong_term: false,
    };
    model.run(&journal, &purge, answers.synced(0)).unwrap();
    answers.next().1.unwrap();
    wait_until("a recycled file lets data in again", || {
        journal.admits_data()
    });
    assert!(journal.held_bytes() < held);
    model.check(&journal);
    check_goes_on(&disk, &config, &journal, model);
}

#[test]
fn closing_on_a_full_disk_answers_everybody() {
    let (sim, disk, config) = sim_disk(5);
    let journal = Journal::open(&disk, config.clone()).unwrap();
    let (answers, mut model) = (Answers::new(), Model::default());
    wait_until("the reserve is made", || sim.used_bytes() >= TWO_FILES);
    sim.set_capacity(TWO_FILES);
    for number in 0..20 {
        let append = Op::Append {
            shard: 0,
            term: 1,
            sizes: vec![1000; 3],
        };
        model
            .run(&journal, &append, answers.synced(number))
            .unwrap();
    }
    journal.close();
    let results = answers.drain();
    assert_eq!(results.len(), 20);
    let durable = results
        .iter()
        .take_while(|(_, result)| result.is_ok())
        .count();
    assert!(durable > 0 && results[durable..].iter().all(|(_, result)| result.is_err()));
    // It even starts again on the full disk, for votes and purges, which make room.
    let journal = Journal::open(&disk, config).unwrap();
    let last = journal.shard_log(ShardId(0)).last.unwrap();
    assert!(last.index.0 + 1 >= durable as u64 * 3);
    wait_until("data is refused", || !journal.admits_data());
    journal
        .save_vote(ShardId(0), "vote".into(), answers.synced(0))
        .unwrap();
    answers.next().1.unwrap();
    journal.purge(ShardId(0), last, answers.synced(0)).unwrap();
    answers.next().1.unwrap();
    wait_until("data is taken again", || journal.admits_data());
    journal.close();
}

#[test]
fn a_crash_loop_holds_little_space() {
    let (sim, disk, config) = sim_disk(6);
    let (answers, mut model) = (Answers::new(), Model::default());
    for turn in 0..100 {
        let journal = Journal::open(&disk, config.clone()).unwrap();
        let append = Op::Append {
            shard: 0,
            term: 1,
            sizes: vec![100],
        };
        model.run(&journal, &append, answers.synced(0)).unwrap();
        answers.next().1.unwrap();
        sim.cut_power();
        journal.close();
        sim.crash(turn);
    }
    let journal = Journal::open(&disk, config.clone()).unwrap();
    model.check(&journal);
    assert!(sim.used_bytes() < 100 * 5000 + 4 * journal_support::FILE_BYTES);
    let purge = Op::Purge {
        shard: 0,
        count: 98,
        wrong_term: false,
    };
    model.run(&journal, &purge, answers.synced(0)).unwrap();
    answers.next().1.unwrap();
    wait_until("files out of use are removed", || {
        sim.used_bytes() < 12 * journal_support::FILE_BYTES
    });
    check_goes_on(&disk, &config, &journal, model);
}

/// One run of a process, and how it ends.
#[derive(Debug, Clone)]
struct Life {
    ops: Vec<Op>,
    stride: usize,
    /// The power goes at this operation.
    n_ops: u64,
    /// Whether the machine goes down with it, losing what was not synced.
    is_crash: bool,
    seed: u64,
}

fn life() -> impl Strategy<Value = Life> {
    (
        proptest::collection::vec(journal_support::op(), 0..25),
        1_usize..12,
        1_u64..60,
        proptest::bool::weighted(0.8),
        0_u64..1000,
    )
        .prop_map(|(ops, stride, n_ops, is_crash, seed)| Life {
            ops,
            stride,
            n_ops,
            is_crash,
            seed,
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn any_history_of_changes_and_power_cuts_keeps_what_was_answered(
        seed in 0_u64..1000,
        spare_files in 0_usize..4,
        lives in proptest::collection::vec(life(), 1..8),
    ) {
        let (sim, disk, mut config) = sim_disk(seed);
        config.spare_files = spare_files;
        let mut model = Model::default();
        for life in lives {
            sim.fail_after(life.n_ops);
            let outcome = match Journal::open(&disk, config.clone()) {
                Ok(journal) => {
                    let outcome = run(&journal, model.clone(), &life.ops, life.stride);
                    sim.cut_power();
                    journal.close();
                    outcome
                }
                Err(_) => Outcome {
                    states: vec![model.clone()],
                    durable: 0,
                    issued: 0,
                    has_failed: true,
                },
            };
            let reboot = |seed| if life.is_crash { sim.crash(seed) } else { sim.kill_processes() };
            reboot(life.seed);
            let journal = Journal::open(&disk, config.clone()).unwrap();
            model = check_prefix(Model::of(&journal).unwrap(), &journal, &outcome);
            sim.cut_power();
            journal.close();
            reboot(life.seed + 1);
        }
        let journal = Journal::open(&disk, config.clone()).unwrap();
        check_goes_on(&disk, &config, &journal, model);
    }
}
