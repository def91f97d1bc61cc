//! What simulated code holds: sockets, their halves, and listeners.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::ReadBuf;

use super::Network;
use super::connection::{End, Segment, WINDOW_BYTES, add_waker};

/// Bytes that travel together.
const SEGMENT_BYTES_MAX: usize = 32 << 10;
/// One write in so many travels in two parts.
const SPLIT_ONE_IN: u64 = 16;

/// One end of a connection. Dropped, it is closed.
#[derive(Debug)]
pub(crate) struct Socket {
    network: Network,
    number: u64,
    at: usize,
}

/// The half that reads.
#[derive(Debug)]
pub(crate) struct ReadHalf(Arc<Socket>);

/// The half that writes; dropped, it ends the writing.
#[derive(Debug)]
pub(crate) struct WriteHalf(Arc<Socket>);

impl Socket {
    pub(super) fn new(network: Network, number: u64, at: usize) -> Socket {
        Socket {
            network,
            number,
            at,
        }
    }

    /// Works on this end; an error when the host was killed meanwhile.
    fn with<R>(&self, work: impl FnOnce(&mut End, u64) -> io::Result<R>) -> io::Result<R> {
        self.network.with(|state| {
            let now_us = state.now_us;
            let gone = || io::Error::from(io::ErrorKind::ConnectionReset);
            let connection = state.connections.get_mut(&self.number).ok_or_else(gone)?;
            work(&mut connection.ends[self.at], now_us)
        })
    }

    /// Returns when the connection stands.
    pub(super) async fn connected(&self) -> io::Result<()> {
        poll_fn(|cx| {
            let looked = self.with(|end, _| {
                if let Some(error) = end.error {
                    return Err(error.into());
                }
                if !end.is_connected {
                    add_waker(&mut end.readers, cx.waker());
                }
                Ok(end.is_connected)
            });
            match looked {
                Ok(true) => Poll::Ready(Ok(())),
                Ok(false) => Poll::Pending,
                Err(error) => Poll::Ready(Err(error)),
            }
        })
        .await
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.address(self.at)
    }

    pub(crate) fn peer_addr(&self) -> SocketAddr {
        self.address(1 - self.at)
    }

    fn address(&self, at: usize) -> SocketAddr {
        self.network.with(|state| {
            let connection = state.connections.get(&self.number);
            let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
            connection.map_or(nowhere, |connection| connection.ends[at].address)
        })
    }

    pub(crate) fn set_keepalive(&self, limit: Duration) {
        self.set(|end| end.keepalive_us = Some(as_us(limit)));
    }

    pub(crate) fn set_unconfirmed_max(&self, limit: Duration) {
        self.set(|end| end.unconfirmed_max_us = Some(as_us(limit)));
    }

    fn set(&self, change: impl FnOnce(&mut End)) {
        self.network.with(|state| {
            if let Some(connection) = state.connections.get_mut(&self.number) {
                change(&mut connection.ends[self.at]);
            }
        });
    }

    pub(crate) fn into_split(self) -> (ReadHalf, WriteHalf) {
        let shared = Arc::new(self);
        (ReadHalf(Arc::clone(&shared)), WriteHalf(shared))
    }

    /// What has come, at most so much of it; empty at the end. Would block when nothing has come.
    fn try_take(&self, bytes_max: usize) -> io::Result<Bytes> {
        self.take(bytes_max, None)
    }

    fn take(&self, bytes_max: usize, cx: Option<&mut Context<'_>>) -> io::Result<Bytes> {
        let taken = self.with(|end, _| {
            if bytes_max == 0 {
                return Ok(Bytes::new());
            }
            let Some(first) = end.received.front_mut() else {
                return match (end.error, end.is_ended || end.is_gone) {
                    (Some(error), _) => Err(error.into()),
                    (None, true) => Ok(Bytes::new()),
                    (None, false) => {
                        if let Some(cx) = cx {
                            add_waker(&mut end.readers, cx.waker());
                        }
                        Err(io::ErrorKind::WouldBlock.into())
                    }
                };
            };
            let taken = first.split_to(first.len().min(bytes_max));
            if first.is_empty() {
                end.received.pop_front();
            }
            Ok(taken)
        })?;
        if !taken.is_empty() {
            let room = Segment::Room(taken.len());
            (self.network).with(|state| state.send(self.number, self.at, room));
        }
        Ok(taken)
    }

    pub(crate) fn poll_read(
        &self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut has_read = false;
        while buf.remaining() > 0 {
            // What came in several parts is read at once, as a kernel has it.
            let waiting = (!has_read).then_some(&mut *cx);
            match self.take(buf.remaining(), waiting) {
                Ok(taken) if taken.is_empty() => break,
                Ok(taken) => buf.put_slice(&taken),
                Err(_) if has_read => break,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
            }
            has_read = true;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let looked = self.with(|end, _| {
            let is_ready =
                !end.received.is_empty() || end.is_ended || end.is_gone || end.error.is_some();
            if !is_ready {
                add_waker(&mut end.readers, cx.waker());
            }
            Ok(is_ready)
        });
        match looked {
            Ok(false) => Poll::Pending,
            // What is wrong shows when it is read.
            Ok(true) | Err(_) => Poll::Ready(Ok(())),
        }
    }

    pub(crate) fn poll_write(
        &self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wanted: usize = bufs.iter().map(|buf| buf.len()).sum();
        let room = self.with(|end, now_us| {
            if let Some(error) = end.error {
                return Err(error.into());
            }
            if end.has_shut || end.is_gone {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            let room = WINDOW_BYTES.saturating_sub(end.unread_bytes).min(wanted);
            if room == 0 && wanted > 0 {
                add_waker(&mut end.writers, cx.waker());
            }
            if room > 0 {
                end.unread_bytes += room;
                end.unconfirmed_since_us.get_or_insert(now_us);
            }
            Ok(room)
        });
        let room = match room {
            Ok(0) if wanted > 0 => return Poll::Pending,
            Ok(room) => room,
            Err(error) => return Poll::Ready(Err(error)),
        };
        let mut data = BytesMut::with_capacity(room);
        for buf in bufs {
            data.put_slice(&buf[..buf.len().min(room - data.len())]);
        }
        self.network.with(|state| {
            let mut data = data.freeze();
            while !data.is_empty() {
                let mut part = data.len().min(SEGMENT_BYTES_MAX);
                if part > 1 && state.draw(SPLIT_ONE_IN) == 0 {
                    let drawn = state.draw(part as u64 - 1);
                    part = 1 + usize::try_from(drawn).expect("below a usize");
                }
                let part = data.copy_to_bytes(part);
                state.send(self.number, self.at, Segment::Data(part));
            }
        });
        Poll::Ready(Ok(room))
    }

    pub(crate) fn shut(&self) -> io::Result<()> {
        let is_new = self.with(|end, _| {
            let is_new = !end.has_shut && !end.is_gone;
            end.has_shut = true;
            Ok(is_new)
        });
        // A connection that is gone is shut already.
        if is_new.unwrap_or(false) {
            (self.network).with(|state| state.send(self.number, self.at, Segment::Fin));
        }
        Ok(())
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.network.with(|state| state.close(self.number, self.at));
    }
}

impl ReadHalf {
    pub(crate) async fn readable(&self) -> io::Result<()> {
        poll_fn(|cx| self.0.poll_readable(cx)).await
    }

    pub(crate) fn try_read_buf(&self, buffer: &mut impl BufMut) -> io::Result<usize> {
        let mut bytes = 0;
        while buffer.has_remaining_mut() {
            // The room that was made is filled; more is not made for what may not come.
            let room = buffer.chunk_mut().len().min(buffer.remaining_mut());
            match self.0.try_take(room) {
                Ok(taken) if taken.is_empty() => break,
                Ok(taken) => {
                    bytes += taken.len();
                    let is_full = taken.len() == room;
                    buffer.put_slice(&taken);
                    if is_full {
                        break;
                    }
                }
                Err(_) if bytes > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(bytes)
    }

    pub(crate) fn poll_read(
        &self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.poll_read(cx, buf)
    }
}

impl WriteHalf {
    pub(crate) fn poll_write(
        &self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_write(cx, bufs)
    }

    pub(crate) fn shut(&self) -> io::Result<()> {
        self.0.shut()
    }
}

impl Drop for WriteHalf {
    fn drop(&mut self) {
        // A connection that is gone needs no end.
        let _ = self.0.shut();
    }
}

/// A listening socket. Dropped, it closes the port and resets who waits to be accepted.
#[derive(Debug)]
pub(crate) struct Listener {
    network: Network,
    ip: IpAddr,
    address: SocketAddr,
    number: u64,
}

impl Listener {
    pub(super) fn new(network: Network, ip: IpAddr, address: SocketAddr, number: u64) -> Listener {
        Listener {
            network,
            ip,
            address,
            number,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) async fn accept(&self) -> io::Result<(Socket, SocketAddr)> {
        let number = poll_fn(|cx| {
            self.network.with(|state| {
                let port = self.address.port();
                let listeners = &mut state.add_host(self.ip).listeners;
                let own = listeners
                    .get_mut(&port)
                    .filter(|one| one.number == self.number);
                match own.map(|own| (own.backlog.pop_front(), own)) {
                    // The host was killed; whoever still runs waits for ever.
                    None => Poll::Pending,
                    Some((Some(number), _)) => Poll::Ready(number),
                    Some((None, own)) => {
                        add_waker(&mut own.wakers, cx.waker());
                        Poll::Pending
                    }
                }
            })
        })
        .await;
        let socket = Socket::new(self.network.clone(), number, 1);
        let from = socket.peer_addr();
        Ok((socket, from))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let (ip, port) = (self.ip, self.address.port());
        self.network
            .with(|state| state.unlisten(ip, port, self.number));
    }
}

fn as_us(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
