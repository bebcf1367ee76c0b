//! `exhibit acquire disk`

#[cfg(feature = "timeline")]
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use acquire::sources::disk::{self, DiskCapture};
use acquire::sources::paced::Rate;
use acquire::sources::subset::Subset;
use acquire::{Acquisition, Patience, Report};

use super::{Into, acquire_into, default_name, resume_into};
use crate::amounts;
use crate::failure::Failure;
use crate::session::Session;

/// A block device, an image, or any file; `-` is standard input
///
/// Of a split image (`image.001 image.002 …`, `.aa .ab …`) any part stands for all of them. Bad areas are tried again
/// down to single sectors; what stays unreadable is zeros, and listed.
///
/// Example: exhibit acquire disk web01.raw --case ir-2026-017
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What to read; it is opened for reading only
    source: PathBuf,
    /// Go on with an acquisition of this source that was cut short in this case
    #[arg(long)]
    resume: bool,
    /// Read no faster than this, such as 200MB/s or 64MiB/s
    #[arg(long, value_name = "RATE", value_parser = amounts::rate)]
    max_read: Option<u64>,
    /// Time that failing reads may take altogether; after it, bad areas are listed without trying each sector
    #[arg(long, default_value = "1h", value_name = "TIME", value_parser = amounts::span)]
    bad_area_time: Duration,
    /// Begin here: bytes, or sectors of 512 bytes as in 2048s
    #[arg(long, value_name = "PLACE", value_parser = amounts::place)]
    offset: Option<u64>,
    /// Read this much: bytes, or sectors of 512 bytes [default: to the end]
    #[arg(long, value_name = "LENGTH", value_parser = amounts::place)]
    length: Option<u64>,
    /// Take SOURCE alone, though its name looks like a part of a split image
    #[arg(long)]
    one_file: bool,
    #[command(flatten)]
    into: Into,
}

pub(super) fn run(args: &Args, session: &Session) -> Result<Report, Failure> {
    let name = args.into.name.clone().unwrap_or_else(|| default_name(&args.source, "disk"));
    let opened = if args.one_file { disk::open_alone(&args.source) } else { disk::open(&args.source) };
    let mut source = opened.map_err(|error| match error {
        error @ acquire::Error::MissingPart { .. } => {
            Failure::new(error).hint("with --one-file SOURCE is taken alone, as it is")
        }
        error => Failure::new(error),
    })?;
    if args.offset.is_some() || args.length.is_some() {
        source = Box::new(Subset::new(source, args.offset.unwrap_or(0), args.length)?);
    }
    let (is_seekable, facts) = (source.is_seekable(), source.facts());
    let capture = DiskCapture::new(source)
        .patience(Patience::of(args.bad_area_time))
        .rate(Rate::of(args.max_read.unwrap_or(0)));
    let plan = |to| Acquisition::new(capture, to);
    if !args.resume {
        return acquire_into(&args.into, &name, session, plan);
    }
    if !is_seekable {
        return Err(Failure::usage("a stream gives each byte once, so there is nothing to resume")
            .hint("acquire it anew, or name a file or device"));
    }
    resume_into(&args.into, &name, session, &facts, plan)
}

/// Acquires a disk image with the defaults; what `demo` does.
#[cfg(feature = "timeline")]
pub(crate) fn with_defaults(
    source: &Path,
    case: &Path,
    name: &str,
    session: &Session,
) -> Result<Report, Failure> {
    let capture = DiskCapture::new(disk::open(source)?);
    acquire_into(&Into::with_defaults(case), name, session, |to| Acquisition::new(capture, to))
}
