//! `exhibit verify`: checks a case or bundle from its bytes up.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use custody::bundle::OpenRemote;
use custody::ssh::AllowedSigners;
use custody::verify::{
    self, Level, Memory, Options, OutsideAnchors, ThreatState, TrustedKey, Verdict, Verification,
};
use custody::{EntryType, NewEntry};

use crate::commands::custody::compare;
use crate::failure::{Failure, Outcome};
use crate::progress_bar::Bars;
use crate::session::Session;
use crate::target::Target;
use crate::ui::{self, Ui};

/// Check a case or bundle from its bytes up, and give a verdict
///
/// The verdict is BROKEN, OPEN (not sealed), CONSISTENT (it fits together), SIGNED (by a key you trust), ANCHORED(n)
/// (n parties outside the presenter's hands vouch for it) or COMPLETE. Nothing outside the case is read but what you
/// name here. Under it stand the threats T1 to T18 that were found, or that nothing here disproves; -v lists all 18
/// in full. Exit code 3 for BROKEN or an unmet --at-least, 1 for OPEN and for an unsigned tail.
///
/// Example: exhibit verify ir-2026-017 --trust SHA256:… --at-least SIGNED
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// CASE, a bundle's folder, CASE:E001, or a bundle in an evidence store: s3://bucket/prefix/E001-name
    #[arg(value_name = "CASE|BUNDLE|s3://…")]
    target: String,
    #[command(flatten)]
    brought: Brought,
    /// Fail unless the verdict is at least this
    #[arg(long, value_name = "LEVEL")]
    at_least: Option<Level>,
}

/// What the person who verifies brings along, from outside of what is verified.
#[derive(Debug, clap::Args)]
pub(crate) struct Brought {
    /// A folder with what was kept elsewhere: checkpoints, receipts, tokens (.tsr), root certificates
    #[arg(long, value_name = "DIR")]
    anchors: Option<PathBuf>,
    /// A key you trust: a fingerprint, a C2SP vkey, a PEM file or its text; or a time-stamp authority's root
    /// certificate (PEM file); may be given again
    #[arg(long, value_name = "KEY")]
    trust: Vec<String>,
    /// A file of allowed signers (ssh-keygen(1)): people, and the authorities that certify them; may be given again
    #[arg(long, value_name = "FILE")]
    signers: Vec<PathBuf>,
    /// Remember the newest signed checkpoint of each log in this file, and compare with what it remembers; where
    /// another history was remembered, the proof of the fork is written beside it
    #[arg(long, value_name = "FILE")]
    memory: Option<PathBuf>,
    /// Read the data of exhibits whose data lies in an evidence store; without it the verdict says that it was not read
    #[cfg(feature = "cloud")]
    #[arg(long)]
    remote: bool,
    #[cfg(feature = "cloud")]
    #[command(flatten)]
    cloud: crate::cloud_args::CloudArgs,
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Failure> {
    #[cfg(feature = "cloud")]
    if crate::store_reading::is_place(&args.target) {
        return in_store(args, session);
    }
    let target = Target::open(&args.target)?;
    let around = target.case().map_or_else(|| target.folder(), custody::Case::folder);
    let verification = args.brought.verify(target.folder(), around, session)?;
    let outcome = tell(args, &verification, session)?;
    record(&target, &verification, session);
    Ok(outcome)
}

/// Verifies a bundle where it lies in an evidence store.
#[cfg(feature = "cloud")]
fn in_store(args: &Args, session: &Session) -> Result<Outcome, Failure> {
    let bundle = crate::store_reading::RemoteBundle::open(&args.target, &args.brought.cloud, session.ui)?;
    let folder = bundle.folder.path();
    let mut verification = args.brought.verify_with(folder, folder, Some(bundle.remote()), session)?;
    verification.path = bundle.place.to_string();
    let outcome = tell(args, &verification, session)?;
    session.record_reading(None, NewEntry::new(EntryType::VERIFY_RESULT));
    Ok(outcome)
}

/// Prints what was found, and gives how the command ends.
fn tell(args: &Args, verification: &Verification, session: &Session) -> Result<Outcome, Failure> {
    let unmet = args.at_least.filter(|level| !verification.meets(*level));
    if session.ui.is_json() {
        session.ui.document(&serde_json::to_value(verification)?)?;
    } else {
        print(verification, session.ui)?;
        if let Some(level) = unmet {
            session.ui.warn(&format!("the verdict is below {}", level.word()));
        }
    }
    Ok(if verification.verdict.level == Level::Broken || unmet.is_some() {
        Outcome::NotVerified
    } else if verification.verdict.level == Level::Open || verification.unsigned_tail {
        Outcome::WithIssues
    } else {
        Outcome::Done
    })
}

impl Brought {
    /// Verifies what lies in `folder`, and remembers it where a file for that was named. `around` is the folder that
    /// anchors must not lie in.
    pub(crate) fn verify(
        &self,
        folder: &Path,
        around: &Path,
        session: &Session,
    ) -> Result<Verification, Failure> {
        #[cfg(feature = "cloud")]
        if self.remote {
            let stores = crate::store_reading::Stores::new(&self.cloud, session.ui).counting();
            return self.verify_with(folder, around, Some(Arc::new(stores)), session);
        }
        self.verify_with(folder, around, None, session)
    }

    fn verify_with(
        &self,
        folder: &Path,
        around: &Path,
        remote: Option<Arc<dyn OpenRemote>>,
        session: &Session,
    ) -> Result<Verification, Failure> {
        // A store draws a bar of its own.
        let bars = remote.is_none().then(|| Bars::waiting(session.ui, "verifying"));
        let options = Options { remote, ..self.options(around, session)? };
        let verification = match &self.memory {
            Some(file) => verify::verify_remembering(folder, &options, file)?,
            None => verify::verify(folder, &options)?,
        };
        drop(bars);
        // A log that is another history than the one remembered is a fault.
        if let Some(file) = self.memory.as_ref().filter(|_| !verification.is_intact()) {
            prove_forks(file, folder, session)?;
        }
        Ok(verification)
    }

    fn options(&self, around: &Path, session: &Session) -> Result<Options, Failure> {
        let mut options = Options { identities: session.identities()?.clone(), ..Options::default() };
        for key in &self.trust {
            trusted(key, &mut options)?;
        }
        for file in &self.signers {
            options.signers.extend(AllowedSigners::read(file)?);
        }
        if let Some(folder) = &self.anchors {
            if let (Ok(inner), Ok(outer)) = (folder.canonicalize(), around.canonicalize())
                && inner.starts_with(outer)
            {
                return Err(Failure::usage(format!("{folder:?} lies within what is to be verified"))
                    .hint("an anchor is a copy that was kept elsewhere, out of the presenter's hands"));
            }
            options.outside = OutsideAnchors::read(folder)?;
        }
        Ok(options)
    }
}

/// Writes a proof beside the memory file for each log that is another history than the one remembered there.
fn prove_forks(memory: &Path, folder: &Path, session: &Session) -> Result<(), Failure> {
    for proof in verify::forks_from_memory(folder, &Memory::load(memory)?)? {
        let forked = proof.check()?;
        let id: String = forked.origin.chars().rev().take(8).collect();
        let [a, b] = forked.sizes;
        let mut path = memory.as_os_str().to_owned();
        path.push(format!(".fork-{}-{a}-{b}.json", id.chars().rev().collect::<String>()));
        let path = PathBuf::from(path);
        if !path.exists() {
            compare::write(&path, &proof)?;
        }
        session.ui.warn(&format!("{}; proof of it: {}", forked.words(), path.display()));
    }
    Ok(())
}

/// Prints verdict, faults and notes.
pub(crate) fn print(verification: &Verification, ui: Ui) -> Result<(), Failure> {
    let words = verdict_words(verification);
    ui.data(&format!("{words}  {}", ui::printable(&verification.path, false)))?;
    ui.data(&verification.sentence)?;
    for fault in &verification.faults {
        ui.data(&ui::printable(&format!("  FAULT  {fault}"), false))?;
    }
    let more = verification.fault_count.saturating_sub(verification.faults.len() as u64);
    if more > 0 {
        ui.data(&format!("  and {}", ui::count(more, "fault more", "faults more")))?;
    }
    for exhibit in &verification.exhibits {
        ui.data(&ui::printable(
            &format!(
                "  {}  {}  {}",
                exhibit.id,
                words_of(&exhibit.verdict, exhibit.ciphertext_only, exhibit.data_not_read),
                exhibit.folder
            ),
            false,
        ))?;
    }
    for note in &verification.notes {
        ui.data(&ui::printable(&format!("  note: {note}"), false))?;
    }
    print_threats(verification, ui)?;
    let counts = &verification.counts;
    ui.say(&format!(
        "checked {}, {}, {} of streams, {}",
        ui::count(counts.files, "file", "files"),
        ui::count(counts.chunks, "chunk", "chunks"),
        ui::bytes(counts.stream_bytes),
        ui::count(counts.entries, "entry", "entries"),
    ));
    Ok(())
}

/// Prints a line for each threat that was found or that nothing here disproves; with -v all of them, in full.
fn print_threats(verification: &Verification, ui: Ui) -> Result<(), Failure> {
    for threat in &verification.threats {
        let line = format!("  {:<4}{:<12}{}", threat.id, threat.state.word(), threat.words);
        if ui.is_verbose() {
            ui.data(&ui::printable(&format!("  {:<4}{}", threat.id, threat.name), false))?;
            for line in wrapped(&format!("{}: {}", threat.state.word(), threat.words)) {
                ui.data(&ui::printable(&format!("      {line}"), false))?;
            }
        } else if threat.state >= ThreatState::NotProved {
            ui.data(&one_line(&ui::printable(&line, false)))?;
        }
    }
    Ok(())
}

/// Words in lines that fit a terminal beside their margin; a longer word stands alone.
fn wrapped(words: &str) -> Vec<String> {
    const WIDTH: usize = 74;
    let mut lines: Vec<String> = Vec::new();
    for word in words.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// A line cut to the width of a terminal; -v and --json give all of it.
fn one_line(line: &str) -> String {
    const WIDTH: usize = 80;
    if line.chars().count() <= WIDTH {
        return line.to_owned();
    }
    line.chars().take(WIDTH - 1).chain(['…']).collect()
}

/// The verdict, with what stands beside it.
pub(crate) fn verdict_words(verification: &Verification) -> String {
    words_of(&verification.verdict, verification.ciphertext_only, verification.data_not_read)
}

fn words_of(verdict: &Verdict, ciphertext_only: bool, data_not_read: bool) -> String {
    let mut words = verdict.to_string();
    for (_, more) in
        [(ciphertext_only, "CIPHERTEXT ONLY"), (data_not_read, "DATA NOT READ")].iter().filter(|(is, _)| *is)
    {
        words.push_str(&format!(" ({more})"));
    }
    words
}

fn record(target: &Target, verification: &Verification, session: &Session) {
    let mut entry = NewEntry::new(EntryType::VERIFY_RESULT)
        .how("command", "verify")
        .result("verdict", verdict_words(verification))
        .result("faults", verification.fault_count)
        .result("chunks", verification.counts.chunks)
        .result("stream_bytes", verification.counts.stream_bytes);
    if let (Target::Bundle { folder, .. }, Some(_)) = (target, target.case())
        && let Some(name) = folder.file_name().and_then(|name| name.to_str())
    {
        entry = entry.how("bundle", name);
    }
    session.record_reading(target.case(), entry);
}

/// Trusts a key by its text, or by the file that holds it; or the certificates in a file.
pub(crate) fn trusted(key: &str, options: &mut Options) -> Result<(), Failure> {
    let path = std::path::Path::new(key);
    let text = if path.is_file() {
        std::fs::read_to_string(path)
            .map_err(|error| Failure::new(format!("failed to read the key {path:?}: {error}")))?
    } else {
        key.to_owned()
    };
    let unfit = |error: custody::Error| {
        Failure::usage(format!("--trust {key:?}: {error}")).hint(
            "give a fingerprint (SHA256:…), a C2SP vkey, a PEM public key, or a PEM certificate of an authority",
        )
    };
    if text.contains("-----BEGIN CERTIFICATE-----") {
        options.authorities.add_pem(&text).map_err(unfit)?;
    } else {
        options.trust.push(TrustedKey::parse(text.trim()).map_err(unfit)?);
    }
    Ok(())
}
