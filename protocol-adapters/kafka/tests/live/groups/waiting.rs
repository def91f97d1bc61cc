//! Joins that wait for other members, and what goes on meanwhile.

use broker::groups::GroupsConfig;
use broker::record::BatchProducer;
use futures_util::future::join_all;
use kafka_protocol::messages::*;

use super::harness::*;
use crate::harness::*;

/// A stable group of one, and a connection on which a second member waits for it to join again.
async fn one_waits(server: &Server) -> (Client, Member, Client) {
    let mut client = server.connect().await;
    await_coordinator(&mut client, "g").await;
    let mut first = Member::new("g");
    first.settle(&mut client, b"all").await;
    let mut waiting = server.connect().await;
    let second = Member::new("g");
    waiting.send(3, &second.join_request(3)).await;
    let told = async { while first.heartbeat(&mut client).await != 27 {} };
    tokio::time::timeout(DEADLINE, told)
        .await
        .expect("it is told to join again");
    (client, first, waiting)
}

#[tokio::test]
async fn a_join_that_waits_holds_up_nothing_behind_it() {
    let server = start().await;
    server.client_and_topic("t", 1).await;
    let (mut client, mut first, mut waiting) = one_waits(&server).await;
    // Behind the join on the same connection: it is done, though not answered yet.
    let batch = batch(&["value"], BatchProducer::default());
    waiting.send(9, &produce("t", 0, -1, batch)).await;
    let fetched = client.call(12, &waiting_fetch("t", 0, 0)).await;
    assert!(fetched.responses[0].partitions[0].records.is_some());

    let joined = first.join(&mut client, 9).await;
    assert_eq!((joined.error_code, joined.members.len()), (0, 2));
    let answer = waiting.receive::<JoinGroupRequest>(3).await;
    assert_eq!((answer.error_code, answer.generation_id), (0, 2));
    let produced = waiting.receive::<ProduceRequest>(9).await;
    assert_eq!(produced.responses[0].partition_responses[0].error_code, 0);
    server.stop().await;
}

#[tokio::test]
async fn a_join_that_waits_ends_when_the_server_stops() {
    let server = start().await;
    let (_client, _first, mut waiting) = one_waits(&server).await;
    let stopping = tokio::spawn(server.stop());
    let answer = waiting.receive::<JoinGroupRequest>(3).await;
    assert_eq!(answer.error_code, 16, "look for another coordinator");
    tokio::time::timeout(DEADLINE, stopping)
        .await
        .expect("stopped in time")
        .unwrap();
}

#[tokio::test]
async fn a_connection_that_closes_takes_its_waiting_join_with_it() {
    let server = start().await;
    let (mut client, mut first, waiting) = one_waits(&server).await;
    drop(waiting);
    // The member itself stays until its session ends, as in Kafka; the others go on.
    let joined = first.join(&mut client, 9).await;
    assert_eq!((joined.error_code, joined.generation_id), (0, 2));
    server.stop().await;
}

#[tokio::test]
async fn a_thousand_members_that_join_at_once_are_one_generation() {
    const CONNECTIONS: usize = 10;
    const MEMBERS_EACH: usize = 100;
    let server = start_with(GroupsConfig {
        group_initial_rebalance_delay_ms: 1_000,
        ..GroupsConfig::default()
    })
    .await;
    let mut client = server.connect().await;
    await_coordinator(&mut client, "g").await;
    let joins = (0..CONNECTIONS).map(|_| async {
        let mut client = server.connect().await;
        let member = Member::new("g");
        for _ in 0..MEMBERS_EACH {
            client.send(3, &member.join_request(3)).await;
        }
        let mut answers = Vec::new();
        for _ in 0..MEMBERS_EACH {
            answers.push(client.receive::<JoinGroupRequest>(3).await);
        }
        answers
    });
    let answers: Vec<JoinGroupResponse> = join_all(joins).await.into_iter().flatten().collect();
    // A machine that is slow may begin a generation before the last ones have come; they then wait
    // for the first ones, who do not join again here. One generation is what the delay is for.
    let leader = &answers[0].leader;
    for answer in &answers {
        assert_eq!((answer.error_code, answer.generation_id), (0, 1));
        assert_eq!(&answer.leader, leader);
    }
    let leaders: Vec<&JoinGroupResponse> = answers
        .iter()
        .filter(|answer| !answer.members.is_empty())
        .collect();
    assert_eq!(leaders.len(), 1, "the leader alone is told of all");
    assert_eq!(leaders[0].members.len(), CONNECTIONS * MEMBERS_EACH);
    server.stop().await;
}
