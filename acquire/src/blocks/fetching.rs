//! Fetches blocks by many tasks, and decides what follows when one cannot be had.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use custody::Digest;
use custody::bundle::is_zero;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::counts::Counters;
use super::limits::Limits;
use super::listing::{Batch, Entry};
use super::pacing::{Allowance, Tasks, pause};
use super::service::{BlockService, Fetched, ListFrom, Listed};
use super::tokens::Tokens;
use super::window::Window;
use crate::aws::{Failure, FailureKind};
use crate::buffers::Buffer;

/// A service that listed so lately is there.
const SEEN_LATELY: Duration = Duration::from_secs(2);

/// Times that one block's token may be refused.
const MOST_REFUSED_TOKENS: u32 = 16;

/// What all tasks of one acquisition share.
pub(super) struct Reader<S: BlockService> {
    pub(super) service: Arc<S>,
    pub(super) limits: Limits,
    pub(super) counters: Counters,
    pub(super) tokens: Tokens<S::Token>,
    pub(super) lists: Allowance,
    /// Blocks of the source, listed or not.
    pub(super) blocks: u64,
    size: u64,
    block_size: u32,
    requests: Allowance,
    bytes: Allowance,
    tasks: Tasks,
    window: Arc<Window>,
    /// The first block that is not stored yet.
    floor: AtomicU64,
    /// When the list was last had for a block that could not be.
    seen: Mutex<Option<Instant>>,
    /// Why the acquisition cannot go on.
    stopped: OnceLock<Failure>,
    /// Why the source is there no more.
    lost: OnceLock<Failure>,
}

/// Tries that one request has had.
#[derive(Debug, Default)]
pub(super) struct Tries {
    failed: u32,
    throttled: u32,
    /// Those of the first round, once the source was seen to be there and a second one began.
    of_first_round: Option<u32>,
}

impl Tries {
    pub(super) fn made(&self) -> u32 {
        self.failed.saturating_add(self.throttled).saturating_add(self.of_first_round.unwrap_or(0))
    }

    /// The same number again, once.
    fn second_round(&self) -> Option<Self> {
        match self.of_first_round {
            None => Some(Self { of_first_round: Some(self.made()), ..Self::default() }),
            Some(_) => None,
        }
    }
}

/// What became of one block.
#[derive(Debug)]
pub(super) enum Outcome {
    Data { buffer: Buffer, sha256: Option<Digest>, absent: Vec<Range<u32>> },
    Zero,
    Unreadable { failure: Box<Failure>, tries: u32 },
}

/// Blocks in the order of their numbers, each told of as soon as it is listed.
#[derive(Debug)]
pub(super) enum Ordered {
    /// It is being fetched.
    Fetching(u64, oneshot::Receiver<Outcome>),
    /// It is there, and need not be fetched.
    Listed(u64),
    /// It is there no more, though the base has it.
    Gone(u64),
    /// The source is there no more; from this block on nothing is known.
    Lost(u64),
    /// Nothing follows.
    End,
}

impl<S: BlockService> Reader<S> {
    pub(super) fn new(service: Arc<S>, limits: Limits, size: u64, block_size: u32) -> Self {
        Self {
            service,
            limits,
            counters: Counters::default(),
            tokens: Tokens::new(),
            lists: Allowance::of(limits.lists_per_second.into()),
            blocks: size.div_ceil(u64::from(block_size.max(1))),
            size,
            block_size,
            requests: Allowance::of(limits.requests_per_second.into()),
            bytes: Allowance::of(limits.bytes_per_second),
            tasks: Tasks::new(limits.tasks, limits.most_tasks),
            window: Window::new(block_size as usize, limits.window_bytes),
            floor: AtomicU64::new(0),
            seen: Mutex::new(None),
            stopped: OnceLock::new(),
            lost: OnceLock::new(),
        }
    }

    /// The bytes of a block, in the source.
    pub(super) fn place(&self, index: u64) -> Range<u64> {
        let start = index.saturating_mul(u64::from(self.block_size)).min(self.size);
        start..start.saturating_add(u64::from(self.block_size)).min(self.size)
    }

    pub(super) fn floor(&self) -> u64 {
        self.floor.load(Ordering::Relaxed)
    }

    pub(super) fn is_stored_up_to(&self, index: u64) {
        self.floor.store(index, Ordering::Relaxed);
    }

    /// Ends the acquisition; the first cause counts.
    pub(super) fn stop(&self, failure: Failure) {
        let _ = self.stopped.set(failure);
    }

    pub(super) fn stopped(&self) -> Option<&Failure> {
        self.stopped.get()
    }

    /// Takes note that the source is there no more.
    pub(super) fn lose(&self, failure: Failure) {
        let _ = self.lost.set(failure);
    }

    pub(super) fn lost(&self) -> Option<&Failure> {
        self.lost.get()
    }

    pub(super) fn took_too_long(&self, operation: &str) -> Failure {
        let what = format!("no whole answer came within {} s", self.limits.attempt.as_secs());
        Failure::found(operation, FailureKind::Connection, what)
    }

    /// Waits before another try, or gives the failure back if there shall be none.
    pub(super) async fn before_another_try(
        &self,
        failure: Failure,
        tries: &mut Tries,
    ) -> Result<(), Failure> {
        let is_throttled = failure.kind == FailureKind::Throttled;
        // A block that the list has, and that one server does not know, may be known to another.
        let is_listed = tries.of_first_round.is_some() && failure.kind == FailureKind::NotFound;
        let may_help = failure.kind.is_worth_another_try() || is_listed;
        let (count, most) = if is_throttled {
            self.counters.throttles.add(1);
            (&mut tries.throttled, self.limits.throttled_tries)
        } else {
            (&mut tries.failed, self.limits.tries)
        };
        *count = count.saturating_add(1);
        if !may_help || *count >= most || self.stopped().is_some() {
            return Err(failure);
        }
        sleep(pause(self.limits.first_pause, self.limits.longest_pause, *count)).await;
        self.counters.retries.add(1);
        Ok(())
    }

    /// Fetches what the list has from `start` on, and before it the blocks that overlap one of `samples`.
    pub(super) async fn dispatch(
        self: Arc<Self>,
        mut pages: mpsc::Receiver<Batch<S::Token>>,
        order: mpsc::Sender<Ordered>,
        start: u64,
        samples: Vec<Range<u64>>,
    ) {
        let mut running = JoinSet::new();
        // The acquisition has ended where nobody is left to store.
        let _ = self.dispatch_pages(&mut pages, &order, start, &samples, &mut running).await;
        while running.join_next().await.is_some() {}
    }

    async fn dispatch_pages(
        self: &Arc<Self>,
        pages: &mut mpsc::Receiver<Batch<S::Token>>,
        order: &mpsc::Sender<Ordered>,
        start: u64,
        samples: &[Range<u64>],
        running: &mut JoinSet<()>,
    ) -> Result<(), mpsc::error::SendError<Ordered>> {
        while let Some(batch) = pages.recv().await {
            let entries = match batch {
                Batch::Blocks(entries) => entries,
                Batch::Lost(from) => return order.send(Ordered::Lost(from)).await,
                Batch::End => return order.send(Ordered::End).await,
            };
            for Entry { index, listed, generation } in entries {
                while running.try_join_next().is_some() {}
                if self.stopped().is_some() {
                    return Ok(());
                }
                if self.lost().is_some() {
                    return order.send(Ordered::Lost(index)).await;
                }
                let Listed::Present(token) = listed else {
                    order.send(Ordered::Gone(index)).await?;
                    continue;
                };
                let place = self.place(index);
                let is_sampled = || {
                    let at = samples.partition_point(|sample| sample.end <= place.start);
                    samples.get(at).is_some_and(|sample| sample.start < place.end)
                };
                if place.end <= start && !is_sampled() {
                    order.send(Ordered::Listed(index)).await?;
                    continue;
                }
                let buffer = self.window.take().await;
                self.tasks.begin().await;
                self.requests.take(1).await;
                self.bytes.take(place.end - place.start).await;
                // It may have ended while this one waited: what is refused once is not asked for again.
                if self.stopped().is_some() {
                    return Ok(());
                }
                let (give, outcome) = oneshot::channel();
                order.send(Ordered::Fetching(index, outcome)).await?;
                let reader = Arc::clone(self);
                running.spawn(async move {
                    let outcome = reader.fetch(index, token, generation, buffer).await;
                    reader.tasks.end();
                    // Without one, there is a cause that stops the acquisition.
                    if let Some(outcome) = outcome {
                        let _ = give.send(outcome);
                    }
                });
            }
        }
        Ok(())
    }

    /// Fetches one block until it is there or given up; `None` if the acquisition must end.
    async fn fetch(
        &self,
        index: u64,
        mut token: S::Token,
        mut generation: u64,
        mut buffer: Buffer,
    ) -> Option<Outcome> {
        let length = usize::try_from(self.place(index).end - self.place(index).start).unwrap_or(usize::MAX);
        let (mut tries, mut refused, mut fetched_before) = (Tries::default(), 0u32, None);
        let failure = loop {
            if let Some((newer, of)) = self.newer_token(index, generation).await {
                (token, generation) = (newer, of);
            }
            self.counters.requests.add(1);
            let room = buffer.room().get_mut(..length).unwrap_or_default();
            let answer = timeout(self.limits.attempt, self.service.fetch(index, &token, room)).await;
            let failure = match answer.unwrap_or_else(|_| Err(self.took_too_long(S::FETCH))) {
                Ok(fetched) => {
                    self.tasks.went_well();
                    self.counters.fetched.add(1);
                    buffer.grow(length);
                    return Some(outcome(buffer, fetched));
                }
                Err(failure) => failure,
            };
            match failure.kind {
                FailureKind::Token => {
                    refused += 1;
                    let fetched = self.counters.fetched.get();
                    let before = *fetched_before.get_or_insert(fetched);
                    if refused > MOST_REFUSED_TOKENS {
                        if fetched == before {
                            // Not this block is at fault: no other came in all that time.
                            self.stop(self.no_token_lasts());
                            return None;
                        }
                        // Others come, so this one may: how often the list is begun anew is bounded for all of them.
                        (refused, fetched_before) = (0, Some(fetched));
                    }
                    match self.fresh_token(index, generation).await {
                        Ok(Some((fresh, of))) => (token, generation) = (fresh, of),
                        Ok(None) => {
                            let what = "its token is refused, and the list has the block no more";
                            break Failure { message: what.to_owned(), ..failure };
                        }
                        Err(of_list) => return self.because_of_list(failure, of_list, &tries),
                    }
                }
                FailureKind::Corrupt => self.counters.corrupt.add(1),
                FailureKind::Throttled => self.tasks.throttled(),
                _ => {}
            }
            if failure.kind != FailureKind::Token
                && let Err(failure) = self.before_another_try(failure, &mut tries).await
            {
                let Some(second) = tries.second_round().filter(|_| may_be_the_service(failure.kind)) else {
                    break failure;
                };
                // Where the service was away, every block on its way has failed: only one that fails again, now that the
                // source can be listed, is at fault itself.
                match self.is_there(index).await {
                    Ok(()) => tries = second,
                    Err(of_list) => return self.because_of_list(failure, of_list, &tries),
                }
                sleep(pause(self.limits.first_pause, self.limits.longest_pause, 1)).await;
                self.counters.retries.add(1);
            }
            self.requests.take(1).await;
        };
        self.give_up(index, failure, &tries).await
    }

    /// What follows from a failure that no further try helps against.
    async fn give_up(&self, index: u64, failure: Failure, tries: &Tries) -> Option<Outcome> {
        if self.stopped().is_some() {
            return None;
        }
        match failure.kind {
            // The next block would fail in the same way.
            FailureKind::Denied | FailureKind::Credentials | FailureKind::Quota | FailureKind::Throttled => {
                self.stop(failure);
                None
            }
            // Is it the block, the whole source, or the service? Who lists it learns that.
            kind if may_be_the_service(kind) => match self.is_there(index).await {
                Ok(()) => Some(Outcome::unreadable(failure, tries)),
                Err(of_list) => self.because_of_list(failure, of_list, tries),
            },
            _ => Some(Outcome::unreadable(failure, tries)),
        }
    }

    /// Whether the source can still be listed, which one task asks for all.
    async fn is_there(&self, index: u64) -> Result<(), Failure> {
        let mut seen = self.seen.lock().await;
        if seen.is_some_and(|seen| seen.elapsed() < SEEN_LATELY) {
            return Ok(());
        }
        if let Some(failure) = self.stopped().or(self.lost()) {
            return Err(failure.clone());
        }
        self.page(&ListFrom::Block(index), None).await?;
        *seen = Some(Instant::now());
        Ok(())
    }

    fn because_of_list(&self, failure: Failure, of_list: Failure, tries: &Tries) -> Option<Outcome> {
        if of_list.kind == FailureKind::NotFound {
            self.lose(of_list.clone());
            return Some(Outcome::unreadable(of_list, tries));
        }
        // A service that has gone away altogether says less of itself than the permission that was refused.
        self.stop(if of_list.kind == FailureKind::Connection { failure } else { of_list });
        None
    }
}

/// Whether a block that fails so may be as good as any, and the service or the whole source away.
fn may_be_the_service(kind: FailureKind) -> bool {
    matches!(
        kind,
        FailureKind::NotFound
            | FailureKind::Connection
            | FailureKind::Server
            | FailureKind::Conflict
            | FailureKind::Exists
    )
}

impl Outcome {
    fn unreadable(failure: Failure, tries: &Tries) -> Self {
        Self::Unreadable { failure: Box::new(failure), tries: tries.made().max(1) }
    }
}

fn outcome(buffer: Buffer, fetched: Fetched) -> Outcome {
    let Fetched { sha256, absent, is_zero: said_zero } = fetched;
    if said_zero || (absent.is_empty() && is_zero(buffer.bytes())) {
        return Outcome::Zero;
    }
    Outcome::Data { buffer, sha256, absent }
}
