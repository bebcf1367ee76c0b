//! Cases that nobody tampered with, in every state that honest work leaves them: none may be called broken.
//!
//! `EXHIBIT_TAMPER=all` verifies 10,000 times; a normal test run 60 times.

use std::path::Path;

use custody::verify::{Level, Memory, Options, OutsideAnchors, verify};
use custody::{Case, CustodyLog, EntryType, Error, HOW_FINGERPRINT, HOW_TO_KEY, NewCase, NewEntry, Writer};

use super::attack::Random;
use super::made_case::{RETIRED, desk, recipients};
use crate::support::{
    KEY, OTHER_KEY, Recipe, anchor_with_witness, copy_folder, faults, files_below, member, note,
    sample_bytes, unreadable, writer, writer_with,
};

/// What the verifier must find, and no more.
struct Made {
    open: bool,
    unsigned_tail: bool,
}

#[test]
fn nothing_that_honest_work_leaves_is_called_broken() {
    let all = super::wanted() == "all";
    let most = if all { 10_000 } else { 60 };
    let next = std::sync::atomic::AtomicU64::new(0);
    let verified = std::sync::atomic::AtomicU64::new(0);
    let alarms = std::sync::Mutex::new(Vec::new());
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while verified.load(std::sync::atomic::Ordering::Relaxed) < most {
                    let seed = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    let (checks, found) = one_case(seed);
                    verified.fetch_add(checks, std::sync::atomic::Ordering::Relaxed);
                    alarms.lock().unwrap().extend(found);
                }
            });
        }
    });
    let alarms = alarms.into_inner().unwrap();
    if all {
        eprintln!(
            "{} clean verifies of {} cases, {} false alarms",
            verified.into_inner(),
            next.into_inner(),
            alarms.len()
        );
    }
    assert!(alarms.is_empty(), "{}", alarms.join("\n"));
}

/// Makes a case, and verifies it in several places and views; gives how often, and the false alarms.
fn one_case(seed: u64) -> (u64, Vec<String>) {
    let mut random = Random::new("clean", seed);
    let desk = desk();
    let folder = desk.path().join("case");
    let made = make(&mut random, &folder);
    let (mut checks, mut alarms) = (0, Vec::new());
    let mut check = |what: &str, folder: &Path, options: &Options| {
        checks += 1;
        let done = verify(folder, options).unwrap();
        let fits = done.is_intact()
            && (done.verdict.level == Level::Open) == made.open
            && done.unsigned_tail == made.unsigned_tail;
        if !fits {
            let tail = made.unsigned_tail;
            alarms.push(format!(
                "clean:{seed} {what}: {} where open={} tail={tail}\n{}{:?}",
                done.verdict,
                made.open,
                faults(&done),
                done.notes
            ));
        }
        done
    };
    let first = check("as it is", &folder, &Options::default());
    check("with a trusted key", &folder, &crate::support::trusting(&KEY));
    let mut memory = Memory::default();
    first.remember(&mut memory);
    let receipts = desk.path().join("receipts");
    std::fs::create_dir(&receipts).unwrap();
    std::fs::copy(folder.join("checkpoint"), receipts.join("receipt")).unwrap();
    let outside = OutsideAnchors::read(&receipts).unwrap();
    let knowing = Options { outside, memory, ..Options::default() };
    check("against a copy and memory", &folder, &knowing);
    // Moved, copied without its times, with other rights, read-only.
    let copy = desk.path().join("elsewhere/the copy");
    copy_folder(&folder, &copy);
    std::fs::create_dir_all(copy.join("exhibits")).unwrap();
    check("copied", &copy, &knowing);
    set_rights(&copy, random.one_of(&[0o444, 0o400, 0o666, 0o777]));
    check("with other rights", &copy, &Options::default());
    // Life goes on: what was kept and remembered still fits.
    let log = CustodyLog::open(&folder).unwrap();
    for nth in 0..random.within(1..4) {
        // A closed log takes no more notes, and says so.
        let later = log.append(&note(&format!("later {nth}")), &writer());
        assert!(later.is_ok() || matches!(later, Err(Error::Closed { .. })), "{later:?}");
    }
    let fits = verify(&folder, &knowing).unwrap();
    checks += 1;
    if !fits.is_intact() {
        alarms.push(format!("clean:{seed} later: {}", faults(&fits)));
    }
    (checks, alarms)
}

fn set_rights(folder: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    for file in files_below(folder) {
        let path = folder.join(file);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
}

fn make(random: &mut Random, folder: &Path) -> Made {
    let new = NewCase { name: "ir-2026-017".into(), examiner: "J. Doe".into(), ..NewCase::default() };
    let case = Case::create(folder, &new, &writer()).unwrap();
    let mut open = false;
    let mut tail = false;
    for nth in 0..random.below(3) {
        let exhibit = case.add_exhibit(random.one_of(&["disk", "web 01/é", "", "x"]), &writer()).unwrap();
        let recipe = recipe(random, ["E001", "E002", "E003"][nth]);
        open |= !recipe.sealed;
        let log = recipe.make(&exhibit.folder);
        work(random, &log);
        tail |= interrupted(random, &log);
    }
    work(random, case.log());
    if random.below(5) == 0 {
        for name in ["custody.checkpoint.tmp", "custody.frontier.tmp"] {
            std::fs::write(folder.join(name), random.bytes(40)).unwrap();
        }
    }
    let of_case = interrupted(random, case.log());
    if !of_case && random.below(4) == 0 {
        case.append(NewEntry::new(EntryType::CASE_CLOSED), &writer()).unwrap();
    }
    tail |= of_case;
    Made { open, unsigned_tail: tail }
}

fn recipe(random: &mut Random, exhibit: &'static str) -> Recipe {
    let sizes = [0, 1, 511, 65_535, 65_536, 65_537, 131_072, 150_000, 300_000];
    let size = random.one_of(&sizes);
    let gap = (size > 4096 && random.below(3) == 0).then(|| unreadable(512, 1024));
    let catalog =
        if size > 4096 && random.below(3) == 0 { vec![member("/a"), member("/b")] } else { Vec::new() };
    let data = if random.below(4) == 0 { vec![0; size] } else { sample_bytes(size) };
    Recipe {
        exhibit,
        data,
        unreadable: gap,
        catalog,
        recipients: if random.below(4) == 0 { recipients() } else { None },
        sealed: random.below(4) > 0,
        after: Vec::new(),
    }
}

/// Everything that people do to a log, in any order.
fn work(random: &mut Random, log: &CustodyLog) {
    let receiver = OTHER_KEY.verifying_key().fingerprint();
    let offer = || NewEntry::new(EntryType::TRANSFER_OFFERED).how(HOW_TO_KEY, receiver.as_str());
    let mut introduced = false;
    let mut anchored = false;
    for nth in 0..random.below(12) {
        match random.below(8) {
            0 if !introduced => {
                let offered = log.append(&offer(), &writer()).unwrap().seq;
                torn(random, log);
                let answer = NewEntry::new(EntryType::TRANSFER_ACCEPTED).refers_to(offered);
                log.append(&answer, &writer_with(&OTHER_KEY)).unwrap();
                introduced = true;
            }
            1 if !introduced => {
                torn(random, log);
                let both = writer_with(&OTHER_KEY).vouched_by(&*KEY);
                log.append(&note("a second key"), &both).unwrap();
                introduced = true;
            }
            2 if introduced => {
                log.append(&note("by the second key"), &writer_with(&OTHER_KEY)).unwrap();
            }
            3 if !anchored && !log.folder().join("anchors/witness-1").exists() => {
                anchor_with_witness(log);
                anchored = true;
            }
            4 => torn(random, log),
            5 if nth == 5 => rotate(log),
            6 => {
                log.append(&NewEntry::new(EntryType::CORRECTION).refers_to(0), &writer()).unwrap();
            }
            _ => {
                let text = "é \u{1f600} \"quoted\" \\ \t \u{7f}".repeat(random.below(20));
                log.append(&note(&text), &writer()).unwrap();
            }
        }
    }
}

/// A third key comes, writes and is revoked.
fn rotate(log: &CustodyLog) {
    let third: Writer<'static> = writer_with(&RETIRED).vouched_by(&*KEY);
    if log.append(&note("a third key"), &third).is_ok() {
        let gone = RETIRED.verifying_key().fingerprint();
        log.append(&NewEntry::new(EntryType::KEY_REVOKED).how(HOW_FINGERPRINT, gone), &writer()).unwrap();
    }
}

fn append_raw(log: &CustodyLog, bytes: &[u8]) {
    use std::io::Write as _;
    let path = log.folder().join("custody.jsonl");
    std::fs::OpenOptions::new().append(true).open(path).unwrap().write_all(bytes).unwrap();
}

/// The power fails within a line; whoever writes next records it.
fn torn(random: &mut Random, log: &CustodyLog) {
    if random.below(2) == 0 {
        let length = random.within(1..200);
        let bytes: Vec<u8> = random.bytes(length).into_iter().filter(|byte| *byte != b'\n').collect();
        append_raw(log, &bytes);
    }
}

/// The last writer was killed: nothing, a torn line, or a line without its checkpoint.
fn interrupted(random: &mut Random, log: &CustodyLog) -> bool {
    let folder = log.folder();
    match random.below(6) {
        0 => append_raw(log, b"{\"actor\":{"),
        1 => {
            let old =
                ["checkpoint", "custody.frontier"].map(|file| std::fs::read(folder.join(file)).unwrap());
            log.append(&note("never signed"), &writer()).unwrap();
            std::fs::write(folder.join("checkpoint"), &old[0]).unwrap();
            if random.below(2) == 0 {
                std::fs::write(folder.join("custody.frontier"), &old[1]).unwrap();
            }
        }
        _ => {
            // Torn before and not recorded yet.
            log.append(&note("the last word"), &writer()).unwrap();
            return false;
        }
    }
    true
}
