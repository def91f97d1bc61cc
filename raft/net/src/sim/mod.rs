//! A network in memory: hosts, connections with delays, cuts, resets, all drawn from a seed.
//!
//! It shows programs what TCP shows them: bytes arrive in order or not at all, a cut shows as
//! silence, loss as delay, a process that ended as a reset, a host without power as nothing.
//! Nothing happens by itself: the simulation moves the time ([`Network::advance_to`]) and runs each
//! host's code between [`Host::enter`] and the drop of what that returns. Made for one thread.

mod connection;
mod delivery;
mod host;
mod socket;
mod state;
#[cfg(test)]
mod tests;
mod worker;

use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Runtime;

pub(crate) use host::current;
pub use host::{Entered, Host, Kill};
pub(crate) use socket::{Listener, ReadHalf, Socket, WriteHalf};
use state::State;
pub use state::{Event, EventKind};
pub use worker::Worker;

/// How bytes go from one host to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// At least so long on the way.
    pub latency_us: u64,
    /// And up to so much longer.
    pub jitter_us: u64,
    /// So many packets in a thousand are lost; what they carried comes later.
    pub loss_per_mille: u64,
}

impl Default for Link {
    fn default() -> Link {
        Link {
            latency_us: 500,
            jitter_us: 1_000,
            loss_per_mille: 0,
        }
    }
}

/// The network. Clones share it.
#[derive(Clone)]
pub struct Network {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// Makes a host's further runtimes, which must not take part in real time.
    make_runtime: fn() -> io::Result<Runtime>,
}

impl Network {
    /// A network without hosts, at time 0.
    #[must_use]
    pub fn new(seed: u64, make_runtime: fn() -> io::Result<Runtime>) -> Network {
        Network {
            shared: Arc::new(Shared {
                state: Mutex::new(State::new(seed)),
                make_runtime,
            }),
        }
    }

    /// The host with that address, made when there is none.
    #[must_use]
    pub fn host(&self, ip: IpAddr) -> Host {
        self.with(|state| {
            state.add_host(ip);
        });
        Host::new(self.clone(), ip)
    }

    /// Has a name stand for a host.
    pub fn add_name(&self, name: &str, ip: IpAddr) {
        self.with(|state| state.names.insert(name.to_owned(), ip));
    }

    /// Who connects to `alias`, from whatever host, connects as if from one host to another: several
    /// that run on one host can so stand at different places of the network.
    pub fn add_alias(&self, alias: IpAddr, from: IpAddr, to: IpAddr) {
        self.with(|state| {
            state.add_host(from);
            state.aliases.insert(alias, (from, to));
        });
    }

    /// How bytes go where nothing else was said.
    pub fn set_default_link(&self, link: Link) {
        self.with(|state| state.default_link = link);
    }

    /// How bytes go from one host to another (the other way: as before).
    pub fn set_link(&self, from: IpAddr, to: IpAddr, link: Link) {
        self.with(|state| state.links.insert((from, to), link));
    }

    /// All links are as the default says again.
    pub fn reset_links(&self) {
        self.with(|state| state.links.clear());
    }

    /// From now on nothing arrives from one host at the other: it is held back as TCP does, and
    /// comes after [`Network::heal`], unless somebody gives up before.
    pub fn cut(&self, from: IpAddr, to: IpAddr) {
        self.with(|state| state.cuts.insert((from, to)));
    }

    /// Lets bytes through again; the connections notice within the time that TCP needs.
    pub fn heal(&self, from: IpAddr, to: IpAddr) {
        self.with(|state| {
            if state.cuts.remove(&(from, to)) {
                state.release_held();
            }
        });
    }

    /// Lets everything through again.
    pub fn heal_all(&self) {
        self.with(|state| {
            state.cuts.clear();
            state.release_held();
        });
    }

    /// Whether bytes from one host arrive at the other: there is no cut, both have power.
    #[must_use]
    pub fn is_open(&self, from: IpAddr, to: IpAddr) -> bool {
        self.with(|state| !state.is_blocked(from, to))
    }

    /// Moves the time, delivers what is due, in order, and wakes who waits for it.
    pub fn advance_to(&self, now_us: u64) {
        self.with(|state| state.advance_to(now_us));
    }

    /// The time.
    #[must_use]
    pub fn now_us(&self) -> u64 {
        self.with(|state| state.now_us)
    }

    /// Whether events are kept for [`Network::take_events`].
    pub fn record_events(&self, is_on: bool) {
        self.with(|state| state.record_events(is_on));
    }

    /// What happened since the last call.
    #[must_use]
    pub fn take_events(&self) -> Vec<Event> {
        self.with(|state| std::mem::take(&mut state.events))
    }

    /// Connections of which somebody holds an end.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.with(|state| state.connections.len())
    }

    /// Works on the state; wakes whom that woke when it is free again.
    fn with<R>(&self, work: impl FnOnce(&mut State) -> R) -> R {
        let (result, woken) = {
            let mut state = (self.shared.state)
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let result = work(&mut state);
            (result, std::mem::take(&mut state.woken))
        };
        for waker in woken {
            waker.wake();
        }
        result
    }
}

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Network").finish_non_exhaustive()
    }
}
