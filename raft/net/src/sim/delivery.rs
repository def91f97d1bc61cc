//! How what is sent arrives: late, in order, or not while the way is cut.

use std::io;

use bytes::Bytes;

use super::connection::{Connection, Segment};
use super::state::{BACKLOG_MAX, Event, EventKind, State};

/// What the network does with a packet that was lost: it comes so much later, doubled each time.
const RETRANSMIT_US: u64 = 200_000;
/// A packet is lost at most so often.
const LOST_MAX: u32 = 5;
/// When a way is free again, the connections find out after at most this, or sooner: the kernel
/// tries again after as long as it has been trying already.
const NOTICED_MAX_US: u64 = 3_000_000;
/// How often connections are looked over that the kernel may give up.
const LOOK_EVERY_US: u64 = 100_000;
/// Who connects where the queue is full asks again after this.
const SYN_AGAIN_US: u64 = 1_000_000;
/// The kernel gives up connecting after this.
const CONNECT_MAX_US: u64 = 127_000_000;

impl State {
    /// Puts something on its way from an end of a connection.
    pub(super) fn send(&mut self, number: u64, from: usize, segment: Segment) {
        let Some(connection) = self.connections.get(&number) else {
            return;
        };
        let ips = [from, 1 - from].map(|at| connection.ends[at].address.ip());
        let link = self.link(ips[0], ips[1]);
        let mut due_us = self.now_us + link.latency_us.max(1) + self.draw(link.jitter_us + 1);
        let mut lost = 0;
        while lost < LOST_MAX && link.loss_per_mille > 0 && self.draw(1_000) < link.loss_per_mille {
            due_us += RETRANSMIT_US << lost;
            lost += 1;
        }
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        let pipe = &mut connection.pipes[from];
        pipe.last_due_us = pipe.last_due_us.max(due_us);
        if pipe.segments.is_empty() {
            self.due.insert((pipe.last_due_us, number, from));
        }
        pipe.segments.push_back((pipe.last_due_us, segment));
    }

    pub(super) fn advance_to(&mut self, now_us: u64) {
        while let Some((due_us, number, from)) = self.due.first().copied() {
            if due_us > now_us {
                break;
            }
            self.due.pop_first();
            self.now_us = self.now_us.max(due_us);
            self.deliver_first(number, from);
        }
        self.now_us = self.now_us.max(now_us);
        if self.now_us >= self.next_look_us {
            self.next_look_us = self.now_us + LOOK_EVERY_US;
            self.look_over();
        }
    }

    /// What was held back and has a way again is put on it.
    pub(super) fn release_held(&mut self) {
        let held: Vec<(u64, usize, u64)> = (self.connections.iter())
            .flat_map(|(number, connection)| {
                let since = |from: usize| connection.pipes[from].held_since_us;
                let one = move |from| since(from).map(|since_us| (*number, from, since_us));
                [0, 1].into_iter().filter_map(one)
            })
            .collect();
        for (number, from, since_us) in held {
            if self.is_held_up(number, from) {
                continue;
            }
            let tried_us = (self.now_us - since_us).min(NOTICED_MAX_US);
            let noticed_us = self.now_us + 1 + self.draw(tried_us + 1);
            let Some(connection) = self.connections.get_mut(&number) else {
                continue;
            };
            let pipe = &mut connection.pipes[from];
            pipe.held_since_us = None;
            pipe.last_due_us = pipe.last_due_us.max(noticed_us);
            for (due_us, _) in &mut pipe.segments {
                *due_us = noticed_us.max(*due_us);
            }
            if let Some((due_us, _)) = pipe.segments.front() {
                self.due.insert((*due_us, number, from));
            }
        }
    }

    /// Whether nothing gets through from that end to the other.
    fn is_held_up(&self, number: u64, from: usize) -> bool {
        self.connections.get(&number).is_some_and(|connection| {
            let [here, there] = [from, 1 - from].map(|at| connection.ends[at].address.ip());
            self.is_blocked(here, there)
        })
    }

    fn deliver_first(&mut self, number: u64, from: usize) {
        let is_held_up = self.is_held_up(number, from);
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        let pipe = &mut connection.pipes[from];
        if is_held_up {
            pipe.held_since_us = Some(self.now_us);
            return;
        }
        let Some((_, segment)) = pipe.segments.pop_front() else {
            return;
        };
        if let Some((due_us, _)) = pipe.segments.front() {
            self.due.insert((*due_us, number, from));
        }
        let noticed = match &segment {
            Segment::Syn => Some(EventKind::Syn),
            Segment::SynAck => Some(EventKind::Accepted),
            Segment::Ack => Some(EventKind::Connected),
            Segment::Data(data) => Some(EventKind::Data {
                bytes: data.len(),
                digest: digest(data),
            }),
            Segment::Room(_) => None,
            Segment::Fin => Some(EventKind::Fin),
            Segment::Reset => Some(EventKind::Reset),
        };
        if let Some(kind) = noticed {
            self.note(number, from, kind);
        }
        self.arrive(number, from, segment);
        self.forget(number);
    }

    fn note(&mut self, number: u64, from: usize, kind: EventKind) {
        if !self.is_recording {
            return;
        }
        if let Some(connection) = self.connections.get(&number) {
            self.events.push(Event {
                at_us: self.now_us,
                connection: number,
                from: connection.ends[from].address,
                to: connection.ends[1 - from].address,
                kind,
            });
        }
    }

    fn arrive(&mut self, number: u64, from: usize, segment: Segment) {
        let at = 1 - from;
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        let end = &mut connection.ends[at];
        let port = end.address.port();
        let ip = end.address.ip();
        end.silent_since_us = self.now_us;
        match segment {
            Segment::Syn => {
                let listener = self
                    .hosts
                    .get(&ip)
                    .and_then(|host| host.listeners.get(&port));
                match listener {
                    Some(listener) if listener.backlog.len() < BACKLOG_MAX => {
                        self.send(number, at, Segment::SynAck);
                    }
                    Some(_) => {
                        connection.pipes[from].last_due_us += SYN_AGAIN_US;
                        self.send(number, from, Segment::Syn);
                    }
                    None => {
                        end.is_gone = true;
                        self.send(number, at, Segment::Reset);
                    }
                }
            }
            Segment::SynAck if end.is_gone => self.send(number, at, Segment::Reset),
            Segment::SynAck => {
                end.is_connected = true;
                end.wake(&mut self.woken);
                self.send(number, at, Segment::Ack);
            }
            Segment::Ack if end.is_gone => {}
            Segment::Ack => {
                let host = self.hosts.get_mut(&ip);
                match host.and_then(|host| host.listeners.get_mut(&port)) {
                    Some(listener) => {
                        (end.is_held, end.is_connected) = (true, true);
                        listener.backlog.push_back(number);
                        self.woken.append(&mut listener.wakers);
                    }
                    None => {
                        end.is_gone = true;
                        self.send(number, at, Segment::Reset);
                    }
                }
            }
            Segment::Data(_) if end.is_gone => self.send(number, at, Segment::Reset),
            Segment::Fin if end.is_gone => {}
            Segment::Data(data) => {
                end.received.push_back(data);
                self.woken.append(&mut end.readers);
            }
            Segment::Room(bytes) => {
                end.unread_bytes = end.unread_bytes.saturating_sub(bytes);
                self.woken.append(&mut end.writers);
            }
            Segment::Fin => {
                end.is_ended = true;
                self.woken.append(&mut end.readers);
            }
            Segment::Reset if end.is_gone => {}
            Segment::Reset => {
                let error = match (at, end.is_connected) {
                    (0, false) => io::ErrorKind::ConnectionRefused,
                    _ => io::ErrorKind::ConnectionReset,
                };
                end.fail(error, &mut self.woken);
            }
        }
    }

    /// Gives up the connections that the kernel would.
    fn look_over(&mut self) {
        let now_us = self.now_us;
        let mut given_up = Vec::new();
        for number in self.connections.keys().copied().collect::<Vec<u64>>() {
            for at in [0, 1] {
                let is_silent = self.is_held_up(number, at) || self.is_held_up(number, 1 - at);
                let Some(connection) = self.connections.get_mut(&number) else {
                    continue;
                };
                if connection.gives_up(at, is_silent, now_us) {
                    given_up.push((number, at));
                }
            }
        }
        for (number, at) in given_up {
            if let Some(connection) = self.connections.get_mut(&number) {
                connection.ends[at].fail(io::ErrorKind::TimedOut, &mut self.woken);
            }
            self.note(number, 1 - at, EventKind::TimedOut);
            self.send(number, at, Segment::Reset);
        }
    }
}

impl Connection {
    /// Whether an end is given up: bytes that are not confirmed, or no sign of life, for too long.
    fn gives_up(&mut self, at: usize, is_silent: bool, now_us: u64) -> bool {
        let has_unsent = (self.pipes[at].segments.iter())
            .any(|(_, segment)| matches!(segment, Segment::Data(_)));
        let end = &mut self.ends[at];
        if end.is_gone || !end.is_held {
            return false;
        }
        if !is_silent {
            end.silent_since_us = now_us;
            end.unconfirmed_since_us = has_unsent.then_some(now_us);
        }
        let is_over = |since_us: u64, limit_us: Option<u64>| {
            limit_us.is_some_and(|limit_us| now_us.saturating_sub(since_us) >= limit_us)
        };
        if !end.is_connected {
            return is_silent && is_over(end.silent_since_us, Some(CONNECT_MAX_US));
        }
        let unconfirmed = end.unconfirmed_since_us;
        unconfirmed.is_some_and(|since_us| is_over(since_us, end.unconfirmed_max_us))
            || is_over(end.silent_since_us, end.keepalive_us)
    }
}

/// FNV-1a: to tell contents apart, no more.
fn digest(data: &Bytes) -> u64 {
    data.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
