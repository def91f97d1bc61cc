//! `start` and `config show`.

use test_support::{Process, Signal, TempDir, eventually};

use crate::{BINARY, Cluster, run};

#[test]
fn the_ready_line_says_where_and_how_long() {
    let cluster = Cluster::start_with(&["--node-id", "7"]);
    let ready = cluster.node.ready();
    assert_eq!(ready["node_id"], 7);
    assert_eq!(ready["pid"], cluster.node.id());
    assert_eq!(ready["cluster_id"].as_str().unwrap().len(), 22);
    for listener in ["kafka", "http", "peers"] {
        assert!(ready[listener].as_str().unwrap().starts_with("127.0.0.1:"));
    }
    assert!(ready["ready_ms"].as_i64().unwrap() > 0);
}

#[test]
fn a_signal_ends_a_node_in_good_order() {
    for signal in [Signal::TERM, Signal::INT] {
        let cluster = Cluster::start();
        cluster.node.signal(signal);
        let (status, log) = cluster.node.wait();
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(log.contains("stopped"), "{log}");
    }
}

#[test]
fn acknowledged_records_survive_a_kill_and_a_stop() {
    let Cluster { node, directory } = Cluster::start();
    let data = directory.join("data");
    let cluster = Cluster { node, directory };
    cluster.ok(&["topic", "create", "orders"]);
    cluster.ok(&["produce", "orders", "before the kill"]);
    cluster.node.kill();

    let node = Process::start(BINARY, &data, &[]);
    let cluster = Cluster {
        node,
        directory: cluster.directory,
    };
    cluster.ok(&["produce", "orders", "before the stop"]);
    assert_eq!(cluster.node.terminate().code(), Some(0));

    let node = Process::start(BINARY, &data, &[]);
    let cluster = Cluster {
        node,
        directory: cluster.directory,
    };
    assert_eq!(
        cluster.values("orders"),
        ["before the kill", "before the stop"]
    );
    assert!(cluster.directory.path().is_dir());
}

#[test]
fn a_data_directory_in_use_is_a_conflict_that_names_the_process() {
    let cluster = Cluster::start();
    let data = cluster.directory.join("data");
    let error = run(&[
        "start",
        "--data-dir",
        data.to_str().unwrap(),
        "--set",
        "kafka.port=0",
    ])
    .failed(7);
    assert!(
        error.contains(&format!("in use by pid {}", cluster.node.id())),
        "{error}"
    );
    assert!(error.contains("help: "), "{error}");
}

#[test]
fn a_port_in_use_is_a_conflict_that_names_the_process() {
    let cluster = Cluster::start();
    let ready = cluster.node.ready();
    let other = TempDir::new();
    for listener in ["kafka", "http", "peers"] {
        let address = ready[listener].as_str().unwrap();
        let port = address.rsplit_once(':').unwrap().1;
        let settings = ["kafka", "http", "peers"].map(|name| {
            let port = if name == listener { port } else { "0" };
            format!("{name}.port={port}")
        });
        let mut all = vec!["start", "--data-dir", other.path().to_str().unwrap()];
        all.extend(settings.iter().flat_map(|setting| ["--set", setting]));
        let error = run(&all).failed(7);
        assert!(
            error.contains(&format!("port {port} on 127.0.0.1 is in use")),
            "{error}"
        );
        assert!(
            error.contains(&format!("pid {} (braidlog)", cluster.node.id())),
            "{error}"
        );
        assert!(error.contains("--port-offset 100"), "{error}");
    }
}

#[test]
fn another_nodes_data_is_refused() {
    let cluster = Cluster::start();
    let data = cluster.directory.join("data");
    assert_eq!(cluster.node.terminate().code(), Some(0));
    let data = data.to_str().unwrap();
    let error = run(&[
        "start",
        "--data-dir",
        data,
        "--node-id",
        "2",
        "--set",
        "kafka.port=0",
        "--set",
        "http.port=0",
        "--set",
        "peers.port=0",
    ])
    .failed(1);
    assert!(error.contains("belongs to node 1"), "{error}");
}

#[test]
fn a_wrong_configuration_is_a_usage_error_that_names_the_key() {
    for (arguments, named) in [
        (&["--set", "kafka.prot=1"][..], "prot"),
        (&["--set", "kafka.port"], "kafka.port"),
        (&["--set", "topics.partitions=0"], "topics.partitions"),
        (&["--host", "0.0.0.0"], "kafka.advertised_host"),
        (&["--set", "log=info,,=x=y"], "log"),
        (&["--seeds", "a:b"], "seeds"),
        (&["--seeds", "127.0.0.1:9094,/x"], "seeds"),
        (&["--set", "peers.tls_key=/x"], "peers.tls_certificate"),
        (
            &["--set", "peers.heartbeat=1m"],
            "peers.election_timeout_min",
        ),
    ] {
        let all: Vec<&str> = ["start", "--data-dir", "/nonexistent/x"]
            .iter()
            .chain(arguments)
            .copied()
            .collect();
        let error = run(&all).failed(2);
        assert!(error.contains(named), "{error}");
    }
}

#[test]
fn the_shown_configuration_starts_the_same_node() {
    let directory = TempDir::new();
    let shown = run(&[
        "config",
        "show",
        "--set",
        "topics.partitions=5",
        "--set",
        "kafka.port=0",
        "--set",
        "http.port=0",
        "--set",
        "peers.port=0",
    ])
    .ok();
    let file = directory.join("braidlog.toml");
    storage::disk::Disk::Real
        .write_file_atomic(&file, shown.as_bytes())
        .unwrap();
    let again = run(&["config", "show", "--config", file.to_str().unwrap()]).ok();
    assert_eq!(again, shown);

    let node = Process::start(
        BINARY,
        &directory.join("data"),
        &["--config", file.to_str().unwrap()],
    );
    let cluster = Cluster { node, directory };
    let created = cluster
        .run(&["topic", "create", "orders", "-o", "json"])
        .json();
    assert_eq!(created["partitions"], 5);
    run(&["config", "show", "--config", "/nonexistent/file"]).failed(5);
}

#[test]
fn a_node_that_waits_for_its_seeds_says_so_and_stops_at_once() {
    let directory = TempDir::new();
    // Nobody listens there: port 9 is the old discard service.
    let node = Process::spawn(
        BINARY,
        &directory.join("data"),
        &["--seeds", "127.0.0.1:9", "--set", "http.port=0"],
    );
    eventually("the node to say what it waits for", || {
        node.log().contains("127.0.0.1:9").then_some(())
    });
    let clock = storage::clock::Clock::system();
    node.signal(Signal::TERM);
    let (status, log) = node.wait();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(
        log.contains("stopped by SIGTERM before it was ready"),
        "{log}"
    );
    assert!(clock.monotonic_ms() < 2_000, "it took long to stop");
}

#[test]
fn a_second_signal_ends_a_slow_stop_at_once() {
    // A consumer that waits for records keeps the first stop busy as long as the node allows.
    let cluster = Cluster::start_with(&["--set", "kafka.shutdown_max=25s"]);
    cluster.ok(&["topic", "create", "orders"]);
    cluster.node.signal(Signal::TERM);
    eventually("the node to heed the first signal", || {
        cluster.node.log().contains("shutting down").then_some(())
    });
    // The node may have been quicker than the second signal: then it ended well.
    let id = i32::try_from(cluster.node.id()).unwrap();
    let _ = rustix_kill(id);
    let (status, log) = cluster.node.wait();
    assert!(matches!(status.code(), Some(0 | 130)), "{status}: {log}");
}

/// Signals a process that may be gone already.
fn rustix_kill(id: i32) -> std::io::Result<std::process::ExitStatus> {
    std::process::Command::new("kill")
        .arg("-TERM")
        .arg(id.to_string())
        .status()
}
