//! The case of a job: made once, and told everything that the state keeps for its log.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use custody::{Case, EntryType, Error as CustodyError, NewCase};
use rustix::fs::{CWD, RenameFlags};

use super::acting::Acting;
use crate::error::{Error, Result};
use crate::settings::Settings;
use crate::state::jobs::{self, Job};
use crate::state::{State, entries};

/// The fact of every entry that says which job it is of.
pub(super) const JOB: &str = "job";
/// The fact that tells an entry of ours from the same entry once more.
const NUMBER: &str = "entry_of_state";

/// The case of a job, made now if it is not there.
///
/// It is made beside its place and then renamed, so that a case that is there is whole and begins with the alert. One that a
/// killed service left is found by the job's name in all places and times, which its first entries hold.
pub(super) fn case_of(job: &Job, settings: &Settings, state: &State, acting: &Acting) -> Result<PathBuf> {
    if let Some(folder) = &job.case_folder {
        return Ok(settings.cases.join(folder));
    }
    std::fs::create_dir_all(&settings.cases)
        .map_err(|source| Error::Read { path: settings.cases.clone(), source })?;
    let name = folder_name(job);
    for number in 1..100u32 {
        let name = if number == 1 { name.clone() } else { format!("{name}-{number}") };
        let folder = settings.cases.join(&name);
        if folder.symlink_metadata().is_ok() && !is_of(&folder, job) {
            // Of another state that had this number before.
            continue;
        }
        if !folder.exists() {
            make(&folder, job, settings, state, acting)?;
        }
        state.with(|connection| jobs::set_case(connection, job.id, &name))?;
        return Ok(folder);
    }
    let source = std::io::ErrorKind::AlreadyExists.into();
    Err(Error::Read { path: settings.cases.join(name), source })
}

fn make(folder: &Path, job: &Job, settings: &Settings, state: &State, acting: &Acting) -> Result<()> {
    let fault = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Read { path, source }
    };
    let beside = settings.cases.join(format!(".making-{}", job.name()));
    match std::fs::remove_dir_all(&beside) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(fault(&beside)(error)),
    }
    let new = NewCase {
        name: format!("{} {}", job.name(), job.plan.asset.id),
        examiner: settings.examiner.clone(),
        organisation: settings.organisation.clone(),
        authority: settings.authority.clone(),
    };
    Case::create(&beside, &new, &acting.writer())?;
    write_entries(&beside, job, state, acting, false)?;
    let renamed = rustix::fs::renameat_with(CWD, &beside, CWD, folder, RenameFlags::NOREPLACE);
    renamed.map_err(|error| fault(folder)(error.into()))?;
    let cases = std::fs::File::open(&settings.cases).and_then(|folder| folder.sync_all());
    cases.map_err(fault(&settings.cases))
}

/// Writes what the log still lacks. Each is looked for first, for a killed service may have written it.
///
/// A log that takes no more, because the case was closed, is told so in the state.
pub(super) fn write_entries(
    folder: &Path,
    job: &Job,
    state: &State,
    acting: &Acting,
    is_in_place: bool,
) -> Result<()> {
    let waiting = state.with(|connection| entries::to_write(connection, job.id))?;
    if waiting.is_empty() {
        return Ok(());
    }
    let case = Case::open(folder)?;
    for (id, entry) in waiting {
        let number = format!("{}-{id}", job.uuid);
        let mut entry = entry.how(NUMBER, number.as_str()).how(JOB, job.uuid.as_str());
        entry.about.case.get_or_insert_with(|| case.file().id.clone());
        let is_there = Cell::new(false);
        let written = case.log().append_when(&entry, &acting.writer(), |before| {
            let known = before.iter().any(|one| one.how_text(NUMBER) == Some(&number));
            is_there.set(known);
            if !known {
                return Ok(());
            }
            Err(CustodyError::Malformed { what: "new entry", why: "the log has it already".to_owned() })
        });
        match written {
            Ok(_) => {}
            Err(_) if is_there.get() => {}
            Err(error @ CustodyError::Closed { .. }) => {
                let why = error.to_string();
                state.with(|connection| entries::written(connection, id, Some(&why)))?;
                continue;
            }
            Err(error) => return Err(error.into()),
        }
        if is_in_place {
            state.with(|connection| entries::written(connection, id, None))?;
        }
    }
    Ok(())
}

/// Whether the case in a folder is of this job.
fn is_of(folder: &Path, job: &Job) -> bool {
    let entries = Case::open(folder).and_then(|case| case.log().read()).map(|log| log.entries);
    entries.is_ok_and(|entries| {
        entries.iter().any(|entry| {
            entry.kind == EntryType::ALERT_RECEIVED && entry.how_text(JOB) == Some(job.uuid.as_str())
        })
    })
}

/// `J000017-i-0123456789abcdef0`: nothing of an alert but the id that inventory or account confirmed, and of that only what
/// any file system takes.
fn folder_name(job: &Job) -> String {
    let asset: String = job
        .plan
        .asset
        .id
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '_' })
        .take(64)
        .collect();
    format!("{}-{asset}", job.name())
}
