//! Damage to files: a flipped bit, a file cut short, a file gone. It is for good: no power cut takes
//! it back.
//!
//! Which file is drawn so that each kind of file there is comes as often as any other, whatever
//! their sizes. Spare journal files are left alone, since their bytes mean nothing, and so are the
//! files without which a node does not start and is not refilled by the others either (`identity`,
//! `shards/*.checkpoint`, a damaged `run`): `docs/operating.md` has nothing for them but a backup or
//! another node.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use jepsen_control::{FileId, crash};
use jepsen_workload::random::Random;

use super::NodeDisk;

/// Tries to find a byte that means something.
const TRIES_MAX: u32 = 64;

/// Readings of the log of names while the node writes it.
const READS_MAX: u32 = 20;

/// Something that was done to a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The file, below the data directory.
    pub file: String,
    /// What it is: `journal`, `segment`, `index`, `state`.
    pub kind: &'static str,
    /// What was done, for people.
    pub detail: String,
}

/// How a file is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Changed,
    Gone,
}

impl NodeDisk {
    /// Flips one bit of a file, drawn from `seed`; the node runs or not.
    pub fn flip_bit(&self, seed: u64) -> io::Result<Damage> {
        let mut random = Random::new(seed);
        let (name, kind, len) = self.draw_file(&mut random, Way::Changed)?;
        let path = self.data_dir.join(&name);
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        let position = draw_position(&file, len, &mut random)?;
        let mask = 1_u8 << random.below(8);
        let mut byte = [0];
        file.read_exact_at(&mut byte, position)?;
        let (before, after) = (byte[0], byte[0] ^ mask);
        file.write_all_at(&[after], position)?;
        if let Some(id) = self.find(&name)?
            && let Ok(platter) = OpenOptions::new().write(true).open(self.side.platter(id))
            && platter.metadata()?.len() > position
        {
            platter.write_all_at(&[after], position)?;
        }
        file.read_exact_at(&mut byte, position)?;
        let since = if byte[0] == after {
            ""
        } else {
            ", and the node has written over it since"
        };
        Ok(Damage {
            file: name,
            kind,
            detail: format!("byte {position} was {before:#04x} and is {after:#04x}{since}"),
        })
    }

    /// Cuts a file short, drawn from `seed`; the process is gone.
    pub fn truncate_file(&self, seed: u64) -> io::Result<Damage> {
        let mut random = Random::new(seed);
        let (name, kind, len) = self.draw_file(&mut random, Way::Changed)?;
        let cut = random.below(len);
        let open = |path: &Path| OpenOptions::new().write(true).open(path);
        open(&self.data_dir.join(&name))?.set_len(cut)?;
        if let Some(id) = self.find(&name)?
            && let Ok(platter) = open(&self.side.platter(id))
            && platter.metadata()?.len() > cut
        {
            platter.set_len(cut)?;
        }
        Ok(Damage {
            file: name,
            kind,
            detail: format!("it had {len} bytes and has {cut}"),
        })
    }

    /// Deletes a file, drawn from `seed`; the process is gone.
    pub fn delete_file(&self, seed: u64) -> io::Result<Damage> {
        let mut random = Random::new(seed);
        let (name, kind, len) = self.draw_file(&mut random, Way::Gone)?;
        crash::remove(&self.data_dir, &self.side, &name)?;
        Ok(Damage {
            file: name,
            kind,
            detail: format!("it had {len} bytes and is gone"),
        })
    }

    /// Which file a name leads to. A running node may be changing names right now.
    fn find(&self, name: &str) -> io::Result<Option<FileId>> {
        let mut tries = 0;
        loop {
            match crash::find(&self.data_dir, &self.side, name) {
                Err(_) if tries < READS_MAX => tries += 1,
                found => return found,
            }
        }
    }

    /// Draws a kind, and a file of that kind that is not empty.
    fn draw_file(&self, random: &mut Random, way: Way) -> io::Result<(String, &'static str, u64)> {
        let mut files = Vec::new();
        list(&self.data_dir, "", &mut files)?;
        files.retain(|file| way == Way::Gone || file.1 != "state");
        files.sort();
        let mut kinds: Vec<&'static str> = files.iter().map(|file| file.1).collect();
        kinds.sort_unstable();
        kinds.dedup();
        let nothing = || io::Error::new(io::ErrorKind::NotFound, "there is no file to damage");
        let kind = *random.pick(&kinds).ok_or_else(nothing)?;
        files.retain(|file| file.1 == kind);
        random.pick(&files).cloned().ok_or_else(nothing)
    }
}

/// The files below `directory` that mean something, with kind and length.
fn list(
    root: &Path,
    directory: &str,
    files: &mut Vec<(String, &'static str, u64)>,
) -> io::Result<()> {
    for entry in fs::read_dir(root.join(directory))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if directory.is_empty() {
            name
        } else {
            format!("{directory}/{name}")
        };
        // A running node may remove it meanwhile.
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        if metadata.is_dir() {
            match list(root, &path, files) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        } else if let Some(kind) = kind_of(&path)
            && metadata.len() > 0
        {
            files.push((path, kind, metadata.len()));
        }
    }
    Ok(())
}

/// What a file is; `None` for those that are left alone.
fn kind_of(path: &str) -> Option<&'static str> {
    let (top, rest) = path.split_once('/').unwrap_or((path, ""));
    let ends = |end: &str| path.ends_with(end);
    match top {
        "journal" if ends(".journal") => Some("journal"),
        "partitions" if rest.contains(".deleted/") || rest.contains("/staged/") => None,
        "partitions" if ends(".log") => Some("segment"),
        "partitions" if ends(".index") => Some("index"),
        "run" => Some("state"),
        _ => None,
    }
}

/// A position whose sector is not all zeros, if one is soon found.
fn draw_position(file: &File, len: u64, random: &mut Random) -> io::Result<u64> {
    let mut position = random.below(len);
    for _ in 0..TRIES_MAX {
        let mut sector = [0; 512];
        let read = file.read_at(&mut sector, position / 512 * 512)?;
        if sector[..read].iter().any(|byte| *byte != 0) {
            break;
        }
        position = random.below(position.max(1));
    }
    Ok(position)
}
