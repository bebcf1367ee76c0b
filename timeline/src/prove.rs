//! Shows where a row comes from: its bytes, what its parser makes of them alone, and the chunks that hold them.

use custody::bundle::{Bundle, ChunkProof};

use crate::bytes::StreamRange;
use crate::error::{Error, ReadError};
use crate::event::{Event, YearBasis};
use crate::evidence::{Evidence, FileTimes};
use crate::file_scan::EvidenceFile;
use crate::memory::MemoryImage;
use crate::parser::Context;
use crate::parsers;
use crate::record::{self, Place, Record};
use crate::unpack::Codec;
use crate::year::YearPlan;
use crate::zone::Zone;

/// A bundle laid open to look up single records. Opening it walks the file systems once.
pub struct Prover {
    bundle: Bundle,
    evidence: Evidence,
}

/// What a row says that its record's bytes alone do not.
#[derive(Debug, Clone)]
pub struct Hints {
    /// The parser's name, without its version.
    pub parser: String,
    /// The year of the row, where its record has none, and how it was found.
    pub year: Option<(i32, YearBasis)>,
}

impl Hints {
    /// The hint for a row's year: only rows whose record has none need it.
    pub fn year_of(time: crate::event::Timestamp, basis: YearBasis, zone: &Zone) -> Option<(i32, YearBasis)> {
        use chrono::Datelike;
        (basis != YearBasis::InRecord).then_some((zone.to_local(time)?.year(), basis))
    }
}

enum Found<'a> {
    File(&'a EvidenceFile, Option<Codec>),
    Times(&'a FileTimes),
    Memory(&'a MemoryImage),
}

impl Prover {
    /// Opens a bundle. Host, zone and users are read out of it again; `timezone` is the one that the person who built
    /// the timeline said, if any.
    ///
    /// # Errors
    ///
    /// As [`Evidence::open`].
    pub fn open(bundle: Bundle, timezone: Option<&Zone>) -> Result<Prover, Error> {
        let evidence = Evidence::open(&bundle, timezone)?;
        Ok(Prover { bundle, evidence })
    }

    /// The bundle.
    pub fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// The host's name, for rows whose record names none.
    pub fn host(&self) -> Option<&str> {
        self.evidence.context.host.as_deref()
    }

    /// The zone of the host's local times.
    pub fn zone(&self) -> &Zone {
        &self.evidence.context.zone.zone
    }

    /// Reads the record at a place out of the bundle.
    ///
    /// # Errors
    ///
    /// [`Error::Read`] when the place is not in the bundle or its bytes cannot be read.
    pub fn record(&self, place: &Place) -> Result<Record, Error> {
        Ok(match self.find(place)? {
            Found::File(file, codec) => record::read(&file.source, codec, place)?,
            Found::Times(times) => record::read(times.source(), None, place)?,
            Found::Memory(image) => record::read(image.source(), None, place)?,
        })
    }

    /// What the parser makes of the record's bytes and nothing else.
    ///
    /// # Errors
    ///
    /// [`Error::Read`] when the parser asks for bytes that are not the record's, [`Error::Usage`] when there is no
    /// such parser.
    pub fn parse(&self, place: &Place, record: &Record, hints: &Hints) -> Result<Vec<Event>, Error> {
        let year = hints.year.map_or(YearPlan::Unknown, |(year, basis)| YearPlan::Exact { year, basis });
        let context = Context { year, ..self.evidence.context.clone() };
        match self.find(place)? {
            Found::File(file, _) => {
                let parser = parsers::by_name(&hints.parser)
                    .ok_or_else(|| Error::Usage { what: format!("there is no parser {:?}", hints.parser) })?;
                Ok(record.parse(file, parser, place.span, &context)?)
            }
            Found::Times(times) => Ok(times.of_record(&record.bytes, place.span, &record.pieces)),
            Found::Memory(image) => {
                let artefact = parsers::memory_artefact(&hints.parser).ok_or_else(|| Error::Usage {
                    what: format!("there is no parser {:?} of memory", hints.parser),
                })?;
                Ok(image.rows_of_record(artefact, &record.bytes, place.span, &record.pieces, &context))
            }
        }
    }

    /// The chunks that hold ranges of a stream, each with its path to the stream's root.
    ///
    /// # Errors
    ///
    /// [`Error::Bundle`] when the stream cannot be read.
    pub fn chunks(&self, stream: &str, ranges: &[StreamRange]) -> Result<Vec<ChunkProof>, Error> {
        let reader = self.bundle.stream(stream)?;
        let mut wanted: Vec<u64> = ranges
            .iter()
            .filter(|range| !range.is_empty())
            .filter_map(|range| Some(reader.chunk_of(range.start)?..=reader.chunk_of(range.end - 1)?))
            .flatten()
            .collect();
        wanted.sort_unstable();
        wanted.dedup();
        Ok(wanted.into_iter().filter_map(|index| reader.chunk_proof(index)).collect())
    }

    fn find(&self, place: &Place) -> Result<Found<'_>, Error> {
        let missing = || {
            Error::Read(ReadError::Read {
                what: place.locator.clone(),
                offset: place.span.offset,
                length: place.span.length,
                reason: "there is no such place in the bundle".into(),
            })
        };
        let (stored, codec) = match place.locator.rsplit_once('>') {
            Some((stored, name)) => (stored, Some(Codec::by_name(name).ok_or_else(missing)?)),
            None => (place.locator.as_str(), None),
        };
        if let Some(file) = self.evidence.file(stored) {
            return Ok(Found::File(file, codec));
        }
        if let Some(image) = self.evidence.memory.iter().find(|image| image.locator() == place.locator) {
            return Ok(Found::Memory(image));
        }
        let times = self.evidence.file_times.iter().find(|times| times.locator() == place.locator);
        times.map(Found::Times).ok_or_else(missing)
    }
}

/// The stream that a locator begins with.
pub fn stream_of(locator: &str) -> &str {
    locator.split(['/', ':']).next().unwrap_or(locator)
}
