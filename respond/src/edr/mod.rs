//! Hosts through the EDR that watches them: contained, let back, and captured while they are contained.
//!
//! One file a product. Each says how it asks for containment and reads it back ([`Product`]), and how it puts a file on a host,
//! runs a script there and fetches a file ([`Channel`]); what is done with that is the same for all: [`isolation`], [`capture`].
//!
//! None of the three products could be had for trying: their part here is written from what their makers and open clients of
//! them document, and tried against a server of ours that plays such exchanges.

mod api;
mod archives;
pub mod capture;
mod crowdstrike;
mod defender;
mod host_script;
pub mod isolation;
mod sentinelone;
mod zip;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use crowdstrike::CrowdStrikeSettings;
pub use defender::DefenderSettings;
pub use sentinelone::SentinelOneSettings;

use crate::inventory::Asset;
use crate::rules::{PlannedStep, Until, need};
use crate::steps::Failed;

/// One tenant in the settings: `[targets.edr.NAME]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum EdrSettings {
    /// CrowdStrike Falcon.
    CrowdStrike(CrowdStrikeSettings),
    /// Microsoft Defender for Endpoint.
    Defender(DefenderSettings),
    /// SentinelOne Singularity.
    SentinelOne(SentinelOneSettings),
}

impl EdrSettings {
    /// The product's word.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::CrowdStrike(_) => "crowdstrike",
            Self::Defender(_) => "defender",
            Self::SentinelOne(_) => "sentinelone",
        }
    }

    /// Connects, which reads the secret but sends nothing yet.
    ///
    /// # Errors
    ///
    /// [`Failed`] when the settings cannot be used.
    pub fn connect<'a>(&'a self, patience: Patience<'a>) -> Result<Box<dyn Product + 'a>, Failed> {
        Ok(match self {
            Self::CrowdStrike(settings) => Box::new(crowdstrike::Falcon::connect(settings, patience)?),
            Self::Defender(settings) => Box::new(defender::Defender::connect(settings, patience)?),
            Self::SentinelOne(settings) => Box::new(sentinelone::SentinelOne::connect(settings, patience)?),
        })
    }

    /// What is put on hosts.
    #[must_use]
    pub fn collector(&self) -> Option<&CollectorSettings> {
        match self {
            Self::CrowdStrike(settings) => settings.collector.as_ref(),
            Self::Defender(settings) => settings.collector.as_ref(),
            Self::SentinelOne(settings) => settings.collector.as_ref(),
        }
    }

    /// Whether an id has the form of this product's ids of hosts.
    fn is_device(&self, id: &str) -> bool {
        let hex = |length: usize| {
            id.len() == length && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        match self {
            Self::CrowdStrike(_) => hex(32),
            Self::Defender(_) => hex(40),
            Self::SentinelOne(_) => {
                (15..=20).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_digit())
            }
        }
    }
}

/// The program that is put on hosts to collect: a static `exhibit` for Linux.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CollectorSettings {
    /// The file.
    pub file: PathBuf,
    /// Its SHA-256, in hexadecimal. The host checks it before it runs it.
    pub sha256: String,
    /// Where it works on hosts: `/var/tmp` unless told. Programs must be allowed there.
    #[serde(default)]
    pub folder: Option<String>,
    /// Bytes that may be fetched from a host: 4 GB unless told.
    #[serde(default)]
    pub most: Option<u64>,
}

/// Bytes of a collector.
const MOST_COLLECTOR: u64 = 128 << 20;

impl CollectorSettings {
    fn folder(&self) -> &str {
        self.folder.as_deref().unwrap_or("/var/tmp")
    }

    fn most(&self) -> u64 {
        self.most.unwrap_or(4_000_000_000)
    }

    /// The collector, once its hash is the pinned one.
    ///
    /// # Errors
    ///
    /// [`Failed`] when it cannot be read, is too long, or is another.
    pub fn read(&self) -> Result<Vec<u8>, Failed> {
        use std::io::Read as _;
        let fault =
            |error: std::io::Error| Failed::for_good(format!("the collector {:?}: {error}", self.file));
        let mut bytes = Vec::new();
        let file = std::fs::File::open(&self.file).map_err(fault)?;
        file.take(MOST_COLLECTOR + 1).read_to_end(&mut bytes).map_err(fault)?;
        if bytes.len() as u64 > MOST_COLLECTOR {
            return Err(Failed::for_good(format!("the collector {:?} has more than 128 MiB", self.file)));
        }
        let found = custody::sha256(&bytes).to_string();
        if !found.eq_ignore_ascii_case(&self.sha256) {
            return Err(Failed::for_good(format!(
                "the collector {:?} is not the one in the settings",
                self.file
            )));
        }
        Ok(bytes)
    }
}

/// Whether a host is cut off from its network by its EDR.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Containment {
    /// It is.
    Contained,
    /// It is not.
    Normal,
    /// It is about to be, or about to be let back; with the product's word.
    Changing(String),
}

impl Containment {
    /// Whether it is about to be contained, or to be let back; a host that is away stays so until it is back.
    #[must_use]
    pub fn becomes(&self, contained: bool) -> bool {
        let Self::Changing(word) = self else { return false };
        let is_let_back = word.starts_with("lift") || word == "connecting" || word.starts_with("Unisolate");
        is_let_back != contained
    }

    /// In words.
    #[must_use]
    pub fn told(&self) -> String {
        match self {
            Self::Contained => "contained".to_owned(),
            Self::Normal => "not contained".to_owned(),
            Self::Changing(word) => format!("changing ({word})"),
        }
    }
}

/// One EDR.
pub trait Product {
    /// Whether a host is contained.
    ///
    /// # Errors
    ///
    /// [`Failed`], also when the product knows no such host, or more than one.
    fn containment(&self, device: &str) -> Result<Containment, Failed>;

    /// Asks that a host be contained, or let back; gives what the product calls the request. It is not done when this
    /// returns: [`Product::containment`] tells when it is.
    ///
    /// # Errors
    ///
    /// [`Failed`].
    fn ask(&self, device: &str, contained: bool, comment: &str) -> Result<Value, Failed>;

    /// Why the product gave up what was asked for and accepted, if it says so.
    ///
    /// # Errors
    ///
    /// [`Failed`].
    fn given_up(&self, asked: &Value) -> Result<Option<String>, Failed> {
        let _ = asked;
        Ok(None)
    }

    /// Opens the way to a host.
    ///
    /// # Errors
    ///
    /// [`Failed`], such as when the host is not online.
    fn channel<'s>(&'s self, device: &str, tag: &str) -> Result<Box<dyn Channel + 's>, Failed>;
}

/// A way to one host.
pub trait Channel {
    /// Puts the collector on the host; gives the folders in which it may lie there.
    ///
    /// # Errors
    ///
    /// [`Failed`].
    fn put(&mut self, name: &str, bytes: &[u8]) -> Result<Vec<String>, Failed>;

    /// Runs a script for `/bin/sh` there, and gives what it wrote to its standard output.
    ///
    /// # Errors
    ///
    /// [`Failed`].
    fn run(&mut self, script: &str) -> Result<String, Failed>;

    /// Whether a script ends only when all that it began has ended, and brings the files that it made back by itself.
    fn waits(&self) -> bool {
        false
    }

    /// Whether anything of ours may be on the host.
    fn may_have_left(&self) -> bool {
        true
    }

    /// Fetches a file of the host into one of ours, as the product packs it: at most so many bytes.
    ///
    /// # Errors
    ///
    /// [`Failed`].
    fn fetch(&mut self, path: &str, into: &Path, most: u64) -> Result<(), Failed>;

    /// Removes what the product itself keeps of ours. Whatever cannot be removed is told.
    fn close(&mut self) -> Vec<String>;
}

/// Steps that change whether a host is contained, beside the step during which that must not change.
pub(crate) const CONTAINING: [&str; 3] = ["isolate.crowdstrike", "isolate.defender", "isolate.sentinelone"];

/// A capture through the EDR and a containment by it of which neither waits until the other has ended: whichever of them is
/// late, the capture would see the containment change and fail.
pub(crate) fn fight(steps: &[PlannedStep]) -> Option<(&str, &str)> {
    let captures = steps.iter().filter(|step| step.word == capture::WORD);
    captures
        .flat_map(|capture| steps.iter().map(move |other| (capture, other)))
        .find(|(capture, other)| {
            CONTAINING.contains(&other.word.as_str())
                && !(waits_for(steps, capture, &other.id) || waits_for(steps, other, &capture.id))
        })
        .map(|(capture, other)| (capture.id.as_str(), other.id.as_str()))
}

/// Whether a step waits, near or far, until another has ended, and not only until it has begun.
fn waits_for(steps: &[PlannedStep], step: &PlannedStep, other: &str) -> bool {
    let (mut next, mut seen) = (vec![step], BTreeSet::new());
    while let Some(step) = next.pop() {
        for (id, until) in step.needs.iter().filter_map(|text| need(text).ok()) {
            if id == other && until != Until::Started {
                return true;
            }
            if seen.insert(id) {
                next.extend(steps.iter().find(|step| step.id == id));
            }
        }
    }
    false
}

/// How long is waited for others.
#[derive(Debug, Clone, Copy)]
pub struct Patience<'a> {
    /// Until when.
    pub until: Instant,
    /// Between two looks.
    pub pause: Duration,
    /// Set when the service stops.
    pub stop: &'a AtomicBool,
}

impl Patience<'_> {
    /// Waits so long, or as long as there is patience.
    ///
    /// # Errors
    ///
    /// [`Failed`] when the service stops or the time is over.
    pub fn wait(&self, how_long: Duration, what: &str) -> Result<(), Failed> {
        let end = Instant::now() + how_long;
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return Err(Failed::for_now(format!("the service is stopping while {what}")));
            }
            let now = Instant::now();
            if now >= self.until {
                return Err(Failed::for_now(format!("its time is over while {what}")));
            }
            if now >= end {
                return Ok(());
            }
            std::thread::sleep((end - now).min(Duration::from_millis(100)));
        }
    }

    /// Waits one pause.
    ///
    /// # Errors
    ///
    /// As [`Patience::wait`].
    pub fn pause(&self, what: &str) -> Result<(), Failed> {
        self.wait(self.pause, what)
    }
}

/// The tenant that watches an asset: the one that it is reached through, or that its tag `edr` or the rule names, or the
/// only one of the product.
///
/// # Errors
///
/// [`Failed`] when there is none or it is not clear which.
pub fn tenant<'a>(
    tenants: &'a BTreeMap<String, EdrSettings>,
    asset: &Asset,
    named: Option<&str>,
    product: Option<&str>,
) -> Result<(&'a str, &'a EdrSettings), Failed> {
    let is_it = |settings: &EdrSettings| product.is_none_or(|product| settings.word() == product);
    for name in
        [named, asset.tags.get("edr").map(String::as_str), Some(asset.target.as_str())].into_iter().flatten()
    {
        if let Some((name, settings)) = tenants.get_key_value(name).filter(|(_, settings)| is_it(settings)) {
            return Ok((name, settings));
        }
    }
    if let Some(named) = named {
        return Err(Failed::for_good(format!("no EDR {named:?} of that product in the settings")));
    }
    let mut fitting = tenants.iter().filter(|(_, settings)| is_it(settings));
    match (fitting.next(), fitting.next()) {
        (Some((name, settings)), None) => Ok((name, settings)),
        (None, _) => Err(Failed::for_good("no EDR of that product in the settings")),
        _ => Err(Failed::for_good(format!(
            "which EDR watches {}? Give it the tag `edr` in the inventory",
            asset.id
        ))),
    }
}

/// The product's own id of an asset: its tag `edr_id`, else its id or the one alias that has the form.
///
/// # Errors
///
/// [`Failed`] when there is none, or several.
pub fn device<'a>(settings: &EdrSettings, asset: &'a Asset) -> Result<&'a str, Failed> {
    if let Some(id) = asset.tags.get("edr_id") {
        let wrong = || Failed::for_good(format!("{id:?} is no id of a host of {}", settings.word()));
        return settings.is_device(id).then_some(id.as_str()).ok_or_else(wrong);
    }
    let names = std::iter::once(asset.id.as_str()).chain(asset.aliases.iter().map(String::as_str));
    let mut fitting = names.filter(|name| settings.is_device(name));
    match (fitting.next(), fitting.next()) {
        (Some(device), None) => Ok(device),
        (None, _) => Err(Failed::for_good(format!(
            "the inventory has no id of {} for {}: give it as alias or as tag `edr_id`",
            settings.word(),
            asset.id
        ))),
        _ => Err(Failed::for_good(format!("{} has several ids of {}", asset.id, settings.word()))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn falcon() -> EdrSettings {
        serde_json::from_value(json!({
            "kind": "crowdstrike", "url": "https://api.example.com", "client_id": "c", "client_secret_file": "/k/s",
        }))
        .unwrap()
    }

    fn asset(value: Value) -> Asset {
        let mut whole = json!({"kind": "host", "id": "ws-fin-07"});
        whole.as_object_mut().unwrap().extend(value.as_object().unwrap().clone());
        serde_json::from_value(whole).unwrap()
    }

    #[test]
    fn the_product_s_own_id_is_known_by_its_form_or_its_tag_and_never_guessed() {
        let aid = "4d92d2adf9009775a446ce0fe2689900";
        let other = "77aa2adf9009775a446ce0fe26899011";
        assert_eq!(device(&falcon(), &asset(json!({"aliases": ["WS", aid]}))).unwrap(), aid);
        assert!(device(&falcon(), &asset(json!({"aliases": [other, aid]}))).is_err());
        assert_eq!(
            device(&falcon(), &asset(json!({"aliases": [other, aid], "tags": {"edr_id": aid}}))).unwrap(),
            aid
        );
        assert!(device(&falcon(), &asset(json!({"tags": {"edr_id": "../x"}}))).is_err());
        assert!(device(&falcon(), &asset(json!({}))).is_err());
    }

    #[test]
    fn a_rule_that_captures_and_contains_through_the_edr_says_which_comes_first() {
        let rule = |steps: &str| {
            let text = format!(
                "version = 1\n[[rule]]\nid = 'r'\nassets = {{ kinds = ['host'] }}\n\
                 match.all = [ {{ field = 'severity', gte = 1 }} ]\nstep = [\n{steps}\n]\n"
            );
            let files = [(PathBuf::from("rules.toml"), text)];
            crate::rules::RuleSet::of_files(&files, crate::steps::STEPS).map_err(|error| error.to_string())
        };
        let isolate = "{ id = 'cut', use = 'isolate.defender' }";
        let said = rule(&format!("{{ id = 'take', use = 'capture.edr' }},\n{isolate}")).unwrap_err();
        assert!(said.contains("\"take\"") && said.contains("\"cut\"") && said.contains("needs"), "{said}");
        // That it has begun is no order either.
        let begun = "{ id = 'take', use = 'capture.edr', needs = ['cut:started'] }";
        assert!(rule(&format!("{begun},\n{isolate}")).is_err());
        for first in [
            "{ id = 'take', use = 'capture.edr', needs = ['cut:finished'] }",
            "{ id = 'take', use = 'capture.edr', needs = ['x'] }, { id = 'x', use = 'capture.triage', needs = ['cut:finished'] }",
        ] {
            rule(&format!("{first},\n{isolate}")).unwrap();
        }
        let after = "{ id = 'cut', use = 'isolate.defender', needs = ['take:finished'] }";
        rule(&format!("{{ id = 'take', use = 'capture.edr' }},\n{after}")).unwrap();
        // Another kind of isolation leaves the containment as it is.
        rule("{ id = 'take', use = 'capture.edr' },\n{ id = 'cut', use = 'isolate.host' }").unwrap();
    }

    #[test]
    fn a_containment_that_waits_for_its_host_is_known_from_one_that_is_lifted() {
        for (word, contained) in [
            ("containment_pending", true),
            ("lift_containment_pending", false),
            ("disconnecting", true),
            ("connecting", false),
            ("Isolate Pending", true),
            ("Unisolate InProgress", false),
        ] {
            let changing = Containment::Changing(word.to_owned());
            assert!(changing.becomes(contained) && !changing.becomes(!contained), "{word}");
        }
        assert!(!Containment::Contained.becomes(true) && !Containment::Normal.becomes(false));
    }

    #[test]
    fn a_tenant_is_named_or_the_only_one() {
        let one = BTreeMap::from([("a".to_owned(), falcon())]);
        let two = BTreeMap::from([("a".to_owned(), falcon()), ("b".to_owned(), falcon())]);
        let plain = asset(json!({}));
        assert_eq!(tenant(&one, &plain, None, Some("crowdstrike")).unwrap().0, "a");
        assert!(tenant(&two, &plain, None, None).is_err());
        assert_eq!(tenant(&two, &asset(json!({"tags": {"edr": "b"}})), None, None).unwrap().0, "b");
        assert_eq!(tenant(&two, &asset(json!({"target": "b"})), None, None).unwrap().0, "b");
        assert_eq!(tenant(&two, &plain, Some("a"), None).unwrap().0, "a");
        assert!(tenant(&one, &plain, Some("z"), None).is_err());
        assert!(tenant(&one, &plain, None, Some("defender")).is_err());
    }
}
