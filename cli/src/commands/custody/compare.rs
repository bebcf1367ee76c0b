//! `exhibit custody compare`: two copies of one log, and the proof where they are two histories.

use std::path::{Path, PathBuf};

use custody::proof::{ForkProof, Forked};
use custody::verify::{Comparison, LogCopy, Options, Side, compare};
use serde_json::json;

use crate::commands::verify::trusted;
use crate::failure::{Failure, Outcome};
use crate::session::Session;
use crate::target::Target;
use crate::ui;

/// Compare two copies of one log, and prove it where they are two histories
///
/// A and B are each a case, a bundle, a folder with a custody.jsonl, or a file with a signed checkpoint. They are the
/// same, or one is the beginning of the other, or somebody signed two histories: then -o writes a proof that anybody
/// can check without either copy, here with --check, or with the script in FORMAT.md. Exit code 3 for a fork, 1 where
/// it cannot be told.
///
/// Example: exhibit custody compare ir-2026-017 /mnt/counsel/ir-2026-017 -o fork.json
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The first copy
    #[arg(required_unless_present = "check")]
    a: Option<String>,
    /// The second copy
    #[arg(required_unless_present = "check")]
    b: Option<String>,
    /// Where to write the proof of a fork
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Check a proof of a fork instead, from its own bytes
    #[arg(long, value_name = "FILE", conflicts_with_all = ["a", "b", "output"])]
    check: Option<PathBuf>,
    /// With --check: a key that must have signed both heads; a fingerprint, a C2SP vkey or a PEM file
    #[arg(long, value_name = "KEY", requires = "check")]
    trust: Vec<String>,
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Failure> {
    if let Some(file) = &args.check {
        return check(file, &args.trust, session);
    }
    let (Some(a), Some(b)) = (&args.a, &args.b) else {
        return Err(Failure::usage("two copies are needed"));
    };
    let (copy_a, copy_b) = (read(a)?, read(b)?);
    let found = compare(&copy_a, &copy_b)?;
    let name = |side: Side| if side == Side::A { copy_a.name() } else { copy_b.name() };
    let (document, words, outcome) = match &found {
        Comparison::Same { size } => (
            json!({"result": "same", "size": size}),
            format!("SAME  both are the same {size} entries, under the same root"),
            Outcome::Done,
        ),
        Comparison::Beginning { shorter, old, new, proof } => (
            json!({"result": "beginning", "shorter": shorter, "old_size": old, "new_size": new,
                "proof": proof.iter().map(ToString::to_string).collect::<Vec<_>>()}),
            format!(
                "BEGINNING  {} with {old} entries is the beginning of the other with {new}; consistency proof of {}",
                name(*shorter),
                ui::count(proof.len() as u64, "hash", "hashes"),
            ),
            Outcome::Done,
        ),
        Comparison::OtherLogs { origins: [one, other] } => {
            return Err(Failure::usage(format!("they are two logs, {one} and {other}"))
                .hint("compare copies of one log; a bundle's log is not its case's"));
        }
        Comparison::Unknown { why } => {
            (json!({"result": "unknown", "why": why}), format!("UNKNOWN  {why}"), Outcome::WithIssues)
        }
        Comparison::Forked(proof) => {
            let forked = proof.check()?;
            let written = args.output.as_ref().map(|path| write(path, proof)).transpose()?;
            let mut document = json!({"result": "forked", "proof": written});
            if let (Some(fields), serde_json::Value::Object(more)) =
                (document.as_object_mut(), serde_json::to_value(&forked)?)
            {
                fields.extend(more);
            }
            (document, words(&forked), Outcome::NotVerified)
        }
    };
    if session.ui.is_json() {
        session.ui.document(&document)?;
    } else {
        session.ui.data(&ui::printable(&words, true))?;
        if let (Comparison::Forked(_), Some(path)) = (&found, &args.output) {
            session.ui.say(&format!("proof of it: {}", path.display()));
        }
    }
    Ok(outcome)
}

/// A copy by its path, or as CASE:E001.
fn read(words: &str) -> Result<LogCopy, Failure> {
    let path = Path::new(words);
    let path = if path.exists() { path.to_owned() } else { Target::open(words)?.folder().to_owned() };
    Ok(LogCopy::read(&path)?)
}

/// Writes a proof to a new file; gives its path.
pub(crate) fn write(path: &Path, proof: &ForkProof) -> Result<String, Failure> {
    super::write_new(path, &proof.to_bytes()?)?;
    Ok(path.display().to_string())
}

fn check(file: &Path, trust: &[String], session: &Session) -> Result<Outcome, Failure> {
    let bytes = super::read_proof(file)?;
    let forked = match ForkProof::parse(&bytes).and_then(|proof| proof.check()) {
        Ok(forked) => forked,
        Err(error) => return super::say_not_proved(&error, session),
    };
    let mut options = Options::default();
    trust.iter().try_for_each(|key| trusted(key, &mut options))?;
    let is_trusted = |print: &String| options.trust.iter().any(|key| key.fingerprint() == *print);
    let known = options.trust.is_empty() || forked.keys.iter().all(is_trusted);
    if session.ui.is_json() {
        let mut document = serde_json::to_value(&forked)?;
        if let Some(fields) = document.as_object_mut() {
            fields.insert("proved".into(), known.into());
        }
        session.ui.document(&document)?;
    } else {
        session.ui.data(&ui::printable(&words(&forked), true))?;
        if !known {
            session.ui.warn("a head is signed by none of the keys given with --trust");
        }
    }
    Ok(if known { Outcome::Done } else { Outcome::NotVerified })
}

/// The proof in words: what, and both lines.
fn words(forked: &Forked) -> String {
    let mut words = forked.words();
    if let Some([a, b]) = &forked.lines {
        words.push_str(&format!("\n  A  {a}\n  B  {b}"));
    }
    words
}
