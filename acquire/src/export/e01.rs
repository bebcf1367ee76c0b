//! Expert Witness images (E01) in the layout of EnCase 6, which all suites read.
//!
//! - Chunks of 32 KiB, compressed by zlib at its fastest level; one that does not get smaller is stored as it is.
//! - EWF knows whole sectors only: a rest is filled with zeros, and the image's notes and our report say so.
//! - Sectors that could not be read are zeros, and stand in the list of read errors (`error2`).
//! - MD5 and SHA-1, which the format stores, are those of the media, filling included. The stream's own SHA-256, which
//!   is checked while it is written, stands in the notes.
//! - Everything in it comes from the bundle: the same bundle gives the same image, byte for byte.
//!
//! Reference: J. Metz, "Expert Witness Compression Format specification" (libewf project, 2026).

use std::path::Path;
use std::thread;

use crossbeam_channel::{Receiver, bounded};
use custody::bundle::{Manifest, State, StreamReader, is_zero};
use flate2::{Compress, Compression, FlushCompress};
use md5::Md5;
use sha1::Sha1;

use super::chunks::{Piece, each_in_order};
use super::e01_sections::{Header, Volume, digest, errors, hash, last_section, section, table, tables_size};
use super::output::{NewFile, Whole, name_all};
use super::plain::{check, hashed};
use super::{Export, Exported, Media, refused};
use crate::error::{Error, Result};
use crate::ewf::{COMPRESSED, DESCRIPTOR, MOST_ENTRIES, VOLUME, file_header, segment_path, with_checksum};

/// Bytes of a chunk.
const CHUNK: usize = 32 << 10;

/// Compressed bytes that are kept in memory until their table can be written.
const GROUP_BYTES: usize = 64 << 20;

/// Sector sizes that are taken from the source; any other is told as 512.
const SECTOR_SIZES: [u32; 4] = [512, 1024, 2048, 4096];

/// Pieces that may wait to be hashed.
const WAITING: usize = 16;

/// Writes the stream as an image.
pub(super) fn write(export: &Export<'_>, path: &Path) -> Result<Exported> {
    let stream = export.reader.stream();
    if stream.size == 0 {
        return Err(refused("the stream is empty, and an E01 of nothing is read by no tool"));
    }
    let plan = Plan::of(export)?;
    export.progress.started(&stream.name, Some(stream.size));
    let mut segments = Segments::begin(&plan, path, export.split)?;
    let padding = vec![0; plan.padding as usize];
    let make = |coder: &mut Coder, piece: Piece| coder.code(piece, plan.sector_size as usize);
    let mut media = None;
    let sha256 = hashed(|hash_stream| {
        media = Some(hashed_media(&padding, |hash_media| {
            each_in_order(&export.reader, export.threads(), Coder::new, make, |coded| {
                let mut rest = coded.data.as_slice();
                for entry in &coded.chunks {
                    let (chunk, after) = rest.split_at_checked(entry.length).ok_or(Error::Stopped)?;
                    segments.add(chunk, entry.is_compressed)?;
                    rest = after;
                }
                export.progress.advanced(coded.piece.bytes().len() as u64);
                hash_media(coded.piece.clone())?;
                hash_stream(coded.piece)
            })
        })?);
        Ok(())
    })?;
    check(export, sha256)?;
    let (md5, sha1) = media.ok_or(Error::Stopped)?;
    let files = name_all(segments.end(&md5, &sha1)?, sha256)?;
    export.progress.finished();
    let mut notes = export.notes();
    if plan.padding > 0 {
        notes.push(format!(
            "{} zero bytes fill the last sector: the image's MD5 and SHA-1 cover them, the stream's SHA-256 does not",
            plan.padding
        ));
    }
    if plan.unlisted > 0 {
        notes.push(format!(
            "{} unreadable sectors lie beyond sector {}, and the format cannot list them",
            plan.unlisted,
            u32::MAX
        ));
    }
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let media = Media {
        sector_size: plan.sector_size,
        padding: plan.padding,
        md5: hex(&md5),
        sha1: hex(&sha1),
        unreadable_runs: plan.errors.len() as u64,
    };
    Ok(Exported { media: Some(media), ..export.exported(sha256, files, notes) })
}

/// What is known before the first byte is written.
struct Plan {
    header: Header,
    volume: Volume,
    sector_size: u32,
    padding: u32,
    errors: Vec<(u32, u32)>,
    /// Unreadable sectors that a list of 32-bit numbers cannot hold.
    unlisted: u64,
}

impl Plan {
    fn of(export: &Export<'_>) -> Result<Self> {
        let (manifest, size) = (export.manifest, export.reader.len());
        let sector_size =
            manifest.source.sector_size.filter(|size| SECTOR_SIZES.contains(size)).unwrap_or(512);
        let sectors = size.div_ceil(u64::from(sector_size));
        let media = sectors.saturating_mul(u64::from(sector_size));
        let padding = u32::try_from(media.saturating_sub(size)).unwrap_or(0);
        let chunks = u32::try_from(media.div_ceil(CHUNK as u64))
            .map_err(|_| refused("the stream is larger than the 128 TiB that an E01 can hold"))?;
        let is_device =
            manifest.source.more.get("form").and_then(|form| form.as_str()) == Some("block device");
        let sectors_per_chunk = u32::try_from(CHUNK).unwrap_or(0) / sector_size;
        let set = set_id(manifest);
        let volume = Volume { chunks, sectors_per_chunk, sector_size, sectors, is_device, set };
        let (errors, unlisted) = unreadable_sectors(&export.reader, sector_size);
        let notes = notes(export, padding);
        Ok(Self { header: Header::of(manifest, &notes), volume, sector_size, padding, errors, unlisted })
    }

    /// Bytes that may still be needed behind the last chunk.
    fn closing(&self) -> u64 {
        let sections = [VOLUME, 80, 36, 0];
        let errors = if self.errors.is_empty() { 0 } else { DESCRIPTOR + 524 + 8 * self.errors.len() };
        let all = sections.iter().fold(errors, |all, section| all + DESCRIPTOR + section);
        all as u64
    }
}

/// What the notes of the image say.
fn notes(export: &Export<'_>, padding: u32) -> String {
    let stream = export.reader.stream();
    let filling = match padding {
        0 => String::new(),
        padding => format!(", and {padding} zero bytes behind them"),
    };
    format!(
        "Exported by {} {} from stream {} of bundle {} (SHA-256 of its manifest: {}). SHA-256 of the {} bytes \
         acquired: {}. The image holds them{filling}.",
        export.manifest.tool.name,
        export.manifest.tool.version,
        stream.name,
        export.manifest.id,
        export.manifest_sha256,
        stream.size,
        stream.sha256
    )
}

/// The bundle's UUID, as the set's: the first three fields of a GUID are little-endian.
fn set_id(manifest: &Manifest) -> [u8; 16] {
    let digits: Vec<u8> =
        manifest.id.bytes().filter_map(|c| char::from(c).to_digit(16)?.try_into().ok()).collect();
    let mut id = [0; 16];
    for (to, from) in id.iter_mut().zip(digits.chunks_exact(2)) {
        *to = from.iter().fold(0, |byte, digit| byte << 4 | digit);
    }
    let [a, b, c, d, e, f, g, h, rest @ ..] = id;
    let [i, j, k, l, m, n, o, p] = rest;
    [d, c, b, a, f, e, h, g, i, j, k, l, m, n, o, p]
}

/// Runs of sectors that hold a byte that could not be read, and how many sectors lie too far to be listed.
fn unreadable_sectors(reader: &StreamReader, sector_size: u32) -> (Vec<(u32, u32)>, u64) {
    let sector = u64::from(sector_size.max(1));
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for extent in reader.extents().iter().filter(|extent| extent.state == State::Unreadable) {
        let (start, end) = (extent.start / sector, extent.end().div_ceil(sector));
        match runs.last_mut() {
            Some((_, last)) if *last >= start => *last = end.max(*last),
            _ => runs.push((start, end)),
        }
    }
    let last = u64::from(u32::MAX);
    let unlisted = runs.iter().map(|&(start, end)| end.saturating_sub(start.max(last))).sum();
    let listed = runs.iter().filter(|(start, _)| *start < last).filter_map(|&(start, end)| {
        Some((u32::try_from(start).ok()?, u32::try_from(end.min(last).saturating_sub(start)).ok()?))
    });
    (listed.collect(), unlisted)
}

/// Runs `feed` with a function that takes pieces to two threads, which compute the media's MD5 and SHA-1.
fn hashed_media(
    padding: &[u8],
    feed: impl FnOnce(&mut dyn FnMut(Piece) -> Result<()>) -> Result<()>,
) -> Result<(Vec<u8>, Vec<u8>)> {
    let (to_md5, for_md5) = bounded::<Piece>(WAITING);
    let (to_sha1, for_sha1) = bounded::<Piece>(WAITING);
    thread::scope(|scope| {
        let spawn = |name: &str| thread::Builder::new().name(name.to_owned());
        let md5 = spawn("md5").spawn_scoped(scope, move || hash_all::<Md5>(&for_md5, padding));
        let sha1 = spawn("sha1").spawn_scoped(scope, move || hash_all::<Sha1>(&for_sha1, padding));
        let (md5, sha1) = (md5.map_err(Error::Thread)?, sha1.map_err(Error::Thread)?);
        let fed = feed(&mut |piece| {
            to_md5.send(piece.clone()).map_err(|_| Error::Stopped)?;
            to_sha1.send(piece).map_err(|_| Error::Stopped)
        });
        drop((to_md5, to_sha1));
        let hashes = (md5.join().map_err(|_| Error::Stopped)?, sha1.join().map_err(|_| Error::Stopped)?);
        fed.map(|()| hashes)
    })
}

fn hash_all<H: md5::Digest>(pieces: &Receiver<Piece>, padding: &[u8]) -> Vec<u8> {
    let mut hash = H::new();
    for piece in pieces {
        hash.update(piece.bytes());
    }
    hash.update(padding);
    hash.finalize().to_vec()
}

/// Cuts pieces into chunks and compresses them; one for each thread.
struct Coder {
    deflate: Compress,
    zeros: Vec<u8>,
}

/// The chunks of one piece, one behind the other.
struct Coded {
    piece: Piece,
    data: Vec<u8>,
    chunks: Vec<CodedChunk>,
}

struct CodedChunk {
    length: usize,
    is_compressed: bool,
}

impl Coder {
    fn new() -> Self {
        Self { deflate: Compress::new(Compression::fast(), true), zeros: Vec::new() }
    }

    fn code(&mut self, piece: Piece, sector: usize) -> Result<Coded> {
        let mut coded = Coded { piece, data: Vec::new(), chunks: Vec::new() };
        for chunk in coded.piece.bytes().chunks(CHUNK) {
            let before = coded.data.len();
            let is_whole = chunk.len().is_multiple_of(sector);
            let is_compressed = if chunk.len() == CHUNK && (coded.piece.is_zeros || is_zero(chunk)) {
                if self.zeros.is_empty() {
                    let mut zeros = Vec::new();
                    self.append(chunk, &mut zeros)?;
                    self.zeros = zeros;
                }
                coded.data.extend_from_slice(&self.zeros);
                true
            } else if is_whole {
                self.append(chunk, &mut coded.data)?
            } else {
                let mut padded = chunk.to_vec();
                padded.resize(chunk.len().next_multiple_of(sector), 0);
                self.append(&padded, &mut coded.data)?
            };
            let length = coded.data.len() - before;
            coded.chunks.push(CodedChunk { length, is_compressed });
        }
        Ok(coded)
    }

    /// Appends one chunk as it is to be stored, and says whether it is compressed.
    fn append(&mut self, chunk: &[u8], to: &mut Vec<u8>) -> Result<bool> {
        let before = to.len();
        self.deflate.reset();
        // What does not fit into this is not worth it, and zlib stops there.
        to.reserve(chunk.len());
        let room = to.capacity();
        to.resize(before.saturating_add(chunk.len()).min(room), 0);
        let space = to.get_mut(before..).unwrap_or_default();
        let status = self
            .deflate
            .compress(chunk, space, FlushCompress::Finish)
            .map_err(|error| Error::Compress(std::io::Error::other(error)))?;
        let written = usize::try_from(self.deflate.total_out()).unwrap_or(usize::MAX);
        if status == flate2::Status::StreamEnd && written < chunk.len() {
            to.truncate(before.saturating_add(written));
            return Ok(true);
        }
        to.truncate(before);
        to.extend_from_slice(&with_checksum(chunk.to_vec()));
        Ok(false)
    }
}

/// The segment files of one image, written one after the other and never gone back in.
struct Segments<'a> {
    plan: &'a Plan,
    first: std::path::PathBuf,
    split: Option<u64>,
    number: u16,
    file: NewFile,
    whole: Vec<Whole>,
    /// Chunks that no table names yet.
    data: Vec<u8>,
    offsets: Vec<u32>,
}

impl<'a> Segments<'a> {
    fn begin(plan: &'a Plan, path: &Path, split: Option<u64>) -> Result<Self> {
        let first = segment_path(path, 1).ok_or(Error::Stopped)?;
        let mut file = NewFile::begin(&first, true)?;
        file.write(&file_header(1))?;
        let wide = plan.header.wide().map_err(Error::Compress)?;
        let narrow = plan.header.narrow().map_err(Error::Compress)?;
        let volume = plan.volume.bytes();
        for (kind, data) in [("header2", &wide), ("header2", &wide), ("header", &narrow), ("volume", &volume)]
        {
            file.write(&section(kind, file.size(), data))?;
        }
        let (data, offsets) = (Vec::new(), Vec::new());
        let segments = Self { plan, first, split, number: 1, file, whole: Vec::new(), data, offsets };
        if segments.is_full(CHUNK + 4, 0, 0) {
            return Err(refused(
                "the parts are too small for what an E01 says of itself: choose larger ones",
            ));
        }
        Ok(segments)
    }

    /// Whether one more chunk would make the segment too large, behind so many bytes of so many chunks.
    fn is_full(&self, chunk: usize, bytes: usize, chunks: usize) -> bool {
        let Some(split) = self.split else { return false };
        let sectors = (DESCRIPTOR + bytes + chunk) as u64;
        let more = sectors + tables_size(chunks + 1) + self.plan.closing();
        self.file.size().saturating_add(more) > split
    }

    fn add(&mut self, chunk: &[u8], is_compressed: bool) -> Result<()> {
        if self.is_full(chunk.len(), self.data.len(), self.offsets.len()) {
            self.end_group()?;
            self.next_segment()?;
        } else if self.offsets.len() >= MOST_ENTRIES
            || self.data.len().saturating_add(chunk.len()) > GROUP_BYTES
        {
            self.end_group()?;
        }
        let offset = u32::try_from(DESCRIPTOR + self.data.len()).map_err(|_| Error::Stopped)?;
        self.offsets.push(if is_compressed { offset | COMPRESSED } else { offset });
        self.data.extend_from_slice(chunk);
        Ok(())
    }

    /// Writes the chunks so far, and the tables that name them.
    fn end_group(&mut self) -> Result<()> {
        if self.offsets.is_empty() {
            return Ok(());
        }
        let base = self.file.size();
        // Offsets of 31 bits count from here, so a file may be larger than 2 GiB.
        let size = (DESCRIPTOR + self.data.len()) as u64;
        self.file.write(&crate::ewf::Descriptor::bytes("sectors", base.saturating_add(size), size))?;
        self.file.write(&self.data)?;
        let table = table(base, &self.offsets);
        for kind in ["table", "table2"] {
            self.file.write(&section(kind, self.file.size(), &table))?;
        }
        self.data.clear();
        self.offsets.clear();
        Ok(())
    }

    fn next_segment(&mut self) -> Result<()> {
        self.file.write(&last_section("next", self.file.size()))?;
        self.number = self.number.checked_add(1).ok_or(Error::Stopped)?;
        let path = segment_path(&self.first, self.number);
        let path = path.ok_or_else(|| refused("more parts than E01 has names for: choose larger ones"))?;
        let full = std::mem::replace(&mut self.file, NewFile::begin(&path, true)?);
        self.whole.push(full.end()?);
        self.file.write(&file_header(self.number))?;
        self.file.write(&section("data", self.file.size(), &self.plan.volume.bytes()))
    }

    fn end(mut self, md5: &[u8], sha1: &[u8]) -> Result<Vec<Whole>> {
        self.end_group()?;
        let mut put = |kind, data: &[u8]| self.file.write(&section(kind, self.file.size(), data));
        if self.number == 1 {
            put("data", &self.plan.volume.bytes())?;
        }
        if !self.plan.errors.is_empty() {
            put("error2", &errors(&self.plan.errors))?;
        }
        put("digest", &digest(md5, sha1))?;
        put("hash", &hash(md5))?;
        self.file.write(&last_section("done", self.file.size()))?;
        self.whole.push(self.file.end()?);
        Ok(self.whole)
    }
}
