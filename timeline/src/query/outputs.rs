//! The formats that answers are written in.
//!
//! `csv`, `jsonl` and `parquet` hold what the answer holds. `timesketch`, `l2tcsv` and `bodyfile` are other tools'
//! formats, made of whole events: [`Format::prepare`] asks for the columns they need.

mod bodyfile;
mod l2tcsv;
mod plain;
mod timesketch;

use std::io::Write;
use std::path::PathBuf;

use super::answer::Answer;
use super::question::{Query, Undated};
use crate::Error;
use crate::store::columns::COLUMNS;

/// A format for answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Comma-separated values with a header, as RFC 4180 has it but with LF line ends. Values stand as they are:
    /// one that begins with `=`, `+`, `-` or `@` is not defused, and a spreadsheet may run it as a formula.
    Csv,
    /// A JSON object a line.
    Jsonl,
    /// One Parquet file.
    Parquet,
    /// JSON Lines as Timesketch imports them. Rows without a time are left out: it refuses them.
    Timesketch,
    /// The 17 columns of log2timeline, header and all. Rows without a time are left out.
    L2tcsv,
    /// The Sleuth Kit's body file, version 3: a line a file, made of the rows of source `fs:stat` alone.
    Bodyfile,
}

/// What was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// Rows, or lines.
    pub rows: u64,
    /// Events that the format cannot hold.
    pub left_out: u64,
}

impl Format {
    /// Every format by its name.
    pub const ALL: [(&'static str, Format); 6] = [
        ("csv", Format::Csv),
        ("jsonl", Format::Jsonl),
        ("parquet", Format::Parquet),
        ("timesketch", Format::Timesketch),
        ("l2tcsv", Format::L2tcsv),
        ("bodyfile", Format::Bodyfile),
    ];

    /// The format of this name.
    pub fn from_name(name: &str) -> Option<Format> {
        Format::ALL.iter().find(|(n, _)| *n == name).map(|(_, format)| *format)
    }

    /// Makes a question ask for what the format needs.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] when the format cannot hold what is asked: it is for events, and these are counts.
    pub fn prepare(self, query: &mut Query) -> Result<(), Error> {
        match self {
            Format::Csv | Format::Jsonl => {}
            Format::Parquet => {
                // A Parquet time is in microseconds: what is below them goes beside it.
                let columns = &mut query.columns;
                if let Some(ts) = columns.iter().position(|name| name == "ts")
                    && !columns.iter().any(|name| name == "ts_ns")
                {
                    columns.insert(ts + 1, "ts_ns".to_owned());
                } else if columns.is_empty() {
                    let mut names = super::DEFAULT_COLUMNS.map(str::to_owned).to_vec();
                    names.insert(1, "ts_ns".to_owned());
                    *columns = names;
                }
            }
            Format::Timesketch | Format::L2tcsv | Format::Bodyfile => {
                if query.histogram.is_some() || !query.facet.is_empty() {
                    return Err(Error::Usage { what: "this format holds events, not counts of them".into() });
                }
                query.columns = COLUMNS.iter().map(|c| c.name.to_owned()).collect();
                if self == Format::Bodyfile {
                    query.source = vec![bodyfile::SOURCE.to_owned()];
                    query.undated = Undated::Last;
                }
            }
        }
        Ok(())
    }

    /// Writes an answer.
    ///
    /// All but the body file are written as the rows come; that one is a line for up to four rows, so all files
    /// are held until the end.
    ///
    /// # Errors
    ///
    /// [`Error::File`] when `out` takes no more (its `source` says whether a pipe was closed), and what the
    /// answer itself gives.
    pub fn write(self, answer: Answer, out: &mut dyn Write) -> Result<Written, Error> {
        match self {
            Format::Csv => plain::csv(answer, out),
            Format::Jsonl => plain::jsonl(answer, out),
            Format::Parquet => plain::parquet(answer, out),
            Format::Timesketch => timesketch::write(answer, out),
            Format::L2tcsv => l2tcsv::write(answer, out),
            Format::Bodyfile => bodyfile::write(answer, out),
        }
    }
}

fn unwritten(source: std::io::Error) -> Error {
    Error::File { action: "write", path: PathBuf::from("output"), source }
}

/// A field of a CSV line, in quotes where it needs them.
fn put_csv_field(line: &mut Vec<u8>, field: &str) {
    if field.contains([',', '"', '\n', '\r']) {
        line.push(b'"');
        line.extend_from_slice(field.replace('"', "\"\"").as_bytes());
        line.push(b'"');
    } else {
        line.extend_from_slice(field.as_bytes());
    }
}

/// The numbers of the columns with these names.
fn positions<const N: usize>(answer: &Answer, names: [&str; N]) -> [usize; N] {
    // A column that is not there gets a number that no row has: its value is then nothing.
    names.map(|name| answer.columns().iter().position(|c| c.name == name).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests;
