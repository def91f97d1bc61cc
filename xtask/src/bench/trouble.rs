//! Why there is no figure.

use std::fmt;

/// Why something was not measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// It cannot be had here.
    NotRun(String),
    /// It was begun, and what came of it is worth nothing.
    Failed(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::NotRun(why) => write!(f, "not run: {why}"),
            Trouble::Failed(why) => write!(f, "FAILED: {why}"),
        }
    }
}
