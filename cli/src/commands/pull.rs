//! `exhibit pull`: brings a bundle back from an evidence store.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use custody::bundle::{Manifest, fetch_all_but_data, fetch_data};
use custody::verify::{self, Level, Options, Verification};
use custody::{Case, EntryType, Exhibit, MirrorState, NewEntry};
use serde_json::json;

use super::verify::{print, verdict_words};
use crate::cloud_args::CloudArgs;
use crate::failure::{Failure, Outcome};
use crate::session::Session;
use crate::store_reading::{Opened, RemoteBundle};
use crate::{target, ui};

/// Bring a bundle back from an evidence store, verified while it is written
///
/// Each file is compared with the signed manifest before it gets its name. The log is joined from its objects, the
/// first version of each key counts, and at the end the bundle is verified
/// from its bytes up. A file that is not the one that was sealed never gets its name; the exit code is 3 then. With
/// --case the bundle becomes the exhibit of the case that its manifest says it is.
///
/// Example: exhibit pull s3://evidence/ir-17/E001-web01 -o E001-web01
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The bundle, s3://bucket/prefix/E001-name
    #[arg(value_name = "s3://…")]
    place: String,
    /// The folder to write, which must not be there
    #[arg(short, long, value_name = "DIR", required_unless_present = "case", conflicts_with = "case")]
    output: Option<PathBuf>,
    /// Make it an exhibit of this case
    #[arg(long, value_name = "CASE")]
    case: Option<PathBuf>,
    /// Leave the data in the store: the folder says where it lies
    #[arg(long)]
    no_data: bool,
    #[command(flatten)]
    cloud: CloudArgs,
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Failure> {
    // Before anything is asked for, what would stop it at the end.
    let case = args.case.as_deref().map(target::open_case).transpose()?;
    if let Some(output) = args.output.as_deref().filter(|output| std::fs::symlink_metadata(output).is_ok()) {
        return Err(
            Failure::usage(format!("refusing to overwrite {output:?}")).hint("name a new folder with -o DIR")
        );
    }
    let remote = RemoteBundle::open(&args.place, &args.cloud, session.ui)?;
    let manifest = Manifest::from_bytes(&read(remote.folder.path(), "manifest.json")?);
    let options = Options { identities: session.identities()?.clone(), ..Options::default() };
    // What binds the files to a signature must hold before they are compared with it.
    let sealed = verify::verify_bundle(remote.folder.path(), &options)?;
    let manifest = match manifest {
        Ok(manifest) if sealed.verdict.level > Level::Open => manifest,
        _ => return refused(&sealed, args, session),
    };
    let exhibit = match &case {
        Some(case) => Some(taken_in(case, &manifest, &remote, session)?),
        None => None,
    };
    let folder = match (&args.output, &exhibit) {
        (_, Some(exhibit)) => exhibit.folder.clone(),
        (Some(output), None) => {
            std::fs::create_dir(output)
                .map_err(|error| Failure::new(error).hint(format!("{output:?} could not be made")))?;
            output.clone()
        }
        (None, None) => return Err(Failure::usage("name a folder with -o DIR, or a case with --case CASE")),
    };
    let got = fetch_all_but_data(&*remote.reader, &folder)?;
    let data = if args.no_data {
        remote.place.write(&folder)?;
        // Later entries of the exhibit's log are put there too, behind those that are.
        MirrorState::is_whole(&folder)?;
        custody::bundle::Fetched::default()
    } else {
        match fetch_data(&*remote.reader, &manifest, &folder, &|_| ()) {
            Ok(data) => data,
            Err(custody::Error::Bundle(error @ custody::bundle::Error::Altered { .. })) => {
                session.ui.failure(&Failure::new(error).hint(format!(
                    "what came before it is whole in {folder:?}; `exhibit verify {}` tells of all that is wrong in the store",
                    args.place
                )));
                return Ok(Outcome::NotVerified);
            }
            Err(error) => {
                return Err(
                    Failure::new(error).hint(format!("what was brought back so far lies in {folder:?}"))
                );
            }
        }
    };
    let remote_data = args.no_data.then(|| Arc::new(Opened(Arc::clone(&remote.reader))) as _);
    let done = verify::verify_bundle(&folder, &Options { remote: remote_data, ..options })?;
    let entry = entry(&done, args, (got.files + data.files, got.bytes + data.bytes), exhibit.as_ref());
    session.record_reading(case.as_ref(), entry);
    show(&done, &folder, (got.files + data.files, got.bytes + data.bytes), args, session)
}

/// A small file of the bundle.
fn read(folder: &Path, name: &str) -> Result<Vec<u8>, Failure> {
    match std::fs::read(folder.join(name)) {
        Ok(bytes) => Ok(bytes),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(Failure::new(format!(
            "the bundle is OPEN: the store holds no {name}, so it was never sealed"
        ))
        .hint(
            "`exhibit verify` shows its log; finish it with `exhibit acquire … --resume` where it was begun",
        )),
        Err(error) => Err(error.into()),
    }
}

/// Says why nothing was written.
fn refused(sealed: &Verification, args: &Args, session: &Session) -> Result<Outcome, Failure> {
    if !session.ui.is_json() {
        print(sealed, session.ui)?;
    }
    session.ui.failure(
        &Failure::new(format!(
            "nothing was written: the manifest or the log at {} does not verify",
            args.place
        ))
        .hint("`exhibit verify` reads everything that is there and names each fault"),
    );
    Ok(Outcome::NotVerified)
}

/// Makes room for the bundle in the case that its manifest names.
fn taken_in(
    case: &Case,
    manifest: &Manifest,
    remote: &RemoteBundle,
    session: &Session,
) -> Result<Exhibit, Failure> {
    let file = case.file();
    if manifest.case.as_ref().is_some_and(|of| *of != file.id && *of != file.name) {
        return Err(Failure::usage(format!(
            "{} is of the case {:?}, not of {:?}",
            remote.place,
            manifest.case.as_deref().unwrap_or_default(),
            file.name
        ))
        .hint("bring it into a folder of its own with -o DIR"));
    }
    let folder = custody::case_layout::exhibit_folder_name(&manifest.exhibit, &manifest.name);
    let key = session.key()?;
    case.adopt_exhibit(&folder, &manifest.name, &session.writer(&key, Some(case))).map_err(
        |error| match error {
            custody::Error::WouldOverwrite { path } => {
                Failure::usage(format!("the case has {} already, in {path:?}", manifest.exhibit))
                    .hint("bring it into a folder of its own with -o DIR")
            }
            error => Failure::new(error),
        },
    )
}

/// The entry that tells where the copy came from, and what its check said.
fn entry(
    done: &Verification,
    args: &Args,
    (files, bytes): (u64, u64),
    exhibit: Option<&Exhibit>,
) -> NewEntry {
    let mut entry = NewEntry::new(EntryType::COPY_MADE)
        .how("command", "pull")
        .how("from", args.place.as_str())
        .how("data", if args.no_data { "left in the store" } else { "brought back" })
        .result("verdict", verdict_words(done))
        .result("files", files)
        .result("bytes", bytes)
        .result("log_size", done.log.size);
    if let Some(hash) = done.manifest_sha256 {
        entry = entry.result("copy_manifest_sha256", hash.to_string());
    }
    if let Some(fault) = done.faults.first() {
        entry = entry.error("found", fault.to_string());
    }
    exhibit.into_iter().fold(entry, |entry, exhibit| entry.exhibit(&exhibit.id))
}

fn show(
    done: &Verification,
    folder: &Path,
    (files, bytes): (u64, u64),
    args: &Args,
    session: &Session,
) -> Result<Outcome, Failure> {
    let ui = session.ui;
    if ui.is_json() {
        ui.document(&json!({
            "from": args.place, "folder": folder.display().to_string(), "files": files, "bytes": bytes,
            "data": !args.no_data, "verdict": done.verdict.to_string(), "faults": done.faults,
            "manifest_sha256": done.manifest_sha256.map(|hash| hash.to_string()), "notes": done.notes,
        }))?;
    } else {
        ui.say(&format!(
            "brought back {}, {}, from {}",
            ui::count(files, "file", "files"),
            ui::bytes(bytes),
            args.place
        ));
        ui.say(&format!("{}: {}", verdict_words(done), done.sentence));
        for note in &done.notes {
            ui.say(&ui::printable(&format!("note: {note}"), false));
        }
        for fault in done.faults.iter().take(20) {
            ui.warn(&ui::printable(&fault.to_string(), false));
        }
        ui.data(&folder.display().to_string())?;
    }
    Ok(if done.is_intact() { Outcome::Done } else { Outcome::NotVerified })
}
