//! How a run of a node on this directory ended, as the next one finds out.
//!
//! What is written and not synced outlives the process, not the machine's power. So a run notes
//! when it begins in which boot of the machine it is and whether it answers before it syncs; at its
//! very end it notes that everything is on disk.
//!
//! ```text
//! body of the state file `run`:
//! | state u8: 0 running, 1 ended cleanly, 2 failed | durability u8: 0 fsync, 1 interval, 2 os |
//! | boot id |
//! Version 1 had no durability; every run synced before it answered.
//! ```

use super::{DataDir, DataDirError, io_error, malformed};
use crate::Durability;
use crate::state_file::{self, StateFileError};

const RUN_KIND: [u8; 4] = *b"RUNS";
const RUN_VERSION: u16 = 2;
/// Length of a boot id at most, in bytes; Linux's has 36.
const BOOT_ID_BYTES_MAX: usize = 255;

/// Stands for a boot that has no id.
const UNKNOWN_BOOT: &str = "unknown";

const RUNNING: u8 = 0;
const CLEAN: u8 = 1;
const FAILED: u8 = 2;

/// How the run before ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PreviousRun {
    /// There was none.
    First,
    /// With [`DataDir::end_run_clean`]: everything is on disk.
    Clean,
    /// Not cleanly, but the machine has not booted since: everything written is there.
    ProcessDied,
    /// Not cleanly, and the machine has booted since or the disk has failed: what was not synced
    /// may be gone. What was answered before it was synced depends on how that run was set.
    PowerLost {
        /// When that run answered.
        durability: Durability,
    },
}

impl PreviousRun {
    /// Whether something that was answered may be gone.
    #[must_use]
    pub fn may_have_forgotten(self) -> bool {
        matches!(self, PreviousRun::PowerLost { durability } if durability.is_relaxed())
    }

    /// Whether all that was written is there, synced or not.
    #[must_use]
    pub fn keeps_written(self) -> bool {
        matches!(self, PreviousRun::Clean | PreviousRun::ProcessDied)
    }
}

struct Run {
    state: u8,
    durability: Durability,
    boot_id: Vec<u8>,
}

fn encode_durability(durability: Durability) -> u8 {
    match durability {
        Durability::Fsync => 0,
        Durability::Interval { .. } => 1,
        Durability::Os => 2,
    }
}

fn decode(version: u16, body: &[u8]) -> Option<Run> {
    let (state, rest) = body.split_first()?;
    let (durability, boot_id) = if version == 1 {
        (Durability::Fsync, rest)
    } else {
        let (kind, boot_id) = rest.split_first()?;
        let durability = match kind {
            0 => Durability::Fsync,
            1 => Durability::interval(),
            2 => Durability::Os,
            _ => return None,
        };
        (durability, boot_id)
    };
    matches!(*state, RUNNING | CLEAN | FAILED).then(|| Run {
        state: *state,
        durability,
        boot_id: boot_id.to_vec(),
    })
}

impl DataDir {
    /// How the run before ended. Changes nothing: whatever must follow from it is to be made
    /// durable before [`DataDir::begin_run`].
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn previous_run(&self) -> Result<PreviousRun, DataDirError> {
        let run = match self.read_run() {
            Ok(Some(run)) => run,
            Ok(None) => return Ok(PreviousRun::First),
            Err(DataDirError::Identity(damage @ StateFileError::Corrupt { .. })) => {
                tracing::error!(%damage, "how the run before ended is not known: as if power was lost");
                let durability = Durability::Os;
                return Ok(PreviousRun::PowerLost { durability });
            }
            Err(error) => return Err(error),
        };
        // Where boots cannot be told apart it may be another one.
        let boot_id = self.boot_id();
        let is_same_boot = boot_id.is_ok_and(|id| id.as_bytes() == run.boot_id);
        let durability = run.durability;
        Ok(match run.state {
            CLEAN => PreviousRun::Clean,
            RUNNING if is_same_boot => PreviousRun::ProcessDied,
            // Of a failed run nothing is lost that was synced before it was answered.
            FAILED if is_same_boot && !durability.is_relaxed() => PreviousRun::ProcessDied,
            _ => PreviousRun::PowerLost { durability },
        })
    }

    /// Notes that a run begins which answers as `durability` says; durable on return.
    ///
    /// # Errors
    /// When the directory cannot be written. When the system does not tell its boots apart, unless
    /// everything is synced before it is answered.
    pub fn begin_run(&self, durability: Durability) -> Result<(), DataDirError> {
        let boot_id = match self.boot_id() {
            Err(DataDirError::NoBootId(_)) if !durability.is_relaxed() => UNKNOWN_BOOT.to_owned(),
            boot_id => boot_id?,
        };
        let mut durability = encode_durability(durability);
        let before = match self.read_run() {
            // Whatever that run forgot has been noted by now.
            Err(DataDirError::Identity(StateFileError::Corrupt { .. })) => None,
            read => read?,
        };
        if let Some(before) = before
            && before.state == RUNNING
            && before.durability.is_relaxed()
            && before.boot_id == boot_id.as_bytes()
        {
            // What it wrote and did not sync is still to be lost.
            if self.disk.can_sync_file_system() {
                self.sync_all()?;
            } else {
                durability = durability.max(encode_durability(before.durability));
            }
        }
        self.write_run(RUNNING, durability, boot_id.as_bytes())
    }

    /// Notes that the disk has failed the present run: what it answered before it was synced may be
    /// gone, as after a power cut.
    ///
    /// # Errors
    /// When that cannot be written either.
    pub fn note_run_failed(&self) -> Result<(), DataDirError> {
        match self.read_run()? {
            Some(run) if run.state == RUNNING => {
                self.write_run(FAILED, encode_durability(run.durability), &run.boot_id)
            }
            _ => Ok(()),
        }
    }

    /// Notes that the run ended with everything closed. To be called last, and only when neither
    /// the journal nor the log store has failed. What a relaxed run wrote is made durable before;
    /// on a disk that cannot be synced as a whole such a run never counts as ended cleanly.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn end_run_clean(&self) -> Result<(), DataDirError> {
        let Some(run) = self.read_run()? else {
            return Ok(());
        };
        if run.state != RUNNING {
            return Ok(());
        }
        if run.durability.is_relaxed() {
            if !self.disk.can_sync_file_system() {
                return Ok(());
            }
            self.sync_all()?;
        }
        self.write_run(CLEAN, encode_durability(run.durability), &run.boot_id)
    }

    fn sync_all(&self) -> Result<(), DataDirError> {
        self.disk
            .sync_file_system(&self.path)
            .map_err(io_error("sync all files of", &self.path))
    }

    fn boot_id(&self) -> Result<String, DataDirError> {
        let id = self.disk.boot_id().map_err(DataDirError::NoBootId)?;
        let bytes = id.len();
        if bytes == 0 || bytes > BOOT_ID_BYTES_MAX {
            return Err(DataDirError::BootIdLength {
                bytes,
                max: BOOT_ID_BYTES_MAX,
            });
        }
        Ok(id)
    }

    fn read_run(&self) -> Result<Option<Run>, DataDirError> {
        let path = self.path.join("run");
        let read = state_file::read_versioned(&self.disk, &path, RUN_KIND, RUN_VERSION)?;
        let Some((version, body)) = read else {
            return Ok(None);
        };
        let run = decode(version, &body).ok_or_else(|| malformed(path, "a run", &body))?;
        Ok(Some(run))
    }

    fn write_run(&self, state: u8, durability: u8, boot_id: &[u8]) -> Result<(), DataDirError> {
        let path = self.path.join("run");
        let body = [&[state, durability], boot_id].concat();
        let written = state_file::write(&self.disk, &path, RUN_KIND, RUN_VERSION, &body);
        Ok(written?)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::disk::{Disk, SimDisk};

    const LOST_FSYNC: PreviousRun = PreviousRun::PowerLost {
        durability: Durability::Fsync,
    };
    const LOST_OS: PreviousRun = PreviousRun::PowerLost {
        durability: Durability::Os,
    };

    /// Opens the directory, and answers how the run before ended.
    fn begin(disk: &SimDisk, durability: Durability) -> (DataDir, PreviousRun) {
        let data_dir = DataDir::open(&Disk::Sim(disk.clone()), Path::new("/var/data")).unwrap();
        let previous = data_dir.previous_run().unwrap();
        data_dir.begin_run(durability).unwrap();
        (data_dir, previous)
    }

    #[test]
    fn who_cannot_read_how_its_run_ended_takes_it_that_power_was_lost() {
        let sim = SimDisk::new(1);
        drop(begin(&sim, Durability::Fsync));
        sim.flip_bit(Path::new("/var/data/run"), 200).unwrap();
        let (data_dir, previous) = begin(&sim, Durability::Fsync);
        assert!(previous.may_have_forgotten(), "{previous:?}");
        drop(data_dir);
        let (_, previous) = begin(&sim, Durability::Fsync);
        assert_eq!(previous, PreviousRun::ProcessDied, "it is told once");
    }

    #[test]
    fn a_run_knows_how_the_one_before_ended() {
        let sim = SimDisk::new(1);
        let previous = |durability| begin(&sim, durability).1;
        assert_eq!(previous(Durability::Fsync), PreviousRun::First);
        assert_eq!(previous(Durability::Fsync), PreviousRun::ProcessDied);
        sim.crash(1);
        assert_eq!(previous(Durability::Os), LOST_FSYNC);
        assert!(!LOST_FSYNC.may_have_forgotten());
        assert!(!LOST_FSYNC.keeps_written() && !LOST_OS.keeps_written());
        assert!(PreviousRun::ProcessDied.keeps_written() && PreviousRun::Clean.keeps_written());
        sim.crash(2);
        assert_eq!(previous(Durability::Fsync), LOST_OS);
        assert!(LOST_OS.may_have_forgotten());
        sim.crash(3);
        assert_eq!(previous(Durability::interval()), LOST_FSYNC);
        let end = |durability| {
            let (data_dir, _) = begin(&sim, durability);
            data_dir.end_run_clean().unwrap();
        };
        sim.crash(7);
        end(Durability::Fsync);
        sim.crash(4);
        assert_eq!(previous(Durability::Fsync), PreviousRun::Clean);
        end(Durability::Os);
        sim.crash(5);
        assert_eq!(previous(Durability::Fsync), LOST_OS, "nothing was synced");
    }

    #[test]
    fn what_a_relaxed_run_left_unsynced_is_not_forgotten_by_a_stricter_one() {
        let sim = SimDisk::new(1);
        begin(&sim, Durability::Os);
        // In the same boot, and nothing has synced what the first one wrote.
        let (_, previous) = begin(&sim, Durability::Fsync);
        assert_eq!(previous, PreviousRun::ProcessDied);
        sim.crash(1);
        assert_eq!(begin(&sim, Durability::Fsync).1, LOST_OS);
    }

    #[test]
    fn a_failed_disk_is_like_a_power_cut_to_what_was_not_synced() {
        let sim = SimDisk::new(1);
        for (durability, after) in [
            (Durability::Fsync, PreviousRun::ProcessDied),
            (Durability::Os, LOST_OS),
        ] {
            let (data_dir, _) = begin(&sim, durability);
            data_dir.note_run_failed().unwrap();
            data_dir.end_run_clean().unwrap();
            drop(data_dir);
            assert_eq!(begin(&sim, Durability::Fsync).1, after);
        }
    }

    #[test]
    fn a_run_of_the_first_version_had_synced() {
        let sim = SimDisk::new(1);
        let disk = Disk::Sim(sim.clone());
        let path = Path::new("/var/data");
        let data_dir = DataDir::open(&disk, path).unwrap();
        let body = b"\0some boot";
        state_file::write(&disk, &path.join("run"), RUN_KIND, 1, body).unwrap();
        assert_eq!(data_dir.previous_run().unwrap(), LOST_FSYNC);
    }

    #[test]
    fn this_machine_tells_its_boots_apart() {
        let id = Disk::Real.boot_id().unwrap();
        assert!(!id.is_empty() && id.len() <= BOOT_ID_BYTES_MAX, "{id}");
        assert_eq!(Disk::Real.boot_id().unwrap(), id);
    }
}
