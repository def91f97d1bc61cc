//! A socket that carries frames: a four-byte length, then that many bytes.
//!
//! Tests use it to send anything at all, right or wrong; [`crate::Connection`] stands on it.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use net::TcpStream;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufWriter, ReadHalf, WriteHalf};

use crate::ClientError;

/// A frame is read in steps of this, so that a claimed length reserves no memory by itself.
const READ_STEP_BYTES: usize = 64 * 1024;

/// A connected socket, unshared.
#[derive(Debug)]
pub struct FrameStream {
    pub(crate) reader: FrameReader,
    pub(crate) writer: FrameWriter,
}

/// The half that reads.
#[derive(Debug)]
pub(crate) struct FrameReader {
    half: ReadHalf<TcpStream>,
    frame_bytes_max: usize,
}

/// The half that writes.
#[derive(Debug)]
pub(crate) struct FrameWriter {
    half: BufWriter<WriteHalf<TcpStream>>,
}

impl FrameStream {
    /// Connects to `host:port` within `timeout`. Frames longer than `frame_bytes_max` are refused
    /// on reading.
    pub async fn connect(
        address: &str,
        timeout: Duration,
        frame_bytes_max: usize,
    ) -> Result<FrameStream, ClientError> {
        let failed = |reason: String, timed_out| ClientError::Connect {
            address: address.to_owned(),
            reason,
            timed_out,
        };
        let stream = tokio::time::timeout(timeout, TcpStream::connect(address))
            .await
            .map_err(|_| failed(format!("no answer within {} ms", timeout.as_millis()), true))?
            .map_err(|error| {
                failed(
                    plain_reason(&error),
                    error.kind() == io::ErrorKind::TimedOut,
                )
            })?;
        stream
            .set_nodelay(true)
            .map_err(|error| failed(error.to_string(), false))?;
        let (reader, writer) = tokio::io::split(stream);
        Ok(FrameStream {
            reader: FrameReader {
                half: reader,
                frame_bytes_max,
            },
            writer: FrameWriter {
                half: BufWriter::with_capacity(READ_STEP_BYTES, writer),
            },
        })
    }

    /// Sends bytes as they are, with no length before them.
    pub async fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.writer.half.write_all(bytes).await?;
        self.writer.half.flush().await
    }

    /// Sends one frame.
    pub async fn send(&mut self, body: &[u8]) -> io::Result<()> {
        self.writer.send(&[body]).await
    }

    /// Reads one frame. `Ok(None)`: the peer closed between frames.
    pub async fn receive(&mut self) -> io::Result<Option<Bytes>> {
        self.reader.receive().await
    }

    /// Says that nothing more will be sent; reading goes on.
    pub async fn close_sending(&mut self) -> io::Result<()> {
        self.writer.half.shutdown().await
    }
}

impl FrameWriter {
    /// Sends the pieces as one frame.
    pub(crate) async fn send(&mut self, pieces: &[&[u8]]) -> io::Result<()> {
        let len: usize = pieces.iter().map(|piece| piece.len()).sum();
        let len = i32::try_from(len)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a frame of 2 GiB or more"))?;
        self.half.write_all(&len.to_be_bytes()).await?;
        for piece in pieces {
            self.half.write_all(piece).await?;
        }
        self.half.flush().await
    }

    pub(crate) async fn close(&mut self) -> io::Result<()> {
        self.half.shutdown().await
    }
}

impl FrameReader {
    pub(crate) async fn receive(&mut self) -> io::Result<Option<Bytes>> {
        let mut prefix = [0; 4];
        let mut filled = 0;
        while filled < prefix.len() {
            match self.half.read(&mut prefix[filled..]).await? {
                0 if filled == 0 => return Ok(None),
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => filled += count,
            }
        }
        let len = usize::try_from(i32::from_be_bytes(prefix))
            .ok()
            .filter(|len| *len <= self.frame_bytes_max)
            .ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("a frame of {} bytes", i32::from_be_bytes(prefix)),
                )
            })?;
        let mut frame = BytesMut::with_capacity(len.min(READ_STEP_BYTES));
        while frame.len() < len {
            let missing = len - frame.len();
            frame.reserve(missing.min(READ_STEP_BYTES.max(frame.len())));
            if (&mut self.half)
                .take(missing as u64)
                .read_buf(&mut frame)
                .await?
                == 0
            {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(Some(frame.freeze()))
    }
}

/// The reason without the "(os error 111)" that means nothing to most.
fn plain_reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::HostUnreachable => "host unreachable".to_owned(),
        io::ErrorKind::NetworkUnreachable => "network unreachable".to_owned(),
        _ => error.to_string(),
    }
}
