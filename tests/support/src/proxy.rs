//! Cuts between nodes without privileges: a TCP proxy before each node's peer port, which the node
//! advertises in place of its own.
//!
//! The proxy reads who dials from the first bytes of the hello (`raft/src/peer/hello.rs`):
//!
//! ```text
//! magic "BRDL" | version u16 | length u16 | purpose u8 | from u32 | ...
//! ```
//!
//! Two ways to cut. A black hole is a cable pulled: bytes stop, connections stay open and new ones
//! hang; what was sent meanwhile arrives when it is healed, as TCP sends it again. A refusal is a
//! firewall that answers: connections are reset, new ones too. Who is no member yet has no number,
//! and passes unless the node that it dials is isolated.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::thread::JoinHandle;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{oneshot, watch};

const MAGIC: &[u8] = b"BRDL";
/// Of the hello, up to and with the dialling node.
const HEAD_BYTES: usize = 13;
const BUFFER_BYTES: usize = 64 << 10;
const BACKLOG: u32 = 1_024;

/// How nodes are cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Bytes stop; connections stay open, and new ones hang.
    BlackHole,
    /// Connections are reset, and new ones refused.
    Refuse,
}

/// What is cut, by node index.
#[derive(Debug, Default)]
struct Rules {
    pairs: BTreeMap<(usize, usize), Cut>,
    isolated: BTreeMap<usize, Cut>,
}

/// The nodes at the ends of a connection; who dialled may be unknown.
#[derive(Debug, Clone, Copy)]
struct Ends {
    dialler: Option<usize>,
    dialled: usize,
}

#[derive(Debug, Clone, Copy)]
enum Way {
    /// From the one that dialled.
    Forth,
    Back,
}

impl Way {
    fn reverse(self) -> Way {
        match self {
            Way::Forth => Way::Back,
            Way::Back => Way::Forth,
        }
    }
}

impl Rules {
    fn pair(&self, from: usize, to: usize) -> Option<Cut> {
        self.pairs.get(&(from, to)).copied()
    }

    fn isolates(&self, ends: Ends, cut: Cut) -> bool {
        let is_cut = |node: usize| self.isolated.get(&node) == Some(&cut);
        is_cut(ends.dialled) || ends.dialler.is_some_and(is_cut)
    }

    /// Whether bytes do not get through that way.
    fn holds(&self, ends: Ends, way: Way) -> bool {
        let pair = ends.dialler.and_then(|dialler| match way {
            Way::Forth => self.pair(dialler, ends.dialled),
            Way::Back => self.pair(ends.dialled, dialler),
        });
        pair == Some(Cut::BlackHole) || self.isolates(ends, Cut::BlackHole)
    }

    /// Whether such a connection may not be.
    fn refuses(&self, ends: Ends) -> bool {
        let pair = ends
            .dialler
            .and_then(|dialler| self.pair(dialler, ends.dialled));
        pair == Some(Cut::Refuse) || self.isolates(ends, Cut::Refuse)
    }

    /// Whether nobody listens for that node.
    fn deafens(&self, node: usize) -> bool {
        self.isolated.get(&node) == Some(&Cut::Refuse)
    }
}

/// A proxy before each of some nodes. Node `n` of the cluster has index `n - 1` here.
#[derive(Debug)]
pub struct Proxies {
    addresses: Vec<SocketAddr>,
    rules: watch::Sender<Rules>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Proxies {
    /// Proxies to these addresses, on free ports.
    ///
    /// # Panics
    ///
    /// When the system does not give ports or a thread.
    #[must_use]
    pub fn start(targets: &[SocketAddr]) -> Proxies {
        let (rules, _) = watch::channel(Rules::default());
        let (stop, stopped) = oneshot::channel();
        let mut addresses = Vec::new();
        let mut listeners = Vec::new();
        for (node, target) in targets.iter().enumerate() {
            let place = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a free port");
            addresses.push(place.local_addr().expect("a bound socket has an address"));
            let target = *target;
            listeners.push(listen(place, node, target, rules.subscribe()));
        }
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_io()
                .build();
            let runtime = runtime.expect("a runtime can be made");
            runtime.block_on(async move {
                for listener in listeners {
                    tokio::spawn(listener);
                }
                // An error is the end of the sender: the same.
                let _ = stopped.await;
            });
        });
        Proxies {
            addresses,
            rules,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Where a node's proxy is.
    #[must_use]
    pub fn address(&self, node: usize) -> SocketAddr {
        self.addresses[node]
    }

    /// Cuts one way between two nodes. In a black hole no byte gets from `from` to `to`, whoever
    /// dialled, while bytes pass the other way on connections that stand; new ones need both ways.
    /// A refusal ends what `from` dialled, and lets it dial no more.
    pub fn cut(&self, from: usize, to: usize, cut: Cut) {
        self.rules.send_modify(|rules| {
            rules.pairs.insert((from, to), cut);
        });
    }

    /// Cuts a node off from all others, both ways.
    pub fn isolate(&self, node: usize, cut: Cut) {
        self.rules.send_modify(|rules| {
            rules.isolated.insert(node, cut);
        });
    }

    /// Ends every cut.
    pub fn heal(&self) {
        self.rules.send_replace(Rules::default());
    }
}

impl Drop for Proxies {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // Whatever it panicked with was printed.
            let _ = thread.join();
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Accepts for a node. `place` keeps the port while nobody listens on it, and is never used.
async fn listen(
    place: TcpSocket,
    node: usize,
    target: SocketAddr,
    mut rules: watch::Receiver<Rules>,
) {
    let address = place.local_addr().expect("a bound socket has an address");
    let told = rules.clone();
    while rules.wait_for(|rules| !rules.deafens(node)).await.is_ok() {
        let listener = bind(address).and_then(|socket| socket.listen(BACKLOG));
        let listener = listener.expect("the port was kept");
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    // A connection that ended before it was accepted is nobody's.
                    if let Ok((stream, _)) = accepted {
                        tokio::spawn(carry(stream, node, target, told.clone()));
                    }
                }
                changed = rules.wait_for(|rules| rules.deafens(node)) => {
                    if changed.is_err() {
                        return;
                    }
                    break;
                }
            }
        }
    }
}

/// Carries one connection to its end.
async fn carry(
    mut from: TcpStream,
    node: usize,
    target: SocketAddr,
    rules: watch::Receiver<Rules>,
) {
    let mut held = Vec::with_capacity(BUFFER_BYTES);
    while held.len() < HEAD_BYTES && is_hello(&held) {
        match from.read_buf(&mut held).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
    }
    let ends = Ends {
        dialler: dialler(&held),
        dialled: node,
    };
    let mut refused = rules.clone();
    let mut to = None;
    tokio::select! {
        // Only the end of the proxies errs.
        _ = refused.wait_for(|rules| rules.refuses(ends)) => reset(&from),
        opened = open(&mut from, &mut held, target, ends, rules.clone()) => match opened {
            Some(Ok(stream)) => to = Some(stream),
            Some(Err(_)) => reset(&from),
            None => {}
        },
    }
    let Some(mut to) = to else {
        return;
    };
    let (from_read, from_write) = from.split();
    let (to_read, to_write) = to.split();
    let carried = tokio::select! {
        _ = refused.wait_for(|rules| rules.refuses(ends)) => Err(io::ErrorKind::ConnectionReset.into()),
        carried = async {
            let forth = pump(from_read, to_write, held, ends, Way::Forth, rules.clone());
            let back = pump(to_read, from_write, Vec::new(), ends, Way::Back, rules.clone());
            tokio::try_join!(forth, back)
        } => carried,
    };
    if carried.is_err() {
        reset(&from);
        reset(&to);
    }
}

fn is_hello(begun: &[u8]) -> bool {
    let len = begun.len().min(MAGIC.len());
    begun[..len] == MAGIC[..len]
}

/// The index of the node that says hello.
fn dialler(begun: &[u8]) -> Option<usize> {
    let head = begun.first_chunk::<HEAD_BYTES>()?;
    let [.., a, b, c, d] = *head;
    let id = u32::from_le_bytes([a, b, c, d]);
    if !head.starts_with(MAGIC) {
        return None;
    }
    usize::try_from(id).ok()?.checked_sub(1)
}

/// Connects once bytes pass both ways, as a handshake needs them; `None` when the dialler has given
/// up before.
async fn open(
    from: &mut TcpStream,
    held: &mut Vec<u8>,
    target: SocketAddr,
    ends: Ends,
    mut rules: watch::Receiver<Rules>,
) -> Option<io::Result<TcpStream>> {
    loop {
        let passes =
            |rules: &Rules| !rules.holds(ends, Way::Forth) && !rules.holds(ends, Way::Back);
        tokio::select! {
            biased;
            waited = rules.wait_for(passes) => {
                waited.ok()?;
                break;
            }
            read = from.read_buf(held), if held.len() < BUFFER_BYTES => {
                if read.ok()? == 0 {
                    return None;
                }
            }
        }
    }
    let tune = |stream: TcpStream| {
        stream.set_nodelay(true)?;
        from.set_nodelay(true)?;
        Ok(stream)
    };
    Some(TcpStream::connect(target).await.and_then(tune))
}

/// Carries one way of a connection, its end too; `held` was read already.
async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    held: Vec<u8>,
    ends: Ends,
    way: Way,
    mut rules: watch::Receiver<Rules>,
) -> io::Result<()> {
    let mut buffer = held;
    loop {
        if !buffer.is_empty() {
            passes(&mut rules, ends, way).await?;
            if let Err(error) = to.write_all(&buffer).await {
                // That the other side is gone is news that travels back.
                passes(&mut rules, ends, way.reverse()).await?;
                return Err(error);
            }
            buffer.clear();
        }
        buffer.reserve(BUFFER_BYTES);
        let read = from.read_buf(&mut buffer).await;
        passes(&mut rules, ends, way).await?;
        if read? == 0 {
            return to.shutdown().await;
        }
    }
}

async fn passes(rules: &mut watch::Receiver<Rules>, ends: Ends, way: Way) -> io::Result<()> {
    let waited = rules.wait_for(|rules| !rules.holds(ends, way)).await;
    waited.map(drop).map_err(io::Error::other)
}

/// Makes the connection end by a reset when it is dropped.
fn reset(stream: &TcpStream) {
    // It fails only when it has ended already.
    let _ = stream.set_zero_linger();
}
