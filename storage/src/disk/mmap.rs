//! The one file with `unsafe`: mapping a whole file read-only.
//!
//! Only sealed files are mapped: nothing writes them and nothing cuts them, they go by unlinking,
//! which leaves the pages of an existing mapping readable. A bad sector under a mapping kills the
//! process with SIGBUS; who cannot accept that reads instead.
#![expect(
    unsafe_code,
    reason = "mapping a file is unsafe by nature; see the module's rules"
)]

use std::io;

use super::real::RealFile;

/// Maps the whole of `file`.
pub(super) fn map(file: &RealFile) -> io::Result<memmap2::Mmap> {
    // SAFETY: the memory is only read, and the callers (`partition_log`) map sealed segments and
    // indexes alone, which are never written nor cut afterwards, only unlinked.
    unsafe { memmap2::Mmap::map(file.std_file()) }
}
