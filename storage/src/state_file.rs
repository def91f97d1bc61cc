//! Small files that are replaced whole: checkpoints, identities.
//!
//! A file is one kind of record in one version, checked from end to end, so that any damage is an
//! error and never a wrong value or "not found". Replacing is atomic and durable.
//!
//! ```text
//! all integers little-endian
//!  0  magic    [u8; 4]  "BLSF"
//!  4  kind     [u8; 4]  what the body is
//!  8  version  u16      of the body
//! 10  zero     u16
//! 12  length   u32      of the body
//! 16  crc      u32      CRC-32 (crc32fast) of bytes 0..16 and the body
//! 20  body
//! ```

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::disk::Disk;

const MAGIC: [u8; 4] = *b"BLSF";
const HEADER_BYTES: usize = 20;

/// Why a state file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateFileError {
    /// Its bytes are not what was written.
    #[error("{} is damaged at byte {position}: expected {expected}, found {found}", file.display())]
    Corrupt {
        /// The file.
        file: PathBuf,
        /// Where in it.
        position: u64,
        /// What should be there.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A newer version wrote it.
    #[error("{} has version {found}, only versions up to {supported} are known", file.display())]
    UnknownVersion {
        /// The file.
        file: PathBuf,
        /// Its version.
        found: u16,
        /// The newest known.
        supported: u16,
    },
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it was refused.
        source: io::Error,
    },
}

/// Replaces the file by `body`; durable on return, old or new after a crash.
pub fn write(
    disk: &Disk,
    path: &Path,
    kind: [u8; 4],
    version: u16,
    body: &[u8],
) -> Result<(), StateFileError> {
    let io_error = |source| StateFileError::Io {
        action: "write",
        path: path.to_owned(),
        source,
    };
    let length =
        u32::try_from(body.len()).map_err(|_| io_error(io::ErrorKind::FileTooLarge.into()))?;
    let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&kind);
    bytes.extend_from_slice(&version.to_le_bytes());
    bytes.extend_from_slice(&[0; 2]);
    bytes.extend_from_slice(&length.to_le_bytes());
    let crc = checksum(&bytes, body);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes.extend_from_slice(body);
    disk.write_file_atomic(path, &bytes).map_err(io_error)
}

/// The body last written, or `None` when the file is absent. `version` is the newest the caller
/// knows; a file of an older version is returned as it is, see [`read_versioned`].
pub fn read(
    disk: &Disk,
    path: &Path,
    kind: [u8; 4],
    version: u16,
) -> Result<Option<Bytes>, StateFileError> {
    Ok(read_versioned(disk, path, kind, version)?.map(|(_, body)| body))
}

/// Like [`read`], with the version that the file was written in.
pub fn read_versioned(
    disk: &Disk,
    path: &Path,
    kind: [u8; 4],
    version_max: u16,
) -> Result<Option<(u16, Bytes)>, StateFileError> {
    let bytes = match disk.read_file(path) {
        Ok(bytes) => Bytes::from(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(StateFileError::Io {
                action: "read",
                path: path.to_owned(),
                source,
            });
        }
    };
    let corrupt = |position: u64, expected: String, found: String| StateFileError::Corrupt {
        file: path.to_owned(),
        position,
        expected,
        found,
    };
    let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else {
        let found = format!("{} bytes", bytes.len());
        return Err(corrupt(0, format!("at least {HEADER_BYTES} bytes"), found));
    };
    let u32_at = |at: usize| {
        u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    if header[..4] != MAGIC {
        return Err(corrupt(
            0,
            "the magic BLSF".into(),
            format!("{:02x?}", &header[..4]),
        ));
    }
    let (length, body) = (u32_at(12), bytes.slice(HEADER_BYTES..));
    if body.len() as u64 != u64::from(length) {
        let found = format!("{} bytes", body.len());
        return Err(corrupt(12, format!("a body of {length} bytes"), found));
    }
    let (stored, computed) = (u32_at(16), checksum(&header[..16], &body));
    if stored != computed {
        let found = format!("checksum {computed:08x}");
        return Err(corrupt(16, format!("checksum {stored:08x}"), found));
    }
    if header[4..8] != kind {
        let found = format!("{:?}", header[4..8].escape_ascii().to_string());
        return Err(corrupt(
            4,
            format!("kind {:?}", kind.escape_ascii().to_string()),
            found,
        ));
    }
    let version = u16::from_le_bytes([header[8], header[9]]);
    if version > version_max {
        return Err(StateFileError::UnknownVersion {
            file: path.to_owned(),
            found: version,
            supported: version_max,
        });
    }
    Ok(Some((version, body)))
}

fn checksum(header: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(header);
    hasher.update(body);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::SimDisk;

    const KIND: [u8; 4] = *b"TEST";

    fn new_disk() -> (SimDisk, Disk) {
        let sim = SimDisk::new(7);
        (sim.clone(), Disk::Sim(sim))
    }

    #[test]
    fn what_was_written_is_read_and_absence_is_not_an_error() {
        let (_, disk) = new_disk();
        let path = Path::new("/state");
        assert!(read(&disk, path, KIND, 1).unwrap().is_none());
        for body in [&b"one"[..], b"", &[7; 5000]] {
            write(&disk, path, KIND, 1, body).unwrap();
            assert_eq!(read(&disk, path, KIND, 1).unwrap().unwrap(), body);
        }
        write(&disk, path, KIND, 2, b"x").unwrap();
        let error = read(&disk, path, KIND, 1).unwrap_err();
        assert!(matches!(
            error,
            StateFileError::UnknownVersion {
                found: 2,
                supported: 1,
                ..
            }
        ));
        assert_eq!(read_versioned(&disk, path, KIND, 3).unwrap().unwrap().0, 2);
        let error = read(&disk, path, *b"ELSE", 3).unwrap_err();
        assert!(matches!(error, StateFileError::Corrupt { .. }));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_detected() {
        let (sim, disk) = new_disk();
        let path = Path::new("/state");
        write(&disk, path, KIND, 1, b"a body of some bytes").unwrap();
        let whole = disk.read_file(path).unwrap();
        for bit in 0..whole.len() as u64 * 8 {
            sim.flip_bit(path, bit).unwrap();
            assert!(read(&disk, path, KIND, 1).is_err(), "bit {bit}");
            sim.flip_bit(path, bit).unwrap();
        }
        for len in (0..whole.len()).rev() {
            disk.open(path, crate::disk::OpenMode::ReadWrite)
                .unwrap()
                .set_len(len as u64)
                .unwrap();
            assert!(read(&disk, path, KIND, 1).is_err(), "cut to {len}");
        }
    }

    #[test]
    fn a_crash_at_any_operation_leaves_the_old_body_or_the_new() {
        for n_ops in 1..7 {
            for seed in 0..50 {
                let (sim, disk) = new_disk();
                let path = Path::new("/state");
                write(&disk, path, KIND, 1, b"old").unwrap();
                sim.fail_after(n_ops);
                let result = write(&disk, path, KIND, 1, &[9; 1500]);
                sim.crash(seed);
                let body = read(&disk, path, KIND, 1).unwrap().unwrap();
                assert!(body == [9; 1500][..] || (body == b"old"[..] && result.is_err()));
            }
        }
    }
}
