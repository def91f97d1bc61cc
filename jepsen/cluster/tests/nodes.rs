//! Processes, their signals, ends and restarts, with a program that only pretends to be a node.

#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests of what works on real processes and files"
)]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jepsen_cluster::{ClusterError, ClusterSettings, Isolate, Problem, ProblemKind, run};
use jepsen_workload::World;
use jepsen_workload::fault::Fault;
use jepsen_workload::plan::Kind;

/// Is gone, with all that is in it, when the test is over.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        let path = format!("jepsen-cluster-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(path);
        std::fs::create_dir_all(&path).unwrap();
        Directory(path)
    }

    fn settings(&self, program: &str) -> ClusterSettings {
        let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pretend");
        ClusterSettings {
            binary: programs.join(program),
            nodes: 2,
            clients: 2,
            out: self.0.join("out"),
            isolate: Isolate::Loopback,
            seed: 1,
            kinds: vec![Kind::Kill, Kind::Pause],
            set: vec!["storage.shards={node}".to_owned()],
            env: vec![("PRETEND".to_owned(), "yes".to_owned())],
        }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn log(out: &Path, node: u32) -> String {
    std::fs::read_to_string(out.join(format!("nodes/{node}/log"))).unwrap()
}

/// The number of the process in `node 1: process 77 is gone`.
fn pid(seen: &str) -> u32 {
    let after = seen.split_once("process ").unwrap().1;
    after.split(' ').next().unwrap().parse().unwrap()
}

fn is_there(pid: u32) -> bool {
    // A zombie is gone for all that matters.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

async fn eventually(is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(60));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn nodes_are_killed_paused_and_started_again_and_gone_at_the_end() {
    let directory = Directory::new("kill");
    let settings = directory.settings("node.sh");
    let ran = run(&settings, async |world| {
        assert_eq!(world.nodes(), [1, 2]);
        assert_eq!(world.kafka_addresses(1).len(), 2);
        assert_eq!(world.resources().len(), 2);
        let both = Fault::Kill(vec![1, 2]);
        let killed = pid(&world.begin(&both).await.unwrap());
        assert!(!is_there(killed));
        assert!(world.resources().is_empty());
        world.end(&both).await.unwrap();
        assert_eq!(world.resources().len(), 2);
        let pause = Fault::Pause(vec![2]);
        let paused = world.begin(&pause).await.unwrap();
        assert!(paused.contains("is in state T"), "{paused}");
        // Who is stopped can be killed all the same, and is not stopped any more.
        let kill = Fault::Kill(vec![2]);
        world.begin(&kill).await.unwrap();
        world.end(&kill).await.unwrap();
        let seen = world.end(&pause).await.unwrap();
        assert!(seen.contains("not stopped"), "{seen}");
        pid(&world.begin(&Fault::Pause(vec![1])).await.unwrap())
    });
    let (last, aftermath) = ran.unwrap();
    assert_eq!(aftermath.problems, []);
    assert!(!is_there(last));
    let log = log(&settings.out, 2);
    assert!(log.contains("--set storage.shards=2"), "{log}");
    assert!(log.contains("environment yes"), "{log}");
    assert!(log.contains("--- start 3 of node 2"), "{log}");
}

#[test]
fn healing_starts_who_is_down_and_lets_go_on_who_is_stopped() {
    let directory = Directory::new("heal");
    let settings = directory.settings("node.sh");
    let ran = run(&settings, async |world| {
        world.begin(&Fault::Kill(vec![1])).await.unwrap();
        world.begin(&Fault::Pause(vec![2])).await.unwrap();
        world.heal().await.unwrap();
        assert_eq!(world.resources().len(), 2);
        let seen = world.end(&Fault::Pause(vec![2])).await.unwrap();
        assert!(seen.contains("not stopped"), "{seen}");
    });
    assert_eq!(ran.unwrap().1.problems, []);
}

#[test]
fn a_node_that_ends_by_itself_or_panics_is_reported_and_started_again() {
    let directory = Directory::new("ends");
    let settings = directory.settings("troubled.sh");
    let out = settings.out.clone();
    let ran = run(&settings, async |world| {
        eventually(|| world.problems().len() >= 3 && log(&out, 1).contains("--- start 2")).await;
    });
    let problems = ran.unwrap().1.problems;
    let is_there = |node, kind, text: &str| {
        let is_it = |p: &Problem| p.node == node && p.kind == kind && p.text.contains(text);
        assert!(problems.iter().any(is_it), "{problems:?}");
    };
    is_there(1, ProblemKind::Exited, "code 3");
    is_there(1, ProblemKind::Panicked, "src/main.rs:1:1");
    is_there(2, ProblemKind::ErrorLine, "it burns");
}

#[test]
fn a_program_that_is_no_node_is_an_error_of_the_harness() {
    let directory = Directory::new("none");
    let settings = directory.settings("broken.sh");
    let ran = run(&settings, async |_| ());
    let Err(ClusterError::NotReady { seen, .. }) = ran else {
        panic!("{ran:?}");
    };
    assert!(seen.contains("code 2"), "{seen}");
    assert!(seen.contains("no such thing"), "{seen}");
}

#[test]
fn when_the_run_panics_its_nodes_are_gone() {
    let directory = Directory::new("panic");
    let settings = directory.settings("node.sh");
    let (sender, pids) = std::sync::mpsc::channel();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        run(&settings, async |world| {
            let paused = world.begin(&Fault::Pause(vec![1])).await.unwrap();
            sender.send(pid(&paused)).unwrap();
            panic!("on purpose");
        })
        .map(|((), _)| ())
    }));
    assert!(panicked.is_err());
    assert!(!is_there(pids.recv().unwrap()));
}
