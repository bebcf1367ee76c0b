//! Reads a bundle out of an S3 bucket, by ranges of the first version of each key.

mod listing;
mod ranges;
mod requests;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_s3::primitives::DateTime;
use custody::bundle::{BundleStore, NewFile, RemoteListing, RemoteStore};

use crate::aws::{Connection, Failure, FailureKind};
use crate::error::Result;
use crate::progress::Progress;
use ranges::Ranges;
use requests::{Client, Lock, Object, io_error, moment, tried};

/// A bundle under a prefix of a bucket, open for reading.
///
/// The first version of every key counts; a later one, or a deletion, is a fault of its [`RemoteListing`]. Each object is pinned
/// by version and ETag when the store is opened, so that bytes never come from two versions. An answer that is not the range asked
/// for, shorter or longer than announced, is asked for again, and given up after eight tries. What is denied is asked for once.
///
/// Needs `s3:ListBucketVersions`, `s3:GetObject` and `s3:GetObjectVersion`; with `s3:GetObjectRetention` it
/// also tells until when objects are locked. Holds at most 64 MiB, and 16 requests go on at a time.
pub struct S3Reader {
    ranges: Arc<Ranges>,
    connection: Connection,
    listing: RemoteListing,
    objects: Mutex<BTreeMap<String, Object>>,
    notes: Vec<String>,
}

impl fmt::Debug for S3Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Reader").field("place", &self.place()).finish_non_exhaustive()
    }
}

impl S3Reader {
    /// Lists what lies under `prefix`, a bundle's folder, of a bucket.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Cloud`]. A listing that is denied is none: then files are found by their names alone, and a note says what
    /// could not be seen.
    pub fn open(connection: &Connection, bucket: &str, prefix: &str) -> Result<Self> {
        let prefix = match prefix.trim_end_matches('/') {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        };
        let client = Client { s3: connection.s3(), bucket: bucket.to_owned(), prefix };
        let mut found = connection.wait(listing::list(&client))?;
        let first = found.objects.iter().find(|(_, object)| object.size > 0);
        if let Some((path, object)) = first {
            let note = connection.wait(unseen_locks(&client, path, object))?;
            found.notes.extend(note);
        }
        let files = found.objects.iter().map(|(path, object)| (path.clone(), object.size)).collect();
        Ok(Self {
            ranges: Arc::new(Ranges::new(client)),
            connection: connection.clone(),
            listing: RemoteListing { files, faults: found.faults, is_complete: found.is_complete },
            objects: Mutex::new(found.objects),
            notes: found.notes,
        })
    }

    /// Tells somebody of every byte that comes.
    #[must_use]
    pub fn reporting_to(self, progress: Arc<dyn Progress>) -> Self {
        self.ranges.report_to(progress);
        self
    }

    /// Bytes that came from the server so far.
    #[must_use]
    pub fn fetched(&self) -> u64 {
        self.ranges.fetched()
    }

    /// The version of a file that counts.
    fn object(&self, path: &str) -> io::Result<Object> {
        if let Some(object) = self.objects().get(path) {
            return Ok(object.clone());
        }
        if self.listing.is_complete {
            return Err(io::ErrorKind::NotFound.into());
        }
        let id = u32::try_from(self.objects().len()).unwrap_or(u32::MAX);
        let client = self.ranges.client();
        let object = self.connection.wait(tried(|| client.head(path, id))).map_err(io_error)?;
        Ok(self.objects().entry(path.to_owned()).or_insert(object).clone())
    }

    fn objects(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Object>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until when the objects that were read are locked, in words.
    fn lock_notes(&self) -> Vec<String> {
        let names: BTreeMap<u32, String> =
            self.objects().iter().map(|(path, object)| (object.id, path.clone())).collect();
        let (mut until, mut held, mut open): (BTreeMap<String, Vec<String>>, Vec<&str>, Vec<&str>) =
            Default::default();
        for (id, lock) in &self.ranges.locks() {
            let Some(name) = names.get(id) else { continue };
            match lock {
                Lock::Until { mode, time } => until.entry(mode.clone()).or_default().push(time.clone()),
                Lock::Hold => held.push(name),
                Lock::None => open.push(name),
            }
        }
        let mut notes: Vec<String> = until
            .into_iter()
            .map(|(mode, times)| {
                let earliest = times.iter().min().map_or("", String::as_str);
                format!("Object Lock: {} of the objects that were read locked until {earliest} or later, mode {mode}", times.len())
            })
            .collect();
        if !held.is_empty() {
            notes.push(format!(
                "Object Lock: {} of the objects that were read under a legal hold alone",
                held.len()
            ));
        }
        if !open.is_empty() {
            let some = open.iter().take(3).copied().collect::<Vec<_>>().join(", ");
            let more = if open.len() > 3 { " and others" } else { "" };
            notes.push(format!(
                "Object Lock: no lock is shown of {} of the objects that were read: {some}{more}; nothing is seen there that keeps \
                 them from being deleted",
                open.len()
            ));
        }
        notes
    }
}

impl BundleStore for S3Reader {
    fn size_of(&self, path: &str) -> io::Result<u64> {
        self.object(path).map(|object| object.size)
    }

    fn read_at(&self, path: &str, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let object = self.object(path)?;
        self.ranges.read(self.connection.runtime().handle(), path, &object, offset, buf)
    }

    fn put_new(&self, _: &str) -> io::Result<Box<dyn NewFile>> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "the store was opened for reading"))
    }
}

impl RemoteStore for S3Reader {
    fn place(&self) -> String {
        let client = self.ranges.client();
        format!("s3://{}/{}", client.bucket, client.prefix.trim_end_matches('/'))
    }

    fn listing(&self) -> &RemoteListing {
        &self.listing
    }

    fn will_read(&self, paths: &[String]) {
        for path in paths {
            let known = self.objects().get(path).cloned();
            if let Some(object) = known {
                self.ranges.will_read(self.connection.runtime().handle(), path, &object);
            }
        }
    }

    fn notes(&self) -> Vec<String> {
        self.notes.iter().cloned().chain(self.lock_notes()).collect()
    }
}

/// Says so where locks cannot be seen, which an answer without them does not tell from there being none.
async fn unseen_locks(client: &Client, path: &str, object: &Object) -> Result<Option<String>> {
    const OPERATION: &str = "S3 GetObjectRetention";
    let answer = tried(|| async {
        let key = format!("{}{path}", client.prefix);
        let request = client.s3.get_object_retention().bucket(&client.bucket).key(key);
        let request = request.set_version_id(object.version.clone());
        let answer = request.send().await.map_err(|error| Failure::of(OPERATION, &error))?;
        let until: Option<DateTime> =
            answer.retention().and_then(|retention| retention.retain_until_date().copied());
        Ok(until.map(|until| moment(Some(&until))))
    });
    match answer.await {
        Ok(_) => Ok(None),
        Err(failure) if failure.kind == FailureKind::Denied => Ok(Some(
            "Object Lock: whether objects are locked could not be seen, s3:GetObjectRetention is not allowed"
                .to_owned(),
        )),
        // No lock on the object, none on the bucket, or a server that knows none: each says so in its own way.
        Err(failure) if !failure.kind.is_worth_another_try() && failure.kind != FailureKind::Credentials => {
            Ok(None)
        }
        Err(failure) => Err(failure.into()),
    }
}
