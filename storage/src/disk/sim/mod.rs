//! A disk in memory that can lose power, fill up, fail and flip bits, all by seed.
//!
//! What was not synced when power goes is lost, kept or torn (per 512-byte sector), names that
//! their directory did not sync are lost or kept; what was synced stays. After a failed sync the
//! bytes it covered are in doubt for ever, as on Linux.

mod content;
mod faults;
mod names;
mod random;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use self::content::Content;
use self::faults::Latency;
use self::names::{Inode, Names, Node};
use self::random::Random;
use super::{DirEntry, OpenMode};

/// What a call to the disk does, to aim an injected error at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OpKind {
    /// Reading a file.
    Read,
    /// Writing a file.
    Write,
    /// Syncing a file.
    Sync,
    /// Reserving space.
    Allocate,
    /// Setting a file's length.
    SetLen,
    /// Making a file or directory.
    Create,
    /// Renaming.
    Rename,
    /// Removing a file or directory.
    Remove,
    /// Syncing a directory.
    SyncDir,
}

/// A simulated disk. Clones share it, like processes sharing a machine.
#[derive(Clone, Debug)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
    /// How slow the disk is; not to be locked with the state held.
    pace: Arc<(Mutex<Pace>, Condvar)>,
    /// The boot in which this stands for a process; without one it outlives them all.
    process: Option<u64>,
}

#[derive(Debug)]
struct State {
    random: Random,
    names: Names,
    contents: HashMap<Inode, Content>,
    locked: HashSet<Inode>,
    /// Rises with each reboot; handles of an earlier one are dead.
    boot: u64,
    /// How often power was cut.
    power_cuts: u64,
    powered: bool,
    op_count: u64,
    power_cut_at: Option<u64>,
    faults: Vec<Fault>,
    /// What fails each time, and how.
    failing: BTreeMap<OpKind, io::ErrorKind>,
    latency: Latency,
    /// Syncs are answered and do nothing.
    lies: bool,
    /// Files of which a sync failed, until somebody asks.
    failed_syncs: BTreeSet<Inode>,
    capacity_bytes: u64,
}

#[derive(Debug)]
struct Fault {
    kind: OpKind,
    /// Operations of this kind until it strikes.
    countdown: u64,
    error: io::ErrorKind,
}

/// How long writes and syncs of files take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Pace {
    /// No time.
    #[default]
    Quick,
    /// So long, each.
    Slow(Duration),
    /// Until it is told otherwise.
    Stuck,
}

/// What becomes of one operation.
enum Fate {
    Done,
    /// Power goes while it runs: it may be half done.
    PowerCut,
    Fails(io::Error),
}

impl SimDisk {
    /// An empty disk; everything random about it follows from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> SimDisk {
        SimDisk {
            state: Arc::new(Mutex::new(State {
                random: Random::new(seed),
                names: Names::new(),
                contents: HashMap::new(),
                locked: HashSet::new(),
                boot: 0,
                power_cuts: 0,
                powered: true,
                op_count: 0,
                power_cut_at: None,
                faults: Vec::new(),
                failing: BTreeMap::new(),
                latency: Latency::default(),
                lies: false,
                failed_syncs: BTreeSet::new(),
                capacity_bytes: u64::MAX,
            })),
            pace: Arc::default(),
            process: None,
        }
    }

    /// Cuts the power now: everything fails until [`SimDisk::crash`] or
    /// [`SimDisk::kill_processes`]. Threads that still use the disk are best ended in between, or
    /// they go on with the disk as it is after the reboot.
    pub fn cut_power(&self) {
        self.state().powered = false;
        self.stall(false);
    }

    /// Makes writes and syncs of files wait for as long as it is set, as a stuck disk does. Any end
    /// of power or processes ends it.
    pub fn stall(&self, stalled: bool) {
        self.set_pace(if stalled { Pace::Stuck } else { Pace::Quick });
    }

    /// Makes each write and sync of a file take so long, as a dying disk does; several at a time do
    /// not wait for one another. Any end of power or processes ends it, and so does no time at all.
    pub fn slow_down(&self, each: Duration) {
        let is_none = each.is_zero();
        self.set_pace(if is_none {
            Pace::Quick
        } else {
            Pace::Slow(each)
        });
    }

    fn set_pace(&self, to: Pace) {
        let (pace, changed) = &*self.pace;
        *pace.lock().unwrap_or_else(PoisonError::into_inner) = to;
        changed.notify_all();
    }

    fn wait_while_stalled(&self) {
        let (pace, changed) = &*self.pace;
        let mut held = pace.lock().unwrap_or_else(PoisonError::into_inner);
        if let Pace::Slow(each) = *held {
            let waited = changed.wait_timeout_while(held, each, |now| *now == Pace::Slow(each));
            held = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let waited = changed.wait_while(held, |now| *now == Pace::Stuck);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// Cuts the power now (unless it is off already) and boots again: what was not synced is kept,
    /// lost or torn by `seed`, open files are dead, locks are free, faults are forgotten.
    pub fn crash(&self, seed: u64) {
        self.stall(false);
        let mut state = self.state();
        let state = &mut *state;
        state.random = Random::new(seed);
        let named = state.names.crash(&mut state.random);
        state.contents.retain(|inode, _| named.contains(inode));
        let mut inodes: Vec<Inode> = state.contents.keys().copied().collect();
        inodes.sort_unstable();
        for inode in inodes {
            if let Some(content) = state.contents.get_mut(&inode) {
                content.crash(&mut state.random);
                content.is_linked = true;
            }
        }
        state.power_cuts += 1;
        state.reboot();
    }

    /// Ends all processes but keeps the machine up: open files are dead and locks are free, yet
    /// everything written is still readable, synced or not.
    pub fn kill_processes(&self) {
        self.stall(false);
        let mut state = self.state();
        state
            .contents
            .values_mut()
            .for_each(|content| content.handles = 0);
        state.reboot();
    }

    /// Cuts the power at the `n_ops`-th changing operation from now (1 is the next): that one may
    /// be half done, it and everything after it fails until [`SimDisk::crash`].
    pub fn fail_after(&self, n_ops: u64) {
        let mut state = self.state();
        state.power_cut_at = Some(state.op_count + n_ops);
    }

    /// Makes the `nth` operation of a kind from now (1 is the next) fail with `error`, once.
    pub fn inject(&self, kind: OpKind, nth: u64, error: io::ErrorKind) {
        self.state().faults.push(Fault {
            kind,
            countdown: nth,
            error,
        });
    }

    /// Sets how many bytes all files together may take.
    pub fn set_capacity(&self, bytes: u64) {
        self.state().capacity_bytes = bytes;
    }

    /// Bytes all files take now.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.state().used_bytes()
    }

    /// Flips one bit of a file, as a failing disk would: readers and the platter both have it.
    /// Bit 0 is the lowest of the first byte.
    pub fn flip_bit(&self, path: &Path, bit: u64) -> io::Result<()> {
        let mut state = self.state();
        let inode = state.find_file(path)?.ok_or(io::ErrorKind::NotFound)?;
        state.content(inode)?.flip_bit(bit);
        Ok(())
    }

    /// Changing operations so far: what [`SimDisk::fail_after`] counts.
    #[must_use]
    pub fn op_count(&self) -> u64 {
        self.state().op_count
    }

    /// How often power was cut so far: each [`SimDisk::crash`] counts.
    #[must_use]
    pub fn power_cuts(&self) -> u64 {
        self.state().power_cuts
    }

    /// Whether power is on.
    #[must_use]
    pub fn is_powered(&self) -> bool {
        self.state().powered
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, for a process that is still there.
    fn state_in_process(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.state();
        state.check_power()?;
        match self.process {
            Some(boot) if boot != state.boot => Err(power_is_off()),
            _ => Ok(state),
        }
    }

    pub(super) fn open(&self, path: &Path, mode: OpenMode) -> io::Result<SimFile> {
        let mut state = self.state_in_process()?;
        let inode = match (state.find_file(path)?, mode) {
            (Some(_), OpenMode::CreateNew) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Some(inode), _) => inode,
            (None, OpenMode::Read | OpenMode::ReadWrite) => {
                return Err(io::ErrorKind::NotFound.into());
            }
            (None, OpenMode::Create | OpenMode::CreateNew) => {
                state.change(OpKind::Create, |state| {
                    let inode = state.names.create_file(path)?;
                    state.contents.insert(inode, Content::linked());
                    Ok(inode)
                })?
            }
        };
        state.content(inode)?.handles += 1;
        let boot = state.boot;
        Ok(SimFile {
            disk: self.clone(),
            inode,
            boot,
            can_write: mode != OpenMode::Read,
            holds_lock: AtomicBool::new(false),
        })
    }

    pub(super) fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state_in_process()?;
        if state.names.find_directory(path).is_ok() {
            return Ok(());
        }
        state.change(OpKind::Create, |state| state.names.create_directories(path))
    }

    pub(super) fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let mut state = self.state_in_process()?;
        state.read()?;
        let entries = state.names.entries(path)?;
        Ok(entries
            .into_iter()
            .map(|(name, node)| DirEntry {
                name,
                is_dir: matches!(node, Node::Directory(_)),
            })
            .collect())
    }

    pub(super) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.state_in_process()?.change(OpKind::Rename, |state| {
            if let Some(inode) = state.names.rename(from, to)? {
                state.unlink(inode);
            }
            Ok(())
        })
    }

    pub(super) fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.state_in_process()?.change(OpKind::Remove, |state| {
            let inode = state.names.remove_file(path)?;
            state.unlink(inode);
            Ok(())
        })
    }

    pub(super) fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.state_in_process()?.change(OpKind::Remove, |state| {
            for inode in state.names.remove_directory(path)? {
                state.unlink(inode);
            }
            Ok(())
        })
    }

    pub(super) fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state_in_process()?;
        match state.begin(OpKind::SyncDir)? {
            Fate::Done if state.lies => Ok(()),
            Fate::Done => {
                state.names.sync(path)?;
                state.forget_removed();
                Ok(())
            }
            Fate::PowerCut => Err(power_is_off()),
            Fate::Fails(error) => Err(error),
        }
    }

    pub(super) fn exists(&self, path: &Path) -> io::Result<bool> {
        let mut state = self.state_in_process()?;
        state.read()?;
        match state.names.find(path) {
            Ok(node) => Ok(node.is_some()),
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(super) fn free_bytes(&self) -> io::Result<u64> {
        let state = self.state_in_process()?;
        Ok(state.capacity_bytes.saturating_sub(state.used_bytes()))
    }

    pub(super) fn space(&self) -> io::Result<(u64, u64)> {
        let capacity = self.state().capacity_bytes;
        Ok((capacity, self.free_bytes()?))
    }
}

impl State {
    fn reboot(&mut self) {
        self.boot += 1;
        self.powered = true;
        self.power_cut_at = None;
        self.locked.clear();
        self.faults.clear();
        self.failing.clear();
    }

    fn used_bytes(&self) -> u64 {
        let held = self
            .contents
            .values()
            .filter(|content| content.is_linked || content.handles > 0);
        held.map(|content| content.allocated).sum()
    }

    fn check_power(&self) -> io::Result<()> {
        if self.powered {
            Ok(())
        } else {
            Err(power_is_off())
        }
    }

    fn read(&mut self) -> io::Result<()> {
        self.check_power()?;
        self.strike(OpKind::Read).map_or(Ok(()), Err)
    }

    /// Counts a changing operation and decides its fate.
    fn begin(&mut self, kind: OpKind) -> io::Result<Fate> {
        self.check_power()?;
        self.op_count += 1;
        if self.power_cut_at.is_some_and(|at| self.op_count >= at) {
            self.powered = false;
            return Ok(Fate::PowerCut);
        }
        Ok(self.strike(kind).map_or(Fate::Done, Fate::Fails))
    }

    fn strike(&mut self, kind: OpKind) -> Option<io::Error> {
        let mut struck = None;
        self.faults.retain_mut(|fault| {
            if fault.kind == kind {
                fault.countdown = fault.countdown.saturating_sub(1);
                if fault.countdown == 0 {
                    struck = Some(fault.error);
                    return false;
                }
            }
            true
        });
        let always = self.failing.get(&kind).copied();
        struck.or(always).map(io::Error::from)
    }

    /// Runs a change whose effect is pending until a sync. When power goes it is made all the
    /// same, and the crash decides what is left of it.
    fn change<T>(
        &mut self,
        kind: OpKind,
        change: impl FnOnce(&mut State) -> io::Result<T>,
    ) -> io::Result<T> {
        match self.begin(kind)? {
            Fate::Done => change(self),
            Fate::PowerCut => {
                change(self)?;
                Err(power_is_off())
            }
            Fate::Fails(error) => Err(error),
        }
    }

    fn find_file(&self, path: &Path) -> io::Result<Option<Inode>> {
        match self.names.find(path)? {
            Some(Node::File(inode)) => Ok(Some(inode)),
            Some(Node::Directory(_)) => Err(io::ErrorKind::IsADirectory.into()),
            None => Ok(None),
        }
    }

    fn content(&mut self, inode: Inode) -> io::Result<&mut Content> {
        self.contents
            .get_mut(&inode)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Frees the bytes of files that no crash can bring back.
    fn forget_removed(&mut self) {
        if self.names.is_settled() {
            self.contents
                .retain(|_, content| content.is_linked || content.handles > 0);
        }
    }

    fn unlink(&mut self, inode: Inode) {
        if let Some(content) = self.contents.get_mut(&inode) {
            content.is_linked = false;
        }
    }

    /// Takes space so that the file reaches `end`; returns how far it may be written.
    fn reserve(&mut self, inode: Inode, end: u64) -> io::Result<u64> {
        let free = self.capacity_bytes.saturating_sub(self.used_bytes());
        let content = self.content(inode)?;
        let granted = end.saturating_sub(content.allocated).min(free);
        content.allocated += granted;
        Ok(content.allocated.min(end))
    }
}

/// An open file of a [`SimDisk`].
#[derive(Debug)]
pub(super) struct SimFile {
    disk: SimDisk,
    inode: Inode,
    boot: u64,
    can_write: bool,
    holds_lock: AtomicBool,
}

impl SimFile {
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.state();
        state.check_power()?;
        if state.boot == self.boot {
            Ok(state)
        } else {
            Err(power_is_off())
        }
    }

    fn state_to_write(&self) -> io::Result<MutexGuard<'_, State>> {
        if self.can_write {
            self.state()
        } else {
            Err(io::ErrorKind::PermissionDenied.into())
        }
    }

    pub(super) fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let mut state = self.state()?;
        state.read()?;
        Ok(state.content(self.inode)?.read(buffer, position))
    }

    pub(super) fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.disk.wait_while_stalled();
        self.disk.take_time(OpKind::Write);
        self.state_to_write()?.change(OpKind::Write, |state| {
            let end = state.reserve(self.inode, position + bytes.len() as u64)?;
            let fitting = usize::try_from(end.saturating_sub(position)).unwrap_or(usize::MAX);
            let fitting = fitting.min(bytes.len());
            let writes_back = state.random.chance(1, 8);
            let Some(content) = state.contents.get_mut(&self.inode) else {
                return Err(io::ErrorKind::NotFound.into());
            };
            if writes_back {
                content.write_back_some(&mut state.random);
            }
            content.write(&bytes[..fitting], position);
            if fitting < bytes.len() {
                Err(io::ErrorKind::StorageFull.into())
            } else {
                Ok(())
            }
        })
    }

    pub(super) fn sync_data(&self) -> io::Result<()> {
        self.disk.wait_while_stalled();
        self.disk.take_time(OpKind::Sync);
        let mut state = self.state()?;
        match state.begin(OpKind::Sync)? {
            Fate::Done if state.lies => Ok(()),
            Fate::Done => {
                state.content(self.inode)?.sync();
                Ok(())
            }
            Fate::PowerCut => Err(power_is_off()),
            Fate::Fails(error) => {
                state.content(self.inode)?.fail_sync();
                state.failed_syncs.insert(self.inode);
                Err(error)
            }
        }
    }

    pub(super) fn set_len(&self, len: u64) -> io::Result<()> {
        self.state_to_write()?.change(OpKind::SetLen, |state| {
            let content = state.content(self.inode)?;
            content.set_len(len);
            content.allocated = content.allocated.min(len);
            Ok(())
        })
    }

    pub(super) fn len(&self) -> io::Result<u64> {
        Ok(self.state()?.content(self.inode)?.len())
    }

    pub(super) fn allocate(&self, position: u64, len: u64) -> io::Result<()> {
        self.state_to_write()?.change(OpKind::Allocate, |state| {
            let end = position + len;
            let before = state.content(self.inode)?.allocated;
            if state.reserve(self.inode, end)? < end {
                state.content(self.inode)?.allocated = before;
                return Err(io::ErrorKind::StorageFull.into());
            }
            let content = state.content(self.inode)?;
            if content.len() < end {
                content.set_len(end);
            }
            Ok(())
        })
    }

    pub(super) fn try_lock_exclusive(&self) -> io::Result<bool> {
        let mut state = self.state()?;
        if !self.holds_lock.load(Ordering::SeqCst) && state.locked.insert(self.inode) {
            self.holds_lock.store(true, Ordering::SeqCst);
        }
        Ok(self.holds_lock.load(Ordering::SeqCst))
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.boot != self.boot {
            return;
        }
        if *self.holds_lock.get_mut() {
            state.locked.remove(&self.inode);
        }
        if let Some(content) = state.contents.get_mut(&self.inode) {
            content.handles -= 1;
        }
    }
}

fn power_is_off() -> io::Error {
    io::Error::other("the simulated power is off")
}
