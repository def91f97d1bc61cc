//! [`Exit`]: what a command came to, as its exit code says it.

use std::process::ExitCode;

use jepsen_check::Outcome;

/// What a command came to. In the order of gravity: of several results the last one here counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Exit {
    /// Enough happened, and no promise was broken.
    Valid,
    /// Too little happened to tell.
    Unknown,
    /// The harness could not do its part.
    Fault,
    /// A promise was broken.
    Anomaly,
}

impl Exit {
    /// The process's exit code.
    pub(crate) fn code(self) -> u8 {
        match self {
            Exit::Valid => 0,
            Exit::Anomaly => 1,
            Exit::Unknown => 2,
            Exit::Fault => 3,
        }
    }

    /// What an exit code means; codes of nobody's are faults.
    pub(crate) fn of_code(code: Option<i32>) -> Exit {
        match code {
            Some(0) => Exit::Valid,
            Some(1) => Exit::Anomaly,
            Some(2) => Exit::Unknown,
            _ => Exit::Fault,
        }
    }

    /// In a word.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Exit::Valid => "valid",
            Exit::Anomaly => "anomaly",
            Exit::Unknown => "unknown",
            Exit::Fault => "harness fault",
        }
    }
}

impl From<Outcome> for Exit {
    fn from(outcome: Outcome) -> Exit {
        match outcome {
            Outcome::Valid => Exit::Valid,
            Outcome::Anomaly => Exit::Anomaly,
            Outcome::Unknown => Exit::Unknown,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

/// Why the harness could not do its part, and what to do next.
#[derive(Debug, thiserror::Error)]
#[error("{cause}\n{next}")]
pub(crate) struct Failure {
    cause: String,
    next: String,
}

impl Failure {
    /// With the next command, or what else to do.
    pub(crate) fn new(cause: impl std::fmt::Display, next: impl Into<String>) -> Failure {
        Failure {
            cause: cause.to_string(),
            next: next.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_as_documented_and_an_anomaly_outweighs_all() {
        for (exit, code) in [
            (Exit::Valid, 0),
            (Exit::Anomaly, 1),
            (Exit::Unknown, 2),
            (Exit::Fault, 3),
        ] {
            assert_eq!(exit.code(), code);
            assert_eq!(Exit::of_code(Some(i32::from(code))), exit);
            assert!(exit <= Exit::Anomaly);
        }
        assert_eq!(Exit::of_code(None), Exit::Fault);
        assert_eq!(Exit::of_code(Some(101)), Exit::Fault);
    }
}
