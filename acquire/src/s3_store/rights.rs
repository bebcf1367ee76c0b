//! What a writer may do at a place, found out before anything is begun there, and without changing anything.

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::ObjectLockRetentionMode;
use custody::bundle::RemotePlace;

use super::requests::{Failed, Pace, Requests};
use crate::aws::{Connection, Failure, FailureKind};

/// What was found out.
#[derive(Debug, Clone, Default)]
pub struct Rights {
    /// The retention that the bucket itself gives every object, in words; `None` if it gives none, or cannot be asked.
    pub default_retention: Option<String>,
    /// What could not be found out or is missing, and what follows; none of it stops the writing.
    pub remarks: Vec<String>,
}

/// Asks whether objects may be put below a place: by a part of an upload that does not exist, which only who may put is
/// told. Rights that need a real object show with the first one, which is the log's first entry.
///
/// # Errors
///
/// [`crate::Error::Cloud`] if the bucket is not there, in another region, or may not be written to; and if retention was
/// asked for and the bucket is known to have no Object Lock.
pub fn rights(connection: &Connection, place: &RemotePlace) -> crate::Result<Rights> {
    let requests = Requests::new(connection, place.clone(), Pace { tries: 2, ..Pace::default() });
    let key = place.key("custody/00000000.json")?;
    let mut rights = Rights::default();
    match requests.wait(requests.try_to_put(&key)) {
        // A server that stumbles over the question may do well with what is meant.
        Err(failure) if failure.kind == FailureKind::Server => {}
        asked => asked?,
    }
    match requests.wait(requests.try_to_abort(&key)) {
        Err(failure) if failure.kind == FailureKind::Denied => {
            rights
                .remarks
                .push(format!("what an interruption leaves cannot be cleared up from here: {failure}"));
        }
        Err(failure) if failure.kind == FailureKind::Server => {}
        asked => asked?,
    }
    match requests.wait(requests.object_lock()) {
        Ok(Some(default)) => rights.default_retention = default,
        Ok(None) if place.retention.is_some() => {
            return Err(Failure::found(
                "S3 GetObjectLockConfiguration",
                FailureKind::Invalid,
                format!("the bucket {} has no Object Lock, so nothing in it can be retained", place.bucket),
            )
            .into());
        }
        Ok(None) => rights.remarks.push(format!(
            "the bucket {} has no Object Lock: who may delete objects can delete these",
            place.bucket
        )),
        Err(failure) => {
            rights.remarks.push(format!("whether the bucket has Object Lock is not known: {failure}"));
        }
    }
    Ok(rights)
}

/// An upload that no server has begun.
const NO_UPLOAD: &str = "exhibit-asks-whether-it-may-write-here";

impl Requests {
    /// Sends a part of an upload that does not exist: a writer who may put objects is told so, and nothing is changed.
    async fn try_to_put(&self, key: &str) -> Result<(), Failure> {
        let sent = self
            .tried(|| async {
                let request = self.client.upload_part().bucket(&self.place.bucket).key(key).part_number(1);
                let sent = request.upload_id(NO_UPLOAD).body(ByteStream::from_static(b"-")).send().await;
                sent.map_err(|error| self.failure("S3 UploadPart", key, &error)).map(|_| ())
            })
            .await;
        match sent {
            // The upload is what is not found; a bucket that is not there has a code of its own.
            Err(Failed { failure, .. }) if failure.code == "NoSuchUpload" => Ok(()),
            Err(failed) => Err(failed.failure),
            Ok(()) => Err(Failure::found(
                "S3 UploadPart",
                FailureKind::Corrupt,
                "the server took a part of an upload that was never begun",
            )),
        }
    }

    /// Asks to give up an upload that does not exist: says whether that would be allowed.
    async fn try_to_abort(&self, key: &str) -> Result<(), Failure> {
        self.abort(key, NO_UPLOAD).await.map(|_| ())
    }

    /// The retention that the bucket itself gives every object, in words; `None` without Object Lock.
    pub(super) async fn object_lock(&self) -> Result<Option<Option<String>>, Failure> {
        let sent = self
            .tried(|| async {
                let sent =
                    self.client.get_object_lock_configuration().bucket(&self.place.bucket).send().await;
                sent.map_err(|error| self.failure("S3 GetObjectLockConfiguration", "", &error))
            })
            .await;
        let answer = match sent {
            Err(Failed { failure, .. }) if failure.code == "ObjectLockConfigurationNotFoundError" => {
                return Ok(None);
            }
            other => other.map_err(|failed| failed.failure)?,
        };
        let Some(configuration) = answer.object_lock_configuration else { return Ok(None) };
        if configuration.object_lock_enabled().is_none_or(|enabled| enabled.as_str() != "Enabled") {
            return Ok(None);
        }
        let default = configuration.rule().and_then(|rule| rule.default_retention());
        Ok(Some(default.map(|default| {
            let mode = match default.mode() {
                Some(ObjectLockRetentionMode::Compliance) => "compliance",
                Some(ObjectLockRetentionMode::Governance) => "governance",
                _ => "unknown",
            };
            match (default.days(), default.years()) {
                (_, Some(years)) => format!("{mode} for {years} years"),
                (days, None) => format!("{mode} for {} days", days.unwrap_or(0)),
            }
        })))
    }
}
