//! Where a bundle goes that shall not lie on this machine: `--to s3://bucket/prefix`.

use std::path::Path;
use std::sync::Arc;

use acquire::aws::Connection;
use acquire::s3_store::{Pace, S3LogMirror, S3Store, rights};
use custody::bundle::{RemotePlace, Retention, RetentionMode};

use crate::cloud_args::CloudArgs;
use crate::failure::Failure;
use crate::ui::Ui;

/// The evidence store, and the account that it is in.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct StoreArgs {
    /// Write the bundle to this S3 bucket as it is made; the case keeps its log, manifest and hashes, and no data
    #[arg(long, value_name = "s3://BUCKET/PREFIX", help_heading = "Evidence store")]
    pub(crate) to: Option<String>,
    #[command(flatten)]
    pub(crate) lock: LockArgs,
    #[command(flatten)]
    pub(crate) cloud: CloudArgs,
}

/// Object Lock of what is put.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct LockArgs {
    /// Retain every object under Object Lock; nobody can shorten compliance, who may bypass it governance
    #[arg(long, value_name = "compliance|governance", value_parser = mode, requires = "lock_days", help_heading = "Evidence store")]
    lock: Option<RetentionMode>,
    /// For so many days
    #[arg(long, value_name = "N", requires = "lock", help_heading = "Evidence store")]
    lock_days: Option<u32>,
}

fn mode(word: &str) -> Result<RetentionMode, String> {
    [RetentionMode::Compliance, RetentionMode::Governance]
        .into_iter()
        .find(|mode| mode.word() == word)
        .ok_or_else(|| "it is compliance or governance".to_owned())
}

/// A connection, and the place below which bundles are put.
#[derive(Debug)]
pub(crate) struct ChosenStore {
    pub(crate) connection: Connection,
    pub(crate) place: RemotePlace,
}

impl LockArgs {
    fn retention(&self) -> Option<Retention> {
        self.lock.zip(self.lock_days).map(|(mode, days)| Retention { days, mode })
    }
}

impl StoreArgs {
    /// Connects to the store that was asked for, and finds out whether it may be written to; `None` if none was.
    pub(crate) fn choose(&self, ui: Ui) -> Result<Option<ChosenStore>, Failure> {
        match &self.to {
            Some(to) => choose(to, &self.lock, &self.cloud, ui).map(Some),
            None => Ok(None),
        }
    }

    /// The store that an exhibit was begun in; `None` if it was begun on this machine.
    pub(crate) fn begun_in(&self, folder: &Path) -> Result<Option<ChosenStore>, Failure> {
        let begun = RemotePlace::read(folder)?;
        let asked = self.to.as_deref().map(RemotePlace::parse).transpose().map_err(wrong_place)?;
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let Some(place) = begun else {
            return match asked {
                Some(_) => {
                    Err(Failure::usage(format!("{name} was begun on this machine, not in an evidence store"))
                        .hint("leave --to out, and push the bundle when it is sealed"))
                }
                None => Ok(None),
            };
        };
        if let Some(asked) = asked {
            let asked = asked.below(&name)?;
            if (&asked.bucket, &asked.prefix) != (&place.bucket, &place.prefix) {
                return Err(Failure::usage(format!(
                    "{name} was begun in {place}, which cannot be changed now"
                )));
            }
        }
        let connection = self.cloud.connect_to(&place)?;
        Ok(Some(ChosenStore { connection, place }))
    }
}

/// Connects to a store, and finds out whether it may be written to.
pub(crate) fn choose(to: &str, lock: &LockArgs, cloud: &CloudArgs, ui: Ui) -> Result<ChosenStore, Failure> {
    let place = RemotePlace::parse(to).map_err(wrong_place)?;
    let connection = cloud.connect()?;
    let place = place.on(connection.region(), connection.endpoint())?;
    let place = place.retained(lock.retention()).map_err(wrong_place)?;
    let rights = rights(&connection, &place).map_err(|error| {
        Failure::new(error).hint(format!("nothing was begun: {place} must be there, and be writable"))
    })?;
    if let Some(default) = &rights.default_retention {
        ui.say(&format!("every object in {} is retained by the bucket: {default}", place.bucket));
    }
    for remark in &rights.remarks {
        ui.warn(remark);
    }
    Ok(ChosenStore { connection, place })
}

fn wrong_place(error: custody::Error) -> Failure {
    Failure::usage(error.to_string())
}

impl ChosenStore {
    /// The store of a new exhibit, or of one that was begun.
    pub(crate) fn open(&self, folder: &Path, resumes: bool) -> Result<Arc<S3Store>, Failure> {
        let store = if resumes {
            S3Store::take_up(&self.connection, folder, Pace::default())?
        } else {
            let name = folder.file_name().unwrap_or_default().to_string_lossy();
            S3Store::begin(&self.connection, self.place.below(&name)?, folder, Pace::default())?
        };
        Ok(Arc::new(store))
    }

    /// Puts the log's entries as patiently as the data.
    pub(crate) fn mirror(&self) -> S3LogMirror {
        S3LogMirror::over(&self.connection, Pace::default(), |_, _| {})
    }
}

/// Puts the entries of custody commands, and says so where they cannot be put.
pub(crate) fn mirror(ui: Ui) -> S3LogMirror {
    S3LogMirror::connecting(None, move |place, why| {
        ui.warn(&format!("not yet in {place}: {why}"));
        ui.warn("the entry is in the local log: the next one puts both, or `exhibit push --log`");
    })
}
