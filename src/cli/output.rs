//! Standard output: tables for people, JSON for programs.

use std::io::{self, BufWriter, Stdout, Write};

use clap::ValueEnum;
use serde_json::Value;

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Columns, for people
    Table,
    /// JSON, for programs
    Json,
}

/// Standard output. What is written may wait for [`Output::flush`].
#[derive(Debug)]
pub(super) struct Output {
    format: Format,
    out: BufWriter<Stdout>,
}

impl Output {
    pub(super) fn new(format: Format) -> Output {
        Output {
            format,
            out: BufWriter::with_capacity(64 << 10, io::stdout()),
        }
    }

    pub(super) fn format(&self) -> Format {
        self.format
    }

    pub(super) fn line(&mut self, line: &str) -> io::Result<()> {
        self.out.write_all(line.as_bytes())?;
        self.out.write_all(b"\n")
    }

    /// Text as it is.
    pub(super) fn text(&mut self, text: &str) -> io::Result<()> {
        self.out.write_all(text.as_bytes())
    }

    pub(super) fn json(&mut self, value: &Value) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, value).map_err(io::Error::from)?;
        self.out.write_all(b"\n")
    }

    /// A line of text or a JSON value, as the format is.
    pub(super) fn result(&mut self, line: &str, value: &Value) -> io::Result<()> {
        match self.format {
            Format::Table => self.line(line),
            Format::Json => self.json(value),
        }
    }

    pub(super) fn table(&mut self, table: &Table) -> io::Result<()> {
        self.out.write_all(table.render().as_bytes())
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Rows under headings. Columns of numbers are aligned to the right.
#[derive(Debug)]
pub(super) struct Table {
    headings: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(headings: &[&'static str]) -> Table {
        Table {
            headings: headings.to_vec(),
            rows: Vec::new(),
        }
    }

    /// # Panics
    ///
    /// When the row has another number of cells than there are headings.
    pub(super) fn row(&mut self, cells: Vec<String>) {
        assert_eq!(cells.len(), self.headings.len(), "a cell for each heading");
        self.rows.push(cells);
    }

    fn render(&self) -> String {
        let columns: Vec<(usize, bool)> = (0..self.headings.len())
            .map(|at| {
                let cells = || self.rows.iter().map(|row| row[at].as_str());
                let width = cells().map(width).chain([self.headings[at].len()]).max();
                let numbers = cells().all(|cell| cell == "-" || cell.parse::<i64>().is_ok());
                (width.unwrap_or(0), numbers && !self.rows.is_empty())
            })
            .collect();
        let mut out = String::new();
        let headings: Vec<String> = self.headings.iter().map(ToString::to_string).collect();
        for row in std::iter::once(&headings).chain(&self.rows) {
            let mut line = String::new();
            for (cell, (column_width, right)) in row.iter().zip(&columns) {
                let padding = " ".repeat(column_width - width(cell));
                let (before, after) = if *right {
                    (&*padding, "")
                } else {
                    ("", &*padding)
                };
                line.push_str(&format!("{before}{cell}{after}  "));
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }
}

fn width(cell: &str) -> usize {
    cell.chars().count()
}

/// Text from outside for a terminal: control characters are escaped, so that a record can neither
/// move the cursor nor pretend to be another row.
pub(super) fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .chars()
        .flat_map(|c| {
            let escape = c.is_control();
            let plain = (!escape).then_some(c);
            plain
                .into_iter()
                .chain(escape.then(|| c.escape_default()).into_iter().flatten())
        })
        .collect()
}

/// RFC 4648 base64, padded: for JSON values that are no UTF-8.
pub(super) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = (0..3).fold(0usize, |word, at| {
            word << 8 | usize::from(chunk.get(at).copied().unwrap_or(0))
        });
        for at in 0..4 {
            let digit = char::from(DIGITS[word >> (18 - 6 * at) & 63]);
            out.push(if at <= chunk.len() { digit } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_numbers_stand_to_the_right() {
        let mut table = Table::new(&["NAME", "N", "LAST"]);
        table.row(vec!["orders".to_owned(), "7".to_owned(), "x".to_owned()]);
        table.row(vec!["ä".to_owned(), "12".to_owned(), "y".to_owned()]);
        assert_eq!(
            table.render(),
            "NAME     N  LAST\norders   7  x\nä       12  y\n"
        );
        assert_eq!(Table::new(&["A", "B"]).render(), "A  B\n");
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(printable(b"a\tb\x1b[2J\nc"), "a\\tb\\u{1b}[2J\\nc");
        assert_eq!(printable("grün".as_bytes()), "grün");
        assert_eq!(printable(&[0xff]), "\u{fffd}");
    }

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xff, 0xfe]), "//4=");
    }
}
