//! The check of handovers: every party's signature, and that answers fit their offers.

use std::collections::BTreeMap;

use super::findings::{FaultKind, Findings, Place};
use crate::entry::{Entry, EntryType};
use crate::handover::{HOW_OFFER, HOW_OFFER_SHA256, HOW_UNSIGNED, Offer, line_sha256};
use crate::log_keys::HOW_TO_KEY;
use crate::parties::{PartySignature, People, check_with};

/// Checks the handovers among these entries of one log; gives every party's signature.
///
/// A signature that does not hold, or an answer that does not fit its offer, is a fault. An unknown person, a missing
/// signature or a second answer is a note.
pub(super) fn verify(entries: &[Entry], people: &People, findings: &mut Findings) -> Vec<PartySignature> {
    let mut signatures = Vec::new();
    let mut offers: BTreeMap<u64, (&Entry, Option<u64>)> = BTreeMap::new();
    for entry in entries {
        let offered = entry.kind == EntryType::TRANSFER_OFFERED;
        let accepted = entry.kind == EntryType::TRANSFER_ACCEPTED;
        if offered {
            offers.insert(entry.seq, (entry, None));
            names_agree(entry, findings);
        } else if accepted || entry.kind == EntryType::TRANSFER_REFUSED {
            answer(entry, &mut offers, findings);
        } else if entry.about.party_sigs.is_empty() {
            continue;
        }
        let found = check_with(entry, people);
        for signature in &found {
            if !signature.good {
                findings.fault(Place::entry(entry.seq), FaultKind::Signature, signature.words.as_str());
            } else if !signature.known {
                findings.note(format!("entry {}: {}", entry.seq, signature.words));
            }
        }
        if found.is_empty() && (offered || accepted) {
            let (act, who) = if offered { ("the offer", "giver") } else { ("the receipt", "receiver") };
            let said = accepted && entry.about.how.get(HOW_UNSIGNED).is_some();
            let said = if said { ", and says so" } else { "" };
            findings.note(format!("entry {}: the {who} did not sign {act}{said}", entry.seq));
        }
        signatures.extend(found);
    }
    signatures
}

/// The facts of the entry must be those of the text that is signed.
fn names_agree(entry: &Entry, findings: &mut Findings) {
    let place = Place::entry(entry.seq);
    match Offer::of(entry) {
        Err(error) => findings.fault(place, FaultKind::Entry, error.to_string()),
        Ok(Some(offer)) if offer.terms.to_key.as_deref() != entry.how_text(HOW_TO_KEY) => {
            findings.fault(place, FaultKind::Entry, "it names another receiving key than the offer in it");
        }
        Ok(_) => {}
    }
}

fn answer<'a>(
    entry: &'a Entry,
    offers: &mut BTreeMap<u64, (&'a Entry, Option<u64>)>,
    findings: &mut Findings,
) {
    let place = || Place::entry(entry.seq);
    let Some((offer, answered)) = entry.about.refs.first().and_then(|seq| offers.get_mut(seq)) else {
        findings.fault(place(), FaultKind::Entry, "it answers no earlier offer");
        return;
    };
    if entry.about.how.get(HOW_OFFER) != offer.about.how.get(HOW_OFFER) {
        let words = format!("it answers another offer than the one in entry {}", offer.seq);
        findings.fault(place(), FaultKind::Entry, words);
    }
    let stated = entry.how_text(HOW_OFFER_SHA256);
    let actual = line_sha256(offer).map(|hash| hash.to_string()).unwrap_or_default();
    if stated.is_some_and(|stated| stated != actual) {
        let words = format!("the hash it states is not that of entry {}", offer.seq);
        findings.fault(place(), FaultKind::Entry, words);
    }
    match answered {
        Some(by) => findings.note(format!(
            "CONTRADICTION: entry {} answers the offer in entry {} again, which entry {by} answered",
            entry.seq, offer.seq
        )),
        None => *answered = Some(entry.seq),
    }
}
