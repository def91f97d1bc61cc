//! Three and more hosts over real connections: what clients are told while nodes come, go and
//! change their places, and what is there afterwards.

#![allow(clippy::unwrap_used, reason = "a test")]

mod hosts;
mod ledger;

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use bytes::Bytes;
use raft::{Members, MembersError, ProposeError};
use storage::NodeId;

use hosts::{History, Hosts, SHARD, in_time, nodes};
use ledger::op;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_commit_on_three_nodes_and_their_outcomes_come_back() {
    let hosts = Hosts::new(3).await;
    let mut history = History::default();
    let leader = hosts.leader().await;
    let shard = hosts.shard(leader);
    for number in 0..20 {
        let outcome = shard
            .submit(op(format!("op {number}")))
            .await
            .unwrap()
            .await;
        assert_eq!(outcome.unwrap().0, number);
    }
    shard.read_barrier().await.unwrap();
    hosts.write(&mut history, 100).await;
    hosts.check(&history, &[1, 2, 3]).await;
    assert_eq!(hosts.members(leader).voters, nodes(1..=3));
    let last = shard.progress().last.unwrap().index;
    hosts
        .until("the leader knows how far all are", |hosts| {
            let replicas = hosts.shard(leader).replicas().unwrap();
            replicas.len() == 3
                && replicas.values().all(|replica| {
                    replica.matched == Some(last)
                        && replica.acknowledged_ms_ago.is_some_and(|ago| ago < 2_000)
                        && replica.staging.is_none()
                })
        })
        .await;
    let follower = leader % 3 + 1;
    assert_eq!(hosts.shard(follower).replicas(), None);
    assert_eq!(
        hosts.shard(follower).submit(op("x")).await.unwrap_err(),
        ProposeError::NotLeader {
            leader: Some(NodeId(leader))
        }
    );
    hosts.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_leader_is_replaced_at_once_and_nothing_acknowledged_is_lost() {
    // Time-outs far beyond the test's patience: only the transport can notice.
    let mut hosts = Hosts::with(3, |config| {
        config.heartbeat_ms = 300;
        config.election_ms_min = 8_000;
        config.election_ms_max = 12_000;
    })
    .await;
    let mut history = History::default();
    for _ in 0..3 {
        hosts.write(&mut history, 30).await;
        let leader = hosts.leader().await;
        hosts.kill(leader).await;
        #[expect(clippy::disallowed_methods, reason = "a measurement")]
        let killed = std::time::Instant::now();
        let write = hosts.write(&mut history, 1);
        tokio::time::timeout(Duration::from_secs(15), write)
            .await
            .expect("another leads before any time-out");
        eprintln!(
            "accepted a write {:?} after the leader was killed",
            killed.elapsed()
        );
        hosts.write(&mut history, 20).await;
        hosts.start(leader).await.unwrap();
        hosts.write(&mut history, 5).await;
        hosts.check(&history, &[1, 2, 3]).await;
    }
    hosts.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_cut_off_acknowledges_nothing_and_says_that_it_does_not_lead() {
    let mut hosts = Hosts::new(3).await;
    let mut history = History::default();
    for _ in 0..2 {
        hosts.write(&mut history, 30).await;
        let leader = hosts.leader().await;
        let shard = hosts.shard(leader).clone();
        hosts.isolate(leader);
        let mut hanging = Vec::new();
        for number in 0..5 {
            let body = format!("hanging {} {number}", history.acknowledged.len());
            hanging.push(shard.submit(op(body)).await);
        }
        let mut leadership = shard.leadership();
        in_time(
            "it serves no more",
            leadership.wait_for(|held| !held.serving),
        )
        .await
        .unwrap();
        for _ in 0..3 {
            let refusal = in_time("a refusal", shard.submit(op("not here"))).await;
            assert!(
                matches!(refusal, Err(ProposeError::NotLeader { .. })),
                "{refusal:?}"
            );
            let refusal = in_time("a refusal", shard.read_barrier()).await;
            assert!(
                matches!(refusal, Err(ProposeError::NotLeader { .. })),
                "{refusal:?}"
            );
        }
        // While it is cut off: nobody waits until that is over.
        for pending in hanging.into_iter().flatten() {
            let answer = in_time("even a hanging operation is answered", pending).await;
            assert!(answer.is_err(), "acknowledged without a majority");
        }
        hosts.write(&mut history, 30).await;
        hosts.heal();
        hosts.write(&mut history, 5).await;
        hosts.check(&history, &[1, 2, 3]).await;
    }
    hosts.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_far_behind_stages_the_checkpoint_while_the_shard_goes_on() {
    let mut hosts = Hosts::with(3, |config| {
        config.heartbeat_ms = 100;
        config.election_ms_min = 1_000;
        config.election_ms_max = 2_000;
    })
    .await;
    let mut history = History::default();
    hosts.write(&mut history, 30).await;
    let leader = hosts.leader().await;
    let follower = leader % 3 + 1;
    hosts.kill(follower).await;
    hosts.write(&mut history, 60).await;
    let at = hosts.shard(leader).checkpoint().await.unwrap();
    hosts
        .until("the journal is cut", |hosts| {
            hosts.shard(leader).progress().purged == Some(at)
        })
        .await;
    hosts.stager(follower).holds.store(true, SeqCst);
    hosts.start(follower).await.unwrap();
    hosts
        .until("it fetches", |hosts| {
            hosts.stager(follower).begun.load(SeqCst) == 1
        })
        .await;
    hosts
        .until("the leader shows it", |hosts| {
            let replicas = hosts.shard(leader).replicas().unwrap_or_default();
            let staging = replicas
                .get(&NodeId(follower))
                .and_then(|replica| replica.staging);
            staging.is_some_and(|staging| staging.bytes_left == Some(9))
        })
        .await;
    // Longer than a lease and an election time-out.
    let term = hosts.shard(leader).leadership().borrow().term;
    let mut observed = hosts.shard(follower).leadership();
    let disturbed = observed.wait_for(|held| held.term != term);
    assert!(
        tokio::time::timeout(Duration::from_secs(6), disturbed)
            .await
            .is_err(),
        "a follower that stages disturbs the shard"
    );
    hosts.write(&mut history, 30).await;
    assert_eq!(hosts.stager(follower).done.load(SeqCst), 0);
    hosts.stager(follower).holds.store(false, SeqCst);
    hosts.check(&history, &[1, 2, 3]).await;
    assert_eq!(hosts.stager(follower).done.load(SeqCst), 1);
    assert_eq!(
        *hosts.stager(follower).from.lock().unwrap(),
        Some(NodeId(leader))
    );
    assert_eq!(hosts.node(follower).ledger.view().installs, 1);
    hosts
        .until("the staging is over", |hosts| {
            let replicas = hosts.shard(leader).replicas().unwrap();
            replicas.values().all(|replica| replica.staging.is_none())
        })
        .await;
    hosts.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_that_is_larger_than_a_request_is_handed_over_all_the_same() {
    let mut hosts = Hosts::with_frames(3, |_| (), Some(1 << 20)).await;
    let mut history = History::default();
    hosts.write(&mut history, 1).await;
    let leader = hosts.leader().await;
    let follower = leader % 3 + 1;
    hosts.kill(follower).await;
    let large = 8 << 10;
    while history.acknowledged.iter().map(Bytes::len).sum::<usize>() < 5 << 18 {
        hosts.write_of(&mut history, 10, large).await;
    }
    let at = hosts.shard(leader).checkpoint().await.unwrap();
    hosts
        .until("the journal is cut", |hosts| {
            hosts.shard(leader).progress().purged == Some(at)
        })
        .await;
    hosts.start(follower).await.unwrap();
    hosts.check(&history, &[1, 2, 3]).await;
    assert_eq!(hosts.node(follower).ledger.view().installs, 1);
    hosts.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_staging_that_panicked_is_begun_anew() {
    let mut hosts = Hosts::new(3).await;
    let mut history = History::default();
    hosts.write(&mut history, 20).await;
    let leader = hosts.leader().await;
    let follower = leader % 3 + 1;
    hosts.kill(follower).await;
    hosts.write(&mut history, 20).await;
    let at = hosts.shard(leader).checkpoint().await.unwrap();
    hosts
        .until("the journal is cut", |hosts| {
            hosts.shard(leader).progress().purged == Some(at)
        })
        .await;
    hosts.stager(follower).panics.store(true, SeqCst);
    hosts.start(follower).await.unwrap();
    hosts.check(&history, &[1, 2, 3]).await;
    assert!(hosts.stager(follower).begun.load(SeqCst) >= 2);
    hosts.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_grows_from_one_to_three_and_shrinks_again_under_load() {
    let mut hosts = Hosts::new(1).await;
    let mut history = History::default();
    hosts.write(&mut history, 40).await;
    hosts.shard(1).checkpoint().await.unwrap();
    hosts.write(&mut history, 10).await;
    hosts.start(2).await.unwrap();
    hosts.start(3).await.unwrap();
    let shard = hosts.shard(1).clone();
    assert_eq!(
        shard.change_members(nodes([1, 2]), nodes([])).await,
        Err(MembersError::NotReplica { node: NodeId(2) })
    );
    assert_eq!(
        shard.change_members(nodes([]), nodes([])).await,
        Err(MembersError::NoVoters)
    );
    let growing = async {
        hosts.add_learner(1, 2).await;
        hosts.add_learner(1, 3).await;
        hosts.change_members(1, 1..=3).await;
    };
    tokio::join!(growing, hosts.write(&mut history, 200));
    hosts.check(&history, &[1, 2, 3]).await;
    for number in 1..=3 {
        hosts
            .until("all know the members", |hosts| {
                let members = hosts.members(number);
                members.voters == nodes(1..=3) && members.learners.is_empty() && !members.is_joint
            })
            .await;
    }
    // One is lost without harm, so the others do vote.
    hosts.kill(2).await;
    hosts.write(&mut history, 20).await;
    hosts.start(2).await.unwrap();
    hosts.make_leader(3).await;
    let shard = hosts.shard(3).clone();
    let shrinking = async {
        shard.change_members(nodes([3]), nodes([2])).await.unwrap();
    };
    tokio::join!(
        in_time("shrinking", shrinking),
        hosts.write(&mut history, 100)
    );
    let members = hosts.members(3);
    assert_eq!((members.voters, members.learners), (nodes([3]), nodes([2])));
    hosts.check(&history, &[3, 2]).await;
    hosts.kill(1).await;
    hosts.kill(2).await;
    hosts.write(&mut history, 20).await;
    hosts.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_removed_hands_over() {
    let hosts = Hosts::new(3).await;
    let mut history = History::default();
    hosts.write(&mut history, 20).await;
    let leader = hosts.leader().await;
    let others: Vec<u32> = (1..=3).filter(|node| *node != leader).collect();
    let rest = nodes(others.iter().copied());
    let changed = hosts.shard(leader).change_members(rest.clone(), nodes([]));
    in_time("the change", changed).await.unwrap();
    hosts
        .until("one of the others serves", |hosts| {
            others
                .iter()
                .any(|node| hosts.shard(*node).leadership().borrow().serving)
        })
        .await;
    hosts
        .until("the removed one serves no more", |hosts| {
            !hosts.shard(leader).leadership().borrow().serving
        })
        .await;
    hosts.write(&mut history, 30).await;
    hosts.check(&history, &others).await;
    assert_eq!(hosts.members(others[0]).voters, rest);
    hosts.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sole_voter_that_is_left_over_takes_the_lead() {
    let mut hosts = Hosts::new(3).await;
    let mut history = History::default();
    hosts.make_leader(1).await;
    hosts.write(&mut history, 10).await;
    let shard = hosts.shard(1).clone();
    // The leader that leaves goes at once, so that it cannot see to its own replacement.
    let mut members = hosts.shard(2).members();
    let left_over = async {
        let alone = |members: &Members| members.voters == nodes([2]) && !members.is_joint;
        members.wait_for(alone).await.unwrap();
    };
    let changing = tokio::spawn(async move { shard.change_members(nodes([2]), nodes([])).await });
    in_time("it is the only voter", left_over).await;
    hosts.kill(1).await;
    hosts.kill(3).await;
    hosts.write(&mut history, 10).await;
    hosts.check(&history, &[2]).await;
    let _ = in_time("the change", changing).await;
    hosts.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_voter_leads_once_more_when_the_one_that_is_left_lost_its_removal() {
    let mut hosts = Hosts::new(2).await;
    let mut history = History::default();
    hosts.make_leader(1).await;
    hosts.write(&mut history, 10).await;
    hosts.check(&history, &[1, 2]).await;
    let shard = hosts.shard(1).clone();
    // Node 2 takes its time, so that the removal has not reached its disk when its power goes.
    let sim = hosts.replicas[&2].computer.sim.clone();
    sim.slow_down(Duration::from_millis(300));
    let changing = tokio::spawn(async move { shard.change_members(nodes([2]), nodes([])).await });
    hosts
        .until("who is removed knows it", |hosts| {
            let members = hosts.members(1);
            members.voters == nodes([2]) && !members.is_joint
        })
        .await;
    hosts.crash(2, 1).await;
    // In good order: it has written everything then.
    hosts.stop(1).await;
    let _ = in_time("the change", changing).await;
    hosts.start(2).await.unwrap();
    assert!(hosts.members(2).is_joint, "{:?}", hosts.members(2));
    hosts.start(1).await.unwrap();
    in_time("somebody leads", hosts.write(&mut history, 10)).await;
    hosts
        .until("only the one that is left votes", |hosts| {
            let members = hosts.members(2);
            members.voters == nodes([2]) && !members.is_joint
        })
        .await;
    hosts.check(&history, &[2]).await;
    hosts.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_moves_where_it_is_told() {
    let hosts = Hosts::new(3).await;
    let mut history = History::default();
    for to in [1, 2, 3, 1] {
        hosts.make_leader(to).await;
        hosts.write(&mut history, 10).await;
    }
    let shard = hosts.shard(hosts.leader().await);
    assert_eq!(
        shard.transfer_leader(NodeId(9)).await,
        Err(MembersError::NotVoter { node: NodeId(9) })
    );
    hosts.check(&history, &[1, 2, 3]).await;
    hosts.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_hands_over_says_that_it_does_not_serve() {
    let hosts = Hosts::new(3).await;
    let mut history = History::default();
    hosts.write(&mut history, 10).await;
    let leader = hosts.leader().await;
    let to = leader % 3 + 1;
    let shard = hosts.shard(leader).clone();
    let mut leadership = shard.leadership();
    // Who is to lead cannot vote, so the leader goes on until the third campaigns.
    let sim = hosts.replicas[&to].computer.sim.clone();
    sim.stall(true);
    let transfer = tokio::spawn(async move { shard.transfer_leader(NodeId(to)).await });
    let held = *in_time(
        "it serves no more",
        leadership.wait_for(|held| !held.serving),
    )
    .await
    .unwrap();
    assert_eq!(held.leader, Some(NodeId(leader)));
    sim.stall(false);
    in_time("the transfer", transfer).await.unwrap().unwrap();
    hosts.write(&mut history, 10).await;
    hosts.check(&history, &[1, 2, 3]).await;
    hosts.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destroyed_replica_that_is_added_again_starts_blank() {
    let mut hosts = Hosts::new(3).await;
    let mut history = History::default();
    hosts.make_leader(1).await;
    hosts.write(&mut history, 40).await;
    hosts.shard(3).checkpoint().await.unwrap();
    hosts.change_members(1, [1, 2]).await;
    hosts.node(3).node.host.destroy_shard(SHARD).await.unwrap();
    hosts.node(3).node.host.destroy_shard(SHARD).await.unwrap();
    let log = hosts.node(3).node.journal.shard_log(SHARD);
    assert_eq!((log.last, log.vote), (None, None));
    hosts.write(&mut history, 40).await;
    hosts.stop(3).await;
    // Nobody may begin a shard whose members were ever changed.
    hosts.founders = None;
    hosts.start(3).await.unwrap();
    assert_eq!(hosts.node(3).ledger.bodies().len(), 0);
    assert_eq!(hosts.members(3).voters, nodes([]));
    hosts.add_learner(1, 3).await;
    hosts.check(&history, &[1, 2, 3]).await;
    hosts.change_members(1, 1..=3).await;
    hosts.make_leader(3).await;
    hosts.write(&mut history, 10).await;
    hosts.check(&history, &[1, 2, 3]).await;
    hosts.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_was_forgotten_does_not_vote_for_less_than_it_once_held() {
    let mut hosts = Hosts::new(3).await;
    let mut history = History::default();
    hosts.make_leader(1).await;
    hosts.write(&mut history, 20).await;
    hosts.check(&history, &[1, 2, 3]).await;
    // Node 2 stays behind with the old members, node 4 takes the place of node 3.
    hosts.kill(2).await;
    hosts.change_members(1, [1, 3]).await;
    hosts.write(&mut history, 5).await;
    hosts.founders = None;
    hosts.start(4).await.unwrap();
    hosts.add_learner(1, 4).await;
    hosts.change_members(1, [1, 4]).await;
    hosts.node(3).node.host.destroy_shard(SHARD).await.unwrap();
    hosts.write(&mut history, 10).await;
    for node in [1, 4, 3] {
        hosts.kill(node).await;
    }
    // Twice, for opening it anew must not make it forget again.
    hosts.start(3).await.unwrap();
    hosts.kill(3).await;
    hosts.start(3).await.unwrap();
    hosts.start(2).await.unwrap();
    let mut leadership = hosts.shard(2).leadership();
    let led = leadership.wait_for(|held| held.leader == Some(NodeId(2)));
    assert!(
        tokio::time::timeout(Duration::from_secs(3), led)
            .await
            .is_err(),
        "elected without entries that were acknowledged"
    );
    // Given the log again it votes and leads like any other.
    hosts.start(1).await.unwrap();
    hosts.start(4).await.unwrap();
    hosts.add_learner(1, 3).await;
    hosts.change_members(1, [1, 3]).await;
    hosts.kill(4).await;
    hosts.make_leader(3).await;
    hosts.write(&mut history, 10).await;
    hosts.check(&history, &[1, 3]).await;
    hosts.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn power_cuts_of_all_three_at_once_lose_nothing_acknowledged() {
    let mut hosts = Hosts::with(3, |config| config.checkpoint_journal_bytes = 4_000).await;
    let mut history = History::default();
    for round in 0..6 {
        for (number, replica) in &hosts.replicas {
            replica
                .computer
                .sim
                .fail_after(30 + (round * 37 + u64::from(*number) * 11) % 60);
        }
        // Ends when there is no majority.
        let writing = hosts.write(&mut history, 200);
        let _ = tokio::time::timeout(Duration::from_millis(1_000), writing).await;
        for number in 1..=3 {
            hosts.crash(number, round).await;
        }
        for number in 1..=3 {
            hosts.start(number).await.unwrap();
        }
        hosts.write(&mut history, 10).await;
        hosts.check(&history, &[1, 2, 3]).await;
    }
    hosts.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_leaders_checkpoint_replaces_the_one_that_is_being_staged() {
    let mut hosts = Hosts::new(3).await;
    let mut history = History::default();
    hosts.write(&mut history, 30).await;
    let leader = hosts.leader().await;
    let (follower, other) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    hosts.kill(follower).await;
    hosts.write(&mut history, 30).await;
    hosts.check(&history, &[leader, other]).await;
    for node in [leader, other] {
        let at = hosts.shard(node).checkpoint().await.unwrap();
        hosts
            .until("the journal is cut", |hosts| {
                hosts.shard(node).progress().purged >= Some(at)
            })
            .await;
    }
    hosts.stager(follower).holds.store(true, SeqCst);
    hosts.start(follower).await.unwrap();
    let fetches_from = |hosts: &Hosts, begun: usize, from: u32| {
        let stager = hosts.stager(follower);
        stager.begun.load(SeqCst) >= begun && *stager.from.lock().unwrap() == Some(NodeId(from))
    };
    hosts
        .until("it fetches", |hosts| fetches_from(hosts, 1, leader))
        .await;
    hosts.kill(leader).await;
    hosts
        .until("it fetches from the new leader", |hosts| {
            fetches_from(hosts, 2, other)
        })
        .await;
    hosts.stager(follower).holds.store(false, SeqCst);
    hosts.write(&mut history, 20).await;
    hosts.check(&history, &[follower, other]).await;
    let done = hosts.stager(follower).done.load(SeqCst);
    assert_eq!(done, 1, "the old staging was not dropped");
    hosts.start(leader).await.unwrap();
    hosts.check(&history, &[1, 2, 3]).await;
    hosts.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_shard_keeps_its_leader() {
    // Without heartbeats the leader would be cut off after two seconds and replaced after three to
    // four; a machine may be busy for one.
    let hosts = Hosts::with(3, |config| {
        config.heartbeat_ms = 100;
        config.election_ms_min = 1_000;
        config.election_ms_max = 2_000;
    })
    .await;
    let mut history = History::default();
    hosts.write(&mut history, 5).await;
    hosts.check(&history, &[1, 2, 3]).await;
    let leader = hosts.leader().await;
    let mut leadership = hosts.shard(leader).leadership();
    let held = *leadership.borrow_and_update();
    let change = leadership.wait_for(|now| *now != held);
    let changed = tokio::time::timeout(Duration::from_secs(6), change).await;
    assert!(changed.is_err(), "{changed:?} instead of {held:?}");
    hosts.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_orderly_restart_of_each_node_leaves_hardly_a_gap() {
    let mut hosts = Hosts::with(3, |config| {
        config.heartbeat_ms = 300;
        config.election_ms_min = 8_000;
        config.election_ms_max = 12_000;
    })
    .await;
    let mut history = History::default();
    hosts.write(&mut history, 20).await;
    for _ in 0..3 {
        let leader = hosts.leader().await;
        hosts.stop(leader).await;
        let write = hosts.write(&mut history, 1);
        tokio::time::timeout(Duration::from_secs(15), write)
            .await
            .expect("another leads before any time-out");
        hosts.start(leader).await.unwrap();
        hosts.write(&mut history, 10).await;
        hosts.check(&history, &[1, 2, 3]).await;
    }
    hosts.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_refused_while_leadership_moves_can_wait_for_the_next_leader() {
    let hosts = Hosts::with(3, |config| {
        config.heartbeat_ms = 300;
        config.election_ms_min = 8_000;
        config.election_ms_max = 12_000;
    })
    .await;
    let mut history = History::default();
    hosts.write(&mut history, 20).await;
    for _ in 0..5 {
        let leader = hosts.leader().await;
        let to = NodeId(leader % 3 + 1);
        let (old, new) = (hosts.shard(leader).clone(), hosts.shard(to.0).clone());
        old.settled().await;
        let refused = async {
            loop {
                let answer = match old.submit(op("asking")).await {
                    Ok(pending) => pending.await,
                    Err(error) => Err(error),
                };
                if answer.is_err() {
                    return;
                }
            }
        };
        let asking = async {
            refused.await;
            // Once is enough unless the machine is slow.
            while old.leadership().borrow().leader != Some(to) {
                old.settled().await;
                tokio::task::yield_now().await;
            }
            while !new.leadership().borrow().serving {
                new.settled().await;
                tokio::task::yield_now().await;
            }
        };
        let (moved, ()) = tokio::join!(
            in_time("the transfer", old.transfer_leader(to)),
            in_time("who leads", asking)
        );
        moved.unwrap();
    }
    hosts.shutdown().await;
}

/// One node's disk stands still for longer than the shortest election time-out while clients write:
/// nobody's term changes.
async fn a_stuck_disk(pick: fn(u32) -> u32) {
    let hosts = Hosts::with(3, |config| {
        config.heartbeat_ms = 100;
        config.election_ms_min = 1_000;
        config.election_ms_max = 2_000;
    })
    .await;
    let mut history = History::default();
    hosts.write(&mut history, 20).await;
    let leader = hosts.leader().await;
    let term = hosts.shard(leader).leadership().borrow().term;
    let sim = hosts.replicas[&pick(leader)].computer.sim.clone();
    sim.stall(true);
    let stuck = async {
        tokio::time::sleep(Duration::from_millis(1_200)).await;
        sim.stall(false);
    };
    tokio::join!(stuck, hosts.write(&mut history, 50));
    hosts.check(&history, &[1, 2, 3]).await;
    assert_eq!(hosts.leader().await, leader);
    assert_eq!(hosts.shard(leader).leadership().borrow().term, term);
    hosts.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_whose_disk_is_stuck_is_only_slow() {
    a_stuck_disk(|leader| leader % 3 + 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_disk_is_stuck_goes_on_leading() {
    a_stuck_disk(|leader| leader).await;
}
