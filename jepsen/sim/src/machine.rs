//! A simulated machine: its disk, its clock, its place in the network, and the node that runs on it.
//!
//! The node is a whole one, with its own paused runtimes and storage threads that take turns; it is
//! run by [`Machine::tick`] only, one millisecond at a time.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use braidlog::config::{Config, Durability};
use braidlog::node::{Node, NodeError};
use braidlog::units::{ByteSize, Period};
use broker::{Broker, Env};
use jepsen_workload::fault::NodeId;
use net::sim::{Host, Kill, Network};
use storage::clock::Clock;
use storage::disk::{Disk, OpKind, SimDisk};
use storage::journal::{self, JournalReport};
use storage::turns::Turns;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::trace::Trace;

/// Where a node's data lives on its disk.
pub(crate) const DATA_DIR: &str = "/data";
/// A tick: so much time passes at once.
pub(crate) const TICK: Duration = Duration::from_millis(1);
/// How often everything that is ready gets to run within a tick: so many hops between a node's
/// runtimes and threads take no time.
const PASSES: usize = 4;
/// How often a pass lets a runtime go round.
const ROUNDS: usize = 3;
pub(crate) const PEERS_PORT: u16 = 9094;
const KAFKA_PORT: u16 = 9092;
/// How long a write and a sync take.
pub(crate) const WRITE_US: u64 = 0;
pub(crate) const SYNC_US: u64 = 1_000;

/// What all machines of a run have in common.
#[derive(Debug, Clone)]
pub(crate) struct Common {
    pub(crate) seed: u64,
    pub(crate) durability: Durability,
    /// The nodes that found the cluster.
    pub(crate) founders: u32,
}

/// What was done to a disk since its journal was read last, for which its node cannot be blamed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Excuse {
    /// Nothing: what was durable is there.
    #[default]
    None,
    /// One bit of the journal flipped: where nothing follows it, nobody can tell that the last round
    /// was ever whole.
    LastRound,
    /// More than that.
    All,
}

/// A disk as a node finds it when it starts.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) excuse: Excuse,
    pub(crate) journal: JournalReport,
    /// The file that names the node's incarnation; empty without one.
    pub(crate) identity: Vec<u8>,
    /// It has lost its memory and the others have not taken it back yet.
    pub(crate) is_returning: bool,
}

/// A machine and its node.
pub(crate) struct Machine {
    pub(crate) id: NodeId,
    pub(crate) disk: SimDisk,
    pub(crate) host: Host,
    seeds: Vec<String>,
    clock: Clock,
    common: Arc<Common>,
    trace: Trace,
    process: Option<Process>,
    /// Stands still.
    pub(crate) is_paused: bool,
    /// Time that it has not lived through.
    missed: Duration,
    runs: u64,
    /// Brokers that have served here: a node whose disk fails starts over with another one.
    lives: u64,
    is_serving: bool,
    /// Why its process ended by itself.
    pub(crate) ended: Option<String>,
    /// Files of its were changed behind its back, or it was lied to, at some time.
    pub(crate) is_damaged: bool,
    /// What was done to the disk since the last start.
    excuse: Excuse,
    /// What had been done to it before that.
    excuse_at_start: Excuse,
    /// Its syncs lie.
    is_lied_to: bool,
    /// They do, or have done and power was not cut since.
    owes_syncs: bool,
    /// What the present run has found, until somebody looks at it.
    found: Option<Found>,
    /// Its node must not be started again before the machine has booted.
    pub(crate) must_boot: bool,
    /// So many things keep its node down.
    held: u32,
    /// Power is off; the seed decides what is left on the disk.
    cut: Option<u64>,
}

/// A run of a node.
struct Process {
    runtime: Runtime,
    turns: Turns,
    starting: Option<JoinHandle<Result<Node, NodeError>>>,
    node: Option<Node>,
    broker: Option<watch::Receiver<Option<Broker>>>,
}

/// A runtime whose time stands still but when it is stepped.
pub(crate) fn paused_runtime() -> io::Result<Runtime> {
    Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
}

/// A node's address.
pub(crate) fn address(id: NodeId) -> IpAddr {
    let [_, _, high, low] = id.to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(10, 0, high, low))
}

/// Where clients reach a node's Kafka listener, given the address that they use.
pub(crate) fn kafka_address(ip: IpAddr) -> String {
    format!("{ip}:{KAFKA_PORT}")
}

/// Lets everything in a runtime run that is ready, without time.
pub(crate) fn go_round(runtime: &Runtime) {
    runtime.block_on(async {
        for _ in 0..ROUNDS {
            tokio::task::yield_now().await;
        }
    });
}

impl Machine {
    /// A machine with an empty disk.
    pub(crate) fn new(
        id: NodeId,
        seeds: Vec<String>,
        common: Arc<Common>,
        network: &Network,
        trace: &Trace,
    ) -> Machine {
        let disk = SimDisk::new(common.seed.wrapping_mul(1_000).wrapping_add(u64::from(id)));
        disk.set_latency(WRITE_US, SYNC_US);
        Machine {
            id,
            disk,
            host: network.host(address(id)),
            seeds,
            clock: Clock::skewed(0),
            common,
            trace: trace.clone(),
            process: None,
            is_paused: false,
            missed: Duration::ZERO,
            runs: 0,
            lives: 0,
            is_serving: false,
            ended: None,
            is_damaged: false,
            excuse: Excuse::None,
            excuse_at_start: Excuse::None,
            is_lied_to: false,
            owes_syncs: false,
            found: None,
            must_boot: false,
            held: 0,
            cut: None,
        }
    }

    fn config(&self) -> Config {
        let mut config = Config {
            node_id: Some(self.id),
            data_dir: PathBuf::from(DATA_DIR),
            seeds: self.seeds.clone(),
            durability: self.common.durability,
            ..Config::default()
        };
        let host = address(self.id).to_string();
        config.kafka.host.clone_from(&host);
        config.peers.host.clone_from(&host);
        config.http.host = host;
        config.topics.auto_create = false;
        // Few, since every node follows its own; and short, since a run is.
        config.groups.offsets_partitions = 4;
        config.groups.initial_rebalance_delay = Period { ms: 500 };
        config.groups.consumer_session_timeout = Period::from_secs(6);
        config.groups.consumer_heartbeat_interval = Period::from_secs(1);
        let storage = &mut config.storage;
        storage.shards = 2;
        storage.tail_bytes_max = ByteSize(1 << 20);
        storage.journal_file_bytes = ByteSize(256 << 10);
        // Small enough in some runs that the catalogue makes checkpoints too.
        let checkpoint_kib = [4, 16, 128][(self.common.seed % 3) as usize];
        storage.checkpoint_journal_bytes = ByteSize(checkpoint_kib << 10);
        storage.upkeep_interval = Period { ms: 1_000 };
        storage.use_mmap = false;
        config
    }

    /// Whether a process runs, be it stopped for a while.
    pub(crate) fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// The broker, when the node serves.
    pub(crate) fn broker(&self) -> Option<Broker> {
        let process = self.process.as_ref()?;
        process.broker.as_ref()?.borrow().clone()
    }

    /// Which broker serves here: another one after each start, be it within one process.
    pub(crate) fn life(&self) -> u64 {
        self.lives
    }

    /// Notes whether a broker serves.
    fn note_life(&mut self) {
        let is_serving = self.broker().is_some();
        if is_serving && !self.is_serving {
            self.lives += 1;
        }
        self.is_serving = is_serving;
    }

    /// Something keeps the node down from now on.
    pub(crate) fn hold(&mut self) {
        self.held += 1;
    }

    /// One thing less keeps the node down.
    pub(crate) fn release(&mut self) {
        self.held = self.held.saturating_sub(1);
    }

    /// Nothing keeps the node down any more.
    pub(crate) fn release_all(&mut self) {
        self.held = 0;
    }

    /// Whether something keeps the node down.
    pub(crate) fn is_held(&self) -> bool {
        self.held > 0
    }

    /// Files were changed behind the node's back.
    pub(crate) fn note_damage(&mut self, excuse: Excuse) {
        self.is_damaged = true;
        self.excuse = match (self.excuse, excuse) {
            (Excuse::LastRound, Excuse::LastRound) => Excuse::All,
            (before, now) => before.max(now),
        };
    }

    /// From now on, and until power was cut after it is mended, syncs do nothing.
    pub(crate) fn lie_about_syncs(&mut self) {
        self.disk.lie_about_syncs(true);
        self.is_lied_to = true;
        self.is_damaged = true;
        self.owes_syncs = true;
    }

    /// What may be missing since the start of the present run, or was when it started.
    pub(crate) fn excuse(&self) -> Excuse {
        self.excuse.max(self.excuse_at_start)
    }

    /// Whether all that a node has answered for stays on its disk, whatever ends it.
    pub(crate) fn keeps_all(&self) -> bool {
        self.common.durability == Durability::Fsync
    }

    /// What the present run has found on the disk; nothing when that was asked before.
    pub(crate) fn take_found(&mut self) -> Option<Found> {
        self.found.take()
    }

    /// Whether the node says that it has lost its memory and has to be taken back.
    pub(crate) fn is_returning(&self) -> bool {
        let marker = Path::new(DATA_DIR).join("returning");
        Disk::Sim(self.disk.clone())
            .exists(&marker)
            .unwrap_or(false)
    }

    /// Reads what is there, before the node does and as strictly: `keeps_written` unless power was
    /// cut since the last run.
    fn look_at_disk(&self, keeps_written: bool) -> Found {
        let disk = Disk::Sim(self.disk.clone());
        let dir = Path::new(DATA_DIR);
        let verify = match keeps_written {
            true => journal::verify_kept,
            false => journal::verify,
        };
        Found {
            excuse: self.excuse_at_start,
            journal: verify(&disk, &dir.join("journal")),
            identity: disk.read_file(&dir.join("identity")).unwrap_or_default(),
            is_returning: self.is_returning(),
        }
    }

    /// The disk works again; what it has forgotten stays forgotten.
    pub(crate) fn mend_disk(&mut self) {
        let disk = &self.disk;
        disk.set_failing(OpKind::Sync, None);
        disk.set_failing(OpKind::Write, None);
        disk.set_capacity(u64::MAX);
        disk.set_latency(WRITE_US, SYNC_US);
        disk.lie_about_syncs(false);
        self.is_lied_to = false;
    }

    /// The machine boots, which ends what is wrong with its system.
    pub(crate) fn reboot(&mut self) {
        self.cut_power(self.runs);
        self.must_boot = false;
    }

    /// Starts the node, unless it runs or is kept down; the machine boots before if it has to.
    pub(crate) fn start(&mut self) -> io::Result<()> {
        if self.process.is_some() || self.held > 0 {
            return Ok(());
        }
        self.excuse_at_start = match self.owes_syncs {
            true => Excuse::All,
            false => self.excuse,
        };
        self.excuse = Excuse::None;
        let cut = self.cut.take();
        if let Some(seed) = cut {
            self.disk.crash(seed);
            self.owes_syncs = self.is_lied_to;
        }
        self.found = Some(self.look_at_disk(cut.is_none()));
        self.runs += 1;
        self.ended = None;
        self.is_paused = false;
        self.missed = Duration::ZERO;
        self.host.power_on();
        let seed = [self.common.seed, u64::from(self.id), self.runs, 4];
        let env = Env {
            clock: self.clock.clone(),
            disk: Disk::Sim(self.disk.process()),
            seed,
        };
        let config = self.config();
        let turns = Turns::new(self.common.seed ^ (u64::from(self.id) << 32) ^ self.runs);
        turns.set_now_us(crate::entropy::now_us());
        let runtime = paused_runtime()?;
        let starting = {
            let _host = self.host.enter();
            let _turns = turns.enter();
            runtime.spawn(Node::start(config, env))
        };
        self.trace.line("start", format_args!("run {}", self.runs));
        self.process = Some(Process {
            runtime,
            turns,
            starting: Some(starting),
            node: None,
            broker: None,
        });
        Ok(())
    }

    /// Ends the process at once, as SIGKILL does: what was written stays, synced or not.
    pub(crate) fn kill(&mut self) {
        self.disk.kill_processes();
        self.end(Kill::Process);
    }

    /// Takes the power away; `seed` decides what is left of what was not synced.
    pub(crate) fn cut_power(&mut self, seed: u64) {
        self.disk.cut_power();
        self.end(Kill::Power);
        self.cut = Some(seed);
        if !self.keeps_all() {
            self.excuse = Excuse::All;
        }
    }

    fn end(&mut self, how: Kill) {
        self.is_serving = false;
        self.trace.set_host(self.id);
        let Some(mut process) = self.process.take() else {
            self.host.kill(how);
            return;
        };
        {
            let _host = self.host.enter();
            let _turns = process.turns.enter();
            self.host.kill(how);
            process.starting = None;
            process.broker = None;
            drop(process.node.take());
            // Tasks end here; nothing runs beside this thread.
            process.runtime.shutdown_background();
            process.turns.run_ready();
            let left = process.turns.threads();
            if !left.is_empty() {
                self.trace.line("left", format_args!("{left:?}"));
            }
        }
        self.is_paused = false;
        self.trace.set_host(0);
    }

    /// Sets the wall clock wrong by so much.
    pub(crate) fn set_clock_offset_ms(&mut self, offset_ms: i64) {
        self.clock.set_wrong_by_ms(offset_ms);
    }

    /// Wall clock minus true time, as the node reads it.
    pub(crate) fn wall_clock_error_ms(&self) -> i64 {
        self.clock.wall_ms() - Clock::skewed(0).wall_ms()
    }

    /// Has a future run on the node, as a task of its; nothing when the node does not run.
    pub(crate) fn spawn<F>(&self, future: F) -> bool
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let Some(process) = &self.process else {
            return false;
        };
        let _host = self.host.enter();
        let _turns = process.turns.enter();
        process.runtime.spawn(future);
        true
    }

    /// Lets the node live for a tick that ends at `end_us`.
    pub(crate) fn tick(&mut self, end_us: u64) {
        let Some(process) = self.process.as_mut() else {
            return;
        };
        if self.is_paused {
            self.missed += TICK;
            return;
        }
        self.trace.set_host(self.id);
        let _host = self.host.enter();
        let _turns = process.turns.enter();
        if !self.missed.is_zero() {
            // Timers that were due meanwhile are all due at once.
            let missed = std::mem::take(&mut self.missed);
            for worker in self.host.workers() {
                worker.run(|runtime| runtime.block_on(tokio::time::advance(missed)));
            }
            process.runtime.block_on(tokio::time::advance(missed));
        }
        for _ in 0..PASSES {
            go_round(&process.runtime);
            for worker in self.host.workers() {
                worker.run(go_round);
            }
            process.turns.run_ready();
        }
        process
            .runtime
            .block_on(async { tokio::time::sleep(TICK).await });
        for worker in self.host.workers() {
            worker.step(TICK);
        }
        process.turns.set_now_us(end_us);
        process.turns.run_ready();
        let ended = process.look();
        drop(_turns);
        drop(_host);
        if let Some((reason, must_boot)) = ended {
            self.must_boot = must_boot;
            self.trace.line("ended", format_args!("{reason}"));
            self.kill();
            self.ended = Some(reason);
        }
        self.note_life();
        self.trace.set_host(0);
    }
}

impl Process {
    /// Takes note of what became of the start; why the process has ended, if it has.
    fn look(&mut self) -> Option<(String, bool)> {
        if self.starting.as_ref().is_some_and(JoinHandle::is_finished)
            && let Some(starting) = self.starting.take()
        {
            match self.runtime.block_on(starting) {
                Ok(Ok(node)) => {
                    self.broker = Some(node.broker());
                    self.node = Some(node);
                }
                Ok(Err(error)) => return Some((error.to_string(), false)),
                Err(error) => return Some((format!("its start panicked: {error}"), false)),
            }
        }
        let broker = self.broker.as_ref()?;
        broker
            .has_changed()
            .is_err()
            .then(|| ("the node ended by itself".to_owned(), true))
    }
}
