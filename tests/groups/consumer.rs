//! Groups of the new protocol (KIP-848) in a cluster that loses their coordinator.

use std::collections::BTreeSet;

use kafka_client::api::{ConsumerGroupHeartbeat, PartitionsById};
use kafka_client::{Connection, ErrorCode};
use test_support::{Cluster, eventually_async};

use crate::{BINARY, coordinating, coordinator, create, is_passing};

const PARTITIONS: i32 = 6;

struct Member {
    connection: Connection,
    bootstrap: Vec<String>,
    id: &'static str,
    epoch: i32,
    owned: Vec<PartitionsById>,
}

impl Member {
    async fn new(bootstrap: &[String], id: &'static str) -> Member {
        Member {
            connection: coordinator(bootstrap, "g").await,
            bootstrap: bootstrap.to_vec(),
            id,
            epoch: 0,
            owned: Vec::new(),
        }
    }

    /// Joins, or tells what it owns; learns what it shall. False while there is no coordinator.
    async fn beat(&mut self) -> bool {
        let beat = match self.epoch {
            0 => ConsumerGroupHeartbeat::join("g", self.id, &["t"], 60_000),
            epoch => ConsumerGroupHeartbeat {
                owned: Some(self.owned.clone()),
                ..ConsumerGroupHeartbeat::unchanged("g", self.id, epoch)
            },
        };
        let told = self.connection.consumer_group_heartbeat(&beat).await;
        let Some(told) = told.ok().filter(|told| !is_passing(told.error)) else {
            self.connection = coordinator(&self.bootstrap, "g").await;
            return false;
        };
        assert_eq!(told.error, ErrorCode::NONE, "{told:?}");
        self.epoch = told.member_epoch;
        if let Some(assignment) = told.assignment {
            self.owned = assignment;
        }
        true
    }

    fn partitions(&self) -> BTreeSet<i32> {
        let owned = self.owned.iter().flat_map(|topic| &topic.partitions);
        owned.copied().collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn members_go_on_under_the_next_coordinator_as_they_were() {
    let mut cluster = Cluster::start(BINARY, 3);
    create(&cluster.kafka(0), "t", PARTITIONS, 3);
    let bootstrap = cluster.bootstrap();
    let mut first = Member::new(&bootstrap, "first").await;
    let mut second = Member::new(&bootstrap, "second").await;
    eventually_async("two halves", async || {
        first.beat().await;
        second.beat().await;
        let halves = first.partitions().len() == 3 && second.partitions().len() == 3;
        halves.then_some(())
    })
    .await;
    assert!(first.partitions().is_disjoint(&second.partitions()));
    let before = [&first, &second].map(|it| (it.epoch, it.partitions()));

    let node = coordinating(&cluster, "g").await;
    cluster.kill(node);
    for member in [&mut first, &mut second] {
        eventually_async("the next coordinator", async || {
            member.beat().await.then_some(())
        })
        .await;
    }
    let after = [&first, &second].map(|it| (it.epoch, it.partitions()));
    assert_eq!(after, before);
    cluster.restart(node);
}
