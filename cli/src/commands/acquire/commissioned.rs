//! An acquisition on a host that has a commission and no case: `acquire … --commission FILE`.

use std::path::{Path, PathBuf};

use acquire::{Acquisition, Destination, OpenAcquisition, PipelineOptions, Report};
use custody::{Commission, Identity, Writer};

use super::{Into, recipients};
use crate::commands::commission;
use crate::failure::Failure;
use crate::identity;
use crate::interrupt;
use crate::progress_bar::{Bars, Unit};
use crate::session::Session;

/// Acquires into a folder that the case of the commission takes in later, or goes on there.
pub(super) fn run(
    file: &Path,
    into: &Into,
    session: &Session,
    plan: impl FnOnce(Destination) -> Acquisition<'static>,
    resumes: bool,
) -> Result<Report, Failure> {
    let commission = commission::read(file)?;
    if into.verify_after {
        return Err(Failure::usage("--verify-after is done by who takes the exhibit into its case"));
    }
    if into.name.as_ref().is_some_and(|name| *name != commission.name) {
        return Err(Failure::usage(format!("the commission is for an exhibit called {:?}", commission.name)));
    }
    let folder: PathBuf = into.log_in.as_deref().unwrap_or(Path::new(".")).join(commission.folder_name());
    let (key, is_new) = session.key_or_new()?;
    let plan = plan(Destination {
        folder: folder.clone(),
        exhibit: commission.exhibit.clone(),
        name: commission.name.clone(),
        case: Some(commission.case.clone()),
    });
    fits(&commission, &plan)?;
    let identity = Identity {
        case: Some(commission.case.clone()),
        ..identity::of_this_run(&commission.examiner, Some(&commission.organisation))
    };
    let writer = Writer::new(&key, &session.clock, identity);
    if !resumes {
        std::fs::create_dir(&folder).map_err(|error| {
            Failure::new(format!("{} cannot be made: {error}", folder.display())).hint(
                "a commission is for one acquisition; one of a disk that was cut short goes on with --resume",
            )
        })?;
    }
    let mut options = PipelineOptions::default();
    (options.cut.chunk_size, options.level) = (into.chunk_size, into.level);
    let made = if is_new { "by a key made here" } else { "by" };
    session.ui.say(&format!("its log is signed {made}: {}", key.verifying_key().fingerprint()));
    let bars = Bars::new(session.ui, Unit::Bytes);
    let plan = plan.options(options).encrypted_to(recipients(&commission.encrypt_to)?);
    let plan = plan.command_line(&identity::command_line()).told("by", "commission");
    let plan = plan.progress(&bars).stop_when(interrupt::pause_flag()?);
    let report = if resumes { plan.resume(&writer) } else { plan.run(&writer) };
    drop(bars);
    report.map_err(|error| {
        let failure = Failure::new(error)
            .hint(format!("what was read is kept in {}, which stays OPEN", folder.display()));
        let can_resume = OpenAcquisition::in_folder(&folder).ok().flatten().is_some();
        let is_disk = can_resume && commission.kind == "disk";
        if is_disk { failure.hint("the same command with --resume goes on from there") } else { failure }
    })
}

/// Whether the commission is for this kind.
fn fits(commission: &Commission, plan: &Acquisition<'_>) -> Result<(), Failure> {
    let kind = plan.source_facts().kind;
    if kind != commission.kind {
        return Err(Failure::usage(format!(
            "the commission is for `acquire {}`, not for `acquire {kind}`",
            commission.kind
        )));
    }
    Ok(())
}
