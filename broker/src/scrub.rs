//! Reads every sealed segment now and then, so that damage is found while other replicas are whole.
//!
//! A read verifies each batch and notes what is damaged; `repair.rs` then mends it. One pass goes
//! at a bounded rate, with small reads.

use std::sync::Arc;
use std::time::Duration;

use storage::Offset;
use storage::partition_log::{ReadError, SegmentInfo};

use crate::Broker;
use crate::partition::Partition;
use crate::stage::throttle::Throttle;

/// The first pass begins so long after the start, or after the interval when that is shorter.
const FIRST_AFTER_MS: u64 = 3_600_000;
/// Bytes of one read, a larger batch aside.
const READ_BYTES: usize = 1 << 20;

/// What a pass came to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Pass {
    segments: usize,
    bytes: u64,
    damaged: usize,
    unread: usize,
}

impl Broker {
    /// Runs until it is dropped; does nothing when the rate or the interval is 0.
    pub(crate) async fn scrub_forever(self) {
        let (rate, interval_ms) = {
            let config = &self.inner.config;
            (config.scrub_bytes_per_second, config.scrub_interval_ms)
        };
        if rate == 0 || interval_ms == 0 {
            return;
        }
        let throttle = Throttle::new(rate, self.inner.clock.clone());
        let mut pause_ms = interval_ms.min(FIRST_AFTER_MS);
        loop {
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
            let began_ms = self.inner.clock.monotonic_ms();
            let Pass {
                segments,
                bytes,
                damaged,
                unread,
            } = self.scrub(&throttle).await;
            let took_ms = self.inner.clock.monotonic_ms().saturating_sub(began_ms);
            tracing::info!(
                segments,
                bytes,
                damaged,
                unread,
                took_ms,
                "read all sealed segments to find damage"
            );
            pause_ms = interval_ms;
        }
    }

    /// One pass over what is there when its turn comes.
    async fn scrub(&self, throttle: &Throttle) -> Pass {
        let mut pass = Pass::default();
        for partition in self.inner.directory.all() {
            for segment in partition.log.segments() {
                if segment.sealed {
                    let scrubbed = scrub_segment(&partition, &segment, throttle, &mut pass);
                    match scrubbed.await {
                        // What was deleted meanwhile is nobody's damage.
                        Err(error) if self.inner.directory.contains(partition.id) => {
                            pass.note(&error);
                            tracing::warn!(partition = %partition.id, base = %segment.base, %error,
                                "a sealed segment cannot be read");
                        }
                        _ => {}
                    }
                }
            }
            tokio::task::yield_now().await;
        }
        pass
    }
}

impl Pass {
    fn note(&mut self, error: &ReadError) {
        match error {
            ReadError::Corrupt { .. } => self.damaged += 1,
            _ => self.unread += 1,
        }
    }
}

/// Reads one segment, up to the first damage: it is mended as a whole.
async fn scrub_segment(
    partition: &Arc<Partition>,
    segment: &SegmentInfo,
    throttle: &Throttle,
    pass: &mut Pass,
) -> Result<(), ReadError> {
    let mut from = segment.base;
    pass.segments += 1;
    while from < segment.end {
        match read(partition, from, segment.end).await {
            Ok((bytes, next)) if next > from => {
                pass.bytes = pass.bytes.saturating_add(bytes as u64);
                throttle.spend(bytes).await;
                from = next;
            }
            // Retention has raised the log start meanwhile.
            Err(ReadError::OutOfRange { start, .. }) if start > from => from = start,
            // Another log has taken its place.
            Ok(_) | Err(ReadError::OutOfRange { .. }) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Bytes that were read, and where the next read begins.
async fn read(
    partition: &Arc<Partition>,
    from: Offset,
    limit: Offset,
) -> Result<(usize, Offset), ReadError> {
    let partition = Arc::clone(partition);
    let reading = net::blocking(move || {
        let read = partition.log.read(from, limit, READ_BYTES);
        match read {
            // What another log has replaced is nobody's damage.
            Err(_) if partition.is_superseded() => Ok((0, from)),
            read => read.map(|read| (read.bytes, read.next)),
        }
    });
    reading.await.expect("reading does not panic")
}
