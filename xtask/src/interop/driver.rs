//! A client behind a driver program that answers one request a line (`xtask/interop/README.md`).
//!
//! The program is started at the first request and again after it died or kept silent too long,
//! so that one hanging request costs its own line only.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use super::checks;
use super::client::{Client, Digest, Leaves, LeftOut, LinesDigest, MemberProgram};
use super::client::{Protocol, UNABLE, request_limit};
use super::records::RecordFile;
use super::report::{Outcome, Report};
use crate::process::Owned;

/// How long a driver may take to start, and for anything small.
const SMALL_LIMIT: Duration = Duration::from_secs(90);
/// For one of a client's own behaviours.
const CHECK_LIMIT: Duration = Duration::from_secs(300);
/// For a new topic: drivers try again while nodes are away.
const CREATE_LIMIT: Duration = Duration::from_secs(150);
/// How long a driver may take to end once its input has ended.
const EXIT_LIMIT: Duration = Duration::from_secs(5);

/// How to start a driver.
#[derive(Clone)]
pub(crate) struct Program {
    /// The client's name.
    pub(crate) name: &'static str,
    /// Program and arguments; the bootstrap address comes after them.
    pub(crate) command: Vec<String>,
    /// Extra environment.
    pub(crate) environment: Vec<(&'static str, String)>,
    /// Where its error output goes.
    pub(crate) log: PathBuf,
    /// It knows single requests, of which our checks are made; otherwise it has its own.
    pub(crate) has_requests: bool,
}

impl Program {
    /// With the addresses as its first argument and all its pipes.
    pub(crate) fn command(&self, bootstrap: &str) -> Result<Command, String> {
        let log = File::options().create(true).append(true).open(&self.log);
        let log = log.map_err(|e| format!("cannot open {}: {e}", self.log.display()))?;
        let (program, arguments) = self.command.split_first().expect("a driver has a program");
        let mut command = Command::new(program);
        command.args(arguments).arg(bootstrap);
        let environment = self.environment.iter();
        command.envs(environment.map(|(name, value)| (name, value)));
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log);
        Ok(command)
    }
}

/// A client with its driver.
pub(crate) struct Driver {
    program: Program,
    bootstrap: String,
    running: Option<Running>,
}

struct Running {
    stdin: ChildStdin,
    answers: Receiver<String>,
    child: Owned,
}

impl Driver {
    /// A driver for the broker at `bootstrap`; nothing starts yet.
    pub(crate) fn new(program: Program, bootstrap: &str) -> Self {
        Self {
            program,
            bootstrap: bootstrap.to_owned(),
            running: None,
        }
    }

    fn start(&self) -> Result<Running, String> {
        let mut command = self.program.command(&self.bootstrap)?;
        let mut child = Owned::spawn(&mut command)?;
        let stdin = child.0.stdin.take().expect("it was asked for");
        let stdout = child.0.stdout.take().expect("it was asked for");
        let (sender, answers) = channel();
        // Ends with the child's output, at the latest when the child is dropped.
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Running {
            stdin,
            answers,
            child,
        })
    }

    /// Sends a request and hands every answer that comes before `ok` to `each`.
    fn request_each(
        &mut self,
        words: &[&str],
        limit: Duration,
        mut each: impl FnMut(&str),
    ) -> Result<Vec<String>, String> {
        let mut running = match self.running.take() {
            Some(running) => running,
            None => self.start()?,
        };
        let see_log = format!("see {}", self.program.log.display());
        writeln!(running.stdin, "{}", words.join("\t"))
            .map_err(|problem| format!("the driver is gone ({problem}), {see_log}"))?;
        loop {
            let line = running
                .answers
                .recv_timeout(limit)
                .map_err(|problem| match problem {
                    RecvTimeoutError::Timeout => format!("no answer in {} s", limit.as_secs()),
                    RecvTimeoutError::Disconnected => format!("the driver died, {see_log}"),
                })?;
            let mut found = line.split('\t').map(str::to_owned);
            match found.next().as_deref() {
                Some("ok") => {
                    self.running = Some(running);
                    return Ok(found.collect());
                }
                Some("error") => {
                    self.running = Some(running);
                    return Err(found.collect::<Vec<_>>().join(" "));
                }
                Some("unable") => {
                    self.running = Some(running);
                    let why = found.collect::<Vec<_>>().join(" ");
                    return Err(format!("{UNABLE}{why}"));
                }
                _ => each(&line),
            }
        }
    }

    fn digest_by(&mut self, words: &[&str], bytes: u64) -> Result<Digest, String> {
        match self.request(words, request_limit(bytes))?.as_slice() {
            [count, sha256] => Ok(Digest {
                count: count.parse().ok(),
                sha256: sha256.clone(),
            }),
            other => Err(format!("odd answer {other:?}")),
        }
    }

    fn request(&mut self, words: &[&str], limit: Duration) -> Result<Vec<String>, String> {
        self.request_each(words, limit, |_| ())
    }

    /// A small request of its own.
    pub(crate) fn ask(&mut self, words: &[&str]) -> Result<Vec<String>, String> {
        self.request(words, SMALL_LIMIT)
    }

    /// Where it finds brokers.
    pub(crate) fn bootstrap(&self) -> &str {
        &self.bootstrap
    }
}

impl Client for Driver {
    fn name(&self) -> &'static str {
        self.program.name
    }

    fn version(&mut self) -> Result<String, String> {
        Ok(self.request(&["version"], SMALL_LIMIT)?.join(" "))
    }

    fn can_create_topics(&self) -> bool {
        true
    }

    fn create(&mut self, topic: &str, partitions: u32, configs: &[&str]) -> Result<(), String> {
        let partitions = partitions.to_string();
        let words = [&["create", topic, &partitions], configs].concat();
        self.request(&words, CREATE_LIMIT).map(|_| ())
    }

    fn delete(&mut self, topic: &str) -> Result<(), String> {
        self.request(&["delete", topic], SMALL_LIMIT).map(|_| ())
    }

    fn produce(&mut self, topic: &str, codec: &str, file: &RecordFile) -> Result<(), String> {
        let path = file.path.to_string_lossy();
        let answer = self.request(&["produce", topic, codec, &path], request_limit(file.bytes))?;
        let expected = file.count.to_string();
        if answer == [expected.as_str()] {
            Ok(())
        } else {
            Err(format!(
                "{} of {expected} records were sent",
                answer.join(" ")
            ))
        }
    }

    fn digest(&mut self, topic: &str, file: &RecordFile) -> Result<Digest, String> {
        self.digest_by(&["digest", topic], file.bytes)
    }

    fn digest_of(
        &mut self,
        topic: &str,
        node: u32,
        rack: &str,
        bytes: u64,
    ) -> Result<Digest, String> {
        self.digest_by(&["digest-of", topic, &node.to_string(), rack], bytes)
    }

    fn can_produce_lines(&self) -> bool {
        true
    }

    fn produce_lines(&mut self, topic: &str, timestamp_base_ms: u64) -> Result<LeftOut, String> {
        let base = timestamp_base_ms.to_string();
        let answer = self.request(&["produce-lines", topic, &base], SMALL_LIMIT)?;
        let mut left_out = LeftOut::default();
        for flag in answer.iter().skip(1) {
            match flag.as_str() {
                "without-null-headers" => left_out.null_headers = true,
                "without-null-records" => left_out.null_records = true,
                _ => return Err(format!("odd answer {answer:?}")),
            }
        }
        Ok(left_out)
    }

    fn lines(&mut self, topic: &str) -> Result<LinesDigest, String> {
        match self.request(&["lines", topic], SMALL_LIMIT)?.as_slice() {
            [_count, plain, timed] => Ok(LinesDigest {
                plain: plain.clone(),
                timed: timed.clone(),
            }),
            other => Err(format!("odd answer {other:?}")),
        }
    }

    fn checks(&mut self, prefix: &str, report: &mut Report) {
        let name = self.program.name;
        if self.program.has_requests {
            return checks::run(self, name, prefix, report);
        }
        let finished = self.request_each(&["checks", prefix], CHECK_LIMIT, |line| {
            let words: Vec<&str> = line.splitn(3, '\t').collect();
            match words.as_slice() {
                ["passed", behaviour] => report.add(name, behaviour, Outcome::Passed),
                ["failed", behaviour, why] => {
                    report.add(name, behaviour, Outcome::Failed((*why).to_owned()));
                }
                ["skipped", behaviour, why] => {
                    report.add(name, behaviour, Outcome::NotRun((*why).to_owned()));
                }
                _ => report.add(
                    name,
                    "driver",
                    Outcome::Failed(format!("odd answer {line}")),
                ),
            }
        });
        if let Err(why) = finished {
            report.add(name, "all behaviours", Outcome::Failed(why));
        }
    }

    fn member(
        &self,
        group: &str,
        topic: &str,
        protocol: Protocol,
    ) -> Result<MemberProgram, String> {
        let mut command = self.program.command(&self.bootstrap)?;
        command.args(["member", group, topic, protocol.name()]);
        Ok(MemberProgram {
            command,
            leaves: Leaves::AtEndOfInput,
            // Its commits do not tell whether they failed.
            shows_uncommitted: self.program.name == "sarama",
        })
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        if let Some(Running {
            stdin, mut child, ..
        }) = self.running.take()
        {
            drop(stdin);
            // Given a moment to say goodbye to the broker; killed when dropped otherwise.
            let _ = child.wait_until(Instant::now() + EXIT_LIMIT);
        }
    }
}
