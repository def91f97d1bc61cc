//! A long history.

use jepsen_check::history::{Key, Op, Process, Read};
use jepsen_check::{AnomalyName, Outcome, Recorder, check};

use crate::story::lenient;

/// So many operations of eight clients on four partitions, with everything in order; every reader
/// reads everything.
fn long(operations: u64) -> Recorder {
    let recorder = Recorder::new();
    let keys: Vec<Key> = (0..4)
        .map(|partition| Key {
            topic: "long".to_owned(),
            partition,
        })
        .collect();
    let mut logs: Vec<Vec<u64>> = vec![Vec::new(); keys.len()];
    let mut places = vec![vec![0_usize; keys.len()]; 4];
    for reader in 0..4 {
        let positions: Vec<_> = keys.iter().map(|key| (key.clone(), 0)).collect();
        let process = Process::Client(100 + reader);
        recorder.invoke(
            0,
            process,
            Op::Assign {
                positions: positions.clone(),
            },
        );
        recorder.ok(0, process, Op::Assign { positions });
    }
    for number in 0..operations {
        let process = u32::try_from(number % 8).unwrap();
        let at = usize::try_from(number / 8 % 4).unwrap();
        if process < 4 {
            let values = vec![number * 2, number * 2 + 1];
            let send = |offset| Op::Send {
                key: keys[at].clone(),
                values: values.clone(),
                idempotent: true,
                offset,
            };
            recorder.invoke(number, Process::Client(process), send(None));
            let offset = i64::try_from(logs[at].len()).unwrap();
            logs[at].extend(&values);
            recorder.ok(number, Process::Client(process), send(Some(offset)));
        } else {
            let reader = usize::try_from(process - 4).unwrap();
            let process = Process::Client(100 + process - 4);
            recorder.invoke(number, process, Op::Poll { reads: Vec::new() });
            let reads = keys.iter().enumerate().map(|(at, key)| {
                let from = std::mem::replace(&mut places[reader][at], logs[at].len());
                let records = (from..logs[at].len())
                    .map(|place| (i64::try_from(place).unwrap(), logs[at][place]))
                    .collect();
                let high_watermark = i64::try_from(logs[at].len()).unwrap();
                Read {
                    key: key.clone(),
                    records,
                    high_watermark,
                }
            });
            recorder.ok(
                number,
                process,
                Op::Poll {
                    reads: reads.collect(),
                },
            );
        }
    }
    recorder
}

#[test]
fn a_long_history_is_judged_whole() {
    let mut events = long(20_000).finish().unwrap();
    assert_eq!(check(&events, &lenient()).outcome, Outcome::Valid);
    // A single record in it comes twice.
    let reads = events
        .iter_mut()
        .rev()
        .find_map(|event| match &mut event.op {
            Op::Poll { reads } if reads.iter().any(|read| read.records.len() > 1) => Some(reads),
            _ => None,
        });
    let read = reads
        .unwrap()
        .iter_mut()
        .find(|read| read.records.len() > 1)
        .unwrap();
    read.records.insert(1, read.records[0]);
    let verdict = check(&events, &lenient());
    assert_eq!(
        verdict.anomaly_counts.keys().collect::<Vec<_>>(),
        [&AnomalyName::InternalNonmonotonicPoll]
    );
}

/// `cargo test --release -p jepsen-check -- --ignored --nocapture` with `time` before it.
#[test]
#[ignore = "a measurement: a million operations"]
fn a_million_operations() {
    let events = long(1_000_000).finish().unwrap();
    println!("{} events", events.len());
    assert_eq!(check(&events, &lenient()).outcome, Outcome::Valid);
}
