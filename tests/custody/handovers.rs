//! Handovers in real logs: signed by both, by one, by nobody; refused, answered twice, tampered with.

use std::path::Path;

use custody::handover::{Answer, Item, NAMESPACE, Offer, ReceiverSigns, Terms, answer, offer};
use custody::parties::{People, check, check_with};
use custody::ssh::{AllowedSigners, Certificate, PartyKey, SshSignature};
use custody::verify::{Options, verify_log};
use custody::{Continuity, CustodyLog, Entry, Error, SigningKey, Writer};

use crate::ssh::{keygen, keygen_verifies, ran};
use crate::support::{
    CLOCK, KEY, OTHER_KEY, WITNESS, check as verified, faults, identity, log_with, note, writer, writer_with,
};

fn terms(to: &str, key: Option<&SigningKey>) -> Terms {
    Terms {
        to: to.to_owned(),
        to_key: key.map(|key| key.verifying_key().fingerprint()),
        place: "Lab 2".to_owned(),
        means: "by hand".to_owned(),
        purpose: "examination".to_owned(),
        seal: "0042 intact".to_owned(),
        ..Terms::default()
    }
}

fn items() -> Vec<Item> {
    vec![Item { id: "E001".to_owned(), manifest: Some(custody::sha256(b"manifest")) }]
}

const ACCEPTED: Answer = Answer::Accepted { condition: String::new() };

fn offered(log: &CustodyLog, to: &str, key: Option<&SigningKey>) -> Offer {
    offer(
        log,
        &terms(to, key),
        items(),
        &[("verdict", "CONSISTENT".into())],
        Some(&PartyKey::of(&*KEY)),
        &writer(),
    )
    .unwrap()
    .1
}

fn entries(folder: &Path) -> Vec<Entry> {
    CustodyLog::open(folder).unwrap().read().unwrap().entries
}

#[test]
fn both_sign_the_same_offer_and_the_log_verifies() {
    let folder = tempfile::tempdir().unwrap();
    let log = log_with(folder.path(), 1);
    let offer = offered(&log, "Property store", Some(&OTHER_KEY));
    let party = PartyKey::of(&*OTHER_KEY);
    let mut receiver = identity();
    receiver.actor.name = "Property store".to_owned();
    let writer = custody::Writer::new(&*OTHER_KEY, &*CLOCK, receiver);
    answer(&log, None, &ACCEPTED, &[], &ReceiverSigns::With(&party), &writer).unwrap();
    let entries = entries(folder.path());
    let kinds: Vec<_> = entries.iter().map(|entry| entry.kind.as_str()).collect();
    assert_eq!(kinds, ["log.genesis", "note", "transfer.offered", "key.added", "transfer.accepted"]);
    assert_eq!(Offer::of(&entries[2]).unwrap(), Some(offer.clone()));
    assert_eq!((offer.size, entries[4].about.refs.as_slice()), (2, &[2][..]));
    for (entry, role, name) in [(&entries[2], "giver", "J. Doe"), (&entries[4], "receiver", "Property store")]
    {
        let signatures = check(entry);
        assert_eq!(signatures.len(), 1);
        assert!(
            signatures[0].good && signatures[0].role == role && signatures[0].name == name,
            "{signatures:?}"
        );
    }
    let done = verified(folder.path());
    assert!(done.is_intact(), "{}", faults(&done));
    assert_eq!(done.log.parties.len(), 2);
    assert!(
        done.notes.iter().any(|note| note.contains("whose key it is, only this log says")),
        "{:?}",
        done.notes
    );
    let continuity = Continuity::of(&entries);
    assert_eq!(continuity.share_words(), "continuity 100 %, no gap");
    let holders: Vec<_> = continuity.spans.iter().map(|span| span.holder.as_str()).collect();
    assert_eq!(holders, ["J. Doe", "J. Doe to Property store", "Property store"]);
}

#[test]
fn answers_that_make_no_sense_are_refused_and_leave_the_log_alone() {
    let folder = tempfile::tempdir().unwrap();
    let log = log_with(folder.path(), 0);
    let with = |seq, key: &'static SigningKey| {
        let party = PartyKey::of(key);
        answer(&log, seq, &ACCEPTED, &[], &ReceiverSigns::With(&party), &writer_with(key)).map(|_| ())
    };
    let refused = |result: Result<(), Error>, words: &str| {
        let error = result.unwrap_err();
        assert!(matches!(error, Error::Handover { .. }), "{error}");
        assert!(error.to_string().contains(words), "{error}");
    };
    refused(with(None, &OTHER_KEY), "the log holds no offer");
    offered(&log, "Store", Some(&OTHER_KEY));
    refused(with(Some(0), &OTHER_KEY), "entry 0 is no offer");
    refused(with(None, &WITNESS), "the offer names the key");
    let again = offer(&log, &terms("Else", None), items(), &[], None, &writer()).map(|_| ());
    refused(again, "entry 1 to \"Store\" was not answered yet");
    let nobody = Answer::Refused { reason: " ".to_owned() };
    refused(answer(&log, None, &nobody, &[], &ReceiverSigns::Not, &writer()).map(|_| ()), "must say why");
    assert_eq!(entries(folder.path()).len(), 2);
    with(None, &OTHER_KEY).unwrap();
    refused(with(None, &OTHER_KEY), "no offer is open; the last, in entry 1, was answered");
    refused(with(Some(1), &OTHER_KEY), "the offer in entry 1 was accepted already, by entry 3");
    let self_offer = offer(&log, &terms("Me", Some(&KEY)), items(), &[], None, &writer()).map(|_| ());
    refused(self_offer, "nobody hands over to themselves");
    let odd = Terms { to_key: Some("SHA256:short".to_owned()), ..terms("x", None) };
    refused(offer(&log, &odd, items(), &[], None, &writer()).map(|_| ()), "no fingerprint");
    assert!(verified(folder.path()).is_intact());
}

#[test]
fn of_two_who_accept_at_once_one_is_told_that_it_was_done() {
    let folder = tempfile::tempdir().unwrap();
    let log = log_with(folder.path(), 0);
    offered(&log, "Store", None);
    let results: Vec<_> = std::thread::scope(|scope| {
        let one = || answer(&log, Some(1), &ACCEPTED, &[], &ReceiverSigns::Not, &writer()).map(|_| ());
        let running: Vec<_> = (0..8).map(|_| scope.spawn(one)).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    assert_eq!(entries(folder.path()).len(), 3);
}

#[test]
fn a_refusal_is_signed_over_its_reason_and_the_giver_keeps_the_evidence() {
    let folder = tempfile::tempdir().unwrap();
    let log = log_with(folder.path(), 0);
    let offer = offered(&log, "Store", Some(&OTHER_KEY));
    let party = PartyKey::of(&*OTHER_KEY);
    let reason = Answer::Refused { reason: "seal broken".to_owned() };
    answer(&log, None, &reason, &[], &ReceiverSigns::With(&party), &writer_with(&OTHER_KEY)).unwrap();
    let entries = entries(folder.path());
    let signatures = check(&entries[3]);
    assert!(signatures[0].good, "{signatures:?}");
    assert!(offer.refusal("seal broken").ends_with("\nrefused: seal broken\n"));
    // What was signed to refuse for one reason does not hold for another, nor as an acceptance.
    let mut other = entries[3].clone();
    other.about.how.insert("reason".to_owned(), "no room".into());
    assert!(!check(&other)[0].good);
    other.kind = custody::EntryType::TRANSFER_ACCEPTED;
    assert!(!check(&other)[0].good);
    let continuity = Continuity::of(&entries);
    assert_eq!(continuity.share_words(), "continuity 100 %, no gap");
    assert_eq!(continuity.spans.last().unwrap().holder, "J. Doe");
}

#[test]
fn an_unsigned_receipt_is_a_gap_until_the_holder_signs_again() {
    let folder = tempfile::tempdir().unwrap();
    let log = log_with(folder.path(), 0);
    offered(&log, "Courier", None);
    answer(&log, None, &ACCEPTED, &[], &ReceiverSigns::Not, &writer()).unwrap();
    let entries_so_far = entries(folder.path());
    let continuity = Continuity::of(&entries_so_far);
    assert_eq!(continuity.gaps().count(), 1, "{continuity:?}");
    assert!(
        continuity
            .gaps()
            .all(|gap| gap.gap.as_deref() == Some("\"Courier\" did not sign for having received it"))
    );
    assert!(continuity.share() < 10_000);
    let holder = Writer::new(&*OTHER_KEY, &*CLOCK, {
        let mut courier = identity();
        courier.actor.name = "Courier".to_owned();
        courier
    });
    log.append(&note("the courier's key"), &holder.clone().vouched_by(&*KEY)).unwrap();
    let back = terms("J. Doe", Some(&KEY));
    offer(&log, &back, items(), &[], Some(&PartyKey::of(&*OTHER_KEY)), &holder).unwrap();
    answer(&log, None, &ACCEPTED, &[], &ReceiverSigns::With(&PartyKey::of(&*KEY)), &writer()).unwrap();
    let continuity = Continuity::of(&entries(folder.path()));
    assert_eq!(continuity.gaps().count(), 1, "{continuity:?}");
    assert_eq!(continuity.contradictions, [""; 0]);
    assert_eq!(continuity.spans.last().unwrap().holder, "J. Doe");
    let done = verified(folder.path());
    assert!(done.is_intact());
    let said = "entry 2: the receiver did not sign the receipt, and says so";
    assert!(done.notes.iter().any(|note| note == said), "{:?}", done.notes);
}

#[test]
fn a_signature_that_was_exchanged_is_a_fault_with_its_entry() {
    // The log's own key signs a log whose party signatures are another's: only the check of the parties can tell.
    for (tamper, words) in
        [("lines", "does not verify"), ("key", "the offer names"), ("none", "not the text of a .sig")]
    {
        let folder = tempfile::tempdir().unwrap();
        let log = log_with(folder.path(), 0);
        let offer = offered(&log, "Store", Some(&OTHER_KEY));
        let by = if tamper == "key" { &*WITNESS } else { &*OTHER_KEY };
        let text = if tamper == "lines" { "another text\n".to_owned() } else { offer.text() };
        let signature = SshSignature::sign(text.as_bytes(), NAMESPACE, &PartyKey::of(by)).unwrap().to_text();
        let signature = if tamper == "none" { String::new() } else { signature };
        let mut entry = custody::NewEntry::new(custody::EntryType::TRANSFER_ACCEPTED).refers_to(1);
        entry.about.how.insert("offer".to_owned(), offer.lines().into());
        entry.about.party_sigs.push(serde_json::json!({
            "role": "receiver", "sshsig": signature.lines().collect::<Vec<_>>(),
        }));
        log.append(&entry, &writer()).unwrap();
        let done = verified(folder.path());
        assert_eq!(done.fault_count, 1, "{}", faults(&done));
        assert_eq!(done.faults[0].place.entry, Some(2));
        assert!(done.faults[0].words.contains(words), "{}", faults(&done));
    }
}

#[test]
fn an_answer_to_another_offer_or_to_none_is_a_fault() {
    let folder = tempfile::tempdir().unwrap();
    let log = log_with(folder.path(), 0);
    offered(&log, "Store", None);
    let accepted = |seq| custody::NewEntry::new(custody::EntryType::TRANSFER_ACCEPTED).refers_to(seq);
    log.append(&accepted(0), &writer()).unwrap();
    log.append(&accepted(1).how("offer_sha256", "00"), &writer()).unwrap();
    let done = verified(folder.path());
    let words: Vec<_> = done.faults.iter().map(|fault| fault.words.as_str()).collect();
    assert_eq!(
        words,
        [
            "it answers no earlier offer",
            "it answers another offer than the one in entry 1",
            "the hash it states is not that of entry 1"
        ]
    );
}

#[test]
fn ssh_keygen_verifies_both_signatures_from_the_log_alone_and_signs_for_a_receiver() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let (Some(()), Some(())) =
        (keygen(at, "rsa", &["-t", "rsa", "-b", "2048"]), keygen(at, "ca", &["-t", "ed25519"]))
    else {
        return;
    };
    ran(at, "ssh-keygen", &["-q", "-s", "ca", "-I", "P. Roe", "-n", "roe@store,role:clerk", "rsa.pub"]);
    let case = at.join("log");
    std::fs::create_dir(&case).unwrap();
    let log = log_with(&case, 0);
    let text = |name: &str| std::fs::read_to_string(at.join(name)).unwrap();
    let to_key = custody::ssh::SshPublicKey::from_line(&text("rsa.pub")).unwrap().fingerprint();
    let terms = Terms { to_key: Some(to_key), ..terms("P. Roe", None) };
    let (_, offer) = offer(&log, &terms, items(), &[], Some(&PartyKey::of(&*KEY)), &writer()).unwrap();
    // The receiver has nothing but ssh-keygen and the offer's text, printed by jq.
    let jq = ran(&case, "jq", &["-r", "select(.seq==1).how.offer[]", "custody.jsonl"]);
    let printed = jq.unwrap_or_else(|| offer.text());
    assert_eq!(printed, offer.text());
    std::fs::write(at.join("offer"), &printed).unwrap();
    ran(at, "ssh-keygen", &["-q", "-Y", "sign", "-f", "rsa", "-n", NAMESPACE, "offer"]);
    let brought = SshSignature::parse(&text("offer.sig")).unwrap();
    answer(&log, None, &ACCEPTED, &[], &ReceiverSigns::Brought(&brought), &writer()).unwrap();
    assert!(verified(&case).is_intact());
    // And the other side checks both with ssh-keygen.
    let allowed = format!(
        "doe@lab {}\nroe@store {}*@store cert-authority {}",
        KEY.verifying_key().to_ssh().to_line(),
        text("rsa.pub"),
        text("ca.pub")
    );
    std::fs::write(at.join("allowed_signers"), &allowed).unwrap();
    for (entry, who) in [(1, "doe@lab"), (2, "roe@store")] {
        let filter = format!("select(.seq=={entry}).party_sigs[0].sshsig[]");
        let Some(signature) = ran(&case, "jq", &["-r", &filter, "custody.jsonl"]) else { return };
        std::fs::write(at.join("party.sig"), signature).unwrap();
        assert!(keygen_verifies(at, who, "party.sig", printed.as_bytes()), "{who}");
        assert!(!keygen_verifies(at, who, "party.sig", b"another offer\n"), "{who}");
    }
    let known = Options { signers: AllowedSigners::parse(&allowed).unwrap(), ..Options::default() };
    let done = verify_log(&case, &known).unwrap();
    assert!(done.log.parties.iter().all(|party| party.good && party.known), "{:?}", done.log.parties);
    assert!(
        done.log.parties[1].words.ends_with("your list of signers knows it as roe@store"),
        "{:?}",
        done.log.parties
    );
}

#[test]
fn name_and_role_come_from_a_certificate_of_a_trusted_authority_while_it_holds() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let (Some(()), Some(())) = (keygen(at, "roe", &["-t", "ed25519"]), keygen(at, "ca", &["-t", "rsa"]))
    else {
        return;
    };
    let key = SigningKey::load(&at.join("roe"), None).unwrap();
    let text = |name: &str| std::fs::read_to_string(at.join(name)).unwrap();
    // The fixed clock of these tests stands at 2026-11-21.
    for (validity, holds) in [("20260101Z:20270101Z", true), ("20200101Z:20210101Z", false)] {
        ran(
            at,
            "ssh-keygen",
            &["-q", "-s", "ca", "-I", "P. Roe", "-n", "roe@store,role:clerk", "-V", validity, "roe.pub"],
        );
        let certificate = Certificate::from_line(&text("roe-cert.pub")).unwrap();
        let authority = certificate.authority.fingerprint();
        let party = PartyKey::of(&key).certified(certificate).unwrap();
        let case = at.join(validity);
        std::fs::create_dir(&case).unwrap();
        let log = log_with(&case, 0);
        offered(&log, "somebody", Some(&key));
        let receiver = custody::Writer::new(&key, &*CLOCK, identity());
        answer(&log, None, &ACCEPTED, &[], &ReceiverSigns::With(&party), &receiver).unwrap();
        let entry = entries(&case).pop().unwrap();
        let stranger = check(&entry).pop().unwrap();
        assert!(stranger.good && !stranger.known && stranger.name == "somebody", "{stranger:?}");
        let people = People { trusted: vec![authority], ..People::default() };
        let found = check_with(&entry, &people).pop().unwrap();
        assert!(found.good, "{found:?}");
        assert_eq!(found.known, holds, "{found:?}");
        assert_eq!(found.name, if holds { "roe@store" } else { "somebody" });
        let certificate = found.certificate.unwrap();
        assert_eq!((certificate.roles, certificate.held), (vec!["clerk".to_owned()], holds));
        assert!(verified(&case).is_intact());
    }
    let other =
        keygen(at, "other", &["-t", "ed25519"]).map(|()| SigningKey::load(&at.join("other"), None).unwrap());
    let certificate = Certificate::from_line(&text("roe-cert.pub")).unwrap();
    let error = PartyKey::of(&other.unwrap()).certified(certificate).err().unwrap();
    assert!(error.to_string().contains("the certificate is for the key"), "{error}");
}

#[test]
fn lines_of_an_offer_survive_and_others_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let log = log_with(folder.path(), 0);
    let hostile = Terms { place: "a\nto: the thief\\".to_owned(), ..terms("Bjørn", None) };
    let (_, offer) = offer(&log, &hostile, items(), &[], None, &writer()).unwrap();
    let lines = offer.lines();
    assert!(lines.contains(&"place: a\\x0ato: the thief\\x5c".to_owned()), "{lines:?}");
    let parse = |lines: &[String]| Offer::parse(lines.iter().map(String::as_str));
    assert_eq!(parse(&lines).unwrap(), offer);
    for at in 0..lines.len() {
        let mut fewer = lines.clone();
        fewer.remove(at);
        assert!(parse(&fewer).map_or(true, |read| read != offer), "without line {at}");
        let mut twice = lines.clone();
        twice.insert(at, lines[at].clone());
        let items = lines[at].starts_with("item: ");
        assert!(items || parse(&twice).is_err(), "twice line {at}");
        let mut moved = lines.clone();
        moved.swap(at, (at + 1) % lines.len());
        assert!(parse(&moved).is_err(), "moved line {at}");
    }
}
