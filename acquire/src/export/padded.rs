//! A memory stream as an image that is padded by address.

use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use custody::bundle::StreamReader;

use super::chunks::each_in_order;
use super::output::{NewFile, name_all};
use super::plain::{check, hashed};
use super::{Export, Exported, refused};
use crate::error::{Error, Result};
use crate::memory::{PaddedError, write_padded};

/// What ext4 allows a file to have; physical addresses go further.
const LONGEST: u64 = 16 << 40;

/// Checks the whole stream first, then writes each range at its address.
pub(super) fn write(export: &Export<'_>, path: &Path) -> Result<Exported> {
    let stream = export.reader.stream();
    let mut file = NewFile::begin(path, false)?;
    export.progress.started(&stream.name, Some(stream.size));
    let sha256 = hashed(|hash| {
        each_in_order(
            &export.reader,
            export.threads(),
            || (),
            |(), piece| Ok(piece),
            |piece| {
                export.progress.advanced(piece.bytes().len() as u64);
                hash(piece)
            },
        )
    })?;
    check(export, sha256)?;
    let mut input = Reading { reader: &export.reader, at: 0, failed: None };
    let mut out = BufWriter::new(Handle(file.file()));
    let padded = write_padded(&mut input, &mut out, LONGEST);
    drop(out);
    let padded = match (padded, input.failed) {
        (_, Some(error)) => return Err(Error::of_reading(error)),
        (Ok(padded), None) => padded,
        (Err(PaddedError::Write { source, .. }), None) => {
            return Err(Error::Write { path: path.to_owned(), source });
        }
        (Err(error), None) => return Err(refused(error.to_string())),
    };
    file.hash_whole(padded.length)?;
    let files = name_all(vec![file.end()?], sha256)?;
    export.progress.finished();
    let mut notes = export.notes();
    notes.push(format!(
        "{} bytes in {} ranges lie at their addresses; between them are zeros that nobody read",
        padded.bytes, padded.ranges
    ));
    Ok(export.exported(sha256, files, notes))
}

/// A file that is written through a shared handle.
struct Handle<'f>(&'f std::fs::File);

impl Write for Handle<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Seek for Handle<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}

/// A stream that is read from any place on; what fails is kept, as it says more than an error of the system.
struct Reading<'r> {
    reader: &'r StreamReader,
    at: u64,
    failed: Option<custody::bundle::Error>,
}

impl Read for Reading<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.reader.read_at(self.at, buf) {
            Ok(read) => {
                self.at = self.at.saturating_add(read as u64);
                Ok(read)
            }
            Err(error) => {
                let told = io::Error::other(error.to_string());
                self.failed = Some(error);
                Err(told)
            }
        }
    }
}

impl Seek for Reading<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.reader.len().checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}
