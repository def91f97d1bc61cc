//! Printing records, up to a number of them.

use broker::record::Record;
use bytes::Bytes;
use serde_json::{Value, json};

use crate::cli::failure::Failure;
use crate::cli::output::{Format, Output, base64, printable};
use crate::cli::time::format_utc;

/// Writes records, up to a number.
pub(super) struct Printer {
    topic: String,
    printed: i64,
    left: Option<u64>,
}

impl Printer {
    pub(super) fn new(topic: &str, count: Option<u64>) -> Printer {
        Printer {
            topic: topic.to_owned(),
            printed: 0,
            left: count,
        }
    }

    /// How many it has printed.
    pub(super) fn printed(&self) -> i64 {
        self.printed
    }

    pub(super) fn is_done(&self) -> bool {
        self.left == Some(0)
    }

    pub(super) fn heading(&self, output: &mut Output) -> Result<(), Failure> {
        if output.format() == Format::Table {
            output.line(&row("PARTITION", "OFFSET", "TIMESTAMP", "KEY", "VALUE"))?;
        }
        Ok(())
    }

    pub(super) fn print(
        &mut self,
        partition: i32,
        record: &Record,
        output: &mut Output,
    ) -> Result<(), Failure> {
        match output.format() {
            Format::Json => output.json(&self.as_json(partition, record))?,
            Format::Table => {
                let text =
                    |bytes: &Option<Bytes>| bytes.as_deref().map_or("-".to_owned(), printable);
                output.line(&row(
                    &partition.to_string(),
                    &record.offset.to_string(),
                    &format_utc(record.timestamp_ms),
                    &text(&record.key),
                    &text(&record.value),
                ))?;
            }
        }
        self.printed += 1;
        self.left = self.left.map(|left| left.saturating_sub(1));
        Ok(())
    }

    fn as_json(&self, partition: i32, record: &Record) -> Value {
        let headers: Vec<Value> = record
            .headers
            .iter()
            .map(|(key, value)| json!({ "key": key, "value": bytes_json(value.as_ref()) }))
            .collect();
        json!({
            "topic": self.topic,
            "partition": partition,
            "offset": record.offset,
            "timestamp_ms": record.timestamp_ms,
            "key": bytes_json(record.key.as_ref()),
            "value": bytes_json(record.value.as_ref()),
            "headers": headers,
        })
    }
}

/// Text as a string; bytes that are no UTF-8 as `{"base64": "..."}`.
fn bytes_json(bytes: Option<&Bytes>) -> Value {
    match bytes.map(|bytes| (std::str::from_utf8(bytes), bytes)) {
        None => Value::Null,
        Some((Ok(text), _)) => text.into(),
        Some((Err(_), bytes)) => json!({ "base64": base64(bytes) }),
    }
}

fn row(partition: &str, offset: &str, timestamp: &str, key: &str, value: &str) -> String {
    format!("{partition:>9}  {offset:>8}  {timestamp:<24}  {key:<12}  {value}")
}
