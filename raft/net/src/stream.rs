//! A connection.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BufMut;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::tcp;

use crate::sim;

/// A connection, the machine's or simulated.
#[derive(Debug)]
pub struct TcpStream(Stream);

#[derive(Debug)]
enum Stream {
    Real(tokio::net::TcpStream),
    Simulated(sim::Socket),
}

/// The half of a connection that reads.
#[derive(Debug)]
pub struct OwnedReadHalf(Reader);

#[derive(Debug)]
enum Reader {
    Real(tcp::OwnedReadHalf),
    Simulated(sim::ReadHalf),
}

/// The half of a connection that writes. Dropped, it ends the writing.
#[derive(Debug)]
pub struct OwnedWriteHalf(Writer);

#[derive(Debug)]
enum Writer {
    Real(tcp::OwnedWriteHalf),
    Simulated(sim::WriteHalf),
}

/// When the kernel asks whether the other end of a silent connection is still there.
#[derive(Debug, Clone, Copy)]
pub struct Keepalive {
    /// After so long without a sign.
    pub idle: Duration,
    /// And so often.
    pub interval: Duration,
    /// Before it gives up (where the system lets that be set).
    pub probes: u32,
}

/// What a connection can be made to: a socket address, or `host:port`.
pub trait Address {
    /// The socket address, if it is one.
    fn socket(&self) -> Option<SocketAddr>;
    /// The name, else.
    fn name(&self) -> &str {
        ""
    }
}

impl Address for SocketAddr {
    fn socket(&self) -> Option<SocketAddr> {
        Some(*self)
    }
}

impl Address for str {
    fn socket(&self) -> Option<SocketAddr> {
        self.parse().ok()
    }

    fn name(&self) -> &str {
        self
    }
}

impl Address for String {
    fn socket(&self) -> Option<SocketAddr> {
        self.parse().ok()
    }

    fn name(&self) -> &str {
        self
    }
}

impl<A: Address + ?Sized> Address for &A {
    fn socket(&self) -> Option<SocketAddr> {
        (**self).socket()
    }

    fn name(&self) -> &str {
        (**self).name()
    }
}

impl TcpStream {
    pub(crate) fn real(stream: tokio::net::TcpStream) -> TcpStream {
        TcpStream(Stream::Real(stream))
    }

    pub(crate) fn simulated(socket: sim::Socket) -> TcpStream {
        TcpStream(Stream::Simulated(socket))
    }

    /// Connects.
    ///
    /// # Errors
    /// When nothing listens there, or nobody answers.
    pub async fn connect(address: impl Address) -> io::Result<TcpStream> {
        if let Some(here) = sim::current() {
            let address = match address.socket() {
                Some(address) => address,
                None => here.lookup_address(address.name())?,
            };
            return here.connect(address).await.map(TcpStream::simulated);
        }
        let stream = match address.socket() {
            Some(address) => tokio::net::TcpStream::connect(address).await,
            None => tokio::net::TcpStream::connect(address.name()).await,
        };
        stream.map(TcpStream::real)
    }

    /// Whether small writes leave at once.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn set_nodelay(&self, is_on: bool) -> io::Result<()> {
        match &self.0 {
            Stream::Real(real) => real.set_nodelay(is_on),
            Stream::Simulated(_) => Ok(()),
        }
    }

    /// Has the kernel ask whether the other end is still there.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn set_keepalive(&self, keepalive: Keepalive) -> io::Result<()> {
        match &self.0 {
            Stream::Real(real) => {
                let wanted = TcpKeepalive::new()
                    .with_time(keepalive.idle)
                    .with_interval(keepalive.interval);
                #[cfg(target_os = "linux")]
                let wanted = wanted.with_retries(keepalive.probes);
                SockRef::from(real).set_tcp_keepalive(&wanted)
            }
            Stream::Simulated(socket) => {
                socket.set_keepalive(keepalive.idle + keepalive.interval * keepalive.probes);
                Ok(())
            }
        }
    }

    /// Ends the connection when bytes that were sent are not confirmed for so long (on Linux).
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn set_unconfirmed_max(&self, limit: Duration) -> io::Result<()> {
        match &self.0 {
            #[cfg(target_os = "linux")]
            Stream::Real(real) => SockRef::from(real).set_tcp_user_timeout(Some(limit)),
            #[cfg(not(target_os = "linux"))]
            Stream::Real(_) => Ok(()),
            Stream::Simulated(socket) => {
                socket.set_unconfirmed_max(limit);
                Ok(())
            }
        }
    }

    /// The other end.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        match &self.0 {
            Stream::Real(real) => real.peer_addr(),
            Stream::Simulated(socket) => Ok(socket.peer_addr()),
        }
    }

    /// This end.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match &self.0 {
            Stream::Real(real) => real.local_addr(),
            Stream::Simulated(socket) => Ok(socket.local_addr()),
        }
    }

    /// Two halves, for two owners.
    #[must_use]
    pub fn into_split(self) -> (OwnedReadHalf, OwnedWriteHalf) {
        match self.0 {
            Stream::Real(real) => {
                let (reader, writer) = real.into_split();
                (
                    OwnedReadHalf(Reader::Real(reader)),
                    OwnedWriteHalf(Writer::Real(writer)),
                )
            }
            Stream::Simulated(socket) => {
                let (reader, writer) = socket.into_split();
                (
                    OwnedReadHalf(Reader::Simulated(reader)),
                    OwnedWriteHalf(Writer::Simulated(writer)),
                )
            }
        }
    }
}

impl OwnedReadHalf {
    /// Waits until there is something to read, if only the end. Cancel-safe.
    ///
    /// # Errors
    /// When the machine does not say.
    pub async fn readable(&self) -> io::Result<()> {
        match &self.0 {
            Reader::Real(real) => real.readable().await,
            Reader::Simulated(simulated) => simulated.readable().await,
        }
    }

    /// Reads what has come; 0 is the end.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when nothing has come, any other when the connection is gone.
    pub fn try_read_buf(&self, buffer: &mut impl BufMut) -> io::Result<usize> {
        match &self.0 {
            Reader::Real(real) => real.try_read_buf(buffer),
            Reader::Simulated(simulated) => simulated.try_read_buf(buffer),
        }
    }
}

impl AsyncRead for TcpStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            Stream::Real(real) => Pin::new(real).poll_read(cx, buf),
            Stream::Simulated(socket) => socket.poll_read(cx, buf),
        }
    }
}

impl AsyncRead for OwnedReadHalf {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            Reader::Real(real) => Pin::new(real).poll_read(cx, buf),
            Reader::Simulated(half) => half.poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for TcpStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().0 {
            Stream::Real(real) => Pin::new(real).poll_write(cx, buf),
            Stream::Simulated(socket) => socket.poll_write(cx, &[IoSlice::new(buf)]),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().0 {
            Stream::Real(real) => Pin::new(real).poll_write_vectored(cx, bufs),
            Stream::Simulated(socket) => socket.poll_write(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.0 {
            Stream::Real(real) => real.is_write_vectored(),
            Stream::Simulated(_) => true,
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            Stream::Real(real) => Pin::new(real).poll_flush(cx),
            Stream::Simulated(_) => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            Stream::Real(real) => Pin::new(real).poll_shutdown(cx),
            Stream::Simulated(socket) => Poll::Ready(socket.shut()),
        }
    }
}

impl AsyncWrite for OwnedWriteHalf {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().0 {
            Writer::Real(real) => Pin::new(real).poll_write(cx, buf),
            Writer::Simulated(half) => half.poll_write(cx, &[IoSlice::new(buf)]),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().0 {
            Writer::Real(real) => Pin::new(real).poll_write_vectored(cx, bufs),
            Writer::Simulated(half) => half.poll_write(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.0 {
            Writer::Real(real) => real.is_write_vectored(),
            Writer::Simulated(_) => true,
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            Writer::Real(real) => Pin::new(real).poll_flush(cx),
            Writer::Simulated(_) => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            Writer::Real(real) => Pin::new(real).poll_shutdown(cx),
            Writer::Simulated(half) => Poll::Ready(half.shut()),
        }
    }
}
