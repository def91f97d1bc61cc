//! What can go wrong in the harness itself.

use std::io;
use std::path::{Path, PathBuf};

use jepsen_workload::fault::NodeId;

/// The harness could not do what it should. It says nothing about what it tests.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The nodes could not be isolated.
    #[error("the nodes cannot be isolated: {0}")]
    Isolate(#[source] io::Error),
    /// A file or a directory of the run.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A node's process.
    #[error("node {node}: {source}")]
    Process {
        /// Which node.
        node: NodeId,
        /// Why.
        source: io::Error,
    },
    /// Nodes did not become one healthy cluster before anything was broken.
    #[error("the nodes did not become one healthy cluster within {within_s} s: {seen}")]
    NotReady {
        /// How long was waited.
        within_s: u64,
        /// What was seen last.
        seen: String,
    },
    /// A fault could not be made, or its effect was not seen.
    #[error("{0}")]
    Fault(String),
    /// The runtime could not be made, or its thread not started.
    #[error("the harness cannot run: {0}")]
    Runtime(#[source] io::Error),
    /// Somebody stopped the run.
    #[error("the run was interrupted")]
    Interrupted,
}

impl ClusterError {
    pub(crate) fn file(path: &Path) -> impl FnOnce(io::Error) -> ClusterError {
        let path = path.to_owned();
        move |source| ClusterError::File { path, source }
    }

    pub(crate) fn process(node: NodeId) -> impl FnOnce(io::Error) -> ClusterError {
        move |source| ClusterError::Process { node, source }
    }
}
