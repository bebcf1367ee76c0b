//! EC2: making, describing, locking and deleting snapshots.

use super::answer::Answered;
use super::ec2::{Ec2, Tag, tag_specification, tags};
use super::failure::{Failure, FailureKind};
use super::request::{Call, Form};
use super::xml::Element;

/// How far a snapshot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SnapshotState {
    /// It is being made; it cannot be read yet.
    Pending,
    /// It can be read.
    Completed,
    /// It could not be made.
    Error,
    /// It is archived, or in a state that we do not know.
    Other,
}

/// A snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// `snap-…`
    pub id: String,
    /// The volume it is of.
    pub volume: String,
    /// The account that it is in.
    pub owner: String,
    /// How far it is.
    pub state: SnapshotState,
    /// The same, as the service says it, with its reason.
    pub state_words: String,
    /// Percent that are made.
    pub progress: u8,
    /// When it was begun, RFC 3339: the point in time that it shows.
    pub started: String,
    /// Size of its volume in GiB.
    pub gib: u64,
    /// The key that it is encrypted with.
    pub kms_key: Option<String>,
    /// Whether it is encrypted.
    pub is_encrypted: bool,
    /// Tags.
    pub tags: Vec<Tag>,
}

impl Snapshot {
    /// The value of a tag.
    #[must_use]
    pub fn tag(&self, key: &str) -> Option<&str> {
        self.tags.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }
}

/// How hard a lock is (AWS: "Amazon EBS snapshot lock").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LockMode {
    /// Who has `ec2:UnlockSnapshot` can undo it.
    Governance,
    /// Nobody can undo it before its end.
    Compliance,
}

impl LockMode {
    /// The word of the API.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Governance => "governance",
            Self::Compliance => "compliance",
        }
    }
}

/// A lock that is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lock {
    /// How hard.
    pub mode: LockMode,
    /// For how long: 1 to 36,500 days.
    pub days: u32,
}

/// What a lock has become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockState {
    /// The snapshot.
    pub snapshot: String,
    /// `governance`, `compliance`, `compliance-cooloff` or `expired`.
    pub state: String,
    /// When it ends, RFC 3339; empty while it is not known.
    pub expires: String,
}

impl LockState {
    /// Whether it still holds.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.state != "expired"
    }
}

impl Ec2 {
    /// Begins snapshots of all volumes of an instance at one point in time, with their tags on them from the start.
    ///
    /// # Errors
    ///
    /// [`Failure`]. After [`FailureKind::Connection`] it is not known whether they were made: look for the tags.
    pub fn create_snapshots(
        &self,
        instance: &str,
        description: &str,
        tags: &[Tag],
    ) -> Result<Answered<Vec<Snapshot>>, Failure> {
        let call = Call::makes("CreateSnapshots", instance);
        let (answer, raw) = self.0.form(&call, of_instance(instance, description, tags))?;
        let value: Vec<Snapshot> = answer.list("snapshotSet").map(snapshot).collect();
        if value.is_empty() || value.iter().any(|made| !made.id.starts_with("snap-")) {
            return Err(self.0.found(&call, FailureKind::Corrupt, "the answer names no snapshot"));
        }
        Ok(Answered { value, raw: vec![raw] })
    }

    /// Begins a snapshot of one volume, with its tags on it from the start.
    ///
    /// # Errors
    ///
    /// As [`Ec2::create_snapshots`].
    pub fn create_snapshot(
        &self,
        volume: &str,
        description: &str,
        tags: &[Tag],
    ) -> Result<Answered<Snapshot>, Failure> {
        let call = Call::makes("CreateSnapshot", volume);
        let (answer, raw) = self.0.form(&call, of_volume(volume, description, tags))?;
        let value = snapshot(&answer);
        if !value.id.starts_with("snap-") {
            return Err(self.0.found(&call, FailureKind::Corrupt, "the answer names no snapshot"));
        }
        Ok(Answered { value, raw: vec![raw] })
    }

    /// Whether [`Ec2::create_snapshots`] may be called: nothing is made.
    pub(crate) fn may_create_snapshots(&self, instance: &str, tags: &[Tag]) -> Result<(), Failure> {
        self.may("CreateSnapshots", instance, of_instance(instance, "", tags))
    }

    /// Whether [`Ec2::create_snapshot`] may be called: nothing is made.
    pub(crate) fn may_create_snapshot(&self, volume: &str, tags: &[Tag]) -> Result<(), Failure> {
        self.may("CreateSnapshot", volume, of_volume(volume, "", tags))
    }

    /// Snapshots by id; those that are not there are not in the answer only if none is.
    ///
    /// # Errors
    ///
    /// [`FailureKind::NotFound`] if one is not there, which for one just made may pass.
    pub fn describe_snapshots(&self, ids: &[&str]) -> Result<Answered<Vec<Snapshot>>, Failure> {
        let form = Form::default().list("SnapshotId", ids.iter().copied());
        let found = self.list("DescribeSnapshots", &ids.join(" "), "snapshotSet", form)?;
        Ok(found.map(|all| all.iter().map(snapshot).collect()))
    }

    /// One snapshot.
    ///
    /// # Errors
    ///
    /// [`FailureKind::NotFound`].
    pub fn describe_snapshot(&self, id: &str) -> Result<Answered<Snapshot>, Failure> {
        let all = self.describe_snapshots(&[id])?;
        self.one("DescribeSnapshots", id, all, |snapshot| &snapshot.id)
    }

    /// The account's own snapshots that have all of these tags.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub fn snapshots_with(&self, tags: &[(&str, &str)]) -> Result<Answered<Vec<Snapshot>>, Failure> {
        let form = Form::default().with("Owner.1", "self");
        let form = (1..).zip(tags).fold(form, |form, (number, (key, value))| {
            form.with(format!("Filter.{number}.Name"), format!("tag:{key}"))
                .with(format!("Filter.{number}.Value.1"), *value)
        });
        let found = self.list("DescribeSnapshots", "", "snapshotSet", form)?;
        // A server that does not filter must not make foreign ones ours.
        let has_all = |found: &Snapshot| tags.iter().all(|(key, value)| found.tag(key) == Some(*value));
        Ok(found.map(|all| all.iter().map(snapshot).filter(has_all).collect()))
    }

    /// Locks a snapshot against deletion; it may be pending still.
    ///
    /// # Errors
    ///
    /// [`FailureKind::Denied`] without `ec2:LockSnapshot`.
    pub fn lock_snapshot(&self, id: &str, lock: Lock) -> Result<Answered<LockState>, Failure> {
        // The same lock again changes nothing but its end, by the seconds between.
        let call = Call::reads("LockSnapshot", id);
        let (answer, raw) = self.0.form(&call, of_lock(id, lock))?;
        let value = lock_state(&answer);
        if value.snapshot != id || value.state.is_empty() {
            return Err(self.0.found(
                &call,
                FailureKind::Corrupt,
                "the answer names no lock of this snapshot",
            ));
        }
        Ok(Answered { value, raw: vec![raw] })
    }

    /// The lock of a snapshot; `None` if it never had one.
    ///
    /// # Errors
    ///
    /// [`FailureKind::Denied`] without `ec2:DescribeLockedSnapshots`.
    pub fn lock_of(&self, id: &str) -> Result<Answered<Option<LockState>>, Failure> {
        let form = Form::default().list("SnapshotId", [id]);
        let found = self.list("DescribeLockedSnapshots", id, "snapshotSet", form)?;
        Ok(found.map(|all| all.iter().map(lock_state).find(|lock| lock.snapshot == id)))
    }

    /// Deletes a snapshot. Whether it may be is for the caller to know.
    ///
    /// # Errors
    ///
    /// [`Failure`]; one that is gone already is [`FailureKind::NotFound`].
    pub(crate) fn delete_snapshot(&self, id: &str) -> Result<(), Failure> {
        self.0.form(&Call::reads("DeleteSnapshot", id), Form::default().with("SnapshotId", id))?;
        Ok(())
    }
}

fn of_instance(instance: &str, description: &str, tags: &[Tag]) -> Form {
    let form =
        Form::default().with("InstanceSpecification.InstanceId", instance).with("Description", description);
    tag_specification(form, 1, "snapshot", tags)
}

fn of_volume(volume: &str, description: &str, tags: &[Tag]) -> Form {
    let form = Form::default().with("VolumeId", volume).with("Description", description);
    tag_specification(form, 1, "snapshot", tags)
}

fn of_lock(id: &str, lock: Lock) -> Form {
    Form::default()
        .with("SnapshotId", id)
        .with("LockMode", lock.mode.word())
        .with("LockDuration", lock.days.to_string())
}

fn lock_state(found: &Element) -> LockState {
    LockState {
        snapshot: found.string(&["snapshotId"]),
        state: found.string(&["lockState"]),
        expires: found.string(&["lockExpiresOn"]),
    }
}

/// CreateSnapshots has the state in `state`, all others in `status`.
fn snapshot(found: &Element) -> Snapshot {
    let state = found.some(&["status"]).or_else(|| found.some(&["state"])).unwrap_or_default();
    let is_archived = found.at(&["storageTier"]) == "archive";
    let message = found.string(&["statusMessage"]);
    let size = found.some(&["volumeSize"]).unwrap_or_default();
    Snapshot {
        id: found.string(&["snapshotId"]),
        volume: found.string(&["volumeId"]),
        owner: found.string(&["ownerId"]),
        state: match state.as_str() {
            _ if is_archived => SnapshotState::Other,
            "pending" => SnapshotState::Pending,
            "completed" => SnapshotState::Completed,
            "error" => SnapshotState::Error,
            _ => SnapshotState::Other,
        },
        state_words: match (is_archived, message.is_empty()) {
            (true, _) => "archived".to_owned(),
            (false, true) => state,
            (false, false) => format!("{state}: {message}"),
        },
        progress: found.at(&["progress"]).trim_end_matches('%').parse().unwrap_or(0).min(100),
        started: found.string(&["startTime"]),
        gib: size.parse().unwrap_or(0),
        kms_key: found.some(&["kmsKeyId"]),
        is_encrypted: found.at(&["encrypted"]) == "true",
        tags: tags(found),
    }
}
