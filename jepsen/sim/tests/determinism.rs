//! A seed is a run: what is drawn at random and what happens follow from it, in every process.

use std::process::{Child, Command, Stdio};

/// Starts a process that simulates.
fn start(arguments: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_jepsen-sim-seed"));
    let command = command.args(arguments).stdout(Stdio::piped());
    command.spawn().expect("the binary starts")
}

fn printed(child: Child) -> String {
    let output = child.wait_with_output().expect("it ends");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn what_std_tokio_and_rand_draw_follows_from_the_seed() {
    let [first, again, other] = ["7", "7", "8"]
        .map(|seed| start(&["entropy", seed]))
        .map(printed);
    assert!(!first.is_empty());
    assert_eq!(first, again);
    let differs = |(one, another)| one != another;
    assert!(first.lines().zip(other.lines()).take(2).all(differs));
}

/// Identity and length of a run's trace, as printed.
fn trace(child: Child) -> (String, String) {
    let text = printed(child);
    let line = text
        .lines()
        .find(|line| line.contains(" lines of trace "))
        .expect(&text);
    let (before, after) = line.split_once(" lines of trace ").expect(&text);
    let length = before.rsplit(' ').next().expect("a number").to_owned();
    (
        length,
        after.split(',').next().expect("a digest").to_owned(),
    )
}

#[test]
fn the_same_seed_gives_the_same_trace_byte_by_byte() {
    let run = |seed| {
        start(&[
            seed,
            "--nemesis",
            "kill,partition",
            "--nodes",
            "3",
            "--time-ms",
            "3000",
        ])
    };
    let [first, again] = [run("11"), run("11")].map(trace);
    assert!(
        first.0.parse::<u64>().is_ok_and(|lines| lines > 1_000),
        "{first:?}"
    );
    assert_eq!(first, again);
    assert_ne!(first, trace(run("12")));
}
