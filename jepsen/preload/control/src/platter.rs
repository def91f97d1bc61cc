//! What becomes of one file when power goes: its sectors as they were written, or as they are on
//! the platter.
//!
//! Which sectors were in flight is seen by comparing the two, so nothing has to be noted when bytes
//! are written: where they are the same, nothing can be lost.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::SeekFrom;

use crate::{Draw, SECTOR_BYTES};

/// Bytes compared at a time.
const CHUNK_BYTES: usize = 256 << 10;

const SECTOR: usize = 512;

const _: () = assert!(SECTOR as u64 == SECTOR_BYTES);

/// What a power cut did to one file, or to several.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Torn {
    /// Sectors in flight that got there.
    pub sectors_kept: u64,
    /// Sectors in flight that did not.
    pub sectors_lost: u64,
    /// Files whose length is not the one the node saw.
    pub lengths_changed: u64,
}

impl Torn {
    /// Adds what was done to another file.
    pub fn add(&mut self, other: Torn) {
        self.sectors_kept += other.sectors_kept;
        self.sectors_lost += other.sectors_lost;
        self.lengths_changed += other.lengths_changed;
    }
}

/// Draws for each sector that differs between a file and its platter which of them stays, and for
/// the length likewise; afterwards both hold the same.
pub fn tear(live: &Path, platter: &Path, draw: &mut Draw<'_>) -> io::Result<Torn> {
    let live = open(live, false)?;
    let platter = open(platter, true)?;
    let (live_len, platter_len) = (live.metadata()?.len(), platter.metadata()?.len());
    let (kept, of) = [(0, 1), (1, 1), (1, 2), (1, 4), (3, 4)][index(draw(5))];
    let mut torn = Torn::default();
    let (mut ours, mut theirs) = (vec![0; CHUNK_BYTES], vec![0; CHUNK_BYTES]);
    let long = live_len.max(platter_len);
    let mut position = 0;
    while let Some(next) = next_data(&[&live, &platter], position)? {
        position = next;
        read_padded(&live, &mut ours, position)?;
        read_padded(&platter, &mut theirs, position)?;
        if ours != theirs {
            let sectors = ours.chunks_exact(SECTOR).zip(theirs.chunks_exact(SECTOR));
            for (at, (our, their)) in (position..).step_by(SECTOR).zip(sectors) {
                if our == their {
                    continue;
                }
                if draw(of) < kept {
                    platter.write_all_at(our, at)?;
                    torn.sectors_kept += 1;
                } else {
                    live.write_all_at(their, at)?;
                    torn.sectors_lost += 1;
                }
            }
        }
        position += CHUNK_BYTES as u64;
    }
    let short = live_len.min(platter_len);
    let len = match draw(3) {
        0 => short,
        1 => long,
        _ => short + draw(long - short + 1),
    };
    torn.lengths_changed = u64::from(len != live_len);
    live.set_len(len)?;
    platter.set_len(len)?;
    Ok(torn)
}

/// Makes the platter hold what the file does.
pub fn settle(live: &Path, platter: &Path) -> io::Result<()> {
    let live = open(live, false)?;
    let platter = open(platter, true)?;
    let len = live.metadata()?.len();
    platter.set_len(len)?;
    let (mut ours, mut theirs) = (vec![0; CHUNK_BYTES], vec![0; CHUNK_BYTES]);
    let mut position = 0;
    while let Some(next) = next_data(&[&live, &platter], position)? {
        position = next;
        read_padded(&live, &mut ours, position)?;
        read_padded(&platter, &mut theirs, position)?;
        if ours != theirs {
            platter.write_all_at(&ours, position)?;
        }
        position += CHUNK_BYTES as u64;
    }
    platter.set_len(len)
}

fn open(path: &Path, may_be_new: bool) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(may_be_new)
        .truncate(false)
        .open(path)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

/// The first sector at or behind `position` where one of the files has bytes and not only a hole.
fn next_data(files: &[&File], position: u64) -> io::Result<Option<u64>> {
    let mut next: Option<u64> = None;
    for file in files {
        match rustix::fs::seek(file, SeekFrom::Data(position)) {
            Ok(found) => next = Some(next.map_or(found, |next| next.min(found))),
            Err(rustix::io::Errno::NXIO) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(next.map(|next| next / SECTOR_BYTES * SECTOR_BYTES))
}

/// Reads as if the file went on with zeros for ever.
fn read_padded(file: &File, buffer: &mut [u8], position: u64) -> io::Result<()> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], position + filled as u64)? {
            0 => break,
            count => filled += count,
        }
    }
    buffer[filled..].fill(0);
    Ok(())
}

fn index(drawn: u64) -> usize {
    usize::try_from(drawn).unwrap_or_default()
}
