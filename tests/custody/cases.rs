//! Cases: exhibits get their ids once, and the whole is verified together.

use std::path::Path;

use custody::verify::{Level, Options, OutsideAnchors, verify};
use custody::{Case, EntryType, Error, Logged, NewCase, NewEntry};

use crate::support::{Recipe, check, copy_folder, faults, writer};

fn new_case(folder: &Path) -> Case {
    let new = NewCase { name: "ir-2026-017".into(), examiner: "J. Doe".into(), ..NewCase::default() };
    Case::create(folder, &new, &writer()).unwrap()
}

#[test]
fn a_case_with_its_exhibits_verifies() {
    let folder = tempfile::tempdir().unwrap();
    let case = new_case(folder.path());
    assert_eq!(check(folder.path()).verdict.level, Level::Consistent);
    let first = case.add_exhibit("web01-disk", &writer()).unwrap();
    assert_eq!(first.id, "E001");
    assert!(first.folder.ends_with("exhibits/E001-web01-disk"));
    Recipe::default().make(&first.folder);
    let second = case.add_exhibit("web 01/memory", &writer()).unwrap();
    assert!(second.folder.ends_with("exhibits/E002-web_01_memory"));
    Recipe { sealed: false, ..Recipe::default() }.make(&second.folder);
    let done = check(folder.path());
    assert_eq!(done.verdict.level, Level::Open, "{}", faults(&done));
    let verdicts: Vec<_> = done.exhibits.iter().map(|exhibit| exhibit.verdict.level).collect();
    assert_eq!(verdicts, [Level::Consistent, Level::Open]);
    let ids: Vec<_> =
        Case::open(folder.path()).unwrap().exhibits().unwrap().into_iter().map(|e| e.id).collect();
    assert_eq!(ids, ["E001", "E002"]);
}

#[test]
fn an_exhibit_that_was_cut_short_before_its_first_entry_is_open_and_no_sign_of_tampering() {
    // What may lie there after a kill, oldest moment first.
    type Left = fn(&Path);
    let lefts: [Left; 4] = [
        |_| {},
        |exhibit| std::fs::create_dir(exhibit.join("checkpoints")).unwrap(),
        |exhibit| {
            std::fs::create_dir(exhibit.join("keys")).unwrap();
            std::fs::write(exhibit.join("keys/log.vkey"), "half a li").unwrap();
        },
        |exhibit| std::fs::write(exhibit.join("custody.jsonl"), "").unwrap(),
    ];
    for count in 1..=lefts.len() {
        let folder = tempfile::tempdir().unwrap();
        let case = new_case(folder.path());
        let exhibit = case.add_exhibit("disk", &writer()).unwrap();
        lefts[..count].iter().for_each(|left| left(&exhibit.folder));
        let done = check(folder.path());
        assert_eq!((done.verdict.level, done.fault_count), (Level::Open, 0), "{count}: {}", faults(&done));
        assert!(done.notes.iter().any(|note| note.contains("nothing was ever written")), "{:?}", done.notes);
        // What is more than a beginning, or is told of, is missed.
        std::fs::write(exhibit.folder.join("data"), "x").unwrap();
        assert_eq!(check(folder.path()).verdict.level, Level::Broken, "{count}");
        std::fs::remove_file(exhibit.folder.join("data")).unwrap();
        let sealed = NewEntry::new(EntryType::BUNDLE_SEALED).exhibit(&exhibit.id);
        case.append(sealed.subject("manifest.json", 1, custody::sha256(b"x")), &writer()).unwrap();
        assert_eq!(check(folder.path()).verdict.level, Level::Broken, "{count}");
    }
}

#[test]
fn an_exhibit_that_was_cut_short_before_its_first_checkpoint_is_open_too() {
    let folder = tempfile::tempdir().unwrap();
    let case = new_case(folder.path());
    let exhibit = case.add_exhibit("disk", &writer()).unwrap().folder;
    let log =
        custody::CustodyLog::create(&exhibit, NewEntry::new(EntryType::LOG_GENESIS), &writer()).unwrap();
    let path = exhibit.join("custody.jsonl");
    let genesis = std::fs::read(&path).unwrap();
    log.append(&NewEntry::new(EntryType::NOTE), &writer()).unwrap();
    let both = std::fs::read(&path).unwrap();
    std::fs::remove_file(exhibit.join("checkpoint")).unwrap();
    std::fs::write(exhibit.join("custody.checkpoint.tmp"), "half a no").unwrap();
    for (bytes, level) in [
        (&genesis[..], Level::Open),
        (&genesis[..genesis.len() - 1], Level::Open),
        (&genesis[..40], Level::Open),
        // What has a second entry had a checkpoint.
        (&both[..], Level::Broken),
        (&both[..genesis.len() + 9], Level::Broken),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let done = check(folder.path());
        assert_eq!(done.verdict.level, level, "{} bytes: {}", bytes.len(), faults(&done));
    }
}

#[test]
fn exhibits_taken_at_once_get_different_ids() {
    let folder = tempfile::tempdir().unwrap();
    new_case(folder.path());
    let mut ids: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let case = Case::open(folder.path()).unwrap();
                    (0..5).map(|_| case.add_exhibit("x", &writer()).unwrap().id).collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 40);
}

#[test]
fn harm_to_a_case_is_found_and_named() {
    let original = tempfile::tempdir().unwrap();
    let case = new_case(original.path());
    let exhibit = case.add_exhibit("disk", &writer()).unwrap();
    Recipe::default().make(&exhibit.folder);
    type Harm = fn(&Path);
    let harms: [(&str, &str, Harm); 7] = [
        ("case.json changed", "case.json", |case| {
            let path = case.join("case.json");
            let text = std::fs::read_to_string(&path).unwrap().replace("J. Doe", "J. Dot");
            std::fs::write(path, text).unwrap();
        }),
        ("case.json gone", "case.json", |case| std::fs::remove_file(case.join("case.json")).unwrap()),
        ("exhibit gone", "exhibits/E001-disk", |case| {
            std::fs::remove_dir_all(case.join("exhibits/E001-disk")).unwrap();
        }),
        ("exhibit slipped in", "exhibits/E002-x", |case| {
            copy_folder(&case.join("exhibits/E001-disk"), &case.join("exhibits/E002-x"));
        }),
        ("stray file", "notes.txt", |case| std::fs::write(case.join("notes.txt"), "x").unwrap()),
        ("stray file among exhibits", "exhibits/x", |case| {
            std::fs::write(case.join("exhibits/x"), "x").unwrap();
        }),
        ("exhibit's data gone", "exhibits/E001-disk/data/disk/000000.zst", |case| {
            std::fs::remove_file(case.join("exhibits/E001-disk/data/disk/000000.zst")).unwrap();
        }),
    ];
    for (what, place, harm) in harms {
        let copy = tempfile::tempdir().unwrap();
        copy_folder(original.path(), copy.path());
        assert!(check(copy.path()).is_intact());
        harm(copy.path());
        let done = check(copy.path());
        assert_eq!(done.verdict.level, Level::Broken, "{what}");
        assert!(done.faults.iter().any(|fault| fault.place.file == place), "{what}:\n{}", faults(&done));
    }
}

#[test]
fn a_disposed_exhibit_may_be_gone() {
    let folder = tempfile::tempdir().unwrap();
    let case = new_case(folder.path());
    let exhibit = case.add_exhibit("disk", &writer()).unwrap();
    Recipe::default().make(&exhibit.folder);
    case.append(NewEntry::new(EntryType::ITEM_DISPOSED).exhibit("E001"), &writer()).unwrap();
    std::fs::remove_dir_all(&exhibit.folder).unwrap();
    let done = check(folder.path());
    assert!(done.is_intact(), "{}", faults(&done));
}

#[test]
fn an_anchored_word_of_the_case_anchors_the_bundle_it_names() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let case = new_case(folder.path());
    let exhibit = case.add_exhibit("disk", &writer()).unwrap();
    Recipe::default().make(&exhibit.folder);
    let manifest = std::fs::read(exhibit.folder.join("manifest.json")).unwrap();
    let entry = || NewEntry::new(EntryType::VERIFY_RESULT).exhibit("E001");
    let hash = custody::sha256(&manifest);
    case.append(entry().subject("manifest.json", manifest.len() as u64, hash), &writer()).unwrap();
    std::fs::copy(folder.path().join("checkpoint"), elsewhere.path().join("receipt")).unwrap();
    let options = Options { outside: OutsideAnchors::read(elsewhere.path()).unwrap(), ..Options::default() };
    let done = verify(folder.path(), &options).unwrap();
    assert_eq!(done.verdict.to_string(), "ANCHORED(1)", "{}", faults(&done));
    assert_eq!(done.exhibits[0].verdict.level, Level::Anchored);
    // And it says when the bundle is another one.
    case.append(entry().subject("manifest.json", 1, custody::sha256(b"other")), &writer()).unwrap();
    let done = check(folder.path());
    assert_eq!(done.faults[0].place.file, "exhibits/E001-disk/manifest.json", "{}", faults(&done));
}

#[test]
fn reading_acts_are_logged_only_when_the_log_verifies() {
    let folder = tempfile::tempdir().unwrap();
    let case = new_case(folder.path());
    let entry = || NewEntry::new(EntryType::QUERY_RUN).how("command", vec!["exhibit", "query"]);
    let Logged::Yes(appended) = case.record_reading(entry(), &writer()) else { panic!("not logged") };
    assert_eq!(appended.seq, 1);
    let path = folder.path().join("custody.jsonl");
    let harmed = std::fs::read_to_string(&path).unwrap().replacen("J. Doe", "J. Dot", 1);
    std::fs::write(&path, &harmed).unwrap();
    let Logged::No(why) = case.record_reading(entry(), &writer()) else { panic!("logged") };
    assert!(why.contains("broken"), "{why}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), harmed);
}

#[test]
fn a_case_is_never_made_over_something() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("x"), "x").unwrap();
    let made = Case::create(folder.path(), &NewCase::default(), &writer());
    assert!(matches!(made, Err(Error::WouldOverwrite { .. })));
}
