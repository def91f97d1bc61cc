//! Calls and streams over real sockets.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use storage::clock::Clock;
use storage::{NodeId, ShardId};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep, timeout};

use super::frame::Head;
use super::hello::{self, Welcome};
use super::outbox::{Outbox, Outgoing};
use super::*;

const LONG: Duration = Duration::from_secs(20);
const ONE: NodeId = NodeId(1);
const TWO: NodeId = NodeId(2);

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn incarnation(node: NodeId) -> [u8; 16] {
    [u8::try_from(node.0).unwrap(); 16]
}

fn member(node: NodeId, address: SocketAddr) -> PeerMember {
    PeerMember {
        host: address.ip().to_string(),
        port: address.port(),
        incarnation: incarnation(node),
    }
}

fn identify(peers: &Peers, node: NodeId) {
    peers.set_identity(PeerIdentity {
        cluster_id: "test".to_owned(),
        node,
        incarnation: incarnation(node),
    });
}

/// Nodes 1 and 2, linked.
async fn pair(config: impl Fn(&mut PeersConfig)) -> (Peers, Peers) {
    let mut settings = PeersConfig::new(loopback());
    settings.connect_timeout_ms = 5_000;
    config(&mut settings);
    let one = Peers::bind(settings.clone(), Clock::system())
        .await
        .unwrap();
    let two = Peers::bind(settings, Clock::system()).await.unwrap();
    let members = BTreeMap::from([
        (ONE, member(ONE, one.local_addr())),
        (TWO, member(TWO, two.local_addr())),
    ]);
    for (peers, node) in [(&one, ONE), (&two, TWO)] {
        identify(peers, node);
        peers.set_members(members.clone());
    }
    for peers in [&one, &two] {
        let mut links = peers.links();
        let linked = links.wait_for(|links| links.values().all(|link| link.connected));
        timeout(LONG, linked).await.unwrap().unwrap();
    }
    (one, two)
}

async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + LONG;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        sleep(Duration::from_millis(2)).await;
    }
}

/// Echoes, as far as its gate is open.
struct Echo {
    gate: Arc<Semaphore>,
    /// Handlers that run.
    running: Arc<AtomicUsize>,
}

struct Running(Arc<AtomicUsize>);

impl Running {
    fn new(count: &Arc<AtomicUsize>) -> Running {
        count.fetch_add(1, Ordering::SeqCst);
        Running(Arc::clone(count))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Echo {
    fn open() -> Echo {
        Echo::with_permits(Semaphore::MAX_PERMITS)
    }

    fn with_permits(permits: usize) -> Echo {
        Echo {
            gate: Arc::new(Semaphore::new(permits)),
            running: Arc::default(),
        }
    }
}

impl Receive for Echo {
    fn call(
        &self,
        from: NodeId,
        _lane: Lane,
        request: Bytes,
    ) -> BoxFuture<'static, Result<Vec<Bytes>, CallError>> {
        assert_eq!(from, ONE);
        let running = Running::new(&self.running);
        let gate = Arc::clone(&self.gate);
        async move {
            let _running = running;
            gate.acquire().await.unwrap().forget();
            match request.as_ref() {
                b"panic" => panic!("as asked"),
                b"malformed" => Err(CallError::Malformed),
                _ => Ok(vec![Bytes::from_static(b"echo "), request]),
            }
        }
        .boxed()
    }

    fn stream(
        &self,
        from: NodeId,
        mut requests: mpsc::Receiver<Bytes>,
        answers: StreamAnswers,
    ) -> BoxFuture<'static, ()> {
        assert_eq!(from, ONE);
        let running = Running::new(&self.running);
        let gate = Arc::clone(&self.gate);
        async move {
            let _running = running;
            while let Some(request) = requests.recv().await {
                gate.acquire().await.unwrap().forget();
                if request.as_ref() == b"end" || answers.send(vec![request]).is_err() {
                    return;
                }
            }
        }
        .boxed()
    }
}

async fn call(peers: &Peers, lane: Lane, body: &[u8]) -> Result<Bytes, LinkError> {
    let (head, tail) = body.split_at(body.len() / 2);
    let body = vec![Bytes::copy_from_slice(head), Bytes::copy_from_slice(tail)];
    let called = peers.call(TWO, lane, ShardId(7), body, LONG);
    timeout(LONG, called).await.unwrap()
}

fn link(peers: &Peers, lane: Lane) -> Arc<Link> {
    peers.shared.member_link(TWO, lane).unwrap()
}

#[tokio::test]
async fn a_call_comes_back_over_every_lane() {
    let (one, two) = pair(|_| ()).await;
    let _attached = two.attach(ShardId(7), Arc::new(Echo::open()));
    let large = vec![42; 3 << 20];
    for lane in [Lane::Control, Lane::Data, Lane::Bulk] {
        assert_eq!(call(&one, lane, b"hey").await.unwrap(), "echo hey");
        assert_eq!(call(&one, lane, &large).await.unwrap()[5..], large);
        assert!(link(&one, lane).budget.is_whole());
    }
}

#[tokio::test]
async fn calls_that_fail_say_why() {
    let (one, two) = pair(|config| config.frame_bytes_max = 1 << 16).await;
    assert_eq!(
        call(&one, Lane::Control, b"x").await,
        Err(LinkError::NoShard)
    );
    let attached = two.attach(ShardId(7), Arc::new(Echo::open()));
    for (body, error) in [
        (b"malformed".to_vec(), LinkError::Rejected),
        (b"panic".to_vec(), LinkError::Rejected),
        (vec![0; 1 << 17], LinkError::TooLarge),
        // Its answer does not fit.
        (vec![0; 1 << 16], LinkError::Rejected),
    ] {
        assert_eq!(call(&one, Lane::Data, &body).await, Err(error));
    }
    drop(attached);
    assert_eq!(call(&one, Lane::Data, b"x").await, Err(LinkError::NoShard));
    let nobody = one.call(NodeId(3), Lane::Data, ShardId(7), vec![], LONG);
    assert_eq!(nobody.await, Err(LinkError::NotAMember { node: NodeId(3) }));
}

#[tokio::test]
async fn a_call_past_its_deadline_leaves_nothing_behind() {
    let (one, two) = pair(|_| ()).await;
    let echo = Echo::with_permits(0);
    let running = Arc::clone(&echo.running);
    let attached = two.attach(ShardId(7), Arc::new(echo));
    let body = vec![Bytes::from_static(b"x")];
    let short = Duration::from_millis(50);
    let called = one.call(TWO, Lane::Control, ShardId(7), body, short).await;
    assert_eq!(called, Err(LinkError::TimedOut));
    let link = link(&one, Lane::Control);
    assert!(link.budget.is_whole());
    assert_eq!(link.connection().unwrap().waiting(), 0);
    drop(attached);
    eventually("the handler is dropped with its shard", || {
        running.load(Ordering::SeqCst) == 0
    })
    .await;
}

#[tokio::test]
async fn detaching_a_shard_answers_what_it_has_in_hand() {
    let (one, two) = pair(|_| ()).await;
    let echo = Echo::with_permits(0);
    let running = Arc::clone(&echo.running);
    let attached = two.attach(ShardId(7), Arc::new(echo));
    let (mut sender, mut answers) = one.open_stream(TWO, ShardId(7)).await.unwrap();
    sender.send(vec![Bytes::from_static(b"x")]).await.unwrap();
    let detach = async {
        eventually("both run", || running.load(Ordering::SeqCst) == 2).await;
        // A newer one takes its place; the older going does not detach the newer.
        let newer = two.attach(ShardId(7), Arc::new(Echo::open()));
        drop(attached);
        newer
    };
    let (called, _newer) = tokio::join!(call(&one, Lane::Control, b"x"), detach);
    assert_eq!(called, Err(LinkError::NoShard));
    assert_eq!(answers.recv().await, Err(LinkError::NoShard));
    assert_eq!(call(&one, Lane::Control, b"x").await.unwrap(), "echo x");
}

#[tokio::test]
async fn answers_of_streams_come_in_order() {
    let (one, two) = pair(|config| config.inflight_bytes_per_stream_max = 1 << 16).await;
    let _attached: Vec<_> = (0..3)
        .map(|shard| two.attach(ShardId(shard), Arc::new(Echo::open())))
        .collect();
    let streams = (0..3).map(|shard| {
        let one = one.clone();
        async move {
            let (mut sender, mut answers) = one.open_stream(TWO, ShardId(shard)).await.unwrap();
            let asking = async {
                for number in 0_u32..500 {
                    let bytes = number
                        .to_le_bytes()
                        .repeat(1 + 100 * (number as usize % 50));
                    sender.send(vec![Bytes::from(bytes)]).await.unwrap();
                }
                drop(sender);
            };
            let hearing = async {
                for number in 0_u32..500 {
                    assert_eq!(answers.recv().await.unwrap()[..4], number.to_le_bytes());
                }
                assert_eq!(answers.recv().await, Err(LinkError::Closed));
            };
            tokio::join!(asking, hearing);
        }
    });
    timeout(LONG, join_all(streams)).await.unwrap();
    let link = link(&one, Lane::Data);
    assert!(link.budget.is_whole());
    assert_eq!(link.connection().unwrap().waiting(), 0);
}

/// Sends until the stream takes no more.
fn fill(sender: &mut StreamSender, body: &Bytes) -> usize {
    let mut sent = 0;
    let mut send = || tokio::task::unconstrained(sender.send(vec![body.clone()])).now_or_never();
    while let Some(result) = send() {
        result.unwrap();
        sent += 1;
    }
    sent
}

#[tokio::test]
async fn a_stream_without_answers_takes_no_more_and_holds_up_no_other() {
    let (one, two) = pair(|config| config.inflight_bytes_per_stream_max = 1 << 20).await;
    let slow = Echo::with_permits(0);
    let gate = Arc::clone(&slow.gate);
    let _slow = two.attach(ShardId(1), Arc::new(slow));
    let _fast = two.attach(ShardId(2), Arc::new(Echo::open()));
    let (mut sender, mut answers) = one.open_stream(TWO, ShardId(1)).await.unwrap();
    let body = Bytes::from(vec![1; 100_000]);
    assert_eq!(fill(&mut sender, &body), 10);
    let (mut other, mut others) = one.open_stream(TWO, ShardId(2)).await.unwrap();
    other.send(vec![body.clone()]).await.unwrap();
    assert_eq!(timeout(LONG, others.recv()).await.unwrap().unwrap(), body);
    assert!(sender.send(vec![body.clone()]).now_or_never().is_none());
    gate.add_permits(1);
    assert_eq!(timeout(LONG, answers.recv()).await.unwrap().unwrap(), body);
    timeout(LONG, sender.send(vec![body.clone()]))
        .await
        .unwrap()
        .unwrap();
    // Small requests are bounded by their number.
    gate.add_permits(1_000);
    for _ in 0..10 {
        timeout(LONG, answers.recv()).await.unwrap().unwrap();
    }
    assert_eq!(
        fill(&mut sender, &Bytes::new()),
        stream::STREAM_REQUESTS_MAX
    );
}

#[tokio::test]
async fn a_stream_that_makes_no_progress_fails_and_frees_both_sides() {
    let (one, two) = pair(|config| config.stream_stall_ms = 200).await;
    let echo = Echo::with_permits(1);
    let running = Arc::clone(&echo.running);
    let _attached = two.attach(ShardId(7), Arc::new(echo));
    let (mut sender, mut answers) = one.open_stream(TWO, ShardId(7)).await.unwrap();
    let body = Bytes::from(vec![1; 1_000]);
    let idle = timeout(Duration::from_millis(500), answers.recv()).await;
    assert!(idle.is_err(), "an idle stream does not stall");
    for _ in 0..3 {
        sender.send(vec![body.clone()]).await.unwrap();
    }
    assert_eq!(timeout(LONG, answers.recv()).await.unwrap().unwrap(), body);
    let stalled = timeout(LONG, answers.recv()).await.unwrap();
    assert_eq!(stalled, Err(LinkError::TimedOut));
    assert_eq!(sender.send(vec![body]).await, Err(LinkError::TimedOut));
    let link = link(&one, Lane::Data);
    assert!(link.budget.is_whole());
    assert_eq!(link.connection().unwrap().waiting(), 0);
    eventually("the handler is dropped", || {
        running.load(Ordering::SeqCst) == 0
    })
    .await;
}

#[tokio::test]
async fn a_dropped_stream_frees_both_sides() {
    let (one, two) = pair(|_| ()).await;
    let echo = Echo::with_permits(0);
    let running = Arc::clone(&echo.running);
    let _attached = two.attach(ShardId(7), Arc::new(echo));
    for _ in 0..20 {
        let (mut sender, answers) = one.open_stream(TWO, ShardId(7)).await.unwrap();
        for _ in 0..10 {
            sender
                .send(vec![Bytes::from(vec![1; 1 << 20])])
                .await
                .unwrap();
        }
        drop(answers);
        assert_eq!(sender.send(vec![]).await, Err(LinkError::Closed));
    }
    let link = link(&one, Lane::Data);
    assert!(link.budget.is_whole());
    assert_eq!(link.connection().unwrap().waiting(), 0);
    eventually("all handlers are dropped", || {
        running.load(Ordering::SeqCst) == 0
    })
    .await;
}

#[tokio::test]
async fn a_stream_whose_handler_ends_is_closed() {
    let (one, two) = pair(|_| ()).await;
    let _attached = two.attach(ShardId(7), Arc::new(Echo::open()));
    let (mut sender, mut answers) = one.open_stream(TWO, ShardId(7)).await.unwrap();
    sender.send(vec![Bytes::from_static(b"end")]).await.unwrap();
    assert_eq!(
        timeout(LONG, answers.recv()).await.unwrap(),
        Err(LinkError::Closed)
    );
    let (_sender, mut answers) = one.open_stream(TWO, ShardId(8)).await.unwrap();
    assert_eq!(
        timeout(LONG, answers.recv()).await.unwrap(),
        Err(LinkError::NoShard)
    );
}

#[tokio::test]
async fn a_peer_that_goes_fails_all_that_waits_at_once() {
    let (one, two) = pair(|_| ()).await;
    let echo = Echo::with_permits(0);
    let running = Arc::clone(&echo.running);
    let attached = two.attach(ShardId(7), Arc::new(echo));
    let mut gone = one.gone();
    let (mut sender, mut answers) = one.open_stream(TWO, ShardId(7)).await.unwrap();
    sender.send(vec![Bytes::from_static(b"x")]).await.unwrap();
    let going = async {
        eventually("both run", || running.load(Ordering::SeqCst) == 2).await;
        let begun = Instant::now();
        drop(two);
        begun
    };
    let (called, streamed, begun) =
        tokio::join!(call(&one, Lane::Control, b"x"), answers.recv(), going);
    assert_eq!(called, Err(LinkError::Closed));
    assert_eq!(streamed, Err(LinkError::Closed));
    assert_eq!(timeout(LONG, gone.recv()).await.unwrap(), Ok(TWO));
    assert!(begun.elapsed() < Duration::from_secs(5));
    // Nothing waits for who is not there.
    let refused = LinkError::Unreachable {
        kind: io::ErrorKind::ConnectionRefused,
    };
    assert_eq!(call(&one, Lane::Control, b"x").await, Err(refused));
    drop(attached);
}

/// Accepts like node 2, then says and reads nothing more.
async fn mute(listener: TcpListener) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        tokio::spawn(async move {
            let mut head = [0; hello::HEAD_BYTES];
            stream.read_exact(&mut head).await.unwrap();
            let (_, length) = hello::decode_head(head).unwrap();
            let mut rest = vec![0; usize::from(length)];
            stream.read_exact(&mut rest).await.unwrap();
            let welcome = Welcome {
                node: TWO,
                incarnation: incarnation(TWO),
                refusal: None,
            };
            stream.write_all(&welcome.encode()).await.unwrap();
            std::future::pending::<()>().await;
            drop(stream);
        });
    }
}

#[tokio::test]
async fn a_frozen_peer_piles_nothing_up_and_is_noticed() {
    let listener = TcpListener::bind(loopback()).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(mute(listener));
    let mut config = PeersConfig::new(loopback());
    config.inflight_bytes_per_peer_max = 8 << 20;
    config.silence_ms = 300;
    config.write_stall_ms = 60_000;
    let one = Peers::bind(config, Clock::system()).await.unwrap();
    identify(&one, ONE);
    one.set_members(BTreeMap::from([(TWO, member(TWO, address))]));
    let mut links = one.links();
    for connected in [true, false] {
        let changed = links.wait_for(|links| links[&TWO].connected == connected);
        timeout(LONG, changed).await.unwrap().unwrap();
    }
    let link = link(&one, Lane::Data);
    let body = Bytes::from(vec![1; 1 << 20]);
    let deadline = Duration::from_millis(200);
    let calls =
        (0..50).map(|_| one.call(TWO, Lane::Data, ShardId(7), vec![body.clone()], deadline));
    for called in join_all(calls).await {
        assert!(called.is_err());
    }
    assert!(link.budget.is_whole());
    // Its data connection ends with the control connection that heard nothing.
    let ended = call(&one, Lane::Data, b"x").await.unwrap_err();
    assert!(
        matches!(ended, LinkError::Closed | LinkError::Unreachable { .. }),
        "{ended}"
    );
    let stuck = link.connection();
    assert!(stuck.is_none_or(|connection| connection.waiting() == 0));
}

/// Counts the writes.
#[derive(Default)]
struct Counting {
    writes: usize,
    bytes: usize,
}

impl AsyncWrite for Counting {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.writes += 1;
        self.bytes += buf.len();
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let bytes = bufs.iter().map(|buf| buf.len()).sum();
        self.writes += 1;
        self.bytes += bytes;
        Poll::Ready(Ok(bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn frames_queued_at_the_same_moment_leave_in_one_write() {
    let outbox = Arc::new(Outbox::default());
    let queue = |id| {
        outbox.push(Outgoing {
            head: Head {
                kind: Kind::Call,
                shard: ShardId(1),
                id,
            },
            body: vec![Bytes::from_static(b"heartbeat"), Bytes::new()],
            _permit: None,
        })
    };
    let mut counting = Counting::default();
    let writing = outbox.write_to(&mut counting, LONG);
    let queueing = async {
        for id in 0..100 {
            assert!(queue(id));
        }
        outbox.forget(99);
        while !outbox.is_empty() {
            tokio::task::yield_now().await;
        }
        outbox.close();
        assert!(!queue(100));
    };
    let (written, ()) = tokio::join!(writing, queueing);
    written.unwrap();
    assert_eq!(
        (counting.writes, counting.bytes),
        (1, 99 * (frame::HEAD_BYTES + 9))
    );
}

/// Keeps strangers' requests until its gate opens, and counts what it has in hand.
struct Hoarder {
    gate: Arc<Semaphore>,
    in_hand: Arc<InHand>,
}

#[derive(Default)]
struct InHand {
    requests: AtomicUsize,
    bytes: AtomicUsize,
    bytes_seen_max: AtomicUsize,
    callers: Mutex<BTreeSet<SocketAddr>>,
}

/// One request of it.
struct Held {
    in_hand: Arc<InHand>,
    caller: SocketAddr,
    bytes: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.in_hand.requests.fetch_sub(1, Ordering::SeqCst);
        self.in_hand.bytes.fetch_sub(self.bytes, Ordering::SeqCst);
        self.in_hand.callers.lock().unwrap().remove(&self.caller);
    }
}

impl PeerService for Hoarder {
    fn ask(&self, from: Caller, request: Bytes) -> BoxFuture<'static, Bytes> {
        let Caller::Stranger(caller) = from else {
            panic!("only strangers ask");
        };
        let in_hand = &self.in_hand;
        let is_first = in_hand.callers.lock().unwrap().insert(caller);
        assert!(is_first, "a second request of one stranger");
        let bytes = in_hand.bytes.fetch_add(request.len(), Ordering::SeqCst) + request.len();
        in_hand.bytes_seen_max.fetch_max(bytes, Ordering::SeqCst);
        in_hand.requests.fetch_add(1, Ordering::SeqCst);
        let held = Held {
            in_hand: Arc::clone(in_hand),
            caller,
            bytes: request.len(),
        };
        let gate = Arc::clone(&self.gate);
        async move {
            let _held = held;
            gate.acquire().await.unwrap().forget();
            Bytes::from_static(b"done")
        }
        .boxed()
    }
}

fn ask_frame(body: usize) -> Vec<u8> {
    let head = Head {
        kind: Kind::Ask,
        shard: ShardId(0),
        id: 1,
    };
    let body = Bytes::from(vec![7; body]);
    [
        &frame::encode_head(head, std::slice::from_ref(&body))[..],
        &body,
    ]
    .concat()
}

/// A stranger that was let in.
async fn stranger(peers: &Peers) -> TcpStream {
    let mut stream = TcpStream::connect(peers.local_addr()).await.unwrap();
    stream.write_all(&Hello::stranger().encode()).await.unwrap();
    let mut welcome = [0; hello::HEAD_BYTES + 21];
    stream.read_exact(&mut welcome).await.unwrap();
    stream
}

async fn hoarder(change: impl FnOnce(&mut PeersConfig)) -> (Peers, Arc<Semaphore>, Arc<InHand>) {
    let mut config = PeersConfig::new(loopback());
    change(&mut config);
    let peers = Peers::bind(config, Clock::system()).await.unwrap();
    let (gate, in_hand) = (Arc::new(Semaphore::new(0)), Arc::<InHand>::default());
    peers.serve(Arc::new(Hoarder {
        gate: Arc::clone(&gate),
        in_hand: Arc::clone(&in_hand),
    }));
    (peers, gate, in_hand)
}

#[tokio::test]
async fn many_strangers_that_ask_without_pause_have_little_in_hand() {
    const STRANGERS: usize = 64;
    const REQUESTS: usize = 4;
    let (peers, gate, in_hand) = hoarder(|_| ()).await;
    let budget = peers.shared.door.stranger_bytes.clone();
    let asking = (0..STRANGERS).map(|_| async {
        let (mut reader, mut writer) = stranger(&peers).await.into_split();
        let frames = ask_frame(serve::STRANGER_BYTES_MAX).repeat(REQUESTS);
        let writing = async { writer.write_all(&frames).await.unwrap() };
        let reading = async {
            let mut answers = [0; REQUESTS * (frame::HEAD_BYTES + 4)];
            reader.read_exact(&mut answers).await.unwrap();
        };
        tokio::join!(writing, reading);
    });
    let frame_bytes = frame::HEAD_BYTES + serve::STRANGER_BYTES_MAX;
    let fit = serve::STRANGERS_BYTES_MAX / frame_bytes;
    let opening = async {
        eventually("as many as fit are in hand", || {
            in_hand.requests.load(Ordering::SeqCst) == fit
        })
        .await;
        let bytes = in_hand.bytes.load(Ordering::SeqCst);
        assert_eq!(bytes, fit * serve::STRANGER_BYTES_MAX);
        gate.add_permits(STRANGERS * REQUESTS);
    };
    timeout(LONG, async { tokio::join!(join_all(asking), opening) })
        .await
        .unwrap();
    let seen = in_hand.bytes_seen_max.load(Ordering::SeqCst);
    assert!(seen <= serve::STRANGERS_BYTES_MAX, "{seen}");
    eventually("nothing is left in hand", || budget.is_whole()).await;
}

#[tokio::test]
async fn a_stranger_with_a_large_request_is_cut_off() {
    let (peers, _gate, in_hand) = hoarder(|_| ()).await;
    let mut stream = stranger(&peers).await;
    let too_large = serve::STRANGER_BYTES_MAX + 1;
    // The end may come before all is written.
    let _ = stream.write_all(&ask_frame(too_large)).await;
    let ended = timeout(LONG, stream.read(&mut [0; 8])).await.unwrap();
    assert!(matches!(ended, Ok(0) | Err(_)));
    assert_eq!(in_hand.bytes_seen_max.load(Ordering::SeqCst), 0);
    let address = peers.local_addr().to_string();
    let asked = peers.ask_stranger(&address, Bytes::from(vec![0; too_large]), LONG);
    assert_eq!(asked.await, Err(LinkError::TooLarge));
}

#[tokio::test]
async fn a_stranger_does_not_stay() {
    let (peers, _gate, in_hand) = hoarder(|config| config.stranger_ms = 300).await;
    let mut stream = stranger(&peers).await;
    let frames = ask_frame(50_000).repeat(2);
    stream.write_all(&frames).await.unwrap();
    let ended = timeout(LONG, stream.read(&mut [0; 8])).await.unwrap();
    assert!(matches!(ended, Ok(0) | Err(_)));
    assert_eq!(in_hand.bytes_seen_max.load(Ordering::SeqCst), 50_000);
    eventually("nothing is left in hand", || {
        in_hand.requests.load(Ordering::SeqCst) == 0 && peers.shared.door.stranger_bytes.is_whole()
    })
    .await;
}
