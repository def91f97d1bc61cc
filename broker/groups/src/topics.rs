//! What groups need to know of topics.

use std::collections::{BTreeMap, BTreeSet};

use crate::uuid::Uuid;

/// A topic that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Its id, never that of another topic, not even of one of the same name.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// How many partitions it has.
    pub partitions: i32,
    /// The racks that each partition has replicas in, by partition; may be shorter than `partitions`
    /// when racks are not known.
    pub racks: Vec<BTreeSet<String>>,
}

/// All topics, at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Topics {
    by_name: BTreeMap<String, Topic>,
    names: BTreeMap<Uuid, String>,
    /// Rises with every change.
    pub version: u64,
}

impl Topics {
    /// No topics.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a topic in, in the place of the one of this name if there is one.
    pub fn insert(&mut self, topic: Topic) {
        self.remove(&topic.name);
        self.names.insert(topic.id, topic.name.clone());
        self.by_name.insert(topic.name.clone(), topic);
        self.version += 1;
    }

    /// Takes a topic out.
    pub fn remove(&mut self, name: &str) -> Option<Topic> {
        let topic = self.by_name.remove(name)?;
        self.names.remove(&topic.id);
        self.version += 1;
        Some(topic)
    }

    /// The topic of this name.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<&Topic> {
        self.by_name.get(name)
    }

    /// The topic of this id.
    #[must_use]
    pub fn by_id(&self, id: Uuid) -> Option<&Topic> {
        self.by_name.get(self.names.get(&id)?)
    }

    /// All topics, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Topic> {
        self.by_name.values()
    }
}
