//! Cosignatures: a witness's word that it saw a checkpoint at a time, and no other history of that log.
//!
//! C2SP tlog-cosignature, type `0x04`. Signed are two lines and the checkpoint's text:
//!
//! ```text
//! cosignature/v1
//! time 1795224600
//! exhibit/9f2c…
//! 7
//! /EiKWvEOJ5MRR3DabyOGPSOginfIe+dp…=
//! ```
//!
//! The line in the note holds the key id (4 bytes), the time (8 bytes, big endian) and the signature (64 bytes).

use crate::checkpoint::{NoteSignature, SignedNote};
use crate::clock::rfc3339;
use crate::error::{Error, Result};
use crate::keys::{Signer, VerifyingKey};

/// A cosignature that verifies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cosignature {
    /// The witness's name.
    pub name: String,
    /// When it saw the checkpoint, in seconds since 1970, by its own clock.
    pub unix_time: u64,
    /// The line of the note.
    pub line: NoteSignature,
}

impl Cosignature {
    /// Cosigns the text of a checkpoint under a witness's name.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] when the name is none; [`Error::Key`] when the key does not sign.
    pub fn sign(text: &str, name: &str, key: &dyn Signer, unix_time: u64) -> Result<Self> {
        let signature = key.sign(message(text, unix_time).as_bytes())?;
        let signature = [unix_time.to_be_bytes().as_slice(), &signature].concat();
        let key_id = key.verifying_key().cosigner_id(name);
        let line = NoteSignature { name: name.to_owned(), key_id, signature };
        // Refuses a name that could not be read back.
        SignedNote::unsigned(text).add_line(line.clone())?;
        Ok(Self { name: name.to_owned(), unix_time, line })
    }

    /// Reads a line as this key's cosignature over `text`.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] when the line is not by this key, [`Error::Signature`] when it does not verify.
    pub fn verify(line: &NoteSignature, text: &str, key: &VerifyingKey) -> Result<Self> {
        let bad = |why: &str| Error::malformed("cosignature", why);
        if line.key_id != key.cosigner_id(&line.name) {
            return Err(bad("it names another key"));
        }
        let (time, signature) =
            line.signature.split_first_chunk::<8>().ok_or_else(|| bad("it holds no time"))?;
        let unix_time = u64::from_be_bytes(*time);
        key.verify(message(text, unix_time).as_bytes(), signature)?;
        Ok(Self { name: line.name.clone(), unix_time, line: line.clone() })
    }

    /// The newest cosignature by this key in a note, under this name or any.
    pub fn find(note: &SignedNote, name: Option<&str>, key: &VerifyingKey) -> Option<Self> {
        note.signatures()
            .iter()
            .filter(|line| name.is_none_or(|name| name == line.name))
            .filter_map(|line| Self::verify(line, note.text(), key).ok())
            .max_by_key(|found| found.unix_time)
    }

    /// When, RFC 3339.
    pub fn time(&self) -> String {
        let ns = i64::try_from(self.unix_time).unwrap_or(i64::MAX).saturating_mul(1_000_000_000);
        rfc3339(ns).replace(".000000000", "")
    }
}

fn message(text: &str, unix_time: u64) -> String {
    format!("cosignature/v1\ntime {unix_time}\n{text}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::sha256;
    use crate::keys::SigningKey;
    use crate::{Checkpoint, SignedCheckpoint};

    fn note() -> SignedNote {
        let checkpoint = Checkpoint { origin: "exhibit/00".to_owned(), size: 7, root: sha256(b"root") };
        SignedCheckpoint::sign(checkpoint, &SigningKey::from_seed(&[1; 32])).unwrap().note
    }

    #[test]
    fn a_cosignature_is_found_in_its_note_under_its_key_and_name_alone() {
        let (mut note, witness) = (note(), SigningKey::from_seed(&[9; 32]));
        let key = witness.verifying_key();
        for time in [1_795_224_600, 1_795_224_700] {
            let line = Cosignature::sign(note.text(), "w.example/1", &witness, time).unwrap().line;
            note.add_line(line).unwrap();
        }
        let read = SignedNote::parse(note.to_text().as_bytes()).unwrap();
        let found = Cosignature::find(&read, Some("w.example/1"), &key).unwrap();
        assert_eq!((found.unix_time, found.time().as_str()), (1_795_224_700, "2026-11-21T01:31:40Z"));
        assert!(Cosignature::find(&read, None, &key).is_some());
        assert!(Cosignature::find(&read, Some("w.example/2"), &key).is_none());
        assert!(Cosignature::find(&read, None, &SigningKey::from_seed(&[8; 32]).verifying_key()).is_none());
        // It is no plain signature, and a plain one is no cosignature.
        assert!(!read.is_signed_by("w.example/1", &key));
        note.add_signature("w.example/3", &witness).unwrap();
        assert!(Cosignature::find(&note, Some("w.example/3"), &key).is_none());
        assert!(Cosignature::sign(note.text(), "with space", &witness, 1).is_err());
    }

    #[test]
    fn any_changed_bit_of_a_cosignature_or_its_text_is_refused() {
        let (note, witness) = (note(), SigningKey::from_seed(&[9; 32]));
        let key = witness.verifying_key();
        let made = Cosignature::sign(note.text(), "w", &witness, 1_795_224_600).unwrap();
        for at in 0..made.line.signature.len() {
            for bit in 0..8 {
                let mut line = made.line.clone();
                line.signature[at] ^= 1 << bit;
                assert!(Cosignature::verify(&line, note.text(), &key).is_err(), "byte {at} bit {bit}");
            }
            let mut line = made.line.clone();
            line.signature.truncate(at);
            assert!(Cosignature::verify(&line, note.text(), &key).is_err(), "cut at {at}");
        }
        assert!(Cosignature::verify(&made.line, &note.text().replace("\n7\n", "\n8\n"), &key).is_err());
    }

    #[test]
    fn the_verifier_key_of_a_cosigner_has_its_own_type() {
        let key = SigningKey::from_seed(&[9; 32]).verifying_key();
        let vkey = key.to_cosigner_vkey("w.example/1");
        assert_eq!(VerifyingKey::from_cosigner_vkey(&vkey).unwrap(), ("w.example/1".to_owned(), key));
        assert!(VerifyingKey::from_vkey(&vkey).is_err());
        assert!(VerifyingKey::from_cosigner_vkey(&key.to_vkey("w.example/1")).is_err());
    }
}
