//! The next step of a change of a shard's members, seen from its leader. Pure.
//!
//! Whoever leads looks at how things are and takes one step; so a change goes on under the next
//! leader, and turns round when its target is withdrawn.

use std::collections::BTreeSet;

use raft::Members;
use storage::NodeId;

/// What a leader looks at.
#[derive(Debug, Clone)]
pub(crate) struct Stage<'a> {
    pub(crate) leader: NodeId,
    /// Voters the shard shall have, the preferred leader first.
    pub(crate) wanted: &'a [NodeId],
    /// Learners it shall have.
    pub(crate) learners: &'a BTreeSet<NodeId>,
    pub(crate) members: &'a Members,
    /// Nodes that came back without their memory and must first be no members: none of the
    /// wanted, nor of the learners.
    pub(crate) voids: &'a BTreeSet<NodeId>,
    /// Replicas that have nearly everything and answer.
    pub(crate) caught_up: &'a BTreeSet<NodeId>,
    /// Whether the catalogue waits to hear that the change is done.
    pub(crate) is_unconfirmed: bool,
    /// Whether the members are committed; else another leader may have others yet.
    pub(crate) is_committed: bool,
}

/// What a leader does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing: it is as it shall be.
    Done,
    /// Tells the catalogue that the shard goes on without this node, once that is committed.
    Clear(NodeId),
    /// Tells the catalogue that the members are as wanted: these, which were compared.
    Confirm(Vec<NodeId>),
    /// Waits until the members as they are are committed.
    Settle,
    /// Lets a node follow the log.
    AddLearner(NodeId),
    /// Waits until these have caught up.
    Wait(Vec<NodeId>),
    /// Lets another node lead, because this one goes.
    Transfer(NodeId),
    /// Changes who votes and who follows.
    Change {
        voters: BTreeSet<NodeId>,
        learners: BTreeSet<NodeId>,
    },
}

impl Step {
    /// Whether it changes who votes or follows, which only a current catalogue may ask for: an
    /// older one would take back what was finished since.
    pub(crate) fn changes_members(&self) -> bool {
        matches!(
            self,
            Step::AddLearner(_) | Step::Change { .. } | Step::Clear(_)
        )
    }
}

/// See [`Step`]. Voters are changed only to such as can go on by themselves: of those to be, a
/// majority must answer and have nearly everything, whoever of them votes already.
pub(crate) fn next_step(stage: &Stage<'_>) -> Step {
    let step = without_voids(stage).unwrap_or_else(|| towards_wanted(stage));
    match step {
        Step::Change { voters, learners } => {
            let here = |node: &&NodeId| **node == stage.leader || stage.caught_up.contains(node);
            let (able, unable): (Vec<NodeId>, Vec<NodeId>) =
                voters.iter().partition(|node| here(node));
            if able.len() * 2 > voters.len() {
                Step::Change { voters, learners }
            } else {
                Step::Wait(unable)
            }
        }
        step => step,
    }
}

/// Members that have lost their memory go before anything else is done.
fn without_voids(stage: &Stage<'_>) -> Option<Step> {
    let members = stage.members;
    let is_member =
        |node: &&NodeId| members.voters.contains(node) || members.learners.contains(node);
    if stage.voids.iter().any(|node| is_member(&node)) {
        let voters = &members.voters - stage.voids;
        return Some(if voters.is_empty() {
            // Nobody would be left who may go on.
            Step::Wait(stage.voids.iter().copied().collect())
        } else {
            Step::Change {
                voters,
                learners: &members.learners - stage.voids,
            }
        });
    }
    let gone = stage.voids.first().filter(|_| !members.is_joint);
    gone.map(|node| match stage.is_committed {
        true => Step::Clear(*node),
        false => Step::Settle,
    })
}

fn towards_wanted(stage: &Stage<'_>) -> Step {
    let wanted: BTreeSet<NodeId> = stage.wanted.iter().copied().collect();
    let members = stage.members;
    if !members.is_joint && members.voters == wanted && members.learners == *stage.learners {
        return match (stage.is_unconfirmed, stage.is_committed) {
            (false, _) => Step::Done,
            (true, false) => Step::Settle,
            (true, true) => Step::Confirm(stage.wanted.to_vec()),
        };
    }
    let follows = |node: &NodeId| members.voters.contains(node) || members.learners.contains(node);
    if members.is_joint && !wanted.iter().all(follows) {
        // A change that nobody finished, and another one is wanted by now: first to a plain set.
        return Step::Change {
            voters: members.voters.clone(),
            learners: members.learners.clone(),
        };
    }
    let missing = stage.wanted.iter().chain(stage.learners);
    let mut missing = missing.filter(|node| !follows(node));
    if let Some(node) = missing.next() {
        return Step::AddLearner(*node);
    }
    let behind: Vec<NodeId> = wanted
        .difference(&members.voters)
        .filter(|node| !stage.caught_up.contains(node))
        .copied()
        .collect();
    if !behind.is_empty() {
        return Step::Wait(behind);
    }
    if !wanted.contains(&stage.leader) && !members.is_joint {
        let fit = |node: &&NodeId| stage.caught_up.contains(node);
        let voter = |node: &&NodeId| members.voters.contains(node);
        let mut heirs = stage.wanted.iter().filter(fit);
        if let Some(heir) = heirs.clone().find(voter) {
            return Step::Transfer(*heir);
        }
        // None of those who stay votes yet: one of them comes in first, to take over.
        return match heirs.next() {
            Some(heir) => Step::Change {
                voters: members.voters.iter().copied().chain([*heir]).collect(),
                learners: &members.learners - &BTreeSet::from([*heir]),
            },
            None => Step::Wait(stage.wanted.to_vec()),
        };
    }
    Step::Change {
        voters: wanted,
        learners: stage.learners.clone(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(list: &[u32]) -> BTreeSet<NodeId> {
        list.iter().copied().map(NodeId).collect()
    }

    fn members(voters: &[u32], learners: &[u32]) -> Members {
        Members {
            voters: set(voters),
            learners: set(learners),
            is_joint: false,
            at: None,
        }
    }

    fn step(leader: u32, wanted: &[u32], members: &Members, caught_up: &[u32]) -> Step {
        let wanted: Vec<NodeId> = wanted.iter().copied().map(NodeId).collect();
        next_step(&Stage {
            leader: NodeId(leader),
            wanted: &wanted,
            learners: &BTreeSet::new(),
            members,
            voids: &BTreeSet::new(),
            caught_up: &set(caught_up),
            is_unconfirmed: true,
            is_committed: true,
        })
    }

    #[test]
    fn a_replica_follows_catches_up_and_votes_before_another_goes() {
        let at = |m: &Members, caught_up: &[u32]| step(1, &[1, 2, 4], m, caught_up);
        assert_eq!(
            at(&members(&[1, 2, 3], &[]), &[1, 2, 3]),
            Step::AddLearner(NodeId(4))
        );
        let followed = members(&[1, 2, 3], &[4]);
        assert_eq!(at(&followed, &[1, 2, 3]), Step::Wait(vec![NodeId(4)]));
        let change = Step::Change {
            voters: set(&[1, 2, 4]),
            learners: set(&[]),
        };
        assert_eq!(at(&followed, &[1, 2, 4]), change);
        let joint = Members {
            is_joint: true,
            ..members(&[1, 2, 3, 4], &[])
        };
        let next = at(&joint, &[1, 2, 4]);
        assert_eq!(next, change, "the next leader finishes it");
        let done = Step::Confirm([1, 2, 4].map(NodeId).into());
        assert_eq!(at(&members(&[1, 2, 4], &[]), &[]), done);
    }

    #[test]
    fn who_lost_its_memory_goes_first_and_is_cleared_when_it_has_gone() {
        let at = |m: &Members, wanted: &[u32], caught_up: &[u32], voids: &[u32]| {
            let wanted: Vec<NodeId> = wanted.iter().copied().map(NodeId).collect();
            next_step(&Stage {
                leader: NodeId(1),
                wanted: &wanted,
                learners: &BTreeSet::new(),
                members: m,
                voids: &set(voids),
                caught_up: &set(caught_up),
                is_unconfirmed: false,
                is_committed: true,
            })
        };
        let change = |voters: &[u32], learners: &[u32]| Step::Change {
            voters: set(voters),
            learners: set(learners),
        };
        let three = members(&[1, 2, 3], &[]);
        assert_eq!(at(&three, &[1, 2], &[1, 2], &[3]), change(&[1, 2], &[]));
        // The other voter is dead: nothing can be decided without the one that has forgotten.
        assert_eq!(at(&three, &[1, 2], &[1], &[3]), Step::Wait(vec![NodeId(2)]));
        let joint = Members {
            is_joint: true,
            ..three.clone()
        };
        assert_eq!(at(&joint, &[1, 2], &[1, 2], &[3]), change(&[1, 2], &[]));
        // Also while another change is under way, whose nodes stay.
        let moving = members(&[1, 2, 3], &[4]);
        assert_eq!(
            at(&moving, &[1, 2, 4], &[1, 2], &[3]),
            change(&[1, 2], &[4])
        );
        let learner = members(&[1, 2], &[3]);
        assert_eq!(at(&learner, &[1, 2], &[1, 2], &[3]), change(&[1, 2], &[]));
        let gone = members(&[1, 2], &[]);
        assert_eq!(at(&gone, &[1, 2], &[1, 2], &[3]), Step::Clear(NodeId(3)));
        let half_gone = Members {
            is_joint: true,
            ..gone.clone()
        };
        assert_eq!(at(&half_gone, &[1, 2], &[1, 2], &[3]), change(&[1, 2], &[]));
        assert_eq!(
            at(&gone, &[1, 2, 3], &[1, 2], &[]),
            Step::AddLearner(NodeId(3))
        );
    }

    #[test]
    fn the_list_that_was_compared_is_the_one_that_is_confirmed() {
        let done = step(2, &[2, 1], &members(&[1, 2], &[]), &[]);
        assert_eq!(
            done,
            Step::Confirm([2, 1].map(NodeId).into()),
            "in its order"
        );
        assert!(!done.changes_members());
    }

    #[test]
    fn what_another_leader_may_undo_is_not_confirmed() {
        let wanted = [1, 2].map(NodeId);
        let members = members(&[1, 2], &[]);
        let stage = Stage {
            leader: NodeId(1),
            wanted: &wanted,
            learners: &BTreeSet::new(),
            members: &members,
            voids: &BTreeSet::new(),
            caught_up: &set(&[1, 2]),
            is_unconfirmed: true,
            is_committed: false,
        };
        assert_eq!(next_step(&stage), Step::Settle);
        let lost = Stage {
            voids: &set(&[3]),
            ..stage.clone()
        };
        assert_eq!(next_step(&lost), Step::Settle);
        let committed = Stage {
            is_committed: true,
            ..stage.clone()
        };
        assert_eq!(next_step(&committed), Step::Confirm(wanted.into()));
        let known = Stage {
            is_unconfirmed: false,
            ..stage
        };
        assert_eq!(next_step(&known), Step::Done);
    }

    #[test]
    fn a_leader_that_goes_hands_over_first() {
        let followed = members(&[1, 2, 3], &[4]);
        assert_eq!(
            step(1, &[4, 3, 2], &followed, &[1, 2, 3, 4]),
            Step::Transfer(NodeId(3))
        );
        let all_new = members(&[1], &[4]);
        let Step::Change { voters, .. } = step(1, &[4], &all_new, &[1, 4]) else {
            panic!("brings the heir in");
        };
        assert_eq!(voters, set(&[1, 4]));
        assert_eq!(
            step(1, &[4], &members(&[1, 4], &[]), &[1, 4]),
            Step::Transfer(NodeId(4))
        );
    }

    #[test]
    fn a_withdrawn_target_takes_its_learners_along() {
        let followed = members(&[1, 2, 3], &[4]);
        assert_eq!(
            step(1, &[1, 2, 3], &followed, &[1, 3]),
            Step::Change {
                voters: set(&[1, 2, 3]),
                learners: set(&[])
            }
        );
    }

    #[test]
    fn voters_that_cannot_go_on_by_themselves_are_waited_for() {
        // Node 2 is dead, and node 3 shall go.
        let three = members(&[1, 2, 3], &[]);
        let waits = Step::Wait(vec![NodeId(2)]);
        assert_eq!(step(1, &[2, 1], &three, &[1, 3]), waits);
        let joint = Members {
            is_joint: true,
            ..three.clone()
        };
        assert_eq!(step(1, &[2, 1], &joint, &[1, 3]), waits);
        // The leader counts, also where it is not named.
        let Step::Change { voters, .. } = step(1, &[1, 3], &three, &[3]) else {
            panic!("both live");
        };
        assert_eq!(voters, set(&[1, 3]));
        // One that shall lead alone comes in first: not where that makes two of four.
        let dead = members(&[1, 2, 3], &[4]);
        assert_eq!(
            step(1, &[4], &dead, &[4]),
            Step::Wait([2, 3].map(NodeId).into())
        );
        // Back to what is there, of which one is dead.
        let back = members(&[1, 2, 3], &[4]);
        assert!(matches!(
            step(1, &[1, 2, 3], &back, &[1, 3]),
            Step::Change { .. }
        ));
    }

    #[test]
    fn a_half_done_change_is_made_whole_before_another_begins() {
        let joint = Members {
            is_joint: true,
            ..members(&[1, 2, 3, 4], &[])
        };
        assert_eq!(
            step(1, &[1, 2, 5], &joint, &[1, 2, 3, 4]),
            Step::Change {
                voters: set(&[1, 2, 3, 4]),
                learners: set(&[])
            }
        );
    }

    proptest! {
        /// Whoever is dead, what is changed to can go on without them.
        #[test]
        fn a_change_leaves_a_majority_that_answers(
            voters in proptest::collection::btree_set(1_u32..7, 1..6),
            learners in proptest::collection::btree_set(1_u32..7, 0..4),
            wanted in proptest::collection::btree_set(1_u32..7, 1..6),
            caught_up in proptest::collection::btree_set(1_u32..7, 0..7),
            is_joint: bool,
        ) {
            let of = |list: &BTreeSet<u32>| set(&list.iter().copied().collect::<Vec<_>>());
            let list: Vec<NodeId> = of(&wanted).into_iter().collect();
            let now = Members {
                learners: &of(&learners) - &of(&voters),
                voters: of(&voters),
                is_joint,
                at: None,
            };
            let leader = *now.voters.first().expect("not empty");
            let caught_up = of(&caught_up);
            let step = next_step(&Stage {
                leader,
                wanted: &list,
                learners: &BTreeSet::new(),
                members: &now,
                voids: &BTreeSet::new(),
                caught_up: &caught_up,
                is_unconfirmed: true,
            is_committed: true,
            });
            if let Step::Change { voters, .. } = step {
                let here = |node: &&NodeId| **node == leader || caught_up.contains(node);
                prop_assert!(voters.iter().filter(here).count() * 2 > voters.len());
            }
        }

        /// Whoever leads, and whatever was begun before, the members become the wanted ones.
        #[test]
        fn steps_come_to_the_wanted_members(
            voters in proptest::collection::btree_set(1_u32..7, 1..4),
            learners in proptest::collection::btree_set(1_u32..7, 0..3),
            wanted in proptest::collection::btree_set(1_u32..7, 1..4),
            followers in proptest::collection::btree_set(1_u32..7, 0..3),
            is_joint: bool,
        ) {
            let of = |list: &BTreeSet<u32>| set(&list.iter().copied().collect::<Vec<_>>());
            let mut now = Members {
                learners: &of(&learners) - &of(&voters),
                voters: of(&voters),
                is_joint: is_joint && voters.len() > 1,
                at: None,
            };
            let mut leader = *now.voters.first().expect("not empty");
            let list: Vec<NodeId> = of(&wanted).into_iter().collect();
            let followers = &of(&followers) - &of(&wanted);
            for _ in 0..20 {
                let caught_up: BTreeSet<NodeId> = &now.voters | &now.learners;
                match next_step(&Stage {
                    leader,
                    wanted: &list,
                    learners: &followers,
                    members: &now,
                    voids: &BTreeSet::new(),
                    caught_up: &caught_up,
                    is_unconfirmed: true,
            is_committed: true,
                }) {
                    Step::Confirm(confirmed) => {
                        prop_assert_eq!(&confirmed, &list);
                        prop_assert_eq!(&now.voters, &of(&wanted));
                        prop_assert!(now.voters.contains(&leader));
                        return Ok(());
                    }
                    Step::AddLearner(node) => {
                        prop_assert!(!now.is_joint || caught_up.len() < 7);
                        now.learners.insert(node);
                    }
                    Step::Transfer(to) => {
                        prop_assert!(now.voters.contains(&to));
                        leader = to;
                    }
                    Step::Change { voters, learners } => {
                        prop_assert!(voters.is_subset(&caught_up));
                        // A leader that goes takes part until the end.
                        prop_assert!(voters.contains(&leader) || now.is_joint);
                        if !voters.contains(&leader) {
                            leader = *voters.first().expect("not empty");
                        }
                        now = Members { voters, learners, is_joint: false, at: None };
                    }
                    step => prop_assert!(false, "{step:?}"),
                }
            }
            prop_assert!(false, "never done: {now:?}");
        }
    }
}
