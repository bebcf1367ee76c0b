//! The bytes of a stream as they are: raw, LiME, tar.

use std::path::{Path, PathBuf};
use std::thread;

use crossbeam_channel::bounded;
use custody::{Digest, Hasher};

use super::chunks::{Piece, each_in_order};
use super::output::Output;
use super::{Export, Exported, refused};
use crate::error::{Error, Result};

/// Pieces that may wait to be hashed.
const WAITING: usize = 16;

/// More parts than this are not written.
const MOST_PARTS: u64 = 99_999;

/// Names and lengths of the files that an image of this size is written to.
///
/// Not split, it is the file itself; split, `FILE.001` and so on, with as many digits as the last one needs.
pub(super) fn names(path: &Path, size: u64, split: Option<u64>) -> Result<Vec<(PathBuf, u64)>> {
    let Some(split) = split else { return Ok(vec![(path.to_owned(), size)]) };
    let count = size.div_ceil(split).max(1);
    if count > MOST_PARTS {
        return Err(refused(format!("{count} parts are more than {MOST_PARTS}: choose larger ones")));
    }
    let width = count.to_string().len().max(3);
    // `-o disk.001` means the same as `-o disk`.
    let is_number =
        |end: &std::ffi::OsStr| end.to_str().is_some_and(|end| end.trim_start_matches('0') == "1");
    let base = match path.extension() {
        Some(end) if is_number(end) => path.with_extension(""),
        _ => path.to_owned(),
    };
    let part = |number: u64| {
        let mut name = base.as_os_str().to_owned();
        name.push(format!(".{:0width$}", number + 1));
        (PathBuf::from(name), split.min(size.saturating_sub(number.saturating_mul(split))))
    };
    Ok((0..count).map(part).collect())
}

/// Writes the stream.
pub(super) fn write(export: &Export<'_>, mut output: Output<'_>) -> Result<Exported> {
    let stream = export.reader.stream();
    export.progress.started(&stream.name, Some(stream.size));
    let sha256 = hashed(|hash| {
        let pass = |_: &mut (), piece: Piece| Ok(piece);
        each_in_order(
            &export.reader,
            export.threads(),
            || (),
            pass,
            |piece| {
                output.write(piece.bytes(), piece.is_zeros)?;
                export.progress.advanced(piece.bytes().len() as u64);
                hash(piece)
            },
        )
    })?;
    check(export, sha256)?;
    let files = output.end(sha256)?;
    export.progress.finished();
    Ok(export.exported(sha256, files, export.notes()))
}

/// Fails if what was written is not the stream that the manifest names.
pub(super) fn check(export: &Export<'_>, found: Digest) -> Result<()> {
    let stream = export.reader.stream();
    if found == stream.sha256 {
        return Ok(());
    }
    Err(Error::StreamDiffers { stream: stream.name.clone(), expected: stream.sha256, found })
}

/// Runs `feed` with a function that takes pieces to a thread of its own, which hashes them all.
pub(super) fn hashed(feed: impl FnOnce(&mut dyn FnMut(Piece) -> Result<()>) -> Result<()>) -> Result<Digest> {
    let (pieces, queue) = bounded::<Piece>(WAITING);
    thread::scope(|scope| {
        let work = move || {
            let mut hasher = Hasher::new();
            for piece in queue {
                hasher.update(piece.bytes());
            }
            hasher.finish()
        };
        let hashing = thread::Builder::new()
            .name("hash".to_owned())
            .spawn_scoped(scope, work)
            .map_err(Error::Thread)?;
        let fed = feed(&mut |piece| pieces.send(piece).map_err(|_| Error::Stopped));
        drop(pieces);
        let sha256 = hashing.join().map_err(|_| Error::Stopped)?;
        fed.map(|()| sha256)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_numbered_and_cover_the_whole_image() {
        let given = |path: &str, size, split| {
            let names = names(Path::new(path), size, split).unwrap();
            names.into_iter().map(|(path, size)| (path.display().to_string(), size)).collect::<Vec<_>>()
        };
        assert_eq!(given("a/disk.raw", 7, None), [("a/disk.raw".to_owned(), 7)]);
        let expected = [("disk.raw.001".to_owned(), 3), ("disk.raw.002".to_owned(), 1)];
        assert_eq!(given("disk.raw", 4, Some(3)), expected);
        assert_eq!(given("disk.001", 3, Some(3)), [("disk.001".to_owned(), 3)]);
        assert_eq!(given("disk", 0, Some(3)), [("disk.001".to_owned(), 0)]);
        let many = given("disk", 1000, Some(1));
        assert_eq!((many[0].0.as_str(), many[999].0.as_str()), ("disk.0001", "disk.1000"));
        assert!(names(Path::new("disk"), 100_000, Some(1)).is_err());
    }
}
