//! Reads through compressed members: gzip, xz, bzip2 and zstd, told by their first bytes.

use std::io::{self, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::bytes::ByteSource;
use crate::parser::SourceReader;

/// Nothing below this size is taken for a bomb.
const HARMLESS: u64 = 64 << 20;
/// xz -9 needs 65 MiB to decode.
const LARGEST_WINDOW: u64 = 128 << 20;
/// More decoded bytes than this for each stored byte is a bomb.
const HIGHEST_RATIO: u64 = 5_000;

/// A way in which a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// RFC 1952, all members.
    Gzip,
    /// The .xz format, all streams.
    Xz,
    /// bzip2, all streams.
    Bzip2,
    /// RFC 8878, all frames.
    Zstd,
}

impl Codec {
    /// The codec that these first bytes announce.
    pub fn detect(head: &[u8]) -> Option<Codec> {
        match head {
            [0x1f, 0x8b, 8, ..] => Some(Codec::Gzip),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Codec::Xz),
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, 0x59, 0x26, 0x53, 0x59, ..] => Some(Codec::Bzip2),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Codec::Zstd),
            _ => None,
        }
    }

    /// Its word in locators: `gzip`, `xz`, `bzip2`, `zstd`.
    pub fn name(self) -> &'static str {
        match self {
            Codec::Gzip => "gzip",
            Codec::Xz => "xz",
            Codec::Bzip2 => "bzip2",
            Codec::Zstd => "zstd",
        }
    }

    /// The codec of a word in a locator.
    pub fn by_name(name: &str) -> Option<Codec> {
        [Codec::Gzip, Codec::Xz, Codec::Bzip2, Codec::Zstd].into_iter().find(|codec| codec.name() == name)
    }

    /// A reader of the decoded bytes of `source`, and a counter of the stored bytes it has taken so far.
    ///
    /// Reading fails with an error where the member is damaged, cut short, or grows beyond all reason: more than
    /// 64 MiB and more than 5,000 times what was read.
    pub fn open(self, source: Arc<dyn ByteSource>) -> (Box<dyn Read + Send>, Arc<AtomicU64>) {
        let taken = Arc::new(AtomicU64::new(0));
        let stored = BufReader::with_capacity(
            32 << 10,
            Counted { inner: SourceReader::new(source), taken: taken.clone() },
        );
        let decoder: Box<dyn Read + Send> = match self {
            Codec::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(stored)),
            Codec::Xz => match liblzma::stream::Stream::new_stream_decoder(
                LARGEST_WINDOW,
                liblzma::stream::CONCATENATED,
            ) {
                Ok(stream) => Box::new(liblzma::bufread::XzDecoder::new_stream(stored, stream)),
                Err(error) => Box::new(Failing(Some(io::Error::other(error)))),
            },
            Codec::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(stored)),
            Codec::Zstd => match zstd::stream::read::Decoder::with_buffer(stored) {
                Ok(mut decoder) => match decoder.window_log_max(27) {
                    Ok(()) => Box::new(decoder),
                    Err(error) => Box::new(Failing(Some(error))),
                },
                Err(error) => Box::new(Failing(Some(error))),
            },
        };
        (Box::new(Bounded { inner: decoder, given: 0, taken: taken.clone() }), taken)
    }
}

/// Counts the stored bytes that a decoder has been given.
struct Counted {
    inner: SourceReader,
    taken: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.taken.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

/// Stops a decompression bomb.
struct Bounded<R> {
    inner: R,
    given: u64,
    taken: Arc<AtomicU64>,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.given = self.given.saturating_add(n as u64);
        let taken = self.taken.load(Ordering::Relaxed);
        if self.given > HARMLESS && self.given / HIGHEST_RATIO > taken {
            return Err(io::Error::other(format!(
                "{} bytes from {taken}: more than any log gives",
                self.given
            )));
        }
        Ok(n)
    }
}

/// A decoder that could not be made.
struct Failing(Option<io::Error>);

impl Read for Failing {
    fn read(&mut self, _buf: &mut [u8]) -> io::Result<usize> {
        self.0.take().map_or(Ok(0), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn decode(bytes: Vec<u8>) -> (Option<Codec>, io::Result<Vec<u8>>) {
        let codec = Codec::detect(&bytes);
        let mut out = Vec::new();
        let result = match codec {
            Some(codec) => codec.open(Arc::new(bytes)).0.read_to_end(&mut out).map(|_| out),
            None => Ok(bytes),
        };
        (codec, result)
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn every_codec_reads_through_all_its_members() {
        let mut two = gzip(b"one ");
        two.extend(gzip(b"two"));
        assert_eq!(decode(two).1.unwrap(), b"one two");

        let mut two = zstd::encode_all(&b"one "[..], 1).unwrap();
        two.extend(zstd::encode_all(&b"two"[..], 1).unwrap());
        assert_eq!(decode(two).1.unwrap(), b"one two");

        let xz = |bytes: &[u8]| {
            let mut out = Vec::new();
            liblzma::read::XzEncoder::new(bytes, 1).read_to_end(&mut out).unwrap();
            out
        };
        let mut two = xz(b"one ");
        two.extend(xz(b"two"));
        assert_eq!(decode(two).1.unwrap(), b"one two");

        let bz = |bytes: &[u8]| {
            let mut out = Vec::new();
            bzip2::read::BzEncoder::new(bytes, bzip2::Compression::fast()).read_to_end(&mut out).unwrap();
            out
        };
        let mut two = bz(b"one ");
        two.extend(bz(b"two"));
        let (codec, out) = decode(two);
        assert_eq!((codec, out.unwrap().as_slice()), (Some(Codec::Bzip2), &b"one two"[..]));
        assert_eq!(decode(b"plain".to_vec()).0, None);
    }

    #[test]
    fn a_cut_member_is_an_error_and_a_bomb_is_stopped() {
        let mut cut = gzip(&[7; 100_000]);
        cut.truncate(cut.len() / 2);
        assert!(decode(cut).1.is_err());
        let bomb = zstd::encode_all(io::repeat(0).take(1 << 30), 19).unwrap();
        assert!(bomb.len() < 200_000);
        let error = decode(bomb).1.unwrap_err();
        assert!(error.to_string().contains("more than any log gives"), "{error}");
    }
}
