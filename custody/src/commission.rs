//! A commission: what a collector on another machine, which has no case, is to acquire for one.
//!
//! The case reserves an exhibit and writes the commission; the collector acquires into a folder that carries the exhibit's
//! id and name, with a log signed by a key of its own; the case takes the folder in, verifies it, and its own log then
//! vouches for the seal. The file is no secret: it allows nothing, it only says what is meant.

use serde::{Deserialize, Serialize};

use crate::bundle::Manifest;
use crate::case_layout;
use crate::error::{Error, Result};
use crate::strict_json;

/// The format that this build writes and reads.
const FORMAT: &str = "exhibit-commission/1";

/// No commission is longer.
pub const LONGEST_COMMISSION: u64 = 64 << 10;

/// What is to be acquired, for which exhibit of which case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Commission {
    /// The case's id.
    pub case: String,
    /// Whom it is encrypted to.
    #[serde(default)]
    pub encrypt_to: Vec<String>,
    /// Who examines.
    pub examiner: String,
    /// The exhibit's id.
    pub exhibit: String,
    format: String,
    /// When it was made, RFC 3339.
    pub issued: String,
    /// What is acquired: the word after `exhibit acquire`.
    pub kind: String,
    /// The exhibit's name.
    pub name: String,
    /// For what organisation; empty if none.
    #[serde(default)]
    pub organisation: String,
}

impl Commission {
    /// Kinds that can be asked for: they need no account and are of the machine that acquires.
    pub const KINDS: [&'static str; 5] = ["container", "disk", "logs", "memory", "triage"];

    /// A commission; texts of the case are in their stored form.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] when the kind is none of [`Self::KINDS`].
    pub fn new(
        case: &crate::CaseFile,
        exhibit: &str,
        name: &str,
        kind: &str,
        encrypt_to: &[String],
        issued: &str,
    ) -> Result<Self> {
        let commission = Self {
            case: case.id.clone(),
            encrypt_to: encrypt_to.to_vec(),
            examiner: case.examiner.clone(),
            exhibit: exhibit.to_owned(),
            format: FORMAT.to_owned(),
            issued: issued.to_owned(),
            kind: kind.to_owned(),
            name: name.to_owned(),
            organisation: case.organisation.clone(),
        };
        commission.checked()
    }

    /// Reads the file.
    ///
    /// # Errors
    ///
    /// [`Error::StrictJson`] or [`Error::Malformed`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let malformed = |why: String| Error::malformed("commission", why);
        let line = bytes.strip_suffix(b"\n").ok_or_else(|| malformed("no final line feed".to_owned()))?;
        let commission: Self = serde_json::from_value(strict_json::parse(line)?)
            .map_err(|error| malformed(error.to_string()))?;
        commission.checked()
    }

    /// The file.
    ///
    /// # Errors
    ///
    /// [`Error::StrictJson`] when a text holds what strict JSON cannot.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let value =
            serde_json::to_value(self).map_err(|error| Error::malformed("commission", error.to_string()))?;
        Ok((strict_json::to_line(&value)? + "\n").into_bytes())
    }

    fn checked(self) -> Result<Self> {
        let malformed = |why: String| Err(Error::malformed("commission", why));
        if self.format != FORMAT {
            return malformed(format!("its format is {:?}, not {FORMAT:?}", self.format));
        }
        if !Self::KINDS.contains(&self.kind.as_str()) {
            return malformed(format!(
                "there is no kind {:?}: it is one of {}",
                self.kind,
                Self::KINDS.join(", ")
            ));
        }
        if case_layout::exhibit_number(&self.folder_name()).map(case_layout::exhibit_id).as_deref()
            != Some(self.exhibit.as_str())
        {
            return malformed(format!("{:?} is no id of an exhibit", self.exhibit));
        }
        Ok(self)
    }

    /// The folder in which the collector acquires.
    #[must_use]
    pub fn folder_name(&self) -> String {
        case_layout::exhibit_folder_name(&self.exhibit, &self.name)
    }

    /// Whether a bundle is what was asked for.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] with what it is instead.
    pub fn fits(&self, manifest: &Manifest) -> Result<()> {
        let name = strict_json::escape_text(self.name.as_bytes());
        let pairs = [
            ("case", self.case.as_str(), manifest.case.as_deref().unwrap_or_default()),
            ("exhibit", &self.exhibit, &manifest.exhibit),
            ("name", &name, &manifest.name),
        ];
        for (what, wanted, found) in pairs {
            if wanted != found {
                return Err(Error::malformed("bundle", format!("its {what} is {found:?}, not {wanted:?}")));
            }
        }
        if manifest.source.kind != self.kind {
            let why = format!("it is a bundle of {:?}, not of {:?}", manifest.source.kind, self.kind);
            return Err(Error::malformed("bundle", why));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case() -> crate::CaseFile {
        crate::CaseFile {
            format: String::new(),
            id: "0193".into(),
            name: "ir".into(),
            examiner: "J. Doe".into(),
            organisation: String::new(),
            authority: String::new(),
            created: String::new(),
        }
    }

    #[test]
    fn a_commission_comes_back_as_it_was_written_and_a_changed_one_is_refused() {
        let made =
            Commission::new(&case(), "E003", "web01-triage", "triage", &[], "2026-11-21T00:00:00Z").unwrap();
        let bytes = made.to_bytes().unwrap();
        assert_eq!(Commission::from_bytes(&bytes).unwrap(), made);
        assert_eq!(made.folder_name(), "E003-web01-triage");
        let text = String::from_utf8(bytes).unwrap();
        for (from, to) in
            [("E003", "../E"), ("E003", "x"), ("triage\",\"name", "ebs\",\"name"), ("/1", "/2"), ("\n", "")]
        {
            assert!(Commission::from_bytes(text.replace(from, to).as_bytes()).is_err(), "{from} {to}");
        }
        assert!(Commission::new(&case(), "E003", "n", "ebs", &[], "").is_err());
    }
}
