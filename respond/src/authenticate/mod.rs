//! Who sent a request. One file a scheme; the outcome is kept with the alert.
//!
//! A source names one or more schemes, and every one of them must hold: two schemes make a door narrower, never wider.
//! What only needs headers is checked first, then what is signed over the bytes as they came, then what lies in the
//! content. A refusal has one of a few fixed words, for counting; the sender is told the same whatever it was.

mod client_certificate;
pub mod fetch;
mod graph;
mod hmac;
mod secrets;
mod signing_certificate;
mod sns;
mod sns_address;
mod standard_webhooks;
mod static_secret;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::http::HeaderMap;
use ipnet::IpNet;
use serde::Deserialize;

pub use client_certificate::{ClientCertificate, ClientCertificateSettings};
pub use fetch::{Fetch, WebFetch};
pub use graph::{GraphSettings, validation_token};
pub use hmac::{CrowdstrikeSettings, HmacSettings};
pub use signing_certificate::SigningCertificates;
pub use sns::{Control, SnsSettings};
pub use standard_webhooks::StandardWebhooksSettings;
pub use static_secret::{BasicSettings, BearerSettings, HeaderSettings, PathTokenSettings};

use crate::alert::{self, Alert, Mapping, Unparsed};
use crate::error::{Error, Result};

/// No source has more schemes.
const MOST_SCHEMES: usize = 4;

/// One source that may send alerts.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceSettings {
    /// Its name, which is its path too: `/alerts/NAME`. Lower-case letters, digits, `-` and `_`.
    pub name: String,
    /// What it sends: a word of [`crate::alert::SOURCES`].
    pub kind: String,
    /// Where what stands in its bodies: a mapping file, for `generic` and for what a product leaves open.
    #[serde(default)]
    pub mapping: Option<PathBuf>,
    /// How it proves that it is the sender; all of them must hold.
    #[serde(default)]
    pub authenticate: Vec<Scheme>,
}

/// One way to prove who sent a request.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "scheme", rename_all = "snake_case")]
pub enum Scheme {
    /// Messages that Amazon SNS signed.
    Sns(SnsSettings),
    /// A keyed digest in a header.
    Hmac(HmacSettings),
    /// The keyed digest of CrowdStrike's Fusion webhooks.
    Crowdstrike(CrowdstrikeSettings),
    /// Standard Webhooks, `v1` and `v1a`.
    StandardWebhooks(StandardWebhooksSettings),
    /// `Authorization: Bearer …`
    Bearer(BearerSettings),
    /// A header that holds the secret.
    Header(HeaderSettings),
    /// The last part of the path: `/alerts/NAME/TOKEN`.
    PathToken(PathTokenSettings),
    /// `Authorization: Basic …`
    Basic(BasicSettings),
    /// A certificate of the client authority that the server's TLS settings name.
    ClientCertificate(ClientCertificateSettings),
    /// Change notifications of Microsoft Graph: each carries `clientState`.
    Graph(GraphSettings),
    /// The address that the connection comes from.
    Address(AddressSettings),
}

impl SourceSettings {
    /// Every path in it.
    pub(crate) fn paths(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let schemes = self.authenticate.iter_mut().flat_map(|scheme| match scheme {
            Scheme::Hmac(settings) => settings.secret_files.as_mut_slice(),
            Scheme::Crowdstrike(settings) => settings.secret_files.as_mut_slice(),
            Scheme::StandardWebhooks(settings) => settings.secret_files.as_mut_slice(),
            Scheme::Bearer(settings) => settings.secret_files.as_mut_slice(),
            Scheme::Header(settings) => settings.secret_files.as_mut_slice(),
            Scheme::PathToken(settings) => settings.secret_files.as_mut_slice(),
            Scheme::Basic(settings) => settings.secret_files.as_mut_slice(),
            Scheme::Graph(settings) => settings.secret_files.as_mut_slice(),
            Scheme::Sns(_) | Scheme::ClientCertificate(_) | Scheme::Address(_) => &mut [],
        });
        schemes.chain(self.mapping.as_mut())
    }
}

/// From where a source may connect.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddressSettings {
    /// Networks, such as `192.0.2.0/24`. Behind a proxy they are the proxy's own.
    pub networks: Vec<String>,
}

/// What a request is judged by.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Headers as they came.
    pub headers: &'a HeaderMap,
    /// What follows the source's name in the path.
    pub path_token: Option<&'a str>,
    /// The certificate that the client showed, which its authority vouches for.
    pub client: Option<&'a ClientCertificate>,
    /// Where the connection comes from.
    pub peer: IpAddr,
    /// The time of this host, nanoseconds since 1970.
    pub now_ns: i64,
}

/// Why a request is refused: a fixed word for metrics and logs. The sender never learns it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub &'static str);

/// Why there is no verdict, or that it is no.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unproven {
    /// It is not from who it should be from.
    Refused(Refused),
    /// It cannot be told now; the sender should try again.
    NotNow(&'static str),
}

impl From<Refused> for Unproven {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

/// What one scheme found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proof {
    /// Who, in words for the log and the custody log.
    pub sender: String,
    /// What is the same only in a repetition of the same request.
    pub seen_as: Option<[u8; 32]>,
    /// A message to us, not an alert.
    pub control: Option<Control>,
}

impl Proof {
    fn of(sender: impl Into<String>) -> Self {
        Self { sender: sender.into(), ..Self::default() }
    }

    fn and(mut self, other: Self) -> Self {
        if !self.sender.is_empty() && !other.sender.is_empty() {
            self.sender.push_str("; ");
        }
        self.sender.push_str(&other.sender);
        self.seen_as = self.seen_as.or(other.seen_as);
        self.control = self.control.or(other.control);
        self
    }
}

/// When a scheme can be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// By the headers, before the body is read.
    Headers,
    /// By the bytes of the body as they came.
    Bytes,
    /// By the body once it is unpacked.
    Content,
}

/// A source whose secrets are read.
#[derive(Debug)]
pub struct Source {
    /// As [`SourceSettings::name`].
    pub name: String,
    /// As [`SourceSettings::kind`].
    pub kind: String,
    mapping: Option<Mapping>,
    checks: Vec<Check>,
    /// Headers that hold secrets, lower case; never kept.
    secret_headers: Vec<String>,
}

#[derive(Debug)]
enum Check {
    Sns(sns::Sns),
    Hmac(hmac::Hmac),
    StandardWebhooks(standard_webhooks::StandardWebhooks),
    Static(static_secret::StaticSecret),
    ClientCertificate(ClientCertificateSettings),
    Graph(graph::Graph),
    Address(Networks),
}

/// Networks that a source may connect from.
#[derive(Debug)]
struct Networks(Vec<IpNet>);

impl Check {
    fn stage(&self) -> Stage {
        match self {
            Self::Static(_) | Self::ClientCertificate(_) | Self::Address(_) => Stage::Headers,
            Self::Hmac(_) | Self::StandardWebhooks(_) => Stage::Bytes,
            Self::Sns(_) | Self::Graph(_) => Stage::Content,
        }
    }
}

impl Source {
    /// Reads the secrets of a source.
    ///
    /// # Errors
    ///
    /// A sentence, never with a secret in it: a name that is no name, no scheme, a secret that cannot be read or is too
    /// short, settings that would protect from nothing.
    pub fn load(settings: &SourceSettings, certificates: &Arc<SigningCertificates>) -> Result<Self, String> {
        let name = &settings.name;
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
        if name.is_empty() || name.len() > 64 || !name.chars().all(allowed) {
            return Err(format!("source {name:?}: a name has 1 to 64 of a-z, 0-9, - and _"));
        }
        let fault = |why: String| format!("source {name:?}: {why}");
        if settings.authenticate.is_empty() {
            return Err(fault(
                "it says in no [[source.authenticate]] how the sender is known; nobody is let in unknown"
                    .into(),
            ));
        }
        if settings.authenticate.len() > MOST_SCHEMES {
            return Err(fault(format!("it has more than {MOST_SCHEMES} schemes")));
        }
        if alert::source(&settings.kind).is_none() {
            let kinds: Vec<&str> = alert::SOURCES.iter().map(|kind| kind.word).collect();
            return Err(fault(format!(
                "its kind is {:?}, and is one of {}",
                settings.kind,
                kinds.join(", ")
            )));
        }
        let mapping = settings.mapping.as_deref().map(Mapping::load).transpose();
        let mapping = mapping.map_err(|error| fault(error.to_string()))?;
        let mut checks = Vec::new();
        let mut secret_headers = Vec::new();
        let mut knows_sender = false;
        for scheme in &settings.authenticate {
            knows_sender |= !matches!(scheme, Scheme::Address(_));
            if let Scheme::Header(header) = scheme {
                secret_headers.push(header.header.to_ascii_lowercase());
            }
            checks.push(check(scheme, certificates).map_err(fault)?);
        }
        if !knows_sender {
            return Err(fault("an address alone proves no sender; add a scheme with a secret".into()));
        }
        let takes_raw = |check: &Check| matches!(check, Check::Sns(sns) if sns.takes_raw());
        let others =
            checks.iter().filter(|check| !matches!(check, Check::Sns(_) | Check::Address(_))).count();
        if others == 0 && checks.iter().any(takes_raw) {
            return Err(fault(
                "SNS does not sign raw delivery: add a scheme with a secret, or leave raw out".into(),
            ));
        }
        checks.sort_by_key(|check| check.stage() as u8);
        Ok(Self { name: name.clone(), kind: settings.kind.clone(), mapping, checks, secret_headers })
    }

    /// Checks everything of one stage. Every scheme of it is looked at, so that time says nothing of which one failed.
    ///
    /// `body` is empty for [`Stage::Headers`].
    ///
    /// # Errors
    ///
    /// [`Unproven`], the first of the stage.
    pub fn check(&self, stage: Stage, request: &Request<'_>, body: &[u8]) -> Result<Proof, Unproven> {
        let mut all = Ok(Proof::default());
        for check in self.checks.iter().filter(|check| check.stage() == stage) {
            let found = match check {
                Check::Static(secret) => secret.check(request).map_err(Unproven::from),
                Check::ClientCertificate(names) => names.check(request).map_err(Unproven::from),
                Check::Address(address) => address.check(request).map_err(Unproven::from),
                Check::Hmac(hmac) => hmac.check(request, body).map_err(Unproven::from),
                Check::StandardWebhooks(webhooks) => webhooks.check(request, body).map_err(Unproven::from),
                Check::Graph(graph) => graph.check(body).map_err(Unproven::from),
                Check::Sns(sns) => sns.check(request, body),
            };
            all = match (all, found) {
                (Ok(before), Ok(found)) => Ok(before.and(found)),
                (Ok(_), Err(unproven)) | (Err(unproven), _) => Err(unproven),
            };
        }
        all
    }

    /// The highest severity, 0 to 100, of the alerts in a body.
    ///
    /// # Errors
    ///
    /// Why it holds none that this source sends.
    pub fn severity(&self, body: &[u8]) -> Result<u8, String> {
        let alerts = self.read(body).map_err(|unparsed| unparsed.0)?;
        Ok(alerts.iter().map(|alert| alert.severity).max().unwrap_or(0))
    }

    /// The alerts that a body holds.
    ///
    /// # Errors
    ///
    /// [`Unparsed`]: why it holds none that this source sends.
    pub fn read(&self, body: &[u8]) -> std::result::Result<Vec<Alert>, Unparsed> {
        alert::read(&self.kind, self.mapping.as_ref(), body)
    }

    /// Whether a check may have to wait for the network, so that it must not run where others are served.
    pub fn may_wait(&self) -> bool {
        self.checks.iter().any(|check| matches!(check, Check::Sns(_)))
    }

    /// Whether a validation token of Microsoft Graph is echoed.
    pub fn is_graph(&self) -> bool {
        self.checks.iter().any(|check| matches!(check, Check::Graph(_)))
    }

    /// Confirms a subscription: the one act towards the sender that a message can cause.
    ///
    /// # Errors
    ///
    /// A sentence, when the account's own address did not answer as it should.
    pub fn confirm(&self, control: &Control) -> Result<(), String> {
        let sns = self.checks.iter().find_map(|check| match check {
            Check::Sns(sns) => Some(sns),
            _ => None,
        });
        sns.ok_or_else(|| "the source has no SNS".to_owned())?.confirm(control)
    }

    /// The headers of a request that are kept: all but those that hold secrets, whose value is left out.
    pub fn kept_headers(&self, headers: &HeaderMap) -> Vec<(String, String)> {
        headers
            .iter()
            .map(|(name, value)| {
                let name = name.as_str();
                let is_secret = self.secret_headers.iter().any(|secret| secret == name) || looks_secret(name);
                let kept = if is_secret {
                    "(left out)".to_owned()
                } else {
                    String::from_utf8_lossy(value.as_bytes()).into_owned()
                };
                (name.to_owned(), kept)
            })
            .collect()
    }
}

impl AddressSettings {
    fn load(&self) -> Result<Networks, String> {
        let network =
            |text: &String| text.parse().map_err(|_| format!("{text:?} is no network, such as 192.0.2.0/24"));
        self.networks.iter().map(network).collect::<Result<_, _>>().map(Networks)
    }
}

impl Networks {
    fn check(&self, request: &Request<'_>) -> Result<Proof, Refused> {
        let peer = request.peer.to_canonical();
        if self.0.iter().any(|network| network.contains(&peer)) {
            Ok(Proof::of(format!("from {peer}")))
        } else {
            Err(Refused("address"))
        }
    }
}

/// Reads every source.
///
/// # Errors
///
/// [`Error::Settings`] with the file, for the first that is wrong, and for two of the same name.
pub fn load(
    file: &std::path::Path,
    settings: &[SourceSettings],
    certificates: &Arc<SigningCertificates>,
) -> Result<Vec<Source>> {
    let wrong = |what: String| Error::Settings { path: file.to_owned(), what };
    let mut sources: Vec<Source> = Vec::new();
    for one in settings {
        let source = Source::load(one, certificates).map_err(wrong)?;
        if sources.iter().any(|before| before.name == source.name) {
            return Err(wrong(format!("two sources have the name {:?}", source.name)));
        }
        sources.push(source);
    }
    Ok(sources)
}

fn check(scheme: &Scheme, certificates: &Arc<SigningCertificates>) -> Result<Check, String> {
    Ok(match scheme {
        Scheme::Sns(settings) => Check::Sns(sns::Sns::load(settings, Arc::clone(certificates))?),
        Scheme::Hmac(settings) => Check::Hmac(hmac::Hmac::load(settings)?),
        Scheme::Crowdstrike(settings) => Check::Hmac(hmac::Hmac::crowdstrike(settings)?),
        Scheme::StandardWebhooks(settings) => {
            Check::StandardWebhooks(standard_webhooks::StandardWebhooks::load(settings)?)
        }
        Scheme::Bearer(settings) => Check::Static(settings.load()?),
        Scheme::Header(settings) => Check::Static(settings.load()?),
        Scheme::PathToken(settings) => Check::Static(settings.load()?),
        Scheme::Basic(settings) => Check::Static(settings.load()?),
        Scheme::ClientCertificate(settings) => Check::ClientCertificate(settings.clone().checked()?),
        Scheme::Graph(settings) => Check::Graph(graph::Graph::load(settings)?),
        Scheme::Address(settings) => Check::Address(settings.load()?),
    })
}

/// Headers that hold secrets whatever the settings say.
fn looks_secret(name: &str) -> bool {
    const WORDS: &[&str] = &["authorization", "cookie", "secret", "token", "password", "api-key", "apikey"];
    WORDS.iter().any(|word| name.contains(word))
}

/// The one value of a header. Two of the same name are refused, for who reads which is not sure.
fn one_header<'a>(headers: &'a HeaderMap, name: &str) -> Result<&'a str, Refused> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().map_err(|_| Refused("malformed_header")),
        (Some(_), Some(_)) => Err(Refused("repeated_header")),
        (None, _) => Err(Refused("missing_header")),
    }
}

/// Whether a time is within a tolerance of now, in both directions.
fn is_near(now_ns: i64, then_ns: i64, tolerance_s: u64) -> bool {
    now_ns.abs_diff(then_ns) <= tolerance_s.saturating_mul(1_000_000_000)
}

/// A digest over parts, none of which can run into the next.
fn digest_of(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = custody::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    *hasher.finish().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Source, String> {
        let settings: SourceSettings = toml::from_str(text).map_err(|error| error.to_string())?;
        Source::load(&settings, &Arc::new(SigningCertificates::unreachable()))
    }

    #[test]
    fn a_source_without_a_scheme_is_refused() {
        let why = load("name = 'a'\nkind = 'falco'").unwrap_err();
        assert!(why.contains("nobody is let in unknown"), "{why}");
        let why = load(
            "name = 'a'\nkind = 'falco'\n[[authenticate]]\nscheme = 'address'\nnetworks = ['10.0.0.0/8']",
        )
        .unwrap_err();
        assert!(why.contains("alone proves no sender"), "{why}");
    }

    #[test]
    fn a_name_that_is_a_path_is_refused() {
        for name in ["", "../etc", "a/b", "A", "a b", "a\n"] {
            let settings = SourceSettings {
                name: name.into(),
                kind: "falco".into(),
                authenticate: vec![],
                mapping: None,
            };
            let why = Source::load(&settings, &Arc::new(SigningCertificates::unreachable())).unwrap_err();
            assert!(why.contains("1 to 64"), "{why}");
        }
    }

    #[test]
    fn a_mistyped_setting_is_an_error_and_not_a_default() {
        let why = load(
            "name = 'a'\nkind = 'falco'\n[[authenticate]]\nscheme = 'bearer'\nsecret_files = ['/dev/null']\ntolerence = 3",
        )
        .unwrap_err();
        assert!(why.contains("tolerence"), "{why}");
    }

    #[test]
    fn secrets_in_headers_are_not_kept() {
        let source = Source {
            name: "a".into(),
            kind: "falco".into(),
            mapping: None,
            checks: vec![],
            secret_headers: vec!["x-shared".into()],
        };
        let mut headers = HeaderMap::new();
        headers.insert("x-shared", "s1".parse().unwrap());
        headers.insert("authorization", "Bearer s2".parse().unwrap());
        headers.insert("x-webhook-secret", "s3".parse().unwrap());
        headers.insert("user-agent", "falco".parse().unwrap());
        let kept = format!("{:?}", source.kept_headers(&headers));
        assert!(
            !kept.contains("s1") && !kept.contains("s2") && !kept.contains("s3") && kept.contains("falco")
        );
    }
}
