//! Three whole hosts with openraft's own ticks and elections: what a client is told while leaders
//! come and go, and what is there afterwards.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use storage::{NodeId, ShardId};

use super::ledger::{Computer, Ledger, Node, Outcome, op};
use super::network::{Link, Net, TestRaft};
use crate::group::{Parts, Wire};
use crate::peer::Attachment;
use crate::{CheckpointError, HostConfig, OpenError, ProposeError, Shard};

const SHARD: ShardId = ShardId(5);
const NODES: [u64; 3] = [1, 2, 3];

struct Replica {
    computer: Computer,
    running: Option<(Node, Shard<Outcome>, Ledger)>,
}

impl Replica {
    fn new(node: u64) -> Replica {
        let mut computer = Computer::new(node);
        computer.node = NodeId(u32::try_from(node).unwrap());
        Replica {
            computer,
            running: None,
        }
    }
}

/// Replicas that call each other directly.
struct LinkWire {
    net: Arc<Net>,
    node: u64,
}

impl Wire<Ledger> for LinkWire {
    type Network = Link;

    fn network(&mut self, _parts: &Parts) -> Link {
        Link {
            net: Arc::clone(&self.net),
            me: self.node,
            target: 0,
        }
    }

    fn attach(self, _parts: &Parts, raft: TestRaft) -> Option<Attachment> {
        self.net.rafts.lock().unwrap().insert(self.node, raft);
        None
    }
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
    tokio::time::timeout(Duration::from_secs(60), future)
        .await
        .expect(what)
}

impl Hosts {
    async fn new() -> Hosts {
        let replicas = NODES.map(Replica::new);
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
            heartbeat_ms: 50,
            election_ms_min: 300,
            election_ms_max: 600,
            checkpoint_journal_bytes: 4_000,
            entry_cache_bytes_max: 1_000,
            ..replica.computer.config()
        };
        let Ok(running) = replica.computer.try_boot(config).await else {
            return Err(OpenError::Failed { shard: SHARD });
        };
        let ledger = Ledger::default();
        let wire = LinkWire { net, node };
        let voters = NODES.map(|node| NodeId(u32::try_from(node).unwrap()));
        let opening = running
            .host
            .open(SHARD, ledger.clone(), wire, Some(voters.into()));
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
async fn a_replica_that_never_heard_of_anyone_closes() {
    let mut hosts = Hosts {
        net: Arc::default(),
        replicas: vec![Replica::new(1)],
    };
    hosts.start(1).await.unwrap();
    let shard = hosts.shard(1).unwrap();
    assert_eq!(shard.progress().applied, None);
    let nothing = in_time("an answer", shard.checkpoint()).await.unwrap_err();
    assert!(matches!(nothing, CheckpointError::Empty), "{nothing}");
    assert!(matches!(
        shard.submit(op("x")).await,
        Err(ProposeError::NotLeader { leader: None })
    ));
    hosts.shutdown().await;
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

/// Power goes at some disk operation of some replicas, of a majority too, while clients write and
/// while replicas start; what is down is started again, and so on.
async fn cut_power_anywhere(seed: u64, rounds: u64) {
    let mut hosts = Hosts::new().await;
    let mut history = History::default();
    let mut state = seed;
    let mut random = move |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    for round in 0..rounds {
        for node in NODES {
            if random(2) == 0 {
                let sim = &hosts.replica(node).computer.sim;
                sim.fail_after(1 + random(80));
            }
        }
        // Ends when there is no majority.
        let writing = hosts.write(&mut history, 25);
        let written = tokio::time::timeout(Duration::from_millis(1_500), writing)
            .await
            .is_ok();
        for node in NODES {
            let is_powered = hosts.replica(node).computer.sim.is_powered();
            // Whoever is well goes on, now and then with the cut still before it.
            if !is_powered || (!written && random(2) == 0) {
                hosts.crash(node, round).await;
                if random(2) == 0 {
                    hosts.replica(node).computer.sim.fail_after(1 + random(60));
                }
            }
        }
        for node in NODES {
            hosts.restart(node, round).await;
        }
        if random(3) == 0 {
            for node in NODES {
                hosts.crash(node, round).await;
            }
            for node in NODES {
                hosts.restart(node, round).await;
            }
            hosts.leader().await;
            hosts.check(&history).await;
        }
    }
    for node in NODES {
        hosts.crash(node, seed).await;
        hosts.restart(node, seed).await;
    }
    hosts.write(&mut history, 10).await;
    hosts.check(&history).await;
    hosts.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn power_cuts_at_any_disk_operation_of_any_replicas_lose_nothing_acknowledged() {
    // SEED and ROUNDS repeat or lengthen a run.
    let number = |name: &str, otherwise| {
        std::env::var(name).map_or(otherwise, |value| value.parse().unwrap())
    };
    let (seed, rounds) = (number("SEED", 42), number("ROUNDS", 8));
    eprintln!("SEED={seed} ROUNDS={rounds}");
    cut_power_anywhere(seed, rounds).await;
}

impl Hosts {
    /// Power goes on one node, if it runs; faults that were to come are forgotten.
    async fn crash(&mut self, node: u64, seed: u64) {
        self.net.rafts.lock().unwrap().remove(&node);
        let replica = self.replica(node);
        match replica.running.take() {
            Some((running, _, _)) => replica.computer.crash(running, seed).await,
            None => replica.computer.sim.crash(seed),
        }
    }

    /// Starts a node unless it runs; power may go once more meanwhile.
    async fn restart(&mut self, node: u64, seed: u64) {
        if self.replica(node).running.is_some() {
            return;
        }
        if let Err(error) = self.start(node).await {
            let is_powered = self.replica(node).computer.sim.is_powered();
            assert!(!is_powered, "{node} does not start: {error:?}");
            self.crash(node, seed).await;
            self.start(node).await.unwrap();
        }
    }
}
