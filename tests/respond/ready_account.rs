//! Checks of a cloud account, against moto, and against answers of our own where moto has none.

use std::path::Path;

use respond::ready::{Outcome, Probe, Status};

use crate::fake_service::{Asked, account, send, serve};
use crate::moto::moto;
use crate::ready::{check, is, one, probe};

/// A probe of an account in a region of its own, so that tests do not see each other's things.
fn in_region(folder: &Path, endpoint: &str, region: &str, more: &str) -> Probe {
    let aws = format!("[aws]\nregion = \"{region}\"\nendpoint_url = \"{endpoint}\"\n{more}");
    probe(folder, &aws).in_account(account(endpoint, region))
}

/// Asks a service that takes JSON.
fn json(endpoint: &str, region: &str, service: &str, target: &str, body: &str) -> serde_json::Value {
    let headers = [("Content-Type", "application/x-amz-json-1.1"), ("X-Amz-Target", target)];
    let (status, answer) = send(endpoint, ("POST", "/"), (service, region), &headers, body);
    assert_eq!(status, 200, "{target}: {answer}");
    serde_json::from_str(&answer).unwrap_or_default()
}

/// Asks a service that takes forms, and gives what stands in the first element of this name.
fn form(endpoint: &str, region: &str, service: &str, body: &str, wanted: &str) -> String {
    let headers = [("Content-Type", "application/x-www-form-urlencoded")];
    let (status, answer) = send(endpoint, ("POST", "/"), (service, region), &headers, body);
    assert_eq!(status, 200, "{body}: {answer}");
    let begin = answer.split(&format!("<{wanted}>")).nth(1).unwrap_or_default();
    begin.split('<').next().unwrap_or_default().to_owned()
}

fn status_of<'a>(found: &'a [Outcome], scope: &str) -> &'a Outcome {
    let wanted = found.iter().find(|one| one.scope == scope);
    wanted.unwrap_or_else(|| panic!("{scope} is not among {found:?}"))
}

/// An account that answers what STS and IAM would; everything else is given to `more`.
fn fake_account(
    arn: &'static str,
    more: impl Fn(&Asked) -> Option<(u16, String)> + Send + Sync + 'static,
) -> String {
    serve(move |asked| {
        if let Some(answer) = more(asked) {
            return answer;
        }
        if asked.body.contains("Action=GetCallerIdentity") {
            let answer = format!(
                "<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>{arn}</Arn><UserId>X</UserId>\
                 <Account>123456789012</Account></GetCallerIdentityResult></GetCallerIdentityResponse>"
            );
            return (200, answer);
        }
        (400, "<ErrorResponse><Error><Code>InvalidAction</Code></Error></ErrorResponse>".to_owned())
    })
}

const ROLE: &str = "arn:aws:sts::123456789012:assumed-role/ir/service";

/// What a simulation says: `allowed` of every action but those for which `denies` says otherwise.
fn simulation(asked: &Asked, denies: impl Fn(&str, &str) -> Option<&'static str>) -> Option<(u16, String)> {
    if !asked.body.contains("Action=SimulatePrincipalPolicy") {
        return None;
    }
    let decoded = asked.body.replace("%3A", ":").replace("%2A", "*").replace("%2F", "/");
    let of = |name: &str| {
        let pairs = decoded.split('&').filter_map(|pair| pair.split_once('='));
        pairs.filter(|(key, _)| key.starts_with(name)).map(|(_, value)| value.to_owned()).collect::<Vec<_>>()
    };
    let resource = of("ResourceArns").first().cloned().unwrap_or_default();
    let members: String = of("ActionNames")
        .iter()
        .map(|action| {
            let decision = denies(action, &resource).unwrap_or("allowed");
            format!(
                "<member><EvalActionName>{action}</EvalActionName><EvalResourceName>{resource}</EvalResourceName>\
                 <EvalDecision>{decision}</EvalDecision></member>"
            )
        })
        .collect();
    let answer = format!(
        "<SimulatePrincipalPolicyResponse><SimulatePrincipalPolicyResult><IsTruncated>false</IsTruncated>\
         <EvaluationResults>{members}</EvaluationResults></SimulatePrincipalPolicyResult></SimulatePrincipalPolicyResponse>"
    );
    Some((200, answer))
}

#[test]
fn every_account_must_be_entered_by_some_role() {
    let Some(moto) = moto() else { return };
    let folder = tempfile::tempdir().unwrap();
    let asked = |more: &str| check(in_region(folder.path(), &moto.endpoint, "eu-west-1", more), "RD01");
    let role = "[[ready.role]]\narn = \"arn:aws:iam::123456789012:role/ir\"\nexternal_id = \"x\"\n";
    let found = asked(role);
    assert!(found.len() == 2 && found.iter().all(|one| one.status == Status::Pass), "{found:?}");
    assert!(found.iter().any(|one| one.observed.contains("assumed-role/ir")), "{found:?}");
    let found = asked("accounts = [\"999999999999\"]\n");
    assert_eq!(status_of(&found, "999999999999").status, Status::Fail);
    let denied = fake_account(ROLE, |asked| {
        asked.body.contains("Action=AssumeRole").then(|| {
            (403, "<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>".to_owned())
        })
    });
    let found = check(in_region(folder.path(), &denied, "eu-west-1", role), "RD01");
    assert!(
        found.iter().any(|one| one.status == Status::Fail && one.observed.contains("AssumeRole")),
        "{found:?}"
    );
}

#[test]
fn old_access_keys_those_of_the_root_and_sessions_that_nothing_renews_fail() {
    let folder = tempfile::tempdir().unwrap();
    let of = |arn: &'static str, created: &'static str| {
        let endpoint = fake_account(arn, move |asked| {
            asked.body.contains("Action=ListAccessKeys").then(|| {
                let answer = format!(
                    "<R><ListAccessKeysResult><AccessKeyMetadata><member><AccessKeyId>AKIA1</AccessKeyId>\
                     <Status>Active</Status><CreateDate>{created}</CreateDate></member></AccessKeyMetadata>\
                     </ListAccessKeysResult></R>"
                );
                (200, answer)
            })
        });
        one(in_region(folder.path(), &endpoint, "eu-west-1", ""), "RD06")
    };
    // A role without a session, which AWS never has.
    is(&of(ROLE, ""), Status::Error, &["not known"]);
    // A session that somebody put into the settings once: of a role, and of a user.
    for arn in [ROLE, "arn:aws:iam::123456789012:user/ir"] {
        let endpoint = fake_account(arn, |_| None);
        let given = acquire::aws::Connection::open(&acquire::aws::Settings {
            region: Some("eu-west-1".to_owned()),
            profile: None,
            credentials: Some(acquire::aws::Credentials {
                access_key_id: "ASIAEXAMPLE".to_owned(),
                secret_access_key: "secret".to_owned(),
                session_token: Some("SESSIONTOKEN".to_owned()),
            }),
            endpoint: Some(endpoint.clone()),
        });
        let aws = format!("[aws]\nregion = \"eu-west-1\"\nendpoint_url = \"{endpoint}\"\n");
        let found = one(probe(folder.path(), &aws).in_account(given.unwrap()), "RD06");
        is(&found, Status::Fail, &["nothing renews it"]);
        assert!(!found.1.contains("SESSIONTOKEN"), "{}", found.1);
    }
    is(&of("arn:aws:iam::123456789012:user/ir", "2001-01-01T00:00:00Z"), Status::Fail, &["days old"]);
    let now = custody::Clock::now(&custody::SystemClock).rfc3339();
    let now: &'static str = Box::leak(now.into_boxed_str());
    is(&of("arn:aws:iam::123456789012:user/ir", now), Status::Pass, &["0 days old"]);
    is(&of("arn:aws:iam::123456789012:user/ir", "soon"), Status::Error, &["no time"]);
    is(&of("arn:aws:iam::123456789012:root", ""), Status::Fail, &["root"]);
}

#[test]
fn missing_and_excessive_rights_are_named() {
    let folder = tempfile::tempdir().unwrap();
    type Denies = fn(&str, &str) -> Option<&'static str>;
    let asked = |denies: Denies, id: &str| {
        let endpoint = fake_account(ROLE, move |asked| simulation(asked, denies));
        let more = "[capture]\nto = \"s3://evidence/ir\"\n";
        one(in_region(folder.path(), &endpoint, "eu-west-1", more), id)
    };
    let all: Denies = |_, _| None;
    let none: Denies = |_, _| Some("implicitDeny");
    let but_blocks: Denies = |action, _| (action == "ebs:GetSnapshotBlock").then_some("explicitDeny");
    let but_undoing: Denies = |action, _| (action == "ec2:DeleteSecurityGroup").then_some("implicitDeny");
    let but_roles: Denies = |action, _| action.starts_with("iam:").then_some("implicitDeny");
    is(&asked(all, "RD02"), Status::Pass, &["all 18 actions"]);
    is(&asked(but_roles, "RD02"), Status::Warn, &["done without: iam:GetInstanceProfile"]);
    is(&asked(but_blocks, "RD02"), Status::Fail, &["denied by a policy: ebs:GetSnapshotBlock"]);
    is(&asked(all, "RD04"), Status::Pass, &[]);
    is(&asked(but_undoing, "RD04"), Status::Fail, &["allowed by none: ec2:DeleteSecurityGroup"]);
    is(&asked(none, "RD05"), Status::Pass, &["denied"]);
    let to_evidence: Denies = |action, resource| {
        let is_it = action == "s3:DeleteObjectVersion" && resource == "arn:aws:s3:::evidence/*";
        if is_it { None } else { Some("implicitDeny") }
    };
    is(&asked(to_evidence, "RD05"), Status::Fail, &["allowed: s3:DeleteObjectVersion"]);
    // A policy that names a kind of thing, and no `*`: enough for a capture, too much for what destroys.
    let named: Denies = |_, resource| (resource == "*").then_some("implicitDeny");
    let ends: Denies = |action, resource| {
        let is_it = action == "ec2:TerminateInstances" && resource.ends_with(":123456789012:instance/*");
        if is_it { None } else { Some("implicitDeny") }
    };
    is(
        &asked(named, "RD02"),
        Status::Fail,
        &["allowed by none: ec2:DescribeInstances, ec2:DescribeVolumes, \
        ec2:DescribeSnapshots, cloudtrail:LookupEvents, cloudtrail:DescribeTrails"],
    );
    let least: Denies = |action, resource| {
        let of_all = ["Describe", "LookupEvents"].iter().any(|word| action.contains(word));
        (resource == "*" && !of_all).then_some("implicitDeny")
    };
    is(&asked(least, "RD02"), Status::Pass, &[]);
    is(&asked(least, "RD04"), Status::Pass, &[]);
    is(&asked(ends, "RD05"), Status::Fail, &["allowed: ec2:TerminateInstances on instance/*"]);
    let policy: Denies = |action, resource| {
        let is_it = action == "s3:PutBucketPolicy" && resource == "arn:aws:s3:::evidence";
        if is_it { None } else { Some("implicitDeny") }
    };
    is(&asked(policy, "RD05"), Status::Fail, &["allowed: s3:PutBucketPolicy on evidence"]);
    let below: Denies = |action, resource| {
        let is_it = action == "s3:DeleteObject" && resource == "arn:aws:s3:::evidence/ir/*";
        if is_it { None } else { Some("implicitDeny") }
    };
    is(&asked(below, "RD05"), Status::Fail, &["allowed: s3:DeleteObject on evidence/ir/*"]);
    // What an isolation calls, and would miss only in an incident.
    for action in
        ["iam:PassRole", "ec2:DisassociateAddress", "ec2:ModifyInstanceAttribute", "iam:ListAccessKeys"]
    {
        let endpoint = fake_account(ROLE, move |asked| {
            simulation(asked, |asked, _| (asked == action).then_some("implicitDeny"))
        });
        is(&one(in_region(folder.path(), &endpoint, "eu-west-1", ""), "RD04"), Status::Fail, &[action]);
    }
    // A store that cannot be read from the settings leaves half of the question open.
    let nowhere = fake_account(ROLE, move |asked| simulation(asked, |_, _| Some("implicitDeny")));
    let more = "[capture]\nto = \"ftp://evidence\"\n";
    is(&one(in_region(folder.path(), &nowhere, "eu-west-1", more), "RD05"), Status::Error, &[]);
    // An answer that says nothing of what was asked is no pass.
    let empty = fake_account(ROLE, |asked| {
        asked.body.contains("SimulatePrincipalPolicy").then(|| {
            let answer =
                "<R><SimulatePrincipalPolicyResult><EvaluationResults/></SimulatePrincipalPolicyResult></R>";
            (200, answer.to_owned())
        })
    });
    for id in ["RD02", "RD04", "RD05"] {
        let found = one(in_region(folder.path(), &empty, "eu-west-1", ""), id);
        is(&found, Status::Error, &["not answered"]);
    }
    let unknown = fake_account(ROLE, |_| None);
    is(&one(in_region(folder.path(), &unknown, "eu-west-1", ""), "RD02"), Status::Error, &[]);
}

#[test]
fn what_the_account_itself_would_refuse_is_found_by_dry_runs() {
    let Some(moto) = moto() else { return };
    let folder = tempfile::tempdir().unwrap();
    let region = "eu-west-2";
    let volume =
        moto.ask(region, "Action=CreateVolume&Version=2016-11-15&Size=1&AvailabilityZone=eu-west-2a");
    let volume = volume.split("<volumeId>").nth(1).unwrap().split('<').next().unwrap().to_owned();
    let ran =
        moto.ask(region, "Action=RunInstances&Version=2016-11-15&ImageId=ami-12c6146b&MinCount=1&MaxCount=1");
    let instance = ran.split("<instanceId>").nth(1).unwrap().split('<').next().unwrap().to_owned();
    let more = format!("[ready]\nvolumes = [\"{volume}\"]\ninstances = [\"{instance}\"]\n");
    let found = check(in_region(folder.path(), &moto.endpoint, region, &more), "RD03");
    assert!(found.len() >= 4 && found.iter().all(|one| one.status == Status::Pass), "{found:?}");
    let more = "[ready]\nvolumes = [\"vol-00000000000000000\"]\ninstances = [\"i-00000000000000000\"]\n";
    let found = check(in_region(folder.path(), &moto.endpoint, region, more), "RD03");
    assert_eq!(status_of(&found, "i-00000000000000000").status, Status::Fail);
    let denied = fake_account(ROLE, |asked| {
        asked.body.contains("DryRun=true").then(|| {
            let answer =
                "<Response><Errors><Error><Code>UnauthorizedOperation</Code></Error></Errors></Response>";
            (403, answer.to_owned())
        })
    });
    let more = "[ready]\nvolumes = [\"vol-1\"]\n";
    let found = one(in_region(folder.path(), &denied, region, more), "RD03");
    is(&found, Status::Fail, &["ec2:CreateSnapshot"]);
}

const CLOUDTRAIL: &str = "com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101";

#[test]
fn a_trail_must_be_of_all_regions_and_log() {
    let Some(moto) = moto() else { return };
    let (folder, region) = (tempfile::tempdir().unwrap(), "eu-west-3");
    let ask = |operation: &str, body: &str| {
        json(&moto.endpoint, region, "cloudtrail", &format!("{CLOUDTRAIL}.{operation}"), body)
    };
    let seen = |id: &str, more: &str| check(in_region(folder.path(), &moto.endpoint, region, more), id);
    let none = seen("RD10", "");
    assert_eq!(none[0].status, Status::Fail, "{none:?}");
    assert_eq!(seen("RD11", "")[0].status, Status::Fail);
    send(&moto.endpoint, ("PUT", "/ready-trail"), ("s3", "us-east-1"), &[], "");
    ask("CreateTrail", r#"{"Name": "one", "S3BucketName": "ready-trail", "IsMultiRegionTrail": false}"#);
    let of_one_region = seen("RD10", "");
    assert!(of_one_region[0].observed.contains("is of one region only, does not log"), "{of_one_region:?}");
    assert_eq!(seen("RD11", "")[0].status, Status::Fail);
    let all = r#"{"Name": "one", "S3BucketName": "ready-trail", "IsMultiRegionTrail": true, "EnableLogFileValidation": true}"#;
    ask("UpdateTrail", all);
    // AWS says the default selectors, moto none.
    let selectors = r#"{"TrailName": "one", "EventSelectors": [{"ReadWriteType": "All", "IncludeManagementEvents": true}]}"#;
    ask("PutEventSelectors", selectors);
    ask("StartLogging", r#"{"Name": "one"}"#);
    let logging = seen("RD10", "");
    // moto delivers nothing, or says that it just did: never a failure.
    assert!(matches!(logging[0].status, Status::Pass | Status::Warn), "{logging:?}");
    assert!(logging[0].observed.contains("one logs"), "{logging:?}");
    let crown = "[ready]\ncrown_buckets = [\"crown\"]\n";
    assert_eq!(seen("RD12", crown)[0].status, Status::Fail);
    let selectors = r#"{"TrailName": "one", "EventSelectors": [{"ReadWriteType": "All", "IncludeManagementEvents": true,
        "DataResources": [{"Type": "AWS::S3::Object", "Values": ["arn:aws:s3:::crown/"]}]}]}"#;
    ask("PutEventSelectors", selectors);
    let covered = seen("RD12", crown);
    assert_eq!(covered[0].status, Status::Pass, "{covered:?}");
}

/// CloudTrail with one trail, which delivered so many seconds ago.
fn trail(ago: i64, digest_ago: i64) -> String {
    fake_account(ROLE, move |asked| {
        let now = custody::Clock::now(&custody::SystemClock).wall_ns / 1_000_000_000;
        let operation = asked.header("x-amz-target").rsplit('.').next().unwrap_or_default().to_owned();
        let answer = match operation.as_str() {
            "DescribeTrails" => {
                r#"{"trailList": [{"Name": "all", "TrailARN": "arn:aws:cloudtrail:eu-west-1:1:trail/all",
                    "IsMultiRegionTrail": true, "LogFileValidationEnabled": true}]}"#
                    .to_owned()
            }
            "GetTrailStatus" => format!(
                r#"{{"IsLogging": true, "LatestDeliveryTime": {}, "LatestDigestDeliveryTime": {}.5}}"#,
                now - ago,
                now - digest_ago
            ),
            "GetEventSelectors" => {
                r#"{"EventSelectors": [{"ReadWriteType": "All", "IncludeManagementEvents": true}]}"#
                    .to_owned()
            }
            _ => return None,
        };
        Some((200, answer))
    })
}

#[test]
fn a_trail_that_stopped_delivering_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let seen = |endpoint: &str, id: &str| one(in_region(folder.path(), endpoint, "eu-west-1", ""), id);
    let fresh = trail(60, 600);
    is(&seen(&fresh, "RD10"), Status::Pass, &["delivered within the hour"]);
    is(&seen(&fresh, "RD11"), Status::Pass, &[]);
    let stale = trail(86_400, 86_400);
    is(&seen(&stale, "RD10"), Status::Warn, &["1440 minutes ago"]);
    is(&seen(&stale, "RD11"), Status::Fail, &["1440 minutes ago"]);
}

#[test]
fn a_vpc_without_flow_logs_fails() {
    let Some(moto) = moto() else { return };
    let (folder, region) = (tempfile::tempdir().unwrap(), "eu-north-1");
    let seen = || check(in_region(folder.path(), &moto.endpoint, region, ""), "RD13");
    let before = seen();
    assert!(before.iter().all(|one| one.status == Status::Fail), "{before:?}");
    let vpc = before[0].scope.clone();
    send(&moto.endpoint, ("PUT", "/ready-flow"), ("s3", "us-east-1"), &[], "");
    let made = format!(
        "Action=CreateFlowLogs&Version=2016-11-15&ResourceId.1={vpc}&ResourceType=VPC&TrafficType=ALL\
         &LogDestinationType=s3&LogDestination=arn%3Aaws%3As3%3A%3A%3Aready-flow"
    );
    form(&moto.endpoint, region, "ec2", &made, "item");
    let after = seen();
    assert_eq!(status_of(&after, &vpc).status, Status::Pass, "{after:?}");
}

#[test]
fn guardduty_must_be_enabled() {
    let Some(moto) = moto() else { return };
    let (folder, region) = (tempfile::tempdir().unwrap(), "ap-south-1");
    let seen = || one(in_region(folder.path(), &moto.endpoint, region, ""), "RD14");
    is(&seen(), Status::Fail, &["no detector"]);
    let send = |path: &str, body: &str| {
        let kind = [("Content-Type", "application/json")];
        let (status, answer) = send(&moto.endpoint, ("POST", path), ("guardduty", region), &kind, body);
        assert_eq!(status, 200, "{answer}");
        serde_json::from_str::<serde_json::Value>(&answer).unwrap_or_default()
    };
    let made = send("/detector", r#"{"enable": true, "findingPublishingFrequency": "SIX_HOURS"}"#);
    let id = made["detectorId"].as_str().unwrap().to_owned();
    is(&seen(), Status::Warn, &["SIX_HOURS"]);
    send(&format!("/detector/{id}"), r#"{"enable": true, "findingPublishingFrequency": "FIFTEEN_MINUTES"}"#);
    is(&seen(), Status::Pass, &["is enabled"]);
    send(&format!("/detector/{id}"), r#"{"enable": false}"#);
    is(&seen(), Status::Fail, &["DISABLED"]);
}

#[test]
fn clusters_and_log_groups_must_keep_what_they_log() {
    let Some(moto) = moto() else { return };
    let (folder, region) = (tempfile::tempdir().unwrap(), "ap-northeast-1");
    let seen = |id: &str| check(in_region(folder.path(), &moto.endpoint, region, ""), id);
    assert_eq!(seen("RD15")[0].status, Status::NotApplicable);
    assert_eq!(seen("RD17")[0].status, Status::NotApplicable);
    let cluster = |name: &str, types: &str| {
        let body = format!(
            r#"{{"name": "{name}", "roleArn": "arn:aws:iam::123456789012:role/eks", "resourcesVpcConfig": {{}},
                "logging": {{"clusterLogging": [{{"types": [{types}], "enabled": true}}]}}}}"#
        );
        let kind = [("Content-Type", "application/json")];
        let (status, answer) = send(&moto.endpoint, ("POST", "/clusters"), ("eks", region), &kind, &body);
        assert_eq!(status, 200, "{answer}");
    };
    cluster("some", r#""api", "audit""#);
    cluster("all", r#""api", "audit", "authenticator", "controllerManager", "scheduler""#);
    let found = seen("RD15");
    assert_eq!(status_of(&found, "all").status, Status::Pass, "{found:?}");
    assert!(status_of(&found, "some").observed.contains("off: authenticator"), "{found:?}");
    let logs = |operation: &str, body: &str| {
        json(&moto.endpoint, region, "logs", &format!("Logs_20140328.{operation}"), body)
    };
    logs("CreateLogGroup", r#"{"logGroupName": "kept"}"#);
    assert_eq!(seen("RD17")[0].status, Status::Pass);
    logs("CreateLogGroup", r#"{"logGroupName": "short"}"#);
    logs("PutRetentionPolicy", r#"{"logGroupName": "short", "retentionInDays": 7}"#);
    let found = seen("RD17");
    assert_eq!(status_of(&found, "short").status, Status::Fail, "{found:?}");
}

#[test]
fn a_key_must_decrypt_and_be_neither_disabled_nor_of_aws() {
    let Some(moto) = moto() else { return };
    let (folder, region) = (tempfile::tempdir().unwrap(), "ca-central-1");
    let kms = |operation: &str, body: &str| {
        json(&moto.endpoint, region, "kms", &format!("TrentService.{operation}"), body)
    };
    let key = kms("CreateKey", "{}")["KeyMetadata"]["KeyId"].as_str().unwrap().to_owned();
    let more = format!("[ready]\nkms_keys = [\"{key}\"]\n");
    let seen = |id: &str| one(in_region(folder.path(), &moto.endpoint, region, &more), id);
    is(&seen("RD20"), Status::Pass, &["came back the same"]);
    is(&seen("RD22"), Status::Pass, &["Enabled"]);
    kms("DisableKey", &format!(r#"{{"KeyId": "{key}"}}"#));
    is(&seen("RD22"), Status::Fail, &["Disabled"]);
    // A key that gives back something else is no key that decrypts.
    let wrong = fake_account(ROLE, |asked| {
        let operation = asked.header("x-amz-target").rsplit('.').next().unwrap_or_default();
        let answer = match operation {
            "GenerateDataKey" => r#"{"CiphertextBlob": "AAAA", "Plaintext": "c2VjcmV0IG9uZQ=="}"#,
            "Decrypt" => r#"{"Plaintext": "c2VjcmV0IHR3bw=="}"#,
            _ => return None,
        };
        Some((200, answer.to_owned()))
    });
    let found = one(in_region(folder.path(), &wrong, region, "[ready]\nkms_keys = [\"alias/x\"]\n"), "RD20");
    is(&found, Status::Fail, &["not what was encrypted"]);
    assert!(!found.1.contains("c2Vj"), "{}", found.1);
}

#[test]
fn a_volume_under_a_key_that_aws_manages_fails() {
    let folder = tempfile::tempdir().unwrap();
    let endpoint = fake_account(ROLE, |asked| {
        if asked.body.contains("Action=DescribeVolumes") {
            let of =
                |id: &str, more: &str| format!("<item><volumeId>{id}</volumeId><size>1</size>{more}</item>");
            let key = |name: &str| {
                format!("<encrypted>true</encrypted><kmsKeyId>arn:aws:kms:eu-west-1:1:key/{name}</kmsKeyId>")
            };
            let id = ["vol-a", "vol-b", "vol-c"].into_iter().find(|id| asked.body.contains(id))?;
            let more = match id {
                "vol-a" => key("aws-ebs"),
                "vol-b" => key("own"),
                _ => String::new(),
            };
            return Some((200, format!("<R><volumeSet>{}</volumeSet></R>", of(id, &more))));
        }
        asked.header("x-amz-target").ends_with("DescribeKey").then(|| {
            let manager = if asked.body.contains("aws-ebs") { "AWS" } else { "CUSTOMER" };
            (200, format!(r#"{{"KeyMetadata": {{"Arn": "arn:x", "KeyState": "Enabled", "KeyManager": "{manager}"}}}}"#))
        })
    });
    let more = "[ready]\nvolumes = [\"vol-a\", \"vol-b\", \"vol-c\"]\n";
    let found = check(in_region(folder.path(), &endpoint, "eu-west-1", more), "RD21");
    let statuses = ["vol-a", "vol-b", "vol-c"].map(|id| status_of(&found, id).status);
    assert_eq!(statuses, [Status::Fail, Status::Pass, Status::Pass], "{found:?}");
    assert!(status_of(&found, "vol-a").observed.contains("managed by AWS"), "{found:?}");
}

#[test]
fn an_evidence_store_that_lets_a_version_be_removed_fails() {
    let Some(moto) = moto() else { return };
    let (folder, region) = (tempfile::tempdir().unwrap(), "us-east-1");
    let put = |path: &str, headers: &[(&str, &str)], body: &str| {
        let (status, answer) = send(&moto.endpoint, ("PUT", path), ("s3", region), headers, body);
        assert!(status < 300, "{path}: {answer}");
    };
    let seen = |bucket: &str| {
        let more = format!("[capture]\nto = \"s3://{bucket}/ir\"\n");
        check(in_region(folder.path(), &moto.endpoint, region, &more), "RD25")
    };
    put("/ready-open", &[], "");
    let open = seen("ready-open");
    for part in ["versioning", "object-lock", "public-access", "tls", "canary"] {
        let found = status_of(&open, &format!("ready-open/{part}"));
        assert_eq!(found.status, Status::Fail, "{part}: {}", found.observed);
    }
    put("/ready-locked", &[("x-amz-bucket-object-lock-enabled", "true")], "");
    let rule = "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention>\
                <Mode>COMPLIANCE</Mode><Days>1</Days></DefaultRetention></Rule></ObjectLockConfiguration>";
    put("/ready-locked?object-lock", &[], rule);
    let block = "<PublicAccessBlockConfiguration><BlockPublicAcls>true</BlockPublicAcls><IgnorePublicAcls>true\
                 </IgnorePublicAcls><BlockPublicPolicy>true</BlockPublicPolicy><RestrictPublicBuckets>true\
                 </RestrictPublicBuckets></PublicAccessBlockConfiguration>";
    put("/ready-locked?publicAccessBlock", &[], block);
    let locked = seen("ready-locked");
    for one in &locked {
        let expected = if one.scope.ends_with("/tls") { Status::Fail } else { Status::Pass };
        assert_eq!(one.status, expected, "{one:?}");
    }
    let canary = status_of(&locked, "ready-locked/canary");
    assert!(canary.observed.contains("its removal was refused"), "{}", canary.observed);
    // moto obeys the denial whatever its condition says, so that this bucket can be looked at and not written to.
    put("/ready-tls", &[], "");
    let policy = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":"*","Action":"s3:*",
        "Resource":"arn:aws:s3:::ready-tls/*","Condition":{"Bool":{"aws:SecureTransport":"false"}}}]}"#;
    put("/ready-tls?policy", &[], policy);
    assert_eq!(status_of(&seen("ready-tls"), "ready-tls/tls").status, Status::Pass);
    let gone = seen("ready-gone");
    assert!(gone.iter().all(|one| one.status.has_failed()), "{gone:?}");
}

#[test]
fn an_evidence_store_in_the_same_account_fails() {
    let folder = tempfile::tempdir().unwrap();
    let of = |owner: &'static str| {
        let endpoint = fake_account(ROLE, move |asked| {
            let wanted = asked.header("x-amz-expected-bucket-owner");
            let is_answer = asked.method == "HEAD";
            is_answer.then(|| {
                if wanted.is_empty() || wanted == owner { (200, String::new()) } else { (403, String::new()) }
            })
        });
        let more = "[capture]\nto = \"s3://evidence/ir\"\n";
        one(in_region(folder.path(), &endpoint, "eu-west-1", more), "RD26")
    };
    is(&of("123456789012"), Status::Fail, &["belongs to 123456789012"]);
    is(&of("210987654321"), Status::Pass, &["none of 123456789012"]);
    // One who may not even ask cannot say.
    let closed = fake_account(ROLE, |asked| (asked.method == "HEAD").then(|| (403, String::new())));
    let more = "[capture]\nto = \"s3://evidence/ir\"\n";
    is(&one(in_region(folder.path(), &closed, "eu-west-1", more), "RD26"), Status::Error, &[]);
}

#[test]
fn quotas_that_are_nearly_used_up_fail() {
    let folder = tempfile::tempdir().unwrap();
    let of = |limit: u32, rate: u32| {
        let endpoint = fake_account(ROLE, move |asked| {
            if asked.header("x-amz-target").ends_with("GetServiceQuota") {
                let value = if asked.body.contains("L-309BACF6") { limit } else { rate };
                return Some((200, format!(r#"{{"Quota": {{"Value": {value}.0}}}}"#)));
            }
            asked.body.contains("Action=DescribeSnapshots").then(|| {
                let items = "<item><snapshotId>snap-1</snapshotId></item>".repeat(90);
                (200, format!("<R><snapshotSet>{items}</snapshotSet></R>"))
            })
        });
        let more = "[ready]\nlargest_disk_gib = 1000\nlongest_hours = 2\n";
        check(in_region(folder.path(), &endpoint, "eu-west-1", more), "RD27")
    };
    let found = of(100, 1000);
    assert!(found[1].observed.contains("90 of 100"), "{found:?}");
    let status = |found: &[Outcome]| (found[0].status, found[1].status);
    assert_eq!(status(&found), (Status::Pass, Status::Fail), "{found:?}");
    assert_eq!(status(&of(100_000, 1)), (Status::Fail, Status::Pass));
}

#[test]
fn a_vpc_and_a_load_balancer_without_logs_fail() {
    let folder = tempfile::tempdir().unwrap();
    let endpoint = fake_account(ROLE, |asked| {
        if asked.header("x-amz-target") == "Route53Resolver.ListResolverQueryLogConfigAssociations" {
            let answer = r#"{"ResolverQueryLogConfigAssociations": [{"ResourceId": "vpc-a", "Status": "ACTIVE"},
                {"ResourceId": "vpc-b", "Status": "FAILED"}]}"#;
            return Some((200, answer.to_owned()));
        }
        let of = |action: &str| asked.body.contains(&format!("Action={action}&"));
        let answer = if of("DescribeVpcs") {
            "<R><vpcSet><item><vpcId>vpc-a</vpcId></item><item><vpcId>vpc-b</vpcId></item></vpcSet></R>"
                .to_owned()
        } else if of("DescribeLoadBalancers") {
            let one = |name: &str, kind: &str| {
                format!(
                    "<member><LoadBalancerArn>arn:{name}</LoadBalancerArn><LoadBalancerName>{name}</LoadBalancerName>\
                     <Type>{kind}</Type></member>"
                )
            };
            let all = [one("on", "application"), one("off", "network"), one("gate", "gateway")].concat();
            format!(
                "<R><DescribeLoadBalancersResult><LoadBalancers>{all}</LoadBalancers></DescribeLoadBalancersResult></R>"
            )
        } else if of("DescribeLoadBalancerAttributes") {
            let is_on = asked.body.contains("arn%3Aon");
            format!(
                "<R><DescribeLoadBalancerAttributesResult><Attributes><member><Key>access_logs.s3.enabled</Key>\
                 <Value>{is_on}</Value></member></Attributes></DescribeLoadBalancerAttributesResult></R>"
            )
        } else {
            return None;
        };
        Some((200, answer))
    });
    let found = check(in_region(folder.path(), &endpoint, "eu-west-1", ""), "RD16");
    let statuses = ["vpc-a", "vpc-b", "on", "off"].map(|id| status_of(&found, id).status);
    assert_eq!(statuses, [Status::Pass, Status::Fail, Status::Pass, Status::Fail], "{found:?}");
    assert_eq!(found.len(), 4, "{found:?}");
}

#[test]
fn an_agent_that_is_offline_or_unknown_fails() {
    let folder = tempfile::tempdir().unwrap();
    let endpoint = fake_account(ROLE, |asked| {
        asked.header("x-amz-target").ends_with("DescribeInstanceInformation").then(|| {
            let answer = r#"{"InstanceInformationList": [
                {"InstanceId": "i-1", "PingStatus": "Online", "AgentVersion": "3.3"},
                {"InstanceId": "i-2", "PingStatus": "ConnectionLost", "AgentVersion": "3.3"}]}"#;
            (200, answer.to_owned())
        })
    });
    let more = "[ready]\ninstances = [\"i-1\", \"i-2\", \"i-3\"]\n";
    let found = check(in_region(folder.path(), &endpoint, "eu-west-1", more), "RD09");
    let statuses = ["i-1", "i-2", "i-3"].map(|id| status_of(&found, id).status);
    assert_eq!(statuses, [Status::Pass, Status::Fail, Status::Fail], "{found:?}");
}

#[test]
fn no_secret_that_a_check_has_to_do_with_is_kept_or_told() {
    const SECRETS: [&str; 5] =
        ["SECRETOFTHEROLE", "TOKENOFTHEROLE", "UExBSU5EQVRBS0VZ", "TOKENINADDRESS", "SECRETOFCHANNEL"];
    let folder = tempfile::tempdir().unwrap();
    let endpoint = fake_account(ROLE, |asked| {
        if asked.body.contains("Action=AssumeRole") {
            let answer = "<R><AssumeRoleResult><Credentials><AccessKeyId>ASIA1</AccessKeyId><SecretAccessKey>SECRETOFTHEROLE\
                          </SecretAccessKey><SessionToken>TOKENOFTHEROLE</SessionToken><Expiration>2030-01-01T00:00:00Z</Expiration>\
                          </Credentials></AssumeRoleResult></R>";
            return Some((200, answer.to_owned()));
        }
        let operation = asked.header("x-amz-target").rsplit('.').next().unwrap_or_default();
        match operation {
            "GenerateDataKey" => {
                Some((200, r#"{"CiphertextBlob": "AAAA", "Plaintext": "UExBSU5EQVRBS0VZ"}"#.to_owned()))
            }
            "Decrypt" => Some((200, r#"{"Plaintext": "UExBSU5EQVRBS0VZ"}"#.to_owned())),
            _ => None,
        }
    });
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "SECRETOFCHANNEL").unwrap();
    let more = format!(
        "[notify.people]\nurl = \"{endpoint}/TOKENINADDRESS\"\nsecret_file = {:?}\n[ready]\nkms_keys = [\"alias/x\"]\n\
         [[ready.role]]\narn = \"arn:aws:iam::123456789012:role/ir\"\n",
        secret.display().to_string()
    );
    let mut told = String::new();
    for (id, status) in [("RD01", Status::Pass), ("RD20", Status::Pass), ("RD44", Status::Fail)] {
        let found = check(in_region(folder.path(), &endpoint, "eu-west-1", &more), id);
        assert!(found.iter().all(|one| one.status == status), "{found:?}");
        told.push_str(&format!("{found:?}"));
    }
    let mut kept = Vec::new();
    for file in std::fs::read_dir(folder.path().join("state")).unwrap().flatten() {
        kept.extend(std::fs::read(file.path()).unwrap());
    }
    assert!(kept.windows(4).any(|four| four == b"RD20"), "the state holds results");
    for secret in SECRETS {
        assert!(!told.contains(secret), "{secret} is told");
        assert!(!kept.windows(secret.len()).any(|bytes| bytes == secret.as_bytes()), "{secret} is kept");
    }
}

#[test]
fn the_roles_that_captures_are_made_in_are_asked_too() {
    let folder = tempfile::tempdir().unwrap();
    let endpoint = fake_account(ROLE, |asked| {
        if asked.body.contains("Action=AssumeRole") {
            if asked.body.contains("role%2Fclosed") {
                return Some((403, "<R><Error><Code>AccessDenied</Code></Error></R>".to_owned()));
            }
            let answer = "<R><AssumeRoleResult><Credentials><AccessKeyId>ASIA1</AccessKeyId><SecretAccessKey>s</SecretAccessKey>\
                          <SessionToken>t</SessionToken><Expiration>2030-01-01T00:00:00Z</Expiration></Credentials>\
                          </AssumeRoleResult></R>";
            return Some((200, answer.to_owned()));
        }
        let is_inside = asked.header("authorization").contains("ASIA1");
        if is_inside && asked.body.contains("Action=GetCallerIdentity") {
            let answer = "<R><GetCallerIdentityResult><Arn>arn:aws:sts::210987654321:assumed-role/capture/x</Arn><UserId>X</UserId>\
                          <Account>210987654321</Account></GetCallerIdentityResult></R>";
            return Some((200, answer.to_owned()));
        }
        simulation(asked, |action, _| (is_inside && action == "ec2:CreateSnapshot").then_some("explicitDeny"))
    });
    let role = |name: &str| format!("[[ready.role]]\narn = \"arn:aws:iam::210987654321:role/{name}\"\n");
    let more = role("capture") + &role("closed");
    let found = check(in_region(folder.path(), &endpoint, "eu-west-1", &more), "RD02");
    assert_eq!(found.len(), 3, "{found:?}");
    assert_eq!(status_of(&found, "123456789012").status, Status::Pass, "{found:?}");
    let inside = status_of(&found, "210987654321/capture");
    assert!(
        inside.status == Status::Fail && inside.observed.contains("ec2:CreateSnapshot on volume/*"),
        "{found:?}"
    );
    assert_eq!(status_of(&found, "210987654321/closed").status, Status::Fail, "{found:?}");
}
