//! What one bundle is made of, and where its streams are put.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

#[cfg(feature = "cloud")]
use custody::Digest;
use custody::bundle::{
    Base, BundleStore, CatalogWriter, Extent, HashedFile, Resume, Sample, Samples, Source as SourceFacts,
    State, StoredFile, Stream, StreamWriter,
};
#[cfg(feature = "cloud")]
use custody::bundle::{Overlaid, StreamReader};
use custody::clock::Clock;
use custody::{CustodyLog, NewEntry, Writer, sha256};
use serde_json::{Map, Value};

#[cfg(feature = "cloud")]
use crate::blocks::{BlockService, BlockSource, store_blocks};
use crate::error::{Error, Result};
use crate::pipeline::{Begun, Feed, Flow, PipelineOptions, store_stream};
use crate::reading::read_source;
use crate::source::{Issue, Issues, Source, read_exactly};
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

    /// Whether what is read is the memory of this machine, so that the bundle shall leave as little as possible in it.
    fn reads_own_memory(&self) -> bool {
        false
    }

    /// Facts that are known only after the run, added to those of the manifest.
    fn facts_after(&self) -> Map<String, Value> {
        Map::new()
    }

    /// What it builds on, if it acquires only what changed.
    fn base(&self) -> Option<Base> {
        None
    }
}

/// The streams of a bundle that is being made, one after the other.
pub struct Streams<'a> {
    pub(crate) store: &'a Arc<dyn BundleStore>,
    /// The bundle's folder, which is not acquired itself.
    pub(crate) folder: &'a Path,
    pub(crate) flow: Flow<'a>,
    /// Whether the bundle is one that was cut short.
    pub(crate) resumes: bool,
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

impl<'a> Streams<'a> {
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
        self.flow.progress.started(name, size);
        let begun = Begun::anew(self.store, name, kind, &self.flow, false)?;
        let issues = &mut self.issues;
        let (made, written) = store_stream(begun, &self.flow, |feed| produce(feed, issues))?;
        let stream = written.writer.finish(written.sha256, written.sha256_data, None)?;
        self.add(stream);
        Ok(made)
    }

    /// Stores a source that can be read again from any place, from its start to its end.
    ///
    /// It keeps a journal. In a bundle that was cut short, what the journal vouches for is hashed again, some of it is
    /// compared with the source, and reading goes on behind it.
    ///
    /// # Errors
    ///
    /// What stops the bundle from being written or taken up again. What cannot be read is an issue.
    pub fn source(&mut self, name: &str, kind: &str, source: &mut dyn Source) -> Result<()> {
        self.flow.progress.started(name, source.size());
        let path = source.facts().path.unwrap_or_default();
        if self.resumes && !source.is_seekable() {
            return Err(Error::NotResumable {
                exhibit: self.writer.identity().exhibit.clone().unwrap_or_default(),
                reason: "its source gives each byte once".to_owned(),
            });
        }
        let begun = if self.resumes {
            let (begun, extents, samples) = self.resume(name, kind, Samples::A_FEW)?;
            list_gaps(&path, &extents, &mut self.issues);
            compare(source, &path, &samples, &mut self.issues);
            begun
        } else {
            Begun::anew(self.store, name, kind, &self.flow, source.is_seekable())?
        };
        let (clock, issues) = (self.writer.clock(), &mut self.issues);
        let ((), written) =
            store_stream(begun, &self.flow, |feed| read_source(source, &path, clock, feed, issues))?;
        let stream = written.writer.finish(written.sha256, written.sha256_data, None)?;
        self.add(stream);
        Ok(())
    }

    /// Stores a source that is read as numbered blocks over a network.
    ///
    /// It keeps a journal. In a bundle that was cut short, what the journal vouches for is hashed again, and compared with
    /// the list of the blocks; one in a hundred of them is fetched again, 1024 at most; and reading goes on behind.
    ///
    /// # Errors
    ///
    /// [`Error::Cloud`] where the service or the permission is missing and not single blocks, which are issues;
    /// [`Error::Paused`]; and what stops the bundle from being written or taken up again.
    #[cfg(feature = "cloud")]
    pub fn blocks<S: BlockService>(
        &mut self,
        name: &str,
        kind: &str,
        source: &mut BlockSource<S>,
    ) -> Result<()> {
        self.flow.progress.started(name, Some(source.size()));
        let (begun, stored) = if self.resumes {
            let (begun, extents, samples) = self.resume(name, kind, Samples::ONE_IN_A_HUNDRED)?;
            list_gaps(source.name(), &extents, &mut self.issues);
            (begun, Some((extents, samples)))
        } else {
            (Begun::anew(self.store, name, kind, &self.flow, true)?, None)
        };
        let (issues, stop) = (&mut self.issues, Arc::clone(&self.flow.stop));
        let ((), written) =
            store_stream(begun, &self.flow, |feed| store_blocks(source, stored, feed, issues, &stop))?;
        let mut stream = written.writer.finish(written.sha256, written.sha256_data, None)?;
        if let Some(base) = source.stored_base().filter(|_| stream.states.base > 0) {
            self.flow.progress.part("hashing the whole");
            stream.full_sha256 = self.hash_over(base, &stream, source.name());
        }
        self.add(stream);
        Ok(())
    }

    /// The hash of a stream with what it builds on, where both can be read.
    #[cfg(feature = "cloud")]
    fn hash_over(&mut self, base: &Overlaid, stream: &Stream, path: &str) -> Option<Digest> {
        // Ciphertext cannot be read again, nor what lies in a store that only takes.
        if stream.is_encrypted() || self.store.unfinished().is_none() {
            return None;
        }
        let hash = || {
            let newest = StreamReader::of_finished(Arc::clone(self.store), stream.clone())?;
            Overlaid::new(newest).over(base.clone())?.sha256(&mut |_| {})
        };
        match hash() {
            Ok(hash) => Some(hash),
            Err(error) => {
                self.issues.add(Issue {
                    path: path.to_owned(),
                    offset: None,
                    length: None,
                    what: format!("the whole could not be hashed with its base: {error}"),
                });
                None
            }
        }
    }

    /// What the journal vouches for, hashed again: its extents, and some of its chunks.
    fn resume(&self, name: &str, kind: &str, samples: Samples) -> Result<(Begun, Vec<Extent>, Vec<Sample>)> {
        let (options, progress) = (self.flow.options, self.flow.progress);
        let protection = self.flow.protection.clone();
        let resume =
            Resume { name, kind, cut: options.cut, protection, mark_every: options.mark_every, samples };
        let mut resumed =
            StreamWriter::resume(Arc::clone(self.store), resume, &mut |bytes| progress.advanced(bytes))?;
        let (extents, samples) = (std::mem::take(&mut resumed.extents), std::mem::take(&mut resumed.samples));
        Ok((Begun::from(resumed), extents, samples))
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
        self.flow.progress.started(name, None);
        let begun = Begun::anew(self.store, name, kind, &self.flow, false)?;
        let mut catalog = CatalogWriter::new(self.file(&format!("data/{name}.catalog.jsonl"))?);
        let issues = &mut self.issues;
        let (clock, folder) = (self.writer.clock(), self.folder);
        let ((made, counts), written) = store_stream(begun, &self.flow, |feed| {
            let mut packer = TarPacker::new(feed, &mut catalog, issues, clock, Some(folder));
            let made = pack(&mut packer)?;
            Ok((made, packer.finish()?))
        })?;
        let (catalog, root) = catalog.finish()?;
        let mut stream = written.writer.finish(written.sha256, written.sha256_data, Some(catalog))?;
        stream.catalog_root = Some(root);
        self.files.get_or_insert_default().add(counts);
        self.add(stream);
        Ok(made)
    }

    /// Stores two streams of files side by side, each given as its name and kind: what comes in one order may belong
    /// into either. The second is stored only if the first could be.
    ///
    /// # Errors
    ///
    /// As [`Streams::tar`].
    pub fn tar_pair<T>(
        &mut self,
        [first, second]: [(&str, &str); 2],
        pack: impl FnOnce(&mut TarPacker<'_>, &mut TarPacker<'_>) -> Result<T>,
    ) -> Result<T> {
        self.flow.progress.started(&format!("{} and {}", first.0, second.0), None);
        let store = self.store;
        let begin = |name: &str| self.file(&format!("data/{name}.catalog.jsonl")).map(CatalogWriter::new);
        let mut catalogs = (begin(first.0)?, begin(second.0)?);
        let mut more_issues = Issues::default();
        let anew = |(name, kind)| Begun::anew(store, name, kind, &self.flow, false);
        let (begun_first, begun_second) = (anew(first)?, anew(second)?);
        let flow = &self.flow;
        let (clock, folder, issues) = (self.writer.clock(), Some(self.folder), &mut self.issues);
        let stored = store_stream(begun_first, flow, |one| {
            store_stream(begun_second, flow, |two| {
                let mut one = TarPacker::new(one, &mut catalogs.0, issues, clock, folder);
                let mut two = TarPacker::new(two, &mut catalogs.1, &mut more_issues, clock, folder);
                let made = pack(&mut one, &mut two)?;
                Ok((made, one.finish()?, two.finish()?))
            })
        });
        self.issues.append(more_issues);
        let (((made, of_first, of_second), second), first) = stored?;
        for (written, catalog, counts) in [(first, catalogs.0, of_first), (second, catalogs.1, of_second)] {
            let (catalog, root) = catalog.finish()?;
            let mut stream = written.writer.finish(written.sha256, written.sha256_data, Some(catalog))?;
            stream.catalog_root = Some(root);
            self.files.get_or_insert_default().add(counts);
            self.add(stream);
        }
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
        let mut file = self.file(&path)?;
        file.append(&table)?;
        let file = file.finish()?;
        match self.finished.iter_mut().find(|finished| finished.name == stream) {
            Some(finished) => finished.ranges = Some(file),
            None => self.ranges.push((stream.to_owned(), file)),
        }
        Ok(())
    }

    /// Begins a file that belongs to a stream.
    fn file(&self, path: &str) -> Result<HashedFile> {
        Ok(HashedFile::begin_with(&**self.store, path, self.flow.protection.as_deref())?)
    }

    fn add(&mut self, mut stream: Stream) {
        self.flow.progress.finished();
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
    /// [`Error::Custody`].
    pub fn log(&mut self, entry: &NewEntry) -> Result<()> {
        self.log.append(entry, self.writer)?;
        Ok(())
    }

    /// The clock of this run.
    #[must_use]
    pub fn clock(&self) -> &'a dyn Clock {
        self.writer.clock()
    }

    /// How streams are stored.
    #[must_use]
    pub fn options(&self) -> PipelineOptions {
        self.flow.options
    }

    /// Whether a person asked for a stop; feeds end by themselves, loops that feed nothing for long should look.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.flow.stop.load(Ordering::Relaxed)
    }
}

/// Issues of the part that was read before the interruption, as its extents tell them.
fn list_gaps(path: &str, extents: &[Extent], issues: &mut Issues) {
    let is_gap = |extent: &&Extent| match extent.state {
        State::Data | State::Zero => false,
        // As the source itself told it.
        State::Absent | State::Base => !extent.detail.is_empty(),
        _ => true,
    };
    for extent in extents.iter().filter(is_gap) {
        issues.add(Issue {
            path: path.to_owned(),
            offset: Some(extent.start),
            length: Some(extent.length),
            what: format!("{}: {} (before the interruption)", extent.state, extent.detail),
        });
    }
}

/// Reads some chunks of the source again, which should not have changed since they were stored.
fn compare(source: &mut dyn Source, path: &str, samples: &[Sample], issues: &mut Issues) {
    for sample in samples {
        let mut now = vec![0; sample.length as usize];
        let same = read_exactly(sample.offset, &mut now, |offset, buf| source.read_at(offset, buf))
            .is_ok_and(|()| sha256(&now) == sample.sha256);
        if !same {
            issues.add(Issue {
                path: path.to_owned(),
                offset: Some(sample.offset),
                length: Some(u64::from(sample.length)),
                what: "the source has other bytes here now than before the interruption: it was written to, or it is \
                       not the same one"
                    .to_owned(),
            });
        }
    }
}
