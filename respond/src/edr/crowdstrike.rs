//! CrowdStrike Falcon: network containment, and Real Time Response (RTR) as the way to a host.
//!
//! - Containment: `devices-actions/v2?action_name=contain|lift_containment`; the host's `status` tells when it is done.
//! - Way: a session; `mkdir`, `cd`, `put` of a file of the tenant's put-files, `runscript -Raw`, `get`. Sessions end after ten
//!   idle minutes, so a script is polled and the session kept alive by that.
//! - What `get` brought is given as a 7z with the password `infected`. A session lists all that was ever fetched in it, so it is
//!   known by the request that fetched it and never by its name; the tenant's copy is deleted afterwards.
//! - Rights: Hosts read and write, Real time response read, write and admin.
//! - A contained host still talks to Falcon's cloud, so none of this needs an exception in the containment policy.
//! - Reference: Falcon API as described by falconpy; the RTR user guide for what its commands take.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};
use ureq::http::Method;

use super::api::{Api, Credentials, Send, escaped, secret};
use super::host_script::is_said;
use super::{Channel, CollectorSettings, Containment, Patience, Product};
use crate::steps::Failed;

/// `kind = "crowdstrike"`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CrowdStrikeSettings {
    /// The API of the tenant's cloud, such as `https://api.eu-1.crowdstrike.com`.
    pub url: String,
    /// The API client.
    pub client_id: String,
    /// File with its secret.
    pub client_secret_file: PathBuf,
    /// What is put on hosts.
    #[serde(default)]
    pub collector: Option<CollectorSettings>,
}

pub(super) struct Falcon<'a> {
    api: Api<'a>,
    collector: Option<&'a CollectorSettings>,
}

impl<'a> Falcon<'a> {
    pub(super) fn connect(settings: &'a CrowdStrikeSettings, patience: Patience<'a>) -> Result<Self, Failed> {
        let credentials = Credentials::Oauth {
            url: format!("{}/oauth2/token", settings.url.trim_end_matches('/')),
            form: vec![
                ("client_id", settings.client_id.clone()),
                ("client_secret", secret(&settings.client_secret_file)?),
            ],
        };
        Ok(Self {
            api: Api::new(&settings.url, credentials, patience)?,
            collector: settings.collector.as_ref(),
        })
    }
}

/// The one resource of an answer; errors stand in answers of status 200 too.
fn only(answer: &Value, what: &str) -> Result<Value, Failed> {
    let errors = answer.get("errors").and_then(Value::as_array).map_or(0, Vec::len);
    if errors > 0 {
        let said = answer.pointer("/errors/0/message").and_then(Value::as_str).unwrap_or_default();
        let said: String = said.chars().filter(|c| !c.is_control()).take(300).collect();
        return Err(Failed::for_now(format!("{what}: {said}")));
    }
    match answer.get("resources").and_then(Value::as_array).map(Vec::as_slice) {
        Some([only]) => Ok(only.clone()),
        Some(others) => {
            Err(Failed::for_good(format!("{what}: {} results where one was asked for", others.len())))
        }
        None => Err(Failed::for_now(format!("{what}: no result"))),
    }
}

impl Product for Falcon<'_> {
    fn containment(&self, device: &str) -> Result<Containment, Failed> {
        let answer = self.api.get(&format!("/devices/entities/devices/v2?ids={}", escaped(device)))?;
        let host = only(&answer, "reading the host")?;
        if host.get("device_id").and_then(Value::as_str) != Some(device) {
            return Err(Failed::for_good("Falcon gave another host than was asked for"));
        }
        match host.get("status").and_then(Value::as_str).unwrap_or_default() {
            "contained" => Ok(Containment::Contained),
            "normal" => Ok(Containment::Normal),
            word @ ("containment_pending" | "lift_containment_pending") => {
                Ok(Containment::Changing(word.to_owned()))
            }
            other => Err(Failed::for_now(format!(
                "the host has the status {other:?}, which is none that is known"
            ))),
        }
    }

    fn ask(&self, device: &str, contained: bool, comment: &str) -> Result<Value, Failed> {
        let act = if contained { "contain" } else { "lift_containment" };
        let path = format!("/devices/entities/devices-actions/v2?action_name={act}");
        let answer = self.api.post(
            &path,
            json!({"ids": [device], "action_parameters": [{"name": "comment", "value": comment}]}),
        )?;
        let done = only(&answer, act)?;
        if done.get("id").and_then(Value::as_str) != Some(device) {
            return Err(Failed::for_good(format!("{act}: Falcon acted on another host than was asked for")));
        }
        let trace = answer.pointer("/meta/trace_id").and_then(Value::as_str).unwrap_or_default();
        Ok(json!({"action": act, "request": crate::alert::one_line(trace)}))
    }

    fn channel<'s>(&'s self, device: &str, tag: &str) -> Result<Box<dyn Channel + 's>, Failed> {
        let body = json!({"device_id": device, "origin": "exhibit", "queue_offline": false});
        let path = "/real-time-response/entities/sessions/v1";
        let answer = self.api.ask_host(&Method::POST, path, &Send::Json(body))?;
        let session = only(&answer, "opening a session")?;
        let session = session.get("session_id").and_then(Value::as_str).filter(|id| is_id(id));
        let session = session.ok_or_else(|| Failed::for_now("the session has no id"))?.to_owned();
        let folder = self.collector.map_or("/var/tmp", CollectorSettings::folder);
        Ok(Box::new(Session {
            falcon: self,
            device: device.to_owned(),
            session,
            folder: format!("{folder}/exhibit-{tag}"),
            fetched: Vec::new(),
        }))
    }
}

/// Ids of theirs go into addresses.
fn is_id(id: &str) -> bool {
    (1..=128).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

/// An id of theirs, which some answers give as a number.
fn id_of(id: &Value) -> Option<String> {
    match id {
        Value::String(id) => is_id(id).then(|| id.clone()),
        Value::Number(id) => id.as_u64().map(|id| id.to_string()),
        _ => None,
    }
}

struct Session<'s> {
    falcon: &'s Falcon<'s>,
    device: String,
    session: String,
    folder: String,
    /// Ids of what was fetched from the host into the tenant.
    fetched: Vec<String>,
}

/// How a command of RTR ended.
struct Ended {
    /// The id that the command was given when it was sent. Answers about its state do not hold it.
    request: String,
    output: String,
    /// What it said on its standard error.
    words: String,
}

impl Ended {
    /// For commands that say nothing there unless they failed. A script is another matter: a shell warns of its language there.
    fn silent(self, base: &str) -> Result<Self, Failed> {
        if self.words.trim().is_empty() {
            return Ok(self);
        }
        Err(Failed::for_now(format!("{base} on the host: {}", crate::alert::one_line(&self.words))))
    }
}

impl Session<'_> {
    /// Runs one command of RTR to its end. The host may go away meanwhile and come back: nothing here fails for good but a right
    /// that is missing.
    fn command(&self, role: &str, base: &str, line: &str) -> Result<Ended, Failed> {
        let path = format!("/real-time-response/entities/{role}/v1");
        let body = json!({"base_command": base, "command_string": line, "session_id": self.session, "id": 0, "persist": false});
        let only =
            |answer: &Value| only(answer, base).map_err(|failed| Failed { may_help_again: true, ..failed });
        let api = &self.falcon.api;
        let begun = only(&api.ask_host(&Method::POST, &path, &Send::Json(body))?)?;
        let request = begun.get("cloud_request_id").and_then(Value::as_str).filter(|id| is_id(id));
        let request =
            request.ok_or_else(|| Failed::for_now(format!("{base}: no id of the request")))?.to_owned();
        let path = format!("{path}?cloud_request_id={request}&sequence_id=0");
        loop {
            let state = only(&api.ask_host(&Method::GET, &path, &Send::Nothing)?)?;
            if state.get("complete").and_then(Value::as_bool) == Some(true) {
                let said = |key: &str| state.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
                return Ok(Ended { request, output: said("stdout"), words: said("stderr") });
            }
            api.patience().pause(&format!("waiting for {base} on the host"))?;
        }
    }

    /// The put-file of this content, uploaded unless the tenant has it.
    fn put_file(&self, name: &str, bytes: &[u8]) -> Result<(), Failed> {
        let hash = custody::sha256(bytes).to_string();
        let api = &self.falcon.api;
        let filter = escaped(&format!("name:'{name}'"));
        let found = api.get(&format!("/real-time-response/queries/put-files/v1?filter={filter}"))?;
        let ids = found.get("resources").and_then(Value::as_array).cloned().unwrap_or_default();
        if let Some(id) = ids.iter().filter_map(Value::as_str).find(|id| is_id(id)) {
            let entity = api.get(&format!("/real-time-response/entities/put-files/v2?ids={id}"))?;
            let entity = only(&entity, "reading a put-file")?;
            if entity.get("sha256").and_then(Value::as_str) == Some(&hash) {
                return Ok(());
            }
            return Err(Failed::for_good(format!("the tenant has another put-file {name:?}")));
        }
        let fields = [
            ("name", name),
            ("description", "Exhibit's collector"),
            ("comments_for_audit_log", "put by Exhibit"),
        ];
        let send = Send::Parts { fields: &fields, files: &[("file", name, bytes)] };
        api.ask(&Method::POST, "/real-time-response/entities/put-files/v1", &send)?;
        Ok(())
    }
}

impl Channel for Session<'_> {
    fn put(&mut self, name: &str, bytes: &[u8]) -> Result<Vec<String>, Failed> {
        self.put_file(name, bytes)?;
        let folder = self.folder.clone();
        // One that an earlier run left is as good; whether there is one, `cd` tells.
        self.command("admin-command", "mkdir", &format!("mkdir {folder}"))?;
        self.command("admin-command", "cd", &format!("cd {folder}"))?.silent("cd")?;
        self.command("admin-command", "put", &format!("put {name}"))?.silent("put")?;
        Ok(vec![folder])
    }

    fn run(&mut self, script: &str) -> Result<String, Failed> {
        // Three backticks would end it.
        if script.contains("```") {
            return Err(Failed::for_good("a script that RTR cannot take"));
        }
        let line = format!("runscript -Raw=```{script}``` -Timeout=120");
        let ended = self.command("admin-command", "runscript", &line)?;
        // What our script says decides; only where it says nothing do the words beside it.
        if is_said(&ended.output) { Ok(ended.output) } else { Ok(ended.silent("runscript")?.output) }
    }

    fn fetch(&mut self, path: &str, into: &Path, most: u64) -> Result<(), Failed> {
        let got = self.command("active-responder-command", "get", &format!("get {path}"))?.silent("get")?;
        let api = &self.falcon.api;
        let listed = format!("/real-time-response/entities/file/v2?session_id={}", self.session);
        let hash = loop {
            let files = api.ask_host(&Method::GET, &listed, &Send::Nothing)?;
            let files = files.get("resources").and_then(Value::as_array).cloned().unwrap_or_default();
            let ours = files.iter().find(|file| {
                file.get("cloud_request_id").and_then(Value::as_str) == Some(got.request.as_str())
            });
            let hash = ours.and_then(|file| file.get("sha256")).and_then(Value::as_str).unwrap_or_default();
            if hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                self.fetched.extend(ours.and_then(|file| file.get("id")).and_then(id_of));
                break hash.to_owned();
            }
            api.patience().pause("waiting for the file to arrive in Falcon's cloud")?;
        };
        let path = format!(
            "/real-time-response/entities/extracted-file-contents/v1?session_id={}&sha256={hash}&filename=bundle.7z",
            self.session
        );
        // Packed is never much more than plain.
        api.fetch(&path, into, most.saturating_add(most / 100).saturating_add(1 << 20))
    }

    fn close(&mut self) -> Vec<String> {
        let (api, session) = (&self.falcon.api, &self.session);
        let mut left = Vec::new();
        for id in std::mem::take(&mut self.fetched) {
            let path = format!("/real-time-response/entities/file/v2?ids={id}&session_id={session}");
            if let Err(failed) = api.remove(&path) {
                left.push(format!("the evidence that was fetched is still in the tenant: {failed}"));
            }
        }
        let path = format!("/real-time-response/entities/sessions/v1?session_id={session}");
        if let Err(failed) = api.remove(&path) {
            left.push(format!("the RTR session of {} was not ended: {failed}", self.device));
        }
        left
    }
}
