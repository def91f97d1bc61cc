//! Redis Streams: XADD, and XLEN and XRANGE to look whether all is there (RESP 2).

use super::wire::Wire;
use super::{OneByOne, value};

/// Records that are read back at once.
const PAGE: usize = 1_000;

/// A stream of its own.
pub(super) struct Stream {
    wire: Wire,
    key: String,
}

/// An answer, of the kinds that these commands have.
#[derive(Debug, PartialEq, Eq)]
enum Reply {
    Status(String),
    Number(i64),
    Bulk(Vec<u8>),
    Array(Vec<Reply>),
}

/// An entry of a stream is an array in an array in an array.
const DEPTH_MAX: u32 = 4;

impl OneByOne for Stream {
    fn open(address: &str, name: &str) -> Result<Stream, String> {
        let wire = Wire::connect(address)?;
        let key = name.to_owned();
        Ok(Stream { wire, key })
    }

    fn write(&mut self, _: u64, value: &[u8]) -> Result<(), String> {
        let key = self.key.clone();
        match self.ask(&[b"XADD", key.as_bytes(), b"*", b"v", value])? {
            Reply::Bulk(_) => Ok(()),
            other => Err(format!("XADD was answered by {other:?}")),
        }
    }

    fn close(mut self, count: u64) -> Result<(), String> {
        let key = self.key.clone();
        let length = self.ask(&[b"XLEN", key.as_bytes()])?;
        if length != Reply::Number(count.cast_signed()) {
            return Err(format!(
                "{count} records were acknowledged, XLEN is {length:?}"
            ));
        }
        self.check(count)?;
        self.ask(&[b"DEL", key.as_bytes()]).map(|_| ())
    }
}

impl Stream {
    /// Reads all of it: each record once, in order.
    fn check(&mut self, count: u64) -> Result<(), String> {
        let key = self.key.clone();
        let (mut next, mut from) = (0, "-".to_owned());
        while next < count {
            let page = PAGE.to_string();
            let range = [
                b"XRANGE",
                key.as_bytes(),
                from.as_bytes(),
                b"+",
                b"COUNT",
                page.as_bytes(),
            ];
            let Reply::Array(entries) = self.ask(&range)? else {
                return Err("XRANGE is answered by something else".to_owned());
            };
            if entries.is_empty() {
                return Err(format!("records from {next} on are lost"));
            }
            for entry in entries {
                let (id, found) = entry_of(&entry).ok_or_else(|| format!("an entry {entry:?}"))?;
                if found != value(next) {
                    return Err(format!("record {next} is lost, twice or damaged"));
                }
                from = format!("({}", String::from_utf8_lossy(id));
                next += 1;
            }
        }
        Ok(())
    }

    fn ask(&mut self, words: &[&[u8]]) -> Result<Reply, String> {
        let mut request = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            request.extend(format!("${}\r\n", word.len()).into_bytes());
            request.extend_from_slice(word);
            request.extend_from_slice(b"\r\n");
        }
        self.wire.send(&request)?;
        self.reply(DEPTH_MAX)
    }

    fn reply(&mut self, depth: u32) -> Result<Reply, String> {
        let line = self.wire.line()?;
        let (kind, rest) = line.split_at_checked(1).ok_or("an empty answer")?;
        let length = || {
            rest.parse::<usize>()
                .map_err(|_| format!("an answer {line}"))
        };
        match kind {
            "+" => Ok(Reply::Status(rest.to_owned())),
            ":" => rest
                .parse()
                .map(Reply::Number)
                .map_err(|_| format!("an answer {line}")),
            "$" => self.wire.part(length()?).map(Reply::Bulk),
            "*" if depth > 0 && length()? <= PAGE => {
                let parts = (0..length()?).map(|_| self.reply(depth - 1));
                parts.collect::<Result<_, _>>().map(Reply::Array)
            }
            _ => Err(format!("an answer {line}")),
        }
    }
}

/// Id and value of an entry: `[id, [field, value]]`.
fn entry_of(entry: &Reply) -> Option<(&[u8], &[u8])> {
    let Reply::Array(parts) = entry else {
        return None;
    };
    let [Reply::Bulk(id), Reply::Array(fields)] = parts.as_slice() else {
        return None;
    };
    let [Reply::Bulk(_), Reply::Bulk(value)] = fields.as_slice() else {
        return None;
    };
    Some((id, value))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    /// Answers a client with these bytes, whatever it asks.
    fn answered_by(answers: Vec<u8>) -> Stream {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(&answers).unwrap();
            let mut asked = Vec::new();
            stream.read_to_end(&mut asked).unwrap();
        });
        Stream::open(&address, "s").unwrap()
    }

    fn entry(id: &str, number: u64) -> Vec<u8> {
        let head = format!("*2\r\n${}\r\n{id}\r\n*2\r\n$1\r\nv\r\n$100\r\n", id.len());
        [head.as_bytes(), &value(number), b"\r\n"].concat()
    }

    #[test]
    fn a_stream_with_every_record_once_is_whole() {
        let answers = [
            &b":2\r\n*2\r\n"[..],
            &entry("1-0", 0),
            &entry("1-1", 1),
            b":1\r\n",
        ];
        assert_eq!(answered_by(answers.concat()).close(2), Ok(()));
    }

    #[test]
    fn a_stream_that_lacks_a_record_or_has_one_twice_is_not() {
        assert!(answered_by(b":1\r\n".to_vec()).close(2).is_err());
        let twice = [&b":2\r\n*2\r\n"[..], &entry("1-0", 0), &entry("1-1", 0)];
        let found = answered_by(twice.concat()).close(2).unwrap_err();
        assert!(found.contains("record 1"), "{found}");
        let ends = [&b":2\r\n*1\r\n"[..], &entry("1-0", 0), b"*0\r\n"];
        assert!(answered_by(ends.concat()).close(2).is_err());
    }

    #[test]
    fn an_error_or_nonsense_is_not_an_acknowledgement() {
        for answer in ["-ERR no", "+OK", ":1", "$x", "*9999999", "", "$3\r\nabcd"] {
            let written = answered_by(format!("{answer}\r\n").into()).write(0, b"v");
            assert!(written.is_err(), "{answer}");
        }
    }
}
