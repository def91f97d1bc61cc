//! What the node says about itself, on standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Why the log cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("log: `{directives}` are no tracing directives: {reason}")]
pub struct TelemetryError {
    directives: String,
    reason: String,
}

/// Starts writing the log; once a process.
pub fn start(directives: &str) -> Result<(), TelemetryError> {
    let filter = EnvFilter::try_new(directives).map_err(|error| TelemetryError {
        directives: directives.to_owned(),
        reason: error.to_string(),
    })?;
    // A second call in one process (a test) keeps the first log.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .try_init();
    Ok(())
}
