//! `jepsen sim`: many seeds, each in a process of its own, some at a time.
//!
//! A simulation takes over time and randomness of its whole process and never gives them back. A
//! process also has an end when the seed does not come to one: it is killed, and the seed counts as a
//! fault of the harness, as does one whose process died, unless a node's code panicked.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::cli::SimArguments;
use crate::exit::{Exit, Failure};
use crate::print;
use crate::seed::{Told, replay_command};

const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// How often the progress is told.
const PROGRESS_EVERY: Duration = Duration::from_secs(10);
/// Output of a seed's process that is looked at.
const OUTPUT_BYTES_MAX: u64 = 1 << 20;
/// Letters of a reason on a seed's line.
const WHY_CHARS_MAX: usize = 300;

/// What one seed came to.
#[derive(Debug)]
struct Ran {
    exit: Exit,
    told: Told,
}

/// What all seeds came to, so far.
#[derive(Debug, Default)]
struct Tally {
    valid: u64,
    anomaly: u64,
    unknown: u64,
    fault: u64,
    sends_ok: u64,
    faults: u64,
    group_rests: u64,
    virtual_ms: u64,
}

impl Tally {
    fn add(&mut self, ran: &Ran) {
        let count = match ran.exit {
            Exit::Valid => &mut self.valid,
            Exit::Anomaly => &mut self.anomaly,
            Exit::Unknown => &mut self.unknown,
            Exit::Fault => &mut self.fault,
        };
        *count += 1;
        self.sends_ok += ran.told.sends_ok;
        self.faults += ran.told.faults;
        self.group_rests += ran.told.group_rests;
        self.virtual_ms += ran.told.virtual_ms;
    }

    fn all(&self) -> u64 {
        self.valid + self.anomaly + self.unknown + self.fault
    }

    /// The worst of them, where so many of a hundred may be unknown.
    fn exit(&self, unknown_percent_max: u64) -> Exit {
        if self.anomaly > 0 {
            Exit::Anomaly
        } else if self.fault > 0 {
            Exit::Fault
        } else if self.unknown * 100 > self.all() * unknown_percent_max || self.valid == 0 {
            Exit::Unknown
        } else {
            Exit::Valid
        }
    }
}

/// Runs them all.
pub(crate) fn run(arguments: &SimArguments) -> Result<Exit, Failure> {
    let series = Series {
        arguments,
        program: std::env::current_exe()
            .map_err(|error| Failure::new(error, "start jepsen by its full path"))?,
        began: Instant::now(),
        next: AtomicU64::new(arguments.seeds.0.start),
        is_over: AtomicBool::new(false),
        tally: Mutex::default(),
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..arguments.jobs)
            .map(|_| scope.spawn(|| series.work()))
            .collect();
        let progress = scope.spawn(|| series.tell_progress());
        let done: Vec<_> = workers
            .into_iter()
            .map(thread::ScopedJoinHandle::join)
            .collect();
        series.is_over.store(true, Ordering::SeqCst);
        progress.thread().unpark();
        done.into_iter().try_for_each(|worker| match worker {
            Ok(worked) => worked,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })?;
    series.conclude()
}

struct Series<'a> {
    arguments: &'a SimArguments,
    program: PathBuf,
    began: Instant,
    next: AtomicU64,
    is_over: AtomicBool,
    tally: Mutex<Tally>,
}

impl Series<'_> {
    fn work(&self) -> Result<(), Failure> {
        while !self.is_over.load(Ordering::SeqCst) {
            let seed = self.next.fetch_add(1, Ordering::SeqCst);
            let time_max = self.arguments.time_max.map(Duration::from_secs);
            let is_late = time_max.is_some_and(|time_max| self.began.elapsed() >= time_max);
            if seed >= self.arguments.seeds.0.end || is_late {
                break;
            }
            let ran = self.seed(seed)?;
            self.lock().add(&ran);
            if ran.exit != Exit::Valid {
                self.tell(seed, &ran);
            }
            if ran.exit == Exit::Anomaly && self.arguments.stop_at_first {
                self.is_over.store(true, Ordering::SeqCst);
            }
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn dir(&self, seed: u64) -> PathBuf {
        self.arguments.out.join(format!("seed-{seed}"))
    }

    /// One seed in a process of its own.
    fn seed(&self, seed: u64) -> Result<Ran, Failure> {
        let dir = self.dir(seed);
        // An earlier run of the same seed would be in the way, and is out of date.
        match std::fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let cause = format!("{}: {error}", dir.display());
                return Err(Failure::new(cause, "name another directory with --out"));
            }
            _ => {}
        }
        let mut command = Command::new(&self.program);
        command
            .arg("sim-seed")
            .arg(seed.to_string())
            .arg("--end-with-stdin")
            .arg("--out")
            .arg(&dir)
            .args(self.arguments.simulated.arguments());
        if self.arguments.keep {
            command.arg("--keep");
        }
        let limit = Duration::from_secs(self.arguments.seed_time);
        let ended = finish(command, limit).map_err(|error| {
            let cause = format!("{}: {error}", self.program.display());
            Failure::new(cause, "start jepsen by its full path")
        })?;
        self.keep_words(&dir, &ended.stderr)?;
        Ok(ended.into())
    }

    /// What a seed's process wrote to its standard error: nothing, unless something is wrong.
    fn keep_words(&self, dir: &Path, stderr: &str) -> Result<(), Failure> {
        if stderr.trim().is_empty() {
            return Ok(());
        }
        let path = dir.join("stderr.txt");
        let written = std::fs::create_dir_all(dir).and_then(|()| std::fs::write(&path, stderr));
        written.map_err(|error| {
            let cause = format!("{}: {error}", path.display());
            Failure::new(cause, "name another directory with --out")
        })
    }

    /// A seed's line.
    fn tell(&self, seed: u64, ran: &Ran) {
        let why: String = ran.told.why.chars().take(WHY_CHARS_MAX).collect();
        let again = replay_command(seed, &self.arguments.simulated);
        eprintln!(
            "seed {seed}: {}: {}; again: {again}",
            ran.exit.word(),
            why.replace('\n', " ")
        );
    }

    fn tell_progress(&self) {
        let mut told = Instant::now();
        let mut done = 0;
        while !self.is_over.load(Ordering::SeqCst) {
            thread::park_timeout(PROGRESS_EVERY.saturating_sub(told.elapsed()));
            if told.elapsed() >= PROGRESS_EVERY {
                told = Instant::now();
                let (before, all) = (done, self.lock().all());
                if all > before {
                    done = all;
                    eprintln!("{}", self.summary());
                }
            }
        }
    }

    fn summary(&self) -> String {
        let tally = self.lock();
        let seeds = self.arguments.seeds.0.end - self.arguments.seeds.0.start;
        format!(
            "{} of {seeds} seeds: {} valid, {} anomalies, {} unknown, {} harness faults; \
             {} acknowledged sends, {} faults, groups {} times at rest, {:.1} simulated minutes in {:.0} s",
            tally.all(),
            tally.valid,
            tally.anomaly,
            tally.unknown,
            tally.fault,
            tally.sends_ok,
            tally.faults,
            tally.group_rests,
            tally.virtual_ms as f64 / 60e3,
            self.began.elapsed().as_secs_f64()
        )
    }

    fn conclude(&self) -> Result<Exit, Failure> {
        let tally = self.lock();
        let exit = tally.exit(self.arguments.unknown_max);
        let is_any_bad = tally.valid < tally.all();
        drop(tally);
        let mut lines = vec![format!("{}: {}", exit.word(), self.summary())];
        if self.arguments.keep || is_any_bad {
            lines.push(format!("kept in {}", self.arguments.out.display()));
        }
        print::lines(&lines)?;
        Ok(exit)
    }
}

/// How a process ended.
struct Ended {
    /// `None` when it ran out of time.
    status: Option<std::process::ExitStatus>,
    stdout: String,
    stderr: String,
}

impl From<Ended> for Ran {
    fn from(ended: Ended) -> Ran {
        let fault = |why: String| Told {
            why,
            ..Told::default()
        };
        let Some(status) = ended.status else {
            return Ran {
                exit: Exit::Fault,
                told: fault("it hangs".to_owned()),
            };
        };
        if let Some(panic) = product_panic(&ended.stderr) {
            return Ran {
                exit: Exit::Anomaly,
                told: fault(format!("a node's code panicked: {panic}")),
            };
        }
        let told = ended.stdout.lines().last().unwrap_or_default();
        match serde_json::from_str::<Told>(told) {
            Ok(told) => Ran {
                exit: Exit::of_code(status.code()),
                told,
            },
            Err(_) => Ran {
                exit: Exit::Fault,
                told: fault(format!("{status}: {}", last_words(&ended.stderr))),
            },
        }
    }
}

/// The first panic in what a process wrote, or else its last line.
fn last_words(stderr: &str) -> String {
    let mut lines = stderr.lines().filter(|line| !line.trim().is_empty());
    let mut panic = lines
        .clone()
        .skip_while(|line| !line.contains("panicked at "));
    match (panic.next(), panic.next()) {
        (Some(place), Some(message)) => format!("{place} {message}"),
        (Some(place), None) => place.to_owned(),
        (None, _) => lines.next_back().unwrap_or("no word").to_owned(),
    }
}

/// The message of a panic outside `jepsen/`, of a process that died of it.
fn product_panic(stderr: &str) -> Option<&str> {
    let ours = |line: &&str| {
        let place = line.split_once("panicked at ").map(|(_, place)| place);
        place.is_some_and(|place| !place.starts_with("jepsen/") && !place.starts_with('/'))
    };
    stderr.lines().find(ours)
}

/// Runs a command to its end, or to the end of its time.
fn finish(mut command: Command, limit: Duration) -> io::Result<Ended> {
    // Held until its end: with it the process learns that nobody waits any more.
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let stdout = child.stdout.take().map(read_apart);
    let stderr = child.stderr.take().map(read_apart);
    let status = wait(&mut child, Instant::now() + limit);
    if !matches!(status, Ok(Some(_))) {
        // Whatever went wrong, the process does not outlive it.
        child.kill()?;
        child.wait()?;
    }
    let text = |reader: Option<thread::JoinHandle<String>>| {
        reader
            .and_then(|reader| reader.join().ok())
            .unwrap_or_default()
    };
    Ok(Ended {
        status: status?,
        stdout: text(stdout),
        stderr: text(stderr),
    })
}

fn wait(child: &mut Child, until: Instant) -> io::Result<Option<std::process::ExitStatus>> {
    loop {
        match child.try_wait()? {
            Some(status) => return Ok(Some(status)),
            None if Instant::now() < until => thread::sleep(POLL_INTERVAL),
            None => return Ok(None),
        }
    }
}

/// Reads a pipe to its end, so that the process never waits for it.
fn read_apart(mut pipe: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut text = Vec::new();
        // An error ends the text like the end of the pipe does: the exit code tells the rest.
        let _ = pipe.by_ref().take(OUTPUT_BYTES_MAX).read_to_end(&mut text);
        let _ = io::copy(&mut pipe, &mut io::sink());
        String::from_utf8_lossy(&text).into_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, limit: Duration) -> Ran {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        finish(command, limit).unwrap().into()
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_seed_is_what_its_exit_code_and_last_line_say() {
        let told = serde_json::to_string(&Told {
            why: "1 × lost-write".to_owned(),
            ..Told::default()
        });
        let ran = shell(
            &format!("echo noise; echo '{}'; exit 1", told.unwrap()),
            LONG,
        );
        assert_eq!(
            (ran.exit, ran.told.why.as_str()),
            (Exit::Anomaly, "1 × lost-write")
        );
    }

    #[test]
    fn a_process_that_dies_is_a_fault_of_the_harness() {
        let ran = shell(
            "echo 'thread main has overflowed its stack' >&2; kill -9 $$",
            LONG,
        );
        assert_eq!(ran.exit, Exit::Fault);
        assert!(
            ran.told.why.contains("overflowed its stack"),
            "{}",
            ran.told.why
        );
        let ours = shell(
            "echo 'panicked at jepsen/sim/src/run.rs:1:1:' >&2; exit 101",
            LONG,
        );
        assert_eq!(ours.exit, Exit::Fault);
        let both = "x panicked at jepsen/a.rs:1:\nout of luck\nabort\n";
        assert_eq!(last_words(both), "x panicked at jepsen/a.rs:1: out of luck");
    }

    #[test]
    fn a_panic_of_a_nodes_code_is_an_anomaly() {
        let ran = shell(
            "echo \"thread 'x' panicked at raft/src/shard.rs:7:9:\" >&2; exit 134",
            LONG,
        );
        assert_eq!(ran.exit, Exit::Anomaly);
    }

    #[test]
    fn a_seed_that_hangs_is_ended() {
        let ran = shell("exec sleep 600", Duration::from_millis(50));
        assert_eq!((ran.exit, ran.told.why.as_str()), (Exit::Fault, "it hangs"));
    }

    #[test]
    fn a_talkative_process_is_not_held_up() {
        let ran = shell("yes | head -c 4000000 >&2; exit 2", LONG);
        assert_eq!(ran.exit, Exit::Fault, "it said nothing of itself");
    }

    #[test]
    fn the_worst_counts_but_a_few_may_be_unknown() {
        let tally = |valid, unknown, fault, anomaly| Tally {
            valid,
            unknown,
            fault,
            anomaly,
            ..Tally::default()
        };
        assert_eq!(tally(95, 5, 0, 0).exit(10), Exit::Valid);
        assert_eq!(tally(80, 20, 0, 0).exit(10), Exit::Unknown);
        assert_eq!(tally(0, 1, 0, 0).exit(10), Exit::Unknown);
        assert_eq!(tally(0, 0, 0, 0).exit(10), Exit::Unknown);
        assert_eq!(tally(98, 1, 1, 0).exit(10), Exit::Fault);
        assert_eq!(tally(97, 1, 1, 1).exit(10), Exit::Anomaly);
    }
}
