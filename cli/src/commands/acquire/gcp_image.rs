//! `exhibit acquire gcp-image`

use std::path::{Path, PathBuf};

use acquire::remote_images::{Bearer, ImageObject, SecretUrl};
use acquire::sources::disk::DiskCapture;
use acquire::sources::paced::Rate;
use acquire::{Acquisition, Report};

use super::{Into, acquire_into, default_name, resume_into};
use crate::amounts;
use crate::failure::Failure;
use crate::secret_text;
use crate::session::Session;

/// Where Google's storage gives out objects.
const STORAGE: &str = "https://storage.googleapis.com";

/// An image that was exported to a bucket: disk.raw in a tar.gz, or a raw image
///
/// `gcloud compute images export --image I --destination-uri gs://bucket/web01.tar.gz` makes one. Holes in the tar are
/// listed as absent. An address that is signed is a secret: it is read from a file or from standard input (-).
/// Never tested against Google's own storage.
///
/// Example: exhibit acquire gcp-image gs://evidence/web01.tar.gz --token-file token.txt --case ir-2026-017
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// gs://bucket/object, or an address of any HTTPS server that gives ranges, without a signature in it
    #[arg(required_unless_present = "url_file", conflicts_with = "url_file")]
    url: Option<String>,
    /// The file that holds a signed address; - is standard input
    #[arg(long, value_name = "FILE")]
    url_file: Option<PathBuf>,
    /// The file that holds a token, as `gcloud auth print-access-token` prints it; - is standard input
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Go on with an acquisition of this object that was cut short in this case; a tar.gz is begun anew
    #[arg(long)]
    resume: bool,
    /// Read no faster than this, such as 200MB/s or 64MiB/s
    #[arg(long, value_name = "RATE", value_parser = amounts::rate)]
    max_read: Option<u64>,
    #[command(flatten)]
    into: Into,
}

pub(super) fn run(args: &Args, session: &Session) -> Result<Report, Failure> {
    let url = address(args)?;
    let bearer = match &args.token_file {
        Some(file) => Some(
            Bearer::parse(&secret_text::read(file, "the token")?)
                .ok_or_else(|| Failure::usage(format!("{} does not hold a token", file.display())))?,
        ),
        None => None,
    };
    let name = match &args.into.name {
        Some(name) => name.clone(),
        None => {
            let last = url.shown().rsplit('/').next().unwrap_or_default();
            default_name(Path::new(last.trim_end_matches(".gz")), "disk")
        }
    };
    let source = ImageObject::open(url, bearer)?;
    let (is_seekable, facts) = (source.is_seekable(), source.facts());
    let capture = DiskCapture::new(source).rate(Rate::of(args.max_read.unwrap_or(0)));
    let plan = |to| Acquisition::new(capture, to);
    if !args.resume {
        return acquire_into(&args.into, &name, session, plan);
    }
    if !is_seekable {
        return Err(Failure::usage("an archive gives each byte once, so there is nothing to resume")
            .hint("acquire it anew, or export the image without compression"));
    }
    resume_into(&args.into, &name, session, &facts, plan)
}

fn address(args: &Args) -> Result<SecretUrl, Failure> {
    let parsed = |text: &str| {
        SecretUrl::parse(text).map_err(|error| Failure::usage(format!("the address cannot be used: {error}")))
    };
    if let Some(file) = &args.url_file {
        return parsed(&secret_text::read(file, "the signed address")?);
    }
    let given = args.url.as_deref().unwrap_or_default();
    let url = match given.strip_prefix("gs://") {
        Some(rest) => parsed(&format!("{STORAGE}/{rest}"))?,
        None => parsed(given)?,
    };
    if url.has_query() {
        return Err(Failure::usage(
            "the address has a query, which may be a signature: every process list shows it",
        )
        .hint("write the address into a file and name it with --url-file"));
    }
    Ok(url)
}
