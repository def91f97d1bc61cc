//! The arrows of the architecture, checked in manifests and sources: who may depend on whom, where
//! third-party crates live, and which files stay free of tokio and of clocks.

#![expect(
    clippy::disallowed_methods,
    reason = "a test that reads the sources from disk"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A crate of the workspace: its folder, its name, and what else of the workspace it may use.
const CRATES: &[(&str, &str, &[&str])] = &[
    ("storage", "storage", &[]),
    ("raft/net", "net", &[]),
    ("raft", "raft", &["net", "storage"]),
    (
        "broker",
        "broker",
        &["coordinator", "groups", "net", "raft", "storage"],
    ),
    ("broker/coordinator", "coordinator", &[]),
    ("broker/groups", "groups", &["coordinator"]),
    (
        "protocol-adapters/listener",
        "listener",
        &["net", "storage"],
    ),
    (
        "protocol-adapters/kafka",
        "kafka",
        &["broker", "listener", "net", "storage"],
    ),
    (
        "protocol-adapters/kafka-client",
        "kafka-client",
        &["broker", "net", "storage"],
    ),
    (
        "protocol-adapters/http",
        "http-admin",
        &["broker", "listener", "net", "storage"],
    ),
    // The load generator stands beside the adapters: it speaks to any Kafka over the wire, and of
    // the broker takes only how records are encoded.
    (
        "benches/load",
        "load",
        &["broker", "kafka-client", "storage"],
    ),
    (
        ".",
        "braidlog",
        &[
            "broker",
            "http-admin",
            "kafka",
            "kafka-client",
            "listener",
            "load",
            "net",
            "raft",
            "storage",
        ],
    ),
    ("jepsen/check", "jepsen-check", &[]),
    (
        "jepsen/workload",
        "jepsen-workload",
        &["jepsen-check", "kafka-client"],
    ),
    (
        "jepsen/cluster",
        "jepsen-cluster",
        &[
            "jepsen-check",
            "jepsen-control",
            "jepsen-preload",
            "jepsen-workload",
            "kafka-client",
        ],
    ),
    (
        "jepsen/sim",
        "jepsen-sim",
        &[
            "braidlog",
            "broker",
            "jepsen-check",
            "jepsen-workload",
            "kafka-client",
            "net",
            "raft",
            "storage",
        ],
    ),
    ("jepsen/preload/control", "jepsen-control", &[]),
    ("jepsen/preload", "jepsen-preload", &["jepsen-control"]),
    (
        "jepsen",
        "jepsen",
        &[
            "braidlog",
            "jepsen-check",
            "jepsen-cluster",
            "jepsen-sim",
            "jepsen-workload",
            "storage",
        ],
    ),
];

/// The crates that nodes are made of, which run in a simulation.
const PRODUCT: &[&str] = &[
    "storage",
    "raft",
    "broker",
    "broker/coordinator",
    "broker/groups",
    "protocol-adapters/listener",
    "protocol-adapters/kafka",
    "protocol-adapters/kafka-client",
    "protocol-adapters/http",
    ".",
];

/// What goes past the seams of simulation, and the files that are the seams (by the beginnings of
/// their paths) or serve people only.
const PAST_SEAMS: &[(&str, &[&str])] = &[
    ("tokio::net", &["src/cli/"]),
    ("spawn_blocking", &["src/cli/"]),
    ("std::net::TcpStream", &["src/cli/"]),
    ("std::net::TcpListener", &["src/cli/"]),
    ("runtime::Builder", &["src/cli/"]),
    ("thread::Builder", &["src/cli/", "storage/src/turns"]),
    ("thread::spawn", &["src/cli/"]),
    ("thread::sleep", &["src/cli/"]),
    ("thread::park", &[]),
    ("std::sync::mpsc", &["src/cli/"]),
    ("process::id", &["storage/src/turns", "src/cli/"]),
    // The simulated disk can also be slow in real time, for tests.
    ("sync::Condvar", &["storage/src/turns"]),
    (
        "sync::{Condvar",
        &["storage/src/turns", "storage/src/disk/sim/"],
    ),
    (
        "Arc, Condvar",
        &["storage/src/turns", "storage/src/disk/sim/"],
    ),
];

/// A third-party crate and the only crates that may name it.
const HOMES: &[(&str, &[&str])] = &[
    ("openraft", &["raft"]),
    ("kafka-protocol", &["kafka"]),
    ("axum", &["http-admin"]),
    ("hdrhistogram", &["load"]),
    ("memmap2", &["storage"]),
    ("socket2", &["net"]),
    ("regex", &["groups"]),
    ("crc32fast", &["storage", "jepsen-workload"]),
    ("rustls", &["raft"]),
    ("tokio-rustls", &["raft"]),
    ("clap", &["braidlog", "jepsen"]),
    ("anyhow", &["braidlog"]),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The names in the `[dependencies]` of a manifest.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    manifest
        .lines()
        .skip_while(|line| line.trim() != "[dependencies]")
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split(['=', '.', ' ']).next())
        .filter(|name| !name.is_empty() && !name.starts_with('#'))
        .map(str::to_owned)
        .collect()
}

/// Whether a path below the root begins like one of these.
fn is_below(path: &str, beginnings: &[&str]) -> bool {
    let path = path.trim_start_matches("./");
    beginnings.iter().any(|one| path.starts_with(one))
}

fn manifest_of(folder: &str) -> String {
    let path = root().join(folder).join("Cargo.toml");
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn sources_of(folder: &str) -> Vec<(PathBuf, String)> {
    let mut paths = Vec::new();
    sources(&root().join(folder).join("src"), &mut paths);
    assert!(!paths.is_empty(), "{folder} has no sources");
    paths
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).expect("a source file");
            (path, text)
        })
        .collect()
}

#[test]
fn arrows_point_down_only() {
    let ours: BTreeSet<&str> = CRATES.iter().map(|(_, name, _)| *name).collect();
    for (folder, name, allowed) in CRATES {
        for dependency in dependencies(&manifest_of(folder)) {
            let is_ours = ours.contains(dependency.as_str());
            assert!(
                !is_ours || allowed.contains(&dependency.as_str()),
                "{name} must not depend on {dependency}"
            );
        }
    }
}

#[test]
fn third_party_crates_stay_at_home() {
    for (folder, name, _) in CRATES {
        for dependency in dependencies(&manifest_of(folder)) {
            if let Some((_, homes)) = HOMES
                .iter()
                .find(|(crate_name, _)| *crate_name == dependency)
            {
                assert!(
                    homes.contains(name),
                    "{name} must not depend on {dependency}"
                );
            }
        }
    }
}

#[test]
fn storage_knows_no_tokio() {
    assert!(!dependencies(&manifest_of("storage")).contains("tokio"));
}

#[test]
fn nodes_go_through_the_seams_of_simulation() {
    for folder in PRODUCT {
        for (path, text) in sources_of(folder) {
            let relative = path.strip_prefix(root()).expect("below the root");
            let relative = relative.display().to_string();
            let is_of = |suffix| relative.ends_with(suffix);
            if is_of("tests.rs") || is_of("_test.rs") || relative.contains("/tests/") {
                continue;
            }
            let code = text.split("#[cfg(test)]\nmod tests {").next();
            for line in code.unwrap_or_default().lines() {
                let past = PAST_SEAMS
                    .iter()
                    .find(|(word, seams)| line.contains(word) && !is_below(&relative, seams));
                let is_comment = line.trim_start().starts_with("//");
                assert!(is_comment || past.is_none(), "{relative}: {line}");
            }
        }
    }
}

#[test]
fn pure_files_of_adapters_know_no_tokio_and_no_clock() {
    let mut seen = 0;
    for (path, text) in sources_of("protocol-adapters/kafka") {
        let pure = ["codec", "session", "mapping", "shape"];
        let is_pure = path
            .components()
            .filter_map(|part| Path::new(part.as_os_str()).file_stem()?.to_str())
            .any(|name| pure.contains(&name));
        if is_pure {
            seen += 1;
            for word in ["tokio", "Instant", "SystemTime", "Clock"] {
                let used = text
                    .lines()
                    .any(|line| !line.trim_start().starts_with("//") && line.contains(word));
                assert!(!used, "{} uses {word}", path.display());
            }
        }
    }
    assert!(seen >= 4, "codec, session, mapping and shape are there");
}

#[test]
fn every_member_of_the_workspace_is_known_here() {
    let manifest = manifest_of(".");
    let members = manifest
        .split("members = [")
        .nth(1)
        .and_then(|rest| rest.split(']').next());
    let tools = ["tests/support", "benches", "xtask"];
    for member in members.expect("a list of members").lines() {
        let member = member.trim().trim_matches(|c| c == '"' || c == ',');
        let known = member.is_empty()
            || tools.contains(&member)
            || CRATES.iter().any(|(folder, _, _)| *folder == member);
        assert!(known, "{member} has no place in the architecture");
    }
}

#[test]
fn unsafe_code_is_only_where_it_is_named() {
    let allowed = [
        "storage/src/disk/mmap.rs",
        "jepsen/sim/src/entropy.rs",
        "jepsen/cluster/src/isolate/sys.rs",
        "jepsen/preload/src/",
    ];
    for (folder, _, _) in CRATES {
        for (path, text) in sources_of(folder) {
            let relative = path
                .strip_prefix(root())
                .expect("below the root")
                .display()
                .to_string();
            let code = text.lines().any(|line| {
                let line = line.trim_start();
                !line.starts_with("//") && line.contains("unsafe {")
            });
            assert!(!code || is_below(&relative, &allowed), "{relative}");
        }
    }
}
