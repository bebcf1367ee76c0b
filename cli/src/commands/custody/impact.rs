//! `exhibit custody impact`: what a faulty version of a tool touched, the notice of it, and the letter about it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use custody::aftercare::{Act, Fault, Impact, NewNotice, VersionSet, Which, find_places, letter};
use custody::case_layout;
use custody::{Case, CustodyLog, Digest};
use serde_json::{Value, json};

use super::refused;
use crate::failure::{Failure, Outcome, chain};
use crate::session::Session;
use crate::ui;

/// Ranges of entries that a table shows of one row; `--json` gives all.
const MOST_RANGES: usize = 8;

/// List every bundle and entry that a faulty version of a tool touched, tell the cases, draft the letters
///
/// Every manifest and entry names the program that wrote it. What does not, or cannot be compared, is listed as
/// unknown and makes the exit code 1. A version is one, 0.3.0, or a range: ">=0.1.0,<0.3.0"; a pre-release comes
/// before its release. What was done outside a case left no entry and cannot be found.
///
/// Example: exhibit custody impact --cases /cases --before 0.3.0 --notice "rotated logs read twice" --reference BUG-17
#[derive(Debug, clap::Args)]
#[command(disable_version_flag = true)]
#[command(group = clap::ArgGroup::new("which").required(true).args(["version", "before", "build"]))]
pub(crate) struct Args {
    /// Cases, or bundles outside a case
    #[arg(value_name = "CASE|BUNDLE", required_unless_present = "cases")]
    targets: Vec<PathBuf>,
    /// Look for cases and bundles in this folder and all below it; may be given again
    #[arg(long, value_name = "DIR")]
    cases: Vec<PathBuf>,
    /// The faulty version, or a range of them
    #[arg(long, value_name = "X")]
    version: Option<String>,
    /// Every version before this one
    #[arg(long, value_name = "X")]
    before: Option<String>,
    /// The faulty build, by the SHA-256 of its file
    #[arg(long, value_name = "SHA256")]
    build: Option<String>,
    /// The program's name
    #[arg(long, value_name = "NAME", default_value = "exhibit")]
    tool: String,
    /// Only this work, which the fault concerns; may be given again
    #[arg(long, value_enum, value_name = "WORK", value_delimiter = ',')]
    act: Vec<Work>,
    /// What is wrong: appended as tool.notice to the log of every case that is touched
    #[arg(long, value_name = "TEXT")]
    notice: Option<String>,
    /// The fault's number in a tracker
    #[arg(long, value_name = "BUG", default_value = "")]
    reference: String,
    /// Draft a letter to the parties of every case that is touched, with blanks for a person
    #[arg(long, requires = "output")]
    letter: bool,
    /// Where the letter goes; a folder where several cases are touched
    #[arg(short, long, value_name = "FILE", requires = "letter")]
    output: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Work {
    /// Taking the evidence
    Acquisition,
    /// Checking it
    Verification,
    /// Building a timeline and asking it
    Timeline,
    /// Exports and copies
    Export,
    /// Reports and disclosures
    Report,
    /// All other entries: handovers, notes, anchors, keys
    Custody,
}

impl From<Work> for Act {
    fn from(work: Work) -> Act {
        match work {
            Work::Acquisition => Act::Acquisition,
            Work::Verification => Act::Verification,
            Work::Timeline => Act::Timeline,
            Work::Export => Act::Export,
            Work::Report => Act::Report,
            Work::Custody => Act::Custody,
        }
    }
}

/// One case or bundle, and what became of it.
struct Place {
    folder: PathBuf,
    impact: Impact,
    /// Whether a notice may be written into it: a loose bundle only when it was named, for it may be a copy.
    may_tell: bool,
    notice: Option<u64>,
    /// What was said of the notice, or why there is none.
    told: String,
    letter: Option<PathBuf>,
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Failure> {
    let fault = Fault {
        tool: args.tool.clone(),
        which: which(args)?,
        acts: args.act.iter().map(|work| Act::from(*work)).collect(),
    };
    if args.notice.as_ref().is_some_and(|text| text.trim().is_empty()) {
        return Err(Failure::usage("--notice is empty: say what is wrong"));
    }
    let (mut places, mut unread) = look(args, &fault)?;
    let touched = places.iter().filter(|place| place.impact.is_touched()).count();
    let failed = match &args.notice {
        Some(text) => tell(&mut places, &fault, text, &args.reference, session)?,
        None => 0,
    };
    if let (true, Some(output)) = (args.letter, &args.output) {
        write_letters(&mut places, &fault, args, output, touched)?;
    }
    unread.sort();
    unread.dedup();
    show(&places, &unread, &fault, session)?;
    if failed > 0 {
        let cases = ui::count(failed, "case", "cases");
        return Err(Failure::new(format!("the notice could not be written in {cases}"))
            .hint("run the command again once that is mended: no case is told the same twice"));
    }
    let unknown = places.iter().any(|place| !place.impact.unknown.is_empty()) || !unread.is_empty();
    Ok(if unknown { Outcome::WithIssues } else { Outcome::Done })
}

fn which(args: &Args) -> Result<Which, Failure> {
    let usage = |error: custody::Error| Failure::usage(error.to_string());
    if let Some(text) = &args.build {
        let hash: Digest = text.parse().map_err(|_| {
            Failure::usage(format!("--build {text:?} is no SHA-256"))
                .hint("give the 64 hexadecimal digits that `sha256sum` prints of the program's file")
        })?;
        return Ok(Which::Build(hash));
    }
    match (&args.version, &args.before) {
        (Some(version), _) => Ok(Which::Versions(VersionSet::parse(version).map_err(usage)?)),
        (None, Some(before)) => Ok(Which::Versions(VersionSet::before(before).map_err(usage)?)),
        (None, None) => Err(Failure::usage("give --version, --before or --build")),
    }
}

/// Looks through everything that was named, each place once.
fn look(args: &Args, fault: &Fault) -> Result<(Vec<Place>, Vec<String>), Failure> {
    let mut unread = Vec::new();
    let mut folders: Vec<(PathBuf, bool)> =
        args.targets.iter().map(|folder| (folder.clone(), true)).collect();
    for folder in &args.cases {
        let found =
            find_places(folder).map_err(|error| Failure::usage(format!("--cases: {}", chain(&error))))?;
        if found.cases.is_empty() && found.bundles.is_empty() {
            unread.push(format!("{}: there is no case and no bundle in it", folder.display()));
        }
        unread.extend(found.unread);
        folders.extend(found.cases.into_iter().chain(found.bundles).map(|folder| (folder, false)));
    }
    let mut seen = BTreeSet::new();
    let mut places = Vec::new();
    for (folder, named) in folders {
        if !seen.insert(folder.canonicalize().unwrap_or_else(|_| folder.clone())) {
            continue;
        }
        let is_case = case_layout::case_file(&folder).is_file();
        let is_bundle = case_layout::log(&folder).is_file() || folder.join("manifest.json").is_file();
        if named && !is_case && !is_bundle {
            return Err(Failure::usage(format!("{folder:?} is neither a case nor a bundle"))
                .hint("to look below a folder, give --cases DIR"));
        }
        let found = if is_case { Impact::of_case(&folder, fault) } else { Impact::of_bundle(&folder, fault) };
        match found {
            Ok(impact) => places.push(Place {
                may_tell: is_case || named,
                folder,
                impact,
                notice: None,
                told: String::new(),
                letter: None,
            }),
            Err(error) => unread.push(format!("{}: {}", folder.display(), chain(&error))),
        }
    }
    Ok((places, unread))
}

/// Appends the notice to every log that is touched; gives in how many that failed.
fn tell(
    places: &mut [Place],
    fault: &Fault,
    text: &str,
    reference: &str,
    session: &Session,
) -> Result<u64, Failure> {
    let key = session.key()?;
    let mut failed = 0;
    for place in places.iter_mut().filter(|place| place.impact.is_touched()) {
        if !place.may_tell {
            place.told =
                "no notice: it lies outside a case and may be a copy; name it to write one".to_owned();
            continue;
        }
        let notice = NewNotice { text, reference, fault, impact: &place.impact };
        if let Some(seq) = notice.told_before()? {
            place.notice = Some(seq);
            place.told = format!("entry {seq} says so already");
            continue;
        }
        let entry = notice.entry().map_err(|error| Failure::usage(error.to_string()))?;
        let appended = if place.impact.case.is_some() {
            Case::open(&place.folder).and_then(|case| case.append(entry, &session.writer(&key, Some(&case))))
        } else {
            CustodyLog::open(&place.folder).and_then(|log| log.append(&entry, &session.writer(&key, None)))
        };
        match appended {
            Ok(appended) => {
                place.notice = Some(appended.seq);
                place.told = format!("notice written and signed as entry {}", appended.seq);
            }
            Err(error) => {
                failed += 1;
                place.told = format!("NO NOTICE: {}", refused(error).words());
            }
        }
    }
    Ok(failed)
}

/// One letter a case, so that no party reads of another's.
fn write_letters(
    places: &mut [Place],
    fault: &Fault,
    args: &Args,
    output: &Path,
    touched: usize,
) -> Result<(), Failure> {
    let failed =
        |path: &Path, error: std::io::Error| Failure::new(format!("failed to write {path:?}: {error}"));
    if touched > 1 {
        std::fs::create_dir_all(output).map_err(|error| {
            failed(output, error).hint("several cases are touched, so -o must be a folder: one letter a case")
        })?;
    }
    let mut names = BTreeSet::new();
    for place in places.iter_mut().filter(|place| place.impact.is_touched()) {
        let path = if touched > 1 {
            let folder = place.folder.canonicalize().unwrap_or_else(|_| place.folder.clone());
            let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let numbered =
                |nth: u32| if nth == 1 { format!("{name}.txt") } else { format!("{name}-{nth}.txt") };
            let free = (1..u32::MAX).map(numbered).find(|name| names.insert(name.clone()));
            output.join(free.unwrap_or(name))
        } else {
            output.to_owned()
        };
        let text = args.notice.as_deref().unwrap_or_default();
        let draft = letter(&place.impact, fault, text, &args.reference, place.notice);
        std::fs::write(&path, draft).map_err(|error| failed(&path, error))?;
        place.letter = Some(path);
    }
    Ok(())
}

fn show(places: &[Place], unread: &[String], fault: &Fault, session: &Session) -> Result<(), Failure> {
    let ui = session.ui;
    if ui.is_json() {
        let places: Vec<Value> = places.iter().map(document).collect::<Result<_, _>>()?;
        return ui.document(&json!({
            "tool": fault.tool, "affected": fault.which.to_string(), "acts": fault.acts, "places": places,
            "unread": unread,
        }));
    }
    for place in places.iter().filter(|place| place.impact.is_touched() || !place.impact.unknown.is_empty()) {
        let impact = &place.impact;
        ui.data(&ui::printable(&format!("{}  {}", impact.name, impact.path), false))?;
        let time = |time: &str| time.get(..16).unwrap_or(time).replace('T', " ");
        let mut rows = Vec::new();
        for bundle in &impact.bundles {
            let what = if bundle.disposed { "bundle (disposed of)" } else { "bundle" };
            rows.push(vec![
                bundle.exhibit.clone(),
                what.to_owned(),
                bundle.name.clone(),
                time(&bundle.created),
                bundle.version.clone(),
            ]);
        }
        for acts in &impact.acts {
            let versions: Vec<&str> = acts.versions.iter().map(String::as_str).collect();
            rows.push(vec![
                acts.log.clone(),
                acts.act.word().to_owned(),
                acts.entries.words(MOST_RANGES),
                time(&acts.first),
                versions.join(", "),
            ]);
        }
        if !rows.is_empty() {
            ui.table(&["log", "work", "entries", "first (UTC)", "version"], rows)?;
        }
        for unknown in &impact.unknown {
            let words = format!("UNKNOWN  {}, {}: {}", unknown.log, unknown.what, unknown.why);
            ui.data(&ui::printable(&words, false))?;
        }
        if !place.told.is_empty() {
            ui.data(&ui::printable(&place.told, false))?;
        }
        if let Some(letter) = &place.letter {
            ui.data(&ui::printable(&format!("letter drafted: {}", letter.display()), false))?;
        }
        ui.data("")?;
    }
    for what in unread {
        ui.warn(&format!("not looked into: {what}"));
    }
    let touched = places.iter().filter(|place| place.impact.is_touched());
    let entries: u64 = touched.clone().flat_map(|place| &place.impact.acts).map(|acts| acts.count).sum();
    let bundles: usize = touched.clone().map(|place| place.impact.bundles.len()).sum();
    ui.say(&format!(
        "touched: {} of {}, {}, {}",
        touched.count(),
        ui::count(places.len() as u64, "place", "places"),
        ui::count(bundles as u64, "bundle", "bundles"),
        ui::count(entries, "entry", "entries"),
    ));
    Ok(())
}

fn document(place: &Place) -> Result<Value, Failure> {
    let mut value = serde_json::to_value(&place.impact)?;
    if let Some(fields) = value.as_object_mut() {
        fields.insert("touched".to_owned(), place.impact.is_touched().into());
        fields.insert("notice".to_owned(), place.notice.into());
        fields.insert("told".to_owned(), place.told.as_str().into());
        fields
            .insert("letter".to_owned(), place.letter.as_ref().map(|path| path.display().to_string()).into());
    }
    Ok(value)
}
