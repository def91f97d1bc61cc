//! Three nodes as processes on free ports of the loopback interface.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use kafka_client::api::{CreateTopic, Metadata, Reassignment};
use kafka_client::{ClientError, ClusterClient, ClusterOptions, ConnectOptions, ErrorCode};
use rustix::process::{Pid, Signal, kill_process};
use storage::clock::Clock;
use storage::disk::{Disk, OpenMode};

use super::{Failure, PATIENCE, described};
use crate::TempDir;

const COUNT: usize = 3;
const POLL: Duration = Duration::from_millis(5);
/// A request to a node that is stopped is given up after this.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
/// Clock ticks a second in `/proc`.
const TICKS_PER_SECOND: usize = 100;
const PAGE_BYTES: u64 = 4_096;

/// The nodes, killed when dropped.
pub(crate) struct Nodes {
    binary: String,
    dir: TempDir,
    ports: Vec<[u16; 3]>,
    children: Vec<Option<Child>>,
}

impl Nodes {
    /// Starts them; they form a cluster meanwhile.
    pub(crate) fn start(binary: &str) -> Result<Nodes, Failure> {
        let mut nodes = Nodes {
            binary: binary.to_owned(),
            dir: TempDir::new("cluster"),
            ports: free_ports()?,
            children: (0..COUNT).map(|_| None).collect(),
        };
        Disk::Real
            .create_dir_all(&nodes.dir.0)
            .map_err(|error| error.to_string())?;
        nodes.restart_all()?;
        Ok(nodes)
    }

    fn spawn(&self, node: usize) -> Result<Child, Failure> {
        let seeds: Vec<String> = self
            .ports
            .iter()
            .map(|ports| format!("127.0.0.1:{}", ports[1]))
            .collect();
        let mut command = Command::new(&self.binary);
        command
            .arg("start")
            .arg("--end-with-stdin")
            .arg("--data-dir")
            .arg(self.data_dir(node));
        command.args(["--seeds", &seeds.join(",")]);
        for (listener, port) in ["kafka", "peers", "http"].iter().zip(self.ports[node]) {
            command.args(["--set", &format!("{listener}.port={port}")]);
        }
        // The pipe is held with the child, so that no node outlives a run that was killed.
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", self.binary))
    }

    fn data_dir(&self, node: usize) -> PathBuf {
        self.dir.0.join(node.to_string())
    }

    /// Where clients find them.
    pub(crate) fn addresses(&self) -> Vec<String> {
        self.ports
            .iter()
            .map(|ports| format!("127.0.0.1:{}", ports[0]))
            .collect()
    }

    /// A client of all of them.
    pub(crate) fn client(&self) -> ClusterClient {
        client(&self.addresses())
    }

    /// Creates a topic with three replicas, once the cluster stands.
    pub(crate) async fn create_topic(
        &self,
        client: &ClusterClient,
        name: &str,
        partitions: i32,
    ) -> Result<(), Failure> {
        let clock = Clock::system();
        let topic = CreateTopic {
            partitions,
            replication_factor: 3,
            ..CreateTopic::new(name)
        };
        loop {
            let why = match client.controller().await {
                Ok(controller) => {
                    let created =
                        controller.create_topics(std::slice::from_ref(&topic), 60_000, false);
                    match created.await {
                        Ok(created)
                            if matches!(
                                created[0].error,
                                ErrorCode::NONE | ErrorCode::TOPIC_ALREADY_EXISTS
                            ) =>
                        {
                            return Ok(());
                        }
                        Ok(created) => format!("{:?} {:?}", created[0].error, created[0].message),
                        Err(error) => described(&error),
                    }
                }
                Err(error) => described(&error),
            };
            if elapsed(&clock) > PATIENCE {
                return Err(format!("topic {name} is not created: {why}"));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until every partition has three replicas in sync.
    pub(crate) async fn all_in_sync(
        &self,
        client: &ClusterClient,
        topic: &str,
        patience: Duration,
    ) -> Result<(), Failure> {
        let clock = Clock::system();
        loop {
            if let Ok(metadata) = client.metadata(Some(&[topic])).await
                && metadata.topics.iter().all(|topic| {
                    topic.error == ErrorCode::NONE
                        && topic
                            .partitions
                            .iter()
                            .all(|p| p.leader >= 0 && p.in_sync.len() == COUNT)
                })
            {
                return Ok(());
            }
            if elapsed(&clock) > patience {
                return Err(format!(
                    "{topic} is not in sync after {} s",
                    patience.as_secs()
                ));
            }
            tokio::time::sleep(20 * POLL).await;
        }
    }

    /// Gives one partition its replicas in reverse order, which takes another shard; waits until it
    /// is there.
    pub(crate) async fn reverse_replicas(
        &self,
        client: &ClusterClient,
        topic: &str,
        partition: i32,
    ) -> Result<(), Failure> {
        let described = |error: ClientError| error.to_string();
        let of = async |client: &ClusterClient| {
            let metadata = client.metadata(Some(&[topic])).await.map_err(described)?;
            let mut all = metadata
                .topics
                .into_iter()
                .flat_map(|topic| topic.partitions);
            let found = all.find(|one| one.index == partition);
            found.ok_or_else(|| format!("{topic} has no partition {partition}"))
        };
        let mut replicas = of(client).await?.replicas;
        replicas.reverse();
        let wanted = Reassignment {
            topic: topic.to_owned(),
            partition,
            replicas: Some(replicas.clone()),
        };
        let controller = client.controller().await.map_err(described)?;
        let altered = controller
            .alter_partition_reassignments(std::slice::from_ref(&wanted), false, 10_000)
            .await
            .map_err(described)?;
        if altered[0].error != ErrorCode::NONE {
            return Err(format!("{:?} {:?}", altered[0].error, altered[0].message));
        }
        let clock = Clock::system();
        loop {
            let now = of(client).await?;
            if now.replicas == replicas && now.leader >= 0 {
                return Ok(());
            }
            if elapsed(&clock) > PATIENCE {
                return Err(format!("partition {partition} of {topic} is not moved"));
            }
            tokio::time::sleep(20 * POLL).await;
        }
    }

    /// The node that leads most partitions of a topic, as a position among the nodes.
    pub(crate) async fn leads_most(
        &self,
        client: &ClusterClient,
        topic: &str,
    ) -> Result<usize, Failure> {
        let leads = self.leads(client, topic).await?;
        Ok((0..COUNT).max_by_key(|node| leads[*node]).unwrap_or(0))
    }

    /// The one that leads fewest.
    pub(crate) async fn leads_least(
        &self,
        client: &ClusterClient,
        topic: &str,
    ) -> Result<usize, Failure> {
        let leads = self.leads(client, topic).await?;
        Ok((0..COUNT).min_by_key(|node| leads[*node]).unwrap_or(0))
    }

    async fn leads(&self, client: &ClusterClient, topic: &str) -> Result<Vec<usize>, Failure> {
        let metadata = client
            .metadata(Some(&[topic]))
            .await
            .map_err(|error| described(&error))?;
        let of = |ports: &[u16; 3]| {
            let id = self.id_of(&metadata, ports[0]);
            let partitions = metadata.topics.iter().flat_map(|topic| &topic.partitions);
            partitions
                .filter(|partition| Some(partition.leader) == id)
                .count()
        };
        Ok(self.ports.iter().map(of).collect())
    }

    fn id_of(&self, metadata: &Metadata, port: u16) -> Option<i32> {
        let broker = metadata
            .brokers
            .iter()
            .find(|broker| broker.port == i32::from(port));
        broker.map(|broker| broker.node_id)
    }

    /// Ends a node without warning.
    pub(crate) fn kill(&mut self, node: usize) -> Result<(), Failure> {
        let mut child = self.children[node].take().ok_or("it does not run")?;
        child.kill().map_err(|error| error.to_string())?;
        child.wait().map(|_| ()).map_err(|error| error.to_string())
    }

    /// Asks a node to end and waits until it has.
    pub(crate) fn terminate(&mut self, node: usize) -> Result<(), Failure> {
        let mut child = self.children[node].take().ok_or("it does not run")?;
        signal(&child)?;
        let status = wait(&mut child)?;
        status
            .success()
            .then_some(())
            .ok_or(format!("a node ended with {status}"))
    }

    /// Asks all to end, at once, and waits.
    pub(crate) fn terminate_all(&mut self) -> Result<(), Failure> {
        self.children.iter().flatten().try_for_each(signal)?;
        for child in &mut self.children {
            if let Some(mut child) = child.take() {
                wait(&mut child)?;
            }
        }
        Ok(())
    }

    /// Starts a node again.
    pub(crate) fn restart(&mut self, node: usize) -> Result<(), Failure> {
        self.children[node] = Some(self.spawn(node)?);
        Ok(())
    }

    /// Starts all again.
    pub(crate) fn restart_all(&mut self) -> Result<(), Failure> {
        (0..COUNT).try_for_each(|node| self.restart(node))
    }

    /// Ends the run in good order.
    pub(crate) fn stop(mut self) -> Result<(), Failure> {
        self.terminate_all()
    }

    /// Processor time of all nodes so far, in milliseconds.
    pub(crate) fn cpu_ms(&self) -> Result<usize, Failure> {
        let mut ticks = 0;
        for child in self.children.iter().flatten() {
            let stat = proc_file(child, "stat")?;
            // The name, in brackets, may hold blanks; user and system time are the 12th and 13th after it.
            let rest = stat.rsplit(')').next().unwrap_or_default().to_owned();
            let times = rest.split_whitespace().skip(11).take(2);
            ticks += times
                .filter_map(|time| time.parse::<usize>().ok())
                .sum::<usize>();
        }
        Ok(ticks * 1_000 / TICKS_PER_SECOND)
    }

    /// Resident memory of each node.
    pub(crate) fn resident_mib(&self) -> Result<Vec<u64>, Failure> {
        let of = |child: &Child| {
            let pages = proc_file(child, "statm")?;
            let pages = pages
                .split_whitespace()
                .nth(1)
                .and_then(|pages| pages.parse::<u64>().ok());
            Ok((pages.unwrap_or(0) * PAGE_BYTES) >> 20)
        };
        self.children.iter().flatten().map(of).collect()
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for child in self.children.iter_mut().flatten() {
            // Fails only when it is gone already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A client that gives a silent node up soon.
pub(crate) fn client(addresses: &[String]) -> ClusterClient {
    let options = ClusterOptions {
        connection: ConnectOptions {
            request_timeout: REQUEST_TIMEOUT,
            connect_timeout: Duration::from_millis(500),
            ..ConnectOptions::default()
        },
        call_timeout: PATIENCE,
        pause: Duration::from_millis(2),
        pause_max: Duration::from_millis(20),
    };
    ClusterClient::new(addresses.to_vec(), options)
}

pub(crate) fn elapsed(clock: &Clock) -> Duration {
    Duration::from_millis(u64::try_from(clock.monotonic_ms()).unwrap_or(0))
}

/// The machine's load over the last minute.
pub(crate) fn load_average() -> String {
    let text = read("/proc/loadavg".into()).unwrap_or_default();
    text.split_whitespace()
        .next()
        .unwrap_or("unknown")
        .to_owned()
}

fn proc_file(child: &Child, name: &str) -> Result<String, Failure> {
    read(format!("/proc/{}/{name}", child.id()).into())
}

/// A file of `/proc`, which has no length.
fn read(path: PathBuf) -> Result<String, Failure> {
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    let file = Disk::Real.open(&path, OpenMode::Read).map_err(failed)?;
    let mut bytes = vec![0; 4_096];
    let mut filled = 0;
    loop {
        let count = file
            .read_at(&mut bytes[filled..], filled as u64)
            .map_err(failed)?;
        if count == 0 || filled + count == bytes.len() {
            filled += count;
            break;
        }
        filled += count;
    }
    Ok(String::from_utf8_lossy(&bytes[..filled]).into_owned())
}

/// Waits until a node that was asked to end has.
fn wait(child: &mut Child) -> Result<ExitStatus, Failure> {
    // Else it would be closed first, which a node takes for a second signal: to stop at once.
    let _stdin = child.stdin.take();
    child.wait().map_err(|error| error.to_string())
}

fn signal(child: &Child) -> Result<(), Failure> {
    let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    kill_process(id.ok_or("no process id")?, Signal::TERM).map_err(|error| error.to_string())
}

fn free_ports() -> Result<Vec<[u16; 3]>, Failure> {
    let bind = |_| TcpListener::bind(("127.0.0.1", 0));
    let held: Result<Vec<TcpListener>, _> = (0..3 * COUNT).map(bind).collect();
    let held = held.map_err(|error| error.to_string())?;
    let ports: Result<Vec<u16>, _> = held
        .iter()
        .map(|l| l.local_addr().map(|a| a.port()))
        .collect();
    let ports = ports.map_err(|error| error.to_string())?;
    Ok(ports.chunks_exact(3).map(|c| [c[0], c[1], c[2]]).collect())
}
