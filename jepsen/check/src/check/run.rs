//! [`Run`]: a history made ready to be judged: operations paired, keys and values numbered.
//!
//! Positions are places in the slice of events, which a history's indexes equal.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::history::{Admin, Event, HistoryError, Key, Kind, Op, Process, Sequence, Value};

/// Number of a key, in the order of keys.
pub(crate) type KeyId = usize;

/// A history, with what every checker asks of it.
pub(crate) struct Run<'a> {
    pub(crate) events: &'a [Event],
    /// By position: of an invocation its completion, of a completion its invocation.
    pub(crate) partner: Vec<Option<usize>>,
    /// Every key that anything was sent to, read from or assigned of, sorted.
    pub(crate) keys: Vec<&'a Key>,
    // Never iterated: its order is not the same twice.
    key_ids: HashMap<&'a Key, KeyId>,
    /// In the order of their invocations.
    pub(crate) sends: Vec<Send<'a>>,
    // Send and place in it. Never iterated.
    writers: HashMap<Value, (usize, usize)>,
    /// Where each phase first began.
    pub(crate) phases: BTreeMap<&'a str, usize>,
    // By key, the acknowledged reads of replicas in the final phase.
    replica_reads: Vec<BTreeMap<u32, usize>>,
    /// Topics whose deletion was asked for and did not surely fail: their records may go.
    pub(crate) deleted: BTreeSet<&'a str>,
}

/// A send, from its invocation to its completion.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Send<'a> {
    pub(crate) process: Process,
    pub(crate) key: KeyId,
    pub(crate) values: &'a [Value],
    pub(crate) idempotent: bool,
    pub(crate) invoked: usize,
    pub(crate) completed: Option<usize>,
    pub(crate) outcome: Sent,
}

/// What came of a send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    /// Acknowledged; the offset of the first value.
    Ok(i64),
    /// Surely not.
    Fail,
    /// Unknown.
    Info,
}

impl Send<'_> {
    /// The offset that a value was acknowledged at.
    pub(crate) fn acknowledged(&self, place: usize) -> Option<i64> {
        match self.outcome {
            Sent::Ok(offset) => Some(offset_at(offset, place)),
            Sent::Fail | Sent::Info => None,
        }
    }
}

/// So many places after an offset.
pub(crate) fn offset_at(offset: i64, place: usize) -> i64 {
    offset.saturating_add(i64::try_from(place).unwrap_or(i64::MAX))
}

impl<'a> Run<'a> {
    pub(crate) fn new(events: &'a [Event]) -> Result<Run<'a>, HistoryError> {
        let mut run = Run {
            events,
            partner: pair(events)?,
            keys: Vec::new(),
            key_ids: HashMap::new(),
            sends: Vec::new(),
            writers: HashMap::new(),
            phases: BTreeMap::new(),
            replica_reads: Vec::new(),
            deleted: BTreeSet::new(),
        };
        let mut keys = BTreeSet::new();
        for (position, event) in events.iter().enumerate() {
            match &event.op {
                Op::Send { key, .. } | Op::ReplicaRead { key, .. } => {
                    keys.insert(key);
                }
                Op::Poll { reads } => keys.extend(reads.iter().map(|read| &read.key)),
                Op::Assign { positions } => keys.extend(positions.iter().map(|(key, _)| key)),
                Op::Group(group) => keys.extend(group.keys()),
                Op::Phase { name } => {
                    run.phases.entry(name).or_insert(position);
                }
                Op::Admin(Admin::DeleteTopic { topic })
                    if event.kind == Kind::Invoke && run.outcome(position) != Kind::Fail =>
                {
                    run.deleted.insert(topic);
                }
                _ => {}
            }
        }
        run.keys = keys.into_iter().collect();
        run.key_ids = run
            .keys
            .iter()
            .enumerate()
            .map(|(id, key)| (*key, id))
            .collect();
        run.number_sends()?;
        run.number_replica_reads();
        Ok(run)
    }

    fn number_sends(&mut self) -> Result<(), HistoryError> {
        for (position, event) in self.events.iter().enumerate() {
            let (
                Kind::Invoke,
                Op::Send {
                    key,
                    values,
                    idempotent,
                    ..
                },
            ) = (event.kind, &event.op)
            else {
                continue;
            };
            let completed = self.partner[position];
            let outcome = match completed.map(|at| (self.events[at].kind, &self.events[at].op)) {
                Some((
                    Kind::Ok,
                    Op::Send {
                        offset: Some(offset),
                        ..
                    },
                )) => Sent::Ok(*offset),
                Some((Kind::Fail, _)) => Sent::Fail,
                _ => Sent::Info,
            };
            for (place, value) in values.iter().enumerate() {
                if self
                    .writers
                    .insert(*value, (self.sends.len(), place))
                    .is_some()
                {
                    let what = "a value that was sent before: values are unique";
                    return Err(HistoryError::Malformed {
                        index: event.index,
                        what,
                    });
                }
            }
            self.sends.push(Send {
                process: event.process,
                key: self.key_ids[key],
                values,
                idempotent: *idempotent,
                invoked: position,
                completed,
                outcome,
            });
        }
        Ok(())
    }

    fn number_replica_reads(&mut self) {
        self.replica_reads
            .resize_with(self.keys.len(), BTreeMap::new);
        let from = self.phase("final").unwrap_or(0);
        for (position, event) in self.events.iter().enumerate().skip(from) {
            if let (Kind::Ok, Op::ReplicaRead { node, key, .. }) = (event.kind, &event.op) {
                self.replica_reads[self.key_ids[key]].insert(*node, position);
            }
        }
    }

    /// Of each node that showed its replica of a key in the final phase, where it did last; by node.
    pub(crate) fn replica_reads(&self, key: KeyId) -> impl Iterator<Item = usize> {
        self.replica_reads[key].values().copied()
    }

    /// What came of the operation invoked there; without a completion, [`Kind::Info`].
    pub(crate) fn outcome(&self, invoked: usize) -> Kind {
        self.partner[invoked].map_or(Kind::Info, |completed| self.events[completed].kind)
    }

    pub(crate) fn key_id(&self, key: &Key) -> KeyId {
        self.key_ids[key]
    }

    /// Who sent a value, and its place in that send.
    pub(crate) fn writer(&self, value: Value) -> Option<(&Send<'a>, usize)> {
        self.writers
            .get(&value)
            .map(|(send, place)| (&self.sends[*send], *place))
    }

    /// Whether a key's records stay: nobody asked for its topic to be deleted.
    pub(crate) fn stays(&self, key: KeyId) -> bool {
        !self.deleted.contains(self.keys[key].topic.as_str())
    }

    /// Position of a phase's beginning.
    pub(crate) fn phase(&self, name: &str) -> Option<usize> {
        self.phases.get(name).copied()
    }

    pub(crate) fn time_us(&self, position: usize) -> u64 {
        self.events[position].time_us
    }

    /// The events of a send, for who wants to look.
    pub(crate) fn events_of(&self, send: &Send<'_>) -> impl Iterator<Item = u64> + use<> {
        [Some(send.invoked), send.completed]
            .into_iter()
            .flatten()
            .map(|at| at as u64)
    }
}

fn pair(events: &[Event]) -> Result<Vec<Option<usize>>, HistoryError> {
    let mut sequence = Sequence::default();
    let mut open: BTreeMap<Process, usize> = BTreeMap::new();
    let mut partner = vec![None; events.len()];
    for (position, event) in events.iter().enumerate() {
        sequence.admit(event)?;
        if event.op.is_note() {
            continue;
        }
        if event.kind == Kind::Invoke {
            open.insert(event.process, position);
        } else if let Some(invoked) = open.remove(&event.process) {
            partner[invoked] = Some(position);
            partner[position] = Some(invoked);
        }
    }
    Ok(partner)
}
