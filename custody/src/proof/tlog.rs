//! Proof that a log has an entry: C2SP `tlog-proof`, a text that ends in the log's signed checkpoint.
//!
//! ```text
//! c2sp.org/tlog-proof@v1
//! extra b3B0aW9uYWw=                    base64 of anything; not covered by any signature
//! index 5                               the entry's number, from 0
//! /EiKWvEOJ5MRR3DabyOGPSOginfIe+dp…=    base64 of each hash of the inclusion proof, lowest first
//!
//! exhibit/9f2c…                         the signed checkpoint, whole
//! …
//! ```
//!
//! Source: <https://c2sp.org/tlog-proof>. The entry itself is not in it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::checkpoint::{MAX_NOTE, SignedCheckpoint};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::keys::VerifyingKey;
use crate::merkle::{leaf_hash, verify_inclusion};

const FIRST_LINE: &str = "c2sp.org/tlog-proof@v1";
/// A tree of 2^64 leaves has no longer path.
const LONGEST_PATH: usize = 64;
/// Larger proofs are no proofs of ours: 64 hashes, some extra, and a checkpoint.
const MOST: usize = 2 * MAX_NOTE;

/// Proof that entry `index` is under a signed checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlogProof {
    /// Anything its maker wanted to say. No signature covers it.
    pub extra: Option<Vec<u8>>,
    /// The number of the entry, from 0.
    pub index: u64,
    /// The inclusion proof, lowest sibling first.
    pub path: Vec<Digest>,
    /// The checkpoint, with every signature it carries.
    pub checkpoint: SignedCheckpoint,
}

impl TlogProof {
    /// The proof as it is stored, in a file that ends in `.tlog-proof`.
    pub fn to_text(&self) -> String {
        let mut text = format!("{FIRST_LINE}\n");
        if let Some(extra) = &self.extra {
            text.push_str(&format!("extra {}\n", STANDARD.encode(extra)));
        }
        text.push_str(&format!("index {}\n", self.index));
        for hash in &self.path {
            text.push_str(&format!("{}\n", STANDARD.encode(hash.0)));
        }
        text.push('\n');
        text.push_str(&self.checkpoint.note.to_text());
        text
    }

    /// Reads a proof. Nothing is verified yet.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] when it is anything else than [`TlogProof::to_text`] writes.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        if bytes.len() > MOST {
            return Err(bad(format!("{} bytes; at most {MOST}", bytes.len())));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| bad("not UTF-8"))?;
        let (head, note) =
            text.split_once("\n\n").ok_or_else(|| bad("no blank line before its checkpoint"))?;
        let mut lines = head.split('\n').peekable();
        if lines.next() != Some(FIRST_LINE) {
            return Err(bad(format!("its first line is not {FIRST_LINE}")));
        }
        let extra = match lines.peek().and_then(|line| line.strip_prefix("extra ")) {
            Some(extra) => Some(STANDARD.decode(extra).map_err(|_| bad("its extra line is not base64"))?),
            None => None,
        };
        if extra.is_some() {
            lines.next();
        }
        let index = lines.next().and_then(|line| line.strip_prefix("index ")).unwrap_or_default();
        let index = index.parse().map_err(|_| bad("it has no index line"))?;
        let mut path = Vec::new();
        for line in lines {
            let hash = STANDARD.decode(line).ok().and_then(|hash| hash.try_into().ok());
            path.push(Digest(hash.ok_or_else(|| bad(format!("{line:?} is no hash in base64")))?));
            if path.len() > LONGEST_PATH {
                return Err(bad("more hashes than any tree is high"));
            }
        }
        let checkpoint = SignedCheckpoint::parse(note.as_bytes())?;
        let proof = Self { extra, index, path, checkpoint };
        // Base64, numbers and line ends have one spelling only.
        if proof.to_text() != text {
            return Err(bad("not in the canonical spelling"));
        }
        Ok(proof)
    }

    /// Whether this line, without its line feed, is entry `index` under the checkpoint. No signature is looked at.
    pub fn includes(&self, line: &[u8]) -> bool {
        let checkpoint = &self.checkpoint.checkpoint;
        verify_inclusion(&leaf_hash(line), self.index, checkpoint.size, &self.path, &checkpoint.root)
    }

    /// Checks that the line is entry `index` of the log whose key this is.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] when the entry is not under the checkpoint, [`Error::Signature`] when the key did not
    /// sign the checkpoint under the log's origin.
    pub fn check(&self, line: &[u8], key: &VerifyingKey) -> Result<()> {
        if !self.includes(line) {
            return Err(bad(format!("the entry is not number {} under its checkpoint", self.index)));
        }
        if !self.checkpoint.is_signed_by(key) {
            return Err(Error::Signature { fingerprint: key.fingerprint() });
        }
        Ok(())
    }
}

fn bad(why: impl Into<String>) -> Error {
    Error::malformed("tlog-proof", why)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::checkpoint::Checkpoint;
    use crate::keys::SigningKey;
    use crate::merkle::{Tree, root_of};

    fn lines(n: usize) -> Vec<String> {
        (0..n).map(|i| format!("entry {i}")).collect()
    }

    fn key() -> SigningKey {
        SigningKey::from_seed(&[5; 32])
    }

    fn proof_of(index: usize, n: usize, origin: &str) -> TlogProof {
        let lines = lines(n);
        let leaves = lines.iter().map(|line| leaf_hash(line.as_bytes())).collect();
        let checkpoint = Checkpoint { origin: origin.to_owned(), size: n as u64, root: root_of(&lines) };
        TlogProof {
            extra: None,
            index: index as u64,
            path: Tree::new(leaves).inclusion_proof(index).unwrap(),
            checkpoint: SignedCheckpoint::sign(checkpoint, &key()).unwrap(),
        }
    }

    #[test]
    fn a_proof_reads_back_and_proves_its_entry_and_no_other_in_every_small_log() {
        let public = key().verifying_key();
        for n in 1..=20 {
            let lines = lines(n);
            for index in 0..n {
                let proof = proof_of(index, n, "exhibit/00");
                let text = proof.to_text();
                assert_eq!(TlogProof::parse(text.as_bytes()).unwrap(), proof);
                for (other, line) in lines.iter().enumerate() {
                    assert_eq!(
                        proof.check(line.as_bytes(), &public).is_ok(),
                        other == index,
                        "{other} of {n}"
                    );
                }
            }
        }
    }

    #[test]
    fn every_flipped_bit_of_a_proof_is_refused() {
        let public = key().verifying_key();
        let proof = TlogProof { extra: Some(b"note".to_vec()), ..proof_of(3, 7, "exhibit/00") };
        let bytes = proof.to_text().into_bytes();
        let extra = "c2sp.org/tlog-proof@v1\nextra ".len();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                let passes =
                    TlogProof::parse(&changed).is_ok_and(|proof| proof.check(b"entry 3", &public).is_ok());
                // The specification leaves `extra` unsigned, and says so.
                assert!(!passes || (extra..extra + 8).contains(&at), "byte {at} bit {bit}");
            }
        }
        for cut in 0..bytes.len() {
            let read = TlogProof::parse(&bytes[..cut]);
            assert!(!read.is_ok_and(|proof| proof.check(b"entry 3", &public).is_ok()), "cut at {cut}");
        }
    }

    #[test]
    fn a_proof_of_another_log_is_refused() {
        let other = SigningKey::from_seed(&[6; 32]).verifying_key();
        let proof = proof_of(3, 7, "exhibit/00");
        assert!(matches!(proof.check(b"entry 3", &other), Err(Error::Signature { .. })));
        let moved = TlogProof { checkpoint: proof_of(3, 8, "exhibit/00").checkpoint, ..proof.clone() };
        assert!(moved.check(b"entry 3", &key().verifying_key()).is_err());
        let renamed = TlogProof { index: 2, ..proof };
        assert!(renamed.check(b"entry 3", &key().verifying_key()).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = TlogProof::parse(&bytes);
            let with_head = [b"c2sp.org/tlog-proof@v1\nindex 1\n".as_slice(), &bytes].concat();
            let _ = TlogProof::parse(&with_head);
        }
    }
}
