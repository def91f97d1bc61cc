//! A history of some seconds of three nodes, made up, with faults and broken promises to draw.

use crate::check::verdict::{Anomaly, AnomalyName};
use crate::history::{Admin, Event, Key, Op, Process, Read, Recorder, Value};

/// A generator of numbers, so that the history looks like one.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

pub(crate) fn key(partition: usize) -> Key {
    Key {
        topic: "log-0".to_owned(),
        partition: i32::try_from(partition).expect("a handful"),
    }
}

/// When, in which place of that time, who, which kind (`i`, `o`, `f`, `?`, `n`), what, and why.
type Line = (u64, usize, Process, char, Op, Option<&'static str>);

struct Client {
    process: u32,
    free_at: u64,
    positions: [usize; 4],
    sends: bool,
}

/// What happened, and what is wrong with it.
pub(crate) fn history(seconds: u64) -> (Vec<Event>, Vec<Anomaly>) {
    let end = seconds * 1_000_000;
    let mut numbers = Numbers(7);
    let mut logs: [Vec<Value>; 4] = Default::default();
    let mut clients: Vec<Client> = (0..8)
        .map(|process| Client {
            process,
            free_at: 200_000,
            positions: [0; 4],
            sends: process < 5,
        })
        .collect();
    let mut next_process = 8;
    let mut next_value = 1_000;
    let mut lines: Vec<Line> = Vec::new();
    let mut add = |at: u64, process, kind, op, error| {
        let place = lines.len();
        lines.push((at, place, process, kind, op, error));
    };
    let mut faults = Vec::new();
    for (name, from, to, nodes) in [
        ("kill", 4, 9, vec![2]),
        ("partition-halves", 12, 19, vec![1, 3]),
        ("slow-sync", 15, 21, vec![2]),
        ("kill", 24, 27, vec![1, 2, 3]),
        ("clock", 29, 34, vec![3]),
    ] {
        let (from, to) = (end * from / 40, end * to / 40);
        let fault = |begins| Op::Fault {
            name: name.to_owned(),
            begins,
            nodes: nodes.clone(),
            detail: "process is gone".to_owned(),
        };
        for (begins, at) in [(true, from), (false, to)] {
            add(at, Process::Nemesis, 'i', fault(begins), None);
            add(
                at + 9_000,
                Process::Nemesis,
                if name == "clock" { '?' } else { 'o' },
                fault(begins),
                None,
            );
        }
        faults.push((name, from, to));
    }
    add(
        0,
        Process::Nemesis,
        'n',
        Op::Phase {
            name: "faults".to_owned(),
        },
        None,
    );
    for node in 1..=3 {
        for at in 0..seconds * 2 {
            let rss_kib = 90_000 + u64::from(node) * 4_000 + at * 300;
            add(
                at * 500_000,
                Process::Nemesis,
                'n',
                Op::Resources {
                    node,
                    rss_kib,
                    descriptors: 120 + at,
                },
                None,
            );
        }
    }
    while let Some(client) = clients.iter_mut().min_by_key(|client| client.free_at) {
        let at = client.free_at;
        if at >= end {
            break;
        }
        let broken = faults
            .iter()
            .find(|(name, from, to)| (from..to).contains(&&at) && *name != "clock")
            .map(|fault| fault.0);
        let slow = match broken {
            Some("slow-sync") => 40_000,
            Some(_) => 20_000,
            None => 2_000,
        };
        let took = 900 + numbers.below(slow) + if numbers.below(50) == 0 { slow * 6 } else { 0 };
        let done = at + took;
        client.free_at = done + 1_000 + numbers.below(6_000);
        let process = Process::Client(client.process);
        let partition = usize::try_from(numbers.below(4)).expect("below four");
        if numbers.below(150) == 0 {
            let admin = Op::Admin(Admin::SetConfig {
                topic: "log-0".to_owned(),
                key: "retention.ms".to_owned(),
                value: at.to_string(),
            });
            add(at, process, 'i', admin.clone(), None);
            add(done, process, 'o', admin, None);
        } else if client.sends {
            let values: Vec<Value> = (next_value..next_value + 1 + numbers.below(3)).collect();
            next_value += values.len() as u64;
            let send = |offset| Op::Send {
                key: key(partition),
                values: values.clone(),
                idempotent: true,
                offset,
            };
            add(at, process, 'i', send(None), None);
            if broken.is_some() && numbers.below(6) == 0 {
                client.free_at = at + 900_000;
                add(
                    at + 890_000,
                    process,
                    '?',
                    send(None),
                    Some("no answer within 800 ms"),
                );
                client.process = next_process;
                next_process += 1;
                if numbers.below(2) == 0 {
                    logs[partition].extend(&values);
                }
            } else if broken.is_some() && numbers.below(4) == 0 {
                add(
                    done,
                    process,
                    'f',
                    send(None),
                    Some("NOT_LEADER_OR_FOLLOWER"),
                );
            } else {
                add(
                    done,
                    process,
                    'o',
                    send(Some(logs[partition].len() as i64)),
                    None,
                );
                logs[partition].extend(&values);
            }
        } else {
            add(at, process, 'i', Op::Poll { reads: Vec::new() }, None);
            let mut reads = Vec::new();
            for (partition, log) in logs.iter().enumerate() {
                let from = client.positions[partition];
                let to = log.len().min(from + 12);
                if to > from {
                    let records = (from..to)
                        .map(|offset| (offset as i64, log[offset]))
                        .collect();
                    reads.push(Read {
                        key: key(partition),
                        records,
                        high_watermark: log.len() as i64,
                    });
                    client.positions[partition] = to;
                }
            }
            add(done, process, 'o', Op::Poll { reads }, None);
        }
    }
    let phase = |name: &str| Op::Phase {
        name: name.to_owned(),
    };
    add(end, Process::Nemesis, 'n', phase("heal"), None);
    add(end + 2_000_000, Process::Nemesis, 'n', phase("final"), None);
    for node in 1..=3_u32 {
        for (partition, log) in logs.iter().enumerate() {
            let at = end + 2_000_000 + u64::from(node) * 90_000 + partition as u64 * 15_000;
            let records: Vec<_> = (0..).zip(log.iter().copied()).collect();
            let read = |records| Op::ReplicaRead {
                node,
                key: key(partition),
                log_start: 0,
                end: log.len() as i64,
                records,
                digest: 1,
            };
            add(at, Process::Client(900 + node), 'i', read(Vec::new()), None);
            add(
                at + 9_000,
                Process::Client(900 + node),
                'o',
                read(records),
                None,
            );
        }
    }
    add(end + 3_000_000, Process::Nemesis, 'n', phase("end"), None);
    lines.sort_by_key(|(at, place, ..)| (*at, *place));
    let history = Recorder::new();
    for (at, _, process, kind, op, error) in lines {
        let error = error.unwrap_or("no effect seen");
        match kind {
            'i' => history.invoke(at, process, op),
            'o' => history.ok(at, process, op),
            'f' => history.fail(at, process, op, error),
            '?' => history.info(at, process, op, error),
            _ => history.note(at, op),
        };
    }
    let mut events = history.finish().expect("it is a history");
    let anomalies = vec![
        lose(&mut events),
        duplicate(&mut events),
        contradict(&mut events),
        skip(&mut events),
    ];
    (events, anomalies)
}

/// All records of one partition, as polls and replicas show them.
fn records_of(
    events: &mut [Event],
    of: &Key,
    mut change: impl FnMut(u64, Option<u32>, &mut Vec<(i64, Value)>),
) {
    for event in events {
        match &mut event.op {
            Op::Poll { reads } => {
                for read in reads.iter_mut().filter(|read| read.key == *of) {
                    change(event.index, None, &mut read.records);
                }
            }
            Op::ReplicaRead {
                node, key, records, ..
            } if key == of => change(event.index, Some(*node), records),
            _ => {}
        }
    }
}

/// An acknowledged send in the middle of a partition's log: its events, values and offset.
fn some_send(events: &[Event], of: &Key) -> (Vec<u64>, Vec<Value>, i64) {
    let sends: Vec<_> = events
        .iter()
        .filter_map(|event| match &event.op {
            Op::Send {
                key,
                values,
                offset: Some(offset),
                ..
            } if key == of => Some((event, values, *offset)),
            _ => None,
        })
        .collect();
    let (event, values, offset) = sends[sends.len() * 3 / 5];
    (vec![event.index], values.clone(), offset)
}

fn lose(events: &mut [Event]) -> Anomaly {
    let key = key(0);
    let (mut proof, values, offset) = some_send(events, &key);
    records_of(events, &key, |index, node, records| {
        let before = records.len();
        records.retain(|(_, value)| !values.contains(value));
        if records.len() < before && (node.is_some() || proof.len() < 3) {
            proof.push(index);
        }
    });
    let offsets = (offset..).take(values.len()).collect();
    Anomaly {
        key: Some(key),
        events: proof,
        values,
        offsets,
        ..Anomaly::new(
            AnomalyName::LostWrite,
            format!(
                "acknowledged at offset {offset} and read by nobody, though later offsets were"
            ),
        )
    }
}

fn duplicate(events: &mut [Event]) -> Anomaly {
    let key = key(1);
    let (mut proof, values, offset) = some_send(events, &key);
    let again = offset + 6;
    records_of(events, &key, |index, _, records| {
        for record in records.iter_mut().filter(|record| record.0 == again) {
            record.1 = values[0];
            proof.push(index);
        }
    });
    Anomaly {
        key: Some(key),
        events: proof,
        values: values[..1].to_vec(),
        offsets: vec![offset, again],
        ..Anomaly::new(
            AnomalyName::Duplicate,
            format!("value {} stands at offsets {offset} and {again}", values[0]),
        )
    }
}

fn contradict(events: &mut [Event]) -> Anomaly {
    let key = key(2);
    let (mut proof, values, offset) = some_send(events, &key);
    let other = values[0] + 7;
    records_of(events, &key, |index, node, records| {
        for record in records
            .iter_mut()
            .filter(|record| record.0 == offset && node == Some(3))
        {
            record.1 = other;
            proof.push(index);
        }
    });
    Anomaly {
        key: Some(key),
        events: proof,
        values: vec![values[0], other],
        offsets: vec![offset],
        ..Anomaly::new(
            AnomalyName::InconsistentOffsets,
            format!("offset {offset} shows {} and {other}", values[0]),
        )
    }
}

fn skip(events: &mut [Event]) -> Anomaly {
    let key = key(3);
    let mut proof = Vec::new();
    let mut offsets = Vec::new();
    let half = events.len() / 2;
    for event in &mut events[half..] {
        let Op::Poll { reads } = &mut event.op else {
            continue;
        };
        let Some(read) = reads
            .iter_mut()
            .find(|read| read.key == key && read.records.len() > 4)
        else {
            continue;
        };
        offsets = read.records.drain(..3).map(|(offset, _)| offset).collect();
        proof.push(event.index);
        break;
    }
    Anomaly {
        key: Some(key),
        events: proof,
        values: Vec::new(),
        offsets,
        ..Anomaly::new(
            AnomalyName::PollSkip,
            "the process jumped over records that it had not seen",
        )
    }
}
