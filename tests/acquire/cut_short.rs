//! Full disks, broken pipes and kills: what was stored stays, and is never taken for a whole.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use acquire::sources::disk::{DiskCapture, StreamSource};
use acquire::{Acquisition, Error};
use custody::bundle::{self, Bundle, BundleStore, LocalFolder, NewFile};
use custody::{CustodyLog, EntryType};

use crate::support::*;

#[test]
fn a_pipe_that_breaks_leaves_an_open_bundle_with_what_came_before() {
    struct Breaks(io::Cursor<Vec<u8>>);
    impl Read for Breaks {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            match self.0.read(buf)? {
                0 => Err(io::Error::from_raw_os_error(5)),
                read => Ok(read),
            }
        }
    }
    let place = tempfile::tempdir().unwrap();
    let data = content(SEGMENT + 2 * CHUNK);
    let source = StreamSource::new("-", Breaks(io::Cursor::new(data.clone())));
    let refused = acquire_disk(Box::new(source), place.path()).unwrap_err();
    assert!(matches!(refused, Error::SourceLost { offset, .. } if offset == data.len() as u64), "{refused}");
    assert!(matches!(Bundle::open(place.path()), Err(bundle::Error::NotSealed { .. })));
    let log = CustodyLog::open(place.path()).unwrap().read().unwrap();
    assert_eq!(log.entries.last().unwrap().kind, EntryType::ACQUIRE_ERROR);
    let first = fs::read(place.path().join("data/disk/000000.zst")).unwrap();
    assert!(zstd::decode_all(&first[..]).unwrap() == data[..SEGMENT]);
}

/// A folder that is full after some bytes of data.
#[derive(Debug)]
struct FullStore {
    inner: LocalFolder,
    room: Arc<std::sync::atomic::AtomicI64>,
}

struct FullFile {
    inner: Box<dyn NewFile>,
    full: File,
    room: Arc<std::sync::atomic::AtomicI64>,
}

impl BundleStore for FullStore {
    fn size_of(&self, path: &str) -> io::Result<u64> {
        self.inner.size_of(path)
    }

    fn read_at(&self, path: &str, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.inner.read_at(path, offset, buf)
    }

    fn put_new(&self, path: &str) -> io::Result<Box<dyn NewFile>> {
        let full = File::options().write(true).open("/dev/full")?;
        Ok(Box::new(FullFile { inner: self.inner.put_new(path)?, full, room: Arc::clone(&self.room) }))
    }
}

impl Write for FullFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if self.room.fetch_sub(buf.len() as i64, std::sync::atomic::Ordering::SeqCst) < buf.len() as i64 {
            // The kernel's own answer, not one that we made up.
            return self.full.write(buf);
        }
        self.inner.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl NewFile for FullFile {
    fn finish(self: Box<Self>) -> io::Result<()> {
        self.inner.finish()
    }
}

#[test]
fn without_space_left_what_was_written_stays_open_and_readable() {
    let data = content(12 * SEGMENT);
    for room in [0, 1000, 100_000, 300_000, 600_000] {
        let place = tempfile::tempdir().unwrap();
        let room = Arc::new(std::sync::atomic::AtomicI64::new(room));
        let store = FullStore { inner: LocalFolder::new(place.path()), room };
        let source = Box::new(StreamSource::new("-", io::Cursor::new(data.clone())));
        let refused = with_writer(|writer| {
            let acquisition = Acquisition::new(DiskCapture::new(source), destination(place.path()));
            acquisition.options(options()).store(Arc::new(store)).run(writer)
        })
        .unwrap_err();
        assert!(matches!(refused, Error::NoSpace(_)), "{refused:?}");
        assert!(matches!(Bundle::open(place.path()), Err(bundle::Error::NotSealed { .. })));
        assert_log_holds(place.path());
        let stored = stored_prefix(place.path());
        assert!(data.starts_with(&stored), "{} bytes", stored.len());
        let log = CustodyLog::open(place.path()).unwrap().read().unwrap();
        let last = log.entries.last().unwrap();
        assert_eq!(last.kind, EntryType::ACQUIRE_ERROR);
        assert!(last.about.errors["stopped_by"].as_str().unwrap().contains("no space left"));
    }
}

#[test]
fn a_full_disk_stops_a_source_that_would_go_on_for_long() {
    let place = tempfile::tempdir().unwrap();
    let room = Arc::new(std::sync::atomic::AtomicI64::new(0));
    let store = FullStore { inner: LocalFolder::new(place.path()), room };
    // More than all buffers hold, so that the reader must be woken up to be told.
    let source = Box::new(StreamSource::new("-", io::repeat(7).take(1 << 40)));
    let refused = with_writer(|writer| {
        Acquisition::new(DiskCapture::new(source), destination(place.path()))
            .store(Arc::new(store))
            .run(writer)
    });
    assert!(matches!(refused, Err(Error::NoSpace(_))), "{refused:?}");
}

/// What can be read of a bundle that was cut short: its segments, and as many frames of the last as are whole.
fn stored_prefix(folder: &Path) -> Vec<u8> {
    let mut names: Vec<_> = fs::read_dir(folder.join("data/disk"))
        .map_or(vec![], |found| found.map(|f| f.unwrap().path()).collect());
    names.sort();
    let mut data = Vec::new();
    for name in names {
        let bytes = fs::read(&name).unwrap();
        let whole = zstd::stream::copy_decode(&bytes[..], &mut data);
        assert!(whole.is_ok() || name.extension() == Some("part".as_ref()), "{name:?}");
    }
    data
}

#[test]
fn killed_at_any_moment_nothing_sealed_is_lost_and_the_log_holds() {
    let place = tempfile::tempdir().unwrap();
    let image = place.path().join("image.raw");
    let data = content(24 * SEGMENT + 5);
    fs::write(&image, &data).unwrap();
    let begun = Instant::now();
    assert!(child(&[], &image, &place.path().join("whole")).status().unwrap().success());
    let whole = begun.elapsed();
    let (mut sealed, mut open, mut nothing) = (0, 0, 0);
    let mut random = 0x2545_F491_4F6C_DD1Du64;
    for round in 0..100 {
        let folder = place.path().join(format!("killed-{round}"));
        let mut running = child(&[], &image, &folder).spawn().unwrap();
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        std::thread::sleep(Duration::from_nanos(random % (whole.as_nanos() as u64 * 11 / 10)));
        running.kill().unwrap();
        running.wait().unwrap();
        match Bundle::open(&folder) {
            Ok(bundle) => {
                sealed += 1;
                assert!(read_all(&bundle, "disk") == data);
                assert_log_holds(&folder);
            }
            Err(bundle::Error::NotSealed { .. }) => {
                open += 1;
                assert_log_holds(&folder);
                let stored = stored_prefix(&folder);
                assert!(data.starts_with(&stored), "round {round}: {} bytes", stored.len());
            }
            Err(bundle::Error::NotABundle { .. }) => nothing += 1,
            Err(other) => panic!("round {round}: {other}"),
        }
        let _ = fs::remove_dir_all(&folder);
    }
    eprintln!("killed 100 times: {sealed} sealed, {open} open, {nothing} not begun");
    assert!(open > 0, "the moments missed the acquisition: {sealed} sealed, {nothing} not begun");
}
