//! The node's one beat: what shards do at regular times they all do at once.
//!
//! openraft would tick each shard five times per heartbeat at a moment of its own; with many shards
//! the thread would hardly sleep. Here one timer wakes those that have something to do: leaders send
//! their heartbeats, which so share a write to each peer, and followers look whether they still hear
//! their leader. openraft's own ticks, which start elections, run only where they do not.
//!
//! ```text
//! follower's ticks   off ──── nothing heard for a lease less two beats ────> on ── heard ──> off
//! ```

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

/// The beat of a node. It stands still while nobody listens, and ends when dropped.
#[derive(Debug)]
pub(crate) struct Beat {
    pulse: Arc<Pulse>,
    task: AbortHandle,
}

#[derive(Debug)]
struct Pulse {
    listeners: watch::Sender<()>,
    /// Somebody listens again.
    wanted: Notify,
}

impl Beat {
    /// Beats on `handle`'s runtime.
    pub(crate) fn start(handle: &Handle, every: Duration) -> Beat {
        let pulse = Arc::new(Pulse {
            listeners: watch::Sender::new(()),
            wanted: Notify::new(),
        });
        let task = handle.spawn(Arc::clone(&pulse).run(every));
        Beat {
            pulse,
            task: task.abort_handle(),
        }
    }

    /// Changes at each beat. Beats that a listener was too busy for are one.
    pub(crate) fn listen(&self) -> watch::Receiver<()> {
        let listener = self.pulse.listeners.subscribe();
        self.pulse.wanted.notify_one();
        listener
    }
}

impl Drop for Beat {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Pulse {
    async fn run(self: Arc<Pulse>, every: Duration) {
        loop {
            self.wanted.notified().await;
            let mut beats = interval_at(Instant::now() + every, every);
            // After a stall beats go on from there: none is made up for.
            beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
            while self.listeners.receiver_count() > 0 {
                beats.tick().await;
                self.listeners.send_replace(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_hear_each_beat_and_it_goes_on_after_nobody_listened() {
        let beat = Beat::start(&Handle::current(), Duration::from_millis(1));
        for _ in 0..3 {
            let (mut first, mut second) = (beat.listen(), beat.listen());
            for _ in 0..3 {
                first.changed().await.unwrap();
                second.changed().await.unwrap();
            }
            drop((first, second));
            // It notices at its next beat.
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    }
}
