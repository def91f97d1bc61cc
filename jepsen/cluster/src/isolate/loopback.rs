//! All nodes on 127.0.0.1, for who is not root: a proxy before each node's peer port, which the node
//! advertises in place of its own, and one for each client before its Kafka port.
//!
//! A proxy reads who dials from the first bytes of the hello between nodes:
//!
//! ```text
//! magic "BRDL" | version u16 | length u16 | purpose u8 | from u32 | ...
//! ```
//!
//! A cut is a cable pulled: bytes stop, connections stay open and new ones hang. Who is no member yet
//! has no number, and passes. A lost packet is one that comes late, as TCP sends it again; there is no
//! overtaking within a connection.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jepsen_workload::fault::NodeId;
use jepsen_workload::random::Random;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::place::Place;
use super::rules::{End, Rules};
use super::{Addresses, Link, Probed};

const MAGIC: &[u8] = b"BRDL";
/// Of the hello, up to and with the dialling node.
const HEAD_BYTES: usize = 13;
const BUFFER_BYTES: usize = 32 << 10;
/// Pieces of one connection that are on their way.
const PIECES_MAX: usize = 256;
/// How late a lost packet comes.
const AGAIN: Duration = Duration::from_millis(200);
/// Longer than a heartbeat between nodes, so that a link that works shows it.
const PROBE_WAIT: Duration = Duration::from_millis(400);

type Job = Box<dyn FnOnce() + Send>;

/// The proxies of a run; they end when this value is dropped.
#[derive(Debug)]
pub(crate) struct Loopback {
    shared: Arc<Shared>,
    place: Place,
    clients: u32,
    kafka: Mutex<BTreeMap<(u32, NodeId), SocketAddr>>,
    todo: mpsc::UnboundedSender<Job>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    rules: watch::Sender<Rules>,
    /// Bytes that passed on a link.
    passed: Mutex<BTreeMap<(End, End), Arc<AtomicU64>>>,
    random: Mutex<Random>,
}

impl Shared {
    fn counter(&self, from: End, to: End) -> Arc<AtomicU64> {
        let mut passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(passed.entry((from, to)).or_default())
    }

    /// When what came now may go on.
    fn due(&self, from: End, to: End) -> Option<Instant> {
        let shape = self.rules.borrow().shape_of(from, to)?;
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        let again = match shape.draw_loss(&mut random) {
            true => AGAIN,
            false => Duration::ZERO,
        };
        Some(Instant::now() + shape.draw_delay(&mut random) + again)
    }
}

impl Loopback {
    pub(super) fn make(clients: u32, seed: u64) -> io::Result<Loopback> {
        let (todo, mut jobs) = mpsc::unbounded_channel::<Job>();
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let thread = std::thread::Builder::new().name("proxies".to_owned());
        let thread = thread.spawn(move || {
            runtime.block_on(async move {
                tokio::select! {
                    // An error is the end of the sender: the same.
                    _ = stopped => {}
                    () = async { while let Some(job) = jobs.recv().await { job() } } => {}
                }
            });
        })?;
        Ok(Loopback {
            shared: Arc::new(Shared {
                rules: watch::channel(Rules::default()).0,
                passed: Mutex::default(),
                random: Mutex::new(Random::new(seed)),
            }),
            place: Place::here("nodes")?,
            clients,
            kafka: Mutex::default(),
            todo,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    pub(super) fn add(&self, node: NodeId) -> io::Result<Addresses> {
        let [kafka, peers, http] = free_ports()?;
        let before_peers = self.proxy(peers, move |begun| Ends {
            dialler: dialler(begun).map_or(End::Harness, End::Node),
            dialled: End::Node(node),
        })?;
        for client in 0..self.clients {
            let address = self.proxy(kafka, move |_| Ends {
                dialler: End::Client(client),
                dialled: End::Node(node),
            })?;
            let mut all = self.kafka.lock().unwrap_or_else(PoisonError::into_inner);
            all.insert((client, node), address);
        }
        let mut all = self.kafka.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert((u32::MAX, node), local(kafka));
        Ok(Addresses {
            settings: vec![
                format!("kafka.port={kafka}"),
                format!("peers.port={peers}"),
                format!("http.port={http}"),
                format!("peers.advertised_host={}", before_peers.ip()),
                format!("peers.advertised_port={}", before_peers.port()),
            ],
            peers: before_peers.to_string(),
            http: local(http).to_string(),
        })
    }

    /// Starts a proxy to a port, and says where it listens.
    fn proxy(
        &self,
        port: u16,
        ends: impl Fn(&[u8]) -> Ends + Clone + Send + 'static,
    ) -> io::Result<SocketAddr> {
        let listener = StdListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let shared = Arc::clone(&self.shared);
        let job: Job = Box::new(move || match TcpListener::from_std(listener) {
            Ok(listener) => drop(tokio::spawn(listen(listener, port, ends, shared))),
            Err(error) => tracing::error!(%error, "a proxy cannot listen"),
        });
        let sent = self.todo.send(job);
        sent.map_err(|_| io::Error::other("the proxies have ended"))?;
        Ok(address)
    }

    pub(super) fn spawn(&self, mut command: Command) -> io::Result<Child> {
        self.place.run(move || command.spawn())?
    }

    pub(super) fn kafka(&self, client: u32, node: NodeId) -> Option<String> {
        let all = self.kafka.lock().unwrap_or_else(PoisonError::into_inner);
        let own = all.get(&(client, node));
        // A client that nobody announced goes the harness's way.
        let address = own.or_else(|| all.get(&(u32::MAX, node)));
        address.map(SocketAddr::to_string)
    }

    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Rules) -> T) -> T {
        let mut out = None;
        self.shared
            .rules
            .send_modify(|rules| out = Some(change(rules)));
        out.expect("send_modify calls what it is given")
    }

    /// Looks over which links bytes pass. A link on which nobody says anything does not show.
    pub(super) fn probe(&self, links: &[Link]) -> Probed {
        let counters: Vec<(Link, Arc<AtomicU64>, u64)> = links
            .iter()
            .map(|(from, to)| {
                let counter = self.shared.counter(End::Node(*from), End::Node(*to));
                let before = counter.load(Ordering::Relaxed);
                ((*from, *to), counter, before)
            })
            .collect();
        std::thread::sleep(PROBE_WAIT + self.shared.rules.borrow().delay_max());
        let moved = counters.into_iter().filter_map(|(link, counter, before)| {
            (counter.load(Ordering::Relaxed) > before).then_some((link, None))
        });
        Probed {
            passed: moved.collect(),
            by: "bytes through the proxies",
        }
    }
}

impl Drop for Loopback {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // Whatever it panicked with was printed.
            let _ = thread.join();
        }
    }
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Ports on which nobody listens now, below those that the system gives to outgoing connections: one
/// of those may be taken by some connection just when the node that had it starts again.
fn free_ports() -> io::Result<[u16; 3]> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    const LOWEST: u64 = 14_000;
    const COUNT: u64 = 16_000;
    let begin = u64::from(std::process::id()) * 37;
    let mut found = Vec::new();
    for _ in 0..COUNT {
        let at = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = LOWEST + (begin + at) % COUNT;
        let port = u16::try_from(port).map_err(io::Error::other)?;
        if StdListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            found.push(port);
        }
        if let Ok(ports) = <[u16; 3]>::try_from(&found[..]) {
            return Ok(ports);
        }
    }
    Err(io::Error::other("no three ports of 127.0.0.1 are free"))
}

/// Who is at the ends of a connection.
#[derive(Debug, Clone, Copy)]
struct Ends {
    dialler: End,
    dialled: End,
}

async fn listen(
    listener: TcpListener,
    port: u16,
    ends: impl Fn(&[u8]) -> Ends + Clone + Send + 'static,
    shared: Arc<Shared>,
) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let (ends, shared) = (ends.clone(), Arc::clone(&shared));
                tokio::spawn(async move {
                    // A connection that breaks is news for its ends, which hear of it.
                    let _ = carry(stream, port, ends, shared).await;
                });
            }
            // Too many descriptors, or a connection that is gone before it was accepted.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

/// Carries one connection to its end.
async fn carry(
    mut from: TcpStream,
    port: u16,
    ends: impl Fn(&[u8]) -> Ends,
    shared: Arc<Shared>,
) -> io::Result<()> {
    from.set_nodelay(true)?;
    let mut begun = Vec::with_capacity(BUFFER_BYTES);
    // Clients' proxies know who dials; so does the first byte tell that it is no hello.
    let mut at = ends(&begun);
    if !matches!(at.dialler, End::Client(_)) {
        while begun.len() < HEAD_BYTES && is_hello(&begun) {
            if from.read_buf(&mut begun).await? == 0 {
                break;
            }
        }
        at = ends(&begun);
    }
    let Ends { dialler, dialled } = at;
    // A handshake needs both ways.
    let mut rules = shared.rules.subscribe();
    let both = |rules: &Rules| rules.passes(dialler, dialled) && rules.passes(dialled, dialler);
    rules.wait_for(both).await.map_err(io::Error::other)?;
    let to = match TcpStream::connect(local(port)).await {
        Ok(to) => to,
        Err(error) => {
            from.set_zero_linger()?;
            return Err(error);
        }
    };
    to.set_nodelay(true)?;
    let (from_read, from_write) = from.into_split();
    let (to_read, to_write) = to.into_split();
    let forth = pump(from_read, to_write, begun, (dialler, dialled), &shared);
    let back = pump(to_read, from_write, Vec::new(), (dialled, dialler), &shared);
    // Either ends by an error when its connection breaks, and takes the other with it.
    tokio::try_join!(forth, back).map(drop)
}

fn is_hello(begun: &[u8]) -> bool {
    let len = begun.len().min(MAGIC.len());
    begun[..len] == MAGIC[..len]
}

/// The node that says hello.
fn dialler(begun: &[u8]) -> Option<NodeId> {
    let head = begun.first_chunk::<HEAD_BYTES>()?;
    let [.., a, b, c, d] = *head;
    let id = u32::from_le_bytes([a, b, c, d]);
    (head.starts_with(MAGIC) && id > 0).then_some(id)
}

/// Bytes on their way, and when they may arrive; none at all is the end.
type Piece = (Option<Instant>, Vec<u8>);

/// Carries one way of a connection, its end too; `begun` was read already.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    begun: Vec<u8>,
    (sender, receiver): (End, End),
    shared: &Shared,
) -> io::Result<()> {
    let (pieces, mut arriving) = mpsc::channel::<Piece>(PIECES_MAX);
    let read = async move {
        let mut piece = begun;
        let mut is_first = true;
        loop {
            if !is_first || piece.is_empty() {
                piece.reserve(BUFFER_BYTES);
                if let Err(error) = from.read_buf(&mut piece).await {
                    // That the sender broke off is news that travels the same way.
                    passes(shared, sender, receiver).await?;
                    return Err(error);
                }
            }
            is_first = false;
            let is_end = piece.is_empty();
            let due = shared.due(sender, receiver);
            let piece = std::mem::take(&mut piece);
            let sent = pieces.send((due, piece)).await;
            if is_end || sent.is_err() {
                return Ok::<(), io::Error>(());
            }
        }
    };
    let write = async {
        let passed = shared.counter(sender, receiver);
        while let Some((due, piece)) = arriving.recv().await {
            if let Some(due) = due {
                tokio::time::sleep_until(due).await;
            }
            passes(shared, sender, receiver).await?;
            if piece.is_empty() {
                return to.shutdown().await;
            }
            if let Err(error) = to.write_all(&piece).await {
                // That the receiver is gone is news that travels back.
                passes(shared, receiver, sender).await?;
                return Err(error);
            }
            passed.fetch_add(u64::try_from(piece.len()).unwrap_or(0), Ordering::Relaxed);
        }
        Ok(())
    };
    tokio::try_join!(read, write).map(drop)
}

/// Waits until bytes pass that way.
async fn passes(shared: &Shared, from: End, to: End) -> io::Result<()> {
    let mut rules = shared.rules.subscribe();
    let waited = rules.wait_for(|rules| rules.passes(from, to)).await;
    waited.map(drop).map_err(io::Error::other)
}
