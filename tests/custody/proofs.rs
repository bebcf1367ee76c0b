//! Proofs that leave the evidence: each holds for what it is about, for nothing else, and for a script that is not ours
//! to trust.

use std::path::{Path, PathBuf};
use std::process::Command;

use custody::bundle::{Bundle, CatalogEntry, MemberKind};
use custody::merkle::{
    consistency_proof, inclusion_proof, leaf_hash, root_of, verify_consistency, verify_inclusion,
};
use custody::proof::{EvidenceProof, Prover, TlogProof, extract_entry, extract_exhibit, extract_file};
use custody::strict_json::{escape_text, to_line};
use custody::verify::{FaultKind, LogCopy, Options};
use custody::{Case, Error, NewCase, sha256};
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::support::{CHUNK, Recipe, check, faults, files_below, log_with, sample_bytes, writer};

/// Files of the bundle, one after the other; the third shares its chunk with the second.
const FILES: [(&str, usize, usize); 4] = [
    ("/var/log/secret-of-jane.log", 0, 90_000),
    ("/home/boris/diary \"`$(id)`\".txt", 90_112, 1_000),
    ("/etc/passwd", 91_648, 512),
    ("/home/jane/-", 120_000, 0),
];

fn recipe() -> Recipe {
    let data = sample_bytes(150_000);
    let entry = |(path, offset, size): (&str, usize, usize)| CatalogEntry {
        path: path.to_owned(),
        kind: MemberKind::File,
        header: offset as u64,
        offset: offset as u64,
        size: size as u64,
        sha256: Some(sha256(&data[offset..offset + size])),
        ..CatalogEntry::default()
    };
    Recipe { catalog: FILES.into_iter().map(entry).collect(), data, ..Recipe::default() }
}

fn bundle() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    recipe().make(folder.path());
    folder
}

fn prover(folder: &Path) -> Prover {
    Prover::open(Bundle::open(folder).unwrap(), folder).unwrap()
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/proof/check_proof.py")
}

/// What the script says; `None` where there is no python3 or openssl.
fn by_script(proof: &[u8], bytes: Option<&[u8]>) -> Option<Result<String, String>> {
    for tool in ["python3", "openssl"] {
        if Command::new(tool).arg("version").output().is_err() {
            eprintln!("skipped: there is no {tool}");
            return None;
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new("python3");
    command.arg(script());
    for (name, bytes) in [("proof", Some(proof)), ("bytes", bytes)] {
        if let Some(bytes) = bytes {
            std::fs::write(folder.path().join(name), bytes).unwrap();
            command.arg(folder.path().join(name));
        }
    }
    let done = command.output().unwrap();
    let said =
        String::from_utf8_lossy(if done.status.success() { &done.stdout } else { &done.stderr }).into_owned();
    Some(if done.status.success() { Ok(said) } else { Err(said) })
}

fn passes(bytes: &[u8]) -> bool {
    EvidenceProof::parse(bytes).is_ok_and(|proof| proof.check().is_ok())
}

fn event(prover: &Prover) -> EvidenceProof {
    let mut row = Map::new();
    row.insert("message".to_owned(), "two\nlines".into());
    row.insert("weight".to_owned(), json!(0.5));
    row.insert("user".to_owned(), Value::Null);
    // Over the border between two chunks, and a second piece.
    let border = u64::from(CHUNK);
    prover.event("disk", row, &[(border - 10, border + 20), (5, 9)]).unwrap()
}

#[test]
fn chunks_files_and_events_are_proved_and_a_script_agrees() {
    let folder = bundle();
    let prover = prover(folder.path());
    let data = sample_bytes(150_000);
    for index in 0..3 {
        let bytes = prover.chunk("disk", index).unwrap().to_bytes().unwrap();
        let proved = EvidenceProof::parse(&bytes).unwrap().check().unwrap();
        assert!(proved.key_began_the_log && proved.chunks[0].has_bytes);
        assert_eq!(proved.chunks[0].sha256, sha256(data.chunks(CHUNK as usize).nth(index as usize).unwrap()));
        if let Some(said) = by_script(&bytes, None) {
            assert!(said.unwrap().ends_with("PROVED\n"));
        }
    }
    assert!(prover.chunk("disk", 3).is_err() && prover.chunk("other", 0).is_err());
    for (path, offset, size) in FILES {
        let found = prover.find_file(path).unwrap();
        let bytes = prover.file(&found).unwrap().to_bytes().unwrap();
        let proved = EvidenceProof::parse(&bytes).unwrap().check().unwrap();
        assert_eq!(proved.file.unwrap().path, path);
        let content = &data[offset..offset + size];
        let mut copied = Vec::new();
        prover.copy_file(&found, &mut copied).unwrap();
        assert_eq!(copied, content);
        if let Some(said) = by_script(&bytes, Some(content)) {
            let said = said.unwrap();
            assert!(said.ends_with("PROVED\n") && said.contains(&sha256(content).to_string()), "{said}");
            assert!(by_script(&bytes, Some(b"other bytes")).unwrap().is_err());
        }
    }
    assert!(prover.find_file("/etc/shadow").is_err());
    let bytes = event(&prover).to_bytes().unwrap();
    let record = EvidenceProof::parse(&bytes).unwrap().check().unwrap().record.unwrap();
    let border = CHUNK as usize;
    let expected = [&data[border - 10..border + 20], &data[5..9]].concat();
    assert_eq!((record.length, record.sha256), (34, sha256(&expected)));
    assert_eq!(Value::Object(record.row), json!({"message": "two\\x0alines", "weight": "0.5"}));
    if let Some(said) = by_script(&bytes, None) {
        assert!(said.unwrap().contains(&sha256(&expected).to_string()));
    }
}

#[test]
fn every_flipped_byte_of_every_proof_is_refused() {
    let folder = bundle();
    let prover = prover(folder.path());
    let found = prover.find_file("/etc/passwd").unwrap();
    let file = prover.file(&found).unwrap().to_bytes().unwrap();
    let chunk = prover.chunk("disk", 2).unwrap().to_bytes().unwrap();
    let event = event(&prover).to_bytes().unwrap();
    // The bytes of chunks are all alike; the rest is tried byte for byte.
    for (name, proof, step) in [("file", &file, 1), ("chunk", &chunk, 131), ("event", &event, 1310)] {
        assert!(passes(proof), "{name}");
        let tail = proof.len().saturating_sub(6000);
        let more = if name == "file" { 1 } else { 7 };
        for at in (0..tail).step_by(step).chain((tail..proof.len()).step_by(more)) {
            let mut changed = proof.clone();
            changed[at] ^= 1 << (at % 7);
            if passes(&changed) {
                // What an event's row says is a claim, and said to be one.
                let record =
                    |bytes: &[u8]| EvidenceProof::parse(bytes).unwrap().check().unwrap().record.unwrap();
                let (changed, right) = (record(&changed), record(proof));
                assert!(changed.row != right.row && changed.sha256 == right.sha256, "{name} byte {at}");
            }
        }
        for cut in [0, 1, proof.len() / 2, proof.len() - 1] {
            assert!(!passes(&proof[..cut]), "{name} cut at {cut}");
        }
    }
    for at in (0..file.len()).step_by(file.len() / 12) {
        let mut changed = file.clone();
        changed[at] ^= 1;
        if let Some(said) = by_script(&changed, None) {
            assert!(said.is_err(), "byte {at}: {said:?}");
        }
    }
}

#[test]
fn parts_of_another_exhibits_proof_do_not_fit_and_another_seal_does_not_either() {
    let (one, other) = (bundle(), bundle());
    let (one, other) = (prover(one.path()), prover(other.path()));
    let value = |proof: EvidenceProof| -> Value {
        let bytes = proof.to_bytes().unwrap();
        custody::strict_json::parse(bytes.strip_suffix(b"\n").unwrap()).unwrap()
    };
    let file = |prover: &Prover| value(prover.file(&prover.find_file("/etc/passwd").unwrap()).unwrap());
    let (a, b) = (file(&one), file(&other));
    let accepted = |value: &Value| passes((to_line(value).unwrap() + "\n").as_bytes());
    assert!(accepted(&a) && accepted(&b));
    for part in ["seal", "manifest", "file"] {
        let mut mixed = a.clone();
        mixed[part] = b[part].clone();
        assert!(!accepted(&mixed), "{part}");
    }
    let (a, b) = (value(one.chunk("disk", 1).unwrap()), value(one.chunk("disk", 2).unwrap()));
    for part in ["bytes_b64", "index", "path", "sha256"] {
        let mut mixed = a.clone();
        mixed["chunks"][0][part] = b["chunks"][0][part].clone();
        assert!(!accepted(&mixed), "{part}");
    }
    // The log's own key signs many things; only the entry that seals this manifest will do.
    let folder = tempfile::tempdir().unwrap();
    recipe().make(folder.path());
    let prover = prover(folder.path());
    let (line, proof, key) = LogCopy::read(folder.path()).unwrap().prove(1).unwrap();
    let mut mixed = value(prover.chunk("disk", 1).unwrap());
    mixed["seal"] = json!({"line": line, "proof": escape_text(proof.to_text().as_bytes()),
        "vkey": key.to_vkey(&proof.checkpoint.checkpoint.origin)});
    assert!(!accepted(&mixed));
}

#[test]
fn every_entry_of_a_log_is_proved_and_one_beyond_it_is_not() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    log_with(folder.path(), 12);
    log_with(other.path(), 12);
    let log = LogCopy::read(folder.path()).unwrap();
    let (foreign, _, stranger) = LogCopy::read(other.path()).unwrap().prove(3).unwrap();
    for seq in 0..13 {
        let (line, proof, key) = log.prove(seq).unwrap();
        let proof = TlogProof::parse(proof.to_text().as_bytes()).unwrap();
        proof.check(line.as_bytes(), &key).unwrap();
        assert!(proof.check(foreign.as_bytes(), &key).is_err());
        // Both logs have one key here; their origins differ, and so do the names it signs under.
        assert_eq!(key, stranger);
    }
    assert!(log.prove(13).is_err());
    let (_, proof, key) = log.prove(3).unwrap();
    let mut renamed = proof.to_text();
    let origin = &proof.checkpoint.checkpoint.origin;
    renamed = renamed
        .replace(origin.as_str(), LogCopy::read(other.path()).unwrap().head().checkpoint.origin.as_str());
    let read = TlogProof::parse(renamed.as_bytes()).unwrap();
    assert!(read.check(log.prove(3).unwrap().0.as_bytes(), &key).is_err());
}

#[test]
fn a_catalogue_whose_lines_do_not_give_the_manifests_root_is_a_fault_and_one_without_root_is_none() {
    let folder = tempfile::tempdir().unwrap();
    Recipe { catalog: Vec::new(), ..recipe() }.make(folder.path());
    assert!(check(folder.path()).is_intact());
    let prover = prover(folder.path());
    assert!(prover.find_file("/etc/passwd").is_err(), "there is no catalogue");
    // A wrong root under a right signature can only come from a faulty writer, so the manifest is made by hand.
    let bundle = bundle();
    let path = bundle.path().join("manifest.json");
    let manifest = std::fs::read_to_string(&path).unwrap();
    let root = Bundle::open(bundle.path()).unwrap().manifest().streams[0].catalog_root.unwrap();
    std::fs::write(&path, manifest.replace(&root.to_string(), &sha256(b"other").to_string())).unwrap();
    let done = check(bundle.path());
    assert!(
        done.faults
            .iter()
            .any(|fault| fault.kind == FaultKind::Table && fault.words.contains("give the root")),
        "{}",
        faults(&done)
    );
}

/// Runs the commands of a `VERIFY.md` as printed, and compares what they print.
fn run_sheet(folder: &Path) {
    let sheet = std::fs::read_to_string(folder.join("VERIFY.md")).unwrap();
    for tool in ["python3", "openssl", "bash"] {
        if Command::new(tool).arg("--version").output().is_err() {
            eprintln!("skipped: there is no {tool}");
            return;
        }
    }
    let mut commands = 0;
    for part in sheet.split("```sh\n").skip(1) {
        let (command, rest) = part.split_once("```\n").unwrap();
        let expected = rest.split_once("```text\n").unwrap().1.split_once("\n```").unwrap().0;
        let done = Command::new("bash").arg("-ec").arg(command).current_dir(folder).output().unwrap();
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(done.status.success(), "{command}\n{}", String::from_utf8_lossy(&done.stderr));
        for line in expected.lines() {
            assert!(
                said.contains(line.trim_end_matches('…').trim_end()),
                "{command} printed {said:?}, not {line:?}"
            );
        }
        commands += 1;
    }
    assert_eq!(commands, 4);
}

#[test]
fn a_file_leaves_alone_and_nothing_of_the_others_goes_with_it() {
    let folder = bundle();
    let prover = prover(folder.path());
    let out = tempfile::tempdir().unwrap();
    for (number, (path, offset, size)) in FILES.into_iter().enumerate() {
        let to = out.path().join(number.to_string());
        let found = prover.find_file(path).unwrap();
        let made = extract_file(&prover, &found, &to).unwrap();
        assert_eq!(made.given.2, sha256(&sample_bytes(150_000)[offset..offset + size]));
        assert_eq!(files_below(&to).len(), 8, "{:?}", files_below(&to));
        run_sheet(&to);
        let others: Vec<&str> = FILES.iter().map(|file| file.0).filter(|other| *other != path).collect();
        let data = sample_bytes(150_000);
        for file in files_below(&to) {
            let bytes = std::fs::read(to.join(&file)).unwrap();
            let text = String::from_utf8_lossy(&bytes);
            for other in &others {
                let name = other.rsplit('/').next().unwrap();
                assert!(name.len() < 4 || !text.contains(name), "{file:?} names {other}");
            }
            let beside = &data[FILES[1].1 + 1..FILES[1].1 + 33];
            assert!(number == 1 || !bytes.windows(32).any(|part| part == beside), "{file:?} holds the diary");
        }
        assert!(matches!(extract_file(&prover, &found, &to), Err(Error::WouldOverwrite { .. })));
    }
}

#[test]
fn an_entry_and_an_exhibit_leave_with_their_proof() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("case");
    let case = Case::create(
        &root,
        &NewCase { name: "n".into(), examiner: "J. Doe".into(), ..NewCase::default() },
        &writer(),
    )
    .unwrap();
    for name in ["alphadisk", "second"] {
        let exhibit = case.add_exhibit(name, &writer()).unwrap();
        recipe().make(&exhibit.folder);
        let manifest = std::fs::read(exhibit.folder.join("manifest.json")).unwrap();
        let entry = custody::NewEntry::new(custody::EntryType::BUNDLE_SEALED).exhibit(&exhibit.id).subject(
            "manifest.json",
            manifest.len() as u64,
            sha256(&manifest),
        );
        case.append(entry, &writer()).unwrap();
    }
    let entry = folder.path().join("entry");
    let made = extract_entry(&LogCopy::read(&root).unwrap(), 3, &entry).unwrap();
    assert_eq!(made.exhibit.as_deref(), Some("E002"));
    run_sheet(&entry);
    let exhibit = folder.path().join("exhibit");
    let made = extract_exhibit(&case, "E002", &Options::default(), &exhibit).unwrap();
    assert_eq!(made.given.0, "E002/manifest.json");
    run_sheet(&exhibit);
    assert!(check(&exhibit.join("bundle")).is_intact());
    for file in files_below(&entry)
        .into_iter()
        .map(|file| entry.join(file))
        .chain(files_below(&exhibit).into_iter().map(|file| exhibit.join(file)))
    {
        let bytes = std::fs::read(&file).unwrap();
        assert!(!bytes.windows(5).any(|part| part == b"alpha"), "{file:?} names the other exhibit");
    }
    std::fs::write(exhibit.join("bundle/keys/added"), "x").unwrap();
    std::fs::write(root.join("exhibits/E001-alphadisk/keys/added"), "x").unwrap();
    let broken = extract_exhibit(&case, "E001", &Options::default(), &folder.path().join("broken"));
    assert!(matches!(broken, Err(Error::Malformed { .. })), "{broken:?}");
}

/// Every byte of the proofs of the small and the largest trees, and one of each hash of the others.
fn bytes_to_flip(proof: &[custody::Digest], size: usize) -> impl Iterator<Item = usize> {
    let all = size < 12 || size == 70;
    (0..proof.len() * 32).filter(move |at| all || at % 32 == size % 32)
}

#[test]
fn a_flipped_byte_of_an_inclusion_or_consistency_proof_is_refused_for_all_sizes_up_to_70() {
    for size in 1..=70usize {
        let data: Vec<String> = (0..size).map(|i| format!("leaf {i}")).collect();
        let leaves: Vec<_> = data.iter().map(|leaf| leaf_hash(leaf.as_bytes())).collect();
        let root = root_of(&data);
        for index in 0..size {
            let proof = inclusion_proof(&leaves, index).unwrap();
            let holds =
                |proof: &[_]| verify_inclusion(&leaves[index], index as u64, size as u64, proof, &root);
            assert!(holds(&proof));
            for at in bytes_to_flip(&proof, size) {
                let mut changed = proof.clone();
                changed[at / 32].0[at % 32] ^= 1 << (at % 8);
                assert!(!holds(&changed), "leaf {index} of {size}, byte {at}");
            }
        }
        for old in 1..=size {
            let proof = consistency_proof(&leaves, old).unwrap();
            let before = root_of(&data[..old]);
            let holds = |proof: &[_]| verify_consistency(old as u64, size as u64, &before, &root, proof);
            assert!(holds(&proof));
            for at in bytes_to_flip(&proof, size) {
                let mut changed = proof.clone();
                changed[at / 32].0[at % 32] ^= 1 << (at % 8);
                assert!(!holds(&changed), "{old} of {size}, byte {at}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn proofs_of_large_trees_hold_and_hold_for_nothing_else(
        size in 71usize..3000, at in any::<prop::sample::Index>(), other in any::<prop::sample::Index>(),
    ) {
        let leaves: Vec<_> = (0..size).map(|i| leaf_hash(&i.to_le_bytes())).collect();
        let root = custody::merkle::root_of_hashes(&leaves);
        let (index, wrong) = (at.index(size), other.index(size));
        let proof = inclusion_proof(&leaves, index).unwrap();
        prop_assert!(verify_inclusion(&leaves[index], index as u64, size as u64, &proof, &root));
        prop_assert_eq!(verify_inclusion(&leaves[wrong], index as u64, size as u64, &proof, &root), wrong == index);
        prop_assert_eq!(verify_inclusion(&leaves[index], wrong as u64, size as u64, &proof, &root), wrong == index);
        let old = index + 1;
        let before = custody::merkle::root_of_hashes(&leaves[..old]);
        let proof = consistency_proof(&leaves, old).unwrap();
        prop_assert!(verify_consistency(old as u64, size as u64, &before, &root, &proof));
        let wrong = wrong + 1;
        prop_assert_eq!(verify_consistency(wrong as u64, size as u64, &before, &root, &proof), wrong == old);
    }

    #[test]
    fn any_bytes_are_a_proof_or_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = EvidenceProof::parse(&bytes).map(|proof| proof.check());
        let _ = custody::proof::ForkProof::parse(&bytes).map(|proof| proof.check());
    }
}
