//! The raft thread: one current-thread runtime. It never waits for a disk.

use std::fmt;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// Threads for the shards' checkpoints and cold reads.
const BLOCKING_THREADS_MAX: usize = 8;
/// How long the end of the thread waits for blocking work that was started.
const BLOCKING_MAX: Duration = Duration::from_secs(10);

/// The thread; dropped, it is told to end.
pub(super) struct RaftThread {
    handle: Handle,
    running: Mutex<Option<Running>>,
}

struct Running {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl RaftThread {
    pub(super) fn start() -> io::Result<RaftThread> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .max_blocking_threads(BLOCKING_THREADS_MAX)
            .thread_name("raft-blocking")
            .build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new()
            .name("raft".to_owned())
            .spawn(move || {
                // Ends when told to, or when the sender is dropped.
                let _ = runtime.block_on(stopped);
                runtime.shutdown_timeout(BLOCKING_MAX);
            })?;
        Ok(RaftThread {
            handle,
            running: Mutex::new(Some(Running { stop, thread })),
        })
    }

    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Ends the thread and drops what runs there. Waits for it, unless called on it.
    pub(super) fn stop(&self) {
        let running = self
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(Running { stop, thread }) = running else {
            return;
        };
        // The thread may have ended by itself.
        let _ = stop.send(());
        let inside = std::thread::current().id() == thread.thread().id();
        if !inside && thread.join().is_err() {
            tracing::error!("the raft thread panicked");
        }
    }
}

impl Drop for RaftThread {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for RaftThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RaftThread")
    }
}
