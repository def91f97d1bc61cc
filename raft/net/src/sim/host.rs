//! A simulated host, and which one the code that runs belongs to.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::{Listener, Network, Socket, Worker};

/// Of so many pieces of blocking work one waits for a thread.
const BLOCKING_WAITS_ONE_IN: u64 = 4;
/// At most so long.
const BLOCKING_WAIT_US_MAX: u64 = 20_000;

thread_local! {
    static HERE: RefCell<Option<Host>> = const { RefCell::new(None) };
}

/// The host that the code that runs belongs to, in a simulation.
pub(crate) fn current() -> Option<Host> {
    // While a thread's locals are taken down it belongs to nothing.
    HERE.try_with(|here| here.borrow().clone()).ok().flatten()
}

/// How a host's process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kill {
    /// The process is gone; the kernel sends what was written and resets its connections.
    Process,
    /// The host is dark: what was on its way from it is lost, nothing answers there until
    /// [`Host::power_on`].
    Power,
}

/// One host of a network. Clones stand for the same.
#[derive(Clone)]
pub struct Host {
    network: Network,
    ip: IpAddr,
}

/// As long as it lives, the code on this thread runs on the host.
#[must_use = "the thread leaves the host when this is dropped"]
pub struct Entered {
    before: Option<Host>,
    /// Belongs to the thread that entered.
    _not_send: PhantomData<*const ()>,
}

impl Host {
    pub(super) fn new(network: Network, ip: IpAddr) -> Host {
        Host { network, ip }
    }

    /// Its address.
    #[must_use]
    pub fn ip(&self) -> IpAddr {
        self.ip
    }

    /// The network it is in.
    #[must_use]
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Has the code of this thread run on this host.
    pub fn enter(&self) -> Entered {
        Entered {
            before: HERE.with(|here| here.replace(Some(self.clone()))),
            _not_send: PhantomData,
        }
    }

    /// The runtimes that code of this host has asked for beside its own and not stopped, oldest
    /// first. Each is to be stepped as the first one is.
    #[must_use]
    pub fn workers(&self) -> Vec<Worker> {
        self.network.with(|state| {
            let workers = &mut state.add_host(self.ip).workers;
            workers.retain(|worker| !worker.is_stopped());
            workers.clone()
        })
    }

    /// Ends all that runs here: the connections, the listeners, and the [`Host::workers`] with what
    /// runs there. The host's own first runtime is to be dropped after this.
    pub fn kill(&self, how: Kill) {
        self.network.with(|state| state.kill(self.ip, how));
        let entered = self.enter();
        for worker in self.workers() {
            worker.stop();
        }
        drop(entered);
    }

    /// The host has power again, after [`Kill::Power`].
    pub fn power_on(&self) {
        self.network.with(|state| {
            state.add_host(self.ip).is_dark = false;
            state.release_held();
        });
    }

    pub(crate) fn lookup(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let literal = host.trim_start_matches('[').trim_end_matches(']');
        let ip = match literal.parse::<IpAddr>() {
            Ok(ip) => ip,
            Err(_) if host == "localhost" => self.ip,
            Err(_) => {
                let named = self.network.with(|state| state.names.get(host).copied());
                named.ok_or_else(|| {
                    io::Error::new(io::ErrorKind::NotFound, format!("no host is named {host}"))
                })?
            }
        };
        Ok(vec![SocketAddr::new(ip, port)])
    }

    pub(crate) fn lookup_address(&self, address: &str) -> io::Result<SocketAddr> {
        let invalid = || io::Error::new(io::ErrorKind::InvalidInput, "not host:port");
        let (host, port) = address.rsplit_once(':').ok_or_else(invalid)?;
        let port = port.parse().map_err(|_| invalid())?;
        let mut found = self.lookup(host, port)?;
        found.pop().ok_or_else(invalid)
    }

    pub(crate) fn listen(&self, address: SocketAddr) -> io::Result<Listener> {
        let bound = self.network.with(|state| state.listen(self.ip, address));
        let (port, number) = bound?;
        let address = SocketAddr::new(address.ip(), port);
        Ok(Listener::new(
            self.network.clone(),
            self.ip,
            address,
            number,
        ))
    }

    pub(crate) async fn connect(&self, address: SocketAddr) -> io::Result<Socket> {
        let is_here = address.ip().is_loopback() || address.ip().is_unspecified();
        let to = if is_here { self.ip } else { address.ip() };
        let to = SocketAddr::new(to, address.port());
        let number = self.network.with(|state| state.connect(self.ip, to))?;
        // Dropped before it is connected, it gives up.
        let socket = Socket::new(self.network.clone(), number, 0);
        socket.connected().await?;
        Ok(socket)
    }

    /// How long blocking work waits until a thread takes it; mostly not at all.
    pub(crate) fn blocking_wait(&self) -> Duration {
        let us = self
            .network
            .with(|state| match state.draw(BLOCKING_WAITS_ONE_IN) {
                0 => state.draw(BLOCKING_WAIT_US_MAX),
                _ => 0,
            });
        Duration::from_micros(us)
    }

    pub(crate) fn start_worker(&self, name: &str) -> io::Result<Worker> {
        let runtime = (self.network.shared.make_runtime)()?;
        let worker = Worker::new(name, runtime);
        self.network
            .with(|state| state.add_host(self.ip).workers.push(worker.clone()));
        Ok(worker)
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("ip", &self.ip).finish()
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let here = self.before.take();
        HERE.with(|place| place.replace(here));
    }
}

impl fmt::Debug for Entered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entered")
    }
}
