//! Certificates of clients: TLS has checked that the client authority vouches for them; here is who it is.

use rustls_pki_types::{CertificateDer, ServerName};
use serde::Deserialize;
use webpki::EndEntityCert;

use super::{Proof, Refused, Request};

/// Who may send.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientCertificateSettings {
    /// DNS names, of which the certificate must hold one as an alternative name.
    #[serde(default)]
    pub names: Vec<String>,
    /// SHA-256 of whole certificates, hexadecimal, for those that hold no DNS name.
    #[serde(default)]
    pub fingerprints: Vec<String>,
}

/// The certificate that a client showed.
#[derive(Debug, Clone)]
pub struct ClientCertificate {
    der: CertificateDer<'static>,
    fingerprint: String,
}

impl ClientCertificate {
    /// Of the first certificate that TLS was shown, and has verified.
    pub fn new(der: CertificateDer<'static>) -> Self {
        let fingerprint = hex::encode(custody::sha256(&der).as_bytes());
        Self { der, fingerprint }
    }

    /// SHA-256, hexadecimal.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }
}

impl ClientCertificateSettings {
    pub(super) fn checked(mut self) -> Result<Self, String> {
        if self.names.is_empty() && self.fingerprints.is_empty() {
            return Err("client_certificate needs names or fingerprints: else every client of the authority is this one".into());
        }
        for name in &self.names {
            if !matches!(ServerName::try_from(name.as_str()), Ok(ServerName::DnsName(_))) {
                return Err(format!("{name:?} is no DNS name"));
            }
        }
        for print in &mut self.fingerprints {
            *print = print.replace(':', "").to_ascii_lowercase();
            if print.len() != 64 || hex::decode(print.as_str()).is_err() {
                return Err(format!("{print:?} is no SHA-256 in hexadecimal"));
            }
        }
        Ok(self)
    }

    pub(super) fn check(&self, request: &Request<'_>) -> Result<Proof, Refused> {
        let client = request.client.ok_or(Refused("no_client_certificate"))?;
        let short = client.fingerprint.get(..16).unwrap_or_default();
        if self.fingerprints.contains(&client.fingerprint) {
            return Ok(Proof::of(format!("client certificate sha256:{short}")));
        }
        let certificate =
            EndEntityCert::try_from(&client.der).map_err(|_| Refused("malformed_certificate"))?;
        let is_named = |name: &&String| {
            ServerName::try_from(name.as_str())
                .is_ok_and(|name| certificate.verify_is_valid_for_subject_name(&name).is_ok())
        };
        match self.names.iter().find(is_named) {
            Some(name) => Ok(Proof::of(format!("client certificate of {name}, sha256:{short}"))),
            None => Err(Refused("other_client")),
        }
    }
}
