//! What a simulated disk can be made to do wrong for as long as it is told so, how long it takes
//! in the time of a simulation, and damage behind the back of whoever uses it.

use std::io;
use std::path::{Path, PathBuf};

use super::names::{Inode, Node};
use super::{OpKind, SimDisk};
use crate::turns;

/// How long writes and syncs of files take, in the time of a simulation's threads.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Latency {
    write_us: u64,
    sync_us: u64,
}

impl SimDisk {
    /// The disk as one process sees it: from the next reboot or end of processes on nothing works
    /// through this any more, so that whatever is left of the process changes nothing.
    #[must_use]
    pub fn process(&self) -> SimDisk {
        let boot = self.state().boot;
        SimDisk {
            process: Some(boot),
            ..self.clone()
        }
    }

    /// Makes writes and syncs of files take so long in the time of [`turns`]. The main thread of a
    /// simulation and threads outside of one do not wait.
    pub fn set_latency(&self, write_us: u64, sync_us: u64) {
        self.state().latency = Latency { write_us, sync_us };
    }

    pub(super) fn take_time(&self, kind: OpKind) {
        let Some(now_us) = turns::now_us() else {
            return;
        };
        let latency = self.state().latency;
        let us = match kind {
            OpKind::Sync => latency.sync_us,
            _ => latency.write_us,
        };
        turns::sleep_until(now_us.saturating_add(us));
    }

    /// While it lies, syncs of files and directories succeed and make nothing durable; the next
    /// honest one does. Outlasts reboots.
    pub fn lie_about_syncs(&self, lies: bool) {
        self.state().lies = lies;
    }

    /// Makes every operation of a kind fail with `error` and do nothing, until it is told otherwise
    /// or booted again.
    pub fn set_failing(&self, kind: OpKind, error: Option<io::ErrorKind>) {
        let failing = &mut self.state().failing;
        match error {
            Some(error) => drop(failing.insert(kind, error)),
            None => drop(failing.remove(&kind)),
        }
    }

    /// Files of which a sync has failed since this was asked last, by the names that they have now.
    #[must_use]
    pub fn take_failed_syncs(&self) -> Vec<PathBuf> {
        let failed = std::mem::take(&mut self.state().failed_syncs);
        if failed.is_empty() {
            return Vec::new();
        }
        let files = self.inodes().into_iter();
        files
            .filter(|(_, inode)| failed.contains(inode))
            .map(|(path, _)| path)
            .collect()
    }

    /// Cuts a file behind the back of whoever has it open: readers and the platter both have it so.
    ///
    /// # Errors
    /// When there is no such file.
    pub fn truncate_file(&self, path: &Path, len: u64) -> io::Result<()> {
        let mut state = self.state();
        let inode = state.find_file(path)?.ok_or(io::ErrorKind::NotFound)?;
        let content = state.content(inode)?;
        content.set_len(len.min(content.len()));
        content.sync();
        Ok(())
    }

    /// Takes a file's name away for good; whoever has it open keeps its bytes.
    ///
    /// # Errors
    /// When there is no such file.
    pub fn delete_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        let inode = state.names.remove_file(path)?;
        state.names.sync(path.parent().unwrap_or(Path::new("/")))?;
        state.unlink(inode);
        state.forget_removed();
        Ok(())
    }

    /// All files and their lengths, by path.
    #[must_use]
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        let inodes = self.inodes();
        let mut state = self.state();
        let mut len = |inode| state.content(inode).map_or(0, |content| content.len());
        let files = inodes.into_iter().map(|(path, inode)| (path, len(inode)));
        files.collect()
    }

    /// All files, by path.
    fn inodes(&self) -> Vec<(PathBuf, Inode)> {
        let state = self.state();
        let mut found = Vec::new();
        let mut directories = vec![PathBuf::from("/")];
        while let Some(directory) = directories.pop() {
            for (name, node) in state.names.entries(&directory).unwrap_or_default() {
                let path = directory.join(name);
                match node {
                    Node::Directory(_) => directories.push(path),
                    Node::File(inode) => found.push((path, inode)),
                }
            }
        }
        found.sort();
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Disk, OpenMode};
    use crate::turns::Turns;

    fn file(disk: &SimDisk, path: &str) -> crate::disk::DiskFile {
        let disk = Disk::Sim(disk.clone());
        disk.open(Path::new(path), OpenMode::Create).unwrap()
    }

    fn read(disk: &SimDisk, path: &str) -> Vec<u8> {
        Disk::Sim(disk.clone()).read_file(Path::new(path)).unwrap()
    }

    #[test]
    fn a_disk_that_lies_loses_what_it_said_it_had() {
        let disk = SimDisk::new(1);
        let log = file(&disk, "/log");
        log.write_all_at(b"first", 0).unwrap();
        log.sync_data().unwrap();
        Disk::Sim(disk.clone()).sync_dir(Path::new("/")).unwrap();
        disk.lie_about_syncs(true);
        log.write_all_at(&[7; 4_096], 0).unwrap();
        log.sync_data().unwrap();
        let lost = (0..20).any(|seed| {
            let disk = SimDisk::new(seed);
            let log = file(&disk, "/log");
            Disk::Sim(disk.clone()).sync_dir(Path::new("/")).unwrap();
            disk.lie_about_syncs(true);
            log.write_all_at(&[7; 4_096], 0).unwrap();
            log.sync_data().unwrap();
            disk.crash(seed);
            read(&disk, "/log") != [7; 4_096]
        });
        assert!(lost);
        disk.lie_about_syncs(false);
        log.sync_data().unwrap();
        disk.crash(3);
        assert_eq!(read(&disk, "/log"), [7; 4_096]);
    }

    #[test]
    fn what_fails_each_time_fails_until_it_is_told_otherwise() {
        let disk = SimDisk::new(2);
        let log = file(&disk, "/log");
        disk.set_failing(OpKind::Write, Some(io::ErrorKind::StorageFull));
        for _ in 0..3 {
            let failed = log.write_all_at(b"x", 0).unwrap_err();
            assert_eq!(failed.kind(), io::ErrorKind::StorageFull);
        }
        assert_eq!(log.len().unwrap(), 0);
        disk.set_failing(OpKind::Write, None);
        log.write_all_at(b"x", 0).unwrap();
        assert!(disk.take_failed_syncs().is_empty());
        disk.set_failing(OpKind::Sync, Some(io::ErrorKind::Other));
        log.sync_data().unwrap_err();
        assert_eq!(disk.take_failed_syncs(), [PathBuf::from("/log")]);
        assert!(disk.take_failed_syncs().is_empty());
    }

    #[test]
    fn what_is_left_of_a_killed_process_changes_nothing() {
        let disk = SimDisk::new(3);
        let process = disk.process();
        let log = file(&process, "/log");
        log.write_all_at(b"kept", 0).unwrap();
        disk.kill_processes();
        assert!(log.write_all_at(b"gone", 0).is_err());
        let killed = Disk::Sim(process);
        assert!(killed.rename(Path::new("/log"), Path::new("/x")).is_err());
        assert!(killed.remove_file(Path::new("/log")).is_err());
        assert!(killed.open(Path::new("/new"), OpenMode::CreateNew).is_err());
        assert!(killed.sync_dir(Path::new("/")).is_err());
        assert_eq!(disk.files(), [(PathBuf::from("/log"), 4)]);
        assert_eq!(read(&disk.process(), "/log"), b"kept");
    }

    #[test]
    fn files_are_cut_and_taken_away_behind_the_back() {
        let disk = SimDisk::new(4);
        let log = file(&disk, "/log");
        log.write_all_at(&[1; 1_000], 0).unwrap();
        disk.truncate_file(Path::new("/log"), 10).unwrap();
        assert_eq!(log.len().unwrap(), 10);
        disk.crash(1);
        assert!(disk.files().iter().all(|(_, len)| *len == 10));
        let log = file(&disk, "/other");
        disk.delete_file(Path::new("/other")).unwrap();
        log.write_all_at(b"into nothing", 0).unwrap();
        assert!(disk.delete_file(Path::new("/other")).is_err());
    }

    #[test]
    fn a_slow_sync_takes_the_time_of_the_simulation() {
        let turns = Turns::new(1);
        let _entered = turns.enter();
        let disk = SimDisk::new(5);
        disk.set_latency(0, 20_000);
        let log = file(&disk, "/log");
        log.sync_data().unwrap();
        let syncing = log.clone();
        let thread = turns::spawn("syncer", move || syncing.sync_data().unwrap()).unwrap();
        for (now_us, living) in [(19_000, 1), (20_000, 0)] {
            turns.run_ready();
            turns.set_now_us(now_us);
            turns.run_ready();
            assert_eq!(turns.threads().len(), living, "at {now_us}");
        }
        thread.join().unwrap();
    }
}
