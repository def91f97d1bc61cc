//! `cargo xtask jepsen`: the runs of `jepsen/` that a change has to pass, a night's worth of them,
//! or the hunt for the seeded bugs.
//!
//! Builds the `jepsen` binary, runs it, and closes with a line for each run. A run passes when it
//! ends as valid: one that proves nothing, or that the harness could not do, fails as well.

mod options;
mod steps;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::process::Owned;
use crate::{cargo, root};
use options::{Options, Set};
use steps::Step;

/// What the hunt for all seeded bugs may take.
const BUGS_LIMIT: Duration = Duration::from_secs(3 * 3600);
/// The profile that `jepsen` is built with: its assertions are checks too.
const PROFILE: &str = "jepsen";
/// Where runs are kept. Not `target/jepsen`: that is where cargo puts what [`PROFILE`] builds.
const RUNS: &str = "target/jepsen-runs";
/// Each day's seeds begin so far from those of the day before.
const SEEDS_A_DAY: u64 = 10_000_000;

/// Runs what the options ask for; true when everything passed.
pub(crate) fn run(arguments: &[String]) -> Result<bool, String> {
    let options = Options::parse(arguments)?;
    let out = options.out.clone().unwrap_or_else(|| root().join(RUNS));
    match options.set {
        Set::Bugs => bugs(&options, &out),
        Set::Ci => {
            let seed = options.seed.unwrap_or(0);
            all(&options, &[], &out, |binary, out| {
                steps::ci(binary, out, seed)
            })
        }
        Set::Nightly => {
            let seed = options.seed.unwrap_or_else(seed_of_today);
            println!("first seed: {seed}");
            let features = ["--features", "rdkafka"];
            all(&options, &features, &out, |binary, out| {
                steps::nightly(binary, out, seed)
            })
        }
    }
}

fn seed_of_today() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs() / 86_400 * SEEDS_A_DAY)
}

fn bugs(options: &Options, out: &Path) -> Result<bool, String> {
    let target = root().join("target/seeded-bugs");
    let jepsen = build_jepsen(&["--features", "seeded-bugs"], &target)?;
    let mut arguments = vec!["bugs".to_owned(), "--out".to_owned()];
    arguments.push(out.join("bugs").display().to_string());
    arguments.extend(["--time".to_owned(), steps::SEED_S.to_string()]);
    arguments.extend(
        options
            .bugs
            .iter()
            .flat_map(|bug| ["--only".to_owned(), bug.clone()]),
    );
    let step = Step {
        name: "bugs".to_owned(),
        arguments,
        limit: BUGS_LIMIT,
    };
    let (word, _) = perform(&jepsen, &step)?;
    println!("jepsen bugs: {word}");
    Ok(word == "valid")
}

fn all(
    options: &Options,
    features: &[&str],
    out: &Path,
    steps: impl FnOnce(&Path, &Path) -> Vec<Step>,
) -> Result<bool, String> {
    let target = target();
    let binary = match &options.binary {
        Some(binary) => binary.clone(),
        None => {
            build("release", &["--package", "braidlog"], &target)?;
            target.join("release/braidlog")
        }
    };
    let jepsen = build_jepsen(features, &target)?;
    let steps = steps(&binary, out);
    for step in &steps {
        remove_earlier(&out.join(&step.name))?;
    }
    let began = Instant::now();
    let mut lines = Vec::new();
    let mut has_passed = true;
    for step in steps {
        let (word, took) = perform(&jepsen, &step)?;
        has_passed &= word == "valid";
        lines.push(format!(
            "jepsen {}: {word} in {:.0} s",
            step.name,
            took.as_secs_f64()
        ));
    }
    for line in lines {
        println!("{line}");
    }
    let verdict = if has_passed { "passed" } else { "failed" };
    println!(
        "jepsen: {verdict} in {:.0} s; kept in {}",
        began.elapsed().as_secs_f64(),
        out.display()
    );
    Ok(has_passed)
}

/// Removes what an earlier call kept of a run; whatever else is beside it stays.
fn remove_earlier(kept: &Path) -> Result<(), String> {
    match std::fs::remove_dir_all(kept) {
        Err(problem) if problem.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("cannot remove {}: {problem}", kept.display()))
        }
        _ => Ok(()),
    }
}

/// Where cargo builds.
fn target() -> PathBuf {
    let named = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    root().join(named.unwrap_or_else(|| PathBuf::from("target")))
}

/// Builds `jepsen` and says where it is.
fn build_jepsen(more: &[&str], target: &Path) -> Result<PathBuf, String> {
    build(PROFILE, &[&["--package", "jepsen"], more].concat(), target)?;
    Ok(target.join(PROFILE).join("jepsen"))
}

fn build(profile: &str, what: &[&str], target: &Path) -> Result<(), String> {
    let mut command = Command::new(cargo());
    command
        .args(["build", "--profile", profile])
        .args(what)
        .arg("--target-dir")
        .arg(target)
        .current_dir(root());
    println!("building {}", what.join(" "));
    let status = command.status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("cargo build {}: {status}", what.join(" "))),
        Err(problem) => Err(format!("cannot run cargo: {problem}")),
    }
}

/// Runs a step to its end, with its output as it comes; what it came to in a word, and the time.
fn perform(jepsen: &Path, step: &Step) -> Result<(&'static str, Duration), String> {
    println!("+ jepsen {}", step.arguments.join(" "));
    let began = Instant::now();
    let mut child = Owned::spawn(
        Command::new(jepsen)
            .args(&step.arguments)
            .current_dir(root()),
    )?;
    let word = match child.wait_until(began + step.limit) {
        Ok(status) => match status.code() {
            Some(0) => "valid",
            Some(1) => "ANOMALY",
            Some(2) => "unknown",
            _ => "harness fault",
        },
        Err(_) => "out of time",
    };
    Ok((word, began.elapsed()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_not_kept_where_cargo_builds() {
        for profile in ["debug", "release", PROFILE, "seeded-bugs"] {
            assert_ne!(Path::new(RUNS), Path::new("target").join(profile));
        }
    }

    #[test]
    fn only_what_was_kept_of_the_run_is_removed() {
        let name = format!("xtask-jepsen-kept-{}", std::process::id());
        let out = std::env::temp_dir().join(name);
        std::fs::create_dir_all(out.join("log-kill")).unwrap();
        std::fs::write(out.join("log-kill/report.html"), "old").unwrap();
        std::fs::write(out.join("thesis.txt"), "mine").unwrap();
        remove_earlier(&out.join("log-kill")).unwrap();
        remove_earlier(&out.join("log-power")).unwrap();
        assert!(!out.join("log-kill").exists());
        assert!(out.join("thesis.txt").exists());
        std::fs::remove_dir_all(out).unwrap();
    }
}
