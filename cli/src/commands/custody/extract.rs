//! `exhibit custody extract`: one exhibit, one file or one entry leaves the case with its proof, and nothing else.

use std::path::{Path, PathBuf};

use custody::aftercare::{Disclosed, NewDisclosure, Origin};
use custody::proof::{Extract, extract_entry, extract_exhibit, extract_file};
use custody::verify::{LogCopy, Options};
use serde_json::json;

use super::{append_to_case, prove};
use crate::failure::{Failure, Outcome};
use crate::session::Session;
use crate::target::{Target, exhibit_of};
use crate::ui;

/// Let one exhibit, one file or one entry leave the case, with its proof and nothing else
///
/// Makes a new folder with the bytes, the proof, the signed checkpoint, the log's public key, and VERIFY.md with the
/// commands that check it and what goes along. A file brings no other file's name or content with it. That it was given
/// out is recorded in the case's log.
///
/// Example: exhibit custody extract ir-2026-017:E001 --file /var/log/auth.log -o for-defence --to "Defence: A. Roe"
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("part").args(["exhibit", "file", "entry"]).required(true)))]
pub(crate) struct Args {
    /// CASE, a bundle's folder, or CASE:E001
    #[arg(value_name = "CASE|BUNDLE")]
    target: String,
    /// The whole exhibit of this id
    #[arg(long, value_name = "E001")]
    exhibit: Option<String>,
    /// The file of this path, as the bundle's catalogue has it
    #[arg(long, value_name = "PATH")]
    file: Option<String>,
    /// The entry of this number, of the log of what is named
    #[arg(long, value_name = "N")]
    entry: Option<u64>,
    /// The folder to make
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// To whom it is given
    #[arg(long, value_name = "WHOM")]
    to: String,
    /// How it goes: by hand, by an upload, on a disk with this seal
    #[arg(long, value_name = "TEXT", default_value = "")]
    means: String,
    /// The request, order or schedule it answers
    #[arg(long, value_name = "TEXT", default_value = "")]
    reference: String,
    /// By what rule or order
    #[arg(long, value_name = "TEXT", default_value = "")]
    authority: String,
    /// What for
    #[arg(long, value_name = "TEXT", default_value = "")]
    purpose: String,
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Failure> {
    let target = Target::open(&args.target)?;
    let around = target.case().map_or_else(|| target.folder(), custody::Case::folder);
    let parent = args.output.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if let (Ok(inner), Ok(outer)) = (parent.canonicalize(), around.canonicalize())
        && inner.starts_with(outer)
    {
        return Err(Failure::usage(format!("{:?} lies within the case", args.output))
            .hint("what leaves a case lies outside it"));
    }
    // Told before any work is done.
    let mut new = disclosure(args);
    if new.to.trim().is_empty() {
        return Err(Failure::usage("--to does not say to whom it is given"));
    }
    let (extract, origin) = make(args, &target, session)?;
    let (id, size, sha256) = extract.given.clone();
    new.exhibit.clone_from(&extract.exhibit);
    new.items.push(Disclosed { id, size, sha256, origin: Some(origin) });
    let recorded = match target.case() {
        Some(_) => Some(append_to_case(&target, &new.entry()?, session)?.seq),
        None => None,
    };
    if session.ui.is_json() {
        let (id, size, sha256) = &extract.given;
        session.ui.document(&json!({
            "folder": extract.folder.display().to_string(), "given": id, "size": size, "sha256": sha256.to_string(),
            "recorded_by_entry": recorded,
        }))?;
        return Ok(Outcome::Done);
    }
    let (_, size, sha256) = &extract.given;
    session.ui.say(&format!("{}, SHA-256\n  {sha256}", ui::bytes(*size)));
    match recorded {
        Some(seq) => session.ui.say(&format!("recorded as entry {seq} of the case")),
        None => session.ui.warn("not logged: it is in no case"),
    }
    session.ui.data(&ui::printable(&extract.folder.display().to_string(), false))?;
    Ok(Outcome::Done)
}

fn disclosure(args: &Args) -> NewDisclosure {
    NewDisclosure {
        to: args.to.clone(),
        means: args.means.clone(),
        reference: args.reference.clone(),
        authority: args.authority.clone(),
        purpose: args.purpose.clone(),
        ..NewDisclosure::default()
    }
}

/// Makes the folder; gives what is in it and where that was.
fn make(args: &Args, target: &Target, session: &Session) -> Result<(Extract, Origin), Failure> {
    if let Some(id) = &args.exhibit {
        let Target::Case(case) = target else {
            return Err(
                Failure::usage("--exhibit is of a case").hint("give the case, not one of its bundles")
            );
        };
        let id = exhibit_of(case, id)?.id;
        let options = Options { identities: session.identities()?.clone(), ..Options::default() };
        let extract = extract_exhibit(case, &id, &options, &args.output)?;
        return Ok((extract, Origin { words: format!("{id}: manifest.json"), entry: None }));
    }
    if let Some(path) = &args.file {
        let prover = prove::prover(target, session)?;
        let found = prover.find_file(path)?;
        let extract = extract_file(&prover, &found, &args.output)?;
        let id = &prover.bundle().manifest().exhibit;
        let words = format!("{id}: {} in the stream {}", found.entry.path, found.stream);
        return Ok((extract, Origin { words, entry: None }));
    }
    let seq = args.entry.ok_or_else(|| Failure::usage("nothing to extract was named"))?;
    let extract = extract_entry(&LogCopy::read(target.folder())?, seq, &args.output)?;
    let (words, entry) = match target {
        Target::Case(_) => (format!("entry {seq}"), Some(seq)),
        Target::Bundle { .. } => (format!("entry {seq} of the bundle's log"), None),
    };
    Ok((extract, Origin { words, entry }))
}
