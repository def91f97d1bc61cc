//! A place: a thread, often in a network namespace of its own, on which things are done that belong
//! there: making sockets and devices, starting processes.
//!
//! A process started there lives in the namespace, which is gone, with all that is in it, when the
//! last process, socket and thread in it are: nothing is left, however the harness ends. What the
//! thread starts may be told to die with it (`setpriv --pdeathsig`), so the thread lives as long as
//! its place.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::sys;

type Job = Box<dyn FnOnce() + Send>;

/// Somewhere to do things.
#[derive(Debug)]
pub(crate) struct Place {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    namespace: Option<File>,
}

impl Place {
    /// In the namespace of who calls.
    pub(super) fn here(name: &str) -> io::Result<Place> {
        let (jobs, todo) = mpsc::channel::<Job>();
        let thread = std::thread::Builder::new().name(name.to_owned());
        let thread = thread.spawn(move || todo.into_iter().for_each(|job| job()))?;
        Ok(Place {
            jobs: Some(jobs),
            thread: Some(thread),
            namespace: None,
        })
    }

    /// In a new network namespace, in which nothing is but a loopback device that is down.
    pub(super) fn apart(name: &str) -> io::Result<Place> {
        let mut place = Place::here(name)?;
        let namespace = place.run(|| {
            sys::unshare_network()?;
            File::open("/proc/thread-self/ns/net")
        })??;
        place.namespace = Some(namespace);
        Ok(place)
    }

    /// Does something there, and waits until it is done.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        let (sender, answer) = mpsc::sync_channel(1);
        let job: Job = Box::new(move || {
            // Who asked waits for the answer.
            let _ = sender.send(job());
        });
        let jobs = self.jobs.as_ref();
        let sent = jobs.is_some_and(|jobs| jobs.send(job).is_ok());
        let gone = || io::Error::other("the thread of a network namespace is gone");
        if !sent {
            return Err(gone());
        }
        answer.recv().map_err(|_| gone())
    }

    /// Moves the calling thread there, and what it starts from then on.
    pub(super) fn enter(&self) -> io::Result<()> {
        if let Some(namespace) = &self.namespace {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        }
        Ok(())
    }

    /// Runs commands of `ip` there, one a line.
    pub(super) fn ip(&self, batch: String) -> io::Result<()> {
        self.run(move || {
            let mut ip = Command::new("ip")
                .args(["-batch", "-"])
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .map_err(|error| io::Error::new(error.kind(), format!("`ip`: {error}")))?;
            if let Some(mut stdin) = ip.stdin.take() {
                stdin.write_all(batch.as_bytes())?;
            }
            let done = ip.wait_with_output()?;
            if done.status.success() {
                return Ok(());
            }
            let said = String::from_utf8_lossy(&done.stderr);
            Err(io::Error::other(format!(
                "`ip -batch` failed: {}",
                said.trim()
            )))
        })?
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            // A job that panicked has said so.
            let _ = thread.join();
        }
    }
}
