//! SentinelOne Singularity: network quarantine, and Remote Script Orchestration as the way to a host.
//!
//! - Containment: `agents/actions/disconnect` and `connect`, always with one id; that exactly one agent is meant is looked up
//!   before, and that one was affected is read from the answer. `networkStatus` tells when it is done.
//! - Way: a script with the collector as its package is uploaded, executed on the one agent, its task asked after; what it wrote
//!   into `S1_OUTPUT_DIR_PATH` comes back as a zip. A script runs to its end; nothing is left in the background.
//! - The package is looked for in `S1_PACKAGE_DIR_PATH` and run only if it has the pinned hash.
//! - Rights: Endpoints view, disconnect and reconnect; Remote Script Orchestration view, upload, delete and
//!   runDataCollectionScript; Task Management view. Where executions must be approved by a second person, nothing runs: the service
//!   user must be exempt from that.
//! - What a script left stays in the console's own store of results, which cannot be deleted through the API.
//! - Reference: SentinelOne Management API v2.1.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};
use ureq::http::Method;

use super::api::{Api, Credentials, Send, escaped, secret};
use super::{Channel, CollectorSettings, Containment, Patience, Product, zip};
use crate::steps::Failed;

/// `kind = "sentinelone"`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SentinelOneSettings {
    /// The console, such as `https://example.sentinelone.net`.
    pub url: String,
    /// File with the API token of a service user.
    pub token_file: PathBuf,
    /// Where scripts are uploaded to: `site`, `account` or `global`.
    pub scope_level: String,
    /// The id of that site or account.
    #[serde(default)]
    pub scope_id: Option<String>,
    /// What is put on hosts.
    #[serde(default)]
    pub collector: Option<CollectorSettings>,
}

/// Where results are fetched from, beside the console itself.
const RESULTS: &[&str] = &[".amazonaws.com", ".sentinelone.net"];
/// Seconds that a script may run.
const RUNTIME: &str = "7200";
const API: &str = "/web/api/v2.1";

pub(super) struct SentinelOne<'a> {
    api: Api<'a>,
    settings: &'a SentinelOneSettings,
}

impl<'a> SentinelOne<'a> {
    pub(super) fn connect(settings: &'a SentinelOneSettings, patience: Patience<'a>) -> Result<Self, Failed> {
        if !matches!(settings.scope_level.as_str(), "site" | "account" | "global") {
            return Err(Failed::for_good("scope_level is site, account or global"));
        }
        let credentials = Credentials::ApiToken(secret(&settings.token_file)?);
        Ok(Self { api: Api::new(&settings.url, credentials, patience)?, settings })
    }

    /// The one agent of this id.
    fn agent(&self, device: &str) -> Result<Value, Failed> {
        let answer = self.api.get(&format!("{API}/agents?ids={}", escaped(device)))?;
        let agents = answer.get("data").and_then(Value::as_array).cloned().unwrap_or_default();
        let total = answer.pointer("/pagination/totalItems").and_then(Value::as_u64);
        match agents.as_slice() {
            [agent] if total.is_none_or(|total| total == 1) => {
                if agent.get("id").and_then(Value::as_str) != Some(device) {
                    return Err(Failed::for_good("SentinelOne gave another agent than was asked for"));
                }
                Ok(agent.clone())
            }
            [] => Err(Failed::for_good(format!("SentinelOne has no agent {device}"))),
            others => Err(Failed::for_good(format!(
                "the filter fits {} agents where one is meant: nothing is done",
                total.unwrap_or(others.len() as u64)
            ))),
        }
    }
}

/// How many an action affected.
fn affected(answer: &Value, what: &str) -> Result<(), Failed> {
    match answer.pointer("/data/affected").and_then(Value::as_u64) {
        Some(1) => Ok(()),
        Some(number) => Err(Failed::for_good(format!("{what} affected {number} agents where one is meant"))),
        None => Err(Failed::for_now(format!("{what}: the answer does not say how many agents it affected"))),
    }
}

fn is_number(id: &str) -> bool {
    (1..=32).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_digit())
}

impl Product for SentinelOne<'_> {
    fn containment(&self, device: &str) -> Result<Containment, Failed> {
        let agent = self.agent(device)?;
        match agent.get("networkStatus").and_then(Value::as_str).unwrap_or_default() {
            "disconnected" => Ok(Containment::Contained),
            "connected" => Ok(Containment::Normal),
            word @ ("disconnecting" | "connecting") => Ok(Containment::Changing(word.to_owned())),
            other => Err(Failed::for_now(format!(
                "the agent has the network status {other:?}, which is none that is known"
            ))),
        }
    }

    fn ask(&self, device: &str, contained: bool, _comment: &str) -> Result<Value, Failed> {
        // Too wide a filter would cut off the whole fleet.
        self.agent(device)?;
        let act = if contained { "disconnect" } else { "connect" };
        let body = json!({"filter": {"ids": [device]}, "data": {}});
        affected(&self.api.post(&format!("{API}/agents/actions/{act}"), body)?, act)?;
        Ok(json!({"action": act}))
    }

    fn channel<'s>(&'s self, device: &str, tag: &str) -> Result<Box<dyn Channel + 's>, Failed> {
        self.agent(device)?;
        Ok(Box::new(Scripts {
            console: self,
            device: device.to_owned(),
            tag: tag.to_owned(),
            package: None,
            scripts: Vec::new(),
            result: None,
            has_run: false,
        }))
    }
}

struct Scripts<'s> {
    console: &'s SentinelOne<'s>,
    device: String,
    tag: String,
    /// Name and bytes of what goes with the next script.
    package: Option<(String, Vec<u8>)>,
    scripts: Vec<String>,
    /// Address of what the last script left.
    result: Option<String>,
    /// Whether the console took a script of ours on.
    has_run: bool,
}

impl Scripts<'_> {
    fn upload(&mut self, script: &str) -> Result<String, Failed> {
        let name = format!("exhibit-{}-{}", self.tag, self.scripts.len() + 1);
        let file_name = format!("{name}.sh");
        let settings = self.console.settings;
        let mut fields = vec![
            ("scriptName", name.as_str()),
            ("scriptDescription", "Exhibit, for one host, removed afterwards"),
            ("scriptType", "dataCollection"),
            ("osTypes", "linux"),
            ("inputRequired", "false"),
            ("scriptRuntimeTimeoutSeconds", RUNTIME),
            ("scopeLevel", settings.scope_level.as_str()),
        ];
        if let Some(scope) = &settings.scope_id {
            fields.push(("scopeId", scope));
        }
        let package = self.package.take();
        let mut files = vec![("file", file_name.as_str(), script.as_bytes())];
        if let Some((name, bytes)) = &package {
            fields.push(("packageEndpointExpiration", "Immediate"));
            files.push(("packageFile", name, bytes));
        }
        let send = Send::Parts { fields: &fields, files: &files };
        let answer = self.console.api.ask(&Method::POST, &format!("{API}/remote-scripts"), &send)?;
        let id = answer.pointer("/data/id").and_then(Value::as_str).filter(|id| is_number(id));
        let id = id.ok_or_else(|| Failed::for_now("the uploaded script has no id"))?.to_owned();
        self.scripts.push(id.clone());
        Ok(id)
    }
}

impl Channel for Scripts<'_> {
    fn put(&mut self, name: &str, bytes: &[u8]) -> Result<Vec<String>, Failed> {
        self.package = Some((name.to_owned(), bytes.to_vec()));
        Ok(Vec::new())
    }

    fn run(&mut self, script: &str) -> Result<String, Failed> {
        let id = self.upload(script)?;
        let api = &self.console.api;
        let body = json!({
            "filter": {"ids": [self.device]},
            "data": {"scriptId": id, "outputDestination": "SentinelCloud", "taskDescription": format!("Exhibit {}", self.tag)},
        });
        // Whatever becomes of the answer, it may have been heard.
        let had_run = std::mem::replace(&mut self.has_run, true);
        let begun = api.post(&format!("{API}/remote-scripts/execute"), body)?;
        let approval = begun.pointer("/data/pendingExecutionId").is_some_and(|id| !id.is_null());
        if approval || begun.pointer("/data/pending") == Some(&Value::Bool(true)) {
            self.has_run = had_run;
            return Err(Failed::for_good(
                "the console wants a second person to approve executions of scripts, which is not waited for: exempt the service user. \
                 The script is deleted again, so that approving this one runs nothing",
            ));
        }
        affected(&begun, "the script")?;
        let parent = begun.pointer("/data/parentTaskId").and_then(Value::as_str).filter(|id| is_number(id));
        let parent = parent.ok_or_else(|| Failed::for_now("the script's task has no id"))?.to_owned();
        let task = loop {
            let answer = api.get(&format!("{API}/remote-scripts/status?parentTaskId={parent}"))?;
            let tasks = answer.get("data").and_then(Value::as_array).cloned().unwrap_or_default();
            match tasks.as_slice() {
                [task] => match task.get("status").and_then(Value::as_str).unwrap_or_default() {
                    "completed" => break task.clone(),
                    word @ ("failed" | "canceled" | "cancelled" | "expired" | "partially_completed") => {
                        let why = task.get("detailedStatus").and_then(Value::as_str).unwrap_or_default();
                        return Err(Failed::for_now(crate::alert::one_line(&format!(
                            "the script's task is {word}: {why}"
                        ))));
                    }
                    _ => {}
                },
                [] => {}
                others => {
                    return Err(Failed::for_good(format!(
                        "the script runs on {} agents where one is meant",
                        others.len()
                    )));
                }
            }
            api.patience().pause("waiting for the script on the host")?;
        };
        let task = task.get("id").and_then(Value::as_str).filter(|id| is_number(id));
        let task = task.ok_or_else(|| Failed::for_now("the script's task has no id"))?;
        let links =
            api.post(&format!("{API}/remote-scripts/fetch-files"), json!({"data": {"taskIds": [task]}}))?;
        let link = links.pointer("/data/download_links/0/downloadUrl").and_then(Value::as_str);
        let link = link.ok_or_else(|| Failed::for_now("the script left no results"))?;
        self.result = Some(link.to_owned());
        // What a script says is in the same archive as what it left; it is read from there.
        Ok(String::new())
    }

    fn waits(&self) -> bool {
        true
    }

    fn may_have_left(&self) -> bool {
        self.has_run
    }

    fn fetch(&mut self, path: &str, into: &Path, most: u64) -> Result<(), Failed> {
        let link = self.result.clone().ok_or_else(|| Failed::for_now("no script has run yet"))?;
        let archive = into.with_extension("zip");
        let packed = most.saturating_add(most / 100).saturating_add(1 << 20);
        let name = path.rsplit('/').next().unwrap_or(path);
        let taken = self
            .console
            .api
            .fetch_elsewhere(&link, RESULTS, &archive, packed)
            .and_then(|()| zip::take(&archive, name, into, most));
        let _ = std::fs::remove_file(&archive);
        taken
    }

    fn close(&mut self) -> Vec<String> {
        let mut left = Vec::new();
        for id in std::mem::take(&mut self.scripts) {
            let send = Send::Json(json!({"filter": {"ids": [id]}}));
            if let Err(failed) =
                self.console.api.ask(&Method::DELETE, &format!("{API}/remote-scripts"), &send)
            {
                left.push(format!("script {id} is still in the console: {failed}"));
            }
        }
        left
    }
}
