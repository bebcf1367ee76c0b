//! A server in this process, with a clock and a network that the test holds.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use custody::{Clock, Moment};
use respond::authenticate::Fetch;
use respond::authenticate::fetch::NotGot;
use respond::server::log::Log;
use respond::server::metrics::Metrics;
use respond::server::{Outfit, Prepared, Server};
use respond::settings::Settings;
use respond::state::State;
use rustls_pki_types::CertificateDer;

use crate::http_client::{Answer, Client};

pub(crate) const SECRET: &str = "a secret that only the sender has";

/// A clock that stands still until it is moved.
#[derive(Debug)]
pub(crate) struct HandClock(AtomicI64);

impl HandClock {
    pub(crate) fn at(time: &str) -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(custody::clock::parse_rfc3339(time).unwrap())))
    }

    pub(crate) fn set(&self, time: &str) {
        self.0.store(custody::clock::parse_rfc3339(time).unwrap(), Ordering::Relaxed);
    }
}

impl Clock for HandClock {
    fn now(&self) -> Moment {
        let wall_ns = self.0.load(Ordering::Relaxed);
        let mono_ns = u64::try_from(wall_ns).unwrap();
        Moment { wall_ns, tz_min: 0, mono_ns, boot: None, sync: None }
    }
}

/// A network that holds a few addresses, and remembers what was asked of it.
#[derive(Debug, Default)]
pub(crate) struct Web {
    pages: Mutex<BTreeMap<String, Result<Vec<u8>, NotGot>>>,
    asked: Mutex<Vec<String>>,
}

impl Web {
    pub(crate) fn put(&self, url: &str, page: Result<Vec<u8>, NotGot>) {
        self.pages.lock().unwrap().insert(url.to_owned(), page);
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Fetch for Web {
    fn get(&self, url: &str, most: u64) -> Result<Vec<u8>, NotGot> {
        self.asked.lock().unwrap().push(url.to_owned());
        let page = self.pages.lock().unwrap().get(url).cloned();
        let page = page.unwrap_or_else(|| Err(NotGot::Refused("the answer was 404".to_owned())))?;
        assert!(page.len() as u64 <= most);
        Ok(page)
    }
}

/// A running server.
pub(crate) struct TestDoor {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) server: Option<Server>,
    pub(crate) state: Arc<State>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) clock: Arc<HandClock>,
    pub(crate) web: Arc<Web>,
    pub(crate) lines: Arc<Mutex<Vec<String>>>,
    pub(crate) outfit: Outfit,
}

pub(crate) const NOW: &str = "2026-11-21T12:00:00Z";

/// A source `bearer` that knows [`SECRET`].
pub(crate) const BEARER: &str = "[[source]]\nname = 'bearer'\nkind = 'falco'\n[[source.authenticate]]\nscheme = 'bearer'\nsecret_files = ['secret']\n";

impl TestDoor {
    /// With these sources, and these lines of `[server]`.
    pub(crate) fn open(sources: &str, server: &str) -> Self {
        Self::open_under(sources, server, None)
    }

    pub(crate) fn open_under(
        sources: &str,
        server: &str,
        roots: Option<Vec<CertificateDer<'static>>>,
    ) -> Self {
        Self::open_in(tempfile::tempdir().unwrap(), sources, server, roots)
    }

    pub(crate) fn open_in(
        folder: tempfile::TempDir,
        sources: &str,
        server: &str,
        roots: Option<Vec<CertificateDer<'static>>>,
    ) -> Self {
        std::fs::write(folder.path().join("secret"), SECRET).unwrap();
        std::fs::create_dir_all(folder.path().join("cases")).unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&lines);
        let (clock, web) = (HandClock::at(NOW), Arc::new(Web::default()));
        let log_clock: Arc<dyn Clock> = Arc::clone(&clock) as _;
        let metrics = Arc::new(Metrics::new());
        let outfit = Outfit {
            clock: Arc::clone(&clock) as _,
            fetch: Arc::clone(&web) as _,
            roots,
            log: Log::new(log_clock, move |line| kept.lock().unwrap().push(line.to_owned())),
            metrics: Arc::clone(&metrics),
        };
        let file = write_settings(folder.path(), sources, server);
        let settings = Settings::load(&file).unwrap();
        let prepared = Prepared::load(&file, &settings, &outfit).unwrap();
        let state = Arc::new(State::open(&settings.state).unwrap());
        let server = Server::start(&file, &settings, prepared, Arc::clone(&state), &outfit).unwrap();
        Self { folder, server: Some(server), state, metrics, clock, web, lines, outfit }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.server.as_ref().unwrap().address()
    }

    pub(crate) fn post(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        Client::connect(self.address()).unwrap().post(path, headers, body).unwrap()
    }

    pub(crate) fn refused(&self, reason: &str) -> f64 {
        self.metrics.value("exhibit_requests_refused_total", &[("reason", reason)])
    }

    pub(crate) fn stop(&mut self) -> bool {
        self.server.take().unwrap().stop(Duration::from_secs(20))
    }
}

/// Writes `serve.toml` into a folder.
pub(crate) fn write_settings(folder: &Path, sources: &str, server: &str) -> PathBuf {
    let file = folder.join("serve.toml");
    let least = if server.contains("min_free_mib") { "" } else { "min_free_mib = 1" };
    let text = format!(
        "state = 'state'\ncases = 'cases'\nexaminer = 'J. Doe'\nrules = 'rules.toml'\n\
         [server]\nlisten = '127.0.0.1:0'\n{least}\n{server}\n{sources}"
    );
    std::fs::write(&file, text).unwrap();
    file
}
