//! A node whose groups need not wait, and a member of a classic group that speaks any version.

use broker::BrokerConfig;
use broker::groups::GroupsConfig;
use bytes::Bytes;
use kafka::KafkaServerConfig;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;

use crate::harness::*;

/// A session that no member of a test outlives.
pub(crate) const LONG_SESSION_MS: i32 = 300_000;
/// What tells a member to ask again.
const LOADING: [i16; 3] = [14, 15, 16];

/// A node with these limits of groups.
pub(crate) async fn start_with(groups: GroupsConfig) -> Server {
    let config = BrokerConfig {
        offsets_topic_partitions: 3,
        groups,
        ..BrokerConfig::default()
    };
    Server::start_with(config, KafkaServerConfig::default()).await
}

/// A node whose groups do not wait for more members at first.
pub(crate) async fn start() -> Server {
    start_with(GroupsConfig {
        group_initial_rebalance_delay_ms: 0,
        ..GroupsConfig::default()
    })
    .await
}

pub(crate) fn group_id(id: &str) -> GroupId {
    GroupId(text(id))
}

/// Waits until a group has its coordinator, and the coordinator has read its log.
pub(crate) async fn await_coordinator(client: &mut Client, group: &str) {
    let find = FindCoordinatorRequest::default().with_coordinator_keys(vec![text(group)]);
    let describe = DescribeGroupsRequest::default().with_groups(vec![group_id(group)]);
    let ready = async {
        loop {
            let found = client.call(6, &find).await.coordinators.remove(0);
            let described = match found.error_code {
                0 => client.call(5, &describe).await.groups[0].error_code,
                code => code,
            };
            match described {
                0 => return found,
                code => assert!(LOADING.contains(&code), "{code}"),
            }
        }
    };
    let found = tokio::time::timeout(DEADLINE, ready)
        .await
        .expect("one in time");
    assert_eq!((found.node_id, &*found.host), (BrokerId(1), "127.0.0.1"));
    assert_eq!(&*found.key, group);
}

/// A member of a classic group, or somebody who wants to be one.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) group: GroupId,
    pub(crate) id: StrBytes,
    pub(crate) instance: Option<StrBytes>,
    pub(crate) generation: i32,
    pub(crate) protocol: &'static str,
}

impl Member {
    pub(crate) fn new(group: &str) -> Member {
        Member {
            group: group_id(group),
            id: StrBytes::default(),
            instance: None,
            generation: -1,
            protocol: "range",
        }
    }

    pub(crate) fn with_instance(group: &str, instance: &str) -> Member {
        Member {
            instance: Some(text(instance)),
            ..Member::new(group)
        }
    }

    /// A JoinGroup of this version.
    pub(crate) fn join_request(&self, version: i16) -> JoinGroupRequest {
        let protocol = JoinGroupRequestProtocol::default()
            .with_name(text(self.protocol))
            .with_metadata(Bytes::from_static(b"\0\0\0\0\0\x01\0\x01t\xff\xff\xff\xff"));
        let request = JoinGroupRequest::default()
            .with_group_id(self.group.clone())
            .with_member_id(self.id.clone())
            .with_session_timeout_ms(LONG_SESSION_MS)
            .with_protocol_type(text("consumer"))
            .with_protocols(vec![protocol]);
        let request = match version {
            ..1 => request,
            _ => request.with_rebalance_timeout_ms(LONG_SESSION_MS),
        };
        match version {
            ..5 => request,
            _ => request.with_group_instance_id(self.instance.clone()),
        }
    }

    /// Takes in what a join was answered.
    pub(crate) fn joined(&mut self, answer: &JoinGroupResponse) {
        self.id = answer.member_id.clone();
        self.generation = answer.generation_id;
    }

    /// Joins, and again with the id that it is told where the version has it so.
    pub(crate) async fn join(&mut self, client: &mut Client, version: i16) -> JoinGroupResponse {
        let mut answer = client.call(version, &self.join_request(version)).await;
        if answer.error_code == 79 {
            assert!(version >= 4 && self.id.is_empty() && self.instance.is_none());
            self.id = answer.member_id.clone();
            answer = client.call(version, &self.join_request(version)).await;
        }
        if answer.error_code == 0 {
            self.joined(&answer);
        }
        answer
    }

    /// A SyncGroup of this version, with assignments by member id.
    pub(crate) fn sync_request(
        &self,
        version: i16,
        assignments: &[(StrBytes, &'static [u8])],
    ) -> SyncGroupRequest {
        let assignments = assignments.iter().map(|(id, assignment)| {
            SyncGroupRequestAssignment::default()
                .with_member_id(id.clone())
                .with_assignment(Bytes::from_static(assignment))
        });
        let request = SyncGroupRequest::default()
            .with_group_id(self.group.clone())
            .with_generation_id(self.generation)
            .with_member_id(self.id.clone())
            .with_assignments(assignments.collect());
        let request = match version {
            ..3 => request,
            _ => request.with_group_instance_id(self.instance.clone()),
        };
        match version {
            ..5 => request,
            _ => request
                .with_protocol_type(Some(text("consumer")))
                .with_protocol_name(Some(text(self.protocol))),
        }
    }

    /// Joins and syncs as the only member, with this assignment.
    pub(crate) async fn settle(&mut self, client: &mut Client, assignment: &'static [u8]) {
        let joined = self.join(client, 9).await;
        assert_eq!((joined.error_code, &joined.leader), (0, &self.id));
        let sync = self.sync_request(5, &[(self.id.clone(), assignment)]);
        let synced = client.call(5, &sync).await;
        assert_eq!((synced.error_code, &synced.assignment[..]), (0, assignment));
    }

    /// A Heartbeat of this version.
    pub(crate) fn heartbeat_request(&self, version: i16) -> HeartbeatRequest {
        let request = HeartbeatRequest::default()
            .with_group_id(self.group.clone())
            .with_generation_id(self.generation)
            .with_member_id(self.id.clone());
        match version {
            ..3 => request,
            _ => request.with_group_instance_id(self.instance.clone()),
        }
    }

    pub(crate) async fn heartbeat(&self, client: &mut Client) -> i16 {
        client.call(4, &self.heartbeat_request(4)).await.error_code
    }

    /// An OffsetCommit of this version, of one partition.
    pub(crate) fn commit_request(
        &self,
        version: i16,
        topic: &str,
        (partition, offset): (i32, i64),
        metadata: Option<&str>,
    ) -> OffsetCommitRequest {
        let asked = OffsetCommitRequestPartition::default()
            .with_partition_index(partition)
            .with_committed_offset(offset)
            .with_committed_metadata(metadata.map(text));
        let topic = OffsetCommitRequestTopic::default()
            .with_name(topic_name(topic))
            .with_partitions(vec![asked]);
        let request = OffsetCommitRequest::default()
            .with_group_id(self.group.clone())
            .with_generation_id_or_member_epoch(self.generation)
            .with_member_id(self.id.clone())
            .with_topics(vec![topic]);
        match version {
            ..7 => request,
            _ => request.with_group_instance_id(self.instance.clone()),
        }
    }

    /// Commits one offset; the error.
    pub(crate) async fn commit(
        &self,
        client: &mut Client,
        version: i16,
        topic: &str,
        offset: (i32, i64),
        metadata: Option<&str>,
    ) -> i16 {
        let request = self.commit_request(version, topic, offset, metadata);
        let answer = client.call(version, &request).await;
        answer.topics[0].partitions[0].error_code
    }
}

/// What a group has committed for one partition: offset, metadata, error; asked in this version.
pub(crate) async fn committed(
    client: &mut Client,
    version: i16,
    group: &str,
    topic: &str,
    partition: i32,
) -> (i64, Option<String>, i16) {
    use kafka_protocol::messages::offset_fetch_request::*;
    if version >= 8 {
        let topic = OffsetFetchRequestTopics::default()
            .with_name(topic_name(topic))
            .with_partition_indexes(vec![partition]);
        let asked = OffsetFetchRequestGroup::default()
            .with_group_id(group_id(group))
            .with_topics(Some(vec![topic]));
        let request = OffsetFetchRequest::default().with_groups(vec![asked]);
        let answer = client.call(version, &request).await.groups.remove(0);
        assert_eq!(
            (answer.error_code, &**answer.group_id),
            (0, group),
            "{answer:?}"
        );
        let told = &answer.topics[0].partitions[0];
        let metadata = told.metadata.as_ref().map(ToString::to_string);
        return (told.committed_offset, metadata, told.error_code);
    }
    let topic = OffsetFetchRequestTopic::default()
        .with_name(topic_name(topic))
        .with_partition_indexes(vec![partition]);
    let request = OffsetFetchRequest::default()
        .with_group_id(group_id(group))
        .with_topics(Some(vec![topic]));
    let answer = client.call(version, &request).await;
    assert_eq!(answer.error_code, 0, "{answer:?}");
    let told = &answer.topics[0].partitions[0];
    let metadata = told.metadata.as_ref().map(ToString::to_string);
    (told.committed_offset, metadata, told.error_code)
}
