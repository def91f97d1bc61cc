//! How a call can fail, and whether that settles what happened.

use crate::ErrorCode;

/// Why a call did not end well.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// No connection came about; nothing was sent.
    #[error("cannot connect to {address}: {reason}")]
    Connect {
        /// Whom it was meant for.
        address: String,
        /// Why, from the operating system.
        reason: String,
        /// The deadline passed before there was an answer of any kind.
        timed_out: bool,
    },
    /// The request was not handed to the socket whole, so the server cannot have carried it out.
    #[error("the request was not sent: {0}")]
    NotSent(String),
    /// The request was sent and no answer came: it may have been carried out.
    #[error("no answer: {0}")]
    NoAnswer(String),
    /// The deadline passed after the request was sent: it may have been carried out.
    #[error("no answer within {timeout_ms} ms")]
    TimedOut {
        /// The deadline.
        timeout_ms: u64,
    },
    /// The answer cannot be understood: the request may have been carried out.
    #[error("malformed answer: {0}")]
    Malformed(&'static str),
    /// The server answered with an error.
    #[error("{}{}", code.name(), message.as_ref().map(|m| format!(": {m}")).unwrap_or_default())]
    Refused {
        /// Kafka's code.
        code: ErrorCode,
        /// What the server says about it.
        message: Option<String>,
    },
}

impl ClientError {
    /// Whether it is certain that the request did not take effect. Otherwise it may or may not
    /// have.
    #[must_use]
    pub fn is_definite(&self) -> bool {
        match self {
            ClientError::Connect { .. } | ClientError::NotSent(_) => true,
            ClientError::NoAnswer(_) | ClientError::TimedOut { .. } | ClientError::Malformed(_) => {
                false
            }
            ClientError::Refused { code, .. } => code.is_definite(),
        }
    }
}

impl From<ErrorCode> for ClientError {
    fn from(code: ErrorCode) -> ClientError {
        ClientError::Refused {
            code,
            message: None,
        }
    }
}
