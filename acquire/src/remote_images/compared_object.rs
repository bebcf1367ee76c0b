//! A raw image whose store tells its MD5: compared once every byte of it came in order.

use std::io;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use custody::bundle::{Source as SourceFacts, State};
use md5::{Digest as _, Md5};
use serde_json::{Map, Value};

use super::read_ahead::RemoteDisk;
use crate::error::Error;
use crate::source::{Issue, Issues, Source};

/// Such an image.
#[derive(Debug)]
pub(super) struct ComparedObject {
    disk: RemoteDisk,
    /// MD5 of the whole object as its store tells it, base64.
    told_md5: String,
    md5: Md5,
    /// Bytes from the first on that were hashed.
    hashed: u64,
    found: Option<String>,
}

impl ComparedObject {
    pub(super) fn new(disk: RemoteDisk, told_md5: String) -> Self {
        Self { disk, told_md5, md5: Md5::new(), hashed: 0, found: None }
    }

    /// Hashes what comes next. What was read before is passed over; behind a gap nothing is hashed any more.
    fn came(&mut self, offset: u64, bytes: &[u8]) {
        let known = self.hashed.checked_sub(offset).and_then(|known| usize::try_from(known).ok());
        let new = known.and_then(|known| bytes.get(known..)).unwrap_or_default();
        self.md5.update(new);
        self.hashed = self.hashed.saturating_add(new.len() as u64);
    }
}

impl Source for ComparedObject {
    fn facts(&self) -> SourceFacts {
        self.disk.facts()
    }

    fn size(&self) -> Option<u64> {
        self.disk.size()
    }

    fn sector_size(&self) -> u32 {
        self.disk.sector_size()
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.disk.read_at(offset, buf)?;
        self.came(offset, buf.get(..read).unwrap_or_default());
        Ok(read)
    }

    fn reread_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.disk.reread_at(offset, buf)?;
        self.came(offset, buf.get(..read).unwrap_or_default());
        Ok(read)
    }

    fn run_at(&mut self, offset: u64) -> io::Result<Option<(State, u64)>> {
        self.disk.run_at(offset)
    }

    fn stopped_by(&mut self) -> Option<Error> {
        self.disk.stopped_by()
    }

    fn end(&mut self, issues: &mut Issues) {
        self.disk.end(issues);
        // Where a part was left out, or came in an earlier run, nothing is known of the whole.
        if self.size() != Some(self.hashed) {
            return;
        }
        let found = STANDARD.encode(self.md5.clone().finalize());
        if found != self.told_md5 {
            let what = format!("the object's MD5 is {found}, but its store says {}", self.told_md5);
            let path = self.facts().path.unwrap_or_default();
            issues.add(Issue { path, offset: None, length: None, what });
        }
        self.found = Some(found);
    }

    fn facts_after(&self) -> Map<String, Value> {
        let mut facts = self.disk.facts_after();
        facts.insert("md5_compared".to_owned(), self.found.is_some().into());
        if let Some(found) = &self.found {
            facts.insert("object_md5".to_owned(), found.as_str().into());
        }
        facts
    }
}
