//! The sessions of an IAM role, revoked: whatever was issued before a moment is refused, whatever is issued later is not.
//!
//! - Made: a policy of the role's own that denies everything to sessions whose `aws:TokenIssueTime` is before the moment at
//!   which this was recorded, in UTC.
//! - Who is hit: every user of the role, on every instance and of every person. There is no way to hit one session alone.
//! - Verified: IAM gives the very policy back. It is not tried, since nobody here has such a session.
//! - Taken back: the policy is deleted, if it is still the one that was put there.
//! - Reference: IAM User Guide, "Revoke IAM role temporary security credentials".

use acquire::aws::iam::Iam;
use acquire::aws::sts::Sts;
use acquire::aws::{Connection, FailureKind};
use custody::clock::{Clock, SystemClock, rfc3339};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Isolation, Restored, Verified, connection, lease_end, read_back, refused, written};
use crate::steps::{Context, Failed};

/// The sessions of one role.
pub struct IamSessions<'a> {
    iam: Iam,
    sts: Sts,
    mark: String,
    role: String,
    lease: u64,
    clock: &'a dyn Clock,
}

/// What stands in the log.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Recorded {
    platform: String,
    mark: String,
    role: String,
    policy: String,
    /// Sessions issued before this are refused.
    issued_before: String,
    /// Policies of its own that the role had.
    policies: Vec<String>,
    until: String,
    warnings: Vec<String>,
}

impl<'a> IamSessions<'a> {
    /// A role of the account of a connection, by name or ARN.
    ///
    /// # Errors
    ///
    /// [`Failed`] for what is neither.
    pub fn new(
        connection: &Connection,
        mark: &str,
        role: &str,
        lease: u64,
        clock: &'a dyn Clock,
    ) -> Result<Self, Failed> {
        let role =
            role_name(role).ok_or_else(|| Failed::for_good(format!("{role:?} is no role's name or ARN")))?;
        let iam = Iam::new(connection).map_err(|failure| refused(&failure))?;
        let sts = Sts::new(connection).map_err(|failure| refused(&failure))?;
        Ok(Self { iam, sts, mark: mark.to_owned(), role: role.to_owned(), lease, clock })
    }

    fn policies(&self) -> Result<Vec<String>, Failed> {
        let mut names = self.iam.own_policies(&self.role).map_err(|failure| refused(&failure))?.value;
        names.sort();
        Ok(names)
    }

    /// The policy as IAM has it; `None` if there is none.
    fn document(&self, recorded: &Recorded) -> Result<Option<Value>, Failed> {
        match self.iam.own_policy_document(&recorded.role, &recorded.policy) {
            Ok(document) => Ok(Some(document)),
            Err(failure) if failure.kind == FailureKind::NotFound => Ok(None),
            Err(failure) => Err(refused(&failure)),
        }
    }
}

impl Isolation for IamSessions<'_> {
    fn subject(&self) -> String {
        format!("sessions of role {}", self.role)
    }

    fn record(&self) -> Result<Value, Failed> {
        let policies = self.policies()?;
        let policy = format!("exhibit-{}", self.mark);
        if policies.contains(&policy) {
            return Err(Failed::for_good(format!("role {} has a policy {policy} already", self.role)));
        }
        // Our own session would be the first that is refused, and could not take it back.
        let us = self.sts.caller_identity().map_err(|failure| refused(&failure))?.value.policy_arn();
        if us.contains(":role/") && role_name(&us) == Some(&self.role) {
            return Err(Failed::for_good(format!("{} is the role of this service itself", self.role)));
        }
        let now = self.clock.now();
        let mut warnings =
            vec![format!("every session of {} is refused, on all instances and of all people", self.role)];
        if now.sync.is_none() {
            warnings.push(
                "it is not known whether this clock is right: the moment is as good as it is".to_owned(),
            );
        }
        written(&Recorded {
            platform: "aws iam role sessions".to_owned(),
            mark: self.mark.clone(),
            role: self.role.clone(),
            policy,
            issued_before: next_second(now.wall_ns),
            policies,
            until: lease_end(self.clock, self.lease),
            warnings,
        })
    }

    fn apply(&self, recorded: &Value) -> Result<Value, Failed> {
        let recorded: Recorded = read_back(recorded)?;
        let wanted = policy(&recorded.issued_before);
        if self.document(&recorded)?.as_ref() != Some(&wanted) {
            self.iam
                .put_own_policy(&recorded.role, &recorded.policy, &wanted)
                .map_err(|failure| refused(&failure))?;
        }
        Ok(json!({ "policy": recorded.policy, "document": wanted }))
    }

    fn verify(&self, recorded: &Value) -> Result<Verified, Failed> {
        let recorded: Recorded = read_back(recorded)?;
        if self.document(&recorded)? != Some(policy(&recorded.issued_before)) {
            return Err(Failed::for_now(format!(
                "IAM does not give the policy of {} back as it was put",
                recorded.role
            )));
        }
        let said = format!(
            "IAM denies everything to sessions of {} from before {}",
            recorded.role, recorded.issued_before
        );
        Ok(Verified {
            read_back: vec![said],
            not_tried: vec!["a request of an older session: none is known here".to_owned()],
            ..Verified::default()
        })
    }

    fn rollback(&self, recorded: &Value) -> Result<Restored, Failed> {
        let recorded: Recorded = read_back(recorded)?;
        let mut restored = Restored::default();
        match self.document(&recorded)? {
            None => restored.notes.push("the policy was not there".to_owned()),
            Some(there) if there == policy(&recorded.issued_before) => {
                self.iam
                    .delete_own_policy(&recorded.role, &recorded.policy)
                    .map_err(|failure| refused(&failure))?;
            }
            Some(_) => {
                restored
                    .differences
                    .push(format!("the policy {} was changed by others, and left", recorded.policy));
            }
        }
        let now = self.policies()?;
        for name in now.iter().filter(|name| **name != recorded.policy && !recorded.policies.contains(name)) {
            restored.differences.push(format!("the role has a policy {name} that it had not before"));
        }
        for name in recorded.policies.iter().filter(|name| !now.contains(name)) {
            restored.differences.push(format!("the role has its policy {name} no more"));
        }
        if restored.is_exact() && now != recorded.policies {
            return Err(Failed::for_now(format!(
                "the policy {} is there after it was deleted",
                recorded.policy
            )));
        }
        Ok(restored)
    }
}

/// The policy that refuses older sessions.
fn policy(issued_before: &str) -> Value {
    json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Sid": "ExhibitRevokesOlderSessions",
            "Effect": "Deny",
            "Action": ["*"],
            "Resource": ["*"],
            "Condition": { "DateLessThan": { "aws:TokenIssueTime": issued_before } },
        }],
    })
}

/// The next whole second in UTC: a session of this very second is an older one.
fn next_second(wall_ns: i64) -> String {
    let second = wall_ns.div_euclid(1_000_000_000).saturating_add(1).saturating_mul(1_000_000_000);
    rfc3339(second).replace(".000000000Z", "Z")
}

/// The name of a role, from the name itself or its ARN.
fn role_name(text: &str) -> Option<&str> {
    let name = match text.strip_prefix("arn:") {
        Some(rest) => rest.split_once(":role/")?.1.rsplit('/').next()?,
        None => text,
    };
    let is_name = (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_+=,.@-".contains(&byte));
    is_name.then_some(name)
}

/// The role of this context.
pub(crate) fn of(context: &Context<'_>) -> Result<Box<dyn Isolation>, Failed> {
    let mark = super::mark(context.job, context.id)?;
    Ok(Box::new(IamSessions::new(
        &connection(context)?,
        &mark,
        &context.asset.id,
        context.lease,
        &SystemClock,
    )?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_moment_is_in_utc_and_after_all_that_was_issued() {
        assert_eq!(next_second(1_795_224_600_123_456_789), "2026-11-21T01:30:01Z");
        assert_eq!(next_second(1_795_224_600_000_000_000), "2026-11-21T01:30:01Z");
    }

    #[test]
    fn a_role_is_known_by_its_name_and_by_its_arn() {
        assert_eq!(role_name("web"), Some("web"));
        assert_eq!(role_name("arn:aws:iam::123456789012:role/a/b/web"), Some("web"));
        for bad in ["", "a b", "arn:aws:iam::1:user/x", "a/b", "x&Action=Delete", &"x".repeat(65)] {
            assert_eq!(role_name(bad), None, "{bad}");
        }
    }
}
