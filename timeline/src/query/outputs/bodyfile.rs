//! The body file of The Sleuth Kit 3.x: `MD5|name|inode|mode|UID|GID|size|atime|mtime|ctime|crtime`.
//!
//! The rows of one file (exhibit, locator, path, inode) become one line; lines are in that order. Times are
//! seconds since 1970 with their fraction, `0` where there is none. In names `\` is `\\`, `|` is `\|`, and control
//! characters are `\xNN`. Mode, owner and MD5 come from `attrs` (`mode`, `uid`, `gid`, `md5`).

use std::collections::BTreeMap;
use std::io::Write;

use serde_json::Value as Json;

use super::{Written, positions, unwritten};
use crate::Error;
use crate::event::{Timestamp, flags};
use crate::query::answer::{Answer, Value};

/// The source of file times.
pub(super) const SOURCE: &str = "fs:stat";

/// The meanings of the four times, in the order of the line.
const TIMES: [&str; 4] =
    ["Last Access Time", "Content Modification Time", "Metadata Modification Time", "Creation Time"];

#[derive(Default)]
struct File {
    size: String,
    attrs: String,
    deleted: bool,
    times: [Option<Timestamp>; 4],
}

pub(super) fn write(answer: Answer, out: &mut dyn Write) -> Result<Written, Error> {
    let [ts, desc, source, path, inode, size, attrs, bits, exhibit, locator] = positions(
        &answer,
        ["ts", "ts_desc", "source", "path", "inode", "size", "attrs", "flags", "exhibit", "locator"],
    );
    let mut files: BTreeMap<[String; 4], File> = BTreeMap::new();
    let mut written = Written::default();
    for row in answer {
        let row = row?;
        let text = |column: usize| row.value(column).to_text().into_owned();
        if text(source) != SOURCE {
            written.left_out += 1;
            continue;
        }
        let file = files.entry([text(exhibit), text(locator), text(path), text(inode)]).or_default();
        let desc = text(desc);
        if let Some((_, time)) = TIMES.iter().zip(&mut file.times).find(|(name, _)| **name == desc) {
            if let Value::Time(at) = row.value(ts) {
                time.get_or_insert(at);
            }
        } else {
            written.left_out += 1;
        }
        file.deleted |= matches!(row.value(bits), Value::Int(bits) if bits & i64::from(flags::DELETED) != 0);
        (file.size, file.attrs) = (text(size), text(attrs));
    }
    for ([_, _, path, inode], file) in &files {
        out.write_all(line(path, inode, file).as_bytes()).map_err(unwritten)?;
        written.rows += 1;
    }
    Ok(written)
}

fn line(path: &str, inode: &str, file: &File) -> String {
    let attrs: Json = serde_json::from_str(&file.attrs).unwrap_or(Json::Null);
    let attr = |name: &str| match attrs.get(name) {
        Some(Json::String(text)) => escape(text),
        Some(Json::Number(number)) => number.to_string(),
        _ => "0".to_owned(),
    };
    let mut name = escape(path);
    if let Some(target) = attrs.get("link_target").and_then(Json::as_str) {
        name.push_str(" -> ");
        name.push_str(&escape(target));
    }
    if file.deleted {
        name.push_str(" (deleted)");
    }
    let mode = match attrs.get("mode").and_then(Json::as_u64) {
        Some(mode) => mode_letters(mode),
        None => attr("mode"),
    };
    let or_zero = |text: &str| if text.is_empty() { "0".to_owned() } else { text.to_owned() };
    let mut fields =
        vec![attr("md5"), name, or_zero(inode), mode, attr("uid"), attr("gid"), or_zero(&file.size)];
    fields.extend(file.times.iter().map(|time| time.map_or_else(|| "0".to_owned(), seconds)));
    fields.join("|") + "\n"
}

/// Seconds with the fraction that the time has.
fn seconds(time: Timestamp) -> String {
    let nanos = time.subsec_nanos();
    let (seconds, nanos) = match time.seconds() {
        // Before 1970 the fraction counts away from zero, as in any decimal number.
        s if s < 0 && nanos > 0 => (s + 1, 1_000_000_000 - nanos),
        s => (s, nanos),
    };
    let sign = if time.micros < 0 && seconds == 0 { "-" } else { "" };
    let text = format!("{sign}{seconds}.{nanos:09}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// `r/rrwxr-xr-x`, as the Sleuth Kit writes it: the type as the name has it and as the inode has it.
fn mode_letters(mode: u64) -> String {
    let kind = match mode & 0o170_000 {
        0o040_000 => 'd',
        0o120_000 => 'l',
        0o020_000 => 'c',
        0o060_000 => 'b',
        0o010_000 => 'p',
        0o140_000 => 'h',
        _ => 'r',
    };
    let mut text = format!("{kind}/{kind}");
    for (bit, special, letters) in [(6, 0o4000, "sS"), (3, 0o2000, "sS"), (0, 0o1000, "tT")] {
        let bits = mode >> bit;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        let run = bits & 1 != 0;
        text.push(match (mode & special != 0, run) {
            (true, true) => letters.chars().next().unwrap_or('x'),
            (true, false) => letters.chars().nth(1).unwrap_or('-'),
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    text
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => escaped.push_str("\\\\"),
            '|' => escaped.push_str("\\|"),
            c if c.is_control() => {
                for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                    escaped.push_str(&format!("\\x{byte:02x}"));
                }
            }
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_keep_the_fraction_on_both_sides_of_1970() {
        let at = |s, n| seconds(Timestamp::from_unix(s, n).unwrap());
        assert_eq!(at(1_780_000_000, 0), "1780000000");
        assert_eq!(at(1_780_000_000, 123_456_789), "1780000000.123456789");
        assert_eq!(at(10, 500_000_000), "10.5");
        assert_eq!(at(-1, 500_000_000), "-0.5");
        assert_eq!(at(-10, 250_000_000), "-9.75");
        assert_eq!(at(0, 0), "0");
        assert_eq!(at(100, 0), "100");
    }

    #[test]
    fn a_mode_is_written_in_letters() {
        assert_eq!(mode_letters(0o100_755), "r/rrwxr-xr-x");
        assert_eq!(mode_letters(0o041_777), "d/drwxrwxrwt");
        assert_eq!(mode_letters(0o104_644), "r/rrwSr--r--");
    }

    #[test]
    fn a_name_cannot_break_its_line() {
        assert_eq!(escape("a|b\\c\nd\u{85}"), "a\\|b\\\\c\\x0ad\\xc2\\x85");
    }
}
