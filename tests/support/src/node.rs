//! A node within the process of the test: on a real disk, or a simulated one that can fail.

use std::path::Path;

use braidlog::config::Config;
use braidlog::node::Node;
use broker::Env;
use storage::clock::Clock;
use storage::disk::Disk;

use crate::process::FREE_PORTS;

/// An environment on this disk, with the machine's clock. The same `seed` makes the same ids.
#[must_use]
pub fn env(disk: Disk, seed: u64) -> Env {
    Env {
        clock: Clock::system(),
        disk,
        seed: [seed, 1, 2, 3],
    }
}

/// Starts a node on free ports. `settings` are `key=value`, as for `--set`.
///
/// # Panics
///
/// When it does not start.
pub async fn start_node(data_dir: &Path, env: Env, settings: &[&str]) -> Node {
    let mut assignments: Vec<String> = FREE_PORTS.map(str::to_owned).to_vec();
    assignments.extend(settings.iter().map(|setting| (*setting).to_owned()));
    let mut config = Config::read("", &assignments).expect("the settings exist");
    config.data_dir = data_dir.to_owned();
    config.validate().expect("the settings can be");
    crate::within("a node to start", Node::start(config, env))
        .await
        .expect("the node starts")
}
