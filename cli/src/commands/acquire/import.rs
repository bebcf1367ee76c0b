//! `exhibit acquire import`

use std::path::PathBuf;

use acquire::import::{Format, Import};
use acquire::{Acquisition, Report};
use custody::bundle::Bundle;
use serde_json::Value;

use super::{Into, acquire_into, default_name};
use crate::failure::Failure;
use crate::session::Session;

/// An image or archive that another tool made: E01, raw, LiME, AVML, UAC, Velociraptor, KAPE
///
/// The files are stored unchanged. Hashes that they store, or that lie beside them (FILE.md5, an imager's log), are
/// checked; what differs is an issue. Of an image in parts, one is enough; a missing one is named.
///
/// Example: exhibit acquire import web01.E01 --case ir-2026-017
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The files; of KAPE, the folder
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// auto, e01, raw, split-raw, lime, avml, uac, velociraptor or kape
    #[arg(long, value_name = "FORMAT", default_value = "auto", value_parser = format_of)]
    format: Chosen,
    #[command(flatten)]
    into: Into,
}

/// A format, or none: then the files tell.
#[derive(Debug, Clone, Copy)]
struct Chosen(Option<Format>);

fn format_of(word: &str) -> Result<Chosen, String> {
    if word == "auto" { Ok(Chosen(None)) } else { word.parse().map(|format| Chosen(Some(format))) }
}

pub(super) fn run(args: &Args, session: &Session) -> Result<Report, Failure> {
    let import = Import::open(&args.files, args.format.0)?;
    let name = args.into.name.clone().unwrap_or_else(|| {
        args.files
            .first()
            .map_or_else(|| "import".to_owned(), |first| default_name(first, import.format().word()))
    });
    let files = import.part_names().len() as u64;
    let found = if args.format.0.is_none() { "taken for" } else { "imported as" };
    let many = if files > 1 { format!(" in {files} parts") } else { String::new() };
    session.ui.say(&format!("{found} {}{many}", import.format()));
    let report = acquire_into(&args.into, &name, session, |to| Acquisition::new(import, to))?;
    let bundle = Bundle::open(&report.bundle)?;
    if let Some(foreign) = bundle.manifest().source.more.get("foreign") {
        say(foreign, session);
    }
    Ok(report)
}

/// Says what the check of the foreign file's own hashes came to.
fn say(foreign: &Value, session: &Session) {
    let words = match foreign.get("check").and_then(Value::as_str) {
        Some("matches") => "its own hashes match its content",
        Some("differs") => "its own hashes DIFFER from its content",
        Some("none stored") => "neither it nor a file beside it states a hash of its content",
        _ => "its own hashes could not be checked",
    };
    session.ui.say(words);
}
