//! One seed: from its settings to its outcome.

use std::io::{self, Write};
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jepsen_check::history::{Event, Kind, Op};
use jepsen_check::{Anomaly, AnomalyName, Limits, Recorder, Verdict, check};
use jepsen_workload::{DriveError, WorkloadKind, drive};
use serde::Serialize;
use tokio::task::LocalSet;

use crate::core::Core;
use crate::entropy;
use crate::invariants::Violation;
use crate::logs;
use crate::machine::{Common, TICK, paused_runtime};
use crate::settings::{Decided, SimSettings};
use crate::trace::Trace;
use crate::world::SimWorld;

/// A run that takes longer than its faults and this, in virtual time, hangs.
const REST_MAX: Duration = Duration::from_secs(600);
/// Faults before a violated invariant that the report marks.
const FAULTS_TOLD: usize = 6;
/// The simulation's thread carries deep futures.
const STACK_BYTES: usize = 64 << 20;

static PANICS: AtomicU64 = AtomicU64::new(0);

/// What came of a seed.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// What it decided, for a reader.
    pub decided: String,
    /// The history, as it was recorded.
    pub events: Vec<Event>,
    /// What the checkers say, invariants and panics included.
    pub verdict: Verdict,
    /// The invariant that was violated; ends the run.
    pub violation: Option<Violation>,
    /// Why the run could not be carried out.
    pub harness_error: Option<String>,
    /// Identity of the run: the digest of its trace.
    pub trace_digest: String,
    /// Lines of the trace.
    pub trace_lines: u64,
    /// Last lines of the trace.
    pub trace_tail: Vec<String>,
    /// Virtual time, in milliseconds.
    pub virtual_ms: u64,
    /// Time it took, in milliseconds.
    pub real_ms: u64,
}

/// Runs a seed. Once a process: it begins the simulation in it.
///
/// # Errors
/// When the trace cannot be written, or a thread or runtime cannot be made.
#[expect(clippy::disallowed_types, reason = "the trace goes to a real file")]
pub fn run_seed(settings: &SimSettings) -> io::Result<Outcome> {
    let out: Option<Box<dyn Write + Send>> = match &settings.trace {
        Some(path) => Some(Box::new(io::BufWriter::new(std::fs::File::create(path)?))),
        None => None,
    };
    start(settings, out)
}

/// Runs a seed and writes its whole trace line by line. Once a process.
///
/// # Errors
/// As [`run_seed`].
pub fn replay(settings: &SimSettings, out: Box<dyn Write + Send>) -> io::Result<Outcome> {
    start(settings, Some(out))
}

/// On a thread of its own, which has drawn nothing at random yet.
fn start(settings: &SimSettings, out: Option<Box<dyn Write + Send>>) -> io::Result<Outcome> {
    let settings = settings.clone();
    let begun_us = entropy::real_us();
    entropy::begin(settings.seed);
    let thread = std::thread::Builder::new()
        .name("simulation".to_owned())
        .stack_size(STACK_BYTES)
        .spawn(move || simulate(&settings, out))?;
    let ended = thread.join();
    let mut outcome = ended.map_err(|_| io::Error::other("the simulation itself panicked"))??;
    outcome.real_ms = (entropy::real_us() - begun_us) / 1_000;
    Ok(outcome)
}

fn simulate(settings: &SimSettings, out: Option<Box<dyn Write + Send>>) -> io::Result<Outcome> {
    let decided = settings.decide();
    let trace = Trace::new(out);
    note_panics(&trace);
    if !logs::start(&trace, settings.log.as_deref()) {
        return Err(io::Error::other("this process has a log already"));
    }
    raft::inspect::keep_applied();
    storage::bugs::from_environment().map_err(io::Error::other)?;
    trace.line("run", format_args!("seed {}: {decided}", settings.seed));
    let common = Common {
        seed: settings.seed,
        durability: decided.durability,
        founders: decided.nodes,
    };
    // After a panic nothing of it is dropped in order.
    let mut core = ManuallyDrop::new(Core::new(common, &trace));
    core.start_all()?;
    let history = Recorder::new();
    let gone = AssertUnwindSafe(|| go_through(&mut core, &decided, &history));
    let harness_error = match catch_unwind(gone) {
        Ok(ended) => ended?,
        Err(_) => Some("the simulation itself panicked: see the trace".to_owned()),
    };
    let mut broken = history.events();
    let finished = history.finish();
    if let Ok(events) = &finished {
        broken.clone_from(events);
    }
    for event in &broken {
        if event.kind != Kind::Invoke || !matches!(event.op, Op::Poll { .. }) {
            trace.line("history", format_args!("{event:?}"));
        }
    }
    let violation = core.violation.take();
    let verdict = judge(&decided, &broken, violation.as_ref());
    let (trace_digest, trace_lines) = trace.digest();
    trace.finish()?;
    Ok(Outcome {
        seed: settings.seed,
        decided: decided.to_string(),
        events: broken,
        verdict,
        violation,
        harness_error: harness_error.or(finished.err().map(|error| error.to_string())),
        trace_digest,
        trace_lines,
        trace_tail: trace.tail(),
        virtual_ms: entropy::now_us() / 1_000,
        real_ms: 0,
    })
}

/// Has clients and faults do all they are to do; what went wrong with the harness itself.
fn go_through(
    core: &mut Core,
    decided: &Decided,
    history: &Recorder,
) -> io::Result<Option<String>> {
    let clients = paused_runtime()?;
    let local = LocalSet::new();
    let world = Rc::new(SimWorld::new(core));
    let (run, recorder) = (decided.run.clone(), history.clone());
    let mut driving = Box::pin(async move { drive(&*world, &run, &recorder).await });
    let ticks_max = (decided.run.duration + REST_MAX).as_millis();
    let mut done: Option<Result<(), DriveError>> = None;
    for _ in 0..ticks_max {
        core.tick(|| {
            done = clients.block_on(local.run_until(async {
                tokio::select! {
                    biased;
                    done = &mut driving => Some(done),
                    () = tokio::time::sleep(TICK) => None,
                }
            }));
        });
        if core.violation.is_some() || PANICS.load(Ordering::SeqCst) > 0 {
            return Ok(None);
        }
        if let Some(done) = done.take() {
            return Ok(done.err().map(|error| error.to_string()));
        }
    }
    Ok(Some("the run hangs".to_owned()))
}

fn judge(decided: &Decided, events: &[Event], violation: Option<&Violation>) -> Verdict {
    let has_group = decided.run.workloads.contains(&WorkloadKind::Group);
    let has_log = has_group || decided.run.workloads.contains(&WorkloadKind::Log);
    let limits = Limits {
        sends_ok_min: if has_log { 20 } else { 0 },
        polls_ok_min: if has_log { 10 } else { 0 },
        commits_ok_min: if has_group { 3 } else { 0 },
        group_rests_min: u64::from(has_group),
        ..Limits::default()
    };
    let mut verdict = check(events, &limits);
    if let Some(violation) = violation {
        let at_ms = violation.time_us / 1_000;
        let explanation = format!(
            "{} at {at_ms} ms, node {}: {}",
            violation.invariant, violation.node, violation.detail
        );
        let mut anomaly = Anomaly::new(AnomalyName::Invariant, explanation);
        anomaly.node = Some(violation.node);
        anomaly.events = events_before(events, violation.time_us);
        verdict.add(anomaly);
    }
    if PANICS.load(Ordering::SeqCst) > 0 {
        let explanation = "a panic: see the trace".to_owned();
        verdict.add(Anomaly::new(AnomalyName::Panicked, explanation));
    }
    verdict
}

/// The last event up to then and the latest faults before it, which the report marks.
fn events_before(events: &[Event], time_us: u64) -> Vec<u64> {
    let before = events.partition_point(|event| event.time_us <= time_us);
    let before = &events[..before];
    let faults = before.iter().rev();
    let faults = faults.filter(|event| matches!(event.op, Op::Fault { .. }));
    let mut found: Vec<u64> = faults.take(FAULTS_TOLD).map(|event| event.index).collect();
    found.extend(before.last().map(|event| event.index));
    found.sort_unstable();
    found.dedup();
    found
}

/// Panics are counted and become lines of the trace.
fn note_panics(trace: &Trace) {
    let trace = trace.clone();
    std::panic::set_hook(Box::new(move |panic| {
        PANICS.fetch_add(1, Ordering::SeqCst);
        let backtrace = std::backtrace::Backtrace::force_capture().to_string();
        let frames = backtrace
            .lines()
            .filter(|line| line.trim_start().starts_with("at ") && !line.contains("/rustc/"));
        let frames: Vec<&str> = frames.take(12).map(str::trim).collect();
        trace.line("panic", format_args!("{panic} {frames:?}"));
    }));
}
