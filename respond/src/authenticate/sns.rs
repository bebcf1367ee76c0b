//! Messages that Amazon SNS signed, and its questions whether we want them.
//!
//! Source: "Verifying the signatures of Amazon SNS messages" in Amazon's developer guide. `SubscribeURL` is never opened:
//! a confirmation goes to an address that is made here, of the topic and the token alone.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::{AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm, alg_id};
use serde::Deserialize;
use webpki::EndEntityCert;

use super::signing_certificate::SigningCertificates;
use super::sns_address::{Topic, is_token};
use super::{Proof, Refused, Request, Unproven, digest_of, is_near, one_header};

/// Seconds for which SNS may try to deliver.
const TOLERANCE: u64 = 3600;

/// Amazon SNS.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnsSettings {
    /// The ARNs of the topics whose messages are taken.
    pub topics: Vec<String>,
    /// Versions of signatures that are taken: 2 (SHA-256) unless told; 1 is SHA-1.
    #[serde(default = "second")]
    pub versions: Vec<u8>,
    /// Seconds by which a message may be older or newer than this host's time; 3600 unless told, which is the most.
    #[serde(default)]
    pub tolerance: Option<u64>,
    /// Whether subscriptions to these topics are confirmed.
    #[serde(default = "yes")]
    pub confirm: bool,
    /// Whether raw delivery is taken, which SNS does not sign. Needs another scheme beside this one.
    #[serde(default)]
    pub raw: bool,
}

fn second() -> Vec<u8> {
    vec![2]
}

fn yes() -> bool {
    true
}

/// A message to us: no alert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Control {
    /// SNS asks whether we want what this topic sends.
    Subscribe {
        /// The topic's ARN.
        topic: String,
        /// What SNS knows the answer by.
        token: String,
        /// Whether `confirm` is set.
        confirm: bool,
    },
    /// Somebody has ended the subscription to this topic.
    Unsubscribed {
        /// The topic's ARN.
        topic: String,
    },
}

#[derive(Debug)]
pub(super) struct Sns {
    topics: Vec<Topic>,
    versions: Vec<u8>,
    tolerance: u64,
    confirm: bool,
    raw: bool,
    certificates: Arc<SigningCertificates>,
}

/// What is read of a message. A field that comes twice is an error, so that no two readers see two messages.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Message {
    #[serde(rename = "Type")]
    kind: String,
    message_id: String,
    topic_arn: String,
    message: String,
    timestamp: String,
    signature_version: String,
    signature: String,
    #[serde(rename = "SigningCertURL", alias = "SigningCertUrl")]
    signing_cert_url: String,
    #[serde(default)]
    subject: Option<String>,
    #[serde(default)]
    token: Option<String>,
    #[serde(rename = "SubscribeURL", alias = "SubscribeUrl", default)]
    subscribe_url: Option<String>,
}

impl Sns {
    pub(super) fn load(
        settings: &SnsSettings,
        certificates: Arc<SigningCertificates>,
    ) -> Result<Self, String> {
        if settings.topics.is_empty() {
            return Err("sns names no topics: every account could send".to_owned());
        }
        let topic = |arn: &String| Topic::parse(arn).ok_or_else(|| format!("{arn:?} is no ARN of a topic"));
        let topics = settings.topics.iter().map(topic).collect::<Result<_, _>>()?;
        if settings.versions.is_empty() || !settings.versions.iter().all(|version| matches!(version, 1 | 2)) {
            return Err("versions of SNS signatures are 1 and 2".to_owned());
        }
        let tolerance = settings.tolerance.unwrap_or(TOLERANCE);
        if tolerance == 0 || tolerance > TOLERANCE {
            return Err(format!("tolerance is 1 to {TOLERANCE} seconds"));
        }
        let (versions, confirm, raw) = (settings.versions.clone(), settings.confirm, settings.raw);
        Ok(Self { topics, versions, tolerance, confirm, raw, certificates })
    }

    pub(super) fn check(&self, request: &Request<'_>, body: &[u8]) -> Result<Proof, Unproven> {
        if request.headers.contains_key("x-amz-sns-rawdelivery") {
            return Ok(self.check_raw(request)?);
        }
        let message: Message = serde_json::from_slice(body).map_err(|_| Refused("malformed_message"))?;
        let topic = self.topics.iter().find(|topic| topic.arn == message.topic_arn);
        let topic = topic.ok_or(Refused("other_topic"))?;
        let version = match message.signature_version.as_str() {
            "1" => 1,
            "2" => 2,
            _ => return Err(Refused("signature_version").into()),
        };
        if !self.versions.contains(&version) {
            return Err(Refused("signature_version").into());
        }
        let signed = message.signed().ok_or(Refused("malformed_message"))?;
        let signature = STANDARD.decode(&message.signature).map_err(|_| Refused("malformed_signature"))?;
        let then =
            custody::clock::parse_rfc3339(&message.timestamp).map_err(|_| Refused("malformed_time"))?;
        if !is_near(request.now_ns, then, self.tolerance) {
            return Err(Refused("old_time").into());
        }
        let certificate = self.certificates.get(topic, &message.signing_cert_url, request.now_ns)?;
        let key = EndEntityCert::try_from(&certificate.der).map_err(|_| Refused("certificate_malformed"))?;
        let algorithm = if version == 1 { RSA_SHA1 } else { webpki::ring::RSA_PKCS1_2048_8192_SHA256 };
        key.verify_signature(algorithm, signed.as_bytes(), &signature)
            .map_err(|_| Refused("bad_signature"))?;
        let short = certificate.fingerprint.get(..16).unwrap_or_default();
        Ok(Proof {
            sender: format!("sns topic {} signed v{version} by certificate sha256:{short}", topic.arn),
            seen_as: Some(digest_of(&[b"sns", topic.arn.as_bytes(), message.message_id.as_bytes()])),
            control: self.control(topic, &message)?,
        })
    }

    /// What SNS does not sign. Another scheme of the source holds, or the whole does not.
    fn check_raw(&self, request: &Request<'_>) -> Result<Proof, Refused> {
        if !self.raw {
            return Err(Refused("raw_delivery"));
        }
        let arn = one_header(request.headers, "x-amz-sns-topic-arn")?;
        let topic = self.topics.iter().find(|topic| topic.arn == arn).ok_or(Refused("other_topic"))?;
        Ok(Proof::of(format!("sns topic {} as its unsigned header says", topic.arn)))
    }

    pub(super) fn takes_raw(&self) -> bool {
        self.raw
    }

    fn control(&self, topic: &Topic, message: &Message) -> Result<Option<Control>, Refused> {
        Ok(match message.kind.as_str() {
            "SubscriptionConfirmation" => {
                let token = message
                    .token
                    .clone()
                    .filter(|token| is_token(token))
                    .ok_or(Refused("subscribe_token"))?;
                let url = message.subscribe_url.as_deref().unwrap_or_default();
                // Signed or not: an address elsewhere is no confirmation, and nothing is opened for it.
                if !topic.is_confirmation(url, &token) {
                    return Err(Refused("subscribe_address"));
                }
                Some(Control::Subscribe { topic: topic.arn.clone(), token, confirm: self.confirm })
            }
            "UnsubscribeConfirmation" => Some(Control::Unsubscribed { topic: topic.arn.clone() }),
            _ => None,
        })
    }

    /// Answers SNS that we want what the topic sends.
    pub(super) fn confirm(&self, control: &Control) -> Result<(), String> {
        let Control::Subscribe { topic, token, .. } = control else { return Ok(()) };
        let topic = self.topics.iter().find(|one| one.arn == *topic).ok_or("the topic is none of ours")?;
        let url = topic.confirmation(token).ok_or("the token is none")?;
        let answer = self.certificates.fetch_confirmation(&url).map_err(|error| error.to_string())?;
        let is_confirmed = answer.windows(17).any(|window| window == b"<SubscriptionArn>");
        if is_confirmed { Ok(()) } else { Err("SNS did not name a subscription in its answer".to_owned()) }
    }
}

impl Message {
    /// What is signed: each name and value of a fixed list, in its order, each with a line feed.
    fn signed(&self) -> Option<String> {
        let mut pairs: Vec<(&str, &str)> = vec![("Message", &self.message), ("MessageId", &self.message_id)];
        match self.kind.as_str() {
            "Notification" => pairs.extend(self.subject.as_deref().map(|subject| ("Subject", subject))),
            "SubscriptionConfirmation" | "UnsubscribeConfirmation" => {
                pairs.push(("SubscribeURL", self.subscribe_url.as_deref()?));
            }
            _ => return None,
        }
        pairs.push(("Timestamp", &self.timestamp));
        if self.kind != "Notification" {
            pairs.push(("Token", self.token.as_deref()?));
        }
        pairs.extend([("TopicArn", self.topic_arn.as_str()), ("Type", self.kind.as_str())]);
        let mut text = String::new();
        for (name, value) in pairs {
            text.push_str(name);
            text.push('\n');
            text.push_str(value);
            text.push('\n');
        }
        Some(text)
    }
}

/// RSA with SHA-1, which version 1 is made with, and no certificate.
static RSA_SHA1: &dyn SignatureVerificationAlgorithm = &RsaSha1;

#[derive(Debug)]
struct RsaSha1;

impl SignatureVerificationAlgorithm for RsaSha1 {
    fn verify_signature(&self, key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
        let algorithm = &ring::signature::RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY;
        let key = ring::signature::UnparsedPublicKey::new(algorithm, key);
        key.verify(message, signature).map_err(|_| InvalidSignature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::RSA_ENCRYPTION
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        // Only compared where certificates are verified, which this never does.
        alg_id::RSA_PKCS1_SHA256
    }
}
