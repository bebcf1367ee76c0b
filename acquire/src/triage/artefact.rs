//! The table of artefacts: what is taken from a host, in which order, read from TOML.
//!
//! The table is data, so that a person can read it, add to it and replace parts of it without building anything.
//! `acquire/artefacts/README.md` says what a file may hold.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Deserialize;

use super::pattern::Pattern;

/// The table as it comes with the program, in order of volatility.
const EMBEDDED: [(&str, &str); 14] = [
    ("v00-self.toml", include_str!("../../artefacts/v00-self.toml")),
    ("v01-memory.toml", include_str!("../../artefacts/v01-memory.toml")),
    ("v02-processes.toml", include_str!("../../artefacts/v02-processes.toml")),
    ("v03-network.toml", include_str!("../../artefacts/v03-network.toml")),
    ("v04-kernel-and-sessions.toml", include_str!("../../artefacts/v04-kernel-and-sessions.toml")),
    ("v05-containers.toml", include_str!("../../artefacts/v05-containers.toml")),
    ("v06-vanishing-files.toml", include_str!("../../artefacts/v06-vanishing-files.toml")),
    ("v07-file-metadata.toml", include_str!("../../artefacts/v07-file-metadata.toml")),
    ("v08-logs.toml", include_str!("../../artefacts/v08-logs.toml")),
    ("v09-configuration.toml", include_str!("../../artefacts/v09-configuration.toml")),
    ("v10-users.toml", include_str!("../../artefacts/v10-users.toml")),
    ("v11-applications.toml", include_str!("../../artefacts/v11-applications.toml")),
    ("v12-packages.toml", include_str!("../../artefacts/v12-packages.toml")),
    ("v13-hardware.toml", include_str!("../../artefacts/v13-hardware.toml")),
];

/// The last level of volatility.
const LAST_LEVEL: u8 = 13;

const MIB: u64 = 1 << 20;

/// Why a file of artefacts cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArtefactError {
    /// It is not TOML, or has fields that no artefact has.
    #[error("{file}: cannot be read as a file of artefacts: {reason}")]
    Unreadable {
        /// The file.
        file: String,
        /// What is wrong, with line and column.
        reason: String,
    },
    /// One artefact says something that cannot be.
    #[error("{file}: artefact {name:?}: {reason}")]
    Wrong {
        /// The file.
        file: String,
        /// The artefact's name.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// A name that was asked for is in no table.
    #[error("there is no artefact {0:?}")]
    Unknown(String),
}

/// When an artefact is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// In every run: what goes first, and what answers the first questions.
    Fast,
    /// In full runs.
    Full,
    /// Only when it is asked for by name.
    Named,
}

impl Profile {
    /// The word that stands in the table.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Full => "full",
            Self::Named => "named",
        }
    }
}

/// How volatile an artefact is: V0 goes first, V13 stays longest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Volatility(u8);

impl Volatility {
    /// Reads `V0` to `V13`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix('V')?;
        let level = digits.parse().ok().filter(|level| *level <= LAST_LEVEL)?;
        (digits.len() == 1 || !digits.starts_with('0')).then_some(Self(level))
    }
}

impl fmt::Display for Volatility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("V{}", self.0))
    }
}

/// One thing to take from a host.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Artefact {
    /// Its name, unique in the table.
    pub name: String,
    /// When it is taken within a run.
    pub level: Volatility,
    /// In which runs.
    pub profile: Profile,
    /// What it is good for, in one sentence.
    pub description: String,
    /// How it is taken.
    pub how: How,
}

/// How an artefact is taken.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum How {
    /// Programs of the host are run.
    Commands(Commands),
    /// Files are copied.
    Files(Files),
    /// Code of ours collects it; the name of the collector.
    Collector(String),
}

impl How {
    /// `command`, `files` or `collector`.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Commands(_) => "command",
            Self::Files(_) => "files",
            Self::Collector(_) => "collector",
        }
    }
}

/// Programs to run, never through a shell.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Commands {
    /// Program and arguments of each; `{}` in an argument stands for the item of `each`.
    pub run: Vec<Vec<String>>,
    /// Stop after the first whose program is there: they are different ways to the same facts.
    pub first_only: bool,
    /// For how long each may run.
    pub time: Duration,
    /// How much output of each is kept; one that gives more is stopped.
    pub most_bytes: u64,
    /// What to repeat them for.
    pub each: Option<Each>,
}

/// Where the items come from that commands are repeated for.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Each {
    /// How the items are found.
    pub from: EachFrom,
    /// What ends the first field of a line; white space if it is none.
    pub separator: Option<char>,
    /// Items that do not match are none.
    pub only: Option<Pattern>,
    /// How many at most.
    pub most: usize,
}

/// How items are found.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum EachFrom {
    /// First field of each line that a command prints.
    Command(Vec<String>),
    /// First field of each line of a file.
    File(String),
    /// Devices that file systems of these types are mounted from.
    Mounted(Vec<String>),
}

/// Files to copy.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Files {
    /// Paths; one that is a folder brings all below it.
    pub patterns: Vec<Pattern>,
    /// The last parts of paths, wherever they lie.
    pub anywhere: Vec<Pattern>,
    /// What is left out of them: names, or paths if there is a slash in it.
    pub exclude: Vec<Pattern>,
    /// A larger file is cut.
    pub most_file: u64,
    /// The artefact ends after so many bytes.
    pub most_total: u64,
    /// Folders below a matched one, at most.
    pub max_depth: usize,
    /// Whether file systems mounted below are entered. Those of the network never are, unless it is asked for.
    pub enter_mounts: bool,
    /// Whether a folder that a wildcard meets is taken with all below it; one that is named always is.
    pub whole_folders: bool,
    /// Whether they are renamed and cut while they are read, as logs are.
    pub rotating: bool,
}

/// All artefacts, by name.
#[derive(Debug, Clone, Default)]
pub struct ArtefactTable {
    by_name: BTreeMap<String, (usize, Artefact)>,
    added: usize,
}

impl ArtefactTable {
    /// The table that comes with the program.
    ///
    /// # Errors
    ///
    /// [`ArtefactError`], which a test keeps from happening.
    pub fn embedded() -> Result<Self, ArtefactError> {
        let mut table = Self::default();
        for (file, text) in EMBEDDED {
            table.add(file, text)?;
        }
        Ok(table)
    }

    /// Adds the artefacts of one TOML file; one whose name is there already is replaced.
    ///
    /// # Errors
    ///
    /// [`ArtefactError`] if the file cannot be used; then nothing of it is added.
    pub fn add(&mut self, file: &str, text: &str) -> Result<(), ArtefactError> {
        let unreadable = |reason: String| ArtefactError::Unreadable {
            file: file.to_owned(),
            reason: reason.trim().to_owned(),
        };
        let raw: RawFile = toml::from_str(text).map_err(|error| unreadable(error.to_string()))?;
        let mut fresh: Vec<Artefact> = Vec::new();
        for raw in raw.artefact {
            let name = raw.name.clone();
            let wrong =
                |reason: String| ArtefactError::Wrong { file: file.to_owned(), name: name.clone(), reason };
            let artefact = raw.check().map_err(wrong)?;
            if fresh.iter().any(|other| other.name == artefact.name) {
                return Err(wrong("stands twice in this file".to_owned()));
            }
            fresh.push(artefact);
        }
        for artefact in fresh {
            let place = self.by_name.get(&artefact.name).map_or(self.added, |(place, _)| *place);
            self.added += 1;
            self.by_name.insert(artefact.name.clone(), (place, artefact));
        }
        Ok(())
    }

    /// All artefacts in the order in which they are taken: by volatility, then as the files have them.
    #[must_use]
    pub fn in_order(&self) -> Vec<&Artefact> {
        let mut all: Vec<_> = self.by_name.values().collect();
        all.sort_by_key(|(place, artefact)| (artefact.level, *place));
        all.into_iter().map(|(_, artefact)| artefact).collect()
    }

    /// Those of a profile, or only those that are picked by name or level (`V3`), in the order in which they are taken.
    ///
    /// # Errors
    ///
    /// [`ArtefactError::Unknown`] for a pick that is neither.
    pub fn select(&self, profile: Profile, picks: &[String]) -> Result<Vec<Artefact>, ArtefactError> {
        for pick in picks {
            if Volatility::parse(pick).is_none() && !self.by_name.contains_key(pick) {
                return Err(ArtefactError::Unknown(pick.clone()));
            }
        }
        let is_picked = |artefact: &Artefact| {
            if picks.is_empty() {
                return artefact.profile <= profile;
            }
            picks.iter().any(|pick| {
                *pick == artefact.name
                    || (Volatility::parse(pick) == Some(artefact.level) && artefact.profile != Profile::Named)
            })
        };
        Ok(self.in_order().into_iter().filter(|artefact| is_picked(artefact)).cloned().collect())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    #[serde(default)]
    artefact: Vec<RawArtefact>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawArtefact {
    name: String,
    level: String,
    #[serde(default = "full")]
    profile: Profile,
    description: String,
    run: Option<Vec<Vec<String>>>,
    first_only: Option<bool>,
    timeout: Option<u64>,
    most_output_mib: Option<u64>,
    each: Option<RawEach>,
    files: Option<Vec<String>>,
    anywhere: Option<Vec<String>>,
    exclude: Option<Vec<String>>,
    most_file_mib: Option<u64>,
    most_total_mib: Option<u64>,
    max_depth: Option<usize>,
    enter_mounts: Option<bool>,
    whole_folders: Option<bool>,
    rotating: Option<bool>,
    collector: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEach {
    run: Option<Vec<String>>,
    file: Option<String>,
    separator: Option<char>,
    only: Option<String>,
    mounted: Option<Vec<String>>,
    most: Option<usize>,
}

fn full() -> Profile {
    Profile::Full
}

impl RawArtefact {
    fn check(self) -> Result<Artefact, String> {
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
        if self.name.is_empty() || self.name.len() > 64 || !self.name.chars().all(is_name) {
            return Err("a name is 1 to 64 small letters, digits, dots and hyphens".to_owned());
        }
        let level = Volatility::parse(&self.level)
            .ok_or_else(|| format!("level {:?} is not one of V0 to V{LAST_LEVEL}", self.level))?;
        if self.description.trim().is_empty() {
            return Err("has no description".to_owned());
        }
        let takes_files = self.files.is_some() || self.anywhere.is_some();
        let ways = [self.run.is_some(), takes_files, self.collector.is_some()];
        if ways.iter().filter(|way| **way).count() != 1 {
            return Err("needs exactly one of run, files (or anywhere) and collector".to_owned());
        }
        let of_commands = self.first_only.is_some()
            || self.timeout.is_some()
            || self.most_output_mib.is_some()
            || self.each.is_some();
        let of_files = self.exclude.is_some()
            || self.most_file_mib.is_some()
            || self.most_total_mib.is_some()
            || self.max_depth.is_some()
            || self.enter_mounts.is_some()
            || self.whole_folders.is_some()
            || self.rotating.is_some();
        if of_commands && self.run.is_none() {
            return Err("first_only, timeout, most_output_mib and each go with run".to_owned());
        }
        if of_files && !takes_files {
            return Err(
                "exclude, most_*_mib, max_depth, enter_mounts, whole_folders and rotating go with files"
                    .to_owned(),
            );
        }
        let (name, profile, description) = (self.name.clone(), self.profile, self.description.clone());
        let how = match (&self.run, &self.collector) {
            (Some(_), _) => How::Commands(self.commands()?),
            (_, Some(collector)) => How::Collector(collector.clone()),
            _ => How::Files(self.files()?),
        };
        Ok(Artefact { name, level, profile, description, how })
    }

    fn commands(self) -> Result<Commands, String> {
        let run = self.run.unwrap_or_default();
        if run.is_empty() || run.iter().any(|argv| argv.first().is_none_or(String::is_empty)) {
            return Err("run needs at least one command, each with a program".to_owned());
        }
        if run.iter().flatten().any(|part| part.contains('\0')) {
            return Err("an argument holds a zero byte".to_owned());
        }
        let each = self.each.map(RawEach::check).transpose()?;
        let has_place = |argv: &Vec<String>| argv.iter().skip(1).any(|part| part.contains("{}"));
        if each.is_some() != run.iter().all(has_place) && (each.is_some() || run.iter().any(has_place)) {
            return Err("commands with {} in an argument and each go together".to_owned());
        }
        Ok(Commands {
            run,
            first_only: self.first_only.unwrap_or(false),
            time: Duration::from_secs(self.timeout.unwrap_or(30).clamp(1, 3600)),
            most_bytes: self.most_output_mib.unwrap_or(32).clamp(1, 1 << 20).saturating_mul(MIB),
            each,
        })
    }

    fn files(self) -> Result<Files, String> {
        let read = |texts: Option<Vec<String>>, read: fn(&str) -> Result<Pattern, String>| {
            texts.unwrap_or_default().iter().map(|text| read(text)).collect::<Result<Vec<_>, _>>()
        };
        let files = Files {
            patterns: read(self.files, Pattern::path)?,
            anywhere: read(self.anywhere, Pattern::tail)?,
            exclude: read(self.exclude, Pattern::either)?,
            most_file: self.most_file_mib.unwrap_or(1024).saturating_mul(MIB),
            most_total: self.most_total_mib.unwrap_or(16 << 10).saturating_mul(MIB),
            max_depth: self.max_depth.unwrap_or(48).min(200),
            enter_mounts: self.enter_mounts.unwrap_or(true),
            whole_folders: self.whole_folders.unwrap_or(true),
            rotating: self.rotating.unwrap_or(false),
        };
        if files.patterns.is_empty() && files.anywhere.is_empty() {
            return Err("names no file".to_owned());
        }
        Ok(files)
    }
}

impl RawEach {
    fn check(self) -> Result<Each, String> {
        let separator = self.separator;
        let from = match (self.run, self.file, self.mounted) {
            (Some(run), None, None) if run.first().is_some_and(|program| !program.is_empty()) => {
                EachFrom::Command(run)
            }
            (None, Some(path), None) => EachFrom::File(path),
            (None, None, Some(types)) => EachFrom::Mounted(types),
            _ => return Err("each needs exactly one of run, file and mounted".to_owned()),
        };
        let only = self.only.as_deref().map(Pattern::tail).transpose()?;
        Ok(Each { from, separator, only, most: self.most.unwrap_or(200).clamp(1, 10_000) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "[[artefact]]\nname = \"a\"\nlevel = \"V3\"\ndescription = \"d\"\n";

    fn add(text: &str) -> Result<ArtefactTable, String> {
        let mut table = ArtefactTable::default();
        table.add("x.toml", text).map_err(|error| error.to_string())?;
        Ok(table)
    }

    #[test]
    fn the_embedded_table_can_be_read_and_every_level_has_artefacts() {
        let table = ArtefactTable::embedded().unwrap();
        for level in 0..=LAST_LEVEL {
            assert!(table.in_order().iter().any(|artefact| artefact.level == Volatility(level)), "V{level}");
        }
    }

    #[test]
    fn artefacts_come_in_order_of_volatility_whatever_the_order_of_the_text() {
        let text = ["V12", "V2", "V0"].map(|level| {
            format!(
                "[[artefact]]\nname = \"of-{}\"\nlevel = \"{level}\"\ndescription = \"d\"\nrun = [[\"x\"]]\n",
                level.to_lowercase()
            )
        });
        let table = add(&text.concat()).unwrap();
        let names: Vec<_> = table.in_order().iter().map(|artefact| artefact.name.clone()).collect();
        assert_eq!(names, ["of-v0", "of-v2", "of-v12"]);
    }

    #[test]
    fn a_person_can_replace_an_artefact_by_its_name_and_add_others() {
        let mut table = add(&format!("{ONE}run = [[\"old\"]]\n")).unwrap();
        table
            .add(
                "mine.toml",
                &format!("{ONE}run = [[\"new\"]]\n{}files = [\"/x\"]\n", ONE.replace("\"a\"", "\"b\"")),
            )
            .unwrap();
        let all = table.in_order();
        assert_eq!(all.len(), 2);
        assert!(matches!(&all[0].how, How::Commands(commands) if commands.run == [["new"]]));
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_with_the_file_and_the_artefact() {
        for (text, expected) in [
            (format!("{ONE}run = [[\"x\"]]\nfiles = [\"/x\"]\n"), "exactly one of run, files"),
            (ONE.to_owned(), "exactly one of run, files"),
            (format!("{ONE}run = [[]]\n"), "each with a program"),
            (format!("{ONE}run = [[\"x\", \"{{}}\"]]\n"), "go together"),
            (format!("{ONE}run = [[\"x\"]]\neach = {{ run = [\"y\"] }}\n"), "go together"),
            (format!("{ONE}run = [[\"x\"]]\nrotating = true\n"), "go with files"),
            (format!("{ONE}files = [\"/x\"]\ntimeout = 3\n"), "go with run"),
            (format!("{ONE}files = [\"x\"]\n"), "starts with / or ~/"),
            (format!("{ONE}runs = [[\"x\"]]\n"), "unknown field"),
            (format!("{ONE}run = [[\"x\"]]\n{ONE}run = [[\"x\"]]\n"), "twice"),
            (ONE.replace("V3", "V14") + "run = [[\"x\"]]\n", "V0 to V13"),
            (ONE.replace("\"a\"", "\"A b\"") + "run = [[\"x\"]]\n", "small letters"),
            ("artefact = 3".to_owned(), "cannot be read"),
        ] {
            let error = add(&text).unwrap_err();
            assert!(error.contains("x.toml") && error.contains(expected), "{text}\n{error}");
        }
    }

    #[test]
    fn a_profile_or_picks_say_what_is_taken() {
        let mut text = String::new();
        for (name, profile) in [("f", "fast"), ("u", "full"), ("n", "named")] {
            text += &format!(
                "{}profile = \"{profile}\"\nrun = [[\"x\"]]\n",
                ONE.replace("\"a\"", &format!("{name:?}"))
            );
        }
        let table = add(&text).unwrap();
        let names = |profile, picks: &[&str]| {
            let picks: Vec<_> = picks.iter().map(|pick| (*pick).to_owned()).collect();
            let found = table.select(profile, &picks).unwrap();
            found.into_iter().map(|artefact| artefact.name).collect::<Vec<_>>()
        };
        assert_eq!(names(Profile::Fast, &[]), ["f"]);
        assert_eq!(names(Profile::Full, &[]), ["f", "u"]);
        assert_eq!(names(Profile::Fast, &["n"]), ["n"]);
        assert_eq!(names(Profile::Fast, &["V3"]), ["f", "u"]);
        assert!(table.select(Profile::Full, &["V3".to_owned(), "no".to_owned()]).is_err());
    }
}
