//! Certificates of OpenSSH: a laboratory's authority says whose key it is, in what role, and for how long.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::public_key::SshPublicKey;
use super::wire::Fields;
use crate::clock::rfc3339;
use crate::error::{Error, Result};

const SUFFIX: &str = "-cert-v01@openssh.com";
/// A certificate for a person; type 2 is for a host.
const USER: u32 = 1;
/// A principal that begins so names a role, not a person.
pub(super) const ROLE: &str = "role:";

/// A certificate of a person's key. Its signature was verified, but not whether its authority is to be trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The key that it is for.
    pub key: SshPublicKey,
    /// The authority's number for it.
    pub serial: u64,
    /// The authority's name for it (`ssh-keygen -I`).
    pub key_id: String,
    /// The principals (`ssh-keygen -n`) that are names.
    pub names: Vec<String>,
    /// The principals that begin with `role:`, without that.
    pub roles: Vec<String>,
    /// From when it holds, in seconds since 1970.
    pub valid_after: u64,
    /// Until when it holds; `u64::MAX` for ever.
    pub valid_before: u64,
    /// The authority's key.
    pub authority: SshPublicKey,
    blob: Vec<u8>,
}

impl Certificate {
    /// Whether this blob says that it is a certificate.
    pub(super) fn is_one(blob: &[u8]) -> bool {
        Fields::of("SSH certificate", blob).text().is_ok_and(|algorithm| algorithm.ends_with(SUFFIX))
    }

    /// Reads a certificate's blob and verifies its authority's signature on it.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] when it is none, is not for a person, has a critical option (which nobody here could
    /// honour) or names nobody; [`Error::Signature`] when the authority did not sign it.
    pub fn from_blob(blob: &[u8]) -> Result<Self> {
        let bad = |why: &str| Error::malformed("SSH certificate", why);
        let mut fields = Fields::of("SSH certificate", blob);
        let algorithm = fields.text()?.strip_suffix(SUFFIX).ok_or_else(|| bad("its kind is none"))?;
        // sk-ssh-ed25519-cert-v01@openssh.com is of sk-ssh-ed25519@openssh.com.
        let plain = if algorithm.starts_with("sk-") {
            format!("{algorithm}@openssh.com")
        } else {
            algorithm.to_owned()
        };
        fields.string()?;
        let key = SshPublicKey::of_fields(&plain, &mut fields)?;
        let serial = fields.int64()?;
        let kind = fields.int32()?;
        let key_id = fields.text()?.to_owned();
        let principals = Fields::of("SSH certificate", fields.string()?).texts()?;
        let (valid_after, valid_before) = (fields.int64()?, fields.int64()?);
        let critical = fields.string()?;
        fields.string()?;
        fields.string()?;
        let authority = SshPublicKey::from_blob(fields.string()?)?;
        let signed = blob.len().saturating_sub(fields.left());
        let signature = fields.string()?;
        fields.end()?;
        if kind != USER {
            return Err(bad("it is not for a person"));
        }
        if !critical.is_empty() {
            return Err(bad("it has critical options, which cannot be honoured here"));
        }
        if principals.is_empty() {
            return Err(bad("it names nobody"));
        }
        authority.verify(blob.get(..signed).unwrap_or_default(), signature)?;
        let (roles, names): (Vec<_>, Vec<_>) =
            principals.into_iter().partition(|principal| principal.starts_with(ROLE));
        let roles = roles.iter().map(|role| role.trim_start_matches(ROLE).to_owned()).collect();
        let blob = blob.to_vec();
        Ok(Self { key, serial, key_id, names, roles, valid_after, valid_before, authority, blob })
    }

    /// Reads the line of a `-cert.pub` file.
    ///
    /// # Errors
    ///
    /// As [`Certificate::from_blob`].
    pub fn from_line(line: &str) -> Result<Self> {
        let base64 = line.split_whitespace().nth(1).and_then(|base64| STANDARD.decode(base64).ok());
        let none = || Error::malformed("SSH certificate", "not the line of a -cert.pub file");
        Self::from_blob(&base64.ok_or_else(none)?)
    }

    /// The certificate's blob.
    pub fn blob(&self) -> &[u8] {
        &self.blob
    }

    /// Whether it holds at this time, in nanoseconds since 1970.
    pub fn holds_at(&self, wall_ns: i64) -> bool {
        let seconds = u64::try_from(wall_ns.div_euclid(1_000_000_000)).unwrap_or(0);
        (self.valid_after..self.valid_before).contains(&seconds)
    }

    /// How long it holds, in words.
    pub fn validity(&self) -> String {
        let time = |seconds: u64| {
            let ns = i64::try_from(seconds).ok().and_then(|seconds| seconds.checked_mul(1_000_000_000))?;
            Some(rfc3339(ns).get(..19)?.to_owned() + "Z")
        };
        match (self.valid_after, time(self.valid_after), time(self.valid_before)) {
            (0, _, None) => "without end".to_owned(),
            (0, _, Some(before)) => format!("until {before}"),
            (_, Some(after), Some(before)) => format!("from {after} to {before}"),
            (_, Some(after), None) => format!("from {after} on"),
            (_, None, _) => "at no time".to_owned(),
        }
    }
}
