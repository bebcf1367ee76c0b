//! The case of a job: made once, and told everything that the state keeps for its log.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use custody::{Case, EntryType, Error as CustodyError, NewCase};
use rustix::fs::{CWD, RenameFlags};

use super::runner::Service;
use crate::error::{Error, Result};
use crate::state::entries;
use crate::state::jobs::{self, Job};

/// The fact of every entry that says which job it is of.
pub(super) const JOB: &str = "job";
/// The fact that tells an entry of ours from the same entry once more.
const NUMBER: &str = "entry_of_state";

/// The case of a job, made now if it is not there.
///
/// It is made beside its place and then renamed, so that a case that is there is whole and begins with the alert. One that a
/// killed service left is found by the job's name in all places and times, which its first entries hold.
pub(super) fn case_of(service: &Service, job: &Job) -> Result<PathBuf> {
    let settings = &service.settings;
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
            make(service, &folder, job)?;
        }
        service.state.with(|connection| jobs::set_case(connection, job.id, &name))?;
        return Ok(folder);
    }
    let source = std::io::ErrorKind::AlreadyExists.into();
    Err(Error::Read { path: settings.cases.join(name), source })
}

fn make(service: &Service, folder: &Path, job: &Job) -> Result<()> {
    let settings = &service.settings;
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
    Case::create(&beside, &new, &service.acting.writer())?;
    write_entries(service, &beside, job, false)?;
    let renamed = rustix::fs::renameat_with(CWD, &beside, CWD, folder, RenameFlags::NOREPLACE);
    renamed.map_err(|error| fault(folder)(error.into()))?;
    let cases = std::fs::File::open(&settings.cases).and_then(|folder| folder.sync_all());
    cases.map_err(fault(&settings.cases))
}

/// Writes what the log still lacks. Each is looked for first, for a killed service may have written it: in what the log holds when
/// this begins, since nobody else writes entries of this job meanwhile.
///
/// A log that takes no more, because the case was closed, is told so in the state.
pub(super) fn write_entries(service: &Service, folder: &Path, job: &Job, is_in_place: bool) -> Result<()> {
    let state = &service.state;
    let shards = i64::try_from(service.writing.len()).unwrap_or(1);
    let shard = usize::try_from(job.id.rem_euclid(shards)).unwrap_or(0);
    let _writing = service.writing.get(shard).map(|lock| lock.lock().unwrap_or_else(PoisonError::into_inner));
    let waiting = state.with(|connection| entries::to_write(connection, job.id))?;
    if waiting.is_empty() {
        return Ok(());
    }
    let case = Case::open(folder)?;
    let there = case.log().read()?.entries;
    let known: BTreeSet<&str> = there.iter().filter_map(|entry| entry.how_text(NUMBER)).collect();
    for (id, entry) in waiting {
        let number = format!("{}-{id}", job.uuid);
        if !known.contains(number.as_str()) {
            let entry = entry.how(NUMBER, number.as_str()).how(JOB, job.uuid.as_str());
            match case.append(entry, &service.acting.writer()) {
                Ok(_) => {}
                Err(error @ CustodyError::Closed { .. }) => {
                    let why = error.to_string();
                    state.with(|connection| entries::written(connection, id, Some(&why)))?;
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
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
