//! Certificates that sign SNS messages: fetched from a pinned address, chain, name and time checked, kept for a while.
//!
//! Amazon's file holds the certificate alone, without what links it to a root. The link is taken from the settings, or
//! from the place that the certificate names, if that is Amazon's own; either way it counts only by its signatures.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use super::fetch::{Fetch, NotGot};
use super::sns_address::{self, Topic};
use super::{Refused, Unproven};

/// A file of a certificate is no longer.
const LONGEST: u64 = 64 << 10;

/// More certificates in one file are not read.
const MOST_IN_FILE: usize = 8;

/// More are not kept.
const MOST_KEPT: usize = 64;

/// Addresses opened within a minute for strangers.
const MOST_FETCHES: usize = 20;

const MINUTE_NS: i64 = 60_000_000_000;

/// A chain that held is believed for so long.
const CHECK_AGAIN_NS: i64 = 5 * MINUTE_NS;

/// Everything that says who may sign SNS messages.
pub struct SigningCertificates {
    fetch: Arc<dyn Fetch>,
    anchors: Vec<TrustAnchor<'static>>,
    intermediates: Vec<CertificateDer<'static>>,
    folder: Option<PathBuf>,
    kept: Mutex<Kept>,
    /// Held while fetching, so that a thousand messages fetch one certificate once.
    fetching: Mutex<Vec<i64>>,
}

#[derive(Default)]
struct Kept {
    good: BTreeMap<String, Arc<Certificate>>,
    /// Addresses that gave none, and until when they are not asked again.
    bad: BTreeMap<String, (i64, Unproven)>,
}

/// One certificate whose chain held.
#[derive(Debug)]
pub(super) struct Certificate {
    pub(super) der: CertificateDer<'static>,
    /// SHA-256, hexadecimal.
    pub(super) fingerprint: String,
    links: Vec<CertificateDer<'static>>,
    held_ns: i64,
}

impl fmt::Debug for SigningCertificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "certificates under {} roots", self.anchors.len())
    }
}

impl SigningCertificates {
    /// Under the roots of Mozilla's programme.
    pub fn new(fetch: Arc<dyn Fetch>) -> Self {
        Self {
            fetch,
            anchors: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
            intermediates: Vec::new(),
            folder: None,
            kept: Mutex::default(),
            fetching: Mutex::default(),
        }
    }

    /// Also looks in a folder, before the network, for files named as in the address (`SimpleNotificationService-….pem`);
    /// every other `.pem` there is a link to a root. For services without a way out.
    ///
    /// # Errors
    ///
    /// A sentence, when the folder or a file in it cannot be read.
    pub fn with_folder(mut self, folder: &Path) -> Result<Self, String> {
        let fault =
            |path: &Path, why: &dyn fmt::Display| format!("certificates in {path:?} cannot be read: {why}");
        let entries = std::fs::read_dir(folder).map_err(|error| fault(folder, &error))?;
        for entry in entries.take(1000) {
            let path = entry.map_err(|error| fault(folder, &error))?.path();
            if path.extension().is_some_and(|end| end == "pem") {
                let bytes = read_small(&path).map_err(|error| fault(&path, &error))?;
                self.intermediates.extend(certificates(&bytes).ok_or_else(|| fault(&path, &"no PEM"))?);
            }
        }
        self.folder = Some(folder.to_owned());
        Ok(self)
    }

    /// Under these roots alone.
    ///
    /// # Errors
    ///
    /// A sentence, when one is no certificate.
    pub fn with_roots(mut self, roots: &[CertificateDer<'_>]) -> Result<Self, String> {
        self.anchors.clear();
        for root in roots {
            let anchor =
                anchor_from_trusted_cert(root).map_err(|error| format!("a root is none: {error}"))?;
            self.anchors.push(anchor.to_owned());
        }
        Ok(self)
    }

    /// The certificate at an address, if it may sign what this topic sends.
    pub(super) fn get(&self, topic: &Topic, url: &str, now_ns: i64) -> Result<Arc<Certificate>, Unproven> {
        if !topic.is_certificate(url) {
            return Err(Refused("certificate_address").into());
        }
        if let Some(known) = self.known(topic, url, now_ns) {
            return known;
        }
        let mut fetches = self.fetching.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever waited may find that another has fetched it.
        if let Some(known) = self.known(topic, url, now_ns) {
            return known;
        }
        fetches.retain(|then| now_ns.abs_diff(*then) < MINUTE_NS.unsigned_abs());
        if fetches.len() >= MOST_FETCHES {
            return Err(Unproven::NotNow("too_many_certificates"));
        }
        fetches.push(now_ns);
        let got = self.fetch_and_check(topic, url, now_ns);
        let mut kept = self.kept();
        match &got {
            Ok(certificate) => {
                if kept.good.len() >= MOST_KEPT {
                    let oldest =
                        kept.good.iter().min_by_key(|(_, one)| one.held_ns).map(|(url, _)| url.clone());
                    oldest.map(|url| kept.good.remove(&url));
                }
                kept.good.insert(url.to_owned(), Arc::clone(certificate));
            }
            Err(unproven) => {
                if kept.bad.len() >= MOST_KEPT {
                    kept.bad.clear();
                }
                let wait = if matches!(unproven, Unproven::NotNow(_)) { MINUTE_NS / 12 } else { MINUTE_NS };
                kept.bad.insert(url.to_owned(), (now_ns.saturating_add(wait), *unproven));
            }
        }
        got
    }

    /// Opens an address that confirms a subscription, made by [`Topic::confirmation`].
    pub(super) fn fetch_confirmation(&self, url: &str) -> Result<Vec<u8>, NotGot> {
        self.fetch.get(url, LONGEST)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of an address already.
    fn known(&self, topic: &Topic, url: &str, now_ns: i64) -> Option<Result<Arc<Certificate>, Unproven>> {
        let mut kept = self.kept();
        if let Some(certificate) = kept.good.get(url) {
            if now_ns.abs_diff(certificate.held_ns) < CHECK_AGAIN_NS.unsigned_abs() {
                return Some(Ok(Arc::clone(certificate)));
            }
            let (der, links) = (certificate.der.clone(), certificate.links.clone());
            kept.good.remove(url);
            if let Ok(certificate) = self.checked(topic, der, links, now_ns) {
                let certificate = Arc::new(certificate);
                kept.good.insert(url.to_owned(), Arc::clone(&certificate));
                return Some(Ok(certificate));
            }
        }
        let (until, unproven) = kept.bad.get(url)?;
        (now_ns < *until).then_some(Err(*unproven))
    }

    fn fetch_and_check(&self, topic: &Topic, url: &str, now_ns: i64) -> Result<Arc<Certificate>, Unproven> {
        let file = url.rsplit('/').next().unwrap_or_default();
        let bytes = match self.folder.as_ref().and_then(|folder| read_small(&folder.join(file)).ok()) {
            Some(bytes) => bytes,
            None => self.fetch.get(url, LONGEST).map_err(|error| match error {
                NotGot::Refused(_) => Unproven::Refused(Refused("certificate_absent")),
                NotGot::Failed(_) => Unproven::NotNow("certificate_unreachable"),
            })?,
        };
        let wrong = Refused("certificate_malformed");
        let mut all = certificates(&bytes).ok_or(wrong)?.into_iter();
        let der = all.next().ok_or(wrong)?;
        let mut links: Vec<_> = all.collect();
        let first = self.checked(topic, der.clone(), links.clone(), now_ns);
        let checked = match (first, issuer_address(&der)) {
            (Err(Refused("certificate_chain")), Some(address)) => {
                // It is believed for its signature alone, so that plain HTTP, which is how authorities give it, is enough.
                let link = self.fetch.get(&address, LONGEST);
                links.push(
                    link.map(CertificateDer::from)
                        .map_err(|_| Unproven::NotNow("certificate_unreachable"))?,
                );
                self.checked(topic, der, links, now_ns)
            }
            (first, _) => first,
        };
        Ok(Arc::new(checked?))
    }

    /// Chain, purpose, time and name.
    fn checked(
        &self,
        topic: &Topic,
        der: CertificateDer<'static>,
        links: Vec<CertificateDer<'static>>,
        now_ns: i64,
    ) -> Result<Certificate, Refused> {
        let certificate = EndEntityCert::try_from(&der).map_err(|_| Refused("certificate_malformed"))?;
        let now = UnixTime::since_unix_epoch(Duration::from_nanos(u64::try_from(now_ns).unwrap_or_default()));
        let all: Vec<CertificateDer<'_>> = links.iter().chain(&self.intermediates).cloned().collect();
        let usage = KeyUsage::server_auth();
        certificate
            .verify_for_usage(ALL_VERIFICATION_ALGS, &self.anchors, &all, now, usage, None, None)
            .map_err(|error| match error {
                webpki::Error::CertExpired { .. } | webpki::Error::CertNotValidYet { .. } => {
                    Refused("certificate_time")
                }
                _ => Refused("certificate_chain"),
            })?;
        let is_signer = topic.signers().iter().any(|name| {
            ServerName::try_from(name.as_str())
                .is_ok_and(|name| certificate.verify_is_valid_for_subject_name(&name).is_ok())
        });
        if !is_signer {
            return Err(Refused("certificate_name"));
        }
        let fingerprint = hex::encode(custody::sha256(&der).as_bytes());
        Ok(Certificate { der, fingerprint, links, held_ns: now_ns })
    }

    /// One that reaches nothing.
    #[cfg(test)]
    pub(super) fn unreachable() -> Self {
        #[derive(Debug)]
        struct Nowhere;
        impl Fetch for Nowhere {
            fn get(&self, _: &str, _: u64) -> Result<Vec<u8>, NotGot> {
                Err(NotGot::Failed("there is no network".to_owned()))
            }
        }
        Self::new(Arc::new(Nowhere))
    }
}

/// The certificates of a PEM text, the first of [`MOST_IN_FILE`]; nothing if it holds something broken.
fn certificates(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_slice_iter(pem).take(MOST_IN_FILE).collect::<Result<_, _>>().ok()
}

fn read_small(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(LONGEST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Where a certificate says that its issuer's lies (RFC 5280, 4.2.2.1), if that is a place of Amazon's.
///
/// A search for the object identifier is enough: what is found there is opened only if pinned, and believed only if signed.
fn issuer_address(der: &[u8]) -> Option<String> {
    /// `id-ad-caIssuers`, and the tag of a URI.
    const CA_ISSUERS: &[u8] = &[0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x02, 0x86];
    let at = der.windows(CA_ISSUERS.len()).position(|window| window == CA_ISSUERS)?;
    let rest = der.get(at.checked_add(CA_ISSUERS.len())?..)?;
    let (length, rest) = rest.split_first()?;
    let url = std::str::from_utf8(rest.get(..usize::from(*length))?).ok()?;
    sns_address::is_intermediate(url).then(|| url.to_owned())
}
