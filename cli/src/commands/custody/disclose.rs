//! `exhibit custody disclose`: records what was given to whom, by its hash.

use std::fs::File;
use std::path::Path;

use custody::aftercare::{Day, Disclosed, NewDisclosure, origins};
use custody::bundle::Bundle;
use custody::digest::sha256_of;
use custody::{Case, Digest};
use serde_json::json;

use super::{append_to_case, day};
use crate::failure::{Failure, Outcome};
use crate::session::Session;
use crate::target::{Target, exhibit_of};
use crate::ui;

/// Record what was given to the other side, or to anybody: its SHA-256, to whom, how
///
/// Hashes the very file that is given out, or names the exhibit by its manifest. Says what the case knows of each: an
/// export, a report, a file of an exhibit; a file that nothing in the case has is recorded with a warning.
///
/// Example: exhibit custody disclose ir-2026-017 report.pdf E001 --to "Defence: A. Roe" --reference "Request 3"
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The case
    #[arg(value_name = "CASE")]
    target: String,
    /// Files that are given out, or exhibits by their id
    #[arg(value_name = "FILE|E001", required = true)]
    items: Vec<String>,
    /// To whom
    #[arg(long, value_name = "WHOM")]
    to: String,
    /// The request, order or schedule it answers
    #[arg(long, value_name = "TEXT", default_value = "")]
    reference: String,
    /// How it goes: by hand, by an upload, on a disk with this seal
    #[arg(long, value_name = "TEXT", default_value = "")]
    means: String,
    /// The day it was given, where that is not today: 2026-12-01
    #[arg(long, value_name = "DATE", value_parser = day)]
    on: Option<Day>,
    /// What is kept back, and why
    #[arg(long, value_name = "TEXT", default_value = "")]
    withheld: String,
    /// By what rule or order
    #[arg(long, value_name = "TEXT", default_value = "")]
    authority: String,
    /// What for
    #[arg(long, value_name = "TEXT", default_value = "")]
    purpose: String,
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Failure> {
    let target = Target::open(&args.target)?;
    let Target::Case(case) = &target else {
        return Err(Failure::usage(format!(
            "{:?} is a bundle: a disclosure is recorded in its case",
            args.target
        ))
        .hint("give the case, and the exhibit's id after it: CASE E001"));
    };
    let mut new = NewDisclosure {
        to: args.to.clone(),
        means: args.means.clone(),
        reference: args.reference.clone(),
        on: args.on,
        withheld: args.withheld.clone(),
        authority: args.authority.clone(),
        purpose: args.purpose.clone(),
        ..NewDisclosure::default()
    };
    for item in &args.items {
        let (id, size, sha256) = given(case, item)?;
        new.items.push(Disclosed { id, size, sha256, origin: None });
    }
    if let ([one], [item]) = (args.items.as_slice(), new.items.as_slice())
        && item.id.ends_with("/manifest.json")
    {
        new.exhibit = Some(one.to_ascii_uppercase());
    }
    let hashes: Vec<Digest> = new.items.iter().map(|item| item.sha256).collect();
    for (item, origin) in new.items.iter_mut().zip(origins(case, &hashes)?) {
        item.origin = origin;
    }
    let entry = new.entry().map_err(|error| Failure::usage(error.to_string()))?;
    let appended = append_to_case(&target, &entry, session)?;
    if session.ui.is_json() {
        let items: Vec<_> = new
            .items
            .iter()
            .map(|item| {
                json!({"id": item.id, "size": item.size, "sha256": item.sha256.to_string(),
                       "origin": item.origin.as_ref().map(|origin| origin.words.clone())})
            })
            .collect();
        session.ui.document(&json!({
            "seq": appended.seq, "size": appended.checkpoint.checkpoint.size,
            "root": appended.checkpoint.checkpoint.root.to_string(), "items": items,
        }))?;
        return Ok(Outcome::Done);
    }
    session.ui.say(&format!("entry {} is written and signed", appended.seq));
    for item in &new.items {
        session.ui.say(&format!("{}, {}, SHA-256\n  {}", item.id, ui::bytes(item.size), item.sha256));
        match &item.origin {
            Some(origin) => session.ui.say(&format!("  the case has it: {}", origin.words)),
            None => session.ui.warn(&format!("no exhibit, export or report of the case has {}", item.id)),
        }
    }
    Ok(Outcome::Done)
}

/// Name, size and hash of what is given: an exhibit by its id, else a file.
fn given(case: &Case, item: &str) -> Result<(String, u64, Digest), Failure> {
    let path = Path::new(item);
    let is_id = |item: &str| custody::case_layout::exhibit_number(&item.to_ascii_uppercase()).is_some();
    if is_id(item) && !item.contains('-') && !path.exists() {
        let exhibit = exhibit_of(case, item)?;
        let bundle = Bundle::open(&exhibit.folder)?;
        let size = bundle.store().size_of("manifest.json")?;
        return Ok((format!("{}/manifest.json", exhibit.id), size, bundle.manifest_sha256()));
    }
    let about = std::fs::metadata(path).map_err(|error| {
        Failure::usage(format!("{item:?} is no exhibit of the case and no file: {error}"))
    })?;
    if !about.is_file() {
        return Err(Failure::usage(format!("{path:?} is a folder, which has no hash"))
            .hint("pack it into one file, or name each of its files"));
    }
    let read = |error| Failure::new(format!("failed to read {path:?}: {error}"));
    let hash = sha256_of(File::open(path).map_err(read)?).map_err(read)?;
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    Ok((name, about.len(), hash))
}
