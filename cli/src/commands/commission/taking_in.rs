//! Takes what a collector has acquired into the case: unpacked beside the exhibits, checked there, and put in place as a whole.
//!
//! Nothing lies below `exhibits/` that was not checked: the folder gets its name there by one rename. Killed before that,
//! nothing has come, and the next try removes what was begun. Killed after it, the next try checks again and writes what the
//! case's log lacks.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use custody::bundle::Bundle;
use custody::verify::{self, Level};
use custody::{
    Case, Commission, CustodyLog, Digest, Entry, EntryType, Exhibit, NewEntry, Writer, case_layout,
};
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use serde_json::json;

use super::note;
use super::unpacking::{Room, free_at, unpack};
use crate::failure::{Failure, Outcome};
use crate::session::Session;
use crate::ui;

const MANIFEST: &str = "manifest.json";

/// One commission, and the case that it is of.
pub(super) struct Taking<'a> {
    pub(super) commission: &'a Commission,
    pub(super) case: &'a Case,
    pub(super) exhibit: &'a Exhibit,
    pub(super) writer: &'a Writer<'a>,
    pub(super) session: &'a Session,
}

impl Taking<'_> {
    /// Takes what was acquired into the case, or leaves the case as it was.
    pub(super) fn run(&self, from: &Path, most: u64) -> Result<Outcome, Failure> {
        let Taking { commission, case, exhibit, .. } = self;
        let _held = hold(exhibit)?;
        let said = Said::of(&case.log().read()?.entries, commission);
        if said.is_given_up {
            return Err(Failure::new(format!("{} was given up: nothing is taken in for it", exhibit.id))
                .hint("make another commission"));
        }
        if let Some(closed) = case.log().closed()? {
            return Err(Failure::new(format!(
                "entry {closed} of its log closed the case: it takes in nothing more"
            )));
        }
        let mut placed = None;
        let arrived = if is_empty(&exhibit.folder)? {
            let staging = Staging::begin(case, &commission.folder_name())?;
            let free = || free_at(&staging.folder);
            let room = Room { most, free: &free };
            let name = commission.folder_name();
            if from == Path::new("-") {
                unpack(io::stdin().lock(), &name, &staging.folder, &room)?;
            } else {
                unpack(io::BufReader::new(File::open(from)?), &name, &staging.folder, &room)?;
            }
            let arrived = check(commission, &staging.folder)?;
            placed = Some(staging.put_in_place(&exhibit.folder)?);
            arrived
        } else if said.is_fulfilled {
            return Err(Failure::new(format!("{} holds something already", exhibit.folder.display()))
                .hint("the commission was fulfilled before; ask for another"));
        } else {
            self.session.ui.warn(&format!(
                "{} lies in its place, and the case's log does not tell of it: the run that took it in was ended. It is checked \
                 again; what is given now is not read",
                exhibit.id
            ));
            // As that run may have left it; only where it is empty.
            let _ = std::fs::remove_dir(case_layout::taking(case.folder()));
            check(commission, &exhibit.folder)?
        };
        self.record(&arrived, &said)?;
        drop(placed);
        self.tell(&arrived)
    }

    /// Writes what the case's log does not say yet.
    fn record(&self, arrived: &Arrived, said: &Said) -> Result<(), Failure> {
        let Taking { commission, case, exhibit, writer, .. } = self;
        if said.sealed.is_some() && said.sealed != arrived.manifest.map(|(_, digest)| digest) {
            return Err(Failure::verification(format!(
                "the case's log vouches for another manifest of {}",
                exhibit.id
            )));
        }
        if !said.is_added {
            case.add_reserved(exhibit, &commission.name, writer)?;
        }
        if let (Some((size, digest)), None) = (arrived.manifest, said.sealed) {
            let sealed = NewEntry::new(EntryType::BUNDLE_SEALED).exhibit(&exhibit.id);
            case.append(sealed.subject(MANIFEST, size, digest), writer)?;
        }
        let entry = note(commission, "fulfilled")
            .result("sealed", arrived.manifest.is_some())
            .result("bytes", arrived.bytes)
            .result("collector_key", arrived.key.clone())
            .result("collector_sha256", arrived.build.clone());
        case.append(entry, writer)?;
        Ok(())
    }

    fn tell(&self, arrived: &Arrived) -> Result<Outcome, Failure> {
        let Taking { exhibit, session, .. } = self;
        let sealed = arrived.manifest.is_some();
        if session.ui.is_json() {
            session.ui.document(&json!({
                "exhibit": exhibit.id, "bundle": exhibit.folder.display().to_string(), "sealed": sealed,
                "bytes": arrived.bytes, "collector_key": arrived.key, "collector_sha256": arrived.build,
                "issue_count": arrived.issues,
            }))?;
        } else {
            session.ui.say(&format!(
                "{} is in the case, {}; its log is signed by {}",
                exhibit.id,
                ui::bytes(arrived.bytes),
                arrived.key
            ));
            if !sealed {
                session.ui.warn(&format!(
                    "{} was not sealed: it is in the case as it came, and stays OPEN",
                    exhibit.id
                ));
            }
            session.ui.data(&exhibit.folder.display().to_string())?;
        }
        Ok(if sealed && arrived.issues == 0 { Outcome::Done } else { Outcome::WithIssues })
    }
}

/// Makes sure that nobody else takes in, or gives up, the same exhibit at the same time.
pub(super) fn hold(exhibit: &Exhibit) -> Result<File, Failure> {
    loop {
        let held = File::open(&exhibit.folder)?;
        lock(&held, exhibit)?;
        // Whoever held it may have put another folder in its place.
        let (ours, there) = (held.metadata()?, std::fs::metadata(&exhibit.folder)?);
        if (ours.dev(), ours.ino()) == (there.dev(), there.ino()) {
            return Ok(held);
        }
    }
}

fn lock(folder: &File, exhibit: &Exhibit) -> Result<(), Failure> {
    // Where locks do not work, the rename still lets only one of them through.
    match rustix::fs::flock(folder, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => {
            Err(Failure::new(format!("another process takes {} in just now", exhibit.id)))
        }
        _ => Ok(()),
    }
}

pub(super) fn is_empty(folder: &Path) -> Result<bool, Failure> {
    Ok(std::fs::read_dir(folder)?.next().is_none())
}

/// What the case's log says of a commission.
#[derive(Debug, Default)]
pub(super) struct Said {
    is_added: bool,
    is_fulfilled: bool,
    pub(super) is_given_up: bool,
    /// The manifest that it vouches for.
    sealed: Option<Digest>,
}

impl Said {
    pub(super) fn of(entries: &[Entry], commission: &Commission) -> Self {
        let mut said = Self::default();
        for entry in entries.iter().filter(|entry| entry.about.exhibit.as_ref() == Some(&commission.exhibit))
        {
            let is_ours =
                entry.kind == EntryType::APPROVAL_GIVEN && entry.how_text("command") == Some("commission");
            match entry.how_text("act") {
                // Of an exhibit of that number, the last one counts.
                Some("issued") if is_ours => said = Self::default(),
                Some("fulfilled") if is_ours => said.is_fulfilled = true,
                Some("given up") if is_ours => said.is_given_up = true,
                _ if entry.kind == EntryType::EXHIBIT_ADDED => said.is_added = true,
                _ if entry.kind == EntryType::BUNDLE_SEALED => {
                    let subject = entry.about.subject.iter().find(|subject| subject.id == MANIFEST);
                    said.sealed = subject.and_then(|subject| subject.sha256);
                }
                _ => {}
            }
        }
        said
    }
}

/// The folder beside the exhibits in which what comes is checked.
struct Staging {
    folder: PathBuf,
    held: File,
}

impl Staging {
    /// Makes it anew, whatever an earlier run has left.
    fn begin(case: &Case, name: &str) -> Result<Self, Failure> {
        let all = case_layout::taking(case.folder());
        let folder = all.join(name);
        loop {
            match std::fs::create_dir(&all) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error.into()),
                _ => {}
            }
            match std::fs::symlink_metadata(&all) {
                Ok(found) if !found.is_dir() => {
                    return Err(Failure::new(format!("{} is no folder", all.display())));
                }
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
            match std::fs::remove_dir_all(&folder) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
            match std::fs::create_dir(&folder) {
                Ok(()) => break,
                // Another run has just removed the one above it, which was empty.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
        let held = File::open(&folder)?;
        // It will be the exhibit's folder, and is held as that is.
        let _ = rustix::fs::flock(&held, FlockOperation::NonBlockingLockExclusive);
        Ok(Self { folder, held })
    }

    /// Gives it the exhibit's place, durably. What is given is held as [`hold`] does.
    fn put_in_place(self, to: &Path) -> Result<File, Failure> {
        sync_folders(&self.folder)?;
        std::fs::rename(&self.folder, to)?;
        if let Some(all) = to.parent() {
            File::open(all)?.sync_all()?;
        }
        Ok(self.held.try_clone()?)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Gone where it was put in place. What cannot be removed is no evidence, and the next try says why.
        let _ = std::fs::remove_dir_all(&self.folder);
        // Only where nothing else is being taken in.
        let _ = self.folder.parent().map(std::fs::remove_dir);
    }
}

/// Makes the names in a folder and in all below it durable; the files are already.
fn sync_folders(folder: &Path) -> Result<(), Failure> {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            }
        }
        File::open(&folder)?.sync_all()?;
    }
    Ok(())
}

/// What came.
struct Arrived {
    /// Size and hash of its manifest, if it is sealed.
    manifest: Option<(u64, Digest)>,
    /// Bytes of its files.
    bytes: u64,
    /// The key that signed its log.
    key: String,
    /// SHA-256 of the collector, as it says itself.
    build: String,
    issues: u64,
}

/// Whether it is whole, and what was asked for.
fn check(commission: &Commission, folder: &Path) -> Result<Arrived, Failure> {
    let wrong = |why: &str| Failure::verification(format!("what came is refused: {why}"));
    let verification = verify::verify(folder, &verify::Options::default())?;
    if let Some(fault) = verification.faults.first() {
        return Err(Failure::verification(format!("what came does not verify: {fault}")));
    }
    if verification.kind != verify::Kind::Bundle {
        return Err(wrong("it is no bundle"));
    }
    if verification.data_not_read {
        return Err(wrong("its data lies elsewhere, and none of it came"));
    }
    let key = verification.log.signed_by.first().ok_or_else(|| wrong("nobody signed its log"))?;
    let entries = CustodyLog::open(folder)?.read()?.entries;
    let digest = verification.manifest_sha256.filter(|_| verification.verdict.level > Level::Open);
    let manifest = match digest {
        Some(_) if verification.unsigned_tail => {
            return Err(wrong("its log goes on after the seal with what nobody signed"));
        }
        Some(digest) => {
            let bundle = Bundle::open(folder)?;
            commission.fits(bundle.manifest()).map_err(|error| wrong(&error.to_string()))?;
            Some((std::fs::metadata(folder.join(MANIFEST))?.len(), digest))
        }
        None => {
            fits(commission, &entries).map_err(|why| wrong(&why))?;
            None
        }
    };
    let build = entries.first().and_then(|first| first.tool.build_sha256);
    let end = entries.iter().rfind(|entry| entry.kind == EntryType::ACQUIRE_END);
    Ok(Arrived {
        manifest,
        bytes: bytes_in(folder)?,
        key: key.clone(),
        build: build.map(|build| build.to_string()).unwrap_or_default(),
        issues: end.and_then(|end| end.about.result.get("issues")?.as_u64()).unwrap_or_default(),
    })
}

/// Whether a log without a seal, and so without a manifest that says so, is of what was asked for.
fn fits(commission: &Commission, entries: &[Entry]) -> Result<(), String> {
    for entry in entries {
        let pairs = [
            ("case", commission.case.as_str(), &entry.about.case),
            ("exhibit", commission.exhibit.as_str(), &entry.about.exhibit),
        ];
        for (what, wanted, found) in pairs {
            if found.as_deref() != Some(wanted) {
                let found = found.as_deref().unwrap_or_default();
                return Err(format!("entry {} has the {what} {found:?}, not {wanted:?}", entry.seq));
            }
        }
    }
    // Escaped as the acquisition writes it.
    let name = NewEntry::new(EntryType::LOG_GENESIS)
        .how("name", custody::strict_json::escape_text(commission.name.as_bytes()));
    let found = entries.first().and_then(|first| first.about.how.get("name"));
    if found != name.about.how.get("name") {
        return Err(format!("its log is of another exhibit than {:?}", commission.name));
    }
    let start = entries.iter().find(|entry| entry.kind == EntryType::ACQUIRE_START);
    let start = start.ok_or("its log tells of no acquisition")?;
    let kind = start.about.how.get("source").and_then(|source| source.get("kind")?.as_str());
    if kind != Some(commission.kind.as_str()) {
        return Err(format!(
            "it is of {:?}, not of {:?}",
            kind.unwrap_or("nothing that is known"),
            commission.kind
        ));
    }
    Ok(())
}

fn bytes_in(folder: &Path) -> Result<u64, Failure> {
    let mut folders = vec![folder.to_owned()];
    let mut bytes = 0u64;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            match entry.file_type()?.is_dir() {
                true => folders.push(entry.path()),
                false => bytes = bytes.saturating_add(entry.metadata()?.len()),
            }
        }
    }
    Ok(bytes)
}
