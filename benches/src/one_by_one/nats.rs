//! NATS JetStream: a publication with a place for its acknowledgement, which carries the record's
//! number in the stream (NATS client protocol, JetStream API over it).

use serde_json::{Value, json};

use super::OneByOne;
use super::wire::Wire;

/// A stream of its own, kept in files.
pub(super) struct Stream {
    wire: Wire,
    name: String,
}

impl OneByOne for Stream {
    fn open(address: &str, name: &str) -> Result<Stream, String> {
        let mut wire = Wire::connect(address)?;
        let greeting = wire.line()?;
        if !greeting.starts_with("INFO ") {
            return Err(format!("it greets with {greeting}"));
        }
        let options =
            json!({ "verbose": false, "pedantic": false, "lang": "bench", "version": "0" });
        wire.send(format!("CONNECT {options}\r\nSUB {name}.answer 1\r\n").as_bytes())?;
        let name = name.to_owned();
        let mut stream = Stream { wire, name };
        let subject = stream.subject();
        let config = json!({
            "name": stream.name,
            "subjects": [subject],
            "storage": "file",
            "retention": "limits",
            "num_replicas": 1,
        });
        stream.ask_api("CREATE", config.to_string().as_bytes())?;
        Ok(stream)
    }

    fn write(&mut self, number: u64, value: &[u8]) -> Result<(), String> {
        let subject = self.subject();
        let answer = self.ask(&subject, value)?;
        match answer["seq"].as_u64() {
            Some(sequence) if sequence == number + 1 => Ok(()),
            _ => Err(format!("record {number} was answered by {answer}")),
        }
    }

    fn close(mut self, count: u64) -> Result<(), String> {
        let info = self.ask_api("INFO", b"")?;
        let state = &info["state"];
        let found = (state["messages"].as_u64(), state["last_seq"].as_u64());
        if found != (Some(count), Some(count)) {
            return Err(format!(
                "{count} records were acknowledged, there are {state}"
            ));
        }
        self.ask_api("DELETE", b"").map(|_| ())
    }
}

impl Stream {
    fn subject(&self) -> String {
        format!("{}.records", self.name)
    }

    fn ask_api(&mut self, verb: &str, body: &[u8]) -> Result<Value, String> {
        let subject = format!("$JS.API.STREAM.{verb}.{}", self.name);
        self.ask(&subject, body)
    }

    /// Publishes, and waits for what comes back.
    fn ask(&mut self, subject: &str, body: &[u8]) -> Result<Value, String> {
        let mut request = format!("PUB {subject} {}.answer {}\r\n", self.name, body.len());
        request.reserve(body.len() + 2);
        let mut request = request.into_bytes();
        request.extend_from_slice(body);
        request.extend_from_slice(b"\r\n");
        self.wire.send(&request)?;
        let answer = self.answer()?;
        let answer: Value = serde_json::from_slice(&answer)
            .map_err(|error| format!("an answer that is not JSON: {error}"))?;
        match answer["error"].is_null() {
            true => Ok(answer),
            false => Err(format!("{subject}: {}", answer["error"])),
        }
    }

    /// The payload of the next message; the server's own words in between are heeded.
    fn answer(&mut self) -> Result<Vec<u8>, String> {
        loop {
            let line = self.wire.line()?;
            let words: Vec<&str> = line.split(' ').collect();
            match words.as_slice() {
                ["PING"] => self.wire.send(b"PONG\r\n")?,
                ["PONG" | "+OK"] | ["INFO", ..] => {}
                ["MSG", .., length] => {
                    let length = length.parse().map_err(|_| format!("a message {line}"))?;
                    return self.wire.part(length);
                }
                _ => return Err(format!("it says {line}")),
            }
        }
    }
}
