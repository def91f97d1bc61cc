//! ConsumerGroupDescribe, key 69, versions 0-1.

use super::draft::preferred_assignor;
use crate::assignor::Partitions;
use crate::error::GroupError;
use crate::groups::Groups;
use crate::response::{
    ConsumerAssignment, ConsumerGroupDescription, ConsumerMember, TopicPartitions,
};
use crate::topics::Topics;

/// Describes the group. Topics that are no more are left out.
pub(crate) fn describe(
    groups: &Groups,
    group_id: &str,
    topics: &Topics,
) -> ConsumerGroupDescription {
    let group_id = group_id.to_owned();
    let Some(group) = groups.consumer(&group_id) else {
        let message = format!("Group {group_id} is not a consumer group.");
        return ConsumerGroupDescription {
            group_id,
            error: Some(GroupError::GroupIdNotFound),
            error_message: Some(message),
            ..ConsumerGroupDescription::default()
        };
    };
    let members = group.members().iter().map(|(id, member)| ConsumerMember {
        member_id: id.to_string(),
        instance_id: member.value.instance_id.clone(),
        rack_id: member.value.rack_id.clone(),
        member_epoch: member.current.epoch,
        client_id: member.value.client_id.clone(),
        client_host: member.value.client_host.clone(),
        subscribed_topic_names: member.value.topic_names.iter().cloned().collect(),
        subscribed_topic_regex: member.value.topic_regex.clone(),
        assignment: named(&member.current.assigned, topics),
        target_assignment: named(&group.target(id), topics),
        member_type: i8::from(!member.is_classic()),
    });
    ConsumerGroupDescription {
        error: None,
        error_message: None,
        state: group.state().name(),
        group_epoch: group.epoch(),
        assignment_epoch: group.assignment_epoch(),
        assignor_name: preferred_assignor(group, &groups.config).name().to_owned(),
        members: members.collect(),
        group_id,
    }
}

fn named(partitions: &Partitions, topics: &Topics) -> ConsumerAssignment {
    let named = partitions.iter().filter_map(|(&topic_id, partitions)| {
        Some(TopicPartitions {
            topic_id,
            name: topics.by_id(topic_id)?.name.clone(),
            partitions: partitions.iter().copied().collect(),
        })
    });
    ConsumerAssignment {
        topics: named.collect(),
    }
}
