//! A connection that is read by lines and by counted bytes, as Redis and NATS both speak.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use super::ANSWER_LIMIT;

/// No line of either is longer.
const LINE_BYTES_MAX: u64 = 64 << 10;
/// No part of an answer is longer.
const PART_BYTES_MAX: usize = 1 << 20;

/// A connection.
pub(super) struct Wire {
    reader: BufReader<TcpStream>,
}

impl Wire {
    pub(super) fn connect(address: &str) -> Result<Wire, String> {
        let told = |error: std::io::Error| format!("{address}: {error}");
        let stream = TcpStream::connect(address).map_err(told)?;
        stream.set_nodelay(true).map_err(told)?;
        stream
            .set_read_timeout(Some(ANSWER_LIMIT))
            .and_then(|()| stream.set_write_timeout(Some(ANSWER_LIMIT)))
            .map_err(told)?;
        Ok(Wire {
            reader: BufReader::new(stream),
        })
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        let sent = self.reader.get_mut().write_all(bytes);
        sent.map_err(|error| format!("cannot send: {error}"))
    }

    /// The next line, without its end.
    pub(super) fn line(&mut self) -> Result<String, String> {
        let mut line = Vec::new();
        let mut limited = (&mut self.reader).take(LINE_BYTES_MAX);
        let read = limited.read_until(b'\n', &mut line);
        read.map_err(|error| format!("no answer: {error}"))?;
        let line = line.strip_suffix(b"\r\n");
        let line = line.ok_or("the connection was closed, or a line has no end")?;
        Ok(String::from_utf8_lossy(line).into_owned())
    }

    /// So many bytes, and the end of line behind them.
    pub(super) fn part(&mut self, length: usize) -> Result<Vec<u8>, String> {
        if length > PART_BYTES_MAX {
            return Err(format!("an answer of {length} bytes"));
        }
        let mut bytes = vec![0; length + 2];
        let read = self.reader.read_exact(&mut bytes);
        read.map_err(|error| format!("no answer: {error}"))?;
        match bytes.strip_suffix(b"\r\n") {
            Some(part) => Ok(part.to_vec()),
            None => Err("an answer is longer than it says".to_owned()),
        }
    }
}
