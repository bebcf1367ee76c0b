//! Where the data of a bundle lies that was written to an S3 evidence store, as `store.json` in its folder says.
//!
//! The folder then holds everything of the bundle but `data/`. Every file of the bundle is an object: its key is the
//! prefix, `/`, and its path. `store.json` is no part of the bundle: it is neither in `SHA256SUMS` nor in the store.

use std::fmt;
use std::fs::File;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, openat};
use serde::{Deserialize, Serialize};

use super::store::is_bundle_path;
use crate::durable_file::{read_small, replace, sync_folder, write_new};
use crate::error::{Error, Result};
use crate::strict_json;

/// The file that names the place, in the bundle's folder.
pub(crate) const STORE: &str = "store.json";

/// The file that uploads are noted in until the bundle is sealed, in the bundle's folder.
pub(crate) const UPLOADS: &str = "uploads.journal";

/// No `store.json` is longer.
const LONGEST: u64 = 8 << 10;

/// S3 takes keys of 1,024 bytes; paths of a bundle take less than the rest.
const LONGEST_PREFIX: usize = 700;

/// The longest key that S3 takes.
const LONGEST_KEY: usize = 1024;

/// How long objects may be retained: a hundred years.
const MOST_DAYS: u32 = 36_525;

/// What the file looks like.
const VERSION: u32 = 1;

/// The place of one bundle in an evidence store, or of many below one prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemotePlace {
    /// The bucket.
    pub bucket: String,
    /// What every key begins with, without a `/` at its end; empty for the whole bucket.
    pub prefix: String,
    /// The bucket's region, as `eu-central-1`; empty while it is not known.
    pub region: String,
    /// The server, where it is not AWS's own: `https://s3.example.org:9000`.
    pub endpoint: Option<String>,
    /// How every object is put under Object Lock, where that was asked for.
    pub retention: Option<Retention>,
}

/// Object Lock retention that every object is put with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// Days from the moment when an object is put.
    pub days: u32,
    /// Who may shorten it.
    pub mode: RetentionMode,
}

/// Who may shorten the retention of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RetentionMode {
    /// Nobody, the account's owner included.
    Compliance,
    /// Who has `s3:BypassGovernanceRetention`.
    Governance,
}

impl RetentionMode {
    /// As `compliance`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Compliance => "compliance",
            Self::Governance => "governance",
        }
    }
}

/// `store.json`, its fields in the order of strict JSON.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoreFile {
    bucket: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    endpoint: Option<String>,
    prefix: String,
    region: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    retention: Option<Retention>,
    v: u32,
}

impl RemotePlace {
    /// The place that `s3://bucket/prefix` names; region and server are not known yet.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] with what is wrong.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |why: &str| Error::malformed("place in an evidence store", format!("{text:?} {why}"));
        let rest = text.strip_prefix("s3://").ok_or_else(|| wrong("is not s3://bucket/prefix"))?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let place = Self {
            bucket: bucket.to_owned(),
            prefix: prefix.strip_suffix('/').unwrap_or(prefix).to_owned(),
            region: String::new(),
            endpoint: None,
            retention: None,
        };
        place.check().map_err(|why| wrong(&why))?;
        Ok(place)
    }

    /// The same place on a server and in a region.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] when they are none; an address with a user name or a query is refused, since it may hold a secret.
    pub fn on(mut self, region: &str, endpoint: Option<&str>) -> Result<Self> {
        region.clone_into(&mut self.region);
        self.endpoint = endpoint.map(|endpoint| endpoint.trim_end_matches('/').to_owned());
        self.check().map_err(|why| Error::malformed("place in an evidence store", why))?;
        Ok(self)
    }

    /// The same place, every object put under Object Lock.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] for no day, and for more than a hundred years.
    pub fn retained(mut self, retention: Option<Retention>) -> Result<Self> {
        self.retention = retention;
        self.check().map_err(|why| Error::malformed("retention", why))?;
        Ok(self)
    }

    /// The place of one bundle below this one.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] for a name that cannot be a part of a key.
    pub fn below(&self, folder_name: &str) -> Result<Self> {
        let prefix = [self.prefix.as_str(), folder_name].into_iter().filter(|part| !part.is_empty());
        let place = Self { prefix: prefix.collect::<Vec<_>>().join("/"), ..self.clone() };
        place.check().map_err(|why| Error::malformed("place in an evidence store", why))?;
        Ok(place)
    }

    /// The key of a file of the bundle.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] for a path that leads out of the bundle, or a key that S3 does not take.
    pub fn key(&self, path: &str) -> Result<String> {
        let key = if self.prefix.is_empty() { path.to_owned() } else { format!("{}/{path}", self.prefix) };
        if !is_bundle_path(path) || key.len() > LONGEST_KEY {
            return Err(Error::malformed("key of an object", format!("{key:?}")));
        }
        Ok(key)
    }

    /// The path in the bundle of an object's key; `None` for a key of something else.
    #[must_use]
    pub fn path_of<'k>(&self, key: &'k str) -> Option<&'k str> {
        let path = if self.prefix.is_empty() {
            key
        } else {
            key.strip_prefix(self.prefix.as_str())?.strip_prefix('/')?
        };
        is_bundle_path(path).then_some(path)
    }

    /// What the folder of a bundle says of its place; `None` if all of the bundle lies there.
    ///
    /// # Errors
    ///
    /// [`Error::Read`], or [`Error::Damaged`] when `store.json` is not what this program writes.
    pub fn read(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(STORE);
        let Some(bytes) = read_small(&path, LONGEST)? else { return Ok(None) };
        Self::from_bytes(&bytes).map(Some).map_err(|why| Error::Damaged { path, why })
    }

    fn from_bytes(bytes: &[u8]) -> std::result::Result<Self, String> {
        let line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let file: StoreFile = strict_json::read(line).map_err(|error| error.to_string())?;
        if file.v != VERSION {
            return Err(format!("it is of version {}, and this build reads {VERSION}", file.v));
        }
        let StoreFile { bucket, endpoint, prefix, region, retention, .. } = file;
        let place = Self { bucket, prefix, region, endpoint, retention };
        place.check()?;
        Ok(place)
    }

    fn to_bytes(&self) -> Result<Vec<u8>> {
        let file = StoreFile {
            bucket: self.bucket.clone(),
            endpoint: self.endpoint.clone(),
            prefix: self.prefix.clone(),
            region: self.region.clone(),
            retention: self.retention,
            v: VERSION,
        };
        let value =
            serde_json::to_value(file).map_err(|error| Error::malformed("place", error.to_string()))?;
        Ok((strict_json::to_line(&value)? + "\n").into_bytes())
    }

    /// Says in the folder of a bundle that its data lies here. It is on the disk when this returns.
    ///
    /// # Errors
    ///
    /// [`Error::WouldOverwrite`] when the folder names a place already, [`Error::Write`].
    pub fn write(&self, folder: &Path) -> Result<()> {
        write_new(&folder.join(STORE), &self.to_bytes()?)?;
        sync_folder(folder)
    }

    /// Names another place in a folder that names one: the bundle was moved.
    ///
    /// # Errors
    ///
    /// [`Error::Write`].
    pub fn replace(&self, folder: &Path) -> Result<()> {
        replace(&folder.join(STORE), &folder.join("custody.store.tmp"), &self.to_bytes()?)?;
        sync_folder(folder)
    }

    /// What cannot be in a place; it is written to a log and to a request, so nothing else is let in.
    fn check(&self) -> std::result::Result<(), String> {
        let Self { bucket, prefix, region, endpoint, retention } = self;
        let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
        let ends = |text: &str| {
            text.bytes().next().is_some_and(plain) && text.bytes().next_back().is_some_and(plain)
        };
        if !(3..=63).contains(&bucket.len())
            || !ends(bucket)
            || !bucket.bytes().all(|c| plain(c) || matches!(c, b'.' | b'-'))
            || bucket.contains("..")
        {
            return Err(format!("{bucket:?} is no name of a bucket"));
        }
        if prefix.len() > LONGEST_PREFIX || !(prefix.is_empty() || is_bundle_path(prefix)) {
            return Err(format!(
                "{prefix:?} is no prefix: it may have {LONGEST_PREFIX} printable ASCII letters without spaces, and no empty part"
            ));
        }
        if region.len() > 64 || !region.bytes().all(|c| plain(c) || c == b'-') {
            return Err(format!("{region:?} is no region"));
        }
        if let Some(endpoint) = endpoint {
            let host = endpoint.strip_prefix("https://").or_else(|| endpoint.strip_prefix("http://"));
            let allowed = |c: u8| {
                c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'_' | b':' | b'/' | b'[' | b']')
            };
            // Not repeated: a password may stand in it.
            if host.is_none_or(|host| host.is_empty() || host.len() > 300 || !host.bytes().all(allowed)) {
                return Err(
                    "the server's address is not http(s)://host:port, without user name and query".to_owned()
                );
            }
        }
        if retention.is_some_and(|retention| !(1..=MOST_DAYS).contains(&retention.days)) {
            return Err(format!("objects can be retained for 1 to {MOST_DAYS} days"));
        }
        Ok(())
    }
}

/// Opens the notes of what was begun in the store, to read them through and to append to them; made if they are not there.
///
/// # Errors
///
/// [`Error::Write`].
pub fn open_uploads(folder: &Path) -> Result<(File, File)> {
    let path = folder.join(UPLOADS);
    let open = |flags| {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        openat(CWD, &path, flags, Mode::from_raw_mode(0o644)).map(File::from)
    };
    let fault = |error: rustix::io::Errno| Error::Write { path: path.clone(), source: error.into() };
    let append = open(OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE).map_err(fault)?;
    let read = open(OFlags::RDONLY).map_err(fault)?;
    sync_folder(folder)?;
    Ok((read, append))
}

/// Whether there are notes of what was begun in the store: then it is not ended.
#[must_use]
pub fn has_uploads(folder: &Path) -> bool {
    folder.join(UPLOADS).is_file()
}

/// Removes the notes of what was begun, once all of it is there.
///
/// # Errors
///
/// [`Error::Write`].
pub fn remove_uploads(folder: &Path) -> Result<()> {
    let path = folder.join(UPLOADS);
    match std::fs::remove_file(&path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(Error::Write { path, source }),
        _ => sync_folder(folder),
    }
}

/// Removes what lies in the folder of a bundle of which the store has the data: its tables and empty folders.
///
/// Files that `put` does not name are left alone.
///
/// # Errors
///
/// [`Error::Write`].
pub fn remove_local_data(folder: &Path, put: &[String]) -> Result<()> {
    for path in put.iter().filter(|path| path.starts_with("data/") && is_bundle_path(path)) {
        let path = folder.join(path);
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::Write { path, source });
            }
            _ => {}
        }
    }
    // A folder that holds something else stays, with it.
    let data = folder.join("data");
    for entry in std::fs::read_dir(&data).into_iter().flatten().flatten() {
        let _ = std::fs::remove_dir(entry.path());
    }
    let _ = std::fs::remove_dir(&data);
    sync_folder(folder)
}

impl fmt::Display for RemotePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}", self.bucket)?;
        if self.prefix.is_empty() { Ok(()) } else { write!(f, "/{}", self.prefix) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> RemotePlace {
        let place = RemotePlace::parse("s3://evidence/ir-17/").unwrap();
        place.on("eu-central-1", None).unwrap().below("E001-web01").unwrap()
    }

    #[test]
    fn a_place_gives_the_keys_of_a_bundle_and_takes_them_apart_again() {
        let place = place();
        assert_eq!(place.to_string(), "s3://evidence/ir-17/E001-web01");
        let key = place.key("data/disk/000000.zst").unwrap();
        assert_eq!(key, "ir-17/E001-web01/data/disk/000000.zst");
        assert_eq!(place.path_of(&key), Some("data/disk/000000.zst"));
        for other in ["ir-17/E001-web01", "ir-17/E001-web01x/y", "ir-17/E001-web01/../y", "x"] {
            assert_eq!(place.path_of(other), None, "{other}");
        }
        for path in ["../x", "/x", "", "a//b", "a b", "a\\b"] {
            assert!(place.key(path).is_err(), "{path}");
        }
        let whole = RemotePlace::parse("s3://evidence").unwrap();
        assert_eq!(whole.key("manifest.json").unwrap(), "manifest.json");
        assert_eq!(whole.below("E001").unwrap().to_string(), "s3://evidence/E001");
    }

    #[test]
    fn what_is_written_is_read_again_and_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(RemotePlace::read(folder.path()).unwrap(), None);
        let retention = Retention { days: 30, mode: RetentionMode::Compliance };
        let place =
            place().on("eu-1", Some("http://127.0.0.1:9000/")).unwrap().retained(Some(retention)).unwrap();
        place.write(folder.path()).unwrap();
        let bytes = std::fs::read_to_string(folder.path().join("store.json")).unwrap();
        assert_eq!(
            bytes,
            "{\"bucket\":\"evidence\",\"endpoint\":\"http://127.0.0.1:9000\",\"prefix\":\"ir-17/E001-web01\",\
             \"region\":\"eu-1\",\"retention\":{\"days\":30,\"mode\":\"compliance\"},\"v\":1}\n"
        );
        assert_eq!(RemotePlace::read(folder.path()).unwrap(), Some(place.clone()));
        assert!(matches!(place.write(folder.path()), Err(Error::WouldOverwrite { .. })));
    }

    #[test]
    fn a_place_that_cannot_be_is_refused_in_words() {
        for text in [
            "",
            "s3:/x",
            "http://x",
            "s3://",
            "s3://ab",
            "s3://Evidence",
            "s3://evidence//x",
            "s3://evidence/a b",
        ] {
            assert!(RemotePlace::parse(text).is_err(), "{text}");
        }
        let refused = place().on("eu-1", Some("https://user:secret@host")).unwrap_err().to_string();
        assert!(!refused.contains("secret"), "{refused}");
        let folder = tempfile::tempdir().unwrap();
        for bytes in [
            "",
            "{}",
            "null",
            "{\"bucket\":\"evidence\",\"prefix\":\"../x\",\"region\":\"eu-1\",\"v\":1}",
            "{\"bucket\":\"evidence\",\"prefix\":\"x\",\"region\":\"eu 1\",\"v\":1}",
            "{\"bucket\":\"evidence\",\"prefix\":\"x\",\"region\":\"eu-1\",\"v\":2}",
            "{\"bucket\":\"evidence\",\"more\":1,\"prefix\":\"x\",\"region\":\"eu-1\",\"v\":1}",
            "{ \"bucket\":\"evidence\",\"prefix\":\"x\",\"region\":\"eu-1\",\"v\":1}",
            "{\"bucket\":\"evidence\",\"endpoint\":\"file:///etc\",\"prefix\":\"x\",\"region\":\"eu-1\",\"v\":1}",
        ] {
            std::fs::write(folder.path().join("store.json"), bytes).unwrap();
            assert!(matches!(RemotePlace::read(folder.path()), Err(Error::Damaged { .. })), "{bytes}");
        }
    }
}
