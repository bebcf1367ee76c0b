//! `capture.edr`: a host is captured through its EDR's own channel, whether it is contained or not.
//!
//! Whether it is contained is read before and after each run; any change fails the step, also where the evidence came in, but
//! for a containment that an isolation of this very job made. Our collector is put there, checked by the host against the
//! pinned hash, run for a commission, its exhibit fetched, unpacked within bounds, and taken in by `exhibit commission --take`,
//! which verifies it and believes nothing.
//!
//! Whatever comes of it, and also when the service stops: our processes on the host are ended and our folder there is removed,
//! over a way that is opened for that alone and has a time of its own. What stays with the product is said in `docs/EDR.md`.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use custody::Case;
use custody::digest::sha256_of;
use serde_json::{Value, json};

use super::host_script::{HostScript, State, state_of};
use super::{
    CONTAINING, Channel, CollectorSettings, Containment, EdrSettings, Patience, Product, archives, device,
    tenant,
};
use crate::alert::AssetKind;
use crate::isolate::{case_log, texts};
use crate::rules::amounts::span;
use crate::steps::exhibits::{look, told};
use crate::steps::{Context, Failed, Parameter, Step, Takes};
use crate::targets::programs::{Input, Limit, of_ours, run};
use crate::targets::shell_words::{is_folder, quoted};
use crate::targets::ssh_order::{tag, work_folder};

/// The word of the step.
pub(super) const WORD: &str = "capture.edr";

/// Seconds for all of it.
const TIME: u64 = 4 * 3600;
/// Seconds between two looks at the host.
const PAUSE: u64 = 15;
/// For removing what is ours on the host, whatever became of the time for all of it.
const REMOVING: Duration = Duration::from_secs(300);
const LOOKING: Duration = Duration::from_secs(5);

/// What is ours is removed also while the service stops.
static NEVER: AtomicBool = AtomicBool::new(false);

const PARAMETERS: &[Parameter] = &[
    Parameter { name: "profile", about: "fast or full", takes: Takes::Text },
    Parameter { name: "artefacts", about: "Only these", takes: Takes::Texts },
    Parameter { name: "edr", about: "Which of [targets.edr], where it is not clear", takes: Takes::Text },
    Parameter { name: "contained", about: "Only while its EDR contains it", takes: Takes::Flag },
    Parameter { name: "pause", about: "Between two looks at the host", takes: Takes::Span },
];

/// The step.
pub struct CaptureEdr;

impl Step for CaptureEdr {
    fn word(&self) -> &'static str {
        WORD
    }

    fn about(&self) -> &'static str {
        "Takes live state and files of a Linux host through its EDR, and leaves its containment as it is"
    }

    fn takes(&self, kind: AssetKind) -> bool {
        kind == AssetKind::Host
    }

    fn parameters(&self) -> &'static [Parameter] {
        PARAMETERS
    }

    fn run(&self, context: &Context<'_>) -> Result<Value, Failed> {
        let text = |name: &str| context.parameters.get(name).and_then(Value::as_str);
        let profile = text("profile").unwrap_or("fast");
        if !matches!(profile, "fast" | "full") {
            return Err(Failed::for_good("profile is fast or full"));
        }
        let (name, settings) = tenant(&context.settings.targets.edr, context.asset, text("edr"), None)?;
        let collector = settings.collector();
        let collector =
            collector.ok_or_else(|| Failed::for_good(format!("{name} has no collector in the settings")))?;
        if !is_folder(collector.folder()) {
            return Err(Failed::for_good(format!(
                "{:?} is no folder that could be named in a command",
                collector.folder()
            )));
        }
        let pause = text("pause").map_or(Ok(PAUSE), span).map_err(Failed::for_good)?;
        let patience = Patience {
            until: Instant::now() + Duration::from_secs(TIME),
            pause: Duration::from_secs(pause.clamp(1, 300)),
            stop: context.stop,
        };
        capture(context, name, settings, collector, profile, patience)
    }
}

/// Captures a host, unless that was done.
///
/// # Errors
///
/// [`Failed`], for good when the containment changed.
pub fn capture(
    context: &Context<'_>,
    name: &str,
    settings: &EdrSettings,
    collector: &CollectorSettings,
    profile: &str,
    patience: Patience<'_>,
) -> Result<Value, Failed> {
    let device = device(settings, context.asset)?;
    let product = settings.connect(patience)?;
    let before = before(context, &*product, device, patience)?;
    if context.parameters.get("contained") == Some(&Value::Bool(true)) && before != Containment::Contained {
        return Err(Failed::for_good(format!(
            "{device} is {}, and the rule asks for one that is contained",
            before.told()
        )));
    }
    let host = Captured { context, settings, device, collector, profile, patience };
    let taken = match look(context.case, context.id)?.sealed.first() {
        Some(sealed) => {
            // A run that was killed just after that had no time for it.
            let _ = fs::remove_dir_all(work_folder(context, &tag(context.job, context.id))?);
            told(sealed)
        }
        None => host.collect(&*product),
    };
    // Also when nothing came: that we changed nothing is half of what is promised.
    let after = product.containment(device);
    let is_as_before = matches!(&after, Ok(after) if *after == before);
    let by_us = match &after {
        Ok(after) if !is_as_before => contained_by_us(context, &before, after),
        _ => None,
    };
    match (taken, after) {
        (Ok(taken), Ok(after)) if is_as_before || by_us.is_some() => {
            let mut taken = taken;
            if let Some(taken) = taken.as_object_mut() {
                taken.insert("edr".to_owned(), name.into());
                taken.insert("device".to_owned(), device.into());
                let mut containment = json!({"before": before, "after": after});
                if let (Some(ours), Some(containment)) = (by_us, containment.as_object_mut()) {
                    let why = format!("{ours}, an isolation of the same job, contained it meanwhile");
                    containment.insert("issue".to_owned(), why.into());
                }
                taken.insert("containment".to_owned(), containment);
            }
            Ok(taken)
        }
        (taken, Ok(after)) if !is_as_before && by_us.is_none() => {
            let evidence = match taken {
                Ok(taken) => format!(
                    "the evidence is in the case as {}",
                    taken.get("exhibit").and_then(Value::as_str).unwrap_or("an exhibit")
                ),
                Err(failed) => format!("and nothing was taken: {failed}"),
            };
            Err(Failed::for_good(format!(
                "the containment of {device} changed meanwhile: {} before, {} after; {evidence}",
                before.told(),
                after.told()
            )))
        }
        (Err(failed), after) => {
            if let Ok(after) = after {
                // This run has ended: the next one compares with what it finds itself. Where that cannot be kept, it compares
                // with what this one found, which is the stricter.
                let _ = (context.intend)(&json!({"device": device, "containment_after": after}));
            }
            Err(failed)
        }
        (Ok(_), Err(failed)) => Err(Failed::for_now(format!(
            "the evidence came, but the containment could not be read again: {failed}"
        ))),
        (Ok(taken), Ok(_)) => Ok(taken),
    }
}

/// Which isolation of this job contained the host, as the case's log says.
fn contained_by_us(context: &Context<'_>, before: &Containment, after: &Containment) -> Option<String> {
    if *before != Containment::Normal || !(*after == Containment::Contained || after.becomes(true)) {
        return None;
    }
    let log = Case::open(context.case).and_then(|case| case.log().read()).ok()?;
    case_log::all(&log.entries)
        .into_iter()
        .find(|isolation| {
            isolation.job == context.job
                && isolation.stage != case_log::Stage::Undone
                && CONTAINING.contains(&isolation.kind.as_str())
        })
        .map(|isolation| isolation.id)
}

/// The containment before this step touched anything: as it is now, or as a run that was killed found it.
fn before(
    context: &Context<'_>,
    product: &dyn Product,
    device: &str,
    patience: Patience<'_>,
) -> Result<Containment, Failed> {
    let bound = |intent: &&Value| {
        intent.get("containment_before").is_some() || intent.get("containment_after").is_some()
    };
    let last = context.intents.iter().rev().find(bound);
    if let Some(earlier) = last.and_then(|intent| intent.get("containment_before")) {
        return serde_json::from_value(earlier.clone()).map_err(|error| Failed::for_good(error.to_string()));
    }
    let settled = loop {
        match product.containment(device)? {
            Containment::Changing(word) => {
                patience.pause(&format!("the containment of {device} is {word}"))?;
            }
            settled => break settled,
        }
    };
    (context.intend)(&json!({"device": device, "containment_before": settled}))
        .map_err(|error| Failed::for_now(error.to_string()))?;
    Ok(settled)
}

/// A host that is captured.
#[derive(Clone, Copy)]
struct Captured<'a> {
    context: &'a Context<'a>,
    settings: &'a EdrSettings,
    device: &'a str,
    collector: &'a CollectorSettings,
    profile: &'a str,
    patience: Patience<'a>,
}

impl Captured<'_> {
    fn collect(&self, product: &dyn Product) -> Result<Value, Failed> {
        let (context, collector) = (self.context, self.collector);
        let bytes = collector.read()?;
        let tag = tag(context.job, context.id);
        let work = work_folder(context, &tag)?;
        // Evidence that an earlier run fetched and could not take in comes anew.
        clear(&work);
        let commission = commission(context, &work)?;
        let order =
            fs::read(&commission).map_err(|error| Failed::for_now(format!("{commission:?}: {error}")))?;
        let exhibit =
            custody::Commission::from_bytes(&order).map_err(|error| Failed::for_good(error.to_string()))?;
        let words = acquired(context, self.profile)?;
        let mut script = HostScript {
            folder: format!("{}/exhibit-{tag}", collector.folder()),
            name: format!("exhibit-{}", collector.sha256.to_ascii_lowercase().get(..16).unwrap_or_default()),
            sha256: collector.sha256.to_ascii_lowercase(),
            places: Vec::new(),
            words,
            order: String::from_utf8(order).map_err(|_| Failed::for_good("the commission is no text"))?,
            bundle: exhibit.folder_name(),
        };
        let mut channel = product.channel(self.device, &tag)?;
        if !context.intents.is_empty() {
            // What an earlier run left there when it was killed.
            let _ = host_clean(&mut *channel, &script, &work);
        }
        let host = Host { channel: &mut *channel, patience: self.patience, work: &work };
        let fetched = host.fetch_exhibit(&mut script, &bytes, collector.most());
        // First what the product may still hand to the host of ours: a script that was not fetched yet is none any more.
        let mut left = channel.close();
        let is_touched = channel.may_have_left();
        drop(channel);
        if is_touched {
            left.extend(self.remove(&tag, &script, &work));
        }
        let issues = fetched.map_err(|failed| {
            clear(&work);
            match left.as_slice() {
                [] => failed,
                left => Failed { what: format!("{}; {}", failed.what, left.join("; ")), ..failed },
            }
        })?;
        let mut taken = take(context, &work, &commission, collector.most())?;
        let _ = fs::remove_dir_all(&work);
        if let Some(taken) = taken.as_object_mut() {
            taken.insert("has_issues".to_owned(), issues.into());
            taken.insert("left".to_owned(), left.into());
        }
        Ok(taken)
    }

    /// Ends and removes what is ours on the host, over a new way and in a time of its own: when the service stops, the job is
    /// cancelled, the time is over or the session with the host has died, there is neither left. Gives what may be left.
    fn remove(&self, tag: &str, script: &HostScript, work: &Path) -> Vec<String> {
        let pause = self.patience.pause.min(LOOKING);
        let patience = Patience { until: Instant::now() + REMOVING, pause, stop: &NEVER };
        let mut left = Vec::new();
        let mut removed = || -> Result<State, Failed> {
            let product = self.settings.connect(patience)?;
            let mut channel = product.channel(self.device, &format!("{tag}-clean"))?;
            let said = host_clean(&mut *channel, script, work);
            left.extend(channel.close());
            said
        };
        let why = match removed() {
            Ok(State::Clean) => return left,
            Ok(State::Failed(why)) => why,
            Ok(_) => "the script on the host said something else than it was asked".to_owned(),
            Err(failed) => failed.what,
        };
        left.push(format!("{} on the host may not be removed: {why}", script.folder));
        left
    }
}

/// The words of `exhibit acquire` for what the rule asks for, each quoted.
fn acquired(context: &Context<'_>, profile: &str) -> Result<String, Failed> {
    let mut words = vec!["triage".to_owned(), "--profile".to_owned(), profile.to_owned()];
    for artefact in texts(context, "artefacts")? {
        if artefact.is_empty() || artefact.starts_with('-') {
            return Err(Failed::for_good(format!("{artefact:?} is no artefact")));
        }
        words.extend(["--artefact".to_owned(), artefact]);
    }
    let words: Option<Vec<String>> = words.iter().map(|word| quoted(word)).collect();
    let words = words
        .ok_or_else(|| Failed::for_good("a parameter holds a character that is not sent to another host"))?;
    Ok(words.join(" "))
}

/// Removes what was fetched; the commission stays for another try.
fn clear(work: &Path) {
    for name in ["came", "came.zip", "cleaned", "cleaned.zip", "bundle.tar"] {
        let _ = fs::remove_file(work.join(name));
    }
}

/// A host on which our script is run.
struct Host<'a> {
    channel: &'a mut dyn Channel,
    patience: Patience<'a>,
    work: &'a Path,
}

impl Host<'_> {
    /// Has the exhibit packed on the host, and fetches it as `bundle.tar`. Gives whether the collector had issues.
    fn fetch_exhibit(self, script: &mut HostScript, collector: &[u8], most: u64) -> Result<bool, Failed> {
        script.places = self.channel.put(&script.name, collector)?;
        if let Some(wrong) = script.places.iter().find(|place| !is_folder(place)) {
            return Err(Failed::for_good(format!("{wrong:?} is no folder that could be named in a command")));
        }
        let (came, bundle) = (self.work.join("came"), self.work.join("bundle.tar"));
        let state = if self.channel.waits() {
            self.channel.run(&script.text("whole"))?;
            read_state(self.channel, &came)?
        } else {
            match state_of(&self.channel.run(&script.text("start"))?)? {
                State::Started => {}
                State::Failed(why) => return Err(Failed::for_now(format!("on the host: {why}"))),
                _ => {
                    return Err(Failed::for_now(
                        "the script on the host said something else than it was asked",
                    ));
                }
            }
            loop {
                self.patience.pause("the collector works on the host")?;
                match state_of(&self.channel.run(&script.text("look"))?)? {
                    State::Running | State::Started => {}
                    settled => break settled,
                }
            }
        };
        let (issues, bytes, sha256) = match state {
            State::Done { issues, bytes, sha256 } => (issues, bytes, sha256),
            State::Failed(why) => return Err(Failed::for_now(format!("on the host: {why}"))),
            _ => return Err(Failed::for_now("the script on the host said something else than it was asked")),
        };
        if bytes > most {
            return Err(Failed::for_good(format!(
                "the exhibit has {bytes} bytes, more than the {most} that may come"
            )));
        }
        self.channel.fetch(&format!("{}/bundle.tar", script.folder), &came, most)?;
        archives::unpack(&came, &bundle, most)?;
        let found = fs::File::open(&bundle)
            .and_then(sha256_of)
            .map_err(|error| Failed::for_now(error.to_string()))?;
        if found.to_string() != sha256 {
            return Err(Failed::for_now("what came is not what the host says that it packed"));
        }
        Ok(issues)
    }
}

fn read_state(channel: &mut dyn Channel, file: &Path) -> Result<State, Failed> {
    channel.fetch("state", file, 64 << 10)?;
    let said = fs::read(file).map_err(|error| Failed::for_now(error.to_string()))?;
    let _ = fs::remove_file(file);
    state_of(&String::from_utf8_lossy(&said))
}

/// Removes what is ours on the host.
fn host_clean(channel: &mut dyn Channel, script: &HostScript, work: &Path) -> Result<State, Failed> {
    let said = channel.run(&script.text("clean"))?;
    if channel.waits() { read_state(channel, &work.join("cleaned")) } else { state_of(&said) }
}

/// The commission of an earlier run of this step, or a new one.
fn commission(context: &Context<'_>, work: &Path) -> Result<PathBuf, Failed> {
    let file = work.join("commission");
    if file.is_file() {
        return Ok(file);
    }
    let mut command = of_ours(context.program, context.settings);
    command
        .args(["commission", "--kind", "triage", "--name", context.id, "--case"])
        .arg(context.case)
        .arg("-o")
        .arg(&file);
    for recipient in &context.settings.capture.encrypt_to {
        command.args(["--encrypt-to", recipient]);
    }
    let limit = Limit { until: Instant::now() + Duration::from_secs(600), stop: Some(context.stop) };
    let ended = run(&mut command, Input::Nothing, limit)?;
    match ended.code {
        Some(0) => Ok(file),
        Some(2) => Err(Failed::for_good(format!("no commission could be written, {}", ended.told()))),
        _ => Err(Failed::for_now(format!("no commission could be written, {}", ended.told()))),
    }
}

/// Has what came verified and taken into the case.
fn take(context: &Context<'_>, work: &Path, commission: &Path, most: u64) -> Result<Value, Failed> {
    let mut command = of_ours(context.program, context.settings);
    let most: OsString = most.to_string().into();
    command.args(["commission", "--take"]).arg(work.join("bundle.tar"));
    command.arg("--commission").arg(commission).arg("--case").arg(context.case).arg("--most").arg(most);
    let limit = Limit { until: Instant::now() + Duration::from_secs(3600), stop: Some(context.stop) };
    let ended = run(&mut command, Input::Nothing, limit)?;
    let kept = || format!("what came is kept as {:?} until another try", work.join("bundle.tar"));
    if !matches!(ended.code, Some(0 | 1)) {
        return Err(Failed::for_now(format!("what came was not taken in, {}; {}", ended.told(), kept())));
    }
    let taken = ended.documents().into_iter().next().unwrap_or_default();
    match taken.get("sealed") {
        Some(Value::Bool(true)) => Ok(taken),
        Some(Value::Bool(false)) => {
            // The commission is used up: another try is for another exhibit.
            let _ = fs::remove_file(commission);
            clear(work);
            let exhibit = taken.get("exhibit").and_then(Value::as_str).unwrap_or("an exhibit");
            Err(Failed::for_now(format!(
                "what came is not sealed: it is kept in the case as {exhibit}, which stays open, and another try takes another"
            )))
        }
        _ => Err(Failed::for_now(format!("nobody says whether what came is sealed; {}", kept()))),
    }
}
