//! Whether a bucket is fit to hold evidence: what it says of itself, and what comes of an attempt to remove an object.

use aws_sdk_s3::types::BucketVersioningStatus;
use custody::bundle::RemotePlace;

use super::requests::{Failed, Pace, Requests};
use crate::aws::{Connection, Failure, FailureKind};

/// What is known of a bucket; each part was asked for by itself, and may have been refused by itself.
#[derive(Debug, Clone)]
pub struct Soundness {
    /// Whether every version of an object is kept.
    pub versioned: Result<bool, Failure>,
    /// The retention that Object Lock gives every object: `compliance for 30 days`; `Some("")` for a lock without one,
    /// `None` where there is no lock.
    pub locked: Result<Option<String>, Failure>,
    /// Whether all four blocks of public access are on.
    pub private: Result<bool, Failure>,
    /// The bucket's policy; empty if there is none.
    pub policy: Result<String, Failure>,
}

/// What came of putting an object and removing that version of it again.
#[derive(Debug, Clone)]
pub struct Canary {
    /// Its key.
    pub key: String,
    /// Its version, where the bucket keeps versions.
    pub version: Option<String>,
    /// The refusal; `None` means that it was removed, so that evidence could be too.
    pub refused: Option<Failure>,
}

/// Asks a bucket about itself.
///
/// # Errors
///
/// [`crate::Error::Cloud`] never: each part of what is given says for itself what was refused.
#[must_use]
pub fn soundness(connection: &Connection, place: &RemotePlace) -> Soundness {
    let requests = Requests::new(connection, place.clone(), Pace::brief());
    Soundness {
        versioned: requests.wait(requests.versioned()),
        locked: requests.wait(requests.object_lock()).map(|found| found.map(Option::unwrap_or_default)),
        private: requests.wait(requests.private()),
        policy: requests.wait(requests.policy()),
    }
}

/// Whether the bucket belongs to this account: asked by a request that only holds if it does.
///
/// # Errors
///
/// Whatever failure does not answer the question, such as [`FailureKind::NotFound`].
pub fn belongs_to(connection: &Connection, place: &RemotePlace, account: &str) -> Result<bool, Failure> {
    let requests = Requests::new(connection, place.clone(), Pace::brief());
    // Without the condition first: what is refused then says nothing about the owner.
    requests.wait(requests.head_bucket(None))?;
    match requests.wait(requests.head_bucket(Some(account))) {
        Ok(()) => Ok(true),
        Err(failure) if failure.kind == FailureKind::Denied => Ok(false),
        Err(failure) => Err(failure),
    }
}

/// Puts a small object as evidence is put, and tries to remove that very version.
///
/// Where the bucket does what it should, the object stays until its retention ends; it says what it is for.
///
/// # Errors
///
/// Why it could not be put, or why the removal got no answer.
pub fn canary(connection: &Connection, place: &RemotePlace, name: &str) -> Result<Canary, Failure> {
    let requests = Requests::new(connection, place.clone(), Pace::brief());
    let key = place.key(&format!("readiness/{name}.txt"));
    let key = key.map_err(|error| Failure::found("S3 PutObject", FailureKind::Invalid, error.to_string()))?;
    let words = b"Put by `exhibit ready` to prove that what is put here cannot be removed.\n".to_vec();
    requests.wait(requests.put(&key, words)).map_err(|failed| failed.failure)?;
    let version = requests.wait(requests.version_of(&key))?;
    let refused = match requests.wait(requests.delete(&key, version.as_deref())) {
        Ok(()) => None,
        Err(failure) if failure.kind == FailureKind::Denied => Some(failure),
        // Object Lock is said with a code of its own by some servers.
        Err(failure) if failure.code == "InvalidRequest" || failure.code == "ObjectLocked" => Some(failure),
        Err(failure) => return Err(failure),
    };
    Ok(Canary { key, version, refused })
}

impl Requests {
    async fn versioned(&self) -> Result<bool, Failure> {
        let sent = self.tried(|| async {
            let sent = self.client.get_bucket_versioning().bucket(&self.place.bucket).send().await;
            sent.map_err(|error| self.failure("S3 GetBucketVersioning", "", &error))
        });
        let answer = sent.await.map_err(|failed| failed.failure)?;
        Ok(answer.status() == Some(&BucketVersioningStatus::Enabled))
    }

    async fn private(&self) -> Result<bool, Failure> {
        let sent = self.tried(|| async {
            let sent = self.client.get_public_access_block().bucket(&self.place.bucket).send().await;
            sent.map_err(|error| self.failure("S3 GetPublicAccessBlock", "", &error))
        });
        let answer = match sent.await {
            Err(Failed { failure, .. }) if failure.code == "NoSuchPublicAccessBlockConfiguration" => {
                return Ok(false);
            }
            other => other.map_err(|failed| failed.failure)?,
        };
        let blocks = answer.public_access_block_configuration();
        let all = blocks.map(|blocks| {
            [
                blocks.block_public_acls(),
                blocks.ignore_public_acls(),
                blocks.block_public_policy(),
                blocks.restrict_public_buckets(),
            ]
        });
        Ok(all.is_some_and(|all| all.iter().all(|block| *block == Some(true))))
    }

    async fn policy(&self) -> Result<String, Failure> {
        let sent = self.tried(|| async {
            let sent = self.client.get_bucket_policy().bucket(&self.place.bucket).send().await;
            sent.map_err(|error| self.failure("S3 GetBucketPolicy", "", &error))
        });
        match sent.await {
            Ok(answer) => Ok(answer.policy.unwrap_or_default()),
            Err(Failed { failure, .. }) if failure.code == "NoSuchBucketPolicy" => Ok(String::new()),
            Err(failed) => Err(failed.failure),
        }
    }

    async fn head_bucket(&self, owner: Option<&str>) -> Result<(), Failure> {
        let sent = self.tried(|| async {
            let request = self.client.head_bucket().bucket(&self.place.bucket);
            let sent = request.set_expected_bucket_owner(owner.map(str::to_owned)).send().await;
            sent.map_err(|error| self.failure("S3 HeadBucket", "", &error)).map(|_| ())
        });
        sent.await.map_err(|failed| failed.failure)
    }

    async fn version_of(&self, key: &str) -> Result<Option<String>, Failure> {
        let sent = self.tried(|| async {
            let sent = self.client.head_object().bucket(&self.place.bucket).key(key).send().await;
            sent.map_err(|error| self.failure("S3 HeadObject", key, &error))
        });
        let answer = sent.await.map_err(|failed| failed.failure)?;
        Ok(answer.version_id.filter(|version| version != "null" && version.len() <= 1024))
    }

    async fn delete(&self, key: &str, version: Option<&str>) -> Result<(), Failure> {
        let sent = self.tried(|| async {
            let request = self.client.delete_object().bucket(&self.place.bucket).key(key);
            let sent = request.set_version_id(version.map(str::to_owned)).send().await;
            sent.map_err(|error| self.failure("S3 DeleteObject", key, &error)).map(|_| ())
        });
        sent.await.map_err(|failed| failed.failure)
    }
}
