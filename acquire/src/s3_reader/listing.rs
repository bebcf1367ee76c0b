//! What lies under a bundle's prefix: the first version of each key counts, and everything after it is told.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_s3::types::EncodingType;
use custody::bundle::RemoteFault;

use super::requests::{Client, Object, moment, shown, tried};
use crate::aws::{Failure, FailureKind};

/// More versions than this under one prefix are no bundle: one of 64 TiB has 65,536 segments.
const MOST_VERSIONS: usize = 1_000_000;
/// Pages without anything in them that are followed.
const MOST_EMPTY: u32 = 100;

/// What a listing gave.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The object of each path that counts.
    pub(super) objects: BTreeMap<String, Object>,
    pub(super) faults: Vec<RemoteFault>,
    pub(super) notes: Vec<String>,
    /// Whether the store could be listed.
    pub(super) is_complete: bool,
}

/// One version of a key, or its deletion.
#[derive(Debug, Clone)]
struct Version {
    id: String,
    time: String,
    size: u64,
    etag: String,
}

/// Lists versions where that is allowed, else objects, else says that nothing could be seen.
pub(super) async fn list(client: &Client) -> Result<Found, Failure> {
    match versions(client).await {
        Err(failure) if is_refused(&failure) => {
            let mut found = match objects(client).await {
                Ok(found) => found,
                Err(failure) if is_refused(&failure) => Found {
                    notes: vec![format!("the store could not be listed: {failure}")],
                    ..Found::default()
                },
                Err(failure) => return Err(failure),
            };
            found.notes.push(format!(
                "versions could not be listed, so a file that was replaced or deleted and put again does not show: {failure}"
            ));
            Ok(found)
        }
        done => done,
    }
}

/// Whether a server does not give a listing that it might give to others.
fn is_refused(failure: &Failure) -> bool {
    failure.kind == FailureKind::Denied || failure.code == "NotImplemented"
}

async fn versions(client: &Client) -> Result<Found, Failure> {
    const OPERATION: &str = "S3 ListObjectVersions";
    let mut seen: BTreeSet<(String, String)> = BTreeSet::new();
    let mut of_key: BTreeMap<String, Vec<Version>> = BTreeMap::new();
    let mut faults = Vec::new();
    let mut from: Option<(String, Option<String>)> = None;
    let mut empty = 0;
    loop {
        let page = tried(|| async {
            let (key, version) = from.clone().unzip();
            let request = client.s3.list_object_versions().bucket(&client.bucket).prefix(&client.prefix);
            let request = request.encoding_type(EncodingType::Url);
            let request = request.set_key_marker(key).set_version_id_marker(version.flatten());
            request.send().await.map_err(|error| client.explain(Failure::of(OPERATION, &error), ""))
        });
        let page = page.await?;
        let corrupt = |words: &str| Failure::found(OPERATION, FailureKind::Corrupt, words);
        let decode = |text: &str| decoded(text, page.encoding_type().is_some());
        let path_of = |key: Option<&str>| {
            let key = key.map(decode).ok_or_else(|| corrupt("a version without a key was listed"))?;
            let outside = || corrupt("a key was listed that lies elsewhere");
            key.strip_prefix(&client.prefix).map(str::to_owned).ok_or_else(outside)
        };
        let before = seen.len();
        for version in page.versions() {
            let path = path_of(version.key())?;
            let id = version.version_id().unwrap_or("null").to_owned();
            let size = version.size().and_then(|size| u64::try_from(size).ok());
            let size = size.ok_or_else(|| corrupt("a version without a size was listed"))?;
            if !seen.insert((path.clone(), id.clone())) {
                return Err(corrupt("the same version was listed twice"));
            }
            let (time, etag) =
                (moment(version.last_modified()), version.e_tag().unwrap_or_default().to_owned());
            of_key.entry(path).or_default().push(Version { id, time, size, etag });
        }
        for marker in page.delete_markers() {
            let path = path_of(marker.key())?;
            let id = marker.version_id().unwrap_or("null");
            if !seen.insert((path.clone(), id.to_owned())) {
                return Err(corrupt("the same deletion was listed twice"));
            }
            let (time, id) = (moment(marker.last_modified()), shown(id));
            let words = format!(
                "DELETED in the store at {time} by a delete marker, version {id}; the first version is still there"
            );
            faults.push(RemoteFault { path, words });
        }
        if seen.len() > MOST_VERSIONS {
            return Err(corrupt("more than a million versions lie there: it is no bundle"));
        }
        if page.is_truncated() != Some(true) {
            break;
        }
        empty = if seen.len() == before { empty + 1 } else { 0 };
        let key = page.next_key_marker().map(decode).filter(|key| !key.is_empty());
        let next = key.map(|key| (key, page.next_version_id_marker().map(str::to_owned)));
        // A marker that does not go on would lead round in a circle.
        if next.is_none() || next == from || empty > MOST_EMPTY {
            return Err(corrupt("the listing does not go on, and says that there is more"));
        }
        from = next;
    }
    let mut found = Found { faults, is_complete: true, ..Found::default() };
    for fault in found.faults.iter_mut().filter(|fault| !of_key.contains_key(&fault.path)) {
        fault.words = fault.words.replace("; the first version is still there", "; no version of it is left");
    }
    let mut unversioned = 0;
    for (path, mut versions) in of_key {
        // S3 lists the newest first. The times do not tell: that of a multipart upload is when it was begun.
        let Some(first) = versions.pop() else { continue };
        for later in &versions {
            let alike =
                if later.etag == first.etag && later.size == first.size { ", of the same ETag," } else { "" };
            found.faults.push(RemoteFault {
                path: path.clone(),
                words: format!(
                    "a LATER VERSION{alike} was put at {}, version {}, {} bytes; only the first counts, version {} of {}",
                    later.time,
                    shown(&later.id),
                    later.size,
                    shown(&first.id),
                    first.time
                ),
            });
        }
        let id = u32::try_from(found.objects.len()).unwrap_or(u32::MAX);
        unversioned += usize::from(first.id == "null");
        let version = (first.id != "null" || !versions.is_empty()).then_some(first.id);
        found.objects.insert(path, Object { id, size: first.size, etag: first.etag, version });
    }
    if unversioned > 0 {
        found.notes.push(format!(
            "bucket {} kept no versions when {unversioned} of these objects were put: one that was replaced before left no trace",
            client.bucket
        ));
    }
    Ok(found)
}

async fn objects(client: &Client) -> Result<Found, Failure> {
    const OPERATION: &str = "S3 ListObjectsV2";
    let mut found = Found { is_complete: true, ..Found::default() };
    let mut from: Option<String> = None;
    let mut empty = 0;
    loop {
        let page = tried(|| async {
            let request = client.s3.list_objects_v2().bucket(&client.bucket).prefix(&client.prefix);
            let request = request.encoding_type(EncodingType::Url).set_continuation_token(from.clone());
            request.send().await.map_err(|error| client.explain(Failure::of(OPERATION, &error), ""))
        });
        let page = page.await?;
        let corrupt = |words: &str| Failure::found(OPERATION, FailureKind::Corrupt, words);
        let before = found.objects.len();
        for object in page.contents() {
            let key = object.key().map(|key| decoded(key, page.encoding_type().is_some()));
            let path = key.as_deref().and_then(|key| key.strip_prefix(&client.prefix));
            let path = path.ok_or_else(|| corrupt("a key was listed that lies elsewhere"))?;
            let size = object.size().and_then(|size| u64::try_from(size).ok());
            let size = size.ok_or_else(|| corrupt("an object without a size was listed"))?;
            let id = u32::try_from(found.objects.len()).unwrap_or(u32::MAX);
            let etag = object.e_tag().unwrap_or_default().to_owned();
            let one = Object { id, size, etag, version: None };
            if found.objects.insert(path.to_owned(), one).is_some() {
                return Err(corrupt("the same key was listed twice"));
            }
        }
        if found.objects.len() > MOST_VERSIONS {
            return Err(corrupt("more than a million objects lie there: it is no bundle"));
        }
        if page.is_truncated() != Some(true) {
            return Ok(found);
        }
        empty = if found.objects.len() == before { empty + 1 } else { 0 };
        let next = page.next_continuation_token().map(str::to_owned);
        if next.is_none() || next == from || empty > MOST_EMPTY {
            return Err(corrupt("the listing does not go on, and says that there is more"));
        }
        from = next;
    }
}

/// A key as it is. S3 encodes keys in a listing where that is asked for, since XML cannot hold every character.
fn decoded(text: &str, is_encoded: bool) -> String {
    if !is_encoded {
        return text.to_owned();
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = |at: usize| after.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        rest = after;
        match (first, hex(0), hex(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push(u8::try_from(high * 16 + low).unwrap_or(b'?'));
                rest = after.get(2..).unwrap_or_default();
            }
            (b'+', _, _) => bytes.push(b' '),
            (byte, _, _) => bytes.push(*byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::decoded;

    #[test]
    fn a_key_is_decoded_as_s3_encodes_it() {
        assert_eq!(decoded("a%2Fb+c%2B%C3%A9%1b", true), "a/b c+é\u{1b}");
        assert_eq!(decoded("a%2", true), "a%2");
        assert_eq!(decoded("a%2Fb+", false), "a%2Fb+");
    }
}
