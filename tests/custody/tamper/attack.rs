//! What a class of tampering is: what it does to a copy of the case, and what the verifier must say of it.

use std::path::{Path, PathBuf};

use custody::verify::{Level, Verification};

use super::made_case::{LOGS, MadeCase, View};

/// One way of tampering, with as many variants as there are seeds.
pub(super) struct Class {
    /// The threat it belongs to, `T1` to `T18`.
    pub(super) threat: &'static str,
    pub(super) name: &'static str,
    /// How many variants the whole corpus holds.
    pub(super) tries: u32,
    pub(super) view: View,
    pub(super) act: fn(&mut Attack<'_>) -> Expected,
    /// Why it cannot be found, where it cannot.
    pub(super) missable: Option<&'static str>,
}

/// A class whose every variant must be found or noted.
pub(super) const fn class(
    threat: &'static str,
    name: &'static str,
    tries: u32,
    view: View,
    act: fn(&mut Attack<'_>) -> Expected,
) -> Class {
    Class { threat, name, tries, view, act, missable: None }
}

impl Class {
    /// Says why the files alone cannot show it.
    pub(super) const fn missable(mut self, why: &'static str) -> Self {
        self.missable = Some(why);
        self
    }
}

/// What the verifier must say.
#[derive(Debug, Clone)]
pub(super) enum Expected {
    /// BROKEN, with a fault at one of these places whose words hold these.
    Fault { places: Vec<(String, Option<u64>)>, words: &'static str },
    /// No fault; a note or the sentence holds these words, and the verdict is no higher than this.
    Noted { at_most: Level, words: &'static str },
    /// BROKEN with this file named, or a note that names it: one signature line of several was damaged.
    FaultOrNote { file: String },
    /// This seed changed nothing.
    Nothing,
}

impl Expected {
    /// A fault in this file.
    pub(super) fn fault(file: impl Into<String>) -> Self {
        Self::Fault { places: vec![(file.into(), None)], words: "" }
    }

    /// A fault at this entry of the log in this folder.
    pub(super) fn entry(log: &str, seq: usize) -> Self {
        Self::Fault { places: vec![(below(log, "custody.jsonl"), Some(seq as u64))], words: "" }
    }

    /// The fault's words hold these.
    pub(super) fn words(self, words: &'static str) -> Self {
        match self {
            Self::Fault { places, .. } => Self::Fault { places, words },
            Self::Noted { at_most, .. } => Self::Noted { at_most, words },
            other => other,
        }
    }

    /// Or a fault there.
    pub(super) fn or(self, file: impl Into<String>, entry: Option<usize>) -> Self {
        match self {
            Self::Fault { mut places, words } => {
                places.push((file.into(), entry.map(|entry| entry as u64)));
                Self::Fault { places, words }
            }
            other => other,
        }
    }

    /// What is said when everything fits together and nobody outside vouches for it.
    pub(super) fn vouched_by_nobody(at_most: Level) -> Self {
        Self::Noted { at_most, words: "0 anchors independent of the presenter" }
    }

    /// Why the verifier's words do not do, or nothing when they do.
    pub(super) fn unmet(&self, done: &Verification) -> Option<String> {
        match self {
            Self::Nothing => None,
            Self::FaultOrNote { file } => {
                let told = done.faults.iter().any(|fault| fault.place.file == *file)
                    || done.notes.iter().any(|note| note.replace(": ", "/").contains(file.as_str()));
                let quiet = done.verdict.level > Level::Signed || !told;
                quiet.then(|| format!("expected a fault or a note about {file}"))
            }
            Self::Fault { places, words } => {
                let fits = |file: &str, entry: Option<u64>, said: &str| {
                    places.iter().any(|(place, seq)| {
                        place == file && (seq.is_none() || *seq == entry) && said.contains(words)
                    })
                };
                let found =
                    done.faults.iter().any(|fault| fits(&fault.place.file, fault.place.entry, &fault.words));
                (done.verdict.level != Level::Broken || !found)
                    .then(|| format!("expected a fault at one of {places:?} with {words:?}"))
            }
            Self::Noted { at_most, words } => {
                let said =
                    done.sentence.contains(words) || done.notes.iter().any(|note| note.contains(words));
                let level = done.verdict.level;
                (level == Level::Broken || level > *at_most || !said)
                    .then(|| format!("expected no fault, at most {} and {words:?}", at_most.word()))
            }
        }
    }
}

/// A copy of the case in somebody's hands.
pub(super) struct Attack<'a> {
    pub(super) made: &'a MadeCase,
    pub(super) case: PathBuf,
    pub(super) random: Random,
    /// What was done, to be printed when it is missed.
    pub(super) did: String,
}

impl Attack<'_> {
    /// One of the three logs: of the case and of its bundles.
    pub(super) fn any_log(&mut self) -> &'static str {
        let log = LOGS[self.random.below(LOGS.len())];
        self.did = format!("log {log:?}");
        log
    }

    pub(super) fn also(&mut self, what: impl std::fmt::Display) {
        self.did.push_str(&format!(", {what}"));
    }

    pub(super) fn path(&self, file: &str) -> PathBuf {
        self.case.join(file)
    }

    pub(super) fn read(&self, file: &str) -> Vec<u8> {
        std::fs::read(self.path(file)).unwrap()
    }

    pub(super) fn write(&self, file: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    pub(super) fn remove(&self, file: &str) {
        std::fs::remove_file(self.path(file)).unwrap();
    }

    /// Every file of the case, as text paths.
    pub(super) fn files(&self) -> Vec<String> {
        files_of(&self.case)
    }

    /// Any file of the case.
    pub(super) fn any_file(&mut self) -> String {
        let files = self.files();
        let file = files[self.random.below(files.len())].clone();
        self.did = file.clone();
        file
    }
}

pub(super) fn files_of(folder: &Path) -> Vec<String> {
    let files = crate::support::files_below(folder);
    files.into_iter().map(|file| file.to_str().unwrap().to_owned()).collect()
}

/// `file` in the folder of a log.
pub(super) fn below(log: &str, file: &str) -> String {
    if log.is_empty() { file.to_owned() } else { format!("{log}/{file}") }
}

/// Xorshift: the same seed gives the same tampering.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(name: &str, seed: u64) -> Self {
        let hash = custody::sha256(format!("{name} {seed}").as_bytes());
        let first = hash.0.first_chunk::<8>().unwrap();
        Self(u64::from_le_bytes(*first) | 1)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number from 0 to one less than this.
    pub(super) fn below(&mut self, most: usize) -> usize {
        (self.next() >> 11) as usize % most.max(1)
    }

    /// A number in this range.
    pub(super) fn within(&mut self, range: std::ops::Range<usize>) -> usize {
        range.start + self.below(range.end.saturating_sub(range.start))
    }

    pub(super) fn one_of<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }

    pub(super) fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }
}
