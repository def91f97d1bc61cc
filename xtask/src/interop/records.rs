//! The record files that every client sends, and the digests that every client must find.
//!
//! A record file is a row of records, each a 4-byte big-endian length and that many bytes:
//!
//! ```text
//! +----------------+------------------+----------------+-----
//! | length, u32 BE | value, length B  | length, u32 BE | ...
//! +----------------+------------------+----------------+-----
//! ```
//!
//! So the SHA-256 of the file is the digest over (length, value) that a reader computes.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::client::LeftOut;
use crate::process::{finish_with, succeed};

/// Debian's package and the file it installs: the word list with the most words.
pub(crate) const WORDS_PACKAGE: &str = "wamerican-huge";
/// Where the package puts it.
pub(crate) const WORDS_PATH: &str = "/usr/share/dict/american-english-huge";

/// Parts the records that kcat reads from its standard input; no value contains it.
pub(crate) const KCAT_DELIMITER: &str = "\n==braidlog-interop-record==\n";

/// The largest record of a generated file.
const RECORD_BYTES_MAX: usize = 1 << 20;
/// Nine records of ten are at most this large.
const SMALL_RECORD_BYTES_MAX: usize = 4 << 10;
/// One record in this many is exactly [`RECORD_BYTES_MAX`].
const LARGEST_EVERY: u64 = 500;
/// Values are slices of a pool of this size: the first half text, the second half noise.
const POOL_BYTES: usize = 8 << 20;
/// The same file on every machine.
const SEED: u64 = 0x00b1_a1d1_0600_0001;

const HASH_LIMIT: Duration = Duration::from_secs(300);

/// A record file and what is known about it.
#[derive(Clone)]
pub(crate) struct RecordFile {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// Records in it.
    pub(crate) count: u64,
    /// The file's length, 4 bytes a record included.
    pub(crate) bytes: u64,
    /// Its SHA-256 in hexadecimal.
    pub(crate) sha256: String,
    /// Every value is text without a line's end.
    pub(crate) is_lines: bool,
}

impl RecordFile {
    /// The word list as a record file, one word a record: every word, or one of so many.
    pub(crate) fn of_words(folder: &Path, step: usize) -> Result<Self, String> {
        let words = fs::read(WORDS_PATH).map_err(|e| format!("cannot read {WORDS_PATH}: {e}"))?;
        let words = words.strip_suffix(b"\n").unwrap_or(&words);
        let written = Self::write(folder.join("words.records"), |file| {
            let mut count = 0;
            for word in words.split(|byte| *byte == b'\n').step_by(step) {
                write_record(file, word)?;
                count += 1;
            }
            Ok(count)
        })?;
        Ok(Self {
            is_lines: true,
            ..written
        })
    }

    /// A file of at least `bytes` with records of 1 B to 1 MiB, the same for the same size.
    pub(crate) fn generated(folder: &Path, bytes: u64) -> Result<Self, String> {
        let path = folder.join(format!("{}MiB.records", bytes >> 20));
        Self::write(path, |file| {
            let mut random = Random(SEED);
            let pool = pool(&mut random);
            let (mut count, mut written) = (0, 0);
            while written < bytes {
                let length = record_length(&mut random, count);
                let start = random.below(pool.len() - length);
                write_record(file, &pool[start..start + length])?;
                count += 1;
                written += 4 + length as u64;
            }
            Ok(count)
        })
    }

    fn write(
        path: PathBuf,
        fill: impl FnOnce(&mut BufWriter<File>) -> io::Result<u64>,
    ) -> Result<Self, String> {
        let written = File::create(&path).and_then(|file| {
            let mut file = BufWriter::with_capacity(1 << 20, file);
            let count = fill(&mut file)?;
            file.flush()?;
            Ok((count, file.get_ref().metadata()?.len()))
        });
        let (count, bytes) =
            written.map_err(|problem| format!("cannot write {}: {problem}", path.display()))?;
        let hashed = succeed(Command::new("sha256sum").arg(&path), HASH_LIMIT)?.text();
        let sha256 = hashed
            .split_whitespace()
            .next()
            .unwrap_or_default()
            .to_owned();
        Ok(Self {
            path,
            count,
            bytes,
            sha256,
            is_lines: false,
        })
    }

    /// Writes every value and the delimiter after it.
    pub(crate) fn write_delimited(&self, to: impl Write, delimiter: &str) -> io::Result<()> {
        let mut from = BufReader::with_capacity(1 << 20, File::open(&self.path)?);
        let mut to = BufWriter::with_capacity(1 << 20, to);
        let mut length = [0; 4];
        let mut value = Vec::new();
        for _ in 0..self.count {
            from.read_exact(&mut length)?;
            value.resize(u32::from_be_bytes(length) as usize, 0);
            from.read_exact(&mut value)?;
            to.write_all(&value)?;
            to.write_all(delimiter.as_bytes())?;
        }
        to.flush()
    }
}

fn write_record(file: &mut impl Write, value: &[u8]) -> io::Result<()> {
    let length = u32::try_from(value.len()).map_err(io::Error::other)?;
    file.write_all(&length.to_be_bytes())?;
    file.write_all(value)
}

/// Log-uniform lengths: mostly small ones, some of every order up to the largest.
fn record_length(random: &mut Random, number: u64) -> usize {
    if number.is_multiple_of(LARGEST_EVERY) {
        return RECORD_BYTES_MAX;
    }
    let is_small = !random.next().is_multiple_of(10);
    let largest = if is_small {
        SMALL_RECORD_BYTES_MAX
    } else {
        RECORD_BYTES_MAX
    };
    // A random power of two below the largest, and a random length up to twice that.
    let power = 1 << random.below(largest.ilog2() as usize);
    power + random.below(power)
}

fn pool(random: &mut Random) -> Vec<u8> {
    const WORDS: [&str; 16] = [
        "offset",
        "leader",
        "epoch",
        "segment",
        "batch",
        "{\"id\":",
        "},",
        "true",
        "replica",
        "term",
        "index",
        "\"name\":",
        "0.5",
        "record",
        "null",
        "\n",
    ];
    let mut pool = Vec::with_capacity(POOL_BYTES + 16);
    while pool.len() < POOL_BYTES / 2 {
        pool.extend_from_slice(WORDS[random.below(WORDS.len())].as_bytes());
        pool.push(b' ');
    }
    while pool.len() < POOL_BYTES {
        pool.extend_from_slice(&random.next().to_le_bytes());
    }
    pool
}

/// SplitMix64: enough for test data.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).expect("it is below a usize")
    }
}

/// How many small records the drivers' `produce-lines` sends.
pub(crate) const LINES: u64 = 210;

/// The text that reading back the small records of `xtask/interop/README.md` must give.
pub(crate) fn expected_lines(left_out: LeftOut, timestamp_base_ms: Option<u64>) -> String {
    let several = match left_out.null_headers {
        false => "h=a,h=b,n=NULL",
        true => "h=a,h=b",
    };
    let mut text = String::new();
    for i in 0..LINES {
        let key = (i % 5 != 0).then(|| format!("key-{}", i % 17));
        let value = match i % 7 {
            0 if key.is_some() || !left_out.null_records => None,
            0 | 1 => Some(String::new()),
            _ => Some(format!("value {i}")),
        };
        let headers = match i % 3 {
            0 => String::new(),
            1 => format!("h={i}"),
            _ => several.to_owned(),
        };
        let timestamp = timestamp_base_ms.map(|base| format!("{} ", base + 1000 * i));
        let timestamp = timestamp.unwrap_or_default();
        writeln!(
            text,
            "{i} {timestamp}{} {} {headers}",
            sized(key),
            sized(value)
        )
        .expect("a string takes everything");
    }
    text
}

fn sized(text: Option<String>) -> String {
    text.map_or("-1 ".to_owned(), |text| format!("{} {text}", text.len()))
}

/// How many values there are in a text with a delimiter after each, and their SHA-256 as the ones
/// of a record file.
pub(crate) fn sha256_of_values(text: &[u8], delimiter: &str) -> Result<(u64, String), String> {
    let delimiter = delimiter.as_bytes();
    let (mut records, mut count, mut start, mut at) = (Vec::new(), 0, 0, 0);
    while at + delimiter.len() <= text.len() {
        if text[at..].starts_with(delimiter) {
            write_record(&mut records, &text[start..at]).map_err(|e| e.to_string())?;
            count += 1;
            at += delimiter.len();
            start = at;
        } else {
            at += 1;
        }
    }
    Ok((count, sha256_of(records)?))
}

/// The SHA-256 of bytes, in hexadecimal.
pub(crate) fn sha256_of(bytes: impl Into<Vec<u8>>) -> Result<String, String> {
    let bytes = bytes.into();
    let hashed = finish_with(
        &mut Command::new("sha256sum"),
        HASH_LIMIT,
        move |mut stdin| stdin.write_all(&bytes),
    )?;
    Ok(hashed
        .text()
        .split_whitespace()
        .next()
        .unwrap_or_default()
        .to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_lengths_span_one_byte_to_one_mib() {
        let mut random = Random(SEED);
        let lengths: Vec<usize> = (0..20_000).map(|i| record_length(&mut random, i)).collect();
        assert_eq!(lengths.iter().min(), Some(&1));
        assert_eq!(lengths.iter().max(), Some(&RECORD_BYTES_MAX));
        let small = lengths
            .iter()
            .filter(|length| **length < SMALL_RECORD_BYTES_MAX)
            .count();
        assert!(small > lengths.len() * 8 / 10, "{small} small records");
        assert!(lengths.iter().filter(|length| **length > 100_000).count() > 100);
    }

    #[test]
    fn the_same_seed_gives_the_same_values() {
        assert_eq!(pool(&mut Random(SEED)), pool(&mut Random(SEED)));
        assert_ne!(pool(&mut Random(SEED)), pool(&mut Random(SEED + 1)));
    }

    #[test]
    fn no_value_contains_the_delimiter() {
        let pool = pool(&mut Random(SEED));
        let delimiter = KCAT_DELIMITER.as_bytes();
        assert!(
            !pool
                .windows(delimiter.len())
                .any(|window| window == delimiter)
        );
    }

    #[test]
    fn delimited_values_hash_as_a_record_file() {
        let (count, found) = sha256_of_values(b"a++bcd++++tail", "++").unwrap();
        assert_eq!(count, 3);
        let records = [&[0, 0, 0, 1][..], b"a", &[0, 0, 0, 3], b"bcd", &[0; 4]].concat();
        assert_eq!(found, sha256_of(records).unwrap());
    }

    #[test]
    fn lines_show_nulls_empties_and_headers() {
        let text = expected_lines(LeftOut::default(), Some(1_000));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "0 1000 -1  -1  ");
        assert_eq!(lines[1], "1 2000 5 key-1 0  h=1");
        assert_eq!(lines[2], "2 3000 5 key-2 7 value 2 h=a,h=b,n=NULL");
        let left_out = LeftOut {
            null_headers: true,
            null_records: true,
        };
        let text = expected_lines(left_out, None);
        assert_eq!(text.lines().nth(2), Some("2 5 key-2 7 value 2 h=a,h=b"));
        assert_eq!(text.lines().next(), Some("0 -1  0  "));
        assert_eq!(text.lines().nth(7), Some("7 5 key-7 -1  h=7"));
    }
}
