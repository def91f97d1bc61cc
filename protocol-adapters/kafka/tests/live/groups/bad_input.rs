//! What groups refuse, and Kafka's code for it.

use broker::groups::GroupsConfig;
use bytes::Bytes;
use kafka_protocol::messages::*;

use super::harness::*;
use crate::harness::*;

async fn join_code(client: &mut Client, version: i16, request: &JoinGroupRequest) -> i16 {
    client.call(version, request).await.error_code
}

#[tokio::test]
async fn joins_that_cannot_be_are_refused() {
    let server = start().await;
    let mut client = server.connect().await;
    await_coordinator(&mut client, "g").await;
    let mut member = Member::new("g");
    member.settle(&mut client, b"mine").await;
    let plain = member.join_request(9).with_member_id(text(""));
    let of = |group: &str| plain.clone().with_group_id(group_id(group));
    let mut other_protocol = of("g").with_member_id(member.id.clone());
    other_protocol.protocols[0].name = text("roundrobin");
    let mut large = of("h");
    large.protocols[0].metadata = Bytes::from(vec![0; (1 << 20) + 1]);
    let cases = [
        (of(""), 24, "an empty group id"),
        (of(&"x".repeat(2_000)), 24, "a group id that is too long"),
        (
            of("h").with_session_timeout_ms(1),
            26,
            "a session that is too short",
        ),
        (
            of("h").with_session_timeout_ms(i32::MAX),
            26,
            "one that is too long",
        ),
        (
            of("h").with_member_id(text("stranger")),
            25,
            "no such group",
        ),
        (
            of("g").with_protocol_type(text("connect")),
            23,
            "another protocol type",
        ),
        (of("h").with_protocols(Vec::new()), 23, "no protocols"),
        (large, 42, "metadata over the limit"),
    ];
    for (request, code, what) in cases {
        assert_eq!(join_code(&mut client, 9, &request).await, code, "{what}");
    }
    assert_eq!(
        member.heartbeat(&mut client).await,
        0,
        "the group is as it was"
    );
    server.stop().await;
}

#[tokio::test]
async fn a_group_takes_as_many_members_as_it_may_have() {
    let server = start_with(GroupsConfig {
        group_initial_rebalance_delay_ms: 0,
        group_max_size: 1,
        ..GroupsConfig::default()
    })
    .await;
    let mut client = server.connect().await;
    await_coordinator(&mut client, "g").await;
    let mut member = Member::new("g");
    member.settle(&mut client, b"mine").await;
    let another = Member::new("g").join_request(9);
    assert_eq!(join_code(&mut client, 9, &another).await, 81);
    assert_eq!(
        member.heartbeat(&mut client).await,
        0,
        "the group is as it was"
    );
    server.stop().await;
}

#[tokio::test]
async fn members_that_are_behind_or_unknown_are_told_so() {
    let server = start().await;
    let mut client = server.client_and_topic("t", 1).await;
    await_coordinator(&mut client, "g").await;
    let mut member = Member::new("g");
    member.settle(&mut client, b"mine").await;
    let stale = Member {
        generation: member.generation - 1,
        ..member.clone()
    };
    let stranger = Member {
        id: text("stranger"),
        ..member.clone()
    };
    let elsewhere = Member {
        group: group_id("nobody"),
        ..member.clone()
    };
    for (who, code) in [(&stale, 22), (&stranger, 25), (&elsewhere, 25)] {
        assert_eq!(who.heartbeat(&mut client).await, code);
        let synced = client.call(5, &who.sync_request(5, &[])).await;
        assert_eq!(synced.error_code, code);
    }
    for (who, old, new) in [(&stale, 22, 22), (&stranger, 25, 25), (&elsewhere, 22, 69)] {
        assert_eq!(who.commit(&mut client, 8, "t", (0, 1), None).await, old);
        assert_eq!(who.commit(&mut client, 9, "t", (0, 1), None).await, new);
    }
    let joining = stranger.join_request(9);
    assert_eq!(join_code(&mut client, 9, &joining).await, 25);
    let nobody = Member {
        generation: -1,
        ..Member::new("g")
    };
    let outside = nobody.commit(&mut client, 9, "t", (0, 1), None).await;
    assert_eq!(outside, 25, "the group has members");
    let nameless = member
        .sync_request(5, &[])
        .with_protocol_name(None)
        .with_protocol_type(None);
    assert_eq!(client.call(5, &nameless).await.error_code, 23);
    let other = member
        .sync_request(5, &[])
        .with_protocol_name(Some(text("other")));
    assert_eq!(client.call(5, &other).await.error_code, 23);
    server.stop().await;
}

#[tokio::test]
async fn commits_that_cannot_be_are_refused_by_partition() {
    let server = start().await;
    let mut client = server.client_and_topic("t", 1).await;
    await_coordinator(&mut client, "g").await;
    let nobody = Member::new("g");
    let large = "x".repeat(4_097);
    for version in 2..=9 {
        let mut commit = async |topic: &str, metadata| {
            nobody
                .commit(&mut client, version, topic, (0, 1), metadata)
                .await
        };
        assert_eq!(commit("t", Some(&large)).await, 12, "{version}");
        assert_eq!(commit("t", Some(&large[1..])).await, 0, "{version}");
        assert_eq!(commit("no-such-topic", None).await, 3, "{version}");
    }
    server.stop().await;
}

#[tokio::test]
async fn only_groups_have_coordinators() {
    let server = start().await;
    let mut client = server.connect().await;
    await_coordinator(&mut client, "g").await;
    for version in 0..=3 {
        let request = FindCoordinatorRequest::default().with_key(text("g"));
        let told = client.call(version, &request).await;
        assert_eq!((told.error_code, told.node_id), (0, BrokerId(1)));
        if version >= 1 {
            let told = client.call(version, &request.with_key_type(1)).await;
            assert_eq!((told.error_code, told.node_id), (53, BrokerId(-1)));
        }
    }
    for version in 4..=6 {
        let keys = ["g", "h"].map(text).to_vec();
        for (key_type, code) in [(0, 0), (1, 53), (2, 42), (9, 42), (-1, 42)] {
            let request = FindCoordinatorRequest::default()
                .with_coordinator_keys(keys.clone())
                .with_key_type(key_type);
            let told = client.call(version, &request).await.coordinators;
            let keys: Vec<&str> = told.iter().map(|one| &*one.key).collect();
            assert_eq!(keys, ["g", "h"]);
            assert!(told.iter().all(|one| one.error_code == code), "{told:?}");
        }
    }
    server.stop().await;
}
