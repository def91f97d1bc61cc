//! The processes of a crowd: Java machines with many members each, and the watcher.
//!
//! What they say is kept, and written to a file for whoever wants to know more.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Command};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::history::{Event, What};
use super::rebalance::Tracker;
use crate::process::Owned;

/// For a request: a Java machine starts beside two hundred busy members, or forty members close.
const REQUEST_LIMIT: Duration = Duration::from_secs(180);
/// For a process to end once its input has ended.
const EXIT_LIMIT: Duration = Duration::from_secs(180);

/// What all of them said so far.
pub(super) struct Log {
    /// In the order of their coming, which is nearly that of their times.
    pub(super) events: Vec<Event>,
    /// After these events.
    pub(super) tracker: Tracker,
    /// What no client should say, and what is no event.
    pub(super) problems: Vec<String>,
    file: BufWriter<File>,
}

/// The log, as its writers and its reader share it.
#[derive(Clone)]
pub(super) struct SharedLog(Arc<Mutex<Log>>);

impl SharedLog {
    /// An empty one.
    pub(super) fn create(path: &Path, partitions: usize) -> Result<Self, String> {
        let file = File::create(path);
        let file = file.map_err(|e| format!("cannot write {}: {e}", path.display()))?;
        Ok(Self(Arc::new(Mutex::new(Log {
            events: Vec::new(),
            tracker: Tracker::new(partitions),
            problems: Vec::new(),
            file: BufWriter::new(file),
        }))))
    }

    /// It, for a moment.
    pub(super) fn lock(&self) -> MutexGuard<'_, Log> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds something that we did.
    pub(super) fn add(&self, event: Event) {
        self.lock().take(event);
    }

    /// Keeps a line; its time, and what it answers.
    fn take_line(&self, line: &str) -> (u64, Option<String>) {
        let mut log = self.lock();
        // A full disk shows in what matters: the events are kept in memory.
        let _ = writeln!(log.file, "{line}");
        match Event::parse(line) {
            Ok(event) => {
                let at_ns = event.at_ns;
                let answer = match &event.what {
                    What::Answer(answer) => Some(answer.clone()),
                    _ => None,
                };
                log.take(event);
                (at_ns, answer)
            }
            Err(why) => {
                log.problems.push(why);
                (0, None)
            }
        }
    }
}

impl Log {
    fn take(&mut self, event: Event) {
        if let What::Problem(why) = &event.what {
            self.problems.push(why.clone());
        }
        self.tracker.apply(&event);
        self.events.push(event);
    }
}

/// A running process.
pub(super) struct Process {
    child: Owned,
    /// The end of its input ends it.
    input: Option<ChildStdin>,
    answers: Receiver<(u64, String)>,
    /// Ends with the time of the last line.
    reader: Option<JoinHandle<u64>>,
}

impl Process {
    /// Starts one.
    pub(super) fn start(mut command: Command, log: &SharedLog) -> Result<Self, String> {
        let mut child = Owned::spawn(&mut command)?;
        let stdout = child.0.stdout.take().ok_or("it has no output")?;
        let (sender, answers) = channel();
        let log = log.clone();
        Ok(Self {
            input: child.0.stdin.take(),
            child,
            answers,
            reader: Some(std::thread::spawn(move || read(stdout, &log, &sender))),
        })
    }

    /// Asks for something and waits until it is done; the time that the process gives.
    pub(super) fn ask(&mut self, words: &[&str]) -> Result<u64, String> {
        let what = words.first().copied().unwrap_or_default();
        let input = self.input.as_mut().ok_or("it was asked to end")?;
        writeln!(input, "{}", words.join("\t"))
            .map_err(|problem| format!("a process is gone: {problem}"))?;
        match self.answers.recv_timeout(REQUEST_LIMIT) {
            Ok((at_ns, answer)) if answer == what => Ok(at_ns),
            Ok((_, answer)) => Err(format!("it answers {answer} to {what}")),
            Err(RecvTimeoutError::Timeout) => {
                let limit = REQUEST_LIMIT.as_secs();
                Err(format!("no answer to {what} in {limit} s"))
            }
            Err(RecvTimeoutError::Disconnected) => Err("a process ended".to_owned()),
        }
    }

    /// Ends it without warning; the time of its last line.
    pub(super) fn kill(mut self) -> Result<u64, String> {
        let killed = self.child.0.kill().and_then(|()| self.child.0.wait());
        killed.map_err(|problem| format!("cannot kill it: {problem}"))?;
        self.last_words()
    }

    /// Has it end by itself.
    pub(super) fn end(mut self) -> Result<(), String> {
        drop(self.input.take());
        let status = self.child.wait_until(Instant::now() + EXIT_LIMIT)?;
        self.last_words()?;
        match status.success() {
            true => Ok(()),
            false => Err(format!("a process ended with {status}")),
        }
    }

    fn last_words(&mut self) -> Result<u64, String> {
        let reader = self.reader.take().ok_or("it was read to its end")?;
        let at_ns = reader.join();
        at_ns.map_err(|_| "the reader of its output panicked".to_owned())
    }
}

/// Until the output ends, at the latest when the child is dropped.
fn read(stdout: ChildStdout, log: &SharedLog, answers: &Sender<(u64, String)>) -> u64 {
    let mut last_ns = 0;
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        let (at_ns, answer) = log.take_line(&line);
        last_ns = last_ns.max(at_ns);
        if let Some(answer) = answer {
            // Nobody waits for the answers of a process that is being ended.
            let _ = answers.send((at_ns, answer));
        }
    }
    last_ns
}
