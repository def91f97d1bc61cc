//! What a node writes to its log that it should not: panics, and lines of level ERROR.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;

use crate::node::ProblemKind;

/// Read of a log at a time.
const READ_BYTES_MAX: u64 = 1 << 20;
/// Lines kept to show what came before an end.
const LAST_LINES: usize = 15;
/// Lines of level ERROR reported of one node.
const ERROR_LINES_MAX: usize = 200;
/// Stands before what a process says, at each start.
pub(crate) const HEADLINE: &str = "--- start ";
/// Longer lines are cut.
const LINE_BYTES_MAX: usize = 2_000;

/// Reads a log as it grows.
#[derive(Debug)]
pub(crate) struct LogReader {
    path: PathBuf,
    read: u64,
    rest: String,
    last: VecDeque<String>,
    error_lines: usize,
}

impl LogReader {
    pub(crate) fn new(path: PathBuf) -> LogReader {
        LogReader {
            path,
            read: 0,
            rest: String::new(),
            last: VecDeque::new(),
            error_lines: 0,
        }
    }

    /// What came since the last time that should not have.
    pub(crate) fn read(&mut self) -> Vec<(ProblemKind, String)> {
        let mut new = Vec::new();
        let read = File::open(&self.path).and_then(|mut log| {
            log.seek(SeekFrom::Start(self.read))?;
            log.take(READ_BYTES_MAX).read_to_end(&mut new)
        });
        if let Err(error) = read {
            // It is there from the first start on.
            tracing::debug!(%error, path = %self.path.display(), "a log cannot be read");
            return Vec::new();
        }
        self.read += u64::try_from(new.len()).unwrap_or(0);
        self.rest.push_str(&String::from_utf8_lossy(&new));
        let mut found = Vec::new();
        let whole = self.rest.rfind('\n').map_or(0, |end| end + 1);
        let lines: String = self.rest.drain(..whole).collect();
        for line in lines.lines() {
            found.extend(self.judge(line));
            if line.starts_with(HEADLINE) {
                self.last.clear();
            }
            if self.last.len() == LAST_LINES {
                self.last.pop_front();
            }
            self.last.push_back(line.to_owned());
        }
        if self.rest.len() > LINE_BYTES_MAX {
            self.rest.clear();
        }
        found
    }

    fn judge(&mut self, line: &str) -> Option<(ProblemKind, String)> {
        let shown: String = line.chars().take(LINE_BYTES_MAX).collect();
        if line.contains("panicked at ") {
            return Some((ProblemKind::Panicked, shown));
        }
        let is_error = line.split_whitespace().nth(1) == Some("ERROR");
        if is_error && self.error_lines < ERROR_LINES_MAX {
            self.error_lines += 1;
            return Some((ProblemKind::ErrorLine, shown));
        }
        None
    }

    /// The last lines read.
    pub(crate) fn last_lines(&mut self) -> String {
        let lines: Vec<&str> = self.last.iter().map(String::as_str).collect();
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_and_errors_are_found_once_and_nothing_else() {
        let path = std::env::temp_dir().join(format!("jepsen-log-{}", std::process::id()));
        let mut reader = LogReader::new(path.clone());
        assert_eq!(reader.read(), []);
        std::fs::write(
            &path,
            "2026-11-23T10:29:23Z  INFO a: no ERROR here\n\
             2026-11-23T10:29:23Z ERROR b: bad\nthread 'x' panicked at src/a.rs:1:2:\nhalf",
        )
        .unwrap();
        let kinds: Vec<ProblemKind> = reader.read().into_iter().map(|(kind, _)| kind).collect();
        assert_eq!(kinds, [ProblemKind::ErrorLine, ProblemKind::Panicked]);
        assert_eq!(reader.read(), []);
        assert!(reader.last_lines().contains("panicked"));
        std::fs::remove_file(&path).unwrap();
    }
}
