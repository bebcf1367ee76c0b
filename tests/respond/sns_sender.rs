//! Amazon SNS, made by the test: an authority, an intermediate, a certificate that signs, and messages.

use std::process::Command;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, PKCS_RSA_SHA256, date_time_ymd,
};
use respond::authenticate::fetch::NotGot;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};

use crate::door_support::Web;

pub(crate) const TOPIC: &str = "arn:aws:sns:eu-west-1:111122223333:findings";
pub(crate) const CERTIFICATE: &str =
    "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0123456789abcdef0123456789abcdef.pem";
pub(crate) const INTERMEDIATE: &str = "http://crt.r2m99.amazontrust.com/r2m99.cer";

/// Who signs.
pub(crate) struct Sender {
    folder: tempfile::TempDir,
    key: KeyPair,
    intermediate: CertifiedIssuer<'static, KeyPair>,
    pub(crate) root: CertificateDer<'static>,
}

impl Sender {
    /// Nothing where `openssl` is not there, which makes the RSA key.
    pub(crate) fn new() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        let made = Command::new("openssl")
            .args(["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out"])
            .arg(&path)
            .output();
        if !made.as_ref().is_ok_and(|made| made.status.success()) {
            eprintln!("skipped: openssl does not make an RSA key: {made:?}");
            return None;
        }
        let der = PrivatePkcs8KeyDer::from_pem_file(&path).unwrap();
        let key = KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_RSA_SHA256).unwrap();
        let root =
            CertifiedIssuer::self_signed(authority("Test Root CA"), KeyPair::generate().unwrap()).unwrap();
        let root_der = root.as_ref().der().clone();
        let intermediate =
            CertifiedIssuer::signed_by(authority("Test RSA 2048 M99"), KeyPair::generate().unwrap(), &root)
                .unwrap();
        Some(Self { folder, key, intermediate, root: root_der })
    }

    /// The certificate, as SNS gives it: alone, with the place of its issuer in it.
    pub(crate) fn certificate(&self, name: &str, issuer_at: &str, last_year: i32) -> String {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(2026, 1, 1);
        params.not_after = date_time_ymd(last_year, 12, 31);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let mut access = vec![0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x02, 0x86];
        access.push(u8::try_from(issuer_at.len()).unwrap());
        access.extend_from_slice(issuer_at.as_bytes());
        let access = sequence(&sequence(&access));
        params.custom_extensions =
            vec![CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 1], access)];
        params.signed_by(&self.key, &self.intermediate).unwrap().pem()
    }

    pub(crate) fn intermediate(&self) -> CertificateDer<'static> {
        self.intermediate.as_ref().der().clone()
    }

    pub(crate) fn intermediate_pem(&self) -> String {
        self.intermediate.as_ref().pem()
    }

    /// Lays the good certificate and its intermediate out.
    pub(crate) fn publish(&self, web: &Web) {
        web.put(CERTIFICATE, Ok(self.certificate("sns.amazonaws.com", INTERMEDIATE, 2027).into_bytes()));
        web.put(INTERMEDIATE, Ok(self.intermediate().to_vec()));
    }

    /// Signs a message as SNS does: by the version that it names.
    pub(crate) fn signed(&self, mut message: Value) -> Value {
        let mut text = String::new();
        let names: &[&str] = match message["Type"].as_str().unwrap() {
            "Notification" => &["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"],
            _ => &["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"],
        };
        for name in names {
            if let Some(value) = message[name].as_str() {
                text.push_str(&format!("{name}\n{value}\n"));
            }
        }
        let digest = if message["SignatureVersion"] == "1" { "-sha1" } else { "-sha256" };
        let path = self.folder.path().join(format!("{:?}.message", std::thread::current().id()));
        std::fs::write(&path, text).unwrap();
        let signed = Command::new("openssl")
            .args(["dgst", digest, "-sign"])
            .args([self.folder.path().join("key.pem"), path])
            .output()
            .unwrap();
        assert!(signed.status.success(), "{}", String::from_utf8_lossy(&signed.stderr));
        message["Signature"] = STANDARD.encode(signed.stdout).into();
        message
    }

    /// A notification, signed.
    pub(crate) fn notification(&self, id: &str, version: &str, timestamp: &str, message: &str) -> Value {
        self.signed(json!({
            "Type": "Notification", "MessageId": id, "TopicArn": TOPIC, "Subject": "A finding", "Message": message,
            "Timestamp": timestamp, "SignatureVersion": version, "SigningCertURL": CERTIFICATE
        }))
    }

    /// A question whether we want what the topic sends, signed.
    pub(crate) fn subscription(&self, subscribe_url: &str) -> Value {
        self.signed(json!({
            "Type": "SubscriptionConfirmation", "MessageId": "165545c9", "TopicArn": TOPIC, "Token": "2336412f37fb687f",
            "Message": "You have chosen to subscribe", "SubscribeURL": subscribe_url,
            "Timestamp": "2026-11-21T11:59:00.000Z", "SignatureVersion": "2", "SigningCertURL": CERTIFICATE
        }))
    }
}

/// An authority of another name, so that a wrong root can be had.
pub(crate) fn other_root() -> CertificateDer<'static> {
    let root =
        CertifiedIssuer::self_signed(authority("Another Root CA"), KeyPair::generate().unwrap()).unwrap();
    root.as_ref().der().clone()
}

pub(crate) fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn sequence(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![0x30, u8::try_from(bytes.len()).unwrap()];
    assert!(bytes.len() < 128);
    out.extend_from_slice(bytes);
    out
}

/// A network that fails, as when the name cannot be resolved.
pub(crate) fn down(web: &Arc<Web>, url: &str) {
    web.put(url, Err(NotGot::Failed("it is down".to_owned())));
}
