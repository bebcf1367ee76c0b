//! Microsoft Defender for Endpoint: device isolation, and live response as the way to a host.
//!
//! - Containment: `machines/{id}/isolate` and `unisolate`, each a machine action that goes on by itself. Whether a host is
//!   isolated is told by the newest of these actions that was not given up, whoever asked for it.
//! - Way: files of the tenant's library, and `runliveresponse` with `PutFile`, `RunScript` and `GetFile`. One session at a time,
//!   ten calls a minute, a script ends after ten minutes; so what takes longer goes on in the background and is asked after.
//! - Where `PutFile` puts files on Linux is not documented: name the folder in `put_folder`; our script looks there, and runs
//!   only what has the pinned hash.
//! - A containment that Defender accepted is pending for as long as the host is away. Letting back is refused meanwhile.
//! - The collector stays in the library for other hosts; scripts of one capture are deleted. What `GetFile` brought stays where
//!   Defender keeps results, which cannot be deleted through the API.
//! - Rights: Machine.Read.All, Machine.Isolate, Machine.LiveResponse, Library.Manage.
//! - Reference: Microsoft Defender for Endpoint API, "Machine action", "Run live response commands", "Upload files to library".

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};
use ureq::http::Method;

use super::api::{Api, Credentials, Send, escaped, secret};
use super::{Channel, CollectorSettings, Containment, Patience, Product};
use crate::steps::Failed;

/// `kind = "defender"`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DefenderSettings {
    /// The tenant's id.
    pub tenant_id: String,
    /// The application.
    pub client_id: String,
    /// File with its secret.
    pub client_secret_file: PathBuf,
    /// `https://api.security.microsoft.com` unless told.
    #[serde(default)]
    pub url: Option<String>,
    /// `https://login.microsoftonline.com` unless told.
    #[serde(default)]
    pub login_url: Option<String>,
    /// Where `PutFile` puts files on hosts.
    #[serde(default)]
    pub put_folder: Option<String>,
    /// What is put on hosts.
    #[serde(default)]
    pub collector: Option<CollectorSettings>,
}

/// Where results are fetched from: shared signatures of Azure's blob store.
const RESULTS: &[&str] = &[".blob.core.windows.net"];

/// What Defender says of a second action of a kind on one host.
const BUSY: &str = "ActiveRequestAlreadyExists";

pub(super) struct Defender<'a> {
    api: Api<'a>,
    settings: &'a DefenderSettings,
}

impl<'a> Defender<'a> {
    pub(super) fn connect(settings: &'a DefenderSettings, patience: Patience<'a>) -> Result<Self, Failed> {
        let is_id = |id: &str| {
            id.len() <= 64 && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte))
        };
        if !is_id(&settings.tenant_id) {
            return Err(Failed::for_good("tenant_id is no id of a tenant"));
        }
        let url = settings.url.as_deref().unwrap_or("https://api.security.microsoft.com");
        let login = settings.login_url.as_deref().unwrap_or("https://login.microsoftonline.com");
        let credentials = Credentials::Oauth {
            url: format!("{}/{}/oauth2/v2.0/token", login.trim_end_matches('/'), settings.tenant_id),
            form: vec![
                ("client_id", settings.client_id.clone()),
                ("client_secret", secret(&settings.client_secret_file)?),
                ("scope", "https://api.securitycenter.microsoft.com/.default".to_owned()),
                ("grant_type", "client_credentials".to_owned()),
            ],
        };
        Ok(Self { api: Api::new(url, credentials, patience)?, settings })
    }

    /// Waits until an action has ended.
    fn ended(&self, begun: &Value, device: &str, what: &str) -> Result<Value, Failed> {
        let id = action_of(begun, device, what)?;
        let mut action = begun.clone();
        loop {
            match action.get("status").and_then(Value::as_str).unwrap_or_default() {
                "Succeeded" => return Ok(action),
                "Pending" | "InProgress" => {}
                other => {
                    let errors =
                        action.pointer("/commands/0/errors/0").and_then(Value::as_str).unwrap_or_default();
                    let words = crate::alert::one_line(&format!("{what} ended as {other:?} {errors}"));
                    return Err(Failed::for_now(words));
                }
            }
            self.api.patience().pause(&format!("waiting for {what}"))?;
            action = self.api.get(&format!("/api/machineactions/{id}"))?;
        }
    }
}

/// The id of an action that was accepted for this host.
fn action_of(begun: &Value, device: &str, what: &str) -> Result<String, Failed> {
    let id = begun.get("id").and_then(Value::as_str).filter(|id| is_action(id));
    let id = id.ok_or_else(|| Failed::for_now(format!("{what}: the action has no id")))?;
    if begun.get("machineId").and_then(Value::as_str) != Some(device) {
        return Err(Failed::for_good(format!("{what}: Defender acts on another host than was asked for")));
    }
    Ok(id.to_owned())
}

/// Ids of theirs go into addresses.
fn is_action(id: &str) -> bool {
    (1..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

impl Product for Defender<'_> {
    fn containment(&self, device: &str) -> Result<Containment, Failed> {
        let filter =
            escaped(&format!("machineId eq '{device}' and (type eq 'Isolate' or type eq 'Unisolate')"));
        let path =
            format!("/api/machineactions?$filter={filter}&$orderby=creationDateTimeUtc%20desc&$top=20");
        let answer = self.api.get(&path)?;
        let actions = answer.get("value").and_then(Value::as_array);
        let actions = actions.ok_or_else(|| Failed::for_now("the answer holds no machine actions"))?;
        let text = |action: &Value, key: &str| {
            action.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        // Newest first, whatever order they came in.
        let mut ours: Vec<_> = actions
            .iter()
            .filter(|action| text(action, "machineId") == device)
            .map(|action| (text(action, "creationDateTimeUtc"), text(action, "type"), text(action, "status")))
            .collect();
        ours.sort();
        for (_, kind, status) in ours.iter().rev() {
            match (status.as_str(), kind.as_str()) {
                ("Succeeded", "Isolate") => return Ok(Containment::Contained),
                ("Succeeded", "Unisolate") => return Ok(Containment::Normal),
                ("Pending" | "InProgress", _) => {
                    return Ok(Containment::Changing(format!("{kind} {status}")));
                }
                _ => {}
            }
        }
        // Nobody ever isolated it; but is there such a host?
        let machine = self.api.get(&format!("/api/machines/{}", escaped(device)))?;
        if text(&machine, "id") != device {
            return Err(Failed::for_good("Defender gave another host than was asked for"));
        }
        Ok(Containment::Normal)
    }

    fn ask(&self, device: &str, contained: bool, comment: &str) -> Result<Value, Failed> {
        let (act, body) = if contained {
            ("isolate", json!({"Comment": comment, "IsolationType": "Full"}))
        } else {
            ("unisolate", json!({"Comment": comment}))
        };
        let begun = self.api.post(&format!("/api/machines/{}/{act}", escaped(device)), body)?;
        Ok(json!({"action": act, "request": action_of(&begun, device, act)?}))
    }

    fn given_up(&self, asked: &Value) -> Result<Option<String>, Failed> {
        let Some(id) = asked.get("request").and_then(Value::as_str).filter(|id| is_action(id)) else {
            return Ok(None);
        };
        let action = self.api.get(&format!("/api/machineactions/{id}"))?;
        Ok(match action.get("status").and_then(Value::as_str) {
            Some("Succeeded" | "Pending" | "InProgress") | None => None,
            Some(other) => Some(crate::alert::one_line(&format!("the action {id} ended as {other:?}"))),
        })
    }

    fn channel<'s>(&'s self, device: &str, tag: &str) -> Result<Box<dyn Channel + 's>, Failed> {
        Ok(Box::new(LiveResponse {
            defender: self,
            device: device.to_owned(),
            tag: tag.to_owned(),
            scripts: 0,
            library: Vec::new(),
        }))
    }
}

struct LiveResponse<'s> {
    defender: &'s Defender<'s>,
    device: String,
    tag: String,
    scripts: u32,
    /// What we put into the tenant's library for this host alone.
    library: Vec<String>,
}

impl LiveResponse<'_> {
    /// Runs one command, and gives the address of its result if it has one.
    fn command(&self, kind: &str, parameters: &[(&str, &str)]) -> Result<String, Failed> {
        let api = &self.defender.api;
        let parameters: Vec<_> =
            parameters.iter().map(|(key, value)| json!({"key": key, "value": value})).collect();
        let body = json!({"Commands": [{"type": kind, "params": parameters}], "Comment": format!("Exhibit {}", self.tag)});
        let path = format!("/api/machines/{}/runliveresponse", escaped(&self.device));
        let send = Send::Json(body);
        let begun = loop {
            match api.ask_host(&Method::POST, &path, &send) {
                // One at a time: another of ours that was not waited for, or another person's.
                Err(failed) if failed.what.contains(BUSY) => {
                    api.patience().pause("another live response goes on")?;
                }
                answer => break answer?,
            }
        };
        let ended = self.defender.ended(&begun, &self.device, kind)?;
        let command = ended.pointer("/commands/0");
        let status = command.and_then(|command| command.get("commandStatus")).and_then(Value::as_str);
        if status != Some("Completed") {
            let error = command.and_then(|command| command.pointer("/errors/0")).and_then(Value::as_str);
            let words = format!("{kind} on the host ended as {status:?} {}", error.unwrap_or_default());
            return Err(Failed::for_now(crate::alert::one_line(&words)));
        }
        if kind == "PutFile" {
            return Ok(String::new());
        }
        let id = ended.get("id").and_then(Value::as_str).filter(|id| is_action(id)).unwrap_or_default();
        let link =
            api.get(&format!("/api/machineactions/{id}/GetLiveResponseResultDownloadLink(index=0)"))?;
        let link = link.get("value").and_then(Value::as_str);
        Ok(link.ok_or_else(|| Failed::for_now(format!("{kind} has no result")))?.to_owned())
    }

    fn upload(&self, name: &str, bytes: &[u8], about: &str) -> Result<(), Failed> {
        let fields = [
            ("Description", about),
            ("ParametersDescription", ""),
            ("OverrideIfExists", "true"),
            ("HasParameters", "false"),
        ];
        let send = Send::Parts { fields: &fields, files: &[("file", name, bytes)] };
        self.defender.api.ask(&Method::POST, "/api/libraryfiles", &send)?;
        Ok(())
    }
}

impl Channel for LiveResponse<'_> {
    fn put(&mut self, name: &str, bytes: &[u8]) -> Result<Vec<String>, Failed> {
        let library = self.defender.api.get("/api/libraryfiles")?;
        let files = library.get("value").and_then(Value::as_array).cloned().unwrap_or_default();
        let hash = custody::sha256(bytes).to_string();
        let is_there = files.iter().any(|file| {
            let text = |key: &str| file.get(key).and_then(Value::as_str).unwrap_or_default();
            text("fileName") == name && text("sha256").eq_ignore_ascii_case(&hash)
        });
        if !is_there {
            self.upload(name, bytes, "Exhibit's collector")?;
        }
        self.command("PutFile", &[("FileName", name)])?;
        Ok(self.defender.settings.put_folder.clone().into_iter().collect())
    }

    fn run(&mut self, script: &str) -> Result<String, Failed> {
        self.scripts += 1;
        let name = format!("exhibit-{}-{}.sh", self.tag, self.scripts);
        self.upload(&name, script.as_bytes(), "Exhibit, for one host, removed afterwards")?;
        if !self.library.contains(&name) {
            self.library.push(name.clone());
        }
        let link = self.command("RunScript", &[("ScriptName", &name)])?;
        let said = self.defender.api.read_elsewhere(&link, RESULTS)?;
        let said = crate::alert::strict_json::read(&said)
            .map_err(|why| Failed::for_now(format!("the script's result: {why}")))?;
        match said.get("exit_code").and_then(Value::as_i64) {
            Some(0) => Ok(said.get("script_output").and_then(Value::as_str).unwrap_or_default().to_owned()),
            code => {
                let words = said.get("script_errors").and_then(Value::as_str).unwrap_or_default();
                let words = format!("the script ended with {code:?}: {words}");
                Err(Failed::for_now(crate::alert::one_line(&words)))
            }
        }
    }

    fn fetch(&mut self, path: &str, into: &Path, most: u64) -> Result<(), Failed> {
        let link = self.command("GetFile", &[("Path", path)])?;
        self.defender.api.fetch_elsewhere(
            &link,
            RESULTS,
            into,
            most.saturating_add(most / 100).saturating_add(1 << 20),
        )
    }

    fn close(&mut self) -> Vec<String> {
        let mut left = Vec::new();
        for name in std::mem::take(&mut self.library) {
            let path = format!("/api/libraryfiles/{}", escaped(&name));
            if let Err(failed) = self.defender.api.remove(&path) {
                left.push(format!("{name} is still in the tenant's library: {failed}"));
            }
        }
        left
    }
}
