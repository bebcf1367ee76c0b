//! One CloudTrail digest file: what it says, and the text that its signature is over.
//!
//! Reference: AWS CloudTrail User Guide, "CloudTrail digest file structure" and "Custom implementations of CloudTrail log file
//! integrity validation".

use custody::clock::parse_rfc3339;
use custody::{Digest, sha256};
use serde::Deserialize;

use super::integrity::Headers;

/// What a digest file says. Fields that are not needed are passed over.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DigestFile {
    digest_start_time: String,
    digest_end_time: String,
    pub(super) digest_s3_bucket: String,
    pub(super) digest_s3_object: String,
    pub(super) digest_public_key_fingerprint: String,
    #[serde(default)]
    pub(super) previous_digest_s3_bucket: Option<String>,
    #[serde(default)]
    pub(super) previous_digest_s3_object: Option<String>,
    #[serde(default)]
    pub(super) previous_digest_hash_value: Option<String>,
    #[serde(default)]
    pub(super) previous_digest_signature: Option<String>,
    #[serde(default)]
    pub(super) log_files: Vec<LogFile>,
    /// First and last second that it tells of.
    #[serde(skip)]
    pub(super) span: (i64, i64),
    /// SHA-256 of the unpacked file.
    #[serde(skip, default = "nothing")]
    pub(super) sha256: Digest,
    /// As the object's metadata have it: hexadecimal.
    #[serde(skip)]
    pub(super) signature: Option<String>,
}

/// A log file, as a digest file names it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LogFile {
    pub(super) s3_bucket: String,
    pub(super) s3_object: String,
    hash_value: String,
    #[serde(default)]
    hash_algorithm: Option<String>,
}

fn nothing() -> Digest {
    Digest([0; 32])
}

impl DigestFile {
    /// Reads an unpacked digest file and the metadata of its object.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub(super) fn read(bytes: &[u8], headers: &Headers) -> Result<Self, String> {
        let mut file: Self =
            serde_json::from_slice(bytes).map_err(|error| format!("it is no digest file: {error}"))?;
        let second = |text: &str| match parse_rfc3339(text) {
            Ok(time) => Ok(time.div_euclid(1_000_000_000)),
            Err(_) => Err(format!("it is no digest file: {text:?} is no time")),
        };
        file.span = (second(&file.digest_start_time)?, second(&file.digest_end_time)?);
        file.sha256 = sha256(bytes);
        file.signature = headers.get("x-amz-meta-signature").map(str::to_owned);
        let algorithm = headers.get("x-amz-meta-signature-algorithm");
        if let Some(algorithm) = algorithm.filter(|algorithm| *algorithm != "SHA256withRSA") {
            return Err(format!("its signature is by {algorithm:?}, which this version cannot check"));
        }
        Ok(file)
    }

    /// The text that its signature is over.
    pub(super) fn signed_text(&self) -> String {
        let previous = self.previous_digest_signature.as_deref().unwrap_or("null");
        let Self { digest_end_time, digest_s3_bucket, digest_s3_object, sha256, .. } = self;
        format!("{digest_end_time}\n{digest_s3_bucket}/{digest_s3_object}\n{sha256}\n{previous}")
    }

    /// Its signature as bytes; `None` if there is none that could be one.
    pub(super) fn signature_bytes(&self) -> Option<Vec<u8>> {
        let text = self.signature.as_deref()?.as_bytes();
        let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let pair = |pair: &[u8]| match pair {
            [high, low] => Some(digit(high)? << 4 | digit(low)?),
            _ => None,
        };
        text.chunks(2).map(pair).collect()
    }
}

impl LogFile {
    /// SHA-256 of the unpacked log file.
    pub(super) fn sha256(&self) -> Option<Digest> {
        let is_known = self.hash_algorithm.as_deref().is_none_or(|name| name == "SHA-256");
        if is_known { self.hash_value.to_ascii_lowercase().parse().ok() } else { None }
    }
}
