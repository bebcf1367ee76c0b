//! A case: a folder with its own custody log, its exhibits, and who is in charge.

use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::case_layout;
use crate::clock::rfc3339;
use crate::custody_log::{Appended, CustodyLog, Writer};
use crate::digest::sha256;
use crate::durable_file::{read_small, sync_folder, write_new};
use crate::entry::{EntryType, NewEntry, uuid_v7};
use crate::error::{Error, Result};
use crate::strict_json;
use crate::verify;

/// What `case.json` says. Texts are in their stored form, see [`strict_json::escape_text`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaseFile {
    /// `exhibit-case/1`.
    pub format: String,
    /// A UUID of version 7.
    pub id: String,
    /// The case's name or number.
    pub name: String,
    /// Who opened it.
    pub examiner: String,
    /// For what organisation.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub organisation: String,
    /// By what authority.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub authority: String,
    /// When, RFC 3339.
    pub created: String,
}

/// What a new case is called and who opens it.
#[derive(Debug, Clone, Default)]
pub struct NewCase {
    /// The case's name or number.
    pub name: String,
    /// Who opens it.
    pub examiner: String,
    /// For what organisation, or empty.
    pub organisation: String,
    /// By what authority, or empty.
    pub authority: String,
}

/// What became of the record of a reading act.
#[derive(Debug, Clone)]
pub enum Logged {
    /// It is in the case's log.
    Yes(Appended),
    /// It is not, for this reason; say `not logged`.
    No(String),
}

/// An exhibit's place in a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exhibit {
    /// Such as `E001`.
    pub id: String,
    /// Its bundle.
    pub folder: PathBuf,
}

impl Exhibit {
    /// Whether its folder is the one that an exhibit of this name gets.
    pub fn is_called(&self, name: &str) -> bool {
        self.folder.file_name() == Some(case_layout::exhibit_folder_name(&self.id, name).as_ref())
    }
}

/// A case on disk.
#[derive(Debug, Clone)]
pub struct Case {
    folder: PathBuf,
    file: CaseFile,
    log: CustodyLog,
}

const FORMAT: &str = "exhibit-case/1";
pub(crate) const MOST_CASE_FILE: u64 = 65_536;

impl Case {
    /// Makes a case in a folder that is new or empty; its log begins with the hash of `case.json`.
    ///
    /// # Errors
    ///
    /// [`Error::WouldOverwrite`] when the folder holds anything; those of [`CustodyLog::create`].
    pub fn create(folder: &Path, new: &NewCase, writer: &Writer<'_>) -> Result<Self> {
        let fault = |source| Error::Write { path: folder.to_owned(), source };
        std::fs::create_dir_all(folder).map_err(fault)?;
        if std::fs::read_dir(folder).map_err(fault)?.next().is_some() {
            return Err(Error::WouldOverwrite { path: folder.to_owned() });
        }
        let escape = |text: &str| strict_json::escape_text(text.as_bytes());
        let now = writer.clock().now().wall_ns;
        let file = CaseFile {
            format: FORMAT.to_owned(),
            id: uuid_v7(now)?,
            name: escape(&new.name),
            examiner: escape(&new.examiner),
            organisation: escape(&new.organisation),
            authority: escape(&new.authority),
            created: rfc3339(now),
        };
        let value =
            serde_json::to_value(&file).map_err(|error| Error::malformed("case.json", error.to_string()))?;
        let line = strict_json::to_line(&value)? + "\n";
        write_new(&case_layout::case_file(folder), line.as_bytes())?;
        for path in
            [case_layout::exhibits(folder), case_layout::timeline(folder), case_layout::reports(folder)]
        {
            std::fs::create_dir(&path).map_err(|source| Error::Write { path, source })?;
        }
        let genesis = NewEntry::new(EntryType::LOG_GENESIS)
            .subject(case_layout::CASE, line.len() as u64, sha256(line.as_bytes()))
            .why(&new.authority, "");
        let mut genesis = genesis;
        genesis.about.case = Some(file.id.clone());
        let log = CustodyLog::create(folder, genesis, writer)?;
        Ok(Self { folder: folder.to_owned(), file, log })
    }

    /// Opens a case. Nothing is verified.
    ///
    /// # Errors
    ///
    /// [`Error::Read`] when there is no `case.json`, [`Error::StrictJson`] or [`Error::Malformed`] when it is
    /// damaged.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = case_layout::case_file(folder);
        let missing = || Error::Read { path: path.clone(), source: std::io::ErrorKind::NotFound.into() };
        let file = parse_case_file(&read_small(&path, MOST_CASE_FILE)?.ok_or_else(missing)?)?;
        Ok(Self { folder: folder.to_owned(), file, log: CustodyLog::open(folder)? })
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What `case.json` says.
    pub fn file(&self) -> &CaseFile {
        &self.file
    }

    /// Its own log.
    pub fn log(&self) -> &CustodyLog {
        &self.log
    }

    /// Appends an entry to the case's log, with the case's id.
    ///
    /// # Errors
    ///
    /// Those of [`CustodyLog::append`].
    pub fn append(&self, mut entry: NewEntry, writer: &Writer<'_>) -> Result<Appended> {
        entry.about.case.get_or_insert_with(|| self.file.id.clone());
        self.log.append(&entry, writer)
    }

    /// Takes the next exhibit id, makes its folder under its final name, and records `exhibit.added`.
    ///
    /// # Errors
    ///
    /// [`Error::Write`], and those of [`CustodyLog::append`].
    pub fn add_exhibit(&self, name: &str, writer: &Writer<'_>) -> Result<Exhibit> {
        let _lock = self.lock()?;
        let exhibit = self.take_number(name)?;
        self.record_added(&exhibit, name, writer)?;
        Ok(exhibit)
    }

    /// Takes the next exhibit id for something that will come later, by making its folder, which stays empty until then.
    ///
    /// # Errors
    ///
    /// [`Error::Write`], [`Error::Closed`].
    pub fn reserve_exhibit(&self, name: &str) -> Result<Exhibit> {
        let _lock = self.lock()?;
        self.take_number(name)
    }

    /// Records `exhibit.added` of an exhibit whose id was reserved, now that its bundle has come.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] if it was recorded before, and those of [`CustodyLog::append`].
    pub fn add_reserved(&self, exhibit: &Exhibit, name: &str, writer: &Writer<'_>) -> Result<()> {
        let _lock = self.lock()?;
        let is_added = self.log.read()?.entries.iter().any(|entry| {
            entry.kind == EntryType::EXHIBIT_ADDED && entry.about.exhibit.as_deref() == Some(&exhibit.id)
        });
        if is_added {
            return Err(Error::malformed("exhibit", format!("{} is in the case already", exhibit.id)));
        }
        self.record_added(exhibit, name, writer)
    }

    /// Makes the folder of the next exhibit. The case is locked.
    fn take_number(&self, name: &str) -> Result<Exhibit> {
        if let Some(closed) = self.log.closed()? {
            let (path, kind) = (case_layout::log(&self.folder), EntryType::EXHIBIT_ADDED.to_string());
            return Err(Error::Closed { path, closed, kind });
        }
        let taken = self.exhibits()?;
        // An id is never given twice, also when its exhibit was disposed of.
        let gone = folders_in(&case_layout::disposed(&self.folder))?;
        let taken = taken.iter().chain(&gone);
        let numbers = taken.filter_map(|exhibit| case_layout::exhibit_number(&exhibit.id));
        let id = case_layout::exhibit_id(numbers.max().unwrap_or(0).saturating_add(1));
        let all = case_layout::exhibits(&self.folder);
        let folder = all.join(case_layout::exhibit_folder_name(&id, name));
        std::fs::create_dir_all(&all).map_err(|source| Error::Write { path: all.clone(), source })?;
        std::fs::create_dir(&folder).map_err(|source| Error::Write { path: folder.clone(), source })?;
        sync_folder(&all)?;
        Ok(Exhibit { id, folder })
    }

    fn record_added(&self, exhibit: &Exhibit, name: &str, writer: &Writer<'_>) -> Result<()> {
        let folder = exhibit.folder.file_name().unwrap_or_default().to_string_lossy();
        let entry = NewEntry::new(EntryType::EXHIBIT_ADDED).exhibit(&exhibit.id);
        self.append(entry.how("folder", folder.into_owned()).how("name", name), writer)?;
        Ok(())
    }

    /// Makes the folder of an exhibit that has its id already, as its manifest says: one that was brought back, or acquired
    /// elsewhere for this case. Records `exhibit.added` unless the log has it.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] when the folder's name is none of an exhibit, or the exhibit was disposed of;
    /// [`Error::WouldOverwrite`] when the id is taken; those of [`Self::add_exhibit`].
    pub fn adopt_exhibit(&self, folder_name: &str, name: &str, writer: &Writer<'_>) -> Result<Exhibit> {
        let _lock = self.lock()?;
        let path = case_layout::log(&self.folder);
        if let Some(closed) = self.log.closed()? {
            return Err(Error::Closed { path, closed, kind: EntryType::EXHIBIT_ADDED.to_string() });
        }
        let wrong = |why: &str| Error::malformed("exhibit", format!("{folder_name:?} {why}"));
        let number = case_layout::exhibit_number(folder_name).ok_or_else(|| wrong("is no name of one"))?;
        let id = case_layout::exhibit_id(number);
        if case_layout::exhibit_folder_name(&id, name) != folder_name {
            return Err(wrong("is not the folder of an exhibit of that id and name"));
        }
        if folders_in(&case_layout::disposed(&self.folder))?.iter().any(|gone| gone.id == id) {
            return Err(wrong("was disposed of"));
        }
        if let Some(there) = self.exhibits()?.into_iter().find(|exhibit| exhibit.id == id) {
            return Err(Error::WouldOverwrite { path: there.folder });
        }
        let entries = self.log.read()?.entries;
        let mut added = entries.iter().filter(|entry| {
            entry.kind == EntryType::EXHIBIT_ADDED && entry.about.exhibit.as_deref() == Some(&id)
        });
        let known = added.next();
        if known.is_some_and(|entry| entry.how_text("folder") != Some(folder_name)) {
            return Err(wrong("has the id of another exhibit of the case"));
        }
        let all = case_layout::exhibits(&self.folder);
        let folder = all.join(folder_name);
        std::fs::create_dir_all(&all).map_err(|source| Error::Write { path: all.clone(), source })?;
        std::fs::create_dir(&folder).map_err(|source| Error::Write { path: folder.clone(), source })?;
        sync_folder(&all)?;
        if known.is_none() {
            let entry = NewEntry::new(EntryType::EXHIBIT_ADDED).exhibit(&id);
            self.append(entry.how("folder", folder_name).how("name", name), writer)?;
        }
        Ok(Exhibit { id, folder })
    }

    /// The exhibits that are there, by number.
    ///
    /// # Errors
    ///
    /// [`Error::Read`].
    pub fn exhibits(&self) -> Result<Vec<Exhibit>> {
        exhibits_in(&self.folder)
    }

    /// The exhibit of this id.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] when the case has none of that id.
    pub fn exhibit(&self, id: &str) -> Result<Exhibit> {
        self.exhibits()?
            .into_iter()
            .find(|exhibit| exhibit.id == id)
            .ok_or_else(|| Error::malformed("exhibit id", format!("the case has no {id:?}")))
    }

    /// Records an act that only reads (verify, timeline, query, show, export, report), after the case's log has
    /// verified.
    ///
    /// Never fails: where the log is broken, read-only or on a foreign file system, the act goes on and is not
    /// logged.
    pub fn record_reading(&self, entry: NewEntry, writer: &Writer<'_>) -> Logged {
        match verify::log_is_intact(&self.folder) {
            Err(error) => Logged::No(error.to_string()),
            Ok(Some(fault)) => Logged::No(format!("the case's log is broken: {fault}")),
            Ok(None) => match self.append(entry, writer) {
                Ok(appended) => Logged::Yes(appended),
                Err(error) => Logged::No(error.to_string()),
            },
        }
    }

    /// The lock under which exhibit ids are taken, held until it is dropped.
    pub(crate) fn lock(&self) -> Result<File> {
        let path = case_layout::case_file(&self.folder);
        let file = File::open(&path).map_err(|source| Error::Read { path: path.clone(), source })?;
        // Where locks do not work, `mkdir` still gives each id to one process only.
        let _ = rustix::io::retry_on_intr(|| rustix::fs::flock(&file, FlockOperation::LockExclusive));
        Ok(file)
    }
}

pub(crate) fn parse_case_file(bytes: &[u8]) -> Result<CaseFile> {
    let line =
        bytes.strip_suffix(b"\n").ok_or_else(|| Error::malformed("case.json", "no final line feed"))?;
    let file: CaseFile = serde_json::from_value(strict_json::parse(line)?)
        .map_err(|error| Error::malformed("case.json", error.to_string()))?;
    if file.format != FORMAT {
        return Err(Error::malformed(
            "case.json",
            format!("its format is {:?}, not {FORMAT:?}", file.format),
        ));
    }
    Ok(file)
}

pub(crate) fn exhibits_in(case: &Path) -> Result<Vec<Exhibit>> {
    folders_in(&case_layout::exhibits(case))
}

/// The folders that are named as those of exhibits are, by number.
pub(crate) fn folders_in(path: &Path) -> Result<Vec<Exhibit>> {
    let path = path.to_owned();
    let fault = |source| Error::Read { path: path.clone(), source };
    let mut found = Vec::new();
    let listing = match std::fs::read_dir(&path) {
        Ok(listing) => listing,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(fault(error)),
    };
    for item in listing {
        let item = item.map_err(fault)?;
        let name = item.file_name();
        let Some(number) = name.to_str().and_then(case_layout::exhibit_number) else { continue };
        if item.file_type().map_err(fault)?.is_dir() {
            found.push((number, Exhibit { id: case_layout::exhibit_id(number), folder: item.path() }));
        }
    }
    found.sort_by(|a, b| (a.0, &a.1.folder).cmp(&(b.0, &b.1.folder)));
    Ok(found.into_iter().map(|(_, exhibit)| exhibit).collect())
}
