//! Kafka Connect, distributed: workers that keep connectors, offsets and status in compacted topics
//! and share connectors through a group of the protocol `connect`, driven by their REST API.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::connect::{LINES, NAME, lines, read_topic, unwritable};
use super::install::{Workshop, kafka_peer};
use super::node::free_ports;
use super::report::{Outcome, Report};
use super::tools::Tools;
use crate::process::{Owned, one_line};

/// Workers take a minute to start on a busy machine, and twelve seconds to miss a killed one.
const STEP_LIMIT: Duration = Duration::from_secs(240);
const REST_LIMIT: Duration = Duration::from_secs(90);
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// An answer of the REST API is some hundred bytes.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

type Step = fn(&mut Cluster) -> Result<(), String>;

const STEPS: [(&str, Step); 4] = [
    (
        "distributed: connectors made through REST copy every line",
        Cluster::copies,
    ),
    (
        "distributed: its topics are compacted",
        Cluster::has_compacted_topics,
    ),
    (
        "distributed: a worker killed and started again goes on from its offsets",
        Cluster::goes_on,
    ),
    (
        "distributed: connectors of a killed worker go to the other",
        Cluster::takes_over,
    ),
];

/// Does all of it, one step after the other.
pub(super) fn run(workshop: &Workshop, bootstrap: &str, topic: &str, report: &mut Report) {
    let mut started = Cluster::new(workshop, bootstrap, topic);
    let mut why_not = None;
    for (behaviour, step) in STEPS {
        let outcome: Outcome = match (&mut started, &why_not) {
            (Err(why), _) => Outcome::NotRun(why.clone()),
            (_, Some(why)) => Outcome::NotRun(String::from(*why)),
            (Ok(cluster), None) => step(cluster).into(),
        };
        if !matches!(outcome, Outcome::Passed) {
            why_not = Some("an earlier step failed");
        }
        report.add(NAME, behaviour, outcome);
    }
}

/// The workers, and the files that they read and write.
struct Cluster {
    tools: Tools,
    class_path: String,
    bootstrap: String,
    topic: String,
    folder: PathBuf,
    log: PathBuf,
    /// Lines in the source's file.
    sent: usize,
    workers: Vec<Worker>,
}

struct Worker {
    port: u16,
    child: Owned,
}

impl Cluster {
    fn new(workshop: &Workshop, bootstrap: &str, topic: &str) -> Result<Self, String> {
        let class_path = kafka_peer(workshop)?;
        Ok(Self {
            tools: Tools::new(class_path.clone(), bootstrap),
            class_path,
            bootstrap: bootstrap.to_owned(),
            topic: topic.to_owned(),
            folder: workshop.empty_folder("connect-distributed-data")?,
            log: workshop.log("connect-distributed"),
            sent: 0,
            workers: Vec::new(),
        })
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).to_string_lossy().into_owned()
    }

    /// A worker on this port, or on a free one.
    fn start(&mut self, port: Option<u16>) -> Result<(), String> {
        let port = match port {
            Some(port) => port,
            None => free_ports(1)?[0],
        };
        let text = "org.apache.kafka.connect.storage.StringConverter";
        let group = &self.topic;
        let properties = [
            ("bootstrap.servers", self.bootstrap.clone()),
            ("group.id", group.clone()),
            ("key.converter", text.to_owned()),
            ("value.converter", text.to_owned()),
            ("config.storage.topic", format!("{group}-configs")),
            ("offset.storage.topic", format!("{group}-offsets")),
            ("status.storage.topic", format!("{group}-status")),
            // As many replicas as the brokers give by themselves.
            ("config.storage.replication.factor", "-1".to_owned()),
            ("offset.storage.replication.factor", "-1".to_owned()),
            ("status.storage.replication.factor", "-1".to_owned()),
            ("offset.storage.partitions", "5".to_owned()),
            ("offset.flush.interval.ms", "500".to_owned()),
            ("session.timeout.ms", "6000".to_owned()),
            ("heartbeat.interval.ms", "1000".to_owned()),
            // For how long the connectors of a worker that is gone are kept for it.
            ("scheduled.rebalance.max.delay.ms", "1000".to_owned()),
            ("listeners", format!("http://127.0.0.1:{port}")),
        ];
        let properties = properties
            .iter()
            .map(|(key, value)| format!("{key}={value}\n"));
        let name = format!("worker-{port}.properties");
        let path = self.folder.join(&name);
        fs::write(&path, properties.collect::<String>()).map_err(|e| unwritable(&path, &e))?;
        let open = || File::options().create(true).append(true).open(&self.log);
        let output = open().map_err(|e| unwritable(&self.log, &e))?;
        let errors = open().map_err(|e| unwritable(&self.log, &e))?;
        let mut command = Command::new("java");
        command.args(["-Xmx512m", "-cp", &self.class_path]);
        command.arg("org.apache.kafka.connect.cli.ConnectDistributed");
        command.arg(path).stdin(Stdio::null());
        let child = Owned::spawn(command.stdout(output).stderr(errors))?;
        self.workers.push(Worker { port, child });
        Ok(())
    }

    /// Ends the first worker without warning; its port.
    fn kill_first(&mut self) -> Result<u16, String> {
        let mut worker = self.workers.remove(0);
        let killed = worker.child.0.kill().and_then(|()| worker.child.0.wait());
        killed.map_err(|problem| format!("cannot kill the worker: {problem}"))?;
        Ok(worker.port)
    }

    /// Asks the last worker, again while it says 404, 409 or 5xx, as it does until it is ready.
    fn ask(&mut self, method: &str, path: &str, body: &str) -> Result<String, String> {
        let deadline = Instant::now() + STEP_LIMIT;
        loop {
            let worker = self.workers.last_mut().ok_or("there is no worker")?;
            if let Ok(Some(status)) = worker.child.0.try_wait() {
                return Err(format!(
                    "the worker ended with {status}: {}",
                    self.last_words()
                ));
            }
            let why = match request(worker.port, method, path, body) {
                Ok((200..=299, answer)) => return Ok(answer),
                Ok((status @ (404 | 409 | 500..), answer)) => format!("{status} {answer}"),
                Ok((status, answer)) => {
                    return Err(format!("{method} {path}: {status} {}", one_line(&answer)));
                }
                Err(problem) => problem.to_string(),
            };
            if Instant::now() > deadline {
                let said = self.last_words();
                return Err(format!("{method} {path}: {}: {said}", one_line(&why)));
            }
            sleep(POLL_INTERVAL);
        }
    }

    fn connector(&mut self, name: &str, settings: &[(&str, &str)]) -> Result<(), String> {
        let settings = settings
            .iter()
            .map(|(key, value)| format!("{key:?}: {value:?}"));
        let body = format!("{{{}}}", settings.collect::<Vec<_>>().join(", "));
        self.ask("PUT", &format!("/connectors/{name}/config"), &body)
            .map(|_| ())
    }

    /// Appends lines to the source's file and waits until all so far are in the topic and in the
    /// sink's file, each once.
    fn copy_more(&mut self) -> Result<(), String> {
        let path = self.folder.join("in.txt");
        let appended = OpenOptions::new().create(true).append(true).open(&path);
        let more = lines(self.sent..self.sent + LINES);
        appended
            .and_then(|mut file| file.write_all(more.as_bytes()))
            .map_err(|problem| unwritable(&path, &problem))?;
        self.sent += LINES;
        let expected = lines(0..self.sent);
        let deadline = Instant::now() + STEP_LIMIT;
        loop {
            // The worker makes the topic.
            let found = read_topic(&self.bootstrap, &self.topic).unwrap_or_default();
            let written = fs::read_to_string(self.folder.join("out.txt")).unwrap_or_default();
            if found == expected && written == expected {
                return Ok(());
            }
            if Instant::now() > deadline {
                let [found, written] = [found, written].map(|text| text.lines().count());
                return Err(format!(
                    "{found} lines are in the topic and {written} in the sink's file, not {}: {}",
                    self.sent,
                    self.last_words()
                ));
            }
            sleep(POLL_INTERVAL);
        }
    }

    /// Waits until what was copied is committed: the source's position in its file, and the sink's
    /// in the topic.
    fn wait_committed(&mut self) -> Result<(), String> {
        let bytes = lines(0..self.sent).len();
        let sink = self.sink();
        for (name, position) in [
            ("source", format!("\"position\":{bytes}")),
            (&sink, format!("\"kafka_offset\":{}", self.sent)),
        ] {
            let deadline = Instant::now() + STEP_LIMIT;
            loop {
                let said = self.ask("GET", &format!("/connectors/{name}/offsets"), "")?;
                if said.contains(&position) {
                    break;
                }
                if Instant::now() > deadline {
                    return Err(format!("{name} never has {position}: {}", one_line(&said)));
                }
                sleep(POLL_INTERVAL);
            }
        }
        Ok(())
    }

    fn sink(&self) -> String {
        format!("{}-sink", self.topic)
    }

    fn copies(&mut self) -> Result<(), String> {
        self.start(None)?;
        let (from, to, topic) = (
            self.path("in.txt"),
            self.path("out.txt"),
            self.topic.clone(),
        );
        let class = |kind: &str| format!("org.apache.kafka.connect.file.FileStream{kind}Connector");
        let (source, sink) = (class("Source"), class("Sink"));
        let common = ("tasks.max", "1");
        let source = [
            ("connector.class", source.as_str()),
            common,
            ("file", &from),
            ("topic", &topic),
        ];
        self.connector("source", &source)?;
        let sink = [
            ("connector.class", sink.as_str()),
            common,
            ("file", &to),
            ("topics", &topic),
        ];
        let name = self.sink();
        self.connector(&name, &sink)?;
        self.copy_more()
    }

    fn has_compacted_topics(&mut self) -> Result<(), String> {
        ["configs", "offsets", "status"]
            .iter()
            .try_for_each(|what| {
                let topic = format!("{}-{what}", self.topic);
                self.tools.has_config(&topic, "cleanup.policy=compact")
            })
    }

    fn goes_on(&mut self) -> Result<(), String> {
        self.wait_committed()?;
        let port = self.kill_first()?;
        // The connectors are in its topic: nobody makes them again.
        self.start(Some(port))?;
        self.copy_more()
    }

    fn takes_over(&mut self) -> Result<(), String> {
        self.start(None)?;
        // Two tasks on two workers: one each.
        let ports: Vec<u16> = self.workers.iter().map(|worker| worker.port).collect();
        let deadline = Instant::now() + STEP_LIMIT;
        loop {
            let sink = self.sink();
            let states = ["source", &sink].map(|name| {
                let said = self.ask("GET", &format!("/connectors/{name}/status"), "");
                said.unwrap_or_default()
            });
            let has = |port: &u16| {
                let worker = format!("127.0.0.1:{port}");
                let task = |state: &String| {
                    state.split_once("\"tasks\"").is_some_and(|(_, tasks)| {
                        tasks.contains(&worker) && tasks.contains("RUNNING")
                    })
                };
                states.iter().any(task)
            };
            if ports.iter().all(has) {
                break;
            }
            if Instant::now() > deadline {
                let states = one_line(&states.join(" "));
                return Err(format!("two workers never share two tasks: {states}"));
            }
            sleep(POLL_INTERVAL);
        }
        self.copy_more()?;
        self.wait_committed()?;
        self.kill_first()?;
        self.copy_more()
    }

    fn last_words(&self) -> String {
        last_words(&self.log)
    }
}

fn last_words(log: &Path) -> String {
    one_line(&fs::read_to_string(log).unwrap_or_default())
}

/// The status and the body of an answer.
fn request(port: u16, method: &str, path: &str, body: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(REST_LIMIT))?;
    // In this version of HTTP an answer ends with its connection.
    let head = format!(
        "{method} {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
    );
    let length = body.len();
    stream.write_all(format!("{head}Content-Length: {length}\r\n\r\n{body}").as_bytes())?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    parsed(&String::from_utf8_lossy(&answer)).ok_or_else(|| std::io::Error::other("an odd answer"))
}

fn parsed(answer: &str) -> Option<(u16, String)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_a_status_and_a_body() {
        let answer = "HTTP/1.1 409 Conflict\r\nDate: now\r\n\r\n{\"error_code\":409}";
        assert_eq!(
            parsed(answer),
            Some((409, "{\"error_code\":409}".to_owned()))
        );
        assert_eq!(parsed("HTTP/1.1 200 OK"), None);
        assert_eq!(parsed("GET\r\n\r\n"), None);
    }
}
