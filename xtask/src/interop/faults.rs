//! What is done to nodes while clients send: kills, pauses and network cuts, of leaders and of
//! followers in turn. As many nodes at once as the cluster can lose.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::cluster::Cluster;
use super::proxy::Cut;

/// How long every node lives before the next fault, with clients sending.
const REST: Duration = Duration::from_millis(500);
/// How long a killed node stays away.
const ABSENCE: Duration = Duration::from_millis(500);
/// How long nodes are paused or cut off: several of the longest election time-outs.
const SILENCE: Duration = Duration::from_millis(3_500);
/// How long a topic that is being made may be without a leader.
const LEADER_LIMIT: Duration = Duration::from_secs(150);
/// How often something is looked at again.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// What befalls nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// SIGKILL; they are started again a moment later.
    Kill,
    /// SIGSTOP, for longer than an election takes, and SIGCONT.
    Pause,
    /// They are cut off from the others, not from the clients.
    Cut(Cut),
}

/// Whom it befalls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whom {
    /// The leader of the topic that is being written (and followers, when the cluster can lose
    /// more than one).
    Leader,
    /// Followers of it only.
    Followers,
}

/// One fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault {
    /// What.
    pub(crate) kind: Kind,
    /// To whom.
    pub(crate) whom: Whom,
}

const KINDS: [Kind; 4] = [
    Kind::Kill,
    Kind::Pause,
    Kind::Cut(Cut::BlackHole),
    Kind::Cut(Cut::Refuse),
];

/// Every kind to leaders and to followers.
pub(crate) fn all() -> Vec<Fault> {
    let fault = |kind| move |whom| Fault { kind, whom };
    let both = |kind| [Whom::Leader, Whom::Followers].map(fault(kind));
    KINDS.into_iter().flat_map(both).collect()
}

/// A client's share of them, two at least: every kind befalls leaders and followers as soon as there
/// are four clients.
pub(crate) fn part(client: usize, clients: usize) -> Vec<Fault> {
    let count = all().len().div_ceil(clients.max(1)).max(2);
    let first = client * count;
    all().into_iter().cycle().skip(first).take(count).collect()
}

/// What a sending client and whoever makes the faults tell each other.
#[derive(Default)]
pub(crate) struct Load {
    topic: Mutex<String>,
    is_over: AtomicBool,
}

impl Load {
    /// This topic is written from now on.
    pub(crate) fn writes(&self, topic: &str) {
        topic.clone_into(&mut self.topic.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn topic(&self) -> String {
        let topic = self.topic.lock().unwrap_or_else(PoisonError::into_inner);
        topic.clone()
    }

    /// Nothing is written any more: no further faults.
    pub(crate) fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }
}

/// Does one after the other, each in a healthy cluster under load; all is well again at the end.
pub(crate) fn inflict(cluster: &mut Cluster, faults: &[Fault], load: &Load) -> Result<(), String> {
    let mut undone = Ok(());
    for (number, fault) in faults.iter().enumerate() {
        undone = (|| {
            cluster.wait_healthy()?;
            sleep(REST);
            let Some(leader) = leader(cluster, load)? else {
                return Ok(());
            };
            let victims = victims(cluster.len(), leader, fault.whom, number);
            println!(
                "fault: {:?} of {:?}, nodes {victims:?}",
                fault.kind, fault.whom
            );
            strike(cluster, fault.kind, &victims)
        })()
        .map_err(|why: String| format!("{fault:?}: {why}"));
        if undone.is_err() || load.is_over() {
            break;
        }
    }
    undone.and_then(|()| cluster.wait_healthy())
}

/// The leader of what is being written; none when nothing is any more.
fn leader(cluster: &Cluster, load: &Load) -> Result<Option<u32>, String> {
    let deadline = Instant::now() + LEADER_LIMIT;
    loop {
        if load.is_over() {
            return Ok(None);
        }
        let topic = load.topic();
        if let Some(leader) = cluster.leader(&topic) {
            return Ok(Some(leader));
        }
        if Instant::now() > deadline {
            return Err(format!("nobody leads topic {topic}"));
        }
        sleep(POLL_INTERVAL);
    }
}

/// The nodes that a fault befalls, by id from 1: as many as can be lost.
fn victims(nodes: usize, leader: u32, whom: Whom, number: usize) -> Vec<u32> {
    let count = nodes.saturating_sub(1) / 2;
    let others = (1..).take(nodes).filter(|node| *node != leader);
    let mut others: Vec<u32> = others.collect();
    let turn = number / 2 % others.len().max(1);
    others.rotate_left(turn);
    let first = (whom == Whom::Leader).then_some(leader);
    first.into_iter().chain(others).take(count).collect()
}

fn strike(cluster: &mut Cluster, kind: Kind, victims: &[u32]) -> Result<(), String> {
    match kind {
        Kind::Kill => {
            cluster.kill(victims)?;
            sleep(ABSENCE);
            cluster.restart(victims)
        }
        Kind::Pause => {
            cluster.signal("STOP", victims)?;
            sleep(SILENCE);
            cluster.signal("CONT", victims)
        }
        Kind::Cut(cut) => {
            for node in victims {
                cluster.isolate(*node, cut)?;
            }
            sleep(SILENCE);
            cluster.heal()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_is_hit_first_and_never_a_majority() {
        assert_eq!(victims(3, 2, Whom::Leader, 0), [2]);
        assert_eq!(victims(5, 2, Whom::Leader, 0), [2, 1]);
        for nodes in [3, 4, 5] {
            for number in 0..8 {
                let hit = victims(nodes, 1, Whom::Followers, number);
                assert_eq!(hit.len(), (nodes - 1) / 2);
                assert!(!hit.contains(&1), "{hit:?}");
            }
        }
        assert_eq!(victims(1, 1, Whom::Leader, 0), [0_u32; 0]);
    }

    #[test]
    fn followers_are_hit_in_turn() {
        let hit = |number| victims(3, 2, Whom::Followers, number);
        assert_eq!([hit(1), hit(3), hit(5)], [[1], [3], [1]]);
    }

    #[test]
    fn every_kind_befalls_leaders_and_followers() {
        assert_eq!(all().len(), 8);
        let parts: Vec<Fault> = (0..4).flat_map(|client| part(client, 4)).collect();
        assert_eq!(parts, all());
        assert_eq!(part(0, 1), all());
        assert_eq!(part(9, 11).len(), 2);
    }
}
