//! The asking side of append streams. Several share a data connection; each has its own window, so
//! that one shard's slow answers hold up no other.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use storage::ShardId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::LinkError;
use super::frame::{HEAD_BYTES, Head, Kind};
use super::link::Connection;
use super::outbox::Outgoing;

/// Unanswered requests of one stream.
pub(super) const STREAM_REQUESTS_MAX: usize = 64;

/// A number of bytes that may be on their way.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    bytes: Arc<Semaphore>,
    bytes_max: u32,
}

impl Budget {
    pub(super) fn new(bytes_max: usize) -> Budget {
        let bytes_max = bytes_max.min(u32::MAX as usize >> 1);
        Budget {
            bytes: Arc::new(Semaphore::new(bytes_max)),
            bytes_max: u32::try_from(bytes_max).unwrap_or(u32::MAX >> 1),
        }
    }

    /// Waits until so many bytes may go; more than there ever are go alone. Never closed.
    pub(super) async fn take(&self, bytes: usize) -> OwnedSemaphorePermit {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.bytes_max);
        let taken = Arc::clone(&self.bytes).acquire_many_owned(bytes).await;
        taken.expect("a budget is never closed")
    }

    #[cfg(test)]
    pub(super) fn is_whole(&self) -> bool {
        self.bytes.available_permits() == self.bytes_max as usize
    }
}

/// What both ends of a stream and its connection share.
#[derive(Debug)]
pub(super) struct StreamCore {
    id: u64,
    shard: ShardId,
    stall_max: Duration,
    bytes: Budget,
    peer_bytes: Budget,
    requests: Arc<Semaphore>,
    unanswered: Mutex<Unanswered>,
    end: watch::Sender<Option<LinkError>>,
}

/// What one unanswered request holds.
type Held = [OwnedSemaphorePermit; 3];

#[derive(Debug)]
struct Unanswered {
    held: VecDeque<Held>,
    /// When there was nothing unanswered, or an answer, for the last time.
    progress: Instant,
    sender_is_gone: bool,
}

impl StreamCore {
    pub(super) fn new(
        (id, shard): (u64, ShardId),
        stall_max: Duration,
        bytes: Budget,
        peer_bytes: Budget,
    ) -> StreamCore {
        StreamCore {
            id,
            shard,
            stall_max,
            bytes,
            peer_bytes,
            requests: Arc::new(Semaphore::new(STREAM_REQUESTS_MAX)),
            unanswered: Mutex::new(Unanswered {
                held: VecDeque::new(),
                progress: Instant::now(),
                sender_is_gone: false,
            }),
            end: watch::Sender::new(None),
        }
    }

    fn unanswered(&self) -> MutexGuard<'_, Unanswered> {
        self.unanswered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the stream; the first reason stands. Frees what it held.
    pub(super) fn finish(&self, error: LinkError) {
        self.end.send_if_modified(|end| {
            let first = end.is_none();
            end.get_or_insert(error);
            first
        });
        self.unanswered().held.clear();
    }

    fn ended(&self) -> Option<LinkError> {
        self.end.borrow().clone()
    }

    /// Waits until a request of so many bytes may go.
    async fn hold(&self, bytes: usize) -> Held {
        let requests = Arc::clone(&self.requests).acquire_owned().await;
        let requests = requests.expect("never closed");
        let own = self.bytes.take(bytes).await;
        [requests, own, self.peer_bytes.take(bytes).await]
    }

    /// When the stream has stalled, should nothing happen until then.
    fn stalls_at(&self) -> (bool, Instant) {
        let unanswered = self.unanswered();
        if unanswered.held.is_empty() {
            (false, Instant::now() + self.stall_max)
        } else {
            (true, unanswered.progress + self.stall_max)
        }
    }
}

/// The asking end of an append stream. When dropped, no more is asked; the answers still come.
#[derive(Debug)]
pub(crate) struct StreamSender {
    pub(super) core: Arc<StreamCore>,
    pub(super) connection: Arc<Connection>,
    pub(super) frame_bytes_max: usize,
}

impl StreamSender {
    /// Sends the next request; waits while too many bytes or requests of the stream or the peer are
    /// unanswered. An answer counts when it was taken from [`StreamAnswersReceiver::recv`], so take
    /// them meanwhile. Dropped before it returns, nothing was sent.
    pub(crate) async fn send(&mut self, request: Vec<Bytes>) -> Result<(), LinkError> {
        let bytes: usize = request.iter().map(Bytes::len).sum();
        if bytes > self.frame_bytes_max {
            return Err(LinkError::TooLarge);
        }
        let core = &*self.core;
        let mut end = core.end.subscribe();
        let held = tokio::select! {
            biased;
            ended = end.wait_for(Option::is_some) => {
                let ended = ended.ok().and_then(|end| end.clone());
                return Err(ended.unwrap_or(LinkError::Closed));
            }
            held = core.hold(bytes + HEAD_BYTES) => held,
        };
        {
            let mut unanswered = core.unanswered();
            if let Some(error) = core.ended() {
                return Err(error);
            }
            if unanswered.held.is_empty() {
                unanswered.progress = Instant::now();
            }
            unanswered.held.push_back(held);
        }
        let head = Head {
            kind: Kind::StreamRequest,
            shard: core.shard,
            id: core.id,
        };
        let pushed = self.connection.outbox.push(Outgoing {
            head,
            body: request,
            _permit: None,
        });
        if pushed {
            Ok(())
        } else {
            Err(LinkError::Closed)
        }
    }
}

impl Drop for StreamSender {
    fn drop(&mut self) {
        let is_idle = {
            let mut unanswered = self.core.unanswered();
            unanswered.sender_is_gone = true;
            unanswered.held.is_empty()
        };
        if is_idle {
            let core = &self.core;
            self.connection
                .end_stream(core.shard, core.id, LinkError::Closed);
        }
    }
}

/// The answers of an append stream, one per request, in order. When dropped, the stream is over on
/// both sides.
#[derive(Debug)]
pub(crate) struct StreamAnswersReceiver {
    pub(super) core: Arc<StreamCore>,
    pub(super) connection: Arc<Connection>,
    pub(super) answers: mpsc::Receiver<Bytes>,
}

impl StreamAnswersReceiver {
    /// The next answer; waits also while nothing is asked. After an error the stream is over. Fails
    /// with [`LinkError::TimedOut`] when requests are unanswered and no answer came for
    /// `stream_stall_ms`, and with [`LinkError::Closed`] once the sender is dropped and all is
    /// answered. Cancel-safe.
    pub(crate) async fn recv(&mut self) -> Result<Bytes, LinkError> {
        loop {
            let (is_waiting, stalls_at) = self.core.stalls_at();
            tokio::select! {
                biased;
                answer = self.answers.recv() => {
                    let Some(answer) = answer else {
                        return Err(self.core.ended().unwrap_or(LinkError::Closed));
                    };
                    return self.answered().map(|()| answer);
                }
                () = sleep_until(stalls_at) => {
                    // Something may have been asked, or answered, only just now.
                    if is_waiting && self.core.stalls_at() == (true, stalls_at) {
                        self.end(LinkError::TimedOut);
                    }
                }
            }
        }
    }

    fn end(&self, error: LinkError) {
        let core = &self.core;
        self.connection.end_stream(core.shard, core.id, error);
    }

    fn answered(&self) -> Result<(), LinkError> {
        let (held, is_last) = {
            let mut unanswered = self.core.unanswered();
            unanswered.progress = Instant::now();
            let held = unanswered.held.pop_front();
            let is_last = unanswered.held.is_empty() && unanswered.sender_is_gone;
            (held, is_last)
        };
        if held.is_none() && self.core.ended().is_none() {
            self.end(LinkError::Rejected);
            return Err(LinkError::Rejected);
        }
        if is_last {
            self.end(LinkError::Closed);
        }
        Ok(())
    }
}

impl Drop for StreamAnswersReceiver {
    fn drop(&mut self) {
        self.end(LinkError::Closed);
    }
}
