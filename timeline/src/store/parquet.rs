//! Parquet parts: zstd level 3, row groups of 128 Ki rows with statistics, at most 4 Mi rows a part, named by hash.
//!
//! The bytes depend on the rows and the build alone: columns are plain strings and numbers (no process-wide
//! table of categories), row groups are cut by row count, and one thread writes them in order. Strings that
//! repeat are dictionary encoded in the file, a dictionary a row group.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use custody::digest::Hasher;
use polars::prelude::{DataFrame, ParquetCompression, ParquetWriter, PolarsError, StatisticsOptions};

use super::columns::{Builders, schema};
use super::files::{failed, make_folder, put_in_place};
use super::manifest::Part;
use super::runs::Merge;
use crate::Error;
use crate::event::Timestamp;

/// Where row groups and parts are cut.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cuts {
    /// Rows of a row group.
    pub(super) group_rows: usize,
    /// Bytes after which a row group is closed early, so that huge rows cannot fill the memory.
    pub(super) group_bytes: usize,
    /// Row groups of a part.
    pub(super) part_groups: usize,
}

impl Default for Cuts {
    fn default() -> Cuts {
        Cuts { group_rows: 128 << 10, group_bytes: 256 << 20, part_groups: 32 }
    }
}

/// A full row group on its way to the file.
struct Group {
    rows: DataFrame,
    first: Option<Timestamp>,
    last: Option<Timestamp>,
}

/// Writes all rows of a merge as the parts of `exhibit`. `temporary` is a folder on the same file system.
pub(super) fn write_parts(
    mut merge: Merge,
    timeline: &Path,
    temporary: &Path,
    exhibit: &str,
    cuts: Cuts,
) -> Result<Vec<Part>, Error> {
    make_folder(temporary)?;
    let (send, receive) = sync_channel::<Group>(1);
    std::thread::scope(|scope| {
        let writer = std::thread::Builder::new()
            .name("parquet".into())
            .spawn_scoped(scope, move || write_groups(&receive, timeline, temporary, exhibit, cuts))
            .map_err(failed("start a thread for", timeline))?;
        let merged = send_groups(&mut merge, &send, cuts);
        drop(send);
        // The writer's own error comes first: it is why the merge could not go on.
        let parts = writer
            .join()
            .map_err(|_| Error::Query { reason: "the Parquet writer failed within itself".into() })??;
        merged.map(|()| parts)
    })
}

fn send_groups(merge: &mut Merge, send: &SyncSender<Group>, cuts: Cuts) -> Result<(), Error> {
    loop {
        let mut builders = Builders::new();
        let (mut rows, mut bytes) = (0usize, 0usize);
        let (mut first, mut last) = (None, None);
        while rows < cuts.group_rows && bytes < cuts.group_bytes {
            let more = merge.next(|key, row, size| {
                builders.push(key, row);
                bytes += size;
                if let (Some(micros), Some(nanos)) = (key.ts(), key.ts_ns()) {
                    last = Some(Timestamp { micros, nanos });
                    first = first.or(last);
                }
            })?;
            if !more {
                break;
            }
            rows += 1;
        }
        if rows == 0 {
            return Ok(());
        }
        let columns = builders.finish().map_err(engine)?;
        let group = Group { rows: DataFrame::new(rows, columns).map_err(engine)?, first, last };
        if send.send(group).is_err() {
            return Ok(());
        }
    }
}

fn write_groups(
    groups: &Receiver<Group>,
    timeline: &Path,
    temporary: &Path,
    exhibit: &str,
    cuts: Cuts,
) -> Result<Vec<Part>, Error> {
    let mut parts = Vec::new();
    while let Ok(group) = groups.recv() {
        parts.push(write_part(group, groups, timeline, temporary, exhibit, cuts)?);
    }
    Ok(parts)
}

fn write_part(
    group: Group,
    groups: &Receiver<Group>,
    timeline: &Path,
    temporary: &Path,
    exhibit: &str,
    cuts: Cuts,
) -> Result<Part, Error> {
    let unfinished = temporary.join("part.unfinished");
    let mut out = HashedFile::create(&unfinished)?;
    let mut writer = ParquetWriter::new(&mut out)
        // No level is zstd's own default: 3.
        .with_compression(ParquetCompression::Zstd(None))
        .with_statistics(StatisticsOptions {
            min_value: true,
            max_value: true,
            distinct_count: false,
            null_count: true,
            // Set here, as the default is read from the environment.
            binary_statistics_truncate_length: Some(64),
        })
        .set_parallel(false)
        .batched(&schema())
        .map_err(engine)?;
    let (mut rows, mut first, mut last) = (0u64, None, None);
    let mut next = Some(group);
    let mut count = 0;
    while let Some(group) = next {
        writer.write_batch(&group.rows).map_err(engine)?;
        rows += group.rows.height() as u64;
        first = first.or(group.first);
        last = group.last.or(last);
        count += 1;
        next = if count < cuts.part_groups { groups.recv().ok() } else { None };
    }
    writer.finish().map_err(engine)?;
    drop(writer);
    let (file, sha256, size) = out.finish()?;
    let name = sha256.get(..32).unwrap_or(&sha256);
    let path = format!("events/exhibit={exhibit}/{name}.parquet");
    let target: PathBuf = timeline.join(&path);
    target.parent().map_or(Ok(()), make_folder)?;
    put_in_place(&file, &unfinished, &target)?;
    Ok(Part {
        path,
        sha256,
        size,
        rows,
        first: first.map(Timestamp::to_rfc3339),
        last: last.map(Timestamp::to_rfc3339),
    })
}

fn engine(error: PolarsError) -> Error {
    Error::Query { reason: format!("Parquet: {error}") }
}

/// A file that is hashed while it is written.
struct HashedFile {
    file: BufWriter<File>,
    path: PathBuf,
    hasher: Hasher,
    size: u64,
}

impl HashedFile {
    fn create(path: &Path) -> Result<HashedFile, Error> {
        let file = BufWriter::with_capacity(256 << 10, File::create(path).map_err(failed("create", path))?);
        Ok(HashedFile { file, path: path.to_owned(), hasher: Hasher::new(), size: 0 })
    }

    /// The file, its SHA-256 in hex and its size.
    fn finish(self) -> Result<(File, String, u64), Error> {
        let file = self.file.into_inner().map_err(|e| failed("write", &self.path)(e.into_error()))?;
        Ok((file, self.hasher.finish().to_string(), self.size))
    }
}

impl Write for HashedFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(bytes.get(..written).unwrap_or(&[]));
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}
