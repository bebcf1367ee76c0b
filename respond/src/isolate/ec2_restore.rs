//! An EC2 instance let back, part by part: groups, addresses, role, then our own groups.
//!
//! What is gone meanwhile, the instance itself above all, is told as a difference, and never keeps the other parts from being
//! put back. A part that fails does not either; it is told at the end, and the whole may be tried again.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use acquire::aws::{Failure, FailureKind};

use super::ec2_groups::{Ec2Groups, Recorded, WasInterface};
use super::{Restored, refused};
use crate::steps::Failed;

/// How often a group that EC2 says is still in use is tried to be deleted, and how long between.
const DELETE_TRIES: u32 = 6;
const DELETE_WAIT: Duration = Duration::from_secs(3);

impl Ec2Groups<'_> {
    /// Takes everything back that [`super::Isolation::apply`] did.
    pub(super) fn restore(&self, recorded: &Recorded) -> Result<Restored, Failed> {
        let mut restored = Restored::default();
        let mut failures = Failures::default();
        let holder = self.holder(&self.interfaces()?)?.filter(|mark| *mark != recorded.mark);
        let kept = self.give_back_groups(recorded, &mut restored);
        match holder {
            // What it has taken away is not ours to give back.
            Some(other) => restored.differences.push(format!(
                "{} is isolated by {other} now: its addresses and its role were left as they are",
                recorded.instance
            )),
            None => {
                failures.take(self.give_back_addresses(recorded, &mut restored));
                failures.take(self.give_back_profile(recorded, &mut restored));
            }
        }
        match kept {
            Ok(kept) => failures.take(self.delete_groups(&kept, &mut restored)),
            // Ours are in use still.
            Err(failed) => failures.take(Err(failed)),
        }
        failures.end()?;
        // Whatever was set, EC2 must now say so itself.
        let now = self.interfaces()?;
        for was in &recorded.interfaces {
            let told = restored.differences.iter().any(|difference| difference.starts_with(&was.id));
            if !told && now.get(&was.id).is_none_or(|now| now.groups != was.groups) {
                return Err(Failed::for_now(format!("{} has not its groups again", was.id)));
            }
        }
        Ok(restored)
    }

    /// Gives which of our groups stay in use, since an interface could not be let out of them.
    fn give_back_groups(
        &self,
        recorded: &Recorded,
        restored: &mut Restored,
    ) -> Result<BTreeSet<String>, Failed> {
        let ours: BTreeSet<String> = self.ours()?.into_values().collect();
        let now = self.interfaces()?;
        let (mut kept, mut failures) = (BTreeSet::new(), Failures::default());
        for was in &recorded.interfaces {
            let Some(is) = now.get(&was.id) else {
                restored.differences.push(format!("{} is no longer with {}", was.id, recorded.instance));
                continue;
            };
            if is.groups == was.groups {
                continue;
            }
            if is.groups.iter().all(|group| ours.contains(group)) {
                match self.give_back_groups_of(was, restored) {
                    Ok(true) => {}
                    Ok(false) => kept.extend(is.groups.iter().cloned()),
                    Err(failed) => failures.take(Err(failed)),
                }
            } else {
                // Somebody else has changed them since: which of the two is right is not ours to say.
                let (is_groups, was_groups) = (is.groups.join(" "), was.groups.join(" "));
                restored.differences.push(format!(
                    "{} has the groups {is_groups}, set by others; before the isolation it had {was_groups}",
                    was.id
                ));
                kept.extend(is.groups.iter().filter(|group| ours.contains(*group)).cloned());
            }
        }
        for id in now.keys().filter(|id| !recorded.interfaces.iter().any(|was| was.id == **id)) {
            restored.differences.push(format!("{id} was added to {} by others", recorded.instance));
        }
        failures.end()?;
        Ok(kept)
    }

    /// The groups of one interface, those that there still are. Gives whether it was let out of ours.
    fn give_back_groups_of(&self, was: &WasInterface, restored: &mut Restored) -> Result<bool, Failed> {
        let groups: Vec<&str> = was.groups.iter().map(String::as_str).collect();
        match self.ec2.set_interface_groups(&was.id, &groups) {
            Ok(()) => return Ok(true),
            Err(failure) if failure.kind == FailureKind::NotFound => {}
            Err(failure) => return Err(refused(&failure)),
        }
        let there = self.ec2.security_groups_of(&groups).map_err(|failure| refused(&failure))?.value;
        let (left, gone): (Vec<&str>, Vec<&str>) =
            groups.iter().copied().partition(|id| there.iter().any(|group| group.id == **id));
        if gone.is_empty() {
            restored.differences.push(format!("{} was deleted by others", was.id));
            return Ok(true);
        }
        let gone = gone.join(" ");
        if left.is_empty() {
            restored.differences.push(format!(
                "{} is cut off still: every group that it had ({gone}) was deleted by others, and EC2 wants one: give it another",
                was.id
            ));
            return Ok(false);
        }
        self.ec2.set_interface_groups(&was.id, &left).map_err(|failure| refused(&failure))?;
        restored.differences.push(format!(
            "{} has only {} of its groups again: {gone} was deleted by others",
            was.id,
            left.join(" ")
        ));
        Ok(true)
    }

    fn give_back_addresses(&self, recorded: &Recorded, restored: &mut Restored) -> Result<(), Failed> {
        let mut failures = Failures::default();
        for was in &recorded.addresses {
            let now = match self.ec2.address(&was.allocation) {
                Ok(found) => found.value,
                Err(failure) if failure.kind == FailureKind::NotFound => {
                    restored.differences.push(format!("{} was given back by others", was.public_ip));
                    continue;
                }
                Err(failure) => {
                    failures.take(Err(refused(&failure)));
                    continue;
                }
            };
            if now.interface == was.interface && now.private_ip == was.private_ip {
                continue;
            }
            if !now.association.is_empty() || !recorded.takes_addresses {
                let at = if now.interface.is_empty() { "nobody" } else { &now.interface };
                restored.differences.push(format!("{} is with {at} now, by others", was.public_ip));
                continue;
            }
            match self.ec2.associate_address(&was.allocation, &was.interface, &was.private_ip) {
                Ok(()) => {}
                Err(failure) if failure.kind == FailureKind::NotFound => {
                    restored.differences.push(format!(
                        "{} is with nobody: {} or the address was deleted by others",
                        was.public_ip, was.interface
                    ));
                }
                Err(failure) => failures.take(Err(refused(&failure))),
            }
        }
        match self.addresses(recorded) {
            Ok(now) => {
                let is_new = |now: &&acquire::aws::ec2::Address| {
                    !recorded.addresses.iter().any(|was| was.allocation == now.allocation)
                };
                for new in now.iter().filter(is_new) {
                    restored
                        .differences
                        .push(format!("{} was given to {} by others", new.public_ip, new.interface));
                }
            }
            Err(failed) => failures.take(Err(failed)),
        }
        failures.end()
    }

    fn give_back_profile(&self, recorded: &Recorded, restored: &mut Restored) -> Result<(), Failed> {
        let now = self.ec2.profile_of(&recorded.instance).map_err(|failure| refused(&failure))?.value;
        let takes = recorded.takes_profile && !recorded.profile.is_empty();
        if takes && now.as_ref().is_some_and(acquire::aws::ec2::ProfileAssociation::is_going) {
            return Err(Failed::for_now(format!(
                "the role of {} is still being taken away, and EC2 takes no other until then",
                recorded.instance
            )));
        }
        let now = now.filter(|now| !now.is_going()).map(|now| now.profile).unwrap_or_default();
        if now == recorded.profile {
            return Ok(());
        }
        if !now.is_empty() || !takes {
            let (now, was) = (or_none(&now), or_none(&recorded.profile));
            restored
                .differences
                .push(format!("the role is {now}, set by others; before the isolation it was {was}"));
            return Ok(());
        }
        if self.is_gone(&recorded.instance)? {
            restored.differences.push(format!("{} was terminated, and has no role", recorded.instance));
            return Ok(());
        }
        match self.ec2.associate_profile(&recorded.instance, &recorded.profile) {
            Ok(()) => Ok(()),
            // So EC2 says that there is no such profile any more.
            Err(failure)
                if failure.kind == FailureKind::NotFound || failure.code == "InvalidParameterValue" =>
            {
                restored
                    .differences
                    .push(format!("the role {} could not be given back: {failure}", recorded.profile));
                Ok(())
            }
            // It is changing: a moment later it may be so far.
            Err(failure) if failure.code.starts_with("Incorrect") => {
                Err(Failed::for_now(failure.to_string()))
            }
            Err(failure) => Err(refused(&failure)),
        }
    }

    fn is_gone(&self, instance: &str) -> Result<bool, Failed> {
        match self.ec2.describe_instance(instance) {
            Ok(found) => Ok(matches!(found.value.state.as_str(), "terminated" | "shutting-down")),
            Err(failure) if failure.kind == FailureKind::NotFound => Ok(true),
            Err(failure) => Err(refused(&failure)),
        }
    }

    fn delete_groups(&self, kept: &BTreeSet<String>, restored: &mut Restored) -> Result<(), Failed> {
        let mut failures = Failures::default();
        for ((vpc, role), id) in self.ours()? {
            let mut tries = 0;
            loop {
                tries += 1;
                match self.ec2.delete_security_group(&id) {
                    Ok(()) => break,
                    Err(failure) if failure.kind == FailureKind::NotFound => break,
                    // EC2 takes a while to see that an interface has other groups.
                    Err(failure) if is_in_use(&failure) && tries < DELETE_TRIES && !kept.contains(&id) => {
                        thread::sleep(DELETE_WAIT);
                    }
                    Err(failure) if is_in_use(&failure) => {
                        restored
                            .differences
                            .push(format!("our group {id} ({role} of {vpc}) is in use still, and was left"));
                        break;
                    }
                    Err(failure) => {
                        failures.take(Err(refused(&failure)));
                        break;
                    }
                }
            }
        }
        failures.end()
    }
}

/// What failed, while the rest went on.
#[derive(Default)]
struct Failures(Vec<Failed>);

impl Failures {
    fn take(&mut self, result: Result<(), Failed>) {
        self.0.extend(result.err());
    }

    fn end(self) -> Result<(), Failed> {
        if self.0.is_empty() {
            return Ok(());
        }
        let what: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        Err(Failed {
            what: what.join("; "),
            may_help_again: self.0.iter().any(|failed| failed.may_help_again),
        })
    }
}

fn or_none(text: &str) -> &str {
    if text.is_empty() { "none" } else { text }
}

fn is_in_use(failure: &Failure) -> bool {
    matches!(failure.code.as_str(), "DependencyViolation" | "InvalidGroup.InUse")
}
