//! Witnesses: who cosigns only what extends what it cosigned before (C2SP tlog-witness).
//!
//! A request is text: the size that the witness knows, the proof that the checkpoint extends it, and the checkpoint.
//!
//! ```text
//! old 5
//! <base64 hash>          nearest first, as RFC 6962 orders a consistency proof
//!
//! exhibit/9f2c…          the signed checkpoint
//! ```
//!
//! It goes to a witness by HTTP ([`ask_witness`]), or as a file to a second organisation, which answers it with
//! [`cosign`].

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Answer, Cosignature, Post};
use crate::checkpoint::{SignedCheckpoint, SignedNote};
use crate::custody_log::CustodyLog;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::keys::{Signer, VerifyingKey};
use crate::merkle;
use crate::verify::{Memory, TrustedKey};

/// A proof has no more hashes: C2SP tlog-witness.
const MOST_HASHES: usize = 63;
/// Larger requests are none.
pub const MOST_REQUEST: usize = 128 << 10;

/// A witness and where it is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witness {
    /// The address before `/add-checkpoint`.
    pub url: String,
    /// Its name.
    pub name: String,
    /// Its key.
    pub key: VerifyingKey,
}

impl Witness {
    /// Reads `URL=VKEY`, where the vkey is that of a cosigner (type `0x04`).
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] or [`Error::Key`].
    pub fn parse(text: &str) -> Result<Self> {
        let (url, vkey) = text
            .split_once('=')
            .ok_or_else(|| Error::malformed("witness", format!("{text:?} is not URL=VKEY")))?;
        let (name, key) = VerifyingKey::from_cosigner_vkey(vkey)?;
        Ok(Self { url: url.trim_end_matches('/').to_owned(), name, key })
    }

    /// What [`Witness::parse`] reads.
    pub fn to_text(&self) -> String {
        format!("{}={}", self.url, self.key.to_cosigner_vkey(&self.name))
    }
}

/// A request to cosign a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CosignRequest {
    /// The size that the witness is thought to know; 0 for none.
    pub old_size: u64,
    /// Why the checkpoint extends it.
    pub proof: Vec<Digest>,
    /// What is to be cosigned.
    pub checkpoint: SignedCheckpoint,
}

impl CosignRequest {
    /// A request for a checkpoint of this log, to a witness that knows its first `old_size` entries.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] when the checkpoint is smaller; those of [`CustodyLog::leaf_hashes`].
    pub fn of(log: &CustodyLog, checkpoint: &SignedCheckpoint, old_size: u64) -> Result<Self> {
        let size = checkpoint.checkpoint.size;
        let mut proof = Vec::new();
        if old_size > size {
            let why = format!("the witness knows {old_size} entries and the checkpoint has {size}");
            return Err(Error::malformed("request to a witness", why));
        }
        if old_size > 0 && old_size < size {
            let leaves = log.leaf_hashes(size)?;
            let old = usize::try_from(old_size).unwrap_or(usize::MAX);
            proof = merkle::consistency_proof(&leaves, old).unwrap_or_default();
        }
        Ok(Self { old_size, proof, checkpoint: checkpoint.clone() })
    }

    /// The request as it is sent.
    pub fn to_text(&self) -> String {
        let mut text = format!("old {}\n", self.old_size);
        for hash in &self.proof {
            text.push_str(&STANDARD.encode(hash.0));
            text.push('\n');
        }
        text.push('\n');
        text.push_str(&self.checkpoint.note.to_text());
        text
    }

    /// Reads a request, or a signed checkpoint alone, which is a request to one who knows nothing of that log or
    /// this very checkpoint.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`].
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let bad = |why: &str| Error::malformed("request to a witness", why);
        if bytes.len() > MOST_REQUEST {
            return Err(bad("too large"));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| bad("not UTF-8"))?;
        let Some(rest) = text.strip_prefix("old ") else {
            let checkpoint = SignedCheckpoint::parse(bytes)?;
            return Ok(Self { old_size: 0, proof: Vec::new(), checkpoint });
        };
        let (head, note) = rest.split_once("\n\n").ok_or_else(|| bad("no blank line after the proof"))?;
        let mut lines = head.lines();
        let old_size = lines.next().and_then(|size| size.parse().ok()).ok_or_else(|| bad("no old size"))?;
        let mut proof = Vec::new();
        for line in lines {
            let hash = STANDARD.decode(line).ok().and_then(|bytes| bytes.try_into().ok());
            proof.push(Digest(hash.ok_or_else(|| bad("a hash of the proof is none"))?));
            if proof.len() > MOST_HASHES {
                return Err(bad("a proof of more than 63 hashes"));
            }
        }
        Ok(Self { old_size, proof, checkpoint: SignedCheckpoint::parse(note.as_bytes())? })
    }
}

/// Asks a witness to cosign a checkpoint of this log, and checks its answer.
///
/// A witness that knows another size says so (409), and is asked again with the proof from there.
///
/// # Errors
///
/// [`Error::Malformed`] with what the witness said, also when it knows a longer log than this one: then this one was
/// cut, or there are two. Those of `post` and [`CosignRequest::of`].
pub fn ask_witness(
    post: &dyn Post,
    witness: &Witness,
    log: &CustodyLog,
    checkpoint: &SignedCheckpoint,
) -> Result<Cosignature> {
    let url = format!("{}/add-checkpoint", witness.url);
    let refuse = |why: String| Error::malformed("cosignature", format!("{url}: {why}"));
    let size = checkpoint.checkpoint.size;
    let mut old_size = 0;
    // More than one witness may feed it at a time; three rounds are enough for ours.
    for _ in 0..3 {
        let request = CosignRequest::of(log, checkpoint, old_size)?;
        let Answer { status, body, .. } = post.post(&url, "text/plain", request.to_text().as_bytes())?;
        let text = String::from_utf8_lossy(&body).into_owned();
        match status {
            200 => {
                let lines = SignedNote::parse_lines(&text)?;
                let by_it = lines.iter().filter(|line| line.name == witness.name);
                return by_it
                    .filter_map(|line| Cosignature::verify(line, checkpoint.note.text(), &witness.key).ok())
                    .max_by_key(|found| found.unix_time)
                    .ok_or_else(|| {
                        refuse("its answer holds no cosignature by the key that was given".to_owned())
                    });
            }
            409 => {
                let known = text.strip_suffix('\n').unwrap_or(&text).parse::<u64>();
                let known = known.map_err(|_| refuse("it answered 409 without its size".to_owned()))?;
                if known > size {
                    return Err(refuse(format!(
                        "the witness has cosigned {known} entries of this log, which has {size} here: it was cut, \
                         or there are two of it"
                    )));
                }
                if known == old_size {
                    return Err(refuse(format!(
                        "the witness cosigned another history of the first {known} entries of this log"
                    )));
                }
                old_size = known;
            }
            422 => {
                return Err(refuse(
                    "the witness says that this log does not extend the one that it cosigned".to_owned(),
                ));
            }
            404 => return Err(refuse("the witness does not know this log's origin".to_owned())),
            403 => {
                return Err(refuse(
                    "the witness does not trust the key that signed the checkpoint".to_owned(),
                ));
            }
            other => {
                let said: String = text.chars().take(200).collect();
                return Err(refuse(format!("HTTP status {other}: {said}")));
            }
        }
    }
    Err(refuse("it keeps changing what it knows".to_owned()))
}

/// Cosigns a request as a witness, and remembers what was cosigned. Save the memory *before* the cosignature leaves.
///
/// `trusted` are the keys that the log may be signed with. A checkpoint that goes back, or does not extend what is
/// remembered, is refused.
///
/// # Errors
///
/// [`Error::Malformed`] saying why it is refused; [`Error::Key`] when the key does not sign.
pub fn cosign(
    request: &CosignRequest,
    trusted: &[TrustedKey],
    name: &str,
    key: &dyn Signer,
    unix_time: u64,
    memory: &mut Memory,
) -> Result<Cosignature> {
    let refuse = |why: String| Err(Error::malformed("request to a witness", why));
    let checkpoint = &request.checkpoint.checkpoint;
    if !trusted.iter().any(|trusted| trusted.signed_as(&request.checkpoint.note, &checkpoint.origin)) {
        return refuse("no key that you trust signed it as its log's".to_owned());
    }
    if let Some(seen) = memory.of(&checkpoint.origin) {
        let (size, root) = (checkpoint.size, &checkpoint.root);
        if size < seen.size {
            return refuse(format!(
                "ROLLED BACK: {} entries were cosigned before, now there are {size}",
                seen.size
            ));
        }
        if size == seen.size && *root != seen.root {
            return refuse(format!("FORK: another root was cosigned for the first {size} entries"));
        }
        if size > seen.size {
            if request.old_size != seen.size {
                return refuse(format!(
                    "{} entries were cosigned before: it must come with the proof from there (`old {}`)",
                    seen.size, seen.size
                ));
            }
            if seen.size > 0 && !merkle::verify_consistency(seen.size, size, &seen.root, root, &request.proof)
            {
                return refuse(format!(
                    "FORK: it does not extend the {} entries that were cosigned before",
                    seen.size
                ));
            }
        }
    }
    let made = Cosignature::sign(request.checkpoint.note.text(), name, key, unix_time)?;
    let whole = Some(request.checkpoint.clone());
    memory.remember(&checkpoint.origin, checkpoint.size, checkpoint.root, whole);
    Ok(made)
}
