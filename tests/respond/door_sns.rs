//! Amazon SNS at the door: what it signed is let in, nothing else is, and no address that a message names is opened.

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::sync::Arc;

use axum::http::HeaderMap;
use respond::authenticate::fetch::NotGot;
use respond::authenticate::{
    Fetch, Proof, Refused, Request, SigningCertificates, Source, Stage, Unproven, WebFetch,
};
use respond::state::DeliveryStatus;
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};

use crate::door_support::{BEARER, NOW, SECRET, TestDoor, Web};
use crate::sns_sender::{CERTIFICATE, INTERMEDIATE, Sender, TOPIC, down, other_root};

const SNS: &str = "[[source]]\nname = 'guardduty'\nkind = 'guardduty'\n[[source.authenticate]]\nscheme = 'sns'\ntopics = ['arn:aws:sns:eu-west-1:111122223333:findings']\n";

/// What EventBridge gives SNS of a GuardDuty finding.
fn finding() -> String {
    json!({
        "version": "0", "id": "c8c4daa7-a20c-2f03-0070-b7393dd542ad", "detail-type": "GuardDuty Finding",
        "source": "aws.guardduty", "account": "111122223333", "time": "2026-11-21T11:58:00Z", "region": "eu-west-1",
        "resources": [], "detail": {
            "schemaVersion": "2.0", "accountId": "111122223333", "region": "eu-west-1", "partition": "aws",
            "id": "16afba5c5c43e07c9e3e5e2e544e95df", "type": "Backdoor:EC2/C&CActivity.B!DNS", "severity": 8,
            "arn": "arn:aws:guardduty:eu-west-1:111122223333:detector/d/finding/16afba5c5c43e07c9e3e5e2e544e95df",
            "title": "An EC2 instance is querying a domain of a command and control server", "description": "d",
            "createdAt": "2026-11-21T11:50:00Z", "updatedAt": "2026-11-21T11:57:00Z",
            "resource": { "resourceType": "Instance", "instanceDetails": { "instanceId": "i-0123456789abcdef0" } },
            "service": { "serviceName": "guardduty", "detectorId": "d", "count": 1,
                "eventFirstSeen": "2026-11-21T11:50:00Z", "eventLastSeen": "2026-11-21T11:57:00Z",
                "action": { "actionType": "DNS_REQUEST", "dnsRequestAction": { "domain": "c2.example" } } }
        }
    })
    .to_string()
}

/// A source that judges messages without a server.
struct Judge {
    source: Source,
    web: Arc<Web>,
}

impl Judge {
    fn of(text: &str, web: Arc<Web>, roots: &[CertificateDer<'_>]) -> Self {
        let fetch: Arc<dyn Fetch> = Arc::clone(&web) as _;
        let certificates = Arc::new(SigningCertificates::new(fetch).with_roots(roots).unwrap());
        let settings = toml::from_str(text).unwrap();
        Self { source: Source::load(&settings, &certificates).unwrap(), web }
    }

    fn new(sender: &Sender, versions: &str) -> Self {
        let web = Arc::new(Web::default());
        sender.publish(&web);
        let text = format!(
            "name = 'a'\nkind = 'guardduty'\n[[authenticate]]\nscheme = 'sns'\ntopics = ['{TOPIC}']\nversions = {versions}"
        );
        Self::of(&text, web, std::slice::from_ref(&sender.root))
    }

    fn ask(&self, body: &[u8], now: &str) -> Result<Proof, Unproven> {
        let headers = HeaderMap::new();
        let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let now_ns = custody::clock::parse_rfc3339(now).unwrap();
        let request = Request { headers: &headers, path_token: None, client: None, peer, now_ns };
        self.source.check(Stage::Content, &request, body)
    }

    fn refuses(&self, body: &Value, why: &'static str) {
        assert_eq!(
            self.ask(body.to_string().as_bytes(), NOW),
            Err(Unproven::Refused(Refused(why))),
            "{body}"
        );
    }
}

const SENT: &str = "2026-11-21T11:59:00.000Z";

#[test]
fn both_versions_hold_and_no_flipped_bit_does() {
    let Some(sender) = Sender::new() else { return };
    for version in ["1", "2"] {
        let judge = Judge::new(&sender, "[1, 2]");
        let body = sender.notification("m-1", version, SENT, "{\"a\": \"é\"}\n").to_string().into_bytes();
        let proof = judge.ask(&body, NOW).unwrap();
        assert!(
            proof.sender.contains(TOPIC) && proof.sender.contains(&format!("v{version}")),
            "{}",
            proof.sender
        );
        assert!(proof.seen_as.is_some() && proof.control.is_none());
        for bit in 0..body.len() * 8 {
            let mut wrong = body.clone();
            wrong[bit / 8] ^= 1 << (bit % 8);
            let found = judge.ask(&wrong, NOW);
            // A place that certificates cannot be had from just now is no yes either.
            assert!(found.is_err(), "version {version}, bit {bit}: {}", String::from_utf8_lossy(&wrong));
        }
        // Without a subject too, which is then not signed.
        let bare = sender.signed(json!({
            "Type": "Notification", "MessageId": "m-2", "TopicArn": TOPIC, "Message": "x", "Timestamp": SENT,
            "SignatureVersion": version, "SigningCertURL": CERTIFICATE, "Subject": null
        }));
        assert!(judge.ask(bare.to_string().as_bytes(), NOW).is_ok());
    }
}

#[test]
fn other_versions_times_topics_and_regions_are_refused() {
    let Some(sender) = Sender::new() else { return };
    let judge = Judge::new(&sender, "[2]");
    let good = sender.notification("m-1", "2", SENT, "x");
    let with = |name: &str, value: &str| {
        let mut message = good.clone();
        message[name] = value.into();
        message
    };
    judge.refuses(&sender.notification("m-1", "1", SENT, "x"), "signature_version");
    judge.refuses(&with("SignatureVersion", "3"), "signature_version");
    judge.refuses(&sender.notification("m-1", "2", "2026-11-21T10:59:59.000Z", "x"), "old_time");
    judge.refuses(&sender.notification("m-1", "2", "2026-11-21T13:00:01.000Z", "x"), "old_time");
    judge.refuses(&sender.notification("m-1", "2", "yesterday", "x"), "malformed_time");
    judge.refuses(&with("TopicArn", "arn:aws:sns:eu-west-1:111122223333:others"), "other_topic");
    for url in [
        CERTIFICATE.replace("eu-west-1", "us-east-1"),
        CERTIFICATE.replace("https", "http"),
        CERTIFICATE.replace("amazonaws.com", "amazonaws.com.evil.example"),
        CERTIFICATE.replace(".com/", ".com:443/"),
        "https://169.254.169.254/latest/meta-data/a.pem".to_owned(),
    ] {
        judge.refuses(&with("SigningCertURL", &url), "certificate_address");
    }
    assert!(judge.web.asked().is_empty(), "{:?}", judge.web.asked());
    judge.refuses(&with("Signature", "no base64"), "malformed_signature");
    judge.refuses(&with("Signature", ""), "bad_signature");
    judge.refuses(&json!([]), "malformed_message");
    let twice = good.to_string().replacen("{\"", "{\"Message\":\"other\",\"", 1);
    assert!(twice.matches("\"Message\":").count() == 2);
    assert_eq!(judge.ask(twice.as_bytes(), NOW), Err(Unproven::Refused(Refused("malformed_message"))));
    assert!(judge.ask(good.to_string().as_bytes(), NOW).is_ok());
}

#[test]
fn a_certificate_is_believed_for_chain_name_time_and_purpose() {
    let Some(sender) = Sender::new() else { return };
    let good = sender.notification("m-1", "2", SENT, "x").to_string();
    let ask = |pem: String, links: &[(&str, Vec<u8>)], root: &CertificateDer<'static>| {
        let web = Arc::new(Web::default());
        web.put(CERTIFICATE, Ok(pem.into_bytes()));
        for (url, der) in links {
            web.put(url, Ok(der.clone()));
        }
        let text =
            format!("name = 'a'\nkind = 'guardduty'\n[[authenticate]]\nscheme = 'sns'\ntopics = ['{TOPIC}']");
        let judge = Judge::of(&text, web, std::slice::from_ref(root));
        let found = judge.ask(good.as_bytes(), NOW).map(drop);
        // What was refused is not asked for again at once.
        let again = judge.ask(good.as_bytes(), NOW).map(drop);
        assert_eq!(found, again);
        let asked = judge.web.asked();
        assert!(asked.iter().filter(|url| *url == CERTIFICATE).count() == 1, "{asked:?}");
        (found, asked)
    };
    let link = [(INTERMEDIATE, sender.intermediate().to_vec())];
    let refused = |why| Err(Unproven::Refused(Refused(why)));
    let leaf = |name: &str| sender.certificate(name, INTERMEDIATE, 2027);

    for name in ["sns.amazonaws.com", "sns.eu-west-1.amazonaws.com", "sns-signing.eu-west-1.amazonaws.com"] {
        assert_eq!(ask(leaf(name), &link, &sender.root).0, Ok(()), "{name}");
    }
    for name in
        ["sns.us-east-1.amazonaws.com", "s3.amazonaws.com", "evil.example", "*.amazonaws.com.evil.example"]
    {
        assert_eq!(ask(leaf(name), &link, &sender.root).0, refused("certificate_name"), "{name}");
    }
    let good_leaf = leaf("sns.amazonaws.com");
    assert_eq!(ask(good_leaf.clone(), &link, &other_root()).0, refused("certificate_chain"));
    // A file with the whole chain needs no second address.
    let whole = format!("{good_leaf}{}", sender.intermediate_pem());
    let (found, asked) = ask(whole, &[], &sender.root);
    assert_eq!((found, asked), (Ok(()), vec![CERTIFICATE.to_owned()]));
    // The issuer's place is opened only where it is Amazon's.
    let elsewhere = sender.certificate("sns.amazonaws.com", "http://169.254.169.254/r2m99.cer", 2027);
    let (found, asked) = ask(elsewhere, &link, &sender.root);
    assert_eq!((found, asked), (refused("certificate_chain"), vec![CERTIFICATE.to_owned()]));
    assert_eq!(ask("no pem".to_owned(), &link, &sender.root).0, refused("certificate_malformed"));
    assert!(ask(good_leaf.replace('M', "N"), &link, &sender.root).0.is_err());
    // Its time: it was good until the end of 2025 only.
    let web = Arc::new(Web::default());
    sender.publish(&web);
    let text =
        format!("name = 'a'\nkind = 'guardduty'\n[[authenticate]]\nscheme = 'sns'\ntopics = ['{TOPIC}']");
    let judge = Judge::of(&text, web, std::slice::from_ref(&sender.root));
    let late = sender.notification("m-1", "2", "2028-01-01T00:00:00.000Z", "x").to_string();
    assert_eq!(
        judge.ask(late.as_bytes(), "2028-01-01T00:00:00Z"),
        refused("certificate_time").map(|()| Proof::default())
    );
}

#[test]
fn a_certificate_that_expires_while_it_is_kept_is_kept_no_longer() {
    let Some(sender) = Sender::new() else { return };
    let judge = Judge::new(&sender, "[2]");
    let before = sender.notification("m-1", "2", "2027-12-30T23:59:00.000Z", "x").to_string();
    assert!(judge.ask(before.as_bytes(), "2027-12-30T23:59:30Z").is_ok());
    let after = sender.notification("m-2", "2", "2027-12-31T00:10:00.000Z", "x").to_string();
    assert_eq!(
        judge.ask(after.as_bytes(), "2027-12-31T00:10:00Z"),
        Err(Unproven::Refused(Refused("certificate_time")))
    );
}

#[test]
fn a_network_that_is_down_is_no_verdict_and_strangers_cannot_make_us_fetch_without_end() {
    let Some(sender) = Sender::new() else { return };
    let judge = Judge::new(&sender, "[2]");
    down(&judge.web, CERTIFICATE);
    let good = sender.notification("m-1", "2", SENT, "x");
    assert_eq!(judge.ask(good.to_string().as_bytes(), NOW), Err(Unproven::NotNow("certificate_unreachable")));
    sender.publish(&judge.web);
    assert!(judge.ask(good.to_string().as_bytes(), "2026-11-21T12:00:06Z").is_ok());
    for number in 0..1000 {
        let mut forged = good.clone();
        forged["SigningCertURL"] = format!("https://sns.eu-west-1.amazonaws.com/{number}.pem").into();
        assert!(judge.ask(forged.to_string().as_bytes(), NOW).is_err());
    }
    assert!(judge.web.asked().len() <= 25, "{}", judge.web.asked().len());
    assert!(judge.ask(good.to_string().as_bytes(), NOW).is_ok());
}

#[test]
fn a_notification_is_stored_once_however_often_it_is_sent() {
    let Some(sender) = Sender::new() else { return };
    let door = TestDoor::open_under(SNS, "", Some(vec![sender.root.clone()]));
    sender.publish(&door.web);
    let body = sender.notification("m-1", "2", SENT, &finding()).to_string();
    let headers = [("content-type", "text/plain; charset=UTF-8"), ("x-amz-sns-message-type", "Notification")];
    for _ in 0..3 {
        let answer = door.post("/alerts/guardduty", &headers, body.as_bytes());
        assert_eq!(answer.status, 202, "{:?}", door.lines.lock().unwrap());
    }
    let stored = door.state.next_undecided(10).unwrap();
    assert_eq!(stored.len(), 1, "{:?}", door.state.count_deliveries());
    assert!(stored[0].sender.starts_with(&format!("sns topic {TOPIC} signed v2 by certificate sha256:")));
    assert_eq!(door.metrics.value("exhibit_deliveries_repeated_total", &[("source", "guardduty")]), 2.0);
    door.clock.set("2026-11-21T13:30:00Z");
    assert_eq!(door.post("/alerts/guardduty", &headers, body.as_bytes()).status, 401);
    assert_eq!(door.refused("old_time"), 1.0);
}

#[test]
fn a_subscription_is_confirmed_at_the_topics_own_host_and_asked_again_when_that_fails() {
    let Some(sender) = Sender::new() else { return };
    let door = TestDoor::open_under(SNS, "", Some(vec![sender.root.clone()]));
    sender.publish(&door.web);
    let url = format!(
        "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=2336412f37fb687f"
    );
    let body = sender.subscription(&url).to_string();
    let ours = url.replace(TOPIC, &TOPIC.replace(':', "%3A"));
    down(&door.web, &ours);
    assert_eq!(door.post("/alerts/guardduty", &[], body.as_bytes()).status, 503);
    let page = b"<ConfirmSubscriptionResponse><ConfirmSubscriptionResult><SubscriptionArn>arn:x</SubscriptionArn></ConfirmSubscriptionResult></ConfirmSubscriptionResponse>";
    door.web.put(&ours, Ok(page.to_vec()));
    assert_eq!(door.post("/alerts/guardduty", &[], body.as_bytes()).status, 202);
    assert_eq!(door.web.asked().iter().filter(|asked| **asked == ours).count(), 2);
    let counts = door.state.count_deliveries().unwrap().by_status;
    assert_eq!(counts, [(DeliveryStatus::Control, 2)]);
    // Somebody ended it: told, and not begun again by itself.
    let ended = sender.signed(json!({
        "Type": "UnsubscribeConfirmation", "MessageId": "47138184", "TopicArn": TOPIC, "Token": "2336412f37fb687f",
        "Message": "You have chosen to deactivate", "SubscribeURL": url, "Timestamp": SENT, "SignatureVersion": "2",
        "SigningCertURL": CERTIFICATE
    }));
    assert_eq!(door.post("/alerts/guardduty", &[], ended.to_string().as_bytes()).status, 202);
    assert_eq!(door.web.asked().iter().filter(|asked| **asked == ours).count(), 2);
    assert!(
        door.lines.lock().unwrap().iter().any(|line| line.contains("unsubscribed") && line.contains("alarm"))
    );
}

/// Certificates from the test's pages; everything else over the real network.
#[derive(Debug)]
struct WebAndNetwork(Arc<Web>, WebFetch);

impl Fetch for WebAndNetwork {
    fn get(&self, url: &str, most: u64) -> Result<Vec<u8>, NotGot> {
        if url == CERTIFICATE || url == INTERMEDIATE { self.0.get(url, most) } else { self.1.get(url, most) }
    }
}

#[test]
fn no_address_that_a_message_names_is_ever_dialled() {
    let Some(sender) = Sender::new() else { return };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let local = listener.local_addr().unwrap();
    let web = Arc::new(Web::default());
    sender.publish(&web);
    let fetch: Arc<dyn Fetch> = Arc::new(WebAndNetwork(Arc::clone(&web), WebFetch::new()));
    let roots = std::slice::from_ref(&sender.root);
    let certificates = Arc::new(SigningCertificates::new(fetch).with_roots(roots).unwrap());
    let text =
        format!("name = 'a'\nkind = 'guardduty'\n[[authenticate]]\nscheme = 'sns'\ntopics = ['{TOPIC}']");
    let source = Source::load(&toml::from_str(&text).unwrap(), &certificates).unwrap();
    let judge = Judge { source, web };
    // Signed by the topic itself: even then.
    for url in [
        format!("http://{local}/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=2336412f37fb687f"),
        format!("https://{local}/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=2336412f37fb687f"),
        "http://169.254.169.254/latest/meta-data/iam/security-credentials/".to_owned(),
        format!(
            "https://sns.eu-west-1.amazonaws.com@{local}/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=2336412f37fb687f"
        ),
        format!(
            "https://sns.us-east-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=2336412f37fb687f"
        ),
        format!(
            "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn={TOPIC}x&Token=2336412f37fb687f"
        ),
        format!(
            "https://sns.eu-west-1.amazonaws.com/?Action=DeleteTopic&TopicArn={TOPIC}&Token=2336412f37fb687f"
        ),
        String::new(),
    ] {
        judge.refuses(&sender.subscription(&url), "subscribe_address");
    }
    let mut forged = sender.notification("m-1", "2", SENT, "x");
    for url in [
        format!("http://{local}/a.pem"),
        format!("https://{local}/a.pem"),
        "http://169.254.169.254/a.pem".into(),
    ] {
        forged["SigningCertURL"] = url.into();
        judge.refuses(&forged, "certificate_address");
    }
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    assert!(
        judge.web.asked().iter().all(|url| url == CERTIFICATE || url == INTERMEDIATE),
        "{:?}",
        judge.web.asked()
    );
}

#[test]
fn raw_delivery_needs_another_proof() {
    let raw = format!("{SNS}raw = true\n");
    let folder = tempfile::tempdir().unwrap();
    let settings = toml::from_str::<Value>(&raw).unwrap()["source"][0].clone();
    let settings = serde_json::from_value(settings).unwrap();
    let certificates = Arc::new(SigningCertificates::new(Arc::new(Web::default())));
    assert!(Source::load(&settings, &certificates).unwrap_err().contains("raw delivery"));

    let with_bearer = format!("{raw}[[source.authenticate]]\nscheme = 'bearer'\nsecret_files = ['secret']\n");
    let door = TestDoor::open_in(folder, &with_bearer, "", None);
    let auth = format!("Bearer {SECRET}");
    let headers =
        [("authorization", auth.as_str()), ("x-amz-sns-rawdelivery", "true"), ("x-amz-sns-topic-arn", TOPIC)];
    assert_eq!(door.post("/alerts/guardduty", &headers, finding().as_bytes()).status, 202);
    assert_eq!(door.post("/alerts/guardduty", &headers[1..], finding().as_bytes()).status, 401);
    assert_eq!(door.post("/alerts/guardduty", &headers[..2], finding().as_bytes()).status, 401);

    let door = TestDoor::open(&format!("{SNS}{BEARER}"), "");
    assert_eq!(door.post("/alerts/guardduty", &headers, finding().as_bytes()).status, 401);
    assert_eq!(door.refused("raw_delivery"), 1.0);
}
