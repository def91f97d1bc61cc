//! A checkpoint that is older than what is applied, in every situation a replica can be in.
//!
//! The letters are those of the proof these checks were ported from: a the act itself, b followers
//! behind it, c tails, overlaps, restarts and leader changes around it, d memberships, f elections.

use std::collections::BTreeSet;

use super::cluster::{Cluster, End};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a1_a_checkpoint_may_be_older_than_what_is_applied() {
    let mut c = Cluster::keeping(u64::MAX, &[1, 2, 3]).await;
    c.write(40).await;
    // Not wanted: openraft's request is put off.
    c.raft(1).trigger().snapshot().await.unwrap();
    c.write(1).await;
    assert_eq!(c.snapshot(1), None);

    let captured = c.capture(1).await;
    let at = c.applied(1);
    c.write(60).await;
    c.raft(1).trigger().purge_log(30).await.unwrap();
    c.write(1).await;
    assert_eq!(c.metrics(1).purged, None, "a purge without a checkpoint");

    assert_eq!(c.release(captured).await, at);
    assert!(c.applied(1) >= at + 60);
    c.write(1).await;
    assert_eq!(
        c.metrics(1).purged,
        None,
        "a checkpoint alone purges, though all is to be kept"
    );
    c.raft(1).trigger().purge_log(30).await.unwrap();
    c.until_purged(1, 30).await;
    c.raft(1).trigger().purge_log(80).await.unwrap();
    c.until_purged(1, at).await;
    c.write(20).await;
    c.equal(&[1, 2, 3]).await;
    c.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a2_a_checkpoint_alone_purges_and_replicas_differ_in_theirs() {
    let mut c = Cluster::new(&[1, 2, 3]).await;
    c.write(40).await;
    let captured = c.capture(1).await;
    c.write(20).await;
    let late = c.capture(3).await;
    c.write(40).await;
    let at = c.release(captured).await;
    c.until_purged(1, at).await;
    let at = c.release(late).await;
    c.until_purged(3, at).await;
    c.write(20).await;
    c.equal(&[1, 2, 3]).await;
    c.finish().await;
}

async fn b1(end: Option<End>) {
    let mut c = Cluster::new(&[1, 2, 3]).await;
    c.write(30).await;
    c.equal(&[1, 2, 3]).await;
    c.down(3);
    if let Some(end) = end {
        c.end(3, end).await;
    }
    c.write(50).await;
    let captured = c.capture(1).await;
    c.write(50).await;
    let at = c.release(captured).await;
    // With the follower away.
    c.until_purged(1, at).await;
    c.write(20).await;
    if end.is_some() {
        c.start(3).await.unwrap();
    }
    c.up(3);
    c.equal(&[1, 2, 3]).await;
    assert_eq!((c.installs(3), c.snapshots_sent()), (1, 1));

    c.start(4).await.unwrap();
    c.add_learner(1, 4).await;
    c.change_voters(1, [1, 2, 3, 4]).await;
    c.write(10).await;
    c.equal(&[1, 2, 3, 4]).await;
    assert_eq!(c.voters(4), [1, 2, 3, 4]);
    // The one that lagged and the new one carry the group.
    c.drive(3, &[2, 4]).await;
    c.write(10).await;
    c.drive(4, &[1, 2, 3]).await;
    c.write(10).await;
    c.equal(&[1, 2, 3, 4]).await;
    c.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b1_a_follower_behind_the_floor_gets_one_snapshot_and_the_rest_as_entries() {
    b1(None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b1_so_does_one_that_was_restarted() {
    b1(Some(End::Stop)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b1_so_does_one_that_lost_power() {
    b1(Some(End::Crash(7))).await;
}

async fn c1(tail: u64) {
    let mut c = Cluster::new(&[1, 2, 3]).await;
    c.write(30).await;
    c.equal(&[1, 2, 3]).await;
    c.cut(&[(1, 2), (1, 3)]);
    c.write_in_vain(1, tail).await;
    c.drive(2, &[3]).await;
    c.write(40).await;
    let captured = c.capture(2).await;
    c.write(60).await;
    let at = c.release(captured).await;
    c.until_purged(2, at).await;
    c.write(10).await;
    c.heal();
    c.equal(&[1, 2, 3]).await;
    c.write(5).await;
    c.equal(&[1, 2, 3]).await;
    c.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c1_a_conflicting_tail_that_ends_below_the_floor_is_dropped() {
    c1(5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c1_a_conflicting_tail_that_reaches_the_floor_is_dropped() {
    c1(41).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c1_a_conflicting_tail_that_ends_above_the_floor_is_dropped() {
    c1(60).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c1_a_conflicting_tail_longer_than_the_leaders_log_is_dropped() {
    c1(400).await;
}

/// A follower whose log overlaps the floor gets the snapshot by hand.
async fn c2(forgets_commit: bool) {
    let mut c = Cluster::new(&[1, 2, 3]).await;
    c.write(45).await;
    let captured = c.capture(1).await;
    c.write(15).await;
    c.equal(&[1, 2, 3]).await;
    c.down(3);
    c.write(60).await;
    let at = c.release(captured).await;
    c.until_purged(1, at).await;
    if forgets_commit {
        c.stop(3).await;
        c.rewind_committed(3, 10);
        c.start(3).await.unwrap();
        c.until("it is at its mark", |c| c.applied(3) == 10).await;
    }
    let before = c.last(3);
    let vote = c.metrics(1).vote;
    let snapshot = c.raft(1).get_snapshot().await.unwrap().unwrap();
    c.raft(3)
        .install_full_snapshot(vote, snapshot)
        .await
        .unwrap();
    if forgets_commit {
        c.until_purged(3, at).await;
    }
    assert_eq!(c.last(3), before, "entries above the floor are kept");
    assert_eq!(c.installs(3), usize::from(forgets_commit));
    c.up(3);
    c.equal(&[1, 2, 3]).await;
    c.write(5).await;
    c.equal(&[1, 2, 3]).await;
    c.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c2_a_snapshot_below_what_is_committed_is_skipped() {
    c2(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c2_a_snapshot_inside_the_log_keeps_the_entries_above_it() {
    c2(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c2b_a_follower_that_overlaps_the_floor_needs_no_snapshot() {
    let mut c = Cluster::new(&[1, 2, 3]).await;
    c.write(45).await;
    c.equal(&[1, 2, 3]).await;
    let captured = [c.capture(1).await, c.capture(2).await];
    c.write(15).await;
    c.equal(&[1, 2, 3]).await;
    c.down(3);
    c.write(60).await;
    for captured in captured {
        c.release(captured).await;
    }
    c.drive(2, &[1]).await;
    c.write(20).await;
    c.up(3);
    c.equal(&[1, 2, 3]).await;
    assert_eq!(c.snapshots_sent(), 0);
    c.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c2c_a_completely_purged_log_still_feeds_followers() {
    let mut c = Cluster::new(&[1, 2, 3]).await;
    c.write(60).await;
    c.equal(&[1, 2, 3]).await;
    c.down(3);
    c.write(60).await;
    c.equal(&[1, 2]).await;
    assert_eq!(c.floor_and_purge(1).await, c.last(1));
    c.up(3);
    c.equal(&[1, 2, 3]).await;
    c.start(4).await.unwrap();
    c.add_learner(1, 4).await;
    c.equal(&[1, 2, 3, 4]).await;
    c.write(5).await;
    c.drive(3, &[1, 2]).await;
    c.write(5).await;
    c.equal(&[1, 2, 3, 4]).await;
    c.finish().await;
}

/// All replicas restart after checkpoints at different places.
async fn c3(end: End, forgets_commit: bool) {
    let mut c = Cluster::new(&[1, 2, 3]).await;
    c.write(70).await;
    c.equal(&[1, 2, 3]).await;
    for node in 1..4 {
        let captured = c.capture(node).await;
        c.write(3).await;
        c.release(captured).await;
    }
    c.write(30).await;
    c.equal(&[1, 2, 3]).await;
    for node in 1..4 {
        c.end(node, end).await;
        if forgets_commit {
            c.rewind_committed(node, 90);
        }
    }
    for node in 1..4 {
        c.start(node).await.unwrap();
        assert_eq!(c.installs(node), 1);
    }
    assert_eq!(c.leader(), None, "nobody leads without an election");
    c.elect(2).await;
    c.write(20).await;
    c.equal(&[1, 2, 3]).await;
    for node in 1..4 {
        c.floor_and_purge(node).await;
    }
    c.write(5).await;
    c.equal(&[1, 2, 3]).await;
    c.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c3_all_restart_in_order() {
    c3(End::Stop, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c3_all_are_killed() {
    c3(End::Kill, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c3_all_lose_power_at_once() {
    c3(End::Crash(3), false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c3_all_forget_how_much_was_committed() {
    c3(End::Stop, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c3x_a_follower_that_died_between_checkpoint_and_purge_closes_the_hole() {
    let mut c = Cluster::new(&[1, 2, 3]).await;
    c.write(30).await;
    c.equal(&[1, 2, 3]).await;
    c.down(3);
    c.write(60).await;
    let captured = c.capture(1).await;
    c.write(20).await;
    let at = c.release(captured).await;
    c.until_purged(1, at).await;
    c.end(3, End::Kill).await;
    c.copy_checkpoint(1, 3);
    c.start(3).await.unwrap();
    assert_eq!(c.last(3), at);
    c.up(3);
    c.equal(&[1, 2, 3]).await;
    c.write(5).await;
    c.equal(&[1, 2, 3]).await;
    c.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c3t_a_commit_mark_beyond_the_log_is_cut_to_it() {
    let mut c = Cluster::new(&[1, 2, 3]).await;
    c.write(60).await;
    c.equal(&[1, 2, 3]).await;
    c.down(3);
    c.stop(3).await;
    c.lose_tail(3, 50);
    c.start(3).await.unwrap();
    assert_eq!(c.last(3), 50);
    c.until("all of it is applied", |c| c.applied(3) == 50)
        .await;
    c.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c4_leaders_with_lower_and_higher_floors_take_turns() {
    let mut c = Cluster::new(&[1, 2, 3]).await;
    c.write(80).await;
    let captured = c.capture(1).await;
    c.write(20).await;
    c.equal(&[1, 2, 3]).await;
    // Leadership moves right after the floor.
    c.release(captured).await;
    c.raft(1).trigger().transfer_leader(2).await.unwrap();
    c.until("2 leads", |c| c.raft(2).is_leader()).await;
    c.write(20).await;
    c.equal(&[1, 2, 3]).await;
    // 3 restarts with a floor; 2 leads without one.
    c.floor_and_purge(3).await;
    c.stop(3).await;
    c.start(3).await.unwrap();
    c.equal(&[1, 2, 3]).await;
    c.drive(3, &[1, 2]).await;
    c.write(20).await;
    // 2 is away, 3 puts its floor beyond it, then 1 leads with a lower one.
    c.down(2);
    c.write(40).await;
    c.equal(&[1, 3]).await;
    c.floor_and_purge(3).await;
    c.drive(1, &[3]).await;
    c.write(10).await;
    c.up(2);
    c.equal(&[1, 2, 3]).await;
    c.drive(3, &[1, 2]).await;
    c.write(5).await;
    c.equal(&[1, 2, 3]).await;
    c.finish().await;
}

/// Forty rounds of floors, absences, restarts and leader moves.
async fn c5(seed: u64) {
    let mut state = seed;
    let mut random = move |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((state >> 33) % below).unwrap()
    };
    let mut c = Cluster::new(&[1, 2, 3]).await;
    c.write(30).await;
    for round in 0..40 {
        let leader = c.leader().unwrap_or(1);
        let victim = (leader + random(2) as u64) % 3 + 1;
        let act = random(4);
        match act {
            1 => c.down(victim),
            2 => {
                let end = [End::Stop, End::Kill, End::Crash(round)][random(3)];
                c.end(victim, end).await;
            }
            _ => {}
        }
        c.write(2 + random(8)).await;
        let mut captured = Vec::new();
        for node in 1..4 {
            let ahead = c.is_up(node) && Some(c.applied(node)) > c.snapshot(node);
            if ahead && random(3) > 0 {
                captured.push(c.capture(node).await);
            }
        }
        c.write(3 + random(8)).await;
        for captured in captured {
            c.release(captured).await;
        }
        match act {
            1 => c.up(victim),
            2 => c.start(victim).await.unwrap(),
            3 => {
                let others: Vec<u64> = (1..4).filter(|node| *node != victim).collect();
                c.equal(&[1, 2, 3]).await;
                c.drive(victim, &others).await;
            }
            _ => {}
        }
        if c.leader().is_none() {
            c.elect(leader).await;
        }
        if random(3) == 0 {
            c.equal(&[1, 2, 3]).await;
        }
    }
    c.equal(&[1, 2, 3]).await;
    c.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c5_forty_random_rounds_converge() {
    c5(12_345).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c5_forty_other_random_rounds_converge() {
    c5(99).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c6_a_slow_or_hung_follower_holds_the_purge_until_its_stream_breaks() {
    let mut c = Cluster::new(&[1, 2, 3]).await;
    c.write(20).await;
    c.equal(&[1, 2, 3]).await;
    c.down(3);
    c.write(150).await;
    // It streams, slowly; the floor is far ahead of it, and the journal waits.
    c.net.faults().hung.insert(3);
    c.up(3);
    c.write(20).await;
    let at = c.floor(1).await;
    c.write(10).await;
    let before = c.metrics(1).purged;
    // As a transport's deadline would: again and again while no answer comes.
    c.until("it is purged", |c| {
        c.kick();
        c.metrics(1).purged.map(|id| id.index) >= Some(at)
    })
    .await;
    assert!(before.is_none_or(|purged| purged.index < at) || c.snapshots_sent() > 0);
    c.net.faults().hung.clear();
    c.kick();
    c.equal(&[1, 2, 3]).await;
    c.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c6c_failing_streams_below_the_floor_keeps_the_purge_going() {
    let mut c = Cluster::new(&[1, 2, 3]).await;
    c.write(20).await;
    c.equal(&[1, 2, 3]).await;
    c.down(3);
    c.write(100).await;
    c.net.faults().slow_ms.insert(3, 60);
    c.up(3);
    for _ in 0..6 {
        c.write(15).await;
        let at = c.floor(1).await;
        c.net.faults().floor = at;
        c.write(2).await;
        c.until(format!("purged near {at}"), |c| {
            c.metrics(1).purged.map(|id| id.index) >= Some(at)
        })
        .await;
    }
    c.net.faults().slow_ms.clear();
    c.net.faults().floor = 0;
    c.equal(&[1, 2, 3]).await;
    c.finish().await;
}

/// Memberships around floors, a floor on a joint configuration among them.
async fn d1(end: End) {
    let mut c = Cluster::new(&[1, 2, 3]).await;
    c.write(20).await;
    c.start(4).await.unwrap();
    c.add_learner(1, 4).await;
    c.write(5).await;
    c.equal(&[1, 2, 3, 4]).await;
    // 2's checkpoint ends before the joint entry, those of 1 and 3 after it.
    let before = c.capture(2).await;
    c.change_voters(1, [1, 2, 3, 4]).await;
    c.release(before).await;
    c.floor_and_purge(1).await;
    c.write(10).await;
    c.floor_and_purge(3).await;
    c.equal(&[1, 2, 3, 4]).await;
    for node in 1..5 {
        c.end(node, end).await;
    }
    for node in 1..5 {
        c.start(node).await.unwrap();
        c.until("the membership is known", |c| {
            c.voters(node) == [1, 2, 3, 4]
        })
        .await;
        assert!(!c.is_joint(node));
    }
    c.elect(2).await;
    c.write(10).await;
    c.equal(&[1, 2, 3, 4]).await;
    c.drive(1, &[2, 3, 4]).await;
    c.start(5).await.unwrap();
    c.add_learner(1, 5).await;
    c.equal(&[1, 2, 3, 4, 5]).await;
    c.change_voters(1, [1, 4, 5]).await;
    c.write(10).await;
    c.equal(&[1, 4, 5]).await;
    for node in [1, 4, 5] {
        c.floor_and_purge(node).await;
    }
    for node in [1, 4, 5] {
        c.end(node, end).await;
    }
    for node in [1, 4, 5] {
        c.start(node).await.unwrap();
        c.until("the membership is known", |c| c.voters(node) == [1, 4, 5])
            .await;
    }
    c.elect(5).await;
    c.write(5).await;
    c.equal(&[1, 4, 5]).await;
    c.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d1_memberships_survive_floors_and_restarts() {
    d1(End::Stop).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d1_memberships_survive_floors_and_power_cuts() {
    d1(End::Crash(11)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d2_an_uncommitted_change_above_a_floor_is_taken_back() {
    let mut c = Cluster::new(&[1, 2, 3]).await;
    c.write(30).await;
    c.start(4).await.unwrap();
    c.add_learner(1, 4).await;
    c.write(10).await;
    c.equal(&[1, 2, 3, 4]).await;
    c.cut(&[(1, 2), (1, 3), (1, 4)]);
    let deposed = c.raft(1);
    let changing = tokio::spawn(async move {
        let voters: BTreeSet<u64> = [1, 2, 3, 4].into();
        deposed.change_membership(voters, false).await
    });
    c.until("the change is in the log", |c| c.is_joint(1)).await;
    c.floor_and_purge(1).await;
    c.drive(2, &[3]).await;
    c.write(40).await;
    c.floor_and_purge(2).await;
    c.heal();
    c.equal(&[1, 2, 3, 4]).await;
    assert_eq!(c.voters(1), [1, 2, 3]);
    assert!(changing.await.unwrap().is_err());
    c.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x2_a_leader_that_lost_its_tail_does_not_lead_on_in_its_term() {
    let mut c = Cluster::new(&[1, 2, 3]).await;
    c.write(60).await;
    c.equal(&[1, 2, 3]).await;
    c.down(1);
    c.stop(1).await;
    c.lose_tail(1, 50);
    c.start(1).await.unwrap();
    assert_eq!(c.leader(), None);
    // A leader with the whole log; the shorter one follows it.
    c.elect(2).await;
    c.up(1);
    c.write(20).await;
    c.equal(&[1, 2, 3]).await;
    c.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f2_the_longest_log_wins_a_driven_election() {
    let mut c = Cluster::new(&[1, 2, 3]).await;
    c.write(20).await;
    c.equal(&[1, 2, 3]).await;
    // 3 misses some; then the leader is gone.
    c.cut(&[(1, 3)]);
    c.write(10).await;
    c.down(1);
    let vote = c.metrics(3).vote;
    let last = c.metrics(3).last_applied;
    let request = openraft::raft::TransferLeaderRequest::new(vote, 3, last);
    let _ = c.raft(3).handle_transfer_leader(request).await;
    c.until("3 has campaigned", |c| {
        c.metrics(3).current_term > vote.leader_id.term
    })
    .await;
    assert!(!c.raft(3).is_leader(), "a shorter log won");
    c.elect(2).await;
    c.write(5).await;
    c.heal();
    c.up(1);
    c.equal(&[1, 2, 3]).await;
    c.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f2_a_group_that_restarts_whole_is_led_after_one_election() {
    let mut c = Cluster::new(&[1, 2, 3]).await;
    c.write(20).await;
    // Else the one elected below may lack the last entry, and rightly lose.
    c.equal(&[1, 2, 3]).await;
    for node in 1..4 {
        c.stop(node).await;
    }
    for node in 1..4 {
        c.start(node).await.unwrap();
    }
    assert_eq!(c.leader(), None);
    c.elect(3).await;
    c.write(5).await;
    c.equal(&[1, 2, 3]).await;
    c.finish().await;
}
