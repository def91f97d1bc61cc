//! What a group is and who is in it, told the same of both protocols.

use std::collections::BTreeSet;

use kafka_client::api::{ClassicGroup, ConsumerGroup};
use kafka_client::consumer_protocol::{Assignment, CONSUMER_PROTOCOL_TYPE};
use kafka_client::{ClientError, Connection, ErrorCode};
use serde_json::{Value, json};

use crate::cli::commits::TopicPartition;
use crate::cli::coordinator::Coordinator;
use crate::cli::failure::Failure;
use crate::cli::session::Session;

/// A group, as its coordinator describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    /// `classic` or `consumer`.
    pub(super) kind: &'static str,
    pub(super) state: String,
    // Empty while there is none.
    pub(super) assignor: String,
    pub(super) members: Vec<Member>,
}

/// A member of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) id: String,
    pub(super) instance_id: Option<String>,
    pub(super) client_id: String,
    pub(super) host: String,
    /// What it is assigned; `None` when that is written in a way only its members know.
    pub(super) assigned: Option<BTreeSet<TopicPartition>>,
}

impl Group {
    /// Asks for it; `None` when it does not exist.
    pub(super) async fn ask(
        session: &mut Session,
        coordinator: &mut Coordinator,
        name: &str,
    ) -> Result<Option<Group>, Failure> {
        coordinator
            .ask(session, async |connection| look(connection, name).await)
            .await
    }

    /// Who is assigned this partition.
    pub(super) fn owner(&self, partition: &TopicPartition) -> Option<&Member> {
        self.members.iter().find(|member| {
            let assigned = member.assigned.as_ref();
            assigned.is_some_and(|assigned| assigned.contains(partition))
        })
    }
}

impl Member {
    pub(super) fn json(&self) -> Value {
        let assigned = self.assigned.as_ref().map(|assigned| {
            Value::from_iter(
                assigned
                    .iter()
                    .map(|(topic, partition)| json!({ "topic": topic, "partition": partition })),
            )
        });
        json!({
            "member": self.id,
            "instance": self.instance_id,
            "client": self.client_id,
            "host": self.host,
            "assigned": assigned,
        })
    }

    /// What it is assigned, as `orders:0,1 audit:2`.
    pub(super) fn assigned_text(&self) -> String {
        let Some(assigned) = &self.assigned else {
            return "?".to_owned();
        };
        if assigned.is_empty() {
            return "-".to_owned();
        }
        let assigned: Vec<&TopicPartition> = assigned.iter().collect();
        let topics = assigned.chunk_by(|left, right| left.0 == right.0);
        let topics = topics.map(|partitions| {
            let numbers: Vec<String> = partitions.iter().map(|p| p.1.to_string()).collect();
            format!("{}:{}", partitions[0].0, numbers.join(","))
        });
        topics.collect::<Vec<_>>().join(" ")
    }
}

/// A group of either protocol: the one that it is not is answered with "not found".
async fn look(connection: &Connection, name: &str) -> Result<Option<Group>, ClientError> {
    let mut described = connection.consumer_group_describe(&[name]).await?;
    let group = described.pop().ok_or(ClientError::Malformed("no result"))?;
    if group.error != ErrorCode::GROUP_ID_NOT_FOUND {
        group.error.check_with(group.message.clone())?;
        return Ok(Some(group.into()));
    }
    let mut described = connection.describe_groups(&[name]).await?;
    let group = described.pop().ok_or(ClientError::Malformed("no result"))?;
    if group.error == ErrorCode::GROUP_ID_NOT_FOUND {
        return Ok(None);
    }
    group.error.check_with(group.message.clone())?;
    Ok(Some(group.into()))
}

impl From<ConsumerGroup> for Group {
    fn from(group: ConsumerGroup) -> Group {
        let members = group.members.into_iter().map(|member| {
            let topics = member.assignment.into_iter();
            let assigned = topics.flat_map(|topic| {
                let name = topic.name;
                let partitions = topic.partitions.into_iter();
                partitions.map(move |partition| (name.clone(), partition))
            });
            Member {
                assigned: Some(assigned.collect()),
                id: member.member_id,
                instance_id: member.instance_id,
                client_id: member.client_id,
                host: member.client_host,
            }
        });
        Group {
            kind: "consumer",
            state: group.state,
            assignor: group.assignor,
            members: members.collect(),
        }
    }
}

impl From<ClassicGroup> for Group {
    fn from(group: ClassicGroup) -> Group {
        let is_consumers = group.protocol_type == CONSUMER_PROTOCOL_TYPE;
        let members = group.members.into_iter().map(|member| {
            // Other kinds of groups, such as those of Connect, write something else here.
            let assignment = match is_consumers {
                true => Assignment::decode(&member.assignment).ok(),
                false => None,
            };
            Member {
                id: member.member_id,
                instance_id: member.instance_id,
                client_id: member.client_id,
                host: member.client_host,
                assigned: assignment.map(|assignment| assignment.0.into_iter().collect()),
            }
        });
        Group {
            kind: "classic",
            state: group.state,
            assignor: group.protocol_name,
            members: members.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use kafka_client::api::ClassicMember;

    use super::*;

    fn classic(protocol_type: &str, assignment: Bytes) -> Group {
        Group::from(ClassicGroup {
            error: ErrorCode::NONE,
            message: None,
            group_id: "g".to_owned(),
            state: "Stable".to_owned(),
            protocol_type: protocol_type.to_owned(),
            protocol_name: "range".to_owned(),
            members: vec![ClassicMember {
                member_id: "m".to_owned(),
                instance_id: None,
                client_id: "c".to_owned(),
                client_host: "/127.0.0.1".to_owned(),
                metadata: Bytes::new(),
                assignment,
            }],
        })
    }

    fn partitions() -> Vec<TopicPartition> {
        [("b", 0), ("a", 10), ("a", 2)]
            .map(|(topic, partition)| (topic.to_owned(), partition))
            .to_vec()
    }

    #[test]
    fn an_assignment_is_shown_by_topic() {
        let group = classic("consumer", Assignment(partitions()).encode());
        assert_eq!(group.members[0].assigned_text(), "a:2,10 b:0");
        assert_eq!(group.owner(&("a".to_owned(), 2)), group.members.first());
        assert_eq!(group.owner(&("a".to_owned(), 3)), None);
        let empty = classic("consumer", Bytes::new());
        assert_eq!(empty.members[0].assigned_text(), "-");
    }

    #[test]
    fn an_assignment_that_cannot_be_read_is_not_shown_as_none() {
        let group = classic("connect", Assignment(partitions()).encode());
        assert_eq!(group.members[0].assigned_text(), "?");
        let group = classic("consumer", Bytes::from_static(b"\0\x01\xff"));
        assert_eq!(group.members[0].assigned_text(), "?");
        assert_eq!(group.members[0].json()["assigned"], Value::Null);
    }
}
