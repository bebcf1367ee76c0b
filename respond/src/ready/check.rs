//! What a check is, and what it can find.

use std::error::Error as StdError;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::probe::Probe;
use super::settings::DrillKind;

/// Letters of observed and expected that are kept.
const LONGEST_WORDS: usize = 2_000;

/// How bad a failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Evidence would be poorer.
    Medium,
    /// Evidence would be late or in part.
    High,
    /// There would be none.
    Critical,
}

impl Severity {
    /// What it weighs in a score.
    #[must_use]
    pub fn weight(self) -> u32 {
        match self {
            Self::Critical => 5,
            Self::High => 3,
            Self::Medium => 1,
        }
    }

    /// As `critical`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::High => "high",
            Self::Medium => "medium",
        }
    }

    /// The severity of a word.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        [Self::Critical, Self::High, Self::Medium].into_iter().find(|severity| severity.word() == word)
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// What came of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It was tested and holds.
    Pass,
    /// It holds, with something that should be better.
    Warn,
    /// It was tested and does not hold.
    Fail,
    /// It could not be tested, which counts as a failure.
    Error,
    /// The settings name nothing that it is about.
    NotApplicable,
}

impl Status {
    /// Every one.
    pub const ALL: [Self; 5] = [Self::Pass, Self::Warn, Self::Fail, Self::Error, Self::NotApplicable];

    /// As `not_applicable`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Warn => "warn",
            Self::Fail => "fail",
            Self::Error => "error",
            Self::NotApplicable => "not_applicable",
        }
    }

    /// The status of a word.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.word() == word)
    }

    /// Whether it is a failure: `error` is.
    #[must_use]
    pub fn has_failed(self) -> bool {
        matches!(self, Self::Fail | Self::Error)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// One check of the table.
pub struct Check {
    /// `RD01` and so on.
    pub id: &'static str,
    /// Counted up when the same id tests something else.
    pub version: u32,
    /// How bad a failure is.
    pub severity: Severity,
    /// What holds when it passes.
    pub title: &'static str,
    /// What one result is about: `account`, `region`, `host`, `service`, an asset.
    pub scope: &'static str,
    /// How it is tested.
    pub tested: &'static str,
    /// What to do when it fails.
    pub remediation: &'static str,
    /// The checks of Prowler that ask the same.
    pub prowler: &'static [&'static str],
    /// Seconds after which it is given up.
    pub seconds: u64,
    /// The drill that it is; drills are run only when they are asked for.
    pub drill: Option<DrillKind>,
    /// Tests.
    pub(super) test: fn(&Probe) -> Result<Vec<Finding>, Unable>,
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Check").field("id", &self.id).finish_non_exhaustive()
    }
}

/// What was found of one scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is about, such as `123456789012/eu-central-1`.
    pub scope: String,
    /// Whether it holds.
    pub status: Status,
    /// What was seen.
    pub observed: String,
    /// What should have been.
    pub expected: String,
    /// The raw answers that it was seen in.
    pub evidence: Vec<u8>,
}

impl Finding {
    /// What was found of a scope.
    pub(super) fn new(
        scope: impl Into<String>,
        status: Status,
        observed: impl Into<String>,
        expected: impl Into<String>,
    ) -> Self {
        Self {
            scope: words(&scope.into()),
            status,
            observed: words(&observed.into()),
            expected: words(&expected.into()),
            evidence: Vec::new(),
        }
    }

    /// A pass or a failure.
    pub(super) fn of(
        scope: impl Into<String>,
        holds: bool,
        observed: impl Into<String>,
        expected: impl Into<String>,
    ) -> Self {
        Self::new(scope, if holds { Status::Pass } else { Status::Fail }, observed, expected)
    }

    /// With the raw answers of a service.
    pub(super) fn with_answers<'a>(self, raw: impl IntoIterator<Item = &'a acquire::aws::Raw>) -> Self {
        let mut bytes = Vec::new();
        for one in raw {
            bytes.extend_from_slice(&one.bytes);
            bytes.push(b'\n');
        }
        self.with_evidence(bytes)
    }

    /// With what it was seen in.
    pub(super) fn with_evidence(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.evidence = bytes.into();
        self
    }
}

/// One line without control characters, and not without end: what services say may be anything.
pub(super) fn words(text: &str) -> String {
    let kept: String =
        text.chars().take(LONGEST_WORDS).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(LONGEST_WORDS).is_some() { kept + "…" } else { kept }
}

/// Why a check found nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unable {
    /// The settings name nothing that it is about.
    NotApplicable(String),
    /// It could not be tested.
    CouldNotTest(String),
}

impl Unable {
    /// Nothing to test.
    pub(super) fn none(why: impl Into<String>) -> Self {
        Self::NotApplicable(why.into())
    }

    /// Could not be tested.
    pub(super) fn untested(why: impl Into<String>) -> Self {
        Self::CouldNotTest(why.into())
    }
}

impl<E: StdError + 'static> From<E> for Unable {
    fn from(error: E) -> Self {
        Self::CouldNotTest(chain(&error))
    }
}

/// An error with its causes on one line.
pub(super) fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut said = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let more = error.to_string();
        if !said.ends_with(&more) {
            said = format!("{said}: {more}");
        }
        next = error.source();
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_service_says_is_kept_on_one_line_and_not_without_end() {
        let found = Finding::of("a\nb", true, "x\r\n".repeat(10_000), "\u{1b}[31m");
        assert_eq!(found.scope, "a b");
        assert!(found.observed.chars().count() <= LONGEST_WORDS + 1);
        assert!(!found.observed.contains(['\r', '\n']) && !found.expected.contains('\u{1b}'));
    }

    #[test]
    fn words_lead_back_to_what_they_stand_for() {
        for status in Status::ALL {
            assert_eq!(Status::of(status.word()), Some(status));
        }
        assert_eq!(Severity::of("critical"), Some(Severity::Critical));
        assert!(Severity::Critical > Severity::High && Severity::High > Severity::Medium);
        assert!(Status::Error.has_failed() && !Status::Warn.has_failed());
    }
}
