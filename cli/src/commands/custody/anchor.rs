//! `exhibit custody anchor`: has authorities and witnesses outside vouch for a log.

use std::path::{Path, PathBuf};
use std::time::Duration;

use custody::anchors::{self, Parties, Witness};
use custody::{CustodyLog, case_layout};
use serde_json::{Value, json};

use crate::failure::{Failure, Outcome};
use crate::session::{self, Session};
use crate::target::Target;
use crate::ui;

/// The settings that `--remember` writes.
const SETTINGS: &str = "anchors.json";

/// Have time-stamp authorities and witnesses vouch for a log
///
/// The newest checkpoint is kept under checkpoints/ and put before every party at once; what they give is kept under
/// anchors/, each with its entry. What leaves this machine is a hash, or the checkpoint: a random name, a number and a
/// hash. One party that fails does not stop the others; the exit code is 1 then. Without a network the checkpoint
/// waits: run this again later. A case covers its sealed exhibits.
///
/// Example: exhibit custody anchor ir-2026-017 --tsa http://tsa.example/tsr
#[allow(rustdoc::bare_urls, reason = "the help shows it as it is typed")]
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// CASE, a bundle's folder, or CASE:E001
    #[arg(value_name = "CASE|BUNDLE")]
    target: String,
    /// Ask this RFC 3161 time-stamp authority; may be given again, and two are better than one
    #[arg(long, value_name = "URL")]
    tsa: Vec<String>,
    /// Ask this C2SP witness: its address, and its verifier key of type 0x04; may be given again
    #[arg(long, value_name = "URL=VKEY")]
    witness: Vec<String>,
    /// Keep these certificates (PEM) beside each token, where an authority leaves its issuers out
    #[arg(long, value_name = "FILE")]
    chain: Option<PathBuf>,
    /// Ask the same parties whenever none is named: written to anchors.json in the user's settings folder
    #[arg(long)]
    remember: bool,
    /// Take in an anchor that was got elsewhere: a token (.tsr), or a cosigned checkpoint; may be given again
    #[arg(long, value_name = "FILE", conflicts_with_all = ["tsa", "witness", "pending"])]
    import: Vec<PathBuf>,
    /// Only list which entries no anchor covers yet
    #[arg(long)]
    pending: bool,
    /// Copy the checkpoint and all anchors to this folder too, to be kept elsewhere
    #[arg(long, value_name = "DIR")]
    copy_to: Option<PathBuf>,
    /// Give up on a party after so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=600))]
    timeout: u64,
    /// Go through this HTTP proxy
    #[arg(long, value_name = "URL")]
    proxy: Option<String>,
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Failure> {
    let target = Target::open(&args.target)?;
    if args.pending {
        return pending(&target, session);
    }
    let log = CustodyLog::open(target.folder())?;
    let key = session.key()?;
    let writer = session.writer(&key, target.case());
    let chain = match &args.chain {
        Some(path) => read_text(path)?,
        None => String::new(),
    };
    let (mut made, mut failed) = (Vec::new(), Vec::new());
    let checkpoint = if args.import.is_empty() {
        let parties = Parties { chain, ..parties(args)? };
        let none = parties.authorities.is_empty() && parties.witnesses.is_empty();
        let post = acquire::HttpPost::new(Duration::from_secs(args.timeout), args.proxy.as_deref())?;
        let (checkpoint, asked) = anchors::anchor(&log, &parties, &post, &writer)?;
        for one in asked {
            match one.outcome {
                Ok((appended, words)) => made.push((one.who, appended.seq, words)),
                Err(error) => failed.push((one.who, crate::failure::chain(&error))),
            }
        }
        if none {
            let why = "nobody was asked: name authorities with --tsa, witnesses with --witness (and --remember them)";
            failed.push(("nobody".to_owned(), why.to_owned()));
        }
        checkpoint
    } else {
        for path in &args.import {
            let bytes = std::fs::read(path)
                .map_err(|error| Failure::new(format!("failed to read {path:?}: {error}")))?;
            let who = path.display().to_string();
            match anchors::import_anchor(&log, &bytes, &chain, &writer) {
                Ok((appended, words)) => made.push((who, appended.seq, words)),
                Err(error) => failed.push((who, crate::failure::chain(&error))),
            }
        }
        log.keep_checkpoint(&writer)?
    };
    if let Some(folder) = &args.copy_to {
        copy(target.folder(), folder)?;
    }
    say(&checkpoint, &made, &failed, session)?;
    Ok(if failed.is_empty() { Outcome::Done } else { Outcome::WithIssues })
}

fn say(
    checkpoint: &custody::SignedCheckpoint,
    made: &[(String, u64, String)],
    failed: &[(String, String)],
    session: &Session,
) -> Result<(), Failure> {
    let size = checkpoint.checkpoint.size;
    let file = format!("{}/{}", case_layout::CHECKPOINTS, case_layout::kept_checkpoint_name(size));
    if session.ui.is_json() {
        let made = made.iter().map(|(who, seq, words)| json!({ "who": who, "seq": seq, "words": words }));
        let failed = failed.iter().map(|(who, why)| json!({ "who": who, "why": why }));
        return session.ui.document(&json!({
            "checkpoint": { "file": file, "size": size, "root": checkpoint.checkpoint.root.to_string() },
            "made": made.collect::<Vec<Value>>(), "failed": failed.collect::<Vec<Value>>(),
        }));
    }
    for (who, seq, words) in made {
        session.ui.say(&format!("{who}: {words} (entry {seq})"));
    }
    for (who, why) in failed {
        session.ui.warn(&format!("{who}: {why}"));
    }
    if made.is_empty() {
        session
            .ui
            .say(&format!("not anchored; {file} is kept and waits: run this again, or carry it out by hand"));
    } else {
        let entries = ui::count(size, "entry", "entries");
        session
            .ui
            .say(&format!("{} for the first {entries}", ui::count(made.len() as u64, "anchor", "anchors")));
    }
    Ok(())
}

/// Whom to ask: who is named, else who was remembered.
fn parties(args: &Args) -> Result<Parties, Failure> {
    let path = session::settings_file(SETTINGS)?;
    if args.tsa.is_empty() && args.witness.is_empty() {
        if args.remember {
            return Err(Failure::usage("--remember needs --tsa or --witness"));
        }
        if !path.is_file() {
            return Ok(Parties::default());
        }
        let settings: Value = serde_json::from_str(&read_text(&path)?)
            .map_err(|error| Failure::usage(format!("failed to read {path:?}: {error}")))?;
        let list = |name: &str| -> Vec<String> {
            let items = settings.get(name).and_then(Value::as_array);
            items.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
        };
        return parties_of(&list("authorities"), &list("witnesses"));
    }
    let parties = parties_of(&args.tsa, &args.witness)?;
    if args.remember {
        let folder = path.parent().unwrap_or(Path::new("."));
        let witnesses: Vec<String> = parties.witnesses.iter().map(Witness::to_text).collect();
        let settings = json!({ "authorities": parties.authorities, "witnesses": witnesses });
        std::fs::create_dir_all(folder)
            .and_then(|()| std::fs::write(&path, format!("{settings}\n")))
            .map_err(|error| Failure::new(format!("failed to write {path:?}: {error}")))?;
    }
    Ok(parties)
}

fn parties_of(authorities: &[String], witnesses: &[String]) -> Result<Parties, Failure> {
    for url in authorities.iter().chain(witnesses) {
        if !url.starts_with("http://") && !url.starts_with("https://") {
            return Err(Failure::usage(format!("{url:?} is no address")).hint("give http:// or https://"));
        }
    }
    let witness = |text: &String| {
        Witness::parse(text).map_err(|error| {
            Failure::usage(format!("--witness {text:?}: {error}"))
                .hint("give URL=VKEY, with the verifier key of type 0x04 that the witness publishes")
        })
    };
    let witnesses = witnesses.iter().map(witness).collect::<Result<_, _>>()?;
    Ok(Parties { authorities: authorities.to_vec(), witnesses, chain: String::new() })
}

/// Lists what waits, in the log and in those of the case's exhibits.
fn pending(target: &Target, session: &Session) -> Result<Outcome, Failure> {
    let mut logs = vec![("log".to_owned(), target.folder().to_owned())];
    if let Target::Case(case) = target {
        logs = vec![("case".to_owned(), case.folder().to_owned())];
        logs.extend(case.exhibits()?.into_iter().map(|exhibit| (exhibit.id, exhibit.folder)));
    }
    let (mut rows, mut found) = (Vec::new(), Vec::new());
    for (name, folder) in logs {
        let Some(waiting) = anchors::pending(&CustodyLog::open(&folder)?)? else { continue };
        found
            .push(json!({ "log": name, "from": waiting.from, "size": waiting.size, "since": waiting.since }));
        let entries = format!("{} to {}", waiting.from, waiting.size.saturating_sub(1));
        rows.push(vec![name, entries, waiting.since]);
    }
    if session.ui.is_json() {
        session.ui.document(&Value::Array(found))?;
    } else if rows.is_empty() {
        session.ui.say("every entry is covered by an anchor");
    } else {
        session.ui.table(&["log", "entries without an anchor", "waiting since"], rows)?;
    }
    Ok(Outcome::Done)
}

/// Copies checkpoints and anchors of a log to a folder elsewhere; what is there already is left.
fn copy(log: &Path, to: &Path) -> Result<(), Failure> {
    if let (Ok(inner), Ok(outer)) = (std::path::absolute(to), log.canonicalize())
        && inner.starts_with(outer)
    {
        return Err(Failure::usage(format!("{to:?} lies within the evidence"))
            .hint("a copy is of use only where the presenter of the evidence has no hand on it"));
    }
    for sub in [case_layout::CHECKPOINTS, case_layout::ANCHORS] {
        let fault = |error| Failure::new(format!("failed to copy {sub} to {to:?}: {error}"));
        std::fs::create_dir_all(to.join(sub)).map_err(fault)?;
        for item in std::fs::read_dir(log.join(sub)).map_err(fault)? {
            let item = item.map_err(fault)?;
            let into = to.join(sub).join(item.file_name());
            if item.file_type().map_err(fault)?.is_file() && !into.exists() {
                std::fs::copy(item.path(), into).map_err(fault)?;
            }
        }
    }
    Ok(())
}

fn read_text(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| Failure::new(format!("failed to read {path:?}: {error}")))
}
