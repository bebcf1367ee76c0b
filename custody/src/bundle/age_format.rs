//! The seam to the `age` crate: everything that names it is here.

use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::sync::Arc;

use age::stream::{StreamReader, StreamWriter};
use age::{DecryptError, Decryptor, Encryptor};

use super::protection::Unopened;
use super::store::BundleStore;

/// A header is parsed anew with each line that is read, so there must be an end. 100 recipients need 10 KiB.
const LONGEST_HEADER: usize = 16 << 10;
/// More than are ever written, with the meaningless one that `age` adds.
const MOST_STANZAS: usize = 200;
/// The line that ends a header begins so, and each that names a recipient.
const HEADER_END: &[u8] = b"\n--- ";
const STANZA: &[u8] = b"\n-> ";
/// Bytes that are encrypted together; see the format's "Payload".
const BLOCK: u64 = 64 << 10;

/// A public key.
#[derive(Clone)]
pub(super) struct Recipient(age::x25519::Recipient);

impl Recipient {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(str::to_owned)
    }
}

/// A secret key.
#[derive(Clone)]
pub(super) struct Identity(age::x25519::Identity);

impl Identity {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let key = text.parse().map(Self);
        key.map_err(|_: &str| "it is no identity as `age-keygen` makes them (AGE-SECRET-KEY-1…)".to_owned())
    }
}

/// Encrypts what is written to it.
pub(super) struct Encrypting<W: Write>(StreamWriter<W>);

impl<W: Write> Encrypting<W> {
    /// Writes the header.
    pub(super) fn begin(recipients: &[Recipient], out: W) -> io::Result<Self> {
        let keys = recipients.iter().map(|recipient| &recipient.0 as &dyn age::Recipient);
        let encryptor = Encryptor::with_recipients(keys)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error.to_string()))?;
        encryptor.wrap_output(out).map(Self)
    }

    /// Writes the last block.
    pub(super) fn finish(self) -> io::Result<W> {
        self.0.finish()
    }
}

impl<W: Write> Write for Encrypting<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Reads what is in one encrypted file of a store, at any offset. After an error it must not be used again.
pub(super) struct Decrypting {
    reader: StreamReader<BufReader<Ciphertext>>,
    length: u64,
}

impl Decrypting {
    pub(super) fn open(store: &Arc<dyn BundleStore>, path: &str, keys: &[Identity]) -> io::Result<Self> {
        let size = store.size_of(path)?;
        let mut head = vec![0; LONGEST_HEADER.min(usize::try_from(size).unwrap_or(LONGEST_HEADER))];
        let read = store.read_at(path, 0, &mut head)?;
        let mut head = head.get(..read).unwrap_or_default();
        // The whole header lies in these bytes, or the file is refused.
        let end = head.windows(HEADER_END.len()).position(|window| window == HEADER_END);
        let stanzas = head.get(..end.unwrap_or(0)).unwrap_or_default().windows(STANZA.len());
        if end.is_none() || stanzas.filter(|window| *window == STANZA).count() > MOST_STANZAS {
            return Err(refusal(DecryptError::InvalidHeader));
        }
        Decryptor::new_buffered(&mut head).map_err(refusal)?;
        let file = Ciphertext { store: Arc::clone(store), path: path.to_owned(), at: 0, size };
        let decryptor = Decryptor::new_buffered(BufReader::new(file)).map_err(refusal)?;
        let keys = keys.iter().map(|key| &key.0 as &dyn age::Identity);
        let mut reader = decryptor.decrypt(keys).map_err(refusal)?;
        // This decrypts the last block: a file that was cut gives no length.
        let length = reader.seek(SeekFrom::End(0)).map_err(|error| damage(error, "its end"))?;
        reader.seek(SeekFrom::Start(0))?;
        Ok(Self { reader, length })
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Reads at an offset; fewer bytes than asked only at the end.
    pub(super) fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let mut done = 0usize;
        // Block by block, so that damage is told with its place.
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let at = offset.saturating_add(done as u64);
            let left = self.length.saturating_sub(at).min(BLOCK - at % BLOCK);
            let take = rest.len().min(usize::try_from(left).unwrap_or(0));
            // The end itself is never sought: the crate's reader does not stay whole there.
            let Some(part) = rest.get_mut(..take).filter(|part| !part.is_empty()) else { break };
            let start = at - at % BLOCK;
            let place = || {
                format!("bytes {start} to {} of what it holds", self.length.min(start.saturating_add(BLOCK)))
            };
            self.reader
                .seek(SeekFrom::Start(at))
                .and_then(|_| self.reader.read_exact(part))
                .map_err(|error| damage(error, &place()))?;
            done += take;
        }
        Ok(done)
    }
}

fn refusal(error: DecryptError) -> io::Error {
    match error {
        DecryptError::Io(error) if !is_about_content(&error) => error,
        DecryptError::NoMatchingKeys => Unopened::NoKey.into_io(),
        _ => Unopened::Damaged("its header is not that of an age file".to_owned()).into_io(),
    }
}

fn damage(error: io::Error, place: &str) -> io::Error {
    if is_about_content(&error) {
        Unopened::Damaged(format!("{place} cannot be decrypted")).into_io()
    } else {
        error
    }
}

/// Whether an error is the crate's, about the bytes it was given, and not the store's.
fn is_about_content(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
}

/// The stored bytes of one file.
struct Ciphertext {
    store: Arc<dyn BundleStore>,
    path: String,
    at: u64,
    size: u64,
}

impl Read for Ciphertext {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.store.read_at(&self.path, self.at, buf)?;
        self.at = self.at.saturating_add(read as u64);
        Ok(read)
    }
}

impl Seek for Ciphertext {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::End(offset) => self.size.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.at.checked_add_signed(offset),
        };
        self.at = target.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}
