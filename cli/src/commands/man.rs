//! `exhibit man`: the manual pages, from the table of commands.

use std::path::PathBuf;

use clap::CommandFactory;

use crate::args::Cli;
use crate::failure::{Failure, Outcome};
use crate::session::Session;

/// Write the manual pages, one for each command, into a folder
///
/// Example: exhibit man /usr/local/share/man/man1
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder; it is made if it is not there
    dir: PathBuf,
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Failure> {
    std::fs::create_dir_all(&args.dir)
        .map_err(|e| Failure::new(e).hint(format!("is {:?} a folder you may write to?", args.dir)))?;
    clap_mangen::generate_to(Cli::command(), &args.dir)?;
    session.ui.say(&format!("the manual pages are in {}", args.dir.display()));
    Ok(Outcome::Done)
}
