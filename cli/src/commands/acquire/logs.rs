//! `exhibit acquire logs`

use std::path::PathBuf;

use acquire::sources::files::FilesSource;
use acquire::{Acquisition, Report};

use super::{Into, acquire_into, default_name};
use crate::failure::Failure;
use crate::session::Session;

/// Files and folders, with every inode field, as a PAX tar
///
/// Below a root with etc/ and var/, the files that name the host and its time zone are taken too.
///
/// Example: exhibit acquire logs /var/log --case ir-2026-017
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Files and folders
    #[arg(required = true)]
    path: Vec<PathBuf>,
    #[command(flatten)]
    into: Into,
}

pub(super) fn run(args: &Args, session: &Session) -> Result<Report, Failure> {
    let files = FilesSource::new(&args.path)?;
    let name = args.into.name.clone().unwrap_or_else(|| {
        args.path.first().map_or_else(|| "logs".to_owned(), |first| default_name(first, "logs"))
    });
    acquire_into(&args.into, &name, session, |to| Acquisition::new(files, to))
}

/// Acquires files with the defaults; what `demo` does.
#[cfg(feature = "timeline")]
pub(crate) fn with_defaults(
    path: &std::path::Path,
    case: &std::path::Path,
    name: &str,
    session: &Session,
) -> Result<Report, Failure> {
    let files = FilesSource::new(&[path.to_owned()])?;
    acquire_into(&Into::with_defaults(case), name, session, |to| Acquisition::new(files, to))
}
