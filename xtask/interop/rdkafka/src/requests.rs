//! The requests of the line protocol.

use std::fs::File;
use std::io::{BufReader, Read};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rdkafka::message::{Headers, Message};
use sha2::{Digest, Sha256};

use crate::Trouble;
use crate::client::{Client, Record, may_pass};

const LINES: i64 = 210;
/// For a topic to be created while nodes are away.
const PATIENCE: Duration = Duration::from_secs(100);
const ALREADY_EXISTS: i32 = 36;

type Answer = Result<Vec<String>, Trouble>;

/// Does one request.
pub fn respond(client: &Client, request: &str, words: &[&str]) -> Answer {
    match (request, words) {
        ("version", []) => Ok(vec![client.version()]),
        ("create", [topic, partitions, configs @ ..]) => {
            create(client, topic, number(partitions)?, configs)
        }
        ("delete", [topic]) => client.delete(topic).map(|()| Vec::new()),
        ("topics", []) => Ok(vec![client.topics()?.join(",")]),
        ("cluster", []) => {
            let (id, ports) = client.cluster()?;
            let ports: Vec<String> = ports.iter().map(i32::to_string).collect();
            Ok(vec![id, String::new(), ports.join(",")])
        }
        ("config", [topic, name]) => Ok(vec![client.topic_config(topic, name)?]),
        ("set-config", [topic, name, value]) => {
            client.set_config(topic, name, value).map(|()| Vec::new())
        }
        ("grow", [topic, count]) => client.grow(topic, number(count)?).map(|()| Vec::new()),
        ("trim", [topic, offset]) => client.trim(topic, number(offset)?).map(|()| Vec::new()),
        ("bounds", [topic, partition]) => {
            let (start, end) = client.bounds(topic, number(partition)?)?;
            Ok(vec![start.to_string(), end.to_string()])
        }
        ("at-time", [topic, time]) => Ok(vec![client.at_time(topic, number(time)?)?.to_string()]),
        ("value", [topic, partition, offset]) => {
            let offset: i64 = number(offset)?;
            let mut value = String::new();
            client.read(
                topic,
                number(partition)?,
                (offset, offset + 1),
                None,
                |message| {
                    value =
                        String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned();
                    Ok(())
                },
            )?;
            Ok(vec![value])
        }
        ("send", [topic, partition, count, acks, size, base]) => send(
            client,
            topic,
            number(partition)?,
            number(count)?,
            acks,
            number(size)?,
            number(base)?,
        ),
        ("produce", [topic, codec, path]) => produce(client, topic, codec, path),
        ("digest", [topic]) => digest(client, topic, None),
        // It does not tell whom it read from without parsing its statistics.
        ("digest-of", [topic, _, rack]) => digest(client, topic, Some(rack)),
        ("produce-lines", [topic, base]) => {
            let base: i64 = number(base)?;
            let records = (0..LINES).map(|i| Ok(small_record(i, base)));
            client.send(topic, 0, &[("acks", "all")], records)?;
            Ok(vec![LINES.to_string()])
        }
        ("lines", [topic]) => lines(client, topic),
        _ => Err(Trouble::Error(
            None,
            format!("unknown request {request} {words:?}"),
        )),
    }
}

fn number<T: std::str::FromStr>(word: &str) -> Result<T, Trouble> {
    let refused = |_| Trouble::Error(None, format!("{word} is no such number"));
    word.parse().map_err(refused)
}

/// Tries again what may pass.
fn create(client: &Client, topic: &str, partitions: i32, configs: &[&str]) -> Answer {
    let configs: Vec<(&str, &str)> = configs
        .iter()
        .filter_map(|entry| entry.split_once('='))
        .collect();
    let begun = Instant::now();
    let mut tries = 0;
    loop {
        match client.create(topic, partitions, &configs) {
            Ok(()) => return Ok(Vec::new()),
            // An earlier try did it, though its answer was lost.
            Err(Trouble::Error(Some(ALREADY_EXISTS), _)) if tries > 0 => return Ok(Vec::new()),
            Err(Trouble::Error(number, _)) if may_pass(number) && begun.elapsed() < PATIENCE => {
                sleep(Duration::from_millis(200));
            }
            Err(trouble) => return Err(trouble),
        }
        tries += 1;
    }
}

fn send(
    client: &Client,
    topic: &str,
    partition: i32,
    count: i64,
    acks: &str,
    size: usize,
    base_ms: i64,
) -> Answer {
    let settings = match acks {
        "idempotent" => [("acks", "all"), ("enable.idempotence", "true")],
        acks => [("acks", acks), ("enable.idempotence", "false")],
    };
    let records = (0..count).map(|i| {
        let value = match size {
            0 => format!("record {i}").into_bytes(),
            size => vec![b'x'; size],
        };
        Ok(Record {
            key: None,
            value: Some(value),
            headers: Vec::new(),
            time_ms: (base_ms >= 0).then_some(base_ms + 1000 * i),
        })
    });
    let offsets = client.send(topic, partition, &settings, records)?;
    Ok(offsets
        .first()
        .into_iter()
        .chain(offsets.last())
        .map(i64::to_string)
        .collect())
}

/// The records of a file.
struct RecordFile(BufReader<File>);

impl Iterator for RecordFile {
    type Item = std::io::Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut length = [0; 4];
        match self.0.read_exact(&mut length) {
            Err(problem) if problem.kind() == std::io::ErrorKind::UnexpectedEof => return None,
            Err(problem) => return Some(Err(problem)),
            Ok(()) => {}
        }
        let mut value = vec![0; u32::from_be_bytes(length) as usize];
        let read = self.0.read_exact(&mut value);
        Some(read.map(|()| Record {
            key: None,
            value: Some(value),
            headers: Vec::new(),
            time_ms: None,
        }))
    }
}

fn produce(client: &Client, topic: &str, codec: &str, path: &str) -> Answer {
    let records = RecordFile(BufReader::with_capacity(1 << 20, File::open(path)?));
    let settings = [
        ("acks", "all"),
        ("enable.idempotence", "true"),
        ("compression.type", codec),
    ];
    let offsets = client.send(topic, 0, &settings, records)?;
    for (due, offset) in (0..).zip(&offsets) {
        // A batch that was there already when it was sent again may come without its offset.
        if *offset != due && *offset >= 0 {
            let why = format!("offset {offset} where {due} was due");
            return Err(Trouble::Error(None, why));
        }
    }
    Ok(vec![offsets.len().to_string()])
}

fn read_whole(
    client: &Client,
    topic: &str,
    rack: Option<&str>,
    mut take: impl FnMut(&rdkafka::message::BorrowedMessage<'_>),
) -> Result<i64, Trouble> {
    let begun = Instant::now();
    let (start, end) = loop {
        match client.bounds(topic, 0) {
            Ok(bounds) => break bounds,
            // The leader moves just then.
            Err(Trouble::Error(number, _)) if may_pass(number) && begun.elapsed() < PATIENCE => {
                sleep(Duration::from_millis(50));
            }
            Err(trouble) => return Err(trouble),
        }
    };
    let mut due = start;
    client.read(topic, 0, (start, end), rack, |message| {
        if message.offset() != due {
            let why = format!("offset {} came where {due} was due", message.offset());
            return Err(Trouble::Error(None, why));
        }
        due += 1;
        take(message);
        Ok(())
    })?;
    Ok(end - start)
}

fn hex(sha: Sha256) -> String {
    sha.finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn digest(client: &Client, topic: &str, rack: Option<&str>) -> Answer {
    let mut sha = Sha256::new();
    let count = read_whole(client, topic, rack, |message| {
        let value = message.payload().unwrap_or_default();
        sha.update(u32::try_from(value.len()).unwrap_or(u32::MAX).to_be_bytes());
        sha.update(value);
    })?;
    Ok(vec![count.to_string(), hex(sha)])
}

fn small_record(i: i64, base_ms: i64) -> Record {
    let text = |text: String| Some(text.into_bytes());
    Record {
        key: (i % 5 != 0).then(|| format!("key-{}", i % 17).into_bytes()),
        value: match i % 7 {
            0 => None,
            1 => Some(Vec::new()),
            _ => text(format!("value {i}")),
        },
        headers: match i % 3 {
            0 => Vec::new(),
            1 => vec![("h", text(i.to_string()))],
            _ => vec![
                ("h", text("a".into())),
                ("h", text("b".into())),
                ("n", None),
            ],
        },
        time_ms: Some(base_ms + 1000 * i),
    }
}

fn sized(value: Option<&[u8]>) -> String {
    match value {
        None => "-1 ".to_owned(),
        Some(value) => format!("{} {}", value.len(), String::from_utf8_lossy(value)),
    }
}

fn lines(client: &Client, topic: &str) -> Answer {
    let (mut plain, mut timed) = (Sha256::new(), Sha256::new());
    let count = read_whole(client, topic, None, |message| {
        let headers: Vec<String> = message
            .headers()
            .into_iter()
            .flat_map(|headers| headers.iter())
            .map(|header| {
                let value = header.value.map_or("NULL".into(), String::from_utf8_lossy);
                format!("{}={value}", header.key)
            })
            .collect();
        let (key, value) = (sized(message.key()), sized(message.payload()));
        let rest = format!("{key} {value} {}\n", headers.join(","));
        let time = message.timestamp().to_millis().unwrap_or(-1);
        plain.update(format!("{} {rest}", message.offset()));
        timed.update(format!("{} {time} {rest}", message.offset()));
    })?;
    Ok(vec![count.to_string(), hex(plain), hex(timed)])
}
