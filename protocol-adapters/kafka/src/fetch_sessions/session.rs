//! One fetch session: partitions in the order in which they are read. Pure.
//!
//! Partitions that gave records are read last the next time (KIP-74), so that one with much to read
//! keeps none of the others waiting. A request names mostly what was just told, which therefore
//! stands at the end: it is looked for from there.

use std::collections::HashMap;

use kafka_protocol::messages::TopicName;
use kafka_protocol::protocol::StrBytes;

use crate::mapping::TopicKey;

/// About what a partition takes while it is in a session and fetched, without its topic's name.
const PARTITION_BYTES: usize = 768;

/// A partition as clients name it; in one session all by name, or all by topic id.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct PartitionKey {
    /// Its topic.
    pub(crate) topic: TopicKey,
    /// Its number.
    pub(crate) index: i32,
}

/// What a client wants of a partition until it says otherwise, as it stands on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ask {
    /// First offset wanted.
    pub(crate) offset: i64,
    /// The leader epoch the client believes in; -1 for none.
    pub(crate) current_leader_epoch: i32,
    /// The epoch of the last record it has; -1 for none.
    pub(crate) last_fetched_epoch: i32,
    /// Most bytes of this partition in one answer.
    pub(crate) bytes_max: i32,
}

/// A partition that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Which one.
    pub(crate) key: PartitionKey,
    /// And what of it.
    pub(crate) ask: Ask,
}

/// The offsets that consumers are told with each answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ends {
    /// High watermark.
    pub(crate) high_watermark: i64,
    /// Last stable offset.
    pub(crate) last_stable_offset: i64,
    /// First offset that exists.
    pub(crate) log_start: i64,
}

/// What a fetch found in a partition, as far as it decides whether it must be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum News {
    /// An error: told each time, and so is what comes after it.
    Error,
    /// It can be read.
    Read {
        /// Told when they have changed.
        ends: Ends,
        /// There are records: told, and the partition is read last the next time.
        has_records: bool,
        /// Something else to be told each time: a diverging epoch, a replica to read from instead.
        has_advice: bool,
    },
}

/// The partitions of a session, no two with the same key.
#[derive(Debug, Default)]
pub(crate) struct FetchSession {
    partitions: Vec<Remembered>,
    bytes: usize, // of all partitions, see `bytes`
}

#[derive(Debug)]
struct Remembered {
    key: PartitionKey,
    ask: Ask,
    told: Option<Ends>, // `None`: nothing yet, or an error
}

/// What a request does to one partition.
enum Change {
    Want(usize), // its place in the request
    Forget,
}

impl FetchSession {
    /// A session of these partitions, which were told just now, in this order. `None` when one is
    /// named twice, or there are none.
    pub(crate) fn begin(wanted: &[Wanted], news: &[News]) -> Option<FetchSession> {
        assert_eq!(wanted.len(), news.len(), "one result a partition");
        let mut session = FetchSession::default();
        session.update(wanted, &[]);
        if session.partitions.len() < wanted.len() || wanted.is_empty() {
            return None;
        }
        // Nobody waits behind another yet: the client's order is kept.
        for (partition, news) in session.partitions.iter_mut().zip(news) {
            partition.tell(*news);
        }
        Some(session)
    }

    /// Takes over what a request says: partitions that are new or wanted differently, and those
    /// that are not wanted any more, also when the same request wants them. New ones are read last.
    /// Of a partition that is named twice the last word counts.
    pub(crate) fn update(&mut self, wanted: &[Wanted], forgotten: &[PartitionKey]) {
        let mut changes = HashMap::with_capacity(wanted.len() + forgotten.len());
        for (place, wanted) in wanted.iter().enumerate() {
            changes.insert(&wanted.key, Change::Want(place));
        }
        for key in forgotten {
            changes.insert(key, Change::Forget);
        }
        let mut gone = vec![];
        for (place, partition) in self.partitions.iter_mut().enumerate().rev() {
            if changes.is_empty() {
                break;
            }
            match changes.remove(&partition.key) {
                Some(Change::Want(place)) => partition.ask = wanted[place].ask,
                Some(Change::Forget) => gone.push(place),
                None => {}
            }
        }
        self.remove(&gone);
        let mut new: Vec<usize> = changes
            .into_values()
            .filter_map(|change| match change {
                Change::Want(place) => Some(place),
                Change::Forget => None,
            })
            .collect();
        new.sort_unstable();
        for place in new {
            self.add(&wanted[place]);
        }
    }

    /// Removes the partitions at these places, the last one first.
    fn remove(&mut self, gone: &[usize]) {
        let mut gone = gone.iter().rev().peekable();
        if gone.peek().is_none() {
            return;
        }
        let mut place = 0;
        let bytes = &mut self.bytes;
        self.partitions.retain(|partition| {
            let is_gone = gone.next_if(|gone| **gone == place).is_some();
            place += 1;
            if is_gone {
                *bytes -= partition.key.bytes();
            }
            !is_gone
        });
    }

    fn add(&mut self, wanted: &Wanted) {
        // A topic's name is kept once for partitions that come together, and never as a part of the
        // request, which would stay in memory with it.
        let topic = match (&wanted.key.topic, self.partitions.last()) {
            (topic, Some(last)) if last.key.topic == *topic => last.key.topic.clone(),
            (TopicKey::Name(name), _) => {
                TopicKey::Name(TopicName(StrBytes::from_string(name.as_str().to_owned())))
            }
            (TopicKey::Id(id), _) => TopicKey::Id(*id),
        };
        self.bytes += wanted.key.bytes();
        self.partitions.push(Remembered {
            key: PartitionKey {
                topic,
                index: wanted.key.index,
            },
            ask: wanted.ask,
            told: None,
        });
    }

    /// All partitions, in the order in which they are to be read.
    pub(crate) fn wanted(&self) -> Vec<Wanted> {
        let wanted = |partition: &Remembered| Wanted {
            key: partition.key.clone(),
            ask: partition.ask,
        };
        self.partitions.iter().map(wanted).collect()
    }

    /// What was found, one result a partition in the order of [`FetchSession::wanted`]. Says which
    /// of them the client must be told, and counts those as told.
    pub(crate) fn tell(&mut self, news: &[News]) -> Vec<bool> {
        assert_eq!(self.partitions.len(), news.len(), "one result a partition");
        let partitions = self.partitions.iter_mut().zip(news);
        let told = partitions
            .map(|(partition, news)| partition.tell(*news))
            .collect();
        if news.iter().any(|news| news.has_records()) {
            let (mut first, mut last) = (Vec::with_capacity(news.len()), vec![]);
            for (partition, news) in std::mem::take(&mut self.partitions).into_iter().zip(news) {
                match news.has_records() {
                    true => last.push(partition),
                    false => first.push(partition),
                }
            }
            first.append(&mut last);
            self.partitions = first;
        }
        told
    }

    /// How many partitions it has.
    pub(crate) fn len(&self) -> usize {
        self.partitions.len()
    }

    /// About what it takes of memory, together with what a fetch of it takes beside records.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Remembered {
    /// Whether this must be told, which counts as done.
    fn tell(&mut self, news: News) -> bool {
        match news {
            News::Error => {
                self.told = None;
                true
            }
            News::Read {
                ends,
                has_records,
                has_advice,
            } => {
                let is_new = self.told != Some(ends);
                self.told = Some(ends);
                is_new || has_records || has_advice
            }
        }
    }
}

impl News {
    fn has_records(self) -> bool {
        matches!(
            self,
            News::Read {
                has_records: true,
                ..
            }
        )
    }
}

impl PartitionKey {
    /// About what a partition with this key takes.
    fn bytes(&self) -> usize {
        match &self.topic {
            TopicKey::Name(name) => PARTITION_BYTES + name.len(),
            TopicKey::Id(_) => PARTITION_BYTES,
        }
    }
}
