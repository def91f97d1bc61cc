//! Reading a journal back: what is whole, what is torn, what is damaged. Changes nothing.
//!
//! Rounds are numbered without gaps, and each says which one before it was the last known to be
//! synced, with all before that. So the first bad bytes are a torn write if no later round knows
//! theirs to be synced; else they are damage, and the journal is refused as it is. A torn round is
//! dropped whole, and whatever came after it. (When each round is synced before the next is begun,
//! any later round is proof of damage. So it is where nothing that was written can have got lost.)

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::format::{self, FileIdentity, Frame, FrameFault, Kind};
use super::index::{FilePlace, Place, ShardIndex};
use super::ledger::{Ledger, NO_FILE};
use super::pool::{self, NameKind};
use super::{JournalError, JournalFileReport, JournalReport};
use crate::bugs::{self, Bug};
use crate::disk::Disk;
use crate::{LogIndex, ShardId};

/// What a journal's directory holds.
#[derive(Debug, Default)]
pub(super) struct Scan {
    pub(super) ledger: Ledger,
    pub(super) indexes: BTreeMap<ShardId, ShardIndex>,
    /// Files with at least one whole round, oldest first.
    pub(super) files: Vec<ScannedFile>,
    /// Files put in use that hold no whole round.
    pub(super) unused: Vec<PathBuf>,
    pub(super) spares: Vec<PathBuf>,
    pub(super) has_reserve: bool,
    /// What is not known to be synced, by file, oldest first.
    pub(super) doubtful: Vec<DoubtfulRounds>,
    /// The last round known to be synced.
    synced_round: u64,
    pub(super) next_round: u64,
    pub(super) next_number: u64,
    pub(super) is_sealed: bool,
    /// The newest file says that there is a later one.
    pub(super) is_continued: bool,
    /// Where the journal is torn, if it is; what came after is dropped.
    pub(super) torn: Option<(PathBuf, u64)>,
}

#[derive(Debug)]
pub(super) struct ScannedFile {
    pub(super) identity: FileIdentity,
    pub(super) path: PathBuf,
    pub(super) len: u64,
    pub(super) used_bytes: u64,
    rounds: u64,
    frames: u64,
}

/// Whole rounds at the end of a file that are not known to be synced: they may be in the page
/// cache only.
#[derive(Debug)]
pub(super) struct DoubtfulRounds {
    pub(super) path: PathBuf,
    pub(super) start: u64,
    pub(super) bytes: Vec<u8>,
    /// The last of them.
    last: u64,
}

/// Where the journal is torn: all later files are dropped, unless one proves this to be damage.
struct Tear {
    path: PathBuf,
    fault: Fault,
    round: u64,
}

/// Bytes where a round should start and none does.
#[derive(Debug)]
struct Fault {
    position: u64,
    expected: String,
    found: String,
}

/// Reads the journal of a directory that exists. `keeps_written`: see
/// `JournalConfig::keeps_written`.
pub(super) fn scan(disk: &Disk, dir: &Path, keeps_written: bool) -> Result<Scan, JournalError> {
    let mut scan = Scan {
        next_round: 1,
        next_number: NO_FILE + 1,
        ..Scan::default()
    };
    let mut in_use = Vec::new();
    for entry in disk.read_dir(dir).map_err(JournalError::io("list", dir))? {
        let path = dir.join(&entry.name);
        let (kind, number) = pool::name_kind(&entry.name);
        scan.next_number = scan
            .next_number
            .max(number.map_or(0, |number| number.saturating_add(1)));
        match kind {
            NameKind::InUse { sequence } => in_use.push((sequence, path)),
            NameKind::Spare => scan.spares.push(path),
            NameKind::Reserve => scan.has_reserve = true,
            NameKind::Foreign => {
                tracing::warn!(path = %path.display(), "journal ignores a file that is not its own");
            }
        }
    }
    in_use.sort();
    // What ended the file before, which a later file may prove to be damage.
    let mut fault: Option<(PathBuf, Fault)> = None;
    let mut tear: Option<Tear> = None;
    for (sequence, path) in in_use {
        let reader = FileReader::open(disk, &path, sequence, keeps_written)?;
        if tear.is_none() {
            // Does this file go on where the one before ended?
            tear = scan.tear_before(&reader, &mut fault);
        }
        if let Some(tear) = &tear {
            tear.check_no_proof(&reader)?;
            let at = (tear.path.clone(), tear.fault.position);
            scan.torn.get_or_insert(at);
            scan.unused.push(path);
            continue;
        }
        match scan.read_file(&reader, fault.take())? {
            Some(ended_by) => fault = Some((path, ended_by)),
            None => fault = None,
        }
    }
    let synced_round = scan.synced_round;
    scan.doubtful.retain(|rounds| rounds.last > synced_round);
    scan.check_nothing_is_missing()?;
    scan.check_the_end_is_there()?;
    Ok(scan)
}

impl Scan {
    /// Reads one file; `before` is what ended the file before. Returns what ended this one.
    fn read_file(
        &mut self,
        file: &FileReader,
        before: Option<(PathBuf, Fault)>,
    ) -> Result<Option<Fault>, JournalError> {
        let mut scanned = ScannedFile {
            identity: file.identity,
            path: file.path.clone(),
            len: file.bytes.len() as u64,
            used_bytes: format::FILE_HEADER_BYTES as u64,
            rounds: 0,
            frames: 0,
        };
        let mut position = scanned.used_bytes;
        let mut before = before;
        // The rounds of this file that are not known to be synced: number and place.
        let mut doubtful: VecDeque<(u64, u64)> = VecDeque::new();
        let ended_by = loop {
            // In the oldest file that is left the rounds may start at any number.
            let is_first_of_all = self.files.is_empty() && scanned.rounds == 0;
            let expected = (!is_first_of_all || !self.unused.is_empty()).then_some(self.next_round);
            let frames = match file.read_round(position)? {
                Ok(frames) => frames,
                Err(fault) => {
                    self.check_is_last(file, &fault, position)?;
                    break Some(fault);
                }
            };
            let round = frames[0].1.round;
            if expected.is_some_and(|expected| expected != round) {
                // A later file that goes on elsewhere: then it is the file before that is damaged.
                let (path, fault) = before.take().unwrap_or_else(|| {
                    let expected = format!("round {}", self.next_round);
                    (
                        file.path.clone(),
                        Fault {
                            position,
                            expected,
                            found: format!("round {round}"),
                        },
                    )
                });
                return Err(fault.corrupt(&path));
            }
            before = None;
            let is_state = frames[0].1.head.kind == Kind::State;
            if is_state != (scanned.rounds == 0) {
                let found = format!("a frame of kind {:?}", frames[0].1.head.kind);
                let expected = "the state as the first frame of a file and nowhere else".into();
                return Err(Fault {
                    position,
                    expected,
                    found,
                }
                .corrupt(&file.path));
            }
            for (at, frame) in &frames {
                self.apply(file, *at, frame)?;
            }
            let (last_at, last) = &frames[frames.len() - 1];
            scanned.used_bytes = last_at + format::frame_bytes(last.payload.len()) as u64;
            scanned.rounds += 1;
            scanned.frames += frames.len() as u64;
            self.is_sealed = last.head.kind == Kind::Seal;
            self.is_continued = last.head.kind == Kind::Next;
            self.torn = None;
            self.next_round = round + 1;
            self.synced_round = self.synced_round.max(frames[0].1.synced_round());
            doubtful.push_back((round, position));
            while doubtful
                .front()
                .is_some_and(|(round, _)| *round <= self.synced_round)
            {
                doubtful.pop_front();
            }
            position = format::align_round(scanned.used_bytes);
            // Nothing follows the round that says so but what a torn journal held before.
            if position >= scanned.len || self.is_continued {
                break None;
            }
        };
        // A file is cut only behind the round that says that there is a later one.
        let may_be_cut = scanned.rounds > 0 && self.is_continued;
        let shortened = scanned.len < file.reserved_bytes && !may_be_cut;
        if shortened {
            let fault = Fault {
                position: scanned.len,
                expected: format!("{} bytes", file.reserved_bytes),
                found: format!("{} bytes", scanned.len),
            };
            return Err(fault.corrupt(&file.path));
        }
        if let (Some((_, start)), Some((last, _))) = (doubtful.front(), doubtful.back()) {
            let bytes = file.bytes[in_memory(*start)..in_memory(scanned.used_bytes)].to_vec();
            self.doubtful.push(DoubtfulRounds {
                path: file.path.clone(),
                start: *start,
                bytes,
                last: *last,
            });
        }
        if scanned.rounds > 0 {
            self.files.push(scanned);
        } else {
            self.unused.push(file.path.clone());
        }
        Ok(ended_by)
    }

    /// Whether what ended the file before is a tear for good, since this file goes on further on.
    fn tear_before(
        &self,
        file: &FileReader,
        before: &mut Option<(PathBuf, Fault)>,
    ) -> Option<Tear> {
        let first = format::FILE_HEADER_BYTES as u64;
        let frame = file.round_start_at(first)?.ok()?;
        let is_further_on = !self.files.is_empty() || !self.unused.is_empty();
        if !is_further_on || frame.round <= self.next_round {
            return None;
        }
        let (path, fault) = before.take()?;
        Some(Tear {
            path,
            fault,
            round: self.next_round,
        })
    }

    /// Errs when anything behind a fault proves that what should be there was durable.
    fn check_is_last(
        &mut self,
        file: &FileReader,
        fault: &Fault,
        round_start: u64,
    ) -> Result<(), JournalError> {
        let later = file.check_no_proof(
            round_start + format::ROUND_ALIGNMENT,
            self.next_round,
            || fault.corrupt(&file.path),
        )?;
        let begins_whole = matches!(file.round_start_at(round_start), Some(Ok(_)));
        if later || begins_whole {
            self.torn = Some((file.path.clone(), round_start));
        }
        Ok(())
    }

    fn apply(&mut self, file: &FileReader, at: u64, frame: &Frame<'_>) -> Result<(), JournalError> {
        let corrupt = |expected: String, found: String| {
            Err(Fault {
                position: at,
                expected,
                found,
            }
            .corrupt(&file.path))
        };
        let (head, sequence) = (&frame.head, file.identity.sequence);
        match head.kind {
            Kind::State => {
                let Some(state) = format::decode_state(frame.payload, NO_FILE) else {
                    return corrupt("a state".into(), "malformed bytes".into());
                };
                return self
                    .meet_state(state)
                    .or_else(|(expected, found)| corrupt(expected, found));
            }
            Kind::Entry => {
                let next = self
                    .ledger
                    .shards
                    .get(&head.shard)
                    .and_then(|shard| shard.next_index());
                if let Some(next) = next.filter(|next| *next != head.position.index) {
                    let expected = format!("entry {next} of shard {}", head.shard);
                    return corrupt(expected, format!("entry {}", head.position));
                }
                let payload_len = u32::try_from(frame.payload.len()).unwrap_or(u32::MAX);
                let place = FilePlace {
                    file: sequence,
                    position: at,
                    payload_len,
                };
                let bytes = format::frame_bytes(frame.payload.len()) as u64;
                self.indexes.entry(head.shard).or_default().append(
                    head.position,
                    Place::File(place),
                    bytes,
                );
            }
            Kind::Vote | Kind::Committed => {
                let index = self.indexes.entry(head.shard).or_default();
                let value = Some(Bytes::copy_from_slice(frame.payload));
                let field = if head.kind == Kind::Vote {
                    &mut index.vote
                } else {
                    &mut index.committed
                };
                *field = value;
            }
            Kind::Truncate => {
                let kept = (!head.is_all()).then_some(head.position);
                self.indexes
                    .entry(head.shard)
                    .or_default()
                    .truncate_after(kept);
            }
            Kind::Purge => {
                self.indexes
                    .entry(head.shard)
                    .or_default()
                    .purge(head.position, head.is_all());
            }
            Kind::RemoveShard => drop(self.indexes.remove(&head.shard)),
            Kind::Seal | Kind::Next => {}
        }
        self.ledger
            .apply(head, || Bytes::copy_from_slice(frame.payload), sequence);
        Ok(())
    }

    /// Starts from the state of the oldest file, or compares it with what the frames before said.
    fn meet_state(&mut self, state: Ledger) -> Result<(), (String, String)> {
        if self.files.is_empty() {
            for (id, shard) in &state.shards {
                let (vote, committed) = (shard.vote.clone(), shard.committed.clone());
                self.indexes
                    .insert(*id, ShardIndex::restore(shard.floor, vote, committed));
            }
            self.ledger = state;
            return Ok(());
        }
        let same = state.shards.len() == self.ledger.shards.len()
            && state.shards.iter().all(|(id, shard)| {
                self.ledger
                    .shards
                    .get(id)
                    .is_some_and(|known| known.says_same(shard))
            });
        if same {
            Ok(())
        } else {
            Err((format!("{:?}", self.ledger), format!("{state:?}")))
        }
    }

    /// Errs when entries still in the log were in files older than those that are left.
    fn check_nothing_is_missing(&self) -> Result<(), JournalError> {
        let (Some(oldest), Some(NO_FILE)) = (self.files.first(), self.ledger.oldest_file()) else {
            return Ok(());
        };
        let missing = self
            .ledger
            .shards
            .iter()
            .find(|(_, shard)| shard.oldest_file() == Some(NO_FILE));
        let first = missing
            .and_then(|(_, shard)| shard.entries())
            .map_or(LogIndex(0), |it| it.0);
        let shard = missing.map_or(ShardId(0), |(shard, _)| *shard);
        let expected = format!("entry {first} of shard {shard} in an older file");
        Err(Fault {
            position: 0,
            expected,
            found: "no such file".into(),
        }
        .corrupt(&oldest.path))
    }

    /// Errs when the newest file that is left says that there was a later one.
    fn check_the_end_is_there(&self) -> Result<(), JournalError> {
        match self.files.last() {
            Some(newest) if self.is_continued && self.unused.is_empty() => Err(Fault {
                position: newest.used_bytes,
                expected: "a later file".into(),
                found: "none".into(),
            }
            .corrupt(&newest.path)),
            _ => Ok(()),
        }
    }

    fn report(self) -> JournalReport {
        let file = |file: ScannedFile| JournalFileReport {
            path: file.path,
            sequence: file.identity.sequence,
            rounds: file.rounds,
            frames: file.frames,
            used_bytes: file.used_bytes,
        };
        JournalReport {
            files: self.files.into_iter().map(file).collect(),
            shards: self
                .indexes
                .iter()
                .map(|(shard, index)| (*shard, index.log()))
                .collect(),
            is_sealed: self.is_sealed,
            has_torn_round: self.torn.is_some(),
            error: None,
        }
    }
}

impl Tear {
    /// Errs when a later file proves that what is torn was durable.
    fn check_no_proof(&self, file: &FileReader) -> Result<(), JournalError> {
        let first = format::FILE_HEADER_BYTES as u64;
        file.check_no_proof(first, self.round, || self.fault.corrupt(&self.path))
            .map(|_| ())
    }
}

impl Fault {
    fn corrupt(&self, file: &Path) -> JournalError {
        JournalError::Corrupt {
            file: file.to_owned(),
            position: self.position,
            expected: self.expected.clone(),
            found: self.found.clone(),
        }
    }
}

/// One file in memory.
struct FileReader {
    path: PathBuf,
    identity: FileIdentity,
    reserved_bytes: u64,
    /// Nothing that was written before a round can be missing.
    keeps_written: bool,
    bytes: Vec<u8>,
}

impl FileReader {
    fn open(
        disk: &Disk,
        path: &Path,
        sequence: u64,
        keeps_written: bool,
    ) -> Result<FileReader, JournalError> {
        let bytes = disk
            .read_file(path)
            .map_err(JournalError::io("read", path))?;
        let (identity, reserved_bytes) = format::decode_file_header(path, &bytes)?;
        if identity.sequence != sequence {
            let expected = format!("file {sequence}");
            let found = format!("file {}", identity.sequence);
            return Err(Fault {
                position: 16,
                expected,
                found,
            }
            .corrupt(path));
        }
        Ok(FileReader {
            path: path.to_owned(),
            identity,
            reserved_bytes,
            keeps_written,
            bytes,
        })
    }

    /// The first frame of a round that starts here, or one that this version does not know.
    fn round_start_at(&self, position: u64) -> Option<Result<Frame<'_>, FrameFault>> {
        let bytes = self.bytes.get(usize::try_from(position).ok()?..)?;
        match format::decode_frame(self.identity, bytes) {
            Ok(frame) if frame.round_start == position => Some(Ok(frame)),
            Err(unknown @ FrameFault::Unknown { .. }) => Some(Err(unknown)),
            _ => None,
        }
    }

    /// Looks at the rounds that start at `from` or behind: errs when one knows `torn` to be synced,
    /// or at any where nothing written is lost: it was begun when `torn` was written.
    /// Returns whether there are any.
    fn check_no_proof(
        &self,
        from: u64,
        torn: u64,
        damage: impl Fn() -> JournalError,
    ) -> Result<bool, JournalError> {
        if bugs::is_on(Bug::DamageTakenForTear) {
            return Ok(true);
        }
        let mut position = from;
        let mut has_any = false;
        while position < self.bytes.len() as u64 {
            let may_be_torn = |frame: &Frame<'_>| {
                !self.keeps_written && frame.round > torn && frame.synced_round() < torn
            };
            match self.round_start_at(position) {
                Some(Ok(frame)) if may_be_torn(&frame) => has_any = true,
                Some(_) => return Err(damage()),
                None => {}
            }
            position += format::ROUND_ALIGNMENT;
        }
        Ok(has_any)
    }

    /// The frames of the round that starts here with their positions, if it is whole.
    fn read_round(&self, start: u64) -> Result<Result<Vec<(u64, Frame<'_>)>, Fault>, JournalError> {
        let mut frames: Vec<(u64, Frame<'_>)> = Vec::new();
        let mut position = start;
        loop {
            let rest = usize::try_from(position)
                .ok()
                .and_then(|at| self.bytes.get(at..));
            let frame = match format::decode_frame(self.identity, rest.unwrap_or(&[])) {
                Ok(frame) => frame,
                Err(FrameFault::NotAFrame { expected, found }) => {
                    return Ok(Err(Fault {
                        position,
                        expected,
                        found,
                    }));
                }
                Err(FrameFault::Unknown { what, number }) => {
                    let file = self.path.clone();
                    return Err(JournalError::Unsupported { file, what, number });
                }
            };
            let round = frames.first().map_or(frame.round, |(_, first)| first.round);
            let expected = (round, frames.len() as u64, start);
            let found = (frame.round, u64::from(frame.number), frame.round_start);
            if expected != found {
                // Whole frames of this file in the wrong place: no torn write does that.
                let say =
                    |(round, number, start)| format!("frame {number} of round {round} at {start}");
                let fault = Fault {
                    position,
                    expected: say(expected),
                    found: say(found),
                };
                return Err(fault.corrupt(&self.path));
            }
            let is_last = frame.is_last();
            frames.push((position, frame));
            if is_last {
                return Ok(Ok(frames));
            }
            position += format::frame_bytes(frame.payload.len()) as u64;
        }
    }
}

/// A position in bytes that have been read.
fn in_memory(position: u64) -> usize {
    usize::try_from(position).expect("it lies in a file that fits into memory")
}

/// See [`super::verify`] and [`super::verify_kept`].
pub(super) fn verify(disk: &Disk, dir: &Path, keeps_written: bool) -> JournalReport {
    match disk.exists(dir).map_err(JournalError::io("look up", dir)) {
        Ok(true) => {}
        Ok(false) => return JournalReport::default(),
        Err(error) => {
            return JournalReport {
                error: Some(error),
                ..JournalReport::default()
            };
        }
    }
    match scan(disk, dir, keeps_written) {
        Ok(scan) => scan.report(),
        Err(error) => JournalReport {
            error: Some(error),
            ..JournalReport::default()
        },
    }
}
