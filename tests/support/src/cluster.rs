//! A cluster of real processes, each of which can be killed, paused and started again.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use kafka_client::{ClusterClient, ClusterOptions, ConnectOptions};
use rustix::process::Signal;
use serde_json::Value;

use crate::deadline::eventually_within;
use crate::http::{Answer, request};
use crate::ports::free_port;
use crate::process::Process;
use crate::proxy::Proxies;
use crate::temp_dir::TempDir;

/// The exit code of a node whose port is in use.
const CONFLICT: i32 = 7;
/// How often a node is started on other ports before the test gives up.
const STARTS_MAX: usize = 5;
/// How long a cluster may take to become what is waited for, on a busy machine.
const CLUSTER_PATIENCE: Duration = Duration::from_secs(120);

/// Nodes of one cluster. They go, with their data, when this value does.
#[derive(Debug)]
pub struct Cluster {
    binary: String,
    directory: TempDir,
    settings: Vec<String>,
    members: Vec<Member>,
    proxies: Option<Proxies>,
}

#[derive(Debug)]
struct Member {
    ports: Ports,
    data_dir: PathBuf,
    seeds: String,
    process: Option<Process>,
}

#[derive(Debug, Clone, Copy)]
struct Ports {
    kafka: u16,
    peers: u16,
    http: u16,
}

impl Ports {
    fn free() -> Ports {
        Ports {
            kafka: free_port(),
            peers: free_port(),
            http: free_port(),
        }
    }

    fn seed(self) -> String {
        format!("127.0.0.1:{}", self.peers)
    }
}

impl Cluster {
    /// Starts so many nodes at the same moment, with the same command, and waits until all of them
    /// are one healthy cluster. Node `n` has index `n - 1` here, as it wants the id `n`.
    ///
    /// # Panics
    ///
    /// When they do not become one.
    #[must_use]
    pub fn start(binary: &str, nodes: usize) -> Cluster {
        Cluster::start_with(binary, nodes, &[])
    }

    /// The same with settings, `key=value`, for every node; `{node}` in them is its number.
    ///
    /// # Panics
    ///
    /// When they do not become one healthy cluster.
    #[must_use]
    pub fn start_with(binary: &str, nodes: usize, settings: &[&str]) -> Cluster {
        Cluster::found(binary, nodes, settings, false)
    }

    /// The same with a proxy before each node's peer port, so that nodes can be cut off.
    ///
    /// # Panics
    ///
    /// When they do not become one healthy cluster.
    #[must_use]
    pub fn start_behind_proxies(binary: &str, nodes: usize) -> Cluster {
        Cluster::found(binary, nodes, &[], true)
    }

    fn found(binary: &str, nodes: usize, settings: &[&str], has_proxies: bool) -> Cluster {
        for _ in 0..STARTS_MAX {
            let ports: Vec<Ports> = (0..nodes).map(|_| Ports::free()).collect();
            let proxies = has_proxies.then(|| {
                let listeners = ports.iter().map(|ports| local(ports.peers));
                Proxies::start(&listeners.collect::<Vec<_>>())
            });
            let mut cluster = Cluster {
                binary: binary.to_owned(),
                directory: TempDir::new(),
                settings: settings.iter().map(|s| (*s).to_owned()).collect(),
                members: Vec::new(),
                proxies,
            };
            let seeds = ports.iter().enumerate().map(|(node, ports)| {
                let proxy = cluster.proxies.as_ref().map(|all| all.address(node));
                proxy.map_or_else(|| ports.seed(), |address| address.to_string())
            });
            let seeds: Vec<String> = seeds.collect();
            for ports in ports {
                cluster.place(ports, seeds.join(","));
            }
            for node in 0..nodes {
                cluster.spawn(node);
            }
            if cluster.all_ready() {
                // Until every standing shard has grown over the nodes.
                cluster.wait_until("every shard to be replicated", |status| {
                    status["verdict"]["can_lose"].as_u64() >= Some(u64::from(nodes > 2))
                });
                cluster.wait_healthy(nodes);
                return cluster;
            }
        }
        panic!("every port that was free was taken by somebody else");
    }

    /// A node alone, without seeds: a cluster of its own that others may join.
    ///
    /// # Panics
    ///
    /// When it does not start.
    #[must_use]
    pub fn start_alone(binary: &str) -> Cluster {
        let mut cluster = Cluster {
            binary: binary.to_owned(),
            directory: TempDir::new(),
            settings: Vec::new(),
            members: Vec::new(),
            proxies: None,
        };
        cluster.place(Ports::free(), String::new());
        cluster.spawn(0);
        assert!(cluster.all_ready(), "the node's ports were taken");
        cluster
    }

    /// Starts one more node, with every other one as a seed, and waits until it is ready. Its index.
    ///
    /// # Panics
    ///
    /// When it does not join.
    pub fn add(&mut self) -> usize {
        let node = self.add_unready();
        assert!(self.all_ready(), "the new node's ports were taken");
        node
    }

    /// Starts one more node and does not wait. Its index.
    pub fn add_unready(&mut self) -> usize {
        let running = self.members.iter().filter(|m| m.process.is_some());
        let seeds: Vec<String> = running.map(|member| member.ports.seed()).collect();
        let node = self.place(Ports::free(), seeds.join(","));
        self.spawn(node);
        node
    }

    fn place(&mut self, ports: Ports, seeds: String) -> usize {
        let node = self.members.len();
        let data_dir = self.directory.join(&format!("node-{}", node + 1));
        self.members.push(Member {
            ports,
            data_dir,
            seeds,
            process: None,
        });
        node
    }

    /// Starts a node that does not run, and does not wait.
    ///
    /// # Panics
    ///
    /// When it runs.
    pub fn spawn(&mut self, node: usize) {
        let id = (node + 1).to_string();
        let member = &mut self.members[node];
        assert!(member.process.is_none(), "node {id} runs");
        let Ports { kafka, peers, http } = member.ports;
        let mut arguments: Vec<String> = Vec::new();
        for setting in [
            format!("kafka.port={kafka}"),
            format!("peers.port={peers}"),
            format!("http.port={http}"),
            // Small, since a machine may run many nodes.
            "storage.journal_file_bytes=8MiB".to_owned(),
        ]
        .iter()
        .chain(&self.settings)
        {
            let setting = setting.replace("{node}", &id);
            arguments.extend(["--set".to_owned(), setting]);
        }
        if let Some(proxies) = &self.proxies {
            let address = proxies.address(node);
            for setting in [
                format!("peers.advertised_host={}", address.ip()),
                format!("peers.advertised_port={}", address.port()),
            ] {
                arguments.extend(["--set".to_owned(), setting]);
            }
        }
        arguments.extend(["--node-id".to_owned(), id]);
        if !member.seeds.is_empty() {
            arguments.extend(["--seeds".to_owned(), member.seeds.clone()]);
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        member.process = Some(Process::spawn(&self.binary, &member.data_dir, &arguments));
    }

    /// Waits until every node that was spawned is ready.
    ///
    /// # Panics
    ///
    /// When one does not get ready.
    pub fn wait_ready(&mut self) {
        assert!(self.all_ready(), "a node's port was taken");
    }

    /// Waits for every node that was spawned; false when a port was taken.
    fn all_ready(&mut self) -> bool {
        let logs = |cluster: &Cluster| cluster.logs();
        let deadline = storage::clock::Clock::system();
        loop {
            let mut waiting = 0;
            for member in &mut self.members {
                let Some(process) = &mut member.process else {
                    continue;
                };
                if let Some(status) = process.ended() {
                    if status.code() == Some(CONFLICT) && process.log().contains("is in use") {
                        return false;
                    }
                    panic!("a node ended with {status}: {}", process.log());
                }
                waiting += usize::from(!process.is_ready());
            }
            if waiting == 0 {
                return true;
            }
            let waited_ms = u128::try_from(deadline.monotonic_ms()).unwrap_or(0);
            assert!(
                waited_ms < crate::PATIENCE.as_millis(),
                "{waiting} nodes did not get ready:\n{}",
                logs(self)
            );
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// How many nodes there are, whether they run or not.
    #[must_use]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The nodes that run.
    #[must_use]
    pub fn running(&self) -> Vec<usize> {
        let members = self.members.iter().enumerate();
        let running = members.filter(|(_, member)| member.process.is_some());
        running.map(|(node, _)| node).collect()
    }

    /// The id that a node was given.
    ///
    /// # Panics
    ///
    /// When it is not ready.
    #[must_use]
    pub fn id(&self, node: usize) -> u32 {
        self.known_id(node).expect("a ready node has an id")
    }

    /// The id that a node was given, if it runs and is ready.
    #[must_use]
    pub fn known_id(&self, node: usize) -> Option<u32> {
        let process = self.members[node].process.as_ref()?;
        u32::try_from(process.ready()["node_id"].as_u64()?).ok()
    }

    /// Where a node's Kafka listener is.
    #[must_use]
    pub fn kafka(&self, node: usize) -> String {
        format!("127.0.0.1:{}", self.members[node].ports.kafka)
    }

    /// Where a node's listener for other nodes is.
    #[must_use]
    pub fn peers(&self, node: usize) -> String {
        self.members[node].ports.seed()
    }

    /// What stands between the nodes.
    ///
    /// # Panics
    ///
    /// When nothing does.
    #[must_use]
    pub fn proxies(&self) -> &Proxies {
        self.proxies.as_ref().expect("started behind proxies")
    }

    /// Where a node's HTTP listener is.
    #[must_use]
    pub fn http(&self, node: usize) -> String {
        format!("127.0.0.1:{}", self.members[node].ports.http)
    }

    /// Where a node's data is.
    #[must_use]
    pub fn data_dir(&self, node: usize) -> PathBuf {
        self.members[node].data_dir.clone()
    }

    /// Every node's Kafka listener.
    #[must_use]
    pub fn bootstrap(&self) -> Vec<String> {
        (0..self.len()).map(|node| self.kafka(node)).collect()
    }

    /// A client that begins at any node and does not wait long for one that is paused.
    #[must_use]
    pub fn client(&self) -> ClusterClient {
        client(self.bootstrap())
    }

    /// The process of a node.
    ///
    /// # Panics
    ///
    /// When it does not run.
    #[must_use]
    pub fn process(&self, node: usize) -> &Process {
        let process = self.members[node].process.as_ref();
        process.expect("the node runs")
    }

    /// Ends a node as a power cut would.
    ///
    /// # Panics
    ///
    /// When it does not run.
    pub fn kill(&mut self, node: usize) {
        self.take(node).kill();
    }

    /// Stops a node in good order.
    ///
    /// # Panics
    ///
    /// When it does not run, or does not stop.
    pub fn stop(&mut self, node: usize) -> ExitStatus {
        self.take(node).terminate()
    }

    fn take(&mut self, node: usize) -> Process {
        let process = self.members[node].process.take();
        process.expect("the node runs")
    }

    /// Stops a node in its tracks.
    pub fn pause(&self, node: usize) {
        self.process(node).signal(Signal::STOP);
    }

    /// Lets a paused node go on.
    pub fn resume(&self, node: usize) {
        self.process(node).signal(Signal::CONT);
    }

    /// Starts a node that was ended, and waits until it is ready.
    ///
    /// # Panics
    ///
    /// When it runs, or does not get ready.
    pub fn restart(&mut self, node: usize) {
        self.spawn(node);
        self.wait_ready();
    }

    /// What an operator is answered by a node.
    pub fn request(
        &self,
        node: usize,
        method: &str,
        path: &str,
        body: &str,
    ) -> std::io::Result<Answer> {
        request(&self.http(node), method, path, body)
    }

    /// The cluster as a node sees it; `None` when it does not answer.
    #[must_use]
    pub fn status_of(&self, node: usize) -> Option<Value> {
        let answer = self.request(node, "GET", "/v1/cluster", "").ok()?;
        (answer.status == 200).then(|| answer.json())
    }

    /// Waits until some node that runs sees the cluster so.
    ///
    /// # Panics
    ///
    /// When none does in time.
    #[track_caller]
    pub fn wait_until(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let last = std::cell::RefCell::new(Value::Null);
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            eventually_within(CLUSTER_PATIENCE, what, || {
                self.running().into_iter().find_map(|node| {
                    let status = self.status_of(node)?;
                    last.replace(status.clone());
                    is_so(&status).then_some(status)
                })
            })
        }));
        found.unwrap_or_else(|_| {
            let last = last.borrow();
            panic!(
                "waited in vain for {what}; last seen: {last}\n{}",
                self.logs()
            )
        })
    }

    /// Waits until every node that runs sees so many nodes, all alive, and nothing amiss or moving.
    ///
    /// # Panics
    ///
    /// When it does not come to that in time.
    #[track_caller]
    pub fn wait_healthy(&self, nodes: usize) {
        for node in self.running() {
            let what = format!("node {} to see a healthy cluster of {nodes}", node + 1);
            self.wait_until(&what, |_| {
                self.status_of(node)
                    .is_some_and(|status| is_healthy(&status, nodes))
            });
        }
    }

    /// The node that leads a partition, by metadata.
    ///
    /// # Panics
    ///
    /// When nobody does in time.
    pub async fn leader(&self, topic: &str, partition: i32) -> usize {
        let client = self.client();
        let what = format!("a leader of {topic} {partition}");
        crate::deadline::eventually_async(&what, async || {
            let metadata = client.metadata(Some(&[topic])).await.ok()?;
            let topic = metadata.topics.into_iter().next()?;
            let mut partitions = topic.partitions.into_iter();
            let leader = partitions.find(|told| told.index == partition)?.leader;
            self.running()
                .into_iter()
                .find(|node| self.known_id(*node).map(i64::from) == Some(i64::from(leader)))
        })
        .await
    }

    /// What every running node has logged, for a test that fails.
    #[must_use]
    pub fn logs(&self) -> String {
        let mut all = String::new();
        for (node, member) in self.members.iter().enumerate() {
            if let Some(process) = &member.process {
                let log = process.log();
                let lines: Vec<&str> = log.lines().collect();
                let from = lines.len().saturating_sub(40);
                all.push_str(&format!(
                    "--- node {}\n{}\n",
                    node + 1,
                    lines[from..].join("\n")
                ));
            }
        }
        all
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
    }
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// A client of these addresses that does not wait long for one that is paused.
pub(crate) fn client(bootstrap: Vec<String>) -> ClusterClient {
    let connection = ConnectOptions {
        connect_timeout: std::time::Duration::from_millis(500),
        request_timeout: std::time::Duration::from_secs(3),
        ..ConnectOptions::default()
    };
    let options = ClusterOptions {
        connection,
        ..ClusterOptions::default()
    };
    ClusterClient::new(bootstrap, options)
}

fn is_healthy(status: &Value, nodes: usize) -> bool {
    let all = status["nodes"].as_array().map_or(&[][..], Vec::as_slice);
    let shards = status["shards"].as_array().map_or(&[][..], Vec::as_slice);
    all.len() == nodes
        && all.iter().all(|node| node["alive"] == true)
        && status["verdict"]["health"] == "healthy"
        && shards.iter().all(|shard| shard["target"].is_null())
}
