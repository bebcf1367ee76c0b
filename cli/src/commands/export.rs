//! `exhibit export`: writes the original bytes of a bundle again, in a form that other tools read.

use std::path::{Path, PathBuf};

use acquire::export::{Export, Exported, ExportedFile, Format};
use custody::clock::Clock as _;
use custody::{EntryType, NewEntry, sha256};
use serde_json::json;

use crate::amounts;
use crate::failure::{Failure, Outcome};
use crate::progress_bar::{Bars, Unit};
use crate::session::Session;
use crate::target::Target;
use crate::ui;

/// Files that an entry of the log names one by one; of more, it names their list by its hash.
const NAMED_FILES: usize = 100;

/// Write the original bytes of a bundle again: raw, LiME, tar or E01
///
/// Every chunk is verified before it is written, and the whole stream at the end; if the bundle is not what was
/// acquired, the exit code is 3 and what was written stays as FILE.part. Nothing is overwritten. Zeros become holes.
///
/// Example: exhibit export ir-2026-017:E001 --format e01 -o web01.E01 --split 2GiB
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A bundle's folder, or CASE:E001
    #[arg(value_name = "BUNDLE")]
    bundle: String,
    /// What to write: raw (a disk, an imported file as it was, or a memory padded by address), lime (a memory), tar (files,
    /// commands), e01 (a disk)
    #[arg(long, value_name = "FORMAT", value_parser = format_of)]
    format: Format,
    /// The file to write; `-` is standard output, for all but e01
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Which stream, where the bundle has several of the kind
    #[arg(long, value_name = "NAME")]
    stream: Option<String>,
    /// Cut raw and e01 into files of at most this size: FILE.001 …, FILE.E01 …
    #[arg(long, value_name = "SIZE", value_parser = amounts::part)]
    split: Option<u64>,
    #[cfg(feature = "cloud")]
    #[command(flatten)]
    cloud: crate::cloud_args::CloudArgs,
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Failure> {
    #[cfg(feature = "cloud")]
    session.use_cloud(&args.cloud);
    let target = Target::open(&args.bundle)?;
    let Target::Bundle { folder, .. } = &target else {
        return Err(Failure::usage(format!("{:?} is a case: name one of its exhibits", args.bundle))
            .hint(format!("such as {}:E001; `exhibit list` shows them", args.bundle)));
    };
    let to_stdout = args.output == Path::new("-");
    if to_stdout && session.ui.is_json() {
        return Err(Failure::usage("-o - and --json both want standard output"));
    }
    let bundle = session.open_bundle(folder)?;
    let bars = Bars::new(session.ui, Unit::Bytes);
    let started = session.clock.now().mono_ns;
    let exported = Export::new(&bundle, args.format, args.stream.as_deref()).and_then(|export| {
        let export = export.progress(&bars);
        let export = match args.split {
            Some(bytes) => export.split(bytes)?,
            None => export,
        };
        if to_stdout { export.to_stream(&mut session.ui.stream()) } else { export.to_file(&args.output) }
    });
    drop(bars);
    let elapsed = session.clock.now().mono_ns.saturating_sub(started);
    let seconds = std::time::Duration::from_nanos(elapsed).as_secs_f64();
    let entry = |kind| {
        let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let entry = NewEntry::new(kind).exhibit(&bundle.manifest().exhibit).how("bundle", name);
        entry.how("command", "export").how("format", args.format.word())
    };
    match exported {
        Ok(exported) => {
            session.record_reading(target.case(), made(entry(EntryType::EXPORT_MADE), &exported, to_stdout));
            show(&exported, args, seconds, session)
        }
        Err(error) if error.is_not_verified() => {
            let words = crate::failure::chain(&error);
            let found = entry(EntryType::VERIFY_RESULT).result("verdict", "BROKEN").error("found", &*words);
            session.record_reading(target.case(), found);
            session.ui.failure(&Failure::new(error).hint(if to_stdout {
                "what was written cannot be taken back: do not use it".to_owned()
            } else {
                format!("what was written stays as .part beside {}", args.output.display())
            }));
            Ok(Outcome::NotVerified)
        }
        Err(error @ acquire::Error::NotExportable { .. }) => Err(Failure::usage(error.to_string())),
        Err(error @ acquire::Error::WouldOverwrite { .. }) => {
            Err(Failure::usage(error.to_string()).hint("name another file with -o FILE"))
        }
        Err(error) => Err(Failure::new(error)),
    }
}

/// The entry that tells what was made.
fn made(entry: NewEntry, exported: &Exported, to_stdout: bool) -> NewEntry {
    let mut entry = entry
        .how("stream", exported.stream.as_str())
        .subject(&exported.stream, exported.size, exported.sha256)
        .result("files", exported.files.len())
        .result("verified", true);
    if to_stdout {
        entry = entry.how("to", "standard output");
    }
    if let Some(media) = &exported.media {
        entry = entry
            .result("md5", media.md5.as_str())
            .result("sha1", media.sha1.as_str())
            .result("padding", media.padding);
    }
    if exported.files.len() > NAMED_FILES {
        let list: String =
            exported.files.iter().map(|file| format!("{}  {}\n", file.sha256, name_of(file))).collect();
        return entry.subject("SHA256SUMS of the files", list.len() as u64, sha256(list.as_bytes()));
    }
    exported.files.iter().fold(entry, |entry, file| entry.subject(name_of(file), file.size, file.sha256))
}

fn name_of(file: &ExportedFile) -> String {
    file.path.file_name().unwrap_or(file.path.as_os_str()).to_string_lossy().into_owned()
}

/// Prints the closing summary, and the files on stdout.
fn show(exported: &Exported, args: &Args, seconds: f64, session: &Session) -> Result<Outcome, Failure> {
    let ui = session.ui;
    if ui.is_json() {
        let files: Vec<_> = exported
            .files
            .iter()
            .map(|file| {
                json!({"path": file.path.display().to_string(), "size": file.size, "sha256": file.sha256.to_string()})
            })
            .collect();
        let mut document = json!({
            "format": args.format.word(), "stream": exported.stream, "size": exported.size,
            "sha256": exported.sha256.to_string(), "states": exported.states, "files": files,
            "notes": exported.notes, "seconds": seconds,
        });
        if let (Some(media), Some(fields)) = (&exported.media, document.as_object_mut()) {
            fields.insert("md5".to_owned(), media.md5.as_str().into());
            fields.insert("sha1".to_owned(), media.sha1.as_str().into());
            fields.insert("padding".to_owned(), media.padding.into());
            fields.insert("unreadable_runs".to_owned(), media.unreadable_runs.into());
        }
        ui.document(&document)?;
        return Ok(Outcome::Done);
    }
    let written: u64 = exported.files.iter().map(|file| file.size).sum();
    let rate = if seconds > 0.0 { (exported.size as f64 / seconds) as u64 } else { 0 };
    let into = match exported.files.len() as u64 {
        0 => "standard output".to_owned(),
        count => format!("{} of {}", ui::count(count, "file", "files"), ui::bytes(written)),
    };
    ui.say(&format!(
        "exported {} of stream {} as {} in {seconds:.1} s ({}/s) to {into}",
        ui::bytes(exported.size),
        exported.stream,
        args.format.word(),
        ui::bytes(rate)
    ));
    ui.say(&format!("SHA-256 {} of the stream: it is what was acquired", exported.sha256));
    if let Some(media) = &exported.media {
        ui.say(&format!("MD5 {}, SHA-1 {} of the media, as stored in the image", media.md5, media.sha1));
    }
    for note in &exported.notes {
        ui.say(&format!("note: {note}"));
    }
    for file in &exported.files {
        ui.say(&format!("SHA-256 {} of {}", file.sha256, name_of(file)));
        ui.data(&file.path.display().to_string())?;
    }
    Ok(Outcome::Done)
}

fn format_of(word: &str) -> Result<Format, String> {
    word.parse()
}
