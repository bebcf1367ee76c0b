//! Checkpoints: the size and root of a log, signed, as a C2SP tlog-checkpoint in a C2SP signed note.
//!
//! ```text
//! exhibit/9f2c…                         the log's origin
//! 7                                     how many entries
//! /EiKWvEOJ5MRR3DabyOGPSOginfIe+dp…=    base64 of the Merkle root
//!
//! — exhibit/9f2c… mvJwsFD3…             base64 of key id (4 bytes) and Ed25519 signature (64 bytes)
//! ```
//!
//! The signature is over the text above the blank line, its last line feed included. Only one spelling of a note
//! is accepted: base64 must be canonical, and writing a note that was read gives the same bytes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::keys::{Signer, VerifyingKey};

/// The largest note that is read; a checkpoint with a dozen cosignatures has 2 KiB.
pub const MAX_NOTE: usize = 65_536;

/// A text and the signatures over it (C2SP signed-note).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedNote {
    text: String,
    signatures: Vec<NoteSignature>,
}

/// One signature line of a note. Who made it is a claim until [`SignedNote::is_signed_by`] says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteSignature {
    /// The signer's name.
    pub name: String,
    /// The key's id: [`VerifyingKey::note_id`].
    pub key_id: [u8; 4],
    /// What follows the id; 64 bytes for Ed25519.
    pub signature: Vec<u8>,
}

impl SignedNote {
    /// Signs a text under a name.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] when the text does not end with a line feed or holds other control characters, or
    /// the name is empty or holds a space or `+`; [`Error::Key`] when the key does not sign.
    pub fn sign(text: &str, name: &str, key: &dyn Signer) -> Result<Self> {
        if !is_note_text(text) {
            return Err(bad("the text does not end with a line feed, or holds control characters"));
        }
        let mut note = Self { text: text.to_owned(), signatures: Vec::new() };
        note.add_signature(name, key)?;
        Ok(note)
    }

    /// A text nobody has signed yet.
    pub(crate) fn unsigned(text: &str) -> Self {
        Self { text: text.to_owned(), signatures: Vec::new() }
    }

    /// Adds one more signature over the same text.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] when the name is empty or holds a space or `+`; [`Error::Key`] when the key does not sign.
    pub fn add_signature(&mut self, name: &str, key: &dyn Signer) -> Result<()> {
        if !is_note_name(name) {
            return Err(bad(format!("{name:?} is no signer's name")));
        }
        self.signatures.push(NoteSignature {
            name: name.to_owned(),
            key_id: key.verifying_key().note_id(name),
            signature: key.sign(self.text.as_bytes())?.to_vec(),
        });
        Ok(())
    }

    /// Adds a line that somebody else signed, unless it is there already.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] when its name is no signer's.
    pub fn add_line(&mut self, line: NoteSignature) -> Result<()> {
        if !is_note_name(&line.name) || line.signature.is_empty() {
            return Err(bad("a signature has no name or no bytes"));
        }
        if !self.signatures.contains(&line) {
            self.signatures.push(line);
        }
        Ok(())
    }

    /// Reads a note.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] when it is none, or not in the one canonical spelling.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        if bytes.len() > MAX_NOTE {
            return Err(bad(format!("{} bytes; at most {MAX_NOTE} are read", bytes.len())));
        }
        let whole = std::str::from_utf8(bytes).map_err(|_| bad("not UTF-8"))?;
        let (body, lines) =
            whole.rsplit_once("\n\n").ok_or_else(|| bad("no blank line before its signatures"))?;
        let text = format!("{body}\n");
        if !is_note_text(&text) {
            return Err(bad("control characters in the text"));
        }
        let signatures = lines.lines().map(parse_signature).collect::<Result<Vec<_>>>()?;
        let note = Self { text, signatures };
        if note.signatures.is_empty() || note.to_text() != whole {
            return Err(bad("no signature, or not in the canonical spelling"));
        }
        Ok(note)
    }

    /// The note as it is stored.
    pub fn to_text(&self) -> String {
        let mut whole = format!("{}\n", self.text);
        for line in &self.signatures {
            let bytes = [line.key_id.as_slice(), &line.signature].concat();
            whole.push_str(&format!("— {} {}\n", line.name, STANDARD.encode(bytes)));
        }
        whole
    }

    /// Reads signature lines alone, as a witness answers them.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] when one is none.
    pub fn parse_lines(text: &str) -> Result<Vec<NoteSignature>> {
        text.lines().map(parse_signature).collect()
    }

    /// What is signed, its last line feed included.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The signature lines, in order.
    pub fn signatures(&self) -> &[NoteSignature] {
        &self.signatures
    }

    /// Whether one of the lines is a good signature by this key under this name.
    pub fn is_signed_by(&self, name: &str, key: &VerifyingKey) -> bool {
        self.lines_of(name, key).any(|line| key.verify(self.text.as_bytes(), &line.signature).is_ok())
    }

    /// Whether a line says it is by this key, and is not.
    pub fn is_forged_for(&self, name: &str, key: &VerifyingKey) -> bool {
        self.lines_of(name, key).any(|line| key.verify(self.text.as_bytes(), &line.signature).is_err())
    }

    fn lines_of(&self, name: &str, key: &VerifyingKey) -> impl Iterator<Item = &NoteSignature> {
        let id = key.note_id(name);
        self.signatures.iter().filter(move |line| line.key_id == id && line.name == name)
    }
}

/// The size and root of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's random name.
    pub origin: String,
    /// How many entries the log has.
    pub size: u64,
    /// The Merkle root over them.
    pub root: Digest,
}

impl Checkpoint {
    /// The three lines that are signed.
    pub fn to_text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, STANDARD.encode(self.root.0))
    }

    /// Reads the three lines; extension lines are refused, as we never write any.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] when they are anything else than [`Checkpoint::to_text`] writes.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = |why: &str| Error::malformed("checkpoint", why);
        let mut lines = text.lines();
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next()) else {
            return Err(bad("not three lines"));
        };
        let root = STANDARD.decode(root).map_err(|_| bad("its root is not canonical base64"))?;
        let checkpoint = Self {
            origin: origin.to_owned(),
            size: size.parse().map_err(|_| bad("its size is no number"))?,
            root: Digest(root.try_into().map_err(|_| bad("its root is not 32 bytes"))?),
        };
        if origin.is_empty() || checkpoint.to_text() != text {
            return Err(bad("not in the canonical spelling"));
        }
        Ok(checkpoint)
    }
}

/// A checkpoint with the note that carries it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCheckpoint {
    /// What is signed.
    pub checkpoint: Checkpoint,
    /// The signatures over it.
    pub note: SignedNote,
}

impl SignedCheckpoint {
    /// Signs a checkpoint under its origin, as a log's own key does.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] when the origin is no signer's name.
    pub fn sign(checkpoint: Checkpoint, key: &dyn Signer) -> Result<Self> {
        let note = SignedNote::sign(&checkpoint.to_text(), &checkpoint.origin, key)?;
        Ok(Self { checkpoint, note })
    }

    /// Reads a signed checkpoint; no signature is verified yet.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`].
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let note = SignedNote::parse(bytes)?;
        Ok(Self { checkpoint: Checkpoint::parse(note.text())?, note })
    }

    /// Whether this log key signed it.
    pub fn is_signed_by(&self, key: &VerifyingKey) -> bool {
        self.note.is_signed_by(&self.checkpoint.origin, key)
    }
}

fn parse_signature(line: &str) -> Result<NoteSignature> {
    let (name, base64) = line
        .strip_prefix("— ")
        .and_then(|rest| rest.split_once(' '))
        .ok_or_else(|| bad("a line is no signature"))?;
    let bytes = STANDARD.decode(base64).map_err(|_| bad("a signature is not canonical base64"))?;
    let Some((key_id, signature)) = bytes.split_first_chunk::<4>() else {
        return Err(bad("a signature has no key id"));
    };
    if !is_note_name(name) || signature.is_empty() {
        return Err(bad("a signature has no name or no bytes"));
    }
    Ok(NoteSignature { name: name.to_owned(), key_id: *key_id, signature: signature.to_vec() })
}

fn is_note_text(text: &str) -> bool {
    text.ends_with('\n') && !text.chars().any(|c| c.is_ascii_control() && c != '\n')
}

fn is_note_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '+')
}

fn bad(why: impl Into<String>) -> Error {
    Error::malformed("signed note", why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::sha256;
    use crate::keys::SigningKey;

    /// The example of the C2SP signed-note specification.
    const VKEY: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
    const NOTE: &str = "This is an example message.\n\n— example.com/foo \
        Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";

    fn signed() -> SignedCheckpoint {
        let checkpoint = Checkpoint { origin: "exhibit/00".to_owned(), size: 7, root: sha256(b"root") };
        SignedCheckpoint::sign(checkpoint, &SigningKey::from_seed(&[1; 32])).unwrap()
    }

    #[test]
    fn a_checkpoint_survives_its_file() {
        let signed = signed();
        let read = SignedCheckpoint::parse(signed.note.to_text().as_bytes()).unwrap();
        assert_eq!(read, signed);
        assert!(read.is_signed_by(&SigningKey::from_seed(&[1; 32]).verifying_key()));
        assert!(!read.is_signed_by(&SigningKey::from_seed(&[2; 32]).verifying_key()));
    }

    #[test]
    fn a_second_signature_verifies_beside_the_first() {
        let mut signed = signed();
        let witness = SigningKey::from_seed(&[9; 32]);
        signed.note.add_signature("witness.example/w1", &witness).unwrap();
        let read = SignedCheckpoint::parse(signed.note.to_text().as_bytes()).unwrap();
        assert_eq!(read.note.signatures().len(), 2);
        assert!(read.note.is_signed_by("witness.example/w1", &witness.verifying_key()));
        assert!(!read.note.is_signed_by("witness.example/w2", &witness.verifying_key()));
        assert!(signed.note.add_signature("with space", &witness).is_err());
        assert!(signed.note.add_signature("with+plus", &witness).is_err());
    }

    #[test]
    fn any_changed_byte_is_refused_or_no_longer_signed() {
        let signed = signed();
        let key = SigningKey::from_seed(&[1; 32]).verifying_key();
        let bytes = signed.note.to_text().into_bytes();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                let passes = SignedCheckpoint::parse(&changed).is_ok_and(|read| read.is_signed_by(&key));
                assert!(!passes, "byte {at} bit {bit}");
            }
        }
        for cut in 0..bytes.len() {
            let passes = SignedCheckpoint::parse(&bytes[..cut]).is_ok_and(|read| read.is_signed_by(&key));
            assert!(!passes, "cut at {cut}");
        }
    }

    #[test]
    fn other_spellings_of_a_checkpoint_are_refused() {
        let root = STANDARD.encode([0; 32]);
        for text in [
            format!("o\n07\n{root}\n"),
            format!("o\n+7\n{root}\n"),
            format!("o\n7\n{root}"),
            format!("o\n7\n{root}\nextension\n"),
            format!("o\r\n7\n{root}\n"),
            format!("o\n7\n{}\n", root.replace('=', "")),
            format!("o\n7\n{}B=\n", root.get(..42).unwrap()),
            format!("\n7\n{root}\n"),
            "o\n7\n".to_owned(),
        ] {
            assert!(Checkpoint::parse(&text).is_err(), "{text:?}");
        }
        assert!(Checkpoint::parse(&format!("o\n7\n{root}\n")).is_ok());
    }

    #[test]
    fn the_example_of_the_specification_verifies() {
        let (name, key) = VerifyingKey::from_vkey(VKEY).unwrap();
        let note = SignedNote::parse(NOTE.as_bytes()).unwrap();
        assert_eq!(note.text(), "This is an example message.\n");
        assert!(note.is_signed_by(&name, &key));
        assert_eq!(note.to_text(), NOTE);
        let forged = SignedNote::parse(NOTE.replace("message", "massage").as_bytes()).unwrap();
        assert!(!forged.is_signed_by(&name, &key));
        assert!(forged.is_forged_for(&name, &key));
    }
}
