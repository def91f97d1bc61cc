//! Sizes and times as people write them: `64MiB`, `10s`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A number of bytes. Written as a plain number or with `B`, `KiB`, `MiB`, `GiB` or `TiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// A stretch of time, in milliseconds. Written with `ms`, `s`, `m`, `h` or `d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period {
    /// Its length.
    pub ms: u64,
}

/// Why a text is no size or time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no {kind}; write for example {example}")]
pub struct UnitError {
    text: String,
    kind: &'static str,
    example: &'static str,
}

const SIZES: [(&str, u64); 5] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];
// The longer unit first where one ends in another.
const TIMES: [(&str, u64); 5] = [
    ("ms", 1),
    ("s", 1000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

fn parse(text: &str, units: &[(&str, u64)], bare: Option<u64>) -> Option<u64> {
    let text = text.trim();
    let unit = units
        .iter()
        .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor)));
    let (digits, factor) = match (unit, bare) {
        (Some(found), _) => found,
        (None, Some(factor)) => (text, factor),
        (None, None) => return None,
    };
    digits.trim_end().parse::<u64>().ok()?.checked_mul(factor)
}

fn write(value: u64, units: &[(&str, u64)], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let exact = units
        .iter()
        .filter(|(_, factor)| value > 0 && value.is_multiple_of(*factor))
        .max_by_key(|(_, factor)| *factor);
    match exact.or_else(|| units.iter().min_by_key(|(_, factor)| *factor)) {
        Some((unit, factor)) => write!(f, "{}{unit}", value / factor),
        None => write!(f, "{value}"),
    }
}

impl ByteSize {
    /// As a length in memory.
    #[must_use]
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl FromStr for ByteSize {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<ByteSize, UnitError> {
        parse(text, &SIZES, Some(1))
            .map(ByteSize)
            .ok_or_else(|| UnitError {
                text: text.to_owned(),
                kind: "size",
                example: "64MiB",
            })
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(self.0, &SIZES, f)
    }
}

impl Period {
    /// Of this many seconds.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Period {
        Period { ms: seconds * 1000 }
    }

    /// Its length, signed.
    #[must_use]
    pub fn signed_ms(self) -> i64 {
        i64::try_from(self.ms).unwrap_or(i64::MAX)
    }

    /// As Kafka's requests carry it.
    #[must_use]
    pub fn wire_ms(self) -> i32 {
        i32::try_from(self.ms).unwrap_or(i32::MAX)
    }
}

impl From<Period> for std::time::Duration {
    fn from(period: Period) -> std::time::Duration {
        std::time::Duration::from_millis(period.ms)
    }
}

impl FromStr for Period {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Period, UnitError> {
        parse(text, &TIMES, None)
            .map(|ms| Period { ms })
            .ok_or_else(|| UnitError {
                text: text.to_owned(),
                kind: "time",
                example: "500ms or 10s",
            })
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(self.ms, &TIMES, f)
    }
}

/// What a configuration file may hold: a number or a text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Number(u64),
    Text(String),
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ByteSize, D::Error> {
        match Written::deserialize(deserializer)
            .map_err(|_| serde::de::Error::custom("expected a size such as \"64MiB\""))?
        {
            Written::Number(bytes) => Ok(ByteSize(bytes)),
            Written::Text(text) => text.parse().map_err(serde::de::Error::custom),
        }
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Period, D::Error> {
        String::deserialize(deserializer)
            .map_err(|_| serde::de::Error::custom("expected a time with its unit such as \"10s\""))?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_written_in_the_largest_exact_unit() {
        for (text, bytes, written) in [
            ("64MiB", 64 << 20, "64MiB"),
            ("1024", 1024, "1KiB"),
            ("1025B", 1025, "1025B"),
            ("0", 0, "0B"),
            (" 2 GiB ", 2 << 30, "2GiB"),
        ] {
            let size: ByteSize = text.parse().unwrap();
            assert_eq!((size.0, size.to_string().as_str()), (bytes, written));
        }
        for text in ["", "MiB", "-1", "1.5MiB", "1MB", "99999999999TiB"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }

    #[test]
    fn times_need_a_unit() {
        for (text, ms, written) in [
            ("500ms", 500, "500ms"),
            ("10s", 10_000, "10s"),
            ("120s", 120_000, "2m"),
            ("7d", 604_800_000, "7d"),
            ("0s", 0, "0ms"),
        ] {
            let period: Period = text.parse().unwrap();
            assert_eq!((period.ms, period.to_string().as_str()), (ms, written));
        }
        for text in ["", "10", "s", "-1s", "1w"] {
            assert!(text.parse::<Period>().is_err(), "{text}");
        }
    }
}
