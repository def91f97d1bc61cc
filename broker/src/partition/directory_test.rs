use std::path::PathBuf;

use storage::clock::Clock;
use storage::disk::{Disk, SimDisk};
use storage::store::{LogStore, LogStoreConfig};
use storage::{Offset, TopicId};

use super::*;
use crate::TopicConfig;
use crate::catalogue::PartitionEntry;

const ID: PartitionId = PartitionId {
    topic: TopicId([4; 16]),
    index: 0,
};

fn logs() -> LogStore {
    let config = LogStoreConfig::new(PathBuf::from("/partitions"));
    let disk = Disk::Sim(SimDisk::new(1));
    LogStore::open(&disk, &Clock::manual(0), config).expect("opens")
}

/// A log that serves as far as its shard knows.
fn log(logs: &LogStore, shard: u32, generation: u32) -> Arc<Partition> {
    let id = LogId {
        partition: ID,
        generation,
    };
    let log = logs.create(id, LogConfig::default(), Offset(0));
    let use_of = (0, Stand::Serving);
    Arc::new(Partition::new(ShardId(shard), use_of, log, Arc::default()))
}

/// A picture that names this generation.
fn image(generation: u32) -> Arc<Catalogue> {
    let entry = PartitionEntry {
        generation,
        last_generation: generation,
        ..PartitionEntry::new(ShardId(1))
    };
    let topic = Topic {
        name: "t".to_owned(),
        id: ID.topic,
        partitions: vec![entry],
        config: Arc::new(TopicConfig::default()),
        internal: false,
    };
    Arc::new(Catalogue {
        names: [(topic.id, topic.name.clone())].into(),
        topics: [(topic.name.clone(), Arc::new(topic))].into(),
        ..Catalogue::default()
    })
}

fn served(directory: &Directory) -> Option<u32> {
    directory.get(ID).map(|one| one.generation())
}

#[test]
fn a_log_of_a_move_is_not_served_before_the_catalogue_here_knows_of_it() {
    let logs = logs();
    let (pictures, images) = watch::channel(Arc::new(Catalogue::default()));
    let directory = Directory::new(images);
    directory.insert([log(&logs, 2, 1)]);
    assert_eq!(served(&directory), None);
    let (before, is_changed) = directory.follow(&Catalogue::default());
    assert!(!is_changed);
    directory.insert([log(&logs, 1, 0)]);
    assert_eq!(served(&directory), Some(0), "no move made it");

    pictures.send_replace(image(0));
    let (before, is_changed) = directory.follow(&before);
    assert!(!is_changed);
    assert_eq!(served(&directory), Some(0));
    pictures.send_replace(image(1));
    let (before, is_changed) = directory.follow(&before);
    assert!(is_changed);
    assert_eq!(served(&directory), Some(1));
    assert!(Arc::ptr_eq(&before, &pictures.borrow()));
    let (_, is_changed) = directory.follow(&before);
    assert!(!is_changed, "nothing is new");
    logs.close();
}

#[test]
fn what_changes_while_a_picture_is_followed_is_followed_too() {
    let logs = logs();
    let pictures_made: Vec<_> = (0..=2).map(image).collect();
    let (pictures, images) = watch::channel(Arc::clone(&pictures_made[0]));
    let directory = Directory::new(images);
    directory.insert((0..=2).map(|generation| log(&logs, generation + 1, generation)));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for turn in 0..2_000 {
                pictures.send_replace(Arc::clone(&pictures_made[turn % 3]));
            }
        });
        let mut before = Arc::new(Catalogue::default());
        for _ in 0..2_000 {
            before = directory.follow(&before).0;
            let named = before.entry(ID).map(|entry| entry.generation);
            assert_eq!(served(&directory), named, "what it says that it followed");
        }
    });
    let last = Arc::clone(&pictures.borrow());
    directory.follow(&Catalogue::default());
    let named = last.entry(ID).map(|entry| entry.generation);
    assert_eq!(served(&directory), named);
    logs.close();
}
