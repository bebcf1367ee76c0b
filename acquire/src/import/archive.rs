//! Archives of triage tools: UAC's tar, and Velociraptor's zip.
//!
//! What they say of themselves is read, and their own check sums (CRC-32) are computed, within a bound: an archive may be
//! made to unpack without end.
//!
//! Reference: RFC 1952 (gzip), PKWARE APPNOTE 6.3 (zip), UAC `lib/create_acquisition_log.sh`.

use std::io::{self, Read};
use std::path::Path;

use custody::strict_json::escape_text;
use flate2::Crc;
use flate2::read::{DeflateDecoder, MultiGzDecoder};
use serde_json::{Map, Value};

use super::Checked;
use super::parts::{Part, Parts};
use crate::ewf::{u32_at, u64_at};
use crate::source::Issue;

/// Bytes that an archive may unpack to, for each of its own, and on top.
const MOST_RATIO: u64 = 64;
const MOST_ON_TOP: u64 = 1 << 30;
/// Bytes of an archive's begin that are unpacked to tell what it is.
const LOOKED_AT: u64 = 8 << 20;
/// Members of a zip, at most.
const MOST_MEMBERS: usize = 4 << 20;
/// A longer directory is not read.
const LONGEST_DIRECTORY: u64 = 256 << 20;
/// A longer JSON document or log is not read.
const LONGEST_TEXT: u64 = 1 << 20;
/// Damaged members that are named.
const NAMED: usize = 100;

/// What only UAC's archives have at their top.
const MARKS_OF_UAC: [&[u8]; 5] =
    [b"uac.log", b"[root]/", b"live_response/", b"bodyfile/", b"hash_executables/"];
/// What only Velociraptor's have.
const MARKS_OF_VELOCIRAPTOR: [&str; 4] =
    ["collection_context.json", "client_info.json", "uploads.json", "metadata.json"];

/// Lines of UAC's log, and what we call them.
const LINES_OF_UAC: [(&str, &str); 12] = [
    ("Case Number", "case_number"),
    ("Evidence Number", "evidence_number"),
    ("Description", "description"),
    ("Examiner", "examiner"),
    ("Notes", "notes"),
    ("Operating System", "operating_system"),
    ("System Architecture", "architecture"),
    ("Hostname", "hostname"),
    ("Mount Point", "mount_point"),
    ("Acquisition started at", "started"),
    ("Acquisition finished at", "finished"),
    ("Profile", "profile"),
];

/// A file, read from a place on.
struct From<'p> {
    part: &'p Part,
    at: u64,
    end: u64,
}

impl Read for From<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let room = usize::try_from(self.end.saturating_sub(self.at)).unwrap_or(usize::MAX).min(buf.len());
        let read = self.part.read_at(self.at, buf.get_mut(..room).unwrap_or_default())?;
        self.at = self.at.saturating_add(read as u64);
        Ok(read)
    }
}

fn whole(part: &Part) -> From<'_> {
    From { part, at: 0, end: part.size }
}

/// Whether it is a tar, compressed or not, with members that only UAC writes.
pub(super) fn is_uac(part: &Part) -> bool {
    let mut magic = [0; 2];
    let is_gzip = part.read_exact_at(0, &mut magic).is_ok() && magic == [0x1F, 0x8B];
    let mut input: Box<dyn Read + '_> =
        if is_gzip { Box::new(MultiGzDecoder::new(whole(part))) } else { Box::new(whole(part)) };
    let mut seen = 0u64;
    let mut header = [0; 512];
    while seen < LOOKED_AT && input.read_exact(&mut header).is_ok() {
        if header.get(257..262) != Some(b"ustar") {
            return false;
        }
        let name = header.split(|&byte| byte == 0).next().unwrap_or_default();
        let name = name.strip_prefix(b"./").unwrap_or(name);
        if MARKS_OF_UAC.iter().any(|mark| name.starts_with(mark)) {
            return true;
        }
        let digits = header.get(124..135).and_then(|size| std::str::from_utf8(size).ok()).unwrap_or_default();
        let Ok(size) = u64::from_str_radix(digits.trim_matches(['\0', ' ']), 8) else { return false };
        let Some(padded) = size.checked_next_multiple_of(512).filter(|padded| *padded <= LOOKED_AT) else {
            return false;
        };
        seen += 512 + padded;
        if io::copy(&mut input.by_ref().take(padded), &mut io::sink()).is_ok_and(|copied| copied != padded) {
            return false;
        }
    }
    false
}

/// Checks UAC's archive, and reads the log that lies beside it.
pub(super) fn check_uac(parts: &Parts) -> Checked {
    let mut checked = Checked::default();
    let Some(part) = parts.list().first() else { return checked };
    checked.facts.extend(uac_log(&part.path));
    let mut magic = [0; 2];
    if part.read_exact_at(0, &mut magic).is_ok() && magic == [0x1F, 0x8B] {
        let most = bound(part.size);
        let read = io::copy(&mut MultiGzDecoder::new(whole(part)).take(most), &mut io::sink());
        let what = match read {
            Ok(bytes) if bytes < most => {
                checked.facts.insert("unpacked_bytes".to_owned(), bytes.into());
                return checked;
            }
            Ok(_) => format!("it unpacks to more than {most} bytes: its check sum was not computed"),
            Err(error) => format!("it cannot be unpacked to its end: {error}"),
        };
        checked.issues.add(Issue { path: part.name.clone(), offset: None, length: None, what });
    }
    checked
}

fn bound(size: u64) -> u64 {
    size.saturating_mul(MOST_RATIO).saturating_add(MOST_ON_TOP)
}

/// What the acquisition log beside an archive of UAC says.
fn uac_log(archive: &Path) -> Map<String, Value> {
    let mut facts = Map::new();
    let log = archive.with_extension("");
    let log = if log.extension().is_some_and(|end| end == "tar") {
        log.with_extension("log")
    } else {
        archive.with_extension("log")
    };
    let Ok(part) = Part::open(&log) else { return facts };
    let mut bytes = vec![0; usize::try_from(part.size.min(LONGEST_TEXT)).unwrap_or(0)];
    if part.read_exact_at(0, &mut bytes).is_err() {
        return facts;
    }
    let text = String::from_utf8_lossy(&bytes);
    let Some(version) = text.lines().next().and_then(|line| line.strip_prefix("Created by UAC")) else {
        return facts;
    };
    let version = version.rsplit(' ').next().unwrap_or_default();
    facts.insert("tool".to_owned(), "UAC".into());
    facts.insert("version".to_owned(), escape_text(version.as_bytes()).into());
    for (name, value) in text.lines().filter_map(|line| line.split_once(": ")) {
        if let Some((_, called)) = LINES_OF_UAC.iter().find(|(line, _)| *line == name) {
            let value: String = value.trim().chars().take(1000).collect();
            facts.insert((*called).to_owned(), escape_text(value.as_bytes()).into());
        }
    }
    facts
}

/// One member of a zip, as the directory has it.
struct Member {
    name: Vec<u8>,
    method: u16,
    is_encrypted: bool,
    crc: u32,
    stored: u64,
    size: u64,
    header: u64,
}

/// Whether it is a zip with members that only Velociraptor writes.
pub(super) fn is_velociraptor(part: &Part) -> bool {
    let Ok(members) = directory(part) else { return false };
    members.iter().any(|member| MARKS_OF_VELOCIRAPTOR.iter().any(|mark| member.name == mark.as_bytes()))
}

/// Checks all members of Velociraptor's archive, and reads what it says of the collection.
pub(super) fn check_velociraptor(parts: &Parts) -> Checked {
    let mut checked = Checked::default();
    let Some(part) = parts.list().first() else { return checked };
    let mut note = |what: String| {
        checked.issues.add(Issue { path: part.name.clone(), offset: None, length: None, what });
    };
    let members = match directory(part) {
        Ok(members) => members,
        Err(what) => {
            note(what.to_owned());
            return checked;
        }
    };
    let mut left = bound(part.size);
    let (mut right, mut damaged, mut unknown) = (0u64, 0usize, 0u64);
    for member in &members {
        let name = escape_text(&member.name);
        if member.is_encrypted || !matches!(member.method, 0 | 8) {
            unknown += 1;
            continue;
        }
        match crc(part, member, left) {
            Some((crc, bytes)) if crc == member.crc && bytes == member.size => right += 1,
            _ if left < member.size => {
                note(format!(
                    "it unpacks to more than {} bytes: the rest of it is not checked",
                    bound(part.size)
                ));
                break;
            }
            _ => {
                damaged += 1;
                if damaged <= NAMED {
                    note(format!(
                        "member {name:?} does not have the length and CRC-32 that the archive says"
                    ));
                }
            }
        }
        left = left.saturating_sub(member.size);
    }
    if damaged > NAMED {
        note(format!("{} members more are damaged", damaged - NAMED));
    }
    checked.facts.extend([
        ("tool".to_owned(), "Velociraptor".into()),
        ("members".to_owned(), members.len().into()),
        ("members_right".to_owned(), right.into()),
        ("members_not_checked".to_owned(), unknown.into()),
        ("check".to_owned(), if damaged > 0 { "differs" } else { "matches" }.into()),
    ]);
    for (document, fields) in [
        ("client_info.json", ["hostname", "os_info", "system", "client_id", "agent_version"].as_slice()),
        (
            "collection_context.json",
            &["session_id", "create_time", "start_time", "total_uploaded_files", "total_uploaded_bytes"],
        ),
    ] {
        let Some(member) = members.iter().find(|member| member.name == document.as_bytes()) else { continue };
        collect(part, member, fields, &mut checked.facts);
    }
    checked
}

/// Adds the named fields of a JSON document, wherever they stand in it.
fn collect(part: &Part, member: &Member, fields: &[&str], facts: &mut Map<String, Value>) {
    let mut bytes = Vec::new();
    let read = unpack(part, member).map(|input| input.take(LONGEST_TEXT).read_to_end(&mut bytes));
    if !matches!(read, Some(Ok(_))) {
        return;
    }
    let Ok(document) = serde_json::from_slice::<Value>(&bytes) else { return };
    let mut open = vec![&document];
    while let Some(value) = open.pop() {
        let Some(object) = value.as_object() else { continue };
        for (name, value) in object {
            let told = match value {
                Value::String(text) if !text.is_empty() => {
                    escape_text(text.chars().take(300).collect::<String>().as_bytes())
                }
                Value::Number(number) => number.to_string(),
                _ => {
                    open.push(value);
                    continue;
                }
            };
            if let Some(field) = fields.iter().find(|field| name.eq_ignore_ascii_case(field)) {
                facts.entry((*field).to_owned()).or_insert(told.into());
            }
        }
    }
}

/// CRC-32 and length of a member's content.
fn crc(part: &Part, member: &Member, most: u64) -> Option<(u32, u64)> {
    let mut input = unpack(part, member)?.take(most.min(member.size.saturating_add(1)));
    let mut crc = Crc::new();
    let mut room = vec![0; 128 << 10];
    let mut bytes = 0u64;
    loop {
        match input.read(&mut room).ok()? {
            0 => return Some((crc.sum(), bytes)),
            read => {
                crc.update(room.get(..read)?);
                bytes += read as u64;
            }
        }
    }
}

fn unpack<'p>(part: &'p Part, member: &Member) -> Option<Box<dyn Read + 'p>> {
    let mut header = [0; 30];
    part.read_exact_at(member.header, &mut header).ok()?;
    let skip = u64::from(u16_at(&header, 26)?) + u64::from(u16_at(&header, 28)?);
    let at = member.header.checked_add(30)?.checked_add(skip)?;
    let end = at.checked_add(member.stored).filter(|end| *end <= part.size)?;
    if header.get(..4)? != b"PK\x03\x04" {
        return None;
    }
    let stored = From { part, at, end };
    Some(if member.method == 8 { Box::new(DeflateDecoder::new(stored)) } else { Box::new(stored) })
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

/// Reads the directory at the end of a zip.
fn directory(part: &Part) -> Result<Vec<Member>, &'static str> {
    const CUT: &str = "it has no directory at its end: it may be cut";
    const DAMAGED: &str = "its directory is damaged";
    let tail = part.size.min((64 << 10) + 22 + 20);
    let mut bytes = vec![0; usize::try_from(tail).unwrap_or(0)];
    part.read_exact_at(part.size - tail, &mut bytes).map_err(|_| CUT)?;
    let at = bytes.windows(4).rposition(|window| window == b"PK\x05\x06").ok_or(CUT)?;
    let end = bytes.get(at..).ok_or(CUT)?;
    let (mut size, mut start) =
        (u64::from(u32_at(end, 12).ok_or(CUT)?), u64::from(u32_at(end, 16).ok_or(CUT)?));
    let locator =
        at.checked_sub(20).and_then(|at| bytes.get(at..)).filter(|found| found.starts_with(b"PK\x06\x07"));
    if let Some(place) = locator.and_then(|locator| u64_at(locator, 8)) {
        let mut zip64 = [0; 56];
        part.read_exact_at(place, &mut zip64).map_err(|_| DAMAGED)?;
        (size, start) = u64_at(&zip64, 40).zip(u64_at(&zip64, 48)).ok_or(DAMAGED)?;
    }
    if size > LONGEST_DIRECTORY || start.checked_add(size).is_none_or(|end| end > part.size) {
        return Err(DAMAGED);
    }
    let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
    part.read_exact_at(start, &mut bytes).map_err(|_| DAMAGED)?;
    let mut members = Vec::new();
    let mut rest = bytes.as_slice();
    while !rest.is_empty() && members.len() < MOST_MEMBERS {
        let (member, length) = member(rest).ok_or(DAMAGED)?;
        members.push(member);
        rest = rest.get(length..).ok_or(DAMAGED)?;
    }
    Ok(members)
}

/// One entry of the directory, and its length.
fn member(bytes: &[u8]) -> Option<(Member, usize)> {
    if bytes.get(..4)? != b"PK\x01\x02" {
        return None;
    }
    let lengths = [u16_at(bytes, 28)?, u16_at(bytes, 30)?, u16_at(bytes, 32)?].map(usize::from);
    let [name, extra, comment] = lengths;
    let length = 46 + name + extra + comment;
    let mut member = Member {
        name: bytes.get(46..46 + name)?.to_vec(),
        method: u16_at(bytes, 10)?,
        is_encrypted: u16_at(bytes, 8)? & 1 != 0,
        crc: u32_at(bytes, 16)?,
        stored: u32_at(bytes, 20)?.into(),
        size: u32_at(bytes, 24)?.into(),
        header: u32_at(bytes, 42)?.into(),
    };
    // Numbers that do not fit into 32 bits stand in an extra field, in this order.
    let mut extras = bytes.get(46 + name..46 + name + extra)?;
    while let (Some(id), Some(size)) = (u16_at(extras, 0), u16_at(extras, 2)) {
        let mut field = extras.get(4..4 + usize::from(size))?;
        extras = extras.get(4 + usize::from(size)..)?;
        if id != 1 {
            continue;
        }
        for number in [&mut member.size, &mut member.stored, &mut member.header] {
            if *number == u64::from(u32::MAX) {
                *number = u64_at(field, 0)?;
                field = field.get(8..)?;
            }
        }
    }
    Some((member, length))
}
