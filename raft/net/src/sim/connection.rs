//! One connection: its two ends, and what is on its way between them.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::task::Waker;

use bytes::Bytes;

/// Bytes that may be written and not read at the other end.
pub(super) const WINDOW_BYTES: usize = 256 << 10;

/// What is on its way.
#[derive(Debug)]
pub(super) enum Segment {
    Syn,
    SynAck,
    /// The connection stands.
    Ack,
    Data(Bytes),
    /// So many bytes were read: there is room for as many.
    Room(usize),
    Fin,
    Reset,
}

/// One direction.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    /// In order, and when each arrives.
    pub(super) segments: VecDeque<(u64, Segment)>,
    pub(super) last_due_us: u64,
    /// What is first found its way blocked; nothing is delivered until that is over.
    pub(super) held_since_us: Option<u64>,
}

/// One end.
#[derive(Debug)]
pub(super) struct End {
    pub(super) address: SocketAddr,
    /// Somebody holds it: a socket, or the queue of a listener.
    pub(super) is_held: bool,
    /// The kernel knows it no more: what arrives is answered with a reset.
    pub(super) is_gone: bool,
    pub(super) is_connected: bool,
    pub(super) error: Option<io::ErrorKind>,
    /// Nothing more is written.
    pub(super) has_shut: bool,
    /// The other end writes nothing more.
    pub(super) is_ended: bool,
    pub(super) received: VecDeque<Bytes>,
    /// Bytes written that the other end has not read, as far as it is known here.
    pub(super) unread_bytes: usize,
    pub(super) readers: Vec<Waker>,
    pub(super) writers: Vec<Waker>,
    pub(super) unconfirmed_max_us: Option<u64>,
    pub(super) keepalive_us: Option<u64>,
    /// Since when the other end has not been heard, or not been reached.
    pub(super) silent_since_us: u64,
    /// When the first byte was written that is not known to have arrived.
    pub(super) unconfirmed_since_us: Option<u64>,
}

#[derive(Debug)]
pub(super) struct Connection {
    /// The one that connected, and the one that listened.
    pub(super) ends: [End; 2],
    /// From each end to the other.
    pub(super) pipes: [Pipe; 2],
}

impl Connection {
    pub(super) fn new(from: SocketAddr, to: SocketAddr, now_us: u64) -> Connection {
        let end = |address| End {
            address,
            is_held: false,
            is_gone: false,
            is_connected: false,
            error: None,
            has_shut: false,
            is_ended: false,
            received: VecDeque::new(),
            unread_bytes: 0,
            readers: Vec::new(),
            writers: Vec::new(),
            unconfirmed_max_us: None,
            keepalive_us: None,
            silent_since_us: now_us,
            unconfirmed_since_us: None,
        };
        Connection {
            ends: [end(from), end(to)],
            pipes: [Pipe::default(), Pipe::default()],
        }
    }

    /// Nobody holds an end and nothing is on its way.
    pub(super) fn is_over(&self) -> bool {
        self.ends.iter().all(|end| !end.is_held)
            && self.pipes.iter().all(|pipe| pipe.segments.is_empty())
    }
}

impl End {
    /// The connection has ended for this end.
    pub(super) fn fail(&mut self, error: io::ErrorKind, woken: &mut Vec<Waker>) {
        self.is_gone = true;
        self.error.get_or_insert(error);
        // What has come already can still be read.
        self.wake(woken);
    }

    pub(super) fn wake(&mut self, woken: &mut Vec<Waker>) {
        woken.append(&mut self.readers);
        woken.append(&mut self.writers);
    }
}

/// Adds a waker, once.
pub(super) fn add_waker(wakers: &mut Vec<Waker>, waker: &Waker) {
    if !wakers.iter().any(|one| one.will_wake(waker)) {
        wakers.push(waker.clone());
    }
}
