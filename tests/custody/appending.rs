//! Appending: many at once, killed at any moment, and what is refused.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use custody::verify::Level;
use custody::{CustodyLog, EntryType, Error, Identity, NewEntry, SigningKey, SystemClock, Writer};

use crate::support::{KEY, check, faults, log_with, note, writer};

const LOG_OF_CHILD: &str = "EXHIBIT_TEST_LOG";
const APPENDS_OF_CHILD: &str = "EXHIBIT_TEST_APPENDS";
const NUMBER_OF_CHILD: &str = "EXHIBIT_TEST_WRITER";
/// Set to `all`, eight writers append 1,000 entries each and are killed at 1,000 moments.
const SCALE: &str = "EXHIBIT_CRASH";

/// Not a test of its own: what a child process does, when it is started with a log to append to.
#[test]
#[expect(clippy::disallowed_methods, reason = "the parent tells its child by environment variables")]
fn child_process_that_appends() {
    let Ok(folder) = std::env::var(LOG_OF_CHILD) else { return };
    let appends: usize = std::env::var(APPENDS_OF_CHILD).unwrap().parse().unwrap();
    let log = CustodyLog::open(Path::new(&folder)).unwrap();
    let writer = Writer::new(&*KEY, &SystemClock, Identity::default());
    let mut out = std::io::stdout();
    let number = std::env::var(NUMBER_OF_CHILD).unwrap_or_default();
    for i in 0..appends {
        // Some entries keep their checkpoint, so that a kill meets that too.
        let kind = if i % 3 == 0 { EntryType::TRANSFER_OFFERED } else { EntryType::NOTE };
        let entry = NewEntry::new(kind).how("n", i as u64).how("writer", number.as_str());
        let appended = log.append(&entry, &writer).unwrap();
        writeln!(out, "appended {}", appended.seq).unwrap();
    }
}

fn start_child(folder: &Path, appends: usize, output: Stdio) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "appending::child_process_that_appends", "--nocapture", "--test-threads=1"])
        .env(LOG_OF_CHILD, folder)
        .env(APPENDS_OF_CHILD, appends.to_string())
        .stdout(output)
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn eight_processes_make_one_straight_chain() {
    let folder = tempfile::tempdir().unwrap();
    log_with(folder.path(), 0);
    let children: Vec<_> = (0..8).map(|_| start_child(folder.path(), 500, Stdio::null())).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let done = custody::verify::verify_log(folder.path(), &Default::default()).unwrap();
    assert_eq!(done.verdict.level, Level::Consistent, "{}", faults(&done));
    assert_eq!(done.log.size, 1 + 8 * 500);
    assert!(!done.unsigned_tail);
}

/// What one of eight writers was promised: the numbers of the entries that it was told are on the disk.
fn write_and_be_killed(folder: &Path, writer: usize, appends: usize, kills: usize) -> Vec<(u64, String)> {
    let mut random = 88_172_645_463_325_252_u64 ^ (writer as u64) << 32;
    let mut promised = Vec::new();
    for life in 0.. {
        let left = appends.saturating_sub(promised.len());
        if left == 0 {
            break;
        }
        let name = format!("{writer}.{life}");
        let mut command = Command::new(std::env::current_exe().unwrap());
        let mut child = command
            .args(["--exact", "appending::child_process_that_appends", "--nocapture", "--test-threads=1"])
            .envs([(LOG_OF_CHILD, folder.as_os_str()), (NUMBER_OF_CHILD, name.as_ref())])
            .env(APPENDS_OF_CHILD, left.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        // After so many promises and a moment more, wherever the writer then is.
        let most = 2 * appends / (kills + 1) + 1;
        let stop = if life < kills { 1 + (random >> 20) as usize % most } else { usize::MAX };
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut heard = 0;
        for line in lines.map_while(Result::ok) {
            // The first stands on the line where the harness says what test it runs.
            let Some((_, seq)) = line.split_once("appended ") else { continue };
            let Ok(seq) = seq.parse() else { continue };
            promised.push((seq, name.clone()));
            heard += 1;
            if heard == stop {
                std::thread::sleep(Duration::from_micros(random % 3_000));
                child.kill().unwrap();
            }
        }
        let ended = child.wait().unwrap();
        assert!(ended.success() || heard >= stop, "{name}: {ended}");
    }
    promised
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the full scale is asked for by an environment variable")]
fn eight_writers_killed_again_and_again_lose_nothing_that_was_promised() {
    let (appends, kills) =
        if std::env::var(SCALE).is_ok_and(|scale| scale == "all") { (1000, 125) } else { (30, 3) };
    let folder = tempfile::tempdir().unwrap();
    let log = log_with(folder.path(), 0);
    let promised: Vec<(u64, String)> = std::thread::scope(|scope| {
        let path = folder.path();
        let writers: Vec<_> = (0..8)
            .map(|writer| scope.spawn(move || write_and_be_killed(path, writer, appends, kills)))
            .collect();
        writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
    });
    let unsigned = custody::verify::verify_log(folder.path(), &Default::default()).unwrap();
    assert!(unsigned.is_intact(), "{}", faults(&unsigned));
    log.append(&note("after all"), &writer()).unwrap();
    let done = custody::verify::verify_log(folder.path(), &Default::default()).unwrap();
    assert!(done.is_intact() && !done.unsigned_tail, "{}", faults(&done));
    let entries = log.read().unwrap().entries;
    for (seq, name) in &promised {
        let entry = &entries[*seq as usize];
        assert_eq!(entry.how_text("writer"), Some(name.as_str()), "entry {seq} was promised to {name}");
    }
    let recovered = entries.iter().filter(|entry| entry.kind == EntryType::LOG_RECOVERED).count();
    assert!(promised.len() >= 8 * appends);
    eprintln!(
        "8 writers, {} kills: {} entries promised, all there; {} in the log, {recovered} recoveries",
        8 * kills,
        promised.len(),
        entries.len()
    );
}

#[test]
fn a_kill_at_any_moment_leaves_a_log_that_verifies_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let log = log_with(folder.path(), 0);
    let mut random = 88_172_645_463_325_252_u64;
    let (mut recovered, mut promised) = (0, 0);
    for kill in 0..100 {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let mut child = start_child(folder.path(), 1_000_000, Stdio::piped());
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // Wait for the first append, so that the kill falls into appending and not into starting.
        let first = lines.by_ref().map(Result::unwrap).find(|line| line.starts_with("appended ")).unwrap();
        std::thread::sleep(Duration::from_micros(random % 20_000));
        child.kill().unwrap();
        child.wait().unwrap();
        let said = std::iter::once(first).chain(lines.map_while(Result::ok));
        let said = said.filter_map(|line| line.strip_prefix("appended ")?.parse::<u64>().ok());
        promised = said.max().unwrap_or(promised);
        let done = custody::verify::verify_log(folder.path(), &Default::default()).unwrap();
        assert!(done.is_intact(), "kill {kill}: {}", faults(&done));
        assert!(
            done.log.size > promised,
            "kill {kill}: entry {promised} was promised, there are {}",
            done.log.size
        );
        recovered += u32::from(done.unsigned_tail);
    }
    eprintln!("{recovered} of 100 kills left an unsigned tail");
    log.append(&note("after all"), &writer()).unwrap();
    let done = custody::verify::verify_log(folder.path(), &Default::default()).unwrap();
    assert!(done.is_intact() && !done.unsigned_tail, "{}", faults(&done));
}

/// Appends bytes to a log as an interrupted writer would.
fn leave_tail(folder: &Path, bytes: &[u8]) {
    let mut file = std::fs::OpenOptions::new().append(true).open(folder.join("custody.jsonl")).unwrap();
    file.write_all(bytes).unwrap();
}

#[test]
fn a_torn_tail_is_kept_aside_and_recorded_by_the_next_append() {
    let folder = tempfile::tempdir().unwrap();
    let log = log_with(folder.path(), 2);
    leave_tail(folder.path(), b"{\"actor\":{\"ke");
    let before = check(folder.path());
    assert!(before.unsigned_tail && before.log.torn_bytes == 13);
    // Reading repairs nothing.
    assert_eq!(std::fs::read(folder.path().join("custody.jsonl")).unwrap().last(), Some(&b'e'));
    let appended = log.append(&note("next"), &writer()).unwrap();
    assert!(appended.recovered);
    assert_eq!(appended.seq, 4);
    assert_eq!(std::fs::read(folder.path().join("custody.torn.00000003.0")).unwrap(), b"{\"actor\":{\"ke");
    let entries = log.read().unwrap().entries;
    assert_eq!(entries[3].kind, EntryType::LOG_RECOVERED);
    assert_eq!(entries[3].about.how["length"], 13);
    assert_eq!(entries[3].about.how["sha256"], custody::sha256(b"{\"actor\":{\"ke").to_string());
    let done = check(folder.path());
    assert!(done.is_intact() && !done.unsigned_tail, "{}", faults(&done));
    std::fs::remove_file(folder.path().join("custody.torn.00000003.0")).unwrap();
    assert!(!check(folder.path()).is_intact());
}

#[test]
fn whole_entries_that_were_not_signed_stay_and_are_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let log = log_with(folder.path(), 2);
    let (checkpoint, frontier) = (folder.path().join("checkpoint"), folder.path().join("custody.frontier"));
    let (old_checkpoint, old_frontier) =
        (std::fs::read(&checkpoint).unwrap(), std::fs::read(&frontier).unwrap());
    log.append(&note("never signed"), &writer()).unwrap();
    std::fs::write(&checkpoint, old_checkpoint).unwrap();
    std::fs::write(&frontier, old_frontier).unwrap();
    let before = check(folder.path());
    assert!(before.unsigned_tail && before.log.unsigned_entries == 1, "{}", faults(&before));
    let appended = log.append(&note("next"), &writer()).unwrap();
    assert!(appended.recovered);
    let kinds: Vec<_> = log.read().unwrap().entries.into_iter().map(|entry| entry.kind).collect();
    let expected = [EntryType::LOG_GENESIS, EntryType::NOTE, EntryType::NOTE, EntryType::NOTE];
    assert_eq!(kinds[..4], expected);
    assert_eq!(kinds[4..], [EntryType::LOG_RECOVERED, EntryType::NOTE]);
    assert!(check(folder.path()).is_intact());
}

#[test]
fn a_tail_is_signed_without_a_further_entry_and_only_where_there_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let log = log_with(folder.path(), 2);
    assert!(!log.record_tail(&writer()).unwrap());
    // Nor is it asked whether the key may sign, where there is nothing to sign.
    let (stranger, clock) = (SigningKey::generate().unwrap(), SystemClock);
    assert!(!log.record_tail(&Writer::new(&stranger, &clock, Identity::default())).unwrap());
    let kept = ["checkpoint", "custody.frontier"].map(|name| {
        let path = folder.path().join(name);
        (path.clone(), std::fs::read(path).unwrap())
    });
    log.append(&note("never signed"), &writer()).unwrap();
    for (path, bytes) in kept {
        std::fs::write(path, bytes).unwrap();
    }
    assert!(check(folder.path()).unsigned_tail);
    assert!(log.record_tail(&writer()).unwrap());
    let entries = log.read().unwrap().entries;
    assert_eq!((entries.len(), &entries[4].kind), (5, &EntryType::LOG_RECOVERED));
    let done = check(folder.path());
    assert!(done.is_intact() && !done.unsigned_tail, "{}", faults(&done));
    assert!(!log.record_tail(&writer()).unwrap());
}

#[test]
fn torn_bytes_cut_off_but_not_yet_recorded_are_recorded_later() {
    let folder = tempfile::tempdir().unwrap();
    let log = log_with(folder.path(), 1);
    std::fs::write(folder.path().join("custody.torn.00000002.0"), b"half").unwrap();
    assert!(check(folder.path()).is_intact());
    assert!(log.append(&note("next"), &writer()).unwrap().recovered);
    let done = check(folder.path());
    assert!(done.is_intact(), "{}", faults(&done));
    assert_eq!(log.read().unwrap().entries[2].about.subject[0].id, "custody.torn.00000002.0");
}

#[test]
fn a_log_that_does_not_fit_its_checkpoint_takes_no_entry() {
    type Harm = fn(&Path);
    let harms: [(&str, Harm); 5] = [
        ("shorter than its checkpoint", |folder| {
            let path = folder.join("custody.jsonl");
            let text = std::fs::read_to_string(&path).unwrap();
            let keep: Vec<_> = text.lines().take(3).map(|line| format!("{line}\n")).collect();
            std::fs::write(path, keep.concat()).unwrap();
        }),
        ("last entry changed", |folder| {
            let path = folder.join("custody.jsonl");
            let text = std::fs::read_to_string(&path).unwrap();
            std::fs::write(path, text.replace("note 2", "note X")).unwrap();
        }),
        ("no checkpoint", |folder| std::fs::remove_file(folder.join("checkpoint")).unwrap()),
        ("cache gone, entry changed", |folder| {
            std::fs::remove_file(folder.join("custody.frontier")).unwrap();
            let path = folder.join("custody.jsonl");
            let text = std::fs::read_to_string(&path).unwrap();
            std::fs::write(path, text.replace("note 0", "note X")).unwrap();
        }),
        ("checkpoint of another log", |folder| {
            let other = tempfile::tempdir().unwrap();
            log_with(other.path(), 3);
            std::fs::copy(other.path().join("checkpoint"), folder.join("checkpoint")).unwrap();
        }),
    ];
    for (what, harm) in harms {
        let folder = tempfile::tempdir().unwrap();
        let log = log_with(folder.path(), 3);
        harm(folder.path());
        let before = std::fs::read(folder.path().join("custody.jsonl")).unwrap();
        let refused = log.append(&note("next"), &writer());
        assert!(matches!(refused, Err(Error::LogBroken { .. })), "{what}: {refused:?}");
        assert_eq!(std::fs::read(folder.path().join("custody.jsonl")).unwrap(), before, "{what}");
        assert!(!check(folder.path()).is_intact(), "{what}");
    }
}

#[test]
fn a_missing_or_wrong_frontier_is_rebuilt() {
    for wrong in [None, Some("0\n"), Some("rubbish")] {
        let folder = tempfile::tempdir().unwrap();
        let log = log_with(folder.path(), 6);
        let path = folder.path().join("custody.frontier");
        match wrong {
            None => std::fs::remove_file(&path).unwrap(),
            Some(text) => std::fs::write(&path, text).unwrap(),
        }
        log.append(&note("next"), &writer()).unwrap();
        let done = check(folder.path());
        assert!(done.is_intact() && done.log.size == 8, "{}", faults(&done));
    }
}

#[test]
fn the_cost_of_an_append_does_not_grow_with_the_log() {
    // What is read is what counts: an append to a long log must not touch its beginning.
    let folder = tempfile::tempdir().unwrap();
    let log = log_with(folder.path(), 300);
    let path = folder.path().join("custody.jsonl");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[10] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    log.append(&note("does not look back"), &writer()).unwrap();
    // And verifying does look there.
    let done = check(folder.path());
    assert_eq!(done.faults[0].place.entry, Some(0), "{}", faults(&done));
}

#[test]
fn an_entry_that_cannot_be_written_leaves_the_log_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let log = log_with(folder.path(), 1);
    let files: Vec<PathBuf> = ["custody.jsonl", "checkpoint"].map(|name| folder.path().join(name)).into();
    let before: Vec<_> = files.iter().map(|path| std::fs::read(path).unwrap()).collect();
    assert!(log.append(&note(&"x".repeat(70_000)), &writer()).is_err());
    assert!(log.append(&note("x").how("share", 0.5), &writer()).is_err());
    assert_eq!(files.iter().map(|path| std::fs::read(path).unwrap()).collect::<Vec<_>>(), before);
}

#[test]
fn a_second_log_is_never_begun_in_the_same_place() {
    let folder = tempfile::tempdir().unwrap();
    log_with(folder.path(), 0);
    let again = CustodyLog::create(folder.path(), NewEntry::new(EntryType::LOG_GENESIS), &writer());
    assert!(matches!(again, Err(Error::WouldOverwrite { .. })));
}

#[test]
fn verifying_while_others_append_raises_no_false_alarm() {
    let folder = tempfile::tempdir().unwrap();
    log_with(folder.path(), 0);
    let mut child = start_child(folder.path(), 200, Stdio::null());
    let mut checks = 0;
    while child.try_wait().unwrap().is_none() {
        let done = custody::verify::verify_log(folder.path(), &Default::default()).unwrap();
        assert!(done.is_intact() && !done.unsigned_tail, "{}", faults(&done));
        checks += 1;
    }
    assert!(checks > 0 && check(folder.path()).log.size == 201);
}

#[test]
fn an_anchor_is_stored_once_and_never_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let log = log_with(folder.path(), 0);
    let entry = || NewEntry::new(EntryType::ANCHOR_MADE);
    std::fs::write(folder.path().join("anchors/a.tsr"), b"token").unwrap();
    assert!(!check(folder.path()).is_intact(), "an anchor that no entry names");
    log.append_anchor("a.tsr", b"token", entry(), &writer()).unwrap();
    let done = check(folder.path());
    assert!(done.is_intact(), "{}", faults(&done));
    assert!(done.notes.iter().any(|note| note.contains("is no anchor that can be read")), "{:?}", done.notes);
    assert!(matches!(
        log.append_anchor("a.tsr", b"other", entry(), &writer()),
        Err(Error::WouldOverwrite { .. })
    ));
    for name in ["", "../x", "a/b", ".x"] {
        assert!(log.append_anchor(name, b"x", entry(), &writer()).is_err());
    }
}
