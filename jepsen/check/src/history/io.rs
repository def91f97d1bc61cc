//! Histories as JSON lines, read and written.

use std::io::{BufRead, Read, Write};

use super::{EVENTS_MAX, Event, HistoryError, Sequence};

/// Bytes of a line at most: a read of a whole partition stands in one.
pub const LINE_BYTES_MAX: u64 = 64 << 20;

/// Reads a history and sees that it is one: indexes without gaps, time that does not go back,
/// completions that answer invocations, one open operation a process.
///
/// # Errors
///
/// What is wrong with it, and where.
pub fn read_history(mut reader: impl BufRead) -> Result<Vec<Event>, HistoryError> {
    let mut events = Vec::new();
    let mut sequence = Sequence::default();
    let mut line = Vec::new();
    for number in 1_u64.. {
        line.clear();
        let bytes = reader
            .by_ref()
            .take(LINE_BYTES_MAX + 1)
            .read_until(b'\n', &mut line)?;
        if bytes == 0 {
            break;
        }
        if line.len() as u64 > LINE_BYTES_MAX {
            return Err(HistoryError::LineTooLong {
                line: number,
                bytes_max: LINE_BYTES_MAX,
            });
        }
        if number > EVENTS_MAX {
            return Err(HistoryError::TooLong {
                events_max: EVENTS_MAX,
            });
        }
        let event: Event = serde_json::from_slice(&line).map_err(|source| HistoryError::Parse {
            line: number,
            source,
        })?;
        sequence.admit(&event)?;
        events.push(event);
    }
    Ok(events)
}

/// Writes a history as JSON lines; give it a buffered writer.
///
/// # Errors
///
/// The writer's.
pub fn write(mut writer: impl Write, events: &[Event]) -> Result<(), HistoryError> {
    for event in events {
        write_event(&mut writer, event)?;
    }
    Ok(writer.flush()?)
}

pub(super) fn write_event(mut writer: impl Write, event: &Event) -> Result<(), HistoryError> {
    serde_json::to_writer(&mut writer, event)
        .map_err(|source| HistoryError::Write(source.into()))?;
    writer.write_all(b"\n").map_err(HistoryError::Write)
}
