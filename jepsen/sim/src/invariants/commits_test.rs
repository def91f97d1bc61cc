use storage::{LogIndex, Term};

use super::*;

fn at(index: u64) -> LogPosition {
    LogPosition {
        term: Term(2),
        index: LogIndex(index),
    }
}

fn voters(ids: &[u32]) -> Vec<storage::NodeId> {
    ids.iter().copied().map(storage::NodeId).collect()
}

/// A replica of a shard of nodes 1 to 3, who takes everything up to this for committed.
fn replica(role: Role, committed: u64) -> ShardInspection {
    ShardInspection {
        shard: ShardId(1),
        term: Term(2),
        voted_for: storage::NodeId(1),
        is_vote_committed: true,
        role,
        leader: Some(storage::NodeId(1)),
        serving: None,
        applied_now: None,
        last: Some(at(committed)),
        committed: Some(at(committed)),
        cluster_committed: Some(at(committed)),
        applied: None,
        snapshot: None,
        purged: None,
        voters: vec![voters(&[1, 2, 3])],
        learners: Vec::new(),
        members_at: Some(at(1)),
        committed_voters: vec![voters(&[1, 2, 3])],
        committed_members_at: Some(at(1)),
        journal_floor: None,
        journal_last: None,
        journal_durable: None,
    }
}

/// What a look at a replica comes to, when these nodes hold every entry.
fn look(commits: &mut Commits, node: NodeId, shard: &ShardInspection, holders: &[u32]) -> bool {
    commits.note_members(shard);
    let hold = |voter: NodeId, _| match holders.contains(&voter) {
        true => Held::Yes,
        false => Held::No,
    };
    commits.look(node, shard, hold).is_ok()
}

#[test]
fn what_is_committed_is_on_a_majority_whoever_says_so() {
    for role in [Role::Leader, Role::Follower, Role::Candidate, Role::Learner] {
        let shard = replica(role, 7);
        assert!(look(&mut Commits::default(), 2, &shard, &[2, 3]));
        assert!(!look(&mut Commits::default(), 2, &shard, &[2]), "{role:?}");
    }
}

#[test]
fn who_follows_is_believed_what_the_leader_has_shown() {
    let mut commits = Commits::default();
    assert!(look(&mut commits, 1, &replica(Role::Leader, 7), &[1, 3]));
    // Who held it may have lost it since.
    assert!(look(&mut commits, 2, &replica(Role::Follower, 7), &[]));
    assert!(!look(&mut commits, 2, &replica(Role::Follower, 8), &[2]));
}

#[test]
fn who_stands_still_may_hold_it_until_it_shows_what_it_has() {
    let mut commits = Commits::default();
    let shard = replica(Role::Follower, 7);
    commits.note_members(&shard);
    let mut one_is = |held| {
        let hold = |voter, _| match voter {
            1 => held,
            2 => Held::Yes,
            _ => Held::No,
        };
        commits.look(2, &shard, hold).is_ok()
    };
    assert!(one_is(Held::Perhaps));
    assert!(!one_is(Held::No));
    assert!(one_is(Held::Yes));
    assert!(one_is(Held::No), "it was found to be right");
}

#[test]
fn members_that_came_later_may_have_committed_it() {
    let mut commits = Commits::default();
    let mut leader = replica(Role::Leader, 7);
    leader.voters = vec![voters(&[2, 3, 4])];
    leader.members_at = Some(at(8));
    leader.committed_voters = vec![voters(&[1, 2, 3]), voters(&[2, 3, 4])];
    leader.committed_members_at = Some(at(6));
    assert!(look(&mut commits, 3, &leader, &[3, 4]));
    assert!(!look(&mut Commits::default(), 3, &leader, &[3]));
    // Who follows has not heard of the new members yet.
    let mut follower = leader.clone();
    follower.role = Role::Follower;
    follower.committed = Some(at(9));
    follower.voters = follower.committed_voters.clone();
    follower.members_at = follower.committed_members_at;
    assert!(look(&mut commits, 2, &follower, &[3, 4]));
    assert!(!look(&mut Commits::default(), 2, &follower, &[3, 4]));
}
