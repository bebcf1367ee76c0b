//! The sections of an E01 in the layout of EnCase 6, as bytes.
//!
//! Reference: J. Metz, "Expert Witness Compression Format specification" (libewf project, 2026).

use std::io::Write as _;

use custody::bundle::Manifest;
use custody::strict_json::escape_text;
use flate2::Compression;
use flate2::write::ZlibEncoder;

use crate::ewf::{DESCRIPTOR, Descriptor, TABLE_HEADER, VOLUME, with_checksum};

/// EnCase takes no longer header value.
const LONGEST_VALUE: usize = 2999;
/// Nor a longer version, nor platform.
const LONGEST_VERSION: usize = 11;
const LONGEST_PLATFORM: usize = 23;

/// A whole section that lies at this offset of its file.
pub(super) fn section(kind: &str, at: u64, data: &[u8]) -> Vec<u8> {
    let size = (DESCRIPTOR as u64).saturating_add(data.len() as u64);
    let mut bytes = Descriptor::bytes(kind, at.saturating_add(size), size);
    bytes.extend_from_slice(data);
    bytes
}

/// A `next` or `done` section: it has no size and points to itself.
pub(super) fn last_section(kind: &str, at: u64) -> Vec<u8> {
    Descriptor::bytes(kind, at, 0)
}

/// What the volume section says of the media.
#[derive(Debug, Clone)]
pub(super) struct Volume {
    pub(super) chunks: u32,
    pub(super) sectors_per_chunk: u32,
    pub(super) sector_size: u32,
    pub(super) sectors: u64,
    pub(super) is_device: bool,
    /// What all segments of a set share.
    pub(super) set: [u8; 16],
}

impl Volume {
    /// The data of a volume section, and of a data section.
    pub(super) fn bytes(&self) -> Vec<u8> {
        const FIXED: u8 = 1;
        const IMAGE: u8 = 1;
        const PHYSICAL: u8 = 2;
        const FAST: u8 = 1;
        let mut bytes = vec![FIXED, 0, 0, 0];
        for number in [self.chunks, self.sectors_per_chunk, self.sector_size] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&self.sectors.to_le_bytes());
        bytes.extend_from_slice(&[0; 12]); // cylinders, heads, sectors: not known
        bytes.push(if self.is_device { IMAGE | PHYSICAL } else { IMAGE });
        bytes.resize(52, 0);
        bytes.push(FAST);
        bytes.resize(56, 0);
        bytes.extend_from_slice(&1u32.to_le_bytes()); // errors are listed sector by sector
        bytes.resize(64, 0);
        bytes.extend_from_slice(&self.set);
        bytes.resize(VOLUME - 4, 0);
        with_checksum(bytes)
    }
}

/// The data of a table and of its copy; offsets count from `base`.
pub(super) fn table(base: u64, offsets: &[u32]) -> Vec<u8> {
    let mut bytes = u32::try_from(offsets.len()).unwrap_or(u32::MAX).to_le_bytes().to_vec();
    bytes.resize(8, 0);
    bytes.extend_from_slice(&base.to_le_bytes());
    bytes.resize(TABLE_HEADER - 4, 0);
    let mut bytes = with_checksum(bytes);
    let entries: Vec<u8> = offsets.iter().flat_map(|offset| offset.to_le_bytes()).collect();
    bytes.extend_from_slice(&with_checksum(entries));
    bytes
}

/// Bytes of the two table sections over so many chunks.
pub(super) fn tables_size(chunks: usize) -> u64 {
    2 * (DESCRIPTOR as u64 + TABLE_HEADER as u64 + 4 * (chunks as u64) + 4)
}

/// The data of an error2 section: runs of sectors that could not be read.
pub(super) fn errors(runs: &[(u32, u32)]) -> Vec<u8> {
    let mut bytes = u32::try_from(runs.len()).unwrap_or(u32::MAX).to_le_bytes().to_vec();
    bytes.resize(516, 0);
    let mut bytes = with_checksum(bytes);
    let entries = runs.iter().flat_map(|(start, count)| [start.to_le_bytes(), count.to_le_bytes()]);
    bytes.extend_from_slice(&with_checksum(entries.flatten().collect()));
    bytes
}

/// The data of a digest section.
pub(super) fn digest(md5: &[u8], sha1: &[u8]) -> Vec<u8> {
    let mut bytes = [md5, sha1].concat();
    bytes.resize(76, 0);
    with_checksum(bytes)
}

/// The data of a hash section.
pub(super) fn hash(md5: &[u8]) -> Vec<u8> {
    let mut bytes = md5.to_vec();
    bytes.resize(32, 0);
    with_checksum(bytes)
}

/// What the image says of the evidence. All of it comes from the manifest, so the same bundle gives the same image.
#[derive(Debug, Clone)]
pub(super) struct Header {
    case_number: String,
    evidence_number: String,
    description: String,
    examiner: String,
    notes: String,
    model: String,
    serial: String,
    version: String,
    platform: String,
    /// Seconds since 1970 when the acquisition began.
    acquired: i64,
}

impl Header {
    pub(super) fn of(manifest: &Manifest, notes: &str) -> Self {
        let text = |text: &str| plain(text, LONGEST_VALUE);
        let optional = |value: &Option<String>| text(value.as_deref().unwrap_or_default());
        Self {
            case_number: optional(&manifest.case),
            evidence_number: text(&manifest.exhibit),
            description: text(&manifest.name),
            examiner: text(&manifest.examiner.name),
            notes: text(notes),
            model: optional(&manifest.source.model),
            serial: optional(&manifest.source.serial),
            version: plain(&manifest.tool.version, LONGEST_VERSION),
            platform: plain(&manifest.host.os, LONGEST_PLATFORM),
            acquired: custody::clock::parse_rfc3339(&manifest.created).unwrap_or(0).div_euclid(1_000_000_000),
        }
    }

    /// The data of the header2 section: UTF-16 with a mark of its byte order, compressed.
    pub(super) fn wide(&self) -> std::io::Result<Vec<u8>> {
        let time = self.acquired.to_string();
        // The fields of EnCase 6.0 to 6.11, by which other tools know the layout.
        let values: [(&str, &str); 13] = [
            ("a", &self.description),
            ("c", &self.case_number),
            ("n", &self.evidence_number),
            ("e", &self.examiner),
            ("t", &self.notes),
            ("md", &self.model),
            ("sn", &self.serial),
            ("av", &self.version),
            ("ov", &self.platform),
            ("m", &time),
            ("u", &time),
            ("p", "0"),
            ("dc", ""),
        ];
        let (names, texts) = rows(&values);
        let sources = "srce\n0\t1\np\tn\tid\tev\ttb\tlo\tpo\tah\tgu\taq\n0\t0\n\t\t\t\t\t-1\t-1\t\t\t\n\n";
        let subjects = "sub\n0\t1\np\tn\tid\tnu\tco\tgu\n0\t0\n\t\t\t\t1\t\n\n";
        let text = format!("3\nmain\n{names}\n{texts}\n\n{sources}{subjects}");
        let mut bytes = vec![0xFF, 0xFE];
        bytes.extend(text.encode_utf16().flat_map(u16::to_le_bytes));
        compressed(&bytes)
    }

    /// The data of the older header section: ASCII, compressed.
    pub(super) fn narrow(&self) -> std::io::Result<Vec<u8>> {
        let time = date(self.acquired);
        let values: [(&str, &str); 10] = [
            ("c", &self.case_number),
            ("n", &self.evidence_number),
            ("a", &self.description),
            ("e", &self.examiner),
            ("t", &self.notes),
            ("av", &self.version),
            ("ov", &self.platform),
            ("m", &time),
            ("u", &time),
            ("p", "0"),
        ];
        let (names, texts) = rows(&values);
        let text = format!("1\r\nmain\r\n{names}\r\n{texts}\r\n\r\n");
        let ascii: Vec<u8> =
            text.chars().map(|c| if c.is_ascii() { u8::try_from(c).unwrap_or(b'?') } else { b'?' }).collect();
        compressed(&ascii)
    }
}

fn rows(values: &[(&str, &str)]) -> (String, String) {
    let (names, texts): (Vec<&str>, Vec<&str>) = values.iter().copied().unzip();
    (names.join("\t"), texts.join("\t"))
}

/// A text that fits into one field: without tabs and other control characters, and not too long.
fn plain(text: &str, longest: usize) -> String {
    // The manifest's texts are escaped already; what came otherwise is escaped here.
    let has_control = text.contains(char::is_control);
    let escaped = if has_control { escape_text(text.as_bytes()) } else { text.to_owned() };
    // EnCase counts UTF-16 units.
    let mut units = 0;
    escaped
        .chars()
        .take_while(|c| {
            units += c.len_utf16();
            units <= longest
        })
        .collect()
}

/// `2006 3 12 11 44 5`, in UTC.
fn date(seconds: i64) -> String {
    let text = custody::bundle::file_time(seconds, 0).unwrap_or_default();
    let numbers =
        text.split(['-', 'T', ':', '.']).take(6).map(|number| match number.trim_start_matches('0') {
            "" => "0",
            number => number,
        });
    numbers.collect::<Vec<_>>().join(" ")
}

fn compressed(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes)?;
    encoder.finish()
}
