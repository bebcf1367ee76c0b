//! `exhibit serve`: takes alerts in, and captures what they are about.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use respond::authenticate::WebFetch;
use respond::jobs::{Acting, Deliveries, LogAndCount, Runner, Teller};
use respond::rules::Current;
use respond::server::log::{Level, Log};
use respond::server::metrics::{self, Metrics};
use respond::server::{Outfit, Prepared, Server};
use respond::settings::Settings;
use respond::state::{State, StateLock, backup};
use serde_json::json;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use crate::failure::{Failure, Outcome, chain};
use crate::identity;
use crate::session::Session;
use crate::signing_key::KeyPlace;
use crate::ui;

/// Between two looks at what signals asked for.
const LOOK: Duration = Duration::from_millis(50);

/// Take alerts over HTTP, decide by rules, capture and isolate, unattended
///
/// Each source of the file is an address `/alerts/NAME` with its own way to prove who sends. An alert is on the disk
/// before its sender is told 202. Log lines are JSON on stderr. SIGTERM and SIGINT end the service within --stop-within;
/// SIGHUP reads sources, secrets, certificates and rules again, and keeps the old ones if anything in the new is wrong.
///
/// Example: exhibit serve --config /etc/exhibit/serve.toml
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The settings
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Read everything that the settings name, say what is wrong, and end
    #[arg(long)]
    check: bool,
    /// Copy the state to a new file, whether or not a service is using it, and end
    #[arg(long, value_name = "FILE", conflicts_with = "check")]
    backup_to: Option<PathBuf>,
    /// Seconds that requests and steps under way may take when the service is told to stop
    #[arg(long, value_name = "N", default_value_t = 25, value_parser = clap::value_parser!(u64).range(1..=3600))]
    stop_within: u64,
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Failure> {
    let settings = Settings::load(&args.config)?;
    if let Some(to) = &args.backup_to {
        return back_up(&settings, to, session);
    }
    let outfit = outfit();
    let prepared = Prepared::load(&args.config, &settings, &outfit)?;
    let rules = Current::load(&settings, Arc::clone(&outfit.clock))?;
    if args.check {
        return said_good(&prepared, &rules, session);
    }
    serve(args, &settings, prepared, rules, &outfit, session)
}

/// What the service is given: this host's clock, the network, stderr.
pub(crate) fn outfit() -> Outfit {
    let clock: Arc<dyn custody::Clock> = Arc::new(custody::SystemClock);
    let log = Log::new(Arc::clone(&clock), |line| {
        // There is nobody left to tell if stderr is gone.
        let _ = writeln!(std::io::stderr().lock(), "{line}");
    });
    Outfit { clock, fetch: Arc::new(WebFetch::new()), roots: None, log, metrics: Arc::new(Metrics::new()) }
}

fn serve(
    args: &Args,
    settings: &Settings,
    prepared: Prepared,
    rules: Current,
    outfit: &Outfit,
    session: &Session,
) -> Result<Outcome, Failure> {
    let signals = Signals::catch()?;
    let _lock = StateLock::take(&settings.state)?;
    std::fs::create_dir_all(&settings.cases)
        .map_err(|error| Failure::new(format!("{} cannot be made: {error}", settings.cases.display())))?;
    let state = Arc::new(State::open(&settings.state)?);
    let rules = Arc::new(rules);
    let deliveries = Arc::new(Deliveries::new(Arc::clone(&state), prepared.sources()));
    let (log, metrics, clock) = (outfit.log.clone(), Arc::clone(&outfit.metrics), Arc::clone(&outfit.clock));
    let teller = Arc::new(LogAndCount::new(log, metrics, &state, Arc::clone(&clock)));
    let acting = acting(settings, clock, teller, session)?;
    // The door first: what comes is durable before anybody works on it, and a port that is taken costs no job a try.
    let server = Server::start(&args.config, settings, prepared, Arc::clone(&state), outfit)?;
    let runner =
        Runner::start(settings.clone(), Arc::clone(&state), deliveries.clone(), rules.clone(), acting)?;
    let operations = server.operations().map(|address| address.to_string());
    let sources: Vec<&str> = settings.sources.iter().map(|source| source.name.as_str()).collect();
    outfit.log.write(
        Level::Info,
        "listening",
        &[
            ("address", json!(server.address().to_string())),
            ("operations", json!(operations)),
            ("sources", json!(sources)),
            ("version", json!(env!("CARGO_PKG_VERSION"))),
        ],
    );
    if session.ui.is_json() {
        let (address, operations) = (server.address().to_string(), operations);
        session.ui.document(&json!({ "listening": address, "operations": operations }))?;
    }
    while !signals.stop.load(Ordering::Relaxed) {
        if signals.reload.swap(false, Ordering::Relaxed) {
            reload(&args.config, &server, &rules, &deliveries, outfit);
        }
        std::thread::sleep(LOOK);
    }
    outfit.log.write(Level::Info, "stopping", &[]);
    let until = Instant::now() + Duration::from_secs(args.stop_within);
    // Both at once: one slow sender must not take the time that steps need to end.
    let steps = std::thread::spawn(move || runner.stop());
    let all_answered = server.stop(until.saturating_duration_since(Instant::now()));
    while !steps.is_finished() && Instant::now() < until {
        std::thread::sleep(LOOK);
    }
    // What has not ended by now is ended with this program, and gone on with at the next start.
    let steps_ended = steps.is_finished();
    let told = [("all_answered", json!(all_answered)), ("steps_ended", json!(steps_ended))];
    outfit.log.write(Level::Info, "stopped", &told);
    Ok(if all_answered && steps_ended { Outcome::Done } else { Outcome::WithIssues })
}

/// By whose hand jobs are done: the settings' examiner, with the key that they name or else the one of every command.
pub(crate) fn acting(
    settings: &Settings,
    clock: Arc<dyn custody::Clock>,
    teller: Arc<dyn Teller>,
    session: &Session,
) -> Result<Acting, Failure> {
    let key = match &settings.capture.key {
        Some(path) => KeyPlace::File(path.clone()).open()?,
        // As `init` does: a first start needs nothing else.
        None => session.key_or_new()?.0,
    };
    let mut identity = identity::of_this_run(&settings.examiner, Some(&settings.organisation));
    "automatic response".clone_into(&mut identity.actor.role);
    let program = std::env::current_exe()
        .map_err(|error| Failure::new(format!("the file of this program cannot be found: {error}")))?;
    Ok(Acting { program, key: Arc::from(key), clock, identity, teller })
}

/// Reads everything anew, and puts it in only if all of it is good.
fn reload(file: &Path, server: &Server, rules: &Current, deliveries: &Deliveries, outfit: &Outfit) {
    let read = || -> respond::Result<usize> {
        let settings = Settings::load(file)?;
        let prepared = Prepared::load(file, &settings, outfit)?;
        let sources = prepared.sources();
        let decider = Current::load(&settings, Arc::clone(&outfit.clock))?.get();
        // The last that can fail: nothing was replaced before it.
        server.put_in(file, prepared)?;
        deliveries.put_in(sources);
        rules.put_in(decider);
        Ok(settings.sources.len())
    };
    let result = read();
    let word = if result.is_ok() { "done" } else { "failed" };
    outfit.metrics.count(metrics::RELOADS, &[("result", word)]);
    outfit.metrics.set(metrics::RELOAD_FAILED, &[], f64::from(u8::from(result.is_err())));
    match result {
        Ok(sources) => outfit.log.write(Level::Info, "reloaded", &[("sources", json!(sources))]),
        Err(error) => {
            outfit.log.write(Level::Alarm, "reload_failed", &[("why", json!(chain(&error)))]);
        }
    }
}

/// Flags that signals set.
struct Signals {
    stop: Arc<AtomicBool>,
    reload: Arc<AtomicBool>,
}

impl Signals {
    fn catch() -> Result<Self, Failure> {
        let (stop, reload) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        for signal in [SIGTERM, SIGINT] {
            // In this order: a second one finds the flag set and ends the program at once.
            flag::register_conditional_default(signal, Arc::clone(&stop))?;
            flag::register(signal, Arc::clone(&stop))?;
        }
        flag::register(SIGHUP, Arc::clone(&reload))?;
        Ok(Self { stop, reload })
    }
}

fn back_up(settings: &Settings, to: &Path, session: &Session) -> Result<Outcome, Failure> {
    let made = backup(&settings.state, to)?;
    if session.ui.is_json() {
        let document =
            json!({ "backup": to.display().to_string(), "bytes": made.bytes, "deliveries": made.deliveries });
        session.ui.document(&document)?;
    } else {
        let count = ui::count(u64::try_from(made.deliveries).unwrap_or_default(), "delivery", "deliveries");
        session.ui.say(&format!("{count}, {}: {}", ui::bytes(made.bytes), to.display()));
    }
    Ok(Outcome::Done)
}

fn said_good(prepared: &Prepared, rules: &Current, session: &Session) -> Result<Outcome, Failure> {
    let names: Vec<&str> = prepared.names().collect();
    let decider = rules.get();
    let (rules, assets) = (decider.rules().rules().len(), decider.inventory().len());
    if session.ui.is_json() {
        session.ui.document(&json!({ "sources": names, "rules": rules, "assets": assets }))?;
    } else {
        let count = |n, one, many| ui::count(u64::try_from(n).unwrap_or(u64::MAX), one, many);
        let (rules, assets) = (count(rules, "rule", "rules"), count(assets, "asset", "assets"));
        session.ui.say(&format!("all good: {rules}, {assets}, sources {}", names.join(", ")));
    }
    Ok(Outcome::Done)
}
