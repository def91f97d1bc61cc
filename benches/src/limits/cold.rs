//! Reads that meet the disk: how fast a file comes that the page cache does not hold, and taking
//! files out of it.
#![expect(
    clippy::disallowed_types,
    reason = "advice to the kernel is given on files, not on the storage's"
)]

use std::fs::File;
use std::io::Read;
use std::path::Path;

use load::latency::Latencies;
use rustix::fs::{Advice, fadvise};
use serde_json::{Value, json};
use storage::clock::Clock;
use storage::disk::{Disk, OpenMode};

use super::{told, told_io};

const BLOCK_BYTES: usize = 1 << 20;
/// For each second that is asked for; it is read once, however long that takes.
const FILE_BLOCKS_PER_SECOND: u64 = 256;
/// Directories in directories, at most: more is not a broker's.
const DEPTH_MAX: u32 = 8;

/// The first read of a file from its start to its end, in blocks of 1 MiB.
pub(super) fn read(seconds: i64, dir: &Path) -> Result<Value, String> {
    let path = dir.join(format!("limits-cold-{}", std::process::id()));
    let measured = written(&path, seconds).and_then(|()| read_cold(&path));
    let removed = Disk::Real.remove_file(&path).map_err(told_io(&path));
    measured.and_then(|value| removed.map(|()| value))
}

fn written(path: &Path, seconds: i64) -> Result<(), String> {
    let file = Disk::Real
        .open(path, OpenMode::Create)
        .map_err(told_io(path))?;
    let block = vec![7; BLOCK_BYTES];
    for at in 0..FILE_BLOCKS_PER_SECOND * seconds.unsigned_abs() {
        let written = file.write_all_at(&block, at * BLOCK_BYTES as u64);
        written.map_err(told_io(path))?;
    }
    file.sync_data().map_err(told_io(path))
}

fn read_cold(path: &Path) -> Result<Value, String> {
    out_of_cache(path)?;
    let mut file = File::open(path).map_err(told_io(path))?;
    let mut latencies = Latencies::default();
    let clock = Clock::system();
    let mut buffer = vec![0; BLOCK_BYTES];
    let (mut now_us, mut bytes) = (0, 0);
    loop {
        let count = file.read(&mut buffer).map_err(told_io(path))?;
        if count == 0 {
            return Ok(told(bytes, 1, now_us, &latencies));
        }
        bytes += count as u64;
        let then_us = clock.monotonic_us();
        latencies.record(then_us - now_us);
        now_us = then_us;
    }
}

/// Makes every file below a directory durable, and takes it out of the page cache.
pub(crate) fn evict(arguments: &[String]) -> Result<Value, String> {
    let [dir] = arguments else {
        return Err("evict DIR".to_owned());
    };
    let mut files = 0;
    evict_below(Path::new(dir), DEPTH_MAX, &mut files)?;
    Ok(json!({ "files": files }))
}

fn evict_below(dir: &Path, depth: u32, files: &mut u64) -> Result<(), String> {
    if depth == 0 {
        return Err(format!("{}: too deep", dir.display()));
    }
    for entry in Disk::Real.read_dir(dir).map_err(told_io(dir))? {
        let path = dir.join(&entry.name);
        if entry.is_dir {
            evict_below(&path, depth - 1, files)?;
        } else {
            out_of_cache(&path)?;
            *files += 1;
        }
    }
    Ok(())
}

fn out_of_cache(path: &Path) -> Result<(), String> {
    let file = File::open(path).map_err(told_io(path))?;
    // What is not yet written cannot be dropped.
    file.sync_all().map_err(told_io(path))?;
    let advised = fadvise(&file, 0, None, Advice::DontNeed);
    advised.map_err(|error| format!("{}: {error}", path.display()))
}
