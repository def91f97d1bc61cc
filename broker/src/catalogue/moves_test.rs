use super::*;
use crate::TopicConfig;
use crate::catalogue::{Factor, Shard};

fn partition(index: u32) -> PartitionId {
    PartitionId {
        topic: TopicId([1; 16]),
        index,
    }
}

/// Shards 0 to 3; partitions 0 and 1 in shard 1.
fn catalogue() -> Catalogue {
    let topic = Topic {
        name: "t".to_owned(),
        id: TopicId([1; 16]),
        partitions: vec![PartitionEntry::new(ShardId(1)); 2],
        config: Arc::new(TopicConfig::default()),
        internal: false,
    };
    let shard = |id| {
        (
            ShardId(id),
            Shard::new(ShardId(id), Vec::new(), Factor::Auto),
        )
    };
    Catalogue {
        shards: (0..4).map(shard).collect(),
        names: [(topic.id, topic.name.clone())].into(),
        topics: [(topic.name.clone(), Arc::new(topic))].into(),
        ..Catalogue::default()
    }
}

fn entry(state: &Catalogue) -> PartitionEntry {
    state.entry(partition(0)).expect("is there")
}

#[test]
fn a_move_changes_the_partition_when_it_is_finished_and_not_before() {
    let mut state = catalogue();
    begin(&mut state, partition(0), (0, None), ShardId(2)).expect("begins");
    assert_eq!(
        (entry(&state).shard, entry(&state).generation),
        (ShardId(1), 0)
    );
    assert_eq!(state.moves().count(), 1);
    begin(&mut state, partition(0), (0, None), ShardId(2)).expect("the same again is the same");
    assert_eq!(entry(&state).last_generation, 1);
    finish(&mut state, partition(0), 1, 77).expect("finishes");
    let moved = PartitionEntry {
        epoch_base: 77,
        generation: 1,
        last_generation: 1,
        ..PartitionEntry::new(ShardId(2))
    };
    assert_eq!(entry(&state), moved);
    finish(&mut state, partition(0), 1, 77).expect("may be said twice");
    assert!(cancel(&mut state, partition(0), 1).is_err());
    assert!(
        begin(&mut state, partition(0), (0, None), ShardId(3)).is_err(),
        "asked of the old log"
    );
    assert_eq!(entry(&state), moved);
}

#[test]
fn what_was_cancelled_is_never_finished() {
    let mut state = catalogue();
    begin(&mut state, partition(0), (0, None), ShardId(2)).expect("begins");
    cancel(&mut state, partition(0), 1).expect("cancels");
    cancel(&mut state, partition(0), 1).expect("may be said twice");
    assert!(finish(&mut state, partition(0), 1, 5).is_err());
    begin(&mut state, partition(0), (0, None), ShardId(2)).expect("begins anew");
    assert_eq!(entry(&state).moving.expect("moves").generation, 2);
    assert!(
        finish(&mut state, partition(0), 1, 5).is_err(),
        "an older one"
    );
    cancel(&mut state, partition(0), 1).expect("it is");
    finish(&mut state, partition(0), 2, 5).expect("finishes");
    assert_eq!(entry(&state).shard, ShardId(2));
}

#[test]
fn a_request_that_is_repeated_begins_no_move_again_that_was_cancelled() {
    let mut state = catalogue();
    let first = |state: &mut Catalogue| begin(state, partition(0), (0, Some(0)), ShardId(2));
    first(&mut state).expect("begins");
    first(&mut state).expect("the same again is the same");
    assert_eq!(entry(&state).moving.expect("moves").generation, 1);
    cancel(&mut state, partition(0), 1).expect("cancels");
    assert!(first(&mut state).is_err(), "it was begun already");
    assert_eq!(entry(&state).moving, None);
    begin(&mut state, partition(0), (0, Some(1)), ShardId(2)).expect("a new one begins");
}

#[test]
fn a_log_is_past_only_when_it_can_never_come_back() {
    let mut state = catalogue();
    let past =
        |state: &Catalogue, generations: [u32; 4]| generations.map(|g| entry(state).is_past(g));
    assert_eq!(past(&state, [0, 1, 2, 3]), [false; 4]);
    begin(&mut state, partition(0), (0, None), ShardId(2)).expect("begins");
    assert_eq!(past(&state, [0, 1, 2, 3]), [false; 4]);
    cancel(&mut state, partition(0), 1).expect("cancels");
    assert_eq!(past(&state, [0, 1, 2, 3]), [false, true, false, false]);
    begin(&mut state, partition(0), (0, None), ShardId(3)).expect("begins");
    assert_eq!(past(&state, [0, 1, 2, 3]), [false, true, false, false]);
    finish(&mut state, partition(0), 2, 0).expect("finishes");
    assert_eq!(past(&state, [0, 1, 2, 3]), [true, true, false, false]);
}

#[test]
fn a_move_needs_a_partition_and_another_shard_that_carries_some() {
    let mut state = catalogue();
    for to in [0, 1, 9] {
        assert!(
            begin(&mut state, partition(0), (0, None), ShardId(to)).is_err(),
            "{to}"
        );
    }
    assert!(begin(&mut state, partition(2), (0, None), ShardId(2)).is_err());
    begin(&mut state, partition(0), (0, None), ShardId(2)).expect("begins");
    assert!(
        begin(&mut state, partition(0), (0, None), ShardId(3)).is_err(),
        "moves already"
    );
    state.topics.clear();
    state.names.clear();
    for done in [
        begin(&mut state, partition(0), (0, None), ShardId(2)),
        finish(&mut state, partition(0), 1, 0),
        cancel(&mut state, partition(0), 1),
    ] {
        assert_eq!(done, Err(BrokerError::UnknownTopicId));
    }
}

#[test]
fn a_shard_that_goes_takes_the_moves_to_it_with_it() {
    let mut state = catalogue();
    begin(&mut state, partition(0), (0, None), ShardId(2)).expect("begins");
    begin(&mut state, partition(1), (0, None), ShardId(3)).expect("begins");
    cancel_to(&mut state, ShardId(2));
    let moves: Vec<u32> = state.moves().map(|(id, _, _)| id.index).collect();
    assert_eq!(moves, [1]);
    assert_eq!(entry(&state).last_generation, 1);
}

#[test]
fn moved_partitions_are_told_by_a_checkpoint() {
    let mut state = catalogue();
    begin(&mut state, partition(0), (0, None), ShardId(2)).expect("begins");
    finish(&mut state, partition(0), 1, 5).expect("finishes");
    begin(&mut state, partition(1), (0, None), ShardId(3)).expect("begins");
    begin(&mut state, partition(0), (1, None), ShardId(3)).expect("begins");
    let mut writer = Writer::default();
    put(&mut writer, &state);
    let bytes = writer.finish();
    // Shard and epoch base stand with the topic.
    let mut read = catalogue();
    let fresh = |entry: &mut PartitionEntry| {
        (entry.shard, entry.epoch_base) = (ShardId(2), 5);
        Ok(())
    };
    change(&mut read, partition(0), fresh).expect("is there");
    let mut reader = Reader::new(bytes.clone());
    take(&mut reader, &mut read).expect("reads");
    reader.end().expect("all of it");
    assert_eq!(read, state);
    for len in 0..bytes.len() {
        assert!(take(&mut Reader::new(bytes.slice(..len)), &mut catalogue()).is_err());
    }
    assert!(take(&mut Reader::new(bytes), &mut Catalogue::default()).is_err());
}
