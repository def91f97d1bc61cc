//! Networks that fail between nodes that live, under load: what a node that is cut off may say, that
//! the majority goes on, and that everything is whole after healing. Clients reach every node
//! throughout.

use storage::clock::Clock;
use test_support::{
    Cluster, Cut, Load, Loaded, ProduceFailure, Witness, check_replicas, connect, eventually,
    eventually_async, within,
};

use kafka_client::{Connection, ErrorCode};

use crate::{BINARY, create};

const PARTITIONS: i32 = 3;
/// Acknowledged between two events.
const RECORDS: i64 = 300;
/// In which a node that is cut off must have noticed: the longest election time-out and what a busy
/// machine takes.
const NOTICED_MS: i64 = 6_000;
/// From healing until every partition is led and writable, with all replicas.
const HEALED_MS: i64 = 30_000;

fn start(topic: &str) -> (Cluster, Load) {
    let cluster = Cluster::start_behind_proxies(BINARY, 3);
    create(&cluster, topic, PARTITIONS, 3);
    let load = Load::start(&cluster.bootstrap(), topic, PARTITIONS, 300);
    (cluster, load)
}

/// Writes one batch, in spite of whatever passes.
async fn write(cluster: &Cluster, topic: &str, witness: &mut Witness) {
    let client = cluster.client();
    let partition = witness.partition();
    eventually_async(&format!("{topic} {partition} to be writable"), async || {
        let connection = client.leader(topic, partition).await.ok()?;
        let written = witness.produce(&connection, 1).await;
        if written.is_err() {
            client.lost(&connection);
            client.moved(topic, partition, None);
        }
        written.ok()
    })
    .await;
}

/// Heals, and checks that all comes back in time and that nothing is lost.
#[expect(clippy::print_stdout, reason = "the figures of a test")]
async fn heal_and_conclude(cluster: &Cluster, topic: &str, load: Load) -> Vec<Loaded> {
    let clock = Clock::system();
    cluster.proxies().heal();
    load.more(RECORDS).await;
    let writable_ms = clock.monotonic_ms();
    let mut loaded = load.stop().await;
    for done in &mut loaded {
        write(cluster, topic, &mut done.witness).await;
    }
    cluster.wait_healthy(3);
    let healed_ms = clock.monotonic_ms();
    let total = check_replicas(cluster, topic, &loaded).await;
    let acknowledged: i64 = loaded.iter().map(|done| done.witness.acknowledged()).sum();
    let gap_ms = loaded.iter().map(|done| done.longest_gap_ms).max().unwrap();
    println!(
        "{topic}: {acknowledged} acknowledged, {total} there, longest gap {gap_ms} ms, \
         writable {writable_ms} ms and whole {healed_ms} ms after healing"
    );
    assert!(total >= acknowledged);
    assert!(healed_ms < HEALED_MS, "whole after {healed_ms} ms only");
    loaded
}

/// A client that knows only this node.
struct Inside {
    witness: Witness,
    connection: Connection,
}

impl Inside {
    async fn new(cluster: &Cluster, node: usize, topic: &str) -> Inside {
        let mut inside = Inside {
            witness: Witness::new(topic, 100),
            connection: connect(&cluster.kafka(node)).await.unwrap(),
        };
        inside.witness.produce(&inside.connection, 5).await.unwrap();
        inside
    }

    /// Produces to the node that was just cut off, until it says that it does not lead. Nothing may
    /// be acknowledged.
    async fn told_not_to_lead(&mut self) {
        let clock = Clock::system();
        let before = self.witness.acknowledged();
        loop {
            let produced = self.witness.produce(&self.connection, 1);
            let produced = within("the node that is cut off to answer", produced).await;
            let waited_ms = clock.monotonic_ms();
            match produced {
                Err(ProduceFailure::Refused(ErrorCode::NOT_LEADER_OR_FOLLOWER)) => break,
                // What it took before it noticed: nobody knows what will become of that.
                Err(ProduceFailure::Refused(ErrorCode::REQUEST_TIMED_OUT))
                    if waited_ms < NOTICED_MS => {}
                other => panic!("after {waited_ms} ms without anybody: {other:?}"),
            }
        }
        let waited_ms = clock.monotonic_ms();
        assert!(
            waited_ms < NOTICED_MS,
            "it took {waited_ms} ms to notice that it is alone"
        );
        assert_eq!(self.witness.acknowledged(), before);
    }
}

async fn an_isolated_leader(topic: &str, cut: Cut) {
    let (cluster, load) = start(topic);
    let lonely = format!("{topic}-inside");
    create(&cluster, &lonely, 1, 3);
    let leader = cluster.leader(&lonely, 0).await;
    let mut inside = Inside::new(&cluster, leader, &lonely).await;
    load.more(RECORDS).await;

    cluster.proxies().isolate(leader, cut);
    inside.told_not_to_lead().await;
    load.more(RECORDS).await;
    // It stays so, and the others have a leader for it whom they tell of.
    inside.told_not_to_lead().await;
    let others = (0..3).filter(|node| *node != leader);
    let told = others.map(|node| cluster.kafka(node)).collect::<Vec<_>>();
    eventually_async("the majority to lead instead", async || {
        for address in &told {
            let metadata = connect(address)
                .await
                .ok()?
                .metadata(Some(&[&lonely]), false)
                .await;
            let told = metadata.ok()?.topics.into_iter().next()?.partitions;
            let id = i32::try_from(cluster.id(leader)).unwrap();
            if told.first()?.leader == id || told.first()?.leader < 0 {
                return None;
            }
        }
        Some(())
    })
    .await;
    // What it was asked for in vain may be sent again, and is there once.
    write(&cluster, &lonely, &mut inside.witness).await;

    heal_and_conclude(&cluster, topic, load).await;
    let loaded = Loaded {
        witness: inside.witness,
        longest_gap_ms: 0,
    };
    check_replicas(&cluster, &lonely, &[loaded]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_in_a_black_hole_acknowledges_nothing_and_the_majority_goes_on() {
    an_isolated_leader("hole", Cut::BlackHole).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_all_refuse_acknowledges_nothing_and_the_majority_goes_on() {
    an_isolated_leader("refused", Cut::Refuse).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_isolated_follower_is_missed_by_nobody_and_catches_up() {
    let (cluster, load) = start("follower");
    let leader = cluster.leader("follower", 0).await;
    for (cut, follower) in [
        (Cut::BlackHole, (leader + 1) % 3),
        (Cut::Refuse, (leader + 2) % 3),
    ] {
        load.more(RECORDS).await;
        cluster.proxies().isolate(follower, cut);
        eventually("the others to miss it", || {
            let status = cluster.status_of(leader)?;
            let id = cluster.id(follower);
            let nodes = status["nodes"].as_array()?;
            let it = nodes.iter().find(|node| node["id"] == id)?;
            (it["alive"] == false).then_some(())
        });
        load.more(RECORDS).await;
        cluster.proxies().heal();
        cluster.wait_healthy(3);
    }
    heal_and_conclude(&cluster, "follower", load).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_way_cuts_lose_nothing_and_stop_nobody_for_long() {
    let (cluster, load) = start("one-way");
    let proxies = cluster.proxies();
    load.more(RECORDS).await;
    let leader = cluster.leader("one-way", 0).await;
    let (one, other) = ((leader + 1) % 3, (leader + 2) % 3);
    // A follower does not hear its leader; a leader does not hear a follower; a leader hears all
    // and is heard by nobody; a leader is heard by all and hears nobody.
    for pairs in [
        &[(leader, one)][..],
        &[(other, leader)],
        &[(leader, one), (leader, other)],
        &[(one, leader), (other, leader)],
    ] {
        for (from, to) in pairs {
            proxies.cut(*from, *to, Cut::BlackHole);
        }
        load.more(RECORDS).await;
        proxies.heal();
        load.more(RECORDS).await;
    }
    // The same where the others refuse what it dials.
    proxies.cut(leader, one, Cut::Refuse);
    proxies.cut(leader, other, Cut::Refuse);
    load.more(RECORDS).await;
    heal_and_conclude(&cluster, "one-way", load).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_node_cut_off_in_turn_loses_nothing() {
    let (cluster, load) = start("turns");
    for (node, cut) in [
        (0, Cut::BlackHole),
        (1, Cut::Refuse),
        (2, Cut::BlackHole),
        (0, Cut::Refuse),
    ] {
        load.more(RECORDS).await;
        cluster.proxies().isolate(node, cut);
        load.more(RECORDS).await;
        // The next is cut off while this one comes back.
        cluster.proxies().heal();
    }
    heal_and_conclude(&cluster, "turns", load).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_majority_anywhere_nothing_is_acknowledged_until_it_is_healed() {
    let (cluster, load) = start("alone");
    create(&cluster, "alone-inside", 1, 3);
    let leader = cluster.leader("alone-inside", 0).await;
    let mut inside = Inside::new(&cluster, leader, "alone-inside").await;
    load.more(RECORDS).await;
    for node in 0..3 {
        cluster.proxies().isolate(node, Cut::BlackHole);
    }
    inside.told_not_to_lead().await;
    eventually("every node to know that it is alone", || {
        (0..3)
            .all(|node| {
                cluster.status_of(node).is_some_and(|status| {
                    let shards = status["shards"].as_array().map_or(&[][..], Vec::as_slice);
                    !shards.is_empty() && status["verdict"]["health"] != "healthy"
                })
            })
            .then_some(())
    });
    let settled = load.acknowledged();
    inside.told_not_to_lead().await;
    assert_eq!(load.acknowledged(), settled, "acknowledged by a minority");
    heal_and_conclude(&cluster, "alone", load).await;
    write(&cluster, "alone-inside", &mut inside.witness).await;
    let loaded = Loaded {
        witness: inside.witness,
        longest_gap_ms: 0,
    };
    check_replicas(&cluster, "alone-inside", &[loaded]).await;
}
