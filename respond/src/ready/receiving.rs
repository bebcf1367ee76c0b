//! Whether alerts would come in: the door as others see it, and whether each source still sends.

use std::net::{TcpStream, ToSocketAddrs as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme, StreamOwned,
};

use super::check::{Check, Finding, Severity, Status, Unable};
use super::probe::Probe;

pub(super) static CHECKS: &[Check] = &[
    Check {
        id: "RD30",
        version: 1,
        severity: Severity::Critical,
        title: "the service answers where alerts are sent to, over TLS that will last",
        scope: "address",
        tested: "GET /healthz at `ready.public_url` must answer 200 within 5 s; its certificate must verify now and in 21 days, by \
                 Mozilla's roots or `ready.public_root`",
        remediation: "start the service, open the firewall or mend the proxy; renew the certificate",
        prowler: &[],
        seconds: 30,
        drill: None,
        test: door,
    },
    Check {
        id: "RD31",
        version: 1,
        severity: Severity::High,
        title: "every source has sent something lately",
        scope: "source",
        tested: "the newest delivery of each source in the state is younger than `ready.silence_days`",
        remediation: "send a test alert from the product; confirm the subscription again; have it send a heartbeat",
        prowler: &[],
        seconds: 30,
        drill: None,
        test: sources,
    },
];

/// How long a certificate must still hold.
const LASTS: u64 = 21 * 86_400;

/// How long the door may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// `scheme`, `host`, `port`.
fn parts(url: &str) -> Option<(&str, &str, u16)> {
    let (scheme, rest) = url.split_once("://")?;
    let authority =
        rest.split(['/', '?', '#']).next().filter(|text| !text.is_empty() && !text.contains('@'))?;
    let default = if scheme == "https" { 443 } else { 80 };
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
        _ => (authority, default),
    };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    matches!(scheme, "http" | "https").then_some((scheme, host, port))
}

fn door(probe: &Probe) -> Result<Vec<Finding>, Unable> {
    let Some(url) = &probe.settings.ready.public_url else {
        return Err(Unable::none("the settings do not say where alerts are sent to (ready.public_url)"));
    };
    let expected = "200 within 5 s, over a certificate that holds for 21 days";
    let (scheme, host, port) =
        parts(url).ok_or_else(|| Unable::untested(format!("{url:?} is not https://host[:port]")))?;
    let begun = Instant::now();
    let stream = match connect(host, port) {
        Ok(stream) => stream,
        // From here it cannot be told whether nothing listens or only we do not get there.
        Err(error) => {
            let seen = format!("{host}:{port} cannot be reached: {error}");
            return Ok(vec![Finding::new(url, Status::Error, seen, expected)]);
        }
    };
    let mut found = Vec::new();
    let answered = if scheme == "https" {
        let roots = roots(probe.settings.ready.public_root.as_deref())?;
        let (answered, certificate) = over_tls(probe, stream, host, roots)?;
        found.push(certificate);
        answered
    } else {
        let is_local = stream.peer_addr().is_ok_and(|peer| peer.ip().is_loopback());
        let seen = if is_local {
            "http on loopback: whoever ends TLS before it was not tested"
        } else {
            "http without TLS: whoever is on the way reads alerts and secrets"
        };
        let status = if is_local { Status::Warn } else { Status::Fail };
        found.push(Finding::new(format!("{url}/tls"), status, seen, expected));
        ask(stream, host)
    };
    let took = begun.elapsed();
    found.push(match answered {
        Ok(head) => {
            let holds = head.starts_with("HTTP/1.1 200") && took < PATIENCE;
            let line = head.lines().next().unwrap_or_default();
            let seen = format!("{line} after {} ms", took.as_millis());
            Finding::of(url, holds, seen, expected).with_evidence(head)
        }
        Err(why) => Finding::of(url, false, why, expected),
    });
    Ok(found)
}

fn connect(host: &str, port: u16) -> std::io::Result<TcpStream> {
    let mut last = std::io::Error::from(std::io::ErrorKind::NotFound);
    for address in (host, port).to_socket_addrs()?.take(4) {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => {
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Asks whether the service is well; gives the head of the answer.
fn ask(mut stream: impl std::io::Read + std::io::Write, host: &str) -> Result<String, String> {
    let said = |error: std::io::Error| format!("no answer: {error}");
    let request = format!(
        "GET /healthz HTTP/1.1\r\nHost: {host}\r\nUser-Agent: exhibit-ready\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).map_err(said)?;
    stream.flush().map_err(said)?;
    let mut head = Vec::new();
    let begun = Instant::now();
    let mut piece = [0; 1024];
    // A line at least; never more than some, nor for longer than it is waited for.
    while !head.contains(&b'\n') && head.len() < 8192 && begun.elapsed() < PATIENCE {
        match stream.read(&mut piece).map_err(said)? {
            0 => break,
            read => head.extend_from_slice(piece.get(..read).unwrap_or_default()),
        }
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

fn roots(own: Option<&Path>) -> Result<RootCertStore, Unable> {
    let mut roots = RootCertStore::empty();
    match own {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(path) => {
            let pem = std::fs::read(path)
                .map_err(|error| Unable::untested(format!("{}: {error}", path.display())))?;
            for certificate in CertificateDer::pem_slice_iter(&pem) {
                let certificate =
                    certificate.map_err(|error| Unable::untested(format!("{}: {error}", path.display())))?;
                roots.add(certificate)?;
            }
        }
    }
    Ok(roots)
}

/// Verifies as every client does, and keeps the chain that was verified.
#[derive(Debug)]
struct Keeping {
    verifier: Arc<WebPkiServerVerifier>,
    seen: Mutex<Vec<CertificateDer<'static>>>,
}

impl ServerCertVerifier for Keeping {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let chain =
            [end_entity].into_iter().chain(intermediates).map(|one| one.clone().into_owned()).collect();
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = chain;
        self.verifier.verify_server_cert(end_entity, intermediates, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

/// What the service answers over TLS, and what is to be said of its certificate.
fn over_tls(
    probe: &Probe,
    stream: TcpStream,
    host: &str,
    roots: RootCertStore,
) -> Result<(Result<String, String>, Finding), Unable> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build()?;
    let keeping = Arc::new(Keeping { verifier, seen: Mutex::default() });
    let given: Arc<dyn ServerCertVerifier> = Arc::<Keeping>::clone(&keeping);
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(given)
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned())?;
    let connection = ClientConnection::new(Arc::new(config), name.clone())?;
    let answered = ask(StreamOwned::new(connection, stream), host);
    let chain = keeping.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let (scope, expected) = (format!("{host}/tls"), "the certificate verifies now and in 21 days");
    let Some((end_entity, intermediates)) = chain.split_first() else {
        let seen = format!("no certificate came: {}", answered.as_ref().err().map_or("", String::as_str));
        return Ok((answered, Finding::new(scope, Status::Error, seen, expected)));
    };
    let now = u64::try_from(probe.now()).unwrap_or(0);
    let at = |seconds: u64| {
        let time = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        keeping.verifier.verify_server_cert(end_entity, intermediates, &name, &[], time)
    };
    let certificate = match (at(now), at(now.saturating_add(LASTS))) {
        (Err(why), _) => Finding::of(scope, false, format!("it does not verify: {why}"), expected),
        (Ok(_), Err(why)) => {
            Finding::of(scope, false, format!("in 21 days it does not verify: {why}"), expected)
        }
        (Ok(_), Ok(_)) => Finding::of(scope, true, "it verifies now and in 21 days", expected),
    };
    Ok((answered, certificate.with_evidence(end_entity.as_ref())))
}

fn sources(probe: &Probe) -> Result<Vec<Finding>, Unable> {
    const DAY: i64 = 86_400;
    if probe.settings.sources.is_empty() {
        return Err(Unable::none("the settings name no source"));
    }
    let newest = probe.state()?.newest_deliveries()?;
    let days = i64::try_from(probe.settings.ready.silence_days).unwrap_or(i64::MAX);
    let expected = format!("something within {days} days");
    let now = probe.now();
    let each = probe.settings.sources.iter().map(|source| match newest.get(&source.name) {
        None => Finding::of(&source.name, false, "it never sent anything", &expected),
        Some(at_ns) => {
            let age = now.saturating_sub(at_ns / 1_000_000_000);
            let seen = format!("last on {}", custody::clock::rfc3339(*at_ns));
            Finding::of(&source.name, age <= days.saturating_mul(DAY), &seen, &expected).with_evidence(seen)
        }
    });
    Ok(each.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_apart_and_one_with_a_password_is_none() {
        assert_eq!(parts("https://ir.example.org/x"), Some(("https", "ir.example.org", 443)));
        assert_eq!(parts("http://[::1]:8700"), Some(("http", "::1", 8700)));
        assert_eq!(parts("http://127.0.0.1:8700/"), Some(("http", "127.0.0.1", 8700)));
        for wrong in ["ftp://x", "https://a:b@c", "https://", "x", "http://a:99999"] {
            assert_eq!(parts(wrong), None, "{wrong}");
        }
    }
}
