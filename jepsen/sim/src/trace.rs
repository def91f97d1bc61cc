//! The trace: every event of a run as a line with its virtual time; its digest is the run's identity.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Lines kept for a reader when nothing is written.
const TAIL_LINES: usize = 400;

/// Where lines go; clones share it.
#[derive(Clone)]
pub(crate) struct Trace {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    now_us: u64,
    host: u32,
    lines: u64,
    digest: [u64; 2],
    tail: VecDeque<String>,
    out: Option<Box<dyn Write + Send>>,
    failed: Option<io::Error>,
}

impl Trace {
    /// Writes to `out` as well, if there is one.
    pub(crate) fn new(out: Option<Box<dyn Write + Send>>) -> Trace {
        Trace {
            inner: Arc::new(Mutex::new(Inner {
                now_us: 0,
                host: 0,
                lines: 0,
                digest: [0xcbf2_9ce4_8422_2325, 0x9e37_79b9_7f4a_7c15],
                tail: VecDeque::new(),
                out,
                failed: None,
            })),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What comes now happens at this time.
    pub(crate) fn set_now_us(&self, now_us: u64) {
        self.inner().now_us = now_us;
    }

    /// What comes now happens at this host; 0 is the world itself.
    pub(crate) fn set_host(&self, host: u32) {
        self.inner().host = host;
    }

    /// Writes a line: its kind, and what happened.
    pub(crate) fn line(&self, kind: &str, what: fmt::Arguments<'_>) {
        let mut inner = self.inner();
        let (now, host) = (inner.now_us, inner.host);
        let line = format!("{:>10.3} {host} {kind} {what}", now as f64 / 1_000.0);
        inner.put(line);
    }

    /// The digest of all lines so far, and their number.
    pub(crate) fn digest(&self) -> (String, u64) {
        let inner = self.inner();
        let [high, low] = inner.digest;
        (format!("{high:016x}{low:016x}"), inner.lines)
    }

    /// The last lines.
    pub(crate) fn tail(&self) -> Vec<String> {
        self.inner().tail.iter().cloned().collect()
    }

    /// Ends writing; says whether everything was written.
    pub(crate) fn finish(&self) -> io::Result<()> {
        let mut inner = self.inner();
        if let Some(mut out) = inner.out.take() {
            out.flush()?;
        }
        inner.failed.take().map_or(Ok(()), Err)
    }
}

impl Inner {
    fn put(&mut self, line: String) {
        self.lines += 1;
        let [mut high, mut low] = self.digest;
        for byte in line.bytes().chain([b'\n']) {
            high = (high ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
            low = (low.rotate_left(5) ^ u64::from(byte)).wrapping_mul(0x517c_c1b7_2722_0a95);
        }
        self.digest = [high, low];
        if let Some(out) = self.out.as_mut()
            && let Err(error) = writeln!(out, "{line}")
        {
            self.failed.get_or_insert(error);
            self.out = None;
        }
        if self.tail.len() == TAIL_LINES {
            self.tail.pop_front();
        }
        self.tail.push_back(line);
    }
}
