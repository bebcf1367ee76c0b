//! `exhibit acquire ebs vol-…|i-…`: snapshots are made, read, verified where they were written, and deleted again.

use std::sync::atomic::{AtomicBool, Ordering};

use acquire::aws::Connection;
use acquire::aws::ec2::{Ec2, Instance, Lock, LockMode};
use acquire::blocks::Limits;
use acquire::ebs::{
    Deletion, EbsSnapshot, Estimate, InstanceFacts, OneRun, OwnSnapshot, OwnSnapshots, PRICE_REGION, Target,
};
use acquire::{Acquisition, Capture, OpenAcquisition, Report};
use clap::ValueEnum;
use custody::bundle::{Bundle, RemotePlace};
use custody::verify::Verification;
use custody::{Case, CustodyLog, Exhibit, Writer};
use serde_json::{Map, Value, json};

use super::{
    Into, acquire_into, end_one_sealed, permissions, resume_into, seal_in_case_once, show_with, verify_after,
};
use crate::failure::{Failure, Outcome};
use crate::interrupt;
use crate::progress_bar::{Bars, Unit};
use crate::session::Session;
use crate::target;

/// What is asked only where snapshots are made.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct LiveArgs {
    /// Keep the snapshots that are made; else each is deleted once its exhibit was read back and verified
    #[arg(long, help_heading = "Volumes and instances")]
    keep_snapshot: bool,
    /// Lock the snapshots that are made, so that nobody can delete them; they are kept
    #[arg(long, value_name = "MODE", value_enum, help_heading = "Volumes and instances")]
    lock_snapshot: Option<LockName>,
    /// Days that this lock holds
    #[arg(long, value_name = "DAYS", default_value_t = 7, requires = "lock_snapshot",
          value_parser = clap::value_parser!(u32).range(1..=36_500), help_heading = "Volumes and instances")]
    lock_snapshot_days: u32,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LockName {
    /// Who may unlock snapshots can end it
    Governance,
    /// Nobody can end it before its time
    Compliance,
}

impl LiveArgs {
    fn lock(&self) -> Option<Lock> {
        let mode = match self.lock_snapshot? {
            LockName::Governance => LockMode::Governance,
            LockName::Compliance => LockMode::Compliance,
        };
        Some(Lock { mode, days: self.lock_snapshot_days })
    }
}

/// What is acquired, and how.
pub(super) struct Live<'a> {
    pub(super) target: Target,
    pub(super) connection: Connection,
    pub(super) limits: Limits,
    pub(super) resumes: bool,
    pub(super) args: &'a LiveArgs,
    pub(super) into: &'a Into,
    pub(super) session: &'a Session,
}

/// The target, as EC2 has it.
enum Found {
    Volume(acquire::aws::ec2::Volume),
    Instance(Box<Instance>),
}

impl Live<'_> {
    /// Says which permissions are missing and how much there is at most; makes nothing.
    pub(super) fn dry_run(&self) -> Result<Outcome, Failure> {
        let (ui, case) = (self.session.ui, target::open_case(&self.into.case)?);
        let found = self.find()?;
        let permissions = permissions::ask(
            &self.connection,
            &self.target,
            &case.file().id,
            self.args.lock_snapshot.is_some(),
        )?;
        let volumes: Vec<String> = match &found {
            Found::Volume(volume) => vec![volume.id.clone()],
            Found::Instance(instance) => {
                instance.devices.iter().map(|device| device.volume.clone()).collect()
            }
        };
        let ids: Vec<&str> = volumes.iter().map(String::as_str).collect();
        let volumes = Ec2::new(&self.connection).and_then(|ec2| ec2.describe_volumes(&ids));
        let volumes = volumes.map_err(acquire::Error::from)?.value;
        let gib: u64 = volumes.iter().map(|volume| volume.gib).sum();
        let most = Estimate::at_most(gib.saturating_mul(1 << 30), self.limits.requests_per_second);
        let dollars = most.nano_dollars as f64 / 1e9;
        if ui.is_json() {
            let volumes: Vec<Value> =
                volumes.iter().map(|volume| json!({"volume": volume.id, "gib": volume.gib})).collect();
            ui.document(&json!({
                "target": self.target.id(), "volumes": volumes, "blocks_at_most": most.blocks,
                "seconds_at_most": most.seconds, "dollars_at_most": dollars, "price_region": PRICE_REGION,
                "permissions": permissions::document(&permissions),
            }))?;
        } else {
            for volume in &volumes {
                ui.say(&format!("{}: {} GiB", volume.id, volume.gib));
            }
            ui.say(&format!(
                "{} blocks at most; how many are written is known once a snapshot is made",
                most.blocks
            ));
            ui.say(&format!(
                "time: {:.1} minutes at most at {} blocks a second, after the snapshot is complete",
                most.seconds as f64 / 60.0,
                self.limits.requests_per_second
            ));
            ui.say(&format!(
                "cost: ${dollars:.4} at most for requests, at the prices of {PRICE_REGION} as a sample; the snapshot's own storage is not in it"
            ));
            permissions::say(&permissions, ui);
        }
        Ok(if permissions::are_there(&permissions) { Outcome::Done } else { Outcome::WithIssues })
    }

    /// Acquires.
    pub(super) fn run(&self) -> Result<Outcome, Failure> {
        let ui = self.session.ui;
        let case = target::open_case(&self.into.case)?;
        let key = self.session.key()?;
        let writer = self.session.writer(&key, Some(&case));
        let _alone = self.alone(&case)?;
        let own = OwnSnapshots::begin(&self.connection, &case, &writer)?;
        let found = self.find()?;
        let earlier = self.earlier(&own, &found)?;
        let mut outcome = Outcome::Done;
        if let (Found::Instance(instance), Some(earlier)) = (&found, &earlier) {
            for volume in not_covered(&own, &case, instance, earlier)? {
                ui.warn(&format!(
                    "{volume} of {} is in no exhibit and no snapshot of that run: acquire it by itself, or all anew without --resume",
                    instance.id
                ));
                outcome = Outcome::WithIssues;
            }
        }
        if let Found::Instance(instance) = &found {
            let report = self.facts(instance, &case)?;
            if let Some(report) = report {
                outcome = worse(outcome, super::show(&report, ui)?);
            }
        }
        let mut made = match (earlier, &found) {
            (Some(earlier), _) => earlier,
            (None, Found::Volume(volume)) => vec![own.of_volume(volume)?],
            (None, Found::Instance(instance)) => own.of_instance(instance)?,
        };
        for one in &made {
            ui.say(&format!(
                "{} shows {} as of {}",
                one.snapshot.id, one.snapshot.volume, one.snapshot.started
            ));
        }
        let mut left: Vec<String> = made.iter().map(|one| one.snapshot.id.clone()).collect();
        let place = Place { own: &own, case: &case, writer: &writer };
        let ended = self.each(&place, &mut made, &mut left, &mut outcome);
        let names = format!(
            "{} in the account: {}; the same command with --resume goes on with them",
            if left.len() == 1 {
                "this snapshot of ours is still"
            } else {
                "these snapshots of ours are still"
            },
            left.join(", ")
        );
        ended.map_err(|failure| if left.is_empty() { failure } else { failure.hint(names) })?;
        Ok(outcome)
    }

    /// Keeps other runs from the same target, and this one from theirs.
    fn alone(&self, case: &Case) -> Result<OneRun, Failure> {
        OneRun::take(case, &self.target).map_err(|error| {
            if error.kind() == std::io::ErrorKind::AddrInUse {
                let what = format!(
                    "another run acquires {} for this case at this moment, and its snapshots are not ours to go on with",
                    self.target.id()
                );
                return Failure::new(what).hint("wait for its end; one that was cut short is gone on with by --resume");
            }
            Failure::new(error).hint("whether another run acquires the same at this moment could not be learnt")
        })
    }

    fn find(&self) -> Result<Found, Failure> {
        let ec2 = Ec2::new(&self.connection).map_err(acquire::Error::from)?;
        let found = match &self.target {
            Target::Instance(id) => {
                ec2.describe_instance(id).map(|found| Found::Instance(Box::new(found.value)))
            }
            target => ec2.describe_volume(target.id()).map(|found| Found::Volume(found.value)),
        };
        let found = found.map_err(acquire::Error::from)?;
        if let Found::Instance(instance) = &found
            && instance.devices.is_empty()
        {
            return Err(Failure::usage(format!("{} has no EBS volume", instance.id))
                .hint("its disks are instance stores, which only the instance itself can read"));
        }
        Ok(found)
    }

    /// Names what earlier runs left, and gives what this one goes on with.
    fn earlier(&self, own: &OwnSnapshots<'_>, found: &Found) -> Result<Option<Vec<OwnSnapshot>>, Failure> {
        let ui = self.session.ui;
        let instance = match found {
            Found::Instance(instance) => Some(&**instance),
            Found::Volume(_) => None,
        };
        let earlier = if self.resumes { own.go_on_with(&self.target, instance)? } else { Vec::new() };
        for orphan in own.orphans()? {
            let id = &orphan.snapshot.id;
            if earlier.iter().any(|one| one.snapshot.id == *id) {
                ui.say(&format!("going on with {id}"));
                continue;
            }
            if !orphan.is_of_this_log {
                ui.warn(&format!(
                    "{id} of {} was made for this case by a run that its log does not tell of, perhaps that of a copy of the \
                     case elsewhere: it is left alone",
                    orphan.target
                ));
                continue;
            }
            let unknown = if orphan.is_logged { "" } else { ", which died before it could log it" };
            ui.warn(&format!(
                "{id} of {} is left from an earlier run{unknown}: acquire {} with --resume, or delete it",
                orphan.target, orphan.target
            ));
        }
        if self.resumes && earlier.is_empty() {
            ui.warn("no earlier run left a snapshot of this target: new ones are made");
        }
        Ok(Some(earlier).filter(|earlier| !earlier.is_empty()))
    }

    /// What is known of the instance, as an exhibit of its own; once is enough for runs that go on.
    fn facts(&self, instance: &Instance, case: &Case) -> Result<Option<Report>, Failure> {
        if self.resumes && sealed(case, "cloud-instance", &instance.id)?.is_some() {
            return Ok(None);
        }
        let capture = InstanceFacts::open(&self.connection, &instance.id)?;
        let name = format!("{}-facts", self.into.name.as_deref().unwrap_or(&instance.id));
        acquire_into(self.into, &name, self.session, |to| Acquisition::new(capture, to)).map(Some)
    }

    /// Locks all, then waits for, reads, verifies and deletes one after the other.
    fn each(
        &self,
        place: &Place<'_>,
        made: &mut [OwnSnapshot],
        left: &mut Vec<String>,
        outcome: &mut Outcome,
    ) -> Result<(), Failure> {
        if let Some(lock) = self.args.lock() {
            for one in made.iter_mut() {
                place.own.lock(one, lock)?;
            }
        }
        let stop = interrupt::pause_flag()?;
        let (mut first, count) = (None, made.len());
        for (number, one) in made.iter_mut().enumerate() {
            match self.one(place, one, &stop) {
                Ok(One { report, state, has_issues }) => {
                    left.retain(|id| *id != one.snapshot.id);
                    if has_issues {
                        *outcome = Outcome::WithIssues;
                    }
                    let more = json!({
                        "snapshot": {
                            "device": one.device, "id": one.snapshot.id, "state": state, "volume": one.snapshot.volume,
                        },
                    });
                    let more = more.as_object().cloned().unwrap_or_else(Map::new);
                    if let Some(report) = report {
                        *outcome = worse(*outcome, show_with(&report, more, self.session.ui)?);
                    }
                }
                Err(failure) if stop.load(Ordering::Relaxed) => return Err(failure),
                // One volume that cannot be had must not cost the others.
                Err(failure) => {
                    if number + 1 < count {
                        self.session.ui.warn(&format!("{}: {}", one.snapshot.id, failure.words()));
                    }
                    first.get_or_insert(failure);
                }
            }
        }
        first.map_or(Ok(()), Err)
    }

    /// Waits for, reads, verifies and deletes one.
    fn one(&self, place: &Place<'_>, one: &mut OwnSnapshot, stop: &AtomicBool) -> Result<One, Failure> {
        let bars = Bars::new(self.session.ui, Unit::Time);
        place.own.wait(one, &bars, stop)?;
        drop(bars);
        let (report, exhibit) = self.read(place, one)?;
        let unreadable = unreadable_bytes(&exhibit)?;
        let read_back = if self.reads_back(&exhibit)? {
            let Place { case, writer, .. } = place;
            let verification = verify_after(case, &exhibit, writer, self.into, self.session);
            Some(verification.map_err(|failure| {
                failure.hint("its snapshot is kept; move the exhibit aside and acquire it anew")
            })?)
        } else {
            None
        };
        let state = self.dispose(place.own, one, unreadable, read_back.as_ref())?;
        Ok(One { report, state, has_issues: unreadable > 0 })
    }

    /// Reads one snapshot into its exhibit; without a report if an earlier run has done so.
    fn read(&self, place: &Place<'_>, one: &OwnSnapshot) -> Result<(Option<Report>, Exhibit), Failure> {
        let (case, id) = (place.case, &one.snapshot.id);
        if self.resumes
            && let Some(exhibit) = sealed(case, "ebs", id)?
        {
            self.session.ui.say(&format!("{id} is exhibit {} already", exhibit.id));
            return Ok((self.end(place, &exhibit)?, exhibit));
        }
        let capture = EbsSnapshot::open(&self.connection, id)?.limits(self.limits).described();
        let facts = capture.facts();
        let name = match (&self.into.name, &self.target) {
            (None, target) => one.exhibit_name(target),
            (Some(name), Target::Instance(id)) => one.exhibit_name(&self.target).replacen(id, name, 1),
            (Some(name), _) => name.clone(),
        };
        // It is read back where it is known what follows from that.
        let into = Into { verify_after: false, name: Some(name.clone()), ..self.into.clone() };
        let plan = |to| Acquisition::new(capture, to);
        let report = if self.resumes {
            resume_into(&into, &name, self.session, &facts, plan)?
        } else {
            acquire_into(&into, &name, self.session, plan)?
        };
        let exhibit = case.exhibits()?.into_iter().find(|exhibit| exhibit.folder == report.bundle);
        let exhibit = exhibit
            .ok_or_else(|| Failure::new(format!("{} is no exhibit of the case", report.bundle.display())))?;
        Ok((Some(report), exhibit))
    }

    /// Does what a run that was cut short after the seal did not: its evidence store gets what it lacks, the case's log vouches.
    fn end(&self, place: &Place<'_>, exhibit: &Exhibit) -> Result<Option<Report>, Failure> {
        let Place { case, writer, .. } = place;
        if OpenAcquisition::sealed_in_part(&exhibit.folder)?.is_some() {
            return end_one_sealed(self.into, self.session, case, exhibit, writer);
        }
        // It may have been killed between the seal and the checkpoint that signs it.
        CustodyLog::open(&exhibit.folder)?.record_tail(&Writer::clone(writer).for_exhibit(&exhibit.id))?;
        seal_in_case_once(case, exhibit, Bundle::open(&exhibit.folder)?.manifest_sha256(), writer)?;
        Ok(None)
    }

    /// Whether what was written is read back: always here; in an evidence store only if asked, as its writer may not be allowed to.
    fn reads_back(&self, exhibit: &Exhibit) -> Result<bool, Failure> {
        Ok(self.into.verify_after || RemotePlace::read(&exhibit.folder)?.is_none())
    }

    /// Deletes the snapshot, or says why it stays.
    fn dispose(
        &self,
        own: &OwnSnapshots<'_>,
        one: &OwnSnapshot,
        unreadable: u64,
        read_back: Option<&Verification>,
    ) -> Result<&'static str, Failure> {
        let (ui, id) = (self.session.ui, &one.snapshot.id);
        let keep = |why: &str| -> Result<&'static str, Failure> {
            own.keep(one, why)?;
            ui.say(&format!("{id} is kept: {why}"));
            Ok("kept")
        };
        if unreadable > 0 {
            return keep(&format!(
                "{unreadable} bytes of it could not be read: acquire it again before deleting it"
            ));
        }
        if let Some(lock) = &one.lock {
            return keep(&format!("it is locked ({}) until {}", lock.state, lock.expires));
        }
        if self.args.keep_snapshot {
            return keep("--keep-snapshot");
        }
        let Some(read_back) = read_back else {
            return keep(
                "what --to puts is read back with --verify-after only; verify the bundle in its store, then delete it",
            );
        };
        if read_back.ciphertext_only {
            return keep(
                "its exhibit is encrypted, and what is inside could not be checked here; verify it where the key is, then delete it",
            );
        }
        if read_back.data_not_read {
            return keep(
                "the data of its exhibit could not be read back here; verify the bundle in its store, then delete it",
            );
        }
        match own.delete(one)? {
            Deletion::Deleted => {
                ui.say(&format!("{id} is deleted: its exhibit was read back and verified"));
                Ok("deleted")
            }
            Deletion::Gone => {
                ui.warn(&format!("{id} is gone already, and not by this run"));
                Ok("gone")
            }
            Deletion::Kept(why) => keep(&why),
        }
    }
}

/// Where snapshots are made and logged.
struct Place<'a> {
    own: &'a OwnSnapshots<'a>,
    case: &'a Case,
    writer: &'a Writer<'a>,
}

/// What became of one snapshot.
struct One {
    /// Of this run, if it was this one that read it.
    report: Option<Report>,
    state: &'static str,
    has_issues: bool,
}

/// Volumes of an instance that neither an earlier run's snapshots show nor its sealed exhibits hold.
fn not_covered(
    own: &OwnSnapshots<'_>,
    case: &Case,
    instance: &Instance,
    earlier: &[OwnSnapshot],
) -> Result<Vec<String>, Failure> {
    let Some(run) = earlier.first().map(|one| one.run.as_str()) else { return Ok(Vec::new()) };
    let made = own.made_by(run)?;
    let mut covered: Vec<String> = earlier.iter().map(|one| one.snapshot.volume.clone()).collect();
    for exhibit in case.exhibits()? {
        // One that is open, or cannot be read, covers nothing.
        let Ok(bundle) = Bundle::open(&exhibit.folder) else { continue };
        let source = &bundle.manifest().source;
        let is_of_run = source.kind == "ebs" && source.path.as_ref().is_some_and(|path| made.contains(path));
        if let Some(volume) = source.more.get("volume").and_then(Value::as_str).filter(|_| is_of_run) {
            covered.push(volume.to_owned());
        }
    }
    let volumes = instance.devices.iter().map(|device| &device.volume);
    Ok(volumes.filter(|volume| !covered.contains(volume)).cloned().collect())
}

/// Bytes of an exhibit that could not be read from its source.
fn unreadable_bytes(exhibit: &Exhibit) -> Result<u64, Failure> {
    let bundle = Bundle::open(&exhibit.folder)?;
    Ok(bundle.manifest().streams.iter().fold(0, |all, stream| all.saturating_add(stream.states.unreadable)))
}

/// The sealed exhibit of this source in a case.
fn sealed(case: &Case, kind: &str, path: &str) -> Result<Option<Exhibit>, Failure> {
    for exhibit in case.exhibits()? {
        // One that is open, or cannot be read, is none.
        let Ok(bundle) = Bundle::open(&exhibit.folder) else { continue };
        let source = &bundle.manifest().source;
        if source.kind == kind && source.path.as_deref() == Some(path) {
            return Ok(Some(exhibit));
        }
    }
    Ok(None)
}

fn worse(one: Outcome, other: Outcome) -> Outcome {
    if one == Outcome::Done { other } else { one }
}
