//! `exhibit custody prove`: an entry, a chunk, a file or an event, proved in one small file.

use std::path::{Path, PathBuf};

use custody::proof::{EvidenceProof, Proved, Prover, TlogProof};
use custody::verify::{LogCopy, Options, TrustedKey};
use custody::{Digest, Entry, VerifyingKey};
use serde_json::{Value, json};

use crate::commands::verify::trusted;
use crate::failure::{Failure, Outcome};
use crate::session::Session;
use crate::target::Target;
use crate::ui;

/// Prove an entry, a chunk, a file or an event in one file that needs nothing else to be checked
///
/// An entry of the log gives a C2SP .tlog-proof, the entry's line in it. A chunk, a file or an event of a bundle gives a
/// proof from its bytes up to the signature over the bundle's log. A chunk and an event carry the bytes of whole chunks,
/// and so what lies beside; a file's proof carries no other file's name, and its bytes are kept apart. --check needs the
/// proof alone; without --trust it says which key signed, and you decide whose that is.
///
/// Example: exhibit custody prove ir-2026-017:E001 --chunk disk:7 -o chunk7.json
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("what").args(["entry", "chunk", "file", "event", "check"]).required(true)))]
pub(crate) struct Args {
    /// CASE, a bundle's folder, or CASE:E001
    #[arg(value_name = "CASE|BUNDLE", required_unless_present = "check")]
    target: Option<String>,
    /// The entry of this number, from 0
    #[arg(long, value_name = "N")]
    entry: Option<u64>,
    /// Chunk N of a stream of the bundle
    #[arg(long, value_name = "STREAM:N")]
    chunk: Option<String>,
    /// The file of this path, as the bundle's catalogue has it
    #[arg(long, value_name = "PATH")]
    file: Option<String>,
    /// The event of the case's timeline with this id, or its first 8 or more digits
    #[arg(long, value_name = "ID")]
    event: Option<String>,
    /// Where to write the proof
    #[arg(short, long, value_name = "FILE", required_unless_present = "check")]
    output: Option<PathBuf>,
    /// Check this proof instead
    #[arg(long, value_name = "FILE", conflicts_with_all = ["target", "output"])]
    check: Option<PathBuf>,
    /// With --check: a key that must have signed; a fingerprint, a C2SP vkey or a PEM file
    #[arg(long, value_name = "KEY", requires = "check")]
    trust: Vec<String>,
    /// With --check: the bytes that the proof is about
    #[arg(long, value_name = "FILE", requires = "check")]
    bytes: Option<PathBuf>,
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Failure> {
    if let Some(file) = &args.check {
        return check(file, args, session);
    }
    let (Some(words), Some(output)) = (&args.target, &args.output) else {
        return Err(Failure::usage("what to prove, and -o FILE, are needed"));
    };
    let target = Target::open(words)?;
    let bytes = if let Some(seq) = args.entry {
        entry_proof(&target, seq)?.to_text().into_bytes()
    } else if let Some(id) = &args.event {
        event_proof(&target, id, session)?.to_bytes()?
    } else {
        let prover = prover(&target, session)?;
        match (&args.chunk, &args.file) {
            (Some(chunk), _) => chunk_proof(&prover, chunk)?.to_bytes()?,
            (None, Some(path)) => prover.file(&prover.find_file(path)?)?.to_bytes()?,
            (None, None) => return Err(Failure::usage("nothing to prove was named")),
        }
    };
    super::write_new(output, &bytes)?;
    if session.ui.is_json() {
        session.ui.document(&json!({"proof": output.display().to_string(), "bytes": bytes.len()}))?;
    } else {
        session.ui.say(&format!("the proof has {}", ui::bytes(bytes.len() as u64)));
        session.ui.data(&ui::printable(&output.display().to_string(), false))?;
    }
    Ok(Outcome::Done)
}

/// The proof of an entry, with its line in `extra`.
pub(super) fn entry_proof(target: &Target, seq: u64) -> Result<TlogProof, Failure> {
    let (line, proof, _) = LogCopy::read(target.folder())?.prove(seq)?;
    Ok(TlogProof { extra: Some(line.into_bytes()), ..proof })
}

/// Opens the bundle that is meant for proofs.
pub(super) fn prover(target: &Target, session: &Session) -> Result<Prover, Failure> {
    let Target::Bundle { folder, .. } = target else {
        return Err(Failure::usage("a case has several bundles").hint("name one: CASE:E001"));
    };
    Ok(Prover::open(session.open_bundle(folder)?, folder)?)
}

fn chunk_proof(prover: &Prover, words: &str) -> Result<EvidenceProof, Failure> {
    let usage = || Failure::usage(format!("{words:?} is no chunk")).hint("a stream and a number: disk:7");
    let (stream, index) = words.rsplit_once(':').ok_or_else(usage)?;
    Ok(prover.chunk(stream, index.parse().map_err(|_| usage())?)?)
}

#[cfg(feature = "timeline")]
fn event_proof(target: &Target, id: &str, session: &Session) -> Result<EvidenceProof, Failure> {
    let Some(case) = target.case() else {
        return Err(Failure::usage("an event is of a case's timeline").hint("name the case"));
    };
    crate::commands::show::prove(case, id, session)
}

#[cfg(not(feature = "timeline"))]
fn event_proof(_: &Target, _: &str, _: &Session) -> Result<EvidenceProof, Failure> {
    Err(Failure::usage("this build has no timeline")
        .hint("the full build has it; --file and --chunk work here"))
}

fn check(file: &Path, args: &Args, session: &Session) -> Result<Outcome, Failure> {
    let proof = super::read_proof(file)?;
    let mut options = Options::default();
    args.trust.iter().try_for_each(|key| trusted(key, &mut options))?;
    let bytes = args.bytes.as_deref().map(hash_of).transpose()?;
    let checked = if proof.starts_with(b"c2sp.org/") {
        check_entry(&proof, file, &options.trust)
    } else {
        EvidenceProof::parse(&proof)
            .and_then(|proof| proof.check())
            .map(|proved| (words_of(&proved), key_of(&proved)))
    };
    let ((mut words, mut document), key) = match checked {
        Ok((told, key)) => (told, key),
        Err(error) => return super::say_not_proved(&error, session),
    };
    let mut outcome = Outcome::Done;
    if let Some(given) = bytes {
        let fits = document.get("bytes_sha256").and_then(Value::as_str) == Some(&given.to_string());
        words.push(if fits {
            "the bytes given are those".to_owned()
        } else {
            format!("THE BYTES GIVEN ARE OTHERS: {given}")
        });
        if let Some(fields) = document.as_object_mut() {
            fields.insert("bytes_fit".into(), fits.into());
        }
        if !fits {
            outcome = Outcome::NotVerified;
        }
    }
    if !options.trust.is_empty() && !options.trust.iter().any(|trusted| trusted.fingerprint() == key) {
        words.push(format!("SIGNED BY A KEY THAT YOU DO NOT TRUST: {key}"));
        outcome = Outcome::NotVerified;
    }
    if let Some(fields) = document.as_object_mut() {
        fields.insert("proved".into(), (outcome == Outcome::Done).into());
    }
    if session.ui.is_json() {
        session.ui.document(&document)?;
    } else {
        session.ui.data(if outcome == Outcome::Done { "PROVED" } else { "NOT PROVED" })?;
        for line in words {
            session.ui.data(&ui::printable(&format!("  {line}"), false))?;
        }
    }
    Ok(outcome)
}

type Told = ((Vec<String>, Value), String);

/// Checks a `.tlog-proof`: its key is a trusted one, the one in `keys/log.vkey` beside it, or the one in a genesis entry.
fn check_entry(bytes: &[u8], file: &Path, trust: &[TrustedKey]) -> custody::Result<Told> {
    let malformed = |why: &str| custody::Error::Malformed { what: "tlog-proof", why: why.to_owned() };
    let proof = TlogProof::parse(bytes)?;
    let line = proof.extra.clone().ok_or_else(|| malformed("it does not hold the entry's line as extra"))?;
    let entry = Entry::parse(&line)?;
    let beside = file.parent().unwrap_or(Path::new("")).join(custody::case_layout::LOG_VKEY);
    let beside = std::fs::read_to_string(beside).ok();
    let own = entry.how_text(custody::HOW_VKEY).map(str::to_owned);
    let given = trust.iter().filter_map(TrustedKey::key);
    let known = [beside, own].into_iter().flatten();
    let known = known.filter_map(|text| VerifyingKey::from_vkey(text.trim()).ok().map(|(_, key)| key));
    let keys: Vec<VerifyingKey> = given.chain(known).collect();
    let key = keys.iter().find(|key| proof.checkpoint.is_signed_by(key));
    let key = key.ok_or_else(|| {
        malformed("no key is known that signed it: give the log's key with --trust, as a vkey or PEM, or keys/log.vkey beside it")
    })?;
    proof.check(&line, key)?;
    if entry.seq != proof.index {
        return Err(malformed("the entry has another number"));
    }
    let checkpoint = &proof.checkpoint.checkpoint;
    let words = vec![
        format!(
            "entry {} of the log {}, which had {} entries",
            proof.index, checkpoint.origin, checkpoint.size
        ),
        format!("{} at {}, by the clock of its host", entry.kind, entry.time.wall),
        String::from_utf8_lossy(&line).into_owned(),
        format!("signed by {}", key.fingerprint()),
    ];
    let document = json!({"kind": "entry", "index": proof.index, "origin": checkpoint.origin, "size": checkpoint.size,
        "line": String::from_utf8_lossy(&line), "key": key.fingerprint()});
    Ok(((words, document), key.fingerprint()))
}

fn key_of(proved: &Proved) -> String {
    proved.key.clone()
}

/// What is proved, line by line, and as a document.
fn words_of(proved: &Proved) -> (Vec<String>, Value) {
    let [id, name] = &proved.exhibit;
    let mut words = Vec::new();
    let mut bytes = None;
    for part in &proved.chunks {
        let end = part.offset.saturating_add(part.length);
        words.push(format!("chunk {} of stream {}: bytes {} to {end}", part.index, part.stream, part.offset));
        words.push(format!("  SHA-256 {}", part.sha256));
        bytes = Some(part.sha256);
    }
    if let Some(entry) = &proved.file {
        words.push(format!("file {}, {}", entry.path, ui::count(entry.size, "byte", "bytes")));
        bytes = entry.sha256;
        words.push(format!("  SHA-256 {}", entry.sha256.map(|hash| hash.to_string()).unwrap_or_default()));
    }
    if let Some(record) = &proved.record {
        words.push(format!("record of {}, SHA-256", ui::count(record.length, "byte", "bytes")));
        words.push(format!("  {}", record.sha256));
        words.push("that they give the event's row is shown only by parsing them again".to_owned());
        bytes = Some(record.sha256);
    }
    words.push(format!("in exhibit {id} {name}, manifest SHA-256"));
    words.push(format!("  {}", proved.manifest_sha256));
    let (origin, size) = &proved.log;
    words.push(format!(
        "sealed by entry {} of the log {origin}, which had {size} entries",
        proved.sealed_by_entry
    ));
    words.push(format!("  at {}, by the clock of its host", proved.sealed_at));
    words.push(format!("signed by {}", proved.key));
    if !proved.key_began_the_log {
        words.push("a later key of the log: that it may sign is shown only by the log".to_owned());
    }
    let mut document = serde_json::to_value(proved).unwrap_or_default();
    if let (Some(fields), Some(bytes)) = (document.as_object_mut(), bytes) {
        fields.insert("bytes_sha256".into(), bytes.to_string().into());
    }
    (words, document)
}

fn hash_of(path: &Path) -> Result<Digest, Failure> {
    let fault = |error: std::io::Error| Failure::new(format!("failed to read {path:?}: {error}"));
    custody::digest::sha256_of(std::fs::File::open(path).map_err(fault)?).map_err(fault)
}
