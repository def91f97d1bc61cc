//! Each node in a network namespace of its own, and the clients in one; a router in user space between
//! them. There is no way out of any of them, and the machine's own network is not touched.
//!
//! ```text
//! node n     10.66.0.n and, for client c, 10.66.(c+1).n
//! harness    10.66.0.254
//! client c   10.66.(c+1).254, since that is nearest to the node's address that it dials
//! ```

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::{Child, Command};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use jepsen_workload::fault::NodeId;

use super::place::Place;
use super::rules::{End, Rules};
use super::switch::{CLIENTS, NETWORK, Switch};
use super::{Addresses, Link, Probed};

const KAFKA_PORT: u16 = 9_092;
const PEERS_PORT: u16 = 9_094;
const HTTP_PORT: u16 = 8_080;
const PROBE_PORT: u16 = 7_777;
/// Clients with addresses of their own.
const CLIENTS_MAX: u32 = 200;
/// Packets sent by a probe over each link, so that a lossy one is not taken for a cut one.
const PROBES: u32 = 8;
const PROBE_PAUSE: Duration = Duration::from_millis(10);
const RECEIVE_PAUSE: Duration = Duration::from_micros(500);
/// For a probe on a link that is not slowed down.
const PROBE_WAIT: Duration = Duration::from_millis(250);
/// Lets a packet wait in the device rather than be lost when the switch has no turn.
const QUEUE_PACKETS: u32 = 5_000;

/// Namespaces of a run.
#[derive(Debug)]
pub(crate) struct Netns {
    // First, so that no packet is under way when the namespaces go.
    switch: Switch,
    clients: Place,
    client_count: u32,
    nodes: Mutex<BTreeMap<NodeId, Spot>>,
    probe: Mutex<u64>,
}

/// Where one node is.
#[derive(Debug)]
struct Spot {
    place: Place,
    probe: UdpSocket,
}

impl Netns {
    /// The clients' namespace, and no nodes yet.
    pub(super) fn make(clients: u32, seed: u64) -> io::Result<Netns> {
        if clients > CLIENTS_MAX {
            let message = format!("{clients} clients; at most {CLIENTS_MAX} can be told apart");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let needs = |error: io::Error| match error.kind() {
            io::ErrorKind::PermissionDenied => io::Error::new(
                io::ErrorKind::PermissionDenied,
                "network namespaces need root; without it there is `--isolate loopback`",
            ),
            _ => error,
        };
        let place = Place::apart("clients").map_err(needs)?;
        let net = Netns {
            switch: Switch::start(seed)?,
            clients: place,
            client_count: clients,
            nodes: Mutex::new(BTreeMap::new()),
            probe: Mutex::new(0),
        };
        net.plug(&net.clients, CLIENTS)?;
        Ok(net)
    }

    /// Gives a namespace its device, with all addresses that end with `last`.
    fn plug(&self, place: &Place, last: u8) -> io::Result<()> {
        let device = place.run(|| super::sys::open_tun("net0"))??;
        let [a, b] = NETWORK;
        let mut batch = "link set lo up\n".to_owned();
        for client in 0..=self.client_count {
            batch += &format!("addr add {a}.{b}.{client}.{last}/24 dev net0\n");
        }
        batch += &format!("link set net0 mtu 1500 txqueuelen {QUEUE_PACKETS} up\n");
        place.ip(batch)?;
        self.switch.add(last, device)
    }

    pub(super) fn enter(&self) -> io::Result<()> {
        self.clients.enter()
    }

    pub(super) fn add(&self, node: NodeId) -> io::Result<Addresses> {
        let last = u8::try_from(node).ok().filter(|last| *last < CLIENTS);
        let last = last.ok_or_else(|| io::Error::other("too many nodes for one network"))?;
        let place = Place::apart(&format!("node-{node}"))?;
        self.plug(&place, last)?;
        let own = address(0, last);
        let probe = place.run(move || UdpSocket::bind((own, PROBE_PORT)))??;
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.insert(node, Spot { place, probe });
        Ok(Addresses {
            settings: vec![
                "kafka.host=0.0.0.0".to_owned(),
                format!("kafka.port={KAFKA_PORT}"),
                format!("kafka.advertised_host={own}"),
                format!("peers.host={own}"),
                format!("peers.port={PEERS_PORT}"),
                format!("http.host={own}"),
                format!("http.port={HTTP_PORT}"),
            ],
            peers: format!("{own}:{PEERS_PORT}"),
            http: format!("{own}:{HTTP_PORT}"),
        })
    }

    pub(super) fn spawn(&self, node: NodeId, mut command: Command) -> io::Result<Child> {
        let nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        let spot = nodes.get(&node);
        let spot = spot.ok_or_else(|| io::Error::other(format!("no node {node} was placed")))?;
        spot.place.run(move || command.spawn())?
    }

    pub(super) fn kafka(&self, client: u32, node: NodeId) -> Option<String> {
        let last = u8::try_from(node).ok()?;
        // A client that nobody announced shares the harness's place.
        let known = client
            .checked_add(1)
            .filter(|slot| *slot <= self.client_count);
        let slot = u8::try_from(known.unwrap_or(0)).ok()?;
        Some(format!("{}:{KAFKA_PORT}", address(slot, last)))
    }

    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Rules) -> T) -> T {
        self.switch.change(change)
    }

    /// Somebody who listens in a node's namespace.
    #[cfg(test)]
    pub(super) fn listener(&self, node: NodeId, port: u16) -> std::net::TcpListener {
        let nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        let bind = move || std::net::TcpListener::bind(("0.0.0.0", port));
        nodes[&node].place.run(bind).unwrap().unwrap()
    }

    /// Packets that did not get over links so far.
    pub(super) fn dropped(&self, links: &[Link]) -> u64 {
        let counts = self.switch.dropped();
        let ends = |(from, to): &Link| (End::Node(*from), End::Node(*to));
        links
            .iter()
            .filter_map(|link| counts.get(&ends(link)))
            .sum()
    }

    /// Sends small packets of our own over the links and looks which arrive, and when.
    pub(super) fn probe(&self, links: &[Link]) -> io::Result<Probed> {
        let mut round = self.probe.lock().unwrap_or_else(PoisonError::into_inner);
        *round += 1;
        let wait = PROBE_WAIT + self.change(|rules| rules.delay_max());
        let nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = Instant::now();
        let now_us = || u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        for (_, spot) in nodes.iter() {
            spot.probe.set_nonblocking(true)?;
        }
        let mut took: BTreeMap<Link, Vec<Duration>> = BTreeMap::new();
        let mut packet = [0; 64];
        let mut sent = 0;
        while begun.elapsed() < wait {
            if sent < PROBES && begun.elapsed() >= PROBE_PAUSE * sent {
                sent += 1;
                for (from, to) in links {
                    let (Some(spot), Ok(last)) = (nodes.get(from), u8::try_from(*to)) else {
                        continue;
                    };
                    let mut packet = round.to_le_bytes().to_vec();
                    packet.extend(from.to_le_bytes());
                    packet.extend(now_us().to_le_bytes());
                    let target = SocketAddr::from((address(0, last), PROBE_PORT));
                    spot.probe.send_to(&packet, target)?;
                }
            }
            std::thread::sleep(RECEIVE_PAUSE);
            for (to, spot) in nodes.iter() {
                while let Ok((len, _)) = spot.probe.recv_from(&mut packet) {
                    let Some((of, from, sent_us)) = parse(&packet[..len]) else {
                        continue;
                    };
                    if of == *round {
                        let way = Duration::from_micros(now_us().saturating_sub(sent_us));
                        took.entry((from, *to)).or_default().push(way);
                    }
                }
            }
        }
        let mean = |ways: Vec<Duration>| {
            let count = u32::try_from(ways.len()).unwrap_or(u32::MAX).max(1);
            Some(ways.iter().sum::<Duration>() / count)
        };
        let passed = took.into_iter().map(|(link, ways)| (link, mean(ways)));
        Ok(Probed {
            passed: passed.collect(),
            by: "packets of our own",
        })
    }
}

fn parse(packet: &[u8]) -> Option<(u64, NodeId, u64)> {
    let (round, rest) = packet.split_first_chunk::<8>()?;
    let (from, rest) = rest.split_first_chunk::<4>()?;
    let sent_us = rest.first_chunk::<8>()?;
    Some((
        u64::from_le_bytes(*round),
        u32::from_le_bytes(*from),
        u64::from_le_bytes(*sent_us),
    ))
}

fn address(slot: u8, last: u8) -> Ipv4Addr {
    let [a, b] = NETWORK;
    Ipv4Addr::new(a, b, slot, last)
}
