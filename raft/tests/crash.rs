//! Power cuts, failed syncs and full disks under a single-voter shard, at every point of its life.

#![allow(clippy::unwrap_used, reason = "a test")]

mod ledger;

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use raft::{HostConfig, HostFailure, Op, OpenError, ProposeError, Shard, UnknownReason};
use storage::disk::OpKind;
use storage::journal::{JournalEntry, Synced};
use storage::{LogIndex, LogPosition, ShardId};

use ledger::{Computer, Ledger, Node, Outcome, op};

const SHARD: ShardId = ShardId(0);
/// Operations that are submitted before the first of them is waited for.
const TOGETHER: usize = 5;

fn body(number: usize) -> Bytes {
    let mut body = format!("body {number} ").into_bytes();
    // Past a sector, so that a body can be torn.
    body.resize(700, b'.');
    body.into()
}

fn config(computer: &Computer) -> HostConfig {
    HostConfig {
        checkpoint_journal_bytes: 20_000,
        ..computer.config()
    }
}

async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future)
        .await
        .expect(what)
}

/// Submits bodies from `next` on until one fails or `count` are acknowledged. Returns how many
/// bodies were submitted and how many were acknowledged, all counted from the first ever.
async fn submit(shard: &Shard<Outcome>, mut next: usize, count: usize) -> (usize, usize) {
    let mut acknowledged = next;
    let until = next + count;
    while acknowledged < until {
        let mut pending = Vec::new();
        for _ in 0..TOGETHER {
            match shard.submit(op(body(next))).await {
                Ok(answer) => pending.push(answer),
                Err(_) => break,
            }
            next += 1;
        }
        let answers = in_time("an answer to everybody", join_all(pending)).await;
        let done = answers.iter().take_while(|answer| answer.is_ok()).count();
        for (answer, number) in answers.iter().zip(acknowledged..) {
            match answer {
                Ok(outcome) => assert_eq!(outcome.0, number),
                Err(ProposeError::Unknown { .. }) => {}
                // Queued and never proposed, for no spare file of the journal can be made without
                // power: neither it nor what came behind it is in the log, which the check after
                // the restart holds it to.
                Err(ProposeError::StorageFull) => next = next.min(number),
                Err(other) => panic!("{other} after the operation was taken"),
            }
        }
        acknowledged += done;
        if done < TOGETHER {
            break;
        }
    }
    (next, acknowledged)
}

/// A life of a node: two shards' worth of everything, until the disk gives out.
async fn live(node: &Node, ledger: &Ledger, held: usize) -> (usize, usize) {
    let Ok(shard) = in_time("open", node.open(SHARD, ledger.clone())).await else {
        return (held, held);
    };
    let (submitted, acknowledged) = submit(&shard, held, 20).await;
    if submitted == acknowledged {
        // Fails when the disk does; nothing depends on it.
        let _ = in_time("checkpoint", shard.checkpoint()).await;
        return submit(&shard, submitted, 15).await;
    }
    (submitted, acknowledged)
}

/// What must hold after any restart: a prefix of what was submitted, with all acknowledged.
async fn check(computer: &Computer, submitted: usize, acknowledged: usize, context: &str) {
    let node = computer.boot_with(config(computer)).await;
    let ledger = Ledger::default();
    let opened = in_time("open after the crash", node.open(SHARD, ledger.clone()));
    let shard = opened
        .await
        .unwrap_or_else(|error| panic!("{context}: {error:?}"));
    let bodies = ledger.bodies();
    let count = bodies.len();
    assert!(
        (acknowledged..=submitted).contains(&count),
        "{context}: {count} of {acknowledged}.."
    );
    assert!(
        bodies.into_iter().eq((0..count).map(body)),
        "{context}: other operations than submitted"
    );
    let (_, more) = submit(&shard, count, 5).await;
    assert_eq!(
        more,
        count + 5,
        "{context}: the shard takes operations again"
    );
    in_time("shutdown", node.shutdown()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_at_every_operation_loses_nothing_acknowledged() {
    for seed in 0..5 {
        cut_everywhere(seed).await;
    }
}

async fn cut_everywhere(seed: u64) {
    let (mut at, mut survivals) = (0, 0);
    while survivals < 4 {
        at += 1;
        let computer = Computer::new(seed);
        // An earlier life, so that files are recycled and a checkpoint is there to be replaced.
        let (mut submitted, mut acknowledged) = (0, 0);
        if at % 2 == 0 {
            let node = computer.boot_with(config(&computer)).await;
            (submitted, acknowledged) = live(&node, &Ledger::default(), 0).await;
            in_time("shutdown", node.shutdown()).await;
        }
        computer.sim.fail_after(at / 2 + 1);
        let node = computer.try_boot(config(&computer)).await;
        if let Ok(node) = &node {
            let lived = in_time("a life", live(node, &Ledger::default(), acknowledged)).await;
            (submitted, acknowledged) = lived;
        }
        let survived = computer.sim.is_powered();
        match node {
            Ok(node) => computer.crash(node, seed).await,
            Err(_) => computer.sim.crash(seed),
        }
        check(
            &computer,
            submitted,
            acknowledged,
            &format!("cut at {at}, seed {seed}"),
        )
        .await;
        survivals = if survived { survivals + 1 } else { 0 };
    }
    assert!(at > 60, "{at} cuts only");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_journal_sync_ends_the_host_and_loses_nothing_acknowledged() {
    for nth in 1..25 {
        for kind in [OpKind::Sync, OpKind::Write] {
            let computer = Computer::new(nth);
            let node = computer.boot_with(config(&computer)).await;
            let ledger = Ledger::default();
            let shard = node.open(SHARD, ledger).await.unwrap();
            computer.sim.inject(kind, nth, io::ErrorKind::Other);
            let (submitted, acknowledged) = submit(&shard, 0, 200).await;
            let context = format!("{kind:?} {nth}");
            if node.journal.failed().is_some() {
                let mut failed = node.host.failed();
                let failure = in_time(&context, failed.wait_for(Option::is_some)).await;
                assert_eq!(*failure.unwrap(), Some(HostFailure::Journal), "{context}");
                let late = shard.submit(op("late")).await.unwrap_err();
                let reason = UnknownReason::JournalFailed;
                assert_eq!(late, ProposeError::Unknown { reason }, "{context}");
                assert!(shard.read_barrier().await.is_err(), "{context}");
                assert!(shard.checkpoint().await.is_err(), "{context}");
            }
            in_time("shutdown", node.host.shutdown()).await;
            computer.kill(node).await;
            check(&computer, submitted, acknowledged, &context).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_data_and_takes_control_operations() {
    let computer = Computer::new(1);
    // Nothing frees the journal meanwhile.
    let node = computer.boot_with(computer.config()).await;
    let ledger = Ledger::default();
    let shard = node.open(SHARD, ledger.clone()).await.unwrap();
    computer
        .sim
        .set_capacity(computer.sim.used_bytes() + (300 << 10));
    let filling = async {
        loop {
            match shard.submit(op(vec![1; 10 << 10])).await {
                Ok(pending) => match pending.await {
                    Ok(_) => {}
                    Err(error) => break error,
                },
                Err(error) => break error,
            }
        }
    };
    assert_eq!(
        in_time("the disk fills", filling).await,
        ProposeError::StorageFull
    );
    let control = Op::control(Bytes::from_static(b"control"));
    in_time("control", shard.submit(control).await.unwrap())
        .await
        .unwrap();
    assert_eq!(ledger.bodies().last().unwrap().as_ref(), b"control");
    in_time("a read", shard.read_barrier()).await.unwrap();
    assert_eq!(*node.host.failed().borrow(), None);

    computer.sim.set_capacity(u64::MAX);
    let refilling = async {
        while shard.submit(op("again")).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    in_time("space again", refilling).await;
    in_time("shutdown", node.shutdown()).await;
}

#[tokio::test]
async fn a_lost_checkpoint_under_a_purged_journal_is_refused() {
    let computer = Computer::new(2);
    let node = computer.boot().await;
    let shard = node.open(SHARD, Ledger::default()).await.unwrap();
    submit(&shard, 0, 10).await;
    in_time("shutdown", node.shutdown()).await;

    let file = computer.config().checkpoint_dir.join("0.checkpoint");
    computer.disk().remove_file(&file).unwrap();
    let node = computer.boot().await;
    let error = node.open(SHARD, Ledger::default()).await.unwrap_err();
    assert!(
        matches!(
            error,
            OpenError::MissingEntries {
                checkpoint: None,
                ..
            }
        ),
        "{error:?}"
    );
    in_time("shutdown", node.shutdown()).await;
}

#[tokio::test]
async fn every_flipped_bit_of_a_checkpoint_is_refused() {
    let computer = Computer::new(3);
    let node = computer.boot().await;
    let shard = node.open(SHARD, Ledger::default()).await.unwrap();
    submit(&shard, 0, 5).await;
    in_time("shutdown", node.shutdown()).await;

    let file = computer.config().checkpoint_dir.join("0.checkpoint");
    let bits = computer.disk().read_file(&file).unwrap().len() as u64 * 8;
    let node = computer.boot().await;
    for bit in (0..bits).step_by(37).chain(0..256) {
        computer.sim.flip_bit(&file, bit).unwrap();
        let error = node.open(SHARD, Ledger::default()).await.unwrap_err();
        assert!(
            matches!(error, OpenError::Checkpoint { .. }),
            "bit {bit}: {error:?}"
        );
        computer.sim.flip_bit(&file, bit).unwrap();
    }
    node.open(SHARD, Ledger::default()).await.unwrap();
    in_time("shutdown", node.shutdown()).await;
}

#[tokio::test]
async fn entries_that_conflict_with_the_checkpoint_do_not_keep_the_shard_from_opening() {
    let computer = Computer::new(4);
    let node = computer.boot().await;
    let shard = node.open(SHARD, Ledger::default()).await.unwrap();
    submit(&shard, 0, 10).await;
    let last = node.journal.shard_log(SHARD).last.unwrap();
    let old = node
        .journal
        .read(SHARD, LogIndex(0), LogIndex(last.index.0 + 1), usize::MAX)
        .unwrap();
    computer.kill(node).await;

    // A life later there is a checkpoint in a higher term, below where the old entries will end.
    let node = computer.boot().await;
    let shard = node.open(SHARD, Ledger::default()).await.unwrap();
    let at = in_time("checkpoint", shard.checkpoint()).await.unwrap();
    assert!(at.term > last.term);
    in_time("shutdown", node.shutdown()).await;

    // As if power had gone with the checkpoint saved and the truncation before it not.
    let node = computer.boot().await;
    let vote = node.journal.shard_log(SHARD).vote.unwrap();
    let mut entries: Vec<JournalEntry> = old
        .into_iter()
        .map(|entry| JournalEntry {
            position: entry.position,
            pieces: vec![entry.payload],
        })
        .collect();
    let filler = entries.last().unwrap().pieces.clone();
    for index in last.index.0 + 1..at.index.0 + 5 {
        entries.push(JournalEntry {
            position: LogPosition {
                term: last.term,
                index: LogIndex(index),
            },
            pieces: filler.clone(),
        });
    }
    let (synced, mut durable) = tokio::sync::mpsc::unbounded_channel();
    let tell = || -> Synced {
        let synced = synced.clone();
        Box::new(move |result| synced.send(result).unwrap())
    };
    node.journal.remove_shard(SHARD, tell()).unwrap();
    node.journal.append(SHARD, entries, tell()).unwrap();
    node.journal.save_vote(SHARD, vote, tell()).unwrap();
    for _ in 0..3 {
        in_time("a sync", durable.recv()).await.unwrap().unwrap();
    }
    computer.kill(node).await;
    check(&computer, 10, 10, "conflicting entries").await;
}
