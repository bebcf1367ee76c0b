//! `exhibit custody checkpoint`: the newest signed checkpoint, or a receipt for it.

use std::path::{Path, PathBuf};

use custody::anchors::{CosignRequest, Receipt};
use custody::{CustodyLog, LogContents, SignedCheckpoint};
use serde_json::json;

use crate::failure::{Failure, Outcome};
use crate::session::Session;
use crate::target::Target;

/// Print the newest signed checkpoint, or write a receipt for it
///
/// A receipt holds the log's random name, its number of entries, their root, eight words and a QR code. Give it away
/// at the scene: whoever holds it can show later that the log was cut or written anew. -o FILE.txt, .png or .pdf
/// writes a receipt; any other name, the checkpoint itself. With --since it is a request for `custody cosign`.
///
/// Example: exhibit custody checkpoint ir-2026-017:E001 -o receipt.txt
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// CASE, a bundle's folder, or CASE:E001
    #[arg(value_name = "CASE|BUNDLE")]
    target: String,
    /// Write to this file: a receipt when it ends in .txt, .png or .pdf
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Leave the names of case and exhibit off the receipt
    #[arg(long)]
    bare: bool,
    /// Add the proof that it extends the log of so many entries: what a witness asks for
    #[arg(long, value_name = "SIZE")]
    since: Option<u64>,
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Failure> {
    let target = Target::open(&args.target)?;
    let log = CustodyLog::open(target.folder())?;
    let contents = log.read()?;
    let signed = contents.checkpoint.clone().ok_or_else(|| {
        Failure::new("the log has no checkpoint").hint("check the log with `exhibit verify`")
    })?;
    let about = if args.bare { Vec::new() } else { about(&target, &contents, &signed) };
    let receipt = Receipt::new(signed.clone(), about);
    let kind = args.output.as_deref().and_then(Path::extension).and_then(|kind| kind.to_str());
    let bytes = match (args.since, kind) {
        (Some(size), _) => CosignRequest::of(&log, &signed, size)?.to_text().into_bytes(),
        (None, Some("txt")) => receipt.to_text()?.into_bytes(),
        (None, Some("png")) => receipt.to_png()?,
        #[cfg(feature = "pdf")]
        (None, Some("pdf")) => receipt.to_pdf(last_time(&contents, &signed))?,
        #[cfg(not(feature = "pdf"))]
        (None, Some("pdf")) => {
            return Err(
                Failure::usage("this build of exhibit writes no PDF").hint("write .txt or .png instead")
            );
        }
        (None, _) => signed.note.to_text().into_bytes(),
    };
    let words = receipt.words().join(" ");
    match &args.output {
        Some(path) => {
            write_new(path, &bytes)?;
            session.ui.say(&format!("{}: {words}", path.display()));
        }
        None if !session.ui.is_json() => {
            session.ui.data(String::from_utf8_lossy(&bytes).trim_end_matches('\n'))?;
            session.ui.say(&format!("eight words: {words}"));
        }
        None => {}
    }
    if session.ui.is_json() {
        session.ui.document(&json!({
            "origin": signed.checkpoint.origin, "size": signed.checkpoint.size,
            "root": signed.checkpoint.root.to_string(), "words": receipt.words(), "note": receipt.qr_text(),
        }))?;
    }
    Ok(Outcome::Done)
}

/// What the reader of a receipt wants to know; it proves nothing.
fn about(target: &Target, contents: &LogContents, signed: &SignedCheckpoint) -> Vec<(String, String)> {
    let mut about = Vec::new();
    let mut add = |label: &str, value: &str| {
        if !value.is_empty() {
            about.push((label.to_owned(), crate::ui::printable(value, false)));
        }
    };
    if let Some(case) = target.case() {
        add("case", &case.file().name);
        add("examiner", &case.file().examiner);
    }
    if let Target::Bundle { folder, .. } = target {
        add("exhibit", &folder.file_name().unwrap_or_default().to_string_lossy());
    }
    let time = last_time(contents, signed);
    add("as of", &format!("{} UTC, by the host's clock", time.get(..19).unwrap_or(time).replace('T', " ")));
    about
}

/// When the last entry was written that the checkpoint covers.
fn last_time<'a>(contents: &'a LogContents, signed: &SignedCheckpoint) -> &'a str {
    let last = contents.entries.iter().rev().find(|entry| entry.seq < signed.checkpoint.size);
    last.map_or("", |entry| entry.time.wall.as_str())
}

/// Writes a file that is not there yet.
pub(super) fn write_new(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    use std::io::Write as _;
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .map_err(|error| Failure::new(format!("failed to write {path:?}: {error}")))
}
