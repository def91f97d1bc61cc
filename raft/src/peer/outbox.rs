//! What waits to be written to one connection, and the writing: all frames that are queued when
//! the writer comes round leave in one vectored write. Bounded by whoever queues: requests hold
//! permits until they are answered, answers are bounded by requests.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::time::timeout;

use super::frame::{Head, encode_head};

/// Frames and bytes (but one frame at least) of one write.
const ROUND_FRAMES_MAX: usize = 256;
const ROUND_BYTES_MAX: usize = 1 << 20;
/// The kernel takes no more pieces in one call.
const SLICES_MAX: usize = 1_024;

/// A frame to be written.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) head: Head,
    pub(super) body: Vec<Bytes>,
    /// Given back when the frame was written or dropped.
    pub(super) _permit: Option<OwnedSemaphorePermit>,
}

impl Outgoing {
    fn bytes(&self) -> usize {
        self.body.iter().map(Bytes::len).sum()
    }
}

#[derive(Debug, Default)]
pub(super) struct Outbox {
    queue: Mutex<Queue>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    frames: VecDeque<Outgoing>,
    closed: bool,
}

impl Outbox {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a frame; false when the connection is closed.
    pub(super) fn push(&self, frame: Outgoing) -> bool {
        {
            let mut queue = self.queue();
            if queue.closed {
                return false;
            }
            queue.frames.push_back(frame);
        }
        self.wake.notify_one();
        true
    }

    /// Drops what is queued of a request or stream that nobody waits for any more.
    pub(super) fn forget(&self, id: u64) {
        self.queue().frames.retain(|frame| frame.head.id != id);
    }

    /// Drops everything; the writer ends.
    pub(super) fn close(&self) {
        let frames = {
            let mut queue = self.queue();
            queue.closed = true;
            std::mem::take(&mut queue.frames)
        };
        drop(frames);
        self.wake.notify_one();
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.queue().frames.is_empty()
    }

    fn take_round(&self) -> Option<Vec<Outgoing>> {
        let mut queue = self.queue();
        if queue.closed {
            return None;
        }
        let (mut frames, mut bytes) = (0, 0_usize);
        for frame in queue.frames.iter().take(ROUND_FRAMES_MAX) {
            bytes = bytes.saturating_add(frame.bytes());
            if frames > 0 && bytes > ROUND_BYTES_MAX {
                break;
            }
            frames += 1;
        }
        Some(queue.frames.drain(..frames).collect())
    }

    /// Writes what is queued until the outbox is closed. Fails when the connection does, or takes
    /// no byte for `stall_max`.
    pub(super) async fn write_to<W: AsyncWrite + Unpin>(
        &self,
        writer: &mut W,
        stall_max: Duration,
    ) -> io::Result<()> {
        loop {
            self.wake.notified().await;
            // Whoever else is ready on this thread now may queue more for the same write.
            tokio::task::yield_now().await;
            loop {
                let Some(round) = self.take_round() else {
                    return Ok(());
                };
                if round.is_empty() {
                    break;
                }
                write_round(writer, &round, stall_max).await?;
            }
        }
    }
}

async fn write_round<W: AsyncWrite + Unpin>(
    writer: &mut W,
    round: &[Outgoing],
    stall_max: Duration,
) -> io::Result<()> {
    let heads: Vec<_> = round
        .iter()
        .map(|frame| encode_head(frame.head, &frame.body))
        .collect();
    let mut slices = Vec::with_capacity(2 * round.len());
    for (head, frame) in heads.iter().zip(round) {
        slices.push(IoSlice::new(head));
        let pieces = frame.body.iter().filter(|piece| !piece.is_empty());
        slices.extend(pieces.map(|piece| IoSlice::new(piece)));
    }
    let mut rest = slices.as_mut_slice();
    while !rest.is_empty() {
        let some = &rest[..rest.len().min(SLICES_MAX)];
        let written = timeout(stall_max, writer.write_vectored(some)).await??;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        IoSlice::advance_slices(&mut rest, written);
    }
    timeout(stall_max, writer.flush()).await?
}
