//! Sockets and blocking work: the machine's, or simulated.
//!
//! Everything here is tokio's, unless the code runs as part of a simulated host ([`sim`]): then
//! connections go through a network in memory, with delays, cuts and resets drawn from a seed, and
//! blocking work runs on the runtime where it was asked for, now and then a while later. Which of the
//! two is decided where a socket is made, or work asked for.

mod listener;
pub mod sim;
mod stream;
mod thread;

pub use listener::TcpListener;
pub use stream::{Address, Keepalive, OwnedReadHalf, OwnedWriteHalf, TcpStream};
pub use thread::RuntimeThread;

use std::io;
use std::net::SocketAddr;

use tokio::task::JoinHandle;

/// What a host's name stands for, with that port.
///
/// # Errors
/// When the name is not known.
pub async fn lookup_host(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    match sim::current() {
        Some(here) => here.lookup(host, port),
        None => Ok(tokio::net::lookup_host((host, port)).await?.collect()),
    }
}

/// Runs work that blocks, beside the runtime; in a simulation as one of its tasks, which may have to
/// wait as for a busy thread: what goes on meanwhile overtakes it. Must be called within a tokio
/// runtime.
pub fn blocking<F, R>(work: F) -> JoinHandle<R>
where
    F: FnOnce() -> R + Send + 'static,
    R: Send + 'static,
{
    match sim::current() {
        Some(here) => {
            let wait = here.blocking_wait();
            tokio::spawn(async move {
                if !wait.is_zero() {
                    tokio::time::sleep(wait).await;
                }
                work()
            })
        }
        None => tokio::task::spawn_blocking(work),
    }
}
