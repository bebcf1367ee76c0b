//! What all rows of one file have in common.

use std::fmt::Write;

use crate::event::{Attrs, Event, Precision, Span, Timestamp, TzBasis, flags};
use crate::text::clean;

/// Longer values of attributes are cut: their bytes are in the record.
const LONGEST_VALUE: usize = 256;

/// One file, apart from its times.
pub(crate) struct FileFacts {
    pub(crate) span: Span,
    pub(crate) message: String,
    pub(crate) path: Option<String>,
    pub(crate) inode: Option<i64>,
    pub(crate) size: Option<i64>,
    pub(crate) attrs: Attrs,
    pub(crate) pieces: Option<String>,
    pub(crate) flags: i16,
}

impl FileFacts {
    pub(crate) fn new(span: Span) -> FileFacts {
        FileFacts {
            span,
            message: String::new(),
            path: None,
            inode: None,
            size: None,
            attrs: Attrs::default(),
            pieces: None,
            flags: 0,
        }
    }

    /// The row of one time. Nanoseconds of a second or more are kept as text, and the row is marked damaged.
    pub(crate) fn row(
        &self,
        word: &'static str,
        (seconds, nanos): (i64, u32),
        precision: Precision,
    ) -> Event {
        let mut event = Event::new("fs:stat", word, self.span, self.message.clone());
        let (nanos, precision) = if nanos < 1_000_000_000 {
            (nanos, precision)
        } else {
            event.ts_text = Some(format!("{seconds} s and {nanos} ns"));
            (0, Precision::S)
        };
        event.time = Timestamp::from_unix(seconds, nanos);
        if event.time.is_none() {
            event.ts_text = Some(format!("{seconds} s"));
        }
        event.ts_precision = precision;
        event.tz_basis = TzBasis::UtcByFormat;
        event.category = Some("file".into());
        event.path = self.path.clone();
        event.inode = self.inode;
        event.size = self.size;
        event.attrs = self.attrs.clone();
        event.pieces = self.pieces.clone();
        event.flags = if event.ts_text.is_some() { self.flags | flags::CORRUPT } else { self.flags };
        event
    }
}

/// `/etc/passwd Type: file`, on one line whatever the names hold.
pub(crate) fn message(path: &str, kind: &str, target: Option<&[u8]>, is_deleted: bool) -> String {
    let mut line = String::with_capacity(path.len() + 32);
    push_on_one_line(&mut line, path);
    line.push_str(" Type: ");
    line.push_str(kind);
    if let Some(target) = target {
        line.push_str(" -> ");
        push_on_one_line(&mut line, &clean(target));
    }
    if is_deleted {
        line.push_str(" (deleted)");
    }
    line
}

fn push_on_one_line(line: &mut String, text: &str) {
    for c in text.chars() {
        if c.is_control() {
            for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                let _ = write!(line, "\\x{byte:02x}");
            }
        } else {
            line.push(c);
        }
    }
}

/// A value of an extended attribute: as text where it is text, else in hex after `0x`; cut when long.
pub(crate) fn xattr_text(value: &[u8]) -> String {
    let shown = value.get(..LONGEST_VALUE).unwrap_or(value);
    let text = shown.strip_suffix(&[0]).unwrap_or(shown);
    let is_text = !text.is_empty() && text.iter().all(|b| (0x20..0x7F).contains(b));
    let mut out = if is_text {
        String::from_utf8_lossy(text).into_owned()
    } else {
        format!("0x{}", hex::encode(shown))
    };
    if shown.len() < value.len() {
        let _ = write!(out, "… ({} bytes)", value.len());
    }
    out
}
