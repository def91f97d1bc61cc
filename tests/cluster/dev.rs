//! `braidlog dev`: three nodes on this machine, handled from another terminal.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use storage::disk::Disk;
use test_support::{Finished, TempDir, eventually};

use crate::{BINARY, run};

/// A running `braidlog dev`. Killed, with its nodes, when dropped.
struct Dev {
    child: Child,
    directory: TempDir,
    offset: u16,
}

impl Drop for Dev {
    fn drop(&mut self) {
        // Both fail only when it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An offset at which every port of three nodes is free.
fn free_offset() -> u16 {
    let is_free = |offset: u16| {
        [0, 100, 200].iter().all(|step| {
            [9092, 9094, 8080]
                .iter()
                .all(|port| TcpListener::bind(("127.0.0.1", port + offset + step)).is_ok())
        })
    };
    let begin = u16::try_from(std::process::id() % 100).unwrap();
    let mut offsets = (0..100).map(|n| 5_000 + 150 * ((begin + n) % 100));
    offsets.find(|offset| is_free(*offset)).unwrap()
}

impl Dev {
    fn start() -> Dev {
        let directory = TempDir::new();
        let offset = free_offset();
        let child = Command::new(BINARY)
            .args(["dev", "-n", "3", "-o", "json", "--dir"])
            .arg(directory.join("dev"))
            .args(["--port-offset", &offset.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let mut dev = Dev {
            child,
            directory,
            offset,
        };
        eventually("three nodes to run", || {
            if let Some(status) = dev.child.try_wait().unwrap() {
                panic!("it ended with {status}");
            }
            let running = dev.status()?;
            running
                .iter()
                .all(|node| node["state"] == "running")
                .then_some(())
        });
        dev
    }

    fn run(&self, arguments: &[&str]) -> Finished {
        let directory = self.directory.join("dev");
        let mut all = vec!["dev"];
        all.extend(arguments);
        all.extend(["--dir", directory.to_str().unwrap()]);
        run(&all)
    }

    fn status(&self) -> Option<Vec<Value>> {
        let finished = self.run(&["status", "-o", "json"]);
        (finished.code == 0).then(|| finished.json().as_array().unwrap().clone())
    }

    fn state(&self, node: usize) -> Value {
        self.status().unwrap()[node - 1]["state"].clone()
    }

    fn cluster(&self, arguments: &[&str]) -> Finished {
        let offset = self.offset.to_string();
        let mut all = vec!["cluster"];
        all.extend(arguments);
        all.extend(["--port-offset", &offset]);
        run(&all)
    }
}

fn is_alive(pid: u64) -> bool {
    let stat = format!("/proc/{pid}/stat");
    // A zombie is gone: nobody but its parent can still see it.
    Disk::Real
        .open(stat.as_ref(), storage::disk::OpenMode::Read)
        .and_then(|file| {
            let mut text = [0; 512];
            let count = file.read_at(&mut text, 0)?;
            Ok(!String::from_utf8_lossy(&text[..count]).contains(") Z "))
        })
        .unwrap_or(false)
}

#[test]
fn nodes_are_killed_paused_and_restarted_from_another_terminal() {
    let mut dev = Dev::start();
    dev.cluster(&["wait", "--nodes", "3", "--healthy"]).ok();
    dev.run(&["kill", "2"]).ok();
    assert_eq!(dev.state(2), "ended");
    dev.run(&["kill", "2"]).failed(5);
    dev.run(&["kill", "7"]).failed(5);
    dev.run(&["restart", "2"]).ok();
    assert_eq!(dev.state(2), "running");
    dev.run(&["pause", "3"]).ok();
    assert_eq!(dev.state(3), "paused");
    dev.run(&["resume", "3"]).ok();
    assert_eq!(dev.state(3), "running");
    let before = dev.status().unwrap()[0]["pid"].clone();
    dev.run(&["restart", "1"]).ok();
    assert_ne!(dev.status().unwrap()[0]["pid"], before);
    dev.cluster(&["wait", "--nodes", "3", "--healthy"]).ok();

    let again = dev.run(&["-n", "3"]).failed(7);
    assert!(again.contains("already"), "{again}");
    dev.run(&["stop"]).ok();
    assert!(dev.child.wait().unwrap().success());
    dev.run(&["status"]).failed(5);
}

#[test]
fn nodes_end_with_the_process_that_runs_them() {
    let mut dev = Dev::start();
    let nodes = dev.status().unwrap();
    dev.child.kill().unwrap();
    dev.child.wait().unwrap();
    for node in nodes {
        let pid = node["pid"].as_u64().unwrap();
        eventually("the node to end with its parent", || {
            (!is_alive(pid)).then_some(())
        });
    }
}
