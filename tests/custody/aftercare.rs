//! Life after the case: what is kept, given, copied and disposed of, and which tool was at fault.

use std::path::{Path, PathBuf};

use custody::aftercare::{
    Act, Day, Disclosed, Fault, ITEM_BUNDLE, Impact, Method, NewAccess, NewCopy, NewDisclosure, NewDisposal,
    NewNotice, NewRetention, VersionSet, Which, accesses, copies, disclosures, disposals, notices, origins,
    retentions,
};
use custody::bundle::{CatalogEntry, MemberKind};
use custody::verify::{FaultKind, Level, Options, Verification};
use custody::{Case, Entry, EntryType, Error, FixedClock, Identity, NewCase, NewEntry, Tool, Writer, sha256};

use crate::support::{KEY, Recipe, check, copy_folder, faults, files_below, identity, sample_bytes, writer};

fn new_case(folder: &Path) -> Case {
    let new = NewCase { name: "ir-2026-017".into(), examiner: "J. Doe".into(), ..NewCase::default() };
    Case::create(folder, &new, &writer()).unwrap()
}

/// A case with one sealed exhibit, `E001`.
fn case_with_exhibit(folder: &Path) -> (Case, PathBuf) {
    let case = new_case(folder);
    let exhibit = case.add_exhibit("web01-disk", &writer()).unwrap();
    Recipe::default().make(&exhibit.folder);
    (case, exhibit.folder)
}

fn entries(case: &Case) -> Vec<Entry> {
    case.log().read().unwrap().entries
}

fn retention(until: &str) -> NewEntry {
    let new = NewRetention {
        exhibit: Some("E001".into()),
        until: Some(Day::parse(until).unwrap()),
        authority: "order 4".into(),
        ..NewRetention::default()
    };
    new.entry().unwrap()
}

fn disposal(authority: &str, delete: bool) -> NewDisposal {
    NewDisposal {
        exhibit: "E001".into(),
        item: ITEM_BUNDLE.into(),
        method: Method::Erased,
        who: "J. Doe".into(),
        to: String::new(),
        witness: "K. Poe".into(),
        authority: authority.into(),
        reason: "the case is over".into(),
        delete,
    }
}

fn intact(case: &Case) -> Verification {
    let done = check(case.folder());
    assert_eq!(done.verdict.level, Level::Consistent, "{}", faults(&done));
    done
}

fn noted(done: &Verification, words: &str) -> bool {
    done.notes.iter().any(|note| note.contains(words))
}

#[test]
fn every_act_comes_back_as_the_row_that_was_written_and_the_log_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (case, _) = case_with_exhibit(folder.path());
    case.append(retention("2031-12-31"), &writer()).unwrap();
    let access = NewAccess {
        exhibit: Some("E001".into()),
        who: "Dr. Lee\n".into(),
        purpose: "defence examination".into(),
        item: "E001-C1".into(),
        outcome: "nothing was changed".into(),
        ..NewAccess::default()
    };
    case.append(access.entry().unwrap(), &writer()).unwrap();
    let given = NewDisclosure {
        items: vec![Disclosed { id: "a.zip".into(), size: 3, sha256: sha256(b"zip"), origin: None }],
        to: "A. Roe".into(),
        reference: "request 3".into(),
        withheld: "E002: privileged".into(),
        on: Day::parse("2026-12-01").ok(),
        ..NewDisclosure::default()
    };
    case.append(given.entry().unwrap(), &writer()).unwrap();
    let all = entries(&case);
    let kept = &retentions(&all)[0];
    assert_eq!((kept.until, kept.authority.as_str()), (Day::parse("2031-12-31").ok(), "order 4"));
    let access = &accesses(&all)[0];
    // Text from outside is in its stored form.
    assert_eq!((access.who.as_str(), access.item.as_str()), ("Dr. Lee\\x0a", "E001-C1"));
    assert_eq!(access.outcome, "nothing was changed");
    let given = &disclosures(&all)[0];
    assert_eq!(
        (given.to.as_str(), given.on.as_str(), given.withheld.as_str()),
        ("A. Roe", "2026-12-01", "E002: privileged")
    );
    assert_eq!((given.items[0].sha256, given.origins[0].as_str()), (Some(sha256(b"zip")), "NO RECORD"));
    intact(&case);
}

#[test]
fn an_act_that_leaves_out_what_it_must_say_is_refused() {
    let nobody = NewAccess { purpose: "p".into(), ..NewAccess::default() }.entry();
    assert!(nobody.unwrap_err().to_string().contains("who had access"));
    let for_nothing = NewAccess { who: "w".into(), purpose: " ".into(), ..NewAccess::default() }.entry();
    assert!(for_nothing.unwrap_err().to_string().contains("purpose"));
    let nothing = NewDisclosure { to: "A. Roe".into(), ..NewDisclosure::default() }.entry();
    assert!(nothing.unwrap_err().to_string().contains("nothing that is given"));
    let folder = tempfile::tempdir().unwrap();
    let (case, _) = case_with_exhibit(folder.path());
    let mut returned = disposal("order 12", false);
    returned.method = Method::Returned;
    assert!(case.dispose(&returned, &writer()).unwrap_err().to_string().contains("whom it is returned to"));
    let mut other = disposal("order 12", true);
    other.item = "original disk".into();
    assert!(case.dispose(&other, &writer()).unwrap_err().to_string().contains("only a bundle's folder"));
    let mut never = disposal("order 12", false);
    (never.exhibit, never.item) = ("E007".into(), "original disk".into());
    assert!(case.dispose(&never, &writer()).unwrap_err().to_string().contains("E007"));
    assert!(disposals(&entries(&case)).is_empty(), "nothing was recorded");
}

#[test]
fn nothing_goes_before_its_retention_without_an_authority() {
    let folder = tempfile::tempdir().unwrap();
    let (case, bundle) = case_with_exhibit(folder.path());
    let early = case.dispose(&disposal("", true), &writer()).unwrap_err();
    assert!(matches!(early, Error::Retained { .. }), "{early}");
    assert!(early.to_string().contains("no retention was ever set"), "{early}");
    case.append(retention("2026-12-31"), &writer()).unwrap();
    let early = case.dispose(&disposal(" ", true), &writer()).unwrap_err();
    assert!(early.to_string().contains("until 2026-12-31 (entry 2)"), "{early}");
    assert!(bundle.join("manifest.json").exists());
    // 2027-01-01: the last day has passed.
    let clock = FixedClock::at(1_798_761_600_000_000_000);
    let later = Writer::new(&*KEY, &clock, identity());
    let done = case.dispose(&disposal("", true), &later).unwrap();
    assert!(done.deleted && !bundle.exists());
    assert!(noted(
        &intact(&case),
        "E001 is not here: entry 3 disposed of it (erased by J. Doe seen by K. Poe; authority: NO"
    ));
    let row = &disposals(&entries(&case))[0];
    assert_eq!(row.words(), "erased by J. Doe seen by K. Poe");
    assert_eq!(row.manifest_sha256, done.manifest_sha256);
    let done = intact(&case);
    assert!(!noted(&done, "DISPOSED EARLY"), "{:?}", done.notes);
}

#[test]
fn an_early_disposal_by_an_authority_is_done_and_told() {
    let folder = tempfile::tempdir().unwrap();
    let (case, _) = case_with_exhibit(folder.path());
    case.append(retention("2031-12-31"), &writer()).unwrap();
    case.dispose(&disposal("order 12", true), &writer()).unwrap();
    let done = intact(&case);
    assert!(
        noted(&done, "DISPOSED EARLY: E001 went by entry 3, by the authority \"order 12\""),
        "{:?}",
        done.notes
    );
}

#[test]
fn a_disposal_written_by_other_hands_without_authority_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let (case, _) = case_with_exhibit(folder.path());
    case.append(retention("2031-12-31"), &writer()).unwrap();
    case.append(NewEntry::new(EntryType::ITEM_DISPOSED).exhibit("E001"), &writer()).unwrap();
    case.append(NewEntry::new(EntryType::ITEM_DISPOSED).exhibit("E009"), &writer()).unwrap();
    let done = intact(&case);
    assert!(noted(&done, "NO AUTHORITY is recorded"), "{:?}", done.notes);
    assert!(noted(&done, "disposes of E009, which no earlier entry added"), "{:?}", done.notes);
}

#[test]
fn a_disposed_exhibit_leaves_its_record_and_its_id_is_never_given_again() {
    let folder = tempfile::tempdir().unwrap();
    let (case, bundle) = case_with_exhibit(folder.path());
    let manifest = std::fs::read(bundle.join("manifest.json")).unwrap();
    let log = std::fs::read(bundle.join("custody.jsonl")).unwrap();
    let done = case.dispose(&disposal("order 12", true), &writer()).unwrap();
    let record = folder.path().join(done.record.unwrap());
    assert_eq!(std::fs::read(record.join("manifest.json")).unwrap(), manifest);
    assert_eq!(std::fs::read(record.join("custody.jsonl")).unwrap(), log);
    assert!(!record.join("data").exists(), "the content is gone");
    let checked = std::process::Command::new("sha256sum")
        .args(["-c", "--quiet", "RECORD.sha256"])
        .current_dir(&record)
        .status();
    assert!(checked.unwrap().success(), "a stranger can check the record");
    assert_eq!(case.add_exhibit("next", &writer()).unwrap().id, "E002");
    Recipe { exhibit: "E002", ..Recipe::default() }.make(&case.exhibit("E002").unwrap().folder);
    let gone = case.dispose(&disposal("order 12", true), &writer()).unwrap_err();
    assert!(gone.to_string().contains("entry 2 disposed of E001"), "{gone}");
    assert_eq!(check(case.folder()).faults, []);
}

#[test]
fn a_record_that_is_touched_in_any_place_is_a_fault() {
    let folder = tempfile::tempdir().unwrap();
    let (case, _) = case_with_exhibit(folder.path());
    case.dispose(&disposal("order 12", true), &writer()).unwrap();
    intact(&case);
    let disposed = folder.path().join("disposed");
    let files = files_below(&disposed);
    assert!(files.len() >= 10, "{files:?}");
    for file in files {
        let path = disposed.join(&file);
        let bytes = std::fs::read(&path).unwrap();
        let mut other = bytes.clone();
        let middle = other.len() / 2;
        other[middle] ^= 1;
        std::fs::write(&path, &other).unwrap();
        assert_eq!(check(folder.path()).verdict.level, Level::Broken, "{file:?} was changed");
        std::fs::remove_file(&path).unwrap();
        let done = check(folder.path());
        assert_eq!(done.verdict.level, Level::Broken, "{file:?} is missing");
        std::fs::write(&path, &bytes).unwrap();
    }
    intact(&case);
    let record = disposed.join("E001-web01-disk");
    let mut extras =
        vec![disposed.join("E009-x"), disposed.join("odd"), record.join("odd"), record.join("keys/odd")];
    extras.push(record.join("checkpoints/00000001"));
    for extra in extras {
        std::fs::write(&extra, "x").unwrap();
        assert_eq!(check(folder.path()).verdict.level, Level::Broken, "{extra:?}");
        std::fs::remove_file(&extra).unwrap();
        std::fs::create_dir(&extra).unwrap();
        assert_eq!(check(folder.path()).verdict.level, Level::Broken, "{extra:?} as a folder");
        std::fs::remove_dir(&extra).unwrap();
        std::os::unix::fs::symlink("/dev/null", &extra).unwrap();
        assert_eq!(check(folder.path()).verdict.level, Level::Broken, "{extra:?} as a link");
        std::fs::remove_file(&extra).unwrap();
    }
    intact(&case);
    std::fs::remove_dir_all(&record).unwrap();
    let done = check(folder.path());
    assert_eq!(
        (done.verdict.level, done.faults[0].kind),
        (Level::Broken, FaultKind::Missing),
        "{}",
        faults(&done)
    );
}

#[test]
fn a_disposed_exhibit_that_is_here_again_is_told_and_another_in_its_place_is_a_fault() {
    let folder = tempfile::tempdir().unwrap();
    let (case, bundle) = case_with_exhibit(folder.path());
    let kept = tempfile::tempdir().unwrap();
    copy_folder(&bundle, kept.path());
    case.dispose(&disposal("order 12", true), &writer()).unwrap();
    copy_folder(kept.path(), &bundle);
    let done = intact(&case);
    assert!(noted(&done, "E001 IS HERE, though entry 2 said that its folder is deleted"), "{:?}", done.notes);
    std::fs::remove_dir_all(&bundle).unwrap();
    std::fs::create_dir(&bundle).unwrap();
    Recipe { data: sample_bytes(1000), ..Recipe::default() }.make(&bundle);
    let done = check(folder.path());
    assert!(faults(&done).contains("entry 2 of the case names another manifest"), "{}", faults(&done));
}

#[test]
fn a_deletion_that_was_cut_short_can_be_finished_and_keeps_one_record() {
    let folder = tempfile::tempdir().unwrap();
    let (case, bundle) = case_with_exhibit(folder.path());
    // What a crash before the entry leaves.
    std::fs::create_dir_all(folder.path().join("disposed/E001-web01-disk/keys")).unwrap();
    let done = intact(&case);
    assert!(noted(&done, "cut short"), "{:?}", done.notes);
    let first = case.dispose(&disposal("order 12", false), &writer()).unwrap();
    assert!(bundle.exists() && !first.deleted);
    assert!(noted(&intact(&case), "E001 IS HERE"));
    let twice = case.dispose(&disposal("order 12", false), &writer()).unwrap_err();
    assert!(twice.to_string().contains("disposed of it already"), "{twice}");
    let second = case.dispose(&disposal("order 12", true), &writer()).unwrap();
    assert_eq!(second.record, first.record);
    assert!(!bundle.exists());
    let last = entries(&case).pop().unwrap();
    assert_eq!(last.about.refs, [first.appended.seq]);
    intact(&case);
}

#[test]
fn only_a_disposal_of_the_bundle_excuses_its_absence() {
    let folder = tempfile::tempdir().unwrap();
    let (case, bundle) = case_with_exhibit(folder.path());
    let original = NewDisposal {
        item: "original disk, S/N 1234".into(),
        method: Method::Returned,
        to: "the owner".into(),
        ..disposal("order 12", false)
    };
    case.dispose(&original, &writer()).unwrap();
    intact(&case);
    let again = case.dispose(&original, &writer()).unwrap_err().to_string();
    assert!(again.contains("entry 2 says already"), "{again}");
    std::fs::remove_dir_all(&bundle).unwrap();
    let done = check(folder.path());
    assert_eq!((done.verdict.level, done.faults[0].kind), (Level::Broken, FaultKind::Missing));
}

#[test]
fn a_bundle_that_somebody_acquires_into_is_not_disposed_of() {
    let folder = tempfile::tempdir().unwrap();
    let case = new_case(folder.path());
    let exhibit = case.add_exhibit("open", &writer()).unwrap();
    Recipe { sealed: false, ..Recipe::default() }.make(&exhibit.folder);
    std::fs::write(exhibit.folder.join("journal"), "").unwrap();
    let held = std::fs::File::open(exhibit.folder.join("journal")).unwrap();
    held.lock().unwrap();
    let busy = case.dispose(&disposal("order 12", true), &writer()).unwrap_err();
    assert!(matches!(busy, Error::InUse { .. }), "{busy}");
    drop(held);
    let done = case.dispose(&disposal("order 12", true), &writer()).unwrap();
    assert_eq!((done.manifest_sha256, done.deleted), (None, true), "it was never sealed");
    intact(&case);
}

#[test]
fn a_copy_is_verified_and_gets_an_id_and_the_newest_master_counts() {
    let folder = tempfile::tempdir().unwrap();
    let (case, _) = case_with_exhibit(&folder.path().join("case"));
    let to = folder.path().join("copy");
    let new = NewCopy { exhibit: "E001".into(), to: Some(to.clone()), ..NewCopy::default() };
    let done = case.copy_exhibit(&new, &Options::default(), &writer()).unwrap();
    assert_eq!((done.id.as_str(), done.is_broken()), ("E001-C1", false));
    assert_eq!(done.manifest_sha256, done.copy_manifest_sha256);
    assert_eq!(check(&to).verdict.level, Level::Consistent);
    let safe = NewCopy { exhibit: "E001".into(), place: "safe 3".into(), master: true, ..NewCopy::default() };
    assert_eq!(case.copy_exhibit(&safe, &Options::default(), &writer()).unwrap().id, "E001-C2");
    assert_eq!(case.copy_exhibit(&safe, &Options::default(), &writer()).unwrap().id, "E001-C3");
    let rows = copies(&entries(&case));
    assert_eq!(rows.iter().map(|copy| copy.master).collect::<Vec<_>>(), [false, false, true]);
    assert_eq!((rows[0].verdict.as_str(), rows[1].verdict.as_str()), ("CONSISTENT", ""));
    assert_eq!(rows[0].place, to.display().to_string());

    // A spare copy may go at any time; the master is held as the exhibit is.
    case.append(retention("2031-12-31"), &writer()).unwrap();
    let of = |item: &str| NewDisposal { item: item.into(), ..disposal("", false) };
    assert!(matches!(case.dispose(&of("E001-C3"), &writer()), Err(Error::Retained { .. })));
    let gone = case.dispose(&of("E001-C1"), &writer()).unwrap();
    assert_eq!(copies(&entries(&case))[0].disposed, Some(gone.appended.seq));
    let done = intact(&case);
    assert!(!noted(&done, "DISPOSED EARLY"), "{:?}", done.notes);
}

#[test]
fn a_copy_of_what_is_damaged_is_recorded_as_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let (case, bundle) = case_with_exhibit(&folder.path().join("case"));
    let segment = bundle.join("data/disk/000000.zst");
    let mut bytes = std::fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let new = NewCopy { exhibit: "E001".into(), to: Some(folder.path().join("copy")), ..NewCopy::default() };
    let done = case.copy_exhibit(&new, &Options::default(), &writer()).unwrap();
    assert!(done.is_broken());
    assert_eq!(copies(&entries(&case))[0].verdict, "BROKEN");
    assert!(noted(&check(case.folder()), "E001-C1 did not verify when it was made"));
}

#[test]
fn a_copy_goes_nowhere_it_must_not() {
    let folder = tempfile::tempdir().unwrap();
    let (case, bundle) = case_with_exhibit(&folder.path().join("case"));
    let to = |path: PathBuf| {
        let new = NewCopy { exhibit: "E001".into(), to: Some(path), ..NewCopy::default() };
        case.copy_exhibit(&new, &Options::default(), &writer()).unwrap_err()
    };
    assert!(matches!(to(folder.path().to_owned()), Error::WouldOverwrite { .. }));
    assert!(to(case.folder().join("reports/copy")).to_string().contains("within the case itself"));
    assert!(!case.folder().join("reports/copy").exists());
    let nowhere = NewCopy { exhibit: "E001".into(), ..NewCopy::default() };
    let nowhere = case.copy_exhibit(&nowhere, &Options::default(), &writer()).unwrap_err();
    assert!(nowhere.to_string().contains("place of a copy"), "{nowhere}");
    std::os::unix::fs::symlink("/etc/passwd", bundle.join("data/link")).unwrap();
    assert!(to(folder.path().join("copy")).to_string().contains("neither a file nor a folder"));
    assert!(copies(&entries(&case)).is_empty());
}

#[test]
fn what_is_disclosed_is_traced_to_entries_streams_and_files_and_what_is_not_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let case = new_case(folder.path());
    let exhibit = case.add_exhibit("files", &writer()).unwrap();
    let member = CatalogEntry {
        path: "/var/log/auth.log".into(),
        kind: MemberKind::File,
        header_size: 512,
        offset: 512,
        size: 10,
        sha256: Some(sha256(b"auth")),
        ..CatalogEntry::default()
    };
    let recipe = Recipe { catalog: vec![member], ..Recipe::default() };
    recipe.make(&exhibit.folder);
    let export = NewEntry::new(EntryType::EXPORT_MADE).subject("out.raw", 3, sha256(b"raw"));
    case.append(export, &writer()).unwrap();
    let wanted = [sha256(b"raw"), sha256(&recipe.data), sha256(b"auth"), sha256(b"from elsewhere")];
    let found = origins(&case, &wanted).unwrap();
    let words: Vec<_> =
        found.iter().map(|origin| origin.as_ref().map(|origin| origin.words.as_str())).collect();
    let stream = "E001: the stream disk";
    let file = "E001: /var/log/auth.log in the stream disk";
    assert_eq!(words, [Some("entry 2 (export.made)"), Some(stream), Some(file), None]);
    let items = wanted.iter().zip(found).enumerate().map(|(n, (hash, origin))| Disclosed {
        id: format!("file{n}"),
        size: 3,
        sha256: *hash,
        origin,
    });
    let given = NewDisclosure { to: "A. Roe".into(), items: items.collect(), ..NewDisclosure::default() };
    case.append(given.entry().unwrap(), &writer()).unwrap();
    assert_eq!(entries(&case)[3].about.refs, [2]);
    let done = intact(&case);
    let told: Vec<_> = done.notes.iter().filter(|note| note.contains("discloses")).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("discloses file3"), "{told:?}");
}

#[test]
fn an_anchor_that_does_not_reach_a_disposal_does_not_vouch_for_the_case() {
    let folder = tempfile::tempdir().unwrap();
    let (case, _) = case_with_exhibit(&folder.path().join("case"));
    let outside = folder.path().join("kept");
    std::fs::create_dir(&outside).unwrap();
    let anchored = || {
        std::fs::copy(case.folder().join("checkpoint"), outside.join("checkpoint")).unwrap();
    };
    let level = || {
        let outside = custody::verify::OutsideAnchors::read(&outside).unwrap();
        let done =
            custody::verify::verify(case.folder(), &Options { outside, ..Options::default() }).unwrap();
        (done.verdict.level, faults(&done))
    };
    case.append(NewEntry::new(EntryType::NOTE), &writer()).unwrap();
    case.dispose(&disposal("order 12", true), &writer()).unwrap();
    // Anchored now: the disposal is covered.
    anchored();
    assert_eq!(level().0, Level::Anchored, "{}", level().1);
    let exhibit = case.add_exhibit("next", &writer()).unwrap();
    Recipe { exhibit: "E002", ..Recipe::default() }.make(&exhibit.folder);
    anchored();
    let other = NewDisposal { exhibit: "E002".into(), ..disposal("order 12", true) };
    case.dispose(&other, &writer()).unwrap();
    assert_eq!(level().0, Level::Consistent, "nobody outside knows of the second disposal");
}

/// A writer of this version of a tool.
fn written_by(name: &str, version: &str, build: Option<&[u8]>) -> Identity {
    let tool = Tool { name: name.into(), version: version.into(), build_sha256: build.map(sha256) };
    Identity { tool, ..identity() }
}

fn fault(versions: &str) -> Fault {
    Fault {
        tool: "exhibit".into(),
        which: Which::Versions(VersionSet::parse(versions).unwrap()),
        acts: vec![],
    }
}

#[test]
fn a_recall_finds_every_entry_of_the_version_and_lists_what_cannot_be_told() {
    let folder = tempfile::tempdir().unwrap();
    let (case, bundle) = case_with_exhibit(folder.path());
    let clock = FixedClock::at(0);
    let add = |name: &str, version: &str, build: Option<&[u8]>, kind: EntryType| {
        let writer = Writer::new(&*KEY, &clock, written_by(name, version, build));
        case.append(NewEntry::new(kind), &writer).unwrap().seq
    };
    let built = add("exhibit", "0.2.0", Some(b"two"), EntryType::TIMELINE_BUILT);
    add("exhibit", "0.3.0", Some(b"three"), EntryType::VERIFY_RESULT);
    let issued = add("exhibit", "0.2.1-rc.1", Some(b"rc"), EntryType::REPORT_ISSUED);
    let odd = add("exhibit", "git-0a1b", None, EntryType::QUERY_RUN);
    let nameless = add("", "", None, EntryType::NOTE);
    add("dd", "0.2.0", None, EntryType::NOTE);

    let impact = Impact::of_case(case.folder(), &fault(">=0.2,<0.3")).unwrap();
    let found: Vec<_> =
        impact.acts.iter().map(|acts| (acts.log.as_str(), acts.act, acts.entries.to_string())).collect();
    let wanted = [("case", Act::Timeline, built.to_string()), ("case", Act::Report, issued.to_string())];
    assert_eq!(found, wanted);
    assert!(impact.bundles.is_empty());
    let unknown: Vec<_> = impact.unknown.iter().map(|unknown| unknown.what.clone()).collect();
    assert_eq!(unknown, [format!("entry {odd}"), format!("entry {nameless}")]);

    // By build: what has no hash is unknown.
    let by_build = Fault { which: Which::Build(sha256(b"two")), ..fault("0") };
    let impact = Impact::of_case(case.folder(), &by_build).unwrap();
    assert_eq!(impact.by_log()["case"].to_string(), built.to_string());
    assert!(impact.unknown.iter().any(|unknown| unknown.log == "E001" && unknown.what == "manifest.json"));

    // Only the work that the fault concerns.
    let timelines = Fault { acts: vec![Act::Timeline], ..fault("<9") };
    let impact = Impact::of_case(case.folder(), &timelines).unwrap();
    assert_eq!(impact.by_log()["case"].to_string(), built.to_string());
    assert!(impact.bundles.is_empty());

    // A bundle on its own.
    let impact = Impact::of_bundle(&bundle, &fault("0.1.0")).unwrap();
    assert_eq!((impact.bundles[0].exhibit.as_str(), impact.own_log()), ("E001", "bundle"));
    assert_eq!(impact.by_log()["bundle"].count(), 4);
}

#[test]
fn a_recall_reaches_what_was_disposed_of_and_does_not_stumble_over_damage() {
    let folder = tempfile::tempdir().unwrap();
    let (case, bundle) = case_with_exhibit(folder.path());
    let twice = Impact::of_case(case.folder(), &fault("0.1.0")).unwrap();
    case.dispose(&disposal("order 12", false), &writer()).unwrap();
    let there = Impact::of_case(case.folder(), &fault("0.1.0")).unwrap();
    assert_eq!(there.bundles, twice.bundles, "while it is here it stands for itself");
    case.dispose(&disposal("order 12", true), &writer()).unwrap();
    let gone = Impact::of_case(case.folder(), &fault("0.1.0")).unwrap();
    assert!(gone.bundles.len() == 1 && gone.bundles[0].disposed);
    assert_eq!(gone.by_log()["E001"].count(), 4);

    std::fs::create_dir(&bundle).unwrap();
    std::fs::write(bundle.join("custody.jsonl"), b"{}\nnot json\n\xff\xfe\n{\"v\":1").unwrap();
    std::fs::write(bundle.join("manifest.json"), b"[]\n").unwrap();
    let impact = Impact::of_case(case.folder(), &fault("0.1.0")).unwrap();
    let unknown: Vec<_> = impact.unknown.iter().filter(|unknown| unknown.log == "E001").collect();
    assert!(unknown.iter().any(|unknown| unknown.what == "manifest.json"), "{unknown:?}");
    let lines: u64 = unknown.iter().filter(|unknown| unknown.what.starts_with("entr")).count() as u64;
    assert!(lines >= 3, "{unknown:?}");
    std::fs::remove_file(bundle.join("custody.jsonl")).unwrap();
    let impact = Impact::of_case(case.folder(), &fault("0.1.0")).unwrap();
    assert!(impact.unknown.iter().any(|unknown| unknown.what == "custody.jsonl"), "{:?}", impact.unknown);
}

#[test]
fn a_notice_refers_to_the_entries_it_is_about_and_is_not_written_twice() {
    let folder = tempfile::tempdir().unwrap();
    let (case, _) = case_with_exhibit(folder.path());
    let fault = fault("0.1.0");
    let impact = Impact::of_case(case.folder(), &fault).unwrap();
    let notice = |impact| NewNotice { text: "logs read twice", reference: "BUG-17", fault: &fault, impact };
    assert_eq!(notice(&impact).told_before().unwrap(), None);
    let seq = case.append(notice(&impact).entry().unwrap(), &writer()).unwrap().seq;
    let all = entries(&case);
    assert_eq!(all[seq as usize].about.refs, [0, 1]);
    let row = &notices(&all)[0];
    assert_eq!((row.reference.as_str(), row.affected.as_str(), row.count), ("BUG-17", "version 0.1.0", 6));
    assert_eq!(
        (row.bundles.clone(), &row.entries["case"], &row.entries["E001"]),
        (vec!["E001".into()], &"0-1".into(), &"0-3".into())
    );
    let again = Impact::of_case(case.folder(), &fault).unwrap();
    assert_eq!(
        notice(&again).told_before().unwrap(),
        Some(seq),
        "a notice is not touched by what it tells of"
    );
    case.append(NewEntry::new(EntryType::NOTE), &writer()).unwrap();
    let more = Impact::of_case(case.folder(), &fault).unwrap();
    assert_eq!(notice(&more).told_before().unwrap(), None, "there is more to tell");
    assert!(NewNotice { text: " ", ..notice(&more) }.entry().is_err());
    intact(&case);
}

#[test]
fn a_notice_of_very_many_entries_still_fits_an_entry() {
    let folder = tempfile::tempdir().unwrap();
    let case = new_case(folder.path());
    let clock = FixedClock::at(0);
    let versions = ["0.1.0", "0.2.0"].map(|version| written_by("exhibit", version, None));
    // Two versions by turns: the worst that ranges can be.
    let mut lines = String::new();
    let first = std::fs::read_to_string(folder.path().join("custody.jsonl")).unwrap();
    for n in 0..4000 {
        let version = if n % 2 == 0 { "0.1.0" } else { "9.9.9" };
        let line = first.replace("\"version\":\"0.1.0\"", &format!("\"version\":\"{version}\""));
        lines.push_str(&line.replace("\"seq\":0", &format!("\"seq\":{n}")));
    }
    std::fs::write(folder.path().join("custody.jsonl"), lines).unwrap();
    let fault = fault("0.1.0");
    let impact = Impact::of_case(case.folder(), &fault).unwrap();
    assert_eq!(impact.by_log()["case"].count(), 2000);
    let entry =
        NewNotice { text: &"x".repeat(5000), reference: "", fault: &fault, impact: &impact }.entry().unwrap();
    assert_eq!((entry.about.refs.len(), &entry.about.result["count"]), (1000, &2000.into()));
    let other = tempfile::tempdir().unwrap();
    let other = new_case(other.path());
    let writer = Writer::new(&*KEY, &clock, versions[1].clone());
    other.append(entry, &writer).unwrap();
}
