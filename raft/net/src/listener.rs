//! A listening socket.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};

use crate::TcpStream;
use crate::sim;

/// A listening socket, the machine's or simulated.
#[derive(Debug)]
pub struct TcpListener(Inner);

#[derive(Debug)]
enum Inner {
    Real(tokio::net::TcpListener),
    Simulated(sim::Listener),
}

impl TcpListener {
    /// Listens as [`tokio::net::TcpListener::bind`] does.
    ///
    /// # Errors
    /// When the address is not there or in use.
    pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
        match sim::current() {
            Some(here) => Ok(TcpListener(Inner::Simulated(here.listen(address)?))),
            None => {
                let real = tokio::net::TcpListener::bind(address).await?;
                Ok(TcpListener(Inner::Real(real)))
            }
        }
    }

    /// Listens with `SO_REUSEADDR` and a queue of so many connections that wait to be accepted,
    /// which the kernel cuts to `net.core.somaxconn`. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When the address is not there or in use.
    pub fn listen(address: SocketAddr, backlog: i32) -> io::Result<TcpListener> {
        if let Some(here) = sim::current() {
            return Ok(TcpListener(Inner::Simulated(here.listen(address)?)));
        }
        let domain = Domain::for_address(address);
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(backlog)?;
        let real = tokio::net::TcpListener::from_std(socket.into())?;
        Ok(TcpListener(Inner::Real(real)))
    }

    /// The next connection, and where it comes from. Cancel-safe.
    ///
    /// # Errors
    /// When there are no descriptors left, for one.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        match &self.0 {
            Inner::Real(real) => {
                let (stream, from) = real.accept().await?;
                Ok((TcpStream::real(stream), from))
            }
            Inner::Simulated(simulated) => {
                let (socket, from) = simulated.accept().await?;
                Ok((TcpStream::simulated(socket), from))
            }
        }
    }

    /// Where it listens, with the port that was chosen when 0 was asked for.
    ///
    /// # Errors
    /// When the machine does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match &self.0 {
            Inner::Real(real) => real.local_addr(),
            Inner::Simulated(simulated) => Ok(simulated.address()),
        }
    }
}
