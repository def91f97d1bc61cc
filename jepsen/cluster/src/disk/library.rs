//! Where the preloaded library is.

use std::io;
use std::path::PathBuf;

const NAME: &str = "libjepsen_preload.so";

/// Says where it is, instead of where cargo puts it.
const VARIABLE: &str = "JEPSEN_PRELOAD";

/// Finds it: cargo builds it with this crate, into `deps` of the directory of the profile.
pub(super) fn find() -> io::Result<PathBuf> {
    if let Some(path) = std::env::var_os(VARIABLE) {
        return PathBuf::from(path).canonicalize();
    }
    let program = std::env::current_exe()?;
    let mut tried = Vec::new();
    for dir in program.ancestors().skip(1).take(2) {
        for path in [dir.join("deps").join(NAME), dir.join(NAME)] {
            if path.exists() {
                return path.canonicalize();
            }
            tried.push(path.display().to_string());
        }
    }
    Err(io::Error::new(
        io::ErrorKind::NotFound,
        format!(
            "the library for disk faults is not there, tried {}; `cargo build -p jepsen-preload` \
             makes it, {VARIABLE} says where else it is",
            tried.join(", ")
        ),
    ))
}
