//! Members that die where others wait for them, and leaders that assign nonsense.

use broker::groups::GroupsConfig;
use kafka_protocol::messages::*;

use super::harness::*;
use crate::harness::*;

/// The session of a member that is going to die.
const SHORT_SESSION_MS: i32 = 1_000;

async fn start_for_short_sessions() -> Server {
    start_with(GroupsConfig {
        group_initial_rebalance_delay_ms: 0,
        group_min_session_timeout_ms: 1,
        ..GroupsConfig::default()
    })
    .await
}

/// A JoinGroup of a member that dies soon.
fn mortal(member: &Member) -> JoinGroupRequest {
    member
        .join_request(3)
        .with_session_timeout_ms(SHORT_SESSION_MS)
}

#[tokio::test]
async fn a_member_that_does_not_join_again_is_left_out() {
    let server = start_for_short_sessions().await;
    let mut client = server.connect().await;
    await_coordinator(&mut client, "g").await;
    let mut first = Member::new("g");
    let joined = client.call(3, &mortal(&first)).await;
    first.joined(&joined);
    let synced = client.call(3, &first.sync_request(3, &[])).await;
    assert_eq!((joined.error_code, synced.error_code), (0, 0));
    // The first one says nothing more, and the second waits for it no longer than its session.
    let mut other = server.connect().await;
    let mut second = Member::new("g");
    let joined = other.call(3, &second.join_request(3)).await;
    assert_eq!((joined.error_code, joined.members.len()), (0, 1));
    second.joined(&joined);
    assert_eq!(joined.leader, second.id);
    assert_eq!(first.heartbeat(&mut client).await, 25);
    server.stop().await;
}

#[tokio::test]
async fn a_leader_that_does_not_assign_is_left_out() {
    let server = start_for_short_sessions().await;
    let mut client = server.connect().await;
    await_coordinator(&mut client, "g").await;
    let mut leader = Member::new("g");
    let joined = client.call(3, &mortal(&leader)).await;
    leader.joined(&joined);
    let synced = client.call(3, &leader.sync_request(3, &[])).await;
    assert_eq!(synced.error_code, 0);
    // Both join again; the leader never syncs.
    let mut other = server.connect().await;
    let mut follower = Member::new("g");
    other.send(3, &follower.join_request(3)).await;
    let told = async { while leader.heartbeat(&mut client).await != 27 {} };
    tokio::time::timeout(DEADLINE, told)
        .await
        .expect("it is told to join again");
    let joined = client.call(3, &mortal(&leader)).await;
    assert_eq!((joined.error_code, joined.members.len()), (0, 2));
    let joined = other.receive::<JoinGroupRequest>(3).await;
    assert_eq!((joined.error_code, &joined.leader), (0, &leader.id));
    follower.joined(&joined);
    let synced = other.call(3, &follower.sync_request(3, &[])).await;
    assert_eq!(synced.error_code, 27, "join again, without the leader");
    let joined = other.call(3, &follower.join_request(3)).await;
    assert_eq!((joined.error_code, joined.members.len()), (0, 1));
    server.stop().await;
}

#[tokio::test]
async fn a_leader_that_assigns_to_strangers_gives_the_members_nothing() {
    let server = start_for_short_sessions().await;
    let mut client = server.connect().await;
    await_coordinator(&mut client, "g").await;
    let mut leader = Member::new("g");
    leader.join(&mut client, 9).await;
    let nonsense = [(text("stranger"), &b"\xff\xff"[..]), (text(""), b"")];
    let synced = client.call(5, &leader.sync_request(5, &nonsense)).await;
    assert_eq!((synced.error_code, synced.assignment.len()), (0, 0));
    assert_eq!(leader.heartbeat(&mut client).await, 0);
    // Bytes that no consumer could read are the members' own business.
    leader.join(&mut client, 9).await;
    let nonsense = [(leader.id.clone(), &b"\xff\xff"[..])];
    let synced = client.call(5, &leader.sync_request(5, &nonsense)).await;
    assert_eq!(
        (synced.error_code, &synced.assignment[..]),
        (0, &b"\xff\xff"[..])
    );
    server.stop().await;
}
