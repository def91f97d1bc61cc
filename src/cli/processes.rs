//! Processes by their id, told apart from later ones that got the same: by their start time, which
//! `/proc` has on Linux.

use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use storage::disk::{Disk, OpenMode};

/// Largest file of `/proc` that is looked at.
const TEXT_BYTES_MAX: usize = 16 << 20;

/// A process, for as long as it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Process {
    pub(super) pid: u32,
    /// When it was started, in the kernel's ticks since boot.
    started: u64,
}

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Activity {
    Running,
    /// SIGSTOP has stopped it.
    Paused,
    /// It is gone, or nobody has taken note of its end yet.
    Ended,
}

impl Process {
    /// The process that has this id now.
    pub(super) fn of(pid: u32) -> Option<Process> {
        let (started, _) = stat(pid)?;
        Some(Process { pid, started })
    }

    pub(super) fn activity(self) -> Activity {
        match stat(self.pid) {
            Some((started, state)) if started == self.started => match state {
                'T' | 't' => Activity::Paused,
                'Z' | 'X' => Activity::Ended,
                _ => Activity::Running,
            },
            _ => Activity::Ended,
        }
    }

    pub(super) fn is_alive(self) -> bool {
        self.activity() != Activity::Ended
    }

    /// Sends a signal, unless the process is gone; whether it was there.
    pub(super) fn signal(self, signal: Signal) -> Result<bool, std::io::Error> {
        if !self.is_alive() {
            return Ok(false);
        }
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else {
            return Ok(false);
        };
        match kill_process(pid, signal) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::SRCH) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// Start time and state.
fn stat(pid: u32) -> Option<(u64, char)> {
    parse_stat(&read_text(Path::new(&format!("/proc/{pid}/stat")))?)
}

/// The second field is the program's name in parentheses and may hold anything.
fn parse_stat(text: &str) -> Option<(u64, char)> {
    let (_, rest) = text.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?.chars().next()?;
    // The state is field 3, the start time field 22.
    let started = fields.nth(18)?.parse().ok()?;
    Some((started, state))
}

/// The whole of a file in `/proc`, which says its length is 0.
pub(super) fn read_text(path: &Path) -> Option<String> {
    let file = Disk::Real.open(path, OpenMode::Read).ok()?;
    let mut bytes = Vec::new();
    let mut buffer = [0; 8192];
    while bytes.len() < TEXT_BYTES_MAX {
        match file.read_at(&mut buffer, bytes.len() as u64).ok()? {
            0 => break,
            count => bytes.extend_from_slice(&buffer[..count]),
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_confuses_nothing() {
        let stat = "42 (a) R 1 (b) T 1 42 42 0 -1 4194560 100 0 0 0 1 2 0 0 20 0 9 0 777 1 2 3";
        assert_eq!(parse_stat(stat), Some((777, 'T')));
        assert_eq!(parse_stat("42 (x) T 1 2"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn this_process_runs_and_another_start_time_is_another_process() {
        let this = Process::of(std::process::id()).unwrap();
        assert_eq!(this.activity(), Activity::Running);
        let other = Process {
            started: this.started + 1,
            ..this
        };
        assert_eq!(other.activity(), Activity::Ended);
        assert!(!other.signal(Signal::KILL).unwrap());
    }
}
