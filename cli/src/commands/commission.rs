//! `exhibit commission`: lets a collector on another machine acquire one exhibit for a case, and takes it in.

mod taking_in;
mod unpacking;

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use custody::clock::Clock as _;
use custody::{Case, Commission, EntryType, Exhibit, LONGEST_COMMISSION, NewEntry, Writer, sha256};
use serde_json::json;

use self::taking_in::{Said, Taking};
use crate::amounts;
use crate::failure::{Failure, Outcome};
use crate::session::Session;
use crate::target;
use crate::ui;

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
        Some(place) => {
            let (commission, case, exhibit, writer) = (&commission, &case, &exhibit, &writer);
            Taking { commission, case, exhibit, writer, session }.run(place, args.most)
        }
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

fn give_up(
    commission: &Commission,
    case: &Case,
    exhibit: &Exhibit,
    writer: &Writer<'_>,
    session: &Session,
) -> Result<Outcome, Failure> {
    let _held = taking_in::hold(exhibit)?;
    if !taking_in::is_empty(&exhibit.folder)? {
        return Err(Failure::new(format!("{} holds something: it is not given up", exhibit.id)));
    }
    if !Said::of(&case.log().read()?.entries, commission).is_given_up {
        case.append(note(commission, "given up"), writer)?;
    }
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
