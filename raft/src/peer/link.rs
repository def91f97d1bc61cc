//! One established connection that this node dialled: requests go out, answers find who waits for
//! them. When it closes, everything that waits on it fails at once.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use storage::ShardId;
use tokio::io::{AsyncReadExt, ReadHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;

use super::frame::{Failure, Frame, FrameReader, Head, Kind};
use super::outbox::{Outbox, Outgoing};
use super::socket::Socket;
use super::stream::StreamCore;
use super::{LinkError, PeersConfig};

/// Pings of a silent connection before it is given up.
const PINGS: u32 = 3;

#[derive(Debug, Default)]
pub(super) struct Connection {
    pub(super) outbox: Outbox,
    table: Mutex<Table>,
    /// Frames received.
    heard: AtomicU64,
}

#[derive(Debug, Default)]
struct Table {
    last_id: u64,
    waiting: HashMap<u64, Waiter>,
    closed: bool,
}

#[derive(Debug)]
enum Waiter {
    Request(oneshot::Sender<Result<Bytes, LinkError>>),
    Stream {
        core: Arc<StreamCore>,
        answers: mpsc::Sender<Bytes>,
    },
}

impl From<Failure> for LinkError {
    fn from(failure: Failure) -> LinkError {
        match failure {
            Failure::NoShard => LinkError::NoShard,
            Failure::NotServing => LinkError::NotServing,
            Failure::Rejected => LinkError::Rejected,
            Failure::Ended => LinkError::Closed,
        }
    }
}

fn violation(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl Connection {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a request and waits for its answer. Dropped before, what is left of it is dropped too.
    pub(super) async fn request(
        &self,
        kind: Kind,
        shard: ShardId,
        body: Vec<Bytes>,
    ) -> Result<Bytes, LinkError> {
        let (answer, answered) = oneshot::channel();
        let id = {
            let mut table = self.table();
            if table.closed {
                return Err(LinkError::Closed);
            }
            table.last_id += 1;
            let id = table.last_id;
            table.waiting.insert(id, Waiter::Request(answer));
            id
        };
        let _waiting = Waiting {
            connection: self,
            id,
        };
        self.outbox.push(Outgoing {
            head: Head { kind, shard, id },
            body,
            _permit: None,
        });
        answered.await.unwrap_or(Err(LinkError::Closed))
    }

    /// Opens a stream, whose core `core` makes from its id.
    pub(super) fn open_stream(
        &self,
        shard: ShardId,
        answers: mpsc::Sender<Bytes>,
        core: impl FnOnce(u64) -> StreamCore,
    ) -> Result<Arc<StreamCore>, LinkError> {
        let (id, core) = {
            let mut table = self.table();
            if table.closed {
                return Err(LinkError::Closed);
            }
            table.last_id += 1;
            let id = table.last_id;
            let core = Arc::new(core(id));
            let waiter = Waiter::Stream {
                core: Arc::clone(&core),
                answers,
            };
            table.waiting.insert(id, waiter);
            (id, core)
        };
        self.outbox.push(Outgoing {
            head: Head {
                kind: Kind::StreamOpen,
                shard,
                id,
            },
            body: Vec::new(),
            _permit: None,
        });
        Ok(core)
    }

    /// Ends a stream from this side and frees what it held.
    pub(super) fn end_stream(&self, shard: ShardId, id: u64, error: LinkError) {
        let waiter = self.table().waiting.remove(&id);
        let Some(Waiter::Stream { core, .. }) = waiter else {
            return;
        };
        core.finish(error);
        self.outbox.forget(id);
        self.outbox.push(Outgoing {
            head: Head {
                kind: Kind::StreamEnd,
                shard,
                id,
            },
            body: Vec::new(),
            _permit: None,
        });
    }

    /// Fails everything that waits, and all that comes.
    pub(super) fn close(&self) {
        let waiting = {
            let mut table = self.table();
            table.closed = true;
            std::mem::take(&mut table.waiting)
        };
        self.outbox.close();
        for waiter in waiting.into_values() {
            match waiter {
                Waiter::Request(answer) => {
                    // Nobody waits any more: as good.
                    let _ = answer.send(Err(LinkError::Closed));
                }
                Waiter::Stream { core, .. } => core.finish(LinkError::Closed),
            }
        }
    }

    /// Carries the connection until it breaks. With `is_watched`, silence breaks it as well.
    pub(super) async fn run(
        &self,
        socket: Socket,
        config: &PeersConfig,
        is_watched: bool,
    ) -> io::Result<()> {
        let (reader, mut writer) = tokio::io::split(socket);
        let stall_max = Duration::from_millis(config.write_stall_ms);
        let silence_max = Duration::from_millis(config.silence_ms);
        tokio::select! {
            read = self.read(reader, config.frame_bytes_max) => read,
            written = self.outbox.write_to(&mut writer, stall_max) => written,
            silent = self.listen(silence_max), if is_watched => Err(silent),
        }
    }

    async fn read(&self, mut reader: ReadHalf<Socket>, frame_bytes_max: usize) -> io::Result<()> {
        let mut frames = FrameReader::new(frame_bytes_max);
        while reader.read_buf(frames.room()).await? > 0 {
            loop {
                let next = frames.next_frame();
                let next =
                    next.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                let Some(frame) = next else {
                    break;
                };
                self.heard.fetch_add(1, Ordering::Relaxed);
                self.take(frame)?;
            }
        }
        Ok(())
    }

    /// Pings while nothing is heard; returns when nothing answers.
    async fn listen(&self, silence_max: Duration) -> io::Error {
        let mut pings = 0;
        let mut heard = self.heard.load(Ordering::Relaxed);
        loop {
            sleep(silence_max / PINGS).await;
            let now = self.heard.load(Ordering::Relaxed);
            if now != heard {
                (heard, pings) = (now, 0);
                continue;
            }
            if pings == PINGS - 1 {
                return io::Error::new(io::ErrorKind::TimedOut, "the peer is silent");
            }
            pings += 1;
            let head = Head {
                kind: Kind::Ping,
                shard: ShardId(0),
                id: 0,
            };
            self.outbox.push(Outgoing {
                head,
                body: Vec::new(),
                _permit: None,
            });
        }
    }

    fn take(&self, frame: Frame) -> io::Result<()> {
        let Frame { head, body } = frame;
        match head.kind {
            Kind::Answer => self.answer(head.id, Ok(body)),
            Kind::Failed => self.answer(head.id, Err(Failure::from_body(&body).into())),
            Kind::StreamAnswer => match self.table().waiting.get(&head.id) {
                Some(Waiter::Stream { answers, .. }) => {
                    answers.try_send(body).or_else(|error| match error {
                        mpsc::error::TrySendError::Full(_) => {
                            Err(violation("more answers on a stream than requests"))
                        }
                        // It is being ended.
                        mpsc::error::TrySendError::Closed(_) => Ok(()),
                    })
                }
                Some(Waiter::Request(_)) => Err(violation("a stream's answer to a request")),
                None => Ok(()),
            },
            Kind::StreamEnd => {
                let waiter = self.table().waiting.remove(&head.id);
                if let Some(Waiter::Stream { core, .. }) = waiter {
                    core.finish(Failure::from_body(&body).into());
                    self.outbox.forget(head.id);
                }
                Ok(())
            }
            Kind::Pong => Ok(()),
            Kind::Call | Kind::Ask | Kind::StreamOpen | Kind::StreamRequest | Kind::Ping => {
                Err(violation("a request from the side that answers"))
            }
        }
    }

    fn answer(&self, id: u64, result: Result<Bytes, LinkError>) -> io::Result<()> {
        // An answer too late for its deadline finds nobody.
        match self.table().waiting.remove(&id) {
            Some(Waiter::Request(answer)) => {
                let _ = answer.send(result);
                Ok(())
            }
            Some(Waiter::Stream { core, .. }) => {
                core.finish(LinkError::Closed);
                Err(violation("a request's answer to a stream"))
            }
            None => Ok(()),
        }
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.table().waiting.len()
    }
}

/// A request that waits for its answer.
struct Waiting<'a> {
    connection: &'a Connection,
    id: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let unanswered = self.connection.table().waiting.remove(&self.id).is_some();
        if unanswered {
            self.connection.outbox.forget(self.id);
        }
    }
}
