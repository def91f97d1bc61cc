//! All that a network knows, and what can be done to it from outside.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::task::Waker;

use super::connection::{Connection, Segment};
use super::{Kill, Link, Worker};

/// The first port that is given to who asks for any.
const PORTS_FIRST: u16 = 32_768;
/// Connections that may wait to be accepted.
pub(super) const BACKLOG_MAX: usize = 1_024;
/// A host to itself.
const LOOPBACK: Link = Link {
    latency_us: 20,
    jitter_us: 30,
    loss_per_mille: 0,
};

/// Something that happened in the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub at_us: u64,
    /// In which connection.
    pub connection: u64,
    /// Where it came from.
    pub from: SocketAddr,
    /// Where it arrived.
    pub to: SocketAddr,
    /// What arrived.
    pub kind: EventKind,
}

/// What happened in the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// A connection was asked for.
    Syn,
    /// It was granted.
    Accepted,
    /// It stands.
    Connected,
    /// Bytes arrived.
    Data {
        /// How many.
        bytes: usize,
        /// A digest of them.
        digest: u64,
    },
    /// The other end writes nothing more.
    Fin,
    /// The other end is gone.
    Reset,
    /// Nobody answered for too long.
    TimedOut,
}

pub(super) struct HostState {
    pub(super) is_dark: bool,
    pub(super) listeners: BTreeMap<u16, ListenerState>,
    next_port: u16,
    pub(super) workers: Vec<Worker>,
}

pub(super) struct ListenerState {
    pub(super) number: u64,
    pub(super) backlog: VecDeque<u64>,
    pub(super) wakers: Vec<Waker>,
}

pub(super) struct State {
    pub(super) now_us: u64,
    random: u64,
    pub(super) hosts: BTreeMap<IpAddr, HostState>,
    pub(super) names: BTreeMap<String, IpAddr>,
    /// Addresses that stand for a connection from the first to the second.
    pub(super) aliases: BTreeMap<IpAddr, (IpAddr, IpAddr)>,
    pub(super) default_link: Link,
    pub(super) links: BTreeMap<(IpAddr, IpAddr), Link>,
    pub(super) cuts: BTreeSet<(IpAddr, IpAddr)>,
    pub(super) connections: BTreeMap<u64, Connection>,
    next_number: u64,
    /// When the first of a pipe is due: the pipe's connection and the end that it comes from.
    pub(super) due: BTreeSet<(u64, u64, usize)>,
    pub(super) next_look_us: u64,
    /// To be woken when the state is free.
    pub(super) woken: Vec<Waker>,
    pub(super) is_recording: bool,
    pub(super) events: Vec<Event>,
}

impl State {
    pub(super) fn new(seed: u64) -> State {
        State {
            now_us: 0,
            random: seed,
            hosts: BTreeMap::new(),
            names: BTreeMap::new(),
            aliases: BTreeMap::new(),
            default_link: Link::default(),
            links: BTreeMap::new(),
            cuts: BTreeSet::new(),
            connections: BTreeMap::new(),
            next_number: 1,
            due: BTreeSet::new(),
            next_look_us: 0,
            woken: Vec::new(),
            is_recording: false,
            events: Vec::new(),
        }
    }

    /// A number below `bound` (SplitMix64); 0 when there is none.
    pub(super) fn draw(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound.max(1)
    }

    pub(super) fn add_host(&mut self, ip: IpAddr) -> &mut HostState {
        self.hosts.entry(ip).or_insert_with(|| HostState {
            is_dark: false,
            listeners: BTreeMap::new(),
            next_port: PORTS_FIRST,
            workers: Vec::new(),
        })
    }

    pub(super) fn record_events(&mut self, is_on: bool) {
        self.is_recording = is_on;
        if !is_on {
            self.events.clear();
        }
    }

    pub(super) fn link(&self, from: IpAddr, to: IpAddr) -> Link {
        if from == to {
            return LOOPBACK;
        }
        let link = self.links.get(&(from, to));
        link.copied().unwrap_or(self.default_link)
    }

    pub(super) fn is_blocked(&self, from: IpAddr, to: IpAddr) -> bool {
        let is_dark = |ip| self.hosts.get(&ip).is_none_or(|host| host.is_dark);
        from != to && (self.cuts.contains(&(from, to)) || is_dark(from) || is_dark(to))
    }

    /// A port nobody uses, the one after the last that was given.
    fn free_port(&mut self, ip: IpAddr) -> io::Result<u16> {
        let used: BTreeSet<u16> = (self.connections.values())
            .flat_map(|connection| &connection.ends)
            .filter(|end| end.address.ip() == ip)
            .map(|end| end.address.port())
            .collect();
        let host = self.add_host(ip);
        for _ in PORTS_FIRST..=u16::MAX {
            let port = host.next_port;
            host.next_port = port.checked_add(1).unwrap_or(PORTS_FIRST);
            if !host.listeners.contains_key(&port) && !used.contains(&port) {
                return Ok(port);
            }
        }
        Err(io::ErrorKind::AddrNotAvailable.into())
    }

    /// The port, and the listener's number.
    pub(super) fn listen(&mut self, ip: IpAddr, address: SocketAddr) -> io::Result<(u16, u64)> {
        let asked = address.ip();
        if asked != ip && !asked.is_loopback() && !asked.is_unspecified() {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        let port = match address.port() {
            0 => self.free_port(ip)?,
            port => port,
        };
        let number = self.next_number;
        let listeners = &mut self.add_host(ip).listeners;
        if listeners.contains_key(&port) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let listener = ListenerState {
            number,
            backlog: VecDeque::new(),
            wakers: Vec::new(),
        };
        listeners.insert(port, listener);
        self.next_number += 1;
        Ok((port, number))
    }

    /// The listener is dropped.
    pub(super) fn unlisten(&mut self, ip: IpAddr, port: u16, number: u64) {
        let listeners = &mut self.add_host(ip).listeners;
        if listeners.get(&port).is_none_or(|one| one.number != number) {
            return;
        }
        let backlog = listeners.remove(&port).map(|one| one.backlog);
        for connection in backlog.into_iter().flatten() {
            self.abort(connection, 1);
        }
    }

    /// Begins to connect; the number of the connection, whose end 0 the caller holds.
    pub(super) fn connect(&mut self, mut ip: IpAddr, mut to: SocketAddr) -> io::Result<u64> {
        if let Some((from, target)) = self.aliases.get(&to.ip()) {
            ip = *from;
            to.set_ip(*target);
        }
        let port = self.free_port(ip)?;
        let number = self.next_number;
        self.next_number += 1;
        let mut connection = Connection::new(SocketAddr::new(ip, port), to, self.now_us);
        connection.ends[0].is_held = true;
        self.connections.insert(number, connection);
        self.send(number, 0, Segment::Syn);
        Ok(number)
    }

    /// An end is let go of, as the kernel does for a socket that is closed.
    pub(super) fn close(&mut self, number: u64, at: usize) {
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        let end = &mut connection.ends[at];
        if !end.is_held {
            return;
        }
        end.is_held = false;
        end.readers.clear();
        end.writers.clear();
        if end.is_gone {
            return self.forget(number);
        }
        let is_clean = end.received.is_empty() && end.is_connected;
        end.is_gone = true;
        end.received.clear();
        match (is_clean, end.has_shut) {
            (false, _) => self.send(number, at, Segment::Reset),
            (true, false) => self.send(number, at, Segment::Fin),
            (true, true) => self.forget(number),
        }
    }

    /// An end is let go of with a reset.
    pub(super) fn abort(&mut self, number: u64, at: usize) {
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        let end = &mut connection.ends[at];
        end.is_held = false;
        if end.is_gone {
            return self.forget(number);
        }
        end.fail(io::ErrorKind::ConnectionReset, &mut self.woken);
        self.send(number, at, Segment::Reset);
    }

    /// Takes a connection away that is over.
    pub(super) fn forget(&mut self, number: u64) {
        let is_over = self
            .connections
            .get(&number)
            .is_some_and(Connection::is_over);
        if is_over {
            self.connections.remove(&number);
        }
    }

    pub(super) fn kill(&mut self, ip: IpAddr, how: Kill) {
        let host = self.add_host(ip);
        host.listeners.clear();
        host.is_dark |= how == Kill::Power;
        let ends: Vec<(u64, usize)> = (self.connections.iter())
            .flat_map(|(number, connection)| {
                let own = move |at: &usize| connection.ends[*at].address.ip() == ip;
                [0, 1].into_iter().filter(own).map(|at| (*number, at))
            })
            .collect();
        for (number, at) in ends {
            if how == Kill::Process {
                self.abort(number, at);
                continue;
            }
            let Some(connection) = self.connections.get_mut(&number) else {
                continue;
            };
            let end = &mut connection.ends[at];
            end.is_held = false;
            end.fail(io::ErrorKind::ConnectionReset, &mut self.woken);
            connection.pipes[at].segments.clear();
            connection.pipes[at].held_since_us = None;
            self.due
                .retain(|(_, one, from)| (*one, *from) != (number, at));
            self.forget(number);
        }
    }
}
