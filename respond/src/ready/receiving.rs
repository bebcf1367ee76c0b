//! Whether alerts would come in: the door as others see it, and whether each source still sends.

use std::net::{TcpStream, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use acquire::careful_agent;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::{SecureRandom as _, SystemRandom};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme};
use serde_json::{Value, json};
use ureq::Agent;
use ureq::http::Response;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use super::check::{Check, Finding, Severity, Status, Unable, chain};
use super::probe::Probe;
use crate::authenticate::{Scheme, SourceSettings};
use crate::state::readiness::Newest;

pub(super) static CHECKS: &[Check] = &[
    Check {
        id: "RD30",
        version: 2,
        severity: Severity::Critical,
        title: "the service answers where alerts are sent to, over TLS that will last",
        scope: "address",
        tested: "GET /healthz at `ready.public_url` must say within 5 s that our service is well; its certificate must verify now \
                 and in 21 days, by Mozilla's roots or `ready.public_root`; then an alert that says that it is a sample and names no \
                 asset is sent, signed as `ready.test_source` signs, and must be answered 202 within 5 s and lie in the state; \
                 without that source a warning",
        remediation: "start the service, open the firewall or mend the proxy; renew the certificate; name a generic source in \
                      ready.test_source",
        prowler: &[],
        seconds: 30,
        drill: None,
        test: door,
    },
    Check {
        id: "RD31",
        version: 2,
        severity: Severity::High,
        title: "every source has sent something lately",
        scope: "source",
        tested: "in the state the newest alert of each source that could be read is younger than `ready.silence_days`, nothing \
                 unreadable came after it, and its subscription was not ended",
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

/// Bytes of an answer that are looked at.
const MOST_ANSWER: u64 = 64 << 10;

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
    let stream = match connect(host, port) {
        Ok(stream) => stream,
        // From here it cannot be told whether nothing listens or only we do not get there.
        Err(error) => {
            let seen = format!("{host}:{port} cannot be reached: {error}");
            return Ok(vec![Finding::new(url, Status::Error, seen, expected)]);
        }
    };
    let mut found = Vec::new();
    let mut trusted = RootCerts::WebPki;
    if scheme == "https" {
        let (roots, own) = roots(probe.settings.ready.public_root.as_deref())?;
        if let Some(own) = own {
            let own: Vec<Certificate<'static>> =
                own.iter().map(|one| Certificate::from_der(one).to_owned()).collect();
            trusted = RootCerts::new_with_certs(&own);
        }
        found.push(certificate(probe, stream, host, roots)?);
    } else {
        let is_local = stream.peer_addr().is_ok_and(|peer| peer.ip().is_loopback());
        let seen = if is_local {
            "http on loopback: whoever ends TLS before it was not tested"
        } else {
            "http without TLS: whoever is on the way reads alerts and secrets"
        };
        let status = if is_local { Status::Warn } else { Status::Fail };
        found.push(Finding::new(format!("{url}/tls"), status, seen, expected));
    }
    let agent = careful_agent(PATIENCE, PATIENCE)
        .tls_config(TlsConfig::builder().root_certs(trusted).build())
        .build()
        .new_agent();
    let place = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let base = format!("{scheme}://{place}:{port}");
    let begun = Instant::now();
    let answered = agent.get(format!("{base}/healthz")).call();
    found.push(match answered.map_err(|error| told(&error)).and_then(read) {
        Ok((status, body)) => {
            let took = begun.elapsed();
            let is_ours = is_well(&body);
            let what = if is_ours {
                "the service says that it is well"
            } else {
                "not what a service that is well says"
            };
            let seen = format!("{status} after {} ms: {what}", took.as_millis());
            Finding::of(url, status == 200 && is_ours && took < PATIENCE, seen, expected).with_evidence(body)
        }
        Err(why) => Finding::of(url, false, format!("no answer: {why}"), expected),
    });
    found.push(test_alert(probe, &agent, url, &base));
    Ok(found)
}

/// Whether this is what our service says when it is well: any server answers 200 to something.
fn is_well(body: &[u8]) -> bool {
    let said: Value = serde_json::from_slice(body).unwrap_or_default();
    said.get("status").and_then(Value::as_str) == Some("ok") && said.get("why").is_some_and(Value::is_array)
}

/// Why there was no answer; never the address, which may hold a token.
fn told(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Timeout(_) => "not in time".to_owned(),
        ureq::Error::Io(error) => error.to_string(),
        ureq::Error::Tls(_) | ureq::Error::Rustls(_) => "TLS failed".to_owned(),
        _ => "the exchange failed".to_owned(),
    }
}

/// The status and the beginning of an answer.
fn read(mut answer: Response<ureq::Body>) -> Result<(u16, Vec<u8>), String> {
    use std::io::Read as _;
    let mut body = Vec::new();
    let read = answer.body_mut().as_reader().take(MOST_ANSWER).read_to_end(&mut body);
    read.map_err(|error| format!("the answer broke off: {error}"))?;
    Ok((answer.status().as_u16(), body))
}

/// Sends an alert that says that it is a sample by the way that true ones take, and looks for it in the state.
fn test_alert(probe: &Probe, agent: &Agent, url: &str, base: &str) -> Finding {
    let scope = format!("{url}/alert");
    let expected = "a signed test alert is taken within 5 s, and lies in the state";
    let Some(name) = &probe.settings.ready.test_source else {
        let seen = "no test alert was sent: the settings name no source for it (ready.test_source)";
        return Finding::new(scope, Status::Warn, seen, expected);
    };
    let unable = |why: String| Finding::new(&scope, Status::Error, why, expected);
    let Some(source) = probe.settings.sources.iter().find(|source| source.name == *name) else {
        return unable(format!("there is no [[source]] of the name {name:?} (ready.test_source)"));
    };
    let (state, sample) = match (probe.state(), Sample::of(source, probe.clock.now().wall_ns)) {
        (Ok(state), Ok(sample)) => (state, sample),
        (Err(Unable::NotApplicable(why) | Unable::CouldNotTest(why)), _) => {
            return unable(format!("the state cannot be looked at: {why}"));
        }
        (_, Err(why)) => return unable(why),
    };
    let mut request = agent
        .post(format!("{base}/alerts/{name}{}", sample.token))
        .header("Content-Type", "application/json");
    for (header, value) in &sample.headers {
        request = request.header(header, value);
    }
    let begun = Instant::now();
    let answered = request.send(sample.body.as_bytes()).map_err(|error| told(&error)).and_then(read);
    let took = begun.elapsed();
    let (status, body) = match answered {
        Ok(answered) => answered,
        Err(why) => {
            return Finding::of(scope, false, format!("the test alert got no answer: {why}"), expected);
        }
    };
    let seen = format!("{status} after {} ms", took.as_millis());
    if status != 202 {
        return Finding::of(scope, false, format!("the test alert was not taken: {seen}"), expected)
            .with_evidence(body);
    }
    // The service's clock may be a little behind ours.
    let since_ns = sample.made_ns.saturating_sub(86_400_000_000_000);
    match state.has_delivery(name, custody::sha256(sample.body.as_bytes()).as_bytes(), since_ns) {
        Ok(true) => {
            let seen = format!("{seen}: {} was taken and lies in the state", sample.id);
            Finding::of(scope, took < PATIENCE, seen, expected).with_evidence(sample.body)
        }
        Ok(false) => {
            let seen =
                format!("{seen}, but {} is not in the state: another service answers there", sample.id);
            Finding::of(scope, false, seen, expected).with_evidence(sample.body)
        }
        Err(error) => unable(chain(&error)),
    }
}

/// An alert that says that it is a sample, as a source would send it.
struct Sample {
    id: String,
    made_ns: i64,
    body: String,
    /// `/TOKEN`, where the path has one.
    token: String,
    headers: Vec<(String, String)>,
}

impl Sample {
    /// Made and signed by the secrets of a source, else why it cannot be, never with a secret in it.
    fn of(source: &SourceSettings, now_ns: i64) -> Result<Self, String> {
        if source.kind != "generic" || source.mapping.is_some() {
            return Err(format!(
                "source {:?} is of the kind {:?}: a test alert can be made for `generic` without a mapping only",
                source.name, source.kind
            ));
        }
        let mut random = [0; 16];
        SystemRandom::new().fill(&mut random).map_err(|_| "there are no random numbers".to_owned())?;
        let id = format!("exhibit-ready-{}", hex::encode(random));
        // It names no asset, so that no rule can act on one, whatever the rules make of samples.
        let body = json!({
            "id": id, "is_sample": true, "severity": 0, "title": "test of exhibit ready: nothing happened",
            "type": "exhibit.ready.test", "last_seen": custody::clock::rfc3339(now_ns),
        });
        let mut sample =
            Self { id, made_ns: now_ns, body: body.to_string(), token: String::new(), headers: Vec::new() };
        for scheme in &source.authenticate {
            sample.sign(scheme)?;
        }
        Ok(sample)
    }

    fn sign(&mut self, scheme: &Scheme) -> Result<(), String> {
        let text = |files: &[PathBuf]| {
            String::from_utf8(secret(files)?).map_err(|_| "the secret of the source is no text".to_owned())
        };
        let mut put = |name: &str, value: String| self.headers.push((name.to_owned(), value));
        match scheme {
            Scheme::Bearer(settings) => {
                put("Authorization", format!("Bearer {}", text(&settings.secret_files)?));
            }
            Scheme::Header(settings) => put(&settings.header, text(&settings.secret_files)?),
            Scheme::PathToken(settings) => self.token = format!("/{}", text(&settings.secret_files)?),
            Scheme::Basic(settings) => {
                let pair = format!("{}:{}", settings.user, text(&settings.secret_files)?);
                put("Authorization", format!("Basic {}", STANDARD.encode(pair)));
            }
            Scheme::Hmac(settings) => {
                let seconds = (self.made_ns / 1_000_000_000).to_string();
                let signed = settings.signed.replace("{ts}", &seconds).replace("{id}", &self.id);
                // Last, for the body may hold braces.
                let signed = signed.replace("{body}", &self.body);
                let tag = settings.tag(&secret(&settings.secret_files)?, signed.as_bytes());
                put(&settings.header, format!("{}{tag}", settings.prefix));
                if let Some(header) = &settings.ts_header {
                    put(header, seconds);
                }
                if let Some(header) = &settings.id_header {
                    self.headers.push((header.clone(), self.id.clone()));
                }
            }
            // Where we come from needs no proof of ours.
            Scheme::Address(_) => {}
            Scheme::Sns(_)
            | Scheme::Crowdstrike(_)
            | Scheme::StandardWebhooks(_)
            | Scheme::ClientCertificate(_)
            | Scheme::Graph(_) => {
                return Err(
                    "a test alert can be signed with bearer, header, path_token, basic and hmac only: \
                            name another source in ready.test_source"
                        .to_owned(),
                );
            }
        }
        Ok(())
    }
}

/// The first secret of some files, as the service reads it.
fn secret(files: &[PathBuf]) -> Result<Vec<u8>, String> {
    use std::io::Read as _;
    let file = files.first().ok_or("the source names no file with a secret")?;
    let mut bytes = Vec::new();
    let read = std::fs::File::open(file).and_then(|open| open.take(4096).read_to_end(&mut bytes));
    read.map_err(|error| format!("the secret in {file:?} cannot be read: {}", error.kind()))?;
    while matches!(bytes.last(), Some(b'\n' | b'\r')) {
        bytes.pop();
    }
    if bytes.is_empty() { Err(format!("{file:?} holds no secret")) } else { Ok(bytes) }
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

type Roots = (RootCertStore, Option<Vec<CertificateDer<'static>>>);

/// Roots that a certificate may lead to, and those of them that are not Mozilla's.
fn roots(own: Option<&Path>) -> Result<Roots, Unable> {
    let mut roots = RootCertStore::empty();
    let Some(path) = own else {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        return Ok((roots, None));
    };
    let wrong = |why: String| Unable::untested(format!("{}: {why}", path.display()));
    let pem = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let mut own = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        roots.add(certificate.clone())?;
        own.push(certificate);
    }
    Ok((roots, Some(own)))
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

/// Begins TLS as a client does, and says what is to be said of the certificate.
fn certificate(
    probe: &Probe,
    mut stream: TcpStream,
    host: &str,
    roots: RootCertStore,
) -> Result<Finding, Unable> {
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
    let mut connection = ClientConnection::new(Arc::new(config), name.clone())?;
    let begun = Instant::now();
    let mut shaken = Ok(());
    while connection.is_handshaking() && shaken.is_ok() {
        shaken = match connection.complete_io(&mut stream) {
            Ok(_) if begun.elapsed() > PATIENCE => Err("not in time".to_owned()),
            Ok((0, 0)) => Err("it ended".to_owned()),
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        };
    }
    connection.send_close_notify();
    // Whether it hears that we end here changes nothing.
    let _ = connection.write_tls(&mut stream);
    let chain = keeping.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let (scope, expected) = (format!("{host}/tls"), "the certificate verifies now and in 21 days");
    let Some((end_entity, intermediates)) = chain.split_first() else {
        let seen = format!("no certificate came: {}", shaken.err().unwrap_or_default());
        return Ok(Finding::new(scope, Status::Error, seen, expected));
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
    Ok(certificate.with_evidence(end_entity.as_ref()))
}

fn sources(probe: &Probe) -> Result<Vec<Finding>, Unable> {
    if probe.settings.sources.is_empty() {
        return Err(Unable::none("the settings name no source"));
    }
    let newest = probe.state()?.newest_deliveries()?;
    let days = i64::try_from(probe.settings.ready.silence_days).unwrap_or(i64::MAX);
    let expected = format!("an alert that could be read within {days} days");
    let nothing = Newest::default();
    let each = probe.settings.sources.iter().map(|source| {
        let newest = newest.get(&source.name).unwrap_or(&nothing);
        let (status, seen) = heard(newest, probe.now(), days);
        Finding::new(&source.name, status, &seen, &expected).with_evidence(seen)
    });
    Ok(each.collect())
}

/// What is to be said of what a source delivered last.
fn heard(newest: &Newest, now: i64, days: i64) -> (Status, String) {
    const DAY: i64 = 86_400;
    let at = custody::clock::rfc3339;
    let unread = newest.unread_ns.filter(|at_ns| newest.alert_ns.is_none_or(|alert_ns| *at_ns >= alert_ns));
    let left = newest.control.as_ref().filter(|(_, body)| is_unsubscription(body)).map(|(at_ns, _)| *at_ns);
    let is_heard_since = |left_ns: i64| newest.alert_ns.is_some_and(|alert_ns| alert_ns > left_ns);
    match (newest.alert_ns, unread, left) {
        (_, _, Some(left_ns)) if !is_heard_since(left_ns) => {
            (Status::Fail, format!("its subscription was ended on {}, and nothing came since", at(left_ns)))
        }
        (_, Some(unread_ns), _) => {
            (Status::Fail, format!("what it sent last, on {}, could not be read as an alert", at(unread_ns)))
        }
        (None, None, _) if newest.control.is_some() => {
            (Status::Fail, "it never sent an alert, only messages about its subscription".to_owned())
        }
        (None, None, _) => (Status::Fail, "it never sent anything".to_owned()),
        (Some(alert_ns), None, left) => {
            let is_silent = now.saturating_sub(alert_ns / 1_000_000_000) > days.saturating_mul(DAY);
            let seen = format!("last on {}", at(alert_ns));
            match (is_silent, left) {
                (true, _) => (Status::Fail, seen),
                (false, Some(left_ns)) => {
                    (Status::Warn, format!("{seen}; a subscription of it was ended on {}", at(left_ns)))
                }
                (false, None) => (Status::Pass, seen),
            }
        }
    }
}

/// Whether a message of SNS says that a subscription has ended.
fn is_unsubscription(body: &[u8]) -> bool {
    let said: Value = serde_json::from_slice(body).unwrap_or_default();
    said.get("Type").and_then(Value::as_str) == Some("UnsubscribeConfirmation")
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

    #[test]
    fn only_an_alert_that_could_be_read_is_a_sign_of_life() {
        const DAY_NS: i64 = 86_400_000_000_000;
        let control =
            |kind: &str, at_ns: i64| Some((at_ns, format!("{{\"Type\": \"{kind}\"}}").into_bytes()));
        let (left, begun) = ("UnsubscribeConfirmation", "SubscriptionConfirmation");
        let told = |alert_ns: Option<i64>, unread_ns: Option<i64>, control| {
            heard(&Newest { alert_ns, unread_ns, control }, 10 * 86_400, 7)
        };
        assert_eq!(told(Some(9 * DAY_NS), None, control(begun, DAY_NS)).0, Status::Pass);
        assert_eq!(told(Some(9 * DAY_NS), Some(8 * DAY_NS), None).0, Status::Pass);
        assert_eq!(told(Some(2 * DAY_NS), None, None).0, Status::Fail);
        assert_eq!(told(None, None, None).0, Status::Fail);
        // It says only that it leaves, or sends what nobody can read.
        let gone = told(Some(8 * DAY_NS), None, control(left, 9 * DAY_NS));
        assert!(gone.0 == Status::Fail && gone.1.contains("was ended"), "{gone:?}");
        assert_eq!(told(Some(9 * DAY_NS), None, control(left, 8 * DAY_NS)).0, Status::Warn);
        assert_eq!(told(None, None, control(begun, 9 * DAY_NS)).0, Status::Fail);
        assert_eq!(told(Some(8 * DAY_NS), Some(9 * DAY_NS), None).0, Status::Fail);
        assert_eq!(told(None, Some(9 * DAY_NS), None).0, Status::Fail);
    }

    #[test]
    fn any_server_answers_200_and_only_ours_says_that_it_is_well() {
        assert!(is_well(br#"{"status":"ok","why":[]}"#));
        for other in [
            "ok",
            "",
            "<html>Welcome to nginx!</html>",
            "{}",
            r#"{"status":"ok"}"#,
            r#"{"status":"failing","why":[]}"#,
        ] {
            assert!(!is_well(other.as_bytes()), "{other}");
        }
    }
}
