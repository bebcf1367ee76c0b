//! One file out of a zip: stored or deflated, with the sizes of zip64. Everything read is checked before it is believed.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write as _};
use std::path::Path;

use flate2::read::DeflateDecoder;

use crate::steps::Failed;

const END: &[u8] = b"PK\x05\x06";
const END64: &[u8] = b"PK\x06\x06";
const LOCATOR64: &[u8] = b"PK\x06\x07";
const ENTRY: &[u8] = b"PK\x01\x02";
const LOCAL: &[u8] = b"PK\x03\x04";
/// Bytes of all entries' headers together.
const MOST_DIRECTORY: u64 = 8 << 20;

#[derive(Debug, Clone, Copy)]
struct Entry {
    method: u16,
    crc: u32,
    packed: u64,
    plain: u64,
    at: u64,
}

/// Writes the file whose name ends in `/name`, or is it, into `into`. Its path in the archive is not used.
///
/// # Errors
///
/// [`Failed`]: for good where there is more than `most`, since there would be again; for now where the archive is damaged, holds
/// no such file or several, or an encrypted one.
pub(super) fn take(archive: &Path, name: &str, into: &Path, most: u64) -> Result<(), Failed> {
    let damaged = |why: String| Failed::for_now(format!("the script's results: {why}"));
    let fault = |error: io::Error| damaged(format!("the zip cannot be read: {error}"));
    let mut file = File::open(archive).map_err(fault)?;
    let entry = find(&mut file, name).map_err(damaged)?;
    if entry.plain > most {
        return Err(Failed::for_good(format!(
            "{name} has {} bytes, more than the {most} that may come",
            entry.plain
        )));
    }
    unpack(file, &entry, name, into).map_err(damaged)
}

fn unpack(mut file: File, entry: &Entry, name: &str, into: &Path) -> Result<(), String> {
    let fault = |error: io::Error| format!("the zip cannot be read: {error}");
    let local = read_at(&mut file, entry.at, 30).map_err(fault)?;
    if local.get(..4) != Some(LOCAL) {
        return Err("an entry is not where the zip says".to_owned());
    }
    let skip = u64::from(number(&local, 26, 2)? as u16) + u64::from(number(&local, 28, 2)? as u16);
    let start = entry.at.checked_add(30 + skip).ok_or("an entry is not where the zip says")?;
    file.seek(SeekFrom::Start(start)).map_err(fault)?;
    let packed = file.take(entry.packed);
    let mut plain: Box<dyn Read> = match entry.method {
        0 => Box::new(packed),
        8 => Box::new(DeflateDecoder::new(packed)),
        other => return Err(format!("{name} is packed by method {other}, which is not read")),
    };
    let here = |error: io::Error| format!("{into:?} cannot be written: {error}");
    let mut to = File::create(into).map_err(here)?;
    let mut crc = flate2::Crc::new();
    let mut block = vec![0; 256 << 10];
    let mut whole = 0_u64;
    loop {
        let read = plain.read(&mut block).map_err(fault)?;
        if read == 0 {
            break;
        }
        let part = block.get(..read).unwrap_or_default();
        whole = whole.saturating_add(read as u64);
        // What it says of its size is not what it must be.
        if whole > entry.plain {
            return Err(format!("{name} is longer than the zip says"));
        }
        crc.update(part);
        to.write_all(part).map_err(here)?;
    }
    if whole != entry.plain || crc.sum() != entry.crc {
        return Err(format!("{name} is damaged"));
    }
    to.sync_all().map_err(here)
}

fn find(file: &mut File, name: &str) -> Result<Entry, String> {
    let fault = |error: io::Error| format!("the zip cannot be read: {error}");
    let length = file.metadata().map_err(fault)?.len();
    let from = length.saturating_sub(22 + 65_535 + 20);
    let tail = read_at(file, from, length - from).map_err(fault)?;
    let end = tail.windows(4).rposition(|four| four == END).ok_or("it is no zip, or was cut")?;
    let (mut size, mut at) = (number(&tail, end + 12, 4)?, number(&tail, end + 16, 4)?);
    if at == 0xffff_ffff || size == 0xffff_ffff {
        let locator = end.checked_sub(20).ok_or("it has no zip64 locator")?;
        if tail.get(locator..locator + 4) != Some(LOCATOR64) {
            return Err("it has no zip64 locator".to_owned());
        }
        let header = read_at(file, number(&tail, locator + 8, 8)?, 56).map_err(fault)?;
        if header.get(..4) != Some(END64) {
            return Err("it has no zip64 end".to_owned());
        }
        (size, at) = (number(&header, 40, 8)?, number(&header, 48, 8)?);
    }
    if size > MOST_DIRECTORY || at.checked_add(size).is_none_or(|end| end > length) {
        return Err("its directory is not where it says, or too long".to_owned());
    }
    let directory = read_at(file, at, size).map_err(fault)?;
    let mut rest = directory.as_slice();
    let mut found = None;
    while rest.get(..4) == Some(ENTRY) {
        let (names, extras, comments) =
            (number(rest, 28, 2)? as usize, number(rest, 30, 2)? as usize, number(rest, 32, 2)? as usize);
        let path = rest.get(46..46 + names).ok_or("its directory was cut")?;
        let is_it = path == name.as_bytes() || path.ends_with(format!("/{name}").as_bytes());
        if is_it {
            if found.is_some() {
                return Err(format!("it holds several {name}"));
            }
            if number(rest, 8, 2)? & 1 == 1 {
                return Err(format!("{name} is encrypted"));
            }
            let extra = rest.get(46 + names..46 + names + extras).ok_or("its directory was cut")?;
            found = Some(entry(rest, extra)?);
        }
        rest = rest.get(46 + names + extras + comments..).ok_or("its directory was cut")?;
    }
    found.ok_or_else(|| format!("it holds no {name}"))
}

fn entry(header: &[u8], extra: &[u8]) -> Result<Entry, String> {
    let mut entry = Entry {
        method: number(header, 10, 2)? as u16,
        crc: number(header, 16, 4)? as u32,
        packed: number(header, 20, 4)?,
        plain: number(header, 24, 4)?,
        at: number(header, 42, 4)?,
    };
    // The field of zip64 holds those that are full, in this order.
    let mut rest = extra;
    while rest.len() >= 4 {
        let (kind, size) = (number(rest, 0, 2)?, number(rest, 2, 2)? as usize);
        let field = rest.get(4..4 + size).ok_or("an extra field was cut")?;
        if kind == 1 {
            let mut at = 0;
            for value in [&mut entry.plain, &mut entry.packed, &mut entry.at] {
                if *value == 0xffff_ffff {
                    *value = number(field, at, 8)?;
                    at += 8;
                }
            }
        }
        rest = rest.get(4 + size..).unwrap_or_default();
    }
    Ok(entry)
}

/// A little-endian number of so many bytes.
fn number(bytes: &[u8], at: usize, size: usize) -> Result<u64, String> {
    let part = at.checked_add(size).and_then(|end| bytes.get(at..end)).ok_or("it was cut")?;
    Ok(part.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

/// `size` is at most what was checked before.
fn read_at(file: &mut File, at: u64, size: u64) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(at))?;
    let mut bytes = Vec::new();
    file.take(size).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::*;

    /// A zip of these files, deflated, by the book.
    pub(crate) fn zip_of(files: &[(&str, &[u8])]) -> Vec<u8> {
        let (mut body, mut directory) = (Vec::new(), Vec::new());
        for (name, plain) in files {
            let mut packer = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
            packer.write_all(plain).unwrap();
            let packed = packer.finish().unwrap();
            let mut crc = flate2::Crc::new();
            crc.update(plain);
            let mut common = vec![20, 0, 0, 0, 8, 0, 0, 0, 0, 0];
            common.extend(crc.sum().to_le_bytes());
            common.extend((packed.len() as u32).to_le_bytes());
            common.extend((plain.len() as u32).to_le_bytes());
            common.extend((name.len() as u16).to_le_bytes());
            common.extend([0, 0]);
            let at = body.len() as u32;
            body.extend(LOCAL);
            body.extend(&common);
            body.extend(name.as_bytes());
            body.extend(packed);
            directory.extend(ENTRY);
            directory.extend([20, 0]);
            directory.extend(&common);
            directory.extend([0; 10]);
            directory.extend(at.to_le_bytes());
            directory.extend(name.as_bytes());
        }
        let at = body.len() as u32;
        body.extend(&directory);
        body.extend(END);
        body.extend([0; 4]);
        body.extend((files.len() as u16).to_le_bytes());
        body.extend((files.len() as u16).to_le_bytes());
        body.extend((directory.len() as u32).to_le_bytes());
        body.extend(at.to_le_bytes());
        body.extend([0, 0]);
        body
    }

    fn take_of(bytes: &[u8], name: &str, most: u64) -> Result<Vec<u8>, Failed> {
        let folder = tempfile::tempdir().unwrap();
        let (archive, into) = (folder.path().join("a.zip"), folder.path().join("out"));
        std::fs::write(&archive, bytes).unwrap();
        take(&archive, name, &into, most)?;
        // Nothing but the one file was written, whatever paths the archive holds.
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
        Ok(std::fs::read(into).unwrap())
    }

    #[test]
    fn one_file_comes_out_wherever_its_path_would_lead() {
        let zip = zip_of(&[
            ("stdout", b"x"),
            ("../../../etc/bundle.tar", b"the bundle"),
            ("bundle.tar.txt", b"no"),
        ]);
        assert_eq!(take_of(&zip, "bundle.tar", 100).unwrap(), b"the bundle");
        assert!(take_of(&zip, "none", 100).unwrap_err().what.contains("holds no none"));
    }

    #[test]
    fn a_bomb_two_of_a_name_and_damage_are_refused() {
        let zeroes = vec![0; 1 << 20];
        let bomb = zip_of(&[("bundle.tar", &zeroes)]);
        assert!(bomb.len() < 20_000);
        let bomb_refused = take_of(&bomb, "bundle.tar", 1000).unwrap_err();
        assert!(bomb_refused.what.contains("more than the 1000") && !bomb_refused.may_help_again);
        // One that lies about its size.
        let mut liar = bomb.clone();
        for at in [22, bomb.len() - 22 - 56 + 24] {
            liar[at..at + 4].copy_from_slice(&500_u32.to_le_bytes());
        }
        let liar_refused = take_of(&liar, "bundle.tar", 1000).unwrap_err();
        assert!(liar_refused.what.contains("longer than the zip says") && liar_refused.may_help_again);
        let two = zip_of(&[("a/bundle.tar", b"1"), ("b/bundle.tar", b"2")]);
        assert!(take_of(&two, "bundle.tar", 1000).unwrap_err().what.contains("several"));
        let mut damaged = zip_of(&[("bundle.tar", b"some plain text of the bundle")]);
        damaged[45] ^= 1;
        assert!(take_of(&damaged, "bundle.tar", 1000).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_and_any_damage_end_in_words(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
            at in any::<prop::sample::Index>(),
            with in any::<u8>(),
        ) {
            let _ = take_of(&bytes, "x", 1000);
            let mut zip = zip_of(&[("x", b"0123456789")]);
            let at = at.index(zip.len());
            zip[at] = with;
            if let Ok(plain) = take_of(&zip, "x", 1000) {
                prop_assert_eq!(plain, b"0123456789");
            }
        }
    }
}
