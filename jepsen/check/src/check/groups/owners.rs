//! A partition has one owner.
//!
//! No two members are told of one partition in the same generation (or member epoch), and none is
//! told of it while another certainly owns it. A group that has lost all its members may make way for
//! one of the other protocol, whose generations begin anew. Who comes with the instance id of another
//! takes over what that one owned, in its generation: all of it, and from then on alone.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::super::findings::Findings;
use super::super::run::{KeyId, Run};
use super::super::verdict::{Anomaly, AnomalyName};
use super::Place;
use crate::history::{Group, Key, Kind, Membership, Op, Process, Protocol};

/// A member's hold on a partition.
#[derive(Debug, Clone, Copy)]
struct Hold<'a> {
    member: &'a str,
    instance: Option<&'a str>,
    generation: i32,
    /// The request and the answer that told it.
    asked: usize,
    told: usize,
    /// The last request that was acknowledged to a member which still held it, and whether that was
    /// a commit.
    confirmed: Option<(usize, bool)>,
}

impl Hold<'_> {
    /// Until when it certainly held on, without end of what was never confirmed.
    fn until(&self) -> usize {
        self.confirmed.map_or(self.told, |(at, _)| at)
    }

    /// Whether the other was told, or certainly held on too, while this one certainly did.
    fn overlaps(&self, other: &Hold<'_>) -> bool {
        let is_told_within = self.told <= other.asked && other.told < self.until();
        let both = self.told.max(other.told) < self.until().min(other.until());
        is_told_within || both
    }

    /// Whether both were told in one generation, as members that have nothing to do with each other:
    /// then that is found where they were told.
    fn is_of_the_same_generation(&self, other: &Hold<'_>) -> bool {
        let is_taken_over = self.instance.is_some() && self.instance == other.instance;
        self.generation >= 0 && self.generation == other.generation && !is_taken_over
    }
}

/// A process as a member.
#[derive(Debug, Default)]
struct Member<'a> {
    group: &'a str,
    holds: BTreeMap<KeyId, Hold<'a>>,
}

#[derive(Debug, Default)]
struct Walk<'a> {
    members: HashMap<Process, Member<'a>>,
    ended: BTreeMap<Place<'a>, Vec<Hold<'a>>>,
    /// Who was told of a partition in a generation first, and where.
    told: BTreeMap<(&'a str, KeyId, i32), (&'a Membership, usize)>,
    /// What an instance was told in a generation when it joined, last, and where.
    instances: BTreeMap<(&'a str, &'a str, i32), (&'a Membership, usize)>,
    /// The highest generation that anybody was told of, as it rises, by the group.
    highest: BTreeMap<&'a str, Vec<(usize, i32)>>,
    /// Of each group the protocols of its members.
    protocols: BTreeMap<&'a str, BTreeSet<Protocol>>,
}

pub(super) fn check<'a>(run: &Run<'a>, findings: &mut Findings) {
    let mut walk = Walk::default();
    for event in run.events {
        if let Op::Group(Group::Join(member)) = &event.op {
            let protocols = walk.protocols.entry(&member.group).or_default();
            protocols.insert(member.protocol);
        }
    }
    for (position, event) in run.events.iter().enumerate() {
        match (&event.op, event.kind) {
            (Op::Group(Group::Join(asked) | Group::Heartbeat(asked)), Kind::Invoke) => {
                let held: Vec<KeyId> = asked.held.iter().map(|key| run.key_id(key)).collect();
                walk.release(event.process, |key| !held.contains(&key));
            }
            (Op::Group(Group::Leave { .. }), Kind::Invoke)
            | (Op::Crash, Kind::Ok | Kind::Info)
            | (Op::Group(Group::Commit { .. }), Kind::Info) => {
                walk.release(event.process, |_| true);
            }
            (Op::Group(op @ (Group::Join(member) | Group::Heartbeat(member))), Kind::Ok) => {
                let asked = run.partner[position].unwrap_or(position);
                // Who joins anew and holds on to something is a member all the while, where the
                // client says so by its generation.
                let held = member.held.iter().map(|key| run.key_id(key));
                if member.generation >= 0 {
                    walk.confirm(event.process, held, (asked, false));
                }
                if matches!(op, Group::Join(_)) {
                    walk.begin_anew(member, asked);
                    walk.come_back(member, position, findings);
                }
                walk.tell(run, event.process, member, asked, position, findings);
            }
            (Op::Group(Group::Commit { offsets, .. }), Kind::Ok) => {
                let asked = run.partner[position].unwrap_or(position);
                let keys = offsets.iter().map(|(key, _)| run.key_id(key));
                walk.confirm(event.process, keys, (asked, true));
            }
            _ => {}
        }
    }
    let processes: Vec<Process> = walk.members.keys().copied().collect();
    for process in processes {
        walk.release(process, |_| true);
    }
    for (place, mut holds) in walk.ended {
        holds.sort_by_key(|hold| (hold.told, hold.asked));
        overlaps(run, place, &holds, findings);
    }
}

impl<'a> Walk<'a> {
    fn release(&mut self, process: Process, is_released: impl Fn(KeyId) -> bool) {
        let Some(member) = self.members.get_mut(&process) else {
            return;
        };
        let released: Vec<KeyId> = member
            .holds
            .keys()
            .copied()
            .filter(|key| is_released(*key))
            .collect();
        for key in released {
            if let Some(hold) = member.holds.remove(&key) {
                self.ended
                    .entry((member.group, key))
                    .or_default()
                    .push(hold);
            }
        }
    }

    fn confirm(
        &mut self,
        process: Process,
        keys: impl Iterator<Item = KeyId>,
        confirmed: (usize, bool),
    ) {
        let Some(member) = self.members.get_mut(&process) else {
            return;
        };
        for key in keys {
            if let Some(hold) = member.holds.get_mut(&key) {
                hold.confirmed = Some(confirmed);
            }
        }
    }

    /// A join leads to a generation beyond all that were told before it, unless the group made way
    /// for one of the other protocol: then what was told before says nothing any more.
    fn begin_anew(&mut self, joined: &Membership, asked: usize) {
        let group = joined.group.as_str();
        let is_mixed = self.protocols.get(group).is_some_and(|all| all.len() > 1);
        let highest = self.highest.get(group).map_or(&[][..], Vec::as_slice);
        let before = highest.partition_point(|(position, _)| *position < asked);
        let is_anew = before
            .checked_sub(1)
            .is_some_and(|at| joined.generation <= highest[at].1);
        if is_mixed && is_anew && joined.generation >= 0 {
            self.told.retain(|(of, ..), _| *of != group);
            self.instances.retain(|(of, ..), _| *of != group);
            self.highest.remove(group);
        }
    }

    /// Who comes with the instance id of another in the same generation is told to own what that one
    /// was. A group with members of KIP-848 tells more as others give it back, in the same epoch.
    fn come_back(&mut self, told: &'a Membership, position: usize, findings: &mut Findings) {
        let (Some(instance), Protocol::Classic, 0..) =
            (&told.instance, told.protocol, told.generation)
        else {
            return;
        };
        let group = told.group.as_str();
        if self.protocols.get(group).is_some_and(|all| all.len() > 1) {
            return;
        }
        let place = (group, instance.as_str(), told.generation);
        let Some((before, at)) = self.instances.insert(place, (told, position)) else {
            return;
        };
        let sorted =
            |member: &'a Membership| -> BTreeSet<&'a Key> { member.owned.iter().collect() };
        let (owned, owned_before) = (sorted(told), sorted(before));
        let Some(key) = owned.symmetric_difference(&owned_before).next() else {
            return;
        };
        if before.member == told.member {
            return;
        }
        findings.add(AnomalyName::StaticReassigned, || {
            let what = format!(
                "{key}: instance {instance} of group {group} came back in generation {} as member \
                 {}, and was told to own {} partitions instead of the {} of member {}",
                told.generation,
                told.member,
                owned.len(),
                owned_before.len(),
                before.member
            );
            Anomaly::new(AnomalyName::StaticReassigned, what)
                .of_key(key)
                .shown_by([at as u64, position as u64])
        });
    }

    fn tell(
        &mut self,
        run: &Run<'a>,
        process: Process,
        told: &'a Membership,
        asked: usize,
        position: usize,
        findings: &mut Findings,
    ) {
        let group = told.group.as_str();
        let member = self.members.entry(process).or_default();
        member.group = group;
        let highest = self.highest.entry(group).or_default();
        if highest
            .last()
            .is_none_or(|(_, generation)| *generation < told.generation)
        {
            highest.push((position, told.generation));
        }
        for named in &told.owned {
            let key = run.key_id(named);
            member.holds.entry(key).or_insert(Hold {
                member: &told.member,
                instance: told.instance.as_deref(),
                generation: told.generation,
                asked,
                told: position,
                confirmed: None,
            });
            if told.generation < 0 {
                continue;
            }
            let place = (group, key, told.generation);
            let first = *self.told.entry(place).or_insert((told, position));
            let is_taken_over = told.instance.is_some() && first.0.instance == told.instance;
            if is_taken_over {
                self.told.insert(place, (told, position));
            } else if first.0.member != told.member {
                findings.add(AnomalyName::TwoOwners, || {
                    let what = format!(
                        "{named}: members {} and {} of group {group} were both told to own it in \
                         generation {}",
                        first.0.member, told.member, told.generation
                    );
                    Anomaly::new(AnomalyName::TwoOwners, what)
                        .of_key(named)
                        .shown_by([first.1 as u64, position as u64])
                });
            }
        }
    }
}

fn overlaps(run: &Run<'_>, (group, key): Place<'_>, holds: &[Hold<'_>], findings: &mut Findings) {
    let key = run.keys[key];
    for (at, earlier) in holds.iter().enumerate() {
        for later in &holds[at + 1..] {
            // Those that follow were told later still.
            if later.told >= earlier.until() {
                break;
            }
            // The same generation is told of where it was told.
            if earlier.member == later.member
                || earlier.is_of_the_same_generation(later)
                || !earlier.overlaps(later)
            {
                continue;
            }
            let name = match earlier.confirmed {
                Some((_, true)) => AnomalyName::ZombieCommit,
                _ => AnomalyName::TwoOwners,
            };
            findings.add(name, || {
                let what = format!(
                    "{key}: member {} of group {group}, of generation {}, still owned it when \
                     member {} was told to, in generation {}",
                    earlier.member, earlier.generation, later.member, later.generation
                );
                let events = [earlier.told, earlier.until(), later.asked, later.told];
                Anomaly::new(name, what)
                    .of_key(key)
                    .shown_by(events.map(|at| at as u64))
            });
        }
    }
}
