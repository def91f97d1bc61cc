//! kcat, as Debian packages it: librdkafka 2.0.2 there, the oldest client in wide use.
//!
//! It needs no driver, and it cannot create topics: other clients do that for it.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use super::client::{Client, Digest, Leaves, LeftOut, LinesDigest, MemberProgram};
use super::client::{Protocol, UNABLE, request_limit};
use super::records::{KCAT_DELIMITER, RecordFile};
use super::report::Report;
use crate::process::{Finished, Owned, finish, finish_spawned, finish_with, one_line, succeed};

const SMALL_LIMIT: Duration = Duration::from_secs(60);
/// Larger than the largest record of a record file, smaller than the topics' limit.
const MESSAGE_BYTES_MAX: &str = "message.max.bytes=1900000";

/// kcat and the broker it talks to.
pub(crate) struct Kcat {
    bootstrap: String,
}

impl Kcat {
    /// kcat for the broker at `bootstrap`.
    pub(crate) fn new(bootstrap: &str) -> Self {
        Self {
            bootstrap: bootstrap.to_owned(),
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("kcat");
        command
            .args(["-b", &self.bootstrap, "-m", "30"])
            .args(arguments);
        // Not the configuration of whoever runs this.
        command.env("KCAT_CONFIG", "/dev/null");
        command
    }

    fn run(&self, arguments: &[&str]) -> Result<Finished, String> {
        finish(&mut self.command(arguments), SMALL_LIMIT)
    }

    fn output(&self, arguments: &[&str]) -> Result<String, String> {
        Ok(succeed(&mut self.command(arguments), SMALL_LIMIT)?.text())
    }

    fn send(&self, topic: &str, input: &str, arguments: &[&str]) -> Result<Finished, String> {
        let input = input.to_owned();
        let mut command = self.command(&["-P", "-t", topic, "-p", "0"]);
        let feed = move |mut stdin: std::process::ChildStdin| stdin.write_all(input.as_bytes());
        finish_with(command.args(arguments), SMALL_LIMIT, feed)
    }

    fn must_send(&self, topic: &str, input: &str, arguments: &[&str]) -> Result<(), String> {
        let finished = self.send(topic, input, arguments)?;
        if finished.is_success {
            Ok(())
        } else {
            Err(finished.complaint())
        }
    }

    fn read(&self, topic: &str, arguments: &[&str]) -> Result<String, String> {
        let always = ["-C", "-q", "-t", topic, "-p", "0", "-X", "check.crcs=true"];
        self.output(&[&always, arguments].concat())
    }

    /// Reads partition 0 whole, through a format, into a SHA-256.
    fn digest_as(&self, topic: &str, format: &str, limit: Duration) -> Result<String, String> {
        self.digest_with(topic, format, limit, &[])
    }

    fn digest_with(
        &self,
        topic: &str,
        format: &str,
        limit: Duration,
        settings: &[&str],
    ) -> Result<String, String> {
        let deadline = Instant::now() + limit;
        let mut command = self.command(&["-C", "-q", "-e", "-t", topic, "-p", "0"]);
        command.args(["-o", "beginning", "-X", "check.crcs=true", "-f", format]);
        command.args(settings);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut kcat = Owned::spawn(&mut command)?;
        let output = kcat.0.stdout.take().expect("it was asked for");
        let mut hash = Command::new("sha256sum");
        let hash = Owned::spawn(hash.stdin(output).stdout(Stdio::piped()))?;
        let read = finish_spawned(kcat, deadline)?;
        if !read.is_success {
            return Err(read.complaint());
        }
        let hashed = finish_spawned(hash, deadline)?.text();
        Ok(hashed
            .split_whitespace()
            .next()
            .unwrap_or_default()
            .to_owned())
    }
}

impl Client for Kcat {
    fn name(&self) -> &'static str {
        "kcat"
    }

    fn version(&mut self) -> Result<String, String> {
        let said = succeed(Command::new("kcat").arg("-V"), SMALL_LIMIT)?.text();
        let line = said
            .lines()
            .find_map(|line| line.strip_prefix("Version "))
            .unwrap_or(&said);
        Ok(format!(
            "kcat {}",
            line.split(" builtin")
                .next()
                .unwrap_or(line)
                .replace(['(', ','], "")
        ))
    }

    fn can_create_topics(&self) -> bool {
        false
    }

    fn create(&mut self, _: &str, _: u32, _: &[&str]) -> Result<(), String> {
        Err("kcat cannot create topics".to_owned())
    }

    fn delete(&mut self, _topic: &str) -> Result<(), String> {
        Err("kcat cannot delete topics".to_owned())
    }

    fn produce(&mut self, topic: &str, codec: &str, file: &RecordFile) -> Result<(), String> {
        let codec = format!("compression.codec={codec}");
        let mut command = self.command(&["-P", "-t", topic, "-p", "0", "-D", KCAT_DELIMITER]);
        command.args(["-X", &codec, "-X", MESSAGE_BYTES_MAX]);
        command.args(["-X", "acks=all", "-X", "enable.idempotence=true"]);
        let records = file.clone();
        let feed = move |stdin| records.write_delimited(stdin, KCAT_DELIMITER);
        let finished = finish_with(&mut command, request_limit(file.bytes), feed)?;
        if finished.is_success {
            Ok(())
        } else {
            Err(finished.complaint())
        }
    }

    fn digest(&mut self, topic: &str, file: &RecordFile) -> Result<Digest, String> {
        let sha256 = self.digest_as(topic, "%R%s", request_limit(file.bytes))?;
        Ok(Digest {
            count: None,
            sha256,
        })
    }

    fn digest_of(
        &mut self,
        topic: &str,
        _node: u32,
        rack: &str,
        bytes: u64,
    ) -> Result<Digest, String> {
        // It does not tell whom it read from: the other clients do.
        let rack = format!("client.rack={rack}");
        let limit = request_limit(bytes);
        Ok(Digest {
            count: None,
            sha256: self.digest_with(topic, "%R%s", limit, &["-X", &rack])?,
        })
    }

    fn can_produce_lines(&self) -> bool {
        false
    }

    fn produce_lines(&mut self, _topic: &str, _base_ms: u64) -> Result<LeftOut, String> {
        Err("kcat gives all records of a run the same headers and no timestamps".to_owned())
    }

    fn lines(&mut self, topic: &str) -> Result<LinesDigest, String> {
        Ok(LinesDigest {
            plain: self.digest_as(topic, "%o %K %k %S %s %h\\n", SMALL_LIMIT)?,
            timed: self.digest_as(topic, "%o %T %K %k %S %s %h\\n", SMALL_LIMIT)?,
        })
    }

    fn checks(&mut self, prefix: &str, report: &mut Report) {
        for (number, (behaviour, check)) in CHECKS.iter().enumerate() {
            report.add(
                "kcat",
                behaviour,
                check(self, &format!("{prefix}-{number}")),
            );
        }
    }

    fn member(
        &self,
        group: &str,
        topic: &str,
        protocol: Protocol,
    ) -> Result<MemberProgram, String> {
        if protocol == Protocol::Consumer {
            return Err(format!("{UNABLE}librdkafka has had KIP-848 since 2.12"));
        }
        let mut command = self.command(&["-q", "-u", "-f", "record\t%p\t%o\t%s\n"]);
        for setting in [
            "auto.offset.reset=earliest",
            "session.timeout.ms=6000",
            "heartbeat.interval.ms=1000",
            "auto.commit.interval.ms=100",
        ] {
            command.args(["-X", setting]);
        }
        command.args(["-G", group, topic]);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        Ok(MemberProgram {
            command,
            leaves: Leaves::OnSignal,
            shows_uncommitted: true,
        })
    }
}

type Check = fn(&Kcat, &str) -> Result<(), String>;

/// Topics come from producing to them: kcat has no other way to make one.
const CHECKS: &[(&str, Check)] = &[
    ("producing to a new topic creates it", creates_by_producing),
    ("list metadata", lists_metadata),
    (
        "unknown topic is reported, not created",
        reports_unknown_topic,
    ),
    ("keys, headers and null values", keeps_keys_and_headers),
    ("read from beginning, middle and end", reads_from_positions),
    ("offsets for times", finds_offsets_by_time),
    ("idempotent producer", produces_idempotently),
    ("acks 0, 1 and all", produces_with_all_acks),
    ("offset out of range is reported", reports_out_of_range),
    (
        "record over max.message.bytes is refused",
        reports_too_large,
    ),
    ("a waiting fetch is woken by a record", is_woken),
];

fn equal(found: &str, expected: &str) -> Result<(), String> {
    if found == expected {
        Ok(())
    } else {
        Err(format!(
            "found {}, not {}",
            one_line(found),
            one_line(expected)
        ))
    }
}

fn contains(found: &str, expected: &str) -> Result<(), String> {
    if found.contains(expected) {
        Ok(())
    } else {
        Err(format!("no {expected:?} in: {}", one_line(found)))
    }
}

/// `record 0` to `record COUNT-1`, one a line.
fn numbered(count: usize) -> String {
    (0..count).map(|i| format!("record {i}\n")).collect()
}

fn creates_by_producing(kcat: &Kcat, topic: &str) -> Result<(), String> {
    kcat.must_send(topic, "first\n", &[])?;
    equal(&kcat.read(topic, &["-o", "beginning", "-e"])?, "first\n")
}

fn lists_metadata(kcat: &Kcat, topic: &str) -> Result<(), String> {
    kcat.must_send(topic, "x\n", &[])?;
    let listed = kcat.output(&["-L"])?;
    for address in kcat.bootstrap.split(',') {
        contains(&listed, &format!("at {address}"))?;
    }
    contains(&listed, &format!("topic \"{topic}\" with"))?;
    contains(&kcat.output(&["-L", "-t", topic])?, "partition 0, leader")
}

fn reports_unknown_topic(kcat: &Kcat, topic: &str) -> Result<(), String> {
    let listed = kcat.output(&["-L", "-t", topic, "-X", "allow.auto.create.topics=false"])?;
    contains(&listed, "Unknown topic or partition")?;
    let is_created = kcat
        .output(&["-L"])?
        .contains(&format!("topic \"{topic}\""));
    if is_created {
        Err("asking created the topic".to_owned())
    } else {
        Ok(())
    }
}

fn keeps_keys_and_headers(kcat: &Kcat, topic: &str) -> Result<(), String> {
    let input = "k1:v1\nk2:\nk3:v3\n";
    kcat.must_send(
        topic,
        input,
        &["-Z", "-K:", "-H", "source=kcat", "-H", "more=1"],
    )?;
    let read = kcat.read(topic, &["-o", "beginning", "-e", "-f", "%k %S %s %h\\n"])?;
    let headers = "source=kcat,more=1";
    equal(
        &read,
        &format!("k1 2 v1 {headers}\nk2 -1  {headers}\nk3 2 v3 {headers}\n"),
    )
}

fn reads_from_positions(kcat: &Kcat, topic: &str) -> Result<(), String> {
    kcat.must_send(topic, &numbered(1000), &["-z", "gzip"])?;
    equal(
        &kcat.read(topic, &["-o", "beginning", "-c", "1"])?,
        "record 0\n",
    )?;
    equal(
        &kcat.read(topic, &["-o", "501", "-c", "2"])?,
        "record 501\nrecord 502\n",
    )?;
    equal(
        &kcat.read(topic, &["-o", "-2", "-e"])?,
        "record 998\nrecord 999\n",
    )?;
    equal(&kcat.read(topic, &["-o", "end", "-e"])?, "")?;
    equal(
        &kcat.read(topic, &["-o", "beginning", "-e"])?,
        &numbered(1000),
    )
}

fn finds_offsets_by_time(kcat: &Kcat, topic: &str) -> Result<(), String> {
    for run in 0..3 {
        kcat.must_send(topic, &format!("{run} a\n{run} b\n"), &[])?;
    }
    let timed = kcat.read(topic, &["-o", "beginning", "-e", "-f", "%T %o\\n"])?;
    let timed: Vec<(&str, &str)> = timed
        .lines()
        .filter_map(|line| line.split_once(' '))
        .collect();
    if timed.len() != 6 {
        return Err(format!("{} of 6 records were read", timed.len()));
    }
    let (asked, _) = timed[4];
    let expected = timed
        .iter()
        .find(|(time, _)| *time >= asked)
        .map_or("", |(_, offset)| offset);
    let answer = kcat.output(&["-Q", "-t", &format!("{topic}:0:{asked}")])?;
    contains(&answer, &format!("offset {expected}"))?;
    let from = format!("s@{asked}");
    equal(
        &kcat.read(topic, &["-o", &from, "-c", "1", "-f", "%o"])?,
        expected,
    )
}

fn produces_idempotently(kcat: &Kcat, topic: &str) -> Result<(), String> {
    let settings = [
        "-X",
        "enable.idempotence=true",
        "-X",
        "batch.num.messages=50",
    ];
    kcat.must_send(topic, &numbered(20_000), &settings)?;
    equal(
        &kcat.read(topic, &["-o", "beginning", "-e"])?,
        &numbered(20_000),
    )
}

fn produces_with_all_acks(kcat: &Kcat, topic: &str) -> Result<(), String> {
    // acks=0 comes last but one: the records of the last run show that it was not lost.
    for acks in ["all", "0", "1"] {
        kcat.must_send(
            topic,
            &format!("{acks}\n"),
            &["-X", &format!("acks={acks}")],
        )?;
    }
    let mut read: Vec<String> = kcat
        .read(topic, &["-o", "beginning", "-c", "3"])?
        .lines()
        .map(str::to_owned)
        .collect();
    read.sort();
    equal(&read.join(" "), "0 1 all")
}

fn reports_out_of_range(kcat: &Kcat, topic: &str) -> Result<(), String> {
    kcat.must_send(topic, &numbered(10), &[])?;
    let always = ["-C", "-t", topic, "-p", "0", "-e", "-o", "1000"];
    let refused = kcat.run(&[&always[..], &["-X", "auto.offset.reset=error"]].concat())?;
    contains(&refused.stderr, "out of range")?;
    let reset = kcat.run(&[&always[..], &["-X", "auto.offset.reset=earliest"]].concat())?;
    equal(&reset.text(), &numbered(10))
}

fn reports_too_large(kcat: &Kcat, topic: &str) -> Result<(), String> {
    kcat.must_send(topic, "fits\n", &[])?;
    let large = format!("{}\n", "x".repeat(1 << 20));
    let settings = ["-X", "message.max.bytes=3000000"];
    let refused = kcat.send(topic, &large, &settings)?;
    contains(&refused.stderr, "Message size too large")?;
    equal(&kcat.read(topic, &["-o", "beginning", "-e"])?, "fits\n")
}

fn is_woken(kcat: &Kcat, topic: &str) -> Result<(), String> {
    kcat.must_send(topic, "one\n", &[])?;
    let mut command = kcat.command(&["-C", "-q", "-u", "-t", topic, "-p", "0"]);
    command.args([
        "-o",
        "beginning",
        "-c",
        "2",
        "-X",
        "fetch.wait.max.ms=20000",
    ]);
    let mut reader = Owned::spawn(command.stdin(Stdio::null()).stdout(Stdio::piped()))?;
    let stdout = reader.0.stdout.take().expect("it was asked for");
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    let next = |limit| {
        lines
            .recv_timeout(limit)
            .map_err(|_| "nothing was read".to_owned())
    };
    equal(&next(SMALL_LIMIT)?, "one")?;
    kcat.must_send(topic, "two\n", &[])?;
    equal(&next(Duration::from_secs(10))?, "two")
}
