//! A broker that the clients talk to: a node of ours, or Apache Kafka to check the drivers.
//!
//! Either listens on free ports of the loopback interface, keeps its data below
//! `target/interop`, and is ended by its own process id.

use std::fs::{self, File};
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::install::{Workshop, kafka_peer};
use super::proxy::Proxies;
use crate::process::{Owned, one_line, succeed};
use crate::{cargo, root};

const START_LIMIT: Duration = Duration::from_secs(60);
const SIGNAL_LIMIT: Duration = Duration::from_secs(10);
const STOP_LIMIT: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(2);
/// Any 16 bytes in base64: formatting a new Kafka node asks for them.
const CLUSTER_ID: &str = "MkU3OEVBNTcwNTJENDM2Qk";

/// A running broker.
pub(crate) struct Node {
    /// Its number in the cluster, from 1.
    pub(crate) id: u32,
    /// Where its data is.
    pub(crate) data: PathBuf,
    command: Vec<String>,
    port: u16,
    http_port: u16,
    log: PathBuf,
    child: Owned,
    ready: Ready,
}

/// The rack of a node: each has its own, so that a reader's rack says which replica it reads.
pub(crate) fn rack(id: u32) -> String {
    format!("rack-{id}")
}

/// How a broker shows that it takes requests.
enum Ready {
    /// Its log says so. (A connection alone may be one of a port with itself.)
    Announced,
    /// It listens.
    Listening,
}

impl Node {
    /// Starts nodes on empty data directories: one alone, or several that form a cluster, each in a
    /// rack of its own and behind a proxy. Each has these settings, `KEY=VALUE`, beside its own.
    pub(crate) fn start(
        workshop: &Workshop,
        binary: &Path,
        count: usize,
        settings: &[String],
    ) -> Result<(Vec<Self>, Option<Proxies>), String> {
        let ports = free_ports(3 * count)?;
        let targets: Vec<(u32, u16)> = (1..)
            .zip(ports.chunks(3))
            .map(|(id, ports)| (id, ports[1]))
            .collect();
        let proxies = match count {
            1 => None,
            _ => Some(Proxies::start(&targets)?),
        };
        let mut nodes = Vec::new();
        for (id, ports) in (1..).zip(ports.chunks(3)) {
            let data = workshop.empty_folder(&format!("node-{id}-data"))?;
            let log = workshop.log(&format!("node-{id}"));
            empty(&log)?;
            empty(&log.with_extension("before.log"))?;
            let mut command = vec![
                binary.to_string_lossy().into_owned(),
                "start".to_owned(),
                "--end-with-stdin".to_owned(),
                "--data-dir".to_owned(),
                data.to_string_lossy().into_owned(),
            ];
            let mut set = |setting: String| command.extend(["--set".to_owned(), setting]);
            for (key, port) in ["kafka", "peers", "http"].iter().zip(ports) {
                set(format!("{key}.port={port}"));
            }
            settings.iter().cloned().for_each(&mut set);
            if let Some(proxies) = &proxies {
                set(format!("peers.advertised_port={}", proxies.port(id)));
                set(format!("rack={}", rack(id)));
                set(format!("topics.replication_factor={count}"));
                let seed = |(node, _): &(u32, u16)| format!("127.0.0.1:{}", proxies.port(*node));
                let seeds: Vec<String> = targets.iter().map(seed).collect();
                command.extend(["--node-id".to_owned(), id.to_string()]);
                command.extend(["--seeds".to_owned(), seeds.join(",")]);
            }
            let child = spawn(&command, &log)?;
            nodes.push(Self {
                id,
                data,
                command,
                port: ports[0],
                http_port: ports[2],
                log,
                child,
                ready: Ready::Announced,
            });
        }
        for node in &mut nodes {
            node.wait_until_ready()?;
        }
        Ok((nodes, proxies))
    }

    /// Installs and starts Apache Kafka.
    pub(crate) fn start_kafka(workshop: &Workshop) -> Result<Self, String> {
        let jars = kafka_peer(workshop)?;
        let data = workshop.empty_folder("kafka-data")?;
        let ports = free_ports(2)?;
        let (port, controller) = (ports[0], ports[1]);
        let template = root().join("xtask/interop/kafka-peer/server.properties");
        let properties = fs::read_to_string(&template)
            .map_err(|problem| format!("cannot read {}: {problem}", template.display()))?
            .replace("@PORT@", &port.to_string())
            .replace("@CONTROLLER_PORT@", &controller.to_string())
            .replace("@DATA@", &data.join("logs").to_string_lossy());
        let settings = data.join("server.properties");
        fs::write(&settings, properties).map_err(|problem| format!("cannot write: {problem}"))?;
        let settings = settings.to_string_lossy().into_owned();
        let java = [
            "java".to_owned(),
            "-Xmx1G".to_owned(),
            "-cp".to_owned(),
            jars,
        ];
        let format = ["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c"];
        let mut tool = Command::new("java");
        tool.args(&java[1..]).args(format).arg(&settings);
        succeed(&mut tool, START_LIMIT)?;
        let command = [&java[..], &["kafka.Kafka".to_owned(), settings]].concat();
        let log = workshop.log("kafka");
        let child = spawn(&command, &log)?;
        let mut node = Self {
            id: 1,
            data,
            command,
            port,
            http_port: 0,
            log,
            child,
            ready: Ready::Listening,
        };
        node.wait_until_ready()?;
        Ok(node)
    }

    /// Its address for clients.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its address for operators.
    pub(crate) fn http(&self) -> String {
        format!("127.0.0.1:{}", self.http_port)
    }

    /// Sends it a signal, by its name without `SIG`.
    pub(crate) fn signal(&self, name: &str) -> Result<(), String> {
        // The shell's own `kill`: the program of that name is not on every machine.
        let signal = format!("kill -{name} {}", self.child.0.id());
        succeed(Command::new("sh").args(["-c", &signal]), SIGNAL_LIMIT).map(|_| ())
    }

    /// Ends it without warning.
    pub(crate) fn kill(&mut self) -> Result<(), String> {
        self.child
            .0
            .kill()
            .map_err(|problem| format!("cannot kill it: {problem}"))?;
        self.child
            .0
            .wait()
            .map(|_| ())
            .map_err(|problem| format!("cannot reap it: {problem}"))
    }

    /// Starts it again on the same data and ports; what it said before stays beside its log.
    pub(crate) fn restart(&mut self) -> Result<(), String> {
        let before = self.log.with_extension("before.log");
        let said = fs::read(&self.log).unwrap_or_default();
        let kept = File::options().create(true).append(true).open(&before);
        kept.and_then(|mut file| file.write_all(&said))
            .map_err(|problem| format!("cannot write {}: {problem}", before.display()))?;
        empty(&self.log)?;
        self.child = spawn(&self.command, &self.log)?;
        self.wait_until_ready()
    }

    /// Why it is not running, when it is not.
    pub(crate) fn death(&mut self) -> Option<String> {
        match self.child.0.try_wait() {
            Ok(None) => None,
            Ok(Some(status)) => Some(format!("ended with {status}; {}", self.last_words())),
            Err(problem) => Some(format!("cannot be watched: {problem}")),
        }
    }

    /// Asks it to end (SIGTERM) and waits for exit code 0.
    pub(crate) fn stop(&mut self) -> Result<(), String> {
        self.signal("TERM")?;
        let status = self.child.wait_until(Instant::now() + STOP_LIMIT)?;
        // The Java virtual machine reports an orderly SIGTERM as 128 + 15.
        if status.success() || (self.command[0] == "java" && status.code() == Some(143)) {
            Ok(())
        } else {
            Err(format!("ended with {status}; {}", self.last_words()))
        }
    }

    fn wait_until_ready(&mut self) -> Result<(), String> {
        match self.ready {
            Ready::Announced => announced(&mut self.child, &self.log),
            Ready::Listening => {
                let address = SocketAddr::from(([127, 0, 0, 1], self.port));
                let connect = || TcpStream::connect_timeout(&address, START_LIMIT).ok();
                wait_for(&mut self.child, &self.log, connect).map(|_| ())
            }
        }
    }

    fn last_words(&self) -> String {
        last_words(&self.log)
    }
}

/// Waits until `found` finds something, or the child ends, or time runs out.
fn wait_for<T>(
    child: &mut Owned,
    log: &Path,
    mut found: impl FnMut() -> Option<T>,
) -> Result<T, String> {
    let deadline = Instant::now() + START_LIMIT;
    loop {
        if let Some(found) = found() {
            return Ok(found);
        }
        if let Ok(Some(status)) = child.0.try_wait() {
            return Err(format!("ended at once with {status}; {}", last_words(log)));
        }
        if Instant::now() > deadline {
            return Err(format!("is not ready in time; {}", last_words(log)));
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// Waits for the line that a node prints when it is ready.
fn announced(child: &mut Owned, log: &Path) -> Result<(), String> {
    wait_for(child, log, || {
        let said = fs::read_to_string(log).ok()?;
        said.contains(" ready in ").then_some(())
    })
}

/// What an earlier run said there would be taken for this one's.
pub(crate) fn empty(log: &Path) -> Result<(), String> {
    fs::write(log, "").map_err(|problem| format!("cannot write {}: {problem}", log.display()))
}

/// The end of what a process said, and where all of it is.
pub(crate) fn last_words(log: &Path) -> String {
    let said = fs::read(log).unwrap_or_default();
    format!(
        "{}: {}",
        log.display(),
        one_line(&String::from_utf8_lossy(&said))
    )
}

/// Starts a command; what it says goes to the log.
pub(crate) fn spawn(command: &[String], log: &Path) -> Result<Owned, String> {
    let open = || File::options().create(true).append(true).open(log);
    let opened = open().and_then(|output| Ok((output, open()?)));
    let (output, errors) =
        opened.map_err(|problem| format!("cannot open {}: {problem}", log.display()))?;
    let mut node = Command::new(&command[0]);
    // The pipe stays open as long as the child is held: a node of ours ends with it, so that none
    // outlives a run that was killed.
    node.args(&command[1..])
        .stdin(Stdio::piped())
        .stdout(output)
        .stderr(errors);
    Owned::spawn(&mut node)
}

/// Builds the binary in release mode.
pub(crate) fn build() -> Result<PathBuf, String> {
    build_package("braidlog")
}

/// Builds a package in release mode; its binary has its name.
pub(crate) fn build_package(package: &str) -> Result<PathBuf, String> {
    let arguments = ["build", "--release", "--package", package];
    println!("building: cargo {}", arguments.join(" "));
    let started = Instant::now();
    let status = Command::new(cargo())
        .args(arguments)
        .current_dir(root())
        .status();
    let status = status.map_err(|problem| format!("cannot run cargo: {problem}"))?;
    if !status.success() {
        return Err(format!("{package} does not build"));
    }
    println!("built in {:.1} s", started.elapsed().as_secs_f64());
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    Ok(root()
        .join(target.unwrap_or_else(|| PathBuf::from("target")))
        .join("release")
        .join(package))
}

/// Ports that were free a moment ago, below the system's range for outgoing connections: a port of
/// that range may be taken by some connection just when the node that had it starts again.
pub(crate) fn free_ports(count: usize) -> Result<Vec<u16>, String> {
    const LOWEST: u32 = 14_000;
    const COUNT: u32 = 16_000;
    let begin = std::process::id() * 37 % COUNT;
    let ports = (0..COUNT).map(|at| LOWEST + (begin + at) % COUNT);
    let bind = |port: u32| TcpListener::bind(("127.0.0.1", u16::try_from(port).ok()?)).ok();
    let held: Vec<TcpListener> = ports.filter_map(bind).take(count).collect();
    if held.len() < count {
        return Err("no free port".to_owned());
    }
    let port = |listener: &TcpListener| listener.local_addr().map(|address| address.port());
    let ports: Result<Vec<u16>, _> = held.iter().map(port).collect();
    ports.map_err(|problem| format!("no free port: {problem}"))
}
