//! A runtime beside the one that asks for it: on a thread of its own, or in a simulation one more
//! of the simulated host, which the simulation steps.

use std::fmt;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::sim;

/// A current-thread runtime beside the caller's. Dropped, it is told to end.
pub struct RuntimeThread {
    handle: Handle,
    running: Running,
}

enum Running {
    Real(Mutex<Option<Thread>>),
    Simulated(sim::Worker),
}

struct Thread {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl RuntimeThread {
    /// Starts it, with at most so many threads for its blocking work; at its end it waits for
    /// such work so long.
    ///
    /// # Errors
    /// When the machine has no thread or descriptor left.
    pub fn start(
        name: &str,
        blocking_threads_max: usize,
        blocking_max: Duration,
    ) -> io::Result<RuntimeThread> {
        if let Some(here) = sim::current() {
            let worker = here.start_worker(name)?;
            return Ok(RuntimeThread {
                handle: worker.handle().clone(),
                running: Running::Simulated(worker),
            });
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .max_blocking_threads(blocking_threads_max)
            .thread_name(format!("{name}-blocking"))
            .build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                // Ends when told to, or when the sender is dropped.
                let _ = runtime.block_on(stopped);
                runtime.shutdown_timeout(blocking_max);
            })?;
        Ok(RuntimeThread {
            handle,
            running: Running::Real(Mutex::new(Some(Thread { stop, thread }))),
        })
    }

    /// The runtime.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Ends it and drops what runs there. Waits for that, unless called on it.
    pub fn stop(&self) {
        let running = match &self.running {
            Running::Simulated(worker) => return worker.stop(),
            Running::Real(running) => running,
        };
        let taken = running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(Thread { stop, thread }) = taken else {
            return;
        };
        // The thread may have ended by itself.
        let _ = stop.send(());
        let inside = std::thread::current().id() == thread.thread().id();
        let name = thread.thread().name().unwrap_or_default().to_owned();
        if !inside && thread.join().is_err() {
            tracing::error!("the {name} thread panicked");
        }
    }
}

impl Drop for RuntimeThread {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for RuntimeThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RuntimeThread")
    }
}
