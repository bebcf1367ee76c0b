//! The service's threads: one that decides, some that work, one that keeps times.

use std::collections::BTreeSet;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;

use super::acting::Acting;
use super::decider::{Intake, decide_next};
use super::governing::Govern;
use super::{keeper, reconcile, worker};
use crate::error::{Error, Result};
use crate::settings::Settings;
use crate::state::State;
use crate::state::jobs::{self, JobState};
use crate::steps::child::children_lock;

/// Between two looks, when nothing rings.
const LOOK: Duration = Duration::from_millis(500);
/// After a failure of the state, which may pass.
const PAUSE: Duration = Duration::from_secs(1);
/// How long the children of a service that was killed may take to be gone.
const CHILDREN: Duration = Duration::from_secs(30);

/// All that its threads share.
pub(super) struct Service {
    pub(super) settings: Settings,
    pub(super) state: Arc<State>,
    pub(super) intake: Arc<dyn Intake>,
    pub(super) acting: Acting,
    pub(super) bell: Bell,
    /// Held while limits are looked at and what they allow is begun, so that two workers do not both take the last place.
    pub(super) last_place: Mutex<()>,
    /// The jobs that a worker has.
    pub(super) at_work: Mutex<BTreeSet<i64>>,
    /// Held while entries of a job are written into its log, so that none is written twice; by the job's number.
    pub(super) writing: [Mutex<()>; 16],
    /// Jobs whose log could not be written, and when that is tried again.
    pub(super) logs_later: Mutex<keeper::Later>,
    rules: RwLock<Arc<dyn Govern>>,
    stop: AtomicBool,
}

impl Service {
    /// What is in force now.
    pub(super) fn rules(&self) -> Arc<dyn Govern> {
        Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Wakes threads that have nothing to do.
#[derive(Default)]
pub(super) struct Bell {
    rung: Mutex<u64>,
    changed: Condvar,
}

impl Bell {
    pub(super) fn ring(&self) {
        let mut rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        *rung = rung.wrapping_add(1);
        self.changed.notify_all();
    }

    fn count(&self) -> u64 {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until it was rung since `seen`.
    fn wait(&self, seen: u64, at_most: Duration) {
        let rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(rung, at_most, |rung| *rung == seen);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}

/// How much there is to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// Jobs by state.
    pub jobs: Vec<(JobState, u64)>,
    /// When the oldest job was made that waits for a worker, in nanoseconds since 1970.
    pub oldest_queued: Option<i64>,
}

impl Standing {
    /// As the state has it.
    ///
    /// # Errors
    ///
    /// [`Error::State`].
    pub fn of(state: &State) -> Result<Self> {
        state.with(|connection| {
            Ok(Self { jobs: jobs::counts(connection)?, oldest_queued: jobs::oldest_queued(connection)? })
        })
    }
}

/// The running service of jobs.
pub struct Runner {
    service: Arc<Service>,
    threads: Vec<JoinHandle<()>>,
}

impl std::fmt::Debug for Runner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runner").field("threads", &self.threads.len()).finish_non_exhaustive()
    }
}

impl Runner {
    /// Sets right what a killed service left, and begins to decide and work. The caller has the state for itself, by a
    /// [`crate::state::StateLock`].
    ///
    /// # Errors
    ///
    /// [`Error::InUse`] when children of a killed service do not end; [`Error::State`];
    /// [`Error::Read`] when folders cannot be made.
    pub fn start(
        mut settings: Settings,
        state: Arc<State>,
        intake: Arc<dyn Intake>,
        rules: Arc<dyn Govern>,
        acting: Acting,
    ) -> Result<Self> {
        for folder in [&mut settings.cases, &mut settings.state] {
            let whole = std::fs::create_dir_all(&*folder).and_then(|()| folder.canonicalize());
            *folder = whole.map_err(|source| Error::Read { path: folder.clone(), source })?;
        }
        wait_for_children(&settings)?;
        let service = Arc::new(Service {
            settings,
            state,
            intake,
            acting,
            bell: Bell::default(),
            last_place: Mutex::new(()),
            at_work: Mutex::default(),
            writing: Default::default(),
            logs_later: Mutex::default(),
            rules: RwLock::new(rules),
            stop: AtomicBool::new(false),
        });
        reconcile::at_start(&service)?;
        let mut threads = Vec::new();
        let mut begin = |name: String, work: fn(&Service)| -> Result<()> {
            let service = Arc::clone(&service);
            let thread = thread::Builder::new().name(name).spawn(move || work(&service));
            threads.push(thread.map_err(|source| Error::Thread { source })?);
            Ok(())
        };
        begin("decider".to_owned(), decide_all)?;
        begin("keeper".to_owned(), keep_all)?;
        for number in 1..=service.settings.jobs.workers.min(64) {
            begin(format!("worker {number}"), work_all)?;
        }
        Ok(Self { service, threads })
    }

    /// Decides by these rules from now on.
    pub fn reload(&self, rules: Arc<dyn Govern>) {
        *self.service.rules.write().unwrap_or_else(PoisonError::into_inner) = rules;
    }

    /// Stops: nothing new is begun, what runs is asked to end, and is gone on with at the next start.
    pub fn stop(self) {
        self.service.stop.store(true, Ordering::Relaxed);
        self.service.bell.ring();
        self.service.state.tell_news();
        for thread in self.threads {
            // One that panicked has ended too.
            let _ = thread.join();
        }
    }
}

/// None begins before the children of another have ended.
fn wait_for_children(settings: &Settings) -> Result<()> {
    let path = children_lock(settings);
    let opened = File::options().create(true).truncate(false).write(true).open(&path);
    let children = opened.map_err(|source| Error::Read { path: path.clone(), source })?;
    let try_lock = || {
        rustix::io::retry_on_intr(|| rustix::fs::flock(&children, FlockOperation::NonBlockingLockExclusive))
    };
    let begun = Instant::now();
    while try_lock().is_err() {
        if begun.elapsed() > CHILDREN {
            return Err(Error::InUse { path });
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// What a thread waits for when a turn found nothing to do.
#[derive(Clone, Copy)]
enum News {
    /// That a delivery is stored.
    Deliveries,
    /// That a job changed.
    Jobs,
}

impl News {
    fn now(self, service: &Service) -> u64 {
        match self {
            Self::Deliveries => service.state.news(),
            Self::Jobs => service.bell.count(),
        }
    }

    fn wait(self, service: &Service, seen: u64, at_most: Duration) {
        match self {
            Self::Deliveries => {
                service.state.await_news(seen, at_most);
            }
            Self::Jobs => service.bell.wait(seen, at_most),
        }
    }
}

fn decide_all(service: &Service) {
    turns(service, "decider", News::Deliveries, decide_next);
}

fn work_all(service: &Service) {
    turns(service, "worker", News::Jobs, worker::work_next);
}

fn keep_all(service: &Service) {
    turns(service, "keeper", News::Jobs, keeper::keep_next);
}

/// Does turn after turn until the service stops; waits where a turn found nothing to do.
fn turns(service: &Service, who: &'static str, news: News, turn: fn(&Service) -> Result<usize>) {
    while !service.is_stopping() {
        let seen = news.now(service);
        let done = catch_unwind(AssertUnwindSafe(|| turn(service)));
        let why = match done {
            Ok(Ok(0)) => {
                news.wait(service, seen, LOOK);
                continue;
            }
            Ok(Ok(_)) => continue,
            Ok(Err(error)) => in_words(&error),
            Err(_) => "it panicked".to_owned(),
        };
        service.acting.tell("could not go on", "", &[("who", who.into()), ("why", why.into())]);
        news.wait(service, news.now(service), PAUSE);
    }
}

/// An error with its causes, on one line.
pub(super) fn in_words(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        words = format!("{words}: {error}");
        next = error.source();
    }
    words
}
