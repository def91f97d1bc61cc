//! JSON, as little as is needed: what `braidlog bench` and `benches` print is read, strictly, and
//! lines of results are written. Numbers keep the text that they came with.

use std::fmt;

/// Values in values, at most.
const DEPTH_MAX: u32 = 32;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Json {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    /// Reads a text that is one value and nothing else.
    pub(super) fn parse(text: &str) -> Result<Json, String> {
        let mut reader = Reader { text, at: 0 };
        let value = reader.value(DEPTH_MAX)?;
        reader.space();
        match reader.at == text.len() {
            true => Ok(value),
            false => Err(reader.problem("something behind its end")),
        }
    }

    pub(super) fn text(text: impl Into<String>) -> Json {
        Json::Text(text.into())
    }

    /// A number that is not finite is `null`.
    pub(super) fn number(number: f64) -> Json {
        match number.is_finite() {
            true => Json::Number(number.to_string()),
            false => Json::Null,
        }
    }

    pub(super) fn object<const N: usize>(fields: [(&str, Json); N]) -> Json {
        let fields = fields.into_iter();
        Json::Object(
            fields
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
        )
    }

    /// The field that is reached by these names, one in the other.
    pub(super) fn at(&self, path: &str) -> Option<&Json> {
        path.split('.').try_fold(self, |value, name| match value {
            Json::Object(fields) => {
                let found = fields.iter().find(|(field, _)| field == name);
                found.map(|(_, value)| value)
            }
            _ => None,
        })
    }

    pub(super) fn as_number(&self) -> Option<f64> {
        match self {
            Json::Number(text) => text.parse().ok(),
            _ => None,
        }
    }

    pub(super) fn as_text(&self) -> Option<&str> {
        match self {
            Json::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl fmt::Display for Json {
    /// On one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Json::Null => f.write_str("null"),
            Json::Bool(truth) => write!(f, "{truth}"),
            Json::Number(text) => f.write_str(text),
            Json::Text(text) => quoted(text, f),
            Json::Array(items) => {
                f.write_str("[")?;
                for (at, item) in items.iter().enumerate() {
                    let comma = if at > 0 { "," } else { "" };
                    write!(f, "{comma}{item}")?;
                }
                f.write_str("]")
            }
            Json::Object(fields) => {
                f.write_str("{")?;
                for (at, (name, value)) in fields.iter().enumerate() {
                    f.write_str(if at > 0 { "," } else { "" })?;
                    quoted(name, f)?;
                    write!(f, ":{value}")?;
                }
                f.write_str("}")
            }
        }
    }
}

fn quoted(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str("\"")?;
    for c in text.chars() {
        match c {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            c if c < ' ' => write!(f, "\\u{:04x}", u32::from(c))?,
            c => write!(f, "{c}")?,
        }
    }
    f.write_str("\"")
}

/// A text, and how far it is read.
struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn problem(&self, what: &str) -> String {
        format!("not JSON: {what} at byte {}", self.at)
    }

    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    /// Whether the next byte is this one, which is taken then.
    fn takes(&mut self, byte: u8) -> bool {
        let is_it = self.peek() == Some(byte);
        self.at += usize::from(is_it);
        is_it
    }

    fn value(&mut self, depth: u32) -> Result<Json, String> {
        if depth == 0 {
            return Err(self.problem("too many values in values"));
        }
        self.space();
        match self.peek() {
            Some(b'{') => self.fields(depth),
            Some(b'[') => self.items(depth),
            Some(b'"') => self.string().map(Json::Text),
            Some(b'-' | b'0'..=b'9') => self.digits(),
            _ => self.word(),
        }
    }

    fn word(&mut self) -> Result<Json, String> {
        let words = [
            ("null", Json::Null),
            ("true", Json::Bool(true)),
            ("false", Json::Bool(false)),
        ];
        let rest = self.rest();
        let found = words.into_iter().find(|(word, _)| rest.starts_with(word));
        let (word, value) = found.ok_or_else(|| self.problem("no value"))?;
        self.at += word.len();
        Ok(value)
    }

    /// `-`, digits, a fraction, an exponent: as the grammar has it, without leading zeros.
    fn digits(&mut self) -> Result<Json, String> {
        let begin = self.at;
        self.takes(b'-');
        if !self.takes(b'0') {
            self.some_digits()?;
        }
        if self.takes(b'.') {
            self.some_digits()?;
        }
        if self.takes(b'e') || self.takes(b'E') {
            let _ = self.takes(b'+') || self.takes(b'-');
            self.some_digits()?;
        }
        Ok(Json::Number(self.text[begin..self.at].to_owned()))
    }

    fn some_digits(&mut self) -> Result<(), String> {
        let begin = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        match self.at > begin {
            true => Ok(()),
            false => Err(self.problem("no digit")),
        }
    }

    fn items(&mut self, depth: u32) -> Result<Json, String> {
        self.at += 1;
        let mut items = Vec::new();
        self.space();
        if self.takes(b']') {
            return Ok(Json::Array(items));
        }
        loop {
            items.push(self.value(depth - 1)?);
            self.space();
            if self.takes(b']') {
                return Ok(Json::Array(items));
            }
            if !self.takes(b',') {
                return Err(self.problem("no comma"));
            }
        }
    }

    fn fields(&mut self, depth: u32) -> Result<Json, String> {
        self.at += 1;
        let mut fields: Vec<(String, Json)> = Vec::new();
        self.space();
        if self.takes(b'}') {
            return Ok(Json::Object(fields));
        }
        loop {
            self.space();
            let name = self.string()?;
            if fields.iter().any(|(known, _)| *known == name) {
                return Err(self.problem("a name for the second time"));
            }
            self.space();
            if !self.takes(b':') {
                return Err(self.problem("no colon"));
            }
            fields.push((name, self.value(depth - 1)?));
            self.space();
            if self.takes(b'}') {
                return Ok(Json::Object(fields));
            }
            if !self.takes(b',') {
                return Err(self.problem("no comma"));
            }
        }
    }

    fn string(&mut self) -> Result<String, String> {
        if !self.takes(b'"') {
            return Err(self.problem("no quote"));
        }
        let mut string = String::new();
        loop {
            let next = self.rest().chars().next();
            let c = next.ok_or_else(|| self.problem("a text without end"))?;
            self.at += c.len_utf8();
            match c {
                '"' => return Ok(string),
                '\\' => string.push(self.escaped()?),
                c if c < ' ' => return Err(self.problem("a control character")),
                c => string.push(c),
            }
        }
    }

    fn escaped(&mut self) -> Result<char, String> {
        let escape = self.peek();
        self.at += usize::from(escape.is_some_and(|byte| byte.is_ascii()));
        match escape {
            Some(b'n') => Ok('\n'),
            Some(b't') => Ok('\t'),
            Some(b'r') => Ok('\r'),
            Some(b'b') => Ok('\u{8}'),
            Some(b'f') => Ok('\u{c}'),
            Some(c @ (b'"' | b'\\' | b'/')) => Ok(char::from(c)),
            Some(b'u') => {
                let digits = self.text.get(self.at..self.at + 4);
                let hex = digits.filter(|four| four.bytes().all(|byte| byte.is_ascii_hexdigit()));
                let code = hex.and_then(|hex| u32::from_str_radix(hex, 16).ok());
                // Halves of pairs are no characters; the programs that we read print none.
                let c = code.and_then(char::from_u32);
                let c = c.ok_or_else(|| self.problem("no character"))?;
                self.at += 4;
                Ok(c)
            }
            _ => Err(self.problem("no such escape")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_and_written_as_it_was() {
        let line = r#"{"mode":"produce","ok":true,"problems":[],"figures":{"mb":1.5e2,"p99":-0.25,"none":null,"text":"a\"b\\c\u0009ü"}}"#;
        let value = Json::parse(line).unwrap();
        assert_eq!(value.to_string(), line);
        assert_eq!(value.at("figures.mb").unwrap().as_number(), Some(150.0));
        assert_eq!(
            value.at("figures.text").unwrap().as_text(),
            Some("a\"b\\c\tü")
        );
        assert_eq!(value.at("ok"), Some(&Json::Bool(true)));
        for nowhere in ["figures.mb.more", "nothing", "problems.0", ""] {
            assert_eq!(value.at(nowhere), None, "{nowhere}");
        }
    }

    #[test]
    fn space_between_values_does_not_matter() {
        let spaced = Json::parse(" { \"a\" : [ 1 , 2 ] ,\r\n\"b\":{ } } ").unwrap();
        assert_eq!(spaced.to_string(), r#"{"a":[1,2],"b":{}}"#);
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for text in [
            "",
            " ",
            "{",
            "[",
            "[1",
            "[1,]",
            "[1 2]",
            "{\"a\"}",
            "{\"a\":1,}",
            "{a:1}",
            "01",
            "1.",
            ".5",
            "-",
            "1e",
            "+1",
            "NaN",
            "nul",
            "tru",
            "\"",
            "\"\\",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\ud800\"",
            "\"\\u+123\"",
            "\"\n\"",
            "1 2",
            "{\"a\":1,\"a\":2}",
            "\"\\ü\"",
        ] {
            assert!(Json::parse(text).is_err(), "{text:?}");
        }
        assert!(Json::parse(&"[".repeat(100_000)).is_err());
    }

    #[test]
    fn numbers_that_are_none_are_null() {
        assert_eq!(Json::number(f64::NAN), Json::Null);
        assert_eq!(Json::number(1.0 / 3.0).as_number(), Some(1.0 / 3.0));
    }
}
