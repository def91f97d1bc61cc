//! Waiting for conditions, never longer than a deadline.

use std::time::Duration;

use storage::clock::Clock;

/// How long a test waits for what should happen at once, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

const POLL: Duration = Duration::from_millis(5);

/// Waits until `condition` answers something.
///
/// # Panics
///
/// When it has not within [`PATIENCE`]; `what` says what was waited for.
#[track_caller]
pub fn eventually<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    eventually_within(PATIENCE, what, condition)
}

/// The same, for what may take longer.
#[track_caller]
pub(crate) fn eventually_within<T>(
    patience: Duration,
    what: &str,
    mut condition: impl FnMut() -> Option<T>,
) -> T {
    let clock = Clock::system();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(!is_over(&clock, patience), "waited in vain for {what}");
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
        assert!(!is_over(&clock, PATIENCE), "waited in vain for {what}");
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

fn is_over(clock: &Clock, patience: Duration) -> bool {
    u128::try_from(clock.monotonic_ms()).unwrap_or(0) > patience.as_millis()
}
