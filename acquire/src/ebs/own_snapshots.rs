//! Snapshots that we made ourselves: each act is in the case's log before and after it, and only they are ever deleted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use custody::{Case, EntryType, NewEntry, Writer, uuid_v7};
use serde_json::{Map, Value, json};

use super::first_look::first_block;
use super::target::Target;
use crate::aws::ec2::{Ec2, Instance, Lock, LockState, Snapshot, SnapshotState, Tag, Volume};
use crate::aws::sts::Sts;
use crate::aws::{Connection, Failure, FailureKind};
use crate::error::{Error, Result};
use crate::progress::Progress;

/// Tags of every snapshot that we make. Policies can allow deletion by them.
pub const TAG_CASE: &str = "CaseId";
/// Always [`MADE_BY`].
pub const TAG_MADE_BY: &str = "created-by";
/// The run that made it.
pub const TAG_RUN: &str = "exhibit-run";
/// What it was made of: a volume or an instance.
pub const TAG_TARGET: &str = "exhibit-target";
/// The value of [`TAG_MADE_BY`].
pub const MADE_BY: &str = "exhibit";

/// Between two questions how far a snapshot is.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// A completed snapshot can be listed after some minutes at most (seen: up to four).
const LISTABLE_WITHIN: Duration = Duration::from_secs(10 * 60);

/// Marks of our acts in the case's log.
const ACT: &str = "act";
const SNAPSHOTS: &str = "snapshots";
const KEPT: &str = "keep snapshot";

/// A snapshot that this run made, or one of an earlier run that it goes on with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnSnapshot {
    /// The snapshot, as it was last seen.
    pub snapshot: Snapshot,
    /// Device name of its volume in the instance, as `/dev/xvda`; empty where only a volume is acquired.
    pub device: String,
    /// Its lock, if it was locked.
    pub lock: Option<LockState>,
    /// The run that made it.
    pub run: String,
}

impl OwnSnapshot {
    /// What its exhibit is called: the instance with the device, or the volume.
    #[must_use]
    pub fn exhibit_name(&self, target: &Target) -> String {
        let device = self.device.rsplit('/').next().unwrap_or_default();
        let device = if device.is_empty() { &self.snapshot.volume } else { device };
        match target {
            Target::Instance(instance) => format!("{instance}-{device}"),
            _ => self.snapshot.volume.clone(),
        }
    }
}

/// What became of a snapshot of ours at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deletion {
    /// It is deleted.
    Deleted,
    /// It was gone already.
    Gone,
    /// It stays, for this reason.
    Kept(String),
}

/// A snapshot of an earlier run that is still there though nobody decided to keep it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orphan {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// The run that made it.
    pub run: String,
    /// What it was made of.
    pub target: String,
    /// Whether the case's log names it; if not, that run died between the request and its answer.
    pub is_logged: bool,
    /// Whether the case's log tells of that run at all; if not, another copy of the case made it, and may be at work on it.
    pub is_of_this_log: bool,
}

/// Makes snapshots for a case, and deletes none but its own.
pub struct OwnSnapshots<'a> {
    connection: Connection,
    ec2: Ec2,
    case: &'a Case,
    writer: &'a Writer<'a>,
    run: String,
    account: String,
}

impl std::fmt::Debug for OwnSnapshots<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OwnSnapshots").field("run", &self.run).finish_non_exhaustive()
    }
}

impl<'a> OwnSnapshots<'a> {
    /// Begins a run: finds out in which account it is.
    ///
    /// # Errors
    ///
    /// [`Error::Cloud`], [`Error::Custody`].
    pub fn begin(connection: &Connection, case: &'a Case, writer: &'a Writer<'a>) -> Result<Self> {
        let account = Sts::new(connection)?.caller_identity()?.value.account;
        Ok(Self {
            connection: connection.clone(),
            ec2: Ec2::new(connection)?,
            case,
            writer,
            run: uuid_v7(writer.clock().now().wall_ns)?,
            account,
        })
    }

    /// The id of this run, as its snapshots have it in [`TAG_RUN`].
    #[must_use]
    pub fn run(&self) -> &str {
        &self.run
    }

    /// The account that snapshots are made in.
    #[must_use]
    pub fn account(&self) -> &str {
        &self.account
    }

    /// The tags that a snapshot of this run gets, in the call that makes it.
    #[must_use]
    pub fn tags(&self, target: &Target) -> Vec<Tag> {
        tags_for(&self.case.file().id, &self.run, target)
    }

    /// Makes a snapshot of one volume.
    ///
    /// # Errors
    ///
    /// [`Error::Cloud`], with the permission named that is missing; [`Error::Custody`] before anything is made.
    pub fn of_volume(&self, volume: &Volume) -> Result<OwnSnapshot> {
        let target = Target::Volume(volume.id.clone());
        let made = self.make(&target, "EC2 CreateSnapshot", &[&volume.id], |description, tags| {
            Ok(vec![self.ec2.create_snapshot(&volume.id, description, tags)?.value])
        })?;
        let device = String::new();
        let of_it = made.into_iter().find(|made| made.volume == volume.id);
        let snapshot = of_it.ok_or_else(|| missing("EC2 CreateSnapshot", &volume.id))?;
        Ok(OwnSnapshot { snapshot, device, lock: None, run: self.run.clone() })
    }

    /// Makes snapshots of all volumes of an instance, which show one point in time.
    ///
    /// # Errors
    ///
    /// As [`OwnSnapshots::of_volume`]; and if the answer leaves out a volume, whose snapshots are kept and logged then.
    pub fn of_instance(&self, instance: &Instance) -> Result<Vec<OwnSnapshot>> {
        let target = Target::Instance(instance.id.clone());
        let volumes: Vec<&str> = instance.devices.iter().map(|device| device.volume.as_str()).collect();
        let made = self.make(&target, "EC2 CreateSnapshots", &volumes, |description, tags| {
            Ok(self.ec2.create_snapshots(&instance.id, description, tags)?.value)
        })?;
        let own = self.with_devices(made, instance);
        match volumes.iter().find(|volume| !own.iter().any(|own| own.snapshot.volume == **volume)) {
            Some(volume) => Err(missing("EC2 CreateSnapshots", volume)),
            None => Ok(own),
        }
    }

    fn with_devices(&self, made: Vec<Snapshot>, instance: &Instance) -> Vec<OwnSnapshot> {
        let device = |volume: &str| {
            let device = instance.devices.iter().find(|device| device.volume == volume);
            device.map(|device| device.name.clone()).unwrap_or_default()
        };
        let own = |snapshot: Snapshot| OwnSnapshot {
            device: device(&snapshot.volume),
            run: snapshot.tag(TAG_RUN).unwrap_or(&self.run).to_owned(),
            snapshot,
            lock: None,
        };
        made.into_iter().map(own).collect()
    }

    /// Logs, makes, logs. If no answer came, what was made is looked for by the tags that the same call puts on it.
    fn make(
        &self,
        target: &Target,
        act: &str,
        volumes: &[&str],
        create: impl FnOnce(&str, &[Tag]) -> std::result::Result<Vec<Snapshot>, Failure>,
    ) -> Result<Vec<Snapshot>> {
        let begun = self.log_begin(act, |entry| {
            entry
                .how("target", target.id())
                .how("volumes", volumes.to_vec())
                .how("tags", of_tags(&self.tags(target)))
        })?;
        let description = format!("evidence, run {}", self.run);
        let made = match create(&description, &self.tags(target)) {
            Err(failure) if is_unknown(failure.kind) => match self.look_for(target) {
                Ok(found) if !found.is_empty() => Ok(found),
                _ => {
                    // Whether something was made is not known: the act stays open in the log, and the next run looks.
                    self.append(
                        NewEntry::new(EntryType::ACQUIRE_ERROR)
                            .error("not known", failure.to_string())
                            .refers_to(begun),
                    )?;
                    return Err(failure.into());
                }
            },
            made => made,
        };
        match made {
            Ok(made) => {
                let ids: Vec<&str> = made.iter().map(|made| made.id.as_str()).collect();
                self.log_end(begun, |entry| entry.result(SNAPSHOTS, ids))?;
                Ok(made)
            }
            Err(failure) => {
                self.log_end(begun, |entry| entry.error("refused", failure.to_string()))?;
                Err(failure.into())
            }
        }
    }

    /// What this run has made of the target, by its tags.
    fn look_for(&self, target: &Target) -> std::result::Result<Vec<Snapshot>, Failure> {
        let wanted = self.tags(target);
        let wanted: Vec<(&str, &str)> =
            wanted.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        Ok(self.ec2.snapshots_with(&wanted)?.value)
    }

    /// Locks a snapshot against everybody's deletion, ours among them. It may be pending.
    ///
    /// # Errors
    ///
    /// [`Error::Cloud`], [`Error::Custody`].
    pub fn lock(&self, own: &mut OwnSnapshot, lock: Lock) -> Result<()> {
        let begun = self.log_begin("EC2 LockSnapshot", |entry| {
            entry
                .how("snapshot", own.snapshot.id.as_str())
                .how("mode", lock.mode.word())
                .how("days", lock.days)
        })?;
        match self.ec2.lock_snapshot(&own.snapshot.id, lock) {
            Ok(locked) => {
                let locked = locked.value;
                self.log_end(begun, |entry| {
                    entry.result("state", locked.state.as_str()).result("expires", locked.expires.as_str())
                })?;
                own.lock = Some(locked);
                Ok(())
            }
            Err(failure) => {
                self.log_end(begun, |entry| entry.error("refused", failure.to_string()))?;
                Err(failure.into())
            }
        }
    }

    /// Waits until a snapshot is complete, and until the EBS direct APIs list it, which may be minutes later.
    ///
    /// # Errors
    ///
    /// [`Error::Cloud`] if it could not be made, [`Error::Paused`] if a person asked for a stop: it goes on being made.
    pub fn wait(&self, own: &mut OwnSnapshot, progress: &dyn Progress, stop: &AtomicBool) -> Result<()> {
        let id = own.snapshot.id.clone();
        progress.started(&format!("waiting for {id}"), None);
        let mut pause = FIRST_PAUSE;
        loop {
            match self.ec2.describe_snapshot(&id) {
                Ok(seen) => own.snapshot = seen.value,
                // Just made, and not known everywhere yet.
                Err(failure) if failure.kind == FailureKind::NotFound && pause < LONGEST_PAUSE => {}
                Err(failure) => return Err(failure.into()),
            }
            progress.part(&format!("{id}: {} %", own.snapshot.progress));
            match own.snapshot.state {
                SnapshotState::Completed => break,
                SnapshotState::Pending => {}
                SnapshotState::Error | SnapshotState::Other => {
                    let words = format!("{id} cannot be read: it is {}", own.snapshot.state_words);
                    return Err(Failure::found("EC2 DescribeSnapshots", FailureKind::Invalid, words).into());
                }
            }
            self.pause(pause, stop)?;
            pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
        }
        self.wait_until_listed(&id, progress, stop)?;
        progress.finished();
        Ok(())
    }

    fn wait_until_listed(&self, id: &str, progress: &dyn Progress, stop: &AtomicBool) -> Result<()> {
        let (mut pause, mut waited) = (FIRST_PAUSE, Duration::ZERO);
        loop {
            let Err(failure) = first_block(&self.connection, id) else { return Ok(()) };
            let may_come = failure.kind == FailureKind::NotFound
                || failure.kind == FailureKind::Invalid
                || failure.kind.is_worth_another_try();
            if !may_come || waited >= LISTABLE_WITHIN {
                return Err(failure.into());
            }
            progress.part(&format!("{id} is complete, but cannot be listed yet"));
            self.pause(pause, stop)?;
            waited = waited.saturating_add(pause);
            pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
        }
    }

    /// Sleeps in short steps, so that a stop is heard.
    fn pause(&self, length: Duration, stop: &AtomicBool) -> Result<()> {
        const STEP: Duration = Duration::from_millis(200);
        let mut left = length;
        while !left.is_zero() {
            if stop.load(Ordering::Relaxed) {
                return Err(Error::Paused);
            }
            let step = left.min(STEP);
            self.connection.wait(async { tokio::time::sleep(step).await });
            left = left.saturating_sub(step);
        }
        Ok(())
    }

    /// Deletes a snapshot of ours, once what was read of it has been verified where it was written.
    ///
    /// Just before, it is looked at again: one without our tags, of another case, run or account, or one that is locked stays.
    ///
    /// # Errors
    ///
    /// [`Error::Cloud`], [`Error::Custody`].
    pub fn delete(&self, own: &OwnSnapshot) -> Result<Deletion> {
        let id = own.snapshot.id.as_str();
        let now = match self.ec2.describe_snapshot(id) {
            Ok(now) => now.value,
            Err(failure) if failure.kind == FailureKind::NotFound => return Ok(Deletion::Gone),
            Err(failure) => return Err(failure.into()),
        };
        if let Some(why) = self.is_foreign(&now, &own.run) {
            return Ok(Deletion::Kept(why));
        }
        let lock = self.ec2.lock_of(id);
        if let Ok(Some(lock)) = lock.as_ref().map(|lock| &lock.value)
            && lock.holds()
        {
            return Ok(Deletion::Kept(format!("it is locked ({}) until {}", lock.state, lock.expires)));
        }
        let begun = self.log_begin("EC2 DeleteSnapshot", |entry| {
            let entry = entry.how("snapshot", id).how("tags", of_tags(&now.tags));
            match &lock {
                Ok(_) => entry,
                // EC2 refuses to delete a locked one in any case.
                Err(failure) => entry.how("lock", format!("not known: {failure}")),
            }
        })?;
        match self.ec2.delete_snapshot(id) {
            Ok(()) => {
                self.log_end(begun, |entry| entry.result("deleted", id))?;
                Ok(Deletion::Deleted)
            }
            // An answer was lost, and the request was sent again.
            Err(failure) if failure.kind == FailureKind::NotFound => {
                self.log_end(begun, |entry| {
                    entry
                        .result("deleted", id)
                        .result("how_known", "it was there a moment before, and is not now")
                })?;
                Ok(Deletion::Deleted)
            }
            Err(failure) if is_unknown(failure.kind) => {
                self.append(
                    NewEntry::new(EntryType::ACQUIRE_ERROR)
                        .error("not known", failure.to_string())
                        .refers_to(begun),
                )?;
                Err(failure.into())
            }
            Err(failure) => {
                self.log_end(begun, |entry| entry.error("refused", failure.to_string()))?;
                Err(failure.into())
            }
        }
    }

    /// Why a snapshot is not ours to delete.
    fn is_foreign(&self, now: &Snapshot, run: &str) -> Option<String> {
        for (key, value) in [(TAG_CASE, self.case.file().id.as_str()), (TAG_MADE_BY, MADE_BY), (TAG_RUN, run)]
        {
            if now.tag(key) != Some(value) {
                return Some(format!("its tag {key} is not {value:?}, so it is not ours to delete"));
            }
        }
        (now.owner != self.account)
            .then(|| format!("it is in account {}, not in {}", now.owner, self.account))
    }

    /// Logs that a snapshot stays on purpose, so that it is no orphan.
    ///
    /// # Errors
    ///
    /// [`Error::Custody`].
    pub fn keep(&self, own: &OwnSnapshot, why: &str) -> Result<()> {
        let begun = self.log_begin(KEPT, |entry| entry.how("snapshot", own.snapshot.id.as_str()))?;
        self.log_end(begun, |entry| entry.result("kept", own.snapshot.id.as_str()).result("why", why))
    }

    /// Snapshots of this case's earlier runs that are still there though none decided to keep them.
    ///
    /// # Errors
    ///
    /// [`Error::Cloud`], [`Error::Custody`].
    pub fn orphans(&self) -> Result<Vec<Orphan>> {
        let tags = [(TAG_CASE, self.case.file().id.as_str()), (TAG_MADE_BY, MADE_BY)];
        let there = self.ec2.snapshots_with(&tags)?.value;
        let Logged { made, kept, runs } = self.logged()?;
        let others = there.into_iter().filter(|snapshot| snapshot.tag(TAG_RUN) != Some(self.run.as_str()));
        let orphan = |snapshot: Snapshot| Orphan {
            run: snapshot.tag(TAG_RUN).unwrap_or_default().to_owned(),
            target: snapshot.tag(TAG_TARGET).unwrap_or_default().to_owned(),
            is_logged: made.contains_key(&snapshot.id),
            is_of_this_log: snapshot.tag(TAG_RUN).is_some_and(|run| runs.contains(run)),
            snapshot,
        };
        Ok(others.filter(|snapshot| !kept.contains(&snapshot.id)).map(orphan).collect())
    }

    /// The newest earlier run's snapshots of this target, to go on with instead of making new ones. It must be a run that the
    /// case's log tells of: what others made may be in use by them, whatever its tags say.
    ///
    /// # Errors
    ///
    /// [`Error::Cloud`], [`Error::Custody`].
    pub fn go_on_with(&self, target: &Target, instance: Option<&Instance>) -> Result<Vec<OwnSnapshot>> {
        let mut found = self.orphans()?;
        found.retain(|orphan| orphan.target == target.id() && orphan.is_of_this_log);
        let newest = found.iter().map(|orphan| orphan.run.clone()).max();
        found.retain(|orphan| Some(&orphan.run) == newest.as_ref());
        let snapshots = found.into_iter().map(|orphan| orphan.snapshot).collect();
        let nothing = Instance::default();
        Ok(self.with_devices(snapshots, instance.unwrap_or(&nothing)))
    }

    /// Ids of the snapshots that a run has made, as the case's log has them.
    ///
    /// # Errors
    ///
    /// [`Error::Custody`].
    pub fn made_by(&self, run: &str) -> Result<BTreeSet<String>> {
        let made = self.logged()?.made;
        Ok(made.into_iter().filter(|(_, by)| by == run).map(|(id, _)| id).collect())
    }

    fn logged(&self) -> Result<Logged> {
        let Logged { mut made, mut kept, mut runs } = Logged::default();
        // By the number of its entry: the run that began each act.
        let mut begun: BTreeMap<u64, String> = BTreeMap::new();
        for entry in self.case.log().read()?.entries {
            if entry.kind == EntryType::ACQUIRE_START
                && let (Some(_), Some(run)) = (entry.how_text(ACT), entry.how_text("run"))
            {
                runs.insert(run.to_owned());
                begun.insert(entry.seq, run.to_owned());
            }
            if entry.kind != EntryType::ACQUIRE_END {
                continue;
            }
            let ids = entry.about.result.get(SNAPSHOTS).and_then(Value::as_array);
            let ids = ids.into_iter().flatten().filter_map(Value::as_str);
            let run = entry.about.refs.iter().find_map(|seq| begun.get(seq)).cloned().unwrap_or_default();
            made.extend(ids.map(|id| (id.to_owned(), run.clone())));
            if let Some(id) = entry.about.result.get("kept").and_then(Value::as_str) {
                kept.insert(id.to_owned());
            }
        }
        Ok(Logged { made, kept, runs })
    }

    fn log_begin(&self, act: &str, about: impl FnOnce(NewEntry) -> NewEntry) -> Result<u64> {
        let entry = NewEntry::new(EntryType::ACQUIRE_START)
            .how(ACT, act)
            .how("account", self.account.as_str())
            .how("region", self.connection.region())
            .how("run", self.run.as_str());
        self.append(about(entry))
    }

    fn log_end(&self, begun: u64, about: impl FnOnce(NewEntry) -> NewEntry) -> Result<()> {
        self.append(about(NewEntry::new(EntryType::ACQUIRE_END)).refers_to(begun))?;
        Ok(())
    }

    fn append(&self, entry: NewEntry) -> Result<u64> {
        Ok(self.case.append(entry, self.writer)?.seq)
    }
}

/// What the case's log says of snapshots.
#[derive(Debug, Default)]
struct Logged {
    /// Those that were made, with their run.
    made: BTreeMap<String, String>,
    /// Those that were kept on purpose.
    kept: BTreeSet<String>,
    /// Runs that began an act.
    runs: BTreeSet<String>,
}

/// The tags of what a run makes of a target.
pub(super) fn tags_for(case: &str, run: &str, target: &Target) -> Vec<Tag> {
    [(TAG_CASE, case), (TAG_MADE_BY, MADE_BY), (TAG_RUN, run), (TAG_TARGET, target.id())]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .to_vec()
}

fn of_tags(tags: &[Tag]) -> Value {
    let tags: Map<String, Value> = tags.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
    Value::Object(tags)
}

/// Whether a request may have been carried out though no good answer came.
fn is_unknown(kind: FailureKind) -> bool {
    matches!(
        kind,
        FailureKind::Connection | FailureKind::Server | FailureKind::Corrupt | FailureKind::Throttled
    )
}

fn missing(act: &str, volume: &str) -> Error {
    let words = format!("no snapshot was made of {volume}");
    Failure::found(act, FailureKind::Corrupt, words).into()
}
