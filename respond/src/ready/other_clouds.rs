//! RD18: whether Azure and Google Cloud write down what happens: activity, audit and the traffic of networks.
//!
//! Only questions are asked, over HTTPS, or plainly on loopback. A cloud that refuses us, or gives no token, is an error and
//! never a pass. References: Azure Monitor `diagnosticSettings`, Network Watcher `flowLogs`; Resource Manager `getIamPolicy`
//! (`auditConfigs`), Compute `aggregated/subnetworks` (`logConfig`); RFC 7523 for the token of a service account.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use acquire::careful_agent;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use ureq::Agent;
use ureq::http::Uri;

use super::check::{Check, Finding, Severity, Status, Unable};
use super::probe::Probe;
use super::settings::{AzureSettings, GcpSettings};

pub(super) static CHECKS: &[Check] = &[Check {
    id: "RD18",
    version: 1,
    severity: Severity::Medium,
    title: "Azure and Google Cloud log activity and the traffic of networks",
    scope: "subscription, project",
    tested: "Azure, each subscription of `[ready.azure]`: diagnosticSettings send Administrative, Security, Policy and Alert to a \
             workspace, a storage account or a hub; each virtual network, or all of its subnets or their security groups, has an \
             enabled flow log that is kept for `ready.log_retention_days`. Google Cloud, each project of `[ready.gcp]`: \
             getIamPolicy has auditConfigs of allServices with ADMIN_READ, DATA_READ and DATA_WRITE that exempt nobody; each \
             subnetwork has its logConfig enabled. What an organisation above sets is not asked",
    remediation: "az monitor diagnostic-settings subscription create; az network watcher flow-log create; audit logs of allServices \
                  in the project's policy; gcloud compute networks subnets update --enable-flow-logs",
    prowler: &[
        "monitor_diagnostic_setting_with_appropriate_categories",
        "network_flow_log_captured_sent",
        "iam_audit_logs_enabled",
        "compute_subnet_flow_logs_enabled",
    ],
    seconds: 120,
    drill: None,
    test: logging,
}];

/// How long one exchange may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of one answer, and of a file with a secret.
const MOST_ANSWER: u64 = 16 << 20;
const MOST_FILE: u64 = 64 << 10;
/// Pages of one list.
const MOST_PAGES: usize = 200;

/// What of a subscription must be sent somewhere.
const CATEGORIES: [&str; 4] = ["Administrative", "Security", "Policy", "Alert"];
/// What of a project must be in its audit log.
const AUDITED: [&str; 3] = ["ADMIN_READ", "DATA_READ", "DATA_WRITE"];

fn logging(probe: &Probe) -> Result<Vec<Finding>, Unable> {
    let ready = &probe.settings.ready;
    if ready.azure.is_none() && ready.gcp.is_none() {
        return Err(Unable::none(
            "the settings name neither Azure ([ready.azure]) nor Google Cloud ([ready.gcp])",
        ));
    }
    let mut found = Vec::new();
    if let Some(azure) = &ready.azure {
        found.extend(of_azure(azure, ready.log_retention_days).unwrap_or_else(|why| {
            vec![Finding::new("azure", Status::Error, why, "Azure says what it logs")]
        }));
    }
    if let Some(gcp) = &ready.gcp {
        found.extend(of_google(gcp, probe.now()).unwrap_or_else(|why| {
            vec![Finding::new("gcp", Status::Error, why, "Google Cloud says what it logs")]
        }));
    }
    Ok(found)
}

/// One API, with the token that lets us in.
struct Api {
    agent: Agent,
    token: String,
}

impl Api {
    fn new(token: String) -> Self {
        Self { agent: agent(), token }
    }

    /// Asks, and gives what came and the JSON in it.
    fn ask(&self, what: &str, url: &str, body: Option<&Value>) -> Result<Value, String> {
        let bearer = format!("Bearer {}", self.token);
        let answer = match body {
            None => self.agent.get(url).header("Authorization", bearer).call(),
            Some(body) => {
                let request = self.agent.post(url).header("Authorization", bearer);
                request.header("Content-Type", "application/json").send(body.to_string())
            }
        };
        read(what, answer)
    }

    /// Every item of a list of Azure, page by page, and what came.
    fn all(&self, what: &str, base: &str, path: &str) -> Result<(Vec<Value>, Vec<u8>), String> {
        let mut url = format!("{base}{path}");
        let (mut items, mut raw) = (Vec::new(), Vec::new());
        for _ in 0..MOST_PAGES {
            let mut answer = self.ask(what, &url, None)?;
            raw.extend_from_slice(answer.to_string().as_bytes());
            raw.push(b'\n');
            match answer.get_mut("value").map(Value::take) {
                Some(Value::Array(page)) => items.extend(page),
                _ => return Err(format!("{what}: the answer has no list")),
            }
            let next = answer.get("nextLink").and_then(Value::as_str).unwrap_or_default();
            if next.is_empty() {
                return Ok((items, raw));
            }
            // The token is for this API and no other.
            if !next.starts_with(&format!("{base}/")) {
                return Err(format!("{what}: its next page is said to lie elsewhere"));
            }
            next.clone_into(&mut url);
        }
        Err(format!("{what}: the list has more than {MOST_PAGES} pages"))
    }
}

fn agent() -> Agent {
    careful_agent(PATIENCE, Duration::from_secs(10)).build().new_agent()
}

/// The JSON of an answer that says yes; else why not, without anything that may be secret.
fn read(what: &str, answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<Value, String> {
    let mut answer = answer.map_err(|error| match error {
        ureq::Error::Io(error) => format!("{what}: no answer: {error}"),
        ureq::Error::Timeout(_) => format!("{what}: no answer in time"),
        _ => format!("{what}: the exchange failed"),
    })?;
    let status = answer.status().as_u16();
    let mut bytes = Vec::new();
    let taken = answer.body_mut().as_reader().take(MOST_ANSWER + 1).read_to_end(&mut bytes);
    taken.map_err(|error| format!("{what}: the answer broke off: {error}"))?;
    if bytes.len() as u64 > MOST_ANSWER {
        return Err(format!("{what}: the answer is larger than {MOST_ANSWER} bytes"));
    }
    let said: Result<Value, _> = serde_json::from_slice(&bytes);
    if status != 200 {
        let said = said.unwrap_or_default();
        let word = said.pointer("/error/code").or_else(|| said.get("error"));
        let word = word
            .map(|word| word.as_str().map_or_else(|| word.to_string(), str::to_owned))
            .unwrap_or_default();
        let word: String = word.chars().take(100).collect();
        return Err(format!("{what} was answered {status} {word}").trim_end().to_owned());
    }
    said.map_err(|_| format!("{what}: the answer is no JSON"))
}

/// https, or plainly to this machine itself; without the `/` at its end.
fn address(url: &str) -> Result<String, String> {
    let wrong = || "an address in the settings or in the key's file is no https address".to_owned();
    let uri: Uri = url.parse().map_err(|_| wrong())?;
    let authority = uri.authority().filter(|one| !one.as_str().contains('@')).ok_or_else(wrong)?;
    match uri.scheme_str() {
        Some("https") => {}
        Some("http") if matches!(authority.host(), "127.0.0.1" | "[::1]" | "localhost") => {}
        _ => return Err(wrong()),
    }
    Ok(url.trim_end_matches('/').to_owned())
}

/// What may stand in a path: an id of a tenant, a subscription, a project.
fn id(text: &str) -> Result<&str, String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    let is_one = !text.is_empty() && text.len() <= 100 && !text.contains("..") && text.bytes().all(plain);
    if is_one { Ok(text) } else { Err(format!("{text:?} is no id of a tenant, subscription or project")) }
}

fn small_file(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let opened = std::fs::File::open(path).and_then(|file| file.take(MOST_FILE).read_to_string(&mut text));
    opened.map_err(|error| format!("{path:?} cannot be read: {}", error.kind()))?;
    Ok(text)
}

/// A token for the fields of a form.
fn token(what: &str, url: &str, form: &[(&str, &str)]) -> Result<String, String> {
    let answer = agent().post(url).send_form(form.iter().copied());
    let said = read(what, answer)?;
    let token = said.get("access_token").and_then(Value::as_str).unwrap_or_default();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!("{what}: the answer holds no token"));
    }
    Ok(token.to_owned())
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

/// What was found, or that it could not be asked.
fn told(scope: String, expected: &str, found: Result<(Status, String, Vec<u8>), String>) -> Finding {
    match found {
        Ok((status, seen, raw)) => Finding::new(scope, status, seen, expected).with_evidence(raw),
        Err(why) => Finding::new(scope, Status::Error, why, expected),
    }
}

fn of_azure(settings: &AzureSettings, days: u64) -> Result<Vec<Finding>, String> {
    let base = address(settings.url.as_deref().unwrap_or("https://management.azure.com"))?;
    let login = address(settings.login_url.as_deref().unwrap_or("https://login.microsoftonline.com"))?;
    let secret = small_file(&settings.client_secret_file)?;
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", settings.client_id.as_str()),
        ("client_secret", secret.trim_end_matches(['\r', '\n'])),
        ("scope", "https://management.azure.com/.default"),
    ];
    let url = format!("{login}/{}/oauth2/v2.0/token", id(&settings.tenant)?);
    let api = Api::new(token("the token of Azure", &url, &form)?);
    let mut found = Vec::new();
    for subscription in &settings.subscriptions {
        let subscription = id(subscription)?;
        let expected = "Administrative, Security, Policy and Alert are sent to a workspace, storage or a hub";
        let activity = azure_activity(&api, &base, subscription);
        found.push(told(format!("{subscription}/activity"), expected, activity));
        let expected = format!("every virtual network has a flow log that is kept for {days} days");
        let flows = azure_flows(&api, &base, subscription, days);
        found.push(told(format!("{subscription}/flow-logs"), &expected, flows));
    }
    if found.is_empty() { Err("[ready.azure] names no subscription".to_owned()) } else { Ok(found) }
}

fn azure_activity(api: &Api, base: &str, subscription: &str) -> Result<(Status, String, Vec<u8>), String> {
    let path = format!(
        "/subscriptions/{subscription}/providers/Microsoft.Insights/diagnosticSettings?api-version=2021-05-01-preview"
    );
    let (settings, raw) = api.all("diagnosticSettings", base, &path)?;
    let sent: BTreeSet<&str> = settings.iter().flat_map(sent_by).collect();
    let missing: Vec<&str> = CATEGORIES.into_iter().filter(|category| !sent.contains(category)).collect();
    Ok(if missing.is_empty() {
        (Status::Pass, "all four are sent".to_owned(), raw)
    } else {
        (Status::Fail, format!("{} settings; not sent: {}", settings.len(), missing.join(", ")), raw)
    })
}

/// The categories that a diagnostic setting sends somewhere.
fn sent_by(setting: &Value) -> Vec<&str> {
    let places = ["workspaceId", "storageAccountId", "eventHubAuthorizationRuleId"];
    if places.iter().all(|place| text(setting, &format!("/properties/{place}")).is_empty()) {
        return Vec::new();
    }
    let enabled = list(setting, "/properties/logs")
        .filter(|log| log.get("enabled").and_then(Value::as_bool) == Some(true));
    enabled
        .flat_map(|log| match text(log, "/categoryGroup") {
            "allLogs" => CATEGORIES.to_vec(),
            _ => vec![text(log, "/category")],
        })
        .collect()
}

fn azure_flows(
    api: &Api,
    base: &str,
    subscription: &str,
    days: u64,
) -> Result<(Status, String, Vec<u8>), String> {
    const VERSION: &str = "api-version=2023-09-01";
    let of = format!("/subscriptions/{subscription}/providers/Microsoft.Network");
    let (networks, mut raw) = api.all("virtualNetworks", base, &format!("{of}/virtualNetworks?{VERSION}"))?;
    let (watchers, more) = api.all("networkWatchers", base, &format!("{of}/networkWatchers?{VERSION}"))?;
    raw.extend(more);
    let (mut kept, mut short) = (BTreeSet::new(), BTreeSet::new());
    for watcher in &watchers {
        let watcher = text(watcher, "/id");
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./()".contains(&byte);
        if !watcher.starts_with("/subscriptions/") || watcher.contains("..") || !watcher.bytes().all(plain) {
            return Err("networkWatchers: one of them has an id that is none".to_owned());
        }
        let (logs, more) = api.all("flowLogs", base, &format!("{watcher}/flowLogs?{VERSION}"))?;
        raw.extend(more);
        for log in &logs {
            if log.pointer("/properties/enabled").and_then(Value::as_bool) != Some(true) {
                continue;
            }
            let target = text(log, "/properties/targetResourceId").to_ascii_lowercase();
            let limit = log.pointer("/properties/retentionPolicy/days").and_then(Value::as_u64).unwrap_or(0);
            let is_limited =
                log.pointer("/properties/retentionPolicy/enabled").and_then(Value::as_bool) == Some(true);
            // Without a policy, or with one of no days, nothing is removed.
            if is_limited && limit > 0 && limit < days {
                short.insert(target)
            } else {
                kept.insert(target)
            };
        }
    }
    let covered = |network: &Value, by: &BTreeSet<String>| {
        let has = |id: &str| !id.is_empty() && by.contains(&id.to_ascii_lowercase());
        let subnets: Vec<&Value> = list(network, "/properties/subnets").collect();
        has(text(network, "/id"))
            || (!subnets.is_empty()
                && subnets.iter().all(|subnet| {
                    has(text(subnet, "/id")) || has(text(subnet, "/properties/networkSecurityGroup/id"))
                }))
    };
    let all: BTreeSet<String> = kept.union(&short).cloned().collect();
    let name = |network: &&Value| text(network, "/name").to_owned();
    let bare: Vec<String> =
        networks.iter().filter(|network| !covered(network, &all)).map(|one| name(&one)).collect();
    let brief: Vec<String> = networks
        .iter()
        .filter(|network| covered(network, &all) && !covered(network, &kept))
        .map(|one| name(&one))
        .collect();
    let count = networks.len();
    Ok(match (bare.is_empty(), brief.is_empty()) {
        (true, true) => (Status::Pass, format!("all {count} virtual networks have one"), raw),
        (true, false) => (Status::Fail, format!("kept for less: {}", brief.join(", ")), raw),
        (false, _) => {
            (Status::Fail, format!("{} of {count} have none: {}", bare.len(), bare.join(", ")), raw)
        }
    })
}

/// Seconds that an assertion is good for.
const ASSERTED: i64 = 600;

/// An assertion that a service account signs to be given a token (RFC 7523).
fn assertion(email: &str, token_uri: &str, key: &RsaKeyPair, now: i64) -> Result<String, String> {
    let scopes = "https://www.googleapis.com/auth/cloud-platform.read-only https://www.googleapis.com/auth/compute.readonly";
    let claims = json!({
        "iss": email, "scope": scopes, "aud": token_uri, "iat": now, "exp": now.saturating_add(ASSERTED),
    });
    let head = URL_SAFE_NO_PAD.encode(json!({"alg": "RS256", "typ": "JWT"}).to_string());
    let signed = format!("{head}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
        .map_err(|_| "the key of the service account cannot sign".to_owned())?;
    Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

fn of_google(settings: &GcpSettings, now: i64) -> Result<Vec<Finding>, String> {
    let path = &settings.service_account_file;
    let account: Value = serde_json::from_str(&small_file(path)?)
        .map_err(|_| format!("{path:?} is no key of a service account in JSON"))?;
    let key = PrivatePkcs8KeyDer::from_pem_slice(text(&account, "/private_key").as_bytes())
        .map_err(|_| format!("{path:?} holds no private key"))?;
    let key = RsaKeyPair::from_pkcs8(key.secret_pkcs8_der())
        .map_err(|_| format!("the private key in {path:?} is none of RSA that can be used"))?;
    let own = settings.url.as_deref().map(address).transpose()?;
    let token_uri = match text(&account, "/token_uri") {
        "" => "https://oauth2.googleapis.com/token",
        uri => uri,
    };
    let assertion = assertion(text(&account, "/client_email"), token_uri, &key, now)?;
    let form =
        [("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"), ("assertion", assertion.as_str())];
    let api = Api::new(token("the token of Google Cloud", &address(token_uri)?, &form)?);
    let host = |name: &str| own.clone().unwrap_or_else(|| format!("https://{name}.googleapis.com"));
    let mut found = Vec::new();
    for project in &settings.projects {
        let project = id(project)?;
        let expected = "all services audit ADMIN_READ, DATA_READ and DATA_WRITE, and exempt nobody";
        let audit = google_audit(&api, &host("cloudresourcemanager"), project);
        found.push(told(format!("{project}/audit"), expected, audit));
        let flows = google_flows(&api, &host("compute"), project);
        found.push(told(format!("{project}/flow-logs"), "every subnetwork logs its flows", flows));
    }
    if found.is_empty() { Err("[ready.gcp] names no project".to_owned()) } else { Ok(found) }
}

fn google_audit(api: &Api, base: &str, project: &str) -> Result<(Status, String, Vec<u8>), String> {
    let body = json!({"options": {"requestedPolicyVersion": 3}});
    let policy =
        api.ask("getIamPolicy", &format!("{base}/v1/projects/{project}:getIamPolicy"), Some(&body))?;
    let raw = policy.to_string().into_bytes();
    let of_all: Vec<&Value> = list(&policy, "/auditConfigs")
        .filter(|config| text(config, "/service") == "allServices")
        .flat_map(|config| list(config, "/auditLogConfigs"))
        .collect();
    let mut wrong = Vec::new();
    for kind in AUDITED {
        let configs: Vec<&&Value> = of_all.iter().filter(|config| text(config, "/logType") == kind).collect();
        let exempt: usize = configs.iter().map(|config| list(config, "/exemptedMembers").count()).sum();
        match (configs.is_empty(), exempt) {
            (true, _) => wrong.push(format!("{kind} is not audited")),
            (false, 0) => {}
            (false, count) => wrong.push(format!("{kind} exempts {count} members")),
        }
    }
    // A service of its own can exempt members too.
    let exempting = list(&policy, "/auditConfigs").filter(|config| {
        let mut logs = list(config, "/auditLogConfigs");
        text(config, "/service") != "allServices"
            && logs.any(|log| list(log, "/exemptedMembers").next().is_some())
    });
    wrong.extend(exempting.map(|config| format!("{} exempts members", text(config, "/service"))));
    Ok(if wrong.is_empty() {
        (Status::Pass, "all three are audited for all services".to_owned(), raw)
    } else {
        (Status::Fail, wrong.join("; "), raw)
    })
}

fn google_flows(api: &Api, base: &str, project: &str) -> Result<(Status, String, Vec<u8>), String> {
    let path = format!("{base}/compute/v1/projects/{project}/aggregated/subnetworks");
    let (mut url, mut raw) = (path.clone(), Vec::new());
    let (mut count, mut silent) = (0_usize, Vec::new());
    for _ in 0..MOST_PAGES {
        let answer = api.ask("aggregated/subnetworks", &url, None)?;
        raw.extend_from_slice(answer.to_string().as_bytes());
        raw.push(b'\n');
        let Some(regions) = answer.get("items").and_then(Value::as_object) else {
            return Err("aggregated/subnetworks: the answer has no items".to_owned());
        };
        for subnet in regions.values().flat_map(|region| list(region, "/subnetworks")) {
            // Those that load balancers and service connections have for themselves keep no log.
            if !matches!(text(subnet, "/purpose"), "" | "PRIVATE" | "PRIVATE_RFC_1918") {
                continue;
            }
            count = count.saturating_add(1);
            if subnet.pointer("/logConfig/enable").and_then(Value::as_bool) != Some(true) {
                let region = text(subnet, "/region").rsplit('/').next().unwrap_or_default();
                silent.push(format!("{region}/{}", text(subnet, "/name")));
            }
        }
        let next = text(&answer, "/nextPageToken");
        if next.is_empty() {
            return Ok(match (silent.is_empty(), count) {
                (true, 0) => (Status::Pass, "the project has no subnetwork".to_owned(), raw),
                (true, _) => (Status::Pass, format!("all {count} subnetworks do"), raw),
                (false, _) => {
                    (Status::Fail, format!("{} of {count} do not: {}", silent.len(), silent.join(", ")), raw)
                }
            });
        }
        url = format!("{path}?pageToken={}", crate::targets::kubernetes::encoded(next));
    }
    Err(format!("aggregated/subnetworks: the list has more than {MOST_PAGES} pages"))
}
