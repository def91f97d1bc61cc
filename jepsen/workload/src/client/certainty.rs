//! What an error settles: whether what was asked for has happened, and ever will.
//!
//! `docs/protocols/kafka.md` promises that a definite error is answered only when a batch can never
//! be written, and that `UNKNOWN_SERVER_ERROR` is never an answer. So every code that the broker
//! knows says "it did not happen", but for those listed here; a code that nobody knows says nothing.
//! Taking too much as certain is safe: a value that is read although its send failed is an anomaly.

use kafka_client::{ClientError, ErrorCode};

/// What an error says of the request it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certainty {
    /// It certainly did not happen and never will.
    Not,
    /// It may have happened, or may still.
    Unknown,
    /// It has happened, but it is not said where.
    Done,
}

/// What an error of a produce settles.
#[must_use]
pub fn of_send(error: &ClientError) -> Certainty {
    match error {
        // The batch, or one with its sequence, was written long ago.
        ClientError::Refused {
            code: ErrorCode::DUPLICATE_SEQUENCE_NUMBER,
            ..
        } => Certainty::Done,
        error => of_change(error),
    }
}

/// What an error of any other change settles.
#[must_use]
pub fn of_change(error: &ClientError) -> Certainty {
    match error.is_definite() {
        true => Certainty::Not,
        false => Certainty::Unknown,
    }
}

/// Whether the same request may go better a moment later, perhaps at another node.
#[must_use]
pub fn is_passing(error: &ClientError) -> bool {
    match error {
        ClientError::Refused { code, .. } => code.is_retriable(),
        _ => true,
    }
}

/// An error of the question whom to send to: whatever became of that, nothing was sent.
pub(super) fn not_sent(error: ClientError) -> ClientError {
    match error.is_definite() {
        true => error,
        false => ClientError::NotSent(format!("whom to send to is not known: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: i16) -> ClientError {
        ClientError::from(ErrorCode(code))
    }

    #[test]
    fn every_code_is_certain_or_is_listed() {
        // -1 unknown server error, 7 timed out, 13 network, 15 and 16 no coordinator (any more), 20
        // too few replicas after the append.
        let unknown = [-1, 7, 13, 15, 16, 20];
        for code in i16::MIN..=i16::MAX {
            let is_known = ErrorCode(code).name() != ErrorCode(i16::MAX).name();
            let expected = match code {
                46 => Certainty::Done,
                code if unknown.contains(&code) || !is_known => Certainty::Unknown,
                _ => Certainty::Not,
            };
            assert_eq!(of_send(&refused(code)), expected, "{}", ErrorCode(code));
        }
        assert!(
            (-1..=133)
                .filter(|code| of_send(&refused(*code)) == Certainty::Not)
                .count()
                > 100
        );
    }

    #[test]
    fn only_what_was_never_sent_whole_did_not_happen_for_want_of_an_answer() {
        let connect = ClientError::Connect {
            address: "a:1".to_owned(),
            reason: "refused".to_owned(),
            timed_out: true,
        };
        let cases = [
            (connect, Certainty::Not),
            (ClientError::NotSent("broken".to_owned()), Certainty::Not),
            (
                ClientError::NoAnswer("closed".to_owned()),
                Certainty::Unknown,
            ),
            (ClientError::TimedOut { timeout_ms: 1 }, Certainty::Unknown),
            (ClientError::Malformed("cut"), Certainty::Unknown),
        ];
        for (error, expected) in cases {
            assert_eq!(of_send(&error), expected, "{error}");
            assert_eq!(of_change(&error), expected, "{error}");
        }
    }

    #[test]
    fn a_question_without_an_answer_settles_that_nothing_was_sent() {
        let asked = not_sent(ClientError::TimedOut { timeout_ms: 1 });
        assert_eq!(of_send(&asked), Certainty::Not);
        assert!(is_passing(&asked));
        assert_eq!(not_sent(refused(3)), refused(3));
    }

    #[test]
    fn a_change_of_a_topic_is_never_a_duplicate() {
        assert_eq!(of_change(&refused(46)), Certainty::Not);
        assert_eq!(of_change(&refused(7)), Certainty::Unknown);
    }
}
