//! The only place that prints: data to stdout, words to stderr.

use std::io::{self, IsTerminal, Write};

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
use serde_json::Value;

use crate::failure::Failure;

/// Tables are not squeezed into fewer columns than this.
const NARROWEST: u16 = 40;

/// What the person asked for in the way of output.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ui {
    json: bool,
    quiet: bool,
    verbose: bool,
    progress: bool,
}

impl Ui {
    /// Output as the global options say.
    pub(crate) fn new(json: bool, quiet: bool, verbose: bool, no_progress: bool) -> Ui {
        let progress = !quiet && !no_progress && io::stderr().is_terminal();
        Ui { json, quiet, verbose, progress }
    }

    /// Whether programs read our stdout.
    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// Whether all is to be told.
    pub(crate) fn is_verbose(self) -> bool {
        self.verbose
    }

    /// Whether progress bars are drawn.
    pub(crate) fn draws_progress(self) -> bool {
        self.progress
    }

    /// One line of data.
    pub(crate) fn data(self, line: &str) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        writeln!(out, "{line}")?;
        Ok(())
    }

    /// Writes data as it comes.
    pub(crate) fn stream(self) -> io::BufWriter<io::StdoutLock<'static>> {
        io::BufWriter::with_capacity(64 << 10, io::stdout().lock())
    }

    /// One JSON document.
    pub(crate) fn document(self, value: &Value) -> Result<(), Failure> {
        self.data(&value.to_string())
    }

    /// Words for the operator.
    pub(crate) fn say(self, words: &str) {
        if !self.quiet {
            self.to_stderr(words);
        }
    }

    /// Words that are of use only to someone who looks for a cause.
    pub(crate) fn detail(self, words: &str) {
        if self.verbose {
            self.to_stderr(words);
        }
    }

    /// Words that `-q` does not silence.
    pub(crate) fn warn(self, words: &str) {
        self.to_stderr(&format!("warning: {words}"));
    }

    /// A failure, with its chain and hints.
    pub(crate) fn failure(self, failure: &Failure) {
        self.to_stderr(&failure.to_string());
    }

    fn to_stderr(self, words: &str) {
        // There is nobody left to tell if stderr is gone.
        let _ = writeln!(io::stderr().lock(), "{}", printable(words, true));
    }

    /// A table on stdout, as wide as the terminal.
    pub(crate) fn table(self, header: &[&str], rows: Vec<Vec<String>>) -> Result<(), Failure> {
        let mut table = Table::new();
        table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
        // A serial console is a terminal that says it is 0 columns wide.
        if !io::stdout().is_terminal() || table.width().is_none_or(|width| width < NARROWEST) {
            table.set_content_arrangement(ContentArrangement::Disabled);
        }
        table.set_header(header.iter().map(|h| h.to_uppercase()));
        for row in rows {
            table.add_row(row.iter().map(|cell| printable(cell, false)));
        }
        let mut out = io::stdout().lock();
        for line in table.to_string().lines() {
            writeln!(out, "{}", line.trim_end().strip_prefix(' ').unwrap_or(line))?;
        }
        Ok(())
    }
}

/// Text from evidence that is safe on a terminal: control characters become `\xNN`.
pub(crate) fn printable(text: &str, keep_lines: bool) -> String {
    let bad = |c: char| c.is_control() && !(keep_lines && c == '\n') || is_direction_mark(c);
    if !text.contains(bad) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if bad(c) {
            for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                out.push_str(&format!("\\x{byte:02x}"));
            }
        } else {
            out.push(c);
        }
    }
    out
}

/// Marks that make a terminal show text in another order than it has.
fn is_direction_mark(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A number of bytes as people say it: `1.6 GiB`.
pub(crate) fn bytes(n: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if n < 1024 {
        return format!("{n} B");
    }
    let mut value = n as f64 / 1024.0;
    let mut unit = "KiB";
    for next in UNITS.iter().skip(1) {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    format!("{value:.1} {unit}")
}

/// A count with its noun: `1 entry`, `12 entries`, `1,442 events`.
pub(crate) fn count(n: u64, one: &str, many: &str) -> String {
    format!("{} {}", grouped(n), if n == 1 { one } else { many })
}

/// A number with commas: `64,488`.
pub(crate) fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_people_say_them() {
        assert_eq!(
            (bytes(1023), bytes(1024), bytes(1_677_721_600)),
            ("1023 B".into(), "1.0 KiB".into(), "1.6 GiB".into())
        );
        assert_eq!(
            (grouped(999), grouped(64_488), grouped(1_000_000)),
            ("999".into(), "64,488".into(), "1,000,000".into())
        );
        assert_eq!(count(1, "entry", "entries"), "1 entry");
    }

    #[test]
    fn evidence_cannot_reach_the_terminal() {
        assert_eq!(printable("a\u{1b}[31mred\nb\u{202e}", false), "a\\x1b[31mred\\x0ab\\xe2\\x80\\xae");
        assert_eq!(printable("two\nlines é", true), "two\nlines é");
    }
}
