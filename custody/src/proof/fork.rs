//! Proof that one log has two histories, for anybody who has neither of them.
//!
//! One line of strict JSON and one LF; texts that hold line feeds are escaped as everywhere (`\x0a`):
//!
//! ```text
//! {"a":{"checkpoint":"exhibit/9f2c…\x0a7\x0a…","vkey":"exhibit/9f2c…+…"},
//!  "b":{…},
//!  "entry":{"a":{"line":"{…}","path":["<hex>",…]},"b":{…},"index":5},     where both histories are at hand
//!  "first":{"of":"b","path":["<hex>",…],"root":"<hex>"},                    where one is known by its checkpoint alone
//!  "format":"exhibit-fork-proof/1"}
//! ```
//!
//! `a` and `b` are whole signed checkpoints of the same origin. With `entry`, both trees are shown to hold another entry
//! under the same number. With `first`, the larger tree is shown to begin with another tree (RFC 6962 consistency from
//! `root` to its own) than the one that the smaller checkpoint signs. With neither, both are of the same size.

use serde::{Deserialize, Serialize};

use crate::checkpoint::{MAX_NOTE, SignedCheckpoint};
use crate::digest::Digest;
use crate::entry::MAX_ENTRY;
use crate::error::{Error, Result};
use crate::keys::VerifyingKey;
use crate::merkle::{leaf_hash, verify_consistency, verify_inclusion};
use crate::strict_json;

/// The format that this build writes and reads.
const FORMAT: &str = "exhibit-fork-proof/1";
/// Two lines, two checkpoints, and 128 hashes; escaping makes no byte more than four.
const MOST: usize = 8 * (MAX_ENTRY + MAX_NOTE);
/// A tree of 2^64 leaves has no longer proof.
const LONGEST_PATH: usize = 65;

/// One signed head of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Head {
    /// The signed checkpoint, escaped.
    checkpoint: String,
    /// The key that signed it, as a C2SP verifier key.
    vkey: String,
}

impl Head {
    /// A head with the key that signed it.
    pub(crate) fn new(signed: &SignedCheckpoint, key: &VerifyingKey) -> Self {
        Self {
            checkpoint: strict_json::escape_text(signed.note.to_text().as_bytes()),
            vkey: key.to_vkey(&signed.checkpoint.origin),
        }
    }

    /// The checkpoint and its key, once the signature is found to be good.
    fn checked(&self) -> Result<(SignedCheckpoint, VerifyingKey)> {
        let signed = SignedCheckpoint::parse(&strict_json::unescape_text(&self.checkpoint)?)?;
        let (name, key) = VerifyingKey::from_vkey(&self.vkey)?;
        if name != signed.checkpoint.origin || !signed.is_signed_by(&key) {
            return Err(Error::Signature { fingerprint: key.fingerprint() });
        }
        Ok((signed, key))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TwoEntries {
    a: ProvedLine,
    b: ProvedLine,
    index: u64,
}

/// An entry's line with the way from it to its root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProvedLine {
    pub(crate) line: String,
    pub(crate) path: Vec<Digest>,
}

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Which {
    A,
    B,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FirstTree {
    of: Which,
    path: Vec<Digest>,
    root: Digest,
}

/// Proof of a fork. Made by [`crate::verify::compare`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForkProof {
    a: Head,
    b: Head,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    entry: Option<TwoEntries>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    first: Option<FirstTree>,
    format: String,
}

/// What a fork proof proves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Forked {
    /// The log.
    pub origin: String,
    /// The sizes of both heads.
    pub sizes: [u64; 2],
    /// The fingerprints of the keys that signed them.
    pub keys: [String; 2],
    /// The first entry in which they differ, where both lines are in the proof.
    pub entry: Option<u64>,
    /// Both lines of that entry.
    pub lines: Option<[String; 2]>,
}

impl ForkProof {
    /// Two heads of the same size, or whose difference `entry` or `first` shows.
    pub(crate) fn of_heads(a: Head, b: Head) -> Self {
        Self { a, b, entry: None, first: None, format: FORMAT.to_owned() }
    }

    /// Adds the first entry in which both differ.
    #[must_use]
    pub(crate) fn with_entries(mut self, index: u64, a: ProvedLine, b: ProvedLine) -> Self {
        self.entry = Some(TwoEntries { a, b, index });
        self
    }

    /// Adds the root that the larger tree, `b` if `of_b`, begins with at the smaller's size.
    #[must_use]
    pub(crate) fn with_first(mut self, of_b: bool, root: Digest, path: Vec<Digest>) -> Self {
        self.first = Some(FirstTree { of: if of_b { Which::B } else { Which::A }, path, root });
        self
    }

    /// The proof as it is stored: one line of strict JSON and one LF.
    ///
    /// # Errors
    ///
    /// [`Error::StrictJson`] when a line in it is no text of a log.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let value =
            serde_json::to_value(self).map_err(|error| Error::malformed("fork proof", error.to_string()))?;
        Ok((strict_json::to_line(&value)? + "\n").into_bytes())
    }

    /// Reads a proof. Nothing is verified yet.
    ///
    /// # Errors
    ///
    /// [`Error::StrictJson`] or [`Error::Malformed`].
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        if bytes.len() > MOST {
            return Err(bad(format!("{} bytes; at most {MOST}", bytes.len())));
        }
        let line = bytes.strip_suffix(b"\n").ok_or_else(|| bad("no final line feed"))?;
        let proof: Self =
            serde_json::from_value(strict_json::parse(line)?).map_err(|error| bad(error.to_string()))?;
        if proof.format != FORMAT {
            return Err(bad(format!("its format is {:?}, not {FORMAT:?}", proof.format)));
        }
        Ok(proof)
    }

    /// Checks everything in it; what comes back is proved.
    ///
    /// # Errors
    ///
    /// [`Error::Signature`] when a head is not signed by its key, [`Error::Malformed`] when the heads can be of one
    /// history.
    pub fn check(&self) -> Result<Forked> {
        let ((a, a_key), (b, b_key)) = (self.a.checked()?, self.b.checked()?);
        let (a, b) = (a.checkpoint, b.checkpoint);
        if a.origin != b.origin {
            return Err(bad("its heads are of two logs"));
        }
        match (&self.entry, &self.first) {
            (Some(entry), None) => {
                let within = |proved: &ProvedLine, size, root| {
                    let leaf = leaf_hash(proved.line.as_bytes());
                    proved.path.len() <= LONGEST_PATH
                        && verify_inclusion(&leaf, entry.index, size, &proved.path, root)
                };
                if !within(&entry.a, a.size, &a.root) || !within(&entry.b, b.size, &b.root) {
                    return Err(bad(format!("entry {} is not under both heads", entry.index)));
                }
                if entry.a.line == entry.b.line {
                    return Err(bad("both heads have the same entry"));
                }
            }
            (None, Some(first)) => {
                let (small, large) = if first.of == Which::B { (&a, &b) } else { (&b, &a) };
                let leads = first.path.len() <= LONGEST_PATH
                    && verify_consistency(small.size, large.size, &first.root, &large.root, &first.path);
                if !leads {
                    return Err(bad("the larger tree is not shown to begin with that root"));
                }
                if first.root == small.root {
                    return Err(bad("the larger tree begins with the smaller one"));
                }
            }
            (None, None) if a.size == b.size && a.root != b.root => {}
            _ => return Err(bad("it does not show that its heads differ")),
        }
        Ok(Forked {
            origin: a.origin,
            sizes: [a.size, b.size],
            keys: [a_key.fingerprint(), b_key.fingerprint()],
            entry: self.entry.as_ref().map(|entry| entry.index),
            lines: self.entry.as_ref().map(|entry| [entry.a.line.clone(), entry.b.line.clone()]),
        })
    }
}

impl Forked {
    /// What is proved, in one sentence.
    pub fn words(&self) -> String {
        let [a, b] = self.sizes;
        let size = if a == b { format!("size {a}") } else { format!("sizes {a} and {b}") };
        let [one, other] = &self.keys;
        let by = if one == other { one.clone() } else { format!("{one} and {other}") };
        let at = self.entry.map(|seq| format!(", first at entry {seq}")).unwrap_or_default();
        format!("FORK: two signed heads, {size}, different root{at}; log {}, signed by {by}", self.origin)
    }
}

fn bad(why: impl Into<String>) -> Error {
    Error::malformed("fork proof", why)
}
