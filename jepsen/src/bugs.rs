//! `jepsen bugs`: shows that the checks find every fault that is put in on purpose.
//!
//! Each seeded bug (`storage/src/bugs.rs`) is hunted with seeds of the simulation, each in a process
//! of its own: first under the workload and nemeses that its hint names, then under whatever the
//! seeds draw. The seed that finds it is run once more without the bug: a find only counts where that
//! run is clean, or the check would find something else.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use jepsen_check::{Anomaly, AnomalyName, Verdict};
use storage::bugs::{self, Bug, Hint};

/// Room for what found a bug, in the table.
const FOUND_BY_WIDTH: usize = 40;

/// What to hunt, and for how long.
#[derive(Debug, Clone)]
pub(crate) struct Hunt {
    /// The bugs; all of them when empty.
    pub(crate) bugs: Vec<Bug>,
    /// First seed.
    pub(crate) seed: u64,
    /// Seeds tried as hinted, and then as many with everything drawn from the seed.
    pub(crate) tries: u64,
    /// How long faults go on in each run, in virtual time.
    pub(crate) duration: Duration,
    /// Runs at a time.
    pub(crate) jobs: usize,
    /// Where the runs are kept that found something.
    pub(crate) out: PathBuf,
}

/// How a bug was found.
#[derive(Debug, Clone)]
pub(crate) struct Find {
    /// Names of the anomalies, and of the invariants behind those that have no other.
    pub(crate) found_by: Vec<String>,
    /// The workload; `drawn` when the seed decided.
    pub(crate) workload: String,
    /// The nemeses; `drawn` when the seed decided.
    pub(crate) nemeses: String,
    /// The seed.
    pub(crate) seed: u64,
    /// Runs that it took.
    pub(crate) runs: u64,
    /// The time that they took.
    pub(crate) took: Duration,
}

/// What a run came to, as its exit code says.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Ran {
    Valid,
    Anomaly(Vec<String>),
    Unknown,
    Fault(String),
}

impl Hunt {
    /// Hunts them all and prints a line for each, then how many were found. True when all were.
    ///
    /// # Errors
    /// When processes cannot be started, or nothing can be printed.
    pub(crate) fn run(&self, print: &mut (dyn Write + Send)) -> io::Result<bool> {
        if !bugs::IS_BUILT_IN {
            return Err(io::Error::other(bugs::NotBuiltIn));
        }
        let all = match self.bugs.is_empty() {
            true => Bug::ALL,
            false => &self.bugs,
        };
        let (next, found) = (AtomicUsize::new(0), AtomicUsize::new(0));
        writeln!(
            print,
            "{}",
            row([
                "bug", "found by", "workload", "nemeses", "seed", "runs", "s"
            ])
        )?;
        let print = Mutex::new(print);
        let work = || -> io::Result<()> {
            while let Some(bug) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                let find = self.hunt(*bug)?;
                found.fetch_add(usize::from(find.is_ok()), Ordering::Relaxed);
                let line = match &find {
                    Ok(find) => found_line(*bug, find),
                    Err(why) => format!("{bug:<32} NOT FOUND: {why}"),
                };
                let mut print = print.lock().unwrap_or_else(PoisonError::into_inner);
                writeln!(print, "{line}")?;
                print.flush()?;
            }
            Ok(())
        };
        thread::scope(|scope| -> io::Result<()> {
            let workers: Vec<_> = (0..self.jobs.max(1)).map(|_| scope.spawn(work)).collect();
            for worker in workers {
                worker
                    .join()
                    .map_err(|_| io::Error::other("a worker panicked"))??;
            }
            Ok(())
        })?;
        let (found, all) = (found.into_inner(), all.len());
        let print = print.into_inner().unwrap_or_else(PoisonError::into_inner);
        writeln!(print, "{found} of {all} found")?;
        Ok(found == all)
    }

    /// Runs seeds until one finds the bug; says why none did otherwise.
    fn hunt(&self, bug: Bug) -> io::Result<Result<Find, String>> {
        let began = Instant::now();
        let mut missed = Missed::default();
        for attempt in self.attempts(bug) {
            let dir = self.out.join(bug.name()).join(attempt.dir_name());
            missed.runs += 1;
            match self.one(Some(bug), &attempt, &dir)? {
                Ran::Anomaly(found_by) => {
                    let without = dir.with_extension("without");
                    match self.one(None, &attempt, &without)? {
                        Ran::Anomaly(names) => {
                            let names = names.join(", ");
                            missed.dirty.push(format!("seed {}: {names}", attempt.seed));
                        }
                        _ => {
                            remove(&without)?;
                            return Ok(Ok(Find {
                                found_by,
                                workload: attempt.workload(),
                                nemeses: attempt.nemeses(),
                                seed: attempt.seed,
                                runs: missed.runs,
                                took: began.elapsed(),
                            }));
                        }
                    }
                }
                Ran::Valid => {}
                Ran::Unknown => missed.unknown += 1,
                Ran::Fault(why) => missed.faults.push(format!("seed {}: {why}", attempt.seed)),
            }
            remove(&dir)?;
        }
        Ok(Err(missed.to_string()))
    }

    /// As the hint says, then as the seeds say.
    fn attempts(&self, bug: Bug) -> impl Iterator<Item = Attempt> {
        let seeds = self.seed..self.seed.saturating_add(self.tries);
        let hint = bug.hint();
        let hinted = seeds.clone().map(move |seed| Attempt {
            seed,
            hint: Some(hint),
        });
        hinted.chain(seeds.map(|seed| Attempt { seed, hint: None }))
    }

    /// One seed in a process of its own.
    fn one(&self, bug: Option<Bug>, attempt: &Attempt, out: &Path) -> io::Result<Ran> {
        let mut command = Command::new(std::env::current_exe()?);
        let seed = attempt.seed;
        command.arg("sim").args(["--seeds", &seed.to_string()]);
        command.args(["--duration", &self.duration.as_secs().to_string()]);
        command.args([OsString::from("--out"), out.into()]);
        if let Some(hint) = attempt.hint {
            command.args(["--workload", hint.workload]);
            command.args(["--nemesis", &hint.nemeses.join(",")]);
            // In the others a loss of power may cost what was acknowledged.
            command.args(["--durability", "fsync"]);
        }
        command.env_remove(bugs::VARIABLE);
        if let Some(bug) = bug {
            command.env(bugs::VARIABLE, bug.name());
        }
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let done = command.stderr(Stdio::piped()).output()?;
        Ok(match done.status.code() {
            Some(0) => Ran::Valid,
            Some(1) => Ran::Anomaly(anomalies(out)?),
            Some(2) => Ran::Unknown,
            code => {
                let text = String::from_utf8_lossy(&done.stderr);
                let last = text.lines().last().unwrap_or("no word").to_owned();
                Ran::Fault(match code {
                    Some(3) => last,
                    other => format!("ended with {other:?}: {last}"),
                })
            }
        })
    }
}

/// One run.
#[derive(Debug, Clone, Copy)]
struct Attempt {
    seed: u64,
    /// Workload and nemeses; drawn from the seed without.
    hint: Option<Hint>,
}

impl Attempt {
    fn dir_name(&self) -> String {
        let suffix = if self.hint.is_some() { "" } else { "-drawn" };
        format!("{}{suffix}", self.seed)
    }

    fn workload(&self) -> String {
        self.hint.map_or("drawn", |hint| hint.workload).to_owned()
    }

    fn nemeses(&self) -> String {
        self.hint
            .map_or_else(|| "drawn".to_owned(), |hint| hint.nemeses.join(","))
    }
}

/// Why a bug was not found.
#[derive(Debug, Default)]
struct Missed {
    runs: u64,
    unknown: u64,
    /// Seeds that show an anomaly without the bug too.
    dirty: Vec<String>,
    faults: Vec<String>,
}

impl fmt::Display for Missed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} runs, {} of them unknown", self.runs, self.unknown)?;
        if let Some(first) = self.dirty.first() {
            let count = self.dirty.len();
            write!(f, "; {count} show an anomaly without it too ({first})")?;
        }
        if let Some(first) = self.faults.first() {
            let count = self.faults.len();
            write!(f, "; {count} faults of the harness ({first})")?;
        }
        Ok(())
    }
}

/// Names of the anomalies of the run that was kept in this directory, or in one directly in it.
fn anomalies(out: &Path) -> io::Result<Vec<String>> {
    let mut dirs = vec![out.to_owned()];
    for entry in std::fs::read_dir(out)? {
        dirs.push(entry?.path());
    }
    for dir in dirs {
        let text = match std::fs::read(dir.join("verdict.json")) {
            Ok(text) => text,
            Err(_) => continue,
        };
        let verdict: Verdict = serde_json::from_slice(&text).map_err(io::Error::other)?;
        return Ok(found_by(&verdict));
    }
    Err(io::Error::other(format!(
        "there is no verdict in {}",
        out.display()
    )))
}

/// The names of what was found, each once: of an invariant its own.
fn found_by(verdict: &Verdict) -> Vec<String> {
    let invariant = |anomaly: &Anomaly| {
        // "<invariant> at <time>, node <n>: <what was seen>"
        let name = anomaly.explanation.split(' ').next();
        name.unwrap_or_default().to_owned()
    };
    let mut names = Vec::new();
    for name in verdict.anomaly_counts.keys() {
        if *name == AnomalyName::Invariant {
            let these = verdict.anomalies.iter().filter(|one| one.name == *name);
            names.extend(these.map(invariant));
        } else {
            names.push(name.as_str().to_owned());
        }
    }
    names.dedup();
    names
}

/// As many of them as fit into a cell.
fn in_short(found_by: &[String]) -> String {
    let mut text = String::new();
    for (shown, name) in found_by.iter().enumerate() {
        let more = format!(" +{}", found_by.len() - shown);
        if shown > 0 && text.len() + name.len() + ", ".len() + more.len() > FOUND_BY_WIDTH {
            return text + &more;
        }
        text = [text, name.clone()]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join(", ");
    }
    text
}

fn remove(dir: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn row(cells: [&str; 7]) -> String {
    let [bug, found_by, workload, nemeses, seed, runs, seconds] = cells;
    format!(
        "{bug:<32} {found_by:<FOUND_BY_WIDTH$} {workload:<8} {nemeses:<24} {seed:>5} {runs:>4} {seconds:>6}"
    )
}

fn found_line(bug: Bug, find: &Find) -> String {
    row([
        bug.name(),
        &in_short(&find.found_by),
        &find.workload,
        &find.nemeses,
        &find.seed.to_string(),
        &find.runs.to_string(),
        &format!("{:.1}", find.took.as_secs_f64()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invariant_is_named_by_its_own_name_and_others_by_theirs() {
        let mut verdict = jepsen_check::check(&[], &jepsen_check::Limits::default());
        let text = "durable-stays at 9570 ms, node 1: shard 1 is short";
        verdict.add(Anomaly::new(AnomalyName::Invariant, text.to_owned()));
        verdict.add(Anomaly::new(AnomalyName::LostWrite, "gone".to_owned()));
        let mut names = found_by(&verdict);
        names.sort();
        assert_eq!(names, ["durable-stays", "lost-write"]);
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let names = [
            "inconsistent-offsets",
            "nonmonotonic-send",
            "realtime-order",
        ];
        let names = names.map(str::to_owned);
        assert_eq!(in_short(&names[..1]), "inconsistent-offsets");
        assert_eq!(in_short(&names), "inconsistent-offsets +2");
        assert!(in_short(&names).len() <= FOUND_BY_WIDTH);
        assert_eq!(in_short(&[]), "");
    }
}
