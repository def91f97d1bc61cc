//! Committed offsets: what was acknowledged is there, whatever happens to nodes.

use kafka_client::ErrorCode;
use kafka_client::api::{OffsetCommit, OffsetFetch, OffsetToCommit};
use test_support::{Cluster, eventually_async};

use crate::{BINARY, coordinating, coordinator, create, is_passing};

/// Groups, so that several coordinators have some.
const GROUPS: usize = 8;

fn group(number: usize) -> String {
    format!("group-{number}")
}

/// Commits this offset for every group until it is acknowledged.
async fn commit(cluster: &Cluster, offset: i64) {
    for number in 0..GROUPS {
        let group = group(number);
        let commit = OffsetCommit {
            group_id: group.clone(),
            generation_or_epoch: -1,
            member_id: String::new(),
            instance_id: None,
            offsets: vec![OffsetToCommit {
                topic: "t".to_owned(),
                partition: 0,
                offset,
                leader_epoch: -1,
                metadata: Some(format!("at {offset}")),
            }],
        };
        eventually_async("a commit", async || {
            let connection = coordinator(&cluster.bootstrap(), &group).await;
            let outcome = connection.offset_commit(&commit).await.ok()?.remove(0);
            if outcome.error != ErrorCode::NONE {
                assert!(is_passing(outcome.error), "{outcome:?}");
                return None;
            }
            Some(())
        })
        .await;
    }
}

/// Checks that every group has what was committed last.
async fn check(cluster: &Cluster, offset: i64) {
    for number in 0..GROUPS {
        let group = group(number);
        let found = eventually_async("committed offsets", async || {
            let connection = coordinator(&cluster.bootstrap(), &group).await;
            let asked = [OffsetFetch::new(group.as_str(), None)];
            let found = connection.offset_fetch(&asked, true).await.ok()?.remove(0);
            if found.error != ErrorCode::NONE {
                assert!(is_passing(found.error), "{found:?}");
                return None;
            }
            Some(found)
        })
        .await;
        assert_eq!(found.offsets.len(), 1, "{found:?}");
        let told = &found.offsets[0];
        assert_eq!(
            (told.offset, told.error),
            (offset, ErrorCode::NONE),
            "{group}"
        );
        assert_eq!(told.metadata.as_deref(), Some(&*format!("at {offset}")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_commits_survive_killed_coordinators_and_a_blackout() {
    let mut cluster = Cluster::start(BINARY, 3);
    create(&cluster.kafka(0), "t", 1, 3);
    commit(&cluster, 1).await;
    check(&cluster, 1).await;
    for round in 0..2 {
        let node = coordinating(&cluster, &group(round)).await;
        cluster.kill(node);
        check(&cluster, 1 + i64::try_from(round).unwrap()).await;
        commit(&cluster, 2 + i64::try_from(round).unwrap()).await;
        cluster.restart(node);
    }
    for node in 0..3 {
        cluster.kill(node);
    }
    for node in 0..3 {
        cluster.spawn(node);
    }
    cluster.wait_ready();
    check(&cluster, 3).await;
}
