//! `exhibit acquire disk`

use std::path::{Path, PathBuf};

use acquire::sources::disk::{self, DiskCapture};
use acquire::{Acquisition, Report};

use super::{Into, acquire_into, default_name};
use crate::failure::Failure;
use crate::session::Session;

/// A block device, an image, or any file; `-` is standard input
///
/// Example: exhibit acquire disk web01.raw --case ir-2026-017
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What to read; it is opened for reading only
    source: PathBuf,
    #[command(flatten)]
    into: Into,
}

pub(super) fn run(args: &Args, session: &Session) -> Result<Report, Failure> {
    let name = args.into.name.clone().unwrap_or_else(|| default_name(&args.source, "disk"));
    acquire(&args.source, &args.into, &name, session)
}

/// Acquires a disk image with the defaults; what `demo` does.
#[cfg(feature = "timeline")]
pub(crate) fn with_defaults(
    source: &Path,
    case: &Path,
    name: &str,
    session: &Session,
) -> Result<Report, Failure> {
    acquire(source, &Into::with_defaults(case), name, session)
}

fn acquire(source: &Path, into: &Into, name: &str, session: &Session) -> Result<Report, Failure> {
    let opened = disk::open(source)?;
    acquire_into(into, name, session, |to| Acquisition::new(DiskCapture::new(opened), to))
}
