//! The files below `samples/`, decoded, and what a parser makes of their bytes.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use timeline::bytes::{ByteSource, Pieces, read_vec};
use timeline::event::{Event, Span, TzBasis, YearBasis};
use timeline::parser::{Collected, Context, Input, Parser, Probe};
use timeline::unpack::Codec;
use timeline::year::YearPlan;
use timeline::zone::{KnownZone, Zone};

/// A file as a parser sees it.
#[derive(Clone)]
pub(crate) struct SampleFile {
    /// Its path on the host: the way from the parser's folder to it.
    pub(crate) path: String,
    /// Its bytes, decoded.
    pub(crate) bytes: Vec<u8>,
    /// How it is compressed.
    pub(crate) codec: Option<Codec>,
}

impl SampleFile {
    /// Reads and decodes the file at `file`, which lies at `path` on its host.
    pub(crate) fn open(file: &Path, path: String) -> SampleFile {
        let stored = std::fs::read(file).unwrap();
        let Some(codec) = Codec::detect(&stored) else {
            return SampleFile { path, bytes: stored, codec: None };
        };
        let mut bytes = Vec::new();
        codec.open(Arc::new(stored)).0.read_to_end(&mut bytes).unwrap();
        SampleFile { path, bytes, codec: Some(codec) }
    }

    pub(crate) fn probe(&self) -> Probe<'_> {
        let size = self.codec.is_none().then_some(self.bytes.len() as u64);
        Probe { path: &self.path, head: &self.bytes[..self.bytes.len().min(4096)], size }
    }

    /// The first parser that claims it.
    pub(crate) fn claimed_by(&self) -> Option<&'static dyn Parser> {
        timeline::parsers::ALL.iter().copied().find(|parser| parser.claims(&self.probe()))
    }

    /// Everything `parser` reads in `bytes`, as if they were this file.
    pub(crate) fn parse(&self, parser: &dyn Parser, bytes: &[u8]) -> Collected {
        let bytes: Arc<dyn ByteSource> = Arc::new(bytes.to_vec());
        let mut out = Collected::default();
        parser
            .parse(&mut Input::of_source(&self.path, bytes), &context(), &mut out)
            .unwrap_or_else(|error| panic!("{} in {}: {error}", parser.name(), self.path));
        out
    }

    /// The same through a decoder that gives a few bytes at a time.
    pub(crate) fn parse_in_drops(&self, parser: &dyn Parser) -> Collected {
        let reader = Box::new(Drops { rest: &self.bytes, size: 0, unit: 1 + self.bytes.len() / 4096 });
        let mut out = Collected::default();
        parser.parse(&mut Input::of_member(&self.path, "drops", reader), &context(), &mut out).unwrap();
        out
    }

    /// The rows that the record of `event` gives when the parser has its bytes and nothing else.
    pub(crate) fn parse_record(&self, parser: &dyn Parser, event: &Event) -> Vec<Event> {
        let mut context = context();
        let record = self.bytes_of(event.span);
        let mut pieces = Pieces::new(self.bytes.len() as u64);
        pieces.add(event.span.offset, record.clone());
        for span in pieces_of(event) {
            pieces.add(span.offset, self.bytes_of(span));
        }
        if event.year_basis != YearBasis::InRecord {
            let local = event.time.and_then(|time| context.zone.zone.to_local(time));
            let year = local.map(|t| t.format("%Y").to_string().parse().unwrap());
            context.year = match year {
                Some(year) => YearPlan::Exact { year, basis: event.year_basis },
                None => YearPlan::Unknown,
            };
        }
        let mut out = Collected::default();
        let mut input = Input::of_record(&self.path, event.span.offset, record, Arc::new(pieces));
        parser.parse(&mut input, &context, &mut out).unwrap_or_else(|error| {
            panic!("{} asks for more than the record at {}: {error}", parser.name(), event.span.offset)
        });
        out.events
    }

    fn bytes_of(&self, span: Span) -> Vec<u8> {
        let bytes = read_vec(&self.bytes, span.offset, usize::try_from(span.length).unwrap()).unwrap();
        assert_eq!(bytes.len() as u64, span.length, "{}: {span:?} is not in the file", self.path);
        bytes
    }
}

/// The further pieces that an event names.
pub(crate) fn pieces_of(event: &Event) -> Vec<Span> {
    let pieces = event.pieces.as_deref().unwrap_or("");
    pieces
        .split_ascii_whitespace()
        .map(|piece| {
            let (offset, length) = piece.split('>').next().unwrap().split_once('+').unwrap();
            Span::new(offset.parse().unwrap(), length.parse().unwrap())
        })
        .collect()
}

/// The host that all samples come from.
pub(crate) fn context() -> Context {
    Context {
        host: Some("web01".into()),
        zone: KnownZone { zone: Zone::UTC, basis: TzBasis::HostConfig },
        year: YearPlan::Forward { first_year: 2026, basis: YearBasis::Flag },
        users: Arc::default(),
    }
}

pub(crate) fn samples_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../samples")
}

/// Every sample of a parser, in the order of their paths.
pub(crate) fn samples_of(parser: &dyn Parser) -> Vec<SampleFile> {
    let root = samples_folder().join(parser.name());
    let mut files = Vec::new();
    list_files(&root, &mut files);
    files.sort();
    let path = |file: &PathBuf| format!("/{}", file.strip_prefix(&root).unwrap().to_str().unwrap());
    files.iter().map(|file| SampleFile::open(file, path(file))).collect()
}

fn list_files(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            list_files(&path, files);
        } else {
            files.push(path);
        }
    }
}

/// Gives 1 to 7 units at a time: bytes of a small file, more of a large one.
struct Drops<'a> {
    rest: &'a [u8],
    size: usize,
    unit: usize,
}

impl Read for Drops<'_> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        self.size = self.size % 7 + 1;
        let n = (self.size * self.unit).min(self.rest.len()).min(buf.len());
        let (now, rest) = self.rest.split_at(n);
        buf[..n].copy_from_slice(now);
        self.rest = rest;
        Ok(n)
    }
}
