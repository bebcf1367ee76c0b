//! `exhibit acquire azure-disk`

use std::path::PathBuf;

use acquire::remote_images::{PageBlob, SecretUrl};
use acquire::sources::disk::DiskCapture;
use acquire::sources::paced::Rate;
use acquire::{Acquisition, Report};

use super::{Into, acquire_into, default_name, resume_into};
use crate::amounts;
use crate::failure::Failure;
use crate::secret_text;
use crate::session::Session;

/// The variable that holds the address where there is no file.
const VARIABLE: &str = "EXHIBIT_AZURE_SAS";

/// A disk of Azure by a shared access signature (SAS): a snapshot, or a page blob
///
/// `az snapshot grant-access --access-level Read …` prints the address. It lets whoever has it read the disk, so it is
/// read from a file, from standard input (-), or from the variable EXHIBIT_AZURE_SAS, and is never kept or shown.
/// Pages that were never written are listed as absent, to the page. Tested only against Azurite, never against Azure.
///
/// Example: exhibit acquire azure-disk --sas-file sas.txt --case ir-2026-017
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The file that holds the address with its SAS, https://….blob.core.windows.net/…?sv=…&sig=…; - is standard input
    #[arg(long, value_name = "FILE")]
    sas_file: Option<PathBuf>,
    /// Read only what has changed since this snapshot of the same blob: its time, as 2026-11-21T01:30:00.1234567Z
    #[arg(long, value_name = "TIME")]
    since_snapshot: Option<String>,
    /// Go on with an acquisition of this disk that was cut short in this case; the SAS may be a new one
    #[arg(long)]
    resume: bool,
    /// Read no faster than this, such as 200MB/s or 64MiB/s
    #[arg(long, value_name = "RATE", value_parser = amounts::rate)]
    max_read: Option<u64>,
    #[command(flatten)]
    into: Into,
}

pub(super) fn run(args: &Args, session: &Session) -> Result<Report, Failure> {
    let text = match &args.sas_file {
        Some(file) => secret_text::read(file, "the SAS")?,
        None => secret_text::of_environment(VARIABLE).ok_or_else(|| {
            Failure::usage("no SAS is given")
                .hint(format!("name its file with --sas-file, or set {VARIABLE}"))
        })?,
    };
    let url = SecretUrl::parse(&text)
        .map_err(|error| Failure::usage(format!("the SAS cannot be used: {error}")))?;
    let name = match &args.into.name {
        Some(name) => name.clone(),
        None => default_name(url.shown().rsplit('/').next().unwrap_or_default().as_ref(), "disk"),
    };
    let source = PageBlob::open(url, args.since_snapshot.as_deref())?;
    let facts = source.facts();
    let capture = DiskCapture::new(source).rate(Rate::of(args.max_read.unwrap_or(0)));
    let plan = |to| Acquisition::new(capture, to);
    if args.resume {
        resume_into(&args.into, &name, session, &facts, plan)
    } else {
        acquire_into(&args.into, &name, session, plan)
    }
}
