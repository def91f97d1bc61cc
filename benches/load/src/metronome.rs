//! Wakes a task at a time given to the microsecond. The runtime's timers count milliseconds, which
//! would add one to every latency.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use storage::clock::Clock;
use tokio::sync::Notify;

/// No time is set.
const NEVER: i64 = i64::MAX;

/// A thread that sleeps until the time set, and then wakes one task.
#[derive(Debug)]
pub(crate) struct Metronome {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    clock: Clock,
    wake_us: AtomicI64,
    over: AtomicBool,
    notify: Notify,
}

impl Metronome {
    pub(crate) fn start(clock: &Clock) -> std::io::Result<Metronome> {
        let shared = Arc::new(Shared {
            clock: clock.clone(),
            wake_us: AtomicI64::new(NEVER),
            over: AtomicBool::new(false),
            notify: Notify::new(),
        });
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("metronome".to_owned())
            .spawn(move || of_thread.run())?;
        Ok(Metronome {
            shared,
            thread: Some(thread),
        })
    }

    /// Waits until this time. A wait that was dropped may make the next one end early, never late.
    pub(crate) async fn at(&self, wake_us: i64) {
        let before = self.shared.wake_us.swap(wake_us, Ordering::SeqCst);
        // One that sleeps until an earlier time looks again by itself.
        if wake_us < before
            && let Some(thread) = &self.thread
        {
            thread.thread().unpark();
        }
        self.shared.notify.notified().await;
    }
}

impl Shared {
    fn run(&self) {
        while !self.over.load(Ordering::SeqCst) {
            let wake_us = self.wake_us.load(Ordering::SeqCst);
            if wake_us == NEVER {
                std::thread::park();
                continue;
            }
            match u64::try_from(wake_us.saturating_sub(self.clock.monotonic_us())) {
                Ok(left_us) if left_us > 0 => {
                    std::thread::park_timeout(Duration::from_micros(left_us));
                }
                _ => {
                    let taken = self.wake_us.compare_exchange(
                        wake_us,
                        NEVER,
                        Ordering::SeqCst,
                        Ordering::SeqCst,
                    );
                    if taken.is_ok() {
                        self.notify.notify_one();
                    }
                }
            }
        }
    }
}

impl Drop for Metronome {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It ends by itself and cannot panic.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_wakes_when_it_is_time_and_a_later_wait_takes_an_earlier_ones_place() {
        let clock = Clock::system();
        let metronome = Metronome::start(&clock).unwrap();
        for _ in 0..20 {
            let wake_us = clock.monotonic_us() + 300;
            metronome.at(wake_us).await;
            assert!(clock.monotonic_us() >= wake_us);
        }
        tokio::select! {
            biased;
            () = metronome.at(clock.monotonic_us() + 3_600_000_000) => unreachable!("in an hour"),
            () = tokio::task::yield_now() => {}
        }
        let wake_us = clock.monotonic_us() + 1_000;
        metronome.at(wake_us).await;
        assert!(clock.monotonic_us() >= wake_us);
    }
}
