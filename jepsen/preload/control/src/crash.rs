//! A whole data directory before a node's first start, and after power has gone.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::log::{self, Event, Fate, Replay};
use crate::names::{Names, Node};
use crate::platter::{self, Torn};
use crate::side::Side;
use crate::{Draw, FileId};

/// What a power cut took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lost {
    /// Changes of names, not synced, that got to the disk.
    pub names_kept: usize,
    /// Those that did not.
    pub names_lost: usize,
    /// What was done to files.
    pub torn: Torn,
}

/// Takes all that is in the data directory for synced, and begins to keep account of it. No process
/// works on it.
pub fn begin(data_dir: &Path, side: &Side) -> io::Result<()> {
    remove_dir_if_there(&side.platter_dir())?;
    remove_dir_if_there(&side.kept_dir())?;
    fs::create_dir_all(side.platter_dir())?;
    fs::create_dir_all(side.kept_dir())?;
    let mut found = Vec::new();
    let mut next_file: FileId = 1;
    let mut stack = vec![String::new()];
    while let Some(directory) = stack.pop() {
        for entry in fs::read_dir(data_dir.join(&directory))? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name
                .to_str()
                .ok_or_else(|| io::Error::other("a file's name is not UTF-8"))?;
            let path = if directory.is_empty() {
                name.to_owned()
            } else {
                format!("{directory}/{name}")
            };
            if entry.file_type()?.is_dir() {
                stack.push(path.clone());
                found.push((path, Node::Directory(0)));
            } else {
                platter::settle(&entry.path(), &side.platter(next_file))?;
                found.push((path, Node::File(next_file)));
                next_file += 1;
            }
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    fs::write(side.names(), log::fresh(&found))
}

/// Reads the log of names; no process works on the data directory.
pub fn read_log(data_dir: &Path, side: &Side) -> io::Result<Replay> {
    log::replay(&fs::read(side.names())?, |event| {
        log::has_happened(data_dir, event)
    })
}

/// Power goes. The process is gone already; nobody works on the data directory. What `draw` draws
/// decides what becomes of all that was not synced.
pub fn cut(data_dir: &Path, side: &Side, draw: &mut Draw<'_>) -> io::Result<Lost> {
    let mut names = read_log(data_dir, side)?.names;
    let mut sources = find_files(data_dir, side, &names);
    check_known(data_dir, &names)?;
    let (names_kept, names_lost) = names.crash(draw);
    let mut lost = Lost {
        names_kept,
        names_lost,
        torn: Torn::default(),
    };
    let (rebuilt, before) = (side.rebuilt(), side.before());
    remove_dir_if_there(&rebuilt)?;
    remove_dir_if_there(&before)?;
    fs::create_dir_all(&rebuilt)?;
    let tree = names.walk();
    for (path, node) in &tree {
        let target = rebuilt.join(path);
        match node {
            Node::Directory(_) => fs::create_dir(&target)?,
            Node::File(file) => {
                let source = sources.remove(file).ok_or_else(|| {
                    io::Error::other(format!("{path}: file {file} is nowhere to be found"))
                })?;
                fs::rename(&source, &target)
                    .map_err(|error| io::Error::other(format!("{}: {error}", source.display())))?;
                lost.torn
                    .add(platter::tear(&target, &side.platter(*file), draw)?);
            }
        }
    }
    clean_platter(side, &tree)?;
    fs::rename(data_dir, &before)?;
    fs::rename(&rebuilt, data_dir)?;
    fs::remove_dir_all(&before)?;
    remove_dir_if_there(&side.kept_dir())?;
    fs::create_dir_all(side.kept_dir())?;
    fs::write(side.names(), log::fresh(&tree))?;
    Ok(lost)
}

/// Removes a file for good, behind the node's back; no process works on the data directory.
pub fn remove(data_dir: &Path, side: &Side, path: &str) -> io::Result<()> {
    let replay = read_log(data_dir, side)?;
    let Some(Node::File(_)) = replay.names.find(path) else {
        return Err(io::Error::other(format!("{path} is no file that is known")));
    };
    let log = OpenOptions::new().write(true).open(side.names())?;
    for (position, fate) in &replay.settled {
        log.write_all_at(&[*fate as u8], *position)?;
    }
    log.set_len(replay.len)?;
    fs::remove_file(data_dir.join(path))?;
    let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
    let lines = [
        Event::Remove {
            path: path.to_owned(),
        },
        Event::SyncDirectory {
            path: directory.to_owned(),
        },
    ]
    .map(|event| event.line(Fate::Done));
    log.write_all_at(lines.concat().as_bytes(), replay.len)
}

/// Which file is at a path.
pub fn find(data_dir: &Path, side: &Side, path: &str) -> io::Result<Option<FileId>> {
    Ok(match read_log(data_dir, side)?.names.find(path) {
        Some(Node::File(file)) => Some(file),
        _ => None,
    })
}

/// Where the bytes of each file are now.
fn find_files(data_dir: &Path, side: &Side, names: &Names) -> BTreeMap<FileId, PathBuf> {
    let mut sources: BTreeMap<FileId, PathBuf> = names
        .unnamed()
        .into_iter()
        .map(|file| (file, side.kept(file)))
        .collect();
    for (path, node) in names.walk() {
        if let Node::File(file) = node {
            sources.insert(file, data_dir.join(path));
        }
    }
    sources
}

/// The data directory must hold what the log says, or something was done behind its back.
fn check_known(data_dir: &Path, names: &Names) -> io::Result<()> {
    for (path, _) in names.walk() {
        data_dir
            .join(&path)
            .symlink_metadata()
            .map_err(|error| io::Error::other(format!("{path} should be there: {error}")))?;
    }
    let mut stack = vec![(data_dir.to_owned(), String::new())];
    while let Some((directory, below)) = stack.pop() {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = if below.is_empty() {
                name
            } else {
                format!("{below}/{name}")
            };
            if names.find(&path).is_none() {
                return Err(io::Error::other(format!(
                    "{path} is there and nobody knows when it was made"
                )));
            }
            if entry.file_type()?.is_dir() {
                stack.push((entry.path(), path));
            }
        }
    }
    Ok(())
}

/// Removes what the platter has of files that are gone; their numbers are given again.
fn clean_platter(side: &Side, tree: &[(String, Node)]) -> io::Result<()> {
    for entry in fs::read_dir(side.platter_dir())? {
        let path = entry?.path();
        let is_there = tree.iter().any(|(_, node)| match node {
            Node::File(file) => side.platter(*file) == path,
            Node::Directory(_) => false,
        });
        if !is_there {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

fn remove_dir_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
