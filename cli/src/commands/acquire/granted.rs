//! An acquisition on a host that has a grant and no case: `acquire … --grant FILE`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use acquire::s3_store::{Grant, GrantedKind, Pace, S3LogMirror, S3Store};
use acquire::{Acquisition, Destination, OpenAcquisition, PipelineOptions, Report};
use custody::case_layout;
use custody::{Identity, Writer};

use super::{Into, recipients};
use crate::commands::grant;
use crate::failure::{Failure, chain};
use crate::identity;
use crate::interrupt;
use crate::progress_bar::{Bars, Unit};
use crate::session::Session;

/// Where the log and tables of a granted acquisition lie until it is sealed.
fn folder(grant: &Grant, log_in: Option<&Path>) -> PathBuf {
    let granted = grant.granted();
    let name = case_layout::exhibit_folder_name(&granted.exhibit, &granted.name);
    log_in.unwrap_or(Path::new(".")).join(name)
}

/// Acquires into the place that a grant is for, or goes on there.
pub(super) fn run(
    file: &Path,
    into: &Into,
    session: &Session,
    plan: impl FnOnce(Destination) -> Acquisition<'static>,
    resumes: bool,
) -> Result<Report, Failure> {
    let grant = grant::read(file)?;
    if grant.has_ended() {
        // This host may be under suspicion, and its clock with it.
        session.ui.warn(&format!(
            "by this host's clock the grant ended at {}; the store decides. If it has: exhibit grant --renew GRANT",
            grant.expires()
        ));
    }
    if into.verify_after {
        return Err(Failure::usage("with a grant nothing can be read back, so --verify-after cannot be had")
            .hint("who made the grant verifies the exhibit after closing it"));
    }
    let granted = grant.granted();
    if into.name.as_ref().is_some_and(|name| *name != granted.name) {
        return Err(Failure::usage(format!("the grant is for an exhibit called {:?}", granted.name)));
    }
    let folder = folder(&grant, into.log_in.as_deref());
    let (key, is_new) = session.key_or_new()?;
    let destination = Destination {
        folder: folder.clone(),
        exhibit: granted.exhibit.clone(),
        name: granted.name.clone(),
        case: Some(granted.case.clone()),
    };
    let plan = plan(destination);
    fits(&grant, &plan)?;
    let organisation = Some(granted.organisation.as_str());
    let identity = Identity {
        case: Some(granted.case.clone()),
        ..identity::of_this_run(&granted.examiner, organisation)
    };
    let mirror = S3LogMirror::granted(&grant, Pace::default())?;
    let writer = Writer::new(&key, &session.clock, identity).mirrored_by(&mirror);
    let store = if resumes {
        S3Store::take_up_granted(&grant, &folder, Pace::default())?
    } else {
        std::fs::create_dir(&folder).map_err(|error| {
            Failure::new(format!("{} cannot be made: {error}", folder.display()))
                .hint("a grant is good for one acquisition; one that was cut short goes on with --resume")
        })?;
        S3Store::begin_granted(&grant, &folder, Pace::default())?
    };
    let mut options = PipelineOptions::default();
    (options.cut.chunk_size, options.level) = (into.chunk_size, into.level);
    let to = grant.place().to_string();
    session.ui.say(&format!("{} goes to {to}: {}", granted.exhibit, grant.limits()));
    let fingerprint = key.verifying_key().fingerprint();
    let made = if is_new { "by a key made here" } else { "by" };
    session.ui.say(&format!("its log is signed {made}: {fingerprint}; tell who made the grant"));
    let bars = Bars::new(session.ui, Unit::Bytes);
    let plan = plan.options(options).encrypted_to(recipients(&granted.encrypt_to)?);
    let plan = plan.command_line(&identity::command_line()).told("to", to).told("by", "grant");
    let plan = plan.progress(&bars).stop_when(interrupt::pause_flag()?).store(Arc::new(store));
    let report = if resumes { plan.resume(&writer) } else { plan.run(&writer) };
    drop(bars);
    report.map_err(|error| {
        let was_used = chain(&error).contains("is there already");
        let failure = Failure::new(error)
            .hint(format!("log and tables are kept in {}, and the exhibit stays OPEN", folder.display()));
        if was_used {
            return failure
                .hint("was the grant used before? One is good for one acquisition: ask for another");
        }
        let can_resume = OpenAcquisition::in_folder(&folder).ok().flatten().is_some();
        if can_resume && granted.kind == GrantedKind::Disk {
            failure.hint(
                "the same command with --resume goes on, with this grant while it holds, or with it renewed",
            )
        } else {
            failure
        }
    })
}

/// Whether the grant is for this kind and size, before anything is sent.
fn fits(grant: &Grant, plan: &Acquisition<'_>) -> Result<(), Failure> {
    let granted = grant.granted();
    let kind = plan.source_facts().kind;
    if kind != granted.kind.word() {
        return Err(Failure::usage(format!(
            "the grant is for `acquire {}`, not for `acquire {kind}`",
            granted.kind.word()
        )));
    }
    match plan.size() {
        Some(size) if size > granted.size => Err(Failure::usage(format!(
            "the grant is too small: it is for {} bytes, and the source has {size}",
            granted.size
        ))
        .hint("ask its issuer for another, with a larger --size")),
        _ => Ok(()),
    }
}
