//! Every way to break nodes, each of which makes sure that it did.

pub(crate) mod clock;
pub(crate) mod damage;
pub(crate) mod disk;
pub(crate) mod kill;
pub(crate) mod membership;
pub(crate) mod network;
pub(crate) mod power;
pub(crate) mod transfer;

use std::io;

/// Does what blocks for a moment where it holds up nobody.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(io::Error::other).and_then(|done| done)
}
