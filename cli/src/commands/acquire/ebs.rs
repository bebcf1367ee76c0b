//! `exhibit acquire ebs`

use acquire::aws::Connection;
use acquire::aws::ec2::is_id;
use acquire::blocks::Limits;
use acquire::ebs::permissions::Permission;
use acquire::ebs::{BaseBundle, EbsSnapshot, Estimate, PRICE_REGION, Target, Trial};
use acquire::{Acquisition, Capture, Report};
use custody::bundle::{self, Base, Bundle, Overlaid};
use custody::{Case, Digest};
use serde_json::json;

use super::ebs_live::{Live, LiveArgs};
use super::{Into, acquire_into, permissions, resume_into};
use crate::amounts;
use crate::failure::{Failure, Outcome};
use crate::session::Session;
use crate::target;
use crate::ui::{self, Ui};

/// A snapshot of an EBS volume, a volume, or all volumes of an instance
///
/// No volume is made and no instance started. Every block is checked against the SHA-256 that the service gives with it.
/// What the snapshot does not hold is listed as absent.
///
/// Of a volume or an instance, snapshots are made first, which show one point in time; each is deleted again once its exhibit
/// was read back and verified. What EC2 and IAM know of an instance becomes an exhibit beside its disks. Every act in the
/// account is in the case's log.
///
/// Example: exhibit acquire ebs snap-0123456789abcdef0 --case ir-2026-017
///
/// Example: exhibit acquire ebs i-0123456789abcdef0 --case ir-2026-017
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The snapshot (snap-…), volume (vol-…) or instance (i-…)
    source: String,
    /// Read only what changed since this snapshot of the same volume
    #[arg(long, value_name = "SNAPSHOT")]
    base: Option<String>,
    /// Say what it will take, and whether it may be read; acquire nothing
    #[arg(long)]
    dry_run: bool,
    /// Go on with an acquisition of this source that was cut short in this case
    #[arg(long, conflicts_with = "dry_run")]
    resume: bool,
    /// Ask for no more blocks a second than this; the account's quota holds all the same
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    max_req: u32,
    /// Read no faster than this, such as 200MB/s or 64MiB/s
    #[arg(long, value_name = "RATE", value_parser = amounts::rate)]
    max_read: Option<u64>,
    #[command(flatten)]
    live: LiveArgs,
    #[command(flatten)]
    into: Into,
}

impl Args {
    /// Whether snapshots must be made before anything can be read.
    pub(super) fn is_live(&self) -> bool {
        matches!(self.source.parse(), Ok(Target::Volume(_) | Target::Instance(_)))
    }
}

/// Acquires a volume, or all volumes of an instance.
pub(super) fn run_live(args: &Args, session: &Session) -> Result<Outcome, Failure> {
    let target: Target = args.source.parse().map_err(|what: String| Failure::usage(what))?;
    let mut limits = Limits::default();
    limits.requests_per_second = args.max_req;
    limits.bytes_per_second = args.max_read.unwrap_or(0);
    let connection = args.into.store.cloud.connect()?;
    if args.base.is_some() {
        return Err(Failure::usage("--base goes with a snapshot, which a volume or an instance is not")
            .hint("make a snapshot of the volume, and name that: snap-…"));
    }
    if args.into.grant.is_some() {
        return Err(Failure::usage(
            "--grant is for a host without a case, and what is made in an account needs a case's log",
        )
        .hint("name the case with --case, and the evidence store with --to"));
    }
    if args.into.commission.is_some() {
        return Err(Failure::usage(
            "--commission is for a case that is elsewhere, and what is made in an account needs a case's log",
        )
        .hint("name the case with --case"));
    }
    let (into, resumes) = (&args.into, args.resume);
    let live = Live { target, connection, limits, resumes, args: &args.live, into, session };
    if args.dry_run { live.dry_run() } else { live.run() }
}

/// Acquires a snapshot; `None` if it was only to be said what that would take.
pub(super) fn run(args: &Args, session: &Session) -> Result<Option<Report>, Failure> {
    for (id, what) in [Some((&args.source, "SOURCE")), args.base.as_ref().map(|base| (base, "--base"))]
        .into_iter()
        .flatten()
    {
        if !is_id(id, "snap-") {
            return Err(Failure::usage(format!("{what} {id:?} is not the id of a snapshot"))
                .hint("name a snapshot, as snap-0123456789abcdef0"));
        }
    }
    // What is wrong here must show before anything is asked of the account.
    let case = target::open_case(&args.into.case)?;
    let connection = args.into.store.cloud.connect()?;
    let capture = opened(args, &connection, &case, session)?;
    if args.dry_run {
        let target = Target::Snapshot(args.source.clone());
        // The estimate can be had where the account itself cannot be asked.
        let found = permissions::ask(&connection, &target, &case.file().id, false);
        let found = found.unwrap_or_else(|failure| {
            session.ui.warn(&format!("the permissions could not be asked for: {}", failure.words()));
            Vec::new()
        });
        show_estimate(args, &capture, &found, session.ui)?;
        return Ok(None);
    }
    let name = args.into.name.clone().unwrap_or_else(|| args.source.clone());
    let facts = capture.facts();
    let plan = |to| Acquisition::new(capture, to);
    if args.resume {
        resume_into(&args.into, &name, session, &facts, plan).map(Some)
    } else {
        acquire_into(&args.into, &name, session, plan).map(Some)
    }
}

fn opened(
    args: &Args,
    connection: &Connection,
    case: &Case,
    session: &Session,
) -> Result<EbsSnapshot, Failure> {
    let mut limits = Limits::default();
    limits.requests_per_second = args.max_req;
    limits.bytes_per_second = args.max_read.unwrap_or(0);
    let capture = match &args.base {
        None => EbsSnapshot::open(connection, &args.source)?,
        Some(base) => {
            let stored = base_in(case, base, session)?;
            if stored.is_none() {
                session.ui.warn(&format!(
                    "no exhibit of this case holds {base}: the bundle will name the snapshot, and no bundle to build on"
                ));
            }
            let stored =
                stored.as_ref().map(|(bundle, stream)| BaseBundle { bundle, stream: stream.clone() });
            EbsSnapshot::open_since(connection, &args.source, base, stored)?
        }
    };
    Ok(capture.limits(limits).described())
}

/// The exhibit of a snapshot in a case, with all that it builds on in turn; the newest, if there are several.
fn base_in(case: &Case, snapshot: &str, session: &Session) -> Result<Option<(Bundle, Overlaid)>, Failure> {
    let identities = session.identities()?;
    let mut bundles: Vec<Bundle> = Vec::new();
    for exhibit in case.exhibits()? {
        // One that is not sealed, or is of another kind, is no base.
        bundles.extend(Bundle::open_with_identities(&exhibit.folder, identities).ok());
    }
    let open = |manifest: Option<Digest>| {
        let found = bundles.iter().find(|bundle| Some(bundle.manifest_sha256()) == manifest);
        let folder = found.and_then(|bundle| case.exhibit(&bundle.manifest().exhibit).ok());
        folder.map(|exhibit| Bundle::open_with_identities(&exhibit.folder, identities)).transpose()
    };
    for bundle in bundles.iter().rev() {
        let source = &bundle.manifest().source;
        if source.kind != "ebs" || source.path.as_deref() != Some(snapshot) {
            continue;
        }
        let find = |base: &Base| -> bundle::Result<Option<Bundle>> { open(base.manifest_sha256) };
        match Overlaid::open(bundle, "disk", find) {
            Ok(Some(stream)) => {
                let own = open(Some(bundle.manifest_sha256()))?;
                return Ok(own.map(|own| (own, stream)));
            }
            Ok(None) => session.ui.detail(&format!(
                "{} holds {snapshot}, but what it builds on itself is not in this case",
                bundle.manifest().exhibit
            )),
            Err(error) => session.ui.warn(&format!("{}: {error}", bundle.manifest().exhibit)),
        }
    }
    Ok(None)
}

/// Says what an acquisition will take.
fn show_estimate(args: &Args, capture: &EbsSnapshot, found: &[Permission], ui: Ui) -> Result<(), Failure> {
    let estimate = capture.estimate()?;
    let Estimate { volume_bytes, blocks, bytes, list_calls, seconds, nano_dollars, trial } = &estimate;
    let (tried, why) = match trial {
        Some(Trial::Read) => ("read", None),
        Some(Trial::Unreadable(failure)) => ("unreadable", Some(failure)),
        Some(Trial::NotTried(failure)) => ("not tried", Some(failure)),
        Some(Trial::NoneListed) | None => ("none listed", None),
    };
    let dollars = *nano_dollars as f64 / 1e9;
    if ui.is_json() {
        ui.document(&json!({
            "snapshot": args.source, "base": args.base, "volume_bytes": volume_bytes, "blocks": blocks, "bytes": bytes,
            "list_calls": list_calls, "requests_per_second": capture.requests_per_second(), "seconds": seconds,
            "dollars": dollars, "price_region": PRICE_REGION,
            "a_block": tried, "unreadable": why.map(ToString::to_string),
            "permissions": permissions::document(found),
        }))?;
    } else {
        let what = if args.base.is_some() { "changed blocks" } else { "blocks" };
        ui.say(&format!(
            "{}: {blocks} {what} to read, {} of a volume of {}",
            args.source,
            ui::bytes(*bytes),
            ui::bytes(*volume_bytes)
        ));
        ui.say(&format!(
            "time: {:.1} minutes at {} blocks a second, if nothing else is slower",
            *seconds as f64 / 60.0,
            capture.requests_per_second()
        ));
        ui.say(&format!(
            "cost: ${dollars:.4} for requests, at the prices of {PRICE_REGION} as a sample; other regions may differ"
        ));
        if !found.is_empty() {
            permissions::say(found, ui);
        }
    }
    let says = match trial {
        Some(Trial::Unreadable(failure)) => {
            return Err(Failure::new(failure.clone()).hint("nothing was acquired; the list could be read"));
        }
        Some(Trial::NotTried(failure)) => {
            return Err(Failure::new(failure.clone()).hint(
                "nothing was acquired; the list could be read once, but not again, so whether its blocks can be read is not known",
            ));
        }
        Some(Trial::Read) => "the list and a block of it could be read: nothing is missing to acquire it",
        Some(Trial::NoneListed) | None => {
            "the list could be read and has no block, so whether blocks can be read is not known"
        }
    };
    if !ui.is_json() {
        ui.say(says);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_its_kind_and_hexadecimal_digits() {
        assert!(is_id("snap-0123456789abcdef0", "snap-") && is_id("snap-01234567", "snap-"));
        for other in
            ["snap-", "snap-xyz", "vol-0123456789abcdef0", "snap-0123456789abcdef0/../..", "SNAP-01234567"]
        {
            assert!(!is_id(other, "snap-"), "{other}");
        }
    }
}
