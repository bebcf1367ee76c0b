//! `exhibit completions`: shell completions, from the table of commands.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::Cli;
use crate::failure::{Failure, Outcome};
use crate::session::Session;

/// Print shell completions
///
/// Example: exhibit completions bash > /etc/bash_completion.d/exhibit
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The shell
    shell: Shell,
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Failure> {
    clap_complete::generate(args.shell, &mut Cli::command(), "exhibit", &mut session.ui.stream());
    Ok(Outcome::Done)
}
