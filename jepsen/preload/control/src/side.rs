//! [`Side`]: where things are in the directory beside a node's data directory.
//!
//! ```text
//! <side>/
//!   control          see `control`
//!   names            see `log`
//!   boot_id          what the node reads as the boot of its machine
//!   platter/<file>   what is synced of a file
//!   kept/<file>      a file that lost its name, as long as a power cut may bring the name back
//!   trouble          what the library could not do; the run proves nothing then
//! ```

use std::path::{Path, PathBuf};

use crate::FileId;

/// The directory beside a node's data directory, on the same file system.
#[derive(Debug, Clone)]
pub struct Side {
    root: PathBuf,
}

impl Side {
    /// At `root`, which is absolute.
    #[must_use]
    pub fn new(root: &Path) -> Side {
        Side {
            root: root.to_owned(),
        }
    }

    /// The directory itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The control file.
    #[must_use]
    pub fn control(&self) -> PathBuf {
        self.root.join("control")
    }

    /// The log of names.
    #[must_use]
    pub fn names(&self) -> PathBuf {
        self.root.join("names")
    }

    /// What the node reads as the boot of its machine.
    #[must_use]
    pub fn boot_id(&self) -> PathBuf {
        self.root.join("boot_id")
    }

    /// What the library could not do.
    #[must_use]
    pub fn trouble(&self) -> PathBuf {
        self.root.join("trouble")
    }

    /// Where the platter's copies are.
    #[must_use]
    pub fn platter_dir(&self) -> PathBuf {
        self.root.join("platter")
    }

    /// What is synced of a file.
    #[must_use]
    pub fn platter(&self, file: FileId) -> PathBuf {
        self.platter_dir().join(file.to_string())
    }

    /// Where files without a name are.
    #[must_use]
    pub fn kept_dir(&self) -> PathBuf {
        self.root.join("kept")
    }

    /// A file without a name.
    #[must_use]
    pub fn kept(&self, file: FileId) -> PathBuf {
        self.kept_dir().join(file.to_string())
    }

    /// Where a data directory is put together after a power cut.
    #[must_use]
    pub fn rebuilt(&self) -> PathBuf {
        self.root.join("rebuilt")
    }

    /// Where the data directory of before the power cut goes until it is removed.
    #[must_use]
    pub fn before(&self) -> PathBuf {
        self.root.join("before")
    }
}
