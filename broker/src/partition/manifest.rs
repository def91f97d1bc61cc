//! What a checkpoint of a data shard says: every partition with its log, epochs and producers.
//!
//! ```text
//! version u16, count u32, then per partition:
//!   topic id 16 bytes, index u32, epoch base i64,
//!   v2: generation u32, stand u8, sealed by u32, barred u32     see `Stand`
//!   log state  length u32 + bytes (the storage crate's own encoding)
//!   producers  checked i64, count u32, producer*
//! v3: what the logs that are being filled were filled with, see `Fitting`: count u32, then per such
//!   partition topic id, index, fitting
//! v2: count u32, then per partition that was made here and has moved away: topic id, index
//! ```
//! Integers are big-endian. The file around it carries kind, length and checksum. Version 1 is
//! still read: nothing was moved then.

use std::collections::HashMap;

use bytes::Bytes;
use storage::partition_log::LogState;
use storage::{LogId, PartitionId};

use super::op::{put_partition, take_partition};
use super::producers::Producers;
use crate::stage::fitting::{FITTING_BYTES, Fitting};
use crate::wire::{Malformed, Reader, Writer};

const VERSION: u16 = 3;
/// What is written while no log is being filled.
const VERSION_WITHOUT_FILLED: u16 = 2;
/// Smallest encoded partition.
const PARTITION_BYTES: usize = 20 + 8 + 4 + 12;

/// What a log is used for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Stand {
    /// It is the partition.
    #[default]
    Serving,
    /// It is being filled from another shard, and serves nobody.
    Filling,
    /// It is the partition, or was, and takes no appends because of the move of this generation.
    Sealed(u32),
}

/// One partition of a checkpoint.
#[derive(Debug, Clone)]
pub(crate) struct PartitionState {
    pub(crate) id: PartitionId,
    pub(crate) generation: u32,
    pub(crate) stand: Stand,
    /// Moves up to this generation never seal it.
    pub(crate) barred: u32,
    pub(crate) epoch_base: i64,
    /// What it was filled with, while it is being filled.
    pub(crate) filled: Fitting,
    pub(crate) log: LogState,
    pub(crate) producers: Producers,
}

impl PartitionState {
    pub(crate) fn log_id(&self) -> LogId {
        LogId {
            partition: self.id,
            generation: self.generation,
        }
    }
}

/// A whole checkpoint.
#[derive(Debug, Clone, Default)]
pub(crate) struct Manifest {
    pub(crate) partitions: Vec<PartitionState>,
    /// Partitions that were made in this shard and have moved away.
    pub(crate) departed: Vec<PartitionId>,
}

/// Why a manifest cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ManifestError {
    /// The bytes are not a manifest.
    Malformed(&'static str),
    /// Written by a newer version.
    UnknownVersion(u16),
}

impl From<Malformed> for ManifestError {
    fn from(error: Malformed) -> ManifestError {
        ManifestError::Malformed(error.expected)
    }
}

fn put_stand(writer: &mut Writer, stand: Stand) {
    match stand {
        Stand::Serving => writer.u8(0).u32(0),
        Stand::Filling => writer.u8(1).u32(0),
        Stand::Sealed(by) => writer.u8(2).u32(by),
    };
}

fn take_stand(reader: &mut Reader) -> Result<Stand, Malformed> {
    let (kind, by) = (reader.u8()?, reader.u32()?);
    match kind {
        0 => Ok(Stand::Serving),
        1 => Ok(Stand::Filling),
        2 => Ok(Stand::Sealed(by)),
        _ => Err(reader.malformed("a known use of a log")),
    }
}

pub(crate) fn encode(manifest: &Manifest) -> Bytes {
    let mut writer = Writer::default();
    let is_filled = |one: &&PartitionState| one.filled != Fitting::default();
    let filled: Vec<_> = manifest.partitions.iter().filter(is_filled).collect();
    let version = match filled.is_empty() {
        true => VERSION_WITHOUT_FILLED,
        false => VERSION,
    };
    writer.u16(version).count(manifest.partitions.len());
    for partition in &manifest.partitions {
        put_partition(&mut writer, partition.id);
        writer.i64(partition.epoch_base).u32(partition.generation);
        put_stand(&mut writer, partition.stand);
        writer.u32(partition.barred).bytes(&partition.log.encode());
        partition.producers.encode(&mut writer);
    }
    if version >= 3 {
        writer.count(filled.len());
        for partition in filled {
            put_partition(&mut writer, partition.id);
            writer.raw(&partition.filled.to_bytes());
        }
    }
    writer.count(manifest.departed.len());
    for id in &manifest.departed {
        put_partition(&mut writer, *id);
    }
    writer.finish()
}

pub(crate) fn decode(manifest: Bytes) -> Result<Manifest, ManifestError> {
    let mut reader = Reader::new(manifest);
    let version = reader.u16()?;
    if !(1..=VERSION).contains(&version) {
        return Err(ManifestError::UnknownVersion(version));
    }
    let count = reader.count(PARTITION_BYTES)?;
    let mut decoded = Manifest {
        partitions: Vec::with_capacity(count),
        departed: Vec::new(),
    };
    for _ in 0..count {
        let id = take_partition(&mut reader)?;
        let epoch_base = reader.i64()?;
        let (generation, stand, barred) = match version {
            1 => (0, Stand::Serving, 0),
            _ => (reader.u32()?, take_stand(&mut reader)?, reader.u32()?),
        };
        let log = reader.bytes()?;
        let log =
            LogState::decode(&log).map_err(|_| ManifestError::Malformed("the state of a log"))?;
        let producers = Producers::decode(&mut reader)?;
        decoded.partitions.push(PartitionState {
            id,
            generation,
            stand,
            barred,
            epoch_base,
            filled: Fitting::default(),
            log,
            producers,
        });
    }
    if version >= 3 {
        let mut filled = HashMap::new();
        for _ in 0..reader.count(20 + FITTING_BYTES)? {
            let id = take_partition(&mut reader)?;
            let fitting = Fitting::from_bytes(reader.array()?);
            filled.insert(
                id,
                fitting.ok_or(reader.malformed("what a log was filled with"))?,
            );
        }
        for partition in &mut decoded.partitions {
            partition.filled = filled.remove(&partition.id).unwrap_or_default();
        }
        if !filled.is_empty() {
            return Err(reader.malformed("a partition that is filled").into());
        }
    }
    if version >= 2 {
        for _ in 0..reader.count(20)? {
            decoded.departed.push(take_partition(&mut reader)?);
        }
    }
    reader.end()?;
    Ok(decoded)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use storage::{Offset, TopicId};

    use super::*;

    fn id(index: u32) -> PartitionId {
        PartitionId {
            topic: TopicId([7; 16]),
            index,
        }
    }

    fn state(index: u32, stand: Stand) -> PartitionState {
        PartitionState {
            id: id(index),
            generation: index,
            stand,
            barred: index + 1,
            epoch_base: -i64::from(index),
            filled: match stand {
                Stand::Filling => Fitting::after_others(),
                _ => Fitting::default(),
            },
            log: LogState::empty(Offset(i64::from(index))),
            producers: Producers::default(),
        }
    }

    #[test]
    fn what_is_written_is_read_and_no_prefix_of_it_is() {
        let stands = [Stand::Serving, Stand::Filling, Stand::Sealed(9)];
        let manifest = Manifest {
            partitions: (1..).zip(stands).map(|(n, s)| state(n, s)).collect(),
            departed: vec![id(8)],
        };
        let bytes = encode(&manifest);
        let read = decode(bytes.clone()).expect("is read");
        assert_eq!(read.departed, manifest.departed);
        for (read, written) in read.partitions.iter().zip(&manifest.partitions) {
            assert_eq!(
                (read.log_id(), read.stand, read.barred, read.epoch_base),
                (
                    written.log_id(),
                    written.stand,
                    written.barred,
                    written.epoch_base
                )
            );
            assert_eq!(read.log.end, written.log.end);
            assert_eq!(read.filled, written.filled);
        }
        for len in 0..bytes.len() {
            assert!(decode(bytes.slice(..len)).is_err());
        }
    }

    #[test]
    fn the_first_version_has_only_partitions_that_serve() {
        let mut writer = Writer::default();
        writer.u16(1).count(1);
        put_partition(&mut writer, id(4));
        writer.i64(3).bytes(&LogState::empty(Offset(5)).encode());
        Producers::default().encode(&mut writer);
        let read = decode(writer.finish()).expect("is read").partitions;
        assert_eq!(read[0].log_id(), LogId::from(id(4)));
        assert_eq!((read[0].stand, read[0].epoch_base), (Stand::Serving, 3));
        assert_eq!(
            decode(Bytes::from_static(&[0, 9])).unwrap_err(),
            ManifestError::UnknownVersion(9)
        );
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(version in 0_u8..5, rest in proptest::collection::vec(any::<u8>(), 0..120)) {
            let mut bytes = vec![0, version];
            bytes.extend(rest);
            let _ = decode(bytes.into());
        }
    }
}
