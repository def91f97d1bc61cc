//! Groups of the new protocol (KIP-848).

use kafka_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use kafka_protocol::messages::*;

use super::harness::*;
use crate::harness::*;

/// A member that joins.
fn joining(group: &str, member: &str, topics: &[&str]) -> ConsumerGroupHeartbeatRequest {
    let names = topics.iter().map(|name| topic_name(name));
    ConsumerGroupHeartbeatRequest::default()
        .with_group_id(group_id(group))
        .with_member_id(text(member))
        .with_rebalance_timeout_ms(60_000)
        .with_subscribed_topic_names(Some(names.collect()))
        .with_topic_partitions(Some(Vec::new()))
}

/// A member that goes on as it is.
fn beating(group: &str, member: &str, epoch: i32) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest::default()
        .with_group_id(group_id(group))
        .with_member_id(text(member))
        .with_member_epoch(epoch)
        .with_subscribed_topic_names(None)
        .with_topic_partitions(None)
}

/// A member with what it owns.
struct Owner {
    id: &'static str,
    epoch: i32,
    owned: Vec<TopicPartitions>,
}

impl Owner {
    async fn join(client: &mut Client, id: &'static str) -> Owner {
        let told = client.call(1, &joining("g", id, &["t"])).await;
        assert_eq!(told.error_code, 0, "{told:?}");
        assert_eq!(told.member_id, Some(text(id)));
        assert!(told.heartbeat_interval_ms > 0);
        let mut owner = Owner {
            id,
            epoch: 0,
            owned: Vec::new(),
        };
        owner.learn(told);
        owner
    }

    fn learn(&mut self, told: ConsumerGroupHeartbeatResponse) {
        assert_eq!(told.error_code, 0, "{told:?}");
        self.epoch = told.member_epoch;
        if let Some(assignment) = told.assignment {
            let topics = assignment.topic_partitions.into_iter().map(|topic| {
                TopicPartitions::default()
                    .with_topic_id(topic.topic_id)
                    .with_partitions(topic.partitions)
            });
            self.owned = topics.collect();
        }
    }

    /// Tells what it owns, and learns what it shall.
    async fn beat(&mut self, client: &mut Client) {
        let request =
            beating("g", self.id, self.epoch).with_topic_partitions(Some(self.owned.clone()));
        let told = client.call(1, &request).await;
        self.learn(told);
    }

    fn partitions(&self) -> Vec<i32> {
        let mut all: Vec<i32> = self
            .owned
            .iter()
            .flat_map(|t| t.partitions.clone())
            .collect();
        all.sort_unstable();
        all
    }
}

#[tokio::test]
async fn two_members_share_a_topic_and_one_takes_over_when_the_other_leaves() {
    let server = start().await;
    let mut client = server.client_and_topic("t", 4).await;
    await_coordinator(&mut client, "g").await;
    let mut first = Owner::join(&mut client, "first").await;
    assert_eq!(first.partitions(), [0, 1, 2, 3]);
    let mut second = Owner::join(&mut client, "second").await;
    let shared = async {
        while first.partitions().len() != 2 || second.partitions().len() != 2 {
            first.beat(&mut client).await;
            second.beat(&mut client).await;
        }
    };
    tokio::time::timeout(DEADLINE, shared)
        .await
        .expect("they share in time");
    let mut all = [first.partitions(), second.partitions()].concat();
    all.sort_unstable();
    assert_eq!(all, [0, 1, 2, 3], "each partition has one owner");

    for version in 0..=1 {
        let request = ConsumerGroupDescribeRequest::default()
            .with_group_ids(["g", "nobody", "g"].map(group_id).to_vec())
            .with_include_authorized_operations(true);
        let told = client.call(version, &request).await.groups;
        let [group, nobody] = &told[..] else {
            panic!("each is told once: {told:?}")
        };
        assert_eq!((group.error_code, &*group.group_state), (0, "Stable"));
        assert_eq!(group.authorized_operations, 3400);
        let [one, two] = &group.members[..] else {
            panic!("{group:?}")
        };
        assert_eq!((&*one.member_id, &*two.member_id), ("first", "second"));
        assert_eq!((&*one.client_id, &*one.client_host), ("test", "/127.0.0.1"));
        let topic = &one.assignment.topic_partitions[0];
        assert_eq!((&**topic.topic_name, topic.partitions.len()), ("t", 2));
        assert_eq!(one.member_type, if version >= 1 { 1 } else { -1 });
        assert_eq!(nobody.error_code, 69);
    }
    let listed = client.call(5, &ListGroupsRequest::default()).await;
    assert_eq!(&*listed.groups[0].group_type, "consumer");

    let told = client.call(1, &beating("g", "second", -1)).await;
    assert_eq!((told.error_code, told.member_epoch), (0, -1));
    let taken_over = async {
        while first.partitions().len() != 4 {
            first.beat(&mut client).await;
        }
    };
    tokio::time::timeout(DEADLINE, taken_over)
        .await
        .expect("it takes over in time");
    server.stop().await;
}

#[tokio::test]
async fn commits_are_fenced_by_member_epochs() {
    let server = start().await;
    let mut client = server.client_and_topic("t", 1).await;
    await_coordinator(&mut client, "g").await;
    let owner = Owner::join(&mut client, "m").await;
    let mut member = Member {
        id: text("m"),
        generation: owner.epoch,
        ..Member::new("g")
    };
    assert_eq!(member.commit(&mut client, 9, "t", (0, 5), None).await, 0);
    member.generation -= 1;
    let stale = member.commit(&mut client, 9, "t", (0, 6), None).await;
    assert_eq!(stale, 113);
    member.id = text("stranger");
    let unknown = member.commit(&mut client, 9, "t", (0, 6), None).await;
    assert_eq!(unknown, 25);
    assert_eq!(committed(&mut client, 8, "g", "t", 0).await.0, 5);
    server.stop().await;
}

#[tokio::test]
async fn a_heartbeat_that_makes_no_sense_is_refused_with_kafkas_code() {
    let server = start().await;
    let mut client = server.client_and_topic("t", 1).await;
    await_coordinator(&mut client, "g").await;
    Owner::join(&mut client, "m").await;
    let plain = || joining("g", "other", &["t"]);
    let cases = [
        (1, joining("g", "", &["t"]), 42, "a member names itself"),
        (1, joining("", "other", &["t"]), 42, "a group has an id"),
        (
            1,
            plain().with_server_assignor(Some(text("nonsense"))),
            112,
            "assignor",
        ),
        (
            1,
            plain().with_subscribed_topic_regex(Some(text("a("))),
            128,
            "pattern",
        ),
        (1, beating("g", "stranger", 3), 25, "not a member"),
        (
            1,
            beating("g", "m", 77),
            110,
            "an epoch that it was never given",
        ),
        (1, beating("g", "m", -7), 42, "an epoch that there is not"),
        (
            0,
            joining("g", "zero", &["t"]).with_rebalance_timeout_ms(-1),
            42,
            "no time-out",
        ),
    ];
    for (version, request, code, what) in cases {
        let told = client.call(version, &request).await;
        assert_eq!(told.error_code, code, "{what}: {told:?}");
        assert!(told.error_message.is_some(), "{what}");
    }
    let named = client.call(0, &joining("h", "", &["t"])).await;
    assert_eq!(
        named.error_code, 0,
        "version 0 lets the coordinator name it"
    );
    assert!(named.member_id.is_some_and(|id| !id.is_empty()));
    server.stop().await;
}

#[tokio::test]
async fn a_member_may_subscribe_to_a_pattern() {
    let server = start().await;
    let mut client = server.client_and_topic("orders-1", 1).await;
    server.client_and_topic("orders-2", 1).await;
    server.client_and_topic("other", 1).await;
    await_coordinator(&mut client, "g").await;
    let request = joining("g", "m", &[])
        .with_subscribed_topic_names(None)
        .with_subscribed_topic_regex(Some(text("orders-.*")));
    let told = client.call(1, &request).await;
    let mut owner = Owner {
        id: "m",
        epoch: 0,
        owned: Vec::new(),
    };
    owner.learn(told);
    let resolved = async {
        while owner.owned.len() != 2 {
            owner.beat(&mut client).await;
        }
    };
    tokio::time::timeout(DEADLINE, resolved)
        .await
        .expect("resolved in time");
    server.stop().await;
}
