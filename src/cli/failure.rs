//! How a command fails: what happened, why, what to do next, and the exit code for scripts.

use std::io::{self, Write};
use std::process::ExitCode;

use super::output::Format;

/// What kind of failure, which is the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nobody reads what is written: the reader went, as `head` does. No error.
    ClosedPipe = 0,
    /// It failed, for none of the reasons below.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// Nothing answers.
    Unreachable = 3,
    /// Not allowed.
    NotAuthorised = 4,
    /// It does not exist.
    NotFound = 5,
    /// It took too long; it may have happened.
    TimedOut = 6,
    /// Something is in the way: it exists already, a port or a directory is in use.
    Conflict = 7,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::ClosedPipe => "closed_pipe",
            Kind::Failed => "failed",
            Kind::Usage => "usage",
            Kind::Unreachable => "unreachable",
            Kind::NotAuthorised => "not_authorised",
            Kind::NotFound => "not_found",
            Kind::TimedOut => "timed_out",
            Kind::Conflict => "conflict",
        }
    }
}

/// Why a command did not do what it was asked for.
#[derive(Debug)]
pub(super) struct Failure {
    kind: Kind,
    message: String,
    help: Option<String>,
}

impl Failure {
    pub(super) fn new(kind: Kind, message: impl Into<String>) -> Failure {
        Failure {
            kind,
            message: message.into(),
            help: None,
        }
    }

    /// What to do next.
    pub(super) fn help(mut self, help: impl Into<String>) -> Failure {
        self.help = Some(help.into());
        self
    }

    /// Puts `context` before the message.
    pub(super) fn context(mut self, context: &str) -> Failure {
        self.message = format!("{context}: {}", self.message);
        self
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    pub(super) fn message(&self) -> &str {
        &self.message
    }

    pub(super) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.kind as u8)
    }

    /// Writes it to standard error.
    pub(super) fn report(&self, format: Format) {
        if self.kind == Kind::ClosedPipe {
            return;
        }
        let text = match format {
            Format::Table => {
                let help = self.help.as_ref().map(|help| format!("help: {help}\n"));
                format!("error: {}\n{}", self.message, help.unwrap_or_default())
            }
            Format::Json => {
                let error = serde_json::json!({ "error": {
                    "kind": self.kind.name(),
                    "exit_code": self.kind as u8,
                    "message": self.message,
                    "help": self.help,
                }});
                format!("{error}\n")
            }
        };
        // There is nowhere left to say that standard error is gone.
        let _ = io::stderr().write_all(text.as_bytes());
    }
}

impl From<io::Error> for Failure {
    /// From writing output; other files and sockets say more about themselves than this can.
    fn from(error: io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::new(Kind::ClosedPipe, "nobody reads the output"),
            _ => Failure::new(Kind::Failed, error.to_string()),
        }
    }
}
