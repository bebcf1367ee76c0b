//! Headers of a PAX tar: what GNU tar, bsdtar and Python read, with times to the nanosecond.
//!
//! Reference: POSIX.1-2017 `pax`, "ustar Interchange Format" and "pax Extended Header".

/// Bytes of a tar block.
pub(crate) const BLOCK: usize = 512;

/// The largest number that 7 octal digits hold, for mode, uid and gid.
const SEVEN_OCTAL: u64 = 0o7_777_777;
/// The largest number that 11 octal digits hold, for size and mtime.
const ELEVEN_OCTAL: u64 = 0o77_777_777_777;

/// One member, as its headers tell it.
#[derive(Debug)]
pub(crate) struct Member<'a> {
    /// Path without its leading slash; of a folder, with a slash at its end.
    pub(crate) path: &'a [u8],
    pub(crate) typeflag: u8,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) size: u64,
    /// Seconds and nanoseconds.
    pub(crate) mtime: (i64, u32),
    pub(crate) link: &'a [u8],
    pub(crate) device: (u32, u32),
    /// Further PAX records.
    pub(crate) records: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Member<'_> {
    /// All header blocks: the extended header, its records, and the member's own header.
    pub(crate) fn blocks(&self) -> Vec<u8> {
        let mut records = Vec::new();
        let mut add = |key: &[u8], value: &[u8]| record(&mut records, key, value);
        let is_text = std::str::from_utf8(self.path).and(std::str::from_utf8(self.link)).is_ok();
        if !is_text {
            add(b"hdrcharset", b"BINARY");
        }
        let fits = |name: &[u8]| name.len() <= 100 && name.is_ascii();
        if !fits(self.path) {
            add(b"path", self.path);
        }
        if !fits(self.link) {
            add(b"linkpath", self.link);
        }
        for (key, number, most) in [
            ("size", self.size, ELEVEN_OCTAL),
            ("uid", u64::from(self.uid), SEVEN_OCTAL),
            ("gid", u64::from(self.gid), SEVEN_OCTAL),
        ] {
            if number > most {
                add(key.as_bytes(), number.to_string().as_bytes());
            }
        }
        add(b"mtime", time(self.mtime).as_bytes());
        for (key, value) in &self.records {
            add(key, value);
        }
        let mut name = b"PaxHeaders/".to_vec();
        name.extend_from_slice(self.path);
        let extended = Fields {
            name: &name,
            typeflag: b'x',
            mode: 0o644,
            size: records.len() as u64,
            ..Fields::default()
        };
        let mut blocks = extended.block();
        blocks.extend_from_slice(&records);
        pad(&mut blocks);
        let own = Fields {
            name: self.path,
            typeflag: self.typeflag,
            mode: self.mode & 0o7777,
            uid: self.uid,
            gid: self.gid,
            size: self.size,
            mtime: u64::try_from(self.mtime.0).unwrap_or(0),
            link: self.link,
            device: self.device,
        };
        blocks.extend_from_slice(&own.block());
        blocks
    }
}

/// Zeros up to the next block.
pub(crate) fn padding(length: u64) -> usize {
    let over = usize::try_from(length % BLOCK as u64).unwrap_or(0);
    if over == 0 { 0 } else { BLOCK - over }
}

fn pad(blocks: &mut Vec<u8>) {
    let padded = blocks.len() + padding(blocks.len() as u64);
    blocks.resize(padded, 0);
}

/// A time as PAX writes it, always with 9 digits.
pub(crate) fn time((seconds, nanoseconds): (i64, u32)) -> String {
    let all = i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
    let sign = if all < 0 { "-" } else { "" };
    let all = all.unsigned_abs();
    format!("{sign}{}.{:09}", all / 1_000_000_000, all % 1_000_000_000)
}

/// Appends `LENGTH KEY=VALUE LF`, where the length counts itself.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(length.to_string().as_bytes());
    records.push(b' ');
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

/// The fields of one header block; what does not fit is cut here and told in full by a record.
#[derive(Default)]
struct Fields<'a> {
    name: &'a [u8],
    typeflag: u8,
    mode: u32,
    uid: u32,
    gid: u32,
    size: u64,
    mtime: u64,
    link: &'a [u8],
    device: (u32, u32),
}

impl Fields<'_> {
    fn block(&self) -> Vec<u8> {
        let octal = |number: u64, most: u64, digits: usize| {
            let number = if number > most { 0 } else { number };
            format!("{number:0digits$o}\0").into_bytes()
        };
        let mut block = Vec::with_capacity(BLOCK);
        text(&mut block, self.name, 100);
        block.extend(octal(self.mode.into(), SEVEN_OCTAL, 7));
        block.extend(octal(self.uid.into(), SEVEN_OCTAL, 7));
        block.extend(octal(self.gid.into(), SEVEN_OCTAL, 7));
        block.extend(octal(self.size, ELEVEN_OCTAL, 11));
        block.extend(octal(self.mtime, ELEVEN_OCTAL, 11));
        block.extend(*b"        ");
        block.push(self.typeflag);
        text(&mut block, self.link, 100);
        block.extend(*b"ustar\x0000");
        block.resize(block.len() + 64, 0);
        block.extend(octal(self.device.0.into(), SEVEN_OCTAL, 7));
        block.extend(octal(self.device.1.into(), SEVEN_OCTAL, 7));
        block.resize(BLOCK, 0);
        // The sum is taken with its own field blank.
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        for (to, from) in block.iter_mut().skip(148).zip(format!("{sum:06o}\0 ").bytes()) {
            *to = from;
        }
        block
    }
}

fn text(block: &mut Vec<u8>, text: &[u8], width: usize) {
    let end = block.len() + width;
    block.extend(text.iter().take(width));
    block.resize(end, 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_its_own_length() {
        for value in 0..1200 {
            let mut records = Vec::new();
            record(&mut records, b"k", &vec![b'x'; value]);
            let text = String::from_utf8(records).unwrap();
            let (length, _) = text.split_once(' ').unwrap();
            assert_eq!(length.parse::<usize>().unwrap(), text.len());
        }
    }

    #[test]
    fn times_before_1970_are_written_as_one_negative_number() {
        assert_eq!(time((0, 0)), "0.000000000");
        assert_eq!(time((-1, 999_999_999)), "-0.000000001");
        assert_eq!(time((-2, 500_000_000)), "-1.500000000");
        assert_eq!(time((i64::MAX, 1)), "9223372036854775807.000000001");
    }

    #[test]
    fn headers_are_whole_blocks_with_a_right_sum() {
        let member = Member {
            path: &[b'a'; 300],
            typeflag: b'0',
            mode: 0o100_640,
            uid: u32::MAX,
            gid: 7,
            size: 1 << 40,
            mtime: (-5, 1),
            link: b"",
            device: (0, 0),
            records: vec![(b"EXHIBIT.btime".to_vec(), b"1.000000000".to_vec())],
        };
        let blocks = member.blocks();
        assert_eq!(blocks.len() % BLOCK, 0);
        let own = &blocks[blocks.len() - BLOCK..];
        let mut header = tar::Header::new_old();
        header.as_mut_bytes().copy_from_slice(own);
        let sum = header.cksum().unwrap();
        header.set_cksum();
        assert_eq!(header.cksum().unwrap(), sum);
    }
}
