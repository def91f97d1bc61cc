//! The process's open files: raised to what the system allows, then shared out, so that neither
//! clients nor segments can take the last one from the journal.

use rustix::process::{Resource, getrlimit, setrlimit};
use tracing::warn;

use crate::config::Config;

/// Kept for the journal, checkpoints, listeners and the runtime.
const RESERVED: u64 = 128;
/// Part of the rest that segment files may take, at most: one in this many.
const SEGMENTS_SHARE: u64 = 4;

/// Raises this process's limit of open files as far as it may, and cuts connections and open
/// segments to what fits; says so when that is less than configured.
pub fn share_out(config: &mut Config) {
    if let Some(limit) = raise_limit() {
        fit(config, limit);
    }
}

/// The limit after raising it; `None` when there is none.
fn raise_limit() -> Option<u64> {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            warn!(%error, "cannot raise the limit of open files");
        }
    }
    getrlimit(Resource::Nofile).current
}

fn fit(config: &mut Config, limit: u64) {
    let rest = limit.saturating_sub(RESERVED);
    let segments = cut(&mut config.storage.open_files_max, rest / SEGMENTS_SHARE);
    let connections = cut(
        &mut config.kafka.connections_max,
        rest - rest / SEGMENTS_SHARE,
    );
    if segments || connections {
        warn!(
            open_files_limit = limit,
            connections_max = config.kafka.connections_max,
            open_segments_max = config.storage.open_files_max,
            "the limit of open files is too low for what is configured: fewer are allowed"
        );
    }
}

/// Cuts a number; whether that changed it.
fn cut(number: &mut usize, max: u64) -> bool {
    let max = usize::try_from(max).unwrap_or(usize::MAX).max(1);
    let is_cut = *number > max;
    *number = (*number).min(max);
    is_cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_stays_and_what_does_not_is_cut() {
        let mut config = Config::default();
        fit(&mut config, 20_000);
        assert_eq!(config, Config::default());
        fit(&mut config, 1_024);
        assert_eq!(
            (config.storage.open_files_max, config.kafka.connections_max),
            (224, 672)
        );
        fit(&mut config, 10);
        assert_eq!(
            (config.storage.open_files_max, config.kafka.connections_max),
            (1, 1)
        );
    }
}
