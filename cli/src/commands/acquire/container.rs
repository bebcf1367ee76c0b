//! `exhibit acquire container`

use std::path::PathBuf;

use acquire::container::{ContainerCapture, ContainerOptions, ContainerRuntime};
use acquire::{Acquisition, Report};
use clap::ValueEnum;

use super::{Into, acquire_into};
use crate::amounts;
use crate::failure::Failure;
use crate::session::Session;

/// One container: processes, memory, sockets, logs, changed files
///
/// What goes first is taken first, from the host: nothing is run or written in the container. If it ends while it is
/// read, what was read is sealed and the rest is listed. ID is an id, the beginning of one, a name, NAMESPACE/ID of
/// containerd, or pid:N.
///
/// Example: exhibit acquire container 9c1f4c0e6f9b --case ir-2026-017
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Which container
    id: String,
    #[command(flatten)]
    into: Into,
    /// Who is asked for it
    #[arg(long, default_value = "auto", value_enum)]
    runtime: RuntimeName,
    /// A socket of Docker or containerd beside those at the usual places
    #[arg(long, value_name = "FILE")]
    socket: Vec<PathBuf>,
    /// A folder of runc's state (its --root) beside those at the usual places
    #[arg(long, value_name = "DIR")]
    state: Vec<PathBuf>,
    /// Freeze its processes until their memory is read, then let them go on
    #[arg(long)]
    pause: bool,
    /// Memory that is read at most; 0 for none
    #[arg(long, default_value = "16GiB", value_name = "SIZE", value_parser = size)]
    memory_limit: u64,
    /// Of the files of a root or changed layer, this much is packed; the others are listed
    #[arg(long, default_value = "16GiB", value_name = "SIZE", value_parser = size)]
    files_limit: u64,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum RuntimeName {
    /// All that are there, else control groups
    Auto,
    /// Docker and Podman
    Docker,
    /// containerd
    Containerd,
    /// The state of runc or crun on disk
    Runc,
}

fn size(text: &str) -> Result<u64, String> {
    if text == "0" { Ok(0) } else { amounts::part(text) }
}

pub(super) fn run(args: &Args, session: &Session) -> Result<Report, Failure> {
    let mut options = ContainerOptions::default();
    options.runtime = match args.runtime {
        RuntimeName::Auto => ContainerRuntime::Auto,
        RuntimeName::Docker => ContainerRuntime::Docker,
        RuntimeName::Containerd => ContainerRuntime::Containerd,
        RuntimeName::Runc => ContainerRuntime::Runc,
    };
    options.sockets.clone_from(&args.socket);
    options.states.clone_from(&args.state);
    options.pause = args.pause;
    options.memory = args.memory_limit;
    options.files = args.files_limit;
    let capture = ContainerCapture::find(&args.id, options).map_err(|error| {
        Failure::new(error).hint("`exhibit acquire triage --artefact containers` lists what runs here")
    })?;
    let process = capture.pid().map_or_else(|| "it does not run".to_owned(), |pid| format!("process {pid}"));
    session.ui.say(&format!("container {} by {}: {process}", capture.id(), capture.runtimes()));
    let name = args.into.name.clone().unwrap_or_else(|| {
        let short: String = capture.id().chars().take(12).collect();
        format!("container-{short}")
    });
    acquire_into(&args.into, &name, session, |to| Acquisition::new(capture, to))
}
