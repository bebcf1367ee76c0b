//! `disk.raw` in a gzip-compressed tar, unpacked while it comes.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, Read};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use custody::bundle::{Source as SourceFacts, State};
use custody::strict_json::escape_text;
use flate2::read::MultiGzDecoder;
use md5::{Digest as _, Md5};
use serde_json::{Map, Value};

use super::read_ahead::{RemoteDisk, RemoteStream};
use super::sparse_map::{MOST_PIECES, SparseMap, listed_pairs, number, old_gnu_pairs};
use crate::aws::{Failure, FailureKind};
use crate::error::Error;
use crate::source::{Issue, Issues, Source};

const BLOCK: usize = 512;

/// No extended header is longer: a map of four million pieces has 100 MB, which nobody writes so.
const LONGEST_HEADER: u64 = 64 << 20;

/// Members that may stand before the disk.
const MOST_MEMBERS: u32 = 1000;

/// The disk within an archive, which gives each byte once.
pub(super) struct DiskInTar {
    input: MultiGzDecoder<Hashed>,
    facts: SourceFacts,
    /// MD5 of the whole object as its store tells it, base64.
    told_md5: Option<String>,
    map: SparseMap,
    /// Bytes of the member that were read.
    read: u64,
    facts_after: Map<String, Value>,
}

impl fmt::Debug for DiskInTar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskInTar").field("facts", &self.facts).finish_non_exhaustive()
    }
}

/// What comes, hashed on its way.
struct Hashed {
    input: RemoteStream,
    md5: Md5,
}

impl Read for Hashed {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buf)?;
        self.md5.update(buf.get(..read).unwrap_or_default());
        Ok(read)
    }
}

/// A member of the archive.
struct Member {
    name: String,
    map: SparseMap,
}

impl DiskInTar {
    /// Finds the disk in the archive: the first member whose name ends in `.raw`.
    pub(super) fn open(disk: RemoteDisk, told_md5: Option<String>) -> Result<Self, Error> {
        let mut facts = disk.facts();
        let mut input = MultiGzDecoder::new(Hashed { input: disk.into_stream(), md5: Md5::new() });
        let member = match find(&mut input) {
            Ok(member) => member,
            Err(error) => {
                let stopped = input.get_mut().input.disk.stopped_by();
                let words = format!("no disk could be found in the archive: {error}");
                return Err(
                    stopped.unwrap_or_else(|| Failure::found("HTTP GET", FailureKind::Invalid, words).into())
                );
            }
        };
        facts.more.insert("form".to_owned(), "image object, tar.gz".into());
        facts.more.insert("member".to_owned(), escape_text(member.name.as_bytes()).into());
        facts.more.insert("object_size".to_owned(), facts.size.unwrap_or(0).into());
        facts.size = Some(member.map.size);
        Ok(Self { input, facts, told_md5, map: member.map, read: 0, facts_after: Map::new() })
    }
}

/// Reads members until the disk comes.
fn find(input: &mut impl Read) -> io::Result<Member> {
    let bad = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
    let mut pax: Pax = Pax::default();
    let mut long_name: Option<String> = None;
    for _ in 0..MOST_MEMBERS {
        let mut header = [0u8; BLOCK];
        input.read_exact(&mut header)?;
        if header.iter().all(|byte| *byte == 0) {
            return Err(bad("it ends without a member that is called *.raw"));
        }
        if !is_header(&header) {
            return Err(bad("what is compressed is no tar"));
        }
        let field = |from: usize, to: usize| header.get(from..to).unwrap_or_default();
        let size = number(field(124, 136)).ok_or_else(|| bad("a size in it is no number"))?;
        match header.get(156).copied().unwrap_or(0) {
            kind @ (b'x' | b'g' | b'L' | b'K') => {
                let text = contents(input, size)?;
                match kind {
                    b'x' => {
                        pax = Pax::parse(&text).ok_or_else(|| bad("an extended header in it is broken"))?;
                    }
                    b'L' => long_name = Some(text_of(&text)),
                    _ => {}
                }
            }
            kind => {
                let own = text_of(field(0, 100));
                let name = pax.one("GNU.sparse.name").or_else(|| pax.one("path")).map(str::to_owned);
                let name = name.or(long_name.take()).unwrap_or(own);
                let stored = pax.number("size").unwrap_or(size);
                if matches!(kind, b'0' | 0 | b'7' | b'S') && name.ends_with(".raw") {
                    let map = map_of(input, &header, kind, &pax, stored).map_err(|error| match error {
                        MapError::Io(error) => error,
                        MapError::Bad(why) => bad(why),
                    })?;
                    return Ok(Member { name, map });
                }
                let mut more = kind == b'S' && field(482, 483) != [0];
                while more {
                    let mut block = [0u8; BLOCK];
                    input.read_exact(&mut block)?;
                    more = block.get(504) != Some(&0);
                }
                skip(input, padded(stored))?;
                pax = Pax::default();
            }
        }
    }
    Err(bad("it has too many members before one that is called *.raw"))
}

enum MapError {
    Io(io::Error),
    Bad(&'static str),
}

impl From<io::Error> for MapError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<&'static str> for MapError {
    fn from(why: &'static str) -> Self {
        Self::Bad(why)
    }
}

/// Where the member's bytes stand in it. What of the map stands before them is read.
fn map_of(
    input: &mut impl Read,
    header: &[u8; BLOCK],
    kind: u8,
    pax: &Pax,
    stored: u64,
) -> Result<SparseMap, MapError> {
    const BROKEN: &str = "the map of the sparse file is broken";
    if kind == b'S' {
        let field = |from: usize, to: usize| header.get(from..to).unwrap_or_default();
        let mut pairs = old_gnu_pairs(field(386, 482)).ok_or(BROKEN)?;
        let size = number(field(483, 495)).ok_or(BROKEN)?;
        let mut more = header.get(482) != Some(&0);
        while more {
            let mut block = [0u8; BLOCK];
            input.read_exact(&mut block)?;
            pairs.extend(old_gnu_pairs(block.get(..504).unwrap_or_default()).ok_or(BROKEN)?);
            if pairs.len() > MOST_PIECES {
                return Err(BROKEN.into());
            }
            more = block.get(504) != Some(&0);
        }
        return Ok(SparseMap::new(&pairs, size, stored)?);
    }
    let size = pax.number("GNU.sparse.realsize").or_else(|| pax.number("GNU.sparse.size"));
    let Some(size) = size else { return Ok(SparseMap::whole(stored)) };
    if pax.one("GNU.sparse.major") == Some("1") {
        let mut lines = Lines { input, block: Vec::new(), read: 0 };
        let count = lines.number()?.ok_or(BROKEN)?;
        if count > MOST_PIECES as u64 {
            return Err(BROKEN.into());
        }
        let mut pairs = Vec::new();
        for _ in 0..count {
            pairs.push((lines.number()?.ok_or(BROKEN)?, lines.number()?.ok_or(BROKEN)?));
        }
        let left = stored.checked_sub(lines.read).ok_or(BROKEN)?;
        return Ok(SparseMap::new(&pairs, size, left)?);
    }
    let pairs = match pax.one("GNU.sparse.map") {
        Some(text) => listed_pairs(text),
        None => {
            let numbers =
                |name| pax.all(name).iter().map(|text| text.parse().ok()).collect::<Option<Vec<u64>>>();
            let both = numbers("GNU.sparse.offset").zip(numbers("GNU.sparse.numbytes"));
            both.filter(|(offsets, lengths)| offsets.len() == lengths.len())
                .map(|(offsets, lengths)| offsets.into_iter().zip(lengths).collect())
        }
    };
    Ok(SparseMap::new(&pairs.ok_or(BROKEN)?, size, stored)?)
}

/// Decimal numbers, one a line, in blocks of 512 bytes.
struct Lines<'a, R> {
    input: &'a mut R,
    block: Vec<u8>,
    read: u64,
}

impl<R: Read> Lines<'_, R> {
    fn number(&mut self) -> io::Result<Option<u64>> {
        let mut digits = String::new();
        loop {
            if self.block.is_empty() {
                let mut block = vec![0; BLOCK];
                self.input.read_exact(&mut block)?;
                block.reverse();
                (self.block, self.read) = (block, self.read.saturating_add(BLOCK as u64));
            }
            match self.block.pop() {
                Some(b'\n') => return Ok(digits.parse().ok()),
                Some(digit @ b'0'..=b'9') if digits.len() < 20 => digits.push(char::from(digit)),
                _ => return Ok(None),
            }
        }
    }
}

/// The records of an extended header.
#[derive(Default)]
struct Pax(HashMap<String, Vec<String>>);

impl Pax {
    fn parse(mut text: &[u8]) -> Option<Self> {
        let mut records: HashMap<String, Vec<String>> = HashMap::new();
        while !text.is_empty() {
            let space = text.iter().position(|byte| *byte == b' ')?;
            let length: usize = std::str::from_utf8(text.get(..space)?).ok()?.parse().ok()?;
            let record = text.get(space + 1..length)?.strip_suffix(b"\n")?;
            let record = String::from_utf8_lossy(record);
            let (name, value) = record.split_once('=')?;
            records.entry(name.to_owned()).or_default().push(value.to_owned());
            text = text.get(length..)?;
        }
        Some(Self(records))
    }

    fn one(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.last().map(String::as_str)
    }

    fn all(&self, name: &str) -> &[String] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.one(name)?.parse().ok()
    }
}

/// The sum over a header is right: signed or unsigned, as the oldest archives have it too.
fn is_header(header: &[u8; BLOCK]) -> bool {
    let told = header.get(148..156).and_then(number);
    let sum = header
        .iter()
        .enumerate()
        .fold(0u64, |sum, (at, byte)| sum + if (148..156).contains(&at) { 32 } else { u64::from(*byte) });
    told == Some(sum)
}

fn text_of(field: &[u8]) -> String {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    String::from_utf8_lossy(field.get(..end).unwrap_or_default()).into_owned()
}

fn padded(size: u64) -> u64 {
    size.saturating_add(BLOCK as u64 - 1) / BLOCK as u64 * BLOCK as u64
}

fn contents(input: &mut impl Read, size: u64) -> io::Result<Vec<u8>> {
    if size > LONGEST_HEADER {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "an extended header is too long"));
    }
    let mut text = Vec::new();
    input.by_ref().take(size).read_to_end(&mut text)?;
    if (text.len() as u64) < size {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    skip(input, padded(size) - size)?;
    Ok(text)
}

fn skip(input: &mut impl Read, bytes: u64) -> io::Result<()> {
    let skipped = io::copy(&mut input.by_ref().take(bytes), &mut io::sink())?;
    if skipped < bytes { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}

impl Source for DiskInTar {
    fn facts(&self) -> SourceFacts {
        self.facts.clone()
    }

    fn size(&self) -> Option<u64> {
        Some(self.map.size)
    }

    fn sector_size(&self) -> u32 {
        512
    }

    fn is_seekable(&self) -> bool {
        false
    }

    fn run_at(&mut self, offset: u64) -> io::Result<Option<(State, u64)>> {
        if offset >= self.map.size {
            return Ok(None);
        }
        Ok(Some(match self.map.at(offset) {
            Ok(piece) => (State::Data, piece.start.saturating_add(piece.length) - offset),
            Err(hole) => (State::Absent, hole),
        }))
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        if offset >= self.map.size {
            return Ok(0);
        }
        let piece = match self.map.at(offset) {
            Ok(piece) => piece,
            Err(hole) => {
                let most = buf.len().min(usize::try_from(hole).unwrap_or(usize::MAX));
                buf.get_mut(..most).unwrap_or_default().fill(0);
                return Ok(most);
            }
        };
        let within = offset - piece.start;
        if piece.stored.saturating_add(within) != self.read {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "an archive gives each byte once"));
        }
        let left = piece.length.saturating_sub(within);
        let most = buf.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let read = self.input.read(buf.get_mut(..most).unwrap_or_default())?;
        if read == 0 && most > 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive ends within the disk"));
        }
        self.read = self.read.saturating_add(read as u64);
        Ok(read)
    }

    fn stopped_by(&mut self) -> Option<Error> {
        self.input.get_mut().input.disk.stopped_by()
    }

    /// Reads what stands behind the disk, so that the object as a whole can be compared with what its store says of it.
    fn end(&mut self, issues: &mut Issues) {
        let path = self.facts.path.clone().unwrap_or_default();
        let mut issue =
            |what: String| issues.add(Issue { path: path.clone(), offset: None, length: None, what });
        if let Err(error) = io::copy(&mut self.input, &mut io::sink()) {
            issue(format!("the archive is broken behind the disk: {error}"));
            return;
        }
        let raw = self.input.get_mut();
        if let Err(error) = io::copy(raw, &mut io::sink()) {
            issue(format!("the object could not be read behind the archive: {error}"));
            return;
        }
        let md5 = STANDARD.encode(raw.md5.clone().finalize());
        if let Some(told) = self.told_md5.as_ref().filter(|told| **told != md5) {
            issue(format!("the object's MD5 is {md5}, but its store says {told}"));
        }
        self.facts_after.insert("object_md5".to_owned(), md5.into());
    }

    fn facts_after(&self) -> Map<String, Value> {
        let mut facts = self.facts_after.clone();
        facts.extend(self.input.get_ref().input.disk.facts_after());
        facts
    }
}
