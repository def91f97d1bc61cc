//! The listening side: who connects says hello within a deadline, is judged by the book, and is
//! handed to [`Served`]. Garbage costs its sender the connection and nobody else anything.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use net::{TcpListener, TcpStream};
use storage::NodeId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::hello::{self, Hello, HelloError, Purpose, VERSION, Welcome};
use super::serve::{STRANGERS_BYTES_MAX, Served};
use super::socket::{self, Socket};
use super::stream::Budget;
use super::throttle::{Telling, Throttle};
use super::twins::{Holder, Twins};
use super::{Caller, Lane, PeersConfig, Refusal, RefusedReason, Shared};

/// For the TLS handshake and the hello.
const HELLO_MAX: Duration = Duration::from_secs(5);
/// Read of what is no hello before the connection is dropped.
const UNREAD_BYTES_MAX: usize = 64 << 10;
/// Connections that have not said hello yet.
const GREETINGS_MAX: usize = 128;
/// Strangers at once.
const STRANGERS_MAX: usize = 64;
/// After a failed accept: most likely file descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Refused nodes whose refusal was logged.
const LOGGED_MAX: usize = 256;

/// The connections that were let in.
#[derive(Debug)]
pub(super) struct Door {
    connections: Arc<Semaphore>,
    greetings: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
    /// For the requests of all strangers.
    pub(super) stranger_bytes: Budget,
    /// A process is heard of at least that often while it lives.
    silence_max: Duration,
    refusals: Throttle,
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    /// One per node and lane, all of a node from one process: a newer connection of that takes the
    /// place of the older, which is surely broken.
    served: BTreeMap<(NodeId, Lane), Arc<Served>>,
    twins: Twins,
    logged: BTreeMap<NodeId, RefusedReason>,
    closed: bool,
}

impl Inside {
    /// Another process than the caller's that is connected as that node. Bulk connections do not
    /// count: one whose requests wait may notice late that it is closed.
    fn holder(&self, node: NodeId, incarnation: [u8; 16], instance: [u8; 16]) -> Option<Holder> {
        let others = self
            .served
            .range((node, Lane::Control)..=(node, Lane::Data))
            .map(|(_, served)| served)
            .filter(|served| served.incarnation == incarnation && served.instance != instance);
        others.fold(None, |holder: Option<Holder>, served| {
            let heard_at = served.heard_at();
            Some(Holder {
                // Of the control connection, if there is one.
                address: holder.map_or(served.address, |holder| holder.address),
                heard_at: holder.map_or(heard_at, |holder| holder.heard_at.max(heard_at)),
            })
        })
    }

    /// Why a process may not be linked as that node now, if another is.
    fn judge(
        &mut self,
        (node, address): (NodeId, SocketAddr),
        incarnation: [u8; 16],
        instance: [u8; 16],
        silence_max: Duration,
    ) -> Option<Refusal> {
        let holder = self.holder(node, incarnation, instance)?;
        let caller = (instance, address);
        self.twins
            .judge(node, caller, holder, silence_max, Instant::now())
    }
}

impl Door {
    pub(super) fn new(config: &PeersConfig) -> Door {
        Door {
            connections: Arc::new(Semaphore::new(config.connections_max)),
            greetings: Arc::new(Semaphore::new(GREETINGS_MAX)),
            strangers: Arc::new(Semaphore::new(STRANGERS_MAX)),
            stranger_bytes: Budget::new(STRANGERS_BYTES_MAX),
            silence_max: Duration::from_millis(config.silence_ms),
            refusals: Throttle::default(),
            inside: Mutex::default(),
        }
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn judge(&self, address: SocketAddr, hello: &Hello) -> Option<Refusal> {
        self.inside().judge(
            (hello.from, address),
            hello.incarnation,
            hello.instance,
            self.silence_max,
        )
    }

    /// Lets a member's connection in; false when all are being closed, or another process of the
    /// node came in since the hello was judged.
    fn enter(&self, node: NodeId, lane: Lane, served: &Arc<Served>) -> bool {
        let mut inside = self.inside();
        if inside.closed {
            return false;
        }
        let (incarnation, instance) = (served.incarnation, served.instance);
        let caller = (node, served.address);
        if inside
            .judge(caller, incarnation, instance, self.silence_max)
            .is_some()
        {
            return false;
        }
        inside.logged.remove(&node);
        let older = inside.served.insert((node, lane), Arc::clone(served));
        if let Some(older) = older {
            older.close();
        }
        // What is left of a process that fell silent.
        for lane in [Lane::Control, Lane::Data, Lane::Bulk] {
            let left = inside.served.get(&(node, lane));
            if left.is_some_and(|left| left.instance != instance)
                && let Some(left) = inside.served.remove(&(node, lane))
            {
                left.close();
            }
        }
        true
    }

    fn leave(&self, node: NodeId, lane: Lane, served: &Arc<Served>) {
        let mut inside = self.inside();
        if let Some(held) = inside.served.get(&(node, lane))
            && Arc::ptr_eq(held, served)
        {
            inside.served.remove(&(node, lane));
        }
    }

    /// Closes the connections of who is let in no longer.
    pub(super) fn sweep(&self, admits: impl Fn(NodeId, [u8; 16]) -> bool) {
        self.inside().served.retain(|(node, _), served| {
            let stays = admits(*node, served.incarnation);
            if !stays {
                served.close();
            }
            stays
        });
    }

    /// Closes all, and lets nobody in any more.
    pub(super) fn close(&self) {
        let mut inside = self.inside();
        inside.closed = true;
        for served in std::mem::take(&mut inside.served).into_values() {
            served.close();
        }
    }

    /// Whether that node's refusal for that reason was not logged yet.
    fn is_news(&self, node: NodeId, refusal: &Refusal) -> bool {
        let mut inside = self.inside();
        if inside.logged.len() >= LOGGED_MAX {
            inside.logged.clear();
        }
        inside.logged.insert(node, refusal.reason) != Some(refusal.reason)
    }
}

/// Logs a refusal with `log`, or counts it into a summary if there were others for that reason.
fn tell(shared: &Arc<Shared>, reason: &'static str, log: impl FnOnce()) {
    match shared.door.refusals.note(reason, Instant::now()) {
        Telling::Now => log(),
        Telling::Counted => {}
        Telling::SummaryAt(due) => {
            let listening = Arc::downgrade(shared);
            shared.ambient.spawn(async move {
                sleep_until(due).await;
                if let Some(shared) = listening.upgrade() {
                    let count = shared.door.refusals.summarize(reason, Instant::now());
                    tracing::warn!(count, reason, "more connections of peers were refused");
                }
            });
        }
    }
}

/// Accepts until dropped. Runs on the raft thread, so that connections carried there belong to its
/// reactor; handshakes are done elsewhere.
pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tell(&shared, "not accepted", || {
                    tracing::warn!(%error, "a peer's connection was not accepted");
                });
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let door = &shared.door;
        let Ok(place) = Arc::clone(&door.connections).try_acquire_owned() else {
            tell(&shared, "too many", || {
                tracing::warn!(%address, "too many connections of peers; one is closed");
            });
            continue;
        };
        let Ok(greeting) = Arc::clone(&door.greetings).try_acquire_owned() else {
            tell(&shared, "too many without a hello", || {
                tracing::warn!(%address, "too many connections without a hello; one is closed");
            });
            continue;
        };
        let shared = Arc::clone(&shared);
        let ambient = shared.ambient.clone();
        ambient.spawn(async move {
            let greeted = timeout(HELLO_MAX, Box::pin(greet(stream, address, &shared))).await;
            drop(greeting);
            match greeted {
                Ok(Ok(Some((socket, hello)))) => let_in(socket, address, hello, place, shared),
                Ok(Ok(None)) => {}
                Ok(Err(error)) => tracing::debug!(%address, %error, "no hello from a connection"),
                Err(_) => tracing::debug!(%address, "no hello in time from a connection"),
            }
        });
    }
}

/// Reads the hello and answers it. `None`: refused.
async fn greet(
    stream: TcpStream,
    address: SocketAddr,
    shared: &Arc<Shared>,
) -> io::Result<Option<(Socket, Hello)>> {
    socket::tune(&stream)?;
    let mut socket = match &shared.tls {
        None => Socket::Plain(stream),
        Some(tls) => Socket::Tls(Box::new(tls.acceptor.accept(stream).await?.into())),
    };
    let invalid = |error: HelloError| io::Error::new(io::ErrorKind::InvalidData, error);
    let mut head = [0; hello::HEAD_BYTES];
    socket.read_exact(&mut head).await?;
    let (version, length) = match hello::decode_head(head) {
        Ok(decoded) => decoded,
        Err(error) => {
            hang_up(&mut socket).await?;
            return Err(invalid(error));
        }
    };
    let mut rest = vec![0; usize::from(length)];
    socket.read_exact(&mut rest).await?;
    let (hello, welcome) = match Hello::decode(version, &rest) {
        Ok(hello) => {
            let welcome = judge(shared, address, &hello);
            (Some(hello), welcome)
        }
        Err(HelloError::Version { version }) => {
            let sentence = format!("this node speaks version {VERSION}, the caller {version}");
            let refusal = Refusal {
                reason: RefusedReason::WrongVersion,
                sentence,
            };
            tell(shared, refusal.reason.name(), || {
                tracing::warn!(%address, %refusal, "a peer is refused");
            });
            (None, shared.book().signed(Some(refusal)))
        }
        Err(error) => return Err(invalid(error)),
    };
    socket.write_all(&welcome.encode()).await?;
    socket.flush().await?;
    match hello {
        Some(hello) if welcome.refusal.is_none() => Ok(Some((socket, hello))),
        _ => {
            socket.shutdown().await?;
            Ok(None)
        }
    }
}

/// Closes in a way that tells a close from a crash: a socket that is dropped with bytes unread
/// resets its connection, as a dying process does. Ends with the other side, or by the deadline of
/// the hello.
async fn hang_up(socket: &mut Socket) -> io::Result<()> {
    socket.shutdown().await?;
    let mut sink = [0; 1_024];
    for _ in 0..UNREAD_BYTES_MAX / sink.len() {
        if socket.read(&mut sink).await? == 0 {
            break;
        }
    }
    Ok(())
}

fn judge(shared: &Arc<Shared>, address: SocketAddr, hello: &Hello) -> Welcome {
    let mut welcome = shared.book().welcome(hello);
    if let Some(refusal) = &welcome.refusal {
        let node = hello.from;
        if shared.door.is_news(node, refusal) {
            tell(shared, refusal.reason.name(), || {
                tracing::warn!(%address, %node, %refusal, "a peer is refused");
            });
        }
    } else if matches!(hello.purpose, Purpose::Link(_)) {
        welcome.refusal = shared.door.judge(address, hello);
    }
    welcome
}

/// Carries the connection, whose `place` is held meanwhile.
fn let_in(
    socket: Socket,
    address: SocketAddr,
    hello: Hello,
    place: OwnedSemaphorePermit,
    shared: Arc<Shared>,
) {
    match hello.purpose {
        Purpose::Stranger => {
            let Ok(stranger) = Arc::clone(&shared.door.strangers).try_acquire_owned() else {
                tell(&shared, "too many strangers", || {
                    tracing::warn!(%address, "too many strangers ask; one is turned away");
                });
                return;
            };
            let ambient = shared.ambient.clone();
            ambient.spawn(async move {
                let caller = Caller::Stranger(address);
                let served = Arc::new(Served::new(caller, address, &hello, Lane::Control));
                let stay_max = Duration::from_millis(shared.config.stranger_ms);
                match timeout(stay_max, Box::pin(served.run(socket, &shared))).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => {
                        tracing::debug!(%address, %error, "a stranger's connection broke");
                    }
                    Err(_) => tracing::debug!(%address, "a stranger stayed too long"),
                }
                drop((stranger, place));
            });
        }
        Purpose::Link(lane) => {
            let runtime = match lane {
                Lane::Control | Lane::Data => shared.raft.clone(),
                Lane::Bulk => shared.ambient.clone(),
            };
            let node = hello.from;
            let served = Arc::new(Served::new(Caller::Member(node), address, &hello, lane));
            if !shared.door.enter(node, lane, &served) {
                return;
            }
            // The list may have changed since the hello was judged.
            if shared.book().admits(node, hello.incarnation).is_err() {
                served.close();
            }
            runtime.spawn(async move {
                if let Err(error) = served.run(socket, &shared).await {
                    let lane = lane.name();
                    tracing::debug!(%node, lane, %error, "a peer's connection broke");
                }
                shared.door.leave(node, lane, &served);
                drop(place);
            });
        }
    }
}
