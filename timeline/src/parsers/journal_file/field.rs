//! Data objects: one field of an entry each, shared by all entries that say the same.

use std::borrow::Cow;
use std::rc::Rc;

use liblzma::stream::{Action, Stream};
use zstd::stream::raw::{DParameter, Decoder, Operation};

use crate::error::ReadError;
use crate::event::Span;
use crate::text::clean;

use super::hash::{jenkins, siphash24};
use super::{DATA, JournalFile, u64_at};

/// More of a field's content is not read: it stays reachable through the field's place.
const LONGEST_FIELD: usize = 256 << 10;
/// What decodes to that much is never stored in more than this.
const LONGEST_STORED: u64 = 512 << 10;
/// An lz4 block can only be decoded whole: no larger one is.
const LARGEST_LZ4: u64 = 64 << 20;
/// An lz4 block grows 255-fold at most.
const LZ4_GROWTH: u64 = 255;
/// xz presets of journald need 9 MiB at most, and `-9` 65 MiB.
const XZ_MEMORY: u64 = 80 << 20;
/// zstd windows of up to 64 MiB.
const ZSTD_WINDOW: u32 = 26;

const SLOTS: u64 = 16 << 10;
/// Longer fields are not held, so that the cache stays below 64 MiB.
const LONGEST_HELD: usize = 4 << 10;

/// A field of an entry.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Field {
    /// Its name, as `_SYSTEMD_UNIT`.
    pub(crate) name: Cow<'static, str>,
    /// Its value as text.
    pub(crate) value: String,
    /// The bytes it was read from, as they stand in an event's pieces: `offset+length[>codec]`.
    pub(crate) piece: String,
    /// Whether the value goes on behind what was read.
    pub(crate) is_cut: bool,
    /// Whether the content gives the hash that was stored with it.
    pub(crate) is_true: bool,
    /// Its part of the entry's `xor_hash`, where all of it was read.
    pub(crate) entry_hash: Option<u64>,
}

/// Reads fields, and keeps those that many entries share.
pub(crate) struct Fields {
    held: Vec<Option<(u64, Rc<Field>)>>,
    zstd: Option<Decoder<'static>>,
    decoded: Vec<u8>,
    /// How many bytes have been decoded or given so far.
    work: u64,
}

impl Fields {
    /// Nothing held yet. For a single record, nothing will be.
    pub(crate) fn new(is_record: bool) -> Fields {
        let slots = if is_record { 0 } else { SLOTS };
        Fields { held: (0..slots).map(|_| None).collect(), zstd: None, decoded: Vec::new(), work: 0 }
    }

    /// How many bytes of text have been decoded and given so far.
    pub(crate) fn work(&self) -> u64 {
        self.work
    }

    /// The field in the data object at `at`, or why there is none.
    pub(crate) fn get(
        &mut self,
        file: &mut JournalFile,
        at: u64,
    ) -> Result<Result<Rc<Field>, &'static str>, ReadError> {
        // A place of its own for each offset: what lies there is only ever replaced, so that no choice of
        // offsets makes the cache slow or large.
        let slot = (at / 8).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 50;
        if let Some(Some((held, field))) = self.held.get(slot as usize)
            && *held == at
        {
            self.work = self.work.saturating_add(field.value.len() as u64);
            return Ok(Ok(field.clone()));
        }
        let field = match self.read(file, at)? {
            Ok(field) => Rc::new(field),
            Err(reason) => return Ok(Err(reason)),
        };
        self.work = self.work.saturating_add(field.value.len() as u64);
        if field.value.len() <= LONGEST_HELD
            && let Some(place) = self.held.get_mut(slot as usize)
        {
            *place = Some((at, field.clone()));
        }
        Ok(Ok(field))
    }

    fn read(&mut self, file: &mut JournalFile, at: u64) -> Result<Result<Field, &'static str>, ReadError> {
        let object = match file.object(at)? {
            Ok(object) if object.kind == DATA => object,
            Ok(_) => return Ok(Err("another object")),
            Err(none) => return Ok(Err(none.reason())),
        };
        let start = if file.header.is_compact() { 72 } else { 64 };
        let stored = object.size.saturating_sub(start);
        let (codec, most) = match object.flags & 7 {
            0 => (None, LONGEST_FIELD as u64),
            1 => (Some("xz"), LONGEST_STORED),
            2 => (Some("lz4"), LARGEST_LZ4),
            4 => (Some("zstd"), LONGEST_STORED),
            _ => return Ok(Err("data compressed in two ways")),
        };
        let taken = stored.min(most);
        let key = file.header.is_keyed().then_some(file.header.file_id);
        let span = Span::new(at, start.saturating_add(taken));
        let bytes = file.bytes.get(at, span.length as usize)?;
        let hash = u64_at(bytes, 16).unwrap_or(0);
        let payload = bytes.get(start as usize..).unwrap_or(&[]);
        let (payload, is_whole) = match codec {
            None => (payload, stored == taken),
            Some(codec) => {
                let done = match codec {
                    "zstd" => unpack_zstd(&mut self.zstd, payload, &mut self.decoded),
                    "xz" => unpack_xz(payload, &mut self.decoded),
                    _ if stored > taken => Err("an lz4 block larger than any we decode"),
                    _ => unpack_lz4(payload, &mut self.decoded),
                };
                self.work = self.work.saturating_add(self.decoded.len() as u64);
                match done {
                    Ok(is_whole) => (self.decoded.as_slice(), is_whole),
                    Err(reason) => return Ok(Err(reason)),
                }
            }
        };
        // The entry's own hash is always Jenkins', whatever the data object's is.
        let entry_hash = is_whole.then(|| jenkins(payload));
        let is_true = match (entry_hash, key) {
            (None, _) => true,
            (Some(_), Some(key)) => siphash24(&key, payload) == hash,
            (Some(jenkins), None) => jenkins == hash,
        };
        let Some(split) = memchr::memchr(b'=', payload).filter(|at| *at > 0) else {
            return Ok(Err("data without a field name"));
        };
        let (name, value) = payload.split_at_checked(split).unwrap_or((payload, &[]));
        let value = value.get(1..).unwrap_or(&[]);
        let value = value.get(..LONGEST_FIELD).map_or((value, !is_whole), |cut| (cut, true));
        let field = Field {
            name: known_name(name).map_or_else(|| clean(name).into(), Cow::Borrowed),
            value: clean(value.0),
            piece: match codec {
                Some(codec) => format!("{}+{}>{codec}", span.offset, span.length),
                None => format!("{}+{}", span.offset, span.length),
            },
            is_cut: value.1,
            is_true,
            entry_hash,
        };
        if self.decoded.capacity() > 1 << 20 {
            self.decoded = Vec::new();
        }
        Ok(Ok(field))
    }
}

/// Decodes as much as is read of a field; whether that is all.
fn unpack_zstd(
    decoder: &mut Option<Decoder<'static>>,
    stored: &[u8],
    out: &mut Vec<u8>,
) -> Result<bool, &'static str> {
    const BAD: &str = "zstd data that does not decode";
    out.resize(LONGEST_FIELD, 0);
    if decoder.is_none() {
        let mut new = Decoder::new().map_err(|_| BAD)?;
        new.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW)).map_err(|_| BAD)?;
        *decoder = Some(new);
    }
    let decoder = decoder.as_mut().ok_or(BAD)?;
    decoder.reinit().map_err(|_| BAD)?;
    let (mut read, mut written) = (0, 0);
    loop {
        let (from, to) = (stored.get(read..).unwrap_or(&[]), out.get_mut(written..).unwrap_or(&mut []));
        let room = !to.is_empty();
        let step = decoder.run_on_buffers(from, to).map_err(|_| BAD)?;
        read += step.bytes_read;
        written += step.bytes_written;
        if step.remaining == 0 || !room {
            out.truncate(written);
            return Ok(step.remaining == 0);
        }
        if step.bytes_read == 0 && step.bytes_written == 0 {
            return Err(BAD);
        }
    }
}

fn unpack_xz(stored: &[u8], out: &mut Vec<u8>) -> Result<bool, &'static str> {
    const BAD: &str = "xz data that does not decode";
    out.clear();
    out.reserve_exact(LONGEST_FIELD);
    let mut stream = Stream::new_stream_decoder(XZ_MEMORY, 0).map_err(|_| BAD)?;
    loop {
        let (read, written) = (stream.total_in(), stream.total_out());
        let from = usize::try_from(read).ok().and_then(|read| stored.get(read..)).unwrap_or(&[]);
        let status = stream.process_vec(from, out, Action::Run).map_err(|_| BAD)?;
        if matches!(status, liblzma::stream::Status::StreamEnd) {
            return Ok(true);
        }
        if out.len() >= LONGEST_FIELD {
            return Ok(false);
        }
        if stream.total_in() == read && stream.total_out() == written {
            return Err(BAD);
        }
    }
}

/// An lz4 block behind 8 bytes that say how long it becomes.
fn unpack_lz4(stored: &[u8], out: &mut Vec<u8>) -> Result<bool, &'static str> {
    const BAD: &str = "lz4 data that does not decode";
    out.clear();
    let claimed = u64_at(stored, 0).ok_or(BAD)?;
    let block = stored.get(8..).ok_or(BAD)?;
    if claimed > LARGEST_LZ4 || claimed > (block.len() as u64).saturating_mul(LZ4_GROWTH) {
        return Err("an lz4 block that claims to be larger than it can be");
    }
    out.resize(claimed as usize, 0);
    let written = lz4_flex::block::decompress_into(block, out).map_err(|_| BAD)?;
    out.truncate(written);
    if written as u64 == claimed { Ok(true) } else { Err(BAD) }
}

/// Names that nearly every journal has, so that they need not be held again and again.
fn known_name(name: &[u8]) -> Option<&'static str> {
    const NAMES: [&str; 64] = [
        "CODE_FILE",
        "CODE_FUNC",
        "CODE_LINE",
        "CONTAINER_ID",
        "CONTAINER_ID_FULL",
        "CONTAINER_NAME",
        "CONTAINER_TAG",
        "COREDUMP_EXE",
        "ERRNO",
        "IMAGE_NAME",
        "INVOCATION_ID",
        "JOB_ID",
        "JOB_RESULT",
        "JOB_TYPE",
        "LEADER",
        "MESSAGE",
        "MESSAGE_ID",
        "N_RESTARTS",
        "PRIORITY",
        "SEAT_ID",
        "SESSION_ID",
        "SYSLOG_FACILITY",
        "SYSLOG_IDENTIFIER",
        "SYSLOG_PID",
        "SYSLOG_RAW",
        "SYSLOG_TIMESTAMP",
        "TID",
        "UNIT",
        "UNIT_RESULT",
        "USER_ID",
        "USER_INVOCATION_ID",
        "USER_UNIT",
        "_AUDIT_LOGINUID",
        "_AUDIT_SESSION",
        "_AUDIT_TYPE",
        "_AUDIT_TYPE_NAME",
        "_BOOT_ID",
        "_CAP_EFFECTIVE",
        "_CMDLINE",
        "_COMM",
        "_EXE",
        "_GID",
        "_HOSTNAME",
        "_KERNEL_DEVICE",
        "_KERNEL_SUBSYSTEM",
        "_LINE_BREAK",
        "_MACHINE_ID",
        "_PID",
        "_RUNTIME_SCOPE",
        "_SELINUX_CONTEXT",
        "_SOURCE_BOOTTIME_TIMESTAMP",
        "_SOURCE_MONOTONIC_TIMESTAMP",
        "_SOURCE_REALTIME_TIMESTAMP",
        "_STREAM_ID",
        "_SYSTEMD_CGROUP",
        "_SYSTEMD_INVOCATION_ID",
        "_SYSTEMD_OWNER_UID",
        "_SYSTEMD_SESSION",
        "_SYSTEMD_SLICE",
        "_SYSTEMD_UNIT",
        "_SYSTEMD_USER_SLICE",
        "_SYSTEMD_USER_UNIT",
        "_TRANSPORT",
        "_UID",
    ];
    let found = NAMES.binary_search_by(|known| known.as_bytes().cmp(name)).ok()?;
    NAMES.get(found).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn every_codec_gives_the_field_and_no_more_than_is_read_of_it() {
        for length in [600, LONGEST_FIELD - 1, LONGEST_FIELD + 1, 5 << 20] {
            let field: Vec<u8> = (0..length as u32).map(|i| (i / 700 % 251) as u8).collect();
            let expected = (&field[..length.min(LONGEST_FIELD)], length <= LONGEST_FIELD);

            let stored = zstd::encode_all(&field[..], 3).unwrap();
            let (mut decoder, mut out) = (None, Vec::new());
            for _ in 0..2 {
                let whole = unpack_zstd(&mut decoder, &stored, &mut out).unwrap();
                assert_eq!((&out[..], whole), expected);
                assert!(unpack_zstd(&mut decoder, &stored[..stored.len() / 2], &mut out).is_err() || !whole);
            }

            let mut stored = Vec::new();
            liblzma::read::XzEncoder::new(&field[..], 6).read_to_end(&mut stored).unwrap();
            let whole = unpack_xz(&stored, &mut out).unwrap();
            assert_eq!((&out[..], whole), expected);

            let mut stored = (length as u64).to_le_bytes().to_vec();
            stored.extend(lz4_flex::block::compress(&field));
            assert_eq!(unpack_lz4(&stored, &mut out), Ok(true));
            assert_eq!(out, field);
        }
    }

    #[test]
    fn a_field_that_claims_too_much_is_refused_before_anything_is_allocated() {
        let mut out = Vec::new();
        let mut claim = (64u64 << 20).to_le_bytes().to_vec();
        claim.extend([0; 100]);
        assert!(unpack_lz4(&claim, &mut out).is_err());
        assert!(unpack_lz4(&[1, 2, 3], &mut out).is_err());
        assert!(unpack_lz4(&u64::MAX.to_le_bytes(), &mut out).is_err());
        assert_eq!(out.capacity(), 0);
    }

    #[test]
    fn known_names_are_found_and_others_are_not() {
        assert_eq!(known_name(b"_UID"), Some("_UID"));
        assert_eq!(known_name(b"CODE_FILE"), Some("CODE_FILE"));
        assert_eq!(known_name(b"MY_FIELD"), None);
    }
}
