//! The entry of one zip member in the central directory.
//!
//! - Times: UTC where an extra field says so (to the second of Unix, to 100 ns of NTFS). The time of the entry itself is
//!   local time of the machine that packed, whose zone no archive tells: it is kept as text in a row without a time.

use crate::event::{Precision, Span};
use crate::images::zip_members::Entry;
use crate::parser::Sink;
use crate::text::clean;
use crate::volumes::FileType;

use super::facts::{FileFacts, message};

/// Gives the times of a zip member; `bytes` are its entry in the central directory.
///
/// An entry that cannot be read is one reject.
pub fn rows_of_zip_entry(bytes: &[u8], span: Span, out: &mut dyn Sink) {
    let Some(entry) = Entry::parse(bytes) else {
        out.reject(span, "the entry in the zip's directory is damaged".into());
        return;
    };
    let mut facts = FileFacts::new(span);
    let name = entry.name.strip_prefix(b"./").unwrap_or(&entry.name);
    let name = name.strip_prefix(b"/").unwrap_or(name);
    let path = format!("/{}", clean(name.strip_suffix(b"/").unwrap_or(name)));
    let kind = match entry.mode.map(|mode| mode & 0o170_000) {
        Some(0o120_000) => FileType::Link,
        _ if entry.name.ends_with(b"/") => FileType::Directory,
        _ => FileType::File,
    };
    facts.message = message(&path, kind.as_str(), None, false);
    facts.path = Some(path);
    facts.size = i64::try_from(entry.size).ok();
    facts.attrs.put_some("mode", entry.mode.map(|mode| format!("{mode:07o}")));
    facts.attrs.put("type", kind.as_str());
    let dos = entry.times.dos.map(|[year, month, day, hour, minute, second]| {
        format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
    });
    let precision = if entry.times.is_fine { Precision::HundredNs } else { Precision::S };
    let times = [
        ("Content Modification Time", entry.times.modified),
        ("Last Access Time", entry.times.accessed),
        ("Creation Time", entry.times.created),
    ];
    if times.iter().all(|(_, time)| time.is_none()) {
        let mut event = facts.row("Content Modification Time", (0, 0), Precision::S);
        event.time = None;
        event.ts_text = dos;
        out.event(event);
        return;
    }
    facts.attrs.put_some("local_time", dos);
    for (word, time) in times {
        if let Some(time) = time {
            out.event(facts.row(word, time, precision));
        }
    }
}
