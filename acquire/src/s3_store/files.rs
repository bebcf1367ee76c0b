//! Files of a bundle's folder on their way into the store, and what may be left there that belongs to none.

use std::io;
use std::sync::Arc;

use custody::Digest;
use custody::bundle::{BundleStore, LocalFolder};

use super::multipart::{Dispatch, Sending, became, complete};
use super::uploads::Line;
use crate::progress::Progress;

/// The list of a bundle's files, which is put last.
pub(super) const SUMS: &str = "SHA256SUMS";

/// No list is longer: it names a segment for each GiB.
const LONGEST_SUMS: u64 = 256 << 20;

/// What the log puts by itself.
pub(super) const OF_THE_LOG: &str = "keys/log.vkey";

/// Words about uploads name so many; more only count.
pub(super) const MOST_NAMED: usize = 20;

/// The folder of a bundle, and the way to the store.
pub(super) struct Files<'a> {
    pub(super) line: &'a Arc<Dispatch>,
    pub(super) local: &'a LocalFolder,
}

impl Files<'_> {
    /// Puts a file, if it has the hash that it should have. One that is there already is left as it is.
    pub(super) fn put(&self, path: &str, expected: Digest, progress: &dyn Progress) -> io::Result<()> {
        let Dispatch { requests, uploads, .. } = &**self.line;
        let object = uploads.of(path);
        if object.done.is_some() {
            return Ok(());
        }
        if object.upload.as_ref().and_then(|upload| upload.ready).is_some_and(|(_, _, made)| made == expected)
        {
            return complete(self.line, path);
        }
        let changed = || io::Error::new(io::ErrorKind::InvalidData, "it was changed since it was written");
        if self.local.size_of(path)? > requests.pace.part_size as u64 {
            let mut sending = Sending::begin(self.line, path)?;
            self.each_block(path, |block| {
                progress.advanced(block.len() as u64);
                io::Write::write_all(&mut sending, block)
            })?;
            let (_, sha256) = sending.finish_sending()?;
            return if sha256 == expected { complete(self.line, path) } else { Err(changed()) };
        }
        let bytes = self.small(path)?;
        if custody::sha256(&bytes) != expected {
            return Err(changed());
        }
        progress.advanced(bytes.len() as u64);
        self.put_bytes(path, bytes, object.putting)
    }

    /// Puts a small object.
    pub(super) fn put_bytes(&self, path: &str, bytes: Vec<u8>, announced_before: bool) -> io::Result<()> {
        let Dispatch { requests, uploads, .. } = &**self.line;
        let key = requests.place.key(path).map_err(io::Error::other)?;
        uploads.note(&[Line::Putting { path: path.to_owned() }])?;
        let made = (bytes.len() as u64, custody::sha256(&bytes));
        let sent = requests.wait(requests.put(&key, bytes));
        let lines = became(self.line, path, &key, made, announced_before, sent)?;
        uploads.note(&lines)
    }

    pub(super) fn each_block(
        &self,
        path: &str,
        mut take: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut block = vec![0; 1 << 20];
        let mut at = 0u64;
        loop {
            let read = self.local.read_at(path, at, &mut block)?;
            if read == 0 {
                return Ok(());
            }
            take(block.get(..read).unwrap_or_default())?;
            at = at.saturating_add(read as u64);
        }
    }

    /// The files of the bundle with their hashes, as its list in the folder has them.
    pub(super) fn listed(&self) -> io::Result<Vec<(Digest, String)>> {
        let wrong = || io::Error::new(io::ErrorKind::InvalidData, "it is no list of files");
        let text = String::from_utf8(self.small(SUMS)?).map_err(|_| wrong())?;
        text.lines()
            .map(|line| {
                let (hash, path) = line.split_once("  ").ok_or_else(wrong)?;
                Ok((hash.parse().map_err(|_| wrong())?, path.to_owned()))
            })
            .collect()
    }

    /// A file that fits into memory.
    pub(super) fn small(&self, path: &str) -> io::Result<Vec<u8>> {
        if self.local.size_of(path)? > LONGEST_SUMS {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is longer than can be"));
        }
        let mut bytes = Vec::new();
        self.each_block(path, |block| {
            bytes.extend_from_slice(block);
            Ok(())
        })?;
        Ok(bytes)
    }
}

/// Looks for uploads that were begun by an attempt whose answer never came, or were left for another, and gives them up.
///
/// What cannot be found or given up stays in the journal, and is told by [`left_behind`].
pub(super) fn clear_up(line: &Dispatch) {
    let Dispatch { requests, uploads, .. } = line;
    for (path, object) in uploads.all() {
        let Ok(key) = requests.place.key(&path) else { continue };
        for id in &object.left {
            if requests.wait(requests.abort(&key, id)).is_ok() {
                // A line that is lost is made again: an upload that is gone is given up as well as one that is there.
                let _ = uploads.note(&[Line::Aborted { id: id.clone(), path: path.clone() }]);
            }
        }
        if object.unknown == 0 {
            continue;
        }
        let Ok(found) = requests.wait(requests.uploads_of(&key)) else { continue };
        let own = object.upload.as_ref().map(|upload| upload.id.as_str());
        let all_gone = found
            .iter()
            .filter(|id| Some(id.as_str()) != own)
            .all(|id| requests.wait(requests.abort(&key, id)).is_ok());
        if all_gone {
            let _ = uploads.note(&[Line::Cleared { path }]);
        }
    }
}

/// What may be in the store that belongs to no file, and what was taken there on trust, each in words.
pub(super) fn left_behind(line: &Dispatch) -> Vec<String> {
    let mut words = Vec::new();
    let place = &line.requests.place;
    let bucket = &place.bucket;
    for (path, object) in line.uploads.all() {
        let Ok(key) = place.key(&path) else { continue };
        if object.unknown > 0 {
            words.push(format!(
                "an upload to s3://{bucket}/{key} may have been begun whose id is not known here: \
                 `aws s3api list-multipart-uploads --bucket {bucket} --prefix {key}` tells"
            ));
        }
        let open = object.upload.iter().map(|upload| &upload.id).chain(&object.left);
        words
            .extend(open.map(|id| format!("the upload {id} to s3://{bucket}/{key} was begun and not ended")));
        if object.assumed {
            words.push(format!(
                "s3://{bucket}/{key} was there after an attempt whose answer never came; it was taken for that one"
            ));
        }
    }
    if words.len() > MOST_NAMED {
        let more = words.len() - MOST_NAMED;
        words.truncate(MOST_NAMED);
        words.push(format!("and {more} more, in uploads.journal"));
    }
    words
}
