//! Reading entries: from memory while they are unwritten, else from the files, checked.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::format::{self, FRAME_HEADER_BYTES, FrameFault, Kind};
use super::index::{FilePlace, Place};
use super::pool::JournalFile;
use super::shared::Shared;
use super::{JournalError, ReadEntry};
use crate::{LogIndex, LogPosition, ShardId};

/// An entry to be read, with the file that holds it.
struct Planned {
    position: LogPosition,
    source: Source,
}

enum Source {
    Memory(Arc<[Bytes]>),
    File(FilePlace, Arc<JournalFile>),
}

/// See [`super::Journal::read`].
pub(super) fn read(
    shared: &Shared,
    shard: ShardId,
    from: LogIndex,
    to_exclusive: LogIndex,
    bytes_max: usize,
) -> Result<Vec<ReadEntry>, JournalError> {
    loop {
        let plan = plan(shared, shard, from, to_exclusive, bytes_max)?;
        match fetch(shard, &plan) {
            // Entries dropped meanwhile may lie in a file that has been recycled under our hands.
            Err(JournalError::Corrupt { .. }) if !is_current(shared, shard, &plan) => {}
            result => return result,
        }
    }
}

fn plan(
    shared: &Shared,
    shard: ShardId,
    from: LogIndex,
    to_exclusive: LogIndex,
    bytes_max: usize,
) -> Result<Vec<Planned>, JournalError> {
    let state = shared.lock();
    if let Some(error) = shared.failed_in(&state) {
        return Err(error);
    }
    let Some(index) = state.shards.get(&shard) else {
        return Ok(Vec::new());
    };
    let (mut plan, mut bytes) = (Vec::new(), 0_usize);
    for at in from.0..to_exclusive.0 {
        let Some(entry) = index.entry(LogIndex(at)) else {
            break;
        };
        bytes = bytes.saturating_add(match &entry.place {
            Place::Memory(pieces) => pieces.iter().map(Bytes::len).sum(),
            Place::File(place) => place.payload_len as usize,
        });
        if !plan.is_empty() && bytes > bytes_max {
            break;
        }
        let source = match &entry.place {
            Place::Memory(pieces) => Source::Memory(pieces.clone()),
            Place::File(place) => {
                let file = state
                    .files
                    .get(&place.file)
                    .expect("files outlive their entries");
                Source::File(*place, file.file.clone())
            }
        };
        let position = LogPosition {
            term: entry.term,
            index: LogIndex(at),
        };
        plan.push(Planned { position, source });
    }
    Ok(plan)
}

/// Whether every planned entry is still in the log where it was planned to be read.
fn is_current(shared: &Shared, shard: ShardId, plan: &[Planned]) -> bool {
    let state = shared.lock();
    plan.iter().all(|planned| {
        let entry = state
            .shards
            .get(&shard)
            .and_then(|index| index.entry(planned.position.index));
        match (&planned.source, entry.map(|entry| &entry.place)) {
            (Source::File(place, _), Some(Place::File(now))) => place == now,
            (Source::Memory(_), Some(_)) => true,
            _ => false,
        }
    })
}

fn fetch(shard: ShardId, plan: &[Planned]) -> Result<Vec<ReadEntry>, JournalError> {
    let mut entries = Vec::with_capacity(plan.len());
    let mut rest = plan;
    while let Some(first) = rest.first() {
        match &first.source {
            Source::Memory(pieces) => {
                let payload = match &pieces[..] {
                    [one] => one.clone(),
                    many => many.concat().into(),
                };
                entries.push(ReadEntry {
                    position: first.position,
                    payload,
                });
                rest = &rest[1..];
            }
            Source::File(place, file) => {
                let count = adjacent(rest);
                fetch_run(shard, *place, file, &rest[..count], &mut entries)?;
                rest = &rest[count..];
            }
        }
    }
    Ok(entries)
}

/// How many entries from the first on lie one behind the other in one file.
fn adjacent(plan: &[Planned]) -> usize {
    let follows = |pair: &[Planned]| match (&pair[0].source, &pair[1].source) {
        (Source::File(one, _), Source::File(next, _)) => {
            one.file == next.file && end_of(one) == next.position
        }
        _ => false,
    };
    1 + plan.windows(2).take_while(|pair| follows(pair)).count()
}

fn end_of(place: &FilePlace) -> u64 {
    place.position + format::frame_bytes(place.payload_len as usize) as u64
}

/// Reads adjacent frames with one call.
fn fetch_run(
    shard: ShardId,
    first: FilePlace,
    file: &JournalFile,
    run: &[Planned],
    entries: &mut Vec<ReadEntry>,
) -> Result<(), JournalError> {
    let places = || {
        run.iter().filter_map(|planned| match &planned.source {
            Source::File(place, _) => Some((planned.position, place)),
            Source::Memory(_) => None,
        })
    };
    let len: usize = places()
        .map(|(_, place)| format::frame_bytes(place.payload_len as usize))
        .sum();
    let mut buffer = BytesMut::zeroed(len);
    let read = file.file.read_exact_at(&mut buffer, first.position);
    let corrupt = |position: u64, expected: String, found: String| JournalError::Corrupt {
        file: file.path.clone(),
        position,
        expected,
        found,
    };
    match read {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            let expected = format!("{len} bytes");
            return Err(corrupt(
                first.position,
                expected,
                "the end of the file".into(),
            ));
        }
        result => result.map_err(JournalError::io("read", &file.path))?,
    }
    let buffer = buffer.freeze();
    for (position, place) in places() {
        let start = usize::try_from(place.position - first.position).expect("inside the buffer");
        let frame = format::decode_frame(file.identity, &buffer[start..]).map_err(|fault| {
            let (expected, found) = match fault {
                FrameFault::NotAFrame { expected, found } => (expected, found),
                FrameFault::Unknown { what, number } => {
                    ("an entry".into(), format!("{what} {number}"))
                }
            };
            corrupt(place.position, expected, found)
        })?;
        let head = frame.head;
        if (head.kind, head.shard, head.position, frame.payload.len())
            != (Kind::Entry, shard, position, place.payload_len as usize)
        {
            let expected = format!("entry {position} of shard {shard}");
            let found = format!("{:?} {} of shard {}", head.kind, head.position, head.shard);
            return Err(corrupt(place.position, expected, found));
        }
        let payload_start = start + FRAME_HEADER_BYTES;
        let payload = buffer.slice(payload_start..payload_start + frame.payload.len());
        entries.push(ReadEntry { position, payload });
    }
    Ok(())
}
