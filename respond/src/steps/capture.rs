//! `capture.disk`, `capture.memory`, `capture.triage`, `capture.logs`, `capture.cloud_logs`: commands of this program on this
//! host, or against the account.
//!
//! A sealed exhibit of the step's name in the job's case says that it was captured. An open one is gone on with where its kind
//! can; where it cannot it stays, and another is begun: never are there two sealed ones.

use std::ffi::OsString;

use acquire::aws::{Connection, Settings as AccountSettings};
use serde_json::{Value, json};

use super::exhibits::{look, told};
use super::{Context, Failed, Parameter, Step, Takes, child};
use crate::alert::AssetKind;

/// One kind of acquisition.
struct Capture {
    word: &'static str,
    about: &'static str,
    kinds: &'static [AssetKind],
    parameters: &'static [Parameter],
    /// Whether `--resume` goes on with one that was cut short.
    resumes: bool,
    /// Whether it is of this host, and so of no other.
    is_local: bool,
    /// `exhibit acquire` and what follows.
    arguments: fn(&Context<'_>) -> Result<Vec<OsString>, Failed>,
}

const fn text(name: &'static str, about: &'static str) -> Parameter {
    Parameter { name, about, takes: Takes::Text }
}

const fn texts(name: &'static str, about: &'static str) -> Parameter {
    Parameter { name, about, takes: Takes::Texts }
}

pub(super) static DISK: &dyn Step = &Capture {
    word: "capture.disk",
    about: "Reads a disk of this host or of one over SSH, or an image file, into a bundle",
    kinds: &[AssetKind::Host],
    parameters: &[
        text("source", "The block device or image"),
        text("max_read", "Read no faster, as 200MB/s"),
    ],
    resumes: true,
    is_local: true,
    arguments: disk,
};

pub(super) static MEMORY: &dyn Step = &Capture {
    word: "capture.memory",
    about: "Takes the memory of this host or of one over SSH as a LiME image with the kernel's symbols",
    kinds: &[AssetKind::Host],
    parameters: &[text("source", "auto, kcore, crash, mem, or an image file")],
    resumes: false,
    is_local: true,
    arguments: memory,
};

pub(super) static TRIAGE: &dyn Step = &Capture {
    word: "capture.triage",
    about: "Takes live state of this host or of one over SSH in order of volatility, then files",
    kinds: &[AssetKind::Host],
    parameters: &[
        text("profile", "fast or full"),
        texts("artefacts", "Only these"),
        text("root", "Where the host's files lie"),
    ],
    resumes: false,
    is_local: true,
    arguments: triage,
};

pub(super) static LOGS: &dyn Step = &Capture {
    word: "capture.logs",
    about: "Takes files and folders of this host or of one over SSH, /var/log unless others are named",
    kinds: &[AssetKind::Host],
    parameters: &[texts("paths", "The files and folders")],
    resumes: false,
    is_local: true,
    arguments: logs,
};

pub(super) static CLOUD_LOGS: &dyn Step = &Capture {
    word: "capture.cloud_logs",
    about: "Takes logs of the account out of their bucket, with the time around the alert",
    kinds: &[
        AssetKind::Ec2Instance,
        AssetKind::EbsVolume,
        AssetKind::IamAccessKey,
        AssetKind::IamUser,
        AssetKind::IamRole,
        AssetKind::S3Bucket,
        AssetKind::Host,
        AssetKind::K8sPod,
        AssetKind::Container,
    ],
    parameters: &[
        text("from", "The place, s3://BUCKET/PREFIX"),
        text("since", "As exhibit acquire cloud-logs takes it"),
        text("until", "As exhibit acquire cloud-logs takes it"),
    ],
    resumes: false,
    is_local: false,
    arguments: cloud_logs,
};

impl Step for Capture {
    fn word(&self) -> &'static str {
        self.word
    }

    fn about(&self) -> &'static str {
        self.about
    }

    fn takes(&self, kind: AssetKind) -> bool {
        self.kinds.contains(&kind)
    }

    fn parameters(&self) -> &'static [Parameter] {
        self.parameters
    }

    fn run(&self, context: &Context<'_>) -> Result<Value, Failed> {
        if self.is_local
            && let Some(host) = context.settings.targets.ssh.get(&context.asset.target)
        {
            return crate::targets::ssh::capture(context, host, context.id, &(self.arguments)(context)?);
        }
        if self.is_local && context.asset.target != "local" {
            return Err(Failed::for_good(format!(
                "{} is of the host that the service runs on or of one of [targets.ssh], and the inventory says that {} is reached through {:?}",
                self.word, context.asset.id, context.asset.target
            )));
        }
        let arguments = (self.arguments)(context)?;
        capture(context, context.id, arguments, self.resumes)
    }
}

/// Acquires into the exhibit of this name, unless that was done.
pub(super) fn capture(
    context: &Context<'_>,
    name: &str,
    arguments: Vec<OsString>,
    resumes: bool,
) -> Result<Value, Failed> {
    let found = look(context.case, name)?;
    if let Some(sealed) = found.sealed.first() {
        return told(sealed);
    }
    let mut arguments = [vec!["acquire".into()], arguments].concat();
    arguments.extend(into(context, name));
    let was_resumed = context.intents.iter().any(|intent| intent.get("resumes") == Some(&Value::Bool(true)));
    // Once: what cannot be gone on with, for whatever reason, is begun anew.
    if resumes && !found.open.is_empty() && !was_resumed {
        (context.intend)(&json!({"resumes": true})).map_err(|error| Failed::for_now(error.to_string()))?;
        let resuming = [arguments.clone(), vec!["--resume".into()]].concat();
        let ended = child::run(context, &resuming)?;
        if let Some(sealed) = look(context.case, name)?.sealed.first() {
            return told(sealed);
        }
        return Err(Failed::for_now(ended.failure("going on with it").what));
    }
    let ended = child::run(context, &arguments)?;
    match look(context.case, name)?.sealed.first() {
        Some(sealed) if ended.is_done() => {
            let mut told = told(sealed)?;
            if let Some(told) = told.as_object_mut() {
                told.insert("issues".to_owned(), ended.issues.into());
            }
            Ok(told)
        }
        _ => Err(ended.failure("the acquisition")),
    }
}

/// Where an acquisition goes to.
pub(super) fn into(context: &Context<'_>, name: &str) -> Vec<OsString> {
    let mut words: Vec<OsString> = vec!["--case".into(), context.case.into(), "--name".into(), name.into()];
    let capture = &context.settings.capture;
    for recipient in &capture.encrypt_to {
        words.extend(["--encrypt-to".into(), recipient.into()]);
    }
    if let Some(place) = &capture.to {
        words.extend(["--to".into(), place.into()]);
        words.extend(account(context));
    }
    words
}

/// In which account, as every command takes it.
pub(super) fn account(context: &Context<'_>) -> Vec<OsString> {
    let aws = &context.settings.aws;
    let mut words: Vec<OsString> = Vec::new();
    // The asset's own region before the one of the settings: inventory or account said it.
    let region = Some(&context.asset.region).filter(|region| is_region(region)).or(aws.region.as_ref());
    for (option, value) in [
        ("--region", region),
        ("--aws-profile", aws.profile.as_ref()),
        ("--endpoint-url", aws.endpoint_url.as_ref()),
    ] {
        if let Some(value) = value {
            words.extend([option.into(), value.into()]);
        }
    }
    words
}

/// A connection to the account.
pub(crate) fn connection(context: &Context<'_>) -> Result<Connection, Failed> {
    let aws = &context.settings.aws;
    let region = Some(&context.asset.region).filter(|region| is_region(region)).or(aws.region.as_ref());
    let settings = AccountSettings {
        region: region.cloned(),
        profile: aws.profile.clone(),
        credentials: None,
        endpoint: aws.endpoint_url.clone(),
    };
    Connection::open(&settings)
        .map_err(|error| Failed::for_now(format!("no connection to the account: {error}")))
}

fn is_region(text: &str) -> bool {
    (5..=30).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// A text of the rule, which must not look like an option.
pub(super) fn value<'a>(context: &Context<'a>, name: &str) -> Result<Option<&'a str>, Failed> {
    match context.parameters.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => plain(name, text).map(Some),
        Some(_) => Err(Failed::for_good(format!("{name} must be a text"))),
    }
}

fn values<'a>(context: &Context<'a>, name: &str) -> Result<Vec<&'a str>, Failed> {
    match context.parameters.get(name) {
        None => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(vec![plain(name, text)?]),
        Some(Value::Array(texts)) => texts
            .iter()
            .map(|text| {
                let wrong = || Failed::for_good(format!("{name} must be a list of texts"));
                plain(name, text.as_str().ok_or_else(wrong)?)
            })
            .collect(),
        Some(_) => Err(Failed::for_good(format!("{name} must be a list of texts"))),
    }
}

fn plain<'a>(name: &str, text: &'a str) -> Result<&'a str, Failed> {
    if text.is_empty() || text.starts_with('-') || text.contains('\0') {
        return Err(Failed::for_good(format!("{name} is {text:?}, which no command takes")));
    }
    Ok(text)
}

fn disk(context: &Context<'_>) -> Result<Vec<OsString>, Failed> {
    let source = value(context, "source")?;
    let source = source.ok_or_else(|| Failed::for_good("the rule names no source for capture.disk"))?;
    let mut words: Vec<OsString> = vec!["disk".into(), source.into()];
    if let Some(rate) = value(context, "max_read")? {
        words.extend(["--max-read".into(), rate.into()]);
    }
    Ok(words)
}

fn memory(context: &Context<'_>) -> Result<Vec<OsString>, Failed> {
    let source = value(context, "source")?.unwrap_or("auto");
    Ok(vec!["memory".into(), "--source".into(), source.into()])
}

fn triage(context: &Context<'_>) -> Result<Vec<OsString>, Failed> {
    let profile = value(context, "profile")?.unwrap_or("full");
    let mut words: Vec<OsString> = vec!["triage".into(), "--profile".into(), profile.into()];
    if let Some(root) = value(context, "root")? {
        words.extend(["--root".into(), root.into()]);
    }
    for artefact in values(context, "artefacts")? {
        words.extend(["--artefact".into(), artefact.into()]);
    }
    Ok(words)
}

fn logs(context: &Context<'_>) -> Result<Vec<OsString>, Failed> {
    let paths = values(context, "paths")?;
    let paths = if paths.is_empty() { vec!["/var/log"] } else { paths };
    Ok(std::iter::once("logs").chain(paths).map(OsString::from).collect())
}

fn cloud_logs(context: &Context<'_>) -> Result<Vec<OsString>, Failed> {
    let from = value(context, "from")?;
    let from = from.ok_or_else(|| Failed::for_good("the rule names no place for capture.cloud_logs"))?;
    let mut words: Vec<OsString> = vec!["cloud-logs".into(), from.into()];
    for (name, option) in [("since", "--since"), ("until", "--until")] {
        if let Some(time) = value(context, name)? {
            words.extend([option.into(), time.into()]);
        }
    }
    if context.settings.capture.to.is_none() {
        words.extend(account(context));
    }
    Ok(words)
}
