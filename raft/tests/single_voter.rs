//! One node, one voter: what every shard of a single node does.

#![allow(clippy::unwrap_used, reason = "a test")]
#![expect(
    clippy::await_holding_lock,
    reason = "holding the view stops the shard"
)]

mod ledger;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use raft::{HostConfig, Leadership, Op, OpenError, ProposeError, Shard};
use storage::{NodeId, ShardId};

use ledger::{Computer, Ledger, Outcome, op};

const SHARD: ShardId = ShardId(3);

fn body(number: usize) -> Bytes {
    Bytes::from(format!("body {number}"))
}

/// Waits until `holds`, at most ten seconds.
async fn until(what: &str, holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waiting)
        .await
        .expect(what);
}

async fn submit_all(shard: &Shard<Outcome>, numbers: std::ops::Range<usize>) -> Vec<Outcome> {
    let mut pending = Vec::new();
    for number in numbers {
        pending.push(shard.submit(op(body(number))).await.unwrap());
    }
    join_all(pending)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect()
}

#[tokio::test]
async fn outcomes_follow_the_order_of_submission() {
    let (computer, ledger) = (Computer::new(1), Ledger::default());
    let node = computer.boot().await;
    let shard = node.open(SHARD, ledger.clone()).await.unwrap();
    let outcomes = submit_all(&shard, 0..1_000).await;
    assert!(
        outcomes
            .iter()
            .enumerate()
            .all(|(number, outcome)| outcome.0 == number)
    );
    assert_eq!(ledger.bodies(), (0..1_000).map(body).collect::<Vec<_>>());
    let entries = ledger
        .view()
        .entries
        .iter()
        .filter(|(_, ops)| *ops > 0)
        .count();
    assert!(
        entries < 1_000,
        "operations that wait travel together, but {entries} entries were made"
    );
    node.shutdown().await;
}

#[tokio::test]
async fn a_fresh_shard_serves_when_open_returns() {
    let (computer, ledger) = (Computer::new(2), Ledger::default());
    let node = computer.boot().await;
    let shard = node.open(SHARD, ledger.clone()).await.unwrap();
    let leadership = *shard.leadership().borrow();
    let Leadership {
        term,
        leader,
        serving,
    } = leadership;
    assert!(
        serving && leader == Some(NodeId(1)) && term.0 > 0,
        "{leadership:?}"
    );
    shard.read_barrier().await.unwrap();
    let progress = shard.progress();
    assert_eq!(progress.applied, progress.last);
    assert_eq!((progress.checkpoint, progress.purged), (None, None));
    node.shutdown().await;
}

#[tokio::test]
async fn an_orderly_restart_keeps_everything_and_replays_nothing_below_the_checkpoint() {
    let computer = Computer::new(3);
    let ledger = Ledger::default();
    let node = computer.boot().await;
    let shard = node.open(SHARD, ledger.clone()).await.unwrap();
    submit_all(&shard, 0..100).await;
    node.shutdown().await;
    assert_eq!(ledger.view().checkpoints, 1);

    for round in 1..4 {
        let ledger = Ledger::default();
        let node = computer.boot().await;
        let shard = node.open(SHARD, ledger.clone()).await.unwrap();
        assert_eq!(ledger.bodies().len(), 100 * round);
        assert!(
            ledger.view().entries.iter().all(|(_, ops)| *ops == 0),
            "operations applied twice"
        );
        assert_eq!(ledger.view().installs, 1);
        submit_all(&shard, 100 * round..100 * (round + 1)).await;
        node.shutdown().await;
        assert_eq!(
            ledger.bodies(),
            (0..100 * (round + 1)).map(body).collect::<Vec<_>>()
        );
    }
}

#[tokio::test]
async fn a_killed_node_keeps_what_it_acknowledged() {
    let computer = Computer::new(4);
    let mut acknowledged = 0;
    for round in 0..5 {
        let ledger = Ledger::default();
        let node = computer.boot().await;
        let shard = node.open(SHARD, ledger.clone()).await.unwrap();
        assert_eq!(
            ledger.bodies(),
            (0..acknowledged).map(body).collect::<Vec<_>>()
        );
        submit_all(&shard, acknowledged..acknowledged + 50).await;
        acknowledged += 50;
        if round % 2 == 1 {
            shard.checkpoint().await.unwrap();
            submit_all(&shard, acknowledged..acknowledged + 20).await;
            acknowledged += 20;
        }
        computer.crash(node, round).await;
    }
}

#[tokio::test]
async fn a_checkpoint_lets_the_journal_go() {
    let (computer, ledger) = (Computer::new(5), Ledger::default());
    let node = computer.boot().await;
    let shard = node.open(SHARD, ledger.clone()).await.unwrap();
    submit_all(&shard, 0..100).await;
    let held = shard.checkpoint().await.unwrap();
    // Operations are answered while they are applied, a moment before progress tells of it.
    until("all that was applied is in the checkpoint", || {
        shard.progress().applied == Some(held)
    })
    .await;
    until("the journal is purged", || {
        shard.progress().purged == Some(held)
    })
    .await;
    assert_eq!(shard.progress().checkpoint, Some(held));
    // Nothing was applied since: the same one answers again.
    assert_eq!(shard.checkpoint().await.unwrap(), held);
    assert_eq!(ledger.view().checkpoints, 1);
    submit_all(&shard, 100..150).await;
    computer.kill(node).await;

    let again = Ledger::default();
    let node = computer.boot().await;
    node.open(SHARD, again.clone()).await.unwrap();
    assert_eq!(again.bodies(), (0..150).map(body).collect::<Vec<_>>());
    let replayed: usize = again.view().entries.iter().map(|(_, ops)| ops).sum();
    assert_eq!(replayed, 50);
    node.shutdown().await;
}

#[tokio::test]
async fn a_checkpoint_comes_by_itself_after_enough_journal() {
    let (computer, ledger) = (Computer::new(6), Ledger::default());
    let config = HostConfig {
        checkpoint_journal_bytes: 64 << 10,
        ..computer.config()
    };
    let node = computer.boot_with(config).await;
    let shard = node.open(SHARD, ledger.clone()).await.unwrap();
    for _ in 0..40 {
        shard
            .submit(op(vec![7; 8 << 10]))
            .await
            .unwrap()
            .await
            .unwrap();
    }
    until("two checkpoints", || ledger.view().checkpoints >= 2).await;
    node.shutdown().await;
}

#[tokio::test]
async fn an_idle_shard_does_not_hold_the_journal() {
    let computer = Computer::new(7);
    for round in 1..4 {
        let (idle, busy) = (Ledger::default(), Ledger::default());
        let config = HostConfig {
            checkpoint_journal_bytes: 64 << 10,
            ..computer.config()
        };
        let node = computer.boot_with(config).await;
        let one = node.open(ShardId(1), idle.clone()).await.unwrap();
        let two = node.open(ShardId(2), busy.clone()).await.unwrap();
        let write = async |shard: &Shard<Outcome>, count| {
            for _ in 0..count {
                shard
                    .submit(op(vec![7; 8 << 10]))
                    .await
                    .unwrap()
                    .await
                    .unwrap();
            }
        };
        write(&two, 100).await;
        // What its own election wrote is saved, though it is far below its own threshold.
        let is_saved = || one.progress().purged == one.progress().last;
        until("the idle shard is saved too", is_saved).await;
        // And it goes on as any other.
        write(&one, 20).await;
        until("its own checkpoint", || idle.view().checkpoints >= 2).await;
        if round % 2 == 0 {
            node.shutdown().await
        } else {
            computer.kill(node).await
        }
    }
}

#[tokio::test]
async fn a_failed_checkpoint_is_told_and_made_good() {
    let (computer, ledger) = (Computer::new(8), Ledger::default());
    let node = computer.boot().await;
    let shard = node.open(SHARD, ledger.clone()).await.unwrap();
    submit_all(&shard, 0..10).await;
    ledger.view().failing_checkpoints = 1;
    shard.checkpoint().await.unwrap_err();
    assert_eq!(shard.progress().checkpoint, None);
    // It is tried again without being asked, and the shard never stopped.
    submit_all(&shard, 10..20).await;
    until("the retry", || shard.progress().checkpoint.is_some()).await;
    submit_all(&shard, 20..30).await;
    node.shutdown().await;
}

#[tokio::test]
async fn operations_submitted_together_stand_in_one_entry() {
    let (computer, ledger) = (Computer::new(9), Ledger::default());
    let node = computer.boot().await;
    let shard = node.open(SHARD, ledger.clone()).await.unwrap();
    let ops = (0..300).map(|number| op(body(number))).collect();
    let outcomes = shard.submit_many(ops).await.unwrap().await.unwrap();
    assert_eq!(outcomes.len(), 300);
    assert!(
        outcomes
            .iter()
            .all(|(_, position)| *position == outcomes[0].1)
    );
    assert!(
        shard
            .submit_many(Vec::new())
            .await
            .unwrap()
            .await
            .unwrap()
            .is_empty()
    );
    node.shutdown().await;
}

#[tokio::test]
async fn a_full_queue_pushes_back() {
    let (computer, ledger) = (Computer::new(10), Ledger::default());
    let config = HostConfig {
        pending_bytes_max: 10_000,
        ..computer.config()
    };
    let node = computer.boot_with(config).await;
    let shard = node.open(SHARD, ledger.clone()).await.unwrap();

    let stopped = ledger.view();
    let mut pending = Vec::new();
    let refusal = loop {
        match shard.try_submit(op(vec![1; 1_000])) {
            Ok(accepted) => pending.push(accepted),
            Err(error) => break error,
        }
        assert!(pending.len() < 100, "nothing pushes back");
    };
    assert_eq!(refusal, ProposeError::Busy);
    let waiting = tokio::spawn({
        let shard = shard.clone();
        async move { shard.submit(op(vec![2; 1_000])).await.unwrap().await }
    });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    drop(stopped);
    waiting.await.unwrap().unwrap();
    for outcome in join_all(pending).await {
        outcome.unwrap();
    }
    node.shutdown().await;
}

#[tokio::test]
async fn an_operation_larger_than_an_entry_travels_alone() {
    let (computer, ledger) = (Computer::new(11), Ledger::default());
    let config = HostConfig {
        entry_bytes_max: 4_000,
        pending_bytes_max: 10_000,
        ..computer.config()
    };
    let node = computer.boot_with(config).await;
    let shard = node.open(SHARD, ledger.clone()).await.unwrap();
    let stopped = ledger.view();
    let sizes = [10, 3_000, 50_000, 10, 10];
    let mut submitted = Vec::new();
    for size in sizes {
        let shard = shard.clone();
        let submitting =
            tokio::spawn(async move { shard.submit(op(vec![9; size])).await.unwrap().await });
        tokio::task::yield_now().await;
        submitted.push(submitting);
    }
    drop(stopped);
    let mut positions = Vec::new();
    for outcome in submitted {
        positions.push(outcome.await.unwrap().unwrap().1);
    }
    assert!(
        positions[1] < positions[2] && positions[2] < positions[3],
        "{positions:?}"
    );
    let bytes: Vec<usize> = ledger.bodies().iter().map(Bytes::len).collect();
    assert_eq!(bytes, sizes);
    let huge = Bytes::from(vec![0; 104_857_601]);
    let refusal = shard.submit(op(huge)).await.unwrap_err();
    assert!(
        matches!(
            refusal,
            ProposeError::TooLarge {
                max: 104_857_600,
                ..
            }
        ),
        "{refusal}"
    );
    node.shutdown().await;
}

#[tokio::test]
async fn closing_answers_everybody() {
    let (computer, ledger) = (Computer::new(12), Ledger::default());
    let node = computer.boot().await;
    let shard = node.open(SHARD, ledger.clone()).await.unwrap();
    let stopped = ledger.view();
    let mut pending = Vec::new();
    for number in 0..100 {
        pending.push(shard.try_submit(op(body(number))).unwrap());
    }
    let host = Arc::new(node);
    let closing = tokio::spawn({
        let host = Arc::clone(&host);
        async move { host.host.shutdown().await }
    });
    tokio::task::yield_now().await;
    drop(stopped);
    let (mut done, mut refused) = (0, 0);
    for answer in join_all(pending).await {
        match answer {
            Ok(_) => done += 1,
            Err(ProposeError::ShuttingDown) => refused += 1,
            Err(other) => panic!("{other}"),
        }
    }
    closing.await.unwrap();
    assert_eq!((done, done + refused), (ledger.bodies().len(), 100));
    assert_eq!(
        shard.submit(op("late")).await.unwrap_err(),
        ProposeError::ShuttingDown
    );
    assert_eq!(
        shard.read_barrier().await.unwrap_err(),
        ProposeError::ShuttingDown
    );
    shard.checkpoint().await.unwrap_err();
    let error = host.open(ShardId(9), Ledger::default()).await.unwrap_err();
    assert!(matches!(error, OpenError::ShuttingDown));
    assert_eq!(*host.host.failed().borrow(), None);
}

#[tokio::test]
async fn shards_open_side_by_side_and_only_once() {
    let computer = Computer::new(13);
    let node = computer.boot().await;
    let ledgers: Vec<Ledger> = (0..4).map(|_| Ledger::default()).collect();
    let opening = ledgers
        .iter()
        .zip(0..)
        .map(|(ledger, id)| node.open(ShardId(id), ledger.clone()));
    let shards = join_all(opening)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect::<Vec<_>>();
    for (shard, number) in shards.iter().zip(0..) {
        submit_all(shard, number..number + 5).await;
    }
    for (ledger, number) in ledgers.iter().zip(0..) {
        assert_eq!(
            ledger.bodies(),
            (number..number + 5).map(body).collect::<Vec<_>>()
        );
    }
    let error = node.open(ShardId(2), Ledger::default()).await.unwrap_err();
    assert!(matches!(
        error,
        OpenError::AlreadyOpen { shard: ShardId(2) }
    ));
    node.shutdown().await;
}

#[tokio::test]
async fn a_panic_in_apply_stops_the_host_and_leaves_nobody_waiting() {
    let (computer, ledger) = (Computer::new(14), Ledger::default());
    let node = computer.boot().await;
    let shard = node.open(SHARD, ledger.clone()).await.unwrap();
    let mut failed = node.host.failed();
    let pending = shard
        .submit(Op::control(Bytes::from_static(b"panic")))
        .await
        .unwrap();
    assert!(matches!(pending.await, Err(ProposeError::Unknown { .. })));
    let waiting = failed.wait_for(Option::is_some);
    tokio::time::timeout(Duration::from_secs(60), waiting)
        .await
        .unwrap()
        .unwrap();
    assert!(matches!(
        shard.submit(op("late")).await,
        Err(ProposeError::Unknown { .. })
    ));
    assert!(!shard.leadership().borrow().serving);
    node.host.shutdown().await;
}

#[tokio::test]
async fn time_stamps_are_the_leaders_and_blank_entries_repeat_the_last() {
    let (computer, ledger) = (Computer::new(15), Ledger::default());
    let node = computer.boot().await;
    let shard = node.open(SHARD, ledger.clone()).await.unwrap();
    assert!(ledger.view().entries.iter().all(|(at, _)| at.time_ms == 0));
    submit_all(&shard, 0..1).await;
    let stamped = ledger.view().entries.last().unwrap().0.time_ms;
    assert!(stamped > 1_600_000_000_000);
    node.shutdown().await;
    // Also over a restart from the checkpoint.
    let again = Ledger::default();
    let node = computer.boot().await;
    node.open(SHARD, again.clone()).await.unwrap();
    assert_eq!(again.view().entries.last().unwrap().0.time_ms, stamped);
    node.shutdown().await;
}

#[tokio::test]
async fn a_fresh_shard_opens_fast() {
    let computer = Computer::new(16);
    let node = computer.boot().await;
    let mut fastest = Duration::MAX;
    for id in 0..8 {
        #[expect(clippy::disallowed_methods, reason = "measures")]
        let start = Instant::now();
        let shard = node.open(ShardId(id), Ledger::default()).await.unwrap();
        shard.submit(op("first")).await.unwrap().await.unwrap();
        fastest = fastest.min(start.elapsed());
    }
    assert!(
        fastest < Duration::from_millis(300),
        "{fastest:?}: it waited for a time-out"
    );
    node.shutdown().await;
}

#[tokio::test]
async fn an_operation_costs_one_write_and_one_sync() {
    let (computer, ledger) = (Computer::new(17), Ledger::default());
    let node = computer.boot().await;
    let shard = node.open(SHARD, ledger).await.unwrap();
    shard.submit(op("warm up")).await.unwrap().await.unwrap();
    let before = computer.sim.op_count();
    for number in 0..50 {
        shard.submit(op(body(number))).await.unwrap().await.unwrap();
    }
    let each = (computer.sim.op_count() - before) as f64 / 50.0;
    assert!(
        (2.0..2.2).contains(&each),
        "{each} disk operations for each"
    );
    node.shutdown().await;
}
