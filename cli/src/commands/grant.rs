//! `exhibit grant`: lets a host without any credential write one exhibit to an evidence store.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use acquire::s3_reader::S3Reader;
use acquire::s3_store::{Closed, Grant, Granted, GrantedKind, close, give_up, issue, renew};
use custody::bundle::{RemotePlace, RemoteStore as _, fetch_all_but_data};
use custody::{Case, EntryType, Exhibit, MirrorState, NewEntry, Writer, case_layout, sha256};
use serde_json::json;

use crate::amounts;
use crate::cloud_args::CloudArgs;
use crate::failure::{Failure, Outcome};
use crate::secret_text;
use crate::session::Session;
use crate::store_writing::{LockArgs, choose};
use crate::target;
use crate::ui;

/// What a sealed bundle is known by.
const MANIFEST: &str = "manifest.json";

/// Let a host without any cloud credential write one exhibit to an evidence store
///
/// The grant is a file of signed addresses: for some hours, whoever has it can put the objects of this one exhibit, each
/// once, and can neither read, list, replace nor remove anything. On the host: `exhibit acquire disk /dev/sda --grant FILE`.
/// When that has ended, `exhibit grant --close FILE --case CASE` takes the exhibit into the case and gives up what was
/// begun and not used. A grant that ran out midway is renewed with --renew, and the host goes on with --resume. Where making
/// one was interrupted, or its file is lost, --close E001 --give-up gives up what was begun for that exhibit.
///
/// Example: exhibit grant --case ir-17 --to s3://evidence/ir-17 --hours 2 --size 100GiB -o web01.grant
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("act").required(true).args(["to", "renew", "close"])))]
pub(crate) struct Args {
    /// The case that the exhibit becomes one of
    #[arg(long)]
    case: PathBuf,
    /// Make a grant for this S3 bucket and prefix
    #[arg(long, value_name = "s3://BUCKET/PREFIX", requires = "output")]
    to: Option<String>,
    /// Make a grant anew that has ended, or is about to: for the same exhibit and the uploads that were begun for it
    #[arg(long, value_name = "GRANT", requires = "output")]
    renew: Option<PathBuf>,
    /// End a grant: take what came into the case, and give up what was begun and not used. Where there is no file of it, the
    /// exhibit's id
    #[arg(long, value_name = "GRANT")]
    close: Option<PathBuf>,
    /// With --close: also where the exhibit is not sealed and the grant has not ended
    #[arg(long, requires = "close")]
    give_up: bool,
    /// How long it holds: 1 to 168
    #[arg(long, default_value_t = 2, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=168))]
    hours: u64,
    /// Bytes that the host may acquire, before compression
    #[arg(long, default_value = "100GiB", value_name = "SIZE", value_parser = amounts::part)]
    size: u64,
    /// What the host may acquire: container, disk, logs, memory or triage
    #[arg(long, default_value = "disk", value_name = "KIND", value_parser = kind)]
    kind: GrantedKind,
    /// The exhibit's name [default: the kind]
    #[arg(long, value_parser = clap::builder::NonEmptyStringValueParser::new())]
    name: Option<String>,
    /// Encrypt the exhibit to this age recipient (age1…); may be given again
    #[arg(long, value_name = "RECIPIENT")]
    encrypt_to: Vec<String>,
    /// Where the grant is written to; it must not be there yet, and is a secret
    #[arg(short, long, value_name = "FILE", conflicts_with = "close")]
    output: Option<PathBuf>,
    #[command(flatten)]
    lock: LockArgs,
    #[command(flatten)]
    cloud: CloudArgs,
}

fn kind(word: &str) -> Result<GrantedKind, String> {
    let found = GrantedKind::ALL.into_iter().find(|kind| kind.word() == word);
    found.ok_or_else(|| "it is container, disk, logs, memory or triage".to_owned())
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Failure> {
    let case = target::open_case(&args.case)?;
    let key = session.key()?;
    let writer = session.writer(&key, Some(&case));
    match (&args.to, &args.renew, &args.close) {
        (Some(to), _, _) => make(args, to, &case, &writer, session),
        (_, Some(grant), _) => make_again(args, grant, &case, &writer, session),
        (_, _, Some(grant)) => end(args, grant, &case, &writer, session),
        _ => Err(Failure::usage("name a place with --to, or a grant with --renew or --close")),
    }
}

/// Reads a grant from its file.
pub(crate) fn read(file: &Path) -> Result<Grant, Failure> {
    let text = secret_text::read_long(file, "the grant")?;
    Ok(Grant::from_bytes(text.as_bytes())?)
}

/// Writes a grant, for its owner only. Nothing that is there is overwritten.
fn write(grant: &Grant, file: &Path) -> Result<(), Failure> {
    let bytes = grant.to_bytes()?;
    let written =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(file).and_then(|mut file| {
            file.write_all(&bytes)?;
            file.sync_all()
        });
    written
        .map_err(|error| Failure::new(format!("the grant cannot be written to {}: {error}", file.display())))
}

fn lasts(args: &Args) -> Duration {
    Duration::from_secs(args.hours * 3600)
}

fn output(args: &Args) -> Result<&Path, Failure> {
    let output =
        args.output.as_deref().ok_or_else(|| Failure::usage("say with -o where the grant is written to"))?;
    if output.exists() {
        return Err(Failure::usage(format!("{} is there already", output.display())));
    }
    Ok(output)
}

fn make(
    args: &Args,
    to: &str,
    case: &Case,
    writer: &Writer<'_>,
    session: &Session,
) -> Result<Outcome, Failure> {
    let output = output(args)?;
    super::acquire::recipients(&args.encrypt_to)?;
    let store = choose(to, &args.lock, &args.cloud, session.ui)?;
    let name = args.name.clone().unwrap_or_else(|| args.kind.word().to_owned());
    let exhibit = case.reserve_exhibit(&name)?;
    let folder_name = exhibit.folder.file_name().unwrap_or_default().to_string_lossy();
    let place = store.place.below(&folder_name)?;
    let granted = Granted {
        case: case.file().id.clone(),
        examiner: case.file().examiner.clone(),
        organisation: case.file().organisation.clone(),
        exhibit: exhibit.id.clone(),
        name,
        kind: args.kind,
        size: args.size,
        encrypt_to: args.encrypt_to.clone(),
    };
    // Before anything is begun there: whatever ends this process, the log says where to look for it.
    let begun = about(&granted, &place, "begun", args.hours);
    case.append(begun, writer).inspect_err(|_| free(&exhibit))?;
    let made = issue(&store.connection, &place, &granted, lasts(args)).map_err(|error| match error {
        acquire::Error::GrantLeft { left, source } => (Failure::new(source), left),
        error => (Failure::new(error), Vec::new()),
    });
    let made = made.and_then(|grant| match write(&grant, output) {
        Ok(()) => Ok(grant),
        // Without its file nobody could ever give them up.
        Err(failure) => Err((failure, close(&store.connection, &grant).left)),
    });
    let grant = match made {
        Ok(grant) => grant,
        Err((failure, left)) => {
            return Err(not_made(&granted, &place, &exhibit, failure, left, case, writer));
        }
    };
    note(case, &grant, "issued", args.hours, writer)?;
    told(&grant, output, args, session)
}

/// Nothing came of an exhibit whose folder is empty: its number is free again.
fn free(exhibit: &Exhibit) {
    let _ = std::fs::remove_dir(&exhibit.folder);
}

/// Tells the log and the person that no grant was made, and what is left of it in the store.
fn not_made(
    granted: &Granted,
    place: &RemotePlace,
    exhibit: &Exhibit,
    failure: Failure,
    left: Vec<String>,
    case: &Case,
    writer: &Writer<'_>,
) -> Failure {
    let entry = NewEntry::new(EntryType::APPROVAL_GIVEN)
        .exhibit(&granted.exhibit)
        .how("command", "grant")
        .how("act", "not issued")
        .how("to", place.to_string())
        .error("why", failure.words());
    let entry = if left.is_empty() { entry } else { entry.error("left_in_store", left.clone()) };
    let failure = match case.append(entry, writer) {
        Ok(_) => failure,
        Err(error) => failure.hint(format!("the case's log does not say so: {error}")),
    };
    if left.is_empty() {
        free(exhibit);
        return failure;
    }
    let failure = left.into_iter().fold(failure, Failure::hint);
    failure.hint(format!(
        "to give up what is left: exhibit grant --close {} --give-up --case …",
        granted.exhibit
    ))
}

fn make_again(
    args: &Args,
    file: &Path,
    case: &Case,
    writer: &Writer<'_>,
    session: &Session,
) -> Result<Outcome, Failure> {
    let output = output(args)?;
    let before = read(file)?;
    exhibit_of(case, &before)?;
    let connection = args.cloud.connect_to(before.place())?;
    let grant = renew(&connection, &before, lasts(args))?;
    write(&grant, output)?;
    note(case, &grant, "renewed", args.hours, writer)?;
    told(&grant, output, args, session)
}

fn about(granted: &Granted, place: &RemotePlace, what: &str, hours: u64) -> NewEntry {
    NewEntry::new(EntryType::APPROVAL_GIVEN)
        .exhibit(&granted.exhibit)
        .how("command", "grant")
        .how("act", what)
        .how("to", place.to_string())
        .how("kind", granted.kind.word())
        .how("size", granted.size)
        .how("hours", hours)
}

fn note(case: &Case, grant: &Grant, what: &str, hours: u64, writer: &Writer<'_>) -> Result<(), Failure> {
    let entry = about(&grant.granted(), grant.place(), what, hours).how("until", grant.expires());
    case.append(entry, writer)?;
    Ok(())
}

fn told(grant: &Grant, output: &Path, args: &Args, session: &Session) -> Result<Outcome, Failure> {
    let granted = grant.granted();
    if session.ui.is_json() {
        session.ui.document(&json!({
            "grant": output.display().to_string(), "exhibit": granted.exhibit, "name": granted.name,
            "kind": granted.kind.word(), "place": grant.place().to_string(), "until": grant.expires(),
            "size": granted.size,
        }))?;
        return Ok(Outcome::Done);
    }
    session.ui.say(&format!("{} is granted in {}: {}", granted.exhibit, grant.place(), grant.limits()));
    session.ui.say(
        "the file is a secret: whoever has it can write to that place; remove it from the host after use",
    );
    let what = match granted.kind {
        GrantedKind::Container => "container ID",
        GrantedKind::Disk => "disk /dev/sda",
        GrantedKind::Logs => "logs /var/log",
        other => other.word(),
    };
    session.ui.say(&format!("on the host: exhibit acquire {what} --grant {}", output.display()));
    session.ui.say(&format!(
        "afterwards: exhibit grant --close {} --case {}",
        output.display(),
        args.case.display()
    ));
    session.ui.data(&output.display().to_string())?;
    Ok(Outcome::Done)
}

/// The exhibit of the case that a grant is for.
fn exhibit_of(case: &Case, grant: &Grant) -> Result<Exhibit, Failure> {
    let granted = grant.granted();
    if granted.case != case.file().id {
        return Err(Failure::usage(format!("the grant is for case {}, not for this one", granted.case)));
    }
    Ok(case.exhibit(&granted.exhibit)?)
}

fn end(
    args: &Args,
    file: &Path,
    case: &Case,
    writer: &Writer<'_>,
    session: &Session,
) -> Result<Outcome, Failure> {
    if let Some(id) = file.to_str().filter(|id| case_layout::exhibit_number(id).is_some() && !file.exists()) {
        return end_without_file(args, id, case, writer, session);
    }
    let grant = read(file)?;
    let exhibit = exhibit_of(case, &grant)?;
    let connection = args.cloud.connect_to(grant.place())?;
    let reader = S3Reader::open(&connection, &grant.place().bucket, &grant.place().prefix)?;
    let files = reader.listing().files.clone();
    let is_whole =
        ["manifest.json", "manifest.json.sig", "SHA256SUMS"].iter().all(|name| files.contains_key(*name));
    if !is_whole && !grant.has_ended() && !args.give_up {
        return Err(Failure::new(format!(
            "{} is not sealed yet: its acquisition may be under way",
            granted_in(&grant)
        ))
        .hint(format!(
            "the grant holds until {}; wait for the end of it, or say --give-up",
            grant.expires()
        )));
    }
    let has_log = files.keys().any(|path| path.starts_with("custody/"));
    if has_log {
        take_in(case, &exhibit, &grant, &reader, is_whole, args.give_up, writer, session)?;
    }
    let closed = close(&connection, &grant);
    let bytes: u64 = files.values().sum();
    let entry = ended(&exhibit, grant.place(), &closed)
        .result("sealed", is_whole)
        .result("objects", files.len())
        .result("bytes", bytes);
    case.append(entry, writer)?;
    for left in &closed.left {
        session.ui.warn(left);
    }
    if session.ui.is_json() {
        session.ui.document(&json!({
            "exhibit": exhibit.id, "place": grant.place().to_string(), "sealed": is_whole, "objects": files.len(),
            "bytes": bytes, "uploads_given_up": closed.aborted, "left_behind": closed.left,
        }))?;
    } else {
        session.ui.say(&format!(
            "{} objects came to {}, {}; {} were begun and not used, and given up",
            files.len(),
            grant.place(),
            ui::bytes(bytes),
            ui::count(closed.aborted, "upload", "uploads")
        ));
        match (has_log, is_whole) {
            (false, _) => session.ui.warn(&format!("nothing was acquired with it: {} stays empty", exhibit.id)),
            (true, false) => session.ui.warn(&format!(
                "{} was not sealed: it is in the case as it came, and stays OPEN; its tables are still on the host",
                exhibit.id
            )),
            (true, true) => session.ui.say(&format!(
                "{} is in the case; its data stays in the store: exhibit verify {} --remote reads it",
                exhibit.id,
                args.case.display()
            )),
        }
        session.ui.data(&exhibit.folder.display().to_string())?;
    }
    Ok(if is_whole && closed.left.is_empty() { Outcome::Done } else { Outcome::WithIssues })
}

/// What the log is told of the end of a grant.
fn ended(exhibit: &Exhibit, place: &RemotePlace, closed: &Closed) -> NewEntry {
    let entry = NewEntry::new(EntryType::APPROVAL_GIVEN)
        .exhibit(&exhibit.id)
        .how("command", "grant --close")
        .how("act", "closed")
        .how("to", place.to_string())
        .result("uploads_given_up", closed.aborted);
    if closed.left.is_empty() { entry } else { entry.error("left_in_store", closed.left.clone()) }
}

/// Gives up what was begun for an exhibit whose grant was never written, or is lost.
fn end_without_file(
    args: &Args,
    id: &str,
    case: &Case,
    writer: &Writer<'_>,
    session: &Session,
) -> Result<Outcome, Failure> {
    let entries = case.log().read()?.entries;
    let to = entries.iter().rev().map(|entry| &entry.about).find_map(|about| {
        let how = |name: &str| about.how.get(name).and_then(serde_json::Value::as_str);
        let is_its = about.exhibit.as_deref() == Some(id) && how("command") == Some("grant");
        how("to").filter(|_| is_its).map(str::to_owned)
    });
    let to = to.ok_or_else(|| {
        Failure::usage(format!("there is no file {id}, and the case's log tells of no grant for {id}"))
    })?;
    if !args.give_up {
        return Err(Failure::usage(format!(
            "without its file nobody can tell whether the grant for {id} has ended"
        ))
        .hint(format!("to give up every upload to {to} that is not ended: add --give-up")));
    }
    let exhibit = case.exhibit(id)?;
    let connection = args.cloud.connect()?;
    let place = RemotePlace::parse(&to)?.on(connection.region(), connection.endpoint())?;
    let closed = give_up(&connection, &place);
    case.append(ended(&exhibit, &place, &closed), writer)?;
    for left in &closed.left {
        session.ui.warn(left);
    }
    if session.ui.is_json() {
        session.ui.document(&json!({
            "exhibit": id, "place": place.to_string(), "uploads_given_up": closed.aborted, "left_behind": closed.left,
        }))?;
    } else {
        let given_up = ui::count(closed.aborted, "upload", "uploads");
        session.ui.say(&format!("{given_up} to {place} were begun and not used, and given up"));
        session.ui.say("objects that came there, if any, are not touched: exhibit verify and pull read them");
    }
    Ok(if closed.left.is_empty() { Outcome::Done } else { Outcome::WithIssues })
}

fn granted_in(grant: &Grant) -> String {
    format!("{} in {}", grant.granted().exhibit, grant.place())
}

/// Brings everything of the bundle but its data into the case. What an interrupted run brought is left as it is.
#[allow(clippy::too_many_arguments, reason = "what is taken in, where from, where to, and who is told")]
fn take_in(
    case: &Case,
    exhibit: &Exhibit,
    grant: &Grant,
    reader: &S3Reader,
    is_whole: bool,
    give_up: bool,
    writer: &Writer<'_>,
    session: &Session,
) -> Result<(), Failure> {
    let folder = &exhibit.folder;
    let coming = folder.with_file_name(format!(".{}.coming", exhibit.id));
    let fetched = fetch(reader, grant.place(), &coming);
    let is_there = std::fs::read_dir(folder)?.next().is_some();
    let taken = fetched.and_then(|()| {
        if is_there {
            return is_same(folder, &coming, give_up, session);
        }
        // All of it gets its name at once, so that an interruption leaves nothing that is half there.
        std::fs::rename(&coming, folder)?;
        Ok(folder.parent().map_or(Ok(()), |all| File::open(all).and_then(|all| all.sync_all()))?)
    });
    // What came is in the store too.
    let _ = std::fs::remove_dir_all(&coming);
    taken?;
    let entries = case.log().read()?.entries;
    let is_told = |kind: &EntryType| {
        entries.iter().any(|entry| entry.kind == *kind && entry.about.exhibit.as_deref() == Some(&exhibit.id))
    };
    if !is_told(&EntryType::EXHIBIT_ADDED) {
        case.add_reserved(exhibit, &grant.granted().name, writer)?;
    }
    if is_whole && !is_told(&EntryType::BUNDLE_SEALED) && folder.join(MANIFEST).is_file() {
        let manifest = std::fs::read(folder.join(MANIFEST))?;
        let sealed = NewEntry::new(EntryType::BUNDLE_SEALED).exhibit(&exhibit.id).subject(
            MANIFEST,
            manifest.len() as u64,
            sha256(&manifest),
        );
        case.append(sealed, writer)?;
    }
    Ok(())
}

/// Gets everything of the bundle but its data into a new folder.
fn fetch(reader: &S3Reader, place: &RemotePlace, coming: &Path) -> Result<(), Failure> {
    match std::fs::remove_dir_all(coming) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        // A run before this one was cut short while it fetched.
        _ => std::fs::create_dir(coming)?,
    }
    fetch_all_but_data(reader, coming)?;
    place.write(coming)?;
    Ok(MirrorState::is_whole(coming)?)
}

/// Whether a folder holds what the store holds, so that nothing is to be taken in: one log may have gone on since.
fn is_same(folder: &Path, coming: &Path, give_up: bool, session: &Session) -> Result<(), Failure> {
    let of = |name: &str| -> std::io::Result<(Vec<u8>, Vec<u8>)> {
        let read = |folder: &Path| match std::fs::read(folder.join(name)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            read => read,
        };
        Ok((read(folder)?, read(coming)?))
    };
    let (manifest, manifest_there) = of(MANIFEST)?;
    let (log, log_there) = of(case_layout::LOG)?;
    let goes_on = !log.is_empty() && (log.starts_with(&log_there) || log_there.starts_with(&log));
    if manifest == manifest_there && goes_on {
        session.ui.warn(&format!(
            "{} holds what came from the store already: the grant was closed before, or closing it was interrupted",
            folder.display()
        ));
        return Ok(());
    }
    let words = format!("{} holds something already, and it is not what the store holds", folder.display());
    if give_up {
        session.ui.warn(&format!("{words}: it stays as it is"));
        return Ok(());
    }
    Err(Failure::new(words).hint(
        "exhibit pull -o DIR brings what the store holds elsewhere; with --give-up the uploads are given up all the same",
    ))
}
