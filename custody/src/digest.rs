//! SHA-256, twice: a fast implementation for bulk work and a portable one to check it with.
//!
//! Evidence is hashed by [`Hasher`] (ring, assembly for each processor) while it is acquired; `verify`
//! hashes its chunks again with [`PortableHasher`] (RustCrypto, plain Rust). A fault in either one shows.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Digest as _;
use sha2::digest::common::hazmat::{SerializableState as _, SerializedState};

use crate::error::{Error, Result};
use crate::twin_hash::TwinHasher;

/// A SHA-256 value. Shown, parsed and serialised as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::LowerHex for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerHex::fmt(self, f)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerHex::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = Error;

    /// Reads 64 lower-case hexadecimal digits; upper case is refused, so each digest has one spelling.
    fn from_str(text: &str) -> Result<Self> {
        let bad = || Error::malformed("SHA-256", format!("{text:?} is not 64 lower-case hexadecimal digits"));
        if text.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(bad());
        }
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| bad())?;
        Ok(Self(bytes))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl serde::de::Visitor<'_> for Text {
            type Value = Digest;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("64 lower-case hexadecimal digits")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Digest, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// A running SHA-256, whichever implementation computes it.
pub trait Hash256: Send {
    /// A hash of nothing yet.
    fn new() -> Self
    where
        Self: Sized;
    /// Takes in the next bytes.
    fn update(&mut self, bytes: &[u8]);
    /// Whether [`Hash256::update_chunk`] gives the next chunk's own hash.
    fn gives_chunk_hashes(&self) -> bool {
        false
    }
    /// Takes in a chunk; gives its own hash too, where that costs little more than the stream's alone.
    fn update_chunk(&mut self, chunk: &[u8]) -> Option<Digest> {
        self.update(chunk);
        None
    }
    /// Takes the next bytes into this hash and into another.
    fn update_with(&mut self, other: &mut Self, bytes: &[u8])
    where
        Self: Sized,
    {
        self.update(bytes);
        other.update(bytes);
    }
    /// Gives the digest of all bytes taken in.
    fn finish(self) -> Digest
    where
        Self: Sized;
}

/// The fast SHA-256 (ring).
#[derive(Clone)]
pub struct Hasher(ring::digest::Context);

impl Hasher {
    /// A hash of nothing yet.
    pub fn new() -> Self {
        Self(ring::digest::Context::new(&ring::digest::SHA256))
    }

    /// Takes in the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Gives the digest of all bytes taken in.
    pub fn finish(self) -> Digest {
        digest_of(self.0.finish().as_ref())
    }
}

impl fmt::Debug for PortableHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PortableHasher").finish_non_exhaustive()
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hasher").finish_non_exhaustive()
    }
}

impl Default for Hasher {
    fn default() -> Self {
        Self::new()
    }
}

impl Hash256 for Hasher {
    fn new() -> Self {
        Self::new()
    }
    fn update(&mut self, bytes: &[u8]) {
        Self::update(self, bytes);
    }
    fn finish(self) -> Digest {
        Self::finish(self)
    }
}

/// The portable SHA-256 (RustCrypto `sha2`), whose running state can be stored and taken up again.
#[derive(Clone, Default)]
pub struct PortableHasher(sha2::Sha256);

impl PortableHasher {
    /// A hash of nothing yet.
    pub fn new() -> Self {
        Self(sha2::Sha256::new())
    }

    /// Takes in the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Gives the digest of all bytes taken in.
    pub fn finish(self) -> Digest {
        digest_of(self.0.finalize().as_ref())
    }

    /// The running state, to be stored and given to [`PortableHasher::from_state`] later.
    pub fn state(&self) -> Vec<u8> {
        self.0.serialize().as_slice().to_vec()
    }

    /// Goes on from a stored [`PortableHasher::state`].
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] when the bytes are not such a state.
    pub fn from_state(state: &[u8]) -> Result<Self> {
        let bad = || Error::malformed("SHA-256 state", format!("{} bytes", state.len()));
        let state = SerializedState::<sha2::Sha256>::try_from(state).map_err(|_| bad())?;
        sha2::Sha256::deserialize(&state).map(Self).map_err(|_| bad())
    }
}

impl Hash256 for PortableHasher {
    fn new() -> Self {
        Self::new()
    }
    fn update(&mut self, bytes: &[u8]) {
        Self::update(self, bytes);
    }
    fn finish(self) -> Digest {
        Self::finish(self)
    }
}

/// The SHA-256 of `bytes`, by the fast implementation.
pub fn sha256(bytes: &[u8]) -> Digest {
    digest_of(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref())
}

/// The SHA-256 of all that `reader` gives, by the fast implementation.
///
/// # Errors
///
/// What the reader says.
pub fn sha256_of(mut reader: impl std::io::Read) -> std::io::Result<Digest> {
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(hasher.finish()),
            n => hasher.update(buffer.get(..n).unwrap_or(&[])),
        }
    }
}

/// The SHA-256 of `bytes`, by the portable implementation.
pub fn sha256_portable(bytes: &[u8]) -> Digest {
    digest_of(sha2::Sha256::digest(bytes).as_ref())
}

/// Compares the implementations with fixed vectors; programs call it once as they start.
///
/// The vectors are those of FIPS 180-2 (empty, `abc`, two blocks, a million `a`), and lengths around a
/// block's edge on which both must agree.
///
/// # Errors
///
/// [`Error::SelfTest`] naming the first vector that failed.
pub fn self_test() -> Result<()> {
    let million = vec![b'a'; 1_000_000];
    let vectors: [(&[u8], &str); 4] = [
        (b"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        (b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (
            b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
        ),
        (&million, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"),
    ];
    for (input, expected) in vectors {
        check_vector(input, expected)?;
    }
    for length in (0..=130).chain([4095, 4096, 4097, 65_537]) {
        let input = million.get(..length).unwrap_or_default();
        let (mut stream, mut chunk) = (TwinHasher::by_instructions().unwrap_or_default(), None);
        if stream.gives_chunk_hashes() {
            chunk = stream.update_chunk(input);
        } else {
            stream.update(input);
        }
        let portable = sha256_portable(input);
        if sha256(input) != portable
            || stream.finish() != portable
            || chunk.is_some_and(|own| own != portable)
        {
            return Err(Error::SelfTest {
                what: format!("SHA-256 implementations differ on {length} bytes"),
            });
        }
    }
    Ok(())
}

fn check_vector(input: &[u8], expected: &str) -> Result<()> {
    let mut fast = Hasher::new();
    let mut twin = TwinHasher::by_instructions().unwrap_or_default();
    let mut portable = PortableHasher::new();
    // Uneven pieces, so that partly filled blocks are met too.
    for piece in input.chunks(997) {
        fast.update(piece);
        twin.update(piece);
        portable.update(piece);
    }
    let results = [sha256(input), sha256_portable(input), fast.finish(), twin.finish(), portable.finish()];
    if results.iter().any(|digest| digest.to_string() != expected) {
        return Err(Error::SelfTest { what: format!("SHA-256 of {} fixed bytes", input.len()) });
    }
    Ok(())
}

fn digest_of(bytes: &[u8]) -> Digest {
    let mut digest = [0; 32];
    for (to, from) in digest.iter_mut().zip(bytes) {
        *to = *from;
    }
    Digest(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_implementations_pass_the_start_up_self_test() {
        self_test().unwrap();
    }

    #[test]
    fn a_wrong_vector_fails_the_self_test() {
        let wrong = "00".repeat(32);
        assert!(check_vector(b"abc", &wrong).is_err());
    }

    #[test]
    fn a_digest_has_one_spelling() {
        let digest = sha256(b"abc");
        assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
        assert!(digest.to_string().to_uppercase().parse::<Digest>().is_err());
        assert!("abc".parse::<Digest>().is_err());
        let json = serde_json::to_string(&digest).unwrap();
        assert_eq!(json, format!("\"{digest}\""));
        assert_eq!(serde_json::from_str::<Digest>(&json).unwrap(), digest);
    }

    #[test]
    fn a_stored_state_goes_on_where_it_stopped() {
        for cut in [0, 1, 63, 64, 65, 1000] {
            let input = vec![7u8; 1500];
            let mut first = PortableHasher::new();
            first.update(&input[..cut]);
            let mut second = PortableHasher::from_state(&first.state()).unwrap();
            second.update(&input[cut..]);
            assert_eq!(second.finish(), sha256(&input));
        }
        assert!(PortableHasher::from_state(&[1, 2, 3]).is_err());
    }
}
