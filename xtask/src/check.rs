//! `cargo xtask check`: what a machine can say about the tree without running it.
//!
//! Every step runs, also after a failed one, and is timed.
//! Tests are CI's first command, so they run here only with `--with-tests`.

use std::process::{Command, Stdio};
use std::time::Instant;

use crate::{cargo, root};

/// One step and its cargo arguments.
struct Step {
    name: &'static str,
    arguments: &'static [&'static str],
    environment: &'static [(&'static str, &'static str)],
}

const STEPS: &[Step] = &[
    Step {
        name: "formatting",
        arguments: &["fmt", "--all", "--check"],
        environment: &[],
    },
    Step {
        name: "lints",
        arguments: &[
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ],
        environment: &[],
    },
    Step {
        name: "documentation",
        arguments: &["doc", "--workspace", "--no-deps"],
        environment: &[("RUSTDOCFLAGS", "-D warnings")],
    },
];

const TESTS: Step = Step {
    name: "tests",
    arguments: &["test", "--workspace"],
    environment: &[],
};

const DENY: Step = Step {
    name: "licences",
    arguments: &["deny", "check"],
    environment: &[],
};

/// Runs the steps; true when none failed.
pub(crate) fn run(arguments: &[String]) -> Result<bool, String> {
    let with_tests = match arguments {
        [] => false,
        [flag] if flag == "--with-tests" => true,
        _ => return Err(format!("check takes only --with-tests, not {arguments:?}")),
    };
    let mut failed = Vec::new();
    let mut passed = 0;
    let mut skipped = 0;
    let tests = with_tests.then_some(&TESTS);
    for step in STEPS.iter().chain(tests) {
        if run_step(step)? {
            passed += 1;
        } else {
            failed.push(step.name);
        }
    }
    if !is_deny_installed() {
        println!("not run: licences (cargo-deny is not installed: cargo install cargo-deny)");
        skipped += 1;
    } else if run_step(&DENY)? {
        passed += 1;
    } else {
        failed.push(DENY.name);
    }
    if !failed.is_empty() {
        println!("failed: {}", failed.join(", "));
    }
    println!(
        "check: {passed} passed, {} failed, {skipped} skipped",
        failed.len()
    );
    Ok(failed.is_empty())
}

fn run_step(step: &Step) -> Result<bool, String> {
    let mut command = Command::new(cargo());
    command.args(step.arguments).current_dir(root());
    for (name, value) in step.environment {
        command.env(name, value);
    }
    println!("{}: cargo {}", step.name, step.arguments.join(" "));
    let started = Instant::now();
    let status = command
        .status()
        .map_err(|problem| format!("cannot run {}: {problem}", cargo()))?;
    let outcome = if status.success() { "passed" } else { "failed" };
    println!(
        "{outcome}: {} in {:.1} s",
        step.name,
        started.elapsed().as_secs_f64()
    );
    Ok(status.success())
}

fn is_deny_installed() -> bool {
    let mut command = Command::new(cargo());
    command
        .args(["deny", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
