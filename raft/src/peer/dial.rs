//! The dialling side: a link to one member over one lane is dialled again and again for as long as
//! the member is listed, at once when somebody needs it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use net::TcpStream;
use rustls::pki_types::ServerName;
use storage::{NodeId, ShardId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::time::{Instant, sleep, timeout};

use super::frame::{HEAD_BYTES, Kind};
use super::hello::{self, Hello, HelloError, Purpose, VERSION, Welcome};
use super::link::Connection;
use super::members::Book;
use super::socket::{self, Socket};
use super::stream::{Budget, STREAM_REQUESTS_MAX, StreamCore};
use super::{
    Lane, LinkError, PeerMember, Refusal, RefusedReason, Shared, StreamAnswersReceiver,
    StreamSender,
};

/// Waits between dials. A dying process closes its connections before its listener, so the first
/// dials after a loss come quickly; a member that was not there is dialled from the fourth on.
const WAITS_MS: [u64; 9] = [0, 5, 20, 50, 100, 200, 400, 800, 1_000];
const FIRST_WAIT_WHEN_NEVER_LINKED: usize = 3;
/// A failure younger than this stands for all who ask meanwhile.
const FAILURE_IS_NEWS: Duration = Duration::from_millis(50);
/// A connection that lives shorter does not make the next dial come sooner.
const LASTING: Duration = Duration::from_secs(1);
/// Bytes in flight on a control connection.
const CONTROL_BYTES_MAX: usize = 8 << 20;
/// Requests in flight on a connection.
const REQUESTS_MAX: usize = 1_024;

/// Why a dial made no connection.
#[derive(Debug)]
pub(super) enum DialError {
    Unreachable(io::ErrorKind),
    Refused(Refusal),
}

impl From<io::Error> for DialError {
    fn from(error: io::Error) -> DialError {
        let tls = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match tls {
            Some(tls) => DialError::refused(RefusedReason::Tls, format!("TLS failed: {tls}")),
            None => DialError::Unreachable(error.kind()),
        }
    }
}

impl From<HelloError> for DialError {
    fn from(error: HelloError) -> DialError {
        let (reason, sentence) = match error {
            HelloError::NotAPeer => (
                RefusedReason::NotAPeer,
                "what listens there is no peer".to_owned(),
            ),
            HelloError::Tls => (
                RefusedReason::Tls,
                "the peer speaks TLS, this node does not".to_owned(),
            ),
            HelloError::Version { version } => (
                RefusedReason::WrongVersion,
                format!("the peer speaks version {version}, this node {VERSION}"),
            ),
        };
        DialError::refused(reason, sentence)
    }
}

impl DialError {
    fn refused(reason: RefusedReason, sentence: String) -> DialError {
        DialError::Refused(Refusal { reason, sentence })
    }

    pub(super) fn into_link_error(self) -> LinkError {
        match self {
            DialError::Unreachable(kind) => LinkError::Unreachable { kind },
            DialError::Refused(refusal) => LinkError::Refused(refusal),
        }
    }
}

async fn resolve(shared: &Shared, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let host = host.to_owned();
    // Not on the raft thread, whose few blocking threads a slow name server would hold.
    let resolved = async move { net::lookup_host(&host, port).await };
    let resolved = shared.ambient.spawn(resolved);
    resolved.await.map_err(io::Error::other)?
}

/// Connects to the first address that answers. Refused only when every address refuses.
async fn connect(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut failure = None;
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                failure.get_or_insert(error);
            }
            Err(error) => failure = Some(error),
        }
    }
    Err(failure.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into()))
}

/// Connects and says hello.
pub(super) async fn dial(
    shared: &Shared,
    host: &str,
    port: u16,
    hello: &Hello,
) -> Result<(Socket, Welcome), DialError> {
    let limit = Duration::from_millis(shared.config.connect_timeout_ms);
    let dialled = timeout(limit, Box::pin(dial_unlimited(shared, host, port, hello))).await;
    dialled.unwrap_or(Err(DialError::Unreachable(io::ErrorKind::TimedOut)))
}

async fn dial_unlimited(
    shared: &Shared,
    host: &str,
    port: u16,
    hello: &Hello,
) -> Result<(Socket, Welcome), DialError> {
    let stream = connect(&resolve(shared, host, port).await?).await?;
    socket::tune(&stream)?;
    let mut socket = match &shared.tls {
        None => Socket::Plain(stream),
        Some(tls) => {
            let name = ServerName::try_from(host.to_owned());
            let name = name.map_err(|_| DialError::Unreachable(io::ErrorKind::InvalidInput))?;
            let secured = tls.connector.connect(name, stream).await;
            let secured = secured.map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => DialError::refused(
                    RefusedReason::Tls,
                    "the peer closed the connection instead of speaking TLS".to_owned(),
                ),
                _ => error.into(),
            })?;
            Socket::Tls(Box::new(secured.into()))
        }
    };
    socket.write_all(&hello.encode()).await?;
    socket.flush().await?;
    let welcome = read_welcome(&mut socket).await?;
    Ok((socket, welcome))
}

async fn read_welcome(socket: &mut Socket) -> Result<Welcome, DialError> {
    let mut head = [0; hello::HEAD_BYTES];
    // A TLS alert is shorter than our head.
    let mut held = 0;
    while held < head.len() {
        let read = socket.read(&mut head[held..]).await?;
        if read == 0 {
            if held > 0 {
                hello::decode_head(head)?;
            }
            return Err(DialError::Unreachable(io::ErrorKind::UnexpectedEof));
        }
        held += read;
    }
    let (version, length) = hello::decode_head(head)?;
    let mut rest = vec![0; usize::from(length)];
    socket.read_exact(&mut rest).await?;
    Ok(Welcome::decode(version, &rest)?)
}

/// How far a link is.
#[derive(Debug, Clone)]
enum Phase {
    /// Not dialled yet, or not needed now.
    Idle,
    Dialling,
    Up(Arc<Connection>),
    Failed {
        error: LinkError,
        at: Instant,
    },
    /// The member is not listed any more.
    Stopped,
}

/// The link to a member over one lane.
#[derive(Debug)]
pub(super) struct Link {
    node: NodeId,
    lane: Lane,
    member: PeerMember,
    phase: watch::Sender<Phase>,
    demand: Notify,
    /// Ends the connection, if there is one.
    reset: Notify,
    /// The other links to the member, for its control link.
    siblings: Vec<Arc<Link>>,
    pub(super) budget: Budget,
    requests: Semaphore,
}

impl Link {
    pub(super) fn new(
        node: NodeId,
        lane: Lane,
        member: PeerMember,
        inflight_bytes_max: usize,
        siblings: Vec<Arc<Link>>,
    ) -> Link {
        let bytes_max = match lane {
            Lane::Control => CONTROL_BYTES_MAX.min(inflight_bytes_max),
            Lane::Data | Lane::Bulk => inflight_bytes_max,
        };
        Link {
            node,
            lane,
            member,
            phase: watch::Sender::new(Phase::Idle),
            demand: Notify::new(),
            reset: Notify::new(),
            siblings,
            budget: Budget::new(bytes_max),
            requests: Semaphore::new(REQUESTS_MAX),
        }
    }

    /// The connection; dials at once when there is none. Fails when that dial does.
    async fn connected(&self) -> Result<Arc<Connection>, LinkError> {
        let mut phase = self.phase.subscribe();
        let mut waited = false;
        loop {
            let now = phase.borrow_and_update().clone();
            match now {
                Phase::Up(connection) => return Ok(connection),
                Phase::Stopped => return Err(LinkError::NotAMember { node: self.node }),
                Phase::Failed { error, at } => {
                    self.demand.notify_one();
                    if waited || at.elapsed() < FAILURE_IS_NEWS {
                        return Err(error);
                    }
                }
                Phase::Idle => self.demand.notify_one(),
                Phase::Dialling => {}
            }
            waited = true;
            if phase.changed().await.is_err() {
                return Err(LinkError::NotAMember { node: self.node });
            }
        }
    }

    /// Sends a request and waits for the answer, for `deadline` in all.
    pub(super) async fn request(
        &self,
        kind: Kind,
        shard: ShardId,
        body: Vec<Bytes>,
        deadline: Duration,
    ) -> Result<Bytes, LinkError> {
        let bytes: usize = body.iter().map(Bytes::len).sum();
        let asked = async {
            let _request = self.requests.acquire().await.expect("never closed");
            let _bytes = self.budget.take(bytes + HEAD_BYTES).await;
            let connection = self.connected().await?;
            connection.request(kind, shard, body).await
        };
        timeout(deadline, asked)
            .await
            .unwrap_or(Err(LinkError::TimedOut))
    }

    pub(super) async fn open_stream(
        &self,
        shard: ShardId,
        shared: &Shared,
    ) -> Result<(StreamSender, StreamAnswersReceiver), LinkError> {
        let connection = self.connected().await?;
        let (sender, answers) = mpsc::channel(STREAM_REQUESTS_MAX);
        let stall_max = Duration::from_millis(shared.config.stream_stall_ms);
        let bytes = Budget::new(shared.config.inflight_bytes_per_stream_max);
        let core = connection.open_stream(shard, sender, |id| {
            StreamCore::new((id, shard), stall_max, bytes, self.budget.clone())
        })?;
        let sender = StreamSender {
            core: Arc::clone(&core),
            connection: Arc::clone(&connection),
            frame_bytes_max: shared.config.frame_bytes_max,
        };
        let receiver = StreamAnswersReceiver {
            core,
            connection,
            answers,
        };
        Ok((sender, receiver))
    }

    #[cfg(test)]
    pub(super) fn connection(&self) -> Option<Arc<Connection>> {
        match &*self.phase.borrow() {
            Phase::Up(connection) => Some(Arc::clone(connection)),
            _ => None,
        }
    }

    /// Keeps the link up until dropped.
    pub(super) async fn run(self: Arc<Link>, shared: Arc<Shared>) {
        let _stopping = StopOnDrop(&self);
        let mut wait = FIRST_WAIT_WHEN_NEVER_LINKED;
        // Linked before, and not known to be gone since.
        let mut was_linked = false;
        let mut logged = None;
        if self.lane == Lane::Bulk {
            self.demand.notified().await;
        }
        loop {
            self.phase.send_replace(Phase::Dialling);
            let error = match self.dial(&shared).await {
                Ok(socket) => {
                    logged = None;
                    let begun = Instant::now();
                    self.carry(socket, &shared).await;
                    was_linked = true;
                    if begun.elapsed() >= LASTING {
                        wait = 0;
                    }
                    LinkError::Unreachable {
                        kind: io::ErrorKind::ConnectionReset,
                    }
                }
                Err(error) => {
                    let error = error.into_link_error();
                    self.failed(&shared, &error, &mut was_linked, &mut logged);
                    error
                }
            };
            self.phase.send_replace(Phase::Failed {
                error,
                at: Instant::now(),
            });
            self.rest(wait).await;
            wait = (wait + 1).min(WAITS_MS.len() - 1);
        }
    }

    async fn dial(&self, shared: &Shared) -> Result<Socket, DialError> {
        let purpose = Purpose::Link(self.lane);
        let hello = shared.book().hello(purpose, self.node, &self.member);
        let hello = hello.ok_or(DialError::Unreachable(io::ErrorKind::NotConnected))?;
        let (socket, welcome) = dial(shared, &self.member.host, self.member.port, &hello).await?;
        Book::check_welcome(self.node, &self.member, &welcome).map_err(DialError::Refused)?;
        Ok(socket)
    }

    async fn carry(&self, socket: Socket, shared: &Shared) {
        let connection = Arc::new(Connection::default());
        let closing = CloseOnDrop(&connection);
        self.phase.send_replace(Phase::Up(Arc::clone(&connection)));
        let is_watched = self.lane == Lane::Control;
        if is_watched {
            tracing::info!(node = %self.node, "linked with a peer");
            shared.report(self.node, |state| {
                (state.connected, state.refused) = (true, None)
            });
        }
        let ended = tokio::select! {
            ended = connection.run(socket, &shared.config, is_watched) => ended,
            () = self.reset.notified() => Ok(()),
        };
        drop(closing);
        if !is_watched {
            return;
        }
        let error = ended.err();
        if error
            .as_ref()
            .is_some_and(|error| error.kind() == io::ErrorKind::TimedOut)
        {
            // The machine, the process or the cable: the other connections have it too, and would
            // notice later, and take long to recover when it is over.
            self.siblings
                .iter()
                .for_each(|link| link.reset.notify_waiters());
        }
        let error = error.map(tracing::field::display);
        tracing::info!(node = %self.node, error, "the link with a peer broke");
        shared.report(self.node, |state| state.connected = false);
    }

    /// Tells of a failed dial, once per change.
    fn failed(
        &self,
        shared: &Shared,
        error: &LinkError,
        was_linked: &mut bool,
        logged: &mut Option<LinkError>,
    ) {
        if self.lane != Lane::Control {
            return;
        }
        let refused_connection = LinkError::Unreachable {
            kind: io::ErrorKind::ConnectionRefused,
        };
        if *was_linked && *error == refused_connection {
            *was_linked = false;
            tracing::info!(node = %self.node, "the peer's process is gone");
            // Nobody may listen.
            let _ = shared.gone.send(self.node);
        }
        if logged.as_ref() != Some(error) {
            let (host, port) = (&self.member.host, self.member.port);
            if matches!(error, LinkError::Refused(refusal) if refusal.reason == RefusedReason::RunsTwice)
            {
                tracing::error!(node = %self.node, host, port, %error, "no link with a peer");
            } else {
                tracing::warn!(node = %self.node, host, port, %error, "no link with a peer");
            }
            *logged = Some(error.clone());
        }
        let refused = match error {
            LinkError::Refused(refusal) => Some(refusal.clone()),
            _ => None,
        };
        shared.report(self.node, |state| state.refused = refused);
    }

    /// Waits for the next dial: for as long as the failures were many, or until it is needed.
    async fn rest(&self, wait: usize) {
        let whole = Duration::from_millis(WAITS_MS[wait]);
        let least = whole.min(FAILURE_IS_NEWS);
        sleep(least).await;
        if self.lane == Lane::Bulk {
            self.demand.notified().await;
        } else {
            // Elapsed or needed: either ends the rest.
            let _ = timeout(whole - least, self.demand.notified()).await;
        }
    }
}

struct StopOnDrop<'a>(&'a Link);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.phase.send_replace(Phase::Stopped);
    }
}

struct CloseOnDrop<'a>(&'a Connection);

impl Drop for CloseOnDrop<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}
