//! Where a container runs, and how it is acquired there: on this host, or on one that is reached over SSH.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};

use super::programs::{Input, Limit, of_ours, run};
use super::ssh;
use super::ssh_order::account;
use crate::steps::exhibits::sealed;
use crate::steps::{Context, Failed};

/// Longest capture of one container on this host.
const TIME: Duration = Duration::from_secs(4 * 3600);

/// One place with containers in the settings: `[targets.containers.NAME]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContainerSettings {
    /// `local`, or a name of `[targets.ssh]`; `local` unless told.
    #[serde(default)]
    pub on: Option<String>,
    /// `auto`, `docker`, `containerd` or `runc`; `auto` unless told.
    #[serde(default)]
    pub runtime: Option<String>,
    /// Sockets beside those at the usual places.
    #[serde(default)]
    pub sockets: Vec<PathBuf>,
    /// Folders of runc's state beside those at the usual places.
    #[serde(default)]
    pub states: Vec<PathBuf>,
}

/// How a container is to be acquired.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct How<'a> {
    pub(crate) pause: bool,
    pub(crate) memory_limit: Option<&'a str>,
    pub(crate) files_limit: Option<&'a str>,
}

/// Acquires a container through a target: a name of `[targets.containers]` or `[targets.ssh]`, or `local`.
///
/// # Errors
///
/// [`Failed`].
pub(crate) fn capture(
    context: &Context<'_>,
    target: &str,
    id: &str,
    name: &str,
    how: How<'_>,
) -> Result<Value, Failed> {
    let targets = &context.settings.targets;
    let settings = targets.containers.get(target).cloned();
    let on = match &settings {
        Some(settings) => settings.on.clone().unwrap_or_else(|| "local".to_owned()),
        None => target.to_owned(),
    };
    let settings = settings.unwrap_or_default();
    if !is_id(id) {
        return Err(Failed::for_good("the container's id is none"));
    }
    let mut words: Vec<OsString> = vec!["container".into(), id.into()];
    if let Some(runtime) = &settings.runtime {
        words.extend(["--runtime".into(), runtime.into()]);
    }
    for (option, paths) in [("--socket", &settings.sockets), ("--state", &settings.states)] {
        for path in paths {
            words.extend([option.into(), path.into()]);
        }
    }
    if how.pause {
        words.push("--pause".into());
    }
    for (option, limit) in [("--memory-limit", how.memory_limit), ("--files-limit", how.files_limit)] {
        if let Some(limit) =
            limit.filter(|limit| limit.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.'))
        {
            words.extend([option.into(), limit.into()]);
        }
    }
    match on.as_str() {
        "local" | "" => here(context, name, &words),
        host => match targets.ssh.get(host) {
            Some(settings) => ssh::capture(context, settings, name, &words),
            None => Err(Failed::for_good(format!(
                "the container is to be reached through {host:?}, which is neither `local` nor one of [targets.ssh] or [targets.containers]"
            ))),
        },
    }
}

/// `ID`, a name, or `NAMESPACE/ID`.
fn is_id(id: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-+/".contains(&byte);
    !id.is_empty() && id.len() <= 200 && !id.starts_with(['-', '.', '/']) && id.bytes().all(plain)
}

/// Runs `exhibit acquire WORDS` here, into the exhibit of this name, unless that is sealed already.
///
/// # Errors
///
/// [`Failed`].
pub(crate) fn here(context: &Context<'_>, name: &str, words: &[OsString]) -> Result<Value, Failed> {
    if let Some(sealed) = sealed(context.case, name)? {
        return Ok(sealed);
    }
    let mut command = of_ours(context.program, context.settings);
    command.arg("acquire").args(words).arg("--case").arg(context.case).args(["--name", name]);
    let capture = &context.settings.capture;
    for recipient in &capture.encrypt_to {
        command.args(["--encrypt-to", recipient]);
    }
    if let Some(place) = &capture.to {
        account(context, command.args(["--to", place]));
    }
    let shown: Vec<String> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    (context.intend)(&json!({"acquire": shown, "name": name}))
        .map_err(|error| Failed::for_now(error.to_string()))?;
    let limit = Limit { until: Instant::now() + TIME, stop: Some(context.stop) };
    let ended = run(&mut command, Input::Nothing, limit)?;
    let issues = ended.issues();
    match (ended.code, sealed(context.case, name)?) {
        (Some(0 | 1), Some(mut told)) => {
            if let Some(told) = told.as_object_mut() {
                told.insert("issues".to_owned(), issues.into());
            }
            Ok(told)
        }
        (Some(2), _) => Err(Failed::for_good(format!("the acquisition ended with {}", ended.told()))),
        _ => Err(Failed::for_now(format!("the acquisition ended with {}", ended.told()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_containers_are_no_options_and_no_paths() {
        for id in ["9c1f4c0e6f9b", "k8s.io/9c1f", "web-1"] {
            assert!(is_id(id), "{id}");
        }
        for id in ["", "--case", "../x", "/etc", "a b", "a;b", "$(x)"] {
            assert!(!is_id(id), "{id}");
        }
    }
}
