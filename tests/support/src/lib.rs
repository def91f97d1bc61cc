//! What tests of whole nodes need: nodes as processes and in this process, commands, deadlines.
//!
//! Everything here panics instead of erring, since a test has nothing better to do. No fixed ports
//! (port 0, and the line that a node prints when it is ready), no sleeps without a condition, no
//! process or directory left behind.

mod cluster;
mod command;
mod deadline;
mod http;
mod load;
mod node;
mod ports;
mod process;
mod proxy;
mod replicas;
mod temp_dir;
mod witness;

pub use cluster::Cluster;
pub use command::{Finished, run};
pub use deadline::{PATIENCE, eventually, eventually_async, within};
pub use http::{Answer, request};
pub use load::{Load, Loaded};
pub use node::{env, start_node};
pub use ports::free_port;
pub use process::Process;
pub use proxy::{Cut, Proxies};
pub use replicas::{check_replicas, read_replica};
pub use rustix::process::Signal;
pub use temp_dir::TempDir;
pub use witness::{ProduceFailure, Witness, connect, create_topic, create_topic_with};
