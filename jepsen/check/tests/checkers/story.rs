//! Histories told as text, a line an operation:
//!
//! ```text
//! p1 send a/0 1 2 -> 0            two values, acknowledged at offset 0; or -> fail, -> info
//! p1 resend a/0 3 -> 2            by a producer that may write a batch twice
//! p2 assign a/0@0 b/1@5
//! p2 poll a/0 0=1 1=2 hw=2        offset=value; several keys after each other; -> fail, -> info
//! p2 poll -> info damaged: why    what the client was told
//! p2 crash
//! p1 create t 3; p1 delete t; p1 set t k=v; p1 describe t 3 k=v; p1 describe t gone; p1 list t u
//! p1 join g m1 3 a/0 b/1          member m1 is told to own these in generation 3; k1 is of KIP-848
//! p1 join g m1:i 3 a/0            of instance i; -1 for a client that tells no generation
//! p1 join g m1 3 a/0 | a/0 b/1    holds on to what stands before the bar
//! p1 beat g m1 3 a/0 | a/0 b/1    holds what stands before the bar, and is told what stands after it
//! p1 beat g m1 3 a/0              the same on both sides
//! p1 leave g m1
//! p1 commit g m1 3 a/0@5          -> fail, -> info
//! p1 committed g a/0@5 b/1@-1
//! n1 has a/0 0=1 1=2 end=2        a replica; also start=, crc=; -> info
//! n1 cleaned c/0 0=a1 2=b-  end=3  a replica of a compacted partition: offset=key and value, - for none
//! nemesis kill -> ok              begins; `nemesis kill undone -> ok`
//! node 1 rss=100 open=10
//! phase final
//! at 1500                         milliseconds from the beginning
//! ```
//!
//! Each operation takes a millisecond. `p1 > send a/0 1` is only its invocation, and
//! `p1 < send a/0 1 -> 0` only its completion. What follows a `#` is for the reader.

use std::collections::BTreeMap;

use jepsen_check::compacted::Record;
use jepsen_check::history::{Admin, Event, Group, Key, Membership, Op, Process, Protocol, Read};
use jepsen_check::{Limits, Outcome, Recorder, Verdict, check};

/// The history of a story.
pub(crate) fn events(story: &str) -> Vec<Event> {
    let recorder = Recorder::new();
    let mut time_us = 0;
    for line in story.lines() {
        let line = line.split('#').next().unwrap().trim();
        if !line.is_empty() {
            tell(line, &recorder, &mut time_us);
        }
    }
    recorder.finish().unwrap()
}

fn tell(line: &str, recorder: &Recorder, time_us: &mut u64) {
    let (what, outcome) = line.split_once("->").unwrap_or((line, "ok"));
    let outcome = outcome.trim();
    let mut words: Vec<&str> = what.split_whitespace().collect();
    match words[0] {
        "at" => *time_us = words[1].parse::<u64>().unwrap() * 1000,
        "phase" => {
            recorder.note(
                *time_us,
                Op::Phase {
                    name: words[1].to_owned(),
                },
            );
        }
        "node" => {
            let number = |word: usize| words[word].split('=').next_back().unwrap().parse().unwrap();
            let node = words[1].parse().unwrap();
            let op = Op::Resources {
                node,
                rss_kib: number(2),
                descriptors: number(3),
            };
            recorder.note(*time_us, op);
        }
        _ => {
            let part = match words[1] {
                mark @ (">" | "<") => {
                    words.remove(1);
                    mark
                }
                _ => "",
            };
            let (asked, done) = operation(&words, outcome);
            // Replicas are read by a process of each node's own.
            let process = match words[0].split_at(1) {
                ("p", number) => Process::Client(number.parse().unwrap()),
                ("n", "emesis") => Process::Nemesis,
                ("n", node) => Process::Client(1000 + node.parse::<u32>().unwrap()),
                _ => panic!("{line}"),
            };
            if part != "<" {
                recorder.invoke(*time_us, process, asked);
                *time_us += 1000;
            }
            let (outcome, error) = outcome.split_once(' ').unwrap_or((outcome, "timed out"));
            match (part, outcome) {
                (">", _) => 0,
                (_, "fail") => recorder.fail(*time_us, process, done, error),
                (_, "info") => recorder.info(*time_us, process, done, error),
                _ => recorder.ok(*time_us, process, done),
            };
        }
    }
}

/// What is asked, and what comes of it.
fn operation(words: &[&str], outcome: &str) -> (Op, Op) {
    let rest = words.get(2..).unwrap_or_default();
    let same = |op: Op| (op.clone(), op);
    match words[1] {
        kind @ ("send" | "resend") => {
            let key = key(rest[0]);
            let values: Vec<u64> = rest[1..]
                .iter()
                .map(|value| value.parse().unwrap())
                .collect();
            let send = |offset| Op::Send {
                key: key.clone(),
                values: values.clone(),
                idempotent: kind == "send",
                offset,
            };
            (send(None), send(outcome.parse().ok()))
        }
        "assign" => same(Op::Assign {
            positions: positions(rest),
        }),
        "poll" => (
            Op::Poll { reads: Vec::new() },
            Op::Poll { reads: reads(rest) },
        ),
        "crash" => same(Op::Crash),
        "has" => {
            let mut fields = BTreeMap::from([("start", 0), ("crc", 0)]);
            let mut records = Vec::new();
            for (name, value) in rest[1..].iter().map(|word| word.split_once('=').unwrap()) {
                match name.parse() {
                    Ok(offset) => records.push((offset, value.parse().unwrap())),
                    Err(_) => _ = fields.insert(name, value.parse().unwrap()),
                }
            }
            let node = words[0][1..].parse().unwrap();
            let read = |log_start, end, records, digest| Op::ReplicaRead {
                node,
                key: key(rest[0]),
                log_start,
                end,
                records,
                digest,
            };
            let digest = u32::try_from(fields["crc"]).unwrap();
            (
                read(0, 0, Vec::new(), 0),
                read(fields["start"], fields["end"], records, digest),
            )
        }
        "cleaned" => {
            let mut read_to = 0;
            let mut records = Vec::new();
            for (name, value) in rest[1..].iter().map(|word| word.split_once('=').unwrap()) {
                let Ok(offset) = name.parse() else {
                    read_to = value.parse().unwrap();
                    continue;
                };
                let (key, value) = value.split_at(1);
                let value = (value != "-").then_some(value.as_bytes());
                records.push(Record::new(offset, 0, Some(key.as_bytes()), value));
            }
            let node = words[0][1..].parse().unwrap();
            let read = |end, records| Op::CompactedRead {
                node,
                key: key(rest[0]),
                end,
                records,
            };
            (read(0, Vec::new()), read(read_to, records))
        }
        "join" | "beat" | "leave" | "commit" | "committed" => group(words[1], rest),
        "create" | "delete" | "set" | "describe" | "list" => admin(words[1], rest),
        name => same(Op::Fault {
            name: name.to_owned(),
            begins: rest != ["undone"],
            nodes: vec![1],
            detail: String::new(),
        }),
    }
}

fn positions(words: &[&str]) -> Vec<(Key, i64)> {
    let position = |word: &&str| {
        let (name, offset) = word.split_once('@').unwrap();
        (key(name), offset.parse().unwrap())
    };
    words.iter().map(position).collect()
}

fn group(what: &str, rest: &[&str]) -> (Op, Op) {
    let word = |at: usize| {
        rest.get(at)
            .map_or(String::new(), |word| (*word).to_owned())
    };
    let same = |group: Group| (Op::Group(group.clone()), Op::Group(group));
    match what {
        "leave" => same(Group::Leave {
            group: word(0),
            member: word(1),
        }),
        "commit" => same(Group::Commit {
            group: word(0),
            member: word(1),
            generation: rest[2].parse().unwrap(),
            offsets: positions(&rest[3..]),
        }),
        "committed" => {
            let committed = |offsets| {
                Op::Group(Group::Committed {
                    group: word(0),
                    offsets,
                })
            };
            let seen = positions(&rest[1..]);
            let asked = seen.iter().map(|(key, _)| (key.clone(), -1)).collect();
            (committed(asked), committed(seen))
        }
        _ => {
            let keys = &rest[3..];
            let bar = keys.iter().position(|word| *word == "|");
            let (held, owned) = match bar {
                Some(at) => (&keys[..at], &keys[at + 1..]),
                None if what == "join" => (&[][..], keys),
                None => (keys, keys),
            };
            let named = |words: &[&str]| words.iter().map(|name| key(name)).collect();
            let named_member = word(1);
            let (member, instance) = match named_member.split_once(':') {
                Some((member, instance)) => (member, Some(instance.to_owned())),
                None => (named_member.as_str(), None),
            };
            let membership = |owned| Membership {
                group: word(0),
                member: member.to_owned(),
                instance: instance.clone(),
                protocol: match word(1).starts_with('k') {
                    true => Protocol::Consumer,
                    false => Protocol::Classic,
                },
                generation: rest[2].parse().unwrap(),
                held: named(held),
                owned,
            };
            let op = match what {
                "join" => Group::Join,
                _ => Group::Heartbeat,
            };
            (
                Op::Group(op(membership(Vec::new()))),
                Op::Group(op(membership(named(owned)))),
            )
        }
    }
}

fn admin(what: &str, rest: &[&str]) -> (Op, Op) {
    let topic = rest
        .first()
        .map_or(String::new(), |topic| (*topic).to_owned());
    let same = |admin: Admin| (Op::Admin(admin.clone()), Op::Admin(admin));
    match what {
        "create" => same(Admin::CreateTopic {
            topic,
            partitions: rest[1].parse().unwrap(),
        }),
        "delete" => same(Admin::DeleteTopic { topic }),
        "set" => {
            let (key, value) = rest[1].split_once('=').unwrap();
            same(Admin::SetConfig {
                topic,
                key: key.to_owned(),
                value: value.to_owned(),
            })
        }
        "list" => {
            let list = |topics| Op::Admin(Admin::ListTopics { topics });
            (
                list(Vec::new()),
                list(rest.iter().map(|topic| (*topic).to_owned()).collect()),
            )
        }
        _ => {
            let describe = |exists, partitions, configs| {
                let topic = topic.clone();
                Op::Admin(Admin::Describe {
                    topic,
                    exists,
                    partitions,
                    configs,
                })
            };
            let pairs = rest[1..].iter().filter_map(|word| word.split_once('='));
            let configs = pairs
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect();
            let partitions = rest[1..].iter().find_map(|word| word.parse().ok());
            let exists = !rest.contains(&"gone");
            (
                describe(None, None, BTreeMap::new()),
                describe(Some(exists), partitions, configs),
            )
        }
    }
}

fn reads(words: &[&str]) -> Vec<Read> {
    let mut reads: Vec<Read> = Vec::new();
    for word in words {
        match word.split_once('=') {
            None => reads.push(Read {
                key: key(word),
                records: Vec::new(),
                high_watermark: -1,
            }),
            Some(("hw", end)) => {
                reads.last_mut().unwrap().high_watermark = end.parse().unwrap();
            }
            Some((offset, value)) => {
                let record = (offset.parse().unwrap(), value.parse().unwrap());
                reads.last_mut().unwrap().records.push(record);
            }
        }
    }
    reads
}

pub(crate) fn key(name: &str) -> Key {
    let (topic, partition) = name.split_once('/').unwrap();
    Key {
        topic: topic.to_owned(),
        partition: partition.parse().unwrap(),
    }
}

/// Limits under which a short history of clients alone can be valid.
pub(crate) fn lenient() -> Limits {
    Limits {
        sends_ok_min: 0,
        polls_ok_min: 0,
        key_sends_ok_min: 0,
        whole_run: false,
        replicas_min: 0,
        metadata_age_us_max: 0,
        ..Limits::default()
    }
}

/// The anomalies of a story, by name.
#[track_caller]
pub(crate) fn anomalies(story: &str) -> Vec<String> {
    let verdict = check(&events(story), &lenient());
    assert_eq!(verdict.unknown_because, Vec::<String>::new());
    verdict
        .anomaly_counts
        .keys()
        .map(ToString::to_string)
        .collect()
}

/// The story shows these anomalies and no others.
#[track_caller]
pub(crate) fn shows(names: &[&str], story: &str) -> Verdict {
    let mut expected: Vec<&str> = names.to_vec();
    let mut found = anomalies(story);
    expected.sort_unstable();
    found.sort_unstable();
    assert_eq!(found, expected);
    let verdict = check(&events(story), &lenient());
    for anomaly in &verdict.anomalies {
        assert!(!anomaly.events.is_empty(), "nothing proves {anomaly:?}");
    }
    verdict
}

/// Nothing is wrong with the story.
#[track_caller]
pub(crate) fn is_valid(story: &str) {
    let verdict = check(&events(story), &lenient());
    assert_eq!(verdict.anomalies, []);
    assert_eq!(
        verdict.outcome,
        Outcome::Valid,
        "{:?}",
        verdict.unknown_because
    );
}
