//! Kafka's own command-line tools: `kafka-topics`, `kafka-configs`, `kafka-console-producer` and
//! their like, each call a Java virtual machine of its own.
//!
//! The console producer parts records by lines, so it sends the word list only.

use std::fs::File;
use std::io::Write;
use std::process::{ChildStdin, Command, Stdio};
use std::time::Duration;

use super::client::{Client, Digest, Leaves, LeftOut, LinesDigest, MemberProgram};
use super::client::{Protocol, UNABLE, request_limit};
use super::records::{RecordFile, sha256_of_values};
use super::report::Report;
use crate::process::{Finished, finish, finish_with, one_line};

/// A virtual machine takes seconds to start on a busy machine.
const SMALL_LIMIT: Duration = Duration::from_secs(120);
/// Ends a value in the console consumer's output; no value contains it.
const DELIMITER: &str = "\n++braidlog-interop-record++\n";
/// The console consumer gives up when nothing came for so long.
const QUIET_MS: &str = "60000";

const TOPICS: &str = "org.apache.kafka.tools.TopicCommand";
const CONFIGS: &str = "kafka.admin.ConfigCommand";
const OFFSETS: &str = "org.apache.kafka.tools.GetOffsetShell";
const PRODUCER: &str = "org.apache.kafka.tools.ConsoleProducer";
const CONSUMER: &str = "org.apache.kafka.tools.consumer.ConsoleConsumer";
const DELETE_RECORDS: &str = "org.apache.kafka.tools.DeleteRecordsCommand";
const API_VERSIONS: &str = "org.apache.kafka.tools.BrokerApiVersionsCommand";
const CLUSTER: &str = "org.apache.kafka.tools.ClusterTool";
const GROUPS: &str = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
const ALL_GROUPS: &str = "org.apache.kafka.tools.GroupsCommand";
const LOG_DIRS: &str = "org.apache.kafka.tools.LogDirsCommand";

/// The tools, and the broker that they talk to.
pub(crate) struct Tools {
    class_path: String,
    bootstrap: String,
}

impl Tools {
    /// The tools of this class path.
    pub(crate) fn new(class_path: String, bootstrap: &str) -> Self {
        Self {
            class_path,
            bootstrap: bootstrap.to_owned(),
        }
    }

    fn command(&self, tool: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("java");
        command.args(["-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]);
        command.args(["-Dlog4j2.level=OFF", "-cp", &self.class_path, tool]);
        command
            .args(arguments)
            .args(["--bootstrap-server", &self.bootstrap]);
        command
    }

    fn run(&self, tool: &str, arguments: &[&str]) -> Result<Finished, String> {
        finish(&mut self.command(tool, arguments), SMALL_LIMIT)
    }

    fn output(&self, tool: &str, arguments: &[&str]) -> Result<String, String> {
        let finished = self.run(tool, arguments)?;
        match finished.is_success {
            true => Ok(finished.text()),
            false => Err(finished.complaint()),
        }
    }

    /// Runs what must be refused, with this text in the refusal.
    fn refused(&self, error: &str, tool: &str, arguments: &[&str]) -> Result<(), String> {
        let finished = self.run(tool, arguments)?;
        let said = format!("{} {}", finished.text(), finished.stderr);
        match said.contains(error) {
            true => Ok(()),
            false => Err(format!("was not refused with {error}: {}", one_line(&said))),
        }
    }

    fn send(&self, topic: &str, input: String, settings: &[&str]) -> Result<(), String> {
        let mut arguments = vec!["--topic", topic];
        for setting in settings {
            arguments.extend(["--command-property", setting]);
        }
        let feed = move |mut stdin: ChildStdin| stdin.write_all(input.as_bytes());
        let mut command = self.command(PRODUCER, &arguments);
        let finished = finish_with(&mut command, SMALL_LIMIT, feed)?;
        match finished.is_success {
            true => Ok(()),
            false => Err(finished.complaint()),
        }
    }

    /// Whether a topic's own configs have this one.
    pub(super) fn has_config(&self, topic: &str, config: &str) -> Result<(), String> {
        let described = self.output(TOPICS, &["--describe", "--topic", topic])?;
        contains(&described, config)
    }

    fn offsets(&self, topic: &str, time: &str, expected: &str) -> Result<(), String> {
        let found = self.output(OFFSETS, &["--topic", topic, "--time", time])?;
        contains(&found, &format!("{topic}:0:{expected}"))
    }
}

impl Client for Tools {
    fn name(&self) -> &'static str {
        "kafka-tools"
    }

    fn version(&mut self) -> Result<String, String> {
        let said = self.output(TOPICS, &["--version"])?;
        Ok(format!(
            "kafka-tools {}",
            said.split_whitespace().next().unwrap_or("?")
        ))
    }

    fn can_create_topics(&self) -> bool {
        true
    }

    fn create(&mut self, topic: &str, partitions: u32, configs: &[&str]) -> Result<(), String> {
        let partitions = partitions.to_string();
        let mut arguments = vec!["--create", "--topic", topic, "--partitions", &partitions];
        for config in configs {
            arguments.extend(["--config", config]);
        }
        self.output(TOPICS, &arguments).map(|_| ())
    }

    fn delete(&mut self, topic: &str) -> Result<(), String> {
        self.output(TOPICS, &["--delete", "--topic", topic])
            .map(|_| ())
    }

    fn produce(&mut self, topic: &str, codec: &str, file: &RecordFile) -> Result<(), String> {
        if !file.is_lines {
            return Err(format!(
                "{UNABLE}the console producer parts records by lines"
            ));
        }
        let properties = ["linger.ms=5", "acks=all", "enable.idempotence=true"];
        let mut arguments = vec!["--topic", topic, "--compression-codec", codec];
        for property in properties {
            arguments.extend(["--command-property", property]);
        }
        let records = file.clone();
        let feed = move |stdin| records.write_delimited(stdin, "\n");
        let mut command = self.command(PRODUCER, &arguments);
        let finished = finish_with(&mut command, request_limit(file.bytes), feed)?;
        match finished.is_success {
            true => Ok(()),
            false => Err(finished.complaint()),
        }
    }

    fn digest(&mut self, topic: &str, file: &RecordFile) -> Result<Digest, String> {
        let separator = format!("line.separator={DELIMITER}");
        // Without a count it would wait for more; that there is no more is seen by other clients.
        let count = file.count.to_string();
        let mut command = self.command(
            CONSUMER,
            &["--topic", topic, "--partition", "0", "--offset", "earliest"],
        );
        command.args([
            "--max-messages",
            &count,
            "--timeout-ms",
            QUIET_MS,
            "--formatter-property",
            &separator,
        ]);
        let read = finish(&mut command, request_limit(file.bytes))?;
        let (count, sha256) = sha256_of_values(&read.stdout, DELIMITER)?;
        match count {
            0 => Err(read.complaint()),
            count => Ok(Digest {
                count: Some(count),
                sha256,
            }),
        }
    }

    fn digest_of(&mut self, _: &str, _: u32, _: &str, _: u64) -> Result<Digest, String> {
        Err(format!(
            "{UNABLE}it reads what the Java client reads, more slowly"
        ))
    }

    fn can_produce_lines(&self) -> bool {
        false
    }

    fn produce_lines(&mut self, _: &str, _: u64) -> Result<LeftOut, String> {
        Err(format!("{UNABLE}the console producer sends no timestamps"))
    }

    fn lines(&mut self, _: &str) -> Result<LinesDigest, String> {
        Err(format!("{UNABLE}the console consumer shows nulls as text"))
    }

    fn checks(&mut self, prefix: &str, report: &mut Report) {
        for (number, (behaviour, check)) in CHECKS.iter().enumerate() {
            report.add(
                "kafka-tools",
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
        let mut command = self.command(CONSUMER, &["--topic", topic, "--group", group]);
        let mut setting = |setting: &str| {
            command.args(["--command-property", setting]);
        };
        setting(&format!("group.protocol={}", protocol.name()));
        setting("auto.offset.reset=earliest");
        setting("auto.commit.interval.ms=100");
        if protocol == Protocol::Classic {
            setting("session.timeout.ms=6000");
            setting("heartbeat.interval.ms=1000");
        }
        // Partition, offset and value, parted by tabs.
        for property in [
            "print.partition=true",
            "print.offset=true",
            "key.separator=\t",
        ] {
            command.args(["--formatter-property", property]);
        }
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

type Check = fn(&mut Tools, &str) -> Result<(), String>;

const CHECKS: &[(&str, Check)] = &[
    (
        "kafka-cluster and kafka-broker-api-versions",
        asks_the_cluster,
    ),
    (
        "kafka-topics: create, list and describe",
        creates_and_describes,
    ),
    (
        "kafka-topics: what is wrong is refused",
        refuses_what_is_wrong,
    ),
    ("kafka-topics: alter and delete", alters_and_deletes),
    ("kafka-configs: describe and alter", changes_configs),
    ("kafka-console-producer and -consumer", sends_and_reads),
    ("kafka-get-offsets and kafka-delete-records", trims),
    ("kafka-log-dirs", describes_log_dirs),
    (
        "kafka-consumer-groups: list, describe, reset and delete",
        manages_groups,
    ),
];

fn contains(found: &str, expected: &str) -> Result<(), String> {
    match found.contains(expected) {
        true => Ok(()),
        false => Err(format!("no {expected:?} in: {}", one_line(found))),
    }
}

fn asks_the_cluster(tools: &mut Tools, _: &str) -> Result<(), String> {
    contains(&tools.output(CLUSTER, &["cluster-id"])?, "Cluster ID: ")?;
    contains(&tools.output(API_VERSIONS, &[])?, "Produce(0): ")
}

fn creates_and_describes(tools: &mut Tools, topic: &str) -> Result<(), String> {
    tools.create(topic, 3, &["retention.ms=86400000"])?;
    contains(&tools.output(TOPICS, &["--list"])?, topic)?;
    let described = tools.output(TOPICS, &["--describe", "--topic", topic])?;
    contains(&described, "PartitionCount: 3")?;
    contains(&described, "retention.ms=86400000")
}

fn refuses_what_is_wrong(tools: &mut Tools, topic: &str) -> Result<(), String> {
    tools.create(topic, 1, &[])?;
    let twice = ["--create", "--topic", topic, "--partitions", "1"];
    tools.refused("already exists", TOPICS, &twice)?;
    let other = format!("{topic}-other");
    let config = [
        "--create",
        "--topic",
        &other,
        "--config",
        "retention.ms=soon",
    ];
    tools.refused("retention.ms", TOPICS, &config)?;
    let unknown = ["--describe", "--topic", &other];
    tools.refused("does not exist", TOPICS, &unknown)
}

fn alters_and_deletes(tools: &mut Tools, topic: &str) -> Result<(), String> {
    tools.create(topic, 1, &[])?;
    tools.output(TOPICS, &["--alter", "--topic", topic, "--partitions", "4"])?;
    let described = tools.output(TOPICS, &["--describe", "--topic", topic])?;
    contains(&described, "PartitionCount: 4")?;
    tools.delete(topic)?;
    match tools
        .output(TOPICS, &["--list"])?
        .lines()
        .any(|line| line == topic)
    {
        true => Err("the deleted topic is listed".to_owned()),
        false => Ok(()),
    }
}

fn changes_configs(tools: &mut Tools, topic: &str) -> Result<(), String> {
    tools.create(topic, 1, &[])?;
    let of = ["--entity-type", "topics", "--entity-name", topic];
    let alter = ["--alter", "--add-config", "max.message.bytes=5000"];
    tools.output(CONFIGS, &[&of[..], &alter].concat())?;
    let describe = [&of[..], &["--describe"]].concat();
    contains(&tools.output(CONFIGS, &describe)?, "max.message.bytes=5000")?;
    // The producer only logs that the record is refused.
    tools.send(topic, "x".repeat(10_000) + "\n", &[])?;
    tools.offsets(topic, "-1", "0")?;
    let delete = ["--alter", "--delete-config", "max.message.bytes"];
    tools.output(CONFIGS, &[&of[..], &delete].concat())?;
    let unknown = ["--alter", "--add-config", "no.such.config=1"];
    tools.refused("no.such.config", CONFIGS, &[&of[..], &unknown].concat())
}

fn sends_and_reads(tools: &mut Tools, topic: &str) -> Result<(), String> {
    tools.create(topic, 1, &[])?;
    let lines: String = (0..1000).map(|i| format!("record {i}\n")).collect();
    tools.send(topic, lines.clone(), &["compression.type=zstd"])?;
    let what = ["--topic", topic, "--partition", "0", "--offset", "earliest"];
    let found = tools.output(CONSUMER, &[&what[..], &["--max-messages", "1000"]].concat())?;
    match found == lines {
        true => Ok(()),
        false => Err(format!("read {}", one_line(&found))),
    }
}

fn trims(tools: &mut Tools, topic: &str) -> Result<(), String> {
    tools.create(topic, 1, &[])?;
    let lines: String = (0..100).map(|i| format!("record {i}\n")).collect();
    tools.send(topic, lines, &[])?;
    tools.offsets(topic, "-1", "100")?;
    let path = std::env::temp_dir().join(format!("{topic}.json"));
    let partition = format!(r#"{{"topic":"{topic}","partition":0,"offset":40}}"#);
    let wanted = format!(r#"{{"partitions":[{partition}],"version":1}}"#);
    let written = File::create(&path).and_then(|mut file| file.write_all(wanted.as_bytes()));
    written.map_err(|problem| format!("cannot write {}: {problem}", path.display()))?;
    let name = path.to_string_lossy().into_owned();
    let trimmed = tools.output(DELETE_RECORDS, &["--offset-json-file", &name]);
    // Whether it is there or not says nothing about the broker.
    let _ = std::fs::remove_file(&path);
    contains(&trimmed?, "low_watermark: 40")?;
    tools.offsets(topic, "-2", "40")
}

fn describes_log_dirs(tools: &mut Tools, topic: &str) -> Result<(), String> {
    tools.create(topic, 1, &[])?;
    let found = tools.output(LOG_DIRS, &["--describe", "--topic-list", topic])?;
    contains(&found, topic)
}

/// Ten records in a topic, of which a group reads some and is moved to others.
fn manages_groups(tools: &mut Tools, topic: &str) -> Result<(), String> {
    tools.create(topic, 1, &[])?;
    let lines: String = (0..10).map(|i| format!("record {i}\n")).collect();
    tools.send(topic, lines, &[])?;
    let group = format!("{topic}-group");
    let joined = ["--topic", topic, "--group", &group, "--from-beginning"];
    let read = [&joined[..], &["--max-messages", "4"]].concat();
    contains(&tools.output(CONSUMER, &read)?, "record 3\n")?;
    contains(&tools.output(GROUPS, &["--list"])?, &group)?;
    let of = ["--group", &group];
    let state = tools.output(GROUPS, &[&of[..], &["--describe", "--state"]].concat())?;
    contains(&state, "Empty")?;
    let described = |tools: &Tools, at: &str, lag: &str| {
        let said = tools.output(GROUPS, &[&of[..], &["--describe"]].concat())?;
        let is_there = said.lines().any(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words.starts_with(&[&group, topic, "0"]) && words.get(3..6) == Some(&[at, "10", lag])
        });
        match is_there {
            true => Ok(()),
            false => Err(format!("not at {at} of 10: {}", one_line(&said))),
        }
    };
    described(tools, "4", "6")?;
    let reset = |to: &str, how: &str| {
        let what = ["--reset-offsets", "--topic", topic, "--to-offset", to, how];
        tools.output(GROUPS, &[&of[..], &what].concat()).map(|_| ())
    };
    reset("9", "--dry-run")?;
    described(tools, "4", "6")?;
    reset("7", "--execute")?;
    described(tools, "7", "3")?;
    let delete = ["--delete-offsets", "--topic", topic];
    tools.output(GROUPS, &[&of[..], &delete].concat())?;
    reset("2", "--execute")?;
    contains(&tools.output(ALL_GROUPS, &["--list"])?, &group)?;
    tools.output(GROUPS, &[&of[..], &["--delete"]].concat())?;
    tools.refused(
        "GroupIdNotFoundException",
        GROUPS,
        &[&of[..], &["--describe"]].concat(),
    )
}
