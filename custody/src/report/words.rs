//! Says in plain words what an entry of a custody log records.

use serde_json::{Map, Value};

use super::units;
use crate::entry::{Entry, EntryType};
use crate::handover::Offer;
use crate::parties;

/// One sentence for an entry: its result, how it was done, what it was done to, and what went wrong.
pub(super) fn what(entry: &Entry) -> String {
    let about = &entry.about;
    let mut parts = Vec::new();
    if let Some(text) = entry.how_text("text") {
        parts.push(text.to_owned());
    }
    if let Some(command) = entry.how_text("command") {
        parts.push(command.to_owned());
    }
    if entry.kind == EntryType::TRANSFER_OFFERED
        && let Ok(Some(offer)) = Offer::of(entry)
    {
        parts.push(offer.words());
    }
    let result = facts(&about.result, &[]);
    if !result.is_empty() {
        parts.push(result);
    }
    let how = facts(&about.how, &["command", "text", "offer", "offer_sha256"]);
    if !how.is_empty() {
        parts.push(how);
    }
    for subject in &about.subject {
        let size = subject.size.map(|size| format!(", {size} bytes")).unwrap_or_default();
        let hash = subject.sha256.map(|hash| format!(", SHA-256 {hash}")).unwrap_or_default();
        parts.push(format!("{}{size}{hash}", subject.id));
    }
    if let Some(why) = &about.why {
        let why: Vec<&str> = [why.authority.as_str(), why.purpose.as_str()]
            .into_iter()
            .filter(|text| !text.is_empty())
            .collect();
        if !why.is_empty() {
            parts.push(format!("because: {}", why.join(", ")));
        }
    }
    if !about.errors.is_empty() {
        parts.push(format!("errors: {}", facts(&about.errors, &[])));
    }
    if !about.refs.is_empty() {
        let refs: Vec<String> = about.refs.iter().map(u64::to_string).collect();
        parts.push(format!("refers to entry {}", refs.join(", ")));
    }
    parts.join("; ")
}

/// What an entry records, for readers: in a sentence of its own where its type is one that every case has.
pub(super) fn told(entry: &Entry) -> String {
    sentence(entry).unwrap_or_else(|| what(entry))
}

fn sentence(entry: &Entry) -> Option<String> {
    let about = &entry.about;
    let number = |name: &str| about.result.get(name).and_then(Value::as_u64);
    let text = |name: &str| about.result.get(name).and_then(Value::as_str);
    Some(match entry.kind.as_str() {
        "log.genesis" => {
            let authority =
                about.why.as_ref().map(|why| why.authority.as_str()).filter(|text| !text.is_empty());
            let authority = authority.map(|text| format!("; authority: {text}")).unwrap_or_default();
            format!("the log was begun, under the name {}{authority}", entry.how_text("origin")?)
        }
        "exhibit.added" => {
            format!("room was made for exhibit {}, {}", about.exhibit.as_deref()?, entry.how_text("name")?)
        }
        "acquire.start" => {
            let source = about.how.get("source")?;
            let size =
                source.get("size").and_then(Value::as_u64).map(|size| format!(", {}", units::size(size)));
            let path = source.get("path").and_then(Value::as_str).unwrap_or("a source without a name");
            format!("began to read {path}{}", size.unwrap_or_default())
        }
        "acquire.end" => {
            let issues = match number("issues")? {
                0 => "no irregularity".to_owned(),
                n => units::count(n, "irregularity", "irregularities"),
            };
            let hash = text("sha256").map(|hash| format!("; SHA-256 {hash}")).unwrap_or_default();
            format!("read {}, {issues}{hash}", units::size(number("bytes")?))
        }
        "bundle.sealed" => {
            let first = about.subject.first()?;
            let more = match about.subject.len() - 1 {
                0 => String::new(),
                n => format!(", and {n} more files (part 9)"),
            };
            format!("{} fixed with SHA-256 {}{more}", first.id, first.sha256?)
        }
        "selftest.result" => format!(
            "{} tried, {} failed (part 10)",
            units::count(number("tried")?, "assertion", "assertions"),
            number("failed")?
        ),
        "verify.result" => {
            let read = number("stream_bytes").map(|bytes| format!(", {} read again", units::size(bytes)));
            let faults = units::count(number("faults")?, "fault", "faults");
            format!("verdict {}, {faults}{}", text("verdict")?, read.unwrap_or_default())
        }
        "report.issued" => {
            let files: Vec<String> = about.subject.iter().map(|file| file.id.clone()).collect();
            format!("{} with verdict {}", files.join(", "), text("verdict")?)
        }
        "transfer.offered" | "transfer.accepted" | "transfer.refused" => handover(entry)?,
        "note" => entry.how_text("text")?.to_owned(),
        _ => return None,
    })
}

/// Who gave what to whom, and who signed for it.
fn handover(entry: &Entry) -> Option<String> {
    let offer = Offer::of(entry).ok()??;
    let (role, act) = match entry.kind.as_str() {
        "transfer.offered" => ("giver", "offered by"),
        "transfer.accepted" => ("receiver", "accepted from"),
        _ => ("receiver", "refused from"),
    };
    let items: Vec<&str> = offer.items.iter().take(8).map(|item| item.id.as_str()).collect();
    let signed = parties::check(entry);
    let signed = match (signed.is_empty(), signed.iter().all(|it| it.good)) {
        (true, _) => format!("the {role} did NOT sign"),
        (false, true) => format!("signed by the {role}"),
        (false, false) => format!("the signature of the {role} is NOT GOOD"),
    };
    let why = entry.how_text("reason").map(|why| format!(", because: {why}")).unwrap_or_default();
    Some(format!("{} {act} {} to {}{why}; {signed}", items.join(", "), offer.from, offer.terms.to))
}

/// Who acted: name, role and organisation, and the key where nobody is named.
pub(super) fn by(entry: &Entry) -> String {
    let actor = &entry.actor;
    let mut who = if actor.name.is_empty() { actor.key.clone() } else { actor.name.clone() };
    for more in [&actor.role, &actor.org] {
        if !more.is_empty() {
            who = format!("{who}, {more}");
        }
    }
    who
}

fn facts(map: &Map<String, Value>, but: &[&str]) -> String {
    let facts: Vec<String> = map
        .iter()
        .filter(|(key, _)| !but.contains(&key.as_str()))
        .map(|(key, value)| format!("{}: {}", key.replace('_', " "), plain(value)))
        .collect();
    facts.join(", ")
}

/// A value in words, as it is stored.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        Value::Object(map) => format!("({})", facts(map, &[])),
        other => other.to_string(),
    }
}

/// What kind of act a type is, in plain words.
pub(super) fn act(kind: &crate::entry::EntryType) -> &str {
    match kind.as_str() {
        "log.genesis" => "log begun",
        "key.added" => "key added",
        "key.revoked" => "key revoked",
        "acquire.start" => "acquisition begun",
        "acquire.paused" => "acquisition paused",
        "acquire.resumed" => "acquisition resumed",
        "acquire.error" => "irregularities met",
        "acquire.end" => "acquisition ended",
        "bundle.sealed" => "sealed",
        "exhibit.added" => "exhibit added",
        "verify.result" => "verified",
        "transfer.offered" => "handover offered",
        "transfer.accepted" => "handover accepted",
        "transfer.refused" => "handover refused",
        "access.open" => "opened",
        "copy.made" => "copied",
        "export.made" => "exported",
        "disclosure.made" => "disclosed",
        "timeline.built" => "timeline built",
        "query.run" => "searched",
        "report.issued" => "report issued",
        "anchor.made" => "anchored",
        "note" => "note",
        "deviation" => "deviation",
        "correction" => "correction",
        "tool.notice" => "notice about a tool",
        "log.recovered" => "log recovered",
        "selftest.result" => "self-test",
        "alert.received" => "alert received",
        "decision.made" => "decision",
        "approval.given" => "approval",
        "isolation.done" => "isolated",
        "isolation.undone" => "isolation undone",
        "retention.set" => "retention set",
        "item.disposed" => "disposed of",
        "case.closed" => "case closed",
        other => other,
    }
}
