//! Whole hosts that speak to each other over loopback, each on a simulated disk of its own.

#![allow(clippy::unwrap_used, reason = "only tests use it")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use raft::{
    HostConfig, Members, MembersError, OpenError, PeerIdentity, PeerMember, ProposeError, Shard,
    ShardOptions, Stage, StageError, StageProgress,
};
use storage::{NodeId, ShardId};

use super::ledger::{Computer, Ledger, Node, Outcome, op};

pub(crate) const SHARD: ShardId = ShardId(5);

/// Takes manifests as they come, and lets a test watch and hold it.
#[derive(Debug, Default)]
pub(crate) struct Stager {
    pub(crate) begun: AtomicUsize,
    pub(crate) done: AtomicUsize,
    pub(crate) holds: AtomicBool,
    /// The next staging panics.
    pub(crate) panics: AtomicBool,
    pub(crate) from: Mutex<Option<NodeId>>,
}

impl Stage for Shared {
    fn stage(
        &self,
        from: NodeId,
        manifest: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, StageError>> {
        let stager = Arc::clone(&self.0);
        async move {
            stager.begun.fetch_add(1, Ordering::SeqCst);
            *stager.from.lock().unwrap() = Some(from);
            let panics = stager.panics.swap(false, Ordering::SeqCst);
            assert!(!panics, "told to panic");
            while stager.holds.load(Ordering::SeqCst) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            stager.done.fetch_add(1, Ordering::SeqCst);
            Ok(manifest)
        }
        .boxed()
    }

    fn progress(&self) -> StageProgress {
        StageProgress {
            bytes_done: 7,
            bytes_left: Some(9),
        }
    }
}

struct Shared(Arc<Stager>);

pub(crate) struct Replica {
    pub(crate) computer: Computer,
    pub(crate) stager: Arc<Stager>,
    pub(crate) running: Option<Running>,
}

pub(crate) struct Running {
    pub(crate) node: Node,
    pub(crate) shard: Shard<Outcome>,
    pub(crate) ledger: Ledger,
}

pub(crate) struct Hosts {
    pub(crate) replicas: BTreeMap<u32, Replica>,
    pub(crate) founders: Option<BTreeSet<NodeId>>,
    /// Nodes that have no links.
    isolated: BTreeSet<u32>,
    /// Changes each host's settings.
    adjust: fn(&mut HostConfig),
    /// Largest request between them, if not the usual one.
    frame_bytes_max: Option<usize>,
}

/// What became of each body submitted.
#[derive(Default)]
pub(crate) struct History {
    next: usize,
    pub(crate) acknowledged: Vec<Bytes>,
    /// Refused for good: must never be seen.
    refused: Vec<Bytes>,
}

pub(crate) async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future)
        .await
        .unwrap_or_else(|_| panic!("never: {what}"))
}

pub(crate) fn nodes(numbers: impl IntoIterator<Item = u32>) -> BTreeSet<NodeId> {
    numbers.into_iter().map(NodeId).collect()
}

impl Hosts {
    /// A shard founded by nodes 1 to `founders`, with a leader.
    pub(crate) async fn new(founders: u32) -> Hosts {
        Hosts::with(founders, |_| ()).await
    }

    pub(crate) async fn with(founders: u32, adjust: fn(&mut HostConfig)) -> Hosts {
        Hosts::with_frames(founders, adjust, None).await
    }

    pub(crate) async fn with_frames(
        founders: u32,
        adjust: fn(&mut HostConfig),
        frame_bytes_max: Option<usize>,
    ) -> Hosts {
        let mut hosts = Hosts {
            replicas: BTreeMap::new(),
            founders: Some(nodes(1..=founders)),
            isolated: BTreeSet::new(),
            adjust,
            frame_bytes_max,
        };
        for node in 1..=founders {
            hosts.start(node).await.unwrap();
        }
        hosts.leader().await;
        hosts
    }

    /// Starts a node on what its disk holds.
    pub(crate) async fn start(&mut self, number: u32) -> Result<(), OpenError> {
        let replica = self.replicas.entry(number).or_insert_with(|| {
            let mut computer = Computer::new(u64::from(number));
            computer.node = NodeId(number);
            computer.frame_bytes_max = self.frame_bytes_max;
            Replica {
                computer,
                stager: Arc::default(),
                running: None,
            }
        });
        let mut config = HostConfig {
            heartbeat_ms: 50,
            election_ms_min: 600,
            election_ms_max: 1_200,
            ..replica.computer.config()
        };
        (self.adjust)(&mut config);
        let Ok(node) = replica.computer.try_boot(config).await else {
            return Err(OpenError::Failed { shard: SHARD });
        };
        node.peers.set_identity(PeerIdentity {
            cluster_id: "test".to_owned(),
            node: NodeId(number),
            incarnation: [u8::try_from(number).unwrap(); 16],
        });
        let ledger = Ledger::default();
        let options = ShardOptions {
            founders: self.founders.clone(),
            stage: Some(Arc::new(Shared(Arc::clone(&replica.stager)))),
        };
        let opening = node.host.open_shard(SHARD, ledger.clone(), options);
        match in_time("open", opening).await {
            Ok(shard) => {
                replica.running = Some(Running {
                    node,
                    shard,
                    ledger,
                });
                self.connect();
                Ok(())
            }
            Err(error) => {
                replica.computer.crash(node, 0).await;
                Err(error)
            }
        }
    }

    /// Tells every node where the others are, but for those that are cut off.
    fn connect(&self) {
        let members: BTreeMap<NodeId, PeerMember> = self
            .running()
            .filter(|(number, _)| !self.isolated.contains(number))
            .map(|(number, running)| {
                let member = PeerMember {
                    host: "127.0.0.1".to_owned(),
                    port: running.node.peers.local_addr().port(),
                    incarnation: [u8::try_from(number).unwrap(); 16],
                };
                (NodeId(number), member)
            })
            .collect();
        for (number, running) in self.running() {
            let mut members = members.clone();
            if self.isolated.contains(&number) {
                members.clear();
            }
            let all = self.replicas.keys().map(|number| NodeId(*number));
            let gone = all.filter(|node| !members.contains_key(node) && node.0 != number);
            let isolated = !self.isolated.is_empty();
            running.node.peers.set_removed(if isolated {
                gone.collect()
            } else {
                BTreeSet::new()
            });
            running.node.peers.set_members(members);
        }
    }

    pub(crate) fn isolate(&mut self, number: u32) {
        self.isolated.insert(number);
        self.connect();
    }

    pub(crate) fn heal(&mut self) {
        self.isolated.clear();
        self.connect();
    }

    fn running(&self) -> impl Iterator<Item = (u32, &Running)> {
        self.replicas
            .iter()
            .filter_map(|(number, replica)| Some((*number, replica.running.as_ref()?)))
    }

    pub(crate) fn node(&self, number: u32) -> &Running {
        self.replicas[&number].running.as_ref().unwrap()
    }

    pub(crate) fn shard(&self, number: u32) -> &Shard<Outcome> {
        &self.node(number).shard
    }

    pub(crate) fn stager(&self, number: u32) -> &Stager {
        &self.replicas[&number].stager
    }

    /// Ends a node's process where it stands.
    pub(crate) async fn kill(&mut self, number: u32) {
        let replica = self.replicas.get_mut(&number).unwrap();
        let running = replica.running.take().unwrap();
        replica.computer.kill(running.node).await;
    }

    /// Cuts a node's power.
    pub(crate) async fn crash(&mut self, number: u32, seed: u64) {
        let replica = self.replicas.get_mut(&number).unwrap();
        match replica.running.take() {
            Some(running) => replica.computer.crash(running.node, seed).await,
            None => replica.computer.sim.crash(seed),
        }
    }

    pub(crate) async fn stop(&mut self, number: u32) {
        let replica = self.replicas.get_mut(&number).unwrap();
        let running = replica.running.take().unwrap();
        in_time("stop", running.node.shutdown()).await;
    }

    /// Waits until `holds`.
    pub(crate) async fn until(&self, what: &str, holds: impl Fn(&Hosts) -> bool) {
        let waiting = async {
            while !holds(self) {
                tokio::time::sleep(Duration::from_millis(3)).await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(60), waiting)
            .await
            .is_err()
        {
            panic!("never: {what}\n{}", self.describe());
        }
    }

    fn describe(&self) -> String {
        self.running()
            .map(|(number, running)| {
                let leadership = *running.shard.leadership().borrow();
                let (progress, members) = (running.shard.progress(), self.members(number));
                let held = running.ledger.bodies().len();
                format!("{number}: {leadership:?}\n  {progress:?}\n  {members:?}, {held} bodies\n")
            })
            .collect()
    }

    pub(crate) fn members(&self, number: u32) -> Members {
        self.shard(number).members().borrow().clone()
    }

    fn serving(&self) -> Option<u32> {
        self.running()
            .filter(|(number, _)| !self.isolated.contains(number))
            .find(|(_, running)| running.shard.leadership().borrow().serving)
            .map(|(number, _)| number)
    }

    pub(crate) async fn leader(&self) -> u32 {
        self.until("somebody serves", |hosts| hosts.serving().is_some())
            .await;
        self.serving()
            .unwrap_or_else(|| panic!("it serves no more"))
    }

    /// Waits until a node with this number leads, by handing leadership to it.
    pub(crate) async fn make_leader(&self, number: u32) {
        in_time("the transfer", async {
            loop {
                let leader = self.leader().await;
                if leader == number {
                    return;
                }
                let _ = self.shard(leader).transfer_leader(NodeId(number)).await;
            }
        })
        .await;
    }

    /// Changes members while this node leads. A busy machine may take its leadership away
    /// meanwhile: then again.
    pub(crate) async fn change_members(&self, leader: u32, voters: impl IntoIterator<Item = u32>) {
        let voters = nodes(voters);
        self.steer(leader, |shard| {
            let voters = voters.clone();
            async move { shard.change_members(voters, BTreeSet::new()).await }
        })
        .await;
    }

    /// As [`Hosts::change_members`].
    pub(crate) async fn add_learner(&self, leader: u32, node: u32) {
        self.steer(leader, |shard| async move {
            shard.add_learner(NodeId(node)).await
        })
        .await;
    }

    async fn steer<F>(&self, leader: u32, act: impl Fn(Shard<Outcome>) -> F)
    where
        F: Future<Output = Result<(), MembersError>>,
    {
        in_time("a change of members", async {
            loop {
                self.make_leader(leader).await;
                match act(self.shard(leader).clone()).await {
                    Ok(()) => return,
                    Err(
                        MembersError::NotLeader { .. }
                        | MembersError::Unknown
                        | MembersError::InProgress,
                    ) => {}
                    Err(other) => panic!("{other}"),
                }
            }
        })
        .await;
    }

    /// Submits operations to whoever leads until `count` more are acknowledged.
    pub(crate) async fn write(&self, history: &mut History, count: usize) {
        self.write_of(history, count, 80).await;
    }

    /// Bodies of so many bytes.
    pub(crate) async fn write_of(&self, history: &mut History, count: usize, bytes: usize) {
        let until = history.acknowledged.len() + count;
        while history.acknowledged.len() < until {
            let Some(leader) = self.serving() else {
                tokio::time::sleep(Duration::from_millis(3)).await;
                continue;
            };
            let body = Bytes::from(format!("{:0bytes$}", history.next));
            history.next += 1;
            let shard = self.shard(leader);
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

    /// Waits until these nodes hold the same, and holds that against what clients were told.
    pub(crate) async fn check(&self, history: &History, numbers: &[u32]) {
        self.until("equal replicas", |hosts| {
            let first = hosts.node(numbers[0]);
            let (applied, bodies) = (first.shard.progress().applied, first.ledger.bodies());
            applied.is_some()
                && numbers.iter().all(|number| {
                    let other = hosts.node(*number);
                    other.shard.progress().applied == applied && other.ledger.bodies() == bodies
                })
        })
        .await;
        let bodies = self.node(numbers[0]).ledger.bodies();
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

    pub(crate) async fn shutdown(self) {
        for (_, replica) in self.replicas {
            if let Some(running) = replica.running {
                assert_eq!(*running.node.host.failed().borrow(), None);
                in_time("shutdown", running.node.shutdown()).await;
            }
        }
    }
}
