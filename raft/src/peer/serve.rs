//! One accepted connection: its requests are handed to the service and the shards, their answers
//! written back. What is in hand is bounded; then nothing more is read, which the other side feels.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use storage::NodeId;
use tokio::io::{AsyncReadExt, ReadHalf};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use super::frame::{Failure, Frame, FrameReader, HEAD_BYTES, Head, Kind};
use super::hello::Hello;
use super::outbox::{Outbox, Outgoing};
use super::service::Attached;
use super::socket::Socket;
use super::stream::{Budget, STREAM_REQUESTS_MAX};
use super::{CallError, Caller, Lane, LinkError, Shared};

/// Requests in hand of one connection; answers of bulk requests are large.
const REQUESTS_MAX: usize = 1_024;
const BULK_REQUESTS_MAX: usize = 16;
/// Streams of one connection.
const STREAMS_MAX: usize = 1_024;
/// A stranger's request, of which it has one in hand.
pub(super) const STRANGER_BYTES_MAX: usize = 64 << 10;
/// Requests of all strangers together, read or being read.
pub(super) const STRANGERS_BYTES_MAX: usize = 4 << 20;
/// Read from a stranger before there is a place for its request.
const STRANGER_READ_BYTES: usize = 4 << 10;

/// An accepted connection.
#[derive(Debug)]
pub(super) struct Served {
    caller: Caller,
    pub(super) address: SocketAddr,
    pub(super) incarnation: [u8; 16],
    pub(super) instance: [u8; 16],
    lane: Lane,
    outbox: Arc<Outbox>,
    closing: Notify,
    begun: Instant,
    /// When something came last, since it began.
    heard_ms: AtomicU64,
}

fn violation(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl Served {
    pub(super) fn new(caller: Caller, address: SocketAddr, hello: &Hello, lane: Lane) -> Served {
        Served {
            caller,
            address,
            incarnation: hello.incarnation,
            instance: hello.instance,
            lane,
            outbox: Arc::default(),
            closing: Notify::new(),
            begun: Instant::now(),
            heard_ms: AtomicU64::new(0),
        }
    }

    /// When something came from the other side last; its hello counts.
    pub(super) fn heard_at(&self) -> Instant {
        self.begun + Duration::from_millis(self.heard_ms.load(Ordering::Relaxed))
    }

    pub(super) fn close(&self) {
        self.closing.notify_one();
    }

    /// Carries the connection until it breaks or is closed; what is in hand then is dropped.
    pub(super) async fn run(&self, socket: Socket, shared: &Arc<Shared>) -> io::Result<()> {
        let (reader, mut writer) = tokio::io::split(socket);
        let stall_max = Duration::from_millis(shared.config.write_stall_ms);
        let _closing = CloseOnDrop(&self.outbox);
        tokio::select! {
            read = self.read(reader, shared) => read,
            written = self.outbox.write_to(&mut writer, stall_max) => written,
            () = self.closing.notified() => Ok(()),
        }
    }

    async fn read(&self, mut reader: ReadHalf<Socket>, shared: &Arc<Shared>) -> io::Result<()> {
        let config = &shared.config;
        let is_stranger = matches!(self.caller, Caller::Stranger(_));
        let mut frames = if is_stranger {
            let bytes_max = config.frame_bytes_max.min(STRANGER_BYTES_MAX);
            FrameReader::with_reads_of(STRANGER_READ_BYTES, bytes_max)
        } else {
            FrameReader::new(config.frame_bytes_max)
        };
        let requests_max = match self.lane {
            _ if is_stranger => 1,
            Lane::Control | Lane::Data => REQUESTS_MAX,
            Lane::Bulk => BULK_REQUESTS_MAX,
        };
        let bytes = if is_stranger {
            shared.door.stranger_bytes.clone()
        } else {
            // The peer keeps to half of this, if its settings are ours.
            Budget::new(config.inflight_bytes_per_peer_max.saturating_mul(2))
        };
        let mut session = Session {
            served: self,
            shared,
            requests: Arc::new(Semaphore::new(requests_max)),
            bytes,
            place: None,
            streams: HashMap::new(),
            tasks: JoinSet::new(),
        };
        while reader.read_buf(frames.room()).await? > 0 {
            let heard_ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.heard_ms.store(heard_ms, Ordering::Relaxed);
            loop {
                let next = frames.next_frame();
                let next =
                    next.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                let Some(frame) = next else {
                    break;
                };
                session.take(frame).await?;
            }
            session.reap();
            if is_stranger && frames.wanted() > STRANGER_READ_BYTES {
                session.make_place(frames.wanted()).await;
            }
        }
        Ok(())
    }
}

struct CloseOnDrop<'a>(&'a Outbox);

impl Drop for CloseOnDrop<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// What an accepted connection has in hand.
struct Session<'a> {
    served: &'a Served,
    shared: &'a Arc<Shared>,
    requests: Arc<Semaphore>,
    bytes: Budget,
    /// For the request that is being read, where reading waits for it.
    place: Option<Place>,
    streams: HashMap<u64, Incoming>,
    /// Those that ended a stream by themselves return its id. All are dropped with the session.
    tasks: JoinSet<Option<u64>>,
}

/// What a request in hand takes.
struct Place {
    request: OwnedSemaphorePermit,
    bytes: OwnedSemaphorePermit,
}

/// A stream as its connection sees it.
struct Incoming {
    requests: mpsc::Sender<Bytes>,
    unanswered: Unanswered,
    task: AbortHandle,
}

/// The bytes of a stream's requests, oldest first.
type Unanswered = Arc<Mutex<VecDeque<OwnedSemaphorePermit>>>;

fn locked(unanswered: &Unanswered) -> MutexGuard<'_, VecDeque<OwnedSemaphorePermit>> {
    unanswered.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Session<'_> {
    async fn take(&mut self, frame: Frame) -> io::Result<()> {
        let Frame { head, body } = frame;
        let member = match self.served.caller {
            Caller::Member(node) => Some(node),
            Caller::Stranger(_) => None,
        };
        match (head.kind, member) {
            (Kind::Ask, _) => {
                let answering = self.hold(head, body.len()).await;
                self.ask(answering, body);
                Ok(())
            }
            (Kind::Call, Some(from)) => {
                let answering = self.hold(head, body.len()).await;
                self.call(from, answering, body);
                Ok(())
            }
            (Kind::StreamOpen, Some(from)) => self.open_stream(from, head),
            (Kind::StreamRequest, Some(_)) => self.stream_request(head.id, body).await,
            (Kind::StreamEnd, Some(_)) => {
                if let Some(stream) = self.streams.remove(&head.id) {
                    stream.task.abort();
                }
                Ok(())
            }
            (Kind::Ping, Some(_)) => {
                let kind = Kind::Pong;
                self.served.outbox.push(Outgoing {
                    head: Head { kind, ..head },
                    body: Vec::new(),
                    _permit: None,
                });
                Ok(())
            }
            (_, None) => Err(violation("a stranger may only ask")),
            (Kind::Answer | Kind::Failed | Kind::StreamAnswer | Kind::Pong, Some(_)) => {
                Err(violation("an answer from the side that asks"))
            }
        }
    }

    /// Waits until one more request may be in hand.
    async fn hold(&mut self, head: Head, bytes: usize) -> Answering {
        let Place { request, bytes } = match self.place.take() {
            Some(place) => place,
            None => self.wait_for_place(bytes + HEAD_BYTES).await,
        };
        Answering {
            outbox: Arc::clone(&self.served.outbox),
            head,
            frame_bytes_max: self.shared.config.frame_bytes_max,
            request: Some(request),
            _bytes: bytes,
        }
    }

    async fn wait_for_place(&self, bytes: usize) -> Place {
        let request = Arc::clone(&self.requests).acquire_owned().await;
        let request = request.expect("never closed");
        let bytes = self.bytes.take(bytes).await;
        Place { request, bytes }
    }

    /// Waits for the place of a request of which only the beginning is read.
    async fn make_place(&mut self, bytes: usize) {
        if self.place.is_none() {
            self.place = Some(self.wait_for_place(bytes).await);
        }
    }

    fn ask(&mut self, mut answering: Answering, body: Bytes) {
        let Some(service) = self.shared.service() else {
            answering.fail(Failure::NotServing);
            return;
        };
        let caller = self.served.caller;
        let task = async move {
            let answer = service.ask(caller, body).await;
            answering.answer(vec![answer]);
            None
        };
        self.tasks.spawn_on(task, &self.shared.ambient);
    }

    fn call(&mut self, from: NodeId, mut answering: Answering, body: Bytes) {
        let Some(attached) = self.shared.shard(answering.head.shard) else {
            answering.fail(Failure::NoShard);
            return;
        };
        let lane = self.served.lane;
        let task = async move {
            let Attached { receive, detached } = attached;
            let answer = tokio::select! {
                answer = receive.call(from, lane, body) => answer,
                () = super::service::is_detached(detached) => Err(CallError::Closed),
            };
            match answer {
                Ok(answer) => answering.answer(answer),
                Err(CallError::Closed) => answering.fail(Failure::NoShard),
                Err(CallError::Malformed) => answering.fail(Failure::Rejected),
            }
            None
        };
        self.tasks.spawn_on(task, &self.shared.raft);
    }

    fn open_stream(&mut self, from: NodeId, head: Head) -> io::Result<()> {
        self.reap();
        if self.streams.len() >= STREAMS_MAX {
            return Err(violation("too many streams"));
        }
        if self.streams.contains_key(&head.id) {
            return Err(violation("a stream is opened twice"));
        }
        let outbox = Arc::clone(&self.served.outbox);
        let mut ending = Ending {
            outbox: Arc::clone(&outbox),
            head,
            failure: Failure::Rejected,
        };
        let Some(attached) = self.shared.shard(head.shard) else {
            ending.because(Failure::NoShard);
            return Ok(());
        };
        let (requests, incoming) = mpsc::channel(STREAM_REQUESTS_MAX);
        let unanswered = Unanswered::default();
        let answers = StreamAnswers {
            outbox,
            head,
            unanswered: Arc::clone(&unanswered),
            frame_bytes_max: self.shared.config.frame_bytes_max,
        };
        let task = async move {
            let Attached { receive, detached } = attached;
            tokio::select! {
                () = receive.stream(from, incoming, answers) => ending.because(Failure::Ended),
                () = super::service::is_detached(detached) => ending.because(Failure::NoShard),
            }
            Some(head.id)
        };
        let task = self.tasks.spawn_on(task, &self.shared.raft);
        let stream = Incoming {
            requests,
            unanswered,
            task,
        };
        self.streams.insert(head.id, stream);
        Ok(())
    }

    async fn stream_request(&mut self, id: u64, body: Bytes) -> io::Result<()> {
        // A stream that this side has ended may still be asked for a moment.
        let Some(stream) = self.streams.get(&id) else {
            return Ok(());
        };
        let bytes = self.bytes.take(body.len() + HEAD_BYTES).await;
        locked(&stream.unanswered).push_back(bytes);
        match stream.requests.try_send(body) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => {
                Err(violation("more requests on a stream than allowed"))
            }
            Err(mpsc::error::TrySendError::Closed(_)) => {
                // Its receiver may be gone before its task.
                locked(&stream.unanswered).pop_back();
                Ok(())
            }
        }
    }

    /// Forgets what is done.
    fn reap(&mut self) {
        while let Some(done) = self.tasks.try_join_next() {
            match done {
                Ok(Some(stream)) => {
                    self.streams.remove(&stream);
                }
                Ok(None) => {}
                Err(error) if error.is_cancelled() => {}
                Err(error) => tracing::error!(%error, "the handler of a peer's request panicked"),
            }
        }
    }
}

/// A request in hand. Dropped without an answer, it is answered as failed.
struct Answering {
    outbox: Arc<Outbox>,
    head: Head,
    frame_bytes_max: usize,
    /// Goes with the answer: it is in hand until that is written. `None`: answered.
    request: Option<OwnedSemaphorePermit>,
    _bytes: OwnedSemaphorePermit,
}

impl Answering {
    fn answer(&mut self, body: Vec<Bytes>) {
        if body.iter().map(Bytes::len).sum::<usize>() > self.frame_bytes_max {
            tracing::error!(shard = %self.head.shard, "an answer to a peer exceeds a frame");
            self.fail(Failure::Rejected);
            return;
        }
        self.push(Kind::Answer, body);
    }

    fn fail(&mut self, failure: Failure) {
        self.push(Kind::Failed, failure.to_body());
    }

    fn push(&mut self, kind: Kind, body: Vec<Bytes>) {
        let head = Head { kind, ..self.head };
        if let Some(permit) = self.request.take() {
            self.outbox.push(Outgoing {
                head,
                body,
                _permit: Some(permit),
            });
        }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.fail(Failure::Rejected);
    }
}

/// Tells the peer that a stream ended.
struct Ending {
    outbox: Arc<Outbox>,
    head: Head,
    failure: Failure,
}

impl Ending {
    fn because(&mut self, failure: Failure) {
        self.failure = failure;
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let kind = Kind::StreamEnd;
        self.outbox.push(Outgoing {
            head: Head { kind, ..self.head },
            body: self.failure.to_body(),
            _permit: None,
        });
    }
}

/// Takes a shard's answers on a stream.
#[derive(Debug)]
pub(crate) struct StreamAnswers {
    outbox: Arc<Outbox>,
    head: Head,
    unanswered: Unanswered,
    frame_bytes_max: usize,
}

impl StreamAnswers {
    /// Answers the oldest unanswered request. Never waits: answers are bounded by requests.
    ///
    /// # Errors
    /// The connection is closed, or nothing is unanswered.
    pub(crate) fn send(&self, answer: Vec<Bytes>) -> Result<(), LinkError> {
        if answer.iter().map(Bytes::len).sum::<usize>() > self.frame_bytes_max {
            return Err(LinkError::TooLarge);
        }
        let request = locked(&self.unanswered).pop_front();
        if request.is_none() {
            return Err(LinkError::Rejected);
        }
        let kind = Kind::StreamAnswer;
        let pushed = self.outbox.push(Outgoing {
            head: Head { kind, ..self.head },
            body: answer,
            _permit: None,
        });
        if pushed {
            Ok(())
        } else {
            Err(LinkError::Closed)
        }
    }
}

impl Drop for StreamAnswers {
    fn drop(&mut self) {
        locked(&self.unanswered).clear();
    }
}
