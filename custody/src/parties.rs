//! Who signed a handover: checks the signatures of giver and receiver, and says whose keys they are.

use serde::Serialize;
use serde_json::Value;

use crate::clock::parse_rfc3339;
use crate::entry::{Entry, EntryType};
use crate::handover::{HOW_REASON, NAMESPACE, Offer, SIG_LINES, SIG_ROLE};
use crate::ssh::{AllowedSigners, Signed, SshSignature};

/// Whom the person who verifies knows.
#[derive(Debug, Clone, Default)]
pub struct People {
    /// A file of allowed signers.
    pub signers: AllowedSigners,
    /// Fingerprints of trusted keys, of people and of authorities.
    pub trusted: Vec<String>,
}

/// What a certificate says of a party.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PartyCertificate {
    /// The authority's name for it.
    pub key_id: String,
    /// The names it gives.
    pub names: Vec<String>,
    /// The roles it gives.
    pub roles: Vec<String>,
    /// The fingerprint of the authority's key.
    pub authority: String,
    /// Its number.
    pub serial: u64,
    /// How long it holds, in words.
    pub validity: String,
    /// Whether it held when the entry says that it was signed.
    pub held: bool,
}

/// One party's signature in an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PartySignature {
    /// The entry.
    pub entry: u64,
    /// `giver` or `receiver`.
    pub role: String,
    /// The name: of the certificate where a known authority gives it, else of the offer.
    pub name: String,
    /// The fingerprint of the key; empty where it could not be read.
    pub fingerprint: String,
    /// The certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PartyCertificate>,
    /// Whether the signature is good, and by the key that the offer names.
    pub good: bool,
    /// Whether the key, or the authority that certifies it, is known to whoever verifies.
    pub known: bool,
    /// The finding in words.
    pub words: String,
}

/// Checks the party signatures of an entry, by what stands in it alone.
pub fn check(entry: &Entry) -> Vec<PartySignature> {
    check_with(entry, &People::default())
}

/// Checks the party signatures of an entry, and says which parties are known.
pub fn check_with(entry: &Entry, people: &People) -> Vec<PartySignature> {
    let offer = Offer::of(entry);
    let check = |signature: &Value| match &offer {
        Ok(Some(offer)) => one(entry, offer, signature, people),
        Ok(None) => none(entry, signature, "the entry holds no offer that it could be over"),
        Err(error) => none(entry, signature, &error.to_string()),
    };
    entry.about.party_sigs.iter().map(check).collect()
}

/// What a receiver or giver signs in this entry.
fn text_of(entry: &Entry, offer: &Offer) -> String {
    if entry.kind == EntryType::TRANSFER_REFUSED {
        offer.refusal(entry.how_text(HOW_REASON).unwrap_or_default())
    } else {
        offer.text()
    }
}

fn one(entry: &Entry, offer: &Offer, value: &Value, people: &People) -> PartySignature {
    let role = role_of(value);
    let (name, named) = match (role.as_str(), &entry.kind) {
        ("giver", kind) if *kind == EntryType::TRANSFER_OFFERED => (&offer.from, &offer.from_key),
        ("receiver", kind) if *kind != EntryType::TRANSFER_OFFERED => (&offer.terms.to, &offer.terms.to_key),
        _ => return none(entry, value, "nobody signs in this role here"),
    };
    let lines = value.get(SIG_LINES).and_then(Value::as_array);
    let texts: Option<Vec<&str>> = lines.and_then(|lines| lines.iter().map(Value::as_str).collect());
    let text = texts.unwrap_or_default().iter().map(|line| format!("{line}\n")).collect::<String>();
    let signature = match SshSignature::parse(&text) {
        Ok(signature) if signature.to_text() == text => signature,
        Ok(_) => return none(entry, value, "it is not in its one spelling"),
        Err(error) => return none(entry, value, &error.to_string()),
    };
    let signed = match signature.verify(text_of(entry, offer).as_bytes(), NAMESPACE) {
        Ok(signed) => signed,
        Err(error) => return none(entry, value, &error.to_string()),
    };
    let fingerprint = signed.key.fingerprint();
    let mut found = PartySignature {
        entry: entry.seq,
        role,
        name: name.clone(),
        certificate: None,
        good: true,
        known: false,
        words: String::new(),
        fingerprint,
    };
    if named.as_ref().is_some_and(|named| *named != found.fingerprint) {
        let named = named.as_deref().unwrap_or_default();
        found.good = false;
        found.words = format!("signed with {}, and the offer names {named}", found.fingerprint);
        return found;
    }
    identify(&mut found, &signed, entry, people);
    found
}

/// Says whose key it is: by the list of people, by a trusted authority, or by nobody's word but the log's.
fn identify(found: &mut PartySignature, signed: &Signed, entry: &Entry, people: &People) {
    let wall_ns = parse_rfc3339(&entry.time.wall).unwrap_or_default();
    let listed = people.signers.who(signed, NAMESPACE, wall_ns);
    let mut words = format!("good signature of {:?} with {}", found.name, found.fingerprint);
    let mut certified = false;
    if let Some(certificate) = &signed.certificate {
        let authority = certificate.authority.fingerprint();
        let held = certificate.holds_at(wall_ns);
        certified = held && people.trusted.contains(&authority);
        let roles = if certificate.roles.is_empty() {
            String::new()
        } else {
            format!(" as {}", certificate.roles.join(", "))
        };
        words = format!(
            "{words}; the authority {authority} certifies it for {}{roles} ({:?}, number {}), {}{}",
            certificate.names.join(", "),
            certificate.key_id,
            certificate.serial,
            certificate.validity(),
            if held { "" } else { ": not at the time of this entry" }
        );
        found.certificate = Some(PartyCertificate {
            key_id: certificate.key_id.clone(),
            names: certificate.names.clone(),
            roles: certificate.roles.clone(),
            authority,
            serial: certificate.serial,
            validity: certificate.validity(),
            held,
        });
        if (certified || listed.is_some()) && held && !certificate.names.is_empty() {
            found.name = certificate.names.join(", ");
        }
    }
    found.known = listed.is_some() || certified || people.trusted.contains(&found.fingerprint);
    if let Some(names) = listed {
        words = format!("{words}; your list of signers knows it as {}", names.join(", "));
    } else if !found.known {
        words = format!("{words}; whose key it is, only this log says");
    }
    found.words = words;
}

fn none(entry: &Entry, value: &Value, why: &str) -> PartySignature {
    let role = role_of(value);
    PartySignature {
        entry: entry.seq,
        words: format!("the signature of the {role} does not hold: {why}"),
        role,
        name: String::new(),
        fingerprint: String::new(),
        certificate: None,
        good: false,
        known: false,
    }
}

fn role_of(value: &Value) -> String {
    value.get(SIG_ROLE).and_then(Value::as_str).unwrap_or("party").to_owned()
}
