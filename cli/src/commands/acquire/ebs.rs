//! `exhibit acquire ebs`

use acquire::blocks::Limits;
use acquire::ebs::EbsSnapshot;
use acquire::{Acquisition, Capture, Report};

use super::{Into, acquire_into, resume_into};
use crate::amounts;
use crate::cloud_args::CloudArgs;
use crate::failure::Failure;
use crate::session::Session;

/// A snapshot of an EBS volume, read block by block
///
/// No volume is made and no instance started. Every block is checked against the SHA-256 that the service gives with it.
/// What the snapshot does not hold is listed as absent.
///
/// Example: exhibit acquire ebs snap-0123456789abcdef0 --case ir-2026-017
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The snapshot: snap-…
    source: String,
    /// Go on with an acquisition of this snapshot that was cut short in this case
    #[arg(long)]
    resume: bool,
    /// Ask for no more blocks a second than this
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    max_req: u32,
    /// Read no faster than this, such as 200MB/s or 64MiB/s
    #[arg(long, value_name = "RATE", value_parser = amounts::rate)]
    max_read: Option<u64>,
    #[command(flatten)]
    cloud: CloudArgs,
    #[command(flatten)]
    into: Into,
}

pub(super) fn run(args: &Args, session: &Session) -> Result<Report, Failure> {
    if !is_id(&args.source, "snap-") {
        return Err(Failure::usage(format!("{:?} is not the id of a snapshot", args.source))
            .hint("name a snapshot, as snap-0123456789abcdef0"));
    }
    let connection = args.cloud.connect()?;
    let mut limits = Limits::default();
    limits.requests_per_second = args.max_req;
    limits.bytes_per_second = args.max_read.unwrap_or(0);
    let capture = EbsSnapshot::open(&connection, &args.source)?.limits(limits);
    let name = args.into.name.clone().unwrap_or_else(|| args.source.clone());
    let facts = capture.facts();
    let plan = |to| Acquisition::new(capture, to);
    if args.resume {
        resume_into(&args.into, &name, session, &facts, plan)
    } else {
        acquire_into(&args.into, &name, session, plan)
    }
}

/// Whether a text is an id of EC2: a kind and hexadecimal digits.
fn is_id(text: &str, kind: &str) -> bool {
    text.strip_prefix(kind).is_some_and(|digits| {
        (8..=32).contains(&digits.len())
            && digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
    })
}
