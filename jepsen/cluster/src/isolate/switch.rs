//! A router in user space between the TUN devices of the namespaces: every IP packet between nodes
//! and clients passes here, and is let through, dropped, or held back and let through later, so that
//! packets overtake each other. It counts what it drops on every link.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jepsen_workload::fault::NodeId;
use jepsen_workload::random::Random;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::rules::{End, Rules};

/// The first two numbers of every address.
pub(super) const NETWORK: [u8; 2] = [10, 66];
/// The last number of the clients' addresses; those of nodes are below.
pub(super) const CLIENTS: u8 = 254;
/// The longest packet, with room to spare.
const PACKET_BYTES_MAX: usize = 9_000;
/// Packets taken from one device before the next has a turn.
const BURST: usize = 64;
/// Packets held back at most; more are dropped, as a real queue would.
const HELD_MAX: usize = 50_000;
/// How soon new devices and the end are noticed.
const TURN_MAX: Duration = Duration::from_millis(20);

#[derive(Debug)]
struct State {
    rules: Rules,
    random: Random,
    /// Packets that did not get over a link: cut, lost or too many.
    dropped: BTreeMap<(End, End), u64>,
}

/// Where packets go by their last number.
type Port = (u8, File);

/// The router; it stops when this value is dropped.
#[derive(Debug)]
pub(super) struct Switch {
    state: Arc<Mutex<State>>,
    ports: mpsc::Sender<Port>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Switch {
    pub(super) fn start(seed: u64) -> io::Result<Switch> {
        let state = Arc::new(Mutex::new(State {
            rules: Rules::default(),
            random: Random::new(seed),
            dropped: BTreeMap::new(),
        }));
        let (ports, new_ports) = mpsc::channel();
        let is_over = Arc::new(AtomicBool::new(false));
        let mut router = Router {
            state: Arc::clone(&state),
            is_over: Arc::clone(&is_over),
            new_ports,
            ports: Vec::new(),
            held: BinaryHeap::new(),
            sequence: 0,
        };
        let thread = std::thread::Builder::new().name("switch".to_owned());
        let thread = thread.spawn(move || {
            if let Err(error) = router.route() {
                tracing::error!(%error, "the switch between the nodes has failed");
            }
        })?;
        Ok(Switch {
            state,
            ports,
            is_over,
            thread: Some(thread),
        })
    }

    /// Adds a device, whose addresses end with `last`.
    pub(super) fn add(&self, last: u8, device: File) -> io::Result<()> {
        let added = self.ports.send((last, device));
        added.map_err(|_| io::Error::other("the switch between the nodes has failed"))
    }

    /// Changes what passes.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Rules) -> T) -> T {
        change(&mut lock(&self.state).rules)
    }

    /// Packets that did not get over each link so far: cut, lost or too many.
    pub(super) fn dropped(&self) -> BTreeMap<(End, End), u64> {
        lock(&self.state).dropped.clone()
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Whatever it panicked with was printed.
            let _ = thread.join();
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A packet that is on its way.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Held {
    due: Instant,
    sequence: u64,
    to: u8,
    packet: Vec<u8>,
}

struct Router {
    state: Arc<Mutex<State>>,
    is_over: Arc<AtomicBool>,
    new_ports: mpsc::Receiver<Port>,
    ports: Vec<Port>,
    held: BinaryHeap<Reverse<Held>>,
    sequence: u64,
}

impl Router {
    fn route(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; PACKET_BYTES_MAX];
        while !self.is_over.load(Ordering::Relaxed) {
            self.ports.extend(self.new_ports.try_iter());
            self.wait()?;
            self.release();
            for at in 0..self.ports.len() {
                for _ in 0..BURST {
                    match self.ports[at].1.read(&mut buffer) {
                        Ok(len) => self.forward(&buffer[..len]),
                        Err(error) if is_passing(&error) => break,
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        Ok(())
    }

    /// Until a packet comes or is due.
    fn wait(&self) -> io::Result<()> {
        let due = self.held.peek().map(|Reverse(held)| held.due);
        let due_in = due.map(|due| due.saturating_duration_since(Instant::now()));
        let turn = due_in.unwrap_or(TURN_MAX).min(TURN_MAX);
        let timeout = Timespec::try_from(turn).map_err(io::Error::other)?;
        let each = self.ports.iter();
        let mut polled: Vec<PollFd<'_>> = each
            .map(|(_, device)| PollFd::new(device, PollFlags::IN))
            .collect();
        match poll(&mut polled, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Lets go what is due.
    fn release(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let now = Instant::now();
        while self
            .held
            .peek()
            .is_some_and(|Reverse(held)| held.due <= now)
        {
            if let Some(Reverse(held)) = self.held.pop() {
                // A device that takes no more loses it, as a full queue does.
                self.deliver(held.to, &held.packet);
            }
        }
    }

    fn forward(&mut self, packet: &[u8]) {
        let Some((from, to, last)) = ends(packet) else {
            return;
        };
        let mut state = lock(&self.state);
        let shape = state.rules.shape_of(from, to);
        let passes = state.rules.passes(from, to);
        let is_lost = shape.is_some_and(|shape| shape.draw_loss(&mut state.random));
        let delay = shape.map(|shape| shape.draw_delay(&mut state.random));
        let is_full = delay.is_some() && self.held.len() >= HELD_MAX;
        if !passes || is_lost || is_full {
            *state.dropped.entry((from, to)).or_default() += 1;
            return;
        }
        drop(state);
        let Some(delay) = delay else {
            self.deliver(last, packet);
            return;
        };
        self.sequence += 1;
        self.held.push(Reverse(Held {
            due: Instant::now() + delay,
            sequence: self.sequence,
            to: last,
            packet: packet.to_vec(),
        }));
    }

    fn deliver(&mut self, last: u8, packet: &[u8]) {
        let port = self.ports.iter_mut().find(|(of, _)| *of == last);
        // Nobody is there, or its device is full or down: lost, and sent again by whoever cares.
        if let Some((_, device)) = port
            && let Err(error) = device.write(packet)
            && !is_passing(&error)
        {
            tracing::debug!(%error, "a packet was not delivered");
        }
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

/// Who sends a packet, who gets it, and the last number of its address; `None` for what is not IPv4
/// between our addresses.
fn ends(packet: &[u8]) -> Option<(End, End, u8)> {
    if packet.first()? >> 4 != 4 {
        return None;
    }
    let end = |at: usize| {
        let [a, b, client, last] = *packet.get(at..)?.first_chunk::<4>()?;
        let is_ours = [a, b] == NETWORK;
        let end = match (last, client) {
            (CLIENTS, 0) => End::Harness,
            (CLIENTS, slot) => End::Client(u32::from(slot) - 1),
            (node, _) => End::Node(NodeId::from(node)),
        };
        is_ours.then_some((end, last))
    };
    let (from, _) = end(12)?;
    let (to, last) = end(16)?;
    Some((from, to, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(from: [u8; 4], to: [u8; 4]) -> Vec<u8> {
        let mut packet = vec![0x45; 12];
        packet.extend(from);
        packet.extend(to);
        packet
    }

    #[test]
    fn who_sends_and_who_gets_a_packet_stands_in_its_addresses() {
        let between = |from, to| ends(&packet(from, to));
        assert_eq!(
            between([10, 66, 0, 1], [10, 66, 0, 3]),
            Some((End::Node(1), End::Node(3), 3))
        );
        assert_eq!(
            between([10, 66, 4, 254], [10, 66, 4, 2]),
            Some((End::Client(3), End::Node(2), 2))
        );
        assert_eq!(
            between([10, 66, 0, 2], [10, 66, 0, 254]),
            Some((End::Node(2), End::Harness, 254))
        );
    }

    #[test]
    fn foreign_and_broken_packets_are_nobodys() {
        assert_eq!(ends(&packet([10, 67, 0, 1], [10, 66, 0, 2])), None);
        assert_eq!(ends(&packet([10, 66, 0, 1], [224, 0, 0, 1])), None);
        assert_eq!(ends(&[0x60; 40]), None);
        assert_eq!(ends(&[0x45; 15]), None);
        assert_eq!(ends(&[]), None);
    }
}
