//! What the nodes' disks hold once all of them have ended: intact, and the same bytes everywhere.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::cluster::Cluster;
use crate::process::succeed;

const VERIFY_LIMIT: Duration = Duration::from_secs(600);
const BUFFER_BYTES: usize = 1 << 20;

/// What was found the same.
pub(crate) struct Compared {
    /// Partitions with records that every node has.
    pub(crate) partitions: usize,
    /// Bytes of them on one node.
    pub(crate) bytes: u64,
}

/// Has `braidlog debug segment verify` read every node's segments, and compares the nodes' replicas
/// of each partition byte for byte. The nodes must have ended in good order, with nothing written
/// for a while: then everything in them is below the high watermark.
pub(crate) fn compare(cluster: &Cluster) -> Result<Compared, String> {
    let folders: Vec<PathBuf> = cluster
        .data()
        .iter()
        .map(|d| d.join("partitions"))
        .collect();
    let mut names = BTreeSet::new();
    for folder in &folders {
        let path = folder.to_string_lossy();
        let mut verify = cluster.command(&["debug", "segment", "verify", &path])?;
        succeed(&mut verify, VERIFY_LIMIT)?;
        names.extend(entries(folder)?);
    }
    let mut compared = Compared {
        partitions: 0,
        bytes: 0,
    };
    // What is being deleted or was set aside is no partition's log any more.
    names.retain(|name| !name.ends_with(".deleted") && !name.ends_with(".unknown"));
    for name in names {
        let bytes = everywhere(&folders, &name).map_err(|why| format!("{name}: {why}"))?;
        if bytes > 0 {
            compared.partitions += 1;
            compared.bytes += bytes;
        }
    }
    match compared.partitions {
        0 => Err("no partition with records is on every node".to_owned()),
        _ => Ok(compared),
    }
}

/// Compares a partition's replicas; the bytes of each. Records are sent only to topics with as many
/// replicas as there are nodes, so a node without any lacks them.
fn everywhere(folders: &[PathBuf], name: &str) -> Result<u64, String> {
    let replicas = folders.iter().map(|folder| segments(&folder.join(name)));
    let replicas = replicas.collect::<Result<Vec<Vec<PathBuf>>, String>>()?;
    let Some((first, others)) = replicas.split_first() else {
        return Ok(0);
    };
    let mut bytes = 0;
    for (other, folder) in others.iter().zip(&folders[1..]) {
        let between = format!("{} and {}", folders[0].display(), folder.display());
        bytes = same(first, other).map_err(|why| format!("{between}: {why}"))?;
    }
    Ok(bytes)
}

fn entries(folder: &Path) -> Result<Vec<String>, String> {
    let names = fs::read_dir(folder).and_then(|entries| {
        let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
        entries.map(|entry| entry.map(name)).collect()
    });
    names.map_err(|problem| format!("cannot read {}: {problem}", folder.display()))
}

/// A partition's segments in order; none when the folder is not there.
fn segments(folder: &Path) -> Result<Vec<PathBuf>, String> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut names = entries(folder)?;
    names.retain(|name| name.ends_with(".log"));
    names.sort();
    Ok(names.iter().map(|name| folder.join(name)).collect())
}

/// Compares two rows of files, each as one; the bytes of either.
fn same(left: &[PathBuf], right: &[PathBuf]) -> Result<u64, String> {
    let mut readers = [chained(left)?, chained(right)?];
    let mut buffers = [vec![0; BUFFER_BYTES], vec![0; BUFFER_BYTES]];
    let mut at = 0;
    loop {
        let mut counts = [0; 2];
        for ((reader, buffer), count) in readers.iter_mut().zip(&mut buffers).zip(&mut counts) {
            *count = fill(reader, buffer).map_err(|problem| format!("cannot read: {problem}"))?;
        }
        if counts[0] != counts[1] || buffers[0][..counts[0]] != buffers[1][..counts[1]] {
            return Err(format!("they differ after byte {at}"));
        }
        if counts[0] == 0 {
            return Ok(at);
        }
        at += counts[0] as u64;
    }
}

fn chained(files: &[PathBuf]) -> Result<Box<dyn Read>, String> {
    let mut all: Box<dyn Read> = Box::new(std::io::empty());
    for path in files {
        let file = File::open(path);
        let file = file.map_err(|problem| format!("cannot open {}: {problem}", path.display()))?;
        all = Box::new(all.chain(BufReader::new(file)));
    }
    Ok(all)
}

/// Reads until the buffer is full or the end has come.
fn fill(reader: &mut dyn Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_bytes_in_other_files_are_the_same() {
        let folder = std::env::temp_dir().join(format!("xtask-replicas-{}", std::process::id()));
        let write = |name: &str, bytes: &[u8]| {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        };
        write("a/00.log", b"first second");
        write("b/00.log", b"first ");
        write("b/06.log", b"second");
        write("c/00.log", b"first secon!");
        write("d/00.log", b"first secon");
        let replica = |name: &str| segments(&folder.join(name)).unwrap();
        assert_eq!(same(&replica("a"), &replica("b")), Ok(12));
        assert!(same(&replica("a"), &replica("c")).is_err());
        assert!(same(&replica("a"), &replica("d")).is_err());
        assert!(replica("nowhere").is_empty());
        let on = |names: &[&str], name: &str| {
            let nodes: Vec<PathBuf> = names.iter().map(|name| folder.join(name)).collect();
            everywhere(&nodes, name)
        };
        for name in ["node-1/p", "node-2/p", "node-1/q"] {
            write(&format!("{name}/00.log"), b"records");
        }
        write("node-2/r/00.log", b"");
        let nodes = ["node-1", "node-2"];
        assert_eq!(on(&nodes, "p"), Ok(7));
        assert!(on(&nodes, "q").is_err(), "the second node lacks it");
        assert_eq!(on(&nodes, "r"), Ok(0), "nothing was written");
        assert!(on(&["node-2", "node-1"], "q").is_err());
        fs::remove_dir_all(folder).unwrap();
    }
}
