//! The bytes of one object on their way into the stream, and the objects that come after it.

use std::collections::VecDeque;
use std::sync::Arc;

use custody::bundle::State;
use custody::{Digest, Hasher};
use tokio::task::JoinHandle;

use super::fetch::{Bucket, First, PART};
use super::inflated::{Inflated, Unpacked};
use super::integrity::{Comparison, Headers};
use super::listing::Listed;
use crate::aws::{Connection, Failure, FailureKind};
use crate::file_content::{Content, Problem, Problems};
use crate::pipeline::Marks;

/// Requests on their way at a time.
const MOST_REQUESTS: usize = 32;

/// Bytes that they bring, at most.
const MOST_BYTES: u64 = 64 << 20;

/// Parts of one large object on their way at a time.
const MOST_PARTS: usize = 12;

/// A request on its way, which is dropped with it.
#[derive(Debug)]
pub(super) struct Task<T>(JoinHandle<Result<T, Failure>>);

impl<T: Send + 'static> Task<T> {
    pub(super) fn start(
        connection: &Connection,
        request: impl Future<Output = Result<T, Failure>> + Send + 'static,
    ) -> Self {
        Self(connection.runtime().spawn(request))
    }

    pub(super) fn wait(mut self, connection: &Connection) -> Result<T, Failure> {
        connection.wait(&mut self.0).unwrap_or_else(|error| {
            Err(Failure::found(
                "S3 GetObject",
                FailureKind::Connection,
                format!("the request broke off: {error}"),
            ))
        })
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Objects whose first parts are on their way, in the order of the list.
#[derive(Debug)]
pub(super) struct Ahead {
    connection: Connection,
    bucket: Bucket,
    coming: VecDeque<(Listed, Task<First>)>,
    bytes: u64,
}

impl Ahead {
    pub(super) fn new(connection: &Connection, bucket: &Bucket) -> Self {
        Self { connection: connection.clone(), bucket: bucket.clone(), coming: VecDeque::new(), bytes: 0 }
    }

    /// Whether another object may be asked for now.
    pub(super) fn has_room(&self) -> bool {
        self.coming.len() < MOST_REQUESTS && self.bytes < MOST_BYTES
    }

    /// Whether none is on its way.
    pub(super) fn is_empty(&self) -> bool {
        self.coming.is_empty()
    }

    /// Asks for an object.
    pub(super) fn ask(&mut self, listed: Listed) {
        self.bytes = self.bytes.saturating_add(listed.size.min(PART));
        let (bucket, wanted) = (self.bucket.clone(), listed.clone());
        let task = Task::start(&self.connection, async move { bucket.first(&wanted).await });
        self.coming.push_back((listed, task));
    }

    /// The next object, once its first part is here.
    pub(super) fn next(&mut self) -> Option<(Listed, Result<First, Failure>)> {
        let (listed, task) = self.coming.pop_front()?;
        self.bytes = self.bytes.saturating_sub(listed.size.min(PART));
        let first = task.wait(&self.connection);
        Some((listed, first))
    }
}

/// The content of one object.
pub(super) struct ObjectContent {
    connection: Connection,
    bucket: Bucket,
    key: Arc<str>,
    etag: Option<Arc<str>>,
    version: Option<Arc<str>>,
    size: u64,
    headers: Headers,
    notes: Vec<String>,
    /// Bytes that are here, and how many of them were given.
    part: Vec<u8>,
    given: usize,
    offset: u64,
    /// Further parts on their way, and the first byte that none was asked for.
    parts: VecDeque<Task<Vec<u8>>>,
    next: u64,
    /// Why the rest cannot be had.
    lost: Option<String>,
    hasher: Hasher,
    comparison: Option<Comparison>,
    inflated: Option<Inflated>,
    problems: Problems,
}

impl ObjectContent {
    /// `first` was read; `inflated` takes what is in it, where that is wanted.
    pub(super) fn new(
        connection: &Connection,
        bucket: &Bucket,
        key: &str,
        first: First,
        inflated: Option<Inflated>,
    ) -> Self {
        let First { bytes, size, headers, notes } = first;
        let has_more = size > bytes.len() as u64;
        let text = |name: &str| headers.get(name).map(Arc::from);
        Self {
            connection: connection.clone(),
            bucket: bucket.clone(),
            key: key.into(),
            etag: text("etag"),
            version: text("x-amz-version-id").filter(|version: &Arc<str>| &**version != "null"),
            size,
            // The whole of a small one is compared already.
            comparison: has_more.then(|| Comparison::new(&headers)),
            headers,
            notes,
            next: bytes.len() as u64,
            part: bytes,
            given: 0,
            offset: 0,
            parts: VecDeque::new(),
            lost: None,
            hasher: Hasher::new(),
            inflated,
            problems: Problems::default(),
        }
    }

    /// What is in it, if it could be unpacked to its end.
    pub(super) fn unpacked(&mut self) -> Option<Result<Unpacked, String>> {
        let inflated = self.inflated.take()?;
        Some(match &self.lost {
            Some(why) => Err(why.clone()),
            None => inflated.finish(),
        })
    }

    fn ask_for_more(&mut self) {
        while self.parts.len() < MOST_PARTS && self.next < self.size {
            let (from, length) = (self.next, PART.min(self.size.saturating_sub(self.next)));
            let (bucket, key) = (self.bucket.clone(), Arc::clone(&self.key));
            let (etag, version) = (self.etag.clone(), self.version.clone());
            self.parts.push_back(Task::start(&self.connection, async move {
                bucket.part(&key, etag.as_deref(), version.as_deref(), from, length).await
            }));
            self.next = from.saturating_add(length);
        }
    }
}

impl Content for ObjectContent {
    fn is_done(&self) -> bool {
        self.offset >= self.size
    }

    fn read(&mut self, room: &mut [u8], marks: &mut Marks<'_>) -> usize {
        let left = usize::try_from(self.size.saturating_sub(self.offset)).unwrap_or(usize::MAX);
        let here = self.part.get(self.given..).unwrap_or_default();
        let here_length = here.len();
        let take = match (&self.lost, here.is_empty()) {
            (Some(_), true) => room.len().min(left),
            (None, true) => 0,
            _ => room.len().min(left).min(here_length),
        };
        let Some(room) = room.get_mut(..take) else { return 0 };
        if here_length > 0 {
            room.copy_from_slice(here.get(..take).unwrap_or_default());
            self.given = self.given.saturating_add(take);
            if let Some(comparison) = self.comparison.as_mut() {
                comparison.update(room);
            }
            if let Some(inflated) = self.inflated.as_mut() {
                inflated.update(room);
            }
        } else if let Some(why) = &self.lost {
            self.problems.missing(
                self.offset,
                room,
                marks,
                (State::Unreadable, "not given by the store"),
                why,
            );
        } else {
            self.ask_for_more();
            match self.parts.pop_front().map(|task| task.wait(&self.connection)) {
                Some(Ok(part)) => (self.part, self.given) = (part, 0),
                other => {
                    self.parts.clear();
                    self.lost = Some(match other {
                        Some(Err(failure)) if failure.kind == FailureKind::Exists => {
                            "changed while it was read: the rest of what was listed cannot be had".to_owned()
                        }
                        Some(Err(failure)) => format!(
                            "the rest cannot be had: {}",
                            super::tries::words(&failure, self.bucket.name(), &self.key)
                        ),
                        _ => "the rest was not given".to_owned(),
                    });
                }
            }
        }
        self.hasher.update(room);
        self.offset = self.offset.saturating_add(take as u64);
        take
    }

    fn finish(&mut self) -> (Digest, Vec<Problem>) {
        let mut notes = std::mem::take(&mut self.notes);
        if let Some(comparison) = self.comparison.take().filter(|_| self.lost.is_none()) {
            notes.extend(comparison.differences(&self.headers));
        }
        let mut problems = self.problems.take_with(None);
        problems.extend(notes.into_iter().map(|what| Problem { offset: 0, length: None, what }));
        (std::mem::take(&mut self.hasher).finish(), problems)
    }
}
