//! A mapping: where in a stranger's JSON the fields of an alert are. One TOML file a source.
//!
//! ```toml
//! items = "/events"                                   # each of them is an alert; without it the body is one
//! [field]
//! source_id = "/id"
//! title = { at = ["/name", "/rule/name"] }            # the first that is there
//! severity = { at = "/level", scale = [1, 5] }        # or words = { p1 = 95 }, and default = 50
//! status = { at = "/state", resolved = ["closed"] }
//! first_seen = { at = "/ts", time = "unix_ms" }       # or "unix"; else a time with a zone
//! ips = "/peers/*/address"                            # `*`: each of an array
//! [[asset]]
//! kind = "ec2_instance"
//! at = "/resources/*/arn"
//! transform = [{ after_last = "/" }]
//! ```
//!
//! Places are JSON Pointers (RFC 6901), in which a part `*` stands for each item of an array.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::draft::{NO_SEVERITY, rounded, severity_of_word};
use super::fields::{Fields, epoch, line, time};
use super::{Alert, AssetKind, Status, Unparsed};
use crate::error::{Error, Result};

/// How many values one place may give.
const MOST_VALUES: usize = 1000;

/// Where the fields of an alert are.
#[derive(Debug, Clone)]
pub struct Mapping {
    items: Option<Pointer>,
    fields: FieldRules,
    assets: Vec<AssetRule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    items: Option<Pointer>,
    #[serde(default)]
    field: FieldRules,
    #[serde(default)]
    asset: Vec<AssetRule>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FieldRules {
    source_id: Option<Rule>,
    occurrence: Option<Rule>,
    status: Option<Rule>,
    severity: Option<Rule>,
    severity_label: Option<Rule>,
    title: Option<Rule>,
    #[serde(rename = "type")]
    kind: Option<Rule>,
    first_seen: Option<Rule>,
    last_seen: Option<Rule>,
    cloud: Option<Rule>,
    account: Option<Rule>,
    region: Option<Rule>,
    link: Option<Rule>,
    is_sample: Option<Rule>,
    action: Option<Rule>,
    principals: Option<Rule>,
    ips: Option<Rule>,
    hashes: Option<Rule>,
    tactics: Option<Rule>,
    techniques: Option<Rule>,
}

/// Where one field is, and what is done with it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(try_from = "toml::Value")]
struct Rule {
    at: Vec<Pointer>,
    transform: Vec<Transform>,
    words: BTreeMap<String, f64>,
    scale: Option<[f64; 2]>,
    default: Option<f64>,
    resolved: Vec<String>,
    time: Time,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FullRule {
    at: toml::Value,
    #[serde(default)]
    transform: Vec<Transform>,
    #[serde(default)]
    words: BTreeMap<String, f64>,
    scale: Option<[f64; 2]>,
    default: Option<f64>,
    #[serde(default)]
    resolved: Vec<String>,
    #[serde(default)]
    time: Time,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Time {
    #[default]
    Rfc3339,
    Unix,
    UnixMs,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Transform {
    Lower,
    Upper,
    AfterFirst(String),
    AfterLast(String),
    BeforeFirst(String),
    Prefix(String),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct AssetRule {
    at: Pointer,
    id: Option<Pointer>,
    kind: Option<AssetKind>,
    kind_at: Option<Pointer>,
    role: Option<String>,
    role_at: Option<Pointer>,
    #[serde(default)]
    transform: Vec<Transform>,
}

impl Mapping {
    /// Reads a mapping file.
    ///
    /// # Errors
    ///
    /// [`Error::Read`] when it cannot be read, [`Error::Settings`] with the place when it is no mapping.
    pub fn load(path: &Path) -> Result<Self> {
        let text =
            std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        Self::parse(&text).map_err(|what| Error::Settings { path: path.to_owned(), what })
    }

    /// Reads the text of one.
    ///
    /// # Errors
    ///
    /// What is wrong, with its place: an unknown field or option, an option that means nothing where it stands, a pointer
    /// that does not begin with `/`, an asset without a kind.
    pub fn parse(text: &str) -> std::result::Result<Self, String> {
        let File { items, field, asset } = toml::from_str(text).map_err(|error| error.to_string())?;
        let mapping = Self { items, fields: field, assets: asset };
        mapping.check()?;
        Ok(mapping)
    }

    fn check(&self) -> std::result::Result<(), String> {
        let meant = |rule: &Option<Rule>, option: &str, is_set: fn(&Rule) -> bool| {
            if rule.as_ref().is_some_and(is_set) {
                Err(format!("`{option}` means nothing there"))
            } else {
                Ok(())
            }
        };
        let f = &self.fields;
        let others = [
            (&f.source_id, "source_id"),
            (&f.occurrence, "occurrence"),
            (&f.severity_label, "severity_label"),
            (&f.title, "title"),
            (&f.kind, "type"),
            (&f.cloud, "cloud"),
            (&f.account, "account"),
            (&f.region, "region"),
            (&f.link, "link"),
            (&f.is_sample, "is_sample"),
            (&f.action, "action"),
            (&f.principals, "principals"),
            (&f.ips, "ips"),
            (&f.hashes, "hashes"),
            (&f.tactics, "tactics"),
            (&f.techniques, "techniques"),
        ];
        let times = [(&f.first_seen, "first_seen"), (&f.last_seen, "last_seen")];
        let (status, severity) = ((&f.status, "status"), (&f.severity, "severity"));
        let graded = |rule: &Rule| !rule.words.is_empty() || rule.scale.is_some() || rule.default.is_some();
        let all = others.iter().chain(&times).chain([&status, &severity]);
        for (rule, name) in all {
            let place = |why: String| format!("field.{name}: {why}");
            if *name != "severity" {
                meant(rule, "words, scale, default", graded).map_err(place)?;
            }
            if *name != "status" {
                meant(rule, "resolved", |rule| !rule.resolved.is_empty()).map_err(place)?;
            }
            if !name.ends_with("_seen") {
                meant(rule, "time", |rule| rule.time != Time::Rfc3339).map_err(place)?;
            }
        }
        if f.severity
            .as_ref()
            .and_then(|rule| rule.scale)
            .is_some_and(|[low, high]| low.total_cmp(&high).is_eq())
        {
            return Err("field.severity: `scale` begins where it ends".to_owned());
        }
        for (number, asset) in self.assets.iter().enumerate() {
            if asset.kind.is_some() == asset.kind_at.is_some() {
                return Err(format!("asset {}: either `kind` or `kind_at`", number + 1));
            }
            if asset.role.is_some() && asset.role_at.is_some() {
                return Err(format!("asset {}: either `role` or `role_at`", number + 1));
            }
        }
        Ok(())
    }

    /// Whether it says where the alerts of a body are.
    pub(super) fn has_items(&self) -> bool {
        self.items.is_some()
    }

    /// The alerts of a body.
    pub(super) fn items<'a>(&self, body: Fields<'a>) -> Vec<Fields<'a>> {
        let found = self.items.iter().flat_map(|items| items.values(body.value()));
        found.flat_map(|list| Fields::of(list).list("").collect::<Vec<_>>()).collect()
    }

    /// Sets what it names; a field whose place is empty stays as it was.
    ///
    /// # Errors
    ///
    /// [`Unparsed`] when the alert has neither title, nor type, nor assets then: nothing was where the mapping says.
    pub(super) fn apply(&self, body: Fields<'_>, alert: Alert) -> std::result::Result<Alert, Unparsed> {
        let f = &self.fields;
        let mut alert = alert;
        let id = f.source_id.as_ref().and_then(|rule| rule.values(body).into_iter().next());
        if id.is_some_and(|id| Fields::of(id).is_rounded("")) {
            return Err(rounded("source_id"));
        }
        if let Some(id) = f.source_id.as_ref().and_then(|rule| rule.raw(body)) {
            alert = Alert { source_id: Alert::begin("", &id).source_id, ..alert };
        }
        for (rule, field) in [
            (&f.occurrence, &mut alert.occurrence),
            (&f.title, &mut alert.title),
            (&f.kind, &mut alert.kind),
            (&f.cloud, &mut alert.cloud),
            (&f.account, &mut alert.account),
            (&f.region, &mut alert.region),
            (&f.action, &mut alert.action),
        ] {
            if let Some(text) = rule.as_ref().and_then(|rule| rule.text(body)) {
                *field = text;
            }
        }
        for (rule, field) in [(&f.first_seen, &mut alert.first_seen), (&f.last_seen, &mut alert.last_seen)] {
            if let Some(rule) = rule {
                *field = rule.text(body).and_then(|text| rule.time(&text)).or(field.take());
            }
        }
        if let Some(rule) = &f.severity {
            let said = rule.text(body);
            let severity = said.as_deref().and_then(|said| rule.severity(said)).or(rule.default);
            alert.notes.retain(|note| note != NO_SEVERITY);
            alert.severity(severity, said.unwrap_or_default());
        }
        if let Some(label) = f.severity_label.as_ref().and_then(|rule| rule.text(body)) {
            alert.severity_label = label;
        }
        if let Some(said) = f.is_sample.as_ref().and_then(|rule| rule.text(body)) {
            alert.is_sample = said.eq_ignore_ascii_case("true") || said == "1";
        }
        if let Some(link) = f.link.as_ref().and_then(|rule| rule.text(body)) {
            alert.link(&link);
        }
        self.lists(body, &mut alert);
        if let Some(rule) = &f.status {
            let said = rule.text(body).unwrap_or_default();
            if alert.status == Status::Firing {
                alert.resolved_if(rule.resolved.iter().any(|word| word.eq_ignore_ascii_case(&said)));
            }
        }
        if alert.title.is_empty() && alert.kind.is_empty() && alert.assets.is_empty() {
            return Err(Unparsed(
                "neither a title, nor a type, nor an asset is where the mapping says".to_owned(),
            ));
        }
        Ok(alert)
    }

    fn lists(&self, body: Fields<'_>, alert: &mut Alert) {
        let f = &self.fields;
        if let Some(rule) = &f.principals {
            alert.principals.clear();
            rule.texts(body).iter().for_each(|text| alert.principal(text));
        }
        if let Some(rule) = &f.ips {
            alert.ips.clear();
            rule.texts(body).iter().for_each(|text| alert.ip(text));
        }
        if let Some(rule) = &f.hashes {
            alert.hashes.clear();
            rule.texts(body).iter().for_each(|text| alert.hash(text));
        }
        if f.tactics.is_some() || f.techniques.is_some() {
            alert.attack.clear();
        }
        for tactic in f.tactics.iter().flat_map(|rule| rule.texts(body)) {
            alert.attack(&tactic, "");
        }
        for technique in f.techniques.iter().flat_map(|rule| rule.texts(body)) {
            alert.attack("", &technique);
        }
        if !self.assets.is_empty() {
            alert.assets.clear();
        }
        for rule in &self.assets {
            rule.add(body, alert);
        }
    }
}

impl AssetRule {
    fn add(&self, body: Fields<'_>, alert: &mut Alert) {
        let text_at = |pointer: &Option<Pointer>, of: &Value| {
            pointer.as_ref().and_then(|pointer| Some(Fields::of(pointer.values(of).first()?).as_text()))
        };
        for found in self.at.values(body.value()) {
            let id = match &self.id {
                Some(_) => text_at(&self.id, found).unwrap_or_default(),
                None => Fields::of(found).as_text(),
            };
            let id = transformed(&self.transform, id);
            let said = text_at(&self.kind_at, found).unwrap_or_default();
            let Some(kind) =
                self.kind.or_else(|| AssetKind::ALL.iter().copied().find(|kind| kind.word() == said))
            else {
                alert.note(format!("{said:?} is no kind of asset"));
                continue;
            };
            let role =
                self.role.clone().or_else(|| text_at(&self.role_at, found)).filter(|role| !role.is_empty());
            alert.asset(kind, &id, role.as_deref().unwrap_or("primary"));
        }
    }
}

impl Rule {
    fn values<'a>(&self, body: Fields<'a>) -> Vec<&'a Value> {
        self.at.iter().map(|at| at.values(body.value())).find(|values| !values.is_empty()).unwrap_or_default()
    }

    fn texts(&self, body: Fields<'_>) -> Vec<String> {
        let texts = self.values(body).into_iter().map(|value| Fields::of(value).as_text());
        texts.map(|text| transformed(&self.transform, text)).filter(|text| !text.is_empty()).collect()
    }

    fn text(&self, body: Fields<'_>) -> Option<String> {
        self.texts(body).into_iter().next()
    }

    fn raw(&self, body: Fields<'_>) -> Option<String> {
        let raw = Fields::of(self.values(body).first()?).raw("");
        Some(transformed(&self.transform, raw)).filter(|raw| !raw.trim().is_empty())
    }

    fn time(&self, text: &str) -> Option<String> {
        match self.time {
            Time::Rfc3339 => time(text),
            Time::Unix => epoch(text, 1_000_000_000),
            Time::UnixMs => epoch(text, 1_000_000),
        }
    }

    fn severity(&self, said: &str) -> Option<f64> {
        if let Some((_, severity)) = self.words.iter().find(|(word, _)| word.eq_ignore_ascii_case(said)) {
            return Some(*severity);
        }
        match (said.parse::<f64>().ok().filter(|figure| figure.is_finite()), self.scale) {
            (Some(figure), Some([low, high])) => Some((figure - low) / (high - low) * 100.0),
            (Some(figure), None) => Some(figure),
            (None, _) => severity_of_word(said),
        }
    }
}

fn transformed(transforms: &[Transform], text: String) -> String {
    transforms.iter().fold(text, |text, transform| match transform {
        Transform::Lower => text.to_lowercase(),
        Transform::Upper => text.to_uppercase(),
        Transform::AfterFirst(mark) => {
            text.split_once(mark.as_str()).map_or(text.clone(), |(_, rest)| rest.to_owned())
        }
        Transform::AfterLast(mark) => {
            text.rsplit_once(mark.as_str()).map_or(text.clone(), |(_, rest)| rest.to_owned())
        }
        Transform::BeforeFirst(mark) => {
            text.split_once(mark.as_str()).map_or(text.clone(), |(most, _)| most.to_owned())
        }
        Transform::Prefix(prefix) => format!("{prefix}{text}"),
    })
}

impl TryFrom<toml::Value> for Rule {
    type Error = String;

    fn try_from(value: toml::Value) -> std::result::Result<Self, String> {
        let pointers = |value: toml::Value| match value {
            toml::Value::String(text) => Ok(vec![Pointer::try_from(text)?]),
            toml::Value::Array(items) if !items.is_empty() => items
                .into_iter()
                .map(|item| match item {
                    toml::Value::String(text) => Pointer::try_from(text),
                    _ => Err("`at` is a pointer or a list of pointers".to_owned()),
                })
                .collect(),
            _ => Err("`at` is a pointer or a list of pointers".to_owned()),
        };
        if value.is_str() {
            return Ok(Self { at: pointers(value)?, ..Self::default() });
        }
        let full = FullRule::deserialize(value).map_err(|error| error.to_string())?;
        let FullRule { at, transform, words, scale, default, resolved, time } = full;
        Ok(Self { at: pointers(at)?, transform, words, scale, default, resolved, time })
    }
}

/// A JSON Pointer in which `*` stands for each item of an array.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
struct Pointer(Vec<String>);

impl TryFrom<String> for Pointer {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        if text.is_empty() {
            return Ok(Self(Vec::new()));
        }
        let parts =
            text.strip_prefix('/').ok_or_else(|| format!("{:?} does not begin with `/`", line(&text)))?;
        Ok(Self(parts.split('/').map(|part| part.replace("~1", "/").replace("~0", "~")).collect()))
    }
}

impl Pointer {
    fn values<'a>(&self, body: &'a Value) -> Vec<&'a Value> {
        let mut values = vec![body];
        for part in &self.0 {
            let mut next = Vec::new();
            for value in values {
                match value {
                    Value::Array(items) if part == "*" => next.extend(items),
                    Value::Array(items) => next.extend(part.parse().ok().and_then(|at: usize| items.get(at))),
                    Value::Object(map) => next.extend(map.get(part)),
                    _ => {}
                }
            }
            next.truncate(MOST_VALUES);
            values = next;
        }
        values.retain(|value| !value.is_null());
        values
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn apply(mapping: &str, body: &Value) -> Alert {
        Mapping::parse(mapping).unwrap().apply(Fields::of(body), Alert::default()).unwrap()
    }

    #[test]
    fn fields_are_found_transformed_and_graded() {
        let mapping = r#"
            [field]
            source_id = { at = "/id", transform = [{ prefix = "cam-" }] }
            title = { at = ["/no", "/a~1b/0"] }
            severity = { at = "/level", scale = [1, 5] }
            first_seen = { at = "/ts", time = "unix" }
            status = { at = "/state", resolved = ["done"] }
            ips = "/peers/*/ip"
            [[asset]]
            kind = "ec2_instance"
            at = "/res/*"
            transform = [{ after_last = "/" }]
        "#;
        let body = json!({
            "id": 7, "a/b": ["T"], "level": "4", "ts": 1_795_262_400, "state": "DONE",
            "peers": [{"ip": "192.0.2.1"}, {"ip": "x"}, {}],
            "res": ["arn:aws:ec2:eu-west-1:123456789012:instance/i-0123456789abcdef0", "arn:x/;rm"],
        });
        let alert = apply(mapping, &body);
        assert_eq!((alert.source_id.as_str(), alert.title.as_str(), alert.severity), ("cam-7", "T", 75));
        assert_eq!(alert.first_seen.as_deref(), Some("2026-11-21T12:00:00.000000000Z"));
        assert_eq!((alert.status, alert.ips), (Status::Resolved, vec!["192.0.2.1".to_owned()]));
        assert_eq!(alert.assets.len(), 1);
        assert_eq!(alert.notes, ["\";rm\" is no id of a ec2_instance"]);
    }

    #[test]
    fn words_come_before_figures_and_a_default_after_both() {
        let mapping = "[field]\ntitle = \"/t\"\nseverity = { at = \"/s\", words = { P1 = 95, \"3\" = 40 }, default = 55 }";
        for (said, expected) in
            [(json!("p1"), 95), (json!(3), 40), (json!(70), 70), (json!("odd"), 55), (json!(null), 55)]
        {
            assert_eq!(apply(mapping, &json!({"t": "x", "s": said})).severity, expected, "{said}");
        }
    }

    #[test]
    fn what_means_nothing_is_refused_with_its_place() {
        for (text, why) in [
            ("[field]\ntitel = \"/x\"", "titel"),
            ("[field]\ntitle = \"x\"", "does not begin with `/`"),
            ("[field]\ntitle = { at = \"/x\", scale = [0, 1] }", "field.title"),
            ("[field]\nseverity = { at = \"/x\", resolved = [\"a\"] }", "field.severity"),
            ("[field]\nseverity = { at = \"/x\", scale = [1, 1] }", "begins where it ends"),
            ("[field]\ntitle = { at = \"/x\", transform = [\"shell\"] }", "shell"),
            ("[[asset]]\nat = \"/x\"", "either `kind` or `kind_at`"),
            ("[[asset]]\nat = \"/x\"\nkind = \"printer\"", "printer"),
        ] {
            let error = Mapping::parse(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn a_mapping_that_finds_nothing_says_so() {
        let mapping = Mapping::parse("[field]\ntitle = \"/nowhere\"").unwrap();
        assert!(mapping.apply(Fields::of(&json!({"a": 1})), Alert::default()).is_err());
    }
}
