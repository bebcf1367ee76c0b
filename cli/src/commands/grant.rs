//! `exhibit grant`: lets a host without any credential write one exhibit to an evidence store.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use acquire::s3_reader::S3Reader;
use acquire::s3_store::{Grant, Granted, GrantedKind, close, issue, renew};
use custody::bundle::{RemoteStore as _, fetch_all_but_data};
use custody::{Case, EntryType, Exhibit, MirrorState, NewEntry, Writer, sha256};
use serde_json::json;

use crate::amounts;
use crate::cloud_args::CloudArgs;
use crate::failure::{Failure, Outcome};
use crate::secret_text;
use crate::session::Session;
use crate::store_writing::{LockArgs, choose};
use crate::target;
use crate::ui;

/// Let a host without any cloud credential write one exhibit to an evidence store
///
/// The grant is a file of signed addresses: for some hours, whoever has it can put the objects of this one exhibit, each
/// once, and can neither read, list, replace nor remove anything. On the host: `exhibit acquire disk /dev/sda --grant FILE`.
/// When that has ended, `exhibit grant --close FILE --case CASE` takes the exhibit into the case and gives up what was
/// begun and not used. A grant that ran out midway is renewed with --renew, and the host goes on with --resume.
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
    /// End a grant: take what came into the case, and give up what was begun and not used
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
    let made = issue(&store.connection, &place, &granted, lasts(args)).map_err(Failure::new);
    let made = made.and_then(|grant| match write(&grant, output) {
        Ok(()) => Ok(grant),
        Err(failure) => {
            // Without its file nobody could ever give them up.
            let left = close(&store.connection, &grant).left;
            Err(left.into_iter().fold(failure, Failure::hint))
        }
    });
    let grant = made.inspect_err(|_| {
        // Empty, so the number is free again.
        let _ = std::fs::remove_dir(&exhibit.folder);
    })?;
    note(case, &grant, "issued", args.hours, writer)?;
    told(&grant, output, args, session)
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

fn note(case: &Case, grant: &Grant, what: &str, hours: u64, writer: &Writer<'_>) -> Result<(), Failure> {
    let granted = grant.granted();
    let entry = NewEntry::new(EntryType::APPROVAL_GIVEN)
        .exhibit(&granted.exhibit)
        .how("command", "grant")
        .how("act", what)
        .how("to", grant.place().to_string())
        .how("kind", granted.kind.word())
        .how("size", granted.size)
        .how("hours", hours)
        .how("until", grant.expires());
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
        take_in(case, &exhibit, &grant, &reader, is_whole, writer)?;
    }
    let closed = close(&connection, &grant);
    let bytes: u64 = files.values().sum();
    let entry = NewEntry::new(EntryType::APPROVAL_GIVEN)
        .exhibit(&exhibit.id)
        .how("command", "grant --close")
        .how("act", "closed")
        .how("to", grant.place().to_string())
        .result("sealed", is_whole)
        .result("objects", files.len())
        .result("bytes", bytes)
        .result("uploads_given_up", closed.aborted);
    let entry =
        if closed.left.is_empty() { entry } else { entry.error("left_in_store", closed.left.clone()) };
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

fn granted_in(grant: &Grant) -> String {
    format!("{} in {}", grant.granted().exhibit, grant.place())
}

/// Brings everything of the bundle but its data into the case.
fn take_in(
    case: &Case,
    exhibit: &Exhibit,
    grant: &Grant,
    reader: &S3Reader,
    is_whole: bool,
    writer: &Writer<'_>,
) -> Result<(), Failure> {
    let folder = &exhibit.folder;
    if std::fs::read_dir(folder)?.next().is_some() {
        return Err(Failure::new(format!("{} holds something already", folder.display())).hint(
            "the grant was closed before, or closing it was interrupted: what lies there came from the store",
        ));
    }
    fetch_all_but_data(reader, folder)?;
    grant.place().write(folder)?;
    MirrorState::is_whole(folder)?;
    case.add_reserved(exhibit, &grant.granted().name, writer)?;
    if is_whole {
        let manifest = std::fs::read(folder.join("manifest.json"))?;
        let sealed = NewEntry::new(EntryType::BUNDLE_SEALED).exhibit(&exhibit.id).subject(
            "manifest.json",
            manifest.len() as u64,
            sha256(&manifest),
        );
        case.append(sealed, writer)?;
    }
    Ok(())
}
