//! The command line: global options and the table of commands.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::commands;
use crate::failure::{Failure, Outcome};
use crate::session::Session;

/// Captures evidence into signed bundles with a custody log, and reads them into one timeline
///
/// Start with `exhibit demo`, or with `exhibit init CASE --name NAME --examiner YOU`.
#[derive(Debug, Parser)]
#[command(
    name = "exhibit",
    version,
    max_term_width = 100,
    arg_required_else_help = true,
    propagate_version = true
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Global {
    /// Print one JSON document, or JSON Lines, on stdout
    #[arg(long, global = true, help_heading = "Global options")]
    pub(crate) json: bool,
    /// Say nothing but warnings and errors
    #[arg(short, long, global = true, help_heading = "Global options")]
    pub(crate) quiet: bool,
    /// Say more of what is done
    #[arg(short, long, global = true, help_heading = "Global options")]
    pub(crate) verbose: bool,
    /// Draw no progress bars
    #[arg(long, global = true, help_heading = "Global options")]
    pub(crate) no_progress: bool,
    /// Sign with this key: a private key file (PKCS#8 PEM or OpenSSH), or agent:SHA256:… for one that the ssh-agent keeps
    #[arg(long, global = true, value_name = "FILE|agent:FINGERPRINT", help_heading = "Global options")]
    pub(crate) key: Option<String>,
    /// Sign by this shell command: the bytes to sign on its stdin, 64 raw or base64 bytes of Ed25519 on its stdout
    #[arg(long, global = true, value_name = "CMD", help_heading = "Global options")]
    pub(crate) sign_cmd: Option<String>,
    /// The public key that --sign-cmd signs with, PEM or .pub; every signature is verified with it
    #[arg(long, global = true, value_name = "PUB", help_heading = "Global options")]
    pub(crate) sign_key: Option<PathBuf>,
    /// Open encrypted bundles with the age keys in this file, as age-keygen writes it; may be given again
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    pub(crate) identity: Vec<PathBuf>,
    /// End when the process of this id does, which must be the parent
    #[arg(long, global = true, hide = true, value_name = "PID")]
    pub(crate) die_with_parent: Option<i32>,
    /// Share the lock on this file until the end
    #[arg(long, global = true, hide = true, value_name = "FILE")]
    pub(crate) while_holding: Option<PathBuf>,
}

/// The table of commands, in the order of the help. Each one's help is the documentation of its `Args`.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Init(commands::init::Args),
    Acquire(commands::acquire::Args),
    List(commands::list::Args),
    Verify(commands::verify::Args),
    #[cfg(feature = "timeline")]
    Timeline(commands::timeline::Args),
    #[cfg(feature = "timeline")]
    Parsers(commands::parsers::Args),
    #[cfg(feature = "timeline")]
    Query(commands::query::Args),
    #[cfg(feature = "timeline")]
    Sql(commands::sql::Args),
    #[cfg(feature = "timeline")]
    Show(commands::show::Args),
    Custody(commands::custody::Args),
    Report(commands::report::Args),
    Export(commands::export::Args),
    #[cfg(feature = "cloud")]
    Pull(commands::pull::Args),
    #[cfg(feature = "cloud")]
    Grant(commands::grant::Args),
    #[cfg(feature = "cloud")]
    Push(commands::push::Args),
    #[cfg(feature = "serve")]
    Isolate(commands::isolate::Args),
    #[cfg(feature = "serve")]
    Jobs(commands::jobs::Args),
    #[cfg(feature = "serve")]
    Stats(commands::stats::Args),
    Commission(commands::commission::Args),
    #[cfg(feature = "serve")]
    Serve(commands::serve::Args),
    #[cfg(feature = "serve")]
    Capture(commands::capture::Args),
    #[cfg(feature = "serve")]
    Rules(commands::rules::Args),
    #[cfg(feature = "serve")]
    Inventory(commands::inventory::Args),
    Key(commands::key::Args),
    Selftest(commands::selftest::Args),
    #[cfg(feature = "serve")]
    Ready(commands::ready::Args),
    #[cfg(feature = "serve")]
    Exercise(commands::exercise::Args),
    #[cfg(feature = "timeline")]
    Demo(commands::demo::Args),
    Completions(commands::completions::Args),
    Man(commands::man::Args),
}

impl Command {
    /// Runs the command.
    pub(crate) fn run(&self, session: &Session) -> Result<Outcome, Failure> {
        match self {
            Command::Init(args) => commands::init::run(args, session),
            Command::Acquire(args) => commands::acquire::run(args, session),
            Command::List(args) => commands::list::run(args, session),
            Command::Verify(args) => commands::verify::run(args, session),
            #[cfg(feature = "timeline")]
            Command::Timeline(args) => commands::timeline::run(args, session),
            #[cfg(feature = "timeline")]
            Command::Parsers(args) => commands::parsers::run(args, session),
            #[cfg(feature = "timeline")]
            Command::Query(args) => commands::query::run(args, session),
            #[cfg(feature = "timeline")]
            Command::Sql(args) => commands::sql::run(args, session),
            #[cfg(feature = "timeline")]
            Command::Show(args) => commands::show::run(args, session),
            Command::Custody(args) => commands::custody::run(args, session),
            Command::Report(args) => commands::report::run(args, session),
            Command::Export(args) => commands::export::run(args, session),
            #[cfg(feature = "cloud")]
            Command::Pull(args) => commands::pull::run(args, session),
            #[cfg(feature = "cloud")]
            Command::Grant(args) => commands::grant::run(args, session),
            #[cfg(feature = "cloud")]
            Command::Push(args) => commands::push::run(args, session),
            #[cfg(feature = "serve")]
            Command::Isolate(args) => commands::isolate::run(args, session),
            #[cfg(feature = "serve")]
            Command::Jobs(args) => commands::jobs::run(args, session),
            #[cfg(feature = "serve")]
            Command::Stats(args) => commands::stats::run(args, session),
            Command::Commission(args) => commands::commission::run(args, session),
            #[cfg(feature = "serve")]
            Command::Serve(args) => commands::serve::run(args, session),
            #[cfg(feature = "serve")]
            Command::Capture(args) => commands::capture::run(args, session),
            #[cfg(feature = "serve")]
            Command::Rules(args) => commands::rules::run(args, session),
            #[cfg(feature = "serve")]
            Command::Inventory(args) => commands::inventory::run(args, session),
            Command::Key(args) => commands::key::run(args, session),
            Command::Selftest(args) => commands::selftest::run(args, session),
            #[cfg(feature = "serve")]
            Command::Ready(args) => commands::ready::run(args, session),
            #[cfg(feature = "serve")]
            Command::Exercise(args) => commands::exercise::run(args, session),
            #[cfg(feature = "timeline")]
            Command::Demo(args) => commands::demo::run(args, session),
            Command::Completions(args) => commands::completions::run(args, session),
            Command::Man(args) => commands::man::run(args, session),
        }
    }
}
