//! One node's process: started, watched, signalled, ended.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};

use jepsen_workload::fault::NodeId;
use rustix::process::{Pid, Signal, kill_process};

use crate::isolate::Net;

/// A running process. It is killed when this value is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    pid: Pid,
    /// While it is open the node runs; it stops by itself when the harness is gone.
    _leash: Option<ChildStdin>,
    stdout: PathBuf,
    is_paused: bool,
    is_ready: bool,
}

/// What it takes to start one.
pub(crate) struct Start<'a> {
    pub(crate) binary: &'a Path,
    pub(crate) node: NodeId,
    pub(crate) dir: &'a Path,
    pub(crate) data_dir: &'a Path,
    pub(crate) settings: &'a [String],
    pub(crate) seeds: &'a str,
    pub(crate) environment: &'a [(String, std::ffi::OsString)],
    /// Shows in the log, before what the process says.
    pub(crate) headline: &'a str,
}

impl Process {
    pub(crate) fn start(start: &Start<'_>, net: &Net) -> io::Result<Process> {
        let mut log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(start.dir.join("log"))?;
        writeln!(log, "{}", start.headline)?;
        let stdout = start.dir.join("stdout");
        let mut command = wrapped(start);
        command
            .args(["start", "-o", "json", "--end-with-stdin", "--data-dir"])
            .arg(start.data_dir)
            .args(["--node-id", &start.node.to_string()]);
        if !start.seeds.is_empty() {
            command.args(["--seeds", start.seeds]);
        }
        for setting in start.settings {
            command.args(["--set", setting]);
        }
        command
            .env("RUST_BACKTRACE", "1")
            .stdin(Stdio::piped())
            .stdout(File::create(&stdout)?)
            .stderr(log);
        let mut child = net.spawn(start.node, command)?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::other("a child without a process id"))?;
        Ok(Process {
            _leash: child.stdin.take(),
            child,
            pid,
            stdout,
            is_paused: false,
            is_ready: false,
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has said that it is ready.
    pub(crate) fn is_ready(&mut self) -> bool {
        if !self.is_ready {
            let said = std::fs::read_to_string(&self.stdout).unwrap_or_default();
            let line = said.lines().next().unwrap_or_default();
            let ready = serde_json::from_str::<serde_json::Value>(line);
            self.is_ready = ready.is_ok_and(|ready| ready.is_object());
        }
        self.is_ready
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// The state letter in /proc: `T` when it is stopped.
    pub(crate) fn state(&self) -> io::Result<char> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid()))?;
        let after_name = stat.rsplit_once(") ").map(|(_, rest)| rest);
        let state = after_name.and_then(|rest| rest.chars().next());
        state.ok_or_else(|| io::Error::other("/proc has no state of the process"))
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// Stops it in its tracks; its state shows when all its threads are.
    pub(crate) fn pause(&mut self) -> io::Result<()> {
        kill_process(self.pid, Signal::STOP)?;
        self.is_paused = true;
        Ok(())
    }

    /// Lets it go on.
    pub(crate) fn resume(&mut self) -> io::Result<()> {
        kill_process(self.pid, Signal::CONT)?;
        self.is_paused = false;
        Ok(())
    }

    /// Ends it at once; it is gone when [`Process::ended`] says so.
    pub(crate) fn kill(&mut self) -> io::Result<()> {
        self.child.kill()
    }

    /// Asks it to stop in good order.
    pub(crate) fn terminate(&mut self) -> io::Result<()> {
        Ok(kill_process(self.pid, Signal::TERM)?)
    }

    /// Resident KiB and open descriptors.
    pub(crate) fn resources(&self) -> io::Result<(u64, u64)> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let mut lines = status.lines();
        let resident = lines.find_map(|line| line.strip_prefix("VmRSS:"));
        let resident = resident.and_then(|rest| rest.split_whitespace().next());
        let rss_kib = resident.and_then(|kib| kib.parse().ok());
        let rss_kib = rss_kib.ok_or_else(|| io::Error::other("/proc has no VmRSS"))?;
        let descriptors = std::fs::read_dir(format!("/proc/{}/fd", self.pid()))?.count();
        Ok((rss_kib, u64::try_from(descriptors).unwrap_or(u64::MAX)))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may be gone already; and nobody is left to be told if it cannot be ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `setpriv --pdeathsig KILL env A=B braidlog`, where there is a setpriv, so that not even a stopped
/// node outlives the harness, and the environment reaches nobody but the node.
fn wrapped(start: &Start<'_>) -> Command {
    let in_path = |program: &str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
    };
    if !in_path("setpriv") || !in_path("env") {
        let mut command = Command::new(start.binary);
        command.envs(start.environment.iter().map(|(key, value)| (key, value)));
        return command;
    }
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "env"]);
    for (key, value) in start.environment {
        let mut pair = std::ffi::OsString::from(key);
        pair.push("=");
        pair.push(value);
        command.arg(pair);
    }
    command.arg(start.binary);
    command
}
