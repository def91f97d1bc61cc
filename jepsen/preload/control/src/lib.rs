//! What the preloaded library and the harness share: the control file, and what a disk holds when
//! power goes.
//!
//! The library keeps, beside a node's data directory, a log of the names that were made, changed and
//! removed ([`log`]), and for each file a copy of what was synced, the *platter*. When power is cut,
//! [`crash`] puts the data directory together again from these: what was synced, and of the rest what
//! a generator draws, as `storage::disk::SimDisk` does in memory. Nothing here is unsafe.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "it works on the files of real nodes, from outside"
)]

pub mod control;
pub mod crash;
pub mod log;
pub mod names;
pub mod platter;
pub mod ranges;
pub mod side;

/// A file of the data directory, for its whole life, whatever its names; never given twice.
pub type FileId = u64;

/// Bytes that reach the disk together or not at all.
pub const SECTOR_BYTES: u64 = 512;

/// Where Linux says which boot this is; a node is shown another file instead.
pub const BOOT_ID_FILE: &str = "/proc/sys/kernel/random/boot_id";

/// Environment of a node: its data directory, absolute, without `.`, `..` or symbolic links.
pub const ENV_DIR: &str = "JEPSEN_DIR";

/// Environment of a node: the side directory, where the control file and the platter are.
pub const ENV_SIDE: &str = "JEPSEN_SIDE";

/// Draws a number below its argument, which is not 0.
pub type Draw<'a> = dyn FnMut(u64) -> u64 + 'a;
