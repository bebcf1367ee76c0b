//! Whether evidence that was put stays there.

use acquire::aws::{Failure, FailureKind};
use acquire::s3_store::{belongs_to, canary, soundness};
use custody::bundle::{Retention, RetentionMode};
use serde_json::Value;

use super::check::{Check, Finding, Severity, Status, Unable};
use super::probe::Probe;

pub(super) static CHECKS: &[Check] = &[
    Check {
        id: "RD25",
        version: 1,
        severity: Severity::Critical,
        title: "what is put into the evidence store cannot be removed, nor read by the world",
        scope: "bucket",
        tested: "S3 GetBucketVersioning, GetObjectLockConfiguration, GetPublicAccessBlock, GetBucketPolicy (requests without TLS \
                 denied); then a small object is put under the bucket's own retention, or under governance for a day, and the \
                 removal of that very version must be refused",
        remediation: "make the bucket with Object Lock and a default retention, block public access, and deny requests where \
                      aws:SecureTransport is false",
        prowler: &[
            "s3_bucket_object_versioning",
            "s3_bucket_object_lock",
            "s3_bucket_secure_transport_policy",
            "s3_bucket_level_public_access_block",
        ],
        seconds: 90,
        drill: None,
        test: sound,
    },
    Check {
        id: "RD26",
        version: 1,
        severity: Severity::High,
        title: "the evidence store is in another account than what is captured",
        scope: "bucket",
        tested: "S3 HeadBucket on the condition that the bucket's owner is the account that we are in, or one of `aws.accounts`: it \
                 must not hold",
        remediation: "move the evidence store to an account of its own: who takes over an account then still cannot reach the evidence",
        prowler: &[],
        seconds: 60,
        drill: None,
        test: apart,
    },
];

fn sound(probe: &Probe) -> Result<Vec<Finding>, Unable> {
    let (connection, place) = probe.evidence_store()?;
    probe.caller()?;
    let found = soundness(connection, &place);
    let bucket = &place.bucket;
    let scope = |part: &str| format!("{bucket}/{part}");
    let unknown = |part: &str, failure: &Failure, expected: &str| {
        // One who may not ask cannot say, which is not a failure of the bucket.
        let is_gone = failure.kind == FailureKind::NotFound;
        let status = if is_gone { Status::Fail } else { Status::Error };
        Finding::new(scope(part), status, failure.to_string(), expected)
    };
    let mut all = Vec::new();
    let expected = "versioning is on";
    all.push(match &found.versioned {
        Ok(on) => Finding::of(scope("versioning"), *on, if *on { "on" } else { "off" }, expected),
        Err(failure) => unknown("versioning", failure, expected),
    });
    let expected = "Object Lock with a default retention";
    all.push(match &found.locked {
        Ok(None) => Finding::of(scope("object-lock"), false, "there is no Object Lock", expected),
        Ok(Some(none)) if none.is_empty() => {
            let seen = "Object Lock is on without a default retention: only what is put with one is kept";
            Finding::new(scope("object-lock"), Status::Warn, seen, expected)
        }
        Ok(Some(default)) => Finding::of(scope("object-lock"), true, default.clone(), expected),
        Err(failure) => unknown("object-lock", failure, expected),
    });
    let expected = "all four blocks of public access are on";
    all.push(match &found.private {
        Ok(on) => {
            let seen = if *on { "all are on" } else { "not all are on" };
            Finding::of(scope("public-access"), *on, seen, expected)
        }
        Err(failure) => unknown("public-access", failure, expected),
    });
    let expected = "the bucket's policy denies requests without TLS";
    all.push(match &found.policy {
        Ok(policy) => {
            let holds = denies_without_tls(policy, bucket);
            let seen = match (policy.is_empty(), holds) {
                (true, _) => "the bucket has no policy",
                (false, true) => "it denies them",
                (false, false) => "no statement denies them to everybody",
            };
            Finding::of(scope("tls"), holds, seen, expected).with_evidence(policy.as_bytes())
        }
        Err(failure) => unknown("tls", failure, expected),
    });
    let expected = "removing the version of an object that was put is refused";
    let has_default = matches!(&found.locked, Ok(Some(default)) if !default.is_empty());
    let has_lock = matches!(found.locked, Ok(Some(_)));
    let retention =
        (has_lock && !has_default).then_some(Retention { days: 1, mode: RetentionMode::Governance });
    let place = place.clone().retained(retention)?;
    let name = format!("canary-{}", probe.clock.now().wall_ns);
    all.push(match canary(connection, &place, &name) {
        Ok(tried) => match &tried.refused {
            Some(refusal) => {
                let version = tried.version.as_deref().unwrap_or("without version");
                let seen = format!("{} ({version}) was put; its removal was refused: {refusal}", tried.key);
                Finding::of(scope("canary"), true, &seen, expected).with_evidence(seen)
            }
            None => {
                let seen = format!("{} was put and removed again: so could evidence be", tried.key);
                Finding::of(scope("canary"), false, seen, expected)
            }
        },
        Err(failure) if failure.kind == FailureKind::Denied => {
            let seen = format!("evidence cannot even be put: {failure}");
            Finding::of(scope("canary"), false, seen, expected)
        }
        Err(failure) => unknown("canary", &failure, expected),
    });
    Ok(all)
}

/// Whether a statement of a bucket's policy denies every request of everybody for its objects that comes without TLS.
fn denies_without_tls(policy: &str, bucket: &str) -> bool {
    let Ok(policy) = serde_json::from_str::<Value>(policy) else { return false };
    let one_or_many = |value: Option<&Value>| match value {
        Some(Value::Array(many)) => many.clone(),
        Some(one) => vec![one.clone()],
        None => Vec::new(),
    };
    let is = |value: &Value, text: &str| value.as_str() == Some(text);
    one_or_many(policy.get("Statement")).iter().any(|statement| {
        let everybody = match statement.get("Principal") {
            Some(Value::Object(kinds)) => one_or_many(kinds.get("AWS")).iter().any(|who| is(who, "*")),
            Some(who) => is(who, "*"),
            None => false,
        };
        let everything = one_or_many(statement.get("Action"));
        let objects = one_or_many(statement.get("Resource")).iter().any(|resource| {
            let name = resource.as_str().and_then(|arn| arn.splitn(6, ':').nth(5));
            is(resource, "*") || name == Some(&format!("{bucket}/*"))
        });
        let insecure = statement.pointer("/Condition/Bool/aws:SecureTransport");
        let conditions =
            statement.get("Condition").and_then(Value::as_object).map_or(0, serde_json::Map::len);
        statement.get("Effect").is_some_and(|effect| is(effect, "Deny"))
            && everybody
            && objects
            && everything.iter().any(|action| is(action, "s3:*") || is(action, "*"))
            && one_or_many(insecure).iter().any(|value| is(value, "false") || value == &Value::Bool(false))
            && conditions == 1
    })
}

fn apart(probe: &Probe) -> Result<Vec<Finding>, Unable> {
    let (connection, place) = probe.evidence_store()?;
    let own = probe.caller()?.value.account.clone();
    let mut accounts = vec![own];
    accounts.extend(probe.settings.aws.accounts.iter().cloned());
    accounts.extend(
        probe.settings.ready.roles.iter().filter_map(|role| role.arn.split(':').nth(4).map(str::to_owned)),
    );
    accounts.sort();
    accounts.dedup();
    let expected = "the bucket belongs to none of the accounts that are captured";
    for account in &accounts {
        if belongs_to(connection, &place, account)? {
            let seen = format!("it belongs to {account}");
            return Ok(vec![Finding::of(&place.bucket, false, seen, expected)]);
        }
    }
    let seen = format!("it belongs to none of {}", accounts.join(", "));
    Ok(vec![Finding::of(&place.bucket, true, seen, expected)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_denial_of_everything_to_everybody_counts_as_tls_only() {
        let policy = |principal: &str, action: &str, condition: &str| {
            format!(
                r#"{{"Statement":[{{"Effect":"Deny","Principal":{principal},"Action":{action},"Resource":
                ["arn:aws:s3:::evidence","arn:aws:s3:::evidence/*"],"Condition":{condition}}}]}}"#
            )
        };
        let denies = |policy: &str| denies_without_tls(policy, "evidence");
        let insecure = r#"{"Bool":{"aws:SecureTransport":"false"}}"#;
        assert!(denies(&policy(r#""*""#, r#""s3:*""#, insecure)));
        assert!(denies(&policy(r#"{"AWS":"*"}"#, r#"["s3:*"]"#, insecure)));
        assert!(!denies_without_tls(&policy(r#""*""#, r#""s3:*""#, insecure), "other"));
        assert!(!denies(&policy(r#"{"AWS":"arn:aws:iam::1:root"}"#, r#""s3:*""#, insecure)));
        assert!(!denies(&policy(r#""*""#, r#""s3:GetObject""#, insecure)));
        let narrowed =
            r#"{"Bool":{"aws:SecureTransport":"false"},"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}}"#;
        assert!(!denies(&policy(r#""*""#, r#""s3:*""#, narrowed)));
        assert!(!denies("") && !denies("not json"));
    }
}
