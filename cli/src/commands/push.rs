//! `exhibit push`: a sealed bundle of this machine as a copy in an evidence store.

use std::path::Path;

use acquire::s3_store::{Pace, Push, Pushed, S3LogMirror};
use custody::aftercare::NewCopy;
use custody::bundle::RemotePlace;
use custody::verify::Options;
use custody::{Case, CustodyLog};
use serde_json::json;

use crate::cloud_args::CloudArgs;
use crate::failure::{Failure, Outcome};
use crate::progress_bar::{Bars, Unit};
use crate::session::Session;
use crate::store_writing::{ChosenStore, LockArgs, choose};
use crate::target::Target;
use crate::ui;

/// Copy a sealed bundle to an evidence store, or put what its log lacks there
///
/// The bundle is verified first, and every file is hashed again while it is sent; each object is put once and never
/// replaced. Given again, it puts what is missing: after an interruption, or when the log has gone on.
///
/// Example: exhibit push ir-2026-017:E001 s3://evidence/ir-2026-017
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A bundle's folder, or CASE:E001
    #[arg(value_name = "BUNDLE")]
    bundle: String,
    /// Where to: the bundle lies below it, under its own name
    #[arg(value_name = "s3://BUCKET/PREFIX", required_unless_present = "log", conflicts_with = "log")]
    to: Option<String>,
    /// Only put the entries that the log of an exhibit lacks in the store that it was acquired to
    #[arg(long)]
    log: bool,
    /// What for; the case's log says so
    #[arg(long, value_name = "TEXT", default_value = "")]
    purpose: String,
    /// By whose order
    #[arg(long, value_name = "TEXT", default_value = "")]
    authority: String,
    #[command(flatten)]
    lock: LockArgs,
    #[command(flatten)]
    cloud: CloudArgs,
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Failure> {
    let target = Target::open(&args.bundle)?;
    let Target::Bundle { folder, case } = &target else {
        return Err(Failure::usage(format!("{:?} is a case: name one of its exhibits", args.bundle))
            .hint(format!("such as {}:E001; `exhibit list` shows them", args.bundle)));
    };
    match &args.to {
        Some(to) => push(args, to, folder, case.as_deref(), session),
        None => put_log(args, folder, case.as_deref(), session),
    }
}

/// Puts what the log lacks.
fn put_log(args: &Args, folder: &Path, case: Option<&Case>, session: &Session) -> Result<Outcome, Failure> {
    let Some(place) = RemotePlace::read(folder)? else {
        return Err(Failure::usage("all of this bundle lies here: it was not acquired to an evidence store")
            .hint("name the place to copy it to: exhibit push BUNDLE s3://BUCKET/PREFIX"));
    };
    let connection = args.cloud.connect_to(&place)?;
    let mirror = S3LogMirror::over(&connection, Pace::default(), |_, _| {});
    let key = session.key()?;
    let writer = session.writer(&key, case).mirrored_by(&mirror);
    let there = CustodyLog::open(folder)?.put_missing(&writer)?;
    let entries = there.map_or(0, |there| there.entries);
    if session.ui.is_json() {
        session.ui.document(&json!({"place": place.to_string(), "entries": entries}))?;
    } else {
        session.ui.say(&format!("all {} of the log are there", ui::count(entries, "entry", "entries")));
        session.ui.data(&place.to_string())?;
    }
    Ok(Outcome::Done)
}

fn push(
    args: &Args,
    to: &str,
    folder: &Path,
    case: Option<&Case>,
    session: &Session,
) -> Result<Outcome, Failure> {
    let ChosenStore { connection, place } = choose(to, &args.lock, &args.cloud, session.ui)?;
    let push = Push::new(&connection, folder, &place, Pace::default())?;
    let bars = Bars::waiting(session.ui, "verifying");
    let options = Options { identities: session.identities()?.clone(), ..Options::default() };
    let verification = custody::verify::verify(folder, &options)?;
    drop(bars);
    if verification.fault_count > 0 {
        for fault in verification.faults.iter().take(5) {
            session.ui.warn(&fault.to_string());
        }
        session.ui.failure(
            &Failure::new(format!("{} does not verify, so nothing of it was sent", folder.display()))
                .hint("`exhibit verify` tells all faults"),
        );
        return Ok(Outcome::NotVerified);
    }
    let bars = Bars::new(session.ui, Unit::Bytes);
    let pushed = push.run(&bars);
    drop(bars);
    let pushed = pushed.map_err(|error| {
        Failure::new(error).hint("what was sent is there: the same command goes on from there")
    })?;
    let copy = match case.filter(|_| pushed.files > 0) {
        Some(case) => Some(record(args, &pushed, folder, case, session)?),
        None => None,
    };
    show(&pushed, copy.as_deref(), session)
}

/// The entry `copy.made` in the case's log; gives the id of the copy.
fn record(
    args: &Args,
    pushed: &Pushed,
    folder: &Path,
    case: &Case,
    session: &Session,
) -> Result<String, Failure> {
    let exhibits = case.exhibits()?;
    let is_here = |other: &Path| other.canonicalize().ok() == folder.canonicalize().ok();
    let exhibit = exhibits.into_iter().find(|exhibit| is_here(&exhibit.folder));
    let exhibit = exhibit.ok_or_else(|| Failure::new("the bundle is no exhibit of the case around it"))?;
    let new = NewCopy {
        exhibit: exhibit.id,
        place: pushed.place.clone(),
        means: format!(
            "exhibit push: {} and {} put, each file hashed while it was sent; {} there with the same checksum, {} there and \
             not compared",
            ui::count(pushed.files, "object", "objects"),
            ui::bytes(pushed.bytes),
            pushed.same,
            pushed.not_compared
        ),
        authority: args.authority.clone(),
        purpose: args.purpose.clone(),
        ..NewCopy::default()
    };
    let key = session.key()?;
    Ok(case.copy_exhibit(&new, &Options::default(), &session.writer(&key, Some(case)))?.id)
}

fn show(pushed: &Pushed, copy: Option<&str>, session: &Session) -> Result<Outcome, Failure> {
    let ui = session.ui;
    if ui.is_json() {
        ui.document(&json!({
            "place": pushed.place, "files": pushed.files, "bytes": pushed.bytes, "same": pushed.same,
            "not_compared": pushed.not_compared, "left_behind": pushed.left_behind, "copy": copy,
        }))?;
        return Ok(outcome(pushed));
    }
    match pushed.files {
        0 => ui.say("everything is there already"),
        files => {
            ui.say(&format!("put {}, {}", ui::count(files, "object", "objects"), ui::bytes(pushed.bytes)));
        }
    }
    if pushed.same > 0 && pushed.files > 0 {
        let same = ui::count(pushed.same, "object was", "objects were");
        ui.say(&format!("{same} there already, with the same checksum"));
    }
    if pushed.not_compared > 0 {
        let there = ui::count(pushed.not_compared, "object was", "objects were");
        ui.warn(&format!(
            "{there} there already and could not be compared: verify with a role that may read"
        ));
    }
    for left in &pushed.left_behind {
        ui.warn(left);
    }
    match copy {
        Some(copy) => ui.say(&format!("{copy} is in the log of the case")),
        None if pushed.files > 0 => ui.warn("not logged: this is done outside a case"),
        None => {}
    }
    ui.data(&pushed.place)?;
    Ok(outcome(pushed))
}

fn outcome(pushed: &Pushed) -> Outcome {
    if pushed.not_compared > 0 || !pushed.left_behind.is_empty() {
        Outcome::WithIssues
    } else {
        Outcome::Done
    }
}
