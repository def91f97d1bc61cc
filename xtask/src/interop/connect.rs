//! Kafka Connect, standalone: a worker that sends the lines of one file and writes them to another.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::client::Protocol;
use super::connect_distributed;
use super::install::{self, Workshop, kafka_peer};
use super::report::{Outcome, Report};
use super::versions::Offered;
use crate::process::{Owned, one_line, succeed};

/// A worker takes a minute to start on a busy machine.
const STEP_LIMIT: Duration = Duration::from_secs(240);
const STOP_LIMIT: Duration = Duration::from_secs(60);
const ASK_LIMIT: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// Lines that are appended at a time.
pub(super) const LINES: usize = 1_000;

const SOURCE: &str = "a file source sends every line";
const RESTART: &str = "a file source goes on where it was after a restart";
const SINK: &str = "a file sink writes every line";

/// The name of its lines.
pub(crate) const NAME: &str = "connect";

/// Runs a standalone worker twice, then distributed ones.
pub(crate) fn run(workshop: &Workshop, bootstrap: &str, topic: &str, report: &mut Report) {
    standalone(workshop, bootstrap, topic, report);
    let topic = format!("{topic}-distributed");
    connect_distributed::run(workshop, bootstrap, &topic, report);
}

fn standalone(workshop: &Workshop, bootstrap: &str, topic: &str, report: &mut Report) {
    let worker = install::kcat().and_then(|()| Worker::new(workshop, bootstrap, topic));
    let worker = match worker {
        Ok(worker) => worker,
        Err(why) => {
            for behaviour in [SOURCE, RESTART, SINK] {
                report.add(NAME, behaviour, Outcome::NotRun(why.clone()));
            }
            return;
        }
    };
    report.note_version(
        NAME,
        "Kafka Connect 4.3.1, standalone and distributed".to_owned(),
    );
    let sink = Offered::by(bootstrap).and_then(|offered| offered.groups(Protocol::Classic));
    let first = worker.sends(0, sink.is_ok());
    let is_first = first.is_ok();
    report.add(NAME, SOURCE, first);
    let earlier = || Outcome::NotRun("an earlier step failed".to_owned());
    let second: Outcome = match is_first {
        true => worker.sends(1, sink.is_ok()).into(),
        false => earlier(),
    };
    let is_second = matches!(second, Outcome::Passed);
    report.add(NAME, RESTART, second);
    let wrote: Outcome = match (sink, is_second) {
        (Err(why), _) => Outcome::NotRun(why),
        (Ok(()), true) => worker.has_written().into(),
        (Ok(()), false) => earlier(),
    };
    report.add(NAME, SINK, wrote);
}

struct Worker {
    class_path: String,
    bootstrap: String,
    topic: String,
    folder: PathBuf,
    log: PathBuf,
}

impl Worker {
    fn new(workshop: &Workshop, bootstrap: &str, topic: &str) -> Result<Self, String> {
        let worker = Self {
            class_path: kafka_peer(workshop)?,
            bootstrap: bootstrap.to_owned(),
            topic: topic.to_owned(),
            folder: workshop.empty_folder("connect-data")?,
            log: workshop.log(NAME),
        };
        let text = "org.apache.kafka.connect.storage.StringConverter";
        worker.write(
            "worker.properties",
            &[
                ("bootstrap.servers", bootstrap),
                ("key.converter", text),
                ("value.converter", text),
                ("offset.storage.file.filename", &worker.path("offsets")),
                ("offset.flush.interval.ms", "1000"),
                // No port that another worker may have.
                ("listeners", "http://127.0.0.1:0"),
            ],
        )?;
        worker.write(
            "source.properties",
            &[
                ("name", "source"),
                (
                    "connector.class",
                    "org.apache.kafka.connect.file.FileStreamSourceConnector",
                ),
                ("file", &worker.path("in.txt")),
                ("topic", topic),
            ],
        )?;
        worker.write(
            "sink.properties",
            &[
                ("name", topic),
                (
                    "connector.class",
                    "org.apache.kafka.connect.file.FileStreamSinkConnector",
                ),
                ("file", &worker.path("out.txt")),
                ("topics", topic),
            ],
        )?;
        Ok(worker)
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).to_string_lossy().into_owned()
    }

    fn write(&self, name: &str, properties: &[(&str, &str)]) -> Result<(), String> {
        let lines = properties
            .iter()
            .map(|(key, value)| format!("{key}={value}\n"));
        let path = self.folder.join(name);
        fs::write(&path, lines.collect::<String>()).map_err(|e| unwritable(&path, &e))
    }

    /// Appends a thousand lines, runs a worker until all lines so far are in the topic (and in the
    /// sink's file), and ends it.
    fn sends(&self, turn: usize, has_sink: bool) -> Result<(), String> {
        let path = self.folder.join("in.txt");
        let appended = OpenOptions::new().create(true).append(true).open(&path);
        let lines: String = lines(turn * LINES..(turn + 1) * LINES);
        appended
            .and_then(|mut file| file.write_all(lines.as_bytes()))
            .map_err(|problem| unwritable(&path, &problem))?;
        let mut worker = self.start(has_sink)?;
        let expected = self::lines(0..(turn + 1) * LINES);
        let deadline = Instant::now() + STEP_LIMIT;
        loop {
            // The worker makes the topic.
            let found = read_topic(&self.bootstrap, &self.topic).unwrap_or_default();
            let is_written = !has_sink || self.written() == expected;
            if found == expected && is_written {
                break;
            }
            if let Ok(Some(status)) = worker.0.try_wait() {
                return Err(format!(
                    "the worker ended with {status}: {}",
                    self.last_words()
                ));
            }
            if Instant::now() > deadline {
                let count = found.lines().count();
                return Err(format!(
                    "{count} lines are in the topic: {}",
                    self.last_words()
                ));
            }
            sleep(POLL_INTERVAL);
        }
        let signal = format!("kill -TERM {}", worker.0.id());
        succeed(Command::new("sh").args(["-c", &signal]), ASK_LIMIT)?;
        worker.wait_until(Instant::now() + STOP_LIMIT).map(|_| ())
    }

    fn start(&self, has_sink: bool) -> Result<Owned, String> {
        let open = || File::options().create(true).append(true).open(&self.log);
        let output = open().map_err(|e| unwritable(&self.log, &e))?;
        let errors = open().map_err(|e| unwritable(&self.log, &e))?;
        let mut command = Command::new("java");
        command.args(["-Xmx512m", "-cp", &self.class_path]);
        command.arg("org.apache.kafka.connect.cli.ConnectStandalone");
        command
            .arg(self.path("worker.properties"))
            .arg(self.path("source.properties"));
        if has_sink {
            command.arg(self.path("sink.properties"));
        }
        Owned::spawn(command.stdin(Stdio::null()).stdout(output).stderr(errors))
    }

    fn written(&self) -> String {
        fs::read_to_string(self.folder.join("out.txt")).unwrap_or_default()
    }

    fn has_written(&self) -> Result<(), String> {
        match self.written() == lines(0..2 * LINES) {
            true => Ok(()),
            false => Err("the sink's file differs from the source's".to_owned()),
        }
    }

    fn last_words(&self) -> String {
        one_line(&fs::read_to_string(&self.log).unwrap_or_default())
    }
}

/// What is in a topic's first partition, as lines.
pub(super) fn read_topic(bootstrap: &str, topic: &str) -> Result<String, String> {
    let mut kcat = Command::new("kcat");
    kcat.env("KCAT_CONFIG", "/dev/null");
    kcat.args(["-b", bootstrap, "-C", "-q", "-e", "-o", "beginning"]);
    kcat.args(["-t", topic, "-p", "0"]);
    Ok(succeed(&mut kcat, ASK_LIMIT)?.text())
}

/// Lines of these numbers.
pub(super) fn lines(range: std::ops::Range<usize>) -> String {
    range.map(|i| format!("line {i}\n")).collect()
}

/// Says so.
pub(super) fn unwritable(path: &Path, problem: &std::io::Error) -> String {
    format!("cannot write {}: {problem}", path.display())
}
