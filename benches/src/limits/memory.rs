//! Bytes from one place in memory to another, and through a connection of the machine with itself.

use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::thread;

use load::latency::Latencies;
use serde_json::Value;
use storage::clock::Clock;

use super::told;

/// Larger than the processor's caches.
const COPY_BYTES: usize = 64 << 20;
const WRITE_BYTES: usize = 1 << 20;

/// Copies of a large block.
pub(super) fn copy(seconds: i64, _: &Path) -> Result<Value, String> {
    let (from, mut to) = (vec![5_u8; COPY_BYTES], vec![0_u8; COPY_BYTES]);
    again(COPY_BYTES, seconds, || {
        to.copy_from_slice(black_box(&from));
        black_box(&mut to);
        Ok(())
    })
}

/// Writes of 1 MiB to a reader that throws them away.
pub(super) fn loopback(seconds: i64, _: &Path) -> Result<Value, String> {
    let failed = |error: std::io::Error| format!("loopback: {error}");
    let listener = TcpListener::bind("127.0.0.1:0").map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    thread::scope(|scope| {
        let reader = scope.spawn(move || {
            let (mut stream, _) = listener.accept()?;
            let mut buffer = vec![0; WRITE_BYTES];
            while stream.read(&mut buffer)? > 0 {}
            Ok(())
        });
        let mut stream = TcpStream::connect(address).map_err(failed)?;
        let block = vec![6; WRITE_BYTES];
        let measured = again(WRITE_BYTES, seconds, || {
            stream.write_all(&block).map_err(failed)
        });
        drop(stream);
        let read = reader.join().map_err(|_| "the reader panicked")?;
        read.map_err(failed)?;
        measured
    })
}

fn again(
    bytes: usize,
    seconds: i64,
    mut step: impl FnMut() -> Result<(), String>,
) -> Result<Value, String> {
    let clock = Clock::system();
    let mut latencies = Latencies::default();
    let (mut now_us, mut steps) = (0, 0);
    while now_us < seconds * 1_000_000 {
        step()?;
        let then_us = clock.monotonic_us();
        latencies.record(then_us - now_us);
        (now_us, steps) = (then_us, steps + 1);
    }
    Ok(told(steps, bytes as u64, now_us, &latencies))
}
