//! Anchors of a log: made, kept, checked by us and by `openssl`, and never worth more than they prove.

use std::path::Path;
use std::sync::Mutex;

use custody::anchors::{
    Answer, Authorities, CosignRequest, Parties, Post, Receipt, Witness, anchor, ask_witness, cosign,
    import_anchor, pending, request_time_stamp,
};
use custody::verify::{
    AnchorKind, FaultKind, Level, Memory, Options, OutsideAnchors, TrustedKey, Verification, verify,
    verify_log,
};
use custody::{CustodyLog, EntryType, SignedCheckpoint};

use crate::support::{
    KEY, OTHER_KEY, Recipe, WITNESS, check, copy_folder, faults, log_with, note, trusting, writer,
};
use crate::test_authority::openssl_accepts;
use crate::time_stamps::{Near, P256, RSA};

const WITNESS_NAME: &str = "witness.example/w1";

/// Two authorities and a witness, without a network between; a third address never answers.
struct Town {
    memory: Mutex<Memory>,
}

impl Town {
    fn new() -> Self {
        Self { memory: Mutex::default() }
    }

    fn parties() -> Parties {
        let key = WITNESS.verifying_key();
        let witness = Witness { url: "http://witness".into(), name: WITNESS_NAME.into(), key };
        let authorities = vec!["http://rsa.example/tsa".into(), "http://p256.example/tsa".into()];
        Parties { authorities, witnesses: vec![witness], chain: String::new() }
    }
}

impl Post for Town {
    fn post(&self, url: &str, _type: &str, body: &[u8]) -> custody::Result<Answer> {
        let answer = |status, body: Vec<u8>| Ok(Answer { status, content_type: String::new(), body });
        match url {
            "http://rsa.example/tsa" => Near(&RSA).post(url, "application/timestamp-query", body),
            "http://p256.example/tsa" => Near(&P256).post(url, "application/timestamp-query", body),
            "http://witness/add-checkpoint" => {
                let request = CosignRequest::parse(body).unwrap();
                let mut memory = self.memory.lock().unwrap();
                let known = memory.of(&request.checkpoint.checkpoint.origin).map_or(0, |seen| seen.size);
                if known != request.old_size {
                    return answer(409, format!("{known}\n").into_bytes());
                }
                let trust = [TrustedKey::parse(&KEY.verifying_key().to_pem().unwrap()).unwrap()];
                match cosign(&request, &trust, WITNESS_NAME, &*WITNESS, 1_795_300_000, &mut memory) {
                    Ok(made) => {
                        let mut note = request.checkpoint.note.clone();
                        note.add_line(made.line).unwrap();
                        let line = note.to_text().lines().last().unwrap().to_owned() + "\n";
                        answer(200, line.into_bytes())
                    }
                    Err(_) => answer(422, Vec::new()),
                }
            }
            _ => Err(custody::Error::Post { url: url.into(), why: "nobody is there".into() }),
        }
    }
}

fn roots() -> Authorities {
    let mut authorities = Authorities::default();
    authorities.add_pem(&(RSA.root() + &P256.root())).unwrap();
    authorities
}

fn with_roots() -> Options {
    Options { authorities: roots(), ..Options::default() }
}

fn witness_key() -> TrustedKey {
    TrustedKey::parse(&WITNESS.verifying_key().to_cosigner_vkey(WITNESS_NAME)).unwrap()
}

fn facts(done: &Verification) -> Vec<(AnchorKind, bool, u64)> {
    done.log.anchored.iter().map(|fact| (fact.kind, fact.independent, fact.covers)).collect()
}

/// A sealed bundle of 4 entries, anchored by all: 7 entries.
fn anchored(folder: &Path) -> CustodyLog {
    let log = Recipe::default().make(folder);
    let (checkpoint, asked) = anchor(&log, &Town::parties(), &Town::new(), &writer()).unwrap();
    assert_eq!(checkpoint.checkpoint.size, 4);
    for one in &asked {
        assert!(one.outcome.is_ok(), "{one:?}");
    }
    log
}

#[test]
fn two_authorities_and_a_witness_are_three_parties_when_the_verifier_knows_them() {
    let folder = tempfile::tempdir().unwrap();
    anchored(folder.path());
    let none = check(folder.path());
    assert_eq!(none.verdict.level, Level::Consistent, "{}", faults(&none));
    assert!(none.sentence.contains("0 anchors independent of the presenter"));
    assert_eq!(none.log.anchored.len(), 2, "tokens are told of, and do not count: {:?}", none.log.anchored);
    assert!(none.notes.iter().any(|note| note.contains("bring its root certificate")), "{:?}", none.notes);
    let two = verify(folder.path(), &with_roots()).unwrap();
    assert_eq!(two.verdict.to_string(), "ANCHORED(2)", "{}", faults(&two));
    assert!(
        two.log.anchored.iter().all(|fact| fact.covers == 4 && fact.words.contains("valid at its own time"))
    );
    let log_key = TrustedKey::parse(&KEY.verifying_key().fingerprint()).unwrap();
    let all = Options { trust: vec![witness_key(), log_key], ..with_roots() };
    let three = verify(folder.path(), &all).unwrap();
    assert_eq!(three.verdict.to_string(), "ANCHORED(3)", "{:?}", facts(&three));
    let cosigned = three.log.anchored.iter().find(|fact| fact.kind == AnchorKind::Cosignature).unwrap();
    assert_eq!(
        (cosigned.who.as_str(), cosigned.time.as_deref()),
        (WITNESS_NAME, Some("2026-11-21T22:26:40Z"))
    );
    // The token over a log that no trusted key stands behind is only a time stamp.
    let stranger = Options { trust: trusting(&OTHER_KEY).trust, ..with_roots() };
    assert_eq!(verify(folder.path(), &stranger).unwrap().verdict.level, Level::Consistent);
}

#[test]
fn openssl_accepts_what_is_kept_with_the_files_that_lie_there() {
    let folder = tempfile::tempdir().unwrap();
    let log = anchored(folder.path());
    let data = folder.path().join("checkpoints/00000004");
    for (name, authority) in [("rsa.example", &*RSA), ("p256.example", &*P256)] {
        let token = folder.path().join(format!("anchors/00000004.{name}.tsr"));
        let chain = folder.path().join(format!("anchors/00000004.{name}.chain.pem"));
        let made = log
            .read()
            .unwrap()
            .entries
            .into_iter()
            .find(|entry| entry.how_text("url") == Some(&format!("http://{name}/tsa")));
        let made = made.unwrap();
        assert_eq!(made.how_text("checkpoint"), Some("checkpoints/00000004"));
        let time = chrono_seconds(made.about.result["time"].as_str().unwrap());
        assert!(openssl_accepts(&data, &token, &authority.path("root.pem"), Some(&chain), Some(time)));
        // Over another checkpoint it is refused.
        let other = folder.path().join("checkpoint");
        assert!(!openssl_accepts(&other, &token, &authority.path("root.pem"), Some(&chain), Some(time)));
    }
}

/// Seconds since 1970 of an RFC 3339 time, by `date`.
fn chrono_seconds(time: &str) -> i64 {
    let out = std::process::Command::new("date").args(["-u", "-d", time, "+%s"]).output().unwrap();
    String::from_utf8(out.stdout).unwrap().trim().parse().unwrap()
}

#[test]
fn one_party_that_fails_does_not_stop_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let log = log_with(folder.path(), 2);
    let mut parties = Town::parties();
    parties.authorities.insert(0, "http://nobody".into());
    let (_, asked) = anchor(&log, &parties, &Town::new(), &writer()).unwrap();
    let good: Vec<bool> = asked.iter().map(|one| one.outcome.is_ok()).collect();
    assert_eq!(good, [false, true, true, true]);
    assert_eq!(pending(&log).unwrap(), None);
    let done = verify_log(folder.path(), &with_roots()).unwrap();
    assert_eq!(done.verdict.to_string(), "ANCHORED(2)", "{}", faults(&done));
}

#[test]
fn without_a_network_the_checkpoint_waits_and_the_delay_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let log = log_with(folder.path(), 2);
    let nobody = Parties { authorities: vec!["http://nobody".into()], ..Parties::default() };
    let (kept, asked) = anchor(&log, &nobody, &Town::new(), &writer()).unwrap();
    assert!(asked[0].outcome.is_err());
    assert!(folder.path().join("checkpoints/00000003").is_file());
    assert_eq!(log.read().unwrap().entries.len(), 3, "what was not made is no entry");
    let waiting = pending(&log).unwrap().unwrap();
    assert_eq!((waiting.from, waiting.size), (0, 3));
    assert!(check_log(folder.path()).is_intact());
    log.append(&note("later"), &writer()).unwrap();
    anchor(&log, &Town::parties(), &Town::new(), &writer()).unwrap();
    let made =
        log.read().unwrap().entries.into_iter().find(|entry| entry.kind == EntryType::ANCHOR_MADE).unwrap();
    assert_eq!(made.how_text("waiting_since"), Some(waiting.since.as_str()));
    assert_eq!(pending(&log).unwrap(), None);
    assert_eq!(kept.checkpoint.size, 3);
}

fn check_log(folder: &Path) -> Verification {
    verify_log(folder, &Options::default()).unwrap()
}

#[test]
fn a_token_that_was_damaged_in_the_bundle_is_a_fault_and_outside_it_is_a_note() {
    let folder = tempfile::tempdir().unwrap();
    anchored(folder.path());
    let token = folder.path().join("anchors/00000004.rsa.example.tsr");
    let elsewhere = tempfile::tempdir().unwrap();
    let mut damaged = std::fs::read(&token).unwrap();
    let at = damaged.len() - 20;
    damaged[at] ^= 1;
    std::fs::write(elsewhere.path().join("t.tsr"), &damaged).unwrap();
    let options = Options { outside: OutsideAnchors::read(elsewhere.path()).unwrap(), ..with_roots() };
    let done = verify(folder.path(), &options).unwrap();
    assert_eq!(done.verdict.to_string(), "ANCHORED(2)");
    assert!(done.notes.iter().any(|note| note.contains("t.tsr does not hold")), "{:?}", done.notes);
    std::fs::write(&token, &damaged).unwrap();
    let done = verify(folder.path(), &with_roots()).unwrap();
    assert!(
        done.faults
            .iter()
            .any(|fault| fault.kind == FaultKind::Changed && fault.place.file.ends_with(".tsr"))
    );
    std::fs::remove_file(&token).unwrap();
    let done = verify(folder.path(), &with_roots()).unwrap();
    assert!(done.faults.iter().any(|fault| fault.kind == FaultKind::Missing), "{}", faults(&done));
}

#[test]
fn foreign_and_senseless_files_kept_elsewhere_are_told_of_and_change_nothing() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    anchored(folder.path());
    let write = |name: &str, bytes: &[u8]| std::fs::write(elsewhere.path().join(name), bytes).unwrap();
    write("0-garbage", &[0x30, 0x82, 0xff, 0xff, 1, 2, 3]);
    write("1-empty", b"");
    write("2-text", b"a letter to counsel");
    write("3-cert.pem", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let other = request_time_stamp(&Near(&RSA), "", b"something else").unwrap();
    write("4-other.tsr", other.as_bytes());
    let another = tempfile::tempdir().unwrap();
    let another = log_with(another.path(), 1).read().unwrap().checkpoint.unwrap();
    write("5-another-log", another.note.to_text().as_bytes());
    let of_another = request_time_stamp(&Near(&RSA), "", another.note.to_text().as_bytes()).unwrap();
    write("6-over-another.tsr", of_another.as_bytes());
    let options = Options { outside: OutsideAnchors::read(elsewhere.path()).unwrap(), ..with_roots() };
    let done = verify(folder.path(), &options).unwrap();
    assert_eq!(done.verdict.to_string(), "ANCHORED(2)", "{}", faults(&done));
    for name in ["0-garbage", "1-empty", "2-text", "3-cert.pem", "4-other.tsr"] {
        assert!(done.notes.iter().any(|note| note.contains(name)), "{name}: {:?}", done.notes);
    }
}

#[test]
fn a_root_kept_with_the_anchors_is_a_root_and_one_in_the_bundle_is_none() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let log = Recipe::default().make(folder.path());
    // The presenter keeps the root beside the token.
    let parties = Parties { witnesses: Vec::new(), chain: RSA.root(), ..Town::parties() };
    anchor(&log, &parties, &Town::new(), &writer()).unwrap();
    assert_eq!(check(folder.path()).verdict.level, Level::Consistent);
    std::fs::write(elsewhere.path().join("root.pem"), RSA.root()).unwrap();
    let options = Options { outside: OutsideAnchors::read(elsewhere.path()).unwrap(), ..Options::default() };
    let done = verify(folder.path(), &options).unwrap();
    assert_eq!(done.verdict.to_string(), "ANCHORED(1)", "{}", faults(&done));
}

#[test]
fn a_receipt_is_read_back_as_a_copy_kept_elsewhere() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let log = Recipe::default().make(folder.path());
    let signed = log.read().unwrap().checkpoint.unwrap();
    let receipt = Receipt::new(signed.clone(), vec![("case".into(), "ir-2026-017".into())]);
    let text = receipt.to_text().unwrap();
    assert!(
        text.contains(&signed.checkpoint.root.to_string()) && text.contains(receipt.words()[7]),
        "{text}"
    );
    assert!(text.lines().all(|line| line.chars().count() <= 80 || line.starts_with('—')), "{text}");
    std::fs::write(elsewhere.path().join("receipt.txt"), &text).unwrap();
    // From a mail, and from a telephone that read the code.
    std::fs::write(elsewhere.path().join("mailed.txt"), text.replace('\n', "\r\n")).unwrap();
    std::fs::write(elsewhere.path().join("scanned.txt"), receipt.qr_text().trim_end()).unwrap();
    let options = Options { outside: OutsideAnchors::read(elsewhere.path()).unwrap(), ..Options::default() };
    let done = verify(folder.path(), &options).unwrap();
    assert_eq!(done.verdict.to_string(), "ANCHORED(1)", "{}", faults(&done));
    assert_eq!(facts(&done), [(AnchorKind::KeptCopy, true, 4); 3]);
}

#[test]
fn the_code_of_a_receipt_holds_the_checkpoint_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    let signed = log_with(folder.path(), 3).read().unwrap().checkpoint.unwrap();
    let receipt = Receipt::new(signed, Vec::new());
    let png = receipt.to_png().unwrap();
    let (width, height, points) = read_png(&png);
    let mut picture =
        rqrr::PreparedImage::prepare_from_greyscale(width, height, |x, y| points[y * width + x]);
    let grids = picture.detect_grids();
    assert_eq!(grids.len(), 1);
    assert_eq!(grids[0].decode().unwrap().1, receipt.qr_text());
    // And the one in the text, of half blocks: two points a character.
    let lines: Vec<Vec<char>> =
        receipt.qr_lines().unwrap().lines().map(|line| line.chars().collect()).collect();
    let scale = 4;
    let (width, height) = (lines[0].len() * scale, lines.len() * 2 * scale);
    let light = |x: usize, y: usize| match (lines[y / scale / 2][x / scale], (y / scale) % 2) {
        ('█', _) | ('▀', 0) | ('▄', 1) => 255,
        _ => 0,
    };
    // `▀` draws its upper half light, `▄` its lower.
    let mut picture = rqrr::PreparedImage::prepare_from_greyscale(width, height, light);
    let grids = picture.detect_grids();
    assert_eq!(grids[0].decode().unwrap().1, receipt.qr_text());
}

/// Reads a PNG of one bit a point, no filter, as ours are.
fn read_png(png: &[u8]) -> (usize, usize, Vec<u8>) {
    use std::io::Read as _;
    let number = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap()) as usize;
    let (width, height) = (number(16), number(20));
    let length = number(33);
    let mut points = Vec::new();
    flate2::read::ZlibDecoder::new(&png[41..41 + length]).read_to_end(&mut points).unwrap();
    let row = width.div_ceil(8) + 1;
    let grey = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
    let grey = grey.map(|(x, y)| if points[y * row + 1 + x / 8] >> (7 - x % 8) & 1 == 1 { 255 } else { 0 });
    (width, height, grey.collect())
}

#[test]
fn eight_words_are_the_first_88_bits_of_the_hash() {
    // python3: SHA-256 of the text, first 11 bytes, eleven bits a word of the BIP-39 list.
    let text = "exhibit/00\n7\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n";
    let script = format!(
        "import hashlib;w=open('{}').read().split();b=int.from_bytes(hashlib.sha256({text:?}.encode()).digest()[:11],'big');\
         print(' '.join(w[b>>(77-11*i)&2047] for i in range(8)))",
        concat!(env!("CARGO_MANIFEST_DIR"), "/src/anchors/words.txt")
    );
    let out = std::process::Command::new("python3").args(["-c", &script]).output().unwrap();
    let words = String::from_utf8(out.stdout).unwrap();
    assert_eq!(
        custody::anchors::eight_words(text).join(" "),
        words.trim(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
}

#[test]
fn a_witness_follows_a_log_and_refuses_to_go_back_or_fork() {
    let (folder, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let log = log_with(folder.path(), 4);
    let (town, parties) = (Town::new(), Town::parties());
    let witness = &parties.witnesses[0];
    let at = |log: &CustodyLog| log.read().unwrap().checkpoint.unwrap();
    copy_folder(folder.path(), copy.path());
    let early = at(&log);
    ask_witness(&town, witness, &log, &early).unwrap();
    for round in 0..3 {
        log.append(&note(&format!("more {round}")), &writer()).unwrap();
        let made = ask_witness(&town, witness, &log, &at(&log)).unwrap();
        assert_eq!(made.name, WITNESS_NAME);
    }
    // The same checkpoint again is no harm.
    ask_witness(&town, witness, &log, &at(&log)).unwrap();
    let why = ask_witness(&town, witness, &log, &early).unwrap_err().to_string();
    assert!(why.contains("has cosigned 8 entries of this log, which has 5 here"), "{why}");
    let forked = CustodyLog::open(copy.path()).unwrap();
    for text in ["another", "history", "altogether"] {
        forked.append(&note(text), &writer()).unwrap();
    }
    let why = ask_witness(&town, witness, &forked, &at(&forked)).unwrap_err().to_string();
    assert!(why.contains("does not extend") || why.contains("another history"), "{why}");
    forked.append(&note("and longer"), &writer()).unwrap();
    let why = ask_witness(&town, witness, &forked, &at(&forked)).unwrap_err().to_string();
    assert!(why.contains("does not extend"), "{why}");
}

#[test]
fn a_witness_cosigns_for_keys_that_it_was_given_and_with_a_proof_alone() {
    let folder = tempfile::tempdir().unwrap();
    let log = log_with(folder.path(), 4);
    let signed = log.read().unwrap().checkpoint.unwrap();
    let mut memory = Memory::default();
    let first = CosignRequest::of(&log, &signed, 0).unwrap();
    let trust = |key: &str| [TrustedKey::parse(key).unwrap()];
    let own = trust(&KEY.verifying_key().to_vkey(log.origin()));
    let other = trust(&OTHER_KEY.verifying_key().to_pem().unwrap());
    assert!(cosign(&first, &other, "w", &*WITNESS, 1, &mut memory).is_err());
    cosign(&first, &own, "w", &*WITNESS, 1, &mut memory).unwrap();
    log.append(&note("more"), &writer()).unwrap();
    let signed = log.read().unwrap().checkpoint.unwrap();
    let bare = CosignRequest::parse(signed.note.to_text().as_bytes()).unwrap();
    let why = cosign(&bare, &own, "w", &*WITNESS, 2, &mut memory).unwrap_err().to_string();
    assert!(why.contains("must come with the proof"), "{why}");
    let request = CosignRequest::of(&log, &signed, 5).unwrap();
    let read = CosignRequest::parse(request.to_text().as_bytes()).unwrap();
    assert_eq!(read, request);
    let mut wrong = read.clone();
    wrong.proof[0].0[0] ^= 1;
    assert!(cosign(&wrong, &own, "w", &*WITNESS, 2, &mut memory).unwrap_err().to_string().contains("FORK"));
    cosign(&read, &own, "w", &*WITNESS, 2, &mut memory).unwrap();
}

#[test]
fn openssl_verifies_a_cosignature_over_the_lines_of_the_specification() {
    let folder = tempfile::tempdir().unwrap();
    let log = log_with(folder.path(), 2);
    let signed = log.read().unwrap().checkpoint.unwrap();
    let made =
        custody::anchors::Cosignature::sign(signed.note.text(), WITNESS_NAME, &*WITNESS, 1_795_300_000)
            .unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    let text = signed.note.text();
    write("message", format!("cosignature/v1\ntime 1795300000\n{text}").as_bytes());
    write("signature", &made.line.signature[8..]);
    write("key.pem", WITNESS.verifying_key().to_pem().unwrap().as_bytes());
    assert_eq!(made.line.signature[..8], 1_795_300_000u64.to_be_bytes());
    let args = [
        "pkeyutl",
        "-verify",
        "-pubin",
        "-inkey",
        "key.pem",
        "-rawin",
        "-in",
        "message",
        "-sigfile",
        "signature",
    ];
    let out = crate::test_authority::openssl(folder.path(), &args);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    // The key id: SHA-256(name || LF || 0x04 || key), its first four bytes.
    write("id", &[WITNESS_NAME.as_bytes(), b"\n\x04", WITNESS.verifying_key().as_bytes()].concat());
    let out = std::process::Command::new("sha256sum").arg(folder.path().join("id")).output().unwrap();
    let id: String = made.line.key_id.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(String::from_utf8(out.stdout).unwrap().starts_with(&id));
}

#[test]
fn anchors_that_were_got_by_hand_are_taken_in_when_they_fit() {
    let folder = tempfile::tempdir().unwrap();
    let log = Recipe::default().make(folder.path());
    let kept = log.keep_checkpoint(&writer()).unwrap();
    let bytes = kept.note.to_text();
    let stamp = request_time_stamp(&Near(&RSA), "", bytes.as_bytes()).unwrap();
    import_anchor(&log, stamp.as_bytes(), "", &writer()).unwrap();
    let mut cosigned = kept.note.clone();
    let line = custody::anchors::Cosignature::sign(kept.note.text(), WITNESS_NAME, &*WITNESS, 1_795_300_000)
        .unwrap();
    cosigned.add_line(line.line).unwrap();
    import_anchor(&log, cosigned.to_text().as_bytes(), "", &writer()).unwrap();
    let options = Options { trust: vec![witness_key()], ..with_roots() };
    assert_eq!(verify(folder.path(), &options).unwrap().verdict.to_string(), "ANCHORED(2)");
    let other = request_time_stamp(&Near(&RSA), "", b"other").unwrap();
    let mut forged = SignedCheckpoint::parse(cosigned.to_text().as_bytes()).unwrap();
    forged.checkpoint.root.0[0] ^= 1;
    let forged = SignedCheckpoint::sign(forged.checkpoint, &*WITNESS).unwrap();
    for bad in [other.as_bytes(), bytes.as_bytes(), b"garbage", forged.note.to_text().as_bytes()] {
        assert!(import_anchor(&log, bad, "", &writer()).is_err());
    }
}

#[test]
fn a_clock_that_ran_ahead_of_the_authority_is_told_of() {
    let folder = tempfile::tempdir().unwrap();
    // Ten years ahead of any authority's clock.
    let clock = custody::FixedClock::at(2_110_000_000_000_000_000);
    let writer = custody::Writer::new(&*KEY, &clock, crate::support::identity());
    let log =
        CustodyLog::create(folder.path(), custody::NewEntry::new(EntryType::LOG_GENESIS), &writer).unwrap();
    anchor(&log, &Town::parties(), &Town::new(), &writer).unwrap();
    let done = verify_log(folder.path(), &with_roots()).unwrap();
    assert!(done.is_intact());
    assert!(
        done.notes.iter().any(|note| note.starts_with("CLOCK: ") && note.contains("ahead")),
        "{:?}",
        done.notes
    );
}

#[cfg(feature = "pdf")]
#[test]
fn a_receipt_prints_as_pdf_with_the_checkpoint_inside() {
    let folder = tempfile::tempdir().unwrap();
    let signed = log_with(folder.path(), 3).read().unwrap().checkpoint.unwrap();
    let receipt = Receipt::new(signed, vec![("case".into(), "ir-2026-017".into())]);
    let pdf = receipt.to_pdf("2026-11-21T01:30:00.123456789Z").unwrap();
    assert_eq!(pdf, receipt.to_pdf("2026-11-21T01:30:00.123456789Z").unwrap());
    let path = folder.path().join("receipt.pdf");
    std::fs::write(&path, &pdf).unwrap();
    let run = |program: &str, args: &[&str]| std::process::Command::new(program).args(args).output();
    let Ok(text) = run("pdftotext", &[path.to_str().unwrap(), "-"]) else {
        eprintln!("skipped: there is no pdftotext");
        return;
    };
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains(&receipt.words().join(" ")) && text.contains("ir-2026-017"), "{text}");
    let inside = folder.path().join("inside");
    let args = ["-save", "1", "-o", inside.to_str().unwrap(), path.to_str().unwrap()];
    assert!(run("pdfdetach", &args).unwrap().status.success());
    assert_eq!(std::fs::read_to_string(inside).unwrap(), receipt.qr_text());
}
