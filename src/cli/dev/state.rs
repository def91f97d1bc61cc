//! `dev.json`: which process is which node. Written by the process that runs them, whole each time.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use storage::disk::Disk;

use super::super::failure::{Failure, Kind};
use super::super::processes::Process;

/// What runs in a directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    /// The process that runs the nodes.
    pub(super) supervisor: Process,
    /// By id.
    pub(super) nodes: Vec<NodeState>,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NodeState {
    pub(super) id: u32,
    /// Its process; the last one when it has ended.
    pub(super) process: Option<Process>,
    /// Whether it has said that it is ready.
    pub(super) is_ready: bool,
    pub(super) kafka: String,
    pub(super) http: String,
    pub(super) log: PathBuf,
}

/// Where a state stands.
pub(super) fn state_file(directory: &Path) -> PathBuf {
    directory.join("dev.json")
}

/// Where commands leave what they ask of the process that runs the nodes.
pub(super) fn requests(directory: &Path) -> PathBuf {
    directory.join("requests")
}

impl State {
    /// What was written last, whether it still runs or not.
    pub(super) fn read(directory: &Path) -> Result<Option<State>, Failure> {
        let path = state_file(directory);
        let bytes = match Disk::Real.read_file(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                let reason = format!("cannot read {}: {error}", path.display());
                return Err(Failure::new(Kind::Failed, reason));
            }
        };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| {
            let reason = format!("{} is damaged: {error}", path.display());
            Failure::new(Kind::Failed, reason).help("stop its nodes and delete the file")
        })
    }

    /// What runs there now.
    pub(super) fn running(directory: &Path) -> Result<State, Failure> {
        let state = State::read(directory)?.filter(|state| state.supervisor.is_alive());
        state.ok_or_else(|| {
            let reason = format!("no `braidlog dev` runs in {}", directory.display());
            Failure::new(Kind::NotFound, reason)
                .help("start one with `braidlog dev -n 3`, or name its directory with --dir")
        })
    }

    pub(super) fn write(&self, directory: &Path) -> Result<(), Failure> {
        let bytes = serde_json::to_vec_pretty(self).expect("plain data");
        let path = state_file(directory);
        Disk::Real
            .write_file_atomic(&path, &bytes)
            .map_err(|error| {
                let reason = format!("cannot write {}: {error}", path.display());
                Failure::new(Kind::Failed, reason)
            })
    }

    pub(super) fn node(&self, id: u32) -> Result<&NodeState, Failure> {
        self.nodes.iter().find(|node| node.id == id).ok_or_else(|| {
            let count = self.nodes.len();
            let reason = format!("there is no node {id}, only 1 to {count}");
            Failure::new(Kind::NotFound, reason)
        })
    }
}
