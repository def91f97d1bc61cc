//! Very many members at once, and a coordinator that goes while members wait in the barrier.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use kafka_client::ErrorCode;
use kafka_client::api::{ConsumerGroupHeartbeat, PartitionsById};
use rustix::process::{Resource, getrlimit, setrlimit};
use test_support::{Cluster, Process, TempDir, eventually_async};

use crate::member::Member;
use crate::{BINARY, coordinating, coordinator, create};

/// Lets this process have as many connections as the system allows: shells often say 1,024.
fn raise_descriptors() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("no more than the hard limit");
}

/// Members that come at once.
const MEMBERS: usize = 1_000;
/// How many connections the members of a consumer group share here.
const CONNECTIONS: usize = 8;

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_classic_members_join_at_once_and_share() {
    raise_descriptors();
    let dir = TempDir::new();
    let process = Process::start(BINARY, dir.path(), &[]);
    create(process.kafka(), "t", 100, 1);
    let bootstrap = [process.kafka().to_owned()];
    let members = (0..MEMBERS).map(|_| Member::new(&bootstrap, "crowd", "t", 100));
    let mut members = join_all(members).await;
    join_all(members.iter_mut().map(Member::join)).await;
    // Whoever came late makes the others join again.
    eventually_async("one generation", async || {
        let lives = join_all(members.iter_mut().map(|member| async {
            let told = member.beat().await;
            if told != Some(ErrorCode::NONE) {
                member.join().await;
            }
            told == Some(ErrorCode::NONE)
        }));
        lives.await.into_iter().all(|lives| lives).then_some(())
    })
    .await;
    let generations: BTreeSet<i32> = members.iter().map(|member| member.generation).collect();
    assert_eq!(generations.len(), 1, "{generations:?}");
    let mut owned: Vec<i32> = members.iter().flat_map(|it| it.owned.clone()).collect();
    owned.sort_unstable();
    assert_eq!(owned, (0..100).collect::<Vec<i32>>());
    assert!(process.terminate().success());
}

/// A member of a consumer group, without a connection of its own.
struct Light {
    id: String,
    epoch: i32,
    owned: Vec<PartitionsById>,
}

impl Light {
    fn beat(&self) -> ConsumerGroupHeartbeat {
        match self.epoch {
            0 => ConsumerGroupHeartbeat::join("crowd", self.id.as_str(), &["t"], 60_000),
            epoch => ConsumerGroupHeartbeat {
                owned: Some(self.owned.clone()),
                ..ConsumerGroupHeartbeat::unchanged("crowd", self.id.as_str(), epoch)
            },
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_members_of_a_consumer_group_join_at_once_and_share() {
    let dir = TempDir::new();
    let process = Process::start(BINARY, dir.path(), &[]);
    create(process.kafka(), "t", 100, 1);
    let bootstrap = [process.kafka().to_owned()];
    let connections = (0..CONNECTIONS).map(|_| coordinator(&bootstrap, "crowd"));
    let connections = join_all(connections).await;
    let light = |n| Light {
        id: format!("member-{n}"),
        epoch: 0,
        owned: Vec::new(),
    };
    let mut members: Vec<Light> = (0..MEMBERS).map(light).collect();
    eventually_async("all in one epoch", async || {
        let beats = members.iter_mut().zip(connections.iter().cycle());
        let beats = beats.map(|(member, connection)| async {
            let beat = member.beat();
            let told = connection.consumer_group_heartbeat(&beat).await;
            let told = told.expect("the node answers");
            assert_eq!(told.error, ErrorCode::NONE, "{told:?}");
            member.epoch = told.member_epoch;
            if let Some(assignment) = told.assignment {
                member.owned = assignment;
            }
        });
        join_all(beats).await;
        let epochs: BTreeSet<i32> = members.iter().map(|it| it.epoch).collect();
        let owned = members.iter().flat_map(|it| &it.owned);
        let owned = owned.map(|topic| topic.partitions.len()).sum::<usize>();
        (epochs.len() == 1 && owned == 100).then_some(())
    })
    .await;
    let owned = members.iter().flat_map(|it| &it.owned);
    let owned: BTreeSet<i32> = owned.flat_map(|it| it.partitions.clone()).collect();
    assert_eq!(owned.len(), 100, "nobody shares a partition");
    assert!(process.terminate().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_in_the_barrier_goes_on_under_the_next_coordinator() {
    let mut cluster = Cluster::start(BINARY, 3);
    create(&cluster.kafka(0), "t", 6, 3);
    let bootstrap = cluster.bootstrap();
    let mut first = Member::new(&bootstrap, "g", "t", 6).await;
    first.join().await;
    let mut others = Vec::new();
    for _ in 0..4 {
        others.push(Member::new(&bootstrap, "g", "t", 6).await);
    }
    let node = coordinating(&cluster, "g").await;
    let joins = join_all(others.iter_mut().map(Member::join));
    let kill = async {
        // The first does not join again, so that the others wait.
        eventually_async("the barrier", async || match first.beat().await {
            Some(ErrorCode::REBALANCE_IN_PROGRESS) => Some(()),
            _ => {
                tokio::time::sleep(Duration::from_millis(20)).await;
                None
            }
        })
        .await;
        cluster.kill(node);
        first
            .live_until("the next coordinator", |it| it.owned.len() < 6)
            .await;
    };
    tokio::join!(Box::pin(joins), Box::pin(kill));
    let mut all: Vec<Member> = others;
    all.push(first);
    eventually_async("one generation", async || {
        let lives = join_all(all.iter_mut().map(|member| async {
            let told = member.beat().await;
            if told.is_some_and(|told| told != ErrorCode::NONE) {
                member.join().await;
            }
            told == Some(ErrorCode::NONE)
        }));
        lives.await.into_iter().all(|lives| lives).then_some(())
    })
    .await;
    let mut owned: Vec<i32> = all.iter().flat_map(|it| it.owned.clone()).collect();
    owned.sort_unstable();
    assert_eq!(owned, (0..6).collect::<Vec<i32>>());
    cluster.restart(node);
}
