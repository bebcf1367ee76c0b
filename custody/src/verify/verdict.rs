//! The verdict: one word that never says more than the proof does.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::error::Error;

/// How much is proved, least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Something does not fit.
    Broken,
    /// Not sealed: the acquisition goes on or was cut short.
    Open,
    /// All that is there fits together; whoever made it could have made all of it anew.
    Consistent,
    /// And a key given with `--trust` signed it.
    Signed,
    /// And something outside the presenter's hands vouches for it.
    Anchored,
    /// And it was closed, and the close is anchored.
    Complete,
}

impl Level {
    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Broken => "BROKEN",
            Self::Open => "OPEN",
            Self::Consistent => "CONSISTENT",
            Self::Signed => "SIGNED",
            Self::Anchored => "ANCHORED",
            Self::Complete => "COMPLETE",
        }
    }
}

impl FromStr for Level {
    type Err = Error;

    /// Reads the word, in any case.
    fn from_str(text: &str) -> Result<Self, Error> {
        [Self::Broken, Self::Open, Self::Consistent, Self::Signed, Self::Anchored, Self::Complete]
            .into_iter()
            .find(|level| level.word().eq_ignore_ascii_case(text))
            .ok_or_else(|| {
                let words = "BROKEN, OPEN, CONSISTENT, SIGNED, ANCHORED or COMPLETE";
                Error::malformed("level", format!("{text:?} is none of {words}"))
            })
    }
}

/// A level, with how many independent anchors there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// The level.
    pub level: Level,
    /// Anchors that the presenter does not control.
    pub anchors: u32,
}

impl Verdict {
    /// What the verdict means, in one or two plain sentences.
    pub fn sentence(self) -> String {
        let meaning = match self.level {
            Level::Broken => {
                return "Something does not fit; each fault is listed with its place.".to_owned();
            }
            Level::Open => "Not sealed: the acquisition goes on or was cut short.",
            Level::Consistent => "All that is there fits together.",
            Level::Signed => "All that is there fits together and is signed by a trusted key.",
            Level::Anchored => "All that is there fits together, up to its anchor at least.",
            Level::Complete => "All that is there fits together, from the first entry to an anchored close.",
        };
        match self.anchors {
            0 => format!(
                "{meaning} 0 anchors independent of the presenter: entries cut from the end, together with \
                 everything that could tell of them, would not show."
            ),
            1 => format!("{meaning} 1 anchor independent of the presenter vouches for it."),
            n => format!("{meaning} {n} anchors independent of the presenter vouch for it."),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.level {
            Level::Anchored => write!(f, "ANCHORED({})", self.anchors),
            level => f.write_str(level.word()),
        }
    }
}

impl Serialize for Verdict {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_ordered_and_read_back() {
        let words = ["BROKEN", "OPEN", "CONSISTENT", "SIGNED", "ANCHORED", "COMPLETE"];
        let levels: Vec<Level> = words.iter().map(|word| word.to_lowercase().parse().unwrap()).collect();
        assert!(levels.is_sorted());
        assert_eq!(levels.iter().map(|level| level.word()).collect::<Vec<_>>(), words);
        assert!("OK".parse::<Level>().is_err());
    }

    #[test]
    fn a_verdict_without_anchors_says_so() {
        for level in [Level::Open, Level::Consistent, Level::Signed] {
            let verdict = Verdict { level, anchors: 0 };
            assert!(verdict.sentence().contains("0 anchors independent of the presenter"));
        }
        assert_eq!(Verdict { level: Level::Anchored, anchors: 2 }.to_string(), "ANCHORED(2)");
    }
}
