//! Random changes, reads and restarts against a model that is a few vectors.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "test code, whose helpers the lint does not see as such"
)]

mod journal_support;

use proptest::prelude::*;
use storage::disk::Disk;
use storage::journal::{Journal, JournalConfig};
use storage::{LogIndex, ShardId};

use journal_support::{Answers, Model, Op, sim_disk};

#[derive(Debug, Clone)]
enum Step {
    Change(Op),
    /// Reads from this far behind the floor.
    Read {
        shard: u32,
        skip: u64,
        count: u64,
        bytes_max: usize,
    },
    /// Waits for everything to be durable.
    Wait,
    Reopen,
    /// Waits, then the power goes.
    Crash {
        seed: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        26 => journal_support::op().prop_map(Step::Change),
        5 => (0_u32..3, 0_u64..20, 0_u64..10, 0_usize..5000).prop_map(
            |(shard, skip, count, bytes_max)| Step::Read { shard, skip, count, bytes_max }
        ),
        4 => Just(Step::Wait),
        1 => Just(Step::Reopen),
        1 => (0_u64..1000).prop_map(|seed| Step::Crash { seed }),
    ]
}

fn check_read(
    model: &Model,
    journal: &Journal,
    id: ShardId,
    skip: u64,
    count: u64,
    bytes_max: usize,
) {
    let shard = model.shards.get(&id).cloned().unwrap_or_default();
    let first = shard.floor.map_or(0, |floor| floor.index.0 + 1) + skip;
    let read = journal
        .read(id, LogIndex(first), LogIndex(first + count), bytes_max)
        .unwrap();
    let mut bytes = 0;
    let expected: Vec<_> = shard
        .entries
        .iter()
        .filter(|(position, _)| (first..first + count).contains(&position.index.0))
        .enumerate()
        .take_while(|(nth, (_, payload))| {
            bytes += payload.len();
            *nth == 0 || bytes <= bytes_max
        })
        .map(|(_, entry)| entry.clone())
        .collect();
    let read: Vec<_> = read
        .into_iter()
        .map(|entry| (entry.position, entry.payload.to_vec()))
        .collect();
    assert_eq!(read, expected);
}

fn check(disk: &Disk, config: &JournalConfig, steps: &[Step], crash: &dyn Fn(u64)) {
    let answers = Answers::new();
    let mut model = Model::default();
    let mut journal = Journal::open(disk, config.clone()).unwrap();
    let mut waiting = 0;
    let wait = |waiting: &mut usize| {
        for _ in 0..std::mem::take(waiting) {
            answers.next().1.unwrap();
        }
    };
    for step in steps {
        match step {
            Step::Change(op) => {
                model.run(&journal, op, answers.synced(0)).unwrap();
                waiting += usize::from(!matches!(op, Op::Committed { .. }));
            }
            Step::Read {
                shard,
                skip,
                count,
                bytes_max,
            } => {
                check_read(&model, &journal, ShardId(*shard), *skip, *count, *bytes_max);
            }
            Step::Wait => wait(&mut waiting),
            Step::Reopen => {
                journal.close();
                wait(&mut waiting);
                let report = storage::journal::verify(disk, &config.dir);
                assert!(report.error.is_none() && report.is_sealed, "{report:?}");
                journal = Journal::open(disk, config.clone()).unwrap();
                model.check(&journal);
            }
            Step::Crash { seed } => {
                wait(&mut waiting);
                let before = model.clone();
                // The callback of the crash cuts the power, ends the journal and boots again.
                crash(u64::MAX);
                journal.close();
                crash(*seed);
                journal = Journal::open(disk, config.clone()).unwrap();
                model.take_committed_of(&journal);
                assert_eq!(model.without_committed(), before.without_committed());
            }
        }
        model.check_logs(&journal);
    }
    model.check(&journal);
    journal.close();
    wait(&mut waiting);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn the_journal_holds_what_a_few_vectors_would(
        seed in 0_u64..1000,
        spare_files in 0_usize..4,
        steps in proptest::collection::vec(step(), 1..120),
    ) {
        let (sim, disk, mut config) = sim_disk(seed);
        config.spare_files = spare_files;
        check(&disk, &config, &steps, &|seed| match seed {
            u64::MAX => sim.cut_power(),
            seed => sim.crash(seed),
        });
    }
}

#[test]
fn the_same_holds_on_the_machines_own_disk() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    let mut runner = TestRunner::deterministic();
    for case in 0..8 {
        let dir = std::env::temp_dir().join(format!("journal-{}-{case}", std::process::id()));
        let steps = proptest::collection::vec(step(), 100)
            .new_tree(&mut runner)
            .unwrap()
            .current();
        let steps: Vec<Step> = steps
            .into_iter()
            .filter(|step| !matches!(step, Step::Crash { .. }))
            .collect();
        check(&Disk::Real, &journal_support::config(&dir), &steps, &|_| {});
        Disk::Real.remove_dir_all(&dir).unwrap();
    }
}
