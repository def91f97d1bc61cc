//! A further runtime of a simulated host.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::{Handle, Runtime};

/// A runtime that code of a simulated host has asked for: the simulation steps it, and the code
/// stops it. Clones stand for the same.
#[derive(Clone)]
pub struct Worker {
    shared: Arc<Shared>,
}

struct Shared {
    name: String,
    handle: Handle,
    /// Taken out while it is stepped, and for good when it is stopped.
    runtime: Mutex<Option<Runtime>>,
    is_stopped: AtomicBool,
}

impl Worker {
    pub(super) fn new(name: &str, runtime: Runtime) -> Worker {
        Worker {
            shared: Arc::new(Shared {
                name: name.to_owned(),
                handle: runtime.handle().clone(),
                runtime: Mutex::new(Some(runtime)),
                is_stopped: AtomicBool::new(false),
            }),
        }
    }

    /// What it is for.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.shared.handle
    }

    /// Whether it was stopped.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.shared.is_stopped.load(Ordering::SeqCst)
    }

    /// Runs what is ready there until so much of its time has passed. False: it was stopped.
    pub fn step(&self, duration: Duration) -> bool {
        self.run(|runtime| runtime.block_on(async { tokio::time::sleep(duration).await }))
    }

    /// Has the runtime run as `how` says. False: it was stopped.
    pub fn run(&self, how: impl FnOnce(&Runtime)) -> bool {
        let taken = self.runtime().take();
        let Some(runtime) = taken else {
            return false;
        };
        how(&runtime);
        *self.runtime() = Some(runtime);
        if self.is_stopped() {
            self.end();
        }
        !self.is_stopped()
    }

    /// Ends it and drops what runs there: at once, or after this step of it.
    pub(crate) fn stop(&self) {
        self.shared.is_stopped.store(true, Ordering::SeqCst);
        self.end();
    }

    fn end(&self) {
        let taken = self.runtime().take();
        if let Some(runtime) = taken {
            // Also within another runtime, where an ordinary drop is not allowed. Nothing there
            // runs on other threads.
            runtime.shutdown_background();
        }
    }

    fn runtime(&self) -> std::sync::MutexGuard<'_, Option<Runtime>> {
        self.shared
            .runtime
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("name", &self.shared.name)
            .finish_non_exhaustive()
    }
}
