//! Classic groups: their whole life in every version, and what admins see of them.

use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::*;

use super::harness::*;
use crate::harness::*;

/// A LeaveGroup of this version.
fn leave_request(member: &Member, version: i16) -> LeaveGroupRequest {
    let request = LeaveGroupRequest::default().with_group_id(member.group.clone());
    match version {
        ..3 => request.with_member_id(member.id.clone()),
        _ => request.with_members(vec![
            MemberIdentity::default().with_member_id(member.id.clone()),
        ]),
    }
}

#[tokio::test]
async fn a_member_joins_works_and_leaves_in_every_version() {
    let server = start().await;
    let mut client = server.client_and_topic("t", 1).await;
    for version in 0..=9 {
        let group = format!("group-{version}");
        await_coordinator(&mut client, &group).await;
        let mut member = Member::new(&group);
        let joined = member.join(&mut client, version).await;
        assert_eq!(joined.error_code, 0, "{joined:?}");
        assert_eq!((joined.generation_id, &joined.leader), (1, &member.id));
        assert_eq!(joined.protocol_name.as_deref(), Some("range"));
        assert_eq!(joined.members.len(), 1, "the leader is told of all");

        let sync = version.min(5);
        let request = member.sync_request(sync, &[(member.id.clone(), b"mine")]);
        let synced = client.call(sync, &request).await;
        assert_eq!(
            (synced.error_code, &synced.assignment[..]),
            (0, &b"mine"[..])
        );

        let heartbeat = version.min(4);
        let request = member.heartbeat_request(heartbeat);
        let beat = client.call(heartbeat, &request).await;
        assert_eq!(beat.error_code, 0);

        let commit = version.max(2);
        let at = (0, 10 + i64::from(version));
        let outcome = member
            .commit(&mut client, commit, "t", at, Some("note"))
            .await;
        assert_eq!(outcome, 0, "{commit}");
        let fetch = version.max(1);
        let told = committed(&mut client, fetch, &group, "t", 0).await;
        assert_eq!(told, (at.1, Some("note".to_owned()), 0));

        let leave = version.min(5);
        let left = client.call(leave, &leave_request(&member, leave)).await;
        assert_eq!(left.error_code, 0);
        assert!(left.members.iter().all(|member| member.error_code == 0));
        let beat = client.call(heartbeat, &request).await;
        assert_eq!(beat.error_code, 25, "it is no member any more");
    }
    server.stop().await;
}

#[tokio::test]
async fn admins_see_groups_and_their_members_and_delete_what_is_empty() {
    let server = start().await;
    let mut client = server.client_and_topic("t", 1).await;
    await_coordinator(&mut client, "g").await;
    let mut member = Member::with_instance("g", "static");
    member.settle(&mut client, b"mine").await;
    // A consumer without a group's members: its offsets are a group as well.
    let alone = Member::new("alone");
    await_coordinator(&mut client, "alone").await;
    assert_eq!(alone.commit(&mut client, 9, "t", (0, 3), None).await, 0);

    for version in 0..=5 {
        let listed = client.call(version, &ListGroupsRequest::default()).await;
        let ids: Vec<&str> = listed
            .groups
            .iter()
            .map(|group| &**group.group_id)
            .collect();
        assert_eq!((listed.error_code, &ids[..]), (0, &["alone", "g"][..]));
        assert_eq!(&*listed.groups[1].protocol_type, "consumer");
        let state = if version >= 4 { "Stable" } else { "" };
        assert_eq!(&*listed.groups[1].group_state, state);
    }
    let filtered = ListGroupsRequest::default().with_states_filter(vec![text("empty")]);
    let listed = client.call(4, &filtered).await;
    assert_eq!(listed.groups.len(), 1, "{listed:?}");

    let ids = ["g", "nobody", "g"].map(group_id).to_vec();
    for version in 0..=6 {
        let request = DescribeGroupsRequest::default().with_groups(ids.clone());
        let told = client.call(version, &request).await.groups;
        let [group, nobody] = &told[..] else {
            panic!("each is told once: {told:?}")
        };
        assert_eq!((group.error_code, &*group.group_state), (0, "Stable"));
        assert_eq!(&*group.protocol_data, "range");
        let one = &group.members[0];
        assert_eq!((&*one.client_id, &*one.client_host), ("test", "/127.0.0.1"));
        assert_eq!(&one.member_assignment[..], b"mine");
        assert_eq!(one.group_instance_id.is_some(), version >= 4);
        let code = if version >= 6 { 69 } else { 0 };
        assert_eq!((nobody.error_code, &*nobody.group_state), (code, "Dead"));
    }
    let request = DescribeGroupsRequest::default()
        .with_groups(vec![group_id("g")])
        .with_include_authorized_operations(true);
    let told = client.call(6, &request).await;
    assert_eq!(told.groups[0].authorized_operations, 3400);

    for version in 0..=2 {
        let ids = ["g", "nobody"].map(group_id).to_vec();
        let request = DeleteGroupsRequest::default().with_groups_names(ids);
        let told = client.call(version, &request).await.results;
        let codes: Vec<i16> = told.iter().map(|one| one.error_code).collect();
        assert_eq!(codes, [68, 69]);
    }
    let request = DeleteGroupsRequest::default().with_groups_names(vec![group_id("alone")]);
    assert_eq!(client.call(2, &request).await.results[0].error_code, 0);
    let told = committed(&mut client, 9, "alone", "t", 0).await;
    assert_eq!(
        told,
        (-1, Some(String::new()), 0),
        "its offsets went with it"
    );
    server.stop().await;
}

#[tokio::test]
async fn offsets_of_several_groups_come_in_one_answer() {
    let server = start().await;
    let mut client = server.client_and_topic("t", 2).await;
    // More groups than are asked about at the same time.
    let ids: Vec<String> = (0..40).map(|n| format!("g{n}")).collect();
    for (id, offset) in ids.iter().zip(0..) {
        await_coordinator(&mut client, id).await;
        let nobody = Member::new(id);
        assert_eq!(
            nobody.commit(&mut client, 6, "t", (1, offset), None).await,
            0
        );
    }
    let asked = ids.iter().map(|id| {
        OffsetFetchRequestGroup::default()
            .with_group_id(group_id(id))
            .with_topics(None)
    });
    let request = OffsetFetchRequest::default().with_groups(asked.collect());
    let told = client.call(8, &request).await;
    let told: Vec<(String, i64)> = told
        .groups
        .iter()
        .map(|group| {
            let [topic] = &group.topics[..] else {
                panic!("{group:?}")
            };
            let [partition] = &topic.partitions[..] else {
                panic!("{group:?}")
            };
            assert_eq!((group.error_code, partition.partition_index), (0, 1));
            (group.group_id.to_string(), partition.committed_offset)
        })
        .collect();
    let expected: Vec<(String, i64)> = ids.into_iter().zip(0..).collect();
    assert_eq!(told, expected);
    server.stop().await;
}

#[tokio::test]
async fn offsets_are_deleted_unless_the_group_reads_the_topic() {
    let server = start().await;
    let mut client = server.client_and_topic("t", 1).await;
    server.client_and_topic("u", 1).await;
    await_coordinator(&mut client, "g").await;
    let mut member = Member::new("g");
    member.settle(&mut client, b"mine").await;
    for topic in ["t", "u"] {
        assert_eq!(member.commit(&mut client, 9, topic, (0, 4), None).await, 0);
    }
    let topic = |name| {
        OffsetDeleteRequestTopic::default()
            .with_name(topic_name(name))
            .with_partitions(vec![OffsetDeleteRequestPartition::default()])
    };
    let request = OffsetDeleteRequest::default()
        .with_group_id(group_id("g"))
        .with_topics(vec![topic("t"), topic("u")]);
    let told = client.call(0, &request).await;
    let codes: Vec<i16> = told
        .topics
        .iter()
        .map(|t| t.partitions[0].error_code)
        .collect();
    assert_eq!((told.error_code, &codes[..]), (0, &[86, 0][..]));
    assert_eq!(committed(&mut client, 9, "g", "t", 0).await.0, 4);
    assert_eq!(committed(&mut client, 9, "g", "u", 0).await.0, -1);
    let request = request.with_group_id(group_id("nobody"));
    assert_eq!(client.call(0, &request).await.error_code, 69);
    server.stop().await;
}

#[tokio::test]
async fn a_static_member_comes_back_without_a_rebalance() {
    let server = start().await;
    let mut client = server.connect().await;
    await_coordinator(&mut client, "g").await;
    let mut member = Member::with_instance("g", "one");
    member.settle(&mut client, b"mine").await;
    let mut again = Member::with_instance("g", "one");
    let mut another = server.connect().await;
    let joined = again.join(&mut another, 9).await;
    assert_eq!((joined.error_code, joined.generation_id), (0, 1));
    assert!(again.id != member.id);
    let synced = another.call(5, &again.sync_request(5, &[])).await;
    assert_eq!(
        (synced.error_code, &synced.assignment[..]),
        (0, &b"mine"[..])
    );
    assert_eq!(member.heartbeat(&mut client).await, 82, "it was replaced");
    assert_eq!(again.heartbeat(&mut another).await, 0);
    server.stop().await;
}
