//! Making and closing grants, by who has the right to write to the store.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use custody::bundle::{RemotePlace, RetentionMode};
use custody::{Clock, Moment, SystemClock};
use tokio::task::JoinSet;

use super::files::MOST_NAMED;
use super::grant::{
    Grant, GrantFile, Granted, GrantedUpload, LARGEST_GRANT, PARTS, address, once_of, uploads_of, warning,
};
use super::presigning::{Presigner, base_of, encoded};
use super::requests::{Pace, Requests};
use crate::aws::{Connection, Failure, FailureKind};
use crate::error::{Error, Result};

/// Signatures hold for no longer: seven days.
pub const LONGEST_GRANT: Duration = Duration::from_secs(7 * 24 * 3600);

/// Uploads that are begun at a time.
const AT_ONCE: usize = 16;

/// Headers of the signature of an act.
type Headers = Vec<(String, String)>;

/// Makes a grant: begins the uploads, and signs every act.
///
/// `place` is that of the exhibit. The grant ends earlier where the credentials do; [`Grant::expires`] tells.
///
/// # Errors
///
/// [`Error::Grant`] for limits that cannot be, [`Error::Cloud`]; [`Error::GrantLeft`] if what was begun could not all be
/// given up again.
pub fn issue(
    connection: &Connection,
    place: &RemotePlace,
    granted: &Granted,
    lasts: Duration,
) -> Result<Grant> {
    check(granted, lasts)?;
    let wanted = uploads_of(granted);
    let requests = Requests::new(connection, place.clone(), Pace::default());
    let (begun, failed) = requests.wait(begin_all(&requests, wanted));
    let made = failed.map_or_else(|| sign_all(connection, place, granted, lasts, &begun), Err);
    made.map_err(|error| {
        // Nobody else will know of them, nor of those whose answer never came.
        let Closed { left, .. } = requests.wait(abort_every(&requests, &begun));
        if left.is_empty() { error } else { Error::GrantLeft { left, source: Box::new(error) } }
    })
}

/// Signs a grant anew, for the same exhibit and with the uploads that were begun for it: a host that was cut short goes on.
///
/// # Errors
///
/// As [`issue`].
pub fn renew(connection: &Connection, grant: &Grant, lasts: Duration) -> Result<Grant> {
    let granted = grant.granted();
    check(&granted, lasts)?;
    let begun: BTreeMap<_, _> =
        grant.file.uploads.iter().map(|(path, upload)| (path.clone(), upload.id.clone())).collect();
    sign_all(connection, grant.place(), &granted, lasts, &begun)
}

fn check(granted: &Granted, lasts: Duration) -> Result<()> {
    let wrong = |reason: String| Err(Error::Grant { reason });
    if lasts.is_zero() || lasts > LONGEST_GRANT {
        return wrong("it can hold for up to 168 hours, as signatures do".to_owned());
    }
    if !(1..=LARGEST_GRANT).contains(&granted.size) {
        return wrong(format!("it can be made for 1 byte to {} TiB", LARGEST_GRANT >> 40));
    }
    Ok(())
}

/// Begins the uploads: gives those that were begun, and why not all of them were.
async fn begin_all(requests: &Requests, wanted: Vec<String>) -> (BTreeMap<String, String>, Option<Error>) {
    let mut begun = BTreeMap::new();
    let mut failed = None;
    let mut left = wanted.into_iter();
    let mut tasks = JoinSet::new();
    loop {
        while tasks.len() < AT_ONCE && failed.is_none() {
            let Some(path) = left.next() else { break };
            let requests = requests.clone();
            tasks.spawn(async move {
                let key = requests.place.key(&path)?;
                let id = requests.create_unchecked(&key).await.map_err(|failed| failed.failure)?;
                Ok::<_, Error>((path, id))
            });
        }
        match tasks.join_next().await {
            None => return (begun, failed),
            Some(Ok(Ok((path, id)))) => {
                begun.insert(path, id);
            }
            Some(Ok(Err(error))) => failed = Some(error),
            Some(Err(_)) => failed = Some(Error::Stopped),
        }
    }
}

/// Gives up the uploads that are known, and then whatever else is listed as begun at that place.
async fn abort_every(requests: &Requests, begun: &BTreeMap<String, String>) -> Closed {
    let mut closed = Closed::default();
    let (bucket, prefix) = (&requests.place.bucket, format!("{}/", requests.place.prefix));
    let left = |key: &str, id: &str, failure: &Failure| {
        format!("the upload {id} to s3://{bucket}/{key} is left: {failure}")
    };
    for (path, id) in begun {
        let Ok(key) = requests.place.key(path) else { continue };
        match requests.abort(&key, id).await {
            Ok(true) => closed.aborted += 1,
            Ok(false) => {
                closed.used += 1;
                // Some servers leave out what the upload was begun with, and who had the grant could not retain anything.
                match requests.retain(&key).await {
                    Err(failure) if failure.kind != FailureKind::NotFound => {
                        closed.left.push(format!("s3://{bucket}/{key} is not retained: {failure}"));
                    }
                    _ => {}
                }
            }
            Err(failure) => closed.left.push(left(&key, id, &failure)),
        }
    }
    let tried: BTreeSet<&String> = begun.values().collect();
    match requests.uploads_below(&prefix).await {
        Ok(found) => {
            for (key, id) in found.iter().filter(|(_, id)| !tried.contains(id)) {
                match requests.abort(key, id).await {
                    Ok(there) => closed.aborted += u64::from(there),
                    Err(failure) => closed.left.push(left(key, id, &failure)),
                }
            }
        }
        Err(failure) => closed.left.push(format!(
            "whether other uploads below s3://{bucket}/{prefix} were begun and not ended is not known: {failure}"
        )),
    }
    if closed.left.len() > MOST_NAMED {
        let more = closed.left.len() - MOST_NAMED;
        closed.left.truncate(MOST_NAMED);
        closed.left.push(format!(
            "and {more} more: `aws s3api list-multipart-uploads --bucket {bucket} --prefix {prefix}` tells"
        ));
    }
    closed
}

fn sign_all(
    connection: &Connection,
    place: &RemotePlace,
    granted: &Granted,
    lasts: Duration,
    begun: &BTreeMap<String, String>,
) -> Result<Grant> {
    let now = SystemClock.now();
    let credentials = connection.wait(connection.wire().credentials(connection.config(), "presigning"))?;
    // A signature dies with the session that made it.
    let end = credentials.expiry().and_then(|end| end.duration_since(std::time::UNIX_EPOCH).ok());
    let left =
        end.map(|end| end.saturating_sub(Duration::from_nanos(u64::try_from(now.wall_ns).unwrap_or(0))));
    let lasts = Duration::from_secs(left.map_or(lasts, |left| left.min(lasts)).as_secs());
    if lasts.is_zero() {
        let words = "the credentials have ended, and signatures end with them";
        return Err(Failure::found("presigning", FailureKind::Credentials, words).into());
    }
    let lasts_ns = i64::try_from(lasts.as_nanos()).unwrap_or(i64::MAX);
    let expires_ns = now.wall_ns.saturating_add(lasts_ns);
    let expires = Moment { wall_ns: expires_ns, ..now.clone() }.rfc3339();
    let presigner = Presigner::new(credentials, &place.region, now.wall_ns, lasts);
    let base = base_of(place);
    let only_new: Headers = vec![("if-none-match".to_owned(), "*".to_owned())];
    let mut of_once = only_new.clone();
    of_once.extend(lock_headers(place, &now));
    let (mut common, mut signed_headers) = (String::new(), [String::new(), String::new(), String::new()]);
    let mut signed = |which: usize, method: &str, url: &str, headers: &Headers| -> Result<String> {
        let signature = presigner.sign(method, url, headers)?;
        common = signature.common;
        if let Some(names) = signed_headers.get_mut(which) {
            *names = signature.headers;
        }
        Ok(signature.signature)
    };
    let mut once = BTreeMap::new();
    for path in once_of(granted) {
        let signature = signed(1, "PUT", &address(&base, &path), &of_once)?;
        once.insert(path, signature);
    }
    let mut uploads = BTreeMap::new();
    for (path, id) in begun {
        let (url, of) = (address(&base, path), encoded(id, false));
        let mut parts = Vec::new();
        for number in 1..=PARTS {
            let url = format!("{url}?partNumber={number}&uploadId={of}");
            parts.push(signed(2, "PUT", &url, &Vec::new())?);
        }
        let complete = signed(0, "POST", &format!("{url}?uploadId={of}"), &only_new)?;
        uploads.insert(path.clone(), GrantedUpload { complete, id: id.clone(), parts });
    }
    Grant::new(GrantFile {
        about: warning(),
        base,
        bucket: place.bucket.clone(),
        case: granted.case.clone(),
        common,
        encrypt_to: granted.encrypt_to.clone(),
        endpoint: place.endpoint.clone(),
        examiner: granted.examiner.clone(),
        exhibit: granted.exhibit.clone(),
        expires,
        expires_ns: expires_ns.to_string(),
        headers: of_once.into_iter().collect(),
        kind: granted.kind,
        name: granted.name.clone(),
        once,
        organisation: granted.organisation.clone(),
        prefix: place.prefix.clone(),
        region: place.region.clone(),
        retention: place.retention,
        signed_headers,
        size: granted.size,
        uploads,
        v: 1,
    })
}

/// How objects are retained that are put with the grant: from the moment when it was made.
fn lock_headers(place: &RemotePlace, now: &Moment) -> Headers {
    let Some(retention) = place.retention else { return Vec::new() };
    let mode = match retention.mode {
        RetentionMode::Compliance => "COMPLIANCE",
        RetentionMode::Governance => "GOVERNANCE",
    };
    let days_ns = i64::from(retention.days).saturating_mul(86_400_000_000_000);
    let until = Moment { wall_ns: now.wall_ns.saturating_add(days_ns), ..now.clone() };
    vec![
        ("x-amz-object-lock-mode".to_owned(), mode.to_owned()),
        // To the second: so every server takes it.
        (
            "x-amz-object-lock-retain-until-date".to_owned(),
            until.rfc3339().chars().take(19).collect::<String>() + "Z",
        ),
    ]
}

/// What became of the uploads of a grant that was closed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Closed {
    /// Uploads that were given up.
    pub aborted: u64,
    /// Uploads that had become objects, or were gone.
    pub used: u64,
    /// Uploads that could not be given up, or not be looked for, and objects that could not be retained, in words.
    pub left: Vec<String>,
}

/// Gives up every upload of a grant that has not become an object, and any other at its place. What was sent of it is gone
/// then. What has become an object is retained, where the place says so and the server is not AWS's own.
#[must_use]
pub fn close(connection: &Connection, grant: &Grant) -> Closed {
    let requests = Requests::new(connection, grant.place().clone(), Pace::default());
    let begun = grant.file.uploads.iter().map(|(path, upload)| (path.clone(), upload.id.clone())).collect();
    requests.wait(abort_every(&requests, &begun))
}

/// Gives up every upload at the place of one exhibit, whose grant was never written or is lost.
#[must_use]
pub fn give_up(connection: &Connection, place: &RemotePlace) -> Closed {
    let requests = Requests::new(connection, place.clone(), Pace::default());
    requests.wait(abort_every(&requests, &BTreeMap::new()))
}
