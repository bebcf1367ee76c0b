//! What one bundle is made of, and where its streams are put.

use std::io;
use std::path::Path;
use std::sync::Arc;

use custody::bundle::{BundleStore, HashedFile, Source as SourceFacts, StoredFile, Stream};
use custody::clock::Clock;
use custody::{CustodyLog, NewEntry, Writer};
use serde_json::{Map, Value};

use crate::error::Result;
use crate::pipeline::{Feed, PipelineOptions, store_stream};
use crate::progress::Progress;
use crate::source::Issues;
use crate::tar_packer::{FileCounts, TarPacker};

/// What one bundle is made of: told before it runs, then run stream by stream.
pub trait Capture: Send {
    /// What is known of the source before anything is read, for the manifest.
    fn facts(&self) -> SourceFacts;

    /// How it is acquired, for the manifest and the log.
    fn options(&self) -> Map<String, Value> {
        Map::new()
    }

    /// Bytes that will be read, if that is known.
    fn size(&self) -> Option<u64> {
        None
    }

    /// Acquires, stream by stream.
    ///
    /// # Errors
    ///
    /// What stops the acquisition. What does not is one of [`Streams::issues`].
    fn capture(&mut self, streams: &mut Streams<'_>) -> Result<()>;

    /// Facts that are known only after the run, added to those of the manifest.
    fn facts_after(&self) -> Map<String, Value> {
        Map::new()
    }
}

/// The streams of a bundle that is being made, one after the other.
pub struct Streams<'a> {
    pub(crate) store: &'a Arc<dyn BundleStore>,
    /// The bundle's folder, which is not acquired itself.
    pub(crate) folder: &'a Path,
    pub(crate) options: PipelineOptions,
    pub(crate) progress: &'a dyn Progress,
    pub(crate) log: &'a CustodyLog,
    pub(crate) writer: &'a Writer<'a>,
    pub(crate) issues: Issues,
    pub(crate) finished: Vec<Stream>,
    /// Tables of ranges that no stream has claimed yet.
    pub(crate) ranges: Vec<(String, StoredFile)>,
    pub(crate) files: Option<FileCounts>,
}

impl std::fmt::Debug for Streams<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Streams").field("finished", &self.finished.len()).finish_non_exhaustive()
    }
}

impl Streams<'_> {
    /// Stores one stream of bytes. `size` is what will come, if that is known.
    ///
    /// # Errors
    ///
    /// What `produce` gives, or what stops the bundle from being written.
    pub fn bytes<T>(
        &mut self,
        name: &str,
        kind: &str,
        size: Option<u64>,
        produce: impl FnOnce(&mut Feed, &mut Issues) -> Result<T>,
    ) -> Result<T> {
        self.progress.started(name, size);
        let (store, issues) = (Arc::clone(self.store), &mut self.issues);
        let (made, written) =
            store_stream(store, name, kind, self.options, self.progress, |feed| produce(feed, issues))?;
        let stream = written.writer.finish(written.sha256, written.sha256_data, None)?;
        self.add(stream);
        Ok(made)
    }

    /// Stores one stream of files: a PAX tar with its catalogue.
    ///
    /// # Errors
    ///
    /// What `pack` gives, or what stops the bundle from being written.
    pub fn tar<T>(
        &mut self,
        name: &str,
        kind: &str,
        pack: impl FnOnce(&mut TarPacker<'_>) -> Result<T>,
    ) -> Result<T> {
        self.progress.started(name, None);
        let mut catalog = HashedFile::begin(&**self.store, &format!("data/{name}.catalog.jsonl"))?;
        let (store, issues) = (Arc::clone(self.store), &mut self.issues);
        let (clock, folder) = (self.writer.clock(), self.folder);
        let ((made, counts), written) =
            store_stream(store, name, kind, self.options, self.progress, |feed| {
                let mut packer = TarPacker::new(feed, &mut catalog, issues, clock, Some(folder));
                let made = pack(&mut packer)?;
                Ok((made, packer.finish()?))
            })?;
        let catalog = Some(catalog.finish()?);
        let stream = written.writer.finish(written.sha256, written.sha256_data, catalog)?;
        self.files.get_or_insert_default().add(counts);
        self.add(stream);
        Ok(made)
    }

    /// Writes the table of ranges of a stream that is stored already or comes later.
    ///
    /// # Errors
    ///
    /// What stops the bundle from being written.
    pub fn ranges(
        &mut self,
        stream: &str,
        write: impl FnOnce(&mut dyn io::Write) -> io::Result<()>,
    ) -> Result<()> {
        let path = format!("data/{stream}.ranges.tsv");
        let mut table = Vec::new();
        write(&mut table).map_err(|source| custody::bundle::Error::Write { path: path.clone(), source })?;
        let file = custody::bundle::put(&**self.store, &path, &table)?;
        match self.finished.iter_mut().find(|finished| finished.name == stream) {
            Some(finished) => finished.ranges = Some(file),
            None => self.ranges.push((stream.to_owned(), file)),
        }
        Ok(())
    }

    fn add(&mut self, mut stream: Stream) {
        self.progress.finished();
        if let Some(at) = self.ranges.iter().position(|(name, _)| *name == stream.name) {
            stream.ranges = Some(self.ranges.swap_remove(at).1);
        }
        self.finished.push(stream);
    }

    /// What went wrong so far; more can be added.
    pub fn issues(&mut self) -> &mut Issues {
        &mut self.issues
    }

    /// Streams that are stored.
    #[must_use]
    pub fn finished(&self) -> &[Stream] {
        &self.finished
    }

    /// Adds an entry to the bundle's log.
    ///
    /// # Errors
    ///
    /// [`Error::Custody`](crate::Error::Custody).
    pub fn log(&mut self, entry: &NewEntry) -> Result<()> {
        self.log.append(entry, self.writer)?;
        Ok(())
    }

    /// The clock of this run.
    #[must_use]
    pub fn clock(&self) -> &dyn Clock {
        self.writer.clock()
    }

    /// How streams are stored.
    #[must_use]
    pub fn options(&self) -> PipelineOptions {
        self.options
    }
}
