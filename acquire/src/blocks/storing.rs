//! Stores blocks in order, each in its state.

use std::future::Future;
use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use custody::bundle::{Extent, Overlaid, Sample, State};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::checking::Checking;
use super::counts::BlockCounts;
use super::fetching::{Ordered, Outcome, Reader};
use super::limits::Limits;
use super::service::BlockService;
use crate::aws::Failure;
use crate::error::{Error, Result};
use crate::pipeline::Feed;
use crate::source::{Issue, Issues};

/// Pages of a list that wait to be fetched, besides the one that is fetched and the one that is got.
const PAGES: usize = 2;

/// Blocks told of, and not stored yet.
const TOLD: usize = 4096;

/// How soon a pause is obeyed while nothing comes.
const TICK: Duration = Duration::from_millis(100);

/// A source of numbered blocks, and how it is to be read.
pub struct BlockSource<S> {
    service: Arc<S>,
    runtime: Handle,
    name: String,
    size: u64,
    block_size: u32,
    base: Option<OnBase>,
    limits: Limits,
    counts: BlockCounts,
    still_there: Option<Box<AskIfThere>>,
}

/// Asks somebody else than the list whether the source is still there; `None` where that cannot be learnt.
type AskIfThere = dyn Fn() -> Option<bool> + Send + Sync;

/// What a source builds on of which only the changes are listed.
struct OnBase {
    size: u64,
    stored: Option<Overlaid>,
}

impl<S> std::fmt::Debug for BlockSource<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlockSource")
            .field("name", &self.name)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

impl<S: BlockService> BlockSource<S> {
    /// A source of `size` bytes in blocks of `block_size`, of which the last may be shorter. What the service does not
    /// list is absent.
    ///
    /// `name` is said of it in issues. Requests run on `runtime`, which must outlive this.
    #[must_use]
    pub fn new(service: S, runtime: Handle, name: &str, size: u64, block_size: u32) -> Self {
        Self {
            service: Arc::new(service),
            runtime,
            name: name.to_owned(),
            size,
            block_size: block_size.max(1),
            base: None,
            limits: Limits::default(),
            counts: BlockCounts::default(),
            still_there: None,
        }
    }

    /// Who else knows whether the source is still there, and is asked before one that the list has lost counts as gone.
    /// Where it says yes, the acquisition stops and can go on later; what was not read is not written off.
    #[must_use]
    pub fn still_there(mut self, ask: impl Fn() -> Option<bool> + Send + Sync + 'static) -> Self {
        self.still_there = Some(Box::new(ask));
        self
    }

    /// The service lists what differs from a base of `size` bytes; what it does not list is as in there. Where the stored
    /// base is given too, the whole is hashed with it.
    #[must_use]
    pub fn on_base(mut self, size: u64, stored: Option<Overlaid>) -> Self {
        self.base = Some(OnBase { size, stored });
        self
    }

    /// The base as it is stored, if there is one.
    pub(crate) fn stored_base(&self) -> Option<&Overlaid> {
        self.base.as_ref().and_then(|base| base.stored.as_ref())
    }

    pub(super) fn reader(&self) -> Reader<S> {
        Reader::new(Arc::clone(&self.service), self.limits, self.size, self.block_size)
    }

    pub(super) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Blocks that may be asked for in a second.
    #[must_use]
    pub fn requests_per_second(&self) -> u32 {
        self.limits.requests_per_second
    }

    /// How much of the service may be asked for.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Bytes of it.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// What was asked of the service, once it has been read.
    #[must_use]
    pub fn counts(&self) -> BlockCounts {
        self.counts
    }
}

/// Ends tasks when nobody waits for them any more.
struct Running(Vec<AbortHandle>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.iter().for_each(AbortHandle::abort);
    }
}

/// Stores what follows what is stored already; of that, `stored` tells the extents, and some chunks to compare.
pub(crate) fn store_blocks<S: BlockService>(
    source: &mut BlockSource<S>,
    stored: Option<(Vec<Extent>, Vec<Sample>)>,
    feed: &mut Feed,
    issues: &mut Issues,
    stop: &AtomicBool,
) -> Result<()> {
    let start = feed.size();
    let reader = Arc::new(source.reader());
    let checking = stored.map(|(extents, samples)| Checking::new(&source.name, extents, samples));
    let samples = checking.as_ref().map(Checking::samples).unwrap_or_default();
    let (give_pages, pages) = mpsc::channel(PAGES);
    let (give_order, mut order) = mpsc::channel(TOLD);
    let lister = source.runtime.spawn(Arc::clone(&reader).list_all(0, give_pages));
    let fetcher = source.runtime.spawn(Arc::clone(&reader).dispatch(pages, give_order, start, samples));
    let _running = Running(vec![lister.abort_handle(), fetcher.abort_handle()]);
    let mut storing = Storing {
        source,
        reader: &reader,
        start,
        checking,
        feed,
        issues,
        stop,
        next: 0,
        run: None,
        held: Vec::new(),
        is_gone: false,
    };
    let done = storing.all(&mut order);
    storing.list_run();
    if let Some(checking) = storing.checking.as_mut() {
        checking.end(storing.issues);
    }
    source.counts = reader.counters.counts();
    done
}

struct Storing<'a, S: BlockService> {
    source: &'a BlockSource<S>,
    reader: &'a Reader<S>,
    /// Bytes that were stored before the interruption.
    start: u64,
    checking: Option<Checking>,
    feed: &'a mut Feed,
    issues: &'a mut Issues,
    stop: &'a AtomicBool,
    /// The first block of which nothing is known yet.
    next: u64,
    /// Neighbours with the same trouble, which are one issue.
    run: Option<Run>,
    /// Unreadable blocks in a row, for one cause, that are not stored yet: should there be too many of them, it is not the
    /// blocks that fail, and all are to be fetched when the acquisition goes on.
    held: Vec<Held>,
    /// Whether it is known by now that the source is there no more.
    is_gone: bool,
}

struct Held {
    index: u64,
    failure: Box<Failure>,
    tries: u32,
}

impl Held {
    fn has_the_cause_of(&self, other: &Self) -> bool {
        let cause = |held: &Self| (held.failure.kind, held.failure.code.clone(), held.failure.reason.clone());
        cause(self) == cause(other)
    }
}

struct Run {
    place: Range<u64>,
    what: String,
}

impl<S: BlockService> Storing<'_, S> {
    fn all(&mut self, order: &mut mpsc::Receiver<Ordered>) -> Result<()> {
        loop {
            // Without a last word, the list is not known to its end.
            match self.wait(order.recv())?.ok_or(Error::Stopped) {
                Ok(Ordered::Fetching(index, outcome)) => {
                    if self.held.is_empty() {
                        self.unlisted_up_to(index)?;
                    }
                    let Ok(outcome) = self.wait(outcome)? else { return Err(self.cause()) };
                    if let Outcome::Unreadable { failure, tries } = outcome {
                        self.hold(Held { index, failure, tries })?;
                        continue;
                    }
                    self.let_go()?;
                    self.unlisted_up_to(index)?;
                    self.block(index, outcome)?;
                }
                Ok(Ordered::Listed(index)) => {
                    self.let_go()?;
                    self.unlisted_up_to(index)?;
                    self.check_listed(self.reader.place(index), true);
                }
                Ok(Ordered::Gone(index)) => {
                    self.let_go()?;
                    self.unlisted_up_to(index)?;
                    let place = self.reader.place(index);
                    self.zeros(place, Some((State::Absent, "")))?;
                }
                Ok(Ordered::Lost(index)) => {
                    self.believe_loss()?;
                    self.let_go()?;
                    self.unlisted_up_to(index)?;
                    return self.lost(index);
                }
                Ok(Ordered::End) => {
                    self.let_go()?;
                    return self.unlisted_up_to(self.reader.blocks);
                }
                Err(_) => return Err(self.cause()),
            }
            self.next = self.next.saturating_add(1);
            self.reader.is_stored_up_to(self.next);
        }
    }

    /// Waits for something to come, for the end of the acquisition, or for a person who asks for a pause.
    fn wait<T>(&self, what: impl Future<Output = T>) -> Result<T> {
        let mut what = pin!(what);
        loop {
            if self.reader.stopped().is_some() {
                return Err(self.cause());
            }
            let come = self.source.runtime.block_on(async { timeout(TICK, &mut what).await });
            match come {
                Ok(come) => return Ok(come),
                Err(_) if self.stop.load(Ordering::Relaxed) => return Err(Error::Paused),
                Err(_) => {}
            }
        }
    }

    fn cause(&self) -> Error {
        self.reader.stopped().map_or(Error::Stopped, |failure| Error::Cloud(failure.clone()))
    }

    /// Keeps an unreadable block until it is known that not all that follow are so too.
    fn hold(&mut self, held: Held) -> Result<()> {
        self.believe_loss()?;
        if self.held.last().is_some_and(|before| !before.has_the_cause_of(&held)) {
            self.let_go()?;
        }
        self.held.push(held);
        let count = self.held.len();
        match self.held.last() {
            Some(last) if count >= self.reader.limits.most_unreadable.max(1) && !self.is_gone => {
                let message = format!(
                    "{count} blocks in a row could not be read for this cause, so it is not a fault of blocks; none of them is \
                     written off: {}",
                    last.failure.message
                );
                Err(Error::Cloud(Failure { message, ..(*last.failure).clone() }))
            }
            _ => Ok(()),
        }
    }

    /// Stores the unreadable blocks that were held.
    fn let_go(&mut self) -> Result<()> {
        for Held { index, failure, tries } in std::mem::take(&mut self.held) {
            self.unlisted_up_to(index)?;
            self.block(index, Outcome::Unreadable { failure, tries })?;
            self.next = index.saturating_add(1);
            self.reader.is_stored_up_to(self.next);
        }
        Ok(())
    }

    /// Where the list has lost the source, asks who else may know of it.
    fn believe_loss(&mut self) -> Result<()> {
        let Some(failure) = self.reader.lost().filter(|_| !self.is_gone) else { return Ok(()) };
        if self.source.still_there.as_ref().and_then(|ask| ask()) == Some(true) {
            let message = format!(
                "the list says that it is not there, though it is: nothing of it is written off; go on later ({})",
                failure.message
            );
            return Err(Error::Cloud(Failure { message, ..failure.clone() }));
        }
        self.is_gone = true;
        Ok(())
    }

    /// Stores what the list skips.
    fn unlisted_up_to(&mut self, index: u64) -> Result<()> {
        if self.next < index {
            let place = self.reader.place(self.next).start..self.reader.place(index).start;
            self.next = index;
            self.check_listed(place.clone(), false);
            let place = place.start.max(self.start).min(place.end)..place.end;
            // A base may be smaller: the volume has grown since.
            let until = self.source.base.as_ref().map_or(0, |base| base.size).clamp(place.start, place.end);
            self.feed.zeros(until - place.start, Some((State::Base, "")))?;
            self.feed.zeros(place.end - until, Some((State::Absent, "")))?;
        }
        Ok(())
    }

    fn check_listed(&mut self, place: Range<u64>, is_there: bool) {
        if let Some(checking) = self.checking.as_mut().filter(|_| place.start < self.start) {
            checking.listed(place.start..place.end.min(self.start), is_there, self.issues);
        }
    }

    fn check_content(&mut self, place: &Range<u64>, bytes: Option<&[u8]>) {
        if let Some(checking) = self.checking.as_mut().filter(|_| place.start < self.start) {
            self.reader.counters.compared.add(1);
            checking.content(place.clone(), bytes, self.issues);
        }
    }

    /// Stores zeros at a place, but for the part of it that is stored already.
    fn zeros(&mut self, place: Range<u64>, instead_of: Option<(State, &str)>) -> Result<()> {
        let from = place.start.max(self.start);
        self.feed.zeros(place.end.saturating_sub(from), instead_of)
    }

    fn block(&mut self, index: u64, outcome: Outcome) -> Result<()> {
        let place = self.reader.place(index);
        self.check_listed(place.clone(), true);
        let is_stored = place.end <= self.start;
        match outcome {
            Outcome::Zero => {
                self.check_content(&place, None);
                self.zeros(place, None)
            }
            Outcome::Data { buffer, sha256, absent } => {
                self.check_content(&place, Some(buffer.bytes()));
                if is_stored {
                    return Ok(());
                }
                if place.start >= self.start && absent.is_empty() {
                    return self.feed.chunk(buffer, sha256);
                }
                let skip = usize::try_from(self.start.saturating_sub(place.start)).unwrap_or(usize::MAX);
                self.in_parts(buffer.bytes(), skip, &absent)
            }
            Outcome::Unreadable { failure, .. } if is_stored => {
                self.note(place, format!("it could not be compared with what was read before: {failure}"));
                Ok(())
            }
            Outcome::Unreadable { failure, tries } => {
                self.note(place.clone(), format!("unreadable after {}: {failure}", words(tries)));
                self.zeros(place, Some((State::Unreadable, &detail(&failure, tries))))
            }
        }
    }

    /// Stores a block that has holes, or whose first bytes are stored already.
    fn in_parts(&mut self, bytes: &[u8], skip: usize, absent: &[Range<u32>]) -> Result<()> {
        let mut at = skip;
        for hole in absent {
            let (start, end) = ((hole.start as usize).min(bytes.len()), (hole.end as usize).min(bytes.len()));
            if start > at {
                self.feed.append(bytes.get(at..start).unwrap_or_default())?;
                at = start;
            }
            if end > at {
                self.feed.zeros((end - at) as u64, Some((State::Absent, "")))?;
                at = end;
            }
        }
        self.feed.append(bytes.get(at..).unwrap_or_default())
    }

    /// The source is there no more: what is not known of it by now never will be.
    fn lost(&mut self, index: u64) -> Result<()> {
        let Some(failure) = self.reader.lost() else { return Err(Error::Stopped) };
        let place = self.reader.place(index).start..self.source.size;
        if place.start < place.end {
            let what = format!("the source is there no more, so nothing is known of the rest: {failure}");
            self.note(place.clone(), what);
            self.zeros(place, Some((State::Unreadable, &detail(failure, 1))))?;
        }
        Ok(())
    }

    /// Notes trouble at a place; neighbours with the same trouble become one issue.
    fn note(&mut self, place: Range<u64>, what: String) {
        match self.run.as_mut() {
            Some(run) if run.what == what && run.place.end == place.start => run.place.end = place.end,
            _ => {
                self.list_run();
                self.run = Some(Run { place, what });
            }
        }
    }

    fn list_run(&mut self) {
        let Some(Run { place, what }) = self.run.take() else { return };
        self.issues.add(Issue {
            path: self.source.name.clone(),
            offset: Some(place.start),
            length: Some(place.end.saturating_sub(place.start)),
            what,
        });
    }
}

fn words(tries: u32) -> String {
    if tries == 1 { "one try".to_owned() } else { format!("{tries} tries") }
}

/// What a table says of a block that could not be read: `code=ValidationException reason=INVALID_BLOCK tries=1`.
fn detail(failure: &Failure, tries: u32) -> String {
    let plain = |text: &str| -> String { text.chars().filter(char::is_ascii_graphic).take(60).collect() };
    let code = if failure.code.is_empty() { format!("{:?}", failure.kind) } else { plain(&failure.code) };
    let reason =
        if failure.reason.is_empty() { String::new() } else { format!(" reason={}", plain(&failure.reason)) };
    format!("code={code}{reason} tries={tries}")
}
