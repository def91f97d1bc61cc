//! The `braidlog` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    braidlog::cli::run(&storage::clock::Clock::system())
}
