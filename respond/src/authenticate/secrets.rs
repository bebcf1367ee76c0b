//! Secrets from files, at most two at a time, so that one can be replaced while both are good.

use std::fmt;
use std::io::Read as _;
use std::path::PathBuf;

use subtle::{Choice, ConstantTimeEq as _};

/// No secret is longer.
const LONGEST: u64 = 4096;

/// Shorter ones can be guessed.
const SHORTEST: usize = 16;

/// One or two secrets. Neither can be printed.
#[derive(Clone)]
pub(super) struct Secrets(Vec<Vec<u8>>);

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} secrets", self.0.len())
    }
}

impl Secrets {
    /// Reads one or two files. A line feed at the end is not part of a secret.
    pub(super) fn read(files: &[PathBuf]) -> Result<Self, String> {
        if files.is_empty() || files.len() > 2 {
            return Err("secret_files names one file, or two while one replaces the other".to_owned());
        }
        let mut secrets = Vec::new();
        for file in files {
            let mut bytes = Vec::new();
            let read =
                std::fs::File::open(file).and_then(|open| open.take(LONGEST + 1).read_to_end(&mut bytes));
            read.map_err(|error| format!("the secret in {file:?} cannot be read: {error}"))?;
            while matches!(bytes.last(), Some(b'\n' | b'\r')) {
                bytes.pop();
            }
            if bytes.len() as u64 > LONGEST {
                return Err(format!("the secret in {file:?} is longer than {LONGEST} bytes"));
            }
            if bytes.len() < SHORTEST {
                return Err(format!(
                    "the secret in {file:?} is shorter than {SHORTEST} bytes: it can be guessed"
                ));
            }
            secrets.push(bytes);
        }
        Ok(Self(secrets))
    }

    /// Each of them with these words before it.
    pub(super) fn after(self, words: &str) -> Self {
        Self(self.0.into_iter().map(|secret| [words.as_bytes(), &secret].concat()).collect())
    }

    /// Each of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(Vec::as_slice)
    }

    /// Which secret this is, counted from 1. Both are always compared, by digests of one length.
    pub(super) fn find(&self, given: &[u8]) -> Option<usize> {
        self.find_by(|secret| {
            let (given, secret) = (custody::sha256(given), custody::sha256(secret));
            given.as_bytes().ct_eq(secret.as_bytes())
        })
    }

    /// The number of the secret for which `holds`; it is asked for each of them.
    pub(super) fn find_by(&self, holds: impl Fn(&[u8]) -> Choice) -> Option<usize> {
        let mut found = 0u8;
        for (number, secret) in (1u8..).zip(self.iter()) {
            let this = holds(secret);
            found = subtle::ConditionallySelectable::conditional_select(&found, &number, this);
        }
        (found != 0).then_some(usize::from(found))
    }

    #[cfg(test)]
    pub(super) fn of(secrets: &[&[u8]]) -> Self {
        Self(secrets.iter().map(|secret| secret.to_vec()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_secrets_are_good_and_nothing_else_is() {
        let secrets = Secrets::of(&[b"the old secret 123", b"the new secret 456"]);
        assert_eq!(secrets.find(b"the old secret 123"), Some(1));
        assert_eq!(secrets.find(b"the new secret 456"), Some(2));
        assert_eq!(secrets.find(b"the new secret 45"), None);
        assert_eq!(secrets.find(b""), None);
    }

    #[test]
    fn a_secret_is_never_printed() {
        assert_eq!(format!("{:?}", Secrets::of(&[b"hush"])), "1 secrets");
    }

    #[test]
    fn short_missing_and_too_many_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let short = folder.path().join("short");
        std::fs::write(&short, "hunter2\n").unwrap();
        let good = folder.path().join("good");
        std::fs::write(&good, "a secret of enough bytes\r\n").unwrap();
        assert!(Secrets::read(&[]).is_err());
        assert!(Secrets::read(&[good.clone(), good.clone(), good.clone()]).is_err());
        let why = Secrets::read(&[short]).unwrap_err();
        assert!(why.contains("guessed") && !why.contains("hunter2"), "{why}");
        assert!(Secrets::read(&[folder.path().join("absent")]).is_err());
        assert_eq!(Secrets::read(&[good]).unwrap().find(b"a secret of enough bytes"), Some(1));
    }
}
