//! Incremental fetches against full ones: whatever happens to partitions, requests and answers, a
//! session reads what its client wants and tells all that the client does not know.

use std::collections::BTreeMap;

use kafka_protocol::ResponseError as Code;
use proptest::prelude::*;

use super::shared::FetchSessions;
use super::*;
use crate::mapping::{self, TopicKey};

const TOPICS: [&str; 2] = ["a", "b"];
const PARTITIONS: usize = 8;

/// What happens between two fetches.
#[derive(Debug, Clone)]
enum Step {
    /// Records are appended.
    Append { at: usize, records: i64 },
    /// The last stable offset follows, or stays behind.
    Stabilise { at: usize },
    /// Records are deleted up to an offset.
    Trim { at: usize },
    /// Reading fails, or works again.
    Break { at: usize },
    /// The client wants a partition from an offset that is there.
    Want { at: usize, share: u8 },
    /// The client wants a partition no more.
    Forget { at: usize },
    /// The client fetches, the answer having room for so many partitions with records.
    Fetch { room: usize },
    /// A fetch whose answer never comes; the client begins anew, ending the old session.
    Lose { is_dropped: bool },
    /// A fetch that says the wrong epoch or id, or topics by id; it changes nothing.
    Misfetch { kind: u8 },
    /// Another client begins a session of so many partitions, after so much time.
    Crowd { partitions: usize, later_ms: i64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let at = || 0..PARTITIONS;
    let step = prop_oneof![
        4 => (at(), 1i64..4).prop_map(|(at, records)| Step::Append { at, records }),
        2 => at().prop_map(|at| Step::Stabilise { at }),
        1 => at().prop_map(|at| Step::Trim { at }),
        1 => at().prop_map(|at| Step::Break { at }),
        3 => (at(), any::<u8>()).prop_map(|(at, share)| Step::Want { at, share }),
        1 => at().prop_map(|at| Step::Forget { at }),
        8 => (0..4usize).prop_map(|room| Step::Fetch { room }),
        1 => any::<bool>().prop_map(|is_dropped| Step::Lose { is_dropped }),
        1 => (0..4u8).prop_map(|kind| Step::Misfetch { kind }),
        1 => (1..12usize, prop_oneof![Just(0), Just(200_000)])
            .prop_map(|(partitions, later_ms)| Step::Crowd { partitions, later_ms }),
    ];
    prop::collection::vec(step, 1..120)
}

/// A partition as it is.
#[derive(Debug, Clone, Copy, Default)]
struct Log {
    start: i64,
    stable: i64,
    end: i64,
    is_broken: bool,
}

/// What a client knows of a partition: its ends, or that it is in error.
type Known = Option<Ends>;

#[derive(Debug)]
struct World {
    sessions: FetchSessions,
    now_ms: i64,
    logs: [Log; PARTITIONS],
    // The client, as KIP-227 has it.
    session: (i32, i32),         // id and epoch of the next fetch
    wants: BTreeMap<usize, Ask>, // what it wants now
    said: BTreeMap<usize, Ask>,  // what the session was told of that
    known: BTreeMap<usize, Known>,
    others: usize,
}

fn key(at: usize) -> PartitionKey {
    PartitionKey {
        topic: TopicKey::Name(mapping::topic_name(TOPICS[at % 2])),
        index: i32::try_from(at).unwrap(),
    }
}

fn at(key: &PartitionKey) -> usize {
    usize::try_from(key.index).unwrap()
}

fn ask(offset: i64) -> Ask {
    Ask {
        offset,
        current_leader_epoch: -1,
        last_fetched_epoch: -1,
        bytes_max: 1 << 20,
    }
}

fn wanted((at, ask): (&usize, &Ask)) -> Wanted {
    Wanted {
        key: key(*at),
        ask: *ask,
    }
}

impl World {
    fn new(limits: CacheLimits) -> World {
        World {
            sessions: FetchSessions::new(limits),
            now_ms: 0,
            logs: [Log::default(); PARTITIONS],
            session: (NO_SESSION, EPOCH_FIRST),
            wants: BTreeMap::new(),
            said: BTreeMap::new(),
            known: BTreeMap::new(),
            others: 0,
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Append { at, records } => self.logs[at].end += records,
            Step::Stabilise { at } => self.logs[at].stable = self.logs[at].end,
            Step::Trim { at } => self.logs[at].start = self.logs[at].stable,
            Step::Break { at } => self.logs[at].is_broken ^= true,
            Step::Want { at, share } => {
                let log = self.logs[at];
                let offset = log.start + (log.end - log.start) * i64::from(share) / 255;
                self.wants.insert(at, ask(offset));
            }
            Step::Forget { at } => {
                self.wants.remove(&at);
            }
            Step::Fetch { room } => self.fetch(room),
            Step::Lose { is_dropped } => self.lose(is_dropped),
            Step::Misfetch { kind } => self.misfetch(kind),
            Step::Crowd {
                partitions,
                later_ms,
            } => self.crowd(partitions, later_ms),
        }
        let (count, bytes) = self.sessions_now();
        assert!(count <= 2 && bytes <= 20 * 800, "{count} {bytes}");
    }

    fn sessions_now(&self) -> (usize, usize) {
        (self.sessions.count(), self.sessions.bytes())
    }

    /// The request that KIP-227 has the client send: everything, or what is new.
    fn request(&self) -> (SessionName, Vec<Wanted>, Vec<PartitionKey>) {
        let (id, epoch) = self.session;
        let name = SessionName {
            id,
            epoch,
            by_id: false,
        };
        if epoch <= 0 {
            return (name, self.wants.iter().map(wanted).collect(), vec![]);
        }
        let new = self
            .wants
            .iter()
            .filter(|(at, ask)| self.said.get(at) != Some(ask));
        let gone = self.said.keys().filter(|at| !self.wants.contains_key(at));
        (
            name,
            new.map(wanted).collect(),
            gone.map(|at| key(*at)).collect(),
        )
    }

    fn fetch(&mut self, room: usize) {
        let (name, new, gone) = self.request();
        let opened = self.sessions.open(name, new, &gone, self.now_ms);
        let (read, continuity) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                // Others took its place: it begins with a full fetch.
                assert_eq!(error, Code::FetchSessionIdNotFound);
                assert!(self.others > 0, "nobody took its place");
                return self.begin_anew((NO_SESSION, EPOCH_FIRST));
            }
        };
        // It reads what a full fetch would read, in whichever order.
        let reads: BTreeMap<usize, Ask> = read.iter().map(|w| (at(&w.key), w.ask)).collect();
        assert_eq!(reads, self.wants);
        assert_eq!(read.len(), reads.len(), "nothing is read twice");
        let mut room = room;
        let news: Vec<News> = read.iter().map(|w| self.read(w, &mut room)).collect();
        let (id, told) = continuity.finish(&read, &news, self.now_ms);
        if name.epoch > 0 {
            assert!(id == name.id || (id == NO_SESSION && read.is_empty()));
        }
        self.said = self.wants.clone();
        self.known.retain(|at, _| self.said.contains_key(at));
        for ((wanted, news), told) in read.iter().zip(&news).zip(told) {
            self.hear(at(&wanted.key), *news, told);
        }
        self.session = match id {
            NO_SESSION => (NO_SESSION, EPOCH_FIRST),
            id => (id, next_epoch(name.epoch)),
        };
    }

    /// What reading a partition gives, as long as there is room for records.
    fn read(&self, wanted: &Wanted, room: &mut usize) -> News {
        let log = self.logs[at(&wanted.key)];
        if log.is_broken || wanted.ask.offset < log.start {
            return News::Error;
        }
        let has_records = wanted.ask.offset < log.end && *room > 0;
        *room -= usize::from(has_records);
        News::Read {
            ends: Ends {
                high_watermark: log.end,
                last_stable_offset: log.stable,
                log_start: log.start,
            },
            has_records,
            has_advice: false,
        }
    }

    /// The client hears of a partition, or concludes from not hearing of it.
    fn hear(&mut self, at: usize, news: News, told: bool) {
        let (known, has_records) = match news {
            News::Error => (None, false),
            News::Read {
                ends, has_records, ..
            } => (Some(ends), has_records),
        };
        if told {
            self.known.insert(at, known);
        } else {
            assert!(!has_records, "records are not left out");
            assert_eq!(
                self.known.get(&at),
                Some(&known),
                "it was told all there is to know"
            );
            assert!(known.is_some(), "errors are told each time");
        }
        if has_records {
            // It has them now, and wants what comes next.
            self.wants.insert(at, ask(self.logs[at].end));
        }
    }

    fn begin_anew(&mut self, session: (i32, i32)) {
        self.session = session;
        self.said.clear();
        self.known.clear();
    }

    fn lose(&mut self, is_dropped: bool) {
        let (name, new, gone) = self.request();
        if let Ok((read, continuity)) = self.sessions.open(name, new, &gone, self.now_ms) {
            if is_dropped {
                drop(continuity);
                if name.epoch > 0 {
                    let again = self.sessions.open(name, vec![], &[], self.now_ms);
                    assert_eq!(again.err(), Some(Code::FetchSessionIdNotFound));
                }
            } else {
                let news = vec![News::Error; read.len()];
                continuity.finish(&read, &news, self.now_ms);
            }
        }
        let (id, _) = self.session;
        self.begin_anew((id, EPOCH_FIRST));
    }

    fn misfetch(&mut self, kind: u8) {
        let (id, epoch) = self.session;
        let name = SessionName {
            id,
            epoch,
            by_id: false,
        };
        if epoch <= 0 {
            return;
        }
        let (name, expected) = match kind {
            0 => (
                SessionName {
                    epoch: epoch + 1,
                    ..name
                },
                Code::InvalidFetchSessionEpoch,
            ),
            1 => (
                SessionName { epoch: -2, ..name },
                Code::InvalidFetchSessionEpoch,
            ),
            2 => (
                SessionName {
                    by_id: true,
                    ..name
                },
                Code::FetchSessionTopicIdError,
            ),
            _ => (
                SessionName { id: -id, ..name },
                Code::FetchSessionIdNotFound,
            ),
        };
        let gone: Vec<PartitionKey> = (0..PARTITIONS).map(key).collect();
        let refused = self.sessions.open(name, vec![], &gone, self.now_ms);
        let error = refused.err().unwrap();
        let is_gone = error == Code::FetchSessionIdNotFound && self.others > 0;
        assert!(error == expected || is_gone, "{error:?}");
    }

    fn crowd(&mut self, partitions: usize, later_ms: i64) {
        self.now_ms += later_ms;
        self.others += 1;
        let wanted: Vec<Wanted> = (100..100 + partitions)
            .map(|at| wanted((&at, &ask(0))))
            .collect();
        let name = SessionName {
            id: NO_SESSION,
            epoch: EPOCH_FIRST,
            by_id: false,
        };
        let opened = self.sessions.open(name, wanted, &[], self.now_ms);
        let (read, continuity) = opened.unwrap();
        let (_, told) = continuity.finish(&read, &vec![News::Error; read.len()], self.now_ms);
        assert_eq!(told, vec![true; partitions], "a full fetch tells all");
    }
}

proptest! {
    #[test]
    fn a_session_tells_what_full_fetches_tell(steps in steps()) {
        let mut world = World::new(CacheLimits {
            sessions_max: 2,
            bytes_max: 20 * 800,
        });
        for step in steps {
            world.step(step);
        }
        // Nothing is left untold.
        world.fetch(PARTITIONS);
        world.fetch(PARTITIONS);
        for at in world.wants.keys() {
            let log = world.logs[*at];
            let ends = Ends {
                high_watermark: log.end,
                last_stable_offset: log.stable,
                log_start: log.start,
            };
            let known = world.known[at];
            prop_assert!(known.is_none_or(|known| known == ends));
            prop_assert!(log.is_broken <= known.is_none());
        }
    }

    #[test]
    fn whoever_has_much_to_read_keeps_nobody_waiting(
        count in 2..PARTITIONS,
        room in 1..3usize,
    ) {
        let mut world = World::new(CacheLimits { sessions_max: 2, bytes_max: usize::MAX });
        for at in 0..count {
            world.wants.insert(at, ask(0));
        }
        world.fetch(0);
        let mut served = vec![0; count];
        // All have records all the time; an answer has room for those of some.
        for _ in 0..count * 10 {
            for at in 0..count {
                world.logs[at].end += 5;
            }
            let before = world.wants.clone();
            world.fetch(room);
            for at in 0..count {
                served[at] += usize::from(before[&at] != world.wants[&at]);
            }
        }
        let (least, most) = (served.iter().min().unwrap(), served.iter().max().unwrap());
        prop_assert!(most - least <= 1, "{served:?}");
    }
}
