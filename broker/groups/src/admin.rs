//! What admins ask: ListGroups (key 16), DescribeGroups (15), DeleteGroups (42).

use std::collections::BTreeMap;

use crate::classic::{Live, State};
use crate::command::ListGroups;
use crate::error::GroupError;
use crate::groups::{Found, Group, Groups};
use crate::record::Record;
use crate::response::{DeletedGroup, DescribedGroup, DescribedMember, ListedGroup};
use crate::turn::Turn;

/// Kafka's name of the type of groups in which the leader assigns.
const CLASSIC: &str = "classic";
/// Kafka's name of the type of groups in which the coordinator assigns.
const CONSUMER: &str = "consumer";
/// The state of a group that is not there.
const DEAD: &str = "Dead";

impl Groups {
    /// The groups, by id.
    pub(crate) fn list(&self, command: &ListGroups) -> Vec<ListedGroup> {
        let is_wanted = |filter: &[String], name: &str| {
            filter.is_empty()
                || filter
                    .iter()
                    .any(|one| one.trim().eq_ignore_ascii_case(name))
        };
        let ids = self.hard.offsets.groups().keys();
        let ids = ids
            .chain(self.hard.groups.keys())
            .chain(self.soft.classic.keys());
        let mut listed = BTreeMap::new();
        for id in ids {
            if let Some(found) = self.find(id) {
                listed.entry(id).or_insert_with(|| list_group(id, &found));
            }
        }
        let mut listed: Vec<ListedGroup> = listed.into_values().collect();
        listed.retain(|group| {
            is_wanted(&command.states, group.state) && is_wanted(&command.types, group.kind)
        });
        listed
    }

    /// What there is of a classic group.
    pub(crate) fn describe(&self, group_id: &str) -> DescribedGroup {
        match self.find(group_id) {
            Some(Found::Classic(live)) => describe_live(live),
            Some(Found::OffsetsOnly) => DescribedGroup {
                group_id: group_id.to_owned(),
                state: State::Empty.name(),
                ..DescribedGroup::default()
            },
            Some(Found::Consumer(_)) | None => DescribedGroup {
                group_id: group_id.to_owned(),
                error: Some(GroupError::GroupIdNotFound),
                state: DEAD,
                ..DescribedGroup::default()
            },
        }
    }

    /// Deletes groups that are empty, with their offsets. What would be too much for one batch is
    /// put off: the client comes again.
    pub(crate) fn delete(
        &mut self,
        group_ids: &[String],
        turn: &mut Turn<'_>,
    ) -> Vec<DeletedGroup> {
        let mut deleted: BTreeMap<&String, Option<GroupError>> = BTreeMap::new();
        let mut records = 0;
        for group_id in group_ids {
            if deleted.contains_key(group_id) {
                continue;
            }
            let outcome = match self.find(group_id) {
                None => Err(GroupError::GroupIdNotFound),
                Some(found) if !found.is_empty() => Err(GroupError::NonEmptyGroup),
                Some(_) if records > turn.config.expiry_records_max => {
                    Err(GroupError::CoordinatorNotAvailable)
                }
                Some(_) => Ok(()),
            };
            if outcome.is_ok() {
                for tombstone in self.hard.offsets.tombstones(group_id) {
                    turn.append(tombstone);
                    records += 1;
                }
                records += self.delete_if_empty(group_id, turn);
            }
            deleted.insert(group_id, outcome.err());
        }
        let answer = |group_id: &String| DeletedGroup {
            group_id: group_id.clone(),
            error: deleted.get(group_id).copied().flatten(),
        };
        group_ids.iter().map(answer).collect()
    }

    /// Appends the tombstones of a group without members, apart from those of its offsets, and
    /// forgets what the leader knows of it. How many records that are.
    pub(crate) fn delete_if_empty(&mut self, group_id: &str, turn: &mut Turn<'_>) -> usize {
        if !self.find(group_id).is_some_and(|found| found.is_empty()) {
            return 0;
        }
        let records = match self.hard.groups.get(group_id) {
            None => Vec::new(),
            Some(Group::Classic(_)) => vec![Record::Classic(group_id.to_owned(), None)],
            Some(Group::Consumer(group)) => {
                let tombstones = group.tombstones(group_id);
                tombstones.into_iter().map(Record::Consumer).collect()
            }
        };
        let count = records.len();
        for record in records {
            turn.append(record);
        }
        self.soft.consumer.forget(group_id);
        if let Some(live) = self.soft.classic.remove(group_id) {
            live.cancel_timers(turn);
        }
        count
    }
}

fn list_group(group_id: &str, found: &Found<'_>) -> ListedGroup {
    let (protocol_type, state, kind) = match found {
        Found::Classic(live) => {
            let protocol_type = live.protocol_type.clone().unwrap_or_default();
            (protocol_type, live.state.name(), CLASSIC)
        }
        Found::Consumer(group) => (CONSUMER.to_owned(), group.state().name(), CONSUMER),
        Found::OffsetsOnly => (String::new(), State::Empty.name(), CLASSIC),
    };
    ListedGroup {
        group_id: group_id.to_owned(),
        protocol_type,
        state,
        kind,
    }
}

fn describe_live(live: &Live) -> DescribedGroup {
    let is_stable = live.state == State::Stable;
    let protocol = live.protocol.clone().filter(|_| is_stable);
    let protocol = protocol.unwrap_or_default();
    let members = live.members.iter().map(|(id, member)| DescribedMember {
        member_id: id.clone(),
        group_instance_id: member.instance_id.clone(),
        client_id: member.client.id.clone(),
        client_host: member.client.host.clone(),
        metadata: if is_stable {
            member.metadata(&protocol)
        } else {
            bytes::Bytes::new()
        },
        assignment: member.assignment.clone(),
    });
    DescribedGroup {
        group_id: live.group_id.clone(),
        error: None,
        state: live.state.name(),
        protocol_type: live.protocol_type.clone().unwrap_or_default(),
        members: members.collect(),
        protocol,
    }
}
