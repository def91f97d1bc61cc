//! What can go wrong with the journal, by what the caller can do about it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An error of the journal. Cheap to clone, since one failure answers many callers.
#[derive(Debug, Clone, thiserror::Error)]
pub enum JournalError {
    /// Bytes that were durable are damaged or missing. Nothing was cut or changed; the node must
    /// not vote on what it has and is to be refilled from its peers.
    #[error("{} is damaged at byte {position}: expected {expected}, found {found}", file.display())]
    Corrupt {
        /// The damaged file.
        file: PathBuf,
        /// Where in it, bytes from its start.
        position: u64,
        /// What should be there.
        expected: String,
        /// What is there.
        found: String,
    },
    /// The journal was written by a newer version.
    #[error("{} needs a newer version: {what} {number} is not known", file.display())]
    Unsupported {
        /// The file.
        file: PathBuf,
        /// What is not known, such as `format version` or `frame kind`.
        what: &'static str,
        /// Its number.
        number: u32,
    },
    /// The operating system refused. After a failed write or sync the journal stays failed: open
    /// it again, which reads back from the disk what is really there.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// Why it was refused.
        source: Arc<io::Error>,
    },
    /// The flusher thread died of a panic, in itself or in a callback.
    #[error("the journal's flusher thread has died")]
    FlusherDied,
    /// [`super::Journal::close`] has been called.
    #[error("the journal is closed")]
    Closed,
}

impl JournalError {
    /// An [`JournalError::Io`] of `path`, for `map_err`.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> JournalError {
        move |source| JournalError::Io {
            action,
            path: path.to_owned(),
            source: Arc::new(source),
        }
    }
}
