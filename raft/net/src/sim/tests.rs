use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::{TcpListener, TcpStream};

const ONE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
const TWO: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));
const PORT: u16 = 9_092;
const TICK_US: u64 = 1_000;

fn paused() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
}

/// Two hosts, each with a runtime, stepped in turn.
struct World {
    network: Network,
    hosts: Vec<(Host, Runtime)>,
}

impl World {
    fn new(seed: u64) -> World {
        let network = Network::new(seed, paused);
        let hosts = [ONE, TWO].map(|ip| (network.host(ip), paused().unwrap()));
        World {
            network,
            hosts: hosts.into(),
        }
    }

    fn spawn<F>(&self, at: usize, work: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.hosts[at].1.spawn(work)
    }

    fn run_ms(&self, ms: u64) {
        for _ in 0..ms {
            let now_us = self.network.now_us() + TICK_US;
            self.network.advance_to(now_us);
            for (host, runtime) in &self.hosts {
                let _entered = host.enter();
                let tick = Duration::from_micros(TICK_US);
                runtime.block_on(async { tokio::time::sleep(tick).await });
                for worker in host.workers() {
                    worker.step(tick);
                }
            }
        }
    }

    /// Runs until it is done, a virtual minute at most.
    fn finish<T>(&self, mut task: tokio::task::JoinHandle<T>) -> T {
        for _ in 0..60_000 {
            if task.is_finished() {
                let done = std::pin::pin!(&mut task)
                    .poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
                match done {
                    std::task::Poll::Ready(done) => return done.unwrap(),
                    std::task::Poll::Pending => panic!("a finished task has a result"),
                }
            }
            self.run_ms(1);
        }
        panic!("not done within a virtual minute");
    }

    /// A server on the second host that answers with what it gets.
    fn echo(&self) {
        self.spawn(1, async {
            let listener = TcpListener::bind(at(TWO)).await.unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let (mut reader, mut writer) = stream.into_split();
                    let mut bytes = vec![0; 4_096];
                    while let Ok(read @ 1..) = reader.read(&mut bytes).await {
                        if writer.write_all(&bytes[..read]).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        self.run_ms(1);
    }
}

fn at(ip: IpAddr) -> SocketAddr {
    SocketAddr::new(ip, PORT)
}

/// Sends so many bytes and reads them back.
async fn round_trip(stream: &mut TcpStream, bytes: usize) -> io::Result<()> {
    let sent: Vec<u8> = (0_u8..=250).cycle().take(bytes).collect();
    stream.write_all(&sent).await?;
    let mut read = vec![0; bytes];
    stream.read_exact(&mut read).await?;
    assert_eq!(read, sent);
    Ok(())
}

fn events(seed: u64) -> Vec<Event> {
    let world = World::new(seed);
    world.network.record_events(true);
    world.network.set_default_link(Link {
        loss_per_mille: 50,
        ..Link::default()
    });
    world.echo();
    let task = world.spawn(0, async {
        for _ in 0..5 {
            let mut stream = TcpStream::connect(at(TWO)).await.unwrap();
            round_trip(&mut stream, 100_000).await.unwrap();
        }
    });
    world.finish(task);
    world.network.take_events()
}

#[test]
fn what_happens_repeats_with_the_seed() {
    let first = events(7);
    assert!(first.len() > 50, "{}", first.len());
    assert_eq!(first, events(7));
    assert_ne!(first, events(8));
}

#[test]
fn names_addresses_and_ports_are_as_asked_for() {
    let world = World::new(1);
    world.network.add_name("two", TWO);
    world.echo();
    let task = world.spawn(0, async {
        let stream = TcpStream::connect("two:9092").await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), at(TWO));
        assert_eq!(stream.local_addr().unwrap().ip(), ONE);
        let own = TcpListener::bind("127.0.0.1:0".parse().unwrap())
            .await
            .unwrap();
        let address = own.local_addr().unwrap();
        assert_ne!(address.port(), 0);
        let dialled = tokio::spawn(TcpStream::connect(address));
        let (_accepted, from) = own.accept().await.unwrap();
        assert_eq!(from.ip(), ONE);
        dialled.await.unwrap().unwrap();
        let taken = TcpListener::bind(SocketAddr::new(ONE, address.port())).await;
        assert_eq!(taken.unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let foreign = TcpListener::bind(at(TWO)).await;
        assert_eq!(foreign.unwrap_err().kind(), io::ErrorKind::AddrNotAvailable);
        let found = crate::lookup_host("two", 5).await.unwrap();
        assert_eq!(found, [SocketAddr::new(TWO, 5)]);
        assert!(crate::lookup_host("nobody", 5).await.is_err());
    });
    world.finish(task);
}

#[test]
fn where_nobody_listens_connections_are_refused() {
    let world = World::new(2);
    let task = world.spawn(0, TcpStream::connect(at(TWO)));
    let refused = world.finish(task).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    assert_eq!(world.network.connections(), 0);
}

#[test]
fn an_alias_stands_for_a_place_and_shares_its_cuts() {
    let world = World::new(12);
    world.echo();
    let [place, alias] = [3, 4].map(|last| IpAddr::from([10, 0, 0, last]));
    world.network.add_alias(alias, place, TWO);
    let task = world.spawn(0, async move {
        let stream = TcpStream::connect(at(alias)).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), at(TWO));
        assert_eq!(stream.local_addr().unwrap().ip(), place);
        stream
    });
    let mut stream = world.finish(task);
    world.network.cut(place, TWO);
    let task = world.spawn(0, async move { round_trip(&mut stream, 10).await });
    let other = world.spawn(0, async move {
        let mut stream = TcpStream::connect(at(TWO)).await.unwrap();
        round_trip(&mut stream, 10).await
    });
    world.finish(other).unwrap();
    world.run_ms(1_000);
    assert!(!task.is_finished());
    world.network.heal_all();
    world.finish(task).unwrap();
}

#[test]
fn a_cut_holds_bytes_back_and_they_come_after_it() {
    for (from, to) in [(ONE, TWO), (TWO, ONE)] {
        let world = World::new(3);
        world.echo();
        let trips = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&trips);
        let task = world.spawn(0, async move {
            let mut stream = TcpStream::connect(at(TWO)).await.unwrap();
            for _ in 0..200 {
                round_trip(&mut stream, 1_000).await.unwrap();
                counted.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        world.run_ms(200);
        world.network.cut(from, to);
        assert!(!world.network.is_open(from, to) && world.network.is_open(to, from));
        world.run_ms(50);
        let before = trips.load(Ordering::SeqCst);
        assert!(before > 5 && before < 200);
        world.run_ms(5_000);
        assert_eq!(trips.load(Ordering::SeqCst), before);
        world.network.heal(from, to);
        world.finish(task);
        assert_eq!(trips.load(Ordering::SeqCst), 200);
    }
}

#[test]
fn connecting_through_a_cut_waits_until_it_is_healed() {
    let world = World::new(4);
    world.echo();
    world.network.cut(TWO, ONE);
    let task = world.spawn(0, async {
        tokio::time::timeout(Duration::from_secs(1), TcpStream::connect(at(TWO)))
            .await
            .is_err()
    });
    assert!(world.finish(task));
    let task = world.spawn(0, TcpStream::connect(at(TWO)));
    world.run_ms(500);
    assert!(!task.is_finished());
    world.network.heal_all();
    world.finish(task).unwrap();
}

#[test]
fn who_reads_nothing_stops_who_writes() {
    let world = World::new(5);
    let written = Arc::new(AtomicUsize::new(0));
    let (read_now, reading) = tokio::sync::oneshot::channel::<()>();
    let reader = world.spawn(1, async move {
        let listener = TcpListener::bind(at(TWO)).await.unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        reading.await.unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        all.len()
    });
    let counted = Arc::clone(&written);
    world.run_ms(1);
    world.spawn(0, async move {
        let mut stream = TcpStream::connect(at(TWO)).await.unwrap();
        for _ in 0..1_000 {
            stream.write_all(&[1; 1_000]).await.unwrap();
            counted.fetch_add(1_000, Ordering::SeqCst);
        }
    });
    world.run_ms(5_000);
    let stopped_at = written.load(Ordering::SeqCst);
    assert!((200_000..300_000).contains(&stopped_at), "{stopped_at}");
    read_now.send(()).unwrap();
    assert_eq!(world.finish(reader), 1_000_000);
}

#[test]
fn a_killed_process_resets_its_connections() {
    let world = World::new(6);
    world.echo();
    let task = world.spawn(0, async {
        let mut stream = TcpStream::connect(at(TWO)).await.unwrap();
        round_trip(&mut stream, 10).await.unwrap();
        stream.read_u8().await.unwrap_err().kind()
    });
    world.run_ms(50);
    world.hosts[1].0.kill(Kill::Process);
    assert_eq!(world.finish(task), io::ErrorKind::ConnectionReset);
    let task = world.spawn(0, TcpStream::connect(at(TWO)));
    let refused = world.finish(task).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
}

#[test]
fn a_host_without_power_is_silent_until_it_is_back() {
    let mut world = World::new(7);
    world.echo();
    let (write_now, writing) = tokio::sync::oneshot::channel::<()>();
    let task = world.spawn(0, async {
        let mut stream = TcpStream::connect(at(TWO)).await.unwrap();
        round_trip(&mut stream, 10).await.unwrap();
        writing.await.unwrap();
        stream.write_all(b"hello").await.unwrap();
        stream.read_u8().await.unwrap_err().kind()
    });
    world.run_ms(50);
    world.hosts[1].0.kill(Kill::Power);
    let host = world.hosts[1].0.clone();
    world.hosts[1] = (host, paused().unwrap());
    write_now.send(()).unwrap();
    world.run_ms(2_000);
    assert!(!task.is_finished());
    world.hosts[1].0.power_on();
    assert_eq!(world.finish(task), io::ErrorKind::ConnectionReset);
}

#[test]
fn a_closed_connection_ends_after_what_was_written() {
    let world = World::new(8);
    let reader = world.spawn(1, async {
        let listener = TcpListener::listen(at(TWO), 10).unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        // Nobody is there any more.
        stream.write_all(&[0; 10]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        let failed = stream.write_all(&[0; 10]).await;
        (all.len(), failed.unwrap_err().kind())
    });
    world.run_ms(1);
    world.spawn(0, async {
        let mut stream = TcpStream::connect(at(TWO)).await.unwrap();
        stream.write_all(&[7; 100_000]).await.unwrap();
    });
    let (bytes, error) = world.finish(reader);
    assert_eq!((bytes, error), (100_000, io::ErrorKind::ConnectionReset));
    world.run_ms(10);
    assert_eq!(world.network.connections(), 0);
}

#[test]
fn the_kernel_gives_up_what_is_not_confirmed_and_what_is_silent() {
    let world = World::new(9);
    world.echo();
    let task = world.spawn(0, async {
        let mut silent = TcpStream::connect(at(TWO)).await.unwrap();
        let mut sending = TcpStream::connect(at(TWO)).await.unwrap();
        let keepalive = crate::Keepalive {
            idle: Duration::from_secs(5),
            interval: Duration::from_secs(2),
            probes: 3,
        };
        silent.set_keepalive(keepalive).unwrap();
        let limit = Duration::from_secs(8);
        sending.set_unconfirmed_max(limit).unwrap();
        round_trip(&mut silent, 10).await.unwrap();
        // Traffic without a cut hurts nothing.
        for _ in 0..300 {
            round_trip(&mut sending, 100).await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        (silent, sending)
    });
    let (mut silent, mut sending) = world.finish(task);
    world.network.cut(ONE, TWO);
    let now_us = world.network.now_us();
    let task = world.spawn(0, async move {
        sending.write_all(b"never arrives").await.unwrap();
        let first = sending.read_u8().await.unwrap_err().kind();
        (first, silent.read_u8().await.unwrap_err().kind())
    });
    let timed_out = io::ErrorKind::TimedOut;
    assert_eq!(world.finish(task), (timed_out, timed_out));
    let took_ms = (world.network.now_us() - now_us) / 1_000;
    assert!((10_900..11_500).contains(&took_ms), "{took_ms}");
}

#[test]
fn halves_read_without_waiting_what_has_come() {
    let world = World::new(10);
    world.echo();
    let task = world.spawn(0, async {
        let stream = TcpStream::connect(at(TWO)).await.unwrap();
        let (reader, mut writer) = stream.into_split();
        let mut bytes = Vec::with_capacity(64);
        let nothing = reader.try_read_buf(&mut bytes).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
        writer.write_all(b"some").await.unwrap();
        reader.readable().await.unwrap();
        let mut read = 0;
        while read < 4 {
            match reader.try_read_buf(&mut bytes) {
                Ok(more) => read += more,
                Err(_) => reader.readable().await.unwrap(),
            }
        }
        assert_eq!(bytes, b"some");
        // The other end sees the end, closes, and so it ends here.
        drop(writer);
        reader.readable().await.unwrap();
        assert_eq!(reader.try_read_buf(&mut bytes).unwrap(), 0);
    });
    world.finish(task);
}

#[test]
fn a_runtime_beside_is_stepped_and_stops_with_what_runs_there() {
    let world = World::new(11);
    let task = world.spawn(0, async {
        let thread = crate::RuntimeThread::start("beside", 1, Duration::from_secs(1)).unwrap();
        let listener = thread.handle().spawn(async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            TcpListener::bind(at(ONE)).await.unwrap()
        });
        let listener = listener.await.unwrap();
        thread.handle().spawn(async move {
            let _accepted = listener.accept().await;
        });
        let work = crate::blocking(|| 5);
        assert_eq!(work.await.unwrap(), 5);
        thread
    });
    let thread = world.finish(task);
    assert_eq!(world.hosts[0].0.workers().len(), 1);
    let task = world.spawn(0, async move {
        let in_use = TcpListener::bind(at(ONE)).await.unwrap_err();
        assert_eq!(in_use.kind(), io::ErrorKind::AddrInUse);
        thread.stop();
        TcpListener::bind(at(ONE)).await.unwrap();
        // Stopped from within, it ends with its step.
        let own = Arc::new(crate::RuntimeThread::start("own", 1, Duration::ZERO).unwrap());
        let stopped = Arc::clone(&own);
        let handle = own.handle().clone();
        let stopping = handle.spawn(async move {
            stopped.stop();
            tokio::time::sleep(Duration::from_secs(60)).await;
        });
        drop(own);
        assert!(stopping.await.unwrap_err().is_cancelled());
    });
    world.finish(task);
    assert!(world.hosts[0].0.workers().is_empty());
}

#[test]
fn outside_of_a_simulation_sockets_are_the_machines() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let listener = TcpListener::listen("127.0.0.1:0".parse().unwrap(), 16).unwrap();
        let address = listener.local_addr().unwrap();
        let mut dialled = TcpStream::connect(address.to_string()).await.unwrap();
        let (mut accepted, from) = listener.accept().await.unwrap();
        assert_eq!(from, dialled.local_addr().unwrap());
        dialled.set_nodelay(true).unwrap();
        dialled
            .set_unconfirmed_max(Duration::from_secs(10))
            .unwrap();
        dialled.write_all(b"bytes").await.unwrap();
        let mut read = [0; 5];
        accepted.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"bytes");
        assert_eq!(crate::blocking(|| 3).await.unwrap(), 3);
        let thread = crate::RuntimeThread::start("real", 1, Duration::from_secs(1)).unwrap();
        let name = thread
            .handle()
            .spawn(async { std::thread::current().name().map(str::to_owned) });
        assert_eq!(name.await.unwrap().as_deref(), Some("real"));
        thread.stop();
    });
}
