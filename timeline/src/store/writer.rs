//! One exhibit's way into the store: rows in, listed parts out.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::manifest::{Part, check_exhibit};
use super::parquet::{Cuts, write_parts};
use super::row::Row;
use super::runs::{RowSink, SortLimits, Sorter};
use crate::Error;

/// Takes all rows of one exhibit, from any number of threads and in any order, and writes its parts.
///
/// The same rows give the same files, byte for byte, whatever the order and the threads. Memory is bounded:
/// about 640 MiB for runs, and three row groups while parts are written. One writer at a time may be at work in
/// a timeline: the case lock sees to that.
///
/// Nothing is visible until a [`Manifest`](super::Manifest) that lists the parts is written.
#[derive(Debug)]
pub struct TimelineWriter {
    timeline: PathBuf,
    exhibit: String,
    sorter: Arc<Sorter>,
    own: Mutex<Option<RowSink>>,
    pub(super) cuts: Cuts,
}

impl TimelineWriter {
    /// A writer for `exhibit` (`E001`) below the case's `timeline` folder, fed by so many threads.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] when `exhibit` is no exhibit id, [`Error::File`] when what an earlier build left behind
    /// cannot be removed.
    pub fn new(timeline: &Path, exhibit: &str, threads: usize) -> Result<TimelineWriter, Error> {
        TimelineWriter::with_limits(timeline, exhibit, SortLimits::for_threads(threads))
    }

    /// As [`TimelineWriter::new`], with limits of one's own.
    ///
    /// # Errors
    ///
    /// As [`TimelineWriter::new`].
    pub fn with_limits(timeline: &Path, exhibit: &str, limits: SortLimits) -> Result<TimelineWriter, Error> {
        check_exhibit(exhibit)?;
        let sorter = Arc::new(Sorter::new(&timeline.join("tmp"), limits)?);
        Ok(TimelineWriter {
            timeline: timeline.to_owned(),
            exhibit: exhibit.to_owned(),
            sorter,
            own: Mutex::new(None),
            cuts: Cuts::default(),
        })
    }

    /// A sink for one thread. It must be finished before the writer is.
    pub fn sink(&self) -> RowSink {
        self.sorter.sink()
    }

    /// Takes rows through a sink that all callers share; threads that write much take one of their own.
    ///
    /// # Errors
    ///
    /// [`Error::File`] when a full run cannot be written.
    pub fn push(&self, rows: Vec<Row>) -> Result<(), Error> {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        let sink = own.get_or_insert_with(|| self.sorter.sink());
        rows.iter().try_for_each(|row| sink.push(row))
    }

    /// Sorts and writes everything, and gives the parts in order, for the manifest.
    ///
    /// # Errors
    ///
    /// [`Error::File`] when a part cannot be written; the timeline is then as it was.
    pub fn finish(self) -> Result<Vec<Part>, Error> {
        if let Some(own) = self.own.into_inner().unwrap_or_else(PoisonError::into_inner) {
            own.finish()?;
        }
        let merge = self.sorter.merge()?;
        let parts = write_parts(merge, &self.timeline, &self.timeline.join("tmp"), &self.exhibit, self.cuts);
        self.sorter.clear()?;
        parts
    }
}
