//! One process of a peer: started, ready when it answers in its protocol, killed, started again on
//! its data, and looked at in `/proc`.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::interop::node::{empty, last_words, spawn};
use crate::process::{Owned, succeed};

const START_LIMIT: Duration = Duration::from_secs(120);
const STOP_LIMIT: Duration = Duration::from_secs(60);
const SIGNAL_LIMIT: Duration = Duration::from_secs(10);
/// Between two looks whether it is ready; part of what is measured of a start.
const POLL_INTERVAL: Duration = Duration::from_micros(500);
/// For one answer while it starts.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// How a process shows that it is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ready {
    /// It answers a request for its API versions, and its log has this text.
    Kafka { announced: Option<&'static str> },
    /// It answers PING.
    Redis,
    /// It greets.
    Nats,
}

/// A running process.
pub(super) struct Server {
    command: Vec<String>,
    pub(super) port: u16,
    /// Where its data is.
    pub(super) data: PathBuf,
    log: PathBuf,
    ready: Ready,
    child: Owned,
    started: Instant,
}

impl Server {
    /// Starts it; it is ready only after [`Server::wait_until_ready`].
    pub(super) fn start(
        command: Vec<String>,
        port: u16,
        data: PathBuf,
        log: PathBuf,
        ready: Ready,
    ) -> Result<Server, String> {
        empty(&log)?;
        let started = Instant::now();
        let child = spawn(&command, &log)?;
        Ok(Server {
            command,
            port,
            data,
            log,
            ready,
            child,
            started,
        })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.0.id()
    }

    pub(super) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Waits until it answers.
    pub(super) fn wait_until_ready(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + START_LIMIT;
        while !self.is_ready() {
            if let Some(death) = self.death() {
                return Err(death);
            }
            if Instant::now() > deadline {
                return Err(format!("is not ready in time; {}", last_words(&self.log)));
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        Ok(())
    }

    fn is_ready(&self) -> bool {
        let said = |text: &str| fs::read_to_string(&self.log).is_ok_and(|log| log.contains(text));
        match self.ready {
            Ready::Kafka { announced } => {
                announced.is_none_or(said) && self.answers(API_VERSIONS, is_api_versions)
            }
            Ready::Redis => self.answers(b"PING\r\n", |answer| answer.starts_with(b"+PONG\r\n")),
            Ready::Nats => self.answers(b"", |answer| answer.starts_with(b"INFO ")),
        }
    }

    /// Whether it takes a connection and what it answers begins as it should.
    fn answers(&self, request: &[u8], is_it: impl Fn(&[u8]) -> bool) -> bool {
        let address = SocketAddr::from(([127, 0, 0, 1], self.port));
        let ask = || {
            let mut stream = TcpStream::connect_timeout(&address, ANSWER_LIMIT)?;
            stream.set_read_timeout(Some(ANSWER_LIMIT))?;
            stream.write_all(request)?;
            let mut answer = [0; 64];
            let mut count = 0;
            while count < answer.len() && !is_it(&answer[..count]) {
                match stream.read(&mut answer[count..])? {
                    0 => break,
                    more => count += more,
                }
            }
            Ok::<_, std::io::Error>(is_it(&answer[..count]))
        };
        ask().unwrap_or(false)
    }

    /// Why it is not running, when it is not.
    pub(super) fn death(&mut self) -> Option<String> {
        match self.child.0.try_wait() {
            Ok(None) => None,
            Ok(Some(status)) => Some(format!("ended with {status}; {}", last_words(&self.log))),
            Err(problem) => Some(format!("cannot be watched: {problem}")),
        }
    }

    /// Ends it without warning.
    pub(super) fn kill(&mut self) -> Result<(), String> {
        let killed = self.child.0.kill();
        killed.map_err(|problem| format!("cannot kill it: {problem}"))?;
        let reaped = self.child.0.wait();
        reaped
            .map(|_| ())
            .map_err(|problem| format!("cannot reap it: {problem}"))
    }

    /// Asks it to end, and waits for that.
    pub(super) fn stop(&mut self) -> Result<(), String> {
        let signal = format!("kill -TERM {}", self.pid());
        succeed(Command::new("sh").args(["-c", &signal]), SIGNAL_LIMIT)?;
        self.child.wait_until(Instant::now() + STOP_LIMIT)?;
        Ok(())
    }

    /// Starts it again on the same data and port, without waiting.
    pub(super) fn start_again(&mut self) -> Result<(), String> {
        empty(&self.log)?;
        self.started = Instant::now();
        self.child = spawn(&self.command, &self.log)?;
        Ok(())
    }

    /// How long ago it was started last.
    pub(super) fn since_start(&self) -> Duration {
        self.started.elapsed()
    }

    /// Resident memory in MB, now and at most since its start (Linux).
    pub(super) fn resident_mb(&self) -> Result<(f64, f64), String> {
        let path = format!("/proc/{}/status", self.pid());
        let status = fs::read_to_string(&path).map_err(|problem| format!("{path}: {problem}"))?;
        let found = (kib_of(&status, "VmRSS:"), kib_of(&status, "VmHWM:"));
        match found {
            (Some(now), Some(most)) => Ok((now * 1.024e-3, most * 1.024e-3)),
            _ => Err(format!("{path} does not say how much memory it has")),
        }
    }
}

/// The number behind a name at the beginning of a line.
fn kib_of(status: &str, name: &str) -> Option<f64> {
    let rest = status.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// ApiVersions, key 18, version 0, correlation id 1, no client id.
const API_VERSIONS: &[u8] = &[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff];

/// A length, correlation id 1, error code 0.
fn is_api_versions(answer: &[u8]) -> bool {
    answer.get(4..10) == Some(&[0, 0, 0, 1, 0, 0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_found_in_what_the_kernel_says() {
        let status = "VmPeak:\t 9 kB\nVmHWM:\t   2000 kB\nVmRSS:\t   1000 kB\n";
        assert_eq!(kib_of(status, "VmRSS:"), Some(1000.0));
        assert_eq!(kib_of(status, "VmHWM:"), Some(2000.0));
        assert_eq!(kib_of(status, "VmSwap:"), None);
    }

    #[test]
    fn only_an_answer_without_error_is_one() {
        assert!(is_api_versions(&[0, 0, 0, 20, 0, 0, 0, 1, 0, 0, 9]));
        assert!(!is_api_versions(&[0, 0, 0, 20, 0, 0, 0, 1, 0, 35]));
        assert!(!is_api_versions(&[0, 0, 0, 20, 0, 0, 0, 1, 0]));
    }
}
