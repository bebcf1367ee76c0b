//! A log whose bundle lies in an evidence store: every entry is an object there too.
//!
//! An entry is written to the local log first. Then it is put as `custody/00000007.json` (the exact line without LF), and
//! the checkpoint that covers it as `checkpoints/00000008`; each object is put once, and none is read back: who writes
//! has no right to. `custody.mirror` remembers what is there, and what was begun: an object that is there already and
//! was begun here before is taken for our own, and the next entry says so. Any other was put by somebody else, and ends
//! the writing.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::bundle::RemotePlace;
use crate::case_layout;
use crate::checkpoint::{MAX_NOTE, SignedCheckpoint};
use crate::custody_log::{CustodyLog, MOST_ANCHOR, Writer, lock_shared};
use crate::durable_file::{read_small, replace, sync_folder};
use crate::entry::{Entry, MAX_ENTRY};
use crate::error::{Error, Result};
use crate::held_log::kept_checkpoints;
use crate::log_head::read_head;
use crate::strict_json;

/// In `how` of an entry: objects of the log that were found in the store after an attempt whose answer never came, and
/// were taken for this writer's own.
pub const HOW_STORE_ASSUMED: &str = "store_assumed";

/// No `custody.mirror` is longer.
const LONGEST: u64 = 64 << 10;

/// Nothing beside a log is larger.
const MOST_BESIDE: u64 = if MOST_ANCHOR > 64 << 20 { MOST_ANCHOR } else { 64 << 20 };

/// Objects that are named as assumed; more only count.
const MOST_ASSUMED: usize = 50;

/// Puts the objects of a log into an evidence store. What it knows of networks is its own.
pub trait LogMirror: Sync {
    /// Puts an object that shall not be there yet.
    fn put_once(&self, place: &RemotePlace, path: &str, bytes: &[u8]) -> PutOnce;

    /// Is told why entries that are in the local log are not in the store yet.
    fn not_yet(&self, place: &RemotePlace, why: &str);
}

/// What became of an object that was to be put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PutOnce {
    /// It is there.
    Done,
    /// One of that key was there before.
    There {
        /// An earlier attempt of this call got no answer, so it may have been carried out.
        perhaps_ours: bool,
    },
    /// It was put, and the store says that it holds other bytes, in words.
    Differs(String),
    /// It could not be put, in words. It may have been put all the same.
    Failed(String),
}

/// How much of a log is in the store.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mirrored {
    /// Objects taken for our own that no entry has told of yet.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    assumed: Vec<String>,
    /// Entries below this number may be there.
    begun: u64,
    /// Bytes of the log that the entries take which are there.
    bytes: u64,
    /// Size of the largest checkpoint that is there.
    checkpoint: u64,
    /// Entries that are there.
    entries: u64,
    /// An object that somebody else put, or of which the store says that it holds other bytes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    taken: Option<String>,
    v: u32,
}

impl Mirrored {
    fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(case_layout::MIRROR);
        let Some(bytes) = read_small(&path, LONGEST)? else { return Ok(Self { v: 1, ..Self::default() }) };
        let state: Self = strict_json::read(bytes.strip_suffix(b"\n").unwrap_or(&bytes))
            .map_err(|error| Error::Damaged { path: path.clone(), why: error.to_string() })?;
        if state.v != 1 || state.entries > state.begun {
            return Err(Error::Damaged { path, why: "it says what cannot be".to_owned() });
        }
        Ok(state)
    }

    fn write(&self, folder: &Path) -> Result<()> {
        let value =
            serde_json::to_value(self).map_err(|error| Error::malformed("mirror", error.to_string()))?;
        let line = strict_json::to_line(&value)? + "\n";
        let temporary = case_layout::LEFTOVERS.get(3).copied().unwrap_or_default();
        replace(&folder.join(case_layout::MIRROR), &folder.join(temporary), line.as_bytes())?;
        sync_folder(folder)
    }
}

/// A log whose bundle lies in an evidence store, and how much of it is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirrorState {
    /// The place.
    pub place: RemotePlace,
    /// Entries that are there.
    pub entries: u64,
    /// An object that was there and was not put from here: nothing is put behind it.
    pub taken: Option<String>,
}

impl MirrorState {
    /// What a bundle's folder says of its log in an evidence store; `None` if it lies in none.
    ///
    /// # Errors
    ///
    /// [`Error::Read`], [`Error::Damaged`].
    pub fn read(folder: &Path) -> Result<Option<Self>> {
        let Some(place) = RemotePlace::read(folder)? else { return Ok(None) };
        let Mirrored { entries, taken, .. } = Mirrored::read(folder)?;
        Ok(Some(Self { place, entries, taken }))
    }

    /// Notes that the whole log as it lies in the folder was had from the store, so that only later entries are put.
    ///
    /// # Errors
    ///
    /// [`Error::Read`], [`Error::Write`].
    pub fn is_whole(folder: &Path) -> Result<()> {
        let path = case_layout::log(folder);
        let read = |source| Error::Read { path: path.clone(), source };
        let log = std::fs::read(&path).map_err(read)?;
        let entries = log.iter().filter(|byte| **byte == b'\n').count() as u64;
        let bytes = log.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at as u64 + 1);
        let note = read_small(&case_layout::checkpoint(folder), MAX_NOTE as u64)?.unwrap_or_default();
        let checkpoint = SignedCheckpoint::parse(&note)?.checkpoint.size;
        let state = Mirrored { begun: entries, bytes, checkpoint, entries, v: 1, ..Mirrored::default() };
        state.write(folder)
    }
}

/// Objects that the next entry must tell of.
pub(crate) fn assumed(folder: &Path) -> Result<Vec<String>> {
    if RemotePlace::read(folder)?.is_none() {
        return Ok(Vec::new());
    }
    Ok(Mirrored::read(folder)?.assumed)
}

/// Why the store does not hold what the log holds.
enum Stop {
    /// It may be had later.
    NotYet(String),
    /// Somebody else put this object.
    Taken(String),
    /// The store says that this object holds other bytes than were sent: nothing is put behind it either.
    Differs(String, String),
}

/// Puts what the store lacks of a log whose lock is held. `told` objects stand in an entry now.
///
/// Where the writer must not go on without the store this is an error; else whoever puts is told why.
pub(crate) fn put_missing(
    folder: &Path,
    head: &SignedCheckpoint,
    file: &File,
    writer: &Writer<'_>,
    told: usize,
) -> Result<()> {
    let Some(place) = RemotePlace::read(folder)? else { return Ok(()) };
    let (mirror, must) = match writer.mirror() {
        (Some(mirror), must) => (mirror, must),
        (None, false) => return Ok(()),
        (None, true) => {
            return Err(Error::Mirror { place: place.to_string(), why: "nobody puts it there".to_owned() });
        }
    };
    let mut state = Mirrored::read(folder)?;
    state.assumed.drain(..told.min(state.assumed.len()));
    let done = match &state.taken {
        Some(path) => Err(Stop::Taken(path.clone())),
        None => Putting { folder, place: &place, mirror, state: &mut state }.all(head, file)?,
    };
    let why = match done {
        Ok(()) => return state.write(folder),
        Err(Stop::NotYet(why)) => why,
        Err(Stop::Taken(path)) => {
            let why = format!(
                "{path} is there already, and was not put from here: somebody else writes to that place"
            );
            state.taken = Some(path);
            why
        }
        Err(Stop::Differs(path, why)) => {
            let why = format!("{path} does not hold what was sent: {why}");
            state.taken = Some(path);
            why
        }
    };
    state.write(folder)?;
    if must {
        return Err(Error::Mirror { place: place.to_string(), why });
    }
    mirror.not_yet(&place, &why);
    Ok(())
}

struct Putting<'a> {
    folder: &'a Path,
    place: &'a RemotePlace,
    mirror: &'a dyn LogMirror,
    state: &'a mut Mirrored,
}

impl Putting<'_> {
    fn all(&mut self, head: &SignedCheckpoint, mut file: &File) -> Result<std::result::Result<(), Stop>> {
        let path = case_layout::log(self.folder);
        let fault = |source| Error::Read { path: path.clone(), source };
        let size = head.checkpoint.size;
        file.seek(SeekFrom::Start(self.state.bytes)).map_err(fault)?;
        let mut lines = BufReader::new(file);
        let mut line = Vec::new();
        while self.state.entries < size {
            line.clear();
            let read = (&mut lines).take(MAX_ENTRY as u64 + 1).read_until(b'\n', &mut line).map_err(fault)?;
            if line.pop() != Some(b'\n') {
                let why = format!("it ends before entry {}, which its checkpoint covers", self.state.entries);
                return Err(Error::LogBroken { path, why });
            }
            if let Err(stop) = self.entry(&line)? {
                return Ok(Err(stop));
            }
            self.state.entries = self.state.entries.saturating_add(1);
            self.state.bytes = self.state.bytes.saturating_add(read as u64);
        }
        if self.state.checkpoint >= size {
            return Ok(Ok(()));
        }
        // Those that were kept while the store could not be reached: anchors may be over them.
        let mut due: Vec<_> = kept_checkpoints(self.folder)?
            .into_iter()
            .filter(|kept| kept.checkpoint.size > self.state.checkpoint && kept.checkpoint.size < size)
            .collect();
        due.sort_by_key(|kept| kept.checkpoint.size);
        due.push(head.clone());
        for signed in due {
            let name = case_layout::kept_checkpoint_name(signed.checkpoint.size);
            let path = format!("{}/{name}", case_layout::CHECKPOINTS);
            // The entries that it covers were put from here, so nobody else can have signed it.
            if let Err(stop) = self.put(&path, signed.note.to_text().as_bytes(), true) {
                return Ok(Err(stop));
            }
            self.state.checkpoint = signed.checkpoint.size;
        }
        Ok(Ok(()))
    }

    /// Puts one entry, and before it what it names beside the log.
    fn entry(&mut self, line: &[u8]) -> Result<std::result::Result<(), Stop>> {
        let seq = self.state.entries;
        let begun_before = seq < self.state.begun;
        if !begun_before {
            self.state.begun = seq.saturating_add(1);
            self.state.write(self.folder)?;
        }
        if seq == 0 {
            let vkey =
                read_small(&self.folder.join(case_layout::LOG_VKEY), MAX_NOTE as u64)?.unwrap_or_default();
            if let Err(stop) = self.put(case_layout::LOG_VKEY, &vkey, begun_before) {
                return Ok(Err(stop));
            }
        }
        let entry = Entry::parse(line).map_err(|error| Error::LogBroken {
            path: case_layout::log(self.folder),
            why: format!("line {seq}: {error}"),
        })?;
        for subject in &entry.about.subject {
            let name = subject.id.as_str();
            let in_anchors = name
                .strip_prefix(case_layout::ANCHORS)
                .and_then(|rest| rest.strip_prefix('/'))
                .is_some_and(|rest| !rest.contains('/'));
            if !in_anchors && !name.starts_with(case_layout::TORN_PREFIX) {
                continue;
            }
            // The entry holds its hash, so whoever reads it can tell another's file from ours.
            if let Some(bytes) = read_small(&self.folder.join(name), MOST_BESIDE)?
                && let Err(stop) = self.put(name, &bytes, true)
            {
                return Ok(Err(stop));
            }
        }
        Ok(self.put(&entry_path(seq), line, begun_before))
    }

    /// Puts one object. One that may be ours already is taken for it, and remembered.
    fn put(&mut self, path: &str, bytes: &[u8], may_be_ours: bool) -> std::result::Result<(), Stop> {
        match self.mirror.put_once(self.place, path, bytes) {
            PutOnce::Done => Ok(()),
            PutOnce::There { perhaps_ours } if perhaps_ours || may_be_ours => {
                if self.state.assumed.len() < MOST_ASSUMED {
                    self.state.assumed.push(path.to_owned());
                }
                Ok(())
            }
            PutOnce::There { .. } => Err(Stop::Taken(path.to_owned())),
            PutOnce::Differs(why) => Err(Stop::Differs(path.to_owned(), why)),
            PutOnce::Failed(why) => Err(Stop::NotYet(why)),
        }
    }
}

/// Gives every object of a log as an evidence store holds it: its key's file, what its entries name beside it, the entries, and
/// every checkpoint, the newest last. Nobody appends meanwhile.
///
/// # Errors
///
/// What `take` gives; [`Error::Read`], or [`Error::LogBroken`] when the log does not fit its checkpoint.
pub fn each_log_object<E: From<Error>, F: FnMut(&str, &[u8]) -> std::result::Result<(), E>>(
    folder: &Path,
    mut take: F,
) -> std::result::Result<(), E> {
    let log = CustodyLog::open(folder)?;
    let path = case_layout::log(folder);
    let mut file = lock_shared(&path)?;
    let head = read_head(folder, log.origin(), &mut file)?;
    let small = |name: &str, most| -> Result<Vec<u8>> {
        let path = folder.join(name);
        let missing = || Error::Read { path: path.clone(), source: std::io::ErrorKind::NotFound.into() };
        read_small(&path, most)?.ok_or_else(missing)
    };
    take(case_layout::LOG_VKEY, &small(case_layout::LOG_VKEY, MAX_NOTE as u64)?)?;
    for name in files_beside(folder)? {
        take(&name, &small(&name, MOST_BESIDE)?)?;
    }
    let fault = |source| Error::Read { path: path.clone(), source };
    file.rewind().map_err(fault)?;
    let mut lines = BufReader::new(&file);
    let mut line = Vec::new();
    for seq in 0..head.checkpoint.checkpoint.size {
        line.clear();
        (&mut lines).take(MAX_ENTRY as u64 + 1).read_until(b'\n', &mut line).map_err(fault)?;
        if line.pop() != Some(b'\n') {
            let why = format!("it ends before entry {seq}, which its checkpoint covers");
            return Err(Error::LogBroken { path: path.clone(), why }.into());
        }
        take(&entry_path(seq), &line)?;
    }
    let mut kept = kept_checkpoints(folder)?;
    kept.retain(|kept| kept.checkpoint.size < head.checkpoint.checkpoint.size);
    kept.sort_by_key(|kept| kept.checkpoint.size);
    kept.push(head.checkpoint);
    for signed in kept {
        let name = case_layout::kept_checkpoint_name(signed.checkpoint.size);
        take(&format!("{}/{name}", case_layout::CHECKPOINTS), signed.note.to_text().as_bytes())?;
    }
    Ok(())
}

/// Anchors, and torn bytes that were kept aside, by their paths in order.
fn files_beside(folder: &Path) -> Result<Vec<String>> {
    let names = |folder: &Path| -> Result<Vec<String>> {
        let fault = |source| Error::Read { path: folder.to_owned(), source };
        let mut names = Vec::new();
        for item in std::fs::read_dir(folder).map_err(fault)? {
            names.extend(item.map_err(fault)?.file_name().into_string().ok());
        }
        names.sort();
        Ok(names)
    };
    let mut found: Vec<_> =
        names(folder)?.into_iter().filter(|name| name.starts_with(case_layout::TORN_PREFIX)).collect();
    let anchors = names(&folder.join(case_layout::ANCHORS))?;
    found.extend(anchors.into_iter().map(|name| format!("{}/{name}", case_layout::ANCHORS)));
    Ok(found)
}

/// The object of an entry: eight digits, more when needed.
#[must_use]
pub fn entry_path(seq: u64) -> String {
    format!("custody/{seq:08}.json")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    use super::*;
    use crate::clock::FixedClock;
    use crate::entry::{EntryType, Identity, NewEntry};
    use crate::keys::SigningKey;

    /// A store in memory that can be out of reach, or lose its answers.
    #[derive(Default)]
    struct Memory {
        objects: Mutex<BTreeMap<String, Vec<u8>>>,
        away: Mutex<bool>,
        mute: Mutex<bool>,
        told: Mutex<Vec<String>>,
    }

    impl LogMirror for Memory {
        fn put_once(&self, _: &RemotePlace, path: &str, bytes: &[u8]) -> PutOnce {
            if *self.away.lock().unwrap() {
                return PutOnce::Failed("there is no network".to_owned());
            }
            let mut objects = self.objects.lock().unwrap();
            if objects.contains_key(path) {
                return PutOnce::There { perhaps_ours: false };
            }
            objects.insert(path.to_owned(), bytes.to_vec());
            if *self.mute.lock().unwrap() {
                PutOnce::Failed("no answer came".to_owned())
            } else {
                PutOnce::Done
            }
        }

        fn not_yet(&self, place: &RemotePlace, why: &str) {
            self.told.lock().unwrap().push(format!("{place}: {why}"));
        }
    }

    fn with_log(act: impl FnOnce(&Path, &Memory, &Writer<'_>)) {
        let folder = tempfile::tempdir().unwrap();
        let place = RemotePlace::parse("s3://evidence/E001").unwrap();
        place.write(folder.path()).unwrap();
        let (key, clock) =
            (SigningKey::from_seed(&[7; 32]), FixedClock::stepping(1_795_224_600_000_000_000, 1_000));
        let memory = Memory::default();
        let writer = Writer::new(&key, &clock, Identity::default()).mirrored_by(&memory);
        act(folder.path(), &memory, &writer);
    }

    fn note() -> NewEntry {
        NewEntry::new(EntryType::NOTE)
    }

    #[test]
    fn every_entry_and_its_checkpoint_become_objects_with_the_exact_line() {
        with_log(|folder, memory, writer| {
            let log = CustodyLog::create(folder, note(), writer).unwrap();
            log.append(&note(), writer).unwrap();
            log.append_anchor("a.tsr", b"token", note(), writer).unwrap();
            let objects = memory.objects.lock().unwrap();
            let names: Vec<_> = objects.keys().map(String::as_str).collect();
            let entries = ["custody/00000000.json", "custody/00000001.json", "custody/00000002.json"];
            let others =
                ["checkpoints/00000001", "checkpoints/00000002", "checkpoints/00000003", "keys/log.vkey"];
            let mut all = [&entries[..], &others, &["anchors/a.tsr"]].concat();
            all.sort_unstable();
            assert_eq!(names, all);
            let joined: Vec<u8> =
                entries.iter().flat_map(|name| [&objects[*name][..], b"\n"].concat()).collect();
            assert_eq!(joined, std::fs::read(folder.join("custody.jsonl")).unwrap());
            assert_eq!(objects["checkpoints/00000003"], std::fs::read(folder.join("checkpoint")).unwrap());
            let mut listed = Vec::new();
            each_log_object::<Error, _>(folder, |path, _| {
                listed.push(path.to_owned());
                Ok(())
            })
            .unwrap();
            assert!(listed.iter().all(|path| objects.contains_key(path)), "{listed:?}");
        });
    }

    #[test]
    fn an_entry_waits_for_the_store_unless_the_writer_needs_it() {
        with_log(|folder, memory, writer| {
            let log = CustodyLog::create(folder, note(), writer).unwrap();
            *memory.away.lock().unwrap() = true;
            log.append(&note(), writer).unwrap();
            assert_eq!(*memory.told.lock().unwrap(), ["s3://evidence/E001: there is no network"]);
            let needing = writer.clone().needing_mirror();
            let error = log.append(&note(), &needing).unwrap_err();
            assert!(matches!(&error, Error::Mirror { .. }), "{error}");
            assert_eq!(MirrorState::read(folder).unwrap().unwrap().entries, 1);
            *memory.away.lock().unwrap() = false;
            // The next append puts what is missing; what was never begun is no cause for doubt.
            log.append(&note(), &needing).unwrap();
            assert_eq!(MirrorState::read(folder).unwrap().unwrap().entries, 4);
            assert!(assumed(folder).unwrap().is_empty());
        });
    }

    #[test]
    fn what_was_put_without_an_answer_is_taken_for_ours_and_the_next_entry_says_so() {
        with_log(|folder, memory, writer| {
            let log = CustodyLog::create(folder, note(), writer).unwrap();
            *memory.mute.lock().unwrap() = true;
            log.append(&note(), writer).unwrap();
            *memory.mute.lock().unwrap() = false;
            log.append(&note(), writer).unwrap();
            log.append(&note(), writer).unwrap();
            log.append(&note(), writer).unwrap();
            let told: Vec<_> = log
                .read()
                .unwrap()
                .entries
                .iter()
                .map(|entry| entry.about.how.get(HOW_STORE_ASSUMED).cloned().unwrap_or_default())
                .collect();
            let once = serde_json::json!(["custody/00000001.json"]);
            assert_eq!(
                told,
                [Default::default(), Default::default(), Default::default(), once, Default::default()]
            );
        });
    }

    #[test]
    fn an_object_of_somebody_else_ends_the_writing_to_the_store_for_good() {
        with_log(|folder, memory, writer| {
            let log = CustodyLog::create(folder, note(), writer).unwrap();
            memory.objects.lock().unwrap().insert("custody/00000001.json".to_owned(), b"another".to_vec());
            let needing = writer.clone().needing_mirror();
            for _ in 0..2 {
                let error = log.append(&note(), &needing).unwrap_err().to_string();
                assert!(
                    error.contains("custody/00000001.json") && error.contains("somebody else"),
                    "{error}"
                );
            }
            // A handover at a shell is written all the same, and told of it.
            log.append(&note(), writer).unwrap();
            assert_eq!(memory.told.lock().unwrap().len(), 1);
            assert!(!memory.objects.lock().unwrap().contains_key("custody/00000002.json"));
        });
    }

    #[test]
    fn a_log_that_was_had_from_the_store_goes_on_behind_it() {
        with_log(|folder, memory, writer| {
            let log = CustodyLog::create(folder, note(), writer).unwrap();
            log.append(&note(), writer).unwrap();
            std::fs::remove_file(folder.join("custody.mirror")).unwrap();
            MirrorState::is_whole(folder).unwrap();
            log.append(&note(), &writer.clone().needing_mirror()).unwrap();
            assert_eq!(memory.objects.lock().unwrap().len(), 7);
        });
    }
}
