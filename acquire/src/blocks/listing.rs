//! Streams the list of blocks, a few pages ahead of who fetches them.

use std::collections::HashSet;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::fetching::{Reader, Tries};
use super::pacing::pause;
use super::service::{BlockService, ListFrom, Listed, Page};
use crate::aws::{Failure, FailureKind};

/// Empty pages one after the other that are followed.
const MOST_EMPTY_PAGES: usize = 10_000;

/// Times that a list is begun anew in one place because the token of the next page is no longer good.
const MOST_LOST_PAGES: u32 = 16;

/// A block of a list.
#[derive(Debug)]
pub(super) struct Entry<T> {
    pub(super) index: u64,
    pub(super) listed: Listed<T>,
    /// Of which listing its token is.
    pub(super) generation: u64,
}

/// A page on its way to who fetches.
#[derive(Debug)]
pub(super) enum Batch<T> {
    Blocks(Vec<Entry<T>>),
    /// The source is there no more; what comes behind this block is not known.
    Lost(u64),
    /// Nothing follows.
    End,
}

/// Follows a list from page to page, and sees when that leads nowhere.
#[derive(Debug, Default)]
pub(super) struct Walk {
    last: Option<u64>,
    seen: HashSet<String>,
}

impl Walk {
    /// Where the list goes on behind a page, if it does.
    pub(super) fn behind<T>(&mut self, list: &str, page: &Page<T>) -> Result<Option<ListFrom>, Failure> {
        if let Some((last, _)) = page.blocks.last() {
            self.last = Some(*last);
            // The list has come further, and it is finite.
            self.seen.clear();
        }
        let Some(next) = &page.next else { return Ok(None) };
        let circle = |what: &str| Err(Failure::found(list, FailureKind::Invalid, what));
        if self.seen.len() >= MOST_EMPTY_PAGES {
            return circle("its pages have been empty for too long to be followed further");
        }
        if !self.seen.insert(next.clone()) {
            return circle("its pages go round in a circle");
        }
        Ok(Some(ListFrom::Page(next.clone())))
    }
}

impl<S: BlockService> Reader<S> {
    /// One page, tried again where that can help, whose blocks are in order, behind `last`, and within the source.
    ///
    /// The source was there when it was opened. One server of many that does not know it, for a moment, must not cost all
    /// of it that was not read yet, so that it is gone is believed only when it is said for a while.
    pub(super) async fn page(&self, from: &ListFrom, last: Option<u64>) -> Result<Page<S::Token>, Failure> {
        let (mut tries, begun, mut gone) = (Tries::default(), Instant::now(), 0u32);
        loop {
            self.lists.take(1).await;
            self.counters.list_calls.add(1);
            let answer = timeout(self.limits.attempt, self.service.list(from.clone())).await;
            let answer = answer.unwrap_or_else(|_| Err(self.took_too_long(S::LIST)));
            match answer.and_then(|page| self.in_order(page, from, last)) {
                Ok(page) => return Ok(page),
                Err(failure)
                    if failure.kind == FailureKind::NotFound
                        && begun.elapsed() < self.limits.gone_after
                        && self.stopped().is_none() =>
                {
                    gone = gone.saturating_add(1);
                    sleep(pause(self.limits.first_pause, self.limits.longest_pause, gone)).await;
                    self.counters.retries.add(1);
                }
                Err(failure) => self.before_another_try(failure, &mut tries).await?,
            }
        }
    }

    fn in_order(
        &self,
        page: Page<S::Token>,
        from: &ListFrom,
        last: Option<u64>,
    ) -> Result<Page<S::Token>, Failure> {
        let first = match from {
            ListFrom::Block(first) => *first,
            ListFrom::Page(_) => 0,
        };
        let mut least = last.map_or(first, |last| last.saturating_add(1).max(first));
        for (index, _) in &page.blocks {
            if *index < least || *index >= self.blocks {
                let what = format!("it lists block {index} where only {least} to {} can be", self.blocks);
                return Err(Failure::found(S::LIST, FailureKind::Corrupt, what));
            }
            least = index.saturating_add(1);
        }
        Ok(page)
    }

    /// Lists everything from a block on, page by page.
    pub(super) async fn list_all(self: Arc<Self>, first: u64, out: mpsc::Sender<Batch<S::Token>>) {
        let mut walk = Walk::default();
        let mut from = ListFrom::Block(first);
        let mut lost_pages = 0;
        loop {
            let generation = self.tokens.generation();
            let page = match self.page(&from, walk.last).await {
                Ok(page) => page,
                Err(failure) if failure.kind == FailureKind::Token && lost_pages < MOST_LOST_PAGES => {
                    lost_pages += 1;
                    self.counters.relists.add(1);
                    from = ListFrom::Block(walk.last.map_or(first, |last| last.saturating_add(1)));
                    walk.seen.clear();
                    continue;
                }
                Err(failure) if failure.kind == FailureKind::NotFound => {
                    self.lose(failure);
                    let rest = walk.last.map_or(first, |last| last.saturating_add(1));
                    let _ = out.send(Batch::Lost(rest)).await;
                    return;
                }
                Err(failure) => return self.stop(failure),
            };
            let next = match walk.behind(S::LIST, &page) {
                Ok(next) => next,
                Err(failure) => return self.stop(failure),
            };
            if !page.blocks.is_empty() {
                lost_pages = 0;
                self.counters.listed.add(page.blocks.len() as u64);
                let entry = |(index, listed)| Entry { index, listed, generation };
                let entries = page.blocks.into_iter().map(entry).collect();
                // Nobody is left to fetch: the acquisition has ended.
                if out.send(Batch::Blocks(entries)).await.is_err() {
                    return;
                }
            }
            match next {
                Some(next) => from = next,
                None => {
                    let _ = out.send(Batch::End).await;
                    return;
                }
            }
        }
    }
}
