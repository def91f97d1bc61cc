//! One number for everything about topics that an assignment depends on.
//!
//! Kafka keeps such a number in `ConsumerGroupMetadataValue` since 4.1; what function makes it is
//! each coordinator's own affair. When it changes, the group gets a new epoch and a new
//! assignment.

use std::collections::BTreeSet;

use crate::topics::Topics;

/// A value that changes (but for a chance of 2^-64) when one of these topics is made or made anew,
/// deleted, gets partitions or has its partitions in other racks. Topics that do not exist count
/// for nothing; 0 when none exists. FNV-1a over name, id, count and racks.
pub(crate) fn topics_hash(topics: &Topics, names: &BTreeSet<&str>) -> i64 {
    let mut hash = Fnv(0xcbf2_9ce4_8422_2325);
    let mut any = false;
    for topic in names.iter().filter_map(|name| topics.by_name(name)) {
        any = true;
        hash.text(&topic.name);
        hash.bytes(&topic.id.0.to_be_bytes());
        hash.bytes(&topic.partitions.to_be_bytes());
        for racks in &topic.racks {
            hash.bytes(&[1]);
            racks.iter().for_each(|rack| hash.text(rack));
        }
        hash.bytes(&[2]);
    }
    if any {
        i64::from_be_bytes(hash.0.to_be_bytes())
    } else {
        0
    }
}

/// FNV-1a of 64 bits.
struct Fnv(u64);

impl Fnv {
    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// Length and bytes, so that two texts in a row cannot run into each other.
    fn text(&mut self, text: &str) {
        self.bytes(&(text.len() as u64).to_be_bytes());
        self.bytes(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::topics_hash;
    use crate::topics::{Topic, Topics};
    use crate::uuid::Uuid;

    fn topics(all: &[(&str, u128, i32)]) -> Topics {
        let mut topics = Topics::new();
        for &(name, id, partitions) in all {
            let name = name.to_owned();
            topics.insert(Topic {
                id: Uuid(id),
                name,
                partitions,
                racks: Vec::new(),
            });
        }
        topics
    }

    fn hash(topics: &Topics, names: &[&str]) -> i64 {
        topics_hash(topics, &names.iter().copied().collect())
    }

    #[test]
    fn hash_changes_with_what_matters_and_with_nothing_else() {
        let base = topics(&[("a", 1, 3), ("b", 2, 3)]);
        assert_eq!(topics_hash(&base, &BTreeSet::new()), 0);
        assert_eq!(hash(&base, &["nothing"]), 0);
        let a = hash(&base, &["a"]);
        assert_ne!(a, 0);
        assert_ne!(a, hash(&base, &["b"]));
        assert_ne!(a, hash(&base, &["a", "b"]));
        assert_eq!(a, hash(&topics(&[("a", 1, 3)]), &["a", "nothing"]));
        assert_ne!(a, hash(&topics(&[("a", 1, 4)]), &["a"]));
        assert_ne!(a, hash(&topics(&[("a", 9, 3)]), &["a"]));
        let mut racked = topics(&[]);
        racked.insert(Topic {
            id: Uuid(1),
            name: "a".to_owned(),
            partitions: 3,
            racks: vec![BTreeSet::from(["r".to_owned()]); 3],
        });
        assert_ne!(a, hash(&racked, &["a"]));
    }
}
