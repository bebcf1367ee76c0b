//! Who we are in each account, and for how long.

use acquire::aws::sts::{RoleToAssume, Sts};
use acquire::aws::{Connection, CredentialsLife, Settings as CloudSettings};
use acquire::aws::{FailureKind, iam::Iam};

use super::check::{Check, Finding, Severity, Status, Unable};
use super::probe::Probe;
use super::settings::RoleSettings;

pub(super) static CHECKS: &[Check] = &[
    Check {
        id: "RD01",
        version: 1,
        severity: Severity::Critical,
        title: "every account in scope can be entered",
        scope: "account",
        tested: "STS GetCallerIdentity; STS AssumeRole of each role in `ready.role`, then GetCallerIdentity with what it gave; \
                 every account in `aws.accounts` must be reached by one of them",
        remediation: "let the service's principal assume the capture role of the account: its trust policy names the \
                      principal, and the external id if there is one; add a [[ready.role]] for accounts that have none",
        prowler: &[],
        seconds: 90,
        drill: None,
        test: accounts,
    },
    Check {
        id: "RD06",
        version: 2,
        severity: Severity::High,
        title: "credentials are valid and will be for two weeks",
        scope: "principal",
        tested: "STS GetCallerIdentity; a session (of a role, or begun with GetSessionToken) must come from a provider that says \
                 when it ends and so renews it: one that stands in the environment or in a file ends within hours or days; of a user, \
                 IAM ListAccessKeys: its keys must be younger than `ready.access_key_days` by two weeks",
        remediation: "make a new access key and remove the old one, or better let the service run in a role that its host, pod or \
                      container gives it",
        prowler: &["iam_rotate_access_key_90_days"],
        seconds: 60,
        drill: None,
        test: credentials,
    },
];

fn accounts(probe: &Probe) -> Result<Vec<Finding>, Unable> {
    let own = probe.caller()?;
    let expected = "GetCallerIdentity answers, and names the account";
    let mut entered = vec![own.value.account.clone()];
    let mut found = vec![
        Finding::of(&own.value.account, true, format!("we are {}", own.value.arn), expected)
            .with_answers(&own.raw),
    ];
    for role in &probe.settings.ready.roles {
        let account = role.arn.split(':').nth(4).unwrap_or_default().to_owned();
        let scope = if account.is_empty() { role.arn.clone() } else { account };
        let inside = match entered_by(probe, role)? {
            Ok(inside) => inside,
            Err((status, why)) => {
                found.push(Finding::new(scope, status, why, expected));
                continue;
            }
        };
        match Sts::new(&inside).and_then(|sts| sts.caller_identity()) {
            Ok(who) => {
                // The role's ARN says the account that is wanted.
                let is_there = scope == who.value.account;
                let seen = format!("we are {} by the role {}", who.value.arn, role.arn);
                entered.push(who.value.account);
                found.push(Finding::of(scope, is_there, seen, expected).with_answers(&who.raw));
            }
            Err(failure) => {
                found.push(Finding::new(scope, Status::Error, failure.to_string(), expected));
            }
        }
    }
    for account in &probe.settings.aws.accounts {
        if !entered.contains(account) && !found.iter().any(|one| one.scope == *account) {
            let seen = "no role of `ready.role` leads there, and it is not the account that we are in";
            found.push(Finding::of(account, false, seen, expected));
        }
    }
    Ok(found)
}

/// A connection by a role, or whether it was refused or could not be asked for, and why.
pub(super) fn entered_by(
    probe: &Probe,
    role: &RoleSettings,
) -> Result<Result<Connection, (Status, String)>, Unable> {
    let connection = probe.aws()?;
    let wanted = RoleToAssume {
        arn: role.arn.clone(),
        session_name: "exhibit-ready".to_owned(),
        external_id: role.external_id.clone(),
        seconds: Some(900),
    };
    let assumed = match Sts::new(connection)?.assume_role(&wanted) {
        Ok(assumed) => assumed,
        Err(failure) => {
            let status = if is_refusal(failure.kind) { Status::Fail } else { Status::Error };
            return Ok(Err((status, failure.to_string())));
        }
    };
    let inside = Connection::open(&CloudSettings {
        region: Some(connection.region().to_owned()),
        profile: None,
        credentials: Some(assumed.credentials),
        endpoint: probe.settings.aws.endpoint_url.clone(),
    })?;
    Ok(Ok(inside))
}

/// Whether a service answered and said no.
pub(super) fn is_refusal(kind: FailureKind) -> bool {
    matches!(kind, FailureKind::Denied | FailureKind::Credentials | FailureKind::NotFound)
}

fn credentials(probe: &Probe) -> Result<Vec<Finding>, Unable> {
    const DAY: i64 = 86_400;
    let connection = probe.aws()?;
    let caller = probe.caller()?;
    let who = &caller.value;
    let expected = format!(
        "a role whose credentials are renewed, or access keys that are not {} days old within two weeks",
        probe.settings.ready.access_key_days
    );
    let resource = who.arn.splitn(6, ':').nth(5).unwrap_or_default();
    if resource == "root" {
        let seen = "these are the keys of the account's root, which nothing limits";
        return Ok(vec![Finding::of(&who.arn, false, seen, expected).with_answers(&caller.raw)]);
    }
    let user = resource.strip_prefix("user/").and_then(|path| path.rsplit('/').next());
    let life = connection.credentials_life()?;
    let Some(user) = user.filter(|_| !life.is_session) else {
        let (status, seen) = renewed(life);
        return Ok(vec![Finding::new(&who.arn, status, seen, expected).with_answers(&caller.raw)]);
    };
    let keys = Iam::new(connection)?.list_access_keys(user)?;
    if keys.value.is_empty() {
        return Err(Unable::untested(format!("IAM names no access key of {user}")));
    }
    let limit = i64::try_from(probe.settings.ready.access_key_days).unwrap_or(i64::MAX);
    let now = probe.now();
    let each = keys.value.iter().map(|key| {
        let age = custody::clock::parse_rfc3339(&key.created)
            .map(|created_ns| (now - created_ns / 1_000_000_000) / DAY);
        let scope = format!("{user}/{}", key.id);
        match age {
            Ok(days) => {
                let state = if key.is_active { "active" } else { "inactive" };
                let seen = format!("{state} and {days} days old");
                let holds = !key.is_active || days.saturating_add(14) < limit;
                Finding::of(scope, holds, seen, &expected).with_answers(&keys.raw)
            }
            Err(_) => Finding::new(scope, Status::Error, "IAM says no time that it was made", &expected),
        }
    });
    Ok(each.collect())
}

/// What is to be said of credentials that are no access key of a user.
fn renewed(life: CredentialsLife) -> (Status, String) {
    match (life.is_session, life.ends) {
        (true, Some(ends)) => {
            let at = custody::clock::rfc3339(ends.saturating_mul(1_000_000_000));
            (Status::Pass, format!("its provider renews them; these end on {at}"))
        }
        (true, None) => (
            Status::Fail,
            "a session that was given once, in the environment or in a file: it ends, nothing says when, and nothing renews it"
                .to_owned(),
        ),
        // Every role has a token; this is none of AWS's own.
        (false, _) => (Status::Error, "no user, and no session either: how long it holds is not known".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_passes_only_where_somebody_renews_it() {
        let of = |is_session, ends| renewed(CredentialsLife { is_session, ends });
        let renewed = of(true, Some(86_400));
        assert!(renewed.0 == Status::Pass && renewed.1.contains("1970-01-02T00:00:00"), "{renewed:?}");
        assert_eq!(of(true, None).0, Status::Fail);
        assert_eq!(of(false, None).0, Status::Error);
    }
}
