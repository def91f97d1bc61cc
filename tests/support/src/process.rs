//! A node as a process of its own.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rustix::process::{Pid, Signal, kill_process};

use crate::deadline::eventually;

/// What makes a node take free ports.
pub(crate) const FREE_PORTS: [&str; 3] = ["kafka.port=0", "peers.port=0", "http.port=0"];

/// A running `braidlog start`. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Kill,
    stdout: Collected,
    stderr: Collected,
    ready: serde_json::Value,
}

impl Process {
    /// Starts a node on free ports, unless the arguments set others, and waits until it is ready.
    /// `binary` is `env!("CARGO_BIN_EXE_braidlog")` of the test.
    ///
    /// # Panics
    ///
    /// When it does not get ready.
    #[must_use]
    pub fn start(binary: &str, data_dir: &Path, arguments: &[&str]) -> Process {
        let mut process = Process::spawn(binary, data_dir, arguments);
        process.wait_ready();
        process
    }

    /// Waits until a node that was spawned is ready.
    ///
    /// # Panics
    ///
    /// When it does not get ready.
    pub fn wait_ready(&mut self) {
        eventually("the node to be ready", || {
            if self.is_ready() {
                return Some(());
            }
            if let Some(status) = self.ended() {
                panic!("the node ended with {status}: {}", self.log());
            }
            None
        });
    }

    /// Whether it has said that it is ready.
    pub fn is_ready(&mut self) -> bool {
        if self.ready.is_null()
            && let Some(line) = self.stdout.text().lines().next()
        {
            self.ready = serde_json::from_str(line).unwrap_or_default();
        }
        !self.ready.is_null()
    }

    /// How it ended, if it has.
    ///
    /// # Panics
    ///
    /// When the system does not say.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.0.try_wait().expect("a child can be asked")
    }

    /// Starts a node on free ports and does not wait.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    #[must_use]
    pub fn spawn(binary: &str, data_dir: &Path, arguments: &[&str]) -> Process {
        let mut all: Vec<OsString> = ["start", "-o", "json"].map(OsString::from).to_vec();
        for port in FREE_PORTS {
            all.extend(["--set", port].map(OsString::from));
        }
        all.push("--data-dir".into());
        all.push(data_dir.into());
        all.extend(arguments.iter().map(OsString::from));
        let mut child = Command::new(binary)
            .args(all)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the node can be started");
        let stdout = collect(child.stdout.take().expect("its output is a pipe"));
        let stderr = collect(child.stderr.take().expect("its errors are a pipe"));
        Process {
            child: Kill(child),
            stdout,
            stderr,
            ready: serde_json::Value::Null,
        }
    }

    /// What it printed when it was ready.
    #[must_use]
    pub fn ready(&self) -> &serde_json::Value {
        &self.ready
    }

    /// Where its Kafka listener is, as `host:port`.
    ///
    /// # Panics
    ///
    /// When it is not ready.
    #[must_use]
    pub fn kafka(&self) -> &str {
        self.ready["kafka"]
            .as_str()
            .expect("a ready node says where it listens")
    }

    /// Where its HTTP listener is, as `host:port`.
    ///
    /// # Panics
    ///
    /// When it is not ready.
    #[must_use]
    pub fn http(&self) -> &str {
        self.ready["http"]
            .as_str()
            .expect("a ready node says where it listens")
    }

    /// Where its listener for other nodes is, as `host:port`.
    ///
    /// # Panics
    ///
    /// When it is not ready.
    #[must_use]
    pub fn peers(&self) -> &str {
        self.ready["peers"]
            .as_str()
            .expect("a ready node says where it listens")
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.0.id()
    }

    /// What it wrote to standard error so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.stderr.text()
    }

    /// Sends it a signal.
    ///
    /// # Panics
    ///
    /// When it cannot be sent.
    pub fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.id()).expect("a process id is positive");
        kill_process(Pid::from_raw(id).expect("not 0"), signal).expect("a child can be signalled");
    }

    /// Ends it as a power cut would, and waits until it is gone.
    ///
    /// # Panics
    ///
    /// When it cannot be ended.
    pub fn kill(mut self) {
        self.child.0.kill().expect("a child can be killed");
        self.child.0.wait().expect("a child can be waited for");
    }

    /// Asks it to end (SIGTERM), and waits until it has.
    ///
    /// # Panics
    ///
    /// When it does not.
    pub fn terminate(self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait().0
    }

    /// Waits until it ends; its status and its log.
    ///
    /// # Panics
    ///
    /// When it does not.
    pub fn wait(mut self) -> (ExitStatus, String) {
        let status = eventually("the node to end", || {
            self.child.0.try_wait().expect("a child can be waited for")
        });
        (status, self.stderr.join())
    }
}

/// A child that does not outlive the test.
#[derive(Debug)]
pub(crate) struct Kill(pub(crate) Child);

impl Drop for Kill {
    fn drop(&mut self) {
        // Both fail only when it is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a child has written, read by a thread of its own.
#[derive(Debug)]
pub(crate) struct Collected {
    text: Arc<Mutex<String>>,
    reader: JoinHandle<()>,
}

pub(crate) fn collect(from: impl Read + Send + 'static) -> Collected {
    let text = Arc::new(Mutex::new(String::new()));
    let shared = Arc::clone(&text);
    let reader = std::thread::spawn(move || {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        while from
            .read_until(b'\n', &mut line)
            .is_ok_and(|count| count > 0)
        {
            let mut text = shared.lock().unwrap_or_else(PoisonError::into_inner);
            text.push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    });
    Collected { text, reader }
}

impl Collected {
    pub(crate) fn text(&self) -> String {
        self.text
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// All of it, once the child has closed its end.
    pub(crate) fn join(self) -> String {
        self.reader.join().expect("reading does not panic");
        self.text
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
