//! Waiting for conditions, never longer than a deadline.

use std::time::Duration;

use storage::clock::Clock;

/// How long a test waits for what should happen at once, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

const POLL: Duration = Duration::from_millis(5);

/// Waits until `condition` answers something.
///
/// # Panics
///
/// When it has not within [`PATIENCE`]; `what` says what was waited for.
#[track_caller]
pub fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let clock = Clock::system();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(!is_over(&clock), "waited in vain for {what}");
        std::thread::sleep(POLL);
    }
}

/// The same for a condition that takes awaiting.
///
/// # Panics
///
/// When it has not within [`PATIENCE`]; `what` says what was waited for.
pub async fn eventually_async<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let clock = Clock::system();
    loop {
        if let Some(value) = within(what, condition()).await {
            return value;
        }
        assert!(!is_over(&clock), "waited in vain for {what}");
        tokio::time::sleep(POLL).await;
    }
}

/// Awaits a future.
///
/// # Panics
///
/// When it takes longer than [`PATIENCE`].
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited in vain for {what}"),
    }
}

fn is_over(clock: &Clock) -> bool {
    u128::try_from(clock.monotonic_ms()).unwrap_or(0) > PATIENCE.as_millis()
}
