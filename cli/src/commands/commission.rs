//! `exhibit commission`: lets a collector on another machine acquire one exhibit for a case, and takes it in.

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Component, Path, PathBuf};

use custody::bundle::Bundle;
use custody::clock::Clock as _;
use custody::{Case, Commission, EntryType, Exhibit, LONGEST_COMMISSION, NewEntry, Writer, sha256};
use serde_json::json;

use crate::amounts;
use crate::failure::{Failure, Outcome};
use crate::session::Session;
use crate::target;
use crate::ui;

/// Files of one bundle.
const MOST_FILES: u64 = 2_000_000;
/// Folders within folders of one bundle.
const DEEPEST: usize = 6;

/// Let a machine without a case acquire one exhibit for it
///
/// The commission says for which exhibit of which case. On the other machine: `exhibit acquire triage --commission FILE`,
/// then `exhibit commission --give FOLDER` writes what was acquired to standard output, as a tar. Here `--take -` reads
/// that, verifies it, and takes it into the case, whose log then vouches for it.
///
/// Example: exhibit commission --case ir-17 --kind triage --name web01 -o web01.commission
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("act").required(true).args(["output", "take", "give", "give_up"])))]
pub(crate) struct Args {
    /// The case that the exhibit becomes one of
    #[arg(long, required_unless_present = "give")]
    case: Option<PathBuf>,
    /// Write a commission; the file must not be there yet
    #[arg(short, long, value_name = "FILE", requires = "kind")]
    output: Option<PathBuf>,
    /// What is to be acquired: container, disk, logs, memory or triage
    #[arg(long, value_name = "KIND", requires = "output", value_parser = kind)]
    kind: Option<String>,
    /// The exhibit's name [default: the kind]
    #[arg(long, requires = "output", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    name: Option<String>,
    /// Encrypt the exhibit to this age recipient (age1…); may be given again
    #[arg(long, value_name = "RECIPIENT", requires = "output")]
    encrypt_to: Vec<String>,
    /// Take in what was acquired: the tar that --give wrote, - for standard input
    #[arg(long, value_name = "FILE|-", requires = "commission")]
    take: Option<PathBuf>,
    /// With --take and --give-up: the commission
    #[arg(long, value_name = "FILE")]
    commission: Option<PathBuf>,
    /// With --take: bytes that are taken in at most
    #[arg(long, value_name = "SIZE", default_value = "4TiB", value_parser = amounts::part)]
    most: u64,
    /// Write an acquired folder to standard output, as a tar
    #[arg(long, value_name = "FOLDER")]
    give: Option<PathBuf>,
    /// Give the exhibit's number up, for which nothing will come any more
    #[arg(long, requires = "commission")]
    give_up: bool,
}

fn kind(word: &str) -> Result<String, String> {
    if Commission::KINDS.contains(&word) {
        return Ok(word.to_owned());
    }
    Err(format!("it is one of {}", Commission::KINDS.join(", ")))
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Failure> {
    if let Some(folder) = &args.give {
        return give(folder, session);
    }
    let case = args.case.as_deref().ok_or_else(|| Failure::usage("name the case with --case"))?;
    let case = target::open_case(case)?;
    let key = session.key()?;
    let writer = session.writer(&key, Some(&case));
    if let (Some(output), Some(kind)) = (&args.output, &args.kind) {
        return make(args, output, kind, &case, &writer, session);
    }
    let file = args.commission.as_deref().ok_or_else(|| Failure::usage("name the file with --commission"))?;
    let commission = read(file)?;
    if commission.case != case.file().id {
        return Err(Failure::usage(format!(
            "the commission is for case {}, not for this one",
            commission.case
        )));
    }
    let exhibit = case.exhibit(&commission.exhibit)?;
    if !exhibit.is_called(&commission.name) {
        return Err(Failure::usage(format!("{} has another name in the case", exhibit.id)));
    }
    match &args.take {
        Some(place) => take(args, place, &commission, &case, &exhibit, &writer, session),
        None => give_up(&commission, &case, &exhibit, &writer, session),
    }
}

/// Reads a commission from its file.
pub(crate) fn read(file: &Path) -> Result<Commission, Failure> {
    let mut bytes = Vec::new();
    File::open(file).and_then(|file| file.take(LONGEST_COMMISSION).read_to_end(&mut bytes)).map_err(
        |error| Failure::usage(format!("the commission cannot be read from {}: {error}", file.display())),
    )?;
    Ok(Commission::from_bytes(&bytes)?)
}

fn make(
    args: &Args,
    output: &Path,
    kind: &str,
    case: &Case,
    writer: &Writer<'_>,
    session: &Session,
) -> Result<Outcome, Failure> {
    super::acquire::recipients(&args.encrypt_to)?;
    if output.exists() {
        return Err(Failure::usage(format!("{} is there already", output.display())));
    }
    let name = args.name.clone().unwrap_or_else(|| kind.to_owned());
    let exhibit = case.reserve_exhibit(&name)?;
    let issued = session.clock.now().rfc3339();
    let made = Commission::new(case.file(), &exhibit.id, &name, kind, &args.encrypt_to, &issued);
    let written = made.map_err(Failure::from).and_then(|commission| {
        let bytes = commission.to_bytes()?;
        let mut options = File::options();
        let mut file = options.write(true).create_new(true).mode(0o600).open(output)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        Ok((commission, bytes))
    });
    let (commission, bytes) = written.inspect_err(|_| {
        // Empty, so the number is free again.
        let _ = std::fs::remove_dir(&exhibit.folder);
    })?;
    let entry = note(&commission, "issued").subject("commission", bytes.len() as u64, sha256(&bytes));
    case.append(entry, writer)?;
    if session.ui.is_json() {
        session.ui.document(&json!({
            "commission": output.display().to_string(), "exhibit": exhibit.id, "name": name, "kind": kind,
        }))?;
    } else {
        session.ui.say(&format!(
            "{} waits for what is acquired: exhibit acquire {kind} --commission FILE",
            exhibit.id
        ));
        session.ui.data(&output.display().to_string())?;
    }
    Ok(Outcome::Done)
}

fn note(commission: &Commission, act: &str) -> NewEntry {
    NewEntry::new(EntryType::APPROVAL_GIVEN)
        .exhibit(&commission.exhibit)
        .how("command", "commission")
        .how("act", act)
        .how("kind", commission.kind.clone())
}

/// Takes what was acquired into the case, or leaves the case as it was.
fn take(
    args: &Args,
    place: &Path,
    commission: &Commission,
    case: &Case,
    exhibit: &Exhibit,
    writer: &Writer<'_>,
    session: &Session,
) -> Result<Outcome, Failure> {
    let folder = &exhibit.folder;
    if std::fs::read_dir(folder)?.next().is_some() {
        return Err(Failure::new(format!("{} holds something already", folder.display()))
            .hint("the commission was fulfilled before; ask for another"));
    }
    let name = commission.folder_name();
    let taken = match place == Path::new("-") {
        true => unpack(io::stdin().lock(), &name, folder, args.most),
        false => unpack(io::BufReader::new(File::open(place)?), &name, folder, args.most),
    };
    let checked = taken.and_then(|bytes| Ok((bytes, check(commission, folder)?)));
    let (bytes, arrived) = checked.inspect_err(|_| empty(folder))?;
    case.add_reserved(exhibit, &commission.name, writer)?;
    if let Some((size, digest)) = arrived.manifest {
        let sealed = NewEntry::new(EntryType::BUNDLE_SEALED).exhibit(&exhibit.id).subject(
            "manifest.json",
            size,
            digest,
        );
        case.append(sealed, writer)?;
    }
    let sealed = arrived.manifest.is_some();
    let entry = note(commission, "fulfilled")
        .result("sealed", sealed)
        .result("bytes", bytes)
        .result("collector_key", arrived.key.clone())
        .result("collector_sha256", arrived.build.clone());
    case.append(entry, writer)?;
    if session.ui.is_json() {
        session.ui.document(&json!({
            "exhibit": exhibit.id, "bundle": folder.display().to_string(), "sealed": sealed, "bytes": bytes,
            "collector_key": arrived.key, "collector_sha256": arrived.build, "issue_count": arrived.issues,
        }))?;
    } else {
        session.ui.say(&format!(
            "{} is in the case, {}; its log is signed by {}",
            exhibit.id,
            ui::bytes(bytes),
            arrived.key
        ));
        if !sealed {
            session.ui.warn(&format!(
                "{} was not sealed: it is in the case as it came, and stays OPEN",
                exhibit.id
            ));
        }
        session.ui.data(&folder.display().to_string())?;
    }
    Ok(if sealed && arrived.issues == 0 { Outcome::Done } else { Outcome::WithIssues })
}

/// What came.
struct Arrived {
    /// Size and hash of its manifest, if it is sealed.
    manifest: Option<(u64, custody::Digest)>,
    /// The key that signed its log.
    key: String,
    /// SHA-256 of the collector, as it says itself.
    build: String,
    issues: u64,
}

/// Whether it is whole, and what was asked for.
fn check(commission: &Commission, folder: &Path) -> Result<Arrived, Failure> {
    let verification = custody::verify::verify(folder, &custody::verify::Options::default())?;
    if let Some(fault) = verification.faults.first() {
        return Err(Failure::verification(format!("what came does not verify: {fault}")));
    }
    let entries = custody::CustodyLog::open(folder)?.read()?.entries;
    let first = entries.first().ok_or_else(|| Failure::verification("its log has no entry"))?;
    let issues = entries.iter().rfind(|entry| entry.kind == EntryType::ACQUIRE_END);
    let issues = issues.and_then(|end| end.about.result.get("issues")?.as_u64()).unwrap_or_default();
    let mut arrived = Arrived {
        manifest: None,
        key: first.actor.key.clone(),
        build: first.tool.build_sha256.map(|build| build.to_string()).unwrap_or_default(),
        issues,
    };
    if folder.join("manifest.json").is_file() {
        let bundle = Bundle::open(folder)?;
        commission.fits(bundle.manifest()).map_err(|error| Failure::verification(error.to_string()))?;
        let size = std::fs::metadata(folder.join("manifest.json"))?.len();
        arrived.manifest = Some((size, bundle.manifest_sha256()));
    }
    Ok(arrived)
}

/// Removes what was unpacked; the folder itself stays reserved.
fn empty(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        // What cannot be removed is found by the next try, which says so.
        let _ = if is_folder {
            std::fs::remove_dir_all(entry.path())
        } else {
            std::fs::remove_file(entry.path())
        };
    }
}

fn give_up(
    commission: &Commission,
    case: &Case,
    exhibit: &Exhibit,
    writer: &Writer<'_>,
    session: &Session,
) -> Result<Outcome, Failure> {
    if std::fs::read_dir(&exhibit.folder)?.next().is_some() {
        return Err(Failure::new(format!("{} holds something: it is not given up", exhibit.id)));
    }
    case.append(note(commission, "given up"), writer)?;
    session.ui.say(&format!("nothing will come for {}", exhibit.id));
    if session.ui.is_json() {
        session.ui.document(&json!({"exhibit": exhibit.id, "given_up": true}))?;
    }
    Ok(Outcome::Done)
}

/// Writes an acquired folder to standard output.
fn give(folder: &Path, session: &Session) -> Result<Outcome, Failure> {
    let name = folder
        .file_name()
        .and_then(|name| name.to_str())
        .filter(|name| custody::case_layout::exhibit_number(name).is_some());
    let name =
        name.ok_or_else(|| Failure::usage(format!("{} is not named as an exhibit is", folder.display())))?;
    if !custody::case_layout::log(folder).is_file() {
        return Err(Failure::usage(format!("there is no exhibit in {}", folder.display())));
    }
    let bytes = pack(folder, name, &mut io::stdout().lock())?;
    session.ui.say(&format!("gave {}", ui::bytes(bytes)));
    Ok(Outcome::Done)
}

/// Packs the files of a folder below `name`. Gives their bytes.
fn pack(folder: &Path, name: &str, out: &mut dyn io::Write) -> Result<u64, Failure> {
    let mut tar = tar::Builder::new(out);
    let mut folders = vec![(folder.to_owned(), PathBuf::from(name))];
    let mut bytes = 0u64;
    while let Some((real, shown)) = folders.pop() {
        let mut entries: Vec<_> = std::fs::read_dir(&real)?.collect::<Result<_, _>>()?;
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let (path, shown) = (entry.path(), shown.join(entry.file_name()));
            let kind = entry.file_type()?;
            if kind.is_dir() {
                let mut header = tar::Header::new_gnu();
                header.set_size(0);
                header.set_mode(0o700);
                header.set_entry_type(tar::EntryType::Directory);
                tar.append_data(&mut header, &shown, io::empty())?;
                folders.push((path, shown));
            } else if kind.is_file() {
                let file = File::open(&path)?;
                let size = file.metadata()?.len();
                let mut header = tar::Header::new_gnu();
                header.set_size(size);
                header.set_mode(0o600);
                header.set_entry_type(tar::EntryType::Regular);
                tar.append_data(&mut header, &shown, file.take(size))?;
                bytes = bytes.saturating_add(size);
            }
        }
    }
    tar.into_inner()?.flush()?;
    Ok(bytes)
}

/// Unpacks a tar of `--give` into an empty folder. Gives the bytes of its files.
///
/// Whoever sends it is not trusted: only regular files below `name`, each once, at plain names, up to `most` bytes.
fn unpack(from: impl Read, name: &str, folder: &Path, most: u64) -> Result<u64, Failure> {
    let mut archive = tar::Archive::new(from);
    let (mut bytes, mut files) = (0u64, 0u64);
    for entry in archive.entries()? {
        let mut entry =
            entry.map_err(|error| Failure::verification(format!("what came is no whole tar: {error}")))?;
        let refused = |why: &str| Failure::verification(format!("what came is refused: a member {why}"));
        let kind = entry.header().entry_type();
        if !matches!(kind, tar::EntryType::Regular | tar::EntryType::Directory) {
            return Err(refused("is neither a file nor a folder"));
        }
        let path = below(&entry.path_bytes(), name)
            .ok_or_else(|| refused("lies outside of the exhibit's folder"))?;
        let size = entry.size();
        files = files.saturating_add(1);
        if files > MOST_FILES || size > most.saturating_sub(bytes) {
            return Err(refused("goes beyond the limit").hint("a larger one is taken with --most"));
        }
        let to = folder.join(&path);
        if kind == tar::EntryType::Directory {
            std::fs::create_dir_all(&to)?;
            continue;
        }
        if let Some(above) = to.parent().filter(|above| *above != folder) {
            std::fs::create_dir_all(above)?;
        }
        // Nothing is ever overwritten, and no link is followed.
        let mut file = File::options().write(true).create_new(true).open(&to)?;
        let copied = io::copy(&mut (&mut entry).take(size), &mut file)?;
        if copied != size {
            return Err(refused("ends before its size"));
        }
        file.sync_all()?;
        bytes = bytes.saturating_add(copied);
    }
    if files == 0 {
        return Err(Failure::verification("nothing came"));
    }
    Ok(bytes)
}

/// The path of a member below the exhibit's folder, if all of it is plain.
fn below(path: &[u8], name: &str) -> Option<PathBuf> {
    let path = Path::new(std::str::from_utf8(path).ok()?);
    let plain = |part: &str| {
        !part.starts_with('.')
            && part.len() <= 255
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    let mut parts = path.components();
    if parts.next() != Some(Component::Normal(name.as_ref())) {
        return None;
    }
    let rest: Vec<&str> = parts
        .map(|part| match part {
            Component::Normal(part) => part.to_str().filter(|part| plain(part)),
            _ => None,
        })
        .collect::<Option<_>>()?;
    (!rest.is_empty() && rest.len() <= DEEPEST).then(|| rest.iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tar_of(members: &[(&[u8], tar::EntryType, &[u8])]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, kind, content) in members {
            let mut header = tar::Header::new_gnu();
            // Set by hand: the library refuses to write what a hostile one would.
            header.as_old_mut().name.get_mut(..path.len()).unwrap().copy_from_slice(path);
            header.set_size(content.len() as u64);
            header.set_entry_type(*kind);
            header.set_mode(0o644);
            if matches!(kind, tar::EntryType::Symlink | tar::EntryType::Link) {
                header.set_size(0);
                header.set_link_name("/etc/passwd").unwrap();
            }
            header.set_cksum();
            tar.append(&header, *content).unwrap();
        }
        tar.into_inner().unwrap()
    }

    const FILE: tar::EntryType = tar::EntryType::Regular;

    #[test]
    fn what_was_given_is_taken_as_it_was() {
        let from = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(from.path().join("data/disk")).unwrap();
        std::fs::create_dir(from.path().join("anchors")).unwrap();
        std::fs::write(from.path().join("data/disk/000000.zst"), "abc").unwrap();
        std::fs::write(from.path().join("custody.jsonl"), "").unwrap();
        let mut tar = Vec::new();
        assert_eq!(pack(from.path(), "E001-x", &mut tar).unwrap(), 3);
        let to = tempfile::tempdir().unwrap();
        assert_eq!(unpack(&tar[..], "E001-x", to.path(), 3).unwrap(), 3);
        assert_eq!(std::fs::read(to.path().join("data/disk/000000.zst")).unwrap(), b"abc");
        assert!(to.path().join("anchors").is_dir() && to.path().join("custody.jsonl").is_file());
        // Twice into the same place overwrites nothing.
        assert!(unpack(&tar[..], "E001-x", to.path(), 3).is_err());
        for end in [1, 511, 600, 1030] {
            assert!(unpack(&tar[..end], "E001-x", tempfile::tempdir().unwrap().path(), 3).is_err(), "{end}");
        }
    }

    #[test]
    fn nothing_is_written_outside_of_the_exhibits_folder_whoever_sends_it() {
        let above = tempfile::tempdir().unwrap();
        for (path, kind) in [
            (&b"../evil"[..], FILE),
            (b"/etc/evil", FILE),
            (b"E001-x/../../evil", FILE),
            (b"E001-x", FILE),
            (b"E002-x/a", FILE),
            (b"E001-x/a b", FILE),
            (b"E001-x/.hidden", FILE),
            (b"E001-x/a\n", FILE),
            (b"E001-x/\xff", FILE),
            (b"E001-x/1/2/3/4/5/6/7", FILE),
            (b"E001-x/link", tar::EntryType::Symlink),
            (b"E001-x/hard", tar::EntryType::Link),
            (b"E001-x/pipe", tar::EntryType::Fifo),
            (b"E001-x/dev", tar::EntryType::Char),
        ] {
            let to = above.path().join("to");
            std::fs::create_dir(&to).unwrap();
            let tar = tar_of(&[(path, kind, b"x")]);
            assert!(unpack(&tar[..], "E001-x", &to, 1000).is_err(), "{path:?}");
            std::fs::remove_dir(&to).unwrap_or_else(|error| panic!("{path:?} left something: {error}"));
            assert_eq!(std::fs::read_dir(above.path()).unwrap().count(), 0, "{path:?}");
        }
        let tar = tar_of(&[(b"E001-x/a", FILE, &[0; 600]), (b"E001-x/b", FILE, &[0; 600])]);
        assert!(unpack(&tar[..], "E001-x", tempfile::tempdir().unwrap().path(), 1000).is_err());
        assert!(unpack(&tar_of(&[])[..], "E001-x", above.path(), 1000).is_err());
    }
}
