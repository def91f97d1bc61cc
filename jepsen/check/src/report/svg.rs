//! Text of SVG and HTML: escaping, short numbers, and the few shapes that pictures are made of.

use std::fmt::Write;

/// Text as it stands in HTML and in attributes.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            // Not to be had in XML, however written.
            control if control.is_control() && control != '\n' => escaped.push('\u{fffd}'),
            other => escaped.push(other),
        }
    }
    escaped
}

/// At most so many characters of a text, with an ellipsis where something is left out.
pub(super) fn shorten(text: &str, chars_max: usize) -> String {
    if text.chars().count() <= chars_max {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(chars_max.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// A coordinate, with one digit after the point where it has one.
pub(super) fn number(value: f64) -> String {
    let mut text = format!("{value:.1}");
    if text.ends_with(".0") {
        text.truncate(text.len() - 2);
    }
    if text == "-0" { "0".to_owned() } else { text }
}

/// A picture that grows from the top.
pub(super) struct Picture {
    body: String,
    /// Its width, in its own units.
    pub(super) width: f64,
}

/// Where a label stands relative to its point.
#[derive(Debug, Clone, Copy)]
pub(super) enum Anchor {
    /// It begins there.
    Start,
    /// It is centred there.
    Middle,
    /// It ends there.
    End,
}

impl Picture {
    pub(super) fn new(width: f64) -> Picture {
        Picture {
            body: String::new(),
            width,
        }
    }

    /// The element, so high, for a reader named `label`.
    pub(super) fn close(self, height: f64, label: &str) -> String {
        format!(
            "<svg viewBox=\"0 0 {w} {h}\" width=\"{w}\" height=\"{h}\" role=\"img\" aria-label=\"{label}\">\n{body}</svg>\n",
            w = number(self.width),
            h = number(height),
            label = escape(label),
            body = self.body,
        )
    }

    /// What was drawn, for another picture.
    pub(super) fn into_body(self) -> String {
        self.body
    }

    /// What is already text of SVG.
    pub(super) fn raw(&mut self, text: &str) {
        self.body.push_str(text);
        self.body.push('\n');
    }

    /// A rectangle; `title` is shown when pointed at, where it is not empty.
    pub(super) fn rect(&mut self, class: &str, at: [f64; 4], title: &str) {
        let [x, y, width, height] = at.map(number);
        let shape = format!(
            "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\""
        );
        self.titled(&shape, "rect", title);
    }

    /// A rectangle with round corners.
    pub(super) fn round_rect(&mut self, class: &str, at: [f64; 4], title: &str) {
        let [x, y, width, height] = at.map(number);
        let shape = format!(
            "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"3\""
        );
        self.titled(&shape, "rect", title);
    }

    /// A circle.
    pub(super) fn circle(&mut self, class: &str, (x, y): (f64, f64), radius: f64, title: &str) {
        let shape = format!(
            "<circle class=\"{class}\" cx=\"{}\" cy=\"{}\" r=\"{}\"",
            number(x),
            number(y),
            number(radius)
        );
        self.titled(&shape, "circle", title);
    }

    /// A straight line from a point to another.
    pub(super) fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        let _ = writeln!(
            self.body,
            "<line class=\"{class}\" x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\"/>",
            number(from.0),
            number(from.1),
            number(to.0),
            number(to.1)
        );
    }

    /// A path; nothing where `d` is empty.
    pub(super) fn path(&mut self, class: &str, d: &str) {
        if !d.is_empty() {
            let _ = writeln!(self.body, "<path class=\"{class}\" d=\"{d}\"/>");
        }
    }

    /// A path that says what it is when pointed at.
    pub(super) fn titled_path(&mut self, class: &str, d: &str, title: &str) {
        self.titled(&format!("<path class=\"{class}\" d=\"{d}\""), "path", title);
    }

    /// Words.
    pub(super) fn text(&mut self, class: &str, x: f64, y: f64, anchor: Anchor, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "",
            Anchor::Middle => " text-anchor=\"middle\"",
            Anchor::End => " text-anchor=\"end\"",
        };
        let _ = writeln!(
            self.body,
            "<text class=\"{class}\" x=\"{}\" y=\"{}\"{anchor}>{}</text>",
            number(x),
            number(y),
            escape(text)
        );
    }

    fn titled(&mut self, shape: &str, element: &str, title: &str) {
        let _ = if title.is_empty() {
            writeln!(self.body, "{shape}/>")
        } else {
            writeln!(
                self.body,
                "{shape}><title>{}</title></{element}>",
                escape(title)
            )
        };
    }
}

/// A path of many shapes.
#[derive(Default)]
pub(super) struct Shapes(String);

impl Shapes {
    /// A bar.
    pub(super) fn bar(&mut self, x: f64, y: f64, width: f64, height: f64) {
        let (w, h) = (number(width), number(height));
        let _ = write!(self.0, "M{} {}h{w}v{h}h-{w}z", number(x), number(y));
    }

    /// A dot, for a class whose strokes have round ends.
    pub(super) fn dot(&mut self, x: f64, y: f64) {
        let _ = write!(self.0, "M{} {}h.01", number(x), number(y));
    }

    /// A diamond around a point.
    pub(super) fn diamond(&mut self, x: f64, y: f64, radius: f64) {
        let r = number(radius);
        let _ = write!(
            self.0,
            "M{} {}l{r} {r}l-{r} {r}l-{r} -{r}z",
            number(x),
            number(y - radius)
        );
    }

    /// A line that goes on: the first point moves there.
    pub(super) fn point(&mut self, x: f64, y: f64) {
        let command = if self.0.is_empty() { 'M' } else { 'L' };
        let _ = write!(self.0, "{command}{} {}", number(x), number(y));
    }

    /// The path's text.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_text_is_markup() {
        assert_eq!(
            escape("a<b> & \"c\"\u{1}"),
            "a&lt;b&gt; &amp; &quot;c&quot;\u{fffd}"
        );
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(number(12.0), "12");
        assert_eq!(number(12.34), "12.3");
        assert_eq!(number(-0.01), "0");
    }

    #[test]
    fn long_texts_end_with_an_ellipsis() {
        assert_eq!(shorten("übermorgen", 5), "über…");
        assert_eq!(shorten("heute", 5), "heute");
    }
}
