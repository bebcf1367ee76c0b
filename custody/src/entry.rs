//! Entries of a custody log: what is said about each act, and how it is spelled.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::clock::{Clock, Moment};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::keys::{Signer, random};
use crate::strict_json;

/// The largest entry in bytes, so that any tile of a transparency log can hold it.
pub const MAX_ENTRY: usize = 65_535;

/// What kind of act an entry records.
///
/// A text, so that a log written by a later version can still be read; see [`EntryType::is_known`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EntryType(std::borrow::Cow<'static, str>);

macro_rules! entry_types {
    ($($name:ident = $text:literal),* $(,)?) => {
        impl EntryType {
            $(#[doc = concat!("`", $text, "`")] pub const $name: Self = Self(std::borrow::Cow::Borrowed($text));)*

            /// Every type of format version 1.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];
        }
    };
}

entry_types! {
    LOG_GENESIS = "log.genesis",
    KEY_ADDED = "key.added",
    KEY_REVOKED = "key.revoked",
    ACQUIRE_START = "acquire.start",
    ACQUIRE_PAUSED = "acquire.paused",
    ACQUIRE_RESUMED = "acquire.resumed",
    ACQUIRE_ERROR = "acquire.error",
    ACQUIRE_END = "acquire.end",
    BUNDLE_SEALED = "bundle.sealed",
    EXHIBIT_ADDED = "exhibit.added",
    VERIFY_RESULT = "verify.result",
    TRANSFER_OFFERED = "transfer.offered",
    TRANSFER_ACCEPTED = "transfer.accepted",
    TRANSFER_REFUSED = "transfer.refused",
    ACCESS_OPEN = "access.open",
    COPY_MADE = "copy.made",
    EXPORT_MADE = "export.made",
    DISCLOSURE_MADE = "disclosure.made",
    TIMELINE_BUILT = "timeline.built",
    QUERY_RUN = "query.run",
    REPORT_ISSUED = "report.issued",
    ANCHOR_MADE = "anchor.made",
    NOTE = "note",
    DEVIATION = "deviation",
    CORRECTION = "correction",
    TOOL_NOTICE = "tool.notice",
    LOG_RECOVERED = "log.recovered",
    SELFTEST_RESULT = "selftest.result",
    ALERT_RECEIVED = "alert.received",
    DECISION_MADE = "decision.made",
    APPROVAL_GIVEN = "approval.given",
    ISOLATION_DONE = "isolation.done",
    ISOLATION_UNDONE = "isolation.undone",
    RETENTION_SET = "retention.set",
    ITEM_DISPOSED = "item.disposed",
    CASE_CLOSED = "case.closed",
}

impl EntryType {
    /// The type as it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this version of the format has it; unknown types are accepted and reported.
    pub fn is_known(&self) -> bool {
        Self::ALL.contains(self)
    }

    /// Whether the checkpoint after such an entry is kept whole under `checkpoints/`.
    pub fn keeps_checkpoint(&self) -> bool {
        [
            Self::KEY_ADDED,
            Self::KEY_REVOKED,
            Self::BUNDLE_SEALED,
            Self::TRANSFER_OFFERED,
            Self::TRANSFER_ACCEPTED,
            Self::TRANSFER_REFUSED,
            Self::ANCHOR_MADE,
            Self::LOG_RECOVERED,
            Self::CASE_CLOSED,
        ]
        .contains(self)
    }
}

impl std::fmt::Display for EntryType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who acted. `key` is the fingerprint of the key that signed, and is filled in by the log itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Actor {
    /// Fingerprint of the signing key.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub key: String,
    /// The person's or service's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// In what role.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub role: String,
    /// For what organisation.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub org: String,
}

/// The program that wrote an entry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tool {
    /// The program's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of the running program's file, where it could be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build_sha256: Option<Digest>,
}

/// The machine an entry was written on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Host {
    /// The host's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// A stable id of the machine.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub machine: String,
    /// Operating system and kernel.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub os: String,
}

/// Something an act was done to, known by its hash.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Subject {
    /// A file's path within its bundle, or another name.
    pub id: String,
    /// Its size in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Its SHA-256.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
}

/// Why an act was done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Why {
    /// Warrant, consent, contract or instruction.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub authority: String,
    /// To what end.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub purpose: String,
}

/// When an entry was written, by the clocks of its host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EntryTime {
    /// RFC 3339 in UTC with 9 digits.
    pub wall: String,
    /// What the local zone added to UTC, in minutes.
    pub tz_min: i32,
    /// The monotonic clock in nanoseconds, as a decimal text.
    pub mono_ns: String,
    /// The id of the boot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot: Option<String>,
    /// How the wall clock is kept right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sync: Option<EntrySync>,
}

/// How the wall clock was kept right.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EntrySync {
    /// The service.
    pub source: String,
    /// Its measured offset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset_us: Option<i64>,
    /// What it said.
    pub state: String,
}

impl From<Moment> for EntryTime {
    fn from(moment: Moment) -> Self {
        Self {
            wall: moment.rfc3339(),
            tz_min: moment.tz_min,
            mono_ns: moment.mono_ns.to_string(),
            boot: moment.boot,
            sync: moment.sync.map(|sync| EntrySync {
                source: sync.source,
                offset_us: sync.offset_us,
                state: sync.state,
            }),
        }
    }
}

/// One entry of a log, as it was read.
///
/// All texts are in their stored form: see [`strict_json::escape_text`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "Line")]
pub struct Entry {
    /// Version of the format; 1.
    pub v: u64,
    /// Its number, from 0.
    pub seq: u64,
    /// SHA-256 of the line before; 64 zeros for the first.
    pub prev: Digest,
    /// A UUID of version 7.
    pub id: String,
    /// What kind of act.
    #[serde(rename = "type")]
    pub kind: EntryType,
    /// When.
    pub time: EntryTime,
    /// Who.
    #[serde(default)]
    pub actor: Actor,
    /// With what.
    #[serde(default)]
    pub tool: Tool,
    /// On what machine.
    #[serde(default)]
    pub host: Host,
    /// The rest, which the caller gave.
    #[serde(flatten)]
    pub about: About,
}

impl Entry {
    /// Reads one line of a log, without its line feed.
    ///
    /// # Errors
    ///
    /// [`Error::StrictJson`] or [`Error::Malformed`].
    pub fn parse(line: &[u8]) -> Result<Self> {
        if line.len() > MAX_ENTRY {
            return Err(Error::malformed("entry", format!("{} bytes; at most {MAX_ENTRY}", line.len())));
        }
        strict_json::read(line)
    }

    /// A fact of `how`, where it is a text.
    pub fn how_text(&self, key: &str) -> Option<&str> {
        self.about.how.get(key).and_then(Value::as_str)
    }
}

/// All fields of an entry side by side, as they stand in its line: so each is read where it stands, and once.
#[derive(Deserialize)]
struct Line {
    v: u64,
    seq: u64,
    prev: Digest,
    id: String,
    #[serde(rename = "type")]
    kind: EntryType,
    time: EntryTime,
    #[serde(default)]
    actor: Actor,
    #[serde(default)]
    tool: Tool,
    #[serde(default)]
    host: Host,
    case: Option<String>,
    exhibit: Option<String>,
    #[serde(default)]
    subject: Vec<Subject>,
    why: Option<Why>,
    #[serde(default)]
    how: Map<String, Value>,
    #[serde(default)]
    result: Map<String, Value>,
    #[serde(default)]
    errors: Map<String, Value>,
    #[serde(default)]
    refs: Vec<u64>,
    #[serde(default)]
    party_sigs: Vec<Value>,
    #[serde(flatten)]
    other: Map<String, Value>,
}

impl From<Line> for Entry {
    fn from(line: Line) -> Self {
        let Line {
            v, seq, prev, id, kind, time, actor, tool, host, case, exhibit, subject, why, how, ..
        } = line;
        let Line { result, errors, refs, party_sigs, other, .. } = line;
        let about = About { case, exhibit, subject, why, how, result, errors, refs, party_sigs, other };
        Self { v, seq, prev, id, kind, time, actor, tool, host, about }
    }
}

/// What an entry says beyond who, when and with what.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct About {
    /// The case's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub case: Option<String>,
    /// The exhibit's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exhibit: Option<String>,
    /// What it was done to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subject: Vec<Subject>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<Why>,
    /// By what command and settings.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub how: Map<String, Value>,
    /// With what outcome.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub result: Map<String, Value>,
    /// What went wrong.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub errors: Map<String, Value>,
    /// Numbers of earlier entries it refers to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub refs: Vec<u64>,
    /// Signatures of the parties of a handover, as they gave them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub party_sigs: Vec<Value>,
    /// Fields of later versions.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// An entry to be appended.
///
/// The methods take text as it is, and escape it; fields set directly must be in their stored form.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEntry {
    /// What kind of act.
    pub kind: EntryType,
    /// What is said about it.
    pub about: About,
}

impl NewEntry {
    /// An entry of this type that says nothing more yet.
    pub fn new(kind: EntryType) -> Self {
        Self { kind, about: About::default() }
    }

    /// Adds what was acted on.
    #[must_use]
    pub fn subject(mut self, id: impl AsRef<[u8]>, size: u64, sha256: Digest) -> Self {
        let id = strict_json::escape_text(id.as_ref());
        self.about.subject.push(Subject { id, size: Some(size), sha256: Some(sha256) });
        self
    }

    /// Says by what authority and to what end.
    #[must_use]
    pub fn why(mut self, authority: &str, purpose: &str) -> Self {
        let escape = |text: &str| strict_json::escape_text(text.as_bytes());
        self.about.why = Some(Why { authority: escape(authority), purpose: escape(purpose) });
        self
    }

    /// Adds a fact about how it was done.
    #[must_use]
    pub fn how(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.about.how.insert(key.to_owned(), escape_value(value.into()));
        self
    }

    /// Adds a fact about the outcome.
    #[must_use]
    pub fn result(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.about.result.insert(key.to_owned(), escape_value(value.into()));
        self
    }

    /// Adds a fact about what went wrong.
    #[must_use]
    pub fn error(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.about.errors.insert(key.to_owned(), escape_value(value.into()));
        self
    }

    /// Refers to an earlier entry.
    #[must_use]
    pub fn refers_to(mut self, seq: u64) -> Self {
        self.about.refs.push(seq);
        self
    }

    /// Says which exhibit it is about.
    #[must_use]
    pub fn exhibit(mut self, id: &str) -> Self {
        self.about.exhibit = Some(strict_json::escape_text(id.as_bytes()));
        self
    }
}

/// Who writes, with what, on what machine, in what case: the same for all entries of a run.
///
/// Texts are escaped when they are written.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Identity {
    /// Who; `key` is ignored, as the log fills it in.
    pub actor: Actor,
    /// With what.
    pub tool: Tool,
    /// On what machine.
    pub host: Host,
    /// The case's id.
    pub case: Option<String>,
    /// The exhibit's id.
    pub exhibit: Option<String>,
}

/// Writes an entry's line, without its line feed.
pub(crate) fn line_of(
    new: &NewEntry,
    seq: u64,
    prev: Digest,
    identity: &Identity,
    key: &dyn Signer,
    clock: &dyn Clock,
) -> Result<String> {
    let escape = |text: &str| strict_json::escape_text(text.as_bytes());
    let now = clock.now();
    let id = uuid_v7(now.wall_ns)?;
    let mut about = new.about.clone();
    about.case = about.case.or_else(|| identity.case.as_deref().map(escape));
    about.exhibit = about.exhibit.or_else(|| identity.exhibit.as_deref().map(escape));
    let Identity { actor, tool, host, .. } = identity;
    let entry = Entry {
        v: 1,
        seq,
        prev,
        id,
        kind: new.kind.clone(),
        time: now.into(),
        actor: Actor {
            key: key.verifying_key().fingerprint(),
            name: escape(&actor.name),
            role: escape(&actor.role),
            org: escape(&actor.org),
        },
        tool: Tool {
            name: escape(&tool.name),
            version: escape(&tool.version),
            build_sha256: tool.build_sha256,
        },
        host: Host { name: escape(&host.name), machine: escape(&host.machine), os: escape(&host.os) },
        about,
    };
    let value = serde_json::to_value(&entry).map_err(|error| Error::malformed("entry", error.to_string()))?;
    let line = strict_json::to_line(&value)?;
    if line.len() > MAX_ENTRY {
        let why = format!(
            "{} bytes; at most {MAX_ENTRY}: put long lists into a file and name its hash",
            line.len()
        );
        return Err(Error::malformed("entry", why));
    }
    Ok(line)
}

/// A UUID of version 7 for this time, its other bits random.
pub fn uuid_v7(wall_ns: i64) -> Result<String> {
    let millis = u64::try_from(wall_ns / 1_000_000).unwrap_or_default();
    Ok(uuid::Builder::from_unix_timestamp_millis(millis, &random()?).into_uuid().to_string())
}

fn escape_value(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(strict_json::escape_text(text.as_bytes())),
        Value::Array(items) => items.into_iter().map(escape_value).collect(),
        Value::Object(fields) => fields.into_iter().map(|(key, value)| (key, escape_value(value))).collect(),
        plain => plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::FixedClock;
    use crate::keys::SigningKey;

    fn line(new: &NewEntry) -> Result<String> {
        let identity = Identity {
            actor: Actor { name: "J. Doe\t\\".to_owned(), ..Actor::default() },
            case: Some("ir-1".to_owned()),
            ..Identity::default()
        };
        let key = SigningKey::from_seed(&[1; 32]);
        line_of(new, 3, Digest([0; 32]), &identity, &key, &FixedClock::at(1_795_224_600_123_456_789))
    }

    #[test]
    fn an_entry_reads_back_with_all_it_was_given() {
        let new = NewEntry::new(EntryType::NOTE)
            .subject(b"a\xff", 5, Digest([7; 32]))
            .why("warrant 1", "to find out")
            .how("command", vec!["exhibit", "custody"])
            .result("text", "line 1\nline 2")
            .refers_to(1);
        let entry = Entry::parse(line(&new).unwrap().as_bytes()).unwrap();
        assert_eq!((entry.v, entry.seq), (1, 3));
        assert_eq!(entry.kind, EntryType::NOTE);
        assert_eq!(entry.actor.name, "J. Doe\\x09\\x5c");
        assert!(entry.actor.key.starts_with("SHA256:"));
        assert_eq!(entry.time.wall, "2026-11-21T01:30:00.123456789Z");
        assert_eq!(entry.about.subject[0].id, "a\\xff");
        assert_eq!(entry.about.result["text"], "line 1\\x0aline 2");
        assert_eq!(entry.about.case.as_deref(), Some("ir-1"));
        assert_eq!(entry.about.refs, [1]);
        assert_eq!(entry.id.as_bytes()[14], b'7');
    }

    #[test]
    fn unknown_types_and_fields_are_kept() {
        let line = line(&NewEntry::new(EntryType::NOTE)).unwrap();
        let later =
            line.replace("\"type\":\"note\",\"v\":1}", "\"type\":\"zeta.made\",\"v\":1,\"zeta\":{\"a\":1}}");
        assert_ne!(later, line);
        let entry = Entry::parse(later.as_bytes()).unwrap();
        assert!(!entry.kind.is_known());
        assert_eq!(entry.about.other["zeta"]["a"], 1);
    }

    #[test]
    fn an_entry_that_is_too_long_or_holds_a_float_is_refused() {
        assert!(line(&NewEntry::new(EntryType::NOTE).result("text", "x".repeat(65_535))).is_err());
        assert!(line(&NewEntry::new(EntryType::NOTE).result("share", 0.5)).is_err());
        assert!(line(&NewEntry::new(EntryType::NOTE).result("text", "x".repeat(60_000))).is_ok());
    }
}
