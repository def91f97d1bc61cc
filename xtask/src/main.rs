//! Developer tasks: `cargo xtask check`, `cargo xtask interop`, `cargo xtask jepsen` and
//! `cargo xtask bench`.
//!
//! Depends on nothing but std, so that it builds in seconds on a fresh machine and can report on
//! a tree whose crates do not build.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a build tool works on real files and real time; the seams are the product's"
)]
#![expect(clippy::print_stdout, reason = "its output is what it is for")]

mod bench;
mod check;
mod interop;
mod jepsen;
mod process;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  check [--with-tests]      formatting, lints, documentation, licences; tests when asked
  interop [OPTIONS]         install real Kafka clients and run them against a node
      --quick               32 MiB of records instead of 1 GiB, fewer words, readers and faults,
                            groups of the classic protocol only
      --all                 every client, against one node and then against three, and groups of
                            both protocols, also with --quick
      --matrix PATH         write what came of it as a page (docs/compatibility.md)
      --nodes COUNT         a cluster of so many nodes, some of which are killed, paused and cut
                            off while clients send (default: 1)
      --faults              nothing but that
      --groups              nothing but consumer groups
      --crowd               nothing but 200 members of a group while members and nodes come and go
      --protocol NAME       the crowd in that protocol alone: classic or consumer
      --only CLIENT         one of kcat, confluent-kafka, java, kafkajs, rdkafka, franz-go, sarama,
                            kafka-go, kafka-python, aiokafka, kafka-tools, connect, spark (may
                            be repeated)
      --bin PATH            the braidlog binary (default: build it with --release)
      --bootstrap HOST:PORT a broker that runs already, instead of starting a node
      --peer kafka          start Apache Kafka instead of a node, to check the drivers themselves
  jepsen [OPTIONS]          break clusters and say whether a promise was broken: 200 simulated
                            seeds and three clusters of real processes (see jepsen/README.md)
      --nightly             three quarters of an hour: thousands of seeds, every workload under every nemesis
      --bugs                show that the checks find every bug that is put in on purpose
      --only NAME           this seeded bug alone (may be repeated)
      --bin PATH            the braidlog binary (default: build it with --release)
      --seed NUMBER         the first seed (default: 0; nightly: of today)
      --out DIR             where runs are kept (default: target/jepsen-runs)
  bench [OPTIONS]           Braidlog beside Apache Kafka, NATS and Redis, and the limits of this
                            machine, in interleaved rounds (see docs/benchmarks.md)
      --list                tell which rows there are
      --only ROW            this row alone (may be repeated)
      --rounds COUNT        rounds of each row (default: 5)
      --quick               two short rounds: whether everything works, not how fast
      --page PATH           write the results into a page, between its marks
      --bin PATH            the braidlog binary (default: build it with --release)
      --tools PATH          the binary of the crate benches (default: build it with --release)
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (command, rest) = match arguments.split_first() {
        Some((command, rest)) => (command.as_str(), rest),
        None => ("help", &[][..]),
    };
    let passed = match command {
        "check" => check::run(rest),
        "interop" => interop::run(rest),
        "jepsen" => jepsen::run(rest),
        "bench" => bench::run(rest),
        "help" | "--help" | "-h" => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        other => Err(format!("no such command: {other}")),
    };
    match passed {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("error: {problem}\n\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

/// The workspace's root folder.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent()
        .expect("xtask is a folder of the workspace")
        .to_path_buf()
}

/// The cargo that runs us, or the one on the path.
fn cargo() -> String {
    std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned())
}
