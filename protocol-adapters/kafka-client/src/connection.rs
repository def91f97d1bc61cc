//! One connection: requests go out in the order of the calls, answers come back in that order.
//!
//! Kafka answers a connection's requests in order, so the calls waiting form a queue. A task reads
//! answers and hands each to the oldest call. Whatever breaks the order (a wrong correlation id,
//! a cut, an over-long frame) ends the connection, and every call waiting is told that its outcome
//! is unknown.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::frame::{FrameReader, FrameStream, FrameWriter};
use crate::wire::{Reader, Writer};
use crate::{ClientError, api};

/// How to connect, and the limits of a connection.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    /// Named in every request.
    pub client_id: String,
    /// The connection must be there within this.
    pub connect_timeout: Duration,
    /// An answer must be there within this after the request was sent.
    pub request_timeout: Duration,
    /// Longest answer that is read.
    pub response_bytes_max: usize,
}

impl Default for ConnectOptions {
    fn default() -> ConnectOptions {
        ConnectOptions {
            client_id: "braidlog".to_owned(),
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(30),
            response_bytes_max: 128 << 20,
        }
    }
}

/// A connection to one node. Calls may run at the same time; they share the wire in the order in
/// which they were made.
#[derive(Debug)]
pub struct Connection {
    address: String,
    options: ConnectOptions,
    writer: tokio::sync::Mutex<Sender>,
    waiting: Arc<Mutex<Waiting>>,
    reader: JoinHandle<()>,
}

#[derive(Debug)]
struct Sender {
    frames: FrameWriter,
    next_correlation: i32,
    // A request may have gone out in part: nothing may follow it.
    broken: bool,
}

/// Calls that wait, oldest first; once `closed` says why, none may be added.
#[derive(Debug, Default)]
struct Waiting {
    calls: VecDeque<Call>,
    closed: Option<String>,
}

#[derive(Debug)]
struct Call {
    correlation: i32,
    answer: oneshot::Sender<Result<Bytes, ClientError>>,
}

/// A request that was sent; resolve it with [`PendingResponse::answer`].
#[derive(Debug)]
pub struct PendingResponse {
    answer: oneshot::Receiver<Result<Bytes, ClientError>>,
    timeout: Duration,
    flexible_header: bool,
}

impl PendingResponse {
    /// Waits for the answer's body (its header taken off), no longer than the request timeout
    /// from now.
    pub async fn answer(self) -> Result<Reader, ClientError> {
        let body = tokio::time::timeout(self.timeout, self.answer)
            .await
            .map_err(|_| ClientError::TimedOut {
                timeout_ms: u64::try_from(self.timeout.as_millis()).unwrap_or(u64::MAX),
            })?
            .map_err(|_| ClientError::NoAnswer("the connection was dropped".to_owned()))??;
        let mut reader = Reader::new(body);
        if self.flexible_header {
            reader.skip_tags()?;
        }
        Ok(reader)
    }
}

impl Connection {
    /// Connects to `host:port`.
    pub async fn connect(
        address: &str,
        options: ConnectOptions,
    ) -> Result<Connection, ClientError> {
        let stream =
            FrameStream::connect(address, options.connect_timeout, options.response_bytes_max)
                .await?;
        let waiting = Arc::new(Mutex::new(Waiting::default()));
        let reader = tokio::spawn(read_answers(stream.reader, Arc::clone(&waiting)));
        Ok(Connection {
            address: address.to_owned(),
            options,
            writer: tokio::sync::Mutex::new(Sender {
                frames: stream.writer,
                next_correlation: 0,
                broken: false,
            }),
            waiting,
            reader,
        })
    }

    /// Whom it is connected to, as given to [`Connection::connect`].
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Its limits.
    #[must_use]
    pub fn options(&self) -> &ConnectOptions {
        &self.options
    }

    /// Sends a request of any API at a flexible version (OffsetDelete: any) and answers when it is on its way. The
    /// order of these calls is the order on the wire.
    ///
    /// Not cancel-safe: a request cut half-way ends the connection.
    pub async fn send(
        &self,
        api_key: i16,
        version: i16,
        body: &[u8],
    ) -> Result<PendingResponse, ClientError> {
        let (tell, answer) = oneshot::channel();
        self.transmit(api_key, version, body, Some(tell)).await?;
        Ok(PendingResponse {
            answer,
            timeout: self.options.request_timeout,
            // KIP-511: answers of ApiVersions keep the old header for ever.
            flexible_header: api_key != api::API_VERSIONS && is_flexible(api_key),
        })
    }

    /// Sends a request that is never answered (Produce with `acks=0`).
    pub async fn send_unanswered(
        &self,
        api_key: i16,
        version: i16,
        body: &[u8],
    ) -> Result<(), ClientError> {
        self.transmit(api_key, version, body, None).await
    }

    /// Sends a request and waits for the answer's body.
    pub async fn call(
        &self,
        api_key: i16,
        version: i16,
        body: &[u8],
    ) -> Result<Reader, ClientError> {
        self.send(api_key, version, body).await?.answer().await
    }

    async fn transmit(
        &self,
        api_key: i16,
        version: i16,
        body: &[u8],
        answer: Option<oneshot::Sender<Result<Bytes, ClientError>>>,
    ) -> Result<(), ClientError> {
        let mut writer = self.writer.lock().await;
        if writer.broken {
            return Err(ClientError::NotSent("the connection is broken".to_owned()));
        }
        let correlation = writer.next_correlation;
        writer.next_correlation = correlation.wrapping_add(1);
        let mut header = Writer::new();
        header
            .i16(api_key)
            .i16(version)
            .i32(correlation)
            .legacy_string(&self.options.client_id);
        if is_flexible(api_key) {
            header.no_tags();
        }
        if let Some(answer) = answer {
            let mut waiting = lock(&self.waiting);
            if let Some(reason) = &waiting.closed {
                return Err(ClientError::NotSent(reason.clone()));
            }
            waiting.calls.push_back(Call {
                correlation,
                answer,
            });
        }
        // Stays set should this future be dropped while it writes.
        writer.broken = true;
        let sent = tokio::time::timeout(
            self.options.request_timeout,
            writer.frames.send(&[&header.finish(), body]),
        )
        .await;
        match sent {
            Ok(Ok(())) => {
                writer.broken = false;
                Ok(())
            }
            // The frame's end did not go out: a server acts on whole frames only.
            Ok(Err(error)) => Err(self.not_sent(correlation, error.to_string())),
            Err(_) => Err(self.not_sent(correlation, "the server takes no bytes".to_owned())),
        }
    }

    fn not_sent(&self, correlation: i32, reason: String) -> ClientError {
        lock(&self.waiting)
            .calls
            .retain(|call| call.correlation != correlation);
        ClientError::NotSent(reason)
    }

    /// Says that no more requests come and waits until the answers are in.
    pub async fn close(self) {
        // A failure to say goodbye leaves nothing to do: the connection is over either way.
        let _ = self.writer.lock().await.frames.close().await;
        let mut this = self;
        let _ = tokio::time::timeout(Duration::from_secs(1), &mut this.reader).await;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// Whether the API has flexible versions at all; only those are spoken where it has.
fn is_flexible(api_key: i16) -> bool {
    api_key != api::OFFSET_DELETE
}

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn read_answers(mut frames: FrameReader, waiting: Arc<Mutex<Waiting>>) {
    let reason = loop {
        let frame = match frames.receive().await {
            Ok(Some(frame)) => frame,
            Ok(None) => break "the server closed the connection".to_owned(),
            Err(error) => break error.to_string(),
        };
        let mut reader = Reader::new(frame.clone());
        let Ok(correlation) = reader.i32() else {
            break "a frame without a header".to_owned();
        };
        let Some(call) = lock(&waiting).calls.pop_front() else {
            break "an answer to no request".to_owned();
        };
        if call.correlation != correlation {
            // Not this call's answer, so nobody's.
            let _ = call
                .answer
                .send(Err(ClientError::Malformed("answers are out of order")));
            break "answers are out of order".to_owned();
        }
        // A caller that no longer waits is no matter.
        let _ = call.answer.send(Ok(frame.slice(4..)));
    };
    let calls = {
        let mut waiting = lock(&waiting);
        waiting.closed = Some(reason.clone());
        std::mem::take(&mut waiting.calls)
    };
    for call in calls {
        let _ = call.answer.send(Err(ClientError::NoAnswer(reason.clone())));
    }
}
