//! Putting aside what a node with a damaged journal holds, so that it can begin anew.
//!
//! Everything that rests on the journal goes to `lost-<n>/` and is never read again by a node. The
//! tombstones in `shards/` stay: they say what this node must not forget of replicas it once had.

use std::path::PathBuf;

use super::{DataDir, DataDirError, io_error};

/// Starts the name of a directory that holds what was put aside.
const LOST_PREFIX: &str = "lost-";
/// Ends the name of a shard's checkpoint.
const CHECKPOINT_SUFFIX: &str = ".checkpoint";

impl DataDir {
    /// Moves the journal, the partitions and the shards' checkpoints to `lost-<n>/`, and makes
    /// empty directories in their places; durable on return. To be repeated after a crash until the
    /// identity says that it was done: what is there until then goes aside too. Answers where to.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn put_lost_aside(&self) -> Result<PathBuf, DataDirError> {
        let aside = self
            .path
            .join(format!("{LOST_PREFIX}{}", self.lost_number()?));
        let disk = &self.disk;
        disk.create_dir_all(&aside)
            .map_err(io_error("make", &aside))?;
        disk.sync_dir(&self.path)
            .map_err(io_error("sync", &self.path))?;
        let shards = self.shards_dir();
        let entries = disk
            .read_dir(&shards)
            .map_err(io_error("list", &shards))?
            .into_iter();
        let checkpoints = entries.filter(|entry| entry.name.ends_with(CHECKPOINT_SUFFIX));
        for entry in checkpoints {
            let from = shards.join(&entry.name);
            disk.rename(&from, &aside.join(&entry.name))
                .map_err(io_error("move", &from))?;
        }
        let dirs = [self.partitions_dir(), self.journal_dir()];
        for dir in &dirs {
            let name = dir.file_name().expect("a directory below the data's");
            let to = aside.join(name);
            // Else moved before a crash; what is in its place is empty and new.
            if !disk.exists(&to).map_err(io_error("look for", &to))?
                && disk.exists(dir).map_err(io_error("look for", dir))?
            {
                disk.rename(dir, &to).map_err(io_error("move", dir))?;
            }
        }
        for dir in [&aside, &shards, &self.path] {
            disk.sync_dir(dir).map_err(io_error("sync", dir))?;
        }
        // Only now: their names are free for certain.
        for dir in &dirs {
            disk.create_dir_all(dir).map_err(io_error("make", dir))?;
        }
        disk.sync_dir(&self.path)
            .map_err(io_error("sync", &self.path))?;
        Ok(aside)
    }

    /// The number of the directory to move to: the newest one, unless it has a journal already.
    fn lost_number(&self) -> Result<u32, DataDirError> {
        let entries = self
            .disk
            .read_dir(&self.path)
            .map_err(io_error("list", &self.path))?;
        let number = |name: &str| name.strip_prefix(LOST_PREFIX)?.parse::<u32>().ok();
        let newest = entries.iter().filter_map(|entry| number(&entry.name)).max();
        let Some(newest) = newest else {
            return Ok(1);
        };
        let journal = self.path.join(format!("{LOST_PREFIX}{newest}/journal"));
        let is_full = self
            .disk
            .exists(&journal)
            .map_err(io_error("look for", &journal))?;
        Ok(if is_full {
            newest.saturating_add(1)
        } else {
            newest
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::disk::{Disk, OpenMode, SimDisk};

    fn put(disk: &Disk, path: &Path) {
        let file = disk.open(path, OpenMode::Create).unwrap();
        file.write_all_at(b"data", 0).unwrap();
        file.sync_data().unwrap();
        disk.sync_dir(path.parent().unwrap()).unwrap();
    }

    /// Power goes at each of the operations; after the next try everything is aside.
    #[test]
    fn what_is_lost_is_aside_however_often_power_goes() {
        for cut_at in 1..40 {
            let sim = SimDisk::new(cut_at);
            let disk = Disk::Sim(sim.clone());
            let open = || DataDir::open(&disk, Path::new("/data")).unwrap();
            let data_dir = open();
            put(&disk, &data_dir.journal_dir().join("1.journal"));
            put(&disk, &data_dir.partitions_dir().join("p"));
            put(&disk, &data_dir.shards_dir().join("0.checkpoint"));
            put(&disk, &data_dir.shards_dir().join("1.tombstone"));
            sim.fail_after(cut_at);
            let is_cut = data_dir.put_lost_aside().is_err();
            drop(data_dir);
            sim.crash(cut_at);
            if is_cut {
                open().put_lost_aside().unwrap();
                sim.crash(cut_at + 100);
            }
            let data_dir = open();
            let names = |dir: &Path| {
                let entries = disk.read_dir(dir).unwrap().into_iter();
                entries.map(|entry| entry.name).collect::<Vec<_>>()
            };
            assert!(names(&data_dir.journal_dir()).is_empty(), "{cut_at}");
            assert!(names(&data_dir.partitions_dir()).is_empty(), "{cut_at}");
            assert_eq!(names(&data_dir.shards_dir()), ["1.tombstone"], "{cut_at}");
            let lost = names(Path::new("/data")).into_iter();
            let mut found: Vec<String> = lost
                .filter(|name| name.starts_with(LOST_PREFIX))
                .flat_map(|name| {
                    let dir = Path::new("/data").join(name);
                    let below = |sub: &str| match disk.exists(&dir.join(sub)).unwrap() {
                        true => names(&dir.join(sub)),
                        false => Vec::new(),
                    };
                    [names(&dir), below("journal"), below("partitions")].concat()
                })
                .collect();
            found.retain(|name| name != "journal" && name != "partitions");
            found.sort();
            assert_eq!(found, ["0.checkpoint", "1.journal", "p"], "{cut_at}");
        }
    }
}
