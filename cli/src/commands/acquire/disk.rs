//! `exhibit acquire disk`

#[cfg(feature = "timeline")]
use std::path::Path;
use std::path::PathBuf;

use acquire::sources::disk::{self, DiskCapture};
use acquire::{Acquisition, Report};

use super::{Into, acquire_into, default_name, resume_into};
use crate::failure::Failure;
use crate::session::Session;

/// A block device, an image, or any file; `-` is standard input
///
/// Example: exhibit acquire disk web01.raw --case ir-2026-017
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What to read; it is opened for reading only
    source: PathBuf,
    /// Go on with an acquisition of this source that was cut short in this case
    #[arg(long)]
    resume: bool,
    #[command(flatten)]
    into: Into,
}

pub(super) fn run(args: &Args, session: &Session) -> Result<Report, Failure> {
    let name = args.into.name.clone().unwrap_or_else(|| default_name(&args.source, "disk"));
    let source = disk::open(&args.source)?;
    if !args.resume {
        return acquire_into(&args.into, &name, session, |to| Acquisition::new(DiskCapture::new(source), to));
    }
    if !source.is_seekable() {
        return Err(Failure::usage("a stream gives each byte once, so there is nothing to resume")
            .hint("acquire it anew, or name a file or device"));
    }
    let facts = source.facts();
    resume_into(&args.into, &name, session, &facts, |to| Acquisition::new(DiskCapture::new(source), to))
}

/// Acquires a disk image with the defaults; what `demo` does.
#[cfg(feature = "timeline")]
pub(crate) fn with_defaults(
    source: &Path,
    case: &Path,
    name: &str,
    session: &Session,
) -> Result<Report, Failure> {
    let opened = disk::open(source)?;
    let into = Into::with_defaults(case);
    acquire_into(&into, name, session, |to| Acquisition::new(DiskCapture::new(opened), to))
}
