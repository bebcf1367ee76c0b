//! Checks of Azure, of Google Cloud and of escrowed keys: services on loopback, headers of LUKS that the test makes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use respond::ready::{Outcome, Status};
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};

use crate::fake_service::{Asked, serve};
use crate::ready::{check, is, nowhere, one, probe};

fn quoted(path: &Path) -> String {
    format!("{:?}", path.display().to_string())
}

fn of(found: &[Outcome], scope: &str) -> (Status, String) {
    let one = found.iter().find(|one| one.scope == scope);
    let one = one.unwrap_or_else(|| panic!("{scope} is not among {found:?}"));
    (one.status, one.observed.clone())
}

/// What an Azure says: the settings of the activity log, the virtual networks, and the flow logs.
fn azure(settings: Value, networks: Value, flows: Value) -> impl Fn(&Asked) -> (u16, String) + Send + Sync {
    move |asked: &Asked| {
        if asked.path == "/tenant-1/oauth2/v2.0/token" {
            assert!(
                asked.body.contains("client_secret=AZURESECRET") && asked.body.contains("client_id=app-1")
            );
            return (200, json!({"access_token": "AZURETOKEN"}).to_string());
        }
        if asked.header("authorization") != "Bearer AZURETOKEN" {
            return (401, String::new());
        }
        let path = asked.path.split('?').next().unwrap_or_default();
        let of = "/subscriptions/sub-1/providers";
        let value = match path.strip_prefix(of).unwrap_or_default() {
            "/Microsoft.Insights/diagnosticSettings" => settings.clone(),
            "/Microsoft.Network/virtualNetworks" => networks.clone(),
            "/Microsoft.Network/networkWatchers" => {
                json!([{"id": format!("{of}/Microsoft.Network/networkWatchers/one")}])
            }
            "/Microsoft.Network/networkWatchers/one/flowLogs" => flows.clone(),
            _ => return (403, json!({"error": {"code": "AuthorizationFailed"}}).to_string()),
        };
        (200, json!({"value": value}).to_string())
    }
}

fn setting(categories: &[&str], place: &str) -> Value {
    let logs: Vec<Value> = categories.iter().map(|one| json!({"category": one, "enabled": true})).collect();
    json!({"name": "s", "properties": {"logs": logs, place: "/subscriptions/x"}})
}

const FOUR: [&str; 4] = ["Administrative", "Security", "Policy", "Alert"];

fn asked_azure(folder: &Path, url: &str) -> Vec<Outcome> {
    let secret = folder.join("azure.secret");
    fs::write(&secret, "AZURESECRET\n").unwrap();
    let more = format!(
        "[ready.azure]\ntenant = \"tenant-1\"\nclient_id = \"app-1\"\nclient_secret_file = {}\nsubscriptions = [\"sub-1\"]\n\
         url = \"{url}\"\nlogin_url = \"{url}\"\n",
        quoted(&secret)
    );
    let found = check(probe(folder, &more), "RD18");
    let told = format!("{found:?}");
    assert!(!told.contains("AZURESECRET") && !told.contains("AZURETOKEN"), "{told}");
    found
}

#[test]
fn a_subscription_that_sends_its_activity_nowhere_or_has_no_flow_logs_fails() {
    let folder = tempfile::tempdir().unwrap();
    let seen = |settings: Value, networks: Value, flows: Value| {
        let found = asked_azure(folder.path(), &serve(azure(settings, networks, flows)));
        (of(&found, "sub-1/activity"), of(&found, "sub-1/flow-logs"))
    };
    let network = |name: &str| json!({"id": format!("/subscriptions/sub-1/vnets/{name}"), "name": name});
    let flow = |target: &str, enabled: bool, days: u64| {
        json!({"properties": {"targetResourceId": format!("/subscriptions/SUB-1/{target}"), "enabled": enabled,
            "retentionPolicy": {"enabled": days > 0, "days": days}}})
    };
    let (activity, flows) = seen(
        json!([setting(&FOUR[..2], "workspaceId"), setting(&FOUR[2..], "storageAccountId")]),
        json!([network("a"), network("b")]),
        json!([flow("vnets/a", true, 365), flow("vnets/b", true, 0)]),
    );
    is(&activity, Status::Pass, &["all four"]);
    is(&flows, Status::Pass, &["all 2"]);
    // One category is on and goes nowhere, one is off; one network has only a log that is off, one of a week.
    let off = json!({"properties": {"workspaceId": "w", "logs": [{"category": "Policy", "enabled": false}]}});
    let (activity, flows) = seen(
        json!([setting(&FOUR[..2], "workspaceId"), setting(&["Alert"], "name"), off]),
        json!([network("a"), network("b")]),
        json!([flow("vnets/a", false, 0), flow("vnets/b", true, 7)]),
    );
    is(&activity, Status::Fail, &["not sent: Policy, Alert"]);
    is(&flows, Status::Fail, &["1 of 2 have none: a"]);
    let (_, flows) = seen(json!([]), json!([network("b")]), json!([flow("vnets/b", true, 7)]));
    is(&flows, Status::Fail, &["kept for less: b"]);
    // A network whose every subnet is covered by its security group.
    let subnet = |group: &str| json!({"id": format!("/s/{group}"), "properties": {"networkSecurityGroup": {"id": format!("/subscriptions/sub-1/nsgs/{group}")}}});
    let by_groups = |groups: &[&str]| {
        let subnets: Vec<Value> = groups.iter().map(|group| subnet(group)).collect();
        json!([{"id": "/v", "name": "v", "properties": {"subnets": subnets}}])
    };
    let group_flow = || json!([flow("nsgs/x", true, 0)]);
    is(&seen(json!([]), by_groups(&["x"]), group_flow()).1, Status::Pass, &[]);
    is(&seen(json!([]), by_groups(&["x", "y"]), group_flow()).1, Status::Fail, &["have none: v"]);
}

#[test]
fn an_azure_that_refuses_us_or_leads_elsewhere_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let (allowed, denied) = (azure(json!([]), json!([]), json!([])), "Microsoft.Insights");
    let found = asked_azure(
        folder.path(),
        &serve(move |asked| {
            if asked.path.contains(denied) {
                (403, json!({"error": {"code": "AuthorizationFailed"}}).to_string())
            } else {
                allowed(asked)
            }
        }),
    );
    is(&of(&found, "sub-1/activity"), Status::Error, &["403 AuthorizationFailed"]);
    let no_token = serve(|_| (401, json!({"error": "invalid_client"}).to_string()));
    is(&of(&asked_azure(folder.path(), &no_token), "azure"), Status::Error, &["401 invalid_client"]);
    let gone = format!("http://{}", nowhere());
    is(&of(&asked_azure(folder.path(), &gone), "azure"), Status::Error, &["no answer"]);
    // The next page is said to lie at another server: it must not be given our token.
    let heard = Arc::new(Mutex::new(false));
    let hears = Arc::clone(&heard);
    let other = serve(move |_| {
        *hears.lock().unwrap() = true;
        (200, json!({"value": []}).to_string())
    });
    let first = azure(json!([]), json!([]), json!([]));
    let leading = serve(move |asked| {
        let (status, body) = first(asked);
        let mut body: Value = serde_json::from_str(&body).unwrap_or_default();
        if body["value"].is_array() {
            body["nextLink"] = format!("{other}/next").into();
        }
        (status, body.to_string())
    });
    is(&of(&asked_azure(folder.path(), &leading), "sub-1/activity"), Status::Error, &["elsewhere"]);
    assert!(!*heard.lock().unwrap(), "the other server was asked");
}

#[test]
fn a_project_without_audit_of_data_or_with_silent_subnetworks_fails() {
    let folder = tempfile::tempdir().unwrap();
    let made =
        crate::test_authority::openssl(folder.path(), &["genpkey", "-algorithm", "RSA", "-out", "key.pem"]);
    if !made.status.success() {
        eprintln!("skipped: openssl cannot be had");
        return;
    }
    let pem = fs::read_to_string(folder.path().join("key.pem")).unwrap();
    let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).unwrap();
    let key = RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).unwrap();
    let public = Arc::new(key.public().as_ref().to_vec());
    let asked = |policy: Value, pages: Vec<Value>| {
        let public = Arc::clone(&public);
        let url = serve(move |asked| {
            if asked.path == "/token" {
                let assertion = asked.body.split("assertion=").nth(1).unwrap().split('&').next().unwrap();
                let (signed, signature) = assertion.rsplit_once('.').unwrap();
                let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
                let known = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public.as_slice());
                let is_signed = known.verify(signed.as_bytes(), &signature).is_ok();
                let claims = URL_SAFE_NO_PAD.decode(signed.split('.').nth(1).unwrap()).unwrap();
                let claims: Value = serde_json::from_slice(&claims).unwrap();
                let is_ours =
                    claims["iss"] == "ir@example.iam" && claims["aud"].as_str().unwrap().ends_with("/token");
                let is_good = is_signed && is_ours;
                return if is_good {
                    (200, json!({"access_token": "GCPTOKEN"}).to_string())
                } else {
                    (400, "{}".to_owned())
                };
            }
            if asked.header("authorization") != "Bearer GCPTOKEN" {
                return (401, "{}".to_owned());
            }
            match asked.path.as_str() {
                "/v1/projects/p-1:getIamPolicy" => (200, policy.to_string()),
                "/compute/v1/projects/p-1/aggregated/subnetworks" => (200, pages[0].to_string()),
                "/compute/v1/projects/p-1/aggregated/subnetworks?pageToken=a%2Fb" => {
                    (200, pages[1].to_string())
                }
                _ => (403, json!({"error": {"code": 403}}).to_string()),
            }
        });
        let account = folder.path().join("account.json");
        let text = json!({"client_email": "ir@example.iam", "private_key": pem, "token_uri": format!("{url}/token")});
        fs::write(&account, text.to_string()).unwrap();
        let more = format!(
            "[ready.gcp]\nservice_account_file = {}\nprojects = [\"p-1\"]\nurl = \"{url}\"\n",
            quoted(&account)
        );
        let found = check(probe(folder.path(), &more), "RD18");
        assert!(!format!("{found:?}").contains("GCPTOKEN"), "{found:?}");
        (of(&found, "p-1/audit"), of(&found, "p-1/flow-logs"))
    };
    let audit = |kinds: &[&str], exempt: &[&str]| {
        let logs: Vec<Value> =
            kinds.iter().map(|kind| json!({"logType": kind, "exemptedMembers": exempt})).collect();
        json!({"auditConfigs": [{"service": "allServices", "auditLogConfigs": logs}]})
    };
    let subnet = |name: &str, enable: bool| json!({"name": name, "region": "https://x/regions/eu", "logConfig": {"enable": enable}});
    let all = ["ADMIN_READ", "DATA_READ", "DATA_WRITE"];
    let last = json!({"items": {"regions/eu": {"subnetworks": [subnet("b", true)]}}});
    let first = json!({"items": {"regions/eu": {"subnetworks": [subnet("a", true)]}, "regions/us": {"warning": {}}},
        "nextPageToken": "a/b"});
    let (audited, flows) = asked(audit(&all, &[]), vec![first.clone(), last]);
    is(&audited, Status::Pass, &[]);
    is(&flows, Status::Pass, &["all 2"]);
    let last = json!({"items": {"regions/eu": {"subnetworks": [subnet("b", false),
        {"name": "proxy", "purpose": "REGIONAL_MANAGED_PROXY"}]}}});
    let (audited, flows) = asked(audit(&all[..2], &["user:x"]), vec![first, last]);
    is(&audited, Status::Fail, &["ADMIN_READ exempts 1 members", "DATA_WRITE is not audited"]);
    is(&flows, Status::Fail, &["1 of 2 do not: eu/b"]);
    let (_, refused) = asked(json!({}), vec![json!({"error": "x"})]);
    is(&refused, Status::Error, &["no items"]);
}

#[test]
fn an_escrowed_key_is_tried_on_its_header_and_must_be_of_that_disk() {
    if Command::new("cryptsetup").arg("--version").output().is_err() {
        eprintln!("skipped: cryptsetup cannot be had");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let uuid = "0f2d1c9e-1111-4222-8333-123456789abc";
    fs::write(at("key"), "the passphrase of a disk").unwrap();
    fs::write(at("other"), "some other passphrase").unwrap();
    fs::File::create(at("disk")).unwrap().set_len(20 << 20).unwrap();
    let made = Command::new("cryptsetup")
        .args([
            "luksFormat",
            "--batch-mode",
            "--type",
            "luks2",
            "--pbkdf",
            "pbkdf2",
            "--pbkdf-force-iterations",
            "1000",
        ])
        .args(["--uuid", uuid, "--key-file"])
        .args([at("key"), at("disk")])
        .output()
        .unwrap();
    if !made.status.success() {
        eprintln!("skipped: no header of LUKS can be made: {}", String::from_utf8_lossy(&made.stderr));
        return;
    }
    let before = fs::read(at("disk")).unwrap();
    let tried = |uuid: &str, key: &str, on: &str| {
        let on = if on.is_empty() { String::new() } else { format!("header = {}\n", quoted(&at(on))) };
        let more = format!(
            "[[ready.escrow]]\nasset = \"web01\"\nuuid = \"{uuid}\"\nkey_file = {}\n{on}",
            quoted(&at(key))
        );
        one(probe(folder.path(), &more), "RD24")
    };
    is(&tried(uuid, "key", "disk"), Status::Pass, &["the key opens"]);
    is(&tried(&uuid.to_uppercase(), "key", "disk"), Status::Pass, &[]);
    is(&tried(uuid, "other", "disk"), Status::Fail, &["does not open"]);
    is(&tried("11111111-1111-4222-8333-123456789abc", "key", "disk"), Status::Fail, &["another disk"]);
    is(&tried(uuid, "key", ""), Status::Warn, &["never tried"]);
    is(&tried(uuid, "key", "key"), Status::Error, &["no header of LUKS"]);
    is(&tried(uuid, "gone", "disk"), Status::Error, &["could not be tried"]);
    assert!(fs::read(at("disk")).unwrap() == before, "trying changed the disk");
}

#[test]
fn an_encrypted_disk_of_a_host_without_an_escrowed_key_fails() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| quoted(&folder.path().join(name));
    let program = folder.path().join("ssh");
    fs::write(folder.path().join("key"), "x").unwrap();
    let hosted = |script: &str, escrow: &str| {
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let more = format!(
            "[targets.ssh.web01]\nhost = \"web01.example\"\nuser = \"ir\"\nidentity_file = {}\nknown_hosts_file = {}\n\
             collector = {}\ncollector_sha256 = \"{}\"\nprogram = {}\n{escrow}",
            at("key"),
            at("known"),
            at("collector"),
            "0".repeat(64),
            at("ssh")
        );
        check(probe(folder.path(), &more), "RD24")
    };
    let disks = r#"echo '{"blockdevices": [{"path": "/dev/sda2", "fstype": "crypto_LUKS", "uuid": "U-1"}]}'"#;
    is(&of(&hosted(disks, ""), "web01/dev/sda2"), Status::Fail, &["U-1", "no key of it is escrowed"]);
    let escrow = format!("[[ready.escrow]]\nasset = \"web01\"\nuuid = \"u-1\"\nkey_file = {}\n", at("key"));
    let found = hosted(disks, &escrow);
    is(&of(&found, "web01/dev/sda2"), Status::Pass, &["escrowed for web01"]);
    is(&of(&found, "web01/escrow/u-1"), Status::Warn, &["never tried"]);
    let bare = r#"echo '{"blockdevices": [{"path": "/dev/sda", "fstype": "ext4", "uuid": "U-2"}]}'"#;
    is(&of(&hosted(bare, ""), "web01"), Status::Pass, &["no encrypted disk"]);
    is(&of(&hosted("echo no >&2; exit 255", ""), "web01"), Status::Error, &["no"]);
    is(&of(&hosted("echo lsblk", ""), "web01"), Status::Error, &["JSON"]);
}
