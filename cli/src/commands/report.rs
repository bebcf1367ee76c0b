//! `exhibit report`: writes the custody report of a case.

use std::path::{Path, PathBuf};

use custody::digest::sha256;
use custody::report::Report;
use custody::verify::{Level, Verification};
use custody::{Case, EntryType, NewEntry};

use super::verify::Brought;
use crate::failure::{Failure, Outcome};
use crate::session::Session;
use crate::target;

/// Write the custody report of a case
///
/// Everything is verified first, and the report says what was found: verdict and limits first, then who did what, what
/// is missing, and the commands by which anybody checks it without this program. Name what you trust and what was kept
/// elsewhere, as for verify; else the verdict cannot be more than CONSISTENT. The report is made from the heads of
/// the logs before its own entry: the same heads give the same bytes.
///
/// Example: exhibit report ir-2026-017 -o report
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The case
    case: PathBuf,
    /// The folder to write to; it is made if it is not there
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// What to write, separated by commas
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = DEFAULT.to_vec())]
    format: Vec<Format>,
    #[command(flatten)]
    brought: Brought,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// report.html: one file, no script
    Html,
    /// report.pdf: PDF/A-3 for print and archive, with the logs and manifests inside
    #[cfg(feature = "pdf")]
    Pdf,
    /// report.case.jsonld: every act in the ontology CASE 1.4
    Case,
    /// report.json: the same for programs
    Json,
}

#[cfg(feature = "pdf")]
const DEFAULT: &[Format] = &[Format::Html, Format::Pdf];
#[cfg(not(feature = "pdf"))]
const DEFAULT: &[Format] = &[Format::Html];

pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Failure> {
    let case = target::open_case(&args.case)?;
    let verification = args.brought.verify(case.folder(), case.folder(), session)?;
    let written = write(&case, &verification, &args.output, &args.format, session)?;
    if session.ui.is_json() {
        let files: Vec<String> = written.iter().map(|path| path.display().to_string()).collect();
        session.ui.document(&serde_json::json!({"verdict": verification.verdict, "files": files}))?;
    } else {
        session.ui.say(&format!("verdict: {}. {}", verification.verdict, verification.sentence));
        for path in &written {
            session.ui.data(&path.display().to_string())?;
        }
    }
    Ok(match verification.verdict.level {
        Level::Broken => Outcome::NotVerified,
        Level::Open => Outcome::WithIssues,
        _ => Outcome::Done,
    })
}

/// Writes `report.html` into a folder; what `demo` does.
#[cfg(feature = "timeline")]
pub(crate) fn html(
    case: &Case,
    verification: &Verification,
    output: &Path,
    session: &Session,
) -> Result<PathBuf, Failure> {
    write(case, verification, output, &[Format::Html], session)?;
    Ok(output.join("report.html"))
}

fn write(
    case: &Case,
    verification: &Verification,
    output: &Path,
    formats: &[Format],
    session: &Session,
) -> Result<Vec<PathBuf>, Failure> {
    let report = Report::of_case(case, verification)?;
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error: std::io::Error| Failure::new(format!("failed to write {path:?}: {error}"))
    };
    std::fs::create_dir_all(output).map_err(failed(output))?;
    let mut entry = NewEntry::new(EntryType::REPORT_ISSUED)
        .how("command", "report")
        .result("verdict", verification.verdict.to_string());
    let mut written = Vec::new();
    for format in formats {
        let (name, bytes) = match format {
            Format::Html => ("report.html", report.to_html().into_bytes()),
            Format::Case => ("report.case.jsonld", report.to_case_jsonld()?.into_bytes()),
            Format::Json => ("report.json", report.to_json().as_bytes().to_vec()),
            #[cfg(feature = "pdf")]
            Format::Pdf => ("report.pdf", report.to_pdf(case.folder())?),
        };
        let path = output.join(name);
        std::fs::write(&path, &bytes).map_err(failed(&path))?;
        entry = entry.subject(name, bytes.len() as u64, sha256(&bytes));
        written.push(path);
    }
    session.record_reading(Some(case), entry);
    Ok(written)
}
