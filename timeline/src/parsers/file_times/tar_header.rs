//! The headers of one tar member: PAX records, GNU long names, and the ustar block.
//!
//! Reference: POSIX.1-2017 `pax`; GNU tar manual, "Basic Tar Format".

use crate::event::{Precision, Span, flags};
use crate::parser::Sink;
use crate::text::{clean, until_nul};
use crate::volumes::FileType;

use super::facts::{FileFacts, message, xattr_text};

const BLOCK: usize = 512;

/// Whether these bytes begin with a tar header.
pub(super) fn is_tar(bytes: &[u8]) -> bool {
    bytes.get(..BLOCK).is_some_and(|block| Header(block).is_sound())
}

/// Gives the times of a tar member; `bytes` are all its headers, from the extended ones to its own.
///
/// Headers that cannot be read are one reject.
pub fn rows_of_tar_header(bytes: &[u8], span: Span, out: &mut dyn Sink) {
    let mut member = Member::new(span);
    let mut rest = bytes;
    while let Some((block, after)) = rest.split_at_checked(BLOCK) {
        let header = Header(block);
        if !header.is_sound() {
            out.reject(span, "the checksum of the tar header does not hold".into());
            return;
        }
        let size = usize::try_from(header.number(124, 12).unwrap_or(0)).unwrap_or(usize::MAX);
        match header.kind() {
            b'x' | b'g' | b'L' | b'K' => {
                let Some(content) = after.get(..size) else {
                    out.reject(span, "the extended tar header is cut off".into());
                    return;
                };
                match header.kind() {
                    b'L' => member.path = Some(until_nul(content).to_vec()),
                    b'K' => member.target = Some(until_nul(content).to_vec()),
                    _ if !member.read_records(content) => {
                        member.facts.flags |= flags::CORRUPT;
                    }
                    _ => {}
                }
                rest = after.get(size.next_multiple_of(BLOCK)..).unwrap_or(&[]);
            }
            _ => {
                member.finish(&header, out);
                return;
            }
        }
    }
    out.reject(span, "there is no tar header of a member".into());
}

/// One block of 512 bytes that heads a tar member.
pub(crate) struct Header<'a>(pub(crate) &'a [u8]);

impl<'a> Header<'a> {
    pub(crate) fn field(&self, at: usize, length: usize) -> &'a [u8] {
        at.checked_add(length).and_then(|end| self.0.get(at..end)).unwrap_or(&[])
    }

    /// The type flag.
    pub(crate) fn kind(&self) -> u8 {
        self.field(156, 1).first().copied().unwrap_or(0)
    }

    /// Whether its checksum holds: the sum of all bytes, its own field taken as blanks.
    pub(crate) fn is_sound(&self) -> bool {
        let sum: u64 = self
            .0
            .iter()
            .enumerate()
            .map(|(n, byte)| if (148..156).contains(&n) { u64::from(b' ') } else { u64::from(*byte) })
            .sum();
        self.0.len() == BLOCK && self.number(148, 8) == Some(sum)
    }

    /// An octal number, or a big-endian one where the first bit is set (GNU).
    pub(crate) fn number(&self, at: usize, length: usize) -> Option<u64> {
        let field = self.field(at, length);
        if let Some((first, rest)) = field.split_first()
            && first & 0x80 != 0
        {
            return rest.iter().try_fold(u64::from(first & 0x3F), |number, byte| {
                number.checked_mul(256)?.checked_add(u64::from(*byte))
            });
        }
        let digits = field.trim_ascii_start().iter().take_while(|b| matches!(b, b'0'..=b'7'));
        let mut any = false;
        let number = digits.fold(0u64, |number, digit| {
            any = true;
            number.wrapping_mul(8).wrapping_add(u64::from(digit - b'0'))
        });
        any.then_some(number)
    }

    /// The name that the block itself holds.
    pub(crate) fn name(&self) -> Vec<u8> {
        let name = until_nul(self.field(0, 100));
        let prefix = until_nul(self.field(345, 155));
        // In GNU's own format the prefix field holds other things.
        if prefix.is_empty() || self.field(257, 6) != b"ustar\0" {
            return name.to_vec();
        }
        [prefix, b"/", name].concat()
    }
}

/// Gives each `LENGTH KEY=VALUE LF` record of an extended header; false where they are damaged.
pub(crate) fn pax_records(mut rest: &[u8], each: &mut dyn FnMut(&[u8], &[u8])) -> bool {
    while !rest.is_empty() {
        let Some(blank) = rest.iter().take(20).position(|b| *b == b' ') else { return false };
        let length = rest.get(..blank).and_then(|n| std::str::from_utf8(n).ok()?.parse::<usize>().ok());
        let Some((record, after)) = length.and_then(|length| rest.split_at_checked(length)) else {
            return false;
        };
        let Some(record) = record.get(blank + 1..).and_then(|r| r.strip_suffix(b"\n")) else {
            return false;
        };
        let Some(equals) = record.iter().position(|b| *b == b'=') else { return false };
        let (key, value) = (record.get(..equals).unwrap_or(&[]), record.get(equals + 1..).unwrap_or(&[]));
        each(key, value);
        rest = after;
    }
    true
}

/// A time as read: seconds, nanoseconds, and how fine it is written.
pub(crate) type ReadTime = ((i64, u32), Precision);

struct Member {
    facts: FileFacts,
    path: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<ReadTime>,
    atime: Option<ReadTime>,
    ctime: Option<ReadTime>,
    btime: Option<ReadTime>,
    xattrs: serde_json::Map<String, serde_json::Value>,
    others: Vec<(String, String)>,
}

impl Member {
    fn new(span: Span) -> Member {
        Member {
            facts: FileFacts::new(span),
            path: None,
            target: None,
            size: None,
            uid: None,
            gid: None,
            mtime: None,
            atime: None,
            ctime: None,
            btime: None,
            xattrs: serde_json::Map::new(),
            others: Vec::new(),
        }
    }

    /// Reads `LENGTH KEY=VALUE LF` records; false where they are damaged.
    fn read_records(&mut self, records: &[u8]) -> bool {
        pax_records(records, &mut |key, value| self.record(key, value))
    }

    fn record(&mut self, key: &[u8], value: &[u8]) {
        let number = || std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
        let known = match key {
            b"path" | b"GNU.sparse.name" => {
                self.path = Some(value.to_vec());
                true
            }
            b"linkpath" => {
                self.target = Some(value.to_vec());
                true
            }
            b"mtime" => set(&mut self.mtime, decimal_time(value)),
            b"atime" => set(&mut self.atime, decimal_time(value)),
            b"ctime" => set(&mut self.ctime, decimal_time(value)),
            b"EXHIBIT.btime" | b"LIBARCHIVE.creationtime" => set(&mut self.btime, decimal_time(value)),
            b"size" => set(&mut self.size, number()),
            b"uid" => set(&mut self.uid, number()),
            b"gid" => set(&mut self.gid, number()),
            b"SCHILY.ino" | b"EXHIBIT.inode" => {
                set(&mut self.facts.inode, number().and_then(|n| n.try_into().ok()))
            }
            _ => match key.strip_prefix(b"SCHILY.xattr.") {
                Some(name) => {
                    self.xattrs.insert(clean(name), xattr_text(value).into());
                    true
                }
                None => false,
            },
        };
        if !known {
            self.others.push((clean(key), clean(value)));
        }
    }

    fn finish(mut self, header: &Header<'_>, out: &mut dyn Sink) {
        let path = from_the_root(&self.path.unwrap_or_else(|| header.name()));
        let in_header = until_nul(header.field(157, 100)).to_vec();
        let target = self.target.or((!in_header.is_empty()).then_some(in_header));
        let (bits, kind) = match header.kind() {
            b'1' => (0o100_000, "hard link"),
            b'2' => (0o120_000, FileType::Link.as_str()),
            b'3' => (0o020_000, FileType::CharacterDevice.as_str()),
            b'4' => (0o060_000, FileType::BlockDevice.as_str()),
            b'5' => (0o040_000, FileType::Directory.as_str()),
            b'6' => (0o010_000, FileType::Pipe.as_str()),
            _ => (0o100_000, FileType::File.as_str()),
        };
        let attrs = &mut self.facts.attrs;
        attrs.put("mode", format!("{:07o}", bits | header.number(100, 8).unwrap_or(0) & 0o7777));
        attrs.put_some("uid", self.uid.or_else(|| header.number(108, 8)));
        attrs.put_some("gid", self.gid.or_else(|| header.number(116, 8)));
        attrs.put("type", kind);
        attrs.put_some("target", target.as_deref().map(clean));
        for (key, at) in [("user", 265), ("group", 297)] {
            let name = until_nul(header.field(at, 32));
            attrs.put_some(key, (!name.is_empty()).then(|| clean(name)));
        }
        if matches!(header.kind(), b'3' | b'4') {
            let number = |at| header.number(at, 8).unwrap_or(0);
            attrs.put("device", format!("{}:{}", number(329), number(337)));
        }
        attrs.put_some("xattrs", (!self.xattrs.is_empty()).then_some(self.xattrs));
        for (key, value) in self.others {
            attrs.put(key, value);
        }
        let size = self.size.or_else(|| header.number(124, 12));
        self.facts.size = size.and_then(|size| i64::try_from(size).ok());
        self.facts.message = message(&path, kind, target.as_deref(), false);
        self.facts.path = Some(path);
        let in_header =
            header.number(136, 12).and_then(|s| i64::try_from(s).ok()).map(|s| ((s, 0), Precision::S));
        let times = [
            ("Content Modification Time", self.mtime.or(in_header)),
            ("Last Access Time", self.atime),
            ("Metadata Modification Time", self.ctime),
            ("Creation Time", self.btime),
        ];
        for (word, time) in times {
            if let Some((time, precision)) = time {
                out.event(self.facts.row(word, time, precision));
            }
        }
    }
}

/// A member's name as a path: tars leave out the first slash and put one behind a folder.
fn from_the_root(name: &[u8]) -> String {
    let name = name.strip_prefix(b"./").unwrap_or(name);
    let name = name.strip_prefix(b"/").unwrap_or(name);
    let name = name.strip_suffix(b"/").unwrap_or(name);
    format!("/{}", clean(name))
}

/// Sets a field; false where the value could not be read, so that it is kept as text.
fn set<T>(field: &mut Option<T>, value: Option<T>) -> bool {
    let is_read = value.is_some();
    if is_read {
        *field = value;
    }
    is_read
}

/// `-1.25` is a second and a quarter before 1970. Digits below the nanosecond are cut.
pub(crate) fn decimal_time(text: &[u8]) -> Option<ReadTime> {
    let text = std::str::from_utf8(text).ok()?;
    let (is_negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let is_number = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !is_number(whole) || !is_number(fraction) {
        return None;
    }
    let seconds: i64 = whole.parse().ok()?;
    let nanos =
        fraction.bytes().chain(std::iter::repeat(b'0')).take(9).fold(0, |n, b| n * 10 + u32::from(b - b'0'));
    // Writers leave out zeros at the end, so any fraction may be as fine as nanoseconds.
    let precision = if fraction.is_empty() { Precision::S } else { Precision::Ns };
    let time = match (is_negative, nanos) {
        (false, _) => (seconds, nanos),
        (true, 0) => (-seconds, 0),
        (true, _) => (-seconds - 1, 1_000_000_000 - nanos),
    };
    Some((time, precision))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_keep_their_fraction() {
        assert_eq!(decimal_time(b"-1.25"), Some(((-2, 750_000_000), Precision::Ns)));
        assert_eq!(
            decimal_time(b"1700000000.123456789"),
            Some(((1_700_000_000, 123_456_789), Precision::Ns))
        );
        assert_eq!(decimal_time(b"-5"), Some(((-5, 0), Precision::S)));
        assert_eq!(decimal_time(b"9999999999999999999999"), None);
        assert_eq!(decimal_time(b"1e5"), None);
        assert_eq!(decimal_time(b"-"), None);
    }
}
