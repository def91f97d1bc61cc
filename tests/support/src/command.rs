//! Running a command to its end.

use std::ffi::OsStr;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use storage::clock::Clock;

use crate::deadline::eventually_within;

/// How long a command may take that waits by itself, as long as it is told to.
const COMMAND_PATIENCE: Duration = Duration::from_secs(180);

/// What became of a command.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Its exit code.
    pub code: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
    /// How long it took.
    pub elapsed: Duration,
}

impl Finished {
    /// Its standard output, when it succeeded.
    ///
    /// # Panics
    ///
    /// When it did not.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{}{}", self.stdout, self.stderr);
        self.stdout
    }

    /// Its standard output as one JSON value, when it succeeded.
    ///
    /// # Panics
    ///
    /// When it did not, or wrote something else.
    #[track_caller]
    pub fn json(self) -> serde_json::Value {
        let stdout = self.ok();
        serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}"))
    }

    /// Its standard output as JSON values, one a line.
    ///
    /// # Panics
    ///
    /// When it failed, or wrote something else.
    #[track_caller]
    pub fn json_lines(self) -> Vec<serde_json::Value> {
        let stdout = self.ok();
        stdout
            .lines()
            .map(|line| {
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
            })
            .collect()
    }

    /// Its standard error, when it failed with this code.
    ///
    /// # Panics
    ///
    /// When it did anything else.
    #[track_caller]
    pub fn failed(self, code: i32) -> String {
        assert_eq!(self.code, code, "{}{}", self.stdout, self.stderr);
        self.stderr
    }
}

/// Runs a program with these arguments and this standard input until it ends.
///
/// # Panics
///
/// When it cannot be started, does not end in time, or is ended by a signal.
pub fn run(program: &str, arguments: &[impl AsRef<OsStr>], stdin: &[u8]) -> Finished {
    let clock = Clock::system();
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program can be started");
    let mut input = child.stdin.take().expect("its input is a pipe");
    let stdin = stdin.to_vec();
    // A command need not read what it is given.
    let writer = std::thread::spawn(move || drop(input.write_all(&stdin)));
    let stdout = crate::process::collect(child.stdout.take().expect("its output is a pipe"));
    let stderr = crate::process::collect(child.stderr.take().expect("its errors are a pipe"));
    let mut child = crate::process::Kill(child);
    let status = eventually_within(COMMAND_PATIENCE, "a command to end", || {
        child.0.try_wait().expect("a child can be waited for")
    });
    let elapsed = Duration::from_millis(u64::try_from(clock.monotonic_ms()).unwrap_or(0));
    writer.join().expect("writing does not panic");
    Finished {
        code: status.code().expect("it ended by itself"),
        stdout: stdout.join(),
        stderr: stderr.join(),
        elapsed,
    }
}
