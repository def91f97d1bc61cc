//! The socket, its accept loop, and the tasks of its connections.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use net::{TcpListener, TcpStream};
use storage::clock::Clock;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinHandle, JoinSet};
use tracing::{debug, error, warn};

use crate::activity::Activity;
use crate::limits::{Limits, Refused};

/// Connections that may wait to be accepted. The kernel cuts it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
/// Pause after an accept failed for want of descriptors or memory, so that it does not spin.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);
/// Refused connections are reported at most this often.
const REFUSED_LOG_INTERVAL_MS: i64 = 10_000;

/// Limits of a listener.
#[derive(Debug, Clone)]
pub struct ListenerConfig {
    /// Names the listener in the log, and in what it tells clients where the protocol has that.
    pub name: String,
    /// Open connections in total; further ones are closed at once.
    pub connections_max: usize,
    /// Open connections from one address; further ones are closed at once.
    pub connections_per_address_max: usize,
    /// A connection must be established ([`Activity::established`]) within this time; 0: any time.
    pub handshake_ms_max: i64,
    /// A connection must move ([`Activity::touch`]) within this time; 0: it may idle for ever.
    pub idle_ms_max: i64,
}

/// A bound socket that does not accept yet: its port is known, and clients that connect wait.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    local_addr: SocketAddr,
    config: ListenerConfig,
    clock: Clock,
}

/// One accepted connection, as the handler gets it.
#[derive(Debug)]
pub struct Connection {
    /// The socket; Nagle's delay is off.
    pub stream: TcpStream,
    /// The other end.
    pub peer: SocketAddr,
    /// Where to report progress; without it the deadlines close the connection.
    pub activity: Activity,
    /// Says when to finish.
    pub stop: Stop,
}

/// Tells a connection's handler to finish: take nothing new, end what is in hand, return.
#[derive(Debug, Clone)]
pub struct Stop(watch::Receiver<bool>);

/// A listener that accepts. Dropping it closes the port and every connection without waiting.
#[derive(Debug)]
pub struct ListenerHandle {
    local_addr: SocketAddr,
    stop: watch::Sender<bool>,
    accepting: Option<JoinHandle<JoinSet<()>>>,
}

impl Listener {
    /// Binds with `SO_REUSEADDR` and starts the kernel's queue; accepts nothing yet. Must be called
    /// within a tokio runtime.
    pub fn bind(addr: SocketAddr, config: ListenerConfig, clock: Clock) -> io::Result<Listener> {
        let socket = TcpListener::listen(addr, BACKLOG)?;
        let local_addr = socket.local_addr()?;
        Ok(Listener {
            socket,
            local_addr,
            config,
            clock,
        })
    }

    /// Where it listens, with the port the system chose when 0 was asked for.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Accepts connections and runs `handler` on each, in a task of its own, until it returns, a
    /// deadline passes or the listener is shut down.
    pub fn serve<H, F>(self, handler: H) -> ListenerHandle
    where
        H: Fn(Connection) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let (stop, stopped) = watch::channel(false);
        let accepting = tokio::spawn(accept(
            self.socket,
            self.config,
            self.clock,
            Stop(stopped),
            handler,
        ));
        ListenerHandle {
            local_addr: self.local_addr,
            stop,
            accepting: Some(accepting),
        }
    }
}

impl Stop {
    /// Whether to finish now.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns when it is time to finish. Cancel-safe.
    pub async fn requested(&mut self) {
        // An error means that the handle is gone, which stops the listener as well.
        let _ = self.0.wait_for(|stop| *stop).await;
    }
}

impl ListenerHandle {
    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Closes the port, tells every connection to finish, waits for them at most `deadline_ms` and
    /// ends those that are left. Every connection task has ended when it returns.
    pub async fn shutdown(mut self, deadline_ms: u64) {
        self.stop.send_replace(true);
        let Some(accepting) = self.accepting.take() else {
            return;
        };
        let mut connections = match accepting.await {
            Ok(connections) => connections,
            Err(failure) => {
                error!(%failure, "the accept loop failed");
                return;
            }
        };
        let all_done = async {
            while let Some(ended) = connections.join_next().await {
                report_panic("stopping", ended);
            }
        };
        if tokio::time::timeout(Duration::from_millis(deadline_ms), all_done)
            .await
            .is_err()
        {
            warn!(
                connections = connections.len(),
                "connections did not finish in time, closing"
            );
            connections.shutdown().await;
        }
    }
}

impl Drop for ListenerHandle {
    fn drop(&mut self) {
        if let Some(accepting) = &self.accepting {
            accepting.abort(); // drops its connections with it
        }
    }
}

/// Accepts until told to stop; returns the connections that are still open.
async fn accept<H, F>(
    listener: TcpListener,
    config: ListenerConfig,
    clock: Clock,
    mut stop: Stop,
    handler: H,
) -> JoinSet<()>
where
    H: Fn(Connection) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let limits = Limits::new(config.connections_max, config.connections_per_address_max);
    let limits = Arc::new(Mutex::new(limits));
    let mut connections = JoinSet::new();
    let mut refusals = Refusals::default();
    let stopped = stop.clone();
    loop {
        // Every arm is cancel-safe.
        let accepted = tokio::select! {
            biased;
            () = stop.requested() => return connections,
            Some(ended) = connections.join_next() => {
                report_panic(&config.name, ended);
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(failure) => {
                warn!(listener = %config.name, %failure, "cannot accept a connection");
                tokio::select! {
                    () = stop.requested() => return connections,
                    () = tokio::time::sleep(ACCEPT_RETRY) => continue,
                }
            }
        };
        let slot = match Slot::take(&limits, peer.ip()) {
            Ok(slot) => slot,
            Err(refused) => {
                refusals.add(&config.name, peer.ip(), refused, clock.monotonic_ms());
                continue;
            }
        };
        if let Err(failure) = stream.set_nodelay(true) {
            debug!(%peer, %failure, "connection was gone before it was accepted");
        }
        let activity = Activity::new(&clock, config.handshake_ms_max, config.idle_ms_max);
        let handled = handler(Connection {
            stream,
            peer,
            activity: activity.clone(),
            stop: stopped.clone(),
        });
        connections.spawn(async move {
            let _slot = slot;
            tokio::select! {
                () = handled => {}
                expired = activity.expired() => debug!(%peer, ?expired, "connection closed"),
            }
        });
    }
}

/// A counted connection; no longer counted once dropped, also when its task panics.
struct Slot {
    limits: Arc<Mutex<Limits>>,
    address: IpAddr,
}

impl Slot {
    fn take(limits: &Arc<Mutex<Limits>>, address: IpAddr) -> Result<Slot, Refused> {
        limits
            .lock()
            .expect("counting does not panic")
            .admit(address)?;
        Ok(Slot {
            limits: Arc::clone(limits),
            address,
        })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.limits
            .lock()
            .expect("counting does not panic")
            .release(self.address);
    }
}

/// Refused connections since the last report.
#[derive(Default)]
struct Refusals {
    count: u64,
    reported_ms: Option<i64>,
}

impl Refusals {
    fn add(&mut self, listener: &str, address: IpAddr, refused: Refused, now_ms: i64) {
        self.count += 1;
        if self
            .reported_ms
            .is_none_or(|ms| now_ms - ms >= REFUSED_LOG_INTERVAL_MS)
        {
            warn!(
                listener,
                %address,
                limit = ?refused,
                connections = self.count,
                "connections refused by a limit"
            );
            *self = Refusals {
                count: 0,
                reported_ms: Some(now_ms),
            };
        }
    }
}

fn report_panic(listener: &str, ended: Result<(), JoinError>) {
    if let Err(failure) = ended
        && failure.is_panic()
    {
        error!(listener, %failure, "a connection's handler panicked");
    }
}
