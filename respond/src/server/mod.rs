//! The door: HTTP in, durable before 202.
//!
//! ```text
//! connections -> admission (body, authenticate) -> writer (one commit for all that wait) -> state
//! ```
//!
//! Everything that a stranger can make grow has a bound: connections, heads, bodies, the memory of all bodies together, the
//! queue to the writer, series of metrics, lines of the log. Beyond it the answer is 503, and the sender tries again.

mod admission;
mod body;
mod connections;
mod health;
mod housekeeping;
pub mod log;
pub mod metrics;
mod tls;
mod writer;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::State as Shared;
use axum::http::{HeaderValue, Request, Response, StatusCode, header};
use axum::routing::get;
use custody::Clock;
use rustls_pki_types::CertificateDer;
use serde::Deserialize;
use serde_json::json;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{Semaphore, watch};

use self::connections::{Connections, Peer};
use self::health::Health;
use self::log::Log;
use self::metrics::Metrics;
pub use self::tls::TlsSettings;
use crate::authenticate::{self, Fetch, SigningCertificates, Source};
use crate::error::{Error, Result};
use crate::settings::Settings;
use crate::state::{DeliveryStatus, State};

/// Where it listens, unless told.
const LISTEN: &str = "127.0.0.1:8700";

/// Bytes of a body, packed or unpacked, unless told.
const BODY: usize = 2 << 20;

/// No body is ever larger.
const LARGEST_BODY: usize = 16 << 20;

/// Connections, unless told.
const CONNECTIONS: usize = 1024;

/// Memory of all bodies together.
const MEMORY: usize = 64 << 20;

/// MiB that must be free for the service to be well, unless told.
const LEAST_FREE_MIB: u64 = 512;

/// Open files that are not connections.
const OTHER_FILES: u64 = 256;

/// Threads that may wait for the network at once.
const WAITING_THREADS: usize = 16;

/// Where and how much is let in.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerSettings {
    /// Where alerts are taken: `127.0.0.1:8700` unless told.
    #[serde(default)]
    pub listen: Option<String>,
    /// Where `/healthz` and `/metrics` are given, without TLS. Else at `listen`, `/metrics` to this host only.
    #[serde(default)]
    pub operations: Option<String>,
    /// The certificate; else plain HTTP, for a proxy before it.
    #[serde(default)]
    pub tls: Option<TlsSettings>,
    /// That plain HTTP may be listened for at an address that other hosts reach: a proxy ends TLS.
    #[serde(default)]
    pub behind_proxy: bool,
    /// Bytes of a body, packed or unpacked: 2097152 unless told, at most 16777216.
    #[serde(default)]
    pub max_body: Option<usize>,
    /// Connections at once: 1024 unless told.
    #[serde(default)]
    pub max_connections: Option<usize>,
    /// MiB that must be free on the disks of state and cases: 512 unless told.
    #[serde(default)]
    pub min_free_mib: Option<u64>,
    /// A folder with certificates of SNS, for a service without a way out. See [`SigningCertificates::with_folder`].
    #[serde(default)]
    pub sns_certificates: Option<PathBuf>,
}

impl ServerSettings {
    /// Every path in it.
    pub(crate) fn paths(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let tls = self.tls.iter_mut();
        let tls =
            tls.flat_map(|tls| [Some(&mut tls.certificate), Some(&mut tls.key), tls.client_ca.as_mut()]);
        tls.flatten().chain(self.sns_certificates.as_mut())
    }
}

/// What the service is given from outside.
#[derive(Clone)]
pub struct Outfit {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What opens pinned addresses.
    pub fetch: Arc<dyn Fetch>,
    /// Roots that vouch for certificates of SNS, in place of those of Mozilla's programme.
    pub roots: Option<Vec<CertificateDer<'static>>>,
    /// Where lines go.
    pub log: Log,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// Sources and TLS, read and found good: what a reload replaces, all of it or nothing.
#[derive(Debug)]
pub struct Prepared {
    sources: Vec<Arc<Source>>,
    tls: Option<Arc<rustls::ServerConfig>>,
}

impl Prepared {
    /// Reads every secret and certificate that the settings in `file` name.
    ///
    /// # Errors
    ///
    /// [`Error::Settings`], never with a secret in it.
    pub fn load(file: &Path, settings: &Settings, outfit: &Outfit) -> Result<Self> {
        let wrong = |what: String| Error::Settings { path: file.to_owned(), what };
        let mut certificates = SigningCertificates::new(Arc::clone(&outfit.fetch));
        if let Some(roots) = &outfit.roots {
            certificates = certificates.with_roots(roots).map_err(wrong)?;
        }
        if let Some(folder) = &settings.server.sns_certificates {
            certificates = certificates.with_folder(folder).map_err(wrong)?;
        }
        let sources = authenticate::load(file, &settings.sources, &Arc::new(certificates))?;
        let tls = settings.server.tls.as_ref().map(TlsSettings::load).transpose().map_err(wrong)?;
        Ok(Self { sources: sources.into_iter().map(Arc::new).collect(), tls })
    }

    /// The sources.
    #[must_use]
    pub fn sources(&self) -> Vec<Arc<Source>> {
        self.sources.clone()
    }

    /// The names of the sources.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.sources.iter().map(|source| source.name.as_str())
    }
}

/// Bounds.
#[derive(Debug, Clone, Copy)]
struct Limits {
    body: usize,
}

/// What every request needs.
#[derive(Debug)]
struct Door {
    state: Arc<State>,
    clock: ClockOf,
    log: Log,
    metrics: Arc<Metrics>,
    health: Health,
    limits: Limits,
    memory: Arc<Semaphore>,
    prepared: RwLock<Arc<Prepared>>,
    writer: Mutex<Option<writer::Sender>>,
    is_stopping: AtomicBool,
}

/// A clock that can be in what is printed for debugging.
#[derive(Clone)]
struct ClockOf(Arc<dyn Clock>);

impl std::fmt::Debug for ClockOf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a clock")
    }
}

impl std::ops::Deref for ClockOf {
    type Target = dyn Clock;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl Door {
    fn prepared(&self) -> Arc<Prepared> {
        Arc::clone(&self.prepared.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn sources(&self) -> Vec<Arc<Source>> {
        self.prepared().sources.clone()
    }

    fn writer(&self) -> Option<writer::Sender> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Relaxed)
    }

    /// The highest severity of a body's alerts, or why it holds none.
    fn severity(&self, source: &Source, body: &[u8]) -> Result<u8, String> {
        source.severity(body)
    }
}

/// A server that lets alerts in.
#[derive(Debug)]
pub struct Server {
    door: Arc<Door>,
    runtime: tokio::runtime::Runtime,
    threads: Vec<JoinHandle<()>>,
    stop: watch::Sender<bool>,
    connections: Arc<Connections>,
    address: SocketAddr,
    operations: Option<SocketAddr>,
}

impl Server {
    /// Listens, and lets alerts in from now on.
    ///
    /// # Errors
    ///
    /// [`Error::Settings`] when limits are out of bounds or plain HTTP would be open to other hosts, [`Error::Listen`].
    pub fn start(
        file: &Path,
        settings: &Settings,
        prepared: Prepared,
        state: Arc<State>,
        outfit: &Outfit,
    ) -> Result<Self> {
        let server = &settings.server;
        let wrong = |what: String| Error::Settings { path: file.to_owned(), what };
        let body = server.max_body.unwrap_or(BODY);
        if body == 0 || body > LARGEST_BODY {
            return Err(wrong(format!("max_body is 1 to {LARGEST_BODY} bytes")));
        }
        let most = connections_allowed(server.max_connections.unwrap_or(CONNECTIONS)).map_err(wrong)?;
        let address = server.listen.as_deref().unwrap_or(LISTEN);
        let address = parse_address(address).map_err(wrong)?;
        if prepared.tls.is_none() && !address.ip().is_loopback() && !server.behind_proxy {
            return Err(wrong(format!(
                "plain HTTP at {address} would let others read secrets and alerts: name a certificate in [server.tls], or say \
                 behind_proxy = true where a proxy ends TLS"
            )));
        }
        let operations = server.operations.as_deref().map(parse_address).transpose().map_err(wrong)?;

        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(std::thread::available_parallelism().map_or(2, |cores| cores.get().clamp(2, 4)))
            .max_blocking_threads(WAITING_THREADS)
            .enable_all()
            .thread_name("door")
            .build()
            .map_err(|source| Error::Listen { address: address.to_string(), source })?;
        let bind = |address: SocketAddr| {
            let bound = runtime.block_on(async { listen(address) });
            bound.map_err(|source| Error::Listen { address: address.to_string(), source })
        };
        let listener = bind(address)?;
        let operations_listener = operations.map(bind).transpose()?;
        let local = |listener: &TcpListener| {
            listener.local_addr().map_err(|source| Error::Listen { address: address.to_string(), source })
        };
        let address = local(&listener)?;
        let operations = operations_listener.as_ref().map(local).transpose()?;

        let least_free = server.min_free_mib.unwrap_or(LEAST_FREE_MIB).saturating_mul(1 << 20);
        let health = Health::new(vec![settings.state.clone(), settings.cases.clone()], least_free);
        let (sender, thread) =
            writer::start(Arc::clone(&state), outfit.log.clone(), Arc::clone(&outfit.metrics))?;
        let connections = Connections::new(most, Arc::clone(&outfit.metrics));
        let door = Arc::new(Door {
            state,
            clock: ClockOf(Arc::clone(&outfit.clock)),
            log: outfit.log.clone(),
            metrics: Arc::clone(&outfit.metrics),
            health,
            limits: Limits { body },
            memory: Arc::new(Semaphore::new(body::units(MEMORY))),
            prepared: RwLock::new(Arc::new(prepared)),
            writer: Mutex::new(Some(sender)),
            is_stopping: AtomicBool::new(false),
        });
        measure(&door);
        let keeper = housekeeping::start(&door)
            .map_err(|source| Error::Read { path: "a thread for housekeeping".into(), source })?;

        let (stop, stopped) = watch::channel(false);
        let tls_door = Arc::clone(&door);
        let tls: connections::Tls = Arc::new(move || tls_door.prepared().tls.clone());
        let mut alerts = Router::new().route("/healthz", get(healthz));
        if operations.is_none() {
            alerts = alerts.route("/metrics", get(give_metrics_to_this_host));
        }
        let alerts = alerts.fallback(admission::receive).with_state(Arc::clone(&door));
        runtime.spawn(Arc::clone(&connections).accept(listener, tls, alerts, stopped.clone()));
        if let Some(listener) = operations_listener {
            let router = Router::new().route("/healthz", get(healthz)).route("/metrics", get(give_metrics));
            let router = router.with_state(Arc::clone(&door));
            let few = Connections::new(64, Arc::new(Metrics::new()));
            runtime.spawn(few.accept(listener, Arc::new(|| None), router, stopped));
        }
        Ok(Self { door, runtime, threads: vec![thread, keeper], stop, connections, address, operations })
    }

    /// Where alerts are taken.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where health and metrics are given, where that is another place.
    pub fn operations(&self) -> Option<SocketAddr> {
        self.operations
    }

    /// From now on these sources and this certificate. Requests under way end with what they began with.
    ///
    /// # Errors
    ///
    /// [`Error::Settings`] when TLS would begin or end, which a restart must do.
    pub fn put_in(&self, file: &Path, prepared: Prepared) -> Result<()> {
        let mut now = self.door.prepared.write().unwrap_or_else(PoisonError::into_inner);
        if now.tls.is_some() != prepared.tls.is_some() {
            let what = "TLS begins or ends with a restart only".to_owned();
            return Err(Error::Settings { path: file.to_owned(), what });
        }
        *now = Arc::new(prepared);
        Ok(())
    }

    /// Lets nobody in any more, answers who is in, makes all of it durable. Says whether that was done within `patience`.
    pub fn stop(self, patience: Duration) -> bool {
        let begun = Instant::now();
        self.door.is_stopping.store(true, Ordering::Relaxed);
        self.stop.send_replace(true);
        while self.connections.len() > 0 && begun.elapsed() < patience {
            std::thread::sleep(Duration::from_millis(10));
        }
        let all_answered = self.connections.len() == 0;
        self.door.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Handlers that are still at work are dropped here, and with them their ways to the writer.
        self.runtime
            .shutdown_timeout(patience.saturating_sub(begun.elapsed()).max(Duration::from_millis(100)));
        for thread in self.threads {
            // What was taken in is written whatever the deadline says; it is one commit.
            let _ = thread.join();
        }
        all_answered
    }
}

async fn healthz(Shared(door): Shared<Arc<Door>>) -> Response<Body> {
    let looked = tokio::task::spawn_blocking(move || door.health.faults(&door.state)).await;
    let faults = looked.unwrap_or_else(|_| vec!["it could not be looked".to_owned()]);
    let (status, word) =
        if faults.is_empty() { (StatusCode::OK, "ok") } else { (StatusCode::SERVICE_UNAVAILABLE, "failing") };
    let mut answer = Response::new(Body::from(json!({ "status": word, "why": faults }).to_string()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

async fn give_metrics(Shared(door): Shared<Arc<Door>>) -> Response<Body> {
    let metrics = Arc::clone(&door.metrics);
    let text = tokio::task::spawn_blocking(move || metrics.text()).await.unwrap_or_default();
    let mut answer = Response::new(Body::from(text));
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    answer
}

/// To others, and to whom a proxy asks for, it is a path like any that is not there.
async fn give_metrics_to_this_host(door: Shared<Arc<Door>>, request: Request<Body>) -> Response<Body> {
    let is_proxied =
        ["forwarded", "x-forwarded-for", "via"].iter().any(|name| request.headers().contains_key(*name));
    let peer = request.extensions().get::<Peer>().map(|peer| peer.address.ip().to_canonical());
    if is_proxied || !peer.is_some_and(|peer| peer.is_loopback()) {
        return admission::receive(door, request).await;
    }
    give_metrics(door).await
}

/// Sets what costs something to know before each scrape.
fn measure(door: &Arc<Door>) {
    let weak = Arc::downgrade(door);
    door.metrics.before_scrape(move |metrics| {
        let Some(door) = weak.upgrade() else { return };
        let now_ns = door.clock.now().wall_ns;
        if let Ok(counts) = door.state.count_deliveries() {
            let oldest = counts.oldest_new_ns.map_or(0, |then| now_ns.saturating_sub(then));
            metrics.set(metrics::OLDEST_SECONDS, &[], oldest as f64 / 1e9);
            for status in DeliveryStatus::ALL {
                let found = counts.by_status.iter().find(|(one, _)| *one == status);
                let count = found.map_or(0, |(_, count)| *count);
                metrics.set(metrics::DELIVERIES, &[("status", status.word())], count as f64);
            }
        }
        for (folder, free) in door.health.free() {
            metrics.set(metrics::DISK_FREE, &[("folder", &folder.to_string_lossy())], free as f64);
        }
    });
}

/// Listens with room for a flood: what waits to be accepted beyond it would have to try again after a second.
fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(4096)
}

fn parse_address(text: &str) -> std::result::Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("{text:?} is no address and port, such as 127.0.0.1:8700 or [::1]:8700"))
}

/// So many connections as were asked for, if the system lets us have the files. The soft limit is raised to the hard one.
fn connections_allowed(wanted: usize) -> std::result::Result<usize, String> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    if wanted == 0 {
        return Err("max_connections is 1 or more".to_owned());
    }
    let limit = getrlimit(Resource::Nofile);
    // Where it cannot be raised, the soft limit holds.
    let is_raised =
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).is_ok();
    let files = if is_raised { limit.maximum } else { limit.current };
    let files = usize::try_from(files.unwrap_or(u64::MAX).saturating_sub(OTHER_FILES)).unwrap_or(usize::MAX);
    Ok(wanted.min(files).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_others_reach_without_tls_must_say_so() {
        let folder = tempfile::tempdir().unwrap();
        let start = |server: &str| {
            let text = format!(
                "state = {0:?}\ncases = {0:?}\nexaminer = 'a'\nrules = 'r'\n[server]\n{server}",
                folder.path()
            );
            let settings: Settings = toml::from_str(&text).unwrap();
            let clock: Arc<dyn Clock> = Arc::new(custody::SystemClock);
            let outfit = Outfit {
                log: Log::silent(Arc::clone(&clock)),
                clock,
                fetch: Arc::new(authenticate::WebFetch::new()),
                roots: None,
                metrics: Arc::new(Metrics::new()),
            };
            let file = Path::new("serve.toml");
            let prepared = Prepared::load(file, &settings, &outfit).unwrap();
            let state = Arc::new(State::open(folder.path()).unwrap());
            Server::start(file, &settings, prepared, state, &outfit)
                .map(|server| server.stop(Duration::from_secs(5)))
        };
        let why = start("listen = '0.0.0.0:0'").unwrap_err().to_string();
        assert!(why.contains("behind_proxy"), "{why}");
        assert!(start("listen = '0.0.0.0:0'\nbehind_proxy = true").unwrap());
        assert!(start("listen = 'localhost'").unwrap_err().to_string().contains("no address and port"));
        assert!(start("listen = '127.0.0.1:0'\nmax_body = 0").unwrap_err().to_string().contains("max_body"));
    }
}
