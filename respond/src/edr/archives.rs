//! What a product packed on its way: a 7z with the password that malware samples have, a gzip, or nothing.

use std::fs::File;
use std::io::{Read, Write as _};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use sevenz_rust2::{Archive, ArchiveReader, Password};

use crate::steps::Failed;

const SEVEN_Z: &[u8] = b"7z\xbc\xaf\x27\x1c";
const GZIP: &[u8] = b"\x1f\x8b";
/// RTR packs so what it hands out.
const PASSWORD: &str = "infected";
/// Memory that unpacking may want, before it is given any.
const MOST_DICTIONARY: u64 = 256 << 20;

/// Unpacks the one file in `from` into `into`, or moves it there if it is not packed.
///
/// # Errors
///
/// [`Failed`] when there is more than `most`, or not exactly one file, or damage.
pub(super) fn unpack(from: &Path, into: &Path, most: u64) -> Result<(), Failed> {
    let fault = |error: std::io::Error| Failed::for_now(format!("what came cannot be read: {error}"));
    let mut head = Vec::new();
    File::open(from).and_then(|file| file.take(8).read_to_end(&mut head)).map_err(fault)?;
    if head.starts_with(SEVEN_Z) {
        seven_z(from, into, most)
    } else if head.starts_with(GZIP) {
        copy(&mut MultiGzDecoder::new(File::open(from).map_err(fault)?), into, most)
    } else {
        std::fs::rename(from, into).map_err(fault)
    }
}

fn seven_z(from: &Path, into: &Path, most: u64) -> Result<(), Failed> {
    let fault = |error: sevenz_rust2::Error| {
        Failed::for_now(crate::alert::one_line(&format!("the 7z that came: {error}")))
    };
    let password = || Password::from(PASSWORD);
    let archive = Archive::open_with_password(from, &password()).map_err(fault)?;
    for coder in archive.blocks.iter().flat_map(|block| &block.coders) {
        if dictionary(coder.encoder_method_id(), coder.properties()) > MOST_DICTIONARY {
            return Err(Failed::for_good("the 7z that came wants too much memory"));
        }
    }
    let files = archive.files.iter().filter(|file| file.has_stream && !file.is_directory).count();
    if files != 1 {
        return Err(Failed::for_good(format!("the 7z that came holds {files} files where one is meant")));
    }
    let mut reader = ArchiveReader::open(from, password()).map_err(fault)?;
    // One thread: each has a dictionary of its own.
    reader.set_thread_count(1);
    let mut written = Ok(());
    reader
        .for_each_entries(|entry, plain| {
            if entry.has_stream && !entry.is_directory {
                written = copy(plain, into, most);
            }
            Ok(written.is_ok())
        })
        .map_err(fault)?;
    written
}

/// The dictionary that a coder says it has.
fn dictionary(method: &[u8], properties: &[u8]) -> u64 {
    match (method, properties) {
        ([0x21], [bits, ..]) if *bits >= 40 => u64::from(u32::MAX),
        ([0x21], [bits, ..]) => (2 | u64::from(bits & 1)) << (bits / 2 + 11),
        ([0x03, 0x01, 0x01], [_, a, b, c, d, ..]) => u64::from(u32::from_le_bytes([*a, *b, *c, *d])),
        _ => 0,
    }
}

fn copy(from: &mut dyn Read, into: &Path, most: u64) -> Result<(), Failed> {
    let here = |error: std::io::Error| Failed::for_now(format!("{into:?} cannot be written: {error}"));
    let mut to = File::create(into).map_err(here)?;
    let mut block = vec![0; 256 << 10];
    let mut whole = 0_u64;
    loop {
        let read = from.read(&mut block).map_err(|error| {
            Failed::for_now(crate::alert::one_line(&format!("what came is damaged: {error}")))
        })?;
        if read == 0 {
            return to.sync_all().map_err(here);
        }
        whole = whole.saturating_add(read as u64);
        if whole > most {
            return Err(Failed::for_good(format!(
                "more than the {most} bytes that may come are packed in it"
            )));
        }
        to.write_all(block.get(..read).unwrap_or_default()).map_err(here)?;
    }
}
