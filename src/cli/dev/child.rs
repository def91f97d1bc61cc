//! A node as a child of this process: ends with it, says on its standard output when it is ready,
//! and logs into a file.

use std::io::{self, BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, TryRecvError, channel};

use rustix::fs::{Mode, OFlags};
use storage::disk::Disk;

use super::super::processes::Process;

/// Last lines of a log that are shown when a node fails.
const LOG_LINES_SHOWN: usize = 8;
/// From the end of a log, as much is read for them.
const LOG_BYTES_SHOWN: usize = 16 << 10;

/// How a node is started.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) id: u32,
    pub(super) arguments: Vec<String>,
    pub(super) log: PathBuf,
}

/// A node that was started. Killed when dropped.
#[derive(Debug)]
pub(super) struct NodeChild {
    child: Child,
    // Its other end is the child's standard input, and closes when this process ends, however it
    // ends: that tells the child to end as well.
    _leash: Option<std::process::ChildStdin>,
    ready: Receiver<()>,
}

impl NodeChild {
    pub(super) fn spawn(plan: &Plan) -> io::Result<NodeChild> {
        let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::APPEND | OFlags::CLOEXEC;
        let log = rustix::fs::open(&plan.log, flags, Mode::from_raw_mode(0o644))?;
        let mut child = Command::new(std::env::current_exe()?)
            .args(&plan.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::from(log))
            // Ctrl-C is for the parent, which then stops its nodes in good order.
            .process_group(0)
            .spawn()?;
        let leash = child.stdin.take();
        let (tell, ready) = channel();
        if let Some(stdout) = child.stdout.take() {
            std::thread::spawn(move || {
                let mut stdout = BufReader::new(stdout);
                let mut line = String::new();
                // The one line that it prints says that it is ready. Reading on keeps the pipe open.
                while stdout.read_line(&mut line).is_ok_and(|count| count > 0) {
                    // Nobody waits for it any more: no matter.
                    let _ = tell.send(());
                    line.clear();
                }
            });
        }
        Ok(NodeChild {
            child,
            _leash: leash,
            ready,
        })
    }

    pub(super) fn process(&self) -> Option<Process> {
        Process::of(self.child.id())
    }

    /// Whether it has said, since the last time of asking, that it is ready.
    pub(super) fn became_ready(&self) -> bool {
        match self.ready.try_recv() {
            Ok(()) => true,
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => false,
        }
    }

    /// How it ended, if it has.
    pub(super) fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }
}

impl Drop for NodeChild {
    fn drop(&mut self) {
        // Both fail only when it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The last lines of a log.
pub(super) fn last_lines(log: &Path) -> Vec<String> {
    let Ok(bytes) = Disk::Real.read_file(log) else {
        return Vec::new();
    };
    let from = bytes.len().saturating_sub(LOG_BYTES_SHOWN);
    let text = String::from_utf8_lossy(&bytes[from..]).into_owned();
    let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
    let from = lines.len().saturating_sub(LOG_LINES_SHOWN);
    lines[from..].iter().map(ToString::to_string).collect()
}
