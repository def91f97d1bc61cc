//! The control file: what the harness tells the library in a node, and what the library counts.
//!
//! 4096 bytes, 512 words of 64 bits, native byte order. The library maps it and reads and adds
//! atomically; the harness reads and writes single words at their positions, which the page cache
//! makes one and the same memory. Numbers are those of [`Word`].
//!
//! ```text
//!   word   0 ┌────────────────────────────────────────────────────┐
//!            │ magic, version, process id, starts                 │ who is attached
//!          8 ├────────────────────────────────────────────────────┤
//!            │ sync fault, every nth, milliseconds; write fault,  │ settings, by the harness
//!            │ every nth; clock offset; syncs are real            │
//!         32 ├────────────────────────────────────────────────────┤
//!            │ calls seen, faults that took effect, trouble       │ counters, by the library; they
//!            │                                                    │ only rise, over all processes
//!        511 └────────────────────────────────────────────────────┘
//! ```

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Words in the file.
pub const WORDS: usize = 512;

/// Bytes of the file.
pub const BYTES: usize = WORDS * 8;

/// `JEPSENCT`.
pub const MAGIC: u64 = u64::from_be_bytes(*b"JEPSENCT");

/// Of the layout; the library refuses another.
pub const VERSION: u64 = 1;

/// A word of the control file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Word {
    /// [`MAGIC`].
    Magic = 0,
    /// [`VERSION`].
    Version = 1,
    /// The process that attached last.
    Process = 2,
    /// How many processes attached.
    Starts = 3,

    /// 0: syncs work; 1: they fail with EIO; 2: they say that they are done and are not.
    SyncFault = 8,
    /// Only each so manieth sync is struck; 0 and 1: every one.
    SyncEvery = 9,
    /// Each sync takes so many milliseconds more.
    SyncDelayMs = 10,
    /// 0: writes work; 1: they fail with EIO; 2: the disk is full; 3: they write less than asked.
    WriteFault = 11,
    /// Only each so manieth write is struck; 0 and 1: every one. A full disk is full for each.
    WriteEvery = 12,
    /// Added to the wall clock: milliseconds, an `i64`.
    ClockOffsetMs = 13,
    /// 1: syncs are not passed on to the machine, which is faster and changes nothing else.
    SyncsNotReal = 14,

    /// Writes to files of the data directory.
    Writes = 32,
    /// Bytes written.
    WrittenBytes = 33,
    /// Syncs of files.
    Syncs = 34,
    /// Syncs of directories and of the file system.
    DirSyncs = 35,
    /// Names made, changed or removed.
    NameChanges = 36,
    /// Space reserved, lengths set.
    LengthChanges = 37,
    /// Reads of the boot id.
    BootIdReads = 38,
    /// Reads of a wall clock that is off.
    ClockReads = 39,
    /// The offset that the last read of the wall clock was given: milliseconds, an `i64`.
    ClockSeenMs = 40,
    /// Syncs that failed.
    SyncErrors = 41,
    /// Syncs that lied.
    SyncLies = 42,
    /// Syncs that were late.
    SyncDelays = 43,
    /// Writes that failed.
    WriteErrors = 44,
    /// Writes and reservations for which there was no space.
    FullErrors = 45,
    /// Writes that wrote less than asked.
    ShortWrites = 46,
    /// Things the library could not do, or met and does not know; 0 in a run that proves anything.
    Trouble = 47,
}

/// The control file, as the harness has it.
#[derive(Debug)]
pub struct ControlFile {
    file: File,
}

impl ControlFile {
    /// Opens it; makes it where it is not there.
    pub fn open(path: &Path) -> io::Result<ControlFile> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        file.set_len(BYTES as u64)?;
        let control = ControlFile { file };
        control.set(Word::Version, VERSION)?;
        control.set(Word::Magic, MAGIC)?;
        Ok(control)
    }

    /// What a word holds.
    pub fn get(&self, word: Word) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.file.read_exact_at(&mut bytes, word as u64 * 8)?;
        Ok(u64::from_ne_bytes(bytes))
    }

    /// Sets a word.
    pub fn set(&self, word: Word, value: u64) -> io::Result<()> {
        self.file
            .write_all_at(&value.to_ne_bytes(), word as u64 * 8)
    }
}
