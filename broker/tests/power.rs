//! Whole nodes that lose power: what was not synced is thrown away, and nothing acknowledged may
//! be lost by it, nor anything be there twice, nor replicas differ.
//!
//! `SEED=<n> cargo test -p broker --test power` takes another seed.

mod power_support;

use std::time::Duration;

use broker::catalogue::Void;
use power_support::load::Load;
use power_support::{Cluster, eventually, seed};
use storage::Durability;
use storage::clock::Clock;
use storage::disk::OpKind;

/// How long power is cut again and again.
const ROUNDS_MS: i64 = 8_000;
const ROUNDS_MIN: u64 = 3;

async fn a_moment(random: u64) {
    // Not a wait for anything: power goes at any moment.
    tokio::time::sleep(Duration::from_millis(random % 250)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_nodes_lose_power_at_once_again_and_again_and_nothing_acknowledged_is_lost() {
    let seed = seed(1);
    let mut cluster = Cluster::new(seed, 3, Durability::Fsync);
    cluster.start(&[0, 1, 2]).await;
    cluster.settled().await;
    let partitions = cluster.topic("t", 6).await;
    let load = Load::start(&cluster.running, &partitions);
    let clock = Clock::system();
    let begun_ms = clock.monotonic_ms();
    let mut round = 0;
    while round < ROUNDS_MIN || clock.monotonic_ms() - begun_ms < ROUNDS_MS {
        round += 1;
        load.goes_on(20).await;
        a_moment(seed.wrapping_mul(31).wrapping_add(round * 97)).await;
        cluster
            .cut(&[0, 1, 2], seed.wrapping_mul(1_000) + round)
            .await;
        cluster.start(&[0, 1, 2]).await;
    }
    load.goes_on(20).await;
    cluster.settled().await;
    let acknowledged = load.end(&cluster.running).await;
    eprintln!("{round} power cuts, {acknowledged} records");
    cluster.compare(&partitions).await;
}

/// Under load, power of one node after the other goes, and of no two at once.
async fn nodes_in_turn_lose_power(durability: Durability, seed: u64) {
    let mut cluster = Cluster::new(seed, 3, durability);
    cluster.start(&[0, 1, 2]).await;
    cluster.settled().await;
    let partitions = cluster.topic("t", 3).await;
    let load = Load::start(&cluster.running, &partitions);
    for round in 0..3 {
        let at = usize::try_from(round).expect("few");
        load.goes_on(20).await;
        a_moment(seed.wrapping_mul(31).wrapping_add(round * 97)).await;
        let before = cluster.incarnation(at);
        cluster.cut(&[at], seed.wrapping_mul(1_000) + round).await;
        load.goes_on(20).await;
        cluster.start(&[at]).await;
        assert_ne!(
            cluster.incarnation(at),
            before,
            "it was taken back as another"
        );
        cluster.settled().await;
        eventually("it has returned to every shard", async || {
            (!cluster.places[at].is_returning()).then_some(())
        })
        .await;
    }
    load.goes_on(20).await;
    let acknowledged = load.end(&cluster.running).await;
    eprintln!("{acknowledged} records");
    cluster.compare(&partitions).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_sync_now_and_then_lose_power_in_turn_and_come_back() {
    nodes_in_turn_lose_power(Durability::interval(), seed(2)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_never_sync_lose_power_in_turn_and_come_back() {
    nodes_in_turn_lose_power(Durability::Os, seed(3)).await;
}

/// What two nodes have acknowledged, one of them then forgets; the third has nothing of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_forgotten_elects_nobody_who_lacks_what_it_acknowledged() {
    let seed = seed(4);
    let mut cluster = Cluster::new(seed, 3, Durability::Os);
    cluster.start(&[0, 1, 2]).await;
    cluster.settled().await;
    let partitions = cluster.topic("t", 3).await;
    let load = Load::start(&cluster.running, &partitions);
    load.goes_on(20).await;
    cluster.end(&[2]).await;
    load.goes_on(60).await;
    cluster.cut(&[1], seed).await;
    cluster.end(&[0]).await;
    // Two of three, of which one has lost what only it and the missing one had.
    let forgetful = cluster.places[1].start().await;
    cluster.start(&[2]).await;
    eventually("it asks to be taken back", async || {
        cluster.places[1].is_returning().then_some(())
    })
    .await;
    let acknowledged = load.acknowledged();
    // Long enough for elections, if there could be any.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!forgetful.is_finished(), "nobody can take it back");
    assert_eq!(load.acknowledged(), acknowledged);
    cluster.start(&[0]).await;
    cluster.started(1, forgetful).await;
    load.goes_on(20).await;
    cluster.settled().await;
    load.end(&cluster.running).await;
    cluster.compare(&partitions).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_all_have_forgotten_they_wait_until_somebody_accepts_it() {
    let seed = seed(5);
    let mut cluster = Cluster::new(seed, 3, Durability::Os);
    cluster.start(&[0, 1, 2]).await;
    cluster.settled().await;
    let partitions = cluster.topic("t", 3).await;
    let load = Load::start(&cluster.running, &partitions);
    load.goes_on(60).await;
    load.abandon().await;
    cluster.cut(&[0, 1, 2], seed).await;
    let mut waiting = Vec::new();
    for place in &mut cluster.places {
        waiting.push(place.start().await);
    }
    for (place, waiting) in cluster.places.iter().zip(&waiting) {
        eventually("it waits", async || place.is_returning().then_some(())).await;
        assert!(!waiting.is_finished());
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    for waiting in waiting {
        assert!(
            !waiting.is_finished(),
            "nobody may begin without being told"
        );
        waiting.abort();
        let aborted = waiting.await.expect_err("it was aborted");
        assert!(aborted.is_cancelled());
    }
    // A majority is told to trust what it has; the third comes back to it.
    for place in &mut cluster.places[..2] {
        place.config.accept_power_loss = true;
    }
    cluster.start(&[0, 1, 2]).await;
    cluster.settled().await;
    let other = cluster.topic("u", 3).await;
    let load = Load::start(&cluster.running, &other);
    load.goes_on(40).await;
    for place in &cluster.places {
        eventually("it has returned", async || {
            (!place.is_returning()).then_some(())
        })
        .await;
    }
    load.end(&cluster.running).await;
    cluster.compare(&other).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_a_damaged_journal_is_filled_anew_and_comes_back() {
    let seed = seed(6);
    let mut cluster = Cluster::new(seed, 3, Durability::Fsync);
    cluster.start(&[0, 1, 2]).await;
    cluster.settled().await;
    let partitions = cluster.topic("t", 3).await;
    let load = Load::start(&cluster.running, &partitions);
    for at in [1, 0] {
        load.goes_on(60).await;
        let before = cluster.incarnation(at);
        cluster.end(&[at]).await;
        cluster.places[at].damage_journal();
        load.goes_on(20).await;
        cluster.start(&[at]).await;
        assert_ne!(cluster.incarnation(at), before);
        cluster.settled().await;
        eventually("it has returned", async || {
            (!cluster.places[at].is_returning()).then_some(())
        })
        .await;
        assert!(
            cluster.places[at].has("lost-1/journal"),
            "nothing is deleted"
        );
    }
    load.goes_on(20).await;
    load.end(&cluster.running).await;
    cluster.compare(&partitions).await;
}

/// Nothing in such a journal says that it was synced; that power was not lost tells the damage.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_node_whose_unsynced_journal_is_damaged_says_so_and_comes_back() {
    let seed = seed(9);
    let mut cluster = Cluster::new(seed, 3, Durability::Os);
    cluster.start(&[0, 1, 2]).await;
    cluster.settled().await;
    let partitions = cluster.topic("t", 3).await;
    let load = Load::start(&cluster.running, &partitions);
    load.goes_on(60).await;
    let before = cluster.incarnation(1);
    cluster.kill(&[1]).await;
    cluster.start(&[1]).await;
    assert_eq!(cluster.incarnation(1), before, "it has lost nothing");
    load.goes_on(60).await;
    cluster.kill(&[1]).await;
    cluster.places[1].damage_unsynced_journal();
    cluster.start(&[1]).await;
    assert_ne!(cluster.incarnation(1), before);
    assert!(cluster.places[1].has("lost-1/journal"));
    cluster.settled().await;
    load.goes_on(20).await;
    load.end(&cluster.running).await;
    cluster.compare(&partitions).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_a_damaged_or_missing_checkpoint_is_filled_anew_and_comes_back() {
    let seed = seed(9);
    let mut cluster = Cluster::new(seed, 3, Durability::Fsync);
    cluster.start(&[0, 1, 2]).await;
    cluster.settled().await;
    let partitions = cluster.topic("t", 3).await;
    let load = Load::start(&cluster.running, &partitions);
    for (at, shard, delete) in [(1, 0, false), (2, 1, false), (0, 2, true)] {
        load.goes_on(200).await;
        let before = cluster.incarnation(at);
        // In good order, so that there are checkpoints and the journal begins at them.
        cluster.end(&[at]).await;
        cluster.places[at].damage_checkpoint(shard, delete);
        load.goes_on(20).await;
        cluster.start(&[at]).await;
        assert_ne!(cluster.incarnation(at), before);
        cluster.settled().await;
        eventually("it has returned", async || {
            (!cluster.places[at].is_returning()).then_some(())
        })
        .await;
    }
    load.goes_on(20).await;
    load.end(&cluster.running).await;
    cluster.compare(&partitions).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_all_journals_are_damaged_nobody_begins_anew() {
    let seed = seed(7);
    let mut cluster = Cluster::new(seed, 3, Durability::Fsync);
    cluster.start(&[0, 1, 2]).await;
    cluster.settled().await;
    let partitions = cluster.topic("t", 3).await;
    let load = Load::start(&cluster.running, &partitions);
    load.goes_on(60).await;
    load.end(&cluster.running).await;
    cluster.end(&[0, 1, 2]).await;
    for place in &cluster.places {
        place.damage_journal();
    }
    let mut waiting = Vec::new();
    for place in &mut cluster.places {
        waiting.push(place.start().await);
    }
    for place in &cluster.places {
        eventually("it waits", async || place.is_returning().then_some(())).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    for waiting in waiting {
        assert!(!waiting.is_finished());
        waiting.abort();
        waiting.await.expect_err("it was aborted");
    }
    assert!(
        cluster.places.iter().all(|place| !place.has("lost-1")),
        "nothing is put aside"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_told_to_trust_its_disk_is_filled_anew_all_the_same_where_others_are_there() {
    let seed = seed(8);
    let mut cluster = Cluster::new(seed, 3, Durability::Os);
    cluster.start(&[0, 1, 2]).await;
    cluster.settled().await;
    let partitions = cluster.topic("t", 3).await;
    let load = Load::start(&cluster.running, &partitions);
    load.goes_on(20).await;
    cluster.cut(&[2], seed).await;
    load.goes_on(20).await;
    cluster.places[2].config.accept_power_loss = true;
    cluster.places[2].config.accept_power_loss_after_ms = 600_000;
    cluster.start(&[2]).await;
    cluster.settled().await;
    load.end(&cluster.running).await;
    let catalogue = cluster.brokers()[0].catalogue();
    let marks: Vec<Void> = (catalogue.voids.values())
        .flat_map(|marks| marks.values().copied())
        .collect();
    assert!(!marks.is_empty());
    assert!(
        marks.iter().all(|mark| matches!(mark, Void::Cleared(_))),
        "{marks:?}"
    );
    cluster.compare(&partitions).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_disk_is_noted_before_anybody_hears_of_it() {
    let seed = seed(10);
    let mut cluster = Cluster::new(seed, 3, Durability::Os);
    cluster.start(&[0, 1, 2]).await;
    cluster.settled().await;
    let partitions = cluster.topic("t", 3).await;
    let load = Load::start(&cluster.running, &partitions);
    load.goes_on(20).await;
    let before = cluster.incarnation(2);
    let running = cluster.broker(2);
    let mut failure = running.failure();
    let noted = cluster.places[2].run_note();
    (cluster.places[2].disk).inject(OpKind::Write, 1, std::io::ErrorKind::Other);
    eventually("the disk has failed", async || {
        failure.borrow_and_update().clone()
    })
    .await;
    assert_ne!(cluster.places[2].run_note(), noted);
    assert!(!running.must_not_start_over());
    drop(running);
    cluster.end(&[2]).await;
    cluster.start(&[2]).await;
    cluster.settled().await;
    assert_ne!(cluster.incarnation(2), before, "as after a loss of power");
    load.end(&cluster.running).await;
    cluster.compare(&partitions).await;
}
