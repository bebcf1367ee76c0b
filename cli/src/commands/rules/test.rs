//! `exhibit rules test`

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use respond::alert::{self, Mapping, SOURCES};
use respond::inventory::Inventory;
use respond::rules::{Decision, RuleSet};
use serde_json::{Value, json};

use super::By;
use crate::failure::{Failure, Outcome};
use crate::session::Session;
use crate::{alert_file, ui};

/// More files one corpus has not.
const MOST: usize = 100_000;

/// Try rules on recorded alerts, and compare with what was decided before
///
/// The corpus has a folder for each product, named by its word, with one alert a file; NAME.mapping.toml beside NAME.json is its
/// mapping. Without --golden the decisions are printed, one line of JSON an alert. With it, each difference is printed, and it ends
/// with 3 if there is one; --update writes the file anew instead, for a person to read over.
///
/// Example: exhibit rules test --corpus alerts --rules rules.toml --inventory assets.toml --golden decisions.jsonl
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The recorded alerts
    #[arg(long, value_name = "DIR")]
    corpus: PathBuf,
    /// What was decided before
    #[arg(long, value_name = "FILE")]
    golden: Option<PathBuf>,
    /// Write what is decided now to the golden file
    #[arg(long, requires = "golden")]
    update: bool,
    #[command(flatten)]
    by: By,
}

pub(super) fn run(args: &Args, session: &Session) -> Result<Outcome, Failure> {
    let (rules, inventory, at) = args.by.load(session)?;
    let mut lines = Vec::new();
    for (name, file, source) in corpus(&args.corpus)? {
        lines.extend(decisions(&name, &file, source, &rules, &inventory, at)?);
    }
    let Some(golden) = &args.golden else {
        for line in &lines {
            session.ui.document(line)?;
        }
        return Ok(Outcome::Done);
    };
    if args.update {
        write(golden, &lines)?;
        session.ui.say(&format!("{}: {} decisions", golden.display(), lines.len()));
        return Ok(Outcome::Done);
    }
    compare(golden, &lines, session)
}

/// Name, file and source of each alert of the corpus, by name.
fn corpus(folder: &Path) -> Result<Vec<(String, PathBuf, &'static str)>, Failure> {
    let mut found = Vec::new();
    for source in SOURCES {
        let folder = folder.join(source.word);
        if !folder.is_dir() {
            continue;
        }
        for entry in std::fs::read_dir(&folder)? {
            let file = entry?.path();
            let Some(name) = file.file_name().and_then(|name| name.to_str()) else { continue };
            if file.extension().is_some_and(|extension| extension == "json") {
                found.push((format!("{}/{name}", source.word), file.clone(), source.word));
            }
            if found.len() > MOST {
                return Err(Failure::usage(format!("the corpus has more than {MOST} alerts")));
            }
        }
    }
    if found.is_empty() {
        return Err(Failure::usage(format!("{} has no alert", folder.display()))
            .hint("it has a folder for each product, such as guardduty/, with one alert a file"));
    }
    found.sort();
    Ok(found)
}

/// What is decided about the alerts of one file.
fn decisions(
    name: &str,
    file: &Path,
    source: &str,
    rules: &RuleSet,
    inventory: &Inventory,
    at: i64,
) -> Result<Vec<Value>, Failure> {
    let mapping = file.with_extension("mapping.toml");
    let mapping = mapping.is_file().then(|| Mapping::load(&mapping)).transpose()?;
    match alert::read(source, mapping.as_ref(), &alert_file::bytes(file)?) {
        Err(why) => Ok(vec![json!({"alert": name, "unparsed": why.to_string()})]),
        Ok(alerts) => Ok(alerts
            .iter()
            .enumerate()
            .map(|(number, alert)| {
                let name = if alerts.len() == 1 { name.to_owned() } else { format!("{name}#{}", number + 1) };
                line(&name, &rules.decide(inventory, alert, at))
            })
            .collect()),
    }
}

/// A decision, as far as people compare it.
fn line(name: &str, decision: &Decision) -> Value {
    let plans: Vec<Value> = decision
        .plans
        .iter()
        .map(|plan| {
            let steps: Vec<&str> = plan.steps.iter().map(|step| step.word.as_str()).collect();
            let asks: Vec<&str> = plan
                .steps
                .iter()
                .filter(|step| step.approval.is_some())
                .map(|step| step.word.as_str())
                .collect();
            json!({
                "rule": plan.rule, "mode": plan.mode, "asset": format!("{} {}", plan.asset.kind.word(), plan.asset.id),
                "key": plan.dedup_key, "repeat": plan.repeat, "steps": steps, "asks": asks,
            })
        })
        .collect();
    let refused: Vec<&str> = decision
        .reasons
        .iter()
        .filter(|reason| reason.rule.is_empty())
        .map(|reason| reason.what.as_str())
        .collect();
    json!({"alert": name, "plans": plans, "refused": refused})
}

fn write(golden: &Path, lines: &[Value]) -> Result<(), Failure> {
    let folder = golden.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    for line in lines {
        writeln!(file, "{line}")?;
    }
    file.as_file().sync_all()?;
    // What a temporary file may not be read by, a golden file may.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    file.as_file().set_permissions(mode)?;
    file.persist(golden).map_err(|error| error.error)?;
    Ok(())
}

fn compare(golden: &Path, now: &[Value], session: &Session) -> Result<Outcome, Failure> {
    let bytes = alert_file::bytes(golden)?;
    let text = String::from_utf8_lossy(&bytes);
    let mut before = BTreeMap::new();
    for (at, line) in text.lines().enumerate() {
        let read: Result<Value, _> = serde_json::from_str(line);
        let value = read.map_err(|error| {
            Failure::usage(format!("{}, line {}: {error}", golden.display(), at + 1))
                .hint("--update writes it anew")
        })?;
        before.insert(name_of(&value).to_owned(), value);
    }
    let mut differences: Vec<(String, Option<Value>, Option<Value>)> = Vec::new();
    for line in now {
        let name = name_of(line).to_owned();
        let golden = before.remove(&name);
        if golden.as_ref() != Some(line) {
            differences.push((name, golden, Some(line.clone())));
        }
    }
    differences.extend(before.into_iter().map(|(name, line)| (name, Some(line), None)));
    for (name, golden, now) in &differences {
        if session.ui.is_json() {
            session.ui.document(&json!({"alert": name, "before": golden, "now": now}))?;
            continue;
        }
        session.ui.data(&ui::printable(name, false))?;
        for (mark, line) in [("-", golden), ("+", now)] {
            let words = line.as_ref().map_or_else(|| vec!["(not there)".to_owned()], words);
            for line in words {
                session.ui.data(&ui::printable(&format!("  {mark} {line}"), false))?;
            }
        }
    }
    session.ui.say(&format!("{} decisions, {} differ", now.len(), differences.len()));
    Ok(if differences.is_empty() { Outcome::Done } else { Outcome::NotVerified })
}

fn name_of(line: &Value) -> &str {
    line.get("alert").and_then(Value::as_str).unwrap_or_default()
}

/// A decision over several lines, so that a difference is seen.
fn words(line: &Value) -> Vec<String> {
    let mut words = Vec::new();
    for (key, value) in line.as_object().into_iter().flatten().filter(|(key, _)| *key != "alert") {
        match value.as_array() {
            Some(items) if items.is_empty() => words.push(format!("{key}: none")),
            Some(items) => words.extend(items.iter().map(|item| format!("{key}: {item}"))),
            None => words.push(format!("{key}: {value}")),
        }
    }
    words
}
