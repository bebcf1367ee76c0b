//! Handing evidence on: the giver offers, the receiver accepts or refuses, and both sign the same text.
//!
//! The text of an offer is what a person signs, with `exhibit` or with `ssh-keygen -Y sign -n custody@v1`. It is in the
//! entry line by line, so that `jq -r 'select(.seq==7).how.offer[]' custody.jsonl` prints exactly what was signed:
//!
//! ```text
//! exhibit custody offer v1
//! offer: 019aa0d5-…                     a random id (UUID of version 7)
//! log: exhibit/9f2c…                    the log's origin
//! after: 412 entries, root 8f43…        size and Merkle root (hex) that the giver saw
//! case: …                               the case's id
//! item: E001 manifest 5891…             each exhibit, with the SHA-256 of its manifest.json; or `not sealed`
//! from: J. Doe                          who gives
//! from key: SHA256:…                    the key that the giver signs with
//! to: Property store                    who is to receive
//! to key: SHA256:…                      the key that the receiver signs with
//! to role: …   place: …   means: …   purpose: …   seal: …   condition: …     (a line each, where it was said)
//! time: 2026-11-21T01:30:00.123456789Z
//! ```
//!
//! To sign this text is to accept it. A refusal is signed over the text and one more line, `refused: REASON`. Lines whose
//! fact nobody stated are left out, `to key` too: then the receiver will not sign, and the minutes from there on are a
//! gap. Values are in their stored form ([`strict_json::escape_text`]), so that each has one line.
//!
//! Entries, all in `how` unless said otherwise:
//! - `transfer.offered`: `offer` (the lines), `to`, `to_key`; `why.purpose`; `result` what was verified before;
//!   `party_sigs` the giver's signature.
//! - `transfer.accepted`, `transfer.refused`: `refs` the offer, `offer` (the same lines), `offer_sha256` (SHA-256 of the
//!   offer's line in the log), `condition` or `reason`, `unsigned: true` where the receiver did not sign; `result` what was
//!   verified at the receipt; `party_sigs` the receiver's signature.
//! - a party signature is `{"role":"giver"|"receiver","sshsig":[lines of the .sig file]}`.

use std::path::Path;

use serde_json::{Value, json};

use crate::bundle::LONGEST_MANIFEST;
use crate::case::exhibits_in;
use crate::case_layout;
use crate::clock::rfc3339;
use crate::custody_log::{Appended, CustodyLog, Writer};
use crate::digest::{Digest, sha256};
use crate::durable_file::read_small;
use crate::entry::{Entry, EntryType, NewEntry, Why, uuid_v7};
use crate::error::{Error, Result};
use crate::log_keys::HOW_TO_KEY;
use crate::ssh::{PartyKey, SshSignature};
use crate::strict_json;

/// The namespace of signatures of handovers, which `ssh-keygen -Y` must be told.
pub const NAMESPACE: &str = "custody@v1";
/// In `how` of `transfer.*`: the lines of the offer, which the parties sign.
pub const HOW_OFFER: &str = "offer";
/// In `how` of `transfer.accepted` and `transfer.refused`: SHA-256 of the line of the offer.
pub const HOW_OFFER_SHA256: &str = "offer_sha256";
/// In `how` of `transfer.offered`: who is to receive.
pub const HOW_TO: &str = "to";
/// In `how` of `transfer.accepted`: the receiver did not sign.
pub const HOW_UNSIGNED: &str = "unsigned";
/// In `how` of `transfer.refused`: why.
pub const HOW_REASON: &str = "reason";
/// In a party signature: `giver` or `receiver`.
pub(crate) const SIG_ROLE: &str = "role";
/// In a party signature: the lines of the `.sig` file.
pub(crate) const SIG_LINES: &str = "sshsig";

const MANIFEST: &str = "manifest.json";
const TITLE: &str = "exhibit custody offer v1";
/// More exhibits are handed over one by one, or in several offers: an entry has at most 65,535 bytes.
const MOST_ITEMS: usize = 300;

/// What the parties agree on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Terms {
    /// Who is to receive.
    pub to: String,
    /// The fingerprint of the key that the receiver signs with; none when nobody will sign.
    pub to_key: Option<String>,
    /// The receiver's role.
    pub to_role: String,
    /// Where.
    pub place: String,
    /// By what means: by hand, by courier, over the network.
    pub means: String,
    /// To what end.
    pub purpose: String,
    /// Number and state of the seal.
    pub seal: String,
    /// The state of what is handed over.
    pub condition: String,
}

/// One exhibit that is handed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its id.
    pub id: String,
    /// The SHA-256 of its manifest, when it is sealed.
    pub manifest: Option<Digest>,
}

/// An offer, as it is signed. Texts are in their stored form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// A UUID of version 7.
    pub id: String,
    /// The log's origin.
    pub origin: String,
    /// How many entries the giver saw.
    pub size: u64,
    /// The root over them.
    pub root: Digest,
    /// The case's id.
    pub case: Option<String>,
    /// What is handed over.
    pub items: Vec<Item>,
    /// Who gives.
    pub from: String,
    /// The fingerprint of the key that the giver signs with; none when the giver does not sign.
    pub from_key: Option<String>,
    /// What the parties agree on.
    pub terms: Terms,
    /// When, RFC 3339.
    pub time: String,
}

impl Offer {
    /// The lines that are signed.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![
            TITLE.to_owned(),
            format!("offer: {}", self.id),
            format!("log: {}", self.origin),
            format!("after: {} entries, root {}", self.size, self.root),
        ];
        let mut say = |name: &str, value: &str| {
            if !value.is_empty() {
                lines.push(format!("{name}: {value}"));
            }
        };
        say("case", self.case.as_deref().unwrap_or_default());
        for item in &self.items {
            let state = item.manifest.map_or("not sealed".to_owned(), |hash| format!("manifest {hash}"));
            say("item", &format!("{} {state}", item.id));
        }
        say("from", &self.from);
        say("from key", self.from_key.as_deref().unwrap_or_default());
        say("to", &self.terms.to);
        say("to key", self.terms.to_key.as_deref().unwrap_or_default());
        say("to role", &self.terms.to_role);
        say("place", &self.terms.place);
        say("means", &self.terms.means);
        say("purpose", &self.terms.purpose);
        say("seal", &self.terms.seal);
        say("condition", &self.terms.condition);
        say("time", &self.time);
        lines
    }

    /// The text that is signed to give and to accept: each line with its line feed.
    pub fn text(&self) -> String {
        self.lines().iter().map(|line| format!("{line}\n")).collect()
    }

    /// The text that is signed to refuse.
    pub fn refusal(&self, reason: &str) -> String {
        format!("{}refused: {reason}\n", self.text())
    }

    /// Reads the lines of an offer.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] when they are anything else than [`Offer::lines`] gives.
    pub fn parse<'a>(lines: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let bad = |why: String| Error::malformed("offer", why);
        let given: Vec<&str> = lines.into_iter().collect();
        let mut offer = Self {
            id: String::new(),
            origin: String::new(),
            size: 0,
            root: Digest([0; 32]),
            case: None,
            items: Vec::new(),
            from: String::new(),
            from_key: None,
            terms: Terms::default(),
            time: String::new(),
        };
        for line in given.iter().skip(1) {
            let (name, value) =
                line.split_once(": ").ok_or_else(|| bad(format!("{line:?} states nothing")))?;
            let text = value.to_owned();
            match name {
                "offer" => offer.id = text,
                "log" => offer.origin = text,
                "after" => {
                    let (size, root) = value.split_once(" entries, root ").unwrap_or_default();
                    offer.size = size.parse().map_err(|_| bad(format!("{line:?} names no size")))?;
                    offer.root = root.parse()?;
                }
                "case" => offer.case = Some(text),
                "item" => {
                    let (id, state) = value.split_once(' ').unwrap_or((value, ""));
                    let manifest = state.strip_prefix("manifest ").map(str::parse).transpose()?;
                    offer.items.push(Item { id: id.to_owned(), manifest });
                }
                "from" => offer.from = text,
                "from key" => offer.from_key = Some(text),
                "to" => offer.terms.to = text,
                "to key" => offer.terms.to_key = Some(text),
                "to role" => offer.terms.to_role = text,
                "place" => offer.terms.place = text,
                "means" => offer.terms.means = text,
                "purpose" => offer.terms.purpose = text,
                "seal" => offer.terms.seal = text,
                "condition" => offer.terms.condition = text,
                "time" => offer.time = text,
                other => return Err(bad(format!("it states {other:?}, which this version does not know"))),
            }
        }
        if offer.lines() != given {
            return Err(bad("its lines are not those of version 1, in their order".to_owned()));
        }
        Ok(offer)
    }

    /// The offer that an entry holds; `None` when it holds none.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`].
    pub fn of(entry: &Entry) -> Result<Option<Self>> {
        let Some(lines) = entry.about.how.get(HOW_OFFER) else { return Ok(None) };
        let texts = lines.as_array().map(|lines| lines.iter().map(Value::as_str).collect::<Option<Vec<_>>>());
        let texts = texts.flatten().ok_or_else(|| Error::malformed("offer", "it is no list of lines"))?;
        Self::parse(texts).map(Some)
    }

    /// What was agreed on, in words: `from J. Doe to P. Roe; place: Lab 2; seal: 0042 intact`.
    pub fn words(&self) -> String {
        let terms = &self.terms;
        let mut words = format!("from {} to {}", self.from, terms.to);
        for (name, fact) in [
            ("role", &terms.to_role),
            ("place", &terms.place),
            ("means", &terms.means),
            ("seal", &terms.seal),
            ("condition", &terms.condition),
        ] {
            if !fact.is_empty() {
                words.push_str(&format!("; {name}: {fact}"));
            }
        }
        words
    }

    fn to_value(&self) -> Value {
        self.lines().into()
    }
}

/// How the receiver answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Takes it, in this condition.
    Accepted {
        /// The state of what was received; may be empty.
        condition: String,
    },
    /// Does not take it.
    Refused {
        /// Why.
        reason: String,
    },
}

/// The receiver's signature.
pub enum ReceiverSigns<'a> {
    /// Made now, with this key.
    With(&'a PartyKey<'a>),
    /// Made elsewhere over the text of the offer (or of the refusal).
    Brought(&'a SshSignature),
    /// The receiver does not sign, and it is recorded so.
    Not,
}

/// What stands in a log about one offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferState {
    /// The number of the entry.
    pub seq: u64,
    /// SHA-256 of its line.
    pub sha256: Digest,
    /// What was offered; `None` in an entry that holds no text to sign.
    pub offer: Option<Offer>,
    /// The entry that accepted or refused it, and its type.
    pub answer: Option<(u64, EntryType)>,
}

/// Every offer in a log, in order. The first answer counts.
///
/// # Errors
///
/// [`Error::Malformed`] for an offer that cannot be read.
pub fn offers(entries: &[Entry]) -> Result<Vec<OfferState>> {
    let mut found: Vec<OfferState> = Vec::new();
    for entry in entries {
        if entry.kind == EntryType::TRANSFER_OFFERED {
            let sha256 = line_sha256(entry)?;
            found.push(OfferState { seq: entry.seq, sha256, offer: Offer::of(entry)?, answer: None });
        } else if entry.kind == EntryType::TRANSFER_ACCEPTED || entry.kind == EntryType::TRANSFER_REFUSED {
            for offer in found.iter_mut().filter(|offer| entry.about.refs.contains(&offer.seq)) {
                offer.answer.get_or_insert_with(|| (entry.seq, entry.kind.clone()));
            }
        }
    }
    Ok(found)
}

/// Offers evidence: appends `transfer.offered`, signed by the giver when there is a key to sign with.
///
/// `items` are what is handed over, `checked` what was verified just before (facts for `result`). A log takes one open
/// offer at a time.
///
/// # Errors
///
/// [`Error::Handover`] when it makes no sense; those of [`CustodyLog::append`].
pub fn offer(
    log: &CustodyLog,
    terms: &Terms,
    items: Vec<Item>,
    checked: &[(&str, Value)],
    giver: Option<&PartyKey<'_>>,
    writer: &Writer<'_>,
) -> Result<(Appended, Offer)> {
    let head = log.read()?.checkpoint.ok_or_else(|| refused("the log has no checkpoint"))?.checkpoint;
    let escape = |text: &str| strict_json::escape_text(text.trim().as_bytes());
    let now = writer.clock().now().wall_ns;
    let identity = writer.identity();
    let case = identity.case.as_deref().map(escape);
    let offer = Offer {
        id: uuid_v7(now)?,
        origin: log.origin().to_owned(),
        size: head.size,
        root: head.root,
        case,
        items,
        from: escape(&identity.actor.name),
        from_key: giver.map(|giver| giver.public().fingerprint()),
        terms: Terms {
            to: escape(&terms.to),
            to_key: terms.to_key.clone(),
            to_role: escape(&terms.to_role),
            place: escape(&terms.place),
            means: escape(&terms.means),
            purpose: escape(&terms.purpose),
            seal: escape(&terms.seal),
            condition: escape(&terms.condition),
        },
        time: rfc3339(now),
    };
    if offer.terms.to.is_empty() {
        return Err(refused("it names nobody who is to receive"));
    }
    if let Some(to) = offer.terms.to_key.as_ref().filter(|to| !is_fingerprint(to)) {
        return Err(refused(format!("{to:?} is no fingerprint: SHA256: and 43 letters")));
    }
    let own = writer.key().verifying_key().fingerprint();
    if let Some(to) = &offer.terms.to_key
        && (*to == own || offer.from_key.as_ref() == Some(to))
    {
        return Err(refused(format!("{to} is the giver's own key; nobody hands over to themselves")));
    }
    if offer.items.len() > MOST_ITEMS {
        return Err(refused(format!(
            "{} exhibits are too many for one entry; hand them over one by one",
            offer.items.len()
        )));
    }
    let mut entry = offer_entry(&offer, giver)?;
    for (name, fact) in checked {
        entry = entry.result(name, fact.clone());
    }
    let appended = log.append_when(&entry, writer, |entries| match offers(entries)?.last() {
        Some(last) if last.answer.is_none() => Err(refused(format!(
            "the offer in entry {} to {:?} was not answered yet; it must be accepted or refused first",
            last.seq,
            last.offer.as_ref().map_or("", |offer| &offer.terms.to)
        ))),
        _ => Ok(()),
    })?;
    Ok((appended, offer))
}

/// Answers an offer: appends `transfer.accepted` or `transfer.refused`.
///
/// `seq` is the offer; without it the one that is open. The receiver's signature must be by the key that the offer names,
/// if it names one. Without it an acceptance is recorded as unsigned; a refusal that is not signed is recorded as said by
/// whoever writes it, so a giver can withdraw.
///
/// # Errors
///
/// [`Error::Handover`] when there is no such offer, it was answered, or the signature is by another key;
/// [`Error::Signature`] when it does not verify; those of [`CustodyLog::append`].
pub fn answer(
    log: &CustodyLog,
    seq: Option<u64>,
    answer: &Answer,
    checked: &[(&str, Value)],
    signs: &ReceiverSigns<'_>,
    writer: &Writer<'_>,
) -> Result<(Appended, Offer)> {
    let state = open_offer(&log.read()?.entries, seq)?;
    let no_text = || refused(format!("entry {} holds no text that could be signed", state.seq));
    let offer = state.offer.clone().ok_or_else(no_text)?;
    let mut entry = answer_entry(&offer, state.seq, state.sha256, answer, signs)?;
    for (name, fact) in checked {
        entry = entry.result(name, fact.clone());
    }
    let appended =
        log.append_when(&entry, writer, |entries| open_offer(entries, Some(state.seq)).map(|_| ()))?;
    Ok((appended, offer))
}

/// The entry of an offer, signed by the giver when there is a key.
pub(crate) fn offer_entry(offer: &Offer, giver: Option<&PartyKey<'_>>) -> Result<NewEntry> {
    let mut entry = NewEntry::new(EntryType::TRANSFER_OFFERED);
    // Texts are in their stored form already, so they are set as they are.
    let how = &mut entry.about.how;
    how.insert(HOW_OFFER.to_owned(), offer.to_value());
    how.insert(HOW_TO.to_owned(), offer.terms.to.as_str().into());
    if let Some(key) = &offer.terms.to_key {
        how.insert(HOW_TO_KEY.to_owned(), key.as_str().into());
    }
    if !offer.terms.purpose.is_empty() {
        entry.about.why = Some(Why { authority: String::new(), purpose: offer.terms.purpose.clone() });
    }
    if let Some(giver) = giver {
        let signature = SshSignature::sign(offer.text().as_bytes(), NAMESPACE, giver)?;
        entry.about.party_sigs.push(party_signature("giver", &signature));
    }
    Ok(entry)
}

/// The entry of an answer to the offer in entry `seq`, whose line has this hash.
pub(crate) fn answer_entry(
    offer: &Offer,
    seq: u64,
    sha256: Digest,
    answer: &Answer,
    signs: &ReceiverSigns<'_>,
) -> Result<NewEntry> {
    let (kind, text, said) = match answer {
        Answer::Accepted { condition } => {
            (EntryType::TRANSFER_ACCEPTED, offer.text(), ("condition", condition.trim()))
        }
        Answer::Refused { reason } if reason.trim().is_empty() => {
            return Err(refused("a refusal must say why"));
        }
        Answer::Refused { reason } => {
            let stored = strict_json::escape_text(reason.trim().as_bytes());
            (EntryType::TRANSFER_REFUSED, offer.refusal(&stored), (HOW_REASON, reason.trim()))
        }
    };
    let mut entry = NewEntry::new(kind).refers_to(seq).how(HOW_OFFER_SHA256, sha256.to_string());
    entry.about.how.insert(HOW_OFFER.to_owned(), offer.to_value());
    if !said.1.is_empty() {
        entry = entry.how(said.0, said.1);
    }
    let signature = match signs {
        ReceiverSigns::With(key) => SshSignature::sign(text.as_bytes(), NAMESPACE, key)?,
        ReceiverSigns::Brought(signature) => (*signature).clone(),
        ReceiverSigns::Not => return Ok(entry.how(HOW_UNSIGNED, true)),
    };
    let by = signature.verify(text.as_bytes(), NAMESPACE)?.key.fingerprint();
    if let Some(named) = offer.terms.to_key.as_ref().filter(|named| **named != by) {
        return Err(refused(format!("the offer names the key {named}, and it was signed with {by}")));
    }
    if offer.from_key.as_ref() == Some(&by) {
        return Err(refused(format!("{by} is the giver's key, not the receiver's")));
    }
    entry.about.party_sigs.push(party_signature("receiver", &signature));
    Ok(entry)
}

/// What can be handed over from a folder: the bundle in it, or every exhibit of the case.
///
/// An exhibit that is not sealed has no manifest.
///
/// # Errors
///
/// [`Error::Handover`] when a manifest is not the one that was sealed; [`Error::Read`], [`Error::LogBroken`].
pub fn items_in(folder: &Path) -> Result<Vec<Item>> {
    if case_layout::case_file(folder).exists() {
        let exhibits = exhibits_in(folder)?.into_iter();
        return exhibits.map(|exhibit| item_in(&exhibit.folder, Some(exhibit.id))).collect();
    }
    Ok(vec![item_in(folder, None)?])
}

fn item_in(bundle: &Path, id: Option<String>) -> Result<Item> {
    let entries = CustodyLog::open(bundle)?.read()?.entries;
    let said = entries.iter().find_map(|entry| entry.about.exhibit.clone());
    let id = id.or(said).unwrap_or_else(|| "bundle".to_owned());
    let sealed = entries.iter().find(|entry| entry.kind == EntryType::BUNDLE_SEALED);
    let named = sealed.and_then(|entry| entry.about.subject.iter().find(|file| file.id == MANIFEST)?.sha256);
    let Some(named) = named else { return Ok(Item { id, manifest: None }) };
    let there = read_small(&bundle.join(MANIFEST), LONGEST_MANIFEST)?.map(|bytes| sha256(&bytes));
    if there != Some(named) {
        return Err(refused(format!("manifest.json of {id} is not the one that was sealed")));
    }
    Ok(Item { id, manifest: there })
}

/// The offer that waits for its answer.
///
/// # Errors
///
/// [`Error::Handover`] when there is none, or the one asked for is none or was answered.
pub fn open_offer(entries: &[Entry], seq: Option<u64>) -> Result<OfferState> {
    let mut all = offers(entries)?;
    let found = match seq {
        Some(seq) => all.iter().position(|offer| offer.seq == seq),
        None => all.iter().rposition(|offer| offer.answer.is_none()),
    };
    let Some(found) = found.map(|at| all.swap_remove(at)) else {
        return Err(refused(match (seq, all.last()) {
            (Some(seq), _) => format!("entry {seq} is no offer"),
            (None, None) => "the log holds no offer".to_owned(),
            (None, Some(last)) => format!("no offer is open; the last, in entry {}, was answered", last.seq),
        }));
    };
    match &found.answer {
        None => Ok(found),
        Some((by, kind)) => {
            let done = if *kind == EntryType::TRANSFER_ACCEPTED { "accepted" } else { "refused" };
            Err(refused(format!("the offer in entry {} was {done} already, by entry {by}", found.seq)))
        }
    }
}

/// The SHA-256 of an entry's line: its strict spelling is unique.
pub(crate) fn line_sha256(entry: &Entry) -> Result<Digest> {
    let value = serde_json::to_value(entry).map_err(|error| Error::malformed("entry", error.to_string()))?;
    Ok(sha256(strict_json::to_line(&value)?.as_bytes()))
}

fn is_fingerprint(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/';
    text.strip_prefix("SHA256:").is_some_and(|rest| rest.len() == 43 && rest.bytes().all(plain))
}

fn party_signature(role: &str, signature: &SshSignature) -> Value {
    let text = signature.to_text();
    json!({ SIG_ROLE: role, SIG_LINES: text.lines().collect::<Vec<_>>() })
}

fn refused(why: impl Into<String>) -> Error {
    Error::Handover { why: why.into() }
}
