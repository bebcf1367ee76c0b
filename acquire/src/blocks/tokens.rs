//! Tokens of blocks that were listed anew because those before are no longer good.
//!
//! Services may take back the tokens of a list when somebody lists the same source again. So there is one list for all
//! blocks that need it, from the first block that is not stored yet, and every token knows of which listing it is.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Mutex;

use super::fetching::Reader;
use super::listing::Walk;
use super::service::{BlockService, ListFrom, Listed};
use crate::aws::{Failure, FailureKind};

/// Lists begun anew that are always allowed; beyond them each must have brought a block.
const FREE_RELISTS: u64 = 64;

/// The newest listing.
#[derive(Debug)]
pub(super) struct Tokens<T> {
    generation: AtomicU64,
    fresh: Mutex<Fresh<T>>,
}

#[derive(Debug)]
struct Fresh<T> {
    generation: u64,
    /// The blocks that it tells of.
    from: u64,
    until: u64,
    blocks: Vec<(u64, Listed<T>)>,
}

impl<T> Tokens<T> {
    pub(super) fn new() -> Self {
        let fresh = Fresh { generation: 0, from: 0, until: 0, blocks: Vec::new() };
        Self { generation: AtomicU64::new(0), fresh: Mutex::new(fresh) }
    }

    /// The number of the newest listing.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }
}

impl<T: Clone> Fresh<T> {
    fn covers(&self, index: u64, newer_than: u64) -> bool {
        self.generation > newer_than && (self.from..self.until).contains(&index)
    }

    fn token(&self, index: u64) -> Option<(T, u64)> {
        let at = self.blocks.binary_search_by_key(&index, |(index, _)| *index).ok()?;
        match &self.blocks.get(at)?.1 {
            Listed::Present(token) => Some((token.clone(), self.generation)),
            Listed::Gone => None,
        }
    }
}

impl<S: BlockService> Reader<S> {
    /// A newer token than that of a listing, if one is at hand already.
    pub(super) async fn newer_token(&self, index: u64, generation: u64) -> Option<(S::Token, u64)> {
        if self.tokens.generation() <= generation {
            return None;
        }
        let fresh = self.tokens.fresh.lock().await;
        if fresh.covers(index, generation) { fresh.token(index) } else { None }
    }

    /// What is to be said when listing anew does not help.
    pub(super) fn no_token_lasts(&self) -> Failure {
        let relists = self.counters.relists.get();
        let what = format!(
            "the list was begun anew {relists} times, and still its tokens are refused: somebody else lists the same source \
             all the time; stop them, then go on"
        );
        Failure::found(S::LIST, FailureKind::Token, what)
    }

    /// A newer token than that of a listing, which is listed anew for it; `None` if the list has the block no more.
    pub(super) async fn fresh_token(
        &self,
        index: u64,
        generation: u64,
    ) -> Result<Option<(S::Token, u64)>, Failure> {
        let mut fresh = self.tokens.fresh.lock().await;
        if fresh.covers(index, generation) {
            return Ok(fresh.token(index));
        }
        let relists = self.counters.relists.get();
        if relists >= FREE_RELISTS.saturating_add(self.counters.fetched.get()) {
            return Err(self.no_token_lasts());
        }
        self.counters.relists.add(1);
        let from = self.floor().min(index);
        let (mut walk, mut next) = (Walk::default(), Some(ListFrom::Block(from)));
        let mut anew =
            Fresh { generation: fresh.generation.saturating_add(1), from, until: from, blocks: Vec::new() };
        while let Some(place) = next.take().filter(|_| anew.until <= index) {
            let last = anew.blocks.last().map(|(last, _)| *last);
            let page = self.page(&place, last).await?;
            next = walk.behind(S::LIST, &page)?;
            anew.blocks.extend(page.blocks);
            anew.until = match next {
                Some(_) => anew.blocks.last().map_or(from, |(last, _)| last.saturating_add(1)),
                None => self.blocks,
            };
        }
        *fresh = anew;
        self.tokens.generation.store(fresh.generation, Ordering::Relaxed);
        Ok(fresh.token(index))
    }
}
