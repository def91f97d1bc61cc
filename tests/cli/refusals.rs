//! What every command has in common: `-o`, exit codes, refusing quickly.

use std::time::Duration;

use crate::run;

/// One of each command that talks to a node.
const CLIENTS: &[&[&str]] = &[
    &["topic", "create", "orders"],
    &["topic", "list"],
    &["topic", "describe", "orders"],
    &["topic", "alter", "orders", "--set", "retention.ms=1"],
    &["topic", "delete", "orders"],
    &["topic", "trim", "orders", "--before", "end"],
    &["topic", "add-partitions", "orders", "2"],
    &["config", "list", "topic/orders"],
    &["config", "describe", "broker/1"],
    &["config", "set", "topic/orders", "retention.ms=1"],
    &["config", "unset", "topic/orders", "retention.ms"],
    &["group", "list"],
    &["group", "describe", "readers"],
    &["group", "seek", "readers", "--to", "end"],
    &["group", "delete", "readers"],
    &["produce", "orders", "x"],
    &["bench", "produce"],
    &["bench", "consume"],
    &["bench", "e2e"],
    &["bench", "raw"],
    &["consume", "orders", "-n", "1"],
    &["consume", "orders", "-n", "1", "--group", "g"],
];

/// An address on which nothing listens.
fn nowhere() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

#[test]
fn nothing_listening_is_said_at_once_by_every_client_command() {
    let server = nowhere();
    for client in CLIENTS {
        let mut arguments = client.to_vec();
        arguments.extend(["--server", &server]);
        // The machine may be busy with other tests: one quick run of a few is proof.
        let quickest = (0..5).map(|_| {
            let finished = run(&arguments);
            let elapsed = finished.elapsed;
            let error = finished.failed(3);
            assert!(
                error.contains(&format!("nothing answers at {server}")),
                "{error}"
            );
            assert!(error.contains("braidlog start"), "{error}");
            elapsed
        });
        let quickest = quickest.min().unwrap();
        assert!(
            quickest < Duration::from_millis(200),
            "{client:?} took {quickest:?}"
        );
    }
}

#[test]
fn errors_are_json_when_asked_for() {
    let server = nowhere();
    let error = run(&["topic", "list", "-o", "json", "--server", &server]).failed(3);
    let error: serde_json::Value = serde_json::from_str(&error).unwrap();
    assert_eq!(error["error"]["kind"], "unreachable");
    assert_eq!(error["error"]["exit_code"], 3);
    assert!(
        error["error"]["help"]
            .as_str()
            .unwrap()
            .contains("braidlog start")
    );
}

#[test]
fn a_silent_server_runs_into_the_timeout() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let server = silent.local_addr().unwrap().to_string();
    let error = run(&["topic", "list", "--server", &server, "--timeout", "50ms"]).failed(6);
    assert!(
        error.contains("50 ms") && error.contains("--timeout"),
        "{error}"
    );
}

#[test]
fn a_server_of_another_protocol_is_told_apart() {
    use std::io::Write;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let server = listener.local_addr().unwrap().to_string();
    let answers = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .unwrap();
    });
    let finished = run(&["topic", "list", "--server", &server]);
    assert!(matches!(finished.code, 1 | 3), "{finished:?}");
    answers.join().unwrap();
}

#[test]
fn wrong_arguments_are_usage_errors() {
    for arguments in [
        &["no-such-command"][..],
        &["topic"],
        &["topic", "create"],
        &["produce"],
        &["consume", "orders", "-o", "yaml"],
        &["config", "list", "orders"],
        &["config", "list", "broker/one"],
        &["config", "set", "topic/orders"],
        &["config", "set", "topic/orders", "retention.ms"],
        &["config", "unset", "topic/orders"],
        &["group", "describe"],
        &["group", "seek", "readers"],
        &["group", "seek", "readers", "--to", "end", "--by", "1"],
        &["group", "seek", "readers", "--to", "yesterday"],
        &[
            "group",
            "seek",
            "readers",
            "--to",
            "end",
            "--partition",
            "0",
        ],
        &["group", "delete"],
        &["topic", "list", "--timeout", "5"],
    ] {
        run(arguments).failed(2);
    }
    assert!(run(&["--help"]).ok().contains("Exit codes"));
    assert!(run(&["--version"]).ok().starts_with("braidlog "));
}

#[test]
fn every_command_has_an_output_format_and_says_what_it_does() {
    fn walk(command: &clap::Command, path: &str) -> usize {
        let mut leaves = 0;
        for sub in command.get_subcommands() {
            let path = format!("{path} {}", sub.get_name());
            assert!(
                sub.get_about().is_some(),
                "{path} does not say what it does"
            );
            leaves += walk(sub, &path);
        }
        if leaves == 0 {
            let formats = command
                .get_arguments()
                .any(|argument| argument.get_id() == "output");
            assert!(formats, "{path} has no --output");
            leaves = 1;
        }
        leaves
    }
    let mut command = braidlog::cli::command();
    command.build();
    assert_eq!(walk(&command, "braidlog"), 40);
}
