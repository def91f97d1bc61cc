//! The bytes of a journal file, both directions, all pure. See `docs/storage-format.md`.
//!
//! All integers are little-endian. A file is a header of 4096 bytes and then rounds; a round
//! starts at a multiple of 512 bytes and is frames back to back, the last of them marked.
//!
//! ```text
//! header                          frame
//!  0  magic     [u8; 8]            0  magic        u32
//!  8  version   u32                4  crc          u32  of salt, bytes 8.. and payload
//! 12  zero      u32                8  length       u32  of the payload
//! 16  sequence  u64               12  kind         u8
//! 24  salt      u64               13  flags        u8   1 last of its round, 2 "all"
//! 32  length    u64  reserved                           (0x80 reserved: payload by reference)
//! 40  zeros                       14  unsynced     u16  rounds before this one, not known to be
//!                                                       synced when it was written
//! 4092 crc      u32  of 0..4092
//!                                 16  shard        u32
//!                                 20  number       u32  in its round, from 0
//!                                 24  index        u64
//!                                 32  term         u64
//!                                 40  round        u64
//!                                 48  round start  u64  position in the file
//!                                 56  payload, then zeros up to a multiple of 8
//! ```
//!
//! The salt is new each time a file is prepared for use, so that what a recycled file held before
//! never passes for a frame, nor does a record that somebody made to look like one.

use std::path::Path;

use bytes::{Bytes, BytesMut};

use super::JournalError;
use super::ledger::{Ledger, ShardLedger};
use crate::{LogIndex, LogPosition, ShardId, Term};

pub(super) const FILE_HEADER_BYTES: usize = 4096;
pub(super) const FRAME_HEADER_BYTES: usize = 56;
/// Rounds start at multiples of this, so that writing one never touches a sector of another.
pub(super) const ROUND_ALIGNMENT: u64 = 512;
const FRAME_ALIGNMENT: usize = 8;

const FILE_MAGIC: [u8; 8] = *b"BLJOURNL";
const FILE_VERSION: u32 = 1;
const FRAME_MAGIC: u32 = u32::from_le_bytes(*b"BLjf");

/// The frame ends its round.
pub(super) const FLAG_LAST: u8 = 1;
/// Truncate: nothing above the floor is kept. Purge: no entry is kept.
pub(super) const FLAG_ALL: u8 = 2;
const FLAGS_KNOWN: u8 = FLAG_LAST | FLAG_ALL;

/// What a frame says. Number 9 is reserved for an entry whose payload lies elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// First in each file: everything but the entries, as of the round before.
    State = 1,
    Entry = 2,
    Vote = 3,
    Committed = 4,
    Truncate = 5,
    Purge = 6,
    RemoveShard = 7,
    /// Alone at the end of a journal that was closed.
    Seal = 8,
    /// Alone at the end of a file: a later one is in use, and has been since before this was
    /// written.
    Next = 10,
}

impl Kind {
    fn of(number: u8) -> Option<Kind> {
        Some(match number {
            1 => Kind::State,
            2 => Kind::Entry,
            3 => Kind::Vote,
            4 => Kind::Committed,
            5 => Kind::Truncate,
            6 => Kind::Purge,
            7 => Kind::RemoveShard,
            8 => Kind::Seal,
            10 => Kind::Next,
            _ => return None,
        })
    }
}

/// Identity of a file: its place among the others and the salt of its checksums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileIdentity {
    pub(super) sequence: u64,
    pub(super) salt: u64,
}

/// The header of a file that is `len` bytes long while it is the newest in use.
pub(super) fn encode_file_header(identity: FileIdentity, len: u64) -> [u8; FILE_HEADER_BYTES] {
    let mut header = [0; FILE_HEADER_BYTES];
    header[..8].copy_from_slice(&FILE_MAGIC);
    header[8..12].copy_from_slice(&FILE_VERSION.to_le_bytes());
    header[16..24].copy_from_slice(&identity.sequence.to_le_bytes());
    header[24..32].copy_from_slice(&identity.salt.to_le_bytes());
    header[32..40].copy_from_slice(&len.to_le_bytes());
    let crc = crc32fast::hash(&header[..FILE_HEADER_BYTES - 4]);
    header[FILE_HEADER_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
    header
}

/// The file's identity, and the length that was reserved for it.
pub(super) fn decode_file_header(
    file: &Path,
    bytes: &[u8],
) -> Result<(FileIdentity, u64), JournalError> {
    let corrupt = |position: u64, expected: String, found: String| {
        Err(JournalError::Corrupt {
            file: file.to_owned(),
            position,
            expected,
            found,
        })
    };
    let Some(header) = bytes.first_chunk::<FILE_HEADER_BYTES>() else {
        let expected = format!("a header of {FILE_HEADER_BYTES} bytes");
        return corrupt(0, expected, format!("{} bytes", bytes.len()));
    };
    if header[..8] != FILE_MAGIC {
        let found = header[..8].escape_ascii().to_string();
        return corrupt(0, "the magic BLJOURNL".into(), found);
    }
    let (stored, computed) = (
        u32_at(header, FILE_HEADER_BYTES - 4),
        crc32fast::hash(&header[..FILE_HEADER_BYTES - 4]),
    );
    if stored != computed {
        let expected = format!("header checksum {stored:08x}");
        return corrupt(
            FILE_HEADER_BYTES as u64 - 4,
            expected,
            format!("{computed:08x}"),
        );
    }
    let version = u32_at(header, 8);
    if version != FILE_VERSION {
        let file = file.to_owned();
        return Err(JournalError::Unsupported {
            file,
            what: "format version",
            number: version,
        });
    }
    let identity = FileIdentity {
        sequence: u64_at(header, 16),
        salt: u64_at(header, 24),
    };
    Ok((identity, u64_at(header, 32)))
}

/// Bytes kept free at the end of a file for the round that says which way it goes on.
pub(super) const NEXT_ROUND_BYTES: u64 = ROUND_ALIGNMENT;

/// The frame of that round.
pub(super) fn next_frame() -> FrameHead {
    FrameHead {
        kind: Kind::Next,
        flags: 0,
        shard: ShardId::default(),
        position: LogPosition::default(),
    }
}

/// What a frame carries besides its payload and its place in the round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameHead {
    pub(super) kind: Kind,
    pub(super) flags: u8,
    pub(super) shard: ShardId,
    pub(super) position: LogPosition,
}

/// A frame found in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub(super) head: FrameHead,
    pub(super) number: u32,
    pub(super) round: u64,
    pub(super) round_start: u64,
    /// Rounds right before its own that were not known to be synced when it was written.
    pub(super) unsynced_rounds: u16,
    pub(super) payload: &'a [u8],
}

/// Why there is no frame at a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FrameFault {
    /// The bytes are no frame: never written, torn or damaged.
    NotAFrame { expected: String, found: String },
    /// A whole frame of a kind or with flags that this version does not know.
    Unknown { what: &'static str, number: u32 },
}

/// Bytes that a frame takes with a payload of this length.
pub(super) fn frame_bytes(payload_len: usize) -> usize {
    (FRAME_HEADER_BYTES + payload_len).next_multiple_of(FRAME_ALIGNMENT)
}

/// Where the next round may start behind bytes that end here.
pub(super) fn align_round(position: u64) -> u64 {
    position.next_multiple_of(ROUND_ALIGNMENT)
}

fn checksum(salt: u64, header_rest: &[u8]) -> crc32fast::Hasher {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&salt.to_le_bytes());
    hasher.update(header_rest);
    hasher
}

/// Puts the frames of one round together as pieces for one vectored write. Small payload pieces
/// are copied beside their headers, large ones are only referred to.
#[derive(Debug)]
pub(super) struct RoundEncoder {
    identity: FileIdentity,
    round: u64,
    round_start: u64,
    unsynced_rounds: u16,
    frames_left: u32,
    next_number: u32,
    bytes: u64,
    scratch: BytesMut,
    pieces: Vec<Bytes>,
}

/// Pieces up to this size are cheaper copied than handed to the system one by one.
const PIECE_BYTES_COPIED_MAX: usize = 512;

impl RoundEncoder {
    /// A round of exactly `frames` frames at `round_start`; this many rounds right before it are
    /// not known to be synced.
    pub(super) fn new(
        identity: FileIdentity,
        round: u64,
        round_start: u64,
        unsynced_rounds: u16,
        frames: u32,
    ) -> RoundEncoder {
        RoundEncoder {
            identity,
            round,
            round_start,
            unsynced_rounds,
            frames_left: frames,
            next_number: 0,
            bytes: 0,
            scratch: BytesMut::with_capacity(frames as usize * (FRAME_HEADER_BYTES + 64)),
            pieces: Vec::with_capacity(frames as usize * 2),
        }
    }

    /// Adds a frame; returns its position in the file.
    pub(super) fn push(&mut self, head: FrameHead, payload: &[Bytes]) -> u64 {
        let position = self.round_start + self.bytes;
        let length: usize = payload.iter().map(Bytes::len).sum();
        self.frames_left = self
            .frames_left
            .checked_sub(1)
            .expect("frames were counted before");
        let last = if self.frames_left == 0 { FLAG_LAST } else { 0 };

        let mut header = [0; FRAME_HEADER_BYTES];
        header[..4].copy_from_slice(&FRAME_MAGIC.to_le_bytes());
        let length_field = u32::try_from(length).expect("payloads are bounded by the callers");
        header[8..12].copy_from_slice(&length_field.to_le_bytes());
        header[12] = head.kind as u8;
        header[13] = head.flags | last;
        header[14..16].copy_from_slice(&self.unsynced_rounds.to_le_bytes());
        header[16..20].copy_from_slice(&head.shard.0.to_le_bytes());
        header[20..24].copy_from_slice(&self.next_number.to_le_bytes());
        header[24..32].copy_from_slice(&head.position.index.0.to_le_bytes());
        header[32..40].copy_from_slice(&head.position.term.0.to_le_bytes());
        header[40..48].copy_from_slice(&self.round.to_le_bytes());
        header[48..56].copy_from_slice(&self.round_start.to_le_bytes());
        let mut hasher = checksum(self.identity.salt, &header[8..]);
        payload.iter().for_each(|piece| hasher.update(piece));
        header[4..8].copy_from_slice(&hasher.finalize().to_le_bytes());

        self.scratch.extend_from_slice(&header);
        for piece in payload {
            if piece.len() <= PIECE_BYTES_COPIED_MAX {
                self.scratch.extend_from_slice(piece);
            } else {
                self.pieces.push(self.scratch.split().freeze());
                self.pieces.push(piece.clone());
            }
        }
        let padded = frame_bytes(length);
        self.scratch
            .resize(self.scratch.len() + padded - FRAME_HEADER_BYTES - length, 0);
        self.next_number += 1;
        self.bytes += padded as u64;
        position
    }

    /// The pieces to write at the round's start, and how many bytes they are.
    pub(super) fn finish(mut self) -> (Vec<Bytes>, u64) {
        assert_eq!(
            self.frames_left, 0,
            "a round has the frames it was announced with"
        );
        if !self.scratch.is_empty() {
            self.pieces.push(self.scratch.freeze());
        }
        (self.pieces, self.bytes)
    }
}

/// The frame at the start of `bytes`, if it is whole and of this file.
pub(super) fn decode_frame(identity: FileIdentity, bytes: &[u8]) -> Result<Frame<'_>, FrameFault> {
    let fault = |expected: String, found: String| Err(FrameFault::NotAFrame { expected, found });
    let Some((header, rest)) = bytes.split_first_chunk::<FRAME_HEADER_BYTES>() else {
        return fault("a frame".into(), format!("{} bytes", bytes.len()));
    };
    let magic = u32_at(header, 0);
    if magic != FRAME_MAGIC {
        return fault("the magic of a frame".into(), format!("{magic:08x}"));
    }
    let length = u32_at(header, 8) as usize;
    let Some(payload) = rest.get(..length) else {
        return fault(
            format!("a payload of {length} bytes"),
            format!("{} bytes", rest.len()),
        );
    };
    let mut hasher = checksum(identity.salt, &header[8..]);
    hasher.update(payload);
    let (stored, computed) = (u32_at(header, 4), hasher.finalize());
    if stored != computed {
        return fault(
            format!("frame checksum {stored:08x}"),
            format!("{computed:08x}"),
        );
    }
    let (kind, flags) = (header[12], header[13]);
    let unknown = |what, number: u8| FrameFault::Unknown {
        what,
        number: u32::from(number),
    };
    let kind = Kind::of(kind).ok_or_else(|| unknown("frame kind", kind))?;
    if flags & !FLAGS_KNOWN != 0 {
        return Err(unknown("frame flags", flags));
    }
    Ok(Frame {
        head: FrameHead {
            kind,
            flags,
            shard: ShardId(u32_at(header, 16)),
            position: LogPosition {
                term: Term(u64_at(header, 32)),
                index: LogIndex(u64_at(header, 24)),
            },
        },
        number: u32_at(header, 20),
        round: u64_at(header, 40),
        round_start: u64_at(header, 48),
        unsynced_rounds: u16::from_le_bytes([header[14], header[15]]),
        payload,
    })
}

impl Frame<'_> {
    /// The last round that was known to be synced, with all before it, when this was written.
    pub(super) fn synced_round(&self) -> u64 {
        self.round
            .saturating_sub(1)
            .saturating_sub(u64::from(self.unsynced_rounds))
    }

    pub(super) fn is_last(&self) -> bool {
        self.head.flags & FLAG_LAST != 0
    }
}

impl FrameHead {
    pub(super) fn is_all(&self) -> bool {
        self.flags & FLAG_ALL != 0
    }
}

const HAS_FLOOR: u8 = 1;
const HAS_ENTRIES: u8 = 2;
const HAS_VOTE: u8 = 4;
const HAS_COMMITTED: u8 = 8;

/// The payload of a [`Kind::State`] frame:
///
/// ```text
/// shards u32, then for each, in order:
///   shard u32, has u8 (1 floor, 2 entries, 4 vote, 8 committed), and of these what it has:
///   floor: term u64, index u64     entries: first index u64, last term u64, last index u64
///   vote: length u32, bytes        committed: length u32, bytes
/// ```
pub(super) fn encode_state(ledger: &Ledger) -> Bytes {
    let mut out = Vec::new();
    let put_position = |out: &mut Vec<u8>, position: LogPosition| {
        out.extend_from_slice(&position.term.0.to_le_bytes());
        out.extend_from_slice(&position.index.0.to_le_bytes());
    };
    let put_bytes = |out: &mut Vec<u8>, bytes: &Bytes| {
        let length = u32::try_from(bytes.len()).expect("votes are bounded by the callers");
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(bytes);
    };
    let count = u32::try_from(ledger.shards.len()).expect("a node has few shards");
    out.extend_from_slice(&count.to_le_bytes());
    for (id, shard) in &ledger.shards {
        out.extend_from_slice(&id.0.to_le_bytes());
        let entries = shard.entries();
        let has = [
            (shard.floor.is_some(), HAS_FLOOR),
            (entries.is_some(), HAS_ENTRIES),
            (shard.vote.is_some(), HAS_VOTE),
            (shard.committed.is_some(), HAS_COMMITTED),
        ];
        out.push(
            has.iter()
                .filter(|(is_there, _)| *is_there)
                .map(|(_, flag)| flag)
                .sum(),
        );
        if let Some(floor) = shard.floor {
            put_position(&mut out, floor);
        }
        if let Some((first, last)) = entries {
            out.extend_from_slice(&first.0.to_le_bytes());
            put_position(&mut out, last);
        }
        for bytes in [&shard.vote, &shard.committed].into_iter().flatten() {
            put_bytes(&mut out, bytes);
        }
    }
    out.into()
}

/// Reads what [`encode_state`] wrote. Entries are booked to `file`. `None` when it is malformed.
pub(super) fn decode_state(payload: &[u8], file: u64) -> Option<Ledger> {
    let mut reader = Reader { rest: payload };
    let count = reader.u32()?;
    let mut ledger = Ledger::default();
    for _ in 0..count {
        let id = ShardId(reader.u32()?);
        let has = reader.array::<1>()?[0];
        let mut shard = ShardLedger::default();
        if has & HAS_FLOOR != 0 {
            shard.floor = Some(reader.position()?);
        }
        if has & HAS_ENTRIES != 0 {
            let first = LogIndex(reader.u64()?);
            shard.append(first, reader.position()?, file);
        }
        if has & HAS_VOTE != 0 {
            shard.vote = Some(reader.bytes()?);
        }
        if has & HAS_COMMITTED != 0 {
            shard.committed = Some(reader.bytes()?);
        }
        ledger.shards.insert(id, shard);
    }
    reader.rest.is_empty().then_some(ledger)
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*head)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn position(&mut self) -> Option<LogPosition> {
        Some(LogPosition {
            term: Term(self.u64()?),
            index: LogIndex(self.u64()?),
        })
    }

    fn bytes(&mut self) -> Option<Bytes> {
        let length = self.u32()? as usize;
        let (bytes, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(Bytes::copy_from_slice(bytes))
    }
}

/// The integer at a place that the caller knows to lie inside.
fn u32_at<const N: usize>(bytes: &[u8; N], at: usize) -> u32 {
    u32::from_le_bytes(*bytes[at..].first_chunk().expect("inside the header"))
}

fn u64_at<const N: usize>(bytes: &[u8; N], at: usize) -> u64 {
    u64::from_le_bytes(*bytes[at..].first_chunk().expect("inside the header"))
}
