//! `exhibit acquire`: reads a source into a new, signed bundle of a case. One file a kind of source.

#[cfg(feature = "cloud")]
mod azure_disk;
#[cfg(feature = "cloud")]
mod cloud_logs;
mod commissioned;
mod container;
pub(crate) mod disk;
#[cfg(feature = "cloud")]
mod ebs;
#[cfg(feature = "cloud")]
mod ebs_live;
#[cfg(feature = "cloud")]
mod gcp_image;
#[cfg(feature = "cloud")]
mod granted;
mod import;
pub(crate) mod logs;
mod memory;
#[cfg(feature = "cloud")]
pub(crate) mod permissions;
mod triage;

use std::path::{Path, PathBuf};

use acquire::{Acquisition, Destination, OpenAcquisition, PipelineOptions, Report};
use clap::builder::TypedValueParser;
use custody::bundle::{Recipients, RemotePlace, Source as SourceFacts, State};
use custody::verify::Verification;
use custody::{Case, Digest, EntryType, Exhibit, NewEntry, Writer};
use serde_json::json;

use super::verify::verdict_words;
use crate::failure::{Failure, Outcome, chain};
use crate::identity;
use crate::interrupt;
use crate::progress_bar::{Bars, Unit};
use crate::session::Session;
#[cfg(feature = "cloud")]
use crate::store_writing::{ChosenStore, StoreArgs};
use crate::target;
use crate::ui::{self, Ui};

/// Acquire evidence into a signed bundle of a case
///
/// Example: exhibit acquire disk /dev/nvme1n1 --case ir-2026-017 --name web01-disk
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

/// The table of sources.
#[derive(Debug, clap::Subcommand)]
enum What {
    Disk(disk::Args),
    Container(container::Args),
    #[cfg(feature = "cloud")]
    Ebs(ebs::Args),
    Logs(logs::Args),
    Memory(memory::Args),
    Import(import::Args),
    Triage(triage::Args),
    #[cfg(feature = "cloud")]
    AzureDisk(azure_disk::Args),
    #[cfg(feature = "cloud")]
    GcpImage(gcp_image::Args),
    #[cfg(feature = "cloud")]
    CloudLogs(cloud_logs::Args),
}

#[derive(Debug, Clone, clap::Args)]
struct Into {
    /// The case it becomes an exhibit of
    #[cfg_attr(
        feature = "cloud",
        arg(
            required_unless_present = "grant",
            default_value_if("grant", clap::builder::ArgPredicate::IsPresent, ".")
        )
    )]
    #[arg(
        long,
        required = false,
        required_unless_present = "commission",
        default_value_if("commission", clap::builder::ArgPredicate::IsPresent, ".")
    )]
    case: PathBuf,
    /// Acquire for a case that is elsewhere, as this file says; see `exhibit commission`
    #[cfg_attr(feature = "cloud", arg(conflicts_with_all = ["grant", "to"]))]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["case", "encrypt_to"])]
    commission: Option<PathBuf>,
    /// Write it where this grant allows it, with no credential and no case on this host; see `exhibit grant`
    #[cfg(feature = "cloud")]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["case", "to", "encrypt_to"], help_heading = "Evidence store")]
    grant: Option<PathBuf>,
    /// With --commission, or --grant until it is sealed: where the exhibit's folder is made [default: here]
    #[arg(long, value_name = "DIR", conflicts_with = "case")]
    log_in: Option<PathBuf>,
    /// The exhibit's name [default: the source's]
    #[arg(long, value_parser = clap::builder::NonEmptyStringValueParser::new())]
    name: Option<String>,
    /// Bytes that are hashed and compressed together: 64KiB to 16MiB, a power of two
    #[arg(long, default_value = "512KiB", value_name = "SIZE", value_parser = chunk_size)]
    chunk_size: u32,
    /// zstd level
    #[arg(long, default_value_t = 1, value_name = "N",
          value_parser = clap::value_parser!(i64).range(-7..=19).map(|level| level as i32))]
    level: i32,
    /// Encrypt data, tables and catalogue to this age recipient (age1…), or to those in a file; may be given again
    #[arg(long, value_name = "RECIPIENT")]
    encrypt_to: Vec<String>,
    /// Read back all that was written once it is sealed, and verify it; of an evidence store, with the right to read there
    #[arg(long)]
    verify_after: bool,
    #[cfg(feature = "cloud")]
    #[command(flatten)]
    store: StoreArgs,
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Failure> {
    let report = match &args.what {
        What::Disk(args) => disk::run(args, session),
        What::Container(args) => container::run(args, session),
        #[cfg(feature = "cloud")]
        What::Ebs(args) if args.is_live() => return ebs::run_live(args, session),
        #[cfg(feature = "cloud")]
        What::Ebs(args) => match ebs::run(args, session)? {
            Some(report) => Ok(report),
            None => return Ok(Outcome::Done),
        },
        What::Logs(args) => logs::run(args, session),
        What::Memory(args) => match memory::run(args, session)? {
            Some(report) => Ok(report),
            None => return Ok(Outcome::Done),
        },
        What::Import(args) => import::run(args, session),
        What::Triage(args) => return triage::run(args, session),
        #[cfg(feature = "cloud")]
        What::AzureDisk(args) => azure_disk::run(args, session),
        #[cfg(feature = "cloud")]
        What::GcpImage(args) => gcp_image::run(args, session),
        #[cfg(feature = "cloud")]
        What::CloudLogs(args) => return cloud_logs::run(args, session),
    }?;
    show(&report, session.ui)
}

impl Into {
    #[cfg(feature = "timeline")]
    fn with_defaults(case: &Path) -> Into {
        Into {
            case: case.to_owned(),
            commission: None,
            #[cfg(feature = "cloud")]
            grant: None,
            log_in: None,
            name: None,
            chunk_size: 512 << 10,
            level: 1,
            encrypt_to: Vec::new(),
            verify_after: false,
            #[cfg(feature = "cloud")]
            store: StoreArgs::default(),
        }
    }
}

/// Acquires into a new exhibit of the case.
fn acquire_into(
    into: &Into,
    name: &str,
    session: &Session,
    plan: impl FnOnce(Destination) -> Acquisition<'static>,
) -> Result<Report, Failure> {
    #[cfg(feature = "cloud")]
    if let Some(grant) = &into.grant {
        return granted::run(grant, into, session, plan, false);
    }
    if let Some(commission) = &into.commission {
        return commissioned::run(commission, into, session, plan, false);
    }
    let case = target::open_case(&into.case)?;
    let key = session.key()?;
    // A mistake in them must not cost an exhibit.
    recipients(&into.encrypt_to)?;
    session.identities()?;
    #[cfg(feature = "cloud")]
    let store = into.store.choose(session.ui)?;
    let writer = session.writer(&key, Some(&case));
    let exhibit = case.add_exhibit(name, &writer)?;
    let place = Place {
        case: &case,
        exhibit: &exhibit,
        name,
        writer: &writer,
        into,
        session,
        #[cfg(feature = "cloud")]
        store,
    };
    run_in(&place, plan, false)
}

/// Goes on with the exhibit of this source that was cut short; without one, it begins a new one and says so.
fn resume_into(
    into: &Into,
    name: &str,
    session: &Session,
    facts: &SourceFacts,
    plan: impl FnOnce(Destination) -> Acquisition<'static>,
) -> Result<Report, Failure> {
    #[cfg(feature = "cloud")]
    if let Some(grant) = &into.grant {
        return granted::run(grant, into, session, plan, true);
    }
    if let Some(commission) = &into.commission {
        return commissioned::run(commission, into, session, plan, true);
    }
    let case = target::open_case(&into.case)?;
    let mut open = Vec::new();
    let mut others = Vec::new();
    for exhibit in case.exhibits()? {
        let Some(begun) = OpenAcquisition::in_folder(&exhibit.folder)? else { continue };
        match begun.is_of(facts) {
            Ok(()) => open.push(exhibit),
            Err(why) => others.push(format!("{} is open too, but {why}", exhibit.id)),
        }
    }
    if into.name.is_some() {
        open.retain(|exhibit| exhibit.is_called(name));
    }
    for other in others {
        session.ui.detail(&other);
    }
    let key = session.key()?;
    let writer = session.writer(&key, Some(&case));
    #[cfg(feature = "cloud")]
    if open.is_empty()
        && let Some(report) = end_sealed(into, name, session, facts, &case, &writer)?
    {
        return Ok(report);
    }
    match open.as_slice() {
        [] => {
            session.ui.warn("no acquisition of this source is open in the case: it is begun anew");
            acquire_into(into, name, session, plan)
        }
        [exhibit] => {
            session.ui.say(&format!("going on with exhibit {}", exhibit.id));
            let place = Place {
                case: &case,
                exhibit,
                name,
                writer: &writer,
                into,
                session,
                #[cfg(feature = "cloud")]
                store: into.store.begun_in(&exhibit.folder)?,
            };
            run_in(&place, plan, true)
        }
        several => {
            let ids: Vec<_> = several.iter().map(|exhibit| exhibit.id.as_str()).collect();
            Err(Failure::usage(format!("several acquisitions of this source are open: {}", ids.join(", ")))
                .hint("say which with --name"))
        }
    }
}

/// Ends the exhibit of this source that was sealed when it was cut short, and may not be whole in its evidence store.
#[cfg(feature = "cloud")]
fn end_sealed(
    into: &Into,
    name: &str,
    session: &Session,
    facts: &SourceFacts,
    case: &Case,
    writer: &Writer<'_>,
) -> Result<Option<Report>, Failure> {
    for exhibit in case.exhibits()? {
        let begun = OpenAcquisition::sealed_in_part(&exhibit.folder)?;
        let is_it = begun.is_some_and(|begun| begun.is_of(facts).is_ok());
        if !is_it || (into.name.is_some() && !exhibit.is_called(name)) {
            continue;
        }
        if let Some(report) = end_one_sealed(into, session, case, &exhibit, writer)? {
            return Ok(Some(report));
        }
    }
    Ok(None)
}

/// Ends one of them; `None` if it is of no evidence store.
#[cfg(feature = "cloud")]
fn end_one_sealed(
    into: &Into,
    session: &Session,
    case: &Case,
    exhibit: &Exhibit,
    writer: &Writer<'_>,
) -> Result<Option<Report>, Failure> {
    let Some(store) = into.store.begun_in(&exhibit.folder)? else { return Ok(None) };
    session.ui.say(&format!("exhibit {} is sealed: its evidence store gets what it lacks", exhibit.id));
    let mirror = store.mirror();
    let report = store.open(&exhibit.folder, true)?.end_sealed(&writer.clone().mirrored_by(&mirror))?;
    seal_in_case_once(case, exhibit, report.manifest_sha256, writer)?;
    Ok(Some(report))
}

/// As [`seal_in_case`], unless the case's log vouches for it already.
#[cfg(feature = "cloud")]
fn seal_in_case_once(
    case: &Case,
    exhibit: &Exhibit,
    manifest: Digest,
    writer: &Writer<'_>,
) -> Result<(), Failure> {
    let seals = case.log().read()?.entries.into_iter().filter(|entry| entry.kind == EntryType::BUNDLE_SEALED);
    if seals.into_iter().any(|entry| entry.about.exhibit.as_deref() == Some(exhibit.id.as_str())) {
        return Ok(());
    }
    seal_in_case(case, exhibit, manifest, writer)
}

/// The case's log vouches for the seal, so that an anchor of the case covers the bundle too.
fn seal_in_case(
    case: &Case,
    exhibit: &Exhibit,
    manifest: Digest,
    writer: &Writer<'_>,
) -> Result<(), Failure> {
    let length = std::fs::metadata(exhibit.folder.join("manifest.json"))?.len();
    let sealed = NewEntry::new(EntryType::BUNDLE_SEALED).exhibit(&exhibit.id).subject(
        "manifest.json",
        length,
        manifest,
    );
    case.append(sealed, writer)?;
    Ok(())
}

/// Where an acquisition goes, and by whose hand.
struct Place<'a> {
    case: &'a Case,
    exhibit: &'a Exhibit,
    name: &'a str,
    writer: &'a Writer<'a>,
    into: &'a Into,
    session: &'a Session,
    #[cfg(feature = "cloud")]
    store: Option<ChosenStore>,
}

fn run_in(
    place: &Place<'_>,
    plan: impl FnOnce(Destination) -> Acquisition<'static>,
    resumes: bool,
) -> Result<Report, Failure> {
    let Place { case, exhibit, name, writer, into, session, .. } = place;
    let destination = Destination {
        folder: exhibit.folder.clone(),
        exhibit: exhibit.id.clone(),
        name: (*name).to_owned(),
        case: Some(case.file().id.clone()),
    };
    let mut options = PipelineOptions::default();
    (options.cut.chunk_size, options.level) = (into.chunk_size, into.level);
    let bars = Bars::new(session.ui, Unit::Bytes);
    let plan: Acquisition<'_> = plan(destination);
    let plan = plan.options(options).encrypted_to(recipients(&into.encrypt_to)?);
    let plan = plan.command_line(&identity::command_line());
    let plan = plan.progress(&bars).stop_when(interrupt::pause_flag()?);
    #[cfg(feature = "cloud")]
    let mirror = place.store.as_ref().map(ChosenStore::mirror);
    #[cfg(feature = "cloud")]
    let (plan, by_store) = match &place.store {
        Some(store) => {
            let opened = store.open(&exhibit.folder, resumes)?;
            let plan = plan.told("to", opened.place().to_string()).store(opened);
            let writer = (*writer).clone();
            (plan, mirror.iter().fold(writer, |writer, mirror| writer.mirrored_by(mirror)))
        }
        None => (plan, (*writer).clone()),
    };
    #[cfg(not(feature = "cloud"))]
    let by_store = (*writer).clone();
    let report = if resumes { plan.resume(&by_store) } else { plan.run(&by_store) };
    drop(bars);
    let report = report.map_err(|error| {
        let kept = format!("what was read is kept in {}, which stays OPEN", exhibit.folder.display());
        let open = OpenAcquisition::in_folder(&exhibit.folder).ok().flatten();
        let kept_journal = |kind: &serde_json::Value| kind == "disk" || kind == "ebs";
        let is_disk = open.is_some_and(|open| open.source.get("kind").is_some_and(kept_journal));
        #[cfg(feature = "cloud")]
        let is_of_cloud = matches!(error, acquire::Error::Cloud(_));
        #[cfg(not(feature = "cloud"))]
        let is_of_cloud = false;
        let can_resume = (matches!(error, acquire::Error::Paused) || is_of_cloud)
            && is_disk
            && exhibit.folder.join("journal").is_file();
        let failure = Failure::new(error).hint(kept);
        if can_resume { failure.hint("the same command with --resume goes on from there") } else { failure }
    })?;
    seal_in_case(case, exhibit, report.manifest_sha256, writer)?;
    if into.verify_after {
        verify_after(case, exhibit, writer, into, session)?;
    }
    Ok(report)
}

/// Reads back from the disk all that was written, and says whether it is what was read, and how much of it could be checked.
fn verify_after(
    case: &Case,
    exhibit: &Exhibit,
    writer: &Writer<'_>,
    into: &Into,
    session: &Session,
) -> Result<Verification, Failure> {
    let bars = Bars::waiting(session.ui, "reading back");
    drop_from_cache(&exhibit.folder);
    let verification = custody::verify::verify(&exhibit.folder, &read_back(into, session)?)?;
    drop(bars);
    let entry = NewEntry::new(EntryType::VERIFY_RESULT)
        .exhibit(&exhibit.id)
        .how("command", "acquire --verify-after")
        .result("verdict", verdict_words(&verification))
        .result("faults", verification.fault_count)
        .result("stream_bytes", verification.counts.stream_bytes);
    case.append(entry, writer)?;
    if verification.fault_count > 0 {
        for fault in &verification.faults {
            session.ui.warn(&fault.to_string());
        }
        return Err(Failure::new(format!(
            "what was written to {} is not what was read: {}",
            exhibit.folder.display(),
            ui::count(verification.fault_count, "fault", "faults")
        ))
        .hint("the disk that holds the case may be failing; acquire again to another one"));
    }
    session.ui.say(&format!("read back and verified: {}", verdict_words(&verification)));
    Ok(verification)
}

/// How a bundle is read back: from its evidence store, if it went there.
fn read_back(into: &Into, session: &Session) -> Result<custody::verify::Options, Failure> {
    let identities = session.identities()?.clone();
    let options = custody::verify::Options { identities, ..custody::verify::Options::default() };
    #[cfg(feature = "cloud")]
    let options = custody::verify::Options {
        remote: Some(std::sync::Arc::new(crate::store_reading::Stores::new(&into.store.cloud, session.ui))),
        ..options
    };
    #[cfg(not(feature = "cloud"))]
    let _ = into;
    Ok(options)
}

/// Whom the data is encrypted to: recipients, or files that list them.
pub(super) fn recipients(words: &[String]) -> Result<Recipients, Failure> {
    let mut recipients = Recipients::default();
    for word in words {
        let path = Path::new(word);
        let added = if path.is_file() { recipients.add_file(path) } else { recipients.add(word) };
        added.map_err(|error| {
            Failure::usage(format!("--encrypt-to: {}", chain(&error)))
                .hint("give an age recipient (age1…), as `age-keygen -y KEY` prints it, or a file of them")
        })?;
    }
    Ok(recipients)
}

/// Asks the system to forget what it holds of the stored files, so that the disk itself is read.
fn drop_from_cache(bundle: &Path) {
    let mut folders = vec![bundle.join("data")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                Ok(_) => {
                    if let Ok(file) = std::fs::File::open(entry.path()) {
                        // Advice: where it is not taken, the bytes are read from memory.
                        let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
                    }
                }
                Err(_) => {}
            }
        }
    }
}

/// Prints the closing summary, and the bundle's path last on stdout.
fn show(report: &Report, ui: Ui) -> Result<Outcome, Failure> {
    show_with(report, serde_json::Map::new(), ui)
}

/// As [`show`], with further fields for programs.
fn show_with(
    report: &Report,
    more: serde_json::Map<String, serde_json::Value>,
    ui: Ui,
) -> Result<Outcome, Failure> {
    if ui.is_json() {
        let issues: Vec<_> = report
            .issues
            .iter()
            .map(|issue| json!({"path": issue.path, "offset": issue.offset, "length": issue.length, "what": issue.what}))
            .collect();
        let streams: Vec<_> = report
            .streams
            .iter()
            .map(|stream| json!({"stream": stream.name, "size": stream.size, "sha256": stream.sha256.to_string(), "states": stream.states}))
            .collect();
        let mut document = json!({
            "bundle": report.bundle.display().to_string(), "streams": streams, "issues": issues,
            "issue_count": report.issue_count, "facts": report.facts, "manifest_sha256": report.manifest_sha256.to_string(),
            "seconds": report.seconds,
        });
        if let (Some(place), Some(fields)) = (RemotePlace::read(&report.bundle)?, document.as_object_mut()) {
            fields.insert("place".to_owned(), place.to_string().into());
            fields.insert("left_behind".to_owned(), report.left_behind.clone().into());
        }
        // Where there is one stream, as there mostly is, its facts need no search.
        if let ([stream], Some(fields)) = (streams.as_slice(), document.as_object_mut()) {
            fields.extend(stream.as_object().cloned().unwrap_or_default());
        }
        if let Some(fields) = document.as_object_mut() {
            fields.extend(more);
        }
        ui.document(&document)?;
    } else {
        say(report, ui);
        if let Some(place) = RemotePlace::read(&report.bundle)? {
            ui.data(&place.to_string())?;
        }
        ui.data(&report.bundle.display().to_string())?;
    }
    Ok(if report.issue_count > 0 { Outcome::WithIssues } else { Outcome::Done })
}

/// The closing summary in plain words.
pub(crate) fn say(report: &Report, ui: Ui) {
    const SHOWN: usize = 5;
    let size: u64 = report.streams.iter().map(|stream| stream.size).sum();
    let segments = report.streams.iter().flat_map(|stream| &stream.segments);
    let stored: u64 = segments.map(|segment| segment.size).sum();
    let rate = if report.seconds > 0.0 { (size as f64 / report.seconds) as u64 } else { 0 };
    let files = report
        .files
        .as_ref()
        .map_or_else(String::new, |counts| format!(" from {}", ui::count(counts.files, "file", "files")));
    ui.say(&format!(
        "acquired {}{files} in {:.1} s ({}/s), stored in {}",
        ui::bytes(size),
        report.seconds,
        ui::bytes(rate),
        ui::bytes(stored)
    ));
    let sums = report.states();
    let states: Vec<String> =
        [State::Data, State::Zero, State::Absent, State::Unreadable, State::Skipped, State::Base]
            .into_iter()
            .filter(|state| sums.of(*state) > 0)
            .map(|state| format!("{} {}", ui::bytes(sums.of(state)), state.word()))
            .collect();
    if size == 0 {
        ui.warn("the source holds no byte");
    }
    if !states.is_empty() {
        ui.say(&format!("every byte is accounted for: {}", states.join(", ")));
    }
    if report.streams.iter().any(|stream| stream.is_encrypted()) {
        ui.say("the data is encrypted: it can be read only with a key of its recipients");
    }
    match report.streams.as_slice() {
        [stream] => ui.say(&format!("SHA-256 {}", stream.sha256)),
        streams => {
            for stream in streams {
                ui.say(&format!("SHA-256 {} of {}", stream.sha256, stream.name));
            }
        }
    }
    for left in &report.left_behind {
        ui.warn(left);
    }
    memory::say(report, ui);
    for issue in report.issues.iter().take(SHOWN) {
        let place = issue.offset.map_or_else(String::new, |offset| format!(" at byte {offset}"));
        ui.warn(&format!("{}{place}: {}", issue.path, issue.what));
    }
    if report.issue_count > SHOWN as u64 {
        ui.warn(&format!(
            "{} more are in the bundle's tables",
            ui::count(report.issue_count - SHOWN as u64, "issue", "issues")
        ));
    }
}

fn default_name(source: &Path, what: &str) -> String {
    let stem = source.file_stem().map(|stem| stem.to_string_lossy().into_owned()).filter(|stem| stem != "-");
    stem.map_or_else(
        || what.to_owned(),
        |stem| if stem.contains(what) { stem } else { format!("{stem}-{what}") },
    )
}

/// `512KiB`, `1MiB` or a number of bytes.
fn chunk_size(text: &str) -> Result<u32, String> {
    let (digits, unit) = match text.find(|c: char| !c.is_ascii_digit()) {
        Some(at) => text.split_at(at),
        None => (text, ""),
    };
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        _ => return Err("write it like 512KiB or 1MiB".to_owned()),
    };
    let bytes = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(factor)).unwrap_or(0);
    match u32::try_from(bytes) {
        Ok(size) if size.is_power_of_two() && ((64 << 10)..=(16 << 20)).contains(&size) => Ok(size),
        _ => Err("it must be a power of two from 64KiB to 16MiB".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunk_sizes_are_powers_of_two_within_their_bounds() {
        assert_eq!(chunk_size("512KiB"), Ok(512 << 10));
        assert_eq!(chunk_size("65536"), Ok(65536));
        for bad in ["32KiB", "3MiB", "32MiB", "x", "18446744073709551615M", ""] {
            assert!(chunk_size(bad).is_err(), "{bad}");
        }
    }
}
