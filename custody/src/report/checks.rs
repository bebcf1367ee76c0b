//! Part 15: the commands by which anybody checks the case without software of ours, with this case's own values.
//!
//! Each is run by a POSIX shell in the case's folder and prints exactly what stands beside it. They hold for the logs as
//! they were when the report was made, and go on holding when entries are added.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::Value;

use super::blocks::{Line, part};
use super::check_scripts::{CHAIN, CHUNKS, FINGERPRINT, LEDGER};
use super::document::{Block, Part};
use super::material::{ExhibitMaterial, Log, Material};
use super::text::shell;
use crate::anchors::{HOW_CHECKPOINT, HOW_KIND, KIND_TIME_STAMP};
use crate::clock::parse_rfc3339;
use crate::entry::EntryType;
use crate::handover::{HOW_OFFER, NAMESPACE, SIG_LINES};
use crate::keys::VerifyingKey;
use crate::parties;

/// Exhibits whose checks are printed; the others have the same ones in their own `VERIFY.md`.
const MOST: usize = 20;

/// One command and what it prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    /// What it checks.
    pub(super) title: String,
    /// For a POSIX shell, in the case's folder.
    pub(super) command: String,
    /// What it prints on standard output, without the last line feed.
    pub(super) expect: String,
}

/// All checks of a case.
pub(super) fn checks(m: &Material) -> Vec<Check> {
    let mut checks = of_log(&m.log, "the case");
    for x in m.exhibits.iter().take(MOST) {
        checks.extend(of_exhibit(m, x));
        checks.extend(of_log(&x.log, &x.id));
    }
    checks
}

fn check(title: String, command: String, expect: impl Into<String>) -> Check {
    Check { title, command, expect: expect.into() }
}

/// A script of Python with its arguments.
fn python(script: &str, arguments: &[&str]) -> String {
    let arguments: Vec<String> = arguments.iter().map(|argument| shell(argument)).collect();
    format!("python3 - {} <<'PYTHON'\n{script}\nPYTHON", arguments.join(" "))
}

fn path(folder: &str, file: &str) -> String {
    if folder.is_empty() { file.to_owned() } else { format!("{folder}/{file}") }
}

/// Spelling, chain, root and signature of a log.
fn of_log(log: &Log, of: &str) -> Vec<Check> {
    let (Some(head), Some(root), Some(lines)) = (&log.head, log.root(), log.sha256) else {
        return Vec::new();
    };
    let file = path(&log.folder, "custody.jsonl");
    let size = log.size().to_string();
    let mut checks = vec![
        check(
            format!("The log of {of}: its first {size} entries are spelled in the one way there is"),
            format!("head -n {size} {} | jq -cS . | sha256sum", shell(&file)),
            format!("{lines}  -"),
        ),
        check(
            format!(
                "The log of {of}: each entry names the one before, and the root over all of them is this"
            ),
            python(CHAIN, &[&file, &size]),
            format!("{size} entries, root {root}"),
        ),
    ];
    checks.extend(of_handovers(log));
    checks.extend(of_time_stamps(log));
    let Some(signer) = &log.signer else { return checks };
    let line = head.note.signatures().iter().find(|line| line.key_id == signer.note_id(&log.origin));
    let (Some(line), Ok(pem)) = (line, signer.to_pem()) else { return checks };
    let body: Vec<String> = head.note.text().lines().map(shell).collect();
    checks.push(check(
        format!("The log of {of}: that number of entries and that root were signed by the key in this command"),
        format!(
            "T=$(mktemp -d)\nprintf '%s\\n' {} > \"$T/checkpoint\"\necho {} | base64 -d > \"$T/signature\"\n\
             cat > \"$T/key.pem\" <<'PEM'\n{}\nPEM\n\
             openssl pkeyutl -verify -pubin -inkey \"$T/key.pem\" -rawin -in \"$T/checkpoint\" -sigfile \"$T/signature\"\n\
             rm -r \"$T\"",
            body.join(" \\\n  "),
            STANDARD.encode(&line.signature),
            pem.trim_end()
        ),
        "Signature Verified Successfully",
    ));
    checks.push(check(
        format!("The log of {of}: the fingerprint of that key"),
        format!("echo {} | ssh-keygen -lf -", shell(&ssh_line(signer))),
        format!("256 {} no comment (ED25519)", signer.fingerprint()),
    ));
    checks
}

/// The parties' own signatures under handovers.
fn of_handovers(log: &Log) -> Vec<Check> {
    let mut checks = Vec::new();
    let file = shell(&path(&log.folder, "custody.jsonl"));
    // A refusal is over a longer text.
    let kinds = [EntryType::TRANSFER_OFFERED, EntryType::TRANSFER_ACCEPTED];
    let signed =
        log.entries.iter().filter(|entry| kinds.contains(&entry.kind) && !entry.about.party_sigs.is_empty());
    for entry in signed.take(MOST) {
        for (at, found) in parties::check(entry).iter().enumerate().filter(|(_, found)| found.good) {
            checks.push(check(
                format!(
                    "{} The {} signed this handover with the key of this fingerprint",
                    log.cite(entry.seq),
                    found.role
                ),
                format!(
                    "T=$(mktemp -d)\nsed -n {}p {file} > \"$T/entry\"\n\
                     jq -r '.how.{HOW_OFFER}[]' \"$T/entry\" > \"$T/offer\"\n\
                     jq -r '.party_sigs[{at}].{SIG_LINES}[]' \"$T/entry\" > \"$T/signature\"\n\
                     ssh-keygen -Y check-novalidate -n {NAMESPACE} -s \"$T/signature\" < \"$T/offer\" \\\n  \
                     | sed 's/ with .* key / with key /'\n\
                     rm -r \"$T\"",
                    entry.seq.saturating_add(1)
                ),
                format!("Good \"{NAMESPACE}\" signature with key {}", found.fingerprint),
            ));
        }
    }
    checks
}

/// The tokens of time-stamp authorities, each checked at its own time with the certificates that were kept beside it.
fn of_time_stamps(log: &Log) -> Vec<Check> {
    let made = log.entries.iter().filter(|entry| {
        entry.kind == EntryType::ANCHOR_MADE && entry.how_text(HOW_KIND) == Some(KIND_TIME_STAMP)
    });
    let mut checks = Vec::new();
    for entry in made.take(MOST) {
        let [token, chain] = entry.about.subject.as_slice() else { continue };
        let result = |key: &str| entry.about.result.get(key).and_then(Value::as_str);
        let (Some(over), Some(time)) = (entry.how_text(HOW_CHECKPOINT), result("time")) else { continue };
        let Ok(seconds) = parse_rfc3339(time).map(|nanoseconds| nanoseconds.div_euclid(1_000_000_000)) else {
            continue;
        };
        let file = |name: &str| shell(&path(&log.folder, name));
        checks.push(check(
            format!(
                "{} {} signed this token at {} over {over}. Whether the last certificate of its chain is that \
                 authority's own root, only a copy of the root that you have from elsewhere shows",
                log.cite(entry.seq),
                result("who").unwrap_or("An authority"),
                time,
            ),
            format!(
                "openssl ts -verify -data {} -in {} \\\n  -CAfile {} -partial_chain -attime {seconds} 2>&1 | grep Verification",
                file(over),
                file(&token.id),
                file(&chain.id),
            ),
            "Verification: OK",
        ));
    }
    checks
}

/// The key as OpenSSH writes it.
fn ssh_line(key: &VerifyingKey) -> String {
    let mut blob = Vec::new();
    for part in [&b"ssh-ed25519"[..], key.as_bytes()] {
        blob.extend(u32::try_from(part.len()).unwrap_or(0).to_be_bytes());
        blob.extend(part);
    }
    format!("ssh-ed25519 {}", STANDARD.encode(blob))
}

/// Files, evidence, signature and seal of an exhibit.
fn of_exhibit(m: &Material, x: &ExhibitMaterial) -> Vec<Check> {
    let Some(manifest) = &x.manifest else { return Vec::new() };
    let (id, folder) = (&x.id, shell(&x.folder));
    let mut checks = vec![check(
        format!("{id}: every file is the one that was listed"),
        format!(
            "(cd {folder} && sha256sum --strict --quiet -c SHA256SUMS && echo 'every listed file is unchanged')"
        ),
        "every listed file is unchanged",
    )];
    let sealed = x.log.first(&EntryType::BUNDLE_SEALED);
    let subjects = sealed.map(|entry| entry.about.subject.as_slice()).unwrap_or_default();
    let lines: Vec<String> = subjects.iter().map(|subject| format!("{}: OK", subject.id)).collect();
    if let Some(entry) = sealed {
        checks.push(check(
            format!("{id}: its log sealed these very files"),
            format!(
                "(cd {folder} && sed -n {}p custody.jsonl | jq -r '.subject[] | \"\\(.sha256)  \\(.id)\"' | sha256sum --strict -c -)",
                entry.seq.saturating_add(1)
            ),
            lines.join("\n"),
        ));
    }
    let vouched =
        m.log.of(&EntryType::BUNDLE_SEALED).find(|entry| entry.about.exhibit.as_deref() == Some(id));
    if let (Some(entry), Some(hash)) = (vouched, x.manifest_sha256) {
        checks.push(check(
            format!("{id}: the case's own log names the same manifest"),
            format!("sed -n {}p custody.jsonl | jq -r '.subject[0].sha256'", entry.seq.saturating_add(1)),
            hash.to_string(),
        ));
    }
    checks.push(check(
        format!("{id}: the manifest was signed"),
        format!(
            "openssl pkeyutl -verify -pubin -inkey {folder}/keys/signer.pub.pem -rawin \\\n  -in {folder}/manifest.json -sigfile {folder}/manifest.json.sig"
        ),
        "Signature Verified Successfully",
    ));
    checks.push(check(
        format!("{id}: by the key with this fingerprint"),
        python(FINGERPRINT, &[&path(&x.folder, "keys/signer.pub.pem")]),
        manifest.examiner.key.clone(),
    ));
    for stream in manifest.streams.iter().filter(|stream| !stream.is_encrypted()) {
        let name = &stream.name;
        if !stream.segments.is_empty() {
            checks.push(check(
                format!("{id}: stream {name} gives the bytes that were acquired"),
                format!("zstd -q -dc {folder}/data/{name}/*.zst | sha256sum"),
                format!("{}  -", stream.sha256),
            ));
        }
        checks.push(check(
            format!("{id}: the hashes of the chunks of stream {name} give the root in the manifest"),
            python(CHUNKS, &[&path(&x.folder, &stream.chunks.path)]),
            stream.chunk_root.to_string(),
        ));
        let states = &stream.states;
        let mut sums: Vec<String> = crate::bundle::State::ALL
            .iter()
            .filter(|state| states.of(**state) > 0)
            .map(|state| format!("{} {}", state.word(), states.of(*state)))
            .collect();
        sums.sort();
        sums.push(format!("sum {}", stream.size));
        checks.push(check(
            format!("{id}: every byte of stream {name} is in exactly one state"),
            python(LEDGER, &[&path(&x.folder, &stream.extents.path)]),
            sums.join("\n"),
        ));
    }
    checks
}

pub(super) fn yourself(m: &Material, checks: &[Check]) -> Part {
    let mut blocks = vec![
        Line::of(
            "None of these commands is ours. Run them in the folder of the case, in a shell, with GNU coreutils, zstd, jq 1.6, \
             OpenSSL 3, OpenSSH and Python 3. Below each stands what it must print. None of them changes a file of the case. The \
             same commands are in report.json, under \"checks\".",
        )
        .block(),
        Line::of(
            "They show that what is in the folder agrees with itself, with this report and with the keys printed here. That a key \
             is whose it should be, and that nothing was cut off the end before this report was made, only something kept outside \
             can show: an earlier copy of page 1, a checkpoint, a time stamp, a fingerprint that was handed over before.",
        )
        .block(),
    ];
    blocks.extend(checks.iter().map(|check| Block::Check {
        title: check.title.clone(),
        command: check.command.clone(),
        expect: check.expect.clone(),
    }));
    let encrypted = m.exhibits.iter().filter(|x| {
        x.manifest
            .as_ref()
            .is_some_and(|manifest| manifest.streams.iter().any(crate::bundle::Stream::is_encrypted))
    });
    for x in encrypted.take(MOST) {
        blocks.push(
            Line::of(format!(
                "{} is encrypted. Who has a key that opens it can decrypt each file with age (age -d -i KEYFILE) and then go on as \
                 for the others; {}/VERIFY.md has the commands.",
                x.id, x.folder
            ))
            .block(),
        );
    }
    if m.exhibits.len() > MOST {
        blocks.push(
            Line::of("The other exhibits have the same commands, with their own values, in VERIFY.md.")
                .block(),
        );
    }
    part(15, "checks", "How to check this yourself", "Must I believe you?", blocks)
}
