//! A listener over loopback: limits, deadlines, and a stop that leaves nothing behind.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream as Client};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use listener::{Connection, Listener, ListenerConfig, ListenerHandle};
use storage::clock::Clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn config() -> ListenerConfig {
    ListenerConfig {
        name: "test".to_owned(),
        connections_max: 100,
        connections_per_address_max: 100,
        handshake_ms_max: 0,
        idle_ms_max: 0,
    }
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// Echoes; counts the handlers that are running.
fn serve_echo(config: ListenerConfig, running: &Arc<AtomicUsize>) -> ListenerHandle {
    struct Running(Arc<AtomicUsize>);
    impl Drop for Running {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }
    let running = Arc::clone(running);
    let listener = Listener::bind(loopback(), config, Clock::system()).unwrap();
    listener.serve(move |mut connection: Connection| {
        running.fetch_add(1, Ordering::SeqCst);
        let running = Running(Arc::clone(&running));
        async move {
            let _running = running;
            let mut buf = [0; 64];
            loop {
                let len = tokio::select! {
                    () = connection.stop.requested() => return,
                    len = connection.stream.read(&mut buf) => len.unwrap_or(0),
                };
                if len == 0 || connection.stream.write_all(&buf[..len]).await.is_err() {
                    return;
                }
                connection.activity.established();
            }
        }
    })
}

fn connect(addr: SocketAddr) -> Client {
    let client = Client::connect(addr).unwrap();
    client
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    client
}

fn is_echoed(client: &mut Client) -> bool {
    let mut buf = [0; 4];
    client.write_all(b"ping").is_ok() && client.read_exact(&mut buf).is_ok() && buf == *b"ping"
}

fn is_closed(client: &mut Client) -> bool {
    !matches!(client.read(&mut [0; 1]), Ok(1..))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

#[tokio::test]
async fn connections_over_the_address_limit_are_closed_and_the_place_is_reused() {
    let running = Arc::default();
    let handle = serve_echo(
        ListenerConfig {
            connections_per_address_max: 1,
            ..config()
        },
        &running,
    );
    let addr = handle.local_addr();
    blocking(move || {
        let mut first = connect(addr);
        assert!(is_echoed(&mut first));
        let mut second = connect(addr);
        assert!(is_closed(&mut second));
        drop(first);
        // The server needs a moment to see that the first one is gone.
        let served = (0..1_000).any(|_| is_echoed(&mut connect(addr)));
        assert!(served);
    })
    .await;
    handle.shutdown(1_000).await;
}

#[tokio::test]
async fn a_silent_connection_is_closed_at_the_handshake_deadline() {
    let running = Arc::default();
    let handle = serve_echo(
        ListenerConfig {
            handshake_ms_max: 50,
            ..config()
        },
        &running,
    );
    let addr = handle.local_addr();
    blocking(move || {
        let mut talking = connect(addr);
        assert!(is_echoed(&mut talking));
        let mut silent = connect(addr);
        assert!(is_closed(&mut silent));
        assert!(is_echoed(&mut talking));
    })
    .await;
    handle.shutdown(1_000).await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_at_the_idle_deadline() {
    let running = Arc::default();
    let handle = serve_echo(
        ListenerConfig {
            idle_ms_max: 50,
            ..config()
        },
        &running,
    );
    let addr = handle.local_addr();
    blocking(move || {
        let mut client = connect(addr);
        assert!(is_echoed(&mut client));
        assert!(is_closed(&mut client));
    })
    .await;
    handle.shutdown(1_000).await;
}

#[tokio::test]
async fn shutdown_ends_every_connection_and_frees_the_port() {
    let running: Arc<AtomicUsize> = Arc::default();
    let handle = serve_echo(config(), &running);
    let addr = handle.local_addr();
    let mut clients = blocking(move || {
        let mut clients: Vec<Client> = (0..5).map(|_| connect(addr)).collect();
        assert!(clients.iter_mut().all(is_echoed));
        clients
    })
    .await;
    handle.shutdown(10_000).await;
    assert_eq!(running.load(Ordering::SeqCst), 0);
    assert!(clients.iter_mut().all(is_closed));
    Listener::bind(addr, config(), Clock::system()).expect("the port is free");
}

#[tokio::test]
async fn a_handler_that_does_not_stop_is_ended_at_the_deadline() {
    let listener = Listener::bind(loopback(), config(), Clock::system()).unwrap();
    let handle = listener.serve(|connection: Connection| async move {
        connection.activity.established();
        std::future::pending::<()>().await;
    });
    let addr = handle.local_addr();
    let mut client = blocking(move || connect(addr)).await;
    handle.shutdown(10).await;
    assert!(is_closed(&mut client));
}

#[tokio::test]
async fn dropping_the_handle_closes_everything() {
    let running = Arc::default();
    let handle = serve_echo(config(), &running);
    let addr = handle.local_addr();
    let mut client = blocking(move || {
        let mut client = connect(addr);
        assert!(is_echoed(&mut client));
        client
    })
    .await;
    drop(handle);
    assert!(blocking(move || is_closed(&mut client)).await);
}
