//! Network cuts between nodes: a TCP proxy before each node's peer port, which the node advertises
//! in place of its own. (`tests/support/src/proxy.rs` is the tests' own, which can do more.)
//!
//! The proxy reads who dials from the first bytes of the hello (`raft/src/peer/hello.rs`):
//!
//! ```text
//! magic "BRDL" | version u16 | length u16 | purpose u8 | from u32 | ...
//! ```
//!
//! Who is no member yet has no number, and is carried unless the node that it dials is cut off.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const MAGIC: &[u8] = b"BRDL";
/// Of the hello, up to and with the dialling node.
const HEAD_BYTES: usize = 13;
const BUFFER_BYTES: usize = 64 << 10;
/// How long a quiet connection does not notice that it is refused.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
const CONNECT_LIMIT: Duration = Duration::from_secs(2);

/// How a node is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Bytes stop, connections stay open, new ones hang; what was sent meanwhile comes afterwards.
    BlackHole,
    /// Connections end, new ones too.
    Refuse,
}

/// Which nodes are cut off, by id; shared by everything that carries bytes.
#[derive(Default)]
struct Rules {
    cuts: Mutex<BTreeMap<u32, Cut>>,
    changed: Condvar,
}

/// The nodes at the ends of a connection; who dialled may be unknown.
type Ends = (Option<u32>, u32);

impl Rules {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, Cut>> {
        self.cuts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while bytes do not pass; an error when the connection may not be.
    fn pass(&self, ends: Ends) -> io::Result<()> {
        let mut cuts = self.lock();
        loop {
            match found(&cuts, ends) {
                Some(Cut::Refuse) => return Err(ErrorKind::ConnectionReset.into()),
                Some(Cut::BlackHole) => {
                    let waited = self.changed.wait(cuts);
                    cuts = waited.unwrap_or_else(PoisonError::into_inner);
                }
                None => return Ok(()),
            }
        }
    }
}

/// The harder of the cuts of both ends.
fn found(cuts: &BTreeMap<u32, Cut>, (dialler, dialled): Ends) -> Option<Cut> {
    let of = [Some(dialled), dialler].map(|node| node.and_then(|node| cuts.get(&node).copied()));
    of.into_iter()
        .flatten()
        .max_by_key(|cut| *cut == Cut::Refuse)
}

/// A proxy before each node. Its threads end with their connections and with this process.
pub(crate) struct Proxies {
    rules: Arc<Rules>,
    ports: BTreeMap<u32, u16>,
}

impl Proxies {
    /// Proxies to the peer ports of these nodes, on free ports.
    pub(crate) fn start(targets: &[(u32, u16)]) -> Result<Self, String> {
        let rules = Arc::new(Rules::default());
        let mut ports = BTreeMap::new();
        for (node, target) in targets.iter().copied() {
            let bound = TcpListener::bind(("127.0.0.1", 0));
            let bound = bound.and_then(|listener| Ok((listener.local_addr()?.port(), listener)));
            let (port, listener) = bound.map_err(|problem| format!("no free port: {problem}"))?;
            ports.insert(node, port);
            let rules = Arc::clone(&rules);
            std::thread::spawn(move || {
                // A connection that ended before it was accepted is nobody's.
                for stream in listener.incoming().flatten() {
                    let rules = Arc::clone(&rules);
                    std::thread::spawn(move || {
                        // However it ends, both sides notice by the end of their connection.
                        let _ = carry(stream, node, target, &rules);
                    });
                }
            });
        }
        Ok(Self { rules, ports })
    }

    /// The port that others are to be told for a node.
    pub(crate) fn port(&self, node: u32) -> u16 {
        self.ports[&node]
    }

    /// Cuts a node off from all others, both ways.
    pub(crate) fn isolate(&self, node: u32, cut: Cut) {
        self.rules.lock().insert(node, cut);
        self.rules.changed.notify_all();
    }

    /// Ends every cut.
    pub(crate) fn heal(&self) {
        self.rules.lock().clear();
        self.rules.changed.notify_all();
    }
}

/// Carries one connection to its end.
fn carry(mut from: TcpStream, node: u32, target: u16, rules: &Arc<Rules>) -> io::Result<()> {
    from.set_nodelay(true)?;
    let mut head = Vec::with_capacity(HEAD_BYTES);
    let begun = Read::by_ref(&mut from)
        .take(HEAD_BYTES as u64)
        .read_to_end(&mut head);
    begun?;
    let ends = (dialler(&head), node);
    // A handshake needs both ways.
    rules.pass(ends)?;
    let mut to = TcpStream::connect_timeout(&([127, 0, 0, 1], target).into(), CONNECT_LIMIT)?;
    to.set_nodelay(true)?;
    to.write_all(&head)?;
    let (back_from, back_to) = (to.try_clone()?, from.try_clone()?);
    let back_rules = Arc::clone(rules);
    let back = std::thread::spawn(move || pump(back_from, back_to, ends, &back_rules));
    pump(from, to, ends, rules);
    // It has ended by itself: nothing is left to do.
    let _ = back.join();
    Ok(())
}

/// The node that says hello.
fn dialler(head: &[u8]) -> Option<u32> {
    let rest = head.strip_prefix(MAGIC)?;
    rest.last_chunk().map(|id| u32::from_le_bytes(*id))
}

/// Carries one way of a connection; both ways end when it cannot go on.
fn pump(mut from: TcpStream, mut to: TcpStream, ends: Ends, rules: &Rules) {
    let carried = (|| {
        from.set_read_timeout(Some(POLL_INTERVAL))?;
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let count = match from.read(&mut buffer) {
                Err(problem) if is_timeout(&problem) => {
                    rules.pass(ends)?;
                    continue;
                }
                read => read?,
            };
            rules.pass(ends)?;
            if count == 0 {
                return to.shutdown(Shutdown::Write);
            }
            to.write_all(&buffer[..count])?;
        }
    })();
    if carried.is_err() {
        // They fail when the connections have ended already: what is wanted.
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }
}

fn is_timeout(problem: &io::Error) -> bool {
    matches!(
        problem.kind(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    /// A node that sends back what it is sent; its port.
    fn echo() -> u16 {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                std::thread::spawn(move || {
                    let mut copy = stream.try_clone().unwrap();
                    let _ = io::copy(&mut stream, &mut copy);
                });
            }
        });
        port
    }

    fn hello(from: u32) -> Vec<u8> {
        let mut hello = b"BRDL\x01\x00\x05\x00\x00".to_vec();
        hello.extend(from.to_le_bytes());
        hello
    }

    /// Dials node 1 as node 2 and waits until the hello has come back.
    fn dialled(proxies: &Proxies) -> TcpStream {
        let mut stream = TcpStream::connect(("127.0.0.1", proxies.port(1))).unwrap();
        stream.write_all(&hello(2)).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        let mut back = [0; HEAD_BYTES];
        stream.read_exact(&mut back).unwrap();
        assert_eq!(back.to_vec(), hello(2));
        stream
    }

    #[test]
    fn what_a_black_hole_held_comes_when_it_is_healed() {
        let proxies = Proxies::start(&[(1, echo())]).unwrap();
        for cut_off in [1, 2] {
            let mut stream = dialled(&proxies);
            proxies.isolate(cut_off, Cut::BlackHole);
            stream.write_all(b"late").unwrap();
            stream
                .set_read_timeout(Some(Duration::from_millis(300)))
                .unwrap();
            let mut back = [0; 4];
            assert!(is_timeout(&stream.read(&mut back).unwrap_err()));
            proxies.heal();
            stream
                .set_read_timeout(Some(Duration::from_secs(30)))
                .unwrap();
            stream.read_exact(&mut back).unwrap();
            assert_eq!(&back, b"late");
        }
    }

    #[test]
    fn a_refusal_ends_what_stands_and_what_comes() {
        let proxies = Proxies::start(&[(1, echo())]).unwrap();
        let mut stream = dialled(&proxies);
        proxies.isolate(2, Cut::Refuse);
        assert_eq!(stream.read(&mut [0; 4]).unwrap_or(0), 0);
        let mut again = TcpStream::connect(("127.0.0.1", proxies.port(1))).unwrap();
        // It may have been ended before it could say hello.
        let _ = again.write_all(&hello(2));
        let begun = Instant::now();
        assert_eq!(again.read(&mut [0; 4]).unwrap_or(0), 0);
        assert!(begun.elapsed() < Duration::from_secs(30));
        proxies.heal();
        dialled(&proxies);
    }
}
