//! Isolations in the log of a case: what was, before it is touched; what was done; what was taken back. The log alone is enough
//! to take one back, whoever did it and whatever became of the service.

use custody::strict_json::unescape_text;
use custody::{Entry, EntryType, NewEntry};
use serde_json::Value;

use super::{Isolated, Restored, Verified};
use crate::steps::Failed;

/// Bytes of a recorded state, at most: an entry takes 65,535, and some letters take several of them.
const MOST_RECORDED: usize = 50_000;

/// How far an isolation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It was about to be done, and may have been.
    Intended,
    /// It was done.
    Done,
    /// It was taken back.
    Undone,
}

impl Stage {
    /// The word for people and programs.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Intended => "intended",
            Self::Done => "done",
            Self::Undone => "undone",
        }
    }
}

/// One isolation, as the log of a case tells it.
#[derive(Debug, Clone, PartialEq)]
pub struct Logged {
    /// Its mark, by which it is named in commands.
    pub id: String,
    /// What kind: the word of its step, such as `isolate.host`.
    pub kind: String,
    /// What is isolated.
    pub subject: String,
    /// The state before it.
    pub recorded: Value,
    /// When its lease ends, RFC 3339; empty for never.
    pub until: String,
    /// How far it is.
    pub stage: Stage,
    /// The job that did it; empty where a person did.
    pub job: String,
    /// The entry with the recorded state.
    pub seq: u64,
}

/// The entry before anything is touched.
///
/// # Errors
///
/// [`Failed`] when the state does not fit into one.
pub fn intended(id: &str, kind: &str, subject: &str, recorded: &Value) -> Result<NewEntry, Failed> {
    let text = recorded.to_string();
    let size = text.len().saturating_add(text.matches('\\').count().saturating_mul(4));
    if size.saturating_add(text.matches('"').count()) > MOST_RECORDED {
        return Err(Failed::for_good(format!("the state of {subject} is too long for an entry of the log")));
    }
    let until = recorded.get("until").and_then(Value::as_str).unwrap_or_default();
    Ok(about(NewEntry::new(EntryType::DECISION_MADE), "isolate", id, kind)
        .how("subject", subject)
        .how("until", until)
        .how("recorded", text))
}

/// The entry of what a step of a job is about to do; `None` where it told no state.
///
/// # Errors
///
/// [`Failed`] when the state does not fit into an entry: then it must not be done.
pub(crate) fn of_step(job: &str, step: &str, word: &str, intent: &Value) -> Result<Option<NewEntry>, Failed> {
    let Some(recorded) = intent.get("recorded") else { return Ok(None) };
    let subject = intent.get("subject").and_then(Value::as_str).unwrap_or_default();
    let id = super::mark(job, step)?;
    Ok(Some(intended(&id, word, subject, recorded)?.how("job", job)))
}

/// Says of an entry of a job whose isolation it tells of, so that it can be found and undone by hand.
pub(crate) fn named(entry: NewEntry, job: &str, step: &str, word: &str) -> NewEntry {
    match super::mark(job, step) {
        Ok(id) => entry.how("isolation", id).how("kind", word).how("job", job),
        Err(_) => entry,
    }
}

/// The entry once it is done. `intent` is the number of the entry before.
#[must_use]
pub fn done(id: &str, kind: &str, isolated: &Isolated, intent: u64) -> NewEntry {
    let until = isolated.recorded.get("until").and_then(Value::as_str).unwrap_or_default();
    let entry = about(NewEntry::new(EntryType::ISOLATION_DONE), "isolate", id, kind)
        .how("subject", isolated.subject.as_str())
        .how("until", until)
        .result("proved", isolated.is_proved);
    tried(entry, &isolated.verified).refers_to(intent)
}

/// The entry of a lease that ends at another time now.
#[must_use]
pub fn extended(isolation: &Logged, until: &str) -> NewEntry {
    about(NewEntry::new(EntryType::DECISION_MADE), "extend", &isolation.id, &isolation.kind)
        .how("subject", isolation.subject.as_str())
        .how("until", until)
        .refers_to(isolation.seq)
}

/// The entry once it is taken back. `intent` is the number of the entry with the recorded state.
#[must_use]
pub fn undone(id: &str, kind: &str, subject: &str, restored: &Restored, intent: u64) -> NewEntry {
    let entry = about(NewEntry::new(EntryType::ISOLATION_UNDONE), "undo", id, kind)
        .how("subject", subject)
        .result("exactly_as_before", restored.is_exact())
        .refers_to(intent);
    let entry = if restored.differences.is_empty() {
        entry
    } else {
        entry.result("differences", restored.differences.clone())
    };
    if restored.notes.is_empty() { entry } else { entry.result("notes", restored.notes.clone()) }
}

fn about(entry: NewEntry, act: &str, id: &str, kind: &str) -> NewEntry {
    entry.how("act", act).how("isolation", id).how("kind", kind)
}

fn tried(entry: NewEntry, verified: &Verified) -> NewEntry {
    let said = |probe: &super::Probe| format!("{}: {}", probe.what, probe.seen);
    let allowed: Vec<String> = verified.allowed.iter().map(said).collect();
    let forbidden: Vec<String> = verified.forbidden.iter().map(said).collect();
    let entry = if allowed.is_empty() { entry } else { entry.result("allowed_tried", allowed) };
    let entry = if forbidden.is_empty() { entry } else { entry.result("forbidden_tried", forbidden) };
    let entry = if verified.read_back.is_empty() {
        entry
    } else {
        entry.result("read_back", verified.read_back.clone())
    };
    let entry = match verified.open() {
        Some(open) => entry.result("still_open", said(open)),
        None => entry,
    };
    if verified.not_tried.is_empty() { entry } else { entry.result("not_tried", verified.not_tried.clone()) }
}

/// Every isolation of a case's log, in the order in which they were begun.
#[must_use]
pub fn all(entries: &[Entry]) -> Vec<Logged> {
    let mut found: Vec<Logged> = Vec::new();
    for entry in entries {
        let (Some(id), Some(kind)) = (entry.how_text("isolation"), entry.how_text("kind")) else { continue };
        let plain = |key: &str| unescaped(entry.how_text(key).unwrap_or_default());
        let known = found.iter_mut().find(|isolation| isolation.id == id);
        let recorded = entry.how_text("recorded").map(|_| plain("recorded"));
        match (known, recorded.and_then(|text| serde_json::from_str::<Value>(&text).ok())) {
            (None, Some(recorded)) => found.push(Logged {
                id: id.to_owned(),
                kind: kind.to_owned(),
                subject: plain("subject"),
                recorded,
                until: plain("until"),
                stage: Stage::Intended,
                job: plain("job"),
                seq: entry.seq,
            }),
            (Some(isolation), _) if entry.kind == EntryType::ISOLATION_DONE => isolation.stage = Stage::Done,
            (Some(isolation), _) if entry.kind == EntryType::ISOLATION_UNDONE => {
                isolation.stage = Stage::Undone;
            }
            (Some(isolation), _) if entry.how_text("act") == Some("extend") => {
                isolation.until = plain("until");
            }
            _ => {}
        }
    }
    found
}

fn unescaped(text: &str) -> String {
    unescape_text(text).ok().and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use custody::{Actor, Case, Identity, NewCase, SigningKey, SystemClock, Writer};
    use serde_json::json;

    use super::*;

    #[test]
    fn the_log_alone_tells_the_state_before_however_it_is_spelt() {
        let folder = tempfile::tempdir().unwrap();
        let key = SigningKey::generate().unwrap();
        let identity = Identity {
            actor: Actor { name: "J. Doe".to_owned(), ..Actor::default() },
            ..Identity::default()
        };
        let writer = Writer::new(&key, &SystemClock, identity);
        let case = Case::create(&folder.path().join("case"), &NewCase::default(), &writer).unwrap();
        let recorded = json!({ "text": "a\n\t\"b\" \\ ü \u{7f}", "null": null, "share": 0.5, "until": "2026-11-22T00:00:00Z" });
        let intent = intended("i1", "isolate.host", "this host", &recorded).unwrap();
        let intent = case.append(intent, &writer).unwrap().seq;
        let stage = || all(&case.log().read().unwrap().entries).remove(0);
        assert_eq!(
            (stage().recorded, stage().stage, stage().seq),
            (recorded.clone(), Stage::Intended, intent)
        );

        let isolated = Isolated {
            subject: "this host".to_owned(),
            recorded: recorded.clone(),
            applied: Value::Null,
            verified: Verified { not_tried: vec!["no route".to_owned()], ..Verified::default() },
            is_proved: false,
        };
        case.append(done("i1", "isolate.host", &isolated, intent), &writer).unwrap();
        assert_eq!((stage().stage, stage().until.as_str()), (Stage::Done, "2026-11-22T00:00:00Z"));
        case.append(extended(&stage(), "2026-11-23T00:00:00Z"), &writer).unwrap();
        assert_eq!((stage().stage, stage().until.as_str()), (Stage::Done, "2026-11-23T00:00:00Z"));
        let restored = Restored { differences: vec!["table x".to_owned()], notes: vec![] };
        case.append(undone("i1", "isolate.host", "this host", &restored, intent), &writer).unwrap();
        assert_eq!((stage().stage, stage().recorded), (Stage::Undone, recorded));
    }

    #[test]
    fn a_state_too_long_for_an_entry_is_refused_before_anything_is_touched() {
        let long = json!({ "text": "\"".repeat(20_000) });
        assert!(!intended("i1", "isolate.host", "this host", &long).unwrap_err().may_help_again);
        let intent = json!({ "subject": "this host", "recorded": long });
        assert!(
            of_step("J000001", "isolate", "isolate.host", &intent).is_err(),
            "it went on without an entry"
        );
        assert!(of_step("J000001", "isolate", "isolate.host", &json!({})).unwrap().is_none());
    }
}
