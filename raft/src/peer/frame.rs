//! Frames between peers. Pure: bytes in, frames out.
//!
//! ```text
//! length u32 | crc u32 | kind u8 | shard u32 | id u64 | body
//! ```
//! Little-endian. `length` counts what follows itself; `crc` is the CRC-32 of what follows it.
//! `id` pairs a request with its answer, and names a stream, on one connection.

use bytes::{Buf, Bytes, BytesMut};
use storage::ShardId;
use storage::checksum::Crc32;

/// Bytes before the body.
pub(super) const HEAD_BYTES: usize = 21;
/// What `length` counts beside the body.
const COUNTED_HEAD_BYTES: usize = HEAD_BYTES - 4;
/// Room made for a member's read. Small frames share it.
const READ_BYTES: usize = 64 << 10;
/// A longer body is waited for in steps: a length alone reserves no more than this.
const STEP_BYTES: usize = 1 << 20;
/// A shorter body is copied out, so that it does not keep the whole read buffer in memory.
const SLICED_BYTES_MIN: usize = 16 << 10;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// A request to a shard.
    Call = 1,
    /// A request to the node.
    Ask = 2,
    /// The answer to either.
    Answer = 3,
    /// No answer to either; the body is one [`Failure`] byte.
    Failed = 4,
    /// Opens a stream to a shard.
    StreamOpen = 5,
    /// The next request of a stream.
    StreamRequest = 6,
    /// The answer to a stream's oldest unanswered request.
    StreamAnswer = 7,
    /// Ends a stream; from the serving side the body is one [`Failure`] byte.
    StreamEnd = 8,
    /// Asks for a [`Kind::Pong`].
    Ping = 9,
    /// Answers a ping.
    Pong = 10,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Kind> {
        use Kind::*;
        let all = [
            Call,
            Ask,
            Answer,
            Failed,
            StreamOpen,
            StreamRequest,
            StreamAnswer,
            StreamEnd,
            Ping,
            Pong,
        ];
        all.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// Why a request has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Failure {
    /// The shard is not attached, or is closing.
    NoShard = 1,
    /// No service yet.
    NotServing = 2,
    /// Unreadable, or its handler failed.
    Rejected = 3,
    /// The stream's handler ended it.
    Ended = 4,
}

impl Failure {
    /// An unknown byte, from a newer peer, counts as rejected.
    pub(super) fn from_body(body: &[u8]) -> Failure {
        match body.first() {
            Some(1) => Failure::NoShard,
            Some(2) => Failure::NotServing,
            Some(4) => Failure::Ended,
            _ => Failure::Rejected,
        }
    }

    pub(super) fn to_body(self) -> Vec<Bytes> {
        let byte: &'static [u8] = match self {
            Failure::NoShard => &[1],
            Failure::NotServing => &[2],
            Failure::Rejected => &[3],
            Failure::Ended => &[4],
        };
        vec![Bytes::from_static(byte)]
    }
}

/// A frame without its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) kind: Kind,
    pub(super) shard: ShardId,
    pub(super) id: u64,
}

/// A frame as received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) head: Head,
    pub(super) body: Bytes,
}

/// Bytes that are no frame. The connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    #[error("a frame of {length} bytes, where {bytes_max} are allowed")]
    Length { length: usize, bytes_max: usize },
    #[error("a frame with a wrong checksum")]
    Checksum,
    #[error("a frame of unknown kind {kind}")]
    Kind { kind: u8 },
}

/// The bytes before a body that consists of `body`'s pieces. The sum of their lengths is below the
/// limit that the sender checked, and that fits a `u32`.
pub(super) fn encode_head(head: Head, body: &[Bytes]) -> [u8; HEAD_BYTES] {
    let body_bytes: usize = body.iter().map(Bytes::len).sum();
    let length = u32::try_from(COUNTED_HEAD_BYTES + body_bytes).expect("checked by the sender");
    let mut bytes = [0; HEAD_BYTES];
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    bytes[8] = head.kind as u8;
    bytes[9..13].copy_from_slice(&head.shard.0.to_le_bytes());
    bytes[13..].copy_from_slice(&head.id.to_le_bytes());
    let mut crc = Crc32::default();
    crc.update(&bytes[8..]);
    for piece in body {
        crc.update(piece);
    }
    bytes[4..8].copy_from_slice(&crc.finish().to_le_bytes());
    bytes
}

/// Cuts received bytes into frames.
#[derive(Debug)]
pub(super) struct FrameReader {
    buffer: BytesMut,
    body_bytes_max: usize,
    /// Room made for a read.
    read_bytes: usize,
    /// Bytes that the frame begun in `buffer` has in all, as far as known.
    wanted: usize,
}

impl FrameReader {
    pub(super) fn new(body_bytes_max: usize) -> FrameReader {
        FrameReader::with_reads_of(READ_BYTES, body_bytes_max)
    }

    pub(super) fn with_reads_of(read_bytes: usize, body_bytes_max: usize) -> FrameReader {
        FrameReader {
            buffer: BytesMut::new(),
            body_bytes_max,
            read_bytes,
            wanted: HEAD_BYTES,
        }
    }

    /// Bytes that the frame begun has in all, as far as known.
    pub(super) fn wanted(&self) -> usize {
        self.wanted
    }

    /// Where to append what was received next; has room for more.
    pub(super) fn room(&mut self) -> &mut BytesMut {
        let held = self.buffer.len();
        let missing = self.wanted.saturating_sub(held);
        let step = missing.min(STEP_BYTES.max(held));
        if self.buffer.capacity() - held < step.max(self.read_bytes / 4) {
            self.buffer.reserve(step.max(self.read_bytes));
        }
        &mut self.buffer
    }

    /// The next whole frame. After an error the reader is of no more use.
    pub(super) fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some(length) = self.buffer.first_chunk::<4>() else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        let bytes_max = COUNTED_HEAD_BYTES.saturating_add(self.body_bytes_max);
        if length < COUNTED_HEAD_BYTES || length > bytes_max {
            return Err(FrameError::Length { length, bytes_max });
        }
        self.wanted = 4 + length;
        if self.buffer.len() < self.wanted {
            return Ok(None);
        }
        let frame_bytes = std::mem::replace(&mut self.wanted, HEAD_BYTES);
        let bytes = self.buffer.split_to(frame_bytes).freeze();
        let mut head = &bytes[4..HEAD_BYTES];
        let sum = head.get_u32_le();
        let mut crc = Crc32::default();
        crc.update(&bytes[8..]);
        if crc.finish() != sum {
            return Err(FrameError::Checksum);
        }
        let kind = head.get_u8();
        let head = Head {
            kind: Kind::from_byte(kind).ok_or(FrameError::Kind { kind })?,
            shard: ShardId(head.get_u32_le()),
            id: head.get_u64_le(),
        };
        let body = if frame_bytes - HEAD_BYTES < SLICED_BYTES_MIN {
            Bytes::copy_from_slice(&bytes[HEAD_BYTES..])
        } else {
            bytes.slice(HEAD_BYTES..)
        };
        Ok(Some(Frame { head, body }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(kind: Kind, shard: u32, id: u64, pieces: &[Bytes]) -> Vec<u8> {
        let shard = ShardId(shard);
        let mut bytes = encode_head(Head { kind, shard, id }, pieces).to_vec();
        pieces
            .iter()
            .for_each(|piece| bytes.extend_from_slice(piece));
        bytes
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in_however_the_bytes_arrive(
            bodies in prop::collection::vec((1u8..=10, any::<u32>(), any::<u64>(), prop::collection::vec(any::<u8>(), 0..40_000)), 1..6),
            cuts in prop::collection::vec(1usize..30_000, 1..20),
        ) {
            let mut bytes = Vec::new();
            for (kind, shard, id, body) in &bodies {
                let (left, right) = body.split_at(body.len() / 2);
                let pieces = [Bytes::copy_from_slice(left), Bytes::copy_from_slice(right)];
                bytes.extend(encoded(Kind::from_byte(*kind).unwrap(), *shard, *id, &pieces));
            }
            let mut reader = FrameReader::new(40_000);
            let mut frames = Vec::new();
            let (mut rest, mut cuts) = (bytes.as_slice(), cuts.iter().cycle());
            while !rest.is_empty() {
                let (now, later) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                reader.room().extend_from_slice(now);
                rest = later;
                while let Some(frame) = reader.next_frame().unwrap() {
                    frames.push((frame.head.kind as u8, frame.head.shard.0, frame.head.id, frame.body.to_vec()));
                }
            }
            prop_assert_eq!(frames, bodies);
        }

        #[test]
        fn no_bytes_panic_or_reserve_much(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut reader = FrameReader::new(128 << 20);
            reader.room().extend_from_slice(&bytes);
            while let Ok(Some(_)) = reader.next_frame() {}
            prop_assert!(reader.room().capacity() <= 2 * (STEP_BYTES + READ_BYTES));
        }

        #[test]
        fn a_flipped_bit_never_passes(body in prop::collection::vec(any::<u8>(), 0..200), at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let mut bytes = encoded(Kind::Call, 3, 7, &[Bytes::from(body)]);
            // A changed length may only leave the frame unfinished.
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let mut reader = FrameReader::new(1 << 20);
            reader.room().extend_from_slice(&bytes);
            prop_assert!(!matches!(reader.next_frame(), Ok(Some(_))));
        }
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_at_once() {
        let mut reader = FrameReader::new(100);
        reader.room().extend_from_slice(&u32::MAX.to_le_bytes());
        assert!(matches!(
            reader.next_frame(),
            Err(FrameError::Length { .. })
        ));
    }

    #[test]
    fn a_large_body_is_not_copied() {
        let body = Bytes::from(vec![7; SLICED_BYTES_MIN]);
        let mut reader = FrameReader::new(1 << 20);
        let bytes = encoded(Kind::Ask, 0, 1, &[body]);
        reader.room().extend_from_slice(&bytes);
        let start = reader.buffer.as_ptr() as usize;
        let frame = reader.next_frame().unwrap().unwrap();
        assert_eq!(frame.body.as_ptr() as usize, start + HEAD_BYTES);
    }
}
