//! The journal: one log on one disk for all shards of a node, and the only thing an answer to a
//! client waits for.
//!
//! It holds each shard's Raft entries, vote and committed position. One flusher thread takes what
//! is queued, writes it in one call, syncs once, calls back, and starts again at once; there is no
//! timer. Each round says which one before it was the last known to be synced, so what may be torn
//! is told from damage: with [`Durability::Fsync`] only the last round on disk can be. Files are recycled, because a sync
//! of bytes that were written before is nearly twice as fast.
//!
//! It never interprets payloads and never decides what may be dropped.

mod behind;
mod error;
mod flusher;
mod format;
mod index;
mod ledger;
mod pool;
mod reader;
mod recovery;
mod shared;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use self::behind::Behind;
pub use self::error::JournalError;
use self::flusher::Flusher;
use self::format::RoundEncoder;
use self::index::ShardIndex;
use self::pool::{JournalFile, Pool};
use self::recovery::{Scan, ScannedFile};
use self::shared::{Change, FileInUse, Shared};
use crate::disk::{Disk, OpenMode};
use crate::turns::{self, JoinHandle};
use crate::{Durability, LogIndex, LogPosition, ShardId, Term};

/// The largest payload of an entry.
const PAYLOAD_BYTES_MAX: usize = 1 << 30;

/// Settings of a [`Journal`].
#[derive(Debug, Clone)]
pub struct JournalConfig {
    /// Directory of the journal's files; made when absent.
    pub dir: PathBuf,
    /// Size of one file. A round larger than this gets a larger file.
    pub file_bytes: u64,
    /// A round takes queued changes until it holds this many bytes; one larger change goes alone.
    pub round_bytes_max: usize,
    /// Files kept ready ahead of need. While they cannot be made, [`Journal::admits_data`] is
    /// false.
    pub spare_files: usize,
    /// When changes are answered. Votes, removals of shards and what is appended with
    /// [`Journal::append_always_synced`] are always synced before.
    pub durability: Durability,
    /// A shard of which every change is synced before it is answered, in every mode.
    pub always_synced: Option<ShardId>,
    /// Nothing that was written before this opening can have got lost: at most the process died
    /// since. Then only the last round can be torn in any mode, and bad bytes with a later round
    /// behind them are damage.
    pub keeps_written: bool,
}

impl JournalConfig {
    /// The defaults: files of 64 MiB, rounds of 4 MiB, one spare file; power may have been lost.
    #[must_use]
    pub fn new(dir: PathBuf) -> JournalConfig {
        JournalConfig {
            dir,
            file_bytes: 64 << 20,
            round_bytes_max: 4 << 20,
            spare_files: 1,
            durability: Durability::default(),
            always_synced: None,
            keeps_written: false,
        }
    }
}

/// Called on the flusher thread once the change is durable (in the relaxed modes: written), or has
/// failed. It must not block.
pub type Synced = Box<dyn FnOnce(Result<(), JournalError>) + Send>;

/// An entry to append.
#[derive(Debug, Clone)]
pub struct JournalEntry {
    /// Its place in the shard's log.
    pub position: LogPosition,
    /// The payload, in pieces that are written one behind the other and never joined in memory.
    pub pieces: Vec<Bytes>,
}

/// An entry read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadEntry {
    /// Its place in the shard's log.
    pub position: LogPosition,
    /// The payload, whole.
    pub payload: Bytes,
}

/// What the journal knows of one shard.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShardLog {
    /// The last entry purged.
    pub floor: Option<LogPosition>,
    /// The last entry; the floor when the log has been emptied; `None` when there is neither.
    pub last: Option<LogPosition>,
    /// The vote saved last.
    pub vote: Option<Bytes>,
    /// The committed position saved last; after a crash it may be an older one.
    pub committed: Option<Bytes>,
}

/// The journal. Clones share it; the last one dropped closes it.
#[derive(Clone)]
pub struct Journal {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    pool: Arc<Pool>,
    threads: Mutex<Option<Threads>>,
}

struct Threads {
    flusher: JoinHandle,
    spares: JoinHandle,
    behind: Option<(Arc<Behind>, JoinHandle)>,
}

impl Journal {
    /// Whether a directory holds a journal, that is, at least one file of one. Changes nothing.
    pub fn exists(disk: &Disk, dir: &Path) -> Result<bool, JournalError> {
        if !disk
            .exists(dir)
            .map_err(JournalError::io("look for", dir))?
        {
            return Ok(false);
        }
        let entries = disk.read_dir(dir).map_err(JournalError::io("list", dir))?;
        let in_use = |name: &str| matches!(pool::name_kind(name).0, pool::NameKind::InUse { .. });
        Ok(entries.iter().any(|entry| in_use(&entry.name)))
    }

    /// Opens the journal of a directory, makes it when there is none, and recovers what a crash
    /// left: what was not known to be synced and is torn is dropped, with what came after it (and
    /// reported with `tracing`); what is whole of it is written and synced again, since a failed
    /// sync may have left it in memory only. Damage anywhere else is [`JournalError::Corrupt`],
    /// and nothing is changed then.
    pub fn open(disk: &Disk, config: JournalConfig) -> Result<Journal, JournalError> {
        make_dir(disk, &config.dir)?;
        let mut scan = recovery::scan(disk, &config.dir, config.keeps_written)?;
        if let Some((file, position)) = &scan.torn {
            let file = file.display();
            tracing::warn!(%file, position, "journal drops what follows, which is incomplete");
        }
        confirm_rounds(disk, &scan)?;
        // A file taken out of use may have its new name in memory only, and is written to soon.
        disk.sync_dir(&config.dir)
            .map_err(JournalError::io("sync", &config.dir))?;
        let pool = Arc::new(Pool::new(
            disk.clone(),
            config.clone(),
            scan.spares.clone(),
            scan.has_reserve,
            scan.next_number,
        ));
        let file = pool.first_file()?;
        // Only now, so that the newest file always is one in use; before the round is written after
        // which nothing of them may follow; and newest first, so that no file is missing between.
        for path in scan.unused.iter().rev() {
            pool.take_out_of_use(path.clone())?;
        }
        hand_over(disk, &mut scan)?;
        let files = files_in_use(disk, &scan, &file)?;

        let round_bytes_max = config.round_bytes_max;
        let shared = Shared::new(scan.indexes, files, round_bytes_max, config.always_synced);
        let shared = Arc::new(shared);
        let behind = config
            .durability
            .is_relaxed()
            .then(|| Arc::new(Behind::new(config.durability, scan.next_round - 1)));
        let flusher = Flusher::new(
            shared.clone(),
            pool.clone(),
            behind.clone(),
            scan.ledger,
            file,
            scan.next_round,
        );
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            turns::spawn(name, run).map_err(JournalError::io("start a thread for", &config.dir))
        };
        let for_spares = pool.clone();
        let spares = spawn("journal-spares", Box::new(move || for_spares.run()))?;
        let flusher = match spawn("journal-flusher", Box::new(move || flusher.run())) {
            Ok(flusher) => flusher,
            Err(error) => {
                pool.stop();
                return Err(error);
            }
        };
        let behind = match behind {
            None => None,
            Some(behind) => {
                let (run, failing) = (behind.clone(), shared.clone());
                let run = move || run.run(|error| failing.fail(error));
                match spawn("journal-syncer", Box::new(run)) {
                    Ok(thread) => Some((behind, thread)),
                    Err(error) => {
                        // The flusher, which has nothing to write, ends on its own.
                        shared.fail(error.clone());
                        shared.close();
                        pool.stop();
                        return Err(error);
                    }
                }
            }
        };
        let threads = Mutex::new(Some(Threads {
            flusher,
            spares,
            behind,
        }));
        Ok(Journal {
            inner: Arc::new(Inner {
                shared,
                pool,
                threads,
            }),
        })
    }

    /// The shards that have anything in the journal, in order.
    #[must_use]
    pub fn shards(&self) -> Vec<ShardId> {
        self.inner.shared.lock().shards.keys().copied().collect()
    }

    /// What is known of a shard; all `None` for a new one.
    #[must_use]
    pub fn shard_log(&self, shard: ShardId) -> ShardLog {
        self.inner
            .shared
            .lock()
            .shards
            .get(&shard)
            .map(ShardIndex::log)
            .unwrap_or_default()
    }

    /// Appends entries: they are readable when this returns and durable when `synced` runs.
    /// On an error nothing was appended and `synced` is dropped; so for every change below.
    /// Never waits: callers bound what they have in flight.
    ///
    /// # Panics
    /// When the indexes leave a hole: the first must follow the last entry (or the floor), unless
    /// the log is empty and has no floor. When a payload has more than 1 GiB.
    pub fn append(
        &self,
        shard: ShardId,
        entries: Vec<JournalEntry>,
        synced: Synced,
    ) -> Result<(), JournalError> {
        self.append_as(shard, entries, false, synced)
    }

    /// As [`Journal::append`], and synced before it is answered in every mode: for entries that
    /// must not be forgotten.
    ///
    /// # Errors
    /// As for [`Journal::append`].
    ///
    /// # Panics
    /// As [`Journal::append`] does.
    pub fn append_always_synced(
        &self,
        shard: ShardId,
        entries: Vec<JournalEntry>,
        synced: Synced,
    ) -> Result<(), JournalError> {
        self.append_as(shard, entries, true, synced)
    }

    fn append_as(
        &self,
        shard: ShardId,
        entries: Vec<JournalEntry>,
        is_always_synced: bool,
        synced: Synced,
    ) -> Result<(), JournalError> {
        for entry in &entries {
            let bytes: usize = entry.pieces.iter().map(Bytes::len).sum();
            assert!(bytes <= PAYLOAD_BYTES_MAX, "a payload of {bytes} bytes");
        }
        let state = self.inner.shared.lock_usable()?;
        let shared = &self.inner.shared;
        shared.append(state, shard, entries, is_always_synced, synced);
        Ok(())
    }

    /// Saves the shard's vote, replacing the one before.
    pub fn save_vote(
        &self,
        shard: ShardId,
        vote: Bytes,
        synced: Synced,
    ) -> Result<(), JournalError> {
        let mut state = self.inner.shared.lock_usable()?;
        state.shards.entry(shard).or_default().vote = Some(vote.clone());
        self.inner
            .shared
            .enqueue(state, shard, Change::Vote(vote), synced);
        Ok(())
    }

    /// Saves the shard's committed position lazily: it rides with a later round and forces none,
    /// so after a crash an older one may be found. Never one beyond the entries found.
    pub fn save_committed(&self, shard: ShardId, committed: Bytes) -> Result<(), JournalError> {
        self.inner
            .shared
            .lock_usable()?
            .save_committed(shard, committed);
        Ok(())
    }

    /// Drops the entries behind `last_kept`; `None` drops all above the floor.
    pub fn truncate_after(
        &self,
        shard: ShardId,
        last_kept: Option<LogPosition>,
        synced: Synced,
    ) -> Result<(), JournalError> {
        let mut state = self.inner.shared.lock_usable()?;
        let left = state
            .shards
            .entry(shard)
            .or_default()
            .truncate_after(last_kept);
        self.inner
            .shared
            .enqueue(state, shard, Change::Truncate(left), synced);
        Ok(())
    }

    /// Drops the entries up to and including `upto`, which becomes the floor. When `upto` lies
    /// above the last entry, or names another term than the entry there, all entries go and the
    /// log continues at `upto.index + 1`. At or below the floor nothing changes.
    pub fn purge(
        &self,
        shard: ShardId,
        upto: LogPosition,
        synced: Synced,
    ) -> Result<(), JournalError> {
        let mut state = self.inner.shared.lock_usable()?;
        let index = state.shards.entry(shard).or_default();
        let all = index.purge_drops_all(upto);
        index.purge(upto, all);
        self.inner
            .shared
            .enqueue(state, shard, Change::Purge { upto, all }, synced);
        Ok(())
    }

    /// Forgets everything about a shard.
    pub fn remove_shard(&self, shard: ShardId, synced: Synced) -> Result<(), JournalError> {
        let mut state = self.inner.shared.lock_usable()?;
        state.remove_shard(shard);
        self.inner
            .shared
            .enqueue(state, shard, Change::RemoveShard, synced);
        Ok(())
    }

    /// Entries from `from` on, below `to_exclusive`, as many as fit `bytes_max` of payload; the
    /// first is returned whatever its size. Empty when `from` does not exist. What is not written
    /// yet comes from memory; the rest is read from the disk (this may block) and checked.
    pub fn read(
        &self,
        shard: ShardId,
        from: LogIndex,
        to_exclusive: LogIndex,
        bytes_max: usize,
    ) -> Result<Vec<ReadEntry>, JournalError> {
        reader::read(&self.inner.shared, shard, from, to_exclusive, bytes_max)
    }

    /// Term of an entry, or of the floor; `None` for what does not exist.
    #[must_use]
    pub fn term_of(&self, shard: ShardId, index: LogIndex) -> Option<Term> {
        self.inner.shared.lock().shards.get(&shard)?.term_of(index)
    }

    /// The last entry that is written, which is durable but in the relaxed modes; the floor when the
    /// log has been emptied. For the checks of the simulation.
    #[doc(hidden)]
    #[must_use]
    pub fn written_end(&self, shard: ShardId) -> Option<LogPosition> {
        self.inner.shared.lock().shards.get(&shard)?.written_end()
    }

    /// False while space for more data cannot be reserved: callers then refuse new data. The
    /// journal still takes what was admitted before, and control entries.
    #[must_use]
    pub fn admits_data(&self) -> bool {
        !self.inner.pool.is_short_of_space()
    }

    /// Why the journal has failed, once it has. It never recovers: close it and open it again.
    #[must_use]
    pub fn failed(&self) -> Option<JournalError> {
        self.inner.shared.failed()
    }

    /// Runs `f` once when the journal fails, at once when it has already.
    pub fn on_failure(&self, f: Box<dyn FnOnce(JournalError) + Send>) {
        self.inner.shared.on_failure(f);
    }

    /// Bytes this shard's entries above `index` take in the journal, to pace checkpoints.
    #[must_use]
    pub fn bytes_since(&self, shard: ShardId, index: LogIndex) -> u64 {
        let state = self.inner.shared.lock();
        state
            .shards
            .get(&shard)
            .map_or(0, |shard| shard.bytes_since(index))
    }

    /// Bytes in files that cannot be recycled yet.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.inner.shared.held_bytes()
    }

    /// Writes what is queued, then the seal that makes every later damage detectable, and ends
    /// the threads. Later changes are refused with [`JournalError::Closed`]. May be called twice.
    pub fn close(&self) {
        self.inner.close();
    }
}

impl Inner {
    fn close(&self) {
        self.shared.close();
        self.pool.close();
        let mut threads = turns::lock(&self.threads).unwrap_or_else(PoisonError::into_inner);
        let Some(Threads {
            flusher,
            spares,
            behind,
        }) = threads.take()
        else {
            return;
        };
        // A callback may hold the last clone: the flusher can't wait for itself, but it ends soon.
        if !flusher.is_current() && flusher.join().is_err() {
            // Its panic has been reported, and the journal is marked as failed.
            tracing::debug!("journal flusher ended by a panic");
        }
        if let Some((behind, thread)) = behind {
            behind.stop();
            if !thread.is_current() && thread.join().is_err() {
                tracing::debug!("journal syncer ended by a panic");
            }
        }
        self.pool.stop();
        if spares.join().is_err() {
            tracing::debug!("journal spares thread ended by a panic");
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal").finish_non_exhaustive()
    }
}

/// Makes the directory with a durable name.
fn make_dir(disk: &Disk, dir: &Path) -> Result<(), JournalError> {
    if disk.exists(dir).map_err(JournalError::io("look up", dir))? {
        return Ok(());
    }
    disk.create_dir_all(dir)
        .map_err(JournalError::io("make", dir))?;
    let parent = dir.parent().unwrap_or(Path::new("."));
    disk.sync_dir(parent)
        .map_err(JournalError::io("sync", parent))
}

/// Writes the rounds once more that are not known to be synced, and syncs them: after a failed sync
/// they may be in the page cache only.
fn confirm_rounds(disk: &Disk, scan: &Scan) -> Result<(), JournalError> {
    for rounds in &scan.doubtful {
        let path = &rounds.path;
        let file = disk
            .open(path, OpenMode::ReadWrite)
            .map_err(JournalError::io("open", path))?;
        file.write_all_at(&rounds.bytes, rounds.start)
            .map_err(JournalError::io("write", path))?;
        file.sync_data().map_err(JournalError::io("sync", path))?;
    }
    Ok(())
}

/// Says at the end of what was the newest file that there is a later one now, and cuts it there.
fn hand_over(disk: &Disk, scan: &mut Scan) -> Result<(), JournalError> {
    let Some(scanned) = scan.files.last_mut() else {
        return Ok(());
    };
    let path = &scanned.path;
    let file = disk
        .open(path, OpenMode::ReadWrite)
        .map_err(JournalError::io("open", path))?;
    if !scan.is_continued {
        let position = format::align_round(scanned.used_bytes);
        let mut round = RoundEncoder::new(scanned.identity, scan.next_round, position, 0, 1);
        round.push(format::next_frame(), &[]);
        let (pieces, bytes) = round.finish();
        file.write_vectored_all_at(&pieces, position)
            .map_err(JournalError::io("write", path))?;
        file.sync_data().map_err(JournalError::io("sync", path))?;
        scanned.used_bytes = position + bytes;
        scan.next_round += 1;
    }
    if scanned.len > scanned.used_bytes {
        file.set_len(scanned.used_bytes)
            .map_err(JournalError::io("shorten", path))?;
    }
    Ok(())
}

fn files_in_use(
    disk: &Disk,
    scan: &Scan,
    newest: &JournalFile,
) -> Result<BTreeMap<u64, FileInUse>, JournalError> {
    let mut files = BTreeMap::new();
    for scanned in &scan.files {
        let ScannedFile {
            identity,
            path,
            len,
            used_bytes,
            ..
        } = scanned;
        let file = disk
            .open(path, OpenMode::Read)
            .map_err(JournalError::io("open", path))?;
        let file = JournalFile {
            identity: *identity,
            path: path.clone(),
            file,
            len: *len,
        };
        let file = FileInUse {
            file: Arc::new(file),
            used_bytes: *used_bytes,
        };
        files.insert(identity.sequence, file);
    }
    let newest_in_use = FileInUse {
        file: Arc::new(newest.clone()),
        used_bytes: 0,
    };
    files.insert(newest.identity.sequence, newest_in_use);
    Ok(files)
}

/// What [`verify`] found.
#[derive(Debug, Clone, Default)]
pub struct JournalReport {
    /// The files in use, oldest first.
    pub files: Vec<JournalFileReport>,
    /// What the journal holds of each shard.
    pub shards: Vec<(ShardId, ShardLog)>,
    /// Whether it was closed cleanly.
    pub is_sealed: bool,
    /// Whether the last round is torn and would be dropped on open.
    pub has_torn_round: bool,
    /// Why it cannot be opened, if so.
    pub error: Option<JournalError>,
}

/// One file of a [`JournalReport`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalFileReport {
    /// The file.
    pub path: PathBuf,
    /// Its number.
    pub sequence: u64,
    /// Rounds in it.
    pub rounds: u64,
    /// Frames in it.
    pub frames: u64,
    /// Bytes up to the end of its last round.
    pub used_bytes: u64,
}

/// Checks a journal that is not open, changing nothing. No directory is an empty journal.
#[must_use]
pub fn verify(disk: &Disk, dir: &Path) -> JournalReport {
    recovery::verify(disk, dir, false)
}

/// As [`verify`], where nothing that was written can have got lost, see
/// [`JournalConfig::keeps_written`].
#[must_use]
pub fn verify_kept(disk: &Disk, dir: &Path) -> JournalReport {
    recovery::verify(disk, dir, true)
}
