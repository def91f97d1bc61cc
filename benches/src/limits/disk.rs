//! Durable writes to a file whose blocks were written before: one after the other, and a group
//! commit without anything around it.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use bytes::Bytes;
use load::latency::Latencies;
use serde_json::Value;
use storage::clock::Clock;
use storage::disk::{Disk, DiskFile, OpenMode};

use super::{told, told_io};

/// Positions wrap around in it.
const FILE_BYTES: u64 = 128 << 20;
const BLOCK_BYTES: usize = 1 << 20;
/// Writers of the group commit, each with one batch on its way.
const WRITERS: usize = 64;
const BATCH_BYTES: usize = 16 << 10;

/// A file full of written blocks, removed at the end.
struct Recycled {
    path: PathBuf,
    file: DiskFile,
    position: u64,
}

impl Recycled {
    fn new(dir: &Path) -> Result<Recycled, String> {
        let path = dir.join(format!("limits-{}", std::process::id()));
        let file = Disk::Real
            .open(&path, OpenMode::Create)
            .map_err(told_io(&path))?;
        let recycled = Recycled {
            path,
            file,
            position: 0,
        };
        let block = vec![1; BLOCK_BYTES];
        for at in 0..FILE_BYTES / BLOCK_BYTES as u64 {
            let written = recycled.file.write_all_at(&block, at * BLOCK_BYTES as u64);
            written.map_err(told_io(&recycled.path))?;
        }
        let synced = recycled.file.sync_data();
        synced.map_err(told_io(&recycled.path))?;
        Ok(recycled)
    }

    /// Makes these pieces durable.
    fn write(&mut self, pieces: &[Bytes]) -> Result<(), String> {
        let bytes: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
        if self.position + bytes > FILE_BYTES {
            self.position = 0;
        }
        let written = self.file.write_vectored_all_at(pieces, self.position);
        written
            .and_then(|()| self.file.sync_data())
            .map_err(told_io(&self.path))?;
        self.position += bytes;
        Ok(())
    }
}

impl Drop for Recycled {
    fn drop(&mut self) {
        if let Err(error) = Disk::Real.remove_file(&self.path) {
            eprintln!("{} is left behind: {error}", self.path.display());
        }
    }
}

/// Writes of so many bytes, each durable before the next.
pub(super) fn sync(bytes: usize, seconds: i64, dir: &Path) -> Result<Value, String> {
    let mut file = Recycled::new(dir)?;
    let piece = [Bytes::from(vec![2; bytes])];
    let mut latencies = Latencies::default();
    let clock = Clock::system();
    let mut steps = 0;
    let mut now_us = 0;
    while now_us < seconds * 1_000_000 {
        file.write(&piece)?;
        let then_us = clock.monotonic_us();
        latencies.record(then_us - now_us);
        (now_us, steps) = (then_us, steps + 1);
    }
    Ok(told(steps, bytes as u64, now_us, &latencies))
}

/// Writers that hand a batch over and wait until it is durable; all that wait go in one write.
pub(super) fn group_commit(seconds: i64, dir: &Path) -> Result<Value, String> {
    let mut file = Recycled::new(dir)?;
    let clock = Clock::system();
    let until_us = seconds * 1_000_000;
    let (queue, batches) = channel();
    let latencies = thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|_| {
                let (queue, clock) = (queue.clone(), &clock);
                scope.spawn(move || writer(&queue, clock, until_us))
            })
            .collect();
        drop(queue);
        commit(&mut file, batches)?;
        let mut all = Latencies::default();
        for writer in writers {
            all.merge(&writer.join().map_err(|_| "a writer panicked")?);
        }
        Ok::<_, String>(all)
    })?;
    let steps = latencies.figures().map_or(0, |figures| figures.samples);
    let bytes = BATCH_BYTES as u64;
    Ok(told(steps, bytes, clock.monotonic_us(), &latencies))
}

/// A batch, and who waits for it.
type Waiting = (Bytes, Sender<()>);

/// Until no writer is left. The queue ends with it, and with the queue every writer.
fn commit(file: &mut Recycled, batches: Receiver<Waiting>) -> Result<(), String> {
    while let Ok(first) = batches.recv() {
        let mut waiting = vec![first];
        waiting.extend(batches.try_iter());
        let pieces: Vec<Bytes> = waiting.iter().map(|(batch, _)| batch.clone()).collect();
        file.write(&pieces)?;
        for (_, done) in waiting {
            // A writer waits for its answer as long as it lives.
            let _ = done.send(());
        }
    }
    Ok(())
}

fn writer(queue: &Sender<Waiting>, clock: &Clock, until_us: i64) -> Latencies {
    let batch = Bytes::from(vec![3; BATCH_BYTES]);
    let mut latencies = Latencies::default();
    let mut now_us = clock.monotonic_us();
    while now_us < until_us {
        let (done, answers) = channel();
        let sent = queue.send((batch.clone(), done));
        if sent.is_err() || answers.recv().is_err() {
            break; // the disk has failed, which is told there
        }
        let then_us = clock.monotonic_us();
        latencies.record(then_us - now_us);
        now_us = then_us;
    }
    latencies
}
