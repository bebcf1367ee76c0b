//! The `exhibit` command.
#![forbid(unsafe_code)]

#[cfg(feature = "serve")]
mod alert_file;
mod amounts;
mod args;
#[cfg(feature = "cloud")]
mod cloud_args;
mod commands;
mod failure;
mod identity;
mod interrupt;
mod parent;
#[cfg(feature = "serve")]
mod plan_words;
mod progress_bar;
#[cfg(feature = "cloud")]
mod secret_text;
mod session;
mod signing_key;
#[cfg(feature = "cloud")]
mod store_reading;
#[cfg(feature = "cloud")]
mod store_writing;
mod target;
mod ui;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = args::Cli::parse();
    let session = session::Session::new(&cli.global);
    let held = parent::follow(&cli.global);
    match held.and_then(|_held| cli.command.run(&session)) {
        Ok(outcome) => outcome.into(),
        Err(failure) if failure.is_broken_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            session.ui.failure(&failure);
            failure.exit_code()
        }
    }
}
