//! Three whole hosts with openraft's own ticks and elections: what a client is told while leaders
//! come and go, and what is there afterwards.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use storage::{NodeId, ShardId};

use super::ledger::{Computer, Ledger, Node, Outcome, op};
use super::network::{Link, Net};
use crate::{HostConfig, OpenError, ProposeError, Shard};

const SHARD: ShardId = ShardId(5);
const NODES: [u64; 3] = [1, 2, 3];

struct Replica {
    computer: Computer,
    running: Option<(Node, Shard<Outcome>, Ledger)>,
}

struct Hosts {
    net: Arc<Net>,
    replicas: Vec<Replica>,
}

/// What became of each body submitted.
#[derive(Default)]
struct History {
    next: usize,
    acknowledged: Vec<Bytes>,
    /// Refused for good: must never be seen.
    refused: Vec<Bytes>,
}

async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future)
        .await
        .expect(what)
}

impl Hosts {
    async fn new() -> Hosts {
        let replicas = NODES.map(|node| {
            let mut computer = Computer::new(node);
            computer.node = NodeId(u32::try_from(node).unwrap());
            Replica {
                computer,
                running: None,
            }
        });
        let mut hosts = Hosts {
            net: Arc::default(),
            replicas: replicas.into(),
        };
        for node in NODES {
            hosts.start(node).await.unwrap();
        }
        hosts.leader().await;
        hosts
    }

    fn replica(&mut self, node: u64) -> &mut Replica {
        self.replicas
            .iter_mut()
            .find(|replica| u64::from(replica.computer.node.0) == node)
            .unwrap()
    }

    async fn start(&mut self, node: u64) -> Result<(), OpenError> {
        let net = Arc::clone(&self.net);
        let replica = self.replica(node);
        let config = HostConfig {
            heartbeat_ms: 30,
            election_ms_min: 100,
            election_ms_max: 250,
            checkpoint_journal_bytes: 4_000,
            entry_cache_bytes_max: 1_000,
            ..replica.computer.config()
        };
        let Ok(running) = replica.computer.try_boot(config) else {
            return Err(OpenError::Failed { shard: SHARD });
        };
        let ledger = Ledger::default();
        let link = Link {
            net: Arc::clone(&net),
            me: node,
            target: 0,
        };
        let attach = move |raft| {
            net.rafts.lock().unwrap().insert(node, raft);
        };
        let voters = BTreeSet::from(NODES);
        let opening = running
            .host
            .open_group(SHARD, ledger.clone(), link, voters, attach);
        let shard = in_time("open", opening).await?;
        replica.running = Some((running, shard, ledger));
        Ok(())
    }

    fn shard(&self, node: u64) -> Option<Shard<Outcome>> {
        let mut replicas = self.replicas.iter();
        let replica = replicas.find(|replica| u64::from(replica.computer.node.0) == node)?;
        replica.running.as_ref().map(|(_, shard, _)| shard.clone())
    }

    /// A node that serves, reached by the others.
    fn serving(&self) -> Option<u64> {
        let down = self.net.faults().down.clone();
        NODES.into_iter().find(|node| {
            let serves = self
                .shard(*node)
                .is_some_and(|shard| shard.leadership().borrow().serving);
            serves && !down.contains(node)
        })
    }

    async fn leader(&self) -> u64 {
        in_time("a leader", async {
            loop {
                if let Some(leader) = self.serving() {
                    return leader;
                }
                tokio::time::sleep(Duration::from_millis(3)).await;
            }
        })
        .await
    }

    /// Submits operations to whoever leads until `count` more are acknowledged.
    async fn write(&self, history: &mut History, count: usize) {
        let until = history.acknowledged.len() + count;
        while history.acknowledged.len() < until {
            let leader = self.leader().await;
            let body = Bytes::from(format!("{:080}", history.next));
            history.next += 1;
            let shard = self.shard(leader).unwrap();
            let answer = tokio::time::timeout(Duration::from_millis(1_500), async {
                shard.submit(op(body.clone())).await?.await
            });
            match answer.await {
                Ok(Ok(_)) => history.acknowledged.push(body),
                Ok(Err(ProposeError::Unknown { .. })) | Err(_) => {}
                Ok(Err(_)) => {
                    history.refused.push(body);
                    tokio::time::sleep(Duration::from_millis(3)).await;
                }
            }
        }
    }

    /// Waits until all hold the same, and holds that against what clients were told.
    async fn check(&self, history: &History) {
        let ledgers: Vec<&Ledger> = self
            .replicas
            .iter()
            .map(|replica| &replica.running.as_ref().unwrap().2)
            .collect();
        in_time("equal replicas", async {
            while !ledgers
                .iter()
                .all(|ledger| ledger.bodies() == ledgers[0].bodies())
            {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        let bodies = ledgers[0].bodies();
        let distinct: BTreeSet<&Bytes> = bodies.iter().collect();
        assert_eq!(
            distinct.len(),
            bodies.len(),
            "an operation was applied twice"
        );
        let mut order = bodies.iter();
        for body in &history.acknowledged {
            assert!(
                order.any(|held| held == body),
                "{body:?} was acknowledged and is gone"
            );
        }
        for body in &history.refused {
            assert!(
                !distinct.contains(body),
                "{body:?} was refused for good and is there"
            );
        }
    }

    async fn shutdown(self) {
        for replica in self.replicas {
            if let Some((node, _, _)) = replica.running {
                in_time("shutdown", node.shutdown()).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn followers_name_the_leader_and_confirm_no_reads() {
    let hosts = Hosts::new().await;
    let mut history = History::default();
    hosts.write(&mut history, 20).await;
    let leader = hosts.leader().await;
    hosts.shard(leader).unwrap().read_barrier().await.unwrap();
    for follower in NODES.into_iter().filter(|node| *node != leader) {
        let shard = hosts.shard(follower).unwrap();
        let known = Some(NodeId(u32::try_from(leader).unwrap()));
        let mut leadership = shard.leadership();
        in_time("it knows", leadership.wait_for(|held| held.leader == known))
            .await
            .unwrap();
        assert!(!shard.leadership().borrow().serving);
        let refusal = shard.submit(op("not here")).await.unwrap_err();
        assert_eq!(refusal, ProposeError::NotLeader { leader: known });
        assert!(matches!(
            shard.read_barrier().await,
            Err(ProposeError::NotLeader { .. })
        ));
    }
    hosts.check(&history).await;
    hosts.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_cut_off_loses_nothing_acknowledged() {
    let hosts = Hosts::new().await;
    let mut history = History::default();
    for _ in 0..4 {
        hosts.write(&mut history, 40).await;
        let leader = hosts.leader().await;
        // Its last operations hang in the air.
        let shard = hosts.shard(leader).unwrap();
        hosts.net.faults().down.insert(leader);
        let mut hanging = Vec::new();
        for number in 0..5 {
            hanging.push(
                shard
                    .submit(op(format!("hanging {} {number}", history.next)))
                    .await,
            );
        }
        hosts.write(&mut history, 40).await;
        hosts.net.faults().down.remove(&leader);
        hosts.write(&mut history, 5).await;
        hosts.check(&history).await;
        for pending in hanging.into_iter().flatten() {
            let answer = in_time("even a hanging operation is answered", pending).await;
            assert!(answer.is_err(), "acknowledged without a majority");
        }
    }
    hosts.shutdown().await;
}

/// Power goes at the n-th disk operation of one node while clients write, again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn power_cuts_at_any_disk_operation_of_any_replica_lose_nothing_acknowledged() {
    let mut hosts = Hosts::new().await;
    let mut history = History::default();
    let mut state = 42_u64;
    let mut random = move |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    for round in 0..25 {
        let node = NODES[usize::try_from(random(3)).unwrap()];
        hosts.replica(node).computer.sim.fail_after(1 + random(60));
        hosts.write(&mut history, 25).await;
        hosts.net.rafts.lock().unwrap().remove(&node);
        let replica = hosts.replica(node);
        let (running, _, _) = replica.running.take().unwrap();
        replica.computer.crash(running, round);
        // Sometimes power goes again while it starts.
        if random(2) == 0 {
            replica.computer.sim.fail_after(1 + random(40));
        }
        while hosts.start(node).await.is_err() {
            hosts.net.rafts.lock().unwrap().remove(&node);
            hosts.replica(node).computer.sim.crash(round);
        }
        if random(2) == 0 {
            hosts.check_when_powered(&history).await;
        }
    }
    hosts.check_when_powered(&history).await;
    hosts.shutdown().await;
}

impl Hosts {
    /// As [`Hosts::check`], after bringing back whoever lost power meanwhile.
    async fn check_when_powered(&mut self, history: &History) {
        for node in NODES {
            // A cut that was armed and has not struck yet must not strike during the check.
            let replica = self.replica(node);
            if let Some((running, _, _)) = replica.running.take() {
                replica.computer.crash(running, node);
            }
            self.net.rafts.lock().unwrap().remove(&node);
        }
        for node in NODES {
            self.start(node).await.unwrap();
        }
        self.leader().await;
        self.check(history).await;
    }
}
