//! The brokers that are measured: what each is, how it is installed and started, and with which
//! settings. All listen on free ports of the loopback interface and keep their data below
//! `target/bench`; no service of the system is started.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::Bench;
use super::server::{Ready, Server};
use super::trouble::Trouble;
use crate::interop::install::{INSTALL_LIMIT, Workshop, install_debian, is_on_path, kafka_peer};
use crate::interop::node::free_ports;
use crate::process::{finish, succeed};

const COMMAND_LIMIT: Duration = Duration::from_secs(150);
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Any 16 bytes in base64: formatting a new Kafka node asks for them.
const CLUSTER_ID: &str = "MkU3OEVBNTcwNTJENDM2Qk";
/// What stands between the numbers of a Kafka jar's name.
const KAFKA_JAR: &str = "kafka_2.13-";

/// A broker with its promise about the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peer {
    BraidlogOs,
    BraidlogFsync,
    /// As it comes: it never waits for the disk.
    Kafka,
    /// Topics have `flush.messages=1`: each append is synced before it is acknowledged.
    KafkaFlush,
    RedisEverysec,
    RedisAlways,
    Nats,
}

impl Peer {
    /// As it stands in tables.
    pub(super) fn name(self) -> &'static str {
        match self {
            Peer::BraidlogOs => "Braidlog os",
            Peer::BraidlogFsync => "Braidlog fsync",
            Peer::Kafka => "Kafka",
            Peer::KafkaFlush => "Kafka flush.messages=1",
            Peer::RedisEverysec => "Redis AOF everysec",
            Peer::RedisAlways => "Redis AOF always",
            Peer::Nats => "NATS JetStream",
        }
    }

    pub(super) fn is_ours(self) -> bool {
        matches!(self, Peer::BraidlogOs | Peer::BraidlogFsync)
    }

    /// What it is started with beside ports, directories and its defaults.
    pub(super) fn settings(self, nodes: usize) -> String {
        match self {
            Peer::BraidlogOs => "durability=os".to_owned(),
            Peer::BraidlogFsync => "durability=fsync".to_owned(),
            Peer::Kafka => format!("-Xmx{}, {DELETE_SOON}", heap(nodes)),
            Peer::KafkaFlush => {
                format!("-Xmx{}, {DELETE_SOON}, {FLUSH}", heap(nodes))
            }
            Peer::RedisEverysec => "appendonly yes, appendfsync everysec, no snapshots".to_owned(),
            Peer::RedisAlways => "appendonly yes, appendfsync always, no snapshots".to_owned(),
            Peer::Nats => "JetStream, file storage, sync every 2 min (its default)".to_owned(),
        }
    }

    /// Its program and version, installed when it is not there.
    pub(super) fn version(self, bench: &Bench) -> Result<String, Trouble> {
        let asked = |program: &Path| -> Result<String, String> {
            let said = succeed(Command::new(program).arg("--version"), COMMAND_LIMIT)?.text();
            Ok(said.lines().next().unwrap_or_default().to_owned())
        };
        let version = match self {
            Peer::BraidlogOs | Peer::BraidlogFsync => asked(&bench.binary),
            Peer::Kafka | Peer::KafkaFlush => kafka_version().map_err(Trouble::NotRun)?,
            Peer::RedisEverysec | Peer::RedisAlways => {
                asked(&redis(bench).map_err(Trouble::NotRun)?).map(|said| {
                    let version = said.split(" v=").nth(1).and_then(|v| v.split(' ').next());
                    format!("Redis {}", version.unwrap_or(&said))
                })
            }
            Peer::Nats => asked(&nats(bench).map_err(Trouble::NotRun)?),
        };
        version.map_err(Trouble::NotRun)
    }
}

/// Files of deleted topics would else lie there for a minute, through the next rounds.
const DELETE_SOON: &str = "log.segment.delete.delay.ms=1000";
/// The default of `flush.messages` for every topic.
const FLUSH: &str = "log.flush.interval.messages=1";

fn heap(nodes: usize) -> &'static str {
    if nodes > 1 { "512M" } else { "1G" }
}

/// Processes of one peer that belong together.
pub(super) struct Cluster {
    pub(super) peer: Peer,
    pub(super) servers: Vec<Server>,
}

impl Cluster {
    /// Starts so many nodes on empty directories, without waiting for them.
    pub(super) fn launch(bench: &Bench, peer: Peer, nodes: usize) -> Result<Cluster, Trouble> {
        // What cannot be had is not run; what does not start has failed.
        peer.version(bench)?;
        let launched = match peer {
            Peer::BraidlogOs => braidlog(bench, "os", nodes),
            Peer::BraidlogFsync => braidlog(bench, "fsync", nodes),
            Peer::Kafka => kafka(bench, "kafka", nodes, &[DELETE_SOON]),
            Peer::KafkaFlush => kafka(bench, "kafka-flush", nodes, &[DELETE_SOON, FLUSH]),
            Peer::RedisEverysec => redis_server(bench, "everysec"),
            Peer::RedisAlways => redis_server(bench, "always"),
            Peer::Nats => nats_server(bench),
        };
        let servers = launched.map_err(Trouble::Failed)?;
        Ok(Cluster { peer, servers })
    }

    /// Starts so many nodes on empty directories, and waits until they are one.
    pub(super) fn start(bench: &Bench, peer: Peer, nodes: usize) -> Result<Cluster, Trouble> {
        let mut cluster = Cluster::launch(bench, peer, nodes)?;
        cluster.wait_until_ready()?;
        if nodes > 1 {
            cluster.wait_for_replicas(bench).map_err(Trouble::Failed)?;
        }
        Ok(cluster)
    }

    /// Waits until every node answers.
    pub(super) fn wait_until_ready(&mut self) -> Result<(), Trouble> {
        let mut servers = self.servers.iter_mut();
        servers
            .try_for_each(Server::wait_until_ready)
            .map_err(|why| Trouble::Failed(format!("{}: {why}", self.peer.name())))
    }

    /// Where clients find it.
    pub(super) fn bootstrap(&self) -> String {
        let addresses: Vec<String> = self.servers.iter().map(Server::address).collect();
        addresses.join(",")
    }

    /// Why it is not whole, when it is not.
    pub(super) fn death(&mut self) -> Option<String> {
        self.servers.iter_mut().find_map(Server::death)
    }

    /// Waits until a topic can have a replica on every node.
    fn wait_for_replicas(&self, bench: &Bench) -> Result<(), String> {
        let count = self.servers.len().to_string();
        let address = self.servers[0].address();
        let deadline = Instant::now() + COMMAND_LIMIT;
        loop {
            let mut create = Command::new(&bench.binary);
            create.args(["topic", "create", "ready", "--partitions", &count]);
            create.args(["--replication-factor", &count, "--server", &address]);
            let created = finish(&mut create, COMMAND_LIMIT)?;
            if created.is_success {
                break;
            }
            if Instant::now() > deadline {
                return Err(format!("its nodes do not meet: {}", created.complaint()));
            }
            sleep(POLL_INTERVAL);
        }
        bench.delete_topic("ready", &address)
    }
}

impl Drop for Cluster {
    /// What it has written takes much room, and is worth nothing any more.
    fn drop(&mut self) {
        for mut server in std::mem::take(&mut self.servers) {
            // One that has ended already is ended.
            let _ = server.kill();
            if let Err(problem) = fs::remove_dir_all(&server.data) {
                eprintln!("{} is left behind: {problem}", server.data.display());
            }
        }
    }
}

fn braidlog(bench: &Bench, durability: &str, nodes: usize) -> Result<Vec<Server>, String> {
    let ports = free_ports(3 * nodes)?;
    let seeds: Vec<String> = (ports.chunks(3))
        .map(|ports| format!("127.0.0.1:{}", ports[1]))
        .collect();
    let one = |(id, ports): (usize, &[u16])| {
        let name = format!("braidlog-{durability}-{id}");
        let data = bench.empty_folder(&name)?;
        let mut command = vec![
            text(&bench.binary),
            "start".to_owned(),
            "--end-with-stdin".to_owned(),
            "--data-dir".to_owned(),
            text(&data),
        ];
        let mut set = |setting: String| command.extend(["--set".to_owned(), setting]);
        for (key, port) in ["kafka", "peers", "http"].iter().zip(ports) {
            set(format!("{key}.port={port}"));
        }
        set(format!("durability={durability}"));
        if nodes > 1 {
            set(format!("topics.replication_factor={nodes}"));
            command.extend(["--node-id".to_owned(), id.to_string()]);
            command.extend(["--seeds".to_owned(), seeds.join(",")]);
        }
        let ready = Ready::Kafka {
            announced: Some(" ready in "),
        };
        Server::start(command, ports[0], data, bench.log(&name), ready)
    };
    (1..).zip(ports.chunks(3)).map(one).collect()
}

fn kafka_version() -> Result<Result<String, String>, String> {
    let class_path = kafka_peer(&Workshop::open()?)?;
    let folder = class_path.trim_end_matches("/*");
    let jars = fs::read_dir(folder).map_err(|problem| format!("{folder}: {problem}"))?;
    let names = jars.filter_map(|jar| jar.ok()?.file_name().into_string().ok());
    let version = names
        .filter_map(|name| {
            let version = name.strip_prefix(KAFKA_JAR)?.strip_suffix(".jar")?;
            Some(format!("Apache Kafka {version}"))
        })
        .next();
    Ok(version.ok_or_else(|| format!("{folder} has no {KAFKA_JAR}*.jar")))
}

/// KRaft, every node both broker and controller.
fn kafka(
    bench: &Bench,
    name: &str,
    nodes: usize,
    settings: &[&str],
) -> Result<Vec<Server>, String> {
    let class_path = kafka_peer(&Workshop::open()?)?;
    let ports = free_ports(2 * nodes)?;
    let voters: Vec<String> = (1..)
        .zip(ports.chunks(2))
        .map(|(id, ports): (usize, _)| format!("{id}@127.0.0.1:{}", ports[1]))
        .collect();
    let one = |(id, ports): (usize, &[u16])| {
        let name = format!("{name}-{id}");
        let data = bench.empty_folder(&name)?;
        let properties = kafka_properties(id, ports, &voters, &data.join("logs"), settings);
        let file = data.join("server.properties");
        fs::write(&file, properties)
            .map_err(|problem| format!("cannot write {}: {problem}", file.display()))?;
        // The garbage collector is the one that Kafka's own scripts ask for.
        let java = [
            "java".to_owned(),
            format!("-Xms{}", heap(nodes)),
            format!("-Xmx{}", heap(nodes)),
            "-server".to_owned(),
            "-XX:+UseG1GC".to_owned(),
            "-XX:MaxGCPauseMillis=20".to_owned(),
            "-XX:InitiatingHeapOccupancyPercent=35".to_owned(),
            "-cp".to_owned(),
            class_path.clone(),
        ];
        let format = ["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c"];
        let mut tool = Command::new("java");
        tool.args(["-cp", &class_path]).args(format).arg(&file);
        succeed(&mut tool, COMMAND_LIMIT)?;
        let command = [&java[..], &["kafka.Kafka".to_owned(), text(&file)]].concat();
        let ready = Ready::Kafka { announced: None };
        Server::start(command, ports[0], data, bench.log(&name), ready)
    };
    (1..).zip(ports.chunks(2)).map(one).collect()
}

fn kafka_properties(
    id: usize,
    ports: &[u16],
    voters: &[String],
    data: &Path,
    settings: &[&str],
) -> String {
    let replicas = voters.len().min(3);
    let mut lines = vec![
        "process.roles=broker,controller".to_owned(),
        format!("node.id={id}"),
        format!(
            "listeners=PLAINTEXT://127.0.0.1:{},CONTROLLER://127.0.0.1:{}",
            ports[0], ports[1]
        ),
        "controller.listener.names=CONTROLLER".to_owned(),
        format!("controller.quorum.voters={}", voters.join(",")),
        "listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT".to_owned(),
        format!("log.dirs={}", data.display()),
        format!("offsets.topic.replication.factor={replicas}"),
        format!("transaction.state.log.replication.factor={replicas}"),
        "transaction.state.log.min.isr=1".to_owned(),
    ];
    lines.extend(settings.iter().map(|setting| (*setting).to_owned()));
    lines.join("\n") + "\n"
}

/// Debian's package of the server would start a service; the program itself is in the tools, and
/// is the server when it is called so.
fn redis(bench: &Bench) -> Result<PathBuf, String> {
    if is_on_path("redis-server") {
        return Ok("redis-server".into());
    }
    let program = Path::new("/usr/bin/redis-check-rdb");
    if !program.exists() {
        install_debian("redis-tools")?;
    }
    let link = bench.empty_folder("redis-program")?.join("redis-server");
    std::os::unix::fs::symlink(program, &link)
        .map_err(|problem| format!("cannot make {}: {problem}", link.display()))?;
    match finish(Command::new(&link).arg("--version"), COMMAND_LIMIT) {
        Ok(said) if said.text().starts_with("Redis server") => Ok(link),
        _ => Err("redis-server is not in Debian's redis-tools".to_owned()),
    }
}

fn redis_server(bench: &Bench, sync: &str) -> Result<Vec<Server>, String> {
    let program = redis(bench)?;
    let port = free_ports(1)?[0];
    let name = format!("redis-{sync}");
    let data = bench.empty_folder(&name)?;
    let mut command = vec![text(&program), "--port".to_owned(), port.to_string()];
    let dir = text(&data);
    let options = [
        ["--bind", "127.0.0.1"],
        ["--dir", &dir],
        ["--save", ""],
        ["--appendonly", "yes"],
        ["--appendfsync", sync],
        ["--daemonize", "no"],
    ];
    command.extend(options.concat().iter().map(|word| (*word).to_owned()));
    let server = Server::start(command, port, data, bench.log(&name), Ready::Redis);
    Ok(vec![server?])
}

/// Debian's package would start a service: its program is taken out of it, and needs nothing else.
fn nats(bench: &Bench) -> Result<PathBuf, String> {
    let installed = Path::new("/usr/sbin/nats-server");
    if is_on_path("nats-server") {
        return Ok("nats-server".into());
    }
    if installed.exists() {
        return Ok(installed.to_path_buf());
    }
    let kept = bench.folder.join("nats-program");
    let program = kept.join("usr/sbin/nats-server");
    if program.exists() {
        return Ok(program);
    }
    if !is_on_path("apt-get") {
        return Err("nats-server is not installed, and there is no apt-get".to_owned());
    }
    let folder = bench.empty_folder("nats-program")?;
    let mut download = Command::new("apt-get");
    download
        .args(["--quiet=2", "download", "nats-server"])
        .current_dir(&folder);
    succeed(&mut download, INSTALL_LIMIT)?;
    let mut unpack = Command::new("sh");
    unpack
        .args(["-c", "dpkg -x nats-server_*.deb ."])
        .current_dir(&folder);
    succeed(&mut unpack, INSTALL_LIMIT)?;
    match program.exists() {
        true => Ok(program),
        false => Err("nats-server is not in Debian's package of that name".to_owned()),
    }
}

fn nats_server(bench: &Bench) -> Result<Vec<Server>, String> {
    let program = nats(bench)?;
    let port = free_ports(1)?[0];
    let data = bench.empty_folder("nats")?;
    let command = vec![
        text(&program),
        "-a".to_owned(),
        "127.0.0.1".to_owned(),
        "-p".to_owned(),
        port.to_string(),
        "-js".to_owned(),
        "-sd".to_owned(),
        text(&data),
    ];
    let server = Server::start(command, port, data, bench.log("nats"), Ready::Nats);
    Ok(vec![server?])
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kafka_node_knows_every_voter_and_its_own_ports() {
        let voters = ["1@127.0.0.1:11", "2@127.0.0.1:21", "3@127.0.0.1:31"].map(str::to_owned);
        let text = kafka_properties(2, &[20, 21], &voters, Path::new("/d"), &[FLUSH]);
        for line in [
            "node.id=2",
            "listeners=PLAINTEXT://127.0.0.1:20,CONTROLLER://127.0.0.1:21",
            "controller.quorum.voters=1@127.0.0.1:11,2@127.0.0.1:21,3@127.0.0.1:31",
            "offsets.topic.replication.factor=3",
            "log.flush.interval.messages=1",
            "log.dirs=/d",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }

    #[test]
    fn settings_say_what_a_promise_rests_on() {
        assert!(Peer::KafkaFlush.settings(1).contains(FLUSH));
        assert!(!Peer::Kafka.settings(1).contains(FLUSH));
        assert!(Peer::Kafka.settings(3).contains("-Xmx512M"));
    }
}
