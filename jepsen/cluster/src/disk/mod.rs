//! What can be done to one node's disk, power and clock.
//!
//! A node that is started with [`NodeDisk::environment`] has the preloaded library in it, which does
//! what the control file says (`jepsen_control`). Everything here can be called while the node runs,
//! unless it says that the process must be gone. All of it blocks for a moment.

mod counts;
mod damage;
mod library;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jepsen_control::control::{ControlFile, Word};
use jepsen_control::crash;
use jepsen_control::side::Side;
use jepsen_control::{BOOT_ID_FILE, ENV_DIR, ENV_SIDE};
use jepsen_workload::fault::DiskFault;
use jepsen_workload::random::Random;

pub use counts::Counts;
pub use damage::Damage;

/// Where Linux gives a new UUID at each reading.
const UUID_FILE: &str = "/proc/sys/kernel/random/uuid";

/// A node that changed more names than these has synced something.
const SEEN_MIN: u64 = 10;

/// One node's disk, power and clock.
#[derive(Debug)]
pub struct NodeDisk {
    library: PathBuf,
    data_dir: PathBuf,
    side: Side,
    control: ControlFile,
}

impl NodeDisk {
    /// Of a node whose data directory is `data_dir` (absolute; made if it is not there) and whose
    /// other files may go to `side_dir` (on the same file system, not inside `data_dir`). No process
    /// works on either.
    pub fn new(data_dir: &Path, side_dir: &Path) -> io::Result<NodeDisk> {
        fs::create_dir_all(data_dir)?;
        fs::create_dir_all(side_dir)?;
        let (data_dir, side_dir) = (data_dir.canonicalize()?, side_dir.canonicalize()?);
        if side_dir.starts_with(&data_dir) {
            return Err(io::Error::other(
                "the side directory is in the data directory",
            ));
        }
        let side = Side::new(&side_dir);
        let control = ControlFile::open(&side.control())?;
        if !side.names().exists() {
            fs::write(side.boot_id(), fs::read(BOOT_ID_FILE)?)?;
            crash::begin(&data_dir, &side)?;
        }
        Ok(NodeDisk {
            library: library::find()?,
            data_dir,
            side,
            control,
        })
    }

    /// What the node's process must have in its environment.
    #[must_use]
    pub fn environment(&self) -> Vec<(&'static str, OsString)> {
        vec![
            ("LD_PRELOAD", self.library.clone().into()),
            (ENV_DIR, self.data_dir.clone().into()),
            (ENV_SIDE, self.side.root().to_owned().into()),
        ]
    }

    /// The data directory, to be given to the node exactly so.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Makes the disk misbehave from now on, or not any more; also over restarts.
    pub fn set(&self, how: Option<DiskFault>) -> io::Result<()> {
        let (mut sync_fault, mut delay_ms, mut write_fault) = (0, 0, 0);
        match how {
            None => {}
            Some(DiskFault::SyncError) => sync_fault = 1,
            Some(DiskFault::LyingSync) => sync_fault = 2,
            Some(DiskFault::SlowSync(ms)) => delay_ms = u64::from(ms),
            Some(DiskFault::WriteError) => write_fault = 1,
            Some(DiskFault::Full) => write_fault = 2,
            Some(DiskFault::ShortWrites) => write_fault = 3,
        }
        self.control.set(Word::SyncDelayMs, delay_ms)?;
        self.control.set(Word::SyncFault, sync_fault)?;
        self.control.set(Word::WriteFault, write_fault)
    }

    /// Strikes only each so manieth sync and write with an error; 1: every one.
    pub fn set_every(&self, nth: u32) -> io::Result<()> {
        self.control.set(Word::SyncEvery, u64::from(nth))?;
        self.control.set(Word::WriteEvery, u64::from(nth))
    }

    /// Sets the node's wall clock off by so much, at once, also while it runs.
    pub fn set_clock_offset_ms(&self, offset_ms: i64) -> io::Result<()> {
        self.control
            .set(Word::ClockOffsetMs, offset_ms.cast_unsigned())
    }

    /// Power goes: what was not synced is lost, whole or in part, as `seed` draws. The process is
    /// gone already (SIGKILL, and waited for). The next start sees another boot. Says what was lost.
    pub fn cut_power(&self, seed: u64) -> io::Result<String> {
        let counts = self.counts()?;
        if counts.name_changes > SEEN_MIN && counts.syncs == 0 {
            return Err(io::Error::other(
                "the library does not see the node's syncs: the node must call libc for them \
                 (feature `use-libc` of rustix), so everything would be lost",
            ));
        }
        let mut random = Random::new(seed);
        let lost = crash::cut(&self.data_dir, &self.side, &mut |limit| random.below(limit))?;
        fs::write(self.side.boot_id(), fs::read(UUID_FILE)?)?;
        Ok(format!(
            "of what was not synced {} sectors and {} names were lost, {} sectors and {} names kept, \
             {} files have another length",
            lost.torn.sectors_lost,
            lost.names_lost,
            lost.torn.sectors_kept,
            lost.names_kept,
            lost.torn.lengths_changed,
        ))
    }
}
