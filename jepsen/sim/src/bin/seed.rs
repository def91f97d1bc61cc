//! Runs one seed in this process and prints what came of it.
//!
//! `entropy SEED` instead prints what is drawn at random in such a process.
#![expect(clippy::print_stdout, reason = "that is what it is for")]

use std::collections::HashSet;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let seed = arguments.last().and_then(|seed| seed.parse().ok());
    match (arguments.first().map(String::as_str), seed) {
        (Some("entropy"), Some(seed)) => {
            // A thread of its own: what this one has drawn for itself already was not simulated.
            jepsen_sim::begin(seed);
            let drawing = std::thread::spawn(entropy);
            drawing.join().map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
        }
        _ => ExitCode::FAILURE,
    }
}

/// Draws at random in every way that the nodes do.
fn entropy() {
    let set: HashSet<u32> = (0..32).collect();
    println!("{set:?}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let chosen = runtime.expect("a runtime").block_on(async {
        let mut chosen = Vec::new();
        for _ in 0..40 {
            tokio::select! {
                () = std::future::ready(()) => chosen.push(1),
                () = std::future::ready(()) => chosen.push(2),
                () = std::future::ready(()) => chosen.push(3),
            }
        }
        chosen
    });
    println!("{chosen:?}");
    println!("{:?} {:?}", rand::random::<u64>(), storage::clock::Clock::system());
}
