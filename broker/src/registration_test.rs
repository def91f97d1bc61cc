//! Three brokers in one process over loopback connections and simulated disks; what the cluster
//! knows of one of them is wrong.

use std::path::Path;
use std::sync::Arc;

use raft::{Peers, PeersConfig};
use storage::clock::Clock;
use storage::data_dir::DataDir;
use storage::disk::{Disk, SimDisk};

use super::*;
use crate::broker::PEERS_LISTENER;
use crate::{BrokerConfig, Env};

const DEADLINE: Duration = Duration::from_secs(30);

async fn bind(address: &str) -> Peers {
    let config = PeersConfig::new(address.parse().unwrap());
    Peers::bind(config, Clock::system()).await.unwrap()
}

async fn start(disk: &SimDisk, config: &BrokerConfig, peers: Peers, seed: u64) -> Broker {
    let disk = Disk::Sim(disk.clone());
    let data_dir = DataDir::open(&disk, Path::new("/data")).unwrap();
    let env = Env {
        clock: Clock::system(),
        disk,
        seed: [seed, 2, 3, 4],
    };
    let started = Broker::start(config.clone(), env, data_dir, peers).await;
    started.unwrap()
}

async fn wait(broker: &Broker, what: &str, is_so: impl Fn(&Arc<Catalogue>) -> bool) {
    let mut images = broker.inner.images.clone();
    let waiting = images.wait_for(is_so);
    let waited = tokio::time::timeout(DEADLINE, waiting).await;
    assert!(waited.is_ok_and(|seen| seen.is_ok()), "in vain: {what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_nobody_can_dial_says_itself_where_it_is() {
    let mut bound = Vec::new();
    for _ in 0..3 {
        bound.push(bind("127.0.0.1:0").await);
    }
    let addresses: Vec<_> = bound.iter().map(Peers::local_addr).collect();
    let configs: Vec<BrokerConfig> = (1..=3)
        .zip(&addresses)
        .map(|(id, address)| BrokerConfig {
            node_id: Some(NodeId(id)),
            seeds: addresses.iter().map(ToString::to_string).collect(),
            advertised: BTreeMap::from([(
                PEERS_LISTENER.to_owned(),
                (address.ip().to_string(), address.port()),
            )]),
            heartbeat_ms: 100,
            election_ms_min: 500,
            election_ms_max: 900,
            journal_file_bytes: 1 << 20,
            checkpoint_journal_bytes: 512 << 10,
            ..BrokerConfig::default()
        })
        .collect();
    let disks: Vec<SimDisk> = (0..3).map(|n| SimDisk::new(40 + n)).collect();
    let starting = (90..).zip(bound).enumerate().map(|(at, (seed, peers))| {
        let (disk, config) = (&disks[at], &configs[at]);
        async move { start(disk, config, peers, seed).await }
    });
    let mut brokers = tokio::time::timeout(DEADLINE, futures_util::future::join_all(starting))
        .await
        .expect("the cluster starts");
    wait(&brokers[0], "three nodes vote", |catalogue| {
        catalogue.nodes.len() == 3 && catalogue.shards[&storage::ShardId(0)].replicas.len() == 3
    })
    .await;
    let away = brokers.remove(2);
    let true_entry = away.own_entry();
    away.shutdown().await;
    // Lets go of its directory.
    drop(away);

    // A copy of its directory was started elsewhere, and is gone again.
    let nobody = bind("127.0.0.1:0").await;
    let port = nobody.local_addr().port();
    nobody.shutdown().await;
    let mut wrong = true_entry.clone();
    let listener = (addresses[2].ip().to_string(), port);
    wrong.listeners.insert(PEERS_LISTENER.to_owned(), listener);
    let put = Command::PutNode(wrong.clone());
    brokers[0].change_catalogue(&put).await.unwrap();
    wait(&brokers[0], "the wrong address", |catalogue| {
        catalogue.nodes[&wrong.id].listeners == wrong.listeners
    })
    .await;

    let peers = bind(&addresses[2].to_string()).await;
    let back = start(&disks[2], &configs[2], peers, 100).await;
    wait(&brokers[0], "the true address", |catalogue| {
        catalogue.nodes[&true_entry.id].listeners == true_entry.listeners
    })
    .await;
    tokio::time::timeout(DEADLINE, async {
        while !back.is_known().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("its catalogue is current");
    for broker in [&brokers[0], &brokers[1], &back] {
        broker.shutdown().await;
    }
}
