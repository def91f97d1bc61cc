//! Where in a partition to begin: `start`, `end`, an offset, or `@` a time.

use std::str::FromStr;

use kafka_client::api::OffsetQuery;

use super::time::parse_utc;

/// A place in a log, as given on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Position {
    /// The first record there is.
    Start,
    /// Behind the last record.
    End,
    /// This offset.
    Offset(i64),
    /// The first record at or after this time, in milliseconds since the Unix epoch.
    Time(i64),
}

impl Position {
    /// What to ask ListOffsets, or the offset that needs no asking.
    pub(super) fn query(self) -> Result<i64, i64> {
        match self {
            Position::Start => Ok(OffsetQuery::EARLIEST),
            Position::End => Ok(OffsetQuery::LATEST),
            Position::Time(ms) => Ok(ms),
            Position::Offset(offset) => Err(offset),
        }
    }
}

impl FromStr for Position {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Position, &'static str> {
        const EXPECTED: &str = "expected start, end, an offset, or a time such as \
                                @2026-01-02T03:04:05Z or @1767323045000 (milliseconds)";
        match text {
            "start" => Ok(Position::Start),
            "end" => Ok(Position::End),
            _ => match text.strip_prefix('@') {
                Some(time) => parse_utc(time).map(Position::Time),
                None => text
                    .parse()
                    .ok()
                    .filter(|offset| *offset >= 0)
                    .map(Position::Offset),
            }
            .ok_or(EXPECTED),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read() {
        for (text, position) in [
            ("start", Position::Start),
            ("end", Position::End),
            ("0", Position::Offset(0)),
            ("@1000", Position::Time(1000)),
            ("@1970-01-01T00:00:01Z", Position::Time(1000)),
        ] {
            assert_eq!(text.parse(), Ok(position));
        }
        for text in ["", "-1", "begin", "@", "@x", "1.5"] {
            assert!(text.parse::<Position>().is_err(), "{text}");
        }
    }
}
